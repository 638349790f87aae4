/* src/vector/tenant.h - collections that are parts of collections, and how collections go: shared by tenant.c and those it
 * serves. */
#ifndef AII_VECTOR_TENANT_H
#define AII_VECTOR_TENANT_H

#include "src/vector/vector.h"

enum { AII_MOST_TENANTS = 1 << 20 }; /* that one answer lists */

/* The number of a new collection: none that there was before. */
#define AII_NEXT_COLLECTION \
  "(SELECT max(coalesce(max(id), 0) + 1, coalesce((SELECT max(next) FROM collection_ids), 1)) FROM collections)"

/* The collection of a tenant of another; 0: there is none. */
aiinfra_status aii_tenant_id(aii_sql *sql, int64_t whole, const char *tenant, int64_t *id, aiinfra_error *err);
/* Whose rows a handle reads has not changed: asked without the lock of the database's own connection. */
bool aii_tenant_is_same(const aiinfra_vecstore *store, aii_sql *sql);
/* Makes the collections for a handle's tenant, with those for vectors under names, unless they are there, in a transaction
 * of its own. */
aiinfra_status aii_tenant_make(aiinfra_vecstore *store, aiinfra_error *err);
/* {"tenants": ...} of read.c, in its transaction. */
aiinfra_status aii_tenants_read(const aiinfra_vecstore *store, aii_sql *sql, const json_t *request, aii_buf *json,
                                aiinfra_error *err);
/* {"drop_tenant": ...} of change.c, in its transaction. dropped: the collections whose files go after the commit; its items
 * are the caller's. */
aiinfra_status aii_tenant_drop(aiinfra_vecstore *store, const json_t *request, aii_ids *dropped, size_t *n_rows,
                               aiinfra_error *err);

/* vecstore.c: the full-text table of a new collection; the statements of a store's own. */
aiinfra_status aii_vecstore_make_words(aii_sql *sql, int64_t collection, aiinfra_error *err);
void aii_vecstore_name_words(aiinfra_vecstore *store);
/* keep.c: removes all files of a collection that is gone. Lock held. */
void aii_keep_remove(aiinfra_db *db, int64_t collection);

#endif
