/* pretok_impl.h - classified characters and the matchers over them, shared by the files of the pre-tokenizers.
 *
 * A matcher looks at c[i..n) and returns the end of its match, or i for none. It stands for one of the regular
 * expressions that the models were trained with, written out by hand so that a run of any length costs O(n).
 */
#ifndef AII_TEXT_PRETOK_IMPL_H
#define AII_TEXT_PRETOK_IMPL_H

#include "src/text/vocab_impl.h"

enum {                /* what a character is */
       PC_L = 1,      /* letter */
       PC_N = 2,      /* number */
       PC_M = 4,      /* mark */
       PC_P = 8,      /* punctuation */
       PC_S = 16,     /* symbol */
       PC_SPACE = 32, /* white space */
       PC_UP = 64,    /* Lu, Lt, Lm, Lo, M */
       PC_LOW = 128   /* Ll, Lm, Lo, M */
};

typedef struct aii_pchar {
  uint32_t cp;
  uint32_t at; /* byte offset */
  uint8_t cls;
} aii_pchar;

typedef size_t (*aii_pmatch)(const aii_pchar *c, size_t i, size_t n);

uint8_t aii_char_class(uint32_t cp);

size_t aii_pm_gpt2(const aii_pchar *c, size_t i, size_t n);
size_t aii_pm_llama3(const aii_pchar *c, size_t i, size_t n);
size_t aii_pm_qwen2(const aii_pchar *c, size_t i, size_t n);
size_t aii_pm_qwen35(const aii_pchar *c, size_t i, size_t n);
size_t aii_pm_tekken(const aii_pchar *c, size_t i, size_t n);
size_t aii_pm_o200k(const aii_pchar *c, size_t i, size_t n);
size_t aii_pm_digit(const aii_pchar *c, size_t i, size_t n);         /* \p{N} */
size_t aii_pm_digits(const aii_pchar *c, size_t i, size_t n);        /* \p{N}+ */
size_t aii_pm_digits3(const aii_pchar *c, size_t i, size_t n);       /* \p{N}{1,3} */
size_t aii_pm_ascii3(const aii_pchar *c, size_t i, size_t n);        /* [0-9][0-9][0-9] */
size_t aii_pm_punct(const aii_pchar *c, size_t i, size_t n);         /* [\p{P}\$\+<=>\^~\|]+ */
size_t aii_pm_punct_tick(const aii_pchar *c, size_t i, size_t n);    /* the same with ` */
size_t aii_pm_newline(const aii_pchar *c, size_t i, size_t n);       /* [\r\n] */
size_t aii_pm_space_letters(const aii_pchar *c, size_t i, size_t n); /* \s?\p{L}+ */
size_t aii_pm_space_punct(const aii_pchar *c, size_t i, size_t n);   /* \s?\p{P}+ */
size_t aii_pm_ds_letters(const aii_pchar *c, size_t i, size_t n);    /* deepseek-llm: \s?[cased letters]+ */
size_t aii_pm_ds_punct(const aii_pchar *c, size_t i, size_t n);
size_t aii_pm_ds_cjk(const aii_pchar *c, size_t i, size_t n);
size_t aii_pm_ds3_cjk(const aii_pchar *c, size_t i, size_t n);
size_t aii_pm_ds3(const aii_pchar *c, size_t i, size_t n);
size_t aii_pm_bloom(const aii_pchar *c, size_t i, size_t n);
size_t aii_pm_trailing_space(const aii_pchar *c, size_t i, size_t n); /* \s+$; the driver knows it */

#endif
