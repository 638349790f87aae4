/* stmt.c - statements: found in the cache by the address of their text, bound, stepped, read, reset.
 *
 * A statement belongs to its connection and is used with the connection's lock held. Binding never fails at once:
 * the first failure is kept and told by the next step, so that callers bind in a row and check once.
 */
#include <limits.h>

#include "lib/sql/sql_internal.h"

static size_t bucket_of(const char *text)
{
  return (size_t)(((uintptr_t)text * 0x9E3779B97F4A7C15u) >> 57) % STMT_BUCKETS;
}

static aiinfra_status make(aii_sql *sql, const char *text, unsigned flags, aii_stmt **out, aiinfra_error *err)
{
  *out = NULL;
  aii_stmt *stmt = aii_new(sql->mem, sizeof *stmt);
  if (stmt == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for an SQL statement");
  int code = sqlite3_prepare_v3(sql->db, text, -1, flags, &stmt->raw, NULL);
  if (code != SQLITE_OK) {
    aii_del(sql->mem, stmt, sizeof *stmt);
    return aii_sql_fail(sql, code, err);
  }
  stmt->sql = sql;
  *out = stmt;
  return AIINFRA_OK;
}

aiinfra_status aii_sql_prepare(aii_sql *sql, const char *text, aii_stmt **out, aiinfra_error *err)
{
  aii_stmt **bucket = &sql->cache[bucket_of(text)];
  aiinfra_status rc = aii_sql_freshen(sql, err);
  *out = NULL;
  if (rc != AIINFRA_OK) return rc;
  for (aii_stmt *stmt = *bucket; stmt != NULL; stmt = stmt->next) {
    if (stmt->text != text) continue;
    aii_stmt_reset(stmt);
    *out = stmt;
    return AIINFRA_OK;
  }
  rc = make(sql, text, SQLITE_PREPARE_PERSISTENT, out, err);
  if (rc != AIINFRA_OK) return rc;
  (*out)->text = text;
  (*out)->next = *bucket;
  *bucket = *out;
  return AIINFRA_OK;
}

aiinfra_status aii_sql_prepare_once(aii_sql *sql, const char *text, aii_stmt **out, aiinfra_error *err)
{
  aiinfra_status rc = aii_sql_freshen(sql, err);
  *out = NULL;
  return rc == AIINFRA_OK ? make(sql, text, 0, out, err) : rc;
}

void aii_stmt_free(aii_stmt *stmt)
{
  if (stmt == NULL) return;
  (void)sqlite3_finalize(stmt->raw);
  aii_del(stmt->sql->mem, stmt, sizeof *stmt);
}

static void keep(aii_stmt *stmt, int code)
{
  if (stmt->bind_rc == SQLITE_OK) stmt->bind_rc = code;
}

void aii_stmt_int(aii_stmt *stmt, int at, int64_t value)
{
  keep(stmt, sqlite3_bind_int64(stmt->raw, at, value));
}

void aii_stmt_real(aii_stmt *stmt, int at, double value)
{
  keep(stmt, sqlite3_bind_double(stmt->raw, at, value));
}

void aii_stmt_text(aii_stmt *stmt, int at, const char *s, size_t n)
{
  keep(stmt, sqlite3_bind_text64(stmt->raw, at, s, n, SQLITE_STATIC, SQLITE_UTF8));
}

void aii_stmt_blob(aii_stmt *stmt, int at, const void *p, size_t n)
{
  keep(stmt, sqlite3_bind_blob64(stmt->raw, at, p, n, SQLITE_STATIC));
}

void aii_stmt_null(aii_stmt *stmt, int at)
{
  keep(stmt, sqlite3_bind_null(stmt->raw, at));
}

aiinfra_status aii_stmt_step(aii_stmt *stmt, bool *row, aiinfra_error *err)
{
  *row = false;
  stmt->sql->changes = -1;
  int code = stmt->bind_rc != SQLITE_OK ? stmt->bind_rc : sqlite3_step(stmt->raw);
  if (code == SQLITE_DONE) return AIINFRA_OK;
  *row = code == SQLITE_ROW;
  return *row ? AIINFRA_OK : aii_sql_fail(stmt->sql, code, err);
}

aiinfra_status aii_stmt_run(aii_stmt *stmt, aiinfra_error *err)
{
  bool row;
  aiinfra_status rc;
  do {
    rc = aii_stmt_step(stmt, &row, err);
  } while (row);
  aii_stmt_reset(stmt);
  return rc;
}

aiinfra_status aii_stmt_run_alone(aii_stmt *stmt, aiinfra_error *err)
{
  aii_sql *sql = stmt->sql;
  aiinfra_status rc = sql->hooks != NULL ? aii_sql_begin(sql, err) : AIINFRA_OK; /* else SQLite makes one */
  if (rc != AIINFRA_OK) {
    aii_stmt_reset(stmt);
    return rc;
  }
  rc = aii_stmt_run(stmt, err);
  if (sql->hooks == NULL) return rc;
  if (rc == AIINFRA_OK) return aii_sql_commit(sql, err);
  aii_sql_rollback(sql);
  return rc;
}

int64_t aii_stmt_get_int(aii_stmt *stmt, int at)
{
  return sqlite3_column_int64(stmt->raw, at);
}

double aii_stmt_get_real(aii_stmt *stmt, int at)
{
  return sqlite3_column_double(stmt->raw, at);
}

const char *aii_stmt_get_text(aii_stmt *stmt, int at, size_t *n)
{
  const unsigned char *s = sqlite3_column_text(stmt->raw, at);
  if (n != NULL) *n = s != NULL ? (size_t)sqlite3_column_bytes(stmt->raw, at) : 0;
  return s != NULL ? (const char *)s : "";
}

const void *aii_stmt_get_blob(aii_stmt *stmt, int at, size_t *n)
{
  const void *p = sqlite3_column_blob(stmt->raw, at);
  *n = p != NULL ? (size_t)sqlite3_column_bytes(stmt->raw, at) : 0;
  return p;
}

bool aii_stmt_is_null(aii_stmt *stmt, int at)
{
  return sqlite3_column_type(stmt->raw, at) == SQLITE_NULL;
}

void aii_stmt_get(aii_stmt *stmt, int at, aii_sql_value *value)
{
  static const aii_sql_type types[] = {[SQLITE_INTEGER] = AII_SQL_INT,
                                       [SQLITE_FLOAT] = AII_SQL_REAL,
                                       [SQLITE_TEXT] = AII_SQL_TEXT,
                                       [SQLITE_BLOB] = AII_SQL_BLOB,
                                       [SQLITE_NULL] = AII_SQL_NULL};
  *value = (aii_sql_value){.type = types[sqlite3_column_type(stmt->raw, at)]};
  if (value->type == AII_SQL_INT) value->i = aii_stmt_get_int(stmt, at);
  if (value->type == AII_SQL_REAL) value->r = aii_stmt_get_real(stmt, at);
  if (value->type == AII_SQL_TEXT) value->p = aii_stmt_get_text(stmt, at, &value->n);
  if (value->type == AII_SQL_BLOB) value->p = aii_stmt_get_blob(stmt, at, &value->n);
}

void aii_stmt_bind(aii_stmt *stmt, int at, const aii_sql_value *value)
{
  const void *p = value->p != NULL ? value->p : "";
  switch (value->type) {
    case AII_SQL_INT: aii_stmt_int(stmt, at, value->i); break;
    case AII_SQL_REAL: aii_stmt_real(stmt, at, value->r); break;
    case AII_SQL_TEXT: aii_stmt_text(stmt, at, p, value->n); break;
    case AII_SQL_BLOB: aii_stmt_blob(stmt, at, p, value->n); break;
    case AII_SQL_ABSENT:
    case AII_SQL_NULL: aii_stmt_null(stmt, at); break;
  }
}

void aii_stmt_bind_copy(aii_stmt *stmt, int at, const aii_sql_value *value)
{
  const char *p = value->p != NULL ? value->p : "";
  if (value->type == AII_SQL_TEXT)
    keep(stmt, sqlite3_bind_text64(stmt->raw, at, p, value->n, SQLITE_TRANSIENT, SQLITE_UTF8));
  else if (value->type == AII_SQL_BLOB) keep(stmt, sqlite3_bind_blob64(stmt->raw, at, p, value->n, SQLITE_TRANSIENT));
  else aii_stmt_bind(stmt, at, value);
}

void aii_stmt_reset(aii_stmt *stmt)
{
  (void)sqlite3_reset(stmt->raw); /* repeats the error that the step has told already */
  (void)sqlite3_clear_bindings(stmt->raw);
  stmt->bind_rc = SQLITE_OK;
}
