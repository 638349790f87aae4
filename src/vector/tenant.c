/* tenant.c - tenants are walls: the rows of each are a collection of their own, below the one that they were opened by.
 *
 * So nothing can cross: ids, words and their statistics, graphs, filters and snapshots are a collection's own already.
 * A tenant's collection is made with its first write, by what its parent is made like. A handle looks up whose rows it
 * reads whenever it is used, since another one may have made the collection meanwhile, or dropped it: then the index
 * begins anew. Dropping removes rows, words, snapshots and the collection in one transaction; its number never comes
 * back, so that handles which are still open cannot meet another one. Any thread, with the connection's lock held.
 */
#include <stdio.h>

#include "lib/json/json.h"
#include "src/vector/snapshot.h"
#include "src/vector/tenant.h"

/* 0: there is none. */
static aiinfra_status id_of(const aiinfra_vecstore *store, const char *tenant, int64_t *id, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  *id = 0;
  aiinfra_status rc =
      aii_sql_prepare(store->db->sql, "SELECT id FROM collections WHERE parent = ?1 AND tenant = ?2", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, store->parent);
  aii_stmt_text(stmt, 2, tenant, strlen(tenant));
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK && row) *id = aii_stmt_get_int(stmt, 0);
  aii_stmt_reset(stmt);
  return rc;
}

/* The index was that of another collection, or of none. */
static void turn_to(aiinfra_vecstore *store, int64_t id)
{
  aii_index *index = &store->index;
  (void)pthread_mutex_lock(&index->build);
  (void)pthread_rwlock_wrlock(&index->lock);
  aii_masks_clear(store);
  aii_index_clear(index);
  index->changes++;
  store->expiry.filled = false;
  store->expiry.heap.n = 0;
  store->keep.looked = false;
  atomic_store(&store->keep.n_kept, 0);
  store->collection = id;
  aii_vecstore_name_words(store);
  (void)pthread_rwlock_unlock(&index->lock);
  (void)pthread_mutex_unlock(&index->build);
}

aiinfra_status aii_tenant_find(aiinfra_vecstore *store, aiinfra_error *err)
{
  int64_t id;
  if (store->tenant == NULL) return AIINFRA_OK;
  aiinfra_status rc = id_of(store, store->tenant, &id, err);
  if (rc == AIINFRA_OK && id != store->collection) turn_to(store, id);
  return rc;
}

static aiinfra_status insert(aiinfra_vecstore *store, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc =
      aii_sql_prepare(store->db->sql,
                      "INSERT INTO collections(id, name, dims, metric, m, ef_construction, parent, tenant) "
                      "SELECT " AII_NEXT_COLLECTION ", '@tenant/' || id || '/' || ?2, dims, metric, m, "
                      "ef_construction, id, ?2 FROM collections WHERE id = ?1",
                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, store->parent);
  aii_stmt_text(stmt, 2, store->tenant, strlen(store->tenant));
  rc = aii_stmt_run(stmt, err);
  if (rc == AIINFRA_OK && aii_sql_changes(store->db->sql) == 0) {
    rc = aii_fail(err, AIINFRA_ENOENT, "the collection is gone; open it again");
  }
  return rc == AIINFRA_OK ? aii_vecstore_make_words(store->db->sql, aii_sql_last_id(store->db->sql), err) : rc;
}

aiinfra_status aii_tenant_make(aiinfra_vecstore *store, aiinfra_error *err)
{
  aii_sql *sql = store->db->sql;
  int64_t id;
  aiinfra_status rc = aii_tenant_find(store, err);
  if (rc != AIINFRA_OK || store->tenant == NULL || store->collection != 0) return rc;
  rc = aii_sql_begin(sql, err);
  if (rc != AIINFRA_OK) return rc;
  rc = id_of(store, store->tenant, &id, err); /* another process may have been faster */
  if (rc == AIINFRA_OK && id == 0) rc = insert(store, err);
  if (rc == AIINFRA_OK) rc = aii_sql_commit(sql, err);
  else aii_sql_rollback(sql);
  return rc == AIINFRA_OK ? aii_tenant_find(store, err) : rc;
}

/* ---- what there is --------------------------------------------------------------------------------------------- */

static aiinfra_status check_parent(const aiinfra_vecstore *store, aiinfra_error *err)
{
  if (store->tenant == NULL) return AIINFRA_OK;
  return aii_fail(err, AIINFRA_EINVAL, "request: this handle is a tenant's; ask one that was opened without a tenant");
}

static void add_tenant(aii_buf *json, aii_stmt *stmt, bool first)
{
  size_t n;
  const char *name = aii_stmt_get_text(stmt, 0, &n);
  aii_buf_str(json, first ? "{\"tenant\":" : ",{\"tenant\":");
  aii_buf_json(json, name, n);
  aii_buf_fmt(json, ",\"count\":%lld}", (long long)aii_stmt_get_int(stmt, 1));
}

static aiinfra_status list(aii_stmt *stmt, int64_t limit, aii_buf *json, aiinfra_error *err)
{
  bool row = true;
  size_t n;
  aii_buf last;
  aiinfra_status rc = AIINFRA_OK;
  aii_buf_init(&last, json->mem, 0);
  aii_buf_str(json, "{\"tenants\":[");
  for (int64_t i = 0; rc == AIINFRA_OK && i <= limit; i++) {
    rc = aii_stmt_step(stmt, &row, err);
    if (rc != AIINFRA_OK || !row || i == limit) break;
    add_tenant(json, stmt, i == 0);
    aii_buf_clear(&last);
    const char *name = aii_stmt_get_text(stmt, 0, &n);
    aii_buf_json(&last, name, n);
  }
  aii_buf_fmt(json, "],\"next\":%s}", row ? aii_buf_cstr(&last) : "null");
  if (rc == AIINFRA_OK && last.failed) rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for a name");
  aii_buf_free(&last);
  return rc;
}

aiinfra_status aii_tenants_read(aiinfra_vecstore *store, const json_t *request, aii_buf *json, aiinfra_error *err)
{
  const char *after = "";
  int64_t limit = AII_MOST_TENANTS;
  aii_stmt *stmt;
  aiinfra_status rc = check_parent(store, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_str(request, "tenants", "after", false, &after, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_int(request, "tenants", "limit", false, &limit, err);
  if (rc == AIINFRA_OK && (limit < 1 || limit > AII_MOST_TENANTS)) {
    rc = aii_fail(err, AIINFRA_EINVAL, "request: tenants.limit is not 1 to %d", AII_MOST_TENANTS);
  }
  if (rc != AIINFRA_OK) return rc;
  rc = aii_sql_prepare(
      store->db->sql,
      "SELECT tenant, n_rows - (SELECT count(*) FROM rows WHERE collection = c.id AND expires_ms <= ?3) "
      "FROM collections c WHERE parent = ?1 AND tenant > ?2 ORDER BY tenant",
      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, store->collection);
  aii_stmt_text(stmt, 2, after, strlen(after));
  aii_stmt_int(stmt, 3, store->expiry.now_ms());
  rc = list(stmt, limit, json, err);
  aii_stmt_reset(stmt);
  return rc;
}

/* ---- dropping -------------------------------------------------------------------------------------------------- */

static aiinfra_status run(aii_sql *sql, const char *literal, int64_t id, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc = aii_sql_prepare(sql, literal, &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, id);
  return aii_stmt_run(stmt, err);
}

static aiinfra_status drop(aii_sql *sql, int64_t id, aiinfra_error *err)
{
  char words[64];
  (void)snprintf(words, sizeof words, "DROP TABLE words_%lld", (long long)id);
  aiinfra_status rc = run(sql, "DELETE FROM rows WHERE collection = ?1", id, err); /* their vectors go along */
  if (rc == AIINFRA_OK) rc = run(sql, "DELETE FROM snapshots WHERE collection = ?1", id, err);
  if (rc == AIINFRA_OK) rc = run(sql, "UPDATE collection_ids SET next = max(next, ?1 + 1)", id, err);
  if (rc == AIINFRA_OK) rc = run(sql, "DELETE FROM collections WHERE id = ?1", id, err);
  return rc == AIINFRA_OK ? aii_sql_exec(sql, words, err) : rc;
}

aiinfra_status aii_tenant_drop(aiinfra_vecstore *store, const json_t *request, int64_t *dropped, size_t *n_rows,
                               aiinfra_error *err)
{
  const char *tenant = NULL;
  aii_stmt *stmt;
  bool row;
  aiinfra_vecstore parent = {.db = store->db, .parent = store->collection};
  *dropped = 0;
  aiinfra_status rc = check_parent(store, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_str(request, "drop_tenant", "tenant", true, &tenant, err);
  if (rc == AIINFRA_OK) rc = id_of(&parent, tenant, dropped, err);
  if (rc != AIINFRA_OK || *dropped == 0) return rc;
  rc = aii_sql_prepare(store->db->sql,
                       "SELECT count(*) FROM rows WHERE collection = ?1 AND (expires_ms IS NULL OR expires_ms > ?2)",
                       &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, *dropped);
  aii_stmt_int(stmt, 2, store->expiry.now_ms());
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK) *n_rows = (size_t)aii_stmt_get_int(stmt, 0);
  aii_stmt_reset(stmt);
  return rc == AIINFRA_OK ? drop(store->db->sql, *dropped, err) : rc;
}

/* The collection of a name and all of its tenants, the collection itself at the end. */
static aiinfra_status find_all(aiinfra_db *db, const char *name, aii_ids *ids, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = true;
  aiinfra_status rc = aii_sql_prepare(db->sql,
                                      "SELECT c.id FROM collections c LEFT JOIN collections p ON p.id = c.parent "
                                      "WHERE coalesce(p.name, c.name) = ?1 ORDER BY c.parent IS NULL",
                                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_text(stmt, 1, name, strlen(name));
  while (rc == AIINFRA_OK && row) {
    rc = aii_stmt_step(stmt, &row, err);
    if (rc != AIINFRA_OK || !row) break;
    if (!aii_grow(&db->rt->mem, &ids->items, &ids->cap, ids->n + 1, sizeof *ids->items)) {
      rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for %zu collections", ids->n + 1);
    } else {
      ids->items[ids->n++] = aii_stmt_get_int(stmt, 0);
    }
  }
  aii_stmt_reset(stmt);
  if (rc == AIINFRA_OK && ids->n == 0) rc = aii_fail(err, AIINFRA_ENOENT, "there is no such collection");
  return rc;
}

aiinfra_status aii_vecstore_drop(aiinfra_db *db, const char *name, aiinfra_error *err)
{
  aii_ids ids = {0};
  aii_sql_lock(db->sql);
  aiinfra_status rc = aii_sql_begin(db->sql, err);
  if (rc == AIINFRA_OK) {
    rc = find_all(db, name, &ids, err);
    for (size_t i = 0; rc == AIINFRA_OK && i < ids.n; i++) rc = drop(db->sql, ids.items[i], err);
    if (rc == AIINFRA_OK) rc = aii_sql_commit(db->sql, err);
    else aii_sql_rollback(db->sql);
  }
  for (size_t i = 0; rc == AIINFRA_OK && i < ids.n; i++) aii_keep_remove(db, ids.items[i]);
  aii_sql_unlock(db->sql);
  aii_del(&db->rt->mem, ids.items, ids.cap * sizeof *ids.items);
  return rc;
}
