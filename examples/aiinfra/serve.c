/* serve.c - `aiinfra serve`: a model behind an OpenAI-compatible HTTP server, until Ctrl-C. */
#include <stdio.h>
#include <string.h>

#include "cli.h"

static const char name_of_store[] = "default";

/* "models/nano.gguf" is served as "nano". */
static void name_of(const char *path, char *out, size_t cap)
{
  const char *base = strrchr(path, '/') != NULL ? strrchr(path, '/') + 1 : path;
  size_t n = strlen(base);
  if (n > 5 && strcmp(base + n - 5, ".gguf") == 0) n -= 5;
  snprintf(out, cap, "%.*s", (int)n, base);
}

/* What is in a database, for search. Handles that may stay NULL are the caller's to free. */
typedef struct documents {
  aiinfra_db *db;
  aiinfra_memory *memory;
} documents;

static int serve(const cli_engine *e, const aiinfra_server_opts *opts, const char *name, const documents *d)
{
  aiinfra_server *server = NULL;
  aiinfra_error err;
  int code = CLI_OK;
  if (aiinfra_server_create(e->runtime, opts, &server, &err) != AIINFRA_OK) return cli_error("serve", &err);
  if (aiinfra_server_add_model(server, name, e->batcher, &err) != AIINFRA_OK) {
    code = cli_error("serve", &err);
  } else if (d->memory != NULL && aiinfra_server_add_memory(server, name_of_store, d->memory, &err) != AIINFRA_OK) {
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
  const char *model = NULL, *host = NULL, *key = NULL, *name = NULL, *db = NULL, *scope = NULL, *kv_type = NULL;
  int64_t port = 8080, threads = 0;
  char short_name[64];
  const cli_option options[] = {
      {"model", 'm', CLI_TEXT, &model, 0, 0, "FILE", "the model; else $AIINFRA_MODEL, else the one that is bundled"},
      {"name", 0, CLI_TEXT, &name, 0, 0, "NAME", "as clients call it; else the file's name"},
      {"db", 0, CLI_TEXT, &db, 0, 0, "FILE", "a database: search it at /v1/vector_stores/default/search"},
      {"scope", 0, CLI_TEXT, &scope, 0, 0, "NAME", "whose memory of it (default)"},
      {"host", 0, CLI_TEXT, &host, 0, 0, "ADDRESS", "numeric address to bind (127.0.0.1)"},
      {"port", 0, CLI_INT, &port, 0, 65535, "N", "0: any free one (8080)"},
      {"api-key", 0, CLI_TEXT, &key, 0, 0, "KEY", "demand it as a bearer token"},
      {"threads", 't', CLI_INT, &threads, 0, 1024, "N", "compute threads; 0: one for each core"},
      CLI_KV_TYPE(kv_type),
      CLI_PACKED,
      CLI_DEVICE,
      CLI_RANKS,
      {0}};
  const cli_command command = {
      "serve", "[--model FILE] [OPTIONS]", "Serves a model over HTTP, as OpenAI does.", options, 0, 0};
  aiinfra_server_opts opts = AIINFRA_SERVER_OPTS_INIT;
  cli_engine e;
  documents d = {0};
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  model = cli_default_model(model);
  if (model == NULL) return CLI_FAILED;
  name_of(model, short_name, sizeof short_name);
  opts.host = host;
  opts.api_key = key;
  opts.port = port == 0 ? -1 : (int32_t)port;
  cli_catch_interrupts();
  code = cli_engine_open(model, threads, kv_type, NULL, &e);
  if (code != CLI_OK) return code;
  if (db != NULL) code = cli_db_open(e.runtime, db, true, scope, &d.db, &d.memory);
  if (code == CLI_OK) code = serve(&e, &opts, name != NULL ? name : short_name, &d);
  aiinfra_memory_free(d.memory);
  aiinfra_db_free(d.db);
  cli_engine_close(&e);
  return code;
}
