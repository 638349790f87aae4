/* db.c - the database handle: opened once, shared by the stores and memories made from it.
 *
 * Opening checks little of a large file, since SQLite notices damage where it reads; a small one is checked whole,
 * which costs a millisecond and tells of damage before work begins. aii_db_check() reads everything. Any thread.
 */
#include "src/db/db.h"

/* Files up to this many bytes are checked when they are opened. */
enum { SMALL_BYTES = 2 << 20 };

aiinfra_status aii_db_ask_int(aii_sql *sql, const char *literal, int64_t *value, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  aiinfra_status rc = aii_sql_prepare(sql, literal, &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK) *value = row ? aii_stmt_get_int(stmt, 0) : 0;
  aii_stmt_reset(stmt);
  return rc;
}

static aiinfra_status check_small(aii_sql *sql, aiinfra_error *err)
{
  int64_t pages = 0, page_bytes = 0;
  aiinfra_status rc = aii_db_ask_int(sql, "PRAGMA page_count", &pages, err);
  if (rc == AIINFRA_OK) rc = aii_db_ask_int(sql, "PRAGMA page_size", &page_bytes, err);
  if (rc == AIINFRA_OK && pages * page_bytes <= SMALL_BYTES) rc = aii_db_check_pages(sql, true, err);
  return rc;
}

static aiinfra_status open_shared(aiinfra_db *db, const char *uri, const aii_sql_opts *opts, aiinfra_error *err)
{
  aiinfra_status rc = aii_replica_open(&db->rt->mem, uri, opts, &db->replica, err);
  if (rc != AIINFRA_OK) return rc;
  db->sql = aii_replica_sql(db->replica);
  db->path = aii_strdup(&db->rt->mem, aii_replica_name(db->replica));
  return db->path != NULL ? AIINFRA_OK : aii_fail(err, AIINFRA_ENOMEM, "no memory for a path");
}

static aiinfra_status open_file(aiinfra_db *db, const char *path, const aii_sql_opts *opts, aiinfra_error *err)
{
  db->path = aii_strdup(&db->rt->mem, path);
  if (db->path == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a path");
  aiinfra_status rc = aii_sql_open(&db->rt->mem, path, opts, &db->sql, err);
  if (rc != AIINFRA_OK) return rc;
  aii_sql_lock(db->sql);
  rc = check_small(db->sql, err);
  if (rc == AIINFRA_OK) rc = aii_db_migrate(db->sql, opts->read_only, err);
  aii_sql_unlock(db->sql);
  if (rc != AIINFRA_OK) return aii_wrap(err, rc, "%s", path);
  db->opts = *opts;
  db->opts.read_only = db->opts.must_exist = true;
  if (!aii_sql_is_memory(db->sql)) db->file = aii_sql_file(db->sql);
  return AIINFRA_OK;
}

aiinfra_status aii_db_open(aiinfra_runtime *rt, const char *path, const aii_sql_opts *opts, aiinfra_db **out,
                           aiinfra_error *err)
{
  *out = NULL;
  aiinfra_db *db = aii_new(&rt->mem, sizeof *db);
  if (db == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a database");
  atomic_init(&db->refs, 1);
  (void)pthread_mutex_init(&db->readers_lock, NULL); /* a plain mutex of Linux holds no resource: cannot fail */
  db->rt = rt;
  aii_runtime_ref(rt);
  aiinfra_status rc = aii_replica_is_uri(path) ? open_shared(db, path, opts, err) : open_file(db, path, opts, err);
  if (rc != AIINFRA_OK) {
    aii_db_unref(db);
    return rc;
  }
  *out = db;
  return AIINFRA_OK;
}

void aii_db_ref(aiinfra_db *db)
{
  atomic_fetch_add_explicit(&db->refs, 1, memory_order_relaxed);
}

void aii_db_unref(aiinfra_db *db)
{
  if (atomic_fetch_sub_explicit(&db->refs, 1, memory_order_acq_rel) != 1) return;
  aiinfra_runtime *rt = db->rt;
  aii_db_close_readers(db);
  (void)pthread_mutex_destroy(&db->readers_lock);
  if (db->replica != NULL) aii_replica_close(db->replica);
  else aii_sql_close(db->sql);
  aii_strfree(&rt->mem, db->path);
  aii_del(&rt->mem, db, sizeof *db);
  aii_runtime_unref(rt);
}

/* The first collection behind `id`; 0: there is none. */
static aiinfra_status next_collection(aii_sql *sql, int64_t *id, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  aiinfra_status rc = aii_sql_prepare(
      sql, "SELECT id FROM collections WHERE parent IS NULL AND id > ?1 ORDER BY id LIMIT 1", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, *id);
  rc = aii_stmt_step(stmt, &row, err);
  *id = rc == AIINFRA_OK && row ? aii_stmt_get_int(stmt, 0) : 0;
  aii_stmt_reset(stmt);
  return rc;
}

aiinfra_status aii_db_each_collection(aii_sql *sql, aii_collection_fn see, void *ctx, aiinfra_error *err)
{
  int64_t id = 0;
  aiinfra_status rc = next_collection(sql, &id, err);
  while (rc == AIINFRA_OK && id != 0) {
    rc = see(ctx, id, err);
    if (rc == AIINFRA_OK) rc = next_collection(sql, &id, err);
  }
  return rc;
}

aiinfra_status aii_db_describe(aiinfra_db *db, aii_buf *json, aiinfra_error *err)
{
  int64_t pages = 0, page_bytes = 0, collections = 0, memories = 0, documents = 0, runs = 0;
  aii_sql_lock(db->sql);
  aiinfra_status rc = aii_db_ask_int(db->sql, "PRAGMA page_count", &pages, err);
  if (rc == AIINFRA_OK) rc = aii_db_ask_int(db->sql, "PRAGMA page_size", &page_bytes, err);
  if (rc == AIINFRA_OK) {
    rc = aii_db_ask_int(db->sql, "SELECT count(*) FROM collections WHERE name NOT LIKE '@%'", &collections, err);
  }
  if (rc == AIINFRA_OK) rc = aii_db_ask_int(db->sql, "SELECT count(*) FROM items", &memories, err);
  if (rc == AIINFRA_OK) rc = aii_db_ask_int(db->sql, "SELECT count(*) FROM documents", &documents, err);
  if (rc == AIINFRA_OK) rc = aii_db_ask_int(db->sql, "SELECT count(*) FROM runs", &runs, err);
  aii_sql_unlock(db->sql);
  if (rc != AIINFRA_OK) return rc;
  aii_buf_str(json, "{\"path\":");
  aii_buf_json(json, db->path, strlen(db->path));
  aii_buf_fmt(json,
              ",\"version\":%u,\"bytes\":%lld,\"collections\":%lld,\"memories\":%lld,\"documents\":%lld,"
              "\"runs\":%lld}",
              aii_db_version(), (long long)(pages * page_bytes), (long long)collections, (long long)memories,
              (long long)documents, (long long)runs);
  return AIINFRA_OK;
}
