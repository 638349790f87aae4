/* kernels/x86/ops_product.h - products of panels (kernels/panel.h) with q8 rows and with float rows.
 *
 * A tile is one panel times some columns: a register, or two, holds a number of each of the 16 rows, so nothing is ever
 * added across a register. Few columns read the panel as it is. Many take it in slices that fit the first-level cache,
 * whose codes are spread to bytes once (`wide`), and keep their unfinished sums in `work` from slice to slice. Storing
 * and loading a sum changes no bit of it.
 */
#ifndef AII_OPS_PRODUCT_H
#define AII_OPS_PRODUCT_H

#include "kernels/panel.h"

enum {
  SLICE_BLOCKS = 32,     /* of a wide panel: 22 KiB */
  SLICE_FLOATS = 256,    /* of a float panel: 16 KiB of F32 */
  SLICE_DECODED = 256,   /* of rows that are decoded: 16 KiB */
  GROUP_COLS = 128,      /* whose sums wait in `work`, and whose slices stay in the second-level cache */
  WIDE_BLOCK = 512 + 128 /* codes, then two numbers a row */
};
#define PREFETCH_AHEAD 4608 /* of the panel, where it comes from memory */

AII_INLINE const void *product_column(const aii_product *p, uint32_t c)
{
  return (const char *)p->x + (p->x_index != NULL ? p->x_index[c] : c) * p->x_stride;
}

/* ---- what is done with finished sums ---- */

static void finish_tail(const aii_product *p, uint32_t r, float *y, const float *sum)
{
  for (uint32_t i = 0; i < AII_PANEL && r + i < p->n_rows; i++) {
    float v = p->bias != NULL ? sum[i] + p->bias[r + i] : sum[i];
    y[i] = p->accumulate ? y[i] + v : v;
  }
}

AII_INLINE void finish(const aii_product *p, uint32_t r, uint32_t c, v16 sum)
{
  float *y = p->y + (p->y_index != NULL ? p->y_index[c] : c) * p->y_stride + r;
  if (p->n_rows - r < AII_PANEL) {
    float t[AII_PANEL];
    v16_store(t, sum);
    finish_tail(p, r, y, t);
    return;
  }
  if (p->bias != NULL) sum = v16_add(sum, v16_load(p->bias + r));
  if (p->accumulate) sum = v16_add(v16_load(y), sum);
  v16_store(y, sum);
}

/* ---- a block of a quantised panel ---- */

AII_INLINE dot_kind dots_of(aii_fmt f)
{
  if (f == AII_FMT_Q8_0 || f == AII_FMT_IQ4_NL) return DOTS_SIGNED;
  return aii_panel_bits(f) == 4 && f != AII_FMT_MXFP4 ? DOTS_16 : DOTS_64;
}

static const int8_t fp4_codes[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};

/* Group g of a block's codes, a byte each. */
AII_INLINE b64 block_codes(aii_fmt f, bool wide, const unsigned char *block, uint32_t g)
{
  uint32_t bits = aii_panel_bits(f);
  if (wide || bits == 8) return b64_load(block + 64 * g);
  b64 q = b64_load(block + 64 * (g % 4));
  q = b64_and(g < 4 ? q : b64_shift(q, -4), 15);
  if (bits == 5) q = b64_or(q, b64_and(b64_shift(b64_load(block + 256), 4 - (int)g), 16));
  if (bits == 6) q = b64_or(q, b64_and(b64_shift(b64_load(block + 256 + 64 * (g / 4)), 4 - 2 * (int)(g % 4)), 48));
  if (f == AII_FMT_IQ4_NL) return b64_lookup(q, aii_iq4_levels);
  return f == AII_FMT_MXFP4 ? b64_lookup(q, fp4_codes) : q;
}

/* The scales of a block; of Q6_K, whose codes have one for 16 elements, as integers. */
typedef struct block_scales {
  v16 d, m;
  b64 half[2];
} block_scales;

AII_INLINE block_scales load_scales(aii_fmt f, const unsigned char *head, const unsigned char *scales)
{
  block_scales s;
  if (f == AII_FMT_MXFP4) {
    s.d = v16_from_e8m0(scales);
  } else if (f == AII_FMT_Q6_K) {
    s.d = v16_load_f16(head);
    s.half[0] = w16_from_i8(scales);
    s.half[1] = w16_from_i8(scales + 16);
  } else if (aii_panel_is_k(f)) {
    v16 m = v16_mul(v16_load_f16(head + 32), v16_from_u8(scales + 16));
    s.d = v16_mul(v16_load_f16(head), v16_from_u8(scales));
    s.m = v16_sub(v16_set1(-0.0f), m);
  } else {
    s.d = v16_load_f16(scales);
    if (aii_panel_has_min(f)) s.m = v16_load_f16(scales + 32);
  }
  return s;
}

/* Spread out: 512 bytes of codes, d, then m or, of Q6_K, both halves' scales as pairs of 16 bits. */
AII_INLINE void widen_block(aii_fmt f, const unsigned char *block, const unsigned char *head, unsigned char *wide)
{
  float *numbers = (float *)(void *)(wide + 512);
  for (uint32_t g = 0; g < 8; g++) b64_store(wide + 64 * g, block_codes(f, false, block, g));
  block_scales s = load_scales(f, head, block + aii_panel_codes(f));
  v16_store(numbers, s.d);
  if (aii_panel_has_min(f)) v16_store(numbers + 16, s.m);
  if (f == AII_FMT_Q6_K) b64_store(numbers + 16, w16_pair(s.half[0], s.half[1]));
}

AII_INLINE block_scales load_wide_scales(aii_fmt f, const unsigned char *wide)
{
  const float *numbers = (const float *)(const void *)(wide + 512);
  block_scales s;
  s.d = v16_load(numbers);
  if (aii_panel_has_min(f)) s.m = v16_load(numbers + 16);
  if (f == AII_FMT_Q6_K) {
    b64 pair = b64_load(numbers + 16);
    s.half[0] = w16_low(pair);
    s.half[1] = w16_high(pair);
  }
  return s;
}

/* A column's q8 row, from some block on. */
typedef struct q8_cursor {
  const int8_t *q;
  const float *d; /* s follows by `blocks`, the pairs of sums by twice that */
} q8_cursor;

AII_INLINE int32_t q8_pair(const q8_cursor *x, size_t blocks, size_t b)
{
  int32_t pair;
  memcpy(&pair, x->d + 2 * blocks + b, sizeof pair);
  return pair;
}

/* sum[j] += block b of the panel times that of column j */
AII_INLINE void block_product(aii_fmt f, bool wide, const unsigned char *block, const unsigned char *head,
                              const q8_cursor *x, size_t blocks, size_t b, v16 *sum, const uint32_t cols)
{
  dot_kind kind = dots_of(f);
  int zero = kind == DOTS_SIGNED ? AII_SIGNED_ZERO : aii_panel_zero(f);
  b64 dot[AII_QUANT_COLS], low[AII_QUANT_COLS];
  block_scales s;
  if (f == AII_FMT_Q6_K) s = wide ? load_wide_scales(f, block) : load_scales(f, head, block + aii_panel_codes(f));
#pragma GCC unroll 4
  for (uint32_t g = 0; g < 8; g += 2) {
    b64 w0 = block_codes(f, wide, block, g), w1 = block_codes(f, wide, block, g + 1);
    bool first = g == 0 || (f == AII_FMT_Q6_K && g == 4);
#pragma GCC unroll 8
    for (uint32_t j = 0; j < cols; j++) {
      if (f == AII_FMT_Q6_K && g == 4) low[j] = w16_mul(dots_end(kind, dot[j]), s.half[0]);
      dot[j] = dots_add(kind, dot[j], first, w0, w1, x[j].q + AII_QBLOCK * b + 4 * g);
    }
  }
  if (f != AII_FMT_Q6_K) s = wide ? load_wide_scales(f, block) : load_scales(f, head, block + aii_panel_codes(f));
#pragma GCC unroll 8
  for (uint32_t j = 0; j < cols; j++) {
    b64 isum = dots_end(kind, dot[j]);
    if (f == AII_FMT_Q6_K) {
      b64 offset = w16_dot_pair(w16_pair(s.half[0], s.half[1]), q8_pair(&x[j], blocks, b));
      isum = w16_sub(w16_add(low[j], w16_mul(isum, s.half[1])), w16_times(offset, 5));
    } else if (zero != 0) {
      isum = w16_sub(isum, w16_correction(q8_pair(&x[j], blocks, b), zero));
    }
    sum[j] = v16_fma(v16_from_w16(isum), v16_mul(s.d, v16_set1(x[j].d[b])), sum[j]);
    if (aii_panel_has_min(f)) sum[j] = v16_fma(s.m, v16_set1(x[j].d[blocks + b]), sum[j]);
  }
}

/* Blocks first..end of a panel times `cols` columns. f, wide and cols are constants wherever this is inlined. */
AII_INLINE void quant_tile(aii_fmt f, bool wide, const aii_product *p, const unsigned char *w, uint32_t c, size_t first,
                           size_t end, v16 *sum, const uint32_t cols)
{
  size_t n64 = ((size_t)p->n_in + 63) / 64 * 64;
  q8_cursor x[AII_QUANT_COLS];
  for (uint32_t j = 0; j < cols; j++) {
    x[j].q = product_column(p, c + j);
    x[j].d = (const float *)(const void *)(x[j].q + n64);
  }
  for (size_t b = first; b < end; b++) {
    const unsigned char *block = wide ? w + (b - first) * WIDE_BLOCK : aii_panel_at(f, w, b);
    const unsigned char *head = wide ? NULL : aii_panel_unit(f, w, b);
    if (!wide)
      for (size_t i = 0; i < aii_panel_block(f); i += 64)
        _mm_prefetch((const char *)block + PREFETCH_AHEAD + i, _MM_HINT_T0);
    block_product(f, wide, block, head, x, n64 / AII_QBLOCK, b, sum, cols);
  }
}

/* ---- all of a quantised product ---- */

AII_INLINE void quant_direct(aii_fmt f, const aii_product *p, const unsigned char *w, uint32_t r, uint32_t c,
                             const uint32_t cols)
{
  v16 sum[AII_QUANT_COLS];
  for (uint32_t j = 0; j < cols; j++) sum[j] = v16_zero();
  quant_tile(f, false, p, w, c, 0, p->n_in / AII_QBLOCK, sum, cols);
  for (uint32_t j = 0; j < cols; j++) finish(p, r, c + j, sum[j]);
}

AII_INLINE void quant_wide(aii_fmt f, const aii_product *p, const unsigned char *wide, uint32_t c, size_t first,
                           size_t end, float *waiting, const uint32_t cols)
{
  v16 sum[AII_QUANT_COLS];
  for (uint32_t j = 0; j < cols; j++) sum[j] = first == 0 ? v16_zero() : v16_load(waiting + j * AII_PANEL);
  quant_tile(f, true, p, wide, c, first, end, sum, cols);
  for (uint32_t j = 0; j < cols; j++) v16_store(waiting + j * AII_PANEL, sum[j]);
}

/* A panel times up to GROUP_COLS columns from c on. */
AII_INLINE void quant_group(aii_fmt f, const aii_product *p, const unsigned char *w, uint32_t r, uint32_t c, uint32_t n)
{
  float *waiting = p->work;
  unsigned char *wide = (unsigned char *)p->work + GROUP_COLS * AII_PANEL * sizeof(float);
  size_t blocks = p->n_in / AII_QBLOCK;
  for (size_t first = 0; first < blocks; first += SLICE_BLOCKS) {
    size_t end = first + SLICE_BLOCKS < blocks ? first + SLICE_BLOCKS : blocks;
    for (size_t b = first; b < end; b++)
      widen_block(f, aii_panel_at(f, w, b), aii_panel_unit(f, w, b), wide + (b - first) * WIDE_BLOCK);
    uint32_t j = 0;
    for (; j + AII_QUANT_COLS <= n; j += AII_QUANT_COLS)
      quant_wide(f, p, wide, c + j, first, end, waiting + j * AII_PANEL, AII_QUANT_COLS);
    for (; j < n; j++) quant_wide(f, p, wide, c + j, first, end, waiting + j * AII_PANEL, 1);
  }
  for (uint32_t j = 0; j < n; j++) finish(p, r, c + j, v16_load(waiting + j * AII_PANEL));
}

AII_INLINE void quant_product(aii_fmt f, const aii_product *p)
{
  for (uint32_t r = 0; r < p->n_rows; r += AII_PANEL) {
    const unsigned char *w = (const unsigned char *)p->w + r / AII_PANEL * p->w_stride;
    uint32_t c = 0;
    for (; p->n_cols - c > 2 * AII_QUANT_COLS; c += GROUP_COLS < p->n_cols - c ? GROUP_COLS : p->n_cols - c)
      quant_group(f, p, w, r, c, GROUP_COLS < p->n_cols - c ? GROUP_COLS : p->n_cols - c);
    for (; p->n_cols - c >= AII_QUANT_COLS; c += AII_QUANT_COLS) quant_direct(f, p, w, r, c, AII_QUANT_COLS);
    for (; p->n_cols - c >= 2; c += 2) quant_direct(f, p, w, r, c, 2);
    if (c < p->n_cols) quant_direct(f, p, w, r, c, 1);
  }
}

/* ---- floats ---- */

AII_INLINE v16 panel_floats(aii_fmt f, const unsigned char *w, size_t k)
{
  if (f == AII_FMT_F32) return v16_load((const float *)(const void *)(w + 64 * k));
  return f == AII_FMT_F16 ? v16_load_f16(w + 32 * k) : v16_load_bf16(w + 32 * k);
}

/* Elements first..end; the panel begins at element `base`. first is a multiple of a run. */
AII_INLINE void float_tile(aii_fmt f, const aii_product *p, const unsigned char *w, size_t base, uint32_t c,
                           size_t first, size_t end, float *waiting, const uint32_t cols)
{
  const float *x[AII_FLOAT_COLS];
  for (uint32_t j = 0; j < cols; j++) x[j] = product_column(p, c + j);
  for (size_t k = first; k < end; k += AII_RUN) {
    size_t stop = k + AII_RUN < end ? k + AII_RUN : end;
    v16 run[AII_FLOAT_COLS];
    for (uint32_t j = 0; j < cols; j++) run[j] = v16_zero();
    for (size_t i = k; i < stop; i++) {
      v16 wv = panel_floats(f, w, i - base);
      if (cols == 1 && i % 2 == 0)
        _mm_prefetch((const char *)w + (i - base) * (f == AII_FMT_F32 ? 64 : 32) + PREFETCH_AHEAD, _MM_HINT_T0);
#pragma GCC unroll 8
      for (uint32_t j = 0; j < cols; j++) run[j] = v16_fma(wv, v16_set1(x[j][i]), run[j]);
    }
    for (uint32_t j = 0; j < cols; j++) {
      float *sum = waiting + j * AII_PANEL;
      v16_store(sum, k == 0 ? v16_add(v16_zero(), run[j]) : v16_add(v16_load(sum), run[j]));
    }
  }
}

/* A slice of a panel times n columns from c on. */
AII_INLINE void float_columns(aii_fmt f, const aii_product *p, const unsigned char *w, size_t base, uint32_t c,
                              uint32_t n, size_t first, size_t end)
{
  float *waiting = p->work;
  uint32_t j = 0;
  for (; j + AII_FLOAT_COLS <= n; j += AII_FLOAT_COLS)
    float_tile(f, p, w, base, c + j, first, end, waiting + j * AII_PANEL, AII_FLOAT_COLS);
  for (; j + 2 <= n; j += 2) float_tile(f, p, w, base, c + j, first, end, waiting + j * AII_PANEL, 2);
  for (; j < n; j++) float_tile(f, p, w, base, c + j, first, end, waiting + j * AII_PANEL, 1);
}

AII_INLINE void float_product(aii_fmt f, const aii_product *p)
{
  const float *waiting = p->work;
  for (uint32_t r = 0; r < p->n_rows; r += AII_PANEL) {
    const unsigned char *w = (const unsigned char *)p->w + r / AII_PANEL * p->w_stride;
    for (uint32_t c = 0; c < p->n_cols; c += GROUP_COLS) {
      uint32_t n = GROUP_COLS < p->n_cols - c ? GROUP_COLS : p->n_cols - c;
      size_t slice = n > AII_FLOAT_COLS ? SLICE_FLOATS : p->n_in;
      for (size_t k = 0; k < p->n_in; k += slice)
        float_columns(f, p, w, 0, c, n, k, k + slice < p->n_in ? k + slice : p->n_in);
      for (uint32_t j = 0; j < n; j++) finish(p, r, c + j, v16_load(waiting + j * AII_PANEL));
    }
  }
}

/* ---- rows that are decoded ---- */

/* n elements from k on of the (up to) 16 rows from r on, as a float panel. */
AII_INLINE void decode_slice(void (*decode)(const void *row, size_t n, float *out), aii_fmt f, const aii_product *p,
                             uint32_t r, size_t k, size_t n, float *panel)
{
  float row[SLICE_DECODED];
  for (uint32_t i = 0; i < AII_PANEL; i++) {
    if (r + i < p->n_rows) decode((const char *)p->w + (r + i) * p->w_stride + aii_fmt_row_bytes(f, k), n, row);
    else memset(row, 0, sizeof row);
    for (size_t j = 0; j < n; j++) panel[j * AII_PANEL + i] = row[j];
  }
}

static void decoded_product(void (*decode)(const void *row, size_t n, float *out), aii_fmt f, const aii_product *p)
{
  const float *waiting = p->work;
  float *panel = (float *)p->work + GROUP_COLS * AII_PANEL;
  for (uint32_t r = 0; r < p->n_rows; r += AII_PANEL) {
    for (uint32_t c = 0; c < p->n_cols; c += GROUP_COLS) {
      uint32_t n = GROUP_COLS < p->n_cols - c ? GROUP_COLS : p->n_cols - c;
      for (size_t k = 0; k < p->n_in; k += SLICE_DECODED) {
        size_t end = k + SLICE_DECODED < p->n_in ? k + SLICE_DECODED : p->n_in;
        decode_slice(decode, f, p, r, k, end - k, panel);
        float_columns(AII_FMT_F32, p, (const unsigned char *)panel, k, c, n, k, end);
      }
      for (uint32_t j = 0; j < n; j++) finish(p, r, c + j, v16_load(waiting + j * AII_PANEL));
    }
  }
}

/* ---- by format ---- */

#define PACKED_PRODUCT(NAME, name, ...)                                  \
  static void product_##name(const aii_product *p)                       \
  {                                                                      \
    if (AII_FMT_##NAME < AII_FMT_Q8_0) float_product(AII_FMT_##NAME, p); \
    else quant_product(AII_FMT_##NAME, p);                               \
  }
AII_PACKED_FORMATS(PACKED_PRODUCT)
#undef PACKED_PRODUCT

#define DECODED_PRODUCT(NAME, name, ...)               \
  static void product_##name(const aii_product *p)     \
  {                                                    \
    decoded_product(decode_##name, AII_FMT_##NAME, p); \
  }
AII_UNPACKED_FORMATS(DECODED_PRODUCT)
#undef DECODED_PRODUCT

#define AII_PRODUCT(NAME, name, ...) product_##name,

#endif
