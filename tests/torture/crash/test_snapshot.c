/* test_snapshot.c - the process dies, the power goes, the disk is full or broken at any write while the graph of a
 * collection is written to its file: no row is lost for it, answers are right at once, and the file is the old one, the new
 * one, or made again.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/support.h"
#include "tests/torture/crash/crash.h"

enum { DIMS = 4, STEPS = 6, ROWS = 40, MOST = STEPS * ROWS };

static void vector_of(int64_t id, float v[DIMS])
{
  unsigned long long seed = (unsigned long long)id;
  for (int i = 0; i < DIMS; i++) v[i] = (float)(test_random(&seed) % 2001) / 1000.0f - 1.0f;
}

static aiinfra_status put(aiinfra_vecstore *store, int step)
{
  aiinfra_record records[ROWS];
  float v[ROWS][DIMS];
  for (int i = 0; i < ROWS; i++) {
    int64_t id = step * ROWS + i;
    vector_of(id, v[i]);
    records[i] = (aiinfra_record){id, v[i], NULL, NULL};
  }
  return aiinfra_vecstore_upsert(store, records, ROWS, NULL);
}

static aiinfra_status nearest(aiinfra_vecstore *store, int64_t to, int32_t mode, aiinfra_hit *hit, size_t *n)
{
  float v[DIMS];
  aiinfra_query query = AIINFRA_QUERY_INIT;
  vector_of(to, v);
  query.vector = v;
  query.k = 1;
  query.mode = mode;
  return aiinfra_vecstore_search(store, &query, hit, 1, n, NULL);
}

/* One step: the collection is opened, rows are written, a graph is made, and closing writes it to its file. */
static aiinfra_status grow(aiinfra_db *db, int step)
{
  aiinfra_vecstore *store;
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_hit hit;
  size_t n;
  opts.dims = DIMS;
  opts.metric = AIINFRA_METRIC_L2;
  opts.m = 3;
  opts.ef_construction = 10;
  opts.snapshot = 1;
  aiinfra_status rc = aiinfra_vecstore_open(db, "things", &opts, &store, NULL);
  if (rc != AIINFRA_OK) return rc;
  rc = put(store, step);
  bool on = crash_done(step, rc);
  if (on) (void)nearest(store, 0, AIINFRA_SEARCH_GRAPH, &hit, &n);
  aiinfra_vecstore_free(store);
  return rc;
}

static void work(aiinfra_runtime *rt, const char *path)
{
  aiinfra_db *db = NULL;
  aiinfra_status rc = aiinfra_db_open(rt, path, NULL, &db, NULL);
  if (rc != AIINFRA_OK) (void)crash_done(0, rc);
  for (int step = 0; rc == AIINFRA_OK && step < STEPS; step++) {
    rc = grow(db, step);
    if (rc != AIINFRA_OK) (void)crash_done(step, rc);
  }
  aiinfra_db_free(db);
}

/* Rows find themselves, and there are no others. */
static const char *why_store(aiinfra_vecstore *store, int steps)
{
  aiinfra_hit hit;
  uint64_t n_rows = 0;
  size_t n, lost = 0;
  if (aiinfra_vecstore_count(store, &n_rows, NULL) != AIINFRA_OK || n_rows != (uint64_t)steps * ROWS) {
    return "another number of rows";
  }
  for (int64_t id = steps % 3; id < steps * ROWS; id += 3) {
    if (nearest(store, id, AIINFRA_SEARCH_EXACT, &hit, &n) != AIINFRA_OK) return "the exact search fails";
    if (n != 1 || hit.id != id || fabsf(hit.score) > 1e-5f) return "the exact search finds something else";
    if (nearest(store, id, AIINFRA_SEARCH_GRAPH, &hit, &n) != AIINFRA_OK) return "the graph fails";
    if (n != 1) return "the graph finds nothing";
    lost += hit.id != id;
  }
  return lost > (size_t)steps * ROWS / 15 ? "the graph leads nowhere" : NULL;
}

static int holds(aiinfra_runtime *rt, const char *path, int steps, int loud)
{
  aiinfra_db *db = NULL;
  aiinfra_vecstore *store = NULL;
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_error err = {.message = ""};
  const char *why = NULL;
  opts.snapshot = steps % 2 == 0 ? 1 : 0; /* whoever looks may write the next one, or leave it */
  aiinfra_status rc = aiinfra_db_open(rt, path, NULL, &db, &err);
  if (rc == AIINFRA_OK) rc = aiinfra_db_check(db, &err);
  if (rc == AIINFRA_OK) {
    rc = aiinfra_vecstore_open(db, "things", &opts, &store, &err);
    if (rc == AIINFRA_ENOENT && steps == 0) rc = AIINFRA_OK;
  }
  if (rc != AIINFRA_OK) why = err.message;
  else if (store != NULL) why = why_store(store, steps);
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
  if (why != NULL && loud) fprintf(stderr, "not as after %d steps: %s\n", steps, why);
  return why == NULL;
}

static void test_snapshot(void **state)
{
  const crash_scenario s = {"crash.snapshot", STEPS, work, holds, 12};
  (void)state;
  assert_int_equal(crash_run(&s), 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_snapshot)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
