/* kernels/panel.h - how 16 rows of weights lie in a panel.
 *
 * Floats: element k of all 16 rows, then element k + 1: [n][16] of F32, F16 or BF16.
 *
 * BF16_PAIRS: elements 2k and 2k + 1 of a row side by side, for all 16 rows: [(n + 1) / 2][16][2]. An odd n has a zero more.
 *
 * Quantised formats: blocks of 32 elements. A block holds the codes of the 16 rows, unsigned (those of Q8_0 count 128
 * more than they mean), in groups of four elements; byte 4 * row + i of a group's 64 bytes is element 4 * group + i of the row:
 *
 *   codes   Q8_0: 8 groups of 64 bytes. The others: 4 vectors of 64 bytes with the low four bits of groups g and g + 4
 *   fifth   Q5_0, Q5_1, Q5_K: 64 bytes, bit g is the fifth of group g.   Q6_K: 2 x 64 bytes, two bits a group
 *   scales  F16 d[16], then F16 m[16] of Q4_1, Q5_1; E8M0 [16] of MXFP4; scale[16], min[16] of Q4_K, Q5_K (as bytes);
 *           int8 scale[2][16] of Q6_K
 *
 * The K formats have a head before every 8 blocks: F16 d[16], and F16 dmin[16] of Q4_K and Q5_K.
 */
#ifndef AII_KERNELS_PANEL_H
#define AII_KERNELS_PANEL_H

#include "kernels/kernels.h"

#define AII_RUN 64 /* elements of a float sum's run */

/* C, and C++ for kernels/cuda. */
#if defined(__CUDACC__)
#define AII_PANEL_FN static constexpr inline __host__ __device__
#define AII_PANEL_PLACE static inline __host__ __device__
#elif defined(__cplusplus)
#define AII_PANEL_FN static constexpr inline
#define AII_PANEL_PLACE static inline
#else
#define AII_PANEL_FN static inline
#define AII_PANEL_PLACE static inline
#endif

AII_PANEL_FN bool aii_panel_is_k(aii_fmt f)
{
  return f == AII_FMT_Q4_K || f == AII_FMT_Q5_K || f == AII_FMT_Q6_K;
}

AII_PANEL_FN bool aii_panel_has_min(aii_fmt f)
{
  return f == AII_FMT_Q4_1 || f == AII_FMT_Q5_1 || f == AII_FMT_Q4_K || f == AII_FMT_Q5_K;
}

/* Bits of a code. */
AII_PANEL_FN uint32_t aii_panel_bits(aii_fmt f)
{
  if (f == AII_FMT_Q8_0) return 8;
  if (f == AII_FMT_Q5_0 || f == AII_FMT_Q5_1 || f == AII_FMT_Q5_K) return 5;
  return f == AII_FMT_Q6_K ? 6 : 4;
}

/* What is subtracted from a code: nothing, or a power of two. MXFP4's codes mean doubled levels plus 16. */
AII_PANEL_FN int aii_panel_zero(aii_fmt f)
{
  if (f == AII_FMT_Q4_0) return 8;
  if (f == AII_FMT_Q5_0) return 16;
  if (f == AII_FMT_Q6_K) return 32;
  return f == AII_FMT_MXFP4 ? 16 : 0;
}

AII_PANEL_FN size_t aii_panel_codes(aii_fmt f)
{
  return 64 * (size_t)aii_panel_bits(f);
}

AII_PANEL_FN size_t aii_panel_head(aii_fmt f)
{
  return !aii_panel_is_k(f) ? 0 : f == AII_FMT_Q6_K ? 32 : 64;
}

AII_PANEL_FN size_t aii_panel_block(aii_fmt f)
{
  size_t scales = f == AII_FMT_MXFP4 ? 16 : f == AII_FMT_Q4_1 || f == AII_FMT_Q5_1 ? 64 : 32;
  return aii_panel_codes(f) + scales;
}

/* Block b of a panel, and the head that it belongs to. */
AII_PANEL_PLACE const unsigned char *aii_panel_unit(aii_fmt f, const void *panel, size_t b)
{
  size_t n = aii_panel_is_k(f) ? 8 : 1;
  return (const unsigned char *)panel + b / n * (aii_panel_head(f) + n * aii_panel_block(f));
}

AII_PANEL_PLACE const unsigned char *aii_panel_at(aii_fmt f, const void *panel, size_t b)
{
  size_t at = aii_panel_is_k(f) ? b % 8 * aii_panel_block(f) : 0;
  return aii_panel_unit(f, panel, b) + aii_panel_head(f) + at;
}

#endif
