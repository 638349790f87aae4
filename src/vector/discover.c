/* discover.c - search by pairs of examples, each of which says: rather like this than like that.
 *
 *   {"context": [{"positive": EXAMPLE, "negative": EXAMPLE}, ...]}
 *       the sum over the pairs of x / (1 + |x|) with x = min(0, score to the positive - score to the negative): 0 for rows
 *       that are nearer to each positive example than to its negative one, and less the farther they are from that
 *   {"discover": {"target": EXAMPLE, "context": [...]}}
 *       the pairs whose positive example is nearer, minus those whose negative one is, plus a part between 0 and 1 that
 *       grows with the score to the target: (t / (1 + |t|) + 1) / 2
 * Each row that passes is compared with each example. Rows that are examples are no hits.
 */
#include <math.h>

#include "lib/json/json.h"
#include "src/vector/tree.h"

enum { MAX_PAIRS = 256 };

/* ---- reading --------------------------------------------------------------------------------------------------- */

static aiinfra_status read_pairs(aii_stage *stage, const json_t *pairs, const char *path, aiinfra_error *err)
{
  static const char *const names[] = {"positive", "negative", NULL};
  aiinfra_status rc = AIINFRA_OK;
  if (!json_is_array(pairs) || json_array_size(pairs) > MAX_PAIRS) {
    return aii_fail(err, AIINFRA_EINVAL, "%s: context is not an array of up to %d pairs", path, MAX_PAIRS);
  }
  for (size_t i = 0; rc == AIINFRA_OK && i < json_array_size(pairs); i++) {
    const json_t *pair = json_array_get(pairs, i);
    if (json_is_object(pair)) rc = aii_check_names(pair, path, names, err);
    bool ok =
        aii_example_valid(json_object_get(pair, "positive")) && aii_example_valid(json_object_get(pair, "negative"));
    if (rc == AIINFRA_OK && !ok) {
      rc =
          aii_fail(err, AIINFRA_EINVAL, "%s: context[%zu] is not a pair of a positive and a negative example", path, i);
    }
  }
  stage->pairs = pairs;
  return rc;
}

aiinfra_status aii_discover_parse(aii_stage *stage, const json_t *query, const char *path, aiinfra_error *err)
{
  static const char *const names[] = {"target", "context", NULL};
  const json_t *context = json_object_get(query, "context");
  json_t *discover = NULL;
  if (context != NULL) {
    stage->kind = AII_STAGE_CONTEXT;
    if (json_is_array(context) && json_array_size(context) == 0) {
      return aii_fail(err, AIINFRA_EINVAL, "%s: context has no pairs", path);
    }
    return read_pairs(stage, context, path, err);
  }
  stage->kind = AII_STAGE_DISCOVER;
  aiinfra_status rc = aii_json_get_object(query, path, "discover", true, &discover, err);
  if (rc == AIINFRA_OK) rc = aii_check_names(discover, path, names, err);
  if (rc != AIINFRA_OK) return rc;
  stage->target = json_object_get(discover, "target");
  if (!aii_example_valid(stage->target)) {
    return aii_fail(err, AIINFRA_EINVAL, "%s: discover has no target that is an id or a vector", path);
  }
  context = json_object_get(discover, "context");
  return context != NULL && !json_is_null(context) ? read_pairs(stage, context, path, err) : AIINFRA_OK;
}

/* ---- ranking --------------------------------------------------------------------------------------------------- */

/* The examples: the target if there is one, then positive and negative ones in turn. */
static aiinfra_status read_all(aii_stage *stage, aiinfra_error *err)
{
  aii_search *s = &stage->s;
  size_t dims = s->target->index.dims, n_pairs = json_array_size(stage->pairs);
  const char *what = stage->target != NULL ? "discover" : "context";
  s->n_examples = 2 * n_pairs + (stage->target != NULL);
  s->examples = aii_new_array(s->target->index.mem, s->n_examples * dims, sizeof *s->examples);
  if (s->examples == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a search");
  float *to = s->examples;
  aiinfra_status rc = AIINFRA_OK;
  if (stage->target != NULL) {
    rc = aii_example_read(s, stage->target, what, to, err);
    to += dims;
  }
  for (size_t i = 0; rc == AIINFRA_OK && i < n_pairs; i++, to += 2 * dims) {
    const json_t *pair = json_array_get(stage->pairs, i);
    rc = aii_example_read(s, json_object_get(pair, "positive"), what, to, err);
    if (rc == AIINFRA_OK) rc = aii_example_read(s, json_object_get(pair, "negative"), what, to + dims, err);
  }
  return rc;
}

static double squashed(double x)
{
  return isinf(x) ? copysign(1, x) : x / (1 + fabs(x)); /* a distance may be beyond floats */
}

static double score_to(aii_search *s, const float *example, const float *vector)
{
  s->plan.n_scanned++;
  return (double)aii_index_score(&s->target->index, aii_index_dist(&s->target->index, example, vector));
}

static double score_of(aii_stage *stage, const float *vector)
{
  aii_search *s = &stage->s;
  size_t dims = s->target->index.dims;
  const float *example = s->examples;
  double score = 0;
  if (stage->target != NULL) {
    score = 0.5 * (squashed(score_to(s, example, vector)) + 1);
    example += dims;
  }
  for (size_t i = 0; i < json_array_size(stage->pairs); i++, example += 2 * dims) {
    double positive = score_to(s, example, vector), negative = score_to(s, example + dims, vector);
    if (stage->target == NULL) score += squashed(fmin(0, positive - negative));
    else score += (positive > negative) - (positive < negative);
  }
  return score;
}

aiinfra_status aii_discover_run(aii_stage *stage, aiinfra_error *err)
{
  aii_search *s = &stage->s;
  const aii_index *index = &s->target->index;
  aiinfra_status rc = aii_using_narrow(s, err);
  const uint64_t *passing;
  if (rc == AIINFRA_OK) rc = read_all(stage, err);
  if (rc == AIINFRA_OK) rc = aii_search_room(s, err);
  if (rc != AIINFRA_OK) return rc;
  float *vector = aii_new_array(index->mem, index->dims, sizeof *vector);
  if (vector == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a search");
  passing = aii_using_mask(s)->bits;
  s->plan.kind = AII_PLAN_EXACT;
  s->plan.why = "each row is compared with each example";
  for (uint32_t slot = 0; rc == AIINFRA_OK && slot < index->n; slot++) {
    if (aii_is_dead(index, slot) || (passing != NULL && !aii_bit(passing, slot))) continue;
    rc = aii_fetch_slot(s->target, s->view.sql, slot, vector, err);
    if (rc != AIINFRA_OK) break;
    int64_t id = aii_block_of(index, slot)->ids[slot % AII_BLOCK_SLOTS];
    aii_near_offer(s->by_vector, &s->n_vector, s->depth, (aii_near){id, -(float)score_of(stage, vector), slot});
  }
  aii_del(index->mem, vector, index->dims * sizeof *vector);
  aii_using_lift(s);
  aii_near_sort(s->by_vector, s->n_vector);
  return rc;
}
