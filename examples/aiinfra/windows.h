/* windows.h - a text cut into windows, and one or two models run over them: what perplexity, kld and imatrix share. */
#ifndef AIINFRA_CLI_WINDOWS_H
#define AIINFRA_CLI_WINDOWS_H

#include "cli.h"

typedef struct window_options {
  const char *separator, *kv_type; /* of the first model's cache */
  int64_t context, chunks, threads;
  bool from_start, special, as_json;
} window_options;

/* The rows of cli_option that fill them: how a text is cut, and what is scored of it. */
#define WINDOW_TEXT_OPTIONS(o)                                                                                      \
  {"context", 'c', CLI_INT, &(o)->context, 2, 1e9, "N", "tokens of a window (512, or what the model has if less)"}, \
      {"chunks", 0, CLI_INT, &(o)->chunks, 0, 1e9, "N", "only the first N windows; 0: all"},                        \
      {"separator", 0, CLI_TEXT, &(o)->separator,                                                                   \
       0,           0, "TEXT",   "stands between texts in FILE, of which each is tokenised by itself"},             \
  {                                                                                                                 \
    "threads", 't', CLI_INT, &(o)->threads, 0, 1024, "N", "compute threads; 0: one for each core"                   \
  }
#define WINDOW_OPTIONS(o)                                                                                         \
  WINDOW_TEXT_OPTIONS(o),                                                                                         \
      {"from-start",                                                                                              \
       0,                                                                                                         \
       CLI_FLAG,                                                                                                  \
       &(o)->from_start,                                                                                          \
       0,                                                                                                         \
       0,                                                                                                         \
       NULL,                                                                                                      \
       "score all tokens of a window but its first one; the text is taken as it is"},                             \
      CLI_KV_TYPE((o)->kv_type), CLI_BF16,                                                                        \
      {"special", 0, CLI_FLAG, &(o)->special, 0, 0, NULL, "names of control tokens in FILE become these tokens"}, \
  {                                                                                                               \
    "json", 0, CLI_FLAG, &(o)->as_json, 0, 0, NULL, "one JSON object"                                             \
  }

enum { MAX_WINDOW_MODELS = 2 };

typedef struct windows {
  const window_options *o;
  const char *command;
  aiinfra_runtime *runtime;
  aiinfra_model *models[MAX_WINDOW_MODELS];
  aiinfra_eval *evals[MAX_WINDOW_MODELS];
  float *logits[MAX_WINDOW_MODELS];
  int n_models;
  aiinfra_token *tokens, *window;
  aiinfra_token bos; /* that a window begins with; -1: none */
  size_t n_tokens, n_vocab, context, n_windows;
} windows;

/* Opens the models (paths[0] is the measured one) and the text; a code other than CLI_OK was told. */
int windows_open(windows *w, const char *command, const char *const *paths, int n_models, const char *file,
                 const window_options *o);
void windows_close(windows *w);

/* One scored token: logits[m] are those of model m that were to predict it. */
typedef void (*window_row)(void *user, const float *const *logits, size_t n_vocab, aiinfra_token token);
/* What to tell about the progress; a static string. */
typedef const char *(*window_progress)(void *user);
int windows_run(windows *w, window_row row, window_progress progress, void *user);

/* log(sum(exp(logits))), in double precision. */
double windows_log_sum(const float *logits, size_t n);

#endif
