/* sampler_all.c - draws from the whole vocabulary: every token has a weight, a float, and runs of them have sums.
 *
 * Without top_p the draw goes by id and skips runs. For top_p, weights that cannot matter are left out, the others are
 * counted into buckets by logit, and only the two buckets are sorted in which the limit and the draw lie.
 *
 * By what a device told, the same sums come of fewer logits: of those of min_p, if all are among its candidates; of the
 * buckets up to the limit of top_p, if all that is in them is; of the run of the draw, which it has found.
 */
#include <math.h>

#include "src/model/sampler.h"

enum { LANES = 16 }; /* of sums that min_p made smaller; divides RUN */

/* ---- the whole vocabulary ------------------------------------------------------------------------------------------- */

/* The weights of n logits, the likeliest of all weighs 1; returns their sum. */
static double weigh(const aii_sampler *s, const float *x, uint32_t n, float max, float *w)
{
  float scale = s->scale;
  for (uint32_t i = 0; i < n; i++) w[i] = x[i] > -INFINITY ? (x[i] - max) * scale : -INFINITY;
  return (double)s->k->exp_sum(w, n, 0);
}

static double weigh_all(aii_sampler *s, const float *logits, float max)
{
  double total = 0;
  for (uint32_t run = 0; run < n_runs(s); run++) {
    size_t at = (size_t)run * RUN;
    s->sums[run] = weigh(s, logits + at, run_length(s, run), max, s->w + at);
    total += s->sums[run];
  }
  return total;
}

/* Weights of a run below min_p are 0; returns the sum of the others. */
static double sum_likely(const aii_sampler *s, uint32_t run)
{
  float *w = s->w + (size_t)run * RUN, lane[LANES] = {0}, least = s->how.min_p;
  uint32_t n = run_length(s, run), i = 0;
  double sum = 0;
  for (uint32_t j = 0; j < n; j++) w[j] = w[j] < least ? 0 : w[j];
  for (; i + LANES <= n; i += LANES)
    for (uint32_t j = 0; j < LANES; j++) lane[j] += w[i + j];
  for (; i < n; i++) lane[0] += w[i];
  for (uint32_t j = 0; j < LANES; j++) sum += (double)lane[j];
  return sum;
}

static double drop_unlikely(aii_sampler *s)
{
  double total = 0;
  for (uint32_t run = 0; run < n_runs(s); run++) {
    s->sums[run] = s->sums[run] < (double)s->how.min_p ? 0 : sum_likely(s, run);
    total += s->sums[run];
  }
  return total;
}

/* Where the sum over a run's ids passes `at`; top: it has no weight. */
static aiinfra_token draw_of_run(const aii_sampler *s, uint32_t run, aiinfra_token top, double at)
{
  aiinfra_token last = top;
  for (uint32_t i = run * RUN, end = i + run_length(s, run); i < end; i++) {
    if (s->w[i] == 0) continue;
    last = (aiinfra_token)i;
    at -= (double)s->w[i];
    if (at < 0) break;
  }
  return last;
}

static aiinfra_token draw_by_id(const aii_sampler *s, aiinfra_token top, double at)
{
  uint32_t run = 0;
  while (run + 1 < n_runs(s) && at >= s->sums[run]) at -= s->sums[run++];
  return s->sums[run] > 0 ? draw_of_run(s, run, top, at) : top;
}

/* The larger the logit the lower; far ones share the last. */
static int32_t bucket_of(float scale, float max, float logit)
{
  float at = (max - logit) * scale;
  return (int32_t)(at < BUCKETS - 1 ? at : BUCKETS - 1);
}

/* What weighs less is no candidate for a share of top_p. Less than the rest's share spread over all tokens: the others
 * reach top_p without it. Less than min_p: that, too, cuts the list of the best at some place. */
static float least_of_share(const aii_sampler *s, double total)
{
  float least = (float)((1 - (double)s->how.top_p) * 0.5 * total / s->n_vocab);
  return AII_MAX(least, s->how.min_p);
}

/* Those candidates, and what each bucket of them weighs; returns how many there are. */
static uint32_t fill_buckets(aii_sampler *s, const float *logits, float max, double total)
{
  uint32_t n = 0;
  float least = least_of_share(s, total), scale = s->scale * BUCKETS_A_NAT;
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
  aii_candidates_make_heap(s->items, heap, false);
  while (heap > 0) {
    candidate best = s->items[0];
    last = best.id;
    *sum += (double)s->w[last];
    if (*sum >= want) break;
    s->items[0] = s->items[--heap];
    s->items[heap] = best;
    aii_candidates_sift_down(s->items, heap, 0, false);
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

aiinfra_token aii_sampler_pick_of_all(aii_sampler *s, const float *logits, aiinfra_token top, double unit)
{
  if (limits_share(&s->how)) return pick_of_share(s, logits, top, unit);
  double total = weigh_all(s, logits, logits[top]);
  if (s->how.min_p > 0) total = drop_unlikely(s);
  return draw_by_id(s, top, unit * total);
}

/* ---- what a device told --------------------------------------------------------------------------------------------- */

/* The weights of its candidates, in their tokens' places; returns the least logit. */
static float weigh_told(aii_sampler *s, const aii_shortlist *told, float max)
{
  float worst = INFINITY;
  for (uint32_t i = 0; i < told->n; i++) {
    const candidate *c = &told->best[i];
    (void)weigh(s, &c->logit, 1, max, &s->w[c->id]);
    worst = AII_MIN(worst, c->logit);
  }
  return worst;
}

/* Nothing that it did not tell weighs `least` or more; with a margin, as weights are rounded. */
static bool told_all(const aii_sampler *s, const aii_shortlist *told, float max, float worst, float least)
{
  const float margin = 0.999f;
  float w;
  (void)weigh(s, &worst, 1, max, &w);
  return told->n < told->n_best || w < margin * least;
}

/* The first buckets reach it. */
static bool is_within(const aii_sampler *s, int32_t buckets, double want)
{
  double sum = 0;
  for (int32_t b = 0; b < buckets && sum < want; b++) sum += s->bucket_sums[b];
  return buckets == BUCKETS || sum >= want;
}

static bool take_of_share(aii_sampler *s, const aii_shortlist *told, float max, aiinfra_token *out)
{
  float least = least_of_share(s, told->total), scale = s->scale * BUCKETS_A_NAT, worst = weigh_told(s, told, max);
  int32_t whole = told_all(s, told, max, worst, least) ? BUCKETS : bucket_of(scale, max, worst);
  double want = (double)s->how.top_p * told->total, kept, ignored;
  uint32_t n = 0;
  memset(s->bucket_sums, 0, BUCKETS * sizeof s->bucket_sums[0]);
  for (uint32_t i = 0; i < told->n; i++) {
    candidate c = told->best[i];
    if (!(s->w[c.id] >= least)) continue;
    s->items[n++] = c;
    s->bucket_sums[bucket_of(scale, max, c.logit)] += (double)s->w[c.id];
  }
  if (!is_within(s, whole, want)) return false;
  (void)reach(s, n, max, want, &kept);
  if (!is_within(s, whole, told->unit * kept)) return false;
  *out = reach(s, n, max, told->unit * kept, &ignored);
  return true;
}

static bool take_of_likely(aii_sampler *s, const aii_shortlist *told, candidate top, aiinfra_token *out)
{
  double total = 0;
  memset(s->sums, 0, n_runs(s) * sizeof s->sums[0]);
  for (uint32_t i = 0, run = UINT32_MAX; i < told->n; i++) {
    if ((uint32_t)told->best[i].id / RUN == run) continue;
    run = (uint32_t)told->best[i].id / RUN;
    memset(s->w + (size_t)run * RUN, 0, run_length(s, run) * sizeof s->w[0]);
  }
  if (!told_all(s, told, top.logit, weigh_told(s, told, top.logit), s->how.min_p)) return false;
  for (uint32_t i = 0, run = UINT32_MAX; i < told->n; i++) {
    if ((uint32_t)told->best[i].id / RUN == run) continue;
    run = (uint32_t)told->best[i].id / RUN;
    s->sums[run] = sum_likely(s, run);
    total += s->sums[run];
  }
  *out = draw_by_id(s, top.id, told->unit * total);
  return true;
}

bool aii_sampler_take_of_all(aii_sampler *s, const aii_shortlist *told, candidate top, aiinfra_token *out)
{
  if (limits_share(&s->how)) return take_of_share(s, told, top.logit, out);
  if (s->how.min_p > 0) return take_of_likely(s, told, top, out);
  (void)weigh(s, told->logits, run_length(s, told->run), top.logit, s->w + (size_t)told->run * RUN);
  *out = draw_of_run(s, told->run, top.id, told->at);
  return true;
}
