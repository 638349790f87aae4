/* order.c - the order of rows by a field of their payloads, for pages that are read in it.
 *
 *   {"order_by": {"key": "price", "direction": "desc"}, "after": {"value": 12.5, "id": 17}}, or "order_by": "price"
 *
 * Numbers come first, then dates by their time, then other strings byte by byte, true and false before all of them; with
 * "desc" all of this turns round. Equal values are in the order of ids. Of a field with several values the first one counts. Rows without a value come last
 * in both directions, so that no row is left out. "after" names the last row of the page before: its value as the answer
 * told it, null where there was none, and its id. What can fail: the request, memory, the database. Locks as column.c.
 */
#include <stdlib.h>

#include "lib/json/json.h"
#include "src/vector/doc.h"
#include "src/vector/order.h"

/* What is compared, in the order of kinds. */
typedef enum kind { TRUTH, NUMBER, TIME, TEXT, NONE } kind;

typedef struct place {
  kind kind;
  uint32_t type; /* of a number: an integer or a real */
  int64_t i;     /* of integers, dates, truth */
  double d;
  const char *s; /* of a text, borrowed from its JSON */
  size_t n;
} place;

typedef struct entry {
  const place *place;
  int64_t id;
  uint32_t slot;
  bool down;
} entry;

struct aii_order {
  aii_mem *mem;
  aii_column column;
  json_t **values; /* by number of the column's value */
  place *places;
  size_t n_values;
  entry *entries;
  size_t n, n_room;
};

static const place NOWHERE = {.kind = NONE};

/* ---- comparing ------------------------------------------------------------------------------------------------- */

static place place_of(const json_t *value)
{
  place p = {.kind = NONE};
  if (json_is_boolean(value)) {
    p.kind = TRUTH;
    p.i = json_is_true(value);
  } else if (json_is_number(value)) {
    p.kind = NUMBER;
    aii_number_of(value, &p.type, &p.i, &p.d);
  } else if (json_is_string(value)) {
    p.s = json_string_value(value);
    p.n = json_string_length(value);
    p.kind = aii_time_parse(p.s, p.n, &p.i) ? TIME : TEXT;
  }
  return p;
}

/* Whole numbers of 64 bits exactly; reals are never whole, or beyond them. */
static int compare_numbers(const place *a, const place *b)
{
  if (a->type == b->type && a->type == AII_CELL_INT) return (a->i > b->i) - (a->i < b->i);
  if (a->type == b->type || (a->d < b->d) != (a->d > b->d)) return (a->d > b->d) - (a->d < b->d);
  /* a whole number that as a double is the real: the real is then whole too, and beyond 64 bits */
  return a->type == AII_CELL_INT ? (b->d > 0 ? -1 : 1) : (a->d > 0 ? 1 : -1);
}

static int compare_texts(const place *a, const place *b)
{
  size_t n = AII_MIN(a->n, b->n);
  int order = n > 0 ? memcmp(a->s, b->s, n) : 0;
  return order != 0 ? order : (a->n > b->n) - (a->n < b->n);
}

static int compare_places(const place *a, const place *b)
{
  if (a->kind != b->kind) return a->kind < b->kind ? -1 : 1;
  if (a->kind == NUMBER) return compare_numbers(a, b);
  if (a->kind == TEXT) return compare_texts(a, b);
  return a->kind == NONE ? 0 : (a->i > b->i) - (a->i < b->i);
}

static int by_place(const void *a, const void *b)
{
  const entry *x = a, *y = b;
  bool last = (x->place->kind == NONE) != (y->place->kind == NONE);
  int order = compare_places(x->place, y->place);
  if (order != 0) return x->down && !last ? -order : order;
  return (x->id > y->id) - (x->id < y->id);
}

/* ---- making ---------------------------------------------------------------------------------------------------- */

static aiinfra_status no_memory(aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_ENOMEM, "no memory for an order of rows");
}

static aiinfra_status read_values(aii_order *o, aiinfra_error *err)
{
  o->n_values = o->column.values.n;
  if (o->n_values == 0) return AIINFRA_OK;
  o->values = aii_new_array(o->mem, o->n_values, sizeof(json_t *));
  o->places = aii_new_array(o->mem, o->n_values, sizeof *o->places);
  if (o->values == NULL || o->places == NULL) return no_memory(err);
  for (size_t v = 0; v < o->n_values; v++) {
    const aii_key_name *name = &o->column.values.names[v];
    aiinfra_status rc = aii_json_parse(name->s, name->n - 1, "value", 0, &o->values[v], err);
    if (rc != AIINFRA_OK) return rc;
    o->places[v] = place_of(o->values[v]);
  }
  return AIINFRA_OK;
}

/* All rows that pass, in the order of slots. */
static aiinfra_status list_rows(aii_order *o, const aii_index *index, const aii_mask *mask, bool down,
                                aiinfra_error *err)
{
  o->n_room = mask->n_passing;
  if (o->n_room == 0) return AIINFRA_OK;
  o->entries = aii_new_array(o->mem, o->n_room, sizeof *o->entries);
  uint32_t *first = aii_new_array(o->mem, index->n, sizeof *first);
  bool ok = o->entries != NULL && first != NULL;
  for (uint32_t slot = 0; ok && slot < index->n; slot++) first[slot] = AII_NO_SLOT;
  for (size_t i = 0; ok && i < o->column.n; i++) {
    const aii_column_cell *cell = &o->column.cells[i];
    if (first[cell->slot] == AII_NO_SLOT) first[cell->slot] = cell->value;
  }
  for (uint32_t slot = 0; ok && slot < index->n && o->n < o->n_room; slot++) {
    if (aii_is_dead(index, slot) || (mask->bits != NULL && !aii_bit(mask->bits, slot))) continue;
    int64_t id = aii_block_of(index, slot)->ids[slot % AII_BLOCK_SLOTS];
    const place *p = first[slot] != AII_NO_SLOT ? &o->places[first[slot]] : &NOWHERE;
    o->entries[o->n++] = (entry){p, id, slot, down};
  }
  aii_del(o->mem, first, index->n * sizeof *first);
  return ok ? AIINFRA_OK : no_memory(err);
}

static aiinfra_status read_order(const json_t *order, const char **key, bool *down, aiinfra_error *err)
{
  static const char *const names[] = {"key", "direction", NULL};
  const char *direction = "asc";
  *key = json_string_value(order);
  *down = false;
  if (*key != NULL) return AIINFRA_OK;
  if (!json_is_object(order)) {
    return aii_fail(err, AIINFRA_EINVAL, "request: scroll.order_by: expected the key of a field or an object, found %s",
                    aii_json_type(order));
  }
  aiinfra_status rc = aii_check_names(order, "request: scroll.order_by", names, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_str(order, "scroll.order_by", "key", true, key, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_str(order, "scroll.order_by", "direction", false, &direction, err);
  if (rc != AIINFRA_OK) return rc;
  *down = strcmp(direction, "desc") == 0;
  if (*down || strcmp(direction, "asc") == 0) return AIINFRA_OK;
  return aii_fail(err, AIINFRA_EINVAL, "request: scroll.order_by.direction is neither asc nor desc");
}

aiinfra_status aii_order_make(aiinfra_vecstore *store, aii_sql *sql, const json_t *order, const aii_mask *mask,
                              aii_order **out, aiinfra_error *err)
{
  const char *key = NULL;
  bool down = false;
  *out = NULL;
  aiinfra_status rc = read_order(order, &key, &down, err);
  if (rc != AIINFRA_OK) return rc;
  aii_order *o = aii_new(store->index.mem, sizeof *o);
  if (o == NULL) return no_memory(err);
  o->mem = store->index.mem;
  rc = aii_column_make(store, sql, key, mask, &o->column, err);
  if (rc == AIINFRA_OK) rc = read_values(o, err);
  if (rc == AIINFRA_OK) rc = list_rows(o, &store->index, mask, down, err);
  if (rc != AIINFRA_OK) {
    aii_order_free(o);
    return rc;
  }
  if (o->n > 1) qsort(o->entries, o->n, sizeof *o->entries, by_place);
  *out = o;
  return AIINFRA_OK;
}

void aii_order_free(aii_order *o)
{
  if (o == NULL) return;
  for (size_t v = 0; o->values != NULL && v < o->n_values; v++) json_decref(o->values[v]);
  aii_del(o->mem, o->values, o->n_values * sizeof(json_t *));
  aii_del(o->mem, o->places, o->n_values * sizeof *o->places);
  aii_del(o->mem, o->entries, o->n_room * sizeof *o->entries);
  aii_column_free(&o->column);
  aii_del(o->mem, o, sizeof *o);
}

/* ---- reading --------------------------------------------------------------------------------------------------- */

aiinfra_status aii_order_after(const aii_order *o, const json_t *after, size_t *at, aiinfra_error *err)
{
  static const char *const names[] = {"value", "id", NULL};
  const json_t *id = json_object_get(after, "id"), *value = json_object_get(after, "value");
  *at = 0;
  if (after == NULL || json_is_null(after)) return AIINFRA_OK;
  if (json_is_object(after)) {
    aiinfra_status rc = aii_check_names(after, "request: scroll.after", names, err);
    if (rc != AIINFRA_OK) return rc;
  }
  if (!json_is_integer(id) || value == NULL || json_is_array(value) || json_is_object(value)) {
    return aii_fail(err, AIINFRA_EINVAL, "request: scroll.after is not the \"next\" of a page in this order");
  }
  place p = place_of(value);
  entry last = {&p, json_integer_value(id), 0, o->n > 0 && o->entries[0].down};
  size_t to = o->n;
  while (*at < to) {
    size_t middle = *at + (to - *at) / 2;
    if (by_place(&o->entries[middle], &last) <= 0) *at = middle + 1;
    else to = middle;
  }
  return AIINFRA_OK;
}

size_t aii_order_size(const aii_order *o)
{
  return o->n;
}

int64_t aii_order_id(const aii_order *o, size_t at)
{
  return o->entries[at].id;
}

void aii_order_next(const aii_order *o, size_t at, aii_buf *json)
{
  const place *p = o->entries[at].place;
  aii_buf_str(json, "{\"value\":");
  if (p->kind == NONE) aii_buf_str(json, "null");
  else aii_buf_add(json, o->column.values.names[p - o->places].s, o->column.values.names[p - o->places].n - 1);
  aii_buf_fmt(json, ",\"id\":%lld}", (long long)o->entries[at].id);
}
