/* tmpl_text.c - values as text: str() and repr() as Python prints them, and tojson as Hugging Face has it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/text/tmpl_impl.h"

/* Python's repr of a float: the shortest digits that read back the same, exponent form outside 1e-4..1e16. */
void aii_tv_write_float(double f, aii_buf *buf)
{
  char text[40], digits[24];
  if (isnan(f) || isinf(f)) {
    aii_buf_str(buf, isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
    return;
  }
  int precision = 0;
  do {
    snprintf(text, sizeof text, "%.*e", precision, f);
  } while (strtod(text, NULL) != f && ++precision < 17);
  size_t n = 0;
  const char *e = strchr(text, 'e');
  for (const char *c = text; c < e; c++) {
    if (*c >= '0' && *c <= '9') digits[n++] = *c;
  }
  int exponent = (int)strtol(e + 1, NULL, 10);
  if (signbit(f)) aii_buf_char(buf, '-');
  if (exponent < -4 || exponent >= 16) {
    aii_buf_char(buf, digits[0]);
    if (n > 1) aii_buf_char(buf, '.');
    aii_buf_add(buf, digits + 1, n - 1);
    aii_buf_str(buf, e);
  } else if (exponent < 0) {
    aii_buf_str(buf, "0.");
    for (int i = -1; i > exponent; i--) aii_buf_char(buf, '0');
    aii_buf_add(buf, digits, n);
  } else {
    for (int i = 0; i <= exponent; i++) aii_buf_char(buf, (size_t)i < n ? digits[i] : '0');
    aii_buf_char(buf, '.');
    if (n > (size_t)exponent + 1) {
      aii_buf_add(buf, digits + exponent + 1, n - (size_t)exponent - 1);
    } else {
      aii_buf_char(buf, '0');
    }
  }
}

static void write_repr(aii_tv s, aii_buf *buf)
{
  char quote = s.n > 0 && memchr(s.s, '\'', s.n) != NULL && memchr(s.s, '"', s.n) == NULL ? '"' : '\'';
  aii_buf_char(buf, quote);
  for (size_t i = 0; i < s.n; i++) {
    char c = s.s[i];
    if (c == quote || c == '\\') {
      aii_buf_char(buf, '\\');
      aii_buf_char(buf, c);
    } else if (c == '\n' || c == '\r' || c == '\t') {
      aii_buf_str(buf, c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t");
    } else if ((uint8_t)c < 0x20 || c == 0x7F) {
      aii_buf_fmt(buf, "\\x%02x", (uint8_t)c);
    } else {
      aii_buf_char(buf, c);
    }
  }
  aii_buf_char(buf, quote);
}

static bool write_list(aii_trun *run, aii_tv v, aii_buf *buf)
{
  bool tuple = v.look == TL_TUPLE;
  aii_buf_char(buf, tuple ? '(' : '[');
  for (size_t i = 0; i < v.list->n; i++) {
    if (i > 0) aii_buf_str(buf, ", ");
    if (!aii_tv_write(run, v.list->items[i], buf, true)) return false;
  }
  if (tuple && v.list->n == 1) aii_buf_char(buf, ',');
  aii_buf_char(buf, tuple ? ')' : ']');
  return true;
}

static bool write_map(aii_trun *run, const aii_tmap *map, aii_buf *buf)
{
  aii_buf_char(buf, '{');
  for (size_t i = 0; i < map->n; i++) {
    if (i > 0) aii_buf_str(buf, ", ");
    if (!aii_tv_write(run, map->keys[i], buf, true)) return false;
    aii_buf_str(buf, ": ");
    if (!aii_tv_write(run, map->values[i], buf, true)) return false;
  }
  aii_buf_char(buf, '}');
  return true;
}

bool aii_tv_write(aii_trun *run, aii_tv v, aii_buf *buf, bool repr)
{
  bool ok = true;
  if (!aii_t_step(run, 1)) return false;
  switch (v.type) {
    case TV_UNDEFINED: aii_buf_str(buf, repr ? "Undefined" : ""); break;
    case TV_NONE: aii_buf_str(buf, "None"); break;
    case TV_BOOL: aii_buf_str(buf, v.b ? "True" : "False"); break;
    case TV_INT:
      run->steps += 4;
      aii_buf_fmt(buf, "%lld", (long long)v.i);
      break;
    case TV_FLOAT:
      run->steps += 200;
      aii_tv_write_float(v.f, buf);
      break;
    case TV_STR:
      if (repr) {
        write_repr(v, buf);
      } else {
        aii_buf_add(buf, v.s, v.n);
      }
      break;
    case TV_LIST:
    case TV_MAP:
      if (++run->depth > AII_T_MAX_DEPTH) return aii_t_fail(run, AIINFRA_ELIMIT, "values nested too deep");
      run->steps += 2;
      ok = v.type == TV_LIST ? write_list(run, v, buf) : write_map(run, v.map, buf);
      run->depth--;
      break;
    default: aii_buf_fmt(buf, "<%s>", aii_tv_type_name(v)); break;
  }
  if (buf->over) return aii_t_fail(run, AIINFRA_ELIMIT, "a text of more than %zu bytes", buf->max);
  return ok;
}

bool aii_tv_str(aii_trun *run, aii_tv v, aii_tv *out)
{
  if (v.type == TV_STR) {
    *out = v;
    return true;
  }
  aii_buf buf;
  aii_buf_init(&buf, run->mem, AII_T_MAX_OUTPUT);
  (void)aii_tv_write(run, v, &buf, false);
  return aii_tv_from_buf(run, &buf, out);
}

/* ---- JSON out ---------------------------------------------------------------------------------------------------- */

typedef struct json_style {
  int64_t indent; /* -1: one line */
  bool ascii, sort_keys;
  aii_tv item_sep, key_sep;
} json_style;

static void json_string(aii_tv s, bool ascii, aii_buf *buf)
{
  static const char from[] = "\"\\\n\r\t\b\f", to[] = "\"\\nrtbf";
  aii_buf_char(buf, '"');
  for (size_t i = 0; i < s.n;) {
    char c = s.s[i];
    const char *known = c != '\0' ? strchr(from, c) : NULL;
    uint32_t cp = 0;
    int len = (c & 0x80) != 0 ? aii_utf8_decode(s.s + i, s.n - i, &cp) : 1;
    if (known != NULL) {
      aii_buf_char(buf, '\\');
      aii_buf_char(buf, to[known - from]);
    } else if ((uint8_t)c < 0x20) {
      aii_buf_fmt(buf, "\\u%04x", (uint8_t)c);
    } else if (len <= 0) {
      aii_buf_str(buf, "\xEF\xBF\xBD");
      len = 1;
    } else if (ascii && len > 1) {
      if (cp >= 0x10000) aii_buf_fmt(buf, "\\u%04x", 0xD7C0u + (cp >> 10));
      aii_buf_fmt(buf, "\\u%04x", cp >= 0x10000 ? 0xDC00u + (cp & 0x3FF) : cp);
    } else {
      aii_buf_add(buf, s.s + i, (size_t)len);
    }
    i += (size_t)len;
  }
  aii_buf_char(buf, '"');
}

static void new_line(const json_style *style, int64_t level, aii_buf *buf)
{
  if (style->indent < 0) return;
  aii_buf_char(buf, '\n');
  for (int64_t i = 0; i < level * style->indent; i++) aii_buf_char(buf, ' ');
}

static bool write_json(aii_trun *run, aii_tv v, const json_style *style, int64_t level, aii_buf *buf);

static bool json_list(aii_trun *run, const aii_tlist *list, const json_style *style, int64_t level, aii_buf *buf)
{
  aii_buf_char(buf, '[');
  for (size_t i = 0; i < list->n; i++) {
    if (i > 0) aii_buf_add(buf, style->item_sep.s, style->item_sep.n);
    new_line(style, level + 1, buf);
    if (!write_json(run, list->items[i], style, level + 1, buf)) return false;
  }
  if (list->n > 0) new_line(style, level, buf);
  aii_buf_char(buf, ']');
  return true;
}

/* The index of the smallest key after `last` in order; used only with sort_keys. */
static size_t next_key(const aii_tmap *map, const aii_tv *last)
{
  size_t best = map->n;
  for (size_t i = 0; i < map->n; i++) {
    const aii_tv *k = &map->keys[i], *b = best < map->n ? &map->keys[best] : NULL;
    if (k->type != TV_STR) continue;
    int after = last == NULL ? 1 : memcmp(k->s, last->s, AII_MIN(k->n, last->n));
    if (last != NULL && after == 0) after = k->n > last->n;
    int before = b == NULL ? -1 : memcmp(k->s, b->s, AII_MIN(k->n, b->n));
    if (b != NULL && before == 0) before = k->n < b->n ? -1 : 1;
    if (after > 0 && before < 0) best = i;
  }
  return best;
}

static bool json_key(aii_trun *run, aii_tv key, const json_style *style, aii_buf *buf)
{
  if (key.type == TV_STR) {
    json_string(key, style->ascii, buf);
    return true;
  }
  aii_buf_char(buf, '"');
  bool ok = write_json(run, key, style, 0, buf);
  aii_buf_char(buf, '"');
  return ok;
}

static bool json_map(aii_trun *run, const aii_tmap *map, const json_style *style, int64_t level, aii_buf *buf)
{
  const aii_tv *last = NULL;
  aii_buf_char(buf, '{');
  for (size_t n = 0; n < map->n; n++) {
    size_t i = style->sort_keys ? next_key(map, last) : n;
    if (i == map->n) break;
    last = &map->keys[i];
    if (n > 0) aii_buf_add(buf, style->item_sep.s, style->item_sep.n);
    new_line(style, level + 1, buf);
    if (!json_key(run, map->keys[i], style, buf)) return false;
    aii_buf_add(buf, style->key_sep.s, style->key_sep.n);
    if (!write_json(run, map->values[i], style, level + 1, buf)) return false;
  }
  if (map->n > 0) new_line(style, level, buf);
  aii_buf_char(buf, '}');
  return true;
}

static bool write_json(aii_trun *run, aii_tv v, const json_style *style, int64_t level, aii_buf *buf)
{
  bool ok = true;
  if (!aii_t_step(run, 1)) return false;
  if (v.type == TV_LIST && !aii_tv_indexed(v))
    return aii_t_fail(run, AIINFRA_EINVAL,
                      "tojson: a generator or view is no JSON value; the filter list makes it one");
  switch (v.type) {
    case TV_NONE: aii_buf_str(buf, "null"); break;
    case TV_BOOL: aii_buf_str(buf, v.b ? "true" : "false"); break;
    case TV_STR:
      run->steps += v.n / 4;
      json_string(v, style->ascii, buf);
      break;
    case TV_INT:
    case TV_FLOAT: return aii_tv_write(run, v, buf, false);
    case TV_LIST:
    case TV_MAP:
      if (++run->depth > AII_T_MAX_DEPTH) return aii_t_fail(run, AIINFRA_ELIMIT, "values nested too deep");
      run->steps += 2 + (style->indent > 0 ? (size_t)(level * style->indent) / 8 : 0);
      ok = v.type == TV_LIST ? json_list(run, v.list, style, level, buf) : json_map(run, v.map, style, level, buf);
      run->depth--;
      break;
    default: return aii_t_fail(run, AIINFRA_EINVAL, "tojson: %s is no JSON value", aii_tv_type_name(v));
  }
  if (buf->over) return aii_t_fail(run, AIINFRA_ELIMIT, "a text of more than %zu bytes", buf->max);
  return ok;
}

bool aii_tv_tojson(aii_trun *run, aii_tv v, const aii_targs *args, aii_tv *out)
{
  const aii_tv *ascii = aii_t_arg(args, 0, "ensure_ascii"), *indent = aii_t_arg(args, 1, "indent");
  const aii_tv *seps = aii_t_arg(args, 2, "separators"), *sort = aii_t_arg(args, 3, "sort_keys");
  json_style style = {.indent = -1, .item_sep = aii_tv_lit(", "), .key_sep = aii_tv_lit(": ")};
  if (indent != NULL && indent->type == TV_INT && indent->i >= 0 && indent->i <= 32) {
    style.indent = indent->i;
    style.item_sep = aii_tv_lit(",");
  }
  style.ascii = ascii != NULL && aii_tv_truth(*ascii);
  style.sort_keys = sort != NULL && aii_tv_truth(*sort);
  if (seps != NULL && seps->type == TV_LIST && seps->list->n == 2 && seps->list->items[0].type == TV_STR &&
      seps->list->items[1].type == TV_STR) {
    style.item_sep = seps->list->items[0];
    style.key_sep = seps->list->items[1];
  }
  aii_buf buf;
  aii_buf_init(&buf, run->mem, AII_T_MAX_OUTPUT);
  (void)write_json(run, v, &style, 0, &buf);
  return aii_tv_from_buf(run, &buf, out);
}
