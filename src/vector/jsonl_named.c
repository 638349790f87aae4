/* jsonl_named.c - the member "vectors" of a line: what its row has under names.
 *
 *   {"image": [0.1, 0.2], "tokens": [[0.1, 0.2], [0.3, 0.4]], "words": {"indices": [4, 9], "values": [0.5, 2]}, "old": null}
 *
 * one vector, several of one length, a sparse one, and one that the row loses. The happy path: all numbers of the line are
 * counted -> there is room for them -> they are taken, name by name. What kinds the names have, the reader does not know.
 */
#include <math.h>
#include <stdio.h>

#include "lib/json/json.h"
#include "src/vector/named.h"
#include "src/vector/vecfile.h"

enum { FLOAT_DIGITS = 9 };

/* ---- reading ----------------------------------------------------------------------------------------------------- */

static bool is_several(const json_t *v)
{
  return json_is_array(json_array_get(v, 0));
}

static size_t count_floats(const json_t *v)
{
  size_t n = 0;
  if (json_is_object(v)) return json_array_size(json_object_get(v, "values"));
  if (!is_several(v)) return json_array_size(v);
  for (size_t i = 0; i < json_array_size(v); i++) n += json_array_size(json_array_get(v, i));
  return n;
}

/* Grows the buffers to what the line has, before any pointer goes into them. */
static aiinfra_status make_room(aii_vecfile *file, const json_t *vectors, aiinfra_error *err)
{
  const char *name;
  json_t *v;
  size_t n_floats = 0, n_indices = 0;
  json_object_foreach((json_t *)(uintptr_t)vectors, name, v)
  {
    n_floats += count_floats(v);
    n_indices += json_array_size(json_object_get(v, "indices"));
  }
  bool ok = aii_grow(file->mem, &file->named, &file->named_cap, json_object_size(vectors), sizeof *file->named) &&
            aii_grow(file->mem, &file->floats, &file->floats_cap, n_floats, sizeof *file->floats) &&
            aii_grow(file->mem, &file->indices, &file->indices_cap, n_indices, sizeof *file->indices);
  return ok ? AIINFRA_OK : aii_fail(err, AIINFRA_ENOMEM, "no memory for vectors under names");
}

static aiinfra_status take_sparse(const json_t *v, const char *path, float *floats, uint32_t *indices, aii_rowvec *out,
                                  aiinfra_error *err)
{
  static const char *const names[] = {"indices", "values", NULL};
  aiinfra_status rc = aii_check_names(v, path, names, err);
  if (rc == AIINFRA_OK) rc = aii_pairs_check(v, path, err);
  if (rc != AIINFRA_OK) return rc;
  const json_t *list = json_object_get(v, "indices"), *values = json_object_get(v, "values");
  out->n = json_array_size(list);
  out->values = floats;
  out->indices = indices;
  for (size_t i = 0; i < out->n; i++) {
    indices[i] = (uint32_t)json_integer_value(json_array_get(list, i));
    floats[i] = (float)json_number_value(json_array_get(values, i));
  }
  return AIINFRA_OK;
}

static aiinfra_status take_floats(const json_t *v, const char *path, float *to, aiinfra_error *err)
{
  for (size_t i = 0; i < json_array_size(v); i++) {
    if (!aii_jsonl_float(json_array_get(v, i), &to[i])) {
      return aii_fail(err, AIINFRA_EINVAL, "%s[%zu]: expected a number that a float can hold", path, i);
    }
  }
  return AIINFRA_OK;
}

static aiinfra_status take_several(const json_t *v, const char *path, float *to, aii_rowvec *out, aiinfra_error *err)
{
  size_t n = json_array_size(v), dims = json_array_size(json_array_get(v, 0));
  aiinfra_status rc = AIINFRA_OK;
  char at[160];
  if (dims < 1 || dims > AII_FILE_MAX_DIMS) {
    return aii_fail(err, AIINFRA_EINVAL, "%s[0]: a vector has %zu elements, not 1 to %d", path, dims,
                    AII_FILE_MAX_DIMS);
  }
  for (size_t i = 0; rc == AIINFRA_OK && i < n; i++) {
    const json_t *one = json_array_get(v, i);
    (void)snprintf(at, sizeof at, "%.120s[%zu]", path, i);
    if (!json_is_array(one) || json_array_size(one) != dims) {
      return aii_fail(err, AIINFRA_EINVAL, "%s: expected an array of %zu numbers, as the first one", at, dims);
    }
    rc = take_floats(one, at, to + i * dims, err);
  }
  out->values = to;
  out->n = n * dims;
  out->dims = (uint32_t)dims;
  return rc;
}

static aiinfra_status take_one(const json_t *v, const char *name, float *floats, uint32_t *indices, aii_rowvec *out,
                               aiinfra_error *err)
{
  char path[96];
  (void)snprintf(path, sizeof path, "vectors.%.64s", name);
  *out = (aii_rowvec){.name = name};
  if (json_is_null(v)) return AIINFRA_OK;
  if (json_is_object(v)) return take_sparse(v, path, floats, indices, out, err);
  if (!json_is_array(v)) {
    return aii_fail(err, AIINFRA_EINVAL,
                    "%s: expected an array of numbers, an array of such, {\"indices\", \"values\"} or null, found %s",
                    path, aii_json_type(v));
  }
  if (json_array_size(v) == 0) {
    return aii_fail(err, AIINFRA_EINVAL, "%s is empty; leave it out, or write null where the row is to lose it", path);
  }
  if (is_several(v)) return take_several(v, path, floats, out, err);
  out->values = floats;
  out->n = json_array_size(v);
  return take_floats(v, path, floats, err);
}

aiinfra_status aii_jsonl_named(aii_vecfile *file, const json_t *vectors, aii_vecrow *row, aiinfra_error *err)
{
  const char *name;
  json_t *v;
  size_t n_floats = 0, n_indices = 0;
  aiinfra_status rc = make_room(file, vectors, err);
  row->n_named = 0;
  json_object_foreach((json_t *)(uintptr_t)vectors, name, v)
  {
    if (rc != AIINFRA_OK) break;
    float *floats = file->floats != NULL ? file->floats + n_floats : NULL;
    uint32_t *indices = file->indices != NULL ? file->indices + n_indices : NULL;
    rc = take_one(v, name, floats, indices, &file->named[row->n_named], err);
    n_floats += count_floats(v);
    n_indices += json_array_size(json_object_get(v, "indices"));
    row->n_named++;
  }
  row->named = file->named;
  return rc;
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

void aii_jsonl_put_floats(aii_buf *out, const float *values, size_t n)
{
  aii_buf_char(out, '[');
  for (size_t i = 0; i < n; i++) {
    if (i > 0) aii_buf_char(out, ',');
    aii_buf_double(out, (double)values[i], FLOAT_DIGITS);
  }
  aii_buf_char(out, ']');
}

static void put_one(aii_buf *out, const aii_rowvec *v)
{
  if (v->values == NULL) {
    aii_buf_str(out, "null");
  } else if (v->indices != NULL) {
    aii_buf_str(out, "{\"indices\":[");
    for (size_t i = 0; i < v->n; i++) aii_buf_fmt(out, i > 0 ? ",%u" : "%u", v->indices[i]);
    aii_buf_str(out, "],\"values\":");
    aii_jsonl_put_floats(out, v->values, v->n);
    aii_buf_char(out, '}');
  } else if (v->dims == 0) {
    aii_jsonl_put_floats(out, v->values, v->n);
  } else {
    for (size_t i = 0; i < v->n; i += v->dims) {
      aii_buf_char(out, i > 0 ? ',' : '[');
      aii_jsonl_put_floats(out, v->values + i, v->dims);
    }
    aii_buf_char(out, ']');
  }
}

void aii_jsonl_put_named(aii_buf *out, const aii_rowvec *named, size_t n)
{
  for (size_t i = 0; i < n; i++) {
    aii_buf_str(out, i > 0 ? "," : ",\"vectors\":{");
    aii_buf_json(out, named[i].name, strlen(named[i].name));
    aii_buf_char(out, ':');
    put_one(out, &named[i]);
  }
  if (n > 0) aii_buf_char(out, '}');
}
