/* test_vecstore_named.c - vectors under names and sparse vectors, against brute force over a model of the rows.
 *
 * A life of writes, replacements and removals through two handles, in a file that is closed and opened again; searches by
 * each name, exact and over the graph, with filters, words, groups, examples and diversity; what is refused.
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

#include "lib/sql/sql_internal.h"
#include "src/vector/vector.h"
#include "support/support.h"

enum { N = 300, DIMS = 6, IMAGE = 10, TERMS = 40, PAIRS = 8, MOST = 400 };

#define NAMES                                                                                                      \
  "{\"image\":{\"dims\":10,\"metric\":\"l2\"},\"turned\":{\"dims\":10,\"element\":\"f32\"},\"words\":{\"sparse\":" \
  "true}}"

static aiinfra_runtime *rt;
static aiinfra_db *db;
static aiinfra_vecstore *stores[2];
static aiinfra_error err;

/* What should be there. */
static struct {
  bool there, image, turned, words, text;
  float first[DIMS], v[2][IMAGE]; /* image, turned */
  float weight[TERMS];            /* NAN: not one of its indices */
  int kind;
} rows[N];

static void check(aiinfra_status rc)
{
  if (rc != AIINFRA_OK) fail_msg("%s", err.message);
}

static float random_float(unsigned long long *seed)
{
  return (float)(test_random(seed) % 20001) / 10000.0f - 1.0f;
}

static void random_vector(unsigned long long *seed, float *v, size_t n)
{
  for (size_t i = 0; i < n; i++) v[i] = random_float(seed);
}

static void put_row(int id, unsigned long long *seed)
{
  char payload[48];
  random_vector(seed, rows[id].first, DIMS);
  rows[id].there = true;
  rows[id].kind = (int)(test_random(seed) % 4);
  rows[id].text = test_random(seed) % 3 == 0;
  snprintf(payload, sizeof payload, "{\"kind\":%d}", rows[id].kind);
  aiinfra_record r = {id, rows[id].first, rows[id].text ? "a word" : NULL, payload};
  check(aiinfra_vecstore_upsert(stores[test_random(seed) % 2], &r, 1, &err));
}

/* Up to n pairs of indices that differ, in no order. */
static size_t random_pairs(unsigned long long *seed, uint32_t *indices, float *values)
{
  size_t n = 0;
  for (size_t want = 1 + test_random(seed) % PAIRS; n < want;) {
    uint32_t index = (uint32_t)(test_random(seed) % TERMS);
    bool twice = false;
    for (size_t i = 0; i < n; i++) twice = twice || indices[i] == index;
    if (twice) continue;
    values[n] = random_float(seed);
    indices[n++] = index;
  }
  return n;
}

/* All that a row may have, some of it, in one call. */
static void put_named(int id, unsigned long long *seed)
{
  aiinfra_named_vector list[3];
  uint32_t indices[PAIRS];
  float values[PAIRS];
  size_t n = 0, n_pairs = random_pairs(seed, indices, values);
  if (test_random(seed) % 4 > 0) {
    random_vector(seed, rows[id].v[0], IMAGE);
    rows[id].image = true;
    list[n++] = (aiinfra_named_vector){id, "image", rows[id].v[0], NULL, IMAGE};
  }
  if (test_random(seed) % 4 > 0) {
    random_vector(seed, rows[id].v[1], IMAGE);
    rows[id].turned = true;
    list[n++] = (aiinfra_named_vector){id, "turned", rows[id].v[1], NULL, IMAGE};
  }
  if (test_random(seed) % 4 > 0) {
    for (int t = 0; t < TERMS; t++) rows[id].weight[t] = NAN;
    for (size_t i = 0; i < n_pairs; i++) rows[id].weight[indices[i] % TERMS] = values[i];
    rows[id].words = true;
    for (size_t i = 0; i < n_pairs; i++) indices[i] *= 100000000u; /* large ones are nothing special */
    list[n++] = (aiinfra_named_vector){id, "words", values, indices, n_pairs};
  }
  check(aiinfra_vecstore_upsert_named(stores[test_random(seed) % 2], list, n, &err));
}

static void lose(int id, unsigned long long *seed)
{
  static const char *const names[] = {"image", "turned", "words"};
  size_t at = test_random(seed) % 3;
  aiinfra_named_vector none = {id, names[at], NULL, NULL, 0};
  check(aiinfra_vecstore_upsert_named(stores[test_random(seed) % 2], &none, 1, &err));
  if (at == 0) rows[id].image = false;
  if (at == 1) rows[id].turned = false;
  if (at == 2) rows[id].words = false;
}

static void remove_row(int id, unsigned long long *seed)
{
  int64_t ids[1] = {id};
  if (test_random(seed) % 2 == 0) {
    check(aiinfra_vecstore_remove(stores[test_random(seed) % 2], ids, 1, NULL, &err));
  } else {
    char request[64];
    snprintf(request, sizeof request, "{\"delete\":{\"filter\":{\"has_id\":[%d]}}}", id);
    check(aiinfra_vecstore_change(stores[test_random(seed) % 2], request, NULL, &err));
  }
  memset(&rows[id], 0, sizeof rows[id]);
}

/* ---- brute force ------------------------------------------------------------------------------------------------- */

typedef struct expected {
  int id;
  double score;
} expected;

static int by_score(const void *a, const void *b)
{
  const expected *x = a, *y = b;
  if (x->score != y->score) return x->score > y->score ? -1 : 1;
  return x->id - y->id;
}

static double score_of(int which, const float *a, const float *b)
{
  double dot = 0, aa = 0, bb = 0, l2 = 0;
  for (int i = 0; i < IMAGE; i++) {
    dot += (double)a[i] * (double)b[i];
    aa += (double)a[i] * (double)a[i];
    bb += (double)b[i] * (double)b[i];
    l2 += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
  }
  return which == 0 ? -l2 : dot / sqrt(aa * bb);
}

static bool passes(int id, int kind)
{
  return rows[id].there && (kind < 0 || rows[id].kind == kind);
}

static size_t rank_dense(int which, const float *q, int kind, expected out[N])
{
  size_t n = 0;
  for (int id = 0; id < N; id++) {
    if (!passes(id, kind) || !(which == 0 ? rows[id].image : rows[id].turned)) continue;
    out[n++] = (expected){id, score_of(which, q, rows[id].v[which])};
  }
  qsort(out, n, sizeof *out, by_score);
  return n;
}

/* query: by term; NAN: not in it */
static size_t rank_sparse(const float query[TERMS], int kind, expected out[N])
{
  size_t n = 0;
  for (int id = 0; id < N; id++) {
    double sum = 0;
    bool met = false;
    if (!passes(id, kind) || !rows[id].words) continue;
    for (int t = 0; t < TERMS; t++) {
      if (isnan(query[t]) || isnan(rows[id].weight[t])) continue;
      sum += (double)query[t] * (double)rows[id].weight[t];
      met = true;
    }
    if (met) out[n++] = (expected){id, (double)(float)sum};
  }
  qsort(out, n, sizeof *out, by_score);
  return n;
}

/* ---- searches ---------------------------------------------------------------------------------------------------- */

static size_t search(aiinfra_vecstore *store, const float *v, int32_t mode, int kind, uint32_t k, const char *text,
                     const char *options, aiinfra_hit hits[MOST])
{
  aiinfra_query q = AIINFRA_QUERY_INIT;
  char filter[32];
  size_t n;
  snprintf(filter, sizeof filter, "{\"kind\":%d}", kind);
  q.vector = v;
  q.mode = mode;
  q.k = k;
  q.text = text;
  q.options_json = options;
  if (kind >= 0) q.filter_json = filter;
  aiinfra_status rc = aiinfra_vecstore_search(store, &q, hits, MOST, &n, &err);
  if (rc != AIINFRA_OK) fail_msg("%s: %s", options != NULL ? options : "", err.message);
  return n;
}

static void check_hits(const aiinfra_hit *hits, size_t n, const expected *want, size_t n_want, double slack)
{
  assert_int_equal(n, n_want);
  for (size_t i = 0; i < n; i++) {
    if (hits[i].id != want[i].id || fabs((double)hits[i].score - want[i].score) > slack) {
      fail_msg("hit %zu is %lld with %g, not %d with %g", i, (long long)hits[i].id, (double)hits[i].score, want[i].id,
               want[i].score);
    }
    assert_true(hits[i].vector_score == hits[i].score);
    assert_int_equal(hits[i].rank, i + 1);
  }
}

static void check_dense(aiinfra_vecstore *store, unsigned long long *seed)
{
  static const char *const options[] = {"{\"using\":\"image\"}", "{\"using\":\"turned\"}"};
  aiinfra_hit hits[MOST];
  expected want[N];
  float q[IMAGE];
  int which = (int)(test_random(seed) % 2), kind = (int)(test_random(seed) % 5) - 1;
  uint32_t k = 1 + (uint32_t)(test_random(seed) % 20);
  random_vector(seed, q, IMAGE);
  size_t n_want = rank_dense(which, q, kind, want);
  for (int32_t mode = AIINFRA_SEARCH_AUTO; mode <= AIINFRA_SEARCH_GRAPH; mode++) {
    size_t n = search(store, q, mode, kind, k, NULL, options[which], hits);
    if (mode == AIINFRA_SEARCH_EXACT) check_hits(hits, n, want, AII_MIN((size_t)k, n_want), 1e-4);
    assert_int_equal(n, AII_MIN((size_t)k, n_want)); /* never short of rows that have such a vector */
    for (size_t i = 0; i < n; i++) {
      int id = (int)hits[i].id;
      assert_true(passes(id, kind) && (which == 0 ? rows[id].image : rows[id].turned));
      assert_true(fabs((double)hits[i].score - score_of(which, q, rows[id].v[which])) < 1e-2);
    }
  }
}

static size_t write_sparse(char out[1024], const uint32_t *indices, const float *values, size_t n)
{
  size_t at = (size_t)snprintf(out, 1024, "{\"sparse\":{\"using\":\"words\",\"indices\":[");
  for (size_t i = 0; i < n; i++)
    at += (size_t)snprintf(out + at, 1024 - at, "%s%u", i > 0 ? "," : "", indices[i] * 100000000u);
  at += (size_t)snprintf(out + at, 1024 - at, "],\"values\":[");
  for (size_t i = 0; i < n; i++)
    at += (size_t)snprintf(out + at, 1024 - at, "%s%.9g", i > 0 ? "," : "", (double)values[i]);
  return at + (size_t)snprintf(out + at, 1024 - at, "]}");
}

static void check_sparse(aiinfra_vecstore *store, unsigned long long *seed)
{
  aiinfra_hit hits[MOST];
  expected want[N];
  uint32_t indices[PAIRS], k = 1 + (uint32_t)(test_random(seed) % 40);
  float values[PAIRS], query[TERMS];
  char options[1024];
  int kind = (int)(test_random(seed) % 5) - 1;
  size_t n_pairs = random_pairs(seed, indices, values);
  for (int t = 0; t < TERMS; t++) query[t] = NAN;
  for (size_t i = 0; i < n_pairs; i++) query[indices[i]] = values[i];
  size_t n_want = rank_sparse(query, kind, want), at = write_sparse(options, indices, values, n_pairs);
  snprintf(options + at, sizeof options - at, "}");
  size_t n = search(store, NULL, 0, kind, k, NULL, options, hits);
  check_hits(hits, n, want, AII_MIN((size_t)k, n_want), 0);
  /* three rankings: vectors under a name, sparse ones and words */
  float q[IMAGE];
  expected dense[N];
  double fused[N] = {0};
  random_vector(seed, q, IMAGE);
  size_t n_dense = rank_dense(0, q, kind, dense);
  snprintf(options + at, sizeof options - at, ",\"using\":\"image\"}");
  n = search(store, q, AIINFRA_SEARCH_EXACT, kind, 20, "word", options, hits);
  for (size_t i = 0; i < AII_MIN(n_dense, (size_t)80); i++) fused[dense[i].id] += 1.0 / (60 + (double)i + 1);
  for (size_t i = 0; i < AII_MIN(n_want, (size_t)80); i++) fused[want[i].id] += 1.0 / (60 + (double)i + 1);
  for (size_t i = 0; i < n; i++) {
    double rest = (double)hits[i].score - fused[hits[i].id]; /* of the words */
    if (isnan(hits[i].text_score)) assert_true(fabs(rest) < 1e-5);
    else assert_true(rest > 1.0 / 200 && rest < 1.0 / 60 && rows[hits[i].id].text);
    if (i > 0) assert_true(hits[i].score <= hits[i - 1].score);
  }
}

/* Options of a query mean the same for vectors under a name. */
static void check_options(aiinfra_vecstore *store, unsigned long long *seed)
{
  aiinfra_hit hits[MOST];
  expected want[N];
  float q[IMAGE];
  int example = -1;
  char options[160];
  random_vector(seed, q, IMAGE);
  size_t n_want = rank_dense(0, q, -1, want), n_best[4] = {0};
  size_t n = search(store, q, AIINFRA_SEARCH_AUTO, -1, 4, NULL,
                    "{\"using\":\"image\",\"group\":{\"by\":\"kind\",\"size\":3}}", hits);
  for (size_t i = 0; i < n; i++) n_best[rows[hits[i].id].kind]++;
  for (int kind = 0; kind < 4; kind++) {
    size_t of_kind = rank_dense(0, q, kind, want);
    assert_int_equal(n_best[kind], AII_MIN(of_kind, (size_t)3));
  }
  n_want = rank_dense(0, q, -1, want);
  assert_int_equal(hits[0].id, want[0].id);
  n = search(store, q, AIINFRA_SEARCH_EXACT, -1, 10, NULL, "{\"using\":\"image\",\"mmr\":{\"lambda\":1}}", hits);
  check_hits(hits, n, want, AII_MIN(n_want, (size_t)10), 1e-4);
  n = search(store, q, AIINFRA_SEARCH_EXACT, -1, 10, "word", "{\"using\":\"image\",\"mmr\":{\"lambda\":0.3}}", hits);
  assert_true(n == 10);
  for (int id = 0; id < N && example < 0; id++) example = rows[id].there && rows[id].image ? id : -1;
  for (int s = 0; s < 2; s++) {
    snprintf(options, sizeof options, "{\"using\":\"image\",\"recommend\":{\"positive\":[%d],\"strategy\":\"%s\"}}",
             example, s == 0 ? "average" : "best_score");
    n = search(store, NULL, AIINFRA_SEARCH_EXACT, -1, 10, NULL, options, hits);
    n_want = rank_dense(0, rows[example].v[0], -1, want);
    assert_int_equal(n, AII_MIN(n_want - 1, (size_t)10));
    for (size_t i = 0; i < n; i++) assert_int_equal(hits[i].id, want[i + 1].id); /* the example is no hit */
  }
}

static void check_all(unsigned long long *seed)
{
  for (int i = 0; i < 12; i++) {
    check_dense(stores[i % 2], seed);
    check_sparse(stores[i % 2], seed);
  }
  check_options(stores[test_random(seed) % 2], seed);
  check(aiinfra_db_check(db, &err));
}

/* ---- lives ------------------------------------------------------------------------------------------------------- */

static void open_all(const char *path, bool anew, uint64_t vector_bytes)
{
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_db_opts how = AIINFRA_DB_OPTS_INIT;
  how.synchronous = -1; /* power stays on */
  check(aiinfra_db_open(rt, path, &how, &db, &err));
  for (int s = 0; s < 2; s++) {
    opts.dims = DIMS;
    opts.vector_bytes = vector_bytes;
    opts.snapshot = 1;
    opts.vectors_json = anew ? NAMES : NULL;
    check(aiinfra_vecstore_open(db, "things", &opts, &stores[s], &err));
  }
}

static void close_all(void)
{
  for (int s = 0; s < 2; s++) aiinfra_vecstore_free(stores[s]);
  aiinfra_db_free(db);
}

static void live(uint64_t vector_bytes)
{
  const char *path = test_tmp(vector_bytes == 0 ? "floats.db" : "codes.db");
  unsigned long long seed = test_seed();
  memset(rows, 0, sizeof rows);
  open_all(path, true, vector_bytes);
  for (int id = 0; id < N; id += 1 + (int)(test_random(&seed) % 3)) {
    put_row(id, &seed);
    put_named(id, &seed);
  }
  check_all(&seed);
  for (int round = 0; round < 4; round++) {
    for (int i = 0; i < N / 3; i++) {
      int id = (int)(test_random(&seed) % N), what = (int)(test_random(&seed) % 6);
      if (what < 3 || !rows[id].there) put_row(id, &seed); /* and what it has under names stays */
      if (what > 0) put_named(id, &seed);
      if (what == 4) lose(id, &seed);
      if (what == 5) remove_row(id, &seed);
    }
    check_all(&seed);
    if (round == 1) {
      close_all();
      open_all(path, false, vector_bytes);
      check_all(&seed);
    }
  }
  close_all();
}

static void test_lives(void **state)
{
  (void)state;
  live(0);
  live(1);
}

/* A row that comes back has none of what it had; and nothing of it is left in the file's tables. */
static void test_removed(void **state)
{
  static const float v[IMAGE] = {1, 2};
  static const uint32_t index = 7;
  const aiinfra_named_vector both[] = {{1, "image", v, NULL, IMAGE}, {1, "words", v, &index, 1}};
  aiinfra_record r = {1, v, NULL, NULL};
  aiinfra_hit hits[MOST];
  (void)state;
  open_all(":memory:", true, 0);
  check(aiinfra_vecstore_upsert(stores[0], &r, 1, &err));
  check(aiinfra_vecstore_upsert_named(stores[0], both, 2, &err));
  assert_int_equal(search(stores[1], v, 0, -1, 5, NULL, "{\"using\":\"image\"}", hits), 1);
  check(aiinfra_vecstore_remove(stores[0], &r.id, 1, NULL, &err));
  check(aiinfra_vecstore_upsert(stores[0], &r, 1, &err));
  static const char sparse[] = "{\"sparse\":{\"using\":\"words\",\"indices\":[7],\"values\":[1]}}";
  for (int s = 0; s < 2; s++) {
    assert_int_equal(search(stores[s], v, 0, -1, 5, NULL, "{\"using\":\"image\"}", hits), 0);
    assert_int_equal(search(stores[s], NULL, 0, -1, 5, NULL, sparse, hits), 0);
    assert_int_equal(search(stores[s], v, 0, -1, 5, NULL, NULL, hits), 1);
  }
  int64_t n = 0;
  check(aii_db_ask_int(db->sql, "SELECT count(*) FROM vectors", &n, &err));
  assert_int_equal(n, 1);
  check(aiinfra_db_check(db, &err));
  check(aii_sql_exec(
      db->sql, "INSERT INTO rows(collection, id, seq) SELECT id, 99, 1 FROM collections WHERE label = 'image'", &err));
  assert_int_equal(aiinfra_db_check(db, &err), AIINFRA_EFORMAT);
  close_all();
}

/* ---- refused ----------------------------------------------------------------------------------------------------- */

static void refuse_write(aiinfra_named_vector v, aiinfra_status status, const char *why)
{
  static const float good[IMAGE] = {1};
  const aiinfra_named_vector list[] = {{1, "image", good, NULL, IMAGE}, v};
  aiinfra_hit hits[MOST];
  aiinfra_status rc = aiinfra_vecstore_upsert_named(stores[0], list, 2, &err);
  assert_int_equal(rc, status);
  if (strstr(err.message, why) == NULL || strstr(err.message, "vector 1") == NULL) fail_msg("%s", err.message);
  assert_int_equal(search(stores[0], good, 0, -1, 5, NULL, "{\"using\":\"image\"}", hits), 0); /* nothing was written */
}

static void refuse_search(const float *v, const char *options, const char *why)
{
  aiinfra_query q = AIINFRA_QUERY_INIT;
  aiinfra_hit hits[MOST];
  size_t n;
  q.vector = v;
  q.options_json = options;
  assert_int_equal(aiinfra_vecstore_search(stores[0], &q, hits, MOST, &n, &err), AIINFRA_EINVAL);
  if (strstr(err.message, why) == NULL) fail_msg("%s: %s", options, err.message);
}

static void test_refused(void **state)
{
  static const float v[IMAGE + 1] = {1, 2, 3}, zero[IMAGE], bad[IMAGE] = {1, NAN}, far[IMAGE] = {1, INFINITY};
  static const uint32_t indices[] = {5, 9, 5};
  aiinfra_record r = {1, v, NULL, NULL};
  (void)state;
  open_all(":memory:", true, 0);
  check(aiinfra_vecstore_upsert(stores[0], &r, 1, &err));
  refuse_write((aiinfra_named_vector){1, "picture", v, NULL, IMAGE}, AIINFRA_EINVAL, "no vectors 'picture'");
  refuse_write((aiinfra_named_vector){1, NULL, v, NULL, IMAGE}, AIINFRA_EINVAL, "name is NULL");
  refuse_write((aiinfra_named_vector){2, "image", v, NULL, IMAGE}, AIINFRA_ENOENT, "no row has the id 2");
  refuse_write((aiinfra_named_vector){1, "image", v, NULL, IMAGE + 1}, AIINFRA_EINVAL, "11 floats, not 10");
  refuse_write((aiinfra_named_vector){1, "image", v, indices, IMAGE}, AIINFRA_EINVAL, "indices must be NULL");
  refuse_write((aiinfra_named_vector){1, "image", bad, NULL, IMAGE}, AIINFRA_EINVAL, "element 1");
  refuse_write((aiinfra_named_vector){1, "turned", zero, NULL, IMAGE}, AIINFRA_EINVAL, "zero");
  refuse_write((aiinfra_named_vector){1, "image", v, NULL, 0}, AIINFRA_EINVAL, "n is 0");
  refuse_write((aiinfra_named_vector){1, "image", NULL, NULL, IMAGE}, AIINFRA_EINVAL, "values is NULL");
  refuse_write((aiinfra_named_vector){1, "words", v, NULL, 2}, AIINFRA_EINVAL, "indices is NULL");
  refuse_write((aiinfra_named_vector){1, "words", v, indices, 3}, AIINFRA_EINVAL, "5 comes twice");
  refuse_write((aiinfra_named_vector){1, "words", far, indices, 2}, AIINFRA_EINVAL, "value 1");
  refuse_search(v, "{\"using\":\"picture\"}", "no vectors 'picture'");
  refuse_search(v, "{\"using\":\"words\"}", "are sparse");
  refuse_search(NULL, "{\"using\":\"image\"}", "neither vector");
  refuse_search(NULL, "{\"using\":\"image\",\"sparse\":{\"using\":\"words\",\"indices\":[1],\"values\":[1]}}",
                "no vector");
  refuse_search(bad, "{\"using\":\"image\"}", "element 1");
  refuse_search(zero, "{\"using\":\"turned\"}", "zero");
  refuse_search(NULL, "{\"sparse\":{\"using\":\"image\",\"indices\":[1],\"values\":[1]}}", "not sparse");
  refuse_search(NULL, "{\"sparse\":{\"using\":\"words\",\"indices\":[1,2],\"values\":[1]}}", "not as many");
  refuse_search(NULL, "{\"sparse\":{\"using\":\"words\",\"indices\":[],\"values\":[]}}", "not as many");
  refuse_search(NULL, "{\"sparse\":{\"using\":\"words\",\"indices\":[-1],\"values\":[1]}}", "indices[0]");
  refuse_search(NULL, "{\"sparse\":{\"using\":\"words\",\"indices\":[3,3],\"values\":[1,1]}}", "3 comes twice");
  refuse_search(NULL, "{\"sparse\":{\"using\":\"words\",\"indices\":[1],\"values\":[\"x\"]}}", "values[0]");
  refuse_search(NULL, "{\"sparse\":{\"using\":\"words\",\"indices\":[1],\"values\":[1e300]}}", "values[0]");
  refuse_search(NULL, "{\"sparse\":{\"using\":\"words\",\"limit\":1}}", "no option 'limit'");
  assert_int_equal(aiinfra_vecstore_upsert_named(NULL, NULL, 0, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_vecstore_upsert_named(stores[0], NULL, 1, &err), AIINFRA_EINVAL);
  check(aiinfra_vecstore_upsert_named(stores[0], NULL, 0, &err));
  close_all();
}

static void refuse_names(const char *json, const char *why)
{
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_vecstore *store;
  opts.dims = DIMS;
  opts.vectors_json = json;
  assert_int_equal(aiinfra_vecstore_open(db, "things", &opts, &store, &err), AIINFRA_EINVAL);
  assert_null(store);
  if (strstr(err.message, why) == NULL) fail_msg("%s: %s", json, err.message);
}

static void test_names(void **state)
{
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_vecstore *more;
  char *stats;
  static const float v[IMAGE] = {1};
  const aiinfra_named_vector later = {1, "later", v, NULL, 2};
  aiinfra_record r = {1, v, NULL, NULL};
  (void)state;
  open_all(":memory:", true, 0);
  refuse_names("[]", "expected an object");
  refuse_names("{", "vectors_json");
  refuse_names("{\"\":{\"dims\":2}}", "1 to 64 bytes");
  refuse_names("{\"a\":2}", "vectors_json.a: expected an object");
  refuse_names("{\"a\":{}}", "dims");
  refuse_names("{\"a\":{\"dims\":0}}", "dims");
  refuse_names("{\"a\":{\"dims\":70000}}", "dims");
  refuse_names("{\"a\":{\"dims\":2,\"metric\":\"far\"}}", "'far'");
  refuse_names("{\"a\":{\"dims\":2,\"element\":\"f8\"}}", "'f8'");
  refuse_names("{\"a\":{\"dims\":2,\"size\":1}}", "'size'");
  refuse_names("{\"a\":{\"sparse\":true,\"dims\":2}}", "'dims'");
  refuse_names("{\"image\":{\"dims\":11}}", "has 10 dims, not 11");
  refuse_names("{\"image\":{\"dims\":10,\"metric\":\"ip\"}}", "metric 3, not 2");
  refuse_names("{\"image\":{\"dims\":10,\"element\":\"int8\"}}", "element 1, not 3");
  refuse_names("{\"image\":{\"sparse\":true}}", "of another kind");
  refuse_names("{\"words\":{\"dims\":1}}", "of another kind");
  opts.vectors_json = "{\"later\":{\"dims\":2}}"; /* a name more */
  check(aiinfra_vecstore_open(db, "things", &opts, &more, &err));
  check(aiinfra_vecstore_upsert(more, &r, 1, &err));
  check(aiinfra_vecstore_upsert_named(more, &later, 1, &err));
  assert_int_equal(aiinfra_vecstore_upsert_named(stores[0], &later, 1, &err), AIINFRA_EINVAL); /* opened before */
  check(aiinfra_db_stats(db, &stats, &err));
  json_t *json = json_loads(stats, 0, NULL), *list = json_object_get(json, "collections");
  assert_int_equal(json_array_size(list), 1); /* those below are shown there */
  list = json_object_get(json_array_get(list, 0), "vectors");
  assert_int_equal(json_array_size(list), 4);
  assert_string_equal(json_string_value(json_object_get(json_array_get(list, 1), "name")), "later");
  assert_int_equal(json_integer_value(json_object_get(json_array_get(list, 1), "vector_bytes")), 8);
  assert_string_equal(json_string_value(json_object_get(json_array_get(list, 3), "kind")), "sparse");
  json_decref(json);
  aiinfra_string_free(stats);
  check(aiinfra_vecstore_remove(stores[0], &r.id, 1, NULL, &err)); /* takes along what this handle does not know */
  check(aiinfra_db_check(db, &err));
  check(aiinfra_db_optimise(db, NULL, NULL, &err));
  aiinfra_vecstore_free(more);
  close_all();
}

static int set_up(void **state)
{
  (void)state;
  return aiinfra_runtime_create(NULL, &rt, &err);
}

static int tear_down(void **state)
{
  (void)state;
  aiinfra_runtime_free(rt);
  return 0;
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_lives),
      cmocka_unit_test(test_removed),
      cmocka_unit_test(test_refused),
      cmocka_unit_test(test_names),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
