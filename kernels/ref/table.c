/* kernels/ref/table.c - the reference as a table. */
#include "kernels/ref/decode.h"

const aii_kernels aii_kernels_ref = {
    .name = "ref",
    .isa = AIINFRA_ISA_REF,
    .dequant = {aii_ref_dequant_f32, aii_ref_dequant_f16, aii_ref_dequant_bf16, aii_ref_dequant_q8_0,
                aii_ref_dequant_q4_0, AII_DECODERS},
    .quant = {aii_ref_quant_f32, aii_ref_quant_f16, aii_ref_quant_bf16, aii_ref_quant_q8_0, aii_ref_quant_q4_0},
    .quant_q8 = aii_ref_quant_q8,
    .matmul = {aii_ref_matmul_f32, aii_ref_matmul_f16, aii_ref_matmul_bf16, aii_ref_matmul_q8_0, aii_ref_matmul_q4_0},
    .rms_norm = aii_ref_rms_norm,
    .add = aii_ref_add,
    .scale = aii_ref_scale,
    .silu_mul = aii_ref_silu_mul,
    .exp = aii_ref_exp,
    .rope_norm = aii_ref_rope_norm,
    .rope_neox = aii_ref_rope_neox,
    .attn_scores = aii_ref_attn_scores,
    .max = aii_ref_max,
    .exp_sum = aii_ref_exp_sum,
    .attn_values = aii_ref_attn_values,
    .vec_dot = aii_ref_vec_dot,
    .vec_l2sq = aii_ref_vec_l2sq,
};
