/* gram_json.c - rules of plain JSON: strings, numbers, and values of a bounded depth, in compact or one-space style.
 *
 * Formats that write values in a way of their own say so in the builder: which characters a string escapes, what stands
 * around it, whether keys are bare words.
 */
#include "src/text/gram_impl.h"

/* \uXXXX that is a character: surrogates only in pairs. */
static uint32_t unicode_escape(aii_gb *b)
{
  uint32_t x1 = aii_gb_chars(b, "09afAF", 0), x2 = aii_gb_chars(b, "09afAF", x1), x3 = aii_gb_chars(b, "09afAF", x2);
  uint32_t plain = aii_gb_chars(b, "09acACefEF", x3), low_d = aii_gb_chars(b, "ddDD", aii_gb_chars(b, "07", x2));
  uint32_t second = aii_gb_str(b, "\\u", aii_gb_chars(b, "ddDD", aii_gb_chars(b, "cfCF", x2)));
  uint32_t y1 = aii_gb_chars(b, "09afAF", second), y2 = aii_gb_chars(b, "09afAF", y1);
  uint32_t pair = aii_gb_chars(b, "ddDD", aii_gb_chars(b, "89abAB", y2));
  return aii_gb_chars(b, "uu", aii_gb_split(b, plain, aii_gb_split(b, low_d, pair)));
}

size_t aii_gj_plain(const aii_gb *b, aii_range out[8])
{
  static const aii_range json[] = {{0x20, 0x21}, {0x23, 0x5B}, {0x5D, 0x7E}, {0x80, 0x10FFFF}};
  static const aii_range raw[] = {{'\t', '\t'}, {'\n', '\n'}, {0x20, 0x7E}, {0x80, 0x10FFFF}};
  uint32_t avoid = (uint8_t)b->avoid;
  size_t n = 0;
  for (size_t i = 0; i < AII_COUNT(raw); i++) {
    aii_range r = b->raw ? raw[i] : json[i];
    if (b->raw && i == 1 && !b->newline) continue;
    bool split = avoid > r.first && avoid <= r.last;
    if (split) out[n++] = (aii_range){r.first, avoid - 1};
    if (split || (avoid == r.first && avoid != 0)) r.first = avoid + 1;
    if (r.first <= r.last) out[n++] = r;
  }
  return n;
}

uint32_t aii_gj_char(aii_gb *b)
{
  uint32_t *slot = b->raw ? &b->raw_chr : &b->chr;
  aii_range plain[8];
  if (*slot != AII_G_NONE) return *slot;
  uint32_t rule = *slot = aii_gb_rule(b);
  uint32_t entry = aii_gb_ranges(b, plain, aii_gj_plain(b, plain), 0);
  if (!b->raw) {
    uint32_t escape = aii_gb_chars(b, b->words ? "\"\"\\\\nnrrtt" : "\"\"\\\\//bbffnnrrtt", 0);
    if (!b->words) escape = aii_gb_split(b, escape, unicode_escape(b));
    entry = aii_gb_split(b, entry, aii_gb_str(b, "\\", escape));
  }
  aii_gb_define(b, rule, entry);
  return rule;
}

uint32_t aii_gj_string(aii_gb *b)
{
  if (b->string != AII_G_NONE) return b->string;
  uint32_t rule = b->string = aii_gb_rule(b);
  if (b->never != NULL) {
    const char *quote = b->quote != NULL ? b->quote : "\"";
    aii_gb_define(b, rule, aii_gb_str(b, quote, aii_gj_until(b, quote, "", 0)));
  } else {
    uint32_t chars = aii_gb_repeat_call(b, aii_gj_char(b), 0, AII_G_NONE, aii_gb_str(b, "\"", 0));
    aii_gb_define(b, rule, aii_gb_str(b, "\"", chars));
  }
  return rule;
}

uint32_t aii_gj_identifier(aii_gb *b, uint32_t next)
{
  uint32_t loop = aii_gb_split(b, next, next), again = aii_gb_chars(b, "azAZ09__", loop);
  if (b->rc == AIINFRA_OK) b->g->nodes[loop].a = again;
  return aii_gb_chars(b, "azAZ__", loop);
}

uint32_t aii_gj_key(aii_gb *b, uint32_t next)
{
  return b->bare_keys ? aii_gj_identifier(b, next) : aii_gb_call(b, aii_gj_string(b), next);
}

uint32_t aii_gj_dumped(aii_gb *b, const char *json, size_t n, uint32_t next)
{
  aii_buf text;
  bool in_string = false;
  aii_buf_init(&text, b->g->mem, 0);
  for (size_t i = 0; i < n; i++) {
    if (in_string && json[i] == b->avoid && !b->words) {
      aii_buf_fmt(&text, "\\u%04x", (unsigned)(uint8_t)b->avoid);
      continue;
    }
    if (json[i] == '"') in_string = !in_string;
    aii_buf_char(&text, json[i]);
    if (json[i] != '\\' || i + 1 == n) continue;
    if (b->words && strchr("\"\\nrt", json[i + 1]) == NULL)
      (void)aii_gb_fail(b, AIINFRA_ENOTSUP, "a control character cannot be written in calls of this model");
    aii_buf_char(&text, json[++i]);
  }
  if (text.failed) (void)aii_gb_fail(b, AIINFRA_ENOMEM, "no memory");
  if (b->never != NULL && strstr(aii_buf_cstr(&text), b->never) != NULL)
    (void)aii_gb_fail(b, AIINFRA_ENOTSUP, "\"%.40s\" cannot be written in calls of this model", b->never);
  next = aii_gb_bytes(b, aii_buf_cstr(&text), text.len, next);
  aii_buf_free(&text);
  return next;
}

/* min to max digits; NONE is not meant here. */
static uint32_t digits(aii_gb *b, uint32_t min, uint32_t max, uint32_t next)
{
  uint32_t at = next;
  for (uint32_t i = min; i < max; i++) at = aii_gb_split(b, aii_gb_chars(b, "09", at), next);
  for (uint32_t i = 0; i < min; i++) at = aii_gb_chars(b, "09", at);
  return at;
}

static uint32_t integral(aii_gb *b, uint32_t next)
{
  uint32_t whole = aii_gb_split(b, aii_gb_str(b, "0", next), aii_gb_chars(b, "19", digits(b, 0, 15, next)));
  return aii_gb_split(b, aii_gb_str(b, "-", whole), whole);
}

uint32_t aii_gj_integer(aii_gb *b)
{
  if (b->integer != AII_G_NONE) return b->integer;
  b->integer = aii_gb_rule(b);
  aii_gb_define(b, b->integer, integral(b, 0));
  return b->integer;
}

uint32_t aii_gj_number(aii_gb *b)
{
  if (b->number != AII_G_NONE) return b->number;
  b->number = aii_gb_rule(b);
  /* three digits of exponent could leave the range of a double */
  uint32_t power = digits(b, 1, 2, 0), sign = aii_gb_split(b, aii_gb_chars(b, "++--", power), power);
  uint32_t exponent = aii_gb_split(b, aii_gb_chars(b, "eeEE", sign), 0);
  uint32_t fraction = aii_gb_split(b, aii_gb_str(b, ".", digits(b, 1, 16, exponent)), exponent);
  aii_gb_define(b, b->number, integral(b, fraction));
  return b->number;
}

uint32_t aii_gj_boolean(aii_gb *b)
{
  if (b->boolean != AII_G_NONE) return b->boolean;
  b->boolean = aii_gb_rule(b);
  uint32_t yes = aii_gb_str(b, "true", 0), no = aii_gb_str(b, "false", 0);
  if (b->words)
    yes = aii_gb_split(b, yes, aii_gb_str(b, "True", 0)), no = aii_gb_split(b, no, aii_gb_str(b, "False", 0));
  aii_gb_define(b, b->boolean, aii_gb_split(b, yes, no));
  return b->boolean;
}

uint32_t aii_gj_null(aii_gb *b)
{
  if (b->null != AII_G_NONE) return b->null;
  b->null = aii_gb_rule(b);
  uint32_t null = aii_gb_str(b, "null", 0);
  aii_gb_define(b, b->null, b->words ? aii_gb_split(b, null, aii_gb_str(b, "None", 0)) : null);
  return b->null;
}

uint32_t aii_gj_object(aii_gb *b, uint32_t depth)
{
  if (b->object[depth] != AII_G_NONE) return b->object[depth];
  uint32_t rule = b->object[depth] = aii_gb_rule(b);
  uint32_t close = aii_gb_space(b, aii_gb_str(b, "}", 0)), loop = aii_gb_split(b, close, close);
  uint32_t value = aii_gb_call(b, aii_gj_value(b, depth + 1), loop);
  uint32_t member = aii_gj_key(b, aii_gb_str(b, ":", aii_gb_space(b, value)));
  uint32_t more = aii_gb_str(b, ",", aii_gb_space(b, member));
  if (b->rc == AIINFRA_OK) b->g->nodes[loop].a = more;
  aii_gb_define(b, rule, aii_gb_str(b, "{", aii_gb_space(b, aii_gb_split(b, member, aii_gb_str(b, "}", 0)))));
  return rule;
}

uint32_t aii_gj_array(aii_gb *b, uint32_t depth)
{
  if (b->array[depth] != AII_G_NONE) return b->array[depth];
  uint32_t rule = b->array[depth] = aii_gb_rule(b);
  uint32_t close = aii_gb_space(b, aii_gb_str(b, "]", 0)), loop = aii_gb_split(b, close, close);
  uint32_t value = aii_gb_call(b, aii_gj_value(b, depth + 1), loop);
  uint32_t more = aii_gb_str(b, ",", aii_gb_space(b, value));
  if (b->rc == AIINFRA_OK) b->g->nodes[loop].a = more;
  aii_gb_define(b, rule, aii_gb_str(b, "[", aii_gb_space(b, aii_gb_split(b, value, aii_gb_str(b, "]", 0)))));
  return rule;
}

uint32_t aii_gj_value(aii_gb *b, uint32_t depth)
{
  if (depth > AII_G_JSON_DEPTH) depth = AII_G_JSON_DEPTH;
  if (b->value[depth] != AII_G_NONE) return b->value[depth];
  uint32_t rule = b->value[depth] = aii_gb_rule(b);
  uint32_t any = aii_gb_split(b, aii_gb_call(b, aii_gj_string(b), 0), aii_gb_call(b, aii_gj_number(b), 0));
  any = aii_gb_split(b, any, aii_gb_split(b, aii_gb_call(b, aii_gj_boolean(b), 0), aii_gb_call(b, aii_gj_null(b), 0)));
  if (depth < AII_G_JSON_DEPTH) { /* at the bottom only scalars: this ends the recursion */
    uint32_t object = aii_gb_call(b, aii_gj_object(b, depth), 0), array = aii_gb_call(b, aii_gj_array(b, depth), 0);
    any = aii_gb_split(b, any, aii_gb_split(b, object, array));
  }
  aii_gb_define(b, rule, any);
  return rule;
}
