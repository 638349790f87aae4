/* simde_avx512.h - the AVX-512 intrinsics that our kernels use, on a CPU that has AVX2 only. */
#ifndef AII_TESTS_SIMDE_AVX512_H
#define AII_TESTS_SIMDE_AVX512_H

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wall"
#pragma GCC diagnostic ignored "-Wextra"
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <immintrin.h>
#include <simde/x86/avx512.h>
#pragma GCC diagnostic pop

#include <stdint.h>
#include <string.h>

/* Both halves of a wide register. */
typedef union halves {
  simde__m512 f;
  simde__m512i i;
  __m256 half_f[2];
  __m256i half_i[2];
  __m128i quarter[4];
  int32_t i32[16];
  uint8_t u8[64];
  int8_t i8[64];
} halves;

static inline __attribute__((always_inline)) simde__m512 emulate_cvtph(__m256i h)
{
  halves r;
  r.half_f[0] = _mm256_cvtph_ps(_mm256_castsi256_si128(h));
  r.half_f[1] = _mm256_cvtph_ps(_mm256_extracti128_si256(h, 1));
  return r.f;
}

static inline __attribute__((always_inline)) __m256i emulate_cvtps_ph(simde__m512 f)
{
  halves a = {.f = f};
  __m128i lo = _mm256_cvtps_ph(a.half_f[0], 0), hi = _mm256_cvtps_ph(a.half_f[1], 0);
  return _mm256_inserti128_si256(_mm256_castsi128_si256(lo), hi, 1);
}

static inline __attribute__((always_inline)) simde__m512i emulate_cvtepu16(__m256i h)
{
  halves r;
  r.half_i[0] = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(h));
  r.half_i[1] = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(h, 1));
  return r.i;
}

static inline __attribute__((always_inline)) simde__m512i emulate_cvtepi8(__m128i q)
{
  halves r;
  r.half_i[0] = _mm256_cvtepi8_epi32(q);
  r.half_i[1] = _mm256_cvtepi8_epi32(_mm_srli_si128(q, 8));
  return r.i;
}

static inline __attribute__((always_inline)) simde__m512 emulate_cvtepi32_ps(simde__m512i i)
{
  halves a = {.i = i}, r;
  for (int h = 0; h < 2; h++) r.half_f[h] = _mm256_cvtepi32_ps(a.half_i[h]);
  return r.f;
}

static inline __attribute__((always_inline)) simde__m512i emulate_cvtps_epi32(simde__m512 f)
{
  halves a = {.f = f}, r;
  for (int h = 0; h < 2; h++) r.half_i[h] = _mm256_cvtps_epi32(a.half_f[h]);
  return r.i;
}

static inline __attribute__((always_inline)) __m128i emulate_cvtsepi32_epi8(simde__m512i i)
{
  halves a = {.i = i};
  int8_t q[16];
  for (int j = 0; j < 16; j++) q[j] = (int8_t)(a.i32[j] > 127 ? 127 : a.i32[j] < -128 ? -128 : a.i32[j]);
  __m128i r;
  memcpy(&r, q, sizeof r);
  return r;
}

static inline __attribute__((always_inline)) __m256i emulate_cvtepi32_epi16(simde__m512i i)
{
  halves a = {.i = i};
  int16_t q[16];
  for (int j = 0; j < 16; j++) q[j] = (int16_t)a.i32[j];
  __m256i r;
  memcpy(&r, q, sizeof r);
  return r;
}

static inline __attribute__((always_inline)) simde__m512 emulate_roundscale(simde__m512 f)
{
  halves a = {.f = f}, r;
  for (int h = 0; h < 2; h++) r.half_f[h] = _mm256_round_ps(a.half_f[h], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  return r.f;
}

static inline __attribute__((always_inline)) simde__m512i emulate_dpbusd(simde__m512i sum, simde__m512i u,
                                                                         simde__m512i s)
{
  halves r = {.i = sum}, a = {.i = u}, b = {.i = s};
  for (int j = 0; j < 64; j++) r.i32[j / 4] += (int32_t)a.u8[j] * b.i8[j];
  return r.i;
}

static inline __attribute__((always_inline)) __m256 emulate_upper(simde__m512 f)
{
  halves a = {.f = f};
  return a.half_f[1];
}

static inline __attribute__((always_inline)) __m256i emulate_upper_i(simde__m512i i)
{
  halves a = {.i = i};
  return a.half_i[1];
}

static inline __attribute__((always_inline)) simde__m512i emulate_madd(simde__m512i x, simde__m512i y)
{
  halves a = {.i = x}, b = {.i = y}, r;
  for (int h = 0; h < 2; h++) r.half_i[h] = _mm256_madd_epi16(a.half_i[h], b.half_i[h]);
  return r.i;
}

static inline __attribute__((always_inline)) simde__m512i emulate_cvtepu8(__m128i q)
{
  halves r;
  r.half_i[0] = _mm256_cvtepu8_epi32(q);
  r.half_i[1] = _mm256_cvtepu8_epi32(_mm_srli_si128(q, 8));
  return r.i;
}

static inline __attribute__((always_inline)) simde__m512i emulate_blend16(uint32_t mask, simde__m512i x, simde__m512i y)
{
  int16_t a[32], b[32];
  simde__m512i r;
  memcpy(a, &x, sizeof a);
  memcpy(b, &y, sizeof b);
  for (int j = 0; j < 32; j++) a[j] = (mask >> j & 1) != 0 ? b[j] : a[j];
  memcpy(&r, a, sizeof r);
  return r;
}

static inline __attribute__((always_inline)) simde__m512i emulate_srai32(simde__m512i x, int n)
{
  halves a = {.i = x}, r;
  for (int h = 0; h < 2; h++) r.half_i[h] = _mm256_srai_epi32(a.half_i[h], n);
  return r.i;
}

#undef _mm512_madd_epi16
#undef _mm512_srai_epi32
#define _mm512_srai_epi32(a, n) emulate_srai32(a, n)
#undef _mm512_cvtepu8_epi32
#undef _mm512_mask_blend_epi16
#define _mm512_madd_epi16(a, b) emulate_madd(a, b)
#define _mm512_cvtepu8_epi32(a) emulate_cvtepu8(a)
#define _mm512_mask_blend_epi16(mask, a, b) emulate_blend16(mask, a, b)
#undef _mm512_cvtph_ps
#undef _mm512_cvtps_ph
#undef _mm512_cvtepu16_epi32
#undef _mm512_cvtepi8_epi32
#undef _mm512_cvtepi32_ps
#undef _mm512_cvtps_epi32
#undef _mm512_cvtsepi32_epi8
#undef _mm512_cvtepi32_epi16
#undef _mm512_roundscale_ps
#undef _mm512_dpbusd_epi32
#undef _mm512_extractf32x8_ps
#define _mm512_cvtph_ps(a) emulate_cvtph(a)
#define _mm512_cvtps_ph(a, mode) emulate_cvtps_ph(a)
#define _mm512_cvtepu16_epi32(a) emulate_cvtepu16(a)
#define _mm512_cvtepi8_epi32(a) emulate_cvtepi8(a)
#define _mm512_cvtepi32_ps(a) emulate_cvtepi32_ps(a)
#define _mm512_cvtps_epi32(a) emulate_cvtps_epi32(a)
#define _mm512_cvtsepi32_epi8(a) emulate_cvtsepi32_epi8(a)
#define _mm512_cvtepi32_epi16(a) emulate_cvtepi32_epi16(a)
#define _mm512_roundscale_ps(a, mode) emulate_roundscale(a)
#define _mm512_dpbusd_epi32(sum, u, s) emulate_dpbusd(sum, u, s)
#define _mm512_extractf32x8_ps(a, half) emulate_upper(a)
#undef _mm512_extracti64x4_epi64
#define _mm512_extracti64x4_epi64(a, half) emulate_upper_i(a)

#endif
