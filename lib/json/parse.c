/* parse.c - JSON text (RFC 8259) to jansson values: bounded, without recursion, sure-footed when memory runs out.
 *
 * jansson's own reader asserts, or reports a syntax error, when an allocation fails inside a string; its constructors
 * do neither. So the text is read here, by a machine with a stack of open containers, and only the values are jansson's.
 * Values join their container as soon as they are complete or opened: freeing the root frees everything.
 */
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/json/json.h"

enum { NUMBER_MAX_BYTES = 512 }; /* more digits than any double or 64-bit integer needs */

typedef struct reader {
  const char *text, *at, *end, *what;
  json_t *open[AII_JSON_MAX_DEPTH]; /* borrowed: containers not yet closed, outermost first */
  uint32_t depth, max_depth;
  json_t *root;
  const char *key; /* of the next member; points into the text or to own_key */
  size_t key_n;
  char *own_key; /* a key with escapes, decoded */
  aiinfra_error *err;
} reader;

static aiinfra_status no_memory(const reader *r)
{
  return aii_fail(r->err, AIINFRA_ENOMEM, "%s: no memory for JSON", r->what);
}

static aiinfra_status malformed(const reader *r, const char *problem)
{
  int line = 1, column = 1;
  for (const char *p = r->text; p < r->at; p++) {
    column = *p == '\n' ? 1 : column + 1;
    line += *p == '\n';
  }
  return aii_fail(r->err, AIINFRA_EFORMAT, "%s: line %d, column %d: %s", r->what, line, column, problem);
}

static void skip_space(reader *r)
{
  while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r')) r->at++;
}

static bool take(reader *r, char c)
{
  if (r->at == r->end || *r->at != c) return false;
  r->at++;
  return true;
}

/* ---- strings -------------------------------------------------------------------------------------------------- */

static bool take_hex4(reader *r, uint32_t *value)
{
  *value = 0;
  for (int i = 0; i < 4; i++, r->at++) {
    if (r->at == r->end) return false;
    char c = *r->at;
    uint32_t digit;
    if (c >= '0' && c <= '9') digit = (uint32_t)(c - '0');
    else if (c >= 'a' && c <= 'f') digit = (uint32_t)(c - 'a' + 10);
    else if (c >= 'A' && c <= 'F') digit = (uint32_t)(c - 'A' + 10);
    else return false;
    *value = *value << 4 | digit;
  }
  return true;
}

/* Behind "\u": a code point, from two escapes when it is a pair of surrogates. */
static bool take_unicode(reader *r, uint32_t *cp)
{
  uint32_t low;
  if (!take_hex4(r, cp)) return false;
  if (*cp < 0xD800 || *cp > 0xDFFF) return true;
  if (*cp > 0xDBFF || !take(r, '\\') || !take(r, 'u') || !take_hex4(r, &low)) return false;
  if (low < 0xDC00 || low > 0xDFFF) return false;
  *cp = 0x10000 + ((*cp - 0xD800) << 10) + (low - 0xDC00);
  return true;
}

/* Decodes the escapes between here and the closing quote into out, which is as long as the text can get. */
static aiinfra_status decode_string(reader *r, char *out, size_t *n)
{
  static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
  *n = 0;
  while (*r->at != '"') {
    if (*r->at != '\\') {
      out[(*n)++] = *r->at++;
      continue;
    }
    const char *escape = r->at++;
    const char *letter = memchr(letters, *r->at, sizeof letters - 1);
    uint32_t cp;
    if (letter != NULL) {
      out[(*n)++] = meant[letter - letters];
      r->at++;
    } else if (take(r, 'u') && take_unicode(r, &cp)) {
      *n += aii_utf8_encode(cp, out + *n);
    } else {
      r->at = escape;
      return malformed(r, "an escape that JSON does not have, or half of a surrogate pair");
    }
  }
  return AIINFRA_OK;
}

/* A string, the opening quote is taken. Without escapes it stays in the text and *owned is NULL. */
static aiinfra_status read_string(reader *r, const char **s, size_t *n, char **owned)
{
  bool escapes = false;
  const char *start = r->at, *at = r->at;
  *owned = NULL;
  for (; at < r->end && *at != '"'; at++) {
    if ((unsigned char)*at < 0x20) {
      r->at = at;
      return malformed(r, "a control character inside a string");
    }
    if (*at == '\\') {
      escapes = true;
      at++;
    }
  }
  if (at >= r->end) return malformed(r, "a string that does not end");
  if (!aii_utf8_valid(start, (size_t)(at - start))) return malformed(r, "a string that is not UTF-8");
  *s = start;
  *n = (size_t)(at - start);
  if (escapes) {
    *owned = malloc(*n + 1);
    if (*owned == NULL) return no_memory(r);
    aiinfra_status rc = decode_string(r, *owned, n);
    if (rc != AIINFRA_OK) {
      free(*owned);
      *owned = NULL;
      return rc;
    }
    *s = *owned;
  }
  r->at = at + 1;
  return AIINFRA_OK;
}

static aiinfra_status read_string_value(reader *r, json_t **out)
{
  const char *s;
  size_t n;
  char *owned;
  aiinfra_status rc = read_string(r, &s, &n, &owned);
  if (rc != AIINFRA_OK) return rc;
  *out = json_stringn_nocheck(s, n);
  free(owned);
  return *out != NULL ? AIINFRA_OK : no_memory(r);
}

static aiinfra_status read_key(reader *r)
{
  skip_space(r);
  if (!take(r, '"')) return malformed(r, "a key in quotes is missing");
  aiinfra_status rc = read_string(r, &r->key, &r->key_n, &r->own_key);
  if (rc != AIINFRA_OK) return rc;
  if (memchr(r->key, '\0', r->key_n) != NULL) return malformed(r, "a key with a NUL character");
  skip_space(r);
  return take(r, ':') ? AIINFRA_OK : malformed(r, "a ':' is missing behind the key");
}

/* ---- numbers and words ---------------------------------------------------------------------------------------- */

static bool take_digits(reader *r)
{
  const char *start = r->at;
  while (r->at < r->end && *r->at >= '0' && *r->at <= '9') r->at++;
  return r->at > start;
}

/* strtod() wants the decimal point of the host's locale. */
static double to_double(char *digits)
{
  char *point = strchr(digits, '.');
  if (point != NULL) *point = localeconv()->decimal_point[0];
  return strtod(digits, NULL);
}

static aiinfra_status read_number(reader *r, json_t **out)
{
  const char *start = r->at;
  char digits[NUMBER_MAX_BYTES];
  (void)take(r, '-');
  if (!take(r, '0') && !take_digits(r)) return malformed(r, "a value is missing");
  bool real = take(r, '.');
  if (real && !take_digits(r)) return malformed(r, "a digit is missing behind the decimal point");
  if (take(r, 'e') || take(r, 'E')) {
    real = true;
    if (!take(r, '+')) (void)take(r, '-');
    if (!take_digits(r)) return malformed(r, "a digit is missing in the exponent");
  }
  size_t n = (size_t)(r->at - start);
  if (n >= sizeof digits) return malformed(r, "a number with too many digits");
  memcpy(digits, start, n);
  digits[n] = '\0';
  errno = 0;
  long long integer = real ? 0 : strtoll(digits, NULL, 10);
  if (real || errno == ERANGE) {
    double value = to_double(digits);
    if (!isfinite(value)) return malformed(r, "a number beyond the range of a double");
    *out = json_real(value);
  } else {
    *out = json_integer(integer);
  }
  return *out != NULL ? AIINFRA_OK : no_memory(r);
}

static bool take_word(reader *r, const char *word)
{
  size_t n = strlen(word);
  if ((size_t)(r->end - r->at) < n || memcmp(r->at, word, n) != 0) return false;
  r->at += n;
  return true;
}

/* ---- values --------------------------------------------------------------------------------------------------- */

static aiinfra_status read_value(reader *r, json_t **out)
{
  if (take(r, '"')) return read_string_value(r, out);
  if (take(r, '{')) *out = json_object();
  else if (take(r, '[')) *out = json_array();
  else if (take_word(r, "true")) *out = json_true();
  else if (take_word(r, "false")) *out = json_false();
  else if (take_word(r, "null")) *out = json_null();
  else return read_number(r, out);
  return *out != NULL ? AIINFRA_OK : no_memory(r);
}

/* Hands the value to the innermost open container, or makes it the root. Takes the reference in any case. */
static aiinfra_status attach(reader *r, json_t *value)
{
  if (r->depth == 0) {
    r->root = value;
    return AIINFRA_OK;
  }
  json_t *into = r->open[r->depth - 1];
  int failed = json_is_object(into) ? json_object_setn_new_nocheck(into, r->key, r->key_n, value)
                                    : json_array_append_new(into, value);
  free(r->own_key);
  r->own_key = NULL;
  return failed == 0 ? AIINFRA_OK : no_memory(r);
}

/* Behind a value: closes the containers that end here; then either the text ends or a comma asks for the next one. */
static aiinfra_status close_containers(reader *r)
{
  for (skip_space(r); r->depth > 0; skip_space(r)) {
    bool object = json_is_object(r->open[r->depth - 1]);
    if (take(r, object ? '}' : ']')) {
      r->depth--;
    } else if (!take(r, ',')) {
      return malformed(r, object ? "a ',' or '}' is missing" : "a ',' or ']' is missing");
    } else {
      return object ? read_key(r) : AIINFRA_OK;
    }
  }
  return r->at == r->end ? AIINFRA_OK : malformed(r, "something behind the end of the JSON value");
}

/* One value with what closes behind it; a container only opens. */
static aiinfra_status read_step(reader *r)
{
  json_t *value = NULL;
  skip_space(r);
  aiinfra_status rc = read_value(r, &value);
  if (rc == AIINFRA_OK) rc = attach(r, value);
  if (rc != AIINFRA_OK) return rc;
  if (json_is_object(value) || json_is_array(value)) {
    if (r->depth == r->max_depth) {
      return aii_fail(r->err, AIINFRA_ELIMIT, "%s: JSON nested deeper than %u levels", r->what, r->max_depth);
    }
    r->open[r->depth++] = value;
    skip_space(r);
    bool empty = r->at < r->end && *r->at == (json_is_object(value) ? '}' : ']');
    if (!empty) return json_is_object(value) ? read_key(r) : AIINFRA_OK;
  }
  return close_containers(r);
}

aiinfra_status aii_json_parse(const char *text, size_t n, const char *what, uint32_t max_depth, json_t **out,
                              aiinfra_error *err)
{
  *out = NULL;
  if (text == NULL) return aii_fail(err, AIINFRA_EINVAL, "%s: no JSON text", what);
  if (n > AII_JSON_MAX_BYTES) {
    return aii_fail(err, AIINFRA_ELIMIT, "%s: %zu bytes of JSON, more than the limit of %zu", what, n,
                    AII_JSON_MAX_BYTES);
  }
  reader r;
  memset(&r, 0, sizeof r);
  r.text = r.at = text;
  r.end = text + n;
  r.what = what;
  r.err = err;
  r.max_depth = max_depth == 0 ? AII_JSON_MAX_DEPTH : AII_MIN(max_depth, AII_JSON_MAX_DEPTH);
  aiinfra_status rc;
  do {
    rc = read_step(&r);
  } while (rc == AIINFRA_OK && r.depth > 0);
  free(r.own_key);
  if (rc != AIINFRA_OK) {
    json_decref(r.root);
    return rc;
  }
  *out = r.root;
  return AIINFRA_OK;
}
