/* json.c - bounded parsing, getters that name the path, dump. See json.h. */
#include "lib/json/json.h"

/* The deepest nesting of arrays and objects, or limit + 1 as soon as it is passed. Text need not be valid. */
static uint32_t depth_of(const char *text, size_t n, uint32_t limit)
{
  uint32_t depth = 0, deepest = 0;
  bool in_string = false;
  for (size_t i = 0; i < n && deepest <= limit; i++) {
    char c = text[i];
    if (in_string) {
      if (c == '\\') i++;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      depth++;
      deepest = AII_MAX(deepest, depth);
    } else if ((c == ']' || c == '}') && depth > 0) {
      depth--;
    }
  }
  return deepest;
}

aiinfra_status aii_json_parse(const char *text, size_t n, const char *what, uint32_t max_depth, json_t **out,
                              aiinfra_error *err)
{
  *out = NULL;
  if (max_depth == 0) max_depth = AII_JSON_MAX_DEPTH;
  if (text == NULL) return aii_fail(err, AIINFRA_EINVAL, "%s: no JSON text", what);
  if (n > AII_JSON_MAX_BYTES) {
    return aii_fail(err, AIINFRA_ELIMIT, "%s: %zu bytes of JSON, more than the limit of %zu", what, n,
                    AII_JSON_MAX_BYTES);
  }
  if (depth_of(text, n, max_depth) > max_depth) {
    return aii_fail(err, AIINFRA_ELIMIT, "%s: JSON nested deeper than %u levels", what, max_depth);
  }
  const char *nul = memchr(text, '\0', n); /* jansson would take it for the end */
  if (nul != NULL) return aii_fail(err, AIINFRA_EFORMAT, "%s: a NUL byte at offset %zu", what, (size_t)(nul - text));
  json_error_t je;
  memset(&je, 0, sizeof je);
  *out = json_loadb(text, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &je);
  if (*out != NULL) return AIINFRA_OK;
  enum json_error_code code = json_error_code(&je);
  bool of_memory = code == json_error_unknown || code == json_error_invalid_syntax || code == json_error_premature_end_of_input;
  if (code == json_error_out_of_memory || (of_memory && aii_json_well_formed(text, n))) {
    return aii_fail(err, AIINFRA_ENOMEM, "%s: no memory for JSON", what);
  }
  if (code == json_error_stack_overflow) return aii_fail(err, AIINFRA_ELIMIT, "%s: JSON nested too deep", what);
  if (je.line < 0) return aii_fail(err, AIINFRA_EFORMAT, "%s: %s", what, je.text);
  return aii_fail(err, AIINFRA_EFORMAT, "%s: line %d, column %d: %s", what, je.line, je.column, je.text);
}

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
