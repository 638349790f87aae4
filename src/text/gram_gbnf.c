/* gram_gbnf.c - reads GBNF: rules "name ::= alternatives" of literals, classes, names, groups and repetitions.
 *
 * One pass over the text with an explicit stack of groups. A name that is used before it is defined becomes a rule at
 * once; one that never gets a body is an error that names it. "root" is where a grammar begins.
 */
#include "src/text/gram_impl.h"

typedef struct gbnf {
  aii_gb b;
  aii_gparse groups;
  aii_map names;
  const char **text; /* of each rule's name, for messages */
  size_t n_text, cap_text;
  const char *s, *end;
  uint32_t line;
} gbnf;

static uint32_t fail(gbnf *p, const char *what)
{
  return aii_gb_fail(&p->b, AIINFRA_EFORMAT, "grammar line %u: %s", p->line, what);
}

static bool at(const gbnf *p, char c)
{
  return p->s < p->end && *p->s == c;
}

/* White space and comments; newlines only within groups or where a rule may go on. */
static void skip(gbnf *p, bool newlines)
{
  while (p->s < p->end) {
    if (*p->s == '#') {
      while (p->s < p->end && *p->s != '\n') p->s++;
    } else if (*p->s == ' ' || *p->s == '\t' || (newlines && (*p->s == '\n' || *p->s == '\r'))) {
      p->line += *p->s == '\n';
      p->s++;
    } else {
      break;
    }
  }
}

static bool is_word(char c)
{
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static size_t word(const gbnf *p)
{
  size_t n = 0;
  while (p->s + n < p->end && is_word(p->s[n])) n++;
  return n;
}

static uint32_t rule_of(gbnf *p, const char *name, size_t n)
{
  uint32_t rule;
  if (aii_map_get(&p->names, name, n, &rule)) return rule;
  rule = aii_gb_rule(&p->b);
  if (p->b.rc != AIINFRA_OK) return 0;
  if (!aii_map_set(&p->names, name, n, rule) ||
      !aii_grow(p->names.mem, &p->text, &p->cap_text, p->n_text + 1, sizeof *p->text)) {
    return aii_gb_fail(&p->b, AIINFRA_ENOMEM, "grammar names");
  }
  p->text[p->n_text++] = name;
  return rule;
}

static int hex(char c)
{
  if (c >= '0' && c <= '9') return c - '0';
  if ((c | 32) >= 'a' && (c | 32) <= 'f') return (c | 32) - 'a' + 10;
  return -1;
}

/* One character of a literal or class, escapes undone. false: the text ends or an escape is broken. */
static bool character(gbnf *p, uint32_t *cp)
{
  if (p->s >= p->end) return false;
  if (*p->s != '\\') {
    int len = aii_utf8_decode(p->s, (size_t)(p->end - p->s), cp);
    p->s += len > 0 ? len : 0;
    return len > 0;
  }
  if (p->end - p->s < 2) return false;
  char c = p->s[1];
  p->s += 2;
  size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
  static const char from[] = "nrt", to[] = "\n\r\t";
  const char *known = strchr(from, c);
  if (digits == 0) {
    *cp = known != NULL && c != '\0' ? (uint8_t)to[known - from] : (uint8_t)c;
    return strchr("\"[]\\nrt-^/.*+?(){}|'", c) != NULL && c != '\0';
  }
  *cp = 0;
  for (; digits > 0; digits--) {
    int d = p->s < p->end ? hex(*p->s) : -1;
    if (d < 0) return false;
    *cp = *cp << 4 | (uint32_t)d;
    p->s++;
  }
  return *cp <= 0x10FFFF;
}

static void literal(gbnf *p)
{
  aii_buf text;
  uint32_t cp, low = (uint32_t)p->b.g->n_nodes;
  aii_buf_init(&text, p->b.g->mem, 0);
  p->s++;
  while (p->s < p->end && *p->s != '"') {
    char utf8[4];
    if (!character(p, &cp)) {
      (void)fail(p, "a bad character in a literal");
      break;
    }
    aii_buf_add(&text, utf8, aii_utf8_encode(cp, utf8));
  }
  if (p->s >= p->end) (void)fail(p, "the literal does not end");
  p->s++;
  if (text.failed) (void)aii_gb_fail(&p->b, AIINFRA_ENOMEM, "literal");
  uint32_t exit = aii_gp_eps(&p->b), entry = aii_gb_bytes(&p->b, aii_buf_cstr(&text), text.len, exit);
  aii_buf_free(&text);
  aii_gp_item(&p->groups, low, entry, exit);
}

static void class_item(gbnf *p, const aii_range *ranges, size_t n, bool negated)
{
  aii_gb *b = &p->b;
  uint32_t low = (uint32_t)b->g->n_nodes, exit = aii_gp_eps(b), entry = exit;
  size_t room = 2 * n + 4; /* the ranges and their complement */
  aii_range *work = aii_new_array(b->g->mem, room, sizeof *work);
  if (work == NULL) {
    (void)aii_gb_fail(b, AIINFRA_ENOMEM, "character class");
    return;
  }
  if (n > 0) memcpy(work, ranges, n * sizeof *work);
  if (negated) {
    size_t m = aii_ranges_normalise(work, n), k = aii_ranges_invert(work, m, work + n);
    entry = aii_gb_ranges(b, work + n, k, exit);
  } else {
    entry = aii_gb_ranges(b, work, n, exit);
  }
  aii_del(b->g->mem, work, room * sizeof *work);
  aii_gp_item(&p->groups, low, entry, exit);
}

static void char_class(gbnf *p)
{
  aii_range *ranges = NULL;
  size_t n = 0, cap = 0;
  aii_mem *mem = p->b.g->mem;
  p->s++;
  bool negated = at(p, '^');
  p->s += negated;
  while (p->b.rc == AIINFRA_OK && p->s < p->end && *p->s != ']') {
    aii_range r;
    bool ok = character(p, &r.first);
    r.last = r.first;
    if (ok && at(p, '-') && p->end - p->s > 1 && p->s[1] != ']') {
      p->s++;
      ok = character(p, &r.last) && r.last >= r.first;
    }
    if (!ok) (void)fail(p, "a bad character class");
    if (ok && !aii_grow(mem, &ranges, &cap, n + 1, sizeof *ranges))
      ok = aii_gb_fail(&p->b, AIINFRA_ENOMEM, "class") != 0;
    if (ok) ranges[n++] = r;
  }
  if (p->s >= p->end) (void)fail(p, "the character class does not end");
  p->s++;
  if (p->b.rc == AIINFRA_OK) class_item(p, ranges, n, negated);
  aii_del(mem, ranges, cap * sizeof *ranges);
}

static bool integer(gbnf *p, uint32_t *value)
{
  bool any = false;
  *value = 0;
  while (p->s < p->end && *p->s >= '0' && *p->s <= '9') {
    *value = AII_MIN(*value * 10 + (uint32_t)(*p->s - '0'), AII_G_MAX_REPEAT + 1u);
    p->s++;
    any = true;
  }
  return any;
}

/* * + ? {n} {n,} {n,m} behind an item; `{` may stand behind spaces. */
static void repetition(gbnf *p)
{
  uint32_t min = 0, max = AII_G_NONE;
  char c = *p->s++;
  if (c == '+') min = 1;
  if (c == '?') max = 1;
  if (c == '{') {
    skip(p, false);
    bool low = integer(p, &min);
    skip(p, false);
    max = min;
    if (at(p, ',')) {
      p->s++;
      skip(p, false);
      if (!integer(p, &max)) max = AII_G_NONE;
      skip(p, false);
    } else if (!low) {
      (void)fail(p, "a number is missing in {}");
    }
    if (!at(p, '}')) (void)fail(p, "expected '}'");
    p->s++;
  }
  if (min > AII_G_MAX_REPEAT || (max != AII_G_NONE && max > AII_G_MAX_REPEAT)) {
    (void)aii_gb_fail(&p->b, AIINFRA_ELIMIT, "grammar line %u: a repetition beyond %d", p->line, AII_G_MAX_REPEAT);
  }
  if (max < min) (void)fail(p, "a repetition with more than it may have");
  if (p->b.rc == AIINFRA_OK && !aii_gp_repeat(&p->groups, min, max)) (void)fail(p, "nothing to repeat");
}

static void reference(gbnf *p, size_t n)
{
  aii_gb *b = &p->b;
  uint32_t rule = rule_of(p, p->s, n), low = (uint32_t)b->g->n_nodes;
  uint32_t exit = aii_gp_eps(b), entry = aii_gb_call(b, rule, exit);
  p->s += n;
  aii_gp_item(&p->groups, low, entry, exit);
}

/* Whether "name ::=" stands here, which ends the rule before. */
static bool at_rule(gbnf *p)
{
  size_t n = word(p);
  const char *s = p->s + n;
  if (n == 0) return false;
  while (s < p->end && (*s == ' ' || *s == '\t')) s++;
  return p->end - s >= 3 && memcmp(s, "::=", 3) == 0;
}

static void item(gbnf *p)
{
  size_t n = word(p);
  aii_range any = {0, 0x10FFFF};
  switch (*p->s) {
    case '"': literal(p); return;
    case '[': char_class(p); return;
    case '.':
      p->s++;
      class_item(p, &any, 1, false);
      return;
    case '(':
      p->s++;
      aii_gp_open(&p->groups);
      return;
    case ')':
      p->s++;
      if (p->groups.n_groups < 2) {
        (void)fail(p, "unexpected ')'");
      } else {
        aii_gp_close_item(&p->groups);
      }
      return;
    case '|':
      p->s++;
      aii_gp_alternative(&p->groups);
      return;
    case '*':
    case '+':
    case '?':
    case '{': repetition(p); return;
    default: break;
  }
  if (n == 0) {
    (void)fail(p, "unexpected character");
  } else {
    reference(p, n);
  }
}

static void rule(gbnf *p)
{
  size_t n = word(p);
  if (n == 0) {
    (void)fail(p, "expected a rule's name");
    return;
  }
  uint32_t index = rule_of(p, p->s, n), exit = 0;
  p->s += n;
  skip(p, false);
  if (p->end - p->s < 3 || memcmp(p->s, "::=", 3) != 0) {
    (void)fail(p, "expected ::=");
    return;
  }
  p->s += 3;
  if (p->b.rc == AIINFRA_OK && p->b.g->rules[index] != AII_G_NONE) (void)fail(p, "a rule is defined twice");
  aii_gp_open(&p->groups);
  for (skip(p, true); p->b.rc == AIINFRA_OK && p->s < p->end && !at_rule(p); skip(p, true)) item(p);
  if (p->b.rc != AIINFRA_OK) return;
  if (p->groups.n_groups != 1) {
    (void)fail(p, "a group does not end");
    return;
  }
  uint32_t entry = aii_gp_close(&p->groups, &exit);
  p->b.g->nodes[exit].a = p->b.g->nodes[exit].b = 0;
  aii_gb_define(&p->b, index, entry);
}

static void check_names(gbnf *p)
{
  for (size_t i = 0; i < p->n_text && p->b.rc == AIINFRA_OK; i++) {
    if (p->b.g->rules[i] != AII_G_NONE) continue;
    p->s = p->text[i];
    (void)aii_gb_fail(&p->b, AIINFRA_EFORMAT, "the grammar has no rule \"%.*s\"", (int)AII_MIN(word(p), 60), p->s);
  }
}

aiinfra_status aii_grammar_from_gbnf(aii_mem *mem, const char *text, const char *lazy_trigger, aii_grammar **out,
                                     aiinfra_error *err)
{
  *out = NULL;
  size_t n = strlen(text);
  if (n > AII_G_MAX_SOURCE) return aii_fail(err, AIINFRA_ELIMIT, "a grammar of more than %d bytes", AII_G_MAX_SOURCE);
  gbnf *p = aii_new(mem, sizeof *p);
  if (p == NULL) return aii_fail(err, AIINFRA_ENOMEM, "grammar");
  p->s = text;
  p->end = text + n;
  p->line = 1;
  p->groups.b = &p->b;
  aii_map_init(&p->names, mem);
  aiinfra_status rc = aii_gb_init(&p->b, mem, err);
  if (rc == AIINFRA_OK) {
    (void)rule_of(p, "root", 4);
    for (skip(p, true); p->b.rc == AIINFRA_OK && p->s < p->end; skip(p, true)) rule(p);
    check_names(p);
  }
  if (rc == AIINFRA_OK && lazy_trigger != NULL) {
    p->b.g->lazy = true;
    aii_gw_add(&p->b, AII_GW_TEXT, lazy_trigger, GW_TRIGGER);
  }
  rc = aii_gb_finish(&p->b, out);
  aii_map_free(&p->names);
  aii_del(mem, p->text, p->cap_text * sizeof *p->text);
  aii_del(mem, p, sizeof *p);
  return rc;
}
