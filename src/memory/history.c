/* history.c - facts listed: those that hold at a time, and all versions of one. Any thread. */
#include "src/memory/memory.h"

static void add_int(aii_buf *json, const char *name, aii_stmt *stmt, int at)
{
  aii_buf_fmt(json, ",\"%s\":", name);
  if (aii_stmt_is_null(stmt, at)) aii_buf_str(json, "null");
  else aii_buf_fmt(json, "%lld", (long long)aii_stmt_get_int(stmt, at));
}

static void add_real(aii_buf *json, const char *name, aii_stmt *stmt, int at, double none)
{
  aii_buf_fmt(json, ",\"%s\":", name);
  aii_buf_double(json, aii_stmt_is_null(stmt, at) ? none : aii_stmt_get_real(stmt, at), 6);
}

static void add_text(aii_buf *json, const char *name, aii_stmt *stmt, int at)
{
  size_t n;
  const char *s = aii_stmt_get_text(stmt, at, &n);
  aii_buf_fmt(json, ",\"%s\":", name);
  if (aii_stmt_is_null(stmt, at)) aii_buf_str(json, "null");
  else aii_buf_json(json, s, n);
}

static const char *state_of(aii_stmt *stmt)
{
  int64_t now = aii_unix_ms();
  if (!aii_stmt_is_null(stmt, 3)) return "revised";
  if (!aii_stmt_is_null(stmt, 8) && aii_stmt_get_int(stmt, 8) <= now) return "expired";
  if (!aii_stmt_is_null(stmt, 6) && aii_stmt_get_int(stmt, 6) <= now) return "ended";
  if (!aii_stmt_is_null(stmt, 5) && aii_stmt_get_int(stmt, 5) <= now) return "ended";
  return "current";
}

/* The earlier of the end that was told and the one that was learnt. */
static int end_column(aii_stmt *stmt)
{
  if (aii_stmt_is_null(stmt, 6)) return 5;
  if (aii_stmt_is_null(stmt, 5)) return 6;
  return aii_stmt_get_int(stmt, 5) <= aii_stmt_get_int(stmt, 6) ? 5 : 6;
}

/* Columns are those of AII_FACT_COLUMNS. */
void aii_fact_write(aii_stmt *stmt, bool with_state, aii_buf *json)
{
  size_t n;
  aii_buf_fmt(json, "\"id\":%lld", (long long)aii_stmt_get_int(stmt, 0));
  add_text(json, "text", stmt, 1);
  if (with_state) aii_buf_fmt(json, ",\"state\":\"%s\"", state_of(stmt));
  add_int(json, "recorded_ms", stmt, 2);
  add_int(json, "retired_ms", stmt, 3);
  add_int(json, "valid_from_ms", stmt, with_state && aii_stmt_is_null(stmt, 4) ? 2 : 4);
  add_int(json, "valid_to_ms", stmt, with_state ? end_column(stmt) : 5);
  if (!with_state) {
    add_int(json, "ended_ms", stmt, 6);
    add_int(json, "chain", stmt, 9);
  }
  add_int(json, "ended_at_ms", stmt, 7);
  add_int(json, "expires_ms", stmt, 8);
  add_int(json, "previous", stmt, 10);
  add_text(json, "source", stmt, 11);
  add_real(json, "trust", stmt, 12, 1);
  add_real(json, "importance", stmt, 13, 0.5);
  add_int(json, "reinforced", stmt, 14);
  const char *metadata = aii_stmt_get_text(stmt, 15, &n);
  aii_buf_str(json, ",\"metadata\":");
  aii_buf_str(json, n > 0 ? metadata : "{}");
}

/* Steps to the end, resets. */
static aiinfra_status write_all(aii_stmt *stmt, size_t *n, aii_buf *json, aiinfra_error *err)
{
  bool row = true;
  aiinfra_status rc = AIINFRA_OK;
  aii_buf_char(json, '[');
  while (rc == AIINFRA_OK && row) {
    rc = aii_stmt_step(stmt, &row, err);
    if (rc != AIINFRA_OK || !row) break;
    aii_buf_str(json, (*n)++ > 0 ? ",{" : "{");
    aii_fact_write(stmt, true, json);
    aii_buf_char(json, '}');
  }
  aii_buf_char(json, ']');
  aii_stmt_reset(stmt);
  return rc;
}

/* ENOENT, and when it was forgotten. */
static aiinfra_status missing(aiinfra_memory *memory, int64_t id, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  int64_t when = 0;
  aiinfra_status rc =
      aii_sql_prepare(memory->db->sql, "SELECT forgotten_ms FROM forgotten WHERE item = ?1 AND scope = ?2", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, id);
  aii_stmt_int(stmt, 2, memory->scope);
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK && row) when = aii_stmt_get_int(stmt, 0);
  aii_stmt_reset(stmt);
  if (rc != AIINFRA_OK) return rc;
  if (when != 0)
    return aii_fail(err, AIINFRA_ENOENT, "fact %lld was forgotten at %lld", (long long)id, (long long)when);
  return aii_fail(err, AIINFRA_ENOENT, "this scope has no fact with the id %lld", (long long)id);
}

aiinfra_status aii_memory_fact_history(aiinfra_memory *memory, int64_t id, aii_buf *json, aiinfra_error *err)
{
  aii_stmt *stmt;
  size_t n = 0;
  aiinfra_status rc = aii_memory_open_past(memory, false, err);
  if (rc != AIINFRA_OK) return rc;
  aii_sql_lock(memory->db->sql);
  rc = aii_sql_prepare(memory->db->sql,
                       "SELECT" AII_FACT_COLUMNS "FROM items i JOIN rows r ON r.collection IN (?3, ?4) AND r.id = i.id "
                       "WHERE i.scope = ?2 AND i.kind = 1 AND "
                       "(i.chain = (SELECT coalesce(chain, id) FROM items WHERE id = ?1 AND scope = ?2) OR "
                       "i.id = (SELECT coalesce(chain, id) FROM items WHERE id = ?1 AND scope = ?2)) ORDER BY i.id",
                       &stmt, err);
  if (rc == AIINFRA_OK) {
    aii_stmt_int(stmt, 1, id);
    aii_stmt_int(stmt, 2, memory->scope);
    aii_stmt_int(stmt, 3, memory->store->collection);
    aii_stmt_int(stmt, 4, aii_memory_past(memory));
    rc = write_all(stmt, &n, json, err);
  }
  if (rc == AIINFRA_OK && n == 0) rc = missing(memory, id, err);
  aii_sql_unlock(memory->db->sql);
  return rc;
}

aiinfra_status aii_memory_facts(aiinfra_memory *memory, const aiinfra_facts_opts *opts, aii_buf *json,
                                aiinfra_error *err)
{
  aii_stmt *stmt;
  size_t n = 0;
  aiinfra_status rc = aii_memory_open_past(memory, false, err);
  if (rc != AIINFRA_OK) return rc;
  aii_sql_lock(memory->db->sql);
  rc = aii_sql_prepare(memory->db->sql,
                       "SELECT" AII_FACT_COLUMNS "FROM items i JOIN rows r ON r.collection IN (?3, ?4) AND r.id = i.id "
                       "WHERE i.scope = ?2 AND i.kind = 1 AND i.id > ?1 AND (?6 OR" AII_VISIBLE
                       ") ORDER BY i.id LIMIT ?5",
                       &stmt, err);
  if (rc == AIINFRA_OK) {
    aii_stmt_int(stmt, 1, opts->after_id);
    aii_stmt_int(stmt, 2, memory->scope);
    aii_stmt_int(stmt, 3, memory->store->collection);
    aii_stmt_int(stmt, 4, aii_memory_past(memory));
    aii_stmt_int(stmt, 5, opts->limit);
    aii_stmt_int(stmt, 6, opts->all == 1);
    aii_bind_times(stmt, opts->as_of_ms, opts->known_at_ms);
    rc = write_all(stmt, &n, json, err);
  }
  aii_sql_unlock(memory->db->sql);
  return rc;
}
