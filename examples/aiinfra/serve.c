/* serve.c - `aiinfra serve`: a model behind an OpenAI-compatible HTTP server, until Ctrl-C. */
#include <stdio.h>
#include <string.h>

#include "cli.h"

/* "models/nano.gguf" is served as "nano". */
static void name_of(const char *path, char *out, size_t cap)
{
  const char *base = strrchr(path, '/') != NULL ? strrchr(path, '/') + 1 : path;
  size_t n = strlen(base);
  if (n > 5 && strcmp(base + n - 5, ".gguf") == 0) n -= 5;
  snprintf(out, cap, "%.*s", (int)n, base);
}

static int serve(const cli_engine *e, const aiinfra_server_opts *opts, const char *name)
{
  aiinfra_server *server = NULL;
  aiinfra_error err;
  int code = CLI_OK;
  if (aiinfra_server_create(e->runtime, opts, &server, &err) != AIINFRA_OK) return cli_error("serve", &err);
  if (aiinfra_server_add_model(server, name, e->batcher, &err) != AIINFRA_OK) {
    code = cli_error("serve", &err);
  } else {
    cli_say("serving %s on http://%s:%d", name, opts->host != NULL ? opts->host : "127.0.0.1",
            aiinfra_server_port(server));
    cli_watch(NULL, e->runtime);
    if (aiinfra_runtime_run(e->runtime, &err) != AIINFRA_OK) code = cli_error("serve", &err);
    cli_watch(NULL, NULL);
  }
  aiinfra_server_free(server);
  return code;
}

int cmd_serve(int argc, char **argv)
{
  const char *model = NULL, *host = NULL, *key = NULL, *name = NULL;
  int64_t port = 8080, threads = 0;
  char short_name[64];
  const cli_option options[] = {
      {"model", 'm', CLI_TEXT, &model, 0, 0, "FILE", "the model; else $AIINFRA_MODEL, else the one that is bundled"},
      {"name", 0, CLI_TEXT, &name, 0, 0, "NAME", "as clients call it; else the file's name"},
      {"host", 0, CLI_TEXT, &host, 0, 0, "ADDRESS", "numeric address to bind (127.0.0.1)"},
      {"port", 0, CLI_INT, &port, 0, 65535, "N", "0: any free one (8080)"},
      {"api-key", 0, CLI_TEXT, &key, 0, 0, "KEY", "demand it as a bearer token"},
      {"threads", 't', CLI_INT, &threads, 0, 1024, "N", "compute threads; 0: one for each core"},
      {0}};
  const cli_command command = {
      "serve", "[--model FILE] [OPTIONS]", "Serves a model over HTTP, as OpenAI does.", options, 0, 0};
  aiinfra_server_opts opts = AIINFRA_SERVER_OPTS_INIT;
  cli_engine e;
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  model = cli_default_model(model);
  if (model == NULL) return CLI_FAILED;
  name_of(model, short_name, sizeof short_name);
  opts.host = host;
  opts.api_key = key;
  opts.port = port == 0 ? -1 : (int32_t)port;
  cli_catch_interrupts();
  code = cli_engine_open(model, threads, NULL, &e);
  if (code != CLI_OK) return code;
  code = serve(&e, &opts, name != NULL ? name : short_name);
  cli_engine_close(&e);
  return code;
}
