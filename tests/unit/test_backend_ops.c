/* test_backend_ops.c - the operations that some architectures need: experts, routing, sinks, soft caps, activations.
 *
 * Each against double precision or against plainer operations, and the same bits on any number of threads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "src/backend/backend.h"
#include "tests/support/support.h"

static aii_mem mem;
static unsigned long long seed;

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

static float *floats(size_t n, float spread)
{
  float *x = malloc(n * sizeof *x);
  for (size_t i = 0; i < n; i++) x[i] = spread * ((float)(test_random(&seed) >> 40) * 0x1p-23f - 1.0f);
  return x;
}

static void near(double got, double want, double tolerance)
{
  if (!(fabs(got - want) <= tolerance * (fabs(want) + 1e-3))) fail_msg("%.9g, should be %.9g", got, want);
}

/* ---- elements ---- */

static void test_activations(void **state)
{
  (void)state;
  enum { N = 70001 };
  machine one = new_machine(1, AIINFRA_ISA_REF), four = new_machine(4, 0);
  float *a = floats(N, 12), *b = floats(N, 12), *want = malloc(N * 4), *got = malloc(N * 4);
  const aii_act acts[] = {AII_ACT_SILU, AII_ACT_GELU, AII_ACT_SWIGLU_OAI};
  for (int i = 0; i < 3; i++) {
    one.be->ops->activate(one.be, acts[i], a, b, N, want);
    four.be->ops->activate(four.be, acts[i], a, b, N, got);
    for (int e = 0; e < N; e++) assert_true(want[e] == got[e]);
    for (int e = 0; e < N; e += 7) {
      double x = (double)a[e], u = (double)b[e], exact = x / (1 + exp(-x)) * u;
      if (acts[i] == AII_ACT_GELU)
        exact = x / (1 + exp(-2 * sqrt(2 / 3.14159265358979) * (x + 0.044715 * x * x * x))) * u;
      if (acts[i] == AII_ACT_SWIGLU_OAI) {
        x = fmin(x, 7), u = fmax(fmin(u, 7), -7);
        exact = x / (1 + exp(-1.702 * x)) * (u + 1);
      }
      near((double)got[e], exact, 2e-5);
    }
  }
  four.be->ops->activate(four.be, AII_ACT_GELU, a, NULL, N, got);
  one.be->ops->activate(one.be, AII_ACT_GELU, a, NULL, N, want);
  for (int e = 0; e < N; e++) assert_true(want[e] == got[e]);
  memcpy(got, a, N * 4);
  four.be->ops->softcap(four.be, got, 5, N);
  for (int e = 0; e < N; e++) near((double)got[e], 5 * tanh((double)a[e] / 5), 3e-7);
  memcpy(got, a, N * 4);
  four.be->ops->add(four.be, got, b, 0.5f, N);
  four.be->ops->scale(four.be, got, 3, N);
  for (int e = 0; e < N; e += 7) near((double)got[e], 3 * ((double)a[e] + 0.5 * (double)b[e]), 1e-4);
  free_machine(one);
  free_machine(four);
  free(a), free(b), free(want), free(got);
}

static void test_layer_norm(void **state)
{
  (void)state;
  enum { WIDTH = 131, ROWS = 600 };
  machine one = new_machine(1, AIINFRA_ISA_REF), four = new_machine(4, 0);
  float *x = floats(WIDTH * ROWS, 3), *w = floats(WIDTH, 1), *b = floats(WIDTH, 1);
  float *want = malloc(WIDTH * ROWS * 4), *got = malloc(WIDTH * ROWS * 4);
  for (int i = 0; i < WIDTH * ROWS; i++) x[i] += 5;
  aii_weight weight = {.type = AII_F32, .n_in = WIDTH, .n_out = 1, .source = w}, bias = weight;
  bias.source = b;
  one.be->ops->layer_norm(one.be, x, &weight, &bias, ROWS, WIDTH, 1e-5f, want);
  four.be->ops->layer_norm(four.be, x, &weight, &bias, ROWS, WIDTH, 1e-5f, got);
  assert_memory_equal(want, got, WIDTH * ROWS * 4);
  double mean = 0, square = 0;
  for (int i = 0; i < WIDTH; i++) mean += (double)x[i] / WIDTH;
  for (int i = 0; i < WIDTH; i++) square += ((double)x[i] - mean) * ((double)x[i] - mean) / WIDTH;
  for (int i = 0; i < WIDTH; i++)
    near((double)got[i], ((double)x[i] - mean) / sqrt(square + 1e-5) * (double)w[i] + (double)b[i], 1e-4);
  free_machine(one);
  free_machine(four);
  free(x), free(w), free(b), free(want), free(got);
}

static void test_copies(void **state)
{
  (void)state;
  machine m = new_machine(2, 0);
  const float x[] = {1, 2, 3, 4, 5, 6};
  float out[12] = {0};
  m.be->ops->copy(m.be, x + 1, 3, 2, 4, 2, out, 3); /* the last two of three, each twice */
  const float want[12] = {2, 3, 0, 2, 3, 0, 5, 6, 0, 5, 6, 0};
  assert_memory_equal(out, want, sizeof want);
  free_machine(m);
}

/* ---- experts ---- */

enum { EXPERTS = 7, USED = 3, N_IN = 256, N_OUT = 101, ROWS = 45, PAIRS = ROWS * USED };

static void products_of(aii_dtype type, bool bf16_x, bool shared_input)
{
  machine one = new_machine(1, AIINFRA_ISA_REF), four = new_machine(4, 0);
  const aii_dtype_traits *traits = aii_dtype_info((uint32_t)type);
  aiinfra_error err;
  size_t row = N_IN / traits->block * traits->block_bytes, bytes = (size_t)PAIRS * N_OUT * sizeof(float);
  uint32_t repeat = shared_input ? USED : 1;
  float *w = floats((size_t)EXPERTS * N_OUT * N_IN, 1), *b = floats(EXPERTS * N_OUT, 1);
  float *x = floats((size_t)PAIRS / repeat * N_IN, 1), *want = malloc(bytes), *got = malloc(bytes);
  char *rows = malloc(row * EXPERTS * N_OUT);
  int32_t ids[PAIRS];
  assert_int_equal(aii_quantize_rows(type, w, EXPERTS * N_OUT, N_IN, NULL, rows, &err), AIINFRA_OK);
  for (int i = 0; i < PAIRS; i++) ids[i] = (int32_t)(test_random(&seed) % (EXPERTS - 1)); /* the last one rests */
  aii_weight weight = {.type = type, .n_in = N_IN, .n_out = N_OUT, .n_mats = EXPERTS, .bf16_x = bf16_x, .source = rows};
  aii_weight bias = {.type = AII_F32, .n_in = N_OUT, .n_out = 1, .n_mats = EXPERTS, .source = b};
  for (int i = 0; i < PAIRS; i++) { /* each alone, by the plain product */
    aii_weight expert = weight, its_bias = bias;
    expert.n_mats = its_bias.n_mats = 1;
    expert.source = rows + (size_t)ids[i] * N_OUT * row;
    its_bias.source = b + (size_t)ids[i] * N_OUT;
    assert_int_equal(one.be->ops->upload(one.be, &expert, &err), AIINFRA_OK);
    one.be->ops->matmul(one.be, &expert, &its_bias, x + (size_t)i / repeat * N_IN, 1, false, want + (size_t)i * N_OUT);
    one.be->ops->unload(one.be, &expert);
  }
  assert_int_equal(one.be->ops->upload(one.be, &weight, &err), AIINFRA_OK);
  four.be->ops->matmul_ids(four.be, &weight, &bias, ids, x, repeat, PAIRS, got);
  assert_memory_equal(want, got, bytes);
  one.be->ops->matmul_ids(one.be, &weight, &bias, ids + USED, x + (size_t)USED / repeat * N_IN, repeat, USED, got);
  assert_memory_equal(want + USED * N_OUT, got, USED * N_OUT * sizeof(float));
  for (int i = 0; i < PAIRS; i++) ids[i] = i % EXPERTS; /* NULL says the same */
  one.be->ops->matmul_ids(one.be, &weight, NULL, ids, x, repeat, PAIRS, want);
  four.be->ops->matmul_ids(four.be, &weight, NULL, NULL, x, repeat, PAIRS, got);
  assert_memory_equal(want, got, bytes);
  one.be->ops->unload(one.be, &weight);
  free_machine(one);
  free_machine(four);
  free(w), free(b), free(x), free(want), free(got), free(rows);
}

static void test_products_of_experts(void **state)
{
  (void)state;
  static const aii_dtype types[] = {AII_F32, AII_F16, AII_BF16, AII_Q8_0, AII_Q4_0, AII_Q6_K, AII_MXFP4};
  for (size_t t = 0; t < AII_COUNT(types); t++) {
    products_of(types[t], false, true);
    products_of(types[t], false, false);
  }
  machine m = new_machine(1, 0);
  if (m.be->ops->takes_bf16_x(m.be)) {
    products_of(AII_BF16, true, true);
    products_of(AII_BF16, true, false);
  }
  aiinfra_error err;
  float w[2] = {1, 2}, x[1] = {1}, y[1];
  int32_t id = 2;
  aii_weight weight = {.type = AII_F32, .n_in = 1, .n_out = 1, .n_mats = 2, .source = w};
  m.be->ops->matmul_ids(m.be, &weight, NULL, &id, x, 1, 1, y);
  assert_int_equal(m.be->ops->sync(m.be, &err), AIINFRA_EINTERNAL);
  free_machine(m);
}

static void routed(aii_routing how, const float *scores, const int32_t *want_ids, const double *want)
{
  machine m = new_machine(2, 0);
  float copy[8], weights[8];
  int32_t ids[8];
  memcpy(copy, scores, how.n_experts * sizeof *copy);
  m.be->ops->route(m.be, &how, copy, 1, ids, weights);
  for (uint32_t j = 0; j < how.n_used; j++) {
    assert_int_equal(ids[j], want_ids[j]);
    near((double)weights[j], want[j], 1e-6);
  }
  free_machine(m);
}

static void test_routing(void **state)
{
  (void)state;
  const float s[6] = {0, 2, 1, 2, -1, 0.5f};
  double all = 0, sig[6];
  for (int i = 0; i < 6; i++) all += exp((double)s[i]), sig[i] = 1 / (1 + exp(-(double)s[i]));
  const double soft[3] = {exp(2) / all, exp(2) / all, exp(1) / all}, third = exp(2) + exp(2) + exp(1);
  /* ties go to the lower index */
  routed((aii_routing){.n_experts = 6, .n_used = 3}, s, (int32_t[]){1, 3, 2}, soft);
  routed((aii_routing){.n_experts = 6, .n_used = 3, .normalise = true, .scale = 2}, s, (int32_t[]){1, 3, 2},
         (double[]){2 * exp(2) / third, 2 * exp(2) / third, 2 * exp(1) / third});
  /* chosen with a bias, weighted without */
  const float b[6] = {9, 0, 0, 0, 8, 0};
  aii_weight bias = {.type = AII_F32, .n_in = 6, .n_out = 1, .source = b};
  routed((aii_routing){.n_experts = 6, .n_used = 2, .sigmoid = true, .bias = &bias}, s, (int32_t[]){0, 4},
         (double[]){sig[0], sig[4]});
  /* groups {0, 1}, {2, 3}, {4, 5}: by softmax a group is worth its best, by sigmoid the sum of its two best */
  routed((aii_routing){.n_experts = 6, .n_used = 2, .n_groups = 3, .n_groups_used = 1}, s, (int32_t[]){1, 0},
         (double[]){exp(2) / all, 1 / all});
  routed((aii_routing){.n_experts = 6, .n_used = 2, .n_groups = 3, .n_groups_used = 1, .sigmoid = true}, s,
         (int32_t[]){3, 2}, (double[]){sig[3], sig[2]});
}

static void test_sums_of_experts(void **state)
{
  (void)state;
  machine m = new_machine(2, 0);
  const float y[] = {1, 2, 3, 4, 5, 6, 7, 8}, weights[] = {1, 0.5f, 2, 0}, gate[] = {0, 100};
  float out[4];
  m.be->ops->combine(m.be, y, weights, 2, 2, 2, out);
  const float want[] = {2.5f, 4, 10, 12};
  assert_memory_equal(out, want, sizeof want);
  m.be->ops->gate_rows(m.be, out, gate, 2, 2);
  const float gated[] = {1.25f, 2, 10, 12};
  assert_memory_equal(out, gated, sizeof gated);
  free_machine(m);
}

/* ---- attention ---- */

enum { KEY = 20, VALUE = 12, HEADS = 6, KV_HEADS = 2, LENGTH = 150, BLOCK = 8 };

typedef struct history {
  float *q, *k, *v, sinks[HEADS];
} history;

static void attend(const history *h, uint32_t threads, uint32_t chunk, bool sinks, float cap, float *out)
{
  machine m = new_machine(threads, 0);
  aiinfra_error err;
  aii_kv_view kv = {.type = AII_F32,
                    .n_layers = 1,
                    .n_kv_heads = KV_HEADS,
                    .head_dim = KEY,
                    .value_dim = VALUE,
                    .block_tokens = BLOCK,
                    .n_blocks = LENGTH / BLOCK + 1,
                    .value_offset = KV_HEADS * BLOCK * KEY * 4};
  kv.block_bytes = kv.layer_bytes = kv.value_offset + KV_HEADS * BLOCK * VALUE * 4;
  assert_int_equal(m.be->ops->alloc(m.be, kv.block_bytes * kv.n_blocks, &kv.base, &err), AIINFRA_OK);
  aii_weight sink = {.type = AII_F32, .n_in = HEADS, .n_out = 1, .source = h->sinks};
  const aii_attn how = {.n_heads = HEADS, .window = 90, .scale = 0.3f, .softcap = cap, .sinks = sinks ? &sink : NULL};
  uint32_t pos[LENGTH], seq[LENGTH] = {0}, table[LENGTH];
  const uint32_t *tables[1] = {table};
  for (uint32_t b = 0; b < kv.n_blocks; b++) table[b] = kv.n_blocks - 1 - b;
  for (uint32_t at = 0; at < LENGTH; at += chunk) {
    uint32_t n = AII_MIN(chunk, LENGTH - at);
    for (uint32_t i = 0; i < n; i++) pos[i] = at + i;
    aii_rows rows = {.n_rows = n, .n_seqs = 1, .pos = pos, .seq = seq, .tables = tables};
    m.be->ops->kv_write(m.be, &kv, 0, &rows, h->k + at * KV_HEADS * KEY, h->v + at * KV_HEADS * VALUE);
    m.be->ops->attention(m.be, &kv, 0, &rows, &how, h->q + at * HEADS * KEY, out + at * HEADS * VALUE);
  }
  m.be->ops->release(m.be, kv.base, kv.block_bytes * kv.n_blocks);
  free_machine(m);
}

static void check_row(const history *h, uint32_t pos, uint32_t head, bool sinks, float cap, const float *out)
{
  double sum = sinks ? exp((double)h->sinks[head]) : 0, want[VALUE] = {0};
  uint32_t group = head / (HEADS / KV_HEADS);
  for (uint32_t p = pos >= 90 ? pos - 89 : 0; p <= pos; p++) {
    double s = 0;
    for (int d = 0; d < KEY; d++)
      s += (double)h->q[(pos * HEADS + head) * KEY + d] * (double)h->k[(p * KV_HEADS + group) * KEY + d];
    s *= 0.3;
    if (cap > 0) s = (double)cap * tanh(s / (double)cap);
    sum += exp(s);
    for (int d = 0; d < VALUE; d++) want[d] += exp(s) * (double)h->v[(p * KV_HEADS + group) * VALUE + d];
  }
  for (int d = 0; d < VALUE; d++) /* an average of values up to 1 */
    assert_true(fabs((double)out[(pos * HEADS + head) * VALUE + d] - want[d] / sum) < 5e-6);
}

static void test_attention(void **state)
{
  (void)state;
  history h = {floats(LENGTH * HEADS * KEY, 2),
               floats(LENGTH * KV_HEADS * KEY, 2),
               floats(LENGTH * KV_HEADS * VALUE, 1),
               {3, -2, 0, 9, 1, 0.5f}};
  size_t bytes = LENGTH * HEADS * VALUE * sizeof(float);
  float *want = malloc(bytes), *got = malloc(bytes);
  for (int way = 0; way < 4; way++) {
    bool sinks = way % 2 == 1;
    float cap = way > 1 ? 2.0f : 0;
    attend(&h, 1, LENGTH, sinks, cap, want);
    for (uint32_t pos = 0; pos < LENGTH; pos += 13)
      for (uint32_t head = 0; head < HEADS; head++) check_row(&h, pos, head, sinks, cap, want);
    attend(&h, 4, 7, sinks, cap, got);
    assert_memory_equal(want, got, bytes);
    attend(&h, 2, 1, sinks, cap, got);
    assert_memory_equal(want, got, bytes);
  }
  free(h.q), free(h.k), free(h.v), free(want), free(got);
}

int main(void)
{
  seed = test_seed();
  aii_mem_init(&mem, NULL, 0);
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_activations), cmocka_unit_test(test_layer_norm),
                                     cmocka_unit_test(test_copies),      cmocka_unit_test(test_products_of_experts),
                                     cmocka_unit_test(test_routing),     cmocka_unit_test(test_sums_of_experts),
                                     cmocka_unit_test(test_attention)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
