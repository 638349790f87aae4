/* kernels/pack.c - rows as they are in files, to panels: integers change their places, nothing is computed. */
#include <string.h>

#include "kernels/panel.h"

size_t aii_panel_bytes(aii_fmt f, size_t n)
{
  if (f == AII_FMT_BF16_PAIRS) return (n + 1) / 2 * 2 * AII_PANEL * sizeof(uint16_t);
  if ((unsigned)f >= AII_FMT_PACKED) return 0;
  if (!aii_fmt_takes_q8(f)) return AII_PANEL * n * aii_fmt_info(f)->block_bytes;
  size_t blocks = n / AII_QBLOCK;
  return blocks * aii_panel_block(f) + (aii_panel_is_k(f) ? blocks / 8 * aii_panel_head(f) : 0);
}

/* ---- 32 codes of one row, four at a time: word `row` of each vector of their block ---- */

typedef struct codes {
  uint32_t low[8]; /* Q8_0 has eight words, the others four of two nibbles a byte */
  uint32_t high[2];
} codes;

#define BYTES(x) ((x)*0x01010101u) /* the same in each byte */

static void to_words(const unsigned char *p, uint32_t word[8])
{
  memcpy(word, p, 32);
}

/* Blocks of 32 have codes i and i + 16 in a byte, and so do panels: groups g and g + 4. */
static void nibbles(const unsigned char *q, codes *c)
{
  memcpy(c->low, q, 16);
}

/* Bit 4 * g + i becomes bit g of byte i. */
static void fifth_bits(const unsigned char *p, codes *c)
{
  uint32_t bits;
  memcpy(&bits, p, 4);
  c->high[0] = 0;
  for (uint32_t g = 0; g < 8; g++) c->high[0] |= ((bits >> 4 * g & 15) * 0x00204081u & BYTES(1)) << g;
}

/* The nibbles of 32 bytes that begin at bit `shift`. */
static void k_nibbles(const unsigned char *q, uint32_t shift, codes *c)
{
  uint32_t word[8];
  to_words(q, word);
  for (uint32_t g = 0; g < 4; g++) c->low[g] = (word[g] >> shift & BYTES(15)) | (word[g + 4] >> shift & BYTES(15)) << 4;
}

static void k_fifth_bits(const unsigned char *p, uint32_t s, codes *c)
{
  uint32_t word[8];
  to_words(p, word);
  c->high[0] = 0;
  for (uint32_t g = 0; g < 8; g++) c->high[0] |= (word[g] >> s & BYTES(1)) << g;
}

static void k6_codes(const unsigned char *block, uint32_t s, codes *c)
{
  uint32_t word[8], pair = 2 * (s % 4);
  k_nibbles(block + 64 * (s / 4) + 32 * (s % 2), 4 * (s % 4 / 2), c);
  to_words(block + 128 + 32 * (s / 4), word);
  for (uint32_t h = 0; h < 2; h++) {
    c->high[h] = 0;
    for (uint32_t g = 0; g < 4; g++) c->high[h] |= (word[4 * h + g] >> pair & BYTES(3)) << 2 * g;
  }
}

/* Six-bit scale and minimum of sub-block s, from 12 bytes. */
static void k_scale(const unsigned char *q, uint32_t s, uint8_t *scale, uint8_t *min)
{
  *scale = (uint8_t)(s < 4 ? q[s] & 63 : (q[s + 4] & 15) | q[s - 4] >> 6 << 4);
  *min = (uint8_t)(s < 4 ? q[s + 4] & 63 : q[s + 4] >> 4 | q[s] >> 6 << 4);
}

/* Reads sub-block s of a block: the codes, and what stands with them for `row` to `scales`; to `head` when s is 0. */
static void read_block(aii_fmt f, const unsigned char *p, uint32_t s, uint32_t row, codes *c, unsigned char *scales,
                       unsigned char *head)
{
  switch (f) {
    case AII_FMT_Q8_0:
      to_words(p + 2, c->low);
      for (uint32_t g = 0; g < 8; g++) c->low[g] ^= BYTES(0x80);
      break;
    case AII_FMT_Q4_0:
    case AII_FMT_IQ4_NL: nibbles(p + 2, c); break;
    case AII_FMT_Q4_1: nibbles(p + 4, c); break;
    case AII_FMT_Q5_0:
      nibbles(p + 6, c);
      fifth_bits(p + 2, c);
      break;
    case AII_FMT_Q5_1:
      nibbles(p + 8, c);
      fifth_bits(p + 4, c);
      break;
    case AII_FMT_MXFP4:
      nibbles(p + 1, c);
      scales[row] = *p;
      return;
    case AII_FMT_Q6_K:
      k6_codes(p, s, c);
      for (uint32_t h = 0; h < 2; h++) scales[16 * h + row] = p[192 + 2 * s + h];
      if (s == 0) memcpy(head + 2 * row, p + 208, 2);
      return;
    default: /* Q4_K, Q5_K */
      k_nibbles(p + (f == AII_FMT_Q5_K ? 48 : 16) + 32 * (s / 2), 4 * (s % 2), c);
      if (f == AII_FMT_Q5_K) k_fifth_bits(p + 16, s, c);
      k_scale(p + 4, s, &scales[row], &scales[16 + row]);
      if (s == 0) {
        memcpy(head + 2 * row, p, 2);
        memcpy(head + 32 + 2 * row, p + 2, 2);
      }
      return;
  }
  memcpy(scales + 2 * row, p, 2);
  if (aii_panel_has_min(f)) memcpy(scales + 32 + 2 * row, p + 2, 2);
}

/* ---- one block of a panel ---- */

static void place_codes(uint32_t bits, const codes *c, uint32_t row, unsigned char *block)
{
  uint32_t n_low = bits == 8 ? 8 : 4, n_high = bits == 8 ? 0 : bits - 4;
  for (uint32_t v = 0; v < n_low; v++) memcpy(block + 64 * v + 4 * row, &c->low[v], 4);
  for (uint32_t v = 0; v < n_high; v++) memcpy(block + 256 + 64 * v + 4 * row, &c->high[v], 4);
}

static void pack_blocks(aii_fmt f, const unsigned char *rows, size_t stride, uint32_t n_rows, size_t n,
                        unsigned char *panel)
{
  const aii_fmt_traits *t = aii_fmt_info(f);
  uint32_t subs = t->block / AII_QBLOCK, bits = aii_panel_bits(f);
  for (size_t b = 0; b < n / AII_QBLOCK; b++) {
    unsigned char *block = panel + (aii_panel_at(f, panel, b) - panel), *scales = block + aii_panel_codes(f);
    unsigned char *head = panel + (aii_panel_unit(f, panel, b) - panel);
    for (uint32_t row = 0; row < n_rows; row++) {
      codes c;
      const unsigned char *p = rows + row * stride + b / subs * t->block_bytes;
      read_block(f, p, (uint32_t)(b % subs), row, &c, scales, head);
      place_codes(bits, &c, row, block);
    }
  }
}

/* ---- floats: elements k to k + n of all rows, so few that what is written stays in the nearest cache ---- */

enum { SPAN = 256 };

static void place_span(const void *rows, size_t stride, uint32_t n_rows, size_t size, size_t k, size_t n, void *panel)
{
  for (uint32_t r = 0; r < n_rows; r++) {
    const unsigned char *from = (const unsigned char *)rows + r * stride + k * size;
    unsigned char *to = (unsigned char *)panel + (k * AII_PANEL + r) * size;
    if (size == 2)
      for (size_t i = 0; i < n; i++) memcpy(to + i * 2 * AII_PANEL, from + 2 * i, 2);
    else
      for (size_t i = 0; i < n; i++) memcpy(to + i * 4 * AII_PANEL, from + 4 * i, 4);
  }
}

/* Pairs of BF16 move as F32 would. */
static void pack_pairs(const void *rows, size_t stride, uint32_t n_rows, size_t n, void *panel)
{
  const size_t pairs = n / 2, last = pairs * 2 * sizeof(uint16_t);
  for (size_t k = 0; k < pairs; k += SPAN)
    place_span(rows, stride, n_rows, 4, k, pairs - k < SPAN ? pairs - k : SPAN, panel);
  if (n % 2 == 0) return;
  unsigned char *to = (unsigned char *)panel + AII_PANEL * last;
  memset(to, 0, AII_PANEL * 4);
  for (uint32_t r = 0; r < n_rows; r++) memcpy(to + 4 * r, (const unsigned char *)rows + r * stride + last, 2);
}

void aii_panel_pack(aii_fmt f, const void *rows, size_t stride, uint32_t n_rows, size_t n, void *panel)
{
  if (n_rows < AII_PANEL) memset(panel, 0, aii_panel_bytes(f, n));
  if (aii_fmt_takes_q8(f)) {
    pack_blocks(f, rows, stride, n_rows, n, panel);
    return;
  }
  if (f == AII_FMT_BF16_PAIRS) {
    pack_pairs(rows, stride, n_rows, n, panel);
    return;
  }
  size_t size = aii_fmt_info(f)->block_bytes;
  for (size_t k = 0; k < n; k += SPAN) place_span(rows, stride, n_rows, size, k, n - k < SPAN ? n - k : SPAN, panel);
}
