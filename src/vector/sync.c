/* sync.c - brings a collection's index up to its rows, whoever wrote them: this handle, another one, another process.
 *
 * The happy path: the collection's seq equals the index's -> nothing to do. Else rows with a higher seq are added
 * (the older slots of their ids die), and if rows were removed since, slots whose id is gone die too. When more than
 * a fourth of a large index is dead, the dead slots are taken out first (heal.c).
 *
 * An index that is empty begins with the newest snapshot of it, if there is one (keep.c).
 *
 * A failure in the middle leaves the index at its old seq with some newer rows in it: the next sync reads them once
 * more. Thread: any, with the connection's lock held.
 */
#include "lib/json/json.h"
#include "src/vector/named.h"
#include "src/vector/snapshot.h"

enum { KEEP_DEAD = 1024, DEAD_PART = 4 }; /* dead slots go from an index this large when more than a fourth are */

/* The payload of a row goes into the index when it keeps payloads. */
static aiinfra_status add_payload(aiinfra_vecstore *store, aii_stmt *stmt, uint32_t slot, aiinfra_error *err)
{
  json_t *payload = NULL;
  size_t n;
  if (store->index.docs.state != AII_DOCS_ON) return AIINFRA_OK;
  const char *text = aii_stmt_get_text(stmt, 2, &n);
  aiinfra_status rc = n > 0 ? aii_json_parse(text, n, "payload", 0, &payload, err) : AIINFRA_OK;
  if (rc == AIINFRA_OK && !aii_docs_set(&store->index.docs, slot, payload)) {
    rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for payloads");
  }
  json_decref(payload);
  return rc;
}

static aiinfra_status add_row(aiinfra_vecstore *store, aii_stmt *stmt, aiinfra_error *err)
{
  size_t n;
  int64_t id = aii_stmt_get_int(stmt, 0);
  const void *vector = aii_stmt_get_blob(stmt, 1, &n);
  size_t want = aii_element_bytes(store->index.element, store->index.dims);
  if (vector == NULL || n != want) {
    return aii_fail(err, AIINFRA_EFORMAT,
                    "the vector of row %lld has %zu bytes instead of %zu; the database is damaged: restore it from a "
                    "backup",
                    (long long)id, n, want);
  }
  uint32_t n_before = store->index.n;
  if (!aii_index_add(&store->index, id, vector)) {
    return aii_fail(err, AIINFRA_ENOMEM, "no memory for an index of %u vectors", store->index.n);
  }
  uint32_t slot = aii_idmap_get(&store->index.map, id);
  if (slot < n_before) store->index.changes++;
  int64_t row = aii_stmt_get_int(stmt, 3);
  aii_block_of(&store->index, slot)->rows[slot % AII_BLOCK_SLOTS] = row <= UINT32_MAX ? (uint32_t)row : 0;
  if (!aii_expiry_note(&store->expiry, id, aii_stmt_get_int(stmt, 4))) {
    return aii_fail(err, AIINFRA_ENOMEM, "no memory for the times of rows");
  }
  return add_payload(store, stmt, slot, err);
}

static aiinfra_status add_new(aiinfra_vecstore *store, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = true;
  aiinfra_status rc = aii_sql_prepare(
      store->db->sql,
      "SELECT r.id, v.vector, CASE WHEN ?3 THEN r.payload END, r.row, r.expires_ms FROM rows r "
      "LEFT JOIN vectors v ON v.row = r.row WHERE r.collection = ?1 AND r.seq > ?2 ORDER BY r.seq, r.id",
      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, store->collection);
  aii_stmt_int(stmt, 2, store->index.seq);
  aii_stmt_int(stmt, 3, store->index.docs.state == AII_DOCS_ON);
  while (rc == AIINFRA_OK && row) {
    rc = aii_stmt_step(stmt, &row, err);
    if (rc == AIINFRA_OK && row) rc = add_row(store, stmt, err);
  }
  aii_stmt_reset(stmt);
  return rc;
}

aiinfra_status aii_rows_there(aiinfra_vecstore *store, const aii_idmap *map, uint64_t *there, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = true;
  aiinfra_status rc = aii_sql_prepare(store->db->sql, "SELECT id FROM rows WHERE collection = ?1", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, store->collection);
  while (rc == AIINFRA_OK && row) {
    rc = aii_stmt_step(stmt, &row, err);
    if (rc != AIINFRA_OK || !row) break;
    uint32_t slot = aii_idmap_get(map, aii_stmt_get_int(stmt, 0));
    if (slot != AII_NO_SLOT) there[slot / 64] |= (uint64_t)1 << slot % 64;
  }
  aii_stmt_reset(stmt);
  return rc;
}

static aiinfra_status kill_removed(aiinfra_vecstore *store, aiinfra_error *err)
{
  aii_index *index = &store->index;
  size_t n_words = (size_t)index->n / 64 + 1;
  uint64_t *there = aii_new_array(index->mem, n_words, sizeof *there);
  if (there == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for an index of %u vectors", index->n);
  aiinfra_status rc = aii_rows_there(store, &index->map, there, err);
  for (uint32_t slot = 0; rc == AIINFRA_OK && slot < index->n; slot++) {
    if (!aii_bit(there, slot)) aii_index_kill(index, slot);
  }
  aii_del(index->mem, there, n_words * sizeof *there);
  return rc;
}

/* Without memory, or while the graph is being built, dead slots stay until the next time. Payloads are read again. */
static void heal(aiinfra_vecstore *store)
{
  aii_index *index = &store->index;
  if (pthread_mutex_trylock(&index->build) != 0) return;
  (void)pthread_rwlock_wrlock(&index->lock);
  if (aii_hnsw_heal(index)) {
    aii_masks_clear(store);
    aii_docs_clear(&index->docs);
    index->changes++;
  }
  (void)pthread_rwlock_unlock(&index->lock);
  (void)pthread_mutex_unlock(&index->build);
}

aiinfra_status aii_collection_seqs(aiinfra_vecstore *store, aii_seqs *out, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  *out = (aii_seqs){0};
  aiinfra_status rc =
      aii_sql_prepare(store->db->sql, "SELECT seq, removed_seq, purged_seq FROM collections WHERE id = ?1", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, store->collection);
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK && row) {
    *out = (aii_seqs){aii_stmt_get_int(stmt, 0), aii_stmt_get_int(stmt, 1), aii_stmt_get_int(stmt, 2)};
  }
  if (rc == AIINFRA_OK && !row && store->collection != 0) {
    rc = aii_fail(err, AIINFRA_ENOENT, "the collection is gone; open it again");
  }
  aii_stmt_reset(stmt);
  return rc;
}

/* Index write-locked. */
static aiinfra_status catch_up(aiinfra_vecstore *store, const aii_seqs *now, aiinfra_error *err)
{
  aii_index *index = &store->index;
  bool filled;
  if (index->seq < 0) aii_keep_load(store, now->seq);
  aiinfra_status rc = aii_expiry_prepare(store, &filled, err);
  bool removed = index->seq < 0 || AII_MAX(now->removed_seq, now->purged_seq) > index->seq;
  removed = index->n > 0 && (removed || (filled && now->purged_seq > 0));
  if (rc == AIINFRA_OK) rc = add_new(store, err);
  if (rc == AIINFRA_OK && removed) rc = kill_removed(store, err);
  if (rc != AIINFRA_OK) store->expiry.filled = false; /* what was to be looked for is to be looked for again */
  return rc;
}

aiinfra_status aii_vecstore_sync(aiinfra_vecstore *store, aiinfra_error *err)
{
  aii_index *index = &store->index;
  aii_seqs now;
  aiinfra_status rc = aii_tenant_find(store, err);
  if (rc != AIINFRA_OK || store->collection == 0) return rc;
  if (store->multi != NULL) return aii_multi_sync(store, err);
  rc = aii_collection_seqs(store, &now, err);
  /* index->seq and what is dead change only with the connection's lock held, so they may be read without the index's */
  if (rc == AIINFRA_OK && index->n > KEEP_DEAD && index->n_dead > index->n / DEAD_PART) heal(store);
  if (rc != AIINFRA_OK || (index->seq == now.seq && store->expiry.filled && !aii_expiry_due(store))) return rc;
  (void)pthread_rwlock_wrlock(&index->lock);
  if (index->seq != now.seq || !store->expiry.filled) rc = catch_up(store, &now, err);
  if (rc == AIINFRA_OK) rc = aii_expiry_pass(store, err);
  if (rc == AIINFRA_OK) index->seq = now.seq;
  (void)pthread_rwlock_unlock(&index->lock);
  return rc;
}
