/* test_vecstore_codes.c - a collection whose vectors are in memory as codes alone answers as one that has the floats.
 *
 * Two collections of the same rows, one with room for its vectors and one without: exact searches, filters, groups,
 * recommendations and diversity agree to the bit; the graph finds the same rows with scores that differ by little.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "src/vector/vector.h"
#include "support/support.h"

enum { N = 1500, DIMS = 40, MOST = 60 };

static aiinfra_runtime *rt;
static aiinfra_db *db;
static aiinfra_error err;
static aiinfra_vecstore *stores[2]; /* with floats, with codes alone */
static float rows[N][DIMS];
static float tolerance; /* of a score of the graph: a thousandth of what lengths can make of it */

static void check(aiinfra_status rc)
{
  if (rc != AIINFRA_OK) fail_msg("%s", err.message);
}

static void fill(unsigned long long *seed)
{
  static char payloads[N][64];
  static aiinfra_record records[N];
  for (int i = 0; i < N; i++) {
    for (int d = 0; d < DIMS; d++) {
      rows[i][d] = (float)(test_random(seed) % 2001) / 1000.0f - 1.0f + (float)((i % 9 * 7 + d * 13) % 11) / 5.0f;
    }
    snprintf(payloads[i], sizeof payloads[i], "{\"kind\":%d,\"page\":%d}", i % 5, i);
    records[i] = (aiinfra_record){i, rows[i], i % 100 == 0 ? "a word" : NULL, payloads[i]};
  }
  for (int s = 0; s < 2; s++) check(aiinfra_vecstore_upsert(stores[s], records, N, &err));
}

static void open_both(int32_t metric)
{
  check(aiinfra_db_open(rt, test_db(":memory:"), NULL, &db, &err));
  for (int s = 0; s < 2; s++) {
    aiinfra_vecstore_opts o = AIINFRA_VECSTORE_OPTS_INIT;
    tolerance = metric == AIINFRA_METRIC_COSINE ? 1e-3f : 0.1f;
    o.dims = DIMS;
    o.metric = metric;
    o.vector_bytes = s == 0 ? 0 : 1;
    check(aiinfra_vecstore_open(db, s == 0 ? "floats" : "codes", &o, &stores[s], &err));
  }
}

static void close_both(void)
{
  for (int s = 0; s < 2; s++) aiinfra_vecstore_free(stores[s]);
  aiinfra_db_free(db);
}

/* Both answers to a query, which agree to the bit when it is exact; how many ids they share. */
static size_t both(const float *vector, int32_t mode, const char *text, const char *filter, const char *options)
{
  aiinfra_hit hits[2][MOST];
  size_t n[2], same = 0;
  for (int s = 0; s < 2; s++) {
    aiinfra_query q = AIINFRA_QUERY_INIT;
    q.vector = vector;
    q.text = text;
    q.mode = mode;
    q.filter_json = filter;
    q.options_json = options;
    check(aiinfra_vecstore_search(stores[s], &q, hits[s], MOST, &n[s], &err));
  }
  assert_int_equal(n[0], n[1]);
  assert_true(n[0] >= 5);
  for (size_t i = 0; i < n[0]; i++) {
    for (size_t j = 0; j < n[1]; j++) {
      if (hits[0][i].id != hits[1][j].id) continue;
      same++;
      if (isnan(hits[0][i].vector_score) || text != NULL) continue;
      float off = fabsf(hits[0][i].vector_score - hits[1][j].vector_score);
      assert_true(off <= tolerance);
    }
    if (mode == AIINFRA_SEARCH_GRAPH) continue;
    assert_int_equal(hits[0][i].id, hits[1][i].id);
    assert_true(hits[0][i].score == hits[1][i].score);
  }
  return same;
}

static void test_agree(void **state)
{
  (void)state;
  for (int32_t metric = AIINFRA_METRIC_COSINE; metric <= AIINFRA_METRIC_L2; metric++) {
    unsigned long long seed = test_seed();
    size_t found = 0;
    open_both(metric);
    fill(&seed);
    for (int t = 0; t < 20; t++) {
      const float *v = rows[t * 31];
      (void)both(v, AIINFRA_SEARCH_EXACT, NULL, NULL, NULL);
      (void)both(v, AIINFRA_SEARCH_EXACT, NULL, "{\"kind\":3}", NULL);
      (void)both(v, AIINFRA_SEARCH_EXACT, "word", NULL, NULL);
      (void)both(v, AIINFRA_SEARCH_EXACT, NULL, NULL, "{\"mmr\":{\"lambda\":0.5}}");
      found += both(v, AIINFRA_SEARCH_GRAPH, NULL, NULL, NULL);
      found += both(v, AIINFRA_SEARCH_GRAPH, NULL, "{\"kind\":{\"$lt\":3}}", NULL);
    }
    (void)both(rows[3], AIINFRA_SEARCH_EXACT, NULL, NULL, "{\"group\":{\"by\":\"kind\",\"size\":3}}");
    (void)both(NULL, AIINFRA_SEARCH_EXACT, NULL, NULL, "{\"recommend\":{\"positive\":[1,2],\"negative\":[77]}}");
    (void)both(NULL, AIINFRA_SEARCH_EXACT, NULL, "{\"kind\":2}",
               "{\"recommend\":{\"positive\":[1,2],\"negative\":[77],\"strategy\":\"best_score\"}}");
    (void)both(rows[3], AIINFRA_SEARCH_GRAPH, NULL, NULL, "{\"mmr\":{\"lambda\":0.7}}");
    assert_false(stores[1]->index.floats);
    assert_true(stores[0]->index.floats);
    assert_true(found >= 20 * 20 * 97 / 100);
    close_both();
  }
}

/* Rows that change and go: what is found is what is there. Dead slots are taken out when there are many. */
static void test_change(void **state)
{
  unsigned long long seed = test_seed();
  int64_t gone[N];
  (void)state;
  open_both(AIINFRA_METRIC_COSINE);
  fill(&seed);
  (void)both(rows[0], AIINFRA_SEARCH_GRAPH, NULL, NULL, NULL);
  for (int i = 0; i < N / 2; i++) gone[i] = 2 * i;
  for (int s = 0; s < 2; s++) check(aiinfra_vecstore_remove(stores[s], gone, N / 2, NULL, &err));
  (void)both(rows[1], AIINFRA_SEARCH_EXACT, NULL, "{\"kind\":1}", NULL);
  for (int s = 0; s < 2; s++) {
    assert_int_equal(stores[s]->index.n, N - N / 2);
    assert_int_equal(stores[s]->index.n_dead, 0);
    assert_int_equal(stores[s]->index.n_graph, N - N / 2);
    for (int64_t i = 0; i < N; i++) {
      uint32_t slot = aii_idmap_get(&stores[s]->index.map, i);
      assert_true((slot == AII_NO_SLOT) == (i % 2 == 0));
    }
  }
  fill(&seed);
  for (int t = 0; t < 10; t++) (void)both(rows[t], AIINFRA_SEARCH_EXACT, NULL, "{\"page\":{\"$lt\":700}}", NULL);
  close_both();
}

/* A vector that was damaged on disk is an error that names its row, not a wrong answer. */
static void test_damage(void **state)
{
  unsigned long long seed = test_seed();
  aiinfra_hit hits[10];
  aiinfra_query q = AIINFRA_QUERY_INIT;
  size_t n;
  (void)state;
  open_both(AIINFRA_METRIC_L2);
  fill(&seed);
  (void)both(rows[7], AIINFRA_SEARCH_EXACT, NULL, NULL, NULL);
  aii_sql_lock(db->sql);
  check(aii_sql_exec(db->sql, "UPDATE vectors SET vector = x'00' WHERE row IN (SELECT row FROM rows WHERE id = 7)",
                     &err));
  aii_sql_unlock(db->sql);
  q.vector = rows[7];
  q.mode = AIINFRA_SEARCH_EXACT;
  assert_int_equal(aiinfra_vecstore_search(stores[1], &q, hits, 10, &n, &err), AIINFRA_EFORMAT);
  assert_non_null(strstr(err.message, "row 7"));
  check(aiinfra_vecstore_search(stores[0], &q, hits, 10, &n, &err)); /* has what it read before */
  close_both();
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_agree), cmocka_unit_test(test_change),
                                     cmocka_unit_test(test_damage)};
  if (aiinfra_runtime_create(NULL, &rt, &err) != AIINFRA_OK) return 1;
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  aiinfra_runtime_free(rt);
  return failed;
}
