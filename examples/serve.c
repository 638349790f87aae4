/* serve.c - an OpenAI-compatible server inside your own program. `serve MODEL.gguf [PORT]`, then
 *
 *   curl http://127.0.0.1:8080/v1/chat/completions -d '{"messages": [{"role": "user", "content": "Hello"}]}'
 *
 * PORT 0 takes any free one. It ends when its standard input does (Ctrl-D), so that a parent can stop it.
 */
#include <aiinfra/server.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

static void on_input(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
  (void)buf;
  if (n < 0) aiinfra_runtime_stop(stream->data);
}

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
  static char bytes[256];
  (void)handle, (void)size;
  *buf = uv_buf_init(bytes, sizeof bytes);
}

int main(int argc, char **argv)
{
  aiinfra_runtime_opts runtime_opts = AIINFRA_RUNTIME_OPTS_INIT;
  aiinfra_server_opts opts = AIINFRA_SERVER_OPTS_INIT;
  aiinfra_runtime *runtime = NULL;
  aiinfra_model *model = NULL;
  aiinfra_kv *kv = NULL;
  aiinfra_batcher *batcher = NULL;
  aiinfra_server *server = NULL;
  aiinfra_error err;
  aiinfra_status rc;
  uv_loop_t loop;
  uv_pipe_t input;
  int port = argc > 2 ? atoi(argv[2]) : 8080;
  if (argc < 2) return fprintf(stderr, "usage: serve MODEL.gguf [PORT]\n"), 2;

  uv_loop_init(&loop);
  uv_pipe_init(&loop, &input, 0);
  runtime_opts.uv_loop = &loop;
  opts.port = port == 0 ? -1 : port;
  rc = aiinfra_runtime_create(&runtime_opts, &runtime, &err);
  if (rc == AIINFRA_OK) rc = aiinfra_model_open(runtime, argv[1], NULL, &model, &err);
  if (rc == AIINFRA_OK) rc = aiinfra_kv_create(model, NULL, &kv, &err);
  if (rc == AIINFRA_OK) rc = aiinfra_batcher_create(model, kv, NULL, &batcher, &err);
  if (rc == AIINFRA_OK) rc = aiinfra_server_create(runtime, &opts, &server, &err);
  if (rc == AIINFRA_OK) rc = aiinfra_server_add_model(server, "demo", batcher, &err);
  if (rc == AIINFRA_OK) {
    printf("http://127.0.0.1:%d\n", aiinfra_server_port(server));
    fflush(stdout);
    input.data = runtime;
    if (uv_pipe_open(&input, 0) == 0) uv_read_start((uv_stream_t *)&input, on_alloc, on_input);
    rc = aiinfra_runtime_run(runtime, &err); /* until aiinfra_runtime_stop() */
  }
  if (rc != AIINFRA_OK) fprintf(stderr, "serve: %s\n", err.message);

  uv_close((uv_handle_t *)&input, NULL);
  aiinfra_server_free(server);
  aiinfra_batcher_free(batcher);
  aiinfra_kv_free(kv);
  aiinfra_model_free(model);
  aiinfra_runtime_free(runtime);
  uv_run(&loop, UV_RUN_DEFAULT); /* what was freed ends here */
  uv_loop_close(&loop);
  return rc == AIINFRA_OK ? 0 : 1;
}
