/* products_float.cu - products of float weights, or such as are decoded to floats, with many rows of activations, on tiles.
 *
 * A block makes 64 outputs of 128 columns, a thread 8 x 8 of them, in steps of 16 elements. While a step is computed from
 * shared memory, the next one's weights and activations come to registers. An element k is added to all of a thread's runs
 * before the next, and a run to its sum behind every 64th: the stated order.
 *
 * A step of a thread is 1,024 multiplications and additions, 64 reads of 16 bytes from shared memory, and some 60
 * instructions more. So fused multiplications are seven of eight instructions; with what barriers and latencies cost,
 * about 60 % of the peak of FP32 is expected. A block reads 768 bytes (of F32; 640 of halves) an element k from the
 * second cache for its 8,192 products: at 60 % of 67 TFLOPS some 2 TB/s, which is less than that has.
 */
#include "kernels/cuda/decode.h"

using namespace aii;

enum {
  OUTS = 64,
  COLS = 128,
  STEP = 16,
  EACH = 8, /* outputs and columns of a thread */
  TILE_THREADS = OUTS / EACH * (COLS / EACH),
  PANELS = OUTS / AII_PANEL,
  W_STRIDE = OUTS + 16, /* against bank conflicts */
  X_STRIDE = COLS + 4,
  X_LOADS = COLS * STEP / 4 / TILE_THREADS /* of four elements, of a thread */
};

struct tile {
  float w[STEP][W_STRIDE], x[STEP][X_STRIDE];
};

/* ---- a step's numbers, on their way from memory: a thread has 8 of the weights, 16 of the activations; of weights that
 * are decoded every other thread has 16 elements of a row ---- */

template <aii_fmt F> struct passing {
  float w[is_decoded(F) ? STEP : EACH], x[X_LOADS][4];
};

/* Where the thread's weights are in a panel's step: element k of eight rows. */
__device__ inline void my_weights(uint32_t *panel, uint32_t *k, uint32_t *row)
{
  *panel = threadIdx.x / WARP;
  *k = threadIdx.x % WARP / 2;
  *row = threadIdx.x % 2 * EACH;
}

template <aii_fmt F>
__device__ inline void fetch_weights(const unsigned char *w, size_t panel_bytes, uint32_t n_panels,
                                     uint32_t first_panel, uint32_t at, uint32_t n_in, passing<F> &next)
{
  if constexpr (is_decoded(F)) {
    const uint32_t panel = min(first_panel + threadIdx.x / AII_PANEL, n_panels - 1);
    if (threadIdx.x < OUTS) decode_piece<F>(w + panel * panel_bytes, threadIdx.x % AII_PANEL, at, next.w);
  } else {
    uint32_t panel, k, row;
    my_weights(&panel, &k, &row);
    const size_t element = (size_t)(at + k) * AII_PANEL + row;
    if (first_panel + panel < n_panels && at + k < n_in)
      load_floats<F, EACH>(w + (first_panel + panel) * panel_bytes + element * float_bytes<F>::each, next.w);
    else
      for (int i = 0; i < EACH; i++) next.w[i] = 0;
  }
}

/* rows: of activations, of the tile's n columns. */
template <aii_fmt F>
__device__ inline void fetch(const aii_cuda_product &p, const unsigned char *w, size_t panel_bytes, uint32_t n_panels,
                             uint32_t first_panel, const uint32_t *rows, uint32_t n, uint32_t at, passing<F> &next)
{
  fetch_weights<F>(w, panel_bytes, n_panels, first_panel, at, p.n_in, next);
  for (uint32_t i = 0; i < X_LOADS; i++) {
    const uint32_t number = threadIdx.x + i * TILE_THREADS, col = number / (STEP / 4),
                   from = at + number % (STEP / 4) * 4;
    if (col < n && from < p.n_in)
      load_floats<AII_FMT_F32, 4>((const unsigned char *)(p.x + (size_t)rows[col] * p.n_in + from), next.x[i]);
    else
      for (int j = 0; j < 4; j++) next.x[i][j] = 0;
  }
}

template <aii_fmt F> __device__ inline void settle(const passing<F> &next, tile &to)
{
  if constexpr (is_decoded(F)) {
    for (int k = 0; k < STEP && threadIdx.x < OUTS; k++) to.w[k][threadIdx.x] = next.w[k];
  } else {
    uint32_t panel, k, row;
    my_weights(&panel, &k, &row);
    float4 *w = (float4 *)&to.w[k][panel * AII_PANEL + row];
    w[0] = make_float4(next.w[0], next.w[1], next.w[2], next.w[3]);
    w[1] = make_float4(next.w[4], next.w[5], next.w[6], next.w[7]);
  }
  for (uint32_t i = 0; i < X_LOADS; i++) {
    const uint32_t number = threadIdx.x + i * TILE_THREADS;
    for (int j = 0; j < 4; j++) to.x[number % (STEP / 4) * 4 + j][number / (STEP / 4)] = next.x[i][j];
  }
}

/* ---- what a thread computes: outputs 4 a + (0..3) and 32 more, columns 4 b + (0..3) and 64 more ---- */

__device__ inline void load_eight(const float *p, uint32_t half, float out[EACH])
{
  const float4 a = *(const float4 *)p, b = *(const float4 *)(p + half);
  out[0] = a.x, out[1] = a.y, out[2] = a.z, out[3] = a.w;
  out[4] = b.x, out[5] = b.y, out[6] = b.z, out[7] = b.w;
}

__device__ inline void compute(const tile &t, uint32_t a, uint32_t b, float run[EACH][EACH])
{
#pragma unroll
  for (int k = 0; k < STEP; k++) {
    float w[EACH], x[EACH];
    load_eight(&t.w[k][4 * a], OUTS / 2, w);
    load_eight(&t.x[k][4 * b], COLS / 2, x);
    for (int c = 0; c < EACH; c++)
      for (int r = 0; r < EACH; r++) run[c][r] = fmaf(w[r], x[c], run[c][r]);
  }
}

__device__ inline void end_run(float run[EACH][EACH], float sum[EACH][EACH])
{
  for (int c = 0; c < EACH; c++)
    for (int r = 0; r < EACH; r++) {
      sum[c][r] += run[c][r];
      run[c][r] = 0;
    }
}

template <aii_fmt F>
__global__ void __launch_bounds__(TILE_THREADS, 2) many_floats(aii_cuda_product p, size_t panel_bytes)
{
  begin_kernel();
  __shared__ tile tiles[2];
  __shared__ uint32_t rows[COLS];
  const columns mine = columns_of(p, COLS);
  if (mine.n == 0) return;
  const matrix m = matrix_at(p, mine.matrix);
  const uint32_t first_panel = blockIdx.x * PANELS, n_panels = (p.n_out + AII_PANEL - 1) / AII_PANEL,
                 a = threadIdx.x % (OUTS / EACH), b = threadIdx.x / (OUTS / EACH), n_steps = (p.n_in + STEP - 1) / STEP;
  float run[EACH][EACH] = {{0}}, sum[EACH][EACH] = {{0}};
  passing<F> next;
  for (uint32_t i = threadIdx.x; i < COLS; i += TILE_THREADS) rows[i] = column_at(mine, i) / p.repeat;
  __syncthreads();
  fetch<F>(p, m.w, panel_bytes, n_panels, first_panel, rows, mine.n, 0, next);
  settle<F>(next, tiles[0]);
  __syncthreads();
  for (uint32_t s = 0; s < n_steps; s++) {
    const bool last = s + 1 == n_steps;
    if (!last) fetch<F>(p, m.w, panel_bytes, n_panels, first_panel, rows, mine.n, (s + 1) * STEP, next);
    compute(tiles[s % 2], a, b, run);
    if (s % (AII_RUN / STEP) == AII_RUN / STEP - 1 || last) end_run(run, sum);
    if (!last) settle<F>(next, tiles[(s + 1) % 2]);
    __syncthreads();
  }
  for (int c = 0; c < EACH; c++) {
    const uint32_t col = 4 * b + c % 4 + c / 4 * (COLS / 2);
    for (int r = 0; r < EACH && col < mine.n; r++)
      put(p, m, first_panel * AII_PANEL + 4 * a + r % 4 + r / 4 * (OUTS / 2), column_at(mine, col), sum[c][r]);
  }
}

template <aii_fmt F> static bool launch(aii_cuda_stream stream, const aii_cuda_product &whole)
{
  const size_t panel_bytes = panel_bytes_of(whole), most = most_columns(whole, COLS);
  for (size_t first = 0; first < whole.n; first += most) {
    const aii_cuda_product p = part_of(whole, first, most);
    const uint32_t tiles = tile_columns(stream, p, COLS);
    auto kernel = many_floats<F>;
    AII_LAUNCH(kernel, dim3(blocks_for(p.n_out, OUTS), tiles), TILE_THREADS, stream, p, panel_bytes);
  }
  return true;
}

bool aii::multiply_floats(aii_cuda_stream stream, const aii_cuda_product &p)
{
  if (p.n_in % 4 != 0 || (uintptr_t)p.x % 16 != 0) return false;
  switch (p.fmt) {
    case AII_FMT_F32: return launch<AII_FMT_F32>(stream, p);
    case AII_FMT_F16: return launch<AII_FMT_F16>(stream, p);
    case AII_FMT_BF16: return launch<AII_FMT_BF16>(stream, p);
#define CASE(NAME) \
  case AII_FMT_##NAME: return launch<AII_FMT_##NAME>(stream, p);
      AII_DECODED_FORMATS(CASE)
#undef CASE
    default: return false;
  }
}
