/* products.cu - products of weights in panels with rows of activations.
 *
 * A sum has an order: over runs of 64 elements for floats, over blocks of 32 for quantised weights (kernels.h). Terms are
 * independent of each other, their sum is not. So the kernel for few rows makes the terms of a panel in parallel, as
 * pairs (a, b) in shared memory, and then one thread a row and column adds them up: sum = fma(a, b, sum). The kernel for
 * many rows gives the integers to tensor cores, a block of 32 at a time, and each thread goes over the blocks in order.
 * No result depends on which kernel, how many rows, or where in the grid.
 */
#include "kernels/cuda/device.h"

using namespace aii;

enum {
  WARPS = THREADS / WARP,
  UNITS = 32,     /* terms made at a time, of each row and column */
  FEW_COLS = 4,   /* columns of a block of the first kernel */
  MANY = 16,      /* columns that are worth the second one */
  MANY_WARPS = 4, /* panels of a block of it */
  MANY_TILES = 4  /* times 8 columns of a warp of it */
};

__constant__ int8_t iq4_levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
__constant__ int8_t fp4_levels[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/* ---- a block of 32 elements of a panel ---- */

/* Elements 4 g .. 4 g + 3 of a row, as four int8. */
template <aii_fmt F> __device__ inline uint32_t levels(const uint32_t *block, uint32_t row, uint32_t g)
{
  const uint32_t bits = aii_panel_bits(F);
  if (bits == 8) return block[16 * g + row] ^ 0x80808080u;
  uint32_t code = block[16 * (g % 4) + row] >> (4 * (g / 4)) & 0x0f0f0f0fu;
  if (bits == 5) code |= (block[64 + row] >> g & 0x01010101u) << 4;
  if (bits == 6) code |= (block[64 + 16 * (g / 4) + row] >> (2 * (g % 4)) & 0x03030303u) << 4;
  if (F == AII_FMT_IQ4_NL || F == AII_FMT_MXFP4) {
    const int8_t *table = F == AII_FMT_IQ4_NL ? iq4_levels : fp4_levels;
    uint32_t out = 0;
    for (int i = 0; i < 4; i++) out |= (uint32_t)(uint8_t)table[code >> (8 * i) & 15] << (8 * i);
    return out;
  }
  return aii_panel_zero(F) != 0 ? __vsub4(code, 0x01010101u * (uint32_t)aii_panel_zero(F)) : code;
}

/* The scale of a half of a row's block. */
template <aii_fmt F>
__device__ inline float scale_of(const unsigned char *head, const unsigned char *scales, uint32_t row, uint32_t half)
{
  if (F == AII_FMT_MXFP4) return e8m0_half(scales[row]);
  if (F == AII_FMT_Q6_K) return float_of_half(load_u16(head + 2 * row)) * (float)(int8_t)scales[16 * half + row];
  if (aii_panel_is_k(F)) return float_of_half(load_u16(head + 2 * row)) * (float)scales[row];
  return float_of_half(load_u16(scales + 2 * row));
}

template <aii_fmt F>
__device__ inline float min_of(const unsigned char *head, const unsigned char *scales, uint32_t row)
{
  if (aii_panel_is_k(F)) return -(float_of_half(load_u16(head + 32 + 2 * row)) * (float)scales[16 + row]);
  return float_of_half(load_u16(scales + 32 + 2 * row));
}

/* ---- what both kernels know of their product ---- */

struct matrix {
  const unsigned char *w;
  const float *bias;
};

__device__ inline matrix matrix_of(const aii_cuda_product &p, uint32_t i)
{
  uint32_t mat = p.ids != NULL ? (uint32_t)p.ids[i] : p.n_mats > 1 ? i % p.n_mats : 0;
  if (mat >= p.n_mats) mat = 0;
  matrix m = {(const unsigned char *)p.w + mat * p.mat_bytes, p.bias != NULL ? p.bias + (size_t)mat * p.n_out : NULL};
  return m;
}

__device__ inline void put(const aii_cuda_product &p, const matrix &m, uint32_t row, uint32_t col, float v)
{
  if (row >= p.n_out || col >= p.n) return;
  float *y = p.y + (size_t)col * p.n_out + row;
  if (m.bias != NULL) v += m.bias[row];
  *y = p.accumulate ? *y + v : v;
}

/* ---- few rows of activations ---- */

/* Terms of a block. */
template <aii_fmt F> struct terms {
  static const int count = aii_panel_has_min(F) ? 2 : 1;
};

template <aii_fmt F>
__device__ inline void quant_terms(const aii_cuda_product &p, const unsigned char *panel, uint32_t b, uint32_t row,
                                   size_t col, float2 *out, uint32_t step)
{
  const unsigned char *head = aii_panel_unit(F, panel, b), *block = aii_panel_at(F, panel, b),
                      *scales = block + aii_panel_codes(F);
  const uint32_t *x = (const uint32_t *)(p.x_q8.q + col * p.n_in) + 8 * b;
  size_t at = col * (p.n_in / AII_QBLOCK) + b;
  float both = 0;
  int sum = 0;
  for (int g = 0; g < 8; g++) {
    sum = __dp4a((int)levels<F>((const uint32_t *)block, row, g), (int)x[g], sum);
    if (F != AII_FMT_Q6_K || g % 4 != 3) continue;
    both = fmaf((float)sum, scale_of<F>(head, scales, row, g / 4), both);
    sum = 0;
  }
  out[0] = F == AII_FMT_Q6_K ? make_float2(both, p.x_q8.d[at])
                             : make_float2((float)sum, scale_of<F>(head, scales, row, 0) * p.x_q8.d[at]);
  if (aii_panel_has_min(F)) out[step] = make_float2(min_of<F>(head, scales, row), p.x_q8.s[at]);
}

template <aii_fmt F> __device__ inline float element(const unsigned char *panel, size_t i)
{
  if (F == AII_FMT_F32) return ((const float *)panel)[i];
  uint16_t h = ((const uint16_t *)panel)[i];
  return F == AII_FMT_F16 ? float_of_half(h) : float_of_bf16(h);
}

template <aii_fmt F>
__device__ inline void float_term(const aii_cuda_product &p, const unsigned char *panel, uint32_t u, uint32_t row,
                                  size_t col, float2 *out)
{
  const float *x = p.x + col * p.n_in;
  uint32_t end = min(u * AII_RUN + AII_RUN, p.n_in);
  float run = 0;
  for (uint32_t k = u * AII_RUN; k < end; k++) run = fmaf(element<F>(panel, (size_t)k * AII_PANEL + row), x[k], run);
  out[0] = make_float2(run, 1);
}

/* Column c of a block is pair blockIdx.y * FEW_COLS + c; with several matrices a block has one column. */
template <aii_fmt F, bool QUANT> __global__ void few(aii_cuda_product p, size_t panel_bytes, uint32_t n_units)
{
  const int T = terms<F>::count, CELLS = AII_PANEL * FEW_COLS;
  __shared__ float2 shared[UNITS * T * CELLS];
  const bool one = p.ids != NULL || p.n_mats > 1;
  const uint32_t first = blockIdx.y * (one ? 1 : FEW_COLS), cols = one ? 1 : min((uint32_t)FEW_COLS, p.n - first);
  const matrix m = matrix_of(p, first);
  const unsigned char *panel = m.w + blockIdx.x * panel_bytes;
  const uint32_t t = threadIdx.x, row = t % AII_PANEL, cell = t;
  float sum = 0;
  for (uint32_t at = 0; at < n_units; at += UNITS) {
    uint32_t n = min((uint32_t)UNITS, n_units - at);
    for (uint32_t u = t / AII_PANEL; u < n; u += THREADS / AII_PANEL)
      for (uint32_t c = 0; c < cols; c++) {
        float2 *out = shared + (u * T * FEW_COLS + c) * AII_PANEL + row;
        if (QUANT) quant_terms<F>(p, panel, at + u, row, (first + c) / p.repeat, out, CELLS);
        else float_term<F>(p, panel, at + u, row, (first + c) / p.repeat, out);
      }
    __syncthreads();
    if (cell < AII_PANEL * cols)
      for (uint32_t u = 0; u < n * T; u++) sum = fmaf(shared[u * CELLS + cell].x, shared[u * CELLS + cell].y, sum);
    __syncthreads();
  }
  if (cell < AII_PANEL * cols) put(p, m, blockIdx.x * AII_PANEL + row, first + cell / AII_PANEL, sum);
}

/* ---- many: a warp takes a panel and 8 columns at a time ---- */

/* c += a b over 32 (or 16) int8: the fragments of mma.m16n8k32 (k16) as PTX defines them. Lane: g = lane / 4, t = lane % 4.
 * a[0], a[1]: elements 4 t of rows g, g + 8; a[2], a[3]: elements 16 + 4 t. b: the same of column g. c: columns 2 t and
 * 2 t + 1 of rows g, g + 8. */
__device__ inline void mma_k32(int c[4], const uint32_t a[4], const uint32_t b[2])
{
#ifdef __CUDACC__
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  cuda_on_cpu::mma_s8(c, a, b, 2);
#endif
}

__device__ inline void mma_k16(int c[4], const uint32_t a[2], uint32_t b)
{
#ifdef __CUDACC__
  asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(b));
#else
  cuda_on_cpu::mma_s8(c, a, &b, 1);
#endif
}

/* Adds block b to the sums of rows g, g + 8 (i / 2) and columns 2 t, 2 t + 1 (i % 2). */
template <aii_fmt F>
__device__ inline void add_block(const aii_cuda_product &p, uint32_t b, uint32_t col, const uint32_t a[4],
                                 const float scales[2][2], const float mins[2], float sum[4])
{
  const uint32_t lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4, mine = min(col + g, p.n - 1),
                 n_blocks = p.n_in / AII_QBLOCK;
  const uint32_t *x = (const uint32_t *)(p.x_q8.q + (size_t)mine * p.n_in) + 8 * b;
  const uint32_t xs[2] = {x[t], x[t + 4]};
  size_t cols[2] = {min(col + 2 * t, p.n - 1), min(col + 2 * t + 1, p.n - 1)};
  float d[2] = {p.x_q8.d[cols[0] * n_blocks + b], p.x_q8.d[cols[1] * n_blocks + b]};
  if (F == AII_FMT_Q6_K) {
    int low[4] = {0}, high[4] = {0};
    mma_k16(low, a, xs[0]);
    mma_k16(high, a + 2, xs[1]);
    for (int i = 0; i < 4; i++) {
      float both = fmaf((float)high[i], scales[1][i / 2], (float)low[i] * scales[0][i / 2]);
      sum[i] = fmaf(both, d[i % 2], sum[i]);
    }
    return;
  }
  int c[4] = {0};
  mma_k32(c, a, xs);
  for (int i = 0; i < 4; i++) sum[i] = fmaf((float)c[i], scales[0][i / 2] * d[i % 2], sum[i]);
  if (aii_panel_has_min(F))
    for (int i = 0; i < 4; i++) sum[i] = fmaf(mins[i / 2], p.x_q8.s[cols[i % 2] * n_blocks + b], sum[i]);
}

template <aii_fmt F> __global__ void many(aii_cuda_product p, size_t panel_bytes, uint32_t n_panels)
{
  const uint32_t number = blockIdx.x * MANY_WARPS + threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4,
                 t = lane % 4, col = blockIdx.y * 8 * MANY_TILES;
  if (number >= n_panels) return; /* a whole warp */
  const matrix m = matrix_of(p, 0);
  const unsigned char *panel = m.w + number * panel_bytes;
  float sums[MANY_TILES][4] = {{0}};
  for (uint32_t b = 0; b < p.n_in / AII_QBLOCK; b++) {
    const unsigned char *head = aii_panel_unit(F, panel, b), *block = aii_panel_at(F, panel, b),
                        *s = block + aii_panel_codes(F);
    const uint32_t *words = (const uint32_t *)block;
    const uint32_t a[4] = {levels<F>(words, g, t), levels<F>(words, g + 8, t), levels<F>(words, g, t + 4),
                           levels<F>(words, g + 8, t + 4)};
    float scales[2][2] = {{scale_of<F>(head, s, g, 0), scale_of<F>(head, s, g + 8, 0)}, {0, 0}}, mins[2] = {0, 0};
    for (int i = 0; i < 2; i++) {
      if (F == AII_FMT_Q6_K) scales[1][i] = scale_of<F>(head, s, g + 8 * i, 1);
      if (aii_panel_has_min(F)) mins[i] = min_of<F>(head, s, g + 8 * i);
    }
    for (int i = 0; i < MANY_TILES; i++) add_block<F>(p, b, col + 8 * i, a, scales, mins, sums[i]);
  }
  for (int i = 0; i < MANY_TILES; i++)
    for (int j = 0; j < 4; j++)
      put(p, m, number * AII_PANEL + g + 8 * (j / 2), col + 8 * i + 2 * t + j % 2, sums[i][j]);
}

/* ---- launches ---- */

static const uint32_t MAX_GRID = 65535; /* of blocks in y */

/* Columns `first` on, at most as many as a grid has. */
static aii_cuda_product part_of(const aii_cuda_product &p, size_t first, size_t most)
{
  aii_cuda_product part = p;
  size_t n_blocks = p.n_in / AII_QBLOCK, col = first / p.repeat;
  part.n = (uint32_t)(p.n - first < most ? p.n - first : most);
  part.y += first * p.n_out;
  if (p.ids != NULL) part.ids += first;
  if (p.x != NULL) part.x += col * p.n_in;
  if (p.x_q8.q != NULL) {
    part.x_q8.q += col * p.n_in;
    part.x_q8.d += col * n_blocks;
    part.x_q8.s += col * n_blocks;
  }
  return part;
}

template <aii_fmt F, bool QUANT>
static void launch_few(aii_cuda_stream stream, const aii_cuda_product &whole, size_t panel_bytes)
{
  const bool one = whole.ids != NULL || whole.n_mats > 1;
  const uint32_t each = one ? 1 : FEW_COLS, n_units = blocks_for(whole.n_in, QUANT ? AII_QBLOCK : AII_RUN);
  const size_t most = (size_t)MAX_GRID / whole.n_mats * whole.n_mats / whole.repeat * whole.repeat * each;
  for (size_t first = 0; first < whole.n; first += most) {
    const aii_cuda_product p = part_of(whole, first, most);
    auto kernel = few<F, QUANT>;
    AII_LAUNCH(kernel, dim3(blocks_for(p.n_out, AII_PANEL), blocks_for(p.n, each)), THREADS, stream, p, panel_bytes,
               n_units);
  }
}

template <aii_fmt F> static void launch_many(aii_cuda_stream stream, const aii_cuda_product &whole, size_t panel_bytes)
{
  const uint32_t n_panels = blocks_for(whole.n_out, AII_PANEL), each = 8 * MANY_TILES;
  for (size_t first = 0; first < whole.n; first += (size_t)MAX_GRID * each) {
    const aii_cuda_product p = part_of(whole, first, (size_t)MAX_GRID * each);
    auto kernel = many<F>;
    AII_LAUNCH(kernel, dim3(blocks_for(n_panels, MANY_WARPS), blocks_for(p.n, each)), MANY_WARPS * WARP, stream, p,
               panel_bytes, n_panels);
  }
}

template <aii_fmt F>
static void multiply_quantised(aii_cuda_stream stream, const aii_cuda_product &p, size_t panel_bytes)
{
  const bool one = p.ids != NULL || p.n_mats > 1 || p.repeat > 1;
  if (p.n >= MANY && !one) launch_many<F>(stream, p, panel_bytes);
  else launch_few<F, true>(stream, p, panel_bytes);
}

void aii_cuda_multiply(aii_cuda_stream stream, const aii_cuda_product *p)
{
  const size_t bytes = p->mat_bytes / blocks_for(p->n_out, AII_PANEL);
  switch (p->fmt) {
    case AII_FMT_F32: launch_few<AII_FMT_F32, false>(stream, *p, bytes); break;
    case AII_FMT_F16: launch_few<AII_FMT_F16, false>(stream, *p, bytes); break;
    case AII_FMT_BF16: launch_few<AII_FMT_BF16, false>(stream, *p, bytes); break;
#define QUANTISED(NAME, ...) \
  case AII_FMT_##NAME: multiply_quantised<AII_FMT_##NAME>(stream, *p, bytes); break;
      QUANTISED(Q8_0)
      QUANTISED(Q4_0)
      AII_PANEL_FORMATS(QUANTISED)
#undef QUANTISED
    default: break;
  }
}

/* ---- matrices of one row: 16 threads take a product ---- */

__global__ void dot_rows(aii_cuda_product p)
{
  uint32_t i = blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
  if (i >= p.n) return; /* a whole warp */
  const matrix m = matrix_of(p, i);
  const float *w = (const float *)m.w, *x = p.x + (size_t)(i / p.repeat) * p.n_in;
  float sum = 0;
  if (lane < LANES)
    for (uint32_t k = lane; k < p.n_in; k += LANES) sum = fmaf(w[k], x[k], sum);
  sum = lane_sum(sum);
  if (lane == 0) put(p, m, 0, i, sum);
}

void aii_cuda_dot_rows(aii_cuda_stream stream, const aii_cuda_product *product)
{
  aii_cuda_product p = *product;
  AII_LAUNCH(dot_rows, blocks_for(p.n, THREADS / WARP), THREADS, stream, p);
}
