/* src/model/hf_tokenizer.h - between the two files that read the tokenizers of Hugging Face folders. */
#ifndef AII_MODEL_HF_TOKENIZER_H
#define AII_MODEL_HF_TOKENIZER_H

#include "src/model/hf.h"
#include "src/model/pieces.h"

typedef struct aii_hf_tokens {
  aii_hf *hf;
  aii_pieces pieces;
  aii_buf charsmap; /* decoded */
} aii_hf_tokens;

/* Fills the pieces from a tokenizer.json, whose texts they borrow. */
aiinfra_status aii_hf_read_tokenizer(aii_hf_tokens *tokens, const json_t *json);
/* Writes tokenizer.ggml.merges. */
aiinfra_status aii_hf_put_merges(aii_hf_tokens *tokens, const json_t *json);
/* The tokens of a list [{"id": 0, "content": "<s>", "special": true}, ...] (hf_tokenizer.c). */
aiinfra_status aii_hf_add_tokens(aii_hf_tokens *tokens, const json_t *list);

#endif
