/* kernels/pack.c - rows as they are in files, to panels: integers change their places, nothing is computed. */
#include <string.h>

#include "kernels/panel.h"

size_t aii_panel_bytes(aii_fmt f, size_t n)
{
  if ((unsigned)f >= AII_FMT_PACKED) return 0;
  if (!aii_fmt_takes_q8(f)) return AII_PANEL * n * aii_fmt_info(f)->block_bytes;
  size_t blocks = n / AII_QBLOCK;
  return blocks * aii_panel_block(f) + (aii_panel_is_k(f) ? blocks / 8 * aii_panel_head(f) : 0);
}

/* ---- one block of one row: its 32 codes, and where it belongs in the block of its panel ---- */

static void nibbles(const unsigned char *q, uint8_t code[32])
{
  for (int i = 0; i < 16; i++) {
    code[i] = q[i] & 15;
    code[i + 16] = q[i] >> 4;
  }
}

static void fifth_bits(const unsigned char *high, uint8_t code[32])
{
  for (int i = 0; i < 32; i++) code[i] |= (uint8_t)((high[i / 8] >> i % 8 & 1) << 4);
}

/* Sub-block s of a K block: its nibbles are the low or the high ones of 32 bytes. */
static void k_nibbles(const unsigned char *q, uint32_t s, uint8_t code[32])
{
  for (int i = 0; i < 32; i++) code[i] = q[32 * (s / 2) + (uint32_t)i] >> 4 * (s % 2) & 15;
}

/* Six-bit scale and minimum of sub-block s, from 12 bytes. */
static void k_scale(const unsigned char *q, uint32_t s, uint8_t *scale, uint8_t *min)
{
  *scale = s < 4 ? q[s] & 63 : (uint8_t)((q[s + 4] & 15) | q[s - 4] >> 6 << 4);
  *min = s < 4 ? q[s + 4] & 63 : (uint8_t)(q[s + 4] >> 4 | q[s] >> 6 << 4);
}

static void k6_codes(const unsigned char *block, uint32_t s, uint8_t code[32])
{
  const unsigned char *low = block + 64 * (s / 4) + 32 * (s % 2), *high = block + 128 + 32 * (s / 4);
  uint32_t nibble = 4 * (s % 4 / 2), pair = 2 * (s % 4);
  for (int i = 0; i < 32; i++) code[i] = (uint8_t)((low[i] >> nibble & 15) | (high[i] >> pair & 3) << 4);
}

/* Reads sub-block s of a block: the codes, and what stands with them for `row` to `scales`; to `head` when s is 0. */
static void read_block(aii_fmt f, const unsigned char *p, uint32_t s, uint32_t row, uint8_t code[32],
                       unsigned char *scales, unsigned char *head)
{
  switch (f) {
    case AII_FMT_Q8_0: memcpy(code, p + 2, 32); break;
    case AII_FMT_Q4_0:
    case AII_FMT_IQ4_NL: nibbles(p + 2, code); break;
    case AII_FMT_Q4_1: nibbles(p + 4, code); break;
    case AII_FMT_Q5_0:
      nibbles(p + 6, code);
      fifth_bits(p + 2, code);
      break;
    case AII_FMT_Q5_1:
      nibbles(p + 8, code);
      fifth_bits(p + 4, code);
      break;
    case AII_FMT_MXFP4:
      nibbles(p + 1, code);
      scales[row] = *p;
      return;
    case AII_FMT_Q6_K:
      k6_codes(p, s, code);
      for (uint32_t h = 0; h < 2; h++) scales[16 * h + row] = p[192 + 2 * s + h];
      if (s == 0) memcpy(head + 2 * row, p + 208, 2);
      return;
    default: /* Q4_K, Q5_K */
      k_nibbles(p + (f == AII_FMT_Q5_K ? 48 : 16), s, code);
      for (int i = 0; f == AII_FMT_Q5_K && i < 32; i++) code[i] |= (uint8_t)((p[16 + i] >> s & 1) << 4);
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

/* Four codes at a time: word `row` of each vector. */
static void place_codes(aii_fmt f, const uint8_t code[32], uint32_t row, unsigned char *block)
{
  uint32_t bits = aii_panel_bits(f), word[8], high[2] = {0};
  memcpy(word, code, sizeof word);
  for (uint32_t g = 0; g < 8; g++) {
    if (bits == 8) memcpy(block + 64 * g + 4 * row, &word[g], 4);
    if (bits == 5) high[0] |= (word[g] >> 4 & 0x01010101u) << g;
    if (bits == 6) high[g / 4] |= (word[g] >> 4 & 0x03030303u) << 2 * (g % 4);
  }
  if (bits == 8) return;
  for (uint32_t g = 0; g < 4; g++) {
    uint32_t both = (word[g] & 0x0f0f0f0fu) | (word[g + 4] & 0x0f0f0f0fu) << 4;
    memcpy(block + 64 * g + 4 * row, &both, 4);
  }
  for (uint32_t v = 0; v + 4 < bits; v++) memcpy(block + 256 + 64 * v + 4 * row, &high[v], 4);
}

static void pack_blocks(aii_fmt f, const unsigned char *rows, size_t stride, uint32_t n_rows, size_t n,
                        unsigned char *panel)
{
  const aii_fmt_traits *t = aii_fmt_info(f);
  uint32_t subs = t->block / AII_QBLOCK;
  for (size_t b = 0; b < n / AII_QBLOCK; b++) {
    unsigned char *block = panel + (aii_panel_at(f, panel, b) - panel), *scales = block + aii_panel_codes(f);
    unsigned char *head = panel + (aii_panel_unit(f, panel, b) - panel);
    for (uint32_t row = 0; row < n_rows; row++) {
      uint8_t code[32];
      const unsigned char *p = rows + row * stride + b / subs * t->block_bytes;
      read_block(f, p, (uint32_t)(b % subs), row, code, scales, head);
      place_codes(f, code, row, block);
    }
  }
}

void aii_panel_pack(aii_fmt f, const void *rows, size_t stride, uint32_t n_rows, size_t n, void *panel)
{
  if (n_rows < AII_PANEL) memset(panel, 0, aii_panel_bytes(f, n));
  if (aii_fmt_takes_q8(f)) {
    pack_blocks(f, rows, stride, n_rows, n, panel);
    return;
  }
  size_t size = aii_fmt_info(f)->block_bytes;
  for (uint32_t r = 0; r < n_rows; r++) {
    const unsigned char *from = (const unsigned char *)rows + r * stride;
    unsigned char *to = (unsigned char *)panel + r * size;
    if (size == 2)
      for (size_t k = 0; k < n; k++) memcpy(to + k * 2 * AII_PANEL, from + 2 * k, 2);
    else
      for (size_t k = 0; k < n; k++) memcpy(to + k * 4 * AII_PANEL, from + 4 * k, 4);
  }
}
