/* cache.c - `aiinfra cache stats` and `aiinfra cache clear`: the response cache of a database. */
#include <stdio.h>
#include <string.h>

#include "cli.h"

typedef struct store {
  aiinfra_runtime *runtime;
  aiinfra_db *db;
  aiinfra_cache *cache;
} store;

static int open_store(const char *path, store *s)
{
  aiinfra_db_opts opts = AIINFRA_DB_OPTS_INIT;
  aiinfra_error err;
  int code = cli_runtime_open(1, &s->runtime);
  opts.must_exist = 1;
  if (code != CLI_OK) return code;
  if (aiinfra_db_open(s->runtime, path, &opts, &s->db, &err) != AIINFRA_OK) return cli_error(path, &err);
  if (aiinfra_cache_open(s->db, NULL, &s->cache, &err) != AIINFRA_OK) return cli_error(path, &err);
  return CLI_OK;
}

static int show_stats(aiinfra_cache *cache)
{
  aiinfra_error err;
  char *text = NULL;
  if (aiinfra_cache_stats(cache, &text, &err) != AIINFRA_OK) return cli_error("cache stats", &err);
  printf("%s\n", text);
  aiinfra_string_free(text);
  return CLI_OK;
}

static int clear(aiinfra_cache *cache, const char *tenant)
{
  aiinfra_error err;
  uint64_t n = 0;
  if (aiinfra_cache_clear(cache, tenant, &n, &err) != AIINFRA_OK) return cli_error("cache clear", &err);
  printf("%llu answers removed\n", (unsigned long long)n);
  return CLI_OK;
}

int cmd_cache(int argc, char **argv)
{
  const char *db_path = NULL, *tenant = NULL;
  const cli_option options[] = {{"db", 0, CLI_TEXT, &db_path, 0, 0, "FILE", "the database"},
                                {"tenant", 0, CLI_TEXT, &tenant, 0, 0, "NAME", "clear: only this one's answers"},
                                {0}};
  const cli_command command = {"cache",
                               "stats|clear --db FILE",
                               "Prints what the response cache has done, as JSON; or removes its answers for good.",
                               options,
                               1,
                               1};
  store s = {NULL, NULL, NULL};
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  bool stats = strcmp(argv[0], "stats") == 0;
  if (!stats && strcmp(argv[0], "clear") != 0) return cli_usage("cache", "'%.60s' is neither stats nor clear", argv[0]);
  if (db_path == NULL) return cli_usage("cache", "--db FILE is missing");
  code = open_store(db_path, &s);
  if (code == CLI_OK) code = stats ? show_stats(s.cache) : clear(s.cache, tenant);
  aiinfra_cache_free(s.cache);
  aiinfra_db_free(s.db);
  if (s.runtime != NULL) aiinfra_runtime_free(s.runtime);
  return code;
}
