/* kernels/ref/encode.h - the encoders by name, and the searches they share.
 *
 * Formats whose definition states how to choose scales (Q8_0, Q4_0, ...) follow it to the bit unless an importance is
 * given. The others, and those with an importance, search: they minimise sum w (x - decoded)^2 with
 * w = importance * sqrt(mean x^2 + x^2), so that large weights of a block, and those that meet large activations, err
 * least.
 */
#ifndef AII_REF_ENCODE_H
#define AII_REF_ENCODE_H

#include "kernels/ref/ref.h"

/* The values that a scale multiplies: 16 of an ascending table, or (NULL) the integers lo..hi themselves. */
typedef struct aii_levels {
  const int8_t *table;
  int lo, hi; /* 0 and 15 with a table */
} aii_levels;

/* value[i] = the level nearest to x[i] * inverse; n is at most 32. */
void aii_fit_nearest(const aii_levels *levels, const float *x, float inverse, int n, float *value);
int8_t aii_fit_index(const aii_levels *levels, float value); /* of a level */

/* The sum of w * a * b over eight lanes, which the compiler keeps in registers; n is a multiple of 8. */
float aii_fit_sum(const float *w, const float *a, const float *b, int n);
/* w from x and its importance (NULL: 1); all equal where the importance has nothing to say. */
void aii_fit_weights(const float *x, const float *importance, int n, float *w);
/* The d, of either sign, that fits x ~ d * level best. n is 16 or 32. */
float aii_fit_scale(const aii_levels *levels, const float *x, const float *w, int n);
/* The d >= 0 and m that fit x ~ d * q - m with q in 0..q_max; m is at least 0 unless any_min. n is 16 or 32. */
float aii_fit_scale_min(int q_max, const float *x, const float *w, int n, bool any_min, float *m);

static inline void aii_store_half(unsigned char *p, float f)
{
  uint16_t h = aii_f32_to_f16(f);
  memcpy(p, &h, sizeof h);
}

void aii_encode_f32(const float *x, const float *importance, size_t n, void *row);
void aii_encode_f16(const float *x, const float *importance, size_t n, void *row);
void aii_encode_bf16(const float *x, const float *importance, size_t n, void *row);
void aii_encode_q8_0(const float *x, const float *importance, size_t n, void *row);
void aii_encode_q4_0(const float *x, const float *importance, size_t n, void *row);
void aii_encode_q4_1(const float *x, const float *importance, size_t n, void *row);
void aii_encode_q5_0(const float *x, const float *importance, size_t n, void *row);
void aii_encode_q5_1(const float *x, const float *importance, size_t n, void *row);
void aii_encode_q2_k(const float *x, const float *importance, size_t n, void *row);
void aii_encode_q3_k(const float *x, const float *importance, size_t n, void *row);
void aii_encode_q4_k(const float *x, const float *importance, size_t n, void *row);
void aii_encode_q5_k(const float *x, const float *importance, size_t n, void *row);
void aii_encode_q6_k(const float *x, const float *importance, size_t n, void *row);
void aii_encode_iq4_nl(const float *x, const float *importance, size_t n, void *row);
void aii_encode_iq4_xs(const float *x, const float *importance, size_t n, void *row);
void aii_encode_tq1_0(const float *x, const float *importance, size_t n, void *row);
void aii_encode_tq2_0(const float *x, const float *importance, size_t n, void *row);
void aii_encode_mxfp4(const float *x, const float *importance, size_t n, void *row);

#endif
