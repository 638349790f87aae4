/* shortlist.cu - what samplers want to see of rows of logits: the best candidates, the sum of all weights, a run of logits.
 *
 * Runs of 256 logits have a largest each. The n-th best of these is a bound for the n best of all, so few runs are looked at
 * again. A candidate's key is its logit, in an order of integers, before its id the other way round: no two are equal. The least
 * of the n best keys is found a byte at a time, from the highest on, by counting. All counts are of integers: their order does
 * not matter. Logits that may not come, -INFINITY, and what is no number have no key.
 */
#include "kernels/cuda/device.h"

using namespace aii;

enum { RUN = AII_CUDA_RUN, BEST = AII_CUDA_BEST, CHOOSERS = 1024, BYTES = 256, NO_BYTE = BYTES };

/* ---- rows ---- */

struct row {
  const aii_cuda_ask *ask;
  const float *x;
  const uint32_t *mask; /* NULL: all may come */
  uint32_t n;
  aii_cuda_told *told;
};

__device__ static row row_of(const aii_cuda_shortlist &s, uint32_t i)
{
  const aii_cuda_ask *ask = s.asks + i;
  const uint32_t *mask = ask->mask == AII_CUDA_NO_MASK ? NULL : s.masks + (size_t)ask->mask * s.mask_words;
  return {ask, s.logits + (size_t)ask->row * s.n_vocab, mask, s.n_vocab, (aii_cuda_told *)(s.told + ask->told_at)};
}

__device__ static aii_cuda_candidate *best_of(const row &r)
{
  return (aii_cuda_candidate *)(r.told + 1);
}

__device__ static float logit(const row &r, uint32_t i)
{
  bool may = i < r.n && (r.mask == NULL || (r.mask[i / 32] >> i % 32 & 1) != 0);
  return may ? r.x[i] : -float_of_bits(0x7f800000u);
}

/* In the order of logits; 0: none. Both zeros are one. */
__device__ static uint32_t key_of(float v)
{
  if (!(v > -float_of_bits(0x7f800000u))) return 0;
  uint32_t u = bits_of_float(v == 0 ? 0.0f : v);
  return (u & 0x80000000u) != 0 ? ~u : u | 0x80000000u;
}

__device__ static float logit_of_key(uint32_t key)
{
  return float_of_bits((key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key);
}

/* ---- edits ---- */

__global__ void edit(aii_cuda_shortlist s)
{
  begin_kernel();
  const aii_cuda_ask *ask = s.asks + blockIdx.x;
  for (uint32_t i = threadIdx.x; i < ask->n_edits; i += blockDim.x) {
    aii_cuda_edit e = s.edits[ask->first_edit + i];
    float *x = s.logits + (size_t)ask->row * s.n_vocab + e.token;
    *x = (*x > 0 ? *x / e.divide : *x * e.divide) - e.take + e.add;
  }
}

/* ---- the largest of each run: a warp takes one ---- */

__global__ void survey(aii_cuda_shortlist s)
{
  begin_kernel();
  uint32_t run = blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP, top = 0;
  row r = row_of(s, blockIdx.y);
  if (run >= s.n_runs || r.ask->n_best == 0) return; /* a whole warp */
  for (uint32_t i = lane; i < RUN; i += WARP) top = max(top, key_of(logit(r, run * RUN + i)));
  for (int w = WARP / 2; w > 0; w /= 2) top = max(top, __shfl_xor_sync(AII_FULL_WARP, top, w));
  if (lane == 0) s.tops[(size_t)blockIdx.y * s.n_runs + run] = top;
}

/* ---- the n largest of some keys, by a block ---- */

struct place {
  uint32_t byte, above, here; /* counts: of larger ones, of the same */
};

/* Where the n-th of the largest is; NO_BYTE: there are fewer. A warp. */
__device__ static void find(const uint32_t *counts, uint32_t n, place *out)
{
  uint32_t lane = threadIdx.x, first = lane * (BYTES / WARP), mine = 0;
  for (uint32_t i = 0; i < BYTES / WARP; i++) mine += counts[first + i];
  uint32_t from_here = mine; /* those of this lane and of all behind it */
  for (uint32_t w = 1; w < WARP; w *= 2) {
    uint32_t more = __shfl_down_sync(AII_FULL_WARP, from_here, w);
    if (lane + w < WARP) from_here += more;
  }
  if (lane == 0 && from_here < n) out->byte = NO_BYTE;
  uint32_t above = from_here - mine;
  if (above >= n || from_here < n) return;
  uint32_t byte = first + BYTES / WARP - 1;
  for (; above + counts[byte] < n; byte--) above += counts[byte];
  *out = {byte, above, counts[byte]};
}

/* The least of the n largest keys, or what lies between it and the next one; 1 when there are no more than n. each(use) calls
 * use(key) for all that the thread has; keys are different, and not 0. */
template <class Each> __device__ static uint64_t least_of_best(uint32_t n, const Each &each)
{
  __shared__ uint32_t counts[BYTES];
  __shared__ place found;
  uint64_t prefix = 0;
  for (int shift = 56; shift >= 0; shift -= 8) {
    for (uint32_t i = threadIdx.x; i < BYTES; i += blockDim.x) counts[i] = 0;
    __syncthreads();
    each([&](uint64_t key) {
      if (shift == 56 || (key ^ prefix) >> (shift + 8) == 0) atomicAdd(&counts[key >> shift & (BYTES - 1)], 1u);
    });
    __syncthreads();
    if (threadIdx.x < WARP) find(counts, n, &found);
    __syncthreads();
    if (found.byte == NO_BYTE) return 1;
    prefix |= (uint64_t)found.byte << shift;
    n -= found.above;
    if (found.here == n) break;
  }
  return prefix > 0 ? prefix : 1;
}

/* ---- candidates: a block takes a row ---- */

/* To their places by id; the first of the largest is noted. */
__device__ static void put(const row &r, const uint64_t *list, uint32_t n)
{
  for (uint32_t t = threadIdx.x; t < n; t += blockDim.x) {
    uint32_t before = 0, better = 0;
    for (uint32_t j = 0; j < n; j++) {
      before += (uint32_t)list[j] > (uint32_t)list[t];
      better += list[j] > list[t];
    }
    best_of(r)[before] = {logit_of_key((uint32_t)(list[t] >> 32)), (int32_t) ~(uint32_t)list[t]};
    if (better == 0) r.told->top = logit_of_key((uint32_t)(list[t] >> 32));
  }
  if (threadIdx.x == 0) r.told->n = n;
}

__global__ void __launch_bounds__(CHOOSERS) choose(aii_cuda_shortlist s)
{
  begin_kernel();
  __shared__ uint64_t list[BEST];
  __shared__ uint32_t n;
  row r = row_of(s, blockIdx.x);
  const uint32_t *tops = s.tops + (size_t)blockIdx.x * s.n_runs;
  uint32_t warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, n_best = r.ask->n_best;
  if (threadIdx.x == 0) n = r.told->n = 0;
  if (n_best == 0) return;
  uint64_t bound = least_of_best(n_best, [&](auto use) {
    for (uint32_t run = threadIdx.x; run < s.n_runs; run += blockDim.x)
      if (tops[run] != 0) use((uint64_t)tops[run] << 32 | (uint32_t)~run);
  });
  uint32_t least = max((uint32_t)(bound >> 32), 1u);
  auto each = [&](auto use) {
    for (uint32_t run = warp; run < s.n_runs; run += CHOOSERS / WARP) {
      if (tops[run] < least) continue;
      for (uint32_t i = run * RUN + lane; i < (run + 1) * RUN; i += WARP) {
        uint32_t key = key_of(logit(r, i));
        if (key >= least) use((uint64_t)key << 32 | (uint32_t)~i);
      }
    }
  };
  uint64_t low = least_of_best(n_best, each);
  each([&](uint64_t key) {
    if (key >= low) list[atomicAdd(&n, 1u)] = key;
  });
  __syncthreads();
  put(r, list, n);
}

/* ---- weights: a warp takes a run ---- */

__global__ void weigh(aii_cuda_shortlist s)
{
  begin_kernel();
  uint32_t run = blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
  row r = row_of(s, blockIdx.y);
  if (run >= s.n_runs || !(r.ask->scale > 0)) return; /* a whole warp */
  float top = r.told->n > 0 ? r.told->top : 0, scale = r.ask->scale, sum = 0;
  for (uint32_t i = lane; i < RUN; i += WARP) {
    float v = logit(r, run * RUN + i), w = v > -float_of_bits(0x7f800000u) ? exp1((v - top) * scale) : 0;
    float behind = __shfl_down_sync(AII_FULL_WARP, w, LANES);
    sum += w;
    sum += behind;
  }
  if (lane >= LANES) sum = 0;
  sum = lane_sum(sum);
  if (lane == 0) s.sums[(size_t)blockIdx.y * s.n_runs + run] = sum;
}

/* ---- the sum of all, and where a draw falls: a block takes a row, its first thread adds up ---- */

/* use(run, sum) for all runs in their order, by the first thread. */
template <class Use> __device__ static void in_order(const float *sums, uint32_t n, const Use &use)
{
  __shared__ float some[THREADS];
  for (uint32_t first = 0; first < n; first += THREADS) {
    __syncthreads();
    if (first + threadIdx.x < n) some[threadIdx.x] = sums[first + threadIdx.x];
    __syncthreads();
    for (uint32_t i = first; threadIdx.x == 0 && i < min(first + THREADS, n); i++) use(i, (double)some[i - first]);
  }
}

__global__ void draw(aii_cuda_shortlist s)
{
  begin_kernel();
  __shared__ uint32_t found;
  row r = row_of(s, blockIdx.x);
  const float *sums = s.sums + (size_t)blockIdx.x * s.n_runs;
  if (!(r.ask->scale > 0)) return;
  double total = 0;
  in_order(sums, s.n_runs, [&](uint32_t, double sum) { total += sum; });
  if (threadIdx.x == 0) r.told->total = total;
  if (r.ask->draws == 0) return;
  double at = r.ask->unit * total;
  uint32_t run = 0, last = s.n_runs - 1;
  in_order(sums, s.n_runs, [&](uint32_t i, double sum) {
    if (run != i || i == last || !(at >= sum)) return;
    at -= sum;
    run++;
  });
  if (threadIdx.x == 0) {
    r.told->run = found = run;
    r.told->at = at;
  }
  __syncthreads();
  float *out = (float *)(best_of(r) + r.ask->n_best);
  for (uint32_t i = threadIdx.x; i < RUN; i += blockDim.x) out[i] = logit(r, found * RUN + i);
}

void aii_cuda_choose(aii_cuda_stream stream, const aii_cuda_shortlist *shortlist, bool edits, bool weighs)
{
  aii_cuda_shortlist s = *shortlist;
  dim3 runs(blocks_for(s.n_runs, THREADS / WARP), s.n);
  if (edits) AII_LAUNCH(edit, s.n, THREADS, stream, s);
  AII_LAUNCH(survey, runs, THREADS, stream, s);
  AII_LAUNCH(choose, s.n, CHOOSERS, stream, s);
  if (!weighs) return;
  AII_LAUNCH(weigh, runs, THREADS, stream, s);
  AII_LAUNCH(draw, s.n, THREADS, stream, s);
}
