/* cuda_runtime_api.h - the part of CUDA's runtime that src/backend/cuda and tests/gpu use, on a machine without a GPU.
 *
 * Device memory is host memory with red zones that freeing checks, a stream does at once what it is told. AIINFRA_FAKE_CUDA
 * chooses what there is: unset or "ok" one device, "two" two, "none" no device, "old" a driver that is too old, "small" a
 * device with 64 KiB of memory, "plain" one that makes no graphs.
 */
#ifndef AII_TESTS_CUDA_RUNTIME_API_H
#define AII_TESTS_CUDA_RUNTIME_API_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef int cudaError_t;
typedef void *cudaStream_t;
enum {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorNotSupported = 801,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
struct cudaDeviceProp {
  char name[256];
  size_t totalGlobalMem;
  int major, minor, multiProcessorCount;
};

/* Bytes that were copied, by their way, graphs and kernels that were launched, bytes of keys and values that attention
 * read, and those that kernels copied to shared memory; tests look them up in the plug-in. */
__attribute__((weak, visibility("default"))) unsigned long long fake_cuda_copied[4], fake_cuda_graphs,
    fake_cuda_kernels, fake_cuda_cache_reads, fake_cuda_async_bytes;

/* What a stream would do, in order, while it is captured. */
typedef struct fake_cuda_work {
  struct fake_cuda_work *next;
  void *what;
  void (*run)(void *what);
  void (*drop)(void *what);
} fake_cuda_work;
typedef struct fake_cuda_graph {
  fake_cuda_work *first, **end;
  int is_bad, n_owners; /* a graph and what was made of it share its work */
} fake_cuda_graph;
typedef fake_cuda_graph *cudaGraph_t, *cudaGraphExec_t;
__attribute__((weak)) fake_cuda_graph *fake_cuda_capture; /* NULL: none */

enum { FAKE_CUDA_GUARD = 64, FAKE_CUDA_FILL = 0xa5 };
static const size_t fake_cuda_small = (size_t)64 << 10;

static inline int fake_cuda_is(const char *what)
{
  const char *have = getenv("AIINFRA_FAKE_CUDA");
  return strcmp(have != NULL ? have : "ok", what) == 0;
}

static inline cudaError_t cudaGetDeviceCount(int *n)
{
  *n = 0;
  if (fake_cuda_is("none")) return cudaErrorNoDevice;
  if (fake_cuda_is("old")) return cudaErrorInsufficientDriver;
  *n = fake_cuda_is("two") ? 2 : 1;
  return cudaSuccess;
}

static inline cudaError_t cudaSetDevice(int device)
{
  return device >= 0 && device <= fake_cuda_is("two") ? cudaSuccess : cudaErrorInvalidValue;
}

static inline cudaError_t cudaDriverGetVersion(int *version)
{
  *version = 12040;
  return cudaSuccess;
}

static inline cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
  if (cudaSetDevice(device) != cudaSuccess) return cudaErrorInvalidValue;
  memset(p, 0, sizeof *p);
  strcpy(p->name, "an emulated GPU");
  p->totalGlobalMem = fake_cuda_is("small") ? fake_cuda_small : (size_t)4 << 30;
  p->major = 9;
  p->multiProcessorCount = 4;
  return cudaSuccess;
}

static inline cudaError_t cudaGetLastError(void)
{
  return cudaSuccess;
}

static inline const char *cudaGetErrorString(cudaError_t e)
{
  if (e == cudaErrorNoDevice) return "no CUDA-capable device is detected";
  if (e == cudaErrorInsufficientDriver) return "CUDA driver version is insufficient for CUDA runtime version";
  return e == cudaErrorMemoryAllocation ? "out of memory" : "invalid argument";
}

/* What no stream may do while it is captured. */
static inline int fake_cuda_spoils(void)
{
  if (fake_cuda_capture != NULL) fake_cuda_capture->is_bad = 1;
  return fake_cuda_capture != NULL;
}

static inline cudaError_t cudaMalloc(void **out, size_t n)
{
  *out = NULL;
  if (fake_cuda_spoils()) return cudaErrorStreamCaptureUnsupported;
  if (fake_cuda_is("small") && n > fake_cuda_small) return cudaErrorMemoryAllocation;
  char *p = (char *)aligned_alloc(64, (n + 2 * FAKE_CUDA_GUARD + 63) / 64 * 64);
  if (p == NULL) return cudaErrorMemoryAllocation;
  memset(p, FAKE_CUDA_FILL, n + 2 * FAKE_CUDA_GUARD);
  memcpy(p, &n, sizeof n);
  *out = p + FAKE_CUDA_GUARD;
  return cudaSuccess;
}

static inline cudaError_t cudaFree(void *ptr)
{
  if (ptr == NULL) return cudaSuccess;
  char *p = (char *)ptr - FAKE_CUDA_GUARD;
  size_t n;
  memcpy(&n, p, sizeof n);
  for (size_t i = sizeof n; i < FAKE_CUDA_GUARD; i++)
    if ((unsigned char)p[i] != FAKE_CUDA_FILL ||
        (unsigned char)p[FAKE_CUDA_GUARD + n + i - sizeof n] != FAKE_CUDA_FILL) {
      fprintf(stderr, "a kernel wrote outside of its %zu bytes\n", n);
      abort();
    }
  free(p);
  return cudaSuccess;
}

static inline cudaError_t cudaMallocHost(void **out, size_t n)
{
  *out = malloc(n);
  return *out != NULL ? cudaSuccess : cudaErrorMemoryAllocation;
}

static inline cudaError_t cudaFreeHost(void *p)
{
  free(p);
  return cudaSuccess;
}

static inline cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
  *total = *free_bytes = fake_cuda_is("small") ? fake_cuda_small : (size_t)4 << 30;
  return cudaSuccess;
}

static inline cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n, enum cudaMemcpyKind kind,
                                          cudaStream_t s)
{
  (void)s;
  if (fake_cuda_spoils()) return cudaErrorStreamCaptureUnsupported;
  fake_cuda_copied[kind] += n;
  memcpy(to, from, n);
  return cudaSuccess;
}

static inline cudaError_t cudaMemsetAsync(void *to, int byte, size_t n, cudaStream_t s)
{
  (void)s;
  if (fake_cuda_spoils()) return cudaErrorStreamCaptureUnsupported;
  memset(to, byte, n);
  return cudaSuccess;
}

static inline cudaError_t cudaStreamCreate(cudaStream_t *s)
{
  *s = (cudaStream_t)1;
  return cudaSuccess;
}

static inline cudaError_t cudaStreamDestroy(cudaStream_t s)
{
  (void)s;
  return cudaSuccess;
}

static inline cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
  (void)s;
  return fake_cuda_spoils() ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}

/* ---- events: when they were recorded ---- */

typedef struct timespec *cudaEvent_t;

static inline cudaError_t cudaEventCreate(cudaEvent_t *e)
{
  *e = (cudaEvent_t)calloc(1, sizeof **e);
  return *e != NULL ? cudaSuccess : cudaErrorMemoryAllocation;
}

static inline cudaError_t cudaEventDestroy(cudaEvent_t e)
{
  free(e);
  return cudaSuccess;
}

static inline cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
  (void)s;
  return clock_gettime(CLOCK_MONOTONIC, e) == 0 ? cudaSuccess : cudaErrorInvalidValue;
}

static inline cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
  (void)e;
  return cudaSuccess;
}

static inline cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
  *ms = (float)((double)(end->tv_sec - start->tv_sec) * 1e3 + (double)(end->tv_nsec - start->tv_nsec) * 1e-6);
  return cudaSuccess;
}

/* ---- graphs ---- */

enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };

static inline cudaError_t cudaStreamBeginCapture(cudaStream_t s, enum cudaStreamCaptureMode mode)
{
  (void)s, (void)mode;
  if (fake_cuda_spoils()) return cudaErrorInvalidValue;
  fake_cuda_graph *g = (fake_cuda_graph *)calloc(1, sizeof *g);
  if (g == NULL) return cudaErrorMemoryAllocation;
  g->end = &g->first;
  g->n_owners = 1;
  fake_cuda_capture = g;
  return cudaSuccess;
}

static inline cudaError_t cudaGraphDestroy(cudaGraph_t g)
{
  if (--g->n_owners > 0) return cudaSuccess;
  while (g->first != NULL) {
    fake_cuda_work *work = g->first;
    g->first = work->next;
    work->drop(work->what);
    free(work);
  }
  free(g);
  return cudaSuccess;
}

static inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t g)
{
  return cudaGraphDestroy(g);
}

static inline cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *out)
{
  (void)s;
  *out = fake_cuda_capture;
  fake_cuda_capture = NULL;
  if (*out == NULL) return cudaErrorInvalidValue;
  if (!(*out)->is_bad) return cudaSuccess;
  (void)cudaGraphDestroy(*out);
  *out = NULL;
  return cudaErrorStreamCaptureUnsupported;
}

static inline cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *out, cudaGraph_t g, unsigned long long flags)
{
  (void)flags;
  *out = NULL;
  if (fake_cuda_is("plain")) return cudaErrorNotSupported;
  g->n_owners++;
  *out = g;
  return cudaSuccess;
}

static inline cudaError_t cudaGraphLaunch(cudaGraphExec_t g, cudaStream_t s)
{
  (void)s;
  if (fake_cuda_spoils()) return cudaErrorStreamCaptureUnsupported;
  fake_cuda_graphs++;
  for (fake_cuda_work *work = g->first; work != NULL; work = work->next) work->run(work->what);
  return cudaSuccess;
}

#endif
