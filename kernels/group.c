/* kernels/group.c - rows of keys and values, to the groups in which the cache holds them, and back.
 *
 * The scales of Q8_0 come first, those of each block of all positions. Then keys have one element (Q8_0: four) of each
 * position side by side; values have whole rows, or two rows of Q8_0, element by element.
 */
#include <string.h>

#include "kernels/kernels.h"

/* Where byte 0 of element `first` of a row is, as `quant` writes rows. */
static size_t row_at(aii_fmt fmt, size_t first)
{
  return fmt == AII_FMT_Q8_0 ? first / AII_QBLOCK * AII_Q8_0_BYTES + 2 + first % AII_QBLOCK
                             : first * aii_fmt_info(fmt)->block_bytes;
}

typedef void (*move_fn)(unsigned char *row, unsigned char *group, size_t bytes);

/* The sizes of most pieces are constants. */
static inline void copy(unsigned char *to, const unsigned char *from, size_t bytes)
{
  if (bytes == 1) *to = *from;
  else if (bytes == 2) memcpy(to, from, 2);
  else if (bytes == 4) memcpy(to, from, 4);
  else memcpy(to, from, bytes);
}

static inline void to_group(unsigned char *row, unsigned char *group, size_t bytes)
{
  copy(group, row, bytes);
}

static inline void to_row(unsigned char *row, unsigned char *group, size_t bytes)
{
  copy(row, group, bytes);
}

static inline void move(aii_attn_part part, aii_fmt fmt, uint32_t dim, unsigned char *row, unsigned char *group,
                        uint32_t n, uint32_t at, move_fn fn)
{
  const bool keys = part == AII_ATTN_KEYS, scaled = fmt == AII_FMT_Q8_0;
  const size_t size = scaled ? 1 : aii_fmt_info(fmt)->block_bytes, run = scaled ? (keys ? 4 : 1) : keys ? 1 : dim;
  const size_t pair = scaled && !keys && n > 1 ? 2 : 1; /* positions side by side in values */
  if (scaled) {
    for (size_t b = 0; b < dim / AII_QBLOCK; b++) fn(row + b * AII_Q8_0_BYTES, group + 2 * (b * n + at), 2);
    group += 2 * (size_t)n * (dim / AII_QBLOCK);
  }
  for (size_t d = 0; d < dim; d += run) {
    size_t to = keys ? d * n + at * run : (at / pair * dim + d) * pair + at % pair;
    fn(row + row_at(fmt, d), group + to * size, run * size);
  }
}

void aii_attn_put(aii_attn_part part, aii_fmt fmt, uint32_t dim, const void *row, void *group, uint32_t n, uint32_t at)
{
  move(part, fmt, dim, (unsigned char *)(uintptr_t)row, group, n, at, to_group);
}

void aii_attn_get(aii_attn_part part, aii_fmt fmt, uint32_t dim, const void *group, uint32_t n, uint32_t at, void *row)
{
  move(part, fmt, dim, row, (unsigned char *)(uintptr_t)group, n, at, to_row);
}
