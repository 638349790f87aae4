/* windows.c - runs one or two models over the windows of a text and hands out the logits of every scored token.
 *
 * The method is that of llama.cpp's perplexity: the text is cut into windows that do not overlap, what is left at the end
 * is dropped, the first token of each is replaced by BOS if the model begins texts with it, and only the second half of
 * each window counts, so that every scored token has at least half a window before it. With --from-start all tokens
 * but the first of a window count, the last window may be short, and no token is replaced.
 */
#include "windows.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_CONTEXT = 512, STEP = 32 }; /* STEP: rows of logits held at once */

/* ---- the text --------------------------------------------------------------------------------------------------------- */

static bool is_space(char c)
{
  return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static int append_tokens(const windows *w, const aiinfra_model *model, const char *text, size_t n, aiinfra_token **all,
                         size_t *n_all)
{
  uint32_t flags = AIINFRA_TOKENIZE_BOS | (w->o->special ? AIINFRA_TOKENIZE_SPECIAL : 0u);
  size_t more;
  aiinfra_token *tokens = cli_tokenize(model, text, n, flags, &more), *grown;
  if (tokens == NULL) return CLI_FAILED;
  grown = realloc(*all, (*n_all + more + 1) * sizeof *grown);
  if (grown != NULL) {
    memcpy(grown + *n_all, tokens, more * sizeof *grown);
    *all = grown;
    *n_all += more;
  }
  free(tokens);
  return grown != NULL ? CLI_OK : cli_fail("out of memory");
}

/* With a separator every text loses the white space around it and begins as the model begins texts. */
static int tokenize(windows *w, const aiinfra_model *model, const char *text, size_t n, aiinfra_token **all,
                    size_t *n_all)
{
  const char *end = text + n, *mark = w->o->separator;
  int code = CLI_OK;
  *all = NULL;
  *n_all = 0;
  if (mark == NULL || mark[0] == '\0') return append_tokens(w, model, text, n, all, n_all);
  while (text < end && code == CLI_OK) {
    const char *stop = memmem(text, (size_t)(end - text), mark, strlen(mark)), *next;
    next = stop != NULL ? stop + strlen(mark) : end;
    if (stop == NULL) stop = end;
    while (text < stop && is_space(*text)) text++;
    while (stop > text && is_space(stop[-1])) stop--;
    if (stop > text) code = append_tokens(w, model, text, (size_t)(stop - text), all, n_all);
    text = next;
  }
  return code;
}

/* Models can only be compared where they see the same tokens. */
static int same_tokens(windows *w, const char *text, size_t n, const char *const *paths)
{
  aiinfra_token *other;
  size_t n_other;
  int code = tokenize(w, w->models[1], text, n, &other, &n_other);
  if (code == CLI_OK && (n_other != w->n_tokens || memcmp(other, w->tokens, n_other * sizeof *other) != 0))
    code = cli_fail("%s and %s cut the text into different tokens: they cannot be compared", paths[0], paths[1]);
  free(other);
  return code;
}

static int read_text(windows *w, const char *path, const char *const *model_paths)
{
  size_t n;
  char *text = cli_read_file(path, &n);
  int code = CLI_FAILED;
  if (text != NULL) code = tokenize(w, w->models[0], text, n, &w->tokens, &w->n_tokens);
  if (code == CLI_OK && w->n_models > 1) code = same_tokens(w, text, n, model_paths);
  free(text);
  return code;
}

/* ---- open, close ------------------------------------------------------------------------------------------------------- */

static int open_models(windows *w, const char *const *paths, aiinfra_model_info *info)
{
  aiinfra_error err;
  aiinfra_model_opts opts = AIINFRA_MODEL_OPTS_INIT;
  int code = cli_runtime_open(w->o->threads, &w->runtime);
  for (int m = 0; m < w->n_models && code == CLI_OK; m++) {
    info[m].struct_size = sizeof info[m];
    opts.bf16_activations = m == 0 && cli_bf16_activations; /* a parent is exact */
    if (aiinfra_model_open(w->runtime, paths[m], &opts, &w->models[m], &err) != AIINFRA_OK ||
        aiinfra_model_get_info(w->models[m], &info[m], &err) != AIINFRA_OK)
      code = cli_error(paths[m], &err);
    else if (info[m].n_vocab != info[0].n_vocab)
      code = cli_fail("%s has %u tokens, %s has %u: they cannot be compared", paths[0], info[0].n_vocab, paths[m],
                      info[m].n_vocab);
  }
  return code;
}

/* How many windows there are; the text must fill one. */
static int cut(windows *w, const aiinfra_model_info *info)
{
  size_t most = info[0].max_context;
  if (w->n_models > 1 && info[1].max_context < most) most = info[1].max_context;
  w->context = w->o->context != 0 ? (size_t)w->o->context : most < DEFAULT_CONTEXT ? most : DEFAULT_CONTEXT;
  if (w->context > most) return cli_fail("--context is %zu; the model's context has %zu tokens", w->context, most);
  w->n_windows = w->n_tokens / w->context;
  if (w->o->from_start) w->n_windows += w->n_tokens % w->context > 1;
  if (w->n_windows == 0)
    return cli_fail("the text has %zu tokens, less than a window of %zu: give a longer text or a smaller --context",
                    w->n_tokens, w->context);
  if (w->o->chunks > 0 && (size_t)w->o->chunks < w->n_windows) w->n_windows = (size_t)w->o->chunks;
  return CLI_OK;
}

static int open_evals(windows *w)
{
  aiinfra_eval_opts opts = AIINFRA_EVAL_OPTS_INIT;
  aiinfra_error err;
  opts.max_context = (uint32_t)w->context;
  w->window = malloc(w->context * sizeof *w->window);
  for (int m = 0; m < w->n_models; m++) {
    if (!cli_kv_type(m == 0 ? w->o->kv_type : NULL, &opts.kv_dtype)) return CLI_USAGE;
    if (aiinfra_eval_create(w->models[m], &opts, &w->evals[m], &err) != AIINFRA_OK) return cli_error(w->command, &err);
    w->logits[m] = malloc(STEP * w->n_vocab * sizeof **w->logits);
    if (w->logits[m] == NULL) return cli_fail("out of memory");
  }
  return w->window != NULL ? CLI_OK : cli_fail("out of memory");
}

/* The token that the model puts before a text. */
static aiinfra_token first_token(const aiinfra_model *model, aiinfra_token bos)
{
  aiinfra_token tokens[4];
  size_t n;
  aiinfra_status rc = aiinfra_model_tokenize(model, "", 0, AIINFRA_TOKENIZE_BOS, tokens, 4, &n, NULL);
  return rc == AIINFRA_OK && n > 0 && tokens[0] == bos ? bos : -1;
}

int windows_open(windows *w, const char *command, const char *const *paths, int n_models, const char *file,
                 const window_options *o)
{
  aiinfra_model_info info[MAX_WINDOW_MODELS];
  int code;
  memset(w, 0, sizeof *w);
  w->o = o;
  w->command = command;
  w->n_models = n_models;
  code = open_models(w, paths, info);
  if (code == CLI_OK) code = read_text(w, file, paths);
  if (code == CLI_OK) code = cut(w, info);
  if (code != CLI_OK) return code;
  w->n_vocab = info[0].n_vocab;
  w->bos = o->from_start ? -1 : first_token(w->models[0], info[0].bos);
  return open_evals(w);
}

void windows_close(windows *w)
{
  for (int m = 0; m < w->n_models; m++) {
    aiinfra_eval_free(w->evals[m]);
    aiinfra_model_free(w->models[m]);
    free(w->logits[m]);
  }
  aiinfra_runtime_free(w->runtime);
  free(w->tokens);
  free(w->window);
}

/* ---- run --------------------------------------------------------------------------------------------------------------- */

double windows_log_sum(const float *logits, size_t n)
{
  double max = (double)logits[0], sum = 0;
  for (size_t i = 1; i < n; i++) max = fmax(max, (double)logits[i]);
  for (size_t i = 0; i < n; i++) sum += exp((double)logits[i] - max);
  return max + log(sum);
}

/* The rows [at, at + n) of the window through all models, each of which predicts the token behind it. */
static int run_rows(windows *w, size_t at, size_t n, bool scored, window_row row, void *user)
{
  const float *logits[MAX_WINDOW_MODELS];
  aiinfra_error err;
  for (int m = 0; m < w->n_models; m++) {
    aiinfra_status rc = aiinfra_eval_run(w->evals[m], w->window + at, n, scored ? n : 0, scored ? w->logits[m] : NULL,
                                         STEP * w->n_vocab, &err);
    if (rc != AIINFRA_OK) return cli_error(w->command, &err);
  }
  for (size_t i = 0; i < n && scored; i++) {
    for (int m = 0; m < w->n_models; m++) logits[m] = w->logits[m] + i * w->n_vocab;
    row(user, logits, w->n_vocab, w->window[at + i + 1]);
  }
  return CLI_OK;
}

static int run_window(windows *w, size_t index, window_row row, void *user)
{
  size_t from = index * w->context, left = w->n_tokens - from, n = left < w->context ? left : w->context;
  size_t first = w->o->from_start ? 0 : w->context / 2;
  int code = CLI_OK;
  memcpy(w->window, w->tokens + from, n * sizeof *w->window);
  if (w->bos >= 0) w->window[0] = w->bos;
  for (int m = 0; m < w->n_models; m++) aiinfra_eval_cut(w->evals[m], 0);
  if (first > 0) code = run_rows(w, 0, first, false, row, user);
  for (size_t at = first; at < n - 1 && code == CLI_OK; at += STEP)
    code = run_rows(w, at, n - 1 - at < STEP ? n - 1 - at : STEP, true, row, user);
  return code;
}

int windows_run(windows *w, window_row row, window_progress progress, void *user)
{
  int code = CLI_OK;
  cli_watch_flag();
  for (size_t i = 0; i < w->n_windows && code == CLI_OK; i++) {
    code = run_window(w, i, row, user);
    if (code == CLI_OK && cli_interrupted()) code = cli_fail("interrupted");
    if (code == CLI_OK && cli_progress_wanted())
      fprintf(stderr, "\r%s: window %zu of %zu, %s ", w->command, i + 1, w->n_windows, progress(user));
  }
  if (cli_progress_wanted()) fprintf(stderr, "\n");
  cli_watch(NULL, NULL);
  return code;
}
