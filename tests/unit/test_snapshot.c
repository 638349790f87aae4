/* test_snapshot.c - the graph of a collection as a file: written, found again, caught up with the rows, and refused
 * whenever it is not whole or not the one that is meant.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "src/vector/snapshot.h"
#include "support/support.h"

enum { DIMS = 12, N = 1500, K = 10 };

static aiinfra_runtime *rt;
static aiinfra_error err;

static aiinfra_db *must_open_db(const char *path)
{
  aiinfra_db *db;
  aiinfra_db_opts opts = AIINFRA_DB_OPTS_INIT;
  opts.synchronous = -1;
  if (aiinfra_db_open(rt, path, &opts, &db, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return db;
}

/* floats: whether they stay in memory. */
static aiinfra_vecstore *must_open(aiinfra_db *db, int32_t snapshot, bool floats)
{
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_vecstore *store;
  opts.dims = DIMS;
  opts.metric = AIINFRA_METRIC_L2;
  opts.m = 4;
  opts.ef_construction = 20;
  opts.snapshot = snapshot;
  opts.vector_bytes = floats ? 0 : 1;
  if (aiinfra_vecstore_open(db, "things", &opts, &store, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return store;
}

static void vector_of(int64_t id, int version, float v[DIMS])
{
  unsigned long long seed = (unsigned long long)id * 100 + (unsigned long long)version;
  for (int i = 0; i < DIMS; i++) v[i] = (float)(test_random(&seed) % 2001) / 1000.0f - 1.0f;
}

static void put(aiinfra_vecstore *store, int64_t from, int64_t to, int version)
{
  enum { MOST = 2000 };
  static aiinfra_record records[MOST];
  static float v[MOST][DIMS];
  size_t n = (size_t)(to - from);
  for (size_t i = 0; i < n; i++) {
    vector_of(from + (int64_t)i, version, v[i]);
    records[i] = (aiinfra_record){from + (int64_t)i, v[i], NULL, "{\"a\":1}"};
  }
  if (aiinfra_vecstore_upsert(store, records, n, &err) != AIINFRA_OK) fail_msg("%s", err.message);
}

static size_t search(aiinfra_vecstore *store, int64_t query_id, int32_t mode, aiinfra_hit *hits)
{
  float v[DIMS];
  aiinfra_query q = AIINFRA_QUERY_INIT;
  size_t n;
  vector_of(query_id, 50, v);
  q.vector = v;
  q.k = K;
  q.mode = mode;
  if (aiinfra_vecstore_search(store, &q, hits, K, &n, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return n;
}

/* Exact answers of both are the same, and those of the graph are nearly. */
static void assert_same(aiinfra_vecstore *a, aiinfra_vecstore *b)
{
  aiinfra_hit x[K], y[K];
  size_t found = 0;
  for (int64_t id = 0; id < 20; id++) {
    size_t n = search(a, id, AIINFRA_SEARCH_EXACT, x);
    assert_int_equal(search(b, id, AIINFRA_SEARCH_EXACT, y), n);
    for (size_t i = 0; i < n; i++) {
      assert_int_equal(x[i].id, y[i].id);
      assert_true(fabsf(x[i].score - y[i].score) < 1e-5f);
    }
    assert_int_equal(search(b, id, AIINFRA_SEARCH_GRAPH, y), n);
    for (size_t i = 0; i < n; i++) {
      for (size_t j = 0; j < n; j++) found += x[i].id == y[j].id;
    }
  }
  assert_true(found >= 20 * K * 8 / 10);
}

/* How many snapshot files lie beside a database, complete or not; *name: the last one. */
static int files_of(const char *db, char name[512])
{
  int n = 0;
  DIR *dir = opendir(test_tmp_dir());
  for (struct dirent *e; (e = readdir(dir)) != NULL;) {
    if (strncmp(e->d_name, db, strlen(db)) != 0 || strstr(e->d_name, ".ann") == NULL) continue;
    if (name != NULL) snprintf(name, 512, "%s", test_tmp(e->d_name));
    n++;
  }
  closedir(dir);
  return n;
}

/* Slots in the graph after a search that makes none. */
static uint32_t graph_after_look(aiinfra_vecstore *store)
{
  aiinfra_hit hits[K];
  (void)search(store, 1, AIINFRA_SEARCH_EXACT, hits);
  (void)pthread_rwlock_rdlock(&store->index.lock);
  uint32_t n = store->index.n_graph;
  (void)pthread_rwlock_unlock(&store->index.lock);
  return n;
}

/* A database whose collection has a snapshot. */
static void make(const char *name)
{
  aiinfra_db *db = must_open_db(test_tmp(name));
  aiinfra_vecstore *store = must_open(db, 1, true);
  aiinfra_hit hits[K];
  put(store, 0, N, 1);
  (void)search(store, 1, AIINFRA_SEARCH_GRAPH, hits);
  aiinfra_vecstore_free(store);
  char *stats;
  assert_int_equal(aiinfra_db_stats(db, &stats, &err), AIINFRA_OK);
  assert_non_null(strstr(stats, "\"snapshot_seq\":1"));
  aiinfra_string_free(stats);
  aiinfra_db_free(db);
  assert_int_equal(files_of(name, NULL), 1);
}

/* ---- found again --------------------------------------------------------------------------------------------------- */

static void test_reopen(void **state)
{
  (void)state;
  make("reopen.db");
  for (int floats = 0; floats <= 1; floats++) {
    aiinfra_db *db = must_open_db(test_tmp("reopen.db"));
    aiinfra_vecstore *kept = must_open(db, 1, floats), *fresh = must_open(db, -1, true);
    assert_int_equal(graph_after_look(kept), N); /* no search has asked for a graph */
    assert_int_equal(kept->index.floats, floats);
    assert_int_equal(graph_after_look(fresh), 0);
    assert_same(fresh, kept);
    aiinfra_vecstore_free(kept);
    aiinfra_vecstore_free(fresh);
    aiinfra_db_free(db);
  }
}

/* Rows that were written, replaced, removed and changed behind the snapshot. */
static void test_tail(void **state)
{
  (void)state;
  make("tail.db");
  aiinfra_db *db = must_open_db(test_tmp("tail.db"));
  aiinfra_vecstore *other = must_open(db, -1, true);
  put(other, N, N + 100, 1);
  put(other, 100, 200, 2);
  put(other, 300, 310, 1); /* as they are */
  for (int64_t id = 0; id < 50; id++) {
    assert_int_equal(aiinfra_vecstore_remove(other, &id, 1, NULL, &err), AIINFRA_OK);
  }
  put(other, 10, 20, 3);
  assert_int_equal(
      aiinfra_vecstore_change(other, "{\"set_payload\":{\"payload\":{\"b\":2},\"ids\":[500]}}", NULL, &err),
      AIINFRA_OK);
  for (int floats = 0; floats <= 1; floats++) {
    aiinfra_vecstore *kept = must_open(db, -1, floats);
    kept->keep.mode = 1;
    assert_true(graph_after_look(kept) >= N);
    assert_same(other, kept);
    kept->keep.mode = -1; /* the file stays as it is for the next round */
    aiinfra_vecstore_free(kept);
  }
  aiinfra_vecstore_free(other);
  aiinfra_db_free(db);
}

static void test_generations(void **state)
{
  char before[512], after[512];
  (void)state;
  make("generations.db");
  assert_int_equal(files_of("generations.db", before), 1);
  for (int round = 0; round < 3; round++) {
    aiinfra_db *db = must_open_db(test_tmp("generations.db"));
    aiinfra_vecstore *store = must_open(db, 1, true);
    assert_int_equal(graph_after_look(store), N + round * 400);
    aiinfra_vecstore_free(store); /* nothing is new: nothing is written */
    assert_int_equal(files_of("generations.db", after), 1);
    assert_string_equal(before, after);
    store = must_open(db, 1, true);
    aiinfra_hit hits[K];
    put(store, N + round * 400, N + (round + 1) * 400, 1);
    (void)search(store, 1, AIINFRA_SEARCH_GRAPH, hits);
    aiinfra_vecstore_free(store);
    assert_int_equal(aiinfra_db_check(db, &err), AIINFRA_OK);
    aiinfra_db_free(db);
    assert_int_equal(files_of("generations.db", after), 1); /* the older one is gone */
    assert_string_not_equal(before, after);
    snprintf(before, sizeof before, "%s", after);
  }
}

/* ---- refused --------------------------------------------------------------------------------------------------------- */

static bool wait_for_graph(aiinfra_vecstore *store)
{
  const struct timespec pause = {0, 10000000};
  for (int i = 0; i < 3000; i++) {
    if (graph_after_look(store) >= N && !atomic_load(&store->keep.running)) return true;
    aii_keep_grown(store);
    (void)nanosleep(&pause, NULL);
  }
  return false;
}

/* Whatever is wrong with the file: the answers are right at once, and the graph is made and kept again. */
static void heals(const char *name)
{
  aiinfra_db *db = must_open_db(test_tmp(name));
  aiinfra_vecstore *store = must_open(db, 1, true), *fresh = must_open(db, -1, true);
  aiinfra_hit x[K], y[K];
  assert_int_equal(search(store, 3, AIINFRA_SEARCH_EXACT, x), K);
  assert_int_equal(search(fresh, 3, AIINFRA_SEARCH_EXACT, y), K);
  for (int i = 0; i < K; i++) assert_int_equal(x[i].id, y[i].id);
  (void)search(store, 3, AIINFRA_SEARCH_AUTO, x);
  assert_true(wait_for_graph(store));
  aiinfra_vecstore_free(store);
  store = must_open(db, 1, true);
  assert_int_equal(graph_after_look(store), N);
  assert_same(fresh, store);
  aiinfra_vecstore_free(store);
  aiinfra_vecstore_free(fresh);
  aiinfra_db_free(db);
  assert_int_equal(files_of(name, NULL), 1);
}

static void test_missing_torn_foreign(void **state)
{
  char path[512], other[512];
  size_t n;
  (void)state;
  make("hurt.db");
  assert_int_equal(files_of("hurt.db", path), 1);
  assert_int_equal(unlink(path), 0);
  heals("hurt.db");
  assert_int_equal(files_of("hurt.db", path), 1);
  assert_int_equal(truncate(path, 1000), 0);
  heals("hurt.db");
  make("foreign.db");
  assert_int_equal(files_of("foreign.db", other), 1);
  char *bytes = test_read_file(other, &n);
  assert_int_equal(files_of("hurt.db", path), 1);
  assert_int_equal(test_write_file(path, bytes, n), 0);
  free(bytes);
  heals("hurt.db");
  /* an older one, under the name of the one that counts */
  assert_int_equal(files_of("hurt.db", path), 1);
  bytes = test_read_file(path, &n);
  aiinfra_db *db = must_open_db(test_tmp("hurt.db"));
  assert_int_equal(aii_sql_exec(db->sql, "UPDATE snapshots SET nonce = nonce + 1", &err), AIINFRA_OK);
  aiinfra_db_free(db);
  heals("hurt.db");
  free(bytes);
}

/* Reads bytes as a snapshot into an index of its own, which must be empty if that fails. */
static aiinfra_status read_bytes(const aiinfra_vecstore *like, const aii_snapshot_id *id, const void *bytes, size_t n,
                                 bool look)
{
  aii_index index;
  int fd = memfd_create("snapshot", 0);
  assert_true(fd >= 0 && write(fd, bytes, n) == (ssize_t)n);
  assert_int_equal(aii_index_init(&index, &rt->mem, like->index.kernels, DIMS, AIINFRA_METRIC_L2, 4, 20, &err),
                   AIINFRA_OK);
  aiinfra_status rc = aii_snapshot_read(&index, id, fd, &err);
  if (rc != AIINFRA_OK) assert_true(index.n == 0 && index.n_graph == 0 && index.seq == -1);
  if (rc == AIINFRA_OK && look) {
    float v[DIMS];
    aii_finds finds = {0};
    aii_walk how = {.ef = 30};
    vector_of(1, 50, v);
    assert_true(aii_hnsw_search(&index, v, &how, K, &finds));
    aii_finds_free(&index, &finds);
  }
  aii_index_destroy(&index);
  (void)close(fd);
  return rc;
}

/* The file of a database with what the database says of it. */
static aiinfra_vecstore *open_file(const char *name, aiinfra_db **db, char **bytes, size_t *n, aii_snapshot_id *id)
{
  char path[512];
  make(name);
  assert_int_equal(files_of(name, path), 1);
  *bytes = test_read_file(path, n);
  *db = must_open_db(test_tmp(name));
  memcpy(id, *bytes + 16, sizeof *id);
  return must_open(*db, -1, true);
}

static void test_flips(void **state)
{
  aiinfra_db *db;
  aii_snapshot_id id;
  char *bytes;
  size_t n, tried = 0;
  (void)state;
  aiinfra_vecstore *store = open_file("flips.db", &db, &bytes, &n, &id);
  assert_int_equal(read_bytes(store, &id, bytes, n, true), AIINFRA_OK);
  for (size_t at = 0; at < n; at += at < 256 || at + 64 > n ? 1 : 251) {
    bytes[at] = (char)(bytes[at] ^ 1 << at % 8);
    if (read_bytes(store, &id, bytes, n, false) != AIINFRA_EFORMAT) fail_msg("a flip at %zu is not noticed", at);
    bytes[at] = (char)(bytes[at] ^ 1 << at % 8);
    tried++;
  }
  for (size_t cut = 0; cut < n; cut += 4999) {
    assert_int_equal(read_bytes(store, &id, bytes, cut, false), AIINFRA_EFORMAT);
  }
  assert_true(tried > 700);
  free(bytes);
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
}

/* With right sums: refused, or good enough to be walked over. */
static void test_sealed(void **state)
{
  aiinfra_db *db;
  aii_snapshot_id id;
  char *bytes;
  size_t n, refused = 0, taken = 0;
  unsigned long long seed = test_seed();
  (void)state;
  aiinfra_vecstore *store = open_file("sealed.db", &db, &bytes, &n, &id);
  char *copy = malloc(n);
  for (int round = 0; round < 400; round++) {
    memcpy(copy, bytes, n);
    size_t times = 1 + test_random(&seed) % 20, from = round % 2 ? 0 : 40;
    for (size_t i = 0; i < times; i++) {
      size_t range = round % 4 == 0 ? 128 - from : n - from;
      copy[from + test_random(&seed) % range] = (char)test_random(&seed);
    }
    if (!aii_snapshot_seal(&store->index, (uint8_t *)copy, n)) continue;
    aiinfra_status rc = read_bytes(store, &id, copy, n, true);
    assert_true(rc == AIINFRA_OK || rc == AIINFRA_EFORMAT);
    taken += rc == AIINFRA_OK;
    refused += rc != AIINFRA_OK;
  }
  assert_true(refused > 50 && taken > 5);
  free(copy);
  free(bytes);
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
}

/* ---- where there is none ---------------------------------------------------------------------------------------------- */

static void test_off(void **state)
{
  aiinfra_db_opts opts = AIINFRA_DB_OPTS_INIT;
  aiinfra_hit hits[K];
  aiinfra_db *db = must_open_db(test_tmp("off.db"));
  aiinfra_vecstore *store = must_open(db, -1, true);
  (void)state;
  put(store, 0, 500, 1);
  (void)search(store, 1, AIINFRA_SEARCH_GRAPH, hits);
  aiinfra_vecstore_free(store);
  store = must_open(db, 0, true); /* too small to be worth it */
  (void)search(store, 1, AIINFRA_SEARCH_GRAPH, hits);
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
  assert_int_equal(files_of("off.db", NULL), 0);
  db = must_open_db(":memory:");
  store = must_open(db, 1, true);
  put(store, 0, 500, 1);
  (void)search(store, 1, AIINFRA_SEARCH_GRAPH, hits);
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
  assert_int_equal(access(":memory:-1.1.ann", F_OK), -1);
  make("only-read.db");
  opts.read_only = 1;
  assert_int_equal(aiinfra_db_open(rt, test_tmp("only-read.db"), &opts, &db, &err), AIINFRA_OK);
  store = must_open(db, 1, true);
  assert_int_equal(graph_after_look(store), N); /* what is there is used */
  aiinfra_vecstore_free(store);
  char path[512];
  assert_int_equal(files_of("only-read.db", path), 1);
  assert_int_equal(unlink(path), 0);
  store = must_open(db, 1, true);
  (void)search(store, 1, AIINFRA_SEARCH_GRAPH, hits);
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
  assert_int_equal(files_of("only-read.db", NULL), 0); /* and nothing is written */
}

/* ---- several processes ------------------------------------------------------------------------------------------------ */

static int read_again_and_again(void)
{
  aiinfra_db *db = must_open_db(test_tmp("shared.db"));
  for (int i = 0; i < 25; i++) {
    aiinfra_vecstore *store = must_open(db, 0, i % 2);
    aiinfra_hit hits[K];
    if (search(store, i, AIINFRA_SEARCH_GRAPH, hits) != K) return 1;
    aiinfra_vecstore_free(store);
  }
  return 0;
}

/* One writes and replaces the snapshot, others open it. */
static void test_processes(void **state)
{
  enum { READERS = 2 };
  pid_t children[READERS];
  (void)state;
  make("shared.db");
  for (int i = 0; i < READERS; i++) {
    children[i] = fork();
    if (children[i] == 0) _exit(read_again_and_again());
  }
  for (int round = 0; round < 8; round++) {
    aiinfra_hit hits[K];
    aiinfra_db *db = must_open_db(test_tmp("shared.db"));
    aiinfra_vecstore *store = must_open(db, 1, true);
    put(store, N + round * 200, N + (round + 1) * 200, 1);
    (void)search(store, 1, AIINFRA_SEARCH_GRAPH, hits);
    aiinfra_vecstore_free(store);
    aiinfra_db_free(db);
  }
  for (int i = 0; i < READERS; i++) {
    int status;
    assert_int_equal(waitpid(children[i], &status, 0), children[i]);
    assert_int_equal(status, 0);
  }
  assert_int_equal(files_of("shared.db", NULL), 1);
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
      cmocka_unit_test(test_reopen),
      cmocka_unit_test(test_tail),
      cmocka_unit_test(test_generations),
      cmocka_unit_test(test_flips),
      cmocka_unit_test(test_missing_torn_foreign),
      cmocka_unit_test(test_sealed),
      cmocka_unit_test(test_off),
      cmocka_unit_test(test_processes),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
