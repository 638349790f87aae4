/* blocks.c - the structure of plain text and of source code.
 *
 * Plain text is paragraphs between blank lines. Source code is units: a unit begins at a line that is not indented and
 * stands behind a blank one, and goes on until the next such line; so a function keeps its comment, its decorators and
 * the blank lines within it, in every language that indents.
 */
#include "src/retrieve/retrieve.h"

aii_textline aii_line_at(const char *s, size_t n, size_t at, size_t *next)
{
  const char *end = at < n ? memchr(s + at, '\n', n - at) : NULL;
  size_t stop = end != NULL ? (size_t)(end - s) : n;
  *next = end != NULL ? stop + 1 : n;
  return (aii_textline){s + at, stop - at};
}

bool aii_is_blank_char(char c)
{
  return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\f' || c == '\v';
}

bool aii_line_is_blank(aii_textline l)
{
  for (size_t i = 0; i < l.n; i++) {
    if (!aii_is_blank_char(l.s[i])) return false;
  }
  return true;
}

aii_textline aii_line_trim(aii_textline l)
{
  while (l.n > 0 && aii_is_blank_char(l.s[l.n - 1])) l.n--;
  while (l.n > 0 && aii_is_blank_char(l.s[0])) l.s++, l.n--;
  return l;
}

void aii_blocks_plain(aii_loaded *doc)
{
  const char *s = aii_buf_cstr(&doc->text);
  size_t n = doc->text.len, first = 0, end = 0, next;
  for (size_t at = 0; at < n; at = next) {
    aii_textline l = aii_line_at(s, n, at, &next);
    bool page = l.n > 0 && l.s[0] == '\f'; /* a new page begins a paragraph */
    if (end > first && (page || aii_line_is_blank(l))) {
      aii_add_block(doc, first, end - first, AII_BLOCK_PROSE, 0);
      end = first;
    }
    if (aii_line_is_blank(l)) continue;
    if (end <= first) first = at + page;
    end = next;
  }
  if (end > first) aii_add_block(doc, first, end - first, AII_BLOCK_PROSE, 0);
}

/* Whether a line only closes what stands above it, as "}" or "end" does. */
static bool closes(aii_textline l)
{
  aii_textline t = aii_line_trim(l);
  return t.n > 0 && (strchr(")]}", t.s[0]) != NULL || (t.n == 3 && memcmp(t.s, "end", 3) == 0));
}

void aii_blocks_code(aii_loaded *doc)
{
  const char *s = aii_buf_cstr(&doc->text);
  size_t n = doc->text.len, first = 0, end = 0, next;
  bool after_blank = true;
  for (size_t at = 0; at < n; at = next) {
    aii_textline l = aii_line_at(s, n, at, &next);
    if (aii_line_is_blank(l)) {
      after_blank = true;
      continue;
    }
    if (after_blank && !aii_is_blank_char(l.s[0]) && !closes(l)) {
      if (end > first) aii_add_block(doc, first, end - first, AII_BLOCK_UNIT, 0);
      first = at;
    }
    after_blank = false;
    end = next;
  }
  if (end > first) aii_add_block(doc, first, end - first, AII_BLOCK_UNIT, 0);
}
