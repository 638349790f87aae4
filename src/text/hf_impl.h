/* hf_impl.h - what the readers of Hugging Face's files share: one reading, its arrays, how a component is looked up. */
#ifndef AII_TEXT_HF_IMPL_H
#define AII_TEXT_HF_IMPL_H

#include "lib/json/json.h"
#include "src/text/vocab_impl.h"

typedef struct aii_hf {
  aii_mem *mem;
  aiinfra_error *err;
  json_t *root;   /* tokenizer.json */
  json_t *config; /* tokenizer_config.json; NULL: none */
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
  bool any_added;
} aii_hf;

void aii_hf_init(aii_hf *hf, aii_mem *mem, aiinfra_error *err);
void aii_hf_free(aii_hf *hf);
aiinfra_status aii_hf_no_memory(aii_hf *hf);
/* Room for tokens up to this id; what lies between is unused. */
aiinfra_status aii_hf_reserve(aii_hf *hf, int64_t id, const char *path);
/* Puts a token of the model or an added one in its place. */
aiinfra_status aii_hf_token(aii_hf *hf, aii_str text, int64_t id, const char *path);
/* hf_added.c */
aiinfra_status aii_hf_added_tokens(aii_hf *hf, const json_t *list, const char *path);
aiinfra_status aii_hf_config_tokens(aii_hf *hf); /* added_tokens_decoder, for files that name no added tokens */
aiinfra_status aii_hf_config_ids(aii_hf *hf);    /* bos, eos, unk, pad by name; add_bos_token, add_eos_token */
aiinfra_status aii_hf_read_config(aii_hf *hf, const char *config, size_t n);
/* hf_model.c, hf_norm.c, hf_split.c, hf_decode.c: one member of tokenizer.json each; NULL or null: none */
aiinfra_status aii_hf_model(aii_hf *hf, const json_t *model);
aiinfra_status aii_hf_normalizer(aii_hf *hf, const json_t *norm, const char *path);
aiinfra_status aii_hf_pre_tokenizer(aii_hf *hf, const json_t *pre, const char *path);
aiinfra_status aii_hf_decoder(aii_hf *hf, const json_t *decoder, const char *path);
aiinfra_status aii_hf_post_processor(aii_hf *hf, const json_t *post, const char *path);
/* Builds the vocabulary of what was read. */
aiinfra_status aii_hf_finish(aii_hf *hf, aii_vocab **out);

/* A component is an object with a type; each type has a reader. "Sequence" runs over the array `members`. */
typedef struct aii_hf_kind {
  const char *type;
  aiinfra_status (*read)(aii_hf *hf, const json_t *obj, const char *path);
} aii_hf_kind;
aiinfra_status aii_hf_component(aii_hf *hf, const json_t *obj, const char *path, const aii_hf_kind *kinds,
                                size_t n_kinds, const char *members);
bool aii_hf_flag(const json_t *obj, const char *key, bool fallback); /* not a boolean: fallback */
aii_str aii_hf_str(const json_t *obj, const char *key);              /* not a string: p NULL */
/* {"String": s} or {"Regex": r}. */
aiinfra_status aii_hf_pattern(aii_hf *hf, const json_t *obj, const char *path, aii_str *text, bool *regex);

#endif
