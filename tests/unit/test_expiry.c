/* test_expiry.c - rows that live until a time, against a model, under a clock that the test sets: random writes and reads
 * by several handles, some of them opened late, some with the file of a graph; then how expired rows go for good.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/vector/vector.h"
#include "support/support.h"

enum { DIMS = 3, IDS = 120, HANDLES = 4, STEPS = 1500 };

static aiinfra_runtime *rt;
static aiinfra_error err;
static int64_t clock_ms = 1000;

static int64_t test_clock(void)
{
  return clock_ms;
}

static aiinfra_db *must_open_db(const char *path)
{
  aiinfra_db *db;
  aiinfra_db_opts opts = AIINFRA_DB_OPTS_INIT;
  opts.synchronous = -1;
  if (aiinfra_db_open(rt, path, &opts, &db, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return db;
}

static aiinfra_vecstore *must_open(aiinfra_db *db, uint64_t ttl_ms, int32_t snapshot)
{
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_vecstore *store;
  opts.dims = DIMS;
  opts.metric = AIINFRA_METRIC_L2;
  opts.ttl_ms = ttl_ms;
  opts.snapshot = snapshot;
  if (aiinfra_vecstore_open(db, "things", &opts, &store, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  store->expiry.now_ms = test_clock;
  return store;
}

static uint64_t change(aiinfra_vecstore *store, const char *request)
{
  uint64_t n;
  if (aiinfra_vecstore_change(store, request, &n, &err) != AIINFRA_OK) fail_msg("%s: %s", request, err.message);
  return n;
}

static char *ask(aiinfra_vecstore *store, const char *request)
{
  char *text;
  if (aiinfra_vecstore_read(store, request, &text, &err) != AIINFRA_OK) fail_msg("%s: %s", request, err.message);
  return text;
}

static void expect(aiinfra_vecstore *store, const char *request, const char *want)
{
  char *text = ask(store, request);
  if (strcmp(text, want) != 0) fail_msg("%s\n  gives %s\n  not   %s", request, text, want);
  aiinfra_string_free(text);
}

static uint64_t count(aiinfra_vecstore *store)
{
  uint64_t n;
  assert_int_equal(aiinfra_vecstore_count(store, &n, &err), AIINFRA_OK);
  return n;
}

/* ---- the model -------------------------------------------------------------------------------------------------- */

typedef struct model {
  bool there[IDS];
  int64_t expires_ms[IDS]; /* 0: never */
  float x[IDS];
  int group[IDS];
  unsigned long long seed;
  aiinfra_db *db[2];
  aiinfra_vecstore *store[HANDLES];
} model;

static unsigned long long dice(model *m, unsigned long long sides)
{
  return test_random(&m->seed) % sides;
}

static bool lives(const model *m, int id)
{
  return m->there[id] && (m->expires_ms[id] == 0 || m->expires_ms[id] > clock_ms);
}

static void put(model *m, aiinfra_vecstore *store)
{
  char payload[32];
  int id = (int)dice(m, IDS);
  float v[DIMS] = {m->x[id], (float)id, 1};
  if (!m->there[id] || dice(m, 2) == 0) v[0] = m->x[id] = (float)dice(m, 1000); /* or the vector that it has */
  m->there[id] = true;
  m->group[id] = (int)dice(m, 3);
  m->expires_ms[id] = store->ttl_ms != 0 ? clock_ms + store->ttl_ms : 0;
  snprintf(payload, sizeof payload, "{\"g\":%d}", m->group[id]);
  aiinfra_record r = {id, v, id % 2 == 0 ? "red fox" : "", payload};
  if (aiinfra_vecstore_upsert(store, &r, 1, &err) != AIINFRA_OK) fail_msg("%s", err.message);
}

static void take(model *m, aiinfra_vecstore *store)
{
  int64_t id = (int64_t)dice(m, IDS);
  size_t n;
  assert_int_equal(aiinfra_vecstore_remove(store, &id, 1, &n, &err), AIINFRA_OK);
  assert_int_equal(n, lives(m, (int)id));
  m->there[id] = false;
}

static void set_expiry(model *m, aiinfra_vecstore *store)
{
  char request[160];
  int id = (int)dice(m, IDS), group = (int)dice(m, 3);
  int64_t at = dice(m, 3) == 0 ? 0 : clock_ms - 5 + (int64_t)dice(m, 40);
  uint64_t want = 0;
  bool by_filter = dice(m, 4) == 0;
  if (by_filter) {
    snprintf(request, sizeof request, "{\"set_expiry\":{\"expires_ms\":%lld,\"filter\":{\"g\":%d}}}", (long long)at,
             group);
  } else {
    snprintf(request, sizeof request, "{\"set_expiry\":{\"expires_ms\":%lld,\"ids\":[%d,100000]}}", (long long)at, id);
  }
  for (int i = 0; i < IDS; i++) {
    if (!lives(m, i) || !(by_filter ? m->group[i] == group : i == id)) continue;
    m->expires_ms[i] = at;
    want++;
  }
  uint64_t n = change(store, request);
  assert_int_equal(n, want);
}

static void check_search(model *m, aiinfra_vecstore *store)
{
  aiinfra_query q = AIINFRA_QUERY_INIT;
  aiinfra_hit hits[IDS];
  float v[DIMS] = {(float)dice(m, 1000), 50, 1};
  char filter[32];
  int group = (int)dice(m, 4), passing = 0;
  bool words = dice(m, 3) == 0;
  size_t n;
  snprintf(filter, sizeof filter, "{\"g\":%d}", group);
  if (group < 3) q.filter_json = filter;
  if (words) q.text = "fox";
  else q.vector = v;
  q.k = 1 + (uint32_t)dice(m, IDS);
  q.mode = (int32_t)dice(m, 3);
  if (aiinfra_vecstore_search(store, &q, hits, IDS, &n, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  for (int id = 0; id < IDS; id++)
    passing += lives(m, id) && (group == 3 || m->group[id] == group) && (!words || id % 2 == 0);
  assert_int_equal(n, AII_MIN((int)q.k, passing)); /* never short, and the living alone */
  for (size_t i = 0; i < n; i++) assert_true(lives(m, (int)hits[i].id));
}

static void check_rows(model *m, aiinfra_vecstore *store)
{
  uint64_t living = 0, group = 0, n = count(store);
  char want[64], *text = ask(store, "{\"scroll\":{\"limit\":1000}}");
  const char *p = text;
  for (int id = 0; id < IDS; id++) {
    living += lives(m, id);
    group += lives(m, id) && m->group[id] == 1;
    aiinfra_status rc = aiinfra_vecstore_get(store, id, NULL, NULL, &err);
    assert_int_equal(rc, lives(m, id) ? AIINFRA_OK : AIINFRA_ENOENT);
  }
  assert_int_equal(n, living);
  for (n = 0; (p = strstr(p, "{\"id\":")) != NULL; p++, n++) assert_true(lives(m, atoi(p + 6)));
  assert_int_equal(n, living);
  aiinfra_string_free(text);
  snprintf(want, sizeof want, "{\"count\":%d}", (int)group);
  expect(store, "{\"count\":{\"filter\":{\"g\":1}}}", want);
  text = ask(store, "{\"facet\":{\"key\":\"g\"}}");
  snprintf(want, sizeof want, "{\"value\":1,\"count\":%d}", (int)group);
  assert_true((strstr(text, want) != NULL) == (group > 0));
  aiinfra_string_free(text);
}

/* A handle is closed and opened again, perhaps with what it kept in a file. */
static void renew(model *m, int at)
{
  aiinfra_vecstore_free(m->store[at]);
  m->store[at] = must_open(m->db[at % 2], dice(m, 2) == 0 ? 0 : 1 + dice(m, 60), at < 2 ? 1 : -1);
}

static void test_against_model(void **state)
{
  static model m;
  (void)state;
  m.seed = test_seed();
  for (int i = 0; i < 2; i++) m.db[i] = must_open_db(test_tmp("model.db"));
  for (int i = 0; i < HANDLES; i++) m.store[i] = must_open(m.db[i % 2], i % 2 == 0 ? 0 : 30, i < 2 ? 1 : -1);
  for (int step = 0; step < STEPS; step++) {
    int at = (int)dice(&m, HANDLES);
    switch (dice(&m, 16)) {
      case 0: take(&m, m.store[at]); break;
      case 1: set_expiry(&m, m.store[at]); break;
      case 2: renew(&m, at); break;
      case 3:
      case 4: clock_ms += (int64_t)dice(&m, 20); break;
      case 5: (void)change(m.store[at], "{\"remove_expired\":{}}"); break;
      case 6: check_rows(&m, m.store[at]); break;
      case 7:
      case 8:
      case 9: check_search(&m, m.store[at]); break;
      default: put(&m, m.store[at]); break;
    }
    if (step % 200 == 0 && aiinfra_db_check(m.db[0], &err) != AIINFRA_OK) fail_msg("%s", err.message);
  }
  for (int i = 0; i < HANDLES; i++) {
    check_rows(&m, m.store[i]);
    aiinfra_vecstore_free(m.store[i]);
  }
  for (int i = 0; i < 2; i++) aiinfra_db_free(m.db[i]);
}

/* ---- in detail -------------------------------------------------------------------------------------------------- */

static int64_t physical(aiinfra_db *db)
{
  int64_t n = -1;
  aii_sql_lock(db->sql);
  assert_int_equal(aii_db_ask_int(db->sql, "SELECT count(*) FROM rows", &n, &err), AIINFRA_OK);
  aii_sql_unlock(db->sql);
  return n;
}

static void put_some(aiinfra_vecstore *store, int64_t from, int64_t n)
{
  static const float v[DIMS] = {1, 2, 3};
  for (int64_t i = 0; i < n; i++) {
    aiinfra_record r = {from + i, v, "words of a row", "{\"a\":1}"};
    if (aiinfra_vecstore_upsert(store, &r, 1, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  }
}

/* A mask that is kept is not the one of a moment before. */
static void test_kept_masks(void **state)
{
  (void)state;
  aiinfra_db *db = must_open_db(":memory:");
  aiinfra_vecstore *store = must_open(db, 100, 0);
  put_some(store, 1, 3);
  store->ttl_ms = 0;
  put_some(store, 4, 2);
  expect(store, "{\"count\":{\"filter\":{\"a\":1}}}", "{\"count\":5}");
  clock_ms += 99;
  expect(store, "{\"count\":{\"filter\":{\"a\":1}}}", "{\"count\":5}");
  clock_ms += 1;
  expect(store, "{\"count\":{\"filter\":{\"a\":1}}}", "{\"count\":2}");
  expect(store, "{\"facet\":{\"key\":\"a\"}}", "{\"values\":[{\"value\":1,\"count\":2}]}");
  assert_int_equal(change(store, "{\"set_payload\":{\"payload\":{\"b\":1},\"ids\":[1,4]}}"), 1);
  assert_int_equal(change(store, "{\"delete\":{\"ids\":[2,5]}}"), 1);
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
}

/* Writes remove some, a request removes all, and so does optimise. */
static void test_removal(void **state)
{
  uint64_t n;
  char *text;
  (void)state;
  aiinfra_db *db = must_open_db(test_tmp("removal.db"));
  aiinfra_vecstore *store = must_open(db, 10, 0);
  put_some(store, 0, 100);
  clock_ms += 10;
  assert_int_equal(count(store), 0);
  assert_int_equal(physical(db), 100);
  store->ttl_ms = 0;
  put_some(store, 1000, 1);
  assert_int_equal(physical(db), 101 - 17);
  n = change(store, "{\"remove_expired\":{}}");
  assert_int_equal(n, 83);
  assert_int_equal(physical(db), 1);
  store->ttl_ms = 10;
  put_some(store, 0, 50);
  clock_ms += 10;
  assert_int_equal(aiinfra_db_check(db, &err), AIINFRA_OK);
  assert_int_equal(aiinfra_db_optimise(db, NULL, &text, &err),
                   AIINFRA_OK); /* by the clock on the wall, which is later */
  assert_non_null(strstr(text, "\"expired\":50"));
  aiinfra_string_free(text);
  assert_int_equal(physical(db), 1);
  assert_int_equal(aiinfra_db_check(db, &err), AIINFRA_OK);
  expect(store, "{\"scroll\":{}}",
         "{\"rows\":[{\"id\":1000,\"text\":\"words of a row\",\"payload\":{\"a\":1}}],\"next\":null}");
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
}

static void test_requests(void **state)
{
  static const char *const bad[] = {
      "{\"set_expiry\":{\"ids\":[1]}}",
      "{\"set_expiry\":{\"ids\":[1],\"ttl_s\":1,\"expires_ms\":1}}",
      "{\"set_expiry\":{\"ids\":[1],\"ttl_s\":0}}",
      "{\"set_expiry\":{\"ids\":[1],\"ttl_s\":9223372036854775807}}",
      "{\"set_expiry\":{\"ids\":[1],\"ttl_s\":null}}",
      "{\"set_expiry\":{\"ids\":[1],\"expires_ms\":-1}}",
      "{\"set_expiry\":{\"ids\":[1],\"expires_ms\":\"soon\"}}",
      "{\"set_expiry\":{\"ttl_s\":1}}",
      "{\"remove_expired\":{\"ids\":[1]}}",
  };
  char want[200];
  (void)state;
  aiinfra_db *db = must_open_db(":memory:");
  aiinfra_vecstore *store = must_open(db, 0, 0);
  put_some(store, 1, 2);
  for (size_t i = 0; i < AII_COUNT(bad); i++)
    assert_int_equal(aiinfra_vecstore_change(store, bad[i], NULL, &err), AIINFRA_EINVAL);
  assert_int_equal(change(store, "{\"set_expiry\":{\"ttl_s\":60,\"ids\":[1,7]}}"), 1);
  snprintf(want, sizeof want,
           "{\"rows\":[{\"id\":1,\"text\":\"words of a row\",\"payload\":{\"a\":1},\"expires_ms\":%lld},"
           "{\"id\":2,\"text\":\"words of a row\",\"payload\":{\"a\":1}}],\"next\":null}",
           (long long)clock_ms + 60000);
  expect(store, "{\"scroll\":{}}", want);
  clock_ms += 59999;
  assert_int_equal(count(store), 2);
  assert_int_equal(change(store, "{\"set_expiry\":{\"expires_ms\":0,\"filter\":{}}}"), 2); /* for ever, after all */
  clock_ms += 10000;
  assert_int_equal(count(store), 2);
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
}

/* Files keep times, and leave out what is past. */
static void test_files(void **state)
{
  char path[512], *text;
  uint64_t n;
  (void)state;
  aiinfra_db *db = must_open_db(test_tmp("files.db"));
  aiinfra_vecstore *store = must_open(db, 10, 0);
  snprintf(path, sizeof path, "%s", test_tmp("times.jsonl"));
  put_some(store, 1, 1);
  store->ttl_ms = 50;
  put_some(store, 2, 1);
  clock_ms += 10;
  assert_int_equal(aiinfra_vecstore_export(store, path, NULL, &n, &err), AIINFRA_OK);
  assert_int_equal(n, 1);
  assert_int_equal(change(store, "{\"delete\":{\"filter\":{}}}"), 1);
  store->ttl_ms = 7;
  assert_int_equal(aiinfra_vecstore_import(store, path, NULL, &n, &err), AIINFRA_OK);
  clock_ms += 39; /* the row's own time counts, not the handle's */
  text = ask(store, "{\"scroll\":{}}");
  assert_non_null(strstr(text, "{\"id\":2,"));
  aiinfra_string_free(text);
  clock_ms += 1;
  assert_int_equal(count(store), 0);
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
}

static int set_up(void **state)
{
  (void)state;
  return aiinfra_runtime_create(NULL, &rt, &err) != AIINFRA_OK;
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
      cmocka_unit_test(test_against_model), cmocka_unit_test(test_kept_masks), cmocka_unit_test(test_removal),
      cmocka_unit_test(test_requests),      cmocka_unit_test(test_files),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
