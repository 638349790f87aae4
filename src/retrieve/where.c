/* where.c - where a passage may end within a block that does not fit as a whole.
 *
 * The order of preference is by kind: prose at a sentence's end, a line's, a space; lines at a blank line, a line's
 * end, a space; nothing at all: between two characters. Among the ends of sentences and lines in the last half it takes
 * not the last one but the one around which the bytes hash lowest, so that a change far before moves no cut behind it.
 */
#include "src/retrieve/retrieve.h"

static size_t char_at(const char *s, size_t n, size_t at)
{
  size_t i = at;
  while (i > 0 && i < n && ((unsigned char)s[i] & 0xC0) == 0x80) i--;
  return i;
}

static bool is_closing(char c)
{
  return c == '"' || c == '\'' || c == ')' || c == ']';
}

/* Whether a sentence in Latin letters ends before the white space at `at`. */
static bool latin_end(const char *s, size_t n, size_t at)
{
  size_t i = at, next = at;
  if (at >= n || !aii_is_blank_char(s[at])) return false;
  while (i > 0 && is_closing(s[i - 1])) i--;
  if (i < 2 || strchr(".!?", s[i - 1]) == NULL || s[i - 1] == '\0') return false;
  while (next < n && aii_is_blank_char(s[next])) next++;
  if (next < n && s[next] >= 'a' && s[next] <= 'z') return false; /* "approx. five" */
  bool initial = s[i - 1] == '.' && s[i - 2] >= 'A' && s[i - 2] <= 'Z' && (i == 2 || aii_is_blank_char(s[i - 3]));
  return !initial; /* "J. Smith" */
}

/* Whether a sentence ends before `at`: behind its mark, and the white space after that. */
static bool sentence_ends(const char *s, size_t n, size_t at)
{
  static const char *const wide[] = {"\xE3\x80\x82", "\xEF\xBC\x81", "\xEF\xBC\x9F"};
  for (size_t i = 0; at >= 3 && i < AII_COUNT(wide); i++) {
    if (memcmp(s + at - 3, wide[i], 3) == 0) return true;
  }
  if (at == 0 || !aii_is_blank_char(s[at - 1])) return false;
  if (at < n && aii_is_blank_char(s[at])) return false;
  while (at > 1 && aii_is_blank_char(s[at - 2])) at--;
  return latin_end(s, n, at - 1);
}

static bool line_ends(const char *s, size_t at)
{
  return at > 0 && s[at - 1] == '\n';
}

static bool blank_line_ends(const char *s, size_t at)
{
  return at > 1 && s[at - 1] == '\n' && (s[at - 2] == '\n' || (at > 2 && s[at - 2] == '\r' && s[at - 3] == '\n'));
}

static bool space_ends(const char *s, size_t at)
{
  return at > 0 && aii_is_blank_char(s[at - 1]);
}

typedef enum place { AT_SENTENCE, AT_BLANK_LINE, AT_LINE, AT_SPACE } place;

static bool is_place(const char *s, size_t n, size_t at, place p)
{
  switch (p) {
    case AT_SENTENCE: return sentence_ends(s, n, at);
    case AT_BLANK_LINE: return blank_line_ends(s, at);
    case AT_LINE: return line_ends(s, at);
    case AT_SPACE: return space_ends(s, at);
  }
  return false;
}

/* The place of this kind in (least, limit]: the last one, or the one that hashes lowest; 0: there is none. */
static size_t find(const char *s, size_t n, size_t least, size_t limit, place p, bool last)
{
  size_t best = 0;
  uint64_t lowest = UINT64_MAX;
  for (size_t at = limit; at > least; at--) {
    if (!is_place(s, n, at, p)) continue;
    if (last) return at;
    size_t from = at > 12 ? at - 12 : 0;
    uint64_t hash = aii_hash64(s + from, AII_MIN(at + 12, n) - from, 0);
    if (hash < lowest) {
      lowest = hash;
      best = at;
    }
  }
  return best;
}

size_t aii_cut_where(const char *s, size_t n, size_t limit, aii_block_kind kind, aii_cut_kind cut)
{
  static const place prose[] = {AT_SENTENCE, AT_LINE, AT_SPACE}, lines[] = {AT_BLANK_LINE, AT_LINE, AT_SPACE},
                     tokens[] = {AT_SPACE, AT_SPACE, AT_SPACE};
  const place *order = cut == AII_CUT_TOKENS ? tokens : kind == AII_BLOCK_PROSE ? prose : lines;
  if (limit >= n) return n;
  for (size_t i = 0; i < 3; i++) {
    size_t at = find(s, n, limit / 2, limit, order[i], order[i] == AT_SPACE);
    if (at == 0) at = find(s, n, order[i] == AT_SPACE ? 0 : limit / 4, limit / 2, order[i], true);
    if (at > 0) return at;
  }
  size_t at = char_at(s, n, limit);
  if (at > 0) return at;
  while (limit < n && ((unsigned char)s[limit] & 0xC0) == 0x80) limit++; /* not even one character fits */
  return limit;
}

size_t aii_cut_tail(const char *s, size_t n, size_t most, aii_block_kind kind)
{
  static const place prose[] = {AT_SENTENCE, AT_LINE, AT_SPACE}, lines[] = {AT_LINE, AT_LINE, AT_SPACE};
  const place *order = kind == AII_BLOCK_PROSE ? prose : lines;
  size_t least = n > most ? n - most : 0;
  for (size_t i = 0; i < 3; i++) {
    for (size_t at = AII_MAX(least, (size_t)1); at < n; at++) {
      if (is_place(s, n, at, order[i]) && !aii_is_blank_char(s[at])) return at;
    }
  }
  return n;
}
