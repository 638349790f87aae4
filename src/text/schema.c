/* schema.c - the plain facts of a JSON Schema; see schema.h. Any thread; touches nothing. */
#include "src/text/schema.h"

#include <stdlib.h>

unsigned aii_type_named(const char *name)
{
  static const struct {
    const char *name;
    unsigned type;
  } table[] = {{"string", AII_TYPE_STRING},   {"number", AII_TYPE_NUMBER}, {"integer", AII_TYPE_NUMBER},
               {"boolean", AII_TYPE_BOOLEAN}, {"null", AII_TYPE_NULL},     {"object", AII_TYPE_OBJECT},
               {"dict", AII_TYPE_OBJECT},     {"array", AII_TYPE_ARRAY}};
  for (size_t i = 0; name != NULL && i < AII_COUNT(table); i++) {
    if (strcmp(name, table[i].name) == 0) return table[i].type;
  }
  return 0;
}

unsigned aii_type_of(const json_t *value)
{
  switch (json_typeof(value)) {
    case JSON_STRING: return AII_TYPE_STRING;
    case JSON_INTEGER:
    case JSON_REAL: return AII_TYPE_NUMBER;
    case JSON_TRUE:
    case JSON_FALSE: return AII_TYPE_BOOLEAN;
    case JSON_NULL: return AII_TYPE_NULL;
    case JSON_OBJECT: return AII_TYPE_OBJECT;
    case JSON_ARRAY: return AII_TYPE_ARRAY;
  }
  return AII_TYPE_ANY;
}

const char *aii_schema_inferred(const json_t *schema)
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

const json_t *aii_schema_resolve(const json_t *at, const char *ref)
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

const json_t *aii_schema_follow(const json_t *root, const json_t *schema)
{
  for (int hops = 0; schema != NULL && hops < AII_SCHEMA_HOPS; hops++) {
    const char *ref = json_string_value(json_object_get(schema, "$ref"));
    const json_t *all = json_object_get(schema, "allOf");
    if (ref != NULL) schema = aii_schema_resolve(root, ref);
    else if (json_array_size(all) == 1) schema = json_array_get(all, 0);
    else break;
  }
  return schema;
}

const json_t *aii_schema_union(const json_t *schema)
{
  const json_t *any = json_object_get(schema, "anyOf");
  return any != NULL ? any : json_object_get(schema, "oneOf");
}

static unsigned types(const json_t *root, const json_t *schema, unsigned depth)
{
  schema = aii_schema_follow(root, schema);
  const json_t *type = json_object_get(schema, "type"), *one = json_object_get(schema, "const");
  unsigned all = 0;
  size_t i;
  json_t *item;
  if (json_is_string(type)) all |= aii_type_named(json_string_value(type));
  json_array_foreach(type, i, item) all |= aii_type_named(json_string_value(item));
  if (all == 0 && one != NULL) all |= aii_type_of(one);
  if (all == 0) json_array_foreach(json_object_get(schema, "enum"), i, item) all |= aii_type_of(item);
  if (all == 0 && depth < AII_SCHEMA_UNIONS)
    json_array_foreach(aii_schema_union(schema), i, item) all |= types(root, item, depth + 1);
  if (all == 0) all = aii_type_named(aii_schema_inferred(schema));
  if (json_is_true(json_object_get(schema, "nullable"))) all |= AII_TYPE_NULL;
  return (all & ~(unsigned)AII_TYPE_NULL) == 0 ? AII_TYPE_ANY : all;
}

unsigned aii_schema_types(const json_t *root, const json_t *schema)
{
  return types(root, schema, 0);
}
