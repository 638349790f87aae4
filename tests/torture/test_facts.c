/* test_facts.c - memory and the disk fail while facts are told, corrected, moved and forgotten, and answers cached. */
#include "tests/torture/store.h"

static aiinfra_status change_facts(store *s, int64_t *last)
{
  aiinfra_recall_opts then = AIINFRA_RECALL_OPTS_INIT;
  char *text = NULL, *story = NULL;
  int64_t first = 0, second = 0;
  aiinfra_status rc = aiinfra_memory_remember(s->memory, "I don't live in Porto.", "{\"k\":1}", &first, NULL);
  if (rc == AIINFRA_OK)
    rc = told(aiinfra_memory_add_fact(s->memory, "I do not live in Porto", NULL, &text, NULL), &text, "near");
  if (rc == AIINFRA_OK) rc = aiinfra_memory_revise(s->memory, first, "I live in Faro", NULL, &second, NULL);
  if (rc == AIINFRA_OK) rc = aiinfra_memory_supersede(s->memory, second, "I live in Lisbon", NULL, last, NULL);
  if (rc == AIINFRA_OK) rc = aiinfra_memory_reinforce(s->memory, *last, NULL);
  then.as_of_ms = 4102444800000;
  then.filter_json = "{\"kind\":\"fact\",\"metadata.k\":{\"$gte\":1}}";
  then.explain = &story;
  if (rc == AIINFRA_OK) {
    rc = told(aiinfra_memory_recall(s->memory, "Where do I live?", &then, &text, NULL), &text, "Lisbon");
    (void)told(rc, &story, "searches");
  }
  if (rc == AIINFRA_OK) rc = told(aiinfra_memory_fact_history(s->memory, first, &text, NULL), &text, "revised");
  if (rc == AIINFRA_OK) rc = told(aiinfra_memory_facts(s->memory, NULL, &text, NULL), &text, "Lisbon");
  return rc;
}

static aiinfra_status move_facts(store *s)
{
  char *lines = NULL;
  uint64_t n = 0;
  aiinfra_status rc = torture_made(aiinfra_memory_export(s->memory, &lines, NULL), &lines, "export");
  if (rc == AIINFRA_OK) s->other = open_memory(s->db, "bob", &rc);
  if (rc == AIINFRA_OK) rc = aiinfra_memory_import(s->other, lines, strlen(lines), &n, NULL);
  if (rc == AIINFRA_OK) torture_check(n == 3, "every version was taken in");
  aiinfra_string_free(lines);
  return rc;
}

static aiinfra_status facts(void *ctx)
{
  store s;
  int64_t last = 0;
  char *text = NULL;
  aiinfra_status rc = open_store(&s, ctx);
  if (rc == AIINFRA_OK) rc = change_facts(&s, &last);
  if (rc == AIINFRA_OK) rc = move_facts(&s);
  if (rc == AIINFRA_OK) rc = aiinfra_memory_forget(s.memory, last, NULL);
  if (rc == AIINFRA_OK) {
    rc = told(aiinfra_memory_export(s.memory, &text, NULL), &text, NULL);
    if (rc == AIINFRA_OK) rc = aiinfra_memory_expire(s.other, NULL, NULL);
  }
  if (rc == AIINFRA_OK) rc = aiinfra_memory_forget_all(s.other, NULL);
  close_store(&s);
  return rc;
}

static aiinfra_status cache(void *ctx)
{
  static const char ask[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"What is the capital of Peru?\"}]}",
                    again[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"what's the capital of Peru\"}]}";
  aiinfra_cache_query query = AIINFRA_CACHE_QUERY_INIT;
  store s;
  char *text = NULL;
  int64_t id = 0;
  aiinfra_status rc = open_store(&s, ctx);
  query.request_json = ask;
  if (rc == AIINFRA_OK) rc = torture_made(aiinfra_cache_open(s.db, NULL, &s.cache, NULL), &s.cache, "cache_open");
  if (rc == AIINFRA_OK) rc = aiinfra_cache_store(s.cache, &query, "{\"answer\":\"Lima\"}", &id, NULL);
  if (rc == AIINFRA_OK) rc = told(aiinfra_cache_lookup(s.cache, &query, &text, NULL), &text, "exact");
  query.request_json = again;
  if (rc == AIINFRA_OK) rc = told(aiinfra_cache_lookup(s.cache, &query, &text, NULL), &text, "semantic");
  if (rc == AIINFRA_OK) rc = aiinfra_cache_report_false(s.cache, id, &query, NULL);
  if (rc == AIINFRA_OK) rc = told(aiinfra_cache_lookup(s.cache, &query, &text, NULL), &text, "\"hit\":false");
  if (rc == AIINFRA_OK) rc = told(aiinfra_cache_stats(s.cache, &text, NULL), &text, "\"false_hits\":1");
  if (rc == AIINFRA_OK) rc = aiinfra_cache_clear(s.cache, NULL, NULL, NULL);
  close_store(&s);
  return rc;
}

/* What was written while the disk failed must still be a database. */
static aiinfra_status on_disk(void *ctx)
{
  aiinfra_status rc = facts(ctx);
  if (rc == AIINFRA_OK) rc = cache(ctx);
  store s;
  torture_pause("look at what is left");
  if (open_store(&s, ctx) == AIINFRA_OK)
    torture_check(aiinfra_db_check(s.db, NULL) == AIINFRA_OK, "the database is sound");
  else torture_check(false, "the database opens again");
  close_store(&s);
  remove_files(ctx);
  torture_resume();
  return rc;
}

static void memory_fails(void **state)
{
  (void)state;
  static const torture_opts opts = {.max_calls = 120};
  assert_int_equal(torture_run("facts.memory", facts, (void *)":memory:", &opts), 0);
  assert_int_equal(torture_run("cache.memory", cache, (void *)":memory:", &opts), 0);
}

static void the_disk_fails(void **state)
{
  static const aiinfra_status also[] = {AIINFRA_EFORMAT};
  const torture_opts opts = {.sources = TORTURE_IO, .allowed = also, .n_allowed = 1, .max_calls = 30};
  char path[512];
  (void)state;
  snprintf(path, sizeof path, "%s", test_tmp("torture.db"));
  assert_int_equal(torture_run("facts.disk", on_disk, path, &opts), 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(memory_fails), cmocka_unit_test(the_disk_fails)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
