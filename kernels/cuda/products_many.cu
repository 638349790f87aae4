/* products_many.cu - products of quantised weights with many rows of activations: tensor cores make the integers.
 *
 * The integers within a block of 32 are exact in any order, so tensor cores add them; one multiplication and addition a
 * block is left to do in order: sum = fma(integer, d * dx, sum). A block of threads has some panels and columns. Both come
 * to shared memory two blocks of 32 at a time, and some steps ahead. A warp decodes its panels once for all its columns.
 *
 * For each tensor-core instruction a thread does 12 operations in floats (four conversions, products and sums): these, not
 * the tensor cores, bound the large tile, at about 1,300 products a clock and multiprocessor, some 0.6 PFLOPS on an
 * H100. The small tile is for fewer rows, where weights must be fetched as fast as memory gives them: it has more blocks
 * and goes further ahead.
 */
#include "kernels/cuda/async.h"
#include "kernels/cuda/product.h"

using namespace aii;

enum {
  STEP = 2,                        /* blocks of 32 */
  X_WORDS = STEP * AII_QBLOCK / 4, /* of a column */
  X_STRIDE = X_WORDS + 4,          /* against bank conflicts */
};

/* M x N warps, each with PANELS panels and TILES times 8 columns; so many stages of copies. */
template <int M_, int N_, int PANELS_, int TILES_, int STAGES_> struct config {
  static const int M = M_, N = N_, PANELS = PANELS_, TILES = TILES_, STAGES = STAGES_;
  static const int threads = M * N * WARP, panels = M * PANELS, cols = N * TILES * 8;
};
typedef config<4, 2, 2, 8, 2> large;
typedef config<2, 1, 1, 4, 4> small;

template <aii_fmt F, class C> struct stage {
  static const int head = (int)aii_panel_head(F), block = (int)aii_panel_block(F);
  alignas(16) unsigned char w[C::panels][head + STEP * block];
  alignas(16) uint32_t x[C::cols][X_STRIDE];
  alignas(16) float d[STEP][C::cols], s[aii_panel_has_min(F) ? STEP : 1][C::cols];
};

/* ---- tensor cores ---- */

/* d = a b + base over 32 (or 16) int8: the fragments of mma.m16n8k32 (k16) as PTX defines them. Lane: g = lane / 4, t =
 * lane % 4. a[0], a[1]: elements 4 t of rows g, g + 8; a[2], a[3]: elements 16 + 4 t. b: the same of column g. d: columns
 * 2 t and 2 t + 1 of rows g, g + 8. */
__device__ inline void mma_k32(int d[4], const uint32_t a[4], const uint32_t b[2], int base)
{
#ifdef __CUDACC__
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%10,%10,%10};"
      : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(base));
#else
  for (int i = 0; i < 4; i++) d[i] = base;
  cuda_on_cpu::mma_s8(d, a, b, 2);
#endif
}

__device__ inline void mma_k16(int d[4], const uint32_t a[2], uint32_t b, int base)
{
#ifdef __CUDACC__
  asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%7,%7,%7,%7};"
      : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(b), "r"(base));
#else
  for (int i = 0; i < 4; i++) d[i] = base;
  cuda_on_cpu::mma_s8(d, a, &b, 1);
#endif
}

/* Sums begin at the bits of 1.5 * 2^23: then those of the float that is as much more, which costs no conversion. */
static const int FLOAT_BASE = 0x4b400000;
__device__ inline float float_of_sum(int sum)
{
  return float_of_bits((uint32_t)sum) - 12582912.0f;
}

/* ---- a panel's block, decoded for a warp ---- */

struct decoded {
  uint32_t a[4];
  float scales[2][2], mins[2]; /* scales [half][row g or g + 8] */
};

template <aii_fmt F>
__device__ inline float scale_of(const unsigned char *head, const unsigned char *side, uint32_t row, uint32_t half)
{
  if (F == AII_FMT_MXFP4) return e8m0_half(side[row]);
  if (F == AII_FMT_Q6_K) return float_of_half(load_u16(head + 2 * row)) * (float)(int8_t)side[16 * half + row];
  if (aii_panel_is_k(F)) return float_of_half(load_u16(head + 2 * row)) * (float)side[row];
  return float_of_half(load_u16(side + 2 * row));
}

template <aii_fmt F> __device__ inline float min_of(const unsigned char *head, const unsigned char *side, uint32_t row)
{
  if (aii_panel_is_k(F)) return -(float_of_half(load_u16(head + 32 + 2 * row)) * (float)side[16 + row]);
  return float_of_half(load_u16(side + 32 + 2 * row));
}

template <aii_fmt F> __device__ inline void decode(const unsigned char *head, const unsigned char *block, decoded &out)
{
  const uint32_t lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4, *words = (const uint32_t *)block;
  const unsigned char *side = block + aii_panel_codes(F);
  for (uint32_t i = 0; i < 4; i++) {
    const uint32_t row = g + 8 * (i % 2), group = t + 4 * (i / 2), vector = aii_panel_bits(F) == 8 ? group : t;
    out.a[i] = levels<F>(words[16 * vector + row], words[others_at<F>(row, group)], group);
  }
  for (uint32_t i = 0; i < 2; i++) {
    out.scales[0][i] = scale_of<F>(head, side, g + 8 * i, 0);
    if (F == AII_FMT_Q6_K) out.scales[1][i] = scale_of<F>(head, side, g + 8 * i, 1);
    if (aii_panel_has_min(F)) out.mins[i] = min_of<F>(head, side, g + 8 * i);
  }
}

/* Adds a block to the sums of rows g, g + 8 (i / 2) and columns 2 t, 2 t + 1 (i % 2). */
template <aii_fmt F>
__device__ inline void add_block(const decoded &w, const uint32_t x[2], const float d[2], const float s[2],
                                 float sum[4])
{
  int c[4];
  if (F == AII_FMT_Q6_K) {
    int high[4];
    mma_k16(c, w.a, x[0], FLOAT_BASE);
    mma_k16(high, w.a + 2, x[1], FLOAT_BASE);
    for (int i = 0; i < 4; i++) {
      float both = fmaf(float_of_sum(high[i]), w.scales[1][i / 2], float_of_sum(c[i]) * w.scales[0][i / 2]);
      sum[i] = fmaf(both, d[i % 2], sum[i]);
    }
    return;
  }
  mma_k32(c, w.a, x, FLOAT_BASE);
  for (int i = 0; i < 4; i++) sum[i] = fmaf(float_of_sum(c[i]), w.scales[0][i / 2] * d[i % 2], sum[i]);
  if (aii_panel_has_min(F))
    for (int i = 0; i < 4; i++) sum[i] = fmaf(w.mins[i / 2], s[i % 2], sum[i]);
}

/* ---- the tile ---- */

/* Blocks b and b + 1, where they are there, of the tile's panels and columns, whose rows are rows[c]; those beyond the last
 * are the last. */
template <aii_fmt F, class C>
__device__ inline void fetch(const aii_cuda_product &p, const unsigned char *w, size_t panel_bytes,
                             const uint32_t *rows, uint32_t b, stage<F, C> &to)
{
  typedef stage<F, C> S;
  const uint32_t n_blocks = p.n_in / AII_QBLOCK, n = min((uint32_t)STEP, n_blocks - b),
                 n_panels = (p.n_out + AII_PANEL - 1) / AII_PANEL, first_panel = blockIdx.x * C::panels;
  const int heads = S::head / 16, pieces = heads + (int)n * (S::block / 16);
  for (int i = (int)threadIdx.x; i < C::panels * pieces; i += C::threads) {
    const int panel = i / pieces, piece = i % pieces;
    const unsigned char *from = w + min(first_panel + panel, n_panels - 1) * panel_bytes;
    from = piece < heads ? aii_panel_unit(F, from, b) + 16 * piece : aii_panel_at(F, from, b) + 16 * (piece - heads);
    async_copy16(to.w[panel] + 16 * piece, from);
  }
  for (uint32_t i = threadIdx.x; i < C::cols * 2 * n; i += C::threads) {
    const uint32_t c = i / (2 * n), piece = i % (2 * n);
    async_copy16(&to.x[c][4 * piece], p.x_q8.q + (size_t)rows[c] * p.n_in + AII_QBLOCK * b + 16 * piece);
  }
  for (uint32_t i = threadIdx.x; i < C::cols * n; i += C::threads) {
    const uint32_t c = i / n, k = i % n;
    const size_t at = (size_t)rows[c] * n_blocks + b + k;
    async_copy4(&to.d[k][c], p.x_q8.d + at);
    if (aii_panel_has_min(F)) async_copy4(&to.s[k][c], p.x_q8.s + at);
  }
}

/* n blocks of a stage; the warp's columns from col on, of which so many tiles are there. */
template <aii_fmt F, class C>
__device__ inline void compute(const stage<F, C> &from, uint32_t n, uint32_t panel, uint32_t col, uint32_t tiles,
                               float sums[C::PANELS][C::TILES][4])
{
  const uint32_t lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
  for (uint32_t k = 0; k < n; k++) {
    decoded w[C::PANELS];
#pragma unroll
    for (int i = 0; i < C::PANELS; i++) {
      const unsigned char *head = from.w[panel + i];
      decode<F>(head, head + stage<F, C>::head + k * stage<F, C>::block, w[i]);
    }
#pragma unroll
    for (int j = 0; j < C::TILES; j++) {
      if (j >= (int)tiles) break;
      const uint32_t c = col + 8 * j, *words = from.x[c + g] + 8 * k, x[2] = {words[t], words[t + 4]};
      const float2 d = *(const float2 *)&from.d[k][c + 2 * t],
                   s = *(const float2 *)&from.s[aii_panel_has_min(F) ? k : 0][c + 2 * t];
      const float ds[2] = {d.x, d.y}, ss[2] = {s.x, s.y};
#pragma unroll
      for (int i = 0; i < C::PANELS; i++) add_block<F>(w[i], x, ds, ss, sums[i][j]);
    }
  }
}

template <aii_fmt F, class C>
__global__ void __launch_bounds__(C::threads, C::threads > 128 ? 2 : 4) many(aii_cuda_product p, size_t panel_bytes)
{
  begin_kernel();
  __shared__ stage<F, C> stages[C::STAGES];
  __shared__ uint32_t rows[C::cols]; /* of activations, of the tile's columns */
  const columns mine = columns_of(p, C::cols);
  if (mine.n == 0) return;
  const matrix m = matrix_at(p, mine.matrix);
  const uint32_t warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, panel = warp % C::M * C::PANELS,
                 col = warp / C::M * C::TILES * 8, n_blocks = p.n_in / AII_QBLOCK,
                 n_steps = (n_blocks + STEP - 1) / STEP,
                 tiles = col < mine.n ? min((uint32_t)C::TILES, (mine.n - col + 7) / 8) : 0;
  float sums[C::PANELS][C::TILES][4] = {{{0}}};
  for (uint32_t i = threadIdx.x; i < C::cols; i += C::threads) rows[i] = column_at(mine, i) / p.repeat;
  __syncthreads();
  for (uint32_t s = 0; s + 1 < C::STAGES; s++) {
    if (s < n_steps) fetch<F, C>(p, m.w, panel_bytes, rows, s * STEP, stages[s]);
    async_commit();
  }
  for (uint32_t s = 0; s < n_steps; s++) {
    const uint32_t next = s + C::STAGES - 1;
    async_wait<C::STAGES - 2>();
    __syncthreads();
    if (next < n_steps) fetch<F, C>(p, m.w, panel_bytes, rows, next * STEP, stages[next % C::STAGES]);
    async_commit();
    compute<F, C>(stages[s % C::STAGES], min((uint32_t)STEP, n_blocks - s * STEP), panel, col, tiles, sums);
  }
#pragma unroll
  for (int i = 0; i < C::PANELS; i++)
#pragma unroll
    for (int j = 0; j < C::TILES; j++)
#pragma unroll
      for (int k = 0; k < 4; k++) {
        const uint32_t c = col + 8 * j + 2 * (lane % 4) + k % 2;
        if (c < mine.n)
          put(p, m, (blockIdx.x * C::panels + panel + i) * AII_PANEL + lane / 4 + 8 * (k / 2), column_at(mine, c),
              sums[i][j][k]);
      }
}

/* ---- launches ---- */

template <aii_fmt F, class C> static void launch(aii_cuda_stream stream, const aii_cuda_product &whole)
{
  const size_t panel_bytes = panel_bytes_of(whole), most = most_columns(whole, C::cols);
  for (size_t first = 0; first < whole.n; first += most) {
    const aii_cuda_product p = part_of(whole, first, most);
    const uint32_t tiles = tile_columns(stream, p, C::cols);
    auto kernel = many<F, C>;
    AII_LAUNCH(kernel, dim3(blocks_for(p.n_out, AII_PANEL * C::panels), tiles), C::threads, stream, p, panel_bytes);
  }
}

template <aii_fmt F> static bool launch_sized(aii_cuda_stream stream, const aii_cuda_product &p)
{
  if (fills_tiles(p, large::panels, large::cols)) launch<F, large>(stream, p);
  else launch<F, small>(stream, p);
  return true;
}

bool aii::multiply_many(aii_cuda_stream stream, const aii_cuda_product &p)
{
  switch (p.fmt) {
#define QUANTISED(NAME, ...) \
  case AII_FMT_##NAME: return launch_sized<AII_FMT_##NAME>(stream, p);
    QUANTISED(Q8_0)
    QUANTISED(Q4_0)
    AII_PANEL_FORMATS(QUANTISED)
#undef QUANTISED
    default: return false;
  }
}
