/* make.c - the tables in PostgreSQL: those of schema.c with their names and columns, and three of the replication.
 *
 *   replica_state      one row: how many commits there were, the version of the tables, who this database is
 *   replica_changes    what each of the last commits changed, for replicas that come to look
 *   replica_sequences  the last id that each table gave out where ids never come back
 *
 * Tables and columns are only ever added, in one transaction that waits for others doing the same. What can fail: the
 * user may not create tables here; the connection. One thread at a time.
 */
#include "src/db/postgres/postgres.h"

static const char *type_of(aii_sql_type type)
{
  switch (type) {
    case AII_SQL_INT: return "bigint";
    case AII_SQL_REAL: return "double precision";
    case AII_SQL_TEXT: return "text";
    default: return "bytea";
  }
}

/* ---- state ------------------------------------------------------------------------------------------------------- */

static aiinfra_status see_there(void *ctx, const PGresult *result, int row, aiinfra_error *err)
{
  aii_truth_state *state = ctx;
  (void)err;
  state->there = !PQgetisnull(result, row, 0);
  return AIINFRA_OK;
}

static aiinfra_status see_state(void *ctx, const PGresult *result, int row, aiinfra_error *err)
{
  aii_truth_state *state = ctx;
  aii_sql_value version, tables, uuid;
  aii_pg_read(result, row, 0, AII_SQL_INT, &version);
  aii_pg_read(result, row, 1, AII_SQL_INT, &tables);
  aii_pg_read(result, row, 2, AII_SQL_BLOB, &uuid);
  if (uuid.n != AII_TRUTH_UUID) return aii_fail(err, AIINFRA_EFORMAT, "the database in PostgreSQL has no identity");
  state->version = version.i;
  state->tables = tables.i;
  memcpy(state->uuid, uuid.p, AII_TRUTH_UUID);
  state->there = true;
  return AIINFRA_OK;
}

aiinfra_status aii_pg_state(aii_truth *t, aii_truth_state *state, aiinfra_error *err)
{
  *state = (aii_truth_state){0};
  aiinfra_status rc = aii_pg_query(t, "SELECT to_regclass('replica_state')::text", NULL, see_there, state, err);
  if (rc != AIINFRA_OK || !state->there) return rc;
  state->there = false;
  return aii_pg_query(t, "SELECT version, tables, uuid FROM replica_state", NULL, see_state, state, err);
}

/* ---- tables ------------------------------------------------------------------------------------------------------ */

static void add_column(aii_buf *sql, const aii_truth_column *column)
{
  aii_pg_quote(sql, column->name);
  aii_buf_fmt(sql, " %s%s", type_of(column->type), column->not_null ? " NOT NULL" : "");
  if (column->preset != NULL) aii_buf_fmt(sql, " DEFAULT %s", column->preset);
}

static void add_key(aii_buf *sql, const aii_truth_table *table)
{
  aii_buf_str(sql, "PRIMARY KEY(");
  for (int at = 1; at <= (int)table->n; at++) {
    for (size_t i = 0; i < table->n; i++) {
      if (table->columns[i].key != at) continue;
      if (at > 1) aii_buf_str(sql, ", ");
      aii_pg_quote(sql, table->columns[i].name);
    }
  }
  aii_buf_char(sql, ')');
}

static void add_table(aii_buf *sql, const aii_truth_table *table)
{
  aii_buf_str(sql, "CREATE TABLE IF NOT EXISTS ");
  aii_pg_quote(sql, table->name);
  aii_buf_char(sql, '(');
  for (size_t i = 0; i < table->n; i++) {
    add_column(sql, &table->columns[i]);
    aii_buf_str(sql, ", ");
  }
  add_key(sql, table);
  aii_buf_str(sql, "); ALTER TABLE ");
  aii_pg_quote(sql, table->name);
  for (size_t i = 0; i < table->n; i++) {
    aii_buf_str(sql, i > 0 ? ", ADD COLUMN IF NOT EXISTS " : " ADD COLUMN IF NOT EXISTS ");
    add_column(sql, &table->columns[i]);
  }
  aii_buf_char(sql, ';');
}

static void add_own(aii_buf *sql, int64_t version, const unsigned char uuid[AII_TRUTH_UUID])
{
  aii_buf_str(sql, "CREATE TABLE IF NOT EXISTS replica_state(one boolean PRIMARY KEY DEFAULT true CHECK(one),"
                   " version bigint NOT NULL, tables bigint NOT NULL, uuid bytea NOT NULL);"
                   "CREATE TABLE IF NOT EXISTS replica_changes(version bigint PRIMARY KEY, node bytea NOT NULL,"
                   " committed timestamptz NOT NULL DEFAULT now(), changes bytea NOT NULL);"
                   "ALTER TABLE replica_changes ALTER COLUMN changes SET STORAGE EXTERNAL;"
                   "CREATE TABLE IF NOT EXISTS replica_sequences(name text PRIMARY KEY, last bigint NOT NULL);"
                   "INSERT INTO replica_state(version, tables, uuid) VALUES(0, 0, '\\x");
  for (int i = 0; i < AII_TRUTH_UUID; i++) aii_buf_fmt(sql, "%02x", uuid[i]);
  aii_buf_fmt(sql, "') ON CONFLICT DO NOTHING; UPDATE replica_state SET tables = %lld WHERE tables < %lld;",
              (long long)version, (long long)version);
}

/* A user who may use the schema, but make none, is not asked to. */
static aiinfra_status make_schema(aii_truth *t, aiinfra_error *err)
{
  aii_pg_params name = {0};
  aii_truth_state found = {0};
  aii_sql_value text = {.type = AII_SQL_TEXT, .p = t->schema, .n = strlen(t->schema)};
  aii_pg_add(&name, &text);
  aiinfra_status rc = aii_pg_query(t, "SELECT (SELECT nspname FROM pg_namespace WHERE nspname = $1)::text", &name,
                                   see_there, &found, err);
  if (rc != AIINFRA_OK || found.there) return rc;
  aii_buf_clear(&t->sql);
  aii_buf_str(&t->sql, "CREATE SCHEMA IF NOT EXISTS ");
  aii_pg_quote(&t->sql, t->schema);
  return t->sql.failed ? aii_fail(err, AIINFRA_ENOMEM, "no memory for a statement") : aii_pg_exec(t, t->sql.data, err);
}

aiinfra_status aii_pg_make(aii_truth *t, const aii_truth_table *tables, size_t n, int64_t version,
                           const unsigned char uuid[AII_TRUTH_UUID], aiinfra_error *err)
{
  aiinfra_error ignored;
  /* Any number: whoever makes these tables takes this lock first. */
  aiinfra_status rc = aii_pg_exec(t, "BEGIN; SELECT pg_advisory_xact_lock(1633773873)", err);
  if (rc == AIINFRA_OK) rc = make_schema(t, err);
  aii_buf_clear(&t->sql);
  for (size_t i = 0; i < n; i++) add_table(&t->sql, &tables[i]);
  add_own(&t->sql, version, uuid);
  if (rc == AIINFRA_OK && t->sql.failed) rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for a statement");
  if (rc == AIINFRA_OK) rc = aii_pg_exec(t, t->sql.data, err);
  if (rc == AIINFRA_OK) rc = aii_pg_exec(t, "COMMIT", err);
  if (rc != AIINFRA_OK && t->conn != NULL) (void)aii_pg_exec(t, "ROLLBACK", &ignored);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "make the tables");
}
