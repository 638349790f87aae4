/* examples.c - what a query names instead of describing it: a row by its id, or a vector in JSON.
 *
 *   7, {"row": 7}     the vector of a row, which is no hit of the query then
 *   [0.1, 0.2, ...]   a vector, as a row would have it
 * What can fail: a row that is not there, a vector that no row could have, memory, the database.
 */
#include <math.h>

#include "src/vector/search.h"

const json_t *aii_example_id(const json_t *example)
{
  if (json_is_integer(example)) return example;
  const json_t *row = json_object_get(example, "row");
  return json_is_integer(row) && json_object_size(example) == 1 ? row : NULL;
}

bool aii_example_valid(const json_t *example)
{
  bool numbers = json_array_size(example) > 0;
  for (size_t i = 0; numbers && i < json_array_size(example); i++) numbers = json_is_number(json_array_get(example, i));
  return numbers || aii_example_id(example) != NULL;
}

aiinfra_status aii_search_own_mask(aii_search *s, aiinfra_error *err)
{
  aiinfra_status rc = aii_mask_alive(&s->store->index, &s->mask, err);
  return rc == AIINFRA_OK && s->target != s->store ? aii_mask_alive(&s->target->index, &s->below, err) : rc;
}

static void hide(const aii_index *index, aii_mask *mask, int64_t id)
{
  uint32_t slot = aii_idmap_get(&index->map, id);
  if (slot == AII_NO_SLOT || !aii_bit(mask->bits, slot)) return;
  mask->n_passing--;
  mask->bits[slot / 64] &= ~((uint64_t)1 << slot % 64);
}

aiinfra_status aii_example_hide(aii_search *s, int64_t id, const char *what, aiinfra_error *err)
{
  const aii_index *index = &s->store->index;
  uint32_t slot = aii_idmap_get(&index->map, id);
  if (slot == AII_NO_SLOT || aii_is_dead(index, slot)) {
    return aii_fail(err, AIINFRA_ENOENT, "%s: no row has the id %lld", what, (long long)id);
  }
  aiinfra_status rc = aii_mask_alive(index, &s->mask, err);
  if (rc == AIINFRA_OK) hide(index, &s->mask, id);
  return rc;
}

aiinfra_status aii_example_lacks(const aii_search *s, int64_t id, const char *what, aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_ENOENT, "%s: row %lld has no vector under '%.64s'; name a row that has one", what,
                  (long long)id, s->target->label);
}

static aiinfra_status read_row(aii_search *s, int64_t id, const char *what, float *to, aiinfra_error *err)
{
  const aii_index *index = &s->target->index;
  aiinfra_status rc = aii_example_hide(s, id, what, err);
  if (rc != AIINFRA_OK) return rc;
  uint32_t slot = aii_idmap_get(&index->map, id);
  if (slot == AII_NO_SLOT || aii_is_dead(index, slot)) return aii_example_lacks(s, id, what, err);
  if (s->target != s->store) {
    rc = aii_search_own_mask(s, err);
    if (rc != AIINFRA_OK) return rc;
    hide(index, &s->below, id);
  }
  return aii_fetch_slot(s->target, s->view.sql, slot, to, err);
}

static aiinfra_status read_vector(aii_search *s, const json_t *numbers, const char *what, float *to, aiinfra_error *err)
{
  const aii_index *index = &s->target->index;
  double length = 0;
  if (json_array_size(numbers) != index->dims) {
    return aii_fail(err, AIINFRA_EINVAL, "%s: a vector has %zu elements instead of %u", what, json_array_size(numbers),
                    index->dims);
  }
  float *vector = aii_new_array(index->mem, index->dims, sizeof *vector);
  if (vector == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a search");
  for (uint32_t i = 0; i < index->dims; i++) {
    vector[i] = (float)json_number_value(json_array_get(numbers, i));
    length += (double)vector[i] * (double)vector[i];
  }
  bool finite = isfinite(length), zero = length <= 0 && index->metric == AIINFRA_METRIC_COSINE;
  if (finite && !zero) aii_index_take(index, to, vector);
  aii_del(index->mem, vector, index->dims * sizeof *vector);
  if (!finite) return aii_fail(err, AIINFRA_EINVAL, "%s: an element of a vector is not a finite number", what);
  if (zero) return aii_fail(err, AIINFRA_EINVAL, "%s: a vector is zero, which has no cosine to anything", what);
  return AIINFRA_OK;
}

aiinfra_status aii_example_read(aii_search *s, const json_t *example, const char *what, float *to, aiinfra_error *err)
{
  const json_t *id = aii_example_id(example);
  if (id != NULL) return read_row(s, json_integer_value(id), what, to, err);
  return read_vector(s, example, what, to, err);
}
