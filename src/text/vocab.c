/* vocab.c - builds a vocabulary from plain arrays and answers questions about it.
 *
 * Happy path of aii_vocab_build: check the description; copy the texts and index them; by kind, hash the merges, keep
 * the scores, make the dict of pieces; apply the rules of vocab_rules.c; make what each token prints; build the tries
 * of added tokens and the byte trie for grammars. Everything is immutable afterwards. What can fail: EINVAL for a
 * description that contradicts itself, ENOTSUP for an unknown pre-tokenizer, ENOMEM.
 */
#include <math.h>

#include "src/text/vocab_impl.h"

#define MAX_TOKENS ((1u << 24) - 1) /* a number fits 24 bits, and one is left for none */
#define UNKNOWN_PENALTY 10.0        /* below the least likely token, as SentencePiece has it */

aii_str aii_vocab_symbol(const aii_vocab *vocab, uint32_t symbol)
{
  uint32_t from = vocab->text_at[symbol];
  return (aii_str){vocab->text + from, vocab->text_at[symbol + 1] - from};
}

static aiinfra_status check_desc(const aii_vocab_desc *d, aiinfra_error *err)
{
  if (d->kind < AII_VOCAB_SPM || d->kind > AII_VOCAB_WORD) {
    return aii_fail(err, AIINFRA_ENOTSUP, "vocabulary kind %d", (int)d->kind);
  }
  if (d->n_tokens == 0 || d->tokens == NULL) return aii_fail(err, AIINFRA_EINVAL, "the vocabulary has no tokens");
  if (d->n_tokens > MAX_TOKENS || d->n_merges > MAX_TOKENS) {
    return aii_fail(err, AIINFRA_ELIMIT, "more than %u tokens or merges", MAX_TOKENS);
  }
  const int32_t special[] = {d->bos, d->eos, d->unk, d->eot, d->eom, d->pad};
  static const char *const name[] = {"bos", "eos", "unknown", "eot", "eom", "padding"};
  for (size_t i = 0; i < AII_COUNT(special); i++) {
    if (special[i] < -1 || special[i] >= (int64_t)d->n_tokens) {
      return aii_fail(err, AIINFRA_EINVAL, "the %s token is %d, outside the vocabulary of %u", name[i], special[i],
                      d->n_tokens);
    }
  }
  for (uint32_t i = 0; d->types != NULL && i < d->n_tokens; i++) {
    if (d->types[i] < 0 || d->types[i] > AII_TOKEN_BYTE) {
      return aii_fail(err, AIINFRA_EINVAL, "token %u has the unknown type %d", i, d->types[i]);
    }
  }
  return AIINFRA_OK;
}

static aiinfra_status copy_texts(aii_vocab *v, const aii_vocab_desc *d, aiinfra_error *err)
{
  /* Symbols beyond the vocabulary: at most both halves and the whole of each merge, and the 256 bytes. */
  bool beyond = d->kind == AII_VOCAB_BPE && v->spec.by_file;
  size_t bytes = 1024, max_symbols = (size_t)d->n_tokens + (beyond ? 256 + 3u * (size_t)d->n_merges : 0);
  for (uint32_t i = 0; i < d->n_tokens; i++) bytes += d->tokens[i].n;
  for (uint32_t i = 0; beyond && i < d->n_merges; i++) bytes += 2 * d->merges[i].n;
  if (bytes > INT32_MAX) return aii_fail(err, AIINFRA_ELIMIT, "the vocabulary has more than 2 GiB of text");
  v->text_bytes = bytes;
  v->text = aii_new_raw(v->mem, bytes);
  v->n_symbols = (uint32_t)max_symbols; /* the size of text_at until the texts are in */
  v->text_at = aii_new_array(v->mem, max_symbols + 1, sizeof *v->text_at);
  if (v->text == NULL || v->text_at == NULL || !aii_map_reserve(&v->by_text, d->n_tokens)) {
    return aii_fail(err, AIINFRA_ENOMEM, "texts of %u tokens", d->n_tokens);
  }
  uint32_t at = 0;
  for (uint32_t i = 0; i < d->n_tokens; i++) {
    aii_str s = d->tokens[i];
    bool hole = s.n == 0 && d->types != NULL && d->types[i] == AII_TOKEN_UNUSED;
    if (s.n > 0) memcpy(v->text + at, s.p, s.n);
    if (!hole && !aii_map_set(&v->by_text, v->text + at, s.n, i))
      return aii_fail(err, AIINFRA_ENOMEM, "index of tokens");
    v->max_symbol_bytes = AII_MAX(v->max_symbol_bytes, (uint32_t)s.n);
    at += (uint32_t)s.n;
    v->text_at[i + 1] = at;
  }
  return AIINFRA_OK;
}

static aiinfra_status build_attrs(aii_vocab *v, const aii_vocab_desc *d, const uint8_t *added, aiinfra_error *err)
{
  v->attr = aii_new(v->mem, d->n_tokens);
  v->flags = aii_new(v->mem, d->n_tokens);
  if (v->attr == NULL || v->flags == NULL) return aii_fail(err, AIINFRA_ENOMEM, "attributes of tokens");
  for (uint32_t i = 0; i < d->n_tokens; i++) {
    int32_t type = d->types != NULL ? d->types[i] : AII_TOKEN_NORMAL;
    v->attr[i] = (uint8_t)(type == 0 ? AII_TOKEN_NORMAL : type);
    v->flags[i] = added != NULL ? added[i] : 0;
  }
  return AIINFRA_OK;
}

/* The tokens of single bytes and of the first characters. */
static void find_symbols(aii_vocab *v)
{
  static const char hex[] = "0123456789ABCDEF";
  for (uint32_t b = 0; b < 256 && !v->spec.byte_level; b++) {
    char name[6] = {'<', '0', 'x', hex[b >> 4], hex[b & 15], '>'}, raw = (char)b;
    v->byte_symbol[b] = aii_vocab_model_find(v, name, sizeof name);
    if (v->byte_symbol[b] == UINT32_MAX && v->kind == AII_VOCAB_SPM) {
      v->byte_symbol[b] = aii_vocab_model_find(v, &raw, 1);
    }
  }
  for (uint32_t cp = 0; cp < AII_COUNT(v->char_symbol); cp++) {
    char bytes[4];
    v->char_symbol[cp] = aii_vocab_model_find(v, bytes, aii_utf8_encode(cp, bytes));
  }
}

static aiinfra_status build_scores(aii_vocab *v, const aii_vocab_desc *d, aiinfra_error *err)
{
  v->scores = aii_new_array(v->mem, d->n_tokens, sizeof *v->scores);
  if (v->scores == NULL) return aii_fail(err, AIINFRA_ENOMEM, "scores");
  for (uint32_t i = 0; d->scores != NULL && i < d->n_tokens; i++) {
    v->scores[i] = isnan(d->scores[i]) ? -INFINITY : d->scores[i];
  }
  return AIINFRA_OK;
}

static aiinfra_status build_log_probs(aii_vocab *v, const aii_vocab_desc *d, const double *given, aiinfra_error *err)
{
  v->log_probs = aii_new_array(v->mem, d->n_tokens, sizeof *v->log_probs);
  if (v->log_probs == NULL) return aii_fail(err, AIINFRA_ENOMEM, "scores");
  double least = INFINITY;
  for (uint32_t i = 0; i < d->n_tokens; i++) {
    double score = given != NULL ? given[i] : d->scores != NULL ? (double)d->scores[i] : 0;
    v->log_probs[i] = isfinite(score) ? score : -1e30;
    bool counts = given != NULL ? (v->flags[i] & AII_TF_OUTSIDE) == 0 : v->attr[i] == AII_TOKEN_NORMAL;
    if (counts) least = fmin(least, v->log_probs[i]);
  }
  v->unk_log_prob = (isfinite(least) ? least : 0) - UNKNOWN_PENALTY;
  if (v->spec.float_scores) v->unk_log_prob = (double)(float)v->unk_log_prob;
  return AIINFRA_OK;
}

static bool in_dict(const aii_vocab *v, uint32_t token)
{
  if ((v->flags[token] & AII_TF_OUTSIDE) != 0) return false;
  if (v->kind == AII_VOCAB_WPM || !v->spec.by_file) return v->attr[token] != AII_TOKEN_UNUSED;
  return v->attr[token] == AII_TOKEN_NORMAL || v->attr[token] == AII_TOKEN_USER;
}

static aiinfra_status build_model(aii_vocab *v, const aii_vocab_desc *d, const aii_vocab_spec *spec, aiinfra_error *err)
{
  aiinfra_status rc = AIINFRA_OK;
  if (d->kind == AII_VOCAB_BPE) rc = aii_vocab_build_merges(v, d, spec->merge_pairs, err);
  if (d->kind == AII_VOCAB_SPM) rc = build_scores(v, d, err);
  if (d->kind == AII_VOCAB_UGM) rc = build_log_probs(v, d, spec->log_probs, err);
  if (rc != AIINFRA_OK || (d->kind != AII_VOCAB_UGM && d->kind != AII_VOCAB_WPM)) return rc;
  if (!aii_dict_build(v->mem, v, in_dict, &v->pieces)) return aii_fail(err, AIINFRA_ENOMEM, "index of pieces");
  return AIINFRA_OK;
}

static const char META[] = "\xE2\x96\x81";

/* Does it hold U+2581 behind another character? */
static bool joins_words(aii_str s)
{
  for (size_t i = 0; i + 3 <= s.n; i++) {
    if (memcmp(s.p + i, META, 3) == 0 && i > 0 && (i < 3 || memcmp(s.p + i - 3, META, 3) != 0)) return true;
  }
  return false;
}

/* Where no token goes from one word into the next, words can be merged one by one, and remembered. */
static aiinfra_status split_words(aii_vocab *v, aiinfra_error *err)
{
  bool merges =
      v->kind == AII_VOCAB_SPM || (v->kind == AII_VOCAB_BPE && !v->spec.byte_level && !v->spec.ignore_merges &&
                                   v->spec.cont_prefix.n == 0 && v->spec.word_suffix.n == 0);
  if (!merges || v->spec.pipe.n_split > 0 || aii_vocab_model_find(v, META, 3) == UINT32_MAX) return AIINFRA_OK;
  for (uint32_t i = 0; i < v->n_tokens; i++) {
    if ((v->flags[i] & AII_TF_OUTSIDE) == 0 && joins_words(aii_vocab_symbol(v, i))) return AIINFRA_OK;
  }
  aii_split_step step = {.kind = AII_SPLIT_WORDS, .text = {META, 3}};
  return aii_pipe_split(v->mem, &v->spec.pipe, step) ? AIINFRA_OK : aii_fail(err, AIINFRA_ENOMEM, "vocabulary");
}

static bool own(aii_mem *mem, aii_str *s)
{
  char *copy = s->n > 0 ? aii_new_raw(mem, s->n) : NULL;
  bool ok = s->n == 0 || copy != NULL;
  if (copy != NULL) memcpy(copy, s->p, s->n);
  *s = (aii_str){copy, copy != NULL ? s->n : 0};
  return ok;
}

static aiinfra_status build(aii_vocab *v, const aii_vocab_desc *d, const aii_vocab_spec *spec, aiinfra_error *err)
{
  v->spec = *spec;
  v->spec.log_probs = NULL;
  v->spec.added = NULL;
  v->spec.merge_pairs = NULL;
  bool a = own(v->mem, &v->spec.word_prefix), b = own(v->mem, &v->spec.cont_prefix),
       c = own(v->mem, &v->spec.word_suffix);
  if (!a || !b || !c) return aii_fail(err, AIINFRA_ENOMEM, "vocabulary");
  aiinfra_status rc = copy_texts(v, d, err);
  if (rc == AIINFRA_OK) rc = build_attrs(v, d, spec->added, err);
  if (rc == AIINFRA_OK) find_symbols(v);
  if (rc == AIINFRA_OK) rc = build_model(v, d, spec, err);
  if (rc == AIINFRA_OK) rc = split_words(v, err);
  if (rc == AIINFRA_OK) aii_vocab_apply_rules(v, d);
  if (rc == AIINFRA_OK) rc = aii_vocab_build_pieces(v, err);
  if (rc == AIINFRA_OK) rc = aii_vocab_build_added(v, err);
  if (rc == AIINFRA_OK && !aii_byte_trie_build(v->mem, v, &v->trie)) {
    rc = aii_fail(err, AIINFRA_ENOMEM, "byte trie of %u tokens", v->n_tokens);
  }
  return rc;
}

aiinfra_status aii_vocab_build(aii_mem *mem, const aii_vocab_desc *desc, aii_vocab_spec *spec, aii_vocab **out,
                               aiinfra_error *err)
{
  *out = NULL;
  aiinfra_status rc = check_desc(desc, err);
  if (rc == AIINFRA_OK && (spec->cont_prefix.n > AII_MAX_AFFIX || spec->word_suffix.n > AII_MAX_AFFIX)) {
    rc = aii_fail(err, AIINFRA_ENOTSUP, "a prefix or suffix of words of more than %d bytes", AII_MAX_AFFIX);
  }
  aii_vocab *v = rc == AIINFRA_OK ? aii_new(mem, sizeof *v) : NULL;
  if (v == NULL) {
    aii_pipe_free(mem, &spec->pipe);
    return rc != AIINFRA_OK ? rc : aii_fail(err, AIINFRA_ENOMEM, "vocabulary");
  }
  v->mem = mem;
  v->kind = desc->kind;
  v->n_tokens = desc->n_tokens;
  aii_map_init(&v->by_text, mem);
  aii_buf_init(&v->piece, mem, INT32_MAX);
  rc = build(v, desc, spec, err);
  spec->pipe = (aii_pipeline){0};
  if (rc != AIINFRA_OK) {
    aii_vocab_free(v);
    return rc;
  }
  *out = v;
  return AIINFRA_OK;
}

aiinfra_status aii_vocab_create(aii_mem *mem, const aii_vocab_desc *desc, aii_vocab **out, aiinfra_error *err)
{
  aii_vocab_spec spec;
  *out = NULL;
  aiinfra_status rc = aii_vocab_gguf_spec(mem, desc, &spec, err);
  return rc == AIINFRA_OK ? aii_vocab_build(mem, desc, &spec, out, err) : rc;
}

static void disown(aii_mem *mem, aii_str s)
{
  aii_del(mem, (void *)(uintptr_t)s.p, s.n);
}

void aii_vocab_free(aii_vocab *v)
{
  if (v == NULL) return;
  aii_mem *mem = v->mem;
  aii_del(mem, v->text, v->text_bytes);
  aii_del(mem, v->text_at, ((size_t)v->n_symbols + 1) * sizeof *v->text_at);
  aii_buf_free(&v->piece);
  aii_del(mem, v->piece_at, ((size_t)v->n_tokens + 1) * sizeof *v->piece_at);
  aii_del(mem, v->scores, v->n_tokens * sizeof *v->scores);
  aii_del(mem, v->log_probs, v->n_tokens * sizeof *v->log_probs);
  aii_del(mem, v->attr, v->n_tokens);
  aii_del(mem, v->flags, v->n_tokens);
  aii_pairs_free(mem, &v->merges);
  aii_map_free(&v->by_text);
  aii_dict_free(mem, &v->pieces);
  for (size_t i = 0; i < AII_COUNT(v->added); i++) {
    aii_trie_free(mem, &v->added[i].all);
    aii_trie_free(mem, &v->added[i].user);
  }
  aii_byte_trie_free(mem, &v->trie);
  aii_pipe_free(mem, &v->spec.pipe);
  disown(mem, v->spec.word_prefix);
  disown(mem, v->spec.cont_prefix);
  disown(mem, v->spec.word_suffix);
  aii_del(mem, v, sizeof *v);
}

aii_vocab_kind aii_vocab_kind_of(const aii_vocab *vocab)
{
  return vocab->kind;
}

uint32_t aii_vocab_size(const aii_vocab *vocab)
{
  return vocab->n_tokens;
}

int32_t aii_vocab_bos(const aii_vocab *vocab)
{
  return vocab->bos;
}

int32_t aii_vocab_unk(const aii_vocab *v)
{
  return v->unk;
}

int32_t aii_vocab_eos(const aii_vocab *vocab)
{
  return vocab->eos;
}

bool aii_vocab_is_eog(const aii_vocab *vocab, aiinfra_token token)
{
  return token >= 0 && (uint32_t)token < vocab->n_tokens && (vocab->flags[token] & AII_TF_EOG) != 0;
}

aiinfra_token aii_vocab_find(const aii_vocab *vocab, const char *text, size_t n)
{
  uint32_t symbol;
  if (!aii_map_get(&vocab->by_text, text, n, &symbol) || symbol >= vocab->n_tokens) return -1;
  return (aiinfra_token)symbol;
}

uint32_t aii_vocab_model_find(const aii_vocab *vocab, const char *text, size_t n)
{
  uint32_t symbol;
  if (!aii_map_get(&vocab->by_text, text, n, &symbol)) return UINT32_MAX;
  return symbol < vocab->n_tokens && (vocab->flags[symbol] & AII_TF_OUTSIDE) != 0 ? UINT32_MAX : symbol;
}

aii_str aii_vocab_piece(const aii_vocab *v, aiinfra_token token, bool special)
{
  aii_str none = {"", 0};
  if (token < 0 || (uint32_t)token >= v->n_tokens) return none;
  if (!special && (v->flags[token] & AII_TF_CONTROL) != 0) return none;
  uint32_t from = v->piece_at[token];
  return (aii_str){v->piece.data + from, v->piece_at[token + 1] - from};
}
