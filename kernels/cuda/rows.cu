/* rows.cu - rotation of rows. */
#include "kernels/cuda/device.h"

using namespace aii;

/* ---- rotation: a thread takes a pair ---- */

__global__ void rotate(aii_cuda_rope rope, aii_cuda_rows rows, uint32_t n_heads, uint32_t head_dim, float *x)
{
  uint32_t half = rope.n_rot / 2;
  size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x, i = at % half, head = at / half;
  if (head >= (size_t)rows.n_rows * n_heads) return;
  const float *angles = rope.angles + (size_t)rows.pos[head / n_heads] * rope.n_rot;
  float *p = x + head * head_dim, c = angles[i], s = angles[half + i];
  float *a = rope.neox ? p + i : p + 2 * i, *b = rope.neox ? p + i + half : p + 2 * i + 1;
  float u = *a, v = *b;
  *a = fmaf(u, c, -(v * s));
  *b = fmaf(u, s, v * c);
}

void aii_cuda_rotate(aii_cuda_stream stream, const aii_cuda_rope *rope, const aii_cuda_rows *rows, uint32_t n_heads,
                     uint32_t head_dim, float *x)
{
  size_t n = (size_t)rows->n_rows * n_heads * (rope->n_rot / 2);
  aii_cuda_rope how = *rope;
  aii_cuda_rows where = *rows;
  AII_LAUNCH(rotate, blocks_for(n, THREADS), THREADS, stream, how, where, n_heads, head_dim, x);
}
