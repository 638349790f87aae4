/* perplexity.c - `aiinfra perplexity` and `aiinfra kld`: how well a model predicts a text, and how far a quantised model
 * has moved from its parent over one. windows.c says which tokens are scored.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "windows.h"

/* A sum that knows how uncertain its mean is. */
typedef struct mean {
  double sum, squares;
  size_t n;
} mean;

static void add(mean *m, double value)
{
  m->sum += value;
  m->squares += value * value;
  m->n++;
}

static double mean_of(const mean *m)
{
  return m->n > 0 ? m->sum / (double)m->n : 0;
}

/* The standard error of the mean. */
static double error_of(const mean *m)
{
  double variance = m->n > 1 ? m->squares / (double)m->n - mean_of(m) * mean_of(m) : 0;
  return variance > 0 ? sqrt(variance / (double)(m->n - 1)) : 0;
}

static const char *method(const window_options *o)
{
  return o->from_start ? "all but the first token of each window" : "the second half of each window";
}

/* ---- perplexity -------------------------------------------------------------------------------------------------------- */

static void score(void *user, const float *const *logits, size_t n_vocab, aiinfra_token token)
{
  add(user, windows_log_sum(logits[0], n_vocab) - (double)logits[0][token]);
}

static const char *perplexity_so_far(void *user)
{
  static char text[48];
  snprintf(text, sizeof text, "perplexity %.4f", exp(mean_of(user)));
  return text;
}

static int show_perplexity(const windows *w, const mean *nll)
{
  double perplexity = exp(mean_of(nll));
  if (!w->o->as_json) {
    printf("perplexity %.4f +- %.4f (%zu tokens scored, %s; %zu windows of %zu)\n", perplexity,
           perplexity * error_of(nll), nll->n, method(w->o), w->n_windows, w->context);
    return fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
  }
  return cli_print_json(json_pack("{sf, sf, sf, sI, sI, sI, ss}", "perplexity", perplexity, "error",
                                  perplexity * error_of(nll), "nll", mean_of(nll), "scored", (json_int_t)nll->n,
                                  "windows", (json_int_t)w->n_windows, "context", (json_int_t)w->context, "method",
                                  method(w->o)),
                        JSON_COMPACT);
}

int cmd_perplexity(int argc, char **argv)
{
  window_options o = {0};
  const cli_option options[] = {WINDOW_OPTIONS(&o), {0}};
  const cli_command command = {
      "perplexity",
      "MODEL FILE [OPTIONS]",
      "Measures how well a model predicts a text, as llama.cpp's perplexity does: windows that\n"
      "do not overlap, each behind BOS, of which the second half is scored. FILE '-' is stdin.",
      options,
      2,
      2};
  windows w;
  mean nll = {0};
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  cli_catch_interrupts();
  code = windows_open(&w, "perplexity", (const char *const *)argv, 1, argv[1], &o);
  if (code == CLI_OK) code = windows_run(&w, score, perplexity_so_far, &nll);
  if (code == CLI_OK) code = show_perplexity(&w, &nll);
  windows_close(&w);
  return code;
}

/* ---- divergence -------------------------------------------------------------------------------------------------------- */

typedef struct divergence {
  mean nll[2], kld, log_ratio;
  size_t same_top;
  float *values; /* every divergence, for the percentiles */
  size_t cap;
  bool failed;
} divergence;

static bool keep(divergence *d, double value)
{
  size_t i = d->kld.n;
  if (i == d->cap) {
    float *grown = realloc(d->values, (d->cap * 2 + 4096) * sizeof *grown);
    if (grown == NULL) return false;
    d->values = grown;
    d->cap = d->cap * 2 + 4096;
  }
  d->values[i] = (float)value;
  add(&d->kld, value);
  return true;
}

static size_t likeliest(const float *logits, size_t n)
{
  size_t best = 0;
  for (size_t i = 1; i < n; i++)
    if (logits[i] > logits[best]) best = i;
  return best;
}

/* KL(parent || model) = sum p (log p - log q), over the whole vocabulary. */
static void compare(void *user, const float *const *logits, size_t n_vocab, aiinfra_token token)
{
  divergence *d = user;
  double q_sum = windows_log_sum(logits[0], n_vocab), p_sum = windows_log_sum(logits[1], n_vocab), kld = 0;
  double q_nll = q_sum - (double)logits[0][token], p_nll = p_sum - (double)logits[1][token];
  for (size_t i = 0; i < n_vocab; i++) {
    double log_p = (double)logits[1][i] - p_sum;
    kld += exp(log_p) * (log_p - ((double)logits[0][i] - q_sum));
  }
  add(&d->nll[0], q_nll);
  add(&d->nll[1], p_nll);
  add(&d->log_ratio, q_nll - p_nll);
  d->same_top += likeliest(logits[0], n_vocab) == likeliest(logits[1], n_vocab);
  if (!keep(d, kld > 0 ? kld : 0)) d->failed = true; /* below 0 only by rounding */
}

static const char *divergence_so_far(void *user)
{
  static char text[48];
  snprintf(text, sizeof text, "mean divergence %.6f", mean_of(&((divergence *)user)->kld));
  return text;
}

static int by_value(const void *a, const void *b)
{
  float x = *(const float *)a, y = *(const float *)b;
  return x < y ? -1 : x > y;
}

/* Of sorted values, linear between neighbours. */
static double percentile(const divergence *d, double share)
{
  double at = share * (double)(d->kld.n - 1);
  size_t i = (size_t)at, next = i + 1 < d->kld.n ? i + 1 : i;
  return (double)d->values[i] + (at - (double)i) * ((double)d->values[next] - (double)d->values[i]);
}

static int show_divergence(const windows *w, divergence *d)
{
  double model = exp(mean_of(&d->nll[0])), parent = exp(mean_of(&d->nll[1])), ratio = exp(mean_of(&d->log_ratio));
  double top = (double)d->same_top / (double)d->kld.n, median, p99, max;
  qsort(d->values, d->kld.n, sizeof *d->values, by_value);
  median = percentile(d, 0.5);
  p99 = percentile(d, 0.99);
  max = percentile(d, 1);
  if (w->o->as_json)
    return cli_print_json(json_pack("{sf, sf, sf, sf, sf, sf, sf, sf, sf, sf, sI, sI, sI, ss}", "mean_kld",
                                    mean_of(&d->kld), "error", error_of(&d->kld), "median_kld", median, "p99_kld", p99,
                                    "max_kld", max, "same_top", top, "perplexity", model, "parent_perplexity", parent,
                                    "perplexity_ratio", ratio, "ratio_error", ratio * error_of(&d->log_ratio), "scored",
                                    (json_int_t)d->kld.n, "windows", (json_int_t)w->n_windows, "context",
                                    (json_int_t)w->context, "method", method(w->o)),
                          JSON_COMPACT);
  printf(
      "mean divergence    %.6f +- %.6f\nmedian             %.6f\n99th percentile    %.6f\nmaximum            %.6f\n"
      "same top token     %.3f %%\nperplexity         %.4f\nof the parent      %.4f\nratio              %.6f +- %.6f\n"
      "(%zu tokens scored, %s; %zu windows of %zu)\n",
      mean_of(&d->kld), error_of(&d->kld), median, p99, max, 100 * top, model, parent, ratio,
      ratio * error_of(&d->log_ratio), d->kld.n, method(w->o), w->n_windows, w->context);
  return fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
}

int cmd_kld(int argc, char **argv)
{
  window_options o = {0};
  const cli_option options[] = {WINDOW_OPTIONS(&o), {0}};
  const cli_command command = {
      "kld",
      "MODEL PARENT FILE [OPTIONS]",
      "Measures how far a model has moved from its parent, over the tokens of a text that\n"
      "'aiinfra perplexity' scores: the Kullback-Leibler divergence KL(PARENT || MODEL) in nats.",
      options,
      3,
      3};
  windows w;
  divergence d = {0};
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  cli_catch_interrupts();
  code = windows_open(&w, "kld", (const char *const *)argv, 2, argv[2], &o);
  if (code == CLI_OK) code = windows_run(&w, compare, divergence_so_far, &d);
  if (code == CLI_OK && d.failed) code = cli_fail("out of memory");
  if (code == CLI_OK) code = show_divergence(&w, &d);
  free(d.values);
  windows_close(&w);
  return code;
}
