/* sampler.c - draws the next token from logits: top_k, temperature, top_p, min_p, then one random number.
 *
 * A sampler belongs to one sequence. Each pick takes exactly one number from its generator, whatever the logits, so
 * that the n-th pick depends on the seed, on n and on its own logits alone. Candidates are ordered by logit, equal
 * ones by id, and all sums run in a fixed order: the result depends neither on the batch nor on the device.
 *
 * A vocabulary has a hundred thousand tokens and more, so nothing sorts it. top_k passes over all runs of logits that
 * have nothing better than its worst candidate. What needs the whole vocabulary is in sampler_all.c.
 *
 * Where logits lie on a device, it tells a few candidates of each row instead: aii_sampler_ask() says which, and
 * aii_sampler_take() ends with them as it would with the row, to the bit, or says that they do not suffice.
 *
 * Logits that are no numbers are taken as -INFINITY: never drawn. +INFINITY is certain: the lowest such id is drawn.
 * When nothing may be drawn at all, pick returns token 0; whoever needs to tell that apart looks at the logits.
 */
#include <float.h>
#include <math.h>

#include "src/model/sampler.h"

enum { LISTED = 256 }; /* candidates that a device tells when their number has no limit */

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

void aii_candidates_sift_down(candidate *items, uint32_t n, uint32_t at, bool worst_on_top)
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

void aii_candidates_make_heap(candidate *items, uint32_t n, bool worst_on_top)
{
  for (uint32_t i = n / 2; i-- > 0;) aii_candidates_sift_down(items, n, i, worst_on_top);
}

/* The best first. */
static void sort(candidate *items, uint32_t n)
{
  aii_candidates_make_heap(items, n, true);
  while (n > 1) {
    candidate worst = items[0];
    items[0] = items[--n];
    aii_candidates_sift_down(items, n, 0, true);
    items[n] = worst;
  }
}

/* ---- top_k: few candidates ------------------------------------------------------------------------------------------ */

static void offer(aii_sampler *s, uint32_t *n, candidate c)
{
  if (!(c.logit > -INFINITY)) return;
  if (*n < s->cap) {
    s->items[(*n)++] = c;
    if (*n == s->cap) aii_candidates_make_heap(s->items, *n, true);
  } else if (better(c, s->items[0])) {
    s->items[0] = c;
    aii_candidates_sift_down(s->items, *n, 0, true);
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

/* The weights of the n items, the likeliest weighs 1; returns their sum. */
static double weigh(aii_sampler *s, uint32_t n)
{
  double scale = 1.0 / (double)s->how.temperature, max = (double)s->items[0].logit, total = 0;
  for (uint32_t i = 0; i < n; i++) {
    s->weights[i] = exp(((double)s->items[i].logit - max) * scale);
    total += s->weights[i];
  }
  return total;
}

/* Draws from n items, in any order: those of top_p, of these those of min_p. */
static aiinfra_token pick_of_few(aii_sampler *s, uint32_t n, double unit)
{
  sort(s->items, n);
  double total = weigh(s, n), want = limits_share(&s->how) ? (double)s->how.top_p * total : INFINITY, sum = 0;
  uint32_t kept = 0, i = 0;
  while (kept < n && (kept == 0 || sum < want)) sum += s->weights[kept++];
  for (n = 0, total = 0; n < kept && s->weights[n] >= (double)s->how.min_p; n++) total += s->weights[n];
  double at = unit * total;
  for (; i + 1 < n; i++) {
    at -= s->weights[i];
    if (at < 0) break;
  }
  return s->items[i].id;
}

/* ---- the door ------------------------------------------------------------------------------------------------------- */

aiinfra_token aii_sampler_pick_at(aii_sampler *s, const float *logits, double unit)
{
  aiinfra_token top = largest(s, logits);
  if (s->cap == 0 || !isfinite(logits[top])) return top;
  if (s->cap < s->n_vocab) return pick_of_few(s, gather(s, logits), unit);
  return aii_sampler_pick_of_all(s, logits, top, unit);
}

aiinfra_token aii_sampler_pick(aii_sampler *s, const float *logits)
{
  return aii_sampler_pick_at(s, logits, aii_rng_unit(&s->rng));
}

void aii_sampler_ask(aii_sampler *s, aii_shortlist *row)
{
  bool share = limits_share(&s->how), few = s->cap < s->n_vocab;
  row->unit = aii_rng_unit(&s->rng);
  row->n_best = s->cap == 0 ? 1 : few ? s->cap : share || s->how.min_p > 0 ? LISTED : 1;
  if (row->n_best > AII_MAX_BEST) row->n_best = 0;
  if (few || (!share && s->how.min_p > 0)) return;
  row->scale = s->scale;
  row->draws = !share;
}

bool aii_sampler_take(aii_sampler *s, const aii_shortlist *told, aiinfra_token *out)
{
  if (told->n == 0) return false;
  candidate top = told->best[0];
  for (uint32_t i = 1; i < told->n; i++)
    if (told->best[i].logit > top.logit) top = told->best[i];
  *out = top.id;
  if (s->cap == 0 || !isfinite(top.logit)) return true;
  if (s->cap == s->n_vocab) return aii_sampler_take_of_all(s, told, top, out);
  memcpy(s->items, told->best, told->n * sizeof s->items[0]);
  *out = pick_of_few(s, told->n, told->unit);
  return true;
}
