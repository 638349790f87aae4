/* json.c - JSON as text: a line for each value, named by the path of its keys.
 *
 *   [{"name": "Ann", "home": {"city": "Bern"}, "tags": ["a", "b"]}]   ->   name: Ann
 *                                                                          home.city: Bern
 *                                                                          tags: a, b
 *
 * A record is a block: an object that stands in an array, or a member of the outermost object. Several values behind
 * each other are read too (JSON lines). null is left out. A scanner without recursion, which keeps the bytes' places;
 * it is as strict as it must be to be sure that this is JSON.
 */
#include "src/retrieve/retrieve.h"

enum { MOST_LEVELS = 128, MOST_PATH = 512 };

typedef struct level {
  bool array;
  size_t path; /* the path's length outside of it */
} level;

typedef struct scanner {
  aii_loaded *doc;
  const char *s;
  size_t n, at;
  level levels[MOST_LEVELS];
  size_t depth;
  char path[MOST_PATH];
  size_t path_n;
  size_t block; /* where the record's text begins */
  bool inline_; /* the line is open: an array of scalars goes on on it */
} scanner;

static void skip_blank(scanner *j)
{
  while (j->at < j->n && j->s[j->at] != '\0' && strchr(" \t\r\n", j->s[j->at]) != NULL) j->at++;
}

static bool take(scanner *j, char c)
{
  skip_blank(j);
  if (j->at >= j->n || j->s[j->at] != c) return false;
  j->at++;
  return true;
}

static void end_line(scanner *j)
{
  if (j->inline_) aii_put_made(j->doc, "\n", 1, j->at, j->at);
  j->inline_ = false;
}

static void end_block(scanner *j)
{
  end_line(j);
  aii_put_block(j->doc, j->block, AII_BLOCK_LINES, 0);
  j->block = j->doc->text.len;
}

/* ---- strings ------------------------------------------------------------------------------------------------------- */

static bool hex4(const scanner *j, size_t at, uint32_t *out)
{
  *out = 0;
  for (size_t i = at; i < at + 4; i++) {
    char c = i < j->n ? j->s[i] : '\0';
    int digit = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
    if (digit < 0) return false;
    *out = *out << 4 | (uint32_t)digit;
  }
  return true;
}

/* The character of the escape at j->at, and how long it is; 0: malformed. */
static size_t escape(const scanner *j, char out[4], size_t *out_n)
{
  static const char from[] = "\"\\/bfnrt", to[] = "\"\\/ \f\n\r\t";
  uint32_t a, b;
  char c = j->at + 1 < j->n ? j->s[j->at + 1] : '\0';
  const char *known = c != '\0' ? strchr(from, c) : NULL;
  *out_n = 1;
  if (known != NULL) {
    out[0] = to[known - from];
    return 2;
  }
  if (c != 'u' || !hex4(j, j->at + 2, &a)) return 0;
  size_t used = 6;
  bool pair = a >= 0xD800 && a < 0xDC00 && j->at + 7 < j->n && j->s[j->at + 6] == '\\' && j->s[j->at + 7] == 'u';
  if (pair && hex4(j, j->at + 8, &b) && b >= 0xDC00 && b < 0xE000) {
    a = 0x10000 + ((a - 0xD800) << 10 | (b - 0xDC00));
    used = 12;
  }
  *out_n = a == 0 ? 0 : aii_utf8_encode(a, out);
  if (*out_n == 0) *out_n = aii_utf8_encode(0xFFFD, out);
  return used;
}

/* Reads the string behind its opening quote. To the document, or, when key is given, to there. */
static bool read_string(scanner *j, char *key, size_t *key_n, size_t key_cap)
{
  size_t from = j->at;
  for (;;) {
    unsigned char c = j->at < j->n ? (unsigned char)j->s[j->at] : 0;
    char made[4];
    size_t made_n = 0, used = 1;
    if (c < 0x20) return false;
    if (c != '"' && c != '\\') {
      j->at++;
      continue;
    }
    if (key == NULL) aii_put_exact(j->doc, j->s, from, j->at - from);
    else if (j->at - from <= key_cap - *key_n) memcpy(key + *key_n, j->s + from, j->at - from), *key_n += j->at - from;
    if (c == '\\') used = escape(j, made, &made_n);
    if (used == 0) return false;
    if (key == NULL) aii_put_made(j->doc, made, made_n, j->at, j->at + used);
    else if (made_n <= key_cap - *key_n) memcpy(key + *key_n, made, made_n), *key_n += made_n;
    j->at += used;
    from = j->at;
    if (c == '"') return true;
  }
}

/* ---- values -------------------------------------------------------------------------------------------------------- */

/* The name before a value, or what parts it from the one before it on the same line. */
static void name_value(scanner *j, size_t at)
{
  if (j->inline_) {
    aii_put_made(j->doc, ", ", 2, at, at);
    return;
  }
  aii_put_made(j->doc, j->path, j->path_n, at, at);
  if (j->path_n > 0) aii_put_made(j->doc, ": ", 2, at, at);
}

static bool read_bare(scanner *j)
{
  size_t from = j->at;
  while (j->at < j->n && j->s[j->at] != '\0' && strchr(" \t\r\n,]}", j->s[j->at]) == NULL) j->at++;
  size_t n = j->at - from;
  const char *s = j->s + from;
  if (n == 4 && memcmp(s, "null", 4) == 0) return true;
  bool word = (n == 4 && memcmp(s, "true", 4) == 0) || (n == 5 && memcmp(s, "false", 5) == 0);
  bool number = n > 0 && (s[0] == '-' || (s[0] >= '0' && s[0] <= '9'));
  for (size_t i = 0; number && i < n; i++) number = strchr("0123456789.eE+-", s[i]) != NULL;
  if (!word && !number) return false;
  name_value(j, from);
  aii_put_exact(j->doc, j->s, from, n);
  j->inline_ = true;
  return true;
}

static bool read_scalar(scanner *j)
{
  if (j->s[j->at] != '"') return read_bare(j);
  name_value(j, j->at++);
  j->inline_ = true;
  return read_string(j, NULL, NULL, 0);
}

/* Reads a key and its colon; the path grows by it. */
static bool read_key(scanner *j)
{
  size_t room = MOST_PATH;
  if (!take(j, '"')) return false;
  j->path_n = j->levels[j->depth - 1].path;
  if (j->path_n > 0 && j->path_n < room) j->path[j->path_n++] = '.';
  if (!read_string(j, j->path, &j->path_n, room)) return false;
  return take(j, ':');
}

static bool open_level(scanner *j, bool array)
{
  if (j->depth >= MOST_LEVELS) return false;
  j->at++;
  const level *outer = j->depth > 0 ? &j->levels[j->depth - 1] : NULL;
  if (!array && outer != NULL && outer->array) end_block(j);
  if (!array || j->depth == 0) end_line(j);
  j->levels[j->depth++] = (level){array, j->path_n};
  return true;
}

static void close_level(scanner *j)
{
  const level *l = &j->levels[--j->depth];
  j->at++;
  end_line(j);
  if (!l->array && (j->depth == 0 || j->levels[j->depth - 1].array)) end_block(j);
  j->path_n = l->path;
}

/* Behind a value: a comma and what follows it, or the ends of levels. false: malformed. *more: another value comes. */
static bool behind_value(scanner *j, bool *more)
{
  *more = false;
  while (j->depth > 0) {
    const level *l = &j->levels[j->depth - 1];
    if (take(j, ',')) {
      if (!l->array) end_line(j);
      if (!l->array && j->depth == 1) end_block(j);
      if (l->array) j->path_n = l->path;
      *more = true;
      return l->array || read_key(j);
    }
    skip_blank(j);
    if (j->at >= j->n || j->s[j->at] != (l->array ? ']' : '}')) return false;
    close_level(j);
  }
  end_block(j);
  return true;
}

/* One value with all that is in it. */
static bool read_value(scanner *j)
{
  bool more = true;
  while (more) {
    skip_blank(j);
    if (j->at >= j->n) return false;
    char c = j->s[j->at];
    if (c != '{' && c != '[') {
      if (!read_scalar(j)) return false;
    } else {
      if (!open_level(j, c == '[')) return false;
      skip_blank(j);
      if (j->at < j->n && j->s[j->at] == (c == '[' ? ']' : '}')) {
        close_level(j);
      } else {
        if (c == '{' && !read_key(j)) return false;
        continue;
      }
    }
    if (!behind_value(j, &more)) return false;
  }
  return true;
}

bool aii_load_json(aii_loaded *doc, const char *s, size_t n)
{
  scanner *j = aii_new(doc->mem, sizeof *j);
  bool ok = true;
  if (j == NULL) {
    doc->failed = true;
    return false;
  }
  *j = (scanner){.doc = doc, .s = s, .n = n};
  for (skip_blank(j); ok && j->at < n && !doc->failed; skip_blank(j)) ok = read_value(j);
  aii_del(doc->mem, j, sizeof *j);
  return ok && !doc->failed;
}
