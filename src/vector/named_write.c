/* named_write.c - writes vectors under names.
 *
 * The happy path: all vectors are checked and made into what rows store -> one transaction: the rows above are there, and
 * the rows of each name are written, as many at once as follow each other -> commit. Nothing is written when one is wrong.
 * Thread: any, no lock held.
 */
#include <math.h>

#include "src/vector/named.h"
#include "src/vector/tenant.h"

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

static aiinfra_status store_vector(const aiinfra_named_vector *v, aii_named_item *it, aiinfra_error *err)
{
  aii_mem *mem = it->below->index.mem;
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

aiinfra_status aii_named_item_make(const aiinfra_vecstore *store, const aiinfra_named_vector *v, aii_named_item *it,
                                   aiinfra_error *err)
{
  *it = (aii_named_item){.id = v->id};
  if (v->name == NULL) return aii_fail(err, AIINFRA_EINVAL, "name is NULL");
  it->below = aii_named_find(store, v->name);
  if (it->below == NULL) {
    return aii_fail(err, AIINFRA_EINVAL, "the collection has no vectors '%.64s'; name them in vectors_json", v->name);
  }
  aiinfra_status rc = store_vector(v, it, err);
  if (rc == AIINFRA_OK) return rc;
  aii_named_item_free(it);
  return aii_wrap(err, rc, "'%s'", v->name);
}

void aii_named_item_free(aii_named_item *it)
{
  if (it->stored != NULL) aii_del(it->below->index.mem, it->stored, it->bytes);
  it->stored = NULL;
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

typedef struct batch {
  aiinfra_vecstore *store;
  const aii_named_item *items;
  size_t n;
  aii_record *records; /* [n], of those that are written together */
  int64_t *ids;
} batch;

static aiinfra_status check_row(const batch *b, size_t at, aiinfra_error *err)
{
  const aii_named_item *it = &b->items[at];
  aii_stmt *stmt;
  bool row = false;
  if (it->stored == NULL) return AIINFRA_OK; /* what is not there is ignored, as when rows are removed */
  aiinfra_status rc = aii_sql_prepare(
      b->store->db->sql,
      "SELECT 1 FROM rows WHERE collection = ?1 AND id = ?2 AND (expires_ms IS NULL OR expires_ms > ?3)", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, b->store->collection);
  aii_stmt_int(stmt, 2, it->id);
  aii_stmt_int(stmt, 3, b->store->expiry.now_ms());
  rc = aii_stmt_step(stmt, &row, err);
  aii_stmt_reset(stmt);
  if (rc != AIINFRA_OK || row) return rc;
  return aii_fail(err, AIINFRA_ENOENT, "vector %zu ('%s'): no row has the id %lld; write the row first", at,
                  it->below->label, (long long)it->id);
}

/* The next vectors of one name, from *at on, as far as all are written or all are lost. */
static aiinfra_status write_run(const batch *b, aiinfra_vecstore *below, size_t *at, aiinfra_error *err)
{
  size_t n = 0, n_removed;
  bool lost = false;
  for (; *at < b->n; ++*at) {
    const aii_named_item *it = &b->items[*at];
    if (it->below != below) continue;
    if (n > 0 && lost != (it->stored == NULL)) break;
    lost = it->stored == NULL;
    b->ids[n] = it->id;
    b->records[n++] = (aii_record){.r = {.id = it->id}, .stored = it->stored, .stored_n = it->bytes};
  }
  if (n == 0) return AIINFRA_OK;
  return lost ? aii_rows_remove(below, b->ids, n, &n_removed, err) : aii_rows_upsert(below, b->records, n, err);
}

/* In the transaction. */
static aiinfra_status write_all(const batch *b, aiinfra_error *err)
{
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; rc == AIINFRA_OK && i < b->n; i++) rc = check_row(b, i, err);
  for (size_t i = 0; i < b->store->n_named; i++) {
    for (size_t at = 0; rc == AIINFRA_OK && at < b->n;) rc = write_run(b, b->store->named[i], &at, err);
  }
  return rc;
}

static aiinfra_status write_batch(const batch *b, const aii_record *rows, size_t n_rows, aiinfra_error *err)
{
  aii_sql *sql = b->store->db->sql;
  atomic_fetch_add(&b->store->n_writers, 1);
  aii_sql_lock(sql);
  aiinfra_status rc = aii_tenant_make(b->store, err);
  if (rc == AIINFRA_OK) rc = aii_sql_begin(sql, err);
  if (rc == AIINFRA_OK) {
    if (n_rows > 0) rc = aii_rows_upsert(b->store, rows, n_rows, err);
    if (rc == AIINFRA_OK) rc = write_all(b, err);
    if (rc == AIINFRA_OK) rc = aii_vecstore_commit(b->store, NULL, err);
    else aii_sql_rollback(sql);
  }
  aii_sql_unlock(sql);
  if (rc == AIINFRA_OK && n_rows > 0) aii_vecstore_extend(b->store);
  for (size_t i = 0; rc == AIINFRA_OK && i < b->store->n_named; i++) {
    if (b->store->named[i]->kind != AII_KIND_SPARSE) aii_vecstore_extend(b->store->named[i]);
  }
  atomic_fetch_sub(&b->store->n_writers, 1);
  return rc;
}

aiinfra_status aii_named_write(aiinfra_vecstore *store, const aii_record *rows, size_t n_rows,
                               const aii_named_item *items, size_t n, aiinfra_error *err)
{
  aii_mem *mem = store->index.mem;
  batch b = {.store = store, .items = items, .n = n};
  if (n == 0) return aii_vecstore_write(store, rows, n_rows, err);
  b.records = aii_new_array(mem, n, sizeof *b.records);
  b.ids = aii_new_array(mem, n, sizeof *b.ids);
  aiinfra_status rc = b.records != NULL && b.ids != NULL
                          ? write_batch(&b, rows, n_rows, err)
                          : aii_fail(err, AIINFRA_ENOMEM, "no memory for %zu vectors", n);
  aii_del(mem, b.records, n * sizeof *b.records);
  aii_del(mem, b.ids, n * sizeof *b.ids);
  return rc;
}

aiinfra_status aii_named_upsert(aiinfra_vecstore *store, const aiinfra_named_vector *vectors, size_t n,
                                aiinfra_error *err)
{
  aii_mem *mem = store->index.mem;
  if (n == 0) return AIINFRA_OK;
  aii_named_item *items = aii_new_array(mem, n, sizeof *items);
  aiinfra_status rc = items != NULL ? AIINFRA_OK : aii_fail(err, AIINFRA_ENOMEM, "no memory for %zu vectors", n);
  for (size_t i = 0; rc == AIINFRA_OK && i < n; i++) {
    rc = aii_named_item_make(store, &vectors[i], &items[i], err);
    if (rc != AIINFRA_OK) (void)aii_wrap(err, rc, "vector %zu", i);
  }
  if (rc == AIINFRA_OK) rc = aii_named_write(store, NULL, 0, items, n, err);
  for (size_t i = 0; items != NULL && i < n; i++) aii_named_item_free(&items[i]);
  aii_del(mem, items, n * sizeof *items);
  return rc;
}
