/* blocks.c - what the blocks of the working memory may hold, and edits of a part of one.
 *
 * The host sets whole texts (page.c); an agent edits parts, within the limit, where the host allows it. An edit reads and
 * writes in one transaction, so that two agents that share a block lose nothing. Any thread.
 */
#include "src/memory/memory.h"

typedef struct block {
  aii_buf text;
  int64_t limit;
  bool there, read_only;
} block;

/* Lock held. */
static aiinfra_status read_block(aiinfra_memory *memory, const char *label, block *b, aiinfra_error *err)
{
  aii_stmt *stmt;
  size_t n;
  aiinfra_status rc = aii_sql_prepare(
      memory->db->sql, "SELECT text, limit_bytes, read_only FROM blocks WHERE scope = ?1 AND label = ?2", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, memory->scope);
  aii_stmt_text(stmt, 2, label, strlen(label));
  rc = aii_stmt_step(stmt, &b->there, err);
  b->limit = AII_BLOCK_BYTES;
  if (rc == AIINFRA_OK && b->there) {
    const char *text = aii_stmt_get_text(stmt, 0, &n);
    aii_buf_add(&b->text, text, n);
    if (!aii_stmt_is_null(stmt, 1)) b->limit = aii_stmt_get_int(stmt, 1);
    b->read_only = aii_stmt_get_int(stmt, 2) != 0;
    if (b->text.failed) rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for a block");
  }
  aii_stmt_reset(stmt);
  return rc;
}

static aiinfra_status check_limit(const char *label, size_t n, int64_t limit, aiinfra_error *err)
{
  if ((int64_t)n <= limit) return AIINFRA_OK;
  return aii_fail(err, AIINFRA_ELIMIT, "the block '%s' would have %zu bytes and may have %lld: shorten it first", label,
                  n, (long long)limit);
}

/* ---- settings -------------------------------------------------------------------------------------------------------- */

static aiinfra_status write_settings(aiinfra_memory *memory, const char *label, const aiinfra_block_opts *opts,
                                     aiinfra_error *err)
{
  aii_stmt *stmt;
  const char *about = opts->description;
  aiinfra_status rc =
      aii_sql_prepare(memory->db->sql,
                      "INSERT INTO blocks(scope, label, text, updated_ms, limit_bytes, description, read_only) "
                      "VALUES(?1, ?2, '', ?3, ?4, ?5, coalesce(?6, 0)) ON CONFLICT DO UPDATE SET "
                      "limit_bytes = coalesce(?4, limit_bytes), description = coalesce(?5, description), "
                      "read_only = coalesce(?6, read_only)",
                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, memory->scope);
  aii_stmt_text(stmt, 2, label, strlen(label));
  aii_stmt_int(stmt, 3, aii_unix_ms());
  if (opts->limit_bytes != 0) aii_stmt_int(stmt, 4, opts->limit_bytes);
  aii_stmt_text(stmt, 5, about, about != NULL ? strlen(about) : 0);
  if (opts->read_only != 0) aii_stmt_int(stmt, 6, opts->read_only == 1);
  return aii_stmt_run(stmt, err);
}

static aiinfra_status end(aiinfra_memory *memory, aiinfra_status rc, aiinfra_error *err)
{
  if (rc == AIINFRA_OK) return aii_sql_commit(memory->db->sql, err);
  aii_sql_rollback(memory->db->sql);
  return rc;
}

aiinfra_status aii_memory_define_block(aiinfra_memory *memory, const char *label, const aiinfra_block_opts *opts,
                                       aiinfra_error *err)
{
  block b = {.there = false};
  aii_buf_init(&b.text, &memory->db->rt->mem, 0);
  aii_sql_lock(memory->db->sql);
  aiinfra_status rc = aii_sql_begin(memory->db->sql, err);
  if (rc == AIINFRA_OK) {
    rc = read_block(memory, label, &b, err);
    if (rc == AIINFRA_OK && opts->limit_bytes != 0) rc = check_limit(label, b.text.len, opts->limit_bytes, err);
    if (rc == AIINFRA_OK) rc = write_settings(memory, label, opts, err);
    rc = end(memory, rc, err);
  }
  aii_sql_unlock(memory->db->sql);
  aii_buf_free(&b.text);
  return rc;
}

/* ---- edits ------------------------------------------------------------------------------------------------------------- */

/* Appends the new text to *out. */
static aiinfra_status apply(const char *label, const aiinfra_block_edit *edit, const char *old, aii_buf *out,
                            aiinfra_error *err)
{
  if (edit->find == NULL) {
    aii_buf_str(out, old);
    if (old[0] != '\0' && old[strlen(old) - 1] != '\n') aii_buf_char(out, '\n');
    aii_buf_str(out, edit->text);
    return AIINFRA_OK;
  }
  const char *at = strstr(old, edit->find);
  if (at == NULL) return aii_fail(err, AIINFRA_EINVAL, "the block '%s' does not have the text to be replaced", label);
  if (strstr(at + 1, edit->find) != NULL)
    return aii_fail(err, AIINFRA_EINVAL, "the block '%s' has that text more than once: name more of what is around it",
                    label);
  aii_buf_add(out, old, (size_t)(at - old));
  aii_buf_str(out, edit->text);
  aii_buf_str(out, at + strlen(edit->find));
  return AIINFRA_OK;
}

static aiinfra_status change(aiinfra_memory *memory, const char *label, const aiinfra_block_edit *edit, block *b,
                             aii_buf *text, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc = read_block(memory, label, b, err);
  if (rc == AIINFRA_OK && !b->there) rc = aii_fail(err, AIINFRA_ENOENT, "there is no block '%s'", label);
  if (rc == AIINFRA_OK && b->read_only && edit->by_agent == 1)
    rc = aii_fail(err, AIINFRA_EINVAL, "the block '%s' is read-only", label);
  if (rc == AIINFRA_OK) rc = apply(label, edit, aii_buf_cstr(&b->text), text, err);
  if (rc == AIINFRA_OK && text->failed) rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for a block");
  if (rc == AIINFRA_OK) rc = check_limit(label, text->len, b->limit, err);
  if (rc == AIINFRA_OK)
    rc = aii_sql_prepare(memory->db->sql,
                         "UPDATE blocks SET text = ?3, updated_ms = ?4 WHERE scope = ?1 AND label = ?2", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, memory->scope);
  aii_stmt_text(stmt, 2, label, strlen(label));
  aii_stmt_text(stmt, 3, aii_buf_cstr(text), text->len);
  aii_stmt_int(stmt, 4, aii_unix_ms());
  return aii_stmt_run(stmt, err);
}

aiinfra_status aii_memory_edit_block(aiinfra_memory *memory, const char *label, const aiinfra_block_edit *edit,
                                     aii_buf *text, aiinfra_error *err)
{
  block b = {.there = false};
  aii_buf_init(&b.text, &memory->db->rt->mem, 0);
  aii_sql_lock(memory->db->sql);
  aiinfra_status rc = aii_sql_begin(memory->db->sql, err);
  if (rc == AIINFRA_OK) rc = end(memory, change(memory, label, edit, &b, text, err), err);
  aii_sql_unlock(memory->db->sql);
  aii_buf_free(&b.text);
  return rc;
}

/* ---- list -------------------------------------------------------------------------------------------------------------- */

static void add_text(aii_buf *json, const char *name, aii_stmt *stmt, int at)
{
  size_t n;
  const char *s = aii_stmt_get_text(stmt, at, &n);
  aii_buf_fmt(json, "\"%s\":", name);
  if (aii_stmt_is_null(stmt, at)) aii_buf_str(json, "null");
  else aii_buf_json(json, s, n);
}

static void write_block(aii_stmt *stmt, aii_buf *json)
{
  size_t n;
  (void)aii_stmt_get_text(stmt, 1, &n);
  aii_buf_char(json, '{');
  add_text(json, "label", stmt, 0);
  aii_buf_char(json, ',');
  add_text(json, "text", stmt, 1);
  aii_buf_char(json, ',');
  add_text(json, "description", stmt, 2);
  aii_buf_fmt(json, ",\"bytes\":%zu,\"limit_bytes\":%lld,\"read_only\":%s,\"updated_ms\":%lld}", n,
              (long long)aii_stmt_get_int(stmt, 3), aii_stmt_get_int(stmt, 4) != 0 ? "true" : "false",
              (long long)aii_stmt_get_int(stmt, 5));
}

aiinfra_status aii_memory_list_blocks(aiinfra_memory *memory, aii_buf *json, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = true, first = true;
  aii_buf_char(json, '[');
  aii_sql_lock(memory->db->sql);
  aiinfra_status rc = aii_sql_prepare(memory->db->sql,
                                      "SELECT label, text, description, coalesce(limit_bytes, ?2), read_only, "
                                      "updated_ms FROM blocks WHERE scope = ?1 ORDER BY label",
                                      &stmt, err);
  if (rc == AIINFRA_OK) {
    aii_stmt_int(stmt, 1, memory->scope);
    aii_stmt_int(stmt, 2, AII_BLOCK_BYTES);
    while (rc == AIINFRA_OK && row) {
      rc = aii_stmt_step(stmt, &row, err);
      if (rc != AIINFRA_OK || !row) break;
      if (!first) aii_buf_char(json, ',');
      write_block(stmt, json);
      first = false;
    }
    aii_stmt_reset(stmt);
  }
  aii_sql_unlock(memory->db->sql);
  aii_buf_char(json, ']');
  return rc;
}
