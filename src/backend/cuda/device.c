/* device.c - the CUDA backend's life, memory and copies. */
#include <stdio.h>
#include <stdlib.h>

#include "src/backend/cuda/cuda_backend.h"
#include "src/backend/plugin.h"

enum {
  LEAST_MAJOR = 8, /* compute capability: integer tensor cores with 32 elements a step */
  EARLY_MAJOR = 9,
  EARLY_DRIVER = 12030
};

/* ---- failures ---- */

void aii_cuda_fail(aii_cuda *cuda, aiinfra_status status, int code, const char *what)
{
  cuda->spoiled = cuda->captures;
  if (cuda->failed != AIINFRA_OK || cuda->captures) return;
  cuda->failed = status;
  cuda->code = code;
  snprintf(cuda->failure, sizeof cuda->failure, "%s", what);
}

static aiinfra_status status_of(cudaError_t rc)
{
  return rc == cudaErrorMemoryAllocation ? AIINFRA_ENOMEM : AIINFRA_EDEVICE;
}

bool aii_cuda_check(aii_cuda *cuda, cudaError_t rc, const char *what)
{
  char text[160];
  if (rc == cudaSuccess) return true;
  snprintf(text, sizeof text, "%s: %s", what, cudaGetErrorString(rc));
  aii_cuda_fail(cuda, status_of(rc), (int)rc, text);
  return false;
}

aiinfra_status aii_cuda_error(aiinfra_error *err, cudaError_t rc, const char *what, size_t bytes)
{
  return aii_fail_code(err, status_of(rc), (int)rc, "%s of %zu bytes: %s", what, bytes, cudaGetErrorString(rc));
}

static _Thread_local bool comes_early; /* on the device that this thread has entered */

bool aii_cuda_comes_early(void)
{
  return comes_early;
}

aii_cuda *aii_cuda_enter(aii_backend *be)
{
  aii_cuda *cuda = aii_cuda_of(be);
  comes_early = cuda->comes_early;
  cuda->ready = cuda->made;
  cuda->made.x = NULL;
  cuda->rounded_x = NULL;
  if (cuda->failed != AIINFRA_OK || cuda->spoiled) return NULL;
  return aii_cuda_check(cuda, cudaSetDevice(cuda->device), "choosing the device") ? cuda : NULL;
}

aiinfra_status aii_cuda_sync(aii_backend *be, aiinfra_error *err)
{
  aii_cuda *cuda = aii_cuda_of(be);
  (void)aii_cuda_check(cuda, cudaSetDevice(cuda->device), "choosing the device");
  (void)aii_cuda_check(cuda, cudaGetLastError(), "launching a kernel");
  (void)aii_cuda_check(cuda, cudaStreamSynchronize(cuda->stream), "a kernel");
  aiinfra_status rc = cuda->failed;
  cuda->failed = AIINFRA_OK;
  return rc == AIINFRA_OK ? rc : aii_fail_code(err, rc, cuda->code, "CUDA device %d: %s", cuda->device, cuda->failure);
}

/* ---- memory ---- */

void *aii_cuda_grow(aii_cuda *cuda, aii_cuda_piece *piece, size_t bytes, const char *what)
{
  if (bytes <= piece->bytes && piece->ptr != NULL) return piece->ptr;
  if (!aii_cuda_check(cuda, cudaStreamSynchronize(cuda->stream), "a kernel")) return NULL;
  cuda->epoch++;
  (void)cudaFree(piece->ptr);
  *piece = (aii_cuda_piece){NULL, 0};
  if (!aii_cuda_check(cuda, cudaMalloc(&piece->ptr, bytes), what)) return piece->ptr = NULL;
  piece->bytes = bytes;
  return piece->ptr;
}

void *aii_cuda_grow_host(aii_cuda *cuda, aii_cuda_piece *piece, size_t bytes, const char *what)
{
  if (bytes <= piece->bytes && piece->ptr != NULL) return piece->ptr;
  if (!aii_cuda_check(cuda, cudaStreamSynchronize(cuda->stream), "a kernel")) return NULL;
  (void)cudaFreeHost(piece->ptr);
  *piece = (aii_cuda_piece){NULL, 0};
  if (!aii_cuda_check(cuda, cudaMallocHost(&piece->ptr, bytes), what)) return piece->ptr = NULL;
  piece->bytes = bytes;
  return piece->ptr;
}

aiinfra_status aii_cuda_alloc(aii_backend *be, size_t bytes, void **out, aiinfra_error *err)
{
  cudaError_t rc = cudaSetDevice(aii_cuda_of(be)->device);
  *out = NULL;
  if (rc == cudaSuccess) rc = cudaMalloc(out, bytes);
  if (rc == cudaSuccess) return AIINFRA_OK;
  *out = NULL;
  (void)cudaGetLastError();
  return aii_cuda_error(err, rc, "device memory", bytes);
}

void aii_cuda_release(aii_backend *be, void *ptr, size_t bytes)
{
  aii_cuda *cuda = aii_cuda_of(be);
  (void)bytes;
  if (ptr == NULL || cudaSetDevice(cuda->device) != cudaSuccess) return;
  (void)cudaStreamSynchronize(cuda->stream);
  (void)cudaFree(ptr);
  cuda->epoch++;
}

uint64_t aii_cuda_free_bytes(aii_backend *be)
{
  size_t free_bytes = 0, total = 0;
  if (cudaSetDevice(aii_cuda_of(be)->device) != cudaSuccess) return 0;
  return cudaMemGetInfo(&free_bytes, &total) == cudaSuccess ? free_bytes : 0;
}

aiinfra_status aii_cuda_to_host(aii_backend *be, void *host, const void *device, size_t bytes, aiinfra_error *err)
{
  aii_cuda *cuda = aii_cuda_of(be);
  cudaError_t rc = cudaSetDevice(cuda->device);
  if (rc == cudaSuccess) rc = cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, cuda->stream);
  if (rc == cudaSuccess) rc = cudaStreamSynchronize(cuda->stream);
  return rc == cudaSuccess ? AIINFRA_OK : aii_cuda_error(err, rc, "a copy from the device", bytes);
}

aiinfra_status aii_cuda_copy_block(aii_backend *be, const aii_kv_view *kv, uint32_t from, uint32_t to,
                                   aiinfra_error *err)
{
  aii_cuda *cuda = aii_cuda_of(be);
  if (from >= kv->n_blocks || to >= kv->n_blocks)
    return aii_fail(err, AIINFRA_EINVAL, "copy of KV block %u to %u, of %u", from, to, kv->n_blocks);
  char *base = kv->base;
  cudaError_t rc = cudaSetDevice(cuda->device);
  if (rc == cudaSuccess && from != to)
    rc = cudaMemcpyAsync(base + to * kv->block_bytes, base + from * kv->block_bytes, kv->block_bytes,
                         cudaMemcpyDeviceToDevice, cuda->stream);
  return rc == cudaSuccess ? AIINFRA_OK : aii_cuda_error(err, rc, "a copy of a KV block", kv->block_bytes);
}

aiinfra_status aii_cuda_swap_block(aii_backend *be, const aii_kv_view *kv, uint32_t block, void *host, bool to_host,
                                   aiinfra_error *err)
{
  aii_cuda *cuda = aii_cuda_of(be);
  if (block >= kv->n_blocks) return aii_fail(err, AIINFRA_EINVAL, "swap of KV block %u, of %u", block, kv->n_blocks);
  char *at = (char *)kv->base + block * kv->block_bytes;
  cudaError_t rc = cudaSetDevice(cuda->device);
  if (rc == cudaSuccess)
    rc = cudaMemcpyAsync(to_host ? host : at, to_host ? at : host, kv->block_bytes,
                         to_host ? cudaMemcpyDeviceToHost : cudaMemcpyHostToDevice, cuda->stream);
  return rc == cudaSuccess ? AIINFRA_OK : aii_cuda_error(err, rc, "a swap of a KV block", kv->block_bytes);
}

aiinfra_status aii_cuda_alloc_host(aii_backend *be, size_t bytes, void **out, aiinfra_error *err)
{
  cudaError_t rc = cudaSetDevice(aii_cuda_of(be)->device);
  *out = NULL;
  if (rc == cudaSuccess) rc = cudaMallocHost(out, bytes);
  if (rc == cudaSuccess) return AIINFRA_OK;
  *out = NULL;
  (void)cudaGetLastError();
  return aii_cuda_error(err, rc, "pinned host memory", bytes);
}

void aii_cuda_release_host(aii_backend *be, void *ptr, size_t bytes)
{
  aii_cuda *cuda = aii_cuda_of(be);
  (void)bytes;
  if (ptr == NULL || cudaSetDevice(cuda->device) != cudaSuccess) return;
  (void)cudaStreamSynchronize(cuda->stream); /* copies may be under way */
  (void)cudaFreeHost(ptr);
}

/* ---- life ---- */

void aii_cuda_destroy(aii_backend *be)
{
  aii_cuda *cuda = aii_cuda_of(be);
  if (cudaSetDevice(cuda->device) == cudaSuccess) {
    (void)cudaStreamSynchronize(cuda->stream);
    aii_cuda_leave(cuda);
    aii_cuda_stage_free(cuda);
    aii_cuda_shortlist_free(cuda);
    aii_cuda_graphs_free(cuda);
    (void)cudaFree(cuda->scratch.ptr);
    (void)cudaFree(cuda->arrived.ptr);
    for (int i = 0; i < 2; i++) (void)cudaFree(cuda->q8[i].ptr);
    (void)cudaFree(cuda->rounded.ptr);
    (void)cudaStreamDestroy(cuda->stream);
  }
  aii_del(be->mem, cuda, sizeof *cuda);
}

static aiinfra_status find_device(int32_t device, struct cudaDeviceProp *p, aiinfra_error *err)
{
  int n = 0;
  cudaError_t rc = cudaGetDeviceCount(&n);
  if (rc != cudaSuccess || n == 0) {
    (void)cudaGetLastError();
    return aii_fail_code(err, AIINFRA_ENOTSUP, (int)rc, "no CUDA device: %s",
                         rc != cudaSuccess ? cudaGetErrorString(rc) : "none is visible to this process");
  }
  if (device < 0 || device >= n)
    return aii_fail(err, AIINFRA_ENOTSUP, "CUDA device %d of %d: give a number from 0 to %d", device, n, n - 1);
  rc = cudaGetDeviceProperties(p, device);
  if (rc != cudaSuccess) return aii_cuda_error(err, rc, "the device's properties", sizeof *p);
  if (p->major < LEAST_MAJOR)
    return aii_fail(err, AIINFRA_ENOTSUP, "CUDA device %d (%s) has compute capability %d.%d; %d.0 is the least", device,
                    p->name, p->major, p->minor, LEAST_MAJOR);
  return AIINFRA_OK;
}

/* Kernels come early on Hopper and later; in graphs, too, from CUDA 12.3 on. */
static bool has_early_kernels(const struct cudaDeviceProp *p)
{
  int driver = 0;
  return p->major >= EARLY_MAJOR && cudaDriverGetVersion(&driver) == cudaSuccess && driver >= EARLY_DRIVER;
}

static aiinfra_status create(aii_mem *mem, aii_pool *pool, int32_t device, aii_backend **out, aiinfra_error *err)
{
  *out = NULL;
  struct cudaDeviceProp p;
  aiinfra_status rc = find_device(device, &p, err);
  if (rc != AIINFRA_OK) return rc;
  aii_cuda *cuda = aii_new(mem, sizeof *cuda);
  if (cuda == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for the CUDA backend");
  cuda->base = (aii_backend){.ops = &aii_cuda_ops, .mem = mem};
  cuda->pool = pool;
  cuda->device = device;
  cuda->n_sms = (uint32_t)p.multiProcessorCount;
  cuda->comes_early = has_early_kernels(&p);
  cudaError_t made = cudaSetDevice(device);
  if (made == cudaSuccess) made = cudaStreamCreate(&cuda->stream);
  if (made != cudaSuccess) {
    aii_del(mem, cuda, sizeof *cuda);
    return aii_fail_code(err, AIINFRA_ENOTSUP, (int)made, "CUDA device %d: %s", device, cudaGetErrorString(made));
  }
  *out = &cuda->base;
  return AIINFRA_OK;
}

__attribute__((visibility("default"))) const aii_plugin_head *aii_cuda_plugin_table(void);
const aii_plugin_head *aii_cuda_plugin_table(void)
{
  static const aii_cuda_plugin table = {AII_PLUGIN_HEAD, create};
  return &table.head;
}
