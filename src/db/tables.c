/* tables.c - which tables a database has and what they hold in sum, read from the database itself.
 *
 * Not told are the tables that each node makes for itself: words, snapshots, a database's identity.
 *
 * The sum of a table is the sum of its rows' hashes, so that it does not depend on their order: two databases with the
 * same sums hold the same rows. Lock held; the caller's transaction, if the sums are of one moment.
 */
#include "src/db/tables.h"

static aii_sql_type type_of(const char *name)
{
  switch (name[0]) {
    case 'I': return AII_SQL_INT;
    case 'R': return AII_SQL_REAL;
    case 'T': return AII_SQL_TEXT;
    default: return AII_SQL_BLOB;
  }
}

static aiinfra_status add_column(aii_tables *t, aii_truth_table *table, size_t *cap, aii_stmt *stmt, aiinfra_error *err)
{
  if (!aii_grow(t->mem, &table->columns, cap, table->n + 1, sizeof *table->columns))
    return aii_fail(err, AIINFRA_ENOMEM, "no memory for the tables");
  aii_truth_column *c = &table->columns[table->n++];
  *c = (aii_truth_column){.type = type_of(aii_stmt_get_text(stmt, 1, NULL)),
                          .not_null = aii_stmt_get_int(stmt, 2) != 0,
                          .key = (int)aii_stmt_get_int(stmt, 4)};
  c->name = aii_strdup(t->mem, aii_stmt_get_text(stmt, 0, NULL));
  if (!aii_stmt_is_null(stmt, 3)) c->preset = aii_strdup(t->mem, aii_stmt_get_text(stmt, 3, NULL));
  if (c->name == NULL || (c->preset == NULL && !aii_stmt_is_null(stmt, 3)))
    return aii_fail(err, AIINFRA_ENOMEM, "no memory for the tables");
  return AIINFRA_OK;
}

static aiinfra_status read_columns(aii_tables *t, aii_sql *sql, aii_truth_table *table, aiinfra_error *err)
{
  aii_stmt *stmt;
  size_t cap = 0;
  bool row = true;
  aiinfra_status rc = aii_sql_prepare(
      sql, "SELECT name, type, \"notnull\", dflt_value, pk FROM pragma_table_info(?1) ORDER BY cid", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_text(stmt, 1, table->name, strlen(table->name));
  while (rc == AIINFRA_OK && row) {
    rc = aii_stmt_step(stmt, &row, err);
    if (rc == AIINFRA_OK && row) rc = add_column(t, table, &cap, stmt, err);
  }
  aii_stmt_reset(stmt);
  /* shrunk to what there is, so that it can be freed by n */
  void *fit = table->n > 0
                  ? aii_resize(t->mem, table->columns, cap * sizeof *table->columns, table->n * sizeof *table->columns)
                  : table->columns;
  if (table->n > 0 && fit == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for the tables");
  table->columns = fit;
  return rc;
}

/* All but what each node makes for itself. */
aiinfra_status aii_tables_read(aii_tables *t, aii_sql *sql, aii_mem *mem, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = true;
  *t = (aii_tables){.mem = mem};
  aiinfra_status rc =
      aii_sql_prepare(sql,
                      "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
                      " AND name NOT LIKE 'words\\_%' ESCAPE '\\' AND name NOT IN ('snapshots', 'identity', 'replica')"
                      " ORDER BY rowid",
                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  while (rc == AIINFRA_OK && row) {
    rc = aii_stmt_step(stmt, &row, err);
    if (rc != AIINFRA_OK || !row) break;
    if (!aii_grow(t->mem, &t->items, &t->cap, t->n + 1, sizeof *t->items)) {
      rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for the tables");
      break;
    }
    aii_truth_table *table = &t->items[t->n++];
    *table = (aii_truth_table){.name = aii_strdup(t->mem, aii_stmt_get_text(stmt, 0, NULL))};
    rc = table->name == NULL ? aii_fail(err, AIINFRA_ENOMEM, "no memory for the tables")
                             : read_columns(t, sql, table, err);
  }
  aii_stmt_reset(stmt);
  return rc;
}

void aii_tables_free(aii_tables *t)
{
  for (size_t i = 0; i < t->n; i++) {
    aii_truth_table *table = &t->items[i];
    for (size_t c = 0; c < table->n; c++) {
      aii_strfree(t->mem, table->columns[c].name);
      aii_strfree(t->mem, table->columns[c].preset);
    }
    aii_del(t->mem, table->columns, table->n * sizeof *table->columns);
    aii_strfree(t->mem, table->name);
  }
  aii_del(t->mem, t->items, t->cap * sizeof *t->items);
}

/* ---- sums -------------------------------------------------------------------------------------------------------- */

void aii_sum_row(aii_table_sum *sum, const aii_sql_value *values, size_t n)
{
  uint64_t hash = n;
  for (size_t i = 0; i < n; i++) {
    const aii_sql_value *v = &values[i];
    hash = aii_hash64(&(uint32_t){(uint32_t)v->type}, sizeof(uint32_t), hash);
    if (v->type == AII_SQL_INT) hash = aii_hash64(&v->i, sizeof v->i, hash);
    else if (v->type == AII_SQL_REAL) hash = aii_hash64(&v->r, sizeof v->r, hash);
    else if (v->n > 0) hash = aii_hash64(v->p, v->n, hash);
  }
  sum->rows++;
  sum->sum += hash;
}

void aii_tables_columns(const aii_truth_table *table, bool key_only, aii_buf *text)
{
  bool first = true;
  for (int at = 1; at <= (int)table->n; at++) { /* the key in its own order */
    for (size_t i = 0; i < table->n; i++) {
      if (key_only ? table->columns[i].key != at : i + 1 != (size_t)at) continue;
      aii_buf_fmt(text, first ? "\"%s\"" : ", \"%s\"", table->columns[i].name);
      first = false;
    }
  }
}

aiinfra_status aii_tables_sum(aii_sql *sql, aii_mem *mem, const aii_truth_table *table, aii_stmt *bounded,
                              aii_table_sum *sum, aiinfra_error *err)
{
  aii_sql_value values[AII_MAX_COLUMNS];
  aii_stmt *stmt = bounded;
  aii_buf text;
  bool row = true;
  *sum = (aii_table_sum){0};
  if (table->n > AII_MAX_COLUMNS) return aii_fail(err, AIINFRA_EINTERNAL, "table %s is too wide", table->name);
  aii_buf_init(&text, mem, 0);
  aii_buf_str(&text, "SELECT ");
  aii_tables_columns(table, false, &text);
  aii_buf_fmt(&text, " FROM \"%s\"", table->name);
  aiinfra_status rc = text.failed ? aii_fail(err, AIINFRA_ENOMEM, "no memory for a statement") : AIINFRA_OK;
  if (rc == AIINFRA_OK && bounded == NULL) rc = aii_sql_prepare_once(sql, text.data, &stmt, err);
  while (rc == AIINFRA_OK && row) {
    rc = aii_stmt_step(stmt, &row, err);
    if (rc != AIINFRA_OK || !row) break;
    for (size_t i = 0; i < table->n; i++) aii_stmt_get(stmt, (int)i, &values[i]);
    aii_sum_row(sum, values, table->n);
  }
  if (bounded == NULL) aii_stmt_free(stmt);
  aii_buf_free(&text);
  return rc;
}
