/* norms.cu - what looks at a row at a time: norms, and the q8 rows that products of quantised weights want.
 *
 * A norm's row is often multiplied next, so the kernel that makes it can write its q8 form as well.
 */
#include "kernels/cuda/norm.h"

using namespace aii;

/* ---- q8 rows: a warp takes 32 elements ---- */

__global__ void quant_q8(const float *x, size_t n_blocks, aii_cuda_q8 out)
{
  begin_kernel();
  size_t b = (size_t)blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP, i = b * AII_QBLOCK + threadIdx.x % WARP;
  if (b < n_blocks) put_q8(x[i], i, out); /* a whole warp */
}

void aii_cuda_quant_q8(aii_cuda_stream stream, const float *x, uint32_t n_rows, uint32_t n, aii_cuda_q8 out)
{
  size_t n_blocks = (size_t)n_rows * (n / AII_QBLOCK);
  AII_LAUNCH(quant_q8, blocks_for(n_blocks, THREADS / WARP), THREADS, stream, x, n_blocks, out);
}

/* ---- norms: a block takes a row ---- */

/* q8.q may be NULL, else n is a multiple of 32. */
__global__ void __launch_bounds__(THREADS) normalise(aii_cuda_norm norm, float *out, aii_cuda_q8 q8)
{
  begin_kernel();
  __shared__ float piece[norm_piece<1>::FLOATS];
  __shared__ norm_state<1> state;
  const size_t first = (size_t)blockIdx.x * norm.n;
  norm_rows<1, THREADS>(norm, norm.x + first, 1, piece, state);
  each_normed<1, THREADS>(norm, norm.x + first, 1, state, [&](size_t at, float y) {
    out[first + at] = y;
    if (q8.q != NULL) put_q8(y, first + at, q8);
  });
}

void aii_cuda_normalise(aii_cuda_stream stream, const aii_cuda_norm *how, uint32_t n_rows, float *out, aii_cuda_q8 q8)
{
  const aii_cuda_norm norm = *how;
  AII_LAUNCH(normalise, n_rows, THREADS, stream, norm, out, q8);
}
