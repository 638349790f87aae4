/* kernels/ref/ref.h - the reference operations by name, and the two helpers they share. */
#ifndef AII_KERNELS_REF_H
#define AII_KERNELS_REF_H

#include <math.h>
#include <string.h>

#include "kernels/kernels.h"

#define AII_LANES 16

/* The sum of the lanes in the order that kernels.h states; destroys them. */
static inline float aii_lane_sum(float lane[AII_LANES])
{
  for (int w = AII_LANES / 2; w > 0; w /= 2)
    for (int i = 0; i < w; i++) lane[i] += lane[i + w];
  return lane[0];
}

float aii_f16_to_f32(uint16_t half);
uint16_t aii_f32_to_f16(float f);
float aii_ref_exp1(float x);

/* 2^r = 1 + r * (C1 + r * (C2 + ... + r * C5)) for r in [-1/2, 1/2], 1.5e-7 off at most. */
#define AII_EXP2_C1 0x1.62e42ap-1f
#define AII_EXP2_C2 0x1.ebf9bcp-3f
#define AII_EXP2_C3 0x1.c6b752p-5f
#define AII_EXP2_C4 0x1.3cea88p-7f
#define AII_EXP2_C5 0x1.5bba12p-10f
#define AII_EXP2_LEAST (-125.0f) /* below it 2^x counts as 0 */
#define AII_ATTN_SLACK 8.0f      /* how far scores may be above m */
#define AII_EXP2_ROUND 0x1.8p23f /* what is added to it loses its fraction, and its last bits are the integer */

/* Bytes of blocks have no alignment. */
static inline uint16_t aii_load_u16(const void *p)
{
  uint16_t v;
  memcpy(&v, p, sizeof v);
  return v;
}

static inline float aii_bf16_to_f32(uint16_t v)
{
  uint32_t u = (uint32_t)v << 16;
  float f;
  memcpy(&f, &u, sizeof f);
  return f;
}

/* What a nibble means: IQ4_NL and IQ4_XS; MXFP4 and NVFP4 (doubled, so that they are integers). */
extern const int8_t aii_iq4_levels[16];
extern const int8_t aii_fp4_levels[16];

/* Half of a power of two by its E8M0 exponent: 2^(e - 128). */
static inline float aii_e8m0_half(uint8_t e)
{
  uint32_t u = e < 2 ? 0x200000u << e : (uint32_t)(e - 1) << 23;
  float f;
  memcpy(&f, &u, sizeof f);
  return f;
}

void aii_ref_dequant_f32(const void *row, size_t n, float *out);
void aii_ref_dequant_f16(const void *row, size_t n, float *out);
void aii_ref_dequant_bf16(const void *row, size_t n, float *out);
void aii_ref_dequant_q8_0(const void *row, size_t n, float *out);
void aii_ref_dequant_q4_0(const void *row, size_t n, float *out);
void aii_ref_quant_f32(const float *x, size_t n, void *row);
void aii_ref_quant_f16(const float *x, size_t n, void *row);
void aii_ref_quant_bf16(const float *x, size_t n, void *row);
void aii_ref_quant_q8_0(const float *x, size_t n, void *row);
void aii_ref_quant_q4_0(const float *x, size_t n, void *row);
void aii_ref_quant_q8(const float *x, size_t n, void *q8_row);
#define AII_DECLARE(NAME, name, ...) void aii_ref_product_##name(const aii_product *p);
AII_FORMATS(AII_DECLARE)
AII_DECLARE(BF16_PAIRS, bf16_pairs)
#undef AII_DECLARE
#define AII_REF_PRODUCT(NAME, name, ...) aii_ref_product_##name,
void aii_ref_rms_norm(const float *x, const float *w, uint32_t n, float eps, float *out);
void aii_ref_layer_norm(const float *x, const float *w, const float *b, uint32_t n, float eps, float *out);
void aii_ref_add(float *x, const float *y, size_t n);
void aii_ref_scale(float *x, float f, size_t n);
void aii_ref_silu_mul(const float *gate, const float *up, size_t n, float *out);
void aii_ref_add_scaled(float *x, const float *y, float f, size_t n);
void aii_ref_gelu_mul(const float *gate, const float *up, size_t n, float *out);
void aii_ref_gelu_erf_mul(const float *gate, const float *up, size_t n, float *out);
void aii_ref_swiglu_oai(const float *gate, const float *up, size_t n, float *out);
void aii_ref_softcap(float *x, float cap, size_t n);
void aii_ref_exp(const float *x, size_t n, float *out);
void aii_ref_rope_norm(float *x, uint32_t n_heads, uint32_t head_dim, uint32_t n_rot, const float *cos,
                       const float *sin);
void aii_ref_rope_neox(float *x, uint32_t n_heads, uint32_t head_dim, uint32_t n_rot, const float *cos,
                       const float *sin);
void aii_ref_attn_query(aii_fmt fmt, const float *x, uint32_t dim, float scale, void *out);
void aii_ref_attn_scores(const aii_attn_tile *keys, const void *q, uint32_t n_q, float *out, size_t out_stride);
float aii_ref_max(const float *x, size_t n);
float aii_ref_exp_sum(float *x, size_t n, float m);
void aii_ref_attn_soften(const aii_attn_state *s);
void aii_ref_attn_values(const aii_attn_tile *values, const aii_attn_state *s);
void aii_ref_vec_dot(const float *rows, size_t row_stride, uint32_t n_rows, const float *query, uint32_t dim,
                     float *out);
void aii_ref_vec_l2sq(const float *rows, size_t row_stride, uint32_t n_rows, const float *query, uint32_t dim,
                      float *out);
void aii_ref_vec_codes(const uint8_t *const *rows, uint32_t n_rows, const uint8_t *query, uint32_t dim, int32_t start,
                       int32_t *out);

#endif
