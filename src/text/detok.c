/* detok.c - tokens to text as they come, never handing out part of a UTF-8 sequence.
 *
 * The bytes of an unfinished sequence (at most three) are held until the next token completes it. Bytes that can
 * start no sequence become U+FFFD, so that what comes out is always UTF-8. One owner.
 */
#include "src/text/vocab_impl.h"

static const char REPLACEMENT[] = "\xEF\xBF\xBD";

void aii_detok_init(aii_detok *detok, const aii_vocab *vocab, bool special, bool first_in_text)
{
  *detok = (aii_detok){.vocab = vocab, .special = special};
  detok->strip_space = first_in_text && vocab->kind == AII_VOCAB_SPM && vocab->add_space_prefix;
}

/* Hands out the complete sequences of what is held with one more byte. */
static void push_byte(aii_detok *d, char byte, aii_buf *out)
{
  d->held[d->n_held++] = byte;
  for (;;) {
    int len = aii_utf8_decode(d->held, d->n_held, NULL);
    if (d->n_held == 0 || len == 0) return;
    if (len > 0) {
      aii_buf_add(out, d->held, (size_t)len);
    } else {
      aii_buf_add(out, REPLACEMENT, 3);
      len = 1;
      /* the rest of a broken sequence belongs to the same replacement */
      while (len < d->n_held && ((uint8_t)d->held[len] & 0xC0) == 0x80 && ((uint8_t)d->held[0] & 0xC0) == 0xC0) len++;
    }
    d->n_held = (uint8_t)(d->n_held - len);
    memmove(d->held, d->held + len, d->n_held);
  }
}

void aii_detok_push(aii_detok *d, aiinfra_token token, aii_buf *out)
{
  aii_str piece = aii_vocab_piece(d->vocab, token, d->special);
  size_t i = 0;
  if (d->strip_space && piece.n > 0) {
    if (piece.p[0] == ' ') i = 1;
    d->strip_space = false;
  }
  if (d->n_held == 0 && aii_utf8_valid(piece.p + i, piece.n - i)) {
    aii_buf_add(out, piece.p + i, piece.n - i);
    return;
  }
  for (; i < piece.n; i++) push_byte(d, piece.p[i], out);
}

void aii_detok_finish(aii_detok *d, aii_buf *out)
{
  if (d->n_held > 0) aii_buf_add(out, REPLACEMENT, 3);
  d->n_held = 0;
}
