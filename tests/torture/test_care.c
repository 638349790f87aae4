/* test_care.c - memory fails while facts are brought together, blocks edited and a conversation summarised. */
#include "tests/torture/store.h"

static aiinfra_status change_blocks(aiinfra_memory *memory)
{
  aiinfra_block_opts opts = AIINFRA_BLOCK_OPTS_INIT;
  aiinfra_block_edit edit = AIINFRA_BLOCK_EDIT_INIT;
  char *text = NULL;
  opts.limit_bytes = 100;
  opts.description = "the user";
  edit.text = "Likes tea.";
  aiinfra_status rc = aiinfra_memory_define_block(memory, "user", &opts, NULL);
  if (rc == AIINFRA_OK) rc = told(aiinfra_memory_edit_block(memory, "user", &edit, &text, NULL), &text, "Likes tea.");
  edit.find = "tea";
  edit.text = "rum";
  if (rc == AIINFRA_OK) rc = told(aiinfra_memory_edit_block(memory, "user", &edit, &text, NULL), &text, "Likes rum.");
  return rc == AIINFRA_OK ? told(aiinfra_memory_list_blocks(memory, &text, NULL), &text, "the user") : rc;
}

static aiinfra_status talk(aiinfra_memory *memory)
{
  aiinfra_summarise_opts opts = AIINFRA_SUMMARISE_OPTS_INIT;
  char *text = NULL;
  aiinfra_status rc = AIINFRA_OK;
  uint64_t n = 0;
  for (int i = 0; i < 3 && rc == AIINFRA_OK; i++)
    rc = aiinfra_memory_append(memory, "c", "{\"role\":\"user\",\"content\":\"The boat is red.\"}", NULL);
  opts.keep_last = 1;
  opts.chunk = 2;
  if (rc == AIINFRA_OK) rc = aiinfra_memory_summarise(memory, "c", &opts, &n, NULL);
  if (rc == AIINFRA_OK) torture_check(n == 1, "one summary");
  if (rc == AIINFRA_OK) rc = told(aiinfra_memory_summaries(memory, "c", &text, NULL), &text, "The boat is red.");
  return rc == AIINFRA_OK ? aiinfra_memory_add_summary(memory, "c", 1, 2, "A boat.", NULL) : rc;
}

/* Whatever fails, no fact is lost, and doing it again, on the file opened anew, ends where it would have ended. */
static aiinfra_status care(void *ctx)
{
  static const char *const facts[] = {"Ann lives in Rome.", "Ann lives in Oslo.", "Bob has a boat.",
                                      "Bob really has a boat."};
  aiinfra_fact_opts opts = AIINFRA_FACT_OPTS_INIT;
  store s;
  char *text = NULL;
  aiinfra_status rc = open_store(&s, ctx);
  for (int i = 0; i < 4 && rc == AIINFRA_OK; i++) {
    opts.valid_from_ms = 1000 + i;
    rc = aiinfra_memory_add_fact(s.memory, facts[i], &opts, NULL, NULL);
  }
  bool complete = rc == AIINFRA_OK;
  if (rc == AIINFRA_OK)
    rc = told(aiinfra_memory_consolidate(s.memory, NULL, &text, NULL), &text, "\"merged\":1,\"superseded\":1");
  if (complete && rc != AIINFRA_OK) {
    aiinfra_error err;
    torture_pause("what is left can be cared for");
    close_store(&s); /* SQLite's FTS5 may be left with a broken state of its own, in memory, when that ran out */
    torture_check(open_store(&s, ctx) == AIINFRA_OK, "the database opens again");
    if (aiinfra_memory_consolidate(s.memory, NULL, NULL, &err) != AIINFRA_OK) torture_check(false, err.message);
    torture_check(aiinfra_memory_facts(s.memory, NULL, &text, NULL) == AIINFRA_OK, "lists");
    torture_check(strstr(text, "Oslo") != NULL && strstr(text, "Rome") == NULL && strstr(text, "boat") != NULL,
                  "the facts that hold are there");
    aiinfra_string_free(text);
    torture_resume();
  }
  if (rc == AIINFRA_OK) rc = change_blocks(s.memory);
  if (rc == AIINFRA_OK) rc = talk(s.memory);
  close_store(&s);
  remove_files(ctx);
  return rc;
}

static void memory_fails(void **state)
{
  static const torture_opts opts = {.max_calls = 120};
  char path[512];
  (void)state;
  snprintf(path, sizeof path, "%s", test_tmp("care.db"));
  assert_int_equal(torture_run("care.memory", care, path, &opts), 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(memory_fails)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
