/* database.c - `aiinfra db ACTION FILE`: what keeps a database file safe and small. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

typedef struct file {
  const char *path;
  bool as_json;
  aiinfra_runtime *runtime;
  aiinfra_db *db;
} file;

#define AS_JSON(f)                                                         \
  {                                                                        \
    "json", 0, CLI_FLAG, &(f).as_json, 0, 0, NULL, "print one JSON object" \
  }

static aiinfra_status open_file(file *f, const char *path, aiinfra_error *err)
{
  aiinfra_db_opts opts = AIINFRA_DB_OPTS_INIT;
  f->path = path;
  opts.must_exist = 1;
  return aiinfra_db_open(f->runtime, path, &opts, &f->db, err);
}

static int close_file(file *f, int code)
{
  aiinfra_db_free(f->db);
  if (f->runtime != NULL) aiinfra_runtime_free(f->runtime);
  return code;
}

/* On a terminal; Ctrl-C cancels. */
static int show_progress(void *user, double fraction)
{
  const char *what = user;
  if (cli_progress_wanted()) fprintf(stderr, fraction < 1 ? "\r%s %3.0f %%" : "\r%s done \n", what, fraction * 100);
  return cli_interrupted();
}

/* ---- check --------------------------------------------------------------------------------------------------------------- */

/* What is wrong with a database is a result, so it goes to stdout when JSON is asked for. */
static int tell_check(const file *f, aiinfra_status rc, const aiinfra_error *err)
{
  if (f->as_json) {
    json_t *result = rc == AIINFRA_OK ? json_pack("{s:b}", "ok", 1)
                                      : json_pack("{s:b,s:s,s:s}", "ok", 0, "status", aiinfra_status_name(rc),
                                                  "problem", err->message);
    int code = cli_print_json(result, 0);
    return code == CLI_OK && rc != AIINFRA_OK ? CLI_FAILED : code;
  }
  if (rc != AIINFRA_OK) return cli_error(f->path, err);
  printf("ok\n");
  return CLI_OK;
}

static int do_check(int argc, char **argv)
{
  file f = {0};
  const cli_option options[] = {AS_JSON(f), {0}};
  const cli_command command = {"db check", "FILE", "Reads the whole file and tells the first damage, if there is any.",
                               options,    1,      1};
  aiinfra_error err;
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  code = cli_runtime_open(1, &f.runtime);
  if (code != CLI_OK) return code;
  aiinfra_status rc = open_file(&f, argv[0], &err);
  if (rc == AIINFRA_OK) rc = aiinfra_db_check(f.db, &err);
  return close_file(&f, tell_check(&f, rc, &err));
}

/* ---- backup ------------------------------------------------------------------------------------------------------------ */

static int do_backup(int argc, char **argv)
{
  file f = {0};
  bool unchecked = false;
  aiinfra_db_backup_opts opts = AIINFRA_DB_BACKUP_OPTS_INIT;
  const cli_option options[] = {
      AS_JSON(f), {"no-check", 0, CLI_FLAG, &unchecked, 0, 0, NULL, "do not check the copy"}, {0}};
  const cli_command command = {
      "db backup", "FILE TO", "Copies a database while it is used. To restore it, open the copy.", options, 2, 2};
  aiinfra_error err;
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  cli_catch_interrupts();
  code = cli_runtime_open(1, &f.runtime);
  if (code != CLI_OK) return code;
  cli_watch_flag();
  opts.progress = show_progress;
  opts.progress_user = (void *)"backup";
  opts.check = unchecked ? -1 : 1;
  if (open_file(&f, argv[0], &err) != AIINFRA_OK) code = cli_error(argv[0], &err);
  else if (aiinfra_db_backup(f.db, argv[1], &opts, &err) != AIINFRA_OK) code = cli_error(argv[1], &err);
  else if (f.as_json) code = cli_print_json(json_pack("{s:s}", "path", argv[1]), 0);
  else printf("%s\n", argv[1]);
  return close_file(&f, code);
}

/* ---- stats --------------------------------------------------------------------------------------------------------------- */

static void show_rows(const json_t *list, const char *const *keys, int n_keys)
{
  size_t i;
  const json_t *row;
  for (int k = 0; k < n_keys; k++) printf(k == 0 ? "%-28s" : " %13s", keys[k]);
  printf("\n");
  json_array_foreach((json_t *)(uintptr_t)list, i, row)
  {
    const char *name = json_string_value(json_object_get(row, "name"));
    const char *tenant = json_string_value(json_object_get(row, "tenant"));
    if (tenant == NULL) printf("%-28s", name);
    else printf("  %-26s", tenant); /* a part of the collection before it */
    for (int k = 1; k < n_keys; k++) printf(" %13lld", (long long)json_integer_value(json_object_get(row, keys[k])));
    printf("\n");
  }
}

static void show_stats(const json_t *stats)
{
  static const char *const totals[] = {"bytes", "free_bytes", "wal_bytes"};
  static const char *const tables[] = {"name", "rows", "bytes"};
  static const char *const collections[] = {"name",       "rows",          "dims",       "vector_bytes",
                                            "text_bytes", "payload_bytes", "words_bytes"};
  for (size_t i = 0; i < sizeof totals / sizeof totals[0]; i++)
    printf("%-28s %13lld\n", totals[i], (long long)json_integer_value(json_object_get(stats, totals[i])));
  printf("\n");
  show_rows(json_object_get(stats, "tables"), tables, (int)(sizeof tables / sizeof tables[0]));
  printf("\n");
  show_rows(json_object_get(stats, "collections"), collections, (int)(sizeof collections / sizeof collections[0]));
}

static int do_stats(int argc, char **argv)
{
  file f = {0};
  const cli_option options[] = {AS_JSON(f), {0}};
  const cli_command command = {"db stats", "FILE", "Prints what takes how much room: tables and collections.",
                               options,    1,      1};
  aiinfra_error err;
  char *text = NULL;
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  code = cli_runtime_open(1, &f.runtime);
  if (code != CLI_OK) return code;
  if (open_file(&f, argv[0], &err) != AIINFRA_OK || aiinfra_db_stats(f.db, &text, &err) != AIINFRA_OK)
    return close_file(&f, cli_error(argv[0], &err));
  if (f.as_json) {
    printf("%s\n", text);
  } else {
    json_t *stats = json_loads(text, 0, NULL);
    if (stats == NULL) code = cli_fail("no memory");
    else show_stats(stats);
    json_decref(stats);
  }
  aiinfra_string_free(text);
  return close_file(&f, code);
}

/* ---- optimise ------------------------------------------------------------------------------------------------------------ */

static void show_optimised(const char *text)
{
  json_t *result = json_loads(text, 0, NULL);
  printf("%lld bytes, before %lld\n", (long long)json_integer_value(json_object_get(result, "bytes_after")),
         (long long)json_integer_value(json_object_get(result, "bytes_before")));
  if (json_is_true(json_object_get(result, "busy"))) cli_say("aiinfra: readers still need the log; try again later");
  json_decref(result);
}

static int do_optimise(int argc, char **argv)
{
  file f = {0};
  bool rewrite = false;
  aiinfra_db_optimise_opts opts = AIINFRA_DB_OPTIMISE_OPTS_INIT;
  const cli_option options[] = {
      AS_JSON(f), {"rewrite", 0, CLI_FLAG, &rewrite, 0, 0, NULL, "write the whole file anew"}, {0}};
  const cli_command command = {"db optimise", "FILE", "Merges word indexes and gives room back to the file system.",
                               options,       1,      1};
  aiinfra_error err;
  char *text = NULL;
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  cli_catch_interrupts();
  code = cli_runtime_open(1, &f.runtime);
  if (code != CLI_OK) return code;
  cli_watch_flag();
  opts.progress = show_progress;
  opts.progress_user = (void *)"optimise";
  opts.rewrite = rewrite;
  if (open_file(&f, argv[0], &err) != AIINFRA_OK || aiinfra_db_optimise(f.db, &opts, &text, &err) != AIINFRA_OK)
    return close_file(&f, cli_error(argv[0], &err));
  if (f.as_json) printf("%s\n", text);
  else show_optimised(text);
  aiinfra_string_free(text);
  return close_file(&f, code);
}

/* ---- copy ---------------------------------------------------------------------------------------------------------------- */

static void show_copied(const char *text, bool as_json)
{
  size_t i;
  const json_t *table;
  json_t *result = as_json ? NULL : json_loads(text, 0, NULL);
  if (as_json) printf("%s\n", text);
  json_array_foreach(json_object_get(result, "tables"), i, table)
  {
    long long rows = (long long)json_integer_value(json_object_get(table, "rows"));
    if (rows > 0)
      printf("%-28s %13lld  %s\n", json_string_value(json_object_get(table, "name")), rows,
             json_string_value(json_object_get(table, "checksum")));
  }
  json_decref(result);
}

int cmd_copy(int argc, char **argv)
{
  file from = {0}, to = {0};
  aiinfra_db_copy_opts opts = AIINFRA_DB_COPY_OPTS_INIT;
  const cli_option options[] = {AS_JSON(from), {0}};
  const cli_command command = {"copy",
                               "FROM TO",
                               "Copies everything from one database into an empty one: files, or postgres:// "
                               "addresses. A copy that was interrupted "
                               "goes on when it is started again.",
                               options,
                               2,
                               2};
  aiinfra_error err;
  char *text = NULL;
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  cli_catch_interrupts();
  code = cli_runtime_open(1, &from.runtime);
  if (code != CLI_OK) return code;
  cli_watch_flag();
  opts.progress = show_progress;
  opts.progress_user = (void *)"copy";
  if (open_file(&from, argv[0], &err) != AIINFRA_OK) code = cli_error(argv[0], &err);
  else if (aiinfra_db_open(from.runtime, argv[1], NULL, &to.db, &err) != AIINFRA_OK ||
           aiinfra_db_copy(from.db, to.db, &opts, &text, &err) != AIINFRA_OK)
    code = cli_error(argv[1], &err);
  if (text != NULL) show_copied(text, from.as_json);
  aiinfra_string_free(text);
  aiinfra_db_free(to.db);
  return close_file(&from, code);
}

/* ---- drop ---------------------------------------------------------------------------------------------------------------- */

static aiinfra_status drop_tenant(const file *f, const char *collection, const char *tenant, uint64_t *n,
                                  aiinfra_error *err)
{
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_vecstore *store;
  aiinfra_status rc = aiinfra_vecstore_open(f->db, collection, &opts, &store, err);
  if (rc != AIINFRA_OK) return rc;
  json_t *request = json_pack("{s:{s:s}}", "drop_tenant", "tenant", tenant);
  char *text = request != NULL ? json_dumps(request, 0) : NULL;
  if (text != NULL) rc = aiinfra_vecstore_change(store, text, n, err);
  else rc = AIINFRA_EINVAL;
  if (text == NULL) (void)snprintf(err->message, sizeof err->message, "the tenant's name is not UTF-8");
  free(text);
  json_decref(request);
  aiinfra_vecstore_free(store);
  return rc;
}

static int do_drop(int argc, char **argv)
{
  file f = {0};
  const char *tenant = NULL;
  const cli_option options[] = {{"tenant", 0, CLI_TEXT, &tenant, 0, 0, "NAME", "only what this tenant has"}, {0}};
  const cli_command command = {
      "db drop", "FILE COLLECTION", "Removes a collection of vectors for good, or a tenant of it.", options, 2, 2};
  aiinfra_error err;
  aiinfra_status rc;
  uint64_t n_rows = 0;
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  code = cli_runtime_open(1, &f.runtime);
  if (code != CLI_OK) return code;
  rc = open_file(&f, argv[0], &err);
  if (rc == AIINFRA_OK && tenant != NULL) rc = drop_tenant(&f, argv[1], tenant, &n_rows, &err);
  else if (rc == AIINFRA_OK) rc = aiinfra_vecstore_drop(f.db, argv[1], &err);
  if (rc != AIINFRA_OK) code = cli_error(argv[0], &err);
  else if (tenant != NULL) printf("%llu rows\n", (unsigned long long)n_rows);
  return close_file(&f, code);
}

/* ---- the actions ------------------------------------------------------------------------------------------------------- */

static const struct {
  const char *name;
  int (*run)(int argc, char **argv);
  const char *summary;
} actions[] = {
    {"check", do_check, "find damage"},
    {"backup", do_backup, "copy a database while it is used"},
    {"stats", do_stats, "what takes how much room"},
    {"drop", do_drop, "remove a collection of vectors"},
    {"optimise", do_optimise, "give room back, make searches faster"},
};
#define N_ACTIONS ((int)(sizeof actions / sizeof actions[0]))

int cmd_db(int argc, char **argv)
{
  const char *names[N_ACTIONS], *near, *word = argc > 1 ? argv[1] : "";
  if (argc < 2 || strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
    FILE *to = argc < 2 ? stderr : stdout;
    fprintf(to, "usage: aiinfra db ACTION FILE [OPTIONS]\n\n");
    for (int i = 0; i < N_ACTIONS; i++) fprintf(to, "  %-10s %s\n", actions[i].name, actions[i].summary);
    fprintf(to, "\n'aiinfra db ACTION --help' tells more about an action.\n");
    return argc < 2 ? CLI_USAGE : CLI_OK;
  }
  for (int i = 0; i < N_ACTIONS; i++) {
    names[i] = actions[i].name;
    if (strcmp(word, names[i]) == 0) return actions[i].run(argc - 1, argv + 1);
  }
  near = cli_nearest(word, names, N_ACTIONS);
  if (near != NULL) return cli_usage("db", "unknown action '%.60s'; did you mean '%s'?", word, near);
  return cli_usage("db", "unknown action '%.60s'", word);
}
