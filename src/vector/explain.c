/* explain.c - how a query was answered, as JSON: the plan with its counts and reason, and why each hit is where it is.
 *
 *   {"plan": "exact", "why": "few rows pass", "passing": 12, "scanned": 12, "ef": 64, "tested": 0, "kept": true,
 *    "payloads": "memory", "hits": [{"id": 3, "score": .., "vector_rank": 1, "vector_score": .., "word_rank": 2,
 *    "text_score": .., "group": "en"}]}
 * Ranks and scores of a ranking that did not find the hit are null. Only memory can fail.
 */
#include <math.h>

#include "src/vector/search.h"

static void add_score(aii_buf *json, const char *name, float score)
{
  aii_buf_fmt(json, ",\"%s\":", name);
  if (isfinite(score)) aii_buf_double(json, (double)score, 9);
  else aii_buf_str(json, "null");
}

static void add_rank(aii_buf *json, const char *name, uint32_t rank)
{
  if (rank > 0) aii_buf_fmt(json, ",\"%s\":%u", name, rank);
  else aii_buf_fmt(json, ",\"%s\":null", name);
}

void aii_explain_group(const aii_search *s, const aii_ranked *r, aii_buf *json)
{
  if (r->group == AII_NO_SLOT) return;
  const aii_key_name *value = &s->column.values.names[s->groups[r->group]];
  aii_buf_str(json, ",\"group\":");
  aii_buf_add(json, value->s, value->n - 1);
}

void aii_explain_hit(const aii_search *s, const aii_ranked *r, aii_buf *json)
{
  aii_buf_fmt(json, "{\"id\":%lld", (long long)r->hit.id);
  add_score(json, "score", r->hit.score);
  add_rank(json, "vector_rank", r->vector_rank);
  add_score(json, "vector_score", r->hit.vector_score);
  add_rank(json, "word_rank", r->word_rank);
  add_score(json, "text_score", r->hit.text_score);
  if (s->sparse != NULL) {
    add_rank(json, "sparse_rank", r->sparse_rank);
    add_score(json, "sparse_score", r->sparse_rank > 0 ? r->sparse_score : NAN);
  }
  aii_explain_group(s, r, json);
}

void aii_explain_plan(const aii_search *s, aii_buf *json)
{
  static const char *const payloads[] = {"unread", "memory", "rows"};
  if (s->wants_vectors) {
    aii_buf_fmt(json, "\"plan\":\"%s\",\"why\":\"%s\"", aii_searchplan_name(&s->plan), s->plan.why);
  } else {
    aii_buf_fmt(json, "\"plan\":\"%s\",\"why\":\"there is no vector\"", s->q->text != NULL ? "words" : "sparse");
  }
  if (s->target != s->store) {
    aii_buf_str(json, ",\"using\":");
    aii_buf_json(json, s->target->label, strlen(s->target->label));
  }
  if (s->wants_vectors || s->filter != NULL) aii_buf_fmt(json, ",\"passing\":%u", s->mask.n_passing);
  aii_buf_fmt(json, ",\"scanned\":%llu,\"ef\":%u", (unsigned long long)s->plan.n_scanned, s->plan.ef);
  aii_buf_fmt(json, ",\"tested\":%u,\"kept\":%s,\"payloads\":\"%s\"", s->mask.n_tested, s->mask.kept ? "true" : "false",
              payloads[s->payloads]);
}

aiinfra_status aii_explain(const aii_search *s, char **out, aiinfra_error *err)
{
  aii_buf json;
  aii_buf_init(&json, s->store->index.mem, 0);
  aii_buf_char(&json, '{');
  aii_explain_plan(s, &json);
  aii_buf_str(&json, ",\"hits\":[");
  for (size_t i = 0; i < s->n_ranked; i++) {
    if (i > 0) aii_buf_char(&json, ',');
    aii_explain_hit(s, &s->ranked[i], &json);
    aii_buf_char(&json, '}');
  }
  aii_buf_str(&json, "]}");
  aiinfra_status rc = aii_buf_export(&json, out, err);
  aii_buf_free(&json);
  return rc;
}
