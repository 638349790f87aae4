/* lib/sql/sql_internal.h - what sql.c, stmt.c and sqlerr.c share: the bodies of a connection and a statement. */
#ifndef AII_SQL_INTERNAL_H
#define AII_SQL_INTERNAL_H

#include <pthread.h>
#include <sqlite3.h>

#include "lib/sql/sql.h"

enum { STMT_BUCKETS = 128 };

struct aii_stmt {
  sqlite3_stmt *raw;
  aii_sql *sql;
  aii_stmt *next;   /* in its bucket of the cache */
  const char *text; /* the key: the literal's address; NULL when not cached */
  int bind_rc;      /* the first binding that failed since the last reset */
};

struct aii_sql {
  aii_mem *mem;
  sqlite3 *db;
  char *path;
  pthread_mutex_t lock;
  uint32_t busy_timeout_ms;
  bool read_only;                                   /* asked for */
  aii_stmt *begin, *begin_read, *commit, *rollback; /* ready, so that ending a transaction needs no memory */
  int wal_pages; /* as the last commit left them, unless a checkpoint was tried since */
  bool stale;    /* a rollback had no memory all the same: whoever holds the lock next does it again */
  const aii_sql_hooks *hooks;
  void *hooks_ctx;
  bool inside;     /* a hook runs */
  bool fresh;      /* the hook read() was called since the lock */
  int64_t changes; /* of the last statement before the hooks ran theirs; -1: SQLite knows */
  bool writing;    /* the hook begin() was, and end() was not */
  aii_stmt *cache[STMT_BUCKETS];
};

/* Calls the hook read() when it is due. */
aiinfra_status aii_sql_freshen(aii_sql *sql, aiinfra_error *err);

/* Turns an SQLite result code into a status, with a message that names the cause and the cure. */
aiinfra_status aii_sql_fail(aii_sql *sql, int code, aiinfra_error *err);

#endif
