/* vocab_impl.h - what the files about vocabularies share: the vocab itself, its tries, the tokenizer's steps. */
#ifndef AII_TEXT_VOCAB_IMPL_H
#define AII_TEXT_VOCAB_IMPL_H

#include "lib/data/data.h"
#include "src/text/text.h"

/* Flags of a token. */
enum {
  AII_TF_EOG = 1,    /* ends generation */
  AII_TF_RSTRIP = 2, /* a special token that swallows the white space behind it */
  AII_TF_CONTROL = 4 /* control or unknown: prints nothing unless special */
};

/* ---- special tokens: a trie that finds the longest one at a place (specials.c) -------------------------------- */

typedef struct aii_sp_node {
  uint32_t child, sibling; /* 0: none */
  int32_t token;           /* -1: none */
  uint8_t byte;
  bool user; /* the token is user-defined */
} aii_sp_node;

typedef struct aii_specials {
  aii_sp_node *nodes; /* 0 is the root */
  size_t n, cap;
  uint32_t first[256]; /* the root's children by byte */
} aii_specials;

bool aii_specials_add(aii_mem *mem, aii_specials *sp, aii_str text, int32_t token, bool user);
void aii_specials_free(aii_mem *mem, aii_specials *sp);
/* The longest special token at text; *len its bytes. -1: none. Without `control` only user-defined ones. */
int32_t aii_specials_match(const aii_specials *sp, const char *text, size_t n, bool control, size_t *len);

/* ---- the byte trie of all pieces, for grammar masks (byte_trie.c) ---------------------------------------------- */

/* Nodes in depth-first order; the children of node i begin at i + 1, its subtree ends at i + skip. */
typedef struct aii_bt_node {
  uint32_t skip;
  uint32_t first_token; /* into `tokens`; those of this node end where the next node's begin */
  uint8_t byte;
  uint8_t depth; /* 1 for a token's first byte; pieces are cut off at 255 bytes */
} aii_bt_node;

typedef struct aii_byte_trie {
  aii_bt_node *nodes;
  size_t n, cap; /* nodes[n] is a sentinel that only ends the token list */
  int32_t *tokens;
  size_t n_tokens;
} aii_byte_trie;

bool aii_byte_trie_build(aii_mem *mem, const aii_vocab *vocab, aii_byte_trie *trie);
void aii_byte_trie_free(aii_mem *mem, aii_byte_trie *trie);

/* ---- merges of byte-level BPE --------------------------------------------------------------------------------- */

typedef struct aii_merge {
  uint64_t pair; /* left symbol << 32 | right symbol; UINT64_MAX: free */
  uint32_t rank, result;
} aii_merge;

/* ---- pre-tokenizers (pretok.c) --------------------------------------------------------------------------------- */

typedef struct aii_pretok aii_pretok; /* a row of the table there */
const aii_pretok *aii_pretok_find(const char *name);
bool aii_pretok_ignore_merges(const aii_pretok *pre);
bool aii_pretok_add_bos(const aii_pretok *pre);
/* Splits text into pieces and appends their ends (byte offsets) to *ends. */
typedef struct aii_ends {
  uint32_t *items;
  size_t n, cap;
} aii_ends;
aiinfra_status aii_pretok_split(const aii_pretok *pre, aii_mem *mem, const char *text, size_t n, aii_ends *ends,
                                aiinfra_error *err);

/* ---- the vocabulary -------------------------------------------------------------------------------------------- */

struct aii_vocab {
  aii_mem *mem;
  aii_vocab_kind kind;
  const aii_pretok *pre;
  uint32_t n_tokens;
  char *text; /* the tokens as in the file, end to end, with the symbols that only merges name */
  size_t text_bytes;
  uint32_t *text_at; /* n_symbols + 1 offsets into text */
  char *piece;       /* what they print */
  size_t piece_bytes;
  uint32_t *piece_at; /* n_tokens + 1 offsets */
  float *scores;
  uint8_t *attr;      /* aii_token_attr */
  uint8_t *flags;     /* AII_TF_ */
  uint32_t n_symbols; /* tokens and, for BPE, symbols beyond the vocabulary */
  uint32_t max_symbol_bytes;
  aii_map by_text; /* symbol by text */
  aii_merge *merges;
  size_t merge_cap;
  uint32_t byte_symbol[256]; /* UINT32_MAX: none. SPM: the byte token; BPE: the symbol of the mapped byte */
  int32_t bos, eos, unk, eot, eom, pad;
  bool add_bos, add_eos, add_space_prefix, ignore_merges;
  aii_specials specials;
  aii_byte_trie trie;
};

aii_str aii_vocab_symbol(const aii_vocab *vocab, uint32_t symbol);
/* vocab_rules.c: end of generation, special attributes, defaults; before pieces are made. */
void aii_vocab_apply_rules(aii_vocab *vocab, const aii_vocab_desc *desc);
/* vocab_piece.c */
aiinfra_status aii_vocab_build_pieces(aii_vocab *vocab, aiinfra_error *err);
size_t aii_byte_to_char(uint8_t byte, char out[4]); /* GPT-2's printable stand-in for a byte */

/* One fragment of plain text to tokens (spm.c, bpe.c). */
aiinfra_status aii_spm_tokenize(const aii_vocab *vocab, const char *text, size_t n, bool space_prefix, aii_tokens *out,
                                aiinfra_error *err);
aiinfra_status aii_bpe_tokenize(const aii_vocab *vocab, const char *text, size_t n, aii_tokens *out,
                                aiinfra_error *err);
bool aii_tokens_add(aii_tokens *tokens, aiinfra_token token);

#endif
