/* test_quantize.c - every stored type: decoding to the bit, encoding to the bit or to a bound of its error.
 *
 * As a tool, for tests/reference/quants.py and for people:
 *   quantize encode TYPE COLUMNS [IMPORTANCE-FILE]   floats on stdin, blocks on stdout
 *   quantize decode TYPE COLUMNS                     the reverse
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/backend/backend.h"
#include "tests/data/quant_goldens.h"
#include "tests/support/support.h"

/* ---- the tool ---- */

static void *read_all(FILE *file, size_t *n)
{
  char *data = NULL;
  size_t cap = 0;
  for (*n = 0;;) {
    if (*n == cap) data = realloc(data, cap = cap * 2 + 65536);
    size_t got = fread(data + *n, 1, cap - *n, file);
    if (got == 0) return data;
    *n += got;
  }
}

static const aii_dtype_traits *find_type(const char *name, aii_dtype *type)
{
  for (uint32_t t = 0; t < 64; t++) {
    const aii_dtype_traits *info = aii_dtype_info(t);
    if (info != NULL && strcmp(info->name, name) == 0) {
      *type = (aii_dtype)t;
      return info;
    }
  }
  return NULL;
}

static int tool(int argc, char **argv)
{
  aii_dtype type;
  aiinfra_error err;
  const aii_dtype_traits *info = argc >= 4 ? find_type(argv[2], &type) : NULL;
  size_t n, n_importance = 0, columns = info != NULL ? strtoul(argv[3], NULL, 10) : 0;
  if (columns == 0) return 2;
  size_t row_bytes = columns / info->block * info->block_bytes;
  float *importance = NULL;
  FILE *file = argc > 4 ? fopen(argv[4], "rb") : NULL;
  if (file != NULL) importance = read_all(file, &n_importance);
  void *in = read_all(stdin, &n), *out;
  aiinfra_status rc;
  if (strcmp(argv[1], "encode") == 0) {
    size_t rows = n / (columns * 4);
    out = malloc(n = rows * row_bytes);
    rc = aii_quantize_rows(type, in, rows, columns, importance, out, &err);
  } else {
    size_t rows = n / row_bytes;
    out = malloc(n = rows * columns * 4);
    rc = aii_dequantize_rows(type, in, rows, columns, out, &err);
  }
  if (rc != AIINFRA_OK) fprintf(stderr, "%s\n", err.message);
  else fwrite(out, 1, n, stdout);
  free(in);
  free(out);
  free(importance);
  return rc == AIINFRA_OK ? 0 : 1;
}

/* ---- random values ---- */

static unsigned long long seed = 1;

/* A sum of twelve uniforms: Gaussian enough, and the same everywhere. */
static float gaussian(void)
{
  double sum = -6;
  for (int i = 0; i < 12; i++) sum += (double)(test_random(&seed) >> 11) * 0x1p-53;
  return (float)sum;
}

static float *gaussians(size_t n)
{
  float *x = malloc(n * sizeof *x);
  for (size_t i = 0; i < n; i++) x[i] = gaussian();
  return x;
}

static uint32_t next_golden(uint32_t *state)
{
  return *state = *state * 1664525u + 1013904223u;
}

static uint64_t fnv(const void *data, size_t n)
{
  const unsigned char *p = data;
  uint64_t h = 0xcbf29ce484222325u;
  for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 0x100000001b3u;
  return h;
}

/* ---- to the bit ---- */

static void decoding_golden(const struct quant_golden *g)
{
  enum { BLOCKS = 8 };
  const aii_dtype_traits *t = aii_dtype_info((uint32_t)g->type);
  unsigned char bytes[BLOCKS * 256];
  float y[BLOCKS * 256];
  uint32_t state = 1, n = BLOCKS * t->block, bits[4];
  aiinfra_error err;
  for (uint32_t i = 0; i < BLOCKS * t->block_bytes; i++) bytes[i] = (unsigned char)(next_golden(&state) >> 24);
  for (int b = 0; b < BLOCKS; b++)
    for (int h = 0; h < 2; h++)
      if (g->half_at[h] >= -1) bytes[b * (int)t->block_bytes + g->half_at[h] + 1] &= 0xbf;
  assert_int_equal(aii_dequantize_rows(g->type, bytes, 1, n, y, &err), AIINFRA_OK);
  for (uint32_t i = 0; i < n; i++) y[i] += 0; /* the sign of a zero is free */
  memcpy(&bits[0], &y[0], 4);
  memcpy(&bits[1], &y[1], 4);
  memcpy(&bits[2], &y[t->block / 2], 4);
  memcpy(&bits[3], &y[n - 1], 4);
  for (int i = 0; i < 4; i++)
    if (bits[i] != g->sample[i]) fail_msg("%s: sample %d is %08x, not %08x", t->name, i, bits[i], g->sample[i]);
  if (fnv(y, n * sizeof *y) != g->decoded) fail_msg("%s: some decoded floats differ", t->name);
}

static void test_decoding(void **state)
{
  (void)state;
  for (size_t i = 0; i < AII_COUNT(quant_goldens); i++) decoding_golden(&quant_goldens[i]);
}

static void test_encoding(void **state)
{
  enum { N = 512 };
  float x[N];
  uint32_t random = 1;
  (void)state;
  for (int i = 0; i < N; i++) {
    float u = ((float)(next_golden(&random) >> 8) - 0x1p23f) * 0x1p-22f;
    x[i] = u * u * u;
  }
  for (size_t i = 0; i < AII_COUNT(quant_goldens); i++) {
    const struct quant_golden *g = &quant_goldens[i];
    const aii_dtype_traits *t = aii_dtype_info((uint32_t)g->type);
    unsigned char out[N * 4];
    aiinfra_error err;
    if (g->encoded == 0) continue;
    assert_int_equal(aii_quantize_rows(g->type, x, 2, N / 2, NULL, out, &err), AIINFRA_OK);
    if (fnv(out, N / t->block * t->block_bytes) != g->encoded) fail_msg("%s: some encoded bytes differ", t->name);
  }
}

/* Types without another implementation at hand, by their definitions. */
static void test_plain_types(void **state)
{
  (void)state;
  unsigned char q1[18] = {0x00, 0x40, 0x05}, q2[18] = {0x00, 0x40, 0xe4}; /* scale 2; bits 101..., levels 0 1 2 3 */
  float y[128];
  aiinfra_error err;
  assert_int_equal(aii_dequantize_rows(AII_Q1_0, q1, 1, 128, y, &err), AIINFRA_OK);
  assert_true(y[0] == 2 && y[1] == -2 && y[2] == 2 && y[3] == -2 && y[127] == -2);
  assert_int_equal(aii_dequantize_rows(AII_Q2_0, q2, 1, 64, y, &err), AIINFRA_OK);
  assert_true(y[0] == -2 && y[1] == 0 && y[2] == 2 && y[3] == 4 && y[63] == -2);
  int8_t i8[3] = {-128, 0, 127};
  int16_t i16[3] = {-32768, 1, 32767};
  int32_t i32[3] = {INT32_MIN, -1, 16777217};
  int64_t i64[3] = {INT64_MIN, 7, -8};
  double f64[3] = {-0.5, 1e300, 0.1};
  assert_int_equal(aii_dequantize_rows(AII_I8, i8, 1, 3, y, &err), AIINFRA_OK);
  assert_true(y[0] == -128 && y[1] == 0 && y[2] == 127);
  assert_int_equal(aii_dequantize_rows(AII_I16, i16, 1, 3, y, &err), AIINFRA_OK);
  assert_true(y[0] == -32768 && y[1] == 1 && y[2] == 32767);
  assert_int_equal(aii_dequantize_rows(AII_I32, i32, 1, 3, y, &err), AIINFRA_OK);
  assert_true(y[0] == -0x1p31f && y[1] == -1 && y[2] == 16777216);
  assert_int_equal(aii_dequantize_rows(AII_I64, i64, 3, 1, y, &err), AIINFRA_OK);
  assert_true(y[0] == -0x1p63f && y[1] == 7 && y[2] == -8);
  assert_int_equal(aii_dequantize_rows(AII_F64, f64, 1, 3, y, &err), AIINFRA_OK);
  assert_true(y[0] == -0.5f && isinf(y[1]) && y[2] == 0.1f);
}

/* ---- to a bound ---- */

/* The root of the mean squared error, each column weighted. */
static double error_of(aii_dtype type, const float *x, size_t rows, size_t n, const float *importance,
                       const float *weights)
{
  unsigned char *packed = malloc(rows * n * 4);
  float *y = malloc(rows * n * sizeof *y);
  aiinfra_error err;
  double sum = 0, total = 0;
  if (aii_quantize_rows(type, x, rows, n, importance, packed, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  assert_int_equal(aii_dequantize_rows(type, packed, rows, n, y, &err), AIINFRA_OK);
  for (size_t i = 0; i < rows * n; i++) {
    double w = weights != NULL ? (double)weights[i % n] : 1, off = (double)x[i] - (double)y[i];
    sum += w * off * off;
    total += w;
  }
  free(packed);
  free(y);
  return sqrt(sum / total);
}

static void test_search_errors(void **state)
{
  /* What the search that is usual for these types leaves of Gaussian data, in parts of its deviation. */
  static const struct {
    aii_dtype type;
    double bound;
  } bounds[] = {{AII_Q2_K, 0.298},  {AII_Q3_K, 0.153},   {AII_Q4_K, 0.0718}, {AII_Q5_K, 0.0362},
                {AII_Q6_K, 0.0177}, {AII_IQ4_NL, 0.077}, {AII_IQ4_XS, 0.078}};
  enum { ROWS = 64, N = 512 };
  (void)state;
  float *x = gaussians(ROWS * N);
  for (size_t i = 0; i < AII_COUNT(bounds); i++) {
    double error = error_of(bounds[i].type, x, ROWS, N, NULL, NULL);
    if (!(error < bounds[i].bound)) fail_msg("%s errs by %g", aii_dtype_info((uint32_t)bounds[i].type)->name, error);
  }
  free(x);
}

static const aii_dtype searched[] = {AII_Q4_0, AII_Q4_1, AII_Q5_0, AII_Q5_1,   AII_Q2_K,  AII_Q3_K,
                                     AII_Q4_K, AII_Q5_K, AII_Q6_K, AII_IQ4_NL, AII_IQ4_XS};

/* Columns that matter more err less, weighted by what they matter. */
static void test_importance(void **state)
{
  enum { ROWS = 32, N = 512 };
  (void)state;
  float *x = gaussians(ROWS * N), importance[N], none[N] = {0};
  for (int i = 0; i < N; i++) importance[i] = i % 5 == 0 ? 30.0f : 0.5f + (float)(i % 7) * 0.1f;
  for (size_t i = 0; i < AII_COUNT(searched); i++) {
    double without = error_of(searched[i], x, ROWS, N, NULL, importance);
    double with = error_of(searched[i], x, ROWS, N, importance, importance);
    if (!(with < without))
      fail_msg("%s: %g is not below %g", aii_dtype_info((uint32_t)searched[i])->name, with, without);
    assert_true(error_of(searched[i], x, ROWS, N, none, NULL) < 0.35); /* a column that nothing ever passed */
  }
  free(x);
}

/* Zeros, constants, one outlier, tiny and mixed magnitudes: decoded close to what they were. */
static void test_odd_blocks(void **state)
{
  enum { N = 256 };
  (void)state;
  float least[N] = {0, -1e-44f, 1e-44f};
  assert_true(error_of(AII_TQ1_0, least, 1, N, NULL, NULL) < 1e-40 &&
              error_of(AII_TQ2_0, least, 1, N, NULL, NULL) < 1e-40);
  for (size_t i = 0; i < AII_COUNT(searched); i++) {
    float x[N] = {0};
    assert_true(error_of(searched[i], x, 1, N, NULL, NULL) == 0);
    for (int k = 0; k < N; k++) x[k] = -3;
    assert_true(error_of(searched[i], x, 1, N, NULL, NULL) < 0.01);
    for (int k = 0; k < N; k++) x[k] = 3;
    assert_true(error_of(searched[i], x, 1, N, x, NULL) < 0.1);
    memset(x, 0, sizeof x);
    x[100] = 1000;
    assert_true(error_of(searched[i], x, 1, N, NULL, NULL) < 5);
    for (int k = 0; k < N; k++) x[k] = (k % 2 == 0 ? 1e-30f : -1e-42f);
    assert_true(error_of(searched[i], x, 1, N, NULL, NULL) <= 1e-30);
    for (int k = 0; k < N; k++) x[k] = ldexpf(k % 3 == 0 ? -1.0f : 1.0f, k / 32 - 8);
    assert_true(error_of(searched[i], x, 1, N, NULL, NULL) < 0.1);
  }
}

/* ---- refusals ---- */

static void refused(aii_dtype type, const float *x, size_t n, const float *importance, aiinfra_status want,
                    const char *piece)
{
  unsigned char out[4096];
  aiinfra_error err;
  assert_int_equal(aii_quantize_rows(type, x, 2, n, importance, out, &err), want);
  if (strstr(err.message, piece) == NULL) fail_msg("'%s' does not say '%s'", err.message, piece);
}

static void test_refusals(void **state)
{
  float x[512] = {0}, importance[256] = {0};
  (void)state;
  x[256 + 17] = NAN;
  refused(AII_Q4_K, x, 256, NULL, AIINFRA_EINVAL, "row 1, column 17 is nan");
  x[256 + 17] = -INFINITY;
  refused(AII_F16, x, 256, NULL, AIINFRA_EINVAL, "row 1, column 17 is -inf");
  x[256 + 17] = 1e30f;
  refused(AII_Q6_K, x, 256, NULL, AIINFRA_EINVAL, "too large for Q6_K");
  refused(AII_Q8_0, x, 256, NULL, AIINFRA_EINVAL, "too large for Q8_0");
  for (size_t i = 0; i < AII_COUNT(searched); i++) {
    float equal[256];
    for (int k = 0; k < 256; k++) equal[k] = 1;
    refused(searched[i], x, 256, NULL, AIINFRA_EINVAL, "too large");
    refused(searched[i], x, 256, equal, AIINFRA_EINVAL, "too large");
  }
  refused(AII_F16, x, 256, NULL, AIINFRA_EINVAL, "row 1, at column 17 (1e+30): too large for F16");
  x[256 + 17] = 0;
  refused(AII_Q4_K, x, 255, NULL, AIINFRA_EINVAL, "no whole number of Q4_K blocks");
  refused(AII_NVFP4, x, 256, NULL, AIINFRA_ENOTSUP, "NVFP4 can be read, but not written");
  refused((aii_dtype)16, x, 256, NULL, AIINFRA_ENOTSUP, "type 16");
  importance[3] = -1;
  refused(AII_Q4_K, x, 256, importance, AIINFRA_EINVAL, "column 3 is -1");
  importance[3] = NAN;
  refused(AII_Q4_K, x, 256, importance, AIINFRA_EINVAL, "column 3");
  float y[4];
  aiinfra_error err;
  assert_int_equal(aii_dequantize_rows(AII_Q4_0, x, 1, 4, y, &err), AIINFRA_EINVAL);
}

int main(int argc, char **argv)
{
  if (argc > 1) return tool(argc, argv);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_decoding),   cmocka_unit_test(test_encoding),      cmocka_unit_test(test_plain_types),
      cmocka_unit_test(test_importance), cmocka_unit_test(test_search_errors), cmocka_unit_test(test_odd_blocks),
      cmocka_unit_test(test_refusals),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
