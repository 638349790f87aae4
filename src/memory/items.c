/* items.c - facts and passages: kept, recalled, forgotten.
 *
 * Remembering: the text is normalised and hashed -> a fact of the same normalised text is refreshed, else a new one is
 * written: item, text, vector and words in one transaction. No model is asked, so nothing is lost when one fails.
 *
 * Recalling: the question is embedded like a text -> vectors and keywords are searched, their ranks fused -> the items
 * are read. `score` is the fused rank score scaled so that first in both rankings is 1; the scores of both searches
 * come with it, so that a caller can judge relevance.
 *
 * Forgetting removes the rows, rewrites the full-text table and empties the write-ahead log, so that no byte of the
 * text stays in the file. Any thread.
 */
#include <math.h>

#include "src/memory/memory.h"

static aiinfra_status no_memory(aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_ENOMEM, "no memory for an item");
}

static const char *kind_name(int64_t kind)
{
  return kind == AIINFRA_MEMORY_FACT ? "fact" : "passage";
}

static void bind_opt(aii_stmt *stmt, int at, const char *s)
{
  aii_stmt_text(stmt, at, s, s != NULL ? strlen(s) : 0);
}

static aiinfra_status insert_row(aiinfra_memory *memory, const aii_item *item, aiinfra_error *err)
{
  int64_t now = aii_unix_ms();
  aii_stmt *stmt;
  aiinfra_status rc = aii_sql_prepare(memory->db->sql,
                                      "INSERT INTO items(scope, kind, hash, document, first_byte, n_bytes, metadata, "
                                      "created_ms, updated_ms) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)",
                                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, memory->scope);
  aii_stmt_int(stmt, 2, item->kind);
  aii_stmt_int(stmt, 3, item->hash);
  if (item->document != 0) aii_stmt_int(stmt, 4, item->document);
  aii_stmt_int(stmt, 5, (int64_t)item->first_byte);
  aii_stmt_int(stmt, 6, (int64_t)item->n_bytes);
  bind_opt(stmt, 7, item->metadata);
  aii_stmt_int(stmt, 8, now);
  return aii_stmt_run(stmt, err);
}

aiinfra_status aii_items_insert(aiinfra_memory *memory, const aii_item *item, int64_t *id, aiinfra_error *err)
{
  aiinfra_status rc = insert_row(memory, item, err);
  if (rc != AIINFRA_OK) return rc;
  *id = aii_sql_last_id(memory->db->sql);
  aii_record record = {.keywords = item->keywords};
  record.r.id = *id;
  record.r.vector = item->vector;
  record.r.text = item->text;
  record.r.payload_json = item->kind == AIINFRA_MEMORY_FACT ? "{\"kind\":\"fact\"}" : "{\"kind\":\"passage\"}";
  return aii_rows_upsert(memory->store, &record, 1, err);
}

/* ---- remembering ----------------------------------------------------------------------------------------------- */

/* The fact whose text is the same but for case and space; *id stays 0 when there is none. */
static aiinfra_status find_fact(aiinfra_memory *memory, const aii_buf *normal, int64_t hash, int64_t *id,
                                aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = true;
  aiinfra_status rc =
      aii_sql_prepare(memory->db->sql,
                      "SELECT i.id, r.text FROM items i JOIN rows r ON r.collection = ?3 AND r.id = i.id "
                      "WHERE i.scope = ?1 AND i.hash = ?2 AND i.kind = 1",
                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, memory->scope);
  aii_stmt_int(stmt, 2, hash);
  aii_stmt_int(stmt, 3, memory->store->collection);
  while (rc == AIINFRA_OK && row && *id == 0) {
    aii_buf other;
    size_t n;
    rc = aii_stmt_step(stmt, &row, err);
    if (rc != AIINFRA_OK || !row) break;
    const char *text = aii_stmt_get_text(stmt, 1, &n);
    aii_buf_init(&other, normal->mem, 0);
    aii_normalise(text, n, &other);
    if (other.failed) rc = no_memory(err);
    else if (strcmp(aii_buf_cstr(&other), aii_buf_cstr(normal)) == 0) *id = aii_stmt_get_int(stmt, 0);
    aii_buf_free(&other);
  }
  aii_stmt_reset(stmt);
  return rc;
}

static aiinfra_status refresh_fact(aiinfra_memory *memory, int64_t id, const char *metadata, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc = aii_sql_prepare(memory->db->sql,
                                      "UPDATE items SET updated_ms = ?3, metadata = coalesce(?4, metadata) "
                                      "WHERE id = ?1 AND scope = ?2",
                                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, id);
  aii_stmt_int(stmt, 2, memory->scope);
  aii_stmt_int(stmt, 3, aii_unix_ms());
  bind_opt(stmt, 4, metadata);
  return aii_stmt_run(stmt, err);
}

static aiinfra_status keep_fact(aiinfra_memory *memory, const aii_item *item, const aii_buf *normal, int64_t *id,
                                aiinfra_error *err)
{
  aii_sql *sql = memory->db->sql;
  *id = 0;
  aiinfra_status rc = aii_sql_begin(sql, err);
  if (rc != AIINFRA_OK) return rc;
  rc = find_fact(memory, normal, item->hash, id, err);
  if (rc == AIINFRA_OK && *id != 0) rc = refresh_fact(memory, *id, item->metadata, err);
  else if (rc == AIINFRA_OK) rc = aii_items_insert(memory, item, id, err);
  if (rc == AIINFRA_OK) return aii_sql_commit(sql, err);
  aii_sql_rollback(sql);
  return rc;
}

aiinfra_status aii_memory_remember(aiinfra_memory *memory, const char *text, const char *metadata, int64_t *id,
                                   aiinfra_error *err)
{
  float vector[AII_EMBED_DIMS];
  aii_buf normal;
  size_t n = strlen(text);
  aii_buf_init(&normal, &memory->db->rt->mem, 0);
  aii_normalise(text, n, &normal);
  if (normal.failed) {
    aii_buf_free(&normal);
    return no_memory(err);
  }
  aii_embed(text, n, vector);
  aii_item item = {.kind = AIINFRA_MEMORY_FACT, .text = text, .metadata = metadata, .n_bytes = n, .vector = vector};
  item.hash = (int64_t)aii_hash64(aii_buf_cstr(&normal), normal.len, 0);
  aii_sql_lock(memory->db->sql);
  aiinfra_status rc = keep_fact(memory, &item, &normal, id, err);
  aii_sql_unlock(memory->db->sql);
  aii_buf_free(&normal);
  return rc;
}

/* ---- recalling ------------------------------------------------------------------------------------------------- */

static void add_score(aii_buf *json, const char *name, double score)
{
  aii_buf_fmt(json, ",\"%s\":", name);
  if (isnan(score)) aii_buf_str(json, "null");
  else aii_buf_double(json, score, 6);
}

/* One item as JSON. Columns: kind, text, path, first_byte, n_bytes, created_ms, metadata. */
static void write_item(aii_stmt *stmt, const aiinfra_hit *hit, double score, aii_buf *json)
{
  size_t n;
  const char *text = aii_stmt_get_text(stmt, 1, &n);
  aii_buf_fmt(json, "{\"id\":%lld,\"kind\":\"%s\",\"text\":", (long long)hit->id, kind_name(aii_stmt_get_int(stmt, 0)));
  aii_buf_json(json, text, n);
  add_score(json, "score", score);
  add_score(json, "vector_score", (double)hit->vector_score);
  add_score(json, "text_score", (double)hit->text_score);
  aii_buf_str(json, ",\"source\":");
  if (aii_stmt_is_null(stmt, 2)) {
    aii_buf_str(json, "null");
  } else {
    const char *path = aii_stmt_get_text(stmt, 2, &n);
    aii_buf_json(json, path, n);
  }
  aii_buf_fmt(json, ",\"first_byte\":%lld,\"n_bytes\":%lld,\"created_ms\":%lld,\"metadata\":",
              (long long)aii_stmt_get_int(stmt, 3), (long long)aii_stmt_get_int(stmt, 4),
              (long long)aii_stmt_get_int(stmt, 5));
  const char *metadata = aii_stmt_get_text(stmt, 6, &n);
  aii_buf_str(json, n > 0 ? metadata : "{}");
  aii_buf_char(json, '}');
}

/* Reads a hit's item and appends it if it fits. One that was forgotten meanwhile is left out. */
static aiinfra_status add_item(aiinfra_memory *memory, const aiinfra_hit *hit, double score, size_t *room,
                               aii_buf *json, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  size_t n;
  aiinfra_status rc =
      aii_sql_prepare(memory->db->sql,
                      "SELECT i.kind, r.text, d.path, i.first_byte, i.n_bytes, i.created_ms, i.metadata "
                      "FROM items i JOIN rows r ON r.collection = ?3 AND r.id = i.id "
                      "LEFT JOIN documents d ON d.id = i.document WHERE i.id = ?1 AND i.scope = ?2",
                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, hit->id);
  aii_stmt_int(stmt, 2, memory->scope);
  aii_stmt_int(stmt, 3, memory->store->collection);
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK && row) {
    (void)aii_stmt_get_text(stmt, 1, &n);
    if (n <= *room) {
      *room -= n;
      if (json->len > 1) aii_buf_char(json, ',');
      write_item(stmt, hit, score, json);
    }
  }
  aii_stmt_reset(stmt);
  return rc;
}

static aiinfra_status add_items(aiinfra_memory *memory, const aiinfra_hit *hits, size_t n, float min_score, size_t room,
                                aii_buf *json, aiinfra_error *err)
{
  aiinfra_status rc = AIINFRA_OK;
  aii_sql_lock(memory->db->sql);
  for (size_t i = 0; rc == AIINFRA_OK && i < n; i++) {
    double score = (double)hits[i].score * 61 / 2;
    if (score >= (double)min_score) rc = add_item(memory, &hits[i], score, &room, json, err);
  }
  aii_sql_unlock(memory->db->sql);
  return rc;
}

aiinfra_status aii_memory_recall(aiinfra_memory *memory, const char *question, const aiinfra_recall_opts *opts,
                                 aii_buf *json, aiinfra_error *err)
{
  float vector[AII_EMBED_DIMS];
  aii_mem *mem = &memory->db->rt->mem;
  aiinfra_query query = AIINFRA_QUERY_INIT;
  size_t n = 0;
  aiinfra_hit *hits = aii_new_array(mem, opts->k, sizeof *hits);
  if (hits == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for %u items", opts->k);
  aii_embed(question, strlen(question), vector);
  query.vector = vector;
  query.text = question;
  query.k = opts->k;
  if (opts->kind == AIINFRA_MEMORY_FACT) query.filter_json = "{\"kind\":\"fact\"}";
  if (opts->kind == AIINFRA_MEMORY_PASSAGE) query.filter_json = "{\"kind\":\"passage\"}";
  aiinfra_status rc = aii_vecstore_search(memory->store, &query, hits, &n, err);
  aii_buf_char(json, '[');
  if (rc == AIINFRA_OK) {
    size_t room = opts->max_bytes != 0 ? opts->max_bytes : SIZE_MAX;
    rc = add_items(memory, hits, n, opts->min_score, room, json, err);
  }
  aii_buf_char(json, ']');
  aii_del(mem, hits, opts->k * sizeof *hits);
  return rc;
}

/* ---- forgetting ------------------------------------------------------------------------------------------------ */

static aiinfra_status remove_item(aiinfra_memory *memory, int64_t id, aiinfra_error *err)
{
  aii_sql *sql = memory->db->sql;
  aii_stmt *stmt;
  size_t n;
  aiinfra_status rc = aii_sql_prepare(sql, "DELETE FROM items WHERE id = ?1 AND scope = ?2", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, id);
  aii_stmt_int(stmt, 2, memory->scope);
  rc = aii_stmt_run(stmt, err);
  if (rc != AIINFRA_OK) return rc;
  if (aii_sql_changes(sql) == 0) {
    return aii_fail(err, AIINFRA_ENOENT, "this scope has no item with the id %lld", (long long)id);
  }
  rc = aii_rows_remove(memory->store, &id, 1, &n, err);
  return rc == AIINFRA_OK ? aii_rows_purge(memory->store, err) : rc;
}

aiinfra_status aii_memory_forget(aiinfra_memory *memory, int64_t id, aiinfra_error *err)
{
  aii_sql *sql = memory->db->sql;
  aii_sql_lock(sql);
  aiinfra_status rc = aii_sql_begin(sql, err);
  if (rc == AIINFRA_OK) {
    rc = remove_item(memory, id, err);
    if (rc == AIINFRA_OK) rc = aii_sql_commit(sql, err);
    else aii_sql_rollback(sql);
  }
  /* best effort: while another process reads, the log is emptied by a later checkpoint */
  if (rc == AIINFRA_OK) (void)aii_sql_exec(sql, "PRAGMA wal_checkpoint(TRUNCATE)", NULL);
  aii_sql_unlock(sql);
  return rc;
}
