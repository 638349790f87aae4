/* src/db/tables.h - the tables of a database as data, for what treats all alike: replicas and copies. (tables.c) */
#ifndef AII_DB_TABLES_H
#define AII_DB_TABLES_H

#include "src/db/db.h"
#include "src/db/truth.h"

enum { AII_MAX_COLUMNS = 32 };

typedef struct aii_tables {
  aii_mem *mem;
  aii_truth_table *items; /* in the order they were made: what a row refers to comes before */
  size_t n, cap;
} aii_tables;
aiinfra_status aii_tables_read(aii_tables *t, aii_sql *sql, aii_mem *mem, aiinfra_error *err);
void aii_tables_free(aii_tables *t); /* after a failure, too */
/* "a", "b": all columns, or those of the key in its order. */
void aii_tables_columns(const aii_truth_table *table, bool key_only, aii_buf *text);

typedef struct aii_table_sum {
  int64_t rows;
  uint64_t sum;
} aii_table_sum;
void aii_sum_row(aii_table_sum *sum, const aii_sql_value *values, size_t n);
/* Of the whole table, or of what a statement with all its columns gives. */
aiinfra_status aii_tables_sum(aii_sql *sql, aii_mem *mem, const aii_truth_table *table, aii_stmt *bounded,
                              aii_table_sum *sum, aiinfra_error *err);

#endif
