/* kernels/cuda/async.h - copies from global to shared memory that go on while a thread computes (cp.async).
 *
 * A thread's copies since its last async_commit() are a group; async_wait<N>() waits until all but the last N groups of
 * this thread are there. Other threads see them behind a barrier.
 */
#ifndef AII_KERNELS_CUDA_ASYNC_H
#define AII_KERNELS_CUDA_ASYNC_H

#include "kernels/cuda/device.h"

namespace aii
{

/* Sixteen bytes, both addresses multiples of it. */
__device__ inline void async_copy16(void *shared, const void *global)
{
#ifdef __CUDACC__
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((uint32_t)__cvta_generic_to_shared(shared)),
               "l"(global)
               : "memory");
#else
  cuda_on_cpu::copy_later(shared, global, 16);
#endif
}

/* The same; else zeros, and nothing is read. */
__device__ inline void async_copy16_if(bool there, void *shared, const void *global)
{
#ifdef __CUDACC__
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((uint32_t)__cvta_generic_to_shared(shared)),
               "l"(global), "r"(there ? 16 : 0)
               : "memory");
#else
  static const uint4 zeros = {0, 0, 0, 0};
  cuda_on_cpu::copy_later(shared, there ? global : &zeros, 16);
#endif
}

__device__ inline void async_copy4(void *shared, const void *global)
{
#ifdef __CUDACC__
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"((uint32_t)__cvta_generic_to_shared(shared)), "l"(global)
               : "memory");
#else
  cuda_on_cpu::copy_later(shared, global, 4);
#endif
}

__device__ inline void async_commit()
{
#ifdef __CUDACC__
  asm volatile("cp.async.commit_group;" ::: "memory");
#else
  cuda_on_cpu::commit_copies();
#endif
}

template <int N> __device__ inline void async_wait()
{
#ifdef __CUDACC__
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#else
  cuda_on_cpu::wait_copies(N);
#endif
}

} // namespace aii

#endif
