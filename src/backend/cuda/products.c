/* products.c - products of rows with weights, norms before them and activations behind them.
 *
 * Quantised weights want q8 rows. The kernel that makes a row can write its q8 form as well, which saves a launch: it is
 * remembered as `made`, becomes `ready` when the next operation begins, and is forgotten with the one after that, so that
 * nobody can have changed the row in between; unless that operation is known to leave it alone. There are two pieces of memory for such rows, as an operation may read one
 * and make another.
 */
#include "src/backend/cuda/cuda_backend.h"

/* ---- q8 rows ---- */

/* Room for n elements in the piece that does not hold `busy`; q is NULL when there is none: told by sync(). */
static aii_cuda_q8 room_for(aii_cuda *cuda, size_t n, const int8_t *busy)
{
  aii_cuda_piece *piece = &cuda->q8[busy != NULL && busy == cuda->q8[0].ptr];
  size_t scales = n / AII_QBLOCK;
  char *p = aii_cuda_grow(cuda, piece, n + 2 * scales * sizeof(float), "device memory for quantised rows");
  if (p == NULL) return (aii_cuda_q8){NULL, NULL, NULL};
  float *d = (float *)(void *)(p + n);
  return (aii_cuda_q8){(int8_t *)p, d, d + scales};
}

aii_cuda_q8 aii_cuda_make_q8(aii_cuda *cuda, const float *x, size_t n_rows, size_t width, const int8_t *busy)
{
  if (cuda->n_q8 == 0 || width % AII_QBLOCK != 0) return (aii_cuda_q8){NULL, NULL, NULL};
  aii_cuda_q8 q8 = room_for(cuda, n_rows * width, busy);
  if (q8.q != NULL) cuda->made = (aii_cuda_made){x, n_rows * width, q8};
  return q8;
}

/* The q8 form of rows x, made now if it is not ready. */
static bool quantise(aii_cuda *cuda, const float *x, uint32_t n_rows, uint32_t width, aii_cuda_q8 *out)
{
  size_t n = (size_t)n_rows * width;
  if (cuda->ready.x == x && cuda->ready.n == n) {
    *out = cuda->ready.q8;
    return true;
  }
  *out = room_for(cuda, n, NULL);
  if (out->q == NULL) return false;
  aii_cuda_quant_q8(cuda->stream, x, n_rows, width, *out);
  cuda->made = cuda->ready = (aii_cuda_made){x, n, *out};
  return true;
}

/* Rows rounded to BF16, once in an operation; few are rounded where they are multiplied. NULL: told by sync(). */
static const void *rounded_rows(aii_cuda *cuda, const float *x, uint32_t n_rows, uint32_t width)
{
  if (cuda->rounded_x == x) return cuda->rounded.ptr;
  void *out =
      aii_cuda_grow(cuda, &cuda->rounded, aii_cuda_rounded_bytes(n_rows, width), "device memory for rounded rows");
  if (out == NULL) return NULL;
  aii_cuda_round_rows(cuda->stream, x, n_rows, width, out);
  cuda->rounded_x = x;
  return out;
}

/* ---- norms and activations ---- */

/* What a norm in place makes is seldom multiplied: heads, and rows that a residual sum will change. */
static aii_cuda_q8 normed_q8(aii_cuda *cuda, const float *x, uint32_t n_rows, uint32_t width, const float *out)
{
  return out == x ? (aii_cuda_q8){NULL, NULL, NULL} : aii_cuda_make_q8(cuda, out, n_rows, width, NULL);
}

static void normalise(aii_cuda *cuda, const aii_cuda_norm *norm, uint32_t n_rows, float *out)
{
  const aii_cuda_q8 q8 = normed_q8(cuda, norm->x, n_rows, norm->n, out);
  aii_cuda_normalise(cuda->stream, norm, n_rows, out, q8);
}

void aii_cuda_op_rms_norm(aii_backend *be, const float *x, const aii_weight *w, uint32_t n_rows, uint32_t width,
                          float eps, float *out)
{
  aii_cuda *cuda = aii_cuda_enter(be);
  const aii_cuda_norm norm = {.x = x, .w = aii_cuda_vector_of(w), .n = width, .eps = eps};
  if (cuda != NULL && n_rows > 0) normalise(cuda, &norm, n_rows, out);
}

void aii_cuda_op_layer_norm(aii_backend *be, const float *x, const aii_weight *w, const aii_weight *bias,
                            uint32_t n_rows, uint32_t width, float eps, float *out)
{
  aii_cuda *cuda = aii_cuda_enter(be);
  const aii_cuda_norm norm = {x, aii_cuda_vector_of(w), aii_cuda_vector_of(bias), width, eps, true};
  if (cuda != NULL && n_rows > 0) normalise(cuda, &norm, n_rows, out);
}

void aii_cuda_op_activate(aii_backend *be, aii_act act, const float *gate, const float *up, size_t n, float *out)
{
  aii_cuda *cuda = aii_cuda_enter(be);
  if (cuda == NULL || n == 0) return;
  aii_cuda_activate(cuda->stream, (int)act, gate, up, n, out, aii_cuda_make_q8(cuda, out, 1, n, NULL));
}

/* ---- products ---- */

static aii_cuda_product product_of(const aii_cuda *cuda, const aii_weight *w, const aii_weight *bias, uint32_t n,
                                   const float *x, float *y)
{
  return (aii_cuda_product){.fmt = (int)aii_cuda_panel_fmt(w),
                            .w = w->device,
                            .mat_bytes = w->n_out == 1 ? w->n_in * sizeof(float) : aii_cuda_mat_bytes(w),
                            .n_in = w->n_in,
                            .n_out = w->n_out,
                            .n_mats = AII_MAX(w->n_mats, 1u),
                            .n = n,
                            .repeat = 1,
                            .n_sms = cuda->n_sms,
                            .rounded = aii_cuda_rounds(w),
                            .bias = aii_cuda_vector_of(bias),
                            .x = x,
                            .y = y};
}

/* With the one matrix of a weight; rows as they are. */
static aii_cuda_product single(const aii_cuda *cuda, const aii_mul *mul, const float *x, uint32_t n_rows)
{
  aii_cuda_product p = product_of(cuda, mul->w, mul->bias, n_rows, x, mul->y);
  p.n_mats = 1;
  return p;
}

/* The same, with rows in the form that the weight wants. False: told by sync(). */
static bool product_with(aii_cuda *cuda, const aii_mul *mul, const float *x, uint32_t n_rows, aii_cuda_product *out)
{
  *out = single(cuda, mul, x, n_rows);
  if (out->rounded && n_rows > AII_CUDA_FEW_ROUNDED) {
    out->x_bf16 = rounded_rows(cuda, x, n_rows, mul->w->n_in);
    return out->x_bf16 != NULL;
  }
  return !aii_cuda_takes_q8(mul->w) || quantise(cuda, x, n_rows, mul->w->n_in, &out->x_q8);
}

static void multiply_all(aii_cuda *cuda, const aii_mul *muls, uint32_t n, const float *x, uint32_t n_rows,
                         bool accumulate)
{
  aii_cuda_product all[AII_CUDA_MAX_PRODUCTS];
  uint32_t n_all = 0;
  if (n_rows == 0) return;
  if (cuda->made.x == NULL && cuda->ready.x == x) cuda->made = cuda->ready; /* what is multiplied does not change */
  for (uint32_t m = 0; m < n; m++) {
    aii_cuda_product p;
    if (!product_with(cuda, &muls[m], x, n_rows, &p)) return;
    p.accumulate = accumulate;
    if (p.n_out == 1) aii_cuda_dot_rows(cuda->stream, &p);
    else all[n_all++] = p;
    if (n_all < AII_CUDA_MAX_PRODUCTS && m + 1 < n) continue;
    aii_cuda_multiply(cuda->stream, all, n_all);
    n_all = 0;
  }
}

void aii_cuda_op_matmul(aii_backend *be, const aii_weight *w, const aii_weight *bias, const float *x, uint32_t n_rows,
                        bool accumulate, float *y)
{
  aii_cuda *cuda = aii_cuda_enter(be);
  if (cuda != NULL) multiply_all(cuda, &(aii_mul){w, bias, y}, 1, x, n_rows, accumulate);
}

void aii_cuda_op_matmuls(aii_backend *be, const aii_mul *muls, uint32_t n, const float *x, uint32_t n_rows)
{
  aii_cuda *cuda = aii_cuda_enter(be);
  if (cuda != NULL) multiply_all(cuda, muls, n, x, n_rows, false);
}

/* Whether one kernel could see to a gate and to what it gates. */
static bool alike(const aii_mul *gate, const aii_mul *up)
{
  return gate->w->n_out > 1 && up->w->n_out == gate->w->n_out && up->w->n_in == gate->w->n_in;
}

static void multiply_gated(aii_cuda *cuda, aii_act act, const aii_mul *gate, const aii_mul *up, const float *x,
                           uint32_t n_rows)
{
  const aii_mul both[] = {*gate, *up};
  const uint32_t n_out = gate->w->n_out;
  aii_cuda_product g, u;
  if (!product_with(cuda, gate, x, n_rows, &g) || !product_with(cuda, up, x, n_rows, &u)) return;
  const aii_cuda_q8 q8 = aii_cuda_make_q8(cuda, gate->y, n_rows, n_out, g.x_q8.q);
  if (alike(gate, up) && aii_cuda_multiply_gated(cuda->stream, NULL, (int)act, &g, &u, q8)) return;
  multiply_all(cuda, both, 2, x, n_rows, false);
  aii_cuda_activate(cuda->stream, (int)act, gate->y, up->y, (size_t)n_rows * n_out, gate->y, q8);
}

void aii_cuda_op_gated(aii_backend *be, aii_act act, const aii_mul *gate, const aii_mul *up, const float *x,
                       uint32_t n_rows)
{
  aii_cuda *cuda = aii_cuda_enter(be);
  if (cuda != NULL && n_rows > 0) multiply_gated(cuda, act, gate, up, x, n_rows);
}

/* ---- products of rows that are normalised first ---- */

static aii_cuda_norm norm_of(const aii_norm *norm, const float *x, const aii_weight *w)
{
  return (aii_cuda_norm){x,          aii_cuda_vector_of(norm->w), aii_cuda_vector_of(norm->bias), w->n_in, norm->eps,
                         norm->layer};
}

/* Where blocks cannot see to it themselves; what multiplies the rows finds their q8 form. */
static void normalise_first(aii_cuda *cuda, const aii_cuda_norm *norm, uint32_t n_rows, float *out)
{
  normalise(cuda, norm, n_rows, out);
  cuda->ready = cuda->made;
}

void aii_cuda_op_norm_matmuls(aii_backend *be, const aii_norm *norm, const aii_mul *muls, uint32_t n, const float *x,
                              uint32_t n_rows)
{
  aii_cuda *cuda = aii_cuda_enter(be);
  if (cuda == NULL || n_rows == 0 || n == 0) return;
  aii_cuda_product all[AII_CUDA_MAX_PRODUCTS];
  const aii_cuda_norm how = norm_of(norm, x, muls[0].w);
  bool fits = n <= AII_CUDA_MAX_PRODUCTS;
  for (uint32_t m = 0; m < n && fits; m++) {
    all[m] = single(cuda, &muls[m], x, n_rows);
    fits = muls[m].w->n_out > 1 && muls[m].w->n_in == how.n;
  }
  if (fits && aii_cuda_multiply_normed(cuda->stream, &how, all, n)) return;
  normalise_first(cuda, &how, n_rows, norm->out);
  multiply_all(cuda, muls, n, norm->out, n_rows, false);
}

void aii_cuda_op_norm_gated(aii_backend *be, const aii_norm *norm, aii_act act, const aii_mul *gate, const aii_mul *up,
                            const float *x, uint32_t n_rows)
{
  aii_cuda *cuda = aii_cuda_enter(be);
  if (cuda == NULL || n_rows == 0) return;
  const aii_cuda_norm how = norm_of(norm, x, gate->w);
  const aii_cuda_product g = single(cuda, gate, x, n_rows), u = single(cuda, up, x, n_rows);
  const aii_cuda_q8 q8 = aii_cuda_make_q8(cuda, gate->y, n_rows, gate->w->n_out, NULL);
  if (alike(gate, up) && aii_cuda_multiply_gated(cuda->stream, &how, (int)act, &g, &u, q8)) return;
  normalise_first(cuda, &how, n_rows, norm->out);
  multiply_gated(cuda, act, gate, up, norm->out, n_rows);
}

/* ---- experts ---- */

/* Many columns are sorted by their matrix, and their rows rounded before. False: there is no memory for that, told by
 * sync(). */
static bool sort(aii_cuda *cuda, aii_cuda_product *p)
{
  bool few = p->n_out == 1 || (p->rounded && p->n <= AII_CUDA_FEW_ROUNDED);
  size_t words = few ? 0 : aii_cuda_group_words(p);
  if (words == 0) return true;
  p->groups = aii_cuda_grow(cuda, &cuda->scratch, words * sizeof *p->groups, "scratch memory for experts");
  if (p->groups == NULL) return false;
  if (p->rounded) p->x_bf16 = rounded_rows(cuda, p->x, (p->n - 1) / p->repeat + 1, p->n_in);
  return !p->rounded || p->x_bf16 != NULL;
}

/* Products with matrices that rows have each for themselves. False: told by sync(). */
static bool product_by_ids(aii_cuda *cuda, const aii_mul *mul, const int32_t *ids, const float *x, uint32_t repeat,
                           uint32_t n, aii_cuda_product *p)
{
  *p = product_of(cuda, mul->w, mul->bias, n, x, mul->y);
  p->ids = ids;
  p->repeat = repeat;
  if (aii_cuda_takes_q8(mul->w) && !quantise(cuda, x, (n - 1) / repeat + 1, mul->w->n_in, &p->x_q8)) return false;
  return sort(cuda, p);
}

static void multiply_by_ids(aii_cuda *cuda, const aii_cuda_product *p)
{
  if (p->n_out == 1) aii_cuda_dot_rows(cuda->stream, p);
  else aii_cuda_multiply(cuda->stream, p, 1);
}

void aii_cuda_op_matmul_ids(aii_backend *be, const aii_weight *w, const aii_weight *bias, const int32_t *ids,
                            const float *x, uint32_t repeat, uint32_t n, float *y)
{
  aii_cuda *cuda = aii_cuda_enter(be);
  aii_cuda_product p;
  if (cuda == NULL || n == 0) return;
  if (product_by_ids(cuda, &(aii_mul){w, bias, y}, ids, x, repeat, n, &p)) multiply_by_ids(cuda, &p);
}

void aii_cuda_op_gated_ids(aii_backend *be, aii_act act, const aii_mul *gate, const aii_mul *up, const int32_t *ids,
                           const float *x, uint32_t repeat, uint32_t n)
{
  aii_cuda *cuda = aii_cuda_enter(be);
  const uint32_t n_out = gate->w->n_out;
  aii_cuda_product g, u;
  if (cuda == NULL || n == 0 || !product_by_ids(cuda, gate, ids, x, repeat, n, &g)) return;
  const aii_cuda_q8 q8 = aii_cuda_make_q8(cuda, gate->y, n, n_out, g.x_q8.q);
  if (alike(gate, up) && g.groups == NULL) {
    if (!product_by_ids(cuda, up, ids, x, repeat, n, &u)) return;
    if (aii_cuda_multiply_gated(cuda->stream, NULL, (int)act, &g, &u, q8)) return;
  }
  multiply_by_ids(cuda, &g);
  if (!product_by_ids(cuda, up, ids, x, repeat, n, &u)) return;
  multiply_by_ids(cuda, &u);
  aii_cuda_activate(cuda->stream, (int)act, gate->y, up->y, (size_t)n * n_out, gate->y, q8);
}
