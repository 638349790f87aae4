/* bench_filter.c - what a filter costs: bench_filter_plans.c measures the search behind it.
 *
 * One filter over the payloads of a collection: in SQL (json_extract), over rows that are read and packed one by one,
 * over documents in memory, and kept from the query before. AIINFRA_BENCH_ROWS sets the size (20000).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/vector/vector.h"
#include "support/support.h"

enum { DIMS = 64, CLUSTERS = 200 };

static aiinfra_error err;
static aiinfra_runtime *rt;
static float centres[CLUSTERS][DIMS];

static double normal(unsigned long long *seed)
{
  double u = (double)(1 + test_random(seed) % 1000000) / 1000001, v = (double)(test_random(seed) % 1000000) / 1000000;
  return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

static int random_row(unsigned long long *seed, float v[DIMS])
{
  int cluster = (int)(test_random(seed) % CLUSTERS);
  for (int i = 0; i < DIMS; i++) v[i] = centres[cluster][i] + 0.5f * (float)normal(seed);
  return cluster;
}

static void fill(aiinfra_vecstore *store, uint32_t n, unsigned long long *seed)
{
  enum { BATCH = 1000 };
  static float v[BATCH][DIMS];
  static char payloads[BATCH][160];
  aiinfra_record records[BATCH];
  for (uint32_t from = 0; from < n; from += BATCH) {
    for (uint32_t i = 0; i < BATCH; i++) {
      int cluster = random_row(seed, v[i]);
      snprintf(payloads[i], sizeof payloads[i],
               "{\"source\":\"docs/"
               "page%d.md\",\"share\":%d,\"cluster\":%d,\"tags\":[\"a\",\"b\"],\"at\":\"2020-01-31T12:00:00Z\"}",
               cluster, (int)(test_random(seed) % 1000), cluster);
      records[i] = (aiinfra_record){(int64_t)(from + i), v[i], NULL, payloads[i]};
    }
    if (aiinfra_vecstore_upsert(store, records, BATCH, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  }
}

/* ---- filters --------------------------------------------------------------------------------------------------- */

static double make_mask(aiinfra_vecstore *store, const char *text, aii_mask *mask)
{
  aii_filter *filter;
  aii_sql_lock(store->db->sql);
  assert_int_equal(aii_filter_compile(store->index.mem, text, &filter, &err), AIINFRA_OK);
  uint64_t begin = aii_now_ns();
  if (aii_mask_make(store, filter, text, mask, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  double ms = (double)(aii_now_ns() - begin) / 1e6;
  aii_filter_free(filter);
  aii_sql_unlock(store->db->sql);
  return ms;
}

static void measure_filter(aiinfra_vecstore *store)
{
  static const char text[] = "{\"share\":{\"$lt\":100},\"tags\":\"b\"}";
  aii_sql *sql = store->db->sql;
  aii_stmt *stmt;
  aii_mask mask;
  bool row;
  aii_sql_lock(sql);
  assert_int_equal(aii_vecstore_sync(store, &err), AIINFRA_OK);
  assert_int_equal(
      aii_sql_prepare(sql,
                      "SELECT count(*) FROM rows WHERE collection = 1 AND json_extract(payload, '$.share') < 100 "
                      "AND EXISTS (SELECT 1 FROM json_each(payload, '$.tags') WHERE value = 'b')",
                      &stmt, &err),
      AIINFRA_OK);
  uint64_t begin = aii_now_ns();
  assert_int_equal(aii_stmt_step(stmt, &row, &err), AIINFRA_OK);
  double in_sql = (double)(aii_now_ns() - begin) / 1e6;
  int64_t n = aii_stmt_get_int(stmt, 0);
  aii_stmt_reset(stmt);
  aii_sql_unlock(sql);
  double from_rows = make_mask(store, text, &mask);
  assert_int_equal(mask.n_passing, n);
  aii_mask_free(store, &mask);
  aii_masks_clear(store);
  aii_sql_lock(sql);
  begin = aii_now_ns();
  assert_int_equal(aii_docs_load(store, &err), AIINFRA_OK);
  double load = (double)(aii_now_ns() - begin) / 1e6;
  aii_sql_unlock(sql);
  double in_memory = make_mask(store, text, &mask);
  aii_mask_free(store, &mask);
  double kept = make_mask(store, text, &mask);
  assert_true(mask.kept && mask.n_passing == n);
  aii_mask_free(store, &mask);
  printf("filter over %u rows, ms: SQL %.1f, rows packed one by one %.1f, documents %.2f, kept %.3f; loading %.1f, %zu "
         "KiB\n",
         store->index.n, in_sql, from_rows, in_memory, kept, load, store->index.docs.bytes >> 10);
}

static void test_filter(void **state)
{
  const char *rows = getenv("AIINFRA_BENCH_ROWS");
  uint32_t n = rows != NULL ? (uint32_t)atol(rows) : 20000;
  unsigned long long seed = test_seed();
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_vecstore *store;
  aiinfra_db *db;
  (void)state;
  for (int c = 0; c < CLUSTERS; c++) {
    for (int i = 0; i < DIMS; i++) centres[c][i] = (float)normal(&seed);
  }
  opts.dims = DIMS;
  assert_int_equal(aiinfra_db_open(rt, ":memory:", NULL, &db, &err), AIINFRA_OK);
  assert_int_equal(aiinfra_vecstore_open(db, "bench", &opts, &store, &err), AIINFRA_OK);
  fill(store, n, &seed);
  measure_filter(store);
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_filter)};
  if (aiinfra_runtime_create(NULL, &rt, &err) != AIINFRA_OK) return 1;
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  aiinfra_runtime_free(rt);
  return failed;
}
