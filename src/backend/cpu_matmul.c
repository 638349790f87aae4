/* src/backend/cpu_matmul.c - y = W x on the pool.
 *
 * Activations are taken in groups of rows that fit the second-level cache; for quantised weights a group is first
 * quantised to q8 rows. Then the threads take ranges of weight rows, and each weight row is used for the whole group.
 * Formats without products of their own are decoded to a panel of float rows first, a panel a thread. The kernels
 * promise that neither the group nor the range changes a result.
 */
#include "src/backend/cpu.h"

#define X_CACHE_BYTES ((size_t)192 << 10)
#define W_CACHE_BYTES ((size_t)128 << 10)
#define RANGES_PER_THREAD 4         /* so that a thread that was held up does not hold up all */
#define ALONE_PRODUCTS (512u << 10) /* about 20 microseconds of one thread: less is not worth waking others */

typedef struct matmul_job {
  const aii_kernels *k;
  aii_fmt fmt;
  aii_matmul_args args;
  const float *x; /* to quantise */
  char *panels;   /* one a thread, where the format needs them */
  size_t panel_bytes;
} matmul_job;

static uint32_t group_size(size_t x_row_bytes)
{
  size_t cols = X_CACHE_BYTES / x_row_bytes;
  return cols < 12 ? 12 : cols > 120 ? 120 : (uint32_t)(cols / 12 * 12); /* a multiple of all register tiles */
}

aii_cpu_plan aii_cpu_plan_of(const aii_cpu *cpu, aii_fmt fmt, uint32_t n_in, uint32_t n_out)
{
  aii_cpu_plan p = {.q8 = aii_fmt_takes_q8(fmt)};
  bool decode = fmt >= AII_FMT_PRODUCTS;
  size_t w_bytes = decode ? n_in * sizeof(float) : aii_fmt_row_bytes(fmt, n_in);
  size_t share = n_out / (aii_pool_threads(cpu->pool) * RANGES_PER_THREAD);
  size_t grain = AII_MIN(W_CACHE_BYTES / w_bytes, share);
  p.grain = AII_MAX(grain / 4 * 4, 4);
  p.x_bytes = p.q8 ? aii_q8_row_bytes(n_in) : n_in * sizeof(float);
  if (decode) p.panel_bytes = p.grain * w_bytes;
  return p;
}

size_t aii_cpu_matmul_scratch(const aii_cpu *cpu, aii_fmt fmt, uint32_t n_in, uint32_t n_out)
{
  aii_cpu_plan p = aii_cpu_plan_of(cpu, fmt, n_in, n_out);
  return p.q8 ? group_size(p.x_bytes) * p.x_bytes : aii_pool_threads(cpu->pool) * p.panel_bytes;
}

aii_fmt aii_cpu_decoded(const aii_kernels *k, aii_fmt fmt, aii_matmul_args *args, void *panel)
{
  if (fmt < AII_FMT_PRODUCTS) return fmt;
  for (size_t r = 0; r < args->n_rows; r++)
    k->dequant[fmt]((const char *)args->w + r * args->w_stride, args->n_in, (float *)panel + r * args->n_in);
  args->w = panel;
  args->w_stride = args->n_in * sizeof(float);
  return AII_FMT_F32;
}

static void quantise_range(void *arg, uint32_t worker, size_t first, size_t end)
{
  const matmul_job *job = arg;
  (void)worker;
  for (size_t r = first; r < end; r++) {
    char *row = (char *)(uintptr_t)job->args.x + r * job->args.x_stride;
    job->k->quant_q8(job->x + r * job->args.n_in, job->args.n_in, row);
  }
}

static void multiply_range(void *arg, uint32_t worker, size_t first, size_t end)
{
  const matmul_job *job = arg;
  aii_matmul_args a = job->args;
  a.w = (const char *)a.w + first * a.w_stride;
  a.n_rows = (uint32_t)(end - first);
  a.y += first;
  if (a.bias != NULL) a.bias += first;
  aii_fmt fmt = aii_cpu_decoded(job->k, job->fmt, &a, job->panels + worker * job->panel_bytes);
  job->k->matmul[fmt](&a);
}

void aii_cpu_matmul(aii_backend *be, const aii_weight *w, const aii_weight *bias, const float *x, uint32_t n_rows,
                    bool accumulate, float *y)
{
  aii_cpu *cpu = aii_cpu_of(be);
  aii_cpu_matrix m = aii_cpu_matrix_of(w);
  aii_cpu_plan plan = aii_cpu_plan_of(cpu, m.fmt, w->n_in, w->n_out);
  uint32_t group = group_size(plan.x_bytes);
  void *scratch = aii_cpu_scratch(cpu, aii_cpu_matmul_scratch(cpu, m.fmt, w->n_in, w->n_out));
  if (scratch == NULL && (plan.q8 || plan.panel_bytes > 0)) return;

  matmul_job job = {.k = cpu->k,
                    .fmt = m.fmt,
                    .args = {.w = m.rows,
                             .w_stride = m.row_bytes,
                             .x_stride = plan.x_bytes,
                             .n_in = w->n_in,
                             .n_rows = w->n_out,
                             .accumulate = accumulate,
                             .bias = aii_cpu_vector_of(bias),
                             .y_stride = w->n_out},
                    .panels = scratch,
                    .panel_bytes = plan.panel_bytes};
  for (uint32_t r = 0; r < n_rows; r += group) {
    uint32_t n = AII_MIN(group, n_rows - r);
    bool alone = (uint64_t)n * w->n_in * w->n_out < ALONE_PRODUCTS;
    job.x = x + (size_t)r * w->n_in;
    job.args.x = plan.q8 ? scratch : job.x;
    job.args.n_cols = n;
    job.args.y = y + (size_t)r * w->n_out;
    if (plan.q8) aii_cpu_for(cpu, n, 4, alone || n < 8, quantise_range, &job);
    aii_cpu_for(cpu, w->n_out, plan.grain, alone, multiply_range, &job);
  }
}
