/* gram_pattern.c - JSON Schema's "pattern" for strings: the regular subset of ECMA's expressions.
 *
 * Literals, ".", classes, \d \w \s, groups, "|", * + ? {n,m}, "^" and "$" at the ends. The expression describes the
 * string's characters; what is written is their JSON form, so a quote in it becomes \" in the output. Without an
 * anchor any characters may stand there. Look-around, back references and word boundaries are ENOTSUP.
 */
#include "src/text/gram_impl.h"

typedef struct pattern {
  aii_gb *b;
  aii_gparse groups;
  const char *text, *s;
} pattern;

typedef struct class_set {
  aii_range r[128];
  size_t n;
} class_set;

static void unsupported(pattern *p, const char *what)
{
  (void)aii_gb_fail(p->b, AIINFRA_ENOTSUP, "pattern \"%.80s\": %s is not supported", p->text, what);
}

static void add(class_set *set, uint32_t first, uint32_t last)
{
  if (set->n < AII_COUNT(set->r)) set->r[set->n++] = (aii_range){first, last};
}

/* \d and its like; false: no class of that letter. */
static bool add_named(class_set *set, char c)
{
  class_set base = {.n = 0};
  switch (c | 32) {
    case 'd': add(&base, '0', '9'); break;
    case 'w':
      add(&base, '0', '9');
      add(&base, 'A', 'Z');
      add(&base, '_', '_');
      add(&base, 'a', 'z');
      break;
    case 's':
      add(&base, 9, 13);
      add(&base, ' ', ' ');
      add(&base, 0xA0, 0xA0);
      break;
    default: return false;
  }
  if (c >= 'A' && c <= 'Z') {
    aii_range out[8];
    size_t n = aii_ranges_invert(base.r, aii_ranges_normalise(base.r, base.n), out);
    for (size_t i = 0; i < n; i++) add(set, out[i].first, out[i].last);
  } else {
    for (size_t i = 0; i < base.n; i++) add(set, base.r[i].first, base.r[i].last);
  }
  return true;
}

/* Characters in their JSON form: escapes for the quote, the backslash and the controls that have a short one. */
static void emit_class(pattern *p, class_set *set, bool negated)
{
  static const char special[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
  aii_gb *b = p->b;
  aii_range all[2 * 128 + 2], raw[2 * 128 + 16];
  uint32_t low = (uint32_t)b->g->n_nodes, exit = aii_gp_eps(b), entry = AII_G_NONE;
  size_t n = aii_ranges_normalise(set->r, set->n), m = 0;
  if (negated) {
    n = aii_ranges_invert(set->r, n, all);
  } else {
    memcpy(all, set->r, n * sizeof *all);
  }
  aii_range plain[8];
  size_t n_plain = aii_gj_plain(b, plain);
  for (size_t i = 0; i < n; i++) {
    for (size_t k = 0; k < n_plain && m < AII_COUNT(raw); k++) {
      uint32_t first = AII_MAX(all[i].first, plain[k].first), last = AII_MIN(all[i].last, plain[k].last);
      if (first <= last) raw[m++] = (aii_range){first, last};
    }
    for (size_t k = 0; !b->raw && special[k] != '\0'; k++) {
      if (b->words && (special[k] == '\b' || special[k] == '\f')) continue;
      if ((uint8_t)special[k] < all[i].first || (uint8_t)special[k] > all[i].last) continue;
      char pair[3] = {'\\', letters[k], '\0'};
      uint32_t escaped = aii_gb_str(b, pair, exit);
      entry = entry == AII_G_NONE ? escaped : aii_gb_split(b, escaped, entry);
    }
  }
  if (m > 0) {
    uint32_t part = aii_gb_ranges(b, raw, m, exit);
    entry = entry == AII_G_NONE ? part : aii_gb_split(b, part, entry);
  }
  if (entry == AII_G_NONE) entry = aii_gb_fail(b, AIINFRA_EINVAL, "pattern \"%.80s\": an empty class", p->text);
  aii_gp_item(&p->groups, low, entry, exit);
}

static bool escape(pattern *p, class_set *set)
{
  static const char from[] = "nrtfv", to[] = "\n\r\t\f\v";
  char c = *p->s++;
  const char *known = c != '\0' ? strchr(from, c) : NULL;
  if (c == '\0' || (c >= '1' && c <= '9') || strchr("bBkpPuxc0", c) != NULL) {
    unsupported(p, "this escape");
    return false;
  }
  if (!add_named(set, c))
    add(set, known != NULL ? (uint8_t)to[known - from] : (uint8_t)c,
        known != NULL ? (uint8_t)to[known - from] : (uint8_t)c);
  return true;
}

static bool one_char(pattern *p, uint32_t *cp)
{
  int len = aii_utf8_decode(p->s, strlen(p->s), cp);
  if (len <= 0) {
    unsupported(p, "text that is no UTF-8");
    return false;
  }
  p->s += len;
  return true;
}

static void bracket(pattern *p)
{
  class_set set = {.n = 0};
  bool negated = *p->s == '^';
  p->s += negated;
  while (p->b->rc == AIINFRA_OK && *p->s != ']') {
    if (*p->s == '\0' || set.n + 16 > AII_COUNT(set.r)) {
      unsupported(p, "a class that does not end or is very long");
      return;
    }
    size_t before = set.n;
    uint32_t cp;
    if (*p->s == '\\') {
      p->s++;
      if (!escape(p, &set)) return;
    } else {
      if (!one_char(p, &cp)) return;
      add(&set, cp, cp);
    }
    bool single = set.n == before + 1 && set.r[before].first == set.r[before].last;
    if (!single || p->s[0] != '-' || p->s[1] == ']' || p->s[1] == '\0') continue;
    p->s++;
    if (*p->s == '\\') p->s++;
    if (!one_char(p, &cp)) return;
    if (cp < set.r[before].first) unsupported(p, "a class that runs backwards");
    set.r[before].last = cp;
  }
  p->s += *p->s == ']';
  if (p->b->rc == AIINFRA_OK) emit_class(p, &set, negated);
}

static bool number(pattern *p, uint32_t *value)
{
  bool any = false;
  for (*value = 0; *p->s >= '0' && *p->s <= '9'; p->s++, any = true) {
    *value = AII_MIN(*value * 10 + (uint32_t)(*p->s - '0'), AII_G_MAX_REPEAT + 1u);
  }
  return any;
}

static void repetition(pattern *p)
{
  uint32_t min = 0, max = AII_G_NONE;
  char c = *p->s++;
  if (c == '+') min = 1;
  if (c == '?') max = 1;
  if (c == '{') {
    bool ok = number(p, &min);
    max = min;
    if (*p->s == ',') {
      p->s++;
      if (!number(p, &max)) max = AII_G_NONE;
    }
    if (!ok || *p->s != '}' || max < min || min > AII_G_MAX_REPEAT || (max > AII_G_MAX_REPEAT && max != AII_G_NONE)) {
      unsupported(p, "this repetition");
      return;
    }
    p->s++;
  }
  if (*p->s == '?') p->s++; /* lazy: the same language */
  if (!aii_gp_repeat(&p->groups, min, max)) unsupported(p, "a repetition of nothing");
}

static void atom(pattern *p)
{
  class_set set = {.n = 0};
  uint32_t cp;
  switch (*p->s) {
    case '(':
      p->s++;
      if (p->s[0] == '?' && p->s[1] == ':') {
        p->s += 2;
      } else if (p->s[0] == '?') {
        unsupported(p, "look-around or a named group");
      }
      aii_gp_open(&p->groups);
      return;
    case ')':
      p->s++;
      if (p->groups.n_groups < 2) {
        unsupported(p, "an unbalanced ')'");
      } else {
        aii_gp_close_item(&p->groups);
      }
      return;
    case '|':
      p->s++;
      aii_gp_alternative(&p->groups);
      return;
    case '[':
      p->s++;
      bracket(p);
      return;
    case '*':
    case '+':
    case '?':
    case '{': repetition(p); return;
    case '^':
    case '$': unsupported(p, "an anchor inside"); return;
    case '.':
      p->s++;
      add(&set, '\n', '\n');
      add(&set, '\r', '\r');
      emit_class(p, &set, true);
      return;
    case '\\':
      p->s++;
      if (escape(p, &set)) emit_class(p, &set, false);
      return;
    default:
      if (!one_char(p, &cp)) return;
      add(&set, cp, cp);
      emit_class(p, &set, false);
  }
}

uint32_t aii_gj_pattern(aii_gb *b, const char *text, uint32_t next)
{
  size_t n = strlen(text);
  uint32_t exit = 0, entry = 0;
  pattern *p = n <= AII_G_MAX_SOURCE ? aii_new(b->g->mem, sizeof *p) : NULL;
  if (p == NULL) return aii_gb_fail(b, AIINFRA_ENOMEM, "pattern");
  p->b = p->groups.b = b;
  p->text = p->s = text;
  bool start = text[0] == '^', end = n > start && text[n - 1] == '$' && (n < 2 || text[n - 2] != '\\');
  p->s += start;
  if (strchr(text, '|') != NULL && (start || end) && strchr(text, '(') == NULL) unsupported(p, "an anchor beside '|'");
  aii_gp_open(&p->groups);
  while (b->rc == AIINFRA_OK && *p->s != '\0' && !(end && p->s == text + n - 1)) atom(p);
  if (b->rc == AIINFRA_OK && p->groups.n_groups != 1) unsupported(p, "a group that does not end");
  if (b->rc == AIINFRA_OK) {
    entry = aii_gp_close(&p->groups, &exit);
    if (!end) next = aii_gb_repeat_call(b, aii_gj_char(b), 0, AII_G_NONE, next);
    if (b->rc == AIINFRA_OK) b->g->nodes[exit].a = b->g->nodes[exit].b = next;
    if (!start) entry = aii_gb_repeat_call(b, aii_gj_char(b), 0, AII_G_NONE, entry);
  }
  aii_del(b->g->mem, p, sizeof *p);
  return entry;
}
