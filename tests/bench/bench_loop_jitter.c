/* bench_loop_jitter.c - how late a 10 ms timer of the host's loop fires while the library decodes on two threads.
 *
 * Prints median, 99th percentile and maximum, beside the same of an idle loop: the difference is ours. The promise is
 * that the 99th percentile stays below 2 ms. Arguments: model file, seconds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uv.h>

#include "aiinfra/batcher.h"
#include "aiinfra/runtime.h"
#include "tests/support/support.h"

enum { TICK_MS = 10, MAX_TICKS = 100000, STREAMS = 4 };

static struct {
  uv_loop_t loop;
  uv_timer_t timer;
  uint64_t due_ns, end_ns, late_ns[MAX_TICKS], tokens;
  size_t n_ticks;
  aiinfra_batcher *batcher;
} bench;

static int check(aiinfra_status rc, const aiinfra_error *err)
{
  if (rc != AIINFRA_OK) fprintf(stderr, "%s: %s\n", aiinfra_status_name(rc), err->message);
  return rc == AIINFRA_OK;
}

/* libuv counts whole milliseconds: the timer is due when its clock, cut to milliseconds, has gone on by ten. */
static void set_timer(void);

static void on_tick(uv_timer_t *timer)
{
  uint64_t now_ns = uv_hrtime();
  (void)timer;
  if (bench.n_ticks < MAX_TICKS) bench.late_ns[bench.n_ticks++] = now_ns > bench.due_ns ? now_ns - bench.due_ns : 0;
  if (now_ns < bench.end_ns) set_timer();
}

static void set_timer(void)
{
  uv_update_time(&bench.loop);
  bench.due_ns = (uv_now(&bench.loop) + TICK_MS) * 1000000u;
  uv_timer_start(&bench.timer, on_tick, TICK_MS, 0);
}

static int by_size(const void *a, const void *b)
{
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

static double late_ms(double share)
{
  size_t at = (size_t)(share * (double)(bench.n_ticks - 1));
  return (double)bench.late_ns[at] * 1e-6;
}

static void report(const char *what)
{
  if (bench.n_ticks == 0) return;
  qsort(bench.late_ns, bench.n_ticks, sizeof bench.late_ns[0], by_size);
  printf("%-10s %6zu ticks, late by ms: p50 %.3f  p99 %.3f  max %.3f", what, bench.n_ticks, late_ms(0.5), late_ms(0.99),
         late_ms(1.0));
  if (bench.tokens > 0) printf("  (%llu tokens)", (unsigned long long)bench.tokens);
  printf("\n");
}

static void on_result(void *user, aiinfra_status status, const aiinfra_result *result);

static int submit(void)
{
  aiinfra_error err;
  aiinfra_generate_opts opts = AIINFRA_GENERATE_OPTS_INIT;
  opts.text = "Once upon a time";
  opts.max_tokens = 400;
  opts.ignore_eos = 1;
  return check(aiinfra_batcher_generate(bench.batcher, &opts, NULL, on_result, NULL, NULL, &err), &err);
}

static void on_result(void *user, aiinfra_status status, const aiinfra_result *result)
{
  (void)user;
  (void)status;
  bench.tokens += result->n_generated;
  if (uv_hrtime() < bench.end_ns) (void)submit();
}

static void run(uint64_t seconds)
{
  bench.n_ticks = 0;
  bench.end_ns = uv_hrtime() + seconds * 1000000000u;
  set_timer();
  uv_run(&bench.loop, UV_RUN_DEFAULT);
}

int main(int argc, char **argv)
{
  const char *path = argc > 1 ? argv[1] : test_data("models/stories260K/stories260K.gguf");
  uint64_t seconds = argc > 2 ? strtoull(argv[2], NULL, 10) : 5;
  if (path == NULL) return test_skip_all("no stories260K.gguf in AIINFRA_SHARED_DATA");
  aiinfra_error err;
  aiinfra_runtime *rt;
  aiinfra_model *model;
  aiinfra_kv *kv;
  aiinfra_runtime_opts opts = AIINFRA_RUNTIME_OPTS_INIT;
  opts.uv_loop = &bench.loop;
  opts.n_threads = 2;
  uv_loop_init(&bench.loop);
  uv_timer_init(&bench.loop, &bench.timer);
  if (!check(aiinfra_runtime_create(&opts, &rt, &err), &err)) return 1;
  if (!check(aiinfra_model_open(rt, path, NULL, &model, &err), &err)) return 1;
  if (!check(aiinfra_kv_create(model, NULL, &kv, &err), &err)) return 1;
  if (!check(aiinfra_batcher_create(model, kv, NULL, &bench.batcher, &err), &err)) return 1;
  run(seconds);
  report("idle");
  bench.end_ns = UINT64_MAX;
  for (int i = 0; i < STREAMS; i++)
    if (!submit()) return 1;
  run(seconds);
  report("decoding");
  aiinfra_batcher_free(bench.batcher);
  aiinfra_kv_free(kv);
  aiinfra_model_free(model);
  uv_close((uv_handle_t *)&bench.timer, NULL);
  aiinfra_runtime_close(rt, NULL, NULL);
  uv_run(&bench.loop, UV_RUN_DEFAULT);
  return uv_loop_close(&bench.loop) == 0 ? 0 : 1;
}
