/* test_server.c - a server inside a program: creation, names, a full queue, closing with work in flight, no leak. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these first */
#include <cmocka.h>
#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "src/server/server.h"
#include "tests/support/support.h"

static aiinfra_runtime *rt;
static aiinfra_model *model;
static aiinfra_kv *kv;
static aiinfra_batcher *batcher;
static int n_closed;

static void on_closed(void *user)
{
  (void)user;
  n_closed++;
}

static aiinfra_server *serve(void)
{
  aiinfra_server_opts o = AIINFRA_SERVER_OPTS_INIT;
  aiinfra_server *server;
  o.port = -1;
  assert_int_equal(aiinfra_server_create(rt, &o, &server, NULL), AIINFRA_OK);
  assert_int_equal(aiinfra_server_add_model(server, "m", batcher, NULL), AIINFRA_OK);
  assert_true(aiinfra_server_port(server) > 0);
  return server;
}

static void mistakes(void **state)
{
  (void)state;
  aiinfra_error err;
  aiinfra_server_opts o = AIINFRA_SERVER_OPTS_INIT;
  aiinfra_server *first = serve(), *second = first;
  o.port = aiinfra_server_port(first);
  assert_int_equal(aiinfra_server_create(rt, &o, &second, &err), AIINFRA_EBUSY);
  assert_null(second);
  o.port = -2;
  assert_int_equal(aiinfra_server_create(rt, &o, &second, &err), AIINFRA_EINVAL);
  o.port = -1;
  o.host = "localhost";
  assert_int_equal(aiinfra_server_create(rt, &o, &second, &err), AIINFRA_EINVAL);
  o.host = NULL;
  o.api_key = "";
  assert_int_equal(aiinfra_server_create(rt, &o, &second, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_server_add_model(first, "m", batcher, &err), AIINFRA_EEXIST);
  assert_int_equal(aiinfra_server_add_model(first, "", batcher, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_server_port(NULL), 0);
  aiinfra_server_free(first);
  aiinfra_server_free(NULL);
}

/* ---- clients ----------------------------------------------------------------------------------------------------- */

enum { CLIENTS = 12 };

typedef struct client {
  pthread_t thread;
  int port, status;
  bool stream;
  char answer[4096];
} client;

static void *talk(void *user)
{
  client *c = user;
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)c->port)};
  char request[512], body[160];
  size_t n = 0;
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int len = snprintf(body, sizeof body, "{\"prompt\":\"The\",\"max_tokens\":100000,\"ignore_eos\":true,\"stream\":%s}",
                     c->stream ? "true" : "false");
  int total = snprintf(request, sizeof request,
                       "POST /v1/completions HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
                       "Content-Length: %d\r\n\r\n%s",
                       len, body);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0 && write(fd, request, (size_t)total) == total) {
    ssize_t got;
    while ((got = read(fd, c->answer + n, sizeof c->answer - 1 - n)) > 0) {
      n += (size_t)got;
      if (n > sizeof c->answer / 2) n /= 2; /* the head and the tail are of interest */
      if (c->status == 0) (void)sscanf(c->answer, "HTTP/1.1 %d", &c->status);
      if (c->status == 429) break;
    }
  }
  close(fd);
  return NULL;
}

static uint64_t close_at_ns;
static aiinfra_server *to_close;

static void close_later(void *user)
{
  (void)user;
  close_at_ns = aii_now_ns();
  aiinfra_server_close(to_close, on_closed, NULL);
}

/* One runs, one waits, the others are told to come back; then the server closes under them. */
static void full_queue_and_close(void **state)
{
  (void)state;
  static client clients[CLIENTS];
  aii_timer *timer;
  int n_busy = 0, n_cut = 0;
  to_close = serve();
  n_closed = 0;
  for (int i = 0; i < CLIENTS; i++) {
    clients[i].port = aiinfra_server_port(to_close);
    clients[i].stream = i % 2 != 0;
    assert_int_equal(pthread_create(&clients[i].thread, NULL, talk, &clients[i]), 0);
  }
  assert_int_equal(aii_timer_create(rt->loop, close_later, NULL, &timer, NULL), AIINFRA_OK);
  aii_timer_start(timer, 150, true);
  assert_int_equal(aiinfra_runtime_run(rt, NULL), AIINFRA_OK);
  aii_timer_free(timer);
  assert_int_equal(n_closed, 1);
  assert_true(aii_now_ns() - close_at_ns < 10000000000u);
  for (int i = 0; i < CLIENTS; i++) {
    assert_int_equal(pthread_join(clients[i].thread, NULL), 0);
    n_busy += clients[i].status == 429;
    n_cut += clients[i].status == 503 || clients[i].status == 200;
  }
  assert_int_equal(n_busy + n_cut, CLIENTS);
  assert_true(n_busy > 0 && n_cut > 0);
}

/* ---- a batcher to serve ------------------------------------------------------------------------------------------ */

static int open_all(void **state)
{
  (void)state;
  aiinfra_batcher_opts bo = AIINFRA_BATCHER_OPTS_INIT;
  aiinfra_runtime_opts ro = AIINFRA_RUNTIME_OPTS_INIT;
  ro.n_threads = 1;
  bo.max_running = bo.max_queue = 1;
  if (aiinfra_runtime_create(&ro, &rt, NULL) != AIINFRA_OK) return -1;
  if (aiinfra_model_open(rt, test_path("examples/nano/nano.gguf"), NULL, &model, NULL) != AIINFRA_OK) return -1;
  if (aiinfra_kv_create(model, NULL, &kv, NULL) != AIINFRA_OK) return -1;
  return aiinfra_batcher_create(model, kv, &bo, &batcher, NULL) == AIINFRA_OK ? 0 : -1;
}

static int close_all(void **state)
{
  (void)state;
  aiinfra_batcher_free(batcher);
  aiinfra_kv_free(kv);
  aiinfra_model_free(model);
  aiinfra_runtime_free(rt);
  return 0;
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(mistakes), cmocka_unit_test(full_queue_and_close)};
  if (access(test_path("examples/nano/nano.gguf"), R_OK) != 0) return test_skip_all("needs examples/nano/nano.gguf");
  return cmocka_run_group_tests(tests, open_all, close_all);
}
