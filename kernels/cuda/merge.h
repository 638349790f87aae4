/* kernels/cuda/merge.h - the end of attention: the splits of a query put together in their order, and the q8 form of results.
 *
 * Blocks put their parts of a split into memory and count themselves; the last one of a chunk and its heads puts them
 * together. Which one that is changes nothing: parts are added up in the order of positions.
 */
#ifndef AII_KERNELS_CUDA_MERGE_H
#define AII_KERNELS_CUDA_MERGE_H

#include "kernels/cuda/attention.h"

namespace aii
{

/* Splits that some row of the block's chunk sees: each has a block. */
struct splits {
  uint32_t first, n;
};

__device__ inline splits splits_of(const aii_cuda_attn &a, const work &w)
{
  uint32_t from, end, ignored;
  visible(a, w.row, &from, &ignored);
  visible(a, w.row + w.n_q / w.n_heads - 1, &ignored, &end);
  return {from / AII_CUDA_SPLIT, (end - 1) / AII_CUDA_SPLIT - from / AII_CUDA_SPLIT + 1};
}

/* Whether all the other blocks have put their parts; then they can be read past the first cache, which may hold old ones. */
template <int QUERIES> __device__ bool is_last(const aii_cuda_attn &a, uint32_t n_splits, common<QUERIES> &c)
{
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    uint32_t *arrived = a.arrived + (size_t)blockIdx.z * gridDim.x + blockIdx.x;
    c.is_last = atomicAdd(arrived, 1u) + 1 == n_splits;
    if (c.is_last) *arrived = 0;
  }
  __syncthreads();
  __threadfence();
  return c.is_last;
}

/* Of query i. */
__device__ inline float *query_part(const aii_cuda_attn &a, const work &w, uint32_t i, uint32_t split)
{
  return part_at(a, w.row + i / w.n_heads, w.head + i % w.n_heads, split);
}

/* What a sum is multiplied by before a part is added to it, and what the part is; take < 0: nothing was seen of it, keep <
 * 0: it is the first one, as it is. */
struct factors {
  float keep, take;
};

/* m and l, of all parts so far, with those of one more. */
__device__ inline factors fold(float pm, float pl, float *m, float *l)
{
  if (!(pm > -AII_INFINITE)) return {1, -1};
  if (!(*m > -AII_INFINITE)) {
    *m = pm;
    *l = pl;
    return {-1, 1};
  }
  const float top = fmaxf(*m, pm), keep = exp1((*m - top) * AII_LOG_2), take = exp1((pm - top) * AII_LOG_2);
  *l = *l * keep + pl * take;
  *m = top;
  return {keep, take};
}

/* m and l of all parts become their factors, some splits at a time in shared memory, a thread a query; c.inverse: of the
 * sums of weights. A sink is a key that was seen first. */
template <int QUERIES, int THREADS_>
__device__ void weigh_parts(const aii_cuda_attn &a, const work &w, const splits &all, common<QUERIES> &c)
{
  enum { AT_ONCE = TILE / 2 };
  const uint32_t mine = threadIdx.x, dim = a.kv.value_dim;
  const float sink = a.sinks != NULL && mine < w.n_q ? a.sinks[w.head + mine % w.n_heads] * AII_LOG2_E : -AII_INFINITE;
  float m = sink, l = a.sinks != NULL ? 1 : 0, *first = c.weights, *second = c.weights + AT_ONCE * QUERIES;
  for (uint32_t at = 0; at < all.n; at += AT_ONCE) {
    const uint32_t n = min((uint32_t)AT_ONCE, all.n - at), n_parts = n * w.n_q;
    for (uint32_t i = threadIdx.x; i < n_parts; i += THREADS_) {
      const float *part = query_part(a, w, i % w.n_q, all.first + at + i / w.n_q) + dim;
      first[i] = __ldcg(part);
      second[i] = __ldcg(part + 1);
    }
    __syncthreads();
    for (uint32_t i = mine; mine < w.n_q && i < n_parts; i += w.n_q) {
      const factors f = fold(first[i], second[i], &m, &l);
      first[i] = f.keep;
      second[i] = f.take;
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < n_parts; i += THREADS_) {
      float *part = query_part(a, w, i % w.n_q, all.first + at + i / w.n_q) + dim;
      part[0] = first[i];
      part[1] = second[i];
    }
    __syncthreads();
  }
  if (mine < w.n_q) c.inverse[mine] = 1 / l;
  __syncthreads();
}

template <int QUERIES, int THREADS_>
__device__ void merge(const aii_cuda_attn &a, const work &w, const splits &all, common<QUERIES> &c)
{
  const uint32_t dim = a.kv.value_dim;
  weigh_parts<QUERIES, THREADS_>(a, w, all, c);
#pragma unroll 1
  for (uint32_t at = threadIdx.x; at < w.n_q * dim; at += THREADS_) {
    const uint32_t i = at / dim, d = at % dim;
    const float *part = query_part(a, w, i, all.first);
    float sum = 0;
#pragma unroll 4
    for (uint32_t s = 0; s < all.n; s++, part += dim + 2) {
      const float keep = __ldcg(part + dim), take = __ldcg(part + dim + 1), v = __ldcg(part + d);
      if (take >= 0) sum = keep < 0 ? v : fmaf(take, v, sum * keep);
    }
    a.out[result_at(a, w, i) + d] = sum * c.inverse[i];
  }
}

/* Behind put(), by all threads: what is left of the results. */
template <int QUERIES, int THREADS_> __device__ void complete(const aii_cuda_attn &a, const work &w, common<QUERIES> &c)
{
  if (a.n_splits > 1) {
    const splits all = splits_of(a, w);
    if (!is_last(a, all.n, c)) return;
    merge<QUERIES, THREADS_>(a, w, all, c);
  }
  if (a.q8.q == NULL) return;
  __syncthreads();
  const uint32_t blocks = a.kv.value_dim / AII_QBLOCK;
  for (uint32_t at = threadIdx.x / WARP; at < w.n_q * blocks; at += THREADS_ / WARP) {
    const size_t i = result_at(a, w, at / blocks) + at % blocks * AII_QBLOCK + threadIdx.x % WARP;
    put_q8(a.out[i], i, a.q8);
  }
}

} // namespace aii

#endif
