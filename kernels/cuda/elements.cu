/* elements.cu - what looks at an element at a time: a thread takes one. */
#include "kernels/cuda/activation.h"

using namespace aii;

#define AII_ELEMENT (size_t) blockIdx.x *blockDim.x + threadIdx.x

/* ---- activations ---- */

/* q8.q may be NULL, else n is a multiple of 32. */
__global__ void activate(int act, const float *gate, const float *up, size_t n, float *out, aii_cuda_q8 q8)
{
  begin_kernel();
  size_t i = AII_ELEMENT;
  if (i >= n) return; /* a whole warp, where there is q8 */
  float v = up != NULL ? activated(act, gate[i], up[i]) : bend(act, gate[i]);
  out[i] = v;
  if (q8.q != NULL) put_q8(v, i, q8);
}

void aii_cuda_activate(aii_cuda_stream stream, int act, const float *gate, const float *up, size_t n, float *out,
                       aii_cuda_q8 q8)
{
  AII_LAUNCH(activate, blocks_for(n, THREADS), THREADS, stream, act, gate, up, n, out, q8);
}

/* ---- sums ---- */

__global__ void add(float *x, const float *y, float f, size_t n)
{
  begin_kernel();
  size_t i = AII_ELEMENT;
  if (i < n) x[i] = fmaf(f, y[i], x[i]);
}

void aii_cuda_add(aii_cuda_stream stream, float *x, const float *y, float f, size_t n)
{
  AII_LAUNCH(add, blocks_for(n, THREADS), THREADS, stream, x, y, f, n);
}

__global__ void scale(float *x, float f, size_t n)
{
  begin_kernel();
  size_t i = AII_ELEMENT;
  if (i < n) x[i] *= f;
}

void aii_cuda_scale(aii_cuda_stream stream, float *x, float f, size_t n)
{
  AII_LAUNCH(scale, blocks_for(n, THREADS), THREADS, stream, x, f, n);
}

__global__ void softcap(float *x, float cap, float inverse, size_t n)
{
  begin_kernel();
  size_t i = AII_ELEMENT;
  if (i < n) x[i] = cap * tanh1(x[i] * inverse);
}

void aii_cuda_softcap(aii_cuda_stream stream, float *x, float cap, size_t n)
{
  float inverse = 1 / cap;
  AII_LAUNCH(softcap, blocks_for(n, THREADS), THREADS, stream, x, cap, inverse, n);
}

__global__ void gate_rows(float *x, const float *gate, size_t n, uint32_t width)
{
  begin_kernel();
  size_t i = AII_ELEMENT;
  if (i < n) x[i] *= 1 / (1 + exp1(-gate[i / width]));
}

void aii_cuda_gate_rows(aii_cuda_stream stream, float *x, const float *gate, uint32_t n_rows, uint32_t width)
{
  size_t n = (size_t)n_rows * width;
  AII_LAUNCH(gate_rows, blocks_for(n, THREADS), THREADS, stream, x, gate, n, width);
}

__global__ void combine(const float *y, const float *weights, size_t n, uint32_t n_used, uint32_t width, float *out)
{
  begin_kernel();
  size_t i = AII_ELEMENT;
  if (i >= n) return;
  size_t row = i / width, at = i % width;
  float sum = 0;
  for (size_t j = row * n_used; j < (row + 1) * n_used; j++) sum = fmaf(weights[j], y[j * width + at], sum);
  out[i] = sum;
}

void aii_cuda_combine(aii_cuda_stream stream, const float *y, const float *weights, uint32_t n_rows, uint32_t n_used,
                      uint32_t width, float *out)
{
  size_t n = (size_t)n_rows * width;
  AII_LAUNCH(combine, blocks_for(n, THREADS), THREADS, stream, y, weights, n, n_used, width, out);
}

/* ---- copies ---- */

__global__ void copy(const float *x, size_t x_stride, uint32_t repeat, size_t n, uint32_t width, float *out,
                     size_t out_stride)
{
  begin_kernel();
  size_t i = AII_ELEMENT;
  if (i < n * width) out[i / width * out_stride + i % width] = x[i / width / repeat * x_stride + i % width];
}

void aii_cuda_copy(aii_cuda_stream stream, const float *x, size_t x_stride, uint32_t repeat, size_t n, uint32_t width,
                   float *out, size_t out_stride)
{
  AII_LAUNCH(copy, blocks_for(n * width, THREADS), THREADS, stream, x, x_stride, repeat, n, width, out, out_stride);
}
