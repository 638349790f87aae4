/* fuse.c - several lists of hits become one.
 *
 *   {"fusion": "rrf"}, {"rrf": {"k": 60, "weights": [2, 1]}}     the sum of weight / (k + rank), ranks from 1
 *   {"fusion": "dbsf"}                                           as weighted with the norm dbsf
 *   {"weighted": {"weights": [0.7, 0.3], "norm": "minmax"}}      the sum of weight * score, each list's scores as
 *       minmax   (score - least) / (most - least) of the list; 1 where all are equal
 *       dbsf     (score - mean + 3 deviations) / 6 deviations of the list; 0.5 where all are equal
 *       none     the scores themselves
 * A list that does not have a hit adds nothing to it. Weights are 1 by default, and at least 0.
 */
#include <float.h>
#include <math.h>

#include "lib/json/json.h"
#include "src/vector/tree.h"

enum { RRF_K = 60 };

/* ---- reading --------------------------------------------------------------------------------------------------- */

static aiinfra_status read_weights(aii_stage *stage, const json_t *obj, const char *path, aiinfra_error *err)
{
  json_t *weights = NULL;
  aiinfra_status rc = aii_json_get_array(obj, path, "weights", false, &weights, err);
  for (size_t i = 0; rc == AIINFRA_OK && i < json_array_size(weights); i++) {
    const json_t *weight = json_array_get(weights, i);
    if (json_is_number(weight) && json_number_value(weight) >= 0 && json_number_value(weight) <= 1e9) continue;
    rc = aii_fail(err, AIINFRA_EINVAL, "%s: weights are not numbers from 0 to 1e9", path);
  }
  stage->fuse.weights = weights;
  return rc;
}

static aiinfra_status read_rrf(aii_stage *stage, const json_t *obj, const char *path, aiinfra_error *err)
{
  static const char *const names[] = {"k", "weights", NULL};
  aiinfra_status rc = aii_check_names(obj, path, names, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_num(obj, path, "k", false, &stage->fuse.k, err);
  if (rc == AIINFRA_OK) rc = read_weights(stage, obj, path, err);
  if (rc != AIINFRA_OK || (stage->fuse.k >= 0 && stage->fuse.k <= 1e6)) return rc;
  return aii_fail(err, AIINFRA_EINVAL, "%s: k is not 0 to 1000000", path);
}

static aiinfra_status read_weighted(aii_stage *stage, const json_t *obj, const char *path, aiinfra_error *err)
{
  static const char *const names[] = {"weights", "norm", NULL};
  const char *norm = "minmax";
  aiinfra_status rc = aii_check_names(obj, path, names, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_str(obj, path, "norm", false, &norm, err);
  if (rc == AIINFRA_OK) rc = read_weights(stage, obj, path, err);
  if (rc != AIINFRA_OK) return rc;
  if (strcmp(norm, "minmax") == 0) stage->fuse.norm = AII_FUSE_MINMAX;
  else if (strcmp(norm, "dbsf") == 0) stage->fuse.norm = AII_FUSE_DBSF;
  else if (strcmp(norm, "none") == 0) stage->fuse.norm = AII_FUSE_SCORES;
  else return aii_fail(err, AIINFRA_EINVAL, "%s: norm is neither minmax nor dbsf nor none", path);
  return AIINFRA_OK;
}

aiinfra_status aii_fuse_parse(aii_stage *stage, const json_t *query, const char *path, aiinfra_error *err)
{
  const char *fusion = "rrf";
  json_t *obj = NULL;
  stage->kind = AII_STAGE_FUSION;
  stage->fuse.k = RRF_K;
  if (json_object_get(query, "fusion") != NULL) {
    aiinfra_status rc = aii_json_get_str(query, path, "fusion", true, &fusion, err);
    if (rc != AIINFRA_OK) return rc;
    if (strcmp(fusion, "dbsf") == 0) stage->fuse.norm = AII_FUSE_DBSF;
    else if (strcmp(fusion, "rrf") != 0) {
      return aii_fail(err, AIINFRA_EINVAL, "%s: fusion is neither rrf nor dbsf", path);
    }
    return AIINFRA_OK;
  }
  bool ranks = json_object_get(query, "rrf") != NULL;
  aiinfra_status rc = aii_json_get_object(query, path, ranks ? "rrf" : "weighted", true, &obj, err);
  if (rc != AIINFRA_OK) return rc;
  return ranks ? read_rrf(stage, obj, path, err) : read_weighted(stage, obj, path, err);
}

/* ---- fusing ---------------------------------------------------------------------------------------------------- */

/* A score counts as (score - from) / span. */
typedef struct scale {
  double from, span, flat; /* span 0: it counts as flat */
} scale;

/* A distance may be beyond floats: that is as bad as it gets. */
static double score_at(const aii_search *list, size_t i)
{
  return fmax((double)list->ranked[i].hit.score, -(double)FLT_MAX);
}

static scale scale_of(const aii_fuse *fuse, const aii_search *list)
{
  double n = (double)list->n_ranked, sum = 0, squares = 0, least = INFINITY, most = -INFINITY;
  if (fuse->norm == AII_FUSE_SCORES || list->n_ranked == 0) return (scale){0, 1, 0};
  for (size_t i = 0; i < list->n_ranked; i++) {
    double score = score_at(list, i);
    sum += score;
    least = fmin(least, score);
    most = fmax(most, score);
  }
  if (fuse->norm == AII_FUSE_MINMAX) return (scale){least, most - least, 1};
  for (size_t i = 0; i < list->n_ranked; i++) {
    double off = score_at(list, i) - sum / n;
    squares += off * off;
  }
  double deviation = list->n_ranked > 1 && most > least ? sqrt(squares / (n - 1)) : 0;
  return (scale){sum / n - 3 * deviation, 6 * deviation, 0.5};
}

void aii_fuse_scores(const aii_stage *stage, double *scores)
{
  const aii_fuse *fuse = &stage->fuse;
  uint32_t at = 0;
  for (size_t i = 0; i < stage->n; i++) scores[i] = 0;
  for (const aii_stage *list = stage->child; list != NULL; list = list->next, at++) {
    double weight = fuse->weights != NULL ? json_number_value(json_array_get(fuse->weights, at)) : 1;
    scale by = scale_of(fuse, &list->s);
    for (size_t i = 0; i < stage->n; i++) {
      uint32_t rank = stage->ranks[i * stage->n_children + at];
      if (rank == 0) continue;
      double score = score_at(&list->s, rank - 1);
      if (fuse->norm == AII_FUSE_RANKS) scores[i] += weight / (fuse->k + rank);
      else scores[i] += weight * (by.span > 0 ? (score - by.from) / by.span : by.flat);
    }
  }
}
