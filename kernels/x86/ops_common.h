/* kernels/x86/ops_common.h - what all operations over lanes share: partial vectors, sums, and fetching ahead. */
#ifndef AII_OPS_COMMON_H
#define AII_OPS_COMMON_H

#include "kernels/x86/x86.h"

/* The first n < 16 floats at p, the others `fill`. */
AII_INLINE v16 v16_load_part(const float *p, size_t n, float fill)
{
  float t[AII_LANES];
  for (int i = 0; i < AII_LANES; i++) t[i] = fill;
  memcpy(t, p, n * sizeof *p);
  return v16_load(t);
}

AII_INLINE void v16_store_part(float *p, size_t n, v16 v)
{
  float t[AII_LANES];
  v16_store(t, v);
  memcpy(p, t, n * sizeof *p);
}

/* Steps 4, 2, 1 of the sixteen-lane sum for four sums at once; step 8 is v16_fold. */
AII_INLINE __m128 v16_sum4(v16 a, v16 b, v16 c, v16 d)
{
  __m256 f[4] = {v16_fold(a), v16_fold(b), v16_fold(c), v16_fold(d)};
  __m128 h[4];
  for (int i = 0; i < 4; i++) h[i] = _mm_add_ps(_mm256_castps256_ps128(f[i]), _mm256_extractf128_ps(f[i], 1));
  __m128 ab = _mm_add_ps(_mm_unpacklo_ps(h[0], h[1]), _mm_unpackhi_ps(h[0], h[1]));
  __m128 cd = _mm_add_ps(_mm_unpacklo_ps(h[2], h[3]), _mm_unpackhi_ps(h[2], h[3]));
  return _mm_add_ps(_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab));
}

AII_INLINE float v16_sum(v16 v)
{
  __m256 f = v16_fold(v);
  __m128 h = _mm_add_ps(_mm256_castps256_ps128(f), _mm256_extractf128_ps(f, 1));
  h = _mm_add_ps(h, _mm_movehl_ps(h, h));
  return _mm_cvtss_f32(_mm_add_ss(h, _mm_movehdup_ps(h)));
}

/* The cache that what comes from memory is fetched into. */
typedef enum fetch_to { FETCH_FIRST, FETCH_SECOND } fetch_to;

AII_INLINE fetch_to where_to_fetch(void)
{
  return aii_x86_fetches_first() ? FETCH_FIRST : FETCH_SECOND;
}

AII_INLINE void fetch(fetch_to to, const void *p)
{
  if (to == FETCH_FIRST) _mm_prefetch(p, _MM_HINT_T0);
  else _mm_prefetch(p, _MM_HINT_T1);
}

#endif
