/* check.c - finds damage: of pages, which SQLite knows, and of what the tables promise each other, which we know.
 *
 * A promise is a query that gives the text of the first place where it is broken, and nothing when it holds. All of them
 * look at one moment, in one read transaction, so that what others write meanwhile is not taken for damage. The word
 * tables are checked by FTS5 itself where writing is allowed, since it wants an INSERT for that.
 *
 * Thread: any. The connection's lock is held throughout: other users of the handle wait.
 */
#include <stdio.h>

#include "src/db/db.h"

static const char *const PROMISES[] = {
    "SELECT printf('collection %.120s counts %d rows, but has %d', name, n_rows, n) FROM (SELECT name, n_rows,"
    " (SELECT count(*) FROM rows WHERE collection = c.id) AS n FROM collections c) WHERE n <> n_rows",

    "SELECT printf('row %d of collection %.120s has the number %d, beyond the collection''s %d', r.id, c.name, r.seq,"
    " c.seq) FROM collections c JOIN rows r ON r.collection = c.id WHERE r.seq > c.seq OR r.seq < 1",

    "SELECT printf('collection %.120s has impossible numbers', name) FROM collections"
    " WHERE removed_seq > seq OR removed_seq < 0 OR purged_seq > seq OR purged_seq < 0 OR dims NOT BETWEEN 1 AND 65536"
    " OR metric NOT BETWEEN 1 AND 3 OR element NOT BETWEEN 1 AND 4 OR kind NOT BETWEEN 0 AND 2"
    " OR (parent IS NULL) <> (label IS NULL) OR (tenant_of IS NULL) <> (tenant IS NULL)"
    " OR (parent IS NOT NULL AND tenant_of IS NOT NULL)",

    "SELECT printf('row %d of collection %.120s has a vector of %d bytes instead of %d', r.id, c.name,"
    " coalesce(length(v.vector), 0), " AII_DB_VECTOR_BYTES ") FROM collections c JOIN rows r ON r.collection = c.id"
    " LEFT JOIN vectors v ON v.row = r.row WHERE " AII_DB_VECTOR_IS_WRONG("coalesce(length(v.vector), 0)"),

    "SELECT printf('row %d of collection %.120s has the vectors of no row', r.id, c.name) FROM collections c"
    " JOIN rows r ON r.collection = c.id WHERE c.parent IS NOT NULL AND NOT EXISTS"
    " (SELECT 1 FROM rows p WHERE p.collection = c.parent AND p.id = r.id)",

    "SELECT printf('row %d of collection %.120s has a payload that is no JSON', r.id, c.name) FROM collections c"
    " JOIN rows r ON r.collection = c.id WHERE r.payload IS NOT NULL AND NOT json_valid(r.payload)",

    "SELECT printf('collection %.120s is not like the one whose part it is', c.name) FROM collections c"
    " JOIN collections p ON p.id = c.tenant_of WHERE p.dims <> c.dims OR p.metric <> c.metric OR p.element <> "
    "c.element",

    "SELECT printf('vectors ''%.64s'' of a tenant of collection %.120s are not like its own', c.label, p.name)"
    " FROM collections c JOIN collections t ON t.id = c.parent JOIN collections p ON p.id = t.tenant_of"
    " JOIN collections o ON o.parent = p.id AND o.label = c.label"
    " WHERE o.dims <> c.dims OR o.metric <> c.metric OR o.element <> c.element OR o.kind <> c.kind",

    "SELECT printf('collection %.120s has no table of words', name) FROM collections c WHERE parent IS NULL AND NOT "
    "EXISTS"
    " (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'words_' || c.id)",

    "SELECT printf('the snapshot of collection %.120s is ahead of it', c.name) FROM snapshots s JOIN collections c"
    " ON c.id = s.collection WHERE s.gen > s.next OR s.gen < 0 OR s.max_seq > c.seq",

    "SELECT printf('memory %d of scope %.120s has no row', i.id, s.name) FROM items i JOIN scopes s ON s.id = i.scope"
    " WHERE NOT EXISTS (SELECT 1 FROM collections c JOIN rows r ON r.collection = c.id AND r.id = i.id"
    " WHERE substr(c.name, 1, 8) = '@memory/' AND substr(c.name, -length(s.name) - 1) = '/' || s.name)",

    "SELECT printf('row %d of collection %.120s belongs to no memory', r.id, c.name) FROM collections c"
    " JOIN rows r ON r.collection = c.id WHERE substr(c.name, 1, 8) = '@memory/'"
    " AND NOT EXISTS (SELECT 1 FROM items i WHERE i.id = r.id)",
};

/* Of one collection, whose table of words is named by its number: who has words is indexed, and nobody else. */
#define HAS_WORDS "(coalesce(r.text, '') <> '' OR coalesce(r.keywords, '') <> '')"
#define WORDS_PROMISE                                                                                            \
  "SELECT printf('row %%d of collection %%.120s is not found by its words', r.id, c.name) FROM rows r"           \
  " JOIN collections c ON c.id = r.collection WHERE r.collection = %1$lld AND " HAS_WORDS                        \
  " AND NOT EXISTS (SELECT 1 FROM words_%1$lld_docsize d WHERE d.id = r.row) UNION ALL "                         \
  "SELECT printf('collection %%.120s has words of a row that is gone', (SELECT name FROM collections WHERE id =" \
  " %1$lld)) FROM words_%1$lld_docsize d WHERE NOT EXISTS (SELECT 1 FROM rows r WHERE r.row = d.id"              \
  " AND r.collection = %1$lld AND " HAS_WORDS ")"

static aiinfra_status damaged(const char *what, aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_EFORMAT,
                  "the database is damaged (%.300s); restore it from a backup, or save what can be read with sqlite3's "
                  ".recover",
                  what);
}

/* A query whose first row names what is wrong; a row "ok" or none: nothing is. SQLite also tells memory that runs out, or
 * a read that fails, as damage to the page at hand: only what a second look finds too is damage. */
static aiinfra_status expect(aii_sql *sql, const char *query, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool sound = false;
  aiinfra_status rc = aii_sql_prepare_once(sql, query, &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  for (int look = 0; look < 2 && rc == AIINFRA_OK && !sound; look++) {
    bool row;
    aii_stmt_reset(stmt);
    rc = aii_stmt_step(stmt, &row, err);
    sound = !row || strcmp(aii_stmt_get_text(stmt, 0, NULL), "ok") == 0;
  }
  if (rc == AIINFRA_OK && !sound) rc = damaged(aii_stmt_get_text(stmt, 0, NULL), err);
  aii_stmt_free(stmt);
  return rc;
}

aiinfra_status aii_db_check_pages(aii_sql *sql, bool quick, aiinfra_error *err)
{
  return expect(sql, quick ? "PRAGMA quick_check(1)" : "PRAGMA integrity_check(1)", err);
}

static aiinfra_status check_links(aii_sql *sql, aiinfra_error *err)
{
  return expect(sql, "SELECT printf('a row of table %s belongs to nothing', \"table\") FROM pragma_foreign_key_check",
                err);
}

static aiinfra_status check_words(void *ctx, int64_t id, aiinfra_error *err)
{
  char query[1024];
  (void)snprintf(query, sizeof query, WORDS_PROMISE, (long long)id);
  return expect(ctx, query, err);
}

/* Names the collection whose words are damaged. One that another process has dropped meanwhile has none to be checked. */
static aiinfra_status name_words(aii_sql *sql, int64_t id, aiinfra_error *err, aiinfra_status rc)
{
  aii_stmt *stmt;
  bool row = false;
  if (aii_sql_prepare(sql, "SELECT name FROM collections WHERE id = ?1", &stmt, NULL) != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, id);
  bool asked = aii_stmt_step(stmt, &row, NULL) == AIINFRA_OK;
  if (asked && !row) rc = AIINFRA_OK;
  else if (asked && rc == AIINFRA_EFORMAT) {
    rc = aii_wrap(err, rc, "the words of collection %.120s", aii_stmt_get_text(stmt, 0, NULL));
  }
  aii_stmt_reset(stmt);
  return rc;
}

/* To SQLite this is a write: it waits for its turn, in no transaction whose view others may have written behind. */
static aiinfra_status check_word_index(void *ctx, int64_t id, aiinfra_error *err)
{
  char query[96];
  (void)snprintf(query, sizeof query, "INSERT INTO words_%lld(words_%lld) VALUES('integrity-check')", (long long)id,
                 (long long)id);
  aiinfra_status rc = aii_sql_exec(ctx, query, err);
  return rc == AIINFRA_OK ? rc : name_words(ctx, id, err, rc);
}

static aiinfra_status check_promises(aii_sql *sql, aiinfra_error *err)
{
  aiinfra_status rc = aii_sql_begin_read(sql, err);
  if (rc != AIINFRA_OK) return rc;
  rc = aii_db_check_pages(sql, false, err);
  if (rc == AIINFRA_OK) rc = check_links(sql, err);
  for (size_t i = 0; rc == AIINFRA_OK && i < AII_COUNT(PROMISES); i++) rc = expect(sql, PROMISES[i], err);
  if (rc == AIINFRA_OK) rc = aii_db_each_collection(sql, check_words, sql, err);
  aii_sql_rollback(sql);
  return rc;
}

aiinfra_status aii_db_check(aiinfra_db *db, aiinfra_error *err)
{
  aii_sql_lock(db->sql);
  aiinfra_status rc = check_promises(db->sql, err);
  if (rc == AIINFRA_OK && !aii_sql_is_read_only(db->sql)) {
    rc = aii_db_each_collection(db->sql, check_word_index, db->sql, err);
  }
  if (rc == AIINFRA_OK && db->replica != NULL) rc = aii_replica_check(db->replica, err);
  aii_sql_unlock(db->sql);
  return rc;
}
