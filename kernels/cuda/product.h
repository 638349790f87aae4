/* kernels/cuda/product.h - what the kernels of products share: matrices, their blocks' numbers, results, long launches.
 *
 * A kernel for few rows streams weights once; one for many rows computes on tiles in shared memory. A sum has an order:
 * over runs of 64 elements for floats, over blocks of 32 for quantised weights (kernels.h). So no result depends on which
 * kernel, how many rows, or where in the grid.
 */
#ifndef AII_KERNELS_CUDA_PRODUCT_H
#define AII_KERNELS_CUDA_PRODUCT_H

#include "kernels/cuda/device.h"

namespace aii
{

/* ---- a matrix, and where results go ---- */

struct matrix {
  const unsigned char *w;
  const float *bias;
};

__device__ inline matrix matrix_at(const aii_cuda_product &p, uint32_t number)
{
  matrix m = {(const unsigned char *)p.w + number * p.mat_bytes,
              p.bias != NULL ? p.bias + (size_t)number * p.n_out : NULL};
  return m;
}

/* Of column i. */
__device__ inline uint32_t matrix_number(const aii_cuda_product &p, uint32_t i)
{
  uint32_t number = p.ids != NULL ? (uint32_t)p.ids[i] : p.n_mats > 1 ? i % p.n_mats : 0;
  return number < p.n_mats ? number : 0;
}

__device__ inline matrix matrix_of(const aii_cuda_product &p, uint32_t i)
{
  return matrix_at(p, matrix_number(p, i));
}

__device__ inline void put(const aii_cuda_product &p, const matrix &m, uint32_t row, uint32_t col, float v)
{
  if (row >= p.n_out || col >= p.n) return;
  float *y = p.y + (size_t)col * p.n_out + row;
  if (m.bias != NULL) v += m.bias[row];
  *y = p.accumulate ? *y + v : v;
}

__device__ inline float biased(const matrix &m, uint32_t row, uint32_t n_rows, float v)
{
  return m.bias != NULL && row < n_rows ? v + m.bias[row] : v;
}

/* A matrix for each row of activations, or several for one. */
__host__ __device__ static inline bool takes_turns(const aii_cuda_product &p)
{
  return p.ids != NULL || p.n_mats > 1 || p.repeat > 1;
}

/* ---- the columns of a tile: all of one matrix ---- */

/* A tile of columns that are sorted by their matrix, in `groups` behind the columns' numbers. */
struct group_tile {
  uint32_t first, end, matrix;
};

struct columns {
  const uint32_t *order; /* the columns' numbers; NULL: they are where they are */
  uint32_t first, n, matrix;
};

/* Of the block's tile of at most `most` columns; none where there are more tiles than needed. */
__device__ inline columns columns_of(const aii_cuda_product &p, uint32_t most)
{
  if (p.groups == NULL) return {NULL, blockIdx.y * most, min(most, p.n - blockIdx.y * most), 0};
  const group_tile t = ((const group_tile *)(p.groups + p.n))[blockIdx.y];
  return {p.groups, t.first, t.end - t.first, t.matrix};
}

/* The number of the tile's column i, or of its last one. */
__device__ inline uint32_t column_at(const columns &c, uint32_t i)
{
  const uint32_t at = c.first + min(i, c.n - 1);
  return c.order != NULL ? c.order[at] : at;
}

/* ---- elements of float weights ---- */

template <aii_fmt F> struct float_bytes {
  static const uint32_t each = F == AII_FMT_F32 ? 4 : 2;
};

template <aii_fmt F> __device__ inline float float_of(uint32_t bits)
{
  if (F == AII_FMT_F32) return float_of_bits(bits);
  return F == AII_FMT_F16 ? float_of_half((uint16_t)bits) : float_of_bf16((uint16_t)bits);
}

/* N adjacent words, as wide as they can be read; at a multiple of as many bytes, or of 16. */
template <int N> __device__ inline void load_words(const void *p, uint32_t *out)
{
  if constexpr (N == 2) {
    uint2 v = *(const uint2 *)p;
    out[0] = v.x, out[1] = v.y;
  } else {
    for (int i = 0; i < N / 4; i++) {
      uint4 v = ((const uint4 *)p)[i];
      out[4 * i] = v.x, out[4 * i + 1] = v.y, out[4 * i + 2] = v.z, out[4 * i + 3] = v.w;
    }
  }
}

/* Element i of those in words. */
template <aii_fmt F> __device__ inline float float_in(const uint32_t *words, int i)
{
  return float_of<F>(F == AII_FMT_F32 ? words[i] : words[i / 2] >> (16 * (i % 2)) & 0xffffu);
}

/* N adjacent elements, N 4 or 8. */
template <aii_fmt F, int N> __device__ inline void load_floats(const unsigned char *p, float *out)
{
  const int n_words = F == AII_FMT_F32 ? N : N / 2;
  uint32_t words[n_words];
  load_words<n_words>(p, words);
  for (int i = 0; i < N; i++) out[i] = float_in<F>(words, i);
}

/* ---- codes of quantised weights ---- */

__device__ inline uint32_t table_word(int a, int b, int c, int d)
{
  return (uint32_t)(a & 255) | (uint32_t)(b & 255) << 8 | (uint32_t)(c & 255) << 16 | (uint32_t)(d & 255) << 24;
}

struct levels_table {
  uint32_t words[4];
};

__device__ inline levels_table iq4_table()
{
  return {{table_word(-127, -104, -83, -65), table_word(-49, -35, -22, -10), table_word(1, 13, 25, 38),
           table_word(53, 69, 89, 113)}};
}

__device__ inline levels_table fp4_table()
{
  return {{table_word(0, 1, 2, 3), table_word(4, 6, 8, 12), table_word(0, -1, -2, -3), table_word(-4, -6, -8, -12)}};
}

/* Each byte of code, 0..15, to a byte of a table of 16: two selections of 8, of which bit 3 takes one. */
__device__ inline uint32_t look_up(const uint32_t table[4], uint32_t code)
{
  uint32_t s = code & 0x07070707u;
  s |= s >> 4;
  s = (s & 0xffu) | (s >> 8 & 0xff00u);
  uint32_t low = __byte_perm(table[0], table[1], s), high = __byte_perm(table[2], table[3], s);
  uint32_t takes_high = (code >> 3 & 0x01010101u) * 255u;
  return (low & ~takes_high) | (high & takes_high);
}

/* Elements 4 g .. 4 g + 3 of a row, as four int8: from its word of vector g % 4 (g, of 8 bits) and what holds its other bits. */
template <aii_fmt F> __device__ inline uint32_t levels(uint32_t word, uint32_t others, uint32_t g)
{
  const uint32_t bits = aii_panel_bits(F);
  if (bits == 8) return word ^ 0x80808080u;
  uint32_t code = word >> (4 * (g / 4)) & 0x0f0f0f0fu;
  if (bits == 5) code |= (others >> g & 0x01010101u) << 4;
  if (bits == 6) code |= (others >> (2 * (g % 4)) & 0x03030303u) << 4;
  if (F == AII_FMT_IQ4_NL) return look_up(iq4_table().words, code);
  if (F == AII_FMT_MXFP4) return look_up(fp4_table().words, code);
  return aii_panel_zero(F) != 0 ? __vsub4(code, 0x01010101u * (uint32_t)aii_panel_zero(F)) : code;
}

/* Which word of a block's codes has row's other bits; any, where there are none. */
template <aii_fmt F> __device__ inline uint32_t others_at(uint32_t row, uint32_t g)
{
  return aii_panel_bits(F) == 6 ? 64 + 16 * (g / 4) + row : aii_panel_bits(F) == 5 ? 64 + row : row;
}

/* ---- launches that are longer than a grid ---- */

static const uint32_t MAX_GRID = 65535; /* of blocks in y */

/* Columns `first` on, at most as many as a grid has. */
static inline aii_cuda_product part_of(const aii_cuda_product &p, size_t first, size_t most)
{
  aii_cuda_product part = p;
  size_t n_blocks = p.n_in / AII_QBLOCK, col = first / p.repeat;
  part.n = (uint32_t)(p.n - first < most ? p.n - first : most);
  part.y += first * p.n_out;
  if (p.ids != NULL) part.ids += first;
  if (p.x != NULL) part.x += col * p.n_in;
  if (p.x_bf16 != NULL) part.x_bf16 = (const char *)p.x_bf16 + first / 8 * aii_cuda_rounded_bytes(8, p.n_in);
  if (p.x_q8.q != NULL) {
    part.x_q8.q += col * p.n_in;
    part.x_q8.d += col * n_blocks;
    part.x_q8.s += col * n_blocks;
  }
  return part;
}

/* Such a part for tiles of `each` columns; sorted ones are fewer, and stay together. */
static inline size_t most_columns(const aii_cuda_product &p, uint32_t each)
{
  return p.groups != NULL ? p.n : (size_t)MAX_GRID * each;
}

/* Whether tiles of so many panels and columns are enough to keep the device busy, and sorted columns fill them. */
static inline bool fills_tiles(const aii_cuda_product &p, uint32_t panels, uint32_t cols)
{
  const uint32_t each = p.groups != NULL ? p.n / p.n_mats : p.n; /* columns of a matrix */
  const size_t tiles = (size_t)blocks_for(p.n_out, AII_PANEL * panels) * blocks_for(each, cols) * (p.n / each);
  return tiles * 4 >= p.n_sms * 3 && (each == p.n || each >= cols);
}

static inline size_t panel_bytes_of(const aii_cuda_product &p)
{
  return p.mat_bytes / blocks_for(p.n_out, AII_PANEL);
}

/* ---- kernels of other files ---- */

/* Cuts columns into tiles of at most `most`, behind sorting them by their matrix where there are `groups`; returns how many
 * tiles these can be. (groups.cu) */
uint32_t tile_columns(aii_cuda_stream stream, const aii_cuda_product &p, uint32_t most);
/* Many rows of one matrix, or of sorted ones; false, when this product is none of theirs. */
bool multiply_many(aii_cuda_stream stream, const aii_cuda_product &p);
bool multiply_floats(aii_cuda_stream stream, const aii_cuda_product &p);
/* Products of rounded activations, all with the same rows; two of them, gated: false, when rows are too many. */
void multiply_bf16(aii_cuda_stream stream, const aii_cuda_norm &norm, const aii_cuda_product *p, uint32_t n);
bool multiply_gated_bf16(aii_cuda_stream stream, const aii_cuda_norm &norm, int act, const aii_cuda_product &gate,
                         const aii_cuda_product &up);

} // namespace aii

#endif
