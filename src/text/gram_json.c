/* gram_json.c - rules of plain JSON: strings, numbers, and values of a bounded depth, in compact or one-space style. */
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

uint32_t aii_gj_char(aii_gb *b)
{
  if (b->chr != AII_G_NONE) return b->chr;
  b->chr = aii_gb_rule(b);
  aii_range plain[] = {{0x20, 0x21}, {0x23, 0x5B}, {0x5D, 0x7E}, {0x80, 0x10FFFF}};
  uint32_t escape = aii_gb_split(b, aii_gb_chars(b, "\"\"\\\\//bbffnnrrtt", 0), unicode_escape(b));
  aii_gb_define(b, b->chr, aii_gb_split(b, aii_gb_ranges(b, plain, 4, 0), aii_gb_str(b, "\\", escape)));
  return b->chr;
}

uint32_t aii_gj_string(aii_gb *b)
{
  if (b->string != AII_G_NONE) return b->string;
  b->string = aii_gb_rule(b);
  uint32_t chars = aii_gb_repeat_call(b, aii_gj_char(b), 0, AII_G_NONE, aii_gb_str(b, "\"", 0));
  aii_gb_define(b, b->string, aii_gb_str(b, "\"", chars));
  return b->string;
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
  aii_gb_define(b, b->boolean, aii_gb_split(b, aii_gb_str(b, "true", 0), aii_gb_str(b, "false", 0)));
  return b->boolean;
}

uint32_t aii_gj_null(aii_gb *b)
{
  if (b->null != AII_G_NONE) return b->null;
  b->null = aii_gb_rule(b);
  aii_gb_define(b, b->null, aii_gb_str(b, "null", 0));
  return b->null;
}

uint32_t aii_gj_object(aii_gb *b, uint32_t depth)
{
  if (b->object[depth] != AII_G_NONE) return b->object[depth];
  uint32_t rule = b->object[depth] = aii_gb_rule(b);
  uint32_t close = aii_gb_space(b, aii_gb_str(b, "}", 0)), loop = aii_gb_split(b, close, close);
  uint32_t value = aii_gb_call(b, aii_gj_value(b, depth + 1), loop);
  uint32_t member = aii_gb_call(b, aii_gj_string(b), aii_gb_str(b, ":", aii_gb_space(b, value)));
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
