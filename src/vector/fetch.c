/* fetch.c - vectors from their rows, for an exact search over an index that keeps codes alone.
 *
 * The happy path: a scan found candidates with nothing of the database locked -> in one read transaction their rows
 * are looked up, and floats decide. If rows changed in between, a candidate counts as it was found, by its id and if it
 * is no newer than the index was; one that is gone keeps the distance of its codes. Failures: those of the database.
 */
#include "src/vector/vector.h"

static aiinfra_status damaged(const aiinfra_vecstore *store, int64_t id, size_t n, aiinfra_error *err)
{
  return aii_fail(
      err, AIINFRA_EFORMAT,
      "the vector of row %lld has %zu bytes instead of %zu; the database is damaged: restore it from a backup",
      (long long)id, n, aii_element_bytes(store->index.element, store->index.dims));
}

/* Steps a statement that gives one vector. */
static aiinfra_status read_vector(const aiinfra_vecstore *store, aii_stmt *stmt, int64_t id, float *out, bool *there,
                                  aiinfra_error *err)
{
  size_t n;
  aiinfra_status rc = aii_stmt_step(stmt, there, err);
  if (rc == AIINFRA_OK && *there) {
    const void *vector = aii_stmt_get_blob(stmt, 0, &n);
    if (!aii_element_take(&store->index, vector, n, out)) rc = damaged(store, id, n, err);
  }
  aii_stmt_reset(stmt);
  return rc;
}

/* By the number of its row, which is its own while the collection is as the index knows it. */
static aiinfra_status fetch_row(const aiinfra_vecstore *store, aii_sql *sql, const aii_find *f, float *out, bool *there,
                                aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc = aii_sql_prepare(sql, "SELECT vector FROM vectors WHERE row = ?1", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, f->row);
  return read_vector(store, stmt, f->id, out, there, err);
}

aiinfra_status aii_fetch_id(const aiinfra_vecstore *store, aii_sql *sql, int64_t id, int64_t seq, float *out,
                            bool *there, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc = aii_sql_prepare(sql,
                                      "SELECT v.vector FROM rows r JOIN vectors v ON v.row = r.row "
                                      "WHERE r.collection = ?1 AND r.id = ?2 AND r.seq <= ?3",
                                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, store->collection);
  aii_stmt_int(stmt, 2, id);
  aii_stmt_int(stmt, 3, seq);
  return read_vector(store, stmt, id, out, there, err);
}

aiinfra_status aii_rows_seq(const aiinfra_vecstore *store, aii_sql *sql, int64_t *seq, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  aiinfra_status rc = aii_sql_prepare(sql, "SELECT seq FROM collections WHERE id = ?1", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, store->collection);
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK) *seq = row ? aii_stmt_get_int(stmt, 0) : 0;
  if (rc == AIINFRA_OK && !row && store->collection != 0) {
    rc = aii_fail(err, AIINFRA_ENOENT, "the collection is gone; open it again");
  }
  aii_stmt_reset(stmt);
  return rc;
}

aiinfra_status aii_fetch_slot(const aiinfra_vecstore *store, aii_sql *sql, uint32_t slot, float *out,
                              aiinfra_error *err)
{
  const aii_index *index = &store->index;
  int64_t id = aii_block_of(index, slot)->ids[slot % AII_BLOCK_SLOTS];
  bool there;
  if (index->floats) {
    memcpy(out, aii_vector_of(index, slot), index->dims * sizeof *out);
    return AIINFRA_OK;
  }
  aiinfra_status rc = aii_fetch_id(store, sql, id, INT64_MAX, out, &there, err);
  return rc == AIINFRA_OK && !there ? damaged(store, id, 0, err) : rc;
}

static aiinfra_status settle(const aiinfra_vecstore *store, aii_sql *sql, const aii_query_vector *q,
                             const aii_finds *finds, float *buffer, aii_near *heap, size_t *n, size_t cap,
                             aiinfra_error *err)
{
  int64_t seq = 0;
  aiinfra_status rc = aii_rows_seq(store, sql, &seq, err);
  for (size_t i = 0; rc == AIINFRA_OK && i < finds->n; i++) {
    const aii_find *f = &finds->items[i];
    bool there = false;
    if (seq == q->seq && f->row != 0) rc = fetch_row(store, sql, f, buffer, &there, err);
    else rc = aii_fetch_id(store, sql, f->id, q->seq, buffer, &there, err);
    float dist = there ? aii_index_dist(&store->index, q->vector, buffer) : f->dist;
    if (rc == AIINFRA_OK) aii_near_offer(heap, n, cap, (aii_near){f->id, dist, f->slot});
  }
  return rc;
}

aiinfra_status aii_finds_read(const aiinfra_vecstore *store, aii_sql *sql, const aii_query_vector *q,
                              const aii_finds *finds, aii_near *heap, size_t *n, size_t cap, aiinfra_error *err)
{
  size_t bytes = store->index.dims * sizeof(float);
  float *buffer = aii_new_aligned(store->index.mem, bytes);
  if (buffer == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a search");
  aiinfra_status rc = settle(store, sql, q, finds, buffer, heap, n, cap, err);
  aii_del_aligned(store->index.mem, buffer, bytes);
  return rc;
}

aiinfra_status aii_finds_fetch(aiinfra_vecstore *store, const aii_query_vector *q, const aii_finds *finds,
                               aii_near *heap, size_t *n, size_t cap, aiinfra_error *err)
{
  aii_sql *sql = aii_db_read_lock(store->db);
  aiinfra_status rc = aii_sql_begin_read(sql, err);
  if (rc == AIINFRA_OK) {
    rc = aii_finds_read(store, sql, q, finds, heap, n, cap, err);
    aii_sql_rollback(sql); /* nothing was written */
  }
  aii_db_read_unlock(store->db, sql);
  return rc;
}
