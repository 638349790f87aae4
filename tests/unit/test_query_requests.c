/* test_query_requests.c - queries in JSON: the examples of docs/vector.md, executed; what is refused, and with which words;
 * what an answer has besides ids.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/vector/vector.h"
#include "support/support.h"

static aiinfra_runtime *rt;
static aiinfra_error err;

static json_t *ask(aiinfra_vecstore *store, const char *request)
{
  char *out;
  if (aiinfra_vecstore_query(store, request, &out, &err) != AIINFRA_OK) fail_msg("%s: %s", request, err.message);
  json_t *answer = json_loads(out, 0, NULL);
  if (answer == NULL) fail_msg("%s is no JSON", out);
  aiinfra_string_free(out);
  return answer;
}

static long long id_at(const json_t *hits, size_t i)
{
  return json_integer_value(json_object_get(json_array_get(hits, i), "id"));
}

static double number_at(const json_t *hits, size_t i, const char *name)
{
  return json_number_value(json_object_get(json_array_get(hits, i), name));
}

static aiinfra_vecstore *must_open(aiinfra_db **db)
{
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_vecstore *store;
  opts.dims = 2;
  opts.vectors_json = "{\"image\":{\"dims\":2},\"words\":{\"sparse\":true},\"tokens\":{\"dims\":2,\"metric\":"
                      "\"ip\",\"multi\":true}}";
  assert_int_equal(aiinfra_db_open(rt, ":memory:", NULL, db, &err), AIINFRA_OK);
  assert_int_equal(aiinfra_vecstore_open(*db, "page", &opts, &store, &err), AIINFRA_OK);
  return store;
}

/* ---- the page -------------------------------------------------------------------------------------------------- */

/* The cells of a table's line, without quotes of code; how many. */
static size_t cells_of(char *line, char *cells[4])
{
  size_t n = 0;
  for (char *at = strstr(line, "| "); at != NULL && n < 4; at = strstr(at, " | ")) {
    at += *at == '|' ? 2 : 3;
    cells[n++] = at;
  }
  for (size_t i = 0; i < n; i++) {
    char *end = i + 1 < n ? cells[i + 1] - 3 : strstr(cells[i], " |");
    if (end != NULL) *end = '\0';
    if (cells[i][0] == '`') {
      cells[i]++;
      cells[i][strlen(cells[i]) - 1] = '\0';
    }
  }
  return n;
}

static void put_of_page(aiinfra_vecstore *store, char *cells[4])
{
  json_t *numbers = json_loads(cells[1], 0, NULL);
  float v[2] = {(float)json_number_value(json_array_get(numbers, 0)),
                (float)json_number_value(json_array_get(numbers, 1))};
  aiinfra_record record = {atoi(cells[0]), v, cells[2], cells[3]};
  if (aiinfra_vecstore_upsert(store, &record, 1, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  json_decref(numbers);
}

static size_t floats_of(const json_t *list, float *out)
{
  size_t n = json_array_size(list);
  for (size_t i = 0; i < n; i++) out[i] = (float)json_number_value(json_array_get(list, i));
  return n;
}

/* What a row has under names: one vector, a sparse one, several. */
static void put_named_of_page(aiinfra_vecstore *store, char *cells[4])
{
  float image[8], weights[8], tokens[8];
  uint32_t indices[8];
  json_t *one = json_loads(cells[1], 0, NULL), *sparse = json_loads(cells[2], 0, NULL);
  json_t *several = json_loads(cells[3], 0, NULL), *list = json_object_get(sparse, "indices");
  int id = atoi(cells[0]);
  size_t n = 0;
  for (size_t i = 0; i < json_array_size(list); i++) indices[i] = (uint32_t)json_integer_value(json_array_get(list, i));
  for (size_t i = 0; i < json_array_size(several); i++) n += floats_of(json_array_get(several, i), tokens + n);
  const aiinfra_named_vector vectors[] = {
      {id, "image", image, NULL, floats_of(one, image)},
      {id, "words", weights, indices, floats_of(json_object_get(sparse, "values"), weights)},
      {id, "tokens", tokens, NULL, n}};
  if (aiinfra_vecstore_upsert_named(store, vectors, 3, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  json_decref(one);
  json_decref(sparse);
  json_decref(several);
}

static void check_of_page(aiinfra_vecstore *store, const char *request, const char *want)
{
  json_t *answer = ask(store, request);
  const json_t *hits = json_object_get(answer, "hits");
  size_t n = 0;
  for (const char *at = want; at != NULL; at = strchr(at, ','), at = at != NULL ? at + 2 : NULL, n++) {
    long id = atol(at);
    double score = atof(strchr(at, ':') + 1);
    if (n >= json_array_size(hits) || id_at(hits, n) != id || fabs(number_at(hits, n, "score") - score) > 1e-6) {
      char *text = json_dumps(hits, 0);
      fail_msg("%s: %s instead of %s", request, text, want);
    }
  }
  assert_int_equal(json_array_size(hits), n);
  json_decref(answer);
}

/* The rows and the queries of docs/vector.md. */
static void test_page(void **state)
{
  aiinfra_db *db;
  aiinfra_vecstore *store = must_open(&db);
  char *page = test_read_file(test_path("docs/vector.md"), NULL), *cells[4], *next;
  size_t n_rows = 0, n_queries = 0;
  (void)state;
  assert_non_null(page);
  char *section = strstr(page, "## Queries of several stages");
  assert_non_null(section);
  *strstr(section, "\n## Reading") = '\0';
  for (char *line = section; line != NULL; line = next) {
    next = strchr(line, '\n');
    if (next != NULL) *next++ = '\0';
    bool row = line[0] == '|' && line[2] >= '0' && line[2] <= '9';
    bool query = strncmp(line, "| `{\"", 5) == 0 && strstr(line, "` | ") != NULL;
    if (query) query = strstr(line, "` | ")[4] >= '0' && strstr(line, "` | ")[4] <= '9' && strstr(line, ": ") != NULL;
    if (!row && !query) continue;
    size_t n = cells_of(line, cells);
    if (row && n == 4 && cells[2][0] == '{') put_named_of_page(store, cells);
    else if (row && n == 4) put_of_page(store, cells);
    n_rows += row && n == 4;
    if (!query || n != 2 || cells[1][1] != ':') continue;
    check_of_page(store, cells[0], cells[1]);
    n_queries++;
  }
  assert_int_equal(n_rows, 4 + 3);
  assert_int_equal(n_queries, 22);
  free(page);
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
}

/* ---- what is refused ------------------------------------------------------------------------------------------- */

static const struct {
  const char *request, *names;
} REFUSED[] = {
    {"[]", "query: expected an object"},
    {"{\"near\":1}", "'near'"},
    {"{}", "neither vector nor text nor query"},
    {"{\"searches\":{}}", "searches"},
    {"{\"searches\":[],\"limit\":1}", "'limit'"},
    {"{\"searches\":[{\"vector\":[1,0]},{\"text\":1}]}", "searches[1].text"},
    {"{\"vector\":[1]}", "1 elements instead of 2"},
    {"{\"vector\":[0,0]}", "zero"},
    {"{\"vector\":[1,1e39]}", "finite"},
    {"{\"vector\":[]}", "a vector is an array"},
    {"{\"vector\":[1,\"a\"]}", "a vector is an array"},
    {"{\"vector\":{\"row\":1,\"col\":2}}", "a vector is an array"},
    {"{\"vector\":[1,0],\"query\":[1,0]}", "has a vector already"},
    {"{\"vector\":[1,0],\"limit\":0}", "query.limit"},
    {"{\"vector\":[1,0],\"offset\":-1}", "query.offset"},
    {"{\"vector\":[1,0],\"score_threshold\":\"1\"}", "query.score_threshold"},
    {"{\"vector\":[1,0],\"params\":{\"ef\":1}}", "'ef'"},
    {"{\"vector\":[1,0],\"explain\":1}", "query.explain"},
    {"{\"vector\":[1,0],\"filter\":{\"$near\":1}}", "$near"},
    {"{\"vector\":[1,0],\"group\":{\"by\":\"a\"},\"offset\":1}", "neither mmr nor offset"},
    {"{\"prefetch\":[{\"vector\":[1,0]}]}", "nothing says what becomes of prefetch"},
    {"{\"prefetch\":7,\"query\":{\"fusion\":\"rrf\"}}", "query.prefetch"},
    {"{\"prefetch\":[{\"vector\":[1,0],\"group\":{\"by\":\"a\"}}],\"query\":{\"fusion\":\"rrf\"}}", "outermost"},
    {"{\"prefetch\":[{\"vector\":[1,0],\"explain\":true}],\"query\":{\"fusion\":\"rrf\"}}", "query.prefetch[0]"},
    {"{\"prefetch\":[{\"vector\":[1,0]}],\"vector\":[1,0],\"query\":{\"fusion\":\"rrf\"}}", "would not be used"},
    {"{\"query\":{\"fusion\":\"rrf\"}}", "nothing to fuse"},
    {"{\"query\":{\"fusion\":\"sum\"}}", "neither rrf nor dbsf"},
    {"{\"query\":{\"melt\":1}}", "'melt'"},
    {"{\"query\":{}}", "there is no query ''"},
    {"{\"query\":{\"fusion\":\"rrf\",\"rrf\":{}}}", "alone"},
    {"{\"query\":{\"rrf\":{\"k\":-1}}}", "k is not"},
    {"{\"query\":{\"rrf\":{\"weights\":[-1]}}}", "weights"},
    {"{\"query\":{\"rrf\":{\"weight\":1}}}", "'weight'"},
    {"{\"vector\":[1,0],\"text\":\"a\",\"query\":{\"rrf\":{\"weights\":[1]}}}", "1 weights for 2 lists"},
    {"{\"query\":{\"weighted\":{\"norm\":\"max\"}}}", "norm"},
    {"{\"query\":{\"recommend\":{}}}", "no example"},
    {"{\"query\":{\"recommend\":null}}", "found null"},
    {"{\"query\":{\"recommend\":{\"positive\":[\"a\"]}}}", "positive"},
    {"{\"query\":{\"discover\":{\"context\":[]}}}", "target"},
    {"{\"query\":{\"discover\":{\"target\":1,\"context\":[{\"positive\":1}]}}}", "context[0]"},
    {"{\"query\":{\"context\":[]}}", "no pairs"},
    {"{\"query\":{\"context\":[{\"positive\":1,\"negative\":1,\"else\":1}]}}", "'else'"},
    {"{\"query\":{\"formula\":\"$score\"}}", "there are 0 prefetches"},
    {"{\"vector\":[1,0],\"query\":{\"formula\":\"$score[1]\"}}", "there are 1 prefetches"},
    {"{\"vector\":[1,0],\"query\":{\"formula\":\"$rank\"}}", "'$rank'"},
    {"{\"query\":{\"formula\":[1]}}", "query.formula: expected a number"},
    {"{\"query\":{\"formula\":{\"sum\":[1,{\"sin\":1}]}}}", "query.formula.sum[1]: there is no operator 'sin'"},
    {"{\"query\":{\"formula\":{\"sum\":[],\"mult\":[]}}}", "alone"},
    {"{\"query\":{\"formula\":{\"gauss_decay\":{\"x\":1,\"scale\":0}}}}", "scale"},
    {"{\"query\":{\"formula\":{\"gauss_decay\":{\"x\":1,\"midpoint\":1}}}}", "midpoint"},
    {"{\"query\":{\"formula\":{\"lin_decay\":{\"y\":1}}}}", "'y'"},
    {"{\"query\":{\"formula\":{\"div\":{\"left\":1}}}}", "query.formula.div.right"},
    {"{\"query\":{\"formula\":{\"datetime\":\"soon\"}}}", "a date"},
    {"{\"query\":{\"formula\":{\"geo_distance\":{\"origin\":{\"lon\":0,\"lat\":91},\"to\":\"p\"}}}}", "degrees"},
    {"{\"query\":{\"formula\":\"a..b\"}}", "'a..b'"},
    {"{\"query\":{\"formula\":{\"key\":\"a\",\"match\":{\"near\":1}}}}", "query.formula: filter"},
    {"{\"query\":{\"formula\":1,\"defaults\":{\"n\":1}}}", "nothing needs the default of 'n'"},
    {"{\"query\":{\"formula\":\"n\",\"defaults\":{\"n\":\"1\"}}}", "a number as the default"},
    {"{\"query\":{\"formula\":\"price\"}}", "row 4 has no number at 'price'"},
    {"{\"query\":{\"formula\":{\"datetime_key\":\"price\"}}}", "has no date at 'price'"},
    {"{\"query\":{\"formula\":{\"ln\":0}}}", "ln of row 1 is not a finite number"},
    {"{\"query\":{\"formula\":{\"div\":{\"left\":1,\"right\":0}}}}", "div of row 1"},
    {"{\"query\":{\"formula\":1e39}}", "not a finite number"},
    {"{\"vector\":[1,0],\"using\":\"picture\"}", "query.using: the collection has no vectors 'picture'; name them"},
    {"{\"vector\":[1,0],\"using\":1}", "query.using"},
    {"{\"prefetch\":{\"vector\":[1,0],\"using\":\"a\"},\"query\":{\"fusion\":\"rrf\"}}", "query.prefetch[0].using"},
    {"{\"text\":\"one\",\"using\":\"image\"}", "has no vector to compare with 'image'; give it one"},
    {"{\"prefetch\":{\"text\":\"one\"},\"query\":{\"fusion\":\"rrf\"},\"using\":\"image\"}", "say using where it is"},
    {"{\"vector\":[1],\"using\":\"image\"}", "1 elements instead of 2"},
    {"{\"vector\":[[1,0]],\"using\":\"image\"}", "several vectors need using with the name of multi vectors"},
    {"{\"vector\":[[1,0]]}", "several vectors need using"},
    {"{\"vector\":{\"indices\":[1],\"values\":[1]}}", "a sparse vector needs using with the name of sparse vectors"},
    {"{\"query\":{\"nearest\":{\"indices\":[1],\"values\":[1]}},\"using\":\"tokens\"}",
     "query.query: a sparse vector needs"},
    {"{\"vector\":[1,0],\"using\":\"words\"}", "the vectors 'words' are sparse: {\"indices\""},
    {"{\"query\":{\"indices\":[1,2],\"values\":[1]},\"using\":\"words\"}",
     "query.query: indices and values are not as many"},
    {"{\"query\":{\"indices\":[],\"values\":[]},\"using\":\"words\"}", "not as many"},
    {"{\"query\":{\"indices\":[1]},\"using\":\"words\"}", "query.query.values"},
    {"{\"query\":{\"indices\":[-1],\"values\":[1]},\"using\":\"words\"}", "query.query.indices[0]"},
    {"{\"query\":{\"indices\":[1],\"values\":[1e39]},\"using\":\"words\"}", "query.query.values[0]"},
    {"{\"query\":{\"indices\":[1],\"values\":[1],\"x\":1},\"using\":\"words\"}", "'x'"},
    {"{\"query\":{\"indices\":[3,3],\"values\":[1,1]},\"using\":\"words\"}", "3 comes twice"},
    {"{\"vector\":[[1,0],[1]],\"using\":\"tokens\"}", "query: vector 1 is not an array of 2 numbers"},
    {"{\"vector\":[[1,0],2],\"using\":\"tokens\"}", "vector 1 is not an array of 2 numbers"},
    {"{\"vector\":[],\"using\":\"tokens\"}", "vector 0 is not an array of 2 numbers"},
    {"{\"vector\":[[1,1e39]],\"using\":\"tokens\"}", "element 1 of vector 0 is not a finite number"},
    {"{\"vector\":\"a\",\"using\":\"tokens\"}", "a vector is an array of numbers"},
    {"{\"query\":{\"recommend\":{\"positive\":[1]}},\"using\":\"words\"}",
     "compared by one dense vector a row, but the vectors 'words' are sparse"},
    {"{\"query\":{\"context\":[{\"positive\":1,\"negative\":4}]},\"using\":\"tokens\"}",
     "are several a row; search by a vector"},
    {"{\"query\":{\"discover\":{\"target\":1}},\"using\":\"tokens\"}", "are several a row; search by a vector"},
    {"{\"vector\":[1,0],\"using\":\"tokens\",\"mmr\":{}}", "make the stage a prefetch of one with mmr"},
    {"{\"query\":1,\"using\":\"words\",\"mmr\":{}}", "the vectors 'words' are sparse; make the stage a prefetch"},
};

/* The same stages in the options of a query in a struct. */
static const struct {
  const char *options, *names;
} REFUSED_OPTIONS[] = {
    {"{\"query\":{\"fusion\":\"rrf\"},\"using\":\"a\"}", "options.using: the collection has no vectors 'a'"},
    {"{\"query\":{\"fusion\":\"rrf\"},\"using\":\"words\"}", "are sparse, the query's vector is not"},
    {"{\"query\":{\"fusion\":\"rrf\"},\"multi\":2}", "use multi vectors by the option using"},
    {"{\"query\":{\"fusion\":\"rrf\"},\"sparse\":{\"using\":\"words\",\"indices\":[1],\"values\":[1]}}",
     "make it a stage of prefetch"},
    {"{\"query\":{\"fusion\":\"rrf\"},\"using\":\"tokens\",\"multi\":2}", "vector 1: element 1"},
};

static void check_refused(aiinfra_vecstore *store, const char *request, aiinfra_status status, const char *names)
{
  char *out = (char *)1;
  assert_int_equal(aiinfra_vecstore_query(store, request, &out, &err), status);
  assert_null(out);
  if (strstr(err.message, names) == NULL) fail_msg("%s: %s", request, err.message);
}

/* begin, then open and close around the inner, depth times, then end. */
static void check_deep(aiinfra_vecstore *store, const char *const parts[5], int depth, const char *names)
{
  static char text[1 << 14];
  size_t n = (size_t)snprintf(text, sizeof text, "%s", parts[0]);
  for (int i = 0; i < depth; i++) n += (size_t)snprintf(text + n, sizeof text - n, "%s", parts[1]);
  n += (size_t)snprintf(text + n, sizeof text - n, "%s", parts[2]);
  for (int i = 0; i < depth; i++) n += (size_t)snprintf(text + n, sizeof text - n, "%s", parts[3]);
  n += (size_t)snprintf(text + n, sizeof text - n, "%s", parts[4]);
  if (names != NULL) {
    check_refused(store, text, AIINFRA_EINVAL, names);
  } else {
    json_decref(ask(store, text));
  }
}

static void test_bounds(void **state)
{
  static const char *const stages[] = {"", "{\"prefetch\":", "{\"text\":\"one\"}", ",\"query\":{\"formula\":1}}", ""};
  static const char *const terms[] = {"{\"query\":{\"formula\":", "{\"neg\":", "1", "}", "}}"};
  static const char *const many[] = {"{\"query\":{\"formula\":{\"sum\":[", "2,", "1", "", "]}}}"};
  static const char *const lists[] = {"{\"query\":{\"fusion\":\"rrf\"},\"prefetch\":[", "{\"query\":1},",
                                      "{\"query\":1}", "", "]}"};
  aiinfra_db *db;
  aiinfra_vecstore *store = must_open(&db);
  float v[2] = {1, 0};
  (void)state;
  aiinfra_record record = {1, v, "one", NULL};
  assert_int_equal(aiinfra_vecstore_upsert(store, &record, 1, &err), AIINFRA_OK);
  check_deep(store, stages, 7, NULL);
  check_deep(store, stages, 8, "deeper than 8");
  check_deep(store, terms, 23, NULL);
  check_deep(store, terms, 24, "deeper than 24");
  check_deep(store, many, 510, NULL);
  check_deep(store, many, 511, "more than 512 terms");
  check_deep(store, lists, 31, NULL);
  check_deep(store, lists, 32, "up to 32 stages");
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
}

/* What is not understood is refused with its place, before anything is answered. */
static void test_refused(void **state)
{
  static const float v[2] = {1, 0};
  aiinfra_db *db;
  aiinfra_vecstore *store = must_open(&db);
  (void)state;
  aiinfra_record records[] = {{1, v, "one", "{\"price\":1}"}, {4, v, NULL, NULL}};
  assert_int_equal(aiinfra_vecstore_upsert(store, records, 2, &err), AIINFRA_OK);
  for (size_t i = 0; i < AII_COUNT(REFUSED); i++) {
    check_refused(store, REFUSED[i].request, AIINFRA_EINVAL, REFUSED[i].names);
  }
  check_refused(store, "{\"vector\":{\"row\":9}}", AIINFRA_ENOENT, "no row has the id 9");
  static const char *const names[] = {"image", "words", "tokens"};
  for (size_t i = 0; i < AII_COUNT(names); i++) {
    char request[80];
    snprintf(request, sizeof request, "{\"query\":9,\"using\":\"%s\"}", names[i]);
    check_refused(store, request, AIINFRA_ENOENT, "no row has the id 9");
    snprintf(request, sizeof request, "{\"query\":4,\"using\":\"%s\"}", names[i]);
    check_refused(store, request, AIINFRA_ENOENT, "row 4 has no vector under");
  }
  check_refused(store, "{\"searches\":[{\"query\":1},{\"query\":9}]}", AIINFRA_ENOENT, "searches[1]");
  const float none[2] = {NAN, 0};
  aiinfra_query q = AIINFRA_QUERY_INIT;
  aiinfra_hit hits[10];
  size_t n;
  q.vector = none;
  q.text = "one";
  q.options_json = "{\"query\":{\"fusion\":\"rrf\"}}";
  assert_int_equal(aiinfra_vecstore_search(store, &q, hits, 10, &n, &err), AIINFRA_EINVAL);
  assert_non_null(strstr(err.message, "element 0 of the vector"));
  const float bad[4] = {1, 0, 1, NAN};
  q.vector = bad;
  for (size_t i = 0; i < AII_COUNT(REFUSED_OPTIONS); i++) {
    q.options_json = REFUSED_OPTIONS[i].options;
    assert_int_equal(aiinfra_vecstore_search(store, &q, hits, 10, &n, &err), AIINFRA_EINVAL);
    if (strstr(err.message, REFUSED_OPTIONS[i].names) == NULL) fail_msg("%s: %s", q.options_json, err.message);
  }
  q.vector = NULL;
  q.options_json = "{\"query\":[[1,0]],\"using\":\"tokens\",\"multi\":2}";
  assert_int_equal(aiinfra_vecstore_search(store, &q, hits, 10, &n, &err), AIINFRA_EINVAL);
  assert_non_null(strstr(err.message, "the query's struct has no vector"));
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
}

/* ---- what an answer has ---------------------------------------------------------------------------------------- */

static void test_answer(void **state)
{
  static const float v[3][2] = {{1, 0}, {0, 1}, {1, 1}};
  aiinfra_db *db;
  aiinfra_vecstore *store = must_open(&db);
  (void)state;
  aiinfra_record records[] = {{1, v[0], "red", "{\"a\":[1,null]}"}, {2, v[1], NULL, NULL}, {3, v[2], "blue \"", NULL}};
  assert_int_equal(aiinfra_vecstore_upsert(store, records, 3, &err), AIINFRA_OK);
  json_t *answer =
      ask(store, "{\"vector\":[1,0],\"text\":\"blue\",\"limit\":3,\"with_payload\":true,\"with_text\":true,"
                 "\"query\":{\"weighted\":{\"norm\":\"none\",\"weights\":[1,0]}}}");
  json_t *hits = json_object_get(answer, "hits"), *want = json_loads("{\"a\":[1,null]}", 0, NULL);
  assert_int_equal(json_array_size(hits), 3);
  assert_int_equal(id_at(hits, 0), 1);
  assert_true(json_equal(json_object_get(json_array_get(hits, 0), "payload"), want));
  assert_string_equal(json_string_value(json_object_get(json_array_get(hits, 0), "text")), "red");
  assert_null(json_object_get(json_array_get(hits, 0), "text_score")); /* the words are not in it */
  assert_string_equal(json_string_value(json_object_get(json_array_get(hits, 1), "text")), "blue \"");
  assert_true(number_at(hits, 1, "text_score") > 0);
  assert_true(fabs(number_at(hits, 1, "vector_score") - sqrt(0.5)) < 1e-6);
  assert_string_equal(json_string_value(json_object_get(json_array_get(hits, 2), "text")), "");
  assert_int_equal(json_object_size(json_object_get(json_array_get(hits, 2), "payload")), 0);
  json_decref(want);
  json_decref(answer);
  answer = ask(store, "{\"vector\":[1,0],\"limit\":1048576,\"group\":{\"by\":\"a\",\"size\":1024}}");
  assert_int_equal(json_array_size(json_object_get(answer, "hits")), 1);
  assert_int_equal(json_integer_value(json_object_get(json_array_get(json_object_get(answer, "hits"), 0), "group")), 1);
  json_decref(answer);
  answer = ask(store, "{\"vector\":[1,0],\"group\":{\"by\":\"b\"}}"); /* a field that no row has */
  assert_int_equal(json_array_size(json_object_get(answer, "hits")), 0);
  json_decref(answer);
  answer = ask(store, "{\"searches\":[]}");
  assert_int_equal(json_array_size(json_object_get(answer, "results")), 0);
  json_decref(answer);
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
}

/* ---- pages in an order ----------------------------------------------------------------------------------------- */

/* Values upwards, with their place; the last ones are none. */
static const struct {
  const char *json;
  int place;
} ORDERED[] = {
    {"false", 0},
    {"[true,7]", 1},
    {"-5", 2},
    {"1", 3},
    {"1.0", 3},
    {"[1,-9]", 3},
    {"1.5", 4},
    {"9007199254740992", 5},
    {"9007199254740993", 6},
    {"9223372036854775807", 7},
    {"9223372036854775808.0", 8},
    {"\"2026-01-01\"", 9},
    {"\"2026-01-01T01:00:00+01:00\"", 9},
    {"\"2026-01-01T00:00:01Z\"", 10},
    {"\"\"", 11},
    {"\"2026-01-32\"", 12},
    {"\"a\"", 13},
    {"\"ab\"", 14},
    {"\"b\"", 15},
    {"null", 99},
    {"{\"x\":1}", 99},
    {"[]", 99},
};

enum { N_ORDERED = (int)(sizeof ORDERED / sizeof ORDERED[0]), ORDERED_ROWS = 60 };

static int place_at(int id)
{
  return ORDERED[id * 7 % N_ORDERED].place;
}

static bool is_behind(int a, int b, bool down)
{
  int x = place_at(a), y = place_at(b);
  if (x != y) return x == 99 || (y != 99 && (down ? x < y : x > y));
  return a > b;
}

/* All pages of a size: each row once, in the order. */
static void check_pages(aiinfra_vecstore *store, bool down, int limit, int least)
{
  char request[300], after[120] = "null";
  int last = -1, n = 0;
  bool more = true;
  while (more) {
    snprintf(
        request, sizeof request,
        "{\"scroll\":{\"order_by\":{\"key\":\"v\",\"direction\":\"%s\"},\"limit\":%d,\"after\":%s,\"filter\":{\"i\":{"
        "\"$gte\":%d}}}}",
        down ? "desc" : "asc", limit, after, least);
    char *out;
    if (aiinfra_vecstore_read(store, request, &out, &err) != AIINFRA_OK) fail_msg("%s: %s", request, err.message);
    json_t *page = json_loads(out, 0, NULL), *rows = json_object_get(page, "rows"),
           *next = json_object_get(page, "next");
    for (size_t i = 0; i < json_array_size(rows); i++, n++) {
      int id = (int)id_at(rows, i);
      if (last >= 0 && !is_behind(id, last, down)) fail_msg("%s: %d behind %d", request, id, last);
      last = id;
    }
    more = !json_is_null(next);
    assert_true(!more || json_array_size(rows) == (size_t)limit);
    char *text = json_dumps(next, JSON_ENCODE_ANY | JSON_COMPACT);
    snprintf(after, sizeof after, "%s", text);
    free(text);
    json_decref(page);
    aiinfra_string_free(out);
  }
  assert_int_equal(n, ORDERED_ROWS - least);
}

static void test_order(void **state)
{
  static const struct {
    const char *request, *names;
  } bad[] = {
      {"{\"scroll\":{\"order_by\":1}}", "order_by"},
      {"{\"scroll\":{\"order_by\":{\"direction\":\"asc\"}}}", "order_by.key"},
      {"{\"scroll\":{\"order_by\":{\"key\":\"v\",\"direction\":\"up\"}}}", "neither asc nor desc"},
      {"{\"scroll\":{\"order_by\":{\"key\":\"v\",\"from\":1}}}", "'from'"},
      {"{\"scroll\":{\"order_by\":\"a..b\"}}", "'a..b'"},
      {"{\"scroll\":{\"order_by\":\"v\",\"after\":7}}", "scroll.after"},
      {"{\"scroll\":{\"order_by\":\"v\",\"after\":{\"id\":7}}}", "scroll.after"},
      {"{\"scroll\":{\"order_by\":\"v\",\"after\":{\"id\":7,\"value\":1,\"x\":1}}}", "'x'"},
      {"{\"count\":{\"order_by\":\"v\"}}", "'order_by'"},
  };
  static const float v[2] = {1, 0};
  char payload[80], *out;
  (void)state;
  for (int rows = 0; rows < 2; rows++) { /* payloads in memory, then read */
    aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
    aiinfra_db *db;
    aiinfra_vecstore *store;
    opts.dims = 2;
    opts.payload_bytes = (uint64_t)rows;
    assert_int_equal(aiinfra_db_open(rt, ":memory:", NULL, &db, &err), AIINFRA_OK);
    assert_int_equal(aiinfra_vecstore_open(db, "ordered", &opts, &store, &err), AIINFRA_OK);
    for (int i = 0; i < ORDERED_ROWS; i++) {
      int id = i * 13 % ORDERED_ROWS;
      snprintf(payload, sizeof payload, "{\"i\":%d,\"v\":%s}", id, ORDERED[id * 7 % N_ORDERED].json);
      aiinfra_record record = {id, v, NULL, payload};
      assert_int_equal(aiinfra_vecstore_upsert(store, &record, 1, &err), AIINFRA_OK);
    }
    for (int limit = 1; limit < 70; limit = limit * 2 + 1) {
      check_pages(store, false, limit, 0);
      check_pages(store, true, limit, 10);
      check_pages(store, true, limit, ORDERED_ROWS);
    }
    for (size_t i = 0; i < AII_COUNT(bad); i++) {
      assert_int_equal(aiinfra_vecstore_read(store, bad[i].request, &out, &err), AIINFRA_EINVAL);
      if (strstr(err.message, bad[i].names) == NULL) fail_msg("%s: %s", bad[i].request, err.message);
      assert_null(out);
    }
    aiinfra_vecstore_free(store);
    aiinfra_db_free(db);
  }
}

/* ---- large collections, and writers beside --------------------------------------------------------------------- */

enum { MANY = 6000, MANY_DIMS = 8, WRITES = 400 };

static void many_vector(int id, float v[MANY_DIMS])
{
  unsigned long long seed = (unsigned long long)id + 1;
  for (int d = 0; d < MANY_DIMS; d++) v[d] = (float)(test_random(&seed) % 2001) / 1000.0f - 1.0f;
}

static aiinfra_vecstore *must_fill(aiinfra_db **db, const char *path)
{
  static float v[MANY][MANY_DIMS];
  static char payloads[MANY][40];
  static aiinfra_record records[MANY];
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_vecstore *store;
  opts.dims = MANY_DIMS;
  opts.vectors_json = "{\"image\":{\"dims\":8},\"tokens\":{\"dims\":4,\"multi\":true}}";
  assert_int_equal(aiinfra_db_open(rt, path, NULL, db, &err), AIINFRA_OK);
  assert_int_equal(aiinfra_vecstore_open(*db, "many", &opts, &store, &err), AIINFRA_OK);
  for (int id = 0; id < MANY; id++) {
    many_vector(id, v[id]);
    snprintf(payloads[id], sizeof payloads[id], "{\"n\":%d}", id % 100);
    records[id] = (aiinfra_record){id, v[id], id % 2 == 0 ? "even" : NULL, payloads[id]};
  }
  assert_int_equal(aiinfra_vecstore_upsert(store, records, MANY, &err), AIINFRA_OK);
  return store;
}

/* The same vectors under names: as they are, and a part of them as two of half the length. */
static void must_name(aiinfra_vecstore *store)
{
  static float v[MANY][MANY_DIMS];
  static aiinfra_named_vector named[MANY + MANY / 3];
  for (int id = 0; id < MANY; id++) {
    many_vector(id, v[id]);
    named[id] = (aiinfra_named_vector){id, "image", v[id], NULL, MANY_DIMS};
    if (id < MANY / 3) named[MANY + id] = (aiinfra_named_vector){id, "tokens", v[id], NULL, MANY_DIMS};
  }
  if (aiinfra_vecstore_upsert_named(store, named, MANY + MANY / 3, &err) != AIINFRA_OK) fail_msg("%s", err.message);
}

static const float ASKED[MANY_DIMS] = {0.5f, 0.25f, -0.5f, 0.75f, 0, 1, -1, 0.125f};

/* alone: options of the query alone. */
static void check_walk(aiinfra_vecstore *store, const char *alone, const char *stages)
{
  aiinfra_query q = AIINFRA_QUERY_INIT;
  aiinfra_hit plain[10], staged[10];
  char *explain;
  size_t n;
  q.vector = ASKED;
  q.ef = 24;
  q.mode = AIINFRA_SEARCH_GRAPH;
  q.options_json = alone;
  assert_int_equal(aiinfra_vecstore_search(store, &q, plain, 10, &n, &err), AIINFRA_OK);
  assert_int_equal(n, 10);
  q = (aiinfra_query)AIINFRA_QUERY_INIT;
  q.options_json = stages;
  q.explain = &explain;
  if (aiinfra_vecstore_search(store, &q, staged, 10, &n, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  assert_int_equal(n, 10);
  for (size_t i = 0; i < n; i++) {
    assert_int_equal(staged[i].id, plain[i].id);
    assert_true(fabs((double)staged[i].score - 1 - (double)plain[i].score) < 1e-6);
  }
  assert_non_null(strstr(explain, "\"plan\":\"graph\""));
  assert_null(strstr(explain, "\"plan\":\"exact\""));
  aiinfra_string_free(explain);
}

/* A stage walks over the graph as a query alone does, and its hits are those. */
static void test_graph(void **state)
{
#define STAGES(vector)                                                                                      \
  "{\"prefetch\":[{" vector ",\"limit\":10,\"params\":{\"hnsw_ef\":24}}],\"query\":{\"formula\":{\"sum\":[" \
  "\"$score\",1]}}}"
  aiinfra_db *db;
  aiinfra_vecstore *store = must_fill(&db, ":memory:");
  (void)state;
  must_name(store);
  check_walk(store, NULL, STAGES("\"vector\":[0.5,0.25,-0.5,0.75,0,1,-1,0.125]"));
  check_walk(store, "{\"using\":\"image\"}",
             STAGES("\"using\":\"image\",\"vector\":[0.5,0.25,-0.5,0.75,0,1,-1,0.125]"));
  check_walk(store, "{\"using\":\"tokens\",\"multi\":2}",
             STAGES("\"using\":\"tokens\",\"vector\":[[0.5,0.25,-0.5,0.75],[0,1,-1,0.125]]"));
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
}

static void *write_rows(void *store)
{
  float v[MANY_DIMS];
  for (int i = 0; i < WRITES; i++) {
    many_vector(i * 31 % MANY, v);
    aiinfra_record record = {MANY + i, v, NULL, i % 2 == 0 ? "{\"n\":7}" : "{\"n\":200}"};
    int64_t gone = i * 3;
    if (aiinfra_vecstore_upsert(store, &record, 1, NULL) != AIINFRA_OK) abort();
    if (aiinfra_vecstore_remove(store, &gone, 1, NULL, NULL) != AIINFRA_OK) abort();
  }
  return NULL;
}

/* Queries of one request see the same rows, whoever writes meanwhile: all rows, once by a formula, once by stages; and all
 * vectors under a name, once by themselves, once of the rows that first vectors found. */
static void test_one_view(void **state)
{
  static const char request[] =
      "{\"searches\":[{\"filter\":{\"n\":{\"$gte\":0}},\"query\":{\"formula\":1},\"limit\":20000},"
      "{\"prefetch\":[{\"filter\":{\"n\":{\"$lt\":50}},\"query\":{\"formula\":1},\"limit\":20000},"
      "{\"filter\":{\"n\":{\"$gte\":50}},\"query\":{\"formula\":1},\"limit\":20000}],\"query\":{\"weighted\":{"
      "\"norm\":\"none\"}},\"limit\":20000},"
      "{\"using\":\"image\",\"vector\":[1,0,0,0,0,0,0,1],\"limit\":20000,\"params\":{\"exact\":true}},"
      "{\"prefetch\":{\"vector\":[0,1,0,0,0,0,0,0],\"limit\":20000,\"params\":{\"exact\":true}},"
      "\"using\":\"image\",\"vector\":[1,0,0,0,0,0,0,1],\"limit\":20000}]}";
  aiinfra_db *db;
  aiinfra_vecstore *store = must_fill(&db, test_tmp("view.db"));
  pthread_t writer;
  (void)state;
  must_name(store);
  assert_int_equal(pthread_create(&writer, NULL, write_rows, store), 0);
  for (int i = 0; i < 12; i++) {
    json_t *answer = ask(store, request), *results = json_object_get(answer, "results");
    assert_true(json_array_size(json_object_get(json_array_get(results, 0), "hits")) >= MANY - WRITES);
    assert_true(json_equal(json_array_get(results, 0), json_array_get(results, 1)));
    assert_true(json_array_size(json_object_get(json_array_get(results, 2), "hits")) >= MANY - WRITES);
    assert_true(json_equal(json_array_get(results, 2), json_array_get(results, 3)));
    json_decref(answer);
  }
  assert_int_equal(pthread_join(writer, NULL), 0);
  json_t *answer = ask(store, request), *results = json_object_get(answer, "results");
  assert_int_equal(json_array_size(json_object_get(json_array_get(results, 0), "hits")), MANY);
  json_decref(answer);
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
}

static int set_up(void **state)
{
  (void)state;
  return aiinfra_runtime_create(NULL, &rt, &err);
}

static int tear_down(void **state)
{
  (void)state;
  bool leaked = rt->refs != 1;
  aiinfra_runtime_free(rt);
  return leaked;
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_page),     cmocka_unit_test(test_refused), cmocka_unit_test(test_bounds),
      cmocka_unit_test(test_answer),   cmocka_unit_test(test_order),   cmocka_unit_test(test_graph),
      cmocka_unit_test(test_one_view),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
