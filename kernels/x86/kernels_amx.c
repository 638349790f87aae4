/* kernels/x86/kernels_amx.c - quantised products of many columns in the matrix unit, AMX; the rest is AVX-512's.
 *
 * Four elements of each of 16 rows side by side are what the unit wants of its second operand, so a block of a panel,
 * once its codes are signed bytes, is a register of it; a block of 16 q8 rows is the first operand. Their product, 16
 * columns by 16 rows of exact sums, goes through a buffer in the first-level cache to registers of AVX-512, where scales
 * join as kernels.h says. The unit is ahead: while a block's scales join, it works for those behind, and stores the one
 * that was finished long ago, because a store that waits for a product holds up all that follow.
 *
 * While the unit is at work one port is left for products, fma and conversions, but two for sums of floats and of
 * integers. So every other column is converted by sums: 0x4b400000 + n are the bits of 12582912 + n for |n| < 2^22.
 *
 * Panels are made ready in slices (`wide`), two panels at a time, for as many columns as the second-level cache holds.
 * Columns that are gathered are copied slice by slice. What is left of 16 columns is multiplied by AVX-512: to fill them
 * up would cost more.
 */
#include "kernels/x86/lanes_avx512.h"
#include "kernels/x86/ops_panel.h"
#include "kernels/x86/x86.h"

enum {
  TILE_COLS = 16,
  LEAST_COLS = 32,  /* fewer that are not 16 are faster without the unit */
  GROUP_COLS = 256, /* whose sums wait, at most */
  DOTS = TILE_COLS * AII_PANEL,
  AHEAD = 1, /* blocks that are stored before their scales join */
  COPIED_BYTES = SLICE_BLOCKS * (AII_QBLOCK + 2 * sizeof(float))
};
#define GROUP_BYTES ((size_t)5 << 18) /* of q8 rows that stay in the second-level cache while all panels pass */

typedef struct scratch {
  float waiting[GROUP_COLS * TILE_FLOATS];
  unsigned char wide[AII_PANELS][SLICE_BLOCKS * (512 + 2 * 64)];
  int32_t dots[2][2][DOTS]; /* of a block and the one behind it, by parts */
  char copied[TILE_COLS][COPIED_BYTES];
} scratch;
_Static_assert(sizeof(scratch) <= AII_PRODUCT_WORK, "work");

/* 16 columns, evenly apart, from a slice's first block on. */
typedef struct columns {
  const char *q, *d, *s;
  size_t stride;
} columns;

/* What the compiler does not know the unit to read is in memory behind this. */
AII_INLINE void written(const void *p)
{
  __asm__ volatile("" : : "r"(p) : "memory");
}

/* Registers of the unit: 0 to 3 sums, 4 and 5 columns, 6 and 7 codes, of a part of a block. */
AII_INLINE void begin_tiles(uint32_t parts)
{
  struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
  } config = {.palette = 1};
  for (uint32_t t = 0; t < 8; t++) {
    config.row_bytes[t] = (uint16_t)(t == 4 || t == 5 ? AII_QBLOCK / parts : 64);
    config.rows[t] = (uint8_t)(t < 6 ? TILE_COLS : AII_QBLOCK / 4 / parts);
  }
  written(&config);
  _tile_loadconfig(&config);
}

#define MULTIPLY(sums, cols, codes)  \
  do {                               \
    _tile_loadd(cols, q, stride);    \
    _tile_loadd(codes, wide, 64);    \
    _tile_zero(sums);                \
    _tile_dpbssd(sums, cols, codes); \
  } while (0)

/* sums = columns q times the codes at wide. Registers are named by constants, so wherever this is inlined t is one. */
AII_INLINE void multiply(uint32_t t, const char *q, size_t stride, const void *wide)
{
  switch (t) {
    case 0: MULTIPLY(0, 4, 6); break;
    case 1: MULTIPLY(1, 5, 7); break;
    case 2: MULTIPLY(2, 4, 6); break;
    default: MULTIPLY(3, 5, 7); break;
  }
}

AII_INLINE void store_sums(uint32_t t, int32_t *dots)
{
  switch (t) {
    case 0: _tile_stored(0, dots, 64); break;
    case 1: _tile_stored(1, dots, 64); break;
    case 2: _tile_stored(2, dots, 64); break;
    default: _tile_stored(3, dots, 64); break;
  }
}

/* Columns times panels, of one slice. */
typedef struct slice {
  const columns *x;
  const unsigned char *wide;
  int32_t (*dots)[2][DOTS];
  uint32_t n; /* blocks */
} slice;

/* Block first + k of a slice, first a multiple of four. */
AII_INLINE void multiply_block(aii_fmt f, const slice *s, uint32_t first, uint32_t k)
{
  const uint32_t parts = block_parts(f), b = first + k;
  for (uint32_t h = 0; h < parts && b < s->n; h++)
    multiply((k * parts + h) % 4, s->x->q + AII_QBLOCK * b + AII_QBLOCK / parts * h, s->x->stride,
             s->wide + wide_bytes(f) * b + 512 / parts * h);
}

AII_INLINE void store_block(aii_fmt f, const slice *s, uint32_t first, uint32_t k)
{
  const uint32_t parts = block_parts(f);
  for (uint32_t h = 0; h < parts && first + k < s->n; h++) store_sums((k * parts + h) % 4, s->dots[k % 2][h]);
}

/* Column j's sums. */
AII_INLINE v16 dots_float(const int32_t *dots, uint32_t j, bool convert)
{
  __m512i n = _mm512_load_si512(dots + AII_PANEL * j), zero = _mm512_set1_epi32(0x4b400000);
  if (convert) return _mm512_cvtepi32_ps(n);
  return v16_sub(_mm512_castsi512_ps(_mm512_add_epi32(n, zero)), _mm512_castsi512_ps(zero));
}

AII_INLINE void scale_block(aii_fmt f, const slice *s, uint32_t b, const int32_t (*dots)[DOTS], v16 *sum)
{
  const float *numbers = (const float *)(const void *)(s->wide + wide_bytes(f) * b + 512);
  const size_t one = s->x->stride, three = 3 * one, five = 5 * one, seven = 7 * one;
  const size_t apart[8] = {0, one, 2 * one, three, 4 * one, five, 2 * three, seven};
  const char *d = s->x->d + sizeof(float) * b;
  const ptrdiff_t to_s = s->x->s - s->x->d;
  v16 scale = v16_load(numbers), more = wide_bytes(f) > 576 ? v16_load(numbers + AII_PANEL) : v16_zero();
#pragma GCC unroll 16
  for (uint32_t j = 0; j < TILE_COLS; j++) {
    const char *x = d + (j < 8 ? 0 : 8 * one) + apart[j % 8];
    v16 dx = v16_set1(*(const float *)(const void *)x), first = dots_float(dots[0], j, j % 2 == 0);
    if (block_parts(f) == 2) {
      v16 last = dots_float(dots[1], j, false);
      sum[j] = v16_fma(v16_fma(last, more, v16_mul(first, scale)), dx, sum[j]);
    } else {
      sum[j] = v16_fma(first, v16_mul(scale, dx), sum[j]);
    }
    if (aii_panel_has_min(f)) sum[j] = v16_fma(more, v16_set1(*(const float *)(const void *)(x + to_s)), sum[j]);
    __asm__ volatile("" : "+v"(sum[j]) : : "memory"); /* columns in turn: all at once would not fit the registers */
  }
}

/* A slice of a panel times 16 columns, whose sums wait TILE_FLOATS apart. */
AII_INLINE void multiply_slice(aii_fmt f, const slice *s, bool begin, float *waiting)
{
  const uint32_t product = AHEAD + 2 / block_parts(f);
  v16 sum[TILE_COLS];
#pragma GCC unroll 16
  for (uint32_t j = 0; j < TILE_COLS; j++) sum[j] = begin ? v16_zero() : v16_load(waiting + j * TILE_FLOATS);
#pragma GCC unroll 4
  for (uint32_t k = 0; k < product; k++) multiply_block(f, s, 0, k);
  store_block(f, s, 0, 0);
  for (uint32_t first = 0; first < s->n; first += 4) {
#pragma GCC unroll 4
    for (uint32_t k = 0; k < 4; k++) {
      if (first + k >= s->n) break;
      multiply_block(f, s, first, k + product);
      store_block(f, s, first, k + AHEAD);
      scale_block(f, s, first + k, (const int32_t(*)[DOTS])s->dots[k % 2], sum);
    }
  }
#pragma GCC unroll 16
  for (uint32_t j = 0; j < TILE_COLS; j++) v16_store(waiting + j * TILE_FLOATS, sum[j]);
}

/* ---- all of a product ---- */

/* 16 columns from c on: where they lie or, when they are anywhere, copied. */
AII_INLINE columns columns_at(const aii_product *p, scratch *work, uint32_t c, size_t first, size_t blocks)
{
  const size_t n64 = ((size_t)p->n_in + 63) / 64 * 64, d = n64 + first * sizeof(float), s = d + n64 / AII_QBLOCK * 4;
  const char *x = product_column(p, c), *q = work->copied[0];
  if (p->x_index == NULL) return (columns){x + first * AII_QBLOCK, x + d, x + s, p->x_stride};
  for (uint32_t j = 0; j < TILE_COLS; j++) {
    char *to = work->copied[j], *to_d = to + SLICE_BLOCKS * AII_QBLOCK, *to_s = to_d + SLICE_BLOCKS * sizeof(float);
    x = product_column(p, c + j);
    memcpy(to, x + first * AII_QBLOCK, blocks * AII_QBLOCK);
    memcpy(to_d, x + d, blocks * sizeof(float));
    memcpy(to_s, x + s, blocks * sizeof(float));
  }
  written(q);
  return (columns){q, q + SLICE_BLOCKS * AII_QBLOCK, q + SLICE_BLOCKS * (AII_QBLOCK + sizeof(float)), COPIED_BYTES};
}

/* A tile's panels times n <= GROUP_COLS columns from c on, a multiple of 16. */
AII_INLINE void amx_group(aii_fmt f, const aii_product *p, uint32_t r, uint32_t c, uint32_t n)
{
  scratch *work = p->work;
  const uint32_t panels = p->n_rows - r > AII_PANEL ? AII_PANELS : 1;
  const unsigned char *w[AII_PANELS];
  const size_t blocks = p->n_in / AII_QBLOCK;
  tile_panels(p, r, w);
  for (size_t first = 0; first < blocks; first += SLICE_BLOCKS) {
    const size_t end = first + SLICE_BLOCKS < blocks ? first + SLICE_BLOCKS : blocks;
    for (uint32_t i = 0; i < panels; i++) {
      unsigned char *to = work->wide[i];
      for (size_t b = first; b < end; b++, to += wide_bytes(f))
        widen_block(f, aii_panel_at(f, w[i], b), aii_panel_unit(f, w[i], b), 0, to);
    }
    written(work->wide);
    for (uint32_t j = 0; j < n; j += TILE_COLS) {
      float *waiting = work->waiting + j * TILE_FLOATS;
      const columns x = columns_at(p, work, c + j, first, end - first);
      if (end == blocks) fetch_columns(p, r, c + j, TILE_COLS);
      fetch_slice(f, p, w, first, j, TILE_COLS, n);
      for (uint32_t i = 0; i < panels; i++) {
        const slice s = {&x, work->wide[i], work->dots, (uint32_t)(end - first)};
        multiply_slice(f, &s, first == 0, waiting + i * AII_PANEL);
      }
      if (end == blocks) finish_columns(p, r, c + j, waiting, TILE_COLS);
    }
  }
}

/* Columns of a group: as many as fit the cache, or fewer in groups of about the same size. */
static uint32_t group_columns(const aii_product *p, uint32_t n_cols)
{
  size_t fit = GROUP_BYTES / p->x_stride / TILE_COLS * TILE_COLS;
  uint32_t most = fit > GROUP_COLS ? GROUP_COLS : fit > 2 * TILE_COLS ? (uint32_t)fit : 2 * TILE_COLS;
  uint32_t groups = (n_cols - 1) / most + 1;
  return ((n_cols - 1) / groups / TILE_COLS + 1) * TILE_COLS;
}

/* Columns from c on by AVX-512. */
static void few_columns(aii_fmt f, const aii_product *p, uint32_t c)
{
  aii_product few = *p;
  few.n_cols -= c;
  if (p->x_index != NULL) few.x_index += c;
  else few.x = (const char *)p->x + c * p->x_stride;
  if (p->y_index != NULL) few.y_index += c;
  else few.y += c * p->y_stride;
  aii_kernels_avx512.product[f](&few);
}

AII_INLINE void amx_product(aii_fmt f, const aii_product *p)
{
  const uint32_t rest = p->n_cols % TILE_COLS;
  const uint32_t cols = rest == 0 || p->n_cols >= LEAST_COLS ? p->n_cols - rest : 0;
  if (cols > 0) {
    const uint32_t group = group_columns(p, cols);
    begin_tiles(block_parts(f));
    for (uint32_t c = 0; c < cols; c += group)
      for (uint32_t r = 0; r < p->n_rows; r += TILE_FLOATS) amx_group(f, p, r, c, group < cols - c ? group : cols - c);
    _tile_release();
  }
  if (cols < p->n_cols) few_columns(f, p, cols);
}

#define PRODUCT(NAME, name, ...)                    \
  void aii_amx_product_##name(const aii_product *p) \
  {                                                 \
    amx_product(AII_FMT_##NAME, p);                 \
  }
PRODUCT(Q8_0, q8_0)
PRODUCT(Q4_0, q4_0)
AII_PANEL_FORMATS(PRODUCT)
