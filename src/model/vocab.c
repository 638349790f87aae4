/* vocab.c - from the tokenizer keys of a GGUF file to a vocabulary, with the defaults of the file format, and back.
 *
 * The arrays are copied to aligned memory for the time of building. What is refused: a kind of tokenizer that the
 * text module does not have, arrays of other lengths than the tokens, scores that are no numbers, special tokens
 * outside the vocabulary. An id of 2^32 - 1 means "none", as converters write it. A file without these keys may hold a
 * whole tokenizer.json instead.
 */
#include <math.h>

#include "src/model/gguf.h"

enum { NONE = -1 };
enum { MAX_PRE_BYTES = 64 };

/* GGUF's names of tokenizers, and the special tokens that a file means when it names none. */
static const struct kind {
  const char *name;
  aii_vocab_kind kind;
  int32_t bos, eos, unk, sep, pad;
} KINDS[] = {
    {"llama", AII_VOCAB_SPM, 1, 2, 0, NONE, NONE},       {"gpt2", AII_VOCAB_BPE, 11, 11, NONE, NONE, NONE},
    {"gemma4", AII_VOCAB_BPE, 11, 11, NONE, NONE, NONE}, {"bert", AII_VOCAB_WPM, 101, NONE, 100, 102, 0},
    {"t5", AII_VOCAB_UGM, NONE, 1, 2, NONE, 0},
};

typedef struct builder {
  aii_mem *mem;
  const aii_gguf *gguf;
  aiinfra_error *err;
  aii_vocab_desc desc;
  const struct kind *kind;
  aii_str *tokens, *merges;
  float *scores;
  int32_t *types;
  char pre[MAX_PRE_BYTES];
} builder;

static aiinfra_status no_memory(builder *b)
{
  return aii_fail(b->err, AIINFRA_ENOMEM, "no memory for a vocabulary of %u tokens", b->desc.n_tokens);
}

static aiinfra_status read_kind(builder *b)
{
  aii_str model, pre;
  if (!aii_gguf_get_str(b->gguf, "tokenizer.ggml.model", &model)) {
    return aii_fail(b->err, AIINFRA_EFORMAT, "key 'tokenizer.ggml.model' is missing: the file has no vocabulary");
  }
  for (size_t i = 0; i < AII_COUNT(KINDS); i++) {
    if (model.n == strlen(KINDS[i].name) && memcmp(model.p, KINDS[i].name, model.n) == 0) b->kind = &KINDS[i];
  }
  if (b->kind == NULL) {
    return aii_fail(b->err, AIINFRA_ENOTSUP,
                    "tokenizer '%.*s' is not in this version; 'llama' (SentencePiece BPE), 'gpt2' (byte-level BPE), "
                    "'gemma4', 'bert' (WordPiece) and 't5' (Unigram) are",
                    AII_SHOW(model));
  }
  b->desc.kind = b->kind->kind;
  if (strcmp(b->kind->name, "gemma4") == 0) b->desc.pre = "gemma4";
  if (!aii_gguf_get_str(b->gguf, "tokenizer.ggml.pre", &pre)) return AIINFRA_OK;
  if (pre.n >= sizeof b->pre || memchr(pre.p, 0, pre.n) != NULL) {
    return aii_fail(b->err, AIINFRA_EFORMAT, "key 'tokenizer.ggml.pre' is no name");
  }
  memcpy(b->pre, pre.p, pre.n);
  b->desc.pre = b->pre;
  return AIINFRA_OK;
}

/* The strings of an array; *n is 0 and *out NULL when the key is missing. */
static aiinfra_status read_strings(builder *b, const char *key, aii_str **out, uint32_t *n)
{
  const aii_gguf_kv *kv = aii_gguf_find(b->gguf, key);
  if (kv == NULL) return AIINFRA_OK;
  if (kv->type != AII_GGUF_ARRAY || kv->elem_type != AII_GGUF_STRING || kv->count > INT32_MAX) {
    return aii_fail(b->err, AIINFRA_EFORMAT, "key '%s' must be an array of at most 2^31 - 1 strings", key);
  }
  if (kv->count == 0) return AIINFRA_OK;
  *out = aii_new_array(b->mem, (size_t)kv->count, sizeof **out);
  if (*out == NULL) return aii_fail(b->err, AIINFRA_ENOMEM, "no memory for %zu strings", (size_t)kv->count);
  *n = (uint32_t)kv->count;
  const uint8_t *at = kv->data;
  for (uint32_t i = 0; i < *n; i++) (*out)[i] = aii_gguf_next_str(&at);
  return AIINFRA_OK;
}

/* An array beside the tokens: NULL when missing. */
static aiinfra_status find_beside(builder *b, const char *key, const aii_gguf_kv **out)
{
  *out = aii_gguf_find(b->gguf, key);
  if (*out == NULL || (*out)->count == 0) {
    *out = NULL;
    return AIINFRA_OK;
  }
  if ((*out)->type != AII_GGUF_ARRAY || (*out)->count != b->desc.n_tokens) {
    return aii_fail(b->err, AIINFRA_EFORMAT, "key '%s' must be an array with one number for each of %u tokens", key,
                    b->desc.n_tokens);
  }
  return AIINFRA_OK;
}

static aiinfra_status read_scores(builder *b)
{
  const char *key = "tokenizer.ggml.scores";
  const aii_gguf_kv *kv;
  aiinfra_status rc = find_beside(b, key, &kv);
  if (rc != AIINFRA_OK || kv == NULL) return rc;
  b->scores = aii_new_array(b->mem, b->desc.n_tokens, sizeof b->scores[0]);
  if (b->scores == NULL) return no_memory(b);
  for (uint32_t i = 0; i < b->desc.n_tokens; i++) {
    double score;
    if (!aii_gguf_elem_f64(kv->elem_type, kv->data, i, &score) || isnan(score)) {
      return aii_fail(b->err, AIINFRA_EFORMAT, "key '%s': element %u is no number", key, i);
    }
    b->scores[i] = (float)score;
  }
  b->desc.scores = b->scores;
  return AIINFRA_OK;
}

static aiinfra_status read_types(builder *b)
{
  const char *key = "tokenizer.ggml.token_type";
  const aii_gguf_kv *kv;
  aiinfra_status rc = find_beside(b, key, &kv);
  if (rc != AIINFRA_OK || kv == NULL) return rc;
  b->types = aii_new_array(b->mem, b->desc.n_tokens, sizeof b->types[0]);
  if (b->types == NULL) return no_memory(b);
  for (uint32_t i = 0; i < b->desc.n_tokens; i++) {
    int64_t type;
    if (kv->elem_type == AII_GGUF_BOOL || !aii_gguf_elem_i64(kv->elem_type, kv->data, i, &type)) {
      return aii_fail(b->err, AIINFRA_EFORMAT, "key '%s': element %u is no number", key, i);
    }
    b->types[i] = type >= AII_TOKEN_NORMAL && type <= AII_TOKEN_BYTE ? (int32_t)type : AII_TOKEN_NORMAL;
  }
  b->desc.types = b->types;
  return AIINFRA_OK;
}

static aiinfra_status read_special(builder *b, const char *key, int32_t fallback, bool strict, int32_t *out)
{
  const aii_gguf_kv *kv = aii_gguf_find(b->gguf, key);
  int64_t id;
  *out = fallback < (int32_t)b->desc.n_tokens ? fallback : -1;
  if (kv == NULL) return AIINFRA_OK;
  *out = -1;
  if (kv->type == AII_GGUF_BOOL || !aii_gguf_elem_i64(kv->type, kv->data, 0, &id)) {
    return aii_fail(b->err, AIINFRA_EFORMAT, "key '%s' is no token", key);
  }
  if (id == UINT32_MAX || id == -1) return AIINFRA_OK;
  if (id >= 0 && id < (int64_t)b->desc.n_tokens) {
    *out = (int32_t)id;
  } else if (strict) {
    return aii_fail(b->err, AIINFRA_EFORMAT, "key '%s' is %lld; the vocabulary has %u tokens", key, (long long)id,
                    b->desc.n_tokens);
  }
  return AIINFRA_OK;
}

/* SentencePiece's normalisation, as bytes; borrowed from the file. */
static aiinfra_status read_charsmap(builder *b)
{
  const char *key = "tokenizer.ggml.precompiled_charsmap";
  const aii_gguf_kv *kv = aii_gguf_find(b->gguf, key);
  if (kv == NULL || kv->count == 0) return AIINFRA_OK;
  if (kv->type != AII_GGUF_ARRAY || (kv->elem_type != AII_GGUF_U8 && kv->elem_type != AII_GGUF_I8)) {
    return aii_fail(b->err, AIINFRA_EFORMAT, "key '%s' must be an array of bytes", key);
  }
  b->desc.charsmap = (aii_str){(const char *)kv->data, (size_t)kv->count};
  return AIINFRA_OK;
}

static int32_t read_switch(const aii_gguf *gguf, const char *key)
{
  bool on;
  return aii_gguf_get_bool(gguf, key, &on) ? on : -1;
}

/* Only what decides how text is begun, ended and spelled must be right; an odd padding id harms nobody. */
static aiinfra_status read_specials(builder *b)
{
  aii_vocab_desc *d = &b->desc;
  const struct kind *kind = b->kind;
  bool wpm = d->kind == AII_VOCAB_WPM;
  const struct {
    const char *key;
    int32_t fallback;
    bool strict;
    int32_t *out;
  } wanted[] = {
      {wpm ? "tokenizer.ggml.cls_token_id" : "tokenizer.ggml.bos_token_id", kind->bos, true, &d->bos},
      {"tokenizer.ggml.eos_token_id", kind->eos, true, &d->eos},
      {"tokenizer.ggml.unknown_token_id", kind->unk, true, &d->unk},
      {"tokenizer.ggml.seperator_token_id", kind->sep, true, &d->sep},
      {"tokenizer.ggml.eot_token_id", -1, false, &d->eot},
      {"tokenizer.ggml.eom_token_id", -1, false, &d->eom},
      {"tokenizer.ggml.padding_token_id", kind->pad, false, &d->pad},
  };
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; i < AII_COUNT(wanted) && rc == AIINFRA_OK; i++) {
    rc = read_special(b, wanted[i].key, wanted[i].fallback, wanted[i].strict, wanted[i].out);
  }
  d->add_bos = read_switch(b->gguf, "tokenizer.ggml.add_bos_token");
  d->add_eos = read_switch(b->gguf, "tokenizer.ggml.add_eos_token");
  d->add_sep = read_switch(b->gguf, "tokenizer.ggml.add_sep_token");
  d->add_space_prefix = read_switch(b->gguf, "tokenizer.ggml.add_space_prefix");
  d->remove_extra_spaces = read_switch(b->gguf, "tokenizer.ggml.remove_extra_whitespaces");
  return rc;
}

static aiinfra_status read_all(builder *b)
{
  aiinfra_status rc = read_kind(b);
  if (rc == AIINFRA_OK) rc = read_strings(b, "tokenizer.ggml.tokens", &b->tokens, &b->desc.n_tokens);
  if (rc == AIINFRA_OK && b->desc.n_tokens == 0) {
    rc = aii_fail(b->err, AIINFRA_EFORMAT, "key 'tokenizer.ggml.tokens' is missing or empty");
  }
  if (rc == AIINFRA_OK) rc = read_scores(b);
  if (rc == AIINFRA_OK) rc = read_types(b);
  if (rc == AIINFRA_OK && b->desc.kind == AII_VOCAB_BPE) {
    rc = read_strings(b, "tokenizer.ggml.merges", &b->merges, &b->desc.n_merges);
  }
  if (rc == AIINFRA_OK) rc = read_charsmap(b);
  if (rc == AIINFRA_OK) rc = read_specials(b);
  b->desc.tokens = b->tokens;
  b->desc.merges = b->merges;
  return rc;
}

aiinfra_status aii_vocab_from_gguf(aii_mem *mem, const aii_gguf *gguf, aii_vocab **out, aiinfra_error *err)
{
  builder b = {.mem = mem, .gguf = gguf, .err = err};
  aii_str json;
  *out = NULL;
  if (aii_gguf_find(gguf, "tokenizer.ggml.model") == NULL &&
      aii_gguf_get_str(gguf, "tokenizer.huggingface.json", &json))
    return aii_vocab_from_hf_json(mem, json.p, json.n, NULL, out, err);
  aiinfra_status rc = read_all(&b);
  if (rc == AIINFRA_OK) rc = aii_vocab_create(mem, &b.desc, out, err);
  uint32_t n = b.desc.n_tokens;
  aii_del(mem, b.tokens, n * sizeof b.tokens[0]);
  aii_del(mem, b.merges, b.desc.n_merges * sizeof b.merges[0]);
  aii_del(mem, b.scores, n * sizeof b.scores[0]);
  aii_del(mem, b.types, n * sizeof b.types[0]);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "vocabulary");
}

/* ---- and back ------------------------------------------------------------------------------------------------------- */

static const char *name_of(aii_vocab_kind kind)
{
  for (size_t i = 0; i < AII_COUNT(KINDS); i++) {
    if (KINDS[i].kind == kind) return KINDS[i].name;
  }
  return "none"; /* no word for it */
}

static void put_strings(aii_gguf_writer *w, const char *key, const aii_str *items, uint32_t n)
{
  aii_put_array(w, key, AII_GGUF_STRING, n);
  for (uint32_t i = 0; i < n; i++) aii_put_elem_str(w, items[i]);
}

static void put_arrays(aii_gguf_writer *w, const aii_vocab_desc *d)
{
  put_strings(w, "tokenizer.ggml.tokens", d->tokens, d->n_tokens);
  aii_put_array(w, "tokenizer.ggml.token_type", AII_GGUF_I32, d->n_tokens);
  for (uint32_t i = 0; i < d->n_tokens; i++) aii_put_elem_u32(w, (uint32_t)d->types[i]);
  if (d->kind == AII_VOCAB_BPE) put_strings(w, "tokenizer.ggml.merges", d->merges, d->n_merges);
  if (d->charsmap.n > 0) {
    aii_put_array(w, "tokenizer.ggml.precompiled_charsmap", AII_GGUF_U8, d->charsmap.n);
    aii_buf_add(&w->kvs, d->charsmap.p, d->charsmap.n);
  }
  if (d->scores == NULL) return;
  aii_put_array(w, "tokenizer.ggml.scores", AII_GGUF_F32, d->n_tokens);
  for (uint32_t i = 0; i < d->n_tokens; i++) aii_put_elem_f32(w, d->scores[i]);
}

static void put_desc(aii_gguf_writer *w, const aii_vocab_desc *d)
{
  bool wpm = d->kind == AII_VOCAB_WPM;
  const char *pre = d->pre != NULL ? d->pre : "default";
  const struct {
    const char *key;
    int32_t id;
  } ids[] = {{"tokenizer.ggml.bos_token_id", d->bos},       {"tokenizer.ggml.eos_token_id", d->eos},
             {"tokenizer.ggml.unknown_token_id", d->unk},   {"tokenizer.ggml.cls_token_id", wpm ? d->bos : -1},
             {"tokenizer.ggml.seperator_token_id", d->sep}, {"tokenizer.ggml.padding_token_id", d->pad}},
    switches[] = {{"tokenizer.ggml.add_bos_token", d->add_bos},
                  {"tokenizer.ggml.add_eos_token", d->add_eos},
                  {"tokenizer.ggml.add_sep_token", d->add_sep},
                  {"tokenizer.ggml.add_space_prefix", d->scores != NULL ? d->add_space_prefix : -1},
                  {"tokenizer.ggml.remove_extra_whitespaces", d->scores != NULL ? d->remove_extra_spaces : -1}};
  aii_put_str(w, "tokenizer.ggml.pre", (aii_str){pre, strlen(pre)});
  put_arrays(w, d);
  for (size_t i = 0; i < AII_COUNT(ids); i++) {
    bool meant = i < 3; /* a missing key would mean some token: that there is none must be told */
    if (ids[i].id >= 0 || meant) aii_put_u32(w, ids[i].key, (uint32_t)ids[i].id);
  }
  for (size_t i = 0; i < AII_COUNT(switches); i++) {
    if (switches[i].id >= 0) aii_put_bool(w, switches[i].key, switches[i].id != 0);
  }
}

aiinfra_status aii_gguf_put_vocab(aii_mem *mem, const aii_vocab *vocab, aii_gguf_writer *w, aiinfra_error *err)
{
  aii_vocab_gguf told;
  aiinfra_status rc = aii_vocab_to_gguf(mem, vocab, &told, err);
  aii_vocab_kind kind = rc == AIINFRA_OK ? told.desc.kind : aii_vocab_kind_of(vocab);
  const char *name = name_of(kind);
  aii_put_str(w, "tokenizer.ggml.model", (aii_str){name, strlen(name)});
  if (rc == AIINFRA_OK) put_desc(w, &told.desc);
  aii_vocab_gguf_free(&told);
  return rc;
}
