/* kernels/x86/ops_matmul_q.h - products of Q8_0 and Q4_0 weights with q8 rows, two blocks at a time.
 *
 * Tiles as in ops_matmul.h. A weight block is decoded once for all columns of the tile. An odd last block is paired
 * with zeros.
 */
#ifndef AII_OPS_MATMUL_Q_H
#define AII_OPS_MATMUL_Q_H

/* One column reads weights only once, from memory: a tile then fetches the rows of the tile that follows, or, where
 * rows are long, what comes next in them. The hardware's own prefetch is lost at the end of every short row. */
#define PREFETCH_ROW_BYTES 6144
#define PREFETCH_BYTES 3072

/* Blocks 2 * pair and its follower of all rows of the tile; has_second is a constant where this is inlined. */
AII_INLINE void quant_step(aii_fmt fmt, const unsigned char *const *w, const int8_t *const *x, size_t pair, size_t n64,
                           size_t ahead, bool has_second, v16 acc[4][8], const uint32_t rows, const uint32_t cols)
{
  size_t bytes = fmt == AII_FMT_Q8_0 ? AII_Q8_0_BYTES : AII_Q4_0_BYTES;
  const float *dx[8];
  for (uint32_t j = 0; j < cols; j++) dx[j] = (const float *)(const void *)(x[j] + n64) + 2 * pair;
  for (uint32_t i = 0; i < rows; i++) {
    const unsigned char *first = w[i] + 2 * pair * bytes, *second = has_second ? first + bytes : NULL;
    const unsigned char *q = has_second ? second + 2 : NULL;
    if (cols == 1) _mm_prefetch((const char *)first + ahead, _MM_HINT_T0);
    float d[2] = {lanes_half(first), has_second ? lanes_half(second) : 0};
    b64 blocks = fmt == AII_FMT_Q8_0 ? b64_load2(first + 2, q) : b64_load2_nibbles(first + 2, q);
    b64_accumulate(blocks, d, x, 64 * pair, dx, acc[i], cols);
  }
}

AII_INLINE void quant_tile(aii_fmt fmt, const aii_matmul_args *a, uint32_t r, uint32_t c, const uint32_t rows,
                           const uint32_t cols)
{
  const unsigned char *w[4];
  const int8_t *x[8];
  v16 acc[4][8];
  size_t blocks = a->n_in / AII_QBLOCK, n64 = ((size_t)a->n_in + 63) / 64 * 64;
  for (uint32_t i = 0; i < rows; i++) w[i] = (const unsigned char *)a->w + (r + i) * a->w_stride;
  for (uint32_t j = 0; j < cols; j++) x[j] = (const int8_t *)a->x + (c + j) * a->x_stride;
  for (uint32_t i = 0; i < rows; i++)
    for (uint32_t j = 0; j < cols; j++) acc[i][j] = v16_zero();
  size_t ahead = a->w_stride <= PREFETCH_ROW_BYTES ? rows * a->w_stride : PREFETCH_BYTES;
  for (size_t pair = 0; pair < blocks / 2; pair++) quant_step(fmt, w, x, pair, n64, ahead, true, acc, rows, cols);
  if (blocks % 2 != 0) quant_step(fmt, w, x, blocks / 2, n64, ahead, false, acc, rows, cols);
  for (uint32_t i = 0; i < rows; i++)
    for (uint32_t j = 0; j < cols; j++) store_result(a, r + i, c + j, v16_sum(acc[i][j]));
}

#define QUANT_COLUMNS(fmt, a, c, rows, cols)                                                    \
  do {                                                                                          \
    uint32_t r_ = 0;                                                                            \
    for (; r_ + (rows) <= (a)->n_rows; r_ += (rows)) quant_tile(fmt, a, r_, c, (rows), (cols)); \
    for (; r_ < (a)->n_rows; r_++) quant_tile(fmt, a, r_, c, 1, (cols));                        \
  } while (0)

AII_INLINE void quant_matmul(aii_fmt fmt, const aii_matmul_args *a)
{
  uint32_t c = 0;
  for (; c + AII_QTILE_COLS <= a->n_cols; c += AII_QTILE_COLS) QUANT_COLUMNS(fmt, a, c, AII_QTILE_ROWS, AII_QTILE_COLS);
  for (; c + 4 <= a->n_cols; c += 4) QUANT_COLUMNS(fmt, a, c, 1, 4);
  for (; c + 2 <= a->n_cols; c += 2) QUANT_COLUMNS(fmt, a, c, 1, 2);
  for (; c < a->n_cols; c++) QUANT_COLUMNS(fmt, a, c, 4, 1);
}

static void matmul_q8_0(const aii_matmul_args *args)
{
  quant_matmul(AII_FMT_Q8_0, args);
}

static void matmul_q4_0(const aii_matmul_args *args)
{
  quant_matmul(AII_FMT_Q4_0, args);
}

#endif
