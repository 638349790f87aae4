/* html.c - what a reader of a web page sees, as text with the places it came from.
 *
 * Tags are read one by one; nothing is ever matched with its end, so that broken markup cannot fail. Scripts, styles and
 * the like are left out. Headings and the title become headings; paragraphs, list items, table rows and preformatted text
 * become blocks; cells are parted by " | ". White space is one space, but in preformatted text, where it stays.
 *
 * A '<' that begins no tag is text. A tag that never ends is text too.
 */
#include <strings.h>

#include "src/retrieve/retrieve.h"

typedef struct page {
  aii_loaded *doc;
  const char *s;
  size_t n, at;
  size_t block;        /* where the open block's text begins */
  size_t item;         /* where the text behind a list item's dash begins */
  unsigned heading;    /* the level of the open heading; 0: none */
  unsigned pre, table; /* how many are open */
  bool space;          /* white space waits for a word */
  bool no_gt, no_quote[2];
} page;

typedef enum element {
  INLINE,
  BLOCK,
  HEADING,
  LINE_BREAK,
  LIST_ITEM,
  TABLE,
  ROW,
  CELL,
  PRE,
  HIDDEN /* with all that is in it */
} element;

static const struct {
  const char *name;
  element element;
} elements[] = {
    {"p", BLOCK},         {"div", BLOCK},        {"br", LINE_BREAK},     {"li", LIST_ITEM},     {"tr", ROW},
    {"td", CELL},         {"th", CELL},          {"table", TABLE},       {"pre", PRE},          {"title", HEADING},
    {"h1", HEADING},      {"h2", HEADING},       {"h3", HEADING},        {"h4", HEADING},       {"h5", HEADING},
    {"h6", HEADING},      {"script", HIDDEN},    {"style", HIDDEN},      {"template", HIDDEN},  {"svg", HIDDEN},
    {"noscript", HIDDEN}, {"iframe", HIDDEN},    {"object", HIDDEN},     {"canvas", HIDDEN},    {"ul", BLOCK},
    {"ol", BLOCK},        {"dl", BLOCK},         {"dt", BLOCK},          {"dd", BLOCK},         {"section", BLOCK},
    {"article", BLOCK},   {"header", BLOCK},     {"footer", BLOCK},      {"main", BLOCK},       {"nav", BLOCK},
    {"aside", BLOCK},     {"blockquote", BLOCK}, {"figure", BLOCK},      {"figcaption", BLOCK}, {"caption", BLOCK},
    {"thead", ROW},       {"tbody", ROW},        {"tfoot", ROW},         {"hr", BLOCK},         {"form", BLOCK},
    {"fieldset", BLOCK},  {"legend", BLOCK},     {"option", LINE_BREAK}, {"address", BLOCK},    {"body", BLOCK},
    {"head", BLOCK},      {"html", BLOCK},       {"details", BLOCK},     {"summary", BLOCK},
};

/* ---- writing ------------------------------------------------------------------------------------------------------- */

static void end_block(page *p)
{
  aii_loaded *doc = p->doc;
  aii_block_kind kind = p->heading > 0               ? AII_BLOCK_HEADING
                        : p->pre > 0 || p->table > 0 ? AII_BLOCK_LINES
                                                     : AII_BLOCK_PROSE;
  p->space = false;
  if (doc->text.len == p->block) return;
  aii_put_block(doc, p->block, kind, p->heading);
  aii_put_made(doc, "\n\n", 2, p->at, p->at);
  p->block = p->item = doc->text.len;
}

static void end_line(page *p)
{
  p->space = false;
  if (p->doc->text.len > p->block && p->doc->text.data[p->doc->text.len - 1] != '\n')
    aii_put_made(p->doc, "\n", 1, p->at, p->at);
}

/* White space before what comes now, if some was met and there is something before it. */
static void put_space(page *p)
{
  bool line_start = p->doc->text.len <= p->item || p->doc->text.data[p->doc->text.len - 1] == '\n';
  if (p->space && !line_start) aii_put_made(p->doc, " ", 1, p->at, p->at);
  p->space = false;
}

/* A single space between two words is taken with them. */
static void put_words(page *p, size_t end)
{
  while (p->at < end) {
    size_t stop = p->at;
    if (aii_is_blank_char(p->s[stop])) {
      p->space = true;
      p->at++;
      continue;
    }
    put_space(p);
    while (stop < end && (!aii_is_blank_char(p->s[stop]) ||
                          (p->s[stop] == ' ' && stop + 1 < end && !aii_is_blank_char(p->s[stop + 1]))))
      stop++;
    aii_put_exact(p->doc, p->s, p->at, stop - p->at);
    p->at = stop;
  }
}

static void put_text(page *p, size_t end)
{
  if (p->pre > 0) {
    aii_put_exact(p->doc, p->s, p->at, end - p->at);
    p->at = end;
  } else {
    put_words(p, end);
  }
}

static void put_entity(page *p)
{
  char out[4];
  size_t used, n = aii_entity(p->s + p->at, p->n - p->at, out, &used);
  if (n == 0) {
    put_text(p, p->at + 1);
    return;
  }
  bool blank = n == 2 && memcmp(out, "\xC2\xA0", 2) == 0;
  if (n == 1 && aii_is_blank_char(out[0])) blank = true;
  if (blank && p->pre == 0) {
    p->space = true;
  } else {
    put_space(p);
    aii_put_made(p->doc, blank ? " " : out, blank ? 1 : n, p->at, p->at + used);
  }
  p->at += used;
}

/* ---- tags ---------------------------------------------------------------------------------------------------------- */

static bool is_letter(char c)
{
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* The first c at or behind `at`; SIZE_MAX: none, which *none remembers. */
static size_t find(const page *p, char c, size_t at, bool *none)
{
  const char *found = *none || at >= p->n ? NULL : memchr(p->s + at, c, p->n - at);
  if (found == NULL) *none = true;
  return found != NULL ? (size_t)(found - p->s) : SIZE_MAX;
}

/* Behind the '>' that ends the tag at `at`, which is not one between quotes; 0: there is none. */
static size_t tag_end(page *p, size_t at)
{
  size_t plain = find(p, '>', at, &p->no_gt), i = at;
  if (plain == SIZE_MAX) return 0;
  while (i < p->n && p->s[i] != '>') {
    bool value = (p->s[i] == '"' || p->s[i] == '\'') && i > at;
    if (value) {
      size_t close = find(p, p->s[i], i + 1, &p->no_quote[p->s[i] == '"']);
      if (close == SIZE_MAX) return plain + 1;
      i = close;
    }
    i++;
  }
  return i < p->n ? i + 1 : plain + 1;
}

static element element_of(const char *name, size_t n)
{
  for (size_t i = 0; i < AII_COUNT(elements); i++) {
    if (strlen(elements[i].name) == n && strncasecmp(elements[i].name, name, n) == 0) return elements[i].element;
  }
  return INLINE;
}

/* Moves behind the end tag of a hidden element; to the end when there is none. */
static void skip_hidden(page *p, const char *name, size_t n)
{
  bool none = false;
  for (;;) {
    size_t at = find(p, '<', p->at, &none);
    if (at == SIZE_MAX) break;
    p->at = at + 1;
    if (p->n - at < n + 2 || p->s[at + 1] != '/' || strncasecmp(p->s + at + 2, name, n) != 0) continue;
    size_t end = tag_end(p, at + 1);
    if (end == 0) break;
    p->at = end;
    return;
  }
  p->at = p->n;
}

static void count(unsigned *open, bool ends)
{
  if (!ends) ++*open;
  else if (*open > 0) --*open;
}

static void structure(page *p, element e, bool ends, const char *name)
{
  switch (e) {
    case INLINE: break;
    case HIDDEN: break;
    case BLOCK:
      if (p->table > 0) p->space = true;
      else end_block(p);
      break;
    case HEADING:
      end_block(p);
      p->heading = ends ? 0 : name[1] >= '1' && name[1] <= '6' ? (unsigned)(name[1] - '0') : 1;
      break;
    case LINE_BREAK: end_line(p); break;
    case LIST_ITEM:
      if (p->doc->text.len > p->item) end_line(p);
      if (!ends && p->doc->text.len >= p->item) aii_put_made(p->doc, "- ", 2, p->at, p->at);
      p->item = p->doc->text.len;
      p->space = false;
      break;
    case TABLE:
      if (p->table == 0 || (ends && p->table == 1)) end_block(p);
      count(&p->table, ends);
      break;
    case ROW: end_line(p); break;
    case CELL:
      if (!ends && p->doc->text.len > p->block && p->doc->text.data[p->doc->text.len - 1] != '\n')
        aii_put_made(p->doc, " | ", 3, p->at, p->at);
      p->space = false;
      break;
    case PRE:
      end_block(p);
      count(&p->pre, ends);
      break;
  }
}

/* Reads what begins with '<'; text when it is no tag. */
static void read_tag(page *p)
{
  const char *s = p->s + p->at;
  size_t left = p->n - p->at, name_n = 0, end;
  bool ends = left > 1 && s[1] == '/';
  const char *name = s + 1 + ends;
  if (left > 3 && memcmp(s, "<!--", 4) == 0) {
    const char *close = memmem(s + 4, left - 4, "-->", 3);
    p->at = close != NULL ? (size_t)(close - p->s) + 3 : p->n;
    return;
  }
  bool other = left > 1 && (s[1] == '!' || s[1] == '?'), tag = left > 1u + ends && is_letter(*name);
  end = other || tag ? tag_end(p, p->at + 1) : 0;
  if (end == 0) {
    put_text(p, p->at + 1);
    return;
  }
  while (tag && name + name_n < p->s + end && (is_letter(name[name_n]) || (name[name_n] >= '0' && name[name_n] <= '9')))
    name_n++;
  element e = tag ? element_of(name, name_n) : INLINE;
  bool closed = end >= 2 && p->s[end - 2] == '/';
  if (e != INLINE) structure(p, e, ends, name);
  p->at = end;
  if (e == HIDDEN && !ends && !closed) skip_hidden(p, name, name_n);
}

void aii_load_html(aii_loaded *doc, const char *s, size_t n)
{
  page p = {.doc = doc, .s = s, .n = n};
  while (p.at < n && !doc->failed) {
    size_t end = p.at;
    while (end < n && s[end] != '<' && s[end] != '&') end++;
    put_text(&p, end);
    if (p.at >= n) break;
    if (s[p.at] == '<') read_tag(&p);
    else put_entity(&p);
  }
  p.at = n;
  end_block(&p);
}
