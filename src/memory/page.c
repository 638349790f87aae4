/* page.c - what was said, and what matters now: the messages of conversations, and the blocks of the working memory.
 *
 * Messages are kept as they came, numbered within their conversation; nothing ever rewrites them. Any thread.
 */
#include "lib/json/json.h"
#include "src/memory/memory.h"

aiinfra_status aii_message_check(const char *message, aiinfra_error *err)
{
  const char *role = NULL;
  json_t *json = NULL;
  aiinfra_status rc = aii_json_parse(message, strlen(message), "message_json", 0, &json, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_str(json, "message_json", "role", true, &role, err);
  json_decref(json);
  if (rc == AIINFRA_OK || rc == AIINFRA_ENOMEM) return rc;
  if (err != NULL) err->status = AIINFRA_EINVAL;
  return AIINFRA_EINVAL;
}

aiinfra_status aii_memory_append(aiinfra_memory *memory, const char *conversation, const char *message,
                                 aiinfra_error *err)
{
  aii_sql *sql = memory->db->sql;
  aii_stmt *stmt;
  aiinfra_status rc = aii_message_check(message, err);
  if (rc != AIINFRA_OK) return rc;
  aii_sql_lock(sql);
  rc = aii_sql_prepare(sql,
                       "INSERT INTO messages(scope, conversation, seq, message, created_ms) "
                       "SELECT ?1, ?2, coalesce(max(seq), 0) + 1, ?3, ?4 FROM messages "
                       "WHERE scope = ?1 AND conversation = ?2",
                       &stmt, err);
  if (rc == AIINFRA_OK) {
    aii_stmt_int(stmt, 1, memory->scope);
    aii_stmt_text(stmt, 2, conversation, strlen(conversation));
    aii_stmt_text(stmt, 3, message, strlen(message));
    aii_stmt_int(stmt, 4, aii_unix_ms());
    rc = aii_stmt_run_alone(stmt, err);
  }
  aii_sql_unlock(sql);
  return rc;
}

/* Appends the messages; those of tools whose call was left out before them are left out too. */
static aiinfra_status read_messages(aii_stmt *stmt, bool whole, aii_buf *json, aiinfra_error *err)
{
  bool row, first = true;
  aiinfra_status rc = aii_stmt_step(stmt, &row, err);
  for (; rc == AIINFRA_OK && row; rc = aii_stmt_step(stmt, &row, err)) {
    size_t n;
    const char *message = aii_stmt_get_text(stmt, 0, &n);
    if (first && !whole && strcmp(aii_stmt_get_text(stmt, 1, NULL), "tool") == 0) continue;
    if (!first) aii_buf_char(json, ',');
    first = false;
    aii_buf_add(json, message, n);
  }
  return rc;
}

aiinfra_status aii_memory_history(aiinfra_memory *memory, const char *conversation, uint32_t last, aii_buf *json,
                                  aiinfra_error *err)
{
  aii_sql *sql = memory->db->sql;
  aii_stmt *stmt;
  aii_buf_char(json, '[');
  aii_sql_lock(sql);
  aiinfra_status rc = aii_sql_prepare(sql,
                                      "SELECT message, message ->> '$.role' FROM (SELECT seq, message FROM messages "
                                      "WHERE scope = ?1 AND conversation = ?2 ORDER BY seq DESC LIMIT ?3) ORDER BY seq",
                                      &stmt, err);
  if (rc == AIINFRA_OK) {
    aii_stmt_int(stmt, 1, memory->scope);
    aii_stmt_text(stmt, 2, conversation, strlen(conversation));
    aii_stmt_int(stmt, 3, last == 0 ? -1 : (int64_t)last);
    rc = read_messages(stmt, last == 0, json, err);
    aii_stmt_reset(stmt);
  }
  aii_sql_unlock(sql);
  aii_buf_char(json, ']');
  return rc;
}

aiinfra_status aii_memory_set_block(aiinfra_memory *memory, const char *label, const char *text, aiinfra_error *err)
{
  static const char set[] = "INSERT INTO blocks(scope, label, text, updated_ms) VALUES(?1, ?2, ?3, ?4) "
                            "ON CONFLICT DO UPDATE SET text = excluded.text, updated_ms = excluded.updated_ms "
                            "WHERE limit_bytes IS NULL OR length(CAST(excluded.text AS BLOB)) <= limit_bytes";
  static const char unset[] = "DELETE FROM blocks WHERE scope = ?1 AND label = ?2";
  aii_sql *sql = memory->db->sql;
  aii_stmt *stmt;
  bool empty = text == NULL || text[0] == '\0';
  aii_sql_lock(sql);
  aiinfra_status rc = aii_sql_prepare(sql, empty ? unset : set, &stmt, err);
  if (rc == AIINFRA_OK) {
    aii_stmt_int(stmt, 1, memory->scope);
    aii_stmt_text(stmt, 2, label, strlen(label));
    if (!empty) {
      aii_stmt_text(stmt, 3, text, strlen(text));
      aii_stmt_int(stmt, 4, aii_unix_ms());
    }
    rc = aii_stmt_run_alone(stmt, err);
    if (rc == AIINFRA_OK && !empty && aii_sql_changes(sql) == 0)
      rc = aii_fail(err, AIINFRA_ELIMIT, "the text is longer than the block '%s' may be", label);
  }
  aii_sql_unlock(sql);
  return rc;
}

aiinfra_status aii_memory_blocks(aiinfra_memory *memory, aii_buf *json, aiinfra_error *err)
{
  aii_sql *sql = memory->db->sql;
  aii_stmt *stmt;
  bool row, first = true;
  aii_buf_char(json, '{');
  aii_sql_lock(sql);
  aiinfra_status rc =
      aii_sql_prepare(sql, "SELECT label, text FROM blocks WHERE scope = ?1 AND text <> '' ORDER BY label", &stmt, err);
  if (rc == AIINFRA_OK) {
    aii_stmt_int(stmt, 1, memory->scope);
    rc = aii_stmt_step(stmt, &row, err);
    for (; rc == AIINFRA_OK && row; rc = aii_stmt_step(stmt, &row, err)) {
      for (int at = 0; at < 2; at++) {
        size_t n;
        const char *s = aii_stmt_get_text(stmt, at, &n);
        if (at == 1 || !first) aii_buf_char(json, at == 1 ? ':' : ',');
        aii_buf_json(json, s, n);
      }
      first = false;
    }
    aii_stmt_reset(stmt);
  }
  aii_sql_unlock(sql);
  aii_buf_char(json, '}');
  return rc;
}
