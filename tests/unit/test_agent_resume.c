/* test_agent_resume.c - runs that are taken up again, and what an agent remembers from one run to the next. */
#include "tests/unit/agent_script.h"

/* ---- resuming -------------------------------------------------------------------------------------------------------------- */

/* Frees the agent while a tool runs, as a process that dies does to the journal. */
static int64_t interrupt(world *w, bool idempotent)
{
  static const line lines[] = {{.calls = "[" CALL("a", "echo", "{\\\"x\\\":7}") "," CALL("b", "hold", "{}") "]"}};
  open_agent(w, NULL, lines);
  add_tool(w, "echo", echo_tool, false, 0);
  add_tool(w, "hold", hold_tool, idempotent, 0);
  start(w, "Go", NULL, 0);
  while (w->held == NULL) {
    aiinfra_error err;
    (void)aiinfra_request_wait(w->request, 5, &err);
  }
  aiinfra_agent_free(w->agent);
  w->agent = NULL;
  finish(w);
  assert_int_equal(w->status, AIINFRA_ECANCELED);
  aiinfra_tool_call_finish(w->held, "unheard");
  w->script.at = 0;
  for (size_t k = 0; k < MAX_LINES; k++) {
    json_decref(w->script.messages[k]);
    json_decref(w->script.tools[k]);
    w->script.messages[k] = w->script.tools[k] = NULL;
  }
  return w->run;
}

static void a_resumed_run_repeats_no_finished_call(void **state)
{
  world *w = *state;
  static const line lines[] = {{.text = "Resumed."}};
  int64_t id = interrupt(w, false);
  open_agent(w, NULL, lines);
  add_tool(w, "echo", echo_tool, false, 0);
  add_tool(w, "hold", hold_tool, false, 0);
  assert_int_equal(w->tool_runs, 2);
  resume(w, id);
  assert_int_equal(w->status, AIINFRA_OK);
  assert_string_equal(w->answer, "Resumed.");
  assert_int_equal(w->tool_runs, 2);
  assert_string_equal(message(w, 0, 3, "content"), "{\"x\":7}");
  assert_non_null(strstr(message(w, 0, 4, "content"), "unknown"));
  expect_events(w, "run_started tool_failed step_started token answer run_finished");
  assert_int_equal(stat(w, "steps"), 2);
}

static void an_idempotent_tool_is_run_again(void **state)
{
  world *w = *state;
  static const line lines[] = {{.text = "Resumed."}};
  int64_t id = interrupt(w, true);
  open_agent(w, NULL, lines);
  add_tool(w, "echo", echo_tool, false, 0);
  add_tool(w, "hold", echo_tool, true, 0);
  resume(w, id);
  assert_int_equal(w->status, AIINFRA_OK);
  assert_int_equal(w->tool_runs, 3);
  assert_string_equal(message(w, 0, 4, "content"), "{}");
}

static void what_cannot_be_resumed_says_why(void **state)
{
  world *w = *state;
  static const line lines[] = {{.text = "Fine."}};
  int64_t id = interrupt(w, false);
  open_agent(w, NULL, lines);
  resume(w, 999);
  assert_int_equal(w->status, AIINFRA_ENOENT);
  resume(w, id);
  assert_int_equal(w->status, AIINFRA_EINVAL); /* it has used tools that this agent lacks */
  assert_non_null(strstr(w->message, "'echo'"));
  run(w, "Hi");
  resume(w, w->run);
  assert_int_equal(w->status, AIINFRA_EEXIST);
}

/* Every prefix of a finished run's journal is a place where a process can die. */
static void a_run_can_be_resumed_from_every_event(void **state)
{
  world *w = *state;
  static const line lines[] = {{.text = "I look.", .calls = "[" CALL("a", "echo", "{\\\"x\\\":7}") "]"},
                               {.text = "It is 7."}};
  char text[256], *history = NULL;
  json_t *messages;
  int64_t id, n_events = 11;
  open_agent(w, NULL, lines);
  add_tool(w, "echo", echo_tool, true, 0);
  start(w, "Go", "talk", 0);
  finish(w);
  id = w->run;
  for (int64_t kept = n_events - 1; kept >= 1; kept--) {
    snprintf(text, sizeof text,
             "UPDATE runs SET state = 'running' WHERE id = %lld; DELETE FROM journal WHERE run = %lld AND seq > %lld",
             (long long)id, (long long)id, (long long)kept);
    sql(w, text);
    for (size_t k = 0; k < MAX_LINES; k++) {
      json_decref(w->script.messages[k]);
      json_decref(w->script.tools[k]);
      w->script.messages[k] = w->script.tools[k] = NULL;
    }
    w->script.at = kept >= 4 ? 1 : 0; /* which line the model has to say next */
    resume(w, id);
    if (kept == 4) { /* inside a transaction: no process dies there */
      assert_int_equal(w->status, AIINFRA_EFORMAT);
      continue;
    }
    if (w->status != AIINFRA_OK) fail_msg("resumed after event %lld: %s", (long long)kept, w->message);
    assert_string_equal(w->answer, "It is 7.");
  }
  assert_int_equal(aiinfra_memory_history(w->memory, "talk", 0, &history, NULL), AIINFRA_OK);
  messages = json_loads(history, 0, NULL);
  assert_int_equal(json_array_size(messages), 4); /* added once, however often it was resumed */
  json_decref(messages);
  aiinfra_string_free(history);
}

/* ---- memory ------------------------------------------------------------------------------------------------------------------ */

static void the_system_message_has_passages_and_memory(void **state)
{
  world *w = *state;
  static const line lines[] = {{.text = "The server listens on port 8080 by default. [1]"}};
  const char *path = test_tmp("docs/server.md");
  static const char text[] = "The server listens on port 8080\nby default.\n";
  char expected[512];
  aiinfra_agent_opts opts = AIINFRA_AGENT_OPTS_INIT;
  aiinfra_error err;
  snprintf(expected, sizeof expected, "mkdir -p '%s/docs'", test_tmp_dir());
  assert_int_equal(system(expected), 0);
  assert_int_equal(test_write_file(path, text, sizeof text - 1), 0);
  if (aiinfra_memory_ingest(w->memory, &path, 1, NULL, NULL, NULL, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  assert_int_equal(aiinfra_memory_remember(w->memory, "My server is called Bertha.", NULL, NULL, &err), AIINFRA_OK);
  opts.instructions = "Be brief.";
  open_agent(w, &opts, lines);
  run(w, "Which port does the server listen on by default?");
  assert_int_equal(w->status, AIINFRA_OK);
  assert_string_equal(message(w, 0, 0, "content"),
                      "Be brief.\n\nPassages:\n[1] (docs/server.md) The server listens on port 8080 by default.\n\n"
                      "Memory:\n- My server is called Bertha.");
  assert_non_null(strstr(w->citations, "docs/server.md"));
  assert_non_null(strstr(w->citations, "\"n\":1"));
}

static void statements_are_remembered(void **state)
{
  world *w = *state;
  static const line lines[] = {{.text = "I will remember that."}, {.text = "Your cat is called Miso."}};
  open_agent(w, NULL, lines);
  run(w, "Remember that my cat is called Miso.");
  expect_events(w, "run_started remembered recalled step_started token answer run_finished");
  assert_null(strstr(message(w, 0, 0, "content"), "Miso"));
  run(w, "What is my cat called?");
  assert_non_null(strstr(message(w, 1, 0, "content"), "Memory:\n- My cat is called Miso."));
}

static void conversations_go_on(void **state)
{
  world *w = *state;
  static const line lines[] = {{.calls = "[" CALL("a", "echo", "{}") "]"}, {.text = "First."}, {.text = "Second."}};
  open_agent(w, NULL, lines);
  add_tool(w, "echo", echo_tool, false, 0);
  start(w, "One", "talk", 0);
  finish(w);
  start(w, "Two", "talk", 0);
  finish(w);
  assert_int_equal(json_array_size(w->script.messages[2]), 6);
  assert_string_equal(message(w, 2, 1, "content"), "One");
  assert_string_equal(message(w, 2, 3, "role"), "tool");
  assert_string_equal(message(w, 2, 4, "content"), "First.");
  assert_string_equal(message(w, 2, 5, "content"), "Two");
}

static void memory_tools_search_and_remember(void **state)
{
  world *w = *state;
  static const line lines[] = {
      {.calls = "[" CALL("a", "remember", "{\\\"text\\\":\\\"The sky is green.\\\"}") "," CALL(
           "b", "memory_search", "{\\\"query\\\":\\\"sky\\\"}") "," CALL("c", "memory_search",
                                                                         "{}") "," CALL("d", "clock", "{}") "]"},
      {.text = "Good."}};
  aiinfra_error err;
  open_agent(w, NULL, lines);
  assert_int_equal(aiinfra_agent_add_builtin_tools(w->agent, &err), AIINFRA_OK);
  run(w, "Go");
  assert_int_equal(w->status, AIINFRA_OK);
  assert_string_equal(message(w, 1, 3, "content"), "Remembered.");
  assert_string_equal(message(w, 1, 4, "content"), "The sky is green.");
  assert_string_equal(message(w, 1, 5, "content"), "error: the query is missing");
  assert_non_null(strstr(message(w, 1, 6, "content"), "Z, "));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, make_world, end_world)
  const struct CMUnitTest tests[] = {
      T(a_resumed_run_repeats_no_finished_call),
      T(an_idempotent_tool_is_run_again),
      T(what_cannot_be_resumed_says_why),
      T(a_run_can_be_resumed_from_every_event),
      T(the_system_message_has_passages_and_memory),
      T(statements_are_remembered),
      T(conversations_go_on),
      T(memory_tools_search_and_remember),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
