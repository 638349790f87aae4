/* src/vector/named.h - vectors under names: what a row has beside its first vector.
 *
 *   named.c        opens them with their collection, and finds one by its name
 *   named_write.c  writes them
 *   sparse.c       the inverted index of a sparse kind
 *   multi.c        vectors of a row in an index, and the score of late interaction
 *   using.c        what a query wants of them
 *
 * Each name is a collection below its own: rows with the ids of the rows above, a count of writes, an index that follows
 * it. A trigger of the database takes its rows out with those above, in the same transaction, whoever removes these.
 *
 * Locks: see vector.h. A commit holds `slots` of the collection, then of those below it.
 */
#ifndef AII_VECTOR_NAMED_H
#define AII_VECTOR_NAMED_H

#include "src/vector/search.h"

enum { AII_MAX_NAMED = 64, AII_MAX_LABEL = 64, AII_MAX_PAIRS = 1 << 16, AII_MAX_MULTI = 1 << 14 };

/* ---- named.c ----------------------------------------------------------------------------------------------------- */

/* vectors_json, checked; NULL gives NULL. */
aiinfra_status aii_named_parse(const char *json, json_t **names, aiinfra_error *err);
/* Opens what `names` has, creating what is new, and all others that are there. On failure some are open. */
aiinfra_status aii_named_open(aiinfra_vecstore *store, const json_t *names, const aiinfra_vecstore_opts *opts,
                              aiinfra_error *err);
void aii_named_close(aiinfra_vecstore *store);
aiinfra_vecstore *aii_named_find(const aiinfra_vecstore *store, const char *label); /* NULL: there is none */

/* ---- named_write.c ----------------------------------------------------------------------------------------------- */

aiinfra_status aii_named_upsert(aiinfra_vecstore *store, const aiinfra_named_vector *vectors, size_t n,
                                aiinfra_error *err);

/* One vector, checked and as its row stores it. */
typedef struct aii_named_item {
  aiinfra_vecstore *below;
  int64_t id;
  uint8_t *stored; /* NULL: the row loses it */
  size_t bytes;
} aii_named_item;
aiinfra_status aii_named_item_make(const aiinfra_vecstore *store, const aiinfra_named_vector *v, aii_named_item *it,
                                   aiinfra_error *err); /* on failure nothing is held */
void aii_named_item_free(aii_named_item *it);
/* Writes rows that were checked, then vectors of rows, in one transaction. No lock held. */
aiinfra_status aii_named_write(aiinfra_vecstore *store, const aii_record *rows, size_t n_rows,
                               const aii_named_item *items, size_t n, aiinfra_error *err);

/* ---- sparse.c ---------------------------------------------------------------------------------------------------- */

/* A stored sparse vector is n indices, ascending, then n values. */
enum { AII_PAIR_BYTES = sizeof(uint32_t) + sizeof(float) };
/* Makes one of n pairs in any order; `out` has room for it. EINVAL: an index that comes twice. */
aiinfra_status aii_sparse_store(aii_mem *mem, const uint32_t *indices, const float *values, size_t n, uint8_t *out,
                                aiinfra_error *err);

aii_sparse *aii_sparse_new(aii_mem *mem); /* NULL: no memory */
void aii_sparse_free(aii_sparse *sparse);
void aii_sparse_clear(aii_sparse *sparse); /* with the index, which is write-locked */
/* What aii_vecstore_sync() does for others. */
aiinfra_status aii_sparse_sync(aiinfra_vecstore *store, aiinfra_error *err);
/* The `cap` rows with the largest inner products of those that share an index with the query, which is stored as above,
 * and pass: `allow` is by slots of `above`. Both indexes locked for reading. */
aiinfra_status aii_sparse_find(const aiinfra_vecstore *store, const uint8_t *query, size_t n, const aii_index *above,
                               const uint64_t *allow, aii_near *hits, size_t cap, size_t *n_hits, uint64_t *n_scanned,
                               aiinfra_error *err);

/* ---- multi.c ----------------------------------------------------------------------------------------------------- */

/* A row of several vectors is one row below; its vectors are slots of the index, one behind the other. */
aii_multi *aii_multi_new(aii_mem *mem); /* NULL: no memory */
void aii_multi_free(aii_multi *multi);
void aii_multi_clear(aii_multi *multi); /* with the index, which is write-locked */
/* What aii_vecstore_sync() does for others. */
aiinfra_status aii_multi_sync(aiinfra_vecstore *store, aiinfra_error *err);
/* A mask over rows below, from one over the slots of `above`; both indexes locked for reading. false: no memory. */
bool aii_multi_mask(const aiinfra_vecstore *store, const aii_index *above, const aii_mask *mask, aii_mask *below);
/* Room for the query's vectors, all zero; takes them from the query's struct, where they were checked. */
aiinfra_status aii_multi_room(aii_search *s, size_t n, aiinfra_error *err);
aiinfra_status aii_multi_take(aii_search *s, aiinfra_error *err);
/* The search itself, in place of aii_searchplan_run(); without s->in_memory afterwards, s->finds are to be fetched. Both
 * indexes locked. */
aiinfra_status aii_multi_search(aii_search *s, aiinfra_error *err);
/* Reads the vectors of the finds from their rows, in the caller's transaction with the connection's lock held; and in one of
 * its own, no lock held. */
aiinfra_status aii_multi_read(aii_search *s, aii_sql *sql, int64_t seq, aiinfra_error *err);
aiinfra_status aii_multi_fetch(aii_search *s, int64_t seq, aiinfra_error *err);

#endif
