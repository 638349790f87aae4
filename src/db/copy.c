/* copy.c - copies everything from one database into another, whatever stands behind each: a file, a server.
 *
 * The happy path: the source is read as it was at one moment -> what the target has already is compared with it -> the
 * rest goes over table by table, in the order of keys, some rows a transaction -> the sums of all tables are compared.
 *
 * A target may be empty, or hold the beginning of such a copy: of each table the rows up to some key, the same as in the
 * source. So a copy that was interrupted goes on where it stopped, and nothing that differs is written over (EEXIST).
 * Until it is complete the target's tables do not agree with each other. Words are indexed in the target.
 *
 * Thread: any; the source's lock is held throughout, the target's for each transaction.
 */
#include <stdio.h>

#include "src/db/tables.h"

enum { BATCH_ROWS = 500, BATCH_BYTES = 4 << 20 };

typedef struct copying {
  aiinfra_db *from, *to;
  const aiinfra_db_copy_opts *opts;
  aii_mem *mem;
  aii_tables tables;
  aii_buf text;
  const aii_truth_table *table; /* the one at hand */
  aii_stmt *rest, *insert;
  int64_t total, done; /* rows */
  aii_words words;
} copying;

static aiinfra_status prepare(copying *c, aii_sql *sql, aii_stmt **out, aiinfra_error *err)
{
  *out = NULL;
  if (c->text.failed) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a statement");
  return aii_sql_prepare_once(sql, c->text.data, out, err);
}

static aiinfra_status tell(const copying *c, double fraction, aiinfra_error *err)
{
  if (c->opts->progress == NULL || c->opts->progress(c->opts->progress_user, fraction) == 0) return AIINFRA_OK;
  return aii_fail(err, AIINFRA_ECANCELED, "the progress callback asked for it; another copy goes on from here");
}

/* ---- where to begin ---------------------------------------------------------------------------------------------- */

static size_t n_keys(const aii_truth_table *table)
{
  size_t n = 0;
  for (size_t i = 0; i < table->n; i++) n += table->columns[i].key > 0;
  return n;
}

/* Rows of the source up to the key, or behind it. */
static aiinfra_status select_from(copying *c, bool any_key, bool behind, aii_stmt **out, aiinfra_error *err)
{
  aii_buf_clear(&c->text);
  aii_buf_str(&c->text, "SELECT ");
  aii_tables_columns(c->table, false, &c->text);
  aii_buf_fmt(&c->text, " FROM \"%s\"", c->table->name);
  if (any_key) {
    aii_buf_str(&c->text, " WHERE (");
    aii_tables_columns(c->table, true, &c->text);
    aii_buf_str(&c->text, behind ? ") > (" : ") <= (");
    for (size_t i = 0; i < n_keys(c->table); i++) aii_buf_fmt(&c->text, i > 0 ? ", ?%zu" : "?%zu", i + 1);
    aii_buf_char(&c->text, ')');
  }
  aii_buf_str(&c->text, " ORDER BY ");
  aii_tables_columns(c->table, true, &c->text);
  return prepare(c, c->from->sql, out, err);
}

/* The target's last row, whose key stays in the statement until it is freed; *out NULL: the table is empty. */
static aiinfra_status last_key(copying *c, aii_stmt **out, aiinfra_error *err)
{
  bool row = false;
  aii_buf_clear(&c->text);
  aii_buf_str(&c->text, "SELECT ");
  aii_tables_columns(c->table, true, &c->text);
  aii_buf_fmt(&c->text, " FROM \"%s\" ORDER BY ", c->table->name);
  for (size_t i = 1; i <= n_keys(c->table); i++) aii_buf_fmt(&c->text, i > 1 ? ", %zu DESC" : "%zu DESC", i);
  aii_buf_str(&c->text, " LIMIT 1");
  aiinfra_status rc = prepare(c, c->to->sql, out, err);
  if (rc == AIINFRA_OK) rc = aii_stmt_step(*out, &row, err);
  if (rc == AIINFRA_OK && row) return rc;
  aii_stmt_free(*out);
  *out = NULL;
  return rc;
}

static void bind_key(const copying *c, aii_stmt *key, aii_stmt *stmt)
{
  aii_sql_value value;
  for (size_t i = 0; key != NULL && i < n_keys(c->table); i++) {
    aii_stmt_get(key, (int)i, &value);
    aii_stmt_bind_copy(stmt, (int)i + 1, &value);
  }
}

/* What is there is the same as in the source, up to its last key. */
static aiinfra_status compare_begun(copying *c, aii_stmt *key, aiinfra_error *err)
{
  aii_table_sum there, here;
  aii_stmt *stmt;
  aiinfra_status rc = select_from(c, true, false, &stmt, err);
  if (rc == AIINFRA_OK) {
    bind_key(c, key, stmt);
    rc = aii_tables_sum(c->from->sql, c->mem, c->table, stmt, &here, err);
    aii_stmt_free(stmt);
  }
  if (rc == AIINFRA_OK) rc = aii_tables_sum(c->to->sql, c->mem, c->table, NULL, &there, err);
  if (rc != AIINFRA_OK) return rc;
  c->done += there.rows;
  if (there.rows == here.rows && there.sum == here.sum) return rc;
  return aii_fail(
      err, AIINFRA_EEXIST,
      "%s: table %s holds rows that are not those of %s: copy into an empty database, or one where this copy "
      "was interrupted",
      c->to->path, c->table->name, c->from->path);
}

/* Of every table, before anything is written. */
static aiinfra_status look(copying *c, aiinfra_error *err)
{
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; rc == AIINFRA_OK && i < c->tables.n; i++) {
    aii_stmt *key = NULL;
    int64_t n = 0;
    c->table = &c->tables.items[i];
    aii_buf_clear(&c->text);
    aii_buf_fmt(&c->text, "SELECT count(*) FROM \"%s\"", c->table->name);
    aii_stmt *count;
    rc = prepare(c, c->from->sql, &count, err);
    bool row = false;
    if (rc == AIINFRA_OK) rc = aii_stmt_step(count, &row, err);
    if (rc == AIINFRA_OK && row) n = aii_stmt_get_int(count, 0);
    aii_stmt_free(count);
    c->total += n;
    if (rc == AIINFRA_OK) rc = last_key(c, &key, err);
    if (rc == AIINFRA_OK && key != NULL) rc = compare_begun(c, key, err);
    aii_stmt_free(key);
  }
  return rc;
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

/* Ids that were given out once never come back: the target knows the source's last ones. */
static aiinfra_status write_sequences(copying *c, aiinfra_error *err)
{
  aii_stmt *from, *to = NULL, *gone = NULL;
  bool row = true;
  aii_sql_value name, last;
  aiinfra_status rc = aii_sql_prepare(c->from->sql, "SELECT name, seq FROM sqlite_sequence", &from, err);
  if (rc == AIINFRA_OK) rc = aii_sql_prepare(c->to->sql, "DELETE FROM sqlite_sequence WHERE name = ?1", &gone, err);
  if (rc == AIINFRA_OK)
    rc = aii_sql_prepare(c->to->sql, "INSERT INTO sqlite_sequence(name, seq) VALUES(?1, ?2)", &to, err);
  while (rc == AIINFRA_OK && row) {
    rc = aii_stmt_step(from, &row, err);
    if (rc != AIINFRA_OK || !row) break;
    aii_stmt_get(from, 0, &name);
    aii_stmt_get(from, 1, &last);
    aii_stmt_bind(gone, 1, &name);
    rc = aii_stmt_run(gone, err);
    aii_stmt_bind(to, 1, &name);
    aii_stmt_bind(to, 2, &last);
    if (rc == AIINFRA_OK) rc = aii_stmt_run(to, err);
  }
  if (from != NULL) aii_stmt_reset(from);
  return rc;
}

static aiinfra_status after_row(copying *c, int64_t id, aiinfra_error *err)
{
  char text[192];
  if (strcmp(c->table->name, "rows") == 0) return aii_words_of_row(&c->words, id, true, err);
  if (strcmp(c->table->name, "collections") != 0 || !aii_stmt_is_null(c->rest, AII_COLLECTION_PARENT))
    return AIINFRA_OK;
  (void)snprintf(text, sizeof text, AII_WORDS_CREATE, (long long)id);
  return aii_sql_exec(c->to->sql, text, err);
}

/* Rows of one transaction; *more: there are others behind them. */
static aiinfra_status copy_rows(copying *c, bool *more, aiinfra_error *err)
{
  aii_sql_value value;
  size_t bytes = 0;
  aiinfra_status rc = AIINFRA_OK;
  for (int i = 0; i < BATCH_ROWS && bytes < BATCH_BYTES; i++) {
    rc = aii_stmt_step(c->rest, more, err);
    if (rc != AIINFRA_OK || !*more) return rc;
    for (size_t k = 0; k < c->table->n; k++) {
      aii_stmt_get(c->rest, (int)k, &value);
      aii_stmt_bind(c->insert, (int)k + 1, &value);
      bytes += value.n + 8;
    }
    rc = aii_stmt_run(c->insert, err);
    if (rc == AIINFRA_OK) rc = after_row(c, aii_stmt_get_int(c->rest, 0), err);
    if (rc != AIINFRA_OK) return rc;
    c->done++;
  }
  return rc;
}

static aiinfra_status copy_batch(copying *c, bool *more, aiinfra_error *err)
{
  aii_sql *sql = c->to->sql;
  aii_sql_lock(sql);
  aiinfra_status rc = aii_sql_begin(sql, err);
  if (rc == AIINFRA_OK) {
    rc = copy_rows(c, more, err);
    if (rc == AIINFRA_OK) rc = write_sequences(c, err);
    aii_words_close(&c->words);
    if (rc == AIINFRA_OK) rc = aii_sql_commit(sql, err);
    else aii_sql_rollback(sql);
  }
  aii_sql_unlock(sql);
  if (rc != AIINFRA_OK) return rc;
  return tell(c, c->total > 0 ? 0.99 * (double)AII_MIN(c->done, c->total) / (double)c->total : 0.99, err);
}

static aiinfra_status open_table(copying *c, aiinfra_error *err)
{
  aii_stmt *key = NULL;
  aii_sql_lock(c->to->sql);
  aiinfra_status rc = last_key(c, &key, err);
  if (rc == AIINFRA_OK) rc = select_from(c, key != NULL, true, &c->rest, err);
  if (rc == AIINFRA_OK) bind_key(c, key, c->rest);
  aii_buf_clear(&c->text);
  aii_buf_fmt(&c->text, "INSERT INTO \"%s\"(", c->table->name);
  aii_tables_columns(c->table, false, &c->text);
  for (size_t i = 0; i < c->table->n; i++) aii_buf_fmt(&c->text, i > 0 ? ", ?%zu" : ") VALUES(?%zu", i + 1);
  aii_buf_char(&c->text, ')');
  if (rc == AIINFRA_OK) rc = prepare(c, c->to->sql, &c->insert, err);
  aii_stmt_free(key);
  aii_sql_unlock(c->to->sql);
  return rc;
}

static aiinfra_status copy_table(copying *c, aiinfra_error *err)
{
  bool more = true;
  aiinfra_status rc = open_table(c, err);
  while (rc == AIINFRA_OK && more) rc = copy_batch(c, &more, err);
  aii_stmt_free(c->rest);
  aii_stmt_free(c->insert);
  c->rest = c->insert = NULL;
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "table %s", c->table->name);
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

static aiinfra_status verify(copying *c, aii_buf *json, aiinfra_error *err)
{
  aiinfra_status rc = AIINFRA_OK;
  int64_t rows = 0;
  aii_buf_str(json, "{\"tables\":[");
  for (size_t i = 0; rc == AIINFRA_OK && i < c->tables.n; i++) {
    aii_table_sum here, there;
    c->table = &c->tables.items[i];
    rc = aii_tables_sum(c->from->sql, c->mem, c->table, NULL, &here, err);
    if (rc == AIINFRA_OK) rc = aii_tables_sum(c->to->sql, c->mem, c->table, NULL, &there, err);
    if (rc == AIINFRA_OK && (here.rows != there.rows || here.sum != there.sum))
      rc = aii_fail(err, AIINFRA_EFORMAT,
                    "table %s has %lld rows and %lld in the copy, or others: somebody else writes there",
                    c->table->name, (long long)here.rows, (long long)there.rows);
    aii_buf_fmt(json, "%s{\"name\":\"%s\",\"rows\":%lld,\"checksum\":\"%016llx\"}", i > 0 ? "," : "", c->table->name,
                (long long)here.rows, (unsigned long long)here.sum);
    rows += here.rows;
  }
  aii_buf_fmt(json, "],\"rows\":%lld}", (long long)rows);
  return rc;
}

/* With the target's lock: nobody in this process writes between the look and the end of it. */
static aiinfra_status with_target(copying *c, aiinfra_status (*work)(copying *, aii_buf *, aiinfra_error *),
                                  aii_buf *json, aiinfra_error *err)
{
  aii_sql_lock(c->to->sql);
  aiinfra_status rc = aii_sql_begin_read(c->to->sql, err);
  if (rc == AIINFRA_OK) rc = work(c, json, err);
  aii_sql_rollback(c->to->sql);
  aii_sql_unlock(c->to->sql);
  return rc;
}

static aiinfra_status look_at(copying *c, aii_buf *json, aiinfra_error *err)
{
  (void)json;
  return look(c, err);
}

static aiinfra_status copy_all(copying *c, aii_buf *json, aiinfra_error *err)
{
  aiinfra_status rc = with_target(c, look_at, NULL, err);
  for (size_t i = 0; rc == AIINFRA_OK && i < c->tables.n; i++) {
    c->table = &c->tables.items[i];
    rc = copy_table(c, err);
  }
  if (rc == AIINFRA_OK) rc = with_target(c, verify, json, err);
  if (rc == AIINFRA_OK && c->to->replica != NULL) {
    aii_sql_lock(c->to->sql);
    rc = aii_replica_check(c->to->replica, err);
    aii_sql_unlock(c->to->sql);
  }
  return rc == AIINFRA_OK ? tell(c, 1, err) : rc;
}

aiinfra_status aii_db_copy(aiinfra_db *from, aiinfra_db *to, const aiinfra_db_copy_opts *opts, aii_buf *json,
                           aiinfra_error *err)
{
  copying c = {.from = from, .to = to, .opts = opts, .mem = &from->rt->mem, .words = {.sql = to->sql}};
  aii_buf_init(&c.text, c.mem, 0);
  aii_sql_lock(from->sql);
  aiinfra_status rc = aii_sql_begin_read(from->sql, err);
  if (rc == AIINFRA_OK) {
    rc = aii_tables_read(&c.tables, from->sql, c.mem, err);
    if (rc == AIINFRA_OK) rc = copy_all(&c, json, err);
    aii_sql_rollback(from->sql);
  }
  aii_sql_unlock(from->sql);
  aii_tables_free(&c.tables);
  aii_buf_free(&c.text);
  return rc;
}
