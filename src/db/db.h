/* src/db/db.h - the database handle and the one place that knows every table (schema.c).
 *
 * Tables are made by numbered migrations, oldest first, each in a transaction; PRAGMA user_version holds the number,
 * PRAGMA application_id marks the file as ours.
 *
 *   db.c     opens a file         check.c     finds damage
 *   schema.c makes its tables     backup.c    copies it while it is used
 *   stats.c  what takes room      optimise.c  gives room back
 *   expire.c removes rows whose time has passed
 */
#ifndef AII_DB_H
#define AII_DB_H

#include "aiinfra/db.h"
#include "lib/base/base.h"
#include "lib/sql/sql.h"
#include "src/runtime/runtime.h"

struct aiinfra_db {
  aiinfra_runtime *rt;
  aii_sql *sql;
  char *path;
  _Atomic uint32_t refs;
};
/* Bytes "aii1" in the file's header. */
#define AII_DB_APPLICATION_ID 0x61696931u

aiinfra_status aii_db_open(aiinfra_runtime *rt, const char *path, const aii_sql_opts *opts, aiinfra_db **out,
                           aiinfra_error *err);
/* Brings the tables to this version, or says why that cannot be. Lock held. */
aiinfra_status aii_db_migrate(aii_sql *sql, bool read_only, aiinfra_error *err);
uint32_t aii_db_version(void); /* of the tables this library makes */
aiinfra_status aii_db_describe(aiinfra_db *db, aii_buf *json, aiinfra_error *err);
/* One integer of a query, given as a literal; 0 when there is no row. Lock held. */
aiinfra_status aii_db_ask_int(aii_sql *sql, const char *literal, int64_t *value, aiinfra_error *err);

/* check.c: the pages alone, of which `quick` skips the indexes (lock held); or the pages and all that the tables promise
 * each other. */
aiinfra_status aii_db_check_pages(aii_sql *sql, bool quick, aiinfra_error *err);
aiinfra_status aii_db_check(aiinfra_db *db, aiinfra_error *err);
/* stats.c */
aiinfra_status aii_db_stats(aiinfra_db *db, aii_buf *json, aiinfra_error *err);
/* backup.c, optimise.c: opts are loaded to the full struct. */
aiinfra_status aii_db_backup(aiinfra_db *db, const char *path, const aiinfra_db_backup_opts *opts, aiinfra_error *err);
aiinfra_status aii_db_optimise(aiinfra_db *db, const aiinfra_db_optimise_opts *opts, aii_buf *json, aiinfra_error *err);
/* expire.c: removes at most `limit` rows of a collection whose time has passed. Lock held, in the caller's transaction. */
aiinfra_status aii_db_purge(aii_sql *sql, int64_t collection, int64_t now_ms, uint64_t limit, uint64_t *n,
                            aiinfra_error *err);
/* Calls for every collection's id and name, lock held. */
typedef aiinfra_status (*aii_collection_fn)(void *ctx, int64_t id, const char *name, aiinfra_error *err);
aiinfra_status aii_db_each_collection(aii_sql *sql, aii_collection_fn see, void *ctx, aiinfra_error *err);
void aii_db_ref(aiinfra_db *db);
void aii_db_unref(aiinfra_db *db); /* any thread */

#endif
