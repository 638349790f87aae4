/* replica.c - keeps a local copy and the truth in step: the hooks of the copy's transactions.
 *
 * Invariants:
 *   1  The copy's file is always the truth as it was at some version, which it holds in its table replica.
 *   2  Who writes holds first the copy's write lock, then the truth's; nobody waits for the first with the second.
 *   3  A write transaction begins on the newest state: what others have committed is applied before the caller sees it.
 *   4  The truth commits first, then the copy.
 *
 * The happy path: BEGIN IMMEDIATE -> the truth is locked and what is new comes with the same answer -> the caller's
 * statements are captured -> their changes go to the truth, which commits -> the copy has the new version and commits.
 * A reader asks for what is new when its last look is older than sync_ms.
 *
 * Possible failures are: the truth is away or busy (the transaction is rolled back); the copy fails to commit what the
 * truth has, or the process dies there: the next look brings it, as it brings what other nodes wrote. Another process
 * that shares the file may write just when a reader wants to apply what is new: it goes on without, since that writer
 * has brought the copy up to date itself. Thread: any, with the connection's lock held.
 */
#include "src/db/replica.h"

/* A pull under way. */
typedef struct pull {
  aii_replica *r;
  const aii_truth_state *state;
  bool open;    /* a write transaction of the copy */
  bool skipped; /* another process writes */
  bool gap;     /* the log does not reach back, or is of another truth */
} pull;

static bool same_truth(const aii_replica *r, const aii_truth_state *state)
{
  return !r->distrust && memcmp(r->uuid, state->uuid, sizeof r->uuid) == 0;
}

static aiinfra_status check_state(const aii_replica *r, const aii_truth_state *state, aiinfra_error *err)
{
  int64_t ours = (int64_t)aii_db_version();
  if (state->tables == ours) return AIINFRA_OK;
  return aii_fail(err, AIINFRA_ENOTSUP,
                  "%s: its tables have version %lld, this library (%s) knows %s %lld; use a newer library",
                  r->ops->name(r->truth), (long long)state->tables, AIINFRA_VERSION_STRING,
                  state->tables > ours ? "up to" : "only", (long long)ours);
}

/* ---- pulling ----------------------------------------------------------------------------------------------------- */

static aiinfra_status open_pull(pull *p, aiinfra_error *err)
{
  if (p->open || p->skipped) return AIINFRA_OK;
  aiinfra_status rc = aii_sql_begin_bare(p->r->sql, p->r->looked_ns == 0, err);
  if (rc == AIINFRA_EBUSY && p->r->looked_ns != 0) {
    p->skipped = true;
    return AIINFRA_OK;
  }
  p->open = rc == AIINFRA_OK;
  return rc == AIINFRA_OK ? aii_replica_read_version(p->r, err) : rc;
}

static aiinfra_status see_changes(void *ctx, int64_t version, const void *changes, size_t n, aiinfra_error *err)
{
  pull *p = ctx;
  aiinfra_status rc = open_pull(p, err);
  if (rc != AIINFRA_OK || p->skipped) return rc;
  if (!same_truth(p->r, p->state) || version > p->r->version + 1) p->gap = true;
  if (p->gap || version <= p->r->version) return AIINFRA_OK;
  rc = aii_replica_apply(p->r, changes, n, err);
  if (rc == AIINFRA_OK) p->r->version = version;
  return rc;
}

/* What the log did not bring. */
static aiinfra_status complete(pull *p, aii_truth_state *state, aiinfra_error *err)
{
  aii_replica *r = p->r;
  aiinfra_status rc = check_state(r, state, err);
  bool whole = p->gap || !same_truth(r, state) || r->version < state->version;
  if (rc == AIINFRA_OK && whole) rc = open_pull(p, err);
  if (rc != AIINFRA_OK || p->skipped) return rc;
  whole = p->gap || !same_truth(r, state) || r->version < state->version; /* another process may have been faster */
  if (whole) rc = aii_replica_fill(r, state, err);
  if (rc == AIINFRA_OK && p->open) rc = aii_replica_write_version(r, err);
  return rc;
}

aiinfra_status aii_replica_pull(aii_replica *r, aiinfra_error *err)
{
  aii_truth_state state;
  pull p = {.r = r, .state = &state};
  uint64_t now = aii_now_ns();
  aiinfra_status rc = aii_replica_read_version(r, err);
  if (rc == AIINFRA_OK) rc = r->ops->pull(r->truth, r->distrust ? INT64_MAX : r->version, see_changes, &p, &state, err);
  if (rc == AIINFRA_OK) rc = complete(&p, &state, err);
  if (p.open && rc == AIINFRA_OK) rc = aii_sql_commit(r->sql, err);
  else if (p.open) aii_sql_rollback(r->sql);
  if (rc != AIINFRA_OK) return aii_wrap(err, rc, "bring the local copy up to date");
  r->looked_ns = now;
  r->due = p.skipped && r->due;
  r->distrust = p.skipped && r->distrust;
  return AIINFRA_OK;
}

static aiinfra_status on_read(void *ctx, aiinfra_error *err)
{
  aii_replica *r = ctx;
  if (!r->due && !r->distrust && r->looked_ns != 0 && aii_now_ns() - r->looked_ns < r->sync_ns) return AIINFRA_OK;
  return aii_replica_pull(r, err);
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

static const aii_truth_table *table_of(const aii_replica *r, const char *name)
{
  for (size_t i = 0; i < r->tables.n; i++) {
    if (strcmp(r->tables.items[i].name, name) == 0) return &r->tables.items[i];
  }
  return NULL;
}

static bool wants(void *ctx, const char *table)
{
  return table_of(ctx, table) != NULL;
}

static aiinfra_status on_begin(void *ctx, aiinfra_error *err)
{
  aii_replica *r = ctx;
  aii_truth_state state;
  pull p = {.r = r, .state = &state, .open = true};
  r->pushed = false;
  aiinfra_status rc = aii_replica_read_version(r, err);
  if (rc == AIINFRA_OK)
    rc = r->ops->begin(r->truth, r->distrust ? INT64_MAX : r->version, see_changes, &p, &state, err);
  if (rc != AIINFRA_OK) return rc;
  rc = complete(&p, &state, err);
  if (rc == AIINFRA_OK) rc = aii_sql_capture_open(r->sql, wants, r, &r->capture, err);
  if (rc != AIINFRA_OK) r->ops->rollback(r->truth);
  return rc;
}

typedef struct push {
  aii_replica *r;
  bool sequences; /* a row was added where ids never come back */
  bool moved;     /* a row is of another collection than the row of this number was */
} push;

/* The columns of tables rows and vectors. */
enum { ROW, COLLECTION, VECTOR = 1, N_VECTORS_COLUMNS };

/* Writes a change of a row of vectors, for a truth that has types for them, with what the row holds. */
static aiinfra_status push_vector(aii_replica *r, const aii_truth_table *table, const aii_sql_change *change,
                                  aiinfra_error *err)
{
  aii_stmt *stmt;
  aii_truth_vector as = {0};
  bool row = false;
  aiinfra_status rc = aii_sql_prepare(r->sql,
                                      "SELECT c.id, c.dims, c.element, c.kind, v.vector FROM rows r JOIN collections c"
                                      " ON c.id = r.collection JOIN vectors v ON v.row = r.row WHERE r.row = ?1",
                                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, change->values[ROW].i);
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK && row) {
    as = (aii_truth_vector){aii_stmt_get_int(stmt, 0),
                            aii_stmt_get_int(stmt, 1),
                            aii_stmt_get_int(stmt, 2),
                            aii_stmt_get_int(stmt, 3),
                            NULL,
                            0};
    as.stored = aii_stmt_get_blob(stmt, 4, &as.n);
  }
  bool there = row || change->values[VECTOR].type != AII_SQL_ABSENT;
  if (rc == AIINFRA_OK && there) rc = r->ops->write(r->truth, table, change, row ? &as : NULL, err);
  aii_stmt_reset(stmt);
  return rc;
}

static bool moves(const aii_sql_change *change)
{
  return change->op == 'u' && strcmp(change->table, "rows") == 0 && change->n_columns > COLLECTION &&
         change->values[COLLECTION].type != AII_SQL_ABSENT;
}

static aiinfra_status push_change(void *ctx, const aii_sql_change *change, aiinfra_error *err)
{
  push *p = ctx;
  aii_replica *r = p->r;
  const aii_truth_table *table = table_of(r, change->table);
  if (table == NULL)
    return aii_fail(err, AIINFRA_EINTERNAL, "a change of table %s, which is not shared", change->table);
  p->sequences = p->sequences || change->op == 'i';
  p->moved = p->moved || moves(change);
  bool typed = change->op != 'd' && strcmp(table->name, "vectors") == 0 && r->ops->typed(r->truth);
  return typed ? push_vector(r, table, change, err) : r->ops->write(r->truth, table, change, NULL, err);
}

/* A number was taken again within a transaction: the vector may be the same, but what it is of is not. */
static aiinfra_status push_moved(void *ctx, const aii_sql_change *change, aiinfra_error *err)
{
  static const unsigned char is_key[N_VECTORS_COLUMNS] = {1, 0};
  push *p = ctx;
  aii_sql_value values[N_VECTORS_COLUMNS] = {{.type = AII_SQL_INT, .i = change->values[ROW].i},
                                             {.type = AII_SQL_ABSENT}};
  const aii_sql_change again = {"vectors", 'u', N_VECTORS_COLUMNS, is_key, values};
  const aii_truth_table *table = table_of(p->r, "vectors");
  return moves(change) && table != NULL ? push_vector(p->r, table, &again, err) : AIINFRA_OK;
}

static aiinfra_status push_sequences(aii_replica *r, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = true;
  aiinfra_status rc = aii_sql_prepare(r->sql, "SELECT name, seq FROM sqlite_sequence", &stmt, err);
  while (rc == AIINFRA_OK && row) {
    rc = aii_stmt_step(stmt, &row, err);
    if (rc == AIINFRA_OK && row)
      rc = r->ops->sequence(r->truth, aii_stmt_get_text(stmt, 0, NULL), aii_stmt_get_int(stmt, 1), err);
  }
  if (stmt != NULL) aii_stmt_reset(stmt);
  return rc;
}

static aiinfra_status push_changes(aii_replica *r, const void *changes, size_t n, aiinfra_error *err)
{
  push p = {.r = r};
  aiinfra_status rc = aii_sql_changes_each(r->sql, changes, n, push_change, &p, err);
  if (rc == AIINFRA_OK && p.moved && r->ops->typed(r->truth))
    rc = aii_sql_changes_each(r->sql, changes, n, push_moved, &p, err);
  if (rc == AIINFRA_OK && p.sequences) rc = push_sequences(r, err);
  r->version++;
  if (rc == AIINFRA_OK) rc = aii_replica_write_version(r, err);
  if (rc != AIINFRA_OK) return rc;
  rc = r->ops->commit(r->truth, r->version, changes, n, err);
  r->pushed = rc == AIINFRA_OK;
  if (rc != AIINFRA_EFORMAT) return rc;
  r->distrust = true;
  return aii_wrap(err, AIINFRA_EBUSY, "the local copy was not what the database holds, and is made anew: try again");
}

static aiinfra_status on_commit(void *ctx, aiinfra_error *err)
{
  aii_replica *r = ctx;
  void *changes;
  size_t n;
  aiinfra_status rc = aii_sql_capture_take(r->capture, &changes, &n, err);
  if (rc == AIINFRA_OK && n > 0) rc = push_changes(r, changes, n, err);
  aii_sql_changes_free(changes);
  return rc;
}

static void on_end(void *ctx, bool committed)
{
  aii_replica *r = ctx;
  aii_sql_capture_close(r->capture);
  r->capture = NULL;
  if (!r->pushed) r->ops->rollback(r->truth);
  if (committed) r->looked_ns = aii_now_ns();
  else r->due = true; /* perhaps the truth has it, and what was pulled with it is gone */
  r->pushed = false;
}

/* ---- comparing --------------------------------------------------------------------------------------------------- */

typedef struct adder {
  const aii_truth_table *table;
  aii_table_sum sum;
} adder;

static aiinfra_status add_row(void *ctx, const aii_sql_value *values, aiinfra_error *err)
{
  adder *a = ctx;
  (void)err;
  aii_sum_row(&a->sum, values, a->table->n);
  return AIINFRA_OK;
}

static aiinfra_status compare(aii_replica *r, aiinfra_error *err)
{
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; rc == AIINFRA_OK && i < r->tables.n; i++) {
    adder theirs = {.table = &r->tables.items[i]};
    aii_table_sum ours;
    rc = r->ops->rows(r->truth, theirs.table, add_row, &theirs, err);
    if (rc == AIINFRA_OK) rc = aii_tables_sum(r->sql, r->mem, theirs.table, NULL, &ours, err);
    if (rc != AIINFRA_OK || (ours.rows == theirs.sum.rows && ours.sum == theirs.sum.sum)) continue;
    r->distrust = true;
    rc = aii_fail(err, AIINFRA_EFORMAT,
                  "table %s has %lld rows in the database and %lld in the local copy, or others: the copy is made anew "
                  "at the next use",
                  theirs.table->name, (long long)theirs.sum.rows, (long long)ours.rows);
  }
  return rc == AIINFRA_OK ? r->ops->check_types(r->truth, err) : rc;
}

aiinfra_status aii_replica_check(aii_replica *r, aiinfra_error *err)
{
  enum { TRIES = 8 }; /* others write meanwhile */
  aii_truth_state state = {0};
  aiinfra_status rc = AIINFRA_OK;
  bool same = false;
  for (int i = 0; rc == AIINFRA_OK && !same && i < TRIES; i++) {
    r->due = true;
    aii_sql_unlock(r->sql);
    aii_sql_lock(r->sql);
    rc = aii_sql_begin_read(r->sql, err);
    if (rc != AIINFRA_OK) return rc;
    rc = aii_replica_read_version(r, err);
    if (rc == AIINFRA_OK) rc = r->ops->view(r->truth, &state, err);
    same = rc == AIINFRA_OK && state.version == r->version;
    if (same) rc = compare(r, err);
    r->ops->unview(r->truth);
    aii_sql_rollback(r->sql);
  }
  if (rc == AIINFRA_OK && !same) rc = aii_fail(err, AIINFRA_EBUSY, "other nodes write all the time: try again");
  return rc;
}

void aii_replica_hook(aii_replica *r, bool read_only)
{
  static const aii_sql_hooks hooks = {on_read, on_begin, on_commit, on_end};
  aii_sql_set_hooks(r->sql, &hooks, r, read_only);
}
