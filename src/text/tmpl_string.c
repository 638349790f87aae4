/* tmpl_string.c - methods of strings, as Python has them. Letters change case by Unicode's simple mappings. */
#include <utf8proc.h>

#include "src/text/tmpl_impl.h"

static bool space_at(aii_tv s, size_t i, size_t *len)
{
  uint32_t cp = 0;
  if ((s.s[i] & 0x80) == 0) {
    *len = 1;
    return s.s[i] == ' ' || (s.s[i] >= 9 && s.s[i] <= 13) || (s.s[i] >= 0x1C && s.s[i] <= 0x1F);
  }
  int n = aii_utf8_decode(s.s + i, s.n - i, &cp);
  *len = n > 0 ? (size_t)n : 1;
  if (n <= 0) return false;
  return cp == 0x85 || cp == 0xA0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 ||
         cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

/* The start of the character that ends at `end`. */
static size_t char_before(aii_tv s, size_t end)
{
  size_t i = end - 1;
  while (i > 0 && end - i < 4 && ((uint8_t)s.s[i] & 0xC0) == 0x80) i--;
  return i;
}

static bool strips(aii_trun *run, aii_tv s, size_t i, aii_tv chars, size_t *len)
{
  bool space = space_at(s, i, len);
  if (chars.type != TV_STR) return space;
  return aii_t_step(run, 1 + chars.n / 16) && memmem(chars.s, chars.n, s.s + i, *len) != NULL;
}

bool aii_t_strip(aii_trun *run, aii_tv s, aii_tv chars, bool left, bool right, aii_tv *out)
{
  size_t from = 0, to = s.n, len;
  while (left && from < to && strips(run, s, from, chars, &len)) from += len;
  while (right && to > from && strips(run, s, char_before(s, to), chars, &len)) to = char_before(s, to);
  *out = aii_tv_strn(s.s + from, to - from);
  out->look = s.look;
  return aii_t_step(run, (s.n - out->n) / 4);
}

bool aii_t_replace(aii_trun *run, aii_tv s, aii_tv from, aii_tv to, int64_t count, aii_tv *out)
{
  if (!aii_tv_str(run, from, &from) || !aii_tv_str(run, to, &to)) return false;
  if (s.look == TL_SAFE && !aii_t_escape(run, to, &to)) return false;
  aii_buf buf;
  aii_buf_init(&buf, run->mem, AII_T_MAX_OUTPUT);
  size_t at = 0;
  while (count != 0 && at <= s.n) {
    const char *hit = from.n == 0 ? s.s + at : at < s.n ? memmem(s.s + at, s.n - at, from.s, from.n) : NULL;
    if (hit == NULL) break;
    size_t i = (size_t)(hit - s.s);
    aii_buf_add(&buf, s.s + at, i - at);
    aii_buf_add(&buf, to.s, to.n);
    if (from.n == 0 && i < s.n) aii_buf_char(&buf, s.s[i]);
    at = i + AII_MAX(from.n, 1);
    count--;
    run->steps += 2 + from.n / 16;
    if (!aii_t_step(run, 0)) break;
  }
  if (at < s.n) aii_buf_add(&buf, s.s + at, s.n - at);
  run->steps += (s.n + buf.len) / 16;
  if (!aii_tv_from_buf(run, &buf, out)) return false;
  out->look = s.look;
  return true;
}

bool aii_t_case(aii_trun *run, aii_tv s, int how, aii_tv *out)
{
  aii_buf buf;
  aii_buf_init(&buf, run->mem, AII_T_MAX_OUTPUT);
  bool in_word = false;
  for (size_t i = 0; i < s.n;) {
    uint32_t cp = 0;
    int len = aii_utf8_decode(s.s + i, s.n - i, &cp);
    if (!aii_t_step(run, 1)) break;
    if (len <= 0) {
      aii_buf_char(&buf, s.s[i++]);
      continue;
    }
    utf8proc_category_t cat = utf8proc_category((utf8proc_int32_t)cp);
    bool letter = cat >= UTF8PROC_CATEGORY_LU && cat <= UTF8PROC_CATEGORY_LO;
    bool title = (how == 't' && !in_word) || (how == 'c' && i == 0);
    if (cp == 0xDF && (title || how == 'u')) { /* the one common letter that becomes two */
      aii_buf_str(&buf, title ? "Ss" : "SS");
    } else {
      utf8proc_int32_t c = (utf8proc_int32_t)cp;
      c = title ? utf8proc_totitle(c) : how == 'u' ? utf8proc_toupper(c) : utf8proc_tolower(c);
      char encoded[4];
      aii_buf_add(&buf, encoded, aii_utf8_encode((uint32_t)c, encoded));
    }
    in_word = letter;
    i += (size_t)len;
  }
  if (!aii_tv_from_buf(run, &buf, out)) return false;
  out->look = s.look;
  return true;
}

/* ---- splitting ----------------------------------------------------------------------------------------------------- */

static bool add_part(aii_trun *run, aii_tv *list, aii_tv s, size_t from, size_t to)
{
  aii_tv part = aii_tv_strn(s.s + from, to - from);
  part.look = s.look;
  return aii_tv_append(run, list->list, part);
}

static bool split_spaces(aii_trun *run, aii_tv s, int64_t max, aii_tv *out)
{
  size_t i = 0, len;
  for (int64_t parts = 0;; parts++) {
    while (i < s.n && space_at(s, i, &len)) i += len;
    if (i == s.n) return true;
    size_t from = i;
    if (max >= 0 && parts == max) {
      aii_tv rest;
      return aii_t_strip(run, aii_tv_strn(s.s + from, s.n - from), aii_tv_none(), false, true, &rest) &&
             aii_tv_append(run, out->list, rest);
    }
    while (i < s.n && !space_at(s, i, &len)) i += len;
    if (!add_part(run, out, s, from, i)) return false;
  }
}

static bool split_left(aii_trun *run, aii_tv s, aii_tv sep, int64_t max, aii_tv *out)
{
  size_t from = 0;
  for (int64_t parts = 0; max < 0 || parts < max; parts++) {
    const char *hit = from < s.n ? memmem(s.s + from, s.n - from, sep.s, sep.n) : NULL;
    if (hit == NULL || !aii_t_step(run, sep.n / 16)) break;
    size_t at = (size_t)(hit - s.s);
    if (!add_part(run, out, s, from, at)) return false;
    from = at + sep.n;
  }
  return add_part(run, out, s, from, s.n);
}

/* The last place of `what` that ends at or before `end`; SIZE_MAX: none, or no more steps. */
static size_t find_last(aii_trun *run, aii_tv s, aii_tv what, size_t end)
{
  if (what.n > end || !aii_t_step(run, end / 16)) return SIZE_MAX;
  if (what.n == 0) return end;
  size_t at = end - what.n;
  for (;;) {
    const char *hit = memrchr(s.s, what.s[0], at + 1);
    if (hit == NULL || !aii_t_step(run, 1 + what.n / 32)) return SIZE_MAX;
    at = (size_t)(hit - s.s);
    if (memcmp(hit, what.s, what.n) == 0) return at;
    if (at == 0) return SIZE_MAX;
    at--;
  }
}

static bool split_right(aii_trun *run, aii_tv s, aii_tv sep, int64_t max, aii_tv *out)
{
  size_t to = s.n;
  aii_tv backwards = *out;
  bool known;
  for (int64_t parts = 0; max < 0 || parts < max; parts++) {
    size_t at = find_last(run, s, sep, to);
    if (at == SIZE_MAX) break;
    if (!add_part(run, &backwards, s, at + sep.n, to)) return false;
    to = at;
  }
  return add_part(run, &backwards, s, 0, to) &&
         aii_t_seq_filter(run, aii_tv_lit("reverse"), backwards, &(aii_targs){0}, out, &known) &&
         aii_t_seq_filter(run, aii_tv_lit("list"), *out, &(aii_targs){0}, out, &known);
}

static bool split(aii_trun *run, aii_tv s, const aii_targs *args, bool right, aii_tv *out)
{
  const aii_tv *sep = aii_t_arg(args, 0, "sep"), *max = aii_t_arg(args, 1, "maxsplit");
  int64_t limit = max != NULL && max->type == TV_INT ? max->i : -1;
  if (!aii_tv_list(run, 0, out) || !aii_t_step(run, s.n / 16)) return false;
  if (sep == NULL || sep->type == TV_NONE) return split_spaces(run, s, limit, out);
  if (sep->type != TV_STR || sep->n == 0) return aii_t_fail(run, AIINFRA_EINVAL, "split: an empty separator");
  return right && limit >= 0 ? split_right(run, s, *sep, limit, out) : split_left(run, s, *sep, limit, out);
}

static bool split_lines(aii_trun *run, aii_tv s, aii_tv *out)
{
  size_t from = 0;
  if (!aii_tv_list(run, 0, out) || !aii_t_step(run, s.n / 16)) return false;
  for (size_t i = 0; i < s.n; i++) {
    if (s.s[i] != '\n' && s.s[i] != '\r') continue;
    if (!add_part(run, out, s, from, i)) return false;
    if (s.s[i] == '\r' && i + 1 < s.n && s.s[i + 1] == '\n') i++;
    from = i + 1;
  }
  return from == s.n || add_part(run, out, s, from, s.n);
}

/* ---- questions ----------------------------------------------------------------------------------------------------- */

static bool has_affix(aii_tv s, aii_tv affix, bool end)
{
  if (affix.type != TV_STR || affix.n > s.n) return false;
  return memcmp(end ? s.s + s.n - affix.n : s.s, affix.s, affix.n) == 0;
}

/* startswith and endswith take one text or a tuple of them. */
static bool affix_test(aii_tv s, aii_tv arg, bool end)
{
  if (arg.type != TV_LIST) return has_affix(s, arg, end);
  for (size_t i = 0; i < arg.list->n; i++) {
    if (has_affix(s, arg.list->items[i], end)) return true;
  }
  return false;
}

/* isdigit, isalpha, isalnum, isspace, isupper, islower: by the fourth letter of the name. */
static bool all_are(aii_tv s, aii_tv name)
{
  bool cased = false;
  for (size_t i = 0; i < s.n;) {
    uint32_t cp = 0;
    size_t len;
    bool space = space_at(s, i, &len);
    (void)aii_utf8_decode(s.s + i, s.n - i, &cp);
    utf8proc_category_t cat = utf8proc_category((utf8proc_int32_t)cp);
    bool letter = cat >= UTF8PROC_CATEGORY_LU && cat <= UTF8PROC_CATEGORY_LO, digit = cat == UTF8PROC_CATEGORY_ND;
    bool upper = cat == UTF8PROC_CATEGORY_LU, lower = cat == UTF8PROC_CATEGORY_LL;
    if (aii_tv_is(name, "isdigit") && !digit) return false;
    if (aii_tv_is(name, "isalpha") && !letter) return false;
    if (aii_tv_is(name, "isalnum") && !letter && !digit) return false;
    if (aii_tv_is(name, "isspace") && !space) return false;
    if ((aii_tv_is(name, "isupper") && lower) || (aii_tv_is(name, "islower") && upper)) return false;
    cased |= upper || lower;
    i += len;
  }
  return s.n > 0 && (cased || (!aii_tv_is(name, "isupper") && !aii_tv_is(name, "islower")));
}

/* Characters in the first n bytes. */
static int64_t n_chars(aii_tv s, size_t n)
{
  int64_t chars = 0;
  for (size_t i = 0; i < n; i++) chars += ((uint8_t)s.s[i] & 0xC0) != 0x80;
  return chars;
}

static bool count_texts(aii_trun *run, aii_tv s, aii_tv what, aii_tv *out)
{
  int64_t n = what.n == 0 ? n_chars(s, s.n) + 1 : 0;
  for (size_t at = 0; what.n > 0 && at < s.n; n++) {
    const char *hit = memmem(s.s + at, s.n - at, what.s, what.n);
    if (!aii_t_step(run, 1 + what.n / 16)) return false;
    if (hit == NULL) break;
    at = (size_t)(hit - s.s) + what.n;
  }
  *out = aii_tv_int(n);
  return aii_t_step(run, s.n / 16);
}

static bool position(aii_trun *run, aii_tv s, aii_tv name, aii_tv what, aii_tv *out)
{
  if (what.type != TV_STR) return aii_t_fail(run, AIINFRA_EINVAL, "find: a text is needed");
  if (aii_tv_is(name, "count")) return count_texts(run, s, what, out);
  size_t at;
  if (aii_tv_is(name, "rfind")) {
    at = find_last(run, s, what, s.n);
  } else {
    const char *hit = what.n > 0 ? memmem(s.s, s.n, what.s, what.n) : s.s;
    at = hit != NULL ? (size_t)(hit - s.s) : SIZE_MAX;
  }
  if (aii_tv_is(name, "index") && at == SIZE_MAX)
    return aii_t_fail(run, AIINFRA_EINVAL, "index: the text was not found");
  *out = aii_tv_int(at != SIZE_MAX ? n_chars(s, at) : -1);
  return aii_t_step(run, (s.n + what.n) / 8);
}

/* "{} {0} {name}" with plain fields only. */
static bool format(aii_trun *run, aii_tv s, const aii_targs *args, aii_tv *out)
{
  aii_buf buf;
  aii_buf_init(&buf, run->mem, AII_T_MAX_OUTPUT);
  size_t next = 0;
  bool ok = true;
  for (size_t i = 0; ok && i < s.n; i++) {
    if ((s.s[i] == '{' || s.s[i] == '}') && i + 1 < s.n && s.s[i + 1] == s.s[i]) {
      aii_buf_char(&buf, s.s[i++]);
      continue;
    }
    const char *end = s.s[i] == '{' ? memchr(s.s + i, '}', s.n - i) : NULL;
    if (end == NULL) {
      aii_buf_char(&buf, s.s[i]);
      continue;
    }
    char field[64];
    size_t n = (size_t)(end - s.s) - i - 1, nth = SIZE_MAX;
    ok = n < sizeof field;
    if (ok) memcpy(field, s.s + i + 1, n);
    field[ok ? n : 0] = '\0';
    if (n == 0) nth = next++;
    if (n == 1 && field[0] >= '0' && field[0] <= '9') nth = (size_t)(field[0] - '0');
    const aii_tv *arg = ok ? aii_t_arg(args, nth, field) : NULL;
    ok = arg != NULL && aii_tv_write(run, *arg, &buf, false);
    i = (size_t)(end - s.s);
  }
  if (!ok) (void)aii_t_fail(run, AIINFRA_EINVAL, "format: a field that was not given");
  return aii_tv_from_buf(run, &buf, out);
}

static bool with_argument(aii_trun *run, aii_tv s, aii_tv name, const aii_targs *args, aii_tv *out)
{
  bool known;
  if (args->n < 1) return aii_t_fail(run, AIINFRA_EINVAL, "%.*s: an argument is missing", (int)name.n, name.s);
  aii_tv arg = args->items[0];
  if (aii_tv_is(name, "startswith") || aii_tv_is(name, "endswith")) {
    *out = aii_tv_bool(affix_test(s, arg, name.s[0] == 'e'));
    return true;
  }
  if (aii_tv_is(name, "removeprefix") || aii_tv_is(name, "removesuffix")) {
    bool end = aii_tv_is(name, "removesuffix"), cut = has_affix(s, arg, end);
    *out = aii_tv_strn(s.s + (cut && !end ? arg.n : 0), cut ? s.n - arg.n : s.n);
    return true;
  }
  if (aii_tv_is(name, "join")) {
    return aii_t_seq_filter(run, name, arg, &(aii_targs){.items = &s, .n = 1}, out, &known);
  }
  if (aii_tv_is(name, "replace")) {
    if (args->n < 2) return aii_t_fail(run, AIINFRA_EINVAL, "replace: two texts are needed");
    const aii_tv *count = aii_t_arg(args, 2, "count");
    return aii_t_replace(run, s, arg, args->items[1], count != NULL && count->type == TV_INT ? count->i : -1, out);
  }
  return position(run, s, name, arg, out);
}

bool aii_t_str_method(aii_trun *run, aii_tv s, aii_tv name, const aii_targs *args, aii_tv *out)
{
  const aii_tv *arg = aii_t_arg(args, 0, NULL);
  if (aii_tv_is(name, "split") || aii_tv_is(name, "rsplit")) return split(run, s, args, name.s[0] == 'r', out);
  if (aii_tv_is(name, "splitlines")) return split_lines(run, s, out);
  if (aii_tv_is(name, "strip") || aii_tv_is(name, "lstrip") || aii_tv_is(name, "rstrip")) {
    return aii_t_strip(run, s, arg != NULL ? *arg : aii_tv_none(), name.s[0] != 'r', name.s[0] != 'l', out);
  }
  if (aii_tv_is(name, "upper") || aii_tv_is(name, "lower") || aii_tv_is(name, "title") ||
      aii_tv_is(name, "capitalize")) {
    return aii_t_case(run, s, name.s[0], out);
  }
  if (name.n > 2 && name.s[0] == 'i' && name.s[1] == 's') {
    *out = aii_tv_bool(all_are(s, name));
    return aii_t_step(run, 2 * (size_t)s.n);
  }
  if (aii_tv_is(name, "format")) return format(run, s, args, out);
  return with_argument(run, s, name, args, out);
}
