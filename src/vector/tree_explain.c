/* tree_explain.c - how the stages of a query found their hits, as JSON.
 *
 *   {"stage": "fusion", "candidates": 14, "payloads": "memory",
 *    "hits": [{"id": 3, "score": .., "prefetch": [{"rank": 1, "score": ..}, null]}], "prefetch": [STAGE, ...]}
 * A formula's hit has "formula" besides: its terms with their values. A stage that searches has the plan of explain.c.
 * Only memory can fail, and what reads the payload of a hit again.
 */
#include "src/vector/tree.h"

static void add_list(const aii_stage *child, uint32_t rank, aii_buf *json)
{
  if (rank == 0) {
    aii_buf_str(json, "null");
    return;
  }
  aii_buf_fmt(json, "{\"rank\":%u,\"score\":", rank);
  aii_buf_double(json, (double)child->s.ranked[rank - 1].hit.score, 9);
  aii_buf_char(json, '}');
}

static aiinfra_status add_combined(aii_stage *stage, const aii_ranked *r, aii_buf *json, aiinfra_error *err)
{
  uint32_t at = aii_idmap_get(&stage->at, r->hit.id), list = 0;
  double score;
  aii_buf_fmt(json, "{\"id\":%lld,\"score\":", (long long)r->hit.id);
  aii_buf_double(json, (double)r->hit.score, 9);
  aii_buf_str(json, ",\"prefetch\":[");
  for (const aii_stage *child = stage->child; child != NULL; child = child->next, list++) {
    if (list > 0) aii_buf_char(json, ',');
    add_list(child, stage->ranks[at * stage->n_children + list], json);
  }
  aii_buf_char(json, ']');
  if (stage->formula == NULL) return AIINFRA_OK;
  aiinfra_status rc = aii_stage_score(stage, at, &score, err);
  if (rc != AIINFRA_OK) return rc;
  aii_buf_str(json, ",\"formula\":");
  aii_formula_explain(stage->formula, json);
  return AIINFRA_OK;
}

static aiinfra_status add_hits(aii_stage *stage, bool combines, aii_buf *json, aiinfra_error *err)
{
  aiinfra_status rc = AIINFRA_OK;
  aii_buf_str(json, ",\"hits\":[");
  for (size_t i = 0; rc == AIINFRA_OK && i < stage->s.n_ranked; i++) {
    const aii_ranked *r = &stage->s.ranked[i];
    if (i > 0) aii_buf_char(json, ',');
    if (combines) rc = add_combined(stage, r, json, err);
    else aii_explain_hit(&stage->s, r, json);
    if (combines) aii_explain_group(&stage->s, r, json);
    aii_buf_char(json, '}');
  }
  aii_buf_char(json, ']');
  return rc;
}

/* Bounded by AII_STAGE_DEPTH. */
static aiinfra_status add_stage(aii_stage *stage, aii_buf *json, aiinfra_error *err)
{
  static const char *const kinds[] = {"nearest", "recommend", "discover", "context", "fusion", "formula"};
  static const char *const payloads[] = {"unread", "memory", "rows"};
  bool combines = stage->kind == AII_STAGE_FUSION || stage->kind == AII_STAGE_FORMULA;
  aii_buf_fmt(json, "{\"stage\":\"%s\",", kinds[stage->kind]);
  if (combines) {
    aii_buf_fmt(json, "\"candidates\":%zu,\"passing\":%u", stage->n, stage->passing.n_passing);
    aii_buf_fmt(json, ",\"payloads\":\"%s\"", payloads[stage->s.payloads]);
  } else {
    aii_explain_plan(&stage->s, json);
  }
  aiinfra_status rc = add_hits(stage, combines, json, err);
  if (stage->child != NULL) aii_buf_str(json, ",\"prefetch\":[");
  for (aii_stage *child = stage->child; rc == AIINFRA_OK && child != NULL; child = child->next) {
    rc = add_stage(child, json, err);
    if (child->next != NULL) aii_buf_char(json, ',');
  }
  aii_buf_str(json, stage->child != NULL ? "]}" : "}");
  return rc;
}

aiinfra_status aii_tree_explain(aii_stage *outermost, aii_buf *json, aiinfra_error *err)
{
  return add_stage(outermost, json, err);
}
