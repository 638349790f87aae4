/* cache.cu - what comes before attention: rotation by position, and keys and values into the paged cache.
 *
 * One launch rotates queries and keys and writes keys and values: a block of threads takes a row and a KV head, with the
 * query heads that share it. attention.h says how the cache lies.
 */
#include "kernels/cuda/attention.h"

using namespace aii;

enum { WRITE_THREADS = 128 };

/* ---- rotation ---- */

__device__ static inline const float *angles_of(const aii_cuda_rope &rope, uint32_t pos)
{
  return rope.angles + (size_t)pos * rope.n_rot;
}

/* The first and the second of pair i, as places in a head. */
__device__ static inline uint2 pair_of(const aii_cuda_rope &rope, uint32_t i)
{
  return rope.neox ? make_uint2(i, i + rope.n_rot / 2) : make_uint2(2 * i, 2 * i + 1);
}

__device__ static inline float2 turned(const aii_cuda_rope &rope, const float *angles, uint32_t i, const float *head)
{
  const uint2 at = pair_of(rope, i);
  const float u = head[at.x], v = head[at.y], c = angles[i], s = angles[rope.n_rot / 2 + i];
  return make_float2(fmaf(u, c, -(v * s)), fmaf(u, s, v * c));
}

__device__ static inline void turn(const aii_cuda_rope &rope, const float *angles, uint32_t i, float *head)
{
  const uint2 at = pair_of(rope, i);
  const float2 pair = turned(rope, angles, i, head);
  head[at.x] = pair.x;
  head[at.y] = pair.y;
}

/* Dim d of a head, rotated if it is one of those that are. */
__device__ static inline float turned_dim(const aii_cuda_rope &rope, const float *angles, uint32_t d, const float *head)
{
  if (d >= rope.n_rot) return head[d];
  const uint32_t i = rope.neox ? d % (rope.n_rot / 2) : d / 2;
  const float2 pair = turned(rope, angles, i, head);
  return pair_of(rope, i).x == d ? pair.x : pair.y;
}

__global__ void rotate(aii_cuda_rope rope, aii_cuda_rows rows, uint32_t n_heads, uint32_t head_dim, float *x)
{
  begin_kernel();
  const uint32_t half = rope.n_rot / 2;
  const size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x, head = at / half;
  if (head >= (size_t)rows.n_rows * n_heads) return;
  turn(rope, angles_of(rope, rows.pos[head / n_heads]), (uint32_t)(at % half), x + head * head_dim);
}

void aii_cuda_rotate(aii_cuda_stream stream, const aii_cuda_rope *rope, const aii_cuda_rows *rows, uint32_t n_heads,
                     uint32_t head_dim, float *x)
{
  size_t n = (size_t)rows->n_rows * n_heads * (rope->n_rot / 2);
  aii_cuda_rope how = *rope;
  aii_cuda_rows where = *rows;
  AII_LAUNCH(rotate, blocks_for(n, THREADS), THREADS, stream, how, where, n_heads, head_dim, x);
}

/* ---- writing: warps take 32 elements at a time ---- */

/* Element i of block b of a row, which is of n elements. */
__device__ static inline void write_element(const aii_cuda_kv &kv, bool values, uint32_t head, slot s, uint32_t b,
                                            uint32_t n, float v)
{
  const uint32_t lane = threadIdx.x % WARP, i = b * AII_QBLOCK + lane;
  char *row = cached(kv, values, head, s);
  if (kv.fmt == AII_FMT_Q8_0) {
    float d = warp_max(fabsf(v)) / 127, inverse = d != 0 ? 1 / d : 0;
    if (lane == 0) cached_scales(kv, values, head, s)[b] = half_of_float(d);
    ((int8_t *)row)[i] = (int8_t)clamp_int(roundf(v * inverse), -127, 127);
  } else if (i < n) {
    if (kv.fmt == AII_FMT_F16) ((uint16_t *)row)[i] = half_of_float(v);
    else ((float *)row)[i] = v;
  }
}

__global__ void write_rows(aii_cuda_write w)
{
  begin_kernel();
  const uint32_t r = blockIdx.x, head = blockIdx.y, pos = w.rows.pos[r], group = w.n_heads / w.kv.n_kv_heads,
                 half = w.rope.n_rot / 2;
  const slot s = slot_of(w.kv, w.rows.tables + (size_t)w.rows.seq[r] * w.rows.table_stride, pos);
  const size_t at = (size_t)r * w.kv.n_kv_heads + head;
  const float *angles = half > 0 ? angles_of(w.rope, pos) : NULL, *key = w.k + at * w.kv.head_dim,
              *value = w.v + at * w.kv.value_dim;
  for (uint32_t b = threadIdx.x / WARP; b * AII_QBLOCK < w.kv.head_dim; b += WRITE_THREADS / WARP) {
    uint32_t i = b * AII_QBLOCK + threadIdx.x % WARP;
    write_element(w.kv, false, head, s, b, w.kv.head_dim, i < w.kv.head_dim ? turned_dim(w.rope, angles, i, key) : 0);
  }
  for (uint32_t b = threadIdx.x / WARP; b * AII_QBLOCK < w.kv.value_dim; b += WRITE_THREADS / WARP) {
    uint32_t i = b * AII_QBLOCK + threadIdx.x % WARP;
    write_element(w.kv, true, head, s, b, w.kv.value_dim, i < w.kv.value_dim ? value[i] : 0);
  }
  for (uint32_t i = threadIdx.x; i < group * half; i += WRITE_THREADS)
    turn(w.rope, angles, i % half, w.q + (at * group + i / half) * w.kv.head_dim);
}

void aii_cuda_kv_write(aii_cuda_stream stream, const aii_cuda_write *write)
{
  aii_cuda_write w = *write;
  AII_LAUNCH(write_rows, dim3(w.rows.n_rows, w.kv.n_kv_heads), WRITE_THREADS, stream, w);
}
