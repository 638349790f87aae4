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
 * A fact has two times: when it holds in the world (valid_from_ms to valid_to_ms, or ended_ms once that was learnt),
 * and when it was believed (created_ms to retired_ms). Versions of a fact share a chain.
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
    " vector BLOB NOT NULL" /* as the collection's element says; numbers are little endian */
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

    /* memory: facts in two times, and the response cache */
    "ALTER TABLE items ADD COLUMN valid_from_ms INTEGER;" /* NULL: created_ms */
    "ALTER TABLE items ADD COLUMN valid_to_ms INTEGER;"   /* as it was told; NULL: open */
    "ALTER TABLE items ADD COLUMN ended_ms INTEGER;"      /* when it ceased to hold, as was learnt at ended_at_ms */
    "ALTER TABLE items ADD COLUMN ended_at_ms INTEGER;"
    "ALTER TABLE items ADD COLUMN retired_ms INTEGER;" /* when a revision took its place */
    "ALTER TABLE items ADD COLUMN expires_ms INTEGER;"
    "ALTER TABLE items ADD COLUMN chain INTEGER;" /* the first version's id; NULL: its own */
    "ALTER TABLE items ADD COLUMN previous INTEGER;"
    "ALTER TABLE items ADD COLUMN source TEXT;"
    "ALTER TABLE items ADD COLUMN trust REAL;"
    "ALTER TABLE items ADD COLUMN importance REAL;"
    "ALTER TABLE items ADD COLUMN reinforced INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE items ADD COLUMN wording_hash INTEGER;" /* of the canonical wording; NULL: it has none */
    "CREATE INDEX items_by_wording ON items(scope, wording_hash) WHERE wording_hash IS NOT NULL;"
    "CREATE INDEX items_by_chain ON items(chain) WHERE chain IS NOT NULL;"
    "CREATE INDEX items_by_expiry ON items(scope, expires_ms) WHERE expires_ms IS NOT NULL;"
    "CREATE TABLE forgotten(" /* that something was, not what */
    " item INTEGER PRIMARY KEY,"
    " scope INTEGER NOT NULL REFERENCES scopes(id),"
    " forgotten_ms INTEGER NOT NULL"
    ") STRICT;"

    "CREATE TABLE cache_partitions("
    " id INTEGER PRIMARY KEY,"
    " hash INTEGER NOT NULL,"
    " tenant TEXT NOT NULL,"
    " key TEXT NOT NULL"
    ") STRICT;"
    "CREATE INDEX cache_partitions_by_hash ON cache_partitions(hash);"
    "CREATE TABLE cache_entries("
    " id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " partition INTEGER NOT NULL REFERENCES cache_partitions(id),"
    " question TEXT NOT NULL,"
    " question_hash INTEGER NOT NULL,"
    " wording TEXT,"
    " wording_hash INTEGER,"
    " vector BLOB,"
    " response TEXT NOT NULL,"
    " threshold REAL,"
    " tokens INTEGER NOT NULL,"
    " n_bytes INTEGER NOT NULL,"
    " created_ms INTEGER NOT NULL,"
    " expires_ms INTEGER NOT NULL,"
    " used INTEGER NOT NULL," /* larger: later */
    " hits INTEGER NOT NULL DEFAULT 0"
    ") STRICT;"
    "CREATE INDEX cache_entries_by_question ON cache_entries(partition, question_hash);"
    "CREATE INDEX cache_entries_by_wording ON cache_entries(partition, wording_hash);"
    "CREATE INDEX cache_entries_by_partition_use ON cache_entries(partition, used);"
    "CREATE INDEX cache_entries_by_use ON cache_entries(used);"
    "CREATE INDEX cache_entries_by_expiry ON cache_entries(expires_ms);"
    "CREATE TABLE cache_false(" /* wordings that were served wrongly */
    " partition INTEGER NOT NULL REFERENCES cache_partitions(id),"
    " wording TEXT NOT NULL,"
    " threshold REAL NOT NULL,"
    " PRIMARY KEY(partition, wording)"
    ") STRICT, WITHOUT ROWID;"
    "CREATE TABLE cache_counts("
    " name TEXT PRIMARY KEY,"
    " n INTEGER NOT NULL"
    ") STRICT, WITHOUT ROWID;"
    "PRAGMA user_version=2;",

    /* memory: where a document's file lies, and other ways to embed than the one that needs no model */
    "ALTER TABLE documents ADD COLUMN real_path TEXT;" /* NULL: written by an older library */
    "CREATE INDEX documents_by_real_path ON documents(scope, real_path);"
    "CREATE TABLE embedders("
    " scope INTEGER NOT NULL REFERENCES scopes(id),"
    " name TEXT NOT NULL,"
    " dims INTEGER NOT NULL,"
    " active INTEGER NOT NULL," /* searches use it; before that it is being filled */
    " seq INTEGER NOT NULL,"    /* of the scope's collection when this one last had all of its items */
    " PRIMARY KEY(scope, name)"
    ") STRICT, WITHOUT ROWID;"
    "PRAGMA user_version=3;",

    /* memory: what blocks may hold, and summaries of conversations */
    "ALTER TABLE blocks ADD COLUMN limit_bytes INTEGER;" /* NULL: the most there is */
    "ALTER TABLE blocks ADD COLUMN description TEXT;"
    "ALTER TABLE blocks ADD COLUMN read_only INTEGER NOT NULL DEFAULT 0;"
    "CREATE TABLE summaries(" /* of messages, which stay */
    " scope INTEGER NOT NULL REFERENCES scopes(id),"
    " conversation TEXT NOT NULL,"
    " first_seq INTEGER NOT NULL,"
    " last_seq INTEGER NOT NULL,"
    " text TEXT NOT NULL,"
    " created_ms INTEGER NOT NULL,"
    " PRIMARY KEY(scope, conversation, first_seq)"
    ") STRICT, WITHOUT ROWID;"
    "PRAGMA user_version=4;",

    /* snapshots of graphs, which are files beside this one */
    "CREATE TABLE identity("
    " uuid BLOB NOT NULL" /* the same in all copies */
    ") STRICT;"
    "INSERT INTO identity VALUES(randomblob(16));"
    "CREATE TABLE snapshots("
    " collection INTEGER PRIMARY KEY REFERENCES collections(id),"
    " next INTEGER NOT NULL,"               /* the last generation that somebody began */
    " gen INTEGER NOT NULL DEFAULT 0,"      /* the one that counts; 0: none */
    " nonce INTEGER NOT NULL DEFAULT 0,"    /* which its file repeats */
    " max_seq INTEGER NOT NULL DEFAULT -1," /* rows up to here are in it */
    " n_graph INTEGER NOT NULL DEFAULT 0,"  /* slots in its graph */
    " bytes INTEGER NOT NULL DEFAULT 0"
    ") STRICT;"
    "PRAGMA user_version=5;",

    /* vectors in fewer bytes */
    "ALTER TABLE collections ADD COLUMN element INTEGER NOT NULL DEFAULT 1;" /* an aiinfra_element */
    "PRAGMA user_version=6;",

    /* named vectors: collections below a collection, whose rows have the ids of its rows and leave with them */
    "ALTER TABLE collections ADD COLUMN parent INTEGER REFERENCES collections(id);" /* NULL: none */
    "ALTER TABLE collections ADD COLUMN label TEXT;"                                /* its name below the parent */
    "ALTER TABLE collections ADD COLUMN kind INTEGER NOT NULL DEFAULT 0;" /* 1: several vectors a row, 2: sparse */
    "CREATE UNIQUE INDEX collections_by_parent ON collections(parent, label) WHERE parent IS NOT NULL;"
    "CREATE TRIGGER rows_leave AFTER DELETE ON rows"
    " WHEN EXISTS (SELECT 1 FROM collections WHERE parent = OLD.collection) BEGIN"
    " UPDATE collections SET seq = seq + 1, removed_seq = seq + 1, n_rows = n_rows - 1 WHERE parent = OLD.collection"
    " AND EXISTS (SELECT 1 FROM rows WHERE collection = collections.id AND id = OLD.id);"
    " DELETE FROM rows WHERE id = OLD.id"
    " AND collection IN (SELECT id FROM collections WHERE parent = OLD.collection);"
    " END;"
    "PRAGMA user_version=7;",

    /* rows that live until a time; collections that are a tenant's part of another one, which is no parent: rows of the
     * two may have the same ids and nothing else in common */
    "ALTER TABLE rows ADD COLUMN expires_ms INTEGER;" /* since 1970; NULL: never */
    "CREATE INDEX rows_by_expiry ON rows(collection, expires_ms) WHERE expires_ms IS NOT NULL;"
    "ALTER TABLE collections ADD COLUMN purged_seq INTEGER NOT NULL DEFAULT 0;" /* newest of expired rows that went */
    "ALTER TABLE collections ADD COLUMN tenant_of INTEGER REFERENCES collections(id);" /* NULL: it is no tenant's */
    "ALTER TABLE collections ADD COLUMN tenant TEXT;"                                  /* whose rows it has */
    "CREATE UNIQUE INDEX collections_by_tenant ON collections(tenant_of, tenant) WHERE tenant_of IS NOT NULL;"
    "CREATE TABLE collection_ids(" /* of collections that were dropped none comes back; no row: none was dropped yet */
    " one INTEGER PRIMARY KEY CHECK(one = 1),"
    " next INTEGER NOT NULL"
    ") STRICT;"
    "PRAGMA user_version=8;",
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
