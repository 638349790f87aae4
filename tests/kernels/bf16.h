/* bf16.h - the part of test_kernels that is about BF16 of all sizes, and what tests must know of its pairs, which are no
 * format of files. */
#ifndef AII_TESTS_BF16_H
#define AII_TESTS_BF16_H

#include <string.h>

#include "kernels/kernels.h"

/* The format that rows have in files, and its name. */
static inline aii_fmt stored_as(aii_fmt fmt)
{
  return fmt == AII_FMT_BF16_PAIRS ? AII_FMT_BF16 : fmt;
}

static inline const char *name_of(aii_fmt fmt)
{
  return fmt == AII_FMT_BF16_PAIRS ? "BF16 pairs" : aii_fmt_info(fmt)->name;
}

static inline bool multiplies(const aii_kernels *k, aii_fmt fmt)
{
  return fmt != AII_FMT_BF16_PAIRS || aii_kernels_pair_bf16(k);
}

/* A row of activations, as products take it. */
static inline size_t column_bytes(aii_fmt fmt, size_t n)
{
  if (fmt == AII_FMT_BF16_PAIRS) return aii_bf16_row_bytes(n);
  return aii_fmt_takes_q8(fmt) ? aii_q8_row_bytes(n) : n * 4;
}

static inline void make_column(const aii_kernels *k, aii_fmt fmt, const float *x, size_t n, void *to)
{
  if (fmt == AII_FMT_BF16_PAIRS) k->quant[AII_FMT_BF16](x, n, to);
  else if (aii_fmt_takes_q8(fmt)) k->quant_q8(x, n, to);
  else memcpy(to, x, n * 4);
}

/* Tests of cmocka. */
void test_pairs_of_all_sizes(void **state);
void test_bf16_of_any_float(void **state);

#endif
