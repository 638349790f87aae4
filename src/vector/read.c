/* read.c - what is asked of rows without a vector: how many pass, which values a field has, rows page by page.
 *
 * The happy path: the request is opened -> in one view of the rows (view.c) the filter becomes a bitmap -> the answer is written
 * as JSON. What can fail: the request, the database, memory. Thread: any, no lock held.
 */
#include <stdlib.h>

#include "lib/json/json.h"
#include "src/vector/order.h"
#include "src/vector/request.h"
#include "src/vector/tenant.h"
#include "src/vector/view.h"

enum { LIMIT = 10, MAX_LIMIT = 1 << 20 };

typedef struct reading {
  aiinfra_vecstore *store;
  aii_request request;
  aii_view view;
  aii_mask mask;
  aii_buf json;
  int64_t limit;
} reading;

static aiinfra_status read_limit(reading *r, aiinfra_error *err)
{
  r->limit = LIMIT;
  aiinfra_status rc = aii_json_get_int(r->request.body, r->request.verb, "limit", false, &r->limit, err);
  if (rc != AIINFRA_OK || (r->limit >= 1 && r->limit <= MAX_LIMIT)) return rc;
  return aii_fail(err, AIINFRA_EINVAL, "request: %s.limit is not 1 to %d", r->request.verb, MAX_LIMIT);
}

/* ---- facets ---------------------------------------------------------------------------------------------------- */

typedef struct facet {
  const aii_key_name *value;
  uint64_t count;
} facet;

static int by_count(const void *a, const void *b)
{
  const facet *x = a, *y = b;
  if (x->count != y->count) return x->count > y->count ? -1 : 1;
  return strcmp(x->value->s, y->value->s);
}

static bool write_facets(reading *r, const aii_column *column)
{
  aii_mem *mem = r->store->index.mem;
  size_t n = column->values.n;
  facet *facets = aii_new_array(mem, n, sizeof *facets);
  if (n > 0 && facets == NULL) return false;
  for (size_t v = 0; v < n; v++) facets[v].value = &column->values.names[v];
  for (size_t i = 0; i < column->n; i++) facets[column->cells[i].value].count++;
  if (n > 1) qsort(facets, n, sizeof *facets, by_count);
  aii_buf_str(&r->json, "{\"values\":[");
  for (size_t i = 0; i < AII_MIN(n, (size_t)r->limit); i++) {
    aii_buf_str(&r->json, i > 0 ? ",{\"value\":" : "{\"value\":");
    aii_buf_add(&r->json, facets[i].value->s, facets[i].value->n - 1);
    aii_buf_fmt(&r->json, ",\"count\":%llu}", (unsigned long long)facets[i].count);
  }
  aii_buf_str(&r->json, "]}");
  aii_del(mem, facets, n * sizeof *facets);
  return true;
}

static aiinfra_status read_facet(reading *r, aiinfra_error *err)
{
  const char *key = NULL;
  aii_column column;
  aiinfra_status rc = aii_json_get_str(r->request.body, "facet", "key", true, &key, err);
  if (rc == AIINFRA_OK) rc = read_limit(r, err);
  if (rc == AIINFRA_OK) rc = aii_column_make(r->store, r->view.sql, key, &r->mask, &column, err);
  if (rc != AIINFRA_OK) return rc;
  if (!write_facets(r, &column)) rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for facets");
  aii_column_free(&column);
  return rc;
}

/* ---- pages ----------------------------------------------------------------------------------------------------- */

static aiinfra_status write_row(reading *r, int64_t id, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool found;
  size_t n;
  aiinfra_status rc = aii_sql_prepare(
      r->view.sql, "SELECT text, payload, expires_ms FROM rows WHERE collection = ?1 AND id = ?2", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, r->store->collection);
  aii_stmt_int(stmt, 2, id);
  rc = aii_stmt_step(stmt, &found, err);
  if (rc == AIINFRA_OK && found) {
    const char *text = aii_stmt_get_text(stmt, 0, &n);
    aii_buf_fmt(&r->json, "{\"id\":%lld,\"text\":", (long long)id);
    aii_buf_json(&r->json, text, n);
    const char *payload = aii_stmt_get_text(stmt, 1, &n);
    aii_buf_str(&r->json, ",\"payload\":");
    if (n > 0) aii_buf_add(&r->json, payload, n);
    else aii_buf_str(&r->json, "{}");
    if (!aii_stmt_is_null(stmt, 2)) aii_buf_fmt(&r->json, ",\"expires_ms\":%lld", (long long)aii_stmt_get_int(stmt, 2));
    aii_buf_char(&r->json, '}');
  }
  aii_stmt_reset(stmt);
  return rc;
}

static bool is_passing(const reading *r, int64_t id)
{
  if (r->mask.bits == NULL) return true;
  uint32_t slot = aii_idmap_get(&r->store->index.map, id);
  return slot < r->store->index.n && aii_bit(r->mask.bits, slot);
}

/* Steps through the ids until the page is full and one more row passes. */
static aiinfra_status write_page(reading *r, aii_stmt *stmt, aiinfra_error *err)
{
  int64_t n = 0, last = 0;
  bool row = true, more = false;
  aiinfra_status rc = AIINFRA_OK;
  while (rc == AIINFRA_OK && !more) {
    rc = aii_stmt_step(stmt, &row, err);
    if (rc != AIINFRA_OK || !row) break;
    int64_t id = aii_stmt_get_int(stmt, 0);
    if (!is_passing(r, id)) continue;
    more = n == r->limit;
    if (more) break;
    if (n++ > 0) aii_buf_char(&r->json, ',');
    rc = write_row(r, id, err);
    last = id;
  }
  if (more) aii_buf_fmt(&r->json, "],\"next\":%lld}", (long long)last);
  else aii_buf_str(&r->json, "],\"next\":null}");
  return rc;
}

/* A page in the order of a field. */
static aiinfra_status read_ordered(reading *r, aiinfra_error *err)
{
  aii_order *order;
  size_t at = 0, n = 0;
  aiinfra_status rc = read_limit(r, err);
  if (rc != AIINFRA_OK) return rc;
  rc = aii_order_make(r->store, r->view.sql, json_object_get(r->request.body, "order_by"), &r->mask, &order, err);
  if (rc != AIINFRA_OK) return rc;
  rc = aii_order_after(order, json_object_get(r->request.body, "after"), &at, err);
  aii_buf_str(&r->json, "{\"rows\":[");
  for (; rc == AIINFRA_OK && n < (size_t)r->limit && at < aii_order_size(order); at++) {
    if (n++ > 0) aii_buf_char(&r->json, ',');
    rc = write_row(r, aii_order_id(order, at), err);
  }
  aii_buf_str(&r->json, "],\"next\":");
  if (n > 0 && at < aii_order_size(order)) aii_order_next(order, at - 1, &r->json);
  else aii_buf_str(&r->json, "null");
  aii_buf_char(&r->json, '}');
  aii_order_free(order);
  return rc;
}

static aiinfra_status read_scroll(reading *r, aiinfra_error *err)
{
  aii_stmt *stmt;
  int64_t after = INT64_MIN;
  const json_t *given = json_object_get(r->request.body, "after");
  aiinfra_status rc = aii_json_get_int(r->request.body, "scroll", "after", false, &after, err);
  if (rc == AIINFRA_OK) rc = read_limit(r, err);
  if (rc == AIINFRA_OK) {
    rc = aii_sql_prepare(r->view.sql,
                         "SELECT id FROM rows WHERE collection = ?1 AND id >= ?2 AND (id > ?2 OR ?3) "
                         "AND (expires_ms IS NULL OR expires_ms > ?4) ORDER BY id",
                         &stmt, err);
  }
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, r->store->collection);
  aii_stmt_int(stmt, 2, after);
  aii_stmt_int(stmt, 3, given == NULL || json_is_null(given));
  aii_stmt_int(stmt, 4, r->store->expiry.now_ms());
  aii_buf_str(&r->json, "{\"rows\":[");
  rc = write_page(r, stmt, err);
  aii_stmt_reset(stmt);
  return rc;
}

/* ---- the whole ------------------------------------------------------------------------------------------------- */

static aiinfra_status read_rows(reading *r, aiinfra_error *err)
{
  bool is_facet = aii_request_is(&r->request, "facet"), is_scroll = aii_request_is(&r->request, "scroll");
  bool ordered = is_scroll && aii_json_has(r->request.body, "order_by");
  bool tenants = aii_request_is(&r->request, "tenants");
  aii_wants wants = {.index = !tenants, .payloads = r->request.filter != NULL || is_facet || ordered};
  aiinfra_status rc = aii_view_open(&r->view, r->store, &wants, err);
  if (rc != AIINFRA_OK) return rc;
  if (!tenants) rc = aii_view_select(&r->view, r->request.filter, r->request.filter_text, &r->mask, err);
  if (rc == AIINFRA_OK) {
    if (tenants) rc = aii_tenants_read(r->store, r->view.sql, r->request.body, &r->json, err);
    else if (is_facet) rc = read_facet(r, err);
    else if (ordered) rc = read_ordered(r, err);
    else if (is_scroll) rc = read_scroll(r, err);
    else aii_buf_fmt(&r->json, "{\"count\":%u}", r->mask.n_passing);
  }
  aii_view_leave_indexes(&r->view);
  aii_view_leave_rows(&r->view);
  return rc;
}

aiinfra_status aii_vecstore_read(aiinfra_vecstore *store, const char *request, char **out, aiinfra_error *err)
{
  static const char *const count[] = {"filter", NULL}, *const values[] = {"filter", "key", "limit", NULL};
  static const char *const scroll[] = {"filter", "after", "limit", "order_by", NULL};
  static const char *const tenants[] = {"after", "limit", NULL};
  static const aii_verb verbs[] = {
      {"count", count}, {"facet", values}, {"scroll", scroll}, {"tenants", tenants}, {NULL, NULL}};
  reading r = {.store = store};
  aiinfra_status rc = aii_request_open(store->index.mem, request, verbs, &r.request, err);
  if (rc != AIINFRA_OK) return rc;
  aii_buf_init(&r.json, store->index.mem, 0);
  rc = read_rows(&r, err);
  if (rc == AIINFRA_OK) rc = aii_buf_export(&r.json, out, err);
  aii_buf_free(&r.json);
  aii_mask_free(store, &r.mask);
  aii_request_close(&r.request);
  return rc;
}
