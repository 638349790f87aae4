/* exchange.c - one HTTP request from its head to the end of its answer.
 *
 * The happy path is: head (route.c admits it), body, run the handler, suspend the connection, work ends and wakes it,
 * the answer or the event stream is queued, completed. A request that is refused by its head has its body read and
 * thrown away before the answer is sent, as long as it is not too long: a client that is still writing would otherwise
 * see a reset connection instead of the answer.
 *
 * A suspended connection is in nobody's epoll set, so its socket is watched here: a client that leaves while it waits
 * cancels its work. One that shuts down only its sending side counts as gone too. Loop thread.
 */
#include <stdio.h>
#include <stdlib.h>

#include "src/server/server.h"

enum { STREAM_BLOCK = 16 << 10 };

/* ---- references ------------------------------------------------------------------------------------------------------ */

static aii_exchange *exchange_new(aiinfra_server *s, struct MHD_Connection *connection, const char *url)
{
  aii_mem *mem = &s->rt->mem;
  aii_exchange *x = aii_new(mem, sizeof *x);
  if (x == NULL) return NULL;
  x->path = aii_strdup(mem, url);
  if (x->path == NULL) {
    aii_del(mem, x, sizeof *x);
    return NULL;
  }
  x->server = s;
  x->refs = 1;
  x->connection = connection;
  x->start_ns = aii_now_ns();
  aii_buf_init(&x->body, mem, (size_t)s->max_body_bytes);
  aii_buf_init(&x->events, mem, 0);
  aii_buf_init(&x->reply.body, mem, AII_SERVER_MAX_REPLY);
  aii_cached_init(x);
  x->next = s->open;
  if (s->open != NULL) s->open->prev = x;
  s->open = x;
  s->n_open++;
  s->n_connected++;
  aii_metric_add(s->in_flight, 1.0);
  return x;
}

void aii_exchange_ref(aii_exchange *x)
{
  x->refs++;
}

void aii_exchange_unref(aii_exchange *x)
{
  if (--x->refs > 0) return;
  aiinfra_server *s = x->server;
  aii_mem *mem = &s->rt->mem;
  if (x->prev != NULL) x->prev->next = x->next;
  else s->open = x->next;
  if (x->next != NULL) x->next->prev = x->prev;
  s->n_open--;
  aii_metric_add(s->in_flight, -1.0);
  aii_params_free(&x->params);
  aii_buf_free(&x->body);
  aii_buf_free(&x->events);
  aii_buf_free(&x->reply.body);
  aii_cached_free(x);
  aii_strfree(mem, x->path);
  aii_del(mem, x, sizeof *x);
  aii_server_maybe_end(s);
}

/* ---- waiting ---------------------------------------------------------------------------------------------------------- */

static void on_watch_closed(uv_handle_t *handle)
{
  aii_exchange_unref(AII_CONTAINER(handle, aii_exchange, watch));
}

static void stop_watch(aii_exchange *x)
{
  if (!x->watching) return;
  x->watching = false;
  uv_close((uv_handle_t *)&x->watch, on_watch_closed);
}

static void on_watch(uv_poll_t *handle, int status, int events)
{
  (void)status;
  (void)events;
  aii_exchange *x = AII_CONTAINER(handle, aii_exchange, watch);
  (void)uv_poll_stop(handle);
  aii_exchange_abandon(x);
}

/* Without a watch a client that leaves is noticed when its answer is written. */
static void start_watch(aii_exchange *x)
{
  if (x->watching) return;
  const union MHD_ConnectionInfo *info = MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
  uv_loop_t *loop = aii_loop_uv(x->server->rt->loop);
  if (info == NULL || uv_poll_init(loop, &x->watch, info->connect_fd) != 0) return;
  x->watching = true;
  aii_exchange_ref(x);
  (void)uv_poll_start(&x->watch, UV_DISCONNECT, on_watch);
}

static enum MHD_Result wait_for_work(aii_exchange *x)
{
  if (x->server->stop_now) return MHD_NO;
  start_watch(x);
  x->suspended = true;
  MHD_suspend_connection(x->connection);
  return MHD_YES;
}

void aii_exchange_wake(aii_exchange *x)
{
  if (!x->suspended || x->connection == NULL) return;
  x->suspended = false;
  MHD_resume_connection(x->connection);
  aii_server_kick(x->server);
}

void aii_exchange_cancel(aii_exchange *x)
{
  aiinfra_request_cancel(x->request);
}

void aii_exchange_abandon(aii_exchange *x)
{
  x->gone = true;
  aii_exchange_cancel(x);
  aii_exchange_wake(x);
}

/* ---- the answer -------------------------------------------------------------------------------------------------------- */

/* A header that cannot be added for want of memory is left out. */
static void add_header(struct MHD_Response *response, const char *name, const char *value)
{
  if (value != NULL) (void)MHD_add_response_header(response, name, value);
}

static enum MHD_Result queue(aii_exchange *x, unsigned status, struct MHD_Response *response)
{
  if (response == NULL) return MHD_NO;
  bool closing = x->server->closing || x->reply.close;
  add_header(response, "X-Request-Id", x->id[0] != '\0' ? x->id : NULL);
  aii_cached_add_headers(x, response);
  add_header(response, MHD_HTTP_HEADER_CONNECTION, closing ? "close" : NULL);
  enum MHD_Result rc = MHD_queue_response(x->connection, status, response);
  MHD_destroy_response(response);
  x->queued = rc == MHD_YES;
  return rc;
}

static enum MHD_Result queue_reply(aii_exchange *x)
{
  aii_reply *reply = &x->reply;
  struct MHD_Response *response = MHD_create_response_from_buffer(
      reply->body.len, (void *)(uintptr_t)aii_buf_cstr(&reply->body), MHD_RESPMEM_PERSISTENT);
  if (response == NULL) return MHD_NO;
  add_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, reply->content_type);
  add_header(response, MHD_HTTP_HEADER_ALLOW, reply->allow);
  add_header(response, MHD_HTTP_HEADER_RETRY_AFTER, reply->retry ? "1" : NULL);
  add_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, reply->status == MHD_HTTP_UNAUTHORIZED ? "Bearer" : NULL);
  return queue(x, reply->status, response);
}

/* Gives libmicrohttpd what there is of the stream; with nothing there, the connection waits. */
static ssize_t read_events(void *cls, uint64_t pos, char *out, size_t max)
{
  aii_exchange *x = cls;
  (void)pos;
  if (x->gone || x->events.failed) return MHD_CONTENT_READER_END_WITH_ERROR;
  size_t n = AII_MIN(max, x->events.len - x->n_sent);
  if (n > 0) {
    memcpy(out, x->events.data + x->n_sent, n);
    x->n_sent += n;
    if (x->n_sent == x->events.len) {
      aii_buf_clear(&x->events);
      x->n_sent = 0;
    }
    return (ssize_t)n;
  }
  if (x->stream_ended) return MHD_CONTENT_READER_END_OF_STREAM;
  return wait_for_work(x) == MHD_YES ? 0 : MHD_CONTENT_READER_END_WITH_ERROR;
}

static enum MHD_Result queue_stream(aii_exchange *x)
{
  struct MHD_Response *response =
      MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, read_events, x, NULL);
  if (response == NULL) return MHD_NO;
  add_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "text/event-stream");
  add_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-cache");
  add_header(response, "X-Accel-Buffering", "no");
  x->reply.status = MHD_HTTP_OK;
  return queue(x, MHD_HTTP_OK, response);
}

/* The whole request is here, or its work has news. */
static enum MHD_Result advance(aii_exchange *x)
{
  if (x->gone) return MHD_NO;
  if (!x->started) {
    x->started = true;
    if (x->reply.status == 0) x->route->run(x);
    aii_buf_free(&x->body);
  }
  if (x->reply.status != 0) return queue_reply(x);
  if (x->params.stream && x->events.len > 0) return queue_stream(x);
  return wait_for_work(x);
}

/* ---- the request -------------------------------------------------------------------------------------------------------- */

static void refuse_body(aii_exchange *x)
{
  char message[96];
  (void)snprintf(message, sizeof message, "the body is larger than %llu bytes",
                 (unsigned long long)x->server->max_body_bytes);
  aii_buf_free(&x->body);
  aii_reply_error(&x->reply, MHD_HTTP_CONTENT_TOO_LARGE, NULL, "body_too_large", message);
}

static enum MHD_Result take_body(aii_exchange *x, const char *bytes, size_t n)
{
  uint64_t most = x->server->max_body_bytes;
  x->body_seen += n;
  if (x->reply.status == 0 && x->body_seen > most) refuse_body(x);
  if (x->body_seen > most + AII_SERVER_MAX_DISCARD) return MHD_NO;
  if (x->reply.status != 0) return MHD_YES;
  aii_buf_add(&x->body, bytes, n);
  if (x->body.failed) {
    aii_buf_free(&x->body);
    aii_reply_error(&x->reply, MHD_HTTP_SERVICE_UNAVAILABLE, NULL, NULL, "no memory for the body");
  }
  return MHD_YES;
}

static enum MHD_Result begin(aii_exchange *x, const char *url, const char *method)
{
  const char *length = MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
  uint64_t declared = length != NULL ? strtoull(length, NULL, 10) : 0;
  aii_route_admit(x, url, method);
  if (x->reply.status == 0 && declared > x->server->max_body_bytes) refuse_body(x);
  if (x->reply.status == 0) return MHD_YES;
  bool asks_first = MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_EXPECT) != NULL;
  if (!asks_first && declared <= x->server->max_body_bytes + AII_SERVER_MAX_DISCARD) return MHD_YES;
  x->started = true;
  return queue_reply(x);
}

enum MHD_Result aii_exchange_handle(void *cls, struct MHD_Connection *connection, const char *url, const char *method,
                                    const char *version, const char *upload, size_t *n_upload, void **con_cls)
{
  aii_exchange *x = *con_cls;
  (void)version;
  if (x == NULL) {
    x = exchange_new(cls, connection, url);
    if (x == NULL) return MHD_NO;
    *con_cls = x;
    return begin(x, url, method);
  }
  if (*n_upload > 0) {
    enum MHD_Result rc = take_body(x, upload, *n_upload);
    *n_upload = 0;
    return rc;
  }
  return x->queued ? MHD_YES : advance(x);
}

static void count(const aii_exchange *x)
{
  char labels[96];
  unsigned status = x->gone || !x->queued ? 499 : x->reply.status; /* 499: the client left */
  (void)snprintf(labels, sizeof labels, "route=\"%s\",code=\"%u\"", x->route != NULL ? x->route->path : "other",
                 status);
  aii_metric_add(aii_metric_get(x->server->rt, AII_COUNTER, "aiinfra_http_requests_total",
                                "HTTP requests by route and status.", labels),
                 1.0);
}

void aii_exchange_completed(void *cls, struct MHD_Connection *connection, void **con_cls,
                            enum MHD_RequestTerminationCode code)
{
  aii_exchange *x = *con_cls;
  (void)cls;
  (void)connection;
  *con_cls = NULL;
  if (x == NULL) return;
  if (code != MHD_REQUEST_TERMINATED_COMPLETED_OK) x->gone = true;
  count(x);
  x->connection = NULL;
  x->server->n_connected--;
  stop_watch(x);
  aii_exchange_cancel(x);
  if (x->server->closing) aii_server_kick(x->server);
  aii_exchange_unref(x);
}
