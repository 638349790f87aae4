/* src/text/text.h - between bytes and tokens: vocabulary, tokenizers, chat templates, grammars, model output.
 *
 * Nothing here knows where a vocabulary came from: a vocab is built from plain arrays (aii_vocab_desc), which the
 * model module fills from a file. All objects are immutable once built and may be used from any thread; states
 * (detokenizer, grammar state, quote) have one owner.
 */
#ifndef AII_TEXT_H
#define AII_TEXT_H

#include "lib/base/base.h"

/* ---- vocabulary and tokenizer ------------------------------------------------------------------------------- */

typedef enum aii_vocab_kind {
  AII_VOCAB_SPM = 1, /* SentencePiece BPE: "llama" in GGUF */
  AII_VOCAB_BPE = 2, /* BPE by ranked merges: "gpt2" in GGUF */
  AII_VOCAB_WPM = 3, /* WordPiece: "bert" in GGUF */
  AII_VOCAB_UGM = 4, /* Unigram: "t5" in GGUF */
  AII_VOCAB_WORD = 5 /* whole words: Hugging Face's WordLevel */
} aii_vocab_kind;

typedef enum aii_token_attr { /* GGUF's token types */
                              AII_TOKEN_NORMAL = 1,
                              AII_TOKEN_UNKNOWN = 2,
                              AII_TOKEN_CONTROL = 3,
                              AII_TOKEN_USER = 4,
                              AII_TOKEN_UNUSED = 5,
                              AII_TOKEN_BYTE = 6
} aii_token_attr;

typedef struct aii_str {
  const char *p; /* not NUL-terminated */
  size_t n;
} aii_str;

/* What a file says about its vocabulary. Everything is borrowed during aii_vocab_create and copied as needed. */
typedef struct aii_vocab_desc {
  aii_vocab_kind kind;
  const char *pre; /* pre-tokenizer's name (BPE); NULL: "default" */
  uint32_t n_tokens;
  const aii_str *tokens; /* n_tokens, as in the file (SPM: with U+2581; BPE: byte-mapped) */
  const float *scores;   /* n_tokens, SPM; may be NULL */
  const int32_t *types;  /* n_tokens aii_token_attr; may be NULL: all normal */
  uint32_t n_merges;
  const aii_str *merges;                /* BPE: "a b", rank = index */
  int32_t bos, eos, unk, eot, eom, pad; /* -1: none (the caller applies the defaults of the file format) */
  int32_t add_bos, add_eos;             /* -1: as the kind and pre say by default, 0: no, 1: yes */
  int32_t add_space_prefix;             /* SPM, UGM; -1: default yes */
  int32_t remove_extra_spaces;          /* SPM, UGM: runs of white space are one, none at the ends; -1: default no */
  aii_str charsmap;                     /* SPM, UGM: SentencePiece's precompiled normalisation; n 0: none */
  int32_t sep;                          /* WPM and RoBERTa's kin: behind a text; -1: none */
  int32_t add_sep;                      /* -1: as the kind and pre say by default, 0: no, 1: yes */
} aii_vocab_desc;

typedef struct aii_vocab aii_vocab;

aiinfra_status aii_vocab_create(aii_mem *mem, const aii_vocab_desc *desc, aii_vocab **out, aiinfra_error *err);
void aii_vocab_free(aii_vocab *vocab);

/* What lies beside the file of a vocabulary. Zeroes: nothing. */
typedef struct aii_vocab_extras {
  aii_str config; /* tokenizer_config.json: names of special tokens, add_bos_token, added_tokens_decoder */
  aii_str added;  /* added_tokens.json: {"text": number} */
  struct aii_vocab_ids {
    int32_t bos, eos, sep, pad; /* -1: none */
  } const *ids;                 /* of special tokens that nothing names; NULL: none */
  uint32_t n_least;             /* as many tokens at least: numbers that nobody has are unused */
  bool keep_spaces;             /* runs of white space stay, whatever a SentencePiece model says of them */
} aii_vocab_extras;

/* Vocabularies as other programs keep them. extras may be NULL. Malformed: EFORMAT; a part that this version does not
 * have: ENOTSUP with its name and place. */
aiinfra_status aii_vocab_from_hf_json(aii_mem *mem, const char *json, size_t n, const aii_vocab_extras *extras,
                                      aii_vocab **out, aiinfra_error *err); /* tokenizer.json */
/* Whether a tokenizer.json may be a whole one; makes nothing of it. */
aiinfra_status aii_hf_json_check(const char *json, size_t n, aiinfra_error *err);
/* Lines "<base64> <rank>". pre: the pre-tokenizer by its name in GGUF ("gpt-4o", "qwen2", "llama-bpe"). */
aiinfra_status aii_vocab_from_tiktoken(aii_mem *mem, const char *file, size_t n, const char *pre,
                                       const aii_vocab_extras *extras, aii_vocab **out, aiinfra_error *err);
aiinfra_status aii_vocab_from_sentencepiece(aii_mem *mem, const char *model, size_t n, const aii_vocab_extras *extras,
                                            aii_vocab **out, aiinfra_error *err);
bool aii_is_sentencepiece(const char *file, size_t n); /* by its first bytes */
/* BERT's vocab.txt: a token a line. */
aiinfra_status aii_vocab_from_wordpiece(aii_mem *mem, const char *file, size_t n, const aii_vocab_extras *extras,
                                        aii_vocab **out, aiinfra_error *err);

/* The same vocabulary in the words of a GGUF file: aii_vocab_create() of the description tokenizes alike, but for how
 * added tokens treat what is around them. ENOTSUP where GGUF has no words: a pre-tokenizer that has no name there, or
 * other normalisation than such files imply. Texts may point into the vocabulary. */
typedef struct aii_vocab_gguf {
  aii_vocab_desc desc;
  aii_mem *mem;
  char *text;
  size_t text_bytes;
  char pre[32];
} aii_vocab_gguf;
aiinfra_status aii_vocab_to_gguf(aii_mem *mem, const aii_vocab *vocab, aii_vocab_gguf *out, aiinfra_error *err);
void aii_vocab_gguf_free(aii_vocab_gguf *gguf);
aii_vocab_kind aii_vocab_kind_of(const aii_vocab *vocab);

uint32_t aii_vocab_size(const aii_vocab *vocab);
int32_t aii_vocab_bos(const aii_vocab *vocab); /* -1: none */
int32_t aii_vocab_eos(const aii_vocab *vocab);
int32_t aii_vocab_unk(const aii_vocab *vocab);
bool aii_vocab_is_eog(const aii_vocab *vocab, aiinfra_token token); /* end of generation */
/* The bytes that a token stands for in output. SPM: U+2581 is a space, byte tokens are raw bytes. Control tokens: their
 * text when `special`, else nothing. A token outside the vocabulary gives an empty string. */
aii_str aii_vocab_piece(const aii_vocab *vocab, aiinfra_token token, bool special);
aiinfra_token aii_vocab_find(const aii_vocab *vocab, const char *text, size_t n); /* by its text in the file; -1 */

/* U+FDD0, which Unicode keeps for such uses: before a place where a control token is spelled but not meant. */
#define AII_GUARD "\xEF\xB7\x90"
enum { AII_TOKENIZE_GUARDED = 1 << 16 };
/* Whether a control token stands at text, or begins there and the text ends within it. */
bool aii_vocab_spells_control(const aii_vocab *vocab, const char *text, size_t n);

/* Appends tokens to a growing array (aii_grow with vocab-independent mem). flags: aiinfra_tokenize_flags bits:
 * 1 parse special tokens, 2 add bos/eos as the model wants; AII_TOKENIZE_GUARDED: at an AII_GUARD no control token
 * begins, and the guards themselves are dropped. Linear time in n for any input. */
typedef struct aii_tokens {
  aii_mem *mem;
  aiinfra_token *items;
  size_t n, cap;
} aii_tokens;
void aii_tokens_init(aii_tokens *tokens, aii_mem *mem);
void aii_tokens_free(aii_tokens *tokens);
aiinfra_status aii_tokenize(const aii_vocab *vocab, const char *text, size_t n, uint32_t flags, aii_tokens *out,
                            aiinfra_error *err);

/* Streaming detokenizer: never hands out part of a UTF-8 sequence. first_in_text: no token of the text came before, so
 * that what only the first one prints or loses (a leading space) is right. */
typedef struct aii_detok {
  const aii_vocab *vocab;
  bool special;
  bool first;     /* no token was printed yet */
  bool space;     /* one waits for the next token */
  uint8_t n_held; /* bytes of an unfinished sequence */
  uint32_t strip; /* leading spaces that are still to be lost */
  char held[4];
} aii_detok;
void aii_detok_init(aii_detok *detok, const aii_vocab *vocab, bool special, bool first_in_text);
void aii_detok_push(aii_detok *detok, aiinfra_token token, aii_buf *out);
void aii_detok_bytes(aii_detok *detok, aiinfra_token token, aii_buf *out); /* the exact bytes, cut or not */
void aii_detok_finish(aii_detok *detok, aii_buf *out);                     /* what is held becomes U+FFFD */

/* ---- chat templates ------------------------------------------------------------------------------------------ */

/* A bounded interpreter of the Jinja subset that chat templates use (trim_blocks and lstrip_blocks on, tojson as
 * Hugging Face has it). Parsed once, rendered from any thread. */
typedef struct aii_template aii_template;
aiinfra_status aii_template_parse(aii_mem *mem, const char *source, size_t n, aii_template **out, aiinfra_error *err);
void aii_template_free(aii_template *tmpl);

typedef struct aii_template_vars {
  const char *messages_json; /* an array */
  const char *tools_json;    /* an array; NULL: none */
  const char *extra_json;    /* an object of further variables; NULL: none */
  const char *bos_token, *eos_token;
  const aii_vocab
      *guard;    /* strings of the three that spell its control tokens get an AII_GUARD before each; NULL: no */
  int64_t now_s; /* what strftime_now() tells, in seconds since 1970, as local time; 0: the clock */
  bool add_generation_prompt;
} aii_template_vars;
/* Bounded steps, depth and output; raise_exception() in the template becomes EINVAL with its message. */
aiinfra_status aii_template_render(const aii_template *tmpl, const aii_template_vars *vars, aii_buf *out,
                                   aiinfra_error *err);

/* ---- grammars ------------------------------------------------------------------------------------------------ */

/* A compiled grammar restricts output byte by byte. Built from a JSON Schema or from GBNF text. `lazy_trigger`
 * (may be NULL): output is free until this text appears, then the grammar holds from the text's own start, and
 * when the grammar is complete only end of generation may follow. */
typedef struct aii_grammar aii_grammar;
aiinfra_status aii_grammar_from_gbnf(aii_mem *mem, const char *gbnf, const char *lazy_trigger, aii_grammar **out,
                                     aiinfra_error *err);
/* Any JSON text that is valid against the schema, in compact or one-space style. */
aiinfra_status aii_grammar_from_schema(aii_mem *mem, const char *schema_json, aii_grammar **out, aiinfra_error *err);
void aii_grammar_free(aii_grammar *grammar);
bool aii_grammar_waits(const aii_grammar *grammar); /* it does not hold from the first byte on */

typedef struct aii_grammar_state aii_grammar_state;
aiinfra_status aii_grammar_start(aii_mem *mem, const aii_grammar *grammar, const aii_vocab *vocab,
                                 aii_grammar_state **out, aiinfra_error *err);
void aii_grammar_state_free(aii_grammar_state *state);
/* Which tokens may come next: a bit for each, valid until the next call. At least one always may (end of generation when
 * the grammar is complete). ENOMEM possible. */
aiinfra_status aii_grammar_allowed(aii_grammar_state *state, const uint64_t **bits, aiinfra_error *err);
/* Sets logits of the others to -INFINITY; logits: [n_vocab]. */
aiinfra_status aii_grammar_mask(aii_grammar_state *state, float *logits, aiinfra_error *err);
/* Advances by a sampled token; EINVAL when the grammar forbids it. */
aiinfra_status aii_grammar_accept(aii_grammar_state *state, aiinfra_token token, aiinfra_error *err);
bool aii_grammar_complete(const aii_grammar_state *state); /* nothing but end of generation may follow */

/* ---- quotes --------------------------------------------------------------------------------------------------- */

/* An output that has begun with so many bytes of a source, from a word's beginning on, goes on in its words to the end of a
 * sentence, then with " [n]", n being the source's number from 1; then it ends. sources_json: an array of texts. */
#define AII_QUOTE_FROM 12
typedef struct aii_quote aii_quote;
aiinfra_status aii_quote_create(aii_mem *mem, const aii_vocab *vocab, const char *sources_json, aii_quote **out,
                                aiinfra_error *err);
void aii_quote_free(aii_quote *quote);        /* NULL is allowed */
bool aii_quote_holds(const aii_quote *quote); /* the output is in a quote */
/* Then sets logits of tokens that would leave it to -INFINITY; logits: [n_vocab]. One at least stays as it is. */
void aii_quote_mask(aii_quote *quote, float *logits);
/* Advances by a sampled token. ENOMEM possible. */
aiinfra_status aii_quote_accept(aii_quote *quote, aiinfra_token token, aiinfra_error *err);

/* ---- what the model wrote ------------------------------------------------------------------------------------ */

/* How a model writes tool calls, and what it puts around its reasoning: found by its chat template. */
typedef struct aii_out_format aii_out_format;
typedef struct aii_output_syntax {
  const aii_out_format *format;  /* NULL: the template declares no calls */
  const char *think, *think_end; /* NULL: no reasoning */
} aii_output_syntax;

aii_output_syntax aii_output_detect(const char *chat_template); /* NULL: none */
const aii_out_format *aii_output_format(const char *name);      /* NULL: no such format */
const char *aii_output_format_name(const aii_out_format *format);
const char *aii_output_opening(const aii_out_format *format); /* the text that begins a call; NULL: none is known */

/* The grammar of a model's calls in its own syntax, each with arguments that are valid against the tool's schema. */
typedef struct aii_tool_grammar_opts {
  const char *tools_json; /* OpenAI's array */
  const char *choice; /* as tool_choice: "auto" waits for a call, "required" forces one, a name that tool; NULL: auto */
  aii_output_syntax syntax;
  const char
      *prompt; /* the rendered prompt, n_prompt bytes: its end may have opened the reasoning or a call; may be NULL */
  size_t n_prompt;
} aii_tool_grammar_opts;
aiinfra_status aii_grammar_from_tools(aii_mem *mem, const aii_tool_grammar_opts *opts, aii_grammar **out,
                                      aiinfra_error *err);
/* Whether there is a grammar for the format; lazy: one that waits for the text that opens a call. */
bool aii_grammar_knows(const aii_out_format *format, bool lazy);

/* Takes a model's output apart while it is written: content, reasoning, calls. What comes out does not depend on where
 * the input was cut. Text that may begin a marker is held back until it is decided. One owner. */
typedef struct aii_output aii_output;
typedef struct aii_output_opts {
  aii_output_syntax syntax;
  const char *tools_json; /* OpenAI tools: which calls are meant, and of which type arguments are; NULL: no calls */
  const char *prompt;     /* the rendered prompt, n_prompt bytes: its end may have opened the reasoning; may be NULL */
  size_t n_prompt;
  uint64_t seed;       /* of the ids of calls: the same seed and output give the same ids */
  bool keep_reasoning; /* as part of the content, with its markers */
  bool json;           /* content is one JSON value: a code fence around it is dropped */
} aii_output_opts;
aiinfra_status aii_output_create(aii_mem *mem, const aii_output_opts *opts, aii_output **out, aiinfra_error *err);
void aii_output_free(aii_output *output);
aiinfra_status aii_output_push(aii_output *output, const char *text, size_t n, aiinfra_error *err); /* ENOMEM */
aiinfra_status aii_output_finish(aii_output *output, aiinfra_error *err);
/* Whether a control token's text is part of what is looked for; other control tokens are no output. */
bool aii_output_wants(const aii_output *output, const char *text, size_t n);

typedef enum aii_output_kind { AII_OUT_CONTENT, AII_OUT_REASONING, AII_OUT_CALL } aii_output_kind;
typedef struct aii_output_delta {
  aii_output_kind kind;
  uint32_t index;        /* of the call */
  const char *id, *name; /* of a call's first delta; else NULL */
  const char *text;      /* content, reasoning, or more of the arguments: n bytes, valid until the next push */
  size_t n;
} aii_output_delta;
bool aii_output_next(aii_output *output, aii_output_delta *delta); /* false: nothing new */

/* All so far. */
const char *aii_output_content(const aii_output *output, size_t *n);
const char *aii_output_reasoning(const aii_output *output, size_t *n);
size_t aii_output_calls(const aii_output *output);                  /* complete ones */
bool aii_output_cut(const aii_output *output);                      /* it ended within a call */
void aii_output_calls_json(const aii_output *output, aii_buf *out); /* the complete calls, as OpenAI's tool_calls */

#endif
