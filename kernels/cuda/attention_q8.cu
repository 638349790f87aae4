/* attention_q8.cu - attention over a cache of Q8_0: tensor cores multiply, as integers, which are exact in any order.
 *
 * A warp takes 16 queries. Its scores are sums over blocks of 32 dims, an mma each for 8 keys, which are then multiplied by
 * both scales and added up in order. For values, the weights of a tile times the scales of a block of 32 dims become
 * integers of 15 bits; their high and low bytes are multiplied apart, 32 positions an mma. Each thread makes those of its
 * fragments for itself, so that nothing waits between them.
 *
 * Keys and values come as pieces of 64 rows by 128 bytes. The piece behind is fetched into registers, 128 bytes a warp at a
 * time, while this one is computed with. Values are turned on their way to shared memory: four positions to a word.
 *
 * A tile costs a block of 64 queries and 128 dims 17 KiB of reads. The 48 mma of a warp are little beside what is around
 * them: about 300 instructions a warp for scores, 800 for values and 250 for the softmax, by count of the source; floats
 * take 2,048 multiplications with additions a warp for scores, and as many for values.
 */
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
    ROWS = QUERIES / 16, /* warps across queries */
    WARPS = ROWS == 1 ? 4 : 8,
    THREADS_ = WARPS * WARP,
    KEYS = 8 * ROWS / WARPS,             /* times 8 keys of a warp */
    BLOCKS = 4 * ROWS / WARPS,           /* of 32 dims of a piece of values, of a warp */
    PIECE = 128,                         /* dims of a piece */
    KEY_STRIDE = PIECE / 4 + 4,          /* words; so that the threads of a fragment find different banks */
    VALUE_STRIDE = PIECE + 8,            /* words of four positions */
    WORDS = TILE * PIECE / 4 / THREADS_, /* of a piece, of a thread */
    SCALES = TILE * PIECE / AII_QBLOCK / THREADS_
  };
  struct memory {
    uint32_t tile[TILE * KEY_STRIDE]; /* more than TILE / 4 * VALUE_STRIDE */
    float scales[PIECE / AII_QBLOCK * TILE];
    common<QUERIES> c;
  };
  struct piece {
    uint32_t words[WORDS];
    uint16_t scales[SCALES];
  };
  struct sums {
    float at[CHUNKS][BLOCKS][4][4]; /* [..][..][8 dims][of a fragment] */
  };
};

/* Queries in shared memory, as words of four int8 and as scales. */
struct queries {
  uint32_t *words;
  float *scales;
  uint32_t stride, n_blocks;
};

__host__ __device__ inline uint32_t word_stride(uint32_t head_dim)
{
  return head_dim / 4 + 4;
}

/* c += a b over 32 integers: the fragments of mma.m16n8k32 as PTX defines them. Lane: g = lane / 4, t = lane % 4.
 * a[0], a[1]: elements 4 t .. of rows g, g + 8; a[2], a[3]: elements 16 + 4 t ... b: the same of column g. c: columns 2 t
 * and 2 t + 1 of row g, then of row g + 8. */
__device__ inline void mma_int8(int c[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
#ifdef __CUDACC__
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  const uint32_t b[2] = {b0, b1};
  cuda_on_cpu::mma_s8(c, a, b, 2);
#endif
}

/* The same with a from 0 to 255. */
__device__ inline void mma_uint8(int c[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
#ifdef __CUDACC__
  asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  const uint32_t b[2] = {b0, b1};
  cuda_on_cpu::mma_u8s8(c, a, b);
#endif
}

/* Which queries, keys and blocks of dims a thread has. */
struct place {
  uint32_t g, t, query, part;
};

template <class S> __device__ inline place my_place()
{
  const uint32_t warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  place p = {lane / 4, lane % 4, warp % S::ROWS * 16, warp / S::ROWS};
  return p;
}

/* ---- pieces ---- */

/* Row of the tile that word n of this thread is of; it is word threadIdx.x % WARP of the piece's. */
template <class S> __device__ inline uint32_t row_of_word(int n)
{
  return 4 * (threadIdx.x / WARP + (uint32_t)(n / 4) * S::WARPS) + (uint32_t)(n % 4);
}

template <class S>
__device__ void fetch(const aii_cuda_attn &a, const work &w, const common<S::QUERIES> &c, bool values, uint32_t at,
                      uint32_t number, typename S::piece &p)
{
  const uint32_t dim = values ? a.kv.value_dim : a.kv.head_dim, d = number * S::PIECE + threadIdx.x % WARP * 4,
                 tile = at % AII_CUDA_SPLIT;
#pragma unroll
  for (int n = 0; n < S::WORDS; n++) {
    slot s = c.slots[tile + row_of_word<S>(n)];
    p.words[n] = 0;
    if (s.block == AII_NOWHERE || d >= dim) continue;
    AII_COUNT_READ(4);
    p.words[n] = *(const uint32_t *)(cached(a.kv, values, w.kv_head, s) + d);
  }
#pragma unroll
  for (int n = 0; n < S::SCALES; n++) {
    uint32_t i = threadIdx.x + (uint32_t)n * S::THREADS_, b = number * (S::PIECE / AII_QBLOCK) + i % 4;
    slot s = c.slots[tile + i / 4];
    p.scales[n] = 0;
    if (s.block == AII_NOWHERE || b * AII_QBLOCK >= dim) continue;
    AII_COUNT_READ(2);
    p.scales[n] = cached_scales(a.kv, values, w.kv_head, s)[b];
  }
}

template <class S> __device__ void open_scales(const typename S::piece &p, float *scales)
{
#pragma unroll
  for (int n = 0; n < S::SCALES; n++) {
    uint32_t i = threadIdx.x + (uint32_t)n * S::THREADS_;
    scales[i % 4 * TILE + i / 4] = float_of_half(p.scales[n]);
  }
}

template <class S> __device__ void open_keys(const typename S::piece &p, typename S::memory &s)
{
#pragma unroll
  for (int n = 0; n < S::WORDS; n++) s.tile[row_of_word<S>(n) * S::KEY_STRIDE + threadIdx.x % WARP] = p.words[n];
  open_scales<S>(p, s.scales);
}

/* Four positions by four dims, turned: words of four positions. */
__device__ inline uint4 turned(const uint32_t *x)
{
  const uint32_t low01 = __byte_perm(x[0], x[1], 0x5140), low23 = __byte_perm(x[2], x[3], 0x5140),
                 high01 = __byte_perm(x[0], x[1], 0x7362), high23 = __byte_perm(x[2], x[3], 0x7362);
  return make_uint4(__byte_perm(low01, low23, 0x5410), __byte_perm(low01, low23, 0x7632),
                    __byte_perm(high01, high23, 0x5410), __byte_perm(high01, high23, 0x7632));
}

template <class S> __device__ void open_values(const typename S::piece &p, typename S::memory &s)
{
#pragma unroll
  for (int n = 0; n < S::WORDS; n += 4)
    *(uint4 *)&s.tile[row_of_word<S>(n) / 4 * S::VALUE_STRIDE + threadIdx.x % WARP * 4] = turned(p.words + n);
  open_scales<S>(p, s.scales);
}

/* ---- scores ---- */

/* To integers by blocks of 32; a warp takes one. */
template <class S>
__device__ void load_queries(const aii_cuda_attn &a, const work &w, const common<S::QUERIES> &c, const queries &q)
{
  const uint32_t lane = threadIdx.x % WARP;
  const float scale = query_scale(a);
  for (uint32_t at = threadIdx.x / WARP; at < S::QUERIES * q.n_blocks; at += S::WARPS) {
    uint32_t i = at / q.n_blocks, b = at % q.n_blocks;
    float v = i < w.n_q ? scale * query_dim(a, w, c, i, b * AII_QBLOCK + lane) : 0;
    float amax = warp_amax(v), inverse = amax != 0 ? 127 / amax : 0;
    if (lane == 0) q.scales[at] = amax / 127;
    int8_t *bytes = (int8_t *)(q.words + i * q.stride);
    bytes[b * AII_QBLOCK + lane] = (int8_t)fmaxf(-127, fminf(127, rintf(v * inverse)));
  }
}

/* Adds the blocks of a piece to the scores of this thread. */
template <class S>
__device__ void add_scores(const typename S::memory &s, const queries &q, uint32_t number, const place &p,
                           float sums[S::KEYS][4])
{
  const uint32_t first = number * (S::PIECE / AII_QBLOCK), n = min(q.n_blocks - first, (uint32_t)S::PIECE / AII_QBLOCK);
  const uint32_t *row = q.words + (p.query + p.g) * q.stride + p.t;
  const float *scales = q.scales + (p.query + p.g) * q.n_blocks;
  for (uint32_t b = 0; b < n; b++) {
    const uint32_t *x = row + 8 * (first + b), *below = x + 8 * q.stride;
    const uint32_t words[4] = {x[0], below[0], x[4], below[4]};
    const float mine[2] = {scales[first + b], scales[8 * q.n_blocks + first + b]};
#pragma unroll
    for (int k = 0; k < S::KEYS; k++) {
      const uint32_t key = (p.part * S::KEYS + (uint32_t)k) * 8,
                     *y = s.tile + (key + p.g) * S::KEY_STRIDE + 8 * b + p.t;
      const float *theirs = s.scales + b * TILE + key + 2 * p.t;
      int c[4] = {0, 0, 0, 0};
      mma_int8(c, words, y[0], y[4]);
#pragma unroll
      for (int i = 0; i < 4; i++) sums[k][i] = fmaf((float)c[i], theirs[i % 2] * mine[i / 2], sums[k][i]);
    }
  }
}

template <class S> __device__ void put_scores(const float sums[S::KEYS][4], const place &p, common<S::QUERIES> &c)
{
#pragma unroll
  for (int k = 0; k < S::KEYS; k++)
#pragma unroll
    for (int i = 0; i < 4; i++) {
      uint32_t key = (p.part * S::KEYS + (uint32_t)k) * 8 + 2 * p.t + (uint32_t)(i % 2);
      c.weights[key * c.STRIDE + p.query + p.g + 8 * (uint32_t)(i / 2)] = sums[k][i];
    }
}

/* ---- values ---- */

/* Of four weights, as integers in the low 16 bits: their high bytes and their low ones. */
__device__ inline void split_bytes(const uint32_t n[4], uint32_t *high, uint32_t *low)
{
  *high = __byte_perm(__byte_perm(n[0], n[1], 0x5151), __byte_perm(n[2], n[3], 0x5151), 0x5410);
  *low = __byte_perm(__byte_perm(n[0], n[1], 0x4040), __byte_perm(n[2], n[3], 0x4040), 0x5410);
}

/* The weights of a query times the scales of a block of dims, as integers in fragments [32 positions][of a fragment], of
 * which it is the upper row or the lower one, r; returns what the largest of them is. A thread has a quarter of them, those
 * of the positions 16 k + 4 t + e. Adding 1.5 * 2^23 rounds as rint does and leaves the integer in the low bits. */
template <int QUERIES>
__device__ inline float weigh(const common<QUERIES> &c, uint32_t query, const float *scales, uint32_t t, int r,
                              uint32_t high[2][4], uint32_t low[2][4])
{
  float x[TILE / 4], most = 0;
#pragma unroll
  for (int i = 0; i < TILE / 4; i++) {
    const uint32_t position = (uint32_t)(16 * (i / 4) + i % 4) + 4 * t;
    x[i] = c.weights[position * c.STRIDE + query] * scales[position];
    most = fmaxf(most, x[i]);
  }
  most = fmaxf(most, __shfl_xor_sync(AII_FULL_WARP, most, 1));
  most = fmaxf(most, __shfl_xor_sync(AII_FULL_WARP, most, 2));
  const float inverse = most != 0 ? 32767 / most : 0;
#pragma unroll
  for (int k = 0; k < 4; k++) {
    uint32_t n[4];
#pragma unroll
    for (int e = 0; e < 4; e++) n[e] = bits_of_float(x[4 * k + e] * inverse + 0x1.8p+23f);
    split_bytes(n, &high[k / 2][k % 2 * 2 + r], &low[k / 2][k % 2 * 2 + r]);
  }
  return most;
}

/* A piece of 128 dims: this warp's blocks of it. */
template <class S>
__device__ void add_values(const typename S::memory &s, uint32_t n_blocks, const place &p, float acc[S::BLOCKS][4][4])
{
#pragma unroll
  for (int u = 0; u < S::BLOCKS; u++) {
    const uint32_t b = p.part * S::BLOCKS + (uint32_t)u;
    if (b >= n_blocks) break;
    uint32_t high[2][4], low[2][4];
    float factor[2];
#pragma unroll
    for (int r = 0; r < 2; r++)
      factor[r] = weigh(s.c, p.query + p.g + 8 * (uint32_t)r, s.scales + b * TILE, p.t, r, high, low) / 32767;
#pragma unroll
    for (int d = 0; d < 4; d++) {
      const uint32_t *x = s.tile + p.t * S::VALUE_STRIDE + b * AII_QBLOCK + 8 * (uint32_t)d + p.g;
      int upper[4] = {0, 0, 0, 0}, lower[4] = {0, 0, 0, 0};
#pragma unroll
      for (int k = 0; k < 2; k++) {
        uint32_t first = x[8 * k * S::VALUE_STRIDE], second = x[(8 * k + 4) * S::VALUE_STRIDE];
        mma_uint8(upper, high[k], first, second);
        mma_uint8(lower, low[k], first, second);
      }
#pragma unroll
      for (int i = 0; i < 4; i++) acc[u][d][i] = fmaf((float)(256 * upper[i] + lower[i]), factor[i / 2], acc[u][d][i]);
    }
  }
}

template <class S> __device__ void shrink(const common<S::QUERIES> &c, const place &p, typename S::sums &acc)
{
  const float factors[2] = {c.factor[p.query + p.g], c.factor[p.query + p.g + 8]};
#pragma unroll
  for (int k = 0; k < S::CHUNKS; k++)
#pragma unroll
    for (int u = 0; u < S::BLOCKS; u++)
#pragma unroll
      for (int i = 0; i < 16; i++) acc.at[k][u][i / 4][i % 4] *= factors[i % 4 / 2];
}

/* ---- the kernel ---- */

template <class S> __global__ void __launch_bounds__(S::THREADS_, 2) attend_q8(aii_cuda_attn a)
{
  begin_kernel();
  AII_DYNAMIC_SHARED(shared);
  typename S::memory &s = *(typename S::memory *)shared;
  const work w = work_of(a, S::QUERIES);
  if (w.from >= w.end) return; /* none of its rows sees the split */
  queries q = {(uint32_t *)(shared + sizeof s), NULL, word_stride(a.kv.head_dim), a.kv.head_dim / AII_QBLOCK};
  q.scales = (float *)(q.words + S::QUERIES * q.stride);
  const place p = my_place<S>();
  const uint32_t pieces = (a.kv.head_dim + S::PIECE - 1) / S::PIECE, value_blocks = a.kv.value_dim / AII_QBLOCK;
  const bool works = p.query < w.n_q; /* this warp */
  softmax<S::QUERIES, S::THREADS_> soft;
  typename S::sums acc = {};
  typename S::piece raw;
  begin(soft);
  prepare<S::QUERIES, S::THREADS_>(a, w, s.c);
  place_own<S::QUERIES, S::THREADS_>(a, w, s.c);
  load_queries<S>(a, w, s.c, q);
  __syncthreads();
  uint32_t at = w.from / TILE * TILE;
  fetch<S>(a, w, s.c, false, at, 0, raw);
  for (; at < w.end; at += TILE) {
    ask_for<S::QUERIES, S::THREADS_>(a, w, at + TILE, s.c);
    float sums[S::KEYS][4] = {};
    for (uint32_t piece = 0; piece < pieces; piece++) {
      open_keys<S>(raw, s);
      __syncthreads();
      fetch<S>(a, w, s.c, piece + 1 == pieces, at, piece + 1 == pieces ? 0 : piece + 1, raw);
      if (works) add_scores<S>(s, q, piece, p, sums);
      __syncthreads();
    }
    put_scores<S>(sums, p, s.c);
    __syncthreads();
    soften<S::QUERIES, S::THREADS_>(a, at, s.c, soft);
#pragma unroll
    for (int piece = 0; piece < S::CHUNKS; piece++) {
      const uint32_t first = (uint32_t)piece * (S::PIECE / AII_QBLOCK);
      if (first >= value_blocks) break;
      open_values<S>(raw, s);
      __syncthreads();
      if (first + S::PIECE / AII_QBLOCK < value_blocks) fetch<S>(a, w, s.c, true, at, (uint32_t)piece + 1, raw);
      else if (at + TILE < w.end) fetch<S>(a, w, s.c, false, at + TILE, 0, raw);
      if (works && piece == 0) shrink<S>(s.c, p, acc);
      if (works) add_values<S>(s, value_blocks - first, p, acc.at[piece]);
      __syncthreads();
    }
  }
  finish<S::QUERIES, S::THREADS_>(a, w, s.c, soft);
#pragma unroll
  for (int k = 0; k < S::CHUNKS; k++)
#pragma unroll
    for (int u = 0; u < S::BLOCKS; u++)
#pragma unroll
      for (int i = 0; i < 16; i++)
        put(a, w, s.c, p.query + p.g + 8 * (uint32_t)(i % 4 / 2),
            (uint32_t)k * S::PIECE + (p.part * S::BLOCKS + (uint32_t)u) * AII_QBLOCK + 8 * (uint32_t)(i / 4) + 2 * p.t +
                (uint32_t)(i % 2),
            acc.at[k][u][i / 4][i % 4]);
  complete<S::QUERIES, S::THREADS_>(a, w, s.c);
}

/* ---- launches ---- */

template <int QUERIES, int CHUNKS> void launch(aii_cuda_stream stream, const aii_cuda_attn &a)
{
  typedef shape<QUERIES, CHUNKS> S;
  const size_t bytes =
      sizeof(typename S::memory) + QUERIES * (word_stride(a.kv.head_dim) + a.kv.head_dim / AII_QBLOCK) * sizeof(float);
  auto kernel = attend_q8<S>;
  AII_LAUNCH_SHARED(kernel, attend_grid(a, QUERIES), S::THREADS_, bytes, 0, stream, a);
}

} // namespace

void aii_cuda_attend_q8(aii_cuda_stream stream, const aii_cuda_attn &a, uint32_t queries)
{
  const uint32_t dim = a.kv.value_dim;
  if (queries > 16 && dim <= 128) launch<64, 1>(stream, a);
  else if (queries > 16) launch<32, 2>(stream, a);
  else if (dim <= 128) launch<16, 1>(stream, a);
  else if (dim <= 256) launch<16, 2>(stream, a);
  else if (dim <= 512) launch<16, 4>(stream, a);
  else launch<16, 8>(stream, a);
}
