/* changes.c - what a transaction changes in rows, as bytes that another database can apply: SQLite's session extension.
 *
 * The bytes are a patchset: of a removed row its key, of a changed one its key and the new values, of a new one all.
 * They name tables, and columns by position: both databases have the same tables, the second perhaps with more columns
 * at their ends. Not every SQLite has the extension, so its functions are weak symbols: aii_sql_can_capture() says
 * whether they are there, and nothing here is called when they are not.
 *
 * Writing a virtual table shows in its shadow tables, which the caller does not want. What triggers do is captured as what
 * statements do, so they do not fire again where the changes are applied. What can fail: memory. Any thread, with the connection's lock held.
 */
#define SQLITE_ENABLE_SESSION 1
#define SQLITE_ENABLE_PREUPDATE_HOOK 1
#include "lib/sql/sql_internal.h"

#pragma weak sqlite3session_create
#pragma weak sqlite3session_delete
#pragma weak sqlite3session_attach
#pragma weak sqlite3session_table_filter
#pragma weak sqlite3session_patchset
#pragma weak sqlite3changeset_start
#pragma weak sqlite3changeset_next
#pragma weak sqlite3changeset_op
#pragma weak sqlite3changeset_pk
#pragma weak sqlite3changeset_old
#pragma weak sqlite3changeset_new
#pragma weak sqlite3changeset_finalize
#pragma weak sqlite3changeset_apply

enum { MAX_COLUMNS = 64 }; /* of a table of ours: the widest has 23 */

struct aii_sql_capture {
  aii_sql *sql;
  sqlite3_session *session;
  aii_sql_wants_fn wants;
  void *ctx;
};

bool aii_sql_can_capture(void)
{
  return sqlite3session_create != NULL && sqlite3changeset_apply != NULL;
}

static int filter(void *ctx, const char *table)
{
  const aii_sql_capture *capture = ctx;
  return capture->wants(capture->ctx, table);
}

aiinfra_status aii_sql_capture_open(aii_sql *sql, aii_sql_wants_fn wants, void *ctx, aii_sql_capture **out,
                                    aiinfra_error *err)
{
  *out = NULL;
  aii_sql_capture *capture = aii_new(sql->mem, sizeof *capture);
  if (capture == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for the changes of a transaction");
  *capture = (aii_sql_capture){.sql = sql, .wants = wants, .ctx = ctx};
  int code = sqlite3session_create(sql->db, "main", &capture->session);
  if (code == SQLITE_OK) {
    sqlite3session_table_filter(capture->session, filter, capture);
    code = sqlite3session_attach(capture->session, NULL);
  }
  if (code != SQLITE_OK) {
    aii_sql_capture_close(capture);
    return aii_sql_fail(sql, code, err);
  }
  *out = capture;
  return AIINFRA_OK;
}

aiinfra_status aii_sql_capture_take(aii_sql_capture *capture, void **changes, size_t *n, aiinfra_error *err)
{
  int bytes = 0;
  *changes = NULL;
  *n = 0;
  int code = sqlite3session_patchset(capture->session, &bytes, changes);
  if (code != SQLITE_OK) {
    sqlite3_free(*changes);
    *changes = NULL;
    return aii_sql_fail(capture->sql, code, err);
  }
  *n = (size_t)bytes;
  return AIINFRA_OK;
}

void aii_sql_capture_close(aii_sql_capture *capture)
{
  if (capture == NULL) return;
  if (capture->session != NULL) sqlite3session_delete(capture->session);
  aii_del(capture->sql->mem, capture, sizeof *capture);
}

void aii_sql_changes_free(void *changes)
{
  sqlite3_free(changes);
}

static void read_value(sqlite3_value *from, aii_sql_value *to)
{
  *to = (aii_sql_value){.type = AII_SQL_ABSENT};
  if (from == NULL) return;
  switch (sqlite3_value_type(from)) {
    case SQLITE_INTEGER: *to = (aii_sql_value){.type = AII_SQL_INT, .i = sqlite3_value_int64(from)}; break;
    case SQLITE_FLOAT: *to = (aii_sql_value){.type = AII_SQL_REAL, .r = sqlite3_value_double(from)}; break;
    case SQLITE_TEXT: *to = (aii_sql_value){.type = AII_SQL_TEXT, .p = sqlite3_value_text(from)}; break;
    case SQLITE_BLOB: *to = (aii_sql_value){.type = AII_SQL_BLOB, .p = sqlite3_value_blob(from)}; break;
    default: to->type = AII_SQL_NULL;
  }
  if (to->type == AII_SQL_TEXT || to->type == AII_SQL_BLOB) to->n = (size_t)sqlite3_value_bytes(from);
}

/* The row where the iterator stands. */
static int read_change(sqlite3_changeset_iter *iter, aii_sql_change *change, aii_sql_value values[MAX_COLUMNS])
{
  unsigned char *is_key = NULL;
  int op, indirect, n = 0;
  *change = (aii_sql_change){.values = values};
  int code = sqlite3changeset_op(iter, &change->table, &n, &op, &indirect);
  if (code == SQLITE_OK) code = sqlite3changeset_pk(iter, &is_key, NULL);
  if (code == SQLITE_OK && (n < 1 || n > MAX_COLUMNS)) code = SQLITE_CORRUPT;
  change->op = op == SQLITE_INSERT ? 'i' : op == SQLITE_UPDATE ? 'u' : 'd';
  change->n_columns = n;
  change->is_key = is_key;
  for (int i = 0; code == SQLITE_OK && i < n; i++) {
    sqlite3_value *value = NULL;
    bool old = op == SQLITE_DELETE || (op == SQLITE_UPDATE && is_key[i] != 0);
    code = old ? sqlite3changeset_old(iter, i, &value) : sqlite3changeset_new(iter, i, &value);
    read_value(value, &values[i]);
  }
  return code;
}

aiinfra_status aii_sql_changes_each(aii_sql *sql, const void *changes, size_t n, aii_sql_change_fn see, void *ctx,
                                    aiinfra_error *err)
{
  sqlite3_changeset_iter *iter = NULL;
  aii_sql_value values[MAX_COLUMNS];
  aii_sql_change change;
  aiinfra_status rc = AIINFRA_OK;
  if (n > INT32_MAX) return aii_fail(err, AIINFRA_ELIMIT, "%zu bytes of changes are too many", n);
  int code = sqlite3changeset_start(&iter, (int)n, (void *)(uintptr_t)changes);
  if (code != SQLITE_OK) return aii_sql_fail(sql, code, err);
  while (rc == AIINFRA_OK && sqlite3changeset_next(iter) == SQLITE_ROW) {
    code = read_change(iter, &change, values);
    rc = code == SQLITE_OK ? see(ctx, &change, err) : aii_sql_fail(sql, code, err);
  }
  code = sqlite3changeset_finalize(iter); /* tells why next() ended */
  return rc == AIINFRA_OK && code != SQLITE_OK ? aii_sql_fail(sql, code, err) : rc;
}

static int on_conflict(void *ctx, int what, sqlite3_changeset_iter *iter)
{
  (void)ctx;
  (void)iter;
  return what == SQLITE_CHANGESET_CONFLICT ? SQLITE_CHANGESET_REPLACE : SQLITE_CHANGESET_OMIT;
}

aiinfra_status aii_sql_changes_apply(aii_sql *sql, const void *changes, size_t n, aiinfra_error *err)
{
  if (n > INT32_MAX) return aii_fail(err, AIINFRA_ELIMIT, "%zu bytes of changes are too many", n);
  (void)sqlite3_db_config(sql->db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL); /* what they did is among the changes */
  int code = sqlite3changeset_apply(sql->db, (int)n, (void *)(uintptr_t)changes, NULL, on_conflict, NULL);
  (void)sqlite3_db_config(sql->db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 1, NULL);
  return code == SQLITE_OK ? AIINFRA_OK : aii_sql_fail(sql, code, err);
}
