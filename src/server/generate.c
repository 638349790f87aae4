/* generate.c - chat and text completions: from a parsed body to the batcher, and its chunks and result back.
 *
 * The happy path is: parse, find the model, submit; chunks become events, the result becomes the last events or the one
 * answer. An error before the first event is an HTTP status; one behind it is an event, which clients raise. A client
 * that does not read its stream is cut off when too much of it waits. Loop thread.
 */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "src/server/server.h"

static void make_id(aii_exchange *x, aii_endpoint endpoint)
{
  static const char *const prefixes[] = {"", "chatcmpl-", "cmpl-", "embd-", "rerank-"};
  aiinfra_server *s = x->server;
  uint64_t n = ++s->next_id;
  (void)snprintf(x->id, sizeof x->id, "%s%016llx", prefixes[endpoint],
                 (unsigned long long)aii_hash64(&n, sizeof n, s->id_salt));
  x->created = aii_unix_ms() / 1000;
}

bool aii_exchange_parse(aii_exchange *x, aii_endpoint endpoint)
{
  aiinfra_error err;
  x->endpoint = endpoint;
  make_id(x, endpoint);
  aiinfra_status rc =
      aii_params_parse(&x->params, &x->server->rt->mem, endpoint, aii_buf_cstr(&x->body), x->body.len, &err);
  if (rc != AIINFRA_OK) {
    aii_reply_status(&x->reply, rc, x->params.field, &err);
    return false;
  }
  const aii_served *served = aii_models_find(x->server, x->params.model);
  if (served == NULL) {
    char message[160];
    (void)snprintf(message, sizeof message, "no model named \"%.64s\" is served here; see GET /v1/models",
                   x->params.model != NULL ? x->params.model : "");
    aii_reply_error(&x->reply, MHD_HTTP_NOT_FOUND, "model", "model_not_found", message);
    return false;
  }
  x->batcher = served->batcher;
  x->model_name = served->name;
  return true;
}

/* ---- callbacks of the batcher ------------------------------------------------------------------------------------------ */

static void open_stream(aii_exchange *x)
{
  if (x->role_sent) return;
  x->role_sent = true;
  if (x->endpoint == AII_CHAT) aii_openai_text_event(x, true, "", 0, &x->events);
}

/* Drops what the client has read. */
static void compact(aii_exchange *x)
{
  if (x->n_sent < x->events.len / 2) return;
  x->events.len -= x->n_sent;
  if (x->events.len > 0) memmove(x->events.data, x->events.data + x->n_sent, x->events.len);
  x->n_sent = 0;
}

void aii_generate_chunk(aii_exchange *x, const aiinfra_chunk *chunk)
{
  if (x->gone || (chunk->n_bytes == 0 && chunk->reasoning_bytes == 0 && chunk->call == NULL)) return;
  if (x->events.len > 0) compact(x);
  open_stream(x);
  if (chunk->reasoning_bytes > 0) aii_openai_reasoning_event(x, chunk->reasoning, chunk->reasoning_bytes, &x->events);
  if (chunk->n_bytes > 0) aii_openai_text_event(x, false, chunk->text, chunk->n_bytes, &x->events);
  if (chunk->call != NULL) aii_openai_call_event(x, chunk->call, &x->events);
  if (x->events.failed || x->events.len - x->n_sent > AII_SERVER_MAX_UNREAD) {
    aii_logf(&x->server->rt->log, AIINFRA_LOG_WARN, "server: %s: %s, its stream is cut", x->id,
             x->events.failed ? "memory ran out" : "the client does not read");
    aii_exchange_abandon(x);
    return;
  }
  aii_exchange_wake(x);
}

static void on_chunk(void *user, const aiinfra_chunk *chunk)
{
  aii_generate_chunk(user, chunk);
}

void aii_exchange_fail(aii_exchange *x, const char *param, aiinfra_status status, const aiinfra_error *err)
{
  aiinfra_error closing;
  if (x->server->closing && status == AIINFRA_ECANCELED) {
    status = aii_fail(&closing, AIINFRA_ECLOSED, "the server is closing");
    err = &closing;
  }
  if (!x->queued) {
    aii_reply_status(&x->reply, status, param, err);
    return;
  }
  aii_buf_str(&x->events, "data: ");
  aii_error_json(&x->events, aii_http_status(status), param, NULL,
                 err != NULL ? err->message : aiinfra_status_text(status));
  aii_buf_str(&x->events, "\n\n");
  x->stream_ended = true;
}

void aii_generate_finish(aii_exchange *x, const aiinfra_result *result)
{
  if (x->params.stream) {
    open_stream(x);
    aii_openai_end_events(x, result, &x->events);
    x->stream_ended = true;
    return;
  }
  aii_openai_answer(x, result, &x->reply.body);
  aii_reply_done(&x->reply, MHD_HTTP_OK, "application/json");
}

bool aii_exchange_took(aii_exchange *x)
{
  aiinfra_request_free(x->request);
  x->request = NULL;
  return x->connection != NULL && !x->gone;
}

static void on_result(void *user, aiinfra_status status, const aiinfra_result *result)
{
  aii_exchange *x = user;
  if (aii_exchange_took(x)) {
    if (status == AIINFRA_OK) {
      aii_generate_finish(x, result);
      aii_cached_keep(x, result);
    }
    if (status != AIINFRA_OK) aii_exchange_fail(x, NULL, status, result->error);
    aii_exchange_wake(x);
  }
  aii_exchange_unref(x);
}

/* ---- handlers ------------------------------------------------------------------------------------------------------------ */

/* The batcher's message begins with the option that it refuses; NULL: the request has none of that name. */
static const char *refused_field(const aii_exchange *x, const aiinfra_error *err)
{
  const char *key;
  json_t *value;
  json_object_foreach(x->params.root, key, value)
  {
    size_t n = strlen(key);
    if (strncmp(err->message, key, n) == 0 && err->message[n] == ':') return key;
  }
  return NULL;
}

void aii_generate_start(aii_exchange *x)
{
  aiinfra_error err;
  aiinfra_status rc = aiinfra_batcher_generate(x->batcher, &x->params.opts, x->params.stream ? on_chunk : NULL,
                                               on_result, x, &x->request, &err);
  if (rc != AIINFRA_OK) aii_reply_status(&x->reply, rc, refused_field(x, &err), &err);
  else aii_exchange_ref(x);
}

static void generate(aii_exchange *x, aii_endpoint endpoint)
{
  if (aii_exchange_parse(x, endpoint) && !aii_cached_look(x)) aii_generate_start(x);
}

void aii_run_chat(aii_exchange *x)
{
  generate(x, AII_CHAT);
}

void aii_run_completion(aii_exchange *x)
{
  generate(x, AII_COMPLETION);
}
