/* test_agent.c - the agent through the shipped library: what it refuses, and runs on a tiny random model, which says
 * nonsense but says it in time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aiinfra.h"
#include "data/gguf_maker.h"
#include "support/support.h"

#define TEMPLATE                                                                                           \
  "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if tools %}<tool_call>{% endif %}" \
  "{% if add_generation_prompt %}assistant: {% endif %}"

static struct {
  aiinfra_runtime *runtime;
  aiinfra_model *model;
  aiinfra_kv *kv;
  aiinfra_batcher *batcher;
  aiinfra_db *db;
  aiinfra_memory *memory;
} w;
static aiinfra_error err;

#define MUST(call)                                                    \
  do {                                                                \
    if ((call) != AIINFRA_OK) fail_msg("%s: %s", #call, err.message); \
  } while (0)
#define REFUSED(status, call) assert_int_equal(call, status)

static int open_all(void **state)
{
  static const gm_shape shape = {.arch = "llama",
                                 .n_vocab = 263,
                                 .n_embd = 16,
                                 .n_layers = 2,
                                 .n_heads = 4,
                                 .n_kv_heads = 2,
                                 .head_dim = 4,
                                 .n_ff = 24,
                                 .n_rot = 4,
                                 .context = 2048,
                                 .chat_template = TEMPLATE,
                                 .seed = 1};
  aiinfra_kv_opts kv_opts = AIINFRA_KV_OPTS_INIT;
  size_t size;
  uint8_t *bytes = gm_model(&shape, &size);
  const char *path = test_tmp("tiny.gguf");
  (void)state;
  assert_int_equal(test_write_file(path, bytes, size), 0);
  free(bytes);
  kv_opts.budget_bytes = 4 << 20;
  MUST(aiinfra_runtime_create(NULL, &w.runtime, &err));
  MUST(aiinfra_model_open(w.runtime, path, NULL, &w.model, &err));
  MUST(aiinfra_kv_create(w.model, &kv_opts, &w.kv, &err));
  MUST(aiinfra_batcher_create(w.model, w.kv, NULL, &w.batcher, &err));
  MUST(aiinfra_db_open(w.runtime, test_db(":memory:"), NULL, &w.db, &err));
  MUST(aiinfra_memory_open(w.db, NULL, &w.memory, &err));
  return 0;
}

static int close_all(void **state)
{
  (void)state;
  aiinfra_memory_free(w.memory);
  aiinfra_db_free(w.db);
  aiinfra_batcher_free(w.batcher);
  aiinfra_kv_free(w.kv);
  aiinfra_model_free(w.model);
  aiinfra_runtime_free(w.runtime);
  return 0;
}

static aiinfra_agent *make_agent(aiinfra_memory *memory)
{
  aiinfra_agent_opts opts = AIINFRA_AGENT_OPTS_INIT;
  aiinfra_agent *agent = NULL;
  opts.max_tokens = 8;
  opts.max_steps = 3;
  MUST(aiinfra_agent_create(w.batcher, w.db, memory, &opts, &agent, &err));
  return agent;
}

/* ---- arguments --------------------------------------------------------------------------------------------------------- */

static void bad_arguments_are_refused(void **state)
{
  aiinfra_agent_opts opts = AIINFRA_AGENT_OPTS_INIT;
  aiinfra_run_opts run = AIINFRA_RUN_OPTS_INIT;
  aiinfra_agent *agent = (void *)&opts;
  aiinfra_request *request = (void *)&opts;
  char *json = (void *)&opts;
  (void)state;
  REFUSED(AIINFRA_EINVAL, aiinfra_agent_create(NULL, w.db, NULL, NULL, &agent, &err));
  assert_null(agent);
  REFUSED(AIINFRA_EINVAL, aiinfra_agent_create(w.batcher, NULL, NULL, NULL, &agent, &err));
  REFUSED(AIINFRA_EINVAL, aiinfra_agent_create(w.batcher, w.db, NULL, NULL, NULL, &err));
  opts.temperature = -1;
  REFUSED(AIINFRA_EINVAL, aiinfra_agent_create(w.batcher, w.db, NULL, &opts, &agent, &err));
  opts = (aiinfra_agent_opts)AIINFRA_AGENT_OPTS_INIT;
  opts.recall = 7;
  REFUSED(AIINFRA_EINVAL, aiinfra_agent_create(w.batcher, w.db, NULL, &opts, &agent, &err));
  opts = (aiinfra_agent_opts)AIINFRA_AGENT_OPTS_INIT;
  opts.quote = 2;
  REFUSED(AIINFRA_EINVAL, aiinfra_agent_create(w.batcher, w.db, NULL, &opts, &agent, &err));
  opts.struct_size = 8;
  REFUSED(AIINFRA_EINVAL, aiinfra_agent_create(w.batcher, w.db, NULL, &opts, &agent, &err));
  assert_null(agent);

  agent = make_agent(NULL);
  REFUSED(AIINFRA_EINVAL, aiinfra_agent_run(agent, NULL, NULL, NULL, NULL, &request, &err));
  assert_null(request);
  run.input = "\xff\xfe";
  REFUSED(AIINFRA_EINVAL, aiinfra_agent_run(agent, &run, NULL, NULL, NULL, &request, &err));
  run.input = "Hi";
  REFUSED(AIINFRA_EINVAL, aiinfra_agent_run(NULL, &run, NULL, NULL, NULL, &request, &err));
  run.conversation = "talk"; /* without a memory there is nowhere to keep it */
  REFUSED(AIINFRA_EINVAL, aiinfra_agent_run(agent, &run, NULL, NULL, NULL, &request, &err));
  REFUSED(AIINFRA_EINVAL, aiinfra_agent_resume(agent, 0, NULL, NULL, NULL, &request, &err));
  REFUSED(AIINFRA_EINVAL, aiinfra_agent_runs(NULL, 0, &json, &err));
  assert_null(json);
  REFUSED(AIINFRA_EINVAL, aiinfra_agent_runs(agent, 0, NULL, &err));
  aiinfra_agent_free(agent);
  aiinfra_agent_free(NULL);
  aiinfra_tool_call_finish(NULL, "");
  aiinfra_tool_call_fail(NULL, "");
}

static void no_tool(void *user, aiinfra_tool_call *call, const char *arguments_json)
{
  (void)user, (void)arguments_json;
  aiinfra_tool_call_finish(call, "");
}

static void bad_tools_are_refused(void **state)
{
  static const char *const names[] = {
      NULL, "", "two words", "a.b", "caf\xc3\xa9", "a2345678901234567890123456789012345678901234567890123456789012345"};
  static const char *const schemas[] = {"", "{", "[]", "\"text\"", "{\"type\": \"nothing\"}"};
  aiinfra_agent *agent = make_agent(w.memory);
  aiinfra_tool tool = AIINFRA_TOOL_INIT;
  (void)state;
  tool.run = no_tool;
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    tool.name = names[i];
    REFUSED(AIINFRA_EINVAL, aiinfra_agent_add_tool(agent, &tool, &err));
  }
  tool.name = "good";
  for (size_t i = 0; i < sizeof schemas / sizeof schemas[0]; i++) {
    tool.parameters_json = schemas[i];
    if (aiinfra_agent_add_tool(agent, &tool, &err) != AIINFRA_EINVAL) fail_msg("schema %s was taken", schemas[i]);
    assert_non_null(strstr(err.message, "'good'"));
  }
  tool.parameters_json = NULL;
  tool.run = NULL;
  REFUSED(AIINFRA_EINVAL, aiinfra_agent_add_tool(agent, &tool, &err));
  tool.run = no_tool;
  MUST(aiinfra_agent_add_tool(agent, &tool, &err));
  REFUSED(AIINFRA_EEXIST, aiinfra_agent_add_tool(agent, &tool, &err));
  MUST(aiinfra_agent_add_builtin_tools(agent, &err));
  REFUSED(AIINFRA_EEXIST, aiinfra_agent_add_builtin_tools(agent, &err));
  aiinfra_agent_free(agent);
}

/* ---- runs ---------------------------------------------------------------------------------------------------------------- */

typedef struct ending {
  int n, events;
  aiinfra_status status;
  int64_t run;
  char answer[512];
  aiinfra_agent *free_it;
} ending;

static void on_event(void *user, const char *event_json)
{
  assert_int_equal(event_json[0], '{');
  ((ending *)user)->events++;
}

static void on_done(void *user, aiinfra_status status, const aiinfra_run_result *result)
{
  ending *e = user;
  e->n++;
  e->status = status;
  e->run = result->run_id;
  snprintf(e->answer, sizeof e->answer, "%s", result->answer);
  assert_int_equal(result->error == NULL, status == AIINFRA_OK);
  assert_int_equal(result->stats_json[0], '{');
  assert_int_equal(result->citations_json[0], '[');
  aiinfra_agent_free(e->free_it);
}

static aiinfra_request *start(aiinfra_agent *agent, const char *input, ending *e)
{
  aiinfra_run_opts opts = AIINFRA_RUN_OPTS_INIT;
  aiinfra_request *request = NULL;
  memset(e, 0, sizeof *e);
  opts.input = input;
  opts.seed = 7;
  MUST(aiinfra_agent_run(agent, &opts, on_event, on_done, e, &request, &err));
  assert_int_equal(e->n, 0); /* never inside the call */
  return request;
}

static aiinfra_status finish(aiinfra_request *request, ending *e)
{
  aiinfra_status rc = aiinfra_request_wait(request, 30000, &err);
  assert_int_equal(e->n, 1);
  assert_int_equal(e->status, rc);
  aiinfra_request_free(request);
  return rc;
}

static void a_run_ends_with_an_answer(void **state)
{
  aiinfra_agent *agent = make_agent(w.memory);
  ending e, again;
  char *runs = NULL;
  (void)state;
  MUST(aiinfra_agent_add_builtin_tools(agent, &err));
  assert_int_equal(finish(start(agent, "Hello", &e), &e), AIINFRA_OK);
  assert_true(e.run > 0);
  assert_true(e.events >= 5);
  assert_int_equal(finish(start(agent, "Hello", &again), &again), AIINFRA_OK);
  assert_string_equal(again.answer, e.answer); /* greedy */
  MUST(aiinfra_agent_runs(agent, 0, &runs, &err));
  assert_non_null(strstr(runs, "\"state\":\"finished\""));
  aiinfra_string_free(runs);
  MUST(aiinfra_agent_runs(agent, 1, &runs, &err));
  assert_string_equal(runs, "[]");
  aiinfra_string_free(runs);
  aiinfra_agent_free(agent);
}

static void many_runs_at_once(void **state)
{
  aiinfra_agent *agent = make_agent(w.memory);
  aiinfra_request *requests[8];
  ending e[8];
  (void)state;
  for (int i = 0; i < 8; i++) requests[i] = start(agent, "Hello", &e[i]);
  for (int i = 0; i < 8; i++) {
    assert_int_equal(finish(requests[i], &e[i]), AIINFRA_OK);
    assert_string_equal(e[i].answer, e[0].answer); /* whoever else runs */
  }
  aiinfra_agent_free(agent);
}

static void an_input_that_does_not_fit_is_told(void **state)
{
  aiinfra_agent *agent = make_agent(NULL);
  char *input = malloc(100001);
  ending e;
  (void)state;
  memset(input, 'y', 100000);
  input[100000] = '\0';
  assert_int_equal(finish(start(agent, input, &e), &e), AIINFRA_EINVAL);
  assert_string_equal(e.answer, "");
  free(input);
  aiinfra_agent_free(agent);
}

static void cancelled_and_freed(void **state)
{
  aiinfra_agent *agent = make_agent(w.memory);
  aiinfra_request *request;
  aiinfra_run_opts opts = AIINFRA_RUN_OPTS_INIT;
  ending e;
  char *runs = NULL;
  (void)state;
  request = start(agent, "Hello", &e);
  aiinfra_request_cancel(request);
  assert_int_equal(finish(request, &e), AIINFRA_ECANCELED);
  request = start(agent, "Hello", &e);
  aiinfra_agent_free(agent); /* the run ends, and can be resumed */
  assert_int_equal(finish(request, &e), AIINFRA_ECANCELED);
  agent = make_agent(w.memory);
  MUST(aiinfra_agent_runs(agent, 1, &runs, &err));
  if (e.run > 0) {
    assert_non_null(strstr(runs, "\"state\":\"running\""));
    memset(&e, 0, sizeof e);
    MUST(aiinfra_agent_resume(agent, atoll(strstr(runs, "\"run\":") + 6), on_event, on_done, &e, &request, &err));
    assert_int_equal(finish(request, &e), AIINFRA_OK);
  }
  aiinfra_string_free(runs);
  memset(&e, 0, sizeof e);
  e.free_it = agent; /* in the last callback, with nobody waiting for the request */
  opts.input = "Bye";
  MUST(aiinfra_agent_run(agent, &opts, NULL, on_done, &e, NULL, &err));
  MUST(aiinfra_runtime_run(w.runtime, &err));
  assert_int_equal(e.n, 1);
}

static void runs_that_are_not_there(void **state)
{
  aiinfra_agent *agent = make_agent(w.memory);
  aiinfra_request *request = NULL;
  ending e = {0};
  (void)state;
  MUST(aiinfra_agent_resume(agent, 4711, on_event, on_done, &e, &request, &err));
  assert_int_equal(finish(request, &e), AIINFRA_ENOENT);
  aiinfra_agent_free(agent);
}

/* Children keep what they stand on alive: the host may let go first, in any order. */
static void outlives_what_the_host_let_go(void **state)
{
  aiinfra_agent *agent = make_agent(w.memory);
  ending e;
  (void)state;
  aiinfra_memory_free(w.memory);
  aiinfra_db_free(w.db);
  w.memory = NULL;
  w.db = NULL;
  assert_int_equal(finish(start(agent, "Hello", &e), &e), AIINFRA_OK);
  aiinfra_batcher_free(w.batcher);
  w.batcher = NULL;
  assert_int_equal(finish(start(agent, "Hello", &e), &e), AIINFRA_ECLOSED);
  aiinfra_agent_free(agent);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(bad_arguments_are_refused),
      cmocka_unit_test(bad_tools_are_refused),
      cmocka_unit_test(a_run_ends_with_an_answer),
      cmocka_unit_test(many_runs_at_once),
      cmocka_unit_test(an_input_that_does_not_fit_is_told),
      cmocka_unit_test(cancelled_and_freed),
      cmocka_unit_test(runs_that_are_not_there),
      cmocka_unit_test(outlives_what_the_host_let_go), /* the last one: it takes the world down */
  };
  return cmocka_run_group_tests(tests, open_all, close_all);
}
