/* vectors.c - `aiinfra import` and `aiinfra export`: collections of vectors from files and to files. */
#include <stdio.h>
#include <string.h>

#include "cli.h"

typedef struct args {
  const char *format, *metric, *tenant, *vectors, *using;
  int64_t first_id, from, rows, batch, ttl;
  bool as_json;
} args;

typedef struct collection {
  aiinfra_runtime *runtime;
  aiinfra_db *db;
  aiinfra_vecstore *store;
} collection;

/* The place of a name in a list that ends with NULL, from 0; -1 after telling that it is not there. */
static int32_t place_of(const char *command, const char *option, const char *name, const char *const *names)
{
  for (int32_t i = 0; names[i] != NULL; i++) {
    if (name == NULL || strcmp(name, names[i]) == 0) return i;
  }
  cli_usage(command, "--%s has no '%.40s'", option, name);
  return -1;
}

static int32_t format_of(const char *command, const char *name)
{
  static const char *const names[] = {"auto", "fvecs", "bvecs", "npy", "jsonl", "fbin", "u8bin", NULL};
  return place_of(command, "format", name, names);
}

static int close_collection(collection *c, int code)
{
  aiinfra_vecstore_free(c->store);
  aiinfra_db_free(c->db);
  if (c->runtime != NULL) aiinfra_runtime_free(c->runtime);
  return code;
}

/* On a terminal; Ctrl-C cancels. */
static int show_progress(void *user, double fraction)
{
  const char *what = user;
  if (cli_progress_wanted()) fprintf(stderr, fraction < 1 ? "\r%s %3.0f %%" : "\r%s done \n", what, fraction * 100);
  return cli_interrupted();
}

static aiinfra_status open_collection(collection *c, const char *path, const char *name, bool must_exist,
                                      const aiinfra_vecstore_opts *opts, aiinfra_error *err)
{
  aiinfra_db_opts db_opts = AIINFRA_DB_OPTS_INIT;
  db_opts.must_exist = must_exist;
  aiinfra_status rc = aiinfra_db_open(c->runtime, path, &db_opts, &c->db, err);
  return rc == AIINFRA_OK ? aiinfra_vecstore_open(c->db, name, opts, &c->store, err) : rc;
}

/* ---- import ------------------------------------------------------------------------------------------------------ */

static int show_imported(const args *a, uint64_t from, uint64_t to, aiinfra_status rc, const aiinfra_error *err)
{
  if (rc != AIINFRA_OK) {
    cli_error("import", err);
    if (to > from) cli_say("aiinfra: the rows before it are written; go on with --from %llu", (unsigned long long)to);
    return CLI_FAILED;
  }
  if (a->as_json)
    return cli_print_json(json_pack("{s:I,s:I}", "rows", (json_int_t)(to - from), "next", (json_int_t)to), 0);
  printf("%llu rows\n", (unsigned long long)(to - from));
  return CLI_OK;
}

static int import_file(collection *c, char **argv, const args *a, aiinfra_vecstore_opts *store_opts,
                       aiinfra_vecstore_import_opts *opts)
{
  aiinfra_error err;
  uint64_t next = 0;
  if (aiinfra_vector_file_probe(c->runtime, argv[2], opts->format, &store_opts->dims, NULL, &err) != AIINFRA_OK)
    return cli_error("import", &err);
  if (a->using != NULL) store_opts->dims = 0; /* those of the file are of the name's vectors */
  if (open_collection(c, argv[0], argv[1], false, store_opts, &err) != AIINFRA_OK) return cli_error(argv[0], &err);
  opts->progress = show_progress;
  opts->progress_user = (void *)"import";
  opts->from_row = (uint64_t)a->from;
  opts->max_rows = (uint64_t)a->rows;
  opts->first_id = a->first_id;
  opts->batch_rows = (uint32_t)a->batch;
  opts->using_name = a->using;
  aiinfra_status rc = aiinfra_vecstore_import(c->store, argv[2], opts, &next, &err);
  return show_imported(a, (uint64_t)a->from, next, rc, &err);
}

int cmd_import(int argc, char **argv)
{
  static const char *const metrics[] = {"default", "cosine", "ip", "l2", NULL};
  args a = {0};
  const cli_option options[] = {
      {"format", 0, CLI_TEXT, &a.format, 0, 0, "F", "fvecs, bvecs, fbin, u8bin, npy, jsonl (by the ending)"},
      {"tenant", 0, CLI_TEXT, &a.tenant, 0, 0, "NAME", "whose rows they are"},
      {"metric", 0, CLI_TEXT, &a.metric, 0, 0, "M", "of a new collection: cosine, ip, l2 (cosine)"},
      {"vectors", 0, CLI_TEXT, &a.vectors, 0, 0, "JSON", "vectors under names, e.g. {\"image\": {\"dims\": 512}}"},
      {"using", 0, CLI_TEXT, &a.using, 0, 0, "NAME", "the vectors of the file are these; its rows must be there"},
      {"first-id", 0, CLI_INT, &a.first_id, -9e18, 9e18, "N", "id of the first row, where rows have none (0)"},
      {"from", 0, CLI_INT, &a.from, 0, 9e18, "ROW", "begin with this row of the file (0)"},
      {"rows", 0, CLI_INT, &a.rows, 0, 9e18, "N", "so many rows at most; 0: all"},
      {"ttl", 0, CLI_INT, &a.ttl, 0, 1e12, "SECONDS", "how long the rows live; 0: for ever"},
      {"batch", 0, CLI_INT, &a.batch, 0, 1 << 20, "N", "rows in one transaction (1000)"},
      {"json", 0, CLI_FLAG, &a.as_json, 0, 0, NULL, "print one JSON object"},
      {0}};
  const cli_command command = {"import",
                               "DB COLLECTION FILE",
                               "Writes the rows of a file into a collection, which is made when it is missing.",
                               options,
                               3,
                               3};
  aiinfra_vecstore_opts store_opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_vecstore_import_opts opts = AIINFRA_VECSTORE_IMPORT_OPTS_INIT;
  collection c = {0};
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  opts.format = format_of("import", a.format);
  store_opts.metric = place_of("import", "metric", a.metric, metrics);
  if (opts.format < 0 || store_opts.metric < 0) return CLI_USAGE;
  store_opts.ttl_ms = (uint64_t)a.ttl * 1000;
  store_opts.tenant = a.tenant;
  store_opts.vectors_json = a.vectors;
  cli_catch_interrupts();
  code = cli_runtime_open(1, &c.runtime);
  if (code != CLI_OK) return code;
  cli_watch_flag();
  return close_collection(&c, import_file(&c, argv, &a, &store_opts, &opts));
}

/* ---- export ------------------------------------------------------------------------------------------------------ */

int cmd_export(int argc, char **argv)
{
  args a = {0};
  const cli_option options[] = {
      {"format", 0, CLI_TEXT, &a.format, 0, 0, "F", "fvecs, bvecs, fbin, u8bin, npy, jsonl (by the ending)"},
      {"tenant", 0, CLI_TEXT, &a.tenant, 0, 0, "NAME", "whose rows they are"},
      {"using", 0, CLI_TEXT, &a.using, 0, 0, "NAME", "vectors under this name, which each row has"},
      {"json", 0, CLI_FLAG, &a.as_json, 0, 0, NULL, "print one JSON object"},
      {0}};
  const cli_command command = {
      "export", "DB COLLECTION FILE", "Writes a collection to a file, in the order of ids.", options, 3, 3};
  aiinfra_vecstore_export_opts opts = AIINFRA_VECSTORE_EXPORT_OPTS_INIT;
  aiinfra_vecstore_opts store_opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_error err;
  collection c = {0};
  uint64_t rows = 0;
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  opts.format = format_of("export", a.format);
  if (opts.format < 0) return CLI_USAGE;
  store_opts.tenant = a.tenant;
  cli_catch_interrupts();
  code = cli_runtime_open(1, &c.runtime);
  if (code != CLI_OK) return code;
  cli_watch_flag();
  opts.progress = show_progress;
  opts.progress_user = (void *)"export";
  opts.using_name = a.using;
  if (open_collection(&c, argv[0], argv[1], true, &store_opts, &err) != AIINFRA_OK)
    return close_collection(&c, cli_error(argv[0], &err));
  if (aiinfra_vecstore_export(c.store, argv[2], &opts, &rows, &err) != AIINFRA_OK)
    return close_collection(&c, cli_error("export", &err));
  if (a.as_json) code = cli_print_json(json_pack("{s:I}", "rows", (json_int_t)rows), 0);
  else printf("%llu rows\n", (unsigned long long)rows);
  return close_collection(&c, code);
}
