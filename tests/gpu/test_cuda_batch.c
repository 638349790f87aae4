/* test_cuda_batch.c - many requests with many options at once, on a GPU and on the CPU: the same tokens, also of those that
 * run alone or must make way; little travels.
 *
 * AIINFRA_CUDA_PLUGIN names the plug-in to test, by default the one whose kernels run on the CPU. AIINFRA_REQUESTS is how
 * many requests there are, 1000 on a real device. The emulated one has few, and short ones, unless it is set.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aiinfra.h"
#include "tests/gpu/both.h"

enum {
  REQUESTS = 1000,
  REQUESTS_EMULATED = 72,
  AT_ONCE = 64,
  AT_ONCE_EMULATED = 18,
  FEW_TOKENS = 4,
  STEADY = 3,
  LONG = 246,
  MOST_TOKENS = 20,
  TO_HOST = 2,
  TURNING = 4,
  TURNING_TOKENS = 52
};

static const char schema[] =
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"n\":{\"type\":\"integer\"}},"
    "\"required\":[\"name\"]}";

static aiinfra_runtime *loaded; /* keeps the plug-in */
static size_t n_requests, at_once;
static uint32_t most_tokens; /* of a mixed request */

/* ---- requests ---- */

typedef struct outcome {
  aiinfra_status status;
  size_t n;
  aiinfra_token tokens[MOST_TOKENS];
  char text[256];
} outcome;

static void on_chunk(void *user, const aiinfra_chunk *chunk)
{
  outcome *o = user;
  for (size_t i = 0; i < chunk->n_tokens; i++) {
    assert_true(o->n < MOST_TOKENS);
    o->tokens[o->n++] = chunk->tokens[i];
  }
}

static void on_result(void *user, aiinfra_status status, const aiinfra_result *result)
{
  outcome *o = user;
  o->status = status;
  snprintf(o->text, sizeof o->text, "%s", result->text);
}

static float one_of(unsigned long long *seed, const float *values, size_t n)
{
  return values[test_random(seed) % n];
}
#define ONE_OF(seed, ...) \
  one_of(seed, (const float[]){__VA_ARGS__}, sizeof((const float[]){__VA_ARGS__}) / sizeof(float))

static aiinfra_generate_opts draw_options(unsigned long long *seed, size_t i)
{
  (void)i;
  static const char *const texts[] = {"The default port of the server", "How do I", "Once", "{\"name\": \"", "2 + 2 ="};
  aiinfra_generate_opts o = AIINFRA_GENERATE_OPTS_INIT;
  o.text = texts[test_random(seed) % 5];
  o.max_tokens = 1 + (uint32_t)(test_random(seed) % most_tokens);
  o.temperature = ONE_OF(seed, 0, 0.2f, 0.8f, 1, 1.5f);
  o.top_k = (int32_t)ONE_OF(seed, 0, 0, 1, 5, 40, 300);
  o.top_p = ONE_OF(seed, 0, 0, 0.5f, 0.9f, 0.95f);
  o.min_p = ONE_OF(seed, 0, 0, 0.05f, 0.3f);
  o.seed = 1 + test_random(seed) % 1000;
  o.repeat_penalty = ONE_OF(seed, 0, 1, 1.3f);
  o.penalty_last_n = (int32_t)ONE_OF(seed, 0, -1, 8);
  o.presence_penalty = ONE_OF(seed, 0, 0, 0.6f);
  o.frequency_penalty = ONE_OF(seed, 0, 0, -0.4f);
  if (test_random(seed) % 3 == 0) o.logit_bias = "{\"5\": 4.5, \"17\": -100, \"300\": 2}";
  if (test_random(seed) % 4 == 0) o.json_schema = schema;
  return o;
}

static aiinfra_generate_opts steady_options(unsigned long long *seed, size_t i)
{
  static aiinfra_token tokens[LONG];
  aiinfra_generate_opts o = AIINFRA_GENERATE_OPTS_INIT;
  (void)seed;
  for (int t = 0; t < LONG; t++) tokens[t] = 10 + (t * t + 1) % 200;
  o.tokens = tokens + 5 * i;
  o.n_tokens = i == 0 ? LONG : 1 + i;
  o.max_tokens = MOST_TOKENS;
  o.ignore_eos = 1;
  return o;
}

/* Long prompts that take turns, so that each has left a small cache before it comes again. */
static aiinfra_generate_opts turning_options(unsigned long long *seed, size_t i)
{
  static aiinfra_token tokens[TURNING][TURNING_TOKENS];
  aiinfra_generate_opts o = AIINFRA_GENERATE_OPTS_INIT;
  (void)seed;
  for (int t = 0; t < TURNING_TOKENS; t++) tokens[i % TURNING][t] = 10 + (t * t + 37 * (int)(i % TURNING)) % 200;
  o.tokens = tokens[i % TURNING];
  o.n_tokens = TURNING_TOKENS;
  o.max_tokens = FEW_TOKENS;
  o.ignore_eos = 1;
  return o;
}

/* ---- a device ---- */

/* How requests run; zero: as it comes. */
typedef struct setting {
  aiinfra_kv_opts cache;
  size_t alone; /* > 0: every so many-th request, one after the other, and no prefix is known */
} setting;

typedef struct use {
  aiinfra_model_info model;
  aiinfra_kv_stats cache;
  aiinfra_batcher_stats batcher;
} use;

typedef aiinfra_generate_opts (*options_of)(unsigned long long *seed, size_t i);

static aiinfra_runtime_opts runtime_on(int32_t device)
{
  aiinfra_runtime_opts opts = AIINFRA_RUNTIME_OPTS_INIT;
  opts.n_threads = 1;
  opts.device = device;
  opts.cuda_path = device == AIINFRA_DEVICE_CUDA ? both_plugin() : NULL;
  return opts;
}

/* Submits requests in waves that the queue has room for. */
static void submit(aiinfra_runtime *rt, aiinfra_batcher *batcher, options_of options, size_t n, size_t stride,
                   outcome *outcomes)
{
  aiinfra_error err;
  size_t wave = 0;
  memset(outcomes, 0, n * sizeof *outcomes);
  for (size_t i = 0; i < n; i += stride) {
    unsigned long long random = test_seed() + i * 7919;
    aiinfra_generate_opts o = options(&random, i);
    if (aiinfra_batcher_generate(batcher, &o, on_chunk, on_result, &outcomes[i], NULL, &err) != AIINFRA_OK)
      fail_msg("request %zu: %s", i, err.message);
    if (++wave % (4 * at_once) == 0) assert_int_equal(aiinfra_runtime_run(rt, &err), AIINFRA_OK);
  }
  assert_int_equal(aiinfra_runtime_run(rt, &err), AIINFRA_OK);
}

static use run(int32_t device, options_of options, size_t n, outcome *outcomes, const setting *how)
{
  static const setting usual;
  if (how == NULL) how = &usual;
  aiinfra_runtime_opts ro = runtime_on(device);
  aiinfra_batcher_opts bo = AIINFRA_BATCHER_OPTS_INIT;
  aiinfra_runtime *rt = NULL;
  aiinfra_model *model = NULL;
  aiinfra_kv *kv = NULL;
  aiinfra_batcher *batcher = NULL;
  aiinfra_error err = {0};
  use used = {
      {.struct_size = sizeof used.model}, {.struct_size = sizeof used.cache}, {.struct_size = sizeof used.batcher}};
  bo.max_running = how->alone > 0 ? 1 : (uint32_t)at_once;
  bo.prefix_cache = how->alone > 0 ? -1 : 0;
  if (aiinfra_runtime_create(&ro, &rt, &err) != AIINFRA_OK ||
      aiinfra_model_open(rt, test_path("examples/nano/nano.gguf"), NULL, &model, &err) != AIINFRA_OK ||
      aiinfra_kv_create(model, how->cache.struct_size > 0 ? &how->cache : NULL, &kv, &err) != AIINFRA_OK ||
      aiinfra_batcher_create(model, kv, &bo, &batcher, &err) != AIINFRA_OK)
    fail_msg("%s", err.message);
  submit(rt, batcher, options, n, AII_MAX(how->alone, (size_t)1), outcomes);
  assert_int_equal(aiinfra_model_get_info(model, &used.model, &err), AIINFRA_OK);
  assert_int_equal(aiinfra_kv_get_stats(kv, &used.cache, &err), AIINFRA_OK);
  assert_int_equal(aiinfra_batcher_get_stats(batcher, &used.batcher, &err), AIINFRA_OK);
  aiinfra_batcher_close(batcher, NULL, NULL);
  assert_int_equal(aiinfra_runtime_run(rt, &err), AIINFRA_OK);
  aiinfra_kv_free(kv);
  aiinfra_model_free(model);
  aiinfra_runtime_close(rt, NULL, NULL);
  return used;
}

/* ---- mixed requests ---- */

static outcome *wanted, *got; /* [n_requests]; wanted: on the CPU */

/* Returns how many tokens there were. */
static size_t assert_as_wanted(size_t n, size_t stride, const char *what)
{
  size_t tokens = 0;
  for (size_t i = 0; i < n; i += stride) {
    assert_int_equal(wanted[i].status, AIINFRA_OK);
    assert_int_equal(got[i].status, AIINFRA_OK);
    if (got[i].n != wanted[i].n || memcmp(got[i].tokens, wanted[i].tokens, sizeof got[i].tokens) != 0)
      fail_msg("%s: request %zu of seed %llu: \"%s\", should be \"%s\"", what, i, test_seed(), got[i].text,
               wanted[i].text);
    tokens += got[i].n;
  }
  return tokens;
}

static void test_same_tokens(void **state)
{
  (void)state;
  run(AIINFRA_DEVICE_CPU, draw_options, n_requests, wanted, NULL);
  const unsigned long long *copied = both_counter("fake_cuda_copied");
  unsigned long long before = copied != NULL ? copied[TO_HOST] : 0;
  use used = run(AIINFRA_DEVICE_CUDA, draw_options, n_requests, got, NULL);
  size_t tokens = assert_as_wanted(n_requests, 1, "all at once");
  assert_true(tokens > n_requests);
  if (copied != NULL) assert_in_range(copied[TO_HOST] - before, 1, tokens * used.model.n_vocab * sizeof(float) / 5);
}

/* What a request gives does not depend on those beside it. */
static void test_alone(void **state)
{
  (void)state;
  const setting alone = {.alone = 23};
  run(AIINFRA_DEVICE_CUDA, draw_options, n_requests, got, &alone);
  assert_true(assert_as_wanted(n_requests, alone.alone, "alone") > 0);
}

/* Nor on what had to be computed again, since its blocks went to another one, or to pinned memory and back. */
static void test_tight_cache(void **state)
{
  (void)state;
  const size_t n = n_requests / 4;
  setting tight = {.cache = AIINFRA_KV_OPTS_INIT};
  use used = run(AIINFRA_DEVICE_CUDA, draw_options, 0, got, NULL);
  tight.cache.block_tokens = 1;
  tight.cache.budget_bytes = at_once * used.cache.block_bytes / used.cache.block_tokens;
  for (int spills = 0; spills < 2; spills++) {
    tight.cache.spill_bytes = spills ? tight.cache.budget_bytes : 0;
    used = run(AIINFRA_DEVICE_CUDA, draw_options, n, got, &tight);
    print_message("%zu requests: %llu preemptions, %llu evictions, %llu fetches\n", n,
                  (unsigned long long)used.batcher.preemptions, (unsigned long long)used.cache.evictions,
                  (unsigned long long)used.cache.fetches);
    (void)assert_as_wanted(n, 1, spills ? "a tight cache with a second tier" : "a tight cache");
    assert_true(used.batcher.preemptions > 0);
    assert_true(used.cache.evictions > 0);
    if (spills) assert_true(used.cache.fetches > 0);
  }
}

/* Some that go on together, so that a step comes again; one is long enough for tables and angles to grow on the way. */
static void test_graphs(void **state)
{
  (void)state;
  static outcome cpu_gave[STEADY], cuda_gave[STEADY];
  const unsigned long long *graphs = both_counter("fake_cuda_graphs");
  unsigned long long before = graphs != NULL ? *graphs : 0;
  run(AIINFRA_DEVICE_CPU, steady_options, STEADY, cpu_gave, NULL);
  run(AIINFRA_DEVICE_CUDA, steady_options, STEADY, cuda_gave, NULL);
  assert_memory_equal(cpu_gave, cuda_gave, sizeof cpu_gave);
  for (size_t i = 0; i < STEADY; i++) assert_int_equal(cpu_gave[i].n, MOST_TOKENS);
  if (graphs != NULL) assert_in_range(*graphs - before, MOST_TOKENS / 2, MOST_TOKENS);
}

/* A device that makes no graphs gives the same, one launch after the other. */
static void test_without_graphs(void **state)
{
  (void)state;
  static outcome cpu_gave[STEADY], cuda_gave[STEADY];
  const unsigned long long *graphs = both_counter("fake_cuda_graphs");
  if (graphs == NULL) test_skip("a real device makes graphs");
  unsigned long long before = *graphs;
  setenv("AIINFRA_FAKE_CUDA", "plain", 1);
  run(AIINFRA_DEVICE_CPU, steady_options, STEADY - 1, cpu_gave, NULL);
  run(AIINFRA_DEVICE_CUDA, steady_options, STEADY - 1, cuda_gave, NULL);
  unsetenv("AIINFRA_FAKE_CUDA");
  assert_int_equal(*graphs, before);
  assert_memory_equal(cpu_gave, cuda_gave, sizeof cpu_gave);
}

/* Blocks go to pinned memory and come back; a file is not pinned. */
static void test_second_tier(void **state)
{
  (void)state;
  static outcome cpu_gave[2 * TURNING], cuda_gave[2 * TURNING];
  use used = run(AIINFRA_DEVICE_CPU, turning_options, 2 * TURNING, cpu_gave, NULL);
  setting small = {.cache = AIINFRA_KV_OPTS_INIT};
  small.cache.budget_bytes = used.cache.block_bytes * 2 * (TURNING_TOKENS / 16 + 1);
  small.cache.spill_bytes = used.cache.block_bytes * 100;
  for (int in_file = 0; in_file < 2; in_file++) {
    small.cache.spill_dir = in_file ? "/tmp" : NULL;
    used = run(AIINFRA_DEVICE_CUDA, turning_options, 2 * TURNING, cuda_gave, &small);
    assert_memory_equal(cpu_gave, cuda_gave, sizeof cpu_gave);
    assert_true(used.cache.fetches > TURNING);
  }
}

/* ---- the door ---- */

static int set_up(void **state)
{
  (void)state;
  aiinfra_runtime_opts opts = runtime_on(AIINFRA_DEVICE_CUDA);
  aiinfra_error err;
  if (aiinfra_runtime_create(&opts, &loaded, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  const char *asked = getenv("AIINFRA_REQUESTS");
  bool few = both_counter("fake_cuda_kernels") != NULL && asked == NULL;
  n_requests = asked != NULL ? strtoul(asked, NULL, 10) : few ? REQUESTS_EMULATED : REQUESTS;
  at_once = few ? AT_ONCE_EMULATED : AT_ONCE;
  most_tokens = few ? FEW_TOKENS : MOST_TOKENS;
  wanted = calloc(n_requests, sizeof *wanted);
  got = calloc(n_requests, sizeof *got);
  if (n_requests < 2 || wanted == NULL || got == NULL) fail_msg("AIINFRA_REQUESTS is no number above 1");
  return 0;
}

static int tear_down(void **state)
{
  (void)state;
  aiinfra_runtime_free(loaded);
  free(wanted), free(got);
  return 0;
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_tokens), cmocka_unit_test(test_alone),
                                     cmocka_unit_test(test_tight_cache), cmocka_unit_test(test_graphs),
                                     cmocka_unit_test(test_second_tier), cmocka_unit_test(test_without_graphs)};
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
