/* inspect.c - `aiinfra inspect`, `tokenize` and `template`: what is in a model file, and what a text or a chat becomes. */
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
  if (aiinfra_model_describe(model, &text, &err) != AIINFRA_OK) return cli_error("inspect", &err);
  json = json_loads(text, 0, NULL);
  aiinfra_string_free(text);
  if (json == NULL) return cli_fail("inspect: the description is no JSON, or memory ran out");
  return cli_print_json(json, compact ? JSON_COMPACT : JSON_INDENT(2));
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

typedef enum token_form { TOKENS_LINES, TOKENS_IDS, TOKENS_JSON } token_form;

static int show_json(const aiinfra_model *model, const aiinfra_token *tokens, size_t n)
{
  json_t *list = json_array();
  for (size_t i = 0; i < n; i++) {
    json_t *token = cli_token_json(model, tokens[i]);
    if (token == NULL) {
      json_decref(list);
      return CLI_FAILED;
    }
    json_array_append_new(list, token);
  }
  return cli_print_json(list, JSON_COMPACT);
}

static int show_tokens(const aiinfra_model *model, const char *text, uint32_t flags, token_form form)
{
  size_t n;
  aiinfra_token *tokens = cli_tokenize(model, text, strlen(text), flags, &n);
  int code = tokens != NULL ? CLI_OK : CLI_FAILED;
  if (tokens != NULL && form == TOKENS_JSON) {
    code = show_json(model, tokens, n);
    n = 0;
  }
  for (size_t i = 0; i < n && code == CLI_OK; i++) {
    if (form == TOKENS_LINES) {
      printf("%7d  ", tokens[i]);
      code = cli_print_token(model, tokens[i]);
      printf("\n");
    } else {
      printf("%s%d", i > 0 ? " " : "", tokens[i]);
    }
  }
  if (form == TOKENS_IDS && code == CLI_OK) printf("\n");
  free(tokens);
  return code;
}

int cmd_tokenize(int argc, char **argv)
{
  bool ids = false, bos = false, special = false, as_json = false;
  const cli_option options[] = {
      {"ids", 0, CLI_FLAG, &ids, 0, 0, NULL, "only the numbers, on one line"},
      {"json", 0, CLI_FLAG, &as_json, 0, 0, NULL, "an array of objects with id and text"},
      {"bos", 0, CLI_FLAG, &bos, 0, 0, NULL, "with the tokens that the model wants at start and end"},
      {"special", 0, CLI_FLAG, &special, 0, 0, NULL, "names of control tokens become these tokens"},
      {0}};
  const cli_command command = {"tokenize", "MODEL TEXT", "Prints the tokens of a text, one a line.", options, 2, 2};
  aiinfra_runtime *runtime;
  aiinfra_model *model;
  uint32_t flags;
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  if (ids && as_json) return cli_usage("tokenize", "--ids and --json at once");
  flags = (bos ? (uint32_t)AIINFRA_TOKENIZE_BOS : 0) | (special ? (uint32_t)AIINFRA_TOKENIZE_SPECIAL : 0);
  code = open_vocabulary(argv[0], &runtime, &model);
  if (code == CLI_OK)
    code = show_tokens(model, argv[1], flags, as_json ? TOKENS_JSON : ids ? TOKENS_IDS : TOKENS_LINES);
  aiinfra_model_free(model);
  aiinfra_runtime_free(runtime);
  return code;
}

/* ---- template ------------------------------------------------------------------------------------------------------------- */

static int render(const aiinfra_model *model, const char *messages_path, const char *tools_path, bool prompt)
{
  size_t n;
  aiinfra_error err;
  char *messages = cli_read_file(messages_path, &n), *tools = NULL, *text = NULL;
  int code = messages != NULL ? CLI_OK : CLI_FAILED;
  if (code == CLI_OK && tools_path != NULL && (tools = cli_read_file(tools_path, &n)) == NULL) code = CLI_FAILED;
  if (code == CLI_OK && aiinfra_model_render(model, messages, tools, prompt, &text, &err) != AIINFRA_OK)
    code = cli_error("template", &err);
  if (code == CLI_OK && !cli_write(text, strlen(text))) code = cli_fail("template: cannot write");
  aiinfra_string_free(text);
  free(tools);
  free(messages);
  return code;
}

int cmd_template(int argc, char **argv)
{
  const char *tools = NULL;
  bool no_prompt = false;
  const cli_option options[] = {
      {"tools", 0, CLI_TEXT, &tools, 0, 0, "FILE", "tools in OpenAI's shape"},
      {"no-generation-prompt", 0, CLI_FLAG, &no_prompt, 0, 0, NULL, "without the opening of the assistant's turn"},
      {0}};
  const cli_command command = {"template",
                               "MODEL MESSAGES.json",
                               "Renders messages in OpenAI's shape with the model's chat template. '-' reads stdin.",
                               options,
                               2,
                               2};
  aiinfra_runtime *runtime;
  aiinfra_model *model;
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  code = open_vocabulary(argv[0], &runtime, &model);
  if (code == CLI_OK) code = render(model, argv[1], tools, !no_prompt);
  aiinfra_model_free(model);
  aiinfra_runtime_free(runtime);
  return code;
}
