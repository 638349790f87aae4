/* turn.c - one turn of a run: the model is asked, or a tool is called.
 *
 * Happy path of a generation: messages and tools go to the batcher, tokens come back as events, the result is
 * journalled as llm_completed with the calls it asks for, or with the answer. Of a tool call: tool_started is
 * journalled, the tool runs, tool_completed is journalled together with the next llm_requested.
 * Possible failures: the batcher's queue is full (asked again after a pause); a call is cut off by max_tokens (asked
 * again without tools); a tool fails, takes too long, does not exist, or is called the same way for the third time:
 * the model is told and goes on.
 * Loop thread only.
 */
#include "src/agent/agent.h"

#define PAUSE_MS 20    /* before a full queue is asked again */
#define MAX_REPEATS 3u /* the same call with the same arguments is a loop */
#define MIN_RESULT_BYTES 2048u

/* ---- generation ------------------------------------------------------------------------------------------------------- */

static const char *skip_space(const char *text)
{
  return text + strspn(text, " \t\r\n");
}

/* What a model may still write when it was given no tools: it is no answer. NULL: there is none. */
static const char *find_call(const aii_run *run, const char *text)
{
  const char *opening = aii_output_opening(run->agent->gen.syntax.format);
  return strstr(text, opening != NULL ? opening : "<tool_call>");
}

/* What the model said, without white space around it and without a call that was cut off. */
static json_t *said(aii_run *run, const char *text)
{
  const char *call = find_call(run, text);
  size_t n = call != NULL ? (size_t)(call - text) : strlen(text);
  while (n > 0 && strchr(" \t\r\n", text[n - 1]) != NULL) n--;
  while (n > 0 && strchr(" \t\r\n", text[0]) != NULL) text++, n--;
  return aii_report_text(&run->agent->rt->mem, text, n);
}

static void report_text(aii_run *run, const char *type, const char *text, size_t n)
{
  aii_report(run, type, json_pack("{so}", "text", aii_report_text(&run->agent->rt->mem, text, n)));
}

/* What the model thinks, and what it says; its calls come at the end. */
static void on_chunk(void *user, const aiinfra_chunk *chunk)
{
  aii_run *run = user;
  if (run->stop == AIINFRA_OK && chunk->reasoning_bytes > 0)
    report_text(run, "reasoning", chunk->reasoning, chunk->reasoning_bytes);
  const char *text = run->speaking ? chunk->text : skip_space(chunk->text);
  const char *call = find_call(run, text);
  size_t n = call != NULL ? (size_t)(call - text) : chunk->n_bytes - (size_t)(text - chunk->text);
  if (run->stop != AIINFRA_OK || n == 0) return;
  run->speaking = true;
  report_text(run, "token", text, n);
}

static aiinfra_status stage_calls(aii_run *run, json_t *calls, aiinfra_error *err)
{
  size_t i, number = run->fold.n_calls;
  json_t *call;
  json_array_foreach(calls, i, call)
  {
    const char *id = NULL, *name = NULL, *arguments = NULL;
    json_t *function = NULL;
    aiinfra_status rc = aii_json_get_str(call, "tool_calls[]", "id", true, &id, err);
    if (rc == AIINFRA_OK) rc = aii_json_get_object(call, "tool_calls[]", "function", true, &function, err);
    if (rc == AIINFRA_OK) rc = aii_json_get_str(function, "tool_calls[].function", "name", true, &name, err);
    if (rc == AIINFRA_OK) rc = aii_json_get_str(function, "tool_calls[].function", "arguments", true, &arguments, err);
    if (rc != AIINFRA_OK) return rc;
    if (!aii_job_stage(run, AII_EV_TOOL_SCHEDULED,
                       json_pack("{sI, ss, ss, ss}", "call", (json_int_t)(number + i + 1), "id", id, "name", name,
                                 "arguments", arguments)))
      return aii_fail(err, AIINFRA_ENOMEM, "tool call");
  }
  return AIINFRA_OK;
}

static json_t *completed_body(aii_run *run, json_t *text, json_t *calls, bool cut, const aiinfra_result *result)
{
  json_t *reasoning = NULL;
  if (result->reasoning_bytes > 0) {
    reasoning = aii_report_text(&run->agent->rt->mem, result->reasoning, result->reasoning_bytes);
    if (reasoning == NULL) return NULL;
  }
  return json_pack("{sO, so*, sO*, so*, sI, sI, sI, sf, sf, sf}", "text", text, "reasoning", reasoning, "tool_calls",
                   calls, "cut", cut ? json_true() : NULL, "prompt_tokens", (json_int_t)result->n_prompt,
                   "cached_tokens", (json_int_t)result->n_cached, "generated_tokens", (json_int_t)result->n_generated,
                   "queue_ms", (double)result->queue_ns * 1e-6, "prefill_ms", (double)result->prefill_ns * 1e-6,
                   "decode_ms", (double)result->decode_ns * 1e-6);
}

static aiinfra_status stage_answer(aii_run *run, json_t *text, aiinfra_error *err)
{
  json_t *citations = aii_prompt_citations(json_string_value(text), run->fold.passages);
  return aii_job_stage(run, AII_EV_ANSWER, json_pack("{sO, so}", "text", text, "citations", citations))
             ? AIINFRA_OK
             : aii_fail(err, AIINFRA_ENOMEM, "answer");
}

/* What follows from a generation: calls, or another try without tools when max_tokens cut a call off, or the answer. */
static aiinfra_status stage_outcome(aii_run *run, const aiinfra_result *result, json_t *text, json_t *calls,
                                    aiinfra_error *err)
{
  bool cut = json_array_size(calls) == 0 && (result->cut_call != 0 || find_call(run, result->text) != NULL);
  bool again = cut && run->fold.with_tools;
  if (cut && !again && json_string_length(text) == 0)
    return result->finish == AIINFRA_FINISH_LENGTH
               ? aii_fail(err, AIINFRA_ELIMIT, "the answer was cut off after %u tokens; raise max_tokens",
                          result->n_generated)
               : aii_fail(err, AIINFRA_EFORMAT, "the model wrote part of a tool call instead of an answer");
  if (!aii_job_stage(run, AII_EV_LLM_COMPLETED, completed_body(run, text, calls, again, result)) ||
      (again && !aii_job_stage(run, AII_EV_LLM_REQUESTED, aii_run_request_body(run, true))))
    return aii_fail(err, AIINFRA_ENOMEM, "result of the model");
  if (again) return AIINFRA_OK;
  return json_array_size(calls) > 0 ? stage_calls(run, calls, err) : stage_answer(run, text, err);
}

static aiinfra_status stage_result(aii_run *run, const aiinfra_result *result, aiinfra_error *err)
{
  json_t *calls = NULL, *text = said(run, result->text);
  aiinfra_status rc = text != NULL ? AIINFRA_OK : aii_fail(err, AIINFRA_ENOMEM, "result of the model");
  if (rc == AIINFRA_OK && result->finish == AIINFRA_FINISH_TOOL && result->tool_calls_json != NULL)
    rc = aii_json_parse(result->tool_calls_json, strlen(result->tool_calls_json), "tool_calls", 0, &calls, err);
  if (rc == AIINFRA_OK) rc = stage_outcome(run, result, text, calls, err);
  json_decref(text);
  json_decref(calls);
  return rc;
}

/* An error that this step ran into; what was asked for from outside comes first. */
static void stop_with(aii_run *run, aiinfra_status rc, const aiinfra_error *error, const char *what)
{
  if (run->stop != AIINFRA_OK) return;
  run->stop = rc;
  if (error != NULL) run->error = *error;
  else aii_fail(&run->error, rc, "%s", aiinfra_status_text(rc));
  aii_wrap(&run->error, rc, "%s", what);
}

static void on_result(void *user, aiinfra_status status, const aiinfra_result *result)
{
  aii_run *run = user;
  aiinfra_error error;
  aiinfra_request_free(run->generation);
  run->generation = NULL;
  run->wait = AII_WAIT_NOTHING;
  if (status != AIINFRA_OK) {
    stop_with(run, status, result != NULL ? result->error : NULL, "generation");
  } else if (run->stop == AIINFRA_OK) {
    status = stage_result(run, result, &error);
    if (status != AIINFRA_OK) stop_with(run, status, &error, "generation");
  }
  if (run->stop != AIINFRA_OK) aii_run_next(run);
  else aii_job_submit(run, AII_JOB_APPEND);
}

static json_t *tool_specs(const aiinfra_agent *agent)
{
  json_t *specs = json_array();
  for (size_t i = 0; i < agent->n_tools && specs != NULL; i++) {
    if (json_array_append(specs, agent->tools[i].spec) == 0) continue;
    json_decref(specs);
    specs = NULL;
  }
  return specs;
}

/* The texts of passages, as a JSON array. */
static json_t *texts_of(const json_t *passages)
{
  json_t *texts = json_array(), *passage;
  size_t i;
  json_array_foreach(passages, i, passage)
  {
    if (texts == NULL || json_array_append(texts, json_object_get(passage, "text")) == 0) continue;
    json_decref(texts);
    texts = NULL;
  }
  return texts;
}

static aiinfra_status submit(aii_run *run, const char *messages, const char *tools, const char *quotes,
                             aiinfra_error *err)
{
  const aiinfra_agent *agent = run->agent;
  aiinfra_generate_opts opts = AIINFRA_GENERATE_OPTS_INIT;
  opts.messages_json = messages;
  opts.tools_json = tools;
  opts.tool_choice = tools != NULL ? "auto" : NULL;
  opts.quotes_json = quotes;
  opts.max_tokens = agent->max_tokens;
  opts.temperature = agent->temperature;
  opts.seed = run->fold.seed != 0 ? run->fold.seed + run->fold.steps : 0;
  return agent->gen.generate(agent->gen.impl, &opts, on_chunk, on_result, run, &run->generation, err);
}

void aii_turn_ask(aii_run *run)
{
  aii_buf messages, tools, quotes;
  aiinfra_error error;
  aiinfra_status rc;
  bool quote = run->agent->quote && json_array_size(run->fold.passages) > 0;
  json_t *specs = run->fold.with_tools ? tool_specs(run->agent) : NULL;
  json_t *texts = quote ? texts_of(run->fold.passages) : NULL;
  aii_buf_init(&messages, &run->agent->rt->mem, 0);
  aii_buf_init(&tools, &run->agent->rt->mem, 0);
  aii_buf_init(&quotes, &run->agent->rt->mem, 0);
  aii_json_dump(run->fold.messages, &messages);
  if (specs != NULL) aii_json_dump(specs, &tools);
  if (texts != NULL) aii_json_dump(texts, &quotes);
  if (messages.failed || tools.failed || quotes.failed || (run->fold.with_tools && specs == NULL) ||
      (quote && texts == NULL))
    rc = aii_fail(&error, AIINFRA_ENOMEM, "messages");
  else rc = submit(run, messages.data, specs != NULL ? tools.data : NULL, quote ? quotes.data : NULL, &error);
  aii_buf_free(&messages);
  aii_buf_free(&tools);
  aii_buf_free(&quotes);
  json_decref(specs);
  json_decref(texts);
  if (rc == AIINFRA_OK) {
    run->speaking = false;
    run->wait = AII_WAIT_MODEL;
    aii_report(run, "step_started", json_pack("{sI}", "step", (json_int_t)run->fold.steps));
  } else if (rc == AIINFRA_EBUSY) {
    run->wait = AII_WAIT_PAUSE;
    aii_timer_start(run->timer, PAUSE_MS, false);
  } else {
    stop_with(run, rc, &error, "generation");
    aii_run_next(run);
  }
}

/* ---- tool calls --------------------------------------------------------------------------------------------------------- */

static json_t *number_of(const aii_call *call)
{
  return json_object_get(call->body, "call");
}

/* Journals the end of a call; when it was the last one, the next question to the model goes with it. */
static void end_call(aii_run *run, const aii_call *call, const char *text, bool failed, bool loop, bool unknown)
{
  double ms = run->call_ns != 0 ? (double)(aii_now_ns() - run->call_ns) * 1e-6 : 0;
  json_t *value = aii_report_text(&run->agent->rt->mem, text, strlen(text));
  json_t *body = json_pack("{sO, ss, ss, so, sf, so*, so*}", "call", number_of(call), "id", call->id, "name",
                           call->name, failed ? "error" : "result", value, "ms", ms, "loop", loop ? json_true() : NULL,
                           "unknown", unknown ? json_true() : NULL);
  bool last = aii_fold_open_calls(&run->fold) == 1;
  run->call_ns = 0;
  if (aii_job_stage(run, failed ? AII_EV_TOOL_FAILED : AII_EV_TOOL_COMPLETED, body) &&
      (!last || aii_job_stage(run, AII_EV_LLM_REQUESTED, aii_run_request_body(run, loop))))
    aii_job_submit(run, AII_JOB_APPEND);
  else aii_run_next(run);
}

/* Results longer than the model can read are cut, with a word about it. */
static void end_with_result(aii_run *run, const aii_call *call, const char *text, bool failed)
{
  size_t n = strlen(text), max = AII_MAX(run->agent->gen.max_context, MIN_RESULT_BYTES);
  aii_buf cut;
  if (n <= max) {
    end_call(run, call, text, failed, false, false);
    return;
  }
  aii_buf_init(&cut, &run->agent->rt->mem, 0);
  while (max > 0 && ((unsigned char)text[max] & 0xC0) == 0x80) max--;
  aii_buf_add(&cut, text, max);
  aii_buf_fmt(&cut, "... (cut, %zu bytes in all)", n);
  end_call(run, call, cut.failed ? "the result is too long" : cut.data, failed || cut.failed, false, false);
  aii_buf_free(&cut);
}

void aii_run_tool_done(aii_run *run, const char *text, bool failed)
{
  const aii_call *call = aii_fold_next_call(&run->fold);
  run->call = NULL;
  run->wait = AII_WAIT_NOTHING;
  aii_timer_stop(run->timer);
  end_with_result(run, call, text != NULL ? text : "out of memory", failed || text == NULL);
}

void aii_turn_drop(aii_run *run)
{
  aii_timer_stop(run->timer);
  aii_tool_call_abandon(run->call);
  run->call = NULL;
  run->wait = AII_WAIT_NOTHING;
}

static bool is_object(const char *arguments)
{
  json_t *value = NULL;
  bool object =
      aii_json_parse(arguments, strlen(arguments), "arguments", 0, &value, NULL) == AIINFRA_OK && json_is_object(value);
  json_decref(value);
  return object;
}

static void announce_call(aii_run *run, const aii_call *call)
{
  if (aii_job_stage(run, AII_EV_TOOL_STARTED,
                    json_pack("{sO, ss, ss, ss, sI}", "call", number_of(call), "id", call->id, "name", call->name,
                              "arguments", call->arguments, "attempt", (json_int_t)call->attempts + 1)))
    aii_job_submit(run, AII_JOB_APPEND);
  else aii_run_next(run);
}

static void run_tool(aii_run *run, const aii_tool *tool, const aii_call *call)
{
  aiinfra_tool_call *handle = aii_tool_call_new(run, call->arguments);
  if (handle == NULL) {
    stop_with(run, AIINFRA_ENOMEM, NULL, "tool call");
    aii_run_next(run);
    return;
  }
  run->call = handle;
  run->call_ns = aii_now_ns();
  run->wait = AII_WAIT_TOOL;
  aii_timer_start(run->timer, tool->timeout_ms > 0 ? tool->timeout_ms : run->agent->tool_timeout_ms, false);
  aii_loop_enter(run->agent->rt->loop);
  tool->run(tool->user, handle, handle->arguments);
  aii_loop_leave(run->agent->rt->loop);
}

void aii_turn_tool(aii_run *run)
{
  aii_call *call = aii_fold_next_call(&run->fold);
  const aii_tool *tool = aii_agent_find_tool(run->agent, call->name);
  bool interrupted = run->interrupted;
  run->interrupted = false;
  if (tool == NULL) end_call(run, call, "there is no such tool", true, false, false);
  else if (interrupted && !tool->idempotent)
    end_call(run, call, "the process stopped while the tool ran; whether it took effect is unknown", true, false, true);
  else if (call->state == AII_CALL_STARTED && !interrupted) run_tool(run, tool, call);
  else if (!interrupted && aii_fold_repeats(&run->fold, call) >= MAX_REPEATS)
    end_call(run, call, "this call was made before, with the same arguments; answer with what is known", true, true,
             false);
  else if (!is_object(call->arguments)) end_call(run, call, "the arguments are no JSON object", true, false, false);
  else announce_call(run, call);
}
