/* test_memory_scopes.c - no read crosses a scope: random operations on many scopes of one database, side by side.
 *
 * Every text names the scope it was told to. Whatever a scope returns (items, versions, messages, blocks, exports) may
 * name that scope only, and an id of another scope is as good as none. AIINFRA_MEMORY_OPS=1000000 does a million
 * operations; `make test` does a few thousand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/memory/memory.h"
#include "support/support.h"

enum { SCOPES = 12, MAX_FACTS = 40, IDS = 1 << 21 };

/* Names that share beginnings, and names that look like each other once they are put together. */
static const struct {
  const char *scope, *tenant, *user, *agent, *session;
} NAMES[SCOPES] = {
    {NULL, NULL, NULL, NULL, NULL},
    {"user:ann", NULL, NULL, NULL, NULL},
    {"user:an", NULL, NULL, NULL, NULL},
    {NULL, "t", NULL, NULL, NULL},
    {NULL, NULL, "t", NULL, NULL},
    {NULL, NULL, NULL, "t", NULL},
    {NULL, NULL, NULL, NULL, "t"},
    {NULL, "t", "u", NULL, NULL},
    {NULL, "t\",\"user\":\"u", NULL, NULL, NULL},
    {"default", NULL, "u", NULL, NULL},
    {"{\"tenant\":\"t2\"}", NULL, NULL, NULL, NULL},
    {NULL, "t", "u", "a", "s"},
};

static const char *const WORDS[] = {"cat", "dog", "port", "server", "likes", "music", "green", "secret", "not", "the"};

typedef struct world {
  aiinfra_memory *memory[SCOPES];
  unsigned char *owner; /* of an id, from 1; 0: not given yet */
  int64_t last_id;
  int n_facts[SCOPES];
  unsigned long long seed;
  unsigned long ops, reads, refused;
} world;

static aiinfra_runtime *rt;
static aiinfra_error err;

static unsigned long long dice(world *w, unsigned long long sides)
{
  return test_random(&w->seed) % sides;
}

/* Everything that names a scope names this one. */
static void check_text(world *w, int scope, const char *text)
{
  char own[16];
  snprintf(own, sizeof own, "zone%dx", scope);
  w->reads++;
  for (const char *p = text; (p = strstr(p, "zone")) != NULL; p++) {
    if (strncmp(p, own, strlen(own)) != 0) fail_msg("scope %d was told: %.200s", scope, p);
  }
}

static void make_text(world *w, int scope, char *out, size_t size)
{
  size_t n = (size_t)snprintf(out, size, "zone%dx", scope);
  for (size_t i = 0, k = 1 + (size_t)dice(w, 4); i < k; i++)
    n += (size_t)snprintf(out + n, size - n, " %s", WORDS[dice(w, AII_COUNT(WORDS))]);
}

/* An id of any scope, mostly one that there was. */
static int64_t any_id(world *w)
{
  return w->last_id == 0 ? 1 : w->last_id - (int64_t)dice(w, (unsigned long long)(w->last_id < 300 ? w->last_id : 300));
}

static void own_id(world *w, int scope, int64_t id)
{
  if (id == 0) return;
  assert_true(id < IDS);
  assert_true(w->owner[id] == 0 || w->owner[id] == scope + 1);
  w->n_facts[scope] += w->owner[id] == 0;
  w->owner[id] = (unsigned char)(scope + 1);
  if (id > w->last_id) w->last_id = id;
}

/* A foreign id is none. */
static void check_status(world *w, int scope, int64_t id, aiinfra_status rc)
{
  if (w->owner[id] != scope + 1) {
    w->refused++;
    assert_int_equal(rc, AIINFRA_ENOENT);
  } else if (rc != AIINFRA_OK && rc != AIINFRA_ENOENT && rc != AIINFRA_EEXIST) {
    fail_msg("%s", err.message);
  }
}

static void must(aiinfra_status rc)
{
  if (rc != AIINFRA_OK) fail_msg("%s", err.message);
}

static void take(world *w, int scope, char *text)
{
  check_text(w, scope, text);
  aiinfra_string_free(text);
}

static void change(world *w, int scope)
{
  char text[96];
  int64_t id = 0, old = any_id(w);
  aiinfra_status rc;
  make_text(w, scope, text, sizeof text);
  switch (dice(w, 5)) {
    case 0: rc = aiinfra_memory_revise(w->memory[scope], old, text, NULL, &id, &err); break;
    case 1: rc = aiinfra_memory_supersede(w->memory[scope], old, text, NULL, &id, &err); break;
    case 2: rc = aiinfra_memory_supersede(w->memory[scope], old, NULL, NULL, &id, &err); break;
    case 3: rc = aiinfra_memory_reinforce(w->memory[scope], old, &err); break;
    default: rc = aiinfra_memory_forget(w->memory[scope], old, &err); break;
  }
  check_status(w, scope, old, rc);
  own_id(w, scope, id);
}

static void look(world *w, int scope)
{
  aiinfra_recall_opts recall = AIINFRA_RECALL_OPTS_INIT;
  aiinfra_facts_opts facts = AIINFRA_FACTS_OPTS_INIT;
  char text[96], *out = NULL;
  aiinfra_status rc;
  int64_t id = any_id(w);
  switch (dice(w, 8)) {
    case 0:
      facts.all = (int32_t)dice(w, 2);
      facts.after_id = (int64_t)dice(w, 2) * id;
      must(aiinfra_memory_facts(w->memory[scope], &facts, &out, &err));
      break;
    case 1:
      rc = aiinfra_memory_fact_history(w->memory[scope], id, &out, &err);
      check_status(w, scope, id, rc);
      break;
    case 2: must(aiinfra_memory_history(w->memory[scope], "talk", 5, &out, &err)); break;
    case 3: must(aiinfra_memory_blocks(w->memory[scope], &out, &err)); break;
    default:
      make_text(w, (int)dice(w, SCOPES), text, sizeof text); /* also what only others were told */
      recall.k = 1 + (uint32_t)dice(w, 8);
      recall.kind = (int32_t)dice(w, 2);
      if (dice(w, 4) == 0) recall.as_of_ms = aii_unix_ms() - (int64_t)dice(w, 50);
      if (dice(w, 4) == 0) recall.known_at_ms = aii_unix_ms() - (int64_t)dice(w, 50);
      must(aiinfra_memory_recall(w->memory[scope], text, &recall, &out, &err));
      break;
  }
  if (out != NULL) take(w, scope, out);
}

static void tell(world *w, int scope)
{
  char text[96], message[160];
  int64_t id;
  make_text(w, scope, text, sizeof text);
  switch (dice(w, 6)) {
    case 0:
      snprintf(message, sizeof message, "{\"role\":\"user\",\"content\":\"%s\"}", text);
      must(aiinfra_memory_append(w->memory[scope], "talk", message, &err));
      break;
    case 1: must(aiinfra_memory_set_block(w->memory[scope], WORDS[dice(w, 3)], text, &err)); break;
    default:
      must(aiinfra_memory_remember(w->memory[scope], text, NULL, &id, &err));
      own_id(w, scope, id);
      break;
  }
}

/* Small scopes are quick: one that has grown is exported, then forgotten. */
static void renew(world *w, int scope)
{
  char *out;
  must(aiinfra_memory_export(w->memory[scope], &out, &err));
  take(w, scope, out);
  must(aiinfra_memory_forget_all(w->memory[scope], &err));
  must(aiinfra_memory_export(w->memory[scope], &out, &err));
  assert_string_equal(out, "");
  aiinfra_string_free(out);
  w->n_facts[scope] = 0;
}

static void open_all(world *w, aiinfra_db *db)
{
  for (int i = 0; i < SCOPES; i++) {
    aiinfra_memory_opts opts = AIINFRA_MEMORY_OPTS_INIT;
    opts.scope = NAMES[i].scope;
    opts.tenant = NAMES[i].tenant;
    opts.user = NAMES[i].user;
    opts.agent = NAMES[i].agent;
    opts.session = NAMES[i].session;
    must(aiinfra_memory_open(db, &opts, &w->memory[i], &err));
  }
}

static void test_no_read_crosses(void **state)
{
  const char *wanted = getenv("AIINFRA_MEMORY_OPS");
  unsigned long n = wanted != NULL ? strtoul(wanted, NULL, 10) : 4000;
  world w = {.seed = test_seed()};
  aiinfra_db *db;
  (void)state;
  must(aiinfra_db_open(rt, ":memory:", NULL, &db, &err));
  w.owner = calloc(IDS, 1);
  assert_non_null(w.owner);
  open_all(&w, db);
  for (; w.ops < n; w.ops++) {
    int scope = (int)dice(&w, SCOPES);
    unsigned long long d = dice(&w, 10);
    if (w.n_facts[scope] >= MAX_FACTS) renew(&w, scope);
    else if (d < 4) tell(&w, scope);
    else if (d < 5) change(&w, scope);
    else look(&w, scope);
  }
  printf("%lu operations in %d scopes, %lu texts read, %lu foreign ids refused\n", w.ops, SCOPES, w.reads, w.refused);
  assert_true(w.reads > n / 4 && w.refused > n / 50);
  for (int i = 0; i < SCOPES; i++) aiinfra_memory_free(w.memory[i]);
  assert_int_equal(aiinfra_db_check(db, &err), AIINFRA_OK);
  aiinfra_db_free(db);
  free(w.owner);
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
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_no_read_crosses)};
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
