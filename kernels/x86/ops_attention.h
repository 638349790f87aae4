/* kernels/x86/ops_attention.h - attention over one tile of keys, and distances between vectors.
 *
 * Keys and values are taken as the cache stores them and turned to floats in registers. Four queries share each, as
 * those of a group do: tiles are four queries by pairs of keys, whose lane sums are folded together, and four queries by
 * some sixteens of a value. Where queries or keys are missing the last one stands in, and its results are not kept or
 * are stored twice alike.
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
                          float *out)
{
  for (uint32_t r = 0; r < n_rows; r += 4) {
    uint32_t m = n_rows - r < 4 ? n_rows - r : 4;
    const float *row[4]; /* the last row stands in for rows that are not there */
    for (uint32_t i = 0; i < 4; i++) row[i] = rows + (r + (i < m ? i : m - 1)) * stride;
    __m128 sums = four_rows(l2, row, x, n);
    if (m == 4) {
      _mm_storeu_ps(out + r, sums);
    } else {
      float t[4];
      _mm_storeu_ps(t, sums);
      memcpy(out + r, t, m * sizeof *out);
    }
  }
}

AII_INLINE size_t bytes_of(const aii_fmt fmt, size_t n)
{
  return fmt == AII_FMT_F32 ? 4 * n : fmt == AII_FMT_F16 ? 2 * n : n / AII_QBLOCK * AII_Q8_0_BYTES;
}

/* The elements of a row of floats or halves from d on, fewer than sixteen, and zeros behind them. */
AII_INLINE void load_rest(const aii_fmt fmt, const char *row, size_t d, uint32_t dim, float out[AII_LANES])
{
  for (int i = 0; i < AII_LANES; i++) out[i] = 0;
  if (fmt == AII_FMT_F32) memcpy(out, row + 4 * d, (dim - d) * sizeof *out);
  else aii_ref_dequant_f16(row + 2 * d, dim - d, out);
}

#define EIGHT 8 /* lanes of a score */
#define MAX_PAIRS 2

/* n_q queries (2 or 4) and some pairs of keys; of rows of no whole eights, what is left, padded. */
typedef struct score_tile {
  const char *q[4], *k[2 * MAX_PAIRS];
  float q_rest[4][AII_LANES], k_rest[2 * MAX_PAIRS][AII_LANES];
} score_tile;

/* acc[pair][query]: lanes of two keys. All but t are constants where this counts. */
AII_INLINE void score_floats(const aii_fmt fmt, const score_tile *t, const uint32_t dim, const uint32_t n_q,
                             const uint32_t n_pairs, v16 acc[MAX_PAIRS][4])
{
  const size_t whole = dim / EIGHT * EIGHT;
  for (size_t d = 0; d < whole; d += EIGHT) {
    v16 k[MAX_PAIRS];
    for (uint32_t j = 0; j < n_pairs; j++) {
      const char *a = t->k[2 * j], *b = t->k[2 * j + 1];
      k[j] = fmt == AII_FMT_F16 ? v16_load_pair_f16(a + 2 * d, b + 2 * d)
                                : v16_load_pair((const float *)(const void *)a + d, (const float *)(const void *)b + d);
    }
    for (uint32_t i = 0; i < n_q; i++) {
      v16 q = v16_load_twice((const float *)(const void *)t->q[i] + d);
      for (uint32_t j = 0; j < n_pairs; j++) acc[j][i] = v16_fma(q, k[j], acc[j][i]);
    }
  }
  for (uint32_t i = 0; i < n_q && whole < dim; i++)
    for (uint32_t j = 0; j < n_pairs; j++)
      acc[j][i] =
          v16_fma(v16_load_twice(t->q_rest[i]), v16_load_pair(t->k_rest[2 * j], t->k_rest[2 * j + 1]), acc[j][i]);
}

AII_INLINE void score_q8_0(const score_tile *t, const uint32_t dim, const uint32_t n_q, const uint32_t n_pairs,
                           v16 acc[MAX_PAIRS][4])
{
  const size_t n64 = ((size_t)dim + 63) / 64 * 64;
#pragma GCC unroll 1 /* else registers spill */
  for (size_t b = 0; b < dim / AII_QBLOCK; b++) {
    const size_t at = b * AII_Q8_0_BYTES;
    const char *q[4];
    const float *d[4];
    for (uint32_t i = 0; i < n_q; i++) {
      q[i] = t->q[i] + b * AII_QBLOCK;
      d[i] = (const float *)(const void *)(t->q[i] + n64) + b;
    }
    for (uint32_t j = 0; j < n_pairs; j++)
      v16_add_dots((const unsigned char *)t->k[2 * j] + at, (const unsigned char *)t->k[2 * j + 1] + at, q, d, acc[j],
                   n_q);
  }
}

/* The lane sums of one key for four queries, then those of the other. */
AII_INLINE __m256 eight_sums(const v16 acc[4])
{
  __m256 f[4];
  for (int i = 0; i < 4; i++) {
    __m256 x = v16_low(acc[i]), y = v16_high(acc[i]);
    f[i] = _mm256_add_ps(_mm256_permute2f128_ps(x, y, 0x20), _mm256_permute2f128_ps(x, y, 0x31));
  }
  for (int i = 0; i < 4; i += 2)
    f[i] = _mm256_add_ps(_mm256_shuffle_ps(f[i], f[i + 1], 0x44), _mm256_shuffle_ps(f[i], f[i + 1], 0xee));
  return _mm256_add_ps(_mm256_shuffle_ps(f[0], f[2], 0x88), _mm256_shuffle_ps(f[0], f[2], 0xdd));
}

/* Writes the scores of n queries and n_k keys, one or two. */
AII_INLINE void store_scores(__m256 sums, uint32_t n, uint32_t n_k, float *out, size_t out_stride)
{
  float s[8];
  if (n == 4 && n_k == 2) {
    __m128 a = _mm256_castps256_ps128(sums), b = _mm256_extractf128_ps(sums, 1);
    __m128 first = _mm_unpacklo_ps(a, b), last = _mm_unpackhi_ps(a, b);
    _mm_storel_pi((void *)out, first);
    _mm_storeh_pi((void *)(out + out_stride), first);
    _mm_storel_pi((void *)(out + 2 * out_stride), last);
    _mm_storeh_pi((void *)(out + 3 * out_stride), last);
    return;
  }
  _mm256_storeu_ps(s, sums);
  for (uint32_t i = 0; i < n; i++)
    for (uint32_t j = 0; j < n_k; j++) out[i * out_stride + j] = s[4 * j + i];
}

/* n <= n_q queries; n_q, 2 or 4, and n_pairs are constants. dim is keys->dim, perhaps as a constant. */
AII_INLINE void score_queries(const aii_fmt fmt, const aii_attn_tile *keys, const uint32_t dim, const float *q,
                              uint32_t n, const uint32_t n_q, const uint32_t n_pairs, bool fetch, float *out,
                              size_t out_stride)
{
  const size_t whole = fmt == AII_FMT_Q8_0 ? dim : dim / EIGHT * EIGHT, bytes = bytes_of(fmt, dim);
  score_tile t;
  for (uint32_t i = 0; i < n_q; i++) {
    t.q[i] = (const char *)(q + (size_t)(i < n ? i : n - 1) * dim);
    if (whole < dim) load_rest(AII_FMT_F32, t.q[i], whole, dim, t.q_rest[i]);
  }
  for (uint32_t j = 0; j < keys->n_rows; j += 2 * n_pairs) {
    uint32_t n_k = keys->n_rows - j < 2 * n_pairs ? keys->n_rows - j : 2 * n_pairs;
    v16 acc[MAX_PAIRS][4];
    for (uint32_t i = 0; i < 2 * n_pairs; i++) {
      t.k[i] = keys->rows[j + (i < n_k ? i : n_k - 1)];
      if (whole < dim) load_rest(fmt, t.k[i], whole, dim, t.k_rest[i]);
    }
    for (uint32_t i = 0; i < n_k && fetch; i++)
      for (size_t at = 0; at < bytes; at += 64) _mm_prefetch((const char *)keys->next[j + i] + at, _MM_HINT_T0);
    for (uint32_t i = 0; i < n_pairs; i++)
      for (uint32_t l = 0; l < 4; l++) acc[i][l] = v16_zero();
    if (fmt == AII_FMT_Q8_0) score_q8_0(&t, dim, n_q, n_pairs, acc);
    else score_floats(fmt, &t, dim, n_q, n_pairs, acc);
    for (uint32_t i = 0; i < n_pairs && 2 * i < n_k; i++)
      store_scores(eight_sums(acc[i]), n, n_k - 2 * i < 2 ? 1 : 2, out + j + 2 * i, out_stride);
  }
}

/* The sizes that most models have are constants to the compiler. */
AII_INLINE void scores_of(const aii_fmt fmt, const aii_attn_tile *keys, const float *q, uint32_t n_q, float *out,
                          size_t out_stride)
{
  for (uint32_t i = 0, n; i < n_q; i += n, q += (size_t)n * keys->dim, out += n * out_stride) {
    bool fetch = keys->next != NULL && i == 0;
    n = n_q - i < 4 ? n_q - i : 4;
    if (n <= 2) score_queries(fmt, keys, keys->dim, q, n, 2, 2, fetch, out, out_stride);
    else if (keys->dim == 64) score_queries(fmt, keys, 64, q, n, 4, AII_KEY_PAIRS, fetch, out, out_stride);
    else if (keys->dim == 128) score_queries(fmt, keys, 128, q, n, 4, AII_KEY_PAIRS, fetch, out, out_stride);
    else score_queries(fmt, keys, keys->dim, q, n, 4, AII_KEY_PAIRS, fetch, out, out_stride);
  }
}

static void attn_scores(const aii_attn_tile *keys, const void *q, uint32_t n_q, float *out, size_t out_stride)
{
  if (keys->fmt == AII_FMT_F16) scores_of(AII_FMT_F16, keys, q, n_q, out, out_stride);
  else if (keys->fmt == AII_FMT_Q8_0) scores_of(AII_FMT_Q8_0, keys, q, n_q, out, out_stride);
  else scores_of(AII_FMT_F32, keys, q, n_q, out, out_stride);
}

static void attn_query(aii_fmt fmt, const float *x, uint32_t dim, float factor, void *out)
{
  int8_t *q = out;
  const size_t n64 = ((size_t)dim + 63) / 64 * 64;
  float *d = (float *)(void *)(q + n64);
  if (fmt != AII_FMT_Q8_0) {
    aii_ref_attn_query(fmt, x, dim, factor, out);
    return;
  }
  for (size_t b = 0; b < dim / AII_QBLOCK; b++, x += AII_QBLOCK) {
    v16 v0 = v16_mul(v16_set1(factor), v16_load(x)), v1 = v16_mul(v16_set1(factor), v16_load(x + 16));
    float amax = v16_hmax(v16_max(v16_abs(v0), v16_abs(v1)));
    v16 inverse = v16_set1(amax != 0 ? 127 / amax : 0);
    v16_store_i8(q + b * AII_QBLOCK, v16_mul(v0, inverse));
    v16_store_i8(q + b * AII_QBLOCK + 16, v16_mul(v1, inverse));
    d[b] = amax / 127;
  }
  if (dim % 64 != 0) {
    memset(q + dim, 0, n64 - dim);
    d[dim / AII_QBLOCK] = 0;
  }
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

/* Of a Q8_0 row without its scale, which scaled_weights() has. */
AII_INLINE v16 load_value(const aii_fmt fmt, const char *row, size_t d)
{
  if (fmt == AII_FMT_F32) return v16_load((const float *)(const void *)row + d);
  if (fmt == AII_FMT_F16) return v16_load_f16(row + 2 * d);
  return v16_load_i8(row + d / AII_QBLOCK * AII_Q8_0_BYTES + 2 + d % AII_QBLOCK);
}

/* Some sixteens of the values from d on, for n_q queries; fmt, n_q and n_vecs are constants. */
AII_INLINE void add_values(const aii_fmt fmt, const aii_attn_tile *values, const float *const *p, const uint32_t n_q,
                           size_t d, const uint32_t n_vecs, bool fetch, float *const *acc)
{
  const size_t from = bytes_of(fmt, d), bytes = bytes_of(fmt, d + n_vecs * AII_LANES) - from;
  v16 a[4][4], v[4];
  for (uint32_t i = 0; i < n_q; i++)
    for (uint32_t s = 0; s < n_vecs; s++) a[i][s] = v16_load(acc[i] + d + s * AII_LANES);
  for (uint32_t j = 0; j < values->n_rows; j++) {
    for (size_t at = 0; at < bytes && fetch; at += 64)
      _mm_prefetch((const char *)values->next[j] + from + at, _MM_HINT_T0);
    for (uint32_t s = 0; s < n_vecs; s++) v[s] = load_value(fmt, values->rows[j], d + s * AII_LANES);
    for (uint32_t i = 0; i < n_q; i++) {
      v16 weight = v16_set1(p[i][j]);
      for (uint32_t s = 0; s < n_vecs; s++) a[i][s] = v16_fma(weight, v[s], a[i][s]);
    }
  }
  for (uint32_t i = 0; i < n_q; i++)
    for (uint32_t s = 0; s < n_vecs; s++) v16_store(acc[i] + d + s * AII_LANES, a[i][s]);
}

/* What is behind the last whole sixteen. */
AII_INLINE void add_rest(const aii_fmt fmt, const aii_attn_tile *values, const float *p, size_t d, float *acc)
{
  v16 lanes = v16_load_part(acc + d, values->dim - d, 0);
  for (uint32_t j = 0; j < values->n_rows; j++) {
    float v[AII_LANES];
    load_rest(fmt, values->rows[j], d, values->dim, v);
    lanes = v16_fma(v16_set1(p[j]), v16_load(v), lanes);
  }
  v16_store_part(acc + d, values->dim - d, lanes);
}

/* The weights of n_q queries times the scales of block b of each row. */
AII_INLINE void scaled_weights(const aii_attn_tile *values, size_t b, const float *const *p, const uint32_t n_q,
                               float out[4][AII_ATTN_TILE])
{
  uint16_t halves[AII_ATTN_TILE] = {0};
  float d[AII_ATTN_TILE];
  for (uint32_t j = 0; j < values->n_rows; j++)
    memcpy(&halves[j], (const char *)values->rows[j] + b * AII_Q8_0_BYTES, sizeof *halves);
  for (uint32_t j = 0; j < values->n_rows; j += AII_LANES) v16_store(d + j, v16_load_f16(halves + j));
  for (uint32_t i = 0; i < n_q; i++)
    for (uint32_t j = 0; j < values->n_rows; j++) out[i][j] = p[i][j] * d[j];
}

/* n <= n_q queries, n_q a constant: 2 or 4. */
AII_INLINE void value_queries(const aii_fmt fmt, const aii_attn_tile *values, const float *p, size_t p_stride,
                              uint32_t n, const uint32_t n_q, bool fetch, float *acc)
{
  const uint32_t dim = values->dim, n_vecs = n_q == 4 ? AII_VALUE_VECS : 2;
  const float *weights[4];
  float *to[4];
  size_t d = 0;
  for (uint32_t i = 0; i < n_q; i++) {
    weights[i] = p + (i < n ? i : n - 1) * p_stride;
    to[i] = acc + (size_t)(i < n ? i : n - 1) * dim;
  }
  for (; d < dim && fmt == AII_FMT_Q8_0; d += AII_QBLOCK) {
    float scaled[4][AII_ATTN_TILE];
    const float *rows[4] = {scaled[0], scaled[1], scaled[2], scaled[3]};
    const uint32_t vecs = AII_VALUE_VECS < 2 ? 1 : 2;
    scaled_weights(values, d / AII_QBLOCK, weights, n_q, scaled);
    for (size_t at = d; at < d + AII_QBLOCK; at += vecs * AII_LANES)
      add_values(fmt, values, rows, n_q, at, vecs, fetch, to);
  }
  for (; d + n_vecs * AII_LANES <= dim; d += n_vecs * AII_LANES)
    add_values(fmt, values, weights, n_q, d, n_vecs, fetch, to);
  for (; d + AII_LANES <= dim; d += AII_LANES) add_values(fmt, values, weights, n_q, d, 1, fetch, to);
  for (uint32_t i = 0; i < n && d < dim; i++) add_rest(fmt, values, weights[i], d, to[i]);
}

AII_INLINE void values_of(const aii_fmt fmt, const aii_attn_tile *values, const float *p, size_t p_stride, uint32_t n_q,
                          float *acc)
{
  for (uint32_t i = 0, n; i < n_q; i += n, p += n * p_stride, acc += (size_t)n * values->dim) {
    bool fetch = values->next != NULL && i == 0;
    n = n_q - i < 4 ? n_q - i : 4;
    if (n > 2) value_queries(fmt, values, p, p_stride, n, 4, fetch, acc);
    else value_queries(fmt, values, p, p_stride, n, 2, fetch, acc);
  }
}

static void attn_values(const aii_attn_tile *values, const float *p, size_t p_stride, uint32_t n_q, float *acc)
{
  if (values->fmt == AII_FMT_F16) values_of(AII_FMT_F16, values, p, p_stride, n_q, acc);
  else if (values->fmt == AII_FMT_Q8_0) values_of(AII_FMT_Q8_0, values, p, p_stride, n_q, acc);
  else values_of(AII_FMT_F32, values, p, p_stride, n_q, acc);
}

static void vec_dot(const float *rows, size_t row_stride, uint32_t n_rows, const float *query, uint32_t dim, float *out)
{
  rows_with(false, rows, row_stride, n_rows, query, dim, out);
}

static void vec_l2sq(const float *rows, size_t row_stride, uint32_t n_rows, const float *query, uint32_t dim,
                     float *out)
{
  rows_with(true, rows, row_stride, n_rows, query, dim, out);
}

#endif
