/* rows.c - writes, removes and reads the rows of a collection.
 *
 * The happy path of a write: the records are checked -> a transaction takes the collection's next seq -> each record
 * replaces its row, its vector and its words -> commit. The index learns of it by the seq, at the next search; when
 * there is a graph already, it is extended at once, so that searches stay fast.
 *
 * A full-text entry can only be taken out by giving FTS5 the very text it was made from, so rows keep that. Thread:
 * any; functions named aii_rows_ want the connection's lock and a transaction of the caller.
 */
#include <stdio.h>

#include "lib/json/json.h"
#include "src/vector/snapshot.h"
#include "src/vector/tenant.h"

/* What one write transaction needs at hand. */
typedef struct writer {
  aiinfra_vecstore *store;
  uint8_t *stored; /* room for a vector as rows store it */
  int64_t seq, n_rows;
  bool removes;
} writer;

static aiinfra_status check_payload(const char *payload, size_t at, aiinfra_error *err)
{
  json_t *json = NULL;
  aiinfra_status rc = aii_json_parse(payload, strlen(payload), "payload_json", 0, &json, err);
  if (rc == AIINFRA_OK && !json_is_object(json)) {
    rc = aii_fail(err, AIINFRA_EINVAL, "payload_json: expected an object, found %s", aii_json_type(json));
  }
  json_decref(json);
  if (rc == AIINFRA_OK || rc == AIINFRA_ENOMEM) return rc;
  return aii_wrap(err, AIINFRA_EINVAL, "record %zu", at);
}

aiinfra_status aii_rows_check(const aiinfra_vecstore *store, const aii_record *record, size_t at, aiinfra_error *err)
{
  if (record->r.vector == NULL) return aii_fail(err, AIINFRA_EINVAL, "record %zu: vector is NULL", at);
  aiinfra_status rc = aii_element_check(&store->index, record->r.vector, err);
  if (rc != AIINFRA_OK) return aii_wrap(err, rc, "record %zu", at);
  if (record->r.text != NULL && !aii_utf8_valid(record->r.text, strlen(record->r.text))) {
    return aii_fail(err, AIINFRA_EINVAL, "record %zu: its text is not UTF-8", at);
  }
  return record->r.payload_json != NULL ? check_payload(record->r.payload_json, at, err) : AIINFRA_OK;
}

/* ---- writing --------------------------------------------------------------------------------------------------- */

static size_t stored_bytes(const writer *w)
{
  return aii_element_bytes(w->store->index.element, w->store->index.dims);
}

/* Takes the collection's next seq. */
static aiinfra_status writer_open(writer *w, aiinfra_vecstore *store, bool removes, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = false;
  *w = (writer){.store = store, .removes = removes};
  w->stored = removes ? NULL : aii_new_aligned(store->index.mem, stored_bytes(w));
  if (w->stored == NULL && !removes) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a vector");
  aiinfra_status rc = aii_sql_prepare(store->db->sql, "SELECT seq, n_rows FROM collections WHERE id = ?1", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, store->collection);
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK && !row) rc = aii_fail(err, AIINFRA_ENOENT, "the collection is gone; open it again");
  if (rc == AIINFRA_OK) {
    w->seq = aii_stmt_get_int(stmt, 0) + 1;
    w->n_rows = aii_stmt_get_int(stmt, 1);
  }
  aii_stmt_reset(stmt);
  return rc;
}

/* Writes what the collection knows of its rows, unless rc is a failure already; a removal leaves its mark. Or fail: whoever
 * wants the transaction undone does it, so SQLite need not keep what this statement changes. */
static aiinfra_status writer_close(writer *w, aiinfra_status rc, aiinfra_error *err)
{
  aii_stmt *stmt;
  if (rc == AIINFRA_OK) {
    rc = aii_sql_prepare(w->store->db->sql,
                         "UPDATE OR FAIL collections SET seq = ?2, n_rows = ?3, "
                         "removed_seq = CASE WHEN ?4 THEN ?2 ELSE removed_seq END WHERE id = ?1",
                         &stmt, err);
  }
  if (rc == AIINFRA_OK) {
    aii_stmt_int(stmt, 1, w->store->collection);
    aii_stmt_int(stmt, 2, w->seq);
    aii_stmt_int(stmt, 3, w->n_rows);
    aii_stmt_int(stmt, 4, w->removes);
    rc = aii_stmt_run(stmt, err);
  }
  aii_del_aligned(w->store->index.mem, w->stored, stored_bytes(w));
  return rc;
}

/* Adds or takes out an entry of the full-text table; a row without words has none. */
static aiinfra_status write_words(writer *w, const char *sql, aii_stmt **cached, int64_t row, const char *text,
                                  size_t text_n, const char *keywords, size_t keywords_n, aiinfra_error *err)
{
  if (text_n == 0 && keywords_n == 0) return AIINFRA_OK;
  aiinfra_status rc = *cached != NULL ? AIINFRA_OK : aii_sql_prepare_once(w->store->db->sql, sql, cached, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt *stmt = *cached;
  aii_stmt_int(stmt, 1, row);
  aii_stmt_text(stmt, 2, text, text_n);
  aii_stmt_text(stmt, 3, keywords, keywords_n);
  return aii_stmt_run(stmt, err);
}

/* Finds a row by its id and takes its words out. *row is 0 when there is none; *alive: its time has not passed. */
static aiinfra_status find_old(writer *w, int64_t id, int64_t *row, bool *alive, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool found;
  *row = 0;
  *alive = false;
  aiinfra_status rc = aii_sql_prepare(
      w->store->db->sql,
      "SELECT row, text, keywords, expires_ms IS NULL OR expires_ms > ?3 FROM rows WHERE collection = ?1 AND id = ?2",
      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, w->store->collection);
  aii_stmt_int(stmt, 2, id);
  aii_stmt_int(stmt, 3, w->store->expiry.now_ms());
  rc = aii_stmt_step(stmt, &found, err);
  if (rc == AIINFRA_OK && found) {
    size_t text_n, keywords_n;
    const char *text = aii_stmt_get_text(stmt, 1, &text_n), *keywords = aii_stmt_get_text(stmt, 2, &keywords_n);
    *row = aii_stmt_get_int(stmt, 0);
    *alive = aii_stmt_get_int(stmt, 3) != 0;
    rc =
        write_words(w, w->store->words_delete, &w->store->words_deleter, *row, text, text_n, keywords, keywords_n, err);
  }
  aii_stmt_reset(stmt);
  return rc;
}

static void bind_text(aii_stmt *stmt, int at, const char *s)
{
  aii_stmt_text(stmt, at, s, s != NULL ? strlen(s) : 0);
}

static aiinfra_status write_row(writer *w, const aii_record *record, int64_t old, int64_t *row, aiinfra_error *err)
{
  static const char insert[] = "INSERT INTO rows(collection, id, seq, text, keywords, payload, expires_ms) "
                               "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)";
  static const char update[] =
      "UPDATE rows SET collection = ?1, id = ?2, seq = ?3, text = ?4, keywords = ?5, payload = ?6, expires_ms = ?7 "
      "WHERE row = ?8";
  int64_t expires_ms = aii_expiry_of(w->store, record->expires_ms);
  aii_sql *sql = w->store->db->sql;
  aii_stmt *stmt;
  aiinfra_status rc = aii_sql_prepare(sql, old != 0 ? update : insert, &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, w->store->collection);
  aii_stmt_int(stmt, 2, record->r.id);
  aii_stmt_int(stmt, 3, w->seq);
  bind_text(stmt, 4, record->r.text);
  bind_text(stmt, 5, record->keywords);
  bind_text(stmt, 6, record->r.payload_json);
  if (expires_ms != 0) aii_stmt_int(stmt, 7, expires_ms);
  if (old != 0) aii_stmt_int(stmt, 8, old);
  rc = aii_stmt_run(stmt, err);
  *row = old != 0 ? old : aii_sql_last_id(sql);
  return rc;
}

static aiinfra_status write_vector(writer *w, int64_t row, bool is_new, const aii_record *record, aiinfra_error *err)
{
  static const char insert[] = "INSERT INTO vectors(row, vector) VALUES(?1, ?2)";
  static const char replace[] =
      "INSERT INTO vectors(row, vector) VALUES(?1, ?2) ON CONFLICT(row) DO UPDATE SET vector = excluded.vector";
  aii_stmt *stmt;
  aiinfra_status rc = aii_sql_prepare(w->store->db->sql, is_new ? insert : replace, &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  if (record->stored == NULL) aii_element_encode(&w->store->index, record->r.vector, w->stored);
  aii_stmt_int(stmt, 1, row);
  if (record->stored == NULL) aii_stmt_blob(stmt, 2, w->stored, stored_bytes(w));
  else aii_stmt_blob(stmt, 2, record->stored, record->stored_n);
  return aii_stmt_run(stmt, err);
}

/* With its vector, and what it has under names. */
static aiinfra_status delete_row(writer *w, int64_t row, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc = aii_sql_prepare(w->store->db->sql, "DELETE FROM rows WHERE row = ?1", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, row);
  return aii_stmt_run(stmt, err);
}

static aiinfra_status upsert_one(writer *w, const aii_record *record, aiinfra_error *err)
{
  const char *text = record->r.text != NULL ? record->r.text : "";
  const char *keywords = record->keywords != NULL ? record->keywords : "";
  int64_t old, row;
  bool alive;
  aiinfra_status rc = find_old(w, record->r.id, &old, &alive, err);
  if (rc == AIINFRA_OK && old != 0 && !alive) { /* what it had under names went with its time */
    rc = delete_row(w, old, err);
    w->n_rows--;
    old = 0;
  }
  if (rc == AIINFRA_OK) rc = write_row(w, record, old, &row, err);
  if (rc == AIINFRA_OK) rc = write_vector(w, row, old == 0, record, err);
  if (rc == AIINFRA_OK) {
    rc = write_words(w, w->store->words_insert, &w->store->words_inserter, row, text, strlen(text), keywords,
                     strlen(keywords), err);
  }
  if (rc == AIINFRA_OK && old == 0) w->n_rows++;
  return rc;
}

aiinfra_status aii_rows_upsert(aiinfra_vecstore *store, const aii_record *records, size_t n, aiinfra_error *err)
{
  writer w;
  aiinfra_status rc = writer_open(&w, store, false, err);
  for (size_t i = 0; rc == AIINFRA_OK && i < n; i++) rc = upsert_one(&w, &records[i], err);
  rc = writer_close(&w, rc, err);
  return rc == AIINFRA_OK ? aii_expiry_purge_some(store, n, err) : rc;
}

static aiinfra_status remove_one(writer *w, int64_t id, size_t *n_removed, aiinfra_error *err)
{
  int64_t row;
  bool alive;
  aiinfra_status rc = find_old(w, id, &row, &alive, err);
  if (rc != AIINFRA_OK || row == 0) return rc;
  rc = delete_row(w, row, err);
  *n_removed += rc == AIINFRA_OK && alive;
  w->n_rows -= rc == AIINFRA_OK;
  return rc;
}

aiinfra_status aii_rows_remove(aiinfra_vecstore *store, const int64_t *ids, size_t n, size_t *n_removed,
                               aiinfra_error *err)
{
  writer w;
  *n_removed = 0;
  aiinfra_status rc = writer_open(&w, store, true, err);
  for (size_t i = 0; rc == AIINFRA_OK && i < n; i++) rc = remove_one(&w, ids[i], n_removed, err);
  rc = writer_close(&w, rc, err);
  if (rc == AIINFRA_OK) rc = aii_expiry_purge_some(store, n, err);
  if (rc != AIINFRA_OK) *n_removed = 0;
  return rc;
}

aiinfra_status aii_rows_purge(aiinfra_vecstore *store, aiinfra_error *err)
{
  char text[96];
  long long at = (long long)store->collection;
  (void)snprintf(text, sizeof text, "INSERT INTO words_%lld(words_%lld) VALUES('optimize')", at, at);
  return aii_sql_exec(store->db->sql, text, err);
}

/* ---- with a transaction of their own --------------------------------------------------------------------------- */

void aii_vecstore_extend(aiinfra_vecstore *store)
{
  aii_index *index = &store->index;
  aii_vecstore_heal(store);
  (void)pthread_rwlock_rdlock(&index->lock);
  bool there = index->n_graph > 0;
  (void)pthread_rwlock_unlock(&index->lock);
  if (!there) return;
  if (aii_vecstore_look(store, NULL) == AIINFRA_OK) (void)aii_hnsw_build(index, UINT32_MAX);
  aii_keep_grown(store);
}

aiinfra_status aii_vecstore_upsert(aiinfra_vecstore *store, const aii_record *records, size_t n, aiinfra_error *err)
{
  for (size_t i = 0; i < n; i++) {
    aiinfra_status rc = aii_rows_check(store, &records[i], i, err);
    if (rc != AIINFRA_OK) return rc;
  }
  return aii_vecstore_write(store, records, n, err);
}

aiinfra_status aii_vecstore_write(aiinfra_vecstore *store, const aii_record *records, size_t n, aiinfra_error *err)
{
  aii_sql *sql = store->db->sql;
  if (n == 0) return AIINFRA_OK;
  atomic_fetch_add(&store->n_writers, 1);
  aii_sql_lock(sql);
  aiinfra_status rc = aii_tenant_make(store, err);
  if (rc == AIINFRA_OK) rc = aii_sql_begin(sql, err);
  if (rc == AIINFRA_OK) {
    rc = aii_rows_upsert(store, records, n, err);
    if (rc == AIINFRA_OK) rc = aii_vecstore_commit(store, NULL, err);
    else aii_sql_rollback(sql);
  }
  aii_sql_unlock(sql);
  if (rc == AIINFRA_OK) aii_vecstore_extend(store);
  atomic_fetch_sub(&store->n_writers, 1);
  return rc;
}

aiinfra_status aii_vecstore_remove(aiinfra_vecstore *store, const int64_t *ids, size_t n, size_t *n_removed,
                                   aiinfra_error *err)
{
  aii_sql *sql = store->db->sql;
  aii_ids removed = {(int64_t *)(uintptr_t)ids, n, n}; /* which are not changed */
  *n_removed = 0;
  if (n == 0) return AIINFRA_OK;
  atomic_fetch_add(&store->n_writers, 1);
  aii_sql_lock(sql);
  aiinfra_status rc = aii_sql_begin(sql, err);
  if (rc == AIINFRA_OK) {
    rc = aii_tenant_find(store, err);
    if (rc == AIINFRA_OK && store->collection != 0) rc = aii_rows_remove(store, ids, n, n_removed, err);
    if (rc == AIINFRA_OK) rc = aii_vecstore_commit(store, &removed, err);
    else aii_sql_rollback(sql);
  }
  if (rc != AIINFRA_OK) *n_removed = 0;
  aii_sql_unlock(sql);
  aii_vecstore_heal(store);
  atomic_fetch_sub(&store->n_writers, 1);
  return rc;
}

/* ---- reading --------------------------------------------------------------------------------------------------- */

static aiinfra_status export(aiinfra_vecstore *store, aii_stmt *stmt, int at, const char *none, char **out,
                             aiinfra_error *err)
{
  size_t n;
  if (out == NULL) return AIINFRA_OK;
  const char *s = aii_stmt_get_text(stmt, at, &n);
  if (aii_stmt_is_null(stmt, at)) n = strlen(s = none);
  *out = aii_export_string(&store->db->rt->mem, s, n);
  return *out != NULL ? AIINFRA_OK : aii_fail(err, AIINFRA_ENOMEM, "no memory for a row of %zu bytes", n);
}

/* The connection of one reader. A tenant's handle looks up whose rows it reads, with the lock that this takes. */
static aiinfra_status view(aiinfra_vecstore *store, aii_sql **sql, aiinfra_error *err)
{
  aiinfra_status rc = AIINFRA_OK;
  if (store->tenant == NULL) {
    *sql = aii_db_read_lock(store->db);
    return rc;
  }
  *sql = store->db->sql;
  aii_sql_lock(*sql);
  rc = aii_tenant_find(store, err);
  if (rc != AIINFRA_OK) aii_sql_unlock(*sql);
  return rc;
}

aiinfra_status aii_vecstore_get(aiinfra_vecstore *store, int64_t id, char **text, char **payload, aiinfra_error *err)
{
  aii_stmt *stmt;
  aii_sql *sql;
  bool row;
  aiinfra_status rc = view(store, &sql, err);
  if (rc != AIINFRA_OK) return rc;
  rc = aii_sql_prepare(sql,
                       "SELECT text, payload FROM rows WHERE collection = ?1 AND id = ?2 "
                       "AND (expires_ms IS NULL OR expires_ms > ?3)",
                       &stmt, err);
  if (rc == AIINFRA_OK) {
    aii_stmt_int(stmt, 1, store->collection);
    aii_stmt_int(stmt, 2, id);
    aii_stmt_int(stmt, 3, store->expiry.now_ms());
    rc = aii_stmt_step(stmt, &row, err);
    if (rc == AIINFRA_OK && !row) rc = aii_fail(err, AIINFRA_ENOENT, "no row has the id %lld", (long long)id);
    if (rc == AIINFRA_OK) rc = export(store, stmt, 0, "", text, err);
    if (rc == AIINFRA_OK) rc = export(store, stmt, 1, "{}", payload, err);
    aii_stmt_reset(stmt);
  }
  aii_db_read_unlock(store->db, sql);
  return rc;
}

aiinfra_status aii_vecstore_count(aiinfra_vecstore *store, uint64_t *n, aiinfra_error *err)
{
  aii_stmt *stmt;
  aii_sql *sql;
  bool row;
  aiinfra_status rc = view(store, &sql, err);
  if (rc != AIINFRA_OK) return rc;
  rc = aii_sql_prepare(sql,
                       "SELECT n_rows - (SELECT count(*) FROM rows WHERE collection = ?1 "
                       "AND expires_ms <= ?2) FROM collections WHERE id = ?1",
                       &stmt, err);
  if (rc == AIINFRA_OK) {
    aii_stmt_int(stmt, 1, store->collection);
    aii_stmt_int(stmt, 2, store->expiry.now_ms());
    rc = aii_stmt_step(stmt, &row, err);
    if (rc == AIINFRA_OK) *n = row ? (uint64_t)aii_stmt_get_int(stmt, 0) : 0;
    if (rc == AIINFRA_OK && !row && store->collection != 0) {
      rc = aii_fail(err, AIINFRA_ENOENT, "the collection is gone; open it again");
    }
    aii_stmt_reset(stmt);
  }
  aii_db_read_unlock(store->db, sql);
  return rc;
}
