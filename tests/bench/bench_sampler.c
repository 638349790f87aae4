/* bench_sampler.c - what choosing a token costs in a vocabulary of today's size, and which share of a decode step that is.
 *
 * Two kinds of logits: "peaked", a few tokens stand out, as a trained model has it; "flat", all are within a few nats,
 * the worst case. Each figure is the best of some runs of one thread. The share is that of a step which reads the weights
 * of such a model at 25 GB/s. Argument: a model file, with whose vocabulary a grammar's mask is timed, too, while objects
 * of JSON are drawn at random.
 */
#include <stdio.h>
#include <stdlib.h>

#include "src/model/model.h"
#include "src/runtime/runtime.h"
#include "tests/support/support.h"

enum { PICKS = 20, RUNS = 9 };

static const struct {
  const char *name;
  uint32_t n_vocab;
  double step_us;
} models[] = {{"1B in Q4_0", 128256, 763e6 / 25e3}, {"0.5B in Q4_0", 151936, 346e6 / 25e3}};

static const struct {
  const char *name;
  aii_sampling how;
} choices[] = {{"greedy", {.temperature = 0}},
               {"temperature 0.8", {.temperature = 0.8f}},
               {"top_k 40", {.temperature = 0.8f, .top_k = 40}},
               {"top_k 40, top_p 0.95", {.temperature = 0.8f, .top_k = 40, .top_p = 0.95f}},
               {"top_p 0.95", {.temperature = 0.8f, .top_p = 0.95f}},
               {"min_p 0.05", {.temperature = 0.8f, .min_p = 0.05f}},
               {"top_p 0.95, min_p 0.05", {.temperature = 0.8f, .top_p = 0.95f, .min_p = 0.05f}}};

static aii_mem mem;

static float *make_logits(uint32_t n, bool peaked)
{
  unsigned long long random = 1;
  float *x = malloc(n * sizeof *x);
  for (uint32_t i = 0; x != NULL && i < n; i++) {
    double u = 0;
    for (int j = 0; j < 6; j++) u += (double)(test_random(&random) % 100000) * 1e-5 - 0.5;
    x[i] = (float)(peaked ? 2 * u : u);
    if (peaked && i % 5003 == 17) x[i] += (float)(10 + i % 7);
  }
  return x;
}

static double best_us(aii_sampling how, const float *logits, uint32_t n)
{
  aii_sampler *s;
  aiinfra_error err;
  double best = 1e9;
  if (aii_sampler_create(&mem, &how, n, &s, &err) != AIINFRA_OK) exit(1);
  for (int run = 0; run < RUNS; run++) {
    uint64_t start = aii_now_ns();
    for (int i = 0; i < PICKS; i++) (void)aii_sampler_pick(s, logits);
    best = AII_MIN(best, (double)(aii_now_ns() - start) * 1e-3 / PICKS);
  }
  aii_sampler_free(s);
  return best;
}

/* ---- a grammar ---------------------------------------------------------------------------------------------------- */

static void expect(aiinfra_status rc, const aiinfra_error *err)
{
  if (rc == AIINFRA_OK) return;
  fprintf(stderr, "%s: %s\n", aiinfra_status_name(rc), err->message);
  exit(1);
}

/* One object; microseconds of all its masks to *us, the longest to *most; returns how many. */
static int draw_object(const aii_grammar *grammar, const aii_vocab *vocab, const float *peaked, aii_sampler *s,
                       double *us, double *most)
{
  enum { LONGEST = 60 };
  uint32_t n_vocab = aii_vocab_size(vocab);
  float *logits = malloc(n_vocab * sizeof *logits);
  aii_grammar_state *state;
  aiinfra_error err;
  int n = 0;
  if (logits == NULL) exit(1);
  expect(aii_grammar_start(&mem, grammar, vocab, &state, &err), &err);
  for (bool more = true; more && n < LONGEST; n++) {
    memcpy(logits, peaked, n_vocab * sizeof *logits);
    uint64_t start = aii_now_ns();
    expect(aii_grammar_mask(state, logits, &err), &err);
    double took = (double)(aii_now_ns() - start) * 1e-3;
    *us += took;
    *most = AII_MAX(*most, took);
    aiinfra_token token = aii_sampler_pick(s, logits);
    more = !aii_vocab_is_eog(vocab, token);
    if (more) expect(aii_grammar_accept(state, token, &err), &err);
    more = more && !aii_grammar_complete(state);
  }
  aii_grammar_state_free(state);
  free(logits);
  return n;
}

static void time_grammar(const char *path)
{
  static const char schema[] =
      "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"count\":{\"type\":"
      "\"integer\"},\"kind\":{\"enum\":[\"one\",\"many\"]}},\"required\":[\"name\",\"count\",\"kind\"]}";
  aiinfra_model_opts opts = AIINFRA_MODEL_OPTS_INIT;
  aiinfra_runtime *rt;
  aiinfra_model *model;
  aii_grammar *grammar;
  aii_sampler *s;
  aiinfra_error err;
  opts.vocab_only = 1;
  expect(aiinfra_runtime_create(NULL, &rt, &err), &err);
  expect(aiinfra_model_open(rt, path, &opts, &model, &err), &err);
  expect(aii_grammar_from_schema(&mem, schema, &grammar, &err), &err);
  uint32_t n_vocab = aii_vocab_size(model->vocab);
  expect(aii_sampler_create(&mem, &(aii_sampling){.temperature = 1}, n_vocab, &s, &err), &err);
  float *logits = make_logits(n_vocab, false);
  for (int round = 0; round < 3 && logits != NULL; round++) {
    double us = 0, most = 0;
    int n = 0;
    for (int i = 0; i < 5; i++) n += draw_object(grammar, model->vocab, logits, s, &us, &most);
    printf("a grammar's mask over %u tokens: %.1f microseconds, at most %.1f, of %d\n", n_vocab, us / n, most, n);
  }
  free(logits);
  aii_sampler_free(s);
  aii_grammar_free(grammar);
  aiinfra_model_free(model);
  aiinfra_runtime_free(rt);
}

int main(int argc, char **argv)
{
  aii_mem_init(&mem, NULL, 0);
  if (argc > 1) time_grammar(argv[1]);
  for (size_t m = 0; m < AII_COUNT(models); m++) {
    uint32_t n = models[m].n_vocab;
    float *peaked = make_logits(n, true), *flat = make_logits(n, false);
    if (peaked == NULL || flat == NULL) return 1;
    printf("%u tokens, beside a step of %s, %.1f ms: microseconds, and per cent of a step\n%-24s %16s %16s\n", n,
           models[m].name, models[m].step_us * 1e-3, "", "peaked", "flat");
    for (size_t i = 0; i < AII_COUNT(choices); i++) {
      double p = best_us(choices[i].how, peaked, n), f = best_us(choices[i].how, flat, n);
      printf("%-24s %8.1f %5.2f %% %8.1f %5.2f %%\n", choices[i].name, p, 100 * p / models[m].step_us, f,
             100 * f / models[m].step_us);
    }
    free(peaked);
    free(flat);
  }
  return 0;
}
