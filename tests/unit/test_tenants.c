/* test_tenants.c - no call crosses a tenant's wall: random operations on many tenants of two collections, side by side, with
 * the same ids; then how tenants are listed and dropped, and how whole collections are.
 *
 * Every text and payload names the world it was told to. Whatever a handle returns may name that world only.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/vector/vector.h"
#include "support/support.h"

enum { WORLDS = 9, IDS = 40, DIMS = 3, STEPS = 1500 };

/* Names that share beginnings, and names that look like each other once they are put together. */
static const struct {
  const char *collection, *tenant;
} NAMES[WORLDS] = {
    {"things", NULL},
    {"things", "a"},
    {"things", "aa"},
    {"things", "a/b"},
    {"things", "'; DROP TABLE rows; --"},
    {"things/a", NULL},
    {"things/a", "b"},
    {"things", "@tenant/1/a"},
    {"things", "\xC3\xA4"},
};

typedef struct world {
  aiinfra_db *db[2];
  aiinfra_vecstore *store[WORLDS][2];
  bool there[WORLDS][IDS];
  unsigned long long seed;
} world;

static aiinfra_runtime *rt;
static aiinfra_error err;

static unsigned long long dice(world *w, unsigned long long sides)
{
  return test_random(&w->seed) % sides;
}

static aiinfra_vecstore *must_open(aiinfra_db *db, const char *name, const char *tenant)
{
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_vecstore *store;
  opts.dims = DIMS;
  opts.metric = AIINFRA_METRIC_L2;
  opts.tenant = tenant;
  opts.snapshot = 1;
  if (aiinfra_vecstore_open(db, name, &opts, &store, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return store;
}

static aiinfra_db *must_open_db(const char *path)
{
  aiinfra_db *db;
  aiinfra_db_opts opts = AIINFRA_DB_OPTS_INIT;
  opts.synchronous = -1;
  if (aiinfra_db_open(rt, path, &opts, &db, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return db;
}

static size_t living(const world *w, int at)
{
  size_t n = 0;
  for (int id = 0; id < IDS; id++) n += w->there[at][id];
  return n;
}

static char *ask(aiinfra_vecstore *store, const char *request)
{
  char *text;
  if (aiinfra_vecstore_read(store, request, &text, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return text;
}

static void expect(aiinfra_vecstore *store, const char *request, const char *want)
{
  char *text = ask(store, request);
  if (strcmp(text, want) != 0) fail_msg("%s\n  gives %s\n  not   %s", request, text, want);
  aiinfra_string_free(text);
}

static uint64_t change(aiinfra_vecstore *store, const char *request)
{
  uint64_t n;
  if (aiinfra_vecstore_change(store, request, &n, &err) != AIINFRA_OK) fail_msg("%s: %s", request, err.message);
  return n;
}

static uint64_t count(aiinfra_vecstore *store)
{
  uint64_t n;
  if (aiinfra_vecstore_count(store, &n, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return n;
}

/* Everything that names a world names this one. */
static size_t check_text(int at, char *text)
{
  char own[32];
  size_t n = 0;
  snprintf(own, sizeof own, "zone%dx", at);
  for (const char *p = text; (p = strstr(p, "zone")) != NULL; p++, n++) {
    if (strncmp(p, own, strlen(own)) != 0) fail_msg("world %d was told: %.200s", at, p);
  }
  aiinfra_string_free(text);
  return n;
}

/* ---- random work ------------------------------------------------------------------------------------------------ */

static void put(world *w, int at, aiinfra_vecstore *store)
{
  char text[64], payload[64];
  int64_t id = (int64_t)dice(w, IDS);
  float v[DIMS] = {(float)at, (float)dice(w, 100), 1};
  snprintf(text, sizeof text, "zone%dx fox", at);
  snprintf(payload, sizeof payload, "{\"home\":\"zone%dx\"}", at);
  aiinfra_record r = {id, v, text, payload};
  if (aiinfra_vecstore_upsert(store, &r, 1, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  w->there[at][id] = true;
}

static void take(world *w, int at, aiinfra_vecstore *store)
{
  int64_t ids[2] = {(int64_t)dice(w, IDS), 100};
  size_t n;
  assert_int_equal(aiinfra_vecstore_remove(store, ids, 2, &n, &err), AIINFRA_OK);
  assert_int_equal(n, w->there[at][ids[0]]);
  w->there[at][ids[0]] = false;
}

static void search(world *w, int at, aiinfra_vecstore *store)
{
  aiinfra_query q = AIINFRA_QUERY_INIT;
  aiinfra_hit hits[IDS];
  float v[DIMS] = {(float)dice(w, WORLDS), 50, 1};
  char text[32], filter[64];
  int asked = (int)dice(w, WORLDS); /* also for what only others were told */
  size_t n, want = asked == at ? living(w, at) : 0;
  snprintf(text, sizeof text, "zone%dx", asked);
  snprintf(filter, sizeof filter, "{\"home\":\"zone%dx\"}", asked);
  q.k = IDS;
  q.mode = (int32_t)dice(w, 3);
  switch (dice(w, 3)) {
    case 0: q.text = text; break;
    case 1:
      q.vector = v;
      q.filter_json = filter;
      break;
    default: q.vector = v; want = living(w, at);
  }
  if (aiinfra_vecstore_search(store, &q, hits, IDS, &n, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  assert_int_equal(n, want);
  for (size_t i = 0; i < n; i++) assert_true(w->there[at][hits[i].id]);
}

static void look(world *w, int at, aiinfra_vecstore *store)
{
  char want[80];
  size_t n = living(w, at);
  assert_int_equal(check_text(at, ask(store, "{\"scroll\":{\"limit\":1000}}")), 2 * n);
  if (n == 0) snprintf(want, sizeof want, "{\"values\":[]}");
  else snprintf(want, sizeof want, "{\"values\":[{\"value\":\"zone%dx\",\"count\":%zu}]}", at, n);
  expect(store, "{\"facet\":{\"key\":\"home\"}}", want);
  snprintf(want, sizeof want, "{\"count\":%zu}", n);
  expect(store, "{\"count\":{\"filter\":{\"home\":{\"$ne\":\"none\"}}}}", want);
  assert_int_equal(count(store), n);
  for (int id = 0; id < IDS; id++) {
    char *text = NULL;
    aiinfra_status rc = aiinfra_vecstore_get(store, id, &text, NULL, &err);
    assert_int_equal(rc, w->there[at][id] ? AIINFRA_OK : AIINFRA_ENOENT);
    if (rc == AIINFRA_OK) check_text(at, text);
  }
}

/* Changes of all rows are those of the world's rows. */
static void change_all(world *w, int at, aiinfra_vecstore *store)
{
  size_t n = living(w, at);
  assert_int_equal(change(store, "{\"set_payload\":{\"payload\":{\"seen\":1},\"filter\":{}}}"), n);
  assert_int_equal(change(store, "{\"delete_payload\":{\"keys\":[\"seen\"],\"filter\":{\"seen\":1}}}"), n);
  assert_int_equal(change(store, "{\"set_expiry\":{\"ttl_s\":100000,\"ids\":[0,1,2]}}"),
                   w->there[at][0] + w->there[at][1] + w->there[at][2]);
  if (dice(w, 3) > 0) return;
  assert_int_equal(change(store, "{\"delete\":{\"filter\":{}}}"), n);
  memset(w->there[at], 0, sizeof w->there[at]);
}

/* Out and back in: nobody else's rows come along. */
static void copy(world *w, int at, aiinfra_vecstore *store)
{
  char path[512];
  uint64_t n;
  snprintf(path, sizeof path, "%s", test_tmp("world.jsonl"));
  if (aiinfra_vecstore_export(store, path, NULL, &n, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  assert_int_equal(n, living(w, at));
  char *text = test_read_file(path, NULL), *own = aii_export_string(&rt->mem, text, strlen(text));
  free(text);
  assert_int_equal(check_text(at, own), 2 * n);
  if (n == 0) return;
  if (aiinfra_vecstore_import(store, path, NULL, &n, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  assert_int_equal(count(store), n);
}

/* All that a tenant has goes, while handles of it are open. */
static void drop(world *w, int at)
{
  char request[120];
  int parent = strcmp(NAMES[at].collection, "things") == 0 ? 0 : 5;
  if (NAMES[at].tenant == NULL) return;
  snprintf(request, sizeof request, "{\"drop_tenant\":{\"tenant\":\"%s\"}}", NAMES[at].tenant);
  assert_int_equal(change(w->store[parent][dice(w, 2)], request), living(w, at));
  memset(w->there[at], 0, sizeof w->there[at]);
}

static void work(world *w)
{
  int at = (int)dice(w, WORLDS), side = (int)dice(w, 2);
  aiinfra_vecstore **store = &w->store[at][side];
  switch (dice(w, 20)) {
    case 0: take(w, at, *store); break;
    case 1: look(w, at, *store); break;
    case 2: change_all(w, at, *store); break;
    case 3: copy(w, at, *store); break;
    case 4:
      if (dice(w, 3) == 0) drop(w, at);
      break;
    case 5:
      aiinfra_vecstore_free(*store);
      *store = must_open(w->db[side], NAMES[at].collection, NAMES[at].tenant);
      break;
    case 6:
    case 7:
    case 8:
    case 9: search(w, at, *store); break;
    default: put(w, at, *store); break;
  }
}

static void test_walls(void **state)
{
  static world w;
  (void)state;
  w.seed = test_seed();
  for (int side = 0; side < 2; side++) w.db[side] = must_open_db(test_tmp("walls.db"));
  for (int at = 0; at < WORLDS; at++) {
    for (int side = 0; side < 2; side++)
      w.store[at][side] = must_open(w.db[side], NAMES[at].collection, NAMES[at].tenant);
  }
  for (int step = 0; step < STEPS; step++) {
    work(&w);
    if (step % 300 == 0 && aiinfra_db_check(w.db[0], &err) != AIINFRA_OK) fail_msg("%s", err.message);
  }
  for (int at = 0; at < WORLDS; at++) {
    for (int side = 0; side < 2; side++) {
      look(&w, at, w.store[at][side]);
      aiinfra_vecstore_free(w.store[at][side]);
    }
  }
  for (int side = 0; side < 2; side++) aiinfra_db_free(w.db[side]);
}

/* ---- in detail -------------------------------------------------------------------------------------------------- */

static void put_text(aiinfra_vecstore *store, int64_t id, const char *text)
{
  static const float v[DIMS] = {1, 2, 3};
  aiinfra_record r = {id, v, text, NULL};
  if (aiinfra_vecstore_upsert(store, &r, 1, &err) != AIINFRA_OK) fail_msg("%s", err.message);
}

static float score_of(aiinfra_vecstore *store, const char *word)
{
  aiinfra_query q = AIINFRA_QUERY_INIT;
  aiinfra_hit hits[10];
  size_t n;
  q.text = word;
  assert_int_equal(aiinfra_vecstore_search(store, &q, hits, 10, &n, &err), AIINFRA_OK);
  assert_true(n > 0);
  return hits[0].text_score;
}

/* How rare a word is for one tenant says nothing of what another one wrote. */
static void test_statistics(void **state)
{
  (void)state;
  aiinfra_db *db = must_open_db(":memory:");
  aiinfra_vecstore *a = must_open(db, "things", "a"), *b = must_open(db, "things", "b");
  put_text(a, 1, "fox");
  put_text(a, 2, "hare and bear");
  float before = score_of(a, "fox");
  for (int64_t id = 0; id < 50; id++) put_text(b, id, "fox fox fox and more");
  assert_true(score_of(a, "fox") == before);
  aiinfra_vecstore_free(a);
  aiinfra_vecstore_free(b);
  aiinfra_db_free(db);
}

static void test_list(void **state)
{
  char *stats;
  (void)state;
  aiinfra_db *db = must_open_db(":memory:");
  aiinfra_vecstore *all = must_open(db, "things", NULL), *b = must_open(db, "things", "b\"");
  aiinfra_vecstore *a = must_open(db, "things", "a"), *c = must_open(db, "things", "c");
  assert_int_equal(count(c), 0); /* reading makes nothing */
  expect(all, "{\"tenants\":{}}", "{\"tenants\":[],\"next\":null}");
  put_text(b, 1, "x");
  put_text(a, 1, "x");
  put_text(a, 2, "x");
  put_text(c, 7, "x");
  expect(
      all, "{\"tenants\":{}}",
      "{\"tenants\":[{\"tenant\":\"a\",\"count\":2},{\"tenant\":\"b\\\"\",\"count\":1},{\"tenant\":\"c\",\"count\":1}],"
      "\"next\":null}");
  expect(all, "{\"tenants\":{\"limit\":2}}",
         "{\"tenants\":[{\"tenant\":\"a\",\"count\":2},{\"tenant\":\"b\\\"\",\"count\":1}],\"next\":\"b\\\"\"}");
  expect(all, "{\"tenants\":{\"after\":\"b\\\"\",\"limit\":1}}",
         "{\"tenants\":[{\"tenant\":\"c\",\"count\":1}],\"next\":null}");
  assert_int_equal(change(a, "{\"set_expiry\":{\"expires_ms\":1,\"ids\":[1]}}"), 1);
  expect(all, "{\"tenants\":{\"limit\":1}}", "{\"tenants\":[{\"tenant\":\"a\",\"count\":1}],\"next\":\"a\"}");
  assert_int_equal(aiinfra_vecstore_read(a, "{\"tenants\":{}}", &stats, &err),
                   AIINFRA_EINVAL); /* not a tenant's to know */
  assert_int_equal(aiinfra_vecstore_change(a, "{\"drop_tenant\":{\"tenant\":\"b\\\"\"}}", NULL, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_vecstore_change(all, "{\"drop_tenant\":{}}", NULL, &err), AIINFRA_EINVAL);
  assert_int_equal(change(all, "{\"drop_tenant\":{\"tenant\":\"nobody\"}}"), 0);
  assert_int_equal(aiinfra_db_stats(db, &stats, &err), AIINFRA_OK);
  assert_non_null(strstr(stats, "{\"name\":\"things\",\"tenant\":null,\"dims\":3,\"rows\":0,"));
  assert_non_null(strstr(stats, "{\"name\":\"things\",\"tenant\":\"b\\\"\",\"dims\":3,\"rows\":1,"));
  aiinfra_string_free(stats);
  assert_int_equal(aiinfra_db_describe(db, &stats, &err), AIINFRA_OK);
  assert_non_null(strstr(stats, "\"collections\":1,"));
  aiinfra_string_free(stats);
  aiinfra_vecstore *stores[] = {all, a, b, c};
  for (size_t i = 0; i < AII_COUNT(stores); i++) aiinfra_vecstore_free(stores[i]);
  aiinfra_db_free(db);
}

static void test_names(void **state)
{
  static const char *const bad[] = {"", "\xFF"};
  char longest[130];
  aiinfra_vecstore *store;
  (void)state;
  memset(longest, 'x', sizeof longest);
  longest[129] = '\0';
  aiinfra_db *db = must_open_db(":memory:");
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  opts.dims = DIMS;
  for (size_t i = 0; i < 3; i++) {
    opts.tenant = i < 2 ? bad[i] : longest;
    assert_int_equal(aiinfra_vecstore_open(db, "things", &opts, &store, &err), AIINFRA_EINVAL);
    assert_null(store);
  }
  opts.tenant = longest + 1;
  assert_int_equal(aiinfra_vecstore_open(db, "things", &opts, &store, &err), AIINFRA_OK);
  aiinfra_vecstore_free(store);
  opts.dims = 0;
  opts.tenant = "a";
  assert_int_equal(aiinfra_vecstore_open(db, "others", &opts, &store, &err), AIINFRA_ENOENT);
  assert_int_equal(aiinfra_vecstore_open(db, "@tenant/1/a", &opts, &store, &err), AIINFRA_EINVAL);
  aiinfra_db_free(db);
}

static int graphs(const char *prefix)
{
  int n = 0;
  DIR *dir = opendir(test_tmp_dir());
  for (struct dirent *e; (e = readdir(dir)) != NULL;)
    n += strncmp(e->d_name, prefix, strlen(prefix)) == 0 && strstr(e->d_name, ".ann") != NULL;
  closedir(dir);
  return n;
}

static void must_be_gone(aiinfra_vecstore *store)
{
  static const float v[DIMS] = {1, 2, 3};
  aiinfra_record r = {1, v, NULL, NULL};
  aiinfra_query q = AIINFRA_QUERY_INIT;
  aiinfra_hit hits[10];
  uint64_t count_of;
  size_t n;
  q.vector = v;
  assert_int_equal(aiinfra_vecstore_upsert(store, &r, 1, &err), AIINFRA_ENOENT);
  assert_int_equal(aiinfra_vecstore_search(store, &q, hits, 10, &n, &err), AIINFRA_ENOENT);
  q.vector = NULL;
  q.text = "x";
  assert_int_equal(aiinfra_vecstore_search(store, &q, hits, 10, &n, &err), AIINFRA_ENOENT);
  assert_int_equal(aiinfra_vecstore_count(store, &count_of, &err), AIINFRA_ENOENT);
  assert_non_null(strstr(err.message, "gone"));
}

/* A collection goes with all that belongs to it; a new one of its name is another one. */
static void test_drop(void **state)
{
  (void)state;
  aiinfra_db *db = must_open_db(test_tmp("drop.db"));
  aiinfra_vecstore *old = must_open(db, "things", NULL), *tenant = must_open(db, "things", "a");
  aiinfra_vecstore *other = must_open(db, "others", NULL);
  for (int64_t id = 0; id < 20; id++) {
    put_text(old, id, "x");
    put_text(tenant, id, "x");
    put_text(other, id, "x");
  }
  aiinfra_vecstore *stores[] = {old, tenant, other};
  for (size_t i = 0; i < 3; i++) {
    aiinfra_query q = AIINFRA_QUERY_INIT;
    aiinfra_hit hits[10];
    size_t n;
    q.vector = (const float[DIMS]){1, 2, 3};
    q.mode = AIINFRA_SEARCH_GRAPH;
    assert_int_equal(aiinfra_vecstore_search(stores[i], &q, hits, 10, &n, &err), AIINFRA_OK);
    aiinfra_vecstore_free(stores[i]); /* writes its graph */
  }
  assert_int_equal(graphs("drop.db"), 3);
  old = must_open(db, "things", NULL);
  tenant = must_open(db, "things", "a");
  assert_int_equal(count(old), 20);
  assert_int_equal(count(tenant), 20);
  if (aiinfra_vecstore_drop(db, "things", &err) != AIINFRA_OK) fail_msg("%s", err.message);
  assert_int_equal(graphs("drop.db"), 1);
  assert_int_equal(aiinfra_vecstore_drop(db, "things", &err), AIINFRA_ENOENT);
  assert_int_equal(aiinfra_vecstore_drop(db, "@memory/x", &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_db_check(db, &err), AIINFRA_OK);
  aiinfra_vecstore *new = must_open(db, "things", NULL);
  put_text(new, 1, "y");
  must_be_gone(old);
  assert_int_equal(count(tenant), 0);
  assert_int_equal(
      aiinfra_vecstore_upsert(tenant, &(aiinfra_record){1, (const float[DIMS]){1, 2, 3}, NULL, NULL}, 1, &err),
      AIINFRA_ENOENT);
  assert_int_equal(count(new), 1);
  aiinfra_vecstore_free(old);
  aiinfra_vecstore_free(tenant);
  aiinfra_vecstore_free(new);
  other = must_open(db, "others", NULL);
  assert_int_equal(count(other), 20);
  aiinfra_vecstore_free(other);
  assert_int_equal(graphs("drop.db"), 1);
  assert_int_equal(aiinfra_db_check(db, &err), AIINFRA_OK);
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
      cmocka_unit_test(test_walls), cmocka_unit_test(test_statistics), cmocka_unit_test(test_list),
      cmocka_unit_test(test_names), cmocka_unit_test(test_drop),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
