/* tenant.c - tenants are walls: the rows of each are a collection of their own, a part of the one that they were opened by.
 *
 * So nothing can cross: ids, words and their statistics, graphs, filters and snapshots are a collection's own already.
 * A tenant's collection is made with its first write, by what the whole is made like, and so are those below it for vectors
 * under names. A handle looks up whose rows it reads whenever it is used, since another one may have made the collection
 * meanwhile, or dropped it: then the index begins anew, with those below. Dropping removes rows, words, snapshots and the
 * collections in one transaction; their numbers never come back, so that handles which are still open cannot meet another
 * one. Any thread, with the connection's lock held.
 */
#include <stdio.h>

#include "lib/json/json.h"
#include "src/vector/named.h"
#include "src/vector/snapshot.h"
#include "src/vector/tenant.h"

/* The id that a statement gives for a number and a name; 0: there is none. */
static aiinfra_status find_id(aii_sql *sql, const char *literal, int64_t number, const char *name, int64_t *id,
                              aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  *id = 0;
  aiinfra_status rc = aii_sql_prepare(sql, literal, &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, number);
  aii_stmt_text(stmt, 2, name, strlen(name));
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK && row) *id = aii_stmt_get_int(stmt, 0);
  aii_stmt_reset(stmt);
  return rc;
}

aiinfra_status aii_tenant_id(aii_sql *sql, int64_t whole, const char *tenant, int64_t *id, aiinfra_error *err)
{
  return find_id(sql, "SELECT id FROM collections WHERE tenant_of = ?1 AND tenant = ?2", whole, tenant, id, err);
}

static aiinfra_status id_below(aii_sql *sql, int64_t parent, const char *label, int64_t *id, aiinfra_error *err)
{
  return find_id(sql, "SELECT id FROM collections WHERE parent = ?1 AND label = ?2", parent, label, id, err);
}

/* ---- whose rows a handle reads ----------------------------------------------------------------------------------- */

/* The index was that of another collection, or of none. */
static void turn_to(aiinfra_vecstore *store, int64_t id)
{
  aii_index *index = &store->index;
  (void)pthread_mutex_lock(&index->build);
  (void)pthread_rwlock_wrlock(&index->lock);
  aii_masks_clear(store);
  aii_index_clear(index);
  if (store->multi != NULL) aii_multi_clear(store->multi);
  if (store->sparse != NULL) aii_sparse_clear(store->sparse);
  index->changes++;
  store->expiry.filled = false;
  store->expiry.heap.n = 0;
  aii_expiry_tell(store);
  store->keep.looked = false;
  atomic_store(&store->keep.n_kept, 0);
  store->collection = id;
  aii_vecstore_name_words(store);
  (void)pthread_rwlock_unlock(&index->lock);
  (void)pthread_mutex_unlock(&index->build);
}

/* Those below are found when they are there: a name may be younger than the tenant. */
static aiinfra_status find_below(aiinfra_vecstore *store, aiinfra_error *err)
{
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; rc == AIINFRA_OK && store->collection != 0 && i < store->n_named; i++) {
    int64_t id = 0;
    if (store->named[i]->collection != 0) continue;
    rc = id_below(store->db->sql, store->collection, store->named[i]->label, &id, err);
    if (rc == AIINFRA_OK && id != 0) turn_to(store->named[i], id);
  }
  return rc;
}

aiinfra_status aii_tenant_find(aiinfra_vecstore *store, aiinfra_error *err)
{
  int64_t id;
  if (store->above != NULL) store = store->above;
  if (store->tenant == NULL) return AIINFRA_OK;
  aiinfra_status rc = aii_tenant_id(store->db->sql, store->owner, store->tenant, &id, err);
  if (rc != AIINFRA_OK) return rc;
  if (id != store->collection) {
    for (size_t i = 0; i < store->n_named; i++) turn_to(store->named[i], 0);
    turn_to(store, id);
  }
  return find_below(store, err);
}

bool aii_tenant_is_same(const aiinfra_vecstore *store, aii_sql *sql)
{
  const aiinfra_vecstore *top = store->above != NULL ? store->above : store;
  int64_t id;
  if (top->tenant == NULL) return true;
  if (aii_tenant_id(sql, top->owner, top->tenant, &id, NULL) != AIINFRA_OK || id != top->collection) return false;
  return store == top || store->collection != 0;
}

/* ---- making -------------------------------------------------------------------------------------------------------- */

static aiinfra_status insert(aiinfra_vecstore *store, int64_t *id, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc =
      aii_sql_prepare(store->db->sql,
                      "INSERT INTO collections(id, name, dims, metric, m, ef_construction, element, tenant_of, tenant) "
                      "SELECT " AII_NEXT_COLLECTION ", '@tenant/' || id || '/' || ?2, dims, metric, m, "
                      "ef_construction, element, id, ?2 FROM collections WHERE id = ?1",
                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, store->owner);
  aii_stmt_text(stmt, 2, store->tenant, strlen(store->tenant));
  rc = aii_stmt_run(stmt, err);
  if (rc == AIINFRA_OK && aii_sql_changes(store->db->sql) == 0) {
    rc = aii_fail(err, AIINFRA_ENOENT, "the collection is gone; open it again");
  }
  *id = aii_sql_last_id(store->db->sql);
  return rc == AIINFRA_OK ? aii_vecstore_make_words(store->db->sql, *id, err) : rc;
}

/* For vectors under a name, like those of the whole. */
static aiinfra_status insert_below(aiinfra_vecstore *store, int64_t parent, const char *label, aiinfra_error *err)
{
  aii_stmt *stmt;
  int64_t id;
  aiinfra_status rc = id_below(store->db->sql, parent, label, &id, err);
  if (rc != AIINFRA_OK || id != 0) return rc;
  rc = aii_sql_prepare(store->db->sql,
                       "INSERT INTO collections(id, name, dims, metric, m, ef_construction, element, parent, label, "
                       "kind) SELECT " AII_NEXT_COLLECTION ", '@vectors/' || ?3 || '/' || label, dims, metric, m, "
                       "ef_construction, element, ?3, label, kind FROM collections WHERE parent = ?1 AND label = ?2",
                       &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, store->owner);
  aii_stmt_text(stmt, 2, label, strlen(label));
  aii_stmt_int(stmt, 3, parent);
  return aii_stmt_run(stmt, err);
}

static bool is_made(const aiinfra_vecstore *store)
{
  bool made = store->collection != 0;
  for (size_t i = 0; i < store->n_named; i++) made = made && store->named[i]->collection != 0;
  return made;
}

aiinfra_status aii_tenant_make(aiinfra_vecstore *store, aiinfra_error *err)
{
  aii_sql *sql = store->db->sql;
  int64_t id;
  aiinfra_status rc = aii_tenant_find(store, err);
  if (rc != AIINFRA_OK || store->tenant == NULL || is_made(store)) return rc;
  rc = aii_sql_begin(sql, err);
  if (rc != AIINFRA_OK) return rc;
  rc = aii_tenant_id(sql, store->owner, store->tenant, &id, err); /* another process may have been faster */
  if (rc == AIINFRA_OK && id == 0) rc = insert(store, &id, err);
  for (size_t i = 0; rc == AIINFRA_OK && i < store->n_named; i++) {
    rc = insert_below(store, id, store->named[i]->label, err);
  }
  if (rc == AIINFRA_OK) rc = aii_sql_commit(sql, err);
  else aii_sql_rollback(sql);
  return rc == AIINFRA_OK ? aii_tenant_find(store, err) : rc;
}

/* ---- what there is --------------------------------------------------------------------------------------------- */

static aiinfra_status check_whole(const aiinfra_vecstore *store, aiinfra_error *err)
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

aiinfra_status aii_tenants_read(const aiinfra_vecstore *store, aii_sql *sql, const json_t *request, aii_buf *json,
                                aiinfra_error *err)
{
  const char *after = "";
  int64_t limit = AII_MOST_TENANTS;
  aii_stmt *stmt;
  aiinfra_status rc = check_whole(store, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_str(request, "tenants", "after", false, &after, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_int(request, "tenants", "limit", false, &limit, err);
  if (rc == AIINFRA_OK && (limit < 1 || limit > AII_MOST_TENANTS)) {
    rc = aii_fail(err, AIINFRA_EINVAL, "request: tenants.limit is not 1 to %d", AII_MOST_TENANTS);
  }
  if (rc != AIINFRA_OK) return rc;
  rc = aii_sql_prepare(
      sql,
      "SELECT tenant, n_rows - (SELECT count(*) FROM rows WHERE collection = c.id AND expires_ms <= ?3) "
      "FROM collections c WHERE tenant_of = ?1 AND tenant > ?2 ORDER BY tenant",
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

/* Prepared anew: every drop changes the schema, and when memory runs out while SQLite prepares a statement of before once more,
 * within its run, it may tell something else than that. */
static aiinfra_status run(aii_sql *sql, const char *literal, int64_t id, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc = aii_sql_prepare_once(sql, literal, &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, id);
  rc = aii_stmt_run(stmt, err);
  aii_stmt_free(stmt);
  return rc;
}

/* below: what it has under names went before, so that no trigger looks for it, and it has no words of its own. */
static aiinfra_status drop(aii_sql *sql, int64_t id, bool below, aiinfra_error *err)
{
  char words[64];
  (void)snprintf(words, sizeof words, AII_WORDS_DROP, (long long)id);
  aiinfra_status rc = run(sql, "DELETE FROM rows WHERE collection = ?1", id, err); /* their vectors go along */
  if (rc == AIINFRA_OK) rc = run(sql, "DELETE FROM snapshots WHERE collection = ?1", id, err);
  if (rc == AIINFRA_OK) {
    rc =
        run(sql, "INSERT INTO collection_ids VALUES(1, ?1 + 1) ON CONFLICT(one) DO UPDATE SET next = max(next, ?1 + 1)",
            id, err);
  }
  if (rc == AIINFRA_OK) rc = run(sql, "DELETE FROM collections WHERE id = ?1", id, err);
  return rc == AIINFRA_OK && !below ? aii_sql_exec(sql, words, err) : rc;
}

/* The collections that a statement gives, in its order, go: their ids, and whether they are below another. */
static aiinfra_status drop_all(aii_sql *sql, aii_mem *mem, aii_stmt *stmt, aii_ids *ids, aiinfra_error *err)
{
  bool row = true;
  size_t n_below = 0;
  aiinfra_status rc = AIINFRA_OK;
  while (rc == AIINFRA_OK && row) {
    rc = aii_stmt_step(stmt, &row, err);
    if (rc != AIINFRA_OK || !row) break;
    if (!aii_grow(mem, &ids->items, &ids->cap, ids->n + 1, sizeof *ids->items)) {
      rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for %zu collections", ids->n + 1);
    } else {
      ids->items[ids->n++] = aii_stmt_get_int(stmt, 0);
      n_below += aii_stmt_get_int(stmt, 1) != 0;
    }
  }
  aii_stmt_reset(stmt);
  for (size_t i = 0; rc == AIINFRA_OK && i < ids->n; i++) rc = drop(sql, ids->items[i], i < n_below, err);
  return rc;
}

static aiinfra_status count_rows(const aiinfra_vecstore *store, int64_t collection, size_t *n_rows, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  aiinfra_status rc = aii_sql_prepare(
      store->db->sql, "SELECT count(*) FROM rows WHERE collection = ?1 AND (expires_ms IS NULL OR expires_ms > ?2)",
      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, collection);
  aii_stmt_int(stmt, 2, store->expiry.now_ms());
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK) *n_rows = (size_t)aii_stmt_get_int(stmt, 0);
  aii_stmt_reset(stmt);
  return rc;
}

aiinfra_status aii_tenant_drop(aiinfra_vecstore *store, const json_t *request, aii_ids *dropped, size_t *n_rows,
                               aiinfra_error *err)
{
  const char *tenant = NULL;
  aii_stmt *stmt;
  int64_t id;
  aiinfra_status rc = check_whole(store, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_str(request, "drop_tenant", "tenant", true, &tenant, err);
  if (rc == AIINFRA_OK) rc = aii_tenant_id(store->db->sql, store->collection, tenant, &id, err);
  if (rc != AIINFRA_OK || id == 0) return rc;
  rc = count_rows(store, id, n_rows, err);
  if (rc == AIINFRA_OK) {
    rc = aii_sql_prepare(store->db->sql,
                         "SELECT id, parent IS NOT NULL FROM collections WHERE id = ?1 OR parent = ?1 "
                         "ORDER BY parent IS NULL",
                         &stmt, err);
  }
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, id);
  return drop_all(store->db->sql, store->index.mem, stmt, dropped, err);
}

/* The collection of a name, its tenants' and all that is below them, the collection itself at the end. */
static aiinfra_status drop_named(aiinfra_db *db, const char *name, aii_ids *ids, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc = aii_sql_prepare(db->sql,
                                      "SELECT c.id, c.parent IS NOT NULL FROM collections c "
                                      "LEFT JOIN collections p ON p.id = c.parent "
                                      "LEFT JOIN collections t ON t.id = coalesce(p.tenant_of, c.tenant_of) "
                                      "WHERE coalesce(t.name, p.name, c.name) = ?1 "
                                      "ORDER BY c.parent IS NULL, c.tenant_of IS NULL",
                                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_text(stmt, 1, name, strlen(name));
  rc = drop_all(db->sql, &db->rt->mem, stmt, ids, err);
  return rc == AIINFRA_OK && ids->n == 0 ? aii_fail(err, AIINFRA_ENOENT, "there is no such collection") : rc;
}

aiinfra_status aii_vecstore_drop(aiinfra_db *db, const char *name, aiinfra_error *err)
{
  aii_ids ids = {0};
  aii_sql_lock(db->sql);
  aiinfra_status rc = aii_sql_begin(db->sql, err);
  if (rc == AIINFRA_OK) {
    rc = drop_named(db, name, &ids, err);
    if (rc == AIINFRA_OK) rc = aii_sql_commit(db->sql, err);
    else aii_sql_rollback(db->sql);
  }
  for (size_t i = 0; rc == AIINFRA_OK && i < ids.n; i++) aii_keep_remove(db, ids.items[i]);
  aii_sql_unlock(db->sql);
  aii_del(&db->rt->mem, ids.items, ids.cap * sizeof *ids.items);
  return rc;
}
