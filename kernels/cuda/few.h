/* kernels/cuda/few.h - products of weights in panels with few rows of activations.
 *
 * Weights are streamed once for up to four rows. The terms of a sum are independent of each other, only their sum has an
 * order. So four threads take a unit of a panel, 64 elements of floats or a block of 32, each four of its rows: they make
 * terms as pairs (a, b) in shared memory. Then one thread a row and column adds them up, sum = fma(a, b, sum), while the
 * next units' weights are on their way.
 *
 * Rows may be normalised on their way: each block does that for the columns that it has, into shared memory, while its
 * weights come nearer.
 */
#ifndef AII_KERNELS_CUDA_FEW_H
#define AII_KERNELS_CUDA_FEW_H

#include "kernels/cuda/decode.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/product.h"

namespace aii
{

enum {
  ROWS = 4, /* of a panel, that a thread takes */
  QUADS = AII_PANEL / ROWS,
  FEW_COLS = 4 /* columns of a block */
};

/* Whether activations are multiplied as they are, not as q8. */
AII_PANEL_FN bool takes_floats(aii_fmt f)
{
  return is_decoded(f) || f == AII_FMT_F32 || f == AII_FMT_F16 || f == AII_FMT_BF16;
}

/* A block of threads with so many columns. */
template <aii_fmt F, int COLS> struct shape {
  static const bool decoded = is_decoded(F), floats = takes_floats(F),
                    normalises = COLS == 1 || !floats; /* several rows of floats have no room */
  static const int units = COLS == 1 ? 64 : 32;        /* made at a time */
  static const int threads = units * QUADS;
  static const int terms = aii_panel_has_min(F) ? 2 : 1; /* of a unit */
  static const int cells = AII_PANEL * COLS;
  static const int stride = terms * cells + 1;                          /* of a unit; odd: against bank conflicts */
  static const int bytes = units * stride * (int)sizeof(float2) + 1024; /* of shared memory, but for normed rows */
  static_assert(units * stride * 2 >= norm_piece<COLS>::FLOATS, "norms are made where terms will lie");
};

/* ---- the rows of a block's columns ---- */

/* As their product has them, or normalised, from the first column on. */
struct inputs {
  const float *x;
  aii_cuda_q8 q8;
  uint32_t first, last, repeat; /* columns */
  __device__ size_t row(int c) const
  {
    return (first + min((uint32_t)c, last)) / repeat;
  }
};

__device__ inline inputs inputs_of(const aii_cuda_product &p, uint32_t first, uint32_t cols)
{
  return {p.x, p.x_q8, first, cols - 1, p.repeat};
}

/* Shared memory for rows of n elements that are normalised. */
__host__ __device__ inline size_t normed_bytes(aii_fmt f, uint32_t cols, uint32_t n)
{
  return (size_t)cols * (takes_floats(f) ? n * sizeof(float) : n + n / AII_QBLOCK * 2 * sizeof(float));
}

template <int COLS> __device__ inline inputs normed_inputs(char *memory, uint32_t n, uint32_t cols)
{
  float *d = (float *)(memory + (size_t)COLS * n);
  return {(float *)memory, {(int8_t *)memory, d, d + COLS * (n / AII_QBLOCK)}, 0, cols - 1, 1};
}

/* Fills them with the rows first .. first + cols. */
template <aii_fmt F, int COLS>
__device__ void normalise_to(const inputs &in, const aii_cuda_norm &norm, uint32_t first, float *piece,
                             norm_state<COLS> &state)
{
  typedef shape<F, COLS> S;
  const float *rows = norm.x + (size_t)first * norm.n;
  if constexpr (S::floats)
    put_normed<COLS, S::threads>(norm, rows, in.last + 1, piece, state, const_cast<float *>(in.x));
  else put_normed<COLS, S::threads>(norm, rows, in.last + 1, piece, state, in.q8);
}

/* The first weights of a panel come to the second-level cache: as much as blocks may have on its way together. */
__device__ inline void ask_for_panel(const unsigned char *panel, size_t bytes)
{
  enum { LINE = 128, MOST = 32 << 10 };
  const uint32_t end = (uint32_t)min(bytes, (size_t)MOST);
  for (uint32_t i = threadIdx.x * LINE; i < end; i += blockDim.x * LINE) prefetch(panel + i);
}

/* ---- four rows of a block of 32 ---- */

template <aii_fmt F> struct block_piece {
  static const int vectors = aii_panel_bits(F);
  uint32_t code[vectors][ROWS];
  uint32_t side[4], head[4]; /* scales and minima as they lie there: two halves, or four bytes, a word */
};

template <aii_fmt F>
__device__ inline void load_piece(const unsigned char *panel, uint32_t b, uint32_t quad, block_piece<F> &w)
{
  const unsigned char *unit = aii_panel_unit(F, panel, b), *block = aii_panel_at(F, panel, b),
                      *side = block + aii_panel_codes(F);
  for (int v = 0; v < block_piece<F>::vectors; v++) load_words<ROWS>(block + 64 * v + 16 * quad, w.code[v]);
  if (aii_panel_is_k(F) || F == AII_FMT_MXFP4) {
    w.side[0] = *(const uint32_t *)(side + 4 * quad);
    if (F != AII_FMT_MXFP4) w.side[1] = *(const uint32_t *)(side + 16 + 4 * quad);
  } else {
    load_words<2>(side + 8 * quad, w.side);
    if (aii_panel_has_min(F)) load_words<2>(side + 32 + 8 * quad, w.side + 2);
  }
  if (aii_panel_is_k(F)) load_words<2>(unit + 8 * quad, w.head);
  if (aii_panel_is_k(F) && aii_panel_has_min(F)) load_words<2>(unit + 32 + 8 * quad, w.head + 2);
}

__device__ inline float half_at(const uint32_t *words, int i)
{
  return float_of_half((uint16_t)(words[i / 2] >> (16 * (i % 2))));
}

__device__ inline uint32_t byte_at(uint32_t word, int i)
{
  return word >> (8 * i) & 255;
}

/* Of row i; of the first or second half of its block. */
template <aii_fmt F> __device__ inline float scale_of(const block_piece<F> &w, int i, int half)
{
  if (F == AII_FMT_MXFP4) return e8m0_half((uint8_t)byte_at(w.side[0], i));
  if (F == AII_FMT_Q6_K) return half_at(w.head, i) * (float)(int8_t)byte_at(w.side[half], i);
  if (aii_panel_is_k(F)) return half_at(w.head, i) * (float)byte_at(w.side[0], i);
  return half_at(w.side, i);
}

template <aii_fmt F> __device__ inline float min_of(const block_piece<F> &w, int i)
{
  return aii_panel_is_k(F) ? -(half_at(w.head + 2, i) * (float)byte_at(w.side[1], i)) : half_at(w.side + 2, i);
}

/* The sum of 32 products, or two sums of 16 times their scales. */
template <aii_fmt F>
__device__ inline float block_sum(const block_piece<F> &w, int i, const uint32_t level[8], const uint32_t x[8])
{
  int sum = 0;
  float first = 0;
  for (int g = 0; g < 8; g++) {
    sum = __dp4a((int)level[g], (int)x[g], sum);
    if (F != AII_FMT_Q6_K || g != 3) continue;
    first = (float)sum * scale_of<F>(w, i, 0);
    sum = 0;
  }
  return F == AII_FMT_Q6_K ? fmaf((float)sum, scale_of<F>(w, i, 1), first) : (float)sum;
}

/* Terms of unit b, to out[row][..]. */
template <aii_fmt F, int COLS>
__device__ inline void quant_terms(uint32_t n_in, const inputs &in, const block_piece<F> &w, uint32_t b, float2 *out)
{
  const int bits = aii_panel_bits(F), cells = shape<F, COLS>::cells;
  uint32_t x[COLS][8];
  float d[COLS], s[COLS];
  for (int c = 0; c < COLS; c++) {
    const size_t row = in.row(c), at = row * (n_in / AII_QBLOCK) + b;
    load_words<8>(in.q8.q + row * n_in + AII_QBLOCK * b, x[c]);
    d[c] = in.q8.d[at];
    s[c] = aii_panel_has_min(F) ? in.q8.s[at] : 0;
  }
  for (int i = 0; i < ROWS; i++) {
    uint32_t level[8];
    for (int g = 0; g < 8; g++)
      level[g] = levels<F>(w.code[bits == 8 ? g : g % 4][i],
                           bits < 5 || bits > 6 ? 0 : w.code[bits == 5 ? 4 : 4 + g / 4][i], g);
    for (int c = 0; c < COLS; c++) {
      float2 *to = out + c * AII_PANEL + i;
      float sum = block_sum<F>(w, i, level, x[c]);
      to[0] = make_float2(sum, F == AII_FMT_Q6_K ? d[c] : scale_of<F>(w, i, 0) * d[c]);
      if (aii_panel_has_min(F)) to[cells] = make_float2(min_of<F>(w, i), s[c]);
    }
  }
}

/* ---- four rows of a run of 64 floats ---- */

/* The weights of run u, which are needed soon, to the second-level cache; quad: the thread's share of the lines. */
template <aii_fmt F>
__device__ inline void ask_for_run(const unsigned char *panel, uint32_t u, uint32_t quad, uint32_t n_in)
{
  const uint32_t line = 128, each = AII_PANEL * float_bytes<F>::each, end = min(u * AII_RUN + AII_RUN, n_in) * each;
  for (uint32_t i = u * AII_RUN * each + quad * line; i < end; i += QUADS * line) prefetch(panel + i);
}

/* Elements k .. k + 3, of which n are there. */
__device__ inline void load_inputs(const float *x, uint32_t n, bool aligned, float out[4])
{
  if (aligned) {
    load_floats<AII_FMT_F32, 4>((const unsigned char *)x, out);
    return;
  }
  for (uint32_t i = 0; i < 4; i++) out[i] = i < n ? x[i] : 0;
}

/* N elements of a run from k on, of which n are there, added to the runs of four rows and all columns. The weights are
 * asked for first, all at once. */
template <aii_fmt F, int COLS, int N>
__device__ inline void add_elements(const unsigned char *w, const float *const x[COLS], uint32_t k, uint32_t n,
                                    bool aligned, float run[COLS][ROWS])
{
  const int words = ROWS * float_bytes<F>::each / 4;
  uint32_t raw[N][words];
  for (uint32_t j = 0; j < N; j++)
    load_words<words>(w + (size_t)(j < n ? k + j : k) * AII_PANEL * float_bytes<F>::each, raw[j]);
  for (uint32_t j = 0; j < N; j += 4) {
    float in[COLS][4];
    for (int c = 0; c < COLS; c++) load_inputs(x[c] + k + j, j < n ? n - j : 0, aligned && j < n, in[c]);
    for (uint32_t e = 0; e < 4; e++)
      for (int i = 0; i < ROWS; i++) {
        float v = float_in<F>(raw[j + e], i);
        for (int c = 0; c < COLS; c++) run[c][i] = fmaf(v, in[c][e], run[c][i]);
      }
  }
}

template <aii_fmt F, int COLS>
__device__ inline void float_terms(uint32_t n_in, const inputs &in, const unsigned char *panel, uint32_t u,
                                   uint32_t quad, float2 *out)
{
  const int at_once = F == AII_FMT_F32 ? 8 : 16;
  const uint32_t end = min(u * AII_RUN + AII_RUN, n_in);
  const bool aligned = n_in % 4 == 0 && (uintptr_t)in.x % 16 == 0;
  const unsigned char *w = panel + ROWS * quad * float_bytes<F>::each;
  const float *x[COLS];
  float run[COLS][ROWS] = {{0}};
  for (int c = 0; c < COLS; c++) x[c] = in.x + in.row(c) * n_in;
#pragma unroll 1
  for (uint32_t k = u * AII_RUN; k < end; k += at_once)
    add_elements<F, COLS, at_once>(w, x, k, min(end - k, (uint32_t)at_once), aligned, run);
  for (int c = 0; c < COLS; c++)
    for (int i = 0; i < ROWS; i++) out[c * AII_PANEL + i] = make_float2(run[c][i], 1);
}

/* The same of formats that are decoded, 16 elements at a time. */
template <aii_fmt F, int COLS>
__device__ inline void decoded_terms(uint32_t n_in, const inputs &in, const unsigned char *panel, uint32_t u,
                                     uint32_t quad, float2 *out)
{
  const uint32_t end = min(u * AII_RUN + AII_RUN, n_in);
  const bool aligned = (uintptr_t)in.x % 16 == 0; /* as rows are, of whole blocks */
  float run[COLS][ROWS] = {{0}};
#pragma unroll 1
  for (uint32_t k = u * AII_RUN; k < end; k += PIECE) {
    float x[COLS][PIECE], w[PIECE];
#pragma unroll
    for (int c = 0; c < COLS; c++)
#pragma unroll
      for (uint32_t j = 0; j < PIECE; j += 4) load_inputs(in.x + in.row(c) * n_in + k + j, 4, aligned, x[c] + j);
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
      decode_piece<F>(panel, ROWS * quad + i, k, w);
#pragma unroll
      for (int j = 0; j < PIECE; j++)
#pragma unroll
        for (int c = 0; c < COLS; c++) run[c][i] = fmaf(w[j], x[c][j], run[c][i]);
    }
  }
  for (int c = 0; c < COLS; c++)
    for (int i = 0; i < ROWS; i++) out[c * AII_PANEL + i] = make_float2(run[c][i], 1);
}

/* ---- a panel: all its units, then their sums ---- */

/* The sum of row cell % 16 and column cell / 16, for threads that are a cell. The first weights are asked for before
 * prepare() waits for the kernel that makes its inputs. */
template <aii_fmt F, int COLS, class Prepare>
__device__ inline float panel_sum(uint32_t n_in, const inputs &in, const unsigned char *panel, size_t panel_bytes,
                                  float2 *shared, const Prepare &prepare)
{
  typedef shape<F, COLS> S;
  const uint32_t unit = threadIdx.x / QUADS, quad = threadIdx.x % QUADS, each = S::floats ? AII_RUN : AII_QBLOCK,
                 n_units = (n_in + each - 1) / each;
  float2 *out = shared + unit * S::stride + ROWS * quad;
  const float2 *terms = shared + threadIdx.x;
  block_piece<F> w;
  float sum = 0;
  if constexpr (!S::floats) {
    if (unit < n_units) load_piece<F>(panel, unit, quad, w);
  }
  if constexpr (S::floats && !S::decoded) {
    if (unit < n_units) ask_for_run<F>(panel, unit, quad, n_in);
  } else {
    ask_for_panel(panel, panel_bytes);
  }
  prepare();
  for (uint32_t at = 0; at < n_units; at += S::units) {
    const uint32_t mine = at + unit, n = min((uint32_t)S::units, n_units - at);
    if (mine < n_units) {
      if constexpr (S::decoded) decoded_terms<F, COLS>(n_in, in, panel, mine, quad, out);
      else if constexpr (S::floats) float_terms<F, COLS>(n_in, in, panel, mine, quad, out);
      else quant_terms<F, COLS>(n_in, in, w, mine, out);
    }
    __syncthreads();
    if (!S::floats && mine + S::units < n_units) load_piece<F>(panel, mine + S::units, quad, w);
    if (threadIdx.x < S::cells) {
#pragma unroll 8
      for (uint32_t u = 0; u < n; u++)
        for (int t = 0; t < S::terms; t++) {
          float2 term = terms[u * S::stride + t * S::cells];
          sum = fmaf(term.x, term.y, sum);
        }
    }
    __syncthreads();
  }
  return sum;
}

/* ---- kernels ---- */

struct few_products {
  aii_cuda_product p[AII_CUDA_MAX_PRODUCTS];
  uint32_t begin[AII_CUDA_MAX_PRODUCTS]; /* block of the grid where each begins */
  uint32_t n;
  aii_cuda_norm norm; /* x NULL: rows are as they are */
};

/* Column c of a block is pair blockIdx.y * COLS + c; where matrices take turns a block has one column. */
template <aii_fmt F, int COLS>
__global__ void __launch_bounds__(shape<F, COLS>::threads) few(few_products all, size_t panel_bytes)
{
  typedef shape<F, COLS> S;
  __shared__ float2 shared[S::units * S::stride];
  __shared__ norm_state<COLS> state;
  AII_DYNAMIC_SHARED(memory);
  let_next_come();
  uint32_t at = 0;
  for (uint32_t i = 1; i < all.n; i++) at = blockIdx.x >= all.begin[i] ? i : at;
  const aii_cuda_product &p = all.p[at];
  const uint32_t number = blockIdx.x - all.begin[at], first = blockIdx.y * COLS,
                 cols = min((uint32_t)COLS, p.n - first);
  const bool norms = S::normalises && all.norm.x != NULL;
  if (p.ids != NULL) wait_for_last();
  const matrix m = matrix_of(p, first);
  const unsigned char *panel = m.w + number * panel_bytes;
  const inputs in = norms ? normed_inputs<COLS>(memory, p.n_in, cols) : inputs_of(p, first, cols);
  float sum = panel_sum<F, COLS>(p.n_in, in, panel, panel_bytes, shared, [&] {
    wait_for_last();
    if (norms) normalise_to<F, COLS>(in, all.norm, first, (float *)shared, state);
  });
  if (threadIdx.x < AII_PANEL * cols)
    put(p, m, number * AII_PANEL + threadIdx.x % AII_PANEL, first + threadIdx.x / AII_PANEL, sum);
}

/* ---- launches ---- */

template <aii_fmt F, int COLS> void launch_few(aii_cuda_stream stream, const few_products &whole, size_t panel_bytes)
{
  const aii_cuda_product &p = whole.p[0];
  const size_t most = (size_t)MAX_GRID / p.n_mats * p.n_mats / p.repeat * p.repeat * COLS;
  few_products part = whole;
  for (size_t first = 0; first < p.n; first += most) {
    uint32_t blocks = 0;
    for (uint32_t i = 0; i < whole.n; i++) {
      part.p[i] = part_of(whole.p[i], first, most);
      part.begin[i] = blocks;
      blocks += blocks_for(whole.p[i].n_out, AII_PANEL);
    }
    auto kernel = few<F, COLS>;
    const int threads = shape<F, COLS>::threads, has = shape<F, COLS>::bytes;
    const int bytes = whole.norm.x != NULL ? (int)normed_bytes(F, COLS, p.n_in) : 0;
    AII_LAUNCH_SHARED(kernel, dim3(blocks, blocks_for(part.p[0].n, COLS)), threads, bytes, has, stream, part,
                      panel_bytes);
  }
}

template <aii_fmt F> void multiply_few(aii_cuda_stream stream, const few_products &all)
{
  const size_t panel_bytes = panel_bytes_of(all.p[0]);
  if (all.p[0].n == 1 || takes_turns(all.p[0])) launch_few<F, 1>(stream, all, panel_bytes);
  else launch_few<F, FEW_COLS>(stream, all, panel_bytes);
}

void multiply_decoded(aii_cuda_stream stream, const few_products &all); /* formats that decode.h has */

} // namespace aii

#endif
