/* copy.c - copies a database into a new file while it is used.
 *
 * The happy path: a second connection begins to read, which fixes what it sees; then pages go over step by step. Without
 * the open transaction every commit of another connection would send the copy back to its first page, and a busy
 * database would never be copied. The log grows while it is open, since what it sees is kept.
 *
 * A database in memory has one connection only. SQLite itself brings what that one writes between two steps into the
 * copy. What can fail: reading, writing the copy (a full disk), memory. Any thread.
 */
#include "lib/sql/sql_internal.h"

struct aii_sql_copy {
  aii_sql *from, *own; /* own: opened here, to be closed; NULL when from is the caller's */
  aii_sql to;          /* only to tell of failures */
  sqlite3_backup *backup;
};

static aiinfra_status open_source(aii_sql_copy *copy, aii_sql *from, aiinfra_error *err)
{
  aii_sql_opts opts = {.busy_timeout_ms = from->busy_timeout_ms, .read_only = true, .must_exist = true};
  aii_stmt *stmt;
  bool row;
  copy->from = from;
  if (aii_sql_is_memory(from)) return AIINFRA_OK;
  aiinfra_status rc = aii_sql_open(from->mem, from->path, &opts, &copy->own, err);
  if (rc != AIINFRA_OK) return rc;
  copy->from = copy->own;
  rc = aii_sql_begin_read(copy->own, err);
  if (rc == AIINFRA_OK) rc = aii_sql_prepare_once(copy->own, "SELECT count(*) FROM sqlite_schema", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  rc = aii_stmt_step(stmt, &row, err); /* what is read is fixed by the first read, not by BEGIN */
  aii_stmt_free(stmt);
  return rc;
}

static aiinfra_status open_copy(aii_sql_copy *copy, const char *path, aiinfra_error *err)
{
  aii_sql *to = &copy->to;
  to->mem = copy->from->mem;
  to->path = aii_strdup(to->mem, path);
  if (to->path == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a path");
  int code = sqlite3_open_v2(path, &to->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
  if (code == SQLITE_OK) code = sqlite3_extended_result_codes(to->db, 1);
  if (code != SQLITE_OK) return aii_sql_fail(to, code, err);
  aii_sql_lock(copy->from);
  copy->backup = sqlite3_backup_init(to->db, "main", copy->from->db, "main");
  code = sqlite3_extended_errcode(to->db);
  aii_sql_unlock(copy->from);
  return copy->backup != NULL ? AIINFRA_OK : aii_sql_fail(to, code, err);
}

aiinfra_status aii_sql_copy_open(aii_sql *from, const char *path, aii_sql_copy **out, aiinfra_error *err)
{
  *out = NULL;
  aii_sql_copy *copy = aii_new(from->mem, sizeof *copy);
  if (copy == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a copy");
  aiinfra_status rc = open_source(copy, from, err);
  if (rc == AIINFRA_OK) rc = open_copy(copy, path, err);
  if (rc == AIINFRA_OK) *out = copy;
  else aii_sql_copy_close(copy);
  return rc;
}

aiinfra_status aii_sql_copy_step(aii_sql_copy *copy, uint32_t n_pages, double *fraction, aiinfra_error *err)
{
  aii_sql_lock(copy->from);
  int code = sqlite3_backup_step(copy->backup, (int)AII_MIN(n_pages, (uint32_t)INT32_MAX));
  int left = sqlite3_backup_remaining(copy->backup), all = sqlite3_backup_pagecount(copy->backup);
  aii_sql_unlock(copy->from);
  *fraction = all > 0 ? (double)(all - left) / (double)all : 0;
  if (code == SQLITE_DONE) {
    *fraction = 1;
    return AIINFRA_OK;
  }
  if (*fraction >= 1) *fraction = 0.999; /* the last page is there, but not the end */
  return code == SQLITE_OK ? AIINFRA_OK : aii_sql_fail(&copy->to, code, err);
}

void aii_sql_copy_close(aii_sql_copy *copy)
{
  if (copy == NULL) return;
  aii_mem *mem = copy->from->mem;
  aii_sql_lock(copy->from);
  (void)sqlite3_backup_finish(copy->backup);
  aii_sql_unlock(copy->from);
  (void)sqlite3_close_v2(copy->to.db);
  aii_strfree(mem, copy->to.path);
  if (copy->own != NULL) {
    aii_sql_rollback(copy->own);
    aii_sql_close(copy->own);
  }
  aii_del(mem, copy, sizeof *copy);
}
