/* test_concurrency.c - readers beside one writer: each answer is what some commit left, never a part of one.
 *
 * The writer adds batches of rows and removes the oldest ones, so that the graph grows and is healed, changes payloads and
 * writes the file of the graph. Whatever a reader finds by comparing with all rows must be whole batches, from one on to
 * another; all that was committed before it asked, and nothing that was removed before. AIINFRA_CONCURRENCY_SECONDS sets how
 * long each case takes; the default is 2.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "concurrency.h"
#include "src/vector/snapshot.h"

static aiinfra_error err;
static aiinfra_runtime *rt;

static bool search_all(reader *r, const char *filter, const char *text, int64_t step)
{
  shared *s = r->shared;
  aiinfra_query q = AIINFRA_QUERY_INIT;
  float v[DIMS];
  size_t n = 0;
  aiinfra_hit *hits = malloc(2 * MOST * sizeof *hits);
  random_vector(&r->seed, v);
  q.vector = text == NULL ? v : NULL;
  q.text = text;
  q.k = 2 * MOST;
  q.mode = AIINFRA_SEARCH_EXACT;
  q.filter_json = filter;
  int64_t removed = s->removed, added = s->added;
  aiinfra_status rc = aiinfra_vecstore_search(s->store, &q, hits, 2 * MOST, &n, NULL);
  bool ok = rc == AIINFRA_OK && is_sorted(r, hits, n) && check_whole(r, hits, n, removed, added, step);
  if (rc != AIINFRA_OK) (void)snprintf(r->why, sizeof r->why, "a search failed: %d", rc);
  free(hits);
  return ok;
}

static bool search_graph(reader *r)
{
  shared *s = r->shared;
  aiinfra_query q = AIINFRA_QUERY_INIT;
  aiinfra_hit hits[10];
  float v[DIMS];
  size_t n;
  random_vector(&r->seed, v);
  q.vector = v;
  q.k = 10;
  q.mode = test_random(&r->seed) % 2 ? AIINFRA_SEARCH_GRAPH : AIINFRA_SEARCH_AUTO;
  int64_t removed = s->removed;
  EXPECT(aiinfra_vecstore_search(s->store, &q, hits, 10, &n, NULL) == AIINFRA_OK, "a search by the graph failed");
  EXPECT(n == 10, "%zu hits by the graph", n);
  int64_t adding = s->adding;
  for (size_t i = 0; i < n; i++) {
    EXPECT(hits[i].id / BATCH >= removed && hits[i].id / BATCH < adding, "row %lld is not there",
           (long long)hits[i].id);
    for (size_t j = 0; j < i; j++) EXPECT(hits[i].id != hits[j].id, "row %lld twice", (long long)hits[i].id);
  }
  return is_sorted(r, hits, n);
}

static bool get(reader *r)
{
  shared *s = r->shared;
  char *payload = NULL;
  int64_t batch = s->added - 1;
  aiinfra_status rc = aiinfra_vecstore_get(s->store, batch * BATCH + 3, NULL, &payload, NULL);
  bool may_be_gone = batch < s->removing;
  EXPECT(rc == AIINFRA_OK || (rc == AIINFRA_ENOENT && may_be_gone), "a row that was added cannot be read: %d", rc);
  EXPECT(rc != AIINFRA_OK || strstr(payload, "even") != NULL, "a row without its payload");
  aiinfra_string_free(payload);
  return true;
}

static void *keep_reading(void *arg)
{
  reader *r = arg;
  shared *s = r->shared;
  const struct timespec pause = {0, 200000}; /* a writer on the same core gets its turn */
  while (!s->stop) {
    (void)nanosleep(&pause, NULL);
    uint32_t kind = (uint32_t)(test_random(&r->seed) % 8);
    bool ok;
    if (kind < 3) ok = search_all(r, NULL, NULL, 1);
    else if (kind < 6) ok = search_graph(r);
    else if (kind == 6) ok = get(r);
    else ok = test_random(&r->seed) % 2 ? search_all(r, "{\"even\":true}", NULL, 2) : search_all(r, NULL, "common", 1);
    s->searches[kind < 3 ? 0 : kind < 6 ? 1 : kind - 4]++;
    if (ok) continue;
    s->failed++;
    s->stop = 1;
  }
  return NULL;
}

/* ---- the writer ------------------------------------------------------------------------------------------------- */

static void add(shared *s, unsigned long long *seed)
{
  static aiinfra_record records[BATCH];
  static float v[BATCH][DIMS];
  int64_t batch = s->added;
  for (int i = 0; i < BATCH; i++) {
    random_vector(seed, v[i]);
    records[i] = (aiinfra_record){batch * BATCH + i, v[i], "common words",
                                  batch % 2 == 0 ? "{\"even\":true}" : "{\"even\":false}"};
  }
  s->adding = batch + 1;
  if (aiinfra_vecstore_upsert(s->store, records, BATCH, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  s->added = batch + 1;
}

static void drop(shared *s)
{
  static int64_t ids[REMOVED * BATCH];
  int64_t batch = s->removed;
  for (int i = 0; i < REMOVED * BATCH; i++) ids[i] = batch * BATCH + i;
  s->removing = batch + REMOVED;
  if (aiinfra_vecstore_remove(s->store, ids, REMOVED * BATCH, NULL, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  s->removed = batch + REMOVED;
}

/* Payloads of slots that stay. */
static void change(shared *s)
{
  uint64_t n;
  char request[128];
  int64_t id = (s->added - 1) * BATCH;
  (void)snprintf(request, sizeof request, "{\"set_payload\":{\"payload\":{\"seen\":1},\"ids\":[%lld,%lld]}}",
                 (long long)id, (long long)id + 1);
  if (aiinfra_vecstore_change(s->store, request, &n, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  assert_int_equal(n, 2);
}

static void write_snapshot(shared *s)
{
  aii_snapshot_id id = {.collection = s->store->collection};
  aii_snapshot_size size;
  aiinfra_status rc = aii_snapshot_write(&s->store->index, &id, test_tmp("graph.ann"), &size, &err);
  if (rc != AIINFRA_OK && rc != AIINFRA_ECANCELED) fail_msg("%s", err.message);
}

static uint32_t slots(shared *s)
{
  (void)pthread_rwlock_rdlock(&s->store->index.lock);
  uint32_t n = s->store->index.n;
  (void)pthread_rwlock_unlock(&s->store->index.lock);
  return n;
}

static void run(const char *name, uint64_t vector_bytes)
{
  uint64_t end = test_ends_ns();
  aiinfra_db_opts db_opts = AIINFRA_DB_OPTS_INIT;
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_db *db;
  shared s = {.store = NULL};
  reader readers[MAX_READERS];
  uint32_t n_readers = test_readers();
  unsigned long long seed = test_seed();
  uint32_t n_heals = 0, before = 0;
  db_opts.synchronous = -1;
  opts.dims = DIMS;
  opts.vector_bytes = vector_bytes;
  opts.ef_construction = 40;
  if (aiinfra_db_open(rt, test_tmp(name), &db_opts, &db, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  if (aiinfra_vecstore_open(db, "rows", &opts, &s.store, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  for (int i = 0; i < WINDOW; i++) add(&s, &seed);
  for (uint32_t i = 0; i < n_readers; i++) {
    readers[i] = (reader){.shared = &s, .seed = seed + i + 1};
    assert_int_equal(pthread_create(&readers[i].thread, NULL, keep_reading, &readers[i]), 0);
  }
  for (int64_t i = 0; !s.stop && aii_now_ns() < end; i++) {
    for (int batch = 0; batch < REMOVED; batch++) add(&s, &seed);
    if (i % 2 == 0) change(&s);
    if (i % 7 == 0) write_snapshot(&s);
    drop(&s);
    n_heals += slots(&s) < before;
    before = slots(&s);
  }
  s.stop = 1;
  for (uint32_t i = 0; i < n_readers; i++) assert_int_equal(pthread_join(readers[i].thread, NULL), 0);
  for (uint32_t i = 0; i < n_readers; i++) {
    if (readers[i].why[0] != '\0') fail_msg("%s: %s", name, readers[i].why);
  }
  printf("%s: %lld batches added, %lld removed, healed %u times; %ld + %ld searches of all rows, %ld by the graph, %ld "
         "rows\n",
         name, (long long)s.added, (long long)s.removed, n_heals, s.searches[0], s.searches[3], s.searches[1],
         s.searches[2]);
  assert_true(s.searches[0] > 0 && s.searches[1] > 0);
  assert_int_equal(s.failed, 0);
  aiinfra_vecstore_free(s.store);
  aiinfra_db_free(db);
}

static void test_in_memory(void **state)
{
  (void)state;
  run("floats in memory", 0);
}

static void test_in_rows(void **state)
{
  (void)state;
  run("floats in rows", 1);
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
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_in_memory), cmocka_unit_test(test_in_rows)};
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
