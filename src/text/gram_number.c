/* gram_number.c - whole numbers between two bounds, digit by digit.
 *
 * For each length of number the bounds are cut to that length; a state is a position and whether the digits so far
 * still equal the lower bound, the upper, both or none.
 */
#include <stdio.h>

#include "src/text/gram_impl.h"

static uint32_t digit_range(aii_gb *b, char from, char to, uint32_t next)
{
  char pair[3] = {from, to, '\0'};
  return aii_gb_chars(b, pair, next);
}

/* One length: lo and hi are digit strings of n digits, lo <= hi. on_lo, on_hi follow a number that is the bound. */
static uint32_t same_length(aii_gb *b, const char *lo, const char *hi, size_t n, uint32_t inside, uint32_t on_lo,
                            uint32_t on_hi, uint32_t on_both)
{
  uint32_t free_at = inside, low = on_lo, high = on_hi, both = on_both;
  for (size_t i = n; i-- > 0;) {
    uint32_t l = digit_range(b, lo[i], lo[i], low), h = digit_range(b, hi[i], hi[i], high), m;
    if (lo[i] == hi[i]) {
      m = digit_range(b, lo[i], lo[i], both);
    } else {
      m = aii_gb_split(b, l, h);
      if (lo[i] + 1 < hi[i]) m = aii_gb_split(b, m, digit_range(b, (char)(lo[i] + 1), (char)(hi[i] - 1), free_at));
    }
    both = m;
    if (lo[i] < '9') l = aii_gb_split(b, l, digit_range(b, (char)(lo[i] + 1), '9', free_at));
    if (hi[i] > '0') h = aii_gb_split(b, h, digit_range(b, '0', (char)(hi[i] - 1), free_at));
    low = l;
    high = h;
    free_at = digit_range(b, '0', '9', free_at);
  }
  return both;
}

/* 0 <= from <= to. cut: what may follow below `to`, whole: what may follow `to` itself. */
static uint32_t magnitude(aii_gb *b, uint64_t from, uint64_t to, uint32_t cut, uint32_t whole)
{
  uint32_t all = AII_G_NONE;
  uint64_t first = 0, last = 9;
  for (size_t n = 1; n <= 19 && first <= to; n++) {
    if (last >= from) {
      char lo[24], hi[24];
      uint64_t x = AII_MAX(first, from), y = AII_MIN(last, to);
      snprintf(lo, sizeof lo, "%llu", (unsigned long long)x);
      snprintf(hi, sizeof hi, "%llu", (unsigned long long)y);
      uint32_t end = y == to ? whole : cut;
      uint32_t part = same_length(b, lo, hi, n, cut, cut, end, end);
      all = all == AII_G_NONE ? part : aii_gb_split(b, all, part);
    }
    first = last + 1;
    last = last * 10 + 9;
  }
  return all;
}

uint32_t aii_gj_int_range(aii_gb *b, int64_t from, int64_t to, bool fraction, uint32_t next)
{
  const int64_t most = 999999999999999999;
  if (from > to || from < -most || to > most)
    return aii_gb_fail(b, AIINFRA_EINVAL, "an empty or too wide range of numbers");
  uint32_t cut = next, whole = next, all = AII_G_NONE;
  if (fraction) {
    uint32_t more = next, zeros = next;
    for (int i = 0; i < 15; i++) {
      more = aii_gb_split(b, aii_gb_chars(b, "09", more), next);
      zeros = aii_gb_split(b, aii_gb_str(b, "0", zeros), next);
    }
    cut = aii_gb_split(b, aii_gb_str(b, ".", aii_gb_chars(b, "09", more)), next);
    whole = aii_gb_split(b, aii_gb_str(b, ".", aii_gb_str(b, "0", zeros)), next);
  }
  if (to >= 0) all = magnitude(b, (uint64_t)AII_MAX(from, 0), (uint64_t)to, cut, whole);
  if (from < 0) {
    uint32_t part = magnitude(b, to < 0 ? (uint64_t)-to : 0, (uint64_t)-from, cut, whole);
    part = aii_gb_str(b, "-", part);
    all = all == AII_G_NONE ? part : aii_gb_split(b, all, part);
  }
  return all;
}
