/* test_snapshot.c - memory and the disk fail while the file of a graph is read, the graph grows, and the next file is
 * written: without it everything works all the same.
 */
#include <unistd.h>

#include "tests/torture/scene.h"

enum { DIMS = 2, ROWS = 60, MORE = 20 };

static const char *original, *copy;

static aiinfra_status put(aiinfra_vecstore *store, int64_t from, int64_t n)
{
  aiinfra_record records[ROWS];
  float v[ROWS][DIMS];
  for (int64_t i = 0; i < n; i++) {
    v[i][0] = (float)(from + i);
    v[i][1] = (float)((from + i) % 7);
    records[i] = (aiinfra_record){from + i, v[i], NULL, NULL};
  }
  return aiinfra_vecstore_upsert(store, records, (size_t)n, NULL);
}

static aiinfra_status find(aiinfra_vecstore *store, int64_t id, int32_t mode)
{
  float v[DIMS] = {(float)id, (float)(id % 7)};
  aiinfra_query q = AIINFRA_QUERY_INIT;
  aiinfra_hit hit;
  size_t n;
  q.vector = v;
  q.k = 1;
  q.mode = mode;
  aiinfra_status rc = aiinfra_vecstore_search(store, &q, &hit, 1, &n, NULL);
  if (rc == AIINFRA_OK && mode == AIINFRA_SEARCH_EXACT) torture_check(n == 1 && hit.id == id, "the row is found");
  return rc;
}

static aiinfra_status open_store(aiinfra_db *db, aiinfra_vecstore **store)
{
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  opts.dims = DIMS;
  opts.metric = AIINFRA_METRIC_L2;
  opts.m = 3;
  opts.ef_construction = 8;
  opts.snapshot = 1;
  return torture_made(aiinfra_vecstore_open(db, "rows", &opts, store, NULL), store, "open");
}

static void copy_files(void)
{
  char command[3000];
  snprintf(command, sizeof command,
           "rm -f '%s'*; cp '%s' '%s'; for f in '%s'-1.*.ann; do cp \"$f\" \"%s${f#%s}\"; done", copy, original, copy,
           original, copy, original);
  torture_check(system(command) == 0, "the files are copied");
}

static aiinfra_status scenario(void *ctx)
{
  aiinfra_runtime *runtime = NULL;
  aiinfra_db *db = NULL;
  aiinfra_vecstore *store = NULL;
  (void)ctx;
  torture_pause("runtime and database");
  copy_files();
  aiinfra_status rc = scene_runtime(&runtime);
  if (rc == AIINFRA_OK) rc = aiinfra_db_open(runtime, copy, NULL, &db, NULL);
  torture_resume();
  if (rc == AIINFRA_OK) rc = open_store(db, &store);
  if (rc == AIINFRA_OK) rc = find(store, 5, AIINFRA_SEARCH_EXACT); /* reads the file */
  if (rc == AIINFRA_OK) rc = put(store, ROWS, MORE);
  if (rc == AIINFRA_OK) rc = find(store, 8, AIINFRA_SEARCH_GRAPH);
  if (rc == AIINFRA_OK) rc = find(store, ROWS + 3, AIINFRA_SEARCH_EXACT);
  aiinfra_vecstore_free(store); /* writes the next */
  torture_pause("what is left");
  if (db != NULL) torture_check(aiinfra_db_check(db, NULL) == AIINFRA_OK, "the database is sound");
  torture_resume();
  aiinfra_db_free(db);
  aiinfra_runtime_free(runtime);
  return rc;
}

static void snapshot(void **state)
{
  static const aiinfra_status allowed[] = {AIINFRA_EFORMAT};
  torture_opts opts = {.sources = TORTURE_HOOK | TORTURE_MALLOC, .max_calls = 150};
  (void)state;
  assert_int_equal(torture_run("snapshot.memory", scenario, NULL, &opts), 0);
  opts.sources = TORTURE_IO;
  opts.allowed = allowed;
  opts.n_allowed = 1;
  assert_int_equal(torture_run("snapshot.disk", scenario, NULL, &opts), 0);
}

static int set_up(void **state)
{
  static char paths[2][512];
  aiinfra_runtime *runtime;
  aiinfra_db *db = NULL;
  aiinfra_vecstore *store = NULL;
  (void)state;
  snprintf(paths[0], sizeof paths[0], "%s", test_tmp("rows.db"));
  snprintf(paths[1], sizeof paths[1], "%s", test_tmp("copy.db"));
  original = paths[0];
  copy = paths[1];
  aiinfra_status rc = aiinfra_runtime_create(NULL, &runtime, NULL);
  if (rc == AIINFRA_OK) rc = aiinfra_db_open(runtime, original, NULL, &db, NULL);
  if (rc == AIINFRA_OK) rc = open_store(db, &store);
  if (rc == AIINFRA_OK) rc = put(store, 0, ROWS);
  if (rc == AIINFRA_OK) rc = find(store, 1, AIINFRA_SEARCH_GRAPH);
  if (rc != AIINFRA_OK) return 1;
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
  aiinfra_runtime_free(runtime);
  return 0;
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(snapshot)};
  return cmocka_run_group_tests(tests, set_up, NULL);
}
