/* ingest.c - `aiinfra ingest`: files and folders become passages of a database. */
#include <stdio.h>

#include "cli.h"

static int show_progress(void *user, double fraction)
{
  (void)user;
  if (cli_progress_wanted())
    fprintf(stderr, fraction < 1 ? "\ringesting %3.0f %%" : "\r               \r", fraction * 100);
  return cli_interrupted();
}

int cmd_ingest(int argc, char **argv)
{
  const char *db_path = NULL, *scope = NULL;
  const cli_option options[] = {{"db", 0, CLI_TEXT, &db_path, 0, 0, "FILE", "the database; made when it is not there"},
                                {"scope", 0, CLI_TEXT, &scope, 0, 0, "NAME", "whose memory it becomes (default)"},
                                {0}};
  const cli_command command = {"ingest",
                               "--db FILE PATH...",
                               "Reads files and folders into a database. What has not "
                               "changed since last time is left as it is.",
                               options,
                               1,
                               -1};
  aiinfra_ingest_stats stats = {.struct_size = sizeof stats};
  aiinfra_runtime *runtime = NULL;
  aiinfra_db *db = NULL;
  aiinfra_memory *memory = NULL;
  aiinfra_error err;
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  if (db_path == NULL) return cli_usage("ingest", "--db FILE is missing");
  cli_catch_interrupts();
  cli_watch_flag();
  code = cli_runtime_open(1, &runtime);
  if (code == CLI_OK) code = cli_db_open(runtime, db_path, false, scope, &db, &memory);
  if (code == CLI_OK && aiinfra_memory_ingest(memory, (const char *const *)argv, (size_t)n, show_progress, NULL, &stats,
                                              &err) != AIINFRA_OK)
    code = cli_error("ingest", &err);
  if (code == CLI_OK)
    printf("%llu files, %.1f KiB: %llu passages written, %llu removed; %llu files unchanged, %llu skipped\n",
           (unsigned long long)stats.files, (double)stats.bytes / 1024, (unsigned long long)stats.passages,
           (unsigned long long)stats.removed, (unsigned long long)stats.unchanged, (unsigned long long)stats.skipped);
  aiinfra_memory_free(memory);
  aiinfra_db_free(db);
  aiinfra_runtime_free(runtime);
  return code;
}
