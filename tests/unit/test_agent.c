/* test_agent.c - runs of an agent whose model is a script: every state, and every way to fail. */
#include "tests/unit/agent_script.h"

/* ---- the happy path -------------------------------------------------------------------------------------------------- */

static void a_question_gets_an_answer(void **state)
{
  world *w = *state;
  static const line lines[] = {{.text = "  Hello there. \n"}};
  open_agent(w, NULL, lines);
  run(w, "Hi");
  assert_int_equal(w->status, AIINFRA_OK);
  assert_string_equal(w->answer, "Hello there.");
  expect_events(w, "run_started recalled step_started token answer run_finished");
  assert_string_equal(message(w, 0, 0, "role"), "system");
  assert_string_equal(message(w, 0, 1, "content"), "Hi");
  assert_null(w->script.tools[0]);
  assert_int_equal(stat(w, "steps"), 1);
  assert_int_equal(stat(w, "prompt_tokens"), 10);
  assert_int_equal(stat(w, "cached_tokens"), 4);
  assert_int_equal(stat(w, "generated_tokens"), 3);
  assert_string_equal(w->citations, "[]");
}

static void a_tool_is_called_and_its_result_read(void **state)
{
  world *w = *state;
  static const line lines[] = {{.calls = "[" CALL("call_1", "calculator", "{\\\"expression\\\":\\\"17 * 23\\\"}") "]"},
                               {.text = "17 * 23 = 391."}};
  aiinfra_error err;
  open_agent(w, NULL, lines);
  assert_int_equal(aiinfra_agent_add_builtin_tools(w->agent, &err), AIINFRA_OK);
  run(w, "What is 17 * 23?");
  assert_int_equal(w->status, AIINFRA_OK);
  assert_string_equal(w->answer, "17 * 23 = 391.");
  expect_events(w, "run_started recalled step_started tool_started tool_finished step_started token answer "
                   "run_finished");
  assert_int_equal(json_array_size(w->script.tools[0]), 4);
  assert_string_equal(message(w, 1, 2, "role"), "assistant");
  assert_string_equal(message(w, 1, 3, "role"), "tool");
  assert_string_equal(message(w, 1, 3, "tool_call_id"), "call_1");
  assert_string_equal(last_message(w, 1), "391");
  assert_int_equal(stat(w, "tool_calls"), 1);
  assert_int_equal(stat(w, "steps"), 2);
}

#define EDIT(id, arguments) CALL(id, "edit_block", "{\\\"label\\\":\\\"" arguments "\\\"}")
#define TEXT "\\\",\\\"text\\\":\\\""
#define FIND "\\\",\\\"find\\\":\\\""

static void the_agent_edits_its_blocks(void **state)
{
  world *w = *state;
  static const line lines[] = {
      {.calls = "[" EDIT("a", "user" TEXT "Likes tea.") "," EDIT("b", "user" FIND "tea" TEXT "rum") "," EDIT(
           "c", "user" TEXT "Likes much more.") "," EDIT("d", "rules" TEXT "None.") "]"},
      {.text = "Done."}};
  aiinfra_block_opts opts = AIINFRA_BLOCK_OPTS_INIT;
  aiinfra_error err;
  opts.description = "What is known of the user.";
  opts.limit_bytes = 20;
  assert_int_equal(aiinfra_memory_define_block(w->memory, "user", &opts, &err), AIINFRA_OK);
  opts.read_only = 1;
  assert_int_equal(aiinfra_memory_define_block(w->memory, "rules", &opts, &err), AIINFRA_OK);
  open_agent(w, NULL, lines);
  assert_int_equal(aiinfra_agent_add_builtin_tools(w->agent, &err), AIINFRA_OK);
  run(w, "I like rum, not tea.");
  assert_int_equal(w->status, AIINFRA_OK);
  assert_int_equal(json_array_size(w->script.tools[0]), 5);
  assert_string_equal(message(w, 1, 3, "content"), "The block is now:\nLikes tea.");
  assert_string_equal(message(w, 1, 4, "content"), "The block is now:\nLikes rum.");
  assert_non_null(strstr(message(w, 1, 5, "content"), "may have 20: shorten it first"));
  assert_non_null(strstr(message(w, 1, 6, "content"), "the block 'rules' is read-only"));
}

static void calls_of_one_generation_run_in_order(void **state)
{
  world *w = *state;
  static const line lines[] = {
      {.calls = "[" CALL("a", "echo", "{\\\"x\\\":1}") "," CALL("b", "thread", "{}") "," CALL("c", "broken", "{}") "]"},
      {.text = "Done."}};
  open_agent(w, NULL, lines);
  add_tool(w, "echo", echo_tool, false, 0);
  add_tool(w, "thread", thread_tool, false, 0);
  add_tool(w, "broken", broken_tool, false, 0);
  run(w, "Go");
  assert_int_equal(w->status, AIINFRA_OK);
  assert_string_equal(message(w, 1, 3, "content"), "{\"x\":1}");
  assert_string_equal(message(w, 1, 4, "content"), "from afar");
  assert_string_equal(message(w, 1, 5, "content"), "error: it broke");
  assert_string_equal(message(w, 1, 5, "tool_call_id"), "c");
}

static void bad_calls_are_told_to_the_model(void **state)
{
  world *w = *state;
  static const line lines[] = {
      {.calls = "[" CALL("a", "nothing", "{}") "," CALL("b", "echo", "[1]") "," CALL("c", "echo", "{") "]"},
      {.text = "Sorry."}};
  open_agent(w, NULL, lines);
  add_tool(w, "echo", echo_tool, false, 0);
  run(w, "Go");
  assert_int_equal(w->status, AIINFRA_OK);
  assert_string_equal(message(w, 1, 3, "content"), "error: there is no such tool");
  assert_string_equal(message(w, 1, 4, "content"), "error: the arguments are no JSON object");
  assert_string_equal(message(w, 1, 5, "content"), "error: the arguments are no JSON object");
  assert_int_equal(w->tool_runs, 0);
}

/* ---- reasoning --------------------------------------------------------------------------------------------------------- */

static void reasoning_is_told_apart_and_does_not_outlive_its_run(void **state)
{
  world *w = *state;
  static const line lines[] = {{.thought = "I need the tool.", .calls = "[" CALL("a", "echo", "{}") "]"},
                               {.thought = "Now I know.", .text = "Yes."},
                               {.text = "Bye."}};
  open_agent(w, NULL, lines);
  add_tool(w, "echo", echo_tool, false, 0);
  start(w, "Is it?", "talk", 0);
  finish(w);
  assert_int_equal(w->status, AIINFRA_OK);
  assert_string_equal(w->answer, "Yes.");
  expect_events(w,
                "run_started recalled step_started reasoning tool_started tool_finished step_started reasoning token "
                "answer run_finished");
  assert_string_equal(json_string_value(json_object_get(json_array_get(w->events, 3), "text")), "I need the tool.");
  assert_string_equal(json_string_value(json_object_get(json_array_get(w->events, 8), "text")), "Yes.");
  /* behind its own call the model may see it again, by whichever name its template has */
  assert_string_equal(message(w, 1, 2, "reasoning_content"), "I need the tool.");
  assert_string_equal(message(w, 1, 2, "thinking"), "I need the tool.");
  start(w, "Thanks.", "talk", 0);
  finish(w);
  assert_string_equal(message(w, 2, 2, "role"), "assistant");
  assert_string_equal(message(w, 2, 2, "reasoning_content"), "");
  assert_string_equal(message(w, 2, 2, "thinking"), "");
  assert_string_equal(message(w, 2, 4, "content"), "Yes.");
  assert_string_equal(message(w, 2, 4, "reasoning_content"), "");
}

/* ---- limits ------------------------------------------------------------------------------------------------------------ */

static void a_slow_tool_is_given_up_and_its_late_result_ignored(void **state)
{
  world *w = *state;
  static const line lines[] = {{.calls = "[" CALL("a", "hold", "{}") "]"}, {.text = "Too slow."}};
  open_agent(w, NULL, lines);
  add_tool(w, "hold", hold_tool, false, 30);
  run(w, "Go");
  assert_int_equal(w->status, AIINFRA_OK);
  assert_string_equal(last_message(w, 1), "error: the tool took too long and was given up");
  aiinfra_tool_call_finish(w->held, "late");
  assert_int_equal(w->done, 1);
}

static void the_same_call_thrice_is_a_loop(void **state)
{
  world *w = *state;
  static const line lines[] = {{.calls = "[" CALL("a", "echo", "{\\\"x\\\":1}") "]"},
                               {.calls = "[" CALL("a", "echo", "{ \\\"x\\\": 1 }") "]"},
                               {.calls = "[" CALL("a", "echo", "{\\\"x\\\":1}") "]"},
                               {.text = "Enough."}};
  open_agent(w, NULL, lines);
  add_tool(w, "echo", echo_tool, false, 0);
  run(w, "Go");
  assert_int_equal(w->status, AIINFRA_OK);
  assert_int_equal(w->tool_runs, 2);
  assert_non_null(w->script.tools[2]);
  assert_null(w->script.tools[3]);
  assert_non_null(strstr(last_message(w, 3), "error: this call was made before"));
}

static void the_last_step_has_no_tools(void **state)
{
  world *w = *state;
  static const line lines[] = {{.calls = "[" CALL("a", "echo", "{}") "]"}, {.text = "That is all."}};
  aiinfra_agent_opts opts = AIINFRA_AGENT_OPTS_INIT;
  opts.max_steps = 2;
  open_agent(w, &opts, lines);
  add_tool(w, "echo", echo_tool, false, 0);
  run(w, "Go");
  assert_int_equal(w->status, AIINFRA_OK);
  assert_non_null(w->script.tools[0]);
  assert_null(w->script.tools[1]);
}

static void a_call_that_was_cut_off_is_not_asked_for_again(void **state)
{
  world *w = *state;
  static const line lines[] = {{.text = "So <tool_call>\n{\"name\": \"ec", .cut = true}, {.text = "In short, yes."}};
  open_agent(w, NULL, lines);
  add_tool(w, "echo", echo_tool, false, 0);
  run(w, "Go");
  assert_int_equal(w->status, AIINFRA_OK);
  assert_string_equal(w->answer, "In short, yes.");
  assert_null(w->script.tools[1]);
  assert_int_equal(json_array_size(w->script.messages[1]), 2);
  expect_events(w, "run_started recalled step_started token step_started token answer run_finished");
  assert_string_equal(json_string_value(json_object_get(json_array_get(w->events, 3), "text")), "So ");
}

static void a_full_queue_is_asked_again(void **state)
{
  world *w = *state;
  static const line lines[] = {{.refuse = AIINFRA_EBUSY}, {.refuse = AIINFRA_EBUSY}, {.text = "Now."}};
  open_agent(w, NULL, lines);
  run(w, "Go");
  assert_int_equal(w->status, AIINFRA_OK);
  assert_string_equal(w->answer, "Now.");
}

static void a_long_result_is_cut(void **state)
{
  world *w = *state;
  static char arguments[10000];
  static line lines[] = {{.calls = NULL}, {.text = "Long."}};
  char *calls = malloc(sizeof arguments + 200);
  memset(arguments, 'y', sizeof arguments - 1);
  snprintf(calls, sizeof arguments + 200,
           "[{\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"echo\",\"arguments\":\"{\\\"s\\\":\\\"%s\\\"}"
           "\"}}]",
           arguments);
  lines[0].calls = calls;
  open_agent(w, NULL, lines);
  add_tool(w, "echo", echo_tool, false, 0);
  run(w, "Go");
  assert_int_equal(w->status, AIINFRA_OK);
  assert_true(strlen(last_message(w, 1)) < 5000);
  assert_non_null(strstr(last_message(w, 1), "bytes in all)"));
  free(calls);
}

/* ---- stopping ------------------------------------------------------------------------------------------------------------ */

static void cancelling_works_in_every_state(void **state)
{
  static const char *const events[] = {"run_started",  "recalled",      "step_started", "token",
                                       "tool_started", "tool_finished", "answer"};
  static const line lines[] = {{.text = "I look.", .calls = "[" CALL("a", "echo", "{}") "]"}, {.text = "Yes."}};
  world *w = *state;
  const json_t *last;
  open_agent(w, NULL, lines);
  add_tool(w, "echo", echo_tool, false, 0);
  for (size_t i = 0; i < AII_COUNT(events); i++) {
    w->script.at = 0;
    w->cancel_at = events[i];
    for (size_t k = 0; k < MAX_LINES; k++) {
      json_decref(w->script.messages[k]);
      json_decref(w->script.tools[k]);
      w->script.messages[k] = w->script.tools[k] = NULL;
    }
    run(w, "Go");
    if (strcmp(events[i], "answer") == 0 && w->status == AIINFRA_OK) continue; /* it came too late */
    if (w->status != AIINFRA_ECANCELED) fail_msg("cancelled at %s: %s", events[i], aiinfra_status_name(w->status));
    last = json_array_get(w->events, json_array_size(w->events) - 1);
    assert_string_equal(json_string_value(json_object_get(last, "type")), "run_failed");
    assert_string_equal(w->answer, "");
  }
}

static void deadlines_end_what_hangs(void **state)
{
  world *w = *state;
  static const line model_hangs[] = {{.hang = true}};
  static const line tool_hangs[] = {{.hang = true}, {.calls = "[" CALL("a", "hold", "{}") "]"}};
  open_agent(w, NULL, model_hangs);
  add_tool(w, "hold", hold_tool, false, 0);
  start(w, "Go", NULL, 30);
  finish(w);
  assert_int_equal(w->status, AIINFRA_ETIMEDOUT);
  w->script.lines = tool_hangs;
  start(w, "Go", NULL, 30);
  finish(w);
  assert_int_equal(w->status, AIINFRA_ETIMEDOUT);
  aiinfra_tool_call_fail(w->held, "too late");
}

static void errors_of_the_model_end_the_run(void **state)
{
  world *w = *state;
  static const line lines[] = {{.refuse = AIINFRA_EINVAL},
                               {.status = AIINFRA_EDEVICE},
                               {.text = "<tool_call>\n{\"name\"", .cut = true},
                               {.calls = "[{\"id\":1}]"}};
  static const aiinfra_status expected[] = {AIINFRA_EINVAL, AIINFRA_EDEVICE, AIINFRA_ELIMIT, AIINFRA_EINVAL};
  open_agent(w, NULL, lines);
  for (size_t i = 0; i < AII_COUNT(lines); i++) {
    run(w, "Go");
    assert_int_equal(w->status, expected[i]);
    assert_non_null(strstr(w->message, "generation: "));
  }
}

static void break_journal(void *user, aiinfra_tool_call *call, const char *arguments_json)
{
  world *w = user;
  (void)arguments_json;
  sql(w, "CREATE TRIGGER broken BEFORE INSERT ON journal BEGIN SELECT RAISE(ABORT, 'no more'); END");
  aiinfra_tool_call_finish(call, "done");
}

static void a_journal_that_cannot_be_written_stops_the_run(void **state)
{
  world *w = *state;
  static const line lines[] = {{.calls = "[" CALL("a", "break", "{}") "]"}, {.text = "Never said."}};
  char *runs = NULL;
  open_agent(w, NULL, lines);
  add_tool(w, "break", break_journal, false, 0);
  run(w, "Go");
  assert_int_not_equal(w->status, AIINFRA_OK);
  assert_non_null(strstr(w->message, "journal of run"));
  assert_int_equal(w->script.at, 1);
  sql(w, "DROP TRIGGER broken");
  assert_int_equal(aiinfra_agent_runs(w->agent, 1, &runs, NULL), AIINFRA_OK);
  assert_non_null(strstr(runs, "\"state\":\"running\""));
  aiinfra_string_free(runs);
}

static void the_agent_may_be_freed_in_its_last_callback(void **state)
{
  world *w = *state;
  static const line lines[] = {{.text = "Bye."}};
  open_agent(w, NULL, lines);
  w->free_at_end = true;
  run(w, "Go");
  assert_int_equal(w->status, AIINFRA_OK);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, make_world, end_world)
  const struct CMUnitTest tests[] = {
      T(a_question_gets_an_answer),
      T(a_tool_is_called_and_its_result_read),
      T(the_agent_edits_its_blocks),
      T(calls_of_one_generation_run_in_order),
      T(bad_calls_are_told_to_the_model),
      T(reasoning_is_told_apart_and_does_not_outlive_its_run),
      T(a_slow_tool_is_given_up_and_its_late_result_ignored),
      T(the_same_call_thrice_is_a_loop),
      T(the_last_step_has_no_tools),
      T(a_full_queue_is_asked_again),
      T(a_call_that_was_cut_off_is_not_asked_for_again),
      T(a_long_result_is_cut),
      T(cancelling_works_in_every_state),
      T(deadlines_end_what_hangs),
      T(errors_of_the_model_end_the_run),
      T(a_journal_that_cannot_be_written_stops_the_run),
      T(the_agent_may_be_freed_in_its_last_callback),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
