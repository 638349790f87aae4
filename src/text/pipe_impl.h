/* pipe_impl.h - what stands between text and the model of a vocabulary: normalisers, splits, decoders; and the tables
 * that all of them are made of.
 *
 * A pipeline is three lists of steps, built once with the vocabulary. Every step costs time linear in the text (sorts
 * and heaps aside), whatever the text is.
 */
#ifndef AII_TEXT_PIPE_IMPL_H
#define AII_TEXT_PIPE_IMPL_H

#include "lib/data/data.h"
#include "src/text/text.h"

/* ---- a table from 64-bit keys to two numbers (pairs.c): merges by pair, a trie's edges by node and byte ---------- */

typedef struct aii_pair {
  uint64_t key; /* UINT64_MAX: free */
  uint32_t rank, value;
} aii_pair;

typedef struct aii_pairs {
  aii_pair *slots;
  size_t n, cap; /* cap: 0 or a power of two */
} aii_pairs;

bool aii_pairs_reserve(aii_mem *mem, aii_pairs *pairs, size_t n);
/* The slot of key, new with value UINT32_MAX when it was not there. NULL: memory ran out. */
aii_pair *aii_pairs_put(aii_mem *mem, aii_pairs *pairs, uint64_t key);
void aii_pairs_free(aii_mem *mem, aii_pairs *pairs);

static inline size_t aii_pairs_home(const aii_pairs *pairs, uint64_t key)
{
  return (size_t)(key * 0x9E3779B97F4A7C15u >> 20) & (pairs->cap - 1);
}

static inline const aii_pair *aii_pairs_get(const aii_pairs *pairs, uint64_t key)
{
  if (pairs->cap == 0) return NULL;
  size_t at = aii_pairs_home(pairs, key);
  while (pairs->slots[at].key != key) {
    if (pairs->slots[at].key == UINT64_MAX) return NULL;
    at = (at + 1) & (pairs->cap - 1);
  }
  return &pairs->slots[at];
}

/* ---- a trie over bytes, and Aho and Corasick's automaton on it (trie.c) ------------------------------------------ */

typedef struct aii_trie_node {
  int32_t token; /* -1: no text ends here */
  uint32_t depth;
  uint32_t parent, fail, out; /* out: the longest proper suffix that is a text; 0: none */
  uint8_t byte;
} aii_trie_node;

typedef struct aii_trie {
  aii_pairs edges;      /* to the child, by node and byte */
  aii_trie_node *nodes; /* 0 is the root */
  size_t n, cap;
  bool first[256]; /* bytes that texts begin with */
} aii_trie;

bool aii_trie_add(aii_mem *mem, aii_trie *trie, aii_str text, int32_t token, bool replace); /* an equal text */
bool aii_trie_link(aii_mem *mem, aii_trie *trie); /* fail and out, before aii_trie_find */
void aii_trie_free(aii_mem *mem, aii_trie *trie);
/* The leftmost, there longest text in s[from..n). False: none. */
bool aii_trie_find(const aii_trie *trie, const char *s, size_t from, size_t n, size_t *at, size_t *len, int32_t *token);

static inline uint32_t aii_trie_step(const aii_trie *trie, uint32_t node, uint8_t byte) /* 0: no such child */
{
  const aii_pair *edge = aii_pairs_get(&trie->edges, (uint64_t)node << 8 | byte);
  return edge != NULL ? edge->value : 0;
}

/* ---- regular expressions that no hand-written matcher knows (regex.c) -------------------------------------------- */

typedef struct aii_regex aii_regex;
aiinfra_status aii_regex_compile(aii_mem *mem, aii_str pattern, aii_regex **out, aiinfra_error *err);
void aii_regex_free(aii_regex *regex);
/* The budget of steps for a text of n bytes; matching takes from it. */
uint64_t aii_regex_budget(size_t n);
/* The next match in s[from..n): ENOENT none, ELIMIT when the budget is used up. */
aiinfra_status aii_regex_next(const aii_regex *regex, const char *s, size_t from, size_t n, uint64_t *budget,
                              size_t *at, size_t *end, aiinfra_error *err);

/* ---- normalisers (normalize.c, norm_unicode.c, charsmap.c) ------------------------------------------------------- */

typedef enum aii_norm_kind {
  AII_NORM_NFC = 1,
  AII_NORM_NFD,
  AII_NORM_NFKC,
  AII_NORM_NFKD,
  AII_NORM_LOWER,
  AII_NORM_STRIP,         /* flags: AII_NORM_LEFT, AII_NORM_RIGHT */
  AII_NORM_STRIP_ACCENTS, /* every mark */
  AII_NORM_NMT,
  AII_NORM_CLEAN,      /* BERT: no control characters, all white space is ' ' */
  AII_NORM_CJK,        /* BERT: ideographs stand between spaces */
  AII_NORM_STRIP_MN,   /* BERT: no non-spacing marks, after NFD */
  AII_NORM_PREPEND,    /* `to` before text that is not empty */
  AII_NORM_REPLACE,    /* `from` or `regex` becomes `to` */
  AII_NORM_CHARSMAP,   /* `from` is SentencePiece's table, as Hugging Face reads it: by grapheme, shortest key */
  AII_NORM_BYTE_LEVEL, /* each byte becomes its printable stand-in */
  AII_NORM_PIECES,     /* SentencePiece: charsmap by longest key, extra spaces, prefix, U+2581 */
  AII_NORM_RUNS        /* runs become `to`: of white space, or with flags of so many spaces at least */
} aii_norm_kind;

enum { AII_NORM_LEFT = 1, AII_NORM_RIGHT = 2 };          /* AII_NORM_STRIP */
enum { AII_NORM_EXTRA_SPACES = 1, AII_NORM_PREFIX = 2 }; /* AII_NORM_PIECES: remove, add */

typedef struct aii_norm_step {
  aii_norm_kind kind;
  uint32_t flags;   /* of AII_NORM_REPLACE: how many steps right before can be done in the same pass (pipeline.c) */
  aii_str from, to; /* owned by the pipeline */
  aii_regex *regex;
} aii_norm_step;

/* ---- splits (pretok.c) ------------------------------------------------------------------------------------------- */

typedef struct aii_expr aii_expr; /* an expression as data (pretok_table.c) */

typedef enum aii_split_kind {
  AII_SPLIT_EXPR = 1, /* expr */
  AII_SPLIT_REGEX,    /* regex */
  AII_SPLIT_TEXT,     /* text */
  AII_SPLIT_WORDS,    /* before `text` that does not follow itself: what merges could not join anyway */
  AII_SPLIT_BYTE_MAP, /* no split: bytes become their stand-ins */
  AII_SPLIT_SPACE,    /* no split: a space goes before a piece that has none */
  AII_SPLIT_META      /* no split: spaces become `text`, which goes first as `flags` say */
} aii_split_kind;

typedef enum aii_behavior { /* what becomes of a match */
                            AII_ISOLATED,
                            AII_REMOVED,
                            AII_WITH_PREVIOUS,
                            AII_WITH_NEXT,
                            AII_CONTIGUOUS
} aii_behavior;

enum { AII_META_ALWAYS = 1, AII_META_FIRST = 2 };

typedef struct aii_split_step {
  aii_split_kind kind;
  aii_behavior behavior;
  bool invert; /* what does not match is the match */
  uint32_t flags;
  const aii_expr *expr;
  aii_regex *regex;
  aii_str text; /* owned; of a regex: its spelling */
} aii_split_step;

typedef struct aii_span {
  uint32_t from, to;
} aii_span;

typedef struct aii_spans {
  aii_span *items;
  size_t n, cap;
} aii_spans;

/* ---- decoders (decode.c) ----------------------------------------------------------------------------------------- */

typedef enum aii_decode_kind {
  AII_DECODE_REPLACE = 1, /* `from` becomes `to` */
  AII_DECODE_BYTE_LEVEL,
  AII_DECODE_BYTE_FALLBACK, /* <0xXX> */
  AII_DECODE_META,          /* `from` is a space; in the first token nothing unless flags 0 */
  AII_DECODE_WORDPIECE,     /* `from` is the prefix; flags 1: clean up */
  AII_DECODE_FUSE,          /* what follows concerns the whole text */
  AII_DECODE_STRIP,         /* `from` is the character; flags: how often at the start, << 16 at the end */
  AII_DECODE_SUFFIX,        /* `from` becomes `to`, a space that waits for the next token */
  AII_DECODE_JOIN           /* spaces between tokens: no decoder */
} aii_decode_kind;

typedef struct aii_decode_step {
  aii_decode_kind kind;
  uint32_t flags;
  aii_str from, to; /* owned */
} aii_decode_step;

/* ---- the whole --------------------------------------------------------------------------------------------------- */

typedef struct aii_pipeline {
  aii_norm_step *norm;
  size_t n_norm, cap_norm;
  aii_split_step *split;
  size_t n_split, cap_split;
  aii_decode_step *decode;
  size_t n_decode, cap_decode;
} aii_pipeline;

/* Append a step and take ownership of nothing: strings are copied, a regex is taken over even on failure. */
bool aii_pipe_norm(aii_mem *mem, aii_pipeline *pipe, aii_norm_step step);
bool aii_pipe_split(aii_mem *mem, aii_pipeline *pipe, aii_split_step step);
bool aii_pipe_decode(aii_mem *mem, aii_pipeline *pipe, aii_decode_step step);
void aii_pipe_free(aii_mem *mem, aii_pipeline *pipe);
/* What n bytes may grow to on their way. NFKC, the furthest of the real steps, makes 11 bytes of one, so only a file that
 * means harm, whose steps each put a page between any two characters, goes beyond. */
size_t aii_pipe_most(size_t n);

/* Text through all normalisers; *out is where the result lies: `text` itself, or a buffer of the two. */
aiinfra_status aii_normalize(const aii_pipeline *pipe, aii_str text, bool prefix, aii_buf buffers[2], aii_str *out,
                             aiinfra_error *err);
bool aii_norm_unicode(aii_norm_kind kind, aii_str in, aii_buf *out); /* NFC to NFKD */
void aii_norm_charsmap_hf(aii_str map, aii_str in, aii_buf *out);
/* One character, or more when the longest key of the map says so; bytes taken. *to receives what it becomes. */
size_t aii_charsmap_prefix(aii_str map, const char *s, size_t n, aii_str *to);
bool aii_charsmap_valid(aii_str map);

/* Splits text into pieces, whose text may have changed: *out is what the spans refer to. */
aiinfra_status aii_split(const aii_pipeline *pipe, aii_mem *mem, aii_str text, bool first, aii_buf buffers[2],
                         aii_spans spans[2], aii_str *out, aiinfra_error *err);
bool aii_spans_add(aii_mem *mem, aii_spans *spans, size_t from, size_t to);

size_t aii_byte_to_char(uint8_t byte, char out[4]); /* GPT-2's printable stand-in for a byte */
int aii_char_to_byte(uint32_t cp);                  /* and back; -1: none */
bool aii_char_is_word(uint32_t cp);                 /* \w */
bool aii_char_is_space(uint32_t cp);

/* Known pre-tokenizers: by GGUF's name as split steps; one expression by its text. */
enum { AII_PRE_IGNORE_MERGES = 1, AII_PRE_ADD_BOS = 2, AII_PRE_RAW = 4, AII_PRE_ADD_SEP = 8 };
typedef struct aii_pretok aii_pretok;
const aii_pretok *aii_pretok_find(const char *name);
uint32_t aii_pretok_flags(const aii_pretok *pre);
bool aii_pretok_steps(const aii_pretok *pre, aii_mem *mem, aii_pipeline *pipe);
/* The steps of a pipeline in one line, as the table spells them, and the name of the pre-tokenizer that has them, one
 * with these flags first; NULL: none. The name is followed by a space. */
void aii_pretok_spell(const aii_pipeline *pipe, aii_buf *out);
const char *aii_pretok_named(const char *spelled, uint32_t flags);
const aii_expr *aii_expr_by_regex(aii_str regex);
const aii_expr *aii_expr_by_name(const char *name);

#endif
