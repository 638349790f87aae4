/* bench_sampler.c - what choosing a token costs in a vocabulary of today's size, and which share of a decode step that is.
 *
 * Two kinds of logits: "peaked", a few tokens stand out, as a trained model has it; "flat", all are within a few nats,
 * the worst case. A grammar is one of JSON over tokens of a real length. Each figure is the best of some runs of one thread.
 * The share is that of a step which reads the weights of such a model at 25 GB/s.
 */
#include <stdio.h>
#include <stdlib.h>

#include "src/model/model.h"
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

int main(void)
{
  aii_mem_init(&mem, NULL, 0);
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
