/* vecstore_api.c - the public functions of aiinfra/vecstore.h: check arguments, load options, call down. */
#include "src/vector/named.h"

enum { MAX_DIMS = 65536, MAX_NAME = 128, MAX_K = 1 << 20, MAX_EF = 1 << 20, MAX_EF_CONSTRUCTION = 4096 };

static aiinfra_status check_name(const char *name, aiinfra_error *err)
{
  size_t n = strlen(name);
  if (n == 0 || n > MAX_NAME || !aii_utf8_valid(name, n)) {
    return aii_fail(err, AIINFRA_EINVAL, "a collection's name is 1 to %d bytes of UTF-8", MAX_NAME);
  }
  if (name[0] == '@') return aii_fail(err, AIINFRA_EINVAL, "names that begin with '@' belong to the library");
  return AIINFRA_OK;
}

static aiinfra_status check_opts(const aiinfra_vecstore_opts *o, aiinfra_error *err)
{
  if (o->dims > MAX_DIMS) return aii_fail(err, AIINFRA_EINVAL, "dims is %u, at most %d", o->dims, MAX_DIMS);
  if (o->metric < 0 || o->metric > AIINFRA_METRIC_L2) {
    return aii_fail(err, AIINFRA_EINVAL, "metric %d is not an aiinfra_metric", o->metric);
  }
  if (o->snapshot < -1 || o->snapshot > 1) return aii_fail(err, AIINFRA_EINVAL, "snapshot is -1, 0 or 1");
  if (o->element < 0 || o->element > AIINFRA_ELEMENT_BINARY) {
    return aii_fail(err, AIINFRA_EINVAL, "element %d is not an aiinfra_element", o->element);
  }
  if (o->reserved != 0 || o->reserved2 != 0) return aii_fail(err, AIINFRA_ENOTSUP, "reserved must be 0");
  size_t tenant_n = o->tenant != NULL ? strlen(o->tenant) : 1;
  if (tenant_n == 0 || tenant_n > MAX_NAME || (o->tenant != NULL && !aii_utf8_valid(o->tenant, tenant_n))) {
    return aii_fail(err, AIINFRA_EINVAL, "a tenant's name is 1 to %d bytes of UTF-8", MAX_NAME);
  }
  if (o->m == 1 || o->m > AII_MAX_M) return aii_fail(err, AIINFRA_EINVAL, "m is %u, not 2 to %d", o->m, AII_MAX_M);
  if (o->ef_construction > MAX_EF_CONSTRUCTION) {
    return aii_fail(err, AIINFRA_EINVAL, "ef_construction is %u, at most %d", o->ef_construction, MAX_EF_CONSTRUCTION);
  }
  return AIINFRA_OK;
}

aiinfra_status aiinfra_vecstore_open(aiinfra_db *db, const char *name, const aiinfra_vecstore_opts *opts,
                                     aiinfra_vecstore **out, aiinfra_error *err)
{
  aiinfra_vecstore_opts o;
  if (out == NULL) return aii_fail(err, AIINFRA_EINVAL, "out is NULL");
  *out = NULL;
  if (db == NULL || name == NULL) return aii_fail(err, AIINFRA_EINVAL, "db or name is NULL");
  aiinfra_status rc = AII_OPTS_LOAD(&o, opts, ef_construction, err);
  if (rc == AIINFRA_OK) rc = check_name(name, err);
  if (rc == AIINFRA_OK) rc = check_opts(&o, err);
  if (rc == AIINFRA_OK) rc = aii_vecstore_open(db, name, &o, out, err);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "open collection '%.128s'", name);
}

aiinfra_status aiinfra_vecstore_drop(aiinfra_db *db, const char *name, aiinfra_error *err)
{
  if (db == NULL || name == NULL) return aii_fail(err, AIINFRA_EINVAL, "db or name is NULL");
  aiinfra_status rc = check_name(name, err);
  if (rc == AIINFRA_OK) rc = aii_vecstore_drop(db, name, err);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "drop collection '%.128s'", name);
}

void aiinfra_vecstore_free(aiinfra_vecstore *store)
{
  aii_vecstore_free(store);
}

aiinfra_status aiinfra_vecstore_upsert(aiinfra_vecstore *store, const aiinfra_record *records, size_t n,
                                       aiinfra_error *err)
{
  if (store == NULL || (records == NULL && n > 0)) return aii_fail(err, AIINFRA_EINVAL, "store or records is NULL");
  if (n == 0) return AIINFRA_OK;
  aii_mem *mem = &store->db->rt->mem;
  aii_record *own = aii_new_array(mem, n, sizeof *own);
  if (own == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for %zu records", n);
  for (size_t i = 0; i < n; i++) own[i].r = records[i];
  aiinfra_status rc = aii_vecstore_upsert(store, own, n, err);
  aii_del(mem, own, n * sizeof *own);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "write to collection '%s'", store->name);
}

aiinfra_status aiinfra_vecstore_upsert_named(aiinfra_vecstore *store, const aiinfra_named_vector *vectors, size_t n,
                                             aiinfra_error *err)
{
  if (store == NULL || (vectors == NULL && n > 0)) return aii_fail(err, AIINFRA_EINVAL, "store or vectors is NULL");
  aiinfra_status rc = aii_named_upsert(store, vectors, n, err);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "write to collection '%s'", store->name);
}

aiinfra_status aiinfra_vecstore_remove(aiinfra_vecstore *store, const int64_t *ids, size_t n, size_t *n_removed,
                                       aiinfra_error *err)
{
  size_t removed = 0;
  if (n_removed != NULL) *n_removed = 0;
  if (store == NULL || (ids == NULL && n > 0)) return aii_fail(err, AIINFRA_EINVAL, "store or ids is NULL");
  aiinfra_status rc = aii_vecstore_remove(store, ids, n, &removed, err);
  if (rc != AIINFRA_OK) return aii_wrap(err, rc, "remove from collection '%s'", store->name);
  if (n_removed != NULL) *n_removed = removed;
  return AIINFRA_OK;
}

static aiinfra_status check_query(const aiinfra_query *q, aiinfra_error *err)
{
  if (q->reserved != 0) return aii_fail(err, AIINFRA_ENOTSUP, "reserved must be 0");
  if (q->k > MAX_K || q->ef > MAX_EF) return aii_fail(err, AIINFRA_EINVAL, "k or ef is larger than %d", MAX_K);
  if (q->mode < 0 || q->mode > AIINFRA_SEARCH_GRAPH) {
    return aii_fail(err, AIINFRA_EINVAL, "mode %d is not an aiinfra_search_mode", q->mode);
  }
  if (q->text != NULL && !aii_utf8_valid(q->text, strlen(q->text))) {
    return aii_fail(err, AIINFRA_EINVAL, "the text is not UTF-8");
  }
  return AIINFRA_OK; /* the vector is checked when it is known of what kind it should be */
}

aiinfra_status aiinfra_vecstore_search(aiinfra_vecstore *store, const aiinfra_query *query, aiinfra_hit *hits,
                                       size_t cap, size_t *n, aiinfra_error *err)
{
  aiinfra_query q;
  if (n == NULL) return aii_fail(err, AIINFRA_EINVAL, "n is NULL");
  *n = 0;
  if (store == NULL || query == NULL || hits == NULL) {
    return aii_fail(err, AIINFRA_EINVAL, "store, query or hits is NULL");
  }
  aiinfra_status rc = AII_OPTS_LOAD(&q, query, reserved, err);
  if (rc != AIINFRA_OK) return rc;
  if (q.explain != NULL) *q.explain = NULL;
  if (q.k == 0) q.k = 10;
  rc = check_query(&q, err);
  if (rc == AIINFRA_OK) rc = aii_vecstore_search_into(store, &q, hits, cap, n, err);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "search collection '%s'", store->name);
}

aiinfra_status aiinfra_vecstore_get(aiinfra_vecstore *store, int64_t id, char **out_text, char **out_payload,
                                    aiinfra_error *err)
{
  if (out_text != NULL) *out_text = NULL;
  if (out_payload != NULL) *out_payload = NULL;
  if (store == NULL) return aii_fail(err, AIINFRA_EINVAL, "store is NULL");
  aiinfra_status rc = aii_vecstore_get(store, id, out_text, out_payload, err);
  if (rc == AIINFRA_OK) return rc;
  if (out_text != NULL) {
    aiinfra_string_free(*out_text);
    *out_text = NULL;
  }
  return aii_wrap(err, rc, "collection '%s'", store->name);
}

aiinfra_status aiinfra_vecstore_count(aiinfra_vecstore *store, uint64_t *n, aiinfra_error *err)
{
  if (n == NULL) return aii_fail(err, AIINFRA_EINVAL, "n is NULL");
  *n = 0;
  if (store == NULL) return aii_fail(err, AIINFRA_EINVAL, "store is NULL");
  return aii_vecstore_count(store, n, err);
}

aiinfra_status aiinfra_vecstore_read(aiinfra_vecstore *store, const char *request_json, char **out_json,
                                     aiinfra_error *err)
{
  if (out_json == NULL) return aii_fail(err, AIINFRA_EINVAL, "out_json is NULL");
  *out_json = NULL;
  if (store == NULL || request_json == NULL) return aii_fail(err, AIINFRA_EINVAL, "store or request_json is NULL");
  aiinfra_status rc = aii_vecstore_read(store, request_json, out_json, err);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "read collection '%s'", store->name);
}

aiinfra_status aiinfra_vecstore_query(aiinfra_vecstore *store, const char *request_json, char **out_json,
                                      aiinfra_error *err)
{
  if (out_json == NULL) return aii_fail(err, AIINFRA_EINVAL, "out_json is NULL");
  *out_json = NULL;
  if (store == NULL || request_json == NULL) return aii_fail(err, AIINFRA_EINVAL, "store or request_json is NULL");
  aiinfra_status rc = aii_vecstore_query(store, request_json, out_json, err);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "search collection '%s'", store->name);
}

aiinfra_status aiinfra_vecstore_change(aiinfra_vecstore *store, const char *request_json, uint64_t *n_changed,
                                       aiinfra_error *err)
{
  uint64_t n = 0;
  if (n_changed != NULL) *n_changed = 0;
  if (store == NULL || request_json == NULL) return aii_fail(err, AIINFRA_EINVAL, "store or request_json is NULL");
  aiinfra_status rc = aii_vecstore_change(store, request_json, &n, err);
  if (rc != AIINFRA_OK) return aii_wrap(err, rc, "change collection '%s'", store->name);
  if (n_changed != NULL) *n_changed = n;
  return AIINFRA_OK;
}
