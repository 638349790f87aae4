/* rowvecs.c - what rows of files have under names: read from the database for an export, made ready for an import.
 *
 * A file knows forms alone: one vector, several of one length, indices with values. Here they meet the kinds that the
 * collection has. Failures: a form that is not that of the kind, memory, the database.
 */
#include <stdlib.h>

#include "src/vector/named.h"
#include "src/vector/vecfile.h"

static aiinfra_status no_memory(aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_ENOMEM, "no memory for vectors under names");
}

/* ---- for an import ----------------------------------------------------------------------------------------------- */

static aiinfra_status check_form(const aiinfra_vecstore *below, const aii_rowvec *v, aiinfra_error *err)
{
  const char *label = below->label;
  uint32_t dims = below->index.dims, found = v->dims > 0 ? v->dims : (uint32_t)v->n;
  if (below->kind == AII_KIND_SPARSE) {
    if (v->indices != NULL) return AIINFRA_OK;
    return aii_fail(err, AIINFRA_EINVAL,
                    "vectors.%.64s: the collection's are sparse; write {\"indices\": [...], \"values\": [...]}", label);
  }
  if (v->indices != NULL) {
    return aii_fail(err, AIINFRA_EINVAL, "vectors.%.64s: the collection's are not sparse; write an array of numbers",
                    label);
  }
  if (v->dims > 0 && below->kind == AII_KIND_ONE) {
    return aii_fail(err, AIINFRA_EINVAL,
                    "vectors.%.64s: the collection has one vector a row there; write an array of numbers", label);
  }
  if (found == dims) return AIINFRA_OK;
  return aii_fail(err, AIINFRA_EINVAL, "vectors.%.64s: a vector has %u elements, but the collection's have %u", label,
                  found, dims);
}

aiinfra_status aii_rowvec_make(const aiinfra_vecstore *store, const aii_rowvec *v, int64_t id, aii_named_item *out,
                               aiinfra_error *err)
{
  const aiinfra_vecstore *below = aii_named_find(store, v->name);
  aiinfra_named_vector vector = {id, v->name, v->values, v->indices, v->n};
  if (below == NULL) {
    return aii_fail(err, AIINFRA_EINVAL,
                    "vectors: the collection has no vectors '%.64s'; name them in vectors_json when it is opened",
                    v->name);
  }
  aiinfra_status rc = v->values != NULL ? check_form(below, v, err) : AIINFRA_OK;
  return rc == AIINFRA_OK ? aii_named_item_make(store, &vector, out, err) : rc;
}

/* ---- for an export ----------------------------------------------------------------------------------------------- */

/* Memory of one name, used by row after row. */
struct aii_rowvec_room {
  aiinfra_vecstore *below;
  float *values;
  uint32_t *indices;
  size_t values_cap, indices_cap;
};

static int by_label(const void *a, const void *b)
{
  const struct aii_rowvec_room *x = a, *y = b;
  return strcmp(x->below->label, y->below->label);
}

aiinfra_status aii_rowvecs_open(aii_rowvecs *r, const aiinfra_vecstore *store, aiinfra_error *err)
{
  *r = (aii_rowvecs){.mem = store->index.mem, .n_rooms = store->n_named};
  if (r->n_rooms == 0) return AIINFRA_OK;
  r->rooms = aii_new_array(r->mem, r->n_rooms, sizeof *r->rooms);
  r->items = aii_new_array(r->mem, r->n_rooms, sizeof *r->items);
  if (r->rooms == NULL || r->items == NULL) return no_memory(err);
  for (size_t i = 0; i < r->n_rooms; i++) r->rooms[i].below = store->named[i];
  qsort(r->rooms, r->n_rooms, sizeof *r->rooms, by_label);
  return AIINFRA_OK;
}

void aii_rowvecs_close(aii_rowvecs *r)
{
  for (size_t i = 0; r->rooms != NULL && i < r->n_rooms; i++) {
    aii_del(r->mem, r->rooms[i].values, r->rooms[i].values_cap * sizeof(float));
    aii_del(r->mem, r->rooms[i].indices, r->rooms[i].indices_cap * sizeof(uint32_t));
  }
  aii_del(r->mem, r->rooms, r->n_rooms * sizeof *r->rooms);
  aii_del(r->mem, r->items, r->n_rooms * sizeof *r->items);
}

static aiinfra_status damaged(const aiinfra_vecstore *below, int64_t id, aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_EFORMAT,
                  "what row %lld has under '%.64s' is damaged; restore the database from a backup", (long long)id,
                  below->label);
}

/* Stored pairs: all indices, then all values. */
static aiinfra_status take_sparse(aii_mem *mem, struct aii_rowvec_room *room, const uint8_t *stored, size_t bytes,
                                  int64_t id, aii_rowvec *out, aiinfra_error *err)
{
  size_t n = bytes / AII_PAIR_BYTES;
  if (n == 0 || bytes % AII_PAIR_BYTES != 0) return damaged(room->below, id, err);
  if (!aii_grow(mem, &room->values, &room->values_cap, n, sizeof(float)) ||
      !aii_grow(mem, &room->indices, &room->indices_cap, n, sizeof(uint32_t))) {
    return no_memory(err);
  }
  memcpy(room->indices, stored, n * sizeof(uint32_t));
  memcpy(room->values, stored + n * sizeof(uint32_t), n * sizeof(float));
  *out = (aii_rowvec){room->below->label, room->values, room->indices, n, 0};
  return AIINFRA_OK;
}

static aiinfra_status take_dense(aii_mem *mem, struct aii_rowvec_room *room, const uint8_t *stored, size_t bytes,
                                 int64_t id, aii_rowvec *out, aiinfra_error *err)
{
  const aii_index *index = &room->below->index;
  bool several = room->below->kind == AII_KIND_MULTI;
  size_t step = aii_element_bytes(index->element, index->dims), n = bytes / step;
  if (n == 0 || bytes % step != 0 || (n > 1 && !several) || n > AII_MAX_MULTI) return damaged(room->below, id, err);
  if (!aii_grow(mem, &room->values, &room->values_cap, n * index->dims, sizeof(float))) return no_memory(err);
  for (size_t i = 0; i < n; i++) {
    if (!aii_element_decode(index, stored + i * step, step, room->values + i * index->dims)) {
      return damaged(room->below, id, err);
    }
  }
  *out = (aii_rowvec){room->below->label, room->values, NULL, n * index->dims, several ? index->dims : 0};
  return AIINFRA_OK;
}

static aiinfra_status read_one(aii_rowvecs *r, struct aii_rowvec_room *room, int64_t id, aiinfra_error *err)
{
  aii_stmt *stmt;
  size_t bytes;
  bool row;
  aiinfra_status rc = aii_sql_prepare(room->below->db->sql,
                                      "SELECT v.vector FROM rows r JOIN vectors v ON v.row = r.row "
                                      "WHERE r.collection = ?1 AND r.id = ?2",
                                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, room->below->collection);
  aii_stmt_int(stmt, 2, id);
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK && row) {
    const uint8_t *stored = aii_stmt_get_blob(stmt, 0, &bytes);
    aii_rowvec *out = &r->items[r->n];
    if (stored == NULL) rc = damaged(room->below, id, err);
    else if (room->below->kind == AII_KIND_SPARSE) rc = take_sparse(r->mem, room, stored, bytes, id, out, err);
    else rc = take_dense(r->mem, room, stored, bytes, id, out, err);
    r->n += rc == AIINFRA_OK;
  }
  aii_stmt_reset(stmt);
  return rc;
}

aiinfra_status aii_rowvecs_read(aii_rowvecs *r, int64_t id, aiinfra_error *err)
{
  aiinfra_status rc = AIINFRA_OK;
  r->n = 0;
  for (size_t i = 0; rc == AIINFRA_OK && i < r->n_rooms; i++) rc = read_one(r, &r->rooms[i], id, err);
  return rc;
}

aiinfra_status aii_rowvecs_read_of(aii_rowvecs *r, const aiinfra_vecstore *below, int64_t id, aiinfra_error *err)
{
  aiinfra_status rc = AIINFRA_OK;
  r->n = 0;
  for (size_t i = 0; rc == AIINFRA_OK && i < r->n_rooms; i++) {
    if (r->rooms[i].below == below) rc = read_one(r, &r->rooms[i], id, err);
  }
  if (rc != AIINFRA_OK || r->n == 1) return rc;
  return aii_fail(err, AIINFRA_EINVAL,
                  "row %lld has no vector under '%.64s', and this format has one for each row; export jsonl instead",
                  (long long)id, below->label);
}

aiinfra_status aii_rowvecs_target(const aiinfra_vecstore *store, const char *name, int32_t format,
                                  const aiinfra_vecstore **out, aiinfra_error *err)
{
  *out = store;
  if (name == NULL) return AIINFRA_OK;
  if (format == AIINFRA_VECTORS_JSONL) {
    return aii_fail(err, AIINFRA_EINVAL, "using_name: rows of jsonl have all vectors; leave it out");
  }
  *out = aii_named_find(store, name);
  if (*out == NULL) {
    return aii_fail(err, AIINFRA_EINVAL,
                    "using_name: the collection has no vectors '%.64s'; name them in vectors_json when it is opened",
                    name);
  }
  if ((*out)->kind == AII_KIND_ONE) return AIINFRA_OK;
  return aii_fail(err, AIINFRA_EINVAL, "using_name: the vectors '%.64s' are %s, which only jsonl has; use that", name,
                  (*out)->kind == AII_KIND_SPARSE ? "sparse" : "several a row");
}
