/* vocab.c - builds a vocabulary from plain arrays and answers questions about it.
 *
 * Happy path of aii_vocab_create: check the description; copy the texts and index them; for BPE intern the symbols
 * that merges name and hash the merges; apply the rules of vocab_rules.c; make the printed pieces; build the trie of
 * special tokens and the byte trie for grammars. Everything is immutable afterwards. What can fail: EINVAL for a
 * description that contradicts itself, ENOTSUP for an unknown pre-tokenizer, ENOMEM.
 */
#include <math.h>

#include "src/text/vocab_impl.h"

#define MAX_TOKENS (1u << 24)

aii_str aii_vocab_symbol(const aii_vocab *vocab, uint32_t symbol)
{
  uint32_t from = vocab->text_at[symbol];
  return (aii_str){vocab->text + from, vocab->text_at[symbol + 1] - from};
}

static aiinfra_status check_desc(const aii_vocab_desc *d, aiinfra_error *err)
{
  if (d->kind != AII_VOCAB_SPM && d->kind != AII_VOCAB_BPE) {
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

/* "a b" at its separating space; Byte-mapped text holds no other space. */
static bool split_merge(aii_str merge, aii_str *left, aii_str *right)
{
  const char *space = merge.n > 2 ? memchr(merge.p + 1, ' ', merge.n - 2) : NULL;
  if (space == NULL) return false;
  *left = (aii_str){merge.p, (size_t)(space - merge.p)};
  *right = (aii_str){space + 1, merge.n - left->n - 1};
  return true;
}

static aiinfra_status copy_texts(aii_vocab *v, const aii_vocab_desc *d, aiinfra_error *err)
{
  /* Symbols beyond the vocabulary: at most both halves and the whole of each merge, and the 256 bytes. */
  size_t bytes = 1024,
         max_symbols = (size_t)d->n_tokens + (d->kind == AII_VOCAB_BPE ? 256 + 3u * (size_t)d->n_merges : 0);
  for (uint32_t i = 0; i < d->n_tokens; i++) bytes += d->tokens[i].n;
  for (uint32_t i = 0; i < d->n_merges; i++) bytes += 2 * d->merges[i].n;
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
    if (s.n > 0) memcpy(v->text + at, s.p, s.n);
    if (!aii_map_set(&v->by_text, v->text + at, s.n, i)) return aii_fail(err, AIINFRA_ENOMEM, "index of tokens");
    v->max_symbol_bytes = AII_MAX(v->max_symbol_bytes, (uint32_t)s.n);
    at += (uint32_t)s.n;
    v->text_at[i + 1] = at;
  }
  return AIINFRA_OK;
}

/* The number of a symbol by its text; a new one is appended behind *n. UINT32_MAX: memory ran out. */
static uint32_t intern(aii_vocab *v, uint32_t *n, aii_str a, aii_str b)
{
  char *at = v->text + v->text_at[*n];
  if (a.n > 0) memcpy(at, a.p, a.n);
  if (b.n > 0) memcpy(at + a.n, b.p, b.n);
  uint32_t symbol;
  if (aii_map_get(&v->by_text, at, a.n + b.n, &symbol)) return symbol;
  if (!aii_map_set(&v->by_text, at, a.n + b.n, *n)) return UINT32_MAX;
  v->text_at[*n + 1] = v->text_at[*n] + (uint32_t)(a.n + b.n);
  return (*n)++;
}

static void put_merge(aii_vocab *v, uint64_t pair, uint32_t rank, uint32_t result)
{
  size_t mask = v->merge_cap - 1;
  size_t at = (size_t)(pair * 0x9E3779B97F4A7C15u >> 20) & mask;
  while (v->merges[at].pair != UINT64_MAX) {
    if (v->merges[at].pair == pair) return; /* the first rank holds */
    at = (at + 1) & mask;
  }
  v->merges[at] = (aii_merge){pair, rank, result};
}

static aiinfra_status build_merges(aii_vocab *v, const aii_vocab_desc *d, aiinfra_error *err)
{
  v->merge_cap = 16;
  while (v->merge_cap / 2 < d->n_merges) v->merge_cap *= 2;
  v->merges = aii_new_array(v->mem, v->merge_cap, sizeof *v->merges);
  if (v->merges == NULL) return aii_fail(err, AIINFRA_ENOMEM, "%u merges", d->n_merges);
  for (size_t i = 0; i < v->merge_cap; i++) v->merges[i].pair = UINT64_MAX;
  uint32_t n = d->n_tokens;
  for (uint32_t b = 0; b < 256; b++) {
    char ch[4];
    v->byte_symbol[b] = intern(v, &n, (aii_str){ch, aii_byte_to_char((uint8_t)b, ch)}, (aii_str){"", 0});
    if (v->byte_symbol[b] == UINT32_MAX) return aii_fail(err, AIINFRA_ENOMEM, "byte symbols");
  }
  for (uint32_t i = 0; i < d->n_merges; i++) {
    aii_str left, right;
    if (!split_merge(d->merges[i], &left, &right)) {
      return aii_fail(err, AIINFRA_EFORMAT, "merge %u is not two symbols with a space between", i);
    }
    uint32_t a = intern(v, &n, left, (aii_str){"", 0});
    uint32_t b = a != UINT32_MAX ? intern(v, &n, right, (aii_str){"", 0}) : UINT32_MAX;
    uint32_t ab = b != UINT32_MAX ? intern(v, &n, left, right) : UINT32_MAX;
    if (ab == UINT32_MAX) return aii_fail(err, AIINFRA_ENOMEM, "symbols of merges");
    put_merge(v, (uint64_t)a << 32 | b, i, ab);
  }
  uint32_t *fewer =
      aii_resize(v->mem, v->text_at, ((size_t)v->n_symbols + 1) * sizeof *fewer, ((size_t)n + 1) * sizeof *fewer);
  if (fewer == NULL) return aii_fail(err, AIINFRA_ENOMEM, "symbols");
  v->text_at = fewer;
  v->n_symbols = n;
  return AIINFRA_OK;
}

static aiinfra_status build_attrs(aii_vocab *v, const aii_vocab_desc *d, aiinfra_error *err)
{
  v->attr = aii_new(v->mem, d->n_tokens);
  v->flags = aii_new(v->mem, d->n_tokens);
  if (v->attr == NULL || v->flags == NULL) return aii_fail(err, AIINFRA_ENOMEM, "attributes of tokens");
  for (uint32_t i = 0; i < d->n_tokens; i++) {
    int32_t type = d->types != NULL ? d->types[i] : AII_TOKEN_NORMAL;
    v->attr[i] = (uint8_t)(type == 0 ? AII_TOKEN_NORMAL : type);
  }
  if (d->kind != AII_VOCAB_SPM) return AIINFRA_OK;
  v->scores = aii_new_array(v->mem, d->n_tokens, sizeof *v->scores);
  if (v->scores == NULL) return aii_fail(err, AIINFRA_ENOMEM, "scores");
  for (uint32_t i = 0; d->scores != NULL && i < d->n_tokens; i++) {
    v->scores[i] = isnan(d->scores[i]) ? -INFINITY : d->scores[i];
  }
  static const char hex[] = "0123456789ABCDEF";
  for (uint32_t b = 0; b < 256; b++) {
    char name[6] = {'<', '0', 'x', hex[b >> 4], hex[b & 15], '>'}, raw = (char)b;
    if (!aii_map_get(&v->by_text, name, sizeof name, &v->byte_symbol[b]) &&
        !aii_map_get(&v->by_text, &raw, 1, &v->byte_symbol[b])) {
      v->byte_symbol[b] = UINT32_MAX;
    }
  }
  return AIINFRA_OK;
}

static aiinfra_status build_specials(aii_vocab *v, aiinfra_error *err)
{
  for (uint32_t i = 0; i < v->n_tokens; i++) {
    bool user = v->attr[i] == AII_TOKEN_USER;
    if (!user && v->attr[i] != AII_TOKEN_CONTROL && v->attr[i] != AII_TOKEN_UNKNOWN) continue;
    if (!aii_specials_add(v->mem, &v->specials, aii_vocab_symbol(v, i), (int32_t)i, user)) {
      return aii_fail(err, AIINFRA_ENOMEM, "index of special tokens");
    }
  }
  return AIINFRA_OK;
}

static aiinfra_status build(aii_vocab *v, const aii_vocab_desc *d, aiinfra_error *err)
{
  aiinfra_status rc = copy_texts(v, d, err);
  if (rc == AIINFRA_OK && d->kind == AII_VOCAB_BPE) rc = build_merges(v, d, err);
  if (rc == AIINFRA_OK) rc = build_attrs(v, d, err);
  if (rc == AIINFRA_OK) aii_vocab_apply_rules(v, d);
  if (rc == AIINFRA_OK) rc = aii_vocab_build_pieces(v, err);
  if (rc == AIINFRA_OK) rc = build_specials(v, err);
  if (rc == AIINFRA_OK && !aii_byte_trie_build(v->mem, v, &v->trie)) {
    rc = aii_fail(err, AIINFRA_ENOMEM, "byte trie of %u tokens", v->n_tokens);
  }
  return rc;
}

aiinfra_status aii_vocab_create(aii_mem *mem, const aii_vocab_desc *desc, aii_vocab **out, aiinfra_error *err)
{
  *out = NULL;
  aiinfra_status rc = check_desc(desc, err);
  if (rc != AIINFRA_OK) return rc;
  const aii_pretok *pre = NULL;
  if (desc->kind == AII_VOCAB_BPE) {
    pre = aii_pretok_find(desc->pre != NULL ? desc->pre : "default");
    if (pre == NULL) return aii_fail(err, AIINFRA_ENOTSUP, "the pre-tokenizer \"%s\" is not known", desc->pre);
  }
  aii_vocab *v = aii_new(mem, sizeof *v);
  if (v == NULL) return aii_fail(err, AIINFRA_ENOMEM, "vocabulary");
  v->mem = mem;
  v->kind = desc->kind;
  v->pre = pre;
  v->n_tokens = desc->n_tokens;
  aii_map_init(&v->by_text, mem);
  rc = build(v, desc, err);
  if (rc != AIINFRA_OK) {
    aii_vocab_free(v);
    return rc;
  }
  *out = v;
  return AIINFRA_OK;
}

void aii_vocab_free(aii_vocab *v)
{
  if (v == NULL) return;
  aii_mem *mem = v->mem;
  aii_del(mem, v->text, v->text_bytes);
  aii_del(mem, v->text_at, ((size_t)v->n_symbols + 1) * sizeof *v->text_at);
  aii_del(mem, v->piece, v->piece_bytes);
  aii_del(mem, v->piece_at, ((size_t)v->n_tokens + 1) * sizeof *v->piece_at);
  aii_del(mem, v->scores, v->n_tokens * sizeof *v->scores);
  aii_del(mem, v->attr, v->n_tokens);
  aii_del(mem, v->flags, v->n_tokens);
  aii_del(mem, v->merges, v->merge_cap * sizeof *v->merges);
  aii_map_free(&v->by_text);
  aii_specials_free(mem, &v->specials);
  aii_byte_trie_free(mem, &v->trie);
  aii_del(mem, v, sizeof *v);
}

uint32_t aii_vocab_size(const aii_vocab *vocab)
{
  return vocab->n_tokens;
}

int32_t aii_vocab_bos(const aii_vocab *vocab)
{
  return vocab->bos;
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
