/* json.c - getters that name the path, and dump. See json.h. */
#include "lib/json/json.h"

const char *aii_json_type(const json_t *value)
{
  if (value == NULL) return "nothing";
  switch (json_typeof(value)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a number";
    case JSON_TRUE:
    case JSON_FALSE: return "a boolean";
    case JSON_NULL: return "null";
    default: return "a value";
  }
}

json_t *aii_json_copy(const json_t *value)
{
  json_t *copy = json_copy((json_t *)(uintptr_t)value);
  bool whole = json_is_object(value) ? json_object_size(copy) == json_object_size(value)
                                     : json_array_size(copy) == json_array_size(value);
  if (copy == NULL || whole) return copy;
  json_decref(copy);
  return NULL;
}

static aiinfra_status wrong(const char *path, const char *key, const char *want, const json_t *found,
                            aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_EINVAL, "%s%s%s: expected %s, found %s", path, path[0] != '\0' ? "." : "", key, want,
                  aii_json_type(found));
}

/* The member, or NULL when it is missing or null; then *rc says whether that is an error. */
static json_t *member(const json_t *obj, const char *path, const char *key, bool required, const char *want,
                      aiinfra_status *rc, aiinfra_error *err)
{
  *rc = AIINFRA_OK;
  if (!json_is_object(obj)) {
    *rc = aii_fail(err, AIINFRA_EINVAL, "%s: expected an object, found %s", path[0] != '\0' ? path : "the root",
                   aii_json_type(obj));
    return NULL;
  }
  json_t *value = json_object_get(obj, key);
  if (value == NULL || json_is_null(value)) {
    if (required) *rc = wrong(path, key, want, value, err);
    return NULL;
  }
  return value;
}

aiinfra_status aii_json_get_str(const json_t *obj, const char *path, const char *key, bool required, const char **out,
                                aiinfra_error *err)
{
  aiinfra_status rc;
  json_t *value = member(obj, path, key, required, "a string", &rc, err);
  if (value == NULL) return rc;
  if (!json_is_string(value)) return wrong(path, key, "a string", value, err);
  *out = json_string_value(value);
  return AIINFRA_OK;
}

aiinfra_status aii_json_get_int(const json_t *obj, const char *path, const char *key, bool required, int64_t *out,
                                aiinfra_error *err)
{
  aiinfra_status rc;
  json_t *value = member(obj, path, key, required, "an integer", &rc, err);
  if (value == NULL) return rc;
  if (!json_is_integer(value)) return wrong(path, key, "an integer", value, err);
  *out = json_integer_value(value);
  return AIINFRA_OK;
}

aiinfra_status aii_json_get_num(const json_t *obj, const char *path, const char *key, bool required, double *out,
                                aiinfra_error *err)
{
  aiinfra_status rc;
  json_t *value = member(obj, path, key, required, "a number", &rc, err);
  if (value == NULL) return rc;
  if (!json_is_number(value)) return wrong(path, key, "a number", value, err);
  *out = json_number_value(value);
  return AIINFRA_OK;
}

aiinfra_status aii_json_get_bool(const json_t *obj, const char *path, const char *key, bool required, bool *out,
                                 aiinfra_error *err)
{
  aiinfra_status rc;
  json_t *value = member(obj, path, key, required, "a boolean", &rc, err);
  if (value == NULL) return rc;
  if (!json_is_boolean(value)) return wrong(path, key, "a boolean", value, err);
  *out = json_is_true(value);
  return AIINFRA_OK;
}

aiinfra_status aii_json_get_array(const json_t *obj, const char *path, const char *key, bool required, json_t **out,
                                  aiinfra_error *err)
{
  aiinfra_status rc;
  json_t *value = member(obj, path, key, required, "an array", &rc, err);
  if (value == NULL) return rc;
  if (!json_is_array(value)) return wrong(path, key, "an array", value, err);
  *out = value;
  return AIINFRA_OK;
}

aiinfra_status aii_json_get_object(const json_t *obj, const char *path, const char *key, bool required, json_t **out,
                                   aiinfra_error *err)
{
  aiinfra_status rc;
  json_t *value = member(obj, path, key, required, "an object", &rc, err);
  if (value == NULL) return rc;
  if (!json_is_object(value)) return wrong(path, key, "an object", value, err);
  *out = value;
  return AIINFRA_OK;
}

static int dump_bytes(const char *bytes, size_t n, void *data)
{
  aii_buf *buf = data;
  aii_buf_add(buf, bytes, n);
  return buf->failed ? -1 : 0;
}

bool aii_json_dump(const json_t *value, aii_buf *buf)
{
  if (json_dump_callback(value, dump_bytes, buf, JSON_COMPACT | JSON_ENCODE_ANY) != 0) buf->failed = true;
  return !buf->failed;
}
