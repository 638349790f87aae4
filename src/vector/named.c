/* named.c - vectors under names: opens the collections that hold them, below one that was opened.
 *
 * A tenant's handle opens those of the whole, to know what they are like; whose rows they read then, tenant.c finds.
 *
 * The happy path: vectors_json is checked before anything is made -> the collection is opened -> what vectors_json names
 * is opened or made -> so is all else that the database has below it. A name that another handle adds later is not seen
 * until the collection is opened again. Failures: those of the database, and kinds that differ from what is there.
 */
#include "lib/json/json.h"
#include "src/vector/named.h"

enum { MAX_DIMS = 65536 };

/* What vectors_json says of one name. */
typedef struct kind_of {
  int64_t dims;
  int32_t metric, element, kind;
} kind_of;

/* ---- vectors_json ------------------------------------------------------------------------------------------------ */

/* The place of a string in a list, from 1. */
static aiinfra_status read_choice(const json_t *obj, const char *path, const char *key, const char *const *names,
                                  int32_t *out, aiinfra_error *err)
{
  const char *name = NULL;
  aiinfra_status rc = aii_json_get_str(obj, path, key, false, &name, err);
  if (rc != AIINFRA_OK || name == NULL) return rc;
  for (int32_t i = 0; names[i] != NULL; i++) {
    if (strcmp(names[i], name) != 0) continue;
    *out = i + 1;
    return AIINFRA_OK;
  }
  return aii_fail(err, AIINFRA_EINVAL, "%s.%s: there is no '%.64s'", path, key, name);
}

static aiinfra_status read_dense(const json_t *obj, const char *path, kind_of *k, aiinfra_error *err)
{
  static const char *const members[] = {"dims", "metric", "element", "multi", "sparse", NULL};
  static const char *const metrics[] = {"cosine", "ip", "l2", NULL};
  static const char *const elements[] = {"f32", "f16", "int8", "binary", NULL};
  bool multi = false;
  aiinfra_status rc = aii_check_names(obj, path, members, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_int(obj, path, "dims", true, &k->dims, err);
  if (rc == AIINFRA_OK) rc = read_choice(obj, path, "metric", metrics, &k->metric, err);
  if (rc == AIINFRA_OK) rc = read_choice(obj, path, "element", elements, &k->element, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_bool(obj, path, "multi", false, &multi, err);
  if (rc == AIINFRA_OK && (k->dims < 1 || k->dims > MAX_DIMS)) {
    rc = aii_fail(err, AIINFRA_EINVAL, "%s.dims is not 1 to %d", path, MAX_DIMS);
  }
  k->kind = multi ? AII_KIND_MULTI : AII_KIND_ONE;
  return rc;
}

static aiinfra_status read_kind(const char *label, const json_t *obj, kind_of *k, aiinfra_error *err)
{
  static const char *const members[] = {"sparse", NULL};
  char path[AII_MAX_LABEL + 16];
  bool sparse = false;
  (void)snprintf(path, sizeof path, "vectors_json.%.*s", AII_MAX_LABEL, label);
  *k = (kind_of){.dims = 1, .metric = AIINFRA_METRIC_IP, .kind = AII_KIND_SPARSE};
  size_t n = strlen(label);
  if (n == 0 || n > AII_MAX_LABEL) {
    return aii_fail(err, AIINFRA_EINVAL, "vectors_json: a name has 1 to %d bytes", AII_MAX_LABEL);
  }
  if (!json_is_object(obj)) {
    return aii_fail(err, AIINFRA_EINVAL, "%s: expected an object, found %s", path, aii_json_type(obj));
  }
  aiinfra_status rc = aii_json_get_bool(obj, path, "sparse", false, &sparse, err);
  if (rc != AIINFRA_OK || sparse) return rc == AIINFRA_OK ? aii_check_names(obj, path, members, err) : rc;
  *k = (kind_of){.dims = 0};
  return read_dense(obj, path, k, err);
}

aiinfra_status aii_named_parse(const char *json, json_t **names, aiinfra_error *err)
{
  const char *label;
  json_t *value;
  kind_of k;
  *names = NULL;
  if (json == NULL) return AIINFRA_OK;
  aiinfra_status rc = aii_request_parse(json, "vectors_json", names, err);
  if (rc == AIINFRA_OK && !json_is_object(*names)) {
    rc = aii_fail(err, AIINFRA_EINVAL, "vectors_json: expected an object, found %s", aii_json_type(*names));
  }
  if (rc == AIINFRA_OK && json_object_size(*names) > AII_MAX_NAMED) {
    rc = aii_fail(err, AIINFRA_EINVAL, "vectors_json: more than %d names", AII_MAX_NAMED);
  }
  json_object_foreach(*names, label, value)
  {
    if (rc == AIINFRA_OK) rc = read_kind(label, value, &k, err);
  }
  return rc;
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static aiinfra_status make_state(aiinfra_vecstore *below, aiinfra_error *err)
{
  bool ok = true;
  if (below->kind == AII_KIND_SPARSE) ok = (below->sparse = aii_sparse_new(below->index.mem)) != NULL;
  if (below->kind == AII_KIND_MULTI) ok = (below->multi = aii_multi_new(below->index.mem)) != NULL;
  return ok ? AIINFRA_OK : aii_fail(err, AIINFRA_ENOMEM, "no memory for an index");
}

/* k: dims 0: one that is there. */
static aiinfra_status open_one(aiinfra_vecstore *store, const char *label, const kind_of *k,
                               const aiinfra_vecstore_opts *opts, aiinfra_error *err)
{
  aii_mem *mem = store->index.mem;
  aiinfra_vecstore_opts o = *opts;
  aiinfra_vecstore *below = NULL;
  int64_t whole = store->tenant != NULL ? store->owner : store->collection;
  aii_below how = {whole, label, k->kind};
  aii_buf name;
  o.vectors_json = o.tenant = NULL;
  o.ttl_ms = 0;
  o.dims = (uint32_t)k->dims;
  o.metric = k->metric;
  o.element = k->element;
  if (store->n_named == AII_MAX_NAMED) return aii_fail(err, AIINFRA_EINVAL, "more than %d names", AII_MAX_NAMED);
  if (!aii_grow(mem, &store->named, &store->named_cap, store->n_named + 1, sizeof(aiinfra_vecstore *))) {
    return aii_fail(err, AIINFRA_ENOMEM, "no memory for names");
  }
  aii_buf_init(&name, mem, 0);
  aii_buf_fmt(&name, "@vectors/%lld/%s", (long long)whole, label);
  aiinfra_status rc = name.failed ? aii_fail(err, AIINFRA_ENOMEM, "no memory for a name")
                                  : aii_vecstore_open_below(store->db, name.data, &how, &o, &below, err);
  aii_buf_free(&name);
  if (rc == AIINFRA_OK) {
    store->named[store->n_named++] = below;
    below->above = store;
    if (store->tenant != NULL) below->collection = 0; /* what was opened tells what the tenant's is like */
    rc = make_state(below, err);
  }
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "vectors '%s'", label);
}

/* The names that the database has and the store has not opened, as a list of strings. */
static aiinfra_status list_others(aiinfra_vecstore *store, json_t *list, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = true;
  aii_sql_lock(store->db->sql);
  aiinfra_status rc =
      aii_sql_prepare(store->db->sql, "SELECT label FROM collections WHERE parent = ?1 ORDER BY label", &stmt, err);
  if (rc == AIINFRA_OK) {
    aii_stmt_int(stmt, 1, store->tenant != NULL ? store->owner : store->collection);
    while (rc == AIINFRA_OK && row) {
      rc = aii_stmt_step(stmt, &row, err);
      if (rc != AIINFRA_OK || !row) break;
      const char *label = aii_stmt_get_text(stmt, 0, NULL);
      if (aii_named_find(store, label) != NULL) continue;
      if (json_array_append_new(list, json_string(label)) != 0) {
        rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for names");
      }
    }
    aii_stmt_reset(stmt);
  }
  aii_sql_unlock(store->db->sql);
  return rc;
}

aiinfra_status aii_named_open(aiinfra_vecstore *store, const json_t *names, const aiinfra_vecstore_opts *opts,
                              aiinfra_error *err)
{
  const kind_of there = {.dims = 0};
  const char *label;
  json_t *value, *others = json_array();
  aiinfra_status rc = others != NULL ? AIINFRA_OK : aii_fail(err, AIINFRA_ENOMEM, "no memory for names");
  json_object_foreach((json_t *)(uintptr_t)names, label, value)
  {
    kind_of k;
    if (rc == AIINFRA_OK) rc = read_kind(label, value, &k, err);
    if (rc == AIINFRA_OK) rc = open_one(store, label, &k, opts, err);
  }
  if (rc == AIINFRA_OK) rc = list_others(store, others, err);
  for (size_t i = 0; rc == AIINFRA_OK && i < json_array_size(others); i++) {
    rc = open_one(store, json_string_value(json_array_get(others, i)), &there, opts, err);
  }
  json_decref(others);
  return rc;
}

void aii_named_close(aiinfra_vecstore *store)
{
  for (size_t i = 0; i < store->n_named; i++) {
    aii_sparse_free(store->named[i]->sparse);
    aii_multi_free(store->named[i]->multi);
    aii_vecstore_free(store->named[i]);
  }
  aii_del(store->index.mem, store->named, store->named_cap * sizeof(aiinfra_vecstore *));
}

aiinfra_vecstore *aii_named_find(const aiinfra_vecstore *store, const char *label)
{
  for (size_t i = 0; i < store->n_named; i++) {
    if (strcmp(store->named[i]->label, label) == 0) return store->named[i];
  }
  return NULL;
}
