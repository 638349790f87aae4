/* sampler.c - draws the next token from logits: top_k, temperature, top_p, min_p, then one random number.
 *
 * A sampler belongs to one sequence. Each pick takes exactly one number from its generator, whatever the logits, so
 * that the n-th pick depends on the seed, on n and on its own logits alone. Candidates are ordered by logit, equal
 * ones by id, and all sums run in a fixed order in double precision: the result does not depend on the batch.
 *
 * Logits that are no numbers are taken as -INFINITY: never drawn. +INFINITY is certain: the lowest such id is drawn.
 * When nothing may be drawn at all, pick returns token 0; whoever needs to tell that apart looks at the logits.
 */
#include <math.h>

#include "src/model/model.h"

typedef struct candidate {
  float logit;
  aiinfra_token id;
} candidate;

struct aii_sampler {
  aii_mem *mem;
  aii_sampling how;
  uint32_t n_vocab;
  uint32_t cap;     /* of items: top_k, or the whole vocabulary; 0: greedy */
  candidate *items; /* scratch */
  double *weights;  /* scratch beside it */
  aii_rng rng;
};

aiinfra_status aii_sampler_create(aii_mem *mem, const aii_sampling *how, uint32_t n_vocab, aii_sampler **out,
                                  aiinfra_error *err)
{
  *out = NULL;
  if (!isfinite(how->temperature) || how->temperature < 0) {
    return aii_fail(err, AIINFRA_EINVAL, "temperature must be a number from 0 up");
  }
  if (!(how->top_p >= 0 && how->top_p <= 1) || !(how->min_p >= 0 && how->min_p <= 1) || how->top_k < 0) {
    return aii_fail(err, AIINFRA_EINVAL, "top_p and min_p must lie from 0 to 1, top_k from 0 up");
  }
  if (n_vocab == 0) return aii_fail(err, AIINFRA_EINVAL, "a sampler needs a vocabulary");
  aii_sampler *s = aii_new(mem, sizeof *s);
  if (s == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a sampler");
  s->mem = mem;
  s->how = *how;
  s->n_vocab = n_vocab;
  aii_rng_seed(&s->rng, how->seed);
  if (how->temperature > 0 && how->top_k != 1) {
    s->cap = how->top_k > 0 ? AII_MIN((uint32_t)how->top_k, n_vocab) : n_vocab;
    s->items = aii_new_array(mem, s->cap, sizeof s->items[0]);
    s->weights = aii_new_array(mem, s->cap, sizeof s->weights[0]);
    if (s->items == NULL || s->weights == NULL) {
      aii_sampler_free(s);
      return aii_fail(err, AIINFRA_ENOMEM, "no memory to sample from %u tokens", n_vocab);
    }
  }
  *out = s;
  return AIINFRA_OK;
}

void aii_sampler_free(aii_sampler *s)
{
  if (s == NULL) return;
  aii_del(s->mem, s->items, s->cap * sizeof s->items[0]);
  aii_del(s->mem, s->weights, s->cap * sizeof s->weights[0]);
  aii_del(s->mem, s, sizeof *s);
}

/* The lowest id among the largest logits; 0 when there is none. A comparison with NaN is false. */
static aiinfra_token largest(const float *logits, uint32_t n)
{
  uint32_t best = 0;
  float top = -INFINITY;
  for (uint32_t i = 0; i < n; i++) {
    if (logits[i] > top) {
      top = logits[i];
      best = i;
    }
  }
  return (aiinfra_token)best;
}

static bool better(candidate a, candidate b)
{
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

/* Restores a heap below `at`: the best item on top, or the worst when `worst_on_top`. */
static void sift_down(candidate *items, uint32_t n, uint32_t at, bool worst_on_top)
{
  candidate moved = items[at];
  for (;;) {
    uint32_t child = 2 * at + 1;
    if (child >= n) break;
    if (child + 1 < n && better(items[child + 1], items[child]) != worst_on_top) child++;
    if (better(items[child], moved) == worst_on_top) break;
    items[at] = items[child];
    at = child;
  }
  items[at] = moved;
}

static void make_heap(candidate *items, uint32_t n, bool worst_on_top)
{
  for (uint32_t i = n / 2; i-- > 0;) sift_down(items, n, i, worst_on_top);
}

/* The cap best candidates that may be drawn at all; returns how many there are. */
static uint32_t gather(aii_sampler *s, const float *logits)
{
  uint32_t n = 0;
  for (uint32_t i = 0; i < s->n_vocab; i++) {
    candidate c = {logits[i], (aiinfra_token)i};
    if (!(c.logit > -INFINITY)) continue;
    if (n < s->cap) {
      s->items[n++] = c;
      if (n == s->cap && s->cap < s->n_vocab) make_heap(s->items, n, true);
    } else if (better(c, s->items[0])) {
      s->items[0] = c;
      sift_down(s->items, n, 0, true);
    }
  }
  return n;
}

/* Sorts the most likely candidates to the front until their share reaches top_p; returns how many. The heap shrinks
 * from the end: what was taken is swapped behind it, best last, and turned round at the end. */
static uint32_t keep_top_p(aii_sampler *s, uint32_t n, double max, double total)
{
  double scale = 1.0 / (double)s->how.temperature, want = (double)s->how.top_p * total, sum = 0;
  uint32_t heap = n;
  make_heap(s->items, n, false);
  while (heap > 0 && (heap == n || sum < want)) {
    candidate best = s->items[0];
    s->items[0] = s->items[--heap];
    sift_down(s->items, heap, 0, false);
    s->items[heap] = best;
    sum += exp(((double)best.logit - max) * scale);
  }
  uint32_t kept = n - heap;
  for (uint32_t i = 0, j = n - 1; i < kept && i < j; i++, j--) {
    candidate swap = s->items[i];
    s->items[i] = s->items[j];
    s->items[j] = swap;
  }
  return kept;
}

static double weigh(aii_sampler *s, uint32_t n, double max)
{
  double scale = 1.0 / (double)s->how.temperature, total = 0;
  for (uint32_t i = 0; i < n; i++) {
    s->weights[i] = exp(((double)s->items[i].logit - max) * scale);
    total += s->weights[i];
  }
  return total;
}

static double drop_below_min_p(aii_sampler *s, uint32_t n)
{
  double total = 0;
  for (uint32_t i = 0; i < n; i++) {
    if (s->weights[i] < (double)s->how.min_p) s->weights[i] = 0; /* the likeliest weighs 1 */
    total += s->weights[i];
  }
  return total;
}

aiinfra_token aii_sampler_pick(aii_sampler *s, const float *logits)
{
  double unit = aii_rng_unit(&s->rng);
  aiinfra_token top = largest(logits, s->n_vocab);
  double max = (double)logits[top];
  if (s->cap == 0 || !isfinite(max)) return top;

  uint32_t n = gather(s, logits);
  double total = weigh(s, n, max);
  if (s->how.top_p > 0 && s->how.top_p < 1) {
    n = keep_top_p(s, n, max, total);
    total = weigh(s, n, max);
  }
  if (s->how.min_p > 0) total = drop_below_min_p(s, n);
  double at = unit * total;
  aiinfra_token last = top;
  for (uint32_t i = 0; i < n; i++) {
    if (s->weights[i] == 0) continue;
    last = s->items[i].id;
    at -= s->weights[i];
    if (at < 0) break;
  }
  return last;
}
