/* src/backend/cpu_matmul.c - y = W x on the pool, for one weight or for several with the same x.
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

size_t aii_cpu_grain(const aii_cpu *cpu, size_t panels)
{
  size_t grain = panels / (aii_pool_threads(cpu->pool) * RANGES_PER_THREAD);
  return AII_MAX(grain + grain % 2, 2u); /* kernels take two panels together */
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

/* Products with the same rows: panel i of the job is panel i - begin[m] of product m. */
typedef struct matmul_job {
  const aii_kernels *k;
  uint32_t n, n_cols;
  aii_fmt fmt[AII_MAX_MULS];
  aii_product p[AII_MAX_MULS];
  size_t begin[AII_MAX_MULS + 1];
  const float *x; /* to quantise */
  char *q8;
  size_t q8_bytes;
  char *work; /* AII_PRODUCT_WORK a thread */
  bool gated; /* product 1 is done with the same panels as product 0, then y0 = act(y0) * y1 */
  aii_act act;
} matmul_job;

static void quantise_range(void *arg, uint32_t worker, size_t first, size_t end)
{
  const matmul_job *job = arg;
  size_t n = job->p[0].n_in;
  (void)worker;
  for (size_t r = first; r < end; r++) job->k->quant_q8(job->x + r * n, n, job->q8 + r * job->q8_bytes);
}

static void multiply(const matmul_job *job, uint32_t m, uint32_t worker, size_t first, size_t end)
{
  aii_product p = job->p[m];
  size_t row = first * AII_PANEL, step = job->fmt[m] < AII_FMT_PACKED ? 1 : AII_PANEL;
  p.w = (const char *)p.w + first * step * p.w_stride;
  p.n_rows = (uint32_t)(AII_MIN(end * AII_PANEL, p.n_rows) - row);
  p.y += row;
  if (p.bias != NULL) p.bias += row;
  p.work = job->work + worker * AII_PRODUCT_WORK;
  job->k->product[job->fmt[m]](&p);
}

static void multiply_range(void *arg, uint32_t worker, size_t first, size_t end)
{
  const matmul_job *job = arg;
  for (uint32_t m = 0; m < job->n; m++) {
    size_t from = AII_MAX(first, job->begin[m]), to = AII_MIN(end, job->begin[m + 1]);
    if (from < to) multiply(job, m, worker, from - job->begin[m], to - job->begin[m]);
  }
}

static void gated_range(void *arg, uint32_t worker, size_t first, size_t end)
{
  const matmul_job *job = arg;
  const aii_product *gate = &job->p[0], *up = &job->p[1];
  size_t row = first * AII_PANEL, n = AII_MIN(end * AII_PANEL, gate->n_rows) - row;
  multiply(job, 0, worker, first, end);
  multiply(job, 1, worker, first, end);
  for (size_t c = 0; c < job->n_cols; c++) {
    float *y = gate->y + c * gate->y_stride + row;
    aii_cpu_act(job->k, job->act, y, up->y + c * up->y_stride + row, n, y);
  }
}

static void add_product(matmul_job *job, const aii_mul *mul)
{
  uint32_t m = job->n++;
  job->fmt[m] = aii_cpu_fmt(mul->w->type);
  job->p[m] = aii_cpu_product_of(mul->w, 0);
  job->p[m].bias = aii_cpu_vector_of(mul->bias);
  job->p[m].y = mul->y;
  job->p[m].y_stride = mul->w->n_out;
  job->begin[m + 1] = job->begin[m] + ((size_t)mul->w->n_out - 1) / AII_PANEL + 1;
}

/* Group by group: the rows are quantised where a format wants it, then all products are done in one section. */
static void run_job(aii_cpu *cpu, matmul_job *job, const float *x, uint32_t n_rows)
{
  size_t n_in = job->p[0].n_in, panels = job->begin[job->gated ? 1 : job->n], products = 0;
  bool q8 = false;
  for (uint32_t m = 0; m < job->n; m++) {
    q8 |= aii_fmt_takes_q8(job->fmt[m]);
    products += n_in * job->p[m].n_rows;
  }
  job->k = cpu->k;
  job->work = cpu->work;
  job->q8_bytes = aii_q8_row_bytes(n_in);
  job->q8 = q8 ? aii_cpu_scratch(cpu, GROUP * job->q8_bytes) : NULL;
  if (q8 && job->q8 == NULL) return;
  for (uint32_t r = 0; r < n_rows; r += GROUP) {
    uint32_t n = AII_MIN(GROUP, n_rows - r);
    bool alone = n * products < ALONE_PRODUCTS;
    job->x = x + r * n_in;
    job->n_cols = n;
    for (uint32_t m = 0; m < job->n; m++) {
      bool its = aii_fmt_takes_q8(job->fmt[m]);
      job->p[m].x = its ? (const void *)job->q8 : job->x;
      job->p[m].x_stride = its ? job->q8_bytes : n_in * sizeof(float);
      job->p[m].n_cols = n;
    }
    if (q8) aii_cpu_for(cpu, n, 4, alone || n < 8, quantise_range, job);
    aii_cpu_for(cpu, panels, aii_cpu_grain(cpu, panels), alone, job->gated ? gated_range : multiply_range, job);
    for (uint32_t m = 0; m < job->n; m++) job->p[m].y += n * job->p[m].y_stride;
  }
}

/* ---- the operations ---- */

void aii_cpu_matmul(aii_backend *be, const aii_weight *w, const aii_weight *bias, const float *x, uint32_t n_rows,
                    bool accumulate, float *y)
{
  aii_cpu *cpu = aii_cpu_of(be);
  if (w->n_out == 1) {
    aii_cpu_dot_rows(cpu, aii_cpu_vector_of(w), aii_cpu_vector_of(bias), x, w->n_in, n_rows, accumulate, y);
    return;
  }
  matmul_job job = {.n = 0};
  add_product(&job, &(aii_mul){w, bias, y});
  job.p[0].accumulate = accumulate;
  run_job(cpu, &job, x, n_rows);
}

static bool all_matrices(const aii_mul *muls, uint32_t n)
{
  for (uint32_t m = 0; m < n; m++)
    if (muls[m].w->n_out == 1 || muls[m].w->n_in != muls[0].w->n_in) return false;
  return true;
}

void aii_cpu_matmuls(aii_backend *be, const aii_mul *muls, uint32_t n, const float *x, uint32_t n_rows)
{
  matmul_job job = {.n = 0};
  if (n > AII_MAX_MULS || !all_matrices(muls, n)) {
    for (uint32_t m = 0; m < n; m++) aii_cpu_matmul(be, muls[m].w, muls[m].bias, x, n_rows, false, muls[m].y);
    return;
  }
  for (uint32_t m = 0; m < n; m++) add_product(&job, &muls[m]);
  if (n > 0) run_job(aii_cpu_of(be), &job, x, n_rows);
}

void aii_cpu_gated(aii_backend *be, aii_act act, const aii_mul *gate, const aii_mul *up, const float *x,
                   uint32_t n_rows)
{
  const aii_mul both[] = {*gate, *up};
  uint32_t n_out = gate->w->n_out;
  if (!all_matrices(both, 2) || up->w->n_out != n_out) {
    aii_cpu_matmuls(be, both, 2, x, n_rows);
    aii_cpu_activate(be, act, gate->y, up->y, (size_t)n_rows * n_out, gate->y);
    return;
  }
  matmul_job job = {.gated = true, .act = act};
  add_product(&job, gate);
  add_product(&job, up);
  run_job(aii_cpu_of(be), &job, x, n_rows);
}
