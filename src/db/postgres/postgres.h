/* src/db/postgres/postgres.h - what the parts of the PostgreSQL plug-in share.
 *
 *   link.c  the connection: made with a bounded wait, sends and receives with one, tells what failed
 *   make.c  tables and the row of state
 *   push.c  a node's changes: rows, the log of changes, commit, and what became of a commit when the answer is lost
 *   types.c vectors in pgvector's types, beside their bytes: the columns, and what fills and checks them
 *   value.c the value of such a type, made of a row's bytes
 *   truth.c the table of operations, and what nodes read
 */
#ifndef AII_DB_POSTGRES_H
#define AII_DB_POSTGRES_H

#include <libpq-fe.h>

#include "lib/base/base.h"
#include "src/db/truth.h"

enum { AII_PG_PARAMS = 64 }; /* the most that a statement of ours has */

struct aii_truth {
  aii_mem *mem;
  aii_truth_opts opts; /* uri and schema are ours */
  char *uri, *schema;
  aii_buf name;
  aii_buf sql; /* for statements that are put together */
  PGconn *conn;
  bool in_transaction, in_view;
  unsigned types;       /* AII_PG_TYPE_x: which columns of types there are in this transaction */
  uint64_t vector_type; /* the number of pgvector's type vector; 0: not there. A statement was prepared for one */
  aii_buf value;        /* of a type, for a statement */
  uint64_t n_sent;      /* statements of this transaction in the pipeline */
  uint64_t *prepared;   /* hashes of statements that this connection knows */
  size_t n_prepared, cap_prepared;
};

/* Values on their way to the server, in its binary form. */
typedef struct aii_pg_params {
  int n;
  Oid types[AII_PG_PARAMS];
  const char *values[AII_PG_PARAMS];
  int lengths[AII_PG_PARAMS], formats[AII_PG_PARAMS];
  unsigned char numbers[AII_PG_PARAMS][8];
} aii_pg_params;
void aii_pg_add(aii_pg_params *params, const aii_sql_value *value); /* at most AII_PG_PARAMS; borrowed */
void aii_pg_add_int(aii_pg_params *params, int64_t value);
void aii_pg_add_blob(aii_pg_params *params, const void *p, size_t n);
void aii_pg_read(const PGresult *result, int row, int column, aii_sql_type type, aii_sql_value *value);

/* link.c: a connection that is there, or is made anew when no transaction depends on the old one. */
aiinfra_status aii_pg_connect(aii_truth *t, aiinfra_error *err);
void aii_pg_drop(aii_truth *t); /* the connection, and with it every transaction */
/* Waits for the next result; NULL with OK: this statement has no more. */
aiinfra_status aii_pg_next(aii_truth *t, PGresult **out, aiinfra_error *err);
/* Sends what waits to be sent. */
aiinfra_status aii_pg_flush(aii_truth *t, aiinfra_error *err);
/* Runs statements, separated by semicolons, for their effect. */
aiinfra_status aii_pg_exec(aii_truth *t, const char *statements, aiinfra_error *err);
/* Runs one statement; its rows go to see, NULL: there are none. */
typedef aiinfra_status (*aii_pg_row_fn)(void *ctx, const PGresult *result, int row, aiinfra_error *err);
aiinfra_status aii_pg_query(aii_truth *t, const char *statement, const aii_pg_params *params, aii_pg_row_fn see,
                            void *ctx, aiinfra_error *err);
/* The answers to what was sent last: rows to see, to the end of the statement. */
aiinfra_status aii_pg_answer(aii_truth *t, bool rows, aii_pg_row_fn see, void *ctx, aiinfra_error *err);
/* What a result that is a failure says; OK for others. */
aiinfra_status aii_pg_told(aii_truth *t, const PGresult *result, aiinfra_error *err);
aiinfra_status aii_pg_lost(aii_truth *t, const char *doing, aiinfra_error *err);
void aii_pg_quote(aii_buf *buf, const char *name); /* as an SQL identifier */

/* make.c */
aiinfra_status aii_pg_state(aii_truth *t, aii_truth_state *state, aiinfra_error *err);
aiinfra_status aii_pg_make(aii_truth *t, const aii_truth_table *tables, size_t n, int64_t version,
                           const unsigned char uuid[AII_TRUTH_UUID], aiinfra_error *err);

/* types.c */
enum {
  AII_PG_TYPE_COLLECTION = 1, /* the number of the collection, of rows whose other columns are filled */
  AII_PG_TYPE_VECTOR = 2,
  AII_PG_TYPE_HALFVEC = 4,
  AII_PG_TYPE_BIT = 8,
  AII_PG_TYPE_SPARSEVEC = 16,
  AII_PG_TYPES = 5
};
/* Columns with their values, for a statement that writes a row of vectors. */
typedef struct aii_pg_typed {
  int n;
  const char *names[AII_PG_TYPES];
  aii_sql_value values[AII_PG_TYPES]; /* until the next */
} aii_pg_typed;
/* as NULL: it is not known what the row holds. */
aiinfra_status aii_pg_typed_of(aii_truth *t, const aii_truth_vector *as, aii_pg_typed *typed, aiinfra_error *err);
/* Which columns there are: a statement, and what sees its rows; t->types was 0. */
#define AII_PG_TYPES_THERE                                                                  \
  "SELECT attname::text, atttypid::bigint FROM pg_attribute WHERE NOT attisdropped AND"     \
  " attrelid = 'vectors'::regclass AND attname IN ('collection', 'as_vector', 'as_halfvec'" \
  ", 'as_bit', 'as_sparsevec')"
aiinfra_status aii_pg_see_type(void *ctx, const PGresult *result, int row, aiinfra_error *err);
bool aii_pg_is_typed(const aii_truth *t);
aiinfra_status aii_pg_types(aii_truth *t, aiinfra_error *err);
aiinfra_status aii_pg_check_types(aii_truth *t, aiinfra_error *err);

/* value.c: the type that a row's vector has, and its value in the server's binary form, added to buf; 0: it has none. */
unsigned aii_pg_value(const aii_truth_vector *as, aii_buf *buf);

/* push.c */
aiinfra_status aii_pg_write(aii_truth *t, const aii_truth_table *table, const aii_sql_change *change,
                            const aii_truth_vector *as, aiinfra_error *err);
/* Ends a transaction, of whose statements the first n_counted wrote a row each. asked: COMMIT was on its way. */
aiinfra_status aii_pg_end(aii_truth *t, uint64_t n_counted, bool *asked, aiinfra_error *err);
aiinfra_status aii_pg_sequence(aii_truth *t, const char *table, int64_t last, aiinfra_error *err);
aiinfra_status aii_pg_commit(aii_truth *t, int64_t version, const void *changes, size_t n, aiinfra_error *err);
void aii_pg_rollback(aii_truth *t);

#endif
