/* pretok_impl.h - expressions as data: the alternatives of the pre-tokenizers that models were trained with.
 *
 * An expression is a list of alternatives, tried in order at one place as a backtracking regular expression would.
 * Nearly all are one form: an optional character in front, a run of a class, an optional tail. The few others have an
 * operation of their own. What a run costs to look at is remembered, so that a run of any length costs O(n) in all.
 */
#ifndef AII_TEXT_PRETOK_IMPL_H
#define AII_TEXT_PRETOK_IMPL_H

#include "src/text/pipe_impl.h"

enum {                  /* what a character is */
       PC_L = 1,        /* letter */
       PC_N = 2,        /* number */
       PC_M = 4,        /* mark */
       PC_P = 8,        /* punctuation */
       PC_S = 16,       /* symbol */
       PC_SPACE = 32,   /* white space */
       PC_UP = 64,      /* Lu, Lt, Lm, Lo, M */
       PC_LOW = 128,    /* Ll, Lm, Lo, M */
       PC_HAN = 256,    /* script Han */
       PC_WORD = 512,   /* \w */
       PC_ALPHA = 1024, /* A-Z a-z */
       PC_ND = 2048,    /* decimal digit */
       PC_09 = 4096,    /* 0-9 */
       PC_NL = 8192,    /* \r \n */
       PC_ASCII_P = 16384
};

typedef struct aii_pchar {
  uint32_t cp;
  uint32_t at; /* byte offset */
  uint16_t cls;
} aii_pchar;

uint16_t aii_char_class(uint32_t cp);
extern const uint16_t aii_ascii_class[128];

typedef enum aii_range_set {
  AII_SET_NONE,
  AII_SET_CASED, /* deepseek-llm's letters */
  AII_SET_DS_PUNCT,
  AII_SET_DS_CJK,
  AII_SET_DS3_CJK,
  AII_SET_BLOOM,
  AII_SET_HANGUL,
  AII_SET_YOUTU_PUNCT,
  AII_SET_BOPOMOFO,
  AII_SET_AFMOE
} aii_range_set;
bool aii_in_set(uint32_t cp, aii_range_set set);

typedef enum aii_alt_op {
  AII_ALT_END, /* no more alternatives */
  AII_ALT_RUN,
  AII_ALT_CONTRACTION, /* 's 't 're 've 'm 'll 'd */
  AII_ALT_CASED,       /* [U]*[D]+ | [U]+[D]*, each with a contraction behind it */
  AII_ALT_NEWLINES,    /* \s*[\r\n]+ */
  AII_ALT_BEFORE,      /* \s+(?!\S) */
  AII_ALT_TO_END,      /* \s+$ */
  AII_ALT_POWERS,      /* \s{512}(?!\S) | \s{256}(?!\S) | ... | \s{1} */
  AII_ALT_GROUPS,      /* digits in threes, from the right */
  AII_ALT_GROUPS_WORD, /* \d{1,3}(?=(?:\d{3})*\b) */
  AII_ALT_PHRASE,      /* (?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+ */
  AII_ALT_MARKED,      /* [ASCII punctuation][A-Za-z]+ */
  AII_ALT_SENTINEL,    /* <sentinel:[0-9]+> */
  AII_ALT_IMAGE,       /* IMGIMG[A-I]{1,4}Z */
  AII_ALT_TEXT         /* extra, as it is */
} aii_alt_op;

typedef enum aii_lead { AII_LEAD_NONE, AII_LEAD_SPACE, AII_LEAD_WHITE, AII_LEAD_OTHER } aii_lead;

/* A member of the run has a class of cls, stands in extra or in set; with `negate`: none of these. */
typedef struct aii_alt {
  aii_alt_op op;
  aii_lead lead;
  uint16_t not_lead; /* AII_LEAD_OTHER: classes that may not stand in front */
  uint16_t cls;
  uint8_t set;
  bool negate, any_case, contraction;
  uint16_t up, low, without; /* AII_ALT_CASED */
  uint32_t least, most;      /* of the run; most 0: no bound */
  const char *extra, *tail;  /* ASCII */
  bool one_tail;
} aii_alt;

enum { AII_MAX_ALTS = 10 };
struct aii_expr {
  const char *name;
  aii_alt alts[AII_MAX_ALTS + 1];
};

/* Runs already looked at, in one piece. */
typedef struct aii_run_memo {
  size_t space_from, space_end, last_newline; /* last_newline: its index + 1, 0: none in the run */
  size_t digit_from, digit_end;
} aii_run_memo;

/* The end of the match at c[i..n); i: none. */
size_t aii_expr_match(const aii_expr *expr, aii_run_memo *memo, const aii_pchar *c, size_t i, size_t n);

#endif
