/* attention.cu - attention over a cache of floats or halves.
 *
 * Keys and values come as pieces of 16 KiB of floats: 64 keys by 64 dims, or some positions by all dims of the values. The
 * piece behind is fetched into registers, 16 bytes a thread at a time, while this one is computed with; then it goes to
 * shared memory as floats. The tile behind is asked for from memory meanwhile. A thread has some keys times some queries
 * while scores are made, and four queries times some dims while values are added up. A score is one chain of additions,
 * and so is each dim of a result: it is their number that keeps the device busy.
 *
 * A tile costs a block of 64 queries and 128 dims in halves 32 KiB of reads for 2 * 64 * 64 * 128 multiplications with
 * additions: 64 FLOP a byte. For 4 dims of scores a thread reads 12 times 16 bytes of shared memory, which takes 24 cycles
 * a warp, and multiplies 128 times, which takes 32; for a position of values 5 times and 64 times, 10 cycles and 16. With
 * the softmax, the barriers and what waits on them, 60 to 70 % of the peak in FP32 are to be expected. A step of decoding
 * is bound by memory: with four query heads to a KV head it has 4 FLOP a byte.
 */
#include "kernels/cuda/merge.h"
#include "kernels/cuda/own.h"

using namespace aii;

namespace
{

/* How a block is cut, for QUERIES queries and values of at most DIMS dims. */
template <int FMT, int QUERIES_, int DIMS_> struct shape {
  enum {
    QUERIES = QUERIES_,
    DIMS = DIMS_,
    THREADS_ = QUERIES == 4 || QUERIES == 64 ? 128 : 256,
    BLOCKS = QUERIES == 64 && FMT == AII_FMT_F16 ? 3 : 2, /* blocks of a multiprocessor, at least */
    UNIT = FMT == AII_FMT_F16 ? 8 : 4,                    /* elements in 16 bytes */
    KEY_DIMS = 64,                                        /* of a piece of keys */
    KEY_STRIDE = KEY_DIMS + 4,                            /* so that 8 keys lie in different banks */
    POSITIONS = TILE * KEY_DIMS / DIMS,                   /* of a piece of values */
    FETCHES = TILE * KEY_DIMS / UNIT / THREADS_,
    /* scores: a warp has 8 threads across keys, 4 across queries; see below */
    WIDE = QUERIES >= 16 ? 4 : QUERIES / 4, /* queries of a thread */
    QUERY_WARPS = QUERIES / (4 * WIDE),
    HIGH = TILE / 8 / (THREADS_ / WARP / QUERY_WARPS), /* keys of a thread */
    /* values: a thread has QUAD queries times TIMES vectors of VECTOR dims */
    ALONE = QUERIES == 4, /* all threads have the same queries */
    DIM_THREADS = THREADS_ / (QUERIES / QUAD),
    OWN = DIMS / DIM_THREADS,
    VECTOR = OWN < 4 ? OWN : 4,
    TIMES = OWN / VECTOR
  };
  struct memory {
    float tile[TILE * KEY_STRIDE];
    common<QUERIES> c;
  };
};

/* A row of queries in shared memory: filled up with zeros to whole vectors, and to different banks. */
__host__ __device__ inline uint32_t query_stride(uint32_t head_dim)
{
  return (head_dim + 3) / 4 * 4 + 4;
}

/* ---- pieces ---- */

__device__ inline uint32_t element_bits(int fmt, const char *row, uint32_t d, uint32_t dim)
{
  if (d >= dim) return 0;
  return fmt == AII_FMT_F16 ? ((const uint16_t *)row)[d] : ((const uint32_t *)row)[d];
}

/* Sixteen bytes of a row from dim d on: zeros where there is none. */
template <int FMT> __device__ inline uint4 fetch(const aii_cuda_kv &kv, bool values, uint32_t head, slot s, uint32_t d)
{
  const uint32_t dim = values ? kv.value_dim : kv.head_dim, unit = FMT == AII_FMT_F16 ? 8 : 4;
  uint4 raw = make_uint4(0, 0, 0, 0);
  if (s.block == AII_NOWHERE || d >= dim) return raw;
  const char *row = cached(kv, values, head, s);
  AII_COUNT_READ(16);
  if (dim % unit == 0) return *(const uint4 *)(row + (size_t)d * (16 / unit));
  if (FMT == AII_FMT_F16) {
    raw.x = element_bits(FMT, row, d, dim) | element_bits(FMT, row, d + 1, dim) << 16;
    raw.y = element_bits(FMT, row, d + 2, dim) | element_bits(FMT, row, d + 3, dim) << 16;
    raw.z = element_bits(FMT, row, d + 4, dim) | element_bits(FMT, row, d + 5, dim) << 16;
    raw.w = element_bits(FMT, row, d + 6, dim) | element_bits(FMT, row, d + 7, dim) << 16;
    return raw;
  }
  return make_uint4(element_bits(FMT, row, d, dim), element_bits(FMT, row, d + 1, dim),
                    element_bits(FMT, row, d + 2, dim), element_bits(FMT, row, d + 3, dim));
}

/* As floats. */
template <int FMT> __device__ inline void open_to(uint4 raw, float *out)
{
  float4 *to = (float4 *)out;
  if (FMT == AII_FMT_F16) {
    to[0] = make_float4(float_of_half((uint16_t)raw.x), float_of_half((uint16_t)(raw.x >> 16)),
                        float_of_half((uint16_t)raw.y), float_of_half((uint16_t)(raw.y >> 16)));
    to[1] = make_float4(float_of_half((uint16_t)raw.z), float_of_half((uint16_t)(raw.z >> 16)),
                        float_of_half((uint16_t)raw.w), float_of_half((uint16_t)(raw.w >> 16)));
  } else {
    to[0] = make_float4(float_of_bits(raw.x), float_of_bits(raw.y), float_of_bits(raw.z), float_of_bits(raw.w));
  }
}

/* Unit n of this thread, of a piece whose rows have so many: a row, and the dim within the piece. */
template <class S> __device__ inline void unit_of(int n, uint32_t units, uint32_t *row, uint32_t *d)
{
  const uint32_t at = threadIdx.x + (uint32_t)n * S::THREADS_;
  *row = at / units;
  *d = at % units * S::UNIT;
}

/* 64 keys from `at` on, dims 64 * piece on. */
template <int FMT, class S>
__device__ void fetch_keys(const aii_cuda_attn &a, const work &w, const common<S::QUERIES> &c, uint32_t at,
                           uint32_t piece, uint4 *raw)
{
#pragma unroll
  for (int n = 0; n < S::FETCHES; n++) {
    uint32_t j, d;
    unit_of<S>(n, S::KEY_DIMS / S::UNIT, &j, &d);
    raw[n] = fetch<FMT>(a.kv, false, w.kv_head, c.slots[at % AII_CUDA_SPLIT + j], piece * S::KEY_DIMS + d);
  }
}

template <int FMT, class S> __device__ void open_keys(const uint4 *raw, float *tile)
{
#pragma unroll
  for (int n = 0; n < S::FETCHES; n++) {
    uint32_t j, d;
    unit_of<S>(n, S::KEY_DIMS / S::UNIT, &j, &d);
    open_to<FMT>(raw[n], tile + j * S::KEY_STRIDE + d);
  }
}

/* Values of the positions POSITIONS * piece on behind `at`. */
template <int FMT, class S>
__device__ void fetch_values(const aii_cuda_attn &a, const work &w, const common<S::QUERIES> &c, uint32_t at,
                             uint32_t piece, uint4 *raw)
{
#pragma unroll
  for (int n = 0; n < S::FETCHES; n++) {
    uint32_t j, d;
    unit_of<S>(n, S::DIMS / S::UNIT, &j, &d);
    raw[n] = fetch<FMT>(a.kv, true, w.kv_head, c.slots[at % AII_CUDA_SPLIT + piece * S::POSITIONS + j], d);
  }
}

template <int FMT, class S> __device__ void open_values(const uint4 *raw, float *tile)
{
#pragma unroll
  for (int n = 0; n < S::FETCHES; n++) {
    uint32_t j, d;
    unit_of<S>(n, S::DIMS / S::UNIT, &j, &d);
    open_to<FMT>(raw[n], tile + j * S::DIMS + d);
  }
}

/* ---- scores ----
 *
 * Sixteen bytes a thread are read from shared memory by half warps, and by quarters unless threads whose numbers differ in
 * the lowest bit, or in the next one, read the same. So the lowest bit of a thread's number is one of its key, the next one of
 * its query: both are read by halves. */

/* The first key of this warp, and the first query. */
template <class S> __device__ inline uint32_t warp_key()
{
  return threadIdx.x / WARP / S::QUERY_WARPS * 8 * S::HIGH;
}

template <class S> __device__ inline uint32_t warp_query()
{
  return threadIdx.x / WARP % S::QUERY_WARPS * 4 * S::WIDE;
}

template <class S> __device__ inline uint32_t score_key(int k)
{
  return warp_key<S>() + (threadIdx.x % 2 | (threadIdx.x / 2 & 6)) + 8 * (uint32_t)k;
}

template <class S> __device__ inline uint32_t score_query(int i)
{
  return warp_query<S>() + (threadIdx.x / 2 % 2 | (threadIdx.x / 8 & 2)) + 4 * (uint32_t)i;
}

/* Adds n dims to sums: those of the tile, and of queries from q on. */
template <class S>
__device__ void add_dots(const float *tile, const float *q, uint32_t stride, uint32_t n, float sums[S::HIGH][S::WIDE])
{
  const float *keys = tile + score_key<S>(0) * S::KEY_STRIDE, *queries = q + score_query<S>(0) * stride;
#pragma unroll 1
  for (uint32_t d = 0; d < n; d += 4) {
    float4 key[S::HIGH];
#pragma unroll
    for (int k = 0; k < S::HIGH; k++) key[k] = *(const float4 *)(keys + 8 * k * S::KEY_STRIDE + d);
#pragma unroll
    for (int i = 0; i < S::WIDE; i++) {
      float4 query = *(const float4 *)(queries + 4 * (uint32_t)i * stride + d);
#pragma unroll
      for (int k = 0; k < S::HIGH; k++) {
        sums[k][i] = fmaf(query.x, key[k].x, sums[k][i]);
        sums[k][i] = fmaf(query.y, key[k].y, sums[k][i]);
        sums[k][i] = fmaf(query.z, key[k].z, sums[k][i]);
        sums[k][i] = fmaf(query.w, key[k].w, sums[k][i]);
      }
    }
  }
}

template <class S> __device__ void put_scores(const float sums[S::HIGH][S::WIDE], common<S::QUERIES> &c)
{
#pragma unroll
  for (int k = 0; k < S::HIGH; k++)
#pragma unroll
    for (int i = 0; i < S::WIDE; i++) c.weights[score_key<S>(k) * c.STRIDE + score_query<S>(i)] = sums[k][i];
}

/* ---- values ---- */

template <int N> __device__ inline void load_vector(const float *from, float *to)
{
  if (N == 4) {
    float4 v = *(const float4 *)from;
    to[0] = v.x, to[1 % N] = v.y, to[2 % N] = v.z, to[3 % N] = v.w;
  } else if (N == 2) {
    float2 v = *(const float2 *)from;
    to[0] = v.x, to[1 % N] = v.y;
  } else {
    to[0] = from[0];
  }
}

/* Of vector k of this thread. As above, the second bit of its number is one of its queries. */
template <class S> __device__ inline uint32_t value_dim(int k)
{
  const uint32_t t = threadIdx.x, at = S::ALONE ? t : (t % 2 + t / 4 * 2) % S::DIM_THREADS;
  return (at + (uint32_t)k * S::DIM_THREADS) * S::VECTOR;
}

template <class S> __device__ inline uint32_t value_query()
{
  const uint32_t t = threadIdx.x;
  return S::ALONE ? 0 : (t / 2 % 2 + t / (2 * S::DIM_THREADS) * 2) * QUAD;
}

template <class S> struct sums_of {
  float at[S::TIMES][QUAD][S::VECTOR];
};

template <class S> __device__ void shrink(const common<S::QUERIES> &c, sums_of<S> &acc)
{
#pragma unroll
  for (int i = 0; i < QUAD; i++) {
    float factor = c.factor[value_query<S>() + (uint32_t)i];
#pragma unroll
    for (int k = 0; k < S::TIMES; k++)
#pragma unroll
      for (int e = 0; e < S::VECTOR; e++) acc.at[k][i][e] *= factor;
  }
}

/* The positions of a piece, in their order. */
template <class S>
__device__ void add_values(const float *tile, const common<S::QUERIES> &c, uint32_t piece, sums_of<S> &acc)
{
#pragma unroll 2
  for (int j = 0; j < S::POSITIONS; j++) {
    float weights[QUAD];
    load_vector<QUAD>(&c.weights[(piece * S::POSITIONS + (uint32_t)j) * c.STRIDE + value_query<S>()], weights);
#pragma unroll
    for (int k = 0; k < S::TIMES; k++) {
      float v[S::VECTOR];
      load_vector<S::VECTOR>(tile + (uint32_t)j * S::DIMS + value_dim<S>(k), v);
#pragma unroll
      for (int i = 0; i < QUAD; i++)
#pragma unroll
        for (int e = 0; e < S::VECTOR; e++) acc.at[k][i][e] = fmaf(weights[i], v[e], acc.at[k][i][e]);
    }
  }
}

/* ---- the kernel ---- */

template <class S>
__device__ void load_queries(const aii_cuda_attn &a, const work &w, const common<S::QUERIES> &c, uint32_t stride,
                             float *q)
{
  const uint32_t dim = a.kv.head_dim;
  const float scale = query_scale(a);
  for (uint32_t at = threadIdx.x; at < S::QUERIES * stride; at += S::THREADS_) {
    uint32_t i = at / stride, d = at % stride;
    q[at] = i < w.n_q && d < dim ? scale * query_dim(a, w, c, i, d) : 0;
  }
}

template <int FMT, class S> __global__ void __launch_bounds__(S::THREADS_, S::BLOCKS) attend_floats(aii_cuda_attn a)
{
  begin_kernel();
  AII_DYNAMIC_SHARED(shared);
  typename S::memory &s = *(typename S::memory *)shared;
  float *q = (float *)(shared + sizeof s);
  const work w = work_of(a, S::QUERIES);
  if (w.from >= w.end) return; /* none of its rows sees the split */
  const uint32_t stride = query_stride(a.kv.head_dim), pieces = (a.kv.head_dim + S::KEY_DIMS - 1) / S::KEY_DIMS;
  const bool asks = warp_query<S>() < w.n_q, adds = value_query<S>() < w.n_q;
  softmax<S::QUERIES, S::THREADS_> soft;
  sums_of<S> acc = {};
  uint4 raw[S::FETCHES];
  begin(soft);
  prepare<S::QUERIES, S::THREADS_>(a, w, s.c);
  place_own<S::QUERIES, S::THREADS_>(a, w, s.c);
  load_queries<S>(a, w, s.c, stride, q);
  __syncthreads();
  uint32_t at = w.from / TILE * TILE;
  fetch_keys<FMT, S>(a, w, s.c, at, 0, raw);
  for (; at < w.end; at += TILE) {
    ask_for<S::QUERIES, S::THREADS_>(a, w, at + TILE, s.c);
    const uint32_t first = (max(w.from, at) - at) / S::POSITIONS,
                   end = (min(w.end - at, (uint32_t)TILE) + S::POSITIONS - 1) / S::POSITIONS;
    const bool scores = asks && at + warp_key<S>() < w.end;
    float sums[S::HIGH][S::WIDE] = {};
    for (uint32_t piece = 0; piece < pieces; piece++) {
      open_keys<FMT, S>(raw, s.tile);
      __syncthreads();
      if (piece + 1 < pieces) fetch_keys<FMT, S>(a, w, s.c, at, piece + 1, raw);
      else fetch_values<FMT, S>(a, w, s.c, at, first, raw);
      const uint32_t skipped = piece * S::KEY_DIMS;
      if (scores) add_dots<S>(s.tile, q + skipped, stride, min((uint32_t)S::KEY_DIMS, stride - 4 - skipped), sums);
      __syncthreads();
    }
    put_scores<S>(sums, s.c);
    __syncthreads();
    soften<S::QUERIES, S::THREADS_>(a, at, s.c, soft);
    for (uint32_t piece = first; piece < end; piece++) {
      open_values<FMT, S>(raw, s.tile);
      __syncthreads();
      if (piece + 1 < end) fetch_values<FMT, S>(a, w, s.c, at, piece + 1, raw);
      else if (at + TILE < w.end) fetch_keys<FMT, S>(a, w, s.c, at + TILE, 0, raw);
      if (adds && piece == first) shrink<S>(s.c, acc);
      if (adds) add_values<S>(s.tile, s.c, piece, acc);
      __syncthreads();
    }
  }
  finish<S::QUERIES, S::THREADS_>(a, w, s.c, soft);
#pragma unroll
  for (int k = 0; k < S::TIMES; k++)
#pragma unroll
    for (int i = 0; i < QUAD; i++)
#pragma unroll
      for (int e = 0; e < S::VECTOR; e++)
        put(a, w, s.c, value_query<S>() + (uint32_t)i, value_dim<S>(k) + (uint32_t)e, acc.at[k][i][e]);
  complete<S::QUERIES, S::THREADS_>(a, w, s.c);
}

/* ---- launches ---- */

enum { ENOUGH_BLOCKS = 2 }; /* for a multiprocessor */

template <int FMT, int QUERIES, int DIMS> void launch(aii_cuda_stream stream, const aii_cuda_attn &a)
{
  typedef shape<FMT, QUERIES, DIMS> S;
  const size_t bytes = sizeof(typename S::memory) + QUERIES * query_stride(a.kv.head_dim) * sizeof(float);
  auto kernel = attend_floats<FMT, S>;
  AII_LAUNCH_SHARED(kernel, attend_grid(a, QUERIES), S::THREADS_, bytes, 0, stream, a);
}

template <int FMT> void attend_format(aii_cuda_stream stream, const aii_cuda_attn &a, uint32_t queries)
{
  switch (aii_cuda_most_queries(&a.kv)) {
    case 64:
      if (queries <= 4) launch<FMT, 4, 128>(stream, a);
      else if (queries <= 16) launch<FMT, 16, 128>(stream, a);
      else launch<FMT, 64, 128>(stream, a);
      break;
    case 32:
      if (queries <= 4) launch<FMT, 4, 256>(stream, a);
      else if (queries <= 16) launch<FMT, 16, 256>(stream, a);
      else launch<FMT, 32, 256>(stream, a);
      break;
    case 16: launch<FMT, 16, 512>(stream, a); break;
    default: launch<FMT, 8, 1024>(stream, a); break;
  }
}

} // namespace

/* Their keys, values and sums must have room. */
uint32_t aii_cuda_most_queries(const aii_cuda_kv *kv)
{
  if (kv->value_dim <= 128 && kv->head_dim <= 192) return 64;
  if (kv->value_dim <= 256 && kv->head_dim <= 320) return 32;
  if (kv->value_dim <= 512 && kv->head_dim <= 640) return 16;
  return kv->fmt == AII_FMT_Q8_0 ? 16 : 8;
}

uint32_t aii_cuda_attend_rows(const aii_cuda_attn *a, uint32_t n_rows, uint32_t n_sms)
{
  const uint32_t most = aii_cuda_most_queries(&a->kv), group = a->n_heads / a->kv.n_kv_heads;
  const uint64_t queries = (uint64_t)n_rows * a->n_heads * a->n_splits;
  const uint32_t each = queries < (uint64_t)most * ENOUGH_BLOCKS * n_sms ? min(most, 16u) : most;
  return max(each / group, 1u);
}

void aii_cuda_attend(aii_cuda_stream stream, const aii_cuda_attn *attn)
{
  const aii_cuda_attn a = *attn;
  const uint32_t queries = min(a.n_heads / a.kv.n_kv_heads * a.most_rows, aii_cuda_most_queries(&a.kv));
  if (a.kv.fmt == AII_FMT_Q8_0) aii_cuda_attend_q8(stream, a, queries);
  else if (aii_cuda_can_round(a)) aii_cuda_attend_f16(stream, a, queries);
  else if (a.kv.fmt == AII_FMT_F16) attend_format<AII_FMT_F16>(stream, a, queries);
  else attend_format<AII_FMT_F32>(stream, a, queries);
}
