/* tree.c - answers queries of several stages.
 *
 * The happy path: the query is read (tree_parse.c) -> graphs are extended if they will be walked -> in one view of rows and of
 * the indexes that will be used (view.c), each filter is evaluated once -> each stage knows the rows that pass its filter
 * and those around it, outer stages first -> each stage is answered, inner ones first (stage.c). So all stages, and all
 * queries of one request, see the same rows. The view stays open throughout, since words, payloads and vectors
 * may come from the rows. What can fail: see stage.c. Thread: any, no lock held.
 */
#include "src/vector/tree.h"

void aii_tree_need(const aii_tree *tree, aii_tree_needs *needs)
{
  for (uint32_t i = 0; i < tree->n_stages; i++) {
    const aii_stage *stage = tree->stages[i];
    bool walks = stage->s.wants_vectors && !stage->s.o.best_score && !stage->s.all && !stage->narrowed;
    walks = walks && stage->s.target->kind != AII_KIND_SPARSE;
    bool graph = walks && stage->q.mode != AIINFRA_SEARCH_EXACT, whole = walks && stage->q.mode == AIINFRA_SEARCH_GRAPH;
    uint64_t named = aii_view_bit(stage->s.store, stage->s.target);
    needs->graph |= graph && named == 0;
    needs->whole |= whole && named == 0;
    needs->view.below |= named;
    needs->named_graph |= graph ? named : 0;
    needs->named_whole |= whole ? named : 0;
    needs->view.payloads |= stage->filter != AII_NO_NODE || stage->s.o.group_by != NULL;
    needs->view.payloads |= stage->formula != NULL && stage->formula->payloads;
  }
}

static aiinfra_status extend_graphs(aiinfra_vecstore *store, const aii_tree_needs *needs, aiinfra_error *err)
{
  aiinfra_status rc = AIINFRA_OK;
  if (needs->graph) rc = aii_search_graph(store, needs->whole ? AIINFRA_SEARCH_GRAPH : AIINFRA_SEARCH_AUTO, err);
  for (size_t i = 0; rc == AIINFRA_OK && i < store->n_named; i++) {
    bool whole = needs->named_whole >> i & 1;
    if ((needs->named_graph >> i & 1) == 0) continue;
    rc = aii_search_graph(store->named[i], whole ? AIINFRA_SEARCH_GRAPH : AIINFRA_SEARCH_AUTO, err);
  }
  return rc;
}

aiinfra_status aii_tree_open(aii_tree *tree, const aii_tree_needs *needs, aiinfra_error *err)
{
  aii_wants wants = needs->view;
  wants.index = true;
  aiinfra_status rc = extend_graphs(tree->store, needs, err);
  return rc == AIINFRA_OK ? aii_view_open(&tree->view, tree->store, &wants, err) : rc;
}

void aii_tree_close(aii_tree *tree)
{
  aii_view_leave_indexes(&tree->view);
  aii_view_leave_rows(&tree->view);
}

/* The rows that pass a filter. */
static aiinfra_status mask_of(aii_tree *tree, uint32_t filter, const aii_mask **mask, aiinfra_error *err)
{
  aii_tree_filter *f = &tree->filters[filter];
  *mask = &f->mask;
  if (f->made) return AIINFRA_OK;
  aiinfra_status rc = aii_mask_make(tree->store, tree->view.sql, f->filter, f->text, &f->mask, err);
  f->made = rc == AIINFRA_OK;
  return rc;
}

/* The rows that pass the stage's filter and those around it. */
static aiinfra_status make_passing(aii_tree *tree, aii_stage *stage, aiinfra_error *err)
{
  const aii_index *index = &tree->store->index;
  const aii_mask *own = NULL, *outer = stage->parent != NULL ? &stage->parent->passing : NULL;
  aii_mask *to = &stage->passing;
  aiinfra_status rc = AIINFRA_OK;
  if (stage->filter != AII_NO_NODE) rc = mask_of(tree, stage->filter, &own, err);
  if (rc != AIINFRA_OK) return rc;
  if (outer != NULL && outer->bits == NULL) outer = NULL;
  const aii_mask *from = own != NULL ? own : outer;
  if (from != NULL) *to = *from;
  to->bits = NULL;
  to->n_passing = index->n - index->n_dead;
  if (from == NULL) return AIINFRA_OK;
  to->bits = aii_new_array(index->mem, to->n_words, sizeof *to->bits);
  if (to->bits == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a query");
  to->n_passing = 0;
  for (size_t w = 0; w < to->n_words; w++) {
    to->bits[w] = from->bits[w] & (outer != NULL ? outer->bits[w] : UINT64_MAX);
    to->n_passing += (uint32_t)__builtin_popcountll(to->bits[w]);
  }
  return AIINFRA_OK;
}

/* Stages lie in the tree behind those that they belong to. */
aiinfra_status aii_tree_run(aii_tree *tree, aiinfra_error *err)
{
  aiinfra_status rc = AIINFRA_OK;
  for (uint32_t i = 0; rc == AIINFRA_OK && i < tree->n_stages; i++) {
    tree->stages[i]->s.view = tree->view;
    rc = make_passing(tree, tree->stages[i], err);
  }
  for (uint32_t i = tree->n_stages; rc == AIINFRA_OK && i-- > 0;) rc = aii_stage_run(tree->stages[i], err);
  return rc;
}

/* ---- a query in a struct --------------------------------------------------------------------------------------- */

static aiinfra_status answer(aii_tree *tree, char **explain, aiinfra_error *err)
{
  aii_tree_needs needs = {0};
  aii_buf json;
  aii_tree_need(tree, &needs);
  aiinfra_status rc = aii_tree_open(tree, &needs, err);
  if (rc != AIINFRA_OK) return rc;
  rc = aii_tree_run(tree, err);
  if (rc == AIINFRA_OK && explain != NULL) {
    aii_buf_init(&json, tree->store->index.mem, 0);
    rc = aii_tree_explain(tree->stages[0], &json, err);
    if (rc == AIINFRA_OK) rc = aii_buf_export(&json, explain, err);
    aii_buf_free(&json);
  }
  aii_tree_close(tree);
  return rc;
}

aiinfra_status aii_vecstore_search_tree(aiinfra_vecstore *store, const aiinfra_query *query, aiinfra_hit *hits,
                                        size_t cap, size_t *n, aiinfra_error *err)
{
  aii_tree tree = {.store = store};
  json_t *options;
  aiinfra_status rc = aii_request_parse(query->options_json, "options", &options, err);
  if (rc == AIINFRA_OK) rc = aii_tree_take(&tree, query, options, err);
  const aii_search *s = tree.n_stages > 0 ? &tree.stages[0]->s : NULL;
  size_t room = s != NULL ? (size_t)query->k * (size_t)s->o.group_size : 0;
  if (rc == AIINFRA_OK && cap < room) {
    rc = aii_fail(err, AIINFRA_EINVAL, "room for %zu hits, but %zu are asked for", cap, room);
  }
  if (rc == AIINFRA_OK) rc = answer(&tree, query->explain, err);
  for (size_t i = 0; rc == AIINFRA_OK && s != NULL && i < s->n_ranked; i++) {
    hits[i] = s->ranked[i].hit;
    hits[i].rank = (uint32_t)i + 1;
    *n = i + 1;
  }
  aii_tree_free(&tree);
  json_decref(options);
  return rc;
}
