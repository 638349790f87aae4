/* aiinfra/db.h - the one file that holds an agent: vectors, memory, journals, documents.
 *
 * A database is one SQLite file in WAL mode; ":memory:" keeps it in memory. Its tables carry a version and are
 * migrated forward when the file is opened. The functions of db, vecstore and memory block on the disk: they may be
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
#define AIINFRA_DB_OPTS_INIT {sizeof(aiinfra_db_opts), 0, 0, 0, 0}

/**
 * Opens or creates a database.
 *
 * On success the caller owns *out; release it with aiinfra_db_free(). It keeps the runtime alive. On failure *out is
 * NULL and nothing is held.
 *
 * @return AIINFRA_ENOENT   the file or its folder does not exist
 *         AIINFRA_EFORMAT  the file is no database, is damaged, or is some other program's database
 *         AIINFRA_ENOTSUP  a newer version of the library wrote it
 *         AIINFRA_EBUSY    another process holds it longer than busy_timeout_ms
 *         AIINFRA_EINVAL, AIINFRA_EIO, AIINFRA_ENOMEM
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
 * Checks the whole file for damage.
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

#ifdef __cplusplus
}
#endif
#endif
