/* bench_kinds.c - what the kinds of vectors cost, side by side in one run.
 *
 * Elements: bytes a stored vector, and how many of the ten nearest by f32 each kind finds, exactly. Sparse vectors: the
 * inverted index beside all rows one by one, with the query as an array. Late interaction: all vectors of all rows by
 * their floats, by bounds of their codes with rows read from the database, and over the graph, with its recall.
 * AIINFRA_BENCH_ROWS sets the size (20000).
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

enum { DIMS = 256, CLUSTERS = 100, BATCH = 1000, QUERIES = 30, K = 10 };
enum { TERMS = 30000, PAIRS = 60, ASKED_PAIRS = 30 };
enum { SHORT = 64, MANY = 40, ASKED = 16, PER_ROW = 10 };

static aiinfra_error err;
static aiinfra_runtime *rt;
static aiinfra_db *db;
static uint32_t n_rows;

static void check(aiinfra_status rc)
{
  if (rc != AIINFRA_OK) fail_msg("%s", err.message);
}

static double normal(unsigned long long *seed)
{
  double u = (double)(1 + test_random(seed) % 1000000) / 1000001, v = (double)(test_random(seed) % 1000000) / 1000000;
  return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

static void random_row(unsigned long long *seed, const float *centres, float *v, int dims)
{
  const float *centre = centres + (size_t)(test_random(seed) % CLUSTERS) * (size_t)dims;
  for (int i = 0; i < dims; i++) v[i] = centre[i] + 0.7f * (float)normal(seed);
}

static aiinfra_vecstore *must_open(const char *name, uint32_t dims, int32_t element, uint64_t vector_bytes,
                                   const char *names)
{
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_vecstore *store;
  opts.dims = dims;
  opts.element = element;
  opts.vector_bytes = vector_bytes;
  opts.vectors_json = names;
  check(aiinfra_vecstore_open(db, name, &opts, &store, &err));
  return store;
}

static void must_search(aiinfra_vecstore *store, const float *v, int32_t mode, const char *options, aiinfra_hit hits[K],
                        double *seconds)
{
  aiinfra_query q = AIINFRA_QUERY_INIT;
  size_t n;
  q.vector = v;
  q.mode = mode;
  q.options_json = options;
  uint64_t begin = aii_now_ns();
  check(aiinfra_vecstore_search(store, &q, hits, K, &n, &err));
  *seconds += (double)(aii_now_ns() - begin) / 1e9;
  assert_int_equal(n, K);
}

static int shared(const aiinfra_hit a[K], const aiinfra_hit b[K])
{
  int n = 0;
  for (int i = 0; i < K; i++) {
    for (int j = 0; j < K; j++) n += a[i].id == b[j].id;
  }
  return n;
}

static void test_elements(void **state)
{
  static const char *const names[] = {"", "f32", "f16", "int8", "binary"};
  static float centres[CLUSTERS * DIMS], v[BATCH][DIMS], q[QUERIES][DIMS];
  static aiinfra_hit best[QUERIES][K];
  static aiinfra_record records[BATCH];
  aiinfra_vecstore *stores[5];
  unsigned long long seed = test_seed();
  (void)state;
  for (size_t i = 0; i < AII_COUNT(centres); i++) centres[i] = (float)normal(&seed);
  for (int32_t e = 1; e < 5; e++) stores[e] = must_open(names[e], DIMS, e, UINT64_MAX, NULL);
  for (uint32_t from = 0; from < n_rows; from += BATCH) {
    for (uint32_t i = 0; i < BATCH; i++) {
      random_row(&seed, centres, v[i], DIMS);
      records[i] = (aiinfra_record){(int64_t)(from + i), v[i], NULL, NULL};
    }
    for (int32_t e = 1; e < 5; e++) check(aiinfra_vecstore_upsert(stores[e], records, BATCH, &err));
  }
  for (int i = 0; i < QUERIES; i++) random_row(&seed, centres, q[i], DIMS);
  for (int32_t e = 1; e < 5; e++) {
    int found = 0;
    double seconds = 0, ignored = 0;
    for (int i = 0; i < QUERIES; i++) {
      aiinfra_hit hits[K];
      must_search(stores[e], q[i], AIINFRA_SEARCH_EXACT, NULL, hits, i == 0 ? &ignored : &seconds);
      if (e == AIINFRA_ELEMENT_F32) memcpy(best[i], hits, sizeof hits);
      found += shared(hits, best[i]);
    }
    printf("%-7s %5zu bytes a vector of %d, recall@10 of f32's %.3f, exact search of %u: %.2f ms\n", names[e],
           aii_element_bytes(e, DIMS), DIMS, (double)found / (QUERIES * K), n_rows, seconds / (QUERIES - 1) * 1e3);
    aiinfra_vecstore_free(stores[e]);
  }
}

/* ---- sparse ------------------------------------------------------------------------------------------------------ */

/* Some terms are in many rows, most in few. */
static void random_pairs(unsigned long long *seed, size_t n, uint32_t *indices, float *values)
{
  for (size_t i = 0; i < n; i++) {
    double u = (double)(test_random(seed) % 1000000) / 1e6;
    indices[i] = (uint32_t)(u * u * u * TERMS);
    for (size_t j = 0; j < i; j++) {
      if (indices[j] == indices[i]) i--, j = i + 1;
    }
    values[i] = 0.1f + (float)(test_random(seed) % 1000) / 500;
  }
}

/* All rows, one by one: the largest sum, and how long that took. */
static double largest_sum(const uint32_t *indices, const float *values, const float *query, double *seconds)
{
  uint64_t begin = aii_now_ns();
  double best = 0;
  for (uint32_t row = 0; row < n_rows; row++) {
    double sum = 0;
    for (size_t i = 0; i < PAIRS; i++) {
      sum += (double)query[indices[(size_t)row * PAIRS + i]] * (double)values[(size_t)row * PAIRS + i];
    }
    best = fmax(best, sum);
  }
  *seconds += (double)(aii_now_ns() - begin) / 1e9;
  return best;
}

static void write_query(char *out, size_t cap, const uint32_t *indices, const float *values)
{
  size_t at = (size_t)snprintf(out, cap, "{\"sparse\":{\"using\":\"words\",\"indices\":[");
  for (int i = 0; i < ASKED_PAIRS; i++) at += (size_t)snprintf(out + at, cap - at, i > 0 ? ",%u" : "%u", indices[i]);
  at += (size_t)snprintf(out + at, cap - at, "],\"values\":[");
  for (int i = 0; i < ASKED_PAIRS; i++)
    at += (size_t)snprintf(out + at, cap - at, i > 0 ? ",%.9g" : "%.9g", (double)values[i]);
  (void)snprintf(out + at, cap - at, "]}}");
}

static void test_sparse(void **state)
{
  static const float one[1] = {1};
  static aiinfra_record records[BATCH];
  static aiinfra_named_vector list[BATCH];
  static float query[TERMS];
  uint32_t *indices = malloc((size_t)n_rows * PAIRS * sizeof *indices), asked[ASKED_PAIRS];
  float *values = malloc((size_t)n_rows * PAIRS * sizeof *values), weights[ASKED_PAIRS];
  unsigned long long seed = test_seed();
  double ours = 0, theirs = 0, ignored = 0;
  (void)state;
  assert_true(indices != NULL && values != NULL);
  aiinfra_vecstore *store = must_open("sparse", 1, 0, 0, "{\"words\":{\"sparse\":true}}");
  for (uint32_t from = 0; from < n_rows; from += BATCH) {
    for (uint32_t i = 0; i < BATCH; i++) {
      size_t at = (size_t)(from + i) * PAIRS;
      random_pairs(&seed, PAIRS, indices + at, values + at);
      records[i] = (aiinfra_record){(int64_t)(from + i), one, NULL, NULL};
      list[i] = (aiinfra_named_vector){(int64_t)(from + i), "words", values + at, indices + at, PAIRS};
    }
    check(aiinfra_vecstore_upsert(store, records, BATCH, &err));
    check(aiinfra_vecstore_upsert_named(store, list, BATCH, &err));
  }
  for (int i = 0; i < QUERIES; i++) {
    char options[2048];
    aiinfra_hit hits[K];
    random_pairs(&seed, ASKED_PAIRS, asked, weights);
    memset(query, 0, sizeof query);
    for (int t = 0; t < ASKED_PAIRS; t++) query[asked[t]] = weights[t];
    write_query(options, sizeof options, asked, weights);
    must_search(store, NULL, 0, options, hits, i == 0 ? &ignored : &ours);
    double best = largest_sum(indices, values, query, i == 0 ? &ignored : &theirs);
    assert_true(fabs((double)hits[0].score - best) < 1e-4 * best);
  }
  printf("sparse, %u rows of %d, queries of %d: %.3f ms, all rows one by one %.3f ms, ratio %.1f\n", n_rows, PAIRS,
         ASKED_PAIRS, ours / (QUERIES - 1) * 1e3, theirs / (QUERIES - 1) * 1e3, theirs / ours);
  aiinfra_vecstore_free(store);
  free(indices);
  free(values);
}

/* ---- late interaction -------------------------------------------------------------------------------------------- */

static void test_multi(void **state)
{
  enum { SOME = 100 };
  static const float one[1] = {1};
  static const char *const how[] = {"floats in memory", "codes and rows", "graph"};
  static float centres[CLUSTERS * SHORT], v[SOME][MANY * SHORT], q[QUERIES][ASKED * SHORT];
  static aiinfra_hit best[QUERIES][K];
  static aiinfra_record records[SOME];
  static aiinfra_named_vector list[SOME];
  uint32_t n = n_rows / PER_ROW;
  unsigned long long seed = test_seed();
  aiinfra_vecstore *stores[2];
  double exact = 0;
  char options[64];
  (void)state;
  snprintf(options, sizeof options, "{\"using\":\"tokens\",\"multi\":%d}", ASKED);
  for (size_t i = 0; i < AII_COUNT(centres); i++) centres[i] = (float)normal(&seed);
  for (int s = 0; s < 2; s++) {
    stores[s] = must_open(s == 0 ? "many" : "many in codes", 1, 0, s == 0 ? UINT64_MAX : 1,
                          "{\"tokens\":{\"dims\":64,\"multi\":true}}");
  }
  for (uint32_t from = 0; from < n; from += SOME) {
    for (uint32_t i = 0; i < SOME; i++) {
      for (int t = 0; t < MANY; t++) random_row(&seed, centres, v[i] + t * SHORT, SHORT);
      records[i] = (aiinfra_record){(int64_t)(from + i), one, NULL, NULL};
      list[i] = (aiinfra_named_vector){(int64_t)(from + i), "tokens", v[i], NULL, MANY * SHORT};
    }
    for (int s = 0; s < 2; s++) {
      check(aiinfra_vecstore_upsert(stores[s], records, SOME, &err));
      check(aiinfra_vecstore_upsert_named(stores[s], list, SOME, &err));
    }
  }
  for (int i = 0; i < QUERIES; i++) {
    for (int t = 0; t < ASKED; t++) random_row(&seed, centres, q[i] + t * SHORT, SHORT);
  }
  for (int s = 0; s < 3; s++) {
    int found = 0;
    double seconds = 0, ignored = 0;
    for (int i = 0; i < QUERIES; i++) {
      aiinfra_hit hits[K];
      must_search(stores[s % 2], q[i], s < 2 ? AIINFRA_SEARCH_EXACT : AIINFRA_SEARCH_GRAPH, options, hits,
                  i == 0 ? &ignored : &seconds);
      if (s == 0) memcpy(best[i], hits, sizeof hits);
      found += shared(hits, best[i]);
    }
    if (s == 0) exact = seconds;
    printf("late interaction, %u rows of %d, queries of %d, %-16s: %.2f ms, recall@10 %.3f, ratio %.2f\n", n, MANY,
           ASKED, how[s], seconds / (QUERIES - 1) * 1e3, (double)found / (QUERIES * K), exact / seconds);
  }
  for (int s = 0; s < 2; s++) aiinfra_vecstore_free(stores[s]);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_elements),
      cmocka_unit_test(test_sparse),
      cmocka_unit_test(test_multi),
  };
  const char *rows = getenv("AIINFRA_BENCH_ROWS");
  n_rows = rows != NULL ? (uint32_t)atol(rows) / BATCH * BATCH : 20000;
  if (aiinfra_runtime_create(NULL, &rt, &err) != AIINFRA_OK) return 1;
  if (aiinfra_db_open(rt, ":memory:", NULL, &db, &err) != AIINFRA_OK) return 1;
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  aiinfra_db_free(db);
  aiinfra_runtime_free(rt);
  return failed;
}
