/* kernels/x86/ops_matmul.h - products with weights of F32, F16 and BF16.
 *
 * A register tile is some weight rows times some columns; each product has its own sixteen lanes, so that tiles of any
 * size compute the same bits. Columns are the outer loop: their tile stays in the first-level cache while the rows of
 * the call stream past. One column alone takes four rows at a time, to have enough independent chains.
 */
#ifndef AII_OPS_MATMUL_H
#define AII_OPS_MATMUL_H

AII_INLINE void store_result(const aii_matmul_args *a, uint32_t r, uint32_t c, float v)
{
  float *y = &a->y[c * a->y_stride + r];
  if (a->bias != NULL) v += a->bias[r];
  *y = a->accumulate ? *y + v : v;
}

AII_INLINE v16 load_weights(aii_fmt fmt, const unsigned char *w, size_t i)
{
  if (fmt == AII_FMT_F32) return v16_load((const float *)(const void *)(w + 4 * i));
  return fmt == AII_FMT_F16 ? v16_load_f16(w + 2 * i) : v16_load_bf16(w + 2 * i);
}

/* fmt, rows and cols are constants wherever this is inlined. */
AII_INLINE void float_tile(aii_fmt fmt, const aii_matmul_args *a, uint32_t r, uint32_t c, const uint32_t rows,
                           const uint32_t cols)
{
  const unsigned char *w[4];
  const float *x[8];
  v16 acc[4][8];
  size_t n = a->n_in, whole = n / AII_LANES * AII_LANES;
  for (uint32_t i = 0; i < rows; i++) w[i] = (const unsigned char *)a->w + (r + i) * a->w_stride;
  for (uint32_t j = 0; j < cols; j++)
    x[j] = (const float *)(const void *)((const unsigned char *)a->x + (c + j) * a->x_stride);
  for (uint32_t i = 0; i < rows; i++)
    for (uint32_t j = 0; j < cols; j++) acc[i][j] = v16_zero();

  for (size_t k = 0; k < whole; k += AII_LANES) {
    v16 wv[4];
    for (uint32_t i = 0; i < rows; i++) wv[i] = load_weights(fmt, w[i], k);
    for (uint32_t j = 0; j < cols; j++) {
      v16 xv = v16_load(x[j] + k);
      for (uint32_t i = 0; i < rows; i++) acc[i][j] = v16_fma(wv[i], xv, acc[i][j]);
    }
  }
  if (whole < n) {
    size_t width = fmt == AII_FMT_F32 ? 4 : 2;
    for (uint32_t i = 0; i < rows; i++) {
      unsigned char t[AII_LANES * 4] = {0};
      memcpy(t, w[i] + whole * width, (n - whole) * width);
      v16 wv = load_weights(fmt, t, 0);
      for (uint32_t j = 0; j < cols; j++) acc[i][j] = v16_fma(wv, v16_load_part(x[j] + whole, n - whole, 0), acc[i][j]);
    }
  }
  for (uint32_t i = 0; i < rows; i++)
    for (uint32_t j = 0; j < cols; j++) store_result(a, r + i, c + j, v16_sum(acc[i][j]));
}

#define FLOAT_COLUMNS(fmt, a, c, rows, cols)                                                    \
  do {                                                                                          \
    uint32_t r_ = 0;                                                                            \
    for (; r_ + (rows) <= (a)->n_rows; r_ += (rows)) float_tile(fmt, a, r_, c, (rows), (cols)); \
    for (; r_ < (a)->n_rows; r_++) float_tile(fmt, a, r_, c, 1, (cols));                        \
  } while (0)

AII_INLINE void float_matmul(aii_fmt fmt, const aii_matmul_args *a)
{
  uint32_t c = 0;
  for (; a->n_cols - c >= AII_TILE_COLS && a->n_cols - c != 4; c += AII_TILE_COLS)
    FLOAT_COLUMNS(fmt, a, c, AII_TILE_ROWS, AII_TILE_COLS);
  for (; c + 4 <= a->n_cols; c += 4) FLOAT_COLUMNS(fmt, a, c, 1, 4); /* better than 3 and a lonely one */
  for (; c + 2 <= a->n_cols; c += 2) FLOAT_COLUMNS(fmt, a, c, 2, 2);
  for (; c < a->n_cols; c++) FLOAT_COLUMNS(fmt, a, c, 4, 1);
}

static void matmul_f32(const aii_matmul_args *args)
{
  float_matmul(AII_FMT_F32, args);
}

static void matmul_f16(const aii_matmul_args *args)
{
  float_matmul(AII_FMT_F16, args);
}

static void matmul_bf16(const aii_matmul_args *args)
{
  float_matmul(AII_FMT_BF16, args);
}

#endif
