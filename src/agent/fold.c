/* fold.c - a run's state as a fold over its events: live and resumed runs go through the same code.
 *
 * Happy path: run_started keeps the input; recalled makes the messages; llm_requested and llm_completed alternate with
 * rounds of tool calls; answer adds the last message; run_finished ends it.
 * Possible failures: memory runs out, or a journal that something else has written does not make sense.
 * Loop thread only. JSON values inside are shared with the events they came from and never changed.
 */
#include "src/agent/agent.h"

static const char *const event_names[AII_EV_COUNT] = {
    "run_started",  "remembered",     "recalled",    "llm_requested", "llm_completed", "tool_scheduled",
    "tool_started", "tool_completed", "tool_failed", "answer",        "run_finished",  "run_failed",
};

const char *aii_event_name(aii_event_kind kind)
{
  return event_names[kind];
}

aiinfra_status aii_events_add(aii_events *events, aii_mem *mem, aii_event_kind kind, json_t *body, aiinfra_error *err)
{
  if (body == NULL || !aii_grow(mem, &events->items, &events->cap, events->n + 1, sizeof *events->items)) {
    json_decref(body);
    return aii_fail(err, AIINFRA_ENOMEM, "event %s", event_names[kind]);
  }
  events->items[events->n++] = (aii_event){kind, body};
  return AIINFRA_OK;
}

void aii_events_free(aii_events *events, aii_mem *mem)
{
  for (size_t i = 0; i < events->n; i++) json_decref(events->items[i].body);
  aii_del(mem, events->items, events->cap * sizeof *events->items);
  *events = (aii_events){0};
}

void aii_fold_init(aii_fold *fold, aii_mem *mem)
{
  *fold = (aii_fold){.mem = mem};
}

void aii_fold_free(aii_fold *fold)
{
  json_decref(fold->input);
  json_decref(fold->conversation);
  json_decref(fold->messages);
  json_decref(fold->passages);
  json_decref(fold->text);
  json_decref(fold->answer);
  json_decref(fold->citations);
  for (size_t i = 0; i < fold->n_calls; i++) json_decref(fold->calls[i].body);
  aii_del(fold->mem, fold->calls, fold->cap_calls * sizeof *fold->calls);
}

aii_call *aii_fold_next_call(aii_fold *fold)
{
  for (size_t i = 0; i < fold->n_calls; i++) {
    if (fold->calls[i].state != AII_CALL_ENDED) return &fold->calls[i];
  }
  return NULL;
}

size_t aii_fold_open_calls(const aii_fold *fold)
{
  size_t n = 0;
  for (size_t i = 0; i < fold->n_calls; i++) n += fold->calls[i].state != AII_CALL_ENDED;
  return n;
}

uint32_t aii_fold_repeats(const aii_fold *fold, const aii_call *call)
{
  uint32_t n = 0;
  for (const aii_call *c = fold->calls; c <= call; c++) n += c->key == call->key;
  return n;
}

/* ---- small steps ------------------------------------------------------------------------------------------------- */

static aiinfra_status no_memory(aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_ENOMEM, "state of the run");
}

static void keep(json_t **slot, json_t *value)
{
  json_incref(value);
  json_decref(*slot);
  *slot = value;
}

/* Takes over message; NULL is ENOMEM. */
static aiinfra_status add_message(aii_fold *fold, json_t *message, aiinfra_error *err)
{
  if (fold->messages == NULL || json_array_append_new(fold->messages, message) != 0) return no_memory(err);
  fold->n_new++;
  return AIINFRA_OK;
}

static int hash_bytes(const char *bytes, size_t n, void *data)
{
  uint64_t *hash = data;
  for (size_t i = 0; i < n; i++) *hash = (*hash ^ (uint8_t)bytes[i]) * UINT64_C(0x100000001b3); /* FNV-1a */
  return 0;
}

/* The same call has the same key however its arguments are spaced and ordered. */
static uint64_t call_key(const char *name, const char *arguments)
{
  uint64_t hash = UINT64_C(0xcbf29ce484222325);
  json_t *value = NULL;
  (void)aii_json_parse(arguments, strlen(arguments), "arguments", 0, &value, NULL); /* what is none is hashed as text */
  hash_bytes(name, strlen(name) + 1, &hash);
  if (value == NULL || json_dump_callback(value, hash_bytes, &hash, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY))
    hash_bytes(arguments, strlen(arguments), &hash);
  json_decref(value);
  return hash;
}

static void add_number(const json_t *body, const char *key, uint64_t *sum)
{
  json_int_t n = json_integer_value(json_object_get(body, key));
  if (n > 0) *sum += (uint64_t)n;
}

static void add_ms(const json_t *body, const char *key, double *sum)
{
  *sum += json_number_value(json_object_get(body, key));
}

/* ---- one event each ------------------------------------------------------------------------------------------------ */

static aiinfra_status on_run_started(aii_fold *fold, json_t *body, aiinfra_error *err)
{
  const char *text = NULL;
  int64_t seed = 0;
  aiinfra_status rc = aii_json_get_str(body, "", "input", true, &text, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_str(body, "", "conversation", false, &text, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_int(body, "", "seed", false, &seed, err);
  if (rc != AIINFRA_OK) return rc;
  keep(&fold->input, json_object_get(body, "input"));
  if (json_is_string(json_object_get(body, "conversation")))
    keep(&fold->conversation, json_object_get(body, "conversation"));
  fold->seed = (uint64_t)seed;
  fold->phase = AII_PHASE_RECALL;
  return AIINFRA_OK;
}

static aiinfra_status on_recalled(aii_fold *fold, json_t *body, aiinfra_error *err)
{
  const char *system = NULL;
  json_t *history = NULL, *passages = NULL, *messages;
  aiinfra_status rc = aii_json_get_str(body, "", "system", true, &system, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_array(body, "", "history", false, &history, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_array(body, "", "passages", true, &passages, err);
  if (rc != AIINFRA_OK) return rc;

  messages = json_array();
  if (messages == NULL) return no_memory(err);
  json_decref(fold->messages);
  fold->messages = messages;
  rc = add_message(fold, json_pack("{ss, sO}", "role", "system", "content", json_object_get(body, "system")), err);
  if (rc == AIINFRA_OK && history != NULL && json_array_extend(messages, history) != 0) rc = no_memory(err);
  fold->n_new = 0;
  if (rc == AIINFRA_OK) rc = add_message(fold, json_pack("{ss, sO}", "role", "user", "content", fold->input), err);
  keep(&fold->passages, passages);
  add_ms(body, "ms", &fold->usage.recall_ms);
  fold->phase = AII_PHASE_ASK;
  return rc;
}

static aiinfra_status on_llm_requested(aii_fold *fold, json_t *body, aiinfra_error *err)
{
  fold->steps++;
  fold->phase = AII_PHASE_GENERATE;
  return aii_json_get_bool(body, "", "tools", true, &fold->with_tools, err);
}

/* The reasoning behind calls goes with them, by both names that templates have for it: the template decides what of it
 * the model sees again. Beside text some templates refuse the second name. */
static json_t *calling_message(json_t *text, json_t *calls, json_t *reasoning)
{
  json_t *thinking = json_string_length(text) == 0 ? reasoning : NULL;
  return json_pack("{ss, sO, sO*, sO*, sO}", "role", "assistant", "content", text, "reasoning_content", reasoning,
                   "thinking", thinking, "tool_calls", calls);
}

static aiinfra_status on_llm_completed(aii_fold *fold, json_t *body, aiinfra_error *err)
{
  const char *text = NULL;
  json_t *calls = NULL;
  aiinfra_status rc = aii_json_get_str(body, "", "text", true, &text, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_str(body, "", "reasoning", false, &text, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_array(body, "", "tool_calls", false, &calls, err);
  if (rc != AIINFRA_OK) return rc;

  keep(&fold->text, json_object_get(body, "text"));
  add_number(body, "prompt_tokens", &fold->usage.prompt_tokens);
  add_number(body, "cached_tokens", &fold->usage.cached_tokens);
  add_number(body, "generated_tokens", &fold->usage.generated_tokens);
  add_ms(body, "queue_ms", &fold->usage.queue_ms);
  add_ms(body, "prefill_ms", &fold->usage.prefill_ms);
  add_ms(body, "decode_ms", &fold->usage.decode_ms);
  if (json_is_true(json_object_get(body, "cut"))) {
    fold->force_answer = true;
    fold->phase = AII_PHASE_ASK;
    return AIINFRA_OK;
  }
  if (calls == NULL || json_array_size(calls) == 0) {
    fold->phase = AII_PHASE_ANSWER;
    return AIINFRA_OK;
  }
  fold->phase = AII_PHASE_TOOLS;
  return add_message(fold, calling_message(fold->text, calls, json_object_get(body, "reasoning")), err);
}

static aiinfra_status on_tool_scheduled(aii_fold *fold, json_t *body, aiinfra_error *err)
{
  aii_call call = {.body = body};
  aiinfra_status rc = aii_json_get_str(body, "", "id", true, &call.id, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_str(body, "", "name", true, &call.name, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_str(body, "", "arguments", true, &call.arguments, err);
  if (rc != AIINFRA_OK) return rc;
  if (!aii_grow(fold->mem, &fold->calls, &fold->cap_calls, fold->n_calls + 1, sizeof *fold->calls))
    return no_memory(err);
  call.key = call_key(call.name, call.arguments);
  json_incref(body);
  fold->calls[fold->n_calls++] = call;
  return AIINFRA_OK;
}

/* The call that an event speaks of, by its number in the run, counted from 1. */
static aiinfra_status find_call(aii_fold *fold, const json_t *body, aii_call **out, aiinfra_error *err)
{
  int64_t number = 0;
  aiinfra_status rc = aii_json_get_int(body, "", "call", true, &number, err);
  if (rc != AIINFRA_OK) return rc;
  if (number < 1 || (uint64_t)number > fold->n_calls || fold->calls[number - 1].state == AII_CALL_ENDED)
    return aii_fail(err, AIINFRA_EFORMAT, "call %lld is not under way", (long long)number);
  *out = &fold->calls[number - 1];
  return AIINFRA_OK;
}

static aiinfra_status on_tool_started(aii_fold *fold, json_t *body, aiinfra_error *err)
{
  aii_call *call = NULL;
  aiinfra_status rc = find_call(fold, body, &call, err);
  if (rc != AIINFRA_OK) return rc;
  call->state = AII_CALL_STARTED;
  call->attempts++;
  return AIINFRA_OK;
}

static aiinfra_status on_tool_ended(aii_fold *fold, json_t *body, bool failed, aiinfra_error *err)
{
  const char *text = NULL;
  aii_call *call = NULL;
  aiinfra_status rc = find_call(fold, body, &call, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_str(body, "", failed ? "error" : "result", true, &text, err);
  if (rc != AIINFRA_OK) return rc;
  call->state = AII_CALL_ENDED;
  fold->tool_calls++;
  add_ms(body, "ms", &fold->usage.tool_ms);
  if (json_is_true(json_object_get(body, "loop"))) fold->force_answer = true;
  if (aii_fold_next_call(fold) == NULL) fold->phase = AII_PHASE_ASK;
  return add_message(fold,
                     json_pack("{ss, ss, ss++}", "role", "tool", "tool_call_id", call->id, "content",
                               failed ? "error: " : "", text, ""),
                     err);
}

static aiinfra_status on_answer(aii_fold *fold, json_t *body, aiinfra_error *err)
{
  const char *text = NULL;
  json_t *citations = NULL;
  aiinfra_status rc = aii_json_get_str(body, "", "text", true, &text, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_array(body, "", "citations", true, &citations, err);
  if (rc != AIINFRA_OK) return rc;
  keep(&fold->answer, json_object_get(body, "text"));
  keep(&fold->citations, citations);
  fold->phase = AII_PHASE_CLOSE;
  return add_message(fold, json_pack("{ss, sO}", "role", "assistant", "content", fold->answer), err);
}

static aiinfra_status apply(aii_fold *fold, aii_event_kind kind, json_t *body, aiinfra_error *err)
{
  switch (kind) {
    case AII_EV_RUN_STARTED: return on_run_started(fold, body, err);
    case AII_EV_RECALLED: return on_recalled(fold, body, err);
    case AII_EV_LLM_REQUESTED: return on_llm_requested(fold, body, err);
    case AII_EV_LLM_COMPLETED: return on_llm_completed(fold, body, err);
    case AII_EV_TOOL_SCHEDULED: return on_tool_scheduled(fold, body, err);
    case AII_EV_TOOL_STARTED: return on_tool_started(fold, body, err);
    case AII_EV_TOOL_COMPLETED: return on_tool_ended(fold, body, false, err);
    case AII_EV_TOOL_FAILED: return on_tool_ended(fold, body, true, err);
    case AII_EV_ANSWER: return on_answer(fold, body, err);
    case AII_EV_RUN_FINISHED:
    case AII_EV_RUN_FAILED: fold->phase = AII_PHASE_ENDED; return AIINFRA_OK;
    case AII_EV_REMEMBERED:
    case AII_EV_COUNT: break;
  }
  return AIINFRA_OK;
}

aiinfra_status aii_fold_apply(aii_fold *fold, const aii_event *event, aiinfra_error *err)
{
  aiinfra_status rc = apply(fold, event->kind, event->body, err);
  fold->seq++;
  if (rc == AIINFRA_EINVAL) rc = AIINFRA_EFORMAT;
  if (rc != AIINFRA_OK)
    return aii_wrap(err, rc, "journal event %lld, %s", (long long)fold->seq, event_names[event->kind]);
  return AIINFRA_OK;
}
