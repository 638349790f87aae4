/* src/backend/cpu.c - the CPU backend: its life, memory and weights.
 *
 * Matrices are packed into panels (kernels/panel.h) once, by all threads. Tables of embeddings, and matrices in formats
 * without panels, are used where they lie in the mapped file; so are vectors (norms, biases) of F32, while others get
 * float rows. Operations that return nothing remember their first
 * failure (memory for scratch, a token out of range) for sync().
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "src/backend/cpu.h"

void aii_cpu_fail(aii_cpu *cpu, aiinfra_status status, const char *what)
{
  if (cpu->failed != AIINFRA_OK) return;
  cpu->failed = status;
  cpu->failure = what;
}

void *aii_cpu_scratch(aii_cpu *cpu, size_t bytes)
{
  if (bytes <= cpu->scratch_bytes) return cpu->scratch;
  char *grown = aii_new_aligned(cpu->base.mem, bytes);
  if (grown == NULL) {
    aii_cpu_fail(cpu, AIINFRA_ENOMEM, "scratch memory of the CPU backend");
    return NULL;
  }
  aii_del_aligned(cpu->base.mem, cpu->scratch, cpu->scratch_bytes);
  cpu->scratch = grown;
  cpu->scratch_bytes = bytes;
  return grown;
}

/* ---- splitting work ---- */

typedef struct range_job {
  aii_range_fn fn;
  void *arg;
  size_t n, grain;
  _Atomic size_t next;
} range_job;

/* A thread claims several ranges at a time, fewer towards the end: what it reads then lies in one piece, which memory
 * gives faster, and yet no thread waits long for another. */
static void range_part(void *arg, uint32_t part, uint32_t n_parts)
{
  range_job *job = arg;
  size_t first = atomic_load_explicit(&job->next, memory_order_relaxed);
  while (first < job->n) {
    size_t ranges = AII_MAX((job->n - first) / job->grain / (2 * (size_t)n_parts), 1u);
    size_t end = AII_MIN(first + ranges * job->grain, job->n);
    if (!atomic_compare_exchange_weak_explicit(&job->next, &first, end, memory_order_relaxed, memory_order_relaxed))
      continue;
    for (; first < end; first += job->grain) job->fn(job->arg, part, first, AII_MIN(first + job->grain, end));
    first = atomic_load_explicit(&job->next, memory_order_relaxed);
  }
}

void aii_cpu_for(aii_cpu *cpu, size_t n, size_t grain, bool alone, aii_range_fn fn, void *arg)
{
  uint32_t n_threads = aii_pool_threads(cpu->pool);
  if (n == 0) return;
  if (alone || n <= grain || n_threads == 1) { /* in ranges all the same: they fit the caches */
    for (size_t first = 0; first < n; first += grain) fn(arg, 0, first, AII_MIN(first + grain, n));
    return;
  }
  range_job job = {.fn = fn, .arg = arg, .n = n, .grain = grain};
  atomic_init(&job.next, 0);
  size_t ranges = (n - 1) / grain + 1;
  aii_pool_run(cpu->pool, (uint32_t)AII_MIN(ranges, n_threads), range_part, &job);
}

/* ---- weights ---- */

const float *aii_cpu_vector_of(const aii_weight *w)
{
  return w == NULL ? NULL : w->device != NULL ? w->device : w->source;
}

static aiinfra_status check_weight(const aii_weight *w, aiinfra_error *err)
{
  const aii_dtype_traits *t = aii_dtype_info((uint32_t)w->type);
  if (t == NULL) return aii_fail(err, AIINFRA_ENOTSUP, "the CPU backend has no tensor type %d", (int)w->type);
  if (w->source == NULL || w->n_in == 0 || w->n_out == 0) return aii_fail(err, AIINFRA_EINVAL, "an empty weight");
  if (w->n_in % t->block != 0)
    return aii_fail(err, AIINFRA_EFORMAT, "a row of %u elements is no whole number of %s blocks of %u", w->n_in,
                    t->name, t->block);
  if (w->bf16_x && (w->type != AII_BF16 || w->n_out == 1 || w->lookup))
    return aii_fail(err, AIINFRA_EINVAL, "BF16 activations for what is no matrix of BF16");
  return AIINFRA_OK;
}

/* Vectors of other types than F32, and floats at odd addresses, as float rows. */
static aiinfra_status upload_rows(aii_cpu *cpu, aii_weight *w, aii_fmt fmt, aiinfra_error *err)
{
  size_t bytes, rows, row = aii_fmt_row_bytes(fmt, w->n_in);
  if (!aii_size_mul(w->n_out, AII_MAX(w->n_mats, 1u), &rows) || !aii_size_mul(w->n_in, rows, &bytes) ||
      !aii_size_mul(bytes, sizeof(float), &bytes))
    return aii_fail(err, AIINFRA_EFORMAT, "a weight of %u x %u elements", w->n_in, w->n_out);
  float *f = aii_new_aligned(cpu->base.mem, bytes);
  if (f == NULL) return aii_fail(err, AIINFRA_ENOMEM, "a weight's %zu bytes as floats", bytes);
  for (size_t r = 0; r < rows; r++) cpu->k->dequant[fmt]((const char *)w->source + r * row, w->n_in, f + r * w->n_in);
  w->device = f;
  w->device_bytes = bytes;
  return AIINFRA_OK;
}

#define PACK_BYTES ((size_t)2 << 20) /* of panels that a thread makes at a time: it is the first to touch their pages */

typedef struct pack_job {
  const aii_weight *w;
  aii_fmt fmt;
  size_t row_bytes, panel_bytes, panels; /* of a matrix */
} pack_job;

static void pack_range(void *arg, uint32_t worker, size_t first, size_t end)
{
  const pack_job *job = arg;
  const aii_weight *w = job->w;
  (void)worker;
  for (size_t i = first; i < end; i++) {
    size_t row = i % job->panels * AII_PANEL, mat = i / job->panels;
    const char *rows = (const char *)w->source + (mat * w->n_out + row) * job->row_bytes;
    aii_panel_pack(job->fmt, rows, job->row_bytes, (uint32_t)AII_MIN(w->n_out - row, AII_PANEL), w->n_in,
                   (char *)w->device + i * job->panel_bytes);
  }
}

/* 0: too many to count. */
static size_t bytes_in_panels(const aii_weight *w, aii_fmt fmt, size_t *panels)
{
  size_t bytes, each = (w->n_out - 1) / AII_PANEL + 1;
  bool fits = aii_size_mul(each, AII_MAX(w->n_mats, 1u), panels) &&
              aii_size_mul(*panels, aii_panel_bytes(fmt, w->n_in), &bytes);
  return fits ? bytes : 0;
}

static aiinfra_status upload_panels(aii_cpu *cpu, aii_weight *w, aii_fmt fmt, aiinfra_error *err)
{
  pack_job job = {w, fmt, aii_fmt_row_bytes(fmt, w->n_in), aii_panel_bytes(fmt, w->n_in),
                  (w->n_out - 1) / AII_PANEL + 1};
  size_t panels, bytes = bytes_in_panels(w, fmt, &panels);
  if (bytes == 0) return aii_fail(err, AIINFRA_EFORMAT, "a weight of %u x %u elements", w->n_in, w->n_out);
  w->adopted = w->device != NULL;
  if (!w->adopted) w->device = aii_new_aligned(cpu->base.mem, bytes);
  if (w->device == NULL) return aii_fail(err, AIINFRA_ENOMEM, "a weight's %zu bytes", bytes);
  w->device_bytes = bytes;
  aii_cpu_for(cpu, panels, AII_MAX(PACK_BYTES / job.panel_bytes, (size_t)4), false, pack_range, &job);
  return AIINFRA_OK;
}

/* For products with w: now, so that the product itself never lacks memory. */
static aiinfra_status reserve_scratch(aii_cpu *cpu, const aii_weight *w, aiinfra_error *err)
{
  size_t bytes = aii_cpu_matmul_scratch(w);
  if (bytes == 0 || aii_cpu_scratch(cpu, bytes) != NULL) return AIINFRA_OK;
  cpu->failed = AIINFRA_OK;
  return aii_fail(err, AIINFRA_ENOMEM, "scratch memory for rows of %u elements", w->n_in);
}

static aiinfra_status cpu_upload(aii_backend *be, aii_weight *w, aiinfra_error *err)
{
  aii_cpu *cpu = aii_cpu_of(be);
  aiinfra_status rc = check_weight(w, err);
  if (rc != AIINFRA_OK) return rc;
  aii_fmt fmt = aii_cpu_fmt_of(w);
  if (w->bf16_x && !aii_kernels_pair_bf16(cpu->k))
    return aii_fail(err, AIINFRA_ENOTSUP, "%s has no products of BF16 with BF16", cpu->k->name);
  bool odd = fmt == AII_FMT_F32 && (uintptr_t)w->source % _Alignof(float) != 0;
  bool rows = w->n_out == 1 || w->lookup;
  if (rows || !aii_fmt_in_panels(fmt)) w->device = NULL;
  w->device_bytes = 0;
  w->adopted = false;
  if (rows) return odd || (w->n_out == 1 && fmt != AII_FMT_F32) ? upload_rows(cpu, w, fmt, err) : rc;
  rc = reserve_scratch(cpu, w, err);
  return rc == AIINFRA_OK && aii_fmt_in_panels(fmt) ? upload_panels(cpu, w, fmt, err) : rc;
}

static size_t cpu_packed_bytes(const aii_weight *w)
{
  size_t panels;
  if (check_weight(w, NULL) != AIINFRA_OK || w->n_out == 1 || w->lookup) return 0;
  aii_fmt fmt = aii_cpu_fmt_of(w);
  return aii_fmt_in_panels(fmt) ? bytes_in_panels(w, fmt, &panels) : 0;
}

static aiinfra_status cpu_adopt(aii_backend *be, aii_weight *w, const void *packed, aiinfra_error *err)
{
  aiinfra_status rc = reserve_scratch(aii_cpu_of(be), w, err);
  if (rc != AIINFRA_OK) return rc;
  w->device = (void *)(uintptr_t)packed;
  w->device_bytes = cpu_packed_bytes(w);
  w->adopted = true;
  return AIINFRA_OK;
}

static bool cpu_takes_bf16_x(const aii_backend *be)
{
  return aii_kernels_pair_bf16(AII_CONTAINER(be, const aii_cpu, base)->k);
}

static void cpu_unload(aii_backend *be, aii_weight *w)
{
  if (!w->adopted) aii_del_aligned(be->mem, w->device, w->device_bytes);
  w->device = NULL;
  w->device_bytes = 0;
}

/* ---- memory ---- */

/* A cache of keys and values is read two thousand bytes here and there: finding each place costs less when pages are
 * large. Only a hint. */
static void prefer_huge_pages(void *p, size_t bytes)
{
#ifdef MADV_HUGEPAGE
  const uintptr_t huge = (uintptr_t)2 << 20;
  uintptr_t from = ((uintptr_t)p + huge - 1) & ~(huge - 1), to = ((uintptr_t)p + bytes) & ~(huge - 1);
  if (from < to) (void)madvise((void *)from, to - from, MADV_HUGEPAGE);
#else
  (void)p;
  (void)bytes;
#endif
}

static aiinfra_status cpu_alloc(aii_backend *be, size_t bytes, void **out, aiinfra_error *err)
{
  *out = aii_new_aligned(be->mem, bytes);
  if (*out == NULL) return aii_fail(err, AIINFRA_ENOMEM, "%zu bytes of host memory", bytes);
  prefer_huge_pages(*out, bytes);
  return AIINFRA_OK;
}

static void cpu_release(aii_backend *be, void *ptr, size_t bytes)
{
  aii_del_aligned(be->mem, ptr, bytes);
}

/* "MemAvailable: n kB" of /proc/meminfo: what can be had without swapping. 0: not known. */
static uint64_t available_bytes(void)
{
  char text[1024];
  int fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  if (n <= 0) return 0;
  text[n] = '\0';
  const char *p = strstr(text, "MemAvailable:");
  return p == NULL ? 0 : strtoull(p + strlen("MemAvailable:"), NULL, 10) * 1024;
}

static uint64_t cpu_free_bytes(aii_backend *be)
{
  uint64_t bytes = available_bytes();
  if (bytes == 0) {
    long pages = sysconf(_SC_AVPHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    if (pages > 0 && page > 0) bytes = (uint64_t)pages * (uint64_t)page;
  }
  if (be->mem->limit_bytes != 0) {
    size_t used = atomic_load(&be->mem->used_bytes);
    uint64_t left = be->mem->limit_bytes > used ? be->mem->limit_bytes - used : 0;
    bytes = AII_MIN(bytes, left);
  }
  return bytes;
}

static aiinfra_status cpu_to_host(aii_backend *be, void *host, const void *device, size_t bytes, aiinfra_error *err)
{
  (void)be;
  (void)err;
  memcpy(host, device, bytes);
  return AIINFRA_OK;
}

static aiinfra_status cpu_copy_block(aii_backend *be, const aii_kv_view *kv, uint32_t from, uint32_t to,
                                     aiinfra_error *err)
{
  (void)be;
  if (from >= kv->n_blocks || to >= kv->n_blocks)
    return aii_fail(err, AIINFRA_EINVAL, "copy of KV block %u to %u, of %u", from, to, kv->n_blocks);
  char *base = kv->base;
  if (from != to) memcpy(base + to * kv->block_bytes, base + from * kv->block_bytes, kv->block_bytes);
  return AIINFRA_OK;
}

static aiinfra_status cpu_swap_block(aii_backend *be, const aii_kv_view *kv, uint32_t block, void *host, bool to_host,
                                     aiinfra_error *err)
{
  (void)be;
  if (block >= kv->n_blocks) return aii_fail(err, AIINFRA_EINVAL, "swap of KV block %u, of %u", block, kv->n_blocks);
  char *at = (char *)kv->base + block * kv->block_bytes;
  memcpy(to_host ? host : at, to_host ? at : host, kv->block_bytes);
  return AIINFRA_OK;
}

static aiinfra_status cpu_sync(aii_backend *be, aiinfra_error *err)
{
  aii_cpu *cpu = aii_cpu_of(be);
  aiinfra_status rc = cpu->failed;
  cpu->failed = AIINFRA_OK;
  return rc == AIINFRA_OK ? rc : aii_fail(err, rc, "%s", cpu->failure);
}

/* ---- life ---- */

static void cpu_destroy(aii_backend *be)
{
  aii_cpu *cpu = aii_cpu_of(be);
  aii_del_aligned(be->mem, cpu->scratch, cpu->scratch_bytes);
  aii_del_aligned(be->mem, cpu->work, aii_pool_threads(cpu->pool) * AII_PRODUCT_WORK);
  aii_del(be->mem, cpu, sizeof *cpu);
}

static const aii_backend_ops cpu_ops = {
    .name = "cpu",
    .in_place = true,
    .destroy = cpu_destroy,
    .alloc = cpu_alloc,
    .release = cpu_release,
    .free_bytes = cpu_free_bytes,
    .upload = cpu_upload,
    .unload = cpu_unload,
    .packed_layout = AII_PANEL_LAYOUT,
    .packed_bytes = cpu_packed_bytes,
    .adopt = cpu_adopt,
    .takes_bf16_x = cpu_takes_bf16_x,
    .to_host = cpu_to_host,
    .copy_block = cpu_copy_block,
    .swap_block = cpu_swap_block,
    .sync = cpu_sync,
    .embed = aii_cpu_embed,
    .rms_norm = aii_cpu_rms_norm,
    .layer_norm = aii_cpu_layer_norm,
    .matmul = aii_cpu_matmul,
    .matmuls = aii_cpu_matmuls,
    .gated = aii_cpu_gated,
    .rope = aii_cpu_rope,
    .kv_write = aii_cpu_kv_write,
    .attention = aii_cpu_attention,
    .activate = aii_cpu_activate,
    .add = aii_cpu_add,
    .scale = aii_cpu_scale,
    .softcap = aii_cpu_softcap,
    .copy = aii_cpu_copy,
    .route = aii_cpu_route,
    .matmul_ids = aii_cpu_matmul_ids,
    .combine = aii_cpu_combine,
    .gate_rows = aii_cpu_gate_rows,
};

aiinfra_status aii_cpu_backend_create(aii_mem *mem, aii_pool *pool, int32_t isa, aii_backend **out, aiinfra_error *err)
{
  *out = NULL;
  const aii_kernels *k = aii_kernels_get(isa);
  if (k == NULL && isa >= AIINFRA_ISA_DEFAULT && isa <= AIINFRA_ISA_AMX)
    return aii_fail(err, AIINFRA_ENOTSUP, "this CPU lacks the instruction set %d; the best it has is %s", (int)isa,
                    aii_kernels_get(AIINFRA_ISA_DEFAULT)->name);
  if (k == NULL) return aii_fail(err, AIINFRA_EINVAL, "%d is no instruction set", (int)isa);
  aii_cpu *cpu = aii_new(mem, sizeof *cpu);
  if (cpu == NULL) return aii_fail(err, AIINFRA_ENOMEM, "CPU backend");
  cpu->base.ops = &cpu_ops;
  cpu->base.mem = mem;
  cpu->pool = pool;
  cpu->k = k;
  cpu->work = aii_new_aligned(mem, aii_pool_threads(pool) * AII_PRODUCT_WORK);
  if (cpu->work == NULL) {
    cpu_destroy(&cpu->base);
    return aii_fail(err, AIINFRA_ENOMEM, "scratch memory of the CPU backend");
  }
  *out = &cpu->base;
  return AIINFRA_OK;
}

int32_t aii_cpu_best_isa(void)
{
  return aii_kernels_get(AIINFRA_ISA_DEFAULT)->isa;
}
