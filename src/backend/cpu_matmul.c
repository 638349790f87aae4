/* src/backend/cpu_matmul.c - y = W x on the pool, for one weight or for several with the same x.
 *
 * Activations for quantised weights are quantised to q8 rows first, those for pairs of BF16 rounded to BF16 rows, a group
 * of rows at a time. Then the threads take ranges of panels, and each panel is used for the whole group. The kernels promise that neither the group nor the range
 * changes a result.
 */
#include "src/backend/cpu.h"

#define GROUP 256                   /* rows of activations that change their form at a time */
#define RANGES_PER_THREAD 16        /* so that a thread that was held up does not hold up all */
#define ALONE_PRODUCTS (512u << 10) /* about 20 microseconds of one thread: less is not worth waking others */

size_t aii_cpu_mat_bytes(const aii_weight *w)
{
  aii_fmt fmt = aii_cpu_fmt_of(w);
  if (!aii_fmt_in_panels(fmt)) return aii_fmt_row_bytes(fmt, w->n_in) * w->n_out;
  return aii_panel_bytes(fmt, w->n_in) * (((size_t)w->n_out - 1) / AII_PANEL + 1);
}

aii_product aii_cpu_product_of(const aii_weight *w, size_t mat)
{
  aii_fmt fmt = aii_cpu_fmt_of(w);
  bool packed = aii_fmt_in_panels(fmt);
  return (aii_product){.w = (const char *)(packed ? w->device : w->source) + mat * aii_cpu_mat_bytes(w),
                       .w_stride = packed ? aii_panel_bytes(fmt, w->n_in) : aii_fmt_row_bytes(fmt, w->n_in),
                       .n_in = w->n_in,
                       .n_rows = w->n_out};
}

aii_cpu_form aii_cpu_form_of(aii_fmt fmt)
{
  if (fmt == AII_FMT_BF16_PAIRS) return AII_CPU_BF16;
  return aii_fmt_takes_q8(fmt) ? AII_CPU_Q8 : AII_CPU_FLOATS;
}

size_t aii_cpu_x_bytes(aii_cpu_form form, size_t n)
{
  if (form == AII_CPU_BF16) return aii_bf16_row_bytes(n);
  return form == AII_CPU_Q8 ? aii_q8_row_bytes(n) : n * sizeof(float);
}

void aii_cpu_make_x(const aii_kernels *k, aii_cpu_form form, const float *x, size_t n, void *row)
{
  static const uint16_t zero = 0;
  if (form == AII_CPU_Q8) {
    k->quant_q8(x, n, row);
    return;
  }
  k->quant[AII_FMT_BF16](x, n, row);
  if (n % 2 != 0) memcpy((char *)row + n * sizeof zero, &zero, sizeof zero);
}

/* Room for BF16 rows and q8 rows: a quantised weight may be multiplied together with this one. */
size_t aii_cpu_matmul_scratch(const aii_weight *w)
{
  aii_cpu_form form = aii_cpu_form_of(aii_cpu_fmt_of(w));
  size_t bf16 = form == AII_CPU_BF16 ? aii_cpu_x_bytes(form, w->n_in) : 0;
  return form == AII_CPU_FLOATS ? 0 : GROUP * (aii_cpu_x_bytes(AII_CPU_Q8, w->n_in) + bf16);
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
  const float *x;
  char *made[AII_CPU_FORMS]; /* rows of x in other forms; NULL: nobody wants them */
  size_t x_bytes[AII_CPU_FORMS];
  char *work; /* AII_PRODUCT_WORK a thread */
  bool gated; /* product 1 is done with the same panels as product 0, then y0 = act(y0) * y1 */
  aii_act act;
} matmul_job;

static void make_range(void *arg, uint32_t worker, size_t first, size_t end)
{
  const matmul_job *job = arg;
  size_t n = job->p[0].n_in;
  (void)worker;
  for (aii_cpu_form f = AII_CPU_Q8; f < AII_CPU_FORMS; f++)
    for (size_t r = first; r < end && job->made[f] != NULL; r++)
      aii_cpu_make_x(job->k, f, job->x + r * n, n, job->made[f] + r * job->x_bytes[f]);
}

static void multiply(const matmul_job *job, uint32_t m, uint32_t worker, size_t first, size_t end)
{
  aii_product p = job->p[m];
  size_t row = first * AII_PANEL, step = aii_fmt_in_panels(job->fmt[m]) ? 1 : AII_PANEL;
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
  job->fmt[m] = aii_cpu_fmt_of(mul->w);
  job->p[m] = aii_cpu_product_of(mul->w, 0);
  job->p[m].bias = aii_cpu_vector_of(mul->bias);
  job->p[m].y = mul->y;
  job->p[m].y_stride = mul->w->n_out;
  job->begin[m + 1] = job->begin[m] + ((size_t)mul->w->n_out - 1) / AII_PANEL + 1;
}

/* Room for a group of rows in the forms that the job's products want. */
static bool make_room(aii_cpu *cpu, matmul_job *job, bool *makes)
{
  bool wanted[AII_CPU_FORMS] = {false};
  size_t bytes = 0;
  for (uint32_t m = 0; m < job->n; m++) wanted[aii_cpu_form_of(job->fmt[m])] = true;
  for (aii_cpu_form f = AII_CPU_FLOATS; f < AII_CPU_FORMS; f++) {
    job->x_bytes[f] = aii_cpu_x_bytes(f, job->p[0].n_in);
    if (f != AII_CPU_FLOATS && wanted[f]) bytes += GROUP * job->x_bytes[f];
  }
  *makes = bytes > 0;
  char *at = *makes ? aii_cpu_scratch(cpu, bytes) : NULL;
  for (aii_cpu_form f = AII_CPU_Q8; f < AII_CPU_FORMS && at != NULL; f++) {
    if (!wanted[f]) continue;
    job->made[f] = at;
    at += GROUP * job->x_bytes[f];
  }
  return !*makes || at != NULL;
}

/* Group by group: the rows get the forms that formats want, then all products are done in one section. */
static void run_job(aii_cpu *cpu, matmul_job *job, const float *x, uint32_t n_rows)
{
  size_t n_in = job->p[0].n_in, panels = job->begin[job->gated ? 1 : job->n], products = 0;
  bool makes;
  for (uint32_t m = 0; m < job->n; m++) products += n_in * job->p[m].n_rows;
  job->k = cpu->k;
  job->work = cpu->work;
  if (!make_room(cpu, job, &makes)) return;
  for (uint32_t r = 0; r < n_rows; r += GROUP) {
    uint32_t n = AII_MIN(GROUP, n_rows - r);
    bool alone = n * products < ALONE_PRODUCTS;
    job->x = x + r * n_in;
    job->n_cols = n;
    for (uint32_t m = 0; m < job->n; m++) {
      aii_cpu_form form = aii_cpu_form_of(job->fmt[m]);
      job->p[m].x = form == AII_CPU_FLOATS ? (const void *)job->x : job->made[form];
      job->p[m].x_stride = job->x_bytes[form];
      job->p[m].n_cols = n;
    }
    if (makes) aii_cpu_for(cpu, n, 4, alone || n < 8, make_range, job);
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
