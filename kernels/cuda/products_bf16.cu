/* products_bf16.cu - products of BF16 weights with activations that are rounded to BF16: tensor cores make the sums.
 *
 * This is asked for, as its results are not the CPU's bits: a tensor core adds 16 products at a time in an order of its
 * own. But they depend on a row alone. An output has one chain of tensor-core instructions for each run of 256 elements,
 * from zero, in ascending order, and runs are added up in theirs. All kernels here do so, whatever the number of rows.
 *
 * Weights lie as fragments: 16 rows of a panel, 16 elements, 16 bytes a thread of a warp, so that no thread has to gather
 * anything. The activations of many rows are brought to the same order when they are rounded: 8 rows, 32 elements, 16
 * bytes a thread. What a row has beyond its end, up to a multiple of 32, is zero.
 *
 * Few rows: eight warps take eight runs of a panel at a time, all of whose 8 KiB each asks for at once. Many: tiles of 128
 * x 128 in shared memory, where a warp makes 64 x 32 of them: per 16 elements 16 instructions for 6 reads of 16 bytes. The
 * columns of a tile need not be adjacent: a thread copies 16 bytes of a column's chunk, wherever that row lies.
 */
#include "kernels/cuda/activation.h"
#include "kernels/cuda/async.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/product.h"

using namespace aii;

enum {
  CHUNK = 32,     /* elements */
  RUN_CHUNKS = 8, /* of a run */
  PIECE = 512,    /* bytes of a fragment of all threads of a warp: weights of 16 elements, activations of a chunk */
  WARPS = 8
};

__device__ inline uint32_t chunks_of(const aii_cuda_product &p)
{
  return (p.n_in + CHUNK - 1) / CHUNK;
}

/* ---- numbers ---- */

/* Both to the nearest BF16, ties to even; the first in the low half. */
__device__ inline uint32_t rounded(float a, float b)
{
#ifdef __CUDACC__
  uint32_t out;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(b), "f"(a));
  return out;
#else
  uint32_t out = 0;
  const float both[2] = {a, b};
  for (int i = 0; i < 2; i++) {
    uint32_t u = bits_of_float(both[i]);
    u = both[i] != both[i] ? u >> 16 | 0x40u : (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
    out |= u << (16 * i);
  }
  return out;
#endif
}

/* c += a b over 16 elements, as mma.m16n8k16 has its fragments. Lane: g = lane / 4, t = lane % 4. a[0], a[1]: elements 2 t
 * and 2 t + 1 of rows g, g + 8; a[2], a[3]: 8 elements on. b: the same of column g. c: columns 2 t and 2 t + 1 of rows g,
 * g + 8. */
__device__ inline void mma(float c[4], const uint32_t a[4], const uint32_t b[2])
{
#ifdef __CUDACC__
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  cuda_on_cpu::mma_bf16(c, a, b);
#endif
}

/* Elements k and k + 1 of a row, zero beyond its end; pairs: they can be read as one. */
__device__ inline uint32_t pair_at(const float *x, uint32_t k, uint32_t n, bool pairs)
{
  if (pairs && k < n) {
    float2 v = *(const float2 *)(x + k);
    return rounded(v.x, v.y);
  }
  return rounded(k < n ? x[k] : 0, k + 1 < n ? x[k + 1] : 0);
}

/* The fragments of a chunk of the row that this thread has a part of: b[0], b[1] of 16 elements, then of 16 more. */
__device__ inline void round_chunk(const float *x, uint32_t chunk, uint32_t n, bool pairs, uint32_t b[4])
{
  for (uint32_t i = 0; i < 4; i++) b[i] = pair_at(x, CHUNK * chunk + 8 * i + 2 * (threadIdx.x % 4), n, pairs);
}

__device__ inline bool has_pairs(const float *x, uint32_t n)
{
  return n % 2 == 0 && (uintptr_t)x % 8 == 0;
}

/* ---- activations of many rows: a warp takes a chunk of 8 rows ---- */

__global__ void round_rows(const float *x, uint32_t n_rows, uint32_t n, uint32_t n_chunks, uint4 *out)
{
  begin_kernel();
  const size_t piece = ((size_t)blockIdx.x * THREADS + threadIdx.x) / WARP;
  const uint32_t lane = threadIdx.x % WARP, chunk = (uint32_t)(piece % n_chunks);
  const size_t row = piece / n_chunks * 8 + lane / 4;
  if (piece >= (size_t)((n_rows + 7) / 8) * n_chunks) return;
  uint32_t b[4] = {0};
  if (row < n_rows) round_chunk(x + row * n, chunk, n, has_pairs(x, n), b);
  out[piece * WARP + lane] = uint4{b[0], b[1], b[2], b[3]};
}

void aii_cuda_round_rows(aii_cuda_stream stream, const float *x, uint32_t n_rows, uint32_t n, void *out)
{
  const uint32_t n_chunks = blocks_for(n, CHUNK);
  const size_t pieces = (size_t)blocks_for(n_rows, 8) * n_chunks;
  uint4 *to = (uint4 *)out;
  AII_LAUNCH(round_rows, blocks_for(pieces, THREADS / WARP), THREADS, stream, x, n_rows, n, n_chunks, to);
}

/* ---- few rows ---- */

/* TILES times 8 columns; ready: they are rounded, in fragments. */
template <int TILES, bool READY> struct inputs {
  const float *x; /* of this thread's column */
  const uint4 *pieces;
  uint32_t n, n_chunks, n_tiles;
  bool there, pairs;

  __device__ void chunk(uint32_t i, int tile, uint32_t b[4]) const
  {
    for (int j = 0; j < 4; j++) b[j] = 0;
    if (!READY && there) round_chunk(x, i, n, pairs, b);
    if (READY && tile < (int)n_tiles) load_words<4>(pieces + ((size_t)tile * n_chunks + i) * WARP, b);
  }
};

template <int TILES, bool READY>
__device__ inline inputs<TILES, READY> inputs_of(const aii_cuda_product &p, uint32_t first, uint32_t cols)
{
  const uint32_t lane = threadIdx.x % WARP, column = (first + min(lane / 4, cols - 1)) / p.repeat,
                 n_chunks = chunks_of(p);
  inputs<TILES, READY> in;
  in.x = READY ? NULL : p.x + (size_t)column * p.n_in;
  in.pieces = READY ? (const uint4 *)p.x_bf16 + (size_t)(first / 8) * n_chunks * WARP + lane : NULL;
  in.n = p.n_in;
  in.n_chunks = n_chunks;
  in.n_tiles = (cols + 7) / 8;
  in.there = lane / 4 < cols;
  in.pairs = has_pairs(p.x, p.n_in);
  return in;
}

/* The weights of a run; those of chunks that are not there are not asked for. */
__device__ inline void load_run(const uint4 *w, uint32_t run, uint32_t n_chunks, uint32_t a[2 * RUN_CHUNKS][4])
{
#pragma unroll
  for (uint32_t i = 0; i < 2 * RUN_CHUNKS; i++)
    if (run * RUN_CHUNKS + i / 2 < n_chunks) load_words<4>(w + (size_t)(run * RUN_CHUNKS * 2 + i) * WARP, a[i]);
}

template <int TILES> struct few_shape {
  static const int cols = 8 * TILES, stride = AII_PANEL + 4;                      /* against bank conflicts */
  static const int mine = (cols * AII_PANEL + WARPS * WARP - 1) / (WARPS * WARP); /* outputs of a thread */
};

/* sums[i]: of the output threadIdx.x + 256 i: row % 16, column / 16. The first weights are asked for before prepare()
 * waits for the kernel that makes the rows. */
template <int TILES, bool READY, class Prepare>
__device__ inline void panel_sums(const aii_cuda_product &p, const inputs<TILES, READY> &in, const unsigned char *panel,
                                  float *parts, float sums[few_shape<TILES>::mine], const Prepare &prepare)
{
  typedef few_shape<TILES> S;
  const uint32_t warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4,
                 n_chunks = chunks_of(p), n_runs = (n_chunks + RUN_CHUNKS - 1) / RUN_CHUNKS;
  const uint4 *w = (const uint4 *)panel + lane;
  uint32_t a[2 * RUN_CHUNKS][4];
  for (int i = 0; i < S::mine; i++) sums[i] = 0;
  load_run(w, warp, n_chunks, a);
  prepare();
#pragma unroll 1
  for (uint32_t at = 0; at < n_runs; at += WARPS) {
    const uint32_t run = at + warp;
    float acc[TILES][4] = {{0}};
#pragma unroll
    for (uint32_t i = 0; i < RUN_CHUNKS; i++) {
      if (run * RUN_CHUNKS + i >= n_chunks) continue; /* a whole warp */
      for (int j = 0; j < TILES; j++) {
        uint32_t b[4];
        in.chunk(run * RUN_CHUNKS + i, j, b);
        mma(acc[j], a[2 * i], b);
        mma(acc[j], a[2 * i + 1], b + 2);
      }
    }
    for (int j = 0; j < TILES; j++)
      for (uint32_t i = 0; i < 4; i++)
        parts[(warp * S::cols + 8 * j + 2 * t + i % 2) * S::stride + g + 8 * (i / 2)] = acc[j][i];
    __syncthreads();
    load_run(w, run + WARPS, n_chunks, a);
    for (int i = 0; i < S::mine; i++) {
      const uint32_t number = threadIdx.x + i * WARPS * WARP, row = number % AII_PANEL, col = number / AII_PANEL;
      for (uint32_t r = 0; r < min((uint32_t)WARPS, n_runs - at) && col < S::cols; r++)
        sums[i] += parts[(r * S::cols + col) * S::stride + row];
    }
    __syncthreads();
  }
}

struct few_rounded {
  aii_cuda_product p[AII_CUDA_MAX_PRODUCTS];
  uint32_t begin[AII_CUDA_MAX_PRODUCTS]; /* block of the grid where each begins */
  uint32_t n;
  int act;            /* -1: none; else p[0] is a gate, and p[1] what it gates: together they have a block */
  aii_cuda_norm norm; /* x NULL: rows are as they are; else there is one */
};

/* Shared memory for a row that is normalised. */
static size_t normed_bytes(const few_rounded &all)
{
  return all.norm.x != NULL ? (norm_piece<1>::FLOATS + all.norm.n) * sizeof(float) : 0;
}

template <int TILES, bool READY>
__global__ void __launch_bounds__(WARPS *WARP, 1) few_bf16(few_rounded all, size_t panel_bytes)
{
  typedef few_shape<TILES> S;
  __shared__ float parts[WARPS * S::cols * S::stride];
  __shared__ norm_state<1> state;
  AII_DYNAMIC_SHARED(memory);
  let_next_come();
  const bool gated = all.act >= 0, norms = !READY && all.norm.x != NULL;
  uint32_t at = 0;
  for (uint32_t i = 1; i < all.n && !gated; i++) at = blockIdx.x >= all.begin[i] ? i : at;
  const uint32_t n = all.p[at].n, n_out = all.p[at].n_out, each = takes_turns(all.p[at]) ? 1 : S::cols,
                 first = blockIdx.y * each, cols = min(each, n - first), panel = blockIdx.x - all.begin[at];
  float gates[S::mine] = {0}, *row = (float *)memory + norm_piece<1>::FLOATS;
  if (all.p[at].ids != NULL) wait_for_last();
#pragma unroll 1
  for (uint32_t i = 0; i <= gated; i++) {
    const aii_cuda_product &p = all.p[at + i];
    const matrix m = matrix_of(p, first);
    inputs<TILES, READY> in = inputs_of<TILES, READY>(p, first, cols);
    if (norms) {
      in.x = row;
      in.pairs = has_pairs(row, p.n_in);
    }
    float sums[S::mine];
    panel_sums<TILES, READY>(p, in, m.w + panel * panel_bytes, parts, sums, [&] {
      wait_for_last();
      if (norms && i == 0) put_normed<1, WARPS * WARP>(all.norm, all.norm.x, 1, (float *)memory, state, row);
    });
    for (int j = 0; j < S::mine; j++) {
      const uint32_t number = threadIdx.x + j * WARPS * WARP, out = panel * AII_PANEL + number % AII_PANEL,
                     col = number / AII_PANEL;
      if (col >= cols) continue;
      if (!gated) put(p, m, out, first + col, sums[j]);
      else if (i == 0) gates[j] = biased(m, out, n_out, sums[j]);
      else if (out < n_out)
        all.p[0].y[(size_t)(first + col) * n_out + out] = activated(all.act, gates[j], biased(m, out, n_out, sums[j]));
    }
  }
}

/* ---- many rows ---- */

/* M x N warps, each with PANELS panels and TILES times 8 columns; so many stages of a chunk each. */
template <int M_, int N_, int PANELS_, int TILES_, int STAGES_> struct tile_shape {
  static const int M = M_, N = N_, PANELS = PANELS_, TILES = TILES_, STAGES = STAGES_;
  static const int threads = M * N * WARP, panels = M * PANELS, tiles = N * TILES, cols = 8 * tiles;
};
typedef tile_shape<2, 4, 4, 4, 3> large;
typedef tile_shape<2, 2, 2, 4, 4> small;

template <class C> struct stage {
  uint4 w[C::panels][2][WARP], x[C::tiles][WARP];
};

/* What a thread copies of a chunk: where its 16 bytes of the first one are, of panels and of columns; NULL: of one that is
 * not there. */
template <class C> struct sources {
  static const int n_w = C::panels * 2 * WARP / C::threads, n_x = C::tiles * WARP / C::threads;
  static_assert(n_w * C::threads == C::panels * 2 * WARP && n_x * C::threads == C::tiles * WARP, "whole rounds");
  const unsigned char *w[n_w], *x[n_x];
};

template <class C>
__device__ inline sources<C> sources_of(const aii_cuda_product &p, const unsigned char *w, size_t panel_bytes,
                                        const columns &mine)
{
  sources<C> from;
#pragma unroll
  for (int i = 0; i < from.n_w; i++) {
    const uint32_t number = threadIdx.x + i * C::threads, panel = blockIdx.x * C::panels + number / (2 * WARP);
    from.w[i] = panel * AII_PANEL < p.n_out ? w + panel * panel_bytes + number % (2 * WARP) * 16 : NULL;
  }
#pragma unroll
  for (int i = 0; i < from.n_x; i++) {
    const uint32_t number = threadIdx.x + i * C::threads, col = number / 4, row = column_at(mine, col) / p.repeat;
    const size_t piece = (size_t)(row / 8) * chunks_of(p) * PIECE + (row % 8 * 4 + number % 4) * 16;
    from.x[i] = col < mine.n ? (const unsigned char *)p.x_bf16 + piece : NULL;
  }
  return from;
}

template <class C> __device__ inline void fetch(const sources<C> &from, uint32_t chunk, stage<C> &to)
{
#pragma unroll
  for (int i = 0; i < from.n_w; i++)
    if (from.w[i] != NULL)
      async_copy16((uint4 *)to.w + threadIdx.x + i * C::threads, from.w[i] + (size_t)chunk * 2 * PIECE);
#pragma unroll
  for (int i = 0; i < from.n_x; i++)
    if (from.x[i] != NULL)
      async_copy16((uint4 *)to.x + threadIdx.x + i * C::threads, from.x[i] + (size_t)chunk * PIECE);
}

template <class C>
__device__ inline void compute(const stage<C> &from, uint32_t panel, uint32_t tile, float acc[C::PANELS][C::TILES][4])
{
  const uint32_t lane = threadIdx.x % WARP;
  uint32_t b[C::TILES][4];
#pragma unroll
  for (int j = 0; j < C::TILES; j++) load_words<4>(&from.x[tile + j][lane], b[j]);
#pragma unroll
  for (int half = 0; half < 2; half++) {
    uint32_t a[C::PANELS][4];
#pragma unroll
    for (int i = 0; i < C::PANELS; i++) load_words<4>(&from.w[panel + i][half][lane], a[i]);
#pragma unroll
    for (int i = 0; i < C::PANELS; i++)
#pragma unroll
      for (int j = 0; j < C::TILES; j++) mma(acc[i][j], a[i], b[j] + 2 * half);
  }
}

template <class C> __device__ inline void end_run(float acc[C::PANELS][C::TILES][4], float sums[C::PANELS][C::TILES][4])
{
#pragma unroll
  for (int i = 0; i < C::PANELS; i++)
#pragma unroll
    for (int j = 0; j < C::TILES; j++)
#pragma unroll
      for (int k = 0; k < 4; k++) {
        sums[i][j][k] += acc[i][j][k];
        acc[i][j][k] = 0;
      }
}

template <class C>
__global__ void __launch_bounds__(C::threads, C::threads > 128 ? 1 : 4)
    many_bf16(aii_cuda_product p, size_t panel_bytes)
{
  begin_kernel();
  __shared__ stage<C> stages[C::STAGES];
  const columns mine = columns_of(p, C::cols);
  if (mine.n == 0) return;
  const matrix m = matrix_at(p, mine.matrix);
  const uint32_t warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, panel = warp % C::M * C::PANELS,
                 tile = warp / C::M * C::TILES, n_chunks = chunks_of(p);
  const sources<C> from = sources_of<C>(p, m.w, panel_bytes, mine);
  float acc[C::PANELS][C::TILES][4] = {{{0}}}, sums[C::PANELS][C::TILES][4] = {{{0}}};
  for (uint32_t s = 0; s + 1 < C::STAGES; s++) {
    if (s < n_chunks) fetch<C>(from, s, stages[s]);
    async_commit();
  }
  for (uint32_t s = 0; s < n_chunks; s++) {
    const uint32_t next = s + C::STAGES - 1;
    async_wait<C::STAGES - 2>();
    __syncthreads();
    if (next < n_chunks) fetch<C>(from, next, stages[next % C::STAGES]);
    async_commit();
    if (8 * tile >= mine.n) continue; /* a whole warp has no columns */
    compute<C>(stages[s % C::STAGES], panel, tile, acc);
    if (s % RUN_CHUNKS == RUN_CHUNKS - 1 || s + 1 == n_chunks) end_run<C>(acc, sums);
  }
#pragma unroll
  for (int j = 0; j < C::TILES; j++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const uint32_t c = 8 * (tile + j) + 2 * (lane % 4) + half, col = column_at(mine, c);
      if (c >= mine.n) continue;
#pragma unroll
      for (int i = 0; i < 2 * C::PANELS; i++)
        put(p, m, (blockIdx.x * C::panels + panel) * AII_PANEL + lane / 4 + 8 * i, col,
            sums[i / 2][j][i % 2 * 2 + half]);
    }
}

/* ---- launches ---- */

template <int TILES, bool READY> static void launch_few(aii_cuda_stream stream, const few_rounded &whole)
{
  const aii_cuda_product &p = whole.p[0];
  const uint32_t each = takes_turns(p) ? 1 : 8 * TILES;
  const size_t most = (size_t)MAX_GRID / p.n_mats * p.n_mats / p.repeat * p.repeat * each,
               panel_bytes = panel_bytes_of(p);
  few_rounded part = whole;
  for (size_t first = 0; first < p.n; first += most) {
    uint32_t blocks = 0;
    for (uint32_t i = 0; i < whole.n; i++) {
      part.p[i] = part_of(whole.p[i], first, most);
      part.begin[i] = whole.act < 0 ? blocks : 0;
      blocks += i == 0 || whole.act < 0 ? blocks_for(whole.p[i].n_out, AII_PANEL) : 0;
    }
    auto kernel = few_bf16<TILES, READY>;
    const int bytes = (int)normed_bytes(whole);
    AII_LAUNCH_BYTES(kernel, dim3(blocks, blocks_for(part.p[0].n, each)), WARPS * WARP, bytes, stream, part,
                     panel_bytes);
  }
}

template <class C> static void launch_many(aii_cuda_stream stream, const aii_cuda_product &whole)
{
  const size_t panel_bytes = panel_bytes_of(whole), most = most_columns(whole, C::cols);
  for (size_t first = 0; first < whole.n; first += most) {
    const aii_cuda_product p = part_of(whole, first, most);
    const uint32_t tiles = tile_columns(stream, p, C::cols);
    auto kernel = many_bf16<C>;
    AII_LAUNCH(kernel, dim3(blocks_for(p.n_out, AII_PANEL * C::panels), tiles), C::threads, stream, p, panel_bytes);
  }
}

enum { FEW_READY = 32 }; /* columns that are worth no tiles */

static bool fits_few(const aii_cuda_product &p)
{
  return p.x_bf16 == NULL || (p.groups == NULL && p.n <= FEW_READY);
}

static void multiply_few(aii_cuda_stream stream, const few_rounded &all)
{
  if (all.p[0].x_bf16 == NULL) launch_few<1, false>(stream, all);
  else launch_few<FEW_READY / 8, true>(stream, all);
}

void aii::multiply_bf16(aii_cuda_stream stream, const aii_cuda_norm &norm, const aii_cuda_product *p, uint32_t n)
{
  if (fits_few(p[0])) {
    few_rounded all = {{}, {}, n, -1, norm};
    for (uint32_t i = 0; i < n; i++) all.p[i] = p[i];
    multiply_few(stream, all);
    return;
  }
  for (uint32_t i = 0; i < n; i++) {
    if (fills_tiles(p[i], large::panels, large::cols)) launch_many<large>(stream, p[i]);
    else launch_many<small>(stream, p[i]);
  }
}

bool aii::multiply_gated_bf16(aii_cuda_stream stream, const aii_cuda_norm &norm, int act, const aii_cuda_product &gate,
                              const aii_cuda_product &up)
{
  if (!fits_few(gate)) return false;
  multiply_few(stream, few_rounded{{gate, up}, {}, 2, act, norm});
  return true;
}
