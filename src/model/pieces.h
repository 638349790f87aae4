/* src/model/pieces.h - the vocabulary of any tokenizer file on its way to the keys tokenizer.ggml.* of GGUF.
 *
 * Private to src/model. Readers of SentencePiece models, tokenizer.json and llama2.c's tokenizers fill one table; it is
 * written in one place. Texts are borrowed until then.
 */
#ifndef AII_MODEL_PIECES_H
#define AII_MODEL_PIECES_H

#include "src/model/gguf.h"

typedef enum aii_pieces_kind { AII_PIECES_SPM, AII_PIECES_UNIGRAM, AII_PIECES_BPE, AII_PIECES_WORDS } aii_pieces_kind;

typedef enum aii_role { ROLE_BOS, ROLE_EOS, ROLE_UNK, ROLE_SEP, ROLE_PAD, ROLE_CLS, ROLE_MASK, N_ROLES } aii_role;

typedef struct aii_piece {
  aii_str text; /* p NULL: nobody has this id */
  float score;
  int32_t type; /* aii_token_attr */
} aii_piece;

typedef struct aii_pieces {
  aii_mem *mem;
  aii_piece *items;
  size_t n, cap;
  aii_pieces_kind kind;
  const char *pre;          /* of BPE */
  int32_t roles[N_ROLES];   /* -1: none */
  int32_t add_bos, add_eos; /* -1: not said */
  int32_t space_prefix;     /* -1: not said */
  bool remove_spaces;       /* unigram */
  bool plain_spaces;        /* texts have spaces where GGUF has U+2581 */
  const uint8_t *charsmap;  /* unigram; NULL: none */
  size_t charsmap_bytes;
} aii_pieces;

enum { AII_MAX_PIECES = 1 << 22, AII_MAX_PIECE_BYTES = 1 << 16 };

void aii_pieces_init(aii_pieces *pieces, aii_mem *mem, aii_pieces_kind kind);
void aii_pieces_free(aii_pieces *pieces);
/* Puts a piece at an id, making room; ELIMIT beyond AII_MAX_PIECES. */
aiinfra_status aii_pieces_set(aii_pieces *pieces, int64_t id, aii_piece piece, aiinfra_error *err);
int32_t aii_pieces_find(const aii_pieces *pieces, aii_str text); /* by a walk; -1: none */
/* Writes all keys but merges and templates. Ids that nobody has, up to n_vocab at least, become unused tokens. */
void aii_pieces_put(const aii_pieces *pieces, uint32_t n_vocab, aii_gguf_writer *w);

/* Reads a SentencePiece model, which the texts then point into (sentencepiece.c). Call aii_pieces_init() before. */
aiinfra_status aii_sentencepiece_parse(aii_file file, aii_pieces *out, aiinfra_error *err);
bool aii_is_sentencepiece(aii_file file);

#endif
