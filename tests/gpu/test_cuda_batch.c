/* test_cuda_batch.c - many requests with many options at once, on a GPU and on the CPU: the same tokens; little travels.
 *
 * AIINFRA_CUDA_PLUGIN names the plug-in to test, by default the one whose kernels run on the CPU.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aiinfra.h"
#include "tests/support/support.h"

enum {
  REQUESTS = 72,
  AT_ONCE = 18,
  FEW_TOKENS = 4,
  STEADY = 3,
  LONG = 246,
  MOST_TOKENS = 20,
  TO_HOST = 2,
  TURNING = 6,
  TURNING_TOKENS = 70
};

static const char schema[] =
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"n\":{\"type\":\"integer\"}},"
    "\"required\":[\"name\"]}";

static const char *plugin(void)
{
  const char *path = getenv("AIINFRA_CUDA_PLUGIN");
  return path != NULL ? path : test_built("libaiinfra-cuda-on-cpu.so");
}

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
  o.max_tokens = 1 + (uint32_t)(test_random(seed) % FEW_TOKENS);
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

static aiinfra_kv_opts cache_opts; /* of the next runs; zero: as it comes */
static aiinfra_kv_stats cache_stats;

typedef aiinfra_generate_opts (*options_of)(unsigned long long *seed, size_t i);

/* info may be NULL. */
static void run(int32_t device, options_of options, size_t n, outcome *outcomes, aiinfra_model_info *info)
{
  aiinfra_runtime_opts ro = AIINFRA_RUNTIME_OPTS_INIT;
  aiinfra_batcher_opts bo = AIINFRA_BATCHER_OPTS_INIT;
  aiinfra_runtime *rt = NULL;
  aiinfra_model *model = NULL;
  aiinfra_kv *kv = NULL;
  aiinfra_batcher *batcher = NULL;
  aiinfra_error err = {0};
  unsigned long long seed = test_seed();
  ro.n_threads = 1;
  ro.device = device;
  ro.cuda_path = device == AIINFRA_DEVICE_CUDA ? plugin() : NULL;
  bo.max_running = AT_ONCE;
  if (aiinfra_runtime_create(&ro, &rt, &err) != AIINFRA_OK ||
      aiinfra_model_open(rt, test_path("examples/nano/nano.gguf"), NULL, &model, &err) != AIINFRA_OK ||
      aiinfra_kv_create(model, cache_opts.struct_size > 0 ? &cache_opts : NULL, &kv, &err) != AIINFRA_OK ||
      aiinfra_batcher_create(model, kv, &bo, &batcher, &err) != AIINFRA_OK)
    fail_msg("%s", err.message);
  if (info != NULL) assert_int_equal(aiinfra_model_get_info(model, info, &err), AIINFRA_OK);
  for (size_t i = 0; i < n; i++) {
    aiinfra_generate_opts o = options(&seed, i);
    if (aiinfra_batcher_generate(batcher, &o, on_chunk, on_result, &outcomes[i], NULL, &err) != AIINFRA_OK)
      fail_msg("request %zu: %s", i, err.message);
    if (i % AT_ONCE == AT_ONCE - 1) assert_int_equal(aiinfra_runtime_run(rt, &err), AIINFRA_OK);
  }
  assert_int_equal(aiinfra_runtime_run(rt, &err), AIINFRA_OK);
  cache_stats.struct_size = sizeof cache_stats;
  assert_int_equal(aiinfra_kv_get_stats(kv, &cache_stats, &err), AIINFRA_OK);
  aiinfra_batcher_close(batcher, NULL, NULL);
  assert_int_equal(aiinfra_runtime_run(rt, &err), AIINFRA_OK);
  aiinfra_kv_free(kv);
  aiinfra_model_free(model);
  aiinfra_runtime_close(rt, NULL, NULL);
}

/* What the emulated device counts; NULL: a real one does not. */
static const unsigned long long *counter(const char *name)
{
  void *library = dlopen(plugin(), RTLD_NOW | RTLD_NOLOAD);
  return library != NULL ? dlsym(library, name) : NULL;
}

static void test_same_tokens(void **state)
{
  (void)state;
  static outcome cpu[REQUESTS], cuda[REQUESTS];
  aiinfra_model_info info = {.struct_size = sizeof info};
  run(AIINFRA_DEVICE_CPU, draw_options, REQUESTS, cpu, &info);
  run(AIINFRA_DEVICE_CUDA, draw_options, REQUESTS, cuda, &info);
  size_t tokens = 0;
  for (size_t i = 0; i < REQUESTS; i++) {
    assert_int_equal(cpu[i].status, AIINFRA_OK);
    assert_int_equal(cuda[i].status, AIINFRA_OK);
    if (cpu[i].n != cuda[i].n || memcmp(cpu[i].tokens, cuda[i].tokens, sizeof cpu[i].tokens) != 0)
      fail_msg("request %zu of seed %llu: \"%s\", should be \"%s\"", i, test_seed(), cuda[i].text, cpu[i].text);
    tokens += cpu[i].n;
  }
  assert_true(tokens > REQUESTS);
  const unsigned long long *copied = counter("fake_cuda_copied");
  if (copied != NULL) assert_in_range(copied[TO_HOST], 1, tokens * info.n_vocab * sizeof(float) / 5);
}

/* Some that go on together, so that a step comes again; one is long enough for tables and angles to grow on the way. */
static void test_graphs(void **state)
{
  (void)state;
  static outcome cpu[STEADY], cuda[STEADY];
  const unsigned long long *graphs = counter("fake_cuda_graphs");
  unsigned long long before = graphs != NULL ? *graphs : 0;
  run(AIINFRA_DEVICE_CPU, steady_options, STEADY, cpu, NULL);
  run(AIINFRA_DEVICE_CUDA, steady_options, STEADY, cuda, NULL);
  assert_memory_equal(cpu, cuda, sizeof cpu);
  for (size_t i = 0; i < STEADY; i++) assert_int_equal(cpu[i].n, MOST_TOKENS);
  if (graphs != NULL) assert_in_range(*graphs - before, MOST_TOKENS / 2, MOST_TOKENS);
}

/* A device that makes no graphs gives the same, one launch after the other. */
static void test_without_graphs(void **state)
{
  (void)state;
  static outcome cpu[STEADY], cuda[STEADY];
  const unsigned long long *graphs = counter("fake_cuda_graphs");
  if (graphs == NULL) test_skip("a real device makes graphs");
  unsigned long long before = *graphs;
  setenv("AIINFRA_FAKE_CUDA", "plain", 1);
  run(AIINFRA_DEVICE_CPU, steady_options, STEADY, cpu, NULL);
  run(AIINFRA_DEVICE_CUDA, steady_options, STEADY, cuda, NULL);
  unsetenv("AIINFRA_FAKE_CUDA");
  assert_int_equal(*graphs, before);
  assert_memory_equal(cpu, cuda, sizeof cpu);
}

/* Blocks go to pinned memory and come back; a file is not pinned. */
static void test_second_tier(void **state)
{
  (void)state;
  static outcome cpu[2 * TURNING], cuda[2 * TURNING];
  run(AIINFRA_DEVICE_CPU, turning_options, 2 * TURNING, cpu, NULL);
  cache_opts = (aiinfra_kv_opts)AIINFRA_KV_OPTS_INIT;
  cache_opts.budget_bytes = cache_stats.block_bytes * 2 * (TURNING_TOKENS / 16 + 2);
  cache_opts.spill_bytes = cache_stats.block_bytes * 100;
  for (int in_file = 0; in_file < 2; in_file++) {
    cache_opts.spill_dir = in_file ? "/tmp" : NULL;
    memset(cuda, 0, sizeof cuda);
    run(AIINFRA_DEVICE_CUDA, turning_options, 2 * TURNING, cuda, NULL);
    assert_memory_equal(cpu, cuda, sizeof cpu);
    assert_true(cache_stats.fetches > TURNING);
  }
  cache_opts.struct_size = 0;
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_tokens), cmocka_unit_test(test_graphs),
                                     cmocka_unit_test(test_second_tier), cmocka_unit_test(test_without_graphs)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
