/* src/db/truth.h - where the truth of a shared database lies: what replica.c and a plug-in know of each other.
 *
 * A truth holds the tables of schema.c in a server, and beside them one row of state: the version, which counts its
 * commits, and the version of its tables. It keeps the changes of its last commits as bytes that a replica applies.
 * A plug-in holds one function, which returns this table; both sides must come of one build of one version.
 */
#ifndef AII_DB_TRUTH_H
#define AII_DB_TRUTH_H

#include "lib/base/base.h"
#include "lib/sql/sql.h"

enum { AII_TRUTH_UUID = 16, AII_TRUTH_NODE = 16 };

typedef struct aii_truth aii_truth;

typedef struct aii_truth_column {
  char *name, *preset; /* preset: what rows have that do not say, as SQL; NULL: NULL */
  aii_sql_type type;
  bool not_null;
  int key; /* its place in the primary key, from 1; 0: none */
} aii_truth_column;

typedef struct aii_truth_table {
  char *name;
  aii_truth_column *columns;
  size_t n;
} aii_truth_table;

typedef struct aii_truth_state {
  int64_t version; /* commits so far */
  int64_t tables;  /* aii_db_version() of the newest library that opened it */
  unsigned char uuid[AII_TRUTH_UUID];
  bool there; /* false: there are no tables yet */
} aii_truth_state;

/* What a row of table vectors holds, for a server that has types for it. */
typedef struct aii_truth_vector {
  int64_t collection;
  int64_t dims, element, kind; /* as in table collections */
  const void *stored;
  size_t n;
} aii_truth_vector;

typedef struct aii_truth_opts {
  const char *uri, *schema;
  uint32_t timeout_ms; /* for a connection, an answer, a lock */
  bool read_only, synchronous;
  unsigned char node[AII_TRUTH_NODE]; /* who opens it: random */
} aii_truth_opts;

/* One commit's changes; n bytes. A failure ends the call. */
typedef aiinfra_status (*aii_truth_changes_fn)(void *ctx, int64_t version, const void *changes, size_t n,
                                               aiinfra_error *err);
typedef aiinfra_status (*aii_truth_row_fn)(void *ctx, const aii_sql_value *values, aiinfra_error *err);

/* One thread at a time. What fails with EIO has lost the connection; the next call makes a new one. */
typedef struct aii_truth_ops {
  aiinfra_status (*open)(aii_mem *mem, const aii_truth_opts *opts, aii_truth **out, aiinfra_error *err);
  void (*close)(aii_truth *truth); /* NULL is allowed */
  /* Where it is, without a password: "postgres://host:5432/agents". */
  const char *(*name)(const aii_truth *truth);
  aiinfra_status (*state)(aii_truth *truth, aii_truth_state *state, aiinfra_error *err);
  /* Makes the tables and columns that are missing; the uuid is for a truth without one. */
  aiinfra_status (*make)(aii_truth *truth, const aii_truth_table *tables, size_t n, int64_t version,
                         const unsigned char uuid[AII_TRUTH_UUID], aiinfra_error *err);
  /* The changes that came after `since`, oldest first, with the state before them. */
  aiinfra_status (*pull)(aii_truth *truth, int64_t since, aii_truth_changes_fn see, void *ctx, aii_truth_state *state,
                         aiinfra_error *err);
  /* The same in a transaction that nobody else has until commit or rollback. EBUSY: another node has it for too long. */
  aiinfra_status (*begin)(aii_truth *truth, int64_t since, aii_truth_changes_fn see, void *ctx, aii_truth_state *state,
                          aiinfra_error *err);
  /* as: what the row holds, of a change that adds or changes one of table vectors while typed; else NULL. */
  aiinfra_status (*write)(aii_truth *truth, const aii_truth_table *table, const aii_sql_change *change,
                          const aii_truth_vector *as, aiinfra_error *err);
  aiinfra_status (*sequence)(aii_truth *truth, const char *table, int64_t last, aiinfra_error *err);
  /* The truth has the version afterwards, or is as before begin. EFORMAT: it had other rows than this node has. EIO:
   * the message says whether that is known. */
  aiinfra_status (*commit)(aii_truth *truth, int64_t version, const void *changes, size_t n, aiinfra_error *err);
  void (*rollback)(aii_truth *truth);
  /* Whole tables as they were at one moment: view, any number of rows and sequences, unview. In a transaction too. */
  aiinfra_status (*view)(aii_truth *truth, aii_truth_state *state, aiinfra_error *err);
  aiinfra_status (*rows)(aii_truth *truth, const aii_truth_table *table, aii_truth_row_fn see, void *ctx,
                         aiinfra_error *err);
  aiinfra_status (*sequences)(aii_truth *truth, aii_truth_row_fn see, void *ctx, aiinfra_error *err); /* name, last */
  void (*unview)(aii_truth *truth);
  /* A server may have vectors in types of its own, beside their bytes. types makes what that needs, where it can and it
   * is not there, and fills it; what was interrupted goes on. typed: in this transaction, they are written. check_types
   * compares them with the bytes, in a view: EFORMAT tells of rows that differ. */
  aiinfra_status (*types)(aii_truth *truth, aiinfra_error *err);
  bool (*typed)(const aii_truth *truth);
  aiinfra_status (*check_types)(aii_truth *truth, aiinfra_error *err);
} aii_truth_ops;

typedef struct aii_truth_plugin {
  char version[32]; /* AIINFRA_VERSION_STRING */
  size_t ops_size, value_size, table_size;
  aii_truth_ops ops;
} aii_truth_plugin;

#define AII_POSTGRES_LIBRARY "libaiinfra-postgres.so"
#define AII_POSTGRES_ENTRY "aii_postgres_plugin_table"

#endif
