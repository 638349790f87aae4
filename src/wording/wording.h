/* src/wording/wording.h - texts compared without a model: their vector, and whether they say the same.
 *
 *   embed.c   text to vector                 tokens.c  a short text as words, contractions undone
 *   canon.c   the same wording for the same question or fact
 *   frames.c  politeness and the forms of a question
 *   gist.c    a question's forms (forms.c), words (lexicon.c) and places brought together
 *   gate.c    why two wordings differ
 *
 * A vector finds what is near; it cannot tell "I like tea" from "I do not like tea". So nothing is ever taken for the
 * same by its vector alone: the canonical wordings must be equal, byte by byte. They are made by rules that keep every
 * word, number, name and their order, but for what changes no answer: case, punctuation, contractions, politeness, the
 * form of the question, words for words of the same function. What no rule knows, also any other language, must be
 * equal as it stands. Nothing here can fail but for memory; any thread.
 */
#ifndef AII_WORDING_H
#define AII_WORDING_H

#include "lib/base/base.h"
#include "src/vector/vector.h"

/* ---- vectors (embed.c) ------------------------------------------------------------------------------------------ */

enum { AII_EMBED_DIMS = 512 };
/* Hashed features of a text: words, pairs of words, character trigrams. Of length 1. The same on every machine and
 * in every version; another way to embed gets another name where vectors are kept. */
void aii_embed(const char *text, size_t n, float out[AII_EMBED_DIMS]);
/* The cosine of two of them. */
float aii_embed_dot(const float a[AII_EMBED_DIMS], const float b[AII_EMBED_DIMS]);
/* Lower case, white space as single spaces, none at the ends. */
void aii_normalise(const char *text, size_t n, aii_buf *out);

/* ---- tokens (tokens.c) ------------------------------------------------------------------------------------------ */

enum { AII_TOK_BYTES = 56, AII_TOK_MAX = 72, AII_WORDING_BYTES = 512 };
enum { AII_TOK_COMMA = 1, AII_TOK_POSSESSIVE = 2, AII_TOK_QUOTED = 4, AII_TOK_CAPITAL = 8, AII_TOK_FIRST = 16 };

typedef struct aii_tok {
  char s[AII_TOK_BYTES];
  unsigned flags; /* AII_TOK_COMMA: a comma or the like stood behind it */
} aii_tok;

typedef struct aii_toks {
  aii_tok t[AII_TOK_MAX];
  size_t n;
  bool asked; /* a question mark ends the text */
  bool full;  /* something did not fit: there is no canonical wording */
} aii_toks;

/* Cuts a text at white space; outer punctuation goes, what stands inside a word stays. Contractions are undone. */
void aii_toks_cut(const char *text, size_t n, aii_toks *out);
/* `list` is " one two three ": words between single spaces. */
bool aii_in(const char *list, const char *word);
bool aii_toks_is(const aii_toks *toks, size_t at, const char *word);
bool aii_toks_in(const aii_toks *toks, size_t at, const char *list);
/* How many tokens "how do i" has if they stand at `at`, else 0. */
size_t aii_toks_match(const aii_toks *toks, size_t at, const char *words);
void aii_toks_remove(aii_toks *toks, size_t at, size_t n);
void aii_toks_insert(aii_toks *toks, size_t at, const char *word);
/* Moves n tokens from `from` so that they stand before what is at `to` now. */
void aii_toks_move(aii_toks *toks, size_t from, size_t n, size_t to);

void aii_toks_set(aii_toks *toks, size_t at, const char *word);
/* Puts words in the place of n tokens. */
void aii_toks_replace(aii_toks *toks, size_t at, size_t n, const char *words);

/* ---- the canonical wording (canon.c, frames.c) -------------------------------------------------------------------- */

typedef enum aii_wording_kind {
  AII_WORDING_FACT,     /* a statement: only case, punctuation, contractions, function words */
  AII_WORDING_QUESTION, /* what one asks: politeness and the form of the question too */
  AII_WORDING_WIDE      /* a question, with words of like sense taken for each other: it may err; begins with "~ " */
} aii_wording_kind;

/* Appends the canonical wording. false: there is none, since the text has several lines, more than AII_WORDING_BYTES
 * or AII_TOK_MAX words, code, or no words; then only the text itself may be compared. */
bool aii_wording(const char *text, size_t n, aii_wording_kind kind, aii_buf *out);
/* Whether the answer to this canonical wording depends on when it is asked: today, now, latest, last week... */
bool aii_wording_is_timely(const char *canonical);

/* frames.c: politeness, requests and embedded questions, "how do I" in its many forms. */
void aii_frames_strip(aii_toks *toks);

/* "what the capital of X is" to "what is the capital of X": at the front, behind a question word. */
void aii_frames_undo(aii_toks *toks);
/* "between X and Y" has no direction. (canon.c) */
void aii_toks_order_between(aii_toks *toks);

/* gist.c: what is asked, whatever form and words it has. For questions, last. */
void aii_gist(aii_toks *toks, bool wide);
/* Whether a question is about words themselves, or asks for what a term of one to three words means: then no word
 * stands for another. */
bool aii_gist_is_of_words(const aii_toks *toks);
/* "news", "goods", "customs": what only looks like a plural, or means something else without its s. */
bool aii_is_no_plural(const char *word);
/* "running" to "run", "making" to "make"; "run" and "make" stay. (gist.c) */
void aii_word_base(char *word);
/* forms.c: the forms of a question that is longer than its frame. */
void aii_forms_take(aii_toks *toks);
/* gist.c, first: "Python: how do I sort" to "how do I sort in Python". */
void aii_gist_lead(aii_toks *toks);

/* lexicon.c: the word or words that stand for others; NULL: they stand for themselves. doing: it is
 * done; things: it is a thing or what one is like; both only where the caller wants it wide. */
const char *aii_lexicon_word(const char *word, bool doing, bool things);
const char *aii_lexicon_phrase(const aii_toks *toks, size_t at, bool wide, size_t *n);
bool aii_lexicon_is_tech(const char *word);
const char *aii_lexicon_doing(const char *doer);
const char *aii_lexicon_measure(const char *adjective);

extern const char aii_list_preposition[], aii_list_aux[], aii_list_wh[], aii_list_asks[];

/* ---- gates (gate.c) ------------------------------------------------------------------------------------------------ */

typedef enum aii_gate {
  AII_GATE_NONE,     /* they say the same */
  AII_GATE_NEGATION, /* one has a negation or an opposite that the other lacks */
  AII_GATE_NUMBER,
  AII_GATE_TIME,
  AII_GATE_ENTITY, /* a name */
  AII_GATE_ORDER,  /* the same words in another order */
  AII_GATE_WORDS,  /* other words */
  AII_GATES
} aii_gate;

const char *aii_gate_name(aii_gate gate);
/* The first gate that two canonical wordings do not pass. text: what the first was made from, for its capitals. */
aii_gate aii_gate_between(const char *a, const char *b, const char *text);

#endif
