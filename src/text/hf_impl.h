/* hf_impl.h - what the readers of Hugging Face's files share: one reading, its arrays, how a component is looked up. */
#ifndef AII_TEXT_HF_IMPL_H
#define AII_TEXT_HF_IMPL_H

#include "lib/json/json.h"
#include "src/text/vocab_impl.h"

typedef struct aii_hftok {
  aii_mem *mem;
  aiinfra_error *err;
  json_t *root;   /* tokenizer.json */
  json_t *config; /* tokenizer_config.json; NULL: none */
  json_t *beside; /* added_tokens.json; NULL: none */
  const aii_vocab_extras *extras;
  aii_vocab_desc desc;
  aii_vocab_spec spec;
  size_t cap_tokens; /* of the four arrays */
  aii_str *tokens;
  int32_t *types;
  uint8_t *added;
  double *log_probs;
  aii_str *pairs; /* two a merge */
  size_t cap_pairs;
  aii_map model;  /* the model's own tokens */
  aii_map others; /* added ones that it does not have */
  uint32_t n_model, max_added;
  int64_t max_tokens; /* a file that names a higher number than it can have tokens is not believed */
  bool any_added;
} aii_hftok;

void aii_hftok_init(aii_hftok *hf, size_t file_bytes, aii_mem *mem, aiinfra_error *err);
void aii_hftok_free(aii_hftok *hf);
aiinfra_status aii_hftok_no_memory(aii_hftok *hf);
/* Room for tokens up to this id; what lies between is unused. */
aiinfra_status aii_hftok_reserve(aii_hftok *hf, int64_t id, const char *path);
/* Puts a token of the model or an added one in its place. */
aiinfra_status aii_hftok_token(aii_hftok *hf, aii_str text, int64_t id, const char *path);
/* hf_added.c */
aiinfra_status aii_hftok_added_tokens(aii_hftok *hf, const json_t *list, const char *path);
aiinfra_status aii_hftok_config_tokens(aii_hftok *hf); /* for files that name no added tokens: those beside them */
aiinfra_status aii_hftok_ids(aii_hftok *hf);           /* bos, eos, sep, pad: by name, else as extras say; n_least */
aiinfra_status aii_hftok_read_extras(aii_hftok *hf, const aii_vocab_extras *extras);
void aii_hftok_add_around(aii_hftok *hf); /* add_bos_token, add_eos_token */
/* hf_model.c, hf_norm.c, hf_split.c, hf_decode.c: one member of tokenizer.json each; NULL or null: none */
aiinfra_status aii_hftok_model(aii_hftok *hf, const json_t *model);
aiinfra_status aii_hftok_normalizer(aii_hftok *hf, const json_t *norm, const char *path);
aiinfra_status aii_hftok_pre_tokenizer(aii_hftok *hf, const json_t *pre, const char *path);
aiinfra_status aii_hftok_decoder(aii_hftok *hf, const json_t *decoder, const char *path);
aiinfra_status aii_hftok_post_processor(aii_hftok *hf, const json_t *post, const char *path);
/* Builds the vocabulary of what was read. */
aiinfra_status aii_hftok_finish(aii_hftok *hf, aii_vocab **out);

/* A component is an object with a type; each type has a reader. "Sequence" runs over the array `members`. */
typedef struct aii_hftok_kind {
  const char *type;
  aiinfra_status (*read)(aii_hftok *hf, const json_t *obj, const char *path);
} aii_hftok_kind;
aiinfra_status aii_hftok_component(aii_hftok *hf, const json_t *obj, const char *path, const aii_hftok_kind *kinds,
                                   size_t n_kinds, const char *members);
bool aii_hftok_flag(const json_t *obj, const char *key, bool fallback); /* not a boolean: fallback */
aii_str aii_hftok_str(const json_t *obj, const char *key);              /* not a string: p NULL */
/* {"String": s} or {"Regex": r}. */
aiinfra_status aii_hftok_pattern(aii_hftok *hf, const json_t *obj, const char *path, aii_str *text, bool *regex);

#endif
