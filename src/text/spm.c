/* spm.c - SentencePiece BPE: merge the adjacent pair whose text is the token with the highest score, leftmost first.
 *
 * Happy path: spaces become U+2581, the text becomes a linked list of characters, a heap holds the candidate pairs.
 * A popped pair whose sides have changed since is skipped. What is no token in the end is emitted as byte tokens.
 * A candidate longer than the longest token is not looked up, so the cost is O(n log n) with a bounded text compare.
 */
#include "src/text/vocab_impl.h"

typedef struct symbol {
  uint32_t at, n; /* n 0: merged away */
  int32_t prev, next;
} symbol;

typedef struct pair {
  float score;
  int32_t left, right;
  uint32_t n; /* bytes of both when the pair was found */
} pair;

typedef struct work {
  const aii_vocab *vocab;
  aii_buf text;
  symbol *symbols;
  size_t n, cap;
  aii_heap heap;
} work;

static bool pair_before(const void *a, const void *b)
{
  const pair *x = a, *y = b;
  return x->score > y->score || (x->score == y->score && x->left < y->left);
}

static bool offer(work *w, int32_t left, int32_t right)
{
  if (left < 0 || right < 0) return true;
  const symbol *a = &w->symbols[left], *b = &w->symbols[right];
  uint32_t token;
  if (a->n + b->n > w->vocab->max_symbol_bytes) return true;
  if (!aii_map_get(&w->vocab->by_text, w->text.data + a->at, a->n + b->n, &token)) return true;
  pair p = {w->vocab->scores[token], left, right, a->n + b->n};
  return aii_heap_push(&w->heap, &p);
}

static void escape_spaces(aii_buf *text, const char *s, size_t n, bool space_prefix)
{
  if (space_prefix) aii_buf_str(text, "\xE2\x96\x81");
  size_t from = 0;
  for (size_t i = 0; i < n; i++) {
    if (s[i] != ' ') continue;
    aii_buf_add(text, s + from, i - from);
    aii_buf_str(text, "\xE2\x96\x81");
    from = i + 1;
  }
  aii_buf_add(text, s + from, n - from);
}

/* Characters as their first byte promises; bytes that are no UTF-8 stand alone. */
static bool split_chars(work *w)
{
  for (size_t at = 0; at < w->text.len;) {
    int len = aii_utf8_decode(w->text.data + at, w->text.len - at, NULL);
    uint32_t n = len > 0 ? (uint32_t)len : 1;
    if (!aii_grow(w->text.mem, &w->symbols, &w->cap, w->n + 1, sizeof *w->symbols)) return false;
    w->symbols[w->n] = (symbol){(uint32_t)at, n, (int32_t)w->n - 1, (int32_t)w->n + 1};
    w->n++;
    at += n;
  }
  if (w->n > 0) w->symbols[w->n - 1].next = -1;
  return true;
}

static bool merge_all(work *w)
{
  for (size_t i = 1; i < w->n; i++) {
    if (!offer(w, (int32_t)i - 1, (int32_t)i)) return false;
  }
  pair p;
  while (aii_heap_pop(&w->heap, &p)) {
    symbol *a = &w->symbols[p.left], *b = &w->symbols[p.right];
    if (a->n == 0 || b->n == 0 || a->n + b->n != p.n) continue;
    a->n += b->n;
    b->n = 0;
    a->next = b->next;
    if (b->next >= 0) w->symbols[b->next].prev = p.left;
    if (!offer(w, a->prev, p.left) || !offer(w, p.left, a->next)) return false;
  }
  return true;
}

static aiinfra_status emit(const work *w, const symbol *s, aii_tokens *out, aiinfra_error *err)
{
  const aii_vocab *v = w->vocab;
  uint32_t token;
  bool ok = true;
  if (aii_map_get(&v->by_text, w->text.data + s->at, s->n, &token)) {
    ok = aii_tokens_add(out, (aiinfra_token)token);
  } else {
    for (uint32_t i = 0; i < s->n && ok; i++) {
      uint8_t byte = (uint8_t)w->text.data[s->at + i];
      bool known = v->byte_symbol[byte] != UINT32_MAX;
      if (!known && v->unk < 0) {
        return aii_fail(err, AIINFRA_EINVAL, "the vocabulary has no token for the byte 0x%02X", byte);
      }
      ok = aii_tokens_add(out, known ? (aiinfra_token)v->byte_symbol[byte] : v->unk);
      if (!known) break; /* one unknown token for the character */
    }
  }
  return ok ? AIINFRA_OK : aii_fail(err, AIINFRA_ENOMEM, "tokens");
}

aiinfra_status aii_spm_tokenize(const aii_vocab *vocab, const char *text, size_t n, bool space_prefix, aii_tokens *out,
                                aiinfra_error *err)
{
  aii_mem *mem = out->mem;
  work w = {.vocab = vocab};
  aii_buf_init(&w.text, mem, INT32_MAX);
  aii_heap_init(&w.heap, mem, sizeof(pair), pair_before);
  escape_spaces(&w.text, text, n, space_prefix);
  aiinfra_status rc = AIINFRA_OK;
  if (w.text.failed || !split_chars(&w) || !merge_all(&w)) {
    rc = aii_fail(err, AIINFRA_ENOMEM, "tokenizing %zu bytes", n);
  }
  for (int32_t i = w.n > 0 ? 0 : -1; i >= 0 && rc == AIINFRA_OK; i = w.symbols[i].next) {
    rc = emit(&w, &w.symbols[i], out, err);
  }
  aii_heap_free(&w.heap);
  aii_del(mem, w.symbols, w.cap * sizeof *w.symbols);
  aii_buf_free(&w.text);
  return rc;
}
