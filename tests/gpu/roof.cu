/* roof.cu - what this GPU can do at most: bytes copied and read a second, and BF16 multiplications by cuBLAS. Prints JSON.
 *
 * gpu.roof [MEGABYTES]   the size of what is copied and read, 2048 by default, which must exceed the cache
 *
 * Times are of CUDA's events, medians of several runs on a device that was kept busy before. A copy counts what it reads
 * and what it writes. cuBLAS is opened at run time: the file that AIINFRA_CUBLAS names, or the one that the loader finds;
 * without it the rate is null and the reason is told. Without a device that is said, too, and is no failure. Numbers are
 * not zero: zeros need less power.
 */
#include <algorithm>
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "kernels/cuda/device.h"

enum { RUNS = 9, MOST_MEGABYTES = 65536, BLOCKS_A_PROCESSOR = 16, AT_ONCE = 4 };
static const double WARM_UP_SECONDS = 0.3;

/* A product of a layer of 8 billion weights with a prompt: C = A B, of BF16, with sums in F32. */
static const int N_OUT = 14336, N_ROWS = 4096, N_IN = 4096;

/* What kernels/cuda/device.h asks: here each kernel waits for the one before. */
bool aii_cuda_comes_early(void)
{
  return false;
}

/* ---- kernels --------------------------------------------------------------------------------------------------------- */

/* BF16 of either sign between 1/2 and 1. */
__global__ void __launch_bounds__(aii::THREADS) fill(uint4 *p, size_t n)
{
  aii::begin_kernel();
  size_t step = (size_t)gridDim.x * blockDim.x;
  for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
    uint32_t x = (uint32_t)i * 2654435761u + 1013904223u, words[4];
    for (int k = 0; k < 4; k++) {
      x ^= x << 13, x ^= x >> 17, x ^= x << 5; /* Marsaglia's xorshift */
      words[k] = (x & 0x807f807fu) | 0x3f003f00u;
    }
    p[i] = make_uint4(words[0], words[1], words[2], words[3]);
  }
}

/* Writes nothing, but the compiler cannot know: no word has these bits. n is a multiple of what all threads read at once. */
__global__ void __launch_bounds__(aii::THREADS) read_all(const uint4 *p, size_t n, uint32_t *never)
{
  aii::begin_kernel();
  size_t step = (size_t)gridDim.x * blockDim.x;
  uint32_t sum = 0;
  for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step * AT_ONCE) {
    uint4 v[AT_ONCE];
#pragma unroll
    for (int k = 0; k < AT_ONCE; k++) v[k] = p[i + k * step];
#pragma unroll
    for (int k = 0; k < AT_ONCE; k++) sum |= (v[k].x | v[k].y | v[k].z | v[k].w) & 0x40004000u;
  }
  if (sum != 0) *never = sum;
}

/* ---- measuring ------------------------------------------------------------------------------------------------------- */

static void need(cudaError_t rc, const char *what)
{
  if (rc == cudaSuccess) return;
  fprintf(stderr, "gpu.roof: %s: %s\n", what, cudaGetErrorString(rc));
  exit(1);
}

static double now(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

struct device {
  cudaStream_t stream;
  cudaEvent_t start, end;
  unsigned blocks;
};

/* The seconds of one call of `work`, which is asked for `times` of them in a row. */
template <class Work> static double median_seconds(const device &d, int times, Work work)
{
  double seconds[RUNS];
  for (double until = now() + WARM_UP_SECONDS; now() < until;) {
    work();
    need(cudaStreamSynchronize(d.stream), "warming up");
  }
  for (double &s : seconds) {
    float ms = 0;
    need(cudaEventRecord(d.start, d.stream), "an event");
    for (int i = 0; i < times; i++) work();
    need(cudaEventRecord(d.end, d.stream), "an event");
    need(cudaEventSynchronize(d.end), "measuring");
    need(cudaEventElapsedTime(&ms, d.start, d.end), "an event");
    s = ms * 1e-3 / times;
  }
  std::sort(seconds, seconds + RUNS);
  return seconds[RUNS / 2];
}

static void *make(const device &d, size_t n_bytes)
{
  void *p;
  need(cudaMalloc(&p, n_bytes), "memory");
  AII_LAUNCH(fill, d.blocks, aii::THREADS, d.stream, (uint4 *)p, n_bytes / sizeof(uint4));
  need(cudaGetLastError(), "filling memory");
  return p;
}

static void measure_memory(const device &d, size_t n_bytes)
{
  size_t at_once = (size_t)d.blocks * aii::THREADS * AT_ONCE * sizeof(uint4);
  n_bytes = std::max(n_bytes / at_once, (size_t)1) * at_once;
  void *from = make(d, n_bytes), *to = make(d, n_bytes);
  double copy = median_seconds(
      d, 5, [=] { need(cudaMemcpyAsync(to, from, n_bytes, cudaMemcpyDeviceToDevice, d.stream), "a copy"); });
  double read = median_seconds(d, 5, [=] {
    AII_LAUNCH(read_all, d.blocks, aii::THREADS, d.stream, (const uint4 *)from, n_bytes / sizeof(uint4),
               (uint32_t *)to);
    need(cudaGetLastError(), "reading");
  });
  printf(",\"bytes\":%zu,\"copy_gbs\":%.1f,\"read_gbs\":%.1f", n_bytes, 2 * (double)n_bytes / copy * 1e-9,
         (double)n_bytes / read * 1e-9);
  need(cudaFree(from), "memory");
  need(cudaFree(to), "memory");
}

/* ---- cuBLAS, by the names and numbers of its documentation --------------------------------------------------------------- */

enum { CUBLAS_OP_N = 0, CUBLAS_OP_T = 1, CUDA_R_16BF_ = 14, CUBLAS_COMPUTE_32F = 68, CUBLAS_GEMM_DEFAULT = -1 };
typedef int cublas_create(void **handle);
typedef int cublas_set_stream(void *handle, cudaStream_t stream);
typedef int cublas_gemm(void *handle, int op_a, int op_b, int m, int n, int k, const void *alpha, const void *a,
                        int type_a, int lda, const void *b, int type_b, int ldb, const void *beta, void *c, int type_c,
                        int ldc, int compute, int algorithm);

struct cublas {
  void *library, *handle;
  cublas_gemm *gemm;
  const char *name;
};

static const char *find_library(cublas *c)
{
  static const char *const names[] = {"libcublas.so.13", "libcublas.so.12", "libcublas.so.11"};
  const char *given = getenv("AIINFRA_CUBLAS");
  if (given != NULL) c->library = dlopen(c->name = given, RTLD_NOW);
  for (size_t i = 0; given == NULL && c->library == NULL && i < sizeof names / sizeof names[0]; i++)
    c->library = dlopen(c->name = names[i], RTLD_NOW);
  return c->library != NULL ? NULL : given != NULL ? "the library of AIINFRA_CUBLAS does not open" : "no cuBLAS here";
}

/* NULL, or what is missing. */
static const char *open_cublas(const device &d, cublas *c)
{
  const char *missing = find_library(c);
  if (missing != NULL) return missing;
  cublas_create *create = (cublas_create *)dlsym(c->library, "cublasCreate_v2");
  cublas_set_stream *set_stream = (cublas_set_stream *)dlsym(c->library, "cublasSetStream_v2");
  c->gemm = (cublas_gemm *)dlsym(c->library, "cublasGemmEx");
  if (create == NULL || set_stream == NULL || c->gemm == NULL) return "this library is no cuBLAS";
  if (create(&c->handle) != 0 || set_stream(c->handle, d.stream) != 0) return "cuBLAS does not start on this device";
  return NULL;
}

/* As cuBLAS sees it, weights of N_OUT rows are a transposed matrix of N_IN rows. */
static double measure_gemm(const device &d, const cublas *c, const char **missing)
{
  const float one = 1, zero = 0;
  size_t weights = (size_t)N_OUT * N_IN * 2, x = (size_t)N_ROWS * N_IN * 2, y = (size_t)N_ROWS * N_OUT * 2;
  void *a = make(d, weights), *b = make(d, x), *to = make(d, y);
  int failed = 0;
  double seconds = median_seconds(d, 20, [&] {
    failed |= c->gemm(c->handle, CUBLAS_OP_T, CUBLAS_OP_N, N_OUT, N_ROWS, N_IN, &one, a, CUDA_R_16BF_, N_IN, b,
                      CUDA_R_16BF_, N_IN, &zero, to, CUDA_R_16BF_, N_OUT, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
  });
  if (failed) *missing = "cublasGemmEx fails";
  return 2.0 * N_OUT * N_ROWS * N_IN / seconds * 1e-12;
}

static void measure_products(const device &d)
{
  cublas c = {};
  double tflops = 0;
  const char *missing = open_cublas(d, &c);
  if (missing == NULL) tflops = measure_gemm(d, &c, &missing);
  if (missing != NULL) printf(",\"gemm_tflops\":null,\"no_gemm\":\"%s\"", missing);
  else printf(",\"gemm_tflops\":%.1f,\"gemm_shape\":[%d,%d,%d]", tflops, N_ROWS, N_OUT, N_IN);
}

int main(int argc, char **argv)
{
  long megabytes = argc > 1 ? strtol(argv[1], NULL, 10) : 2048;
  int n = 0, driver = 0;
  struct cudaDeviceProp what;
  device d = {};
  cudaError_t rc = cudaGetDeviceCount(&n);
  if (megabytes < 1 || megabytes > MOST_MEGABYTES) {
    fprintf(stderr, "gpu.roof [MEGABYTES]: from 1 to %d\n", MOST_MEGABYTES);
    return 2;
  }
  if (rc != cudaSuccess || n == 0) {
    printf("{\"device\":null,\"reason\":\"%s\"}\n", rc != cudaSuccess ? cudaGetErrorString(rc) : "no device");
    return 0;
  }
  need(cudaSetDevice(0), "the device");
  need(cudaGetDeviceProperties(&what, 0), "the device");
  need(cudaDriverGetVersion(&driver), "the driver");
  need(cudaStreamCreate(&d.stream), "a stream");
  need(cudaEventCreate(&d.start), "an event");
  need(cudaEventCreate(&d.end), "an event");
  d.blocks = (unsigned)what.multiProcessorCount * BLOCKS_A_PROCESSOR;
  printf("{\"device\":\"%s\",\"capability\":\"%d.%d\",\"processors\":%d,\"memory_bytes\":%zu,\"driver_cuda\":\"%d.%d\"",
         what.name, what.major, what.minor, what.multiProcessorCount, what.totalGlobalMem, driver / 1000,
         driver % 1000 / 10);
  measure_memory(d, (size_t)megabytes << 20);
  measure_products(d);
  printf("}\n");
  return 0;
}
