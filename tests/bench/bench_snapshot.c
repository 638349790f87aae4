/* bench_snapshot.c - opening a collection with the file of its graph, beside making the graph again.
 *
 * Prints the time of writing rows, of making the graph, of writing its file, and of the first search after opening: with
 * the file, and without one (exact, and after the graph is made). The physical limit beside it: reading as many bytes.
 * AIINFRA_BENCH_ROWS sets the size (100000), AIINFRA_BENCH_DIMS the dimensions (384).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "src/vector/vector.h"
#include "support/support.h"

enum { BATCH = 500, K = 10 };

static aiinfra_error err;
static aiinfra_runtime *rt;
static uint32_t dims;

static double now(void)
{
  return (double)aii_now_ns() / 1e9;
}

/* Around one of 100 centres. */
static void vector_of(int64_t id, float *v)
{
  unsigned long long seed = (unsigned long long)id, centre = (unsigned long long)(id % 100) + 1000000007;
  for (uint32_t i = 0; i < dims; i++) {
    float c = (float)(test_random(&centre) % 2001) / 1000.0f - 1.0f;
    v[i] = c + (float)(test_random(&seed) % 2001) / 2000.0f;
  }
}

static aiinfra_vecstore *must_open(aiinfra_db *db, int32_t snapshot)
{
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_vecstore *store;
  opts.dims = dims;
  opts.snapshot = snapshot;
  if (aiinfra_vecstore_open(db, "rows", &opts, &store, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return store;
}

static void fill(aiinfra_vecstore *store, uint32_t n)
{
  static aiinfra_record records[BATCH];
  float *v = malloc((size_t)BATCH * dims * sizeof *v);
  for (uint32_t from = 0; from < n; from += BATCH) {
    for (uint32_t i = 0; i < BATCH; i++) {
      vector_of(from + i, v + (size_t)i * dims);
      records[i] = (aiinfra_record){(int64_t)(from + i), v + (size_t)i * dims, NULL, NULL};
    }
    if (aiinfra_vecstore_upsert(store, records, BATCH, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  }
  free(v);
}

static double search(aiinfra_vecstore *store, int32_t mode)
{
  float *v = malloc(dims * sizeof *v);
  aiinfra_query q = AIINFRA_QUERY_INIT;
  aiinfra_hit hits[K];
  size_t n;
  vector_of(7, v);
  q.vector = v;
  q.k = K;
  q.mode = mode;
  double begin = now();
  if (aiinfra_vecstore_search(store, &q, hits, K, &n, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  assert_int_equal(hits[0].id, 7);
  free(v);
  return now() - begin;
}

/* Seconds to read the file of the graph, and its bytes. */
static double read_file(double *bytes)
{
  static char buffer[1 << 20];
  DIR *dir = opendir(test_tmp_dir());
  double seconds = 0;
  *bytes = 0;
  for (struct dirent *e; (e = readdir(dir)) != NULL;) {
    if (strstr(e->d_name, ".ann") == NULL) continue;
    int fd = open(test_tmp(e->d_name), O_RDONLY);
    double begin = now();
    for (ssize_t got; (got = read(fd, buffer, sizeof buffer)) > 0;) *bytes += (double)got;
    seconds = now() - begin;
    (void)close(fd);
  }
  closedir(dir);
  return seconds;
}

static uint32_t setting(const char *name, uint32_t otherwise)
{
  const char *text = getenv(name);
  return text != NULL ? (uint32_t)atol(text) : otherwise;
}

static void bench(void **state)
{
  uint32_t n = setting("AIINFRA_BENCH_ROWS", 100000) / BATCH * BATCH;
  aiinfra_db_opts opts = AIINFRA_DB_OPTS_INIT;
  aiinfra_db *db;
  double bytes, limit, begin;
  (void)state;
  dims = setting("AIINFRA_BENCH_DIMS", 384);
  opts.synchronous = -1;
  if (aiinfra_db_open(rt, test_tmp("bench.db"), &opts, &db, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  aiinfra_vecstore *store = must_open(db, 1);
  begin = now();
  fill(store, n);
  printf("%u rows of %u dimensions: written in %.2f s\n", n, dims, now() - begin);
  double exact = search(store, AIINFRA_SEARCH_EXACT), made = search(store, AIINFRA_SEARCH_GRAPH);
  begin = now();
  aiinfra_vecstore_free(store);
  printf("graph: made in %.2f s; file written while closing, %.3f s\n", made, now() - begin);
  store = must_open(db, 1);
  double opened = search(store, AIINFRA_SEARCH_GRAPH), next = search(store, AIINFRA_SEARCH_GRAPH);
  assert_int_equal(store->index.n_graph, n);
  limit = read_file(&bytes);
  printf("opening, with the first search: %.3f s from the file of %.1f MB (read alone: %.3f s); next search %.3f ms\n",
         opened, bytes / 1e6, limit, next * 1e3);
  printf("without the file: %.3f s exact, %.2f s with a new graph: the file is %.0f times as fast\n", exact,
         exact + made, (exact + made) / opened);
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
  aiinfra_runtime_free(rt);
  return 0;
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(bench)};
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
