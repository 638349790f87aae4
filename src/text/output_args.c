/* output_args.c - arguments that are not written as JSON: tags by the tool's schema, Python's calls, Gemma's.
 *
 * A parameter whose schema allows only strings is text as it stands; else what reads as a JSON value of a type that the
 * schema allows is that value, and the rest is text.
 */
#include "src/text/output_impl.h"
#include "src/text/schema.h"

static bool is_space(char c)
{
  return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* ---- a value written as text -------------------------------------------------------------------------------------------- */

static bool try_json(aii_out_span text, unsigned allowed, aii_buf *out)
{
  json_t *value = NULL;
  while (text.n > 0 && is_space(text.p[0])) text.p++, text.n--;
  while (text.n > 0 && is_space(text.p[text.n - 1])) text.n--;
  if (aii_json_parse(text.p, text.n, "argument", 0, &value, NULL) != AIINFRA_OK) return false;
  bool good = (aii_type_of(value) & allowed) != 0;
  if (good) aii_buf_add(out, text.p, text.n);
  json_decref(value);
  return good;
}

static void scalar(unsigned allowed, aii_out_span text, aii_buf *out)
{
  if (allowed != AII_TYPE_STRING &&
      try_json(text, allowed & ~(unsigned)(allowed == AII_TYPE_ANY ? 0 : AII_TYPE_STRING), out))
    return;
  aii_buf_json(out, text.p, text.n);
}

static bool begins(aii_out_span text, const char *what)
{
  size_t n = strlen(what);
  return text.n >= n && memcmp(text.p, what, n) == 0;
}

/* The schema of a member or item; NULL: not said. Unions are searched for one that has it. */
static const json_t *inner_schema(const json_t *root, const json_t *schema, const char *key, unsigned depth)
{
  size_t i;
  json_t *item;
  schema = aii_schema_follow(root, schema);
  const json_t *found =
      key != NULL ? json_object_get(json_object_get(schema, "properties"), key) : json_object_get(schema, "items");
  if (found == NULL && key != NULL && json_is_object(json_object_get(schema, "additionalProperties")))
    found = json_object_get(schema, "additionalProperties");
  if (found != NULL || depth > AII_SCHEMA_UNIONS) return found;
  json_array_foreach(aii_schema_union(schema), i, item)
  {
    if ((found = inner_schema(root, item, key, depth + 1)) != NULL) return found;
  }
  return NULL;
}

/* <a>1</a><b>2</b> with the format's mark before each "<": an object, or an array when the tags are called item. */
static void nested(const json_t *root, const json_t *schema, aii_out_span text, const char *mark, unsigned depth,
                   aii_buf *out)
{
  unsigned allowed = aii_schema_types(root, schema);
  bool text_too = allowed != AII_TYPE_ANY && (allowed & AII_TYPE_STRING) != 0; /* then tags may be meant as text */
  if (!begins(text, mark) || depth == AII_OUT_MAX_DEPTH || text_too ||
      (allowed & (AII_TYPE_OBJECT | AII_TYPE_ARRAY)) == 0) {
    scalar(allowed, text, out);
    return;
  }
  bool array =
      (allowed & AII_TYPE_ARRAY) != 0 && text.n > strlen(mark) + 5 && memcmp(text.p + strlen(mark), "item>", 5) == 0;
  const char *sep = array ? "[" : "{";
  while (begins(text, mark)) {
    aii_out_span at = {text.p + strlen(mark), text.n - strlen(mark)};
    const char *key_end = memchr(at.p, '>', at.n);
    char key[AII_OUT_MAX_MARKER], close[2 * AII_OUT_MAX_MARKER];
    size_t n = key_end != NULL ? (size_t)(key_end - at.p) : sizeof key;
    if (n >= sizeof key) break;
    memcpy(key, at.p, n);
    key[n] = '\0';
    aii_out_span value = {key_end + 1, at.n - n - 1};
    size_t n_close = (size_t)snprintf(close, sizeof close, "%s/%s>", mark, key);
    const char *end = memmem(value.p, value.n, close, AII_MIN(n_close, sizeof close - 1));
    if (end == NULL) break;
    text = (aii_out_span){end + n_close, value.n - (size_t)(end - value.p) - n_close};
    value.n = (size_t)(end - value.p);
    aii_buf_str(out, sep);
    if (!array) {
      aii_buf_json(out, key, n);
      aii_buf_str(out, ": ");
    }
    nested(root, inner_schema(root, schema, array ? NULL : key, 0), value, mark, depth + 1, out);
    sep = ", ";
  }
  if (sep[0] != ',') aii_buf_str(out, sep);
  aii_buf_str(out, array ? "]" : "}");
}

void aii_out_value(const json_t *tool, const char *key, aii_out_span text, const aii_out_format *format, int is_string,
                   aii_buf *out)
{
  const json_t *parameters = json_object_get(tool, "parameters");
  const json_t *schema = inner_schema(parameters, parameters, key, 0);
  if (format->cdata && begins(text, "<![CDATA[") && text.n >= 12 && memcmp(text.p + text.n - 3, "]]>", 3) == 0) {
    aii_buf_json(out, text.p + 9, text.n - 12);
    return;
  }
  if (format->nested) {
    nested(parameters, schema, text, format->param, 0, out);
    return;
  }
  /* a line of its own: the line's ends are not part of it */
  if (text.n > 0 && text.p[0] == '\n') text.p++, text.n--;
  if (text.n > 0 && text.p[text.n - 1] == '\n') text.n--;
  unsigned allowed = aii_schema_types(parameters, schema);
  if (is_string == 1) allowed = AII_TYPE_STRING;
  if (is_string == 0 && allowed == AII_TYPE_STRING) allowed = AII_TYPE_ANY;
  scalar(allowed, text, out);
}

/* ---- values as Python and Gemma write them ------------------------------------------------------------------------------- */

typedef struct reader {
  const char *p, *end;
  aii_buf *out;
  unsigned depth;
} reader;

static void skip_space(reader *r)
{
  while (r->p < r->end && is_space(*r->p)) r->p++;
}

static bool take(reader *r, const char *what)
{
  size_t n = strlen(what);
  skip_space(r);
  if ((size_t)(r->end - r->p) < n || memcmp(r->p, what, n) != 0) return false;
  r->p += n;
  return true;
}

/* A word up to one of `ends`. */
static aii_out_span word(reader *r, const char *ends)
{
  skip_space(r);
  aii_out_span s = {r->p, 0};
  while (r->p < r->end && strchr(ends, *r->p) == NULL && *r->p != '\0') r->p++;
  s.n = (size_t)(r->p - s.p);
  while (s.n > 0 && is_space(s.p[s.n - 1])) s.n--;
  return s;
}

/* 'text', "text" with the escapes that both languages share. */
static bool quoted(reader *r, char quote)
{
  aii_buf text;
  bool closed = false;
  aii_buf_init(&text, r->out->mem, 0);
  while (r->p < r->end && !closed) {
    char c = *r->p++;
    if (c == quote) {
      closed = true;
    } else if (c != '\\' || r->p == r->end) {
      aii_buf_char(&text, c);
    } else {
      static const char from[] = "ntr\\'\"", to[] = "\n\t\r\\'\"";
      const char *known = *r->p != '\0' ? strchr(from, *r->p) : NULL;
      if (known == NULL) aii_buf_char(&text, '\\');
      aii_buf_char(&text, known != NULL ? to[known - from] : *r->p);
      r->p++;
    }
  }
  if (closed) aii_buf_json(r->out, aii_buf_cstr(&text), text.len);
  closed &= !text.failed;
  aii_buf_free(&text);
  return closed;
}

static const char MARK[] = "<|\"|>"; /* Gemma's quote */

static bool marked(reader *r)
{
  const char *end = memmem(r->p, (size_t)(r->end - r->p), MARK, sizeof MARK - 1);
  if (end == NULL) return false;
  aii_buf_json(r->out, r->p, (size_t)(end - r->p));
  r->p = end + sizeof MARK - 1;
  return true;
}

static bool value(reader *r);

/* key: value, ... up to `close`; sep is ':' or '='. */
static bool members(reader *r, const char *sep, const char *close)
{
  aii_buf_char(r->out, '{');
  for (bool first = true; !take(r, close); first = false) {
    if (!first && !take(r, ",")) return false;
    if (!first) aii_buf_str(r->out, ", ");
    if (take(r, MARK) ? !marked(r) : take(r, "\"") ? !quoted(r, '"') : take(r, "'") ? !quoted(r, '\'') : false)
      return false;
    if (!take(r, sep)) {
      aii_out_span key = word(r, ":=,}() \n");
      if (key.n == 0) return false;
      aii_buf_json(r->out, key.p, key.n);
      if (!take(r, sep)) return false;
    }
    aii_buf_str(r->out, ": ");
    if (!value(r)) return false;
  }
  aii_buf_char(r->out, '}');
  return true;
}

static bool items(reader *r)
{
  aii_buf_char(r->out, '[');
  for (bool first = true; !take(r, "]"); first = false) {
    if (!first && !take(r, ",")) return false;
    if (!first) aii_buf_str(r->out, ", ");
    if (!value(r)) return false;
  }
  aii_buf_char(r->out, ']');
  return true;
}

static bool plain_word(reader *r)
{
  aii_out_span s = word(r, ",]}) \n");
  if (s.n == 0) return false;
  static const char *const names[][2] = {{"True", "true"}, {"False", "false"}, {"None", "null"}};
  for (size_t i = 0; i < AII_COUNT(names); i++) {
    if (s.n == strlen(names[i][0]) && memcmp(s.p, names[i][0], s.n) == 0) {
      aii_buf_str(r->out, names[i][1]);
      return true;
    }
  }
  if (!try_json(s, AII_TYPE_ANY, r->out)) aii_buf_json(r->out, s.p, s.n);
  return true;
}

static bool value(reader *r)
{
  if (r->depth == AII_OUT_MAX_DEPTH) return false;
  r->depth++;
  bool good = take(r, MARK)   ? marked(r)
              : take(r, "\"") ? quoted(r, '"')
              : take(r, "'")  ? quoted(r, '\'')
              : take(r, "[")  ? items(r)
              : take(r, "{")  ? members(r, ":", "}")
                              : plain_word(r);
  r->depth--;
  return good;
}

static bool name_of_call(reader *r, const char *end)
{
  aii_out_span name = word(r, " ({=,");
  static const char suffix[] = ".call"; /* Llama's built-in tools */
  size_t n = sizeof suffix - 1;
  if (name.n > n && memcmp(name.p + name.n - n, suffix, n) == 0) name.n -= n;
  if (name.n == 0 || name.n > AII_OUT_MAX_NAME || !take(r, end)) return false;
  aii_buf_add(r->out, name.p, name.n);
  aii_buf_char(r->out, '\0');
  return true;
}

bool aii_out_python(aii_out_span text, aii_buf *out)
{
  reader r = {text.p, text.p + text.n, out, 0};
  bool list = take(&r, "[");
  do {
    if (!name_of_call(&r, "(") || !members(&r, "=", ")")) return false;
    aii_buf_char(out, '\0');
  } while (list && take(&r, ","));
  if (list && !take(&r, "]")) return false;
  skip_space(&r);
  return r.p == r.end;
}

bool aii_out_gemma(aii_out_span text, aii_buf *out)
{
  reader r = {text.p, text.p + text.n, out, 0};
  if (!take(&r, "call:") || !name_of_call(&r, "{") || !members(&r, ":", "}")) return false;
  aii_buf_char(out, '\0');
  skip_space(&r);
  return r.p == r.end;
}
