/* push.c - a node's changes go to PostgreSQL: row by row in one pipeline, and with them the log entry that others read.
 *
 * The happy path: each change is sent as a prepared statement, without waiting -> commit sends the log entry, the new
 * version and COMMIT -> all answers are read at once. The transaction began with a lock on the row of state, so that
 * nobody else has committed since, and each statement must find its one row: when it does not, this node's replica was
 * not what PostgreSQL holds, and nothing is committed (EFORMAT).
 *
 * Possible failures are: the connection is lost before the answer to COMMIT. Then only the database knows what became
 * of it: a new connection waits for the lock, which the old one holds until it is done, and looks for the log entry.
 */
#include <stdio.h>

#include "src/db/postgres/postgres.h"

enum { FLUSH_EVERY = 64, TRIM_EVERY = 64, MAX_PREPARED = 256 };

/* Nodes that were away for longer than an hour, or 256 MiB of changes, read whole tables. */
#define TRIM                                                                                                      \
  "DELETE FROM replica_changes WHERE committed < now() - interval '1 hour' OR version <= (SELECT max(version)"    \
  " FROM (SELECT version, sum(octet_length(changes)) OVER (ORDER BY version DESC) AS bytes FROM replica_changes)" \
  " AS kept WHERE bytes > 268435456)"

/* ---- statements of rows ------------------------------------------------------------------------------------------ */

static void add_param(aii_pg_params *params, const aii_truth_column *column, const aii_sql_value *value)
{
  aii_sql_value real = {.type = AII_SQL_REAL, .r = (double)value->i};
  /* SQLite keeps a REAL without a fraction as an integer, and tells of it so */
  aii_pg_add(params, column->type == AII_SQL_REAL && value->type == AII_SQL_INT ? &real : value);
}

static void add_named(aii_buf *sql, const char *before, const char *name, const char *after, int at)
{
  aii_buf_str(sql, before);
  aii_pg_quote(sql, name);
  aii_buf_str(sql, after);
  if (at > 0) aii_buf_fmt(sql, "$%d", at);
}

static void write_insert(aii_buf *sql, const aii_truth_table *table, const aii_sql_change *change,
                         const aii_pg_typed *typed, aii_pg_params *params)
{
  add_named(sql, "INSERT INTO ", table->name, "", 0);
  for (int i = 0; i < change->n_columns; i++) {
    add_named(sql, i > 0 ? ", " : "(", table->columns[i].name, "", 0);
    add_param(params, &table->columns[i], &change->values[i]);
  }
  for (int i = 0; i < typed->n; i++) {
    add_named(sql, ", ", typed->names[i], "", 0);
    aii_pg_add(params, &typed->values[i]);
  }
  for (int i = 1; i <= params->n; i++) aii_buf_fmt(sql, i > 1 ? ", $%d" : ") VALUES($%d", i);
  aii_buf_char(sql, ')');
}

static void write_where(aii_buf *sql, const aii_truth_table *table, const aii_sql_change *change, aii_pg_params *params)
{
  bool first = true;
  for (int i = 0; i < change->n_columns; i++) {
    if (change->is_key[i] == 0) continue;
    add_param(params, &table->columns[i], &change->values[i]);
    add_named(sql, first ? " WHERE " : " AND ", table->columns[i].name, " = ", params->n);
    first = false;
  }
}

static void write_update(aii_buf *sql, const aii_truth_table *table, const aii_sql_change *change,
                         const aii_pg_typed *typed, aii_pg_params *params)
{
  add_named(sql, "UPDATE ", table->name, "", 0);
  for (int i = 0; i < change->n_columns; i++) {
    if (change->is_key[i] != 0 || change->values[i].type == AII_SQL_ABSENT) continue;
    add_param(params, &table->columns[i], &change->values[i]);
    add_named(sql, params->n == 1 ? " SET " : ", ", table->columns[i].name, " = ", params->n);
  }
  for (int i = 0; i < typed->n; i++) {
    aii_pg_add(params, &typed->values[i]);
    add_named(sql, params->n == 1 ? " SET " : ", ", typed->names[i], " = ", params->n);
  }
  write_where(sql, table, change, params);
}

/* ---- the pipeline ------------------------------------------------------------------------------------------------ */

static bool is_prepared(aii_truth *t, uint64_t hash)
{
  for (size_t i = 0; i < t->n_prepared; i++) {
    if (t->prepared[i] == hash) return true;
  }
  return false;
}

/* The statement in t->sql, which the server may know by its hash. */
static aiinfra_status send(aii_truth *t, const aii_pg_params *params, aiinfra_error *err)
{
  char name[24] = "";
  if (t->sql.failed) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a statement");
  if (t->conn == NULL) return aii_pg_lost(t, "sending", err);
  if (PQpipelineStatus(t->conn) == PQ_PIPELINE_OFF && PQenterPipelineMode(t->conn) == 0)
    return aii_pg_lost(t, "sending", err);
  uint64_t hash = aii_hash64(t->sql.data, t->sql.len, t->vector_type);
  bool known = is_prepared(t, hash);
  bool keep = known || (t->n_prepared < MAX_PREPARED &&
                        aii_grow(t->mem, &t->prepared, &t->cap_prepared, t->n_prepared + 1, sizeof *t->prepared));
  if (keep) (void)snprintf(name, sizeof name, "s%016llx", (unsigned long long)hash);
  int ok = 1;
  if (keep && !known) {
    ok = PQsendPrepare(t->conn, name, t->sql.data, 0, NULL);
    t->prepared[t->n_prepared++] = hash;
    t->n_sent++;
  }
  if (ok != 0 && keep)
    ok = PQsendQueryPrepared(t->conn, name, params->n, params->values, params->lengths, params->formats, 1);
  if (ok != 0 && !keep)
    ok = PQsendQueryParams(t->conn, t->sql.data, params->n, NULL, params->values, params->lengths, params->formats, 1);
  if (ok == 0) return aii_pg_lost(t, "sending", err);
  return ++t->n_sent % FLUSH_EVERY == 0 ? aii_pg_flush(t, err) : AIINFRA_OK;
}

static aiinfra_status send_text(aii_truth *t, const char *statement, const aii_pg_params *params, aiinfra_error *err)
{
  aii_buf_clear(&t->sql);
  aii_buf_str(&t->sql, statement);
  return send(t, params, err);
}

aiinfra_status aii_pg_write(aii_truth *t, const aii_truth_table *table, const aii_sql_change *change,
                            const aii_truth_vector *as, aiinfra_error *err)
{
  aii_pg_params params = {0};
  aii_pg_typed typed = {0};
  if ((size_t)change->n_columns > table->n || 2 * change->n_columns > AII_PG_PARAMS)
    return aii_fail(err, AIINFRA_EINTERNAL, "a change of table %s has %d columns", table->name, change->n_columns);
  aiinfra_status rc = AIINFRA_OK;
  if (change->op != 'd' && strcmp(table->name, "vectors") == 0) rc = aii_pg_typed_of(t, as, &typed, err);
  if (rc != AIINFRA_OK) return rc;
  aii_buf_clear(&t->sql);
  if (change->op == 'i') {
    write_insert(&t->sql, table, change, &typed, &params);
  } else if (change->op == 'u') {
    write_update(&t->sql, table, change, &typed, &params);
  } else {
    add_named(&t->sql, "DELETE FROM ", table->name, "", 0);
    write_where(&t->sql, table, change, &params);
  }
  return send(t, &params, err);
}

aiinfra_status aii_pg_sequence(aii_truth *t, const char *table, int64_t last, aiinfra_error *err)
{
  aii_pg_params params = {0};
  aii_sql_value name = {.type = AII_SQL_TEXT, .p = table, .n = strlen(table)};
  aii_pg_add(&params, &name);
  aii_pg_add_int(&params, last);
  return send_text(t,
                   "INSERT INTO replica_sequences AS s(name, last) VALUES($1, $2) ON CONFLICT(name) DO UPDATE"
                   " SET last = greatest(s.last, excluded.last)",
                   &params, err);
}

/* ---- commit ------------------------------------------------------------------------------------------------------ */

/* Reads the answer of one statement of the pipeline; one that writes a row must have written one. */
static aiinfra_status read_one(aii_truth *t, bool counts, aiinfra_error *err)
{
  PGresult *result;
  aiinfra_error ignored;
  aiinfra_status rc = aii_pg_next(t, &result, err);
  while (rc == AIINFRA_OK && result != NULL) {
    const char *n = PQcmdTuples(result);
    rc = aii_pg_told(t, result, err);
    if (rc == AIINFRA_OK && counts && n[0] != '\0' && strcmp(n, "1") != 0)
      rc = aii_fail(err, AIINFRA_EFORMAT, "%s: a row was written that is not there", aii_buf_cstr(&t->name));
    PQclear(result);
    aiinfra_status next = t->conn != NULL ? aii_pg_next(t, &result, rc == AIINFRA_OK ? err : &ignored) : AIINFRA_EIO;
    if (next != AIINFRA_OK) return rc == AIINFRA_OK ? next : rc;
  }
  return rc;
}

/* The answers to everything; the first failure counts. Leaves the pipeline. */
static aiinfra_status read_all(aii_truth *t, uint64_t n_counted, aiinfra_error *err)
{
  aiinfra_error ignored;
  aiinfra_status rc = AIINFRA_OK;
  for (uint64_t i = 0; i < t->n_sent; i++) {
    aiinfra_status one = read_one(t, i < n_counted, rc == AIINFRA_OK ? err : &ignored);
    if (rc == AIINFRA_OK) rc = one;
    if (t->conn == NULL) return rc;
  }
  t->n_sent = 0;
  aiinfra_status synced = aii_pg_answer(t, false, NULL, NULL, rc == AIINFRA_OK ? err : &ignored);
  if (rc == AIINFRA_OK) rc = synced;
  if (t->conn != NULL && PQexitPipelineMode(t->conn) == 0)
    return aii_pg_lost(t, NULL, rc == AIINFRA_OK ? err : &ignored);
  return rc;
}

static aiinfra_status send_log(aii_truth *t, int64_t version, const void *changes, size_t n, aiinfra_error *err)
{
  aii_pg_params log = {0}, state = {0};
  aii_pg_add_int(&log, version);
  aii_pg_add_blob(&log, t->opts.node, sizeof t->opts.node);
  aii_pg_add_blob(&log, changes, n);
  aii_pg_add_int(&state, version);
  aiinfra_status rc = send_text(t, "INSERT INTO replica_changes(version, node, changes) VALUES($1, $2, $3)", &log, err);
  if (rc != AIINFRA_OK) return rc;
  return send_text(t, "UPDATE replica_state SET version = $1::bigint WHERE version = $1::bigint - 1", &state, err);
}

static aiinfra_status see_any(void *ctx, const PGresult *result, int row, aiinfra_error *err)
{
  (void)result, (void)row, (void)err;
  *(bool *)ctx = true;
  return AIINFRA_OK;
}

/* What became of a commit whose answer was lost. */
static aiinfra_status find_out(aii_truth *t, int64_t version, aiinfra_error *err)
{
  aii_pg_params params = {0};
  aiinfra_error why, ignored;
  bool committed = false;
  aii_pg_add_int(&params, version);
  aii_pg_add_blob(&params, t->opts.node, sizeof t->opts.node);
  aiinfra_status rc = aii_pg_connect(t, &why);
  if (rc == AIINFRA_OK) rc = aii_pg_exec(t, "BEGIN; SELECT version FROM replica_state FOR UPDATE", &why);
  if (rc == AIINFRA_OK)
    rc = aii_pg_query(t, "SELECT version FROM replica_changes WHERE version = $1 AND node = $2", &params, see_any,
                      &committed, &why);
  if (t->conn != NULL) (void)aii_pg_exec(t, "ROLLBACK", &ignored);
  if (rc == AIINFRA_OK && committed) return AIINFRA_OK;
  if (rc == AIINFRA_OK) return aii_wrap(err, AIINFRA_EIO, "nothing was written");
  return aii_wrap(err, AIINFRA_EIO, "whether it was written is not known yet, the next reading shows it");
}

/* Nothing of it is there. What the server has prepared behind a failure is not known. */
static void end_failed(aii_truth *t)
{
  aiinfra_error ignored;
  t->in_transaction = false;
  t->n_prepared = 0;
  if (t->conn != NULL) (void)aii_pg_exec(t, "ROLLBACK; DEALLOCATE ALL", &ignored);
}

aiinfra_status aii_pg_end(aii_truth *t, uint64_t n_counted, bool *asked, aiinfra_error *err)
{
  static const aii_pg_params none;
  *asked = false;
  aiinfra_status rc = send_text(t, "COMMIT", &none, err);
  if (rc == AIINFRA_OK && PQpipelineSync(t->conn) == 0) rc = aii_pg_lost(t, "sending", err);
  if (rc != AIINFRA_OK) {
    aii_pg_rollback(t);
    return rc;
  }
  *asked = true;
  rc = read_all(t, n_counted, err);
  t->in_transaction = false;
  if (rc != AIINFRA_OK && t->conn != NULL) end_failed(t);
  return rc;
}

aiinfra_status aii_pg_commit(aii_truth *t, int64_t version, const void *changes, size_t n, aiinfra_error *err)
{
  static const aii_pg_params none;
  bool asked;
  aiinfra_status rc = send_log(t, version, changes, n, err);
  uint64_t n_counted = t->n_sent;
  if (rc == AIINFRA_OK && version % TRIM_EVERY == 0) rc = send_text(t, TRIM, &none, err);
  if (rc != AIINFRA_OK) {
    aii_pg_rollback(t);
    return rc;
  }
  rc = aii_pg_end(t, n_counted, &asked, err);
  return rc == AIINFRA_EIO && asked && t->conn == NULL ? find_out(t, version, err) : rc;
}

void aii_pg_rollback(aii_truth *t)
{
  aiinfra_error ignored;
  bool sent = t->conn != NULL && PQpipelineStatus(t->conn) != PQ_PIPELINE_OFF;
  if (sent && PQpipelineSync(t->conn) == 0) aii_pg_drop(t);
  else if (sent) (void)read_all(t, 0, &ignored);
  t->n_sent = 0;
  if (!t->in_transaction) return;
  t->in_transaction = false;
  if (sent) end_failed(t);
  else if (t->conn != NULL) (void)aii_pg_exec(t, "ROLLBACK", &ignored);
}
