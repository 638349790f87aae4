/* kernels/x86/ops_product.h - products of panels (kernels/panel.h) with q8 rows and with float rows.
 *
 * A tile is a panel, or two, times some columns: a register, or two, holds a number of each of the 16 rows, so nothing
 * is ever added across a register. Few columns read the panels as they are. Many take them in slices that fit the
 * first-level cache, made ready once (`wide`: codes spread to bytes, halves to floats), and keep their unfinished sums in
 * `work` from slice to slice. Storing and loading a sum changes no bit of it. Where two panels go together, an odd last
 * one goes with itself, and its second sums are dropped.
 */
#ifndef AII_OPS_PRODUCT_H
#define AII_OPS_PRODUCT_H

#include "kernels/x86/ops_panel.h"

enum {
  SLICE_FLOATS = 128,                        /* of float panels, as F32 */
  SLICE_DECODED = 256,                       /* of rows that are decoded */
  GROUP_COLS = 96,                           /* whose sums wait, and whose slices stay in the second-level cache */
  WAITING_FLOATS = GROUP_COLS * TILE_FLOATS, /* the rest of `work` holds slices */
  PREFETCH_AHEAD = 4608                      /* of panels that come from memory */
};
_Static_assert((WAITING_FLOATS + TILE_FLOATS * SLICE_FLOATS) * sizeof(float) <= AII_PRODUCT_WORK, "floats");
_Static_assert((WAITING_FLOATS + TILE_FLOATS * SLICE_DECODED) * sizeof(float) <= AII_PRODUCT_WORK, "decoded rows");
_Static_assert(WAITING_FLOATS * sizeof(float) + AII_PANELS * SLICE_BLOCKS * (512 + 3 * 64) <= AII_PRODUCT_WORK, "wide");

/* Where a block of the tile's panels is, and of a column's q8 row. */
typedef struct tile_block {
  const unsigned char *codes[AII_PANELS], *head[AII_PANELS];
  const char *const *x; /* q8 rows */
  size_t q, d, s, z;    /* what of them belongs to the block: bytes from their beginning */
} tile_block;

AII_INLINE v16 tile_scale(aii_fmt f, bool wide, const tile_block *t, uint32_t i, uint32_t part)
{
  if (wide) return v16_load((const float *)(const void *)(t->codes[i] + 512) + AII_PANEL * part);
  return block_scale(f, t->head[i], t->codes[i] + aii_panel_codes(f), part);
}

AII_INLINE v16 tile_min(aii_fmt f, bool wide, const tile_block *t, uint32_t i)
{
  if (wide) return v16_load((const float *)(const void *)(t->codes[i] + 512) + AII_PANEL);
  return block_min(f, t->head[i], t->codes[i] + aii_panel_codes(f));
}

AII_INLINE v16 x_float(const char *x, size_t at)
{
  return v16_set1(*(const float *)(const void *)(x + at));
}

AII_INLINE b64 tile_codes(aii_fmt f, bool wide, const unsigned char *codes, uint32_t g)
{
  return wide ? b64_load(codes + 64 * g) : block_codes(f, codes, g);
}

/* dot[j] = the groups of a part of a block times column j, which dots_end() makes floats of. */
AII_INLINE void part_dots(aii_fmt f, bool wide, const tile_block *t, uint32_t part, x4 *zeros, b64 (*dot)[AII_PANELS],
                          const uint32_t cols)
{
  const dot_kind kind = dots_of(f);
  const int zero = code_zero(f, wide);
  const uint32_t groups = 8 / block_parts(f);
#pragma GCC unroll 8
  for (uint32_t j = 0; j < cols; j++) {
    zeros[j] = dots_zero((const int32_t *)(const void *)(t->x[j] + t->z) + part, zero);
    for (uint32_t i = 0; i < AII_PANELS; i++) dot[j][i] = dots_begin(zeros[j]);
  }
#pragma GCC unroll 4
  for (uint32_t g = part * groups; g < (part + 1) * groups; g += 2) {
    b64 w0[AII_PANELS], w1[AII_PANELS];
    for (uint32_t i = 0; i < AII_PANELS; i++) {
      w0[i] = tile_codes(f, wide, t->codes[i], g);
      w1[i] = tile_codes(f, wide, t->codes[i], g + 1);
    }
#pragma GCC unroll 8
    for (uint32_t j = 0; j < cols; j++) {
      const int8_t *q = (const int8_t *)t->x[j] + t->q + 4 * g;
      x4 x0 = x4_load(q), x1 = x4_load(q + 4);
      for (uint32_t i = 0; i < AII_PANELS; i++) dot[j][i] = dots_add(kind, dot[j][i], w0[i], w1[i], x0, x1);
    }
  }
}

/* sum[j] += a block times column j */
AII_INLINE void block_product(aii_fmt f, bool wide, const tile_block *t, v16 (*sum)[AII_PANELS], const uint32_t cols)
{
  const dot_kind kind = dots_of(f);
  const bool zero = code_zero(f, wide) != 0;
  b64 dot[AII_QUANT_COLS][AII_PANELS];
  x4 zeros[AII_QUANT_COLS];
  part_dots(f, wide, t, 0, zeros, dot, cols);
  for (uint32_t i = 0; i < AII_PANELS; i++) {
    v16 d = tile_scale(f, wide, t, i, 0);
#pragma GCC unroll 8
    for (uint32_t j = 0; j < cols; j++)
      sum[j][i] = v16_fma(dots_end(kind, dot[j][i], zero, zeros[j]), v16_mul(d, x_float(t->x[j], t->d)), sum[j][i]);
  }
}

/* The same of two parts with scales of their own. */
AII_INLINE void halves_product(aii_fmt f, bool wide, const tile_block *t, v16 (*sum)[AII_PANELS], const uint32_t cols)
{
  const dot_kind kind = dots_of(f);
  const bool zero = code_zero(f, wide) != 0;
  b64 dot[AII_QUANT_COLS][AII_PANELS];
  v16 first[AII_QUANT_COLS][AII_PANELS];
  x4 zeros[AII_QUANT_COLS];
  part_dots(f, wide, t, 0, zeros, dot, cols);
  for (uint32_t i = 0; i < AII_PANELS; i++) {
    v16 d = tile_scale(f, wide, t, i, 0);
#pragma GCC unroll 8
    for (uint32_t j = 0; j < cols; j++) first[j][i] = v16_mul(dots_end(kind, dot[j][i], zero, zeros[j]), d);
  }
  part_dots(f, wide, t, 1, zeros, dot, cols);
  for (uint32_t i = 0; i < AII_PANELS; i++) {
    v16 d = tile_scale(f, wide, t, i, 1);
#pragma GCC unroll 8
    for (uint32_t j = 0; j < cols; j++) {
      v16 both = v16_fma(dots_end(kind, dot[j][i], zero, zeros[j]), d, first[j][i]);
      sum[j][i] = v16_fma(both, x_float(t->x[j], t->d), sum[j][i]);
    }
  }
}

/* What is read soon: behind a panel's end begins the other one of its tile, which is being read; the next tile is meant. */
AII_INLINE const unsigned char *ahead_of(const aii_product *p, const unsigned char *panel, const unsigned char *at)
{
  at += PREFETCH_AHEAD;
  return at < panel + p->w_stride ? at : at + (AII_PANELS - 1) * p->w_stride;
}

/* A block's size ahead of `at`, and the head that may lie in between. */
AII_INLINE void fetch_block(aii_fmt f, const aii_product *p, fetch_to to, const unsigned char *panel,
                            const unsigned char *at)
{
  const char *next = (const char *)ahead_of(p, panel, at);
  const size_t bytes = aii_panel_block(f) + aii_panel_head(f);
  for (size_t i = 0; i < bytes; i += 64) fetch(to, next + i);
}

/* Blocks first..end of the tile's panels times `cols` columns. f, wide and cols are constants wherever this is inlined. */
AII_INLINE void quant_tile(aii_fmt f, bool wide, const aii_product *p, const unsigned char *const *w, uint32_t c,
                           size_t first, size_t end, fetch_to to, v16 (*sum)[AII_PANELS], const uint32_t cols)
{
  const size_t n64 = ((size_t)p->n_in + 63) / 64 * 64, numbers = n64 / AII_QBLOCK * 4;
  const char *x[AII_QUANT_COLS];
  for (uint32_t j = 0; j < cols; j++) x[j] = product_column(p, c + j);
  for (size_t b = first; b < end; b++) {
    tile_block t = {.x = x, .q = AII_QBLOCK * b, .d = n64 + 4 * b, .s = n64 + numbers + 4 * b};
    t.z = block_parts(f) == 2 ? n64 + 3 * numbers + 8 * b : n64 + 2 * numbers + 4 * b;
    for (uint32_t i = 0; i < AII_PANELS; i++) {
      t.codes[i] = wide ? w[i] + (b - first) * wide_bytes(f) : aii_panel_at(f, w[i], b);
      t.head[i] = wide ? NULL : aii_panel_unit(f, w[i], b);
      if (!wide) fetch_block(f, p, to, w[i], t.codes[i]);
    }
    if (block_parts(f) == 2) halves_product(f, wide, &t, sum, cols);
    else block_product(f, wide, &t, sum, cols);
    for (uint32_t i = 0; aii_panel_has_min(f) && i < AII_PANELS; i++) {
      v16 m = tile_min(f, wide, &t, i);
      for (uint32_t j = 0; j < cols; j++) sum[j][i] = v16_fma(m, x_float(x[j], t.s), sum[j][i]);
    }
  }
}

/* ---- all of a quantised product ---- */

AII_INLINE void quant_direct(aii_fmt f, const aii_product *p, fetch_to to, const unsigned char *const *w, uint32_t r,
                             uint32_t c, const uint32_t cols)
{
  v16 sum[AII_QUANT_COLS][AII_PANELS];
  for (uint32_t j = 0; j < cols; j++)
    for (uint32_t i = 0; i < AII_PANELS; i++) sum[j][i] = v16_zero();
  quant_tile(f, false, p, w, c, 0, p->n_in / AII_QBLOCK, to, sum, cols);
  for (uint32_t i = 0; i < AII_PANELS && r + i * AII_PANEL < p->n_rows; i++)
    for (uint32_t j = 0; j < cols; j++) finish(p, r + i * AII_PANEL, c + j, sum[j][i]);
}

AII_INLINE void quant_wide(aii_fmt f, const aii_product *p, const unsigned char *const *wide, uint32_t c, size_t first,
                           size_t end, float *waiting, const uint32_t cols)
{
  v16 sum[AII_QUANT_COLS][AII_PANELS];
  for (uint32_t j = 0; j < cols; j++)
    for (uint32_t i = 0; i < AII_PANELS; i++)
      sum[j][i] = first == 0 ? v16_zero() : v16_load(waiting + j * TILE_FLOATS + i * AII_PANEL);
  quant_tile(f, true, p, wide, c, first, end, FETCH_FIRST, sum, cols);
  for (uint32_t j = 0; j < cols; j++)
    for (uint32_t i = 0; i < AII_PANELS; i++) v16_store(waiting + j * TILE_FLOATS + i * AII_PANEL, sum[j][i]);
}

/* A tile's panels times n <= GROUP_COLS columns from c on. */
AII_INLINE void quant_group(aii_fmt f, const aii_product *p, const unsigned char *const *w, uint32_t r, uint32_t c,
                            uint32_t n)
{
  float *waiting = p->work;
  unsigned char *slice = (unsigned char *)(waiting + WAITING_FLOATS);
  const unsigned char *wide[AII_PANELS];
  size_t blocks = p->n_in / AII_QBLOCK;
  for (size_t first = 0; first < blocks; first += SLICE_BLOCKS) {
    size_t end = first + SLICE_BLOCKS < blocks ? first + SLICE_BLOCKS : blocks;
    for (uint32_t i = 0; i < AII_PANELS; i++) {
      unsigned char *to = slice + i * SLICE_BLOCKS * wide_bytes(f);
      wide[i] = to;
      for (size_t b = first; b < end; b++, to += wide_bytes(f))
        widen_block(f, aii_panel_at(f, w[i], b), aii_panel_unit(f, w[i], b), code_zero(f, true), to);
    }
    uint32_t j = 0, last = end == blocks;
    for (; j + AII_QUANT_COLS <= n; j += AII_QUANT_COLS) {
      if (last) fetch_columns(p, r, c + j, AII_QUANT_COLS);
      fetch_slice(f, p, w, first, j, AII_QUANT_COLS, n);
      quant_wide(f, p, wide, c + j, first, end, waiting + j * TILE_FLOATS, AII_QUANT_COLS);
      if (last) finish_columns(p, r, c + j, waiting + j * TILE_FLOATS, AII_QUANT_COLS);
    }
    const uint32_t rest = j;
    for (; j + 2 <= n; j += 2) quant_wide(f, p, wide, c + j, first, end, waiting + j * TILE_FLOATS, 2);
    for (; j < n; j++) quant_wide(f, p, wide, c + j, first, end, waiting + j * TILE_FLOATS, 1);
    if (last) finish_columns(p, r, c + rest, waiting + rest * TILE_FLOATS, n - rest);
  }
}

/* A few columns read the panels once; so many that panels are worth widening stay in the second-level cache while all
 * panels pass. */
AII_INLINE void quant_product(aii_fmt f, const aii_product *p)
{
  const fetch_to to = where_to_fetch();
  const unsigned char *w[AII_PANELS];
  uint32_t done = 0;
  for (uint32_t n; p->n_cols - done > 2 * AII_QUANT_COLS; done += n) {
    n = GROUP_COLS < p->n_cols - done ? GROUP_COLS : p->n_cols - done;
    for (uint32_t r = 0; r < p->n_rows; r += TILE_FLOATS) {
      tile_panels(p, r, w);
      quant_group(f, p, w, r, done, n);
    }
  }
  for (uint32_t r = 0; r < p->n_rows && done < p->n_cols; r += TILE_FLOATS) {
    uint32_t c = done, left = p->n_cols - done;
    tile_panels(p, r, w);
    for (; left >= AII_QUANT_COLS; c += AII_QUANT_COLS, left -= AII_QUANT_COLS)
      quant_direct(f, p, to, w, r, c, AII_QUANT_COLS);
    for (; AII_QUANT_COLS > 4 && left >= 4; c += 4, left -= 4) quant_direct(f, p, to, w, r, c, 4);
    for (; left >= 2; c += 2, left -= 2) quant_direct(f, p, to, w, r, c, 2);
    if (left > 0) quant_direct(f, p, to, w, r, c, 1);
  }
}

/* ---- floats ---- */

AII_INLINE v16 panel_floats(aii_fmt f, const unsigned char *w, size_t k)
{
  if (f == AII_FMT_F32) return v16_load((const float *)(const void *)(w + 64 * k));
  return f == AII_FMT_F16 ? v16_load_f16(w + 32 * k) : v16_load_bf16(w + 32 * k);
}

/* Elements first..end; the panels begin at element `base`. first is a multiple of a run. */
AII_INLINE void float_tile(aii_fmt f, const aii_product *p, const unsigned char *const *w, size_t base, uint32_t c,
                           size_t first, size_t end, float *waiting, const uint32_t cols)
{
  const float *x[AII_FLOAT_COLS];
  for (uint32_t j = 0; j < cols; j++) x[j] = product_column(p, c + j);
  for (size_t k = first; k < end; k += AII_RUN) {
    size_t stop = k + AII_RUN < end ? k + AII_RUN : end;
    v16 run[AII_FLOAT_COLS][AII_PANELS];
    for (uint32_t j = 0; j < cols; j++)
      for (uint32_t i = 0; i < AII_PANELS; i++) run[j][i] = v16_zero();
    for (size_t at = k; at < stop; at++) {
      v16 wv[AII_PANELS];
      for (uint32_t i = 0; i < AII_PANELS; i++) {
        wv[i] = panel_floats(f, w[i], at - base);
        if (cols <= 4 && (f == AII_FMT_F32 || at % 2 == 0))
          _mm_prefetch((const char *)ahead_of(p, w[i], w[i] + (at - base) * (f == AII_FMT_F32 ? 64 : 32)), _MM_HINT_T0);
      }
#pragma GCC unroll 12
      for (uint32_t j = 0; j < cols; j++) {
        v16 xv = v16_set1(x[j][at]);
        for (uint32_t i = 0; i < AII_PANELS; i++) run[j][i] = v16_fma(wv[i], xv, run[j][i]);
      }
    }
    for (uint32_t j = 0; j < cols; j++)
      for (uint32_t i = 0; i < AII_PANELS; i++) {
        float *sum = waiting + j * TILE_FLOATS + i * AII_PANEL;
        v16_store(sum, v16_add(k == 0 ? v16_zero() : v16_load(sum), run[j][i]));
      }
  }
}

/* A slice of a tile's panels times n columns from c on. */
AII_INLINE void float_columns(aii_fmt f, const aii_product *p, const unsigned char *const *w, size_t base, uint32_t r,
                              uint32_t c, uint32_t n, size_t first, size_t end)
{
  float *waiting = p->work;
  uint32_t j = 0;
  for (; j + AII_FLOAT_COLS <= n; j += AII_FLOAT_COLS) {
    if (end == p->n_in) fetch_columns(p, r, c + j, AII_FLOAT_COLS);
    float_tile(f, p, w, base, c + j, first, end, waiting + j * TILE_FLOATS, AII_FLOAT_COLS);
  }
  for (; j + 4 <= n; j += 4) float_tile(f, p, w, base, c + j, first, end, waiting + j * TILE_FLOATS, 4);
  for (; j + 2 <= n; j += 2) float_tile(f, p, w, base, c + j, first, end, waiting + j * TILE_FLOATS, 2);
  for (; j < n; j++) float_tile(f, p, w, base, c + j, first, end, waiting + j * TILE_FLOATS, 1);
}

/* Elements first..end of a tile's panels to F32, one panel behind the other. */
AII_INLINE void widen_floats(aii_fmt f, const unsigned char *const *w, size_t first, size_t end,
                             const unsigned char **wide, float *to)
{
  for (uint32_t i = 0; i < AII_PANELS; i++) {
    wide[i] = (const unsigned char *)to;
    for (size_t k = first; k < end; k++, to += AII_PANEL) v16_store(to, panel_floats(f, w[i], k));
  }
}

AII_INLINE void float_group(aii_fmt f, const aii_product *p, const unsigned char *const *w, uint32_t r, uint32_t c,
                            uint32_t n)
{
  float *slice = (float *)p->work + WAITING_FLOATS;
  if (n <= AII_FLOAT_COLS) {
    float_columns(f, p, w, 0, r, c, n, 0, p->n_in);
  } else {
    for (size_t k = 0; k < p->n_in; k += SLICE_FLOATS) {
      size_t end = k + SLICE_FLOATS < p->n_in ? k + SLICE_FLOATS : p->n_in;
      const unsigned char *wide[AII_PANELS];
      widen_floats(f, w, k, end, wide, slice);
      float_columns(AII_FMT_F32, p, wide, k, r, c, n, k, end);
    }
  }
  finish_columns(p, r, c, p->work, n);
}

AII_INLINE void float_product(aii_fmt f, const aii_product *p)
{
  for (uint32_t r = 0; r < p->n_rows; r += TILE_FLOATS) {
    const unsigned char *w[AII_PANELS];
    tile_panels(p, r, w);
    for (uint32_t c = 0; c < p->n_cols; c += GROUP_COLS)
      float_group(f, p, w, r, c, GROUP_COLS < p->n_cols - c ? GROUP_COLS : p->n_cols - c);
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
  float *slice = (float *)p->work + WAITING_FLOATS;
  const unsigned char *w[AII_PANELS];
  for (uint32_t r = 0; r < p->n_rows; r += TILE_FLOATS) {
    for (uint32_t c = 0; c < p->n_cols; c += GROUP_COLS) {
      uint32_t n = GROUP_COLS < p->n_cols - c ? GROUP_COLS : p->n_cols - c;
      for (size_t k = 0; k < p->n_in; k += SLICE_DECODED) {
        size_t end = k + SLICE_DECODED < p->n_in ? k + SLICE_DECODED : p->n_in;
        for (uint32_t i = 0; i < AII_PANELS; i++) {
          float *panel = slice + i * SLICE_DECODED * AII_PANEL;
          w[i] = (const unsigned char *)panel;
          decode_slice(decode, f, p, r + i * AII_PANEL, k, end - k, panel);
        }
        float_columns(AII_FMT_F32, p, w, k, r, c, n, k, end);
      }
      finish_columns(p, r, c, p->work, n);
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
