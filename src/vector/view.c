/* view.c - opens a view for a search: indexes in memory and a read transaction, both of one commit.
 *
 * The happy path: a connection for readers begins a transaction -> the indexes are locked for reading, so that nothing is shown
 * in them -> the transaction sees the count of writes that each of them has. So nobody waits for whoever writes.
 *
 *   an index is behind   a writer of this handle is between its commit and the showing, and holds `slots`: when it let go, the
 *                        view is opened again
 *   it stays behind, it was not read yet, the time of a row has passed, payloads are not in memory
 *                        the lock of the database's own connection is taken, which writers hold, and all is brought up to date
 *   no such connection   the database is in memory, or a copy of one in a server: the same
 *
 * What can fail: the database, memory. Thread: any.
 */
#include "src/vector/view.h"

#include "src/vector/tenant.h"

enum { TRIES = 4 };

uint64_t aii_view_bit(const aiinfra_vecstore *store, const aiinfra_vecstore *below)
{
  for (size_t i = 0; i < store->n_named; i++) {
    if (store->named[i] == below) return (uint64_t)1 << i;
  }
  return 0;
}

/* The stores whose indexes the view locks, in this order: those below, as they are listed, then its own. NULL: it is not wanted. */
static aiinfra_vecstore *wanted(const aii_view *v, size_t at)
{
  if (at == v->store->n_named) return v->store;
  return (v->wants.below >> at & 1) != 0 ? v->store->named[at] : NULL;
}

static void lock_indexes(const aii_view *v)
{
  for (size_t i = 0; i <= v->store->n_named; i++) {
    if (wanted(v, i) != NULL) (void)pthread_rwlock_rdlock(&wanted(v, i)->index.lock);
  }
}

void aii_view_leave_indexes(aii_view *v)
{
  for (size_t i = 0; i <= v->store->n_named; i++) {
    if (wanted(v, i) != NULL) (void)pthread_rwlock_unlock(&wanted(v, i)->index.lock);
  }
}

void aii_view_leave_rows(aii_view *v)
{
  if (v->sql == NULL) return;
  aii_sql_rollback(v->sql); /* nothing was written */
  aii_db_read_unlock(v->store->db, v->sql);
  v->sql = NULL;
}

/* ---- over a connection for readers ------------------------------------------------------------------------------- */

/* *behind: the index lacks a commit. What is wrong is told by whoever brings it up to date. */
static bool has_all(const aii_view *v, aiinfra_vecstore *store, aiinfra_vecstore **behind)
{
  aii_seqs now;
  if (aii_collection_seqs(store, v->sql, &now, NULL) != AIINFRA_OK) return false;
  if (store == v->store && !v->wants.index) return true;
  if (store->collection == 0 || store->index.seq < 0) return false;
  if (store->index.seq != now.seq) *behind = store;
  return *behind == NULL && (store->kind != AII_KIND_ONE || !aii_expiry_is_due(store));
}

static bool is_one_commit(const aii_view *v, aiinfra_vecstore **behind)
{
  *behind = NULL;
  if (!aii_tenant_is_same(v->store, v->sql)) return false;
  if (v->wants.payloads && v->store->index.docs.state == AII_DOCS_OFF) return false;
  for (size_t i = 0; i <= v->store->n_named; i++) {
    if (wanted(v, i) != NULL && !has_all(v, wanted(v, i), behind)) return false;
  }
  return true;
}

/* *behind NULL afterwards: it is of no use to try again. */
static bool try_it(aii_view *v, aiinfra_vecstore **behind)
{
  *behind = NULL;
  if (aii_sql_begin_read(v->sql, NULL) != AIINFRA_OK) return false;
  lock_indexes(v);
  if (is_one_commit(v, behind)) return true;
  aii_view_leave_indexes(v);
  aii_sql_rollback(v->sql);
  return false;
}

static bool open_beside(aii_view *v)
{
  aiinfra_vecstore *behind;
  v->sql = aii_db_take_reader(v->store->db);
  for (int i = 0; v->sql != NULL && i < TRIES; i++) {
    if (try_it(v, &behind)) return true;
    if (behind == NULL) break;
    (void)pthread_mutex_lock(&behind->index.slots); /* until it is shown */
    (void)pthread_mutex_unlock(&behind->index.slots);
  }
  if (v->sql != NULL) aii_db_give_reader(v->store->db, v->sql);
  return false;
}

/* ---- over the database's own connection -------------------------------------------------------------------------- */

aiinfra_status aii_view_within(aii_view *v, aiinfra_vecstore *store, const aii_wants *wants, aiinfra_error *err)
{
  int64_t seq;
  *v = (aii_view){store, store->db->sql, *wants};
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; rc == AIINFRA_OK && i < store->n_named; i++) {
    if (wanted(v, i) != NULL) rc = aii_vecstore_sync(wanted(v, i), err);
  }
  if (rc == AIINFRA_OK) rc = wants->index ? aii_vecstore_sync(store, err) : aii_tenant_find(store, err);
  if (rc == AIINFRA_OK && wants->payloads) rc = aii_docs_load(store, err);
  if (rc == AIINFRA_OK) rc = aii_rows_seq(store, v->sql, &seq, err); /* of no use, but the collection is there */
  if (rc == AIINFRA_OK) lock_indexes(v);
  return rc;
}

aiinfra_status aii_view_open(aii_view *v, aiinfra_vecstore *store, const aii_wants *wants, aiinfra_error *err)
{
  aii_sql *sql = store->db->sql;
  *v = (aii_view){store, NULL, *wants};
  if (open_beside(v)) return AIINFRA_OK;
  aii_sql_lock(sql);
  aiinfra_status rc = aii_sql_begin_read(sql, err);
  if (rc == AIINFRA_OK) {
    rc = aii_view_within(v, store, wants, err);
    if (rc == AIINFRA_OK) return rc;
    aii_sql_rollback(sql);
  }
  aii_sql_unlock(sql);
  v->sql = NULL;
  return rc;
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

aiinfra_status aii_view_select(const aii_view *v, aii_filter *filter, const char *text, aii_mask *mask,
                               aiinfra_error *err)
{
  const aii_index *index = &v->store->index;
  mask->n_passing = index->n - index->n_dead;
  return filter != NULL ? aii_mask_make(v->store, v->sql, filter, text, mask, err) : AIINFRA_OK;
}
