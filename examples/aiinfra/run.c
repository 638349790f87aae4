/* run.c - `aiinfra run`: continues a text, or chats when a person sits at the terminal. stdout has nothing but what the
 * model generated: its text, and its tool calls as a line of JSON. What it thinks first goes to stderr. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

typedef struct run_options {
  const char *prompt, *tools, *tool_choice, *kv_type, *bias;
  int64_t n, top_k, seed, threads, last_n;
  double temperature, top_p, min_p, repeat, presence, frequency;
  bool greedy, chat, stats, reasoning;
} run_options;

typedef struct output {
  aiinfra_request *request;
  bool broken;    /* stdout is gone */
  bool reasoning; /* what the model thinks is shown */
  bool thinking;  /* stderr has part of it */
  char *text;     /* what was generated, for the chat's history */
  char *calls;    /* NULL: none */
  aiinfra_error error;
  uint32_t n_prompt, n_cached, n_generated;
  double prefill_s, decode_s;
} output;

static void on_chunk(void *user, const aiinfra_chunk *chunk)
{
  output *out = user;
  if (out->reasoning) cli_reasoning(&out->thinking, chunk->reasoning, chunk->reasoning_bytes);
  if (chunk->n_bytes > 0 || chunk->call != NULL) cli_reasoning(&out->thinking, NULL, 0);
  if (!out->broken && !cli_write(chunk->text, chunk->n_bytes)) {
    out->broken = true;
    aiinfra_request_cancel(out->request);
  }
}

static void on_result(void *user, aiinfra_status status, const aiinfra_result *result)
{
  output *out = user;
  cli_reasoning(&out->thinking, NULL, 0);
  if (status != AIINFRA_OK) {
    out->error = *result->error;
    return;
  }
  out->text = strdup(result->text);
  if (result->tool_calls_json != NULL) out->calls = strdup(result->tool_calls_json);
  out->n_prompt = result->n_prompt;
  out->n_cached = result->n_cached;
  out->n_generated = result->n_generated;
  out->prefill_s = (double)result->prefill_ns * 1e-9;
  out->decode_s = (double)result->decode_ns * 1e-9;
}

static void show_stats(const output *out)
{
  double decoded = out->n_generated > 1 ? out->n_generated - 1 : 0;
  cli_say("[prompt %u tokens, %u of them cached, %.1f tokens/s; generated %u tokens, %.1f tokens/s]", out->n_prompt,
          out->n_cached, out->prefill_s > 0 ? (out->n_prompt - out->n_cached) / out->prefill_s : 0, out->n_generated,
          out->decode_s > 0 ? decoded / out->decode_s : 0);
}

/* Generates to stdout. The caller has set the prompt, and frees out->text. */
static int generate(const cli_engine *e, const run_options *o, aiinfra_generate_opts *opts, output *out)
{
  aiinfra_error err;
  aiinfra_status rc;
  memset(out, 0, sizeof *out);
  out->reasoning = o->reasoning || cli_progress_wanted();
  opts->max_tokens = (uint32_t)o->n;
  opts->temperature = o->greedy ? 0.0f : (float)o->temperature;
  opts->top_k = (int32_t)o->top_k;
  opts->top_p = (float)o->top_p;
  opts->min_p = (float)o->min_p;
  opts->repeat_penalty = o->last_n == 0 ? 0.0f : (float)o->repeat; /* none of the last tokens: off */
  opts->penalty_last_n = (int32_t)o->last_n;
  opts->logit_bias = o->bias;
  opts->presence_penalty = (float)o->presence;
  opts->frequency_penalty = (float)o->frequency;
  opts->seed = (uint64_t)o->seed;
  rc = aiinfra_batcher_generate(e->batcher, opts, on_chunk, on_result, out, &out->request, &err);
  if (rc != AIINFRA_OK) return cli_error("generation", &err);
  rc = cli_wait(out->request);
  if (out->broken) return CLI_FAILED;
  if (rc == AIINFRA_ECANCELED) return cli_fail("interrupted");
  if (rc != AIINFRA_OK) return cli_error("generation", &out->error);
  if (isatty(STDOUT_FILENO) || (out->calls != NULL && out->text != NULL && out->text[0] != '\0')) printf("\n");
  if (out->calls != NULL) printf("%s\n", out->calls);
  if (o->stats || cli_progress_wanted()) show_stats(out);
  return CLI_OK;
}

/* Without a prompt the model starts from its begin-of-sequence token alone. */
static int complete(const cli_engine *e, const run_options *o)
{
  aiinfra_generate_opts opts = AIINFRA_GENERATE_OPTS_INIT;
  aiinfra_model_info info = {.struct_size = sizeof info};
  aiinfra_error err;
  output out;
  int code;
  if (aiinfra_model_get_info(e->model, &info, &err) != AIINFRA_OK) return cli_error("model", &err);
  if (o->prompt != NULL) {
    opts.text = o->prompt;
  } else if (info.bos >= 0) {
    opts.tokens = &info.bos;
    opts.n_tokens = 1;
  } else {
    return cli_fail("this model has no token to start from: give a prompt with -p TEXT");
  }
  code = generate(e, o, &opts, &out);
  free(out.text);
  free(out.calls);
  return code;
}

/* ---- chat ----------------------------------------------------------------------------------------------------------- */

static bool add_message(json_t *messages, const char *role, const char *content)
{
  json_t *message = json_pack("{ss, ss}", "role", role, "content", content);
  return json_array_append_new(messages, message) == 0;
}

/* The tools of o->tools, if any, are offered; free() *tools. */
static int offer_tools(const run_options *o, aiinfra_generate_opts *opts, char **tools)
{
  size_t n;
  *tools = NULL;
  if (o->tools == NULL) return CLI_OK;
  *tools = cli_read_file(o->tools, &n);
  opts->tools_json = *tools;
  opts->tool_choice = o->tool_choice;
  return *tools != NULL ? CLI_OK : CLI_FAILED;
}

/* One turn; the answer joins the messages. */
static int turn(const cli_engine *e, const run_options *o, json_t *messages, const char *input)
{
  aiinfra_generate_opts opts = AIINFRA_GENERATE_OPTS_INIT;
  output out = {0};
  char *text, *tools;
  int code;
  if (!add_message(messages, "user", input)) return cli_fail("the input is no UTF-8");
  text = json_dumps(messages, JSON_COMPACT);
  if (text == NULL) return cli_fail("out of memory");
  opts.messages_json = text;
  code = offer_tools(o, &opts, &tools);
  if (code == CLI_OK) code = generate(e, o, &opts, &out);
  if (code == CLI_OK && out.text != NULL && !add_message(messages, "assistant", out.text)) code = CLI_FAILED;
  free(out.text);
  free(out.calls);
  free(text);
  free(tools);
  return code;
}

static int chat(const cli_engine *e, const run_options *o)
{
  json_t *messages = json_array();
  char *line = NULL;
  size_t cap = 0;
  ssize_t n;
  int code = CLI_OK;
  if (o->prompt != NULL) {
    code = turn(e, o, messages, o->prompt);
    json_decref(messages);
    return code;
  }
  cli_say("Type a message; Ctrl-D ends the chat.");
  while (code == CLI_OK) {
    fputs("> ", stderr);
    n = getline(&line, &cap, stdin);
    if (n < 0) break;
    if (n > 0 && line[n - 1] == '\n') line[n - 1] = '\0';
    if (line[0] != '\0') code = turn(e, o, messages, line);
  }
  fputc('\n', stderr);
  free(line);
  json_decref(messages);
  return code;
}

int cmd_run(int argc, char **argv)
{
  run_options o = {.temperature = 0.8, .top_p = 0.95, .last_n = 64};
  const cli_option options[] = {
      {"prompt", 'p', CLI_TEXT, &o.prompt, 0, 0, "TEXT", "what to continue; without it: begin of sequence, or a chat"},
      {"max-tokens", 'n', CLI_INT, &o.n, 0, 1e9, "N", "tokens at most; 0: as many as the context holds"},
      {"chat", 0, CLI_FLAG, &o.chat, 0, 0, NULL, "put the prompt into the model's chat template"},
      {"greedy", 0, CLI_FLAG, &o.greedy, 0, 0, NULL, "always the likeliest token"},
      {"temp", 0, CLI_REAL, &o.temperature, 0, 100, "T", "temperature (0.8)"},
      {"top-k", 0, CLI_INT, &o.top_k, 0, 1e9, "K", "only the K likeliest tokens; 0: all (0)"},
      {"top-p", 0, CLI_REAL, &o.top_p, 0, 1, "P", "only the likeliest tokens that make up P; 0: all (0.95)"},
      {"min-p", 0, CLI_REAL, &o.min_p, 0, 1, "P", "drop tokens below P times the likeliest one's probability (0)"},
      {"repeat-penalty", 0, CLI_REAL, &o.repeat, 0.01, 100, "R", "makes the last tokens R times less likely (1)"},
      {"repeat-last-n", 0, CLI_INT, &o.last_n, -1, INT32_MAX, "N", "how many those are; -1: all (64)"},
      {"presence-penalty", 0, CLI_REAL, &o.presence, -2, 2, "P", "less for what was generated (0)"},
      {"frequency-penalty", 0, CLI_REAL, &o.frequency, -2, 2, "P", "less for each time that it was generated (0)"},
      {"logit-bias", 0, CLI_TEXT, &o.bias, 0, 0, "JSON",
       "added to logits: {\"token id\": number, ...}; -100 bars a token"},
      {"seed", 0, CLI_INT, &o.seed, 0, 9e18, "S", "of the sampler; 0: a random one"},
      {"threads", 't', CLI_INT, &o.threads, 0, 1024, "N", "compute threads; 0: one for each core"},
      {"tools", 0, CLI_TEXT, &o.tools, 0, 0, "FILE", "tools in OpenAI's shape, as JSON, that a chat's prompt may call"},
      {"tool-choice", 0, CLI_TEXT, &o.tool_choice, 0, 0, "NAME", "auto, none, required or a tool (auto)"},
      {"show-reasoning", 0, CLI_FLAG, &o.reasoning, 0, 0, NULL,
       "what the model thinks, on stderr; a terminal has it anyway"},
      CLI_KV_TYPE(o.kv_type),
      CLI_KV_SIZES,
      CLI_PACKED,
      CLI_BF16,
      CLI_DEVICE,
      CLI_RANKS,
      {"stats", 0, CLI_FLAG, &o.stats, 0, 0, NULL, "tell tokens and speed on stderr"},
      {0}};
  const cli_command command = {"run", "MODEL [-p TEXT] [OPTIONS]", "Continues a text, or chats.", options, 1, 1};
  aiinfra_model_info info = {.struct_size = sizeof info};
  cli_engine e;
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  if (o.tools != NULL && o.prompt == NULL) return cli_usage("run", "--tools needs a prompt: -p TEXT");
  if (o.tool_choice != NULL && o.tools == NULL) return cli_usage("run", "--tool-choice needs --tools");
  cli_catch_interrupts();
  code = cli_engine_open(argv[0], o.threads, o.kv_type, NULL, &e);
  if (code != CLI_OK) return code;
  (void)aiinfra_model_get_info(e.model, &info, NULL);
  if (o.chat || o.tools != NULL || (o.prompt == NULL && info.has_template == 1 && isatty(STDIN_FILENO)))
    code = chat(&e, &o);
  else code = complete(&e, &o);
  cli_engine_close(&e);
  return code;
}
