/* query.c - `aiinfra query --db FILE --collection NAME REQUEST`: a collection of vectors is asked in JSON. */
#include <stdio.h>

#include "cli.h"

typedef struct query_args {
  const char *db_path, *collection;
  bool read;
} query_args;

static int answer(aiinfra_db *db, const query_args *a, const char *request)
{
  aiinfra_vecstore *store = NULL;
  aiinfra_error err;
  char *out = NULL;
  aiinfra_status rc = aiinfra_vecstore_open(db, a->collection, NULL, &store, &err);
  if (rc == AIINFRA_OK && a->read) rc = aiinfra_vecstore_read(store, request, &out, &err);
  else if (rc == AIINFRA_OK) rc = aiinfra_vecstore_query(store, request, &out, &err);
  if (rc == AIINFRA_OK) printf("%s\n", out);
  aiinfra_string_free(out);
  aiinfra_vecstore_free(store);
  return rc == AIINFRA_OK ? CLI_OK : cli_error("query", &err);
}

int cmd_query(int argc, char **argv)
{
  query_args a = {0};
  aiinfra_db_opts opts = AIINFRA_DB_OPTS_INIT;
  aiinfra_runtime *runtime = NULL;
  aiinfra_db *db = NULL;
  aiinfra_error err;
  const cli_option options[] = {
      {"db", 0, CLI_TEXT, &a.db_path, 0, 0, "FILE", "the database"},
      {"collection", 0, CLI_TEXT, &a.collection, 0, 0, "NAME", "the collection"},
      {"read", 0, CLI_FLAG, &a.read, 0, 0, NULL, "a request without a vector: count, facet or scroll"},
      {0}};
  const cli_command command = {"query",
                               "--db FILE --collection NAME REQUEST",
                               "Asks a collection of vectors in JSON, and prints the answer.",
                               options,
                               1,
                               1};
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  if (a.db_path == NULL) return cli_usage("query", "--db FILE is missing");
  if (a.collection == NULL) return cli_usage("query", "--collection NAME is missing");
  code = cli_runtime_open(1, &runtime);
  if (code != CLI_OK) return code;
  opts.must_exist = 1;
  if (aiinfra_db_open(runtime, a.db_path, &opts, &db, &err) != AIINFRA_OK) code = cli_error(a.db_path, &err);
  else code = answer(db, &a, argv[0]);
  aiinfra_db_free(db);
  aiinfra_runtime_free(runtime);
  return code;
}
