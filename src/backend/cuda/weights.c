/* weights.c - weights on the device: matrices in the panels that the CPU has, as tensor cores take them, or in blocks. */
#include "src/backend/cuda/cuda_backend.h"

aii_fmt aii_cuda_fmt(aii_dtype type)
{
  for (int f = 0; f < AII_FMT_COUNT; f++)
    if (aii_fmt_info((aii_fmt)f)->gguf_type == (uint32_t)type) return (aii_fmt)f;
  return AII_FMT_COUNT;
}

/* Formats that kernels decode. */
static bool is_decoded(aii_fmt fmt)
{
  switch (fmt) {
    case AII_FMT_Q2_K:
    case AII_FMT_Q3_K:
    case AII_FMT_IQ4_XS:
    case AII_FMT_TQ1_0:
    case AII_FMT_TQ2_0:
    case AII_FMT_NVFP4:
    case AII_FMT_Q1_0:
    case AII_FMT_Q2_0: return true;
    default: return false;
  }
}

aii_fmt aii_cuda_panel_fmt(const aii_weight *w)
{
  aii_fmt fmt = aii_cuda_fmt(w->type);
  return fmt < AII_FMT_PACKED || is_decoded(fmt) ? fmt : AII_FMT_F32;
}

bool aii_cuda_takes_q8(const aii_weight *w)
{
  return w->n_out > 1 && aii_fmt_takes_q8(aii_cuda_panel_fmt(w));
}

bool aii_cuda_rounds(const aii_weight *w)
{
  return w->bf16_x && w->type == AII_BF16 && w->n_out > 1;
}

static size_t panel_bytes(const aii_weight *w)
{
  aii_fmt fmt = aii_cuda_panel_fmt(w);
  if (aii_cuda_rounds(w)) return aii_cuda_rounded_bytes(AII_PANEL, w->n_in);
  return is_decoded(fmt) ? AII_PANEL * aii_fmt_row_bytes(fmt, w->n_in) : aii_panel_bytes(fmt, w->n_in);
}

size_t aii_cuda_mat_bytes(const aii_weight *w)
{
  return panel_bytes(w) * (((size_t)w->n_out - 1) / AII_PANEL + 1);
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

/* A panel of BF16 as tensor cores take it: for 16 elements, eight numbers of each thread t of 4 of group g of 8. */
static void pack_fragments(const char *rows, size_t stride, size_t n_rows, size_t n_in, char *panel)
{
  for (size_t i = 0; i < aii_cuda_rounded_bytes(AII_PANEL, n_in) / 2; i++) {
    size_t part = i / 2 % 4, lane = i / 8 % 32, row = lane / 4 + part % 2 * 8,
           k = i / 256 * 16 + part / 2 * 8 + lane % 4 * 2 + i % 2;
    if (row < n_rows && k < n_in) memcpy(panel + 2 * i, rows + row * stride + 2 * k, 2);
    else memset(panel + 2 * i, 0, 2);
  }
}

/* A panel of rows of blocks: a block of each row, then the next of each. */
static void pack_blocks(aii_fmt fmt, const char *rows, size_t stride, size_t n_rows, size_t n_in, char *panel)
{
  const aii_fmt_traits *t = aii_fmt_info(fmt);
  memset(panel, 0, n_rows < AII_PANEL ? AII_PANEL * stride : 0);
  for (size_t b = 0; b < n_in / t->block; b++)
    for (size_t r = 0; r < n_rows; r++)
      memcpy(panel + (b * AII_PANEL + r) * t->block_bytes, rows + r * stride + b * t->block_bytes, t->block_bytes);
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
  size_t bytes = panel_bytes(w), stride = aii_fmt_row_bytes(job->panel_fmt, w->n_in);
  float *floats = (float *)(void *)(job->rows + part * AII_PANEL * stride);
  for (size_t i = job->n * part / n_parts; i < job->n * (part + 1) / n_parts; i++) {
    size_t panel = job->first + i, mat = panel / job->panels, row = panel % job->panels * AII_PANEL,
           n = AII_MIN(w->n_out - row, (size_t)AII_PANEL);
    const void *from = (const char *)w->source + (mat * w->n_out + row) * stride;
    if (job->fmt != job->panel_fmt) {
      copy_rows(w, job->fmt, mat * w->n_out + row, n, floats);
      from = floats;
    }
    if (aii_cuda_rounds(w)) pack_fragments(from, stride, n, w->n_in, job->out + i * bytes);
    else if (is_decoded(job->panel_fmt)) pack_blocks(job->panel_fmt, from, stride, n, w->n_in, job->out + i * bytes);
    else aii_panel_pack(job->panel_fmt, from, stride, (uint32_t)n, w->n_in, job->out + i * bytes);
  }
}

#define PACK_BYTES ((size_t)32 << 20) /* of panels that are copied at a time */

static aiinfra_status upload_panels(aii_cuda *cuda, aii_weight *w, aiinfra_error *err)
{
  aii_fmt fmt = aii_cuda_fmt(w->type), panel_fmt = aii_cuda_panel_fmt(w);
  size_t bytes = panel_bytes(w), each = ((size_t)w->n_out - 1) / AII_PANEL + 1, all = each * AII_MAX(w->n_mats, 1u),
         step = AII_MIN(AII_MAX(PACK_BYTES / bytes, (size_t)1), all),
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
  return rc == cudaSuccess ? AIINFRA_OK : aii_cuda_error(err, rc, "a weight", all * bytes);
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
  return rc == cudaSuccess ? AIINFRA_OK : aii_cuda_error(err, rc, "a weight", bytes);
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
  cuda->n_q8 += aii_cuda_takes_q8(w);
  if (rc != AIINFRA_OK) aii_cuda_unload(be, w);
  return rc;
}

void aii_cuda_unload(aii_backend *be, aii_weight *w)
{
  if (w->device != NULL) aii_cuda_of(be)->n_q8 -= aii_cuda_takes_q8(w);
  if (!w->adopted) aii_cuda_release(be, w->device, w->device_bytes);
  w->device = NULL;
  w->device_bytes = 0;
}
