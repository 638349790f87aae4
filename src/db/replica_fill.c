/* replica_fill.c - brings what the truth has into the copy: the changes of a commit, or whole tables.
 *
 * Words are derived: each node indexes those of the rows that it receives. A full-text entry can only be taken out by
 * the text it was made from, so the words of changed and removed rows go before the changes come, while the old text
 * is there. Snapshots of graphs belong to a node, too.
 *
 * Everything happens in the caller's write transaction: a failure leaves the copy as it was. Lock held.
 */
#include <stdio.h>

#include "src/db/replica.h"

/* The columns of table rows. */
enum { ROW, COLLECTION, TEXT = 4, KEYWORDS };

/* ---- the version ------------------------------------------------------------------------------------------------- */

aiinfra_status aii_replica_read_version(aii_replica *r, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = false;
  size_t n = 0;
  aiinfra_status rc = aii_sql_prepare(r->sql, "SELECT version, truth FROM replica", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  rc = aii_stmt_step(stmt, &row, err);
  r->version = -1;
  memset(r->uuid, 0, sizeof r->uuid);
  if (rc == AIINFRA_OK && row) {
    const void *uuid = aii_stmt_get_blob(stmt, 1, &n);
    if (n == sizeof r->uuid) memcpy(r->uuid, uuid, n);
    if (n == sizeof r->uuid) r->version = aii_stmt_get_int(stmt, 0);
  }
  aii_stmt_reset(stmt);
  return rc;
}

aiinfra_status aii_replica_write_version(aii_replica *r, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc =
      aii_sql_prepare(r->sql, "INSERT OR REPLACE INTO replica(one, version, truth) VALUES(1, ?1, ?2)", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, r->version);
  aii_stmt_blob(stmt, 2, r->uuid, sizeof r->uuid);
  return aii_stmt_run(stmt, err);
}

static aiinfra_status exec_of(aii_sql *sql, const char *format, int64_t collection, aiinfra_error *err)
{
  char text[192];
  (void)snprintf(text, sizeof text, format, (long long)collection);
  return aii_sql_exec(sql, text, err);
}

/* ---- the changes of a commit ------------------------------------------------------------------------------------- */

static bool moves_words(const aii_sql_change *change)
{
  if (strcmp(change->table, "rows") != 0 || change->n_columns <= KEYWORDS) return false;
  return change->op != 'u' || change->values[COLLECTION].type != AII_SQL_ABSENT ||
         change->values[TEXT].type != AII_SQL_ABSENT || change->values[KEYWORDS].type != AII_SQL_ABSENT;
}

static aiinfra_status see_before(void *ctx, const aii_sql_change *change, aiinfra_error *err)
{
  return moves_words(change) ? aii_words_of_row(ctx, change->values[ROW].i, false, err) : AIINFRA_OK;
}

static aiinfra_status see_collection(void *ctx, const aii_sql_change *change, aiinfra_error *err)
{
  aii_words *w = ctx;
  if (strcmp(change->table, "collections") != 0 || change->op == 'u') return AIINFRA_OK;
  aii_words_close(w);
  int64_t id = change->values[AII_COLLECTION_ID].i;
  bool has_words = change->op == 'i' && change->n_columns > AII_COLLECTION_PARENT &&
                   change->values[AII_COLLECTION_PARENT].type == AII_SQL_NULL;
  aiinfra_status rc = exec_of(w->sql, AII_WORDS_DROP, id, err);
  return rc == AIINFRA_OK && has_words ? exec_of(w->sql, AII_WORDS_CREATE, id, err) : rc;
}

static aiinfra_status see_after(void *ctx, const aii_sql_change *change, aiinfra_error *err)
{
  return change->op != 'd' && moves_words(change) ? aii_words_of_row(ctx, change->values[ROW].i, true, err)
                                                  : AIINFRA_OK;
}

aiinfra_status aii_replica_apply(aii_replica *r, const void *changes, size_t n, aiinfra_error *err)
{
  aii_words w = {.sql = r->sql};
  aiinfra_status rc = aii_sql_changes_each(r->sql, changes, n, see_before, &w, err);
  aii_words_close(&w);
  if (rc == AIINFRA_OK) rc = aii_sql_changes_apply(r->sql, changes, n, err);
  if (rc == AIINFRA_OK) rc = aii_sql_changes_each(r->sql, changes, n, see_collection, &w, err);
  if (rc == AIINFRA_OK) rc = aii_sql_changes_each(r->sql, changes, n, see_after, &w, err);
  aii_words_close(&w);
  return rc;
}

/* ---- whole tables ------------------------------------------------------------------------------------------------ */

static aiinfra_status drop_words(aii_replica *r, aiinfra_error *err)
{
  aii_stmt *stmt;
  int64_t id = 0;
  aiinfra_status rc;
  do { /* one at a time: a table is not dropped while a statement reads which there are */
    rc =
        aii_sql_prepare_once(r->sql,
                             "SELECT CAST(substr(name, 7) AS INTEGER) FROM sqlite_schema WHERE type = 'table' AND"
                             " name LIKE 'words\\_%' ESCAPE '\\' AND name NOT LIKE 'words\\_%\\_%' ESCAPE '\\' LIMIT 1",
                             &stmt, err);
    bool row = false;
    if (rc == AIINFRA_OK) rc = aii_stmt_step(stmt, &row, err);
    id = rc == AIINFRA_OK && row ? aii_stmt_get_int(stmt, 0) : 0;
    aii_stmt_free(stmt);
    if (id != 0) rc = exec_of(r->sql, AII_WORDS_DROP, id, err);
  } while (rc == AIINFRA_OK && id != 0);
  return rc;
}

static aiinfra_status empty(aii_replica *r, aiinfra_error *err)
{
  char text[128];
  aiinfra_status rc = drop_words(r, err);
  if (rc == AIINFRA_OK) rc = aii_sql_exec(r->sql, "PRAGMA defer_foreign_keys = ON; DELETE FROM snapshots", err);
  for (size_t i = r->tables.n; rc == AIINFRA_OK && i > 0; i--) {
    (void)snprintf(text, sizeof text, "DELETE FROM \"%s\"", r->tables.items[i - 1].name);
    rc = aii_sql_exec(r->sql, text, err);
  }
  return rc;
}

typedef struct filler {
  const aii_truth_table *table;
  aii_stmt *insert;
} filler;

static aiinfra_status see_row(void *ctx, const aii_sql_value *values, aiinfra_error *err)
{
  const filler *f = ctx;
  for (size_t i = 0; i < f->table->n; i++) aii_stmt_bind(f->insert, (int)i + 1, &values[i]);
  return aii_stmt_run(f->insert, err);
}

static aiinfra_status fill_table(aii_replica *r, const aii_truth_table *table, aiinfra_error *err)
{
  filler f = {.table = table};
  aii_buf text;
  aii_buf_init(&text, r->mem, 0);
  aii_buf_fmt(&text, "INSERT INTO \"%s\"", table->name);
  for (size_t i = 0; i < table->n; i++) aii_buf_fmt(&text, i > 0 ? ", \"%s\"" : "(\"%s\"", table->columns[i].name);
  for (size_t i = 0; i < table->n; i++) aii_buf_fmt(&text, i > 0 ? ", ?%zu" : ") VALUES(?%zu", i + 1);
  aii_buf_char(&text, ')');
  aiinfra_status rc = text.failed ? aii_fail(err, AIINFRA_ENOMEM, "no memory for a statement") : AIINFRA_OK;
  if (rc == AIINFRA_OK) rc = aii_sql_prepare_once(r->sql, text.data, &f.insert, err);
  if (rc == AIINFRA_OK) rc = r->ops->rows(r->truth, table, see_row, &f, err);
  aii_stmt_free(f.insert);
  aii_buf_free(&text);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "table %s", table->name);
}

static aiinfra_status make_words(void *ctx, int64_t id, aiinfra_error *err)
{
  return exec_of(ctx, AII_WORDS_CREATE, id, err);
}

static aiinfra_status fill_words(aii_replica *r, aiinfra_error *err)
{
  aii_words w = {.sql = r->sql};
  aii_stmt *stmt = NULL;
  bool row = true;
  aiinfra_status rc = aii_db_each_collection(r->sql, make_words, r->sql, err);
  if (rc == AIINFRA_OK)
    rc =
        aii_sql_prepare(r->sql, "SELECT row, collection, text, keywords FROM rows ORDER BY collection, id", &stmt, err);
  while (rc == AIINFRA_OK && row) {
    rc = aii_stmt_step(stmt, &row, err);
    if (rc == AIINFRA_OK && row) rc = aii_words_write(&w, stmt, true, err);
  }
  if (stmt != NULL) aii_stmt_reset(stmt);
  aii_words_close(&w);
  return rc;
}

static aiinfra_status see_sequence(void *ctx, const aii_sql_value *values, aiinfra_error *err)
{
  aii_replica *r = ctx;
  aii_stmt *stmt;
  aiinfra_status rc = aii_sql_prepare(r->sql, "DELETE FROM sqlite_sequence WHERE name = ?1", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_bind(stmt, 1, &values[0]);
  rc = aii_stmt_run(stmt, err);
  if (rc == AIINFRA_OK)
    rc = aii_sql_prepare(r->sql, "INSERT INTO sqlite_sequence(name, seq) VALUES(?1, ?2)", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_bind(stmt, 1, &values[0]);
  aii_stmt_bind(stmt, 2, &values[1]);
  return aii_stmt_run(stmt, err);
}

static aiinfra_status write_identity(aii_replica *r, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc = aii_sql_prepare(r->sql, "UPDATE identity SET uuid = ?1", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_blob(stmt, 1, r->uuid, sizeof r->uuid);
  return aii_stmt_run(stmt, err);
}

aiinfra_status aii_replica_fill(aii_replica *r, aii_truth_state *state, aiinfra_error *err)
{
  aiinfra_status rc = r->ops->view(r->truth, state, err);
  if (rc == AIINFRA_OK) rc = empty(r, err);
  for (size_t i = 0; rc == AIINFRA_OK && i < r->tables.n; i++) rc = fill_table(r, &r->tables.items[i], err);
  if (rc == AIINFRA_OK) rc = r->ops->sequences(r->truth, see_sequence, r, err);
  r->ops->unview(r->truth);
  r->version = state->version;
  memcpy(r->uuid, state->uuid, sizeof r->uuid);
  if (rc == AIINFRA_OK) rc = write_identity(r, err);
  return rc == AIINFRA_OK ? fill_words(r, err) : rc;
}
