/* schema.c - every table of the database, and the steps that made them.
 *
 * Migration i brings version i to i + 1. A step that was released is never edited: a change is a new step. Each runs
 * in a transaction of its own together with the new PRAGMA user_version, so that a killed process leaves a whole
 * version behind, and two processes that open an old file at once agree on who migrates.
 *
 * Vectors. A collection counts its writes in `seq`; each row carries the count of its last write, and the collection
 * that of its last removal. Whoever keeps a copy in memory (the HNSW graph) reads only what is newer than it. Beside
 * these tables each collection has a full-text table of its own, words_<id>, made with it: word statistics, too, stay
 * within a collection.
 *
 * Memory. A scope is a wall: every row below belongs to one. Items are facts (kind 1) and passages (kind 2); their
 * text and vector are rows, with the item's id, of the scope's collection.
 *
 * Thread: any, with the connection's lock held.
 */
#include "src/db/db.h"

static const char *const MIGRATIONS[] = {
    /* 0 -> 1 */
    "CREATE TABLE collections("
    " id INTEGER PRIMARY KEY,"
    " name TEXT NOT NULL UNIQUE,"
    " dims INTEGER NOT NULL,"
    " metric INTEGER NOT NULL,"
    " m INTEGER NOT NULL,"
    " ef_construction INTEGER NOT NULL,"
    " seq INTEGER NOT NULL DEFAULT 0,"
    " removed_seq INTEGER NOT NULL DEFAULT 0,"
    " n_rows INTEGER NOT NULL DEFAULT 0"
    ") STRICT;"

    "CREATE TABLE rows("
    " row INTEGER PRIMARY KEY,"
    " collection INTEGER NOT NULL REFERENCES collections(id),"
    " id INTEGER NOT NULL,"
    " seq INTEGER NOT NULL,"
    " text TEXT,"
    " keywords TEXT," /* indexed for search beside the text, not shown */
    " payload TEXT"
    ") STRICT;"
    "CREATE UNIQUE INDEX rows_by_id ON rows(collection, id);"
    "CREATE INDEX rows_by_seq ON rows(collection, seq, id);"

    "CREATE TABLE vectors("
    " row INTEGER PRIMARY KEY REFERENCES rows(row) ON DELETE CASCADE,"
    " vector BLOB NOT NULL" /* float32, little endian */
    ") STRICT;"

    "CREATE TABLE scopes("
    " id INTEGER PRIMARY KEY,"
    " name TEXT NOT NULL UNIQUE"
    ") STRICT;"

    "CREATE TABLE documents("
    " id INTEGER PRIMARY KEY,"
    " scope INTEGER NOT NULL REFERENCES scopes(id),"
    " path TEXT NOT NULL,"
    " n_bytes INTEGER NOT NULL,"
    " hash BLOB NOT NULL,"
    " created_ms INTEGER NOT NULL,"
    " updated_ms INTEGER NOT NULL,"
    " UNIQUE(scope, path)"
    ") STRICT;"

    "CREATE TABLE items("
    " id INTEGER PRIMARY KEY AUTOINCREMENT," /* the id of a forgotten item never comes back */
    " scope INTEGER NOT NULL REFERENCES scopes(id),"
    " kind INTEGER NOT NULL,"
    " hash INTEGER NOT NULL," /* of the normalised text */
    " document INTEGER REFERENCES documents(id),"
    " first_byte INTEGER NOT NULL,"
    " n_bytes INTEGER NOT NULL,"
    " metadata TEXT,"
    " created_ms INTEGER NOT NULL,"
    " updated_ms INTEGER NOT NULL"
    ") STRICT;"
    "CREATE INDEX items_by_hash ON items(scope, hash);"
    "CREATE INDEX items_by_document ON items(document) WHERE document IS NOT NULL;"

    "CREATE TABLE messages("
    " scope INTEGER NOT NULL REFERENCES scopes(id),"
    " conversation TEXT NOT NULL,"
    " seq INTEGER NOT NULL,"
    " message TEXT NOT NULL,"
    " created_ms INTEGER NOT NULL,"
    " PRIMARY KEY(scope, conversation, seq)"
    ") STRICT, WITHOUT ROWID;"

    "CREATE TABLE blocks("
    " scope INTEGER NOT NULL REFERENCES scopes(id),"
    " label TEXT NOT NULL,"
    " text TEXT NOT NULL,"
    " updated_ms INTEGER NOT NULL,"
    " PRIMARY KEY(scope, label)"
    ") STRICT, WITHOUT ROWID;"

    "CREATE TABLE runs("
    " id INTEGER PRIMARY KEY,"
    " agent TEXT,"
    " state TEXT,"
    " input TEXT,"
    " conversation TEXT,"
    " options TEXT,"
    " created_ms INTEGER,"
    " updated_ms INTEGER"
    ") STRICT;"

    "CREATE TABLE journal("
    " run INTEGER,"
    " seq INTEGER,"
    " kind TEXT,"
    " body TEXT,"
    " created_ms INTEGER,"
    " PRIMARY KEY(run, seq)"
    ") STRICT, WITHOUT ROWID;"
    "PRAGMA application_id=0x61696931;"
    "PRAGMA user_version=1;",
};

uint32_t aii_db_version(void)
{
  return (uint32_t)AII_COUNT(MIGRATIONS);
}

static aiinfra_status version_of(aii_sql *sql, int64_t *version, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  aiinfra_status rc = aii_sql_prepare(sql, "PRAGMA user_version", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK) *version = row ? aii_stmt_get_int(stmt, 0) : 0;
  aii_stmt_reset(stmt);
  return rc;
}

static aiinfra_status check_version(int64_t version, bool read_only, aiinfra_error *err)
{
  int64_t ours = (int64_t)aii_db_version();
  if (version < 0)
    return aii_fail(err, AIINFRA_EFORMAT, "the tables have the impossible version %lld", (long long)version);
  if (version > ours) {
    return aii_fail(err, AIINFRA_ENOTSUP,
                    "the tables have version %lld, this library (%s) knows up to %lld; use a newer library",
                    (long long)version, AIINFRA_VERSION_STRING, (long long)ours);
  }
  if (version < ours && read_only) {
    return aii_fail(err, AIINFRA_ENOTSUP,
                    "the tables have version %lld and must be brought to %lld; open the file once without read_only",
                    (long long)version, (long long)ours);
  }
  return AIINFRA_OK;
}

/* One step, if it is still to be done once the file is ours alone. */
static aiinfra_status step(aii_sql *sql, int64_t *version, aiinfra_error *err)
{
  aiinfra_status rc = aii_sql_begin(sql, err);
  if (rc != AIINFRA_OK) return rc;
  rc = version_of(sql, version, err);
  if (rc == AIINFRA_OK) rc = check_version(*version, false, err);
  if (rc == AIINFRA_OK && *version < (int64_t)aii_db_version()) {
    rc = aii_sql_exec(sql, MIGRATIONS[*version], err);
    if (rc == AIINFRA_OK) *version += 1;
  }
  if (rc == AIINFRA_OK) return aii_sql_commit(sql, err);
  aii_sql_rollback(sql);
  return rc;
}

aiinfra_status aii_db_migrate(aii_sql *sql, bool read_only, aiinfra_error *err)
{
  int64_t version = 0;
  aiinfra_status rc = version_of(sql, &version, err);
  if (rc == AIINFRA_OK) rc = check_version(version, read_only, err);
  while (rc == AIINFRA_OK && version < (int64_t)aii_db_version()) rc = step(sql, &version, err);
  return rc;
}
