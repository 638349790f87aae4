/* test_vecstore.c - collections as a host uses them: every refusal, filters, keywords, fusion, durability. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aiinfra/vecstore.h"
#include "support/support.h"

static aiinfra_runtime *rt;
static aiinfra_db *db;
static aiinfra_error err;

static const float X[3] = {1, 0, 0}, Y[3] = {0, 1, 0}, Z[3] = {0, 0, 2}, XY[3] = {1, 1, 0};

static aiinfra_vecstore *must_open(const char *name)
{
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_vecstore *store;
  opts.dims = 3;
  if (aiinfra_vecstore_open(db, name, &opts, &store, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return store;
}

static void must_fill(aiinfra_vecstore *store)
{
  const aiinfra_record records[] = {
      {1, X, "The server listens on port 7420.", "{\"lang\":\"en\",\"year\":2020}"},
      {2, Y, "Backups are made every night.", "{\"lang\":\"en\",\"year\":2021}"},
      {3, Z, "Der Server lauscht.", "{\"lang\":\"de\"}"},
      {4, XY, NULL, NULL},
  };
  if (aiinfra_vecstore_upsert(store, records, 4, &err) != AIINFRA_OK) fail_msg("%s", err.message);
}

static size_t must_search(aiinfra_vecstore *store, const aiinfra_query *query, aiinfra_hit hits[10])
{
  size_t n;
  if (aiinfra_vecstore_search(store, query, hits, 10, &n, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return n;
}

static void test_open(void **state)
{
  aiinfra_vecstore *store, *other;
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  (void)state;
  assert_int_equal(aiinfra_vecstore_open(db, "open", NULL, &store, &err), AIINFRA_ENOENT);
  assert_null(store);
  store = must_open("open");
  assert_int_equal(aiinfra_vecstore_open(db, "open", NULL, &other, &err), AIINFRA_OK);
  aiinfra_vecstore_free(other);
  opts.dims = 4;
  assert_int_equal(aiinfra_vecstore_open(db, "open", &opts, &other, &err), AIINFRA_EINVAL);
  assert_non_null(strstr(err.message, "3 dims"));
  opts.dims = 0;
  opts.metric = AIINFRA_METRIC_L2;
  assert_int_equal(aiinfra_vecstore_open(db, "open", &opts, &other, &err), AIINFRA_EINVAL);
  opts.metric = 9;
  assert_int_equal(aiinfra_vecstore_open(db, "open", &opts, &other, &err), AIINFRA_EINVAL);
  opts.metric = 0;
  opts.m = 1000;
  assert_int_equal(aiinfra_vecstore_open(db, "open", &opts, &other, &err), AIINFRA_EINVAL);
  opts.m = 0;
  opts.dims = 3;
  static const char *const bad[] = {"", "@mine", "\xFF"};
  for (size_t i = 0; i < 3; i++) {
    assert_int_equal(aiinfra_vecstore_open(db, bad[i], &opts, &other, &err), AIINFRA_EINVAL);
  }
  assert_int_equal(aiinfra_vecstore_open(db, NULL, &opts, &other, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_vecstore_open(NULL, "a", &opts, &other, &err), AIINFRA_EINVAL);
  aiinfra_vecstore_free(store);
  aiinfra_vecstore_free(NULL);
}

/* A bad row is named, and none of its batch is written. */
static void test_refusals(void **state)
{
  static const float nan3[3] = {0, NAN, 0}, inf3[3] = {INFINITY, 0, 0}, zero[3] = {0, 0, 0};
  const aiinfra_record bad[] = {
      {2, nan3, NULL, NULL}, {2, inf3, NULL, NULL}, {2, zero, NULL, NULL}, {2, NULL, NULL, NULL},
      {2, X, NULL, "[1]"},   {2, X, NULL, "{bad"},  {2, X, "\xFF", NULL},
  };
  aiinfra_vecstore *store = must_open("refusals");
  uint64_t n;
  (void)state;
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    const aiinfra_record batch[2] = {{1, X, NULL, NULL}, bad[i]};
    assert_int_equal(aiinfra_vecstore_upsert(store, batch, 2, &err), AIINFRA_EINVAL);
    assert_non_null(strstr(err.message, "record 1"));
    assert_int_equal(err.status, AIINFRA_EINVAL);
  }
  assert_int_equal(aiinfra_vecstore_count(store, &n, &err), AIINFRA_OK);
  assert_int_equal(n, 0);
  assert_int_equal(aiinfra_vecstore_upsert(store, NULL, 1, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_vecstore_upsert(store, NULL, 0, &err), AIINFRA_OK);
  aiinfra_vecstore_free(store);
}

static void test_bad_queries(void **state)
{
  aiinfra_vecstore *store = must_open("queries");
  aiinfra_query q = AIINFRA_QUERY_INIT;
  aiinfra_hit hits[10];
  size_t n = 7;
  static const float zero[3] = {0, 0, 0};
  (void)state;
  assert_int_equal(aiinfra_vecstore_search(store, &q, hits, 10, &n, &err), AIINFRA_EINVAL);
  assert_int_equal(n, 0);
  q.vector = zero;
  assert_int_equal(aiinfra_vecstore_search(store, &q, hits, 10, &n, &err), AIINFRA_EINVAL);
  q.vector = X;
  assert_int_equal(must_search(store, &q, hits), 0);
  assert_int_equal(aiinfra_vecstore_search(store, &q, hits, 9, &n, &err), AIINFRA_EINVAL);
  q.mode = 3;
  assert_int_equal(aiinfra_vecstore_search(store, &q, hits, 10, &n, &err), AIINFRA_EINVAL);
  q.mode = 0;
  q.reserved = 1;
  assert_int_equal(aiinfra_vecstore_search(store, &q, hits, 10, &n, &err), AIINFRA_ENOTSUP);
  q.reserved = 0;
  q.filter_json = "{\"must\":[{\"key\":\"a\",\"match\":{\"near\":1}}]}";
  assert_int_equal(aiinfra_vecstore_search(store, &q, hits, 10, &n, &err), AIINFRA_EINVAL);
  assert_non_null(strstr(err.message, "must[0].match.near"));
  aiinfra_vecstore_free(store);
}

static void test_search(void **state)
{
  aiinfra_vecstore *store = must_open("search");
  aiinfra_query q = AIINFRA_QUERY_INIT;
  aiinfra_hit hits[10];
  (void)state;
  must_fill(store);
  for (q.mode = 0; q.mode <= AIINFRA_SEARCH_GRAPH; q.mode++) {
    q.vector = X;
    q.text = NULL;
    q.filter_json = NULL;
    assert_int_equal(must_search(store, &q, hits), 4);
    assert_int_equal(hits[0].id, 1);
    assert_true(fabsf(hits[0].score - 1) < 1e-6f && isnan(hits[0].text_score));
    assert_int_equal(hits[1].id, 4);
    assert_true(fabsf(hits[1].vector_score - 0.70710678f) < 1e-6f);
    q.filter_json = "{\"lang\":\"en\",\"year\":{\"$gt\":2020}}";
    assert_int_equal(must_search(store, &q, hits), 1);
    assert_int_equal(hits[0].id, 2);
    q.filter_json = NULL;
    q.vector = NULL;
    q.text = "What is the port of the servers?";
    assert_int_equal(must_search(store, &q, hits), 2);
    assert_int_equal(hits[0].id, 1);
    assert_int_equal(hits[1].id, 3);
    assert_true(isnan(hits[0].vector_score) && hits[0].score == hits[0].text_score && hits[0].score > 0);
    q.filter_json = "{\"must_not\":[{\"key\":\"lang\",\"match\":{\"value\":\"en\"}}]}";
    assert_int_equal(must_search(store, &q, hits), 1);
    assert_int_equal(hits[0].id, 3);
    q.filter_json = NULL;
    q.vector = Z;
    q.text = "backups";
    assert_int_equal(must_search(store, &q, hits), 4);
    assert_true(hits[0].id == 2); /* found by both, once last and once first */
    assert_true(hits[0].text_score > 0 && !isnan(hits[0].vector_score));
    assert_int_equal(hits[1].id, 3);
  }
  q.mode = 0;
  q.text = "\"port\" AND NEAR(x) *:^ -";
  q.vector = NULL;
  assert_int_equal(must_search(store, &q, hits), 1); /* no character of a query is syntax */
  q.text = "?!";
  assert_int_equal(must_search(store, &q, hits), 0);
  aiinfra_vecstore_free(store);
}

static void test_rows(void **state)
{
  aiinfra_vecstore *store = must_open("rows");
  aiinfra_query q = AIINFRA_QUERY_INIT;
  aiinfra_hit hits[10];
  const int64_t ids[] = {1, 99, 4};
  char *text, *payload;
  size_t removed;
  uint64_t n;
  (void)state;
  must_fill(store);
  assert_int_equal(aiinfra_vecstore_get(store, 1, &text, &payload, &err), AIINFRA_OK);
  assert_string_equal(text, "The server listens on port 7420.");
  assert_string_equal(payload, "{\"lang\":\"en\",\"year\":2020}");
  aiinfra_string_free(text);
  aiinfra_string_free(payload);
  assert_int_equal(aiinfra_vecstore_get(store, 4, &text, &payload, &err), AIINFRA_OK);
  assert_string_equal(text, "");
  assert_string_equal(payload, "{}");
  aiinfra_string_free(text);
  aiinfra_string_free(payload);
  assert_int_equal(aiinfra_vecstore_get(store, 5, &text, NULL, &err), AIINFRA_ENOENT);
  assert_null(text);
  const aiinfra_record changed = {2, X, "Dumps happen at noon.", NULL};
  assert_int_equal(aiinfra_vecstore_upsert(store, &changed, 1, &err), AIINFRA_OK);
  q.text = "backups night";
  assert_int_equal(must_search(store, &q, hits), 0);
  q.text = "dump";
  assert_int_equal(must_search(store, &q, hits), 1);
  assert_int_equal(aiinfra_vecstore_remove(store, ids, 3, &removed, &err), AIINFRA_OK);
  assert_int_equal(removed, 2);
  assert_int_equal(aiinfra_vecstore_count(store, &n, &err), AIINFRA_OK);
  assert_int_equal(n, 2);
  aiinfra_vecstore_free(store);
}

/* Options of a query that are not understood are refused by name, and nothing is handed out. */
static void test_bad_options(void **state)
{
  static const struct {
    const char *options, *names;
  } bad[] = {
      {"[]", "expected an object"},
      {"{", "options"},
      {"{\"near\":1}", "'near'"},
      {"{\"offset\":-1}", "offset"},
      {"{\"offset\":\"1\"}", "options.offset"},
      {"{\"score_threshold\":true}", "options.score_threshold"},
      {"{\"mmr\":{\"lambda\":2}}", "mmr.lambda"},
      {"{\"mmr\":{\"diversity\":0.5}}", "'diversity'"},
      {"{\"group\":{\"size\":3}}", "options.group.by"},
      {"{\"group\":{\"by\":\"lang\",\"size\":0}}", "group.size"},
      {"{\"group\":{\"by\":\"lang\",\"size\":11}}", "room for"},
      {"{\"group\":{\"by\":\"a..b\"}}", "'a..b'"},
      {"{\"group\":{\"by\":\"lang\"},\"offset\":1}", "neither mmr nor offset"},
      {"{\"recommend\":{\"positive\":[1]}}", "a vector already"},
      {"{\"recommend\":{\"positive\":[1]},\"query\":{\"formula\":1}}", "a recommendation beside this query"},
      {"{\"query\":{\"melt\":1}}", "options.query: there is no query 'melt'"},
      {"{\"prefetch\":[{}],\"query\":{\"fusion\":\"rrf\"}}", "options.prefetch[0]"},
      {"{\"prefetch\":[{\"text\":\"a\"}],\"query\":{\"fusion\":\"rrf\"}}", "would not be used"},
      {"{\"query\":{\"fusion\":\"rrf\"}}", "nothing to fuse"},
  };
  aiinfra_vecstore *store = must_open("options");
  aiinfra_query q = AIINFRA_QUERY_INIT;
  aiinfra_hit hits[10];
  char *explain;
  size_t n;
  (void)state;
  must_fill(store);
  q.vector = X;
  q.k = 1;
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    q.options_json = bad[i].options;
    q.explain = &explain;
    explain = (char *)1;
    assert_int_equal(aiinfra_vecstore_search(store, &q, hits, 10, &n, &err), AIINFRA_EINVAL);
    if (strstr(err.message, bad[i].names) == NULL) fail_msg("%s: %s", bad[i].options, err.message);
    assert_null(explain);
    assert_int_equal(n, 0);
  }
  q.vector = NULL;
  q.options_json = "{\"recommend\":{\"positive\":[77]}}";
  assert_int_equal(aiinfra_vecstore_search(store, &q, hits, 10, &n, &err), AIINFRA_ENOENT);
  q.options_json = "{\"recommend\":{\"negative\":[1]}}";
  assert_int_equal(aiinfra_vecstore_search(store, &q, hits, 10, &n, &err), AIINFRA_EINVAL);
  q.options_json = NULL;
  q.explain = NULL;
  assert_int_equal(aiinfra_vecstore_search(store, &q, hits, 10, &n, &err), AIINFRA_EINVAL);
  aiinfra_vecstore_free(store);
}

/* What a host sees of a hybrid query: the ranks in both rankings beside the fused score. */
static void test_explain(void **state)
{
  aiinfra_vecstore *store = must_open("explain");
  aiinfra_query q = AIINFRA_QUERY_INIT;
  aiinfra_hit hits[10];
  char *explain = NULL;
  (void)state;
  must_fill(store);
  q.vector = Z;
  q.text = "backups";
  q.filter_json = "{\"lang\":{\"$in\":[\"en\",\"de\"]}}";
  q.explain = &explain;
  assert_int_equal(must_search(store, &q, hits), 3);
  assert_non_null(explain);
  assert_non_null(strstr(explain, "\"plan\":\"exact\""));
  assert_non_null(strstr(explain, "\"passing\":3"));
  assert_non_null(strstr(explain, "{\"id\":2,"));
  assert_non_null(strstr(explain, "\"word_rank\":1"));
  assert_non_null(strstr(explain, "\"word_rank\":null"));
  aiinfra_string_free(explain);
  q.vector = NULL;
  assert_int_equal(must_search(store, &q, hits), 1);
  assert_non_null(strstr(explain, "\"plan\":\"words\""));
  aiinfra_string_free(explain);
  aiinfra_vecstore_free(store);
}

static void must_read(aiinfra_vecstore *store, const char *request, const char *want)
{
  char *answer;
  if (aiinfra_vecstore_read(store, request, &answer, &err) != AIINFRA_OK) fail_msg("%s: %s", request, err.message);
  assert_string_equal(answer, want);
  aiinfra_string_free(answer);
}

static void test_reads_and_changes(void **state)
{
  static const char *const bad_reads[] = {
      "",
      "[]",
      "{}",
      "{\"count\":{},\"facet\":{}}",
      "{\"sum\":{}}",
      "{\"count\":1}",
      "{\"count\":{\"limit\":1}}",
      "{\"count\":{\"filter\":{\"a\":{\"$x\":1}}}}",
      "{\"facet\":{}}",
      "{\"facet\":{\"key\":\"\"}}",
      "{\"scroll\":{\"limit\":0}}",
      "{\"scroll\":{\"after\":\"1\"}}",
  };
  static const char *const bad_changes[] = {
      "{\"delete\":{}}",
      "{\"delete\":{\"ids\":[1],\"filter\":{}}}",
      "{\"delete\":{\"ids\":[\"1\"]}}",
      "{\"delete\":{\"filter\":{\"a\":null}}}",
      "{\"set_payload\":{\"filter\":{}}}",
      "{\"set_payload\":{\"filter\":{},\"payload\":[1]}}",
      "{\"delete_payload\":{\"filter\":{},\"keys\":[1]}}",
      "{\"drop\":{\"filter\":{}}}",
  };
  aiinfra_vecstore *store = must_open("requests");
  char *answer;
  uint64_t n;
  (void)state;
  must_fill(store);
  must_read(store, "{\"count\":{}}", "{\"count\":4}");
  must_read(store, "{\"count\":{\"filter\":{\"year\":{\"$gte\":2021}}}}", "{\"count\":1}");
  must_read(store, "{\"facet\":{\"key\":\"lang\"}}",
            "{\"values\":[{\"value\":\"en\",\"count\":2},{\"value\":\"de\",\"count\":1}]}");
  must_read(store, "{\"facet\":{\"key\":\"year\",\"limit\":1}}", "{\"values\":[{\"value\":2020,\"count\":1}]}");
  must_read(store, "{\"scroll\":{\"limit\":1,\"after\":2}}",
            "{\"rows\":[{\"id\":3,\"text\":\"Der Server lauscht.\",\"payload\":{\"lang\":\"de\"}}],\"next\":3}");
  must_read(store, "{\"scroll\":{\"after\":3}}", "{\"rows\":[{\"id\":4,\"text\":\"\",\"payload\":{}}],\"next\":null}");
  for (size_t i = 0; i < sizeof bad_reads / sizeof bad_reads[0]; i++) {
    answer = (char *)1;
    if (aiinfra_vecstore_read(store, bad_reads[i], &answer, &err) != AIINFRA_EINVAL) fail_msg("%s", bad_reads[i]);
    assert_null(answer);
  }
  for (size_t i = 0; i < sizeof bad_changes / sizeof bad_changes[0]; i++) {
    n = 9;
    if (aiinfra_vecstore_change(store, bad_changes[i], &n, &err) != AIINFRA_EINVAL) fail_msg("%s", bad_changes[i]);
    assert_int_equal(n, 0);
  }
  must_read(store, "{\"count\":{}}", "{\"count\":4}");
  assert_int_equal(aiinfra_vecstore_change(
                       store, "{\"set_payload\":{\"payload\":{\"old\":true},\"filter\":{\"lang\":\"en\"}}}", &n, &err),
                   AIINFRA_OK);
  assert_int_equal(n, 2);
  must_read(store, "{\"scroll\":{\"filter\":{\"old\":true},\"limit\":1}}",
            "{\"rows\":[{\"id\":1,\"text\":\"The server listens on port 7420.\",\"payload\":{\"lang\":\"en\","
            "\"year\":2020,\"old\":true}}],\"next\":1}");
  assert_int_equal(aiinfra_vecstore_change(store, "{\"delete\":{\"filter\":{\"old\":true}}}", &n, &err), AIINFRA_OK);
  assert_int_equal(n, 2);
  must_read(store, "{\"count\":{}}", "{\"count\":2}");
  assert_int_equal(aiinfra_vecstore_change(store, "{\"delete\":{\"filter\":{}}}", NULL, &err), AIINFRA_OK);
  must_read(store, "{\"count\":{}}", "{\"count\":0}");
  assert_int_equal(aiinfra_vecstore_read(NULL, "{}", &answer, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_vecstore_read(store, "{}", NULL, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_vecstore_change(store, NULL, NULL, &err), AIINFRA_EINVAL);
  aiinfra_vecstore_free(store);
}

/* A caller that was built with the first structs still works. */
static void test_first_structs(void **state)
{
  aiinfra_vecstore *store = must_open("first"), *again;
  aiinfra_query q = AIINFRA_QUERY_INIT;
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_hit hits[10];
  char *poison = NULL;
  (void)state;
  must_fill(store);
  q.vector = X;
  q.options_json = "no JSON, and not looked at";
  q.explain = &poison;
  q.struct_size = offsetof(aiinfra_query, options_json);
  assert_int_equal(must_search(store, &q, hits), 4);
  opts.payload_bytes = 1;
  opts.struct_size = offsetof(aiinfra_vecstore_opts, payload_bytes);
  assert_int_equal(aiinfra_vecstore_open(db, "first", &opts, &again, &err), AIINFRA_OK);
  aiinfra_vecstore_free(again);
  aiinfra_vecstore_free(store);
}

static void test_reopen(void **state)
{
  const char *path = test_db("reopen.db");
  aiinfra_db *old = db;
  aiinfra_query q = AIINFRA_QUERY_INIT;
  aiinfra_hit hits[10];
  (void)state;
  for (int round = 0; round < 3; round++) {
    if (aiinfra_db_open(rt, path, NULL, &db, &err) != AIINFRA_OK) fail_msg("%s", err.message);
    aiinfra_vecstore *store = must_open("kept");
    aiinfra_db_free(db); /* the collection keeps it */
    if (round == 0) must_fill(store);
    q.vector = Y;
    q.mode = round;
    assert_int_equal(must_search(store, &q, hits), 4);
    assert_int_equal(hits[0].id, 2);
    aiinfra_vecstore_free(store);
  }
  db = old;
}

static int set_up(void **state)
{
  (void)state;
  return aiinfra_runtime_create(NULL, &rt, &err) || aiinfra_db_open(rt, test_db(":memory:"), NULL, &db, &err);
}

static int tear_down(void **state)
{
  (void)state;
  aiinfra_db_free(db);
  aiinfra_runtime_free(rt);
  return 0;
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_open),          cmocka_unit_test(test_refusals), cmocka_unit_test(test_bad_queries),
      cmocka_unit_test(test_search),        cmocka_unit_test(test_rows),     cmocka_unit_test(test_reopen),
      cmocka_unit_test(test_bad_options),   cmocka_unit_test(test_explain),  cmocka_unit_test(test_reads_and_changes),
      cmocka_unit_test(test_first_structs),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
