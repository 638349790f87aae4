/* test_memory.c - the process dies, the power goes, the disk is full or broken at any write while facts are remembered and
 * forgotten: each fact that was told to be kept is there, and none that was forgotten.
 */
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

enum { STEPS = 14 };

/* Every fourth step forgets the fact of the step before the last. */
static bool forgets(int at)
{
  return at % 4 == 3;
}

static void text_of(int at, char text[64])
{
  static const char *const who[] = {"Anna", "Bert", "Clara", "David", "Emma", "Frank", "Gerda"};
  static const char *const what[] = {"plays the violin", "lives in Oslo", "keeps nine bees"};
  snprintf(text, 64, "%s %s.", who[at % 7], what[at % 3]);
}

static void work(aiinfra_runtime *rt, const char *path)
{
  aiinfra_db *db = NULL;
  aiinfra_memory *memory = NULL;
  int64_t ids[STEPS] = {0};
  aiinfra_status rc = aiinfra_db_open(rt, path, NULL, &db, NULL);
  if (rc == AIINFRA_OK) rc = aiinfra_memory_open(db, NULL, &memory, NULL);
  bool on = crash_done(0, rc);
  for (int at = 1; on && at < STEPS; at++) {
    char text[64];
    text_of(at, text);
    if (forgets(at)) rc = aiinfra_memory_forget(memory, ids[at - 2], NULL);
    else rc = aiinfra_memory_remember(memory, text, NULL, &ids[at], NULL);
    on = crash_done(at, rc);
  }
  aiinfra_memory_free(memory);
  aiinfra_db_free(db);
}

static const char *why_facts(aiinfra_memory *memory, int steps)
{
  char *text = NULL;
  const char *why = NULL;
  size_t n = 0;
  if (aiinfra_memory_facts(memory, NULL, &text, NULL) != AIINFRA_OK) return "facts cannot be read";
  for (int at = 1; why == NULL && at < steps; at++) {
    char fact[64];
    bool forgotten = at + 2 < steps && forgets(at + 2);
    if (forgets(at)) continue;
    text_of(at, fact);
    if (!forgotten) n++;
    if ((strstr(text, fact) != NULL) == forgotten) why = forgotten ? "a fact that was forgotten" : "a fact is lost";
  }
  json_t *facts = json_loads(text, 0, NULL);
  const json_t *list = json_is_array(facts) ? facts : json_object_get(facts, "facts");
  if (why == NULL && json_array_size(list) != n) why = "another number of facts";
  json_decref(facts);
  aiinfra_string_free(text);
  return why;
}

/* A fact that is there is found by what it says. */
static const char *why_recall(aiinfra_memory *memory, int steps)
{
  char *text = NULL, fact[64];
  if (steps < 2) return NULL;
  int at = forgets(steps - 1) ? steps - 2 : steps - 1;
  text_of(at, fact);
  if (aiinfra_memory_recall(memory, fact, NULL, &text, NULL) != AIINFRA_OK) return "recall fails";
  const char *why = strstr(text, fact) != NULL ? NULL : "the last fact is not found";
  aiinfra_string_free(text);
  return why;
}

static int holds(aiinfra_runtime *rt, const char *path, int steps, int loud)
{
  aiinfra_db *db = NULL;
  aiinfra_memory *memory = NULL;
  aiinfra_error err = {.message = ""};
  const char *why = NULL;
  aiinfra_status rc = aiinfra_db_open(rt, path, NULL, &db, &err);
  if (rc == AIINFRA_OK) rc = aiinfra_db_check(db, &err);
  if (rc == AIINFRA_OK) rc = aiinfra_memory_open(db, NULL, &memory, &err);
  if (rc != AIINFRA_OK) why = err.message;
  if (why == NULL) why = why_facts(memory, steps);
  if (why == NULL) why = why_recall(memory, steps);
  aiinfra_memory_free(memory);
  aiinfra_db_free(db);
  if (why != NULL && loud) fprintf(stderr, "not as after %d steps: %s\n", steps, why);
  return why == NULL;
}

static void test_memory(void **state)
{
  const crash_scenario s = {"crash.memory", STEPS, work, holds, 15};
  (void)state;
  assert_int_equal(crash_run(&s), 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_memory)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
