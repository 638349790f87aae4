/* agent_script.h - what the tests of runs share: a model that says what a script says, and a world for an agent to live
 * in. A world is a runtime, a database in a fresh file, a memory, and the events and the end of the last run.
 */
#ifndef AIINFRA_TESTS_AGENT_SCRIPT_H
#define AIINFRA_TESTS_AGENT_SCRIPT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/agent/agent.h"
#include "tests/support/support.h"

/* ---- a model that follows a script -------------------------------------------------------------------------------- */

typedef struct line {
  const char *text;      /* what it says */
  const char *calls;     /* tool_calls as JSON; NULL: none */
  const char *thought;   /* its reasoning; NULL: none */
  aiinfra_status refuse; /* generate() itself returns this */
  aiinfra_status status; /* of the result */
  bool hang;             /* until it is cancelled */
  bool cut;              /* finish is LENGTH */
} line;

#define MAX_LINES 12

typedef struct script {
  aiinfra_runtime *rt;
  const line *lines;
  size_t at;
  json_t *messages[MAX_LINES]; /* of each generation that was taken */
  json_t *tools[MAX_LINES];    /* NULL: none were given */
} script;

typedef struct speech {
  aii_task task;
  script *script;
  line line;
  bool canceled, posted;
  aiinfra_chunk_cb on_chunk;
  aiinfra_result_cb on_result;
  void *user;
  aiinfra_request *request;
} speech;

static inline void speak(aii_task *task)
{
  speech *s = AII_CONTAINER(task, speech, task);
  aiinfra_runtime *rt = s->script->rt;
  aiinfra_error err = {.status = s->line.status, .message = "scripted failure"};
  aiinfra_status status = s->canceled ? AIINFRA_ECANCELED : s->line.status;
  aiinfra_result result = {.text = s->line.text != NULL ? s->line.text : "",
                           .tool_calls_json = s->line.calls,
                           .error = status != AIINFRA_OK ? &err : NULL,
                           .cut_call = s->line.cut,
                           .n_prompt = 10,
                           .n_cached = 4,
                           .n_generated = 3,
                           .finish = s->line.calls != NULL ? AIINFRA_FINISH_TOOL
                                     : s->line.cut         ? AIINFRA_FINISH_LENGTH
                                                           : AIINFRA_FINISH_STOP};
  result.text_bytes = strlen(result.text);
  result.reasoning = s->line.thought != NULL ? s->line.thought : "";
  result.reasoning_bytes = strlen(result.reasoning);
  if (status == AIINFRA_OK && result.text_bytes + result.reasoning_bytes > 0) {
    aiinfra_chunk chunk = {.text = result.text,
                           .n_bytes = result.text_bytes,
                           .reasoning = result.reasoning,
                           .reasoning_bytes = result.reasoning_bytes};
    s->on_chunk(s->user, &chunk);
  }
  s->on_result(s->user, status, &result);
  aii_request_end(s->request, status);
  aii_del(&rt->mem, s, sizeof *s);
  aii_loop_drop(rt->loop);
}

static inline void cancel_speech(void *impl)
{
  speech *s = impl;
  s->canceled = true;
  if (!s->posted) aii_loop_post(s->script->rt->loop, &s->task);
  s->posted = true;
}

static inline aiinfra_status scripted(void *impl, const aiinfra_generate_opts *opts, aiinfra_chunk_cb on_chunk,
                                      aiinfra_result_cb on_result, void *user, aiinfra_request **request,
                                      aiinfra_error *err)
{
  script *sc = impl;
  line l = sc->lines[sc->at];
  speech *s;
  if (l.refuse != AIINFRA_OK) {
    sc->at++;
    return aii_fail(err, l.refuse, "refused by the script");
  }
  assert_true(sc->at < MAX_LINES);
  sc->messages[sc->at] = json_loads(opts->messages_json, 0, NULL);
  sc->tools[sc->at] = opts->tools_json != NULL ? json_loads(opts->tools_json, 0, NULL) : NULL;
  sc->at++;
  s = aii_new(&sc->rt->mem, sizeof *s);
  *s = (speech){.script = sc, .line = l, .on_chunk = on_chunk, .on_result = on_result, .user = user};
  s->task.fn = speak;
  s->request = aii_request_new(sc->rt, cancel_speech, s);
  *request = s->request;
  aii_loop_hold(sc->rt->loop);
  s->posted = !l.hang;
  if (s->posted) aii_loop_post(sc->rt->loop, &s->task);
  return AIINFRA_OK;
}

/* ---- a world for it to live in ------------------------------------------------------------------------------------- */

typedef struct world {
  aiinfra_runtime *rt;
  aiinfra_db *db;
  aiinfra_memory *memory;
  aiinfra_agent *agent;
  script script;
  json_t *events;
  int done;
  aiinfra_status status;
  char answer[256], citations[512], message[512];
  json_t *stats;
  int64_t run;
  aiinfra_request *request;
  const char *cancel_at;   /* cancel when this event comes */
  bool free_at_end;        /* free the agent in the terminal callback */
  aiinfra_tool_call *held; /* by hold_tool */
  int tool_runs;
} world;

static inline void on_event(void *user, const char *text)
{
  world *w = user;
  json_t *event = json_loads(text, 0, NULL);
  assert_non_null(event);
  assert_int_equal(json_integer_value(json_object_get(event, "seq")), json_array_size(w->events) + 1);
  if (w->cancel_at != NULL && strcmp(json_string_value(json_object_get(event, "type")), w->cancel_at) == 0)
    aiinfra_request_cancel(w->request);
  json_array_append_new(w->events, event);
}

static inline void on_done(void *user, aiinfra_status status, const aiinfra_run_result *result)
{
  world *w = user;
  w->done++;
  w->status = status;
  w->run = result->run_id;
  snprintf(w->answer, sizeof w->answer, "%s", result->answer);
  snprintf(w->citations, sizeof w->citations, "%s", result->citations_json);
  snprintf(w->message, sizeof w->message, "%s", result->error != NULL ? result->error->message : "");
  json_decref(w->stats);
  w->stats = json_loads(result->stats_json, 0, NULL);
  assert_int_equal(result->error == NULL, status == AIINFRA_OK);
  if (w->free_at_end) {
    aiinfra_agent_free(w->agent);
    w->agent = NULL;
  }
}

static inline void open_agent(world *w, const aiinfra_agent_opts *opts, const line *lines)
{
  const aiinfra_agent_opts none = AIINFRA_AGENT_OPTS_INIT;
  aii_generator gen = {.impl = &w->script, .generate = scripted, .max_context = 4096};
  aiinfra_error err;
  w->script.rt = w->rt;
  w->script.lines = lines;
  if (aii_agent_create(&gen, w->db, w->memory, opts != NULL ? opts : &none, &w->agent, &err) != AIINFRA_OK)
    fail_msg("%s", err.message);
}

static inline int make_world(void **state)
{
  static int n;
  char name[32];
  world *w = calloc(1, sizeof *w);
  aiinfra_error err;
  snprintf(name, sizeof name, "agent%d.db", n++);
  w->events = json_array();
  if (aiinfra_runtime_create(NULL, &w->rt, &err) != AIINFRA_OK ||
      aiinfra_db_open(w->rt, test_db(name), NULL, &w->db, &err) != AIINFRA_OK ||
      aiinfra_memory_open(w->db, NULL, &w->memory, &err) != AIINFRA_OK)
    fail_msg("%s", err.message);
  *state = w;
  return 0;
}

static inline int end_world(void **state)
{
  world *w = *state;
  aiinfra_agent_free(w->agent);
  aiinfra_memory_free(w->memory);
  aiinfra_db_free(w->db);
  aiinfra_runtime_free(w->rt);
  for (size_t i = 0; i < MAX_LINES; i++) {
    json_decref(w->script.messages[i]);
    json_decref(w->script.tools[i]);
  }
  json_decref(w->events);
  json_decref(w->stats);
  free(w);
  return 0;
}

static inline void add_tool(world *w, const char *name, aiinfra_tool_fn run, bool idempotent, uint32_t timeout_ms)
{
  aiinfra_tool tool = AIINFRA_TOOL_INIT;
  aiinfra_error err;
  tool.name = name;
  tool.description = "A tool.";
  tool.parameters_json = "{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"integer\"}}}";
  tool.run = run;
  tool.user = w;
  tool.idempotent = idempotent;
  tool.timeout_ms = timeout_ms;
  if (aiinfra_agent_add_tool(w->agent, &tool, &err) != AIINFRA_OK) fail_msg("%s", err.message);
}

static inline void start(world *w, const char *input, const char *conversation, uint64_t deadline_ms)
{
  aiinfra_run_opts opts = AIINFRA_RUN_OPTS_INIT;
  aiinfra_error err;
  opts.input = input;
  opts.conversation = conversation;
  opts.deadline_ms = deadline_ms;
  w->done = 0;
  json_array_clear(w->events);
  if (aiinfra_agent_run(w->agent, &opts, on_event, on_done, w, &w->request, &err) != AIINFRA_OK)
    fail_msg("%s", err.message);
  assert_int_equal(w->done, 0);
}

static inline void finish(world *w)
{
  aiinfra_error err;
  (void)aiinfra_request_wait(w->request, 10000, &err);
  assert_int_equal(w->done, 1);
  aiinfra_request_free(w->request);
  w->request = NULL;
}

static inline void run(world *w, const char *input)
{
  start(w, input, NULL, 0);
  finish(w);
}

static inline void resume(world *w, int64_t id)
{
  aiinfra_error err;
  w->done = 0;
  json_array_clear(w->events);
  if (aiinfra_agent_resume(w->agent, id, on_event, on_done, w, &w->request, &err) != AIINFRA_OK)
    fail_msg("%s", err.message);
  finish(w);
}

/* "run_started recalled step_started ..." */
static inline void expect_events(world *w, const char *expected)
{
  char types[1024] = "";
  size_t i;
  json_t *event;
  json_array_foreach(w->events, i, event)
  {
    strncat(types, i > 0 ? " " : "", sizeof types - strlen(types) - 1);
    strncat(types, json_string_value(json_object_get(event, "type")), sizeof types - strlen(types) - 1);
  }
  assert_string_equal(types, expected);
}

static inline const char *message(const world *w, size_t generation, size_t i, const char *key)
{
  const json_t *messages = w->script.messages[generation];
  const char *text = json_string_value(json_object_get(json_array_get(messages, i), key));
  return text != NULL ? text : "";
}

static inline const char *last_message(const world *w, size_t generation)
{
  return message(w, generation, json_array_size(w->script.messages[generation]) - 1, "content");
}

static inline long long stat(const world *w, const char *key)
{
  return json_integer_value(json_object_get(w->stats, key));
}

#define CALL(id, name, arguments) \
  "{\"id\":\"" id "\",\"type\":\"function\",\"function\":{\"name\":\"" name "\",\"arguments\":\"" arguments "\"}}"

static inline void sql(world *w, const char *text)
{
  aiinfra_error err;
  aii_sql *sql = w->db->sql;
  aii_sql_lock(sql);
  aiinfra_status rc = aii_sql_begin(sql, &err);
  if (rc == AIINFRA_OK) rc = aii_sql_exec(sql, text, &err);
  if (rc == AIINFRA_OK) rc = aii_sql_commit(sql, &err);
  aii_sql_unlock(sql);
  if (rc != AIINFRA_OK) fail_msg("%s", err.message);
}

/* ---- tools ---------------------------------------------------------------------------------------------------------- */

static inline void echo_tool(void *user, aiinfra_tool_call *call, const char *arguments_json)
{
  world *w = user;
  w->tool_runs++;
  aiinfra_tool_call_finish(call, arguments_json);
}

static inline void broken_tool(void *user, aiinfra_tool_call *call, const char *arguments_json)
{
  (void)user, (void)arguments_json;
  aiinfra_tool_call_fail(call, "it broke");
}

static inline void hold_tool(void *user, aiinfra_tool_call *call, const char *arguments_json)
{
  world *w = user;
  (void)arguments_json;
  w->tool_runs++;
  w->held = call;
}

static inline void *finish_later(void *arg)
{
  usleep(20000);
  aiinfra_tool_call_finish(arg, "from afar");
  return NULL;
}

static inline void thread_tool(void *user, aiinfra_tool_call *call, const char *arguments_json)
{
  pthread_t thread;
  (void)user, (void)arguments_json;
  assert_int_equal(pthread_create(&thread, NULL, finish_later, call), 0);
  pthread_detach(thread);
}

#endif
