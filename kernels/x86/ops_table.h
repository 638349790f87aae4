/* kernels/x86/ops_table.h - all operations over the lanes included before this file, as one table.
 * AII_TABLE, AII_TABLE_NAME and AII_TABLE_ISA say which. */
#include "kernels/ref/decode.h"
#include "kernels/x86/ops_common.h"
#include "kernels/x86/ops_rows.h"
#include "kernels/x86/ops_product.h"
#include "kernels/x86/ops_element.h"
#include "kernels/x86/ops_attention.h"
#include "kernels/x86/ops_codes.h"
#include "kernels/x86/x86.h"

/* What tables with these lanes have in common; products is the initialiser of theirs. */
#define AII_OPERATIONS(...)                                                                                          \
  .dequant = {aii_ref_dequant_f32, dequant_f16, dequant_bf16, dequant_q8_0, dequant_q4_0, AII_DECODERS},             \
  .quant = {aii_ref_quant_f32, quant_f16, quant_bf16, aii_ref_quant_q8_0, aii_ref_quant_q4_0}, .quant_q8 = quant_q8, \
  .product = {__VA_ARGS__}, .rms_norm = rms_norm, .layer_norm = layer_norm, .add = add, .scale = scale,              \
  .add_scaled = add_scaled, .silu_mul = silu_mul, .gelu_mul = gelu_mul, .gelu_erf_mul = aii_ref_gelu_erf_mul,        \
  .swiglu_oai = aii_ref_swiglu_oai, .softcap = aii_ref_softcap, .exp = exp_rows, .rope_norm = rope_norm,             \
  .rope_neox = rope_neox, .attn_query = attn_query, .attn_scores = attn_scores, .max = max, .exp_sum = exp_sum,      \
  .attn_soften = attn_soften, .attn_values = attn_values, .vec_dot = vec_dot, .vec_l2sq = vec_l2sq,                  \
  .vec_codes = vec_codes

#ifndef AII_PAIRS_PRODUCT
#define AII_PAIRS_PRODUCT NULL
#endif
const aii_kernels AII_TABLE = {
    .name = AII_TABLE_NAME, .isa = AII_TABLE_ISA, AII_OPERATIONS(AII_FORMATS(AII_PRODUCT) AII_PAIRS_PRODUCT)};
