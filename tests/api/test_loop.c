/* test_loop.c - generations on the host's own libuv loop: its timers keep firing, uv_run() ends when the work does, waits
 * give up in time, and nothing is left on the loop at the end.
 */
#include "stories.h"

#include <uv.h>

enum { TICK_MS = 10, MAX_TICKS = 4096 };

typedef struct host {
  uv_loop_t loop;
  uv_timer_t timer;
  uint64_t due_ns, late_ns[MAX_TICKS];
  int n_ticks, closed;
  stories s;
} host;

static void open_host(host *h, int32_t n_threads)
{
  aiinfra_runtime_opts opts = AIINFRA_RUNTIME_OPTS_INIT;
  memset(h, 0, sizeof *h);
  assert_int_equal(uv_loop_init(&h->loop), 0);
  opts.uv_loop = &h->loop;
  opts.n_threads = n_threads;
  stories_open_with(&h->s, &opts, 0, NULL);
}

static void on_closed(void *user)
{
  ((host *)user)->closed++;
}

static void close_host(host *h)
{
  aiinfra_batcher_free(h->s.batcher);
  aiinfra_kv_free(h->s.kv);
  aiinfra_model_free(h->s.model);
  aiinfra_runtime_close(h->s.rt, on_closed, h);
  assert_int_equal(uv_run(&h->loop, UV_RUN_DEFAULT), 0);
  assert_int_equal(h->closed, 1);
  assert_int_equal(uv_loop_close(&h->loop), 0); /* nothing of ours is left on it */
}

static void on_tick(uv_timer_t *timer)
{
  host *h = timer->data;
  uint64_t now_ns = uv_hrtime();
  if (h->n_ticks < MAX_TICKS) h->late_ns[h->n_ticks++] = now_ns > h->due_ns ? now_ns - h->due_ns : 0;
  uv_update_time(&h->loop);
  h->due_ns = uv_hrtime() + TICK_MS * 1000000u;
  uv_timer_start(timer, on_tick, TICK_MS, 0);
}

static void start_ticking(host *h)
{
  uv_timer_init(&h->loop, &h->timer);
  h->timer.data = h;
  uv_update_time(&h->loop);
  h->due_ns = uv_hrtime() + TICK_MS * 1000000u;
  uv_timer_start(&h->timer, on_tick, TICK_MS, 0);
  uv_unref((uv_handle_t *)&h->timer); /* the generation alone keeps the loop going */
}

static void stop_ticking(host *h)
{
  uv_close((uv_handle_t *)&h->timer, NULL);
  uv_run(&h->loop, UV_RUN_DEFAULT);
}

static int by_size(const void *a, const void *b)
{
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

static void test_the_host_runs_the_loop(void **state)
{
  (void)state;
  host *h = malloc(sizeof *h);
  open_host(h, 2);
  assert_int_equal(uv_run(&h->loop, UV_RUN_DEFAULT), 0); /* idle: nothing keeps it */
  aiinfra_generate_opts ask = stories_opts("Once upon a time", 1000);
  ask.ignore_eos = 1;
  answer *answers[4];
  for (int i = 0; i < 4; i++) answers[i] = stories_submit(&h->s, &ask);
  start_ticking(h);
  assert_int_equal(uv_run(&h->loop, UV_RUN_DEFAULT), 0);
  stop_ticking(h);
  for (int i = 0; i < 4; i++) {
    assert_int_equal(answers[i]->ended, 1);
    assert_int_equal(answers[i]->result.n_generated, 1000);
    assert_string_equal(answers[i]->text, answers[0]->text);
  }
  for (int i = 0; i < 4; i++) answer_free(answers[i]);
  qsort(h->late_ns, (size_t)h->n_ticks, sizeof h->late_ns[0], by_size);
  if (h->n_ticks > 0) {
    uint64_t p50_ns = h->late_ns[h->n_ticks / 2];
    print_message("%d ticks, late by %.3f ms in the median\n", h->n_ticks, (double)p50_ns * 1e-6);
    assert_true(p50_ns < 20000000u); /* lenient: other programs share the cores; bench_loop_jitter measures */
  }
  close_host(h);
  free(h);
}

static void test_wait_runs_the_host_loop(void **state)
{
  (void)state;
  host *h = malloc(sizeof *h);
  open_host(h, 1);
  aiinfra_generate_opts ask = stories_opts("Once", 0);
  ask.ignore_eos = 1;
  answer *a = stories_submit(&h->s, &ask);
  uint64_t start_ns = uv_hrtime();
  assert_int_equal(aiinfra_request_wait(a->request, 30, &stories_err), AIINFRA_ETIMEDOUT);
  assert_true(uv_hrtime() - start_ns >= 29000000u);
  assert_int_equal(a->ended, 0);
  assert_int_equal(aiinfra_request_done(a->request), 0);
  assert_int_equal(aiinfra_request_wait(a->request, 0, &stories_err), AIINFRA_ETIMEDOUT);
  aiinfra_request_cancel(a->request);
  stories_wait(a);
  assert_int_equal(a->status, AIINFRA_ECANCELED);
  assert_int_equal(aiinfra_request_wait(a->request, -1, &stories_err), AIINFRA_ECANCELED); /* ended: at once */
  answer_free(a);
  close_host(h);
  free(h);
}

static aiinfra_status waited_inside;

static void wait_inside(void *user, const aiinfra_chunk *chunk)
{
  answer *a = user;
  aiinfra_error err;
  answer_on_chunk(a, chunk);
  waited_inside = aiinfra_request_wait(a->request, -1, &err);
}

static void test_wait_inside_a_callback_is_refused(void **state)
{
  (void)state;
  stories s;
  stories_open(&s, 1, NULL);
  aiinfra_generate_opts ask = stories_opts("Once", 3);
  answer *a = answer_new();
  waited_inside = AIINFRA_OK;
  MUST(aiinfra_batcher_generate(s.batcher, &ask, wait_inside, answer_on_result, a, &a->request, &stories_err));
  stories_wait(a);
  assert_int_equal(waited_inside, AIINFRA_EINVAL);
  answer_free(a);
  stories_close(&s);
}

typedef struct relay {
  stories *s;
  int left, ended;
} relay;

static void submit_next(void *user, aiinfra_status status, const aiinfra_result *result)
{
  relay *r = user;
  aiinfra_generate_opts ask = stories_opts("Once", 3);
  (void)result;
  assert_int_equal(status, AIINFRA_OK);
  r->ended++;
  if (r->left-- > 0) MUST(aiinfra_batcher_generate(r->s->batcher, &ask, NULL, submit_next, r, NULL, &stories_err));
}

static void test_submitting_from_a_callback(void **state)
{
  (void)state;
  stories s;
  stories_open(&s, 1, NULL);
  relay r = {&s, 10, 0};
  aiinfra_generate_opts ask = stories_opts("Once", 3);
  MUST(aiinfra_batcher_generate(s.batcher, &ask, NULL, submit_next, &r, NULL, &stories_err));
  MUST(aiinfra_runtime_run(s.rt, &stories_err));
  assert_int_equal(r.ended, 11);
  stories_close(&s);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_the_host_runs_the_loop),
      cmocka_unit_test(test_wait_runs_the_host_loop),
      cmocka_unit_test(test_wait_inside_a_callback_is_refused),
      cmocka_unit_test(test_submitting_from_a_callback),
  };
  if (test_data(STORIES_GGUF) == NULL) return test_skip_all("no %s in AIINFRA_SHARED_DATA", STORIES_GGUF);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
