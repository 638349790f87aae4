/* rank.c - from the rankings to the hits that are wanted.
 *
 * Fusion is by reciprocal rank: 1 / (60 + rank) summed over all rankings. Then, as the query's options want it: hits below a
 * score are cut off; the list is thinned to what is relevant and not alike (maximal marginal relevance, Carbonell and
 * Goldstein, 1998); or to the best hits of the best groups. Last, the first ones are skipped. Only memory can fail.
 */
#include <math.h>
#include <stdlib.h>

#include "src/vector/search.h"

enum { RRF_K = 60 };

static aiinfra_status no_memory(aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_ENOMEM, "no memory for a search");
}

/* ---- fusion ---------------------------------------------------------------------------------------------------- */

static void add_vector_hits(aii_search *s)
{
  for (size_t i = 0; i < s->n_vector; i++) {
    aii_ranked *r = &s->ranked[s->n_ranked++];
    *r = (aii_ranked){.slot = s->by_vector[i].slot, .vector_rank = (uint32_t)i + 1, .group = AII_NO_SLOT};
    r->hit = (aiinfra_hit){.id = s->by_vector[i].id, .text_score = NAN};
    float dist = s->by_vector[i].dist;
    r->hit.vector_score = s->target->multi != NULL ? -dist : aii_index_score(&s->target->index, dist);
    r->hit.score = s->n_rankings == 1 ? r->hit.vector_score : 1.0f / (float)(RRF_K + i + 1);
    if (s->scored) r->hit.score = -dist;
    if (s->scored) r->hit.vector_score = NAN;
  }
}

/* Where a ranking found a hit. A sparse vector that is alone is the vector. */
static void note(const aii_search *s, aii_ranked *r, bool sparse, size_t at, float score)
{
  if (sparse) {
    r->sparse_rank = (uint32_t)at + 1;
    r->sparse_score = score;
    if (!s->wants_vectors) r->hit.vector_score = score;
  } else {
    r->word_rank = (uint32_t)at + 1;
    r->hit.text_score = score;
  }
  r->hit.score += s->n_rankings > 1 ? 1.0f / (float)(RRF_K + at + 1) : score;
}

/* Those of another ranking, by words or sparse. */
static bool add_hits(aii_search *s, const aii_near *list, size_t n, bool sparse)
{
  aii_idmap at;
  bool ok = true;
  aii_idmap_init(&at, s->store->index.mem);
  for (size_t i = 0; ok && i < s->n_ranked; i++) ok = aii_idmap_set(&at, s->ranked[i].hit.id, (uint32_t)i);
  for (size_t i = 0; ok && i < n; i++) {
    uint32_t old = aii_idmap_get(&at, list[i].id);
    aii_ranked *r = &s->ranked[old != AII_NO_SLOT ? old : s->n_ranked];
    if (old == AII_NO_SLOT) {
      *r = (aii_ranked){.slot = list[i].slot, .group = AII_NO_SLOT};
      r->hit = (aiinfra_hit){.id = list[i].id, .vector_score = NAN, .text_score = NAN};
      s->n_ranked++;
    }
    note(s, r, sparse, i, -list[i].dist);
  }
  aii_idmap_free(&at);
  return ok;
}

static int by_score(const void *a, const void *b)
{
  const aiinfra_hit *x = &((const aii_ranked *)a)->hit, *y = &((const aii_ranked *)b)->hit;
  if (x->score != y->score) return x->score > y->score ? -1 : 1;
  return (x->id > y->id) - (x->id < y->id);
}

/* ---- diversity ------------------------------------------------------------------------------------------------- */

typedef struct candidate {
  aii_ranked ranked;
  double relevance, alike; /* to the query; to the one picked hit that it is most like */
  const float *vector;
} candidate;

static double score_of(const aii_search *s, const float *query, const float *vector)
{
  return (double)aii_index_score(&s->target->index, aii_index_dist(&s->target->index, query, vector));
}

/* Moves the next pick to place `at`: relevant by lambda, unlike those before it by the rest. Others keep their order. */
static void pick(const aii_search *s, candidate *list, size_t n, size_t at)
{
  size_t best = at;
  double best_value = -INFINITY;
  for (size_t i = at; i < n; i++) {
    double value = s->o.lambda * list[i].relevance;
    if (at > 0) {
      double score = score_of(s, list[at - 1].vector, list[i].vector);
      list[i].alike = at == 1 ? score : fmax(list[i].alike, score);
      value -= (1 - s->o.lambda) * list[i].alike;
    }
    if (value > best_value) {
      best_value = value;
      best = i;
    }
  }
  candidate picked = list[best];
  memmove(list + at + 1, list + at, (best - at) * sizeof *list);
  list[at] = picked;
}

/* The vectors of n hits, from their rows: one that is gone meanwhile is like nothing. */
static aiinfra_status read_vectors(aii_search *s, const aii_ranked *hits, size_t n, float *vectors, aiinfra_error *err)
{
  aii_sql *sql = aii_db_read_lock(s->store->db);
  size_t stride = s->target->index.code_bytes;
  aiinfra_status rc = aii_sql_begin_read(sql, err);
  if (rc == AIINFRA_OK) {
    bool there;
    for (size_t i = 0; rc == AIINFRA_OK && i < n; i++) {
      rc = aii_fetch_id(s->target, sql, hits[i].hit.id, INT64_MAX, vectors + i * stride, &there, err);
    }
    aii_sql_rollback(sql); /* nothing was written */
  }
  aii_db_read_unlock(s->store->db, sql);
  return rc;
}

/* The vectors of the first n hits: [n][code_bytes]. One without such a vector is like nothing. */
static aiinfra_status vectors_of(aii_search *s, size_t n, float *vectors, aiinfra_error *err)
{
  const aii_index *index = &s->target->index;
  if (!s->in_memory && !s->open) return read_vectors(s, s->ranked, n, vectors, err);
  for (size_t i = 0; i < n; i++) {
    float *to = vectors + i * index->code_bytes;
    uint32_t slot = s->ranked[i].slot;
    if (s->target != s->store) slot = aii_idmap_get(&index->map, s->ranked[i].hit.id);
    if (slot == AII_NO_SLOT || aii_is_dead(index, slot)) continue; /* found by something else, or it lost its vector */
    aiinfra_status rc = s->open ? aii_fetch_slot(s->target, s->view.sql, slot, to, err) : AIINFRA_OK;
    if (rc != AIINFRA_OK) return rc;
    if (s->open) continue;
    if (index->floats) memcpy(to, aii_vector_of(index, slot), index->dims * sizeof *to);
    else aii_code_vector(index, slot, to);
  }
  return AIINFRA_OK;
}

static aiinfra_status diversify(aii_search *s, size_t wanted, aiinfra_error *err)
{
  aii_index *index = &s->target->index;
  size_t n = AII_MIN(s->n_ranked, s->depth), n_floats = n * index->code_bytes;
  if (n == 0) return AIINFRA_OK;
  candidate *list = aii_new_array(index->mem, n, sizeof *list);
  float *vectors = aii_new_array(index->mem, n_floats, sizeof *vectors);
  aiinfra_status rc = list != NULL && vectors != NULL ? vectors_of(s, n, vectors, err) : no_memory(err);
  if (rc == AIINFRA_OK) {
    for (size_t i = 0; i < n; i++) {
      const float *v = vectors + i * index->code_bytes;
      bool by_score = s->scored || s->vector == NULL;
      list[i] = (candidate){s->ranked[i], by_score ? (double)s->ranked[i].hit.score : score_of(s, s->vector, v), 0, v};
    }
    for (size_t i = 0; i < AII_MIN(wanted, n); i++) pick(s, list, n, i);
    for (size_t i = 0; i < n; i++) s->ranked[i] = list[i].ranked;
    s->n_ranked = n;
  }
  aii_del(index->mem, list, n * sizeof *list);
  aii_del(index->mem, vectors, n_floats * sizeof *vectors);
  return rc;
}

/* ---- groups ---------------------------------------------------------------------------------------------------- */

/* A hit joins the group of a value, if there is room or it founds one. */
static bool join(aii_search *s, const aii_ranked *hit, uint32_t value, aii_ranked *out, size_t *counts)
{
  uint32_t *group_of = s->column.last; /* by value */
  size_t size = (size_t)s->o.group_size;
  if (group_of[value] == AII_NO_SLOT) {
    if (s->n_groups == s->q->k) return true;
    if (!aii_grow(s->store->index.mem, &s->groups, &s->groups_cap, s->n_groups + 1, sizeof *s->groups)) return false;
    group_of[value] = (uint32_t)s->n_groups;
    s->groups[s->n_groups++] = value;
  }
  uint32_t g = group_of[value];
  if (counts[g] == size) return true;
  out[g * size + counts[g]] = *hit;
  out[g * size + counts[g]++].group = g;
  return true;
}

static int by_slot(const void *a, const void *b)
{
  const aii_column_cell *x = a, *y = b;
  if (x->slot != y->slot) return x->slot < y->slot ? -1 : 1;
  return (x->value > y->value) - (x->value < y->value);
}

static bool join_all(aii_search *s, aii_ranked *out, size_t *counts)
{
  const aii_column *c = &s->column;
  bool ok = true;
  for (size_t v = 0; v < c->values.n; v++) c->last[v] = AII_NO_SLOT;
  if (c->n > 1) qsort(c->cells, c->n, sizeof *c->cells, by_slot);
  for (size_t i = 0; ok && i < s->n_ranked; i++) {
    size_t from = 0, to = c->n;
    while (from < to) {
      size_t middle = from + (to - from) / 2;
      if (c->cells[middle].slot < s->ranked[i].slot) from = middle + 1;
      else to = middle;
    }
    for (; ok && from < c->n && c->cells[from].slot == s->ranked[i].slot; from++) {
      ok = join(s, &s->ranked[i], c->cells[from].value, out, counts);
    }
  }
  return ok;
}

/* The list becomes the hits of the first group, of the second, and so on. */
static aiinfra_status make_groups(aii_search *s, aiinfra_error *err)
{
  aii_mem *mem = s->store->index.mem;
  size_t n_groups = AII_MIN((size_t)s->q->k, s->column.values.n);
  size_t size = AII_MIN((size_t)s->o.group_size, s->n_ranked), room = size * n_groups;
  if (room == 0) {
    s->n_ranked = 0;
    return AIINFRA_OK;
  }
  s->o.group_size = (int64_t)size; /* more than there are fit in no group */
  aii_ranked *out = aii_new_array(mem, room, sizeof *out);
  size_t *counts = aii_new_array(mem, n_groups, sizeof *counts);
  bool ok = out != NULL && counts != NULL && join_all(s, out, counts);
  size_t n = 0;
  for (size_t g = 0; ok && g < s->n_groups; g++) {
    memmove(out + n, out + g * size, counts[g] * sizeof *out);
    n += counts[g];
  }
  aii_del(mem, counts, n_groups * sizeof *counts);
  if (!ok) {
    aii_del(mem, out, room * sizeof *out);
    return no_memory(err);
  }
  aii_del(mem, s->ranked, s->ranked_cap * sizeof *s->ranked);
  s->ranked = out;
  s->ranked_cap = room;
  s->n_ranked = n;
  return AIINFRA_OK;
}

/* ---- the whole ------------------------------------------------------------------------------------------------- */

aiinfra_status aii_rank(aii_search *s, aiinfra_error *err)
{
  size_t offset = (size_t)s->o.offset, wanted = offset + s->q->k;
  aiinfra_status rc = AIINFRA_OK;
  s->ranked_cap = s->n_vector + s->n_words + s->n_sparse;
  if (s->ranked_cap == 0) return AIINFRA_OK;
  s->ranked = aii_new_array(s->store->index.mem, s->ranked_cap, sizeof *s->ranked);
  if (s->ranked == NULL) return no_memory(err);
  add_vector_hits(s);
  if (!add_hits(s, s->by_words, s->n_words, false) || !add_hits(s, s->by_sparse, s->n_sparse, true)) {
    return no_memory(err);
  }
  qsort(s->ranked, s->n_ranked, sizeof *s->ranked, by_score);
  while (s->o.has_threshold && s->n_ranked > 0 && (double)s->ranked[s->n_ranked - 1].hit.score < s->o.score_threshold) {
    s->n_ranked--;
  }
  if (s->o.group_by != NULL) return make_groups(s, err);
  if (s->o.mmr) rc = diversify(s, wanted, err);
  if (rc != AIINFRA_OK || s->all) return rc;
  s->n_ranked = AII_MIN(s->n_ranked, wanted);
  size_t skip = AII_MIN(offset, s->n_ranked);
  s->n_ranked -= skip;
  memmove(s->ranked, s->ranked + skip, s->n_ranked * sizeof *s->ranked);
  return AIINFRA_OK;
}
