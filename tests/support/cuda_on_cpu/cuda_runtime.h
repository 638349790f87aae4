/* cuda_runtime.h - CUDA C++ as far as kernels/cuda speaks it, on the CPU.
 *
 * Blocks run one after the other, in an order that changes. The threads of a block are fibres: each runs until it meets a
 * barrier or a warp's exchange, and goes on when all living threads of the block or warp have come there. __shared__ is
 * static memory. x86-64 only: a fibre is switched by a dozen instructions.
 */
#ifndef AII_TESTS_CUDA_RUNTIME_H
#define AII_TESTS_CUDA_RUNTIME_H

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <vector>

#include "cuda_runtime_api.h"

#define __global__ static
#define __device__
#define __host__
#define __shared__ static
#define __constant__ static const
#define __launch_bounds__(...)

struct float2 {
  float x, y;
};
static inline float2 make_float2(float x, float y)
{
  return {x, y};
}
struct float4 {
  float x, y, z, w;
};
static inline float4 make_float4(float x, float y, float z, float w)
{
  return {x, y, z, w};
}
struct uint2 {
  uint32_t x, y;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
static inline uint2 make_uint2(uint32_t x, uint32_t y)
{
  return {x, y};
}
static inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w)
{
  return {x, y, z, w};
}
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
  {
  }
};

/* One of each for all files: functions that they share are linked once. */
inline dim3 threadIdx, blockIdx, blockDim, gridDim;

using std::max;
using std::min;

extern "C" void aii_fibre_switch(void **save, void *load);

namespace cuda_on_cpu
{

enum { STACK = 256 << 10, WARP_LANES = 32 };

struct barrier {
  unsigned living, arrived, generation;
};

struct fibre {
  void *sp;
  bool done, waited; /* waited: for the kernel before */
  uint64_t slot[6];  /* what the other lanes of its warp may read */
};

/* Shared memory of a size that the launch says, between red zones. Each block finds it filled with ones, as floats NaN. */
struct dynamic_memory {
  enum { GUARD = 64 };
  std::unique_ptr<char[]> bytes;
  size_t n = 0, room = 0;
  char *start()
  {
    return (char *)(((uintptr_t)bytes.get() + 2 * GUARD - 1) & ~(uintptr_t)(GUARD - 1));
  }
  void fill(size_t size)
  {
    if (size > room) bytes.reset(new char[(room = size) + 3 * GUARD]);
    n = size;
    memset(start() - GUARD, FAKE_CUDA_FILL, n + 2 * GUARD);
    memset(start(), 0xff, n);
  }
  void check()
  {
    for (int i = 0; i < GUARD; i++)
      if ((unsigned char)start()[i - GUARD] != FAKE_CUDA_FILL || (unsigned char)start()[n + i] != FAKE_CUDA_FILL) {
        fprintf(stderr, "a kernel wrote outside of its %zu bytes of shared memory\n", n);
        abort();
      }
  }
};

struct machine {
  dynamic_memory shared;
  std::unique_ptr<char[]> stacks; /* of as many fibres as there ever were */
  std::vector<fibre> fibres;
  std::vector<barrier> warps;
  barrier block;
  unsigned n, current;
  bool backwards; /* every other time, so that a barrier that is missing shows */
  bool from_last; /* every other launch: no block may rely on another one before it */
  void *scheduler;
  const std::function<void()> *kernel;
};

inline machine &it()
{
  static machine m;
  return m;
}

static inline void yield()
{
  aii_fibre_switch(&it().fibres[it().current].sp, it().scheduler);
}

static inline void waited_for_last()
{
  it().fibres[it().current].waited = true;
}

/* Those that end while others wait count as having come. */
static inline void wait(barrier &b)
{
  unsigned generation = b.generation;
  b.arrived++;
  while (b.generation == generation) {
    if (b.arrived >= b.living) {
      b.arrived = 0;
      b.generation++;
      return;
    }
    yield();
  }
}

static inline barrier &my_warp()
{
  return it().warps[it().current / WARP_LANES];
}

static inline void wait_warp()
{
  wait(my_warp());
}

static void run()
{
  (*it().kernel)();
  if (!it().fibres[it().current].waited) {
    fprintf(stderr, "a thread of a kernel ended without having waited for the kernel before\n");
    abort();
  }
  it().fibres[it().current].done = true;
  it().block.living--;
  my_warp().living--;
  yield();
}

static inline void start(unsigned i)
{
  machine &m = it();
  uint64_t *top = (uint64_t *)((uintptr_t)(m.stacks.get() + (size_t)(i + 1) * STACK) & ~(uintptr_t)63);
  *--top = 0; /* where run() would return to: it does not */
  *--top = (uint64_t)(uintptr_t)run;
  for (int r = 0; r < 6; r++) *--top = 0;
  m.fibres[i] = fibre{top, false, false, {0}};
}

static inline void run_block()
{
  machine &m = it();
  m.block = barrier{m.n, 0, 0};
  m.warps.assign(m.n / WARP_LANES + 1, barrier{WARP_LANES, 0, 0});
  m.warps.back().living = m.n % WARP_LANES;
  for (unsigned i = 0; i < m.n; i++) start(i);
  for (unsigned left = m.n; left > 0;) {
    left = 0;
    m.backwards = !m.backwards;
    for (unsigned step = 0; step < m.n; step++) {
      unsigned i = m.backwards ? m.n - 1 - step : step;
      if (m.fibres[i].done) continue;
      m.current = i;
      threadIdx = dim3(i, 0, 0);
      aii_fibre_switch(&m.scheduler, m.fibres[i].sp);
      left += !m.fibres[i].done;
    }
  }
}

static inline char *dynamic_shared()
{
  return it().shared.start();
}

static inline void run_all(dim3 grid, dim3 block, const std::function<void()> &kernel, size_t shared)
{
  machine &m = it();
  m.n = block.x;
  m.kernel = &kernel;
  if (m.n > m.fibres.size()) {
    m.stacks.reset(new char[(size_t)m.n * STACK]);
    m.fibres.resize(m.n);
  }
  blockDim = block;
  gridDim = grid;
  m.from_last = !m.from_last;
  const size_t n_blocks = (size_t)grid.x * grid.y * grid.z;
  for (size_t i = 0; i < n_blocks; i++) {
    const size_t at = m.from_last ? n_blocks - 1 - i : i;
    blockIdx = dim3((unsigned)(at % grid.x), (unsigned)(at / grid.x % grid.y), (unsigned)(at / grid.x / grid.y));
    if (shared > 0) m.shared.fill(shared);
    run_block();
    if (shared > 0) m.shared.check();
  }
}

struct work {
  dim3 grid, block;
  std::function<void()> kernel;
  size_t shared;
  void run()
  {
    run_all(grid, block, kernel, shared);
  }
};

static inline void launch(dim3 grid, dim3 block, const std::function<void()> &kernel, size_t shared = 0)
{
  fake_cuda_kernels++;
  if (fake_cuda_capture == NULL) return run_all(grid, block, kernel, shared);
  fake_cuda_work *node = (fake_cuda_work *)calloc(1, sizeof *node);
  node->what = new work{grid, block, kernel, shared};
  node->run = [](void *what) { ((work *)what)->run(); };
  node->drop = [](void *what) { delete (work *)what; };
  *fake_cuda_capture->end = node;
  fake_cuda_capture->end = &node->next;
}

static inline fibre &lane_of(unsigned lane)
{
  return it().fibres[it().current / WARP_LANES * WARP_LANES + lane];
}

template <class T> static T exchange(T v, unsigned from)
{
  memcpy(it().fibres[it().current].slot, &v, sizeof v);
  wait_warp();
  T got;
  memcpy(&got, lane_of(from).slot, sizeof got);
  wait_warp();
  return got;
}

/* fold of all lanes' v, which are as many as a warp has. */
template <class T, class Fold> static T reduce(T v, Fold fold)
{
  memcpy(it().fibres[it().current].slot, &v, sizeof v);
  wait_warp();
  for (unsigned lane = 0; lane < WARP_LANES; lane++) {
    T other;
    memcpy(&other, lane_of(lane).slot, sizeof other);
    v = lane == 0 ? other : fold(v, other);
  }
  wait_warp();
  return v;
}

/* Of four int8; of four uint8 with four int8. */
static inline int byte_product(uint32_t a, uint32_t b)
{
  int sum = 0;
  for (int i = 0; i < 32; i += 8) sum += (int)(int8_t)(a >> i) * (int)(int8_t)(b >> i);
  return sum;
}
static inline int mixed_product(uint32_t a, uint32_t b)
{
  int sum = 0;
  for (int i = 0; i < 32; i += 8) sum += (int)(uint8_t)(a >> i) * (int)(int8_t)(b >> i);
  return sum;
}

/* mma.m16n8k16 (halves 1) and k32 (halves 2) of int8, and of uint8 with int8. */
static inline void mma_s8(int c[4], const uint32_t *a, const uint32_t *b, int halves,
                          int (*product)(uint32_t, uint32_t) = byte_product)
{
  fibre &me = it().fibres[it().current];
  unsigned lane = it().current % WARP_LANES, g = lane / 4, t = lane % 4;
  uint32_t mine[6] = {0};
  memcpy(mine, a, 8 * (size_t)halves);
  memcpy(mine + 4, b, 4 * (size_t)halves);
  memcpy(me.slot, mine, sizeof mine);
  wait_warp();
  for (int i = 0; i < 4; i++)
    for (int h = 0; h < halves; h++)
      for (unsigned k = 0; k < 4; k++) {
        uint32_t row[6], col[6];
        memcpy(row, lane_of(g * 4 + k).slot, sizeof row);
        memcpy(col, lane_of((2 * t + i % 2) * 4 + k).slot, sizeof col);
        c[i] += product(row[2 * h + i / 2], col[4 + h]);
      }
  wait_warp();
}

/* mma.m16n8k16 of 16-bit floats, whose numbers `of` tells: c = fma(a[k], b[k], c) for k = 0, 1, 2, ... A real one has an
 * order of its own. */
template <class Of> static void mma_k16(float c[4], const uint32_t *a, const uint32_t *b, Of of)
{
  fibre &me = it().fibres[it().current];
  unsigned lane = it().current % WARP_LANES, g = lane / 4, t = lane % 4;
  uint32_t mine[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
  memcpy(me.slot, mine, sizeof mine);
  wait_warp();
  for (int i = 0; i < 4; i++)
    for (unsigned k = 0; k < 16; k++) {
      uint32_t row[6], col[6];
      memcpy(row, lane_of(g * 4 + k / 2 % 4).slot, sizeof row);
      memcpy(col, lane_of((2 * t + i % 2) * 4 + k / 2 % 4).slot, sizeof col);
      c[i] = fmaf(of((uint16_t)(row[k / 8 * 2 + i / 2] >> 16 * (k % 2))),
                  of((uint16_t)(col[4 + k / 8] >> 16 * (k % 2))), c[i]);
    }
  wait_warp();
}

static inline float float_of_bf16(uint16_t v)
{
  uint32_t u = (uint32_t)v << 16;
  float f;
  memcpy(&f, &u, sizeof f);
  return f;
}

static inline void mma_bf16(float c[4], const uint32_t *a, const uint32_t *b)
{
  mma_k16(c, a, b, float_of_bf16);
}

/* ldmatrix.x4: lane 8 i + r gives the address of row r of matrix i, which has 8 x 8 elements of 16 bits. */
static inline void load_matrices(uint32_t out[4], const uint16_t *row, bool turned)
{
  unsigned lane = it().current % WARP_LANES, g = lane / 4, t = lane % 4;
  if ((uintptr_t)row % 16 != 0) {
    fprintf(stderr, "a row of a matrix at an address that is no multiple of 16\n");
    abort();
  }
  memcpy(it().fibres[it().current].slot, &row, sizeof row);
  wait_warp();
  for (unsigned i = 0; i < 4; i++) {
    uint16_t pair[2];
    for (unsigned e = 0; e < 2; e++) {
      const uint16_t *from;
      memcpy(&from, lane_of(8 * i + (turned ? 2 * t + e : g)).slot, sizeof from);
      pair[e] = from[turned ? g : 2 * t + e];
    }
    memcpy(&out[i], pair, sizeof pair);
  }
  wait_warp();
}

static inline void mma_u8s8(int c[4], const uint32_t *a, const uint32_t *b)
{
  mma_s8(c, a, b, 2, mixed_product);
}

} // namespace cuda_on_cpu

static inline void __syncthreads()
{
  cuda_on_cpu::wait(cuda_on_cpu::it().block);
}
static inline uint32_t atomicAdd(uint32_t *p, uint32_t v)
{
  uint32_t before = *p;
  *p += v;
  return before;
}
static inline void __threadfence()
{
}
static inline float __ldcg(const float *p)
{
  return *p;
}
template <class T> static T __shfl_sync(unsigned, T v, int lane)
{
  return cuda_on_cpu::exchange(v, (unsigned)lane);
}
template <class T> static T __shfl_xor_sync(unsigned, T v, int mask)
{
  return cuda_on_cpu::exchange(v, cuda_on_cpu::it().current % 32 ^ (unsigned)mask);
}
template <class T> static T __shfl_down_sync(unsigned, T v, int by)
{
  unsigned lane = cuda_on_cpu::it().current % 32;
  return cuda_on_cpu::exchange(v, lane + (unsigned)by < 32 ? lane + (unsigned)by : lane);
}
static inline unsigned __reduce_max_sync(unsigned, unsigned v)
{
  return cuda_on_cpu::reduce(v, [](unsigned a, unsigned b) { return max(a, b); });
}
static inline int __reduce_add_sync(unsigned, int v)
{
  return cuda_on_cpu::reduce(v, [](int a, int b) { return a + b; });
}
/* Selects four of the eight bytes of b:a. */
static inline uint32_t __byte_perm(uint32_t a, uint32_t b, uint32_t which)
{
  uint64_t both = (uint64_t)b << 32 | a;
  uint32_t out = 0;
  for (int i = 0; i < 4; i++) out |= (uint32_t)(uint8_t)(both >> (8 * (which >> (4 * i) & 7))) << (8 * i);
  return out;
}
static inline int __dp4a(int a, int b, int c)
{
  return c + cuda_on_cpu::byte_product((uint32_t)a, (uint32_t)b);
}
static inline uint32_t __vsub4(uint32_t a, uint32_t b)
{
  uint32_t out = 0;
  for (int i = 0; i < 32; i += 8) out |= (uint32_t)(uint8_t)((a >> i) - (b >> i)) << i;
  return out;
}

#include "async_copies.h"

#endif
