/* convert.c - the commands `aiinfra convert` and `aiinfra quantize`: any model that opens, as one GGUF file. */
#include <stdio.h>
#include <string.h>

#include "cli.h"

static int show_progress(void *user, double fraction)
{
  if (cli_progress_wanted())
    fprintf(stderr, fraction < 1 ? "\r%s %3.0f %%" : "\r%s done \n", (const char *)user, fraction * 100);
  return cli_interrupted();
}

static int convert(const char *what, const char *from, const char *to, aiinfra_convert_opts *opts)
{
  aiinfra_runtime *runtime;
  aiinfra_error err;
  int code;
  cli_catch_interrupts();
  code = cli_runtime_open(1, &runtime);
  if (code != CLI_OK) return code;
  cli_watch_flag();
  opts->progress = show_progress;
  opts->progress_user = (void *)(uintptr_t)what;
  if (aiinfra_convert(runtime, from, to, opts, &err) != AIINFRA_OK) {
    if (cli_progress_wanted()) fprintf(stderr, "\n");
    code = cli_error(what, &err);
  }
  aiinfra_runtime_free(runtime);
  return code;
}

int cmd_convert(int argc, char **argv)
{
  aiinfra_convert_opts opts = AIINFRA_CONVERT_OPTS_INIT;
  const cli_option options[] = {
      {"type", 't', CLI_TEXT, &opts.type, 0, 0, "TYPE", "of the matrices, such as F16 or Q8_0; as they are by default"},
      {"imatrix", 0, CLI_TEXT, &opts.imatrix, 0, 0, "FILE", "importance matrix (GGUF), for types that use one"},
      {"tokenizer", 0, CLI_TEXT, &opts.tokenizer, 0, 0, "FILE", "of a llama2.c checkpoint; found beside it by default"},
      {0}};
  const cli_command command = {
      "convert",
      "FROM TO.gguf",
      "Writes a model as one GGUF file. FROM is a Hugging Face folder, a llama2.c checkpoint,\n"
      "a GGUF file, or the first part of a split one.",
      options,
      2,
      2};
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  return convert("convert", argv[0], argv[1], &opts);
}

int cmd_quantize(int argc, char **argv)
{
  aiinfra_convert_opts opts = AIINFRA_CONVERT_OPTS_INIT;
  const cli_option options[] = {
      {"imatrix", 0, CLI_TEXT, &opts.imatrix, 0, 0, "FILE", "importance matrix (GGUF), for types that use one"}, {0}};
  const cli_command command = {"quantize",
                               "FROM TO.gguf TYPE",
                               "Writes a model as one GGUF file with its matrices in TYPE, such as Q8_0 or Q4_0.",
                               options,
                               3,
                               3};
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  opts.type = argv[2];
  return convert("quantize", argv[0], argv[1], &opts);
}
