/* bpe.c - byte-level BPE: pieces from the pre-tokenizer, then the merge of lowest rank first, leftmost on ties.
 *
 * A piece's symbols are numbers; a merge is looked up by the pair of numbers. Symbols beyond the vocabulary exist
 * only between merges; what is left of them is emitted byte by byte. Short pieces search their few pairs again and
 * again, long ones (a hostile run of one character is one piece) use a heap: O(n log n).
 */
#include "src/text/vocab_impl.h"

enum { SHORT_PIECE = 24, MAX_WHOLE = 256 };

typedef struct symbol {
  uint32_t id;
  int32_t prev, next; /* next < 0: the last */
  bool gone;
} symbol;

typedef struct pair {
  uint32_t rank;
  int32_t left;
  uint32_t left_id, right_id; /* as they were when the pair was found */
} pair;

typedef struct work {
  const aii_vocab *vocab;
  aii_tokens *out;
  symbol *symbols;
  size_t cap;
  aii_heap heap;
} work;

static bool pair_before(const void *a, const void *b)
{
  const pair *x = a, *y = b;
  return x->rank < y->rank || (x->rank == y->rank && x->left < y->left);
}

static const aii_merge *find_merge(const aii_vocab *v, uint32_t a, uint32_t b)
{
  uint64_t key = (uint64_t)a << 32 | b;
  size_t mask = v->merge_cap - 1;
  size_t at = (size_t)(key * 0x9E3779B97F4A7C15u >> 20) & mask;
  while (v->merges[at].pair != key) {
    if (v->merges[at].pair == UINT64_MAX) return NULL;
    at = (at + 1) & mask;
  }
  return &v->merges[at];
}

static bool emit(work *w, uint32_t id, aiinfra_error *err)
{
  const aii_vocab *v = w->vocab;
  if (id < v->n_tokens) {
    if (aii_tokens_add(w->out, (aiinfra_token)id)) return true;
    (void)aii_fail(err, AIINFRA_ENOMEM, "tokens");
    return false;
  }
  /* A symbol of merges only: its characters are stand-ins of bytes. */
  aii_str text = aii_vocab_symbol(v, id);
  for (size_t i = 0; i < text.n;) {
    int len = aii_utf8_decode(text.p + i, text.n - i, NULL);
    size_t n = len > 0 ? (size_t)len : 1;
    int32_t token = aii_vocab_find(v, text.p + i, n);
    if (token < 0) token = v->unk;
    if (token < 0) {
      (void)aii_fail(err, AIINFRA_EINVAL, "the vocabulary has no token for \"%.*s\"", (int)n, text.p + i);
      return false;
    }
    if (!aii_tokens_add(w->out, token)) {
      (void)aii_fail(err, AIINFRA_ENOMEM, "tokens");
      return false;
    }
    i += n;
  }
  return true;
}

static bool short_piece(work *w, const uint8_t *bytes, size_t n, aiinfra_error *err)
{
  uint32_t ids[SHORT_PIECE];
  for (size_t i = 0; i < n; i++) ids[i] = w->vocab->byte_symbol[bytes[i]];
  for (;;) {
    const aii_merge *best = NULL;
    size_t at = 0;
    for (size_t i = 0; i + 1 < n; i++) {
      const aii_merge *m = find_merge(w->vocab, ids[i], ids[i + 1]);
      if (m != NULL && (best == NULL || m->rank < best->rank)) best = m, at = i;
    }
    if (best == NULL) break;
    ids[at] = best->result;
    memmove(&ids[at + 1], &ids[at + 2], (n - at - 2) * sizeof ids[0]);
    n--;
  }
  for (size_t i = 0; i < n; i++) {
    if (!emit(w, ids[i], err)) return false;
  }
  return true;
}

static bool offer(work *w, int32_t left)
{
  if (left < 0 || w->symbols[left].next < 0) return true;
  uint32_t a = w->symbols[left].id, b = w->symbols[w->symbols[left].next].id;
  const aii_merge *m = find_merge(w->vocab, a, b);
  if (m == NULL) return true;
  pair p = {m->rank, left, a, b};
  return aii_heap_push(&w->heap, &p);
}

static bool merge_all(work *w, size_t n)
{
  for (size_t i = 0; i + 1 < n; i++) {
    if (!offer(w, (int32_t)i)) return false;
  }
  pair p;
  while (aii_heap_pop(&w->heap, &p)) {
    symbol *a = &w->symbols[p.left];
    if (a->gone || a->next < 0 || a->id != p.left_id || w->symbols[a->next].id != p.right_id) continue;
    symbol *b = &w->symbols[a->next];
    a->id = find_merge(w->vocab, p.left_id, p.right_id)->result;
    b->gone = true;
    a->next = b->next;
    if (b->next >= 0) w->symbols[b->next].prev = p.left;
    if (!offer(w, a->prev) || !offer(w, p.left)) return false;
  }
  return true;
}

static bool long_piece(work *w, const uint8_t *bytes, size_t n, aiinfra_error *err)
{
  bool ok = aii_grow(w->out->mem, &w->symbols, &w->cap, n, sizeof *w->symbols);
  for (size_t i = 0; ok && i < n; i++) {
    int32_t next = i + 1 < n ? (int32_t)i + 1 : -1;
    w->symbols[i] = (symbol){w->vocab->byte_symbol[bytes[i]], (int32_t)i - 1, next, false};
  }
  if (!ok || !merge_all(w, n)) {
    (void)aii_fail(err, AIINFRA_ENOMEM, "merging a piece of %zu bytes", n);
    return false;
  }
  for (int32_t i = 0; i >= 0; i = w->symbols[i].next) {
    if (!emit(w, w->symbols[i].id, err)) return false;
  }
  return true;
}

/* The token that a whole piece is, for vocabularies that ask before merging. */
static int32_t whole_piece(const aii_vocab *v, const uint8_t *bytes, size_t n)
{
  char mapped[2 * MAX_WHOLE + 4];
  size_t len = 0;
  if (!v->ignore_merges || n > MAX_WHOLE) return -1;
  for (size_t i = 0; i < n; i++) len += aii_byte_to_char(bytes[i], mapped + len);
  return aii_vocab_find(v, mapped, len);
}

aiinfra_status aii_bpe_tokenize(const aii_vocab *vocab, const char *text, size_t n, aii_tokens *out, aiinfra_error *err)
{
  work w = {.vocab = vocab, .out = out};
  aii_heap_init(&w.heap, out->mem, sizeof(pair), pair_before);
  aii_ends ends = {0};
  aiinfra_error local;
  local.status = AIINFRA_OK;
  aiinfra_error *e = err != NULL ? err : &local;
  aiinfra_status rc = aii_pretok_split(vocab->pre, out->mem, text, n, &ends, e);
  size_t from = 0;
  for (size_t i = 0; rc == AIINFRA_OK && i < ends.n; i++) {
    const uint8_t *bytes = (const uint8_t *)text + from;
    size_t len = ends.items[i] - from;
    int32_t token = whole_piece(vocab, bytes, len);
    bool ok = token >= 0           ? emit(&w, (uint32_t)token, e)
              : len <= SHORT_PIECE ? short_piece(&w, bytes, len, e)
                                   : long_piece(&w, bytes, len, e);
    if (!ok) rc = (aiinfra_status)e->status;
    from = ends.items[i];
  }
  aii_heap_free(&w.heap);
  aii_del(out->mem, w.symbols, w.cap * sizeof *w.symbols);
  aii_del(out->mem, ends.items, ends.cap * sizeof *ends.items);
  return rc;
}
