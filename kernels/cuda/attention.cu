/* attention.cu - keys and values into the paged cache, and attention over it.
 *
 * A block of threads takes a row, some query heads that share a KV head, and a split of AII_CUDA_SPLIT positions: an
 * online softmax over tiles of 64 keys, as cpu_attention.c states it, with the same sums in the same order. A thread has a
 * key while scores are made, and some dims of the values while they are added up. A second kernel merges the splits of a
 * query in their order. So a result depends on the row's position and window alone.
 *
 * In the cache, rows lie as `quant` writes them, one behind the other.
 */
#include "kernels/cuda/device.h"

using namespace aii;

enum {
  TILE = AII_ATTN_TILE,
  ATTN_THREADS = 128,
  QUERIES = 4, /* of a block */
  DIMS = AII_CUDA_MAX_HEAD / ATTN_THREADS
};
#define LOG2_E 0x1.715476p+0f
#define LOG_2 0x1.62e43p-1f
#define EXP2_LEAST (-125.0f)
#define SLACK 8.0f
#define INFINITE float_of_bits(0x7f800000u)

/* For x up to SLACK; kernels/ref/ref.h has the polynomial. */
__device__ static float exp2_of(float x)
{
  if (x < EXP2_LEAST) return 0;
  float n = rintf(x), r = x - n, p = 0x1.5bba12p-10f;
  p = fmaf(p, r, 0x1.3cea88p-7f);
  p = fmaf(p, r, 0x1.c6b752p-5f);
  p = fmaf(p, r, 0x1.ebf9bcp-3f);
  p = fmaf(p, r, 0x1.62e42ap-1f);
  return fmaf(p, r, 1) * float_of_bits((uint32_t)((int)(n > EXP2_LEAST ? n : EXP2_LEAST) + 127) << 23);
}

/* ---- the cache ---- */

/* The key of a position; its value lies value_offset behind the first key. */
__device__ static char *key_at(const aii_cuda_kv &kv, const uint32_t *table, uint32_t head, uint32_t pos)
{
  return kv.base + (size_t)table[pos / kv.block_tokens] * kv.block_bytes + kv.layer_at +
         ((size_t)head * kv.block_tokens + pos % kv.block_tokens) * kv.key_bytes;
}

__device__ static char *value_at(const aii_cuda_kv &kv, const uint32_t *table, uint32_t head, uint32_t pos)
{
  return kv.base + (size_t)table[pos / kv.block_tokens] * kv.block_bytes + kv.layer_at + kv.value_offset +
         ((size_t)head * kv.block_tokens + pos % kv.block_tokens) * kv.value_bytes;
}

/* Element i of a row of floats or halves. */
__device__ static float element(int fmt, const char *row, uint32_t i)
{
  return fmt == AII_FMT_F16 ? float_of_half(((const uint16_t *)row)[i]) : ((const float *)row)[i];
}

/* Rows are written by warps, 32 elements at a time; a whole warp comes here. */
__device__ static void write_elements(int fmt, const float *x, uint32_t n, uint32_t b, char *row)
{
  uint32_t i = b * AII_QBLOCK + threadIdx.x % WARP;
  float v = i < n ? x[i] : 0;
  if (fmt == AII_FMT_Q8_0) {
    float d = warp_max(fabsf(v)) / 127, inverse = d != 0 ? 1 / d : 0;
    char *block = row + (size_t)b * AII_Q8_0_BYTES;
    if (threadIdx.x % WARP == 0) *(uint16_t *)block = half_of_float(d);
    block[2 + threadIdx.x % WARP] = (char)clamp_int(roundf(v * inverse), -127, 127);
  } else if (i < n) {
    if (fmt == AII_FMT_F16) ((uint16_t *)row)[i] = half_of_float(v);
    else ((float *)row)[i] = v;
  }
}

__global__ void kv_write(aii_cuda_kv kv, aii_cuda_rows rows, const float *k, const float *v)
{
  uint32_t r = blockIdx.x, head = blockIdx.y, pos = rows.pos[r];
  const uint32_t *table = rows.tables + (size_t)rows.seq[r] * rows.table_stride;
  const float *key = k + ((size_t)r * kv.n_kv_heads + head) * kv.head_dim,
              *value = v + ((size_t)r * kv.n_kv_heads + head) * kv.value_dim;
  char *to_key = key_at(kv, table, head, pos), *to_value = value_at(kv, table, head, pos);
  for (uint32_t b = threadIdx.x / WARP; b * AII_QBLOCK < kv.head_dim; b += blockDim.x / WARP)
    write_elements(kv.fmt, key, kv.head_dim, b, to_key);
  for (uint32_t b = threadIdx.x / WARP; b * AII_QBLOCK < kv.value_dim; b += blockDim.x / WARP)
    write_elements(kv.fmt, value, kv.value_dim, b, to_value);
}

void aii_cuda_kv_write(aii_cuda_stream stream, const aii_cuda_kv *kv, const aii_cuda_rows *rows, const float *k,
                       const float *v)
{
  aii_cuda_kv cache = *kv;
  aii_cuda_rows where = *rows;
  AII_LAUNCH(kv_write, dim3(rows->n_rows, kv->n_kv_heads), ATTN_THREADS, stream, cache, where, k, v);
}

/* ---- a block's memory ---- */

struct state {
  float q[QUERIES][AII_CUDA_MAX_HEAD]; /* of Q8_0 keys: integers, as floats */
  float q_scale[QUERIES][AII_CUDA_MAX_HEAD / AII_QBLOCK];
  float scores[QUERIES][TILE];
  float weights[QUERIES][TILE]; /* of Q8_0 values: with the scales of a block of dims, then as integers */
  float lanes[QUERIES][LANES];
  float m[QUERIES], top[QUERIES], factor[QUERIES], most[QUERIES];
};

/* Positions first..end that a row sees. */
__device__ static void visible(const aii_cuda_attn &a, uint32_t r, uint32_t *first, uint32_t *end)
{
  uint32_t pos = a.rows.pos[r], window = a.window;
  if (a.both_ways) {
    uint32_t half = window > 0 ? window / 2 : 0xffffffffu, ends = a.rows.ends[r];
    *first = pos > half ? pos - half : 0;
    *end = ends - pos > half ? pos + half + 1 : ends;
    return;
  }
  *first = window > 0 && pos >= window ? pos - window + 1 : 0;
  *end = pos + 1;
}

/* The queries, times scale; to integers by blocks of 32 where keys are. A warp takes 32 elements. */
__device__ static void load_queries(const aii_cuda_attn &a, const float *q, uint32_t n_q, float scale, state &s)
{
  const uint32_t dim = a.kv.head_dim, blocks = (dim + AII_QBLOCK - 1) / AII_QBLOCK, lane = threadIdx.x % WARP;
  for (uint32_t at = threadIdx.x / WARP; at < n_q * blocks; at += ATTN_THREADS / WARP) {
    uint32_t i = at / blocks, b = at % blocks, d = b * AII_QBLOCK + lane;
    float v = d < dim ? scale * q[(size_t)i * dim + d] : 0;
    if (a.kv.fmt == AII_FMT_Q8_0) {
      float amax = warp_max(fabsf(v)), inverse = amax != 0 ? 127 / amax : 0;
      if (lane == 0) s.q_scale[i][b] = amax / 127;
      v = fmaxf(-127, fminf(127, rintf(v * inverse)));
    }
    if (d < dim) s.q[i][d] = v;
  }
}

__device__ static float dot(const aii_cuda_kv &kv, const char *key, const float *q, const float *q_scale)
{
  float sum = 0;
  if (kv.fmt != AII_FMT_Q8_0) {
    for (uint32_t d = 0; d < kv.head_dim; d++) sum = fmaf(q[d], element(kv.fmt, key, d), sum);
    return sum;
  }
  for (uint32_t b = 0; b < kv.head_dim / AII_QBLOCK; b++) {
    const char *block = key + (size_t)b * AII_Q8_0_BYTES;
    int isum = 0;
    for (uint32_t i = 0; i < AII_QBLOCK; i++)
      isum += (int)q[b * AII_QBLOCK + i] * (int)((const signed char *)block)[2 + i];
    sum = fmaf((float)isum, float_of_half(load_u16(block)) * q_scale[b], sum);
  }
  return sum;
}

/* Softcap and distance, then the binary logarithm. */
__device__ static float bent(const aii_cuda_attn &a, float score, uint32_t head, uint32_t pos, uint32_t p)
{
  if (a.softcap > 0) score = a.softcap * tanh1(score * (1 / a.softcap));
  if (a.slopes != NULL) score -= a.slopes[head] * (float)(p > pos ? p - pos : pos - p);
  return score * LOG2_E;
}

/* The largest score of each query; m, and what the sums shrink by, follow from it. A warp takes a query. */
__device__ static void find_tops(uint32_t n_q, uint32_t n, state &s)
{
  uint32_t i = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  if (i < n_q) {
    float top = -INFINITE;
    for (uint32_t j = lane; j < n; j += WARP) top = fmaxf(top, s.scores[i][j]);
    top = warp_max(top);
    if (lane == 0) {
      bool higher = top > s.m[i] + SLACK;
      s.factor[i] = higher ? exp2_of(s.m[i] - top) : 1;
      if (higher) s.m[i] = top;
    }
  }
  __syncthreads();
}

/* Weights, and their sums by lanes: `shift` is the first position modulo the lanes. */
__device__ static void soften(uint32_t n_q, uint32_t n, uint32_t shift, state &s)
{
  for (uint32_t at = threadIdx.x; at < n_q * LANES; at += ATTN_THREADS) {
    uint32_t i = at / LANES, lane = at % LANES, first = (lane + LANES - shift) % LANES;
    float l = s.lanes[i][lane];
    if (s.factor[i] != 1) l *= s.factor[i];
    for (uint32_t j = first; j < n; j += LANES) {
      float w = exp2_of(s.scores[i][j] - s.m[i]);
      s.scores[i][j] = w;
      l += w;
    }
    s.lanes[i][lane] = l;
  }
  __syncthreads();
}

/* acc[i][k]: dim threadIdx.x + k * ATTN_THREADS of query i. */
__device__ static void shrink(uint32_t n_q, const state &s, float acc[QUERIES][DIMS])
{
  for (uint32_t i = 0; i < n_q; i++)
    if (s.factor[i] != 1)
      for (int k = 0; k < DIMS; k++) acc[i][k] *= s.factor[i];
}

__device__ static void add_floats(const aii_cuda_attn &a, const uint32_t *table, uint32_t head, uint32_t from,
                                  uint32_t n_q, uint32_t n, const state &s, float acc[QUERIES][DIMS])
{
  for (uint32_t j = 0; j < n; j++) {
    const char *value = value_at(a.kv, table, head, from + j);
    for (int k = 0; k < DIMS; k++) {
      uint32_t d = threadIdx.x + k * ATTN_THREADS;
      if (d >= a.kv.value_dim) break;
      float v = element(a.kv.fmt, value, d);
      for (uint32_t i = 0; i < n_q; i++) acc[i][k] = fmaf(s.scores[i][j], v, acc[i][k]);
    }
  }
}

/* The weights of block b of dims, times its scales, as integers; a warp takes a query. */
__device__ static void weigh_block(const aii_cuda_attn &a, const uint32_t *table, uint32_t head, uint32_t from,
                                   uint32_t n_q, uint32_t n, uint32_t b, state &s)
{
  uint32_t i = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  __syncthreads();
  if (i < n_q) {
    float most = 0;
    for (uint32_t j = lane; j < n; j += WARP) {
      const char *block = value_at(a.kv, table, head, from + j) + (size_t)b * AII_Q8_0_BYTES;
      s.weights[i][j] = s.scores[i][j] * float_of_half(load_u16(block));
      most = fmaxf(most, s.weights[i][j]);
    }
    most = warp_max(most);
    float inverse = most != 0 ? 32767 / most : 0;
    for (uint32_t j = lane; j < n; j += WARP) s.weights[i][j] = rintf(s.weights[i][j] * inverse);
    if (lane == 0) s.most[i] = most;
  }
  __syncthreads();
}

__device__ static void add_integers(const aii_cuda_attn &a, const uint32_t *table, uint32_t head, uint32_t from,
                                    uint32_t n_q, uint32_t n, state &s, float acc[QUERIES][DIMS])
{
  for (uint32_t b = 0; b < a.kv.value_dim / AII_QBLOCK; b++) {
    weigh_block(a, table, head, from, n_q, n, b, s);
    uint32_t k = b * AII_QBLOCK / ATTN_THREADS, d = threadIdx.x + k * ATTN_THREADS;
    if (d / AII_QBLOCK != b) continue;
    for (uint32_t i = 0; i < n_q; i++) {
      int sum = 0;
      for (uint32_t j = 0; j < n; j++) {
        const char *block = value_at(a.kv, table, head, from + j) + (size_t)b * AII_Q8_0_BYTES;
        sum += (int)s.weights[i][j] * (int)((const signed char *)block)[2 + d % AII_QBLOCK];
      }
      acc[i][k] = fmaf((float)sum, s.most[i] / 32767, acc[i][k]);
    }
  }
}

/* One tile, of which the row sees n positions from `from` on. */
__device__ static void visit_tile(const aii_cuda_attn &a, const uint32_t *table, uint32_t r, uint32_t kv_head,
                                  uint32_t q_head, uint32_t n_q, uint32_t from, uint32_t n, state &s,
                                  float acc[QUERIES][DIMS])
{
  const bool bends = a.softcap > 0 || a.slopes != NULL;
  __syncthreads();
  for (uint32_t at = threadIdx.x; at < n_q * TILE; at += ATTN_THREADS) {
    uint32_t i = at / TILE, j = at % TILE;
    if (j >= n) continue;
    float score = dot(a.kv, key_at(a.kv, table, kv_head, from + j), s.q[i], s.q_scale[i]);
    s.scores[i][j] = bends ? bent(a, score, q_head + i, a.rows.pos[r], from + j) : score;
  }
  __syncthreads();
  find_tops(n_q, n, s);
  soften(n_q, n, from % LANES, s);
  shrink(n_q, s, acc);
  if (a.kv.fmt == AII_FMT_Q8_0) add_integers(a, table, kv_head, from, n_q, n, s, acc);
  else add_floats(a, table, kv_head, from, n_q, n, s, acc);
}

__device__ static float *part_at(const aii_cuda_attn &a, uint32_t row, uint32_t head, uint32_t split)
{
  return a.parts + (((size_t)row * a.n_heads + head) * a.n_splits + split) * (a.kv.value_dim + 2);
}

/* blockIdx: x the row, y the split, z the KV head and which of its queries. */
__global__ void attend_split(aii_cuda_attn a)
{
  __shared__ state s;
  const uint32_t group = a.n_heads / a.kv.n_kv_heads, pieces = (group + QUERIES - 1) / QUERIES;
  const uint32_t r = a.first_row + blockIdx.x, split = blockIdx.y, kv_head = blockIdx.z / pieces,
                 skipped = blockIdx.z % pieces * QUERIES, q_head = kv_head * group + skipped,
                 n_q = min((uint32_t)QUERIES, group - skipped);
  const uint32_t *table = a.rows.tables + (size_t)a.rows.seq[r] * a.rows.table_stride;
  const bool bends = a.softcap > 0 || a.slopes != NULL;
  uint32_t first, end;
  float acc[QUERIES][DIMS] = {{0}};
  visible(a, r, &first, &end);
  first = max(first, split * AII_CUDA_SPLIT);
  end = min(end, (split + 1) * AII_CUDA_SPLIT);
  for (uint32_t i = threadIdx.x; i < QUERIES * LANES; i += ATTN_THREADS) s.lanes[i / LANES][i % LANES] = 0;
  if (threadIdx.x < QUERIES) s.m[threadIdx.x] = -INFINITE;
  if (first < end) {
    load_queries(a, a.q + ((size_t)r * a.n_heads + q_head) * a.kv.head_dim, n_q, bends ? a.scale : a.scale * LOG2_E, s);
    for (uint32_t at = first / TILE * TILE; at < end; at += TILE) {
      uint32_t from = max(at, first), n = min(at + TILE, end) - from;
      visit_tile(a, table, r, kv_head, q_head, n_q, from, n, s, acc);
    }
  }
  __syncthreads();
  for (uint32_t i = 0; i < n_q; i++) {
    float *part = part_at(a, blockIdx.x, q_head + i, split);
    for (int k = 0; k < DIMS; k++)
      if (threadIdx.x + k * ATTN_THREADS < a.kv.value_dim) part[threadIdx.x + k * ATTN_THREADS] = acc[i][k];
    if (threadIdx.x < WARP) {
      float l = lane_sum(threadIdx.x < LANES ? s.lanes[i][threadIdx.x] : 0);
      if (threadIdx.x == 0) {
        part[a.kv.value_dim] = s.m[i];
        part[a.kv.value_dim + 1] = l;
      }
    }
  }
}

/* Merges the splits of a query: every thread knows m and l, and has some dims. A sink is a key that was seen first. */
__global__ void attend_merge(aii_cuda_attn a)
{
  const uint32_t row = blockIdx.x, head = blockIdx.y, dim = a.kv.value_dim;
  float m = a.sinks != NULL ? a.sinks[head] * LOG2_E : -INFINITE, l = a.sinks != NULL ? 1 : 0;
  float acc[DIMS] = {0};
  for (uint32_t split = 0; split < a.n_splits; split++) {
    const float *part = part_at(a, row, head, split);
    float pm = part[dim], pl = part[dim + 1], factors[2] = {0, 1};
    bool is_first = !(m > -INFINITE);
    if (!(pm > -INFINITE)) continue; /* saw nothing of it */
    if (!is_first) {
      float top = fmaxf(m, pm);
      factors[0] = exp1((m - top) * LOG_2);
      factors[1] = exp1((pm - top) * LOG_2);
      pm = top;
      pl = l * factors[0] + pl * factors[1];
    }
    m = pm;
    l = pl;
    for (int k = 0; k < DIMS; k++) {
      uint32_t d = threadIdx.x + k * ATTN_THREADS;
      if (d < dim) acc[k] = is_first ? part[d] : fmaf(factors[1], part[d], acc[k] * factors[0]);
    }
  }
  const size_t at = ((size_t)(a.first_row + row) * a.n_heads + head) * dim;
  for (int k = 0; k < DIMS; k++) {
    uint32_t d = threadIdx.x + k * ATTN_THREADS;
    if (d >= dim) break; /* a whole warp, where there is q8 */
    float v = acc[k] * (1 / l);
    a.out[at + d] = v;
    if (a.q8.q != NULL) put_q8(v, at + d, a.q8);
  }
}

void aii_cuda_attend(aii_cuda_stream stream, const aii_cuda_attn *attn)
{
  aii_cuda_attn a = *attn;
  uint32_t group = a.n_heads / a.kv.n_kv_heads, pieces = (group + QUERIES - 1) / QUERIES;
  AII_LAUNCH(attend_split, dim3(a.n_rows, a.n_splits, a.kv.n_kv_heads * pieces), ATTN_THREADS, stream, a);
  AII_LAUNCH(attend_merge, dim3(a.n_rows, a.n_heads), ATTN_THREADS, stream, a);
}
