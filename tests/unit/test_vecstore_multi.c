/* test_vecstore_multi.c - several vectors a row and late interaction, against brute force over a model of the rows.
 *
 * Every metric, two kinds of elements, floats in memory and codes alone; writes, replacements and removals; exact and over
 * the graph, with filters, words and groups; in a file that is closed and opened again.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "src/vector/vector.h"
#include "support/support.h"

enum { N = 160, DIMS = 12, MANY = 7, ASKED = 5, MOST = 200 };

static aiinfra_runtime *rt;
static aiinfra_db *db;
static aiinfra_vecstore *store;
static aiinfra_error err;
static size_t n_walks; /* searches that the graph answered */

/* What should be there: n vectors, as they are stored. */
static struct {
  bool there;
  int n, kind;
  double v[MANY][DIMS];
} rows[N];

static void check(aiinfra_status rc)
{
  if (rc != AIINFRA_OK) fail_msg("%s", err.message);
}

static float random_float(unsigned long long *seed)
{
  return (float)(test_random(seed) % 20001) / 10000.0f - 1.0f;
}

static void put_row(int id, unsigned long long *seed)
{
  static const float first[2] = {1, 1};
  char payload[48];
  rows[id].there = true;
  rows[id].kind = (int)(test_random(seed) % 3);
  snprintf(payload, sizeof payload, "{\"kind\":%d}", rows[id].kind);
  aiinfra_record r = {id, first, id % 5 == 0 ? "a word" : NULL, payload};
  check(aiinfra_vecstore_upsert(store, &r, 1, &err));
}

static void put_vectors(int id, int32_t element, unsigned long long *seed)
{
  float v[MANY * DIMS];
  rows[id].n = 1 + (int)(test_random(seed) % MANY);
  for (int i = 0; i < rows[id].n * DIMS; i++) v[i] = random_float(seed);
  for (int i = 0; i < rows[id].n; i++) {
    float most = 0;
    for (int d = 0; d < DIMS; d++) most = fmaxf(most, fabsf(v[i * DIMS + d]));
    double scale = (double)(most / 127);
    for (int d = 0; d < DIMS; d++) {
      double x = (double)v[i * DIMS + d];
      rows[id].v[i][d] = element == AIINFRA_ELEMENT_INT8 ? rint(x / scale) * scale : x;
    }
  }
  aiinfra_named_vector list = {id, "tokens", v, NULL, (size_t)(rows[id].n * DIMS)};
  check(aiinfra_vecstore_upsert_named(store, &list, 1, &err));
}

/* ---- brute force ------------------------------------------------------------------------------------------------- */

static double one_score(int32_t metric, const float *q, const double *v)
{
  double dot = 0, qq = 0, vv = 0, l2 = 0;
  for (int d = 0; d < DIMS; d++) {
    dot += (double)q[d] * v[d];
    qq += (double)q[d] * (double)q[d];
    vv += v[d] * v[d];
    l2 += ((double)q[d] - v[d]) * ((double)q[d] - v[d]);
  }
  return metric == AIINFRA_METRIC_L2 ? -l2 : metric == AIINFRA_METRIC_IP ? dot : dot / sqrt(qq * vv);
}

static double score_of(int32_t metric, const float *q, int n_asked, int id)
{
  double sum = 0;
  for (int i = 0; i < n_asked; i++) {
    double best = -INFINITY;
    for (int t = 0; t < rows[id].n; t++) best = fmax(best, one_score(metric, q + i * DIMS, rows[id].v[t]));
    sum += best;
  }
  return sum;
}

static bool passes(int id, int kind)
{
  return rows[id].there && rows[id].n > 0 && (kind < 0 || rows[id].kind == kind);
}

static int downwards(const void *a, const void *b)
{
  double x = *(const double *)a, y = *(const double *)b;
  return (x < y) - (x > y);
}

/* ---- searches ---------------------------------------------------------------------------------------------------- */

static size_t search(const float *v, int n_asked, int32_t mode, int kind, uint32_t k, const char *text,
                     const char *more, aiinfra_hit hits[MOST])
{
  aiinfra_query q = AIINFRA_QUERY_INIT;
  char filter[32], options[160];
  size_t n;
  snprintf(filter, sizeof filter, "{\"kind\":%d}", kind);
  snprintf(options, sizeof options, "{\"using\":\"tokens\",\"multi\":%d%s}", n_asked, more);
  q.vector = v;
  q.mode = mode;
  q.k = k;
  q.text = text;
  q.options_json = options;
  if (kind >= 0) q.filter_json = filter;
  char *explain = NULL;
  q.explain = &explain;
  aiinfra_status rc = aiinfra_vecstore_search(store, &q, hits, MOST, &n, &err);
  if (rc != AIINFRA_OK) fail_msg("%s: %s", options, err.message);
  if (mode == AIINFRA_SEARCH_GRAPH && n > 0 && strstr(explain, "fewer rows") == NULL) {
    assert_non_null(strstr(explain, "\"plan\":\"graph\""));
    n_walks++;
  }
  assert_non_null(strstr(explain, "\"using\":\"tokens\""));
  aiinfra_string_free(explain);
  return n;
}

/* Over the graph: scores are right but for what 11 bits leave out, and most of the best are found. */
static void check_search(int32_t metric, int32_t mode, unsigned long long *seed, size_t *found, size_t *asked)
{
  aiinfra_hit hits[MOST];
  float v[ASKED * DIMS];
  double want[N];
  int n_asked = 1 + (int)(test_random(seed) % ASKED), kind = (int)(test_random(seed) % 4) - 1;
  uint32_t k = 1 + (uint32_t)(test_random(seed) % 20);
  size_t n_want = 0;
  for (int i = 0; i < n_asked * DIMS; i++) v[i] = random_float(seed);
  for (int id = 0; id < N; id++) {
    if (passes(id, kind)) want[n_want++] = score_of(metric, v, n_asked, id);
  }
  qsort(want, n_want, sizeof *want, downwards);
  size_t n = search(v, n_asked, mode, kind, k, NULL, "", hits);
  assert_int_equal(n, AII_MIN((size_t)k, n_want));
  for (size_t i = 0; i < n; i++) {
    double score = score_of(metric, v, n_asked, (int)hits[i].id);
    assert_true(passes((int)hits[i].id, kind));
    assert_true(fabs((double)hits[i].score - score) < (mode == AIINFRA_SEARCH_GRAPH ? 0.1 : 1e-4));
    assert_true(hits[i].vector_score == hits[i].score && isnan(hits[i].text_score));
    if (mode != AIINFRA_SEARCH_GRAPH) assert_true(fabs(score - want[i]) < 1e-4);
    *found += score >= want[n - 1] - 1e-4;
  }
  *asked += n;
}

static void check_all(int32_t metric, unsigned long long *seed)
{
  aiinfra_hit hits[MOST];
  float v[2 * DIMS];
  size_t found = 0, asked = 0, of_kind[3] = {0}, n_best[3] = {0};
  for (int i = 0; i < 15; i++) check_search(metric, i % 3, seed, &found, &asked);
  assert_true(found * 10 >= asked * 9);
  for (int i = 0; i < 2 * DIMS; i++) v[i] = random_float(seed);
  size_t n = search(v, 2, AIINFRA_SEARCH_AUTO, -1, 3, NULL, ",\"group\":{\"by\":\"kind\",\"size\":4}", hits);
  for (int id = 0; id < N; id++) of_kind[rows[id].kind] += passes(id, -1);
  for (size_t i = 0; i < n; i++) n_best[rows[hits[i].id].kind]++;
  for (int kind = 0; kind < 3; kind++) assert_int_equal(n_best[kind], AII_MIN(of_kind[kind], (size_t)4));
  n = search(v, 2, AIINFRA_SEARCH_EXACT, -1, 30, "word", "", hits);
  for (size_t i = 0; i < n; i++) {
    assert_true(!isnan(hits[i].text_score) || passes((int)hits[i].id, -1));
    if (!isnan(hits[i].text_score)) assert_true(hits[i].id % 5 == 0);
  }
  check(aiinfra_db_check(db, &err));
}

static void open_all(const char *path, int32_t metric, int32_t element, uint64_t vector_bytes)
{
  static const char *const metrics[] = {"", "cosine", "ip", "l2"};
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_db_opts how = AIINFRA_DB_OPTS_INIT;
  char names[160];
  how.synchronous = -1; /* power stays on */
  check(aiinfra_db_open(rt, path, &how, &db, &err));
  snprintf(names, sizeof names, "{\"tokens\":{\"dims\":%d,\"multi\":true,\"metric\":\"%s\",\"element\":\"%s\"}}", DIMS,
           metrics[metric], element == AIINFRA_ELEMENT_INT8 ? "int8" : "f32");
  opts.dims = 2;
  opts.vector_bytes = vector_bytes;
  opts.vectors_json = names;
  check(aiinfra_vecstore_open(db, "things", &opts, &store, &err));
}

static void close_all(void)
{
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
}

static void live(int32_t metric, int32_t element, uint64_t vector_bytes)
{
  const char *path = test_tmp("multi.db");
  unsigned long long seed = test_seed() + (unsigned long long)metric;
  (void)unlink(path);
  memset(rows, 0, sizeof rows);
  open_all(path, metric, element, vector_bytes);
  for (int id = 0; id < N; id += 1 + (int)(test_random(&seed) % 2)) {
    put_row(id, &seed);
    if (id % 9 > 0) put_vectors(id, element, &seed);
  }
  check_all(metric, &seed);
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < N; i++) {
      int id = (int)(test_random(&seed) % N), what = (int)(test_random(&seed) % 8);
      if (what == 0 && rows[id].there) {
        int64_t gone = id;
        check(aiinfra_vecstore_remove(store, &gone, 1, NULL, &err));
        memset(&rows[id], 0, sizeof rows[id]);
      } else if (what == 1 && rows[id].there) {
        aiinfra_named_vector none = {id, "tokens", NULL, NULL, 0};
        check(aiinfra_vecstore_upsert_named(store, &none, 1, &err));
        rows[id].n = 0;
      } else {
        if (what < 4 || !rows[id].there) put_row(id, &seed);
        if (what > 2) put_vectors(id, element, &seed);
      }
    }
    check_all(metric, &seed);
  }
  close_all();
  open_all(path, metric, element, vector_bytes);
  check_all(metric, &seed);
  close_all();
}

static void test_lives(void **state)
{
  (void)state;
  for (int32_t metric = AIINFRA_METRIC_COSINE; metric <= AIINFRA_METRIC_L2; metric++) {
    live(metric, AIINFRA_ELEMENT_F32, 0);
    live(metric, AIINFRA_ELEMENT_F32, 1);
    live(metric, AIINFRA_ELEMENT_INT8, 1);
  }
  assert_true(n_walks > 100);
}

/* Enough replacements that what is dead goes: the answer stays. */
static void test_replaced(void **state)
{
  unsigned long long seed = test_seed();
  (void)state;
  memset(rows, 0, sizeof rows);
  open_all(":memory:", AIINFRA_METRIC_COSINE, AIINFRA_ELEMENT_F32, 0);
  put_row(1, &seed);
  put_row(2, &seed);
  for (int i = 0; i < 700; i++) {
    size_t found = 0, asked = 0;
    put_vectors(1 + i % 2, AIINFRA_ELEMENT_F32, &seed);
    check_search(AIINFRA_METRIC_COSINE, i % 3, &seed, &found, &asked);
    assert_int_equal(found, asked);
  }
  close_all();
}

static void refuse_search(const float *v, const char *options, const char *why)
{
  aiinfra_query q = AIINFRA_QUERY_INIT;
  aiinfra_hit hits[MOST];
  size_t n;
  q.vector = v;
  q.options_json = options;
  assert_int_equal(aiinfra_vecstore_search(store, &q, hits, MOST, &n, &err), AIINFRA_EINVAL);
  if (strstr(err.message, why) == NULL) fail_msg("%s: %s", options, err.message);
}

static void refuse_write(const float *v, size_t n, const char *why)
{
  aiinfra_named_vector list = {1, "tokens", v, NULL, n};
  assert_int_equal(aiinfra_vecstore_upsert_named(store, &list, 1, &err), AIINFRA_EINVAL);
  if (strstr(err.message, why) == NULL) fail_msg("%s", err.message);
}

static void test_refused(void **state)
{
  float v[3 * DIMS];
  unsigned long long seed = test_seed();
  (void)state;
  open_all(":memory:", AIINFRA_METRIC_COSINE, AIINFRA_ELEMENT_F32, 0);
  put_row(1, &seed);
  for (int i = 0; i < 3 * DIMS; i++) v[i] = i < 2 * DIMS ? 1 : 0;
  refuse_write(v, 3 * DIMS, "its vector 2");
  refuse_write(v, DIMS + 1, "not 12 for each of its vectors");
  refuse_search(v, "{\"using\":\"tokens\",\"multi\":3}", "vector 2");
  refuse_search(v, "{\"using\":\"tokens\",\"multi\":-1}", "multi is not");
  refuse_search(v, "{\"using\":\"tokens\",\"multi\":1025}", "multi is not");
  refuse_search(v, "{\"multi\":2}", "rows have one vector");
  refuse_search(v, "{\"using\":\"tokens\",\"mmr\":{}}", "several a row");
  refuse_search(NULL, "{\"using\":\"tokens\",\"recommend\":{\"positive\":[1]}}", "several a row");
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
      cmocka_unit_test(test_replaced),
      cmocka_unit_test(test_refused),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
