/* pretok_expr.c - matches an expression at one place: its alternatives in order, the first that matches wins.
 *
 * Greedy runs, given back only where the expression could: the optional character in front, the upper-case run of
 * [U]*[D]+, the last space of \s+(?!\S). Runs of white space and of digits are measured once a piece.
 */
#include "src/text/pretok_impl.h"

static bool member(const aii_alt *a, const aii_pchar *c)
{
  bool in = (c->cls & a->cls) != 0 || (a->set != AII_SET_NONE && aii_in_set(c->cp, (aii_range_set)a->set)) ||
            (a->extra != NULL && c->cp > 0 && c->cp < 128 && strchr(a->extra, (int)c->cp) != NULL);
  return in != a->negate;
}

static size_t run(const aii_pchar *c, size_t i, size_t n, uint16_t any_of)
{
  while (i < n && (c[i].cls & any_of) != 0) i++;
  return i;
}

static bool may_lead(const aii_alt *a, const aii_pchar *c)
{
  switch (a->lead) {
    case AII_LEAD_SPACE: return c->cp == ' ';
    case AII_LEAD_WHITE: return (c->cls & PC_SPACE) != 0;
    case AII_LEAD_OTHER: return (c->cls & (a->not_lead | PC_NL)) == 0;
    case AII_LEAD_NONE: break;
  }
  return false;
}

static size_t members(const aii_alt *a, const aii_pchar *c, size_t from, size_t n)
{
  size_t end = from, stop = a->most != 0 ? AII_MIN(n, from + a->most) : n;
  if (a->set == AII_SET_NONE && a->extra == NULL) {
    uint16_t cls = a->cls;
    bool negate = a->negate;
    while (end < stop && ((c[end].cls & cls) != 0) != negate) end++;
  } else {
    while (end < stop && member(a, &c[end])) end++;
  }
  return end - from >= AII_MAX(a->least, 1u) ? end : from;
}

static size_t match_run(const aii_alt *a, const aii_pchar *c, size_t i, size_t n)
{
  size_t from = i + (may_lead(a, &c[i]) ? 1 : 0), end = members(a, c, from, n);
  if (end == from && from > i) end = members(a, c, from = i, n);
  if (end == from) return i;
  while (a->tail != NULL && end < n && c[end].cp > 0 && c[end].cp < 128 && strchr(a->tail, (int)c[end].cp) != NULL) {
    end++;
    if (a->one_tail) break;
  }
  return end;
}

static size_t contraction(const aii_pchar *c, size_t i, size_t n, bool any_case)
{
  if (i + 1 >= n || c[i].cp != '\'') return i;
  uint32_t a = c[i + 1].cp, b = i + 2 < n ? c[i + 2].cp : 0;
  if (any_case && a >= 'A' && a <= 'Z') a += 32;
  if (any_case && b >= 'A' && b <= 'Z') b += 32;
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return i + 2;
  if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return i + 3;
  return i;
}

/* ((?=[\p{L}\p{M}])([^a-z])) stands for upper case in some tables: every letter and mark but a-z. */
static bool upper(const aii_alt *a, const aii_pchar *c)
{
  if ((c->cls & a->up) == 0 || (c->cls & a->without) != 0) return false;
  return a->up != (PC_L | PC_M) || c->cp < 'a' || c->cp > 'z';
}

static bool lower(const aii_alt *a, const aii_pchar *c)
{
  if ((c->cls & a->low) == 0 || (c->cls & a->without) != 0) return false;
  return a->low != (PC_L | PC_M) || c->cp < 'A' || c->cp > 'Z';
}

/* [U]*[D]+ from i: the longest U run gives back characters until a D follows. */
static size_t upper_lower(const aii_alt *a, const aii_pchar *c, size_t i, size_t n)
{
  size_t up = i;
  while (up < n && upper(a, &c[up])) up++;
  if (up < n && lower(a, &c[up])) {
    while (up < n && lower(a, &c[up])) up++;
    return up;
  }
  while (up > i && !lower(a, &c[up - 1])) up--;
  return up;
}

static size_t match_cased(const aii_alt *a, const aii_pchar *c, size_t i, size_t n)
{
  size_t from = i + (may_lead(a, &c[i]) ? 1 : 0), end = upper_lower(a, c, from, n);
  if (end == from && from > i) end = upper_lower(a, c, from = i, n);
  if (end == from) { /* [U]+[D]*: there is no D, or the above had matched */
    from = i + (may_lead(a, &c[i]) ? 1 : 0);
    for (end = from; end < n && upper(a, &c[end]);) end++;
    if (end == from && from > i) {
      for (end = from = i; end < n && upper(a, &c[end]);) end++;
    }
    if (end == from) return i;
    while (end < n && lower(a, &c[end])) end++;
  }
  return a->contraction && end < n ? contraction(c, end, n, a->any_case) : end;
}

static void measure_spaces(aii_run_memo *m, const aii_pchar *c, size_t i, size_t n)
{
  if (i >= m->space_from && i < m->space_end) return;
  m->space_from = i;
  m->last_newline = 0;
  size_t end = i;
  for (; end < n && (c[end].cls & PC_SPACE) != 0; end++) {
    if ((c[end].cls & PC_NL) != 0) m->last_newline = end + 1;
  }
  m->space_end = end;
}

/* \s{512}(?!\S) down to \s{1}: a length fits when the run is longer, or as long and at the end. */
static size_t power(size_t length, bool to_end)
{
  for (size_t k = 512; k >= 4; k /= 2) {
    if (length > k || (length == k && to_end)) return k;
  }
  return length > 2 || (length == 2 && to_end) ? 2 : 1;
}

static size_t match_spaces(aii_alt_op op, aii_run_memo *m, const aii_pchar *c, size_t i, size_t n)
{
  if ((c[i].cls & PC_SPACE) == 0) return i;
  measure_spaces(m, c, i, n);
  size_t end = m->space_end;
  switch (op) {
    case AII_ALT_NEWLINES: return m->last_newline > i ? m->last_newline : i;
    case AII_ALT_BEFORE: return end == n ? end : end - 1;
    case AII_ALT_TO_END: return end == n ? end : i;
    default: return i + power(end - i, end == n);
  }
}

static size_t match_groups(uint16_t cls, bool word, aii_run_memo *m, const aii_pchar *c, size_t i, size_t n)
{
  if ((c[i].cls & cls) == 0) return i;
  if (i < m->digit_from || i >= m->digit_end) {
    m->digit_from = i;
    m->digit_end = run(c, i, n, cls);
  }
  if (word && m->digit_end < n && (c[m->digit_end].cls & PC_WORD) != 0) return i;
  size_t odd = (m->digit_end - i) % 3;
  return i + (odd != 0 ? odd : 3);
}

static size_t match_phrase(const aii_alt *a, const aii_pchar *c, size_t i, size_t n)
{
  size_t from = i + (may_lead(a, &c[i]) ? 1 : 0);
  if (from >= n || (c[from].cls & PC_L) == 0) from = i;
  if (from >= n || (c[from].cls & PC_L) == 0) return i;
  for (size_t end = from;;) {
    end = run(c, end + 1, n, PC_M);
    if (end < n && (c[end].cls & PC_L) != 0) continue;
    if (end + 1 >= n || c[end].cp != ' ' || (c[end + 1].cls & PC_L) == 0) return end;
    end++;
  }
}

static size_t match_text(const char *text, const aii_pchar *c, size_t i, size_t n)
{
  size_t end = i;
  for (; *text != 0; text++, end++) {
    if (end >= n || c[end].cp != (uint32_t)*text) return i;
  }
  return end;
}

/* [ASCII punctuation][A-Za-z]+ */
static size_t match_marked(const aii_pchar *c, size_t i, size_t n)
{
  size_t end = (c[i].cls & PC_ASCII_P) != 0 ? run(c, i + 1, n, PC_ALPHA) : i;
  return end > i + 1 ? end : i;
}

static size_t match_sentinel(const aii_pchar *c, size_t i, size_t n)
{
  size_t from = match_text("<sentinel:", c, i, n), end = run(c, from, n, PC_09);
  return from > i && end > from && end < n && c[end].cp == '>' ? end + 1 : i;
}

static size_t match_image(const aii_pchar *c, size_t i, size_t n)
{
  size_t from = match_text("IMGIMG", c, i, n), end = from;
  while (end < n && end - from < 4 && c[end].cp >= 'A' && c[end].cp <= 'I') end++;
  return from > i && end > from && end < n && c[end].cp == 'Z' ? end + 1 : i;
}

size_t aii_expr_match(const aii_expr *expr, aii_run_memo *memo, const aii_pchar *c, size_t i, size_t n)
{
  size_t end = i;
  for (const aii_alt *a = expr->alts; end == i; a++) {
    switch (a->op) {
      case AII_ALT_END: return i;
      case AII_ALT_RUN: end = match_run(a, c, i, n); break;
      case AII_ALT_CONTRACTION: end = contraction(c, i, n, a->any_case); break;
      case AII_ALT_CASED: end = match_cased(a, c, i, n); break;
      case AII_ALT_NEWLINES:
      case AII_ALT_BEFORE:
      case AII_ALT_TO_END:
      case AII_ALT_POWERS: end = match_spaces(a->op, memo, c, i, n); break;
      case AII_ALT_GROUPS: end = match_groups(a->cls, false, memo, c, i, n); break;
      case AII_ALT_GROUPS_WORD: end = match_groups(a->cls, true, memo, c, i, n); break;
      case AII_ALT_PHRASE: end = match_phrase(a, c, i, n); break;
      case AII_ALT_MARKED: end = match_marked(c, i, n); break;
      case AII_ALT_SENTINEL: end = match_sentinel(c, i, n); break;
      case AII_ALT_IMAGE: end = match_image(c, i, n); break;
      case AII_ALT_TEXT: end = match_text(a->extra, c, i, n); break;
    }
  }
  return end;
}
