/* rows.cu - what looks at a row at a time: q8 rows, norms. */
#include "kernels/cuda/device.h"

using namespace aii;

/* ---- q8 rows: a warp takes 32 elements ---- */

__global__ void quant_q8(const float *x, size_t n_blocks, aii_cuda_q8 out)
{
  size_t b = (size_t)blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP, i = b * AII_QBLOCK + threadIdx.x % WARP;
  if (b >= n_blocks) return; /* a whole warp */
  float v = x[i], amax = warp_max(fabsf(v));
  float inverse = amax != 0 ? 127 / amax : 0, d = amax / 127;
  int q = clamp_int(rintf(v * inverse), -127, 127), sum = warp_sum(q);
  out.q[i] = (int8_t)q;
  if (threadIdx.x % WARP != 0) return;
  out.d[b] = d;
  out.s[b] = d * (float)sum;
}

void aii_cuda_quant_q8(aii_cuda_stream stream, const float *x, uint32_t n_rows, uint32_t n, aii_cuda_q8 out)
{
  size_t n_blocks = (size_t)n_rows * (n / AII_QBLOCK);
  AII_LAUNCH(quant_q8, blocks_for(n_blocks, THREADS / WARP), THREADS, stream, x, n_blocks, out);
}

/* ---- norms: a block takes a row; its first 16 threads add up ---- */

__global__ void rms_norm(const float *x, const float *w, uint32_t n, float eps, float *out)
{
  __shared__ float factor;
  const float *row = x + (size_t)blockIdx.x * n;
  if (threadIdx.x < WARP) {
    float lane = 0;
    if (threadIdx.x < LANES)
      for (uint32_t i = threadIdx.x; i < n; i += LANES) lane = fmaf(row[i], row[i], lane);
    lane = lane_sum(lane);
    if (threadIdx.x == 0) factor = 1 / sqrtf(lane / (float)n + eps);
  }
  __syncthreads();
  float f = factor;
  for (uint32_t i = threadIdx.x; i < n; i += blockDim.x)
    out[(size_t)blockIdx.x * n + i] = w != NULL ? row[i] * f * w[i] : row[i] * f;
}

void aii_cuda_rms_norm(aii_cuda_stream stream, const float *x, const float *w, uint32_t n_rows, uint32_t n, float eps,
                       float *out)
{
  AII_LAUNCH(rms_norm, n_rows, THREADS, stream, x, w, n, eps, out);
}

__global__ void layer_norm(const float *x, const float *w, const float *b, uint32_t n, float eps, float *out)
{
  __shared__ float shared[2];
  const float *row = x + (size_t)blockIdx.x * n;
  if (threadIdx.x < WARP) {
    float lane = 0, square = 0;
    if (threadIdx.x < LANES)
      for (uint32_t i = threadIdx.x; i < n; i += LANES) lane += row[i];
    float mean = __shfl_sync(AII_FULL_WARP, lane_sum(lane), 0) / (float)n;
    if (threadIdx.x < LANES)
      for (uint32_t i = threadIdx.x; i < n; i += LANES) square = fmaf(row[i] - mean, row[i] - mean, square);
    square = lane_sum(square);
    if (threadIdx.x == 0) {
      shared[0] = mean;
      shared[1] = 1 / sqrtf(square / (float)n + eps);
    }
  }
  __syncthreads();
  float mean = shared[0], f = shared[1];
  for (uint32_t i = threadIdx.x; i < n; i += blockDim.x) {
    float y = (row[i] - mean) * f * w[i];
    out[(size_t)blockIdx.x * n + i] = b != NULL ? y + b[i] : y;
  }
}

void aii_cuda_layer_norm(aii_cuda_stream stream, const float *x, const float *w, const float *b, uint32_t n_rows,
                         uint32_t n, float eps, float *out)
{
  AII_LAUNCH(layer_norm, n_rows, THREADS, stream, x, w, b, n, eps, out);
}
