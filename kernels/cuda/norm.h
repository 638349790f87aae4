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

/* Elements at .. at + len of a row, less its mean, to shared memory; all are asked for before any is put there. */
template <int COLS, int THREADS_> __device__ void bring(const float *row, uint32_t len, float mean, float *piece)
{
  enum { N = norm_piece<COLS>::EACH / THREADS_ };
  float x[N];
#pragma unroll
  for (int k = 0; k < N; k++) {
    const uint32_t i = threadIdx.x + (uint32_t)k * THREADS_;
    x[k] = i < len ? row[i] : 0;
  }
#pragma unroll
  for (int k = 0; k < N; k++) piece[threadIdx.x + (uint32_t)k * THREADS_] = x[k] - mean;
}

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
      bring<COLS, THREADS_>(rows + (size_t)c * n + at, len, s.mean[c], piece + c * P::STRIDE);
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

/* Four elements of row c, for this thread: i, i + THREADS_ and so on, of those that are there. */
template <int COLS, int THREADS_>
__device__ inline void normed(const aii_cuda_norm &norm, const float *rows, uint32_t c, uint32_t i,
                              const norm_state<COLS> &s, float out[4])
{
  const float *row = rows + (size_t)c * norm.n, mean = s.mean[c], factor = s.factor[c];
  float w[4], b[4];
#pragma unroll
  for (uint32_t k = 0; k < 4; k++) {
    const uint32_t at = min(i + k * THREADS_, norm.n - 1);
    out[k] = row[at];
    w[k] = norm.w != NULL ? norm.w[at] : 1;
    b[k] = norm.b != NULL ? norm.b[at] : 0;
  }
#pragma unroll
  for (int k = 0; k < 4; k++) {
    out[k] = (out[k] - mean) * factor;
    if (norm.w != NULL) out[k] *= w[k];
    if (norm.b != NULL) out[k] += b[k];
  }
}

/* put(at, y) for every element of the rows, whole warps together where n is a multiple of 32; at: of the rows. */
template <int COLS, int THREADS_, class Put>
__device__ void each_normed(const aii_cuda_norm &norm, const float *rows, uint32_t cols, const norm_state<COLS> &s,
                            const Put &put)
{
  for (uint32_t c = 0; c < cols; c++)
    for (uint32_t i = threadIdx.x; i < norm.n; i += 4 * THREADS_) {
      float y[4];
      normed<COLS, THREADS_>(norm, rows, c, i, s, y);
      for (uint32_t k = 0; k < 4 && i + k * THREADS_ < norm.n; k++) put((size_t)c * norm.n + i + k * THREADS_, y[k]);
    }
}

/* The rows themselves, to memory [cols][n]; all threads may read it then. */
template <int COLS, int THREADS_>
__device__ void put_normed(const aii_cuda_norm &norm, const float *rows, uint32_t cols, float *piece,
                           norm_state<COLS> &s, float *out)
{
  norm_rows<COLS, THREADS_>(norm, rows, cols, piece, s);
  each_normed<COLS, THREADS_>(norm, rows, cols, s, [&](size_t at, float y) { out[at] = y; });
  __syncthreads();
}

/* Their q8 form; n is a multiple of 32. */
template <int COLS, int THREADS_>
__device__ void put_normed(const aii_cuda_norm &norm, const float *rows, uint32_t cols, float *piece,
                           norm_state<COLS> &s, const aii_cuda_q8 &out)
{
  norm_rows<COLS, THREADS_>(norm, rows, cols, piece, s);
  each_normed<COLS, THREADS_>(norm, rows, cols, s, [&](size_t at, float y) { put_q8(y, at, out); });
  __syncthreads();
}

} // namespace aii

#endif
