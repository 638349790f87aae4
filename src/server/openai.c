/* openai.c - generations in OpenAI's shapes: one answer, or the events of a stream.
 *
 * A stream is: an event with the role, events with reasoning, text and pieces of tool calls as they come, one with the
 * reason of the end, one with the usage when it was asked for, and "[DONE]". A call's first piece has its id and name.
 * Only formats; touches nothing.
 */
#include "src/server/server.h"

static const char *finish_name(const aiinfra_result *result)
{
  if (result->finish == AIINFRA_FINISH_TOOL) return "tool_calls";
  return result->finish == AIINFRA_FINISH_LENGTH ? "length" : "stop";
}

static void add_usage(const aiinfra_result *result, aii_buf *out)
{
  aii_buf_fmt(out,
              "{\"prompt_tokens\":%u,\"completion_tokens\":%u,\"total_tokens\":%llu,"
              "\"prompt_tokens_details\":{\"cached_tokens\":%u}}",
              result->n_prompt, result->n_generated, (unsigned long long)result->n_prompt + result->n_generated,
              result->n_cached);
}

static void open_object(const aii_exchange *x, const char *object, aii_buf *out)
{
  aii_buf_fmt(out, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", x->id, object,
              (long long)x->created);
  aii_buf_json(out, x->model_name, strlen(x->model_name));
  aii_buf_str(out, ",\"choices\":[");
}

/* ---- one answer ------------------------------------------------------------------------------------------------------ */

static void add_message(const aiinfra_result *result, aii_buf *out)
{
  bool only_calls = result->tool_calls_json != NULL && result->text_bytes == 0;
  aii_buf_str(out, "\"message\":{\"role\":\"assistant\",\"content\":");
  if (only_calls) aii_buf_str(out, "null");
  else aii_buf_json(out, result->text, result->text_bytes);
  aii_buf_str(out, ",\"refusal\":null");
  if (result->reasoning_bytes > 0) {
    aii_buf_str(out, ",\"reasoning_content\":");
    aii_buf_json(out, result->reasoning, result->reasoning_bytes);
  }
  if (result->tool_calls_json != NULL) {
    aii_buf_str(out, ",\"tool_calls\":");
    aii_buf_str(out, result->tool_calls_json);
  }
  aii_buf_char(out, '}');
}

void aii_openai_answer(const aii_exchange *x, const aiinfra_result *result, aii_buf *out)
{
  open_object(x, x->endpoint == AII_CHAT ? "chat.completion" : "text_completion", out);
  aii_buf_str(out, "{\"index\":0,");
  if (x->endpoint == AII_CHAT) {
    add_message(result, out);
  } else {
    aii_buf_str(out, "\"text\":");
    aii_buf_json(out, result->text, result->text_bytes);
  }
  aii_buf_fmt(out, ",\"logprobs\":null,\"finish_reason\":\"%s\"}],\"usage\":", finish_name(result));
  add_usage(result, out);
  aii_buf_char(out, '}');
}

/* ---- events ---------------------------------------------------------------------------------------------------------- */

static void open_event(const aii_exchange *x, aii_buf *out)
{
  aii_buf_str(out, "data: ");
  open_object(x, x->endpoint == AII_CHAT ? "chat.completion.chunk" : "text_completion", out);
}

/* finish NULL: it goes on. */
static void close_event(const aii_exchange *x, const char *finish, aii_buf *out)
{
  aii_buf_str(out, ",\"logprobs\":null,\"finish_reason\":");
  if (finish != NULL) aii_buf_fmt(out, "\"%s\"", finish);
  else aii_buf_str(out, "null");
  aii_buf_str(out, x->params.include_usage ? "}],\"usage\":null}\n\n" : "}]}\n\n");
}

void aii_openai_text_event(const aii_exchange *x, bool with_role, const char *text, size_t n, aii_buf *out)
{
  open_event(x, out);
  aii_buf_str(out, "{\"index\":0,");
  if (x->endpoint == AII_CHAT) {
    aii_buf_str(out, with_role ? "\"delta\":{\"role\":\"assistant\",\"content\":" : "\"delta\":{\"content\":");
    aii_buf_json(out, text, n);
    aii_buf_char(out, '}');
  } else {
    aii_buf_str(out, "\"text\":");
    aii_buf_json(out, text, n);
  }
  close_event(x, NULL, out);
}

void aii_openai_reasoning_event(const aii_exchange *x, const char *text, size_t n, aii_buf *out)
{
  open_event(x, out);
  aii_buf_str(out, "{\"index\":0,\"delta\":{\"reasoning_content\":");
  aii_buf_json(out, text, n);
  aii_buf_char(out, '}');
  close_event(x, NULL, out);
}

void aii_openai_call_event(const aii_exchange *x, const aiinfra_call_delta *call, aii_buf *out)
{
  open_event(x, out);
  aii_buf_fmt(out, "{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":%zu", call->index);
  if (call->id != NULL) {
    aii_buf_str(out, ",\"id\":");
    aii_buf_json(out, call->id, strlen(call->id));
    aii_buf_str(out, ",\"type\":\"function\"");
  }
  aii_buf_str(out, ",\"function\":{");
  if (call->name != NULL) {
    aii_buf_str(out, "\"name\":");
    aii_buf_json(out, call->name, strlen(call->name));
    aii_buf_char(out, ',');
  }
  aii_buf_str(out, "\"arguments\":");
  aii_buf_json(out, call->arguments, call->n_bytes);
  aii_buf_str(out, "}}]}");
  close_event(x, NULL, out);
}

void aii_openai_end_events(const aii_exchange *x, const aiinfra_result *result, aii_buf *out)
{
  bool chat = x->endpoint == AII_CHAT;
  open_event(x, out);
  aii_buf_str(out, chat ? "{\"index\":0,\"delta\":{}" : "{\"index\":0,\"text\":\"\"");
  close_event(x, finish_name(result), out);
  if (x->params.include_usage) {
    open_event(x, out);
    aii_buf_str(out, "],\"usage\":");
    add_usage(result, out);
    aii_buf_str(out, "}\n\n");
  }
  aii_buf_str(out, "data: [DONE]\n\n");
}
