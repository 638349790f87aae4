/* gram_tags.c - arguments that are no JSON as a whole: a tag for each, and Python's keywords.
 *
 *   <parameter=city>          a string is the text itself, up to the tag that ends it
 *   Paris
 *   </parameter>
 *   <parameter=days>          all else is JSON, whose strings hold no raw "<", lest the tag should stand in one
 *   3
 *   </parameter>
 *
 * The parser tells text from JSON by the schema (schema.h). Where both are allowed, text may not begin as that JSON
 * does; a text that would still be read as something else is left out. Bounded text holds no "<" at all, and in formats
 * that do not put values on lines of their own no line's end.
 */
#include <stdio.h>

#include "src/text/gram_schema.h"

typedef struct value {
  aii_gschema *s;
  const aii_out_format *f;
  char end[2 * AII_OUT_MAX_MARKER];
  unsigned types, risky; /* what the parser may take it for; of these, what is not just any value of its type */
} value;

/* ---- around a value ---------------------------------------------------------------------------------------------------- */

static uint32_t head(const value *v, bool is_string, uint32_t next)
{
  aii_gb *b = v->s->b;
  if (v->f->lines) next = aii_gb_str(b, "\n", next);
  if (v->f->value != NULL) next = aii_gb_maybe(b, "\n", aii_gb_str(b, v->f->value, next));
  if (v->f->kinds) return aii_gb_str(b, is_string ? " string=\"true\">" : " string=\"false\">", next);
  return v->f->attributes ? aii_gb_str(b, ">", next) : next;
}

static uint32_t tail(const value *v)
{
  aii_gb *b = v->s->b;
  uint32_t end = aii_gb_str(b, v->end, 0);
  return v->f->lines ? aii_gb_str(b, "\n", end) : end;
}

static uint32_t json(const value *v, uint32_t rule)
{
  return head(v, false, aii_gb_call(v->s->b, rule, tail(v)));
}

/* ---- texts ------------------------------------------------------------------------------------------------------------- */

static uint32_t any_text(const value *v, unsigned risky)
{
  static const char *const begins[] = {"", "-0123456789", "tf", "n", "{", "["}; /* by the bits of the types */
  aii_gb *b = v->s->b;
  char not_first[32] = "";
  size_t n = 0;
  for (size_t i = 0; i < AII_COUNT(begins); i++) {
    if ((risky >> i & 1) != 0) n += (size_t)snprintf(not_first + n, sizeof not_first - n, "%s", begins[i]);
  }
  if (risky != 0) (void)snprintf(not_first + n, sizeof not_first - n, " \t\n");
  if (not_first[0] != '\0' || v->f->nested) return head(v, true, aii_gj_until(b, v->end, not_first, 0));
  if (b->text == AII_G_NONE) { /* the same for all values of the format */
    b->text = aii_gb_rule(b);
    aii_gb_define(b, b->text, aii_gj_until(b, v->end, "", 0));
  }
  return head(v, true, aii_gb_call(b, b->text, 0));
}

static uint32_t string(const value *v, const json_t *schema)
{
  aii_gb *b = v->s->b;
  unsigned risky = v->f->kinds ? 0 : v->risky;
  b->raw = true;
  uint32_t entry = aii_gs_characters(v->s, schema, tail(v));
  b->raw = false;
  if (entry == AII_G_NONE) return any_text(v, risky);
  if (risky != 0) return aii_gs_fail(v->s, AIINFRA_ENOTSUP, "a bounded string beside other types");
  return head(v, true, entry);
}

/* Whether the parser would take the text for something else that the schema allows. */
static bool misread(const value *v, const char *text)
{
  json_t *other = NULL;
  unsigned others = v->f->kinds ? 0 : v->types & ~(unsigned)AII_TYPE_STRING;
  bool is = others != 0 && aii_json_parse(text, strlen(text), "text", 0, &other, NULL) == AIINFRA_OK &&
            (aii_type_of(other) & others) != 0;
  json_decref(other);
  return is;
}

static uint32_t constant(const value *v, const json_t *json_value)
{
  aii_gb *b = v->s->b;
  aii_buf text;
  const char *s = json_string_value(json_value);
  if (s == NULL) {
    aii_buf_init(&text, b->g->mem, 1 << 20);
    if (!aii_json_dump(json_value, &text)) (void)aii_gs_fail(v->s, AIINFRA_ENOMEM, "no memory");
    uint32_t entry = head(v, false, aii_gj_dumped(b, aii_buf_cstr(&text), text.len, tail(v)));
    aii_buf_free(&text);
    return entry;
  }
  if (misread(v, s)) return AII_G_NONE;
  size_t n = strlen(s);
  if (strstr(s, v->end) != NULL || n != json_string_length(json_value) || strncmp(s, "<![CDATA[", 9) == 0)
    return aii_gs_fail(v->s, AIINFRA_ENOTSUP, "a text that cannot be written in calls of this model");
  /* the parser drops a line's end at either side */
  bool drops = !v->f->lines && !v->f->nested;
  uint32_t entry = tail(v);
  if (drops && n > 0 && s[n - 1] == '\n') entry = aii_gb_str(b, "\n", entry);
  entry = aii_gb_str(b, s, entry);
  if (drops && s[0] == '\n') entry = aii_gb_str(b, "\n", entry);
  return head(v, true, entry);
}

/* ---- a value by its schema ---------------------------------------------------------------------------------------------- */

static uint32_t constants(const value *v, const json_t *schema)
{
  const json_t *one = json_object_get(schema, "const"), *list = json_object_get(schema, "enum");
  uint32_t all = AII_G_NONE;
  for (size_t i = 0; i < (one != NULL ? 1 : json_array_size(list)); i++) {
    const json_t *its = one != NULL ? one : json_array_get(list, i);
    if (aii_gs_type_allows(json_object_get(schema, "type"), its)) all = aii_gb_either(v->s->b, constant(v, its), all);
  }
  return all;
}

static uint32_t of_type(const value *v, const json_t *schema, const char *type)
{
  if (strcmp(type, "string") == 0) return string(v, schema);
  uint32_t rule = aii_gb_rule(v->s->b);
  aii_gb_define(v->s->b, rule, aii_gs_typed(v->s, schema, type));
  return json(v, rule);
}

static const char *nth_type(const json_t *schema, size_t i)
{
  const json_t *type = json_object_get(schema, "type");
  if (json_is_array(type)) return json_string_value(json_array_get(type, i));
  return i > 0 ? NULL : type != NULL ? json_string_value(type) : aii_schema_inferred(schema);
}

/* What of a schema is not simply all values of a type, but for strings. */
static unsigned risky_types(const aii_gschema *s, const json_t *schema, unsigned depth)
{
  static const char *const bounds[] = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"};
  unsigned risky = 0;
  const char *type;
  size_t k;
  json_t *item;
  schema = aii_schema_follow(s->root, schema);
  if (depth < AII_SCHEMA_UNIONS)
    json_array_foreach(aii_schema_union(schema), k, item) risky |= risky_types(s, item, depth + 1);
  if (json_object_get(schema, "const") != NULL) risky |= aii_type_of(json_object_get(schema, "const"));
  json_array_foreach(json_object_get(schema, "enum"), k, item) risky |= aii_type_of(item);
  for (size_t i = 0; (type = nth_type(schema, i)) != NULL; i++) {
    unsigned one = aii_type_named(type);
    bool bounded = strcmp(type, "integer") == 0;
    for (size_t n = 0; n < AII_COUNT(bounds); n++) bounded |= json_object_get(schema, bounds[n]) != NULL;
    if ((one & (AII_TYPE_OBJECT | AII_TYPE_ARRAY)) != 0 || (one == AII_TYPE_NUMBER && bounded)) risky |= one;
  }
  return risky & ~(unsigned)AII_TYPE_STRING;
}

static uint32_t choices(const value *v, const json_t *schema, unsigned depth)
{
  aii_gschema *s = v->s;
  uint32_t all = AII_G_NONE;
  const char *type;
  schema = aii_gs_follow(s, schema);
  if (schema == NULL) return 0;
  const json_t *list = aii_schema_union(schema);
  if (list != NULL && depth < AII_SCHEMA_UNIONS) {
    if (!aii_gs_alone(s, schema, json_object_get(schema, "anyOf") != NULL ? "anyOf" : "oneOf")) return 0;
    for (size_t i = 0; i < json_array_size(list); i++)
      all = aii_gb_either(s->b, choices(v, json_array_get(list, i), depth + 1), all);
    return all;
  }
  if (!aii_gs_check(s, schema)) return 0;
  if (json_object_get(schema, "const") != NULL || json_object_get(schema, "enum") != NULL) all = constants(v, schema);
  else
    for (size_t i = 0; (type = nth_type(schema, i)) != NULL; i++)
      all = aii_gb_either(s->b, of_type(v, schema, type), all);
  if (json_is_true(json_object_get(schema, "nullable"))) all = aii_gb_either(s->b, all, json(v, aii_gj_null(s->b)));
  return all;
}

uint32_t aii_gs_raw(aii_gschema *s, const aii_gs_item *item)
{
  value v = {.s = s, .f = s->format, .types = aii_schema_types(s->root, item->schema)};
  int n = snprintf(v.end, sizeof v.end, v.f->nested ? "%s/%s>" : "%.0s%s", v.f->param,
                   v.f->nested ? item->key : v.f->value_end);
  if (n < 0 || n > AII_OUT_MAX_MARKER) return aii_gs_fail(s, AIINFRA_ENOTSUP, "a name that is too long for this model");
  if ((v.types & AII_TYPE_STRING) == 0 || v.types == AII_TYPE_ANY) {
    uint32_t entry = json(&v, aii_gs_add(s, item->schema, item->key));
    return aii_gs_is_free(item->schema) ? aii_gb_split(s->b, entry, any_text(&v, 0)) : entry;
  }
  v.risky = risky_types(s, item->schema, 0);
  uint32_t entry = choices(&v, item->schema, 0);
  return entry != AII_G_NONE ? entry : aii_gs_fail(s, AIINFRA_EINVAL, "no value is allowed");
}

/* ---- all arguments -------------------------------------------------------------------------------------------------------- */

static bool check_key(aii_gschema *s, const char *key)
{
  const aii_out_format *f = s->format;
  size_t n = strlen(key);
  bool good = n > 0 && n < AII_OUT_MAX_MARKER && strstr(key, f->key_end) == NULL && key[0] != '/' && key[0] != ' ' &&
              key[n - 1] != ' ';
  for (size_t i = 0; i < n; i++) good &= (uint8_t)key[i] >= ' ' && key[i] != '<' && key[i] != '>';
  if (!good) (void)aii_gs_fail(s, AIINFRA_ENOTSUP, "a name that cannot be written in calls of this model");
  return good;
}

static uint32_t tag(aii_gschema *s, const aii_gs_member *m, uint32_t next)
{
  aii_gb *b = s->b;
  if (!check_key(s, m->key)) return 0;
  uint32_t key = aii_gb_str(b, m->key, aii_gb_str(b, s->format->key_end, aii_gb_call(b, m->rule, next)));
  return aii_gb_maybe(b, "\n", aii_gb_str(b, s->format->param, key));
}

/* Members of any name, where the schema names none; not where the name is part of the text that ends the value. */
static uint32_t any_tags(aii_gschema *s, const json_t *schema, uint32_t end)
{
  aii_gb *b = s->b;
  const json_t *extra = json_object_get(schema, "additionalProperties");
  uint32_t rule = aii_gs_add_raw(s, extra != NULL ? extra : json_true(), "additionalProperties");
  uint32_t loop = aii_gb_split(b, end, end), value_at = aii_gb_str(b, s->format->key_end, aii_gb_call(b, rule, loop));
  uint32_t more = aii_gb_str(b, s->format->param, aii_gj_identifier(b, value_at));
  more = aii_gb_maybe(b, "\n", more);
  if (b->rc == AIINFRA_OK) b->g->nodes[loop].a = more;
  return loop;
}

static uint32_t tags(aii_gschema *s, const json_t *schema)
{
  aii_gb *b = s->b;
  aii_gs_members m = {0};
  uint32_t at = aii_gb_maybe(b, "\n", aii_gb_str(b, s->format->end, 0));
  bool good = aii_gs_collect(s, schema, true, &m);
  if (good && m.n == 0 && aii_gs_is_open(schema) && !s->format->nested) at = any_tags(s, schema, at);
  for (size_t i = m.n; good && i-- > 0;) {
    uint32_t with = tag(s, &m.items[i], at);
    at = m.items[i].required ? with : aii_gb_split(b, with, at);
  }
  aii_del(b->g->mem, m.items, m.cap * sizeof *m.items);
  return at;
}

uint32_t aii_gs_arguments(aii_gschema *s, const json_t *schema)
{
  schema = aii_gs_follow(s, schema);
  if (schema == NULL || (json_is_object(schema) && !aii_gs_check(s, schema))) return 0;
  const char *type = json_string_value(json_object_get(schema, "type"));
  bool object = aii_schema_union(schema) == NULL && json_object_get(schema, "enum") == NULL &&
                json_object_get(schema, "const") == NULL && (type == NULL || strcmp(type, "object") == 0) &&
                json_is_array(json_object_get(schema, "type")) == 0;
  if (!object) return aii_gs_fail(s, AIINFRA_ENOTSUP, "arguments that are no plain object, in calls of this model");
  return s->format->form == OF_TAGS ? tags(s, schema) : aii_gs_keywords(s, schema);
}
