/* cache.cu - what comes before attention of many rows of a sequence: rotation by position, and keys and values into the
 * paged cache.
 *
 * One launch normalises and rotates queries and keys and writes keys and values: a block of threads takes a row and a KV
 * head, with the query heads that share it. attention.h says how the cache lies. Where each sequence has one row, attention
 * does all that itself.
 */
#include "kernels/cuda/own.h"

using namespace aii;

enum { WRITE_THREADS = 128 };

__device__ static inline void turn(const aii_cuda_rope &rope, const float *angles, uint32_t i, float *x, const head &h)
{
  const uint2 at = pair_of(rope, i);
  const float2 pair = turned(rope, angles, i, h);
  x[at.x] = pair.x;
  x[at.y] = pair.y;
}

__global__ void rotate(aii_cuda_rope rope, aii_cuda_rows rows, uint32_t n_heads, uint32_t head_dim, float *x)
{
  begin_kernel();
  const uint32_t half = rope.n_rot / 2;
  const size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x, number = at / half;
  if (number >= (size_t)rows.n_rows * n_heads) return;
  float *mine = x + number * head_dim;
  turn(rope, angles_of(rope, rows.pos[number / n_heads]), (uint32_t)(at % half), mine, head{mine, NULL, 1});
}

void aii_cuda_rotate(aii_cuda_stream stream, const aii_cuda_rope *rope, const aii_cuda_rows *rows, uint32_t n_heads,
                     uint32_t head_dim, float *x)
{
  size_t n = (size_t)rows->n_rows * n_heads * (rope->n_rot / 2);
  aii_cuda_rope how = *rope;
  aii_cuda_rows where = *rows;
  AII_LAUNCH(rotate, blocks_for(n, THREADS), THREADS, stream, how, where, n_heads, head_dim, x);
}

/* A warp takes a head of queries. */
__device__ static inline void place_query(const aii_cuda_own &own, const float *angles, uint32_t dim, float *x)
{
  const head h = {x, own.q_norm, head_factor(own.q_norm, x, dim, own.eps)};
  for (uint32_t i = threadIdx.x % WARP; i < own.rope.n_rot / 2; i += WARP) turn(own.rope, angles, i, x, h);
  if (h.w == NULL) return;
  for (uint32_t d = own.rope.n_rot + threadIdx.x % WARP; d < dim; d += WARP) x[d] = h.dim(d);
}

__global__ void write_rows(aii_cuda_write w)
{
  begin_kernel();
  const uint32_t r = blockIdx.x, kv_head = blockIdx.y, pos = w.rows.pos[r], group = w.n_heads / w.kv.n_kv_heads;
  write_own(w.kv, w.own, r, pos, kv_head, w.rows.tables + (size_t)w.rows.seq[r] * w.rows.table_stride);
  if (w.q == NULL) return;
  float *q = w.q + ((size_t)r * w.n_heads + kv_head * group) * w.kv.head_dim;
  for (uint32_t i = threadIdx.x / WARP; i < group; i += WRITE_THREADS / WARP)
    place_query(w.own, angles_of(w.own.rope, pos), w.kv.head_dim, q + (size_t)i * w.kv.head_dim);
}

void aii_cuda_kv_write(aii_cuda_stream stream, const aii_cuda_write *write)
{
  aii_cuda_write w = *write;
  AII_LAUNCH(write_rows, dim3(w.rows.n_rows, w.kv.n_kv_heads), WRITE_THREADS, stream, w);
}
