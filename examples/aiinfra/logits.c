/* logits.c - `aiinfra logits`: what a model expects behind a text, or behind each of its tokens. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

enum { STEP = 64 }; /* tokens whose logits are held at once */

typedef struct logits_options {
  const char *prompt, *tokens;
  bool all, special, as_json;
  int64_t top, threads;
} logits_options;

typedef struct candidate {
  float logit;
  aiinfra_token token;
} candidate;

/* Likeliest first; equal ones by number. */
static int by_logit(const void *a, const void *b)
{
  const candidate *x = a, *y = b;
  if (x->logit != y->logit) return x->logit < y->logit ? 1 : -1;
  return x->token < y->token ? -1 : x->token > y->token;
}

typedef struct job {
  const logits_options *o;
  const aiinfra_model *model;
  aiinfra_eval *eval;
  candidate *sorted; /* [n_vocab] */
  float *logits;     /* [STEP][n_vocab] */
  size_t n_vocab;
  json_t *positions;
} job;

static int print_row(const job *j, size_t position, aiinfra_token token, size_t n_top, double log_sum)
{
  int code = CLI_OK;
  if (j->o->all) {
    printf("position %zu, token %d ", position, token);
    code = cli_print_token(j->model, token);
    printf("\n");
  }
  for (size_t i = 0; i < n_top && code == CLI_OK; i++) {
    const candidate *c = &j->sorted[i];
    printf("%7d  %10.4f  %8.6f  ", c->token, (double)c->logit, exp((double)c->logit - log_sum));
    code = cli_print_token(j->model, c->token);
    printf("\n");
  }
  return code;
}

static int add_row(const job *j, size_t position, aiinfra_token token, size_t n_top, double log_sum)
{
  json_t *row = json_pack("{sI, si}", "position", (json_int_t)position, "token", token), *top = json_array();
  for (size_t i = 0; i < n_top; i++) {
    const candidate *c = &j->sorted[i];
    json_t *entry = cli_token_json(j->model, c->token);
    json_object_set_new(entry, "logit", json_real((double)c->logit));
    json_object_set_new(entry, "logprob", json_real((double)c->logit - log_sum));
    json_array_append_new(top, entry);
  }
  json_object_set_new(row, "top", top);
  return json_array_append_new(j->positions, row) == 0 ? CLI_OK : cli_fail("out of memory");
}

static int show_row(const job *j, const float *logits, size_t position, aiinfra_token token)
{
  size_t n_top = j->o->top == 0 || (size_t)j->o->top > j->n_vocab ? j->n_vocab : (size_t)j->o->top;
  double sum = 0, log_sum;
  for (size_t i = 0; i < j->n_vocab; i++) j->sorted[i] = (candidate){logits[i], (aiinfra_token)i};
  qsort(j->sorted, j->n_vocab, sizeof *j->sorted, by_logit);
  for (size_t i = 0; i < j->n_vocab; i++) sum += exp((double)j->sorted[i].logit - (double)j->sorted[0].logit);
  log_sum = (double)j->sorted[0].logit + log(sum);
  return (j->positions != NULL ? add_row : print_row)(j, position, token, n_top, log_sum);
}

static int run(const job *j, const aiinfra_token *tokens, size_t n)
{
  aiinfra_error err;
  int code = CLI_OK;
  size_t at = 0;
  if (!j->o->all && n > 1) {
    at = n - 1;
    if (aiinfra_eval_run(j->eval, tokens, at, 0, NULL, 0, &err) != AIINFRA_OK) return cli_error("logits", &err);
  }
  while (at < n && code == CLI_OK) {
    size_t len = n - at < STEP ? n - at : STEP;
    if (aiinfra_eval_run(j->eval, tokens + at, len, len, j->logits, STEP * j->n_vocab, &err) != AIINFRA_OK)
      return cli_error("logits", &err);
    for (size_t i = 0; i < len && code == CLI_OK; i++)
      code = show_row(j, j->logits + i * j->n_vocab, at + i, tokens[at + i]);
    at += len;
  }
  return code;
}

static int show(const cli_engine *e, const logits_options *o, const aiinfra_token *tokens, size_t n)
{
  aiinfra_model_info info = {.struct_size = sizeof info};
  aiinfra_eval_opts opts = AIINFRA_EVAL_OPTS_INIT;
  job j = {.o = o, .model = e->model};
  aiinfra_error err;
  int code = CLI_OK;
  if (n == 0) return cli_fail("the text has no tokens, and this model has none to start from: give -p TEXT");
  if (aiinfra_model_get_info(e->model, &info, &err) != AIINFRA_OK) return cli_error("logits", &err);
  if (n > info.max_context) return cli_fail("the text has %zu tokens, the model's context %u", n, info.max_context);
  opts.max_context = (uint32_t)n;
  if (aiinfra_eval_create(e->model, &opts, &j.eval, &err) != AIINFRA_OK) return cli_error("logits", &err);
  j.n_vocab = info.n_vocab;
  j.sorted = malloc(j.n_vocab * sizeof *j.sorted);
  j.logits = malloc(j.n_vocab * STEP * sizeof *j.logits);
  if (o->as_json) j.positions = json_array();
  if (j.sorted == NULL || j.logits == NULL) code = cli_fail("out of memory");
  if (code == CLI_OK) code = run(&j, tokens, n);
  if (o->as_json && code == CLI_OK) code = cli_print_json(j.positions, JSON_COMPACT | JSON_REAL_PRECISION(9));
  else json_decref(j.positions);
  free(j.logits);
  free(j.sorted);
  aiinfra_eval_free(j.eval);
  return code;
}

int cmd_logits(int argc, char **argv)
{
  logits_options o = {.top = 10};
  const cli_option options[] = {
      {"prompt", 'p', CLI_TEXT, &o.prompt, 0, 0, "TEXT", "the text; without it the model's first token alone"},
      {"tokens", 0, CLI_TEXT, &o.tokens, 0, 0, "1,2,3", "the text as tokens, taken as they are"},
      {"special", 0, CLI_FLAG, &o.special, 0, 0, NULL, "names of control tokens in TEXT become these tokens"},
      {"all", 0, CLI_FLAG, &o.all, 0, 0, NULL, "behind every token, not only the last one"},
      {"top", 0, CLI_INT, &o.top, 0, 1e9, "N", "the N likeliest tokens; 0: all (10)"},
      {"json", 0, CLI_FLAG, &o.as_json, 0, 0, NULL, "an array with an object for each position"},
      {"threads", 't', CLI_INT, &o.threads, 0, 1024, "N", "compute threads; 0: one for each core"},
      CLI_PACKED,
      CLI_BF16,
      CLI_DEVICE,
      CLI_RANKS,
      {0}};
  const cli_command command = {"logits",
                               "MODEL [-p TEXT] [OPTIONS]",
                               "Prints what a model expects behind a text: token, logit, probability, text.",
                               options,
                               1,
                               1};
  uint32_t flags = AIINFRA_TOKENIZE_BOS;
  aiinfra_token *tokens;
  size_t n_tokens = 0;
  cli_engine e;
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  if (o.prompt != NULL && o.tokens != NULL) return cli_usage("logits", "--prompt and --tokens at once");
  if (o.special) flags |= AIINFRA_TOKENIZE_SPECIAL;
  tokens = o.tokens != NULL ? cli_parse_tokens("logits", o.tokens, &n_tokens) : NULL;
  if (o.tokens != NULL && tokens == NULL) return CLI_USAGE;
  code = cli_model_open(argv[0], o.threads, &e);
  if (code == CLI_OK && tokens == NULL) {
    const char *text = o.prompt != NULL ? o.prompt : "";
    tokens = cli_tokenize(e.model, text, strlen(text), flags, &n_tokens);
  }
  if (code == CLI_OK) code = tokens != NULL ? show(&e, &o, tokens, n_tokens) : CLI_FAILED;
  free(tokens);
  cli_engine_close(&e);
  return code;
}
