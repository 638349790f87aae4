/* stage.c - answers one stage of a query, whose prefetches are answered already.
 *
 * The happy path: its rows are those that pass its filters or, of these, those that its prefetches found -> they are
 * searched as any query is (search.c), compared with pairs (discover.c), or each is scored by the lists that it is in
 * (fuse.c) or by a formula -> rank.c makes the list that is asked for. A formula sees every row; none is left out for
 * its place in a list unless the query's prefetch says so.
 *
 * What can fail: examples that are not there, formulas without a result, memory, the database. In the tree's view.
 */
#include <math.h>

#include "lib/json/json.h"
#include "src/vector/named.h"
#include "src/vector/tree.h"

#define STEPS_AT_LEAST ((uint64_t)1 << 31) /* of filters in a formula, as of any filter (mask.c) */
#define STEPS_PER_ROW 256u

static aiinfra_status no_memory(aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_ENOMEM, "no memory for a query");
}

static int64_t id_of(const aii_index *index, uint32_t slot)
{
  return aii_block_of(index, slot)->ids[slot % AII_BLOCK_SLOTS];
}

/* ---- its rows -------------------------------------------------------------------------------------------------- */

static aiinfra_status make_mask(aii_stage *stage, aiinfra_error *err)
{
  aii_search *s = &stage->s;
  s->mask = stage->passing;
  s->mask.bits = NULL;
  if (stage->passing.bits == NULL && !stage->narrowed) return AIINFRA_OK;
  s->mask.n_words = (size_t)s->store->index.n / 64 + 1;
  s->mask.bits = aii_new_array(s->store->index.mem, s->mask.n_words, sizeof *s->mask.bits);
  if (s->mask.bits == NULL) return no_memory(err);
  if (!stage->narrowed) {
    memcpy(s->mask.bits, stage->passing.bits, s->mask.n_words * sizeof *s->mask.bits);
    return AIINFRA_OK;
  }
  s->mask.n_passing = 0;
  for (const aii_stage *child = stage->child; child != NULL; child = child->next) {
    for (size_t i = 0; i < child->s.n_ranked; i++) {
      uint32_t slot = child->s.ranked[i].slot;
      if (slot >= s->store->index.n) continue; /* found by its words alone */
      s->mask.n_passing += !aii_bit(s->mask.bits, slot);
      s->mask.bits[slot / 64] |= (uint64_t)1 << slot % 64;
    }
  }
  return AIINFRA_OK;
}

/* ---- nearest rows ---------------------------------------------------------------------------------------------- */

/* What memory could not decide is read from the rows. */
static aiinfra_status settle(aii_search *s, aiinfra_error *err)
{
  aii_query_vector q = {s->vector, s->target->index.seq};
  if (s->in_memory || s->finds.n == 0) return AIINFRA_OK;
  if (s->target->multi != NULL) return aii_multi_read(s, s->view.sql, q.seq, err);
  return aii_finds_read(s->target, s->view.sql, &q, &s->finds, s->by_vector, &s->n_vector, s->depth, err);
}

/* In order, as they come from there. */
static aiinfra_status find_sparse(aii_search *s, aiinfra_error *err)
{
  s->plan.kind = AII_PLAN_EXACT;
  s->plan.why = "sparse vectors are compared exactly";
  return aii_sparse_find(s->target, s->sparse_query, s->n_sparse_query, &s->store->index, s->mask.bits, s->by_vector,
                         s->depth, &s->n_vector, &s->plan.n_scanned, err);
}

static aiinfra_status find_vectors(aii_search *s, aiinfra_error *err)
{
  if (s->target->kind == AII_KIND_SPARSE) return find_sparse(s, err);
  aiinfra_status rc = s->o.best_score ? aii_recommend_best(s, err) : aii_search_vectors(s, err);
  aii_using_lift(s);
  if (rc == AIINFRA_OK) rc = settle(s, err);
  aii_near_sort(s->by_vector, s->n_vector);
  return rc;
}

static aiinfra_status find_nearest(aii_stage *stage, aiinfra_error *err)
{
  aii_search *s = &stage->s;
  aiinfra_status rc = aii_stage_make_vector(stage, err);
  if (rc == AIINFRA_OK) rc = aii_search_room(s, err);
  if (rc == AIINFRA_OK && stage->q.text != NULL) {
    rc = aii_words_find(s->store, s->view.sql, stage->q.text, s->mask.bits, s->by_words, s->depth, &s->n_words, err);
  }
  return rc == AIINFRA_OK && s->wants_vectors ? find_vectors(s, err) : rc;
}

/* ---- candidates of a fusion or a formula ----------------------------------------------------------------------- */

/* Lists the rows of the mask, and which place they have in each prefetch. */
static aiinfra_status collect(aii_stage *stage, aiinfra_error *err)
{
  const aii_index *index = &stage->s.store->index;
  const aii_mask *mask = &stage->s.mask;
  stage->n_room = mask->n_passing;
  if (stage->n_room == 0) return AIINFRA_OK;
  stage->slots = aii_new_array(index->mem, stage->n_room, sizeof *stage->slots);
  stage->ranks = aii_new_array(index->mem, stage->n_room * stage->n_children, sizeof *stage->ranks);
  bool ok = stage->slots != NULL && (stage->ranks != NULL || stage->n_children == 0);
  ok = ok && aii_idmap_reserve(&stage->at, stage->n_room);
  for (uint32_t slot = 0; ok && slot < index->n && stage->n < stage->n_room; slot++) {
    if (aii_is_dead(index, slot) || (mask->bits != NULL && !aii_bit(mask->bits, slot))) continue;
    ok = aii_idmap_set(&stage->at, id_of(index, slot), (uint32_t)stage->n);
    stage->slots[stage->n++] = slot;
  }
  size_t list = 0;
  for (const aii_stage *child = stage->child; ok && child != NULL; child = child->next, list++) {
    for (size_t i = 0; i < child->s.n_ranked; i++) {
      uint32_t at = aii_idmap_get(&stage->at, child->s.ranked[i].hit.id);
      if (at != AII_NO_SLOT) stage->ranks[at * stage->n_children + list] = (uint32_t)i + 1;
    }
  }
  return ok ? AIINFRA_OK : no_memory(err);
}

/* The payload of a row, in the form that the formula is bound to. */
static aiinfra_status payload_of(aii_stage *stage, uint32_t slot, const aii_cell **doc, aiinfra_error *err)
{
  aiinfra_vecstore *store = stage->s.store;
  aii_stmt *stmt;
  bool row;
  size_t n = 0;
  json_t *payload = NULL;
  *doc = &aii_doc_empty;
  if (!stage->formula->payloads) return AIINFRA_OK;
  if (store->index.docs.state == AII_DOCS_ON) *doc = aii_docs_get(&store->index.docs, slot);
  if (store->index.docs.state == AII_DOCS_ON) return AIINFRA_OK;
  aiinfra_status rc =
      aii_sql_prepare(stage->s.view.sql, "SELECT payload FROM rows WHERE collection = ?1 AND id = ?2", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, store->collection);
  aii_stmt_int(stmt, 2, id_of(&store->index, slot));
  rc = aii_stmt_step(stmt, &row, err);
  const char *text = rc == AIINFRA_OK && row ? aii_stmt_get_text(stmt, 0, &n) : NULL;
  if (rc == AIINFRA_OK && n > 0) rc = aii_json_parse(text, n, "payload", 0, &payload, err);
  aii_stmt_reset(stmt);
  aii_buf_clear(&stage->doc);
  if (rc == AIINFRA_OK && !aii_doc_pack(&stage->keys, false, payload, &stage->doc)) rc = no_memory(err);
  json_decref(payload);
  *doc = (const aii_cell *)(const void *)stage->doc.data;
  return rc;
}

aiinfra_status aii_stage_score(aii_stage *stage, size_t candidate, double *score, aiinfra_error *err)
{
  double scores[AII_FUSED];
  uint32_t slot = stage->slots[candidate], list = 0;
  aii_formula_row row = {.id = id_of(&stage->s.store->index, slot), .scores = scores, .steps = &stage->steps};
  for (const aii_stage *child = stage->child; child != NULL; child = child->next, list++) {
    uint32_t rank = stage->ranks[candidate * stage->n_children + list];
    scores[list] = rank > 0 ? (double)child->s.ranked[rank - 1].hit.score : NAN;
  }
  aiinfra_status rc = payload_of(stage, slot, &row.doc, err);
  if (rc == AIINFRA_OK) rc = aii_formula_score(stage->formula, &row, score, err);
  if (rc != AIINFRA_OK || stage->steps > 0) return rc;
  return aii_fail(err, AIINFRA_ELIMIT, "the conditions of the formula take too many steps on this collection");
}

static aiinfra_status score_all(aii_stage *stage, double *scores, aiinfra_error *err)
{
  aii_index *index = &stage->s.store->index;
  aiinfra_status rc = AIINFRA_OK;
  if (stage->kind == AII_STAGE_FUSION) {
    aii_fuse_scores(stage, scores);
    return AIINFRA_OK;
  }
  bool in_memory = index->docs.state == AII_DOCS_ON;
  stage->steps = STEPS_AT_LEAST + (uint64_t)STEPS_PER_ROW * index->n;
  (void)pthread_mutex_lock(&index->keys);
  bool bound = aii_formula_bind(stage->formula, in_memory ? &index->docs.keys : &stage->keys, !in_memory);
  (void)pthread_mutex_unlock(&index->keys);
  if (!bound) return no_memory(err);
  for (size_t i = 0; rc == AIINFRA_OK && i < stage->n; i++) rc = aii_stage_score(stage, i, &scores[i], err);
  return rc;
}

static aiinfra_status combine(aii_stage *stage, aiinfra_error *err)
{
  aii_search *s = &stage->s;
  const aii_index *index = &s->store->index;
  aiinfra_status rc = collect(stage, err);
  if (rc == AIINFRA_OK) rc = aii_search_room(s, err);
  if (rc != AIINFRA_OK || stage->n == 0) return rc;
  double *scores = aii_new_array(index->mem, stage->n, sizeof *scores);
  rc = scores != NULL ? score_all(stage, scores, err) : no_memory(err);
  for (size_t i = 0; rc == AIINFRA_OK && i < stage->n; i++) {
    aii_near hit = {id_of(index, stage->slots[i]), -(float)scores[i], stage->slots[i]};
    aii_near_offer(s->by_vector, &s->n_vector, s->depth, hit);
  }
  aii_del(index->mem, scores, stage->n * sizeof *scores);
  aii_near_sort(s->by_vector, s->n_vector);
  return rc;
}

/* A hit of a fusion or a formula tells the scores by vector and by words of the first list that has them. */
static void carry_scores(aii_stage *stage)
{
  for (size_t i = 0; i < stage->s.n_ranked; i++) {
    aiinfra_hit *hit = &stage->s.ranked[i].hit;
    uint32_t at = aii_idmap_get(&stage->at, hit->id), list = 0;
    for (const aii_stage *child = stage->child; child != NULL; child = child->next, list++) {
      uint32_t rank = stage->ranks[at * stage->n_children + list];
      if (rank == 0) continue;
      const aiinfra_hit *from = &child->s.ranked[rank - 1].hit;
      if (isnan(hit->vector_score)) hit->vector_score = from->vector_score;
      if (isnan(hit->text_score)) hit->text_score = from->text_score;
    }
  }
}

/* ---- the whole ------------------------------------------------------------------------------------------------- */

aiinfra_status aii_stage_run(aii_stage *stage, aiinfra_error *err)
{
  aii_search *s = &stage->s;
  bool combines = stage->kind == AII_STAGE_FUSION || stage->kind == AII_STAGE_FORMULA;
  aiinfra_status rc = make_mask(stage, err);
  s->payloads = s->store->index.docs.state;
  if (rc == AIINFRA_OK && combines) rc = combine(stage, err);
  else if (rc == AIINFRA_OK && stage->kind >= AII_STAGE_DISCOVER) rc = aii_discover_run(stage, err);
  else if (rc == AIINFRA_OK) rc = find_nearest(stage, err);
  if (rc == AIINFRA_OK && s->o.group_by != NULL) {
    rc = aii_column_make(s->store, s->view.sql, s->o.group_by, &s->mask, &s->column, err);
  }
  if (rc == AIINFRA_OK) rc = aii_rank(s, err);
  if (rc == AIINFRA_OK && combines) carry_scores(stage);
  return rc;
}
