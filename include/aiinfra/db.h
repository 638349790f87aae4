/* aiinfra/db.h - the one file that holds an agent: vectors, memory, journals, documents.
 *
 * A database is one SQLite file in WAL mode; ":memory:" keeps it in memory. An address such as
 * postgres://user@host/name in place of a path opens one that lies in PostgreSQL and that several processes share, each
 * with a local copy (docs/postgres.md). Its tables carry a version and are migrated forward when the file is opened. The functions of db, vecstore and memory block on the disk: they may be
 * called from any thread, and should not be called from a loop that must stay responsive.
 */
#ifndef AIINFRA_DB_H
#define AIINFRA_DB_H

#include "aiinfra/runtime.h"
#include "aiinfra/types.h"

#ifdef __cplusplus
extern "C" {
#endif

/** A database file. */
typedef struct aiinfra_db aiinfra_db;

/** Options of aiinfra_db_open(). Zero is the default of every field. */
typedef struct aiinfra_db_opts {
  size_t struct_size;       /**< sizeof this struct; set by AIINFRA_DB_OPTS_INIT */
  uint32_t busy_timeout_ms; /**< how long to wait for another process's lock; 0: 5000 */
  int32_t read_only;        /**< 1: never write; the file must exist and have this version's tables */
  int32_t must_exist;       /**< 1: AIINFRA_ENOENT instead of creating the file */
  int32_t synchronous;      /**< survive power loss at every commit: 0: default (on), 1: on, -1: only crashes */
} aiinfra_db_opts;

/** Initialiser of aiinfra_db_opts. */
#define AIINFRA_DB_OPTS_INIT            \
  {                                     \
    sizeof(aiinfra_db_opts), 0, 0, 0, 0 \
  }

/**
 * Opens or creates a database.
 *
 * On success the caller owns *out; release it with aiinfra_db_free(). It keeps the runtime alive. On failure *out is
 * NULL and nothing is held.
 *
 * @param path  a file, ":memory:", or the address of a database in PostgreSQL
 * @return AIINFRA_ENOENT   the file or its folder does not exist
 *         AIINFRA_EFORMAT  the file is no database, is damaged, or is some other program's database
 *         AIINFRA_ENOTSUP  a newer version of the library wrote it; or what PostgreSQL needs is not installed
 *         AIINFRA_EBUSY    another process holds it longer than busy_timeout_ms
 *         AIINFRA_EIO      the file cannot be used, or PostgreSQL is not there
 *         AIINFRA_EINVAL, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_db_open(aiinfra_runtime *runtime, const char *path,
                                                            const aiinfra_db_opts *opts, aiinfra_db **out,
                                                            aiinfra_error *err);

/**
 * Releases the caller's reference; vector stores and memories keep the database alive. NULL is allowed.
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API void aiinfra_db_free(aiinfra_db *db);

/**
 * Checks the whole file for damage: its pages and indexes, and that the tables agree with each other, such as a
 * collection's count with its rows, rows with their vectors and words, memories with their rows.
 * @return AIINFRA_EFORMAT  the message names the first problem
 *         AIINFRA_EINVAL, AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API aiinfra_status aiinfra_db_check(aiinfra_db *db, aiinfra_error *err);

/**
 * What the database holds, as a JSON object: path, version, bytes, collections, memories, documents, runs.
 * @return AIINFRA_EINVAL, AIINFRA_EIO, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_db_describe(aiinfra_db *db, char **out_json, aiinfra_error *err);

/**
 * What takes how much room, as a JSON object: bytes, free_bytes (of pages without use, which new rows take),
 * wal_bytes (of the log beside the file), version; tables, an array of {name, rows, bytes} with the bytes of their
 * indexes; collections, an array of {name, tenant, dims, rows, seq, vector_bytes, text_bytes, payload_bytes, words_bytes,
 * snapshot_bytes, snapshot_seq, vectors}: tenant is null but for a tenant's part of the collection; snapshot_* tell of the
 * file beside the database that keeps the collection's graph, and are null when there is none; vectors is an array of what
 * the collection has under names, {name, kind ("dense", "multi" or "sparse"), dims, rows, seq, vector_bytes,
 * snapshot_bytes}. Bytes of tables are null where SQLite was built without dbstat. Reads the whole file.
 * @return AIINFRA_EINVAL, AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_db_stats(aiinfra_db *db, char **out_json, aiinfra_error *err);

/** Options of aiinfra_db_backup(). Zero is the default of every field. */
typedef struct aiinfra_db_backup_opts {
  size_t struct_size;           /**< sizeof this struct; set by AIINFRA_DB_BACKUP_OPTS_INIT */
  aiinfra_progress_fn progress; /**< called on the calling thread between steps; may cancel; NULL: none */
  void *progress_user;          /**< handed to progress */
  uint32_t step_pages;          /**< pages copied between two calls of progress; 0: 256, a MiB */
  int32_t check; /**< whether the copy is checked before it gets its name: 0: default (on), 1: on, -1: off */
} aiinfra_db_backup_opts;

/** Initialiser of aiinfra_db_backup_opts. */
#define AIINFRA_DB_BACKUP_OPTS_INIT                  \
  {                                                  \
    sizeof(aiinfra_db_backup_opts), NULL, NULL, 0, 0 \
  }

/**
 * Copies the database into a new file while it is used. The copy holds what was committed when the copying began;
 * readers and writers of this process and others go on meanwhile. To restore it, open the copy: it is a database like
 * any other. The file appears under its name when it is complete; a copy that failed or was cancelled leaves nothing.
 *
 * @param path  a file that does not exist yet, in a folder that does
 * @return AIINFRA_EEXIST     the file exists, or a log that belongs to a file of this name
 *         AIINFRA_ENOENT     its folder does not exist
 *         AIINFRA_ENOSPC     the disk is full
 *         AIINFRA_EFORMAT    the database is damaged; no copy is made of damage, unless check is off
 *         AIINFRA_ECANCELED  the progress callback asked for it
 *         AIINFRA_EINVAL, AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_db_backup(aiinfra_db *db, const char *path,
                                                              const aiinfra_db_backup_opts *opts, aiinfra_error *err);

/** Options of aiinfra_db_optimise(). Zero is the default of every field. */
typedef struct aiinfra_db_optimise_opts {
  size_t struct_size;           /**< sizeof this struct; set by AIINFRA_DB_OPTIMISE_OPTS_INIT */
  aiinfra_progress_fn progress; /**< called on the calling thread between steps; may cancel; NULL: none */
  void *progress_user;          /**< handed to progress */
  int32_t rewrite;   /**< 1: write the whole file anew: needs room for it twice, and nobody else may use it */
  uint32_t reserved; /**< must be 0 */
} aiinfra_db_optimise_opts;

/** Initialiser of aiinfra_db_optimise_opts. */
#define AIINFRA_DB_OPTIMISE_OPTS_INIT                  \
  {                                                    \
    sizeof(aiinfra_db_optimise_opts), NULL, NULL, 0, 0 \
  }

/**
 * Gives room back and makes searches faster: removes rows whose time has passed, merges the word indexes, gives pages without use back to the file system,
 * brings the log into the file. What was done before a failure stays done. Files that versions before this function
 * made give their pages back only with rewrite.
 *
 * @param out_json  receives {"bytes_before", "bytes_after", "busy", "expired"}; busy says that readers kept the log from
 *                  being emptied: try again later; expired counts the rows that were removed. Freed with
 *                  aiinfra_string_free(); NULL on failure; may be NULL
 * @return AIINFRA_EBUSY      another process holds the file longer than busy_timeout_ms
 *         AIINFRA_ENOSPC     the disk is full
 *         AIINFRA_ECANCELED  the progress callback asked for it
 *         AIINFRA_EINVAL, AIINFRA_ENOTSUP, AIINFRA_EIO, AIINFRA_EFORMAT, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_db_optimise(aiinfra_db *db, const aiinfra_db_optimise_opts *opts,
                                                                char **out_json, aiinfra_error *err);

/** Options of aiinfra_db_copy(). Zero is the default of every field. */
typedef struct aiinfra_db_copy_opts {
  size_t struct_size;           /**< sizeof this struct; set by AIINFRA_DB_COPY_OPTS_INIT */
  aiinfra_progress_fn progress; /**< called on the calling thread between transactions; may cancel; NULL: none */
  void *progress_user;          /**< handed to progress */
} aiinfra_db_copy_opts;

/** Initialiser of aiinfra_db_copy_opts. */
#define AIINFRA_DB_COPY_OPTS_INIT            \
  {                                          \
    sizeof(aiinfra_db_copy_opts), NULL, NULL \
  }

/**
 * Copies everything into another database: from a file to PostgreSQL, back, or from file to file. The copy holds what
 * was committed when the copying began; at its end the rows of each table are counted and their sums compared on both
 * sides. The target is empty, or holds the beginning of such a copy: one that failed or was cancelled goes on where it
 * stopped when it is started again. Until then the target is not whole, and aiinfra_db_check() says so.
 *
 * The source's handle is in use throughout: other threads that need it wait. Nobody else writes to the target.
 *
 * @param out_json  receives {"rows", "tables": [{"name", "rows", "checksum"}]}. Freed with aiinfra_string_free(); NULL
 *                  on failure; may be NULL
 * @return AIINFRA_EEXIST     the target holds other rows than the source; nothing was written
 *         AIINFRA_EFORMAT    the sums differ at the end: somebody else wrote to the target
 *         AIINFRA_ENOSPC     the disk is full
 *         AIINFRA_ECANCELED  the progress callback asked for it
 *         AIINFRA_EINVAL, AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_db_copy(aiinfra_db *from, aiinfra_db *to,
                                                            const aiinfra_db_copy_opts *opts, char **out_json,
                                                            aiinfra_error *err);

#ifdef __cplusplus
}
#endif
#endif
