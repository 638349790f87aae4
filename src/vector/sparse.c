/* sparse.c - sparse vectors: the inverted index of a collection of them, and the exact search over it.
 *
 * A row is a slot. Each index of a vector has a list of the slots that have it, with their values, in the order of slots.
 * A query adds up the products of its own values with those of its lists, in the order of indices and in double, so that
 * sums are the same however slots lie. Rows that share no index with the query are not found, as with words.
 *
 * Rows are the truth, as for vectors: before a search, newer rows get new slots, older slots of theirs and those of rows
 * that are gone die. When half of the slots are dead, all rows are read anew. A failure in the middle leaves the index at
 * its old count of writes: the next search reads those rows once more. Count and lock are those of the collection's index.
 * What can fail: memory, the database.
 */
#include <math.h>
#include <stdlib.h>

#include "src/vector/named.h"

enum { KEEP_DEAD = 1024 }; /* dead slots that are not worth reading all rows */

typedef struct posting {
  uint32_t slot;
  float value;
} posting;

typedef struct postings {
  posting *items;
  size_t n, cap;
} postings;

struct aii_sparse {
  aii_mem *mem;
  aii_idmap terms; /* an index to its list */
  postings *lists;
  size_t n_lists, lists_cap;
  aii_idmap map; /* an id to its newest slot */
  int64_t *ids;  /* by slot */
  bool *dead;
  size_t ids_cap, dead_cap;
  uint32_t n, n_dead;
};

static aiinfra_status no_memory(aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_ENOMEM, "no memory for sparse vectors");
}

/* ---- stored vectors ---------------------------------------------------------------------------------------------- */

typedef struct pair {
  uint32_t index;
  float value;
} pair;

static int by_index(const void *a, const void *b)
{
  uint32_t x = ((const pair *)a)->index, y = ((const pair *)b)->index;
  return (x > y) - (x < y);
}

aiinfra_status aii_sparse_store(aii_mem *mem, const uint32_t *indices, const float *values, size_t n, uint8_t *out,
                                aiinfra_error *err)
{
  pair *pairs = aii_new_array(mem, n, sizeof *pairs);
  aiinfra_status rc = AIINFRA_OK;
  if (pairs == NULL) return no_memory(err);
  for (size_t i = 0; i < n; i++) pairs[i] = (pair){indices[i], values[i]};
  qsort(pairs, n, sizeof *pairs, by_index);
  for (size_t i = 0; i < n; i++) {
    memcpy(out + i * sizeof(uint32_t), &pairs[i].index, sizeof(uint32_t));
    memcpy(out + n * sizeof(uint32_t) + i * sizeof(float), &pairs[i].value, sizeof(float));
    if (i > 0 && pairs[i].index == pairs[i - 1].index) {
      rc = aii_fail(err, AIINFRA_EINVAL, "the index %u comes twice", pairs[i].index);
    }
  }
  aii_del(mem, pairs, n * sizeof *pairs);
  return rc;
}

static pair pair_at(const uint8_t *stored, size_t n, size_t at)
{
  pair p;
  memcpy(&p.index, stored + at * sizeof(uint32_t), sizeof p.index);
  memcpy(&p.value, stored + n * sizeof(uint32_t) + at * sizeof(float), sizeof p.value);
  return p;
}

/* ---- the index --------------------------------------------------------------------------------------------------- */

aii_sparse *aii_sparse_new(aii_mem *mem)
{
  aii_sparse *s = aii_new(mem, sizeof *s);
  if (s == NULL) return NULL;
  s->mem = mem;
  aii_idmap_init(&s->terms, mem);
  aii_idmap_init(&s->map, mem);
  return s;
}

void aii_sparse_clear(aii_sparse *s)
{
  for (size_t i = 0; i < s->n_lists; i++) aii_del(s->mem, s->lists[i].items, s->lists[i].cap * sizeof(posting));
  aii_del(s->mem, s->lists, s->lists_cap * sizeof *s->lists);
  aii_del(s->mem, s->ids, s->ids_cap * sizeof *s->ids);
  aii_del(s->mem, s->dead, s->dead_cap * sizeof *s->dead);
  aii_idmap_free(&s->terms);
  aii_idmap_free(&s->map);
  s->lists = NULL;
  s->ids = NULL;
  s->dead = NULL;
  s->n_lists = s->lists_cap = s->ids_cap = s->dead_cap = 0;
  s->n = s->n_dead = 0;
}

void aii_sparse_free(aii_sparse *s)
{
  if (s == NULL) return;
  aii_sparse_clear(s);
  aii_del(s->mem, s, sizeof *s);
}

static void kill(aii_sparse *s, uint32_t slot)
{
  s->n_dead += !s->dead[slot];
  s->dead[slot] = true;
}

static bool post(aii_sparse *s, uint32_t index, posting p)
{
  uint32_t at = aii_idmap_get(&s->terms, index);
  if (at == AII_NO_SLOT) {
    if (!aii_grow(s->mem, &s->lists, &s->lists_cap, s->n_lists + 1, sizeof *s->lists)) return false;
    if (!aii_idmap_set(&s->terms, index, (uint32_t)s->n_lists)) return false;
    at = (uint32_t)s->n_lists++;
    s->lists[at] = (postings){0};
  }
  postings *list = &s->lists[at];
  if (!aii_grow(s->mem, &list->items, &list->cap, list->n + 1, sizeof *list->items)) return false;
  list->items[list->n++] = p;
  return true;
}

/* A slot is dead until all of its postings are there. */
static bool add(aii_sparse *s, int64_t id, const uint8_t *stored, size_t n)
{
  uint32_t slot = s->n, old = aii_idmap_get(&s->map, id);
  if (slot >= AII_MAX_SLOTS || !aii_grow(s->mem, &s->ids, &s->ids_cap, (size_t)slot + 1, sizeof *s->ids) ||
      !aii_grow(s->mem, &s->dead, &s->dead_cap, (size_t)slot + 1, sizeof *s->dead)) {
    return false;
  }
  s->ids[slot] = id;
  s->dead[slot] = true;
  s->n++;
  s->n_dead++;
  for (size_t i = 0; i < n; i++) {
    pair p = pair_at(stored, n, i);
    if (!post(s, p.index, (posting){slot, p.value})) return false;
  }
  if (!aii_idmap_set(&s->map, id, slot)) return false;
  if (old != AII_NO_SLOT) kill(s, old);
  s->dead[slot] = false;
  s->n_dead--;
  return true;
}

/* ---- from the rows ----------------------------------------------------------------------------------------------- */

static aiinfra_status add_new(aiinfra_vecstore *store, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = true;
  aiinfra_status rc = aii_sql_prepare(store->db->sql,
                                      "SELECT r.id, v.vector FROM rows r LEFT JOIN vectors v ON v.row = r.row "
                                      "WHERE r.collection = ?1 AND r.seq > ?2 ORDER BY r.seq, r.id",
                                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, store->collection);
  aii_stmt_int(stmt, 2, store->index.seq);
  while (rc == AIINFRA_OK && row) {
    size_t n;
    rc = aii_stmt_step(stmt, &row, err);
    if (rc != AIINFRA_OK || !row) break;
    int64_t id = aii_stmt_get_int(stmt, 0);
    const void *stored = aii_stmt_get_blob(stmt, 1, &n);
    if (stored == NULL || n % AII_PAIR_BYTES != 0) {
      rc = aii_fail(err, AIINFRA_EFORMAT,
                    "the sparse vector of row %lld is damaged; restore the database from a backup", (long long)id);
    } else if (!add(store->sparse, id, stored, n / AII_PAIR_BYTES)) {
      rc = no_memory(err);
    }
  }
  aii_stmt_reset(stmt);
  return rc;
}

static aiinfra_status kill_removed(aiinfra_vecstore *store, aiinfra_error *err)
{
  aii_sparse *s = store->sparse;
  size_t n_words = (size_t)s->n / 64 + 1;
  uint64_t *there = aii_new_array(s->mem, n_words, sizeof *there);
  if (there == NULL) return no_memory(err);
  aiinfra_status rc = aii_rows_there(store, &s->map, there, err);
  for (uint32_t slot = 0; rc == AIINFRA_OK && slot < s->n; slot++) {
    if (!aii_bit(there, slot)) kill(s, slot);
  }
  aii_del(s->mem, there, n_words * sizeof *there);
  return rc;
}

aiinfra_status aii_sparse_sync(aiinfra_vecstore *store, aiinfra_error *err)
{
  aii_sparse *s = store->sparse;
  aii_index *index = &store->index;
  aii_seqs now;
  aiinfra_status rc = aii_collection_seqs(store, store->db->sql, &now, err);
  if (rc != AIINFRA_OK || index->seq == now.seq) return rc; /* changes only with the connection's lock held */
  (void)pthread_rwlock_wrlock(&index->lock);
  if (s->n_dead > KEEP_DEAD && s->n_dead > s->n / 2) {
    aii_sparse_clear(s);
    index->seq = -1;
  }
  bool removed = s->n > 0 && (index->seq < 0 || now.removed_seq > index->seq);
  rc = add_new(store, err);
  if (rc == AIINFRA_OK && removed) rc = kill_removed(store, err);
  if (rc == AIINFRA_OK) index->seq = now.seq;
  (void)pthread_rwlock_unlock(&index->lock);
  return rc;
}

/* ---- searching --------------------------------------------------------------------------------------------------- */

/* What a query has found: sums by slot, and the slots that share an index with it. */
typedef struct sums {
  double *of;
  uint64_t *met;
  size_t n_words;
} sums;

static void add_up(const aii_sparse *s, const uint8_t *query, size_t n, sums *sum, uint64_t *n_scanned)
{
  for (size_t i = 0; i < n; i++) {
    pair p = pair_at(query, n, i);
    uint32_t at = aii_idmap_get(&s->terms, p.index);
    if (at == AII_NO_SLOT) continue;
    const postings *list = &s->lists[at];
    for (size_t j = 0; j < list->n; j++) {
      uint32_t slot = list->items[j].slot;
      sum->of[slot] += (double)p.value * (double)list->items[j].value;
      sum->met[slot / 64] |= (uint64_t)1 << slot % 64;
    }
    *n_scanned += list->n;
  }
}

static void choose(const aii_sparse *s, const sums *sum, const aii_index *above, const uint64_t *allow, aii_near *hits,
                   size_t cap, size_t *n_hits)
{
  for (size_t w = 0; w < sum->n_words; w++) {
    for (uint64_t bits = sum->met[w]; bits != 0; bits &= bits - 1) {
      uint32_t slot = (uint32_t)(w * 64 + (size_t)__builtin_ctzll(bits));
      float dist = -(float)sum->of[slot];
      if (s->dead[slot] || (*n_hits == cap && dist > hits[0].dist)) continue;
      aii_near hit = {s->ids[slot], isnan(dist) ? INFINITY : dist, aii_idmap_get(&above->map, s->ids[slot])};
      if (allow != NULL && (hit.slot >= above->n || !aii_bit(allow, hit.slot))) continue;
      aii_near_offer(hits, n_hits, cap, hit);
    }
  }
}

aiinfra_status aii_sparse_find(const aiinfra_vecstore *store, const uint8_t *query, size_t n, const aii_index *above,
                               const uint64_t *allow, aii_near *hits, size_t cap, size_t *n_hits, uint64_t *n_scanned,
                               aiinfra_error *err)
{
  const aii_sparse *s = store->sparse;
  aiinfra_status rc = AIINFRA_OK;
  *n_hits = 0;
  sums sum = {.n_words = (size_t)s->n / 64 + 1};
  sum.of = aii_new_array(s->mem, (size_t)s->n + 1, sizeof *sum.of);
  sum.met = aii_new_array(s->mem, sum.n_words, sizeof *sum.met);
  if (sum.of != NULL && sum.met != NULL) {
    add_up(s, query, n, &sum, n_scanned);
    choose(s, &sum, above, allow, hits, cap, n_hits);
    aii_near_sort(hits, *n_hits);
  } else {
    rc = no_memory(err);
  }
  aii_del(s->mem, sum.of, ((size_t)s->n + 1) * sizeof *sum.of);
  aii_del(s->mem, sum.met, sum.n_words * sizeof *sum.met);
  return rc;
}
