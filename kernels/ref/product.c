/* kernels/ref/product.c - products of weights in panels, or in rows that are decoded, by their definition. */
#include <float.h>

#include "kernels/panel.h"
#include "kernels/ref/decode.h"

static float load_float(aii_fmt f, const unsigned char *p, size_t i)
{
  float v;
  if (f == AII_FMT_F16) return aii_f16_to_f32(aii_load_u16(p + 2 * i));
  if (f == AII_FMT_BF16) return aii_bf16_to_f32(aii_load_u16(p + 2 * i));
  memcpy(&v, p + 4 * i, sizeof v);
  return v;
}

/* Elements of the row lie `step` apart. */
static float float_dot(aii_fmt f, const unsigned char *w, size_t step, const float *x, size_t n)
{
  float sum = 0;
  for (size_t k = 0; k < n; k += AII_RUN) {
    float run = 0;
    for (size_t i = k; i < n && i < k + AII_RUN; i++) run = fmaf(load_float(f, w, i * step), x[i], run);
    sum += run;
  }
  return sum;
}

/* ---- quantised ---- */

/* What element k of a row's block counts. */
static int level(aii_fmt f, const unsigned char *block, uint32_t row, uint32_t k)
{
  uint32_t g = k / 4, at = 4 * row + k % 4, bits = aii_panel_bits(f);
  if (bits == 8) return block[64 * g + at] - 128;
  int code = block[64 * (g % 4) + at] >> 4 * (g / 4) & 15;
  if (bits == 5) code |= (block[256 + at] >> g & 1) << 4;
  if (bits == 6) code |= (block[256 + 64 * (g / 4) + at] >> 2 * (g % 4) & 3) << 4;
  if (f == AII_FMT_IQ4_NL) return aii_iq4_levels[code];
  return f == AII_FMT_MXFP4 ? aii_fp4_levels[code] : code - aii_panel_zero(f);
}

/* The scale of a half of a row's block, and the block's minimum. */
static float scale_of(aii_fmt f, const unsigned char *head, const unsigned char *scales, uint32_t row, uint32_t half,
                      float *min)
{
  if (f == AII_FMT_MXFP4) return aii_e8m0_half(scales[row]);
  if (f == AII_FMT_Q6_K) return block_half(head + 2 * row) * (float)(int8_t)scales[16 * half + row];
  if (aii_panel_is_k(f)) {
    *min = -(block_half(head + 32 + 2 * row) * (float)scales[16 + row]);
    return block_half(head + 2 * row) * (float)scales[row];
  }
  if (aii_panel_has_min(f)) *min = block_half(scales + 32 + 2 * row);
  return block_half(scales + 2 * row);
}

static float q8_dot(aii_fmt f, const void *panel, uint32_t row, const int8_t *x, size_t n)
{
  size_t n64 = (n + 63) / 64 * 64;
  const float *d = (const float *)(const void *)(x + n64), *s = d + n64 / AII_QBLOCK;
  float sum = 0;
  for (size_t b = 0; b < n / AII_QBLOCK; b++) {
    const unsigned char *block = aii_panel_at(f, panel, b), *scales = block + aii_panel_codes(f);
    uint32_t parts = f == AII_FMT_Q6_K ? 2 : 1, each = AII_QBLOCK / parts;
    float min = 0, both = 0;
    for (uint32_t h = 0; h < parts; h++) {
      int isum = 0;
      for (uint32_t k = h * each; k < (h + 1) * each; k++) isum += level(f, block, row, k) * x[AII_QBLOCK * b + k];
      float scale = scale_of(f, aii_panel_unit(f, panel, b), scales, row, h, &min);
      if (parts == 1) sum = fmaf((float)isum, scale * d[b], sum);
      else both = fmaf((float)isum, scale, both);
    }
    if (parts == 2) sum = fmaf(both, d[b], sum);
    if (aii_panel_has_min(f)) sum = fmaf(min, s[b], sum);
  }
  return sum;
}

/* ---- products ---- */

static void put(const aii_product *p, uint32_t r, uint32_t c, float v)
{
  float *y = &p->y[(p->y_index != NULL ? p->y_index[c] : c) * p->y_stride + r];
  if (p->bias != NULL) v += p->bias[r];
  *y = p->accumulate ? *y + v : v;
}

static const void *column(const aii_product *p, uint32_t c)
{
  return (const char *)p->x + (p->x_index != NULL ? p->x_index[c] : c) * p->x_stride;
}

static void packed_product(aii_fmt f, const aii_product *p)
{
  for (uint32_t r = 0; r < p->n_rows; r++) {
    const unsigned char *panel = (const unsigned char *)p->w + r / AII_PANEL * p->w_stride;
    uint32_t row = r % AII_PANEL;
    for (uint32_t c = 0; c < p->n_cols; c++)
      put(p, r, c,
          aii_fmt_takes_q8(f)
              ? q8_dot(f, panel, row, column(p, c), p->n_in)
              : float_dot(f, panel + row * aii_fmt_info(f)->block_bytes, AII_PANEL, column(p, c), p->n_in));
  }
}

/* ---- pairs of BF16 ---- */

static float flush(float v)
{
  return fabsf(v) < FLT_MIN ? copysignf(0, v) : v;
}

static float add_product(float sum, const unsigned char *w, const unsigned char *x)
{
  float a = flush(aii_bf16_to_f32(aii_load_u16(w))), b = flush(aii_bf16_to_f32(aii_load_u16(x)));
  return flush(fmaf(a, b, sum));
}

void aii_ref_product_bf16_pairs(const aii_product *p)
{
  for (uint32_t r = 0; r < p->n_rows; r++) {
    const unsigned char *panel = (const unsigned char *)p->w + r / AII_PANEL * p->w_stride + 4 * (r % AII_PANEL);
    for (uint32_t c = 0; c < p->n_cols; c++) {
      const unsigned char *w = panel, *x = column(p, c);
      float sum = 0;
      for (size_t k = 0; k < p->n_in; k += 2, w += 4 * AII_PANEL, x += 4) {
        sum = add_product(sum, w + 2, x + 2);
        sum = add_product(sum, w, x);
      }
      put(p, r, c, sum);
    }
  }
}

/* ---- by format ---- */

/* Runs of a row are decoded one after the other; every block is a divisor, or four times, a run. */
static void decoded_product(void (*decode)(const void *row, size_t n, float *out), aii_fmt f, const aii_product *p)
{
  float piece[AII_QK];
  for (uint32_t r = 0; r < p->n_rows; r++) {
    for (uint32_t c = 0; c < p->n_cols; c++) {
      float sum = 0;
      for (size_t k = 0; k < p->n_in; k += AII_QK) {
        size_t n = p->n_in - k < AII_QK ? p->n_in - k : AII_QK;
        decode((const char *)p->w + r * p->w_stride + aii_fmt_row_bytes(f, k), n, piece);
        for (size_t i = 0; i < n; i += AII_RUN)
          sum += float_dot(AII_FMT_F32, (const unsigned char *)(piece + i), 1, (const float *)column(p, c) + k + i,
                           n - i < AII_RUN ? n - i : AII_RUN);
      }
      put(p, r, c, sum);
    }
  }
}

#define PACKED(NAME, name, ...)                     \
  void aii_ref_product_##name(const aii_product *p) \
  {                                                 \
    packed_product(AII_FMT_##NAME, p);              \
  }
AII_PACKED_FORMATS(PACKED)

#define DECODED(NAME, name, ...)                       \
  void aii_ref_product_##name(const aii_product *p)    \
  {                                                    \
    decoded_product(decode_##name, AII_FMT_##NAME, p); \
  }
AII_UNPACKED_FORMATS(DECODED)
