/* filter.c - compiles a filter once, so that rows are matched without looking at its JSON again.
 *
 * Two languages are understood, and may be mixed:
 *   Qdrant   {"must": [...], "should": [...], "must_not": [...], "min_should": {"conditions": [...], "min_count": 2}}
 *            with conditions on a field (field.c), {"is_null" | "is_empty": {"key": ...}}, {"has_id": [1, 2]},
 *            {"nested": {"key": "items", "filter": {...}}}, or another filter
 *   Chroma   {"a": 1, "b": {"$gte": 2, "$ne": 3}, "$and": [...], "$or": [...], "$not": {...}}
 *
 * What is not understood is an error that names its path, such as "must[1].match.near"; nothing is skipped. Depth and
 * size are bounded (a filter may come from a stranger), so recursion over it is bounded too. Only memory can fail
 * besides. Any thread.
 */
#include <stdio.h>
#include <stdlib.h>

#include "lib/json/json.h"
#include "src/vector/filter.h"

static aiinfra_status compile_filter(aii_compiler *c, const json_t *json, uint32_t parent);

/* ---- where we are ---------------------------------------------------------------------------------------------- */

size_t aii_enter(aii_compiler *c, const char *name, size_t at)
{
  size_t old = c->path_n, room = sizeof c->path - old;
  int n = name != NULL ? snprintf(c->path + old, room, "%s%s", old > 0 ? "." : "", name)
                       : snprintf(c->path + old, room, "[%zu]", at);
  if (n > 0) c->path_n = AII_MIN(old + (size_t)n, sizeof c->path - 1);
  return old;
}

void aii_leave(aii_compiler *c, size_t old)
{
  c->path_n = old;
  c->path[old] = '\0';
}

aiinfra_status aii_expected(aii_compiler *c, const char *want, const json_t *found)
{
  return aii_fail(c->err, AIINFRA_EINVAL, "filter: %s: expected %s, found %s", c->path_n > 0 ? c->path : "the filter",
                  want, aii_json_type(found));
}

aiinfra_status aii_unknown(aii_compiler *c, const char *known)
{
  return aii_fail(c->err, AIINFRA_EINVAL, "filter: %s: unknown operator; known are %s", c->path, known);
}

aiinfra_status aii_filter_no_memory(aii_compiler *c)
{
  return aii_fail(c->err, AIINFRA_ENOMEM, "no memory for a filter");
}

/* ---- nodes and operands ---------------------------------------------------------------------------------------- */

aiinfra_status aii_filter_add(aii_compiler *c, uint32_t parent, aii_filter_op op, uint32_t *out)
{
  aii_filter *f = c->filter;
  if (f->n == AII_FILTER_NODES) {
    return aii_fail(c->err, AIINFRA_EINVAL, "filter: more than %d conditions", AII_FILTER_NODES);
  }
  if (!aii_grow(f->mem, &f->nodes, &f->cap, f->n + 1, sizeof *f->nodes)) return aii_filter_no_memory(c);
  uint32_t at = (uint32_t)f->n++;
  f->nodes[at] = (aii_filter_node){.op = op, .child = AII_NO_NODE, .last = AII_NO_NODE, .next = AII_NO_NODE};
  f->nodes[at].path = AII_NO_NODE;
  f->nodes[at].first = (uint32_t)f->n_operands;
  if (parent != AII_NO_NODE) {
    aii_filter_node *p = &f->nodes[parent];
    if (p->child == AII_NO_NODE) p->child = at;
    else f->nodes[p->last].next = at;
    p->last = at;
  }
  if (out != NULL) *out = at;
  return AIINFRA_OK;
}

bool aii_is_scalar(const json_t *value)
{
  return json_is_string(value) || json_is_number(value) || json_is_boolean(value);
}

aiinfra_status aii_add_operand(aii_compiler *c, uint32_t node, aii_operand operand)
{
  aii_filter *f = c->filter;
  if (f->n_operands == AII_FILTER_OPERANDS) {
    return aii_fail(c->err, AIINFRA_EINVAL, "filter: %s: more than %d values", c->path, AII_FILTER_OPERANDS);
  }
  if (!aii_grow(f->mem, &f->operands, &f->operands_cap, f->n_operands + 1, sizeof *f->operands)) {
    return aii_filter_no_memory(c);
  }
  f->operands[f->n_operands++] = operand;
  f->nodes[node].n++;
  return AIINFRA_OK;
}

int aii_operand_compare(const aii_operand *a, const aii_operand *b)
{
  if (a->type != b->type) return a->type < b->type ? -1 : 1;
  if (a->type == AII_CELL_INT) return (a->i > b->i) - (a->i < b->i);
  if (a->type == AII_CELL_REAL) return (a->d > b->d) - (a->d < b->d);
  if (a->type != AII_CELL_STRING) return 0;
  if (a->n != b->n) return a->n < b->n ? -1 : 1;
  return memcmp(a->s, b->s, a->n);
}

static int by_value(const void *a, const void *b)
{
  return aii_operand_compare(a, b);
}

/* What could not be done while the arrays were growing. */
static void finish(aii_filter *f)
{
  for (size_t i = 0; i < f->n; i++) {
    const aii_filter_node *node = &f->nodes[i];
    aii_operand *operands = aii_operands_of(f, node);
    switch (node->op) {
      case AII_OP_IN:
      case AII_OP_EXCEPT:
      case AII_OP_CONTAINS:
      case AII_OP_HAS_ID:
        if (node->n > 1) qsort(operands, node->n, sizeof *operands, by_value);
        break;
      case AII_OP_TEXT_ALL:
      case AII_OP_TEXT_ANY:
      case AII_OP_PHRASE:
        for (uint32_t w = 0; w < node->n; w++) operands[w].s = f->words.data + operands[w].i;
        break;
      default: break;
    }
  }
}

/* ---- clauses --------------------------------------------------------------------------------------------------- */

/* An array of filters (a single object counts as one) as children of a new node. */
static aiinfra_status compile_list(aii_compiler *c, aii_filter_op op, const json_t *json, uint32_t parent,
                                   uint32_t *out)
{
  uint32_t node;
  if (!json_is_array(json) && !json_is_object(json)) return aii_expected(c, "an array of conditions", json);
  aiinfra_status rc = aii_filter_add(c, parent, op, &node);
  if (rc != AIINFRA_OK) return rc;
  if (out != NULL) *out = node;
  if (json_is_object(json)) return compile_filter(c, json, node);
  for (size_t i = 0; i < json_array_size(json); i++) {
    size_t old = aii_enter(c, NULL, i);
    rc = compile_filter(c, json_array_get(json, i), node);
    if (rc != AIINFRA_OK) return rc;
    aii_leave(c, old);
  }
  return AIINFRA_OK;
}

static aiinfra_status compile_min_should(aii_compiler *c, const json_t *json, uint32_t parent)
{
  uint32_t node;
  const json_t *count = json_object_get(json, "min_count");
  if (!json_is_integer(count) || json_integer_value(count) < 0 || json_object_size(json) != 2) {
    return aii_expected(c, "an object with \"conditions\" and an integer \"min_count\" of at least 0", json);
  }
  size_t old = aii_enter(c, "conditions", 0);
  aiinfra_status rc = compile_list(c, AII_OP_MIN_SHOULD, json_object_get(json, "conditions"), parent, &node);
  if (rc != AIINFRA_OK) return rc;
  aii_leave(c, old);
  c->filter->nodes[node].count = json_integer_value(count);
  return AIINFRA_OK;
}

/* {"is_null": {"key": ...}} */
static aiinfra_status compile_is(aii_compiler *c, bool null, const json_t *json, uint32_t parent)
{
  const json_t *key = json_object_get(json, "key");
  if (!json_is_string(key) || json_object_size(json) != 1) {
    return aii_expected(c, "an object with a \"key\" alone", json);
  }
  return aii_compile_is(c, null, true, json_string_value(key), json_string_length(key), parent);
}

static aiinfra_status compile_has_id(aii_compiler *c, const json_t *json, uint32_t parent)
{
  uint32_t node;
  if (c->nested > 0) {
    return aii_fail(c->err, AIINFRA_EINVAL, "filter: %s: an element of a nested field has no id", c->path);
  }
  aiinfra_status rc = aii_filter_add(c, parent, AII_OP_HAS_ID, &node);
  for (size_t i = 0; rc == AIINFRA_OK && i < json_array_size(json); i++) {
    const json_t *id = json_array_get(json, i);
    if (!json_is_integer(id)) return aii_expected(c, "an array of integers", id);
    rc = aii_add_operand(c, node, (aii_operand){.type = AII_CELL_INT, .i = json_integer_value(id)});
  }
  return rc;
}

/* {"nested": {"key": "items", "filter": {...}}} */
static aiinfra_status compile_nested(aii_compiler *c, const json_t *json, uint32_t parent)
{
  const json_t *key = json_object_get(json, "key"), *filter = json_object_get(json, "filter");
  uint32_t node, path;
  if (!json_is_string(key) || !json_is_object(filter) || json_object_size(json) != 2) {
    return aii_expected(c, "an object with a \"key\" and a \"filter\" alone", json);
  }
  aiinfra_status rc = aii_filter_add(c, parent, AII_OP_NESTED, &node);
  if (rc == AIINFRA_OK) rc = aii_path_add(c, json_string_value(key), json_string_length(key), &path);
  if (rc != AIINFRA_OK) return rc;
  c->filter->nodes[node].path = path;
  size_t old = aii_enter(c, "filter", 0);
  c->nested++;
  rc = compile_filter(c, filter, node);
  if (rc != AIINFRA_OK) return rc;
  c->nested--;
  aii_leave(c, old);
  return AIINFRA_OK;
}

static aiinfra_status compile_not(aii_compiler *c, const json_t *json, uint32_t parent)
{
  if (!json_is_object(json)) return aii_expected(c, "an object", json);
  return compile_list(c, AII_OP_NONE, json, parent, NULL);
}

static aiinfra_status compile_member(aii_compiler *c, const char *name, const json_t *value, uint32_t parent)
{
  bool object = json_is_object(value);
  if (strcmp(name, "must") == 0 || strcmp(name, "$and") == 0) return compile_list(c, AII_OP_AND, value, parent, NULL);
  if (strcmp(name, "should") == 0 && json_is_array(value) && json_array_size(value) == 0) return AIINFRA_OK;
  if (strcmp(name, "should") == 0 || strcmp(name, "$or") == 0) return compile_list(c, AII_OP_OR, value, parent, NULL);
  if (strcmp(name, "must_not") == 0) return compile_list(c, AII_OP_NONE, value, parent, NULL);
  if (strcmp(name, "$not") == 0) return compile_not(c, value, parent);
  if (strcmp(name, "min_should") == 0) return compile_min_should(c, value, parent);
  if (strcmp(name, "is_null") == 0 && object) return compile_is(c, true, value, parent);
  if (strcmp(name, "is_empty") == 0 && object) return compile_is(c, false, value, parent);
  if (strcmp(name, "has_id") == 0 && json_is_array(value)) return compile_has_id(c, value, parent);
  if (strcmp(name, "nested") == 0 && object) return compile_nested(c, value, parent);
  return aii_compile_chroma(c, name, value, parent);
}

/* One object: a condition on a field, or clauses that must all hold. Its depth is bounded by the parser's. */
static aiinfra_status compile_filter(aii_compiler *c, const json_t *json, uint32_t parent)
{
  const char *name;
  json_t *value;
  uint32_t node;
  if (!json_is_object(json)) return aii_expected(c, "an object", json);
  aiinfra_status rc = aii_filter_add(c, parent, AII_OP_AND, &node);
  if (rc != AIINFRA_OK) return rc;
  if (json_is_string(json_object_get(json, "key")) && json_object_size(json) > 1) {
    return aii_compile_field(c, json, node);
  }
  json_object_foreach((json_t *)(uintptr_t)json, name, value)
  {
    size_t old = aii_enter(c, name, 0);
    rc = compile_member(c, name, value, node);
    if (rc != AIINFRA_OK) return rc;
    aii_leave(c, old);
  }
  return AIINFRA_OK;
}

aiinfra_status aii_filter_compile(aii_mem *mem, const char *json, aii_filter **out, aiinfra_error *err)
{
  *out = NULL;
  aii_filter *filter = aii_new(mem, sizeof *filter);
  if (filter == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a filter");
  filter->mem = mem;
  aii_buf_init(&filter->words, mem, 0);
  aiinfra_status rc = aii_json_parse(json, strlen(json), "filter", AII_FILTER_DEPTH, &filter->source, err);
  if (rc == AIINFRA_EFORMAT || rc == AIINFRA_ELIMIT) {
    rc = AIINFRA_EINVAL; /* the caller's argument, not a file */
    if (err != NULL) err->status = (int32_t)rc;
  }
  aii_compiler c = {.filter = filter, .err = err};
  if (rc == AIINFRA_OK) rc = compile_filter(&c, filter->source, AII_NO_NODE);
  if (rc != AIINFRA_OK) {
    aii_filter_free(filter);
    return rc;
  }
  finish(filter);
  *out = filter;
  return AIINFRA_OK;
}

aiinfra_status aii_filter_of_key(aii_mem *mem, const char *key, size_t n, aii_filter **out, aiinfra_error *err)
{
  uint32_t path;
  *out = NULL;
  aii_filter *filter = aii_new(mem, sizeof *filter);
  if (filter == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a filter");
  filter->mem = mem;
  aii_buf_init(&filter->words, mem, 0);
  aii_compiler c = {.filter = filter, .err = err};
  aiinfra_status rc = aii_path_add(&c, key, n, &path);
  if (rc == AIINFRA_OK) *out = filter;
  else aii_filter_free(filter);
  return rc;
}

void aii_filter_free(aii_filter *f)
{
  if (f == NULL) return;
  aii_mem *mem = f->mem;
  json_decref(f->source);
  aii_buf_free(&f->words);
  aii_del(mem, f->nodes, f->cap * sizeof *f->nodes);
  aii_del(mem, f->paths, f->paths_cap * sizeof *f->paths);
  aii_del(mem, f->steps, f->steps_cap * sizeof *f->steps);
  aii_del(mem, f->operands, f->operands_cap * sizeof *f->operands);
  aii_del(mem, f->shapes, f->shapes_cap * sizeof *f->shapes);
  aii_del(mem, f->rings, f->rings_cap * sizeof *f->rings);
  aii_del(mem, f->points, f->points_cap * sizeof *f->points);
  aii_del(mem, f, sizeof *f);
}
