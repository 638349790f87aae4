/* vocab_export.c - a vocabulary in the words of a GGUF file, whatever file it was read from.
 *
 * The happy path: the kind that GGUF has for the model; the steps must be those which that kind implies, or have a name
 * there; the tokens around a text become switches; texts, types, scores and merges follow. What GGUF has no words for is
 * ENOTSUP, because a file that says something else makes wrong tokens without a sign. BPE with bytes to fall back on is
 * SentencePiece's: it merges by score there, so the rank of the first merge that makes a token is its score.
 */
#include <stdio.h>
#include <stdlib.h>

#include "src/text/vocab_impl.h"

static const char META[] = "\xE2\x96\x81";
enum { PAD_BYTES = 16 };          /* "[PAD123]" */
static const float ADDED = -1000; /* the score of what merges cannot make */

typedef struct scribe {
  const aii_vocab *v;
  aii_vocab_gguf *out;
  aiinfra_error *err;
  char *at; /* in out->text */
  aii_str *tokens, *merges;
  float *scores;
  int32_t *types;
  const aii_pair **by_rank; /* of v->merges */
} scribe;

static aiinfra_status no_memory(scribe *s)
{
  return aii_fail(s->err, AIINFRA_ENOMEM, "no memory for the keys of %u tokens", s->v->n_tokens);
}

static aiinfra_status no_words(scribe *s, const char *for_what)
{
  return aii_fail(s->err, AIINFRA_ENOTSUP, "a GGUF file cannot hold this tokenizer: it has no words for %s", for_what);
}

/* ---- the steps ------------------------------------------------------------------------------------------------------ */

static bool is_meta(aii_str s)
{
  return s.n == 3 && memcmp(s.p, META, 3) == 0;
}

/* Whether a kind of GGUF's implies this step, or does the same without it. */
static bool implied(aii_vocab_kind kind, const aii_norm_step *step)
{
  bool escapes = step->regex == NULL && step->from.n == 1 && step->from.p[0] == ' ' && is_meta(step->to);
  switch (step->kind) {
    case AII_NORM_PIECES: return kind == AII_VOCAB_SPM || kind == AII_VOCAB_UGM;
    case AII_NORM_RUNS:
    case AII_NORM_CHARSMAP:
    case AII_NORM_STRIP: return kind == AII_VOCAB_UGM;
    case AII_NORM_PREPEND: return kind == AII_VOCAB_SPM && is_meta(step->to);
    case AII_NORM_REPLACE: return kind == AII_VOCAB_SPM ? escapes : kind == AII_VOCAB_UGM && step->regex != NULL;
    case AII_NORM_NFC: return kind == AII_VOCAB_BPE; /* nearly all text is in this form */
    default: return kind == AII_VOCAB_WPM;
  }
}

static aiinfra_status read_normalizers(scribe *s)
{
  const aii_pipeline *p = &s->v->spec.pipe;
  aii_vocab_desc *d = &s->out->desc;
  bool lower = false;
  for (size_t i = 0; i < p->n_norm; i++) {
    const aii_norm_step *step = &p->norm[i];
    if (!implied(d->kind, step)) return no_words(s, "its normalizers");
    if (step->kind == AII_NORM_PIECES || step->kind == AII_NORM_CHARSMAP) d->charsmap = step->from;
    if (step->kind == AII_NORM_PREPEND) d->add_space_prefix = 1;
    if (step->kind == AII_NORM_PIECES) {
      d->add_space_prefix = (step->flags & AII_NORM_PREFIX) != 0;
      d->remove_extra_spaces = (step->flags & AII_NORM_EXTRA_SPACES) != 0;
    }
    lower |= step->kind == AII_NORM_LOWER;
  }
  return lower || d->kind != AII_VOCAB_WPM ? AIINFRA_OK : no_words(s, "WordPiece that tells capital letters apart");
}

/* Pieces that begin with U+2581 may be split off: no merge would join them. */
static bool splits_at_meta(const aii_split_step *step)
{
  return step->kind == AII_SPLIT_META || step->kind == AII_SPLIT_TEXT || step->kind == AII_SPLIT_WORDS ||
         (step->kind == AII_SPLIT_EXPR && step->expr == aii_expr_by_name("space"));
}

static aiinfra_status read_splits(scribe *s, const char *spelled)
{
  const aii_pipeline *p = &s->v->spec.pipe;
  aii_vocab_desc *d = &s->out->desc;
  if (d->kind == AII_VOCAB_BPE) {
    uint32_t flags = (s->v->spec.ignore_merges ? AII_PRE_IGNORE_MERGES : 0u) | (d->add_sep == 1 ? AII_PRE_ADD_SEP : 0u);
    const char *name = aii_pretok_named(spelled, flags);
    if (name == NULL) {
      return aii_fail(s->err, AIINFRA_ENOTSUP,
                      "a GGUF file cannot hold this tokenizer: it has no name for the pre-tokenizer '%.300s'", spelled);
    }
    (void)snprintf(s->out->pre, sizeof s->out->pre, "%.*s", (int)strcspn(name, " "), name);
    d->pre = s->out->pre;
    return AIINFRA_OK;
  }
  if (d->kind == AII_VOCAB_WPM) return strcmp(spelled, "space- one-punct") == 0 ? AIINFRA_OK : no_words(s, spelled);
  for (size_t i = 0; i < p->n_split; i++) {
    if (!splits_at_meta(&p->split[i])) return no_words(s, spelled);
    if (p->split[i].kind == AII_SPLIT_META) d->add_space_prefix = p->split[i].flags != 0;
  }
  return AIINFRA_OK;
}

static aiinfra_status read_steps(scribe *s)
{
  aii_buf spelled;
  aii_buf_init(&spelled, s->out->mem, 0);
  aii_pretok_spell(&s->v->spec.pipe, &spelled);
  aiinfra_status rc = spelled.failed ? no_memory(s) : read_normalizers(s);
  if (rc == AIINFRA_OK) rc = read_splits(s, aii_buf_cstr(&spelled));
  aii_buf_free(&spelled);
  return rc;
}

/* ---- special tokens ------------------------------------------------------------------------------------------------- */

/* One token at most on each side, which then has a name. */
static aiinfra_status read_around(scribe *s)
{
  const aii_vocab_spec *spec = &s->v->spec;
  aii_vocab_desc *d = &s->out->desc;
  d->add_bos = spec->n_before > 0;
  d->add_eos = d->add_sep = 0;
  if (spec->n_before > 1 || spec->n_behind > 1) return no_words(s, "several tokens on one side of a text");
  if (spec->n_before == 1 && d->bos != spec->before[0]) return no_words(s, "another token than bos before a text");
  if (spec->n_behind == 0) return AIINFRA_OK;
  int32_t last = spec->behind[0], *unnamed = d->kind == AII_VOCAB_WPM ? &d->sep : &d->eos;
  if (*unnamed < 0) *unnamed = last;
  d->add_sep = last == d->sep;
  d->add_eos = last == d->eos && !d->add_sep;
  return d->add_sep + d->add_eos == 1 ? AIINFRA_OK : no_words(s, "another token than eos or sep behind a text");
}

static bool spells_bytes(const aii_vocab *v)
{
  bool mapped = v->spec.byte_level;
  for (size_t i = 0; i < v->spec.pipe.n_split; i++) mapped |= v->spec.pipe.split[i].kind == AII_SPLIT_BYTE_MAP;
  return mapped;
}

static aiinfra_status read_kind(scribe *s)
{
  const aii_vocab *v = s->v;
  aii_vocab_desc *d = &s->out->desc;
  *d = (aii_vocab_desc){.kind = v->kind,
                        .n_tokens = v->n_tokens,
                        .bos = v->bos,
                        .eos = v->eos,
                        .unk = v->unk,
                        .eot = v->eot,
                        .eom = v->eom,
                        .pad = v->pad,
                        .sep = v->sep,
                        .add_space_prefix = 0,
                        .remove_extra_spaces = -1};
  if (v->kind == AII_VOCAB_UGM) d->remove_extra_spaces = 1;
  if (v->kind == AII_VOCAB_WORD) return no_words(s, "a model of whole words");
  if (v->kind != AII_VOCAB_BPE) return AIINFRA_OK;
  if (v->spec.merge_by_text) return no_words(s, "merges by rank of their texts");
  if (spells_bytes(v)) return AIINFRA_OK;
  if (!v->spec.byte_fallback) return no_words(s, "BPE of characters without bytes");
  d->kind = AII_VOCAB_SPM;
  return AIINFRA_OK;
}

/* ---- arrays --------------------------------------------------------------------------------------------------------- */

static int by_rank(const void *a, const void *b)
{
  const aii_pair *x = *(const aii_pair *const *)a, *y = *(const aii_pair *const *)b;
  return x->rank < y->rank ? -1 : x->rank > y->rank;
}

static aiinfra_status sort_merges(scribe *s)
{
  const aii_pairs *merges = &s->v->merges;
  size_t n = 0;
  if (merges->n == 0) return AIINFRA_OK;
  s->by_rank = aii_new_array(s->out->mem, merges->n, sizeof *s->by_rank);
  if (s->by_rank == NULL) return no_memory(s);
  for (size_t i = 0; i < merges->cap; i++) {
    if (merges->slots[i].key != UINT64_MAX) s->by_rank[n++] = &merges->slots[i];
  }
  qsort(s->by_rank, n, sizeof *s->by_rank, by_rank);
  return AIINFRA_OK;
}

static aii_str left_of(const scribe *s, size_t i)
{
  return aii_vocab_symbol(s->v, (uint32_t)(s->by_rank[i]->key >> 32));
}

static aii_str right_of(const scribe *s, size_t i)
{
  return aii_vocab_symbol(s->v, (uint32_t)s->by_rank[i]->key);
}

/* Room for all that is spelled in another way than the vocabulary has it. */
static aiinfra_status make_room(scribe *s)
{
  const aii_vocab *v = s->v;
  aii_vocab_desc *d = &s->out->desc;
  aii_mem *mem = s->out->mem;
  size_t bytes = 0;
  for (uint32_t i = 0; i < v->n_tokens; i++)
    bytes += PAD_BYTES + (v->kind == AII_VOCAB_WPM ? aii_vocab_symbol(v, i).n : 0);
  d->n_merges = d->kind == AII_VOCAB_BPE ? (uint32_t)v->merges.n : 0;
  for (size_t i = 0; i < d->n_merges; i++) bytes += left_of(s, i).n + 1 + right_of(s, i).n;
  s->out->text_bytes = bytes;
  s->out->text = s->at = aii_new_raw(mem, bytes);
  d->tokens = s->tokens = aii_new_array(mem, v->n_tokens, sizeof *s->tokens);
  d->types = s->types = aii_new_array(mem, v->n_tokens, sizeof *s->types);
  bool scored = d->kind == AII_VOCAB_SPM || d->kind == AII_VOCAB_UGM;
  if (scored) d->scores = s->scores = aii_new_array(mem, v->n_tokens, sizeof *s->scores);
  if (d->n_merges > 0) d->merges = s->merges = aii_new_array(mem, d->n_merges, sizeof *s->merges);
  bool ok = s->at != NULL && s->tokens != NULL && s->types != NULL && (!scored || s->scores != NULL) &&
            (d->n_merges == 0 || s->merges != NULL);
  return ok ? AIINFRA_OK : no_memory(s);
}

static aii_str say(scribe *s, aii_str a, aii_str b, aii_str c)
{
  const aii_str parts[] = {a, b, c};
  aii_str whole = {s->at, 0};
  for (size_t i = 0; i < AII_COUNT(parts); i++) {
    if (parts[i].n > 0) memcpy(s->at, parts[i].p, parts[i].n);
    s->at += parts[i].n;
    whole.n += parts[i].n;
  }
  return whole;
}

static aii_str token_text(scribe *s, uint32_t id)
{
  const aii_vocab *v = s->v;
  aii_str text = aii_vocab_symbol(v, id), inside = v->spec.cont_prefix, none = {"", 0};
  if (text.n == 0 && s->types[id] == AII_TOKEN_UNUSED) {
    char pad[PAD_BYTES];
    int n = snprintf(pad, sizeof pad, "[PAD%u]", id);
    return say(s, (aii_str){pad, (size_t)n}, none, none);
  }
  bool special = s->types[id] == AII_TOKEN_CONTROL || s->types[id] == AII_TOKEN_UNKNOWN;
  if (v->kind != AII_VOCAB_WPM || v->spec.by_file || special) return text;
  /* GGUF marks the beginnings of words, WordPiece their continuations. */
  bool continues = inside.n > 0 && text.n >= inside.n && memcmp(text.p, inside.p, inside.n) == 0;
  if (continues) return say(s, (aii_str){text.p + inside.n, text.n - inside.n}, none, none);
  return say(s, (aii_str){META, 3}, text, none);
}

static void write_tokens(scribe *s)
{
  const aii_vocab *v = s->v;
  for (uint32_t i = 0; i < v->n_tokens; i++) s->types[i] = v->attr[i];
  for (size_t b = 0; b < 256 && s->out->desc.kind == AII_VOCAB_SPM; b++) {
    if (v->byte_symbol[b] < v->n_tokens && aii_vocab_symbol(v, v->byte_symbol[b]).n == 6) {
      s->types[v->byte_symbol[b]] = AII_TOKEN_BYTE;
    }
  }
  if (v->unk >= 0) s->types[v->unk] = AII_TOKEN_UNKNOWN;
  for (uint32_t i = 0; i < v->n_tokens; i++) s->tokens[i] = token_text(s, i);
}

static void write_scores(scribe *s)
{
  const aii_vocab *v = s->v;
  for (uint32_t i = 0; i < v->n_tokens; i++) {
    bool outside = (v->flags[i] & AII_TF_OUTSIDE) != 0;
    s->scores[i] = v->scores != NULL      ? v->scores[i]
                   : v->log_probs != NULL ? (float)v->log_probs[i]
                   : outside              ? ADDED
                                          : -(float)v->merges.n;
  }
  for (size_t i = v->kind == AII_VOCAB_BPE ? v->merges.n : 0; i > 0; i--) {
    if (s->by_rank[i - 1]->value < v->n_tokens) s->scores[s->by_rank[i - 1]->value] = -(float)(i - 1);
  }
}

static void write_merges(scribe *s)
{
  for (size_t i = 0; i < s->out->desc.n_merges; i++) {
    s->merges[i] = say(s, left_of(s, i), (aii_str){" ", 1}, right_of(s, i));
  }
}

aiinfra_status aii_vocab_to_gguf(aii_mem *mem, const aii_vocab *vocab, aii_vocab_gguf *out, aiinfra_error *err)
{
  *out = (aii_vocab_gguf){.mem = mem};
  scribe s = {.v = vocab, .out = out, .err = err};
  aiinfra_status rc = read_kind(&s);
  if (rc == AIINFRA_OK) rc = read_around(&s);
  if (rc == AIINFRA_OK) rc = read_steps(&s);
  if (rc == AIINFRA_OK) rc = sort_merges(&s);
  if (rc == AIINFRA_OK) rc = make_room(&s);
  if (rc == AIINFRA_OK) {
    write_tokens(&s);
    if (s.scores != NULL) write_scores(&s);
    write_merges(&s);
  }
  aii_del(mem, s.by_rank, vocab->merges.n * sizeof *s.by_rank);
  if (rc != AIINFRA_OK) aii_vocab_gguf_free(out);
  return rc;
}

void aii_vocab_gguf_free(aii_vocab_gguf *g)
{
  const aii_vocab_desc *d = &g->desc;
  aii_del(g->mem, g->text, g->text_bytes);
  aii_del(g->mem, (void *)(uintptr_t)d->tokens, d->n_tokens * sizeof *d->tokens);
  aii_del(g->mem, (void *)(uintptr_t)d->types, d->n_tokens * sizeof *d->types);
  aii_del(g->mem, (void *)(uintptr_t)d->scores, d->n_tokens * sizeof *d->scores);
  aii_del(g->mem, (void *)(uintptr_t)d->merges, d->n_merges * sizeof *d->merges);
  *g = (aii_vocab_gguf){.mem = g->mem};
}
