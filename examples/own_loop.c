/* own_loop.c - the library on the host's own libuv loop: a generation runs while the host's timer goes on ticking.
 *
 *   own_loop MODEL.gguf
 */
#include <aiinfra.h>
#include <stdio.h>
#include <uv.h>

typedef struct app {
  uv_timer_t timer;
  aiinfra_runtime *runtime;
  aiinfra_model *model;
  aiinfra_kv *kv;
  aiinfra_batcher *batcher;
  int ticks, failed;
} app;

static void on_tick(uv_timer_t *timer)
{
  app *a = timer->data;
  a->ticks++;
}

static void on_chunk(void *user, const aiinfra_chunk *chunk)
{
  (void)user;
  fwrite(chunk->text, 1, chunk->n_bytes, stdout);
  fflush(stdout);
}

/* Everything may be freed in the last callback: the library takes itself down as the loop turns. */
static void on_result(void *user, aiinfra_status status, const aiinfra_result *result)
{
  app *a = user;
  a->failed = status != AIINFRA_OK;
  printf("\n");
  if (a->failed) fprintf(stderr, "own_loop: %s\n", result->error->message);
  fprintf(stderr, "%u tokens while the timer ticked %d times\n", result->n_generated, a->ticks);
  uv_close((uv_handle_t *)&a->timer, NULL);
  aiinfra_batcher_free(a->batcher);
  aiinfra_kv_free(a->kv);
  aiinfra_model_free(a->model);
  aiinfra_runtime_free(a->runtime);
}

static aiinfra_status start(app *a, uv_loop_t *loop, const char *path, aiinfra_error *err)
{
  aiinfra_runtime_opts runtime_opts = AIINFRA_RUNTIME_OPTS_INIT;
  aiinfra_generate_opts opts = AIINFRA_GENERATE_OPTS_INIT;
  aiinfra_status rc;
  runtime_opts.uv_loop = loop;
  opts.text = "Once upon a time";
  opts.max_tokens = 100;
  rc = aiinfra_runtime_create(&runtime_opts, &a->runtime, err);
  if (rc == AIINFRA_OK) rc = aiinfra_model_open(a->runtime, path, NULL, &a->model, err);
  if (rc == AIINFRA_OK) rc = aiinfra_kv_create(a->model, NULL, &a->kv, err);
  if (rc == AIINFRA_OK) rc = aiinfra_batcher_create(a->model, a->kv, NULL, &a->batcher, err);
  if (rc == AIINFRA_OK) rc = aiinfra_batcher_generate(a->batcher, &opts, on_chunk, on_result, a, NULL, err);
  return rc;
}

int main(int argc, char **argv)
{
  uv_loop_t loop;
  app a = {.failed = 1};
  aiinfra_error err;
  if (argc < 2) return fprintf(stderr, "usage: own_loop MODEL.gguf\n"), 2;
  uv_loop_init(&loop);
  uv_timer_init(&loop, &a.timer);
  a.timer.data = &a;
  uv_timer_start(&a.timer, on_tick, 1, 1);
  if (start(&a, &loop, argv[1], &err) != AIINFRA_OK) {
    fprintf(stderr, "own_loop: %s\n", err.message);
    uv_close((uv_handle_t *)&a.timer, NULL);
    aiinfra_batcher_free(a.batcher);
    aiinfra_kv_free(a.kv);
    aiinfra_model_free(a.model);
    aiinfra_runtime_free(a.runtime);
  }
  uv_run(&loop, UV_RUN_DEFAULT); /* until the library and the timer are gone */
  return uv_loop_close(&loop) != 0 || a.failed;
}
