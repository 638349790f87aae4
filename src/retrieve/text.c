/* text.c - a text that knows which bytes of its source it was made from. Memory that runs out is told by doc->failed. */
#include "src/retrieve/retrieve.h"

const char *aii_format_name(aii_format format)
{
  static const char *const names[AII_FORMATS] = {"text", "markdown", "html", "json", "csv", "code", "pdf"};
  return names[format];
}

void aii_loaded_init(aii_loaded *doc, aii_mem *mem)
{
  memset(doc, 0, sizeof *doc);
  doc->mem = mem;
  aii_buf_init(&doc->text, mem, 0);
}

void aii_loaded_free(aii_loaded *doc)
{
  aii_buf_free(&doc->text);
  aii_del(doc->mem, doc->pieces, doc->cap_pieces * sizeof *doc->pieces);
  aii_del(doc->mem, doc->blocks, doc->cap_blocks * sizeof *doc->blocks);
  aii_loaded_init(doc, doc->mem);
}

static void add_piece(aii_loaded *doc, aii_piece piece)
{
  if (!aii_grow(doc->mem, &doc->pieces, &doc->cap_pieces, doc->n_pieces + 1, sizeof *doc->pieces)) {
    doc->failed = true;
    return;
  }
  doc->pieces[doc->n_pieces++] = piece;
}

static void add_text(aii_loaded *doc, const char *s, size_t n)
{
  aii_buf_add(&doc->text, s, n);
  if (doc->text.failed) doc->failed = true;
}

void aii_put_exact(aii_loaded *doc, const char *source, size_t at, size_t n)
{
  if (n == 0 || doc->failed) return;
  aii_piece *last = doc->n_pieces > 0 ? &doc->pieces[doc->n_pieces - 1] : NULL;
  if (last != NULL && last->exact && last->end == at) last->end = at + n;
  else add_piece(doc, (aii_piece){doc->text.len, at, at + n, true});
  if (!doc->failed) add_text(doc, source + at, n);
}

void aii_put_made(aii_loaded *doc, const char *text, size_t n, size_t from, size_t to)
{
  if (n == 0 || doc->failed) return;
  const aii_piece *last = doc->n_pieces > 0 ? &doc->pieces[doc->n_pieces - 1] : NULL;
  bool same = last != NULL && !last->exact && last->source == from && last->end == to && from == to;
  if (!same) add_piece(doc, (aii_piece){doc->text.len, from, to, false});
  if (!doc->failed) add_text(doc, text, n);
}

void aii_add_block(aii_loaded *doc, size_t first, size_t n, aii_block_kind kind, unsigned level)
{
  if ((n == 0 && kind != AII_BLOCK_HEADING) || doc->failed) return;
  if (!aii_grow(doc->mem, &doc->blocks, &doc->cap_blocks, doc->n_blocks + 1, sizeof *doc->blocks)) {
    doc->failed = true;
    return;
  }
  doc->blocks[doc->n_blocks++] = (aii_textblock){first, n, kind, level};
}

void aii_put_block(aii_loaded *doc, size_t first, aii_block_kind kind, unsigned level)
{
  if (doc->text.len > first) aii_add_block(doc, first, doc->text.len - first, kind, level);
}

/* The piece that holds the byte `at` of the text; there is one. */
static const aii_piece *piece_at(const aii_loaded *doc, size_t at)
{
  size_t low = 0, high = doc->n_pieces;
  while (high - low > 1) {
    size_t middle = low + (high - low) / 2;
    if (doc->pieces[middle].text <= at) low = middle;
    else high = middle;
  }
  return &doc->pieces[low];
}

void aii_loaded_source(const aii_loaded *doc, size_t first, size_t n, size_t *from, size_t *to)
{
  *from = *to = 0;
  if (doc->n_pieces == 0 || n == 0) return;
  const aii_piece *a = piece_at(doc, first), *b = piece_at(doc, first + n - 1);
  *from = a->exact ? a->source + (first - a->text) : a->source;
  *to = b->exact ? b->source + (first + n - b->text) : b->end;
  if (*to < *from) *to = *from;
}

void aii_loaded_compose(aii_loaded *doc, const aii_loaded *through)
{
  aii_piece *pieces = doc->pieces;
  size_t n = doc->n_pieces, cap = doc->cap_pieces;
  doc->pieces = NULL;
  doc->n_pieces = doc->cap_pieces = 0;
  for (size_t i = 0; i < n && !doc->failed; i++) {
    aii_piece p = pieces[i];
    size_t at = p.source, end = p.end, from, to;
    if (!p.exact) {
      bool nothing = end == at;
      if (nothing && at > 0) at--; /* it stands behind this byte */
      aii_loaded_source(through, at, AII_MAX(end - at, (size_t)1), &from, &to);
      add_piece(doc, (aii_piece){p.text, nothing ? to : from, to, false});
      continue;
    }
    while (at < end && !doc->failed) {
      const aii_piece *q = piece_at(through, at);
      bool last = q + 1 == through->pieces + through->n_pieces;
      size_t stop = last ? end : AII_MIN(end, q[1].text);
      aii_loaded_source(through, at, stop - at, &from, &to);
      add_piece(doc, (aii_piece){p.text + (at - p.source), from, to, q->exact});
      at = stop;
    }
  }
  aii_del(doc->mem, pieces, cap * sizeof *pieces);
}
