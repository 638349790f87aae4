/* kernels/cuda/decode.h - weights of formats without panels of their own, decoded where they are multiplied.
 *
 * They lie as they do in files, but 16 rows together: a block of each row, then the next block of each. kernels/ref/decode.h
 * has the same numbers, to the bit. A piece is 16 adjacent elements of a row.
 */
#ifndef AII_KERNELS_CUDA_DECODE_H
#define AII_KERNELS_CUDA_DECODE_H

#include "kernels/cuda/product.h"

namespace aii
{

enum { PIECE = 16 };

#define AII_DECODED_FORMATS(X) X(Q2_K) X(Q3_K) X(IQ4_XS) X(TQ1_0) X(TQ2_0) X(NVFP4) X(Q1_0) X(Q2_0)

#define AII_IS_FORMAT(NAME) || f == AII_FMT_##NAME
AII_PANEL_FN bool is_decoded(aii_fmt f)
{
  return false AII_DECODED_FORMATS(AII_IS_FORMAT);
}
#undef AII_IS_FORMAT

/* Elements of a block, and its bytes. */
template <aii_fmt F> struct block_of;
#define AII_BLOCK_OF(NAME, name, id, elements, bytes_, encoder) \
  template <> struct block_of<AII_FMT_##NAME> {                 \
    static const uint32_t n = elements, bytes = bytes_;         \
  };
AII_UNPACKED_FORMATS(AII_BLOCK_OF)
#undef AII_BLOCK_OF

__device__ inline float half_of(const unsigned char *p) /* blocks lie at even addresses */
{
  return float_of_half(load_u16(p));
}

__device__ inline uint32_t four_bytes(const unsigned char *p)
{
  return load_u16(p) | (uint32_t)load_u16(p + 2) << 16;
}

/* Four bits of each of 16 (or 8) bytes through a table: level times scale. */
template <int N>
__device__ inline void table_levels(const unsigned char *q, int shift, const uint32_t table[4], float scale, float *out)
{
  for (int i = 0; i < N; i += 4) {
    uint32_t level = look_up(table, four_bytes(q + i) >> shift & 0x0f0f0f0fu);
    for (int j = 0; j < 4; j++) out[i + j] = scale * (float)(int8_t)(level >> (8 * j));
  }
}

/* Piece s of a block. */
template <aii_fmt F> struct decoder;

template <> struct decoder<AII_FMT_Q2_K> {
  static __device__ inline void piece(const unsigned char *p, uint32_t s, float *out)
  {
    const unsigned char *q = p + 16 + 32 * (s / 8) + 16 * (s % 2);
    const uint32_t shift = 2 * (s / 2 % 4);
    const float scale = half_of(p + 80) * (float)(p[s] & 15), least = half_of(p + 82) * (float)(p[s] >> 4);
    for (int i = 0; i < PIECE; i += 4) {
      uint32_t code = four_bytes(q + i) >> shift & 0x03030303u;
      for (int j = 0; j < 4; j++) out[i + j] = scale * (float)(code >> (8 * j) & 3) - least;
    }
  }
};

template <> struct decoder<AII_FMT_Q3_K> {
  static __device__ inline void piece(const unsigned char *p, uint32_t s, float *out)
  {
    const unsigned char *scales = p + 96, *high = p + 16 * (s % 2), *q = p + 32 + 32 * (s / 8) + 16 * (s % 2);
    const int low4 = s < 8 ? scales[s] & 15 : scales[s - 8] >> 4, high2 = scales[8 + s % 4] >> 2 * (s / 4) & 3;
    const uint32_t shift = 2 * (s / 2 % 4), bit = s / 2;
    const float scale = half_of(p + 108) * (float)((low4 | high2 << 4) - 32);
    for (int i = 0; i < PIECE; i += 4) {
      uint32_t code = (four_bytes(q + i) >> shift & 0x03030303u) | (four_bytes(high + i) >> bit & 0x01010101u) << 2;
      for (int j = 0; j < 4; j++) out[i + j] = scale * (float)((int)(code >> (8 * j) & 7) - 4);
    }
  }
};

template <> struct decoder<AII_FMT_IQ4_XS> {
  static __device__ inline void piece(const unsigned char *p, uint32_t s, float *out)
  {
    const uint32_t block = s / 2,
                   scale = (p[4 + block / 2] >> 4 * (block % 2) & 15) | (load_u16(p + 2) >> 2 * block & 3) << 4;
    table_levels<PIECE>(p + 8 + 16 * block, 4 * (int)(s % 2), iq4_table().words, half_of(p) * (float)((int)scale - 32),
                        out);
  }
};

template <> struct decoder<AII_FMT_NVFP4> {
  /* Half of an unsigned E4M3: the levels are twice the FP4 values. */
  static __device__ inline float scale_of(uint32_t s)
  {
    const uint32_t e = s >> 3 & 15u, f = s & 7u;
    if (s == 0x7f) return 0;
    return e == 0 ? (float)f * 0x1p-10f : float_of_bits((e + 119) << 23 | f << 20);
  }

  static __device__ inline void piece(const unsigned char *p, uint32_t s, float *out)
  {
    const float scale = scale_of(p[s]);
    table_levels<PIECE / 2>(p + 4 + 8 * s, 0, fp4_table().words, scale, out);
    table_levels<PIECE / 2>(p + 4 + 8 * s, 4, fp4_table().words, scale, out + PIECE / 2);
  }
};

template <> struct decoder<AII_FMT_TQ1_0> {
  /* Digit `power` of the base 3 number that q / 256 begins with, less one. */
  static __device__ inline float digit(uint32_t q, uint32_t power)
  {
    const uint32_t pow3 = power == 0 ? 1 : power == 1 ? 3 : power == 2 ? 9 : power == 3 ? 27 : 81;
    return (float)((int)((q * pow3 & 255) * 3 >> 8) - 1);
  }

  static __device__ inline void piece(const unsigned char *p, uint32_t s, float *out)
  {
    const float d = half_of(p + 52);
    for (uint32_t i = 0; i < PIECE; i++) {
      if (s < 10) out[i] = d * digit(p[16 * (s % 2) + i], s / 2);
      else if (s < 15) out[i] = d * digit(p[32 + i], s - 10);
      else out[i] = d * digit(p[48 + i % 4], i / 4);
    }
  }
};

template <> struct decoder<AII_FMT_TQ2_0> {
  static __device__ inline void piece(const unsigned char *p, uint32_t s, float *out)
  {
    const unsigned char *q = p + 32 * (s / 8) + 16 * (s % 2);
    const float d = half_of(p + 64);
    for (int i = 0; i < PIECE; i++) out[i] = d * (float)((int)(q[i] >> (2 * (s / 2 % 4)) & 3) - 1);
  }
};

template <> struct decoder<AII_FMT_Q1_0> {
  static __device__ inline void piece(const unsigned char *p, uint32_t s, float *out)
  {
    const float d = half_of(p);
    const uint32_t bits = load_u16(p + 2 + 2 * s);
    for (int i = 0; i < PIECE; i++) out[i] = (bits >> i & 1) != 0 ? d : -d;
  }
};

template <> struct decoder<AII_FMT_Q2_0> {
  static __device__ inline void piece(const unsigned char *p, uint32_t s, float *out)
  {
    const float d = half_of(p);
    const uint32_t bits = four_bytes(p + 2 + 4 * s);
    for (int i = 0; i < PIECE; i++) out[i] = d * (float)((int)(bits >> (2 * i) & 3) - 1);
  }
};

/* Elements k .. k + 15 of a row of a panel. */
template <aii_fmt F>
__device__ inline void decode_piece(const unsigned char *panel, uint32_t row, uint32_t k, float out[PIECE])
{
  typedef block_of<F> B;
  decoder<F>::piece(panel + ((size_t)(k / B::n) * AII_PANEL + row) * B::bytes, k % B::n / PIECE, out);
}

} // namespace aii

#endif
