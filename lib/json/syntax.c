/* syntax.c - is this text JSON? Decided without allocating, by a machine with a bounded stack of bits (RFC 8259).
 *
 * jansson reports some failed allocations as syntax errors. After a failure this tells the two apart: when the text is
 * well formed, memory was what failed.
 */
#include "lib/json/json.h"

typedef struct cursor {
  const unsigned char *at, *end;
} cursor;

static void skip_space(cursor *c)
{
  while (c->at < c->end && (*c->at == ' ' || *c->at == '\t' || *c->at == '\n' || *c->at == '\r')) c->at++;
}

static bool take(cursor *c, unsigned char byte)
{
  if (c->at == c->end || *c->at != byte) return false;
  c->at++;
  return true;
}

static bool take_hex4(cursor *c, uint32_t *value)
{
  static const char digits[] = "0123456789abcdef";
  *value = 0;
  for (int i = 0; i < 4; i++, c->at++) {
    if (c->at == c->end || *c->at == '\0') return false;
    const char *digit = strchr(digits, *c->at >= 'A' && *c->at <= 'F' ? *c->at + ('a' - 'A') : *c->at);
    if (digit == NULL) return false;
    *value = *value << 4 | (uint32_t)(digit - digits);
  }
  return true;
}

/* Behind the backslash. Surrogates come in pairs. */
static bool take_escape(cursor *c)
{
  uint32_t first, second;
  if (c->at == c->end) return false;
  unsigned char kind = *c->at++;
  if (kind != 'u') return memchr("\"\\/bfnrt", kind, 8) != NULL;
  if (!take_hex4(c, &first)) return false;
  if (first < 0xD800 || first > 0xDFFF) return true;
  return first < 0xDC00 && take(c, '\\') && take(c, 'u') && take_hex4(c, &second) && second >= 0xDC00 &&
         second <= 0xDFFF;
}

static bool take_string(cursor *c)
{
  if (!take(c, '"')) return false;
  const unsigned char *start = c->at;
  while (c->at < c->end && *c->at != '"') {
    unsigned char byte = *c->at++;
    if (byte < 0x20 || (byte == '\\' && !take_escape(c))) return false;
  }
  return c->at < c->end && aii_utf8_valid((const char *)start, (size_t)(c->at - start)) && take(c, '"');
}

static bool take_digits(cursor *c)
{
  const unsigned char *start = c->at;
  while (c->at < c->end && *c->at >= '0' && *c->at <= '9') c->at++;
  return c->at > start;
}

static bool take_number(cursor *c)
{
  (void)take(c, '-');
  if (!take(c, '0') && !take_digits(c)) return false;
  if (take(c, '.') && !take_digits(c)) return false;
  if (!take(c, 'e') && !take(c, 'E')) return true;
  if (!take(c, '+')) (void)take(c, '-');
  return take_digits(c);
}

static bool take_scalar(cursor *c)
{
  static const char *const words[] = {"true", "false", "null"};
  if (c->at < c->end && *c->at == '"') return take_string(c);
  for (size_t i = 0; i < AII_COUNT(words); i++) {
    size_t n = strlen(words[i]);
    if ((size_t)(c->end - c->at) < n || memcmp(c->at, words[i], n) != 0) continue;
    c->at += n;
    return true;
  }
  return take_number(c);
}

static bool take_key(cursor *c)
{
  skip_space(c);
  if (!take_string(c)) return false;
  skip_space(c);
  return take(c, ':');
}

/* After a value: closes what ends here, then wants a comma or the end of the text. false: neither. */
static bool take_closings(cursor *c, const uint8_t *is_object, uint32_t *depth)
{
  for (skip_space(c); *depth > 0; skip_space(c)) {
    bool object = is_object[*depth - 1] != 0;
    if (take(c, object ? '}' : ']')) {
      (*depth)--;
    } else {
      return take(c, ',') && (!object || take_key(c));
    }
  }
  return c->at == c->end;
}

bool aii_json_well_formed(const char *text, size_t n)
{
  uint8_t is_object[AII_JSON_MAX_DEPTH];
  uint32_t depth = 0;
  cursor c = {(const unsigned char *)text, (const unsigned char *)text + n};
  do {
    skip_space(&c);
    bool object = take(&c, '{');
    if (object || take(&c, '[')) {
      if (depth == AII_JSON_MAX_DEPTH) return false;
      skip_space(&c);
      is_object[depth++] = object;
      bool empty = c.at < c.end && *c.at == (object ? '}' : ']');
      if (!empty && object && !take_key(&c)) return false;
      if (!empty) continue;
    } else if (!take_scalar(&c)) {
      return false;
    }
    if (!take_closings(&c, is_object, &depth)) return false;
  } while (depth > 0);
  return c.at == c.end;
}
