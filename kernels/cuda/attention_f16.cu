/* attention_f16.cu - attention over a cache of F16, of queries and weights that are rounded to F16: tensor cores multiply.
 *
 * This is asked for, as its results are not the CPU's bits. But they depend on a row alone: a score is one chain of
 * instructions over its dims, 16 at a time, and a dim of a result one over the positions of a split, 16 at a time, which is
 * multiplied where the softmax takes another maximum. All kernels here do so, however many queries a block has. What a row
 * does not see has the weight zero, which adds nothing to a sum. The softmax adds up the weights as they were rounded: those
 * of a row come to one.
 *
 * Keys and values come as pieces of 64 rows by 128 dims, straight to shared memory; the piece behind is on its way while this
 * one is computed with. Four warps share a tile: with 64 queries each has 32 of them by 32 keys, then by 64 dims of the
 * values.
 *
 * A tile costs a block of 64 queries and 128 dims 32 KiB of reads, and a warp, by count of the machine code, some 1,800
 * instructions: 128 of tensor cores, 48 that bring their fragments, 900 for the softmax, 350 to ask for what comes next, and
 * 150 for scores and weights on their way through shared memory. Floats take 8,192 multiplications with additions.
 */
#include "kernels/cuda/async.h"
#include "kernels/cuda/merge.h"
#include "kernels/cuda/own.h"

using namespace aii;

namespace
{

/* Values have at most CHUNKS * 128 dims. */
template <int QUERIES_, int CHUNKS_> struct shape {
  enum {
    QUERIES = QUERIES_,
    CHUNKS = CHUNKS_,
    WARPS = 4,
    THREADS_ = WARPS * WARP,
    BLOCKS = CHUNKS <= 2 ? 3 : 2, /* of a multiprocessor, at least */
    HIGH = QUERIES == 16 ? 1 : 2, /* times 16 queries of a warp */
    ROWS = QUERIES / (16 * HIGH), /* warps across queries */
    SHARES = WARPS / ROWS,        /* warps with the same queries */
    PIECE = 128,                  /* dims of a piece */
    STRIDE = PIECE + 8,           /* so that eight rows find different banks */
    KEYS = TILE / SHARES / 16,    /* times 16 keys of a warp */
    DIMS = PIECE / SHARES / 16,   /* times 16 dims of a piece of values, of a warp */
    STEPS = TILE / 16,            /* times 16 positions */
    UNIT = 8,                     /* halves of a copy */
    COPIES = TILE * PIECE / UNIT / THREADS_
  };
  struct alignas(16) memory {
    uint16_t tile[2][TILE * STRIDE];
    common<QUERIES> c;
  };
  struct scores {
    float at[HIGH][2 * KEYS][4]; /* [16 queries][8 keys][of a fragment] */
  };
  struct weights {
    uint32_t at[HIGH][STEPS][4];
  };
  struct sums {
    float at[CHUNKS][HIGH][2 * DIMS][4];
  };
};

/* Of a row of queries in shared memory. */
__host__ __device__ inline uint32_t query_stride(uint32_t head_dim)
{
  return head_dim + 8;
}

/* ---- fragments ---- */

/* c += a b over 16 elements, as mma.m16n8k16 has its fragments. Lane: g = lane / 4, t = lane % 4. a[0], a[1]: elements 2 t
 * and 2 t + 1 of rows g, g + 8; a[2], a[3]: 8 elements on. b: the same of column g. c: columns 2 t and 2 t + 1 of rows g,
 * g + 8. */
__device__ inline void mma(float c[4], const uint32_t a[4], const uint32_t b[2])
{
#ifdef __CUDACC__
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  cuda_on_cpu::mma_k16(c, a, b, float_of_half);
#endif
}

/* Four matrices of 8 rows of 16 bytes, whose addresses 8 threads each give. A thread gets elements 2 t and 2 t + 1 of row g
 * of each; turned: of column g. */
template <bool TURNED> __device__ inline void load_matrices(const uint16_t *row, uint32_t out[4])
{
#ifdef __CUDACC__
  const uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
  if (TURNED)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(at)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(at)
                 : "memory");
#else
  cuda_on_cpu::load_matrices(out, row, TURNED);
#endif
}

/* Which queries, keys and dims a thread has, and the row and the 8 elements of 16 by 16 whose address it gives: down, the
 * second matrix lies below the first; else beside it. */
struct place {
  uint32_t g, t, query, part;
  uint32_t row_down, at_down, row_beside, at_beside;
};

template <class S> __device__ inline place my_place()
{
  const uint32_t warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, second = lane / 8 % 2 * 8, third = lane / 16 * 8;
  place p = {lane / 4,         lane % 4, warp % S::ROWS * 16 * S::HIGH, warp / S::ROWS, lane % 8 + second, third,
             lane % 8 + third, second};
  return p;
}

/* ---- pieces ---- */

struct piece {
  uint32_t at, number; /* the tile's first position; which of its pieces */
  bool values;
};

template <class S> __device__ inline piece after(const aii_cuda_kv &kv, piece p)
{
  const uint32_t dim = p.values ? kv.value_dim : kv.head_dim;
  p.number++;
  if (p.number * S::PIECE < dim) return p;
  return {p.values ? p.at + TILE : p.at, 0, !p.values};
}

/* Rows that nobody sees become zero; dims that are not there stay as they are. */
template <class S>
__device__ void ask(const aii_cuda_attn &a, const work &w, const common<S::QUERIES> &c, const piece &p, uint16_t *tile)
{
  const uint32_t dim = p.values ? a.kv.value_dim : a.kv.head_dim, at = threadIdx.x % (S::PIECE / S::UNIT) * S::UNIT,
                 d = p.number * S::PIECE + at, row_bytes = dim * (uint32_t)sizeof(uint16_t);
  const char *first = cached(a.kv, p.values, w.kv_head, {0, 0}) + d * sizeof(uint16_t);
#pragma unroll
  for (int n = 0; n < S::COPIES && d < dim; n++) {
    const uint32_t row = threadIdx.x / (S::PIECE / S::UNIT) + (uint32_t)n * (S::THREADS_ * S::UNIT / S::PIECE);
    const slot s = c.slots[p.at % AII_CUDA_SPLIT + row];
    const bool there = s.block != AII_NOWHERE;
    if (there) AII_COUNT_READ(16);
    async_copy16_if(there, tile + row * S::STRIDE + at,
                    first + (there ? s.block : 0) * a.kv.block_bytes + s.within * row_bytes);
  }
  async_commit();
}

/* The piece that was asked for is there, and the next one is asked for. */
template <class S>
__device__ const uint16_t *arrived(const aii_cuda_attn &a, const work &w, typename S::memory &s, piece *coming,
                                   uint32_t *stage)
{
  const uint16_t *tile = s.tile[*stage];
  async_wait<0>();
  __syncthreads(); /* and nobody reads the piece before any more */
  *stage ^= 1;
  *coming = after<S>(a.kv, *coming);
  if (coming->at < w.end) ask<S>(a, w, s.c, *coming, s.tile[*stage]);
  return tile;
}

/* ---- scores ---- */

/* The nearest number that a half can be. */
__device__ inline float within_halves(float x)
{
  return fmaxf(-65504, fminf(65504, x));
}

/* A warp takes a query at a time, a thread two dims. */
template <class S>
__device__ void load_queries(const aii_cuda_attn &a, const work &w, const common<S::QUERIES> &c, uint32_t stride,
                             uint16_t *q)
{
  const float scale = query_scale(a);
  for (uint32_t i = threadIdx.x / WARP; i < S::QUERIES; i += S::WARPS)
    for (uint32_t d = threadIdx.x % WARP * 2; d < a.kv.head_dim; d += 2 * WARP) {
      const bool there = i < w.n_q;
      const float x = there ? scale * query_dim(a, w, c, i, d) : 0,
                  y = there ? scale * query_dim(a, w, c, i, d + 1) : 0;
      *(uint32_t *)(q + i * stride + d) = halves_of(within_halves(x), within_halves(y));
    }
}

/* Adds n dims of a piece to the scores of this warp; q: where they begin. */
template <class S>
__device__ void add_scores(const uint16_t *tile, const uint16_t *q, uint32_t stride, uint32_t n, const place &p,
                           typename S::scores &sums)
{
  q += (p.query + p.row_down) * stride + p.at_down;
  tile += (p.part * 16 * S::KEYS + p.row_beside) * S::STRIDE + p.at_beside;
#pragma unroll 2
  for (uint32_t d = 0; d < n; d += 16) {
    uint32_t x[S::HIGH][4];
#pragma unroll
    for (int h = 0; h < S::HIGH; h++) load_matrices<false>(q + 16 * (uint32_t)h * stride + d, x[h]);
#pragma unroll
    for (int k = 0; k < S::KEYS; k++) {
      uint32_t keys[4];
      load_matrices<false>(tile + 16 * k * S::STRIDE + d, keys);
#pragma unroll
      for (int h = 0; h < S::HIGH; h++) {
        mma(sums.at[h][2 * k], x[h], keys);
        mma(sums.at[h][2 * k + 1], x[h], keys + 2);
      }
    }
  }
}

template <class S> __device__ void put_scores(const typename S::scores &sums, const place &p, common<S::QUERIES> &c)
{
#pragma unroll
  for (int h = 0; h < S::HIGH; h++)
#pragma unroll
    for (int k = 0; k < 2 * S::KEYS; k++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const uint32_t key = p.part * 16 * S::KEYS + 8 * (uint32_t)k + 2 * p.t + (uint32_t)(i % 2);
        c.weights[key * c.STRIDE + p.query + 16 * (uint32_t)h + p.g + 8 * (uint32_t)(i / 2)] = sums.at[h][k][i];
      }
}

/* ---- values ---- */

template <class S> __device__ void load_weights(const common<S::QUERIES> &c, const place &p, typename S::weights &to)
{
#pragma unroll
  for (int h = 0; h < S::HIGH; h++)
#pragma unroll
    for (int k = 0; k < S::STEPS; k++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float *x = c.weights + (16 * (uint32_t)k + 8 * (uint32_t)(i / 2) + 2 * p.t) * c.STRIDE + p.query +
                         16 * (uint32_t)h + p.g + 8 * (uint32_t)(i % 2);
        to.at[h][k][i] = halves_of(x[0], x[c.STRIDE]);
      }
}

template <class S> __device__ void shrink(const common<S::QUERIES> &c, const place &p, typename S::sums &acc)
{
#pragma unroll
  for (int h = 0; h < S::HIGH; h++) {
    const uint32_t query = p.query + 16 * (uint32_t)h + p.g;
    const float factors[2] = {c.factor[query], c.factor[query + 8]};
#pragma unroll
    for (int k = 0; k < S::CHUNKS; k++)
#pragma unroll
      for (int d = 0; d < 2 * S::DIMS; d++)
#pragma unroll
        for (int i = 0; i < 4; i++) acc.at[k][h][d][i] *= factors[i / 2];
  }
}

/* A piece that has n dims: this warp's of them. */
template <class S>
__device__ void add_values(const uint16_t *tile, const typename S::weights &weights, uint32_t n, const place &p,
                           float acc[S::HIGH][2 * S::DIMS][4])
{
  tile += p.row_down * S::STRIDE + p.at_down;
#pragma unroll
  for (int k = 0; k < S::STEPS; k++)
#pragma unroll
    for (int d = 0; d < S::DIMS; d++) {
      const uint32_t first = (p.part * S::DIMS + (uint32_t)d) * 16;
      if (first >= n) break;
      uint32_t values[4];
      load_matrices<true>(tile + 16 * k * S::STRIDE + first, values);
#pragma unroll
      for (int h = 0; h < S::HIGH; h++) {
        mma(acc[h][2 * d], weights.at[h][k], values);
        mma(acc[h][2 * d + 1], weights.at[h][k], values + 2);
      }
    }
}

template <class S>
__device__ void put_sums(const aii_cuda_attn &a, const work &w, const common<S::QUERIES> &c, const place &p,
                         const typename S::sums &acc)
{
#pragma unroll
  for (int k = 0; k < S::CHUNKS; k++)
#pragma unroll
    for (int h = 0; h < S::HIGH; h++)
#pragma unroll
      for (int d = 0; d < 2 * S::DIMS; d++)
#pragma unroll
        for (int i = 0; i < 4; i++)
          put(a, w, c, p.query + 16 * (uint32_t)h + p.g + 8 * (uint32_t)(i / 2),
              (uint32_t)k * S::PIECE + p.part * 16 * S::DIMS + 8 * (uint32_t)d + 2 * p.t + (uint32_t)(i % 2),
              acc.at[k][h][d][i]);
}

/* ---- the kernel ---- */

template <class S> __global__ void __launch_bounds__(S::THREADS_, S::BLOCKS) attend_f16(aii_cuda_attn a)
{
  begin_kernel();
  AII_DYNAMIC_SHARED(shared);
  typename S::memory &s = *(typename S::memory *)shared;
  uint16_t *q = (uint16_t *)(shared + sizeof s);
  const work w = work_of(a, S::QUERIES);
  if (w.from >= w.end) return; /* none of its rows sees the split */
  const uint32_t stride = query_stride(a.kv.head_dim);
  const place p = my_place<S>();
  const bool works = p.query < w.n_q; /* this warp */
  softmax<S::QUERIES, S::THREADS_> soft;
  typename S::sums acc = {};
  piece coming = {w.from / TILE * TILE, 0, false};
  uint32_t stage = 0;
  begin(soft);
  prepare<S::QUERIES, S::THREADS_>(a, w, s.c);
  place_own<S::QUERIES, S::THREADS_>(a, w, s.c);
  load_queries<S>(a, w, s.c, stride, q);
  __syncthreads();
  ask<S>(a, w, s.c, coming, s.tile[0]);
  for (uint32_t at = coming.at; at < w.end; at += TILE) {
    ask_for<S::QUERIES, S::THREADS_>(a, w, at + TILE, s.c);
    typename S::scores sums = {};
    for (uint32_t d = 0; d < a.kv.head_dim; d += S::PIECE) {
      const uint16_t *tile = arrived<S>(a, w, s, &coming, &stage);
      if (works) add_scores<S>(tile, q + d, stride, min((uint32_t)S::PIECE, a.kv.head_dim - d), p, sums);
    }
    put_scores<S>(sums, p, s.c);
    __syncthreads();
    soften<S::QUERIES, S::THREADS_, true>(a, at, s.c, soft);
    typename S::weights weights;
#pragma unroll
    for (int k = 0; k < S::CHUNKS; k++) {
      if ((uint32_t)k * S::PIECE >= a.kv.value_dim) break;
      const uint16_t *tile = arrived<S>(a, w, s, &coming, &stage);
      if (!works) continue;
      if (k == 0) {
        load_weights<S>(s.c, p, weights);
        shrink<S>(s.c, p, acc);
      }
      add_values<S>(tile, weights, a.kv.value_dim - (uint32_t)k * S::PIECE, p, acc.at[k]);
    }
  }
  __syncthreads();
  finish<S::QUERIES, S::THREADS_>(a, w, s.c, soft);
  put_sums<S>(a, w, s.c, p, acc);
  complete<S::QUERIES, S::THREADS_>(a, w, s.c);
}

/* ---- launches ---- */

template <int QUERIES, int CHUNKS> void launch(aii_cuda_stream stream, const aii_cuda_attn &a)
{
  typedef shape<QUERIES, CHUNKS> S;
  const size_t bytes = sizeof(typename S::memory) + QUERIES * query_stride(a.kv.head_dim) * sizeof(uint16_t);
  auto kernel = attend_f16<S>;
  AII_LAUNCH_SHARED(kernel, attend_grid(a, QUERIES), S::THREADS_, bytes, 0, stream, a);
}

} // namespace

bool aii_cuda_can_round(const aii_cuda_attn &a)
{
  return a.rounded && a.kv.fmt == AII_FMT_F16 && a.kv.head_dim % 16 == 0 && a.kv.value_dim % 16 == 0;
}

void aii_cuda_attend_f16(aii_cuda_stream stream, const aii_cuda_attn &a, uint32_t queries)
{
  const uint32_t dim = a.kv.value_dim;
  if (queries > 16 && aii_cuda_most_queries(&a.kv) == 64) launch<64, 1>(stream, a);
  else if (queries > 16) launch<32, 2>(stream, a);
  else if (dim <= 128) launch<16, 1>(stream, a);
  else if (dim <= 256) launch<16, 2>(stream, a);
  else if (dim <= 512) launch<16, 4>(stream, a);
  else launch<16, 8>(stream, a);
}
