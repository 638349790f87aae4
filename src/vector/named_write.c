/* named_write.c - writes vectors under names.
 *
 * The happy path: all vectors are checked and made into what rows store -> one transaction: the rows above are there, and
 * the rows of each name are written, as many at once as follow each other -> commit. Nothing is written when one is wrong.
 * Thread: any, no lock held.
 */
#include <math.h>

#include "src/vector/named.h"
#include "src/vector/tenant.h"

/* What becomes of one vector. */
typedef struct item {
  aiinfra_vecstore *below;
  uint8_t *stored; /* NULL: the row loses its vector */
  size_t bytes;
} item;

typedef struct batch {
  aiinfra_vecstore *store;
  const aiinfra_named_vector *vectors;
  size_t n;
  item *items;
  aii_record *records;
  int64_t *ids;
} batch;

/* ---- checks ------------------------------------------------------------------------------------------------------ */

static aiinfra_status check_dense(const aiinfra_vecstore *below, const aiinfra_named_vector *v, aiinfra_error *err)
{
  uint32_t dims = below->index.dims;
  bool multi = below->kind == AII_KIND_MULTI;
  if (v->indices != NULL) return aii_fail(err, AIINFRA_EINVAL, "its vectors are not sparse: indices must be NULL");
  if (multi ? v->n % dims != 0 || v->n / dims > AII_MAX_MULTI : v->n != dims) {
    return aii_fail(err, AIINFRA_EINVAL, "%zu floats, not %u%s", v->n, dims, multi ? " for each of its vectors" : "");
  }
  for (size_t i = 0; i < v->n; i += dims) {
    aiinfra_status rc = aii_element_check(&below->index, v->values + i, err);
    if (rc != AIINFRA_OK) return multi ? aii_wrap(err, rc, "its vector %zu", i / dims) : rc;
  }
  return AIINFRA_OK;
}

static aiinfra_status check_sparse(const aiinfra_named_vector *v, aiinfra_error *err)
{
  if (v->indices == NULL) return aii_fail(err, AIINFRA_EINVAL, "its vectors are sparse: indices is NULL");
  if (v->n > AII_MAX_PAIRS) return aii_fail(err, AIINFRA_EINVAL, "%zu values, at most %d", v->n, AII_MAX_PAIRS);
  for (size_t i = 0; i < v->n; i++) {
    if (!isfinite(v->values[i])) return aii_fail(err, AIINFRA_EINVAL, "value %zu is not a finite number", i);
  }
  return AIINFRA_OK;
}

static aiinfra_status store_vector(const batch *b, const aiinfra_named_vector *v, item *it, aiinfra_error *err)
{
  aii_mem *mem = b->store->index.mem;
  const aii_index *index = &it->below->index;
  bool sparse = it->below->kind == AII_KIND_SPARSE;
  if (v->values == NULL || v->n == 0) {
    if (v->values == NULL && v->indices == NULL && v->n == 0) return AIINFRA_OK;
    return aii_fail(err, AIINFRA_EINVAL, v->n == 0 ? "n is 0" : "values is NULL");
  }
  aiinfra_status rc = sparse ? check_sparse(v, err) : check_dense(it->below, v, err);
  if (rc != AIINFRA_OK) return rc;
  size_t step = aii_element_bytes(index->element, index->dims);
  it->bytes = sparse ? v->n * AII_PAIR_BYTES : v->n / index->dims * step;
  it->stored = aii_new_raw(mem, it->bytes);
  if (it->stored == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for %zu bytes", it->bytes);
  if (sparse) return aii_sparse_store(mem, v->indices, v->values, v->n, it->stored, err);
  for (size_t i = 0; i < v->n / index->dims; i++) {
    aii_element_encode(index, v->values + i * index->dims, it->stored + i * step);
  }
  return AIINFRA_OK;
}

static aiinfra_status prepare(const batch *b, size_t at, aiinfra_error *err)
{
  const aiinfra_named_vector *v = &b->vectors[at];
  if (v->name == NULL) return aii_fail(err, AIINFRA_EINVAL, "vector %zu: name is NULL", at);
  item *it = &b->items[at];
  it->below = aii_named_find(b->store, v->name);
  if (it->below == NULL) {
    return aii_fail(err, AIINFRA_EINVAL, "vector %zu: the collection has no vectors '%.64s'; name them in vectors_json",
                    at, v->name);
  }
  aiinfra_status rc = store_vector(b, v, it, err);
  if (rc != AIINFRA_OK) return aii_wrap(err, rc, "vector %zu ('%s')", at, v->name);
  b->ids[at] = v->id;
  b->records[at] = (aii_record){.r = {.id = v->id}, .stored = it->stored, .stored_n = it->bytes};
  return AIINFRA_OK;
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

static aiinfra_status check_row(const batch *b, size_t at, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = false;
  if (b->items[at].stored == NULL) return AIINFRA_OK; /* what is not there is ignored, as when rows are removed */
  aiinfra_status rc = aii_sql_prepare(
      b->store->db->sql,
      "SELECT 1 FROM rows WHERE collection = ?1 AND id = ?2 AND (expires_ms IS NULL OR expires_ms > ?3)", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, b->store->collection);
  aii_stmt_int(stmt, 2, b->ids[at]);
  aii_stmt_int(stmt, 3, b->store->expiry.now_ms());
  rc = aii_stmt_step(stmt, &row, err);
  aii_stmt_reset(stmt);
  if (rc != AIINFRA_OK || row) return rc;
  return aii_fail(err, AIINFRA_ENOENT, "vector %zu ('%s'): no row has the id %lld", at, b->vectors[at].name,
                  (long long)b->ids[at]);
}

/* In the transaction. */
static aiinfra_status write_all(const batch *b, aiinfra_error *err)
{
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; rc == AIINFRA_OK && i < b->n; i++) rc = check_row(b, i, err);
  for (size_t from = 0, to; rc == AIINFRA_OK && from < b->n; from = to) {
    const item *first = &b->items[from];
    size_t n_removed;
    for (to = from + 1; to < b->n; to++) {
      if (b->items[to].below != first->below || (b->items[to].stored == NULL) != (first->stored == NULL)) break;
    }
    rc = first->stored != NULL ? aii_rows_upsert(first->below, b->records + from, to - from, err)
                               : aii_rows_remove(first->below, b->ids + from, to - from, &n_removed, err);
  }
  return rc;
}

static aiinfra_status write_batch(const batch *b, aiinfra_error *err)
{
  aii_sql *sql = b->store->db->sql;
  aii_sql_lock(sql);
  aiinfra_status rc = aii_tenant_make(b->store, err);
  if (rc == AIINFRA_OK) rc = aii_sql_begin(sql, err);
  if (rc == AIINFRA_OK) {
    rc = write_all(b, err);
    if (rc == AIINFRA_OK) rc = aii_sql_commit(sql, err);
    else aii_sql_rollback(sql);
  }
  aii_sql_unlock(sql);
  for (size_t i = 0; rc == AIINFRA_OK && i < b->store->n_named; i++) {
    if (b->store->named[i]->kind != AII_KIND_SPARSE) aii_vecstore_extend(b->store->named[i]);
  }
  return rc;
}

aiinfra_status aii_named_upsert(aiinfra_vecstore *store, const aiinfra_named_vector *vectors, size_t n,
                                aiinfra_error *err)
{
  aii_mem *mem = store->index.mem;
  batch b = {.store = store, .vectors = vectors, .n = n};
  if (n == 0) return AIINFRA_OK;
  b.items = aii_new_array(mem, n, sizeof *b.items);
  b.records = aii_new_array(mem, n, sizeof *b.records);
  b.ids = aii_new_array(mem, n, sizeof *b.ids);
  bool ok = b.items != NULL && b.records != NULL && b.ids != NULL;
  aiinfra_status rc = ok ? AIINFRA_OK : aii_fail(err, AIINFRA_ENOMEM, "no memory for %zu vectors", n);
  for (size_t i = 0; rc == AIINFRA_OK && i < n; i++) rc = prepare(&b, i, err);
  if (rc == AIINFRA_OK) rc = write_batch(&b, err);
  for (size_t i = 0; b.items != NULL && i < n; i++) aii_del(mem, b.items[i].stored, b.items[i].bytes);
  aii_del(mem, b.items, n * sizeof *b.items);
  aii_del(mem, b.records, n * sizeof *b.records);
  aii_del(mem, b.ids, n * sizeof *b.ids);
  return rc;
}
