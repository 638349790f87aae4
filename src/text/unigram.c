/* unigram.c - Unigram: the split of a piece into tokens whose log probabilities have the largest sum (Viterbi).
 *
 * From each character on the trie gives the tokens that begin there; a character that is no token counts as unknown,
 * far below every token. Unknown characters in a row are one; they become byte tokens where the vocabulary has all of
 * them. The cost is O(n) times the longest token.
 */
#include "src/text/vocab_impl.h"

typedef struct best { /* the best way to get here */
  double score;
  uint32_t from; /* UINT32_MAX: none yet */
  int32_t token;
} best;

_Static_assert(sizeof(best) == AII_SYMBOL_BYTES, "as aii_work holds them");

static void improve(const aii_vocab *v, best *to, double score, size_t from, int32_t token)
{
  if (v->spec.float_scores) score = (double)(float)score;
  if (to->from != UINT32_MAX && score <= to->score) return;
  *to = (best){score, (uint32_t)from, token};
}

static void forward(const aii_vocab *v, best *ends, const char *text, size_t n)
{
  for (size_t i = 0; i <= n; i++) ends[i] = (best){0, UINT32_MAX, -1};
  for (size_t i = 0; i < n;) {
    int len = aii_utf8_decode(text + i, n - i, NULL);
    size_t step = len > 0 ? (size_t)len : 1;
    double here = ends[i].score;
    bool single = false;
    uint32_t node = 0;
    for (size_t end = i; end < n;) {
      const aii_pair *edge = aii_trie_edge(&v->pieces, node, (uint8_t)text[end++]);
      if (edge == NULL) break;
      node = edge->value;
      if (edge->rank == UINT32_MAX) continue;
      improve(v, &ends[end], v->log_probs[edge->rank] + here, i, (int32_t)edge->rank);
      single |= end == i + step;
    }
    if (!single) improve(v, &ends[i + step], v->unk_log_prob + here, i, v->unk);
    i += step;
  }
}

/* The best way back from the end, turned around: its stretches as (from, to), unknown ones in a row joined. */
static bool backward(aii_work *w, const best *ends, size_t n, size_t *count)
{
  const aii_vocab *v = w->vocab;
  aii_spans *spans = &w->ways;
  spans->n = 0;
  bool last_unknown = false;
  for (size_t end = n; end > 0;) {
    size_t from = ends[end].from;
    bool unknown = v->spec.fuse_unk && ends[end].token == v->unk;
    if (unknown && last_unknown) {
      spans->items[spans->n - 1].from = (uint32_t)from;
    } else if (!aii_spans_add(w->mem, spans, from, end)) {
      return false;
    }
    last_unknown = unknown;
    end = from;
  }
  *count = spans->n;
  return true;
}

static aiinfra_status emit(aii_work *w, const char *text, size_t n)
{
  const aii_vocab *v = w->vocab;
  uint32_t token = aii_vocab_model_find(v, text, n);
  if (token != UINT32_MAX) return aii_work_add(w, (aiinfra_token)token);
  bool bytes = v->spec.byte_fallback;
  for (size_t i = 0; i < n && bytes; i++) bytes = v->byte_symbol[(uint8_t)text[i]] != UINT32_MAX;
  if (!bytes) return v->unk >= 0 ? aii_work_add(w, v->unk) : aii_work_nothing_fits(w, text, n);
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; i < n && rc == AIINFRA_OK; i++) {
    rc = aii_work_add(w, (aiinfra_token)v->byte_symbol[(uint8_t)text[i]]);
  }
  return rc;
}

aiinfra_status aii_ugm_piece(aii_work *w, const char *text, size_t n)
{
  size_t count = 0;
  if (!aii_grow(w->mem, &w->items, &w->cap_items, n + 1, sizeof(best))) {
    return aii_fail(w->err, AIINFRA_ENOMEM, "tokenizing %zu bytes", n);
  }
  forward(w->vocab, w->items, text, n);
  if (!backward(w, w->items, n, &count)) return aii_fail(w->err, AIINFRA_ENOMEM, "tokenizing %zu bytes", n);
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = count; i > 0 && rc == AIINFRA_OK; i--) {
    aii_span s = w->ways.items[i - 1];
    const best *end = (const best *)w->items + s.to;
    bool known = end->from == s.from && end->token != w->vocab->unk;
    rc = known ? aii_work_add(w, end->token) : emit(w, text + s.from, s.to - s.from);
  }
  return rc;
}
