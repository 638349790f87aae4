/* sqlerr.c - what went wrong in SQLite, in our words: a status, the cause, and what to do about it. Lock held. */
#include <errno.h>

#include "lib/sql/sql_internal.h"

/* The errno of the last failed call on the database file or its log; SQLite's own record of it may be overwritten by
 * what it did afterwards. */
static int errno_of(aii_sql *sql)
{
  int errnum = 0;
  sqlite3_file *log = NULL;
  if (sql->db == NULL) return 0;
  (void)sqlite3_file_control(sql->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log);
  if (log != NULL && log->pMethods != NULL) {
    (void)log->pMethods->xFileControl(log, SQLITE_FCNTL_LAST_ERRNO, &errnum);
  }
  if (errnum == 0) (void)sqlite3_file_control(sql->db, "main", SQLITE_FCNTL_LAST_ERRNO, &errnum);
  return errnum != 0 ? errnum : sqlite3_system_errno(sql->db);
}

static bool is_write(int code)
{
  return code == SQLITE_IOERR_WRITE || code == SQLITE_IOERR_FSYNC || code == SQLITE_IOERR_TRUNCATE ||
         code == SQLITE_IOERR_SHMSIZE || code == SQLITE_IOERR_DIR_FSYNC;
}

static aiinfra_status fail_io(aii_sql *sql, int code, aiinfra_error *err)
{
  int errnum = is_write(code) ? errno_of(sql) : 0;
  if (code == SQLITE_IOERR_NOMEM) return aii_fail_code(err, AIINFRA_ENOMEM, code, "no memory for the database");
  if (errnum == ENOSPC || errnum == EFBIG || errnum == EDQUOT) {
    return aii_fail_code(err, AIINFRA_ENOSPC, code,
                         "%s: no room to write; free some disk space or raise the limit, then try again", sql->path);
  }
  return aii_fail_code(err, AIINFRA_EIO, code, "%s: %s; check the disk and the file's permissions", sql->path,
                       sqlite3_errstr(code));
}

aiinfra_status aii_sql_fail(aii_sql *sql, int code, aiinfra_error *err)
{
  const char *path = sql->path;
  const char *detail = sql->db != NULL ? sqlite3_errmsg(sql->db) : sqlite3_errstr(code);
  switch (code & 0xFF) {
    case SQLITE_OK: return AIINFRA_OK;
    case SQLITE_NOMEM: return aii_fail_code(err, AIINFRA_ENOMEM, code, "no memory for the database");
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return aii_fail_code(err, AIINFRA_EBUSY, code,
                           "%s: another process has held the database for longer than %u ms; try again or raise "
                           "busy_timeout_ms",
                           path, sql->busy_timeout_ms);
    case SQLITE_FULL:
      return aii_fail_code(err, AIINFRA_ENOSPC, code, "%s: the disk is full; free some space, then try again", path);
    case SQLITE_CORRUPT:
      return aii_fail_code(err, AIINFRA_EFORMAT, code,
                           "%s: the database is damaged (%s); restore it from a backup, or save what can be read with "
                           "sqlite3's .recover",
                           path, detail);
    case SQLITE_NOTADB:
      return aii_fail_code(err, AIINFRA_EFORMAT, code,
                           "%s: the file is not a database; name another file, or delete it to start anew", path);
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
      return aii_fail_code(err, AIINFRA_EIO, code, "%s: the database cannot be written (%s); %s", path, detail,
                           sql->read_only
                               ? "open it without read_only"
                               : "check the permissions of the file and its folder, or open it with read_only");
    case SQLITE_TOOBIG:
      return aii_fail_code(err, AIINFRA_ELIMIT, code, "%s: a value is larger than SQLite stores", path);
    case SQLITE_CONSTRAINT: return aii_fail_code(err, AIINFRA_EEXIST, code, "%s: %s", path, detail);
    case SQLITE_INTERRUPT: return aii_fail_code(err, AIINFRA_ECANCELED, code, "%s: interrupted", path);
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN: return fail_io(sql, code, err);
    default: return aii_fail_code(err, AIINFRA_EINTERNAL, code, "%s: SQLite: %s", path, detail);
  }
}
