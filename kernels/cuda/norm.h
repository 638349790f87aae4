/* kernels/cuda/norm.h - norms of rows, by all threads of a block: for the kernel that stores them, and for products that
 * normalise their rows themselves.
 */
#ifndef AII_KERNELS_CUDA_NORM_H
#define AII_KERNELS_CUDA_NORM_H

#include "kernels/cuda/device.h"

namespace aii
{

/* Of up to COLS rows, in shared memory. */
template <int COLS> struct norm_state {
  float sums[COLS], mean[COLS], factor[COLS];
};

/* How much of each row is brought to shared memory at a time. */
template <int COLS> struct norm_piece {
  enum { EACH = COLS == 1 ? 2048 : 1024, STRIDE = EACH + LANES, FLOATS = COLS * STRIDE };
};

/* The sixteen-lane sums of rows, less their means, or of the squares; sixteen threads take a row. */
template <bool SQUARE, int COLS, int THREADS_>
__device__ void row_sums(const float *rows, uint32_t n, uint32_t cols, float *piece, norm_state<COLS> &s)
{
  typedef norm_piece<COLS> P;
  const uint32_t col = threadIdx.x / LANES, lane = threadIdx.x % LANES;
  float sum = 0;
  for (uint32_t at = 0; at < n; at += P::EACH) {
    const uint32_t len = min((uint32_t)P::EACH, n - at);
    for (uint32_t c = 0; c < cols; c++)
      for (uint32_t i = threadIdx.x; i < len; i += THREADS_)
        piece[c * P::STRIDE + i] = rows[(size_t)c * n + at + i] - s.mean[c];
    __syncthreads();
    if (col < cols) {
      const float *mine = piece + col * P::STRIDE;
#pragma unroll 8
      for (uint32_t i = lane; i < len; i += LANES) sum = SQUARE ? fmaf(mine[i], mine[i], sum) : sum + mine[i];
    }
    __syncthreads();
  }
  if (threadIdx.x < (COLS * LANES + WARP - 1) / WARP * WARP) { /* whole warps */
    sum = lane_sum(sum);
    if (lane == 0 && col < cols) s.sums[col] = sum;
  }
  __syncthreads();
}

/* What the rows' elements are normalised by; piece: FLOATS of shared memory, free again afterwards. */
template <int COLS, int THREADS_>
__device__ void norm_rows(const aii_cuda_norm &norm, const float *rows, uint32_t cols, float *piece,
                          norm_state<COLS> &s)
{
  const uint32_t c = threadIdx.x;
  if (c < COLS) s.mean[c] = 0;
  __syncthreads();
  if (norm.layer) {
    row_sums<false, COLS, THREADS_>(rows, norm.n, cols, piece, s);
    if (c < cols) s.mean[c] = s.sums[c] / (float)norm.n;
    __syncthreads();
  }
  row_sums<true, COLS, THREADS_>(rows, norm.n, cols, piece, s);
  if (c < cols) s.factor[c] = 1 / sqrtf(s.sums[c] / (float)norm.n + norm.eps);
  __syncthreads();
}

/* Element i of row c. */
template <int COLS>
__device__ inline float normed(const aii_cuda_norm &norm, const float *rows, uint32_t c, uint32_t i,
                               const norm_state<COLS> &s)
{
  float y = (rows[(size_t)c * norm.n + i] - s.mean[c]) * s.factor[c];
  if (norm.w != NULL) y *= norm.w[i];
  if (norm.b != NULL) y += norm.b[i];
  return y;
}

/* The rows themselves, to memory [cols][n]; all threads may read it then. */
template <int COLS, int THREADS_>
__device__ void put_normed(const aii_cuda_norm &norm, const float *rows, uint32_t cols, float *piece,
                           norm_state<COLS> &s, float *out)
{
  norm_rows<COLS, THREADS_>(norm, rows, cols, piece, s);
  for (uint32_t c = 0; c < cols; c++)
    for (uint32_t i = threadIdx.x; i < norm.n; i += THREADS_) out[(size_t)c * norm.n + i] = normed(norm, rows, c, i, s);
  __syncthreads();
}

/* Their q8 form; n is a multiple of 32. */
template <int COLS, int THREADS_>
__device__ void put_normed(const aii_cuda_norm &norm, const float *rows, uint32_t cols, float *piece,
                           norm_state<COLS> &s, const aii_cuda_q8 &out)
{
  norm_rows<COLS, THREADS_>(norm, rows, cols, piece, s);
  for (uint32_t c = 0; c < cols; c++)
    for (uint32_t i = threadIdx.x; i < norm.n; i += THREADS_)
      put_q8(normed(norm, rows, c, i, s), (size_t)c * norm.n + i, out);
  __syncthreads();
}

} // namespace aii

#endif
