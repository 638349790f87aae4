/* vocab_impl.h - what the files about vocabularies share: the vocab itself, its tries, the tokenizer's steps. */
#ifndef AII_TEXT_VOCAB_IMPL_H
#define AII_TEXT_VOCAB_IMPL_H

#include "src/text/pipe_impl.h"

/* Flags of a token. */
enum {
  AII_TF_EOG = 1,          /* ends generation */
  AII_TF_RSTRIP = 2,       /* found in text it swallows the white space behind it */
  AII_TF_CONTROL = 4,      /* control or unknown: prints nothing unless special */
  AII_TF_LSTRIP = 8,       /* it swallows the white space before it */
  AII_TF_SINGLE_WORD = 16, /* found only where no word character touches it */
  AII_TF_NORMALIZED = 32,  /* found in normalised text */
  AII_TF_ADDED = 64,       /* found in text before the model sees it */
  AII_TF_OUTSIDE = 128     /* the model does not know it */
};

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

/* ---- the texts that a model knows, for WordPiece and Unigram (dict.c) -------------------------------------------- */

typedef struct aii_dict_cell {
  uint32_t base; /* of its children */
  uint32_t mark; /* its token << 8 | its byte; AII_DICT_NONE: no text ends here */
} aii_dict_cell;

typedef struct aii_dict {
  aii_dict_cell *cells;
  size_t n, cap;
  uint32_t root; /* a base */
} aii_dict;

#define AII_DICT_NONE 0xFFFFFFu
enum { AII_DICT_TEXT = 1024 }; /* no token of a real vocabulary is longer; it bounds how often a byte is read */

/* Of equal texts the last. */
bool aii_dict_build(aii_mem *mem, const aii_vocab *vocab, bool (*wanted)(const aii_vocab *, uint32_t), aii_dict *dict);
void aii_dict_free(aii_mem *mem, aii_dict *dict);

/* From a base one byte on: the next base, and the token that ends there or AII_DICT_NONE. False: nothing goes on so. */
static inline bool aii_dict_step(const aii_dict *dict, uint32_t *base, uint8_t byte, uint32_t *token)
{
  aii_dict_cell cell = dict->cells[*base ^ byte];
  if ((uint8_t)cell.mark != byte) return false;
  *base = cell.base;
  *token = cell.mark >> 8;
  return true;
}

/* ---- the vocabulary -------------------------------------------------------------------------------------------- */

enum { AII_MAX_AROUND = 8 }; /* tokens before and behind a text */
enum { AII_MAX_AFFIX = 32 }; /* bytes of a prefix or suffix of words */

/* How a vocabulary works, beyond its arrays: filled by vocab_gguf.c from a description, or by a loader. */
typedef struct aii_vocab_spec {
  aii_pipeline pipe; /* the vocabulary takes it over, whatever comes of it */
  bool by_file;      /* GGUF's rules: attributes decide what is found and printed */
  bool byte_level;   /* BPE: text is bytes, spelled by stand-ins */
  bool byte_fallback, fuse_unk, ignore_merges;
  bool float_scores;          /* UGM: sums are rounded to single precision, which decides ties as SentencePiece does */
  bool last_merge_holds;      /* of equal ones */
  uint32_t max_word_chars;    /* WPM; 0: no bound */
  aii_str word_prefix;        /* WPM: before a word's first piece */
  aii_str cont_prefix;        /* WPM, BPE: before its other pieces */
  aii_str word_suffix;        /* BPE: behind its last piece */
  const double *log_probs;    /* UGM; NULL: the description's scores */
  const uint8_t *added;       /* AII_TF_ of each token; NULL: none */
  const aii_str *merge_pairs; /* in place of the description's merges: two texts a merge */
  bool merge_by_text;         /* BPE: two symbols merge when their text is a token; the lowest number first */
  aiinfra_token before[AII_MAX_AROUND], behind[AII_MAX_AROUND];
  uint32_t n_before, n_behind;
} aii_vocab_spec;

struct aii_vocab {
  aii_mem *mem;
  aii_vocab_kind kind;
  aii_vocab_spec spec; /* strings are owned, the arrays of others NULL */
  uint32_t n_tokens;
  char *text; /* the tokens as in the file, end to end, with the symbols that only merges name */
  size_t text_bytes;
  uint32_t *text_at;  /* n_symbols + 1 offsets into text */
  aii_buf piece;      /* what they print when they are not the first */
  uint32_t *piece_at; /* n_tokens + 1 offsets */
  float *scores;      /* SPM */
  double *log_probs;  /* UGM */
  double unk_log_prob;
  uint8_t *attr;      /* aii_token_attr */
  uint8_t *flags;     /* AII_TF_ */
  uint32_t n_symbols; /* tokens and, for BPE, symbols beyond the vocabulary */
  uint32_t max_symbol_bytes;
  aii_map by_text; /* symbol by text */
  aii_pairs merges;
  uint32_t byte_symbol[256]; /* UINT32_MAX: none. Byte level: the symbol of the stand-in; else the byte token */
  uint32_t char_symbol[512]; /* of the first characters; UINT32_MAX: none */
  aii_dict pieces;           /* WPM, UGM: all texts */
  struct {
    aii_trie all, user; /* user: those that are found even when special tokens are not asked for */
  } added[2];           /* in the text as it comes, in normalised text */
  int32_t bos, eos, unk, eot, eom, pad, sep;
  bool first_differs;   /* the first token prints something else than later ones */
  bool holds_space;     /* a space at a piece's end waits for the next token */
  bool split_errors;    /* each byte of a broken sequence is a U+FFFD */
  uint32_t strip_first; /* spaces that the text as a whole loses */
  aii_byte_trie trie;
};

aii_str aii_vocab_symbol(const aii_vocab *vocab, uint32_t symbol);
uint32_t aii_vocab_model_find(const aii_vocab *vocab, const char *text, size_t n); /* UINT32_MAX: the model has none */
/* Builds from a description and how it works; takes spec->pipe over. */
aiinfra_status aii_vocab_build(aii_mem *mem, const aii_vocab_desc *desc, aii_vocab_spec *spec, aii_vocab **out,
                               aiinfra_error *err);
/* vocab_gguf.c: the spec of a vocabulary that says no more than a GGUF file. On failure the pipe is freed. */
aiinfra_status aii_vocab_gguf_spec(aii_mem *mem, const aii_vocab_desc *desc, aii_vocab_spec *spec, aiinfra_error *err);
bool aii_bert_steps(aii_mem *mem, aii_pipeline *pipe, bool lower, bool strip_accents, bool cjk, bool clean);
bool aii_bert_splits(aii_mem *mem, aii_pipeline *pipe);
/* vocab_rules.c: end of generation, special attributes; before pieces are made. */
void aii_vocab_apply_rules(aii_vocab *vocab, const aii_vocab_desc *desc);
/* vocab_added.c: the tries of tokens that are found before the model sees the text. */
aiinfra_status aii_vocab_build_added(aii_vocab *vocab, aiinfra_error *err);
/* vocab_merge.c: the symbols that merges name and the table of merges. */
aiinfra_status aii_vocab_build_merges(aii_vocab *vocab, const aii_vocab_desc *desc, const aii_str *pairs,
                                      aiinfra_error *err);
/* decode.c: what each token prints; what one prints as the first of a text. */
aiinfra_status aii_vocab_build_pieces(aii_vocab *vocab, aiinfra_error *err);
void aii_vocab_decode(const aii_vocab *vocab, aiinfra_token token, bool first, aii_buf *out);

/* ---- one text at work (tokenize.c) ----------------------------------------------------------------------------- */

typedef struct aii_word { /* a word seen in this text, and where its tokens lie in the output */
  uint8_t n, n_tokens;    /* n 0: free */
  char text[26];
  uint32_t at;
} aii_word;

typedef struct aii_work {
  const aii_vocab *vocab;
  aii_mem *mem;
  aii_tokens *out;
  aiinfra_error *err;
  bool special;
  size_t *guards; /* places where no special token begins, in order */
  size_t n_guards, cap_guards, next_guard;
  aii_buf norm[2], split[2];
  aii_spans spans[2];
  aii_word *words;
  size_t n_words; /* 0 or a power of two */
  aii_heap heap;  /* the model's */
  uint32_t *ids;
  size_t cap_ids;
  void *items; /* the model's, of one type a model */
  size_t cap_items;
  aii_spans ways; /* UGM */
} aii_work;

/* One piece of text to tokens. */
aiinfra_status aii_bpe_piece(aii_work *w, const char *text, size_t n);
aiinfra_status aii_spm_piece(aii_work *w, const char *text, size_t n);
aiinfra_status aii_wpm_piece(aii_work *w, const char *text, size_t n);
aiinfra_status aii_ugm_piece(aii_work *w, const char *text, size_t n);
aiinfra_status aii_word_piece(aii_work *w, const char *text, size_t n);
bool aii_bpe_before(const void *a, const void *b); /* the heaps' orders and elements */
bool aii_spm_before(const void *a, const void *b);
enum { AII_HEAP_BYTES = 16, AII_SYMBOL_BYTES = 16 };

aiinfra_status aii_work_add(aii_work *w, aiinfra_token token);
aiinfra_status aii_work_nothing_fits(aii_work *w, const char *text, size_t n); /* no token and no unknown one */
bool aii_tokens_add(aii_tokens *tokens, aiinfra_token token);

#endif
