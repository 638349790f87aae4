/* bpe.c - BPE: a piece's characters or bytes become symbols, then the pair of lowest rank merges, leftmost on ties.
 *
 * A merge is looked up by the pair of numbers. Symbols beyond the vocabulary exist only between merges; what is left
 * of them is emitted byte by byte. Short pieces search their few pairs again and again, long ones (a hostile run of
 * one character is one piece) use a heap: O(n log n).
 */
#include "src/text/vocab_impl.h"

enum { SHORT_PIECE = 24, MAX_WHOLE = 1024 };

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

_Static_assert(sizeof(symbol) == AII_SYMBOL_BYTES && sizeof(pair) == AII_HEAP_BYTES, "as aii_work holds them");

bool aii_bpe_before(const void *a, const void *b)
{
  const pair *x = a, *y = b;
  return x->rank < y->rank || (x->rank == y->rank && x->left < y->left);
}

/* What two symbols merge to, and how early. */
typedef struct merge {
  uint32_t rank, result; /* result UINT32_MAX: they do not */
} merge;

static merge merge_by_text(const aii_vocab *v, uint32_t a, uint32_t b)
{
  char text[2 * MAX_WHOLE];
  aii_str left = aii_vocab_symbol(v, a), right = aii_vocab_symbol(v, b);
  size_t n = left.n + right.n;
  if (n > v->max_symbol_bytes || n > sizeof text) return (merge){0, UINT32_MAX};
  memcpy(text, left.p, left.n);
  memcpy(text + left.n, right.p, right.n);
  uint32_t whole = aii_vocab_model_find(v, text, n);
  return (merge){whole, whole};
}

static merge find_merge(const aii_vocab *v, uint32_t a, uint32_t b)
{
  if (v->spec.merge_by_text) return merge_by_text(v, a, b);
  const aii_pair *m = aii_pairs_get(&v->merges, (uint64_t)a << 32 | b);
  return m != NULL ? (merge){m->rank, m->value} : (merge){0, UINT32_MAX};
}

static aiinfra_status emit(aii_work *w, uint32_t id)
{
  const aii_vocab *v = w->vocab;
  if (id < v->n_tokens) return aii_work_add(w, (aiinfra_token)id);
  /* A symbol of merges only: its characters are stand-ins of bytes. */
  aii_str text = aii_vocab_symbol(v, id);
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; i < text.n && rc == AIINFRA_OK;) {
    int len = aii_utf8_decode(text.p + i, text.n - i, NULL);
    size_t n = len > 0 ? (size_t)len : 1;
    int32_t token = aii_vocab_find(v, text.p + i, n);
    if (token < 0) token = v->unk;
    rc = token < 0 ? aii_work_nothing_fits(w, text.p + i, n) : aii_work_add(w, token);
    i += n;
  }
  return rc;
}

/* ---- from text to symbols ---------------------------------------------------------------------------------------- */

static void add_id(aii_work *w, size_t *n, uint32_t id)
{
  w->ids[(*n)++] = id;
}

static uint32_t char_symbol(const aii_vocab *v, const char *c, size_t n, bool first, bool last)
{
  const aii_vocab_spec *spec = &v->spec;
  char affixed[2 * AII_MAX_AFFIX + 4];
  aii_str none = {"", 0}, before = first ? none : spec->cont_prefix, behind = last ? spec->word_suffix : none;
  if (before.n == 0 && behind.n == 0) {
    uint8_t lead = (uint8_t)c[0];
    if (n == 1 && lead < 128) return v->char_symbol[lead];
    if (n == 2 && lead < 0xC8) return v->char_symbol[(lead & 7u) << 6 | ((uint8_t)c[1] & 63u)];
    return aii_vocab_model_find(v, c, n);
  }
  if (before.n > 0) memcpy(affixed, before.p, before.n);
  memcpy(affixed + before.n, c, n);
  if (behind.n > 0) memcpy(affixed + before.n + n, behind.p, behind.n);
  return aii_vocab_model_find(v, affixed, before.n + n + behind.n);
}

/* Byte tokens in place of a character, when all of them exist. */
static bool fall_back(aii_work *w, size_t *n, const char *c, size_t len)
{
  const uint32_t *symbols = w->vocab->byte_symbol;
  for (size_t i = 0; i < len; i++) {
    if (symbols[(uint8_t)c[i]] == UINT32_MAX) return false;
  }
  for (size_t i = 0; i < len; i++) add_id(w, n, symbols[(uint8_t)c[i]]);
  return true;
}

/* The first symbols of a piece. Without an unknown token what has no symbol is dropped, as Hugging Face does. */
static size_t first_symbols(aii_work *w, const char *text, size_t len)
{
  const aii_vocab *v = w->vocab;
  size_t n = 0;
  bool unknown = false; /* one is due */
  for (size_t i = 0, step; i < len; i += step) {
    uint32_t id;
    step = 1;
    if (v->spec.byte_level) {
      id = v->byte_symbol[(uint8_t)text[i]];
    } else {
      int bytes = (uint8_t)text[i] < 128 ? 1 : aii_utf8_decode(text + i, len - i, NULL);
      if (bytes > 0) step = (size_t)bytes;
      id = char_symbol(v, text + i, step, i == 0, i + step == len);
    }
    if (id != UINT32_MAX) {
      if (unknown) add_id(w, &n, (uint32_t)v->unk);
      unknown = false;
      add_id(w, &n, id);
    } else if (v->spec.byte_level || !v->spec.byte_fallback || !fall_back(w, &n, text + i, step)) {
      if (unknown && !v->spec.fuse_unk) add_id(w, &n, (uint32_t)v->unk);
      unknown = v->unk >= 0;
    }
  }
  if (unknown) add_id(w, &n, (uint32_t)v->unk);
  return n;
}

/* ---- merging ----------------------------------------------------------------------------------------------------- */

/* The pairs are looked up once, then only those beside a merge again. */
static size_t merge_short(const aii_vocab *v, uint32_t *ids, size_t n)
{
  merge pairs[SHORT_PIECE];
  for (size_t i = 0; i + 1 < n; i++) pairs[i] = find_merge(v, ids[i], ids[i + 1]);
  for (;;) {
    merge best = {UINT32_MAX, UINT32_MAX};
    size_t at = 0;
    for (size_t i = 0; i + 1 < n; i++) {
      if (pairs[i].result != UINT32_MAX && pairs[i].rank < best.rank) best = pairs[i], at = i;
    }
    if (best.result == UINT32_MAX) return n;
    ids[at] = best.result;
    n--;
    for (size_t i = at + 1; i < n; i++) ids[i] = ids[i + 1];
    for (size_t i = at; i + 1 < n; i++) pairs[i] = pairs[i + 1];
    if (at > 0) pairs[at - 1] = find_merge(v, ids[at - 1], ids[at]);
    if (at + 1 < n) pairs[at] = find_merge(v, ids[at], ids[at + 1]);
  }
}

static bool offer(aii_work *w, int32_t left)
{
  const symbol *symbols = w->items;
  if (left < 0 || symbols[left].next < 0) return true;
  uint32_t a = symbols[left].id, b = symbols[symbols[left].next].id;
  merge m = find_merge(w->vocab, a, b);
  if (m.result == UINT32_MAX) return true;
  pair p = {m.rank, left, a, b};
  return aii_heap_push(&w->heap, &p);
}

static bool merge_long(aii_work *w, size_t n)
{
  if (!aii_grow(w->mem, &w->items, &w->cap_items, n, sizeof(symbol))) return false;
  symbol *symbols = w->items;
  for (size_t i = 0; i < n; i++) {
    symbols[i] = (symbol){w->ids[i], (int32_t)i - 1, i + 1 < n ? (int32_t)i + 1 : -1, false};
  }
  for (size_t i = 0; i + 1 < n; i++) {
    if (!offer(w, (int32_t)i)) return false;
  }
  pair p;
  while (aii_heap_pop(&w->heap, &p)) {
    symbol *a = &symbols[p.left];
    if (a->gone || a->next < 0 || a->id != p.left_id || symbols[a->next].id != p.right_id) continue;
    symbol *b = &symbols[a->next];
    a->id = find_merge(w->vocab, p.left_id, p.right_id).result;
    b->gone = true;
    a->next = b->next;
    if (b->next >= 0) symbols[b->next].prev = p.left;
    if (!offer(w, a->prev) || !offer(w, p.left)) return false;
  }
  return true;
}

/* The token that a whole piece is, for vocabularies that ask before merging. */
static uint32_t whole_piece(const aii_vocab *v, const char *text, size_t n)
{
  char mapped[2 * MAX_WHOLE + 4];
  if (!v->spec.ignore_merges || n > MAX_WHOLE) return UINT32_MAX;
  if (!v->spec.byte_level) return aii_vocab_model_find(v, text, n);
  size_t len = 0;
  for (size_t i = 0; i < n; i++) len += aii_byte_to_char((uint8_t)text[i], mapped + len);
  return aii_vocab_model_find(v, mapped, len);
}

aiinfra_status aii_bpe_piece(aii_work *w, const char *text, size_t n)
{
  uint32_t whole = whole_piece(w->vocab, text, n);
  if (whole < w->vocab->n_tokens) return aii_work_add(w, (aiinfra_token)whole);
  if (!aii_grow(w->mem, &w->ids, &w->cap_ids, n + 1, sizeof *w->ids)) {
    return aii_fail(w->err, AIINFRA_ENOMEM, "merging a piece of %zu bytes", n);
  }
  aiinfra_status rc = AIINFRA_OK;
  size_t count = first_symbols(w, text, n);
  if (count <= SHORT_PIECE) {
    count = merge_short(w->vocab, w->ids, count);
    for (size_t i = 0; i < count && rc == AIINFRA_OK; i++) rc = emit(w, w->ids[i]);
    return rc;
  }
  if (!merge_long(w, count)) return aii_fail(w->err, AIINFRA_ENOMEM, "merging a piece of %zu bytes", n);
  const symbol *symbols = w->items;
  for (int32_t i = 0; i >= 0 && rc == AIINFRA_OK; i = symbols[i].next) rc = emit(w, symbols[i].id);
  return rc;
}
