/* vecstore.c - opening a collection: found, or made together with its full-text table.
 *
 * A handle costs little until its first vector search, which reads the rows into the handle's index. Failures: those
 * of the database, and options that differ from what the collection was made with. Any thread.
 */
#include <stdio.h>

#include "src/vector/named.h"
#include "src/vector/snapshot.h"
#include "src/vector/tenant.h"

/* What the collection was made with must be what the caller asks for, or says nothing of. */
static aiinfra_status agree(const char *what, int64_t has, int64_t asked, aiinfra_error *err)
{
  if (asked == 0 || asked == has) return AIINFRA_OK;
  return aii_fail(err, AIINFRA_EINVAL, "the collection has %s %lld, not %lld; open it with %s 0, or name another", what,
                  (long long)has, (long long)asked, what);
}

/* Fills opts from the collection's row and checks what the caller asked for. *found: there is one. */
static aiinfra_status find(aiinfra_vecstore *store, aiinfra_vecstore_opts *opts, bool *found, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc = aii_sql_prepare(
      store->db->sql, "SELECT id, dims, metric, m, ef_construction, element, kind FROM collections WHERE name = ?1",
      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_text(stmt, 1, store->name, strlen(store->name));
  rc = aii_stmt_step(stmt, found, err);
  if (rc == AIINFRA_OK && *found) {
    int64_t dims = aii_stmt_get_int(stmt, 1), metric = aii_stmt_get_int(stmt, 2), element = aii_stmt_get_int(stmt, 5);
    if (opts->dims != 0 && aii_stmt_get_int(stmt, 6) != store->kind) {
      rc = aii_fail(err, AIINFRA_EINVAL, "there are vectors of another kind under this name; choose another name");
    } else if (opts->dims != 0 && (int64_t)opts->dims != dims) {
      rc = aii_fail(err, AIINFRA_EINVAL, "the collection has %lld dims, not %u; open it with dims 0, or name another",
                    (long long)dims, opts->dims);
    }
    if (rc == AIINFRA_OK) rc = agree("metric", metric, opts->metric, err);
    if (rc == AIINFRA_OK) rc = agree("element", element, opts->element, err);
    store->collection = aii_stmt_get_int(stmt, 0);
    store->kind = (int32_t)aii_stmt_get_int(stmt, 6);
    opts->dims = (uint32_t)dims;
    opts->metric = (int32_t)metric;
    opts->m = (uint32_t)aii_stmt_get_int(stmt, 3);
    opts->ef_construction = (uint32_t)aii_stmt_get_int(stmt, 4);
    opts->element = (int32_t)element;
  }
  aii_stmt_reset(stmt);
  return rc;
}

aiinfra_status aii_vecstore_make_words(aii_sql *sql, int64_t collection, aiinfra_error *err)
{
  char create[192];
  (void)snprintf(create, sizeof create, AII_WORDS_CREATE, (long long)collection);
  return aii_sql_exec(sql, create, err);
}

/* One below another has its words there. */
static aiinfra_status insert(aiinfra_vecstore *store, const aiinfra_vecstore_opts *opts, aiinfra_error *err)
{
  aii_sql *sql = store->db->sql;
  aii_stmt *stmt;
  aiinfra_status rc = aii_sql_prepare(
      sql,
      "INSERT INTO collections(id, name, dims, metric, m, ef_construction, element, parent, label, kind) "
      "VALUES(" AII_NEXT_COLLECTION ", ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_text(stmt, 1, store->name, strlen(store->name));
  aii_stmt_int(stmt, 2, opts->dims);
  aii_stmt_int(stmt, 3, opts->metric);
  aii_stmt_int(stmt, 4, opts->m);
  aii_stmt_int(stmt, 5, opts->ef_construction);
  aii_stmt_int(stmt, 6, opts->element);
  if (store->parent != 0) aii_stmt_int(stmt, 7, store->parent);
  else aii_stmt_null(stmt, 7);
  aii_stmt_text(stmt, 8, store->label, store->label != NULL ? strlen(store->label) : 0);
  aii_stmt_int(stmt, 9, store->kind);
  rc = aii_stmt_run(stmt, err);
  if (rc != AIINFRA_OK) return rc;
  store->collection = aii_sql_last_id(sql);
  return store->parent != 0 ? AIINFRA_OK : aii_vecstore_make_words(sql, store->collection, err);
}

static aiinfra_status create(aiinfra_vecstore *store, aiinfra_vecstore_opts *opts, aiinfra_error *err)
{
  bool found;
  if (opts->dims == 0) { return aii_fail(err, AIINFRA_ENOENT, "no such collection; give dims to create it"); }
  if (opts->metric == 0) opts->metric = AIINFRA_METRIC_COSINE;
  if (opts->element == 0) opts->element = AIINFRA_ELEMENT_F32;
  if (opts->m == 0) opts->m = 16;
  if (opts->ef_construction == 0) opts->ef_construction = 200;
  aiinfra_status rc = aii_sql_begin(store->db->sql, err);
  if (rc != AIINFRA_OK) return rc;
  rc = find(store, opts, &found, err); /* another process may have been faster */
  if (rc == AIINFRA_OK && !found) rc = insert(store, opts, err);
  if (rc == AIINFRA_OK) return aii_sql_commit(store->db->sql, err);
  aii_sql_rollback(store->db->sql);
  return rc;
}

static void forget_words(aiinfra_vecstore *store)
{
  aii_stmt_free(store->words_inserter);
  aii_stmt_free(store->words_deleter);
  store->words_inserter = store->words_deleter = NULL;
}

void aii_vecstore_name_words(aiinfra_vecstore *store)
{
  forget_words(store);
  long long at = (long long)store->collection;
  (void)snprintf(store->words_insert, sizeof store->words_insert, AII_WORDS_INSERT, at);
  (void)snprintf(store->words_delete, sizeof store->words_delete, AII_WORDS_DELETE, at, at);
  (void)snprintf(store->words_find, sizeof store->words_find,
                 "SELECT r.id, bm25(words_%lld, 1.0, 0.6) AS score FROM words_%lld w JOIN rows r ON r.row = w.rowid "
                 "WHERE words_%lld MATCH ?1 AND (r.expires_ms IS NULL OR r.expires_ms > ?2) ORDER BY score, r.id",
                 at, at, at);
}

static aiinfra_status open_rows(aiinfra_vecstore *store, aiinfra_vecstore_opts *o, aiinfra_error *err)
{
  bool found = false;
  aii_sql_lock(store->db->sql);
  aiinfra_status rc = find(store, o, &found, err);
  if (rc == AIINFRA_OK && !found) rc = create(store, o, err);
  aii_sql_unlock(store->db->sql);
  return rc;
}

static void free_names(aii_mem *mem, aiinfra_vecstore *store)
{
  aii_strfree(mem, store->name);
  aii_strfree(mem, store->label);
  aii_strfree(mem, store->tenant);
  aii_del(mem, store, sizeof *store);
}

aiinfra_status aii_vecstore_open_below(aiinfra_db *db, const char *name, const aii_below *below,
                                       const aiinfra_vecstore_opts *opts, aiinfra_vecstore **out, aiinfra_error *err)
{
  aiinfra_vecstore_opts o = *opts;
  *out = NULL;
  aii_mem *mem = &db->rt->mem;
  aiinfra_vecstore *store = aii_new(mem, sizeof *store);
  if (store == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a collection");
  store->db = db;
  store->parent = below->parent;
  store->kind = below->kind;
  store->name = aii_strdup(mem, name);
  store->label = below->label != NULL ? aii_strdup(mem, below->label) : NULL;
  store->tenant = opts->tenant != NULL ? aii_strdup(mem, opts->tenant) : NULL;
  bool named = store->name != NULL && (store->label != NULL || below->label == NULL);
  named = named && (store->tenant != NULL || opts->tenant == NULL);
  aiinfra_status rc = named ? open_rows(store, &o, err) : aii_fail(err, AIINFRA_ENOMEM, "no memory for a name");
  if (rc == AIINFRA_OK) {
    store->owner = store->tenant != NULL ? store->collection : 0;
    if (store->tenant != NULL) store->collection = 0; /* found with its first use */
    aii_vecstore_name_words(store);
    rc =
        aii_index_init(&store->index, mem, aii_kernels_get(db->rt->isa), o.dims, o.metric, o.m, o.ef_construction, err);
  }
  if (rc != AIINFRA_OK) {
    free_names(mem, store);
    return rc;
  }
  store->index.element = o.element;
  store->index.docs.limit_bytes =
      (size_t)AII_MIN(o.payload_bytes != 0 ? o.payload_bytes : AII_PAYLOAD_BYTES, SIZE_MAX / 2);
  if (o.vector_bytes != 0) store->index.vector_bytes = (size_t)AII_MIN(o.vector_bytes, (uint64_t)SIZE_MAX / 2);
  aii_expiry_init(&store->expiry, mem);
  atomic_store(&store->coming, -1);
  store->ttl_ms = (int64_t)AII_MIN(o.ttl_ms, (uint64_t)INT64_MAX);
  store->keep.mode = aii_sql_is_memory(db->sql) || store->kind != AII_KIND_ONE ? -1 : o.snapshot;
  store->keep.read_only = aii_sql_is_read_only(db->sql);
  (void)pthread_mutex_init(&store->keep.lock, NULL); /* a plain mutex of Linux holds no resource: cannot fail */
  (void)pthread_mutex_init(&store->kept_lock, NULL);
  aii_db_ref(db);
  *out = store;
  return AIINFRA_OK;
}

aiinfra_status aii_vecstore_open(aiinfra_db *db, const char *name, const aiinfra_vecstore_opts *opts,
                                 aiinfra_vecstore **out, aiinfra_error *err)
{
  static const aii_below alone = {0, NULL, AII_KIND_ONE};
  json_t *names = NULL;
  *out = NULL;
  aiinfra_status rc = aii_named_parse(opts->vectors_json, &names, err);
  if (rc == AIINFRA_OK) rc = aii_vecstore_open_below(db, name, &alone, opts, out, err);
  if (rc == AIINFRA_OK) rc = aii_named_open(*out, names, opts, err);
  if (rc != AIINFRA_OK) {
    aii_vecstore_free(*out);
    *out = NULL;
  }
  json_decref(names);
  return rc;
}

void aii_vecstore_free(aiinfra_vecstore *store)
{
  if (store == NULL) return;
  aiinfra_db *db = store->db;
  aii_mem *mem = &db->rt->mem;
  aii_named_close(store);
  aii_keep_close(store);
  aii_sql_lock(db->sql);
  forget_words(store);
  aii_sql_unlock(db->sql);
  (void)pthread_mutex_destroy(&store->keep.lock);
  aii_masks_clear(store);
  (void)pthread_mutex_destroy(&store->kept_lock);
  aii_index_destroy(&store->index);
  aii_expiry_free(&store->expiry);
  free_names(mem, store);
  aii_db_unref(db);
}
