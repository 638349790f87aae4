/* chunk.c - cuts a document into passages that make sense alone, without copying it.
 *
 * A passage is a run of whole paragraphs below one heading, as many as fit. A paragraph that is too long is cut at a
 * line end, else at a sentence's end, else at a space, else between characters. Headings are no part of a passage:
 * each passage is told the path of headings it lies below. Code blocks between fences are paragraphs that may hold
 * blank lines, and nothing in them is a heading. Every passage is a range of the document's bytes.
 *
 * State: `at` is where the next passage may begin, always at the start of a line or within an overlong paragraph.
 * Cannot fail. One owner.
 */
#include "src/memory/memory.h"

typedef struct line {
  const char *s;
  size_t n; /* without the line end */
} line;

void aii_chunker_init(aii_chunker *c, const char *text, size_t n, size_t max, bool markdown)
{
  memset(c, 0, sizeof *c);
  c->text = text;
  c->n = n;
  c->max = AII_MAX(max, (size_t)16);
  c->markdown = markdown;
}

/* The line at `at`; *next is where the one after it begins. */
static line line_at(const aii_chunker *c, size_t at, size_t *next)
{
  const char *end = memchr(c->text + at, '\n', c->n - at);
  size_t stop = end != NULL ? (size_t)(end - c->text) : c->n;
  *next = end != NULL ? stop + 1 : c->n;
  return (line){c->text + at, stop - at};
}

static bool is_blank_char(char ch)
{
  return ch == ' ' || ch == '\t' || ch == '\r' || ch == '\n' || ch == '\f' || ch == '\v';
}

static bool is_blank(line l)
{
  for (size_t i = 0; i < l.n; i++) {
    if (!is_blank_char(l.s[i])) return false;
  }
  return true;
}

static line trim(line l)
{
  while (l.n > 0 && is_blank_char(l.s[l.n - 1])) l.n--;
  while (l.n > 0 && is_blank_char(l.s[0])) l.s++, l.n--;
  return l;
}

/* 1 to 6 for an ATX heading ("## Title ##"), whose text goes to *title; else 0. */
static size_t heading_level(const aii_chunker *c, line l, line *title)
{
  size_t indent = 0, level = 0;
  if (!c->markdown) return 0;
  while (indent < l.n && l.s[indent] == ' ') indent++;
  while (indent + level < l.n && l.s[indent + level] == '#') level++;
  size_t at = indent + level;
  if (indent > 3 || level == 0 || level > AII_HEADING_LEVELS) return 0;
  if (at < l.n && !is_blank_char(l.s[at])) return 0;
  *title = trim((line){l.s + at, l.n - at});
  size_t n = title->n;
  while (n > 0 && title->s[n - 1] == '#') n--;
  if (n == 0 || is_blank_char(title->s[n - 1])) *title = trim((line){title->s, n});
  return level;
}

static bool is_fence(const aii_chunker *c, line l)
{
  line t = trim(l);
  return c->markdown && t.n >= 3 && (memcmp(t.s, "```", 3) == 0 || memcmp(t.s, "~~~", 3) == 0);
}

static void set_heading(aii_chunker *c, size_t level, line title)
{
  size_t n = AII_MIN(title.n, (size_t)AII_HEADING_BYTES - 1), at = 0;
  while (n > 0 && n < title.n && ((unsigned char)title.s[n] & 0xC0) == 0x80) n--;
  memset(c->heading[level - 1], 0, sizeof c->heading - (level - 1) * sizeof c->heading[0]);
  memcpy(c->heading[level - 1], title.s, n);
  for (size_t i = 0; i < AII_HEADING_LEVELS; i++) {
    size_t part = strlen(c->heading[i]);
    if (part == 0) continue;
    if (at > 0) {
      memcpy(c->path + at, " > ", 3);
      at += 3;
    }
    memcpy(c->path + at, c->heading[i], part);
    at += part;
  }
  c->path[at] = '\0';
}

/* The end of a code block that begins at `at`: behind its closing fence, or the document's end. */
static size_t fence_end(const aii_chunker *c, size_t at)
{
  size_t next;
  line open = trim(line_at(c, at, &next));
  while (next < c->n) {
    line l = trim(line_at(c, next, &next));
    if (l.n >= 3 && memcmp(l.s, open.s, 3) == 0) break;
  }
  return next;
}

/* The end of the paragraph or code block that begins at `at`, which is no blank line and no heading. */
static size_t block_end(const aii_chunker *c, size_t at, bool *fenced)
{
  size_t next, end = at;
  line title;
  *fenced = true;
  if (at < c->fence_end) return c->fence_end;
  if (is_fence(c, line_at(c, at, &next))) return fence_end(c, at);
  *fenced = false;
  while (end < c->n) {
    line l = line_at(c, end, &next);
    if (is_blank(l) || heading_level(c, l, &title) != 0 || (end > at && is_fence(c, l))) break;
    end = next;
  }
  return end;
}

/* Goes over blank lines. */
static size_t skip_blank(const aii_chunker *c, size_t at)
{
  size_t next;
  while (at < c->n && is_blank(line_at(c, at, &next))) at = next;
  return at;
}

/* How much of an overlong paragraph of n bytes to take: at most max, cut where it hurts least. */
static size_t cut(const char *s, size_t n, size_t max)
{
  size_t least = max / 3, sentence = 0, space = 0;
  if (n <= max) return n;
  for (size_t i = max; i > least; i--) {
    char before = s[i - 1];
    if (before == '\n') return i;
    if (!is_blank_char(before)) continue;
    if (space == 0) space = i;
    if (sentence == 0 && i >= 2 && (s[i - 2] == '.' || s[i - 2] == '!' || s[i - 2] == '?')) sentence = i;
  }
  if (sentence > 0 || space > 0) return sentence > 0 ? sentence : space;
  while (max > 1 && ((unsigned char)s[max] & 0xC0) == 0x80) max--;
  return max;
}

/* Trims [from, to) and hands it out; false when nothing is left. */
static bool emit(const aii_chunker *c, size_t from, size_t to, aii_chunk *out)
{
  line l = trim((line){c->text + from, to - from});
  *out = (aii_chunk){(size_t)(l.s - c->text), l.n, c->path};
  return l.n > 0;
}

/* Gathers paragraphs from `at` on; false when what it found was blank. */
static bool gather(aii_chunker *c, aii_chunk *out)
{
  size_t start = c->at, end = start, next;
  line title;
  for (;;) {
    bool fenced;
    size_t stop = block_end(c, c->at, &fenced);
    if (stop - start > c->max && end > start) break; /* does not fit any more */
    if (stop - start > c->max) {
      if (fenced) c->fence_end = stop;
      end = c->at = start + cut(c->text + start, stop - start, c->max);
      break;
    }
    end = stop;
    c->at = skip_blank(c, stop);
    if (c->at >= c->n || heading_level(c, line_at(c, c->at, &next), &title) != 0) break;
  }
  return emit(c, start, end, out);
}

bool aii_chunker_next(aii_chunker *c, aii_chunk *out)
{
  for (;;) {
    size_t next;
    line title;
    c->at = skip_blank(c, c->at);
    if (c->at >= c->n) return false;
    size_t level = c->at < c->fence_end ? 0 : heading_level(c, line_at(c, c->at, &next), &title);
    if (level == 0) {
      if (gather(c, out)) return true;
    } else {
      set_heading(c, level, title);
      c->at = next;
    }
  }
}
