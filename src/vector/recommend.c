/* recommend.c - search by examples: rows that should be like some rows and unlike others.
 *
 *   average     one vector: the mean of the positive examples, moved away from the mean of the negative ones
 *   best_score  each row by itself: near its best positive example, unless a negative one is nearer
 * The examples are no hits. What can fail: an example that is not there, examples that cancel out, memory.
 */
#include <math.h>

#include "src/vector/search.h"

/* Takes the examples out of the masks, reads their vectors to `to` and adds them up. */
static aiinfra_status take(aii_search *s, const json_t *examples, float *to, double *sum, aiinfra_error *err)
{
  const aii_index *index = &s->target->index;
  for (size_t i = 0; i < json_array_size(examples); i++, to += index->dims) {
    aiinfra_status rc = aii_example_read(s, json_array_get(examples, i), "recommend", to, err);
    if (rc != AIINFRA_OK) return rc;
    for (uint32_t d = 0; d < index->dims; d++) sum[d] += (double)to[d];
  }
  return AIINFRA_OK;
}

static aiinfra_status average(aii_search *s, const double *positive, const double *negative, float *vector,
                              aiinfra_error *err)
{
  size_t n_positive = json_array_size(s->o.positive), n_negative = json_array_size(s->o.negative);
  double length = 0;
  for (uint32_t d = 0; d < s->target->index.dims; d++) {
    double mean = positive[d] / (double)n_positive;
    double value = n_negative == 0 ? mean : 2 * mean - negative[d] / (double)n_negative;
    vector[d] = (float)value;
    length += value * value;
  }
  if (!(length > 0 && length < INFINITY) && s->target->index.metric == AIINFRA_METRIC_COSINE) {
    return aii_fail(err, AIINFRA_EINVAL, "recommend: the examples cancel out; give others");
  }
  s->vector = aii_index_new_query(&s->target->index, vector);
  return s->vector != NULL ? AIINFRA_OK : aii_fail(err, AIINFRA_ENOMEM, "no memory for a search");
}

aiinfra_status aii_recommend_prepare(aii_search *s, aiinfra_error *err)
{
  aii_mem *mem = s->store->index.mem;
  size_t dims = s->target->index.dims;
  double *sums = aii_new_array(mem, 2 * dims, sizeof *sums);
  float *vector = aii_new_array(mem, dims, sizeof *vector);
  size_t n_positive = json_array_size(s->o.positive);
  s->n_examples = n_positive + json_array_size(s->o.negative);
  s->examples = aii_new_array(mem, s->n_examples * dims, sizeof *s->examples);
  bool ok = sums != NULL && vector != NULL && s->examples != NULL;
  aiinfra_status rc = ok ? aii_search_own_mask(s, err) : aii_fail(err, AIINFRA_ENOMEM, "no memory for a search");
  if (rc == AIINFRA_OK) rc = take(s, s->o.positive, s->examples, sums, err);
  if (rc == AIINFRA_OK) rc = take(s, s->o.negative, s->examples + n_positive * dims, sums + dims, err);
  if (rc == AIINFRA_OK && !s->o.best_score) rc = average(s, sums, sums + dims, vector, err);
  aii_del(mem, sums, 2 * dims * sizeof *sums);
  aii_del(mem, vector, dims * sizeof *vector);
  return rc;
}

/* The best score of a vector against n examples; -INFINITY: there are none. */
static double best(aii_search *s, const float *examples, size_t n, const float *vector)
{
  const aii_index *index = &s->target->index;
  double score = -INFINITY;
  for (size_t i = 0; i < n; i++) {
    float dist = aii_index_dist(index, examples + i * index->dims, vector);
    score = fmax(score, (double)aii_index_score(index, dist));
    s->plan.n_scanned++;
  }
  return score;
}

/* (-1, 0) for rows nearer to a negative example, (0, 1) for the others, whatever the metric's range. */
static float squashed(double positive, double negative)
{
  double score = positive > negative ? positive : negative, share = 0.5 * (score / (1 + fabs(score)) + 1);
  return (float)(positive > negative ? share : -share);
}

aiinfra_status aii_recommend_best(aii_search *s, aiinfra_error *err)
{
  const aii_index *index = &s->target->index;
  size_t n_positive = json_array_size(s->o.positive), n_negative = s->n_examples - n_positive;
  aiinfra_status rc = AIINFRA_OK;
  float *vector = aii_new_array(index->mem, index->dims, sizeof *vector);
  if (vector == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a search");
  s->plan.kind = AII_PLAN_EXACT;
  s->plan.why = "best_score compares each row with each example";
  for (uint32_t slot = 0; rc == AIINFRA_OK && slot < index->n; slot++) {
    if (!aii_bit(aii_using_mask(s)->bits, slot)) continue;
    rc = aii_fetch_slot(s->target, s->view.sql, slot, vector, err);
    if (rc != AIINFRA_OK) break;
    float score = squashed(best(s, s->examples, n_positive, vector),
                           best(s, s->examples + n_positive * index->dims, n_negative, vector));
    int64_t id = aii_block_of(index, slot)->ids[slot % AII_BLOCK_SLOTS];
    aii_near_offer(s->by_vector, &s->n_vector, s->depth, (aii_near){id, -score, slot});
  }
  aii_del(index->mem, vector, index->dims * sizeof *vector);
  return rc;
}
