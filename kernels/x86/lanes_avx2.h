/* kernels/x86/lanes_avx2.h - sixteen lanes as two AVX2 registers.
 *
 * The operations of ops_*.h are written once over the types of this file: v16 is sixteen floats, b64 the 64 int8 of
 * two quantised blocks. lanes_avx512.h has the same names. Needs AVX2, FMA and F16C; with AII_AVXVNNI defined
 * AVX-VNNI, too, whose dpbusd does in one instruction what takes three or more without it.
 */
#ifndef AII_LANES_AVX2_H
#define AII_LANES_AVX2_H

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "kernels/ref/ref.h"

#define AII_INLINE static inline __attribute__((always_inline))
#define AII_FETCH _MM_HINT_T1

/* Panels and columns that are multiplied with each other at a time: by measurement, about what 16 registers hold. */
#define AII_PANELS 1
#define AII_FLOAT_COLS 6
#ifdef AII_AVXVNNI
#define AII_QUANT_COLS 3
#else
#define AII_QUANT_COLS 4
#endif

typedef struct v16 {
  __m256 lo, hi;
} v16;

typedef struct b64 {
  __m256i lo, hi;
} b64;

typedef __m256i x4; /* four activations of a column, again and again */

AII_INLINE v16 v16_set1(float f)
{
  return (v16){_mm256_set1_ps(f), _mm256_set1_ps(f)};
}

AII_INLINE v16 v16_zero(void)
{
  return (v16){_mm256_setzero_ps(), _mm256_setzero_ps()};
}

AII_INLINE v16 v16_load(const float *p)
{
  return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}

AII_INLINE void v16_store(float *p, v16 v)
{
  _mm256_storeu_ps(p, v.lo);
  _mm256_storeu_ps(p + 8, v.hi);
}

AII_INLINE v16 v16_load_f16(const void *p)
{
  const __m128i *h = p;
  return (v16){_mm256_cvtph_ps(_mm_loadu_si128(h)), _mm256_cvtph_ps(_mm_loadu_si128(h + 1))};
}

AII_INLINE __m256 lanes_bf16(__m128i h)
{
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

AII_INLINE v16 v16_load_bf16(const void *p)
{
  const __m128i *h = p;
  return (v16){lanes_bf16(_mm_loadu_si128(h)), lanes_bf16(_mm_loadu_si128(h + 1))};
}

AII_INLINE void v16_store_f16(void *p, v16 v)
{
  __m128i *h = p;
  _mm_storeu_si128(h, _mm256_cvtps_ph(v.lo, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128(h + 1, _mm256_cvtps_ph(v.hi, _MM_FROUND_TO_NEAREST_INT));
}

/* To nearest, ties to even, in the lower half of each word; a NaN stays one. */
AII_INLINE __m256i lanes_to_bf16(__m256 f)
{
  const __m256i u = _mm256_castps_si256(f), odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
  const __m256i r = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
  return _mm256_srli_epi32(_mm256_blendv_epi8(r, quiet, _mm256_castps_si256(_mm256_cmp_ps(f, f, _CMP_UNORD_Q))), 16);
}

AII_INLINE void v16_store_bf16(void *p, v16 v)
{
  const __m256i both = _mm256_packus_epi32(lanes_to_bf16(v.lo), lanes_to_bf16(v.hi));
  _mm256_storeu_si256(p, _mm256_permute4x64_epi64(both, 0xd8));
}

/* Sixteen int8 as floats. */
AII_INLINE v16 v16_from_i8(__m128i q)
{
  return (v16){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q)),
               _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(q, 8)))};
}

/* To nearest even, as sixteen int8; the values lie in [-127, 127]. */
AII_INLINE void v16_store_i8(int8_t *p, v16 v)
{
  __m256i w = _mm256_packs_epi32(_mm256_cvtps_epi32(v.lo), _mm256_cvtps_epi32(v.hi));
  w = _mm256_permute4x64_epi64(w, 0xd8);
  _mm_storeu_si128((__m128i *)(void *)p, _mm_packs_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1)));
}

AII_INLINE v16 v16_fma(v16 a, v16 b, v16 c)
{
  return (v16){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}

AII_INLINE v16 v16_fmsub(v16 a, v16 b, v16 c)
{
  return (v16){_mm256_fmsub_ps(a.lo, b.lo, c.lo), _mm256_fmsub_ps(a.hi, b.hi, c.hi)};
}

AII_INLINE v16 v16_add(v16 a, v16 b)
{
  return (v16){_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}

AII_INLINE v16 v16_sub(v16 a, v16 b)
{
  return (v16){_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}

AII_INLINE v16 v16_mul(v16 a, v16 b)
{
  return (v16){_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}

AII_INLINE v16 v16_div(v16 a, v16 b)
{
  return (v16){_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}

AII_INLINE v16 v16_max(v16 a, v16 b)
{
  return (v16){_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}

AII_INLINE v16 v16_abs(v16 a)
{
  __m256 sign = _mm256_set1_ps(-0.0f);
  return (v16){_mm256_andnot_ps(sign, a.lo), _mm256_andnot_ps(sign, a.hi)};
}

/* (a0, b0, a1, b1, ...) of the 16 floats of pairs at p, split into firsts and seconds; and back. */
AII_INLINE void v16_unzip(const float *p, v16 *even, v16 *odd)
{
  for (int i = 0; i < 2; i++) {
    __m256 a = _mm256_loadu_ps(p + 16 * i), b = _mm256_loadu_ps(p + 16 * i + 8);
    __m256 e = _mm256_shuffle_ps(a, b, 0x88), o = _mm256_shuffle_ps(a, b, 0xdd);
    e = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(e), 0xd8));
    o = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(o), 0xd8));
    if (i == 0) {
      even->lo = e;
      odd->lo = o;
    } else {
      even->hi = e;
      odd->hi = o;
    }
  }
}

AII_INLINE void lanes_zip(float *p, __m256 even, __m256 odd)
{
  __m256 l = _mm256_unpacklo_ps(even, odd), h = _mm256_unpackhi_ps(even, odd);
  _mm256_storeu_ps(p, _mm256_permute2f128_ps(l, h, 0x20));
  _mm256_storeu_ps(p + 8, _mm256_permute2f128_ps(l, h, 0x31));
}

AII_INLINE void v16_zip(float *p, v16 even, v16 odd)
{
  lanes_zip(p, even.lo, odd.lo);
  lanes_zip(p + 16, even.hi, odd.hi);
}

/* lane[i] + lane[i + 8] */
AII_INLINE __m256 v16_fold(v16 v)
{
  return _mm256_add_ps(v.lo, v.hi);
}

AII_INLINE float v16_hmax(v16 v)
{
  __m256 m = _mm256_max_ps(v.lo, v.hi);
  __m128 h = _mm_max_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps(m, 1));
  h = _mm_max_ps(h, _mm_movehl_ps(h, h));
  return _mm_cvtss_f32(_mm_max_ss(h, _mm_movehdup_ps(h)));
}

AII_INLINE __m256 lanes_exp(__m256 x)
{
  __m256 n =
      _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(0x1.715476p+0f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r = _mm256_fmadd_ps(n, _mm256_set1_ps(-0x1.62e4p-1f), x);
  r = _mm256_fmadd_ps(n, _mm256_set1_ps(-0x1.7f7d1cp-20f), r);
  __m256 p = _mm256_set1_ps(1.9875691500e-4f);
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.3981999507e-3f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(8.3334519073e-3f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(4.1665795894e-2f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.6666665459e-1f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(5.0000001201e-1f));
  p = _mm256_add_ps(_mm256_fmadd_ps(p, _mm256_mul_ps(r, r), r), _mm256_set1_ps(1));
  __m256i power = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(126)), 23);
  p = _mm256_mul_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(power)), _mm256_set1_ps(2));
  p = _mm256_blendv_ps(p, _mm256_setzero_ps(), _mm256_cmp_ps(x, _mm256_set1_ps(-86.0f), _CMP_LT_OQ));
  return _mm256_blendv_ps(p, _mm256_set1_ps(INFINITY), _mm256_cmp_ps(x, _mm256_set1_ps(0x1.62e43p+6f), _CMP_GT_OQ));
}

AII_INLINE v16 v16_exp(v16 x)
{
  return (v16){lanes_exp(x.lo), lanes_exp(x.hi)};
}

/* ---- attention ---- */

#define AII_ATTN_VECS 1     /* sixteens of keys or values that meet four queries at a time: two registers for each */
#define AII_ATTN_FEW_VECS 2 /* and two queries */

/* Lanes first..end of v, the others `rest`. */
AII_INLINE __m256 lanes_keep(__m256 v, int lane, uint32_t first, uint32_t end, float rest)
{
  __m256i lanes = _mm256_add_epi32(_mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0), _mm256_set1_epi32(lane));
  __m256i before = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)first), lanes);
  __m256i below = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)end), lanes);
  return _mm256_blendv_ps(_mm256_set1_ps(rest), v, _mm256_castsi256_ps(_mm256_andnot_si256(before, below)));
}

AII_INLINE v16 v16_keep(v16 v, uint32_t first, uint32_t end, float rest)
{
  return (v16){lanes_keep(v.lo, 0, first, end, rest), lanes_keep(v.hi, 8, first, end, rest)};
}

AII_INLINE bool v16_any_above(v16 v, float m)
{
  __m256 most = _mm256_max_ps(v.lo, v.hi);
  return _mm256_movemask_ps(_mm256_cmp_ps(most, _mm256_set1_ps(m), _CMP_GT_OQ)) != 0;
}

/* To nearest even, as sixteen int16; the values lie in their range. */
AII_INLINE void v16_store_i16(int16_t *p, v16 v)
{
  __m256i w = _mm256_packs_epi32(_mm256_cvtps_epi32(v.lo), _mm256_cvtps_epi32(v.hi));
  _mm256_storeu_si256((void *)p, _mm256_permute4x64_epi64(w, 0xd8));
}

/* 2^x for x <= AII_ATTN_SLACK: results are normal or 0, so that their exponents can be added to. */
AII_INLINE __m256 lanes_exp2(__m256 x)
{
  __m256 t = _mm256_add_ps(x, _mm256_set1_ps(AII_EXP2_ROUND));
  __m256 r = _mm256_sub_ps(x, _mm256_sub_ps(t, _mm256_set1_ps(AII_EXP2_ROUND)));
  __m256 p = _mm256_fmadd_ps(_mm256_set1_ps(AII_EXP2_C5), r, _mm256_set1_ps(AII_EXP2_C4));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(AII_EXP2_C3));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(AII_EXP2_C2));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(AII_EXP2_C1));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1));
  __m256i e = _mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(_mm256_castps_si256(t), 23));
  return _mm256_andnot_ps(_mm256_cmp_ps(x, _mm256_set1_ps(AII_EXP2_LEAST), _CMP_LT_OQ), _mm256_castsi256_ps(e));
}

AII_INLINE v16 v16_exp2(v16 x)
{
  return (v16){lanes_exp2(x.lo), lanes_exp2(x.hi)};
}

/* ---- 64 bytes: four elements of each of 16 rows; 32 words: a number of each row ---- */

AII_INLINE b64 b64_load(const void *p)
{
  return (b64){_mm256_loadu_si256(p), _mm256_loadu_si256((const __m256i *)p + 1)};
}

AII_INLINE void b64_store(void *p, b64 v)
{
  _mm256_storeu_si256(p, v.lo);
  _mm256_storeu_si256((__m256i *)p + 1, v.hi);
}

AII_INLINE b64 b64_and(b64 a, int mask)
{
  __m256i m = _mm256_set1_epi8((char)mask);
  return (b64){_mm256_and_si256(a.lo, m), _mm256_and_si256(a.hi, m)};
}

AII_INLINE b64 b64_or(b64 a, b64 b)
{
  return (b64){_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi)};
}

/* Each pair of bytes as a number, up (n > 0) or down by n bits. */
AII_INLINE b64 b64_shift(b64 a, int n)
{
  if (n >= 0) return (b64){_mm256_slli_epi16(a.lo, n), _mm256_slli_epi16(a.hi, n)};
  return (b64){_mm256_srli_epi16(a.lo, -n), _mm256_srli_epi16(a.hi, -n)};
}

AII_INLINE b64 b64_lookup(b64 a, const int8_t table[16])
{
  __m256i t = _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)table));
  return (b64){_mm256_shuffle_epi8(t, a.lo), _mm256_shuffle_epi8(t, a.hi)};
}

AII_INLINE v16 v16_from_u8(const void *p)
{
  return (v16){
      _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(p))),
      _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)((const char *)p + 8))))};
}

/* 2^(e - 128) of sixteen E8M0 exponents. */
AII_INLINE v16 v16_from_e8m0(const void *p)
{
  v16 r;
  for (int h = 0; h < 2; h++) {
    __m256i e = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)((const char *)p + 8 * h)));
    __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
    __m256i tiny = _mm256_sllv_epi32(_mm256_set1_epi32(0x200000), e);
    __m256i is_tiny = _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e);
    __m256 f = _mm256_castsi256_ps(_mm256_blendv_epi8(normal, tiny, is_tiny));
    if (h == 0) r.lo = f;
    else r.hi = f;
  }
  return r;
}

/* Sixteen words as floats. */
AII_INLINE v16 v16_from_w16(b64 w)
{
  return (v16){_mm256_cvtepi32_ps(w.lo), _mm256_cvtepi32_ps(w.hi)};
}

/* Integer dots of the 16 rows with one column, two groups of four elements at a time. What bounds the codes says how:
 * below 16, sums of a whole block stay in 16 bits; below 64, sums of two groups; signed codes give their sign to x.
 * The sum is what dots_end() makes of it. */
typedef enum dot_kind { DOTS_16, DOTS_64, DOTS_SIGNED } dot_kind;
#ifdef AII_AVXVNNI
#define AII_SIGNED_ZERO 128 /* what is subtracted from signed codes: dpbusd wants unsigned ones */
#define AII_WIDE_ZERO 128   /* not 0: what is subtracted from the codes of wide blocks, instead of their own zero */
#else
#define AII_SIGNED_ZERO 0
#define AII_WIDE_ZERO 0
#endif

AII_INLINE b64 b64_add(b64 a, int n)
{
  __m256i m = _mm256_set1_epi8((char)n);
  return (b64){_mm256_add_epi8(a.lo, m), _mm256_add_epi8(a.hi, m)};
}

AII_INLINE x4 x4_load(const int8_t *x)
{
  return _mm256_castps_si256(_mm256_broadcast_ss((const float *)(const void *)x));
}

/* -zero times the sum of the activations, of which z is -128 times the sum */
AII_INLINE x4 dots_zero(const int32_t *z, int zero)
{
  return zero == 0 ? _mm256_setzero_si256()
                   : _mm256_srai_epi32(_mm256_set1_epi32(*z), __builtin_clz((unsigned)zero) - 24);
}

#ifdef AII_AVXVNNI

AII_INLINE b64 dots_begin(x4 zero)
{
  return (b64){zero, zero};
}

AII_INLINE b64 dots_add(dot_kind kind, b64 sum, b64 w0, b64 w1, x4 x0, x4 x1)
{
  (void)kind;
  sum = (b64){_mm256_dpbusd_avx_epi32(sum.lo, w0.lo, x0), _mm256_dpbusd_avx_epi32(sum.hi, w0.hi, x0)};
  return (b64){_mm256_dpbusd_avx_epi32(sum.lo, w1.lo, x1), _mm256_dpbusd_avx_epi32(sum.hi, w1.hi, x1)};
}

AII_INLINE v16 dots_end(dot_kind kind, b64 sum, bool has_zero, x4 zero)
{
  (void)kind, (void)has_zero, (void)zero;
  return v16_from_w16(sum);
}

#else

AII_INLINE __m256i lanes_dots(dot_kind kind, __m256i w0, __m256i w1, __m256i x0, __m256i x1)
{
  __m256i ones = _mm256_set1_epi16(1);
  if (kind == DOTS_SIGNED) {
    __m256i p0 = _mm256_maddubs_epi16(_mm256_abs_epi8(w0), _mm256_sign_epi8(x0, w0));
    __m256i p1 = _mm256_maddubs_epi16(_mm256_abs_epi8(w1), _mm256_sign_epi8(x1, w1));
    return _mm256_add_epi32(_mm256_madd_epi16(p0, ones), _mm256_madd_epi16(p1, ones));
  }
  __m256i p = _mm256_add_epi16(_mm256_maddubs_epi16(w0, x0), _mm256_maddubs_epi16(w1, x1));
  return kind == DOTS_16 ? p : _mm256_madd_epi16(p, ones);
}

/* The zero is taken off at the end: sums of 16 bits have no room for it. */
AII_INLINE b64 dots_begin(x4 zero)
{
  (void)zero;
  return (b64){_mm256_setzero_si256(), _mm256_setzero_si256()};
}

AII_INLINE b64 dots_add(dot_kind kind, b64 sum, b64 w0, b64 w1, x4 x0, x4 x1)
{
  b64 p = {lanes_dots(kind, w0.lo, w1.lo, x0, x1), lanes_dots(kind, w0.hi, w1.hi, x0, x1)};
  if (kind == DOTS_16) p = (b64){_mm256_add_epi16(sum.lo, p.lo), _mm256_add_epi16(sum.hi, p.hi)};
  else p = (b64){_mm256_add_epi32(sum.lo, p.lo), _mm256_add_epi32(sum.hi, p.hi)};
  __asm__("" : "+x"(p.lo), "+x"(p.hi)); /* else compilers turn the chain into a tree, and registers spill */
  return p;
}

/* The sums as floats, without what the zero counts. */
AII_INLINE v16 dots_end(dot_kind kind, b64 sum, bool has_zero, x4 zero)
{
  __m256i ones = _mm256_set1_epi16(1);
  if (kind == DOTS_16) sum = (b64){_mm256_madd_epi16(sum.lo, ones), _mm256_madd_epi16(sum.hi, ones)};
  if (has_zero) sum = (b64){_mm256_add_epi32(sum.lo, zero), _mm256_add_epi32(sum.hi, zero)};
  return v16_from_w16(sum);
}

#endif

AII_INLINE float lanes_half(const void *p)
{
  return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(aii_load_u16(p))));
}

/* Four signed bytes of each of 16 keys. maddubs wants one side unsigned: |k|, its sign moved to x. */
typedef struct fours_key {
  b64 k, magnitude;
} fours_key;

AII_INLINE b64 fours_zero(void)
{
  return (b64){_mm256_setzero_si256(), _mm256_setzero_si256()};
}

AII_INLINE b64 fours_begin(const int32_t *sum)
{
  (void)sum; /* is of use where signed bytes count 128 more */
  return (b64){_mm256_setzero_si256(), _mm256_setzero_si256()};
}

AII_INLINE fours_key fours_load(const void *p)
{
  b64 k = b64_load(p);
  return (fours_key){k, {_mm256_abs_epi8(k.lo), _mm256_abs_epi8(k.hi)}};
}

AII_INLINE __m256i lanes_fours(__m256i sum, __m256i k, __m256i magnitude, __m256i x)
{
  __m256i pairs = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(x, k));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

AII_INLINE b64 fours_add(b64 sum, fours_key k, const void *x)
{
  __m256i four = _mm256_castps_si256(_mm256_broadcast_ss(x));
  return (b64){lanes_fours(sum.lo, k.k.lo, k.magnitude.lo, four), lanes_fours(sum.hi, k.k.hi, k.magnitude.hi, four)};
}

/* 64 bytes without the 128 that they count more. */
AII_INLINE b64 codes_signed(const void *p)
{
  b64 v = b64_load(p);
  __m256i bias = _mm256_set1_epi8((char)0x80);
  return (b64){_mm256_xor_si256(v.lo, bias), _mm256_xor_si256(v.hi, bias)};
}

/* sum + the products of 64 unsigned with 64 signed bytes, four in each word; and half of the words added to the rest. */
#ifdef AII_AVXVNNI

AII_INLINE b64 codes_add(b64 sum, b64 codes, b64 query)
{
  return (b64){_mm256_dpbusd_avx_epi32(sum.lo, codes.lo, query.lo),
               _mm256_dpbusd_avx_epi32(sum.hi, codes.hi, query.hi)};
}

#else

/* In words of 16 bits: maddubs would saturate. */
AII_INLINE __m256i lanes_codes(__m256i sum, __m256i codes, __m256i query)
{
  __m256i zero = _mm256_setzero_si256(), sign = _mm256_cmpgt_epi8(zero, query);
  __m256i lo = _mm256_madd_epi16(_mm256_unpacklo_epi8(codes, zero), _mm256_unpacklo_epi8(query, sign));
  __m256i hi = _mm256_madd_epi16(_mm256_unpackhi_epi8(codes, zero), _mm256_unpackhi_epi8(query, sign));
  return _mm256_add_epi32(sum, _mm256_add_epi32(lo, hi));
}

AII_INLINE b64 codes_add(b64 sum, b64 codes, b64 query)
{
  return (b64){lanes_codes(sum.lo, codes.lo, query.lo), lanes_codes(sum.hi, codes.hi, query.hi)};
}

#endif

AII_INLINE __m256i codes_fold(b64 sum)
{
  return _mm256_add_epi32(sum.lo, sum.hi);
}

/* Two signed bytes of each of sixteen dims, as words; and sum + the dots of these with two int16. */
AII_INLINE b64 pairs_load(const void *p)
{
  const __m128i *q = p;
  return (b64){_mm256_cvtepi8_epi16(_mm_loadu_si128(q)), _mm256_cvtepi8_epi16(_mm_loadu_si128(q + 1))};
}

AII_INLINE b64 pairs_add(b64 sum, b64 v, const int16_t *x)
{
  __m256i pair = _mm256_castps_si256(_mm256_broadcast_ss((const float *)(const void *)x));
  return (b64){_mm256_add_epi32(sum.lo, _mm256_madd_epi16(v.lo, pair)),
               _mm256_add_epi32(sum.hi, _mm256_madd_epi16(v.hi, pair))};
}

#endif
