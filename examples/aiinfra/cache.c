/* cache.c - `aiinfra cache stats`, `report` and `clear`: the response cache of a database. */
#include <stdio.h>
#include <stdlib.h>
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

/* An answer that was wrong. What it was served to raises the bar for its neighbours, too. */
static int report(aiinfra_cache *cache, int64_t id, const char *question)
{
  aiinfra_cache_query query = AIINFRA_CACHE_QUERY_INIT;
  aiinfra_error err;
  char *request = NULL;
  if (id == 0) return cli_usage("cache", "--id N is missing: the header X-Cache-Id of the answer");
  if (question != NULL) {
    json_t *body = json_pack("{s:[{s:s, s:s}]}", "messages", "role", "user", "content", question);
    request = json_dumps(body, JSON_COMPACT);
    json_decref(body);
    if (request == NULL) return cli_fail("--question is not UTF-8");
    query.request_json = request;
  }
  aiinfra_status rc = aiinfra_cache_report_false(cache, id, request != NULL ? &query : NULL, &err);
  free(request);
  if (rc != AIINFRA_OK) return cli_error("cache report", &err);
  printf("answer %lld removed\n", (long long)id);
  return CLI_OK;
}

int cmd_cache(int argc, char **argv)
{
  const char *db_path = NULL, *tenant = NULL, *question = NULL;
  int64_t id = 0;
  const cli_option options[] = {
      {"db", 0, CLI_TEXT, &db_path, 0, 0, "FILE", "the database"},
      {"tenant", 0, CLI_TEXT, &tenant, 0, 0, "NAME", "clear: only this one's answers"},
      {"id", 0, CLI_INT, &id, 1, 9e15, "N", "report: the answer that was wrong"},
      {"question", 0, CLI_TEXT, &question, 0, 0, "TEXT", "report: what it was served to; without it, never to others"},
      {0}};
  const cli_command command = {"cache",
                               "stats|report|clear --db FILE",
                               "Prints what the response cache has done, as JSON; removes a wrong answer; or all of "
                               "them.",
                               options,
                               1,
                               1};
  store s = {NULL, NULL, NULL};
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  bool stats = strcmp(argv[0], "stats") == 0, wrong = strcmp(argv[0], "report") == 0;
  if (!stats && !wrong && strcmp(argv[0], "clear") != 0)
    return cli_usage("cache", "'%.60s' is none of stats, report and clear", argv[0]);
  if (db_path == NULL) return cli_usage("cache", "--db FILE is missing");
  code = open_store(db_path, &s);
  if (code == CLI_OK)
    code = stats ? show_stats(s.cache) : wrong ? report(s.cache, id, question) : clear(s.cache, tenant);
  aiinfra_cache_free(s.cache);
  aiinfra_db_free(s.db);
  if (s.runtime != NULL) aiinfra_runtime_free(s.runtime);
  return code;
}
