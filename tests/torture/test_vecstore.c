/* test_vecstore.c - memory and the disk fail while rows are written, searched with filters and options, and changed; and
 * while they get vectors under names.
 */
#include "tests/torture/scene.h"

static const char FILTER[] =
    "{\"must\":[{\"key\":\"n\",\"range\":{\"gte\":1}},{\"should\":[{\"key\":\"text\",\"match\":{\"phrase\":\"red "
    "fox\"}},"
    "{\"nested\":{\"key\":\"parts\",\"filter\":{\"b\":{\"$in\":[1,2,\"x\"]}}}},{\"key\":\"loc\",\"geo_polygon\":{"
    "\"exterior\":"
    "{\"points\":[{\"lon\":0,\"lat\":0},{\"lon\":9,\"lat\":0},{\"lon\":9,\"lat\":9},{\"lon\":0,\"lat\":0}]}}}]}]}";

static aiinfra_status fill(aiinfra_vecstore *store)
{
  static const float v[3][2] = {{1, 0}, {0, 1}, {1, 1}};
  static const aiinfra_record records[] = {
      {1, v[0], "one", "{\"n\":1,\"text\":\"The red fox\",\"at\":\"2020-01-31\"}"},
      {2, v[1], "two", "{\"n\":2,\"parts\":[{\"b\":\"x\"}],\"group\":[\"a\",\"b\"]}"},
      {3, v[2], "three", "{\"n\":3,\"loc\":{\"lon\":5,\"lat\":2},\"group\":\"a\"}"},
  };
  return aiinfra_vecstore_upsert(store, records, 3, NULL);
}

static aiinfra_status search(aiinfra_vecstore *store, const char *options, bool explained, size_t want)
{
  static const float v[2] = {1, 0.5f};
  aiinfra_query q = AIINFRA_QUERY_INIT;
  aiinfra_hit hits[10];
  char *explain = NULL;
  size_t n;
  q.vector = v;
  q.text = "one";
  q.filter_json = FILTER;
  q.options_json = options;
  q.k = 4;
  if (explained) q.explain = &explain;
  aiinfra_status rc = aiinfra_vecstore_search(store, &q, hits, 10, &n, NULL);
  if (explained) (void)torture_made(rc, &explain, "explain");
  torture_check(n == (rc == AIINFRA_OK ? want : 0), "all hits or none");
  aiinfra_string_free(explain);
  return rc;
}

static aiinfra_status ask(aiinfra_vecstore *store, const char *request, const char *want)
{
  char *answer = NULL;
  aiinfra_status rc = torture_made(aiinfra_vecstore_read(store, request, &answer, NULL), &answer, request);
  if (rc == AIINFRA_OK) torture_check(strcmp(answer, want) == 0, want);
  aiinfra_string_free(answer);
  return rc;
}

static aiinfra_status query(aiinfra_vecstore *store, const char *request, const char *want)
{
  char *answer = NULL;
  aiinfra_status rc = torture_made(aiinfra_vecstore_query(store, request, &answer, NULL), &answer, request);
  if (rc == AIINFRA_OK) torture_check(strncmp(answer, want, strlen(want)) == 0, want);
  aiinfra_string_free(answer);
  return rc;
}

/* Stages that fuse and score, pairs of examples, two queries over the same rows. */
static aiinfra_status use_stages(aiinfra_vecstore *store)
{
  static const char FUSED[] =
      "{\"searches\":[{\"filter\":{\"n\":{\"$gt\":0}},\"prefetch\":[{\"vector\":[1,0],\"limit\":2},{\"text\":\"two\"}],"
      "\"query\":{\"rrf\":{\"weights\":[1,2]}},\"explain\":true,\"with_text\":true},{\"filter\":{\"n\":{\"$gt\":0}},"
      "\"prefetch\":{\"query\":{\"context\":[{\"positive\":1,\"negative\":[0,1]}]}},\"mmr\":{},\"query\":{\"formula\":"
      "{\"sum\":[\"$score\",{\"mult\":[\"n\",{\"key\":\"group\",\"match\":{\"value\":\"a\"}}]},{\"exp_decay\":{\"x\":"
      "{\"geo_distance\":{\"origin\":{\"lon\":5,\"lat\":2},\"to\":\"loc\"}}}}]},\"defaults\":{\"loc\":1e9}}}]}";
  aiinfra_status rc = query(store, FUSED, "{\"results\":[{\"hits\":[{\"id\":2,");
  if (rc == AIINFRA_OK) {
    rc = query(store,
               "{\"vector\":{\"row\":1},\"text\":\"two\",\"query\":{\"fusion\":\"dbsf\"},\"group\":{\"by\":\"group\"}}",
               "{\"hits\":[{\"id\":2,");
  }
  if (rc == AIINFRA_OK) {
    rc = query(store, "{\"query\":{\"discover\":{\"target\":1,\"context\":[{\"positive\":3,\"negative\":2}]}}}",
               "{\"hits\":[");
  }
  return rc;
}

static aiinfra_status change(aiinfra_vecstore *store, const char *request, uint64_t want)
{
  uint64_t n = 9;
  aiinfra_status rc = aiinfra_vecstore_change(store, request, &n, NULL);
  torture_check(n == (rc == AIINFRA_OK ? want : 0), "all rows or none");
  return rc;
}

static aiinfra_status use(aiinfra_vecstore *store)
{
  aiinfra_status rc = fill(store);
  if (rc == AIINFRA_OK) rc = search(store, NULL, true, 3);
  if (rc == AIINFRA_OK) rc = search(store, "{\"group\":{\"by\":\"group\",\"size\":2}}", true, 3);
  if (rc == AIINFRA_OK) rc = search(store, "{\"mmr\":{\"lambda\":0.3},\"offset\":1}", false, 2);
  if (rc == AIINFRA_OK) rc = search(store, "{\"prefetch\":[],\"query\":{\"fusion\":\"rrf\"}}", true, 3);
  if (rc == AIINFRA_OK) rc = use_stages(store);
  if (rc == AIINFRA_OK) rc = ask(store, "{\"count\":{\"filter\":{\"n\":{\"$gt\":1}}}}", "{\"count\":2}");
  if (rc == AIINFRA_OK) {
    rc = ask(store, "{\"facet\":{\"key\":\"group\",\"limit\":1}}", "{\"values\":[{\"value\":\"a\",\"count\":2}]}");
  }
  if (rc == AIINFRA_OK) {
    rc = ask(
        store, "{\"scroll\":{\"order_by\":\"n\",\"limit\":1}}",
        "{\"rows\":[{\"id\":1,\"text\":\"one\",\"payload\":{\"n\":1,\"text\":\"The red fox\",\"at\":\"2020-01-31\"}}],"
        "\"next\":{\"value\":1,\"id\":1}}");
  }
  if (rc == AIINFRA_OK)
    rc = change(store, "{\"set_payload\":{\"payload\":{\"x\":[1]},\"filter\":{\"n\":{\"$lt\":3}}}}", 2);
  if (rc == AIINFRA_OK) rc = change(store, "{\"delete\":{\"filter\":{\"x\":1,\"n\":1}}}", 1);
  if (rc == AIINFRA_OK) {
    rc = ask(
        store, "{\"scroll\":{\"filter\":{\"x\":1}}}",
        "{\"rows\":[{\"id\":2,\"text\":\"two\",\"payload\":{\"n\":2,\"parts\":[{\"b\":\"x\"}],\"group\":[\"a\",\"b\"],"
        "\"x\":[1]}}],\"next\":null}");
  }
  if (rc == AIINFRA_OK) rc = change(store, "{\"set_expiry\":{\"expires_ms\":1,\"filter\":{\"x\":1}}}", 1);
  if (rc == AIINFRA_OK) rc = ask(store, "{\"count\":{\"filter\":{\"n\":{\"$gt\":0}}}}", "{\"count\":1}");
  if (rc == AIINFRA_OK) rc = change(store, "{\"remove_expired\":{}}", 1);
  if (rc == AIINFRA_OK) rc = search(store, NULL, false, 1);
  return rc;
}

/* A walk over the graph through rows that do not pass. */
static aiinfra_status walk(aiinfra_db *db)
{
  enum { ROWS = 10 };
  static const char *const payloads[] = {"{\"n\":1}", "{\"n\":0}"};
  aiinfra_vecstore *store = NULL;
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_record records[ROWS];
  aiinfra_query q = AIINFRA_QUERY_INIT;
  aiinfra_hit hits[4];
  float v[ROWS][2];
  char *explain = NULL;
  size_t n = 0;
  opts.dims = 2;
  for (int i = 0; i < ROWS; i++) {
    v[i][0] = (float)(i + 1);
    v[i][1] = (float)(i % 7);
    records[i] = (aiinfra_record){i, v[i], NULL, payloads[i % 2]};
  }
  q.vector = v[3];
  q.filter_json = "{\"n\":1}";
  q.mode = AIINFRA_SEARCH_GRAPH;
  q.k = 4;
  q.explain = &explain;
  aiinfra_status rc = torture_made(aiinfra_vecstore_open(db, "walked", &opts, &store, NULL), &store, "open");
  if (rc == AIINFRA_OK) rc = aiinfra_vecstore_upsert(store, records, ROWS, NULL);
  if (rc == AIINFRA_OK) {
    rc = torture_made(aiinfra_vecstore_search(store, &q, hits, 4, &n, NULL), &explain, "explain");
    torture_check(n == (rc == AIINFRA_OK ? 4 : 0), "all hits or none");
    torture_check(rc != AIINFRA_OK || strstr(explain, "\"plan\":\"graph\"") != NULL, "the plan");
  }
  aiinfra_string_free(explain);
  aiinfra_vecstore_free(store);
  return rc;
}

/* ctx: how much memory payloads, and floats, may take; almost none: filters and exact searches read rows. */
static aiinfra_status scenario(void *ctx)
{
  aiinfra_runtime *runtime = NULL;
  aiinfra_db *db = NULL;
  aiinfra_vecstore *store = NULL;
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  opts.dims = 2;
  opts.payload_bytes = opts.vector_bytes = *(const uint64_t *)ctx;
  torture_pause("runtime and database");
  aiinfra_status rc = scene_runtime(&runtime);
  if (rc == AIINFRA_OK) rc = aiinfra_db_open(runtime, ":memory:", NULL, &db, NULL);
  torture_resume();
  if (rc == AIINFRA_OK) rc = torture_made(aiinfra_vecstore_open(db, "rows", &opts, &store, NULL), &store, "open");
  if (rc == AIINFRA_OK) rc = use(store);
  if (rc == AIINFRA_OK) rc = walk(db);
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
  aiinfra_runtime_free(runtime);
  return rc;
}

/* ---- vectors under names ----------------------------------------------------------------------------------------- */

static const float NAMED[4] = {0.5f, 1, 1, 0.25f};

static aiinfra_status search_named(aiinfra_vecstore *store, const float *v, const char *filter, const char *options,
                                   int64_t first, size_t want)
{
  aiinfra_query q = AIINFRA_QUERY_INIT;
  aiinfra_hit hits[4];
  char *explain = NULL;
  size_t n;
  q.vector = v;
  q.filter_json = filter;
  q.options_json = options;
  q.explain = &explain;
  q.k = 4;
  aiinfra_status rc = aiinfra_vecstore_search(store, &q, hits, 4, &n, NULL);
  (void)torture_made(rc, &explain, "explain");
  torture_check(n == (rc == AIINFRA_OK ? want : 0), options);
  if (rc == AIINFRA_OK && n > 0) torture_check(hits[0].id == first, options);
  aiinfra_string_free(explain);
  return rc;
}

static aiinfra_status search_multi(aiinfra_vecstore *store, int32_t mode, int64_t first, size_t want)
{
  aiinfra_query q = AIINFRA_QUERY_INIT;
  aiinfra_hit hits[4];
  size_t n;
  q.vector = NAMED;
  q.mode = mode;
  q.options_json = "{\"using\":\"tokens\",\"multi\":2}";
  q.k = 4;
  aiinfra_status rc = aiinfra_vecstore_search(store, &q, hits, 4, &n, NULL);
  torture_check(n == (rc == AIINFRA_OK ? want : 0), "all hits or none");
  if (rc == AIINFRA_OK && n > 0) torture_check(hits[0].id == first, "the best first");
  return rc;
}

static const uint32_t INDICES[] = {9, 4};
static const aiinfra_named_vector LIST[] = {{1, "image", NAMED, NULL, 2},
                                            {3, "image", NAMED + 2, NULL, 2},
                                            {2, "words", NAMED, INDICES, 2},
                                            {1, "tokens", NAMED, NULL, 4},
                                            {2, "tokens", NAMED + 2, NULL, 2}};

/* Stages by each kind of vectors, fused and one after the other. */
static aiinfra_status use_named_stages(aiinfra_vecstore *store)
{
  static const struct {
    const char *request, *want;
  } queries[] = {
      {"{\"prefetch\":[{\"using\":\"image\",\"vector\":{\"row\":1}},{\"using\":\"words\",\"query\":{\"indices\":[4],"
       "\"values\":"
       "[2]}},{\"using\":\"tokens\",\"query\":1}],\"query\":{\"fusion\":\"rrf\"},\"explain\":true}",
       "{\"hits\":[{\"id\":2,"},
      {"{\"prefetch\":{\"vector\":[1,0]},\"using\":\"tokens\",\"query\":[[1,0],[0,1]],\"filter\":{\"n\":{\"$lt\":3}}}",
       "{\"hits\":[{\"id\":1,"},
      {"{\"using\":\"words\",\"query\":2}", "{\"hits\":[]"},
      {"{\"using\":\"image\",\"query\":{\"context\":[{\"positive\":[1,0],\"negative\":[0,1]}]},\"mmr\":{}}",
       "{\"hits\":[{\"id\":3,"},
  };
  aiinfra_status rc = AIINFRA_OK;
  torture_pause("rows");
  rc = fill(store);
  if (rc == AIINFRA_OK) rc = aiinfra_vecstore_upsert_named(store, LIST, 5, NULL);
  torture_resume();
  for (size_t i = 0; rc == AIINFRA_OK && i < sizeof queries / sizeof *queries; i++) {
    rc = query(store, queries[i].request, queries[i].want);
  }
  return rc;
}

static aiinfra_status use_named(aiinfra_vecstore *store)
{
  static const aiinfra_named_vector none = {3, "image", NULL, NULL, 0};
  static const char sparse[] = "{\"sparse\":{\"using\":\"words\",\"indices\":[4],\"values\":[2]}}";
  static const int64_t id = 2;
  aiinfra_status rc = fill(store);
  if (rc == AIINFRA_OK) rc = aiinfra_vecstore_upsert_named(store, LIST, 5, NULL);
  if (rc == AIINFRA_OK) rc = search_named(store, NAMED, NULL, "{\"using\":\"image\"}", 1, 2);
  if (rc == AIINFRA_OK) rc = search_named(store, NAMED, "{\"n\":3}", "{\"using\":\"image\"}", 3, 1);
  if (rc == AIINFRA_OK) rc = search_named(store, NULL, NULL, sparse, 2, 1);
  if (rc == AIINFRA_OK) {
    rc = search_named(store, NULL, NULL, "{\"using\":\"image\",\"recommend\":{\"positive\":[1]}}", 3, 1);
  }
  if (rc == AIINFRA_OK) rc = search_multi(store, AIINFRA_SEARCH_EXACT, 1, 2);
  if (rc == AIINFRA_OK) rc = search_multi(store, AIINFRA_SEARCH_GRAPH, 1, 2);
  if (rc == AIINFRA_OK) rc = aiinfra_vecstore_upsert_named(store, &none, 1, NULL);
  if (rc == AIINFRA_OK) rc = aiinfra_vecstore_remove(store, &id, 1, NULL, NULL);
  if (rc == AIINFRA_OK) rc = search_named(store, NAMED, NULL, "{\"using\":\"image\"}", 1, 1);
  if (rc == AIINFRA_OK) rc = search_named(store, NULL, NULL, sparse, 0, 0);
  return rc;
}

typedef struct named_case {
  uint64_t bytes; /* that floats may take */
  aiinfra_status (*use)(aiinfra_vecstore *store);
} named_case;

static aiinfra_status named_scenario(void *ctx)
{
  const named_case *c = ctx;
  aiinfra_runtime *runtime = NULL;
  aiinfra_db *db = NULL;
  aiinfra_vecstore *store = NULL;
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  opts.dims = 2;
  opts.element = AIINFRA_ELEMENT_INT8;
  opts.vector_bytes = c->bytes;
  opts.vectors_json = "{\"image\":{\"dims\":2,\"element\":\"f16\"},\"words\":{\"sparse\":true},"
                      "\"tokens\":{\"dims\":2,\"multi\":true}}";
  torture_pause("runtime and database");
  aiinfra_status rc = scene_runtime(&runtime);
  if (rc == AIINFRA_OK) rc = aiinfra_db_open(runtime, ":memory:", NULL, &db, NULL);
  torture_resume();
  if (rc == AIINFRA_OK) rc = torture_made(aiinfra_vecstore_open(db, "rows", &opts, &store, NULL), &store, "open");
  if (rc == AIINFRA_OK) rc = c->use(store);
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
  aiinfra_runtime_free(runtime);
  return rc;
}

static void named(void **state)
{
  named_case c = {0, use_named};
  (void)state;
  assert_int_equal(torture_run("vecstore.named", named_scenario, &c, NULL), 0);
  c.use = use_named_stages;
  assert_int_equal(torture_run("vecstore.named_stages", named_scenario, &c, NULL), 0);
}

static void named_read(void **state)
{
  named_case c = {1, use_named};
  (void)state;
  assert_int_equal(torture_run("vecstore.named_rows", named_scenario, &c, NULL), 0);
  c.use = use_named_stages;
  assert_int_equal(torture_run("vecstore.named_stages_rows", named_scenario, &c, NULL), 0);
}

static void payloads_in_memory(void **state)
{
  uint64_t bytes = 0;
  (void)state;
  assert_int_equal(torture_run("vecstore.memory", scenario, &bytes, NULL), 0);
}

static void payloads_read(void **state)
{
  uint64_t bytes = 1;
  (void)state;
  assert_int_equal(torture_run("vecstore.rows", scenario, &bytes, NULL), 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(payloads_in_memory), cmocka_unit_test(payloads_read),
                                     cmocka_unit_test(named), cmocka_unit_test(named_read)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
