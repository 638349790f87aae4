/* gram_utf8.c - sets of code points as byte sequences of UTF-8.
 *
 * A range is cut where the length of a sequence changes and then where its leading bytes change, so that each part is
 * a product of byte ranges: U+0800..U+FFFF becomes E0 A0-BF 80-BF | E1-EF 80-BF 80-BF (surrogates left out).
 */
#include <stdlib.h>

#include "src/text/gram_impl.h"

static int by_first(const void *a, const void *b)
{
  const aii_range *x = a, *y = b;
  return x->first < y->first ? -1 : x->first > y->first;
}

size_t aii_ranges_normalise(aii_range *ranges, size_t n)
{
  size_t out = 0;
  qsort(ranges, n, sizeof *ranges, by_first);
  for (size_t i = 0; i < n; i++) {
    if (out > 0 && ranges[i].first <= ranges[out - 1].last + 1) {
      ranges[out - 1].last = AII_MAX(ranges[out - 1].last, ranges[i].last);
    } else {
      ranges[out++] = ranges[i];
    }
  }
  return out;
}

size_t aii_ranges_invert(const aii_range *ranges, size_t n, aii_range *out)
{
  size_t m = 0;
  uint32_t from = 0;
  for (size_t i = 0; i < n; i++) {
    if (ranges[i].first > from) out[m++] = (aii_range){from, ranges[i].first - 1};
    from = ranges[i].last + 1;
  }
  if (from <= 0x10FFFF) out[m++] = (aii_range){from, 0x10FFFF};
  return m;
}

static uint32_t byte_range(aii_gb *b, uint8_t first, uint8_t last, uint32_t next)
{
  aii_gset set = {{0}};
  for (uint32_t c = first; c <= last; c++) set.bits[c >> 6] |= 1ull << (c & 63);
  return aii_gb_set(b, &set, next);
}

/* One product of byte ranges; lo and hi have the same length and differ freely only behind a common prefix. */
static uint32_t product(aii_gb *b, uint32_t lo, uint32_t hi, uint32_t next)
{
  char x[4], y[4];
  size_t n = aii_utf8_encode(lo, x);
  (void)aii_utf8_encode(hi, y);
  while (n-- > 0) next = byte_range(b, (uint8_t)x[n], (uint8_t)y[n], next);
  return next;
}

/* The end of the largest product that begins at lo and ends at or before hi, both of `len` bytes. */
static uint32_t product_end(uint32_t lo, uint32_t hi, size_t len)
{
  for (size_t free_bytes = len - 1; free_bytes > 0; free_bytes--) {
    uint32_t span = 1u << (6 * free_bytes);
    if (lo % span != 0 || hi - lo < span - 1) continue;
    uint32_t end = hi - (hi + 1) % span; /* the last whole block */
    uint32_t above = span << 6;          /* the byte before must stay the same, unless it leads */
    if (free_bytes < len - 1) end = AII_MIN(end, lo / above * above + above - 1);
    return end;
  }
  return AII_MIN(hi, lo | 63);
}

static uint32_t one_range(aii_gb *b, uint32_t lo, uint32_t hi, uint32_t next, uint32_t other)
{
  static const uint32_t last_of[] = {0x7F, 0x7FF, 0xD7FF, 0xDFFF, 0xFFFF, 0x10FFFF};
  static const size_t len_of[] = {1, 2, 3, 0, 3, 4};
  for (size_t i = 0; i < AII_COUNT(last_of) && lo <= hi; i++) {
    uint32_t end = AII_MIN(hi, last_of[i]);
    while (lo <= end && lo <= last_of[i] && len_of[i] > 1) {
      uint32_t stop = product_end(lo, end, len_of[i]), part = product(b, lo, stop, next);
      other = other == AII_G_NONE ? part : aii_gb_split(b, part, other);
      lo = stop + 1;
    }
    if (lo <= end) lo = end + 1; /* ASCII is a set of its own; surrogates have no form */
  }
  return other;
}

uint32_t aii_gb_ranges(aii_gb *b, aii_range *ranges, size_t n, uint32_t next)
{
  aii_gset ascii = {{0}};
  uint32_t all = AII_G_NONE;
  bool any = false;
  n = aii_ranges_normalise(ranges, n);
  for (size_t i = 0; i < n && b->rc == AIINFRA_OK; i++) {
    for (uint32_t c = ranges[i].first; c <= ranges[i].last && c < 128; c++) {
      ascii.bits[c >> 6] |= 1ull << (c & 63);
      any = true;
    }
    if (ranges[i].last >= 128)
      all = one_range(b, AII_MAX(ranges[i].first, 128), AII_MIN(ranges[i].last, 0x10FFFF), next, all);
  }
  if (any) {
    uint32_t set = aii_gb_set(b, &ascii, next);
    all = all == AII_G_NONE ? set : aii_gb_split(b, set, all);
  }
  if (all == AII_G_NONE) return aii_gb_fail(b, AIINFRA_EINVAL, "a character class without characters");
  return all;
}
