/* src/model/sampler.h - what the parts of the sampler share: its scratch memory, heaps of candidates.
 *
 * Private to sampler*.c. sampler.c is the door, greedy choice and top_k; sampler_all.c is what needs the whole vocabulary.
 */
#ifndef AII_MODEL_SAMPLER_H
#define AII_MODEL_SAMPLER_H

#include "kernels/kernels.h"
#include "src/model/model.h"

enum {
  RUN = AII_LOGIT_RUN, /* logits that are looked at, or summed, together; the floats that are summed lose little */
  BUCKETS = 1 << 12    /* by logit, */
};
#define BUCKETS_A_NAT 64.0f /* the last one has all beyond 64 nats */

typedef aii_candidate candidate;

struct aii_sampler {
  aii_mem *mem;
  aii_sampling how;
  uint32_t n_vocab;
  float scale;  /* nats a logit */
  uint32_t cap; /* of items: top_k, or the whole vocabulary; 0: greedy */
  const aii_kernels *k;
  candidate *items;    /* scratch, as all of these; NULL without top_k and top_p */
  double *weights;     /* [cap] with top_k; else NULL, and these are there: */
  float *w;            /* [n_vocab] */
  double *sums;        /* of runs of w */
  float *tops;         /* [runs] the largest logit of each */
  double *bucket_sums; /* [BUCKETS]; NULL without top_p */
  aii_rng rng;
};

static inline uint32_t n_runs(const aii_sampler *s)
{
  return (s->n_vocab - 1) / RUN + 1;
}

static inline uint32_t run_length(const aii_sampler *s, uint32_t run)
{
  return AII_MIN(s->n_vocab - run * RUN, (uint32_t)RUN);
}

static inline bool limits_share(const aii_sampling *how)
{
  return how->top_p > 0 && how->top_p < 1;
}

/* A heap of candidates: the best on top, or the worst. sift_down restores it below `at`. */
void aii_candidates_sift_down(candidate *items, uint32_t n, uint32_t at, bool worst_on_top);
void aii_candidates_make_heap(candidate *items, uint32_t n, bool worst_on_top);

/* sampler_all.c. top: the lowest id among the largest logits, which is a number. */
aiinfra_token aii_sampler_pick_of_all(aii_sampler *s, const float *logits, aiinfra_token top, double unit);
/* By what a device told; false: it does not suffice. */
bool aii_sampler_take_of_all(aii_sampler *s, const aii_shortlist *told, candidate top, aiinfra_token *out);

#endif
