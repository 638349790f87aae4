/* multi.c - several vectors a row, and late interaction: a query of several vectors, each of which takes its best vector of
 * a row; the score of the row is the sum of these scores (MaxSim; Khattab and Zaharia, 2020).
 *
 * A row below holds all vectors of its row, one behind the other. In the index each of them is a slot, and those of a row
 * follow each other; the slot's id is the row's place in a list, and its own place in the row. So codes, graph and bounds
 * are those of any index.
 *
 *   exact   all rows that pass are compared: by floats in memory, or by the bounds of codes, which leave over the few rows
 *           whose vectors are read from the database
 *   graph   each vector of the query finds its nearest slots; the rows that these belong to are compared by what memory has
 *
 * A graph that leads to fewer rows than are wanted is followed by an exact search. Rows that were replaced are dead in the
 * list; when half of it is, all rows are read anew. The list is guarded as the index is. What can fail: memory, the
 * database.
 */
#include <math.h>

#include "src/vector/named.h"

enum { KEEP_DEAD = 256, FEW_ROWS = 1024, BLURRED_PART = 10, PLACE_BITS = 16 };

typedef struct entry {
  int64_t id;
  uint32_t first, n; /* slots */
  bool dead;
} entry;

struct aii_multi {
  aii_mem *mem;
  aii_idmap map; /* an id to its newest entry */
  entry *rows;
  size_t n, cap, n_dead;
};

static aiinfra_status no_memory(aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_ENOMEM, "no memory for the vectors of rows");
}

aii_multi *aii_multi_new(aii_mem *mem)
{
  aii_multi *m = aii_new(mem, sizeof *m);
  if (m == NULL) return NULL;
  m->mem = mem;
  aii_idmap_init(&m->map, mem);
  return m;
}

void aii_multi_clear(aii_multi *m)
{
  aii_del(m->mem, m->rows, m->cap * sizeof *m->rows);
  aii_idmap_free(&m->map);
  m->rows = NULL;
  m->n = m->cap = m->n_dead = 0;
}

void aii_multi_free(aii_multi *m)
{
  if (m == NULL) return;
  aii_multi_clear(m);
  aii_del(m->mem, m, sizeof *m);
}

/* ---- from the rows ----------------------------------------------------------------------------------------------- */

static void kill_slots(aii_index *index, uint32_t first, uint32_t end)
{
  for (uint32_t slot = first; slot < end; slot++) aii_index_kill(index, slot);
}

static void kill_entry(aiinfra_vecstore *store, entry *e)
{
  store->multi->n_dead += !e->dead;
  e->dead = true;
  kill_slots(&store->index, e->first, e->first + e->n);
}

/* All of its vectors, or none that lives: ids of slots that are tried again get new slots. */
static bool add(aiinfra_vecstore *store, int64_t id, const uint8_t *stored, size_t n)
{
  aii_multi *m = store->multi;
  aii_index *index = &store->index;
  size_t step = aii_element_bytes(index->element, index->dims);
  uint32_t first = index->n, old = aii_idmap_get(&m->map, id);
  if (m->n >= AII_MAX_SLOTS || !aii_grow(m->mem, &m->rows, &m->cap, m->n + 1, sizeof *m->rows)) return false;
  bool ok = true;
  for (size_t i = 0; ok && i < n; i++) {
    ok = aii_index_add(index, (int64_t)(m->n << PLACE_BITS | i), stored + i * step);
  }
  if (!ok || !aii_idmap_set(&m->map, id, (uint32_t)m->n)) {
    kill_slots(index, first, index->n);
    return false;
  }
  if (old != AII_NO_SLOT) kill_entry(store, &m->rows[old]);
  m->rows[m->n++] = (entry){id, first, (uint32_t)n, false};
  return true;
}

/* How many vectors a row has; 0: it is damaged. */
static size_t count(const aii_index *index, const void *stored, size_t bytes)
{
  size_t step = aii_element_bytes(index->element, index->dims);
  return stored == NULL || bytes % step != 0 || bytes / step > AII_MAX_MULTI ? 0 : bytes / step;
}

static aiinfra_status damaged(int64_t id, aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_EFORMAT, "the vectors of row %lld are damaged; restore the database from a backup",
                  (long long)id);
}

static aiinfra_status add_new(aiinfra_vecstore *store, aii_sql *sql, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = true;
  aiinfra_status rc = aii_sql_prepare(sql,
                                      "SELECT r.id, v.vector FROM rows r LEFT JOIN vectors v ON v.row = r.row "
                                      "WHERE r.collection = ?1 AND r.seq > ?2 ORDER BY r.seq, r.id",
                                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, store->collection);
  aii_stmt_int(stmt, 2, store->index.seq);
  while (rc == AIINFRA_OK && row) {
    size_t bytes;
    rc = aii_stmt_step(stmt, &row, err);
    if (rc != AIINFRA_OK || !row) break;
    int64_t id = aii_stmt_get_int(stmt, 0);
    const void *stored = aii_stmt_get_blob(stmt, 1, &bytes);
    size_t n = count(&store->index, stored, bytes);
    if (n == 0) rc = damaged(id, err);
    else if (!add(store, id, stored, n)) rc = no_memory(err);
  }
  aii_stmt_reset(stmt);
  return rc;
}

static aiinfra_status kill_removed(aiinfra_vecstore *store, aiinfra_error *err)
{
  aii_multi *m = store->multi;
  size_t n_words = m->n / 64 + 1;
  uint64_t *there = aii_new_array(m->mem, n_words, sizeof *there);
  if (there == NULL) return no_memory(err);
  aiinfra_status rc = aii_rows_there(store, &m->map, there, err);
  for (size_t i = 0; rc == AIINFRA_OK && i < m->n; i++) {
    if (!aii_bit(there, (uint32_t)i)) kill_entry(store, &m->rows[i]);
  }
  aii_del(m->mem, there, n_words * sizeof *there);
  return rc;
}

/* Most of the list is dead: all is read anew, unless the graph is being built. */
static void renew(aiinfra_vecstore *store)
{
  aii_index *index = &store->index;
  const aii_multi *m = store->multi;
  if (m->n_dead < KEEP_DEAD || m->n_dead < m->n / 2 || pthread_mutex_trylock(&index->build) != 0) return;
  (void)pthread_rwlock_wrlock(&index->lock);
  aii_index_clear(index);
  aii_multi_clear(store->multi);
  (void)pthread_rwlock_unlock(&index->lock);
  (void)pthread_mutex_unlock(&index->build);
}

aiinfra_status aii_multi_sync(aiinfra_vecstore *store, aiinfra_error *err)
{
  aii_index *index = &store->index;
  aii_sql *sql = store->db->sql;
  aii_seqs now;
  aiinfra_status rc = aii_collection_seqs(store, sql, &now, err);
  if (rc != AIINFRA_OK || index->seq == now.seq) return rc; /* changes only with the connection's lock held */
  renew(store);
  (void)pthread_rwlock_wrlock(&index->lock);
  bool removed = store->multi->n > 0 && (index->seq < 0 || now.removed_seq > index->seq);
  rc = add_new(store, sql, err);
  if (rc == AIINFRA_OK && removed) rc = kill_removed(store, err);
  if (rc == AIINFRA_OK) index->seq = now.seq;
  (void)pthread_rwlock_unlock(&index->lock);
  return rc;
}

/* ---- which rows -------------------------------------------------------------------------------------------------- */

bool aii_multi_mask(const aiinfra_vecstore *store, const aii_index *above, const aii_mask *mask, aii_mask *below)
{
  const aii_multi *m = store->multi;
  below->n_passing = 0;
  below->n_words = m->n / 64 + 1;
  below->bits = aii_new_array(m->mem, below->n_words, sizeof *below->bits);
  if (below->bits == NULL) return false;
  for (size_t i = 0; i < m->n; i++) {
    uint32_t slot = aii_idmap_get(&above->map, m->rows[i].id);
    if (m->rows[i].dead || slot >= above->n || (mask->bits != NULL && !aii_bit(mask->bits, slot))) continue;
    below->bits[i / 64] |= (uint64_t)1 << i % 64;
    below->n_passing++;
  }
  return true;
}

/* ---- scores ------------------------------------------------------------------------------------------------------ */

typedef struct work {
  aii_search *s;
  aii_index *index;
  const entry *rows;
  size_t n_rows, stride;
  float *vector;      /* room for one */
  float *best, *most; /* [n_vectors] the least distance of each so far, and of what bounds it from above */
  float *lengths;     /* of the query's vectors, for bounds */
  float *some;        /* [AII_BLOCK_SLOTS] */
} work;

static const float *query_of(const work *w, size_t at)
{
  return w->s->vectors + at * w->stride;
}

static void begin(const work *w)
{
  for (size_t q = 0; q < w->s->n_vectors; q++) w->best[q] = w->most[q] = INFINITY;
}

/* The sum of the scores that distances mean. */
static double sum_of(const work *w, const float *dist)
{
  double sum = 0;
  for (size_t q = 0; q < w->s->n_vectors; q++) sum += (double)aii_index_score(w->index, dist[q]);
  return sum;
}

static void see(const work *w, const float *vector)
{
  for (size_t q = 0; q < w->s->n_vectors; q++) {
    float dist = aii_index_dist(w->index, query_of(w, q), vector);
    w->best[q] = AII_MIN(w->best[q], dist);
  }
}

/* A run of slots of one block by their floats, all at once. */
static void see_run(const work *w, uint32_t first, uint32_t n)
{
  const aii_kernels *k = w->index->kernels;
  uint32_t dims = w->index->dims;
  bool l2 = w->index->metric == AIINFRA_METRIC_L2;
  for (size_t q = 0; q < w->s->n_vectors; q++) {
    (l2 ? k->vec_l2sq : k->vec_dot)(aii_vector_of(w->index, first), dims, n, query_of(w, q), dims, w->some);
    for (uint32_t i = 0; i < n; i++) {
      float dist = l2 ? w->some[i] : -w->some[i];
      if (dist < w->best[q]) w->best[q] = dist; /* not a number is farther than anything */
    }
  }
}

/* By what memory has of its vectors. */
static double score_entry(work *w, const entry *e)
{
  uint32_t end = e->first + e->n;
  begin(w);
  w->s->plan.n_scanned += (uint64_t)e->n * w->s->n_vectors;
  for (uint32_t slot = e->first, n; slot < end; slot += n) {
    n = w->index->floats ? AII_MIN(end - slot, AII_BLOCK_SLOTS - slot % AII_BLOCK_SLOTS) : 1;
    if (w->index->floats) {
      see_run(w, slot, n);
    } else {
      aii_code_vector(w->index, slot, w->vector);
      see(w, w->vector);
    }
  }
  return sum_of(w, w->best);
}

/* What the distances of one slot are at least and at most. Products are off by so much for each length of a query, which
 * is asked for once; what floats round is in the bounds twice. */
static void bound_slot(work *w, uint32_t slot)
{
  bool l2 = w->index->metric == AIINFRA_METRIC_L2;
  float off = l2 ? 0 : aii_code_bounds(w->index, slot, 0, 1).high;
  aii_code_vector(w->index, slot, w->vector);
  for (size_t q = 0; q < w->s->n_vectors; q++) {
    float dist = aii_index_dist(w->index, query_of(w, q), w->vector);
    float slack = off * w->lengths[q] * 1.00001f + fabsf(dist) * 1e-5f + 1e-30f;
    aii_bounds b = {dist - slack, dist + slack};
    if (l2) b = aii_code_bounds(w->index, slot, dist, w->lengths[q]);
    else if (!isfinite(b.low) || !isfinite(b.high)) b = (aii_bounds){-INFINITY, INFINITY};
    w->best[q] = AII_MIN(w->best[q], b.low);
    w->most[q] = AII_MIN(w->most[q], b.high);
  }
}

/* What its score is at least and at most. */
static void bound_entry(work *w, const entry *e, double *least, double *most)
{
  begin(w);
  w->s->plan.n_scanned += (uint64_t)e->n * w->s->n_vectors;
  for (uint32_t slot = e->first; slot < e->first + e->n; slot++) bound_slot(w, slot);
  *most = sum_of(w, w->best);
  *least = sum_of(w, w->most);
}

/* ---- searches ---------------------------------------------------------------------------------------------------- */

static void offer(aii_search *s, int64_t id, double score)
{
  float dist = isnan(score) ? INFINITY : (float)-score;
  aii_near_offer(s->by_vector, &s->n_vector, s->depth, (aii_near){id, dist, AII_NO_SLOT});
}

static bool find_by_bounds(work *w, aii_near *near, size_t cap)
{
  aii_search *s = w->s;
  aii_finds *finds = &s->finds;
  size_t n_near = 0;
  finds->n = 0;
  for (size_t i = 0; i < w->n_rows; i++) {
    double least, most;
    if (!aii_bit(s->below.bits, (uint32_t)i)) continue;
    bound_entry(w, &w->rows[i], &least, &most);
    aii_near_offer(near, &n_near, cap, (aii_near){w->rows[i].id, (float)-least, 0});
    if (!aii_grow(w->index->mem, &finds->items, &finds->cap, finds->n + 1, sizeof *finds->items)) return false;
    finds->items[finds->n++] = (aii_find){w->rows[i].id, (float)-most, AII_NO_SLOT, 0};
  }
  size_t n = finds->n;
  finds->n = 0;
  for (size_t i = 0; i < n; i++) {
    if (n_near < cap || !(finds->items[i].dist > near[0].dist)) finds->items[finds->n++] = finds->items[i];
  }
  return true;
}

static bool search_exactly(work *w)
{
  aii_search *s = w->s;
  s->plan.kind = AII_PLAN_EXACT;
  s->n_vector = 0;
  s->in_memory = w->index->floats;
  if (!s->in_memory) {
    size_t cap = AII_MIN(s->depth, (size_t)s->below.n_passing);
    aii_near *near = aii_new_array(w->index->mem, cap, sizeof *near);
    bool ok = near != NULL && find_by_bounds(w, near, cap);
    aii_del(w->index->mem, near, cap * sizeof *near);
    return ok;
  }
  for (size_t i = 0; i < w->n_rows; i++) {
    if (aii_bit(s->below.bits, (uint32_t)i)) offer(s, w->rows[i].id, score_entry(w, &w->rows[i]));
  }
  return true;
}

/* The rows that have a slot among the nearest of any of the query's vectors: bits by entry. */
static bool find_rows(work *w, const uint64_t *allow, uint64_t *met, size_t *n_met)
{
  aii_search *s = w->s;
  bool ok = true;
  for (size_t q = 0; ok && q < s->n_vectors; q++) {
    aii_walk how = {.allow = allow, .ef = s->plan.ef};
    s->finds.n = 0;
    ok = aii_hnsw_search(w->index, query_of(w, q), &how, s->plan.ef, &s->finds) &&
         aii_index_scan(w->index, query_of(w, q), allow, how.n_graph, s->plan.ef, &s->finds, &how.n_scanned);
    s->plan.n_scanned += how.n_scanned;
    for (size_t i = 0; ok && i < s->finds.n; i++) {
      uint32_t at = (uint32_t)(s->finds.items[i].id >> PLACE_BITS);
      *n_met += !aii_bit(met, at);
      met[at / 64] |= (uint64_t)1 << at % 64;
    }
  }
  s->finds.n = 0;
  return ok;
}

static bool search_graph(work *w)
{
  aii_search *s = w->s;
  aii_mem *mem = w->index->mem;
  size_t n_words = (size_t)w->index->n / 64 + 1, n_rows = w->n_rows / 64 + 1, n_met = 0;
  uint64_t *allow = aii_new_array(mem, n_words, sizeof *allow), *met = aii_new_array(mem, n_rows, sizeof *met);
  bool ok = allow != NULL && met != NULL;
  for (size_t i = 0; ok && i < w->n_rows; i++) {
    if (!aii_bit(s->below.bits, (uint32_t)i)) continue;
    for (uint32_t t = 0; t < w->rows[i].n; t++) {
      uint32_t slot = w->rows[i].first + t;
      allow[slot / 64] |= (uint64_t)1 << slot % 64;
    }
  }
  ok = ok && find_rows(w, allow, met, &n_met);
  bool enough = ok && n_met >= AII_MIN(s->depth, (size_t)s->below.n_passing);
  for (size_t i = 0; enough && i < w->n_rows; i++) {
    if (aii_bit(met, (uint32_t)i)) offer(s, w->rows[i].id, score_entry(w, &w->rows[i]));
  }
  aii_del(mem, allow, n_words * sizeof *allow);
  aii_del(mem, met, n_rows * sizeof *met);
  if (!ok || enough) return ok;
  s->plan.why = "the graph led to fewer rows than there are";
  return search_exactly(w);
}

/* false: all that pass are compared. */
static bool wants_graph(work *w)
{
  aii_search *s = w->s;
  const aii_index *index = w->index;
  if (s->plan.kind == AII_PLAN_EXACT &&
      (s->q->mode == AIINFRA_SEARCH_EXACT || s->exact != NULL || s->o.group_by != NULL))
    return false;
  s->plan.kind = AII_PLAN_GRAPH;
  s->plan.why = "each vector of the query finds its nearest";
  if (index->n_graph > 0 && s->q->mode == AIINFRA_SEARCH_GRAPH) return true;
  if (index->n_graph == 0) s->plan.why = "the collection is small: there is no graph";
  else if (index->n_graph < index->n / 2) s->plan.why = "less than half of the rows are in the graph yet";
  else if (index->n_blurred > index->n_graph / BLURRED_PART) s->plan.why = "8 bits are too coarse for these vectors";
  else if (s->below.n_passing <= FEW_ROWS) s->plan.why = "few rows pass";
  else return true;
  return false;
}

/* Room for all that scores need; false: no memory. */
static bool open_work(work *w, aii_search *s)
{
  aii_index *index = &s->target->index;
  aii_mem *mem = index->mem;
  *w = (work){.s = s, .index = index};
  w->stride = index->code_bytes;
  w->vector = aii_new_aligned(mem, w->stride * sizeof(float));
  w->some = aii_new_aligned(mem, AII_BLOCK_SLOTS * sizeof(float));
  w->best = aii_new_array(mem, s->n_vectors, sizeof(float));
  w->most = aii_new_array(mem, s->n_vectors, sizeof(float));
  w->lengths = aii_new_array(mem, s->n_vectors, sizeof(float));
  if (w->vector == NULL || w->some == NULL || w->best == NULL || w->most == NULL || w->lengths == NULL) return false;
  for (size_t q = 0; q < s->n_vectors; q++) w->lengths[q] = aii_length_of(query_of(w, q), index->dims);
  return true;
}

static void close_work(work *w)
{
  aii_mem *mem = w->index->mem;
  aii_del_aligned(mem, w->vector, w->stride * sizeof(float));
  aii_del_aligned(mem, w->some, AII_BLOCK_SLOTS * sizeof(float));
  aii_del(mem, w->best, w->s->n_vectors * sizeof(float));
  aii_del(mem, w->most, w->s->n_vectors * sizeof(float));
  aii_del(mem, w->lengths, w->s->n_vectors * sizeof(float));
}

aiinfra_status aii_multi_room(aii_search *s, size_t n, aiinfra_error *err)
{
  size_t bytes = n * s->target->index.code_bytes * sizeof(float);
  s->vectors = aii_new_aligned(s->store->index.mem, bytes);
  if (s->vectors == NULL) return no_memory(err);
  memset(s->vectors, 0, bytes);
  s->n_vectors = n;
  return AIINFRA_OK;
}

aiinfra_status aii_multi_take(aii_search *s, aiinfra_error *err)
{
  const aii_index *index = &s->target->index;
  aiinfra_status rc = aii_multi_room(s, s->o.multi > 0 ? (size_t)s->o.multi : 1, err);
  for (size_t q = 0; rc == AIINFRA_OK && q < s->n_vectors; q++) {
    aii_index_take(index, s->vectors + q * index->code_bytes, s->q->vector + q * index->dims);
  }
  return rc;
}

aiinfra_status aii_multi_search(aii_search *s, aiinfra_error *err)
{
  work w;
  bool ok = open_work(&w, s);
  w.rows = s->target->multi->rows;
  w.n_rows = s->target->multi->n;
  if (ok) ok = wants_graph(&w) ? search_graph(&w) : search_exactly(&w);
  close_work(&w);
  return ok ? AIINFRA_OK : no_memory(err);
}

/* ---- rows that decide -------------------------------------------------------------------------------------------- */

/* One that is gone, or newer than the index was, keeps what bounds it. */
static aiinfra_status fetch_row(work *w, aii_sql *sql, int64_t seq, const aii_find *f, aiinfra_error *err)
{
  size_t bytes, step = aii_element_bytes(w->index->element, w->index->dims);
  double score = -(double)f->dist;
  aii_stmt *stmt;
  bool there;
  aiinfra_status rc = aii_sql_prepare(sql,
                                      "SELECT v.vector FROM rows r JOIN vectors v ON v.row = r.row "
                                      "WHERE r.collection = ?1 AND r.id = ?2 AND r.seq <= ?3",
                                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, w->s->target->collection);
  aii_stmt_int(stmt, 2, f->id);
  aii_stmt_int(stmt, 3, seq);
  rc = aii_stmt_step(stmt, &there, err);
  if (rc == AIINFRA_OK && there) {
    const uint8_t *stored = aii_stmt_get_blob(stmt, 0, &bytes);
    size_t n = count(w->index, stored, bytes);
    begin(w);
    for (size_t i = 0; i < n; i++) {
      (void)aii_element_take(w->index, stored + i * step, step, w->vector);
      see(w, w->vector);
    }
    score = sum_of(w, w->best);
    if (n == 0) rc = damaged(f->id, err);
  }
  aii_stmt_reset(stmt);
  if (rc == AIINFRA_OK) {
    aii_near hit = {f->id, isnan(score) ? INFINITY : (float)-score, f->slot};
    aii_near_offer(w->s->by_vector, &w->s->n_vector, w->s->depth, hit);
  }
  return rc;
}

aiinfra_status aii_multi_read(aii_search *s, aii_sql *sql, int64_t seq, aiinfra_error *err)
{
  work w;
  aiinfra_status rc = open_work(&w, s) ? AIINFRA_OK : no_memory(err);
  for (size_t i = 0; rc == AIINFRA_OK && i < s->finds.n; i++) rc = fetch_row(&w, sql, seq, &s->finds.items[i], err);
  close_work(&w);
  return rc;
}

aiinfra_status aii_multi_fetch(aii_search *s, int64_t seq, aiinfra_error *err)
{
  aii_sql *sql = aii_db_read_lock(s->store->db);
  aiinfra_status rc = aii_sql_begin_read(sql, err);
  if (rc == AIINFRA_OK) {
    rc = aii_multi_read(s, sql, seq, err);
    aii_sql_rollback(sql); /* nothing was written */
  }
  aii_db_read_unlock(s->store->db, sql);
  return rc;
}
