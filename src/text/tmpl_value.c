/* tmpl_value.c - the values of a rendering: making, comparing, lists and maps, JSON in. All live in the run's arena. */
#include "lib/json/json.h"
#include "src/text/tmpl_impl.h"

aii_tv aii_tv_strn(const char *s, size_t n)
{
  return (aii_tv){.type = TV_STR, .n = (uint32_t)n, .s = s};
}

aii_tv aii_tv_lit(const char *s)
{
  return aii_tv_strn(s, strlen(s));
}

aii_tv aii_tv_int(int64_t i)
{
  return (aii_tv){.type = TV_INT, .i = i};
}

aii_tv aii_tv_float(double f)
{
  return (aii_tv){.type = TV_FLOAT, .f = f};
}

aii_tv aii_tv_bool(bool b)
{
  return (aii_tv){.type = TV_BOOL, .b = b};
}

aii_tv aii_tv_none(void)
{
  return (aii_tv){.type = TV_NONE};
}

aii_tv aii_tv_undefined(aii_tv name)
{
  if (name.type != TV_STR) name = aii_tv_lit("a value");
  name.type = TV_UNDEFINED;
  return name;
}

bool aii_tv_is(aii_tv s, const char *text)
{
  return s.type == TV_STR && s.n == strlen(text) && memcmp(s.s, text, s.n) == 0;
}

bool aii_tv_truth(aii_tv v)
{
  switch (v.type) {
    case TV_UNDEFINED:
    case TV_NONE: return false;
    case TV_BOOL: return v.b;
    case TV_INT: return v.i != 0;
    case TV_FLOAT: return v.f != 0;
    case TV_STR: return v.n > 0;
    case TV_LIST: return v.list->n > 0 || v.look == TL_GENERATOR;
    case TV_MAP: return v.map->n > 0;
    default: return true;
  }
}

bool aii_tv_number(aii_tv v, double *f)
{
  switch (v.type) {
    case TV_BOOL: *f = v.b; return true;
    case TV_INT: *f = (double)v.i; return true;
    case TV_FLOAT: *f = v.f; return true;
    default: return false;
  }
}

bool aii_tv_indexed(aii_tv v)
{
  return v.type == TV_LIST && (v.look == TL_PLAIN || v.look == TL_TUPLE);
}

const char *aii_tv_type_name(aii_tv v)
{
  static const char *const names[] = {"undefined", "none",    "boolean",   "integer", "float",    "string",
                                      "list",      "mapping", "namespace", "macro",   "function", "method"};
  return names[v.type];
}

/* ---- comparing --------------------------------------------------------------------------------------------------- */

static bool equal_lists(aii_trun *run, const aii_tlist *a, const aii_tlist *b, bool *equal)
{
  *equal = a->n == b->n;
  for (size_t i = 0; i < a->n && *equal; i++) {
    if (!aii_tv_equal(run, a->items[i], b->items[i], equal)) return false;
  }
  return true;
}

static bool equal_maps(aii_trun *run, const aii_tmap *a, const aii_tmap *b, bool *equal)
{
  *equal = a->n == b->n;
  for (size_t i = 0; i < a->n && *equal; i++) {
    if (!aii_t_step(run, 1 + b->n / 8)) return false;
    const aii_tv *other = aii_tv_get(b, a->keys[i]);
    *equal = other != NULL;
    if (other != NULL && !aii_tv_equal(run, a->values[i], *other, equal)) return false;
  }
  return true;
}

bool aii_tv_equal(aii_trun *run, aii_tv a, aii_tv b, bool *equal)
{
  double x, y;
  *equal = false;
  if (!aii_t_step(run, 1)) return false;
  if (a.type == TV_INT && b.type == TV_INT) {
    *equal = a.i == b.i;
  } else if (aii_tv_number(a, &x) && aii_tv_number(b, &y)) {
    *equal = x == y;
  } else if (a.type != b.type || (a.type == TV_LIST && a.look != b.look)) {
    return true;
  } else if (a.type == TV_STR) {
    *equal = a.n == b.n && memcmp(a.s, b.s, a.n) == 0;
  } else if (a.type == TV_LIST || a.type == TV_MAP) {
    if (++run->depth > AII_T_MAX_DEPTH) return aii_t_fail(run, AIINFRA_ELIMIT, "values nested too deep");
    bool ok = a.type == TV_LIST ? equal_lists(run, a.list, b.list, equal) : equal_maps(run, a.map, b.map, equal);
    run->depth--;
    return ok;
  } else {
    *equal = a.type == TV_UNDEFINED || a.type == TV_NONE || a.map == b.map;
  }
  return true;
}

bool aii_tv_compare(aii_trun *run, aii_tv a, aii_tv b, int *order)
{
  double x, y;
  *order = 0;
  if (!aii_t_step(run, 1)) return false;
  if (a.type == TV_INT && b.type == TV_INT) {
    *order = a.i < b.i ? -1 : a.i > b.i;
  } else if (aii_tv_number(a, &x) && aii_tv_number(b, &y)) {
    *order = x < y ? -1 : x > y;
  } else if (a.type == TV_STR && b.type == TV_STR) {
    int c = memcmp(a.s, b.s, AII_MIN(a.n, b.n));
    *order = c != 0 ? c : a.n < b.n ? -1 : a.n > b.n;
  } else if (a.type == TV_LIST && b.type == TV_LIST) {
    if (++run->depth > AII_T_MAX_DEPTH) return aii_t_fail(run, AIINFRA_ELIMIT, "values nested too deep");
    for (size_t i = 0; i < a.list->n && i < b.list->n && *order == 0; i++) {
      if (!aii_tv_compare(run, a.list->items[i], b.list->items[i], order)) return false;
    }
    run->depth--;
    if (*order == 0) *order = a.list->n < b.list->n ? -1 : a.list->n > b.list->n;
  } else {
    return aii_t_fail(run, AIINFRA_EINVAL, "%s and %s cannot be compared", aii_tv_type_name(a), aii_tv_type_name(b));
  }
  return true;
}

/* ---- strings, lists, maps ------------------------------------------------------------------------------------------ */

bool aii_tv_copy(aii_trun *run, const char *s, size_t n, aii_tv *out)
{
  char *copy = aii_t_new(run, n + 1);
  if (copy == NULL || !aii_t_step(run, n / 64)) return false;
  if (n > 0) memcpy(copy, s, n);
  *out = aii_tv_strn(copy, n);
  return true;
}

bool aii_tv_from_buf(aii_trun *run, aii_buf *buf, aii_tv *out)
{
  bool ok = run->rc == AIINFRA_OK;
  if (ok && buf->over) ok = aii_t_fail(run, AIINFRA_ELIMIT, "a text of more than %zu bytes", buf->max);
  if (ok && buf->failed) ok = aii_t_fail(run, AIINFRA_ENOMEM, "no memory for a text");
  if (ok) ok = aii_tv_copy(run, aii_buf_cstr(buf), buf->len, out);
  aii_buf_free(buf);
  return ok;
}

bool aii_tv_list(aii_trun *run, size_t cap, aii_tv *out)
{
  aii_tlist *list = aii_t_new(run, sizeof *list);
  if (list == NULL) return false;
  if (cap > 0 && (list->items = aii_t_new(run, cap * sizeof *list->items)) == NULL) return false;
  list->cap = cap;
  *out = (aii_tv){.type = TV_LIST, .list = list};
  return true;
}

bool aii_tv_append(aii_trun *run, aii_tlist *list, aii_tv item)
{
  if (!aii_t_step(run, 1)) return false;
  if (list->n == list->cap) {
    size_t cap = list->cap * 2 + 4;
    aii_tv *items = aii_t_new(run, cap * sizeof *items);
    if (items == NULL) return false;
    if (list->n > 0) memcpy(items, list->items, list->n * sizeof *items);
    list->items = items;
    list->cap = cap;
  }
  list->items[list->n++] = item;
  return true;
}

bool aii_tv_map(aii_trun *run, aii_tv *out)
{
  aii_tmap *map = aii_t_new(run, sizeof *map);
  if (map == NULL) return false;
  *out = (aii_tv){.type = TV_MAP, .map = map};
  return true;
}

static bool same_key(aii_tv a, aii_tv b)
{
  if (a.type == TV_STR && b.type == TV_STR) return a.n == b.n && memcmp(a.s, b.s, a.n) == 0;
  double x, y;
  if (aii_tv_number(a, &x) && aii_tv_number(b, &y)) return x == y;
  return a.type == b.type && a.type == TV_NONE;
}

aii_tv *aii_tv_get(const aii_tmap *map, aii_tv key)
{
  for (size_t i = 0; i < map->n; i++) {
    if (same_key(map->keys[i], key)) return &map->values[i];
  }
  return NULL;
}

bool aii_tv_put(aii_trun *run, aii_tmap *map, aii_tv key, aii_tv value)
{
  double f;
  if (!aii_t_step(run, 1 + map->n / 8)) return false;
  if (key.type != TV_STR && key.type != TV_NONE && !aii_tv_number(key, &f)) {
    return aii_t_fail(run, AIINFRA_EINVAL, "a %s cannot be the key of a mapping", aii_tv_type_name(key));
  }
  aii_tv *found = aii_tv_get(map, key);
  if (found != NULL) {
    *found = value;
    return true;
  }
  if (map->n == map->cap) {
    size_t cap = map->cap * 2 + 4;
    aii_tv *keys = aii_t_new(run, 2 * cap * sizeof *keys);
    if (keys == NULL) return false;
    if (map->n > 0) {
      memcpy(keys, map->keys, map->n * sizeof *keys);
      memcpy(keys + cap, map->values, map->n * sizeof *keys);
    }
    map->keys = keys;
    map->values = keys + cap;
    map->cap = cap;
  }
  map->keys[map->n] = key;
  map->values[map->n++] = value;
  return true;
}

bool aii_tv_iterate(aii_trun *run, aii_tv v, aii_tlist **out)
{
  aii_tv list;
  if (v.type == TV_LIST && v.look != TL_GENERATOR) {
    *out = v.list;
    return true;
  }
  if (v.type == TV_LIST) { /* read once, then empty */
    if (!aii_tv_list(run, 0, &list)) return false;
    *list.list = *v.list;
    *out = list.list;
    *v.list = (aii_tlist){0};
    return true;
  }
  if (v.type == TV_MAP) {
    if (!aii_tv_list(run, v.map->n, &list)) return false;
    for (size_t i = 0; i < v.map->n; i++) {
      if (!aii_tv_append(run, list.list, v.map->keys[i])) return false;
    }
  } else if (v.type == TV_STR) {
    if (!aii_tv_list(run, 0, &list)) return false;
    for (size_t i = 0; i < v.n;) {
      int len = aii_utf8_decode(v.s + i, v.n - i, NULL);
      size_t n = len > 0 ? (size_t)len : 1;
      if (!aii_tv_append(run, list.list, aii_tv_strn(v.s + i, n))) return false;
      i += n;
    }
  } else if (v.type == TV_UNDEFINED) {
    if (!aii_tv_list(run, 0, &list)) return false;
  } else {
    return aii_t_fail(run, AIINFRA_EINVAL, "a %s cannot be iterated", aii_tv_type_name(v));
  }
  *out = list.list;
  return true;
}

/* ---- JSON in ------------------------------------------------------------------------------------------------------- */

/* A string from outside, with a guard where it spells a control token. Guards of its own become U+FFFD. */
static bool outside(aii_trun *run, const char *s, size_t n, aii_tv *out)
{
  const size_t n_guard = sizeof AII_GUARD - 1;
  aii_buf buf;
  size_t from = 0;
  if (run->guard == NULL) return aii_tv_copy(run, s, n, out);
  aii_buf_init(&buf, run->mem, 0);
  for (size_t i = 0; i < n; i++) {
    bool forged = n - i >= n_guard && memcmp(s + i, AII_GUARD, n_guard) == 0;
    if (!forged && !aii_vocab_spells_control(run->guard, s + i, n - i)) continue;
    aii_buf_add(&buf, s + from, i - from);
    aii_buf_str(&buf, forged ? "\xEF\xBF\xBD" : AII_GUARD);
    if (forged) i += n_guard - 1;
    from = forged ? i + 1 : i;
  }
  if (buf.len == 0 && !buf.failed) { /* nearly always */
    aii_buf_free(&buf);
    return aii_tv_copy(run, s, n, out);
  }
  aii_buf_add(&buf, s + from, n - from);
  return aii_tv_from_buf(run, &buf, out);
}

static bool from_json(aii_trun *run, const json_t *json, aii_tv *out)
{
  const char *key;
  json_t *value;
  size_t i;
  aii_tv item, name;
  switch (json_typeof(json)) {
    case JSON_NULL: *out = aii_tv_none(); return true;
    case JSON_TRUE: *out = aii_tv_bool(true); return true;
    case JSON_FALSE: *out = aii_tv_bool(false); return true;
    case JSON_INTEGER: *out = aii_tv_int(json_integer_value(json)); return true;
    case JSON_REAL: *out = aii_tv_float(json_real_value(json)); return true;
    case JSON_STRING: return outside(run, json_string_value(json), json_string_length(json), out);
    case JSON_ARRAY:
      if (!aii_tv_list(run, json_array_size(json), out)) return false;
      json_array_foreach(json, i, value)
      {
        if (!from_json(run, value, &item) || !aii_tv_append(run, out->list, item)) return false;
      }
      return true;
    case JSON_OBJECT:
      if (!aii_tv_map(run, out)) return false;
      json_object_foreach((json_t *)(uintptr_t)json, key, value)
      {
        if (!outside(run, key, strlen(key), &name) || !from_json(run, value, &item) ||
            !aii_tv_put(run, out->map, name, item)) {
          return false;
        }
      }
      return true;
    default: return aii_t_fail(run, AIINFRA_EINTERNAL, "unknown JSON type");
  }
}

bool aii_tv_from_json(aii_trun *run, const char *text, const char *what, aii_tv *out)
{
  json_t *json;
  aiinfra_status rc = aii_json_parse(text, strlen(text), what, AII_T_MAX_JSON_DEPTH, &json, run->err);
  if (rc != AIINFRA_OK) {
    run->rc = rc;
    return false;
  }
  bool ok = from_json(run, json, out);
  json_decref(json);
  return ok;
}
