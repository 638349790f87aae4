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
  float *panels;  /* [thread][panel_rows][n_in]; NULL: the format has products */
  size_t panel_rows;
} matmul_job;

static uint32_t group_size(size_t x_row_bytes)
{
  size_t cols = X_CACHE_BYTES / x_row_bytes;
  return cols < 12 ? 12 : cols > 120 ? 120 : (uint32_t)(cols / 12 * 12); /* a multiple of all register tiles */
}

/* Weight rows that a thread takes at a time. */
static size_t row_grain(const aii_cpu *cpu, size_t row_bytes, uint32_t n_out)
{
  size_t share = n_out / (aii_pool_threads(cpu->pool) * RANGES_PER_THREAD);
  size_t grain = AII_MIN(W_CACHE_BYTES / row_bytes, share);
  return AII_MAX(grain / 4 * 4, 4);
}

/* How one product is done: bytes of a row of activations as the kernel takes it, and of a row of weights. */
typedef struct matmul_plan {
  bool decode, q8;
  size_t x_bytes, w_bytes, grain, scratch;
  uint32_t group;
} matmul_plan;

static matmul_plan plan_of(const aii_cpu *cpu, aii_fmt fmt, uint32_t n_in, uint32_t n_out)
{
  matmul_plan p = {.decode = fmt >= AII_FMT_PRODUCTS, .q8 = aii_fmt_takes_q8(fmt)};
  p.x_bytes = p.q8 ? aii_q8_row_bytes(n_in) : n_in * sizeof(float);
  p.w_bytes = p.decode ? n_in * sizeof(float) : aii_fmt_row_bytes(fmt, n_in);
  p.group = group_size(p.x_bytes);
  p.grain = row_grain(cpu, p.w_bytes, n_out);
  if (p.q8) p.scratch = p.group * p.x_bytes;
  if (p.decode) p.scratch = aii_pool_threads(cpu->pool) * p.grain * p.w_bytes;
  return p;
}

size_t aii_cpu_matmul_scratch(const aii_cpu *cpu, aii_fmt fmt, uint32_t n_in, uint32_t n_out)
{
  return plan_of(cpu, fmt, n_in, n_out).scratch;
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
  if (job->panels == NULL) {
    job->k->matmul[job->fmt](&a);
    return;
  }
  float *panel = job->panels + worker * job->panel_rows * a.n_in;
  for (size_t r = 0; r < a.n_rows; r++)
    job->k->dequant[job->fmt]((const char *)a.w + r * a.w_stride, a.n_in, panel + r * a.n_in);
  a.w = panel;
  a.w_stride = a.n_in * sizeof(float);
  job->k->matmul[AII_FMT_F32](&a);
}

void aii_cpu_matmul(aii_backend *be, const aii_weight *w, const aii_weight *bias, const float *x, uint32_t n_rows,
                    bool accumulate, float *y)
{
  aii_cpu *cpu = aii_cpu_of(be);
  aii_cpu_matrix m = aii_cpu_matrix_of(w);
  matmul_plan plan = plan_of(cpu, m.fmt, w->n_in, w->n_out);
  void *scratch = NULL;
  if (plan.scratch > 0 && (scratch = aii_cpu_scratch(cpu, plan.scratch)) == NULL) return;

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
                    .panels = plan.decode ? scratch : NULL,
                    .panel_rows = plan.grain};
  for (uint32_t r = 0; r < n_rows; r += plan.group) {
    uint32_t n = AII_MIN(plan.group, n_rows - r);
    bool alone = (uint64_t)n * w->n_in * w->n_out < ALONE_PRODUCTS;
    job.x = x + (size_t)r * w->n_in;
    job.args.x = plan.q8 ? scratch : job.x;
    job.args.n_cols = n;
    job.args.y = y + (size_t)r * w->n_out;
    if (plan.q8) aii_cpu_for(cpu, n, 4, alone || n < 8, quantise_range, &job);
    aii_cpu_for(cpu, w->n_out, plan.grain, alone, multiply_range, &job);
  }
}
