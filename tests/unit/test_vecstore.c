/* test_vecstore.c - collections against brute force: random writes, removals and searches, two handles, threads. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/vector/vector.h"
#include "support/support.h"

enum { DIMS = 6, IDS = 400 };

static aiinfra_runtime *rt;
static aiinfra_error err;

static aiinfra_db *must_open_db(const char *path)
{
  aiinfra_db *db;
  if (aiinfra_db_open(rt, path, NULL, &db, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return db;
}

static aiinfra_vecstore *must_open(aiinfra_db *db, int32_t metric)
{
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_vecstore *store;
  opts.dims = DIMS;
  opts.metric = metric;
  if (aiinfra_vecstore_open(db, "things", &opts, &store, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return store;
}

/* What should be in the collection. */
typedef struct model {
  bool there[IDS];
  float v[IDS][DIMS];
  int group[IDS];
} model;

static void random_vector(unsigned long long *seed, float v[DIMS])
{
  for (int i = 0; i < DIMS; i++) v[i] = (float)(test_random(seed) % 2001) / 1000.0f - 1.0f;
  if (v[0] == 0) v[0] = 0.5f; /* zero has no cosine */
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

static void write_some(model *m, aiinfra_vecstore *store, unsigned long long *seed)
{
  aiinfra_record records[20];
  char payloads[20][64];
  size_t n = 1 + test_random(seed) % 20;
  for (size_t i = 0; i < n; i++) {
    size_t id = test_random(seed) % IDS;
    m->there[id] = true;
    m->group[id] = (int)(test_random(seed) % 5);
    random_vector(seed, m->v[id]);
    snprintf(payloads[i], sizeof payloads[i], "{\"group\":%d}", m->group[id]);
    records[i] = (aiinfra_record){(int64_t)id, m->v[id], NULL, payloads[i]};
  }
  /* an id that comes twice ends as its last record; both point to the same, last vector */
  for (size_t i = 0; i < n; i++) {
    size_t id = (size_t)records[i].id;
    snprintf(payloads[i], sizeof payloads[i], "{\"group\":%d}", m->group[id]);
  }
  if (aiinfra_vecstore_upsert(store, records, n, &err) != AIINFRA_OK) fail_msg("%s", err.message);
}

static void remove_some(model *m, aiinfra_vecstore *store, unsigned long long *seed)
{
  int64_t ids[10];
  size_t n = 1 + test_random(seed) % 10, want = 0, removed;
  for (size_t i = 0; i < n; i++) {
    size_t id = test_random(seed) % IDS;
    ids[i] = (int64_t)id;
    want += m->there[id];
    m->there[id] = false;
  }
  if (aiinfra_vecstore_remove(store, ids, n, &removed, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  assert_int_equal(removed, want);
}

static void check_search(const model *m, aiinfra_vecstore *store, int32_t metric, unsigned long long *seed)
{
  float q[DIMS];
  aiinfra_hit hits[30];
  size_t n, passing = 0;
  char filter[64];
  int group = (int)(test_random(seed) % 6);
  aiinfra_query query = AIINFRA_QUERY_INIT;
  random_vector(seed, q);
  query.vector = q;
  query.k = 1 + (uint32_t)(test_random(seed) % 30);
  query.mode = (int32_t)(test_random(seed) % 3);
  snprintf(filter, sizeof filter, "{\"must\":[{\"key\":\"group\",\"match\":{\"value\":%d}}]}", group);
  if (group < 5) query.filter_json = filter;
  if (aiinfra_vecstore_search(store, &query, hits, 30, &n, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  for (int id = 0; id < IDS; id++) passing += m->there[id] && (group == 5 || m->group[id] == group);
  assert_int_equal(n, AII_MIN((size_t)query.k, passing)); /* never short */
  size_t better = 0;
  for (size_t i = 0; i < n; i++) {
    int64_t id = hits[i].id;
    assert_true(id >= 0 && id < IDS && m->there[id] && (group == 5 || m->group[id] == group));
    assert_true(fabs((double)hits[i].score - score_of(metric, q, m->v[id])) < 1e-4);
    assert_true(i == 0 || hits[i].score <= hits[i - 1].score);
    assert_int_equal(hits[i].rank, i + 1);
  }
  for (int id = 0; id < IDS && n > 0; id++) {
    if (!m->there[id] || (group != 5 && m->group[id] != group)) continue;
    better += score_of(metric, q, m->v[id]) > (double)hits[n - 1].score + 1e-4;
  }
  if (query.mode != AIINFRA_SEARCH_GRAPH) assert_true(better < n || n == 0);
}

static void test_random_work(void **state)
{
  (void)state;
  for (int32_t metric = AIINFRA_METRIC_COSINE; metric <= AIINFRA_METRIC_L2; metric++) {
    static model m;
    unsigned long long seed = test_seed() + (unsigned long long)metric;
    char name[32];
    memset(&m, 0, sizeof m);
    snprintf(name, sizeof name, "random%d.db", metric);
    aiinfra_db *db = must_open_db(test_tmp(name)), *other_db = must_open_db(test_tmp(name));
    aiinfra_vecstore *stores[3] = {must_open(db, metric), must_open(db, metric), must_open(other_db, 0)};
    for (int step = 0; step < 400; step++) {
      aiinfra_vecstore *store = stores[test_random(&seed) % 3];
      unsigned long long dice = test_random(&seed) % 10;
      if (dice < 3) write_some(&m, store, &seed);
      else if (dice < 4) remove_some(&m, store, &seed);
      else check_search(&m, store, metric, &seed);
    }
    uint64_t n, want = 0;
    for (int id = 0; id < IDS; id++) want += m.there[id];
    assert_int_equal(aiinfra_vecstore_count(stores[2], &n, &err), AIINFRA_OK);
    assert_int_equal(n, want);
    assert_int_equal(aiinfra_db_check(db, &err), AIINFRA_OK);
    for (int i = 0; i < 3; i++) aiinfra_vecstore_free(stores[i]);
    aiinfra_db_free(other_db);
    aiinfra_db_free(db);
    db = must_open_db(test_tmp(name)); /* all of it survives */
    stores[0] = must_open(db, 0);
    for (int i = 0; i < 50; i++) check_search(&m, stores[0], metric, &seed);
    aiinfra_vecstore_free(stores[0]);
    aiinfra_db_free(db);
  }
}

/* Rows that another process wrote and removed are found and gone at the next search. */
static void test_other_process(void **state)
{
  const char *path = test_tmp("other.db");
  static const float v[DIMS] = {1, 2, 3, 4, 5, 6};
  aiinfra_db *db = must_open_db(path);
  aiinfra_vecstore *store = must_open(db, AIINFRA_METRIC_L2);
  aiinfra_query query = AIINFRA_QUERY_INIT;
  aiinfra_hit hits[10];
  aiinfra_record record = {1, v, "one", NULL};
  size_t n;
  (void)state;
  query.vector = v;
  query.mode = AIINFRA_SEARCH_GRAPH;
  assert_int_equal(aiinfra_vecstore_upsert(store, &record, 1, &err), AIINFRA_OK);
  assert_int_equal(aiinfra_vecstore_search(store, &query, hits, 10, &n, &err), AIINFRA_OK);
  assert_int_equal(n, 1);
  pid_t child = fork();
  if (child == 0) {
    int64_t one = 1;
    aiinfra_record two = {2, v, NULL, NULL};
    aiinfra_db *mine = must_open_db(path);
    aiinfra_vecstore *s = must_open(mine, 0);
    _exit(aiinfra_vecstore_upsert(s, &two, 1, NULL) != 0 || aiinfra_vecstore_remove(s, &one, 1, NULL, NULL) != 0);
  }
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
  assert_int_equal(aiinfra_vecstore_search(store, &query, hits, 10, &n, &err), AIINFRA_OK);
  assert_int_equal(n, 1);
  assert_int_equal(hits[0].id, 2);
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
}

/* ---- threads: one writes, others search; every answer is whole ------------------------------------------------- */

typedef struct shared {
  aiinfra_vecstore *store;
  _Atomic int stop, searches, failed;
} shared;

static void *keep_searching(void *arg)
{
  shared *s = arg;
  float v[DIMS] = {1, 0, 0, 0, 0, 0};
  aiinfra_query query = AIINFRA_QUERY_INIT;
  query.vector = v;
  query.k = 5;
  while (!s->stop) {
    aiinfra_hit hits[5];
    size_t n;
    int i = s->searches++;
    query.mode = i % 3;
    query.text = i % 2 ? "common word" : NULL;
    query.filter_json = i % 5 == 0 ? "{\"odd\":true}" : NULL;
    aiinfra_status rc = aiinfra_vecstore_search(s->store, &query, hits, 5, &n, NULL);
    if (rc != AIINFRA_OK || n != 5) s->failed++;
  }
  return NULL;
}

static void test_threads(void **state)
{
  aiinfra_db *db = must_open_db(test_tmp("threads.db"));
  shared s = {.store = must_open(db, AIINFRA_METRIC_COSINE)};
  pthread_t threads[3];
  unsigned long long seed = test_seed();
  (void)state;
  for (int i = 0; i < 600; i++) {
    float v[DIMS];
    random_vector(&seed, v);
    aiinfra_record r = {i, v, i % 2 ? "common odd" : "common even", i % 2 ? "{\"odd\":true}" : "{\"odd\":false}"};
    assert_int_equal(aiinfra_vecstore_upsert(s.store, &r, 1, &err), AIINFRA_OK);
    if (i == 20) {
      for (int t = 0; t < 3; t++) assert_int_equal(pthread_create(&threads[t], NULL, keep_searching, &s), 0);
    }
    int64_t old = i - 400;
    if (i % 7 == 0 && old >= 0) { assert_int_equal(aiinfra_vecstore_remove(s.store, &old, 1, NULL, &err), AIINFRA_OK); }
  }
  s.stop = 1;
  for (int t = 0; t < 3; t++) assert_int_equal(pthread_join(threads[t], NULL), 0);
  assert_int_equal(s.failed, 0);
  assert_true(s.searches > 0);
  aiinfra_vecstore_free(s.store);
  aiinfra_db_free(db);
}

/* A vector cut short in the file is damage, not a crash. */
static void test_damaged_row(void **state)
{
  static const float v[DIMS] = {1, 2, 3, 4, 5, 6};
  aiinfra_db *db = must_open_db(":memory:");
  aiinfra_vecstore *store = must_open(db, AIINFRA_METRIC_L2);
  aiinfra_query query = AIINFRA_QUERY_INIT;
  aiinfra_record record = {1, v, NULL, NULL};
  aiinfra_hit hits[10];
  size_t n;
  (void)state;
  query.vector = v;
  assert_int_equal(aiinfra_vecstore_upsert(store, &record, 1, &err), AIINFRA_OK);
  assert_int_equal(aii_sql_exec(db->sql, "UPDATE vectors SET vector = x'0011'", &err), AIINFRA_OK);
  assert_int_equal(aiinfra_vecstore_search(store, &query, hits, 10, &n, &err), AIINFRA_EFORMAT);
  assert_non_null(strstr(err.message, "damaged"));
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
}

static void test_words(void **state)
{
  static const char *const stops[] = {"a", "your", "What", "THE", "t", "so"}, *const others[] = {"port", "th", "whats"};
  aii_mem mem;
  aii_buf query;
  (void)state;
  for (size_t i = 0; i < AII_COUNT(stops); i++) assert_true(aii_word_is_stop(stops[i], strlen(stops[i])));
  for (size_t i = 0; i < AII_COUNT(others); i++) assert_false(aii_word_is_stop(others[i], strlen(others[i])));
  aii_mem_init(&mem, NULL, 0);
  aii_buf_init(&query, &mem, 0);
  aii_words_query("What is the \"default\" port* of NEAR(server)?", &query);
  assert_string_equal(aii_buf_cstr(&query), "\"default\" OR \"port\" OR \"NEAR\" OR \"server\"");
  aii_buf_clear(&query);
  aii_words_query("The who?", &query);
  assert_string_equal(aii_buf_cstr(&query), "\"The\" OR \"who\"");
  aii_buf_clear(&query);
  aii_words_query("\xE2\x80\x94 ?! \"", &query);
  assert_string_equal(aii_buf_cstr(&query), "");
  aii_buf_free(&query);
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
      cmocka_unit_test(test_random_work), cmocka_unit_test(test_other_process), cmocka_unit_test(test_threads),
      cmocka_unit_test(test_damaged_row), cmocka_unit_test(test_words),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
