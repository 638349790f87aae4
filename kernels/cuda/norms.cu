/* norms.cu - what looks at a row at a time: norms, and the q8 rows that products of quantised weights want.
 *
 * A norm's row is often multiplied next, so the kernel that makes it can write its q8 form as well.
 */
#include "kernels/cuda/device.h"

using namespace aii;

enum { PIECE = 2048 }; /* elements that are brought to shared memory at a time */

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

/* ---- norms: a block takes a row; its first 16 threads add up ---- */

/* The sixteen-lane sum of x, or of (x - mean) squared, for all threads. piece: shared memory. */
template <bool SQUARE> __device__ static float row_sum(const float *row, uint32_t n, float mean, float *piece)
{
  float lane = 0;
  for (uint32_t at = 0; at < n; at += PIECE) {
    uint32_t len = min((uint32_t)PIECE, n - at);
    for (uint32_t i = threadIdx.x; i < len; i += THREADS) piece[i] = row[at + i] - mean;
    __syncthreads();
    if (threadIdx.x < LANES)
      for (uint32_t i = threadIdx.x; i < len; i += LANES)
        lane = SQUARE ? fmaf(piece[i], piece[i], lane) : lane + piece[i];
    __syncthreads();
  }
  if (threadIdx.x < WARP) {
    lane = lane_sum(lane);
    if (threadIdx.x == 0) piece[0] = lane;
  }
  __syncthreads();
  float sum = piece[0];
  __syncthreads();
  return sum;
}

/* mean is 0 for a norm that takes none off; q8.q may be NULL, else n is a multiple of 32. */
__device__ static void finish(const float *row, const float *w, const float *b, uint32_t n, float mean, float f,
                              float *out, const aii_cuda_q8 &q8)
{
  for (uint32_t i = threadIdx.x; i < n; i += THREADS) {
    size_t at = (size_t)blockIdx.x * n + i;
    float y = (row[i] - mean) * f;
    if (w != NULL) y *= w[i];
    if (b != NULL) y += b[i];
    out[at] = y;
    if (q8.q != NULL) put_q8(y, at, q8);
  }
}

__global__ void rms_norm(const float *x, const float *w, uint32_t n, float eps, float *out, aii_cuda_q8 q8)
{
  begin_kernel();
  __shared__ float piece[PIECE];
  const float *row = x + (size_t)blockIdx.x * n;
  float sum = row_sum<true>(row, n, 0, piece);
  finish(row, w, NULL, n, 0, 1 / sqrtf(sum / (float)n + eps), out, q8);
}

void aii_cuda_rms_norm(aii_cuda_stream stream, const float *x, const float *w, uint32_t n_rows, uint32_t n, float eps,
                       float *out, aii_cuda_q8 q8)
{
  AII_LAUNCH(rms_norm, n_rows, THREADS, stream, x, w, n, eps, out, q8);
}

__global__ void layer_norm(const float *x, const float *w, const float *b, uint32_t n, float eps, float *out,
                           aii_cuda_q8 q8)
{
  begin_kernel();
  __shared__ float piece[PIECE];
  const float *row = x + (size_t)blockIdx.x * n;
  float mean = row_sum<false>(row, n, 0, piece) / (float)n;
  float square = row_sum<true>(row, n, mean, piece);
  finish(row, w, b, n, mean, 1 / sqrtf(square / (float)n + eps), out, q8);
}

void aii_cuda_layer_norm(aii_cuda_stream stream, const float *x, const float *w, const float *b, uint32_t n_rows,
                         uint32_t n, float eps, float *out, aii_cuda_q8 q8)
{
  AII_LAUNCH(layer_norm, n_rows, THREADS, stream, x, w, b, n, eps, out, q8);
}
