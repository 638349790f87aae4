/* test_concurrency_views.c - readers beside one writer, who read rows, words, payloads and vectors under names at once: all of
 * an answer is of one commit.
 *
 * The writer adds batches of rows with all that they have under names in one transaction, removes the oldest ones or lets
 * them expire, and changes the payload of a whole batch. Readers ask in every way that reads more than one vector; an answer
 * must be whole batches (concurrency.h), and each of its hits be found by everything that the query asks for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>
#include <math.h>

#include "concurrency.h"

enum { SMALL = 8, TOKENS = 2, ROOM = 2 * MOST };

static aiinfra_error err;
static aiinfra_runtime *rt;

/* The payload of batch `flagged` has been changed to this flag; or is on its way to the next one. */
static _Atomic int64_t flag, flagging, flagged;

#define SPARSE "\"sparse\":{\"using\":\"words\",\"indices\":[7],\"values\":[1]}"
#define EXAMPLE "[1,0,0.5,0,0,0,0,0,0,0,0,0,0,0,0,0]"

typedef struct kind {
  const char *name, *filter, *text, *options;
  bool vector, grouped;
  int64_t step;
} kind;

static const kind KINDS[] = {
    {"a filter", "{\"even\":true}", NULL, NULL, true, false, 2},
    {"words", NULL, "common", NULL, false, false, 1},
    {"vector and words", NULL, "common", NULL, true, false, 1},
    {"all three", "{\"even\":true}", "common", "{" SPARSE "}", true, false, 2},
    {"a sparse vector", NULL, NULL, "{" SPARSE "}", false, false, 1},
    {"a name", "{\"even\":false}", "common", "{\"using\":\"image\"}", true, false, 2},
    {"several", NULL, "words", "{\"using\":\"tokens\",\"multi\":2," SPARSE "}", true, false, 1},
    {"groups", "{\"even\":true}", NULL, "{\"group\":{\"by\":\"batch\",\"size\":50}}", true, true, 2},
    {"examples", NULL, "common", "{\"recommend\":{\"positive\":[" EXAMPLE "]}}", false, false, 1},
};

static size_t count_of(const char *text, const char *what)
{
  size_t n = 0;
  for (const char *at = text; (at = strstr(at, what)) != NULL; at++) n++;
  return n;
}

/* Each hit was found by all that was asked for, unless its time may have passed in between. */
static bool check_found(reader *r, const kind *k, const aiinfra_hit *hits, size_t n, const char *explain, bool still)
{
  int64_t removing = r->shared->removing;
  bool sparse = k->options != NULL && strstr(k->options, "sparse") != NULL, words = k->text != NULL;
  bool vectors = k->vector || (k->options != NULL && strstr(k->options, "recommend") != NULL);
  for (size_t i = 0; i < n; i++) {
    if (hits[i].id / BATCH < removing) continue;
    EXPECT(!vectors || !isnan(hits[i].vector_score), "%s: row %lld is not found by its vector", k->name,
           (long long)hits[i].id);
    EXPECT(!words || !isnan(hits[i].text_score), "%s: row %lld is not found by its words", k->name,
           (long long)hits[i].id);
  }
  if (!sparse || !still || removing != r->shared->removed) return true;
  size_t n_sparse = count_of(explain, "\"sparse_rank\":");
  EXPECT(n_sparse == n, "%s: %zu of %zu rows are found by their sparse vectors", k->name, n_sparse, n);
  return true;
}

static bool search(reader *r, const kind *k)
{
  shared *s = r->shared;
  aiinfra_query q = AIINFRA_QUERY_INIT;
  float v[DIMS];
  size_t n = 0;
  char *explain = NULL;
  aiinfra_hit *hits = malloc((size_t)ROOM * BATCH * sizeof *hits);
  random_vector(&r->seed, v);
  if (k->vector) q.vector = v;
  q.text = k->text;
  q.filter_json = k->filter;
  q.options_json = k->options;
  q.k = ROOM;
  q.mode = AIINFRA_SEARCH_EXACT;
  q.explain = &explain;
  int64_t removed = s->removed, added = s->added;
  bool still = s->removing == removed;
  aiinfra_status rc = aiinfra_vecstore_search(s->store, &q, hits, (size_t)ROOM * BATCH, &n, NULL);
  bool ok = rc == AIINFRA_OK && (k->grouped || is_sorted(r, hits, n));
  ok = ok && check_whole(r, hits, n, removed, added, k->step) && check_found(r, k, hits, n, explain, still);
  if (rc != AIINFRA_OK) (void)snprintf(r->why, sizeof r->why, "%s: a search failed: %d", k->name, rc);
  aiinfra_string_free(explain);
  free(hits);
  return ok;
}

/* All rows of the batch have the flag, or none has. */
static bool search_flag(reader *r)
{
  aiinfra_query q = AIINFRA_QUERY_INIT;
  aiinfra_hit hits[2 * BATCH];
  char filter[64];
  float v[DIMS];
  size_t n = 0;
  int64_t batch = flagged, wanted = flag;
  bool same = flagging == wanted; /* else `flagged` may be the next one's */
  random_vector(&r->seed, v);
  (void)snprintf(filter, sizeof filter, "{\"flag\":%lld}", (long long)wanted);
  q.vector = v;
  q.k = 2 * BATCH;
  q.filter_json = filter;
  EXPECT(aiinfra_vecstore_search(r->shared->store, &q, hits, 2 * BATCH, &n, NULL) == AIINFRA_OK, "a search failed");
  bool there = wanted > 0 && same && flagging == wanted && batch >= r->shared->removing;
  EXPECT(n == BATCH || (n == 0 && !there), "%zu rows of batch %lld have the flag", n, (long long)batch);
  return true;
}

/* ---- requests in JSON ------------------------------------------------------------------------------------------- */

static bool check_results(reader *r, const json_t *results, int64_t removed, int64_t added, bool still)
{
  aiinfra_hit *hits = calloc(ROOM, sizeof *hits);
  const json_t *a = json_object_get(json_array_get(results, 0), "hits");
  const json_t *b = json_object_get(json_array_get(results, 1), "hits");
  size_t n = json_array_size(a);
  for (size_t i = 0; i < n && i < ROOM; i++) {
    hits[i].id = json_integer_value(json_object_get(json_array_get(a, i), "id"));
  }
  bool ok = check_whole(r, hits, n, removed, added, 2);
  free(hits);
  if (!ok || !still || r->shared->removing != removed) return ok;
  EXPECT(json_equal(a, b), "two equal queries of one request have answers of %zu and %zu rows", n, json_array_size(b));
  return true;
}

/* The same query twice: both see the same rows. */
static bool query(reader *r)
{
  static const char one[] =
      "{\"filter\":{\"even\":true},\"prefetch\":[{\"text\":\"common\",\"limit\":5000},{\"using\":\"words\",\"vector\":"
      "{\"indices\":[7],\"values\":[1]},\"limit\":5000}],\"query\":{\"fusion\":\"rrf\"},\"limit\":2900}";
  shared *s = r->shared;
  char request[1024], *answer = NULL;
  (void)snprintf(request, sizeof request, "{\"searches\":[%s,%s]}", one, one);
  int64_t removed = s->removed, added = s->added;
  bool still = s->removing == removed;
  aiinfra_error why;
  aiinfra_status rc = aiinfra_vecstore_query(s->store, request, &answer, &why);
  EXPECT(rc == AIINFRA_OK, "a query failed: %.100s", why.message);
  json_t *json = json_loads(answer, 0, NULL);
  bool ok = check_results(r, json_object_get(json, "results"), removed, added, still);
  json_decref(json);
  aiinfra_string_free(answer);
  return ok;
}

static bool read_count(reader *r, const char *request, const char *format)
{
  shared *s = r->shared;
  char *answer = NULL;
  long long n = -1;
  int64_t removed = s->removed, added = s->added;
  EXPECT(aiinfra_vecstore_read(s->store, request, &answer, NULL) == AIINFRA_OK, "a count failed");
  bool read = sscanf(answer, format, &n) == 1;
  aiinfra_string_free(answer);
  EXPECT(read && n % BATCH == 0, "%lld rows are counted", n);
  EXPECT(n / BATCH >= (added - s->removing) / 2 - 1 && n / BATCH <= s->adding - removed, "%lld rows are counted", n);
  return true;
}

/* ---- threads ------------------------------------------------------------------------------------------------------ */

static bool read_one(reader *r, size_t at)
{
  if (at < AII_COUNT(KINDS)) return search(r, &KINDS[at]);
  switch (at - AII_COUNT(KINDS)) {
    case 0: return search_flag(r);
    case 1: return query(r);
    case 2: return read_count(r, "{\"count\":{\"filter\":{\"even\":true}}}", "{\"count\":%lld");
    default:
      return read_count(r, "{\"facet\":{\"key\":\"even\",\"filter\":{\"even\":true}}}",
                        "{\"values\":[{\"value\":true,\"count\":%lld");
  }
}

static void *keep_reading(void *arg)
{
  reader *r = arg;
  shared *s = r->shared;
  const struct timespec pause = {0, 200000}; /* a writer on the same core gets its turn */
  while (!s->stop) {
    (void)nanosleep(&pause, NULL);
    size_t at = (size_t)(test_random(&r->seed) % (AII_COUNT(KINDS) + 4));
    s->searches[at]++;
    if (read_one(r, at)) continue;
    s->failed++;
    s->stop = 1;
  }
  return NULL;
}

/* Rows, and what they have under names, in one transaction. */
static void add(shared *s, unsigned long long *seed)
{
  static const char *const names[] = {"image", "tokens", "words"};
  static const uint32_t index = 7;
  static aii_record records[BATCH];
  static aii_named_item items[3 * BATCH];
  static float v[BATCH][DIMS];
  static char payloads[BATCH][64];
  int64_t batch = s->added;
  for (size_t i = 0; i < BATCH; i++) {
    int64_t id = batch * BATCH + (int64_t)i;
    random_vector(seed, v[i]);
    (void)snprintf(payloads[i], sizeof payloads[i], "{\"even\":%s,\"batch\":%lld}", batch % 2 == 0 ? "true" : "false",
                   (long long)batch);
    records[i] = (aii_record){.r = {id, v[i], "common words", payloads[i]}};
    for (size_t j = 0; j < AII_COUNT(names); j++) {
      aiinfra_named_vector named = {id, names[j], v[i], j == 2 ? &index : NULL, j == 2 ? 1 : SMALL};
      if (aii_named_item_make(s->store, &named, &items[3 * i + j], &err) != AIINFRA_OK) fail_msg("%s", err.message);
    }
  }
  s->adding = batch + 1;
  if (aii_named_write(s->store, records, BATCH, items, 3 * BATCH, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  s->added = batch + 1;
  for (size_t i = 0; i < AII_COUNT(items); i++) aii_named_item_free(&items[i]);
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

static void change(shared *s, const char *request)
{
  uint64_t n;
  if (aiinfra_vecstore_change(s->store, request, &n, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  assert_true(n > 0);
}

static void expire(shared *s)
{
  char request[192];
  int64_t batch = s->removed, at_ms = aii_unix_ms() + 5;
  (void)snprintf(request, sizeof request,
                 "{\"set_expiry\":{\"expires_ms\":%lld,\"filter\":{\"batch\":{\"$lt\":%lld}}}}", (long long)at_ms,
                 (long long)(batch + REMOVED));
  s->removing = batch + REMOVED;
  change(s, request);
  while (aii_unix_ms() <= at_ms) (void)nanosleep(&(struct timespec){0, 500000}, NULL);
  s->removed = batch + REMOVED;
}

static void set_flag(shared *s)
{
  char request[160];
  int64_t batch = s->added - 1, next = flag + 1;
  (void)snprintf(request, sizeof request, "{\"set_payload\":{\"payload\":{\"flag\":%lld},\"filter\":{\"batch\":%lld}}}",
                 (long long)next, (long long)batch);
  flagging = next;
  flagged = batch;
  change(s, request);
  flag = next;
}

static void write_some(shared *s, unsigned long long *seed)
{
  for (int64_t i = 0; i < REMOVED; i++) add(s, seed);
  set_flag(s);
  set_flag(s); /* once more, of the same batch */
  if (s->removed / REMOVED % 2 == 0) drop(s);
  else expire(s);
}

static void run(const char *name, uint64_t vector_bytes, uint64_t payload_bytes)
{
  uint64_t end = test_ends_ns();
  aiinfra_db_opts db_opts = AIINFRA_DB_OPTS_INIT;
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_db *db;
  shared s = {.store = NULL};
  reader readers[MAX_READERS];
  uint32_t n_readers = test_readers();
  unsigned long long seed = test_seed();
  long n = 0;
  flag = flagging = flagged = 0;
  db_opts.synchronous = -1;
  opts.dims = DIMS;
  opts.vector_bytes = vector_bytes;
  opts.payload_bytes = payload_bytes;
  opts.ef_construction = 40;
  opts.vectors_json = "{\"image\":{\"dims\":8},\"tokens\":{\"dims\":4,\"multi\":true},\"words\":{\"sparse\":true}}";
  if (aiinfra_db_open(rt, test_tmp(name), &db_opts, &db, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  if (aiinfra_vecstore_open(db, "rows", &opts, &s.store, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  for (int i = 0; i < WINDOW; i++) add(&s, &seed);
  for (uint32_t i = 0; i < n_readers; i++) {
    readers[i] = (reader){.shared = &s, .seed = seed + i + 1};
    assert_int_equal(pthread_create(&readers[i].thread, NULL, keep_reading, &readers[i]), 0);
  }
  while (!s.stop && aii_now_ns() < end) write_some(&s, &seed);
  s.stop = 1;
  for (uint32_t i = 0; i < n_readers; i++) assert_int_equal(pthread_join(readers[i].thread, NULL), 0);
  for (uint32_t i = 0; i < n_readers; i++) {
    if (readers[i].why[0] != '\0') fail_msg("%s: %s", name, readers[i].why);
  }
  for (size_t i = 0; i < AII_COUNT(s.searches); i++) n += s.searches[i];
  printf("%s: %lld batches added, %lld removed, %ld answers\n", name, (long long)s.added, (long long)s.removed, n);
  assert_int_equal(s.failed, 0);
  aiinfra_vecstore_free(s.store);
  aiinfra_db_free(db);
}

static void test_in_memory(void **state)
{
  (void)state;
  run("all in memory", 0, 0);
}

static void test_in_rows(void **state)
{
  (void)state;
  run("all in rows", 1, 1);
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
