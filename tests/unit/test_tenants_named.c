/* test_tenants_named.c - vectors under names of tenants' rows that live until a time, against a model under a clock that the
 * test sets: random writes, removals and drops through two handles of each tenant, some opened anew, in two connections to
 * one file; every kind of vector finds the living rows that have one, and no others.
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

enum { WORLDS = 4, HANDLES = 2, IDS = 24, DIMS = 4, STEPS = 2500, KINDS = 3 };
enum { IMAGE, TOKENS, WORDS };

static const char *const TENANTS[WORLDS] = {NULL, "a", "b", "a/image"};
static const char *const LABELS[KINDS] = {"image", "tokens", "words"};
#define NAMES \
  "{\"image\":{\"dims\":4,\"metric\":\"l2\"},\"tokens\":{\"dims\":4,\"multi\":true},\"words\":{\"sparse\":true}}"

static aiinfra_runtime *rt;
static aiinfra_db *dbs[HANDLES];
static aiinfra_vecstore *stores[WORLDS][HANDLES];
static aiinfra_error err;
static int64_t clock_ms = 1000;
static unsigned long long seed;

static struct {
  bool there, named[KINDS];
  int64_t expires_ms; /* 0: never */
} rows[WORLDS][IDS];

static int64_t test_clock(void)
{
  return clock_ms;
}

static unsigned long long dice(unsigned long long sides)
{
  return test_random(&seed) % sides;
}

static void check(aiinfra_status rc)
{
  if (rc != AIINFRA_OK) fail_msg("%s", err.message);
}

static bool lives(int w, int id)
{
  return rows[w][id].there && (rows[w][id].expires_ms == 0 || rows[w][id].expires_ms > clock_ms);
}

/* Names are told to the first handle alone: others find them, or make them for their tenant with a write. */
static void open_store(int w, int h, bool names)
{
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  opts.dims = DIMS;
  opts.metric = AIINFRA_METRIC_L2;
  opts.tenant = TENANTS[w];
  opts.ttl_ms = 40;
  opts.snapshot = 1;
  opts.vectors_json = names ? NAMES : NULL;
  check(aiinfra_vecstore_open(dbs[h], "things", &opts, &stores[w][h], &err));
  stores[w][h]->expiry.now_ms = test_clock;
}

/* ---- work ---------------------------------------------------------------------------------------------------------- */

static void put_row(int w, int h, int id)
{
  float v[DIMS] = {(float)w, (float)id, (float)dice(3), 1};
  char payload[40];
  snprintf(payload, sizeof payload, "{\"even\":%s}", id % 2 == 0 ? "true" : "false");
  aiinfra_record r = {id, v, "some words", payload};
  check(aiinfra_vecstore_upsert(stores[w][h], &r, 1, &err));
  if (!lives(w, id)) memset(&rows[w][id], 0, sizeof rows[w][id]); /* what it had is gone with its time */
  rows[w][id].there = true;
  rows[w][id].expires_ms = clock_ms + 40;
}

static void keep_for_ever(int w, int h, int id)
{
  char request[80];
  snprintf(request, sizeof request, "{\"set_expiry\":{\"expires_ms\":0,\"ids\":[%d]}}", id);
  check(aiinfra_vecstore_change(stores[w][h], request, NULL, &err));
  if (lives(w, id)) rows[w][id].expires_ms = 0;
}

static void put_named(int w, int h, int id)
{
  uint32_t indices[2] = {3, 100 + (uint32_t)id};
  float v[2 * DIMS] = {(float)w, (float)id, 0, 1, 1, (float)w, (float)id, 2};
  int k = (int)dice(KINDS);
  aiinfra_named_vector n = {id, LABELS[k], v, k == WORDS ? indices : NULL,
                            k == TOKENS  ? 2 * DIMS
                            : k == WORDS ? 2
                                         : DIMS};
  if (k == WORDS) v[0] = v[1] = 1;
  aiinfra_status rc = aiinfra_vecstore_upsert_named(stores[w][h], &n, 1, &err);
  if (!lives(w, id)) {
    assert_int_equal(rc, AIINFRA_ENOENT);
    return;
  }
  check(rc);
  rows[w][id].named[k] = true;
}

static void remove_row(int w, int h, int id)
{
  int64_t ids[1] = {id};
  size_t n;
  check(aiinfra_vecstore_remove(stores[w][h], ids, 1, &n, &err));
  assert_int_equal(n, lives(w, id));
  memset(&rows[w][id], 0, sizeof rows[w][id]);
}

static void drop_tenant(int w, int h)
{
  char request[80];
  uint64_t n, living = 0;
  for (int id = 0; id < IDS; id++) living += lives(w, id);
  snprintf(request, sizeof request, "{\"drop_tenant\":{\"tenant\":\"%s\"}}", TENANTS[w]);
  check(aiinfra_vecstore_change(stores[0][h], request, &n, &err));
  assert_int_equal(n, living);
  memset(rows[w], 0, sizeof rows[w]);
}

/* ---- what is found ------------------------------------------------------------------------------------------------- */

static void check_hits(int w, int k, bool even, const aiinfra_hit *hits, size_t n)
{
  size_t want = 0;
  for (int id = 0; id < IDS; id++) want += lives(w, id) && (k < 0 || rows[w][id].named[k]) && (!even || id % 2 == 0);
  for (size_t i = 0; i < n; i++) {
    int id = (int)hits[i].id;
    bool right = id >= 0 && id < IDS && lives(w, id) && (k < 0 || rows[w][id].named[k]) && (!even || id % 2 == 0);
    if (!right) fail_msg("world %d, kind %d: row %d is found", w, k, id);
    for (size_t j = 0; j < i; j++) assert_int_not_equal(hits[i].id, hits[j].id);
  }
  if (n != want) fail_msg("world %d, kind %d: %zu rows are found, not %zu", w, k, n, want);
}

/* k -1: the first vector. */
static void look(int w, int h, int k)
{
  static const char *const options[] = {"{}", "{\"using\":\"image\"}", "{\"using\":\"tokens\",\"multi\":2}",
                                        "{\"sparse\":{\"using\":\"words\",\"indices\":[3],\"values\":[1]}}"};
  static const float v[2 * DIMS] = {1, 2, 3, 4, 4, 3, 2, 1};
  aiinfra_hit hits[IDS + 1];
  aiinfra_query q = AIINFRA_QUERY_INIT;
  size_t n;
  bool even = dice(3) == 0;
  q.k = IDS + 1;
  q.mode = dice(4) == 0 ? AIINFRA_SEARCH_GRAPH : 0;
  q.vector = k == WORDS ? NULL : v;
  q.options_json = options[k + 1];
  if (even) q.filter_json = "{\"even\":true}";
  check(aiinfra_vecstore_search(stores[w][h], &q, hits, IDS + 1, &n, &err));
  check_hits(w, k, even, hits, n);
}

/* Stages of a query see living rows alone. */
static void ask(int w, int h)
{
  static const char *const request =
      "{\"prefetch\":[{\"vector\":[1,2,3,4],\"limit\":100},{\"text\":\"words\",\"limit\":100}],"
      "\"query\":{\"fusion\":\"rrf\"},\"limit\":100}";
  aiinfra_hit hits[2 * IDS];
  char *out;
  size_t n = 0;
  check(aiinfra_vecstore_query(stores[w][h], request, &out, &err));
  for (const char *p = out; (p = strstr(p, "{\"id\":")) != NULL && n < 2 * IDS; p += 6) hits[n++].id = atoi(p + 6);
  aiinfra_string_free(out);
  check_hits(w, -1, false, hits, n);
}

static void step(void)
{
  int w = (int)dice(WORLDS), h = (int)dice(HANDLES), id = (int)dice(IDS);
  switch (dice(20)) {
    case 0:
    case 1:
    case 2:
    case 3: put_row(w, h, id); break;
    case 4:
    case 5:
    case 6:
    case 7:
    case 8: put_named(w, h, id); break;
    case 9: keep_for_ever(w, h, id); break;
    case 10: remove_row(w, h, id); break;
    case 11: clock_ms += (int64_t)dice(30); break;
    case 12:
      if (w > 0 && dice(4) == 0) drop_tenant(w, h);
      break;
    case 13:
      if (dice(4) > 0) break;
      aiinfra_vecstore_free(stores[w][h]);
      open_store(w, h, dice(2) == 0);
      break;
    case 14: check(aiinfra_vecstore_change(stores[w][h], "{\"remove_expired\":{}}", NULL, &err)); break;
    case 15: ask(w, h); break;
    default: look(w, h, (int)dice(KINDS + 1) - 1);
  }
}

/* A copy has all of it: rows of the same worlds, with what they have under names. */
static void check_copy(void)
{
  aiinfra_db *own = dbs[0];
  char *copied;
  check(aiinfra_db_open(rt, test_db("copy.db"), NULL, &dbs[0], &err));
  check(aiinfra_db_copy(own, dbs[0], NULL, &copied, &err));
  aiinfra_string_free(copied);
  for (int w = 0; w < WORLDS; w++) {
    open_store(w, 0, false);
    for (int k = -1; k < KINDS; k++) look(w, 0, k);
    aiinfra_vecstore_free(stores[w][0]);
  }
  check(aiinfra_db_check(dbs[0], &err));
  aiinfra_db_free(dbs[0]);
  dbs[0] = own;
}

static void test_random_work(void **state)
{
  const char *path = test_db("things.db");
  (void)state;
  seed = test_seed();
  aiinfra_db_opts opts = AIINFRA_DB_OPTS_INIT;
  opts.synchronous = -1;
  for (int h = 0; h < HANDLES; h++) check(aiinfra_db_open(rt, path, &opts, &dbs[h], &err));
  for (int w = 0; w < WORLDS; w++) {
    for (int h = 0; h < HANDLES; h++) open_store(w, h, w == 0 && h == 0);
  }
  for (int i = 0; i < STEPS; i++) step();
  char *stats;
  check(aiinfra_db_check(dbs[0], &err));
  check(aiinfra_db_stats(dbs[0], &stats, &err));
  assert_non_null(strstr(stats, "\"tokens\""));
  aiinfra_string_free(stats);
  for (int w = 0; w < WORLDS; w++) {
    for (int h = 0; h < HANDLES; h++) aiinfra_vecstore_free(stores[w][h]);
  }
  check_copy();
  check(aiinfra_vecstore_drop(dbs[0], "things", &err));
  check(aiinfra_db_check(dbs[1], &err));
  check(aiinfra_db_stats(dbs[1], &stats, &err));
  assert_non_null(strstr(stats, "\"collections\":[]"));
  aiinfra_string_free(stats);
  for (int h = 0; h < HANDLES; h++) aiinfra_db_free(dbs[h]);
}

/* A name that came after the tenant had rows: its handles get it with their next write under it. */
static void test_late_name(void **state)
{
  static const float v[DIMS] = {1, 2, 3, 4};
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_vecstore *tenant, *late;
  aiinfra_db *db;
  aiinfra_hit hits[10];
  aiinfra_query q = AIINFRA_QUERY_INIT;
  aiinfra_record r = {5, v, NULL, NULL};
  aiinfra_named_vector n = {5, "late", v, NULL, DIMS};
  size_t found;
  (void)state;
  check(aiinfra_db_open(rt, ":memory:", NULL, &db, &err));
  opts.dims = DIMS;
  opts.tenant = "a";
  check(aiinfra_vecstore_open(db, "things", &opts, &tenant, &err));
  check(aiinfra_vecstore_upsert(tenant, &r, 1, &err));
  assert_int_equal(aiinfra_vecstore_upsert_named(tenant, &n, 1, &err), AIINFRA_EINVAL);
  opts.vectors_json = "{\"late\":{\"dims\":4,\"element\":\"int8\"}}";
  check(aiinfra_vecstore_open(db, "things", &opts, &late, &err));
  q.vector = v;
  q.options_json = "{\"using\":\"late\"}";
  check(aiinfra_vecstore_search(late, &q, hits, 10, &found, &err));
  assert_int_equal(found, 0);
  check(aiinfra_vecstore_upsert_named(late, &n, 1, &err));
  q.k = 1;
  check(aiinfra_vecstore_search(late, &q, hits, 1, &found, &err));
  assert_int_equal(found, 1);
  assert_int_equal(hits[0].id, 5);
  aiinfra_vecstore_free(tenant);
  aiinfra_vecstore_free(late);
  check(aiinfra_db_check(db, &err));
  aiinfra_db_free(db);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_work), cmocka_unit_test(test_late_name)};
  if (aiinfra_runtime_create(NULL, &rt, &err) != AIINFRA_OK) return 1;
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  aiinfra_runtime_free(rt);
  return failed;
}
