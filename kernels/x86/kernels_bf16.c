/* kernels/x86/kernels_bf16.c - products of pairs of BF16 weights with BF16 rows, by the instruction of AVX512-BF16.
 *
 * It adds the products of a pair of each of 16 rows with a pair of a column to 16 sums. A tile is two panels times up to
 * twelve columns. Few columns read the panels as they come from memory. Many take them in slices that stay in the
 * first-level cache, and keep their unfinished sums in `work` from slice to slice: no bit of a sum depends on that.
 * Meanwhile the columns of the next tile are fetched, and some of the next slice. Columns that are gathered are copied
 * slice by slice.
 */
#include "kernels/x86/lanes_avx512.h"
#include "kernels/x86/ops_common.h"
#include "kernels/x86/ops_panel.h"
#include "kernels/x86/x86.h"

enum {
  TILE_COLS = 12,
  FEW_COLS = 4,      /* and fewer: memory is slower than the products */
  GROUP_COLS = 256,  /* whose sums wait */
  SLICE_PAIRS = 128, /* of two panels: 16 KB */
  LINE_PAIRS = 16,   /* of a column, in a line of a cache */
  PAIR = 4,          /* bytes of it */
  PANEL_PAIR = PAIR * AII_PANEL,
  PREFETCH_AHEAD = 1536 /* bytes of panels that come from memory: best on a Zen 4, more was slower */
};

typedef struct scratch {
  float waiting[GROUP_COLS * TILE_FLOATS];
  char copied[TILE_COLS][PAIR * SLICE_PAIRS];
} scratch;
_Static_assert(sizeof(scratch) <= AII_PRODUCT_WORK, "work");

/* Columns, evenly apart. */
typedef struct columns {
  const char *x;
  size_t stride;
} columns;

AII_INLINE __m512bh broadcast_pair(const char *x)
{
  int32_t pair;
  memcpy(&pair, x, sizeof pair);
  return (__m512bh)_mm512_set1_epi32(pair);
}

/* Multiples of a stride, which scaled addresses make all others of: else the compiler would keep each in a register. */
typedef struct strides {
  size_t one, three, five, seven;
} strides;

/* sum[j] += a pair of each row of the panels, at w, times one of column j: the first eight from x on, the rest from far. */
AII_INLINE void add_pair(const unsigned char *const *w, const char *x, const char *far, strides s,
                         v16 (*sum)[AII_PANELS], const uint32_t cols)
{
  __m512bh rows[AII_PANELS];
  for (uint32_t i = 0; i < AII_PANELS; i++) rows[i] = (__m512bh)_mm512_loadu_si512(w[i]);
  __asm__("" : "+r"(s.one), "+r"(s.three), "+r"(s.five), "+r"(s.seven));
  const size_t apart[8] = {0, s.one, 2 * s.one, s.three, 4 * s.one, s.five, 2 * s.three, s.seven};
#pragma GCC unroll 12
  for (uint32_t j = 0; j < cols; j++) {
    const __m512bh pair = broadcast_pair((j < 8 ? x : far) + apart[j % 8]);
    for (uint32_t i = 0; i < AII_PANELS; i++) sum[j][i] = _mm512_dpbf16_ps(sum[j][i], rows[i], pair);
  }
}

AII_INLINE void begin_sums(v16 (*sum)[AII_PANELS], bool begin, const float *waiting, const uint32_t cols)
{
  for (uint32_t j = 0; j < cols; j++)
    for (uint32_t i = 0; i < AII_PANELS; i++)
      sum[j][i] = begin ? v16_zero() : v16_load(waiting + j * TILE_FLOATS + i * AII_PANEL);
}

AII_INLINE void keep_sums(v16 (*sum)[AII_PANELS], float *waiting, const uint32_t cols)
{
  for (uint32_t j = 0; j < cols; j++)
    for (uint32_t i = 0; i < AII_PANELS; i++) v16_store(waiting + j * TILE_FLOATS + i * AII_PANEL, sum[j][i]);
}

/* n pairs from w and x on. */
AII_INLINE void add_pairs(const unsigned char *const *w, columns x, size_t n, v16 (*sum)[AII_PANELS],
                          const uint32_t cols)
{
  const strides s = {x.stride, 3 * x.stride, 5 * x.stride, 7 * x.stride};
  const char *far = x.x + (cols > 8 ? 8 * x.stride : 0);
#pragma GCC unroll 2
  for (size_t k = 0; k < n; k++) {
    const unsigned char *const at[AII_PANELS] = {w[0] + PANEL_PAIR * k, w[1] + PANEL_PAIR * k};
    add_pair(at, x.x + PAIR * k, far + PAIR * k, s, sum, cols);
  }
}

/* ---- a slice of a tile's panels, times the columns of a group ---- */

/* Columns where they lie or, when they are anywhere, copied. */
AII_INLINE columns columns_at(const aii_product *p, uint32_t c, size_t first, size_t n, const uint32_t cols)
{
  scratch *work = p->work;
  const size_t at = PAIR * first;
  if (p->x_index == NULL) return (columns){(const char *)product_column(p, c) + at, p->x_stride};
  for (uint32_t j = 0; j < cols; j++) memcpy(work->copied[j], (const char *)product_column(p, c + j) + at, PAIR * n);
  return (columns){work->copied[0], sizeof work->copied[0]};
}

typedef struct slice {
  const aii_product *p;
  const unsigned char *w[AII_PANELS]; /* at its first pair */
  uint32_t r, c, n_cols;              /* of the group */
  size_t first, n;                    /* pairs */
  bool last;
} slice;

/* Line k of `cols` columns from j on is multiplied: meanwhile its part of what comes behind the slice is fetched. */
AII_INLINE void fetch_next_slice(const slice *s, uint32_t j, uint32_t k, const uint32_t cols)
{
  const uint32_t done = SLICE_PAIRS / LINE_PAIRS * j + k * cols;
  const uint32_t from = LINE_PAIRS * done / s->n_cols, to = LINE_PAIRS * (done + cols) / s->n_cols;
  const size_t skip = PANEL_PAIR * s->n + (s->last ? (AII_PANELS - 1) * s->p->w_stride : 0);
  for (uint32_t i = 0; i < AII_PANELS; i++)
    for (uint32_t l = from; l < to; l++) _mm_prefetch((const char *)s->w[i] + skip + PANEL_PAIR * l, _MM_HINT_T1);
}

/* Columns j to j + cols of the group, whose sums wait. The same number of columns behind them is fetched, or of the next
 * slice the first ones. */
AII_INLINE void slice_columns(const slice *s, uint32_t j, const uint32_t cols)
{
  float *waiting = ((scratch *)s->p->work)->waiting + j * TILE_FLOATS;
  const columns x = columns_at(s->p, s->c + j, s->first, s->n, cols);
  const char *next = j + cols < s->n_cols ? x.x + cols * x.stride : x.x - j * x.stride + PAIR * s->n;
  const bool fetches = s->p->x_index == NULL;
  v16 sum[TILE_COLS][AII_PANELS];
  if (s->last) fetch_columns(s->p, s->r, s->c + j, cols);
  begin_sums(sum, s->first == 0, waiting, cols);
  for (size_t k = 0; k < s->n; k += LINE_PAIRS) {
    const unsigned char *const w[AII_PANELS] = {s->w[0] + PANEL_PAIR * k, s->w[1] + PANEL_PAIR * k};
    const columns line = {x.x + PAIR * k, x.stride};
    for (uint32_t l = 0; fetches && l < cols; l++) _mm_prefetch(next + PAIR * k + l * x.stride, _MM_HINT_T0);
    fetch_next_slice(s, j, (uint32_t)k / LINE_PAIRS, cols);
    if (k + LINE_PAIRS <= s->n) add_pairs(w, line, LINE_PAIRS, sum, cols);
    else add_pairs(w, line, s->n - k, sum, cols);
  }
  keep_sums(sum, waiting, cols);
}

static void many_columns(const aii_product *p, uint32_t r, uint32_t c, uint32_t n)
{
  const size_t pairs = ((size_t)p->n_in + 1) / 2;
  slice s = {.p = p, .r = r, .c = c, .n_cols = n};
  tile_panels(p, r, s.w);
  for (; s.first < pairs; s.first += s.n) {
    uint32_t j = 0;
    s.n = SLICE_PAIRS < pairs - s.first ? SLICE_PAIRS : pairs - s.first;
    s.last = s.first + s.n == pairs;
    for (; j + TILE_COLS <= n; j += TILE_COLS) slice_columns(&s, j, TILE_COLS);
    for (; j + 8 <= n; j += 8) slice_columns(&s, j, 8);
    for (; j + 4 <= n; j += 4) slice_columns(&s, j, 4);
    for (; j + 2 <= n; j += 2) slice_columns(&s, j, 2);
    for (; j < n; j++) slice_columns(&s, j, 1);
    for (uint32_t i = 0; i < AII_PANELS; i++) s.w[i] += PANEL_PAIR * s.n;
  }
  finish_columns(p, r, c, p->work, n);
}

/* ---- a few columns, as panels come from memory ---- */

/* Behind a panel's end begins the other one of its tile, which is being read; the next tile is meant. */
AII_INLINE void fetch_ahead(const aii_product *p, const unsigned char *const *w, size_t k, fetch_to to)
{
  const size_t at = PANEL_PAIR * k + PREFETCH_AHEAD,
               there = at < p->w_stride ? at : at + (AII_PANELS - 1) * p->w_stride;
  for (uint32_t i = 0; i < AII_PANELS; i++) fetch(to, w[i] + there);
}

AII_INLINE void few_columns(const aii_product *p, uint32_t r, uint32_t c, fetch_to to, const uint32_t cols)
{
  const size_t pairs = ((size_t)p->n_in + 1) / 2;
  const char *x[FEW_COLS];
  const unsigned char *w[AII_PANELS];
  v16 sum[FEW_COLS][AII_PANELS];
  tile_panels(p, r, w);
  for (uint32_t j = 0; j < cols; j++) x[j] = product_column(p, c + j);
  begin_sums(sum, true, NULL, cols);
#pragma GCC unroll 2
  for (size_t k = 0; k < pairs; k++) {
    fetch_ahead(p, w, k, to);
    for (uint32_t j = 0; j < cols; j++) {
      const __m512bh pair = broadcast_pair(x[j] + PAIR * k);
      for (uint32_t i = 0; i < AII_PANELS; i++)
        sum[j][i] = _mm512_dpbf16_ps(sum[j][i], (__m512bh)_mm512_loadu_si512(w[i] + PANEL_PAIR * k), pair);
    }
  }
  for (uint32_t i = 0; i < AII_PANELS && r + i * AII_PANEL < p->n_rows; i++)
    for (uint32_t j = 0; j < cols; j++) finish(p, r + i * AII_PANEL, c + j, sum[j][i]);
}

void aii_bf16_product(const aii_product *p)
{
  const fetch_to to = where_to_fetch();
  for (uint32_t c = 0; c < p->n_cols; c += GROUP_COLS) {
    const uint32_t n = GROUP_COLS < p->n_cols - c ? GROUP_COLS : p->n_cols - c;
    for (uint32_t r = 0; r < p->n_rows; r += TILE_FLOATS) {
      switch (n) {
        case 1: few_columns(p, r, c, to, 1); break;
        case 2: few_columns(p, r, c, to, 2); break;
        case 3: few_columns(p, r, c, to, 3); break;
        case FEW_COLS: few_columns(p, r, c, to, FEW_COLS); break;
        default: many_columns(p, r, c, n);
      }
    }
  }
}
