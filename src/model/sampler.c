/* sampler.c - draws the next token from logits: top_k, temperature, top_p, min_p, then one random number.
 *
 * A sampler belongs to one sequence. Each pick takes exactly one number from its generator, whatever the logits, so
 * that the n-th pick depends on the seed, on n and on its own logits alone. Candidates are ordered by logit, equal
 * ones by id, and all sums run in a fixed order: the result depends neither on the batch nor on the CPU.
 *
 * A vocabulary has a hundred thousand tokens and more, so nothing sorts it. top_k passes over all runs of logits that
 * have nothing better than its worst candidate. Without top_k every token gets a weight, a float, and runs of them
 * sums; the draw skips runs. For top_p, weights that cannot matter are left out, the others are counted into buckets by
 * logit, and only the two buckets are sorted in which the limit and the draw lie.
 *
 * Logits that are no numbers are taken as -INFINITY: never drawn. +INFINITY is certain: the lowest such id is drawn.
 * When nothing may be drawn at all, pick returns token 0; whoever needs to tell that apart looks at the logits.
 */
#include <float.h>
#include <math.h>

#include "kernels/kernels.h"
#include "src/model/model.h"

enum {
  RUN = 256,        /* logits that are looked at, or summed, together; the floats that are summed lose little */
  LANES = 16,       /* of such sums; divides it */
  BUCKETS = 1 << 12 /* by logit, */
};
#define BUCKETS_A_NAT 64.0f /* the last one has all beyond 64 nats */

typedef struct candidate {
  float logit;
  aiinfra_token id;
} candidate;

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

static uint32_t n_runs(const aii_sampler *s)
{
  return (s->n_vocab - 1) / RUN + 1;
}

static uint32_t run_length(const aii_sampler *s, uint32_t run)
{
  return AII_MIN(s->n_vocab - run * RUN, (uint32_t)RUN);
}

static bool limits_share(const aii_sampling *how)
{
  return how->top_p > 0 && how->top_p < 1;
}

static aiinfra_status check(const aii_sampling *how, uint32_t n_vocab, aiinfra_error *err)
{
  if (!isfinite(how->temperature) || how->temperature < 0) {
    return aii_fail(err, AIINFRA_EINVAL, "temperature must be a number from 0 up");
  }
  if (!(how->top_p >= 0 && how->top_p <= 1) || !(how->min_p >= 0 && how->min_p <= 1) || how->top_k < 0) {
    return aii_fail(err, AIINFRA_EINVAL, "top_p and min_p must lie from 0 to 1, top_k from 0 up");
  }
  if (n_vocab == 0) return aii_fail(err, AIINFRA_EINVAL, "a sampler needs a vocabulary");
  return AIINFRA_OK;
}

static bool make_scratch(aii_sampler *s)
{
  bool few = s->cap < s->n_vocab, share = limits_share(&s->how);
  s->tops = aii_new_array(s->mem, n_runs(s), sizeof s->tops[0]);
  if (s->cap == 0 || s->tops == NULL) return s->tops != NULL;
  if (few || share) s->items = aii_new_array(s->mem, s->cap, sizeof s->items[0]);
  if (few) {
    s->weights = aii_new_array(s->mem, s->cap, sizeof s->weights[0]);
    return s->items != NULL && s->weights != NULL;
  }
  s->w = aii_new_array(s->mem, s->n_vocab, sizeof s->w[0]);
  s->sums = aii_new_array(s->mem, n_runs(s), sizeof s->sums[0]);
  if (share) s->bucket_sums = aii_new_array(s->mem, BUCKETS, sizeof s->bucket_sums[0]);
  return s->w != NULL && s->sums != NULL && (!share || (s->items != NULL && s->bucket_sums != NULL));
}

aiinfra_status aii_sampler_create(aii_mem *mem, const aii_sampling *how, uint32_t n_vocab, aii_sampler **out,
                                  aiinfra_error *err)
{
  *out = NULL;
  aiinfra_status rc = check(how, n_vocab, err);
  if (rc != AIINFRA_OK) return rc;
  aii_sampler *s = aii_new(mem, sizeof *s);
  if (s == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a sampler");
  s->mem = mem;
  s->how = *how;
  s->n_vocab = n_vocab;
  s->k = aii_kernels_get(AIINFRA_ISA_DEFAULT);
  s->scale = AII_MIN(1.0f / how->temperature, FLT_MAX / BUCKETS);
  aii_rng_seed(&s->rng, how->seed);
  if (how->temperature > 0 && how->top_k != 1) {
    s->cap = how->top_k > 0 ? AII_MIN((uint32_t)how->top_k, n_vocab) : n_vocab;
  }
  if (!make_scratch(s)) {
    aii_sampler_free(s);
    return aii_fail(err, AIINFRA_ENOMEM, "no memory to sample from %u tokens", n_vocab);
  }
  *out = s;
  return AIINFRA_OK;
}

void aii_sampler_free(aii_sampler *s)
{
  if (s == NULL) return;
  aii_del(s->mem, s->items, s->cap * sizeof s->items[0]);
  aii_del(s->mem, s->weights, s->cap * sizeof s->weights[0]);
  aii_del(s->mem, s->w, s->n_vocab * sizeof s->w[0]);
  aii_del(s->mem, s->tops, n_runs(s) * sizeof s->tops[0]);
  aii_del(s->mem, s->sums, n_runs(s) * sizeof s->sums[0]);
  aii_del(s->mem, s->bucket_sums, BUCKETS * sizeof s->bucket_sums[0]);
  aii_del(s->mem, s, sizeof *s);
}

/* ---- the largest -------------------------------------------------------------------------------------------------- */

/* Four floats at a time, as every machine can: compilers find no vectors in a search for the largest, because of NaN. */
typedef float four __attribute__((vector_size(16)));
typedef int32_t four_masks __attribute__((vector_size(16)));

static four larger(four a, four b)
{
  four_masks first = a > b;
  return (four)(((four_masks)a & first) | ((four_masks)b & ~first));
}

/* -INFINITY when there is no number: a comparison with NaN is false. */
static float largest_of(const float *x, uint32_t n)
{
  enum { WIDTH = 4, FOURS = 4 };
  const four least = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
  four lane[FOURS] = {least, least, least, least}, now;
  float top = -INFINITY;
  uint32_t i = 0;
  for (; i + FOURS * WIDTH <= n; i += FOURS * WIDTH) {
    for (uint32_t j = 0; j < FOURS; j++) {
      memcpy(&now, x + i + j * WIDTH, sizeof now);
      lane[j] = larger(now, lane[j]);
    }
  }
  lane[0] = larger(larger(lane[0], lane[1]), larger(lane[2], lane[3]));
  for (uint32_t j = 0; j < WIDTH; j++) top = lane[0][j] > top ? lane[0][j] : top;
  for (; i < n; i++) top = x[i] > top ? x[i] : top;
  return top;
}

/* The lowest id among the largest logits; 0 when there is none. Notes the largest of every run. */
static aiinfra_token largest(aii_sampler *s, const float *logits)
{
  uint32_t best = 0;
  float top = -INFINITY;
  for (uint32_t run = 0; run < n_runs(s); run++) {
    s->tops[run] = largest_of(logits + (size_t)run * RUN, run_length(s, run));
    if (!(s->tops[run] > top)) continue;
    top = s->tops[run];
    best = run;
  }
  if (!(top > -INFINITY)) return 0;
  best *= RUN;
  while (logits[best] != top) best++;
  return (aiinfra_token)best;
}

/* ---- a heap of candidates ------------------------------------------------------------------------------------------ */

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

/* ---- top_k: few candidates ------------------------------------------------------------------------------------------ */

static void offer(aii_sampler *s, uint32_t *n, candidate c)
{
  if (!(c.logit > -INFINITY)) return;
  if (*n < s->cap) {
    s->items[(*n)++] = c;
    if (*n == s->cap) make_heap(s->items, *n, true);
  } else if (better(c, s->items[0])) {
    s->items[0] = c;
    sift_down(s->items, *n, 0, true);
  }
}

/* The cap best candidates that may be drawn at all; returns how many there are. */
static uint32_t gather(aii_sampler *s, const float *logits)
{
  uint32_t n = 0;
  for (uint32_t run = 0; run < n_runs(s); run++) {
    if (n == s->cap && !(s->tops[run] > s->items[0].logit)) continue;
    for (uint32_t i = run * RUN, end = i + run_length(s, run); i < end; i++)
      offer(s, &n, (candidate){logits[i], (aiinfra_token)i});
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

static aiinfra_token pick_of_few(aii_sampler *s, const float *logits, aiinfra_token top, double unit)
{
  double max = (double)logits[top];
  uint32_t n = gather(s, logits);
  double total = weigh(s, n, max);
  if (limits_share(&s->how)) {
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

/* ---- the whole vocabulary ------------------------------------------------------------------------------------------- */

/* The weights of all tokens, the likeliest weighs 1, and the sums of runs; returns the sum of all. */
static double weigh_all(aii_sampler *s, const float *logits, float max)
{
  float scale = s->scale;
  double total = 0;
  for (uint32_t run = 0; run < n_runs(s); run++) {
    const float *x = logits + (size_t)run * RUN;
    float *w = s->w + (size_t)run * RUN;
    uint32_t n = run_length(s, run);
    for (uint32_t i = 0; i < n; i++) w[i] = x[i] > -INFINITY ? (x[i] - max) * scale : -INFINITY;
    s->sums[run] = (double)s->k->exp_sum(w, n, 0);
    total += s->sums[run];
  }
  return total;
}

/* Weights below min_p are 0; returns the sum of the others. */
static double drop_unlikely(aii_sampler *s)
{
  double total = 0;
  float least = s->how.min_p;
  for (uint32_t run = 0; run < n_runs(s); run++) {
    float *w = s->w + (size_t)run * RUN, lane[LANES] = {0};
    uint32_t n = run_length(s, run), i = 0;
    bool any = s->sums[run] >= (double)least;
    s->sums[run] = 0;
    if (!any) continue;
    for (uint32_t j = 0; j < n; j++) w[j] = w[j] < least ? 0 : w[j];
    for (; i + LANES <= n; i += LANES)
      for (uint32_t j = 0; j < LANES; j++) lane[j] += w[i + j];
    for (; i < n; i++) lane[0] += w[i];
    for (uint32_t j = 0; j < LANES; j++) s->sums[run] += (double)lane[j];
    total += s->sums[run];
  }
  return total;
}

/* Where the sum over the ids passes `at`. */
static aiinfra_token draw_by_id(const aii_sampler *s, aiinfra_token top, double at)
{
  aiinfra_token last = top;
  uint32_t run = 0;
  while (run + 1 < n_runs(s) && at >= s->sums[run]) at -= s->sums[run++];
  for (uint32_t i = run * RUN, end = i + run_length(s, run); i < end && s->sums[run] > 0; i++) {
    if (s->w[i] == 0) continue;
    last = (aiinfra_token)i;
    at -= (double)s->w[i];
    if (at < 0) break;
  }
  return last;
}

/* The larger the logit the lower; far ones share the last. */
static int32_t bucket_of(float scale, float max, float logit)
{
  float at = (max - logit) * scale;
  return (int32_t)(at < BUCKETS - 1 ? at : BUCKETS - 1);
}

/* The candidates for a share of top_p, and what each bucket of them weighs; returns how many there are. What weighs less
 * than the rest's share spread over all tokens is none: the others reach top_p without it. Nor is what is below min_p:
 * that, too, cuts the list of the best at some place. */
static uint32_t fill_buckets(aii_sampler *s, const float *logits, float max, double total)
{
  uint32_t n = 0;
  float least = (float)((1 - (double)s->how.top_p) * 0.5 * total / s->n_vocab), scale = s->scale * BUCKETS_A_NAT;
  least = AII_MAX(least, s->how.min_p);
  memset(s->bucket_sums, 0, BUCKETS * sizeof s->bucket_sums[0]);
  for (uint32_t run = 0; run < n_runs(s); run++) {
    if (s->sums[run] < (double)least) continue;
    for (uint32_t i = run * RUN, end = i + run_length(s, run); i < end; i++) {
      bool counts = s->w[i] >= least; /* no branch: it would be guessed wrong too often */
      s->items[n] = (candidate){logits[i], (aiinfra_token)i};
      n += counts;
      s->bucket_sums[bucket_of(scale, max, logits[i])] += counts ? (double)s->w[i] : 0;
    }
  }
  return n;
}

/* The bucket in which the sum over all, the best first, reaches `want`; *before: the sum of those before it. */
static int32_t find_bucket(const aii_sampler *s, double want, double *before)
{
  int32_t bucket = 0;
  double sum = 0;
  for (int32_t b = 0; b < BUCKETS && sum < want; b++) {
    if (s->bucket_sums[b] == 0) continue;
    bucket = b;
    *before = sum;
    sum += s->bucket_sums[b];
  }
  return bucket;
}

/* The candidate at which that sum reaches `want`; *sum: the sum with it. */
static aiinfra_token reach(aii_sampler *s, uint32_t n, float max, double want, double *sum)
{
  *sum = 0;
  int32_t bucket = find_bucket(s, want, sum);
  uint32_t heap = 0;
  float scale = s->scale * BUCKETS_A_NAT;
  aiinfra_token last = 0;
  for (uint32_t i = 0; i < n; i++) {
    if (bucket_of(scale, max, s->items[i].logit) != bucket) continue;
    candidate swap = s->items[heap];
    s->items[heap++] = s->items[i];
    s->items[i] = swap;
  }
  make_heap(s->items, heap, false);
  while (heap > 0) {
    candidate best = s->items[0];
    last = best.id;
    *sum += (double)s->w[last];
    if (*sum >= want) break;
    s->items[0] = s->items[--heap];
    s->items[heap] = best;
    sift_down(s->items, heap, 0, false);
  }
  return last;
}

static aiinfra_token pick_of_share(aii_sampler *s, const float *logits, aiinfra_token top, double unit)
{
  float max = logits[top];
  double total = weigh_all(s, logits, max), kept, ignored;
  uint32_t n = fill_buckets(s, logits, max, total);
  (void)reach(s, n, max, (double)s->how.top_p * total, &kept);
  return reach(s, n, max, unit * kept, &ignored);
}

static aiinfra_token pick_of_all(aii_sampler *s, const float *logits, aiinfra_token top, double unit)
{
  double total = weigh_all(s, logits, logits[top]);
  if (s->how.min_p > 0) total = drop_unlikely(s);
  return draw_by_id(s, top, unit * total);
}

aiinfra_token aii_sampler_pick(aii_sampler *s, const float *logits)
{
  double unit = aii_rng_unit(&s->rng);
  aiinfra_token top = largest(s, logits);
  if (s->cap == 0 || !isfinite(logits[top])) return top;
  if (s->cap < s->n_vocab) return pick_of_few(s, logits, top, unit);
  return limits_share(&s->how) ? pick_of_share(s, logits, top, unit) : pick_of_all(s, logits, top, unit);
}
