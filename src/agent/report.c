/* report.c - what the host is told of a run: its events as JSON, and its end.
 *
 * Most events are those of the journal, told after they were written; tokens, reasoning and step_started are only told. An event
 * that does not fit into memory stops the run: a stream with holes would be a lie.
 * Loop thread only. The host's callbacks may start, cancel and free anything.
 */
#include "src/agent/agent.h"

json_t *aii_report_text(aii_mem *mem, const char *text, size_t n)
{
  aii_buf buf;
  json_t *value = NULL;
  n = strnlen(text, n);
  if (aii_utf8_valid(text, n)) return json_stringn_nocheck(text, n);
  aii_buf_init(&buf, mem, 0);
  for (size_t i = 0; i < n;) {
    int length = aii_utf8_decode(text + i, n - i, NULL);
    if (length > 0) aii_buf_add(&buf, text + i, (size_t)length);
    else aii_buf_str(&buf, "\xEF\xBF\xBD");
    i += length > 0 ? (size_t)length : 1;
  }
  if (!buf.failed) value = json_stringn_nocheck(buf.data, buf.len);
  aii_buf_free(&buf);
  return value;
}

static void no_memory(aii_run *run)
{
  aii_run_stop(run, AIINFRA_ENOMEM, "event: out of memory");
}

void aii_report(aii_run *run, const char *type, json_t *fields)
{
  json_t *event;
  aii_buf text;
  if (run->on_event == NULL) {
    json_decref(fields);
    return;
  }
  event = json_pack("{sI, sI, ss}", "seq", (json_int_t)run->n_events + 1, "run", (json_int_t)run->id, "type", type);
  aii_buf_init(&text, &run->agent->rt->mem, 0);
  if (event != NULL && fields != NULL && json_object_update(event, fields) == 0 && aii_json_dump(event, &text)) {
    run->n_events++;
    aii_loop_enter(run->agent->rt->loop);
    run->on_event(run->user, text.data);
    aii_loop_leave(run->agent->rt->loop);
  } else {
    no_memory(run);
  }
  aii_buf_free(&text);
  json_decref(event);
  json_decref(fields);
}

/* What the journal keeps for resuming only is left out. */
static json_t *public_body(const aii_event *event)
{
  json_t *body = aii_json_copy(event->body);
  if (body != NULL && event->kind == AII_EV_RECALLED) {
    json_object_del(body, "system");
    json_object_del(body, "history");
  }
  if (body != NULL && event->kind == AII_EV_RUN_STARTED) json_object_del(body, "seed");
  return body;
}

void aii_report_event(aii_run *run, const aii_event *event)
{
  switch (event->kind) {
    case AII_EV_LLM_REQUESTED:
    case AII_EV_LLM_COMPLETED:
    case AII_EV_TOOL_SCHEDULED: return;
    case AII_EV_TOOL_COMPLETED: aii_report(run, "tool_finished", public_body(event)); return;
    default: aii_report(run, aii_event_name(event->kind), public_body(event)); return;
  }
}

json_t *aii_report_stats(const aii_run *run)
{
  const aii_usage *u = &run->fold.usage;
  return json_pack("{sI, sI, sI, sI, sI, sf, sf, sf, sf, sf, sf, sf}", "steps", (json_int_t)run->fold.steps,
                   "tool_calls", (json_int_t)run->fold.tool_calls, "prompt_tokens", (json_int_t)u->prompt_tokens,
                   "cached_tokens", (json_int_t)u->cached_tokens, "generated_tokens", (json_int_t)u->generated_tokens,
                   "recall_ms", u->recall_ms, "queue_ms", u->queue_ms, "prefill_ms", u->prefill_ms, "decode_ms",
                   u->decode_ms, "tool_ms", u->tool_ms, "journal_ms", (double)run->journal_ns * 1e-6, "total_ms",
                   (double)(aii_now_ns() - run->started_ns) * 1e-6);
}

/* JSON text of value; `fallback` when there is none or memory ran out. */
static const char *text_or(aii_buf *buf, const json_t *value, const char *fallback)
{
  return value != NULL && aii_json_dump(value, buf) ? aii_buf_cstr(buf) : fallback;
}

void aii_report_end(aii_run *run)
{
  aii_mem *mem = &run->agent->rt->mem;
  bool good = run->stop == AIINFRA_OK;
  aii_buf citations, stats;
  json_t *numbers;
  aiinfra_run_result result = {0};
  if (!good && run->fold.phase != AII_PHASE_ENDED)
    aii_report(run, "run_failed",
               json_pack("{ss, so}", "status", aiinfra_status_name(run->stop), "message",
                         aii_report_text(mem, run->error.message, strlen(run->error.message))));
  if (run->on_done == NULL) return;
  aii_buf_init(&citations, mem, 0);
  aii_buf_init(&stats, mem, 0);
  numbers = aii_report_stats(run);
  result.answer = good && run->fold.answer != NULL ? json_string_value(run->fold.answer) : "";
  result.citations_json = text_or(&citations, good ? run->fold.citations : NULL, "[]");
  result.stats_json = text_or(&stats, numbers, "{}");
  result.error = good ? NULL : &run->error;
  result.run_id = run->id;
  aii_loop_enter(run->agent->rt->loop);
  run->on_done(run->user, run->stop, &result);
  aii_loop_leave(run->agent->rt->loop);
  json_decref(numbers);
  aii_buf_free(&citations);
  aii_buf_free(&stats);
}
