/* hf_tokenizer.c - the tokenizer files of a Hugging Face folder: a vocabulary, GGUF's keys for it, the chat template.
 *
 * Three files can hold the vocabulary: tokenizer.json, which wins, tokenizer.model where it is a SentencePiece model, and
 * BERT's vocab.txt; the text module reads them. Around it lie the numbers and texts of special tokens
 * (tokenizer_config.json, config.json, generation_config.json) and the chat template (chat_template.jinja, or inside
 * tokenizer_config.json). A vocabulary that GGUF's keys cannot tell opens all the same; only converting refuses it.
 * ENOENT when the folder has none of the files.
 */
#include <stdio.h>

#include "src/model/hf.h"

static aii_str text_of(const json_t *value)
{
  return (aii_str){json_string_value(value), json_string_length(value)};
}

static aii_str bytes_of(aii_file file)
{
  return (aii_str){(const char *)file.bytes, file.size};
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

/* ---- the vocabulary ------------------------------------------------------------------------------------------------- */

/* A number, or the first of a list; -1: none. */
static int32_t token_id(const json_t *config, const char *name)
{
  const json_t *value = json_object_get(config, name);
  if (json_is_array(value)) value = json_array_get(value, 0);
  json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
  return id >= 0 && id <= INT32_MAX ? (int32_t)id : -1;
}

static struct aii_vocab_ids find_ids(const aii_hf *hf)
{
  static const char *const names[] = {"bos_token_id", "eos_token_id", "sep_token_id", "pad_token_id"};
  const json_t *places[] = {hf->text, hf->config, hf->generation};
  int32_t ids[AII_COUNT(names)];
  for (size_t i = 0; i < AII_COUNT(names); i++) {
    ids[i] = -1;
    for (size_t k = 0; k < AII_COUNT(places) && ids[i] < 0; k++) ids[i] = token_id(places[k], names[i]);
  }
  return (struct aii_vocab_ids){ids[0], ids[1], ids[2], ids[3]};
}

enum { JSON, MODEL, WORDS, CONFIG, ADDED, N_FILES };

static aiinfra_status read_vocab(aii_hf *hf, const aii_file files[N_FILES], aii_vocab **out)
{
  aii_str json = bytes_of(files[JSON]), model = bytes_of(files[MODEL]), words = bytes_of(files[WORDS]);
  struct aii_vocab_ids ids = find_ids(hf);
  aii_vocab_extras extras = {
      .config = bytes_of(files[CONFIG]), .added = bytes_of(files[ADDED]), .ids = &ids, .n_least = hf->n_vocab};
  if (json.p != NULL) return aii_vocab_from_hf_json(hf->mem, json.p, json.n, &extras, out, hf->err);
  if (model.p != NULL && aii_is_sentencepiece(model.p, model.n)) {
    return aii_vocab_from_sentencepiece(hf->mem, model.p, model.n, &extras, out, hf->err);
  }
  if (words.p != NULL) return aii_vocab_from_wordpiece(hf->mem, words.p, words.n, &extras, out, hf->err);
  return aii_fail(hf->err, AIINFRA_ENOENT,
                  "the folder has no tokenizer.json, no SentencePiece tokenizer.model and no vocab.txt");
}

static aiinfra_status put_vocab(aii_hf *hf)
{
  uint32_t n = aii_vocab_size(hf->gguf->vocab);
  if (hf->n_vocab != 0 && n > hf->n_vocab) {
    return aii_fail(hf->err, AIINFRA_EFORMAT, "the tokenizer has %u tokens, the embedding only %u rows", n,
                    hf->n_vocab);
  }
  aiinfra_error why;
  aiinfra_status rc = aii_gguf_put_vocab(hf->mem, hf->gguf->vocab, &hf->w, &why);
  if (rc != AIINFRA_OK && rc != AIINFRA_ENOTSUP) return aii_fail(hf->err, rc, "%s", why.message);
  if (aii_vocab_kind_of(hf->gguf->vocab) == AII_VOCAB_WPM) {
    aii_put_u32(&hf->w, "tokenizer.ggml.token_type_count", aii_hf_count(hf, "type_vocab_size", 1));
  }
  return AIINFRA_OK;
}

/* The file as it is, for tokenizers that GGUF has no keys for. */
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

aiinfra_status aii_hf_check_tokenizer(aii_hf *hf)
{
  aii_file file;
  aiinfra_status rc = aii_hf_map(hf, "tokenizer.json", &file);
  if (rc == AIINFRA_OK && file.bytes != NULL) { rc = aii_hf_json_check((const char *)file.bytes, file.size, hf->err); }
  aii_file_unmap(&file);
  return rc;
}

aiinfra_status aii_hf_put_tokenizer(aii_hf *hf)
{
  static const char *const names[N_FILES] = {"tokenizer.json", "tokenizer.model", "vocab.txt", "tokenizer_config.json",
                                             "added_tokens.json"};
  aii_file files[N_FILES];
  aiinfra_status rc = AIINFRA_OK;
  memset(files, 0, sizeof files);
  for (size_t i = 0; i < N_FILES && rc == AIINFRA_OK; i++) rc = aii_hf_map(hf, names[i], &files[i]);
  if (rc == AIINFRA_OK) rc = read_vocab(hf, files, &hf->gguf->vocab);
  for (size_t i = 0; i < N_FILES; i++) aii_file_unmap(&files[i]);
  bool whole = (hf->arch->flags & HF_TOKENIZER) != 0;
  if (rc == AIINFRA_OK) rc = whole ? put_whole(hf) : put_vocab(hf);
  return rc == AIINFRA_OK ? put_template(hf) : rc;
}
