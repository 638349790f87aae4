/* filter.c - compiles a filter once, so that rows are matched without looking at its JSON again.
 *
 * Two languages are understood, and may be mixed:
 *   Qdrant   {"must": [...], "should": [...], "must_not": [...], "min_should": {"conditions": [...], "min_count": 2}}
 *            with conditions {"key": "a.b", "match": {"value" | "any" | "except" | "text" | "text_any": ...}},
 *            {"key": ..., "range": {"gt" | "gte" | "lt" | "lte": 1}}, {"is_null" | "is_empty": {"key": ...}},
 *            {"has_id": [1, 2]}, or another filter
 *   Chroma   {"a": 1, "b": {"$gte": 2, "$ne": 3}, "$and": [...], "$or": [...]}
 *
 * What is not understood is an error that names its path, such as "must[1].match.near"; nothing is skipped. Depth and
 * size are bounded (a filter may come from a stranger), so recursion over it is bounded too. Only memory can fail
 * besides. Any thread.
 */
#include <stdio.h>

#include "lib/json/json.h"
#include "src/vector/filter.h"

typedef struct compiler {
  aii_filter *filter;
  aiinfra_error *err;
  char path[256]; /* where we are, for messages */
  size_t path_n;
} compiler;

static aiinfra_status compile_filter(compiler *c, const json_t *json, uint32_t parent);

/* ---- paths ----------------------------------------------------------------------------------------------------- */

/* Appends ".name" or "[at]" and returns the old length, to be given to leave(). */
static size_t enter(compiler *c, const char *name, size_t at)
{
  size_t old = c->path_n, room = sizeof c->path - old;
  int n = name != NULL ? snprintf(c->path + old, room, "%s%s", old > 0 ? "." : "", name)
                       : snprintf(c->path + old, room, "[%zu]", at);
  if (n > 0) c->path_n = AII_MIN(old + (size_t)n, sizeof c->path - 1);
  return old;
}

static void leave(compiler *c, size_t old)
{
  c->path_n = old;
  c->path[old] = '\0';
}

static aiinfra_status bad(compiler *c, const char *want, const json_t *found)
{
  return aii_fail(c->err, AIINFRA_EINVAL, "filter: %s: expected %s, found %s", c->path_n > 0 ? c->path : "the filter",
                  want, aii_json_type(found));
}

static aiinfra_status unknown(compiler *c, const char *known)
{
  return aii_fail(c->err, AIINFRA_EINVAL, "filter: %s: unknown operator; known are %s", c->path, known);
}

/* ---- nodes ----------------------------------------------------------------------------------------------------- */

static aiinfra_status add(compiler *c, uint32_t parent, aii_filter_op op, const char *key, const json_t *value,
                          uint32_t *out)
{
  aii_filter *f = c->filter;
  if (f->n == AII_FILTER_NODES) {
    return aii_fail(c->err, AIINFRA_EINVAL, "filter: more than %d conditions", AII_FILTER_NODES);
  }
  if (!aii_grow(f->mem, &f->nodes, &f->cap, f->n + 1, sizeof *f->nodes)) {
    return aii_fail(c->err, AIINFRA_ENOMEM, "no memory for a filter");
  }
  uint32_t at = (uint32_t)f->n++;
  f->nodes[at] = (aii_filter_node){op, AII_NO_NODE, AII_NO_NODE, AII_NO_NODE, key, value, 0};
  if (parent != AII_NO_NODE) {
    aii_filter_node *p = &f->nodes[parent];
    if (p->child == AII_NO_NODE) p->child = at;
    else f->nodes[p->last].next = at;
    p->last = at;
  }
  if (out != NULL) *out = at;
  return AIINFRA_OK;
}

/* The negation of one condition. */
static aiinfra_status add_not(compiler *c, uint32_t parent, aii_filter_op op, const char *key, const json_t *value)
{
  uint32_t none;
  aiinfra_status rc = add(c, parent, AII_OP_NONE, NULL, NULL, &none);
  return rc == AIINFRA_OK ? add(c, none, op, key, value, NULL) : rc;
}

static bool is_scalar(const json_t *value)
{
  return json_is_string(value) || json_is_number(value) || json_is_boolean(value);
}

static bool is_scalar_array(const json_t *value)
{
  for (size_t i = 0; i < json_array_size(value); i++) {
    if (!is_scalar(json_array_get(value, i))) return false;
  }
  return json_is_array(value);
}

/* ---- conditions on a field ------------------------------------------------------------------------------------- */

typedef enum operand { SCALAR, LIST, NUMBER, STRING } operand;

typedef struct operation {
  const char *name;
  aii_filter_op op;
  bool negated;
  operand operand;
} operation;

static const operation MATCH[] = {
    {"value", AII_OP_EQ, false, SCALAR},
    {"any", AII_OP_IN, false, LIST},
    {"except", AII_OP_IN, true, LIST},
    {"text", AII_OP_TEXT_ALL, false, STRING},
    {"text_any", AII_OP_TEXT_ANY, false, STRING},
};
static const operation RANGE[] = {
    {"lt", AII_OP_LT, false, NUMBER},
    {"lte", AII_OP_LTE, false, NUMBER},
    {"gt", AII_OP_GT, false, NUMBER},
    {"gte", AII_OP_GTE, false, NUMBER},
};
static const operation CHROMA[] = {
    {"$eq", AII_OP_EQ, false, SCALAR}, {"$ne", AII_OP_EQ, true, SCALAR},    {"$in", AII_OP_IN, false, LIST},
    {"$nin", AII_OP_IN, true, LIST},   {"$lt", AII_OP_LT, false, NUMBER},   {"$lte", AII_OP_LTE, false, NUMBER},
    {"$gt", AII_OP_GT, false, NUMBER}, {"$gte", AII_OP_GTE, false, NUMBER},
};

static aiinfra_status check_operand(compiler *c, operand want, const json_t *value)
{
  switch (want) {
    case SCALAR: return is_scalar(value) ? AIINFRA_OK : bad(c, "a string, number or boolean", value);
    case LIST: return is_scalar_array(value) ? AIINFRA_OK : bad(c, "an array of strings, numbers or booleans", value);
    case NUMBER: return json_is_number(value) ? AIINFRA_OK : bad(c, "a number", value);
    default: return json_is_string(value) ? AIINFRA_OK : bad(c, "a string", value);
  }
}

/* An object of operators on one field: all must hold. */
static aiinfra_status compile_ops(compiler *c, const json_t *json, const operation *ops, size_t n_ops,
                                  const char *known, const char *key, uint32_t parent)
{
  const char *name;
  json_t *value;
  if (!json_is_object(json) || json_object_size(json) == 0) return bad(c, "an object with an operator", json);
  json_object_foreach((json_t *)(uintptr_t)json, name, value)
  {
    size_t old = enter(c, name, 0), i = 0;
    while (i < n_ops && strcmp(ops[i].name, name) != 0) i++;
    if (i == n_ops) return unknown(c, known);
    aiinfra_status rc = check_operand(c, ops[i].operand, value);
    if (rc == AIINFRA_OK && ops[i].negated) rc = add_not(c, parent, ops[i].op, key, value);
    else if (rc == AIINFRA_OK) rc = add(c, parent, ops[i].op, key, value, NULL);
    if (rc != AIINFRA_OK) return rc;
    leave(c, old);
  }
  return AIINFRA_OK;
}

/* {"is_null": {"key": ...}} */
static aiinfra_status compile_is(compiler *c, aii_filter_op op, const json_t *json, uint32_t parent)
{
  const json_t *key = json_object_get(json, "key");
  if (!json_is_string(key) || json_object_size(json) != 1) return bad(c, "an object with a \"key\" alone", json);
  return add(c, parent, op, json_string_value(key), NULL, NULL);
}

static aiinfra_status compile_has_id(compiler *c, const json_t *json, uint32_t parent)
{
  bool ok = json_is_array(json);
  for (size_t i = 0; ok && i < json_array_size(json); i++) ok = json_is_integer(json_array_get(json, i));
  return ok ? add(c, parent, AII_OP_HAS_ID, NULL, json, NULL) : bad(c, "an array of integers", json);
}

/* {"key": "a", "match": {...}, "range": {...}} */
static aiinfra_status compile_field(compiler *c, const json_t *json, uint32_t parent)
{
  const char *key = json_string_value(json_object_get(json, "key")), *name;
  json_t *value;
  aiinfra_status rc = AIINFRA_OK;
  json_object_foreach((json_t *)(uintptr_t)json, name, value)
  {
    if (strcmp(name, "key") == 0) continue;
    size_t old = enter(c, name, 0);
    if (strcmp(name, "match") == 0) {
      rc = compile_ops(c, value, MATCH, AII_COUNT(MATCH), "value, any, except, text and text_any", key, parent);
    } else if (strcmp(name, "range") == 0) {
      rc = compile_ops(c, value, RANGE, AII_COUNT(RANGE), "lt, lte, gt and gte", key, parent);
    } else {
      rc = unknown(c, "match and range");
    }
    if (rc != AIINFRA_OK) return rc;
    leave(c, old);
  }
  return rc;
}

/* ---- clauses --------------------------------------------------------------------------------------------------- */

/* An array of filters (a single object counts as one) as children of a new node. */
static aiinfra_status compile_list(compiler *c, aii_filter_op op, const json_t *json, uint32_t parent, uint32_t *out)
{
  uint32_t node;
  if (!json_is_array(json) && !json_is_object(json)) return bad(c, "an array of conditions", json);
  aiinfra_status rc = add(c, parent, op, NULL, NULL, &node);
  if (rc != AIINFRA_OK) return rc;
  if (out != NULL) *out = node;
  if (json_is_object(json)) return compile_filter(c, json, node);
  for (size_t i = 0; i < json_array_size(json); i++) {
    size_t old = enter(c, NULL, i);
    rc = compile_filter(c, json_array_get(json, i), node);
    if (rc != AIINFRA_OK) return rc;
    leave(c, old);
  }
  return AIINFRA_OK;
}

static aiinfra_status compile_min_should(compiler *c, const json_t *json, uint32_t parent)
{
  uint32_t node;
  const json_t *count = json_object_get(json, "min_count");
  if (!json_is_integer(count) || json_object_size(json) != 2) {
    return bad(c, "an object with \"conditions\" and an integer \"min_count\"", json);
  }
  size_t old = enter(c, "conditions", 0);
  aiinfra_status rc = compile_list(c, AII_OP_MIN_SHOULD, json_object_get(json, "conditions"), parent, &node);
  if (rc != AIINFRA_OK) return rc;
  leave(c, old);
  c->filter->nodes[node].count = json_integer_value(count);
  return AIINFRA_OK;
}

/* A member whose name is no clause is a field of Chroma's form: its value, or an object of operators. */
static aiinfra_status compile_chroma(compiler *c, const char *name, const json_t *value, uint32_t parent)
{
  static const char known[] = "$eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $and and $or";
  if (name[0] == '$') return unknown(c, known);
  if (is_scalar(value)) return add(c, parent, AII_OP_EQ, name, value, NULL);
  return compile_ops(c, value, CHROMA, AII_COUNT(CHROMA), known, name, parent);
}

static aiinfra_status compile_member(compiler *c, const char *name, const json_t *value, uint32_t parent)
{
  if (strcmp(name, "must") == 0 || strcmp(name, "$and") == 0) return compile_list(c, AII_OP_AND, value, parent, NULL);
  if (strcmp(name, "should") == 0 && json_is_array(value) && json_array_size(value) == 0) return AIINFRA_OK;
  if (strcmp(name, "should") == 0 || strcmp(name, "$or") == 0) return compile_list(c, AII_OP_OR, value, parent, NULL);
  if (strcmp(name, "must_not") == 0) return compile_list(c, AII_OP_NONE, value, parent, NULL);
  if (strcmp(name, "min_should") == 0) return compile_min_should(c, value, parent);
  if (strcmp(name, "is_null") == 0 && json_is_object(value)) return compile_is(c, AII_OP_IS_NULL, value, parent);
  if (strcmp(name, "is_empty") == 0 && json_is_object(value)) return compile_is(c, AII_OP_IS_EMPTY, value, parent);
  if (strcmp(name, "has_id") == 0 && json_is_array(value)) return compile_has_id(c, value, parent);
  return compile_chroma(c, name, value, parent);
}

/* One object: a condition on a field, or clauses that must all hold. Its depth is bounded by the parser's. */
static aiinfra_status compile_filter(compiler *c, const json_t *json, uint32_t parent)
{
  const char *name;
  json_t *value;
  uint32_t node;
  if (!json_is_object(json)) return bad(c, "an object", json);
  aiinfra_status rc = add(c, parent, AII_OP_AND, NULL, NULL, &node);
  if (rc != AIINFRA_OK) return rc;
  if (json_is_string(json_object_get(json, "key")) && json_object_size(json) > 1) return compile_field(c, json, node);
  json_object_foreach((json_t *)(uintptr_t)json, name, value)
  {
    size_t old = enter(c, name, 0);
    rc = compile_member(c, name, value, node);
    if (rc != AIINFRA_OK) return rc;
    leave(c, old);
  }
  return AIINFRA_OK;
}

aiinfra_status aii_filter_compile(aii_mem *mem, const char *json, aii_filter **out, aiinfra_error *err)
{
  *out = NULL;
  aii_filter *filter = aii_new(mem, sizeof *filter);
  if (filter == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a filter");
  filter->mem = mem;
  aiinfra_status rc = aii_json_parse(json, strlen(json), "filter", AII_FILTER_DEPTH, &filter->source, err);
  if (rc == AIINFRA_EFORMAT || rc == AIINFRA_ELIMIT) {
    rc = AIINFRA_EINVAL; /* the caller's argument, not a file */
    if (err != NULL) err->status = (int32_t)rc;
  }
  compiler c = {.filter = filter, .err = err};
  if (rc == AIINFRA_OK) rc = compile_filter(&c, filter->source, AII_NO_NODE);
  if (rc != AIINFRA_OK) {
    aii_filter_free(filter);
    return rc;
  }
  *out = filter;
  return AIINFRA_OK;
}

void aii_filter_free(aii_filter *filter)
{
  if (filter == NULL) return;
  aii_mem *mem = filter->mem;
  json_decref(filter->source);
  aii_del(mem, filter->nodes, filter->cap * sizeof *filter->nodes);
  aii_del(mem, filter, sizeof *filter);
}
