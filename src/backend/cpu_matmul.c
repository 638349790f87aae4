/* src/backend/cpu_matmul.c - y = W x on the pool.
 *
 * Activations for quantised weights are quantised to q8 rows first, a group of rows at a time. Then the threads take
 * ranges of panels, and each panel is used for the whole group. The kernels promise that neither the group nor the range
 * changes a result.
 */
#include "src/backend/cpu.h"

#define GROUP 256                   /* rows of activations that are quantised at a time */
#define RANGES_PER_THREAD 16        /* so that a thread that was held up does not hold up all */
#define ALONE_PRODUCTS (512u << 10) /* about 20 microseconds of one thread: less is not worth waking others */

size_t aii_cpu_mat_bytes(const aii_weight *w)
{
  aii_fmt fmt = aii_cpu_fmt(w->type);
  if (fmt >= AII_FMT_PACKED) return aii_fmt_row_bytes(fmt, w->n_in) * w->n_out;
  return aii_panel_bytes(fmt, w->n_in) * (((size_t)w->n_out - 1) / AII_PANEL + 1);
}

aii_product aii_cpu_product_of(const aii_weight *w, size_t mat)
{
  aii_fmt fmt = aii_cpu_fmt(w->type);
  bool packed = fmt < AII_FMT_PACKED;
  return (aii_product){.w = (const char *)(packed ? w->device : w->source) + mat * aii_cpu_mat_bytes(w),
                       .w_stride = packed ? aii_panel_bytes(fmt, w->n_in) : aii_fmt_row_bytes(fmt, w->n_in),
                       .n_in = w->n_in,
                       .n_rows = w->n_out};
}

size_t aii_cpu_x_bytes(const aii_weight *w)
{
  return aii_fmt_takes_q8(aii_cpu_fmt(w->type)) ? aii_q8_row_bytes(w->n_in) : w->n_in * sizeof(float);
}

size_t aii_cpu_matmul_scratch(const aii_weight *w)
{
  return aii_fmt_takes_q8(aii_cpu_fmt(w->type)) ? GROUP * aii_cpu_x_bytes(w) : 0;
}

size_t aii_cpu_grain(const aii_cpu *cpu, const aii_weight *w)
{
  size_t panels = ((size_t)w->n_out - 1) / AII_PANEL + 1;
  return AII_MAX(panels / (aii_pool_threads(cpu->pool) * RANGES_PER_THREAD), 1u);
}

void aii_cpu_dot_rows(const aii_cpu *cpu, const float *w, const float *bias, const float *x, size_t n_in,
                      uint32_t n_rows, bool accumulate, float *y)
{
  for (size_t r = 0; r < n_rows; r++) {
    float v;
    cpu->k->vec_dot(w, n_in, 1, x + r * n_in, (uint32_t)n_in, &v);
    if (bias != NULL) v += *bias;
    y[r] = accumulate ? y[r] + v : v;
  }
}

typedef struct matmul_job {
  const aii_kernels *k;
  aii_fmt fmt;
  aii_product p;
  const float *x; /* to quantise */
  char *work;     /* AII_PRODUCT_WORK a thread */
} matmul_job;

static void quantise_range(void *arg, uint32_t worker, size_t first, size_t end)
{
  const matmul_job *job = arg;
  (void)worker;
  for (size_t r = first; r < end; r++) {
    char *row = (char *)(uintptr_t)job->p.x + r * job->p.x_stride;
    job->k->quant_q8(job->x + r * job->p.n_in, job->p.n_in, row);
  }
}

static void multiply_range(void *arg, uint32_t worker, size_t first, size_t end)
{
  const matmul_job *job = arg;
  aii_product p = job->p;
  size_t row = first * AII_PANEL, step = job->fmt < AII_FMT_PACKED ? 1 : AII_PANEL;
  p.w = (const char *)p.w + first * step * p.w_stride;
  p.n_rows = (uint32_t)(AII_MIN(end * AII_PANEL, p.n_rows) - row);
  p.y += row;
  if (p.bias != NULL) p.bias += row;
  p.work = job->work + worker * AII_PRODUCT_WORK;
  job->k->product[job->fmt](&p);
}

void aii_cpu_matmul(aii_backend *be, const aii_weight *w, const aii_weight *bias, const float *x, uint32_t n_rows,
                    bool accumulate, float *y)
{
  aii_cpu *cpu = aii_cpu_of(be);
  aii_fmt fmt = aii_cpu_fmt(w->type);
  const float *b = aii_cpu_vector_of(bias);
  if (w->n_out == 1) {
    aii_cpu_dot_rows(cpu, aii_cpu_vector_of(w), b, x, w->n_in, n_rows, accumulate, y);
    return;
  }
  bool q8 = aii_fmt_takes_q8(fmt);
  void *rows = q8 ? aii_cpu_scratch(cpu, aii_cpu_matmul_scratch(w)) : NULL;
  if (q8 && rows == NULL) return;
  matmul_job job = {.k = cpu->k, .fmt = fmt, .p = aii_cpu_product_of(w, 0), .work = cpu->work};
  job.p.x_stride = aii_cpu_x_bytes(w);
  job.p.accumulate = accumulate;
  job.p.bias = b;
  job.p.y_stride = w->n_out;
  size_t panels = ((size_t)w->n_out - 1) / AII_PANEL + 1;
  for (uint32_t r = 0; r < n_rows; r += GROUP) {
    uint32_t n = AII_MIN(GROUP, n_rows - r);
    bool alone = (uint64_t)n * w->n_in * w->n_out < ALONE_PRODUCTS;
    job.x = x + (size_t)r * w->n_in;
    job.p.x = q8 ? rows : job.x;
    job.p.n_cols = n;
    job.p.y = y + (size_t)r * w->n_out;
    if (q8) aii_cpu_for(cpu, n, 4, alone || n < 8, quantise_range, &job);
    aii_cpu_for(cpu, panels, aii_cpu_grain(cpu, w), alone, multiply_range, &job);
  }
}
