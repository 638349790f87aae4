/* detok.c - tokens to text as they come, never handing out part of a UTF-8 sequence.
 *
 * The bytes of an unfinished sequence (at most three) are held until the next token completes it. Bytes that can
 * start no sequence become U+FFFD, so that what comes out is always UTF-8. One owner.
 */
#include "src/text/vocab_impl.h"

static const char REPLACEMENT[] = "\xEF\xBF\xBD";

void aii_detok_init(aii_detok *detok, const aii_vocab *vocab, bool special, bool first_in_text)
{
  *detok = (aii_detok){.vocab = vocab, .special = special, .first = first_in_text};
  detok->strip = first_in_text ? vocab->strip_first : 0;
}

static void replace(const aii_detok *d, size_t n, aii_buf *out)
{
  for (size_t i = 0; i < (d->vocab->split_errors ? n : 1); i++) aii_buf_add(out, REPLACEMENT, 3);
}

/* How many of the held bytes began well: they become one U+FFFD together. */
static size_t broken_bytes(const aii_detok *d)
{
  size_t n = 1;
  while (n + 1 < d->n_held && aii_utf8_decode(d->held, n + 1, NULL) == 0) n++;
  return n;
}

/* Hands out the complete sequences of what is held with one more byte. */
static void push_byte(aii_detok *d, char byte, aii_buf *out)
{
  d->held[d->n_held++] = byte;
  while (d->n_held > 0) {
    int len = aii_utf8_decode(d->held, d->n_held, NULL);
    if (len == 0) return;
    size_t n = len > 0 ? (size_t)len : broken_bytes(d);
    if (len > 0) aii_buf_add(out, d->held, n);
    if (len < 0) replace(d, n, out);
    d->n_held = (uint8_t)(d->n_held - n);
    memmove(d->held, d->held + n, d->n_held);
  }
}

static void push_bytes(aii_detok *d, aii_str s, aii_buf *out)
{
  if (d->n_held == 0 && aii_utf8_valid(s.p, s.n)) {
    aii_buf_add(out, s.p, s.n);
    return;
  }
  for (size_t i = 0; i < s.n; i++) push_byte(d, s.p[i], out);
}

/* The piece without the spaces that the text as a whole loses. */
static aii_str strip(aii_detok *d, aii_str s)
{
  while (d->strip > 0 && s.n > 0) {
    if (s.p[0] != ' ') d->strip = 0;
    if (s.p[0] == ' ') d->strip--, s.p++, s.n--;
  }
  return s;
}

static void push(aii_detok *d, aiinfra_token token, bool whole, aii_buf *out)
{
  const aii_vocab *v = d->vocab;
  aii_buf made;
  aii_str piece = aii_vocab_piece(v, token, d->special);
  bool shown = token >= 0 && (uint32_t)token < v->n_tokens && (d->special || (v->flags[token] & AII_TF_CONTROL) == 0);
  aii_buf_init(&made, out->mem, 0);
  if (shown && d->first && v->first_differs) {
    aii_vocab_decode(v, token, true, &made);
    if (made.failed) out->failed = true;
    piece = (aii_str){aii_buf_cstr(&made), made.len};
  }
  if (shown) d->first = false;
  piece = strip(d, piece);
  if (v->holds_space && piece.n > 0) {
    if (d->space) aii_buf_char(out, ' ');
    d->space = piece.p[piece.n - 1] == ' ';
    piece.n -= d->space;
  }
  if (whole) push_bytes(d, piece, out);
  if (!whole) aii_buf_add(out, piece.p, piece.n);
  aii_buf_free(&made);
}

void aii_detok_push(aii_detok *d, aiinfra_token token, aii_buf *out)
{
  push(d, token, true, out);
}

void aii_detok_bytes(aii_detok *d, aiinfra_token token, aii_buf *out)
{
  push(d, token, false, out);
}

void aii_detok_finish(aii_detok *d, aii_buf *out)
{
  if (d->n_held > 0) replace(d, d->n_held, out);
  d->n_held = 0;
}
