/* kernels/x86/lanes_avx512.h - sixteen lanes as one AVX-512 register; the names of lanes_avx2.h.
 *
 * Needs AVX-512 F, BW, VL, DQ and VNNI, besides AVX2, FMA and F16C. Tests may define AII_AVX512_HEADER to a header that
 * emulates the intrinsics on CPUs without them.
 */
#ifndef AII_LANES_AVX512_H
#define AII_LANES_AVX512_H

#ifdef AII_AVX512_HEADER
#include AII_AVX512_HEADER
#else
#include <immintrin.h>
#endif
#include <math.h>
#include <string.h>

#include "kernels/ref/ref.h"

#define AII_INLINE static inline __attribute__((always_inline))
#define AII_FETCH _MM_HINT_T1

/* Panels and columns that are multiplied with each other at a time: what 32 registers hold. An emulation takes fewer:
 * compilers need minutes for what they cannot keep in registers. */
#define AII_PANELS 2
#ifndef AII_QUANT_COLS
#define AII_FLOAT_COLS 12
#define AII_QUANT_COLS 6
#endif

typedef __m512 v16;
typedef __m512i b64;
typedef __m512i x4;

AII_INLINE v16 v16_set1(float f)
{
  return _mm512_set1_ps(f);
}

AII_INLINE v16 v16_zero(void)
{
  return _mm512_setzero_ps();
}

AII_INLINE v16 v16_load(const float *p)
{
  return _mm512_loadu_ps(p);
}

AII_INLINE void v16_store(float *p, v16 v)
{
  _mm512_storeu_ps(p, v);
}

AII_INLINE v16 v16_load_f16(const void *p)
{
  return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}

AII_INLINE v16 v16_load_bf16(const void *p)
{
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
}

AII_INLINE void v16_store_f16(void *p, v16 v)
{
  _mm256_storeu_si256(p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

AII_INLINE void v16_store_bf16(void *p, v16 v)
{
  const __m512i u = _mm512_castps_si512(v), odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
  __m512i r = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  r = _mm512_mask_mov_epi32(r, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), _mm512_or_si512(u, _mm512_set1_epi32(0x400000)));
  _mm256_storeu_si256(p, _mm512_cvtepi32_epi16(_mm512_srli_epi32(r, 16)));
}

AII_INLINE v16 v16_from_i8(__m128i q)
{
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(q));
}

AII_INLINE void v16_store_i8(int8_t *p, v16 v)
{
  _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(v)));
}

AII_INLINE v16 v16_fma(v16 a, v16 b, v16 c)
{
  return _mm512_fmadd_ps(a, b, c);
}

AII_INLINE v16 v16_fmsub(v16 a, v16 b, v16 c)
{
  return _mm512_fmsub_ps(a, b, c);
}

AII_INLINE v16 v16_add(v16 a, v16 b)
{
  return _mm512_add_ps(a, b);
}

AII_INLINE v16 v16_sub(v16 a, v16 b)
{
  return _mm512_sub_ps(a, b);
}

AII_INLINE v16 v16_mul(v16 a, v16 b)
{
  return _mm512_mul_ps(a, b);
}

AII_INLINE v16 v16_div(v16 a, v16 b)
{
  return _mm512_div_ps(a, b);
}

AII_INLINE v16 v16_max(v16 a, v16 b)
{
  return _mm512_max_ps(a, b);
}

AII_INLINE v16 v16_abs(v16 a)
{
  return _mm512_abs_ps(a);
}

AII_INLINE void v16_unzip(const float *p, v16 *even, v16 *odd)
{
  const __m512i e = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
  v16 a = v16_load(p), b = v16_load(p + 16);
  *even = _mm512_permutex2var_ps(a, e, b);
  *odd = _mm512_permutex2var_ps(a, _mm512_add_epi32(e, _mm512_set1_epi32(1)), b);
}

AII_INLINE void v16_zip(float *p, v16 even, v16 odd)
{
  const __m512i lo = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  v16_store(p, _mm512_permutex2var_ps(even, lo, odd));
  v16_store(p + 16, _mm512_permutex2var_ps(even, _mm512_add_epi32(lo, _mm512_set1_epi32(8)), odd));
}

AII_INLINE __m256 v16_fold(v16 v)
{
  return _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
}

AII_INLINE float v16_hmax(v16 v)
{
  __m256 m = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  __m128 h = _mm_max_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps(m, 1));
  h = _mm_max_ps(h, _mm_movehl_ps(h, h));
  return _mm_cvtss_f32(_mm_max_ss(h, _mm_movehdup_ps(h)));
}

AII_INLINE v16 v16_exp(v16 x)
{
  v16 n = _mm512_roundscale_ps(v16_mul(x, v16_set1(0x1.715476p+0f)), _MM_FROUND_TO_NEAREST_INT);
  v16 r = v16_fma(n, v16_set1(-0x1.62e4p-1f), x);
  r = v16_fma(n, v16_set1(-0x1.7f7d1cp-20f), r);
  v16 p = v16_set1(1.9875691500e-4f);
  p = v16_fma(p, r, v16_set1(1.3981999507e-3f));
  p = v16_fma(p, r, v16_set1(8.3334519073e-3f));
  p = v16_fma(p, r, v16_set1(4.1665795894e-2f));
  p = v16_fma(p, r, v16_set1(1.6666665459e-1f));
  p = v16_fma(p, r, v16_set1(5.0000001201e-1f));
  p = v16_add(v16_fma(p, v16_mul(r, r), r), v16_set1(1));
  __m512i power = _mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(126)), 23);
  p = v16_mul(v16_mul(p, _mm512_castsi512_ps(power)), v16_set1(2));
  p = _mm512_mask_mov_ps(p, _mm512_cmp_ps_mask(x, v16_set1(-86.0f), _CMP_LT_OQ), v16_zero());
  return _mm512_mask_mov_ps(p, _mm512_cmp_ps_mask(x, v16_set1(0x1.62e43p+6f), _CMP_GT_OQ), v16_set1(INFINITY));
}

/* ---- attention ---- */

#define AII_ATTN_VECS 4     /* registers of keys or values that meet four queries at a time */
#define AII_ATTN_FEW_VECS 4 /* and two queries */

/* Lanes first..end of v, the others `rest`. */
AII_INLINE v16 v16_keep(v16 v, uint32_t first, uint32_t end, float rest)
{
  return _mm512_mask_mov_ps(v16_set1(rest), (__mmask16)((1u << end) - (1u << first)), v);
}

AII_INLINE bool v16_any_above(v16 v, float m)
{
  return _mm512_cmp_ps_mask(v, v16_set1(m), _CMP_GT_OQ) != 0;
}

/* To nearest even, as sixteen int16; the values lie in their range. */
AII_INLINE void v16_store_i16(int16_t *p, v16 v)
{
  _mm256_storeu_si256((void *)p, _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(v)));
}

/* 2^x for x <= AII_ATTN_SLACK: results are normal or 0, so that their exponents can be added to. */
AII_INLINE v16 v16_exp2(v16 x)
{
  v16 t = v16_add(x, v16_set1(AII_EXP2_ROUND)), r = v16_sub(x, v16_sub(t, v16_set1(AII_EXP2_ROUND)));
  v16 p = v16_fma(v16_set1(AII_EXP2_C5), r, v16_set1(AII_EXP2_C4));
  p = v16_fma(p, r, v16_set1(AII_EXP2_C3));
  p = v16_fma(p, r, v16_set1(AII_EXP2_C2));
  p = v16_fma(p, r, v16_set1(AII_EXP2_C1));
  p = v16_fma(p, r, v16_set1(1));
  __mmask16 some = _mm512_cmp_ps_mask(x, v16_set1(AII_EXP2_LEAST), _CMP_NLT_UQ);
  __m512i power = _mm512_slli_epi32(_mm512_castps_si512(t), 23);
  return _mm512_castsi512_ps(_mm512_maskz_add_epi32(some, _mm512_castps_si512(p), power));
}

/* ---- 64 bytes: four elements of each of 16 rows; 16 words: a number of each row ---- */

AII_INLINE b64 b64_load(const void *p)
{
  return _mm512_loadu_si512(p);
}

AII_INLINE void b64_store(void *p, b64 v)
{
  _mm512_storeu_si512(p, v);
}

AII_INLINE b64 b64_and(b64 a, int mask)
{
  return _mm512_and_si512(a, _mm512_set1_epi8((char)mask));
}

AII_INLINE b64 b64_or(b64 a, b64 b)
{
  return _mm512_or_si512(a, b);
}

AII_INLINE b64 b64_shift(b64 a, int n)
{
  return n >= 0 ? _mm512_slli_epi16(a, (unsigned char)n) : _mm512_srli_epi16(a, (unsigned char)-n);
}

AII_INLINE b64 b64_lookup(b64 a, const int8_t table[16])
{
  return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const void *)table)), a);
}

AII_INLINE v16 v16_from_u8(const void *p)
{
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(p)));
}

AII_INLINE v16 v16_from_e8m0(const void *p)
{
  __m512i e = _mm512_cvtepu8_epi32(_mm_loadu_si128(p));
  __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
  __m512i tiny = _mm512_sllv_epi32(_mm512_set1_epi32(0x200000), e);
  return _mm512_castsi512_ps(_mm512_mask_mov_epi32(normal, _mm512_cmpgt_epi32_mask(_mm512_set1_epi32(2), e), tiny));
}

AII_INLINE v16 v16_from_w16(b64 w)
{
  return _mm512_cvtepi32_ps(w);
}

/* dpbusd wants unsigned codes, so signed ones count 128 more. */
typedef enum dot_kind { DOTS_16, DOTS_64, DOTS_SIGNED } dot_kind;
#define AII_SIGNED_ZERO 128
#define AII_WIDE_ZERO 128

AII_INLINE b64 b64_add(b64 a, int n)
{
  return _mm512_add_epi8(a, _mm512_set1_epi8((char)n));
}

AII_INLINE x4 x4_load(const int8_t *x)
{
  int32_t four; /* on its own: two loads in one would be spread by the port that multiplies */
  memcpy(&four, x, sizeof four);
  return _mm512_set1_epi32(four);
}

AII_INLINE x4 dots_zero(const int32_t *z, int zero)
{
  return zero == 0 ? _mm512_setzero_si512()
                   : _mm512_srai_epi32(_mm512_set1_epi32(*z), (unsigned)__builtin_clz((unsigned)zero) - 24);
}

AII_INLINE b64 dots_begin(x4 zero)
{
  return zero;
}

AII_INLINE b64 dots_add(dot_kind kind, b64 sum, b64 w0, b64 w1, x4 x0, x4 x1)
{
  (void)kind;
  return _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(sum, w0, x0), w1, x1);
}

AII_INLINE v16 dots_end(dot_kind kind, b64 sum, bool has_zero, x4 zero)
{
  (void)kind, (void)has_zero, (void)zero;
  return v16_from_w16(sum);
}

AII_INLINE float lanes_half(const void *p)
{
  return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(aii_load_u16(p))));
}

/* Four signed bytes of each of 16 keys. dpbusd wants one side unsigned: they count 128 more, which the sum that a query
 * brings takes off. */
typedef __m512i fours_key;

AII_INLINE b64 fours_zero(void)
{
  return _mm512_setzero_si512();
}

AII_INLINE b64 fours_begin(const int32_t *sum)
{
  return _mm512_set1_epi32(*sum);
}

AII_INLINE fours_key fours_load(const void *p)
{
  return _mm512_xor_si512(_mm512_loadu_si512(p), _mm512_set1_epi8((char)0x80));
}

AII_INLINE b64 fours_add(b64 sum, fours_key k, const void *x)
{
  int32_t q;
  memcpy(&q, x, sizeof q);
  return _mm512_dpbusd_epi32(sum, k, _mm512_set1_epi32(q));
}

/* 64 bytes without the 128 that they count more. */
AII_INLINE b64 codes_signed(const void *p)
{
  return _mm512_xor_si512(_mm512_loadu_si512(p), _mm512_set1_epi8((char)0x80));
}

/* sum + the products of 64 unsigned with 64 signed bytes, four in each word; and half of the words added to the rest. */
AII_INLINE b64 codes_add(b64 sum, b64 codes, b64 query)
{
  return _mm512_dpbusd_epi32(sum, codes, query);
}

AII_INLINE __m256i codes_fold(b64 sum)
{
  return _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64(sum, 1));
}

/* Two signed bytes of each of sixteen dims, as words; and sum + the dots of these with two int16. */
AII_INLINE b64 pairs_load(const void *p)
{
  return _mm512_cvtepi8_epi16(_mm256_loadu_si256(p));
}

AII_INLINE b64 pairs_add(b64 sum, b64 v, const int16_t *x)
{
  int32_t pair;
  memcpy(&pair, x, sizeof pair);
  return _mm512_dpwssd_epi32(sum, v, _mm512_set1_epi32(pair));
}

#endif
