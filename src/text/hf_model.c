/* hf_model.c - the model of a tokenizer.json: BPE, WordPiece, Unigram or WordLevel, and its tokens.
 *
 * Old files have no type; then the members tell. Merges are "a b" or ["a", "b"]; where a symbol itself holds a space
 * the split is the one whose halves and whole are tokens.
 */
#include <math.h>

#include "src/text/hf_impl.h"

static aiinfra_status read_vocab(aii_hftok *hf, const json_t *model)
{
  json_t *vocab = json_object_get(model, "vocab");
  if (!json_is_object(vocab) || json_object_size(vocab) == 0) {
    return aii_fail(hf->err, AIINFRA_EFORMAT, "model.vocab: expected an object of tokens, found %s",
                    aii_json_type(vocab));
  }
  if (!aii_map_reserve(&hf->model, json_object_size(vocab))) return aii_hftok_no_memory(hf);
  for (void *at = json_object_iter(vocab); at != NULL; at = json_object_iter_next(vocab, at)) {
    const json_t *id = json_object_iter_value(at);
    aii_str text = {json_object_iter_key(at), json_object_iter_key_len(at)};
    if (!json_is_integer(id)) {
      return aii_fail(hf->err, AIINFRA_EFORMAT, "model.vocab: the token \"%.64s\" has no number", text.p);
    }
    aiinfra_status rc = aii_hftok_token(hf, text, json_integer_value(id), "model.vocab");
    if (rc != AIINFRA_OK) return rc;
  }
  return AIINFRA_OK;
}

static aiinfra_status read_unk(aii_hftok *hf, const json_t *model)
{
  aii_str unk = aii_hftok_str(model, "unk_token");
  uint32_t id;
  if (unk.p == NULL) return AIINFRA_OK;
  if (aii_map_get(&hf->model, unk.p, unk.n, &id)) hf->desc.unk = (int32_t)id;
  return AIINFRA_OK;
}

static bool is_token(const aii_hftok *hf, const char *p, size_t n)
{
  uint32_t id;
  return aii_map_get(&hf->model, p, n, &id);
}

/* At a space such that the halves are tokens; most merges have only one. */
static bool split_merge(const aii_hftok *hf, aii_str s, aii_str *left, aii_str *right)
{
  for (size_t i = 1; i + 1 < s.n; i++) {
    if (s.p[i] != ' ') continue;
    *left = (aii_str){s.p, i};
    *right = (aii_str){s.p + i + 1, s.n - i - 1};
    if (is_token(hf, left->p, left->n) && is_token(hf, right->p, right->n)) return true;
  }
  return false;
}

static aiinfra_status read_merges(aii_hftok *hf, const json_t *model)
{
  const json_t *merges = json_object_get(model, "merges");
  size_t n = json_array_size(merges);
  if (merges != NULL && !json_is_array(merges) && json_object_size(merges) > 0) {
    return aii_fail(hf->err, AIINFRA_EFORMAT, "model.merges: expected an array, found %s", aii_json_type(merges));
  }
  if (n == 0) return AIINFRA_OK;
  hf->pairs = aii_new_array(hf->mem, n, 2 * sizeof *hf->pairs);
  if (hf->pairs == NULL) return aii_hftok_no_memory(hf);
  hf->cap_pairs = 2 * n;
  hf->desc.n_merges = (uint32_t)n;
  for (size_t i = 0; i < n; i++) {
    const json_t *merge = json_array_get(merges, i), *a = json_array_get(merge, 0), *b = json_array_get(merge, 1);
    aii_str text = {json_string_value(merge), json_string_length(merge)}, *pair = &hf->pairs[2 * i];
    pair[0] = (aii_str){json_string_value(a), json_string_length(a)};
    pair[1] = (aii_str){json_string_value(b), json_string_length(b)};
    bool ok =
        json_is_string(merge) ? split_merge(hf, text, &pair[0], &pair[1]) : pair[0].p != NULL && pair[1].p != NULL;
    if (!ok) return aii_fail(hf->err, AIINFRA_EFORMAT, "model.merges[%zu]: expected two tokens", i);
  }
  return AIINFRA_OK;
}

static aiinfra_status read_bpe(aii_hftok *hf, const json_t *model, const char *path)
{
  (void)path;
  hf->desc.kind = AII_VOCAB_BPE;
  if (json_number_value(json_object_get(model, "dropout")) > 0) {
    return aii_fail(hf->err, AIINFRA_ENOTSUP, "model.dropout: only 0 makes the same tokens each time");
  }
  hf->spec.byte_fallback = aii_hftok_flag(model, "byte_fallback", false);
  hf->spec.fuse_unk = aii_hftok_flag(model, "fuse_unk", false);
  hf->spec.ignore_merges = aii_hftok_flag(model, "ignore_merges", false);
  hf->spec.last_merge_holds = true;
  hf->spec.cont_prefix = aii_hftok_str(model, "continuing_subword_prefix");
  hf->spec.word_suffix = aii_hftok_str(model, "end_of_word_suffix");
  aiinfra_status rc = read_vocab(hf, model);
  if (rc == AIINFRA_OK) rc = read_unk(hf, model);
  return rc == AIINFRA_OK ? read_merges(hf, model) : rc;
}

static aiinfra_status read_wordpiece(aii_hftok *hf, const json_t *model, const char *path)
{
  (void)path;
  const json_t *most = json_object_get(model, "max_input_chars_per_word");
  json_int_t chars = json_is_integer(most) ? json_integer_value(most) : 100;
  hf->desc.kind = AII_VOCAB_WPM;
  hf->spec.cont_prefix = aii_hftok_str(model, "continuing_subword_prefix");
  if (hf->spec.cont_prefix.p == NULL) hf->spec.cont_prefix = (aii_str){"##", 2};
  hf->spec.max_word_chars = chars > 0 && chars < UINT32_MAX ? (uint32_t)chars : UINT32_MAX;
  aiinfra_status rc = read_vocab(hf, model);
  return rc == AIINFRA_OK ? read_unk(hf, model) : rc;
}

static aiinfra_status read_word_level(aii_hftok *hf, const json_t *model, const char *path)
{
  (void)path;
  hf->desc.kind = AII_VOCAB_WORD;
  aiinfra_status rc = read_vocab(hf, model);
  return rc == AIINFRA_OK ? read_unk(hf, model) : rc;
}

static aiinfra_status read_unigram(aii_hftok *hf, const json_t *model, const char *path)
{
  (void)path;
  const json_t *vocab = json_object_get(model, "vocab"), *unk = json_object_get(model, "unk_id");
  hf->desc.kind = AII_VOCAB_UGM;
  hf->spec.byte_fallback = aii_hftok_flag(model, "byte_fallback", false);
  hf->spec.fuse_unk = true;
  if (!json_is_array(vocab) || json_array_size(vocab) == 0) {
    return aii_fail(hf->err, AIINFRA_EFORMAT, "model.vocab: expected an array of tokens, found %s",
                    aii_json_type(vocab));
  }
  for (size_t i = 0; i < json_array_size(vocab); i++) {
    const json_t *row = json_array_get(vocab, i), *text = json_array_get(row, 0), *score = json_array_get(row, 1);
    double value = json_number_value(score);
    if (!json_is_string(text) || !json_is_number(score) || !isfinite(value)) {
      return aii_fail(hf->err, AIINFRA_EFORMAT, "model.vocab[%zu]: expected a token and its score", i);
    }
    aiinfra_status rc =
        aii_hftok_token(hf, (aii_str){json_string_value(text), json_string_length(text)}, (int64_t)i, "model.vocab");
    if (rc != AIINFRA_OK) return rc;
    hf->log_probs[i] = value;
  }
  if (json_is_integer(unk)) {
    if (json_integer_value(unk) < 0 || (uint64_t)json_integer_value(unk) >= json_array_size(vocab)) {
      return aii_fail(hf->err, AIINFRA_EFORMAT, "model.unk_id is outside the vocabulary");
    }
    hf->desc.unk = (int32_t)json_integer_value(unk);
  }
  return AIINFRA_OK;
}

aiinfra_status aii_hftok_model(aii_hftok *hf, const json_t *model)
{
  static const aii_hftok_kind kinds[] = {
      {"BPE", read_bpe}, {"WordPiece", read_wordpiece}, {"Unigram", read_unigram}, {"WordLevel", read_word_level}};
  if (!json_is_object(model)) {
    return aii_fail(hf->err, AIINFRA_EFORMAT, "model: expected an object, found %s", aii_json_type(model));
  }
  if (json_object_get(model, "type") != NULL) {
    return aii_hftok_component(hf, model, "model", kinds, AII_COUNT(kinds), "models");
  }
  if (json_object_get(model, "merges") != NULL) return read_bpe(hf, model, "model");
  if (json_is_array(json_object_get(model, "vocab"))) return read_unigram(hf, model, "model");
  bool pieces = json_object_get(model, "continuing_subword_prefix") != NULL;
  return pieces ? read_wordpiece(hf, model, "model") : read_word_level(hf, model, "model");
}
