/* hf_tokenizer.c - the tokenizer files of a Hugging Face folder become GGUF's tokenizer keys.
 *
 * Two files can hold the vocabulary: tokenizer.model, a SentencePiece model, which wins where it is one, and
 * tokenizer.json. Around it lie the ids and texts of special tokens (tokenizer_config.json, config.json,
 * generation_config.json) and the chat template (chat_template.jinja, or inside tokenizer_config.json). A tokenizer.json
 * is read by hf_tokenizer_json.c. ENOENT when the folder has neither file.
 */
#include <stdio.h>

#include "src/model/hf_tokenizer.h"

static aii_str text_of(const json_t *value)
{
  return (aii_str){json_string_value(value), json_string_length(value)};
}

/* ---- added tokens --------------------------------------------------------------------------------------------------- */

static aiinfra_status add_token(aii_hf_tokens *t, int64_t id, const json_t *text, bool special)
{
  if (!json_is_string(text)) return aii_fail(t->hf->err, AIINFRA_EFORMAT, "an added token has no text");
  aii_piece piece = {.text = text_of(text), .score = -1000.0f, .type = special ? AII_TOKEN_CONTROL : AII_TOKEN_USER};
  if (id >= 0 && (size_t)id < t->pieces.n && t->pieces.items[id].text.p != NULL) {
    const aii_piece *old = &t->pieces.items[id];
    piece.score = old->score;
    if (old->type == AII_TOKEN_UNKNOWN || old->type == AII_TOKEN_BYTE) piece.type = old->type;
  }
  return aii_pieces_set(&t->pieces, id, piece, t->hf->err);
}

aiinfra_status aii_hf_add_tokens(aii_hf_tokens *t, const json_t *list)
{
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; i < json_array_size(list) && rc == AIINFRA_OK; i++) {
    const json_t *token = json_array_get(list, i), *id = json_object_get(token, "id");
    if (!json_is_integer(id)) return aii_fail(t->hf->err, AIINFRA_EFORMAT, "an added token has no id");
    rc = add_token(t, json_integer_value(id), json_object_get(token, "content"),
                   json_is_true(json_object_get(token, "special")));
  }
  return rc;
}

/* {"32000": {"content": "<|im_end|>", "special": true}, ...} */
static aiinfra_status add_decoder(aii_hf_tokens *t, const json_t *decoder)
{
  const char *key;
  json_t *token;
  aiinfra_status rc = AIINFRA_OK;
  json_object_foreach((json_t *)(uintptr_t)decoder, key, token)
  {
    int64_t id = 0;
    for (const char *p = key; *p != '\0'; p++) {
      if (*p < '0' || *p > '9' || p - key > 9) return aii_fail(t->hf->err, AIINFRA_EFORMAT, "'%.32s' is no token", key);
      id = id * 10 + (*p - '0');
    }
    rc = add_token(t, id, json_object_get(token, "content"), json_is_true(json_object_get(token, "special")));
    if (rc != AIINFRA_OK) break;
  }
  return rc;
}

/* ---- special tokens --------------------------------------------------------------------------------------------------- */

static const json_t *token_text(const json_t *config, const char *name)
{
  const json_t *value = json_object_get(config, name);
  if (json_is_object(value)) value = json_object_get(value, "content");
  return json_is_string(value) ? value : NULL;
}

/* An id, or the first of a list. */
static int64_t token_id(const json_t *config, const char *name)
{
  const json_t *value = json_object_get(config, name);
  if (json_is_array(value)) value = json_array_get(value, 0);
  return json_is_integer(value) ? json_integer_value(value) : -1;
}

static void find_roles(aii_hf_tokens *t)
{
  static const char *const names[N_ROLES] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                             "pad_token", "cls_token", "mask_token"};
  aii_hf *hf = t->hf;
  for (size_t i = 0; i < N_ROLES; i++) {
    char id_name[32];
    (void)snprintf(id_name, sizeof id_name, "%s_id", names[i]);
    const json_t *text = token_text(hf->tokenizer_config, names[i]);
    int64_t id = text != NULL ? aii_pieces_find(&t->pieces, text_of(text)) : -1;
    if (id < 0) id = token_id(hf->text, id_name);
    if (id < 0) id = token_id(hf->config, id_name);
    if (id < 0) id = token_id(hf->generation, id_name);
    if (id >= 0 && (size_t)id < t->pieces.n) t->pieces.roles[i] = (int32_t)id;
  }
}

static void find_switches(aii_hf_tokens *t)
{
  const json_t *config = t->hf->tokenizer_config;
  const json_t *bos = json_object_get(config, "add_bos_token"), *eos = json_object_get(config, "add_eos_token");
  const json_t *prefix = json_object_get(config, "add_prefix_space");
  if (json_is_boolean(bos)) t->pieces.add_bos = json_is_true(bos);
  if (json_is_boolean(eos)) t->pieces.add_eos = json_is_true(eos);
  bool pieces = t->pieces.kind == AII_PIECES_SPM || t->pieces.kind == AII_PIECES_UNIGRAM;
  if (pieces && json_is_boolean(prefix)) t->pieces.space_prefix = json_is_true(prefix);
}

/* ---- the chat template -------------------------------------------------------------------------------------------------- */

static void put_templates(aii_hf *hf, const json_t *list)
{
  char key[96];
  for (size_t i = 0; i < json_array_size(list); i++) {
    const json_t *one = json_array_get(list, i), *text = json_object_get(one, "template");
    const char *name = json_string_value(json_object_get(one, "name"));
    if (name == NULL || !json_is_string(text) || strlen(name) > 64) continue;
    bool main_one = strcmp(name, "default") == 0;
    (void)snprintf(key, sizeof key, "tokenizer.chat_template%s%s", main_one ? "" : ".", main_one ? "" : name);
    aii_put_str(&hf->w, key, text_of(text));
  }
}

static aiinfra_status put_template(aii_hf *hf)
{
  aii_file file;
  aiinfra_status rc = aii_hf_map(hf, "chat_template.jinja", &file);
  if (rc != AIINFRA_OK) return rc;
  const json_t *text = json_object_get(hf->tokenizer_config, "chat_template");
  if (file.bytes != NULL) {
    aii_put_str(&hf->w, "tokenizer.chat_template", (aii_str){(const char *)file.bytes, file.size});
  } else if (json_is_string(text)) {
    aii_put_str(&hf->w, "tokenizer.chat_template", text_of(text));
  } else {
    put_templates(hf, text);
  }
  aii_file_unmap(&file);
  return AIINFRA_OK;
}

/* ---- the whole ---------------------------------------------------------------------------------------------------------- */

static aiinfra_status finish(aii_hf_tokens *t)
{
  aii_hf *hf = t->hf;
  find_roles(t);
  find_switches(t);
  if (hf->n_vocab != 0 && t->pieces.n > hf->n_vocab) {
    return aii_fail(hf->err, AIINFRA_EFORMAT, "the tokenizer has %zu tokens, the embedding only %u rows", t->pieces.n,
                    hf->n_vocab);
  }
  aii_pieces_put(&t->pieces, hf->n_vocab, &hf->w);
  if (t->pieces.kind == AII_PIECES_WORDS) {
    aii_put_u32(&hf->w, "tokenizer.ggml.token_type_count", aii_hf_count(hf, "type_vocab_size", 1));
  }
  return put_template(hf);
}

static aiinfra_status from_sentencepiece(aii_hf_tokens *t, aii_file file, const json_t *json)
{
  json_t *added = NULL;
  const char *text;
  json_t *id;
  aiinfra_status rc = aii_sentencepiece_parse(file, &t->pieces, t->hf->err);
  if (rc == AIINFRA_OK) rc = aii_hf_json(t->hf, "added_tokens.json", &added);
  json_object_foreach(added, text, id)
  {
    aii_piece piece = {.text = {text, strlen(text)}, .score = -1000.0f, .type = AII_TOKEN_USER};
    if (rc == AIINFRA_OK) rc = aii_pieces_set(&t->pieces, json_integer_value(id), piece, t->hf->err);
  }
  if (rc == AIINFRA_OK) rc = add_decoder(t, json_object_get(t->hf->tokenizer_config, "added_tokens_decoder"));
  if (rc == AIINFRA_OK) rc = aii_hf_add_tokens(t, json_object_get(json, "added_tokens"));
  if (rc == AIINFRA_OK && t->pieces.add_bos < 0 && t->pieces.kind == AII_PIECES_SPM) t->pieces.add_bos = 1;
  if (rc == AIINFRA_OK) rc = finish(t);
  json_decref(added);
  return rc == AIINFRA_OK ? rc : aii_wrap(t->hf->err, rc, "tokenizer.model");
}

static aiinfra_status from_json(aii_hf_tokens *t, const json_t *json)
{
  aiinfra_status rc = aii_hf_read_tokenizer(t, json);
  if (rc == AIINFRA_OK) rc = finish(t);
  if (rc == AIINFRA_OK && t->pieces.kind == AII_PIECES_BPE) rc = aii_hf_put_merges(t, json);
  return rc == AIINFRA_OK ? rc : aii_wrap(t->hf->err, rc, "tokenizer.json");
}

static aiinfra_status put_whole(aii_hf *hf)
{
  aii_file file;
  aiinfra_status rc = aii_hf_map(hf, "tokenizer.json", &file);
  if (rc == AIINFRA_OK && file.bytes == NULL)
    rc = aii_fail(hf->err, AIINFRA_ENOENT, "'tokenizer.json' is missing from the folder; download it too");
  if (rc == AIINFRA_OK)
    aii_put_str(&hf->w, "tokenizer.huggingface.json", (aii_str){(const char *)file.bytes, file.size});
  aii_file_unmap(&file);
  return rc;
}

aiinfra_status aii_hf_put_tokenizer(aii_hf *hf)
{
  aii_file model;
  json_t *json = NULL;
  aii_hf_tokens t = {.hf = hf};
  aii_pieces_init(&t.pieces, hf->mem, AII_PIECES_SPM);
  aii_buf_init(&t.charsmap, hf->mem, 0);
  if ((hf->arch->flags & HF_TOKENIZER) != 0) return put_whole(hf);
  aiinfra_status rc = aii_hf_map(hf, "tokenizer.model", &model);
  if (rc == AIINFRA_OK) rc = aii_hf_json(hf, "tokenizer.json", &json);
  bool spm = model.bytes != NULL && aii_is_sentencepiece(model);
  if (rc == AIINFRA_OK && spm) {
    rc = from_sentencepiece(&t, model, json);
  } else if (rc == AIINFRA_OK && json != NULL) {
    rc = from_json(&t, json);
  } else if (rc == AIINFRA_OK) {
    rc = aii_fail(hf->err, AIINFRA_ENOENT, "the folder has no tokenizer.json and no SentencePiece tokenizer.model");
  }
  aii_file_unmap(&model);
  aii_pieces_free(&t.pieces);
  aii_buf_free(&t.charsmap);
  json_decref(json);
  return rc;
}
