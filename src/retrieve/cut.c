/* cut.c - cuts a text into passages that make sense alone, without copying it.
 *
 * A passage is a run of whole blocks below one heading, as many as fit; a block that does not fit is cut where where.c
 * says. Headings are no part of a passage: each is told the path of headings it lies below. The cuts that ignore
 * structure see the text as one block.
 *
 * Once a passage is half full, it also ends before a block whose own bytes say so, one in three. So cuts depend on what
 * stands near them, and a change in one paragraph leaves most other passages of the document as they were.
 *
 * State: the next passage begins at `at`, in or before the block `block`; last_end is how far the last one reached.
 * With an overlap `at` lies before last_end, and when the passage could then not reach further, there is none. What can
 * fail is the measure. One owner.
 */
#include "src/retrieve/retrieve.h"

enum { TRIES = 12, LEAST = 16 };

size_t aii_measure_words(void *user, const char *text, size_t n)
{
  size_t words = 0;
  bool inside = false;
  (void)user;
  for (size_t i = 0; i < n; i++) {
    bool blank = aii_is_blank_char(text[i]);
    words += !blank && !inside;
    inside = !blank;
  }
  return words;
}

void aii_cutter_init(aii_cutter *c, const aii_loaded *doc, const aii_cut_opts *opts)
{
  memset(c, 0, sizeof *c);
  c->text = aii_buf_cstr(&doc->text);
  c->o = *opts;
  c->o.size = AII_MAX(opts->size, opts->measure == NULL ? (size_t)LEAST : (size_t)1);
  c->o.overlap = AII_MIN(opts->overlap, c->o.size / 2);
  c->blocks = doc->blocks;
  c->n_blocks = doc->n_blocks;
  if (opts->kind != AII_CUT_STRUCTURE) {
    c->whole = (aii_textblock){0, doc->text.len, AII_BLOCK_PROSE, 0};
    c->blocks = &c->whole;
    c->n_blocks = doc->text.len > 0;
  }
}

static size_t measure(aii_cutter *c, size_t from, size_t to)
{
  if (c->o.measure == NULL) return to - from;
  size_t n = c->o.measure(c->o.user, c->text + from, to - from);
  if (n == SIZE_MAX) c->failed = true;
  return n;
}

static void set_heading(aii_cutter *c, const aii_textblock *b)
{
  const char *title = c->text + b->first;
  size_t n = AII_MIN(b->n, (size_t)AII_HEADING_BYTES - 1), at = 0, level = AII_MIN(b->level, 6u);
  while (n > 0 && n < b->n && ((unsigned char)title[n] & 0xC0) == 0x80) n--;
  if (level == 0) return;
  memset(c->heading[level - 1], 0, sizeof c->heading - (level - 1) * sizeof c->heading[0]);
  memcpy(c->heading[level - 1], title, n);
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

static size_t block_end(const aii_cutter *c, size_t i)
{
  return c->blocks[i].first + c->blocks[i].n;
}

/* How many bytes of [from, to), which is too large, fit, to within a few; at least 1. */
static size_t fit(aii_cutter *c, size_t from, size_t to)
{
  size_t n = to - from, low = 0, high = n, attempt = c->o.size < n / 4 ? c->o.size * 4 : n / 2;
  if (c->o.measure == NULL) return AII_MIN(n, c->o.size);
  for (int i = 0; i < TRIES && high - low > 1 && !c->failed; i++) {
    attempt = AII_MIN(AII_MAX(attempt, low + 1), high - 1);
    size_t m = AII_MAX(measure(c, from, from + attempt), (size_t)1);
    if (m > c->o.size) high = attempt;
    else low = attempt;
    double guess = (double)attempt * (double)c->o.size / (double)m;
    bool near = m >= c->o.size - c->o.size / 8 && m <= c->o.size + c->o.size / 8;
    attempt = near && high < n    ? low + (high - low) / 2
              : guess < (double)n ? (size_t)guess + (m == c->o.size ? 8u : 0u)
                                  : n;
  }
  return AII_MAX(low, (size_t)1);
}

/* The end of what fits of [from, to), which lies in a block. */
static size_t cut(aii_cutter *c, size_t from, size_t to, aii_block_kind kind)
{
  size_t limit = fit(c, from, to), n = to - from;
  for (;;) {
    size_t at = aii_cut_where(c->text + from, n, limit, kind, c->o.kind);
    if (c->failed || at > limit || limit <= 1 || measure(c, from, from + at) <= c->o.size) return from + at;
    limit = AII_MAX(AII_MIN(at, limit), (size_t)2) - 1; /* less text may have more tokens */
  }
}

/* Whether a passage of that size ends here, because the block's own bytes say so. */
static bool is_seam(const aii_cutter *c, size_t size, size_t next)
{
  const aii_textblock *b = &c->blocks[next];
  return size >= c->o.size / 2 && aii_hash64(c->text + b->first, b->n, 0) % 3 == 0;
}

/* The end of a passage that begins at `at` in the current block. */
static size_t gather(aii_cutter *c)
{
  size_t end = c->at, i = c->block;
  for (; i < c->n_blocks && c->blocks[i].kind != AII_BLOCK_HEADING; i++) {
    size_t size = measure(c, c->at, block_end(c, i));
    if (c->failed || size > c->o.size) break;
    end = block_end(c, i);
    if (i + 1 < c->n_blocks && end > c->last_end && is_seam(c, size, i + 1)) break;
  }
  if (!c->failed && end == c->at) end = cut(c, c->at, block_end(c, c->block), c->blocks[c->block].kind);
  return end;
}

/* Goes on behind [.., end), with nothing of it repeated. */
static void skip_to(aii_cutter *c, size_t end)
{
  c->at = end;
  while (c->block < c->n_blocks && block_end(c, c->block) <= c->at) c->block++;
}

/* Where the passage behind [from, end) begins: it may repeat some of it. */
static void advance(aii_cutter *c, size_t from, size_t end)
{
  aii_block_kind kind = c->blocks[c->block].kind;
  c->last_end = c->at = end;
  if (c->o.overlap > 0) {
    size_t n = end - from, tail = n, most = AII_MIN(n, c->o.overlap);
    if (c->o.measure != NULL)
      most = AII_MIN(n, (size_t)(2.0 * (double)n * (double)c->o.overlap / (double)c->o.size) + 1);
    while (most > 0 && !c->failed) {
      tail = aii_cut_tail(c->text + from, n, most, kind);
      if (tail >= n || measure(c, from + tail, end) <= c->o.overlap) break;
      most = (n - tail) - 1;
    }
    if (tail < n && tail > 0) c->at = from + tail;
  }
  skip_to(c, c->at);
}

/* Moves over headings and white space to where a passage begins; false: the end. */
static bool seek(aii_cutter *c)
{
  while (c->block < c->n_blocks) {
    const aii_textblock *b = &c->blocks[c->block];
    if (b->kind == AII_BLOCK_HEADING) {
      set_heading(c, b);
      c->block++;
      continue;
    }
    c->at = AII_MAX(c->at, b->first);
    size_t stop = block_end(c, c->block);
    while (c->at < stop && aii_is_blank_char(c->text[c->at])) c->at++;
    /* indentation belongs to the line, as long as the passage does not begin before it may */
    size_t line = c->at;
    while (line > AII_MAX(b->first, c->last_end) && strchr(" \t", c->text[line - 1]) != NULL) line--;
    if (b->kind != AII_BLOCK_PROSE && (line == b->first || c->text[line - 1] == '\n')) c->at = line;
    if (line < stop && c->at < stop) return true;
    c->block++;
  }
  return false;
}

/* The rest of a function is told by its first line. */
static const char *headings(aii_cutter *c, size_t start)
{
  const aii_textblock *b = &c->blocks[c->block];
  size_t next;
  if (b->kind != AII_BLOCK_UNIT || start == b->first) return b->kind == AII_BLOCK_UNIT ? "" : c->path;
  aii_textline l = aii_line_trim(aii_line_at(c->text, block_end(c, c->block), b->first, &next));
  set_heading(c, &(aii_textblock){(size_t)(l.s - c->text), l.n, AII_BLOCK_HEADING, 1});
  return c->path;
}

bool aii_cutter_next(aii_cutter *c, aii_chunk *out)
{
  while (!c->failed && seek(c)) {
    size_t start = c->at, end = gather(c), n = end - start;
    if (c->failed) return false;
    while (n > 0 && aii_is_blank_char(c->text[start + n - 1])) n--;
    if (n == 0 || start + n <= c->told_end) { /* white space, or the overlap left no room */
      if (start >= c->last_end) c->last_end = end;
      skip_to(c, c->last_end);
      continue;
    }
    const char *path = headings(c, start);
    advance(c, start, end);
    c->told_end = start + n;
    *out = (aii_chunk){start, n, path};
    return !c->failed;
  }
  return false;
}
