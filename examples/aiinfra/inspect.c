/* inspect.c - `aiinfra inspect` and `aiinfra tokenize`: what is in a model file, and what a text becomes. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static int open_vocabulary(const char *path, aiinfra_runtime **runtime, aiinfra_model **model)
{
  aiinfra_model_opts opts = AIINFRA_MODEL_OPTS_INIT;
  aiinfra_error err;
  int code;
  *runtime = NULL;
  *model = NULL;
  code = cli_runtime_open(1, runtime);
  opts.vocab_only = 1;
  if (code == CLI_OK && aiinfra_model_open(*runtime, path, &opts, model, &err) != AIINFRA_OK)
    code = cli_error(path, &err);
  return code;
}

static int show_description(const aiinfra_model *model, bool compact)
{
  aiinfra_error err;
  char *text = NULL;
  json_t *json;
  int bad;
  if (aiinfra_model_describe(model, &text, &err) != AIINFRA_OK) return cli_error("inspect", &err);
  json = json_loads(text, 0, NULL);
  aiinfra_string_free(text);
  if (json == NULL) return cli_fail("inspect: the description is no JSON, or memory ran out");
  bad = json_dumpf(json, stdout, compact ? JSON_COMPACT : JSON_INDENT(2));
  printf("\n");
  json_decref(json);
  return bad != 0 ? cli_fail("inspect: cannot write") : CLI_OK;
}

int cmd_inspect(int argc, char **argv)
{
  bool compact = false;
  const cli_option options[] = {{"compact", 0, CLI_FLAG, &compact, 0, 0, NULL, "the JSON on one line"}, {0}};
  const cli_command command = {"inspect", "MODEL", "Prints what a model file says about itself, as JSON.",
                               options,   1,       1};
  aiinfra_runtime *runtime;
  aiinfra_model *model;
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  code = open_vocabulary(argv[0], &runtime, &model);
  if (code == CLI_OK) code = show_description(model, compact);
  aiinfra_model_free(model);
  aiinfra_runtime_free(runtime);
  return code;
}

/* ---- tokenize ----------------------------------------------------------------------------------------------------------- */

static int show_token(const aiinfra_model *model, aiinfra_token token)
{
  aiinfra_error err;
  char *text = NULL;
  size_t n = 0;
  if (aiinfra_model_detokenize(model, &token, 1, 1, &text, &n, &err) != AIINFRA_OK) return cli_error("tokenize", &err);
  printf("%7d  \"", token);
  for (size_t i = 0; i < n; i++) {
    unsigned char c = (unsigned char)text[i];
    if (c == '\n') printf("\\n");
    else if (c == '"' || c == '\\') printf("\\%c", c);
    else if (c < 0x20 || c == 0x7f || (c >= 0x80 && n < 2)) /* half of a character */ printf("\\x%02x", c);
    else putchar(c);
  }
  printf("\"\n");
  aiinfra_string_free(text);
  return CLI_OK;
}

static int show_tokens(const aiinfra_model *model, const char *text, uint32_t flags, bool ids)
{
  aiinfra_error err;
  aiinfra_token *tokens;
  size_t n = 0;
  int code = CLI_OK;
  aiinfra_status rc = aiinfra_model_tokenize(model, text, strlen(text), flags, NULL, 0, &n, &err);
  if (rc != AIINFRA_OK && rc != AIINFRA_ENOSPC) return cli_error("tokenize", &err);
  tokens = malloc((n + 1) * sizeof *tokens);
  if (tokens == NULL) return cli_fail("out of memory");
  if (aiinfra_model_tokenize(model, text, strlen(text), flags, tokens, n, &n, &err) != AIINFRA_OK)
    code = cli_error("tokenize", &err);
  for (size_t i = 0; i < n && code == CLI_OK; i++) {
    if (ids) printf("%s%d", i > 0 ? " " : "", tokens[i]);
    else code = show_token(model, tokens[i]);
  }
  if (ids) printf("\n");
  free(tokens);
  return code;
}

int cmd_tokenize(int argc, char **argv)
{
  bool ids = false, bos = false, special = false;
  const cli_option options[] = {
      {"ids", 0, CLI_FLAG, &ids, 0, 0, NULL, "only the numbers, on one line"},
      {"bos", 0, CLI_FLAG, &bos, 0, 0, NULL, "with the tokens that the model wants at start and end"},
      {"special", 0, CLI_FLAG, &special, 0, 0, NULL, "names of control tokens become these tokens"},
      {0}};
  const cli_command command = {"tokenize", "MODEL TEXT", "Prints the tokens of a text, one a line.", options, 2, 2};
  aiinfra_runtime *runtime;
  aiinfra_model *model;
  uint32_t flags;
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  flags = (bos ? (uint32_t)AIINFRA_TOKENIZE_BOS : 0) | (special ? (uint32_t)AIINFRA_TOKENIZE_SPECIAL : 0);
  code = open_vocabulary(argv[0], &runtime, &model);
  if (code == CLI_OK) code = show_tokens(model, argv[1], flags, ids);
  aiinfra_model_free(model);
  aiinfra_runtime_free(runtime);
  return code;
}
