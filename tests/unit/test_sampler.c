/* test_sampler.c - what is drawn, how often, and what happens when logits are no numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "src/model/model.h"
#include "support/support.h"

enum { N = 8, DRAWS = 40000 };

static aii_mem mem;

static aii_sampler *make(aii_sampling how, uint32_t n)
{
  aii_sampler *s;
  assert_int_equal(aii_sampler_create(&mem, &how, n, &s, NULL), AIINFRA_OK);
  return s;
}

static void count(aii_sampling how, const float *logits, double share[N])
{
  aii_sampler *s = make(how, N);
  for (int i = 0; i < N; i++) share[i] = 0;
  for (int i = 0; i < DRAWS; i++) share[aii_sampler_pick(s, logits)] += 1.0 / DRAWS;
  aii_sampler_free(s);
}

static const float logits[N] = {1.0f, 3.0f, 2.0f, 3.0f, -1.0f, 0.0f, -INFINITY, 1.5f};

static void test_greedy(void **state)
{
  (void)state;
  aii_sampler *s = make((aii_sampling){.temperature = 0}, N);
  assert_int_equal(aii_sampler_pick(s, logits), 1); /* the lowest id of the two */
  aii_sampler_free(s);
  s = make((aii_sampling){.temperature = 5, .top_k = 1, .seed = 3}, N);
  for (int i = 0; i < 50; i++) assert_int_equal(aii_sampler_pick(s, logits), 1);
  aii_sampler_free(s);
}

/* Shares follow the definition: softmax of logits / temperature over the tokens kept. */
static void expect_shares(aii_sampling how, unsigned kept)
{
  double share[N], weight[N], total = 0;
  count(how, logits, share);
  for (int i = 0; i < N; i++)
    total += weight[i] = (kept >> i & 1) ? exp((double)logits[i] / (double)how.temperature) : 0;
  for (int i = 0; i < N; i++) {
    double want = weight[i] / total;
    if (fabs(share[i] - want) > 4 * sqrt(want * (1 - want) / DRAWS) + 1e-9) {
      fail_msg("token %d: share %f, expected %f", i, share[i], want);
    }
  }
}

static void test_shares(void **state)
{
  (void)state;
  expect_shares((aii_sampling){.temperature = 1, .seed = 1}, 0xBF);
  expect_shares((aii_sampling){.temperature = 0.5f, .seed = 2}, 0xBF);
  expect_shares((aii_sampling){.temperature = 1, .top_k = 3, .seed = 3}, 0x0E);
  expect_shares((aii_sampling){.temperature = 2, .top_k = 4, .seed = 4}, 0x8E);
  expect_shares((aii_sampling){.temperature = 1, .top_p = 0.5f, .seed = 5}, 0x0A); /* .37 + .37 */
  expect_shares((aii_sampling){.temperature = 1, .top_p = 0.3f, .seed = 6}, 0x02);
  expect_shares((aii_sampling){.temperature = 1, .min_p = 0.2f, .seed = 7}, 0x8E);
  expect_shares((aii_sampling){.temperature = 1, .top_k = 5, .top_p = 0.95f, .min_p = 0.3f, .seed = 8}, 0x0E);
}

static void test_same_seed_same_tokens(void **state)
{
  (void)state;
  aii_sampling how = {.temperature = 1, .top_p = 0.9f, .seed = 42};
  aii_sampler *a = make(how, N), *b = make(how, N);
  float other[N] = {0, NAN, 9, -INFINITY, 1, 1, 1, 1};
  for (int i = 0; i < 200; i++) {
    /* what one pick saw does not move the numbers of the next */
    aiinfra_token x = aii_sampler_pick(a, i % 2 ? logits : other), y = aii_sampler_pick(b, i % 2 ? logits : logits);
    if (i % 2) assert_int_equal(x, y);
  }
  aii_sampler_free(a);
  aii_sampler_free(b);
}

static void test_odd_logits(void **state)
{
  (void)state;
  const aii_sampling how[] = {{.temperature = 0},
                              {.temperature = 1, .seed = 1},
                              {.temperature = 1, .top_k = 2},
                              {.temperature = 1, .top_p = 0.5f},
                              {.temperature = 1e-30f},
                              {.temperature = 1e30f},
                              {.temperature = 1, .min_p = 1}};
  float rows[5][N] = {{NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN},
                      {-INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY},
                      {0, 1, INFINITY, NAN, INFINITY, 0, 0, 0},
                      {NAN, -INFINITY, NAN, NAN, 5, NAN, -INFINITY, NAN},
                      {3e38f, -3e38f, 0, NAN, -INFINITY, 0, 0, 0}};
  const aiinfra_token want[5] = {0, 0, 2, 4, 0};
  for (size_t h = 0; h < AII_COUNT(how); h++) {
    for (size_t r = 0; r < 5; r++) {
      aii_sampler *s = make(how[h], N);
      for (int i = 0; i < 20; i++) {
        aiinfra_token token = aii_sampler_pick(s, rows[r]);
        if (r == 4 && how[h].temperature > 1e20f) {
          assert_in_range(token, 0, N - 1);
          assert_true(token != 3 && token != 4);
        } else {
          assert_int_equal(token, want[r]);
        }
      }
      aii_sampler_free(s);
    }
  }
}

/* On a large vocabulary the heap finds what sorting would. */
static void test_large(void **state)
{
  (void)state;
  enum { BIG = 50000, K = 40 };
  float *big = calloc(BIG, sizeof *big);
  unsigned long long random = test_seed();
  for (int i = 0; i < BIG; i++) big[i] = (float)(test_random(&random) % 100000) / 10000.0f;
  aii_sampler *s = make((aii_sampling){.temperature = 1, .top_k = K, .seed = 9}, BIG);
  for (int i = 0; i < 200; i++) {
    aiinfra_token token = aii_sampler_pick(s, big);
    int larger = 0;
    for (int j = 0; j < BIG; j++) larger += big[j] > big[token];
    assert_true(larger < K);
  }
  aii_sampler_free(s);
  s = make((aii_sampling){.temperature = 1, .top_p = 0.1f, .seed = 9}, BIG);
  double total = 0;
  for (int j = 0; j < BIG; j++) total += exp((double)big[j]);
  for (int i = 0; i < 100; i++) {
    aiinfra_token token = aii_sampler_pick(s, big);
    double above = 0;
    for (int j = 0; j < BIG; j++) above += big[j] > big[token] ? exp((double)big[j]) : 0;
    assert_true(above / total < 0.1 + 1e-6);
  }
  aii_sampler_free(s);
  free(big);
}

/* ---- beside the definition, word for word ---- */

typedef struct ranked {
  double weight;
  float logit;
  int id;
} ranked;

static int by_rank(const void *a, const void *b)
{
  const ranked *x = a, *y = b;
  if (x->logit != y->logit) return x->logit < y->logit ? 1 : -1;
  return x->id - y->id;
}

/* Sorts everything. With top_p the draw goes by rank; else by id. */
static int plain_pick(const aii_sampling *how, const float *x, int n, double unit, ranked *all)
{
  double max = -INFINITY, total = 0, kept = 0;
  int m = 0;
  for (int i = 0; i < n; i++) max = (double)x[i] > max ? (double)x[i] : max;
  for (int i = 0; i < n; i++)
    if (x[i] > -INFINITY) all[m++] = (ranked){exp(((double)x[i] - max) / (double)how->temperature), x[i], i};
  for (int i = 0; i < m; i++) total += all[i].weight;
  if (how->top_p > 0 && how->top_p < 1) {
    int j = 0;
    qsort(all, (size_t)m, sizeof *all, by_rank);
    while (j < m && (j == 0 || kept < (double)how->top_p * total)) kept += all[j++].weight;
    m = j;
  }
  total = 0;
  for (int i = 0; i < m; i++) total += all[i].weight < (double)how->min_p ? 0 : all[i].weight;
  double at = unit * total;
  int last = -1;
  for (int i = 0; i < m && at >= 0; i++) {
    if (all[i].weight < (double)how->min_p) continue;
    last = all[i].id;
    at -= all[i].weight;
  }
  return last;
}

/* Logits of many kinds: few that stand out, all alike, all the same, with holes. */
static void draw_logits(float *x, int n, int kind, unsigned long long *random)
{
  for (int i = 0; i < n; i++) {
    double u = 0;
    for (int j = 0; j < 4; j++) u += (double)(test_random(random) % 100000) * 1e-5;
    x[i] = (float)((u - 2) * (kind == 0 ? 2 : kind == 1 ? 9 : 0.01));
    if (kind == 0 && i % 997 == 0) x[i] += 10;
    if (kind == 3) x[i] = (float)(i % 7);
    if (kind == 4 && i % 3 != 0) x[i] = i % 2 ? -INFINITY : NAN;
  }
}

static void test_as_defined(void **state)
{
  (void)state;
  enum { BIG = 5003, PICKS = 12 };
  const aii_sampling how[] = {{.temperature = 1},
                              {.temperature = 0.7f, .top_p = 0.95f},
                              {.temperature = 1.5f, .top_p = 0.5f, .min_p = 0.02f},
                              {.temperature = 1, .top_p = 0.999f, .min_p = 0.3f},
                              {.temperature = 0.3f, .min_p = 0.1f},
                              {.temperature = 2, .top_p = 1e-6f}};
  unsigned long long random = test_seed();
  float *x = calloc(BIG, sizeof *x);
  ranked *all = calloc(BIG, sizeof *all);
  for (int kind = 0; kind < 5; kind++) {
    draw_logits(x, BIG, kind, &random);
    for (size_t h = 0; h < sizeof how / sizeof how[0]; h++) {
      aii_sampling seeded = how[h];
      aii_rng rng;
      seeded.seed = test_random(&random);
      aii_rng_seed(&rng, seeded.seed);
      aii_sampler *s = make(seeded, BIG);
      for (int i = 0; i < PICKS; i++)
        assert_int_equal(aii_sampler_pick(s, x), plain_pick(&seeded, x, BIG, aii_rng_unit(&rng), all));
      aii_sampler_free(s);
    }
  }
  free(all);
  free(x);
}

/* The lowest of the largest, wherever it stands; what is no number is passed over. */
static void test_greedy_large(void **state)
{
  (void)state;
  enum { BIG = 1003 };
  float x[BIG];
  unsigned long long random = test_seed();
  for (int i = 0; i < 500; i++) {
    for (int j = 0; j < BIG; j++) x[j] = test_random(&random) % 9 == 0 ? NAN : -(float)(test_random(&random) % 50);
    int first = (int)(test_random(&random) % BIG), second = (int)(test_random(&random) % BIG);
    x[first] = x[second] = 1;
    aii_sampler *s = make((aii_sampling){.temperature = 0}, BIG);
    assert_int_equal(aii_sampler_pick(s, x), first < second ? first : second);
    aii_sampler_free(s);
  }
}

/* ---- penalties ---- */

/* The definition, over the whole vocabulary. */
static void plain_penalty(const aii_penalty_want *want, const aiinfra_token *tokens, uint32_t n, float *x)
{
  uint32_t window = want->how.last_n < 0 ? n : want->how.last_n == 0 ? 64 : (uint32_t)want->how.last_n;
  for (uint32_t t = 0; t < want->n_vocab; t++) {
    uint32_t times = 0, near = 0;
    for (uint32_t i = 0; i < n; i++) {
      if (tokens[i] != (aiinfra_token)t) continue;
      if (i >= want->n_prompt) times++;
      if (n - i <= window) near++;
    }
    if (near > 0 && want->how.repeat != 0) x[t] = x[t] > 0 ? x[t] / want->how.repeat : x[t] * want->how.repeat;
    if (times > 0) x[t] -= want->how.frequency * (float)times + want->how.presence;
  }
  for (size_t i = 0; i < want->n_biases; i++) x[want->biases[i].token] += want->biases[i].add;
}

/* A sequence as it grows; some calls are left out, as when a token was not sampled. */
static void check_penalty(const aii_penalty_want *want, unsigned long long *random)
{
  enum { MOST = 300 };
  aiinfra_token tokens[MOST];
  float x[MOST], y[MOST];
  aii_penalty *p;
  assert_true(want->max_total <= MOST && want->n_vocab <= MOST);
  assert_int_equal(aii_penalty_create(&mem, want, &p, NULL), AIINFRA_OK);
  size_t used = mem.used_bytes;
  for (uint32_t n = 0; n < want->max_total; n++) {
    if (n >= want->n_prompt && test_random(random) % 5 != 0) {
      for (uint32_t t = 0; t < want->n_vocab; t++) x[t] = y[t] = (float)(test_random(random) % 2001) * 0.01f - 10;
      x[1] = y[1] = -INFINITY;
      aii_penalty_apply(p, tokens, n, x);
      plain_penalty(want, tokens, n, y);
      assert_memory_equal(x, y, want->n_vocab * sizeof *x);
    }
    tokens[n] = (aiinfra_token)(test_random(random) % want->n_vocab);
  }
  assert_int_equal(mem.used_bytes, used);
  aii_penalty_free(p);
}

static void test_penalties(void **state)
{
  (void)state;
  const aii_bias biases[] = {{3, 7.5f}, {0, -100}, {1, 100}};
  const aii_penalties how[] = {{.frequency = 0.7f, .presence = -0.3f},
                               {.repeat = 1.3f},
                               {.repeat = 1.3f, .last_n = 5},
                               {.repeat = 0.8f, .last_n = -1, .presence = 2},
                               {.repeat = 1.1f, .last_n = 1000, .frequency = -2},
                               {.repeat = 1}};
  unsigned long long random = test_seed();
  for (size_t h = 0; h < AII_COUNT(how); h++) {
    for (uint32_t n_vocab = 4; n_vocab <= 300; n_vocab += 74) {
      aii_penalty_want want = {.how = how[h], .biases = biases, .n_biases = n_vocab % 4, .n_vocab = n_vocab};
      want.n_biases = AII_MIN(want.n_biases, AII_COUNT(biases));
      want.n_prompt = (uint32_t)(test_random(&random) % 150) + 1;
      want.max_total = want.n_prompt + 1 + (uint32_t)(test_random(&random) % 149);
      check_penalty(&want, &random);
    }
  }
  assert_int_equal(mem.used_bytes, 0);
}

static void test_bad_options(void **state)
{
  (void)state;
  const aii_sampling bad[] = {{.temperature = -1},
                              {.temperature = NAN},
                              {.temperature = INFINITY},
                              {.temperature = 1, .top_k = -1},
                              {.temperature = 1, .top_p = 1.5f},
                              {.temperature = 1, .min_p = NAN}};
  for (size_t i = 0; i < AII_COUNT(bad); i++) {
    aii_sampler *s;
    assert_int_equal(aii_sampler_create(&mem, &bad[i], N, &s, NULL), AIINFRA_EINVAL);
    assert_null(s);
  }
  assert_int_equal(mem.used_bytes, 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_greedy),       cmocka_unit_test(test_shares),
      cmocka_unit_test(test_penalties),    cmocka_unit_test(test_same_seed_same_tokens),
      cmocka_unit_test(test_odd_logits),   cmocka_unit_test(test_large),
      cmocka_unit_test(test_bad_options),  cmocka_unit_test(test_as_defined),
      cmocka_unit_test(test_greedy_large),
  };
  aii_mem_init(&mem, NULL, 0);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
