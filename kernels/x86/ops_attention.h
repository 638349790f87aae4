/* kernels/x86/ops_attention.h - attention over one tile of keys, and distances between vectors.
 *
 * Scores have a position in each lane, values a dim: no sum goes across lanes. Up to four queries, as those of a group,
 * share each register of keys or values, which comes from the cache and becomes floats once for them; for more queries
 * the caller turns a tile to floats first. Key, value and sum of four queries and AII_SCORE_VECS registers stay in
 * registers over all dims of a tile of keys, and over all keys of a tile of values.
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

/* ---- scores ---- */

AII_INLINE size_t group_bytes(const aii_fmt fmt, size_t dim)
{
  return AII_ATTN_GROUP * (fmt == AII_FMT_F32   ? 4 * dim
                           : fmt == AII_FMT_F16 ? 2 * dim
                                                : dim / AII_QBLOCK * AII_Q8_0_BYTES);
}

AII_INLINE v16 load_floats(const aii_fmt fmt, const char *p)
{
  return fmt == AII_FMT_F16 ? v16_load_f16(p) : v16_load((const float *)(const void *)p);
}

/* n_q queries, 1, 2 or 4, and n_v groups of keys, perhaps with others to fetch: constants where this counts. Where
 * queries are missing the last one stands in, and its results are stored twice. */
typedef struct score_block {
  const char *q[4], *k[4], *next[4];
  uint32_t dim;
} score_block;

AII_INLINE void score_dim(const aii_fmt fmt, const score_block *b, size_t d, const uint32_t n_q, const uint32_t n_v,
                          v16 acc[4][4])
{
  v16 k[4];
  for (uint32_t v = 0; v < n_v; v++) k[v] = load_floats(fmt, b->k[v] + d * AII_LANES * (fmt == AII_FMT_F16 ? 2 : 4));
  for (uint32_t i = 0; i < n_q; i++) {
    v16 q = v16_set1(((const float *)(const void *)b->q[i])[d]);
    for (uint32_t v = 0; v < n_v; v++) acc[i][v] = v16_fma(q, k[v], acc[i][v]);
  }
}

AII_INLINE void score_floats(const aii_fmt fmt, const score_block *b, const uint32_t n_q, const uint32_t n_v,
                             bool fetch, v16 acc[4][4])
{
  const size_t size = fmt == AII_FMT_F16 ? 2 : 4, pairs = b->dim / 2 * 2;
  for (size_t d = 0; d < pairs; d += 2) {
    for (uint32_t v = 0; v < n_v && fetch; v++) {
      _mm_prefetch(b->next[v] + d * AII_LANES * size, AII_FETCH);
      if (fmt == AII_FMT_F32) _mm_prefetch(b->next[v] + d * AII_LANES * size + 64, AII_FETCH);
    }
    score_dim(fmt, b, d, n_q, n_v, acc);
    score_dim(fmt, b, d + 1, n_q, n_v, acc);
  }
  if (pairs < b->dim) score_dim(fmt, b, pairs, n_q, n_v, acc);
}

AII_INLINE void score_q8_0(const score_block *b, const uint32_t n_q, const uint32_t n_v, bool fetch, v16 acc[4][4])
{
  const size_t blocks = b->dim / AII_QBLOCK, n64 = ((size_t)b->dim + 63) / 64 * 64, keys = 2 * AII_LANES * blocks;
  for (size_t at = 0; at < keys && fetch; at += 64)
    for (uint32_t v = 0; v < n_v; v++) _mm_prefetch(b->next[v] + at, AII_FETCH);
  for (size_t l = 0; l < blocks; l++) {
    b64 sum[4][4];
    for (uint32_t i = 0; i < n_q; i++)
      for (uint32_t v = 0; v < n_v; v++)
        sum[i][v] = fours_begin((const int32_t *)(const void *)(b->q[i] + n64 + n64 / 8) + l);
#pragma GCC unroll 1
    for (size_t c = l * AII_QBLOCK; c < (l + 1) * AII_QBLOCK; c += 4) {
      for (uint32_t v = 0; v < n_v; v++) {
        if (fetch) _mm_prefetch(b->next[v] + keys + c * AII_LANES, AII_FETCH);
        fours_key k = fours_load(b->k[v] + keys + c * AII_LANES);
        for (uint32_t i = 0; i < n_q; i++) sum[i][v] = fours_add(sum[i][v], k, b->q[i] + c);
      }
    }
    for (uint32_t v = 0; v < n_v; v++) {
      v16 dk = v16_load_f16(b->k[v] + l * 2 * AII_LANES);
      for (uint32_t i = 0; i < n_q; i++) {
        const float *dq = (const float *)(const void *)(b->q[i] + n64) + l;
        acc[i][v] = v16_fma(v16_from_w16(sum[i][v]), v16_mul(dk, v16_set1(*dq)), acc[i][v]);
      }
    }
  }
}

AII_INLINE void score_groups(const aii_fmt fmt, const aii_attn_tile *keys, const char *q, uint32_t n,
                             const uint32_t n_q, const uint32_t n_v, bool fetch, uint32_t g, float *out,
                             size_t out_stride)
{
  score_block b = {.dim = keys->dim};
  v16 acc[4][4];
  for (uint32_t i = 0; i < n_q; i++) b.q[i] = q + (i < n ? i : n - 1) * (size_t)4 * keys->dim;
  for (uint32_t v = 0; v < n_v; v++) {
    b.k[v] = keys->groups[g + v];
    b.next[v] = fetch ? keys->next[g + v] : NULL;
  }
  for (uint32_t i = 0; i < n_q; i++)
    for (uint32_t v = 0; v < n_v; v++) acc[i][v] = v16_zero();
  if (fmt == AII_FMT_Q8_0) score_q8_0(&b, n_q, n_v, fetch, acc);
  else score_floats(fmt, &b, n_q, n_v, fetch, acc);
  for (uint32_t i = 0; i < n_q; i++)
    for (uint32_t v = 0; v < n_v; v++)
      v16_store(out + (i < n ? i : n - 1) * out_stride + (size_t)(g + v) * AII_LANES, acc[i][v]);
}

/* n_v groups at a time, then one by one. */
AII_INLINE void score_queries(const aii_fmt fmt, const aii_attn_tile *keys, const char *q, uint32_t n,
                              const uint32_t n_q, const uint32_t n_v, bool fetch, float *out, size_t out_stride)
{
  uint32_t g = 0;
  for (; g + n_v <= keys->n_groups; g += n_v) score_groups(fmt, keys, q, n, n_q, n_v, fetch, g, out, out_stride);
  for (; g < keys->n_groups && n_v > 1; g++) score_groups(fmt, keys, q, n, n_q, 1, fetch, g, out, out_stride);
}

/* Queries are taken in fours. The first fetch. */
AII_INLINE void scores_of(const aii_fmt fmt, const aii_attn_tile *keys, const char *q, uint32_t n_q, float *out,
                          size_t stride)
{
  bool fetch = keys->next != NULL;
  for (uint32_t n; n_q > 0; n_q -= n, q += n * (size_t)4 * keys->dim, out += n * stride, fetch = false) {
    n = n_q < 4 ? n_q : 4;
    if (n > 2) score_queries(fmt, keys, q, n, 4, AII_ATTN_VECS, fetch, out, stride);
    else if (n == 2) score_queries(fmt, keys, q, n, 2, AII_ATTN_FEW_VECS, fetch, out, stride);
    else score_queries(fmt, keys, q, n, 1, 4, fetch, out, stride);
  }
}

static void attn_scores(const aii_attn_tile *keys, const void *q, uint32_t n_q, float *out, size_t out_stride)
{
  if (keys->fmt == AII_FMT_F16) scores_of(AII_FMT_F16, keys, q, n_q, out, out_stride);
  else if (keys->fmt == AII_FMT_Q8_0) scores_of(AII_FMT_Q8_0, keys, q, n_q, out, out_stride);
  else scores_of(AII_FMT_F32, keys, q, n_q, out, out_stride);
}

AII_INLINE int32_t sum_i8(const int8_t q[AII_QBLOCK])
{
  __m256i ones = _mm256_set1_epi8(1), pairs = _mm256_maddubs_epi16(ones, _mm256_loadu_si256((const void *)q));
  __m256i fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(fours), _mm256_extracti128_si256(fours, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

static void attn_query(aii_fmt fmt, const float *x, uint32_t dim, float factor, void *out)
{
  int8_t *q = out;
  const size_t n64 = ((size_t)dim + 63) / 64 * 64;
  float *d = (float *)(void *)(q + n64);
  int32_t *sums = (int32_t *)(void *)(d + n64 / AII_QBLOCK);
  if (fmt != AII_FMT_Q8_0) {
    float *to = out;
    size_t i = 0;
    for (; i + AII_LANES <= dim; i += AII_LANES) v16_store(to + i, v16_mul(v16_set1(factor), v16_load(x + i)));
    for (; i < dim; i++) to[i] = factor * x[i];
    return;
  }
  for (size_t b = 0; b < dim / AII_QBLOCK; b++, x += AII_QBLOCK) {
    v16 v0 = v16_mul(v16_set1(factor), v16_load(x)), v1 = v16_mul(v16_set1(factor), v16_load(x + 16));
    float amax = v16_hmax(v16_max(v16_abs(v0), v16_abs(v1)));
    v16 inverse = v16_set1(amax != 0 ? 127 / amax : 0);
    v16_store_i8(q + b * AII_QBLOCK, v16_mul(v0, inverse));
    v16_store_i8(q + b * AII_QBLOCK + 16, v16_mul(v1, inverse));
    d[b] = amax / 127;
    sums[b] = -128 * sum_i8(q + b * AII_QBLOCK);
  }
  if (dim % 64 != 0) {
    memset(q + dim, 0, n64 - dim);
    d[dim / AII_QBLOCK] = 0;
    sums[dim / AII_QBLOCK] = 0;
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

/* ---- the softmax ---- */

/* What is not seen of the first and last sixteen becomes `none`. */
AII_INLINE void hide(float *x, uint32_t first, uint32_t end, float none)
{
  for (uint32_t j = first / AII_LANES * AII_LANES; j < end; j += AII_LANES)
    if (j < first || j + AII_LANES > end)
      v16_store(x + j,
                v16_keep(v16_load(x + j), j < first ? first - j : 0, end - j < AII_LANES ? end - j : AII_LANES, none));
}

/* A maximum that grew by much: what was summed up under the old one shrinks. */
static __attribute__((noinline)) void rescale(const aii_attn_state *s, uint32_t i, v16 most)
{
  float top = v16_hmax(most), before = s->m[i], factor[AII_LANES], *l = s->l + (size_t)i * AII_LANES;
  s->m[i] = top;
  if (!(before > -INFINITY)) return; /* there is nothing yet */
  v16_store(factor, v16_exp2(v16_set1(before - top)));
  v16_store(l, v16_mul(v16_load(l), v16_set1(factor[0])));
  scale(s->acc + (size_t)i * s->dim, factor[0], s->dim);
}

static void attn_soften(const aii_attn_state *s)
{
  const uint32_t from = s->first / AII_LANES * AII_LANES;
  size_t fetched = 0;
  for (uint32_t i = 0; i < s->n_q; i++) {
    for (; s->next != NULL && fetched < s->next_bytes / s->n_q * (i + 1); fetched += 64)
      _mm_prefetch((const char *)s->next + fetched, AII_FETCH);
    float *x = s->scores + i * s->stride, *l = s->l + (size_t)i * AII_LANES;
    hide(x, s->first, s->end, -INFINITY);
    v16 most = v16_load(x + from);
    for (uint32_t j = from + AII_LANES; j < s->end; j += AII_LANES) most = v16_max(most, v16_load(x + j));
    if (v16_any_above(most, s->m[i] + AII_ATTN_SLACK)) rescale(s, i, most);
    v16 m = v16_set1(s->m[i]), sum = v16_load(l);
    for (uint32_t j = from; j < s->end; j += AII_LANES) {
      v16 e = v16_exp2(v16_sub(v16_load(x + j), m));
      v16_store(x + j, e);
      sum = v16_add(sum, e);
    }
    v16_store(l, sum);
  }
}

/* ---- values ---- */

/* n_v sixteens of dims from d on of n_q queries, over one group; as with scores. */
typedef struct value_block {
  const char *group, *next;
  size_t dim, d;
  uint32_t first, end; /* positions in the group */
  const float *p[4];   /* of position 0 */
} value_block;

/* Where query i of n behind q is, or who stands in. */
AII_INLINE size_t query_at(uint32_t q, uint32_t i, uint32_t n)
{
  return q + (i < n ? i : n - 1);
}

AII_INLINE void add_group(const aii_fmt fmt, const value_block *b, const uint32_t n_q, const uint32_t n_v, bool fetch,
                          v16 acc[4][4])
{
  const size_t size = fmt == AII_FMT_F16 ? 2 : 4;
  for (uint32_t j = b->first; j < b->end; j++) {
    const size_t at = (j * b->dim + b->d) * size;
    v16 v[4];
    for (size_t i = 0; i < n_v * AII_LANES * size && fetch; i += 64) _mm_prefetch(b->next + at + i, AII_FETCH);
    for (uint32_t s = 0; s < n_v; s++) v[s] = load_floats(fmt, b->group + at + s * AII_LANES * size);
    for (uint32_t i = 0; i < n_q; i++) {
      v16 weight = v16_set1(b->p[i][j]);
      for (uint32_t s = 0; s < n_v; s++) acc[i][s] = v16_fma(weight, v[s], acc[i][s]);
    }
  }
}

AII_INLINE void add_floats(const aii_fmt fmt, const aii_attn_tile *values, const aii_attn_state *s, uint32_t q,
                           uint32_t n, size_t d, const uint32_t n_q, const uint32_t n_v, bool fetch)
{
  v16 acc[4][4];
  float *out[4];
  for (uint32_t i = 0; i < n_q; i++) out[i] = s->acc + query_at(q, i, n) * s->dim + d;
  for (uint32_t i = 0; i < n_q; i++)
    for (uint32_t v = 0; v < n_v; v++) acc[i][v] = v16_load(out[i] + v * AII_LANES);
  for (uint32_t g = s->first / AII_ATTN_GROUP; g * AII_ATTN_GROUP < s->end; g++) {
    const uint32_t at = g * AII_ATTN_GROUP;
    value_block b = {.group = values->groups[g],
                     .next = fetch ? values->next[g] : NULL,
                     .dim = s->dim,
                     .d = d,
                     .first = s->first > at ? s->first - at : 0,
                     .end = s->end - at < AII_ATTN_GROUP ? s->end - at : AII_ATTN_GROUP};
    for (uint32_t i = 0; i < n_q; i++) b.p[i] = s->scores + query_at(q, i, n) * s->stride + at;
    add_group(fmt, &b, n_q, n_v, fetch, acc);
  }
  for (uint32_t i = 0; i < n_q; i++)
    for (uint32_t v = 0; v < n_v; v++) v16_store(out[i] + v * AII_LANES, acc[i][v]);
}

/* What is behind the last whole sixteen of a query. */
AII_INLINE void add_rest(const aii_fmt fmt, const aii_attn_tile *values, const aii_attn_state *s, uint32_t q, size_t d)
{
  const size_t n = s->dim - d, size = fmt == AII_FMT_F16 ? 2 : 4;
  float *out = s->acc + (size_t)q * s->dim + d, v[AII_LANES] = {0};
  v16 acc = v16_load_part(out, n, 0);
  for (uint32_t j = s->first; j < s->end; j++) {
    const char *row =
        (const char *)values->groups[j / AII_ATTN_GROUP] + (j % AII_ATTN_GROUP * (size_t)s->dim + d) * size;
    if (fmt == AII_FMT_F16) aii_ref_dequant_f16(row, n, v);
    else memcpy(v, row, 4 * n);
    acc = v16_fma(v16_set1(s->scores[q * s->stride + j]), v16_load(v), acc);
  }
  v16_store_part(out, n, acc);
}

/* The weights of query q times the scales [tile] as integers; returns what one of them counts. */
AII_INLINE float weigh(const aii_attn_state *s, size_t q, const float *scales, int16_t out[AII_ATTN_TILE])
{
  const uint32_t from = s->first / AII_LANES * AII_LANES;
  const float *p = s->scores + q * s->stride;
  float w[AII_ATTN_TILE];
  v16 most = v16_zero();
  for (uint32_t j = from; j < s->end; j += AII_LANES) {
    v16 x = v16_mul(v16_load(p + j), v16_load(scales + j));
    v16_store(w + j, x);
    most = v16_max(most, x);
  }
  float a = v16_hmax(most);
  v16 inverse = v16_set1(a != 0 ? 32767 / a : 0);
  for (uint32_t j = from; j < s->end; j += AII_LANES) v16_store_i16(out + j, v16_mul(v16_load(w + j), inverse));
  return a / 32767;
}

/* Block d / 32 of the values: what n_q queries add. */
AII_INLINE void sum_block(const aii_attn_tile *values, const aii_attn_state *s, size_t d, const uint32_t n_q,
                          bool fetch, int16_t w[4][AII_ATTN_TILE], b64 sum[4][2])
{
  const size_t keys = s->dim / AII_QBLOCK * 2 * AII_LANES;
  for (uint32_t g = s->first / AII_LANES; g * AII_LANES < s->end; g++) {
    const char *p = (const char *)values->groups[g] + keys + 2 * d,
               *next = fetch ? (const char *)values->next[g] : NULL;
    if (fetch && d == 0) _mm_prefetch(next, AII_FETCH);
    for (uint32_t j = 0; j < AII_LANES; j += 2, p += 2 * s->dim) {
      if (fetch) _mm_prefetch(next + keys + j * s->dim + 2 * d, AII_FETCH);
      b64 v[2] = {pairs_load(p), pairs_load(p + 2 * AII_LANES)};
      for (uint32_t i = 0; i < n_q; i++)
        for (uint32_t h = 0; h < 2; h++) sum[i][h] = pairs_add(sum[i][h], v[h], &w[i][g * AII_LANES + j]);
    }
  }
}

AII_INLINE void add_block(const aii_attn_tile *values, const aii_attn_state *s, uint32_t q, uint32_t n, size_t d,
                          const uint32_t n_q, bool fetch)
{
  float scales[AII_ATTN_TILE], one[4];
  int16_t w[4][AII_ATTN_TILE];
  b64 sum[4][2];
  for (uint32_t g = s->first / AII_LANES; g * AII_LANES < s->end; g++)
    v16_store(scales + g * AII_LANES, v16_load_f16((const char *)values->groups[g] + d / AII_QBLOCK * 2 * AII_LANES));
  hide(scales, s->first, s->end, 0);
  for (uint32_t i = 0; i < n_q; i++) {
    one[i] = weigh(s, query_at(q, i, n), scales, w[i]);
    sum[i][0] = sum[i][1] = fours_zero();
  }
  sum_block(values, s, d, n_q, fetch, w, sum);
  for (uint32_t i = 0; i < n_q && i < n; i++)
    for (uint32_t h = 0; h < 2; h++) {
      float *acc = s->acc + (size_t)(q + i) * s->dim + d + h * AII_LANES;
      v16_store(acc, v16_fma(v16_from_w16(sum[i][h]), v16_set1(one[i]), v16_load(acc)));
    }
}

/* n <= n_q queries from q on, n_v sixteens at a time. */
AII_INLINE void value_queries(const aii_fmt fmt, const aii_attn_tile *values, const aii_attn_state *s, uint32_t q,
                              uint32_t n, const uint32_t n_q, const uint32_t n_v, bool fetch)
{
  size_t d = 0;
  for (; d < s->dim && fmt == AII_FMT_Q8_0; d += AII_QBLOCK) add_block(values, s, q, n, d, n_q, fetch);
  for (; d + n_v * AII_LANES <= s->dim; d += n_v * AII_LANES) add_floats(fmt, values, s, q, n, d, n_q, n_v, fetch);
  for (; d + AII_LANES <= s->dim && n_v > 1; d += AII_LANES) add_floats(fmt, values, s, q, n, d, n_q, 1, fetch);
  for (uint32_t i = 0; i < n && d < s->dim; i++) add_rest(fmt, values, s, q + i, d);
}

AII_INLINE void values_of(const aii_fmt fmt, const aii_attn_tile *values, const aii_attn_state *s)
{
  bool fetch = values->next != NULL;
  for (uint32_t i = 0, n; i < s->n_q; i += n, fetch = false) {
    n = s->n_q - i < 4 ? s->n_q - i : 4;
    if (n > 2) value_queries(fmt, values, s, i, n, 4, AII_ATTN_VECS, fetch);
    else if (n == 2) value_queries(fmt, values, s, i, n, 2, AII_ATTN_FEW_VECS, fetch);
    else value_queries(fmt, values, s, i, n, 1, 4, fetch);
  }
}

static void attn_values(const aii_attn_tile *values, const aii_attn_state *s)
{
  if (values->fmt == AII_FMT_F16) values_of(AII_FMT_F16, values, s);
  else if (values->fmt == AII_FMT_Q8_0) values_of(AII_FMT_Q8_0, values, s);
  else values_of(AII_FMT_F32, values, s);
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
