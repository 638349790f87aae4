/* stats.c - what takes how much room in a database, by table and by collection.
 *
 * SQLite's dbstat table walks over all pages; what it says of an index is added to the index's table, and what FTS5 keeps
 * for a collection's words to the collection. One read transaction, with the connection's lock held. Any thread.
 */
#include <stdio.h>
#include <sys/stat.h>

#include "src/db/db.h"

static const char TABLES[] =
    "SELECT t.name, sum(d.bytes) FROM (SELECT name, sum(pgsize) AS bytes FROM dbstat GROUP BY name) d"
    " LEFT JOIN sqlite_schema s ON s.name = d.name"
    " JOIN sqlite_schema t ON t.name = coalesce(s.tbl_name, 'sqlite_schema') AND t.type = 'table'"
    " WHERE t.name NOT LIKE 'words\\_%' ESCAPE '\\' AND t.name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    " GROUP BY t.name ORDER BY t.name";
static const char TABLES_WITHOUT_BYTES[] =
    "SELECT name, NULL FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'words\\_%' ESCAPE '\\'"
    " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
static const char COLLECTIONS[] =
    "SELECT c.id, coalesce(p.name, c.name), c.tenant, c.dims, count(r.row), c.seq, " AII_DB_VECTOR_BYTES
    " * count(r.row),"
    " coalesce(sum(length(CAST(r.text AS BLOB))), 0) + coalesce(sum(length(CAST(r.keywords AS BLOB))), 0),"
    " coalesce(sum(length(CAST(r.payload AS BLOB))), 0),"
    " (SELECT s.bytes FROM snapshots s WHERE s.collection = c.id AND s.gen > 0),"
    " (SELECT s.max_seq FROM snapshots s WHERE s.collection = c.id AND s.gen > 0)"
    " FROM collections c LEFT JOIN collections p ON p.id = c.tenant_of LEFT JOIN rows r ON r.collection = c.id"
    " WHERE c.parent IS NULL GROUP BY c.id ORDER BY coalesce(p.name, c.name), c.tenant";
/* Of the vectors under names of one collection, whose number is put in. Sparse ones have no dims. */
#define NAMED                                                                                               \
  "SELECT c.label, CASE c.kind WHEN 0 THEN 'dense' WHEN 1 THEN 'multi' ELSE 'sparse' END, "                 \
  "CASE WHEN c.kind < 2 THEN c.dims END, c.n_rows, c.seq, coalesce(sum(length(v.vector)), 0), "             \
  "(SELECT s.bytes FROM snapshots s WHERE s.collection = c.id AND s.gen > 0) FROM collections c LEFT JOIN " \
  "rows r ON r.collection = c.id LEFT JOIN vectors v ON v.row = r.row WHERE c.parent = %lld GROUP BY c.id " \
  "ORDER BY c.label"

static bool has_dbstat(aii_sql *sql)
{
  aii_stmt *stmt;
  if (aii_sql_prepare_once(sql, "SELECT 1 FROM dbstat", &stmt, NULL) != AIINFRA_OK) return false;
  aii_stmt_free(stmt);
  return true;
}

/* One integer of a query made at run time. */
static aiinfra_status ask(aii_sql *sql, const char *query, int64_t *value, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  *value = 0;
  aiinfra_status rc = aii_sql_prepare_once(sql, query, &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK && row) *value = aii_stmt_get_int(stmt, 0);
  aii_stmt_free(stmt);
  return rc;
}

static void add_name(aii_buf *json, aii_stmt *stmt, int at)
{
  size_t n;
  const char *name = aii_stmt_get_text(stmt, at, &n);
  aii_buf_json(json, name, n);
}

static void add_bytes(aii_buf *json, const char *key, bool known, int64_t bytes)
{
  aii_buf_fmt(json, known ? ",\"%s\":%lld" : ",\"%s\":null", key, (long long)bytes);
}

static aiinfra_status add_table(aii_sql *sql, aii_stmt *stmt, aii_buf *json, aiinfra_error *err)
{
  char query[160];
  int64_t rows;
  (void)snprintf(query, sizeof query, "SELECT count(*) FROM \"%.100s\"", aii_stmt_get_text(stmt, 0, NULL));
  aiinfra_status rc = ask(sql, query, &rows, err);
  aii_buf_str(json, "{\"name\":");
  add_name(json, stmt, 0);
  aii_buf_fmt(json, ",\"rows\":%lld", (long long)rows);
  add_bytes(json, "bytes", !aii_stmt_is_null(stmt, 1), aii_stmt_get_int(stmt, 1));
  aii_buf_char(json, '}');
  return rc;
}

static aiinfra_status add_named(aii_sql *sql, long long at, aii_buf *json, aiinfra_error *err)
{
  static const char *const keys[] = {NULL, NULL, "dims", "rows", "seq", "vector_bytes", "snapshot_bytes"};
  char query[640];
  aii_stmt *stmt;
  bool row = true, first = true;
  (void)snprintf(query, sizeof query, NAMED, at);
  aiinfra_status rc = aii_sql_prepare_once(sql, query, &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_buf_str(json, ",\"vectors\":[");
  while (rc == AIINFRA_OK && row) {
    rc = aii_stmt_step(stmt, &row, err);
    if (rc != AIINFRA_OK || !row) break;
    aii_buf_str(json, first ? "{\"name\":" : ",{\"name\":");
    first = false;
    add_name(json, stmt, 0);
    aii_buf_str(json, ",\"kind\":");
    add_name(json, stmt, 1);
    for (int i = 2; i < (int)AII_COUNT(keys); i++)
      add_bytes(json, keys[i], !aii_stmt_is_null(stmt, i), aii_stmt_get_int(stmt, i));
    aii_buf_char(json, '}');
  }
  aii_buf_char(json, ']');
  aii_stmt_free(stmt);
  return rc;
}

static aiinfra_status add_collection(aii_sql *sql, aii_stmt *stmt, bool dbstat, aii_buf *json, aiinfra_error *err)
{
  static const char *const keys[] = {NULL,          NULL,           NULL,         "dims",          "rows",
                                     "seq",         "vector_bytes", "text_bytes", "payload_bytes", "snapshot_bytes",
                                     "snapshot_seq"};
  char query[160];
  int64_t words = 0;
  long long at = (long long)aii_stmt_get_int(stmt, 0);
  (void)snprintf(query, sizeof query, "SELECT sum(pgsize) FROM dbstat WHERE name GLOB 'words_%lld_*'", at);
  aiinfra_status rc = dbstat ? ask(sql, query, &words, err) : AIINFRA_OK;
  aii_buf_str(json, "{\"name\":");
  add_name(json, stmt, 1);
  aii_buf_str(json, ",\"tenant\":");
  if (aii_stmt_is_null(stmt, 2)) aii_buf_str(json, "null");
  else add_name(json, stmt, 2);
  for (int i = 3; i < (int)AII_COUNT(keys); i++)
    add_bytes(json, keys[i], !aii_stmt_is_null(stmt, i), aii_stmt_get_int(stmt, i));
  add_bytes(json, "words_bytes", dbstat, words);
  if (rc == AIINFRA_OK) rc = add_named(sql, at, json, err);
  aii_buf_char(json, '}');
  return rc;
}

/* A list in brackets; tables or collections. */
static aiinfra_status add_list(aii_sql *sql, const char *query, bool collections, bool dbstat, aii_buf *json,
                               aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = true, first = true;
  aiinfra_status rc = aii_sql_prepare_once(sql, query, &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_buf_char(json, '[');
  while (rc == AIINFRA_OK && row) {
    rc = aii_stmt_step(stmt, &row, err);
    if (rc != AIINFRA_OK || !row) break;
    if (!first) aii_buf_char(json, ',');
    first = false;
    rc = collections ? add_collection(sql, stmt, dbstat, json, err) : add_table(sql, stmt, json, err);
  }
  aii_buf_char(json, ']');
  aii_stmt_free(stmt);
  return rc;
}

static aiinfra_status add_file(aiinfra_db *db, aii_buf *json, aiinfra_error *err)
{
  int64_t pages = 0, page_bytes = 0, free_pages = 0, log_bytes = 0;
  struct stat st;
  aii_buf log;
  aiinfra_status rc = aii_db_ask_int(db->sql, "PRAGMA page_count", &pages, err);
  if (rc == AIINFRA_OK) rc = aii_db_ask_int(db->sql, "PRAGMA page_size", &page_bytes, err);
  if (rc == AIINFRA_OK) rc = aii_db_ask_int(db->sql, "PRAGMA freelist_count", &free_pages, err);
  aii_buf_init(&log, &db->rt->mem, 0);
  aii_buf_fmt(&log, "%s-wal", aii_sql_file(db->sql));
  if (!log.failed && !aii_sql_is_memory(db->sql) && stat(log.data, &st) == 0) log_bytes = (int64_t)st.st_size;
  aii_buf_free(&log);
  aii_buf_str(json, "{\"path\":");
  aii_buf_json(json, db->path, strlen(db->path));
  aii_buf_fmt(json,
              ",\"version\":%u,\"bytes\":%lld,\"free_bytes\":%lld,\"wal_bytes\":%lld,\"tables\":", aii_db_version(),
              (long long)(pages * page_bytes), (long long)(free_pages * page_bytes), (long long)log_bytes);
  return rc;
}

aiinfra_status aii_db_stats(aiinfra_db *db, aii_buf *json, aiinfra_error *err)
{
  aii_sql_lock(db->sql);
  bool dbstat = has_dbstat(db->sql);
  aiinfra_status rc = aii_sql_begin_read(db->sql, err);
  if (rc == AIINFRA_OK) {
    rc = add_file(db, json, err);
    if (rc == AIINFRA_OK) rc = add_list(db->sql, dbstat ? TABLES : TABLES_WITHOUT_BYTES, false, dbstat, json, err);
    aii_buf_str(json, ",\"collections\":");
    if (rc == AIINFRA_OK) rc = add_list(db->sql, COLLECTIONS, true, dbstat, json, err);
    aii_buf_char(json, '}');
    aii_sql_rollback(db->sql);
  }
  aii_sql_unlock(db->sql);
  return rc;
}
