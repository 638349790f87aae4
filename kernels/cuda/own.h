/* kernels/cuda/own.h - rows' own queries, keys and values on their way from products to attention and the cache.
 *
 * A head is normalised where there is a norm of heads, then rotated by its position. Keys and values go to the cache in its
 * format, 32 elements a warp at a time; queries to whoever attends with them.
 */
#ifndef AII_KERNELS_CUDA_OWN_H
#define AII_KERNELS_CUDA_OWN_H

#include "kernels/cuda/attention.h"

namespace aii
{

/* ---- norms of heads: all threads of a warp know the factor ---- */

/* 1, where w is NULL: there is no norm. */
__device__ inline float head_factor(const float *w, const float *head, uint32_t dim, float eps)
{
  if (w == NULL) return 1;
  const uint32_t lane = threadIdx.x % WARP;
  float sum = 0;
  if (lane < LANES)
    for (uint32_t d = lane; d < dim; d += LANES) sum = fmaf(head[d], head[d], sum);
  return __shfl_sync(AII_FULL_WARP, 1 / sqrtf(lane_sum(sum) / (float)dim + eps), 0);
}

struct head {
  const float *x, *w; /* w: of its norm, or NULL */
  float factor;
  __device__ float dim(uint32_t d) const
  {
    return w != NULL ? x[d] * factor * w[d] : x[d];
  }
};

/* ---- rotation ---- */

/* Of a position; NULL where nothing is rotated. */
__device__ inline const float *angles_of(const aii_cuda_rope &rope, uint32_t pos)
{
  return rope.n_rot > 0 ? rope.angles + (size_t)pos * rope.n_rot : NULL;
}

/* The first and the second of pair i, as places in a head. */
__device__ inline uint2 pair_of(const aii_cuda_rope &rope, uint32_t i)
{
  return rope.neox ? make_uint2(i, i + rope.n_rot / 2) : make_uint2(2 * i, 2 * i + 1);
}

__device__ inline float2 turned(const aii_cuda_rope &rope, const float *angles, uint32_t i, const head &h)
{
  const uint2 at = pair_of(rope, i);
  const float u = h.dim(at.x), v = h.dim(at.y), c = angles[i], s = angles[rope.n_rot / 2 + i];
  return make_float2(fmaf(u, c, -(v * s)), fmaf(u, s, v * c));
}

/* Dim d, rotated if it is one of those that are. */
__device__ inline float turned_dim(const aii_cuda_rope &rope, const float *angles, uint32_t d, const head &h)
{
  if (d >= rope.n_rot) return h.dim(d);
  const uint32_t i = rope.neox ? d % (rope.n_rot / 2) : d / 2;
  const float2 pair = turned(rope, angles, i, h);
  return pair_of(rope, i).x == d ? pair.x : pair.y;
}

/* ---- to the cache ---- */

/* Element i of block b of a row, which is of n elements. */
__device__ inline void write_element(const aii_cuda_kv &kv, bool values, uint32_t kv_head, slot s, uint32_t b,
                                     uint32_t n, float v)
{
  const uint32_t lane = threadIdx.x % WARP, i = b * AII_QBLOCK + lane;
  char *row = cached(kv, values, kv_head, s);
  if (kv.fmt == AII_FMT_Q8_0) {
    float d = warp_amax(v) / 127, inverse = d != 0 ? 1 / d : 0;
    if (lane == 0) cached_scales(kv, values, kv_head, s)[b] = half_of_float(d);
    ((int8_t *)row)[i] = (int8_t)clamp_int(roundf(v * inverse), -127, 127);
  } else if (i < n) {
    if (kv.fmt == AII_FMT_F16) ((uint16_t *)row)[i] = half_of_float(v);
    else ((float *)row)[i] = v;
  }
}

/* The key and the value of row r and a KV head; all warps of the block take part. */
__device__ inline void write_own(const aii_cuda_kv &kv, const aii_cuda_own &own, uint32_t r, uint32_t pos,
                                 uint32_t kv_head, const uint32_t *table)
{
  const slot s = slot_of(kv, table, pos);
  const size_t at = (size_t)r * kv.n_kv_heads + kv_head;
  const float *angles = angles_of(own.rope, pos), *key = own.k + at * kv.head_dim, *value = own.v + at * kv.value_dim;
  const head k = {key, own.k_norm, head_factor(own.k_norm, key, kv.head_dim, own.eps)};
  const uint32_t n_warps = blockDim.x / WARP;
  for (uint32_t b = threadIdx.x / WARP; b * AII_QBLOCK < kv.head_dim; b += n_warps) {
    uint32_t i = b * AII_QBLOCK + threadIdx.x % WARP;
    write_element(kv, false, kv_head, s, b, kv.head_dim, i < kv.head_dim ? turned_dim(own.rope, angles, i, k) : 0);
  }
  for (uint32_t b = threadIdx.x / WARP; b * AII_QBLOCK < kv.value_dim; b += n_warps) {
    uint32_t i = b * AII_QBLOCK + threadIdx.x % WARP;
    write_element(kv, true, kv_head, s, b, kv.value_dim, i < kv.value_dim ? value[i] : 0);
  }
}

/* ---- within attention, where each row is the only one of its sequence ---- */

/* The block whose split ends with the row writes its key and value; a barrier follows before they are read. Norms of
 * queries have their factors in c.inverse. */
template <int QUERIES, int THREADS_>
__device__ void place_own(const aii_cuda_attn &a, const work &w, common<QUERIES> &c)
{
  if (a.own.k == NULL) return;
  const uint32_t pos = a.rows.pos[w.row];
  if (pos / AII_CUDA_SPLIT == w.split) {
    write_own(a.kv, a.own, w.row, pos, w.kv_head, w.table);
    __threadfence(); /* some read it past the first cache */
  }
  if (a.own.q_norm == NULL) return;
  for (uint32_t i = threadIdx.x / WARP; i < w.n_q; i += THREADS_ / WARP) {
    const float factor = head_factor(a.own.q_norm, query_at(a, w, i), a.kv.head_dim, a.own.eps);
    if (threadIdx.x % WARP == 0) c.inverse[i] = factor;
  }
  __syncthreads();
}

template <int QUERIES>
__device__ inline float query_dim(const aii_cuda_attn &a, const work &w, const common<QUERIES> &c, uint32_t i,
                                  uint32_t d)
{
  const float *x = query_at(a, w, i);
  if (a.own.k == NULL) return x[d];
  const head h = {x, a.own.q_norm, a.own.q_norm != NULL ? c.inverse[i] : 1};
  return turned_dim(a.own.rope, angles_of(a.own.rope, a.rows.pos[w.row]), d, h);
}

} // namespace aii

#endif
