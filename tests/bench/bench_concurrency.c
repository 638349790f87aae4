/* bench_concurrency.c - searches beside a writer: how long the longest one takes.
 *
 * Threads search without end, first alone, then beside one writer that inserts rows and links them, removes rows so that the
 * graph is healed, and writes the file of the graph. Prints the median, the 99th of a hundred and the longest search for
 * each, the longest that a search was blocked, by a lock or the disk, and how long the writer took. Threads that share a core
 * also wait for each other's time slices, which the kernel tells apart (schedstat): that is in the former, not in the latter.
 * AIINFRA_BENCH_ROWS sets the size (20000), AIINFRA_BENCH_DIMS the dimensions (128), AIINFRA_BENCH_READERS the threads (1).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "src/vector/snapshot.h"
#include "support/support.h"

enum { BATCH = 500, WRITTEN = 2000, K = 10, MOST_READERS = 16, MOST_SEARCHES = 1 << 20, ALONE_MS = 1000 };

static aiinfra_error err;
static aiinfra_runtime *rt;
static uint32_t dims, n_rows;

typedef struct reader {
  pthread_t thread;
  aiinfra_vecstore *store;
  _Atomic int *stop;
  const char *filter, *text;
  float *ms;      /* [MOST_SEARCHES] */
  double blocked; /* the longest, ms */
  size_t n;
} reader;

static void wait_ms(long ms)
{
  const struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
  (void)nanosleep(&pause, NULL);
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

static void insert(aiinfra_vecstore *store, int64_t first, uint32_t n)
{
  aiinfra_record *records = malloc(n * sizeof *records);
  float *v = malloc((size_t)n * dims * sizeof *v);
  char(*texts)[16] = malloc(n * sizeof *texts);
  for (uint32_t i = 0; i < n; i++) {
    vector_of(first + i, v + (size_t)i * dims);
    (void)snprintf(texts[i], sizeof *texts, "word%u", i % 499);
    records[i] = (aiinfra_record){first + i, v + (size_t)i * dims, texts[i], i % 2 ? "{\"odd\":true}" : NULL};
  }
  if (aiinfra_vecstore_upsert(store, records, n, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  free(texts);
  free(v);
  free(records);
}

/* Nanoseconds that the thread has computed, or waited for a core; 0: the kernel does not tell. */
static uint64_t used_ns(int schedstat)
{
  char text[96] = "";
  unsigned long long ran = 0, queued = 0;
  if (schedstat < 0 || pread(schedstat, text, sizeof text - 1, 0) <= 0) return 0;
  return sscanf(text, "%llu %llu", &ran, &queued) == 2 ? ran + queued : 0;
}

static void *keep_searching(void *arg)
{
  reader *r = arg;
  float *v = malloc(dims * sizeof *v);
  aiinfra_query q = AIINFRA_QUERY_INIT;
  aiinfra_hit hits[K];
  size_t n;
  int schedstat = open("/proc/thread-self/schedstat", O_RDONLY);
  q.vector = v;
  q.k = K;
  q.filter_json = r->filter;
  q.text = r->text;
  for (r->n = 0; !*r->stop && r->n < MOST_SEARCHES; r->n++) {
    vector_of((int64_t)(r->n * 7919 % n_rows), v);
    uint64_t begin = aii_now_ns(), used = used_ns(schedstat);
    if (aiinfra_vecstore_search(r->store, &q, hits, K, &n, NULL) != AIINFRA_OK) abort();
    uint64_t end = aii_now_ns();
    used = used_ns(schedstat) - used; /* a little more than the search */
    r->ms[r->n] = (float)((double)(end - begin) / 1e6);
    if (end - begin > used) r->blocked = AII_MAX(r->blocked, (double)(end - begin - used) / 1e6);
  }
  (void)close(schedstat);
  free(v);
  return NULL;
}

/* ---- what the writer does -------------------------------------------------------------------------------------- */

static void rest(aiinfra_vecstore *store)
{
  (void)store;
  wait_ms(ALONE_MS);
}

static void insert_and_link(aiinfra_vecstore *store)
{
  bool whole = false;
  insert(store, n_rows, WRITTEN);
  for (; !whole; wait_ms(1)) { /* searches link, too */
    (void)pthread_rwlock_rdlock(&store->index.lock);
    whole = store->index.n_graph == n_rows + WRITTEN;
    (void)pthread_rwlock_unlock(&store->index.lock);
  }
}

/* A third of the rows: dead slots are taken out. */
static void remove_and_heal(aiinfra_vecstore *store)
{
  uint32_t n = n_rows / 3;
  int64_t *ids = malloc(n * sizeof *ids);
  for (uint32_t i = 0; i < n; i++) ids[i] = 3 * (int64_t)i;
  if (aiinfra_vecstore_remove(store, ids, n, NULL, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  free(ids);
  wait_ms(ALONE_MS); /* who heals may be another thread */
}

static void write_snapshot(aiinfra_vecstore *store)
{
  aii_snapshot_id id = {.collection = store->collection};
  aii_snapshot_size size;
  if (aii_snapshot_write(&store->index, &id, test_tmp("graph.ann"), &size, &err) != AIINFRA_OK) {
    fail_msg("%s", err.message);
  }
}

/* ---- measuring -------------------------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
  float x = *(const float *)a, y = *(const float *)b;
  return (x > y) - (x < y);
}

typedef struct kind {
  const char *name, *filter, *text;
} kind;

static void measure(aiinfra_vecstore *store, uint32_t n_readers, const kind *k, const char *beside,
                    void (*work)(aiinfra_vecstore *))
{
  reader readers[MOST_READERS];
  _Atomic int stop = 0;
  for (uint32_t i = 0; i < n_readers; i++) {
    readers[i] = (reader){.store = store, .stop = &stop, .filter = k->filter, .text = k->text};
    readers[i].ms = malloc(MOST_SEARCHES * sizeof(float));
    assert_int_equal(pthread_create(&readers[i].thread, NULL, keep_searching, &readers[i]), 0);
  }
  wait_ms(50);
  uint64_t begin = aii_now_ns();
  work(store);
  double seconds = (double)(aii_now_ns() - begin) / 1e9;
  stop = 1;
  size_t n = 0;
  double blocked = 0;
  for (uint32_t i = 0; i < n_readers; i++) {
    assert_int_equal(pthread_join(readers[i].thread, NULL), 0);
    n += readers[i].n;
    blocked = AII_MAX(blocked, readers[i].blocked);
  }
  float *all = malloc(n * sizeof *all), *to = all;
  for (uint32_t i = 0; i < n_readers; to += readers[i++].n) {
    memcpy(to, readers[i].ms, readers[i].n * sizeof *to);
    free(readers[i].ms);
  }
  qsort(all, n, sizeof *all, by_size);
  printf("  %-22s %-18s median %8.3f ms, 99 of 100 %8.3f ms, longest %8.3f ms, blocked %8.3f ms (%zu searches "
         "in %.2f s)\n",
         k->name, beside, (double)all[n / 2], (double)all[n * 99 / 100], (double)all[n - 1], blocked, n, seconds);
  (void)fflush(stdout);
  free(all);
}

static uint32_t setting(const char *name, uint32_t otherwise)
{
  const char *text = getenv(name);
  return text != NULL ? (uint32_t)atol(text) : otherwise;
}

/* A database of its own for each kind of search, since writers leave it changed. */
static void bench_kind(const kind *k, uint32_t n_readers)
{
  aiinfra_db_opts db_opts = AIINFRA_DB_OPTS_INIT;
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_query q = AIINFRA_QUERY_INIT;
  aiinfra_db *db;
  aiinfra_vecstore *store;
  aiinfra_hit hits[K];
  size_t n;
  float *v = malloc(dims * sizeof *v);
  db_opts.synchronous = -1;
  opts.dims = dims;
  opts.snapshot = -1;
  if (aiinfra_db_open(rt, test_tmp(k->name), &db_opts, &db, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  if (aiinfra_vecstore_open(db, "rows", &opts, &store, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  for (uint32_t from = 0; from < n_rows; from += BATCH) insert(store, from, BATCH);
  vector_of(7, v);
  q.vector = v;
  q.mode = AIINFRA_SEARCH_GRAPH;
  q.k = K;
  q.filter_json = k->filter;
  if (aiinfra_vecstore_search(store, &q, hits, K, &n, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  measure(store, n_readers, k, "alone", rest);
  measure(store, n_readers, k, "beside linking", insert_and_link);
  measure(store, n_readers, k, "beside healing", remove_and_heal);
  measure(store, n_readers, k, "beside a snapshot", write_snapshot);
  free(v);
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
}

static void bench(void **state)
{
  static const kind kinds[] = {
      {"by a vector", NULL, NULL}, {"by vector and words", NULL, "word7"}, {"with a filter", "{\"odd\":true}", NULL}};
  uint32_t n_readers = setting("AIINFRA_BENCH_READERS", 1);
  (void)state;
  dims = setting("AIINFRA_BENCH_DIMS", 128);
  n_rows = setting("AIINFRA_BENCH_ROWS", 20000) / BATCH * BATCH;
  assert_in_range(n_readers, 1, MOST_READERS);
  printf("%u rows of %u dimensions, %d more written at once, %u reader%s\n", n_rows, dims, WRITTEN, n_readers,
         n_readers == 1 ? "" : "s");
  for (size_t i = 0; i < AII_COUNT(kinds); i++) bench_kind(&kinds[i], n_readers);
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
