/* test_agent_turn.c - memory runs out anywhere in a run of an agent: recall, a tool call, the answer, the journal. */
#include "tests/torture/scene.h"

#include "src/agent/agent.h"

typedef struct talk {
  int done;
  int events;
} talk;

static void on_event(void *user, const char *event_json)
{
  (void)event_json;
  ((talk *)user)->events++;
}

static void on_done(void *user, aiinfra_status status, const aiinfra_run_result *result)
{
  talk *t = user;
  t->done++;
  torture_check((status == AIINFRA_OK) == (result->error == NULL), "an error comes with its message");
  torture_check(result->answer != NULL && result->citations_json != NULL && result->stats_json != NULL,
                "the result has no holes");
}

/* ---- a model that calls a tool and then answers ------------------------------------------------------------------------ */

typedef struct speech {
  aii_task task;
  aiinfra_runtime *rt;
  bool last;
  aiinfra_chunk_cb on_chunk;
  aiinfra_result_cb on_result;
  void *user;
  aiinfra_request *request;
} speech;

static void speak(aii_task *task)
{
  speech *s = AII_CONTAINER(task, speech, task);
  aiinfra_runtime *rt = s->rt;
  aiinfra_chunk chunk = {.text = "It is 4. [1]", .n_bytes = 12};
  aiinfra_result result = {.text = s->last ? chunk.text : "",
                           .tool_calls_json = s->last ? NULL
                                                      : "[{\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":"
                                                        "\"calculator\",\"arguments\":\"{\\\"expression\\\":\\\"2+2"
                                                        "\\\"}\"}},{\"id\":\"b\",\"type\":\"function\",\"function\":{"
                                                        "\"name\":\"memory_search\",\"arguments\":\"{\\\"query\\\":"
                                                        "\\\"cat\\\"}\"}}]",
                           .finish = s->last ? AIINFRA_FINISH_STOP : AIINFRA_FINISH_TOOL};
  if (s->last) s->on_chunk(s->user, &chunk);
  s->on_result(s->user, AIINFRA_OK, &result);
  aii_request_end(s->request, AIINFRA_OK);
  aii_del(&rt->mem, s, sizeof *s);
  aii_loop_drop(rt->loop);
}

static void ignore(void *impl)
{
  (void)impl;
}

static aiinfra_status scripted(void *impl, const aiinfra_generate_opts *opts, aiinfra_chunk_cb on_chunk,
                               aiinfra_result_cb on_result, void *user, aiinfra_request **request, aiinfra_error *err)
{
  aiinfra_runtime *rt = impl;
  speech *s = aii_new(&rt->mem, sizeof *s);
  if (s == NULL) return aii_fail(err, AIINFRA_ENOMEM, "speech");
  s->rt = rt;
  s->last = strstr(opts->messages_json, "\"tool\"") != NULL;
  s->on_chunk = on_chunk;
  s->on_result = on_result;
  s->user = user;
  s->task.fn = speak;
  s->request = *request = aii_request_new(rt, ignore, s);
  if (s->request == NULL) {
    aii_del(&rt->mem, s, sizeof *s);
    return aii_fail(err, AIINFRA_ENOMEM, "speech");
  }
  aii_loop_hold(rt->loop);
  aii_loop_post(rt->loop, &s->task);
  return AIINFRA_OK;
}

/* ---- scenarios ------------------------------------------------------------------------------------------------------------ */

static aiinfra_status run_agent(aiinfra_agent *agent, const char *input)
{
  aiinfra_run_opts opts = AIINFRA_RUN_OPTS_INIT;
  aiinfra_request *request = NULL;
  talk t = {0};
  aiinfra_status rc;
  opts.input = input;
  opts.conversation = "talk";
  opts.seed = 1;
  rc = torture_made(aiinfra_agent_run(agent, &opts, on_event, on_done, &t, &request, NULL), &request, "agent_run");
  return rc == AIINFRA_OK ? scene_wait(request, &t.done) : rc;
}

static aiinfra_status open_memory(aiinfra_runtime *runtime, aiinfra_db **db, aiinfra_memory **memory)
{
  aiinfra_status rc = aiinfra_db_open(runtime, ":memory:", NULL, db, NULL);
  if (rc == AIINFRA_OK) rc = aiinfra_memory_open(*db, NULL, memory, NULL);
  if (rc == AIINFRA_OK) rc = aiinfra_memory_remember(*memory, "The cat is called Miso.", NULL, NULL, NULL);
  return rc;
}

/* A run with two tool calls; the model is a script. */
static aiinfra_status tool_turn(void *ctx)
{
  const aiinfra_agent_opts opts = AIINFRA_AGENT_OPTS_INIT;
  aii_generator gen = {.generate = scripted, .max_context = 2048};
  aiinfra_runtime *runtime = NULL;
  aiinfra_db *db = NULL;
  aiinfra_memory *memory = NULL;
  aiinfra_agent *agent = NULL;
  aiinfra_status rc;
  (void)ctx;
  torture_pause("set-up");
  rc = scene_runtime(&runtime);
  if (rc == AIINFRA_OK) rc = open_memory(runtime, &db, &memory);
  torture_resume();
  gen.impl = runtime;
  if (rc == AIINFRA_OK)
    rc = torture_made(aii_agent_create(&gen, db, memory, &opts, &agent, NULL), &agent, "agent_create");
  if (rc == AIINFRA_OK) rc = aiinfra_agent_add_builtin_tools(agent, NULL);
  if (rc == AIINFRA_OK) rc = run_agent(agent, "My cat is old.");
  aiinfra_agent_free(agent);
  aiinfra_memory_free(memory);
  aiinfra_db_free(db);
  aiinfra_runtime_free(runtime);
  return rc;
}

/* A run on a real batcher. */
static aiinfra_status model_turn(void *ctx)
{
  aiinfra_agent_opts opts = AIINFRA_AGENT_OPTS_INIT;
  aiinfra_db *db = NULL;
  aiinfra_memory *memory = NULL;
  aiinfra_agent *agent = NULL;
  scene s;
  aiinfra_status rc;
  (void)ctx;
  opts.max_tokens = 4;
  torture_pause("set-up");
  rc = scene_open(&s);
  if (rc == AIINFRA_OK) rc = open_memory(s.runtime, &db, &memory);
  torture_resume();
  if (rc == AIINFRA_OK)
    rc = torture_made(aiinfra_agent_create(s.batcher, db, memory, &opts, &agent, NULL), &agent, "agent_create");
  if (rc == AIINFRA_OK) rc = run_agent(agent, "Hello");
  aiinfra_agent_free(agent);
  aiinfra_memory_free(memory);
  aiinfra_db_free(db);
  scene_close(&s);
  return rc;
}

static void with_tools(void **state)
{
  (void)state;
  assert_int_equal(torture_run("agent.tools", tool_turn, NULL, NULL), 0);
}

static void with_a_model(void **state)
{
  (void)state;
  assert_int_equal(torture_run("agent.model", model_turn, NULL, NULL), 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(with_tools), cmocka_unit_test(with_a_model)};
  scene_model();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
