/* server.c - the life of a server, and libmicrohttpd on our loop.
 *
 * The daemon shows one epoll descriptor; when it is readable, when the daemon's own timeout comes, and after a connection
 * was resumed, a turn runs it. Closing goes: stop listening, cancel all work, let the answers go out (for GRACE_MS at
 * most), stop the daemon, close the poll handle, and end when the last exchange is gone.
 *
 *   open --aii_server_close()--> draining --stop_daemon()--> stopped --destroy()--> gone
 *
 * SIGPIPE: libmicrohttpd sends with MSG_NOSIGNAL and, unless told that the host handles SIGPIPE, uses no call that
 * raises it. Loop thread.
 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "src/cache/cache.h"
#include "src/server/server.h"

enum { DEFAULT_PORT = 8080, DEFAULT_CONNECTIONS = 1024, IDLE_SECONDS = 75, GRACE_MS = 2000 };
static const uint64_t default_body_bytes = (uint64_t)4 << 20;
static const size_t connection_bytes = 64u << 10; /* of a request's head, and of what is being sent */

/* ---- the end ------------------------------------------------------------------------------------------------------------ */

static void destroy(aiinfra_server *s)
{
  aiinfra_runtime *rt = s->rt;
  aiinfra_close_cb closed = s->closed;
  void *user = s->closed_user;
  aii_models_free(s);
  aii_memories_free(s);
  aii_cache_unref(s->cache);
  aii_strfree(&rt->mem, s->host);
  if (s->api_key != NULL) aii_strfree(&rt->mem, s->api_key);
  aii_del(&rt->mem, s, sizeof *s);
  if (closed != NULL) {
    aii_loop_enter(rt->loop);
    closed(user);
    aii_loop_leave(rt->loop);
  }
  aii_loop_drop(rt->loop);
  aii_runtime_unref(rt);
}

static bool ended(const aiinfra_server *s)
{
  return s->closing && s->daemon == NULL && !s->poll_open && s->n_open == 0;
}

void aii_server_maybe_end(aiinfra_server *s)
{
  if (ended(s)) aii_server_kick(s);
}

static void on_poll_closed(uv_handle_t *handle)
{
  aiinfra_server *s = AII_CONTAINER(handle, aiinfra_server, poll);
  s->poll_open = false;
  aii_server_maybe_end(s);
}

/* libmicrohttpd must not be stopped while a connection is suspended: those that still wait are cut first. */
static void stop_daemon(aiinfra_server *s)
{
  s->stop_now = true;
  for (aii_exchange *x = s->open; x != NULL; x = x->next) aii_exchange_abandon(x);
  (void)MHD_run(s->daemon);
  uv_close((uv_handle_t *)&s->poll, on_poll_closed);
  aii_timer_free(s->timer);
  aii_timer_free(s->grace_timer);
  MHD_stop_daemon(s->daemon);
  s->daemon = NULL;
}

/* ---- turns -------------------------------------------------------------------------------------------------------------- */

static void set_timer(aiinfra_server *s)
{
  MHD_UNSIGNED_LONG_LONG ms;
  if (MHD_get_timeout(s->daemon, &ms) == MHD_YES) aii_timer_start(s->timer, ms, false);
  else aii_timer_stop(s->timer);
}

static void turn(aiinfra_server *s)
{
  if (s->daemon != NULL) {
    (void)MHD_run(s->daemon);
    if (s->closing && (s->n_connected == 0 || s->stop_now)) stop_daemon(s);
    else set_timer(s);
  }
  if (ended(s) && !s->kick_posted) destroy(s);
}

static void on_kick(aii_task *task)
{
  aiinfra_server *s = AII_CONTAINER(task, aiinfra_server, kick);
  s->kick_posted = false;
  aii_loop_drop(s->rt->loop);
  turn(s);
}

void aii_server_kick(aiinfra_server *s)
{
  if (s->kick_posted) return;
  s->kick_posted = true;
  aii_loop_hold(s->rt->loop);
  aii_loop_post(s->rt->loop, &s->kick);
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
  (void)status;
  (void)events;
  turn(AII_CONTAINER(handle, aiinfra_server, poll));
}

static void on_timer(void *user)
{
  turn(user);
}

static void on_grace(void *user)
{
  aiinfra_server *s = user;
  s->stop_now = true;
  aii_server_kick(s);
}

void aii_server_close(aiinfra_server *s, aiinfra_close_cb closed, void *user)
{
  s->closing = true;
  s->closed = closed;
  s->closed_user = user;
  aii_loop_hold(s->rt->loop);
  int fd = MHD_quiesce_daemon(s->daemon);
  if (fd >= 0) (void)close(fd);
  for (aii_exchange *x = s->open; x != NULL; x = x->next) aii_exchange_cancel(x);
  aii_timer_start(s->grace_timer, GRACE_MS, true);
  aii_server_kick(s);
}

/* ---- create --------------------------------------------------------------------------------------------------------------- */

static void on_mhd_log(void *user, const char *fmt, va_list args) AII_PRINTF(2, 0);
static void on_mhd_log(void *user, const char *fmt, va_list args)
{
  aiinfra_server *s = user;
  char line[256];
  int n = vsnprintf(line, sizeof line, fmt, args);
  while (n > 0 && n < (int)sizeof line && line[n - 1] == '\n') line[--n] = '\0';
  aii_logf(&s->rt->log, AIINFRA_LOG_DEBUG, "server: %s", line);
}

static aiinfra_status start_daemon(aiinfra_server *s, const aiinfra_server_opts *o, aiinfra_error *err)
{
  int fd, port = o->port == 0 ? DEFAULT_PORT : o->port == -1 ? 0 : o->port;
  aiinfra_status rc = aii_listen(s->host, (uint16_t)port, &fd, &s->port, err);
  if (rc != AIINFRA_OK) return rc;
  /* the logger must come first: what is said before it goes to stderr */
  s->daemon =
      MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL, aii_exchange_handle,
                       s, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log, s, MHD_OPTION_LISTEN_SOCKET, fd,
                       MHD_OPTION_NOTIFY_COMPLETED, aii_exchange_completed, s, MHD_OPTION_CONNECTION_LIMIT,
                       (unsigned)s->max_connections, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_SECONDS,
                       MHD_OPTION_CONNECTION_MEMORY_LIMIT, connection_bytes, MHD_OPTION_END);
  if (s->daemon != NULL) return AIINFRA_OK;
  if (fcntl(fd, F_GETFD) != -1) (void)close(fd); /* some of its failures close it */
  return aii_fail(err, AIINFRA_EIO, "libmicrohttpd would not start; raise the limit on open files");
}

static aiinfra_status start_poll(aiinfra_server *s, aiinfra_error *err)
{
  const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD);
  int rc = info != NULL ? uv_poll_init(aii_loop_uv(s->rt->loop), &s->poll, info->epoll_fd) : UV_EINVAL;
  if (rc != 0) return aii_fail_code(err, AIINFRA_EIO, rc, "watch libmicrohttpd's descriptor: %s", uv_strerror(rc));
  s->poll_open = true;
  (void)uv_poll_start(&s->poll, UV_READABLE, on_poll); /* fails only for what init has refused */
  return AIINFRA_OK;
}

static aiinfra_status copy_opts(aiinfra_server *s, const aiinfra_server_opts *o, aiinfra_error *err)
{
  aii_mem *mem = &s->rt->mem;
  s->host = aii_strdup(mem, o->host != NULL ? o->host : "127.0.0.1");
  if (o->api_key != NULL) s->api_key = aii_strdup(mem, o->api_key);
  s->max_body_bytes = o->max_body_bytes != 0 ? o->max_body_bytes : default_body_bytes;
  s->max_connections = o->max_connections != 0 ? o->max_connections : DEFAULT_CONNECTIONS;
  bool copied = s->host != NULL && (o->api_key == NULL || s->api_key != NULL);
  return copied ? AIINFRA_OK : aii_fail(err, AIINFRA_ENOMEM, "no memory for a server");
}

static aiinfra_status start(aiinfra_server *s, const aiinfra_server_opts *o, aiinfra_error *err)
{
  aii_loop *loop = s->rt->loop;
  aiinfra_status rc = copy_opts(s, o, err);
  if (rc == AIINFRA_OK) rc = aii_timer_create(loop, on_timer, s, &s->timer, err);
  if (rc == AIINFRA_OK) rc = aii_timer_create(loop, on_grace, s, &s->grace_timer, err);
  if (rc == AIINFRA_OK) rc = start_daemon(s, o, err);
  if (rc == AIINFRA_OK) rc = start_poll(s, err);
  return rc;
}

static void undo(aiinfra_server *s)
{
  aii_mem *mem = &s->rt->mem;
  if (s->daemon != NULL) MHD_stop_daemon(s->daemon);
  if (s->timer != NULL) aii_timer_free(s->timer);
  if (s->grace_timer != NULL) aii_timer_free(s->grace_timer);
  if (s->host != NULL) aii_strfree(mem, s->host);
  if (s->api_key != NULL) aii_strfree(mem, s->api_key);
  aii_del(mem, s, sizeof *s);
}

aiinfra_status aii_server_create(aiinfra_runtime *rt, const aiinfra_server_opts *opts, aiinfra_server **out,
                                 aiinfra_error *err)
{
  aiinfra_server *s = aii_new(&rt->mem, sizeof *s);
  if (s == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a server");
  s->rt = rt;
  s->kick.fn = on_kick;
  s->id_salt = aii_now_ns() ^ (uint64_t)aii_unix_ms() << 20 ^ (uintptr_t)s;
  aiinfra_status rc = start(s, opts, err);
  if (rc != AIINFRA_OK) {
    undo(s);
    return rc;
  }
  s->in_flight =
      aii_metric_get(rt, AII_GAUGE, "aiinfra_http_requests_in_flight", "HTTP requests being answered.", NULL);
  aii_runtime_ref(rt);
  *out = s;
  return AIINFRA_OK;
}
