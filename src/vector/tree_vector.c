/* tree_vector.c - what a stage searches by, and which vectors of rows that is compared with.
 *
 *   {"using": "image", "vector": [0.1, ...]}                          one vector a row, under a name
 *   {"using": "words", "vector": {"indices": [4], "values": [0.5]}}   sparse ones
 *   {"using": "tokens", "vector": [[0.1, ...], [0.2, ...]]}           several a row, by late interaction; or one vector
 *   7, {"row": 7} in place of a vector                                what a row has under the name; it is no hit then
 *
 * The name is looked up before the stage is read further, so that a vector of another kind is refused with the place where
 * it stands. When the stage is answered, the vector is made into what its search takes: s->vector, s->vectors or
 * s->sparse_query. What can fail: forms, a row that is not there or has no such vector, memory, the database.
 */
#include <math.h>

#include "lib/json/json.h"
#include "src/vector/named.h"
#include "src/vector/tree.h"

enum { MAX_VECTORS = 1024 }; /* of a query */

static aiinfra_status no_memory(aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_ENOMEM, "no memory for a query");
}

/* ---- names ------------------------------------------------------------------------------------------------------- */

aiinfra_status aii_stage_using(aii_stage *stage, const json_t *obj, const char *path, aiinfra_error *err)
{
  const char *label = NULL;
  aiinfra_status rc = aii_json_get_str(obj, path, "using", false, &label, err);
  if (rc != AIINFRA_OK || label == NULL) return rc;
  aiinfra_vecstore *target = aii_named_find(stage->s.store, label);
  if (target == NULL) {
    return aii_fail(err, AIINFRA_EINVAL,
                    "%s.using: the collection has no vectors '%.64s'; name them in vectors_json when it is opened",
                    path, label);
  }
  stage->s.target = target;
  return AIINFRA_OK;
}

aiinfra_status aii_stage_check_using(const aii_stage *stage, const char *path, aiinfra_error *err)
{
  const aiinfra_vecstore *target = stage->s.target;
  bool vector = stage->vector != NULL || stage->q.vector != NULL;
  bool examples = stage->kind >= AII_STAGE_RECOMMEND && stage->kind <= AII_STAGE_CONTEXT;
  const char *how = target->kind == AII_KIND_SPARSE ? "sparse" : "several a row";
  if (target == stage->s.store) return AIINFRA_OK;
  if (!vector && !examples && !stage->s.o.mmr) {
    return aii_fail(err, AIINFRA_EINVAL,
                    "%s.using: the stage has no vector to compare with '%.64s'; give it one, or say using where it is",
                    path, target->label);
  }
  if (target->kind == AII_KIND_ONE) return AIINFRA_OK;
  if (examples) {
    return aii_fail(
        err, AIINFRA_EINVAL,
        "%s.query: examples are compared by one dense vector a row, but the vectors '%.64s' are %s; search by "
        "a vector, or use other ones",
        path, target->label, how);
  }
  if (!stage->s.o.mmr) return AIINFRA_OK;
  return aii_fail(
      err, AIINFRA_EINVAL,
      "%s.mmr: hits are compared by one dense vector a row, but the vectors '%.64s' are %s; make the stage a "
      "prefetch of one with mmr",
      path, target->label, how);
}

/* ---- forms ------------------------------------------------------------------------------------------------------- */

static bool is_sparse(const json_t *v)
{
  return json_object_get(v, "indices") != NULL || json_object_get(v, "values") != NULL;
}

static bool is_several(const json_t *v)
{
  return json_is_array(json_array_get(v, 0));
}

bool aii_stage_is_vector(const json_t *v)
{
  return aii_example_valid(v) || is_sparse(v) || json_is_array(v);
}

/* One vector of the target's. */
static aiinfra_status check_one(const aii_index *index, const json_t *v, const char *path, size_t at,
                                aiinfra_error *err)
{
  size_t n = json_array_size(v);
  if (!json_is_array(v) || n != index->dims) {
    return aii_fail(err, AIINFRA_EINVAL, "%s: vector %zu is not an array of %u numbers", path, at, index->dims);
  }
  for (size_t i = 0; i < n; i++) {
    if (json_is_number(json_array_get(v, i)) && isfinite((float)json_number_value(json_array_get(v, i)))) continue;
    return aii_fail(err, AIINFRA_EINVAL, "%s: element %zu of vector %zu is not a finite number", path, i, at);
  }
  return AIINFRA_OK;
}

static aiinfra_status check_several(const aii_index *index, const json_t *v, const char *path, aiinfra_error *err)
{
  aiinfra_status rc = AIINFRA_OK;
  if (!is_several(v)) return check_one(index, v, path, 0, err);
  size_t n = json_array_size(v);
  if (n > MAX_VECTORS) {
    return aii_fail(err, AIINFRA_EINVAL, "%s: a query has %zu vectors, at most %d", path, n, MAX_VECTORS);
  }
  for (size_t i = 0; rc == AIINFRA_OK && i < n; i++) rc = check_one(index, json_array_get(v, i), path, i, err);
  return rc;
}

static aiinfra_status check_sparse(const json_t *v, const char *path, aiinfra_error *err)
{
  static const char *const names[] = {"indices", "values", NULL};
  aiinfra_status rc = aii_check_names(v, path, names, err);
  return rc == AIINFRA_OK ? aii_pairs_check(v, path, err) : rc;
}

aiinfra_status aii_stage_vector(aii_stage *stage, const json_t *v, const char *path, aiinfra_error *err)
{
  const aiinfra_vecstore *target = stage->s.target;
  if (stage->vector != NULL || stage->q.vector != NULL) {
    return aii_fail(err, AIINFRA_EINVAL, "%s: the stage has a vector already", path);
  }
  stage->vector = v;
  if (aii_example_id(v) != NULL) return AIINFRA_OK;
  if (target->kind == AII_KIND_SPARSE && is_sparse(v)) return check_sparse(v, path, err);
  if (target->kind == AII_KIND_MULTI && json_is_array(v)) return check_several(&target->index, v, path, err);
  if (target->kind == AII_KIND_ONE && aii_example_valid(v)) return AIINFRA_OK;
  if (is_sparse(v)) {
    return aii_fail(err, AIINFRA_EINVAL, "%s: a sparse vector needs using with the name of sparse vectors", path);
  }
  if (is_several(v)) {
    return aii_fail(err, AIINFRA_EINVAL, "%s: several vectors need using with the name of multi vectors", path);
  }
  if (target->kind == AII_KIND_SPARSE) {
    return aii_fail(err, AIINFRA_EINVAL,
                    "%s: the vectors '%.64s' are sparse: {\"indices\": [...], \"values\": [...]} or the id of a row",
                    path, target->label);
  }
  return aii_fail(err, AIINFRA_EINVAL, "%s: a vector is an array of numbers, the id of a row, or {\"row\": id}", path);
}

aiinfra_status aii_stage_given(aii_stage *stage, const json_t *options, aiinfra_error *err)
{
  const aii_search *s = &stage->s;
  const float *vector = stage->q.vector;
  aiinfra_status rc = aii_json_within(options, "options", "multi", 0, MAX_VECTORS, &stage->s.o.multi, err);
  if (rc == AIINFRA_OK && aii_json_has(options, "sparse")) {
    rc = aii_fail(err, AIINFRA_EINVAL,
                  "options.sparse goes with neither prefetch nor query; make it a stage of prefetch: {\"using\": "
                  "\"NAME\", \"vector\": {\"indices\": [...], \"values\": [...]}}");
  }
  if (rc == AIINFRA_OK && s->o.multi > 0 && (vector == NULL || s->target->kind != AII_KIND_MULTI)) {
    rc = aii_fail(err, AIINFRA_EINVAL, "options.multi: %s",
                  vector == NULL ? "the query's struct has no vector; those of a stage are counted"
                                 : "rows have one vector here; use multi vectors by the option using");
  }
  if (rc != AIINFRA_OK || vector == NULL) return rc;
  if (s->target->kind == AII_KIND_SPARSE) {
    return aii_fail(
        err, AIINFRA_EINVAL,
        "options.using: the vectors '%.64s' are sparse, the query's vector is not; put {\"indices\": [...], "
        "\"values\": [...]} into query",
        s->target->label);
  }
  size_t n = s->o.multi > 0 ? (size_t)s->o.multi : 1;
  for (size_t i = 0; rc == AIINFRA_OK && i < n; i++) {
    rc = aii_query_vector_check(&s->target->index, vector + i * s->target->index.dims, err);
    if (rc != AIINFRA_OK && s->o.multi > 0) (void)aii_wrap(err, rc, "vector %zu", i);
  }
  return rc;
}

/* ---- what the search takes --------------------------------------------------------------------------------------- */

/* A copy of what a row has under the target's name; the row is no hit. */
static aiinfra_status read_stored(aii_search *s, int64_t id, uint8_t **out, size_t *n, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = false;
  *out = NULL;
  aiinfra_status rc = aii_example_hide(s, id, "vector", err);
  if (rc == AIINFRA_OK) {
    rc = aii_sql_prepare(s->view.sql,
                         "SELECT v.vector FROM rows r JOIN vectors v ON v.row = r.row "
                         "WHERE r.collection = ?1 AND r.id = ?2",
                         &stmt, err);
  }
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, s->target->collection);
  aii_stmt_int(stmt, 2, id);
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK && !row) rc = aii_example_lacks(s, id, "vector", err);
  const void *stored = rc == AIINFRA_OK ? aii_stmt_get_blob(stmt, 0, n) : NULL;
  if (rc == AIINFRA_OK && (stored == NULL || *n == 0)) {
    rc = aii_fail(err, AIINFRA_EFORMAT, "the vector of row %lld is damaged; restore the database from a backup",
                  (long long)id);
  }
  if (rc == AIINFRA_OK) *out = aii_new_raw(s->store->index.mem, *n);
  if (rc == AIINFRA_OK && *out == NULL) rc = no_memory(err);
  if (rc == AIINFRA_OK) memcpy(*out, stored, *n);
  aii_stmt_reset(stmt);
  return rc;
}

static aiinfra_status damaged(int64_t id, const char *label, aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_EFORMAT,
                  "what row %lld has under '%.64s' is damaged; restore the database from a backup", (long long)id,
                  label);
}

static aiinfra_status make_sparse(aii_stage *stage, aiinfra_error *err)
{
  aii_search *s = &stage->s;
  aii_mem *mem = s->store->index.mem;
  const json_t *id = aii_example_id(stage->vector);
  uint8_t *stored;
  size_t n;
  if (id == NULL) return aii_pairs_take(s, stage->vector, "vector", err);
  aiinfra_status rc = read_stored(s, json_integer_value(id), &stored, &n, err);
  if (rc != AIINFRA_OK) return rc;
  if (n % AII_PAIR_BYTES != 0) {
    aii_del(mem, stored, n);
    return damaged(json_integer_value(id), s->target->label, err);
  }
  s->sparse_query = stored;
  s->n_sparse_query = n / AII_PAIR_BYTES;
  return AIINFRA_OK;
}

/* The vectors of a row become those of the query. */
static aiinfra_status take_row(aii_search *s, int64_t id, aiinfra_error *err)
{
  const aii_index *index = &s->target->index;
  size_t step = aii_element_bytes(index->element, index->dims), bytes;
  uint8_t *stored;
  aiinfra_status rc = read_stored(s, id, &stored, &bytes, err);
  if (rc != AIINFRA_OK) return rc;
  size_t n = bytes / step;
  if (bytes % step != 0) rc = damaged(id, s->target->label, err);
  else if (n > MAX_VECTORS) {
    rc = aii_fail(err, AIINFRA_EINVAL,
                  "vector: row %lld has %zu vectors under '%.64s', but a query at most %d; give some", (long long)id, n,
                  s->target->label, MAX_VECTORS);
  } else {
    rc = aii_multi_room(s, n, err);
  }
  for (size_t i = 0; rc == AIINFRA_OK && i < n; i++) {
    (void)aii_element_take(index, stored + i * step, step, s->vectors + i * index->code_bytes);
  }
  aii_del(index->mem, stored, bytes);
  return rc;
}

static aiinfra_status take_several(aii_search *s, const json_t *v, aiinfra_error *err)
{
  const aii_index *index = &s->target->index;
  size_t n = is_several(v) ? json_array_size(v) : 1;
  float *one = aii_new_array(index->mem, index->dims, sizeof *one);
  aiinfra_status rc = one != NULL ? aii_multi_room(s, n, err) : no_memory(err);
  for (size_t i = 0; rc == AIINFRA_OK && i < n; i++) {
    const json_t *from = is_several(v) ? json_array_get(v, i) : v;
    for (uint32_t d = 0; d < index->dims; d++) one[d] = (float)json_number_value(json_array_get(from, d));
    rc = aii_query_vector_check(index, one, err);
    if (rc == AIINFRA_OK) aii_index_take(index, s->vectors + i * index->code_bytes, one);
    else (void)aii_wrap(err, rc, "vector %zu", i);
  }
  aii_del(index->mem, one, index->dims * sizeof *one);
  return rc;
}

static aiinfra_status make_several(aii_stage *stage, aiinfra_error *err)
{
  const json_t *id = aii_example_id(stage->vector);
  if (stage->q.vector != NULL) return aii_multi_take(&stage->s, err);
  return id != NULL ? take_row(&stage->s, json_integer_value(id), err) : take_several(&stage->s, stage->vector, err);
}

static aiinfra_status make_dense(aii_stage *stage, aiinfra_error *err)
{
  aii_search *s = &stage->s;
  aii_index *index = &s->target->index;
  if (stage->kind == AII_STAGE_RECOMMEND) return aii_recommend_prepare(s, err);
  if (stage->q.vector != NULL) {
    s->vector = aii_index_new_query(index, stage->q.vector);
    return s->vector != NULL ? AIINFRA_OK : no_memory(err);
  }
  s->vector = aii_new_aligned(index->mem, index->dims * sizeof *s->vector);
  return s->vector != NULL ? aii_example_read(s, stage->vector, "vector", s->vector, err) : no_memory(err);
}

/* Rows that are named leave the masks: of several vectors, before the mask below is made; of one, both. */
aiinfra_status aii_stage_make_vector(aii_stage *stage, aiinfra_error *err)
{
  aii_search *s = &stage->s;
  int32_t kind = s->target->kind;
  aiinfra_status rc;
  if (!s->wants_vectors) return AIINFRA_OK;
  if (kind == AII_KIND_ONE) {
    rc = aii_using_narrow(s, err);
    return rc == AIINFRA_OK ? make_dense(stage, err) : rc;
  }
  rc = kind == AII_KIND_SPARSE ? make_sparse(stage, err) : make_several(stage, err);
  return rc == AIINFRA_OK ? aii_using_narrow(s, err) : rc;
}
