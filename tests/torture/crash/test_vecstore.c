/* test_vecstore.c - the process dies, the power goes, the disk is full or broken at any write while rows of a collection
 * are written, removed and changed: no committed row is lost, nothing else appears, and the next search is right.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/support.h"
#include "tests/torture/crash/crash.h"

enum { DIMS = 5, IDS = 40, STEPS = 26, MOST = 6 };

/* ---- what should be there ------------------------------------------------------------------------------------- */

typedef struct model {
  int version[IDS]; /* 0: not there */
  int touched[IDS];
} model;

typedef struct step {
  bool removes, changes;
  int n, ids[MOST];
} step;

static step step_of(int at)
{
  unsigned long long seed = (unsigned long long)at * 31 + 5;
  step s = {.removes = at % 5 == 3, .changes = at % 7 == 5, .n = 1 + (int)(test_random(&seed) % MOST)};
  for (int i = 0; i < s.n; i++) s.ids[i] = (int)(test_random(&seed) % IDS);
  return s;
}

/* After the first step, which makes the collection, the others. */
static void play(model *m, int steps)
{
  memset(m, 0, sizeof *m);
  for (int at = 1; at < steps; at++) {
    step s = step_of(at);
    for (int i = 0; i < s.n; i++) {
      if (s.removes) m->version[s.ids[i]] = m->touched[s.ids[i]] = 0;
      else if (s.changes && m->version[s.ids[i]] != 0) m->touched[s.ids[i]] = at;
      else if (!s.changes) m->version[s.ids[i]] = at, m->touched[s.ids[i]] = 0;
    }
  }
}

static void vector_of(int id, int version, float v[DIMS])
{
  unsigned long long seed = (unsigned long long)(id * 1000 + version);
  for (int i = 0; i < DIMS; i++) v[i] = (float)(test_random(&seed) % 2001) / 1000.0f - 1.0f;
  v[0] += 3; /* never zero */
}

/* ---- the process that dies -------------------------------------------------------------------------------------- */

static aiinfra_status upsert(aiinfra_vecstore *store, const step *s, int at)
{
  aiinfra_record records[MOST];
  float v[MOST][DIMS];
  char texts[MOST][32], payloads[MOST][32];
  for (int i = 0; i < s->n; i++) {
    vector_of(s->ids[i], at, v[i]);
    snprintf(texts[i], sizeof texts[i], "item%d version%d", s->ids[i], at);
    snprintf(payloads[i], sizeof payloads[i], "{\"version\":%d}", at);
    records[i] = (aiinfra_record){s->ids[i], v[i], texts[i], payloads[i]};
  }
  return aiinfra_vecstore_upsert(store, records, (size_t)s->n, NULL);
}

static aiinfra_status touch(aiinfra_vecstore *store, const step *s, int at)
{
  char request[256];
  int n = snprintf(request, sizeof request, "{\"set_payload\":{\"payload\":{\"touched\":%d},\"ids\":[", at);
  for (int i = 0; i < s->n; i++)
    n += snprintf(request + n, sizeof request - (size_t)n, "%s%d", i ? "," : "", s->ids[i]);
  snprintf(request + n, sizeof request - (size_t)n, "]}}");
  return aiinfra_vecstore_change(store, request, NULL, NULL);
}

static aiinfra_status apply(aiinfra_vecstore *store, int at)
{
  step s = step_of(at);
  int64_t ids[MOST];
  for (int i = 0; i < s.n; i++) ids[i] = s.ids[i];
  if (s.removes) return aiinfra_vecstore_remove(store, ids, (size_t)s.n, NULL, NULL);
  return s.changes ? touch(store, &s, at) : upsert(store, &s, at);
}

static void work(aiinfra_runtime *rt, const char *path)
{
  aiinfra_db *db = NULL;
  aiinfra_vecstore *store = NULL;
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  opts.dims = DIMS;
  opts.metric = AIINFRA_METRIC_L2;
  aiinfra_status rc = aiinfra_db_open(rt, path, NULL, &db, NULL);
  if (rc == AIINFRA_OK) rc = aiinfra_vecstore_open(db, "things", &opts, &store, NULL);
  bool on = crash_done(0, rc);
  for (int at = 1; on && at < STEPS; at++) {
    on = crash_done(at, apply(store, at));
    if (!on) on = crash_done(at, apply(store, at)); /* what failed once may be tried again */
  }
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db); /* writes the log into the file: a place to die, too */
}

/* ---- what is left -------------------------------------------------------------------------------------------------- */

static const char *why_rows(const model *m, const json_t *rows)
{
  size_t i, n = 0;
  const json_t *row;
  for (int id = 0; id < IDS; id++) n += m->version[id] != 0;
  if (json_array_size(rows) != n) return "another number of rows";
  json_array_foreach((json_t *)(uintptr_t)rows, i, row)
  {
    json_int_t id = json_integer_value(json_object_get(row, "id"));
    const json_t *payload = json_object_get(row, "payload");
    char text[32];
    if (id < 0 || id >= IDS || m->version[id] == 0) return "a row that is not to be there";
    snprintf(text, sizeof text, "item%d version%d", (int)id, m->version[id]);
    if (strcmp(json_string_value(json_object_get(row, "text")), text) != 0) return "another text";
    if (json_integer_value(json_object_get(payload, "version")) != m->version[id]) return "another payload";
    if (json_integer_value(json_object_get(payload, "touched")) != m->touched[id]) return "another change of a payload";
  }
  return NULL;
}

/* The nearest by comparing with all, against the nearest that is found. */
static const char *why_search(const model *m, aiinfra_vecstore *store, int seed)
{
  float q[DIMS], v[DIMS], best = INFINITY;
  aiinfra_query query = AIINFRA_QUERY_INIT;
  aiinfra_hit hits[IDS];
  size_t n, there = 0;
  int nearest = -1;
  vector_of(seed, 9999, q);
  for (int id = 0; id < IDS; id++) {
    float dist = 0;
    if (m->version[id] == 0) continue;
    vector_of(id, m->version[id], v);
    for (int i = 0; i < DIMS; i++) dist += (q[i] - v[i]) * (q[i] - v[i]);
    if (dist < best) best = dist, nearest = id;
    there++;
  }
  query.vector = q;
  query.k = IDS;
  query.mode = seed % 2 ? AIINFRA_SEARCH_GRAPH : AIINFRA_SEARCH_AUTO;
  if (aiinfra_vecstore_search(store, &query, hits, IDS, &n, NULL) != AIINFRA_OK) return "the search fails";
  if (n != there) return "the search finds another number of rows";
  if (n > 0 && (hits[0].id != nearest || fabsf(hits[0].score + best) > 1e-4f))
    return "the search finds another row first";
  return NULL;
}

static const char *why_words(const model *m, aiinfra_vecstore *store)
{
  aiinfra_query query = AIINFRA_QUERY_INIT;
  aiinfra_hit hits[2];
  size_t n;
  for (int id = 0; id < IDS; id++) {
    char text[16];
    snprintf(text, sizeof text, "item%d", id);
    query.text = text;
    query.k = 2;
    if (aiinfra_vecstore_search(store, &query, hits, 2, &n, NULL) != AIINFRA_OK) return "a search by words fails";
    if (n != (m->version[id] != 0) || (n == 1 && hits[0].id != id)) return "a search by words finds something else";
  }
  return NULL;
}

static const char *why_store(aiinfra_vecstore *store, int steps)
{
  model m;
  char *text = NULL;
  const char *why;
  play(&m, steps);
  if (aiinfra_vecstore_read(store, "{\"scroll\":{\"limit\":1000}}", &text, NULL) != AIINFRA_OK)
    return "rows cannot be read";
  json_t *json = json_loads(text, 0, NULL);
  why = why_rows(&m, json_object_get(json, "rows"));
  json_decref(json);
  aiinfra_string_free(text);
  for (int i = 0; why == NULL && i < 3; i++) why = why_search(&m, store, i);
  return why != NULL ? why : why_words(&m, store);
}

static int holds(aiinfra_runtime *rt, const char *path, int steps, int loud)
{
  aiinfra_db *db = NULL;
  aiinfra_vecstore *store = NULL;
  aiinfra_error err = {.message = ""};
  const char *why = NULL;
  aiinfra_status rc = aiinfra_db_open(rt, path, NULL, &db, &err);
  if (rc == AIINFRA_OK) rc = aiinfra_db_check(db, &err);
  if (rc == AIINFRA_OK) {
    rc = aiinfra_vecstore_open(db, "things", NULL, &store, &err);
    if (rc == AIINFRA_ENOENT && steps == 0) rc = AIINFRA_OK;
    else if (rc == AIINFRA_OK && steps == 0) why = "a collection before its time";
  }
  if (rc != AIINFRA_OK) why = err.message;
  else if (store != NULL && why == NULL) why = why_store(store, steps);
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
  if (why != NULL && loud) fprintf(stderr, "not as after %d steps: %s\n", steps, why);
  return why == NULL;
}

static void test_vecstore(void **state)
{
  const crash_scenario s = {"crash.vecstore", STEPS, work, holds, 25};
  (void)state;
  assert_int_equal(crash_run(&s), 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_vecstore)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
