/* kernels/ref/encode.c - rows in the formats of 32 elements, in halves and in three values.
 *
 * Without an importance these are GGUF's own rules to the bit, so that files written here equal files written by
 * others. Rows of the K formats are in encode_k.c.
 */
#include "kernels/ref/encode.h"

void aii_encode_f32(const float *x, const float *importance, size_t n, void *row)
{
  (void)importance;
  aii_ref_quant_f32(x, n, row);
}

void aii_encode_f16(const float *x, const float *importance, size_t n, void *row)
{
  (void)importance;
  aii_ref_quant_f16(x, n, row);
}

void aii_encode_bf16(const float *x, const float *importance, size_t n, void *row)
{
  (void)importance;
  aii_ref_quant_bf16(x, n, row);
}

void aii_encode_q8_0(const float *x, const float *importance, size_t n, void *row)
{
  (void)importance; /* 8 bits lose nothing worth a search */
  aii_ref_quant_q8_0(x, n, row);
}

/* ---- four and five bits, with a scale or with scale and minimum ---- */

typedef struct small_block {
  float d, m;
  uint8_t q[32];
} small_block;

/* x over its largest magnitude, so that no square over- or underflows, and the weights of its errors. */
static float load_units(const float *x, const float *importance, float unit_x[32], float w[32])
{
  float unit = 0;
  for (int i = 0; i < 32; i++) unit = fabsf(x[i]) > unit ? fabsf(x[i]) : unit;
  for (int i = 0; i < 32; i++) unit_x[i] = unit > 0 ? x[i] / unit : 0;
  aii_fit_weights(unit_x, importance, 32, w);
  return unit;
}

static float half_of(float f)
{
  return aii_f16_to_f32(aii_f32_to_f16(f));
}

static uint8_t to_level(float v, int q_max)
{
  return !(v > 0) ? 0 : v < (float)q_max ? (uint8_t)v : (uint8_t)q_max;
}

/* x ~ d * (q - middle): the element of largest magnitude becomes -middle. */
static void scaled_block(const float *x, const float *importance, int middle, small_block *b)
{
  if (importance != NULL) {
    const aii_levels levels = {NULL, -middle, middle - 1};
    float unit_x[32], w[32], value[32], unit = load_units(x, importance, unit_x, w);
    b->d = half_of(aii_fit_scale(&levels, unit_x, w, 32) * unit);
    aii_fit_nearest(&levels, x, b->d != 0 ? 1 / b->d : 0, 32, value);
    for (int i = 0; i < 32; i++) b->q[i] = (uint8_t)((int)value[i] + middle);
    return;
  }
  float peak = 0;
  for (int i = 0; i < 32; i++) peak = fabsf(x[i]) > fabsf(peak) ? x[i] : peak;
  b->d = peak / (float)-middle;
  float inverse = b->d != 0 ? 1 / b->d : 0;
  for (int i = 0; i < 32; i++) b->q[i] = to_level(x[i] * inverse + ((float)middle + 0.5f), 2 * middle - 1);
}

/* x ~ d * q + m */
static void ranged_block(const float *x, const float *importance, int q_max, small_block *b)
{
  float lo = x[0], hi = x[0];
  for (int i = 1; i < 32; i++) {
    lo = x[i] < lo ? x[i] : lo;
    hi = x[i] > hi ? x[i] : hi;
  }
  b->d = (hi - lo) / (float)q_max;
  b->m = lo;
  if (importance != NULL) {
    float unit_x[32], w[32], minus, unit = load_units(x, importance, unit_x, w);
    b->d = half_of(aii_fit_scale_min(q_max, unit_x, w, 32, true, &minus) * unit);
    b->m = half_of(-minus * unit);
  }
  float inverse = b->d != 0 ? 1 / b->d : 0;
  for (int i = 0; i < 32; i++) b->q[i] = to_level((x[i] - b->m) * inverse + 0.5f, q_max);
}

/* Low nibbles, and the fifth bits before them when there are any. */
static void store_levels(const uint8_t q[32], bool five, unsigned char *p)
{
  if (five) {
    uint32_t high = 0;
    for (int i = 0; i < 32; i++) high |= (uint32_t)(q[i] >> 4) << i;
    memcpy(p, &high, sizeof high);
    p += sizeof high;
  }
  for (int i = 0; i < 16; i++) p[i] = (unsigned char)((q[i] & 15) | (q[i + 16] & 15) << 4);
}

static void scaled_row(const float *x, const float *importance, size_t n, bool five, unsigned char *p)
{
  for (size_t i = 0; i < n; i += 32, p += five ? 22 : 18) {
    small_block b;
    scaled_block(x + i, importance != NULL ? importance + i : NULL, five ? 16 : 8, &b);
    aii_store_half(p, b.d);
    store_levels(b.q, five, p + 2);
  }
}

static void ranged_row(const float *x, const float *importance, size_t n, bool five, unsigned char *p)
{
  for (size_t i = 0; i < n; i += 32, p += five ? 24 : 20) {
    small_block b;
    ranged_block(x + i, importance != NULL ? importance + i : NULL, five ? 31 : 15, &b);
    aii_store_half(p, b.d);
    aii_store_half(p + 2, b.m);
    store_levels(b.q, five, p + 4);
  }
}

void aii_encode_q4_0(const float *x, const float *importance, size_t n, void *row)
{
  scaled_row(x, importance, n, false, row);
}

void aii_encode_q5_0(const float *x, const float *importance, size_t n, void *row)
{
  scaled_row(x, importance, n, true, row);
}

void aii_encode_q4_1(const float *x, const float *importance, size_t n, void *row)
{
  ranged_row(x, importance, n, false, row);
}

void aii_encode_q5_1(const float *x, const float *importance, size_t n, void *row)
{
  ranged_row(x, importance, n, true, row);
}

/* ---- four bits through a table ---- */

void aii_encode_iq4_nl(const float *x, const float *importance, size_t n, void *row)
{
  const aii_levels levels = {aii_iq4_levels, 0, 15};
  unsigned char *p = row;
  for (size_t i = 0; i < n; i += 32, p += 18) {
    float unit_x[32], w[32], value[32];
    uint8_t q[32];
    float unit = load_units(x + i, importance != NULL ? importance + i : NULL, unit_x, w);
    aii_store_half(p, aii_fit_scale(&levels, unit_x, w, 32) * unit);
    float d = aii_f16_to_f32(aii_load_u16(p));
    aii_fit_nearest(&levels, x + i, d != 0 ? 1 / d : 0, 32, value);
    for (int k = 0; k < 32; k++) q[k] = (uint8_t)aii_fit_index(&levels, value[k]);
    store_levels(q, false, p + 2);
  }
}

/* The exponent puts the largest magnitude between 4 and 8, the range of the last doubled levels (6 is the largest). */
static uint8_t e8m0_of(float amax)
{
  if (amax == 0) return 0;
  float e = floorf((float)log2((double)amax)) - 2 + 127;
  return e > 0 ? (uint8_t)e : 0;
}

void aii_encode_mxfp4(const float *x, const float *importance, size_t n, void *row)
{
  unsigned char *p = row;
  (void)importance; /* the exponent leaves nothing to search for */
  for (size_t b = 0; b < n; b += 32, p += 17) {
    float amax = 0;
    uint8_t q[32];
    for (size_t i = b; i < b + 32; i++) amax = fabsf(x[i]) > amax ? fabsf(x[i]) : amax;
    p[0] = e8m0_of(amax);
    float d = aii_e8m0_half(p[0]);
    for (int i = 0; i < 32; i++) {
      float least = INFINITY;
      for (uint8_t k = 0; k < 16; k++) {
        float off = fabsf(d * (float)aii_fp4_levels[k] - x[b + (size_t)i]);
        if (off < least) {
          least = off;
          q[i] = k;
        }
      }
    }
    store_levels(q, false, p + 1);
  }
}

/* ---- three values: minus d, zero, d ---- */

static float trit_scale(const float *x, uint8_t trit[AII_QK])
{
  float d = 0;
  for (int i = 0; i < AII_QK; i++) d = fabsf(x[i]) > d ? fabsf(x[i]) : d;
  float inverse = d != 0 ? 1 / d : 0;
  for (int i = 0; i < AII_QK; i++) {
    float t = x[i] * inverse;
    trit[i] = (uint8_t)(1 + (t >= 0.5f) - (t <= -0.5f));
  }
  return d;
}

/* n bytes of five trits each, of which the last byte's may be fewer; rounded up so that multiplying gets them back. */
static void store_trits(const uint8_t *trit, int n, int count, unsigned char *p)
{
  for (int k = 0; k < n; k++) {
    int v = 0;
    for (int t = 0; t < 5; t++) v = 3 * v + (t < count ? trit[n * t + k] : 0);
    p[k] = (unsigned char)((v * 256 + 242) / 243);
  }
}

void aii_encode_tq1_0(const float *x, const float *importance, size_t n, void *row)
{
  unsigned char *p = row;
  (void)importance;
  for (size_t i = 0; i < n; i += AII_QK, p += 54) {
    uint8_t trit[AII_QK];
    aii_store_half(p + 52, trit_scale(x + i, trit));
    store_trits(trit, 32, 5, p);
    store_trits(trit + 160, 16, 5, p + 32);
    store_trits(trit + 240, 4, 4, p + 48);
  }
}

void aii_encode_tq2_0(const float *x, const float *importance, size_t n, void *row)
{
  unsigned char *p = row;
  (void)importance;
  for (size_t i = 0; i < n; i += AII_QK, p += 66) {
    uint8_t trit[AII_QK];
    aii_store_half(p + 64, trit_scale(x + i, trit));
    for (int k = 0; k < 64; k++) {
      const uint8_t *t = trit + k / 32 * 128 + k % 32;
      p[k] = (unsigned char)(t[0] | t[32] << 2 | t[64] << 4 | t[96] << 6);
    }
  }
}
