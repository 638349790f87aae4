/* test_tenants.c - memory and the disk fail while tenants write, are listed and dropped, and while a collection goes. */
#include <stdio.h>
#include <unistd.h>

#include "tests/torture/scene.h"

static char path[512];

static aiinfra_status open_store(aiinfra_db *db, const char *tenant, aiinfra_vecstore **store)
{
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  opts.dims = 2;
  opts.tenant = tenant;
  return torture_made(aiinfra_vecstore_open(db, "rows", &opts, store, NULL), store, "open");
}

static aiinfra_status put(aiinfra_vecstore *store, int64_t id)
{
  static const float v[2] = {1, 2};
  aiinfra_record r = {id, v, "red fox", "{\"a\":1}"};
  return aiinfra_vecstore_upsert(store, &r, 1, NULL);
}

static aiinfra_status ask(aiinfra_vecstore *store, const char *request, const char *want)
{
  char *answer = NULL;
  aiinfra_status rc = torture_made(aiinfra_vecstore_read(store, request, &answer, NULL), &answer, request);
  if (rc == AIINFRA_OK) torture_check(strcmp(answer, want) == 0, want);
  aiinfra_string_free(answer);
  return rc;
}

static aiinfra_status use(aiinfra_db *db, aiinfra_vecstore *all, aiinfra_vecstore *a, aiinfra_vecstore *b)
{
  uint64_t n = 9;
  aiinfra_status rc = put(a, 1);
  if (rc == AIINFRA_OK) rc = put(b, 1);
  if (rc == AIINFRA_OK) rc = put(b, 2);
  if (rc == AIINFRA_OK) rc = ask(a, "{\"count\":{\"filter\":{\"a\":1}}}", "{\"count\":1}");
  if (rc == AIINFRA_OK) {
    rc = ask(all, "{\"tenants\":{}}",
             "{\"tenants\":[{\"tenant\":\"a\",\"count\":1},{\"tenant\":\"b\",\"count\":2}],\"next\":null}");
  }
  if (rc != AIINFRA_OK) return rc;
  rc = aiinfra_vecstore_change(all, "{\"drop_tenant\":{\"tenant\":\"b\"}}", &n, NULL);
  torture_check(n == (rc == AIINFRA_OK ? 2 : 0), "the whole tenant or nothing");
  if (rc == AIINFRA_OK) rc = ask(b, "{\"count\":{}}", "{\"count\":0}");
  if (rc == AIINFRA_OK) rc = ask(a, "{\"count\":{}}", "{\"count\":1}");
  if (rc == AIINFRA_OK) rc = aiinfra_vecstore_drop(db, "rows", NULL);
  torture_pause("what is left");
  torture_check(aiinfra_db_check(db, NULL) == AIINFRA_OK, "the database is sound");
  torture_resume();
  return rc;
}

static aiinfra_status scenario(void *ctx)
{
  static const char *const endings[] = {"", "-wal", "-shm"};
  aiinfra_runtime *runtime = NULL;
  aiinfra_db *db = NULL;
  aiinfra_vecstore *all = NULL, *a = NULL, *b = NULL;
  (void)ctx;
  torture_pause("runtime and database");
  for (size_t i = 0; i < 3; i++) {
    char name[600];
    snprintf(name, sizeof name, "%s%s", path, endings[i]);
    (void)remove(name);
  }
  aiinfra_status rc = scene_runtime(&runtime);
  if (rc == AIINFRA_OK) rc = aiinfra_db_open(runtime, path, NULL, &db, NULL);
  torture_resume();
  if (rc == AIINFRA_OK) rc = open_store(db, NULL, &all);
  if (rc == AIINFRA_OK) rc = open_store(db, "a", &a);
  if (rc == AIINFRA_OK) rc = open_store(db, "b", &b);
  if (rc == AIINFRA_OK) rc = use(db, all, a, b);
  aiinfra_vecstore_free(all);
  aiinfra_vecstore_free(a);
  aiinfra_vecstore_free(b);
  aiinfra_db_free(db);
  aiinfra_runtime_free(runtime);
  return rc;
}

static void tenants(void **state)
{
  static const aiinfra_status allowed[] = {AIINFRA_EFORMAT};
  torture_opts opts = {.sources = TORTURE_HOOK | TORTURE_MALLOC, .max_calls = 80};
  (void)state;
  snprintf(path, sizeof path, "%s", test_tmp("tenants.db"));
  assert_int_equal(torture_run("tenants.memory", scenario, NULL, &opts), 0);
  opts.sources = TORTURE_IO;
  opts.allowed = allowed;
  opts.n_allowed = 1;
  assert_int_equal(torture_run("tenants.disk", scenario, NULL, &opts), 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(tenants)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
