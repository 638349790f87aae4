/* wordpiece.c - WordPiece: a word from the left, each time the longest piece that fits; or one unknown token for all.
 *
 * The pieces lie in a dict. A word's first piece is looked for behind word_prefix, the others behind cont_prefix, as
 * files spell them: "play" "##ing" in Hugging Face's, U+2581 "play" and "ing" in GGUF. Also whole words (WordLevel).
 */
#include "src/text/vocab_impl.h"

static size_t longest(const aii_vocab *v, aii_str prefix, const char *text, size_t n, int32_t *token)
{
  uint32_t base = v->pieces.root, here;
  size_t found = 0;
  for (size_t i = 0; i < prefix.n; i++) {
    if (!aii_dict_step(&v->pieces, &base, (uint8_t)prefix.p[i], &here)) return 0;
  }
  for (size_t i = 0; i < n; i++) {
    if (!aii_dict_step(&v->pieces, &base, (uint8_t)text[i], &here)) break;
    bool whole = i + 1 == n || ((uint8_t)text[i + 1] & 0xC0) != 0x80;
    if (here == AII_DICT_NONE || !whole) continue;
    *token = (int32_t)here;
    found = i + 1;
  }
  return found;
}

static aiinfra_status unknown(aii_work *w, const char *text, size_t n)
{
  if (w->vocab->unk < 0) return aii_work_nothing_fits(w, text, n);
  return aii_work_add(w, w->vocab->unk);
}

static size_t count_chars(const char *text, size_t n)
{
  size_t chars = 0;
  for (size_t i = 0; i < n; i++) chars += ((uint8_t)text[i] & 0xC0) != 0x80;
  return chars;
}

aiinfra_status aii_wpm_piece(aii_work *w, const char *text, size_t n)
{
  const aii_vocab_spec *spec = &w->vocab->spec;
  size_t before = w->out->n;
  if (spec->max_word_chars != 0 && count_chars(text, n) > spec->max_word_chars) return unknown(w, text, n);
  for (size_t i = 0, len; i < n; i += len) {
    int32_t token = -1;
    len = longest(w->vocab, i == 0 ? spec->word_prefix : spec->cont_prefix, text + i, n - i, &token);
    if (len == 0) {
      w->out->n = before;
      return unknown(w, text, n);
    }
    aiinfra_status rc = aii_work_add(w, token);
    if (rc != AIINFRA_OK) return rc;
  }
  return AIINFRA_OK;
}

aiinfra_status aii_word_piece(aii_work *w, const char *text, size_t n)
{
  uint32_t token = aii_vocab_model_find(w->vocab, text, n);
  return token != UINT32_MAX ? aii_work_add(w, (aiinfra_token)token) : unknown(w, text, n);
}
