/* lib/sql/sql.h - SQLite as we use it: one connection, cached statements, transactions, errors with a cause.
 *
 * A connection is guarded by a mutex of its own: aii_sql_lock() ... aii_sql_unlock() brackets a unit of work (a
 * transaction or a query read to its end); every other function wants the lock held. Any thread.
 */
#ifndef AII_SQL_H
#define AII_SQL_H

#include "lib/base/base.h"

typedef struct aii_sql aii_sql;
typedef struct aii_stmt aii_stmt;

typedef struct aii_sql_opts {
  uint32_t busy_timeout_ms;
  uint32_t application_id; /* 0: any; else EFORMAT for a file that holds tables and has another id */
  bool read_only, must_exist, synchronous_full;
} aii_sql_opts;
/* WAL mode, foreign keys on, secure_delete on. ":memory:" is allowed. The file is not touched before it is known to
 * be ours; an empty one gets the id with the first migration. */
aiinfra_status aii_sql_open(aii_mem *mem, const char *path, const aii_sql_opts *opts, aii_sql **out,
                            aiinfra_error *err);
void aii_sql_close(aii_sql *sql);
void aii_sql_lock(aii_sql *sql);
void aii_sql_unlock(aii_sql *sql);

/* Runs one or more statements without results. */
aiinfra_status aii_sql_exec(aii_sql *sql, const char *statements, aiinfra_error *err);
aiinfra_status aii_sql_begin(aii_sql *sql, aiinfra_error *err);      /* BEGIN IMMEDIATE */
aiinfra_status aii_sql_begin_read(aii_sql *sql, aiinfra_error *err); /* one view for several queries */
aiinfra_status aii_sql_commit(aii_sql *sql, aiinfra_error *err);     /* rolls back when it fails */
void aii_sql_rollback(aii_sql *sql);
bool aii_sql_is_inside(aii_sql *sql); /* a transaction: a statement without memory may have ended it */

/* Finds or prepares a statement; `text` must be a string literal (its address is the cache's key). Reset and unbound.
 * Binding errors are kept and reported by the first step. Indexes count from 1 when binding, from 0 when reading. */
aiinfra_status aii_sql_prepare(aii_sql *sql, const char *text, aii_stmt **out, aiinfra_error *err);
/* The same for a text that is made at run time: not cached, freed by the caller with the lock held (NULL allowed). */
aiinfra_status aii_sql_prepare_once(aii_sql *sql, const char *text, aii_stmt **out, aiinfra_error *err);
void aii_stmt_free(aii_stmt *stmt);
void aii_stmt_int(aii_stmt *stmt, int at, int64_t value);
void aii_stmt_real(aii_stmt *stmt, int at, double value);
void aii_stmt_text(aii_stmt *stmt, int at, const char *s, size_t n); /* s NULL: NULL; must live until the reset */
void aii_stmt_blob(aii_stmt *stmt, int at, const void *p, size_t n);
void aii_stmt_null(aii_stmt *stmt, int at);
/* *row says whether there is a row to read. */
aiinfra_status aii_stmt_step(aii_stmt *stmt, bool *row, aiinfra_error *err);
/* Steps a statement that gives no rows, then resets it. */
aiinfra_status aii_stmt_run(aii_stmt *stmt, aiinfra_error *err);
/* The same as a transaction of its own: the only way to write outside of one. */
aiinfra_status aii_stmt_run_alone(aii_stmt *stmt, aiinfra_error *err);
int64_t aii_stmt_get_int(aii_stmt *stmt, int at);
double aii_stmt_get_real(aii_stmt *stmt, int at);
const char *aii_stmt_get_text(aii_stmt *stmt, int at, size_t *n); /* "" for NULL; valid until the next step or reset */
const void *aii_stmt_get_blob(aii_stmt *stmt, int at, size_t *n);
bool aii_stmt_is_null(aii_stmt *stmt, int at);
void aii_stmt_reset(aii_stmt *stmt); /* every statement that was stepped is reset before the unlock */
int64_t aii_sql_last_id(aii_sql *sql);
int64_t aii_sql_changes(aii_sql *sql);
bool aii_sql_is_memory(const aii_sql *sql); /* ":memory:" */
bool aii_sql_is_read_only(aii_sql *sql);
const char *aii_sql_file(aii_sql *sql); /* its whole path; "" in memory */

/* For a database whose truth lies elsewhere: what happens around its transactions (sql.c). Each is called with the lock
 * held, and may use the connection; its own calls have no hooks. */
typedef struct aii_sql_hooks {
  aiinfra_status (*read)(void *ctx, aiinfra_error *err);   /* before the first statement or view after a lock */
  aiinfra_status (*begin)(void *ctx, aiinfra_error *err);  /* behind BEGIN IMMEDIATE; a failure ends the transaction */
  aiinfra_status (*commit)(void *ctx, aiinfra_error *err); /* before COMMIT; a failure rolls back */
  void (*end)(void *ctx, bool committed); /* of what begin() began; false behind a commit(): COMMIT itself failed */
} aii_sql_hooks;
/* hooks NULL: none. read_only: write transactions do not begin, though the file may be written. */
void aii_sql_set_hooks(aii_sql *sql, const aii_sql_hooks *hooks, void *ctx, bool read_only);
/* BEGIN IMMEDIATE without hooks; EBUSY at once when somebody else writes and wait is false. */
aiinfra_status aii_sql_begin_bare(aii_sql *sql, bool wait, aiinfra_error *err);

/* Changes of rows as bytes (changes.c): taken from one database, applied to another with the same tables. */
typedef struct aii_sql_capture aii_sql_capture;
typedef bool (*aii_sql_wants_fn)(void *ctx, const char *table);
typedef enum aii_sql_type {
  AII_SQL_ABSENT,
  AII_SQL_NULL,
  AII_SQL_INT,
  AII_SQL_REAL,
  AII_SQL_TEXT,
  AII_SQL_BLOB
} aii_sql_type;
typedef struct aii_sql_value {
  aii_sql_type type; /* ABSENT: not told, since it did not change */
  int64_t i;
  double r;
  const void *p;
  size_t n;
} aii_sql_value;
/* One row. Of a removal the key alone is told, of an update the key and what changed. */
typedef struct aii_sql_change {
  const char *table;
  char op; /* 'i', 'u', 'd' */
  int n_columns;
  const unsigned char *is_key; /* by column */
  const aii_sql_value *values; /* by column */
} aii_sql_change;
typedef aiinfra_status (*aii_sql_change_fn)(void *ctx, const aii_sql_change *change, aiinfra_error *err);
bool aii_sql_can_capture(void); /* SQLite was built with its session extension */
/* From now on, in tables that have a primary key and are wanted. */
aiinfra_status aii_sql_capture_open(aii_sql *sql, aii_sql_wants_fn wants, void *ctx, aii_sql_capture **out,
                                    aiinfra_error *err);
/* *n 0: nothing changed; free *changes with aii_sql_changes_free(). */
aiinfra_status aii_sql_capture_take(aii_sql_capture *capture, void **changes, size_t *n, aiinfra_error *err);
void aii_sql_capture_close(aii_sql_capture *capture); /* NULL is allowed; before the connection */
aiinfra_status aii_sql_changes_each(aii_sql *sql, const void *changes, size_t n, aii_sql_change_fn see, void *ctx,
                                    aiinfra_error *err);
/* In the caller's transaction. What is there already is replaced, what is gone already is left out. */
aiinfra_status aii_sql_changes_apply(aii_sql *sql, const void *changes, size_t n, aiinfra_error *err);
void aii_sql_changes_free(void *changes);
void aii_stmt_get(aii_stmt *stmt, int at, aii_sql_value *value);             /* valid until the next step or reset */
void aii_stmt_bind(aii_stmt *stmt, int at, const aii_sql_value *value);      /* must live until the reset */
void aii_stmt_bind_copy(aii_stmt *stmt, int at, const aii_sql_value *value); /* need not */

/* Copies a whole database into a new file, some pages at a time (copy.c). A file is copied as it was when the copy began,
 * over a connection of its own, and writers go on; a database in memory is copied with its lock held for each step.
 * Called without the lock. Nobody else uses the copy before it is closed. */
typedef struct aii_sql_copy aii_sql_copy;
aiinfra_status aii_sql_copy_open(aii_sql *from, const char *path, aii_sql_copy **out, aiinfra_error *err);
/* *fraction: of the pages; 1 when all are there. */
aiinfra_status aii_sql_copy_step(aii_sql_copy *copy, uint32_t n_pages, double *fraction, aiinfra_error *err);
void aii_sql_copy_close(aii_sql_copy *copy); /* NULL is allowed; complete or not */

#endif
