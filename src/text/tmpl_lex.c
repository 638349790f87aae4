/* tmpl_lex.c - a template's source to tokens, with jinja2's rules for white space.
 *
 * trim_blocks and lstrip_blocks are on, as Hugging Face renders chat templates: a block tag or comment swallows the
 * newline behind it and the spaces before it on its line; "-" swallows all white space, "+" switches the rules off.
 * Newlines become "\n"; a final one is dropped. What fails: an unterminated tag, string or comment, a stray byte.
 */
#include <stdlib.h>

#include "src/text/tmpl_impl.h"

typedef struct lexer {
  aii_tsource *src;
  const char *s;
  size_t n, at;
  uint32_t line;
  bool line_start; /* the last tag ended a line */
} lexer;

static aiinfra_status lex_fail(const lexer *x, const char *what)
{
  return aii_fail(x->src->err, AIINFRA_EFORMAT, "template line %u: %s", x->line, what);
}

static aii_ttok *push(lexer *x, aii_ttok_type type)
{
  aii_tsource *src = x->src;
  if (!aii_grow(src->mem, &src->tokens, &src->cap, src->n_tokens + 1, sizeof *src->tokens)) return NULL;
  aii_ttok *tok = &src->tokens[src->n_tokens++];
  *tok = (aii_ttok){.type = (uint8_t)type, .line = x->line};
  return tok;
}

static bool is_space(char c)
{
  return c == ' ' || (c >= '\t' && c <= '\r');
}

static void count_lines(lexer *x, size_t from, size_t to)
{
  for (size_t i = from; i < to; i++) x->line += x->s[i] == '\n';
}

/* The text from..to before a tag; `tag` its second byte, `sign` the byte behind it. */
static aiinfra_status push_text(lexer *x, size_t from, size_t to, char tag, char sign)
{
  size_t end = to;
  if (sign == '-') {
    while (end > from && is_space(x->s[end - 1])) end--;
  } else if (sign != '+' && (tag == '%' || tag == '#')) {
    size_t start = end;
    while (start > from && x->s[start - 1] != '\n' && is_space(x->s[start - 1])) start--;
    bool at_line = start > from ? x->s[start - 1] == '\n' : x->line_start;
    if (at_line) end = start;
  }
  if (end > from) {
    aii_ttok *tok = push(x, TT_TEXT);
    if (tok == NULL) return aii_fail(x->src->err, AIINFRA_ENOMEM, "template tokens");
    tok->value = aii_tv_strn(x->s + from, end - from);
  }
  count_lines(x, from, to);
  return AIINFRA_OK;
}

/* Behind a tag that ended at x->at with `sign` before its end. */
static void after_tag(lexer *x, char sign, bool block)
{
  size_t from = x->at;
  if (sign == '-') {
    while (x->at < x->n && is_space(x->s[x->at])) x->at++;
  } else if (block && sign != '+' && x->at < x->n && x->s[x->at] == '\n') {
    x->at++;
  }
  count_lines(x, from, x->at);
  x->line_start = x->at > 0 && x->s[x->at - 1] == '\n';
}

static aiinfra_status comment(lexer *x)
{
  const char *end = x->n - x->at > 4
                        ? memmem(x->s + x->at + 2, x->n - x->at - 2, "#}", 2)
                        : (x->n - x->at == 4 && memcmp(x->s + x->at + 2, "#}", 2) == 0 ? x->s + x->at + 2 : NULL);
  if (end == NULL) return lex_fail(x, "the comment does not end");
  size_t stop = (size_t)(end - x->s);
  char sign = stop > x->at + 2 ? x->s[stop - 1] : ' ';
  count_lines(x, x->at, stop);
  x->at = stop + 2;
  after_tag(x, sign, true);
  return AIINFRA_OK;
}

static bool is_ident(char c)
{
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c >= '0' && c <= '9') || (c & 0x80) != 0;
}

static int hex_digit(char c)
{
  if (c >= '0' && c <= '9') return c - '0';
  if ((c | 32) >= 'a' && (c | 32) <= 'f') return (c | 32) - 'a' + 10;
  return -1;
}

/* \xHH, \uHHHH, \UHHHHHHHH at s[i] == 'x'...; the digits used, 0: none. */
static size_t hex_escape(const char *s, size_t n, char *out, size_t *len)
{
  size_t digits = s[0] == 'x' ? 2 : s[0] == 'u' ? 4 : 8;
  uint32_t cp = 0;
  if (n < digits + 1) return 0;
  for (size_t i = 1; i <= digits; i++) {
    int d = hex_digit(s[i]);
    if (d < 0) return 0;
    cp = cp << 4 | (uint32_t)d;
  }
  *len = aii_utf8_encode(cp, out);
  return *len > 0 ? digits : 0;
}

/* Undoes the escapes of s[0..n) into out, as Python does. */
static size_t unescape(const char *s, size_t n, char *out)
{
  static const char from[] = "ntr\\'\"abfv", to[] = "\n\t\r\\'\"\a\b\f\v";
  size_t m = 0;
  for (size_t i = 0; i < n; i++) {
    if (s[i] != '\\' || i + 1 == n) {
      out[m++] = s[i];
      continue;
    }
    char c = s[++i];
    const char *known = strchr(from, c);
    size_t len = 0, digits = 0;
    if (c == '\n') continue;
    if (known != NULL && c != '\0') {
      out[m++] = to[known - from];
    } else if ((c == 'x' || c == 'u' || c == 'U') && (digits = hex_escape(s + i, n - i, out + m, &len)) > 0) {
      m += len;
      i += digits;
    } else {
      out[m++] = '\\';
      out[m++] = c;
    }
  }
  return m;
}

static aiinfra_status string(lexer *x)
{
  char quote = x->s[x->at];
  size_t from = x->at + 1, end = from;
  while (end < x->n && x->s[end] != quote) end += x->s[end] == '\\' ? 2 : 1;
  if (end >= x->n) return lex_fail(x, "the string does not end");
  aii_ttok *tok = push(x, TT_STR);
  char *copy = aii_arena_new(x->src->arena, end - from + 4);
  if (tok == NULL || copy == NULL) return aii_fail(x->src->err, AIINFRA_ENOMEM, "template string");
  tok->value = aii_tv_strn(copy, unescape(x->s + from, end - from, copy));
  count_lines(x, from, end);
  x->at = end + 1;
  return AIINFRA_OK;
}

static aiinfra_status number(lexer *x)
{
  char digits[64];
  size_t n = 0, at = x->at;
  bool real = false;
  for (; at < x->n && n < sizeof digits - 1; at++) {
    char c = x->s[at];
    if (c == '_' && n > 0) continue;
    bool exponent = (c == 'e' || c == 'E') && n > 0 && !memchr(digits, 'e', n);
    bool sign = (c == '+' || c == '-') && n > 0 && digits[n - 1] == 'e';
    bool point = c == '.' && !real && at + 1 < x->n && x->s[at + 1] >= '0' && x->s[at + 1] <= '9';
    if (!(c >= '0' && c <= '9') && !exponent && !sign && !point) break;
    real |= exponent || point;
    digits[n++] = exponent ? 'e' : c;
  }
  digits[n] = '\0';
  aii_ttok *tok = push(x, real ? TT_FLOAT : TT_INT);
  if (tok == NULL) return aii_fail(x->src->err, AIINFRA_ENOMEM, "template tokens");
  if (!real && n > 18) return lex_fail(x, "the number has too many digits");
  tok->value = real ? aii_tv_float(strtod(digits, NULL)) : aii_tv_int(strtoll(digits, NULL, 10));
  x->at = at;
  return AIINFRA_OK;
}

static aiinfra_status operator_token(lexer *x)
{
  static const char *const two[] = {"==", "!=", "<=", ">=", "//", "**"};
  const char *s = x->s + x->at;
  aii_ttok *tok = push(x, TT_OP);
  if (tok == NULL) return aii_fail(x->src->err, AIINFRA_ENOMEM, "template tokens");
  for (size_t i = 0; i < AII_COUNT(two); i++) {
    if (x->at + 1 < x->n && s[0] == two[i][0] && s[1] == two[i][1]) {
      memcpy(tok->op, two[i], 3);
      x->at += 2;
      return AIINFRA_OK;
    }
  }
  if (s[0] == '\0' || strchr("+-*/%~<>()[]{},:.|=", s[0]) == NULL) return lex_fail(x, "unexpected character");
  tok->op[0] = s[0];
  x->at++;
  return AIINFRA_OK;
}

/* One token of an expression; *depth counts open brackets. */
static aiinfra_status expr_token(lexer *x, int *depth)
{
  char c = x->s[x->at];
  if (c == '"' || c == '\'') return string(x);
  if (c >= '0' && c <= '9') return number(x);
  if (is_ident(c)) {
    size_t from = x->at;
    while (x->at < x->n && is_ident(x->s[x->at])) x->at++;
    aii_ttok *tok = push(x, TT_NAME);
    if (tok == NULL) return aii_fail(x->src->err, AIINFRA_ENOMEM, "template tokens");
    tok->value = aii_tv_strn(x->s + from, x->at - from);
    return AIINFRA_OK;
  }
  *depth += (c == '(' || c == '[' || c == '{') - (c == ')' || c == ']' || c == '}');
  return operator_token(x);
}

/* {{ ... }} or {% ... %}, x->at at its first byte. */
static aiinfra_status tag(lexer *x, bool block)
{
  if (push(x, block ? TT_BLOCK_BEGIN : TT_VAR_BEGIN) == NULL)
    return aii_fail(x->src->err, AIINFRA_ENOMEM, "template tokens");
  char close = block ? '%' : '}';
  int depth = 0;
  x->at += 2;
  if (x->at < x->n && (x->s[x->at] == '-' || x->s[x->at] == '+')) x->at++;
  for (;;) {
    while (x->at < x->n && is_space(x->s[x->at])) x->line += x->s[x->at++] == '\n';
    if (x->at >= x->n) return lex_fail(x, block ? "the tag {% does not end" : "the tag {{ does not end");
    const char *s = x->s + x->at;
    size_t left = x->n - x->at;
    if (depth <= 0 && left >= 2 && s[0] == close && s[1] == '}') {
      x->at += 2;
      break;
    }
    if (depth <= 0 && left >= 3 && (s[0] == '-' || s[0] == '+') && s[1] == close && s[2] == '}') {
      x->at += 3;
      break;
    }
    aiinfra_status rc = expr_token(x, &depth);
    if (rc != AIINFRA_OK) return rc;
  }
  char sign = x->s[x->at - 3];
  if (push(x, block ? TT_BLOCK_END : TT_VAR_END) == NULL)
    return aii_fail(x->src->err, AIINFRA_ENOMEM, "template tokens");
  after_tag(x, sign == '-' || sign == '+' ? sign : ' ', block);
  return AIINFRA_OK;
}

/* Behind "{% raw %}": everything up to "{% endraw %}" is text. The tokens of the raw tag are taken back. */
static aiinfra_status raw(lexer *x)
{
  x->src->n_tokens -= 3;
  for (size_t i = x->at; i + 1 < x->n; i++) {
    if (x->s[i] != '{' || x->s[i + 1] != '%') continue;
    size_t at = i + 2;
    char sign = at < x->n ? x->s[at] : ' ';
    if (sign == '-' || sign == '+') at++;
    while (at < x->n && is_space(x->s[at])) at++;
    if (x->n - at < 6 || memcmp(x->s + at, "endraw", 6) != 0) continue;
    aiinfra_status rc = push_text(x, x->at, i, '%', sign);
    if (rc != AIINFRA_OK) return rc;
    x->at = i;
    rc = tag(x, true);
    x->src->n_tokens -= AII_MIN(x->src->n_tokens, 3);
    return rc;
  }
  return lex_fail(x, "{% raw %} does not end");
}

static bool was_raw(const aii_tsource *src)
{
  if (src->n_tokens < 3) return false;
  const aii_ttok *t = &src->tokens[src->n_tokens - 3];
  return t[0].type == TT_BLOCK_BEGIN && t[1].type == TT_NAME && aii_tv_is(t[1].value, "raw");
}

static aiinfra_status lex_all(lexer *x)
{
  while (x->at < x->n) {
    size_t from = x->at, i = from;
    while (i + 1 < x->n && !(x->s[i] == '{' && (x->s[i + 1] == '{' || x->s[i + 1] == '%' || x->s[i + 1] == '#'))) i++;
    if (i + 1 >= x->n) return push_text(x, from, x->n, ' ', ' ');
    aiinfra_status rc = push_text(x, from, i, x->s[i + 1], i + 2 < x->n ? x->s[i + 2] : ' ');
    x->at = i;
    if (rc == AIINFRA_OK) rc = x->s[i + 1] == '#' ? comment(x) : tag(x, x->s[i + 1] == '%');
    if (rc == AIINFRA_OK && x->s[i + 1] == '%' && was_raw(x->src)) rc = raw(x);
    if (rc != AIINFRA_OK) return rc;
  }
  return AIINFRA_OK;
}

aiinfra_status aii_tmpl_lex(aii_tsource *src)
{
  char *copy = aii_arena_new(src->arena, src->n + 1);
  if (copy == NULL) return aii_fail(src->err, AIINFRA_ENOMEM, "template of %zu bytes", src->n);
  size_t n = 0;
  for (size_t i = 0; i < src->n; i++) {
    bool cr = src->text[i] == '\r';
    copy[n++] = cr ? '\n' : src->text[i];
    if (cr && i + 1 < src->n && src->text[i + 1] == '\n') i++;
  }
  if (n > 0 && copy[n - 1] == '\n') n--;
  lexer x = {.src = src, .s = copy, .n = n, .line = 1, .line_start = true};
  src->text = copy;
  src->n = n;
  aiinfra_status rc = lex_all(&x);
  if (rc == AIINFRA_OK && push(&x, TT_EOF) == NULL) rc = aii_fail(src->err, AIINFRA_ENOMEM, "template tokens");
  return rc;
}

void aii_tmpl_lex_free(aii_tsource *src)
{
  aii_del(src->mem, src->tokens, src->cap * sizeof *src->tokens);
}
