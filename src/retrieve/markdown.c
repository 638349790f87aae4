/* markdown.c - the structure of Markdown: headings, code between fences, tables, paragraphs.
 *
 * Only what decides where a passage may end is looked at. A fence that is never closed reaches to the end. Nothing in
 * a fence is a heading. A heading is "## Title" or a line with === or --- below it.
 */
#include "src/retrieve/retrieve.h"

typedef struct reader {
  aii_loaded *doc;
  const char *s;
  size_t n;
} reader;

static aii_textline line_at(const reader *r, size_t at, size_t *next)
{
  return aii_line_at(r->s, r->n, at, next);
}

/* 1 to 6 for "## Title ##", whose text goes to *title; else 0. */
static unsigned heading_level(aii_textline l, aii_textline *title)
{
  size_t indent = 0;
  unsigned level = 0;
  while (indent < l.n && l.s[indent] == ' ') indent++;
  while (indent + level < l.n && l.s[indent + level] == '#') level++;
  size_t at = indent + level;
  if (indent > 3 || level == 0 || level > AII_HEADING_LEVELS) return 0;
  if (at < l.n && !aii_is_blank_char(l.s[at])) return 0;
  *title = aii_line_trim((aii_textline){l.s + at, l.n - at});
  size_t n = title->n;
  while (n > 0 && title->s[n - 1] == '#') n--;
  if (n == 0 || aii_is_blank_char(title->s[n - 1])) *title = aii_line_trim((aii_textline){title->s, n});
  return level;
}

/* The level of a heading whose text stands above this line; else 0. */
static unsigned underline_level(aii_textline l)
{
  aii_textline t = aii_line_trim(l);
  if (t.n < 3 || (t.s[0] != '=' && t.s[0] != '-')) return 0;
  for (size_t i = 1; i < t.n; i++) {
    if (t.s[i] != t.s[0]) return 0;
  }
  return t.s[0] == '=' ? 1 : 2;
}

static bool is_fence(aii_textline l)
{
  aii_textline t = aii_line_trim(l);
  return t.n >= 3 && (memcmp(t.s, "```", 3) == 0 || memcmp(t.s, "~~~", 3) == 0);
}

/* The end of a code block that begins at `at`: behind its closing fence, or the document's end. */
static size_t fence_end(const reader *r, size_t at)
{
  size_t next, open_n = 0;
  aii_textline open = aii_line_trim(line_at(r, at, &next));
  while (open_n < open.n && open.s[open_n] == open.s[0]) open_n++;
  while (next < r->n) {
    aii_textline l = aii_line_trim(line_at(r, next, &next));
    size_t n = 0;
    while (n < l.n && l.s[n] == open.s[0]) n++;
    if (n >= open_n && n == l.n) break;
  }
  return next;
}

static bool is_row(aii_textline l)
{
  aii_textline t = aii_line_trim(l);
  return t.n > 0 && t.s[0] == '|';
}

static void add_heading(reader *r, aii_textline title, unsigned level)
{
  aii_add_block(r->doc, (size_t)(title.s - r->s), title.n, AII_BLOCK_HEADING, level);
}

/* Adds the paragraph or table at `at`, or the heading that it turns out to be; returns its end. */
static size_t add_paragraph(reader *r, size_t at)
{
  size_t end = at, next;
  bool table = true;
  aii_textline title, first = line_at(r, at, &next);
  while (end < r->n) {
    aii_textline l = line_at(r, end, &next);
    if (aii_line_is_blank(l) || heading_level(l, &title) != 0 || (end > at && is_fence(l))) break;
    if (end > at && end == (size_t)(first.s - r->s) + first.n + 1 && underline_level(l) != 0 && !is_row(first)) {
      add_heading(r, aii_line_trim(first), underline_level(l));
      return next;
    }
    table = table && is_row(l);
    end = next;
  }
  aii_add_block(r->doc, at, end - at, table ? AII_BLOCK_LINES : AII_BLOCK_PROSE, 0);
  return end;
}

void aii_blocks_markdown(aii_loaded *doc)
{
  reader r = {doc, aii_buf_cstr(&doc->text), doc->text.len};
  size_t next;
  for (size_t at = 0; at < r.n && !doc->failed; at = next) {
    aii_textline title, l = line_at(&r, at, &next);
    if (aii_line_is_blank(l)) continue;
    unsigned level = heading_level(l, &title);
    if (level != 0) {
      add_heading(&r, title, level);
    } else if (is_fence(l)) {
      next = fence_end(&r, at);
      aii_add_block(doc, at, next - at, AII_BLOCK_LINES, 0);
    } else {
      next = add_paragraph(&r, at);
    }
  }
}
