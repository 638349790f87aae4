/* kernels/ref/encode_k.c - rows of 256-element blocks: sub-blocks whose scales are small integers times one half.
 *
 * Each sub-block first gets the scale (and minimum) that fits it best; the largest fixes the block's half; the others
 * become integers, and each integer gives way to a neighbour where that errs less. Last, the halves are solved anew for
 * the integers found. The block is searched in units of its largest magnitude, so that no square over- or underflows.
 */
#include "kernels/ref/encode.h"

typedef struct k_shape {
  int n_sub;         /* 16 of 16 elements, or 8 of 32 */
  aii_levels levels; /* with minima: 0..hi */
  int s_lo, s_hi;    /* integers that scales become; minima 0..s_hi */
} k_shape;

typedef struct k_block {
  const k_shape *shape;
  float unit;
  float x[AII_QK], w[AII_QK];
  float d, dmin; /* exact halves, over unit */
  uint16_t d_half, dmin_half;
  int s[16], m[16];
  int8_t q[AII_QK];
} k_block;

static void load_block(k_block *b, const k_shape *shape, const float *x, const float *importance)
{
  memset(b, 0, sizeof *b);
  b->shape = shape;
  for (int i = 0; i < AII_QK; i++) b->unit = fabsf(x[i]) > b->unit ? fabsf(x[i]) : b->unit;
  for (int i = 0; i < AII_QK; i++) b->x[i] = b->unit > 0 ? x[i] / b->unit : 0;
  aii_fit_weights(b->x, importance, AII_QK, b->w);
}

static float to_half(const k_block *b, float v, uint16_t *half)
{
  *half = aii_f32_to_f16(v * b->unit);
  return b->unit > 0 ? aii_f16_to_f32(*half) / b->unit : 0;
}

static int to_int(float v, int lo, int hi)
{
  return !(v > (float)lo) ? lo : v < (float)hi ? (int)rintf(v) : hi;
}

static int sub_len(const k_block *b)
{
  return AII_QK / b->shape->n_sub;
}

/* Levels of sub-block j with these integers, and their error. */
static float levels_of(const k_block *b, int j, int s, int m, float *value)
{
  int n = sub_len(b), first = j * n;
  float scale = b->d * (float)s, min = b->dmin * (float)m, shifted[32] = {0}, off[32];
  for (int i = 0; i < n; i++) shifted[i] = b->x[first + i] + min;
  aii_fit_nearest(&b->shape->levels, shifted, scale != 0 ? 1 / scale : 0, n, value);
  for (int i = 0; i < n; i++) off[i] = shifted[i] - scale * value[i];
  return aii_fit_sum(b->w + first, off, off, n);
}

/* Moves the integers of every sub-block to the best of their neighbours. */
static void improve_integers(k_block *b, bool with_min)
{
  for (int j = 0; j < b->shape->n_sub; j++) {
    float value[32], best = INFINITY;
    int s0 = b->s[j], m0 = b->m[j];
    for (int s = s0 - 1; s <= s0 + 1; s++)
      for (int m = with_min ? m0 - 1 : 0; m <= (with_min ? m0 + 1 : 0); m++) {
        if (s < b->shape->s_lo || s > b->shape->s_hi || m < 0 || m > b->shape->s_hi) continue;
        float error = levels_of(b, j, s, m, value);
        if (error < best) {
          best = error;
          b->s[j] = s;
          b->m[j] = m;
        }
      }
  }
}

/* The error of the whole block, and the best real d and dmin for its integers and levels. */
static double solve(const k_block *b, bool with_min, float *d, float *dmin)
{
  double aa = 0, am = 0, mm = 0, xa = 0, xm = 0, error = 0;
  int n = sub_len(b);
  for (int j = 0; j < b->shape->n_sub; j++) {
    float value[32];
    error += (double)levels_of(b, j, b->s[j], b->m[j], value);
    for (int i = 0; i < n; i++) {
      double w = (double)b->w[j * n + i], x = (double)b->x[j * n + i], a = (double)value[i] * b->s[j], m = b->m[j];
      aa += w * a * a;
      am += w * a * m;
      mm += w * m * m;
      xa += w * x * a;
      xm += w * x * m;
    }
  }
  double det = aa * mm - am * am;
  *d = aa > 0 ? (float)(xa / aa) : b->d;
  *dmin = 0;
  if (with_min && det > 0) {
    *d = (float)((mm * xa - am * xm) / det);
    *dmin = (float)((am * xa - aa * xm) / det);
  }
  return error;
}

/* Solved halves stay only if the block errs less with them. */
static void improve_halves(k_block *b, bool with_min)
{
  float d, dmin, ignored[2];
  double error = solve(b, with_min, &d, &dmin);
  k_block old = *b;
  b->d = to_half(b, d, &b->d_half);
  b->dmin = to_half(b, dmin, &b->dmin_half);
  improve_integers(b, with_min);
  if (!(solve(b, with_min, &ignored[0], &ignored[1]) < error) || b->d_half >= 0x7c00 || b->dmin < 0) *b = old;
}

static void fit_block(k_block *b, bool with_min)
{
  const k_shape *shape = b->shape;
  int n = sub_len(b);
  float scale[16], min[16] = {0}, top = 0, top_min = 0;
  for (int j = 0; j < shape->n_sub; j++) {
    const float *x = b->x + j * n, *w = b->w + j * n;
    scale[j] = with_min ? aii_fit_scale_min(shape->levels.hi, x, w, n, false, &min[j])
                        : aii_fit_scale(&shape->levels, x, w, n);
    top = fabsf(scale[j]) > fabsf(top) ? scale[j] : top;
    top_min = min[j] > top_min ? min[j] : top_min;
  }
  b->d = to_half(b, top / (float)(shape->s_lo < 0 ? shape->s_lo : shape->s_hi), &b->d_half);
  b->dmin = to_half(b, top_min / (float)shape->s_hi, &b->dmin_half);
  for (int j = 0; j < shape->n_sub; j++) {
    b->s[j] = b->d != 0 ? to_int(scale[j] / b->d, shape->s_lo, shape->s_hi) : 0;
    b->m[j] = b->dmin != 0 ? to_int(min[j] / b->dmin, 0, shape->s_hi) : 0;
  }
  improve_integers(b, with_min);
  improve_halves(b, with_min);
  improve_halves(b, with_min);
  for (int j = 0; j < shape->n_sub; j++) {
    float value[32];
    (void)levels_of(b, j, b->s[j], b->m[j], value);
    for (int i = 0; i < n; i++) b->q[j * n + i] = aii_fit_index(&shape->levels, value[i]);
  }
}

static void encode_block(k_block *b, const k_shape *shape, bool with_min, const float *x, const float *importance)
{
  load_block(b, shape, x, importance);
  fit_block(b, with_min);
}

static const float *part(const float *importance, size_t i)
{
  return importance != NULL ? importance + i : NULL;
}

/* ---- how each format packs them ---- */

void aii_encode_q2_k(const float *x, const float *importance, size_t n, void *row)
{
  static const k_shape shape = {16, {NULL, 0, 3}, 0, 15};
  unsigned char *p = row;
  for (size_t i = 0; i < n; i += AII_QK, p += 84) {
    k_block b;
    encode_block(&b, &shape, true, x + i, part(importance, i));
    memset(p, 0, 84);
    for (int j = 0; j < 16; j++) p[j] = (unsigned char)(b.s[j] | b.m[j] << 4);
    for (int k = 0; k < AII_QK; k++) p[16 + k / 128 * 32 + k % 32] |= (unsigned char)(b.q[k] << 2 * (k / 32 % 4));
    memcpy(p + 80, &b.d_half, 2);
    memcpy(p + 82, &b.dmin_half, 2);
  }
}

void aii_encode_q3_k(const float *x, const float *importance, size_t n, void *row)
{
  static const k_shape shape = {16, {NULL, -4, 3}, -32, 31};
  unsigned char *p = row;
  for (size_t i = 0; i < n; i += AII_QK, p += 110) {
    k_block b;
    encode_block(&b, &shape, false, x + i, part(importance, i));
    memset(p, 0, 110);
    for (int k = 0; k < AII_QK; k++) {
      int q = b.q[k] + 4;
      p[k % 32] |= (unsigned char)((q >> 2) << k / 32);
      p[32 + k / 128 * 32 + k % 32] |= (unsigned char)((q & 3) << 2 * (k / 32 % 4));
    }
    for (int j = 0; j < 16; j++) {
      int s = b.s[j] + 32;
      p[96 + j % 8] |= (unsigned char)((s & 15) << 4 * (j / 8));
      p[104 + j % 4] |= (unsigned char)((s >> 4) << 2 * (j / 4));
    }
    memcpy(p + 108, &b.d_half, 2);
  }
}

/* The 12 bytes that pack 8 scales and 8 minima with 6 bits. */
static void store_scale_min(const k_block *b, unsigned char *sc)
{
  for (int j = 0; j < 4; j++) {
    sc[j] = (unsigned char)(b->s[j] | (b->s[j + 4] >> 4) << 6);
    sc[j + 4] = (unsigned char)(b->m[j] | (b->m[j + 4] >> 4) << 6);
    sc[j + 8] = (unsigned char)((b->s[j + 4] & 15) | (b->m[j + 4] & 15) << 4);
  }
}

void aii_encode_q4_k(const float *x, const float *importance, size_t n, void *row)
{
  static const k_shape shape = {8, {NULL, 0, 15}, 0, 63};
  unsigned char *p = row;
  for (size_t i = 0; i < n; i += AII_QK, p += 144) {
    k_block b;
    encode_block(&b, &shape, true, x + i, part(importance, i));
    memcpy(p, &b.d_half, 2);
    memcpy(p + 2, &b.dmin_half, 2);
    store_scale_min(&b, p + 4);
    for (int k = 0; k < 128; k++) {
      const int8_t *q = b.q + k / 32 * 64 + k % 32;
      p[16 + k] = (unsigned char)(q[0] | q[32] << 4);
    }
  }
}

void aii_encode_q5_k(const float *x, const float *importance, size_t n, void *row)
{
  static const k_shape shape = {8, {NULL, 0, 31}, 0, 63};
  unsigned char *p = row;
  for (size_t i = 0; i < n; i += AII_QK, p += 176) {
    k_block b;
    encode_block(&b, &shape, true, x + i, part(importance, i));
    memset(p, 0, 176);
    memcpy(p, &b.d_half, 2);
    memcpy(p + 2, &b.dmin_half, 2);
    store_scale_min(&b, p + 4);
    for (int k = 0; k < AII_QK; k++) {
      p[16 + k % 32] |= (unsigned char)((b.q[k] >> 4) << k / 32);
      p[48 + k / 64 * 32 + k % 32] |= (unsigned char)((b.q[k] & 15) << 4 * (k / 32 % 2));
    }
  }
}

void aii_encode_q6_k(const float *x, const float *importance, size_t n, void *row)
{
  static const k_shape shape = {16, {NULL, -32, 31}, -128, 127};
  unsigned char *p = row;
  for (size_t i = 0; i < n; i += AII_QK, p += 210) {
    k_block b;
    encode_block(&b, &shape, false, x + i, part(importance, i));
    memset(p, 0, 210);
    for (int k = 0; k < AII_QK; k++) {
      int h = k / 128, t = k / 32 % 4, q = b.q[k] + 32;
      p[64 * h + 32 * (t % 2) + k % 32] |= (unsigned char)((q & 15) << 4 * (t / 2));
      p[128 + 32 * h + k % 32] |= (unsigned char)((q >> 4) << 2 * t);
    }
    for (int j = 0; j < 16; j++) p[192 + j] = (unsigned char)b.s[j];
    memcpy(p + 208, &b.d_half, 2);
  }
}

void aii_encode_iq4_xs(const float *x, const float *importance, size_t n, void *row)
{
  static const k_shape shape = {8, {aii_iq4_levels, 0, 15}, -32, 31};
  unsigned char *p = row;
  for (size_t i = 0; i < n; i += AII_QK, p += 136) {
    k_block b;
    unsigned high = 0;
    encode_block(&b, &shape, false, x + i, part(importance, i));
    memset(p, 0, 136);
    memcpy(p, &b.d_half, 2);
    for (int j = 0; j < 8; j++) {
      unsigned s = (unsigned)(b.s[j] + 32);
      high |= (s >> 4) << 2 * j;
      p[4 + j / 2] |= (unsigned char)((s & 15u) << 4 * (j % 2));
      for (int k = 0; k < 16; k++) p[8 + 16 * j + k] = (unsigned char)(b.q[32 * j + k] | b.q[32 * j + 16 + k] << 4);
    }
    p[2] = (unsigned char)high;
    p[3] = (unsigned char)(high >> 8);
  }
}
