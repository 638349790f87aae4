/* test_db_care.c - memory and the disk fail while a database is checked, measured, copied and optimised. */
#include <unistd.h>

#include "tests/torture/scene.h"

static const char *original, *copy;

static aiinfra_status ask(aiinfra_status (*fn)(aiinfra_db *, char **, aiinfra_error *), aiinfra_db *db,
                          const char *what)
{
  char *json = NULL;
  aiinfra_status rc = torture_made(fn(db, &json, NULL), &json, what);
  aiinfra_string_free(json);
  return rc;
}

static aiinfra_status optimise(aiinfra_db *db)
{
  char *json = NULL;
  aiinfra_status rc = torture_made(aiinfra_db_optimise(db, NULL, &json, NULL), &json, "optimise");
  aiinfra_string_free(json);
  return rc;
}

/* What stands under the copy's name is whole. */
static void look_at_copy(aiinfra_runtime *runtime, aiinfra_status made)
{
  aiinfra_db *db;
  aiinfra_db_opts opts = AIINFRA_DB_OPTS_INIT;
  opts.must_exist = 1;
  torture_pause("the copy");
  aiinfra_status rc = aiinfra_db_open(runtime, copy, &opts, &db, NULL);
  torture_check(rc == (made == AIINFRA_OK ? AIINFRA_OK : AIINFRA_ENOENT), "a whole copy or none");
  if (rc == AIINFRA_OK) torture_check(aiinfra_db_check(db, NULL) == AIINFRA_OK, "the copy is sound");
  aiinfra_db_free(db);
  (void)remove(copy);
  torture_resume();
}

static aiinfra_status scenario(void *ctx)
{
  aiinfra_runtime *runtime = NULL;
  aiinfra_db *db = NULL;
  (void)ctx;
  torture_pause("runtime and database");
  aiinfra_status rc = scene_runtime(&runtime);
  if (rc == AIINFRA_OK) rc = aiinfra_db_open(runtime, original, NULL, &db, NULL);
  torture_resume();
  if (rc == AIINFRA_OK) rc = aiinfra_db_check(db, NULL);
  if (rc == AIINFRA_OK) rc = ask(aiinfra_db_stats, db, "stats");
  if (rc == AIINFRA_OK) rc = optimise(db);
  if (rc == AIINFRA_OK) {
    rc = aiinfra_db_backup(db, copy, NULL, NULL);
    look_at_copy(runtime, rc);
  }
  aiinfra_db_free(db);
  aiinfra_runtime_free(runtime);
  return rc;
}

static void db_care(void **state)
{
  static const aiinfra_status allowed[] = {AIINFRA_EFORMAT};
  torture_opts opts = {.sources = TORTURE_HOOK | TORTURE_MALLOC, .max_calls = 120};
  (void)state;
  assert_int_equal(torture_run("db.care.memory", scenario, NULL, &opts), 0);
  opts.sources = TORTURE_IO;
  opts.allowed = allowed;
  opts.n_allowed = 1;
  assert_int_equal(torture_run("db.care.disk", scenario, NULL, &opts), 0);
}

static int set_up(void **state)
{
  static char paths[2][512];
  static const float v[2] = {1, 2};
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_runtime *runtime;
  aiinfra_db *db;
  aiinfra_vecstore *store;
  (void)state;
  snprintf(paths[0], sizeof paths[0], "%s", test_tmp("care.db"));
  snprintf(paths[1], sizeof paths[1], "%s", test_tmp("care-copy.db"));
  original = paths[0];
  copy = paths[1];
  opts.dims = 2;
  aiinfra_status rc = aiinfra_runtime_create(NULL, &runtime, NULL);
  if (rc == AIINFRA_OK) rc = aiinfra_db_open(runtime, original, NULL, &db, NULL);
  if (rc == AIINFRA_OK) rc = aiinfra_vecstore_open(db, "rows", &opts, &store, NULL);
  aiinfra_record r = {1, v, "one", "{\"a\":1}"};
  if (rc == AIINFRA_OK) rc = aiinfra_vecstore_upsert(store, &r, 1, NULL);
  if (rc != AIINFRA_OK) return 1;
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
  aiinfra_runtime_free(runtime);
  return 0;
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(db_care)};
  return cmocka_run_group_tests(tests, set_up, NULL);
}
