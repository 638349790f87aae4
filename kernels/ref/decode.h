/* kernels/ref/decode.h - a block of any format without products of its own to floats, exactly as GGUF defines it.
 *
 * Included once by each table, so that the compiler makes vector code of the same lines for every instruction set. Each
 * element is computed by itself and nothing is contracted: the bits are the same everywhere.
 */
#ifndef AII_REF_DECODE_H
#define AII_REF_DECODE_H

#include "kernels/ref/ref.h"

static inline float block_half(const unsigned char *p)
{
  return aii_f16_to_f32(aii_load_u16(p));
}

static inline float float_of_bits(uint32_t u)
{
  float f;
  memcpy(&f, &u, sizeof f);
  return f;
}

static inline uint32_t load_u32(const unsigned char *p)
{
  uint32_t v;
  memcpy(&v, p, sizeof v);
  return v;
}

/* ---- blocks of 32: a scale, perhaps a minimum ---- */

static inline void q4_1_block(const unsigned char *p, float *restrict out)
{
  float d = block_half(p), m = block_half(p + 2);
  for (int i = 0; i < 16; i++) {
    out[i] = d * (float)(p[4 + i] & 15) + m;
    out[i + 16] = d * (float)(p[4 + i] >> 4) + m;
  }
}

static inline void q5_0_block(const unsigned char *p, float *restrict out)
{
  float d = block_half(p);
  uint32_t high = load_u32(p + 2);
  for (int i = 0; i < 16; i++) {
    out[i] = d * (float)((int)((p[6 + i] & 15u) | (high >> i & 1u) << 4) - 16);
    out[i + 16] = d * (float)((int)((unsigned)p[6 + i] >> 4 | (high >> (i + 16) & 1u) << 4) - 16);
  }
}

static inline void q5_1_block(const unsigned char *p, float *restrict out)
{
  float d = block_half(p), m = block_half(p + 2);
  uint32_t high = load_u32(p + 4);
  for (int i = 0; i < 16; i++) {
    out[i] = d * (float)((p[8 + i] & 15u) | (high >> i & 1u) << 4) + m;
    out[i + 16] = d * (float)((unsigned)p[8 + i] >> 4 | (high >> (i + 16) & 1u) << 4) + m;
  }
}

/* ---- the K formats: 256 elements in sub-blocks whose scales are small integers times one half ---- */

static inline void q2_k_block(const unsigned char *p, float *restrict out)
{
  float d = block_half(p + 80), dmin = block_half(p + 82);
  for (int i = 0; i < 16; i++) { /* sub-block i: half i / 8, shift 2 * (i / 2 % 4), bytes 16 * (i % 2)... */
    const unsigned char *q = p + 16 + 32 * (i / 8) + 16 * (i % 2);
    int shift = 2 * (i / 2 % 4);
    float scale = d * (float)(p[i] & 15), min = dmin * (float)(p[i] >> 4);
    for (int k = 0; k < 16; k++) out[16 * i + k] = scale * (float)(q[k] >> shift & 3) - min;
  }
}

static inline void q3_k_block(const unsigned char *p, float *restrict out)
{
  const unsigned char *sc = p + 96;
  float d = block_half(p + 108);
  for (int i = 0; i < 16; i++) {
    const unsigned char *high = p + 16 * (i % 2), *q = p + 32 + 32 * (i / 8) + 16 * (i % 2);
    int low4 = i < 8 ? sc[i] & 15 : sc[i - 8] >> 4, high2 = sc[8 + i % 4] >> 2 * (i / 4) & 3;
    int shift = 2 * (i / 2 % 4), bit = i / 2;
    float scale = d * (float)((low4 | high2 << 4) - 32);
    for (int k = 0; k < 16; k++) out[16 * i + k] = scale * (float)((q[k] >> shift & 3) - 4 + (high[k] >> bit & 1) * 4);
  }
}

/* Scale and minimum j of the 12 bytes that pack 8 of each with 6 bits. */
static inline void k_scale_min(const unsigned char *sc, int j, int *scale, int *min)
{
  *scale = j < 4 ? sc[j] & 63 : (sc[j + 4] & 15) | sc[j - 4] >> 6 << 4;
  *min = j < 4 ? sc[j + 4] & 63 : sc[j + 4] >> 4 | sc[j] >> 6 << 4;
}

static inline void q4_k_block(const unsigned char *p, float *restrict out)
{
  float d = block_half(p), dmin = block_half(p + 2);
  for (int j = 0; j < 8; j++) {
    const unsigned char *q = p + 16 + 32 * (j / 2);
    int s, m, shift = 4 * (j % 2);
    k_scale_min(p + 4, j, &s, &m);
    float scale = d * (float)s, min = dmin * (float)m;
    for (int k = 0; k < 32; k++) out[32 * j + k] = scale * (float)(q[k] >> shift & 15) - min;
  }
}

static inline void q5_k_block(const unsigned char *p, float *restrict out)
{
  const unsigned char *high = p + 16;
  float d = block_half(p), dmin = block_half(p + 2);
  for (int j = 0; j < 8; j++) {
    const unsigned char *q = p + 48 + 32 * (j / 2);
    int s, m, shift = 4 * (j % 2);
    k_scale_min(p + 4, j, &s, &m);
    float scale = d * (float)s, min = dmin * (float)m;
    for (int k = 0; k < 32; k++)
      out[32 * j + k] = scale * (float)((q[k] >> shift & 15) | (high[k] >> j & 1) << 4) - min;
  }
}

static inline void q6_k_block(const unsigned char *p, float *restrict out)
{
  float d = block_half(p + 208);
  for (int i = 0; i < 16; i++) { /* 16 elements of quarter t of half h */
    int h = i / 8, t = i / 2 % 4, at = 16 * (i % 2), low_shift = 4 * (t / 2), high_shift = 2 * t;
    const unsigned char *low = p + 64 * h + 32 * (t % 2) + at, *high = p + 128 + 32 * h + at;
    float scale = d * (float)(int8_t)p[192 + i];
    for (int k = 0; k < 16; k++)
      out[16 * i + k] = scale * (float)(((low[k] >> low_shift & 15) | (high[k] >> high_shift & 3) << 4) - 32);
  }
}

/* ---- four bits through a table ---- */

static inline void table_nibbles(const unsigned char *q, int n, const int8_t *table, float scale, float *restrict out)
{
  for (int i = 0; i < n; i++) {
    out[i] = scale * (float)table[q[i] & 15];
    out[i + n] = scale * (float)table[q[i] >> 4];
  }
}

static inline void iq4_nl_block(const unsigned char *p, float *restrict out)
{
  table_nibbles(p + 2, 16, aii_iq4_levels, block_half(p), out);
}

static inline void iq4_xs_block(const unsigned char *p, float *restrict out)
{
  float d = block_half(p);
  int high = aii_load_u16(p + 2);
  for (int i = 0; i < 8; i++) {
    int scale = (p[4 + i / 2] >> 4 * (i % 2) & 15) | (high >> 2 * i & 3) << 4;
    table_nibbles(p + 8 + 16 * i, 16, aii_iq4_levels, d * (float)(scale - 32), out + 32 * i);
  }
}

static inline void mxfp4_block(const unsigned char *p, float *restrict out)
{
  table_nibbles(p + 1, 16, aii_fp4_levels, aii_e8m0_half(p[0]), out);
}

/* Half of an unsigned E4M3: the levels are twice the FP4 values. */
static inline float ue4m3_half(unsigned char s)
{
  uint32_t e = s >> 3 & 15u, f = s & 7u;
  if (s == 0x7f) return 0;
  return e == 0 ? (float)f * 0x1p-10f : float_of_bits((e + 119) << 23 | f << 20);
}

static inline void nvfp4_block(const unsigned char *p, float *restrict out)
{
  for (int g = 0; g < 4; g++) table_nibbles(p + 4 + 8 * g, 8, aii_fp4_levels, ue4m3_half(p[g]), out + 16 * g);
}

/* ---- one and two bits, three values ---- */

static inline void tq1_0_trits(const unsigned char *q, int n, int powers, float d, float *restrict out)
{
  static const unsigned char pow3[5] = {1, 3, 9, 27, 81};
  for (int t = 0; t < powers; t++)
    for (int k = 0; k < n; k++) {
      int v = (q[k] * pow3[t] & 255) * 3 >> 8;
      out[n * t + k] = d * (float)(v - 1);
    }
}

static inline void tq1_0_block(const unsigned char *p, float *restrict out)
{
  float d = block_half(p + 52);
  tq1_0_trits(p, 32, 5, d, out);
  tq1_0_trits(p + 32, 16, 5, d, out + 160);
  tq1_0_trits(p + 48, 4, 4, d, out + 240);
}

static inline void tq2_0_block(const unsigned char *p, float *restrict out)
{
  float d = block_half(p + 64);
  for (int i = 0; i < 8; i++) /* half i / 4, shift 2 * (i % 4) */
    for (int k = 0; k < 32; k++) out[32 * i + k] = d * (float)((p[32 * (i / 4) + k] >> 2 * (i % 4) & 3) - 1);
}

static inline void q1_0_block(const unsigned char *p, float *restrict out)
{
  float d = block_half(p);
  for (int i = 0; i < 128; i++) out[i] = (p[2 + i / 8] >> i % 8 & 1) != 0 ? d : -d;
}

static inline void q2_0_block(const unsigned char *p, float *restrict out)
{
  float d = block_half(p);
  for (int i = 0; i < 64; i++) out[i] = d * (float)((p[2 + i / 4] >> 2 * (i % 4) & 3) - 1);
}

/* ---- plain numbers ---- */

static inline void i8_block(const unsigned char *p, float *restrict out)
{
  *out = (float)(int8_t)*p;
}

static inline void i16_block(const unsigned char *p, float *restrict out)
{
  *out = (float)(int16_t)aii_load_u16(p);
}

static inline void i32_block(const unsigned char *p, float *restrict out)
{
  *out = (float)(int32_t)load_u32(p);
}

static inline void i64_block(const unsigned char *p, float *restrict out)
{
  int64_t v;
  memcpy(&v, p, sizeof v);
  *out = (float)v;
}

static inline void f64_block(const unsigned char *p, float *restrict out)
{
  double v;
  memcpy(&v, p, sizeof v);
  *out = (float)v;
}

/* ---- rows of blocks, and their places in a table ---- */

#define AII_DECODE_ROW(NAME, name, id, block, bytes, encode)                                   \
  static inline void decode_##name(const void *row, size_t n, float *out)                      \
  {                                                                                            \
    const unsigned char *p = row;                                                              \
    for (size_t b = 0; b < n / (block); b++, p += (bytes)) name##_block(p, out + b * (block)); \
  }
AII_PANEL_FORMATS(AII_DECODE_ROW)
AII_UNPACKED_FORMATS(AII_DECODE_ROW)
#undef AII_DECODE_ROW

#define AII_DECODER(NAME, name, ...) decode_##name,
#define AII_DECODERS AII_PANEL_FORMATS(AII_DECODER) AII_UNPACKED_FORMATS(AII_DECODER)

#endif
