/* src/db/db.h - the database handle and the one place that knows every table (schema.c).
 *
 * Tables are made by numbered migrations, oldest first, each in a transaction; PRAGMA user_version holds the number,
 * PRAGMA application_id marks the file as ours.
 *
 *   db.c     opens a file         check.c     finds damage
 *   schema.c makes its tables     backup.c    copies it while it is used
 *   stats.c  what takes room      optimise.c  gives room back
 *   expire.c removes rows whose time has passed
 *   reader.c connections for readers, who do not wait for a writer
 *   replica.h  a local copy of a database in a server; truth.h: what a plug-in does for it
 */
#ifndef AII_DB_H
#define AII_DB_H

#include <pthread.h>

#include "aiinfra/db.h"
#include "lib/base/base.h"
#include "lib/sql/sql.h"
#include "src/runtime/runtime.h"

typedef struct aii_replica aii_replica;
enum { AII_READERS = 16 }; /* that are kept open */

struct aiinfra_db {
  aiinfra_runtime *rt;
  aii_sql *sql;
  aii_replica *replica; /* NULL: a file of its own; else the connection is the replica's */
  char *path;
  aii_sql_opts opts; /* of connections for readers (reader.c), which are opened like the one above */
  const char *file;  /* NULL: there are none: it is in memory, or a replica */
  pthread_mutex_t readers_lock;
  aii_sql *readers[AII_READERS]; /* those that nobody uses; guarded by that lock */
  size_t n_readers;
  _Atomic uint32_t refs;
};
/* The table of a collection's words: it is made with the collection, and each node of a shared database has its own. */
#define AII_WORDS_CREATE                                                    \
  "CREATE VIRTUAL TABLE words_%lld USING fts5(text, keywords, content='', " \
  "tokenize='porter unicode61 remove_diacritics 2')"
/* Columns of table collections: one that is below another has no words. */
enum { AII_COLLECTION_ID, AII_COLLECTION_PARENT = 10 };
#define AII_WORDS_DROP "DROP TABLE IF EXISTS words_%lld"
#define AII_WORDS_INSERT "INSERT INTO words_%lld(rowid, text, keywords) VALUES(?1, ?2, ?3)"
#define AII_WORDS_DELETE "INSERT INTO words_%lld(words_%lld, rowid, text, keywords) VALUES('delete', ?1, ?2, ?3)"

/* Bytes "aii1" in the file's header. */
#define AII_DB_APPLICATION_ID 0x61696931u
/* SQL: the bytes of a vector of collection c, by its aiinfra_element; and whether so many are none. */
#define AII_DB_VECTOR_BYTES \
  "(CASE c.element WHEN 2 THEN 2 * c.dims WHEN 3 THEN c.dims + 4 WHEN 4 THEN (c.dims + 7) / 8 ELSE 4 * c.dims END)"
#define AII_DB_VECTOR_IS_WRONG(bytes)                                                                 \
  "(CASE c.kind WHEN 0 THEN " bytes " <> " AII_DB_VECTOR_BYTES " WHEN 1 THEN " bytes " = 0 OR " bytes \
  " % " AII_DB_VECTOR_BYTES " <> 0 ELSE " bytes " = 0 OR " bytes " % 8 <> 0 END)"

aiinfra_status aii_db_open(aiinfra_runtime *rt, const char *path, const aii_sql_opts *opts, aiinfra_db **out,
                           aiinfra_error *err);
/* Brings the tables to this version, or says why that cannot be. Lock held. */
aiinfra_status aii_db_migrate(aii_sql *sql, bool read_only, aiinfra_error *err);
uint32_t aii_db_version(void); /* of the tables this library makes */
aiinfra_status aii_db_describe(aiinfra_db *db, aii_buf *json, aiinfra_error *err);
/* One integer of a query, given as a literal; 0 when there is no row. Lock held. */
aiinfra_status aii_db_ask_int(aii_sql *sql, const char *literal, int64_t *value, aiinfra_error *err);

/* reader.c: a connection for one reader, who gives it back. It sees what is committed, and does not wait for whoever
 * writes. NULL: there is none. No lock held; the connection's is the reader's then. */
aii_sql *aii_db_take_reader(aiinfra_db *db);
void aii_db_give_reader(aiinfra_db *db, aii_sql *sql);
void aii_db_close_readers(aiinfra_db *db);
/* The same, or the database's own connection, locked, where there is none. */
aii_sql *aii_db_read_lock(aiinfra_db *db);
void aii_db_read_unlock(aiinfra_db *db, aii_sql *sql);

/* check.c: the pages alone, of which `quick` skips the indexes (lock held); or the pages and all that the tables promise
 * each other. */
aiinfra_status aii_db_check_pages(aii_sql *sql, bool quick, aiinfra_error *err);
aiinfra_status aii_db_check(aiinfra_db *db, aiinfra_error *err);
/* stats.c */
aiinfra_status aii_db_stats(aiinfra_db *db, aii_buf *json, aiinfra_error *err);
/* backup.c, optimise.c: opts are loaded to the full struct. */
void aii_db_remove_beside(aii_mem *mem, const char *path); /* what SQLite keeps beside a file */
aiinfra_status aii_db_backup(aiinfra_db *db, const char *path, const aiinfra_db_backup_opts *opts, aiinfra_error *err);
aiinfra_status aii_db_optimise(aiinfra_db *db, const aiinfra_db_optimise_opts *opts, aii_buf *json, aiinfra_error *err);
aiinfra_status aii_db_copy(aiinfra_db *from, aiinfra_db *to, const aiinfra_db_copy_opts *opts, aii_buf *json,
                           aiinfra_error *err); /* copy.c */
/* expire.c: removes at most `limit` rows of a collection whose time has passed. Lock held, in the caller's transaction. */
aiinfra_status aii_db_purge(aii_sql *sql, int64_t collection, int64_t now_ms, uint64_t limit, uint64_t *n,
                            aiinfra_error *err);
/* Calls for the id of every collection that has words, which those below others have not, with no statement running: who is
 * called may write. Lock held. */
typedef aiinfra_status (*aii_collection_fn)(void *ctx, int64_t id, aiinfra_error *err);
aiinfra_status aii_db_each_collection(aii_sql *sql, aii_collection_fn see, void *ctx, aiinfra_error *err);
/* words.c: the statements of the last collection: rows come in runs of one. Zeros but for sql; closed at the end. */
typedef struct aii_words {
  aii_sql *sql;
  int64_t collection;
  aii_stmt *insert, *remove;
} aii_words;
/* Adds or takes out the words of the row that the statement gives: row, collection, text, keywords. */
aiinfra_status aii_words_write(aii_words *w, aii_stmt *from, bool add, aiinfra_error *err);
aiinfra_status aii_words_of_row(aii_words *w, int64_t row, bool add, aiinfra_error *err);
void aii_words_close(aii_words *w);

/* replica_open.c: a local copy of a database whose truth lies in a server. */
bool aii_replica_is_uri(const char *path);
aiinfra_status aii_replica_open(aii_mem *mem, const char *uri, const aii_sql_opts *opts, aii_replica **out,
                                aiinfra_error *err);
void aii_replica_close(aii_replica *r); /* with its connection; NULL is allowed */
aii_sql *aii_replica_sql(aii_replica *r);
/* Whether copy and truth hold the same rows. The connection's lock is held, and given up in between. */
aiinfra_status aii_replica_check(aii_replica *r, aiinfra_error *err);
const char *aii_replica_name(const aii_replica *r); /* the server and database, without a password */
void aii_db_ref(aiinfra_db *db);
void aii_db_unref(aiinfra_db *db); /* any thread */

#endif
