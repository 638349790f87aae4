/* test_vecstore_elements.c - collections that store their vectors in fewer bytes, against brute force over what each kind
 * of element makes of a vector, computed here another way.
 *
 * Every element and metric, with floats in memory and with codes alone, exact and over the graph, in a file that is
 * closed and opened again.
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

enum { N = 700, DIMS = 35, MOST = 40 };

static aiinfra_runtime *rt;
static aiinfra_db *db;
static aiinfra_vecstore *store;
static aiinfra_error err;
static float given[N][DIMS];
static double kept[N][DIMS]; /* as they should be stored */
static bool there[N];

static void check(aiinfra_status rc)
{
  if (rc != AIINFRA_OK) fail_msg("%s", err.message);
}

/* To the nearest number with 11 digits, 2^-24 apart at least. */
static double half_of(float x)
{
  int exponent;
  (void)frexp((double)x, &exponent);
  double step = ldexp(1, (exponent < -13 ? -13 : exponent) - 11);
  return rint((double)x / step) * step;
}

static void keep(int id, int32_t element)
{
  double most = 0;
  for (int d = 0; d < DIMS; d++) most = fmax(most, fabs((double)given[id][d]));
  float scale = (float)most / 127;
  for (int d = 0; d < DIMS; d++) {
    double x = (double)given[id][d];
    if (element == AIINFRA_ELEMENT_F16) x = half_of(given[id][d]);
    if (element == AIINFRA_ELEMENT_INT8) x = rint(x / (double)scale) * (double)scale;
    if (element == AIINFRA_ELEMENT_BINARY) x = x > 0 ? 1 : -1;
    kept[id][d] = x;
  }
}

static double score_of(int32_t metric, const float *q, const double *v)
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

/* The product of both lengths, which 11 bits an element are off by a part of. */
static double lengths(const float *q, const double *v)
{
  double qq = 0, vv = 0;
  for (int d = 0; d < DIMS; d++) {
    qq += (double)q[d] * (double)q[d];
    vv += v[d] * v[d];
  }
  return sqrt(qq * vv);
}

static void random_vector(unsigned long long *seed, float v[DIMS])
{
  for (int d = 0; d < DIMS; d++) v[d] = (float)(test_random(seed) % 20001) / 10000.0f - 0.9f;
}

static void put(int id, int32_t element, unsigned long long *seed)
{
  char payload[32];
  random_vector(seed, given[id]);
  if (id % 7 == 0) given[id][id % DIMS] *= 50; /* few steps are left for the others */
  keep(id, element);
  there[id] = true;
  snprintf(payload, sizeof payload, "{\"kind\":%d}", id % 4);
  aiinfra_record record = {id, given[id], NULL, payload};
  check(aiinfra_vecstore_upsert(store, &record, 1, &err));
}

static int downwards(const void *a, const void *b)
{
  double x = *(const double *)a, y = *(const double *)b;
  return (x < y) - (x > y);
}

/* Scores are those of the rows that they stand for; the list is the best there is, or when walked, most of it. */
static void search(int32_t metric, int32_t mode, int kind, unsigned long long *seed, size_t *found, size_t *asked)
{
  aiinfra_query q = AIINFRA_QUERY_INIT;
  aiinfra_hit hits[MOST];
  float v[DIMS];
  char filter[32];
  double want[N];
  size_t n, n_want = 0;
  random_vector(seed, v);
  snprintf(filter, sizeof filter, "{\"kind\":%d}", kind);
  q.vector = v;
  q.mode = mode;
  q.k = MOST;
  q.ef = 200;
  if (kind < 4) q.filter_json = filter;
  check(aiinfra_vecstore_search(store, &q, hits, MOST, &n, &err));
  for (int id = 0; id < N; id++) {
    if (there[id] && (kind == 4 || id % 4 == kind)) want[n_want++] = score_of(metric, v, kept[id]);
  }
  qsort(want, n_want, sizeof *want, downwards);
  assert_int_equal(n, AII_MIN((size_t)MOST, n_want));
  *asked += n;
  for (size_t i = 0; i < n; i++) {
    assert_true(there[hits[i].id] && (kind == 4 || hits[i].id % 4 == kind));
    double score = score_of(metric, v, kept[hits[i].id]), slack = 1e-4 * fmax(1, fabs(score));
    if (mode == AIINFRA_SEARCH_GRAPH)
      slack += 0.01 * (metric == AIINFRA_METRIC_COSINE ? 1 : lengths(v, kept[hits[i].id]));
    assert_true(fabs((double)hits[i].score - score) < slack);
    if (mode == AIINFRA_SEARCH_EXACT) assert_true(fabs(score - want[i]) < slack);
    *found += score >= want[n - 1] - 1e-6 * fmax(1, fabs(score));
  }
}

static void open_all(const char *path, int32_t element, int32_t metric, uint64_t vector_bytes)
{
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_db_opts how = AIINFRA_DB_OPTS_INIT;
  how.synchronous = -1; /* power stays on */
  check(aiinfra_db_open(rt, path, &how, &db, &err));
  opts.dims = DIMS;
  opts.metric = metric;
  opts.element = element;
  opts.vector_bytes = vector_bytes;
  opts.snapshot = 1;
  check(aiinfra_vecstore_open(db, "things", &opts, &store, &err));
}

static void close_all(void)
{
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
}

static void search_all(int32_t metric, unsigned long long *seed)
{
  for (int32_t mode = AIINFRA_SEARCH_AUTO; mode <= AIINFRA_SEARCH_GRAPH; mode++) {
    size_t found = 0, asked = 0;
    for (int kind = 0; kind <= 4; kind++) search(metric, mode, kind, seed, &found, &asked);
    assert_true(found * 10 >= asked * 9);
  }
}

/* How many bytes the database says that vectors take. */
static void check_bytes(int32_t element)
{
  static const size_t bytes[] = {0, 4 * DIMS, 2 * DIMS, 4 + DIMS, (DIMS + 7) / 8};
  size_t n = 0;
  char want[48], *stats = NULL;
  for (int id = 0; id < N; id++) n += there[id];
  check(aiinfra_db_stats(db, &stats, &err));
  snprintf(want, sizeof want, "\"vector_bytes\":%zu,", n * bytes[element]);
  if (strstr(stats, want) == NULL) fail_msg("%s in %s", want, stats);
  aiinfra_string_free(stats);
}

static void live(int32_t element, int32_t metric, uint64_t vector_bytes)
{
  const char *path = test_tmp("elements.db");
  unsigned long long seed = test_seed();
  (void)unlink(path);
  memset(there, 0, sizeof there);
  open_all(path, element, metric, vector_bytes);
  for (int id = 0; id < N * 3 / 4; id++) put(id, element, &seed);
  search_all(metric, &seed);
  for (int i = 0; i < N / 2; i++) put((int)(test_random(&seed) % N), element, &seed);
  for (int64_t id = 5; id < N; id += 20) {
    check(aiinfra_vecstore_remove(store, &id, 1, NULL, &err));
    there[id] = false;
  }
  search_all(metric, &seed);
  close_all();
  open_all(path, 0, 0, vector_bytes); /* its graph comes from a file */
  search_all(metric, &seed);
  check_bytes(element);
  check(aiinfra_db_check(db, &err));
  close_all();
}

static void test_elements(void **state)
{
  (void)state;
  for (int32_t element = AIINFRA_ELEMENT_F32; element <= AIINFRA_ELEMENT_BINARY; element++) {
    for (int32_t metric = AIINFRA_METRIC_COSINE; metric <= AIINFRA_METRIC_L2; metric++) {
      live(element, metric, 0);
      live(element, metric, 1);
    }
  }
}

static void refuse(int32_t element, int32_t metric, float first, float others, const char *why)
{
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  float v[2][3] = {{1, 2, 3}, {first, others, others}};
  const aiinfra_record records[] = {{1, v[0], NULL, NULL}, {2, v[1], NULL, NULL}};
  uint64_t n;
  check(aiinfra_db_open(rt, ":memory:", NULL, &db, &err));
  opts.dims = 3;
  opts.metric = metric;
  opts.element = element;
  check(aiinfra_vecstore_open(db, "things", &opts, &store, &err));
  aiinfra_status rc = aiinfra_vecstore_upsert(store, records, 2, &err);
  if (why == NULL) {
    check(rc);
  } else {
    assert_int_equal(rc, AIINFRA_EINVAL);
    assert_non_null(strstr(err.message, "record 1"));
    if (strstr(err.message, why) == NULL) fail_msg("%s", err.message);
  }
  check(aiinfra_vecstore_count(store, &n, &err));
  assert_int_equal(n, why == NULL ? 2 : 0); /* none, when one is refused */
  close_all();
}

static void test_refused(void **state)
{
  (void)state;
  for (int32_t element = AIINFRA_ELEMENT_F32; element <= AIINFRA_ELEMENT_BINARY; element++) {
    refuse(element, AIINFRA_METRIC_COSINE, NAN, 1, "not a finite number");
    refuse(element, AIINFRA_METRIC_L2, INFINITY, 1, "not a finite number");
    refuse(element, AIINFRA_METRIC_COSINE, 0, 0, "is zero");
    refuse(element, AIINFRA_METRIC_L2, 0, 0, NULL);
    refuse(element, AIINFRA_METRIC_IP, 1, 0, NULL);
  }
  refuse(AIINFRA_ELEMENT_F16, AIINFRA_METRIC_IP, 65536, 1, "more than f16 can hold");
  refuse(AIINFRA_ELEMENT_F16, AIINFRA_METRIC_IP, 65504, 1, NULL);
  refuse(AIINFRA_ELEMENT_F16, AIINFRA_METRIC_COSINE, 1e-9f, 1e-9f, "zero in the collection's elements");
  refuse(AIINFRA_ELEMENT_F16, AIINFRA_METRIC_COSINE, 1e-7f, 0, NULL);
  refuse(AIINFRA_ELEMENT_INT8, AIINFRA_METRIC_COSINE, 1e-38f, 0, "zero in the collection's elements");
  refuse(AIINFRA_ELEMENT_INT8, AIINFRA_METRIC_L2, 3.4028234e38f, -3.4028234e38f, NULL);
  refuse(AIINFRA_ELEMENT_BINARY, AIINFRA_METRIC_COSINE, 1e-30f, 0, NULL);
}

static void test_opening(void **state)
{
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_vecstore *other;
  (void)state;
  check(aiinfra_db_open(rt, ":memory:", NULL, &db, &err));
  opts.dims = 3;
  opts.element = AIINFRA_ELEMENT_INT8;
  check(aiinfra_vecstore_open(db, "things", &opts, &store, &err));
  opts.element = AIINFRA_ELEMENT_F32;
  assert_int_equal(aiinfra_vecstore_open(db, "things", &opts, &other, &err), AIINFRA_EINVAL);
  assert_non_null(strstr(err.message, "element 3, not 1"));
  opts.element = AIINFRA_ELEMENT_BINARY + 1;
  assert_int_equal(aiinfra_vecstore_open(db, "things", &opts, &other, &err), AIINFRA_EINVAL);
  opts.element = 0;
  check(aiinfra_vecstore_open(db, "things", &opts, &other, &err));
  aiinfra_vecstore_free(other);
  opts.reserved2 = 1;
  assert_int_equal(aiinfra_vecstore_open(db, "things", &opts, &other, &err), AIINFRA_ENOTSUP);
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
      cmocka_unit_test(test_elements),
      cmocka_unit_test(test_refused),
      cmocka_unit_test(test_opening),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
