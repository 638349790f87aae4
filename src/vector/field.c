/* field.c - compiles conditions on one field.
 *
 *   Qdrant   {"key": "a.b", "match": {"value" | "any" | "except" | "text" | "text_any" | "phrase" | "prefix": ...}}
 *            {"key": ..., "range": {"gt" | "gte" | "lt" | "lte": 1 or "2020-01-31T12:00:00Z"}}
 *            {"key": ..., "values_count": {...}}, {"key": ..., "is_null" | "is_empty": true}
 *            {"key": ..., "geo_bounding_box" | "geo_radius" | "geo_polygon": {...}} (geo.c)
 *   Chroma   "a": 1 or {"$eq" | "$ne" | "$in" | "$nin" | "$gt" | "$gte" | "$lt" | "$lte" | "$contains" |
 *            "$not_contains": ...}
 *
 * Operators of Qdrant's form come one at a time: two in one condition are refused, since they can be meant in two
 * ways. Those of Chroma's form must all hold; bounds of one field hold for the same value. Part of filter.c's work.
 */
#include "lib/json/json.h"
#include "src/vector/filter.h"

/* A condition on a field, or its negation. */
static aiinfra_status add_field(aii_compiler *c, uint32_t parent, aii_filter_op op, bool negated, uint32_t path,
                                uint32_t *node)
{
  aiinfra_status rc = AIINFRA_OK;
  if (negated) rc = aii_filter_add(c, parent, AII_OP_NONE, &parent);
  if (rc == AIINFRA_OK) rc = aii_filter_add(c, parent, op, node);
  if (rc == AIINFRA_OK) c->filter->nodes[*node].path = path;
  return rc;
}

/* ---- values ---------------------------------------------------------------------------------------------------- */

static aiinfra_status add_scalar(aii_compiler *c, uint32_t node, const json_t *value)
{
  aii_operand operand = {.type = json_is_true(value) ? AII_CELL_TRUE : AII_CELL_FALSE};
  uint32_t type;
  if (!aii_is_scalar(value)) return aii_expected(c, "a string, number or boolean", value);
  if (json_is_string(value)) {
    operand.type = AII_CELL_STRING;
    operand.s = json_string_value(value);
    operand.n = json_string_length(value);
  } else if (json_is_number(value)) {
    aii_number_of(value, &type, &operand.i, &operand.d);
    operand.type = (aii_cell_type)type;
  }
  return aii_add_operand(c, node, operand);
}

static aiinfra_status add_scalars(aii_compiler *c, uint32_t node, const json_t *values)
{
  aiinfra_status rc = AIINFRA_OK;
  if (!json_is_array(values)) return aii_expected(c, "an array of strings, numbers or booleans", values);
  for (size_t i = 0; rc == AIINFRA_OK && i < json_array_size(values); i++) {
    if (!aii_is_scalar(json_array_get(values, i))) {
      (void)aii_enter(c, NULL, i);
      return aii_expected(c, "a string, number or boolean", json_array_get(values, i));
    }
    rc = add_scalar(c, node, json_array_get(values, i));
  }
  return rc;
}

static aiinfra_status add_string(aii_compiler *c, uint32_t node, const json_t *value)
{
  return json_is_string(value) ? add_scalar(c, node, value) : aii_expected(c, "a string", value);
}

/* The words of a text, in lower case. */
static aiinfra_status add_words(aii_compiler *c, uint32_t node, const json_t *value)
{
  aii_buf *words = &c->filter->words;
  const char *text = json_string_value(value), *word;
  size_t at = 0, n, n_words = 0, text_n = json_string_length(value);
  aiinfra_status rc = AIINFRA_OK;
  if (!json_is_string(value)) return aii_expected(c, "a string", value);
  while (rc == AIINFRA_OK && aii_word_next(text, text_n, &at, &word, &n)) {
    if (n_words++ == AII_TEXT_WORDS) {
      return aii_fail(c->err, AIINFRA_EINVAL, "filter: %s: more than %d words", c->path, AII_TEXT_WORDS);
    }
    aii_operand operand = {.type = AII_CELL_STRING, .i = (int64_t)words->len};
    for (size_t i = 0; i < n;) {
      char bytes[4];
      uint32_t cp = aii_lower_next(word, n, &i);
      aii_buf_add(words, bytes, aii_utf8_encode(cp, bytes));
    }
    operand.n = words->len - (size_t)operand.i;
    if (words->failed) return aii_filter_no_memory(c);
    rc = aii_add_operand(c, node, operand);
  }
  return rc;
}

/* ---- operators by name ----------------------------------------------------------------------------------------- */

typedef struct operation {
  const char *name;
  aii_filter_op op;
  bool negated;
  aiinfra_status (*add)(aii_compiler *c, uint32_t node, const json_t *value);
} operation;

static const operation MATCH[] = {
    {"value", AII_OP_IN, false, add_scalar},         {"any", AII_OP_IN, false, add_scalars},
    {"except", AII_OP_EXCEPT, false, add_scalars},   {"text", AII_OP_TEXT_ALL, false, add_words},
    {"text_any", AII_OP_TEXT_ANY, false, add_words}, {"phrase", AII_OP_PHRASE, false, add_words},
    {"prefix", AII_OP_PREFIX, false, add_string},
};
static const operation CHROMA[] = {
    {"$eq", AII_OP_IN, false, add_scalar},
    {"$ne", AII_OP_IN, true, add_scalar},
    {"$in", AII_OP_IN, false, add_scalars},
    {"$nin", AII_OP_IN, true, add_scalars},
    {"$contains", AII_OP_CONTAINS, false, add_scalar},
    {"$not_contains", AII_OP_CONTAINS, true, add_scalar},
};

static const operation *find(const operation *list, size_t n, const char *name)
{
  for (size_t i = 0; i < n; i++) {
    if (strcmp(list[i].name, name) == 0) return &list[i];
  }
  return NULL;
}

static aiinfra_status add_operation(aii_compiler *c, const operation *o, const json_t *value, uint32_t path,
                                    uint32_t parent)
{
  uint32_t node;
  aiinfra_status rc = add_field(c, parent, o->op, o->negated, path, &node);
  return rc == AIINFRA_OK ? o->add(c, node, value) : rc;
}

/* ---- bounds ---------------------------------------------------------------------------------------------------- */

static aii_bound bound_of(const char *name)
{
  static const char *const names[] = {"lt", "lte", "gt", "gte"};
  for (size_t i = 0; i < AII_COUNT(names); i++) {
    if (strcmp(name, names[i]) == 0) return (aii_bound)(AII_BOUND_LT + i);
  }
  return AII_BOUND_NONE;
}

static bool is_time(const aii_operand *operand)
{
  return operand->type == AII_CELL_TIME;
}

/* A number or a date; all bounds of a range are of one kind. */
static aiinfra_status add_bound(aii_compiler *c, uint32_t node, aii_bound bound, const json_t *value)
{
  aii_operand operand = {.type = AII_CELL_TIME, .bound = bound};
  const aii_filter_node *range = &c->filter->nodes[node];
  uint32_t type;
  if (json_is_number(value)) {
    aii_number_of(value, &type, &operand.i, &operand.d);
    operand.type = (aii_cell_type)type;
  } else if (!json_is_string(value)) {
    return aii_expected(c, "a number or a date", value);
  } else if (!aii_time_parse(json_string_value(value), json_string_length(value), &operand.i)) {
    return aii_expected(c, "a number or a date as RFC 3339 writes it", value);
  }
  if (range->n > 0 && is_time(&c->filter->operands[range->first]) != is_time(&operand)) {
    return aii_expected(c, "bounds that are all numbers or all dates", value);
  }
  return aii_add_operand(c, node, operand);
}

static aiinfra_status add_count(aii_compiler *c, uint32_t node, aii_bound bound, const json_t *value)
{
  if (!json_is_integer(value)) return aii_expected(c, "an integer", value);
  return aii_add_operand(c, node, (aii_operand){.type = AII_CELL_INT, .bound = bound, .i = json_integer_value(value)});
}

/* {"gt": 1, "lte": 5} of a range or a count; a null is no bound. */
static aiinfra_status compile_bounds(aii_compiler *c, const json_t *json, bool count, uint32_t node)
{
  const char *name;
  json_t *value;
  json_object_foreach((json_t *)(uintptr_t)json, name, value)
  {
    size_t old = aii_enter(c, name, 0);
    aii_bound bound = bound_of(name);
    aiinfra_status rc = AIINFRA_OK;
    if (bound == AII_BOUND_NONE) return aii_unknown(c, "lt, lte, gt and gte");
    if (!json_is_null(value)) rc = count ? add_count(c, node, bound, value) : add_bound(c, node, bound, value);
    if (rc != AIINFRA_OK) return rc;
    aii_leave(c, old);
  }
  return c->filter->nodes[node].n > 0 ? AIINFRA_OK : aii_expected(c, "an object with lt, lte, gt or gte", json);
}

/* ---- Qdrant's form --------------------------------------------------------------------------------------------- */

static aiinfra_status compile_match(aii_compiler *c, const json_t *json, uint32_t path, uint32_t parent)
{
  const char *name;
  json_t *value;
  aiinfra_status rc = AIINFRA_OK;
  if (json_object_size(json) != 1) return aii_expected(c, "an object with one operator", json);
  json_object_foreach((json_t *)(uintptr_t)json, name, value)
  {
    size_t old = aii_enter(c, name, 0);
    const operation *o = find(MATCH, AII_COUNT(MATCH), name);
    if (o == NULL) return aii_unknown(c, "value, any, except, text, text_any, phrase and prefix");
    rc = add_operation(c, o, value, path, parent);
    if (rc != AIINFRA_OK) return rc;
    aii_leave(c, old);
  }
  return rc;
}

static aiinfra_status add_is(aii_compiler *c, bool null, bool holds, uint32_t path, uint32_t parent)
{
  uint32_t node;
  return add_field(c, parent, null ? AII_OP_IS_NULL : AII_OP_NOT_EMPTY, null != holds, path, &node);
}

aiinfra_status aii_compile_is(aii_compiler *c, bool null, bool holds, const char *key, size_t n, uint32_t parent)
{
  uint32_t path;
  aiinfra_status rc = aii_path_add(c, key, n, &path);
  return rc == AIINFRA_OK ? add_is(c, null, holds, path, parent) : rc;
}

static aiinfra_status compile_condition(aii_compiler *c, const char *name, const json_t *value, uint32_t path,
                                        uint32_t parent)
{
  bool null = strcmp(name, "is_null") == 0;
  uint32_t node;
  aiinfra_status rc;
  if (null || strcmp(name, "is_empty") == 0) {
    if (!json_is_boolean(value)) return aii_expected(c, "a boolean", value);
    return add_is(c, null, json_is_true(value), path, parent);
  }
  bool range = strcmp(name, "range") == 0, count = strcmp(name, "values_count") == 0;
  if (!range && !count && strcmp(name, "match") != 0 && strncmp(name, "geo_", 4) != 0) {
    return aii_unknown(c, "match, range, values_count, is_null, is_empty, geo_bounding_box, geo_radius and "
                          "geo_polygon");
  }
  if (!json_is_object(value)) return aii_expected(c, "an object", value);
  if (strcmp(name, "match") == 0) return compile_match(c, value, path, parent);
  rc = add_field(c, parent, range ? AII_OP_RANGE : count ? AII_OP_COUNT : AII_OP_GEO, false, path, &node);
  if (rc != AIINFRA_OK) return rc;
  return range || count ? compile_bounds(c, value, count, node) : aii_compile_geo(c, name, value, node);
}

aiinfra_status aii_compile_field(aii_compiler *c, const json_t *json, uint32_t parent)
{
  const json_t *key = json_object_get(json, "key");
  const char *name;
  json_t *value;
  uint32_t path;
  aiinfra_status rc = aii_path_add(c, json_string_value(key), json_string_length(key), &path);
  size_t n = 0;
  if (rc != AIINFRA_OK) return rc;
  json_object_foreach((json_t *)(uintptr_t)json, name, value)
  {
    if (strcmp(name, "key") == 0) continue;
    size_t old = aii_enter(c, name, 0);
    rc = compile_condition(c, name, value, path, parent);
    if (rc == AIINFRA_OK && ++n > 1) {
      rc = aii_fail(c->err, AIINFRA_EINVAL,
                    "filter: %s: a second operator beside \"key\"; make it a condition of its own", c->path);
    }
    if (rc != AIINFRA_OK) return rc;
    aii_leave(c, old);
  }
  return rc;
}

/* ---- Chroma's form --------------------------------------------------------------------------------------------- */

static const char CHROMA_KNOWN[] = "$eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $contains, $not_contains, and the "
                                   "clauses $and, $or and $not";

static aiinfra_status compile_chroma_operator(aii_compiler *c, const char *name, const json_t *value, uint32_t path,
                                              uint32_t *range, uint32_t parent)
{
  const operation *o = find(CHROMA, AII_COUNT(CHROMA), name);
  aii_bound bound = name[0] == '$' ? bound_of(name + 1) : AII_BOUND_NONE;
  aiinfra_status rc = AIINFRA_OK;
  if (o != NULL) return add_operation(c, o, value, path, parent);
  if (bound == AII_BOUND_NONE) return aii_unknown(c, CHROMA_KNOWN);
  if (*range == AII_NO_NODE) rc = add_field(c, parent, AII_OP_RANGE, false, path, range);
  return rc == AIINFRA_OK ? add_bound(c, *range, bound, value) : rc;
}

aiinfra_status aii_compile_chroma(aii_compiler *c, const char *name, const json_t *value, uint32_t parent)
{
  static const operation equals = {"", AII_OP_IN, false, add_scalar};
  const char *operator_name;
  json_t *operand;
  uint32_t path, range = AII_NO_NODE;
  if (name[0] == '$') return aii_unknown(c, CHROMA_KNOWN);
  if (!aii_is_scalar(value) && (!json_is_object(value) || json_object_size(value) == 0)) {
    return aii_expected(c, "a string, number, boolean, or an object with an operator", value);
  }
  aiinfra_status rc = aii_path_add(c, name, strlen(name), &path);
  if (rc != AIINFRA_OK || !json_is_object(value)) {
    return rc == AIINFRA_OK ? add_operation(c, &equals, value, path, parent) : rc;
  }
  /* bounds first, so that their operands lie together */
  for (int bounds = 1; bounds >= 0; bounds--) {
    json_object_foreach((json_t *)(uintptr_t)value, operator_name, operand)
    {
      bool is_bound = operator_name[0] == '$' && bound_of(operator_name + 1) != AII_BOUND_NONE;
      if (is_bound != (bounds == 1)) continue;
      size_t old = aii_enter(c, operator_name, 0);
      rc = compile_chroma_operator(c, operator_name, operand, path, &range, parent);
      if (rc != AIINFRA_OK) return rc;
      aii_leave(c, old);
    }
  }
  return rc;
}
