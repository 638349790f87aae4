/* gram_schema.c - JSON Schema to grammar.
 *
 * Each subschema becomes a rule; subschemas wait in a queue, so nesting costs no stack. Members come in the schema's
 * order. What the grammar cannot hold exactly is refused with the keyword and its path (ENOTSUP), never ignored;
 * annotations are ignored. Choices made: oneOf is taken as anyOf; a schema without "type" gets it from its keywords; {}
 * is any value, at the root any object; formats other than dates, times and UUIDs are annotations.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/json/json.h"
#include "src/text/gram_schema.h"

static const char *const ANNOTATIONS[] = {
    "title",    "description",      "default",         "examples",    "deprecated",
    "readOnly", "writeOnly",        "$schema",         "$id",         "id",
    "$comment", "$anchor",          "$defs",           "definitions", "example",
    "strict",   "contentMediaType", "contentEncoding", NULL};
static const char *const KNOWN[] = {"type",
                                    "properties",
                                    "required",
                                    "additionalProperties",
                                    "items",
                                    "prefixItems",
                                    "minItems",
                                    "maxItems",
                                    "enum",
                                    "const",
                                    "minLength",
                                    "maxLength",
                                    "pattern",
                                    "format",
                                    "minimum",
                                    "maximum",
                                    "exclusiveMinimum",
                                    "exclusiveMaximum",
                                    "anyOf",
                                    "oneOf",
                                    "allOf",
                                    "$ref",
                                    "nullable",
                                    NULL};

static bool listed(const char *const *names, const char *key)
{
  while (*names != NULL && strcmp(*names, key) != 0) names++;
  return *names != NULL;
}

/* "tool.properties.x" of a pending schema, for messages. */
static void path_of(const aii_gschema *s, size_t at, char *out, size_t size)
{
  const char *keys[16];
  size_t n = 0, len;
  for (; at < s->n && s->items[at].key != NULL && n < AII_COUNT(keys); at = s->items[at].parent)
    keys[n++] = s->items[at].key;
  len = (size_t)snprintf(out, size, "%s", s->what);
  while (n > 0 && len < size) len += (size_t)snprintf(out + len, size - len, ".%s", keys[--n]);
}

uint32_t aii_gs_fail(aii_gschema *s, aiinfra_status rc, const char *what)
{
  char path[200];
  path_of(s, s->current, path, sizeof path);
  return aii_gb_fail(s->b, rc, "schema %s: %s", path, what);
}

static uint32_t refuse(aii_gschema *s, const char *keyword)
{
  char path[200];
  path_of(s, s->current, path, sizeof path);
  return aii_gb_fail(s->b, AIINFRA_ENOTSUP, "schema %s: the keyword \"%.60s\" is not supported", path, keyword);
}

uint32_t aii_gs_add(aii_gschema *s, const json_t *schema, const char *key)
{
  aii_mem *mem = s->b->g->mem;
  if (s->n >= 100000) return aii_gs_fail(s, AIINFRA_ELIMIT, "too many subschemas");
  uint32_t rule = aii_gb_rule(s->b);
  if (s->b->rc != AIINFRA_OK) return 0;
  if (!aii_grow(mem, &s->items, &s->cap, s->n + 1, sizeof *s->items))
    return aii_gs_fail(s, AIINFRA_ENOMEM, "no memory");
  s->items[s->n++] = (aii_gs_item){schema, key, (uint32_t)s->current, rule};
  return rule;
}

/* ---- references ---------------------------------------------------------------------------------------------------- */

/* Follows "#/a/b" from the root; ~1 is "/", ~0 is "~". */
static const json_t *resolve(const json_t *at, const char *ref)
{
  if (*ref++ != '#') return NULL;
  while (*ref == '/' && at != NULL) {
    char key[256];
    size_t n = 0;
    for (ref++; *ref != '\0' && *ref != '/' && n < sizeof key - 1; ref++) {
      char c = *ref;
      if (c == '~' && (ref[1] == '0' || ref[1] == '1')) c = *++ref == '0' ? '~' : '/';
      key[n++] = c;
    }
    key[n] = '\0';
    at = json_is_array(at) ? json_array_get(at, (size_t)strtoul(key, NULL, 10)) : json_object_get(at, key);
  }
  return *ref == '\0' ? at : NULL;
}

static uint32_t reference(aii_gschema *s, const json_t *schema)
{
  const json_t *ref = json_object_get(schema, "$ref");
  const char *text = json_string_value(ref);
  uint32_t rule;
  if (text == NULL) return aii_gs_fail(s, AIINFRA_EINVAL, "$ref is no string");
  if (!aii_map_get(&s->refs, text, strlen(text), &rule)) {
    const json_t *target = resolve(s->root, text);
    if (target == NULL) return aii_gs_fail(s, AIINFRA_ENOTSUP, "$ref does not lead to a part of this schema");
    rule = aii_gs_add(s, target, "$ref");
    if (!aii_map_set(&s->refs, text, strlen(text), rule)) return aii_gs_fail(s, AIINFRA_ENOMEM, "no memory");
  }
  return aii_gb_call(s->b, rule, 0);
}

/* ---- literals, choices ---------------------------------------------------------------------------------------------- */

static bool is_type(const json_t *value, const char *type)
{
  if (strcmp(type, "integer") == 0) {
    return json_is_integer(value) || (json_is_real(value) && json_real_value(value) == floor(json_real_value(value)));
  }
  return (strcmp(type, "string") == 0 && json_is_string(value)) ||
         (strcmp(type, "number") == 0 && json_is_number(value)) ||
         (strcmp(type, "boolean") == 0 && json_is_boolean(value)) ||
         (strcmp(type, "null") == 0 && json_is_null(value)) || (strcmp(type, "array") == 0 && json_is_array(value)) ||
         (strcmp(type, "object") == 0 && json_is_object(value));
}

static bool type_allows(const json_t *type, const json_t *value)
{
  size_t i;
  json_t *one;
  if (type == NULL) return true;
  if (json_is_string(type)) return is_type(value, json_string_value(type));
  json_array_foreach((json_t *)(uintptr_t)type, i, one)
  {
    if (json_is_string(one) && is_type(value, json_string_value(one))) return true;
  }
  return false;
}

static uint32_t literals(aii_gschema *s, const json_t *schema)
{
  const json_t *one = json_object_get(schema, "const"), *values = json_object_get(schema, "enum");
  uint32_t all = AII_G_NONE;
  size_t n = one != NULL ? 1 : json_array_size(values);
  for (size_t i = 0; i < n; i++) {
    const json_t *value = one != NULL ? one : json_array_get(values, i);
    aii_buf text;
    if (!type_allows(json_object_get(schema, "type"), value)) continue;
    aii_buf_init(&text, s->b->g->mem, 1 << 20);
    if (!aii_json_dump(value, &text)) (void)aii_gs_fail(s, AIINFRA_ENOMEM, "no memory");
    uint32_t part = aii_gb_bytes(s->b, aii_buf_cstr(&text), text.len, 0);
    aii_buf_free(&text);
    all = all == AII_G_NONE ? part : aii_gb_split(s->b, part, all);
  }
  return all != AII_G_NONE ? all : aii_gs_fail(s, AIINFRA_EINVAL, "no value is allowed");
}

/* A combination may stand beside annotations only: what else applies to every branch is not merged. */
static bool stands_alone(aii_gschema *s, const json_t *schema, const char *keyword)
{
  const char *key;
  json_t *value;
  json_object_foreach((json_t *)(uintptr_t)schema, key, value)
  {
    if (strcmp(key, keyword) == 0 || listed(ANNOTATIONS, key) || strncmp(key, "x-", 2) == 0) continue;
    (void)aii_gs_fail(s, AIINFRA_ENOTSUP, keyword);
    if (s->b->err != NULL) (void)aii_wrap(s->b->err, AIINFRA_ENOTSUP, "\"%.40s\" beside", key);
    return false;
  }
  return true;
}

static uint32_t branches(aii_gschema *s, const json_t *schema, const char *keyword)
{
  const json_t *list = json_object_get(schema, keyword);
  uint32_t all = AII_G_NONE;
  if (!stands_alone(s, schema, keyword)) return 0;
  if (json_array_size(list) == 0) return aii_gs_fail(s, AIINFRA_EINVAL, "expected a list of schemas");
  if (strcmp(keyword, "allOf") == 0 && json_array_size(list) > 1) return refuse(s, keyword);
  for (size_t i = 0; i < json_array_size(list); i++) {
    uint32_t part = aii_gb_call(s->b, aii_gs_add(s, json_array_get(list, i), keyword), 0);
    all = all == AII_G_NONE ? part : aii_gb_split(s->b, part, all);
  }
  return all;
}

/* ---- types ----------------------------------------------------------------------------------------------------------- */

static uint32_t typed(aii_gschema *s, const json_t *schema, const char *type)
{
  if (strcmp(type, "object") == 0) return aii_gs_object(s, schema);
  if (strcmp(type, "array") == 0) return aii_gs_array(s, schema);
  if (strcmp(type, "string") == 0) return aii_gs_string(s, schema);
  if (strcmp(type, "integer") == 0 || strcmp(type, "number") == 0) return aii_gs_number(s, schema, type[0] == 'i');
  if (strcmp(type, "boolean") == 0) return aii_gb_call(s->b, aii_gj_boolean(s->b), 0);
  if (strcmp(type, "null") == 0) return aii_gb_call(s->b, aii_gj_null(s->b), 0);
  return aii_gs_fail(s, AIINFRA_EINVAL, "an unknown type");
}

static const char *inferred(const json_t *schema)
{
  static const char *const by[][2] = {
      {"properties", "object"}, {"required", "object"},         {"additionalProperties", "object"},
      {"items", "array"},       {"prefixItems", "array"},       {"minItems", "array"},
      {"maxItems", "array"},    {"minLength", "string"},        {"maxLength", "string"},
      {"pattern", "string"},    {"format", "string"},           {"minimum", "number"},
      {"maximum", "number"},    {"exclusiveMinimum", "number"}, {"exclusiveMaximum", "number"}};
  for (size_t i = 0; i < AII_COUNT(by); i++) {
    if (json_object_get(schema, by[i][0]) != NULL) return by[i][1];
  }
  return NULL;
}

static uint32_t by_type(aii_gschema *s, const json_t *schema)
{
  const json_t *type = json_object_get(schema, "type");
  uint32_t all = AII_G_NONE;
  if (type == NULL) {
    const char *name = inferred(schema);
    if (name != NULL) return typed(s, schema, name);
    return aii_gb_call(s->b, s->root_object && s->current == 0 ? aii_gj_object(s->b, 0) : aii_gj_value(s->b, 0), 0);
  }
  if (json_is_string(type)) return typed(s, schema, json_string_value(type));
  for (size_t i = 0; i < json_array_size(type); i++) {
    const char *name = json_string_value(json_array_get(type, i));
    uint32_t part = name != NULL ? typed(s, schema, name) : aii_gs_fail(s, AIINFRA_EINVAL, "a type that is no string");
    all = all == AII_G_NONE ? part : aii_gb_split(s->b, part, all);
  }
  return all != AII_G_NONE ? all : aii_gs_fail(s, AIINFRA_EINVAL, "type is neither a name nor a list of names");
}

static bool check_keywords(aii_gschema *s, const json_t *schema)
{
  static const struct {
    const char *key;
    bool number; /* harmless when 0, else when false */
  } harmless[] = {{"minProperties", true}, {"uniqueItems", false}, {"unevaluatedProperties", false}};
  const char *key;
  json_t *value;
  json_object_foreach((json_t *)(uintptr_t)schema, key, value)
  {
    bool ok = listed(KNOWN, key) || listed(ANNOTATIONS, key) || strncmp(key, "x-", 2) == 0;
    for (size_t i = 0; i < AII_COUNT(harmless) && !ok; i++) {
      ok = strcmp(key, harmless[i].key) == 0 &&
           (harmless[i].number ? json_is_integer(value) && json_integer_value(value) == 0 : json_is_false(value));
    }
    if (!ok) {
      (void)refuse(s, key);
      return false;
    }
  }
  return true;
}

static uint32_t compile_one(aii_gschema *s, const json_t *schema)
{
  static const char *const combos[] = {"anyOf", "oneOf", "allOf"};
  if (json_is_true(schema)) return aii_gb_call(s->b, aii_gj_value(s->b, 0), 0);
  if (json_is_false(schema)) return aii_gs_fail(s, AIINFRA_EINVAL, "no value is allowed");
  if (!json_is_object(schema)) return aii_gs_fail(s, AIINFRA_EINVAL, "a schema must be an object or a boolean");
  if (!check_keywords(s, schema)) return 0;
  if (json_object_get(schema, "$ref") != NULL) return stands_alone(s, schema, "$ref") ? reference(s, schema) : 0;
  for (size_t i = 0; i < AII_COUNT(combos); i++) {
    if (json_object_get(schema, combos[i]) != NULL) return branches(s, schema, combos[i]);
  }
  bool literal = json_object_get(schema, "const") != NULL || json_object_get(schema, "enum") != NULL;
  uint32_t entry = literal ? literals(s, schema) : by_type(s, schema);
  if (json_is_true(json_object_get(schema, "nullable"))) {
    entry = aii_gb_split(s->b, entry, aii_gb_call(s->b, aii_gj_null(s->b), 0));
  }
  return entry;
}

uint32_t aii_gj_schema(aii_gb *b, const json_t *schema, const char *what, bool root_object)
{
  aii_gschema s = {.b = b, .root = schema, .what = what, .root_object = root_object};
  aii_map_init(&s.refs, b->g->mem);
  uint32_t root = aii_gs_add(&s, schema, NULL);
  for (s.current = 0; s.current < s.n && b->rc == AIINFRA_OK; s.current++) {
    aii_gs_item item = s.items[s.current];
    aii_gb_define(b, item.rule, compile_one(&s, item.schema));
  }
  aii_map_free(&s.refs);
  aii_del(b->g->mem, s.items, s.cap * sizeof *s.items);
  return root;
}

aiinfra_status aii_grammar_from_schema(aii_mem *mem, const char *schema_json, aii_grammar **out, aiinfra_error *err)
{
  json_t *schema;
  aii_gb b;
  *out = NULL;
  aiinfra_status rc = aii_json_parse(schema_json, strlen(schema_json), "schema", 0, &schema, err);
  if (rc != AIINFRA_OK) return rc;
  rc = aii_gb_init(&b, mem, err);
  if (rc == AIINFRA_OK) {
    uint32_t root = aii_gb_rule(&b), rule = aii_gj_schema(&b, schema, "root", true);
    aii_gb_define(&b, root, aii_gb_call(&b, rule, 0));
  }
  rc = aii_gb_finish(&b, NULL, out);
  json_decref(schema);
  return rc;
}
