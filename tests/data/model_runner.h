/* model_runner.h - runs a model for tests below the batcher: one runtime, one model, one sequence at a time.
 *
 * The cache is a slab of its own with shuffled block tables, so that nothing works by accident of being contiguous.
 */
#ifndef AIINFRA_TESTS_MODEL_RUNNER_H
#define AIINFRA_TESTS_MODEL_RUNNER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/model/model.h"
#include "support/support.h"

typedef struct runner {
  aiinfra_runtime *rt;
  aiinfra_model *model;
  aii_workspace *ws;
  aii_kv_view kv;
  uint32_t *table; /* of the one sequence */
  uint32_t max_rows;
} runner;

static inline void runner_say(const char *what, aiinfra_status rc, const aiinfra_error *err)
{
  if (rc != AIINFRA_OK) fail_msg("%s: %s: %s", what, aiinfra_status_name(rc), err->message);
}

/* For aiinfra_model_opts.load_type and .bf16_activations of the next model. */
static const char *runner_load_type __attribute__((unused));
static int32_t runner_bf16_activations __attribute__((unused));

static inline void runner_open(runner *r, const char *path, const aiinfra_runtime_opts *opts, uint32_t max_rows,
                               uint32_t block_tokens, aii_dtype kv_type)
{
  aiinfra_error err;
  runner_say("runtime", aiinfra_runtime_create(opts, &r->rt, &err), &err);
  aiinfra_model_opts model_opts = AIINFRA_MODEL_OPTS_INIT;
  model_opts.load_type = runner_load_type;
  model_opts.bf16_activations = runner_bf16_activations;
  runner_say("model", aiinfra_model_open(r->rt, path, &model_opts, &r->model, &err), &err);
  runner_say("workspace", aii_workspace_create(r->model, max_rows, max_rows, &r->ws, &err), &err);
  const aii_hparams *hp = &r->model->hp;
  uint32_t n_blocks = (r->model->max_context + block_tokens - 1) / block_tokens;
  r->max_rows = max_rows;
  r->kv = (aii_kv_view){.type = kv_type,
                        .n_layers = hp->n_layers,
                        .n_kv_heads = hp->n_kv_heads,
                        .head_dim = hp->head_dim,
                        .value_dim = hp->value_dim,
                        .block_tokens = block_tokens,
                        .n_blocks = n_blocks};
  assert_true(aii_kv_lay_out(&r->kv));
  aii_backend *be = r->rt->backend;
  runner_say("cache", be->ops->alloc(be, r->kv.block_bytes * n_blocks, &r->kv.base, &err), &err);
  r->table = calloc(n_blocks, sizeof *r->table);
  for (uint32_t i = 0; i < n_blocks; i++) r->table[i] = i;
  unsigned long long random = 7;
  for (uint32_t i = n_blocks; i > 1; i--) {
    uint32_t j = (uint32_t)(test_random(&random) % i), swap = r->table[i - 1];
    r->table[i - 1] = r->table[j];
    r->table[j] = swap;
  }
}

static inline void runner_close(runner *r)
{
  r->rt->backend->ops->release(r->rt->backend, r->kv.base, r->kv.block_bytes * r->kv.n_blocks);
  free(r->table);
  aii_workspace_free(r->ws);
  aiinfra_model_free(r->model);
  aiinfra_runtime_free(r->rt);
}

/* Runs tokens[0..n) at positions first.. of the sequence; logits of all rows when `all`, else of the last one. */
static inline void runner_step(runner *r, const aiinfra_token *tokens, uint32_t n, uint32_t first, bool all,
                               float *logits)
{
  uint32_t *ids = calloc(3 * (size_t)n, sizeof *ids);
  const uint32_t *tables[1] = {r->table};
  for (uint32_t i = 0; i < n; i++) ids[n + i] = first + i, ids[2 * n + i] = all ? i : n - 1;
  aii_forward pass = {
      .rows = {.n_rows = n, .n_seqs = 1, .tokens = tokens, .seq = ids, .pos = ids + n, .tables = tables},
      .n_logits = all ? n : 1,
      .logit_rows = ids + 2 * (size_t)n,
      .logits = logits};
  aiinfra_error err;
  runner_say("forward", aii_model_forward(r->model, r->ws, &r->kv, &pass, &err), &err);
  free(ids);
}

/* The hidden states of an encoder's text, and of its first n_second tokens as a second sequence of the same pass. */
static inline void runner_hidden(runner *r, const aiinfra_token *tokens, uint32_t n, uint32_t n_second, float *out)
{
  uint32_t total = n + n_second, used = (n + r->kv.block_tokens - 1) / r->kv.block_tokens;
  uint32_t *ids = calloc(4 * (size_t)total, sizeof *ids), *pos = ids + total, *rows = pos + total;
  aiinfra_token *all = (aiinfra_token *)(rows + total);
  const uint32_t *tables[2] = {r->table, r->table + used};
  assert_true(used + (n_second + r->kv.block_tokens - 1) / r->kv.block_tokens <= r->kv.n_blocks);
  for (uint32_t i = 0; i < total; i++) {
    ids[i] = i >= n;
    pos[i] = i < n ? i : i - n;
    rows[i] = i;
    all[i] = tokens[pos[i]];
  }
  aii_forward pass = {.rows = {.n_rows = total, .n_seqs = 2, .tokens = all, .seq = ids, .pos = pos, .tables = tables},
                      .n_hidden = total,
                      .hidden_rows = rows,
                      .hidden = out};
  aiinfra_error err;
  runner_say("forward", aii_model_forward(r->model, r->ws, &r->kv, &pass, &err), &err);
  free(ids);
}

/* -log p(token), summed in double precision. */
static inline double runner_nll(const float *logits, uint32_t n, aiinfra_token token)
{
  double max = (double)logits[0], sum = 0;
  for (uint32_t i = 1; i < n; i++) max = (double)logits[i] > max ? (double)logits[i] : max;
  for (uint32_t i = 0; i < n; i++) sum += exp((double)logits[i] - max);
  return max + log(sum) - (double)logits[token];
}

/* The first n stories of the TinyStories sample, stripped of white space; returns a malloc'ed array of strings, whose
 * first one owns the text. NULL: the data is not here. */
static inline char **runner_stories(uint32_t n)
{
  static const char mark[] = "<|endoftext|>";
  char *text = test_read_file(test_data("corpus/tinystories_v2_sample_2MiB.txt"), NULL);
  char **stories = text != NULL ? calloc(n + 1, sizeof *stories) : NULL;
  for (uint32_t i = 0; stories != NULL && i < n && text != NULL; i++) {
    char *end = strstr(text, mark), *next = end != NULL ? end + sizeof mark - 1 : NULL;
    if (end == NULL) end = text + strlen(text);
    while (i > 0 && (*text == ' ' || *text == '\n')) text++;
    while (end > text && (end[-1] == ' ' || end[-1] == '\n')) end--;
    *end = '\0';
    stories[i] = text;
    text = next;
  }
  return stories;
}

/* The perplexity of the first stories, as their reference figures were made: every story behind BOS and a space, all of
 * them one text, cut into windows; the first token of a window is not scored. *scored is 0 when the data is not here. */
static inline double runner_perplexity(runner *r, uint32_t n_stories, uint32_t window, uint32_t *scored)
{
  char **stories = runner_stories(n_stories);
  uint32_t n = 0, cap = 1 << 19, n_vocab = r->model->hp.n_vocab;
  *scored = 0;
  if (stories == NULL) return 0;
  aiinfra_token *tokens = calloc(cap, sizeof *tokens);
  for (uint32_t i = 0; i < n_stories; i++) {
    size_t got;
    aiinfra_error err;
    runner_say("tokenize",
               aiinfra_model_tokenize(r->model, stories[i], strlen(stories[i]), AIINFRA_TOKENIZE_BOS, tokens + n,
                                      cap - n, &got, &err),
               &err);
    n += (uint32_t)got;
  }
  float *logits = calloc((size_t)window * n_vocab, sizeof *logits);
  double nll = 0;
  for (uint32_t at = 0; at < n; at += window) {
    uint32_t len = AII_MIN(n - at, window);
    runner_step(r, tokens + at, len, 0, true, logits);
    for (uint32_t i = 1; i < len; i++, ++*scored) {
      nll += runner_nll(logits + (i - 1) * (size_t)n_vocab, n_vocab, tokens[at + i]);
    }
  }
  free(stories[0]);
  free(stories);
  free(tokens);
  free(logits);
  print_message("%u tokens scored, nll %.6f, perplexity %.5f\n", *scored, nll / *scored, exp(nll / *scored));
  return exp(nll / *scored);
}

/* Whole corpora are too slow under sanitizers; they run elsewhere. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define RUNNER_SLOW 1
#else
#define RUNNER_SLOW 0
#endif

#endif
