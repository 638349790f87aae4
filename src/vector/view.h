/* src/vector/view.h - one view of a collection for a search (view.c): what its indexes have in memory and what a connection
 * reads are of the same commit.
 */
#ifndef AII_VECTOR_VIEW_H
#define AII_VECTOR_VIEW_H

#include "src/vector/vector.h"

typedef struct aii_wants {
  bool index;     /* the index has all rows; else it is locked as it is */
  bool payloads;  /* they are in memory, if they may take so much */
  uint64_t below; /* indexes of vectors under names, as aii_view_bit() has them */
} aii_wants;

typedef struct aii_view {
  aiinfra_vecstore *store;
  aii_sql *sql; /* in a read transaction, locked; NULL: it was given back */
  aii_wants wants;
} aii_view;

uint64_t aii_view_bit(const aiinfra_vecstore *store, const aiinfra_vecstore *below); /* 0: it is the store itself */
/* On success the indexes are locked for reading. No lock held. On failure nothing is. */
aiinfra_status aii_view_open(aii_view *v, aiinfra_vecstore *store, const aii_wants *wants, aiinfra_error *err);
/* Ends it in two steps: the connection goes to others; the indexes do. Either may be the first one. */
void aii_view_leave_rows(aii_view *v);
void aii_view_leave_indexes(aii_view *v);
/* The same within a transaction of the database's own connection, whose lock is held, for the first index alone; left by
 * aii_view_leave_indexes(). */
aiinfra_status aii_view_within(aii_view *v, aiinfra_vecstore *store, const aii_wants *wants, aiinfra_error *err);
/* The rows that pass; filter NULL: all of them, without bits. text: the filter's. */
aiinfra_status aii_view_select(const aii_view *v, aii_filter *filter, const char *text, aii_mask *mask,
                               aiinfra_error *err);

#endif
