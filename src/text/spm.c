/* spm.c - SentencePiece BPE: merge the adjacent pair whose text is the token with the highest score, leftmost first.
 *
 * The text (spaces are U+2581 by now) becomes a linked list of characters, a heap holds the candidate pairs. A popped
 * pair whose sides have changed since is skipped. What is no token in the end is emitted as byte tokens. A candidate
 * longer than the longest token is not looked up, so the cost is O(n log n) with a bounded text compare.
 */
#include "src/text/vocab_impl.h"

enum { SHORT_PIECE = 24 };

typedef struct symbol {
  uint32_t at, n; /* n 0: merged away */
  int32_t prev, next;
} symbol;

typedef struct pair {
  float score;
  int32_t left, right;
  uint32_t n; /* bytes of both when the pair was found */
} pair;

_Static_assert(sizeof(symbol) == AII_SYMBOL_BYTES && sizeof(pair) == AII_HEAP_BYTES, "as aii_work holds them");

bool aii_spm_before(const void *a, const void *b)
{
  const pair *x = a, *y = b;
  return x->score > y->score || (x->score == y->score && x->left < y->left);
}

static bool offer(aii_work *w, const char *text, int32_t left, int32_t right)
{
  const symbol *symbols = w->items;
  if (left < 0 || right < 0) return true;
  const symbol *a = &symbols[left], *b = &symbols[right];
  uint32_t token;
  if (a->n + b->n > w->vocab->max_symbol_bytes) return true;
  if (!aii_map_get(&w->vocab->by_text, text + a->at, a->n + b->n, &token)) return true;
  pair p = {w->vocab->scores[token], left, right, a->n + b->n};
  return aii_heap_push(&w->heap, &p);
}

/* Characters as their first byte promises; bytes that are no UTF-8 stand alone. */
static bool split_chars(aii_work *w, const char *text, size_t n, size_t *count)
{
  size_t chars = 0;
  for (size_t at = 0; at < n;) {
    int len = aii_utf8_decode(text + at, n - at, NULL);
    uint32_t bytes = len > 0 ? (uint32_t)len : 1;
    if (!aii_grow(w->mem, &w->items, &w->cap_items, chars + 1, sizeof(symbol))) return false;
    symbol *symbols = w->items;
    symbols[chars] = (symbol){(uint32_t)at, bytes, (int32_t)chars - 1, (int32_t)chars + 1};
    chars++;
    at += bytes;
  }
  if (chars > 0) ((symbol *)w->items)[chars - 1].next = -1;
  *count = chars;
  return true;
}

static bool score_of(const aii_vocab *v, const char *text, const symbol *a, float *score)
{
  uint32_t token, n = a[0].n + a[1].n;
  if (n > v->max_symbol_bytes || !aii_map_get(&v->by_text, text + a->at, n, &token)) return false;
  *score = v->scores[token];
  return true;
}

/* Few symbols stay in a row; what their pairs give is looked up once, then only beside a merge again. */
static void merge_short(const aii_vocab *v, const char *text, symbol *s, size_t n)
{
  struct {
    bool merges;
    float score;
  } pairs[SHORT_PIECE];
  for (size_t i = 0; i + 1 < n; i++) pairs[i].merges = score_of(v, text, &s[i], &pairs[i].score);
  for (;;) {
    size_t best = n;
    for (size_t i = 0; i + 1 < n; i++) {
      if (pairs[i].merges && (best == n || pairs[i].score > pairs[best].score)) best = i;
    }
    if (best == n) break;
    s[best].n += s[best + 1].n;
    n--;
    for (size_t i = best + 1; i < n; i++) s[i] = s[i + 1];
    for (size_t i = best; i + 1 < n; i++) pairs[i] = pairs[i + 1];
    if (best > 0) pairs[best - 1].merges = score_of(v, text, &s[best - 1], &pairs[best - 1].score);
    if (best + 1 < n) pairs[best].merges = score_of(v, text, &s[best], &pairs[best].score);
  }
  for (size_t i = 0; i < n; i++) s[i].next = i + 1 < n ? (int32_t)i + 1 : -1;
}

static bool merge_all(aii_work *w, const char *text, size_t n)
{
  if (n <= SHORT_PIECE) {
    merge_short(w->vocab, text, w->items, n);
    return true;
  }
  for (size_t i = 1; i < n; i++) {
    if (!offer(w, text, (int32_t)i - 1, (int32_t)i)) return false;
  }
  pair p;
  symbol *symbols = w->items;
  while (aii_heap_pop(&w->heap, &p)) {
    symbol *a = &symbols[p.left], *b = &symbols[p.right];
    if (a->n == 0 || b->n == 0 || a->n + b->n != p.n) continue;
    a->n += b->n;
    b->n = 0;
    a->next = b->next;
    if (b->next >= 0) symbols[b->next].prev = p.left;
    if (!offer(w, text, a->prev, p.left) || !offer(w, text, p.left, a->next)) return false;
  }
  return true;
}

/* Unknown characters in a row are one token: *unknown says whether the last one was such. */
static aiinfra_status emit(aii_work *w, const char *text, size_t n, bool *unknown)
{
  const aii_vocab *v = w->vocab;
  uint32_t token;
  bool after_unknown = *unknown;
  *unknown = false;
  if (aii_map_get(&v->by_text, text, n, &token)) return aii_work_add(w, (aiinfra_token)token);
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; i < n && rc == AIINFRA_OK; i++) {
    uint32_t byte = v->byte_symbol[(uint8_t)text[i]];
    if (byte != UINT32_MAX) {
      rc = aii_work_add(w, (aiinfra_token)byte);
      continue;
    }
    if (v->unk < 0) return aii_work_nothing_fits(w, text + i, 1);
    *unknown = true;
    return after_unknown ? AIINFRA_OK : aii_work_add(w, v->unk);
  }
  return rc;
}

aiinfra_status aii_spm_piece(aii_work *w, const char *text, size_t n)
{
  size_t count = 0;
  if (!split_chars(w, text, n, &count) || !merge_all(w, text, count)) {
    return aii_fail(w->err, AIINFRA_ENOMEM, "tokenizing %zu bytes", n);
  }
  aiinfra_status rc = AIINFRA_OK;
  const symbol *symbols = w->items;
  bool unknown = false;
  for (int32_t i = count > 0 ? 0 : -1; i >= 0 && rc == AIINFRA_OK; i = symbols[i].next) {
    rc = emit(w, text + symbols[i].at, symbols[i].n, &unknown);
  }
  return rc;
}
