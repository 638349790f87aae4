/* test_backend.c - the CPU backend: batch invariance to the bit, and attention and rope against double precision.
 *
 * Invariance: a row computed alone on one thread must equal the same row in any batch, on 1, 2 and 4 threads, with any
 * block table and block size, on any instruction set.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/kernels.h"
#include "src/backend/cpu.h"
#include "tests/support/support.h"

static aii_mem mem;
static unsigned long long seed;

static const aii_dtype all_types[] = {AII_F32,   AII_F16,    AII_BF16,   AII_Q8_0,  AII_Q4_0,  AII_Q4_1,
                                      AII_Q5_0,  AII_Q5_1,   AII_Q2_K,   AII_Q3_K,  AII_Q4_K,  AII_Q5_K,
                                      AII_Q6_K,  AII_IQ4_NL, AII_IQ4_XS, AII_TQ1_0, AII_TQ2_0, AII_MXFP4,
                                      AII_NVFP4, AII_Q1_0,   AII_Q2_0,   AII_F64};
enum { N_TYPES = AII_COUNT(all_types), ROUNDED = N_TYPES }; /* ROUNDED: BF16, multiplied with activations of BF16 */

typedef struct machine {
  aii_pool *pool;
  aii_backend *be;
} machine;

static machine new_machine(uint32_t n_threads, int32_t isa)
{
  machine m;
  aiinfra_error err;
  assert_int_equal(aii_pool_create(&mem, n_threads, AII_POOL_CROWD, &m.pool, &err), AIINFRA_OK);
  assert_int_equal(aii_cpu_backend_create(&mem, m.pool, isa, &m.be, &err), AIINFRA_OK);
  return m;
}

static void free_machine(machine m)
{
  aiinfra_error err;
  assert_int_equal(m.be->ops->sync(m.be, &err), AIINFRA_OK);
  m.be->ops->destroy(m.be);
  aii_pool_free(m.pool);
}

static float uniform(void)
{
  return (float)(test_random(&seed) >> 40) * 0x1p-23f - 1.0f;
}

static float *random_floats(size_t n)
{
  float *x = malloc(n * sizeof *x);
  assert_non_null(x);
  for (size_t i = 0; i < n; i++) x[i] = uniform();
  return x;
}

static aii_weight random_weight(machine m, int type, uint32_t n_in, uint32_t n_out)
{
  const aii_dtype dtype = type == ROUNDED ? AII_BF16 : all_types[type];
  const aii_dtype_traits *t = aii_dtype_info((uint32_t)dtype);
  size_t bytes = (size_t)n_in / t->block * t->block_bytes * n_out;
  float *x = random_floats((size_t)n_in * n_out);
  char *rows = malloc(bytes);
  aiinfra_error err;
  aiinfra_status rc = aii_quantize_rows(dtype, x, n_out, n_in, NULL, rows, &err);
  if (rc != AIINFRA_OK) { /* a type that is only read: bytes whose scales are below 2 */
    assert_int_equal(rc, AIINFRA_ENOTSUP);
    for (size_t i = 0; i < bytes; i++) rows[i] = (char)(test_random(&seed) % 64);
  }
  free(x);
  aii_weight w = {.type = dtype, .n_in = n_in, .n_out = n_out, .bf16_x = type == ROUNDED, .source = rows};
  assert_int_equal(m.be->ops->upload(m.be, &w, &err), AIINFRA_OK);
  return w;
}

static void free_weight(machine m, aii_weight *w)
{
  m.be->ops->unload(m.be, w);
  free((void *)(uintptr_t)w->source);
}

/* ---- products ---- */

static void matmul_case(int type, uint32_t n_in, uint32_t n_out, uint32_t n_rows)
{
  machine one = new_machine(1, 0), ref = new_machine(1, AIINFRA_ISA_REF);
  aii_weight w = random_weight(one, type, n_in, n_out), bias = random_weight(one, type == 0 ? 0 : 1, n_out, 1);
  float *x = random_floats((size_t)n_in * n_rows), *y0 = random_floats((size_t)n_out * n_rows);
  size_t bytes = (size_t)n_out * n_rows * sizeof(float);
  float *want = malloc(bytes), *got = malloc(bytes);
  memcpy(want, y0, bytes);
  for (uint32_t r = 0; r < n_rows; r++) /* each row alone */
    one.be->ops->matmul(one.be, &w, &bias, x + (size_t)r * n_in, 1, true, want + (size_t)r * n_out);
  for (uint32_t threads = 1; threads <= 64; threads *= threads < 4 ? 2 : 16) {
    machine m = new_machine(threads, 0);
    memcpy(got, y0, bytes);
    m.be->ops->matmul(m.be, &w, &bias, x, n_rows, true, got);
    assert_memory_equal(want, got, bytes);
    free_machine(m);
  }
  memcpy(got, y0, bytes);
  ref.be->ops->matmul(ref.be, &w, &bias, x, AII_MIN(n_rows, 3), true, got);
  assert_memory_equal(want, got, AII_MIN(n_rows, 3) * n_out * sizeof(float));
  one.be->ops->matmul(one.be, &w, NULL, x, 1, false, got);
  for (uint32_t o = 0; o < n_out; o++) { /* y = Wx + bias + y0 */
    float b = bias.device != NULL ? ((float *)bias.device)[o] : ((const float *)bias.source)[o];
    assert_true(want[o] == y0[o] + (got[o] + b));
  }
  free_weight(one, &w);
  free_weight(one, &bias);
  free_machine(one);
  free_machine(ref);
  free(x);
  free(y0);
  free(want);
  free(got);
}

static void test_matmul_invariance(void **state)
{
  (void)state;
  for (int type = 0; type < 5; type++) {
    matmul_case(type, 64, 96, 5);
    matmul_case(type, 288, 515, 40); /* large enough for several threads; odd numbers of blocks and rows */
    matmul_case(type, 2048, 130, 37);
    matmul_case(type, 32, 3, 300); /* more rows than one group of activations */
  }
  for (int type = 5; type < N_TYPES; type++) {
    matmul_case(type, 768, 131, 37);
    matmul_case(type, 256, 3, 2);
  }
}

static bool rounds(int32_t isa)
{
  machine m = new_machine(1, isa);
  bool takes = m.be->ops->takes_bf16_x(m.be);
  free_machine(m);
  return takes;
}

/* Activations of BF16: any split gives the same bits, those of the reference, and nearly those of the exact product with
 * what they were rounded to. */
static void test_rounded_activations(void **state)
{
  (void)state;
  enum { IN = 515, OUT = 70, ROWS = 19 };
  machine ref = new_machine(1, AIINFRA_ISA_REF);
  aii_weight w = random_weight(ref, ROUNDED, IN, OUT), exact = w;
  float *x = random_floats(IN * ROWS), want[OUT * ROWS], got[OUT * ROWS];
  uint16_t *halves = malloc(IN * ROWS * sizeof *halves);
  aiinfra_error err;
  exact.bf16_x = false, exact.device = NULL;
  assert_int_equal(ref.be->ops->upload(ref.be, &exact, &err), AIINFRA_OK);
  ref.be->ops->matmul(ref.be, &w, NULL, x, ROWS, false, got);
  assert_int_equal(aii_quantize_rows(AII_BF16, x, ROWS, IN, NULL, halves, &err), AIINFRA_OK);
  assert_int_equal(aii_dequantize_rows(AII_BF16, halves, ROWS, IN, x, &err), AIINFRA_OK);
  ref.be->ops->matmul(ref.be, &exact, NULL, x, ROWS, false, want);
  for (int i = 0; i < OUT * ROWS; i++) assert_true(fabs((double)(want[i] - got[i])) < 1e-4);
  ref.be->ops->unload(ref.be, &exact);
  free_weight(ref, &w);
  free_machine(ref);
  free(x);
  free(halves);
  if (!rounds(AIINFRA_ISA_DEFAULT)) test_skip("the rest: this CPU has no AVX512-BF16");
  matmul_case(ROUNDED, 64, 96, 5);
  matmul_case(ROUNDED, 288, 515, 40);
  matmul_case(ROUNDED, 2048, 130, 37);
  matmul_case(ROUNDED, 77, 3, 300);
  matmul_case(ROUNDED, 1, 2, 2);
}

static void test_rounding_is_refused(void **state)
{
  (void)state;
  aiinfra_error err;
  char bytes[256] = {0};
  machine ref = new_machine(1, AIINFRA_ISA_REF);
  aii_weight w = {.type = AII_F16, .n_in = 4, .n_out = 2, .bf16_x = true, .source = bytes};
  assert_int_equal(ref.be->ops->upload(ref.be, &w, &err), AIINFRA_EINVAL);
  w.type = AII_BF16, w.n_out = 1;
  assert_int_equal(ref.be->ops->upload(ref.be, &w, &err), AIINFRA_EINVAL);
  w.n_out = 2, w.lookup = true;
  assert_int_equal(ref.be->ops->upload(ref.be, &w, &err), AIINFRA_EINVAL);
  free_machine(ref);
  if (aii_kernels_get(AIINFRA_ISA_AVX2) == NULL) test_skip("the rest: this CPU has no AVX2");
  machine avx2 = new_machine(1, AIINFRA_ISA_AVX2);
  w.lookup = false;
  assert_false(avx2.be->ops->takes_bf16_x(avx2.be));
  assert_int_equal(avx2.be->ops->upload(avx2.be, &w, &err), AIINFRA_ENOTSUP);
  free_machine(avx2);
}

/* Several products at once are the products one by one, of mixed types, one-row weights among them, gated or not. */
static void test_products_together(void **state)
{
  (void)state;
  enum { IN = 256, OUT = 515, ROWS = 37 };
  machine one = new_machine(1, 0);
  for (int i = 0; i < 7; i++) {
    if (i == 6 && !one.be->ops->takes_bf16_x(one.be)) continue;
    int types = i < 6 ? i : ROUNDED;
    aii_weight q = random_weight(one, 4, IN, OUT), k = random_weight(one, types, IN, i % 2 != 0 || i == 6 ? OUT : 1);
    aii_weight bias = random_weight(one, 0, OUT, 1);
    float *x = random_floats(IN * ROWS), *want[3], *got[3];
    for (int i = 0; i < 3; i++) want[i] = malloc(OUT * ROWS * 4), got[i] = malloc(OUT * ROWS * 4);
    one.be->ops->matmul(one.be, &q, &bias, x, ROWS, false, want[0]);
    one.be->ops->matmul(one.be, &k, NULL, x, ROWS, false, want[1]);
    for (uint32_t threads = 1; threads <= 4; threads *= 2) {
      machine m = new_machine(threads, 0);
      const aii_mul muls[] = {{&q, &bias, got[0]}, {&k, NULL, got[1]}};
      m.be->ops->matmuls(m.be, muls, 2, x, ROWS);
      assert_memory_equal(want[0], got[0], OUT * ROWS * 4);
      assert_memory_equal(want[1], got[1], k.n_out * ROWS * 4);
      if (k.n_out == OUT) {
        one.be->ops->activate(one.be, AII_ACT_SILU, want[0], want[1], OUT * ROWS, want[2]);
        m.be->ops->gated(m.be, AII_ACT_SILU, &muls[0], &muls[1], x, ROWS);
        assert_memory_equal(want[2], got[0], OUT * ROWS * 4);
      }
      free_machine(m);
    }
    free_weight(one, &q);
    free_weight(one, &k);
    free_weight(one, &bias);
    for (int i = 0; i < 3; i++) free(want[i]), free(got[i]);
    free(x);
  }
  free_machine(one);
}

/* A product with any type is the product with its decoded rows: exactly, unless activations are quantised for it. An
 * embedding is a decoded row. */
static void test_decoded_types(void **state)
{
  (void)state;
  enum { IN = 512, OUT = 37, ROWS = 3 };
  machine m = new_machine(2, 0);
  for (int type = 0; type < N_TYPES; type++) {
    aii_weight w = random_weight(m, type, IN, OUT);
    float *x = random_floats(IN * ROWS), *decoded = malloc(sizeof(float) * IN * OUT), want[OUT * ROWS], got[OUT * ROWS];
    float embedded[IN * ROWS];
    aiinfra_error err;
    assert_int_equal(aii_dequantize_rows(w.type, w.source, OUT, IN, decoded, &err), AIINFRA_OK);
    aii_weight f = {.type = AII_F32, .n_in = IN, .n_out = OUT, .source = decoded};
    assert_int_equal(m.be->ops->upload(m.be, &f, &err), AIINFRA_OK);
    m.be->ops->matmul(m.be, &f, NULL, x, ROWS, false, want);
    m.be->ops->matmul(m.be, &w, NULL, x, ROWS, false, got);
    bool exact = !aii_fmt_takes_q8(aii_cpu_fmt(w.type));
    for (int i = 0; i < OUT * ROWS; i++) {
      double size = 0;
      for (int k = 0; k < IN; k++) size += fabs((double)x[i / OUT * IN + k] * (double)decoded[i % OUT * IN + k]);
      assert_true(exact ? want[i] == got[i] : fabs((double)(want[i] - got[i])) < 0.01 * size);
    }
    m.be->ops->unload(m.be, &f);
    aiinfra_token tokens[ROWS] = {OUT - 1, 0, 7};
    aii_rows rows = {.n_rows = ROWS, .tokens = tokens};
    m.be->ops->embed(m.be, &w, &rows, 1.0f, embedded);
    for (int r = 0; r < ROWS; r++) assert_memory_equal(embedded + r * IN, decoded + tokens[r] * IN, IN * sizeof(float));
    free_weight(m, &w);
    free(x);
    free(decoded);
  }
  free_machine(m);
}

static void test_uploads(void **state)
{
  (void)state;
  machine m = new_machine(1, 0);
  aiinfra_error err;
  char bytes[256] = {0};
  aii_weight odd = {.type = AII_F32, .n_in = 3, .n_out = 2, .source = bytes + 1};
  assert_int_equal(m.be->ops->upload(m.be, &odd, &err), AIINFRA_OK);
  assert_non_null(odd.device);
  m.be->ops->unload(m.be, &odd);
  aii_weight broken = {.type = AII_Q8_0, .n_in = 33, .n_out = 2, .source = bytes};
  assert_int_equal(m.be->ops->upload(m.be, &broken, &err), AIINFRA_EFORMAT);
  broken.type = (aii_dtype)16; /* IQ2_XXS */
  assert_int_equal(m.be->ops->upload(m.be, &broken, &err), AIINFRA_ENOTSUP);
  broken = (aii_weight){.type = AII_F32, .n_in = 0, .n_out = 2, .source = bytes};
  assert_int_equal(m.be->ops->upload(m.be, &broken, &err), AIINFRA_EINVAL);
  assert_true(m.be->ops->free_bytes(m.be) > 0);
  free_machine(m);
}

static void test_embed_and_failures(void **state)
{
  (void)state;
  machine m = new_machine(2, 0);
  aii_weight w = random_weight(m, 3, 64, 10);
  aiinfra_token tokens[] = {3, 0, 9};
  aii_rows rows = {.n_rows = 3, .tokens = tokens};
  float out[3 * 64], row[64];
  aiinfra_error err;
  m.be->ops->embed(m.be, &w, &rows, 2.0f, out);
  assert_int_equal(m.be->ops->sync(m.be, &err), AIINFRA_OK);
  for (int r = 0; r < 3; r++) {
    aii_kernels_ref.dequant[AII_FMT_Q8_0]((const char *)w.source + tokens[r] * 68, 64, row);
    for (int i = 0; i < 64; i++) assert_true(out[r * 64 + i] == row[i] * 2);
  }
  tokens[1] = 10; /* outside: told by sync, once */
  m.be->ops->embed(m.be, &w, &rows, 1.0f, out);
  assert_int_equal(m.be->ops->sync(m.be, &err), AIINFRA_EINVAL);
  assert_int_equal(m.be->ops->sync(m.be, &err), AIINFRA_OK);
  tokens[1] = -1;
  m.be->ops->embed(m.be, &w, &rows, 1.0f, out);
  assert_int_equal(m.be->ops->sync(m.be, &err), AIINFRA_EINVAL);
  free_weight(m, &w);
  free_machine(m);
}

static void test_elementwise(void **state)
{
  (void)state;
  enum { N = 100003, WIDTH = 257, ROWS = 389 };
  machine one = new_machine(1, 0), four = new_machine(4, 0);
  float *a = random_floats(N), *b = random_floats(N), *want = random_floats(N), *got = malloc(N * 4);
  memcpy(got, want, N * 4);
  one.be->ops->add(one.be, want, a, 1, N);
  four.be->ops->add(four.be, got, a, 1, N);
  assert_memory_equal(want, got, N * 4);
  one.be->ops->activate(one.be, AII_ACT_SILU, a, b, N, want);
  four.be->ops->activate(four.be, AII_ACT_SILU, a, b, N, got);
  assert_memory_equal(want, got, N * 4);
  for (int i = 0; i < N; i += 97) {
    double exact = (double)a[i] / (1 + exp(-(double)a[i])) * (double)b[i];
    assert_true(fabs((double)want[i] - exact) < 1e-6 * fabs(exact) + 1e-12);
  }
  aii_weight w = random_weight(one, 2, WIDTH, 1); /* a BF16 vector */
  for (int r = 0; r < ROWS; r++) one.be->ops->rms_norm(one.be, a + r * WIDTH, &w, 1, WIDTH, 1e-5f, want + r * WIDTH);
  four.be->ops->rms_norm(four.be, a, &w, ROWS, WIDTH, 1e-5f, got);
  assert_memory_equal(want, got, ROWS * WIDTH * 4);
  four.be->ops->rms_norm(four.be, a, NULL, 1, WIDTH, 1e-5f, got);
  double sum = 0;
  for (int i = 0; i < WIDTH; i++) sum += (double)a[i] * (double)a[i];
  assert_true(fabs((double)got[7] - (double)a[7] / sqrt(sum / WIDTH + 1e-5)) < 1e-6);
  free_weight(one, &w);
  free_machine(one);
  free_machine(four);
  free(a);
  free(b);
  free(want);
  free(got);
}

/* ---- rope ---- */

static void rope_case(aii_rope_kind kind, uint32_t n_rot)
{
  enum { ROWS = 5, HEADS = 6, KV = 2, DIM = 64 };
  machine m = new_machine(2, 0);
  float inv_freq[DIM / 2];
  uint32_t pos[ROWS] = {0, 1, 77, 4095, 131071}, seq[ROWS] = {0};
  for (uint32_t i = 0; i < n_rot / 2; i++) inv_freq[i] = powf(10000.0f, -2.0f * (float)i / (float)n_rot);
  aii_rope rope = {.kind = kind, .n_rot = n_rot, .inv_freq = inv_freq, .attn_factor = 1.25f};
  aii_rows rows = {.n_rows = ROWS, .n_seqs = 1, .pos = pos, .seq = seq};
  float *q = random_floats(ROWS * HEADS * DIM), *k = random_floats(ROWS * KV * DIM),
        *q0 = malloc(ROWS * HEADS * DIM * 4);
  memcpy(q0, q, ROWS * HEADS * DIM * 4);
  m.be->ops->rope(m.be, &rope, &rows, HEADS, KV, DIM, q, k);
  for (uint32_t r = 0; r < ROWS; r++) {
    for (uint32_t h = 0; h < HEADS; h++) {
      const float *x = q0 + (r * HEADS + h) * DIM, *y = q + (r * HEADS + h) * DIM;
      for (uint32_t i = 0; i < n_rot / 2; i++) {
        uint32_t ia = kind == AII_ROPE_NEOX ? i : 2 * i, ib = kind == AII_ROPE_NEOX ? i + n_rot / 2 : 2 * i + 1;
        double t = (double)((float)pos[r] * inv_freq[i]), a = (double)x[ia], b = (double)x[ib];
        assert_true(fabs((double)y[ia] - 1.25 * (a * cos(t) - b * sin(t))) < 1e-6);
        assert_true(fabs((double)y[ib] - 1.25 * (a * sin(t) + b * cos(t))) < 1e-6);
      }
      for (uint32_t i = n_rot; i < DIM; i++) assert_true(x[i] == y[i]);
    }
  }
  free(q);
  free(k);
  free(q0);
  free_machine(m);
}

static void test_rope(void **state)
{
  (void)state;
  rope_case(AII_ROPE_NORM, 64);
  rope_case(AII_ROPE_NEOX, 64);
  rope_case(AII_ROPE_NORM, 20);
  rope_case(AII_ROPE_NEOX, 36);
}

/* ---- attention ---- */

enum { KV_HEADS = 2, HEADS = 6, DIM = 32, LENGTH = 600, LAYERS = 2 };
static const aii_dtype cache_types[] = {AII_F32, AII_F16, AII_Q8_0};

static aii_kv_view new_cache(aii_dtype type, uint32_t block_tokens, uint32_t n_blocks)
{
  aii_kv_view kv = {.type = type,
                    .n_layers = LAYERS,
                    .n_kv_heads = KV_HEADS,
                    .head_dim = DIM,
                    .value_dim = DIM,
                    .block_tokens = block_tokens,
                    .n_blocks = n_blocks};
  assert_true(aii_kv_lay_out(&kv));
  kv.base = aligned_alloc(64, (n_blocks * kv.block_bytes + 63) / 64 * 64);
  memset(kv.base, 0xff, n_blocks * kv.block_bytes); /* NaN: what is not written must not matter */
  return kv;
}

/* Keys and values of one sequence, and its queries at every position. */
typedef struct history {
  float *q, *k, *v;
} history;

static history new_history(void)
{
  history h = {random_floats(LENGTH * HEADS * DIM), random_floats(LENGTH * KV_HEADS * DIM),
               random_floats(LENGTH * KV_HEADS * DIM)};
  for (int i = 0; i < LENGTH * HEADS * DIM; i++) h.q[i] *= 3; /* a peaked softmax */
  return h;
}

static void free_history(history h)
{
  free(h.q);
  free(h.k);
  free(h.v);
}

/* Positions first..end of one sequence: written, then attended to. */
static void forward(machine m, const aii_kv_view *kv, const uint32_t *table, history h, uint32_t first, uint32_t end,
                    uint32_t window, float *out)
{
  uint32_t n = end - first, pos[LENGTH], seq[LENGTH] = {0};
  for (uint32_t i = 0; i < n; i++) pos[i] = first + i;
  aii_rows rows = {.n_rows = n, .n_seqs = 1, .pos = pos, .seq = seq, .tables = &table};
  const size_t at = (size_t)first * KV_HEADS * DIM;
  m.be->ops->kv_write(m.be, kv, 1, &rows, h.k + at, h.v + at);
  const aii_attn how = {.n_heads = HEADS, .scale = 0.16f, .window = window};
  m.be->ops->attention(m.be, kv, 1, &rows, &how, h.q + (size_t)first * HEADS * DIM, out + (size_t)first * HEADS * DIM);
}

static void fill_table(uint32_t *table, uint32_t n_blocks, bool shuffled)
{
  for (uint32_t i = 0; i < n_blocks; i++) table[i] = i;
  for (uint32_t i = n_blocks; shuffled && i > 1; i--) {
    uint32_t j = (uint32_t)(test_random(&seed) % i), t = table[i - 1];
    table[i - 1] = table[j];
    table[j] = t;
  }
}

/* All positions in chunks of the given size. */
static void whole(uint32_t threads, int32_t isa, aii_dtype type, uint32_t block_tokens, uint32_t chunk, uint32_t window,
                  history h, float *out)
{
  machine m = new_machine(threads, isa);
  uint32_t n_blocks = LENGTH / block_tokens + 3, *table = malloc(n_blocks * sizeof *table);
  aii_kv_view kv = new_cache(type, block_tokens, n_blocks);
  fill_table(table, n_blocks, true);
  for (uint32_t p = 0; p < LENGTH; p += chunk) forward(m, &kv, table, h, p, AII_MIN(p + chunk, LENGTH), window, out);
  free(kv.base);
  free(table);
  free_machine(m);
}

static void test_attention_invariance(void **state)
{
  (void)state;
  size_t bytes = (size_t)LENGTH * HEADS * DIM * sizeof(float);
  float *want = malloc(bytes), *got = malloc(bytes);
  history h = new_history();
  for (size_t t = 0; t < AII_COUNT(cache_types); t++) {
    for (uint32_t window = 0; window < 200; window += 70) {
      aii_dtype type = cache_types[t];
      whole(1, 0, type, 16, 1, window, h, want); /* token by token */
      static const struct {
        uint32_t threads, block_tokens, chunk;
        int32_t isa;
      } ways[] = {{1, 16, LENGTH, 0},
                  {2, 16, 100, 0},
                  {4, 64, 7, 0},
                  {4, 256, LENGTH, 0},
                  {2, 1, 64, 0},
                  {2, 32, 65, 0},
                  {1, 16, LENGTH, AIINFRA_ISA_REF}};
      for (size_t i = 0; i < AII_COUNT(ways); i++) {
        memset(got, 0, bytes);
        whole(ways[i].threads, ways[i].isa, type, ways[i].block_tokens, ways[i].chunk, window, h, got);
        assert_memory_equal(want, got, bytes);
      }
    }
  }
  free_history(h);
  free(want);
  free(got);
}

/* Two sequences in one call, as in a batch of decodes and prefills, against each alone. */
static void test_attention_batch(void **state)
{
  (void)state;
  size_t floats = (size_t)LENGTH * HEADS * DIM;
  float *alone = malloc(2 * floats * 4), *q = malloc(2 * floats * 4), *together = malloc(2 * floats * 4);
  history h[2] = {new_history(), new_history()};
  for (int s = 0; s < 2; s++) whole(1, 0, AII_F16, 16, LENGTH, 0, h[s], alone + (size_t)s * floats);

  machine m = new_machine(2, 0);
  enum { BLOCKS = LENGTH / 16 + 1 };
  uint32_t tables[2][BLOCKS], pos[LENGTH + 1], seq[LENGTH + 1];
  const uint32_t *both[2] = {tables[0], tables[1]};
  aii_kv_view kv = new_cache(AII_F16, 16, 2 * BLOCKS);
  for (uint32_t i = 0; i < BLOCKS; i++) { /* interleaved */
    tables[0][i] = 2 * i;
    tables[1][i] = 2 * i + 1;
  }
  forward(m, &kv, tables[0], h[0], 0, LENGTH - 1, 0, together); /* sequence 0 decodes its last token */
  uint32_t n = 0;
  pos[n] = LENGTH - 1;
  seq[n++] = 0;
  for (uint32_t p = 0; p < LENGTH; p++, n++) { /* while sequence 1 is filled */
    pos[n] = p;
    seq[n] = 1;
  }
  float *k = malloc(n * KV_HEADS * DIM * 4), *v = malloc(n * KV_HEADS * DIM * 4);
  for (uint32_t r = 0; r < n; r++) {
    size_t kv_at = (size_t)pos[r] * KV_HEADS * DIM, q_at = (size_t)pos[r] * HEADS * DIM;
    memcpy(q + (size_t)r * HEADS * DIM, h[seq[r]].q + q_at, HEADS * DIM * 4);
    memcpy(k + (size_t)r * KV_HEADS * DIM, h[seq[r]].k + kv_at, KV_HEADS * DIM * 4);
    memcpy(v + (size_t)r * KV_HEADS * DIM, h[seq[r]].v + kv_at, KV_HEADS * DIM * 4);
  }
  aii_rows rows = {.n_rows = n, .n_seqs = 2, .pos = pos, .seq = seq, .tables = both};
  m.be->ops->kv_write(m.be, &kv, 1, &rows, k, v);
  const aii_attn how = {.n_heads = HEADS, .scale = 0.16f};
  m.be->ops->attention(m.be, &kv, 1, &rows, &how, q, together);
  assert_memory_equal(together, alone + (size_t)(LENGTH - 1) * HEADS * DIM, HEADS * DIM * 4);
  assert_memory_equal(together + HEADS * DIM, alone + floats, floats * 4);
  free(k);
  free(v);
  free(kv.base);
  free_machine(m);
  for (int s = 0; s < 2; s++) free_history(h[s]);
  free(alone);
  free(q);
  free(together);
}

static double naive(history h, uint32_t pos, uint32_t head, uint32_t d, uint32_t window)
{
  uint32_t first = window > 0 && pos + 1 > window ? pos + 1 - window : 0, kv_head = head / (HEADS / KV_HEADS);
  double top = -1e300, sum = 0, value = 0, s[LENGTH];
  for (uint32_t p = first; p <= pos; p++) {
    s[p] = 0;
    for (uint32_t i = 0; i < DIM; i++)
      s[p] += 0.16 * (double)h.q[((size_t)pos * HEADS + head) * DIM + i] *
              (double)h.k[((size_t)p * KV_HEADS + kv_head) * DIM + i];
    top = s[p] > top ? s[p] : top;
  }
  for (uint32_t p = first; p <= pos; p++) {
    double e = exp(s[p] - top);
    sum += e;
    value += e * (double)h.v[((size_t)p * KV_HEADS + kv_head) * DIM + d];
  }
  return value / sum;
}

static void test_attention_is_right(void **state)
{
  (void)state;
  float *out = malloc((size_t)LENGTH * HEADS * DIM * 4);
  history h = new_history();
  for (uint32_t window = 0; window <= 100; window += 50) {
    for (size_t t = 0; t < AII_COUNT(cache_types); t++) {
      const double most[] = {3e-6, 5e-3, 5e-2};
      whole(2, 0, cache_types[t], 16, 50, window, h, out);
      for (uint32_t p = 0; p < LENGTH; p += 11)
        for (uint32_t head = 0; head < HEADS; head++)
          for (uint32_t d = 0; d < DIM; d += 13) {
            double off = fabs((double)out[((size_t)p * HEADS + head) * DIM + d] - naive(h, p, head, d, window));
            if (off >= most[t]) fail_msg("%s: off by %g", aii_dtype_info((uint32_t)cache_types[t])->name, off);
          }
    }
  }
  free_history(h);
  free(out);
}

static void test_cache_copy(void **state)
{
  (void)state;
  machine m = new_machine(1, 0);
  aii_kv_view kv = new_cache(AII_F16, 16, 4);
  aiinfra_error err;
  memset((char *)kv.base + kv.block_bytes, 7, kv.block_bytes);
  assert_int_equal(m.be->ops->copy_block(m.be, &kv, 1, 3, &err), AIINFRA_OK);
  char *host = malloc(kv.block_bytes);
  assert_int_equal(m.be->ops->to_host(m.be, host, (char *)kv.base + 3 * kv.block_bytes, kv.block_bytes, &err),
                   AIINFRA_OK);
  assert_memory_equal(host, (char *)kv.base + kv.block_bytes, kv.block_bytes);
  assert_int_equal(m.be->ops->copy_block(m.be, &kv, 1, 4, &err), AIINFRA_EINVAL);
  free(host);
  free(kv.base);
  free_machine(m);
}

static void test_creation(void **state)
{
  (void)state;
  aii_backend *be;
  aiinfra_error err;
  assert_int_equal(aii_cpu_backend_create(&mem, NULL, 99, &be, &err), AIINFRA_EINVAL);
  assert_null(be);
  if (aii_kernels_get(AIINFRA_ISA_AVX512) == NULL)
    assert_int_equal(aii_cpu_backend_create(&mem, NULL, AIINFRA_ISA_AVX512, &be, &err), AIINFRA_ENOTSUP);
  assert_int_equal(aii_cpu_backend_create(&mem, NULL, 0, &be, &err), AIINFRA_OK);
  assert_string_equal(be->ops->name, "cpu");
  void *p;
  assert_int_equal(be->ops->alloc(be, 1000, &p, &err), AIINFRA_OK);
  assert_int_equal((uintptr_t)p % 64, 0);
  be->ops->release(be, p, 1000);
  be->ops->destroy(be);
  assert_string_equal(aii_dtype_info(8)->name, "Q8_0");
  assert_null(aii_dtype_info(9));
}

static int no_leak(void **state)
{
  (void)state;
  return atomic_load(&mem.used_bytes) == 0 ? 0 : -1;
}

int main(void)
{
  aii_mem_init(&mem, NULL, 0);
  seed = test_seed();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(test_creation, no_leak),
      cmocka_unit_test_teardown(test_uploads, no_leak),
      cmocka_unit_test_teardown(test_matmul_invariance, no_leak),
      cmocka_unit_test_teardown(test_rounded_activations, no_leak),
      cmocka_unit_test_teardown(test_rounding_is_refused, no_leak),
      cmocka_unit_test_teardown(test_products_together, no_leak),
      cmocka_unit_test_teardown(test_decoded_types, no_leak),
      cmocka_unit_test_teardown(test_embed_and_failures, no_leak),
      cmocka_unit_test_teardown(test_elementwise, no_leak),
      cmocka_unit_test_teardown(test_rope, no_leak),
      cmocka_unit_test_teardown(test_attention_invariance, no_leak),
      cmocka_unit_test_teardown(test_attention_batch, no_leak),
      cmocka_unit_test_teardown(test_attention_is_right, no_leak),
      cmocka_unit_test_teardown(test_cache_copy, no_leak),
  };
  return cmocka_run_group_tests_name("backend", tests, NULL, NULL);
}
