/* migrate.c - `aiinfra migrate`: the items of a memory get the vectors of another model. */
#include <stdio.h>

#include "models.h"

static int show_progress(void *user, double fraction)
{
  (void)user;
  if (cli_progress_wanted())
    fprintf(stderr, fraction < 1 ? "\rembedding %3.0f %%" : "\r               \r", fraction * 100);
  return cli_interrupted();
}

static int do_migrate(const char *db_path, const char *scope, cli_models *models, const char *model)
{
  aiinfra_runtime *runtime = NULL;
  aiinfra_db *db = NULL;
  aiinfra_memory *memory = NULL;
  aiinfra_error err;
  char *report = NULL;
  int code = cli_runtime_open(1, &runtime);
  if (code == CLI_OK) code = cli_db_open(runtime, db_path, true, scope, &db, &memory);
  if (code == CLI_OK && aiinfra_memory_migrate(memory, model != NULL ? &models->embedder : NULL, show_progress, NULL,
                                               &report, &err) != AIINFRA_OK)
    code = cli_error("migrate", &err);
  if (code == CLI_OK) printf("%s\n", report);
  aiinfra_string_free(report);
  aiinfra_memory_free(memory);
  aiinfra_db_free(db);
  aiinfra_runtime_free(runtime);
  return code;
}

int cmd_migrate(int argc, char **argv)
{
  const char *db_path = NULL, *scope = NULL, *model = NULL;
  bool back = false;
  const cli_option options[] = {{"db", 0, CLI_TEXT, &db_path, 0, 0, "FILE", "the database"},
                                {"scope", 0, CLI_TEXT, &scope, 0, 0, "NAME", "whose memory (default)"},
                                {"embedder", 0, CLI_TEXT, &model, 0, 0, "MODEL", "the model that embeds from now on"},
                                {"built-in", 0, CLI_FLAG, &back, 0, 0, NULL, "back to vectors that need no model"},
                                {0}};
  const cli_command command = {
      "migrate",
      "--db FILE --embedder MODEL",
      "Embeds all items of a memory with another model. Searches use what was before until it is "
      "done; when it is interrupted, the next call goes on.",
      options,
      0,
      0};
  cli_models models;
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  if (db_path == NULL) return cli_usage("migrate", "--db FILE is missing");
  if (back == (model != NULL)) return cli_usage("migrate", "one of --embedder MODEL and --built-in is needed");
  cli_catch_interrupts();
  code = cli_models_open(&models, model, NULL);
  cli_watch_flag();
  if (code == CLI_OK) code = do_migrate(db_path, scope, &models, model);
  cli_models_close(&models);
  return code;
}
