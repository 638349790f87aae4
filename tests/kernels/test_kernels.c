/* test_kernels.c - every variant against the reference, and the reference against its definitions.
 *
 * The tables promise equal bits (kernels.h), so the stated tolerance between variants is zero; only the sign of a zero
 * is free. The reference itself is compared with double precision. Inputs end at a page that may not be touched and
 * outputs are surrounded by guard bytes, so that reading or writing too far fails.
 *
 * `test_kernels --bench [FORMAT]` prints rates beside the memory bandwidth measured in the same run.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "kernels/ref/ref.h"
#include "kernels/x86/x86.h"
#include "tests/kernels/bf16.h"
#include "tests/kernels/emulated.h"
#include "tests/kernels/rates.h"
#include "tests/support/support.h"

#define GUARD 64
#define MAX_VARIANTS 4

static const aii_kernels *variants[MAX_VARIANTS];
static int n_variants;
static unsigned long long seed;

/* ---- memory that ends at a forbidden page ---- */

typedef struct fence {
  void *map, *data;
  size_t map_bytes, bytes;
} fence;

static fence fence_new(size_t bytes)
{
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  size_t body = (bytes + page - 1) / page * page + page;
  fence f = {.map_bytes = body + page, .bytes = bytes};
  f.map = mmap(NULL, f.map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  assert_true(f.map != MAP_FAILED);
  assert_int_equal(mprotect((char *)f.map + body, page, PROT_NONE), 0);
  f.data = (char *)f.map + body - bytes;
  return f;
}

static void fence_free(fence f)
{
  munmap(f.map, f.map_bytes);
}

/* Output: guard bytes, the fence behind them. */
static fence out_new(size_t bytes)
{
  fence f = fence_new(bytes + 2 * GUARD);
  memset(f.data, 0xa5, bytes + 2 * GUARD);
  f.data = (char *)f.data + GUARD;
  f.bytes = bytes;
  return f;
}

static void out_check(fence f)
{
  const unsigned char *p = f.data;
  for (size_t i = 1; i <= GUARD; i++) assert_int_equal(p[-(ptrdiff_t)i], 0xa5);
  for (size_t i = 0; i < GUARD; i++) assert_int_equal(p[f.bytes + i], 0xa5);
}

/* ---- random values ---- */

static size_t below(size_t n)
{
  return (size_t)(test_random(&seed) % n);
}

static float uniform(void)
{
  return (float)(test_random(&seed) >> 40) * 0x1p-23f - 1.0f;
}

static void fill(float *x, size_t n)
{
  for (size_t i = 0; i < n; i++) x[i] = uniform() * (below(8) == 0 ? 8.0f : 1.0f);
}

static fence random_floats(size_t n)
{
  fence f = fence_new(n * sizeof(float));
  fill(f.data, n);
  return f;
}

/* rows of n elements in a format, from random values; formats that cannot be written get random bytes, whose halves,
 * doubles and scales are all below 2 */
static fence random_weights(aii_fmt fmt, size_t rows, size_t n)
{
  size_t bytes = aii_fmt_row_bytes(fmt, n);
  fence f = fence_new(rows * bytes);
  float *x = malloc(n * sizeof *x);
  aii_encode_fn encode = aii_fmt_info(stored_as(fmt))->encode;
  for (size_t r = 0; encode != NULL && r < rows; r++) {
    fill(x, n);
    encode(x, NULL, n, (char *)f.data + r * bytes);
  }
  for (size_t i = 0; encode == NULL && i < rows * bytes; i++) ((unsigned char *)f.data)[i] = (unsigned char)below(64);
  free(x);
  return f;
}

/* A row's length: some blocks, with lanes left over where blocks allow it. */
static size_t random_length(aii_fmt fmt, size_t most)
{
  size_t block = aii_fmt_info(stored_as(fmt))->block;
  return block == 1 ? 1 + below(most) : block * (1 + below(block >= 128 ? 3 : most / 32 + 3));
}

static void assert_same(const char *what, const aii_kernels *k, const float *want, const float *got, size_t n)
{
  for (size_t i = 0; i < n; i++) {
    if (memcmp(&want[i], &got[i], sizeof *want) == 0 || (want[i] == 0 && got[i] == 0)) continue;
    fail_msg("%s, %s: element %zu of %zu is %a, reference %a", k->name, what, i, n, (double)got[i], (double)want[i]);
  }
}

/* ---- definitions ---- */

static void test_known_blocks(void **state)
{
  (void)state;
  unsigned char q8[34] = {0x00, 0x38}, q4[18] = {0x00, 0xbc}; /* scales 0.5 and -1 */
  float out[32];
  q8[2] = 127;
  q8[3] = 0x80;
  q8[33] = 0xff;
  q4[2] = 0x0f;
  q4[17] = 0x90;
  for (int v = -1; v < n_variants; v++) {
    const aii_kernels *k = v < 0 ? &aii_kernels_ref : variants[v];
    k->dequant[AII_FMT_Q8_0](q8, 32, out);
    assert_true(out[0] == 63.5f && out[1] == -64.0f && out[2] == 0 && out[31] == -0.5f);
    k->dequant[AII_FMT_Q4_0](q4, 32, out);
    assert_true(out[0] == -7 && out[16] == 8 && out[1] == 8 && out[15] == 8 && out[31] == -1);
    uint16_t halves[4] = {0x3c00, 0x8001, 0x7bff, 0xfc00}, brains[2] = {0x3f80, 0xc049};
    k->dequant[AII_FMT_F16](halves, 4, out);
    assert_true(out[0] == 1 && out[1] == -0x1p-24f && out[2] == 65504 && out[3] == -INFINITY);
    k->dequant[AII_FMT_BF16](brains, 2, out);
    assert_true(out[0] == 1 && out[1] == -3.140625f);
  }
}

static void test_known_quantisation(void **state)
{
  (void)state;
  float x[32] = {0};
  unsigned char q8[34], q4[18];
  uint16_t h[6];
  x[0] = -127;
  x[1] = 0.5f; /* half away from zero */
  x[2] = 126.4f;
  aii_kernels_ref.quant[AII_FMT_Q8_0](x, 32, q8);
  assert_true(q8[0] == 0x00 && q8[1] == 0x3c && (int8_t)q8[2] == -127 && q8[3] == 1 && q8[4] == 126 && q8[5] == 0);
  x[0] = 16;
  x[1] = -4;
  x[2] = 0;
  aii_kernels_ref.quant[AII_FMT_Q4_0](x, 32, q4);
  assert_true(q4[0] == 0x00 && q4[1] == 0xc0 && q4[2] == 0x80 && q4[3] == 0x8a && q4[4] == 0x88);
  float f[6] = {1.0f, 65520.0f, 0x1p-25f, 0x1.8p-25f, 0x1.002p0f, 0x1.006p0f};
  aii_kernels_ref.quant[AII_FMT_F16](f, 6, h);
  assert_true(h[0] == 0x3c00 && h[1] == 0x7c00 && h[2] == 0 && h[3] == 1 && h[4] == 0x3c00 && h[5] == 0x3c02);
  float b[3] = {0x1.01p0f, 0x1.03p0f, NAN};
  aii_kernels_ref.quant[AII_FMT_BF16](b, 3, h);
  assert_true(h[0] == 0x3f80 && h[1] == 0x3f82 && (h[2] & 0x7fff) > 0x7f80);
  float hostile[32] = {NAN, INFINITY, -INFINITY, 1e38f};
  aii_kernels_ref.quant[AII_FMT_Q8_0](hostile, 32, q8);
  aii_kernels_ref.quant[AII_FMT_Q4_0](hostile, 32, q4);
}

static void test_every_half(void **state)
{
  (void)state;
  uint16_t *all = malloc(65536 * sizeof *all), *back = malloc(65536 * sizeof *back);
  float *want = malloc(65536 * sizeof *want), *got = malloc(65536 * sizeof *got);
  for (unsigned i = 0; i < 65536; i++) all[i] = (uint16_t)i;
  aii_kernels_ref.dequant[AII_FMT_F16](all, 65536, want);
  for (unsigned i = 0; i < 65536; i++) { /* by the definition of the format */
    int e = (i >> 10) & 31;
    double m = e == 0 ? ldexp(i & 1023, -24) : ldexp(1024 + (i & 1023), e - 25);
    if (e < 31) assert_true((double)want[i] == ((i & 0x8000) != 0 ? -m : m));
  }
  aii_kernels_ref.quant[AII_FMT_F16](want, 65536, back);
  for (unsigned i = 0; i < 65536; i++)
    assert_true(back[i] == all[i] || ((all[i] & 0x7fff) > 0x7c00 && back[i] == (all[i] | 0x200)));
  for (int v = 0; v < n_variants; v++) {
    variants[v]->dequant[AII_FMT_F16](all, 65536, got);
    assert_memory_equal(got, want, 65536 * sizeof *got);
  }
  free(all);
  free(back);
  free(want);
  free(got);
}

static void test_exp_accuracy(void **state)
{
  (void)state;
  double worst = 0;
  for (float x = -86; x < 88.7f; x += 0.00137f) {
    double exact = exp((double)x), ulp = ldexp(1, ilogb(exact) - 23);
    double off = fabs((double)aii_ref_exp1(x) - exact) / ulp;
    worst = off > worst ? off : worst;
  }
  assert_true(worst < 2);
  assert_true(aii_ref_exp1(-INFINITY) == 0 && aii_ref_exp1(100) == INFINITY && isnan(aii_ref_exp1(NAN)));
  assert_true(aii_ref_exp1(0) == 1);
}

/* Rows as products take them: panels, or the rows themselves. *stride is that of a panel or a row. */
static fence weights_for_product(aii_fmt fmt, fence rows, uint32_t n_rows, size_t n, size_t *stride)
{
  size_t row = aii_fmt_row_bytes(fmt, n), panel = aii_panel_bytes(fmt, n);
  *stride = panel != 0 ? panel : row;
  if (panel == 0) {
    fence same = fence_new(n_rows * row);
    memcpy(same.data, rows.data, n_rows * row);
    return same;
  }
  uint32_t panels = (n_rows + AII_PANEL - 1) / AII_PANEL;
  fence f = fence_new(panels * panel);
  for (uint32_t i = 0; i < panels; i++) {
    uint32_t left = n_rows - i * AII_PANEL;
    aii_panel_pack(fmt, (const char *)rows.data + i * AII_PANEL * row, row, left < AII_PANEL ? left : AII_PANEL, n,
                   (char *)f.data + i * panel);
  }
  return f;
}

/* Columns as products take them. */
static fence columns_for_product(aii_fmt fmt, const float *x, size_t n, uint32_t cols, size_t *stride)
{
  *stride = column_bytes(fmt, n);
  fence f = fence_new(*stride * cols);
  memset(f.data, 0, *stride * cols);
  for (uint32_t c = 0; c < cols; c++) make_column(&aii_kernels_ref, fmt, x + c * n, n, (char *)f.data + c * *stride);
  return f;
}

/* The reference's products against double precision: rounding of n terms, and of quantised activations. */
static void test_reference_products(void **state)
{
  (void)state;
  enum { ROWS = 21 };
  for (int f = 0; f < AII_FMT_PRODUCTS; f++) {
    aii_fmt fmt = (aii_fmt)f;
    size_t n = 768, stride, x_stride;
    float y[ROWS], *row = malloc(n * sizeof *row);
    fence x = random_floats(n), rows = random_weights(fmt, ROWS, n);
    fence w = weights_for_product(fmt, rows, ROWS, n, &stride), xs = columns_for_product(fmt, x.data, n, 1, &x_stride);
    aii_product p = {
        .w = w.data, .w_stride = stride, .x = xs.data, .n_in = (uint32_t)n, .n_rows = ROWS, .n_cols = 1, .y = y};
    aii_kernels_ref.product[f](&p);
    for (size_t r = 0; r < ROWS; r++) {
      double sum = 0, size = 0;
      aii_kernels_ref.dequant[stored_as(fmt)]((const char *)rows.data + r * aii_fmt_row_bytes(fmt, n), n, row);
      for (size_t i = 0; i < n; i++) {
        sum += (double)row[i] * (double)((float *)x.data)[i];
        size += fabs((double)row[i] * (double)((float *)x.data)[i]);
      }
      double rounding = fmt == AII_FMT_BF16_PAIRS ? 0.004 : aii_fmt_takes_q8(fmt) ? 0.02 : 1e-5;
      if (!(fabs((double)y[r] - sum) < size * rounding))
        fail_msg("%s, row %zu: %g, should be %g", name_of(fmt), r, (double)y[r], sum);
    }
    free(row);
    fence all[] = {x, rows, w, xs};
    for (size_t i = 0; i < 4; i++) fence_free(all[i]);
  }
}

/* ---- variants against the reference ---- */

static void test_rows(void **state)
{
  (void)state;
  for (int v = 0; v < n_variants; v++) {
    const aii_kernels *k = variants[v];
    for (int round = 0; round < 20 * AII_FMT_COUNT; round++) {
      aii_fmt fmt = (aii_fmt)(round % AII_FMT_COUNT);
      size_t n = random_length(fmt, 200);
      size_t bytes = aii_fmt_row_bytes(fmt, n);
      fence w = random_weights(fmt, 1, n), x = random_floats(n);
      fence want = out_new(n * 4), got = out_new(n * 4), packed = out_new(bytes), ref = out_new(bytes);
      aii_kernels_ref.dequant[fmt](w.data, n, want.data);
      k->dequant[fmt](w.data, n, got.data);
      assert_memory_equal(want.data, got.data, n * 4);
      out_check(want);
      out_check(got);
      if (fmt < AII_FMT_QUANT) {
        aii_kernels_ref.quant[fmt](x.data, n, ref.data);
        k->quant[fmt](x.data, n, packed.data);
        assert_memory_equal(ref.data, packed.data, bytes);
      } else if (aii_fmt_info(fmt)->encode != NULL) {
        aii_fmt_info(fmt)->encode(x.data, round % 2 != 0 ? want.data : NULL, n, packed.data);
      }
      out_check(packed);
      fence all[] = {w, x, want, got, packed, ref};
      for (size_t i = 0; i < 6; i++) fence_free(all[i]);
    }
  }
}

static void test_quant_q8(void **state)
{
  (void)state;
  for (int v = 0; v < n_variants; v++) {
    for (size_t n = 1; n < 200; n++) {
      size_t n64 = (n + 63) / 64 * 64, bytes = n64 + n64 / 8 * 5;
      fence x = random_floats(n), want = out_new(bytes), got = out_new(bytes);
      if (below(4) == 0) memset(x.data, 0, n * 4);
      aii_kernels_ref.quant_q8(x.data, n, want.data);
      variants[v]->quant_q8(x.data, n, got.data);
      assert_memory_equal(want.data, got.data, bytes);
      out_check(got);
      fence_free(x);
      fence_free(want);
      fence_free(got);
    }
  }
}

static void product_round(const aii_kernels *k, aii_fmt fmt, uint32_t most_cols)
{
  size_t n = random_length(fmt, most_cols > 20 ? 1500 : 150), stride, x_stride;
  uint32_t rows = 1 + (uint32_t)below(37), cols = 1 + (uint32_t)below(most_cols);
  fence plain = random_weights(fmt, rows, n), xf = random_floats(n * cols), bias = random_floats(rows);
  fence w = weights_for_product(fmt, plain, rows, n, &stride),
        x = columns_for_product(fmt, xf.data, n, cols, &x_stride);
  size_t y_stride = rows + below(3), y_n = (cols - 1) * y_stride + rows;
  fence want = out_new(y_n * 4), got = out_new(y_n * 4), one = out_new((size_t)rows * 4);
  void *work = aligned_alloc(64, AII_PRODUCT_WORK);
  uint32_t *turned = malloc(cols * sizeof *turned);
  for (uint32_t c = 0; c < cols; c++) turned[c] = cols - 1 - c;
  fill(want.data, y_n);
  memcpy(got.data, want.data, y_n * 4);
  aii_product p = {.w = w.data,
                   .w_stride = stride,
                   .n_in = (uint32_t)n,
                   .n_rows = rows,
                   .x = x.data,
                   .x_stride = x_stride,
                   .n_cols = cols,
                   .accumulate = below(2) == 0,
                   .bias = below(2) == 0 ? bias.data : NULL,
                   .y = want.data,
                   .y_stride = y_stride,
                   .work = work};
  uint32_t c = (uint32_t)below(cols);
  memcpy(one.data, (float *)want.data + c * y_stride, (size_t)rows * 4);
  aii_kernels_ref.product[fmt](&p);
  p.y = got.data;
  if (below(2) == 0) p.x_index = p.y_index = turned;
  k->product[fmt](&p);
  assert_same(name_of(fmt), k, want.data, got.data, y_n);
  out_check(got);

  /* a column alone gives the same bits */
  p.x = (const char *)x.data + c * x_stride;
  p.x_index = p.y_index = NULL;
  p.n_cols = 1;
  p.y = one.data;
  k->product[fmt](&p);
  assert_memory_equal(one.data, (float *)got.data + c * y_stride, (size_t)rows * 4);
  out_check(one);
  free(work);
  free(turned);
  fence all[] = {plain, xf, bias, w, x, want, got, one};
  for (size_t i = 0; i < 8; i++) fence_free(all[i]);
}

static void test_products(void **state)
{
  (void)state;
  for (int v = 0; v < n_variants; v++) {
    for (int fmt = 0; fmt < AII_FMT_PRODUCTS; fmt++) {
      if (!multiplies(variants[v], (aii_fmt)fmt)) continue;
      for (int round = 0; round < 40; round++) product_round(variants[v], (aii_fmt)fmt, 12);
      for (int round = 0; round < 8; round++) product_round(variants[v], (aii_fmt)fmt, 20);
      for (int round = 0; round < 6; round++) product_round(variants[v], (aii_fmt)fmt, 150);
      for (int round = 0; fmt == AII_FMT_BF16_PAIRS && round < 4; round++)
        product_round(variants[v], (aii_fmt)fmt, 600); /* more than a group of them */
    }
  }
}

/* The extremes of codes and activations, where sixteen-bit sums would overflow first. */
static void test_product_extremes(void **state)
{
  (void)state;
  enum { N = 256, COLS = 16, SUMS = COLS * AII_PANEL };
  void *work = aligned_alloc(64, AII_PRODUCT_WORK);
  for (int f = AII_FMT_Q8_0; f < AII_FMT_PACKED; f++) {
    for (int fill_with = 0; fill_with < 4; fill_with++) {
      static const unsigned char bytes[4] = {0xff, 0x80, 0x7f, 0x00};
      aii_fmt fmt = (aii_fmt)f;
      size_t row = aii_fmt_row_bytes(fmt, N), stride, x_stride;
      float ones[COLS * N], want[SUMS], got[SUMS];
      fence rows = fence_new(AII_PANEL * row);
      memset(rows.data, bytes[fill_with], AII_PANEL * row);
      for (size_t at = 0; at < AII_PANEL * row; at += aii_fmt_info(fmt)->block_bytes) { /* scales that are finite */
        unsigned char *block = (unsigned char *)rows.data + at;
        size_t last = aii_fmt_info(fmt)->block_bytes - 2;
        for (size_t i = 0; i < 4 && fmt != AII_FMT_Q6_K; i++)
          if (i < 2 || (fmt != AII_FMT_Q8_0 && fmt != AII_FMT_Q4_0 && fmt != AII_FMT_Q5_0 && fmt != AII_FMT_IQ4_NL))
            block[i] = i % 2 != 0 ? 0x3c : 0;
        if (fmt == AII_FMT_MXFP4) block[0] = 127;
        if (fmt == AII_FMT_Q6_K) block[last] = 0, block[last + 1] = 0x3c;
      }
      for (int i = 0; i < COLS * N; i++) ones[i] = i % 64 < 40 ? 1 : -1;
      fence w = weights_for_product(fmt, rows, AII_PANEL, N, &stride),
            x = columns_for_product(fmt, ones, N, COLS, &x_stride);
      aii_product p = {.w = w.data,
                       .w_stride = stride,
                       .x = x.data,
                       .x_stride = x_stride,
                       .n_in = N,
                       .n_rows = AII_PANEL,
                       .n_cols = COLS,
                       .y = want,
                       .y_stride = AII_PANEL,
                       .work = work};
      aii_kernels_ref.product[f](&p);
      p.y = got;
      for (int v = 0; v < n_variants; v++) {
        variants[v]->product[f](&p);
        assert_same("extremes", variants[v], want, got, SUMS);
      }
      fence all[] = {rows, w, x};
      for (size_t i = 0; i < 3; i++) fence_free(all[i]);
    }
  }
  free(work);
}

static void element_round(const aii_kernels *k, size_t n)
{
  fence x = random_floats(n), w = random_floats(n), want = out_new(n * 4), got = out_new(n * 4);
  const aii_kernels *ref = &aii_kernels_ref;
  const float *weights = below(3) == 0 ? NULL : w.data;
  ref->rms_norm(x.data, weights, (uint32_t)n, 1e-5f, want.data);
  k->rms_norm(x.data, weights, (uint32_t)n, 1e-5f, got.data);
  assert_same("rms_norm", k, want.data, got.data, n);
  ref->layer_norm(x.data, w.data, weights, (uint32_t)n, 1e-5f, want.data);
  k->layer_norm(x.data, w.data, weights, (uint32_t)n, 1e-5f, got.data);
  assert_same("layer_norm", k, want.data, got.data, n);
  ref->silu_mul(x.data, w.data, n, want.data);
  k->silu_mul(x.data, w.data, n, got.data);
  assert_same("silu_mul", k, want.data, got.data, n);
  ref->swiglu_oai(x.data, w.data, n, want.data);
  k->swiglu_oai(x.data, w.data, n, got.data);
  assert_same("swiglu_oai", k, want.data, got.data, n);
  ref->gelu_mul(x.data, weights, n, want.data);
  k->gelu_mul(x.data, weights, n, got.data);
  assert_same("gelu_mul", k, want.data, got.data, n);
  ref->softcap(want.data, 0.7f, n);
  k->softcap(got.data, 0.7f, n);
  assert_same("softcap", k, want.data, got.data, n);
  ref->add_scaled(want.data, w.data, 0.3f, n);
  k->add_scaled(got.data, w.data, 0.3f, n);
  assert_same("add_scaled", k, want.data, got.data, n);
  ref->add(want.data, w.data, n);
  k->add(got.data, w.data, n);
  assert_same("add", k, want.data, got.data, n);
  ref->scale(want.data, 1.7f, n);
  k->scale(got.data, 1.7f, n);
  assert_same("scale", k, want.data, got.data, n);
  float m = ref->max(x.data, n);
  assert_true(m == k->max(x.data, n));
  memcpy(want.data, x.data, n * 4);
  memcpy(got.data, x.data, n * 4);
  ((float *)want.data)[below(n)] = -INFINITY;
  memcpy(got.data, want.data, n * 4);
  float a = ref->exp_sum(want.data, n, m), b = k->exp_sum(got.data, n, m);
  assert_same("exp_sum", k, want.data, got.data, n);
  assert_same("exp_sum's sum", k, &a, &b, 1);
  for (size_t i = 0; i < n; i++) ((float *)x.data)[i] = uniform() * 100;
  ref->exp(x.data, n, want.data);
  k->exp(x.data, n, got.data);
  assert_same("exp", k, want.data, got.data, n);
  out_check(got);
  fence all[] = {x, w, want, got};
  for (size_t i = 0; i < 4; i++) fence_free(all[i]);
}

static void test_elements(void **state)
{
  (void)state;
  for (int v = 0; v < n_variants; v++)
    for (size_t n = 1; n < 150; n++) element_round(variants[v], n);
}

static void test_rope(void **state)
{
  (void)state;
  for (int v = 0; v < n_variants; v++) {
    for (int round = 0; round < 200; round++) {
      uint32_t heads = 1 + (uint32_t)below(4), half = 1 + (uint32_t)below(40), dim = 2 * half + (uint32_t)below(9);
      size_t n = (size_t)heads * dim;
      fence c = random_floats(half), s = random_floats(half), x = random_floats(n);
      fence want = out_new(n * 4), got = out_new(n * 4);
      bool neox = below(2) == 0;
      memcpy(want.data, x.data, n * 4);
      memcpy(got.data, x.data, n * 4);
      (neox ? aii_kernels_ref.rope_neox : aii_kernels_ref.rope_norm)(want.data, heads, dim, 2 * half, c.data, s.data);
      (neox ? variants[v]->rope_neox : variants[v]->rope_norm)(got.data, heads, dim, 2 * half, c.data, s.data);
      assert_same(neox ? "rope_neox" : "rope_norm", variants[v], want.data, got.data, n);
      out_check(got);
      fence all[] = {c, s, x, want, got};
      for (size_t i = 0; i < 5; i++) fence_free(all[i]);
    }
  }
}

#define TILE AII_ATTN_TILE
#define TILE_GROUPS (AII_ATTN_TILE / AII_ATTN_GROUP)

/* Random rows of a tile, put into groups; some are one in two places. */
typedef struct groups {
  fence bytes;
  const void *at[TILE_GROUPS];
  aii_attn_tile tile;
} groups;

static groups random_groups(aii_attn_part part, aii_fmt fmt, uint32_t dim, uint32_t n)
{
  size_t row = aii_fmt_row_bytes(fmt, dim), group = AII_ATTN_GROUP * row;
  groups g = {.bytes = out_new(n * group)};
  for (uint32_t i = 0; i < n; i++) {
    char *p = (char *)g.bytes.data + i * group, back[4 * 256];
    for (uint32_t j = 0; j < AII_ATTN_GROUP; j++) {
      fence x = random_weights(fmt, 1, dim);
      aii_attn_put(part, fmt, dim, x.data, p, AII_ATTN_GROUP, j);
      aii_attn_get(part, fmt, dim, p, AII_ATTN_GROUP, j, back);
      assert_memory_equal(back, x.data, row);
      fence_free(x);
    }
    g.at[i] = below(8) == 0 ? g.bytes.data : p;
  }
  out_check(g.bytes);
  g.tile = (aii_attn_tile){fmt, dim, n, NULL, NULL};
  return g;
}

static void scores_round(const aii_kernels *k, aii_fmt fmt, uint32_t n_q, uint32_t n)
{
  uint32_t dim = (uint32_t)random_length(fmt, 140);
  size_t n_x = (size_t)n_q * dim, n_scores = (size_t)(n_q - 1) * TILE + n * AII_ATTN_GROUP;
  fence x = random_floats(n_x), q = out_new(n_x * 4), other = out_new(n_x * 4), want = out_new(n_scores * 4),
        got = out_new(n_scores * 4);
  groups keys = random_groups(AII_ATTN_KEYS, fmt, dim, n);
  keys.tile.groups = keys.at;
  keys.tile.next = below(2) == 0 ? NULL : keys.at;
  memset(q.data, 0, n_x * 4);
  memset(other.data, 0, n_x * 4);
  for (uint32_t i = 0; i < n_q; i++) {
    aii_kernels_ref.attn_query(fmt, (float *)x.data + i * dim, dim, 0.125f, (float *)q.data + i * dim);
    k->attn_query(fmt, (float *)x.data + i * dim, dim, 0.125f, (float *)other.data + i * dim);
  }
  assert_same("attn_query", k, q.data, other.data, fmt == AII_FMT_Q8_0 ? 0 : n_x);
  if (fmt == AII_FMT_Q8_0) assert_memory_equal(q.data, other.data, n_x * 4);
  aii_kernels_ref.attn_scores(&keys.tile, q.data, n_q, want.data, TILE);
  k->attn_scores(&keys.tile, q.data, n_q, got.data, TILE);
  for (uint32_t i = 0; i < n_q; i++)
    assert_same("attn_scores", k, (float *)want.data + i * TILE, (float *)got.data + i * TILE, n * AII_ATTN_GROUP);
  fence outs[] = {q, other, want, got, keys.bytes};
  for (size_t i = 0; i < 5; i++) {
    out_check(outs[i]);
    fence_free(outs[i]);
  }
  fence_free(x);
}

/* The same softmax step and values by the reference and by k. */
static void values_round(const aii_kernels *k, aii_fmt fmt, uint32_t n_q, uint32_t n)
{
  uint32_t dim = (uint32_t)random_length(fmt, 140), first = (uint32_t)below(16 * n);
  size_t n_acc = (size_t)n_q * dim, n_scores = (size_t)(n_q - 1) * TILE + n * AII_ATTN_GROUP;
  groups values = random_groups(AII_ATTN_VALUES, fmt, dim, n);
  fence scores = random_floats(n_scores), acc = random_floats(n_acc), m = random_floats(n_q);
  fence l = random_floats((size_t)n_q * 16), from[] = {scores, acc, m, l}, want[4], got[4];
  size_t counts[] = {n_scores, n_acc, n_q, (size_t)n_q * 16};
  for (int i = 0; i < 4; i++) {
    want[i] = out_new(counts[i] * 4);
    got[i] = out_new(counts[i] * 4);
    memcpy(want[i].data, from[i].data, counts[i] * 4);
    memcpy(got[i].data, from[i].data, counts[i] * 4);
  }
  values.tile.groups = values.at;
  values.tile.next = below(2) == 0 ? NULL : values.at;
  aii_attn_state s = {n_q,
                      dim,
                      first,
                      first + 1 + (uint32_t)below(16 * n - first),
                      want[0].data,
                      TILE,
                      want[2].data,
                      want[3].data,
                      want[1].data,
                      NULL,
                      0};
  aii_attn_state other = s;
  other.scores = got[0].data;
  other.acc = got[1].data;
  other.m = got[2].data;
  other.l = got[3].data;
  if (values.tile.next != NULL) {
    other.next = *values.at;
    other.next_bytes = 1 + below(1000);
  }
  aii_kernels_ref.attn_soften(&s);
  k->attn_soften(&other);
  for (uint32_t i = 0; i < n_q; i++)
    assert_same("attn_soften", k, s.scores + i * TILE + s.first, other.scores + i * TILE + s.first, s.end - s.first);
  aii_kernels_ref.attn_values(&values.tile, &s);
  k->attn_values(&values.tile, &other);
  for (int i = 0; i < 4; i++) {
    assert_same("attn_values", k, want[i].data, got[i].data, i == 0 ? 0 : counts[i]);
    out_check(got[i]);
    fence_free(want[i]);
    fence_free(got[i]);
    fence_free(from[i]);
  }
  fence_free(values.bytes);
}

static void attention_round(const aii_kernels *k, aii_fmt fmt)
{
  uint32_t n_q = 1 + (uint32_t)below(9), n = 1 + (uint32_t)below(TILE_GROUPS);
  scores_round(k, fmt, n_q, n);
  values_round(k, fmt, n_q, n);
}

/* Codes of all values, their rows apart and in any order; one at the very end of memory. */
static void codes_round(const aii_kernels *k)
{
  enum { MOST = 11 };
  uint32_t n = 1 + (uint32_t)below(MOST), dim = AII_CODE_BLOCK * (1 + (uint32_t)below(below(8) == 0 ? 1024 : 14));
  bool extreme = below(4) == 0;
  fence q = fence_new(dim), rows[MOST], want = out_new(n * 4), got = out_new(n * 4);
  const uint8_t *at[MOST];
  uint8_t *query = (uint8_t *)q.data;
  int64_t start = 0;
  for (uint32_t i = 0; i < dim; i++) query[i] = (uint8_t)(extreme ? 1 : 1 + below(255));
  for (uint32_t i = 0; i < dim; i++) start -= 128 * (query[i] - 128);
  for (uint32_t r = 0; r < n; r++) {
    rows[r] = fence_new(dim);
    at[r] = (const uint8_t *)rows[r].data;
    for (uint32_t i = 0; i < dim; i++) ((uint8_t *)rows[r].data)[i] = (uint8_t)(extreme ? 255 : 1 + below(255));
  }
  aii_kernels_ref.vec_codes(at, n, query, dim, (int32_t)start, want.data);
  k->vec_codes(at, n, query, dim, (int32_t)start, got.data);
  for (uint32_t r = 0; r < n; r++) assert_int_equal(((int32_t *)want.data)[r], ((int32_t *)got.data)[r]);
  out_check(got);
  for (uint32_t r = 0; r < n; r++) fence_free(rows[r]);
  fence all[] = {q, want, got};
  for (size_t i = 0; i < 3; i++) fence_free(all[i]);
}

static void vector_round(const aii_kernels *k)
{
  uint32_t n = 1 + (uint32_t)below(64), dim = 1 + (uint32_t)below(140);
  fence x = random_floats(dim), rows = random_floats((size_t)n * dim), want = out_new(n * 4), got = out_new(n * 4);
  aii_kernels_ref.vec_l2sq(rows.data, dim, n, x.data, dim, want.data);
  k->vec_l2sq(rows.data, dim, n, x.data, dim, got.data);
  assert_same("vec_l2sq", k, want.data, got.data, n);
  aii_kernels_ref.vec_dot(rows.data, dim, n, x.data, dim, want.data);
  k->vec_dot(rows.data, dim, n, x.data, dim, got.data);
  assert_same("vec_dot", k, want.data, got.data, n);
  out_check(got);
  fence all[] = {x, rows, want, got};
  for (size_t i = 0; i < 4; i++) fence_free(all[i]);
}

static void test_attention_and_vectors(void **state)
{
  (void)state;
  for (int v = 0; v < n_variants; v++)
    for (int round = 0; round < 100; round++) {
      attention_round(variants[v], AII_FMT_F32);
      attention_round(variants[v], AII_FMT_F16);
      attention_round(variants[v], AII_FMT_Q8_0);
      vector_round(variants[v]);
      codes_round(variants[v]);
    }
}

static void test_selection(void **state)
{
  (void)state;
  assert_ptr_equal(aii_kernels_get(AIINFRA_ISA_REF), &aii_kernels_ref);
  assert_non_null(aii_kernels_get(AIINFRA_ISA_DEFAULT));
  assert_null(aii_kernels_get(99));
  assert_null(aii_kernels_get(-1));
}

/* ---- bench ---- */

static double now(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

#define BEST_OF(seconds, statement)                      \
  do {                                                   \
    (seconds) = 1e9;                                     \
    for (int run_ = 0; run_ < 5; run_++) {               \
      double start_ = now();                             \
      statement;                                         \
      double took_ = now() - start_;                     \
      (seconds) = took_ < (seconds) ? took_ : (seconds); \
    }                                                    \
  } while (0)

static volatile uint64_t sink;

static uint64_t read_all(const uint64_t *p, size_t n)
{
  uint64_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
  for (size_t i = 0; i + 4 <= n; i += 4) {
    s0 += p[i];
    s1 ^= p[i + 1];
    s2 += p[i + 2];
    s3 ^= p[i + 3];
  }
  return s0 + s1 + s2 + s3;
}

static void bench_product(const aii_kernels *k, aii_fmt fmt, uint32_t cols, size_t bytes)
{
  enum { N = 2048 };
  size_t row = aii_fmt_row_bytes(fmt, N), panel = aii_panel_bytes(fmt, N);
  size_t x_bytes = column_bytes(fmt, N);
  size_t n_panels = bytes / panel, rows = n_panels * AII_PANEL;
  char *w = malloc(panel * n_panels), *x = malloc(x_bytes * cols), *plain = malloc(row * AII_PANEL);
  float *y = malloc(rows * cols * 4), f[N];
  void *work = aligned_alloc(64, AII_PRODUCT_WORK);
  fill(f, N);
  for (size_t r = 0; r < AII_PANEL; r++) aii_fmt_info(stored_as(fmt))->encode(f, NULL, N, plain + r * row);
  double s;
  BEST_OF(s, for (size_t i = 0; i < n_panels; i++) aii_panel_pack(fmt, plain, row, AII_PANEL, N, w + i * panel));
  printf("  %-7s pack %-6s %6.2f GB/s\n", k->name, name_of(fmt), (double)(panel * n_panels) / s * 1e-9);
  for (size_t c = 0; c < cols; c++) make_column(k, fmt, f, N, x + c * x_bytes);
  aii_product p = {.w = w,
                   .w_stride = panel,
                   .n_in = N,
                   .n_rows = (uint32_t)rows,
                   .x = x,
                   .x_stride = x_bytes,
                   .y = y,
                   .y_stride = rows,
                   .work = work};
  for (uint32_t n = 1; n <= cols; n = n < 4 ? n + 1 : n * 4) {
    p.n_cols = n;
    BEST_OF(s, k->product[fmt](&p));
    printf("  %-7s product %-6s %3u columns: %7.2f GB/s of weights %8.2f GMAC/s\n", k->name, name_of(fmt), n,
           (double)(panel * n_panels) / s * 1e-9, (double)N * (double)rows * n / s * 1e-9);
  }
  free(w);
  free(x);
  free(y);
  free(plain);
  free(work);
}

static void bench_rest(const aii_kernels *k)
{
  enum { N = 16384, DIM = 64, Q = 16 };
  static float a[N], b[N], c[N], acc[Q * DIM];
  double s;
  fill(a, N);
  fill(b, N);
  BEST_OF(s, for (int i = 0; i < 20; i++) k->silu_mul(a, b, N, c));
  printf("  %-7s silu_mul: %.2f G elements/s\n", k->name, 20.0 * N / s * 1e-9);
  BEST_OF(s, for (int i = 0; i < 20; i++) k->rms_norm(a, b, N, 1e-5f, c));
  printf("  %-7s rms_norm: %.2f G elements/s\n", k->name, 20.0 * N / s * 1e-9);
  const void *rows[TILE_GROUPS];
  const aii_fmt fmts[] = {AII_FMT_F32, AII_FMT_F16, AII_FMT_Q8_0};
  float m[Q], l[Q * 16] = {0};
  for (int f = 0; f < 3; f++) {
    size_t row = aii_fmt_row_bytes(fmts[f], DIM);
    char coded[4 * DIM];
    for (int j = 0; j < TILE; j++) { /* keys and values alike: what they hold does not matter */
      rows[j / AII_ATTN_GROUP] = (char *)b + (size_t)(j / AII_ATTN_GROUP) * AII_ATTN_GROUP * row;
      aii_fmt_info(fmts[f])->encode(a + j * DIM, NULL, DIM, coded);
      aii_attn_put(AII_ATTN_VALUES, fmts[f], DIM, coded,
                   (char *)b + (size_t)(j / AII_ATTN_GROUP) * AII_ATTN_GROUP * row, AII_ATTN_GROUP, j % AII_ATTN_GROUP);
    }
    const aii_attn_tile tile = {fmts[f], DIM, TILE_GROUPS, rows, NULL};
    const aii_attn_state state = {Q, DIM, 0, TILE, c, TILE, m, l, acc, NULL, 0};
    for (int i = 0; i < Q; i++) k->attn_query(fmts[f], a + i * DIM, DIM, 1, acc + i * DIM);
    BEST_OF(s, for (int i = 0; i < 200; i++) k->attn_scores(&tile, acc, Q, c, TILE));
    printf("  %-7s attn_scores %-4s: %.2f GFLOP/s\n", k->name, aii_fmt_info(fmts[f])->name,
           200.0 * 2 * Q * TILE * DIM / s * 1e-9);
    fill(acc, Q * DIM);
    BEST_OF(s, for (int i = 0; i < 200; i++) k->attn_values(&tile, &state));
    printf("  %-7s attn_values %-4s: %.2f GFLOP/s\n", k->name, aii_fmt_info(fmts[f])->name,
           200.0 * 2 * Q * TILE * DIM / s * 1e-9);
    for (int i = 0; i < Q; i++) m[i] = 0;
    BEST_OF(s, for (int i = 0; i < 200; i++) k->attn_soften(&state));
    printf("  %-7s attn_soften: %.2f G elements/s\n", k->name, 200.0 * Q * TILE / s * 1e-9);
  }
  BEST_OF(s, for (int i = 0; i < 200; i++) k->vec_l2sq(a, 256, 64, b, 256, c));
  printf("  %-7s vec_l2sq, 256 dims in cache: %.2f GB/s\n", k->name, 200.0 * 64 * 256 * 4 / s * 1e-9);
  const uint8_t *codes[64];
  for (int i = 0; i < 64; i++) codes[i] = (const uint8_t *)a + i * 384;
  BEST_OF(s, for (int i = 0; i < 200; i++) k->vec_codes(codes, 64, (const uint8_t *)b, 384, 0, (int32_t *)(void *)c));
  printf("  %-7s vec_codes, 384 dims in cache: %.2f GB/s\n", k->name, 200.0 * 64 * 384 / s * 1e-9);
}

/* only: a format to measure alone, or NULL */
static int bench(const char *only)
{
  size_t bytes = (size_t)512 << 20;
  uint64_t *p = malloc(bytes);
  memset(p, 1, bytes);
  double s;
  BEST_OF(s, sink += read_all(p, bytes / 8));
  printf("one thread; memory read: %.2f GB/s\n", (double)bytes / s * 1e-9);
  free(p);
  for (int v = -1; v < n_variants; v++) {
    const aii_kernels *k = v < 0 ? &aii_kernels_ref : variants[v];
    size_t size = v < 0 ? (size_t)1 << 20 : (size_t)256 << 20;
    if (k == test_emulated_avx512()) continue;
    for (int f = 0; f < AII_FMT_PRODUCTS; f++) {
      if (!aii_fmt_in_panels((aii_fmt)f) || !multiplies(k, (aii_fmt)f)) continue;
      if (only != NULL && strcmp(only, name_of((aii_fmt)f)) != 0) continue;
      bench_product(k, (aii_fmt)f, 1, size);
      bench_product(k, (aii_fmt)f, 256, (size_t)1 << (v < 0 ? 14 : 20));
    }
    if (only == NULL) bench_rest(k);
  }
  if (only != NULL) return 0;
  long cores = sysconf(_SC_NPROCESSORS_ONLN);
  test_backend_rates(1);
  if (cores > 1) test_backend_rates((uint32_t)cores);
  return 0;
}

int main(int argc, char **argv)
{
  for (int32_t isa = AIINFRA_ISA_AVX2; isa <= AIINFRA_ISA_AMX; isa++) {
    const aii_kernels *k = aii_kernels_get(isa);
    if (k != NULL) variants[n_variants++] = k;
  }
  bool native = aii_kernels_get(AIINFRA_ISA_AVX512) != NULL;
  if (!native && test_emulated_avx512() != NULL) variants[n_variants++] = test_emulated_avx512();
  seed = test_seed();
  if (argc > 1 && strcmp(argv[1], "--bench") == 0) return bench(argc > 2 ? argv[2] : NULL);
  if (n_variants == 0) printf("only the reference: this CPU has no AVX2\n");
  if (!native)
    test_say_skipped("AVX-512 on the CPU itself: it has none; emulated: %s",
                     test_emulated_avx512() != NULL ? "checked" : "needs libsimde-dev, AVX2 and gcc");
  if (aii_kernels_get(AIINFRA_ISA_AMX) == NULL)
    test_say_skipped("AMX: this CPU has none, or Linux does not save its registers");
  if (!native || !aii_kernels_pair_bf16(aii_kernels_get(AIINFRA_ISA_AVX512)))
    test_say_skipped("AVX512-BF16: this CPU has none; the reference of its products is checked");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_known_blocks),
      cmocka_unit_test(test_known_quantisation),
      cmocka_unit_test(test_every_half),
      cmocka_unit_test(test_exp_accuracy),
      cmocka_unit_test(test_reference_products),
      cmocka_unit_test(test_rows),
      cmocka_unit_test(test_quant_q8),
      cmocka_unit_test(test_products),
      cmocka_unit_test(test_pairs_of_all_sizes),
      cmocka_unit_test(test_bf16_of_any_float),
      cmocka_unit_test(test_product_extremes),
      cmocka_unit_test(test_elements),
      cmocka_unit_test(test_rope),
      cmocka_unit_test(test_attention_and_vectors),
      cmocka_unit_test(test_selection),
  };
  return cmocka_run_group_tests_name("kernels", tests, NULL, NULL);
}
