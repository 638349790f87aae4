/* backup.c - copies the database into a new file while it is used.
 *
 * The happy path: a file is begun aside -> pages go into it step by step, with the progress told between them -> the copy
 * is opened and checked like any database -> it is synced and gets its name. A copy that fails in between is removed.
 *
 * The copy must not meet a log of an older file of its name: SQLite would play it back into the copy. Any thread, no
 * lock held.
 */
#include <unistd.h>

#include "src/db/db.h"

enum { STEP_PAGES = 256 };

static aiinfra_status check_free(aii_mem *mem, const char *path, aiinfra_error *err)
{
  static const char *const endings[] = {"", "-wal", "-journal"};
  aiinfra_status rc = AIINFRA_OK;
  aii_buf name;
  aii_buf_init(&name, mem, 0);
  for (size_t i = 0; rc == AIINFRA_OK && i < AII_COUNT(endings); i++) {
    aii_buf_clear(&name);
    aii_buf_fmt(&name, "%s%s", path, endings[i]);
    if (name.failed) rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for a path");
    else if (access(name.data, F_OK) == 0) {
      rc = aii_fail(err, AIINFRA_EEXIST, "%s exists already; name another file, or remove it first", name.data);
    }
  }
  aii_buf_free(&name);
  return rc;
}

static aiinfra_status copy_pages(aiinfra_db *db, const char *path, const aiinfra_db_backup_opts *opts,
                                 aiinfra_error *err)
{
  aii_sql_copy *copy;
  double fraction = 0;
  uint32_t step = opts->step_pages != 0 ? opts->step_pages : STEP_PAGES;
  aiinfra_status rc = aii_sql_copy_open(db->sql, path, &copy, err);
  while (rc == AIINFRA_OK && fraction < 1) {
    rc = aii_sql_copy_step(copy, step, &fraction, err);
    if (rc == AIINFRA_OK && opts->progress != NULL && opts->progress(opts->progress_user, fraction) != 0) {
      rc = aii_fail(err, AIINFRA_ECANCELED, "the progress callback asked for it");
    }
  }
  if (copy != NULL) aii_sql_copy_close(copy);
  return rc;
}

/* As any database is opened; the version is that of the original, so nothing is migrated. */
static aiinfra_status check_copy(aiinfra_db *db, const char *path, aiinfra_error *err)
{
  aii_sql_opts opts = {.must_exist = true, .application_id = AII_DB_APPLICATION_ID};
  aiinfra_db *copy;
  aiinfra_status rc = aii_db_open(db->rt, path, &opts, &copy, err);
  if (rc != AIINFRA_OK) return rc;
  rc = aii_db_check(copy, err);
  aii_db_unref(copy);
  return rc;
}

void aii_db_remove_beside(aii_mem *mem, const char *path)
{
  static const char *const endings[] = {"-journal", "-wal", "-shm"};
  aii_buf name;
  aii_buf_init(&name, mem, 0);
  for (size_t i = 0; i < AII_COUNT(endings); i++) {
    aii_buf_clear(&name);
    aii_buf_fmt(&name, "%s%s", path, endings[i]);
    if (!name.failed) (void)unlink(name.data);
  }
  aii_buf_free(&name);
}

aiinfra_status aii_db_backup(aiinfra_db *db, const char *path, const aiinfra_db_backup_opts *opts, aiinfra_error *err)
{
  aii_mem *mem = &db->rt->mem;
  aii_aside file;
  aiinfra_status rc = check_free(mem, path, err);
  if (rc == AIINFRA_OK) rc = aii_aside_open(&file, mem, path, err);
  if (rc != AIINFRA_OK) return rc;
  rc = copy_pages(db, file.path.data, opts, err);
  if (rc == AIINFRA_OK && opts->check >= 0) {
    rc = check_copy(db, file.path.data, err);
    if (rc != AIINFRA_OK) rc = aii_wrap(err, rc, "check the copy");
  }
  if (rc != AIINFRA_OK) aii_db_remove_beside(mem, file.path.data);
  return aii_aside_close(&file, rc, err);
}
