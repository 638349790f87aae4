/* test_queries.c - every form of a query against brute force over a model of the rows: options, reads, changes.
 *
 * Everything runs twice: with payloads in memory, and with so little of it that filters read rows.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/vector/vector.h"
#include "support/support.h"

enum { DIMS = 8, ROWS = 240, GROUPS = 5, MAX_HITS = 400 };

static aiinfra_runtime *rt;
static aiinfra_error err;

/* What should be in the collection. A row is in group `group` (none: -1) and, if also >= 0, in group `also`. */
static struct {
  bool there;
  float v[DIMS];
  int group, also, n;
  bool seen;
} rows[ROWS];

typedef struct expected {
  int id;
  double score;
} expected;

static aiinfra_vecstore *must_open(aiinfra_db *db, int32_t metric, uint64_t payload_bytes)
{
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_vecstore *store;
  opts.dims = DIMS;
  opts.metric = metric;
  opts.payload_bytes = payload_bytes;
  if (aiinfra_vecstore_open(db, "things", &opts, &store, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return store;
}

static void random_vector(unsigned long long *seed, float v[DIMS])
{
  for (int i = 0; i < DIMS; i++) v[i] = (float)(test_random(seed) % 20001) / 10000.0f - 1.0f;
}

static void write_payload(int id, char out[160])
{
  char group[64] = "";
  if (rows[id].group >= 0 && rows[id].also >= 0) {
    snprintf(group, sizeof group, "\"group\":[\"g%d\",\"g%d\"],", rows[id].group, rows[id].also);
  } else if (rows[id].group >= 0) {
    snprintf(group, sizeof group, "\"group\":\"g%d\",", rows[id].group);
  }
  snprintf(out, 160, "{%s\"n\":%d,\"seen\":%s}", group, rows[id].n, rows[id].seen ? "true" : "false");
}

static void put(aiinfra_vecstore *store, int id, unsigned long long *seed)
{
  char payload[160];
  rows[id].there = true;
  rows[id].group = (int)(test_random(seed) % (GROUPS + 1)) - 1;
  rows[id].also = (int)(test_random(seed) % 8) - 7 + (int)(test_random(seed) % GROUPS);
  if (rows[id].also == rows[id].group) rows[id].also = -1;
  rows[id].n = (int)(test_random(seed) % 100);
  rows[id].seen = false;
  random_vector(seed, rows[id].v);
  write_payload(id, payload);
  aiinfra_record record = {id, rows[id].v, id % 3 == 0 ? "word" : NULL, payload};
  if (aiinfra_vecstore_upsert(store, &record, 1, &err) != AIINFRA_OK) fail_msg("%s", err.message);
}

static bool in_group(int id, int group)
{
  return rows[id].group == group || (rows[id].group >= 0 && rows[id].also == group);
}

static double score_of(int32_t metric, const float *a, const float *b)
{
  double dot = 0, aa = 0, bb = 0, l2 = 0;
  for (int i = 0; i < DIMS; i++) {
    dot += (double)a[i] * (double)b[i];
    aa += (double)a[i] * (double)a[i];
    bb += (double)b[i] * (double)b[i];
    l2 += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
  }
  return metric == AIINFRA_METRIC_L2 ? -l2 : metric == AIINFRA_METRIC_IP ? dot : dot / sqrt(aa * bb);
}

static int by_score(const void *a, const void *b)
{
  const expected *x = a, *y = b;
  if (x->score != y->score) return x->score > y->score ? -1 : 1;
  return x->id - y->id;
}

/* n below `below`; 100: no filter. */
static bool passes(int id, int below)
{
  return rows[id].there && rows[id].n < below;
}

static size_t rank_all(int32_t metric, const float *q, int below, expected out[ROWS])
{
  size_t n = 0;
  for (int id = 0; id < ROWS; id++) {
    if (passes(id, below)) out[n++] = (expected){id, score_of(metric, q, rows[id].v)};
  }
  qsort(out, n, sizeof *out, by_score);
  return n;
}

static void check_hits(const aiinfra_hit *hits, size_t n, const expected *want, size_t n_want, const char *what)
{
  if (n != n_want) fail_msg("%s: %zu hits, not %zu", what, n, n_want);
  for (size_t i = 0; i < n; i++) {
    if (hits[i].id != want[i].id || fabs((double)hits[i].score - want[i].score) > 1e-4) {
      fail_msg("%s: hit %zu is %lld with %g, not %d with %g", what, i, (long long)hits[i].id, (double)hits[i].score,
               want[i].id, want[i].score);
    }
    assert_int_equal(hits[i].rank, i + 1);
  }
}

static size_t must_search(aiinfra_vecstore *store, const aiinfra_query *q, aiinfra_hit hits[MAX_HITS])
{
  size_t n;
  aiinfra_status rc = aiinfra_vecstore_search(store, q, hits, MAX_HITS, &n, &err);
  if (rc != AIINFRA_OK) fail_msg("%s: %s", q->options_json, err.message);
  return n;
}

typedef struct setting {
  aiinfra_vecstore *store;
  int32_t metric;
  unsigned long long seed;
  aiinfra_query q;
  float v[DIMS];
  char filter[64], options[256];
  int below;
} setting;

static void new_query(setting *s)
{
  s->q = (aiinfra_query)AIINFRA_QUERY_INIT;
  random_vector(&s->seed, s->v);
  s->q.vector = s->v;
  s->q.k = 1 + (uint32_t)(test_random(&s->seed) % 20);
  s->q.mode = AIINFRA_SEARCH_EXACT;
  s->below = 20 + (int)(test_random(&s->seed) % 5) * 20;
  snprintf(s->filter, sizeof s->filter, "{\"n\":{\"$lt\":%d}}", s->below);
  if (s->below < 100) s->q.filter_json = s->filter;
  s->q.options_json = s->options;
}

/* ---- options of a search --------------------------------------------------------------------------------------- */

static void check_offset_and_threshold(setting *s)
{
  expected want[ROWS];
  aiinfra_hit hits[MAX_HITS];
  new_query(s);
  size_t n = rank_all(s->metric, s->v, s->below, want), offset = (size_t)(test_random(&s->seed) % 15), skip;
  double threshold = n > 0 ? (want[(size_t)test_random(&s->seed) % n].score) - 1e-3 : 0;
  snprintf(s->options, sizeof s->options, "{\"offset\":%zu,\"score_threshold\":%.9f}", offset, threshold);
  while (n > 0 && want[n - 1].score < threshold) n--;
  skip = AII_MIN(offset, n);
  check_hits(hits, must_search(s->store, &s->q, hits), want + skip, AII_MIN(n - skip, (size_t)s->q.k), s->options);
}

static void check_mmr(setting *s)
{
  expected pool[ROWS], want[ROWS];
  aiinfra_hit hits[MAX_HITS];
  double lambda = (double)(test_random(&s->seed) % 5) / 4;
  new_query(s);
  size_t candidates = s->q.k + (size_t)(test_random(&s->seed) % 40), n, n_want = 0;
  snprintf(s->options, sizeof s->options, "{\"mmr\":{\"lambda\":%.2f,\"candidates\":%zu}}", lambda, candidates);
  n = AII_MIN(rank_all(s->metric, s->v, s->below, pool), candidates);
  while (n_want < AII_MIN(n, (size_t)s->q.k)) {
    double best = -INFINITY;
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
      double alike = -INFINITY, value = lambda * pool[i].score;
      bool taken = false;
      for (size_t j = 0; j < n_want; j++) {
        alike = fmax(alike, score_of(s->metric, rows[pool[i].id].v, rows[want[j].id].v));
        taken = taken || want[j].id == pool[i].id;
      }
      if (n_want > 0) value -= (1 - lambda) * alike;
      if (!taken && value > best + 1e-9) {
        best = value;
        at = i;
      }
    }
    want[n_want++] = pool[at];
  }
  check_hits(hits, must_search(s->store, &s->q, hits), want, n_want, s->options);
}

static void check_groups(setting *s)
{
  expected all[ROWS], want[ROWS];
  aiinfra_hit hits[MAX_HITS];
  int order[GROUPS], n_groups = 0;
  new_query(s);
  s->q.k = 1 + s->q.k % (GROUPS + 1);
  size_t size = 1 + (size_t)(test_random(&s->seed) % 4), n = rank_all(s->metric, s->v, s->below, all), n_want = 0;
  snprintf(s->options, sizeof s->options, "{\"group\":{\"by\":\"group\",\"size\":%zu}}", size);
  for (size_t i = 0; i < n; i++) { /* groups in the order of their best hits; a row's own in the order of values */
    for (int g = 0; g < GROUPS; g++) {
      bool known = false;
      for (int o = 0; o < n_groups; o++) known = known || order[o] == g;
      if (!known && in_group(all[i].id, g)) order[n_groups++] = g;
    }
  }
  /* two groups that are founded by the same row have no order that a user could rely on: leave such cases alone */
  for (int o = 0; o + 1 < n_groups; o++) {
    for (size_t i = 0; i < n; i++) {
      if (in_group(all[i].id, order[o]) && in_group(all[i].id, order[o + 1])) return;
      if (in_group(all[i].id, order[o]) || in_group(all[i].id, order[o + 1])) break;
    }
  }
  for (int o = 0; o < AII_MIN(n_groups, (int)s->q.k); o++) {
    size_t taken = 0;
    for (size_t i = 0; i < n && taken < size; i++) {
      if (!in_group(all[i].id, order[o])) continue;
      want[n_want++] = all[i];
      taken++;
    }
  }
  check_hits(hits, must_search(s->store, &s->q, hits), want, n_want, s->options);
}

static int some_row(setting *s)
{
  int id = (int)(test_random(&s->seed) % ROWS);
  while (!rows[id].there) id = (id + 1) % ROWS;
  return id;
}

/* The examples' vectors as the library keeps them: of length 1 for cosine. */
static void example(const setting *s, int id, double v[DIMS])
{
  double length = sqrt(score_of(AIINFRA_METRIC_IP, rows[id].v, rows[id].v));
  for (int i = 0; i < DIMS; i++) v[i] = (double)rows[id].v[i] / (s->metric == AIINFRA_METRIC_COSINE ? length : 1);
}

static void check_average(setting *s)
{
  expected all[ROWS], want[ROWS];
  aiinfra_hit hits[MAX_HITS];
  double p[2][DIMS], neg[DIMS];
  float q[DIMS];
  new_query(s);
  int a = some_row(s), b = some_row(s), c = some_row(s);
  bool negative = test_random(&s->seed) % 2 == 0;
  size_t n_want = 0;
  s->q.vector = NULL;
  if (negative)
    snprintf(s->options, sizeof s->options, "{\"recommend\":{\"positive\":[%d,%d],\"negative\":[%d]}}", a, b, c);
  else snprintf(s->options, sizeof s->options, "{\"recommend\":{\"positive\":[%d,%d],\"strategy\":\"average\"}}", a, b);
  example(s, a, p[0]);
  example(s, b, p[1]);
  example(s, c, neg);
  for (int i = 0; i < DIMS; i++) {
    double mean = (p[0][i] + p[1][i]) / 2;
    q[i] = (float)(negative ? 2 * mean - neg[i] : mean);
  }
  size_t n = rank_all(s->metric, q, s->below, all);
  for (size_t i = 0; i < n && n_want < s->q.k; i++) {
    if (all[i].id != a && all[i].id != b && (!negative || all[i].id != c)) want[n_want++] = all[i];
  }
  check_hits(hits, must_search(s->store, &s->q, hits), want, n_want, s->options);
}

static double squashed(double x)
{
  return 0.5 * (x / (1 + fabs(x)) + 1);
}

static void check_best_score(setting *s)
{
  expected want[ROWS];
  aiinfra_hit hits[MAX_HITS];
  new_query(s);
  int a = some_row(s), b = some_row(s), c = some_row(s);
  size_t n = 0;
  s->q.vector = NULL;
  snprintf(s->options, sizeof s->options,
           "{\"recommend\":{\"positive\":[%d],\"negative\":[%d,%d],\"strategy\":\"best_score\"}}", a, b, c);
  for (int id = 0; id < ROWS; id++) {
    if (!passes(id, s->below) || id == a || id == b || id == c) continue;
    double positive = score_of(s->metric, rows[id].v, rows[a].v);
    double negative = fmax(score_of(s->metric, rows[id].v, rows[b].v), score_of(s->metric, rows[id].v, rows[c].v));
    want[n++] = (expected){id, positive > negative ? squashed(positive) : -squashed(negative)};
  }
  qsort(want, n, sizeof *want, by_score);
  check_hits(hits, must_search(s->store, &s->q, hits), want, AII_MIN(n, (size_t)s->q.k), s->options);
}

/* ---- reads and changes ----------------------------------------------------------------------------------------- */

static json_t *must_read(setting *s, const char *request)
{
  char *text;
  if (aiinfra_vecstore_read(s->store, request, &text, &err) != AIINFRA_OK) fail_msg("%s: %s", request, err.message);
  json_t *json = json_loads(text, 0, NULL);
  if (json == NULL) fail_msg("%s is no JSON", text);
  aiinfra_string_free(text);
  return json;
}

static void check_count_and_facet(setting *s)
{
  char request[256];
  long long counts[GROUPS] = {0}, n = 0, before = INT64_MAX;
  new_query(s);
  snprintf(request, sizeof request, "{\"count\":{\"filter\":%s}}", s->filter);
  json_t *json = must_read(s, request);
  for (int id = 0; id < ROWS; id++) {
    n += passes(id, s->below);
    for (int g = 0; g < GROUPS; g++) counts[g] += passes(id, s->below) && in_group(id, g);
  }
  assert_int_equal(json_integer_value(json_object_get(json, "count")), n);
  json_decref(json);
  snprintf(request, sizeof request, "{\"facet\":{\"filter\":%s,\"key\":\"group\"}}", s->filter);
  json = must_read(s, request);
  json_t *values = json_object_get(json, "values");
  for (size_t i = 0; i < json_array_size(values); i++) {
    const char *value = json_string_value(json_object_get(json_array_get(values, i), "value"));
    long long count = json_integer_value(json_object_get(json_array_get(values, i), "count"));
    assert_true(value[0] == 'g' && count > 0 && count <= before && counts[value[1] - '0'] == count);
    counts[value[1] - '0'] = 0;
    before = count;
  }
  for (int g = 0; g < GROUPS; g++) assert_int_equal(counts[g], 0); /* none is left out */
  json_decref(json);
}

static void check_scroll(setting *s)
{
  char request[256], payload[160];
  int id = 0;
  json_t *next = json_null();
  new_query(s);
  do {
    char after[32] = "null";
    if (json_is_integer(next)) snprintf(after, sizeof after, "%lld", (long long)json_integer_value(next));
    json_decref(next);
    snprintf(request, sizeof request, "{\"scroll\":{\"filter\":%s,\"limit\":%u,\"after\":%s}}", s->filter, s->q.k,
             after);
    json_t *json = must_read(s, request), *page = json_object_get(json, "rows");
    for (size_t i = 0; i < json_array_size(page); i++, id++) {
      json_t *row = json_array_get(page, i);
      while (id < ROWS && !passes(id, s->below)) id++;
      assert_int_equal(json_integer_value(json_object_get(row, "id")), id);
      write_payload(id, payload);
      json_t *want = json_loads(payload, 0, NULL);
      assert_true(json_equal(json_object_get(row, "payload"), want));
      json_decref(want);
      assert_string_equal(json_string_value(json_object_get(row, "text")), id % 3 == 0 ? "word" : "");
    }
    next = json_incref(json_object_get(json, "next"));
    assert_true(json_is_null(next) || json_array_size(page) == s->q.k);
    json_decref(json);
  } while (json_is_integer(next));
  json_decref(next);
  while (id < ROWS) assert_false(passes(id++, s->below)); /* none is left out */
}

static void must_change(setting *s, const char *request, uint64_t want)
{
  uint64_t n;
  if (aiinfra_vecstore_change(s->store, request, &n, &err) != AIINFRA_OK) fail_msg("%s: %s", request, err.message);
  if (n != want) fail_msg("%s: %llu rows, not %llu", request, (unsigned long long)n, (unsigned long long)want);
}

static void change_some(setting *s)
{
  char request[256];
  int from = (int)(test_random(&s->seed) % 95), what = (int)(test_random(&s->seed) % 3);
  uint64_t n = 0;
  for (int id = 0; id < ROWS; id++) {
    if (!rows[id].there || rows[id].n < from || rows[id].n >= from + 5) continue;
    n++;
    if (what == 0) rows[id].there = false;
    else if (what == 1) rows[id].seen = true;
    else rows[id].group = rows[id].also = -1;
  }
  static const char *const verbs[] = {"{\"delete\":{", "{\"set_payload\":{\"payload\":{\"seen\":true},",
                                      "{\"delete_payload\":{\"keys\":[\"group\",\"absent\"],"};
  snprintf(request, sizeof request, "%s\"filter\":{\"n\":{\"$gte\":%d,\"$lt\":%d}}}}", verbs[what], from, from + 5);
  must_change(s, request, n);
}

static void check_ids(setting *s)
{
  char request[256];
  int a = some_row(s), b = some_row(s);
  snprintf(request, sizeof request,
           "{\"overwrite_payload\":{\"payload\":{\"n\":%d,\"seen\":true},\"ids\":[%d,%d,%d,99999]}}", (a + b) % 100, a,
           b, a);
  must_change(s, request, a == b ? 1 : 2);
  rows[a].n = rows[b].n = (a + b) % 100;
  rows[a].seen = rows[b].seen = true;
  rows[a].group = rows[a].also = rows[b].group = rows[b].also = -1;
}

static void run_all(int32_t metric, uint64_t payload_bytes, unsigned rounds)
{
  aiinfra_db *db;
  memset(rows, 0, sizeof rows);
  assert_int_equal(aiinfra_db_open(rt, test_db(":memory:"), NULL, &db, &err), AIINFRA_OK);
  aiinfra_vecstore *stores[2] = {must_open(db, metric, payload_bytes), must_open(db, metric, payload_bytes)};
  setting s = {.store = stores[0], .metric = metric, .seed = test_seed() * 31 + (unsigned)metric};
  for (int id = 0; id < ROWS; id++) put(stores[0], id, &s.seed);
  for (unsigned i = 0; i < rounds; i++) {
    s.store = stores[test_random(&s.seed) % 2]; /* what one handle changes the other one sees */
    check_offset_and_threshold(&s);
    check_mmr(&s);
    check_groups(&s);
    check_average(&s);
    check_best_score(&s);
    check_count_and_facet(&s);
    check_scroll(&s);
    if (i % 3 == 0) change_some(&s);
    if (i % 3 == 1) check_ids(&s);
    for (int p = 0; p < 6; p++) put(s.store, (int)(test_random(&s.seed) % ROWS), &s.seed);
  }
  assert_int_equal(aiinfra_db_check(db, &err), AIINFRA_OK);
  assert_int_equal(stores[0]->index.docs.state, payload_bytes == 0 ? AII_DOCS_ON : AII_DOCS_OVER);
  aiinfra_vecstore_free(stores[0]);
  aiinfra_vecstore_free(stores[1]);
  aiinfra_db_free(db);
}

static void test_payloads_in_memory(void **state)
{
  (void)state;
  for (int32_t metric = AIINFRA_METRIC_COSINE; metric <= AIINFRA_METRIC_L2; metric++) run_all(metric, 0, 40);
}

static void test_payloads_read(void **state)
{
  (void)state;
  run_all(AIINFRA_METRIC_COSINE, 1, 15);
}

/* ---- plans ----------------------------------------------------------------------------------------------------- */

static const char *plan_of(setting *s, json_t **json)
{
  aiinfra_hit hits[MAX_HITS];
  char *text = NULL;
  s->q.explain = &text;
  size_t n = must_search(s->store, &s->q, hits);
  json_decref(*json);
  *json = json_loads(text, 0, NULL);
  assert_non_null(*json);
  assert_int_equal(json_array_size(json_object_get(*json, "hits")), n);
  aiinfra_string_free(text);
  s->q.explain = NULL;
  return json_string_value(json_object_get(*json, "plan"));
}

static void check_recall(setting *s, int below)
{
  expected want[ROWS];
  (void)want;
  aiinfra_hit exact[MAX_HITS], found[MAX_HITS];
  size_t both = 0, all = 0;
  for (int i = 0; i < 20; i++) {
    new_query(s);
    s->q.k = 10;
    snprintf(s->filter, sizeof s->filter, "{\"n\":{\"$lt\":%d}}", below);
    s->q.filter_json = s->filter;
    s->q.options_json = NULL;
    size_t n_exact = must_search(s->store, &s->q, exact);
    s->q.mode = AIINFRA_SEARCH_AUTO;
    size_t n = must_search(s->store, &s->q, found);
    assert_int_equal(n, n_exact);
    for (size_t a = 0; a < n; a++) {
      for (size_t b = 0; b < n; b++) both += found[a].id == exact[b].id;
    }
    all += n;
  }
  if (both * 100 < all * 98) fail_msg("below %d: %zu of %zu found", below, both, all);
}

/* The plan follows the exact number of rows that pass, and is told with its reason and counts. */
static void test_plans(void **state)
{
  enum { N = 24000 };
  static float v[N][DIMS];
  static char payloads[N][32];
  static aiinfra_record records[N];
  static const struct {
    int below;
    const char *plan, *why;
  } cases[] = {{0, "exact", "few rows pass"},
               {5, "exact", "few rows pass"},
               {20, "filtered graph", "the filter hides most rows near the query"},
               {80, "graph", "the filter hides few rows near the query"}};
  aiinfra_db *db;
  json_t *json = NULL;
  (void)state;
  assert_int_equal(aiinfra_db_open(rt, test_db(":memory:"), NULL, &db, &err), AIINFRA_OK);
  setting s = {.store = must_open(db, AIINFRA_METRIC_L2, 0), .metric = AIINFRA_METRIC_L2, .seed = test_seed()};
  for (int i = 0; i < N; i++) {
    random_vector(&s.seed, v[i]);
    snprintf(payloads[i], sizeof payloads[i], "{\"n\":%d}", i % 100);
    records[i] = (aiinfra_record){i, v[i], NULL, payloads[i]};
  }
  assert_int_equal(aiinfra_vecstore_upsert(s.store, records, N, &err), AIINFRA_OK);
  new_query(&s);
  s.q.options_json = NULL;
  s.q.filter_json = NULL;
  s.q.mode = AIINFRA_SEARCH_AUTO;
  assert_string_equal(plan_of(&s, &json), "exact");
  assert_string_equal(json_string_value(json_object_get(json, "payloads")), "unread");
  assert_int_equal(json_integer_value(json_object_get(json, "scanned")), N);
  assert_true(aii_hnsw_build(&s.store->index, UINT32_MAX));
  for (size_t i = 0; i < AII_COUNT(cases); i++) {
    s.q.filter_json = s.filter;
    s.q.k = 10;
    s.q.ef = 16;
    snprintf(s.filter, sizeof s.filter, "{\"n\":{\"$lt\":%d}}", cases[i].below);
    for (int again = 0; again < 2; again++) {
      assert_string_equal(plan_of(&s, &json), cases[i].plan);
      assert_string_equal(json_string_value(json_object_get(json, "why")), cases[i].why);
      assert_int_equal(json_integer_value(json_object_get(json, "passing")), cases[i].below * N / 100);
      assert_int_equal(json_integer_value(json_object_get(json, "tested")), again == 0 ? N : 0);
      assert_true(json_is_true(json_object_get(json, "kept")) == (again == 1));
      assert_string_equal(json_string_value(json_object_get(json, "payloads")), "memory");
    }
  }
  check_recall(&s, 20);
  check_recall(&s, 80);
  /* one row more: one row is tested */
  assert_int_equal(aiinfra_vecstore_upsert(s.store, &(aiinfra_record){N, v[0], NULL, "{\"n\":1}"}, 1, &err),
                   AIINFRA_OK);
  (void)plan_of(&s, &json);
  snprintf(s.filter, sizeof s.filter, "{\"n\":{\"$lt\":80}}");
  assert_int_equal(json_integer_value(json_object_get(json, "tested")), 1);
  json_decref(json);
  aiinfra_vecstore_free(s.store);
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
      cmocka_unit_test(test_payloads_in_memory),
      cmocka_unit_test(test_payloads_read),
      cmocka_unit_test(test_plans),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
