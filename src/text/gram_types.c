/* gram_types.c - the types of JSON Schema: objects, arrays, strings, numbers with their own keywords. */
#include <math.h>
#include <stdlib.h>

#include "src/text/gram_schema.h"

/* A count such as minItems; false: it is none, and the failure is set. */
static bool count(aii_gschema *s, const json_t *schema, const char *key, uint32_t fallback, uint32_t *out)
{
  const json_t *value = json_object_get(schema, key);
  *out = fallback;
  if (value == NULL) return true;
  json_int_t n = json_is_integer(value) ? json_integer_value(value) : -1;
  if (n < 0) return aii_gs_fail(s, AIINFRA_EINVAL, "a length or count must be an integer from 0") != 0;
  if (n > AII_G_MAX_REPEAT) return aii_gs_fail(s, AIINFRA_ENOTSUP, "a length or count beyond 20000") != 0;
  *out = (uint32_t)n;
  return true;
}

/* ---- objects --------------------------------------------------------------------------------------------------------- */

/* How an object is written. */
typedef struct object_form {
  const char *open, *close, *colon;
  bool bare; /* keys are words */
} object_form;

static uint32_t key_text(aii_gschema *s, const char *key, bool bare, uint32_t next)
{
  aii_gb *b = s->b;
  if (bare) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.$";
    if (key[0] == '\0' || key[strspn(key, letters)] != '\0')
      return aii_gs_fail(s, AIINFRA_ENOTSUP, "a name that cannot be written in calls of this model");
    return aii_gb_str(b, key, next);
  }
  aii_buf text;
  aii_buf_init(&text, b->g->mem, 0);
  aii_buf_json(&text, key, strlen(key));
  if (text.failed) (void)aii_gb_fail(b, AIINFRA_ENOMEM, "no memory");
  next = aii_gj_dumped(b, aii_buf_cstr(&text), text.len, next);
  aii_buf_free(&text);
  return next;
}

static uint32_t member_text(aii_gschema *s, const aii_gs_member *m, const object_form *form, uint32_t next)
{
  uint32_t value = aii_gb_space(s->b, aii_gb_call(s->b, m->rule, next));
  return key_text(s, m->key, form->bare, aii_gb_str(s->b, form->colon, value));
}

static bool is_required(const json_t *schema, const char *key)
{
  const json_t *list = json_object_get(schema, "required");
  for (size_t i = 0; i < json_array_size(list); i++) {
    const char *name = json_string_value(json_array_get(list, i));
    if (name != NULL && strcmp(name, key) == 0) return true;
  }
  return false;
}

static bool add_member(aii_gschema *s, aii_gs_members *m, const char *key, uint32_t rule, bool required)
{
  if (!aii_grow(s->b->g->mem, &m->items, &m->cap, m->n + 1, sizeof *m->items)) {
    return aii_gs_fail(s, AIINFRA_ENOMEM, "no memory") != 0;
  }
  m->items[m->n++] = (aii_gs_member){key, rule, required};
  return true;
}

/* Properties in their order, then required names that have no schema of their own. */
bool aii_gs_collect(aii_gschema *s, const json_t *schema, bool raw, aii_gs_members *m)
{
  const char *key;
  json_t *value, *properties = json_object_get(schema, "properties");
  const json_t *required = json_object_get(schema, "required");
  if (properties != NULL && !json_is_object(properties))
    return aii_gs_fail(s, AIINFRA_EINVAL, "properties must be an object") != 0;
  json_object_foreach(properties, key, value)
  {
    uint32_t rule = raw ? aii_gs_add_raw(s, value, key) : aii_gs_add(s, value, key);
    if (!add_member(s, m, key, rule, is_required(schema, key))) return false;
  }
  for (size_t i = 0; i < json_array_size(required); i++) {
    key = json_string_value(json_array_get(required, i));
    if (key == NULL) return aii_gs_fail(s, AIINFRA_EINVAL, "required must be a list of names") != 0;
    if (json_object_get(properties, key) != NULL) continue;
    if (json_is_false(json_object_get(schema, "additionalProperties"))) {
      return aii_gs_fail(s, AIINFRA_EINVAL, "a required member that may not be there") != 0;
    }
    uint32_t rule = raw ? aii_gs_add_raw(s, json_true(), key) : aii_gj_value(s->b, 0);
    if (!add_member(s, m, key, rule, true)) return false;
  }
  return s->b->rc == AIINFRA_OK;
}

/* The rest of a key that agrees with the keys list[0..n) up to byte `at`: it must become another than all of them. */
typedef struct key_part {
  size_t from, to, at;
  uint32_t node; /* a placeholder to be linked */
} key_part;

static int by_text(const void *a, const void *b)
{
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static uint32_t any_rest(aii_gb *b, uint32_t quote)
{
  return aii_gb_repeat_call(b, aii_gj_char(b), 0, AII_G_NONE, quote);
}

/* One place in the tree of keys: end here if none ends here, leave the tree, or follow a byte that goes on. */
static void key_place(aii_gb *b, char **keys, key_part part, uint32_t quote, uint32_t rest, key_part *todo,
                      size_t *n_todo)
{
  aii_gset leave = {{0}};
  for (uint32_t c = 0x20; c < 0x7F; c++) {
    if (c != '"' && c != '\\' && c != (uint8_t)b->avoid) leave.bits[c >> 6] |= 1ull << (c & 63);
  }
  aii_range wide[] = {{0x80, 0x10FFFF}};
  bool ends = false, high = false;
  uint32_t node = AII_G_NONE;
  for (size_t i = part.from; i < part.to;) {
    uint8_t byte = (uint8_t)keys[i][part.at];
    size_t same = i;
    while (same < part.to && (uint8_t)keys[same][part.at] == byte) same++;
    if (byte == 0) {
      ends = true;
    } else {
      leave.bits[byte >> 6] &= ~(1ull << (byte & 63));
      high |= byte >= 0x80;
      uint32_t below = aii_gp_eps(b);
      todo[(*n_todo)++] = (key_part){i, same, part.at + 1, below};
      char one = (char)byte;
      uint32_t way = aii_gb_bytes(b, &one, 1, below);
      node = node == AII_G_NONE ? way : aii_gb_split(b, way, node);
    }
    i = same;
  }
  /* inside a multi-byte character only the known keys go on */
  bool inside = part.at > 0 && ((uint8_t)keys[part.from][part.at - 1] & 0x80) != 0 &&
                ((uint8_t)keys[part.from][part.at] & 0xC0) == 0x80;
  if (!inside) {
    uint32_t away = aii_gb_set(b, &leave, rest);
    if (!high) away = aii_gb_split(b, away, aii_gb_ranges(b, wide, 1, rest));
    node = node == AII_G_NONE ? away : aii_gb_split(b, away, node);
    if (!ends) node = aii_gb_split(b, quote, node);
  }
  if (b->rc == AIINFRA_OK) b->g->nodes[part.node].a = b->g->nodes[part.node].b = node;
}

/* A quoted key that is none of the members'. Written without escapes up to where it differs, so no other spelling
 * of a known key gets through. */
static uint32_t other_key(aii_gschema *s, const aii_gs_members *m, uint32_t next)
{
  aii_gb *b = s->b;
  aii_mem *mem = b->g->mem;
  size_t bytes = 1, n = m->n, n_todo = 0;
  uint32_t quote = aii_gb_str(b, "\"", next);
  if (n == 0) return aii_gb_str(b, "\"", any_rest(b, quote));
  for (size_t i = 0; i < n; i++) bytes += strlen(m->items[i].key) + 1;
  char **keys = aii_new_array(mem, n, sizeof *keys);
  key_part *todo = aii_new_array(mem, bytes, sizeof *todo);
  uint32_t entry = aii_gp_eps(b), rest = any_rest(b, quote);
  if (keys == NULL || todo == NULL) {
    (void)aii_gs_fail(s, AIINFRA_ENOMEM, "no memory");
  } else {
    for (size_t i = 0; i < n; i++) keys[i] = (char *)(uintptr_t)m->items[i].key;
    qsort(keys, n, sizeof *keys, by_text);
    todo[n_todo++] = (key_part){0, n, 0, entry};
    for (size_t i = 0; i < n_todo && b->rc == AIINFRA_OK; i++) key_place(b, keys, todo[i], quote, rest, todo, &n_todo);
  }
  aii_del(mem, keys, n * sizeof *keys);
  aii_del(mem, todo, bytes * sizeof *todo);
  return aii_gb_str(b, "\"", entry);
}

/* Among bare words known ones could not be told from others: beside members there are no others then. */
static uint32_t object_body(aii_gschema *s, const json_t *schema, const aii_gs_members *m, const object_form *form)
{
  aii_gb *b = s->b;
  uint32_t brace = aii_gb_str(b, form->close, 0), close = aii_gb_space(b, brace), rest = close, first = brace;
  if (aii_gs_is_open(schema) && !(form->bare && m->n > 0)) {
    const json_t *extra = json_object_get(schema, "additionalProperties");
    uint32_t rule =
        extra == NULL || json_is_true(extra) ? aii_gj_value(b, 1) : aii_gs_add(s, extra, "additionalProperties");
    uint32_t loop = aii_gb_split(b, close, close), value = aii_gb_space(b, aii_gb_call(b, rule, loop));
    uint32_t kv = aii_gb_str(b, form->colon, value);
    kv = form->bare ? aii_gj_identifier(b, kv) : other_key(s, m, kv);
    uint32_t more = aii_gb_str(b, ",", aii_gb_space(b, kv));
    if (b->rc == AIINFRA_OK) b->g->nodes[loop].a = more;
    rest = loop;
    first = aii_gb_split(b, kv, brace);
  }
  for (size_t i = m->n; i-- > 0;) {
    uint32_t with = member_text(s, &m->items[i], form, rest);
    first = m->items[i].required ? with : aii_gb_split(b, with, first);
    uint32_t comma = aii_gb_str(b, ",", aii_gb_space(b, with));
    rest = m->items[i].required ? comma : aii_gb_split(b, comma, rest);
  }
  return aii_gb_str(b, form->open, aii_gb_space(b, first));
}

static uint32_t object_as(aii_gschema *s, const json_t *schema, const object_form *form)
{
  aii_gs_members m = {0};
  uint32_t entry = 0;
  if (aii_gs_collect(s, schema, false, &m)) entry = object_body(s, schema, &m, form);
  aii_del(s->b->g->mem, m.items, m.cap * sizeof *m.items);
  return entry;
}

bool aii_gs_is_open(const json_t *schema)
{
  const json_t *extra = json_object_get(schema, "additionalProperties");
  return extra != NULL ? !json_is_false(extra) : json_object_size(json_object_get(schema, "properties")) == 0;
}

uint32_t aii_gs_object(aii_gschema *s, const json_t *schema)
{
  static const object_form json = {"{", "}", ":", false}, bare = {"{", "}", ":", true};
  return object_as(s, schema, s->b->bare_keys ? &bare : &json);
}

uint32_t aii_gs_keywords(aii_gschema *s, const json_t *schema)
{
  static const object_form form = {"(", ")", "=", true};
  return object_as(s, schema, &form);
}

/* ---- arrays ---------------------------------------------------------------------------------------------------------- */

uint32_t aii_gs_array(aii_gschema *s, const json_t *schema)
{
  aii_gb *b = s->b;
  const json_t *items = json_object_get(schema, "items"), *tuple = json_object_get(schema, "prefixItems");
  uint32_t min, max, any;
  if (json_is_array(items)) tuple = items, items = NULL;
  uint32_t fixed = (uint32_t)json_array_size(tuple);
  bool closed = json_is_false(items) || (fixed > 0 && items == NULL);
  if (!count(s, schema, "minItems", fixed, &min) || !count(s, schema, "maxItems", AII_G_NONE, &max)) return 0;
  if (closed) max = AII_MIN(max, fixed);
  if (min > max) return aii_gs_fail(s, AIINFRA_EINVAL, "fewer items allowed than needed");
  any = items == NULL || closed || json_is_true(items) ? aii_gj_value(b, 1) : aii_gs_add(s, items, "items");
  uint32_t bracket = aii_gb_str(b, "]", 0), close = aii_gb_space(b, bracket), at = close, last = max;
  if (max == AII_G_NONE) { /* behind the needed ones: "," item, again and again */
    last = AII_MAX(AII_MAX(min, fixed), 1);
    at = aii_gb_split(b, close, close);
    uint32_t more = aii_gb_str(b, ",", aii_gb_space(b, aii_gb_call(b, any, at)));
    if (b->rc == AIINFRA_OK) b->g->nodes[at].a = more;
  }
  for (uint32_t i = last; i-- > 0;) {
    uint32_t rule = i < fixed ? aii_gs_add(s, json_array_get(tuple, i), "prefixItems") : any;
    uint32_t item = aii_gb_call(b, rule, at);
    if (i > 0) item = aii_gb_str(b, ",", aii_gb_space(b, item));
    at = i >= min ? aii_gb_split(b, item, i > 0 ? close : bracket) : item;
  }
  return aii_gb_str(b, "[", aii_gb_space(b, last == 0 ? bracket : at));
}

/* ---- strings --------------------------------------------------------------------------------------------------------- */

static const char *format_pattern(const char *format)
{
#define AII_DATE "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[1-2][0-9]|3[0-1])"
#define AII_TIME "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
  static const char *const known[][2] = {
      {"date", "^(" AII_DATE ")$"},
      {"time", "^(" AII_TIME ")$"},
      {"date-time", "^(" AII_DATE "T" AII_TIME ")$"},
      {"uuid", "^([0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12})$"}};
  for (size_t i = 0; format != NULL && i < AII_COUNT(known); i++) {
    if (strcmp(format, known[i][0]) == 0) return known[i][1];
  }
  return NULL;
}

uint32_t aii_gs_characters(aii_gschema *s, const json_t *schema, uint32_t next)
{
  aii_gb *b = s->b;
  const json_t *pattern = json_object_get(schema, "pattern");
  const char *format = format_pattern(json_string_value(json_object_get(schema, "format")));
  uint32_t min, max;
  if (!count(s, schema, "minLength", 0, &min) || !count(s, schema, "maxLength", AII_G_NONE, &max)) return 0;
  if (min > max) return aii_gs_fail(s, AIINFRA_EINVAL, "maxLength below minLength");
  bool bounded = min > 0 || max != AII_G_NONE;
  if (pattern != NULL && !json_is_string(pattern)) return aii_gs_fail(s, AIINFRA_EINVAL, "pattern is no string");
  if (pattern != NULL && (bounded || format != NULL))
    return aii_gs_fail(s, AIINFRA_ENOTSUP, "pattern beside a length or format");
  if (pattern != NULL) return aii_gj_pattern(b, json_string_value(pattern), next);
  if (format != NULL && bounded) return aii_gs_fail(s, AIINFRA_ENOTSUP, "format beside a length");
  if (format != NULL) return aii_gj_pattern(b, format, next);
  return bounded ? aii_gb_repeat_call(b, aii_gj_char(b), min, max, next) : AII_G_NONE;
}

uint32_t aii_gs_string(aii_gschema *s, const json_t *schema)
{
  const char *quote = s->b->quote != NULL ? s->b->quote : "\"";
  uint32_t characters = aii_gs_characters(s, schema, aii_gb_str(s->b, quote, 0));
  if (characters == AII_G_NONE) return aii_gb_call(s->b, aii_gj_string(s->b), 0);
  return aii_gb_str(s->b, quote, characters);
}

/* ---- numbers --------------------------------------------------------------------------------------------------------- */

/* A bound as an integer that includes it; false: the failure is set. */
static bool limit(aii_gschema *s, const json_t *schema, const char *key, bool integer, bool low, int64_t *out)
{
  const json_t *value = json_object_get(schema, key);
  bool exclusive = key[0] == 'e';
  if (value == NULL) return true;
  if (!json_is_number(value)) return aii_gs_fail(s, AIINFRA_EINVAL, "a bound must be a number") != 0;
  double x = json_number_value(value);
  if (fabs(x) > 999999999999999999.0) return aii_gs_fail(s, AIINFRA_ENOTSUP, "a bound beyond 18 digits") != 0;
  double whole = low ? ceil(x) : floor(x);
  if (!integer && (exclusive || whole != x)) {
    return aii_gs_fail(s, AIINFRA_ENOTSUP, "an exclusive or fractional bound of a number") != 0;
  }
  int64_t bound = json_is_integer(value) ? json_integer_value(value) : (int64_t)whole;
  if (exclusive && whole == x) bound += low ? 1 : -1;
  *out = low ? AII_MAX(*out, bound) : AII_MIN(*out, bound);
  return true;
}

uint32_t aii_gs_number(aii_gschema *s, const json_t *schema, bool integer)
{
  aii_gb *b = s->b;
  static const char *const keys[] = {"minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"};
  const int64_t most = 9999999999999999, far = 999999999999999999; /* 16 digits unless the bounds ask for more */
  int64_t from = INT64_MIN, to = INT64_MAX;
  for (size_t i = 0; i < AII_COUNT(keys); i++) {
    if (!limit(s, schema, keys[i], integer, i < 2, i < 2 ? &from : &to)) return 0;
  }
  if (from == INT64_MIN && to == INT64_MAX) return aii_gb_call(b, integer ? aii_gj_integer(b) : aii_gj_number(b), 0);
  if (to == INT64_MAX) to = from > most ? far : most;
  if (from == INT64_MIN) from = to < -most ? -far : -most;
  if (from > to) return aii_gs_fail(s, AIINFRA_EINVAL, "no number lies between the bounds");
  return aii_gj_int_range(b, from, to, !integer, 0);
}
