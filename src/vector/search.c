/* search.c - answers a query.
 *
 * In one view of rows and indexes (view.c): the filter becomes a bitmap over slots -> keywords are found. Then, with the rows
 * left, vectors are searched as plan.c wants it, floats decide, from memory or from the rows, and rank.c makes one list of both
 * rankings. A query of one vector and nothing else reads rows only where there is something new that no writer of this handle
 * is bringing in.
 *
 * The graph is built when a search asks for it, or bit by bit by the searches of a collection so large that comparing all
 * takes milliseconds, unless a writer is at it.
 */
#include <math.h>

#include "src/vector/named.h"
#include "src/vector/snapshot.h"

enum {
  FUSE_DEPTH = 60,       /* ranks that take part in a fusion, at least; else four times those wanted */
  MMR_DEPTH = 64,        /* candidates for diversity, at least; the same */
  BUILD_STEP = 32,       /* slots that a search adds to the graph in passing */
  SCAN_FLOATS = 16 << 20 /* a scan of more is worth a graph: some 64 MiB of memory traffic */
};

static aiinfra_status no_memory(aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_ENOMEM, "no memory for a search");
}

/* ---- rows ------------------------------------------------------------------------------------------------------ */

static bool is_recommendation(const aii_search *s)
{
  return s->o.positive != NULL || s->o.negative != NULL;
}

aiinfra_status aii_search_room(aii_search *s, aiinfra_error *err)
{
  aii_mem *mem = s->store->index.mem;
  size_t wanted = (size_t)s->o.offset + s->q->k;
  s->depth = wanted;
  if (s->n_rankings > 1) s->depth = AII_MAX(4 * wanted, (size_t)FUSE_DEPTH);
  if (s->o.mmr) s->depth = AII_MAX(s->depth, AII_MAX(4 * wanted, (size_t)MMR_DEPTH));
  if (s->o.candidates > 0) s->depth = AII_MAX(wanted, (size_t)s->o.candidates);
  if (s->o.group_by != NULL || s->all) s->depth = AII_MAX((size_t)s->mask.n_passing, (size_t)1);
  if (s->open) s->depth = AII_MIN(s->depth, AII_MAX((size_t)s->mask.n_passing, (size_t)1));
  s->by_vector = aii_new_array(mem, s->depth, sizeof *s->by_vector);
  s->by_words = aii_new_array(mem, s->depth, sizeof *s->by_words);
  if (s->sparse != NULL) s->by_sparse = aii_new_array(mem, s->depth, sizeof *s->by_sparse);
  bool ok = s->by_vector != NULL && s->by_words != NULL && (s->by_sparse != NULL || s->sparse == NULL);
  return ok ? AIINFRA_OK : no_memory(err);
}

/* A query without vectors, filters and groups takes the index as it is, unless rows outlived their time and are to be left out
 * of a sparse ranking. */
static aiinfra_status open_view(aii_search *s, aiinfra_error *err)
{
  aii_wants wants = {.index = s->wants_vectors || s->filter != NULL || s->o.group_by != NULL};
  wants.payloads = s->filter != NULL || s->o.group_by != NULL;
  wants.below = aii_view_bit(s->store, s->target);
  if (s->sparse != NULL) wants.below |= aii_view_bit(s->store, s->sparse);
  aiinfra_status rc = aii_view_open(&s->view, s->store, &wants, err);
  if (rc != AIINFRA_OK || wants.index || s->sparse == NULL) return rc;
  rc = aii_using_outlives(s, &wants.index, err);
  if (rc == AIINFRA_OK && !wants.index) return rc;
  aii_view_leave_indexes(&s->view);
  aii_view_leave_rows(&s->view);
  return rc == AIINFRA_OK ? aii_view_open(&s->view, s->store, &wants, err) : rc;
}

/* All that needs the database. */
static aiinfra_status read_rows(aii_search *s, aiinfra_error *err)
{
  aiinfra_vecstore *store = s->store;
  aiinfra_status rc = AIINFRA_OK;
  s->payloads = store->index.docs.state;
  if (s->view.wants.index) rc = aii_view_select(&s->view, s->filter, s->q->filter_json, &s->mask, err);
  if (rc == AIINFRA_OK) rc = aii_using_narrow(s, err);
  if (rc == AIINFRA_OK && is_recommendation(s)) rc = aii_recommend_prepare(s, err);
  if (rc == AIINFRA_OK) rc = aii_search_room(s, err);
  if (rc == AIINFRA_OK && s->o.group_by != NULL) {
    rc = aii_column_make(store, s->view.sql, s->o.group_by, &s->mask, &s->column, err);
  }
  if (rc == AIINFRA_OK && s->q->text != NULL) {
    rc = aii_words_find(store, s->view.sql, s->q->text, s->mask.bits, s->by_words, s->depth, &s->n_words, err);
  }
  if (rc == AIINFRA_OK && s->sparse != NULL) {
    rc = aii_sparse_find(s->sparse, s->sparse_query, s->n_sparse_query, &store->index, s->mask.bits, s->by_sparse,
                         s->depth, &s->n_sparse, &s->plan.n_scanned, err);
  }
  return rc == AIINFRA_OK && s->wants_vectors && s->o.best_score ? aii_recommend_best(s, err) : rc;
}

/* On success the indexes are locked for reading. No lock held. */
static aiinfra_status read_all(aii_search *s, aiinfra_error *err)
{
  aiinfra_status rc = open_view(s, err);
  if (rc != AIINFRA_OK) return rc;
  rc = read_rows(s, err);
  if (rc != AIINFRA_OK) aii_view_leave_indexes(&s->view);
  aii_view_leave_rows(&s->view);
  return rc;
}

/* A vector alone needs the index alone. On success the index is locked for reading. No lock held. */
static aiinfra_status read_index(aii_search *s, aiinfra_error *err)
{
  aiinfra_vecstore *store = s->store;
  aii_index *index = &store->index;
  aiinfra_status rc = aii_vecstore_look(store, err);
  while (rc == AIINFRA_OK) {
    (void)pthread_rwlock_rdlock(&index->lock);
    if (index->seq >= 0 || store->collection == 0) break; /* else a tenant's handle has turned to another collection */
    (void)pthread_rwlock_unlock(&index->lock);
    rc = aii_vecstore_look(store, err);
  }
  if (rc != AIINFRA_OK) return rc;
  s->view.store = store;
  s->mask.n_passing = index->n - index->n_dead;
  rc = aii_search_room(s, err);
  if (rc != AIINFRA_OK) (void)pthread_rwlock_unlock(&index->lock);
  return rc;
}

/* ---- vectors --------------------------------------------------------------------------------------------------- */

aiinfra_status aii_search_vectors(aii_search *s, aiinfra_error *err)
{
  aii_index *index = &s->target->index;
  const aii_mask *mask = aii_using_mask(s);
  size_t wanted = AII_MIN(s->depth, (size_t)mask->n_passing);
  uint32_t ef = s->q->ef != 0 ? s->q->ef : (uint32_t)AII_MAX((uint64_t)64, (uint64_t)2 * s->q->k);
  aii_searchplan_choose(index, s->q->mode, (uint32_t)AII_MAX((size_t)ef, wanted), mask, &s->plan);
  if (s->o.group_by != NULL) {
    s->plan.kind = AII_PLAN_EXACT;
    s->plan.why = "groups are made of all rows that pass";
  }
  if (s->exact != NULL) {
    s->plan.kind = AII_PLAN_EXACT;
    s->plan.why = s->exact;
  }
  if (wanted == 0) return AIINFRA_OK;
  if (s->target->multi != NULL) return aii_multi_search(s, err);
  if (!aii_searchplan_run(index, s->vector, mask, &s->plan, s->depth, &s->finds)) return no_memory(err);
  s->in_memory = index->floats || s->plan.kind != AII_PLAN_EXACT;
  if (!s->in_memory) return AIINFRA_OK;
  bool ok = aii_finds_settle(index, s->vector, &s->finds, s->by_vector, &s->n_vector, s->depth);
  return ok ? AIINFRA_OK : no_memory(err);
}

/* Extends the graph when this query, or the collection's size, wants one. */
aiinfra_status aii_search_graph(aiinfra_vecstore *store, int32_t mode, aiinfra_error *err)
{
  aii_index *index = &store->index;
  aiinfra_vecstore *top = store->above != NULL ? store->above : store;
  bool written = atomic_load(&top->n_writers) > 0; /* who writes heals and links */
  if (!written) aii_vecstore_heal(store);
  if (mode == AIINFRA_SEARCH_EXACT) return AIINFRA_OK;
  (void)pthread_rwlock_rdlock(&index->lock);
  bool complete = index->n_graph > 0 && index->n_graph == index->n; /* newer rows are the next search's */
  (void)pthread_rwlock_unlock(&index->lock);
  if (complete || (written && mode != AIINFRA_SEARCH_GRAPH)) return AIINFRA_OK;
  aiinfra_status rc = aii_vecstore_look(store, err);
  if (rc != AIINFRA_OK) return rc;
  (void)pthread_rwlock_rdlock(&index->lock);
  bool large = (uint64_t)(index->n - index->n_dead) * index->dims > SCAN_FLOATS;
  bool begun = index->n_graph > 0;
  (void)pthread_rwlock_unlock(&index->lock);
  uint32_t step = mode == AIINFRA_SEARCH_GRAPH ? UINT32_MAX : large || begun ? BUILD_STEP : 0;
  bool built = step == 0 || aii_hnsw_build(index, step);
  aii_keep_grown(store);
  if (built) return AIINFRA_OK;
  return mode == AIINFRA_SEARCH_GRAPH ? aii_fail(err, AIINFRA_ENOMEM, "no memory for the graph") : AIINFRA_OK;
}

/* ---- the whole ------------------------------------------------------------------------------------------------- */

/* The index is unlocked when vectors must be read from the rows; s->in_memory says whether it is locked still. */
static aiinfra_status find(aii_search *s, aiinfra_error *err)
{
  aiinfra_status rc = s->wants_vectors && !s->o.best_score ? aii_search_vectors(s, err) : AIINFRA_OK;
  aii_using_lift(s);
  if (!s->in_memory) {
    aii_query_vector q = {s->vector, s->target->index.seq};
    aii_view_leave_indexes(&s->view);
    if (rc == AIINFRA_OK && s->finds.n > 0) {
      rc = s->target->multi != NULL
               ? aii_multi_fetch(s, q.seq, err)
               : aii_finds_fetch(s->target, &q, &s->finds, s->by_vector, &s->n_vector, s->depth, err);
    }
  }
  aii_near_sort(s->by_vector, s->n_vector);
  return rc;
}

static aiinfra_status run(aii_search *s, aiinfra_error *err)
{
  bool alone = s->filter == NULL && s->n_rankings == 1 && s->wants_vectors && s->o.group_by == NULL;
  alone = alone && s->target == s->store && !is_recommendation(s);
  s->in_memory = true;
  aiinfra_status rc = alone ? read_index(s, err) : read_all(s, err);
  if (rc != AIINFRA_OK) return rc;
  rc = find(s, err);
  if (rc == AIINFRA_OK) rc = aii_rank(s, err);
  if (rc == AIINFRA_OK && s->q->explain != NULL) rc = aii_explain(s, s->q->explain, err);
  if (s->in_memory) aii_view_leave_indexes(&s->view);
  return rc;
}

static aiinfra_status check(const aii_search *s, size_t cap, aiinfra_error *err)
{
  bool grouped = s->o.group_by != NULL;
  size_t room = (size_t)s->q->k * (size_t)(grouped ? s->o.group_size : 1);
  if (cap < room) return aii_fail(err, AIINFRA_EINVAL, "room for %zu hits, but %zu are asked for", cap, room);
  if (s->q->vector != NULL && is_recommendation(s)) {
    return aii_fail(err, AIINFRA_EINVAL, "options.recommend: the query has a vector already");
  }
  if (s->n_rankings == 0) {
    return aii_fail(err, AIINFRA_EINVAL, "the query has neither vector nor text nor examples; set one of them");
  }
  if (s->o.mmr && (!s->wants_vectors || s->o.best_score)) {
    return aii_fail(err, AIINFRA_EINVAL, "options.mmr: there is no vector that hits could be compared with");
  }
  return AIINFRA_OK;
}

static aiinfra_status prepare(aii_search *s, size_t cap, aiinfra_error *err)
{
  s->wants_vectors = s->q->vector != NULL || is_recommendation(s);
  s->n_rankings = (size_t)s->wants_vectors + (s->q->text != NULL) + (s->o.sparse != NULL);
  if (s->o.group_by == NULL) s->o.group_size = 1;
  aiinfra_status rc = check(s, cap, err);
  if (rc == AIINFRA_OK) rc = aii_using_open(s, err);
  if (rc == AIINFRA_OK && s->q->filter_json != NULL) {
    rc = aii_filter_compile(s->store->index.mem, s->q->filter_json, &s->filter, err);
  }
  if (rc == AIINFRA_OK && s->wants_vectors) rc = aii_search_graph(s->target, s->q->mode, err);
  if (rc == AIINFRA_OK && s->target->multi != NULL) {
    rc = aii_multi_take(s, err);
  } else if (rc == AIINFRA_OK && s->q->vector != NULL) {
    s->vector = aii_index_new_query(&s->target->index, s->q->vector);
    if (s->vector == NULL) rc = no_memory(err);
  }
  return rc;
}

void aii_search_free(aii_search *s)
{
  aii_mem *mem = s->store->index.mem;
  json_decref(s->o.source);
  aii_filter_free(s->filter);
  aii_mask_free(s->store, &s->mask);
  aii_column_free(&s->column);
  aii_index_free_query(&s->target->index, s->vector);
  aii_finds_free(&s->store->index, &s->finds);
  aii_using_close(s);
  aii_del(mem, s->examples, s->n_examples * s->target->index.dims * sizeof *s->examples);
  aii_del(mem, s->by_vector, s->depth * sizeof *s->by_vector);
  aii_del(mem, s->by_words, s->depth * sizeof *s->by_words);
  aii_del(mem, s->by_sparse, s->depth * sizeof *s->by_sparse);
  aii_del(mem, s->ranked, s->ranked_cap * sizeof *s->ranked);
  aii_del(mem, s->groups, s->groups_cap * sizeof *s->groups);
}

aiinfra_status aii_vecstore_search_into(aiinfra_vecstore *store, const aiinfra_query *query, aiinfra_hit *hits,
                                        size_t cap, size_t *n, aiinfra_error *err)
{
  aii_search s = {.store = store, .target = store, .q = query};
  *n = 0;
  if (query->explain != NULL) *query->explain = NULL;
  aiinfra_status rc = aii_query_opts_read(query->options_json, &s.o, err);
  if (rc == AIINFRA_OK && s.o.tree) {
    aii_search_free(&s);
    return aii_vecstore_search_tree(store, query, hits, cap, n, err);
  }
  if (rc == AIINFRA_OK) rc = prepare(&s, cap, err);
  if (rc == AIINFRA_OK) rc = run(&s, err);
  for (size_t i = 0; rc == AIINFRA_OK && i < s.n_ranked; i++) {
    hits[i] = s.ranked[i].hit;
    hits[i].rank = (uint32_t)i + 1;
    *n = i + 1;
  }
  aii_search_free(&s);
  return rc;
}

aiinfra_status aii_vecstore_search(aiinfra_vecstore *store, const aiinfra_query *query, aiinfra_hit *hits, size_t *n,
                                   aiinfra_error *err)
{
  return aii_vecstore_search_into(store, query, hits, query->k, n, err);
}
