/* kernels/x86/ops_attention.h - attention over one tile of keys, and distances between vectors.
 *
 * Four rows are multiplied at once, because their four lane sums can then be folded together.
 */
#ifndef AII_OPS_ATTENTION_H
#define AII_OPS_ATTENTION_H

AII_INLINE v16 product(bool l2, v16 a, v16 b, v16 acc)
{
  if (!l2) return v16_fma(a, b, acc);
  v16 d = v16_sub(a, b);
  return v16_fma(d, d, acc);
}

/* Sums of four rows with x; l2 is a constant where this is inlined. */
AII_INLINE __m128 four_rows(bool l2, const float *const row[4], const float *x, uint32_t n)
{
  v16 acc[4] = {v16_zero(), v16_zero(), v16_zero(), v16_zero()};
  uint32_t whole = n / AII_LANES * AII_LANES;
  for (uint32_t k = 0; k < whole; k += AII_LANES) {
    v16 xv = v16_load(x + k);
    for (int i = 0; i < 4; i++) acc[i] = product(l2, v16_load(row[i] + k), xv, acc[i]);
  }
  if (whole < n) {
    v16 xv = v16_load_part(x + whole, n - whole, 0);
    for (int i = 0; i < 4; i++) acc[i] = product(l2, v16_load_part(row[i] + whole, n - whole, 0), xv, acc[i]);
  }
  return v16_sum4(acc[0], acc[1], acc[2], acc[3]);
}

AII_INLINE void rows_with(bool l2, const float *rows, size_t stride, uint32_t n_rows, const float *x, uint32_t n,
                          float factor, bool scaled, float *out)
{
  for (uint32_t r = 0; r < n_rows; r += 4) {
    uint32_t m = n_rows - r < 4 ? n_rows - r : 4;
    const float *row[4]; /* the last row stands in for rows that are not there */
    for (uint32_t i = 0; i < 4; i++) row[i] = rows + (r + (i < m ? i : m - 1)) * stride;
    __m128 sums = four_rows(l2, row, x, n);
    if (scaled) sums = _mm_mul_ps(_mm_set1_ps(factor), sums);
    if (m == 4) {
      _mm_storeu_ps(out + r, sums);
    } else {
      float t[4];
      _mm_storeu_ps(t, sums);
      memcpy(out + r, t, m * sizeof *out);
    }
  }
}

static void attn_scores(const float *q, uint32_t n_q, const float *k, uint32_t n_keys, uint32_t dim, float factor,
                        float *out, size_t out_stride)
{
  for (uint32_t i = 0; i < n_q; i++)
    rows_with(false, k, dim, n_keys, q + (size_t)i * dim, dim, factor, true, out + i * out_stride);
}

static float max(const float *x, size_t n)
{
  v16 m = v16_set1(x[0]);
  size_t i = 0;
  for (; i + AII_LANES <= n; i += AII_LANES) m = v16_max(m, v16_load(x + i));
  if (i < n) m = v16_max(m, v16_load_part(x + i, n - i, x[0]));
  return v16_hmax(m);
}

static float exp_sum(float *x, size_t n, float m)
{
  v16 sum = v16_zero(), mv = v16_set1(m);
  size_t i = 0;
  for (; i + AII_LANES <= n; i += AII_LANES) {
    v16 e = v16_exp(v16_sub(v16_load(x + i), mv));
    v16_store(x + i, e);
    sum = v16_add(sum, e);
  }
  if (i < n) {
    v16 e = v16_exp(v16_sub(v16_load_part(x + i, n - i, -INFINITY), mv));
    v16_store_part(x + i, n - i, e);
    sum = v16_add(sum, e);
  }
  return v16_sum(sum);
}

/* Sixteen dims of n_q queries, n_q a constant. */
AII_INLINE void values16(const float *p, size_t p_stride, const uint32_t n_q, const float *v, uint32_t n_keys,
                         uint32_t dim, float *acc)
{
  v16 a[4];
  for (uint32_t i = 0; i < n_q; i++) a[i] = v16_load(acc + (size_t)i * dim);
  for (uint32_t j = 0; j < n_keys; j++) {
    v16 vv = v16_load(v + (size_t)j * dim);
    for (uint32_t i = 0; i < n_q; i++) a[i] = v16_fma(v16_set1(p[i * p_stride + j]), vv, a[i]);
  }
  for (uint32_t i = 0; i < n_q; i++) v16_store(acc + (size_t)i * dim, a[i]);
}

static void attn_values(const float *p, size_t p_stride, uint32_t n_q, const float *v, uint32_t n_keys, uint32_t dim,
                        float *acc)
{
  uint32_t whole = dim / AII_LANES * AII_LANES;
  for (uint32_t d = 0; d < whole; d += AII_LANES) {
    uint32_t i = 0;
    for (; i + 4 <= n_q; i += 4) values16(p + i * p_stride, p_stride, 4, v + d, n_keys, dim, acc + (size_t)i * dim + d);
    for (; i < n_q; i++) values16(p + i * p_stride, p_stride, 1, v + d, n_keys, dim, acc + (size_t)i * dim + d);
  }
  if (whole == dim) return;
  for (uint32_t i = 0; i < n_q; i++) {
    float *a = acc + (size_t)i * dim + whole;
    v16 lanes = v16_load_part(a, dim - whole, 0);
    for (uint32_t j = 0; j < n_keys; j++)
      lanes = v16_fma(v16_set1(p[i * p_stride + j]), v16_load_part(v + (size_t)j * dim + whole, dim - whole, 0), lanes);
    v16_store_part(a, dim - whole, lanes);
  }
}

static void vec_dot(const float *rows, size_t row_stride, uint32_t n_rows, const float *query, uint32_t dim, float *out)
{
  rows_with(false, rows, row_stride, n_rows, query, dim, 1, false, out);
}

static void vec_l2sq(const float *rows, size_t row_stride, uint32_t n_rows, const float *query, uint32_t dim,
                     float *out)
{
  rows_with(true, rows, row_stride, n_rows, query, dim, 1, false, out);
}

#endif
