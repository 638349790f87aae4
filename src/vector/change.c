/* change.c - deletes rows and changes payloads by filter or by ids, in one transaction.
 *
 * The happy path: the request is opened -> a write transaction begins -> the filter becomes a list of ids -> the rows
 * are removed, or get the collection's next seq with their new payload -> commit. Other handles and processes learn of
 * it by the seq, as of any write. Thread: any, no lock held.
 */
#include <stdlib.h>

#include "lib/json/json.h"
#include "src/vector/request.h"
#include "src/vector/tenant.h"
#include "src/vector/view.h"

typedef struct change {
  aiinfra_vecstore *store;
  aii_request request;
  int64_t *ids, seq, expires_ms; /* of set_expiry */
  aii_ids dropped;               /* a tenant's collections */
  size_t n, cap;
} change;

static aiinfra_status no_memory(aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_ENOMEM, "no memory for a change");
}

/* ---- which rows ------------------------------------------------------------------------------------------------ */

static bool add_id(change *c, int64_t id)
{
  if (!aii_grow(c->store->index.mem, &c->ids, &c->cap, c->n + 1, sizeof *c->ids)) return false;
  c->ids[c->n++] = id;
  return true;
}

static int by_id(const void *a, const void *b)
{
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

/* Each id once. */
static aiinfra_status take_ids(change *c, const json_t *ids, aiinfra_error *err)
{
  for (size_t i = 0; i < json_array_size(ids); i++) {
    if (!json_is_integer(json_array_get(ids, i))) {
      return aii_fail(err, AIINFRA_EINVAL, "request: %s.ids[%zu]: expected an integer", c->request.verb, i);
    }
    if (!add_id(c, json_integer_value(json_array_get(ids, i)))) return no_memory(err);
  }
  if (!json_is_array(ids)) return aii_fail(err, AIINFRA_EINVAL, "request: %s.ids: expected an array", c->request.verb);
  size_t n = c->n > 0;
  if (c->n > 1) qsort(c->ids, c->n, sizeof *c->ids, by_id);
  for (size_t i = 1; i < c->n; i++) {
    if (c->ids[i] != c->ids[n - 1]) c->ids[n++] = c->ids[i];
  }
  c->n = n;
  return AIINFRA_OK;
}

/* In the transaction, before anything is written. */
static aiinfra_status find_ids(change *c, aiinfra_error *err)
{
  aii_index *index = &c->store->index;
  const json_t *ids = json_object_get(c->request.body, "ids");
  const aii_wants wants = {.index = true, .payloads = true};
  aii_mask mask = {.n_words = 0};
  aii_view view;
  if ((ids != NULL) == (c->request.filter != NULL)) {
    return aii_fail(err, AIINFRA_EINVAL, "request: %s wants either \"filter\" or \"ids\"", c->request.verb);
  }
  if (ids != NULL) return take_ids(c, ids, err);
  aiinfra_status rc = aii_view_within(&view, c->store, &wants, err);
  if (rc != AIINFRA_OK) return rc;
  rc = aii_view_select(&view, c->request.filter, c->request.filter_text, &mask, err);
  for (uint32_t slot = 0; rc == AIINFRA_OK && slot < index->n; slot++) {
    if (!aii_bit(mask.bits, slot)) continue;
    if (!add_id(c, aii_block_of(index, slot)->ids[slot % AII_BLOCK_SLOTS])) rc = no_memory(err);
  }
  aii_view_leave_indexes(&view);
  aii_mask_free(c->store, &mask);
  return rc;
}

/* ---- payloads -------------------------------------------------------------------------------------------------- */

static aiinfra_status check_payload_request(const change *c, aiinfra_error *err)
{
  const json_t *payload = json_object_get(c->request.body, "payload"), *keys = json_object_get(c->request.body, "keys");
  if (!aii_request_is(&c->request, "delete_payload")) {
    if (json_is_object(payload)) return AIINFRA_OK;
    return aii_fail(err, AIINFRA_EINVAL, "request: %s.payload: expected an object, found %s", c->request.verb,
                    aii_json_type(payload));
  }
  bool ok = json_is_array(keys);
  for (size_t i = 0; ok && i < json_array_size(keys); i++) ok = json_is_string(json_array_get(keys, i));
  return ok ? AIINFRA_OK : aii_fail(err, AIINFRA_EINVAL, "request: delete_payload.keys: expected an array of strings");
}

/* The new payload from the old one, which is changed. */
static aiinfra_status edit(const change *c, json_t *payload, aiinfra_error *err)
{
  const json_t *patch = json_object_get(c->request.body, "payload"), *keys = json_object_get(c->request.body, "keys");
  const char *name;
  json_t *value;
  for (size_t i = 0; i < json_array_size(keys); i++) {
    (void)json_object_del(payload, json_string_value(json_array_get(keys, i)));
  }
  json_object_foreach((json_t *)(uintptr_t)patch, name, value)
  {
    if (json_object_set_nocheck(payload, name, value) != 0) return no_memory(err);
  }
  return AIINFRA_OK;
}

static aiinfra_status edit_text(const change *c, const char *old, size_t n, aii_buf *text, aiinfra_error *err)
{
  json_t *payload = NULL;
  aiinfra_status rc = AIINFRA_OK;
  if (n > 0 && !aii_request_is(&c->request, "overwrite_payload")) {
    rc = aii_json_parse(old, n, "payload", 0, &payload, err);
  } else {
    payload = json_object();
  }
  if (rc == AIINFRA_OK && payload == NULL) rc = no_memory(err);
  if (rc == AIINFRA_OK) rc = edit(c, payload, err);
  if (rc == AIINFRA_OK && !aii_json_dump(payload, text)) rc = no_memory(err);
  if (rc == AIINFRA_OK && text->len > AII_JSON_MAX_BYTES) {
    rc = aii_fail(err, AIINFRA_EINVAL, "its payload would have %zu bytes, at most %zu are allowed", text->len,
                  AII_JSON_MAX_BYTES);
  }
  json_decref(payload);
  return rc;
}

static aiinfra_status next_seq(change *c, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = false;
  aiinfra_status rc = aii_sql_prepare(c->store->db->sql,
                                      "UPDATE collections SET seq = seq + 1 WHERE id = ?1 RETURNING seq", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, c->store->collection);
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK && !row) rc = aii_fail(err, AIINFRA_ENOENT, "the collection is gone");
  if (rc == AIINFRA_OK) {
    c->seq = aii_stmt_get_int(stmt, 0);
    rc = aii_stmt_step(stmt, &row, err); /* to its end, or the update is undone */
  }
  aii_stmt_reset(stmt);
  return rc;
}

static aiinfra_status write_payload(change *c, int64_t row, const aii_buf *text, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc =
      aii_sql_prepare(c->store->db->sql, "UPDATE rows SET payload = ?2, seq = ?3 WHERE row = ?1", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, row);
  aii_stmt_text(stmt, 2, text->data, text->len);
  aii_stmt_int(stmt, 3, c->seq);
  return aii_stmt_run(stmt, err);
}

static aiinfra_status change_row(change *c, int64_t id, size_t *n_changed, aiinfra_error *err)
{
  aii_stmt *stmt;
  aii_buf text;
  bool found;
  size_t n;
  int64_t row = 0;
  aiinfra_status rc = aii_sql_prepare(c->store->db->sql,
                                      "SELECT row, payload FROM rows WHERE collection = ?1 AND id = ?2 "
                                      "AND (expires_ms IS NULL OR expires_ms > ?3)",
                                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_buf_init(&text, c->store->index.mem, 0);
  aii_stmt_int(stmt, 1, c->store->collection);
  aii_stmt_int(stmt, 2, id);
  aii_stmt_int(stmt, 3, c->store->expiry.now_ms());
  rc = aii_stmt_step(stmt, &found, err);
  if (rc == AIINFRA_OK && found) {
    const char *old = aii_stmt_get_text(stmt, 1, &n);
    row = aii_stmt_get_int(stmt, 0);
    rc = edit_text(c, old, n, &text, err);
  }
  aii_stmt_reset(stmt);
  if (rc == AIINFRA_OK && row != 0) rc = write_payload(c, row, &text, err);
  if (rc == AIINFRA_OK) *n_changed += row != 0;
  else rc = aii_wrap(err, rc, "row %lld", (long long)id);
  aii_buf_free(&text);
  return rc;
}

/* ---- times ----------------------------------------------------------------------------------------------------- */

/* Absolute, or from now. */
static aiinfra_status read_expiry(change *c, aiinfra_error *err)
{
  int64_t ttl_s = 0, now_ms = c->store->expiry.now_ms();
  bool ttl = json_object_get(c->request.body, "ttl_s") != NULL;
  if (ttl == (json_object_get(c->request.body, "expires_ms") != NULL)) {
    return aii_fail(err, AIINFRA_EINVAL, "request: set_expiry wants either \"ttl_s\" or \"expires_ms\"");
  }
  aiinfra_status rc = aii_json_get_int(c->request.body, "set_expiry", "ttl_s", ttl, &ttl_s, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_int(c->request.body, "set_expiry", "expires_ms", !ttl, &c->expires_ms, err);
  if (rc != AIINFRA_OK) return rc;
  if (ttl ? ttl_s < 1 || ttl_s > (INT64_MAX - now_ms) / 1000 : c->expires_ms < 0) {
    return aii_fail(err, AIINFRA_EINVAL,
                    "request: set_expiry: the time is out of range; ttl_s is at least 1, expires_ms 0 "
                    "is never");
  }
  if (ttl) c->expires_ms = now_ms + 1000 * ttl_s;
  return AIINFRA_OK;
}

static aiinfra_status write_expiry(change *c, int64_t id, size_t *n_changed, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc = aii_sql_prepare(c->store->db->sql,
                                      "UPDATE rows SET expires_ms = nullif(?3, 0), seq = ?4 WHERE collection = ?1 "
                                      "AND id = ?2 AND (expires_ms IS NULL OR expires_ms > ?5)",
                                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, c->store->collection);
  aii_stmt_int(stmt, 2, id);
  aii_stmt_int(stmt, 3, c->expires_ms);
  aii_stmt_int(stmt, 4, c->seq);
  aii_stmt_int(stmt, 5, c->store->expiry.now_ms());
  rc = aii_stmt_run(stmt, err);
  *n_changed += rc == AIINFRA_OK && aii_sql_changes(c->store->db->sql) > 0;
  return rc;
}

/* ---- the whole ------------------------------------------------------------------------------------------------- */

/* In the caller's transaction. */
static aiinfra_status apply(change *c, size_t *n_changed, aiinfra_error *err)
{
  bool removes = aii_request_is(&c->request, "delete"), expires = aii_request_is(&c->request, "set_expiry");
  if (aii_request_is(&c->request, "drop_tenant"))
    return aii_tenant_drop(c->store, c->request.body, &c->dropped, n_changed, err);
  aiinfra_status rc = aii_tenant_find(c->store, err);
  if (rc != AIINFRA_OK) return rc;
  if (aii_request_is(&c->request, "remove_expired")) return aii_expiry_purge_all(c->store, n_changed, err);
  rc = removes ? AIINFRA_OK : expires ? read_expiry(c, err) : check_payload_request(c, err);
  if (rc == AIINFRA_OK) rc = find_ids(c, err);
  if (rc != AIINFRA_OK || c->n == 0 || c->store->collection == 0) return rc;
  if (removes) return aii_rows_remove(c->store, c->ids, c->n, n_changed, err);
  rc = next_seq(c, err);
  for (size_t i = 0; rc == AIINFRA_OK && i < c->n; i++) {
    rc = expires ? write_expiry(c, c->ids[i], n_changed, err) : change_row(c, c->ids[i], n_changed, err);
  }
  return rc;
}

/* What drops a tenant, or writes where a tenant has nothing, concerns no index of this handle. */
static aiinfra_status commit(const change *c, aiinfra_error *err)
{
  bool tells = c->dropped.n == 0 && c->store->collection != 0;
  return tells ? aii_vecstore_commit(c->store, NULL, err) : aii_sql_commit(c->store->db->sql, err);
}

aiinfra_status aii_vecstore_change(aiinfra_vecstore *store, const char *request, uint64_t *n, aiinfra_error *err)
{
  static const char *const rows[] = {"filter", "ids", NULL}, *const keys[] = {"keys", "filter", "ids", NULL};
  static const char *const payload[] = {"payload", "filter", "ids", NULL}, *const nothing[] = {NULL};
  static const char *const tenant[] = {"tenant", NULL};
  static const char *const expiry[] = {"ttl_s", "expires_ms", "filter", "ids", NULL};
  static const aii_verb verbs[] = {
      {"delete", rows},       {"set_payload", payload},    {"overwrite_payload", payload}, {"delete_payload", keys},
      {"set_expiry", expiry}, {"remove_expired", nothing}, {"drop_tenant", tenant},        {NULL, NULL}};
  aii_sql *sql = store->db->sql;
  change c = {.store = store};
  size_t n_changed = 0;
  aiinfra_status rc = aii_request_open(store->index.mem, request, verbs, &c.request, err);
  if (rc != AIINFRA_OK) return rc;
  atomic_fetch_add(&store->n_writers, 1);
  aii_sql_lock(sql);
  rc = aii_sql_begin(sql, err);
  if (rc == AIINFRA_OK) {
    rc = apply(&c, &n_changed, err);
    if (rc == AIINFRA_OK) rc = commit(&c, err);
    else aii_sql_rollback(sql);
  }
  for (size_t i = 0; rc == AIINFRA_OK && i < c.dropped.n; i++) aii_keep_remove(store->db, c.dropped.items[i]);
  aii_sql_unlock(sql);
  aii_vecstore_heal(store);
  atomic_fetch_sub(&store->n_writers, 1);
  aii_del(store->index.mem, c.ids, c.cap * sizeof *c.ids);
  aii_del(store->index.mem, c.dropped.items, c.dropped.cap * sizeof *c.dropped.items);
  aii_request_close(&c.request);
  if (rc == AIINFRA_OK) *n = n_changed;
  return rc;
}
