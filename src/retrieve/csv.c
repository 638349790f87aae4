/* csv.c - tables of comma separated values (RFC 4180): each row becomes a line that names its columns.
 *
 *   Name,City            Name: Ann; City: Bern
 *   Ann,Bern      ->
 *
 * The separator is the one of comma, semicolon and tab that the first line has most of. The first line has the columns'
 * names unless it has an empty field or a number. Fields between quotes may hold separators, line ends and doubled quotes;
 * a quote that is never closed ends with the file. Empty fields are left out. Two passes: rows are read as they come.
 */
#include "src/retrieve/retrieve.h"

enum { MOST_COLUMNS = 1024 };

typedef struct field {
  size_t first, end; /* without the quotes */
  bool quoted;
} field;

typedef struct table {
  aii_loaded *doc;
  const char *s;
  size_t n;
  char separator;
  field names[MOST_COLUMNS];
  size_t n_names;
} table;

/* Reads the field at *at and moves behind it; *row_ends: it was the row's last. */
static field next_field(const table *t, size_t *at, bool *row_ends)
{
  size_t i = *at;
  field f = {i, i, i < t->n && t->s[i] == '"'};
  if (f.quoted) {
    f.first = ++i;
    while (i < t->n && (t->s[i] != '"' || (i + 1 < t->n && t->s[i + 1] == '"'))) i += t->s[i] == '"' ? 2 : 1;
    f.end = i = AII_MIN(i, t->n);
  }
  while (i < t->n && t->s[i] != t->separator && t->s[i] != '\n') i++;
  if (!f.quoted) f.end = i;
  if (!f.quoted && f.end > f.first && t->s[f.end - 1] == '\r') f.end--;
  *row_ends = i >= t->n || t->s[i] == '\n';
  *at = AII_MIN(i + 1, t->n);
  return f;
}

static char separator_of(const char *s, size_t n)
{
  static const char candidates[] = ",;\t";
  size_t counts[3] = {0}, best = 0;
  bool quoted = false;
  for (size_t i = 0; i < n && (quoted || s[i] != '\n'); i++) {
    if (s[i] == '"') quoted = !quoted;
    for (size_t k = 0; k < 3; k++) counts[k] += !quoted && s[i] == candidates[k];
  }
  for (size_t k = 1; k < 3; k++) {
    if (counts[k] > counts[best]) best = k;
  }
  return candidates[best];
}

static aii_textline trimmed(const table *t, field f)
{
  return aii_line_trim((aii_textline){t->s + f.first, f.end - f.first});
}

static bool is_number(aii_textline l)
{
  bool digit = false;
  for (size_t i = 0; i < l.n; i++) {
    if (l.s[i] == '\0' || strchr("0123456789.,-+eE%", l.s[i]) == NULL) return false;
    digit = digit || (l.s[i] >= '0' && l.s[i] <= '9');
  }
  return digit;
}

/* Reads the columns' names; returns where the rows begin. */
static size_t read_names(table *t)
{
  size_t at = 0;
  bool ends = t->n == 0, names = true;
  while (!ends) {
    field f = next_field(t, &at, &ends);
    aii_textline l = trimmed(t, f);
    if (l.n == 0 || is_number(l)) names = false;
    if (t->n_names < MOST_COLUMNS) t->names[t->n_names++] = f;
  }
  if (names) return at;
  t->n_names = 0;
  return 0;
}

/* The field's text on one line; what its quotes hide is undone. */
static void put_value(table *t, aii_textline l, bool quoted)
{
  size_t at = (size_t)(l.s - t->s), end = at + l.n, from = at;
  for (; at < end; at++) {
    bool line_end = t->s[at] == '\n' || t->s[at] == '\r';
    bool doubled = quoted && t->s[at] == '"' && at + 1 < end && t->s[at + 1] == '"';
    if (!line_end && !doubled) continue;
    aii_put_exact(t->doc, t->s, from, at - from);
    aii_put_made(t->doc, line_end ? " " : "\"", 1, at, at + 1 + doubled);
    at += doubled;
    from = at + 1;
  }
  if (end > from) aii_put_exact(t->doc, t->s, from, end - from);
}

static void put_field(table *t, field f, size_t column, bool first)
{
  aii_textline l = trimmed(t, f);
  if (l.n == 0) return;
  if (!first) aii_put_made(t->doc, "; ", 2, f.first, f.first);
  if (column < t->n_names) {
    aii_textline name = trimmed(t, t->names[column]);
    aii_put_made(t->doc, name.s, name.n, f.first, f.first);
    aii_put_made(t->doc, ": ", 2, f.first, f.first);
  }
  put_value(t, l, f.quoted);
}

void aii_load_csv(aii_loaded *doc, const char *s, size_t n)
{
  table *t = aii_new(doc->mem, sizeof *t);
  if (t == NULL) {
    doc->failed = true;
    return;
  }
  *t = (table){.doc = doc, .s = s, .n = n, .separator = separator_of(s, n)};
  size_t at = read_names(t);
  while (at < n && !doc->failed) {
    size_t first = doc->text.len, column = 0;
    bool ends = false;
    while (!ends) {
      field f = next_field(t, &at, &ends);
      put_field(t, f, column++, doc->text.len == first);
    }
    if (doc->text.len == first) continue;
    aii_put_block(doc, first, AII_BLOCK_LINES, 0);
    aii_put_made(doc, "\n", 1, at, at);
  }
  aii_del(doc->mem, t, sizeof *t);
}
