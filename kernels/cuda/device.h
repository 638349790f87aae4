/* kernels/cuda/device.h - what the kernels share: launching, numbers by their bits, sums in the stated order.
 *
 * C++ for nvcc, or for the CPU through tests/support/cuda_on_cpu.
 */
#ifndef AII_KERNELS_CUDA_DEVICE_H
#define AII_KERNELS_CUDA_DEVICE_H

#include <cuda_runtime.h>
#include <math.h>
#include <string.h>

#include "kernels/cuda/cuda.h"
#include "kernels/kernels.h"
#include "kernels/panel.h"

/* A launch with `bytes` of shared memory, or none, whose size the launch says. More than 48 KiB, with what the kernel has
 * anyway, must be asked for. */
#ifdef __CUDACC__
#define AII_DYNAMIC_SHARED(name) extern __shared__ __align__(16) char name[]
#define AII_LAUNCH_BYTES(kernel, grid, block, bytes, stream, ...) \
  aii::launch((kernel), (grid), (block), (bytes), (stream), __VA_ARGS__)
#define AII_ASK_SHARED(kernel, bytes) \
  (void)cudaFuncSetAttribute((kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, (int)(bytes))
#else
#define AII_DYNAMIC_SHARED(name) char *name = cuda_on_cpu::dynamic_shared()
#define AII_LAUNCH_BYTES(kernel, grid, block, bytes, stream, ...) \
  ((void)(stream), cuda_on_cpu::launch((grid), (block), [=] { (kernel)(__VA_ARGS__); }, (bytes)))
#define AII_ASK_SHARED(kernel, bytes) ((void)0)
#endif
#define AII_LAUNCH_SHARED(kernel, grid, block, bytes, has, stream, ...)     \
  do {                                                                      \
    if ((bytes) + (has) > aii::PLAIN_SHARED) AII_ASK_SHARED(kernel, bytes); \
    AII_LAUNCH_BYTES(kernel, grid, block, bytes, stream, __VA_ARGS__);      \
  } while (0)
#define AII_LAUNCH(kernel, grid, block, stream, ...) AII_LAUNCH_BYTES(kernel, grid, block, 0, stream, __VA_ARGS__)

namespace aii
{

/* ---- launches ----
 * The blocks of a kernel may come to the device while the kernel before it in the stream ends (programmatic dependent
 * launch: CUDA's programming guide). So each kernel lets the next one come, and waits for the one before, and all before
 * that, before it reads or writes what is not constant: every thread, since whoever comes next trusts that it did. What it
 * reads before, weights, is on its way meanwhile. */

#ifdef __CUDACC__
template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t bytes, aii_cuda_stream stream, const A &...args)
{
  cudaLaunchAttribute early = {};
  cudaLaunchConfig_t how = {};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  how.gridDim = grid;
  how.blockDim = block;
  how.dynamicSmemBytes = bytes;
  how.stream = (cudaStream_t)stream;
  how.attrs = &early;
  how.numAttrs = aii_cuda_comes_early() ? 1 : 0;
  (void)cudaLaunchKernelEx(&how, kernel, args...);
}
#endif

__device__ inline void let_next_come()
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

__device__ inline void wait_for_last()
{
#ifndef __CUDACC__
  cuda_on_cpu::waited_for_last();
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* What a kernel begins with that reads nothing before. */
__device__ inline void begin_kernel()
{
  let_next_come();
  wait_for_last();
}

enum { WARP = 32, LANES = 16, THREADS = 256, PLAIN_SHARED = 48 << 10 };
#define AII_FULL_WARP 0xffffffffu

static inline unsigned blocks_for(size_t n, size_t each)
{
  return (unsigned)((n + each - 1) / each);
}

__device__ inline void prefetch(const void *p)
{
#ifdef __CUDACC__
  asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
#else
  (void)p;
#endif
}

/* ---- bits ---- */

__device__ inline float float_of_bits(uint32_t u)
{
  float f;
  memcpy(&f, &u, sizeof f);
  return f;
}

__device__ inline uint32_t bits_of_float(float f)
{
  uint32_t u;
  memcpy(&u, &f, sizeof u);
  return u;
}

__device__ inline uint16_t load_u16(const void *p) /* at an even address */
{
  return *(const uint16_t *)p;
}

__device__ inline float float_of_half(uint16_t h)
{
#ifdef __CUDACC__
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
  return f;
#else
  uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = (h >> 10) & 0x1fu, fraction = h & 0x3ffu;
  if (exponent == 0x1f) return float_of_bits(sign | 0x7f800000u | fraction << 13 | (fraction != 0 ? 0x400000u : 0));
  if (exponent != 0) return float_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
  float magnitude = (float)fraction * 0x1p-24f;
  return sign != 0 ? -magnitude : magnitude;
#endif
}

__device__ inline uint32_t shift_round(uint32_t v, uint32_t shift)
{
  uint32_t half = 1u << (shift - 1), rest = v & ((half << 1) - 1);
  v >>= shift;
  if (rest > half || (rest == half && (v & 1u) != 0)) v++;
  return v;
}

__device__ inline uint16_t half_of_float(float f)
{
  uint32_t u = bits_of_float(f), sign = (u >> 16) & 0x8000u;
  u &= 0x7fffffffu;
  if (u > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | (u >> 13 & 0x3ffu));
  if (u >= 0x47800000u) return (uint16_t)(sign | 0x7c00u);
  if (u >= 0x38800000u) return (uint16_t)(sign | shift_round(u - (112u << 23), 13));
  if (u < 0x33000000u) return (uint16_t)sign;
  return (uint16_t)(sign | shift_round((u & 0x7fffffu) | 0x800000u, 126 - (u >> 23)));
}

/* Both to the nearest half, ties to even; the first in the low bits. */
__device__ inline uint32_t halves_of(float a, float b)
{
#ifdef __CUDACC__
  uint32_t out;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(b), "f"(a));
  return out;
#else
  return half_of_float(a) | (uint32_t)half_of_float(b) << 16;
#endif
}

__device__ inline float float_of_bf16(uint16_t v)
{
  return float_of_bits((uint32_t)v << 16);
}

__device__ inline float e8m0_half(uint8_t e)
{
  return float_of_bits(e < 2 ? 0x200000u << e : (uint32_t)(e - 1) << 23);
}

/* NaN gives lo. */
__device__ inline int clamp_int(float v, int lo, int hi)
{
  if (!(v > (float)lo)) return lo;
  return v < (float)hi ? (int)v : hi;
}

/* ---- functions, as kernels/ref has them ---- */

__device__ inline float exp1(float x)
{
  if (x != x) return x;
  if (x < -86.0f) return 0;
  if (x > 0x1.62e43p+6f) return float_of_bits(0x7f800000u);
  float n = rintf(x * 0x1.715476p+0f);
  float r = fmaf(n, -0x1.62e4p-1f, x);
  r = fmaf(n, -0x1.7f7d1cp-20f, r);
  float p = 1.9875691500e-4f;
  p = fmaf(p, r, 1.3981999507e-3f);
  p = fmaf(p, r, 8.3334519073e-3f);
  p = fmaf(p, r, 4.1665795894e-2f);
  p = fmaf(p, r, 1.6666665459e-1f);
  p = fmaf(p, r, 5.0000001201e-1f);
  p = fmaf(p, r * r, r) + 1;
  return p * float_of_bits((uint32_t)((int32_t)n + 126) << 23) * 2;
}

__device__ inline float tanh1(float x)
{
  float a = fabsf(x);
  if (a >= 0.625f) return copysignf(1 - 2 / (exp1(2 * a) + 1), x);
  float z = x * x, p = -5.70498872745e-3f;
  p = fmaf(p, z, 2.06390887954e-2f);
  p = fmaf(p, z, -5.37397155531e-2f);
  p = fmaf(p, z, 1.33314422036e-1f);
  p = fmaf(p, z, -3.33332819422e-1f);
  return fmaf(p * z, x, x);
}

/* ---- sums and maxima of a warp ---- */

/* The sixteen-lane sum of the lanes 0..15, in lane 0. */
__device__ inline float lane_sum(float lane)
{
  for (int w = LANES / 2; w > 0; w /= 2) lane += __shfl_down_sync(AII_FULL_WARP, lane, w);
  return lane;
}

/* The largest magnitude of a warp, 0 without numbers: magnitudes are ordered as their bits. */
__device__ inline float warp_amax(float v)
{
  return float_of_bits(__reduce_max_sync(AII_FULL_WARP, v == v ? bits_of_float(fabsf(v)) : 0));
}

__device__ inline int warp_sum(int v)
{
  return __reduce_add_sync(AII_FULL_WARP, v);
}

/* ---- q8 rows ---- */

/* A whole warp quantises 32 adjacent elements, of which this thread has element i. */
__device__ inline void put_q8(float v, size_t i, const aii_cuda_q8 &out)
{
  float amax = warp_amax(v), inverse = amax != 0 ? 127 / amax : 0, d = amax / 127;
  int q = clamp_int(rintf(v * inverse), -127, 127), sum = warp_sum(q);
  out.q[i] = (int8_t)q;
  if (threadIdx.x % WARP != 0) return;
  out.d[i / AII_QBLOCK] = d;
  out.s[i / AII_QBLOCK] = d * (float)sum;
}

} // namespace aii

#endif
