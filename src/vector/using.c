/* using.c - what a query wants of vectors under names.
 *
 *   "using": "image"                                              the query's vector is compared with these
 *   "using": "tokens", "multi": 32                                 the query has so many vectors, for late interaction
 *   "sparse": {"using": "words", "indices": [], "values": []}     one ranking more
 *
 * The filter is evaluated once, on the rows of the store: what passes becomes a mask over the slots of the collection
 * below. A search then goes on there as it would in the store, and what it finds gets the store's slots again, by which
 * hits are grouped. Rows whose time has passed are in no mask; without a filter, one is made while such rows are in the
 * database still. Failures: names that are not there, vectors of another kind, memory, the database.
 */
#include <math.h>

#include "lib/json/json.h"
#include "src/vector/named.h"

enum { MAX_VECTORS = 1024 }; /* of a query */

/* ---- options ----------------------------------------------------------------------------------------------------- */

aiinfra_status aii_pairs_check(const json_t *obj, const char *path, aiinfra_error *err)
{
  json_t *indices = NULL, *values = NULL;
  aiinfra_status rc = aii_json_get_array(obj, path, "indices", true, &indices, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_array(obj, path, "values", true, &values, err);
  if (rc != AIINFRA_OK) return rc;
  size_t n = json_array_size(indices);
  if (n == 0 || n > AII_MAX_PAIRS || n != json_array_size(values)) {
    return aii_fail(err, AIINFRA_EINVAL, "%s: indices and values are not as many, 1 to %d", path, AII_MAX_PAIRS);
  }
  for (size_t i = 0; i < n; i++) {
    json_int_t index = json_integer_value(json_array_get(indices, i));
    if (!json_is_integer(json_array_get(indices, i)) || index < 0 || index > UINT32_MAX) {
      return aii_fail(err, AIINFRA_EINVAL, "%s.indices[%zu] is not 0 to %u", path, i, UINT32_MAX);
    }
    if (!isfinite((float)json_number_value(json_array_get(values, i))) || !json_is_number(json_array_get(values, i))) {
      return aii_fail(err, AIINFRA_EINVAL, "%s.values[%zu] is not a finite number", path, i);
    }
  }
  return AIINFRA_OK;
}

aiinfra_status aii_using_read(const json_t *obj, aii_query_opts *o, aiinfra_error *err)
{
  static const char *const names[] = {"using", "indices", "values", NULL};
  json_t *sparse = NULL;
  aiinfra_status rc = aii_json_get_str(obj, "options", "using", false, &o->using_name, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_int(obj, "options", "multi", false, &o->multi, err);
  if (rc == AIINFRA_OK && (o->multi < 0 || o->multi > MAX_VECTORS)) {
    rc = aii_fail(err, AIINFRA_EINVAL, "options: multi is not 1 to %d", MAX_VECTORS);
  }
  if (rc == AIINFRA_OK) rc = aii_json_get_object(obj, "options", "sparse", false, &sparse, err);
  if (rc != AIINFRA_OK || sparse == NULL) return rc;
  o->sparse = sparse;
  rc = aii_check_names(sparse, "options.sparse", names, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_str(sparse, "options.sparse", "using", true, &o->sparse_using, err);
  return rc == AIINFRA_OK ? aii_pairs_check(sparse, "options.sparse", err) : rc;
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static aiinfra_status find(const aii_search *s, const char *label, bool sparse, aiinfra_vecstore **out,
                           aiinfra_error *err)
{
  *out = aii_named_find(s->store, label);
  if (*out == NULL) return aii_fail(err, AIINFRA_EINVAL, "options: the collection has no vectors '%.64s'", label);
  if (((*out)->kind == AII_KIND_SPARSE) == sparse) return AIINFRA_OK;
  return aii_fail(err, AIINFRA_EINVAL,
                  sparse ? "options.sparse: the vectors '%.64s' are not sparse"
                         : "options.using: the vectors '%.64s' are sparse; use the option sparse",
                  label);
}

aiinfra_status aii_query_vector_check(const aii_index *index, const float *vector, aiinfra_error *err)
{
  double sum = 0;
  for (uint32_t i = 0; i < index->dims; i++) {
    if (!isfinite(vector[i]))
      return aii_fail(err, AIINFRA_EINVAL, "element %u of the vector is not a finite number", i);
    sum += (double)vector[i] * (double)vector[i];
  }
  if (sum == 0 && index->metric == AIINFRA_METRIC_COSINE) {
    return aii_fail(err, AIINFRA_EINVAL, "the vector is zero, which has no cosine to anything");
  }
  return AIINFRA_OK;
}

aiinfra_status aii_pairs_take(aii_search *s, const json_t *obj, const char *path, aiinfra_error *err)
{
  aii_mem *mem = s->store->index.mem;
  const json_t *list = json_object_get(obj, "indices"), *numbers = json_object_get(obj, "values");
  size_t n = json_array_size(list);
  aiinfra_status rc = AIINFRA_OK;
  uint32_t *indices = aii_new_array(mem, n, sizeof *indices);
  float *values = aii_new_array(mem, n, sizeof *values);
  s->n_sparse_query = n;
  s->sparse_query = aii_new_array(mem, n, AII_PAIR_BYTES);
  if (indices != NULL && values != NULL && s->sparse_query != NULL) {
    for (size_t i = 0; i < n; i++) {
      indices[i] = (uint32_t)json_integer_value(json_array_get(list, i));
      values[i] = (float)json_number_value(json_array_get(numbers, i));
    }
    rc = aii_sparse_store(mem, indices, values, n, s->sparse_query, err);
    if (rc != AIINFRA_OK) (void)aii_wrap(err, rc, "%s", path);
  } else {
    rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for a search");
  }
  aii_del(mem, indices, n * sizeof *indices);
  aii_del(mem, values, n * sizeof *values);
  return rc;
}

static aiinfra_status open_sparse(aii_search *s, aiinfra_error *err)
{
  aiinfra_status rc = find(s, s->o.sparse_using, true, &s->sparse, err);
  return rc == AIINFRA_OK ? aii_pairs_take(s, s->o.sparse, "options.sparse", err) : rc;
}

/* What options go with late interaction. */
static aiinfra_status check_multi(const aii_search *s, aiinfra_error *err)
{
  const char *label = s->target->label;
  if (s->target->kind != AII_KIND_MULTI) {
    if (s->o.multi == 0) return AIINFRA_OK;
    return aii_fail(err, AIINFRA_EINVAL,
                    "options.multi: rows have one vector here; use multi vectors by the option using");
  }
  if (s->q->vector == NULL) return aii_fail(err, AIINFRA_EINVAL, "options.recommend: '%s' are several a row", label);
  if (s->o.mmr) return aii_fail(err, AIINFRA_EINVAL, "options.mmr: the vectors '%s' are several a row", label);
  return AIINFRA_OK;
}

aiinfra_status aii_using_open(aii_search *s, aiinfra_error *err)
{
  aiinfra_status rc = AIINFRA_OK;
  if (s->o.using_name != NULL) {
    if (!s->wants_vectors) return aii_fail(err, AIINFRA_EINVAL, "options.using: the query has no vector");
    aiinfra_vecstore *target;
    rc = find(s, s->o.using_name, false, &target, err);
    if (rc == AIINFRA_OK) s->target = target;
  }
  if (rc == AIINFRA_OK) rc = check_multi(s, err);
  size_t n = s->o.multi > 0 ? (size_t)s->o.multi : 1;
  for (size_t i = 0; rc == AIINFRA_OK && s->q->vector != NULL && i < n; i++) {
    rc = aii_query_vector_check(&s->target->index, s->q->vector + i * s->target->index.dims, err);
    if (rc != AIINFRA_OK && s->o.multi > 0) (void)aii_wrap(err, rc, "vector %zu", i);
  }
  if (rc == AIINFRA_OK && s->o.sparse != NULL) rc = open_sparse(s, err);
  return rc;
}

void aii_using_close(aii_search *s)
{
  aii_del(s->store->index.mem, s->sparse_query, s->n_sparse_query * AII_PAIR_BYTES);
  aii_del_aligned(s->store->index.mem, s->vectors, s->n_vectors * s->target->index.code_bytes * sizeof(float));
  if (s->target != s->store) aii_mask_free(s->target, &s->below);
}

/* ---- masks --------------------------------------------------------------------------------------------------------- */

aiinfra_status aii_using_outlives(const aii_search *s, bool *outlives, aiinfra_error *err)
{
  const aiinfra_vecstore *store = s->store;
  aii_stmt *stmt;
  aiinfra_status rc =
      aii_sql_prepare(s->view.sql, "SELECT 1 FROM rows WHERE collection = ?1 AND expires_ms <= ?2 LIMIT 1", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, store->collection);
  aii_stmt_int(stmt, 2, store->expiry.now_ms());
  rc = aii_stmt_step(stmt, outlives, err);
  aii_stmt_reset(stmt);
  return rc;
}

static void set_bit(aii_mask *mask, uint32_t slot)
{
  mask->bits[slot / 64] |= (uint64_t)1 << slot % 64;
  mask->n_passing++;
}

/* From the side that has fewer: slots that pass, or slots below. */
static bool make_mask(const aii_search *s, aii_mask *below)
{
  const aii_index *from = &s->store->index, *to = &s->target->index;
  const aii_mask *mask = &s->mask;
  below->n_passing = 0;
  below->n_words = (size_t)to->n / 64 + 1;
  below->bits = aii_new_array(to->mem, below->n_words, sizeof *below->bits);
  if (below->bits == NULL) return false;
  if (mask->n_passing > to->n) {
    for (uint32_t slot = 0; slot < to->n; slot++) {
      if (aii_is_dead(to, slot)) continue;
      uint32_t above = aii_idmap_get(&from->map, aii_block_of(to, slot)->ids[slot % AII_BLOCK_SLOTS]);
      if (above < from->n && aii_bit(mask->bits, above)) set_bit(below, slot);
    }
    return true;
  }
  for (size_t w = 0; w < mask->n_words; w++) {
    for (uint64_t bits = mask->bits[w]; bits != 0; bits &= bits - 1) {
      uint32_t above = (uint32_t)(w * 64 + (size_t)__builtin_ctzll(bits));
      uint32_t slot = aii_idmap_get(&to->map, aii_block_of(from, above)->ids[above % AII_BLOCK_SLOTS]);
      if (slot != AII_NO_SLOT && !aii_is_dead(to, slot)) set_bit(below, slot);
    }
  }
  return true;
}

/* The index is up to date, so that it knows which rows' time has passed; what these have under names goes with the rows. */
static aiinfra_status hide_expired(aii_search *s, aiinfra_error *err)
{
  bool outlives = false;
  bool below = s->target != s->store || s->sparse != NULL;
  if (!below || s->mask.bits != NULL) return AIINFRA_OK;
  aiinfra_status rc = aii_using_outlives(s, &outlives, err);
  return rc == AIINFRA_OK && outlives ? aii_mask_alive(&s->store->index, &s->mask, err) : rc;
}

aiinfra_status aii_using_narrow(aii_search *s, aiinfra_error *err)
{
  const aii_index *index = &s->target->index;
  aii_mask *below = &s->below;
  aiinfra_status rc = hide_expired(s, err);
  if (rc != AIINFRA_OK || s->target == s->store || s->target->kind == AII_KIND_SPARSE) return rc;
  below->n_passing = index->n - index->n_dead;
  bool ok = true;
  if (s->target->multi != NULL) ok = aii_multi_mask(s->target, &s->store->index, &s->mask, below);
  else if (s->mask.bits != NULL) ok = make_mask(s, below);
  return ok ? AIINFRA_OK : aii_fail(err, AIINFRA_ENOMEM, "no memory for a filter");
}

void aii_using_lift(const aii_search *s)
{
  const aii_idmap *map = &s->store->index.map;
  if (s->target == s->store) return;
  for (size_t i = 0; i < s->n_vector; i++) s->by_vector[i].slot = aii_idmap_get(map, s->by_vector[i].id);
  for (size_t i = 0; !s->in_memory && i < s->finds.n; i++) {
    s->finds.items[i].slot = aii_idmap_get(map, s->finds.items[i].id);
  }
}
