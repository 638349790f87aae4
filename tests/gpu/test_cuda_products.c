/* test_cuda_products.c - products of the CUDA backend, and what makes the rows that they take: the CPU's bits.
 *
 * AIINFRA_CUDA_PLUGIN names the plug-in to test, by default the one whose kernels run on the CPU.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/gpu/both.h"

/* ---- products ---- */

static void product_case(aii_dtype type, uint32_t n_in, uint32_t n_out, uint32_t n_rows)
{
  weights w = random_weights(type, n_in, n_out, 1), bias = random_weights(AII_F32, n_out, 1, 1);
  both x = random_both(n_rows, n_in, 2), y = random_both(n_rows, n_out, 1);
  char what[80];
  snprintf(what, sizeof what, "%s %u x %u, %u rows", aii_dtype_info((uint32_t)type)->name, n_in, n_out, n_rows);
  cpu->ops->matmul(cpu, &w.cpu, &bias.cpu, x.cpu, n_rows, true, y.cpu);
  cuda->ops->matmul(cuda, &w.cuda, &bias.cuda, x.cuda, n_rows, true, y.cuda);
  assert_same(&y, what);
  cpu->ops->matmul(cpu, &w.cpu, NULL, x.cpu, n_rows, false, y.cpu);
  cuda->ops->matmul(cuda, &w.cuda, NULL, x.cuda, n_rows, false, y.cuda);
  assert_same(&y, what);
  free_both(&x), free_both(&y);
  free_weights(&w), free_weights(&bias);
}

static void test_products(void **state)
{
  (void)state;
  const uint32_t rows[] = {1, 3, 4, 5, 15, 16, 33, 70};
  for (size_t t = 0; t < N_TYPES; t++)
    for (size_t r = 0; r < AII_COUNT(rows); r++) product_case(types[t], 512, 35, rows[r]);
  for (size_t t = 0; t < N_TYPES; t++) product_case(types[t], 1280, 100, 2);  /* more terms than fit at a time */
  for (size_t t = 0; t < N_TYPES; t++) product_case(types[t], 256, 150, 200); /* the largest tiles */
  product_case(AII_F32, 77, 33, 6);
  product_case(AII_F32, 77, 33, 52); /* rows at odd addresses */
  product_case(AII_BF16, 100, 65, 129);
  product_case(AII_F16, 200, 1, 9);
  product_case(AII_Q8_0, 96, 17, 20);
  product_case(AII_Q4_0, 32, 140, 150);
}

/* Products of the same rows, of several formats, one of them with a matrix of one row. */
static void test_together(void **state)
{
  (void)state;
  const uint32_t rows[] = {1, 6, 40};
  for (size_t r = 0; r < AII_COUNT(rows); r++) {
    const uint32_t n = rows[r];
    weights a = random_weights(AII_Q4_K, 256, 48, 1), b = random_weights(AII_Q6_K, 256, 33, 1),
            c = random_weights(AII_Q4_K, 256, 17, 1), bias = random_weights(AII_F32, 48, 1, 1),
            one = random_weights(AII_F16, 256, 1, 1);
    both x = random_both(n, 256, 2), ya = random_both(n, 48, 1), yb = random_both(n, 33, 1), yc = random_both(n, 17, 1),
         y1 = random_both(n, 1, 1);
    cpu->ops->matmuls(cpu, (aii_mul[]){{&a.cpu, &bias.cpu, ya.cpu}, {&b.cpu, NULL, yb.cpu}, {&c.cpu, NULL, yc.cpu}}, 3,
                      x.cpu, n);
    cuda->ops->matmuls(cuda,
                       (aii_mul[]){{&a.cuda, &bias.cuda, ya.cuda}, {&b.cuda, NULL, yb.cuda}, {&c.cuda, NULL, yc.cuda}},
                       3, x.cuda, n);
    assert_same(&ya, "the first of three"), assert_same(&yb, "the second"), assert_same(&yc, "the third");
    cpu->ops->matmuls(cpu, (aii_mul[]){{&one.cpu, NULL, y1.cpu}, {&c.cpu, NULL, yc.cpu}}, 2, x.cpu, n);
    cuda->ops->matmuls(cuda, (aii_mul[]){{&one.cuda, NULL, y1.cuda}, {&c.cuda, NULL, yc.cuda}}, 2, x.cuda, n);
    assert_same(&y1, "a matrix of one row"), assert_same(&yc, "the one beside it");
    free_both(&x), free_both(&ya), free_both(&yb), free_both(&yc), free_both(&y1);
    free_weights(&a), free_weights(&b), free_weights(&c), free_weights(&bias), free_weights(&one);
  }
}

/* gated, then the product of what it made, which may come quantised from it. */
static void gated_case(aii_act act, aii_dtype gate_type, aii_dtype up_type, uint32_t n_out, uint32_t n_rows)
{
  weights g = random_weights(gate_type, 256, n_out, 1), u = random_weights(up_type, 256, n_out, 1),
          bias = random_weights(AII_F32, n_out, 1, 1),
          down = random_weights(n_out % 32 == 0 ? AII_Q8_0 : AII_F16, n_out, 40, 1);
  both x = random_both(n_rows, 256, 2), yg = random_both(n_rows, n_out, 1), yu = random_both(n_rows, n_out, 1),
       y = random_both(n_rows, 40, 1);
  const double tolerance = act == AII_ACT_GELU_ERF ? 3e-6 : 0;
  cpu->ops->gated(cpu, act, &(aii_mul){&g.cpu, &bias.cpu, yg.cpu}, &(aii_mul){&u.cpu, NULL, yu.cpu}, x.cpu, n_rows);
  cuda->ops->gated(cuda, act, &(aii_mul){&g.cuda, &bias.cuda, yg.cuda}, &(aii_mul){&u.cuda, NULL, yu.cuda}, x.cuda,
                   n_rows);
  cpu->ops->matmul(cpu, &down.cpu, NULL, yg.cpu, n_rows, true, y.cpu);
  cuda->ops->matmul(cuda, &down.cuda, NULL, yg.cuda, n_rows, true, y.cuda);
  assert_near(&yg, tolerance, "gated");
  if (tolerance == 0) assert_same(&y, "the product of what was gated");
  free_both(&x), free_both(&yg), free_both(&yu), free_both(&y);
  free_weights(&g), free_weights(&u), free_weights(&bias), free_weights(&down);
}

static void test_gated(void **state)
{
  (void)state;
  const aii_act acts[] = {AII_ACT_SILU, AII_ACT_GELU, AII_ACT_SWIGLU_OAI, AII_ACT_GELU_ERF};
  for (size_t a = 0; a < AII_COUNT(acts); a++) {
    gated_case(acts[a], AII_Q8_0, AII_Q8_0, 64, 5);
    gated_case(acts[a], AII_Q8_0, AII_Q4_0, 48, 5); /* two launches, no whole blocks */
  }
  for (size_t t = 0; t < N_TYPES; t++) gated_case(AII_ACT_SILU, types[t], types[t], 96, 1);
  gated_case(AII_ACT_SILU, AII_Q4_K, AII_Q4_K, 80, 3);
  gated_case(AII_ACT_SILU, AII_Q4_K, AII_Q4_K, 96, 40);
  gated_case(AII_ACT_GELU, AII_F16, AII_F16, 64, 30);
  gated_case(AII_ACT_GELU, AII_F16, AII_F16, 64, 70);
}

/* ---- rows that are normalised first ---- */

/* Three products and a gate of rows that are normalised; the launches they take, 0 where nobody counts. */
static unsigned long long normed_case(aii_dtype type, aii_dtype last, uint32_t n_in, uint32_t n, bool layer, bool bare)
{
  enum { OUT = 48 };
  weights a = random_weights(type, n_in, OUT, 1), b = random_weights(type, n_in, OUT, 1),
          c = random_weights(last, n_in, OUT / 3, 1), w = random_weights(AII_F32, n_in, 1, 1),
          bias = random_weights(AII_F32, n_in, 1, 1);
  both x = random_both(n, n_in, 3), h = random_both(n, n_in, 1), ya = random_both(n, OUT, 1),
       yb = random_both(n, OUT, 1), yc = random_both(n, OUT / 3, 1);
  const aii_norm on_cpu = {bare && !layer ? NULL : &w.cpu, bare || !layer ? NULL : &bias.cpu, 1e-5f, layer, h.cpu},
                 on_cuda = {bare && !layer ? NULL : &w.cuda, bare || !layer ? NULL : &bias.cuda, 1e-5f, layer, h.cuda};
  const unsigned long long *kernels = both_counter("fake_cuda_kernels"), before = kernels != NULL ? *kernels : 0;
  both_norm_matmuls(cuda, &on_cuda,
                    (aii_mul[]){{&a.cuda, NULL, ya.cuda}, {&b.cuda, NULL, yb.cuda}, {&c.cuda, NULL, yc.cuda}}, 3,
                    x.cuda, n);
  const unsigned long long launched = kernels != NULL ? *kernels - before : 0;
  both_norm_matmuls(cpu, &on_cpu, (aii_mul[]){{&a.cpu, NULL, ya.cpu}, {&b.cpu, NULL, yb.cpu}, {&c.cpu, NULL, yc.cpu}},
                    3, x.cpu, n);
  assert_same(&ya, "the first product of normalised rows");
  assert_same(&yb, "the second"), assert_same(&yc, "the third");
  both_norm_gated(cuda, &on_cuda, AII_ACT_SILU, &(aii_mul){&a.cuda, NULL, ya.cuda}, &(aii_mul){&b.cuda, NULL, yb.cuda},
                  x.cuda, n);
  both_norm_gated(cpu, &on_cpu, AII_ACT_SILU, &(aii_mul){&a.cpu, NULL, ya.cpu}, &(aii_mul){&b.cpu, NULL, yb.cpu}, x.cpu,
                  n);
  assert_same(&ya, "a gate of normalised rows");
  free_both(&x), free_both(&h), free_both(&ya), free_both(&yb), free_both(&yc);
  free_weights(&a), free_weights(&b), free_weights(&c), free_weights(&w), free_weights(&bias);
  return launched;
}

static void test_normed(void **state)
{
  (void)state;
  const bool counts = both_counter("fake_cuda_kernels") != NULL;
  for (size_t t = 0; t < N_TYPES; t++)
    for (uint32_t n = 1; n < 8; n += 3) {
      unsigned long long launched = normed_case(types[t], types[t], 512, n, n == 4, false);
      const bool once = n == 1 || types[t] == AII_Q8_0 || types[t] == AII_Q4_K || types[t] == AII_MXFP4;
      if (counts) assert_true(launched <= (once ? 1 : 2));
    }
  normed_case(AII_Q4_K, AII_Q6_K, 2304, 1, false, false); /* two pieces, two formats */
  normed_case(AII_Q4_K, AII_Q6_K, 2304, 4, true, true);
  normed_case(AII_F16, AII_F16, 77, 3, false, true); /* no whole blocks */
  normed_case(AII_F32, AII_Q8_0, 2080, 1, true, false);
  normed_case(AII_Q8_0, AII_Q8_0, 5120, 4, false, false); /* too long, or too many, to be normalised on the way */
  normed_case(AII_Q8_0, AII_Q8_0, 64, 40, true, false);
  normed_case(AII_BF16, AII_Q4_0, 2048, 20, false, false);
}

/* ---- rows that come quantised ---- */

/* What was quantised with a row is not used when the row has changed, or when other rows are multiplied. */
static void test_changed_rows(void **state)
{
  (void)state;
  enum { N = 2, WIDTH = 128 };
  weights w = random_weights(AII_Q8_0, WIDTH, 48, 1), norm = random_weights(AII_F32, WIDTH, 1, 1);
  both x = random_both(N, WIDTH, 2), h = random_both(N, WIDTH, 1), y = random_both(N, 48, 1);
  cpu->ops->rms_norm(cpu, x.cpu, &norm.cpu, N, WIDTH, 1e-5f, h.cpu);
  cuda->ops->rms_norm(cuda, x.cuda, &norm.cuda, N, WIDTH, 1e-5f, h.cuda);
  cpu->ops->matmul(cpu, &w.cpu, NULL, h.cpu, N, false, y.cpu);
  cuda->ops->matmul(cuda, &w.cuda, NULL, h.cuda, N, false, y.cuda);
  assert_same(&y, "normed rows");
  cpu->ops->rms_norm(cpu, x.cpu, &norm.cpu, N, WIDTH, 1e-5f, h.cpu);
  cuda->ops->rms_norm(cuda, x.cuda, &norm.cuda, N, WIDTH, 1e-5f, h.cuda);
  cpu->ops->add(cpu, h.cpu, x.cpu, 0.5f, h.n), cuda->ops->add(cuda, h.cuda, x.cuda, 0.5f, h.n);
  cpu->ops->matmul(cpu, &w.cpu, NULL, h.cpu, N, false, y.cpu);
  cuda->ops->matmul(cuda, &w.cuda, NULL, h.cuda, N, false, y.cuda);
  assert_same(&y, "rows that changed behind their norm");
  cpu->ops->activate(cpu, AII_ACT_SILU, x.cpu, x.cpu, h.n, h.cpu);
  cuda->ops->activate(cuda, AII_ACT_SILU, x.cuda, x.cuda, h.n, h.cuda);
  cpu->ops->matmul(cpu, &w.cpu, NULL, h.cpu, 1, false, y.cpu);
  cuda->ops->matmul(cuda, &w.cuda, NULL, h.cuda, 1, false, y.cuda);
  assert_same(&y, "the first row of two");
  free_both(&x), free_both(&h), free_both(&y);
  free_weights(&w), free_weights(&norm);
}

/* ---- activations rounded to BF16: not the CPU's bits, but the same for any number of rows ---- */

static float to_bf16(float x)
{
  uint32_t u;
  memcpy(&u, &x, sizeof u);
  u = (u + 0x7fffu + (u >> 16 & 1u)) & 0xffff0000u;
  memcpy(&x, &u, sizeof x);
  return x;
}

static weights rounding_weights(uint32_t n_in, uint32_t n_out, uint32_t n_mats)
{
  weights w = random_weights(AII_BF16, n_in, n_out, n_mats);
  aiinfra_error err;
  cuda->ops->unload(cuda, &w.cuda);
  w.cuda.bf16_x = true;
  if (cuda->ops->upload(cuda, &w.cuda, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return w;
}

/* Element (row, out) as it should be, and how far it may be off: by roundings of sums of so many terms. */
static void check_rounded(const weights *w, const both *x, const float *y, uint32_t row, uint32_t out, double before)
{
  const uint16_t *bits = (const uint16_t *)w->cpu.source + (size_t)out * w->cpu.n_in;
  double sum = before, size = fabs(before);
  for (uint32_t k = 0; k < w->cpu.n_in; k++) {
    uint32_t u = (uint32_t)bits[k] << 16;
    float v;
    memcpy(&v, &u, sizeof v);
    sum += (double)v * (double)to_bf16(x->cpu[(size_t)row * x->width + k]);
    size += fabs((double)v * (double)x->cpu[(size_t)row * x->width + k]);
  }
  double got = (double)y[(size_t)row * w->cpu.n_out + out];
  if (fabs(got - sum) > 1e-5 * size) fail_msg("row %u, output %u is %.9g, should be %.9g", row, out, got, sum);
}

static void rounding_case(uint32_t n_in, uint32_t n_out, uint32_t n_rows)
{
  weights w = rounding_weights(n_in, n_out, 1), bias = random_weights(AII_F32, n_out, 1, 1);
  both x = random_both(n_rows, n_in, 2), y = random_both(n_rows, n_out, 1);
  cuda->ops->matmul(cuda, &w.cuda, NULL, x.cuda, n_rows, false, y.cuda);
  float *all = fetched(&y);
  for (uint32_t r = 0; r < n_rows; r++)
    for (uint32_t o = 0; o < n_out; o += 1 + r % 3) check_rounded(&w, &x, all, r, o, 0);
  const uint32_t parts[] = {1, 2, 7, 8, 9, 33};
  for (size_t i = 0; i < AII_COUNT(parts); i++) {
    uint32_t n = AII_MIN(parts[i], n_rows), first = (n_rows - n) / 2;
    both some = random_both(n, n_out, 1);
    cuda->ops->matmul(cuda, &w.cuda, NULL, x.cuda + (size_t)first * n_in, n, false, some.cuda);
    memcpy(some.cpu, all + (size_t)first * n_out, some.n * sizeof(float));
    assert_same(&some, "some rows of many, rounded");
    free_both(&some);
  }
  float *bias_of = (float *)(uintptr_t)bias.cpu.source;
  cuda->ops->matmul(cuda, &w.cuda, &bias.cuda, x.cuda, n_rows, true, y.cuda);
  for (size_t i = 0; i < y.n; i++) y.cpu[i] = all[i] + (all[i] + bias_of[i % n_out]);
  assert_same(&y, "a bias and what was there");
  free(all);
  free_both(&x), free_both(&y);
  free_weights(&w), free_weights(&bias);
}

static void test_rounding(void **state)
{
  (void)state;
  rounding_case(64, 35, 5);
  rounding_case(2600, 35, 20); /* more runs than are made at a time */
  rounding_case(300, 100, 100);
  rounding_case(77, 33, 40);    /* no whole fragments, rows at odd addresses */
  rounding_case(600, 300, 200); /* the largest tiles */
}

/* ---- the same with a matrix for each column: experts, and turns ---- */

/* Whose columns are: each matrix's in turn; not the last one's; nearly all one's. */
typedef enum whose { TURNS, SOME, NEARLY_ALL } whose;

typedef struct experts {
  uint32_t n_in, n_out, n_mats, n_rows, repeat;
  whose columns;
  uint32_t panels, cols; /* of a tile; 0: a column has a block */
} experts;

static uint32_t matrix_of(const experts *c, uint32_t column)
{
  if (c->columns == TURNS) return column % c->n_mats;
  if (c->columns == NEARLY_ALL && column % 16 != 0) return 1;
  return column * 5 / 16 % (c->n_mats - 1);
}

/* Rows times one matrix, by the kernel for few rows, whose results are those of a row alone. */
static float *rows_by_few(const experts *c, const weights *w, const weights *bias, uint32_t number, const both *x)
{
  aii_weight one = w->cuda, its_bias = bias->cuda;
  both y = random_both(c->n_rows, c->n_out, 1);
  one.n_mats = its_bias.n_mats = 1;
  one.device = (char *)one.device + number * (one.device_bytes / c->n_mats);
  its_bias.device = (float *)its_bias.device + (size_t)number * c->n_out;
  for (uint32_t r = 0; r < c->n_rows; r += 8)
    cuda->ops->matmul(cuda, &one, &its_bias, x->cuda + (size_t)r * c->n_in, AII_MIN(8u, c->n_rows - r), false,
                      y.cuda + (size_t)r * c->n_out);
  float *got = fetched(&y);
  free_both(&y);
  return got;
}

static unsigned long long counted(const char *name)
{
  const unsigned long long *count = both_counter(name);
  return count != NULL ? *count : 0;
}

/* Three launches, of which the last one fetches each matrix once for a tile of its columns, and a column for each tile's
 * panels. */
static void check_fetches(const experts *c, const weights *w, unsigned long long kernels, unsigned long long bytes)
{
  size_t row_bytes = ((size_t)c->n_in + 31) / 32 * 64, panels = ((size_t)c->n_out + 15) / 16,
         expected = c->cols == 0 ? 0 : (panels + c->panels - 1) / c->panels * c->n_rows * c->repeat * row_bytes;
  for (uint32_t m = 0; m < c->n_mats && c->cols > 0; m++) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n_rows * c->repeat; i++) n += matrix_of(c, i) == m;
    expected += (n + c->cols - 1) / c->cols * (w->cuda.device_bytes / c->n_mats);
  }
  if (both_counter("fake_cuda_kernels") == NULL) return; /* a real device does not count */
  assert_int_equal(kernels, c->cols > 0 ? 3 : 1);
  assert_int_equal(bytes, expected);
}

static void rounding_experts_case(const experts *c)
{
  const uint32_t n = c->n_rows * c->repeat;
  weights w = rounding_weights(c->n_in, c->n_out, c->n_mats), bias = random_weights(AII_F32, c->n_out, 1, c->n_mats);
  both x = random_both(c->n_rows, c->n_in, 1), y = random_both(n, c->n_out, 1);
  float *as_floats = floats(n, 0);
  for (uint32_t i = 0; i < n; i++) memcpy(as_floats + i, &(int32_t){(int32_t)matrix_of(c, i)}, sizeof(int32_t));
  both ids = both_of(as_floats, n, 1);
  unsigned long long kernels = counted("fake_cuda_kernels"), bytes = counted("fake_cuda_async_bytes");
  cuda->ops->matmul_ids(cuda, &w.cuda, &bias.cuda, c->columns == TURNS ? NULL : (const int32_t *)(void *)ids.cuda,
                        x.cuda, c->repeat, n, y.cuda);
  sync_both();
  check_fetches(c, &w, counted("fake_cuda_kernels") - kernels, counted("fake_cuda_async_bytes") - bytes);
  for (uint32_t m = 0; m < c->n_mats; m++) {
    float *alone = rows_by_few(c, &w, &bias, m, &x);
    for (uint32_t i = 0; i < n; i++)
      if (matrix_of(c, i) == m)
        memcpy(y.cpu + (size_t)i * c->n_out, alone + (size_t)(i / c->repeat) * c->n_out, c->n_out * sizeof *alone);
    free(alone);
  }
  assert_same(&y, "experts, rounded");
  free(as_floats);
  free_both(&x), free_both(&ids), free_both(&y);
  free_weights(&w), free_weights(&bias);
}

static void test_rounding_experts(void **state)
{
  (void)state;
  const experts cases[] = {
      {320, 40, 3, 4, 2, SOME, 0, 0},          /* too few to be sorted */
      {64, 20, 40, 60, 1, SOME, 0, 0},         /* too few of each matrix */
      {320, 40, 3, 6, 2, SOME, 4, 64},         /* few, sorted */
      {100, 70, 5, 100, 3, NEARLY_ALL, 4, 64}, /* no whole chunks, panels or tiles */
      {77, 33, 4, 70, 1, NEARLY_ALL, 4, 64},   /* rows at odd addresses */
      {288, 130, 2, 31, 4, SOME, 4, 64},       /* all are of the first matrix */
      {320, 65, 3, 300, 1, TURNS, 4, 64},
      {600, 300, 3, 200, 2, NEARLY_ALL, 8, 128}, /* the large tiles, three runs */
      {96, 100, 2, 320, 1, TURNS, 8, 128},
      {32, 17, 90, 180, 1, SOME, 4, 64}, /* many matrices */
  };
  for (size_t i = 0; i < AII_COUNT(cases); i++) rounding_experts_case(&cases[i]);
}

/* Memory to sort columns in, or for rounded rows, that is not there is told, once. */
static void test_no_room_for_experts(void **state)
{
  (void)state;
  const uint32_t n_cols[] = {8000, 24000}; /* rounded rows, or the numbers of columns as well, are more than there is */
  const char *const what[] = {"rounded rows", "scratch memory"};
  if (both_counter("fake_cuda_kernels") == NULL) test_skip("a real device has more memory");
  for (size_t i = 0; i < AII_COUNT(n_cols); i++) {
    aiinfra_error err;
    weights w = rounding_weights(2, 2, 2);
    both x = random_both(n_cols[i], 2, 1), y = random_both(n_cols[i], 2, 1);
    setenv("AIINFRA_FAKE_CUDA", "small", 1);
    cuda->ops->matmul_ids(cuda, &w.cuda, NULL, NULL, x.cuda, 1, n_cols[i], y.cuda);
    unsetenv("AIINFRA_FAKE_CUDA");
    assert_int_equal(cuda->ops->sync(cuda, &err), AIINFRA_ENOMEM);
    assert_non_null(strstr(err.message, what[i]));
    assert_int_equal(cuda->ops->sync(cuda, &err), AIINFRA_OK);
    free_both(&x), free_both(&y);
    free_weights(&w);
  }
}

/* A norm within products is the one before them. */
static void rounding_after_norm(const aii_mul *gate, const aii_mul *up, const both *x, uint32_t n)
{
  const uint32_t width = gate->w->n_in, out = gate->w->n_out;
  const unsigned long long *kernels = both_counter("fake_cuda_kernels");
  weights w = random_weights(AII_F32, width, 1, 1);
  both h = random_both(n, width, 1), y = random_both(n, out, 1);
  const aii_norm norm = {&w.cuda, NULL, 1e-5f, false, h.cuda};
  const aii_mul first = {gate->w, gate->bias, y.cuda};
  cuda->ops->rms_norm(cuda, x->cuda, &w.cuda, n, width, 1e-5f, h.cuda);
  cuda->ops->matmuls(cuda, &first, 1, h.cuda, n);
  float *want = fetched(&y);
  memcpy(y.cpu, want, y.n * sizeof *want);
  const unsigned long long before = kernels != NULL ? *kernels : 0;
  cuda->ops->norm_matmuls(cuda, &norm, &first, 1, x->cuda, n);
  if (kernels != NULL && n == 1) assert_int_equal(*kernels - before, 1);
  assert_same(&y, "a product of normalised rows, rounded");
  free(want);
  cuda->ops->rms_norm(cuda, x->cuda, &w.cuda, n, width, 1e-5f, h.cuda);
  cuda->ops->gated(cuda, AII_ACT_SILU, &first, up, h.cuda, n);
  want = fetched(&y);
  memcpy(y.cpu, want, y.n * sizeof *want);
  cuda->ops->norm_gated(cuda, &norm, AII_ACT_SILU, &first, up, x->cuda, n);
  assert_same(&y, "a gate of normalised rows, rounded");
  free(want);
  free_both(&h), free_both(&y);
  free_weights(&w);
}

/* Together and gated they are what they are one by one. */
static void test_rounding_together(void **state)
{
  (void)state;
  enum { WIDTH = 288, OUT = 50 };
  const uint32_t rows[] = {1, 8, 9, 60};
  for (size_t i = 0; i < AII_COUNT(rows); i++) {
    const uint32_t n = rows[i];
    weights g = rounding_weights(WIDTH, OUT, 1), u = rounding_weights(WIDTH, OUT, 1),
            bias = random_weights(AII_F32, OUT, 1, 1);
    both x = random_both(n, WIDTH, 1), yg = random_both(n, OUT, 1), yu = random_both(n, OUT, 1);
    cuda->ops->matmul(cuda, &g.cuda, &bias.cuda, x.cuda, n, false, yg.cuda);
    cuda->ops->matmul(cuda, &u.cuda, NULL, x.cuda, n, false, yu.cuda);
    float *a = fetched(&yg), *b = fetched(&yu);
    const aii_mul gate = {&g.cuda, &bias.cuda, yg.cuda}, up = {&u.cuda, NULL, yu.cuda};
    cuda->ops->matmuls(cuda, (aii_mul[]){gate, up}, 2, x.cuda, n);
    memcpy(yg.cpu, a, yg.n * sizeof *a), memcpy(yu.cpu, b, yu.n * sizeof *b);
    assert_same(&yg, "the first of two, rounded"), assert_same(&yu, "the second");
    cuda->ops->gated(cuda, AII_ACT_SILU, &gate, &up, x.cuda, n);
    cpu->ops->activate(cpu, AII_ACT_SILU, a, b, yg.n, yg.cpu);
    assert_same(&yg, "gated, rounded");
    free(a), free(b);
    rounding_after_norm(&gate, &up, &x, n);
    free_both(&x), free_both(&yg), free_both(&yu);
    free_weights(&g), free_weights(&u), free_weights(&bias);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_products),
      cmocka_unit_test(test_together),
      cmocka_unit_test(test_gated),
      cmocka_unit_test(test_normed),
      cmocka_unit_test(test_changed_rows),
      cmocka_unit_test(test_rounding),
      cmocka_unit_test(test_rounding_experts),
      cmocka_unit_test(test_no_room_for_experts),
      cmocka_unit_test(test_rounding_together),
  };
  return cmocka_run_group_tests(tests, both_set_up, both_tear_down);
}
