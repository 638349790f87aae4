/* sql.c - a connection: opened with care, locked by its users, its transactions.
 *
 * Opening: SQLite opens the file -> is it ours? (application_id) -> WAL and the other pragmas -> the four statements
 * of a transaction are prepared. Nothing is written before the second step, so that another program's database is
 * never changed. Durability: in WAL mode a commit that returned survives kill -9 always, and power loss when
 * synchronous is FULL.
 *
 * What can fail: everything that touches the disk; a transaction that fails to commit is rolled back. When even that
 * fails (no memory), the next begin tries again. Any thread; see the lock's rules in sql.h.
 */
#include <errno.h>
#include <limits.h>
#include <sys/stat.h>

#include "lib/sql/sql_internal.h"

/* After a large transaction the WAL file shrinks back to this. */
#define WAL_KEPT "PRAGMA journal_size_limit=16777216;"
/* From here on its pages go to the database, as by SQLite's default; and it begins anew, for which readers are waited for who
 * began before the last commit: without that, readers without end would let it grow without end. */
enum { WAL_PAGES = 1000, WAL_RESTART_PAGES = 16000, RESTART_MS = 20 };

static bool in_memory(const char *path)
{
  return strcmp(path, ":memory:") == 0;
}

/* SQLite says only that it cannot open; the file system says why. */
static bool has_folder(const char *path)
{
  char folder[PATH_MAX] = ".";
  struct stat st;
  const char *slash = strrchr(path, '/');
  size_t n = slash != NULL ? (size_t)(slash - path) + 1 : 0;
  if (n >= sizeof folder) return false;
  if (n > 0) memcpy(folder, path, n);
  if (n > 0) folder[n] = '\0';
  return stat(folder, &st) == 0;
}

static aiinfra_status fail_open(aii_sql *sql, int code, const aii_sql_opts *opts, aiinfra_error *err)
{
  struct stat st;
  if ((code & 0xFF) != SQLITE_CANTOPEN) return aii_sql_fail(sql, code, err);
  if (stat(sql->path, &st) != 0 && errno == ENOENT) {
    bool must = opts->must_exist || opts->read_only;
    const char *why = must ? "the file does not exist" : "its folder does not exist";
    if (!must && has_folder(sql->path))
      return aii_fail_code(err, AIINFRA_EIO, code,
                           "%s: cannot be created; check the disk's room and the folder's permissions", sql->path);
    return aii_fail_code(err, AIINFRA_ENOENT, code, "%s: %s; check the path", sql->path, why);
  }
  return aii_fail_code(err, AIINFRA_EIO, code, "%s: cannot be opened; check that it is a file and its permissions",
                       sql->path);
}

/* One integer of a pragma or query. */
static aiinfra_status ask(aii_sql *sql, const char *text, int64_t *value, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  aiinfra_status rc = aii_sql_prepare_once(sql, text, &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK) *value = row ? aii_stmt_get_int(stmt, 0) : 0;
  aii_stmt_free(stmt);
  return rc;
}

/* Tables are counted before the mark is read: another process makes both in one transaction, perhaps in between. */
static aiinfra_status check_owner(aii_sql *sql, uint32_t want, aiinfra_error *err)
{
  int64_t id = 0, n_tables = 0;
  aiinfra_status rc = ask(sql, "SELECT count(*) FROM sqlite_schema", &n_tables, err);
  if (rc == AIINFRA_OK) rc = ask(sql, "PRAGMA application_id", &id, err);
  if (rc != AIINFRA_OK || want == 0 || id == (int64_t)want || (id == 0 && n_tables == 0)) return rc;
  return aii_fail(err, AIINFRA_EFORMAT, "%s: the database belongs to another program; name another file", sql->path);
}

/* The change to WAL wants the file for itself and does not wait for it, so we do. */
static aiinfra_status use_wal(aii_sql *sql, aiinfra_error *err)
{
  enum { STEP_MS = 10 };
  for (uint32_t waited = 0;; waited += STEP_MS) {
    int code = sqlite3_exec(sql->db, "PRAGMA journal_mode=WAL", NULL, NULL, NULL);
    if (code == SQLITE_OK) return AIINFRA_OK;
    if ((code & 0xFF) != SQLITE_BUSY || waited >= sql->busy_timeout_ms) return aii_sql_fail(sql, code, err);
    (void)sqlite3_sleep(STEP_MS);
  }
}

static void set_timeout(aii_sql *sql, uint32_t ms)
{
  (void)sqlite3_busy_timeout(sql->db, (int)AII_MIN(ms, (uint32_t)INT32_MAX));
}

static int note_pages(void *ctx, sqlite3 *db, const char *name, int n_pages)
{
  (void)db;
  (void)name;
  ((aii_sql *)ctx)->wal_pages = n_pages;
  return SQLITE_OK;
}

static aiinfra_status configure(aii_sql *sql, const aii_sql_opts *opts, aiinfra_error *err)
{
  (void)sqlite3_extended_result_codes(sql->db, 1);
  set_timeout(sql, opts->busy_timeout_ms);
  (void)sqlite3_wal_hook(sql->db, note_pages, sql);
  (void)sqlite3_db_config(sql->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
  (void)sqlite3_db_config(sql->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
  aiinfra_status rc = check_owner(sql, opts->application_id, err);
  if (rc == AIINFRA_OK && !opts->read_only) rc = aii_sql_exec(sql, "PRAGMA auto_vacuum=INCREMENTAL", err);
  if (rc == AIINFRA_OK && !opts->read_only && !in_memory(sql->path)) rc = use_wal(sql, err);
  if (rc == AIINFRA_OK) {
    rc = aii_sql_exec(sql, "PRAGMA foreign_keys=ON; PRAGMA secure_delete=ON; PRAGMA cell_size_check=ON;" WAL_KEPT, err);
  }
  if (rc == AIINFRA_OK) {
    rc = aii_sql_exec(sql, opts->synchronous_full ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL", err);
  }
  if (rc == AIINFRA_OK) rc = aii_sql_prepare(sql, "BEGIN IMMEDIATE", &sql->begin, err);
  if (rc == AIINFRA_OK) rc = aii_sql_prepare(sql, "BEGIN", &sql->begin_read, err);
  if (rc == AIINFRA_OK) rc = aii_sql_prepare(sql, "COMMIT", &sql->commit, err);
  if (rc == AIINFRA_OK) rc = aii_sql_prepare(sql, "ROLLBACK", &sql->rollback, err);
  return rc;
}

aiinfra_status aii_sql_open(aii_mem *mem, const char *path, const aii_sql_opts *opts, aii_sql **out, aiinfra_error *err)
{
  *out = NULL;
  if (path[0] == '\0') return aii_fail(err, AIINFRA_EINVAL, "the path of the database is empty");
  aii_sql *sql = aii_new(mem, sizeof *sql);
  if (sql == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a database connection");
  sql->mem = mem;
  sql->busy_timeout_ms = opts->busy_timeout_ms;
  sql->changes = -1;
  sql->read_only = opts->read_only;
  if (pthread_mutex_init(&sql->lock, NULL) != 0) {
    aii_del(mem, sql, sizeof *sql);
    return aii_fail(err, AIINFRA_ENOMEM, "no memory for a lock");
  }
  aiinfra_status rc = AIINFRA_OK;
  sql->path = aii_strdup(mem, path);
  if (sql->path == NULL) rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for a path");
  if (rc == AIINFRA_OK) {
    int flags = opts->read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
    if (!opts->read_only && !opts->must_exist) flags |= SQLITE_OPEN_CREATE;
    int code = sqlite3_open_v2(path, &sql->db, flags | SQLITE_OPEN_NOMUTEX, NULL);
    rc = code == SQLITE_OK ? configure(sql, opts, err) : fail_open(sql, code, opts, err);
  }
  if (rc != AIINFRA_OK) {
    aii_sql_close(sql);
    return rc;
  }
  *out = sql;
  return AIINFRA_OK;
}

void aii_sql_close(aii_sql *sql)
{
  if (sql == NULL) return;
  for (size_t i = 0; i < STMT_BUCKETS; i++) {
    for (aii_stmt *stmt = sql->cache[i], *next; stmt != NULL; stmt = next) {
      next = stmt->next;
      aii_stmt_free(stmt);
    }
  }
  (void)sqlite3_close_v2(sql->db);
  (void)pthread_mutex_destroy(&sql->lock);
  aii_strfree(sql->mem, sql->path);
  aii_del(sql->mem, sql, sizeof *sql);
}

void aii_sql_lock(aii_sql *sql)
{
  (void)pthread_mutex_lock(&sql->lock);
  if (sql->stale) aii_sql_rollback(sql);
  sql->fresh = false;
}

/* What fails now is tried behind the next commit. */
static void checkpoint(aii_sql *sql)
{
  bool restart = sql->wal_pages >= WAL_RESTART_PAGES;
  sql->wal_pages = 0;
  if (restart) set_timeout(sql, RESTART_MS);
  (void)sqlite3_wal_checkpoint_v2(sql->db, NULL, restart ? SQLITE_CHECKPOINT_RESTART : SQLITE_CHECKPOINT_PASSIVE, NULL,
                                  NULL);
  if (restart) set_timeout(sql, sql->busy_timeout_ms);
}

/* Checkpoints are made here, not within a commit: who has committed may tell others first. */
void aii_sql_unlock(aii_sql *sql)
{
  if (sql->wal_pages >= WAL_PAGES && sqlite3_get_autocommit(sql->db)) checkpoint(sql);
  (void)pthread_mutex_unlock(&sql->lock);
}

aiinfra_status aii_sql_exec(aii_sql *sql, const char *statements, aiinfra_error *err)
{
  int code = sqlite3_exec(sql->db, statements, NULL, NULL, NULL);
  return code == SQLITE_OK ? AIINFRA_OK : aii_sql_fail(sql, code, err);
}

/* ---- hooks ------------------------------------------------------------------------------------------------------- */

void aii_sql_set_hooks(aii_sql *sql, const aii_sql_hooks *hooks, void *ctx, bool read_only)
{
  sql->read_only = read_only;
  sql->hooks = hooks;
  sql->hooks_ctx = ctx;
}

static bool hooked(const aii_sql *sql)
{
  return sql->hooks != NULL && !sql->inside;
}

static aiinfra_status call(aii_sql *sql, aiinfra_status (*hook)(void *, aiinfra_error *), aiinfra_error *err)
{
  sql->inside = true;
  aiinfra_status rc = hook(sql->hooks_ctx, err);
  sql->inside = false;
  return rc;
}

static void end(aii_sql *sql, bool committed)
{
  if (!sql->writing || sql->inside) return;
  sql->writing = false;
  sql->inside = true;
  sql->hooks->end(sql->hooks_ctx, committed);
  sql->inside = false;
}

aiinfra_status aii_sql_freshen(aii_sql *sql, aiinfra_error *err)
{
  if (!hooked(sql) || sql->fresh || !sqlite3_get_autocommit(sql->db)) return AIINFRA_OK;
  aiinfra_status rc = call(sql, sql->hooks->read, err);
  sql->fresh = rc == AIINFRA_OK;
  return rc;
}

/* ---- transactions ------------------------------------------------------------------------------------------------ */

static aiinfra_status begin(aii_sql *sql, aii_stmt *stmt, aiinfra_error *err)
{
  if (!sqlite3_get_autocommit(sql->db)) aii_sql_rollback(sql); /* one that was left open */
  return aii_stmt_run(stmt, err);
}

aiinfra_status aii_sql_begin(aii_sql *sql, aiinfra_error *err)
{
  if (hooked(sql) && sql->read_only)
    return aii_fail(err, AIINFRA_EIO, "%s: the database cannot be written; open it without read_only", sql->path);
  aiinfra_status rc = begin(sql, sql->begin, err);
  if (rc != AIINFRA_OK || !hooked(sql)) return rc;
  rc = call(sql, sql->hooks->begin, err);
  sql->writing = sql->fresh = rc == AIINFRA_OK;
  if (rc != AIINFRA_OK) aii_sql_rollback(sql);
  return rc;
}

aiinfra_status aii_sql_begin_bare(aii_sql *sql, bool wait, aiinfra_error *err)
{
  if (!wait) set_timeout(sql, 0);
  aiinfra_status rc = begin(sql, sql->begin, err);
  if (!wait) set_timeout(sql, sql->busy_timeout_ms);
  return rc;
}

aiinfra_status aii_sql_begin_read(aii_sql *sql, aiinfra_error *err)
{
  if (hooked(sql) && !sqlite3_get_autocommit(sql->db)) aii_sql_rollback(sql);
  aiinfra_status rc = aii_sql_freshen(sql, err);
  return rc == AIINFRA_OK ? begin(sql, sql->begin_read, err) : rc;
}

/* What the hook commit() has made true stays true, even when COMMIT fails here: end() is told. */
aiinfra_status aii_sql_commit(aii_sql *sql, aiinfra_error *err)
{
  bool told = sql->writing && !sql->inside;
  int64_t n_changes = aii_sql_changes(sql), last_id = aii_sql_last_id(sql);
  aiinfra_status rc = told ? call(sql, sql->hooks->commit, err) : AIINFRA_OK;
  if (rc == AIINFRA_OK) {
    rc = aii_stmt_run(sql->commit, err);
    if (rc == AIINFRA_OK) end(sql, true);
    else if (told) rc = AIINFRA_OK;
  }
  if (!sqlite3_get_autocommit(sql->db)) aii_sql_rollback(sql);
  if (told) sql->changes = n_changes;
  if (told) sqlite3_set_last_insert_rowid(sql->db, last_id);
  return rc;
}

void aii_sql_rollback(aii_sql *sql)
{
  if (!sqlite3_get_autocommit(sql->db)) (void)aii_stmt_run(sql->rollback, NULL);
  sql->stale = !sqlite3_get_autocommit(sql->db);
  end(sql, false);
}

bool aii_sql_is_inside(aii_sql *sql)
{
  return !sqlite3_get_autocommit(sql->db);
}

int64_t aii_sql_last_id(aii_sql *sql)
{
  return sqlite3_last_insert_rowid(sql->db);
}

int64_t aii_sql_changes(aii_sql *sql)
{
  return sql->changes >= 0 ? sql->changes : sqlite3_changes(sql->db);
}

bool aii_sql_is_memory(const aii_sql *sql)
{
  return in_memory(sql->path);
}

bool aii_sql_is_read_only(aii_sql *sql)
{
  return sql->read_only || sqlite3_db_readonly(sql->db, "main") == 1;
}

const char *aii_sql_file(aii_sql *sql)
{
  const char *path = sqlite3_db_filename(sql->db, "main");
  return path != NULL ? path : "";
}
