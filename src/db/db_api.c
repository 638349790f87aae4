/* db_api.c - the public functions of aiinfra/db.h: check arguments, load options, call down. */
#include "src/db/db.h"

enum { DEFAULT_BUSY_MS = 5000 };

static aiinfra_status check_opts(const aiinfra_db_opts *o, aiinfra_error *err)
{
  if (o->read_only < 0 || o->read_only > 1 || o->must_exist < 0 || o->must_exist > 1) {
    return aii_fail(err, AIINFRA_EINVAL, "read_only and must_exist are 0 or 1");
  }
  if (o->synchronous < -1 || o->synchronous > 1) return aii_fail(err, AIINFRA_EINVAL, "synchronous is -1, 0 or 1");
  return AIINFRA_OK;
}

aiinfra_status aiinfra_db_open(aiinfra_runtime *runtime, const char *path, const aiinfra_db_opts *opts,
                               aiinfra_db **out, aiinfra_error *err)
{
  aiinfra_db_opts o;
  if (out == NULL) return aii_fail(err, AIINFRA_EINVAL, "out is NULL");
  *out = NULL;
  if (runtime == NULL || path == NULL) return aii_fail(err, AIINFRA_EINVAL, "runtime or path is NULL");
  aiinfra_status rc = AII_OPTS_LOAD(&o, opts, synchronous, err);
  if (rc == AIINFRA_OK) rc = check_opts(&o, err);
  if (rc != AIINFRA_OK) return rc;
  aii_sql_opts sql = {
      .busy_timeout_ms = o.busy_timeout_ms != 0 ? o.busy_timeout_ms : DEFAULT_BUSY_MS,
      .application_id = AII_DB_APPLICATION_ID,
      .read_only = o.read_only == 1,
      .must_exist = o.must_exist == 1,
      .synchronous_full = o.synchronous >= 0,
  };
  rc = aii_db_open(runtime, path, &sql, out, err);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "open database");
}

void aiinfra_db_free(aiinfra_db *db)
{
  if (db != NULL) aii_db_unref(db);
}

aiinfra_status aiinfra_db_check(aiinfra_db *db, aiinfra_error *err)
{
  if (db == NULL) return aii_fail(err, AIINFRA_EINVAL, "db is NULL");
  aiinfra_status rc = aii_db_check(db, err);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "check database %s", db->path);
}

aiinfra_status aiinfra_db_describe(aiinfra_db *db, char **out_json, aiinfra_error *err)
{
  if (out_json == NULL) return aii_fail(err, AIINFRA_EINVAL, "out_json is NULL");
  *out_json = NULL;
  if (db == NULL) return aii_fail(err, AIINFRA_EINVAL, "db is NULL");
  aii_buf json;
  aii_buf_init(&json, &db->rt->mem, 0);
  aiinfra_status rc = aii_db_describe(db, &json, err);
  if (rc == AIINFRA_OK) return aii_buf_export(&json, out_json, err);
  aii_buf_free(&json);
  return aii_wrap(err, rc, "describe database %s", db->path);
}

/* Hands a result over, or drops it when there is a failure. */
static aiinfra_status give(aii_buf *json, aiinfra_status rc, char **out_json, aiinfra_error *err)
{
  if (rc == AIINFRA_OK && out_json != NULL) return aii_buf_export(json, out_json, err);
  aii_buf_free(json);
  return rc;
}

aiinfra_status aiinfra_db_stats(aiinfra_db *db, char **out_json, aiinfra_error *err)
{
  if (out_json == NULL) return aii_fail(err, AIINFRA_EINVAL, "out_json is NULL");
  *out_json = NULL;
  if (db == NULL) return aii_fail(err, AIINFRA_EINVAL, "db is NULL");
  aii_buf json;
  aii_buf_init(&json, &db->rt->mem, 0);
  aiinfra_status rc = give(&json, aii_db_stats(db, &json, err), out_json, err);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "measure database %s", db->path);
}

aiinfra_status aiinfra_db_backup(aiinfra_db *db, const char *path, const aiinfra_db_backup_opts *opts,
                                 aiinfra_error *err)
{
  aiinfra_db_backup_opts o;
  if (db == NULL || path == NULL) return aii_fail(err, AIINFRA_EINVAL, "db or path is NULL");
  aiinfra_status rc = AII_OPTS_LOAD(&o, opts, check, err);
  if (rc != AIINFRA_OK) return rc;
  if (o.check < -1 || o.check > 1) return aii_fail(err, AIINFRA_EINVAL, "check is -1, 0 or 1");
  if (path[0] == '\0' || path[0] == ':') return aii_fail(err, AIINFRA_EINVAL, "'%.64s' is no path of a file", path);
  rc = aii_db_backup(db, path, &o, err);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "back up database %s", db->path);
}

aiinfra_status aiinfra_db_optimise(aiinfra_db *db, const aiinfra_db_optimise_opts *opts, char **out_json,
                                   aiinfra_error *err)
{
  aiinfra_db_optimise_opts o;
  if (out_json != NULL) *out_json = NULL;
  if (db == NULL) return aii_fail(err, AIINFRA_EINVAL, "db is NULL");
  aiinfra_status rc = AII_OPTS_LOAD(&o, opts, reserved, err);
  if (rc != AIINFRA_OK) return rc;
  if (o.reserved != 0) return aii_fail(err, AIINFRA_ENOTSUP, "reserved must be 0");
  if (o.rewrite < 0 || o.rewrite > 1) return aii_fail(err, AIINFRA_EINVAL, "rewrite is 0 or 1");
  aii_buf json;
  aii_buf_init(&json, &db->rt->mem, 0);
  rc = give(&json, aii_db_optimise(db, &o, &json, err), out_json, err);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "optimise database %s", db->path);
}

aiinfra_status aiinfra_db_copy(aiinfra_db *from, aiinfra_db *to, const aiinfra_db_copy_opts *opts, char **out_json,
                               aiinfra_error *err)
{
  aiinfra_db_copy_opts o;
  if (out_json != NULL) *out_json = NULL;
  if (from == NULL || to == NULL) return aii_fail(err, AIINFRA_EINVAL, "from or to is NULL");
  if (from == to) return aii_fail(err, AIINFRA_EINVAL, "a database is not copied into itself");
  aiinfra_status rc = AII_OPTS_LOAD(&o, opts, progress_user, err);
  if (rc != AIINFRA_OK) return rc;
  aii_buf json;
  aii_buf_init(&json, &from->rt->mem, 0);
  rc = give(&json, aii_db_copy(from, to, &o, &json, err), out_json, err);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "copy database %s", from->path);
}
