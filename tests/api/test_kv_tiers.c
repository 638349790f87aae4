/* test_kv_tiers.c - what a KV cache keeps beyond its blocks: the second tier, and the file for the next process. Whatever comes
 * back from there, no text may change. */
#include <sys/stat.h>

#include "tests/api/stories.h"

/* Prompts take turns in a cache that holds one of them. With a second tier none is computed twice, and no text changes. */
static void second_tier(const char *dir, uint64_t budget, uint64_t spill_bytes, char texts[8][1024])
{
  aiinfra_kv_stats stats = {.struct_size = sizeof stats};
  aiinfra_kv_opts opts = AIINFRA_KV_OPTS_INIT;
  stories s;
  stories_open(&s, 1, NULL);
  aiinfra_batcher_free(s.batcher);
  aiinfra_kv_free(s.kv);
  opts.budget_bytes = budget;
  opts.spill_bytes = spill_bytes;
  opts.spill_dir = dir;
  MUST(aiinfra_kv_create(s.model, &opts, &s.kv, &stories_err));
  MUST(aiinfra_batcher_create(s.model, s.kv, NULL, &s.batcher, &stories_err));
  for (int i = 0; i < 24; i++) {
    aiinfra_generate_opts ask = stories_opts(stories_prompts[i % 8], 60);
    answer *a = stories_ask(&s, &ask);
    assert_int_equal(a->status, AIINFRA_OK);
    assert_string_equal(a->text, texts[i % 8]);
    uint32_t whole = (a->result.n_prompt - 1) / 16 * 16;
    if (i >= 8 && spill_bytes > 0) assert_int_equal(a->result.n_cached, whole);
    answer_free(a);
  }
  MUST(aiinfra_kv_get_stats(s.kv, &stats, &stories_err));
  assert_int_equal(stats.fetches > 0, spill_bytes > 0);
  assert_true(stats.evictions > 0 && stats.fetches <= stats.spills && stats.spills <= stats.evictions);
  stories_close(&s);
}

static void test_second_tier(void **state)
{
  (void)state;
  static char texts[8][1024];
  stories s;
  stories_alone(texts);
  stories_open(&s, 1, NULL);
  aiinfra_kv_stats kv = {.struct_size = sizeof kv};
  MUST(aiinfra_kv_get_stats(s.kv, &kv, &stories_err));
  stories_close(&s);
  const uint64_t many = kv.block_bytes * 200;
  second_tier(NULL, kv.block_bytes * 12, 0, texts);
  second_tier(NULL, kv.block_bytes * 12, many, texts);
  second_tier("/tmp", kv.block_bytes * 12, many, texts);
}

/* ---- the file ---- */

/* How many tokens of the prompt were found. */
static uint32_t ask(stories *s, int i, char texts[8][1024])
{
  aiinfra_generate_opts opts = stories_opts(stories_prompts[i], 60);
  answer *a = stories_ask(s, &opts);
  assert_int_equal(a->status, AIINFRA_OK);
  assert_string_equal(a->text, texts[i]);
  uint32_t found = a->result.n_cached;
  answer_free(a);
  return found;
}

static uint32_t ask_all(stories *s, char texts[8][1024])
{
  uint32_t found = 0;
  for (int i = 0; i < 8; i++) found += ask(s, i, texts);
  return found;
}

/* A batcher on a new cache of another size, into which the file was loaded. */
static void open_loaded(stories *s, uint64_t budget, uint64_t spill_bytes, const char *path)
{
  aiinfra_kv_opts opts = AIINFRA_KV_OPTS_INIT;
  stories_open(s, 1, NULL);
  aiinfra_batcher_free(s->batcher);
  aiinfra_kv_free(s->kv);
  opts.budget_bytes = budget;
  opts.spill_bytes = spill_bytes;
  MUST(aiinfra_kv_create(s->model, &opts, &s->kv, &stories_err));
  if (path != NULL) MUST(aiinfra_kv_load(s->kv, path, &stories_err));
  MUST(aiinfra_batcher_create(s->model, s->kv, NULL, &s->batcher, &stories_err));
}

static void test_saved_cache(void **state)
{
  (void)state;
  static char texts[8][1024];
  const char *path = test_tmp("cache.kv");
  aiinfra_kv_stats stats = {.struct_size = sizeof stats}, loaded = stats;
  stories s, one;
  stories_alone(texts);
  stories_open(&s, 1, NULL);
  (void)ask_all(&s, texts);
  uint32_t all = ask_all(&s, texts);
  MUST(aiinfra_kv_get_stats(s.kv, &stats, &stories_err));
  MUST(aiinfra_kv_save(s.kv, path, &stories_err));
  struct stat st;
  assert_int_equal(stat(path, &st), 0);
  assert_int_equal(st.st_mode & 0777, 0600);
  assert_int_equal(aiinfra_kv_load(s.kv, path, &stories_err), AIINFRA_EBUSY);
  stories_close(&s);

  open_loaded(&one, 0, 0, path); /* all of it */
  MUST(aiinfra_kv_get_stats(one.kv, &loaded, &stories_err));
  assert_int_equal(loaded.n_cached, stats.n_cached);
  assert_int_equal(ask_all(&one, texts), all);
  stories_close(&one);

  uint64_t few = stats.block_bytes * 12;
  assert_true(stats.n_cached > 14);
  open_loaded(&one, few, 0, path); /* what was used last */
  MUST(aiinfra_kv_get_stats(one.kv, &loaded, &stories_err));
  assert_int_equal(loaded.n_cached, 12);
  assert_true(ask(&one, 7, texts) > 0);
  stories_close(&one);

  open_loaded(&one, few, stats.block_bytes * 100, path); /* the rest stands in the second tier */
  MUST(aiinfra_kv_get_stats(one.kv, &loaded, &stories_err));
  assert_int_equal(loaded.n_cached + loaded.n_spilled, stats.n_cached);
  MUST(aiinfra_kv_save(one.kv, path, &stories_err)); /* as it came */
  assert_int_equal(ask_all(&one, texts), all);
  MUST(aiinfra_kv_save(one.kv, path, &stories_err));
  stories_close(&one);
  open_loaded(&one, 0, 0, path);
  assert_int_equal(ask_all(&one, texts), all);
  stories_close(&one);
}

/* A cache that knows nothing opens what it is given, or says what is wrong with it, and works all the same. */
static void refused(const char *path, int32_t dtype, uint32_t block_tokens, uint32_t max_context, const char *said)
{
  aiinfra_kv_opts opts = AIINFRA_KV_OPTS_INIT;
  aiinfra_model_opts model_opts = AIINFRA_MODEL_OPTS_INIT;
  stories s;
  stories_open(&s, 1, NULL);
  aiinfra_batcher_free(s.batcher);
  aiinfra_kv_free(s.kv);
  aiinfra_model_free(s.model);
  model_opts.max_context = max_context;
  MUST(aiinfra_model_open(s.rt, test_data(STORIES_GGUF), &model_opts, &s.model, &stories_err));
  opts.dtype = dtype;
  opts.block_tokens = block_tokens;
  MUST(aiinfra_kv_create(s.model, &opts, &s.kv, &stories_err));
  assert_int_equal(aiinfra_kv_load(s.kv, path, &stories_err), AIINFRA_EFORMAT);
  if (strstr(stories_err.message, said) == NULL) fail_msg("\"%s\" should say %s", stories_err.message, said);
  MUST(aiinfra_batcher_create(s.model, s.kv, NULL, &s.batcher, &stories_err));
  aiinfra_generate_opts ask = stories_opts(stories_prompts[3], 20);
  answer *a = stories_ask(&s, &ask);
  assert_int_equal(a->status, AIINFRA_OK);
  assert_int_equal(a->result.n_cached, 0);
  answer_free(a);
  stories_close(&s);
}

static void test_saved_cache_of_something_else(void **state)
{
  (void)state;
  static char texts[8][1024];
  char path[600], other[600];
  size_t n;
  stories s;
  snprintf(path, sizeof path, "%s", test_tmp("cache.kv"));
  snprintf(other, sizeof other, "%s", test_tmp("damaged.kv"));
  stories_alone(texts);
  stories_open(&s, 1, NULL);
  (void)ask_all(&s, texts);
  MUST(aiinfra_kv_save(s.kv, path, &stories_err));
  assert_int_equal(aiinfra_kv_save(s.kv, "/no/such/folder/cache.kv", &stories_err), AIINFRA_ENOENT);
  assert_non_null(strstr(stories_err.message, "/no/such/folder"));
  stories_close(&s);
  refused(path, AIINFRA_DTYPE_F16, 0, 0, "another type");
  refused(path, 0, 8, 0, "block size");
  refused(path, 0, 0, 100, "another model"); /* of which rotations might differ */
  refused(test_data(STORIES_GGUF), 0, 0, 0, "no file of KV blocks");
  char *bytes = test_read_file(path, &n);
  const size_t places[] = {9, 40, 100, 200, 5000, n - 1};
  for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
    bytes[places[i]] ^= 4;
    assert_int_equal(test_write_file(other, bytes, n), 0);
    bytes[places[i]] ^= 4;
    refused(other, 0, 0, 0, i == 0 ? "byte order" : "damaged");
  }
  assert_int_equal(test_write_file(other, bytes, n - 1), 0);
  refused(other, 0, 0, 0, "size is wrong");
  assert_int_equal(test_write_file(other, bytes, 50), 0);
  refused(other, 0, 0, 0, "damaged");
  free(bytes);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_second_tier), cmocka_unit_test(test_saved_cache),
                                     cmocka_unit_test(test_saved_cache_of_something_else)};
  if (test_data(STORIES_GGUF) == NULL) return test_skip_all("stories260K is not here");
  return cmocka_run_group_tests(tests, NULL, NULL);
}
