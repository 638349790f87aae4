/* ingest.c - `aiinfra ingest`: files and folders become passages of a database. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"

typedef struct ingest_args {
  const char *db_path, *scope, *chunking, *model;
  int64_t size, overlap;
  bool words, keep_missing, as_json;
} ingest_args;

static int show_progress(void *user, double fraction)
{
  (void)user;
  if (cli_progress_wanted())
    fprintf(stderr, fraction < 1 ? "\ringesting %3.0f %%" : "\r               \r", fraction * 100);
  return cli_interrupted();
}

static unsigned long long count(const json_t *report, const char *name)
{
  return (unsigned long long)json_integer_value(json_object_get(report, name));
}

static int show_report(const char *text)
{
  json_t *report = json_loads(text, 0, NULL), *problem;
  size_t i;
  if (report == NULL) return cli_fail("out of memory");
  json_array_foreach(json_object_get(report, "problems"), i, problem)
      cli_say("%s: %s", json_string_value(json_object_get(problem, "path")),
              json_string_value(json_object_get(problem, "why")));
  printf("%llu files, %.1f KiB: %llu passages written, %llu removed; %llu files unchanged, %llu skipped\n",
         count(report, "files"), (double)count(report, "bytes") / 1024, count(report, "passages"),
         count(report, "removed"), count(report, "unchanged"), count(report, "skipped"));
  if (count(report, "kept") + count(report, "renamed") + count(report, "gone") > 0)
    printf("%llu passages of changed files kept; %llu files renamed, %llu gone\n", count(report, "kept"),
           count(report, "renamed"), count(report, "gone"));
  json_decref(report);
  return CLI_OK;
}

static int chunking_of(const char *name, int32_t *chunking)
{
  static const char *const names[] = {"structure", "sentences", "tokens"};
  for (int32_t i = 0; name != NULL && i < 3; i++) {
    if (strcmp(name, names[i]) != 0) continue;
    *chunking = i;
    return CLI_OK;
  }
  return name == NULL ? CLI_OK : cli_usage("ingest", "--chunking is structure, sentences or tokens, not '%.40s'", name);
}

static int ingest(aiinfra_memory *memory, const ingest_args *a, const aiinfra_model *model, char **paths, int n)
{
  aiinfra_ingest_opts opts = AIINFRA_INGEST_OPTS_INIT;
  aiinfra_error err;
  char *report = NULL;
  int code = chunking_of(a->chunking, &opts.chunking);
  if (code != CLI_OK) return code;
  opts.progress = show_progress;
  opts.model = model;
  opts.unit = a->words ? AIINFRA_UNIT_WORDS : AIINFRA_UNIT_DEFAULT;
  opts.size = (uint32_t)a->size;
  opts.overlap = (uint32_t)a->overlap;
  opts.keep_missing = a->keep_missing;
  if (aiinfra_memory_ingest_files(memory, (const char *const *)paths, (size_t)n, &opts, &report, &err) != AIINFRA_OK)
    code = cli_error("ingest", &err);
  else if (a->as_json) printf("%s\n", report);
  else code = show_report(report);
  aiinfra_string_free(report);
  return code;
}

static int do_ingest(const ingest_args *a, char **paths, int n)
{
  aiinfra_model_opts vocabulary = AIINFRA_MODEL_OPTS_INIT;
  aiinfra_runtime *runtime = NULL;
  aiinfra_db *db = NULL;
  aiinfra_memory *memory = NULL;
  aiinfra_model *model = NULL;
  aiinfra_error err;
  vocabulary.vocab_only = 1;
  int code = cli_runtime_open(1, &runtime);
  if (code == CLI_OK && a->model != NULL &&
      aiinfra_model_open(runtime, a->model, &vocabulary, &model, &err) != AIINFRA_OK)
    code = cli_error(a->model, &err);
  if (code == CLI_OK) code = cli_db_open(runtime, a->db_path, false, a->scope, &db, &memory);
  if (code == CLI_OK) code = ingest(memory, a, model, paths, n);
  aiinfra_memory_free(memory);
  aiinfra_db_free(db);
  aiinfra_model_free(model);
  aiinfra_runtime_free(runtime);
  return code;
}

int cmd_ingest(int argc, char **argv)
{
  ingest_args a = {0};
  const cli_option options[] = {
      {"db", 0, CLI_TEXT, &a.db_path, 0, 0, "FILE", "the database; made when it is not there"},
      {"scope", 0, CLI_TEXT, &a.scope, 0, 0, "NAME", "whose memory it becomes (default)"},
      {"chunking", 0, CLI_TEXT, &a.chunking, 0, 0, "KIND", "structure (the default), sentences or tokens"},
      {"size", 0, CLI_INT, &a.size, 4, 65536, "N", "of a passage at most (600 bytes, 100 words or 128 tokens)"},
      {"overlap", 0, CLI_INT, &a.overlap, 0, 32768, "N", "what a passage repeats of the one before it (0)"},
      {"words", 0, CLI_FLAG, &a.words, 0, 0, NULL, "count words instead of bytes"},
      {"tokenizer", 0, CLI_TEXT, &a.model, 0, 0, "MODEL", "count this model's tokens instead of bytes"},
      {"keep-missing", 0, CLI_FLAG, &a.keep_missing, 0, 0, NULL, "keep passages of files that are gone"},
      {"json", 0, CLI_FLAG, &a.as_json, 0, 0, NULL, "the report as JSON"},
      {0}};
  const cli_command command = {"ingest",
                               "--db FILE PATH...",
                               "Reads files and folders into a database. What has not "
                               "changed since last time is left as it is.",
                               options,
                               1,
                               -1};
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  if (a.db_path == NULL) return cli_usage("ingest", "--db FILE is missing");
  if (a.words && a.model != NULL) return cli_usage("ingest", "--words and --tokenizer exclude each other");
  cli_catch_interrupts();
  cli_watch_flag();
  return do_ingest(&a, argv, n);
}
