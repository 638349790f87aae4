/* test_query_tree.c - queries of several stages: random trees beside a naive interpreter, batches, explanations.
 *
 * Everything runs with vectors and payloads in memory, and with so little of it that both are read from the rows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/support.h"
#include "tree_oracle.h"

enum { GROUPS = 4, CASES = 700 };

static aiinfra_runtime *rt;
static aiinfra_error err;
static tree_oracle oracle;
static unsigned long long seed;

static unsigned below(unsigned n)
{
  return (unsigned)(test_random(&seed) % n);
}

static bool maybe(unsigned percent)
{
  return below(100) < percent;
}

/* ---- rows ------------------------------------------------------------------------------------------------------ */

#define NAMES                                                                                 \
  "{\"image\":{\"dims\":4,\"metric\":\"%s\",\"element\":\"%s\"},\"words\":{\"sparse\":true}," \
  "\"tokens\":{\"dims\":3,\"metric\":\"%s\",\"multi\":true}}"

static const size_t DIMS[TREE_SPACES] = {TREE_DIMS, 4, 0, 3};

static const char *const WORDS[] = {"red fox",     "a lazy dog", "the quick brown fox",
                                    "red dog red", "blue",       "fox and dog"};

static void random_numbers(float v[TREE_DIMS])
{
  for (int d = 0; d < TREE_DIMS; d++) v[d] = (float)((int)below(17) - 8) / 4.0f + (d == 0 ? 0.125f : 0);
}

static json_t *random_payload(void)
{
  json_t *p = json_object();
  char text[40];
  json_object_set_new(p, "n", json_integer(below(100)));
  if (maybe(80)) json_object_set_new(p, "price", json_real((double)below(1000) / 8));
  snprintf(text, sizeof text, "g%u", below(GROUPS));
  if (maybe(85)) json_object_set_new(p, "group", json_string(text));
  snprintf(text, sizeof text, "2026-0%u-1%u", 1 + below(9), below(10));
  if (maybe(85)) json_object_set_new(p, "at", json_string(text));
  if (maybe(80)) {
    json_object_set_new(p, "place",
                        json_pack("{s:f,s:f}", "lon", (double)below(80) / 2 - 20, "lat", (double)below(80) / 2));
  }
  return p;
}

static json_t *numbers(const float *v, size_t n)
{
  json_t *array = json_array();
  for (size_t d = 0; d < n; d++) json_array_append_new(array, json_real((double)v[d]));
  return array;
}

static json_t *random_sparse(void)
{
  json_t *indices = json_array(), *values = json_array();
  for (int t = 0; t < TREE_TERMS; t++) {
    if (!maybe(25) && (t < TREE_TERMS - 1 || json_array_size(indices) > 0)) continue;
    json_array_insert_new(indices, 0, json_integer(t));
    json_array_insert_new(values, 0, json_real((double)((int)below(17) - 8) / 4));
  }
  return json_pack("{s:o,s:o}", "indices", indices, "values", values);
}

/* In the form of its space. */
static json_t *random_vector(int space)
{
  float v[TREE_DIMS];
  if (space == TREE_WORDS) return random_sparse();
  random_numbers(v);
  if (space != TREE_TOKENS || maybe(20)) return numbers(v, DIMS[space]);
  json_t *several = json_array();
  for (unsigned n = 1 + below(TREE_VECTORS); n > 0; n--) {
    random_numbers(v);
    json_array_append_new(several, numbers(v, DIMS[space]));
  }
  return several;
}

/* Writes it as a caller does; NULL: the row loses what it has. */
static void put_named(aiinfra_vecstore *store, int id, int space, const json_t *vector)
{
  float values[TREE_VECTORS * TREE_DIMS];
  uint32_t indices[TREE_TERMS];
  const json_t *list = json_object_get(vector, "indices");
  bool several = json_is_array(json_array_get(vector, 0));
  aiinfra_named_vector named = {id, TREE_NAMES[space], vector != NULL ? values : NULL, NULL, 0};
  for (size_t i = 0; i < json_array_size(list); i++) {
    indices[named.n] = (uint32_t)json_integer_value(json_array_get(list, i));
    values[named.n++] = (float)json_number_value(json_array_get(json_object_get(vector, "values"), i));
    named.indices = indices;
  }
  for (size_t i = 0; list == NULL && vector != NULL && i < (several ? json_array_size(vector) : 1); i++) {
    const json_t *one = several ? json_array_get(vector, i) : vector;
    for (size_t d = 0; d < DIMS[space]; d++) values[named.n++] = (float)json_number_value(json_array_get(one, d));
  }
  if (aiinfra_vecstore_upsert_named(store, &named, 1, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  if (vector != NULL) tree_read(&oracle, space, vector, &oracle.rows[id].of[space]);
  else memset(&oracle.rows[id].of[space], 0, sizeof(tree_vector));
}

static void put(aiinfra_vecstore *store, int id)
{
  tree_row *row = &oracle.rows[id];
  _Alignas(64) float raw[TREE_DIMS], own[TREE_DIMS];
  oracle.store = store;
  random_numbers(raw);
  json_decref(row->payload);
  row->payload = random_payload();
  row->there = true;
  char *payload = json_dumps(row->payload, 0);
  aiinfra_record record = {id, raw, maybe(60) ? WORDS[below(6)] : NULL, payload};
  if (aiinfra_vecstore_upsert(store, &record, 1, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  aii_index_take(&store->index, own, raw);
  memcpy(row->of[TREE_FIRST].v[0], own, sizeof own);
  row->of[TREE_FIRST].n = 1;
  free(payload);
  for (int space = TREE_IMAGE; space < TREE_SPACES; space++) {
    json_t *vector = maybe(75) ? random_vector(space) : NULL;
    if (vector != NULL || maybe(50)) put_named(store, id, space, vector); /* else it keeps what it has */
    json_decref(vector);
  }
}

/* ---- random queries -------------------------------------------------------------------------------------------- */

static int some_row(int space)
{
  int id = (int)below(TREE_ROWS);
  while (!oracle.rows[id].there || oracle.rows[id].of[space].n == 0) id = (id + 1) % TREE_ROWS;
  return id;
}

static json_t *random_example(int space)
{
  if (maybe(40)) return random_vector(space);
  return maybe(50) ? json_integer(some_row(space)) : json_pack("{s:i}", "row", some_row(space));
}

static json_t *random_filter(void)
{
  unsigned n = below(60);
  switch (below(5)) {
    case 0: return json_pack("{s:[{s:s,s:{s:i}}]}", "must", "key", "n", "range", "gte", (int)n);
    case 1: return json_pack("{s:[{s:s,s:{s:s}}]}", "must_not", "key", "group", "match", "value", "g1");
    case 2: return json_pack("{s:{s:[s,s]}}", "group", "$in", "g0", "g2");
    case 3: return json_pack("{s:s,s:{s:i}}", "key", "n", "range", "lt", (int)n + 40);
    default: return json_pack("{s:s,s:b}", "key", "price", "is_empty", false);
  }
}

static json_t *random_examples(int space, unsigned least)
{
  json_t *array = json_array();
  for (unsigned n = least + below(3); n > 0; n--) json_array_append_new(array, random_example(space));
  return array;
}

static json_t *random_recommend(int space, bool best)
{
  json_t *r = json_pack("{s:o,s:o}", "positive", random_examples(space, 1), "negative", random_examples(space, 0));
  json_object_set_new(r, "strategy", json_string(best ? "best_score" : "average"));
  return json_pack("{s:o}", "recommend", r);
}

static json_t *random_pairs(int space, unsigned least)
{
  json_t *array = json_array();
  for (unsigned n = least + below(3); n > 0; n--) {
    json_array_append_new(array,
                          json_pack("{s:o,s:o}", "positive", random_example(space), "negative", random_example(space)));
  }
  return array;
}

static json_t *random_fusion(size_t n_lists)
{
  static const char *const norms[] = {"minmax", "dbsf", "none"};
  json_t *weights = json_array(), *more = json_object();
  for (size_t i = 0; i < n_lists; i++) json_array_append_new(weights, json_real((double)below(9) / 4));
  if (maybe(70)) json_object_set(more, "weights", weights);
  json_decref(weights);
  switch (below(4)) {
    case 0: json_decref(more); return json_pack("{s:s}", "fusion", "rrf");
    case 1: json_decref(more); return json_pack("{s:s}", "fusion", "dbsf");
    case 2: json_object_set_new(more, "k", json_integer(below(80))); return json_pack("{s:o}", "rrf", more);
    default:
      if (maybe(80)) json_object_set_new(more, "norm", json_string(norms[below(3)]));
      return json_pack("{s:o}", "weighted", more);
  }
}

static json_t *random_expression(unsigned n_scores, unsigned depth)
{
  static const char *const ones[] = {"neg", "abs", "sqrt", "exp", "ln", "log10"};
  static const char *const decays[] = {"lin_decay", "exp_decay", "gauss_decay"};
  json_t *x;
  char name[24];
  unsigned what = below(depth > 3 ? 5 : 14);
  snprintf(name, sizeof name, "$score[%u]", below(n_scores > 0 ? n_scores : 1));
  switch (what) {
    case 0: return json_real((double)below(64) / 8 - 2);
    case 1: return json_string(maybe(50) ? "n" : "price");
    case 2: return n_scores == 0 ? json_integer(2) : json_string(maybe(50) ? "$score" : name);
    case 3: return json_pack("{s:s,s:{s:s}}", "key", "group", "match", "value", "g2");
    case 4: return json_pack("{s:[{s:s,s:{s:i}}]}", "must_not", "key", "n", "range", "gte", 50);
    case 5:
    case 6:
    case 7:
      x = json_array();
      for (unsigned n = below(4); n > 0; n--) json_array_append_new(x, random_expression(n_scores, depth + 1));
      return json_pack("{s:o}", what == 5 ? "mult" : "sum", x);
    case 8: return json_pack("{s:o}", ones[below(depth > 1 ? 6 : 2)], random_expression(n_scores, depth + 1));
    case 9:
      x = json_pack("{s:o,s:o}", "left", random_expression(n_scores, depth + 1), "right",
                    random_expression(n_scores, depth + 1));
      if (maybe(90)) json_object_set_new(x, "by_zero_default", json_integer(below(5)));
      return json_pack("{s:o}", "div", x);
    case 10:
      return json_pack("{s:{s:o,s:i}}", "pow", "base", random_expression(n_scores, depth + 1), "exponent",
                       (int)below(3));
    case 11:
      return json_pack("{s:{s:{s:s},s:{s:s},s:i,s:f}}", decays[below(3)], "x", "datetime_key", "at", "target",
                       "datetime", "2026-05-05T12:00:00Z", "scale", 86400 * 30, "midpoint", 0.25);
    case 12:
      return json_pack("{s:{s:{s:{s:{s:f,s:f},s:s}},s:f}}", decays[below(3)], "x", "geo_distance", "origin", "lon", 5.0,
                       "lat", 20.0, "to", "place", "scale", 1e6);
    default:
      x = json_pack("{s:o,s:f}", "x", random_expression(n_scores, depth + 1), "scale", 10.0);
      if (maybe(60)) json_object_set_new(x, "target", random_expression(n_scores, depth + 1));
      return json_pack("{s:o}", decays[below(3)], x);
  }
}

/* Whether the text of a formula names what a default is for. */
static bool names(const json_t *formula, const char *name)
{
  char *text = json_dumps(formula, JSON_ENCODE_ANY), quoted[24];
  snprintf(quoted, sizeof quoted, "\"%s\"", name);
  bool found = strstr(text, quoted) != NULL;
  free(text);
  return found;
}

static json_t *random_formula(unsigned n_scores)
{
  json_t *formula = random_expression(n_scores, 0), *defaults = json_object();
  if (names(formula, "price") && maybe(90)) json_object_set_new(defaults, "price", json_real(3.5));
  if (names(formula, "at") && maybe(90)) json_object_set_new(defaults, "at", json_integer(1700000000));
  if (names(formula, "place") && maybe(90)) json_object_set_new(defaults, "place", json_integer(5000));
  if (names(formula, "$score") && maybe(30)) json_object_set_new(defaults, "$score", json_real(-1.25));
  return json_pack("{s:o,s:o}", "formula", formula, "defaults", defaults);
}

static void add_text(json_t *stage)
{
  static const char *const texts[] = {"fox", "red dog", "the blue", "nothing of this"};
  json_object_set_new(stage, "text", json_string(texts[below(4)]));
}

/* Which vectors a stage compares; `dense`: one a row. */
static int random_space(json_t *stage, bool dense)
{
  int space = maybe(50) ? TREE_FIRST : dense ? TREE_IMAGE : TREE_IMAGE + (int)below(TREE_SPACES - TREE_IMAGE);
  if (space != TREE_FIRST) json_object_set_new(stage, "using", json_string(TREE_NAMES[space]));
  return space;
}

static void add_vector(json_t *stage)
{
  int space = random_space(stage, false);
  if (maybe(60)) json_object_set_new(stage, "vector", random_example(space));
  else if (maybe(50)) json_object_set_new(stage, "query", random_example(space));
  else json_object_set_new(stage, "query", json_pack("{s:o}", "nearest", random_example(space)));
}

/* A query that is about lists: those of prefetches, or of the stage's own vector and words. */
static void add_combination(json_t *stage, size_t n)
{
  bool formula = maybe(50), vector = n == 0 && (!formula || maybe(60)), text = n == 0 && (!formula || maybe(40));
  if (vector) json_object_set_new(stage, "vector", random_example(random_space(stage, false)));
  if (text) add_text(stage);
  if (n == 0) n = (size_t)vector + (size_t)text;
  json_object_set_new(stage, "query", formula ? random_formula((unsigned)n) : random_fusion(n));
}

static void add_order(json_t *stage, bool outermost, bool by_vector)
{
  if (maybe(80)) json_object_set_new(stage, "limit", json_integer(1 + below(20)));
  if (maybe(15)) json_object_set_new(stage, "score_threshold", json_real((double)below(20) / 40 - 0.1));
  if (outermost && maybe(20)) {
    json_object_set_new(stage, "group", json_pack("{s:s,s:i}", "by", "group", "size", 1 + (int)below(3)));
    return;
  }
  if (maybe(25)) json_object_set_new(stage, "offset", json_integer(below(6)));
  int space = tree_space(stage);
  if (space < TREE_WORDS && maybe(20)) { /* which compares one vector a row */
    if (!by_vector && maybe(50)) json_object_set_new(stage, "using", json_string("image"));
    json_t *mmr = json_pack("{s:f}", "lambda", (double)below(5) / 4);
    if (maybe(50)) json_object_set_new(mmr, "candidates", json_integer(below(40)));
    json_object_set_new(stage, "mmr", mmr);
  }
}

static json_t *random_stage(unsigned depth)
{
  json_t *stage = json_object(), *prefetch = json_array();
  for (unsigned n = depth < 3 && maybe(60) ? 1 + below(3) : 0; n > 0; n--) {
    json_array_append_new(prefetch, random_stage(depth + 1));
  }
  size_t n = json_array_size(prefetch);
  bool by_vector = false;
  int space;
  switch (below(8)) {
    case 0: add_vector(stage); break;
    case 1: add_text(stage); break;
    case 2:
      add_vector(stage);
      add_text(stage);
      break;
    case 3:
      json_object_set_new(stage, "query", random_recommend(random_space(stage, true), maybe(50)));
      by_vector = true;
      break;
    case 4:
      space = random_space(stage, true);
      by_vector = true;
      if (maybe(50)) json_object_set_new(stage, "query", json_pack("{s:o}", "context", random_pairs(space, 1)));
      else {
        json_t *d = json_pack("{s:o,s:o}", "target", random_example(space), "context", random_pairs(space, 0));
        json_object_set_new(stage, "query", json_pack("{s:o}", "discover", d));
      }
      break;
    default: add_combination(stage, n);
  }
  if (n > 0) json_object_set(stage, "prefetch", prefetch);
  json_decref(prefetch);
  if (maybe(35)) json_object_set_new(stage, "filter", random_filter());
  by_vector = by_vector || tree_vector_of(stage) != NULL;
  add_order(stage, depth == 0, by_vector);
  return stage;
}

/* ---- checks ---------------------------------------------------------------------------------------------------- */

static aiinfra_status ask(aiinfra_vecstore *store, const json_t *request, json_t **answer)
{
  char *text = json_dumps(request, 0), *out;
  aiinfra_status rc = aiinfra_vecstore_query(store, text, &out, &err);
  *answer = out != NULL ? json_loads(out, 0, NULL) : NULL;
  if ((rc == AIINFRA_OK) != (*answer != NULL)) fail_msg("%s: %s", text, out != NULL ? out : err.message);
  aiinfra_string_free(out);
  free(text);
  return rc;
}

static long long id_at(const json_t *hits, size_t i)
{
  return json_integer_value(json_object_get(json_array_get(hits, i), "id"));
}

static double number_at(const json_t *hits, size_t i, const char *name)
{
  return json_number_value(json_object_get(json_array_get(hits, i), name));
}

static bool is_near(double a, double b)
{
  return fabs(a - b) <= 1e-5 * fmax(1, fabs(b));
}

static void check_hits(const json_t *hits, const tree_list *want, const char *request)
{
  if (json_array_size(hits) != want->n) fail_msg("%s: %zu hits, not %zu", request, json_array_size(hits), want->n);
  for (size_t i = 0; i < want->n; i++) {
    const char *group = json_string_value(json_object_get(json_array_get(hits, i), "group"));
    if (id_at(hits, i) != want->hits[i].id || !is_near(number_at(hits, i, "score"), (double)want->hits[i].score)) {
      fail_msg("%s: hit %zu is %lld with %.9g, not %d with %.9g", request, i, id_at(hits, i),
               number_at(hits, i, "score"), want->hits[i].id, (double)want->hits[i].score);
    }
    assert_true((group == NULL) == (want->hits[i].group == NULL));
    if (group != NULL) assert_string_equal(group, want->hits[i].group);
  }
}

/* Each stage tells its hits, and those of a combination where they come from and, for a formula, how. */
static void check_explained(const json_t *explain)
{
  const json_t *hits = json_object_get(explain, "hits"), *inner = json_object_get(explain, "prefetch");
  for (size_t i = 0; i < json_array_size(hits); i++) {
    const json_t *hit = json_array_get(hits, i), *lists = json_object_get(hit, "prefetch");
    const json_t *formula = json_object_get(hit, "formula");
    if (formula != NULL)
      assert_true(is_near(number_at(hits, i, "score"), json_number_value(json_object_get(formula, "value"))));
    for (size_t l = 0; l < json_array_size(lists); l++) {
      const json_t *from = json_array_get(lists, l), *of = json_object_get(json_array_get(inner, l), "hits");
      if (json_is_null(from)) continue;
      size_t rank = (size_t)json_integer_value(json_object_get(from, "rank"));
      assert_int_equal(id_at(of, rank - 1), id_at(hits, i));
      assert_true(is_near(number_at(of, rank - 1, "score"), json_number_value(json_object_get(from, "score"))));
    }
  }
  for (size_t i = 0; i < json_array_size(inner); i++) check_explained(json_array_get(inner, i));
}

/* The same query in a struct with options has the same hits. */
static void check_struct(aiinfra_vecstore *store, const json_t *stage, const json_t *want)
{
  static aiinfra_hit hits[TREE_HITS];
  const json_t *vector = json_object_get(stage, "vector"), *filter = json_object_get(stage, "filter");
  json_t *options = json_deep_copy(stage);
  aiinfra_query q = AIINFRA_QUERY_INIT;
  float v[TREE_VECTORS * TREE_DIMS];
  size_t n, n_floats = 0;
  bool several = json_is_array(json_array_get(vector, 0));
  bool tree = json_object_get(stage, "query") != NULL || json_object_get(stage, "prefetch") != NULL;
  bool refused = !tree && vector == NULL && json_object_get(stage, "mmr") != NULL; /* alone, words are not compared */
  if (refused || (vector != NULL && !json_is_array(vector))) {
    json_decref(options);
    return;
  }
  for (size_t i = 0; i < (several ? json_array_size(vector) : 1); i++) {
    const json_t *one = several ? json_array_get(vector, i) : vector;
    for (size_t d = 0; d < json_array_size(one); d++) v[n_floats++] = (float)json_number_value(json_array_get(one, d));
  }
  if (several) json_object_set_new(options, "multi", json_integer((json_int_t)json_array_size(vector)));
  char *filter_text = filter != NULL ? json_dumps(filter, 0) : NULL;
  static const char *const out[] = {"vector", "text", "filter", "limit"};
  for (size_t i = 0; i < 4; i++) json_object_del(options, out[i]);
  char *text = json_dumps(options, 0);
  q.vector = vector != NULL ? v : NULL;
  q.text = json_string_value(json_object_get(stage, "text"));
  q.filter_json = filter_text;
  q.k = (uint32_t)tree_int(stage, "limit", 10);
  q.options_json = text;
  if (aiinfra_vecstore_search(store, &q, hits, TREE_HITS, &n, &err) != AIINFRA_OK)
    fail_msg("%s: %s", text, err.message);
  assert_int_equal(n, json_array_size(want));
  for (size_t i = 0; i < n; i++) {
    assert_int_equal(hits[i].id, id_at(want, i));
    assert_int_equal(hits[i].rank, i + 1);
    assert_true(is_near((double)hits[i].score, number_at(want, i, "score")));
  }
  free(text);
  free(filter_text);
  json_decref(options);
}

/* false: the formula has no result, and the query says so. */
static bool check_tree(aiinfra_vecstore *store, json_t *stage, json_t **answer)
{
  static tree_list want;
  json_t *explained = json_deep_copy(stage);
  char *text = json_dumps(stage, 0);
  oracle.fails = false;
  oracle.store = store;
  json_object_set_new(explained, "explain", json_true());
  aiinfra_status rc = ask(store, explained, answer);
  tree_answer(&oracle, stage, &want);
  if (oracle.fails != (rc != AIINFRA_OK)) fail_msg("%s: %s", text, rc != AIINFRA_OK ? err.message : "has a result");
  if (rc == AIINFRA_OK) {
    check_hits(json_object_get(*answer, "hits"), &want, text);
    check_explained(json_object_get(*answer, "explain"));
    assert_int_equal(json_array_size(json_object_get(json_object_get(*answer, "explain"), "hits")), want.n);
    json_object_del(*answer, "explain");
    check_struct(store, stage, json_object_get(*answer, "hits"));
  } else {
    assert_int_equal(rc, AIINFRA_EINVAL);
    assert_non_null(strstr(err.message, "formula: "));
  }
  free(text);
  json_decref(explained);
  return rc == AIINFRA_OK;
}

/* Each kind of vectors has a metric of its own. */
static aiinfra_vecstore *must_open(aiinfra_db *db, int32_t metric, uint64_t bytes)
{
  static const char *const metrics[] = {"l2", "cosine", "ip", "l2", "cosine"};
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_vecstore *store;
  char names[200];
  snprintf(names, sizeof names, NAMES, metrics[metric + 1], bytes > 0 ? "f16" : "f32", metrics[metric]);
  opts.vectors_json = names;
  opts.dims = TREE_DIMS;
  opts.metric = metric;
  opts.payload_bytes = opts.vector_bytes = bytes;
  if (aiinfra_vecstore_open(db, "things", &opts, &store, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return store;
}

/* Random trees while rows come and go; answered ones are asked again, in one batch. */
static size_t run_all(int32_t metric, uint64_t bytes, unsigned cases)
{
  aiinfra_db *db;
  size_t n_ok = 0;
  json_t *searches = json_array(), *answers = json_array(), *answer;
  seed = test_seed() * 77 + (unsigned)metric;
  assert_int_equal(aiinfra_db_open(rt, ":memory:", NULL, &db, &err), AIINFRA_OK);
  aiinfra_vecstore *store = must_open(db, metric, bytes);
  for (int id = 0; id < TREE_ROWS; id++) put(store, id);
  for (unsigned i = 0; i < cases; i++) {
    json_t *stage = random_stage(0);
    if (check_tree(store, stage, &answer)) {
      n_ok++;
      json_array_append(searches, stage);
      json_array_append(answers, answer);
    }
    json_decref(answer);
    json_decref(stage);
    if (i % 20 < 19) continue;
    json_t *batch = json_pack("{s:o}", "searches", searches), *want = json_pack("{s:o}", "results", answers);
    assert_int_equal(ask(store, batch, &answer), AIINFRA_OK);
    assert_true(json_equal(answer, want));
    json_decref(batch);
    json_decref(want);
    json_decref(answer);
    searches = json_array();
    answers = json_array();
    for (int p = 0; p < 5; p++) put(store, (int)below(TREE_ROWS));
    int64_t gone = some_row(TREE_FIRST);
    assert_int_equal(aiinfra_vecstore_remove(store, &gone, 1, NULL, &err), AIINFRA_OK);
    oracle.rows[gone].there = false;
    memset(oracle.rows[gone].of, 0, sizeof oracle.rows[gone].of);
  }
  json_decref(searches);
  json_decref(answers);
  for (int id = 0; id < TREE_ROWS; id++) json_decref(oracle.rows[id].payload);
  memset(&oracle, 0, sizeof oracle);
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
  return n_ok;
}

static void test_in_memory(void **state)
{
  (void)state;
  for (int32_t metric = AIINFRA_METRIC_COSINE; metric <= AIINFRA_METRIC_L2; metric++) {
    assert_true(run_all(metric, 0, CASES) > CASES / 2);
  }
}

static void test_from_rows(void **state)
{
  (void)state;
  assert_true(run_all(AIINFRA_METRIC_COSINE, 1, 300) > 150);
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
      cmocka_unit_test(test_in_memory),
      cmocka_unit_test(test_from_rows),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
