/* device.c - the CUDA backend's life, memory, copies and weights. */
#include <stdio.h>
#include <stdlib.h>

#include "src/backend/cuda/cuda_backend.h"
#include "src/backend/plugin.h"

enum { LEAST_MAJOR = 8 }; /* compute capability: integer tensor cores with 32 elements a step */

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

static aiinfra_status told(aiinfra_error *err, cudaError_t rc, const char *what, size_t bytes)
{
  return aii_fail_code(err, status_of(rc), (int)rc, "%s of %zu bytes: %s", what, bytes, cudaGetErrorString(rc));
}

aii_cuda *aii_cuda_enter(aii_backend *be)
{
  aii_cuda *cuda = aii_cuda_of(be);
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
  return told(err, rc, "device memory", bytes);
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
  return rc == cudaSuccess ? AIINFRA_OK : told(err, rc, "a copy from the device", bytes);
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
  return rc == cudaSuccess ? AIINFRA_OK : told(err, rc, "a copy of a KV block", kv->block_bytes);
}

/* ---- weights ---- */

aii_fmt aii_cuda_fmt(aii_dtype type)
{
  for (int f = 0; f < AII_FMT_COUNT; f++)
    if (aii_fmt_info((aii_fmt)f)->gguf_type == (uint32_t)type) return (aii_fmt)f;
  return AII_FMT_COUNT;
}

aii_fmt aii_cuda_panel_fmt(const aii_weight *w)
{
  aii_fmt fmt = aii_cuda_fmt(w->type);
  return fmt < AII_FMT_PACKED ? fmt : AII_FMT_F32;
}

size_t aii_cuda_mat_bytes(const aii_weight *w)
{
  return aii_panel_bytes(aii_cuda_panel_fmt(w), w->n_in) * (((size_t)w->n_out - 1) / AII_PANEL + 1);
}

const float *aii_cuda_vector_of(const aii_weight *w)
{
  return w == NULL ? NULL : w->device;
}

static aiinfra_status check_weight(const aii_weight *w, aiinfra_error *err)
{
  const aii_dtype_traits *t = aii_dtype_info((uint32_t)w->type);
  size_t rows, bytes;
  if (t == NULL) return aii_fail(err, AIINFRA_ENOTSUP, "the CUDA backend has no tensor type %d", (int)w->type);
  if (w->source == NULL || w->n_in == 0 || w->n_out == 0) return aii_fail(err, AIINFRA_EINVAL, "an empty weight");
  if (w->n_in % t->block != 0)
    return aii_fail(err, AIINFRA_EFORMAT, "a row of %u elements is no whole number of %s blocks of %u", w->n_in,
                    t->name, t->block);
  if (!aii_size_mul((size_t)w->n_out + AII_PANEL, AII_MAX(w->n_mats, 1u), &rows) ||
      !aii_size_mul(rows, w->n_in, &bytes) || !aii_size_mul(bytes, sizeof(float), &bytes))
    return aii_fail(err, AIINFRA_EFORMAT, "a weight of %u x %u elements", w->n_in, w->n_out);
  return AIINFRA_OK;
}

static void copy_rows(const aii_weight *w, aii_fmt fmt, size_t first, size_t n, float *out)
{
  size_t row = aii_fmt_row_bytes(fmt, w->n_in);
  for (size_t r = 0; r < n; r++)
    aii_kernels_ref.dequant[fmt]((const char *)w->source + (first + r) * row, w->n_in, out + r * w->n_in);
}

/* Panels that are made on the host at a time, by the threads of the pool. */
typedef struct pack_job {
  const aii_weight *w;
  aii_fmt fmt, panel_fmt;
  size_t panels, first, n; /* of a matrix; now */
  char *out, *rows;        /* rows: AII_PANEL of floats a part, where the format has no panels */
} pack_job;

static void pack_part(void *arg, uint32_t part, uint32_t n_parts)
{
  const pack_job *job = arg;
  const aii_weight *w = job->w;
  size_t bytes = aii_panel_bytes(job->panel_fmt, w->n_in), stride = aii_fmt_row_bytes(job->panel_fmt, w->n_in);
  float *floats = (float *)(void *)(job->rows + part * AII_PANEL * stride);
  for (size_t i = job->n * part / n_parts; i < job->n * (part + 1) / n_parts; i++) {
    size_t panel = job->first + i, mat = panel / job->panels, row = panel % job->panels * AII_PANEL,
           n = AII_MIN(w->n_out - row, (size_t)AII_PANEL);
    const void *from = (const char *)w->source + (mat * w->n_out + row) * stride;
    if (job->fmt != job->panel_fmt) {
      copy_rows(w, job->fmt, mat * w->n_out + row, n, floats);
      from = floats;
    }
    aii_panel_pack(job->panel_fmt, from, stride, (uint32_t)n, w->n_in, job->out + i * bytes);
  }
}

#define PACK_BYTES ((size_t)32 << 20) /* of panels that are copied at a time */

static aiinfra_status upload_panels(aii_cuda *cuda, aii_weight *w, aiinfra_error *err)
{
  aii_fmt fmt = aii_cuda_fmt(w->type), panel_fmt = aii_cuda_panel_fmt(w);
  size_t bytes = aii_panel_bytes(panel_fmt, w->n_in), each = ((size_t)w->n_out - 1) / AII_PANEL + 1,
         all = each * AII_MAX(w->n_mats, 1u), step = AII_MIN(AII_MAX(PACK_BYTES / bytes, (size_t)1), all),
         rows = aii_pool_threads(cuda->pool) * AII_PANEL * aii_fmt_row_bytes(panel_fmt, w->n_in);
  char *buffer = aii_new_raw(cuda->base.mem, step * bytes + rows);
  if (buffer == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for %zu bytes of panels", step * bytes);
  pack_job job = {w, fmt, panel_fmt, each, 0, 0, buffer, buffer + step * bytes};
  cudaError_t rc = cudaSuccess;
  for (; job.first < all && rc == cudaSuccess; job.first += job.n) {
    job.n = AII_MIN(step, all - job.first);
    aii_pool_run(cuda->pool, aii_pool_threads(cuda->pool), pack_part, &job);
    rc = cudaMemcpyAsync((char *)w->device + job.first * bytes, buffer, job.n * bytes, cudaMemcpyHostToDevice,
                         cuda->stream);
    if (rc == cudaSuccess) rc = cudaStreamSynchronize(cuda->stream);
  }
  aii_del(cuda->base.mem, buffer, step * bytes + rows);
  return rc == cudaSuccess ? AIINFRA_OK : told(err, rc, "a weight", all * bytes);
}

static aiinfra_status upload_rows(aii_cuda *cuda, aii_weight *w, aiinfra_error *err)
{
  size_t rows = (size_t)w->n_out * AII_MAX(w->n_mats, 1u), bytes = rows * w->n_in * sizeof(float);
  float *floats = aii_new_raw(cuda->base.mem, bytes);
  if (floats == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a weight's %zu bytes", bytes);
  copy_rows(w, aii_cuda_fmt(w->type), 0, rows, floats);
  cudaError_t rc = cudaMemcpyAsync(w->device, floats, bytes, cudaMemcpyHostToDevice, cuda->stream);
  if (rc == cudaSuccess) rc = cudaStreamSynchronize(cuda->stream);
  aii_del(cuda->base.mem, floats, bytes);
  return rc == cudaSuccess ? AIINFRA_OK : told(err, rc, "a weight", bytes);
}

aiinfra_status aii_cuda_upload(aii_backend *be, aii_weight *w, aiinfra_error *err)
{
  aii_cuda *cuda = aii_cuda_of(be);
  w->device = NULL;
  w->device_bytes = 0;
  w->adopted = false;
  aiinfra_status rc = check_weight(w, err);
  if (rc != AIINFRA_OK || w->lookup) return rc;
  bool vector = w->n_out == 1;
  size_t mats = AII_MAX(w->n_mats, 1u), bytes = vector ? mats * w->n_in * sizeof(float) : mats * aii_cuda_mat_bytes(w);
  rc = aii_cuda_alloc(be, bytes, &w->device, err);
  if (rc != AIINFRA_OK) return rc;
  w->device_bytes = bytes;
  rc = vector ? upload_rows(cuda, w, err) : upload_panels(cuda, w, err);
  if (rc != AIINFRA_OK) aii_cuda_unload(be, w);
  return rc;
}

void aii_cuda_unload(aii_backend *be, aii_weight *w)
{
  if (!w->adopted) aii_cuda_release(be, w->device, w->device_bytes);
  w->device = NULL;
  w->device_bytes = 0;
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
    (void)cudaStreamDestroy(cuda->stream);
  }
  aii_del(be->mem, cuda, sizeof *cuda);
}

static aiinfra_status find_device(int32_t device, uint32_t *n_sms, aiinfra_error *err)
{
  int n = 0;
  struct cudaDeviceProp p;
  cudaError_t rc = cudaGetDeviceCount(&n);
  if (rc != cudaSuccess || n == 0) {
    (void)cudaGetLastError();
    return aii_fail_code(err, AIINFRA_ENOTSUP, (int)rc, "no CUDA device: %s",
                         rc != cudaSuccess ? cudaGetErrorString(rc) : "none is visible to this process");
  }
  if (device < 0 || device >= n)
    return aii_fail(err, AIINFRA_ENOTSUP, "CUDA device %d of %d: give a number from 0 to %d", device, n, n - 1);
  rc = cudaGetDeviceProperties(&p, device);
  if (rc != cudaSuccess) return told(err, rc, "the device's properties", sizeof p);
  if (p.major < LEAST_MAJOR)
    return aii_fail(err, AIINFRA_ENOTSUP, "CUDA device %d (%s) has compute capability %d.%d; %d.0 is the least", device,
                    p.name, p.major, p.minor, LEAST_MAJOR);
  *n_sms = (uint32_t)p.multiProcessorCount;
  return AIINFRA_OK;
}

static aiinfra_status create(aii_mem *mem, aii_pool *pool, int32_t device, aii_backend **out, aiinfra_error *err)
{
  *out = NULL;
  uint32_t n_sms = 1;
  aiinfra_status rc = find_device(device, &n_sms, err);
  if (rc != AIINFRA_OK) return rc;
  aii_cuda *cuda = aii_new(mem, sizeof *cuda);
  if (cuda == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for the CUDA backend");
  cuda->base = (aii_backend){.ops = &aii_cuda_ops, .mem = mem};
  cuda->pool = pool;
  cuda->device = device;
  cuda->n_sms = n_sms;
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
