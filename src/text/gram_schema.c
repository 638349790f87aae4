/* gram_schema.c - JSON Schema to grammar.
 *
 * Each subschema becomes a rule; subschemas wait in a queue, so nesting costs no stack. Members come in the schema's
 * order. What the grammar cannot hold exactly is refused with the keyword and its path (ENOTSUP), never ignored;
 * annotations are ignored. Choices made: oneOf is taken as anyOf; a schema without "type" gets it from its keywords; {}
 * is any value, at the root any object; formats other than dates, times and UUIDs are annotations.
 */
#include <math.h>
#include <stdio.h>

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

static uint32_t add(aii_gschema *s, const json_t *schema, const char *key, bool raw)
{
  aii_mem *mem = s->b->g->mem;
  if (s->n >= 100000) return aii_gs_fail(s, AIINFRA_ELIMIT, "too many subschemas");
  uint32_t rule = aii_gb_rule(s->b);
  if (s->b->rc != AIINFRA_OK) return 0;
  if (!aii_grow(mem, &s->items, &s->cap, s->n + 1, sizeof *s->items))
    return aii_gs_fail(s, AIINFRA_ENOMEM, "no memory");
  s->items[s->n++] = (aii_gs_item){schema, key, (uint32_t)s->current, rule, raw};
  return rule;
}

uint32_t aii_gs_add(aii_gschema *s, const json_t *schema, const char *key)
{
  return add(s, schema, key, false);
}

uint32_t aii_gs_add_raw(aii_gschema *s, const json_t *schema, const char *key)
{
  return add(s, schema, key, true);
}

/* ---- references ---------------------------------------------------------------------------------------------------- */

static uint32_t reference(aii_gschema *s, const json_t *schema)
{
  const json_t *ref = json_object_get(schema, "$ref");
  const char *text = json_string_value(ref);
  uint32_t rule;
  if (text == NULL) return aii_gs_fail(s, AIINFRA_EINVAL, "$ref is no string");
  if (!aii_map_get(&s->refs, text, strlen(text), &rule)) {
    const json_t *target = aii_schema_resolve(s->root, text);
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

bool aii_gs_type_allows(const json_t *type, const json_t *value)
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

static uint32_t literal(aii_gschema *s, const json_t *value)
{
  aii_gb *b = s->b;
  if (b->quote != NULL && json_is_string(value)) {
    const char *text = json_string_value(value);
    if (strstr(text, b->quote) != NULL || (b->never != NULL && strstr(text, b->never) != NULL))
      return aii_gs_fail(s, AIINFRA_ENOTSUP, "a text that cannot be written in calls of this model");
    return aii_gb_str(b, b->quote, aii_gb_str(b, text, aii_gb_str(b, b->quote, 0)));
  }
  if (b->quote != NULL && (json_is_object(value) || json_is_array(value)))
    return aii_gs_fail(s, AIINFRA_ENOTSUP, "an object or array as a constant");
  aii_buf text;
  aii_buf_init(&text, b->g->mem, 1 << 20);
  if (!aii_json_dump(value, &text)) (void)aii_gs_fail(s, AIINFRA_ENOMEM, "no memory");
  uint32_t part = aii_gj_dumped(b, aii_buf_cstr(&text), text.len, 0);
  aii_buf_free(&text);
  return part;
}

static uint32_t literals(aii_gschema *s, const json_t *schema)
{
  const json_t *one = json_object_get(schema, "const"), *values = json_object_get(schema, "enum");
  uint32_t all = AII_G_NONE;
  size_t n = one != NULL ? 1 : json_array_size(values);
  for (size_t i = 0; i < n; i++) {
    const json_t *value = one != NULL ? one : json_array_get(values, i);
    if (aii_gs_type_allows(json_object_get(schema, "type"), value)) all = aii_gb_either(s->b, literal(s, value), all);
  }
  return all != AII_G_NONE ? all : aii_gs_fail(s, AIINFRA_EINVAL, "no value is allowed");
}

/* A combination may stand beside annotations only: what else applies to every branch is not merged. */
bool aii_gs_alone(aii_gschema *s, const json_t *schema, const char *keyword)
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

const json_t *aii_gs_follow(aii_gschema *s, const json_t *schema)
{
  for (int hops = 0; hops < AII_SCHEMA_HOPS; hops++) {
    const char *ref = json_string_value(json_object_get(schema, "$ref"));
    bool one = json_array_size(json_object_get(schema, "allOf")) == 1;
    if (ref == NULL && !one) return schema;
    if (!aii_gs_alone(s, schema, ref != NULL ? "$ref" : "allOf")) return NULL;
    schema = ref != NULL ? aii_schema_resolve(s->root, ref) : json_array_get(json_object_get(schema, "allOf"), 0);
    if (schema == NULL) break;
  }
  (void)aii_gs_fail(s, AIINFRA_ENOTSUP, "$ref does not lead to a part of this schema");
  return NULL;
}

static uint32_t branches(aii_gschema *s, const json_t *schema, const char *keyword)
{
  const json_t *list = json_object_get(schema, keyword);
  uint32_t all = AII_G_NONE;
  if (!aii_gs_alone(s, schema, keyword)) return 0;
  if (json_array_size(list) == 0) return aii_gs_fail(s, AIINFRA_EINVAL, "expected a list of schemas");
  if (strcmp(keyword, "allOf") == 0 && json_array_size(list) > 1) return refuse(s, keyword);
  for (size_t i = 0; i < json_array_size(list); i++) {
    uint32_t part = aii_gb_call(s->b, aii_gs_add(s, json_array_get(list, i), keyword), 0);
    all = all == AII_G_NONE ? part : aii_gb_split(s->b, part, all);
  }
  return all;
}

/* ---- types ----------------------------------------------------------------------------------------------------------- */

uint32_t aii_gs_typed(aii_gschema *s, const json_t *schema, const char *type)
{
  if (strcmp(type, "object") == 0) return aii_gs_object(s, schema);
  if (strcmp(type, "array") == 0) return aii_gs_array(s, schema);
  if (strcmp(type, "string") == 0) return aii_gs_string(s, schema);
  if (strcmp(type, "integer") == 0 || strcmp(type, "number") == 0) return aii_gs_number(s, schema, type[0] == 'i');
  if (strcmp(type, "boolean") == 0) return aii_gb_call(s->b, aii_gj_boolean(s->b), 0);
  if (strcmp(type, "null") == 0) return aii_gb_call(s->b, aii_gj_null(s->b), 0);
  return aii_gs_fail(s, AIINFRA_EINVAL, "an unknown type");
}

static uint32_t by_type(aii_gschema *s, const json_t *schema)
{
  const json_t *type = json_object_get(schema, "type");
  uint32_t all = AII_G_NONE;
  if (type == NULL) {
    const char *name = aii_schema_inferred(schema);
    if (name != NULL) return aii_gs_typed(s, schema, name);
    return aii_gb_call(s->b, s->root_object && s->current == 0 ? aii_gj_object(s->b, 0) : aii_gj_value(s->b, 0), 0);
  }
  if (json_is_string(type)) return aii_gs_typed(s, schema, json_string_value(type));
  for (size_t i = 0; i < json_array_size(type); i++) {
    const char *name = json_string_value(json_array_get(type, i));
    uint32_t part =
        name != NULL ? aii_gs_typed(s, schema, name) : aii_gs_fail(s, AIINFRA_EINVAL, "a type that is no string");
    all = all == AII_G_NONE ? part : aii_gb_split(s->b, part, all);
  }
  return all != AII_G_NONE ? all : aii_gs_fail(s, AIINFRA_EINVAL, "type is neither a name nor a list of names");
}

bool aii_gs_is_free(const json_t *schema)
{
  const char *key;
  json_t *value;
  json_object_foreach((json_t *)(uintptr_t)schema, key, value)
  {
    if (!listed(ANNOTATIONS, key) && strncmp(key, "x-", 2) != 0) return false;
  }
  return json_is_true(schema) || json_is_object(schema);
}

bool aii_gs_check(aii_gschema *s, const json_t *schema)
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
  if (!aii_gs_check(s, schema)) return 0;
  if (json_object_get(schema, "$ref") != NULL) return aii_gs_alone(s, schema, "$ref") ? reference(s, schema) : 0;
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

static uint32_t compile_item(aii_gschema *s, const aii_gs_item *item)
{
  if (item->raw) return aii_gs_raw(s, item);
  return s->current == 0 && s->format != NULL ? aii_gs_arguments(s, item->schema) : compile_one(s, item->schema);
}

static uint32_t compile(aii_gschema *s)
{
  aii_gb *b = s->b;
  aii_map_init(&s->refs, b->g->mem);
  uint32_t root = aii_gs_add(s, s->root, NULL);
  for (s->current = 0; s->current < s->n && b->rc == AIINFRA_OK; s->current++) {
    aii_gs_item item = s->items[s->current];
    aii_gb_define(b, item.rule, compile_item(s, &item));
  }
  aii_map_free(&s->refs);
  aii_del(b->g->mem, s->items, s->cap * sizeof *s->items);
  return root;
}

uint32_t aii_gj_schema(aii_gb *b, const json_t *schema, const char *what, bool root_object)
{
  aii_gschema s = {.b = b, .root = schema, .what = what, .root_object = root_object};
  return compile(&s);
}

uint32_t aii_gj_arguments(aii_gb *b, const json_t *schema, const char *what, const aii_out_format *format)
{
  json_t *any = schema == NULL ? json_object() : NULL;
  aii_gschema s = {.b = b, .root = schema != NULL ? schema : any, .what = what, .root_object = true, .format = format};
  uint32_t rule = s.root != NULL ? compile(&s) : aii_gb_fail(b, AIINFRA_ENOMEM, "no memory");
  json_decref(any);
  return rule;
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
  rc = aii_gb_finish(&b, out);
  json_decref(schema);
  return rc;
}
