/* items.c - facts and passages as rows: written, moved to the past, forgotten.
 *
 * Forgetting removes the rows, rewrites the full-text tables and empties the write-ahead log, so that no byte of the
 * text stays in the file. A fact goes with all of its versions, since a revision repeats most of what it revises. That
 * something was forgotten is kept, what it was is not.
 *
 * What can fail: the database; and the log, while another process reads from it, which is told. Any thread.
 */
#include "src/memory/memory.h"

static void bind_opt(aii_stmt *stmt, int at, const char *s)
{
  aii_stmt_text(stmt, at, s, s != NULL ? strlen(s) : 0);
}

static void bind_time(aii_stmt *stmt, int at, int64_t value)
{
  if (value != 0) aii_stmt_int(stmt, at, value);
}

/* ---- writing ------------------------------------------------------------------------------------------------------- */

static void bind_fact(aii_stmt *stmt, const aii_item *item)
{
  bind_time(stmt, 9, item->valid_from_ms);
  bind_time(stmt, 10, item->valid_to_ms);
  bind_time(stmt, 11, item->expires_ms);
  bind_time(stmt, 12, item->chain);
  bind_time(stmt, 13, item->previous);
  bind_opt(stmt, 14, item->source);
  aii_stmt_real(stmt, 15, item->trust);
  aii_stmt_real(stmt, 16, item->importance);
  if (item->wording != NULL) aii_stmt_int(stmt, 17, (int64_t)aii_hash64(item->wording, strlen(item->wording), 0));
  bind_time(stmt, 18, item->ended_ms);
  bind_time(stmt, 19, item->ended_at_ms);
  bind_time(stmt, 20, item->retired_ms);
  aii_stmt_int(stmt, 21, item->reinforced);
}

static aiinfra_status insert_row(aiinfra_memory *memory, const aii_item *item, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool fact = item->kind == AIINFRA_MEMORY_FACT;
  aiinfra_status rc =
      fact
          ? aii_sql_prepare(memory->db->sql,
                            "INSERT INTO items(scope, kind, hash, document, first_byte, n_bytes, metadata, created_ms, "
                            "updated_ms, valid_from_ms, valid_to_ms, expires_ms, chain, previous, source, trust, "
                            "importance, wording_hash, ended_ms, ended_at_ms, retired_ms, reinforced) "
                            "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, "
                            "?18, ?19, ?20, ?21)",
                            &stmt, err)
          : aii_sql_prepare(memory->db->sql,
                            "INSERT INTO items(scope, kind, hash, document, first_byte, n_bytes, metadata, "
                            "created_ms, updated_ms) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)",
                            &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, memory->scope);
  aii_stmt_int(stmt, 2, item->kind);
  aii_stmt_int(stmt, 3, item->hash);
  bind_time(stmt, 4, item->document);
  aii_stmt_int(stmt, 5, (int64_t)item->first_byte);
  aii_stmt_int(stmt, 6, (int64_t)item->n_bytes);
  bind_opt(stmt, 7, item->metadata);
  aii_stmt_int(stmt, 8, item->created_ms != 0 ? item->created_ms : aii_unix_ms());
  if (fact) bind_fact(stmt, item);
  return aii_stmt_run(stmt, err);
}

static aiinfra_status write_text(aiinfra_vecstore *store, const aii_item *item, int64_t id, aiinfra_error *err)
{
  aii_record record = {.keywords = item->keywords};
  record.r.id = id;
  record.r.vector = item->vector;
  record.r.text = item->text;
  record.r.payload_json = item->kind == AIINFRA_MEMORY_FACT ? "{\"kind\":\"fact\"}" : "{\"kind\":\"passage\"}";
  return aii_rows_upsert(store, &record, 1, err);
}

aiinfra_status aii_items_insert(aiinfra_memory *memory, const aii_item *item, int64_t *id, aiinfra_error *err)
{
  aiinfra_status rc = insert_row(memory, item, err);
  if (rc != AIINFRA_OK) return rc;
  *id = aii_sql_last_id(memory->db->sql);
  return write_text(item->past ? memory->past : memory->store, item, *id, err);
}

aiinfra_status aii_items_take_out(aiinfra_memory *memory, const int64_t *ids, size_t n, size_t *n_removed,
                                  aiinfra_error *err)
{
  size_t vectors;
  aiinfra_status rc = aii_rows_remove(memory->store, ids, n, n_removed, err);
  for (const aii_dense *dense = memory->dense; rc == AIINFRA_OK && dense != NULL; dense = dense->next)
    rc = aii_rows_remove(dense->store, ids, n, &vectors, err);
  return rc;
}

/* The text of an item of the store; free it with aii_strfree. */
static aiinfra_status read_text(aiinfra_memory *memory, int64_t id, char **text, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  size_t n;
  *text = NULL;
  aiinfra_status rc =
      aii_sql_prepare(memory->db->sql, "SELECT text FROM rows WHERE collection = ?1 AND id = ?2", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, memory->store->collection);
  aii_stmt_int(stmt, 2, id);
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK && row) {
    const char *s = aii_stmt_get_text(stmt, 0, &n);
    *text = aii_strndup(&memory->db->rt->mem, s, n);
    if (*text == NULL) rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for an item");
  }
  aii_stmt_reset(stmt);
  return rc;
}

aiinfra_status aii_items_bury(aiinfra_memory *memory, int64_t id, aiinfra_error *err)
{
  float vector[AII_EMBED_DIMS];
  char *text;
  size_t n;
  aiinfra_status rc = read_text(memory, id, &text, err);
  if (rc != AIINFRA_OK || text == NULL) return rc;
  aii_embed(text, strlen(text), vector);
  aii_item item = {.kind = AIINFRA_MEMORY_FACT, .text = text, .vector = vector};
  rc = aii_items_take_out(memory, &id, 1, &n, err);
  if (rc == AIINFRA_OK) rc = write_text(memory->past, &item, id, err);
  aii_strfree(&memory->db->rt->mem, text);
  return rc;
}

/* ---- forgetting ------------------------------------------------------------------------------------------------------ */

typedef struct ids {
  aii_mem *mem;
  int64_t *id;
  size_t n, cap;
} ids;

/* Steps a statement that selects ids, and resets it. */
static aiinfra_status collect(aii_stmt *stmt, ids *out, aiinfra_error *err)
{
  bool row = true;
  aiinfra_status rc = AIINFRA_OK;
  while (rc == AIINFRA_OK && row) {
    rc = aii_stmt_step(stmt, &row, err);
    if (rc != AIINFRA_OK || !row) break;
    if (!aii_grow(out->mem, &out->id, &out->cap, out->n + 1, sizeof *out->id))
      rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for %zu items", out->n);
    else out->id[out->n++] = aii_stmt_get_int(stmt, 0);
  }
  aii_stmt_reset(stmt);
  return rc;
}

static aiinfra_status remove_row(aiinfra_memory *memory, int64_t id, aiinfra_error *err)
{
  aii_sql *sql = memory->db->sql;
  aii_stmt *stmt;
  aiinfra_status rc = aii_sql_prepare(sql, "DELETE FROM items WHERE id = ?1 AND scope = ?2", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, id);
  aii_stmt_int(stmt, 2, memory->scope);
  rc = aii_stmt_run(stmt, err);
  if (rc == AIINFRA_OK)
    rc = aii_sql_prepare(sql, "INSERT INTO forgotten(item, scope, forgotten_ms) VALUES(?1, ?2, ?3)", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, id);
  aii_stmt_int(stmt, 2, memory->scope);
  aii_stmt_int(stmt, 3, aii_unix_ms());
  return aii_stmt_run(stmt, err);
}

/* Rows, texts, vectors and words of all of them, and what the full-text tables keep of removed ones. */
static aiinfra_status remove_items(aiinfra_memory *memory, const ids *all, aiinfra_error *err)
{
  size_t n;
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; rc == AIINFRA_OK && i < all->n; i++) rc = remove_row(memory, all->id[i], err);
  if (rc == AIINFRA_OK) rc = aii_items_take_out(memory, all->id, all->n, &n, err);
  if (rc == AIINFRA_OK) rc = aii_rows_purge(memory->store, err);
  if (rc != AIINFRA_OK || memory->past == NULL) return rc;
  rc = aii_rows_remove(memory->past, all->id, all->n, &n, err);
  return rc == AIINFRA_OK ? aii_rows_purge(memory->past, err) : rc;
}

static aiinfra_status list_chain(aiinfra_memory *memory, int64_t id, ids *out, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc =
      aii_sql_prepare(memory->db->sql,
                      "WITH root(id) AS (SELECT coalesce(chain, id) FROM items WHERE id = ?1 AND scope = "
                      "?2) SELECT i.id FROM root JOIN items i ON i.id = root.id WHERE i.scope = ?2 "
                      "UNION SELECT i.id FROM root JOIN items i ON i.chain = root.id WHERE i.scope = ?2",
                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, id);
  aii_stmt_int(stmt, 2, memory->scope);
  rc = collect(stmt, out, err);
  if (rc == AIINFRA_OK && out->n == 0)
    rc = aii_fail(err, AIINFRA_ENOENT, "this scope has no item with the id %lld", (long long)id);
  return rc;
}

static aiinfra_status list_expired(aiinfra_memory *memory, ids *out, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc =
      aii_sql_prepare(memory->db->sql, "SELECT id FROM items WHERE scope = ?1 AND expires_ms <= ?2", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, memory->scope);
  aii_stmt_int(stmt, 2, aii_unix_ms());
  return collect(stmt, out, err);
}

static aiinfra_status list_all(aiinfra_memory *memory, ids *out, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc = aii_sql_prepare(memory->db->sql, "SELECT id FROM items WHERE scope = ?1", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, memory->scope);
  return collect(stmt, out, err);
}

aiinfra_status aii_memory_scrub(aiinfra_memory *memory, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  aiinfra_status rc = aii_sql_prepare(memory->db->sql, "PRAGMA wal_checkpoint(TRUNCATE)", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK && row && aii_stmt_get_int(stmt, 0) != 0)
    rc = aii_fail(err, AIINFRA_EBUSY,
                  "it is forgotten, but another process reads an older state of the database, whose log keeps bytes of "
                  "it until that is done");
  aii_stmt_reset(stmt);
  return rc;
}

/* What a transaction of forgetting does besides removing items; may be NULL. */
typedef aiinfra_status (*more_fn)(aiinfra_memory *memory, const char *arg, aiinfra_error *err);

/* Removes the items, then does more, in one transaction; then empties the log. Lock held. */
static aiinfra_status forget(aiinfra_memory *memory, const ids *all, more_fn more, const char *arg, aiinfra_error *err)
{
  aii_sql *sql = memory->db->sql;
  aiinfra_status rc = all->n > 0 ? remove_items(memory, all, err) : AIINFRA_OK;
  if (rc == AIINFRA_OK && more != NULL) rc = more(memory, arg, err);
  if (rc == AIINFRA_OK) rc = aii_sql_commit(sql, err);
  else aii_sql_rollback(sql);
  return rc == AIINFRA_OK ? aii_memory_scrub(memory, err) : rc;
}

aiinfra_status aii_memory_forget(aiinfra_memory *memory, int64_t id, aiinfra_error *err)
{
  ids all = {.mem = &memory->db->rt->mem};
  aiinfra_status rc = aii_memory_open_past(memory, false, err);
  if (rc == AIINFRA_OK) rc = aii_dense_refresh(memory, err);
  if (rc != AIINFRA_OK) return rc;
  aii_sql_lock(memory->db->sql);
  rc = aii_sql_begin(memory->db->sql, err);
  if (rc == AIINFRA_OK) {
    rc = list_chain(memory, id, &all, err);
    if (rc == AIINFRA_OK) rc = forget(memory, &all, NULL, NULL, err);
    else aii_sql_rollback(memory->db->sql);
  }
  aii_sql_unlock(memory->db->sql);
  aii_del(all.mem, all.id, all.cap * sizeof *all.id);
  return rc;
}

aiinfra_status aii_memory_expire(aiinfra_memory *memory, uint64_t *n, aiinfra_error *err)
{
  ids all = {.mem = &memory->db->rt->mem};
  *n = 0;
  aiinfra_status rc = aii_memory_open_past(memory, false, err);
  if (rc == AIINFRA_OK) rc = aii_dense_refresh(memory, err);
  if (rc != AIINFRA_OK) return rc;
  aii_sql_lock(memory->db->sql);
  rc = aii_sql_begin(memory->db->sql, err);
  if (rc == AIINFRA_OK) {
    rc = list_expired(memory, &all, err);
    if (rc == AIINFRA_OK && all.n > 0) rc = forget(memory, &all, NULL, NULL, err);
    else aii_sql_rollback(memory->db->sql);
  }
  aii_sql_unlock(memory->db->sql);
  if (rc == AIINFRA_OK) *n = all.n;
  aii_del(all.mem, all.id, all.cap * sizeof *all.id);
  return rc;
}

static aiinfra_status remove_conversation(aiinfra_memory *memory, const char *conversation, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc =
      aii_sql_prepare(memory->db->sql, "DELETE FROM messages WHERE scope = ?1 AND conversation = ?2", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, memory->scope);
  aii_stmt_text(stmt, 2, conversation, strlen(conversation));
  rc = aii_stmt_run(stmt, err);
  if (rc == AIINFRA_OK && aii_sql_changes(memory->db->sql) == 0)
    rc = aii_fail(err, AIINFRA_ENOENT, "this scope has no conversation of that name");
  if (rc == AIINFRA_OK)
    rc = aii_sql_prepare(memory->db->sql, "DELETE FROM summaries WHERE scope = ?1 AND conversation = ?2", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, memory->scope);
  aii_stmt_text(stmt, 2, conversation, strlen(conversation));
  return aii_stmt_run(stmt, err);
}

aiinfra_status aii_memory_forget_conversation(aiinfra_memory *memory, const char *conversation, aiinfra_error *err)
{
  const ids none = {.mem = NULL};
  aii_sql_lock(memory->db->sql);
  aiinfra_status rc = aii_sql_begin(memory->db->sql, err);
  if (rc == AIINFRA_OK) rc = forget(memory, &none, remove_conversation, conversation, err);
  aii_sql_unlock(memory->db->sql);
  return rc;
}

static aiinfra_status remove_rest(aiinfra_memory *memory, const char *arg, aiinfra_error *err)
{
  static const char messages[] = "DELETE FROM messages WHERE scope = ?1",
                    summaries[] = "DELETE FROM summaries WHERE scope = ?1",
                    blocks[] = "DELETE FROM blocks WHERE scope = ?1",
                    documents[] = "DELETE FROM documents WHERE scope = ?1";
  const char *const all[] = {messages, summaries, blocks, documents};
  aiinfra_status rc = AIINFRA_OK;
  (void)arg;
  for (size_t i = 0; rc == AIINFRA_OK && i < AII_COUNT(all); i++) {
    aii_stmt *stmt;
    rc = aii_sql_prepare(memory->db->sql, all[i], &stmt, err);
    if (rc != AIINFRA_OK) break;
    aii_stmt_int(stmt, 1, memory->scope);
    rc = aii_stmt_run(stmt, err);
  }
  return rc;
}

aiinfra_status aii_memory_forget_all(aiinfra_memory *memory, aiinfra_error *err)
{
  ids all = {.mem = &memory->db->rt->mem};
  aiinfra_status rc = aii_memory_open_past(memory, false, err);
  if (rc == AIINFRA_OK) rc = aii_dense_refresh(memory, err);
  if (rc != AIINFRA_OK) return rc;
  aii_sql_lock(memory->db->sql);
  rc = aii_sql_begin(memory->db->sql, err);
  if (rc == AIINFRA_OK) {
    rc = list_all(memory, &all, err);
    if (rc == AIINFRA_OK) rc = forget(memory, &all, remove_rest, NULL, err);
    else aii_sql_rollback(memory->db->sql);
  }
  aii_sql_unlock(memory->db->sql);
  aii_del(all.mem, all.id, all.cap * sizeof *all.id);
  return rc;
}
