/* kernels/cuda/attention.h - what the kernels of attention share: the cache, a block's work, the softmax of its queries.
 *
 * A block of threads takes a chunk, which is some adjacent rows of a sequence, times some query heads that share a KV
 * head, and a split of AII_CUDA_SPLIT positions. It goes over the split in tiles of 64 positions, which all of its queries
 * read from shared memory: an online softmax, as cpu_attention.c states it, with the same sums in the same order. What a
 * query does not see has the weight zero, which changes no sum. So a result depends on the row's position and window
 * alone, not on the chunk.
 */
#ifndef AII_KERNELS_CUDA_ATTENTION_H
#define AII_KERNELS_CUDA_ATTENTION_H

#include "kernels/cuda/device.h"

#ifdef __CUDACC__
#define AII_COUNT_READ(bytes) ((void)0)
#else
#define AII_COUNT_READ(bytes) ((void)(fake_cuda_cache_reads += (bytes)))
#endif

namespace aii
{

enum {
  TILE = AII_ATTN_TILE,
  QUAD = 4 /* queries that a thread takes together */
};
#define AII_LOG2_E 0x1.715476p+0f
#define AII_LOG_2 0x1.62e43p-1f
#define AII_EXP2_LEAST (-125.0f)
#define AII_SLACK 8.0f
#define AII_INFINITE float_of_bits(0x7f800000u)
#define AII_NOWHERE 0xffffffffu

/* For x up to the slack; kernels/ref/ref.h has the polynomial. Adding 1.5 * 2^23 rounds as rint does, and leaves the integer
 * in the low bits. Nothing branches: threads of a warp have their own x. */
__device__ inline float exp2_of(float x)
{
  const float shifted = x + 0x1.8p+23f, r = x - (shifted - 0x1.8p+23f);
  float p = 0x1.5bba12p-10f;
  p = fmaf(p, r, 0x1.3cea88p-7f);
  p = fmaf(p, r, 0x1.c6b752p-5f);
  p = fmaf(p, r, 0x1.ebf9bcp-3f);
  p = fmaf(p, r, 0x1.62e42ap-1f);
  p = fmaf(p, r, 1) * float_of_bits((bits_of_float(shifted) << 23) + 0x3f800000u);
  return x < AII_EXP2_LEAST ? 0 : p;
}

/* ---- the cache ----
 *
 * Rows of keys lie one behind the other: [block][layer][head][position within the block][dim], those of values likewise,
 * value_offset behind. Of Q8_0, the integers lie like that, and behind those of all heads their scales, as halves. */

struct slot {
  uint32_t block, within; /* block AII_NOWHERE: nobody sees the position */
};

__device__ inline slot slot_of(const aii_cuda_kv &kv, const uint32_t *table, uint32_t pos)
{
  slot s = {table[pos / kv.block_tokens], pos % kv.block_tokens};
  return s;
}

__device__ inline size_t row_of(const aii_cuda_kv &kv, uint32_t head, slot s)
{
  return (size_t)head * kv.block_tokens + s.within;
}

__device__ inline char *run_of(const aii_cuda_kv &kv, bool values, slot s)
{
  return kv.base + (size_t)s.block * kv.block_bytes + kv.layer_at + (values ? kv.value_offset : 0);
}

/* The elements of a key or value. */
__device__ inline char *cached(const aii_cuda_kv &kv, bool values, uint32_t head, slot s)
{
  return run_of(kv, values, s) + row_of(kv, head, s) * (values ? kv.value_bytes : kv.key_bytes);
}

/* Its scales, of Q8_0. */
__device__ inline uint16_t *cached_scales(const aii_cuda_kv &kv, bool values, uint32_t head, slot s)
{
  const uint32_t dim = values ? kv.value_dim : kv.head_dim;
  return (uint16_t *)(run_of(kv, values, s) + (size_t)kv.n_kv_heads * kv.block_tokens * dim) +
         row_of(kv, head, s) * (dim / AII_QBLOCK);
}

/* ---- a block's work ---- */

/* Positions first..end that a row sees. */
__device__ inline void visible(const aii_cuda_attn &a, uint32_t r, uint32_t *first, uint32_t *end)
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

/* Query i is that of row `row + i / n_heads` and head `head + i % n_heads`. */
struct work {
  uint32_t row, n_q, head, n_heads, kv_head, split;
  uint32_t from, end; /* positions of the split that some row sees */
  const uint32_t *table;
};

/* blockIdx: x the chunk, y the split, z the KV head and which of its query heads. */
__device__ inline work work_of(const aii_cuda_attn &a, uint32_t queries)
{
  const uint32_t group = a.n_heads / a.kv.n_kv_heads, pieces = (group + queries - 1) / queries,
                 chunk = a.first_chunk + blockIdx.x, skipped = blockIdx.z % pieces * queries;
  const uint32_t row = a.chunks != NULL ? a.chunks[chunk] : chunk,
                 next = a.chunks != NULL ? a.chunks[chunk + 1] : chunk + 1;
  uint32_t ignored;
  work w;
  w.row = row;
  w.kv_head = blockIdx.z / pieces;
  w.head = w.kv_head * group + skipped;
  w.n_heads = min(queries, group - skipped);
  w.n_q = (next - row) * w.n_heads;
  w.split = blockIdx.y;
  w.table = a.rows.tables + (size_t)a.rows.seq[row] * a.rows.table_stride;
  visible(a, row, &w.from, &ignored);
  visible(a, next - 1, &ignored, &w.end); /* rows ascend: the last sees furthest */
  w.from = max(w.from, w.split * AII_CUDA_SPLIT);
  w.end = min(w.end, (w.split + 1) * AII_CUDA_SPLIT);
  return w;
}

/* What its threads know in common, in shared memory. Weights are those of a tile, [position][query]; before the softmax
 * takes them they are scores. */
template <int QUERIES> struct common {
  enum { STRIDE = QUERIES + 4 }; /* so that the sixteen lanes of a query find different banks */
  float weights[TILE * STRIDE];
  float factor[QUERIES], inverse[QUERIES]; /* what sums are multiplied by: now, and at last */
  bool is_last;                            /* of the blocks of these queries */
  float slope[QUERIES];
  uint32_t pos[QUERIES], first[QUERIES], end[QUERIES]; /* what a query sees of the split */
  slot slots[AII_CUDA_SPLIT];
};

template <int QUERIES, int THREADS_> __device__ void prepare(const aii_cuda_attn &a, const work &w, common<QUERIES> &c)
{
  for (uint32_t i = threadIdx.x; i < QUERIES; i += THREADS_) {
    uint32_t r = w.row + i / w.n_heads, first = 0, end = 0;
    if (i < w.n_q) visible(a, r, &first, &end);
    c.pos[i] = i < w.n_q ? a.rows.pos[r] : 0;
    c.first[i] = max(first, w.from);
    c.end[i] = min(end, w.end);
    c.slope[i] = a.slopes != NULL && i < w.n_q ? a.slopes[w.head + i % w.n_heads] : 0;
  }
  for (uint32_t p = threadIdx.x; p < AII_CUDA_SPLIT; p += THREADS_) {
    uint32_t pos = w.split * AII_CUDA_SPLIT + p;
    slot none = {AII_NOWHERE, 0};
    c.slots[p] = pos >= w.from && pos < w.end ? slot_of(a.kv, w.table, pos) : none;
  }
}

/* Asks for the tile at `at`, if there is one: its keys and values come nearer while another is computed with. */
template <int QUERIES, int THREADS_>
__device__ void ask_for(const aii_cuda_attn &a, const work &w, uint32_t at, const common<QUERIES> &c)
{
  enum { LINE = 128 };
  if (at >= w.end) return;
  const uint32_t key_lines = ((uint32_t)a.kv.key_bytes + LINE - 1) / LINE,
                 lines = key_lines + ((uint32_t)a.kv.value_bytes + LINE - 1) / LINE;
#pragma unroll 1
  for (uint32_t i = threadIdx.x; i < TILE * lines; i += THREADS_) {
    const slot s = c.slots[at % AII_CUDA_SPLIT + i % TILE];
    const bool values = i / TILE >= key_lines;
    const uint32_t line = i / TILE - (values ? key_lines : 0);
    if (s.block != AII_NOWHERE) prefetch(cached(a.kv, values, w.kv_head, s) + line * LINE);
  }
}

/* Query i of the block, as the caller gave it. */
__device__ inline const float *query_at(const aii_cuda_attn &a, const work &w, uint32_t i)
{
  return a.q + ((size_t)(w.row + i / w.n_heads) * a.n_heads + w.head + i % w.n_heads) * a.kv.head_dim;
}

/* Scores are bent before they become logarithms, which else the queries see to. */
__device__ inline bool bends(const aii_cuda_attn &a)
{
  return a.softcap > 0 || a.slopes != NULL;
}

__device__ inline float query_scale(const aii_cuda_attn &a)
{
  return bends(a) ? a.scale : a.scale * AII_LOG2_E;
}

/* ---- softmax: sixteen threads take a query, one for each lane of its sum ---- */

template <int QUERIES, int THREADS_> struct softmax {
  enum { AT_ONCE = THREADS_ / LANES, EACH = (QUERIES + AT_ONCE - 1) / AT_ONCE };
  float m[EACH], l[EACH];
};

template <int QUERIES, int THREADS_> __device__ void begin(softmax<QUERIES, THREADS_> &s)
{
#pragma unroll
  for (int k = 0; k < s.EACH; k++) {
    s.m[k] = -AII_INFINITE;
    s.l[k] = 0;
  }
}

/* The largest of sixteen threads. */
__device__ inline float lanes_max(float v)
{
  for (int w = LANES / 2; w > 0; w /= 2) v = fmaxf(v, __shfl_xor_sync(AII_FULL_WARP, v, w));
  return v;
}

/* Scores of the tile at `at`, where they are bent: softcap and distance, then the binary logarithm. Each thread sees to
 * those that it takes into the softmax. */
template <int QUERIES, int THREADS_> __device__ void bend(const aii_cuda_attn &a, uint32_t at, common<QUERIES> &c)
{
#pragma unroll 1
  for (uint32_t n = 0; n < softmax<QUERIES, THREADS_>::EACH * (TILE / LANES); n++) {
    const uint32_t i = threadIdx.x / LANES + n / (TILE / LANES) * (THREADS_ / LANES),
                   j = threadIdx.x % LANES + n % (TILE / LANES) * LANES, p = at + j;
    if (i >= QUERIES) break;
    float x = c.weights[j * c.STRIDE + i];
    if (a.softcap > 0) x = a.softcap * tanh1(x * (1 / a.softcap));
    if (a.slopes != NULL) x -= c.slope[i] * (float)(p > c.pos[i] ? p - c.pos[i] : c.pos[i] - p);
    c.weights[j * c.STRIDE + i] = x * AII_LOG2_E;
  }
}

/* Scores of the tile at `at` become weights, and c.factor what the sums before shrink by. ROUNDED: to halves. */
template <int QUERIES, int THREADS_, bool ROUNDED = false>
__device__ void soften(const aii_cuda_attn &a, uint32_t at, common<QUERIES> &c, softmax<QUERIES, THREADS_> &s)
{
  enum { EACH_LANE = TILE / LANES };
  const uint32_t lane = threadIdx.x % LANES;
  if (bends(a)) bend<QUERIES, THREADS_>(a, at, c);
#pragma unroll
  for (int k = 0; k < s.EACH; k++) {
    const uint32_t i = threadIdx.x / LANES + (uint32_t)k * s.AT_ONCE;
    if (i >= QUERIES) break; /* whole warps */
    const uint32_t first = c.first[i], end = c.end[i];
    float x[EACH_LANE], top = -AII_INFINITE, factor = 1;
    bool sees[EACH_LANE];
#pragma unroll
    for (int e = 0; e < EACH_LANE; e++) {
      uint32_t p = at + lane + LANES * (uint32_t)e;
      sees[e] = p >= first && p < end;
      x[e] = c.weights[(p - at) * c.STRIDE + i];
      top = fmaxf(top, sees[e] ? x[e] : -AII_INFINITE);
    }
    top = lanes_max(top);
    if (top > s.m[k] + AII_SLACK) {
      factor = exp2_of(s.m[k] - top);
      s.l[k] *= factor;
      s.m[k] = top;
    }
#pragma unroll
    for (int e = 0; e < EACH_LANE; e++) {
      float weight = exp2_of(sees[e] ? x[e] - s.m[k] : -AII_INFINITE);
      if (ROUNDED) weight = float_of_half((uint16_t)halves_of(weight, 0));
      s.l[k] += weight;
      c.weights[(lane + LANES * (uint32_t)e) * c.STRIDE + i] = weight;
    }
    if (lane == 0) c.factor[i] = factor;
  }
}

/* ---- results ---- */

/* The part of a row's head in a split: sums, then m and l. */
__device__ inline float *part_at(const aii_cuda_attn &a, uint32_t row, uint32_t head, uint32_t split)
{
  return a.parts + (((size_t)(row - a.first_row) * a.n_heads + head) * a.n_splits + split) * (a.kv.value_dim + 2);
}

/* m and l of each query go to its part; of the only split, c has what its sums are to be multiplied by. A sink is a key
 * that was seen first, of value 0. */
template <int QUERIES, int THREADS_>
__device__ void finish(const aii_cuda_attn &a, const work &w, common<QUERIES> &c, const softmax<QUERIES, THREADS_> &s)
{
#pragma unroll
  for (int k = 0; k < s.EACH; k++) {
    const uint32_t i = threadIdx.x / LANES + (uint32_t)k * s.AT_ONCE, head = w.head + i % w.n_heads;
    if (i >= QUERIES) break; /* whole warps */
    float l = lane_sum(s.l[k]), m = s.m[k], factor = 1;
    if (threadIdx.x % LANES != 0 || i >= w.n_q) continue;
    if (a.n_splits > 1) {
      float *part = part_at(a, w.row + i / w.n_heads, head, w.split);
      part[a.kv.value_dim] = m;
      part[a.kv.value_dim + 1] = l;
      continue;
    }
    if (a.sinks != NULL) {
      float sink = a.sinks[head] * AII_LOG2_E, top = fmaxf(sink, m);
      factor = exp1((m - top) * AII_LOG_2);
      l = exp1((sink - top) * AII_LOG_2) + l * factor;
    }
    c.factor[i] = factor;
    c.inverse[i] = 1 / l;
  }
  __syncthreads();
}

/* Where the results of query i begin. */
__device__ inline size_t result_at(const aii_cuda_attn &a, const work &w, uint32_t i)
{
  return ((size_t)(w.row + i / w.n_heads) * a.n_heads + w.head + i % w.n_heads) * a.kv.value_dim;
}

/* Dim d of query i. */
template <int QUERIES>
__device__ inline void put(const aii_cuda_attn &a, const work &w, const common<QUERIES> &c, uint32_t i, uint32_t d,
                           float sum)
{
  if (i >= w.n_q || d >= a.kv.value_dim) return;
  if (a.n_splits > 1) part_at(a, w.row + i / w.n_heads, w.head + i % w.n_heads, w.split)[d] = sum;
  else a.out[result_at(a, w, i) + d] = sum * c.factor[i] * c.inverse[i];
}

/* ---- launches ---- */

/* As work_of() has it. */
static inline dim3 attend_grid(const aii_cuda_attn &a, uint32_t queries)
{
  return dim3(a.n_chunks, a.n_splits, a.kv.n_kv_heads * blocks_for(a.n_heads / a.kv.n_kv_heads, queries));
}

} // namespace aii

/* attention_q8.cu: of a cache of Q8_0; a block has at most so many queries. */
void aii_cuda_attend_q8(aii_cuda_stream stream, const aii_cuda_attn &a, uint32_t queries);
/* attention_f16.cu: of a cache of F16, where it may and can be rounded. */
bool aii_cuda_can_round(const aii_cuda_attn &a);
void aii_cuda_attend_f16(aii_cuda_stream stream, const aii_cuda_attn &a, uint32_t queries);

#endif
