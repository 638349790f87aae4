/* test_kv_file.c - memory and the disk fail while a KV cache is saved and loaded: the file is whole or not there, and a cache
 * works all the same. */
#include <unistd.h>

#include "tests/torture/scene.h"

static const char *path;

static void on_result(void *user, aiinfra_status status, const aiinfra_result *result)
{
  (void)status, (void)result;
  ++*(int *)user;
}

static aiinfra_status ask(const scene *s)
{
  aiinfra_generate_opts opts = AIINFRA_GENERATE_OPTS_INIT;
  aiinfra_request *request = NULL;
  int done = 0;
  opts.text = "one two three four five six seven eight nine ten eleven twelve";
  opts.max_tokens = 2;
  opts.seed = 1;
  aiinfra_status rc = aiinfra_batcher_generate(s->batcher, &opts, NULL, on_result, &done, &request, NULL);
  return rc == AIINFRA_OK ? scene_wait(request, &done) : rc;
}

static aiinfra_status save(void *ctx)
{
  scene s;
  (void)ctx;
  torture_pause("a cache that was used");
  aiinfra_status rc = scene_open(&s);
  if (rc == AIINFRA_OK) rc = ask(&s);
  torture_resume();
  if (rc == AIINFRA_OK) rc = aiinfra_kv_save(s.kv, path, NULL);
  scene_close(&s);
  return rc;
}

static aiinfra_status load(void *ctx)
{
  scene s;
  (void)ctx;
  torture_pause("a new cache");
  aiinfra_status rc = scene_open(&s);
  torture_resume();
  if (rc == AIINFRA_OK) rc = aiinfra_kv_load(s.kv, path, NULL);
  torture_pause("its use");
  if (s.batcher != NULL) torture_check(ask(&s) == AIINFRA_OK, "the cache works");
  torture_resume();
  scene_close(&s);
  return rc;
}

static void test_save(void **state)
{
  const torture_opts disk = {.sources = TORTURE_IO};
  (void)state;
  (void)unlink(path);
  assert_int_equal(torture_run("kv_file.save", save, NULL, NULL), 0);
  assert_int_equal(torture_run("kv_file.save on disk", save, NULL, &disk), 0);
}

static void test_load(void **state)
{
  const torture_opts disk = {.sources = TORTURE_IO};
  (void)state;
  assert_int_equal(torture_run("kv_file.load", load, NULL, NULL), 0);
  assert_int_equal(torture_run("kv_file.load from disk", load, NULL, &disk), 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_save), cmocka_unit_test(test_load)};
  path = strdup(test_tmp("cache.kv"));
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  free((char *)(uintptr_t)path);
  return failed;
}
