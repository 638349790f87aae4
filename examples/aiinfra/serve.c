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
  aiinfra_cache *cache;
} documents;

typedef struct cache_args {
  const char *mode;
  int64_t ttl_s, mib;
} cache_args;

static int open_cache(const cache_args *args, documents *d)
{
  aiinfra_cache_opts o = AIINFRA_CACHE_OPTS_INIT;
  aiinfra_error err;
  bool exact = strcmp(args->mode, "exact") == 0, wide = strcmp(args->mode, "wide") == 0,
       shadow = strcmp(args->mode, "shadow") == 0;
  if (!exact && !wide && !shadow && strcmp(args->mode, "semantic") != 0)
    return cli_usage("serve", "--cache '%.40s' is none of exact, semantic, wide and shadow", args->mode);
  if (d->db == NULL) return cli_usage("serve", "--cache needs --db FILE");
  o.semantic = exact ? -1 : wide ? 2 : 1;
  o.shadow = shadow;
  o.ttl_ms = args->ttl_s * 1000;
  o.max_bytes = (uint64_t)args->mib << 20;
  if (aiinfra_cache_open(d->db, &o, &d->cache, &err) != AIINFRA_OK) return cli_error("serve", &err);
  return CLI_OK;
}

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
  } else if (d->cache != NULL && aiinfra_server_set_cache(server, d->cache, &err) != AIINFRA_OK) {
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
  cache_args cache = {NULL, 0, 0};
  char short_name[64];
  const cli_option options[] = {
      {"model", 'm', CLI_TEXT, &model, 0, 0, "FILE", "the model; else $AIINFRA_MODEL, else the one that is bundled"},
      {"name", 0, CLI_TEXT, &name, 0, 0, "NAME", "as clients call it; else the file's name"},
      {"db", 0, CLI_TEXT, &db, 0, 0, "FILE", "a database: search it at /v1/vector_stores/default/search"},
      {"scope", 0, CLI_TEXT, &scope, 0, 0, "NAME", "whose memory of it (default)"},
      {"cache", 0, CLI_TEXT, &cache.mode, 0, 0, "MODE",
       "answer again from --db: exact, semantic, wide; only count: shadow"},
      {"cache-ttl", 0, CLI_INT, &cache.ttl_s, 0, 1e9, "SECONDS", "how long an answer is served (0: one day)"},
      {"cache-size", 0, CLI_INT, &cache.mib, 0, 1 << 20, "MIB", "of all answers (0: 64)"},
      {"host", 0, CLI_TEXT, &host, 0, 0, "ADDRESS", "numeric address to bind (127.0.0.1)"},
      {"port", 0, CLI_INT, &port, 0, 65535, "N", "0: any free one (8080)"},
      {"api-key", 0, CLI_TEXT, &key, 0, 0, "KEY", "demand it as a bearer token"},
      {"threads", 't', CLI_INT, &threads, 0, 1024, "N", "compute threads; 0: one for each core"},
      CLI_KV_TYPE(kv_type),
      CLI_KV_SIZES,
      CLI_PACKED,
      CLI_BF16,
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
  if (db != NULL) code = cli_db_open(e.runtime, db, cache.mode == NULL, scope, &d.db, &d.memory);
  if (code == CLI_OK && cache.mode != NULL) code = open_cache(&cache, &d);
  if (code == CLI_OK) code = serve(&e, &opts, name != NULL ? name : short_name, &d);
  aiinfra_cache_free(d.cache);
  aiinfra_memory_free(d.memory);
  aiinfra_db_free(d.db);
  cli_engine_close(&e);
  return code;
}
