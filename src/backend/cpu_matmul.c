/* src/backend/cpu_matmul.c - y = W x on the pool.
 *
 * Activations are taken in groups of rows that fit the second-level cache; for quantised weights a group is first
 * quantised to q8 rows. Then the threads take ranges of weight rows, and each weight row is used for the whole group.
 * The kernels promise that neither the group nor the range changes a result.
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
} matmul_job;

uint32_t aii_cpu_matmul_cols(size_t x_row_bytes)
{
  size_t cols = X_CACHE_BYTES / x_row_bytes;
  return cols < 12 ? 12 : cols > 120 ? 120 : (uint32_t)(cols / 12 * 12); /* a multiple of all register tiles */
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
  (void)worker;
  a.w = (const char *)a.w + first * a.w_stride;
  a.n_rows = (uint32_t)(end - first);
  a.y += first;
  if (a.bias != NULL) a.bias += first;
  job->k->matmul[job->fmt](&a);
}

size_t aii_cpu_row_grain(const aii_cpu *cpu, size_t row_bytes, uint32_t n_out)
{
  size_t share = n_out / (aii_pool_threads(cpu->pool) * RANGES_PER_THREAD);
  size_t grain = AII_MIN(W_CACHE_BYTES / row_bytes, share);
  return AII_MAX(grain / 4 * 4, 4);
}

void aii_cpu_matmul(aii_backend *be, const aii_weight *w, const aii_weight *bias, const float *x, uint32_t n_rows,
                    bool accumulate, float *y)
{
  aii_cpu *cpu = aii_cpu_of(be);
  aii_cpu_matrix m = aii_cpu_matrix_of(w);
  bool quantised = aii_fmt_quantised(m.fmt);
  size_t x_bytes = quantised ? aii_q8_row_bytes(w->n_in) : w->n_in * sizeof(float);
  uint32_t group = aii_cpu_matmul_cols(x_bytes);
  void *q8 = NULL;
  if (quantised && (q8 = aii_cpu_scratch(cpu, group * x_bytes)) == NULL) return;

  matmul_job job = {.k = cpu->k,
                    .fmt = m.fmt,
                    .args = {.w = m.rows,
                             .w_stride = m.row_bytes,
                             .x_stride = x_bytes,
                             .n_in = w->n_in,
                             .n_rows = w->n_out,
                             .accumulate = accumulate,
                             .bias = aii_cpu_vector_of(bias),
                             .y_stride = w->n_out}};
  size_t grain = aii_cpu_row_grain(cpu, m.row_bytes, w->n_out);
  for (uint32_t r = 0; r < n_rows; r += group) {
    uint32_t n = AII_MIN(group, n_rows - r);
    bool alone = (uint64_t)n * w->n_in * w->n_out < ALONE_PRODUCTS;
    job.x = x + (size_t)r * w->n_in;
    job.args.x = quantised ? q8 : job.x;
    job.args.n_cols = n;
    job.args.y = y + (size_t)r * w->n_out;
    if (quantised) aii_cpu_for(cpu, n, 4, alone || n < 8, quantise_range, &job);
    aii_cpu_for(cpu, w->n_out, grain, alone, multiply_range, &job);
  }
}
