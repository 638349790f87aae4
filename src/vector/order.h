/* src/vector/order.h - rows in the order of a field (order.c), for the pages of read.c. */
#ifndef AII_VECTOR_ORDER_H
#define AII_VECTOR_ORDER_H

#include "src/vector/search.h"

typedef struct aii_order aii_order;

/* All rows of the mask, in the order that the member "order_by" asks for. In a view. */
aiinfra_status aii_order_make(aiinfra_vecstore *store, aii_sql *sql, const json_t *order, const aii_mask *mask,
                              aii_order **out, aiinfra_error *err);
void aii_order_free(aii_order *order);
size_t aii_order_size(const aii_order *order);
int64_t aii_order_id(const aii_order *order, size_t at);
/* The place of the first row behind the one that "after" names; NULL or null: of the first one. */
aiinfra_status aii_order_after(const aii_order *order, const json_t *after, size_t *at, aiinfra_error *err);
/* Writes what "after" is to be when the next page begins behind this row. */
void aii_order_next(const aii_order *order, size_t at, aii_buf *json);

#endif
