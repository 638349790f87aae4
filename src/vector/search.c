/* search.c - answers a query: the plan, the two searches, and how their rankings become one.
 *
 * With the connection's lock held, in one read transaction: the index is brought up to date -> the filter becomes a
 * bitmap over slots -> keywords are found. Then, with the connection free for others, vectors are searched:
 *   exact   compare with every slot that passes: small collections, selective filters, and whenever asked for
 *   graph   HNSW over what it covers, exact over the tail behind it; fewer hits than there are: exact again
 * The graph is built when a search asks for it, or bit by bit by the searches of a collection so large that comparing
 * all takes milliseconds. Rankings are fused by reciprocal rank: 1 / (60 + rank) summed over both.
 */
#include <math.h>

#include "lib/json/json.h"
#include "src/vector/vector.h"

enum {
  RRF_K = 60,
  FUSE_DEPTH = 60,        /* ranks that take part in a fusion, at least; else four times k */
  BUILD_STEP = 32,        /* slots that a search adds to the graph in passing */
  SCAN_FLOATS = 16 << 20  /* a scan of more is worth a graph: some 64 MiB of memory traffic */
};

typedef struct search {
  aiinfra_vecstore *store;
  const aiinfra_query *q;
  aii_filter *filter;
  aii_mask mask;
  aii_searchplan plan;
  float *vector;
  size_t depth; /* of each ranking */
  aii_near *by_vector, *by_words;
  size_t n_vector, n_words;
} search;

/* ---- filter ---------------------------------------------------------------------------------------------------- */

static aiinfra_status no_memory(aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_ENOMEM, "no memory for a search");
}

/* Lock held, index locked for reading. */
static aiinfra_status apply_filter(search *s, aiinfra_error *err)
{
  aii_index *index = &s->store->index;
  if (s->filter != NULL) return aii_mask_make(s->store, s->filter, s->q->filter_json, &s->mask, err);
  s->mask.n_passing = index->n - index->n_dead;
  return AIINFRA_OK;
}

/* ---- vectors --------------------------------------------------------------------------------------------------- */

static aiinfra_status search_vectors(search *s, aiinfra_error *err)
{
  aii_index *index = &s->store->index;
  size_t wanted = AII_MIN(s->depth, (size_t)s->mask.n_passing);
  uint32_t ef = s->q->ef != 0 ? s->q->ef : (uint32_t)AII_MAX((uint64_t)64, (uint64_t)2 * s->q->k);
  aii_searchplan_choose(index, s->q->mode, (uint32_t)AII_MAX((size_t)ef, wanted), &s->mask, &s->plan);
  if (wanted == 0) return AIINFRA_OK;
  if (!aii_searchplan_run(index, s->vector, &s->mask, &s->plan, s->by_vector, &s->n_vector, s->depth)) return no_memory(err);
  aii_near_sort(s->by_vector, s->n_vector);
  return AIINFRA_OK;
}

/* Extends the graph when this query, or the collection's size, wants one. No lock held. */
static aiinfra_status prepare_graph(aiinfra_vecstore *store, const aiinfra_query *q, aiinfra_error *err)
{
  aii_index *index = &store->index;
  if (q->mode == AIINFRA_SEARCH_EXACT) return AIINFRA_OK;
  aii_sql_lock(store->db->sql);
  aiinfra_status rc = aii_vecstore_sync(store, err);
  aii_sql_unlock(store->db->sql);
  if (rc != AIINFRA_OK) return rc;
  (void)pthread_rwlock_rdlock(&index->lock);
  bool large = (uint64_t)(index->n - index->n_dead) * index->dims > SCAN_FLOATS;
  bool begun = index->n_graph > 0;
  (void)pthread_rwlock_unlock(&index->lock);
  uint32_t step = q->mode == AIINFRA_SEARCH_GRAPH ? UINT32_MAX : large || begun ? BUILD_STEP : 0;
  if (step == 0 || aii_hnsw_build(index, step)) return AIINFRA_OK;
  return q->mode == AIINFRA_SEARCH_GRAPH ? aii_fail(err, AIINFRA_ENOMEM, "no memory for the graph") : AIINFRA_OK;
}

/* ---- fusion ---------------------------------------------------------------------------------------------------- */

static void add_vector_hits(const search *s, aiinfra_hit *all, size_t *n)
{
  for (size_t i = 0; i < s->n_vector; i++) {
    aiinfra_hit hit = {.id = s->by_vector[i].id, .text_score = NAN};
    hit.vector_score = aii_index_score(&s->store->index, s->by_vector[i].dist);
    hit.score = s->q->text == NULL ? hit.vector_score : 1.0f / (float)(RRF_K + i + 1);
    all[(*n)++] = hit;
  }
}

static bool add_word_hits(const search *s, aiinfra_hit *all, size_t *n)
{
  aii_idmap at;
  bool ok = true;
  aii_idmap_init(&at, s->store->index.mem);
  for (size_t i = 0; ok && i < *n; i++) ok = aii_idmap_set(&at, all[i].id, (uint32_t)i);
  for (size_t i = 0; ok && i < s->n_words; i++) {
    float text_score = -s->by_words[i].dist;
    float score = s->q->vector == NULL ? text_score : 1.0f / (float)(RRF_K + i + 1);
    uint32_t old = aii_idmap_get(&at, s->by_words[i].id);
    if (old != AII_NO_SLOT) {
      all[old].text_score = text_score;
      all[old].score += score;
    } else {
      all[(*n)++] =
          (aiinfra_hit){.id = s->by_words[i].id, .score = score, .vector_score = NAN, .text_score = text_score};
    }
  }
  aii_idmap_free(&at);
  return ok;
}

/* Merges both rankings and writes the k best. */
static aiinfra_status fuse(search *s, aiinfra_hit *hits, size_t *n, aiinfra_error *err)
{
  aii_mem *mem = s->store->index.mem;
  size_t room = s->n_vector + s->n_words, n_all = 0, n_best = 0;
  if (room == 0) return AIINFRA_OK;
  aiinfra_hit *all = aii_new_array(mem, room, sizeof *all);
  aii_near *best = aii_new_array(mem, s->q->k, sizeof *best);
  bool ok = all != NULL && best != NULL;
  if (ok) {
    add_vector_hits(s, all, &n_all);
    ok = add_word_hits(s, all, &n_all);
  }
  for (size_t i = 0; ok && i < n_all; i++) {
    aii_near_offer(best, &n_best, s->q->k, (aii_near){all[i].id, -all[i].score, (uint32_t)i});
  }
  aii_near_sort(best, n_best);
  for (size_t i = 0; i < n_best; i++) {
    hits[i] = all[best[i].slot];
    hits[i].rank = (uint32_t)i + 1;
  }
  *n = n_best;
  aii_del(mem, all, room * sizeof *all);
  aii_del(mem, best, s->q->k * sizeof *best);
  return ok ? AIINFRA_OK : no_memory(err);
}

/* ---- the whole ------------------------------------------------------------------------------------------------- */

/* All that needs the database. On success the index is locked for reading. Lock held. */
static aiinfra_status read_rows(search *s, aiinfra_error *err)
{
  aii_index *index = &s->store->index;
  aiinfra_status rc = AIINFRA_OK;
  bool needs_index = s->q->vector != NULL || s->filter != NULL;
  if (needs_index) rc = aii_vecstore_sync(s->store, err);
  if (rc == AIINFRA_OK && s->filter != NULL) rc = aii_docs_load(s->store, err);
  if (rc != AIINFRA_OK) return rc;
  (void)pthread_rwlock_rdlock(&index->lock);
  rc = apply_filter(s, err);
  if (rc == AIINFRA_OK && s->q->text != NULL) {
    rc = aii_words_find(s->store, s->q->text, s->mask.bits, s->by_words, s->depth, &s->n_words, err);
  }
  if (rc != AIINFRA_OK) (void)pthread_rwlock_unlock(&index->lock);
  return rc;
}

static aiinfra_status run(search *s, aiinfra_error *err)
{
  aii_sql *sql = s->store->db->sql;
  aii_sql_lock(sql);
  aiinfra_status rc = aii_sql_begin_read(sql, err);
  if (rc == AIINFRA_OK) {
    rc = read_rows(s, err);
    aii_sql_rollback(sql); /* nothing was written */
  }
  aii_sql_unlock(sql);
  if (rc != AIINFRA_OK) return rc;
  if (s->q->vector != NULL) rc = search_vectors(s, err);
  (void)pthread_rwlock_unlock(&s->store->index.lock);
  return rc;
}

static aiinfra_status prepare(search *s, aiinfra_error *err)
{
  aii_index *index = &s->store->index;
  aiinfra_status rc = AIINFRA_OK;
  if (s->q->filter_json != NULL) rc = aii_filter_compile(index->mem, s->q->filter_json, &s->filter, err);
  if (rc != AIINFRA_OK) return rc;
  if (s->q->vector != NULL) rc = prepare_graph(s->store, s->q, err);
  if (rc != AIINFRA_OK) return rc;
  s->depth = s->q->k;
  if (s->q->vector != NULL && s->q->text != NULL) s->depth = AII_MAX((size_t)4 * s->q->k, (size_t)FUSE_DEPTH);
  s->by_vector = aii_new_array(index->mem, s->depth, sizeof *s->by_vector);
  s->by_words = aii_new_array(index->mem, s->depth, sizeof *s->by_words);
  if (s->q->vector != NULL) s->vector = aii_index_new_query(index, s->q->vector);
  bool ok = s->by_vector != NULL && s->by_words != NULL && (s->q->vector == NULL || s->vector != NULL);
  return ok ? AIINFRA_OK : no_memory(err);
}

aiinfra_status aii_vecstore_search(aiinfra_vecstore *store, const aiinfra_query *query, aiinfra_hit *hits, size_t *n,
                                   aiinfra_error *err)
{
  search s = {.store = store, .q = query};
  aii_mem *mem = store->index.mem;
  *n = 0;
  aiinfra_status rc = prepare(&s, err);
  if (rc == AIINFRA_OK) rc = run(&s, err);
  if (rc == AIINFRA_OK) rc = fuse(&s, hits, n, err);
  aii_filter_free(s.filter);
  aii_mask_free(store, &s.mask);
  aii_index_free_query(&store->index, s.vector);
  aii_del(mem, s.by_vector, s.depth * sizeof *s.by_vector);
  aii_del(mem, s.by_words, s.depth * sizeof *s.by_words);
  return rc;
}
