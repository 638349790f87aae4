/* unigram.c - Unigram: the split of a piece into tokens whose log probabilities have the largest sum (Viterbi).
 *
 * From each character on the dict gives the tokens that begin there; a character that is no token counts as unknown,
 * far below every token. Unknown characters in a row are one; they become byte tokens where the vocabulary has all of
 * them. The cost is O(n) times the longest token.
 *
 * Where no token goes on, as before most words, all ways meet: what lies behind is decided, is given out at once, and
 * the table begins anew with the sum so far. So the table is as long as a word, and lies in the nearest cache.
 */
#include "src/text/vocab_impl.h"

typedef struct best { /* the best way to get here */
  double score;
  uint32_t from; /* NOWHERE: none yet */
  int32_t token;
} best;

_Static_assert(sizeof(best) == AII_SYMBOL_BYTES, "as aii_work holds them");

#define NOWHERE UINT32_MAX

typedef struct search {
  aii_work *w;
  const char *text;
  size_t n;
  size_t start, reach;             /* the table is of these places; those behind are not set yet */
  best *ends;                      /* ends[i - start] */
  size_t unknown_from, unknown_to; /* unknown characters that were not given out yet */
} search;

static inline void improve(const aii_vocab *v, search *s, size_t end, double score, size_t from, uint32_t token)
{
  best *to = s->ends + (end - s->start);
  if (v->spec.float_scores) score = (double)(float)score;
  if (end > s->reach) {
    while (++s->reach < end) s->ends[s->reach - s->start].from = NOWHERE;
  } else if (to->from != NOWHERE && score <= to->score) {
    return;
  }
  *to = (best){score, (uint32_t)from, (int32_t)token};
}

/* All tokens that begin with the character at i; its length. */
static size_t extend(search *s, size_t i)
{
  const aii_vocab *v = s->w->vocab;
  int len = (uint8_t)s->text[i] < 128 ? 1 : aii_utf8_decode(s->text + i, s->n - i, NULL);
  size_t next = i + (len > 0 ? (size_t)len : 1);
  double here = s->ends[i - s->start].score;
  uint32_t base = v->pieces.root, token;
  bool single = false;
  for (size_t end = i; end < s->n && aii_dict_step(&v->pieces, &base, (uint8_t)s->text[end], &token);) {
    end++;
    if (token == AII_DICT_NONE) continue;
    improve(v, s, end, v->log_probs[token] + here, i, token);
    single |= end == next;
  }
  if (!single) improve(v, s, next, v->unk_log_prob + here, i, (uint32_t)v->unk);
  return next;
}

static aiinfra_status give_unknown(search *s)
{
  aii_work *w = s->w;
  const aii_vocab *v = w->vocab;
  const char *text = s->text + s->unknown_from;
  size_t n = s->unknown_to - s->unknown_from;
  s->unknown_from = s->unknown_to = 0;
  if (n == 0) return AIINFRA_OK;
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

static aiinfra_status give(search *s, size_t from, size_t to, int32_t token)
{
  const aii_vocab *v = s->w->vocab;
  if (token == v->unk && v->spec.fuse_unk && s->unknown_to == from && s->unknown_from < from) {
    s->unknown_to = to;
    return AIINFRA_OK;
  }
  aiinfra_status rc = give_unknown(s);
  if (rc != AIINFRA_OK) return rc;
  if (token != v->unk) return aii_work_add(s->w, token);
  s->unknown_from = from;
  s->unknown_to = to;
  return AIINFRA_OK;
}

/* The best way through the table, from its end back and then forward; the table begins anew at its end. */
static aiinfra_status decide(search *s)
{
  aii_spans *ways = &s->w->ways;
  double score = s->ends[s->reach - s->start].score;
  ways->n = 0;
  for (size_t end = s->reach; end > s->start;) {
    size_t from = s->ends[end - s->start].from;
    if (!aii_spans_add(s->w->mem, ways, from, end)) {
      return aii_fail(s->w->err, AIINFRA_ENOMEM, "tokenizing %zu bytes", s->n);
    }
    end = from;
  }
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = ways->n; i > 0 && rc == AIINFRA_OK; i--) {
    aii_span way = ways->items[i - 1];
    rc = give(s, way.from, way.to, s->ends[way.to - s->start].token);
  }
  s->start = s->reach;
  s->ends[0] = (best){score, NOWHERE, -1};
  return rc;
}

aiinfra_status aii_ugm_piece(aii_work *w, const char *text, size_t n)
{
  search s = {.w = w, .text = text, .n = n};
  aiinfra_status rc = AIINFRA_OK;
  size_t longest = AII_MAX(AII_MIN(w->vocab->max_symbol_bytes, (size_t)AII_DICT_TEXT), (size_t)4); /* 4: a character */
  for (size_t i = 0; i < n && rc == AIINFRA_OK;) {
    size_t most = AII_MIN(i + longest, n) - s.start + 1;
    if (most > w->cap_items && !aii_grow(w->mem, &w->items, &w->cap_items, most, sizeof(best))) {
      return aii_fail(w->err, AIINFRA_ENOMEM, "tokenizing %zu bytes", n);
    }
    s.ends = w->items;
    if (i == 0) s.ends[0] = (best){0, NOWHERE, -1};
    i = extend(&s, i);
    if (s.reach == i) rc = decide(&s);
  }
  return rc == AIINFRA_OK ? give_unknown(&s) : rc;
}
