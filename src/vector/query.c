/* query.c - queries in JSON, one or many of them: what bindings, servers and the command line ask.
 *
 *   a stage as tree_parse.c reads it, with "with_payload", "with_text" and "explain"
 *       {"hits": [{"id": 3, "score": 0.5, "vector_score": 0.5, "text": "..", "payload": {..}}], "explain": {..}}
 *   {"searches": [QUERY, ...]}
 *       {"results": [{"hits": [...]}, ...]}
 *
 * All queries of a request are read before the first one is answered, so that a bad one costs nothing. They are answered
 * in one view: they see the same rows, and a filter that several of them have is evaluated once. What can
 * fail: the request, and what tree.c says. Thread: any, no lock held.
 */
#include <math.h>
#include <stdio.h>

#include "lib/json/json.h"
#include "src/vector/tree.h"

enum { MAX_SEARCHES = 4096 };

typedef struct querying {
  aii_tree tree;

  bool payload, text, explain;
  aii_buf json;
} querying;

/* ---- reading --------------------------------------------------------------------------------------------------- */

static aiinfra_status parse(querying *q, const json_t *one, const char *path, aiinfra_error *err)
{
  static const char *const more[] = {"with_payload", "with_text", "explain", NULL};
  q->payload = q->text = q->explain = false;
  aii_tree_clear(&q->tree);
  aiinfra_status rc = aii_tree_parse(&q->tree, one, path, more, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_bool(one, path, "with_payload", false, &q->payload, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_bool(one, path, "with_text", false, &q->text, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_bool(one, path, "explain", false, &q->explain, err);
  return rc;
}

/* ---- writing --------------------------------------------------------------------------------------------------- */

static void add_score(aii_buf *json, const char *name, float score)
{
  aii_buf_fmt(json, ",\"%s\":", name);
  if (isfinite(score)) aii_buf_double(json, (double)score, 9);
  else aii_buf_str(json, "null"); /* a distance beyond floats */
}

static aiinfra_status add_row(querying *q, int64_t id, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  size_t n;
  aiinfra_status rc =
      aii_sql_prepare(q->tree.view.sql, "SELECT text, payload FROM rows WHERE collection = ?1 AND id = ?2", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, q->tree.store->collection);
  aii_stmt_int(stmt, 2, id);
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK && q->text) {
    const char *text = row ? aii_stmt_get_text(stmt, 0, &n) : "";
    aii_buf_str(&q->json, ",\"text\":");
    aii_buf_json(&q->json, text, row ? n : 0);
  }
  if (rc == AIINFRA_OK && q->payload) {
    const char *payload = row ? aii_stmt_get_text(stmt, 1, &n) : "";
    aii_buf_str(&q->json, ",\"payload\":");
    if (row && n > 0) aii_buf_add(&q->json, payload, n);
    else aii_buf_str(&q->json, "{}");
  }
  aii_stmt_reset(stmt);
  return rc;
}

static aiinfra_status write_result(querying *q, aiinfra_error *err)
{
  aii_stage *outermost = q->tree.stages[0];
  aiinfra_status rc = AIINFRA_OK;
  aii_buf_str(&q->json, "{\"hits\":[");
  for (size_t i = 0; rc == AIINFRA_OK && i < outermost->s.n_ranked; i++) {
    const aii_ranked *r = &outermost->s.ranked[i];
    aii_buf_fmt(&q->json, "%s{\"id\":%lld", i > 0 ? "," : "", (long long)r->hit.id);
    add_score(&q->json, "score", r->hit.score);
    if (!isnan(r->hit.vector_score)) add_score(&q->json, "vector_score", r->hit.vector_score);
    if (!isnan(r->hit.text_score)) add_score(&q->json, "text_score", r->hit.text_score);
    aii_explain_group(&outermost->s, r, &q->json);
    if (q->payload || q->text) rc = add_row(q, r->hit.id, err);
    aii_buf_char(&q->json, '}');
  }
  aii_buf_char(&q->json, ']');
  if (rc == AIINFRA_OK && q->explain) {
    aii_buf_str(&q->json, ",\"explain\":");
    rc = aii_tree_explain(outermost, &q->json, err);
  }
  aii_buf_char(&q->json, '}');
  return rc;
}

/* ---- the whole ------------------------------------------------------------------------------------------------- */

typedef struct batch {
  const json_t *source, *searches; /* searches: NULL: one query, the source */
  size_t n;
} batch;

static aiinfra_status parse_at(querying *q, const batch *b, size_t at, aiinfra_error *err)
{
  char path[40] = "query";
  if (b->searches != NULL) (void)snprintf(path, sizeof path, "searches[%zu]", at);
  return parse(q, b->searches != NULL ? json_array_get(b->searches, at) : b->source, path, err);
}

static aiinfra_status answer_all(querying *q, const batch *b, aiinfra_error *err)
{
  aii_tree_needs needs = {0};
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; rc == AIINFRA_OK && i < b->n; i++) {
    rc = parse_at(q, b, i, err);
    if (rc == AIINFRA_OK) aii_tree_need(&q->tree, &needs);
  }
  if (rc == AIINFRA_OK) rc = aii_tree_open(&q->tree, &needs, err);
  if (rc != AIINFRA_OK) return rc;
  if (b->searches != NULL) aii_buf_str(&q->json, "{\"results\":[");
  for (size_t i = 0; rc == AIINFRA_OK && i < b->n; i++) {
    if (i > 0) aii_buf_char(&q->json, ',');
    rc = parse_at(q, b, i, err);
    if (rc == AIINFRA_OK) rc = aii_tree_run(&q->tree, err);
    if (rc == AIINFRA_OK) rc = write_result(q, err);
    if (rc != AIINFRA_OK && b->searches != NULL) (void)aii_wrap(err, rc, "searches[%zu]", i);
  }
  if (b->searches != NULL) aii_buf_str(&q->json, "]}");
  aii_tree_close(&q->tree);
  return rc;
}

static aiinfra_status open_batch(const json_t *source, batch *b, aiinfra_error *err)
{
  static const char *const names[] = {"searches", NULL};
  *b = (batch){.source = source, .n = 1};
  const json_t *searches = json_object_get(source, "searches");
  if (searches == NULL) return AIINFRA_OK;
  b->searches = searches;
  b->n = json_array_size(searches);
  if (!json_is_array(searches) || b->n > MAX_SEARCHES) {
    return aii_fail(err, AIINFRA_EINVAL, "query: searches is not an array of up to %d queries", MAX_SEARCHES);
  }
  return aii_check_names(source, "query", names, err);
}

aiinfra_status aii_vecstore_query(aiinfra_vecstore *store, const char *request, char **out, aiinfra_error *err)
{
  querying q = {.tree = {.store = store}};
  json_t *source;
  batch b;
  aiinfra_status rc = aii_request_parse(request, "query", &source, err);
  if (rc != AIINFRA_OK) return rc;
  aii_buf_init(&q.json, store->index.mem, 0);
  rc = open_batch(source, &b, err);
  if (rc == AIINFRA_OK) rc = answer_all(&q, &b, err);
  if (rc == AIINFRA_OK) rc = aii_buf_export(&q.json, out, err);
  aii_buf_free(&q.json);
  aii_tree_free(&q.tree);
  json_decref(source);
  return rc;
}
