/* src/backend/cpu_experts.c - mixtures of experts: which experts a row goes to, their products, their weighted sum.
 *
 * A product takes the pairs (row, expert) sorted by expert, so that a panel of an expert's weights is read from memory
 * once for all rows that go there. The result of a pair depends on its row and expert only.
 * Experts that no row chose are not read.
 */
#include <math.h>

#include "src/backend/cpu.h"

#define ALONE_PRODUCTS (512u << 10)
#define ALONE_SCORES (16u << 10)

/* ---- routing ---- */

typedef struct route_job {
  const aii_kernels *k;
  const aii_routing *how;
  const float *bias;
  float *scores, *weights, *choice; /* choice: [worker][n_experts], what is chosen by */
  int32_t *ids;
} route_job;

static void score(const route_job *job, float *s, float *choice)
{
  uint32_t n = job->how->n_experts;
  if (job->how->sigmoid) {
    for (uint32_t e = 0; e < n; e++) s[e] = -s[e];
    job->k->exp(s, n, s);
    for (uint32_t e = 0; e < n; e++) s[e] = 1 / (1 + s[e]);
  } else {
    float sum = job->k->exp_sum(s, n, job->k->max(s, n));
    for (uint32_t e = 0; e < n; e++) s[e] /= sum;
  }
  for (uint32_t e = 0; e < n; e++) choice[e] = job->bias != NULL ? s[e] + job->bias[e] : s[e];
}

static uint32_t best_of(const float *x, uint32_t n)
{
  uint32_t best = 0;
  for (uint32_t i = 1; i < n; i++) best = x[i] > x[best] ? i : best;
  return best;
}

/* A group is worth its best expert or, where experts are chosen with a bias, the sum of its two best. */
static float group_worth(const route_job *job, const float *choice, uint32_t n)
{
  uint32_t best = best_of(choice, n);
  float second = -INFINITY;
  for (uint32_t i = 0; i < n; i++) second = i != best && choice[i] > second ? choice[i] : second;
  return job->how->sigmoid && n > 1 ? choice[best] + second : choice[best];
}

/* Leaves only the experts of the best groups to choose from: a group stays when fewer than n_groups_used beat it. */
static void mask_groups(const route_job *job, float *choice)
{
  uint32_t groups = job->how->n_groups, size = job->how->n_experts / groups;
  bool stays[AII_MAX_GROUPS];
  float worth[AII_MAX_GROUPS];
  for (uint32_t g = 0; g < groups; g++) worth[g] = group_worth(job, choice + g * size, size);
  for (uint32_t g = 0; g < groups; g++) {
    uint32_t better = 0;
    for (uint32_t o = 0; o < groups; o++) better += worth[o] > worth[g] || (o < g && worth[o] == worth[g]);
    stays[g] = better < job->how->n_groups_used;
  }
  for (uint32_t e = 0; e < groups * size; e++)
    if (!stays[e / size]) choice[e] = -INFINITY;
}

static void route_row(const route_job *job, float *s, float *choice, int32_t *ids, float *weights)
{
  const aii_routing *how = job->how;
  float sum = 0, scale = how->scale != 0 ? how->scale : 1;
  score(job, s, choice);
  if (how->n_groups > 1) mask_groups(job, choice);
  for (uint32_t j = 0; j < how->n_used; j++) {
    uint32_t best = best_of(choice, how->n_experts);
    ids[j] = (int32_t)best;
    weights[j] = s[best];
    sum += s[best];
    choice[best] = -INFINITY;
  }
  if (how->normalise) scale /= fmaxf(sum, 1e-20f);
  for (uint32_t j = 0; j < how->n_used; j++) weights[j] *= scale;
}

static void route_range(void *arg, uint32_t worker, size_t first, size_t end)
{
  const route_job *job = arg;
  size_t n = job->how->n_experts, k = job->how->n_used;
  for (size_t r = first; r < end; r++)
    route_row(job, job->scores + r * n, job->choice + worker * n, job->ids + r * k, job->weights + r * k);
}

void aii_cpu_route(aii_backend *be, const aii_routing *how, float *scores, uint32_t n_rows, int32_t *ids,
                   float *weights)
{
  aii_cpu *cpu = aii_cpu_of(be);
  bool groups = how->n_groups > 1;
  if (how->n_used > how->n_experts || (groups && (how->n_groups > AII_MAX_GROUPS || how->n_groups_used == 0))) {
    aii_cpu_fail(cpu, AIINFRA_EINVAL, "routing to more experts or groups than there are");
    return;
  }
  float *choice = aii_cpu_scratch(cpu, (size_t)aii_pool_threads(cpu->pool) * how->n_experts * sizeof(float));
  if (choice == NULL) return;
  route_job job = {cpu->k, how, aii_cpu_vector_of(how->bias), scores, weights, choice, ids};
  aii_cpu_for(cpu, n_rows, 4, (size_t)n_rows * how->n_experts < ALONE_SCORES, route_range, &job);
}

/* ---- products ---- */

typedef struct experts_job {
  const aii_kernels *k;
  const aii_weight *w;
  aii_fmt fmt;
  aii_cpu_form form;
  const float *bias, *x;
  float *y;
  char *made; /* rows of x in this form; NULL: floats are multiplied as they are */
  char *work; /* AII_PRODUCT_WORK a thread */
  size_t x_bytes, grain, n_ranges;
  uint32_t repeat;
  uint32_t *pairs;   /* sorted by expert */
  uint32_t *sources; /* the row of x of each of them */
  uint32_t *begin;   /* [n_active + 1] where an expert's pairs begin */
  uint32_t *experts; /* [n_active] */
} experts_job;

static void make_range(void *arg, uint32_t worker, size_t first, size_t end)
{
  const experts_job *job = arg;
  (void)worker;
  for (size_t r = first; r < end; r++)
    aii_cpu_make_x(job->k, job->form, job->x + r * job->w->n_in, job->w->n_in, job->made + r * job->x_bytes);
}

static void multiply_range(void *arg, uint32_t worker, size_t first, size_t end)
{
  const experts_job *job = arg;
  size_t n_out = job->w->n_out, step = aii_fmt_in_panels(job->fmt) ? 1 : AII_PANEL;
  for (size_t i = first; i < end; i++) {
    size_t active = i / job->n_ranges, panel = i % job->n_ranges * job->grain, row = panel * AII_PANEL;
    size_t expert = job->experts[active];
    uint32_t pair = job->begin[active];
    aii_product p = aii_cpu_product_of(job->w, expert);
    p.w = (const char *)p.w + panel * step * p.w_stride;
    p.n_rows = (uint32_t)AII_MIN(job->grain * AII_PANEL, n_out - row);
    p.x = job->made != NULL ? (const void *)job->made : job->x;
    p.x_stride = job->x_bytes;
    p.x_index = job->sources + pair;
    p.n_cols = job->begin[active + 1] - pair;
    p.bias = job->bias != NULL ? job->bias + expert * n_out + row : NULL;
    p.y = job->y + row;
    p.y_stride = n_out;
    p.y_index = job->pairs + pair;
    p.work = job->work + worker * AII_PRODUCT_WORK;
    job->k->product[job->fmt](&p);
  }
}

static uint32_t expert_of(const int32_t *ids, uint32_t i, uint32_t n_experts)
{
  return ids != NULL ? (uint32_t)ids[i] : i % n_experts;
}

/* Sorts the pairs by expert, lists the experts that have any; returns their number. */
static uint32_t sort_pairs(experts_job *job, const int32_t *ids, uint32_t n, uint32_t n_experts, uint32_t *next)
{
  uint32_t active = 0, total = 0;
  memset(next, 0, n_experts * sizeof *next);
  for (uint32_t i = 0; i < n; i++) next[expert_of(ids, i, n_experts)]++;
  for (uint32_t e = 0; e < n_experts; e++) {
    uint32_t count = next[e];
    if (count == 0) continue;
    job->experts[active] = e;
    job->begin[active++] = total;
    next[e] = total;
    total += count;
  }
  job->begin[active] = total;
  for (uint32_t i = 0; i < n; i++) {
    uint32_t at = next[expert_of(ids, i, n_experts)]++;
    job->pairs[at] = i;
    job->sources[at] = i / job->repeat;
  }
  return active;
}

/* Experts that are one row each. */
static void dot_ids(aii_cpu *cpu, const aii_weight *w, const float *bias, const int32_t *ids, const float *x,
                    uint32_t repeat, uint32_t n, float *y)
{
  uint32_t n_experts = AII_MAX(w->n_mats, 1u);
  for (uint32_t i = 0; i < n; i++) {
    size_t expert = expert_of(ids, i, n_experts);
    aii_cpu_dot_rows(cpu, aii_cpu_vector_of(w) + expert * w->n_in, bias != NULL ? bias + expert : NULL,
                     x + (size_t)(i / repeat) * w->n_in, w->n_in, 1, false, y + i);
  }
}

void aii_cpu_matmul_ids(aii_backend *be, const aii_weight *w, const aii_weight *bias, const int32_t *ids,
                        const float *x, uint32_t repeat, uint32_t n, float *y)
{
  aii_cpu *cpu = aii_cpu_of(be);
  aii_fmt fmt = aii_cpu_fmt_of(w);
  aii_cpu_form form = aii_cpu_form_of(fmt);
  uint32_t n_experts = AII_MAX(w->n_mats, 1u), n_x = (n - 1) / repeat + 1;
  for (uint32_t i = 0; i < n; i++) {
    if (expert_of(ids, i, n_experts) >= n_experts) {
      aii_cpu_fail(cpu, AIINFRA_EINTERNAL, "a row was routed to an expert that is not there");
      return;
    }
  }
  if (w->n_out == 1) {
    dot_ids(cpu, w, aii_cpu_vector_of(bias), ids, x, repeat, n, y);
    return;
  }
  bool makes = form != AII_CPU_FLOATS;
  size_t x_bytes = aii_cpu_x_bytes(form, w->n_in), rows = makes ? n_x * x_bytes : 0;
  size_t numbers = 2 * (size_t)n + 3 * (size_t)n_experts + 1;
  char *scratch = aii_cpu_scratch(cpu, rows + numbers * sizeof(uint32_t));
  if (scratch == NULL) return;
  uint32_t *lists = (uint32_t *)(void *)(scratch + rows);
  size_t panels = ((size_t)w->n_out - 1) / AII_PANEL + 1;
  experts_job job = {.k = cpu->k,
                     .w = w,
                     .fmt = fmt,
                     .form = form,
                     .bias = aii_cpu_vector_of(bias),
                     .x = x,
                     .y = y,
                     .made = makes ? scratch : NULL,
                     .work = cpu->work,
                     .x_bytes = x_bytes,
                     .grain = aii_cpu_grain(cpu, panels),
                     .repeat = repeat,
                     .pairs = lists,
                     .sources = lists + n,
                     .experts = lists + 2 * (size_t)n,
                     .begin = lists + 2 * (size_t)n + n_experts};
  job.n_ranges = (panels - 1) / job.grain + 1;
  uint32_t active = sort_pairs(&job, ids, n, n_experts, lists + 2 * (size_t)n + 2 * (size_t)n_experts + 1);
  bool alone = (uint64_t)n * w->n_in * w->n_out < ALONE_PRODUCTS;
  if (makes) aii_cpu_for(cpu, n_x, 4, alone || n_x < 8, make_range, &job);
  aii_cpu_for(cpu, active * job.n_ranges, 1, alone, multiply_range, &job);
}

/* ---- sums ---- */

typedef struct combine_job {
  const aii_kernels *k;
  const float *y, *weights;
  float *out;
  uint32_t n_used, width;
} combine_job;

static void combine_range(void *arg, uint32_t worker, size_t first, size_t end)
{
  const combine_job *job = arg;
  size_t width = job->width, k = job->n_used;
  (void)worker;
  for (size_t r = first; r < end; r++) {
    float *out = job->out + r * width;
    memset(out, 0, width * sizeof *out);
    for (size_t j = 0; j < k; j++)
      job->k->add_scaled(out, job->y + (r * k + j) * width, job->weights[r * k + j], width);
  }
}

void aii_cpu_combine(aii_backend *be, const float *y, const float *weights, uint32_t n_rows, uint32_t n_used,
                     uint32_t width, float *out)
{
  aii_cpu *cpu = aii_cpu_of(be);
  combine_job job = {cpu->k, y, weights, out, n_used, width};
  aii_cpu_for(cpu, n_rows, 4, (size_t)n_rows * n_used * width < ALONE_SCORES, combine_range, &job);
}

void aii_cpu_gate_rows(aii_backend *be, float *x, const float *gate, uint32_t n_rows, uint32_t width)
{
  const aii_kernels *k = aii_cpu_of(be)->k;
  for (size_t r = 0; r < n_rows; r++) {
    float e = -gate[r];
    k->exp(&e, 1, &e);
    k->scale(x + r * width, 1 / (1 + e), width);
  }
}
