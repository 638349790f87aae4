/* kernels/x86/ops_panel.h - what all products of panels share: columns, finished sums, and the blocks of quantised panels.
 *
 * A tile is AII_PANELS panels times some columns. Where two panels go together, an odd last one goes with itself, and its
 * second sums are dropped.
 */
#ifndef AII_OPS_PANEL_H
#define AII_OPS_PANEL_H

#include "kernels/panel.h"

enum {
  SLICE_BLOCKS = 16,                   /* of panels that are made ready */
  TILE_FLOATS = AII_PANELS * AII_PANEL /* sums of a column */
};

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

/* n columns of a tile from column c on. */
AII_INLINE void finish_columns(const aii_product *p, uint32_t r, uint32_t c, const float *waiting, uint32_t n)
{
  for (uint32_t j = 0; j < n; j++)
    for (uint32_t i = 0; i < AII_PANELS && r + i * AII_PANEL < p->n_rows; i++)
      finish(p, r + i * AII_PANEL, c + j, v16_load(waiting + j * TILE_FLOATS + i * AII_PANEL));
}

/* The lines that n columns from c on will be finished in: stores find them there. */
AII_INLINE void fetch_columns(const aii_product *p, uint32_t r, uint32_t c, uint32_t n)
{
  for (uint32_t j = c; j < c + n && j < p->n_cols; j++) {
    const float *y = p->y + (p->y_index != NULL ? p->y_index[j] : j) * p->y_stride + r;
    for (uint32_t i = 0; i < TILE_FLOATS && r + i < p->n_rows; i += AII_PANEL) __builtin_prefetch(y + i, 1);
  }
}

/* The panels of the tile at row r. */
AII_INLINE void tile_panels(const aii_product *p, uint32_t r, const unsigned char **w)
{
  w[0] = (const unsigned char *)p->w + r / AII_PANEL * p->w_stride;
  if (AII_PANELS == 2) w[AII_PANELS - 1] = p->n_rows - r > AII_PANEL ? w[0] + p->w_stride : w[0];
}

/* ---- a block of a quantised panel ---- */

AII_INLINE dot_kind dots_of(aii_fmt f)
{
  if (f == AII_FMT_Q8_0 || f == AII_FMT_IQ4_NL) return DOTS_SIGNED;
  return aii_panel_bits(f) == 4 && f != AII_FMT_MXFP4 ? DOTS_16 : DOTS_64;
}

static const int8_t fp4_codes[16] = {16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4};

/* Blocks whose halves have scales of their own are multiplied as two. */
AII_INLINE uint32_t block_parts(aii_fmt f)
{
  return f == AII_FMT_Q6_K ? 2 : 1;
}

/* What is subtracted from the codes of block_codes(), or of a wide block. */
AII_INLINE int code_zero(aii_fmt f, bool wide)
{
  int zero = dots_of(f) == DOTS_SIGNED ? AII_SIGNED_ZERO : aii_panel_zero(f);
  return wide && zero != 0 && AII_WIDE_ZERO != 0 ? AII_WIDE_ZERO : zero;
}

/* Group g of a block's codes, a byte each. */
AII_INLINE b64 block_codes(aii_fmt f, const unsigned char *block, uint32_t g)
{
  uint32_t bits = aii_panel_bits(f);
  b64 q = b64_load(block + 64 * (bits == 8 ? g : g % 4));
  if (bits < 8) q = b64_and(g < 4 ? q : b64_shift(q, -4), 15);
  if (bits == 5) q = b64_or(q, b64_and(b64_shift(b64_load(block + 256), 4 - (int)g), 16));
  if (bits == 6) q = b64_or(q, b64_and(b64_shift(b64_load(block + 256 + 64 * (g / 4)), 4 - 2 * (int)(g % 4)), 48));
  if (f == AII_FMT_IQ4_NL) q = b64_lookup(q, aii_iq4_levels);
  if (f == AII_FMT_MXFP4) q = b64_lookup(q, fp4_codes);
  if (f == AII_FMT_Q8_0) return AII_SIGNED_ZERO != 0 ? q : b64_add(q, -128);
  return dots_of(f) == DOTS_SIGNED && AII_SIGNED_ZERO != 0 ? b64_add(q, AII_SIGNED_ZERO) : q;
}

/* Of each row: the scale of a part of a block, and the block's minimum. */
AII_INLINE v16 block_scale(aii_fmt f, const unsigned char *head, const unsigned char *scales, uint32_t part)
{
  if (f == AII_FMT_MXFP4) return v16_from_e8m0(scales);
  if (!aii_panel_is_k(f)) return v16_load_f16(scales);
  v16 scale =
      f == AII_FMT_Q6_K ? v16_from_i8(_mm_loadu_si128((const void *)(scales + 16 * part))) : v16_from_u8(scales);
  return v16_mul(v16_load_f16(head), scale);
}

AII_INLINE v16 block_min(aii_fmt f, const unsigned char *head, const unsigned char *scales)
{
  if (!aii_panel_is_k(f)) return v16_load_f16(scales + 32);
  return v16_sub(v16_set1(-0.0f), v16_mul(v16_load_f16(head + 32), v16_from_u8(scales + 16)));
}

/* Spread out: 512 bytes of codes, 16 scales a part, 16 minima. The codes count `zero` more than they mean. */
AII_INLINE size_t wide_bytes(aii_fmt f)
{
  return 512 + 64 * (block_parts(f) + aii_panel_has_min(f));
}

AII_INLINE void widen_block(aii_fmt f, const unsigned char *block, const unsigned char *head, int zero,
                            unsigned char *wide)
{
  float *numbers = (float *)(void *)(wide + 512);
  const unsigned char *scales = block + aii_panel_codes(f);
  int more = zero - code_zero(f, false);
  for (uint32_t g = 0; g < 8; g++) {
    b64 q = block_codes(f, block, g);
    b64_store(wide + 64 * g, more != 0 ? b64_add(q, more) : q);
  }
  for (uint32_t part = 0; part < block_parts(f); part++)
    v16_store(numbers + AII_PANEL * part, block_scale(f, head, scales, part));
  if (aii_panel_has_min(f)) v16_store(numbers + AII_PANEL, block_min(f, head, scales));
}

/* ---- what is read soon ---- */

/* A slice ahead of the one from block `first` on, while that is multiplied: of its bytes, the part that `share` of n
 * columns are, from column c on. Behind a panel's last slice it is the first one of the next tile's. */
AII_INLINE void fetch_slice(aii_fmt f, const aii_product *p, const unsigned char *const *w, size_t first, uint32_t c,
                            uint32_t share, uint32_t n)
{
  size_t bytes = SLICE_BLOCKS * (aii_panel_block(f) + aii_panel_head(f) / 8), at = (first / SLICE_BLOCKS + 1) * bytes;
  for (uint32_t i = 0; i < AII_PANELS; i++) {
    const unsigned char *next = w[i] + (at < p->w_stride ? at : AII_PANELS * p->w_stride);
    for (size_t k = bytes * c / n / 64 * 64; k < bytes * (c + share) / n; k += 64)
      _mm_prefetch((const char *)next + k, _MM_HINT_T1);
  }
}

#endif
