/* test_care.c - a memory cared for as a host does it: blocks with limits, facts brought together, conversations in short. */
#include "facts.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_int_t number(const json_t *object, const char *key)
{
  const json_t *value = json_object_get(object, key);
  assert_true(json_is_integer(value));
  return json_integer_value(value);
}

static int64_t tell(aiinfra_memory *memory, const char *text, float trust, int64_t from)
{
  aiinfra_fact_opts opts = AIINFRA_FACT_OPTS_INIT;
  char *out;
  opts.trust = trust;
  opts.valid_from_ms = from;
  opts.keep_near = 1;
  must(aiinfra_memory_add_fact(memory, text, &opts, &out, &err));
  json_t *told = parse(out);
  int64_t id = number(told, "id");
  json_decref(told);
  return id;
}

static json_t *consolidate(aiinfra_memory *memory, const aiinfra_consolidate_opts *opts)
{
  char *text;
  must(aiinfra_memory_consolidate(memory, opts, &text, &err));
  return parse(text);
}

/* The texts of the current facts, with "|" between. */
static const char *current(aiinfra_memory *memory)
{
  static char all[2048];
  char *text;
  must(aiinfra_memory_facts(memory, NULL, &text, &err));
  json_t *facts = parse(text);
  all[0] = '\0';
  for (size_t i = 0; i < json_array_size(facts); i++) {
    const char *s = json_string_value(json_object_get(json_array_get(facts, i), "text"));
    snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i > 0 ? "|" : "", s);
  }
  json_decref(facts);
  return all;
}

/* ---- blocks ------------------------------------------------------------------------------------------------------- */

static aiinfra_status edit(aiinfra_memory *memory, const char *label, const char *find, const char *text, char **out)
{
  aiinfra_block_edit e = AIINFRA_BLOCK_EDIT_INIT;
  e.find = find;
  e.text = text;
  e.by_agent = 1;
  return aiinfra_memory_edit_block(memory, label, &e, out, &err);
}

static void test_blocks(void **state)
{
  aiinfra_memory *memory = must_open("blocks");
  aiinfra_block_opts opts = AIINFRA_BLOCK_OPTS_INIT;
  char *text;
  (void)state;
  opts.description = "What is known of the user.";
  opts.limit_bytes = 40;
  must(aiinfra_memory_define_block(memory, "user", &opts, &err));
  assert_int_equal(edit(memory, "task", NULL, "x", NULL), AIINFRA_ENOENT);
  must(edit(memory, "user", NULL, "Likes tea.", &text));
  assert_string_equal(text, "Likes tea.");
  aiinfra_string_free(text);
  must(edit(memory, "user", NULL, "Lives in Rome.", &text));
  assert_string_equal(text, "Likes tea.\nLives in Rome.");
  aiinfra_string_free(text);
  must(edit(memory, "user", "tea", "coffee", &text));
  assert_string_equal(text, "Likes coffee.\nLives in Rome.");
  aiinfra_string_free(text);
  assert_int_equal(edit(memory, "user", "i", "y", &text), AIINFRA_EINVAL);
  assert_non_null(strstr(err.message, "more than once"));
  assert_int_equal(edit(memory, "user", "Paris", "Oslo", &text), AIINFRA_EINVAL);
  assert_int_equal(edit(memory, "user", NULL, "Has a dog and two cats.", &text), AIINFRA_ELIMIT);
  assert_null(text);
  must(edit(memory, "user", "Likes coffee.\n", "", NULL));
  assert_int_equal(aiinfra_memory_set_block(memory, "user", "More than the forty bytes that may be there.", &err),
                   AIINFRA_ELIMIT);
  opts.limit_bytes = 5;
  assert_int_equal(aiinfra_memory_define_block(memory, "user", &opts, &err), AIINFRA_ELIMIT);
  opts = (aiinfra_block_opts)AIINFRA_BLOCK_OPTS_INIT;
  opts.read_only = 1;
  must(aiinfra_memory_define_block(memory, "user", &opts, &err));
  assert_int_equal(edit(memory, "user", NULL, "x", NULL), AIINFRA_EINVAL);
  must(aiinfra_memory_set_block(memory, "user", "Lives in Oslo.", &err)); /* the host may */
  must(aiinfra_memory_define_block(memory, "empty", NULL, &err));
  must(aiinfra_memory_list_blocks(memory, &text, &err));
  json_t *blocks = parse(text), *user = json_array_get(blocks, 1);
  assert_int_equal(json_array_size(blocks), 2);
  assert_string_equal(json_string_value(json_object_get(user, "text")), "Lives in Oslo.");
  assert_string_equal(json_string_value(json_object_get(user, "description")), "What is known of the user.");
  assert_int_equal(number(user, "bytes"), 14);
  assert_int_equal(number(user, "limit_bytes"), 40);
  assert_true(json_is_true(json_object_get(user, "read_only")));
  json_decref(blocks);
  must(aiinfra_memory_blocks(memory, &text, &err)); /* what a prompt shows */
  assert_string_equal(text, "{\"user\":\"Lives in Oslo.\"}");
  aiinfra_string_free(text);
  aiinfra_memory_free(memory);
}

/* ---- facts -------------------------------------------------------------------------------------------------------- */

static void test_merge_and_settle(void **state)
{
  aiinfra_memory *memory = must_open("facts");
  (void)state;
  (void)tell(memory, "Ann likes green tea.", 0, 1000);
  (void)tell(memory, "Ann really likes green tea", 0, 2000);
  int64_t old = tell(memory, "Ann lives in Rome.", 0, 1000);
  (void)tell(memory, "Ann lives in Oslo.", 0, 5000);
  (void)tell(memory, "My editor is vim.", 0, 1000);
  (void)tell(memory, "My editor is nano.", 0.5f, 2000); /* less trusted */
  (void)tell(memory, "Bob drinks coffee.", 0, 1000);
  (void)tell(memory, "Bob does not drink coffee.", 0, 3000);
  (void)tell(memory, "Ann's brother is Tom.", 0, 1000);
  (void)tell(memory, "Ann's brother is Jim.", 0, 2000);
  (void)tell(memory, "Ann's boss is Eve.", 0, 1000);
  (void)tell(memory, "The boss of Ann is Eve.", 0, 2000);
  aiinfra_consolidate_opts opts = AIINFRA_CONSOLIDATE_OPTS_INIT;
  opts.dry_run = 1;
  json_t *dry = consolidate(memory, &opts), *done = consolidate(memory, NULL);
  assert_true(json_equal(json_object_get(dry, "changes"), json_object_get(done, "changes")));
  assert_int_equal(number(done, "looked_at"), 12);
  assert_int_equal(number(done, "merged"), 2);
  assert_int_equal(number(done, "superseded"), 2);
  assert_int_equal(number(done, "contradictions"), 1);
  assert_true(json_is_true(json_object_get(done, "done")));
  json_decref(dry);
  json_decref(done);
  assert_string_equal(current(memory),
                      "Ann likes green tea.|Ann lives in Oslo.|My editor is vim.|My editor is nano.|Bob "
                      "does not drink coffee.|Ann's brother is Tom.|Ann's brother is Jim.|Ann's boss "
                      "is Eve.");
  done = consolidate(memory, NULL); /* again does no harm */
  assert_int_equal(number(done, "merged") + number(done, "superseded"), 0);
  json_decref(done);
  char *text;
  aiinfra_facts_opts then = AIINFRA_FACTS_OPTS_INIT;
  then.as_of_ms = 3000;
  must(aiinfra_memory_facts(memory, &then, &text, &err));
  assert_non_null(strstr(text, "Ann lives in Rome.")); /* the past is still there */
  assert_null(strstr(text, "Oslo"));
  aiinfra_string_free(text);
  must(aiinfra_memory_fact_history(memory, old, &text, &err)); /* versions of one fact */
  assert_non_null(strstr(text, "Oslo"));
  aiinfra_string_free(text);
  must(aiinfra_memory_forget(memory, old, &err)); /* and forgotten together */
  assert_null(strstr(current(memory), "Oslo"));
  must(aiinfra_memory_export(memory, &text, &err));
  aiinfra_memory *other = must_open("taken in");
  uint64_t n;
  must(aiinfra_memory_import(other, text, strlen(text), &n, &err));
  char all[2048];
  snprintf(all, sizeof all, "%s", current(memory));
  assert_string_equal(current(other), all);
  aiinfra_string_free(text);
  aiinfra_memory_free(other);
  aiinfra_memory_free(memory);
}

/* What must stay two facts. */
static void test_kept_apart(void **state)
{
  static const char *const pairs[][2] = {
      {"Ann pays Bob.", "Bob pays Ann."},
      {"The train leaves at 9.", "The train leaves at 10."},
      {"Ann has 2 cats.", "Ann has 3 cats."},
      {"Ann likes tea.", "Ann likes coffee."},
      {"Ann's dog is old.", "Bob's dog is old."},
      {"Ann speaks French.", "Ann speaks German."},
      {"Ann lives in Rome.", "Bob lives in Oslo."},
      {"My meeting is on Monday.", "My meeting is at 9."},
      {"Ann's sister lives in Rome.", "Ann lives in Oslo."},
      {"Few people know Ann.", "A few people know Ann."},
      {"Ann is from Rome.", "Ann is a doctor."},
      {"My hobby is chess.", "My hobby is tennis."},
      {"Ann does not like tea.", "Ann does not like coffee."},
      {"Ann lives in Rome.", "Ann lives in Rome, Italy."},
  };
  (void)state;
  for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
    char scope[32], both[256];
    snprintf(scope, sizeof scope, "apart %zu", i);
    aiinfra_memory *memory = must_open(scope);
    (void)tell(memory, pairs[i][0], 0, 1000);
    (void)tell(memory, pairs[i][1], 0, 2000);
    json_decref(consolidate(memory, NULL));
    snprintf(both, sizeof both, "%s|%s", pairs[i][0], pairs[i][1]);
    assert_string_equal(current(memory), both);
    aiinfra_memory_free(memory);
  }
}

typedef struct stop {
  int calls, after;
} stop;

static int on_progress(void *user, double fraction)
{
  stop *s = user;
  assert_true(fraction >= 0 && fraction <= 1);
  return ++s->calls > s->after;
}

/* Stopped and gone on with, in steps of any size, it ends where one call does. */
static void test_resumed(void **state)
{
  (void)state;
  for (uint32_t steps = 1; steps <= 7; steps += 2) {
    char scope[32], fact[64];
    snprintf(scope, sizeof scope, "steps %u", steps);
    aiinfra_memory *memory = must_open(scope);
    for (int i = 0; i < 9; i++) {
      snprintf(fact, sizeof fact, "Ann%s owns boat number %d.", i % 2 == 0 ? "" : " really", i / 2);
      (void)tell(memory, fact, 0, 1000 + i);
    }
    aiinfra_consolidate_opts opts = AIINFRA_CONSOLIDATE_OPTS_INIT;
    stop s = {0, 1};
    char *text;
    opts.progress = on_progress;
    opts.progress_user = &s;
    assert_int_equal(aiinfra_memory_consolidate(memory, &opts, &text, &err), AIINFRA_ECANCELED);
    json_t *told = parse(text);
    opts.progress = NULL;
    opts.max_steps = steps;
    json_int_t merged = number(told, "merged");
    while (!json_is_true(json_object_get(told, "done"))) {
      opts.after_id = number(told, "next");
      json_decref(told);
      told = consolidate(memory, &opts);
      assert_true(number(told, "looked_at") <= (json_int_t)steps);
      merged += number(told, "merged");
    }
    json_decref(told);
    assert_int_equal(merged, 4);
    assert_string_equal(current(memory), "Ann owns boat number 0.|Ann owns boat number 1.|Ann owns boat number 2.|Ann "
                                         "owns boat number 3.|Ann owns boat number 4.");
    aiinfra_memory_free(memory);
  }
}

static void test_fading(void **state)
{
  aiinfra_memory *memory = must_open("fading");
  aiinfra_fact_opts opts = AIINFRA_FACT_OPTS_INIT;
  aiinfra_consolidate_opts care = AIINFRA_CONSOLIDATE_OPTS_INIT;
  static const char *const texts[] = {"Pins are sharp.", "Water is wet.", "Never give Ann nuts.", "Tea is hot."};
  static const float importance[] = {0.3f, 0.2f, 1, 0.6f}, trust[] = {1, 1, 0.1f, 1};
  int64_t id = 0;
  (void)state;
  for (size_t i = 0; i < 4; i++) {
    opts.importance = importance[i];
    opts.trust = trust[i];
    char *text;
    must(aiinfra_memory_add_fact(memory, texts[i], &opts, &text, &err));
    json_t *told = parse(text);
    if (i == 1) id = number(told, "id");
    json_decref(told);
  }
  for (int i = 0; i < 3; i++) must(aiinfra_memory_reinforce(memory, id, &err));
  care.max_facts = 3;
  care.dry_run = 1;
  json_decref(consolidate(memory, &care));
  care.dry_run = 0;
  json_t *told = consolidate(memory, &care);
  assert_int_equal(number(told, "faded"), 1);
  json_decref(told);
  assert_string_equal(current(memory), "Water is wet.|Never give Ann nuts.|Tea is hot.");
  care.max_facts = 1;
  json_decref(consolidate(memory, &care));
  assert_string_equal(current(memory), "Never give Ann nuts."); /* the most important one is never retired */
  aiinfra_memory_free(memory);
}

/* ---- conversations ------------------------------------------------------------------------------------------------ */

static void say(aiinfra_memory *memory, const char *role, const char *text)
{
  json_t *message = json_pack("{s:s, s:s}", "role", role, "content", text);
  char *json = json_dumps(message, JSON_COMPACT);
  must(aiinfra_memory_append(memory, "trip", json, &err));
  free(json);
  json_decref(message);
}

static void test_summaries(void **state)
{
  aiinfra_memory *memory = must_open("talk");
  aiinfra_summarise_opts opts = AIINFRA_SUMMARISE_OPTS_INIT;
  uint64_t n;
  char *text;
  (void)state;
  for (int i = 0; i < 10; i++) {
    say(memory, "user", i % 3 == 0 ? "I want to travel to Norway by train in June. Ok." : "What does the train cost?");
    say(memory, "assistant", "The train to Norway costs 90 euros in June. Have a nice day!");
  }
  opts.keep_last = 4;
  opts.chunk = 8;
  opts.max_bytes = 120;
  must(aiinfra_memory_summarise(memory, "trip", &opts, &n, &err));
  assert_int_equal(n, 2);
  must(aiinfra_memory_summarise(memory, "trip", &opts, &n, &err));
  assert_int_equal(n, 0);
  must(aiinfra_memory_summaries(memory, "trip", &text, &err));
  json_t *all = parse(text), *first = json_array_get(all, 0);
  assert_int_equal(json_array_size(all), 2);
  assert_int_equal(number(first, "first_seq"), 1);
  assert_int_equal(number(first, "last_seq"), 8);
  const char *told = json_string_value(json_object_get(first, "text"));
  assert_true(strlen(told) > 20 && strlen(told) <= 120);
  assert_non_null(strstr(told, "The train to Norway costs 90 euros in June."));
  assert_null(strstr(strstr(told, "costs") + 1, "costs")); /* nothing twice */
  json_decref(all);
  must(aiinfra_memory_history(memory, "trip", 0, &text, &err)); /* messages stay */
  all = parse(text);
  assert_int_equal(json_array_size(all), 20);
  json_decref(all);
  assert_int_equal(aiinfra_memory_add_summary(memory, "trip", 5, 12, "x", &err), AIINFRA_EEXIST);
  assert_int_equal(aiinfra_memory_add_summary(memory, "trip", 15, 40, "x", &err), AIINFRA_ENOENT);
  assert_int_equal(aiinfra_memory_add_summary(memory, "trip", 0, 4, "x", &err), AIINFRA_EINVAL);
  must(aiinfra_memory_add_summary(memory, "trip", 1, 16, "A trip to Norway is planned.", &err));
  must(aiinfra_memory_summaries(memory, "trip", &text, &err));
  assert_non_null(strstr(text, "A trip to Norway is planned."));
  assert_null(strstr(text, "euros"));
  aiinfra_string_free(text);
  must(aiinfra_memory_forget_conversation(memory, "trip", &err));
  must(aiinfra_memory_summaries(memory, "trip", &text, &err));
  assert_string_equal(text, "[]");
  aiinfra_string_free(text);
  aiinfra_memory_free(memory);
}

static void test_arguments(void **state)
{
  aiinfra_memory *memory = must_open("arguments");
  aiinfra_block_opts block = AIINFRA_BLOCK_OPTS_INIT;
  aiinfra_block_edit change = AIINFRA_BLOCK_EDIT_INIT;
  aiinfra_consolidate_opts care = AIINFRA_CONSOLIDATE_OPTS_INIT;
  aiinfra_summarise_opts talk = AIINFRA_SUMMARISE_OPTS_INIT;
  char *text = (char *)&care;
  (void)state;
  assert_int_equal(aiinfra_memory_define_block(NULL, "a", NULL, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_memory_define_block(memory, "", NULL, &err), AIINFRA_EINVAL);
  block.limit_bytes = 20000;
  assert_int_equal(aiinfra_memory_define_block(memory, "a", &block, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_memory_edit_block(memory, "a", NULL, &text, &err), AIINFRA_EINVAL);
  assert_null(text);
  assert_int_equal(aiinfra_memory_edit_block(memory, "a", &change, NULL, &err), AIINFRA_EINVAL);
  change.text = "\xFF";
  assert_int_equal(aiinfra_memory_edit_block(memory, "a", &change, NULL, &err), AIINFRA_EINVAL);
  care.dry_run = 2;
  assert_int_equal(aiinfra_memory_consolidate(memory, &care, &text, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_memory_consolidate(NULL, NULL, NULL, &err), AIINFRA_EINVAL);
  must(aiinfra_memory_consolidate(memory, NULL, NULL, &err)); /* nothing there */
  talk.max_bytes = 5;
  assert_int_equal(aiinfra_memory_summarise(memory, "a", &talk, NULL, &err), AIINFRA_EINVAL);
  must(aiinfra_memory_summarise(memory, "nobody spoke", NULL, NULL, &err));
  assert_int_equal(aiinfra_memory_summaries(memory, "a", NULL, &err), AIINFRA_EINVAL);
  aiinfra_memory_free(memory);
}

static int set_up(void **state)
{
  (void)state;
  return aiinfra_runtime_create(NULL, &rt, &err) || aiinfra_db_open(rt, test_db(":memory:"), NULL, &db, &err);
}

static int tear_down(void **state)
{
  (void)state;
  aiinfra_db_free(db);
  aiinfra_runtime_free(rt);
  return 0;
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_blocks),    cmocka_unit_test(test_merge_and_settle), cmocka_unit_test(test_kept_apart),
      cmocka_unit_test(test_resumed),   cmocka_unit_test(test_fading),           cmocka_unit_test(test_summaries),
      cmocka_unit_test(test_arguments),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
