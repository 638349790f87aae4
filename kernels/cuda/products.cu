/* products.cu - which kernel takes a product; few rows, also of a gate and of what it gates, and matrices of one row. */
#include "kernels/cuda/activation.h"
#include "kernels/cuda/few.h"

using namespace aii;

/* Columns that are not worth the kernels for many: a tile of floats takes as long for some as for all that it has room for,
 * in which time weights can come from the second cache a dozen times. */
enum { MOST_FEW = 15, MOST_FEW_FLOATS = 48 };

/* The products of a gate and of what it gates: a block takes two panels of both, as 32 results make a block of q8. */
template <aii_fmt F, int COLS>
__global__ void __launch_bounds__(shape<F, COLS>::threads)
    few_gated(few_products both, int act, size_t panel_bytes, aii_cuda_q8 q8)
{
  let_next_come();
  typedef shape<F, COLS> S;
  __shared__ float2 shared[S::units * S::stride];
  __shared__ float results[COLS][AII_QBLOCK];
  __shared__ norm_state<COLS> state;
  AII_DYNAMIC_SHARED(memory);
  const bool norms = S::normalises && both.norm.x != NULL;
  const uint32_t first = blockIdx.y * COLS, cols = min((uint32_t)COLS, both.p[0].n - first), n_out = both.p[0].n_out;
  float gate = 0;
  if (both.p[0].ids != NULL) wait_for_last();
#pragma unroll 1
  for (uint32_t i = 0; i < 4; i++) { /* a panel of the gate, the same of the other, the next ones */
    const aii_cuda_product &p = both.p[i % 2];
    const matrix m = matrix_of(p, first);
    const uint32_t number = 2 * blockIdx.x + i / 2, row = number * AII_PANEL + threadIdx.x % AII_PANEL;
    if (number * AII_PANEL >= n_out) break;
    const unsigned char *panel = m.w + number * panel_bytes;
    const inputs in = norms ? normed_inputs<COLS>(memory, p.n_in, cols) : inputs_of(p, first, cols);
    const float sum = panel_sum<F, COLS>(p.n_in, in, panel, panel_bytes, shared, [&] {
      wait_for_last();
      if (norms && i == 0) normalise_to<F, COLS>(in, both.norm, first, (float *)shared, state);
    });
    float v = biased(m, row, n_out, sum);
    if (i % 2 == 1 && threadIdx.x < AII_PANEL * cols) {
      v = activated(act, gate, v);
      results[threadIdx.x / AII_PANEL][row % AII_QBLOCK] = v;
      if (row < n_out) both.p[0].y[(size_t)(first + threadIdx.x / AII_PANEL) * n_out + row] = v;
    }
    gate = v;
  }
  if (q8.q == NULL) return;
  __syncthreads();
  const uint32_t col = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  if (col < cols) put_q8(results[col][lane], (size_t)(first + col) * n_out + blockIdx.x * AII_QBLOCK + lane, q8);
}

template <aii_fmt F, int COLS>
static void launch_gated(aii_cuda_stream stream, int act, const few_products &both, const aii_cuda_q8 &q8)
{
  const size_t panel_bytes = panel_bytes_of(both.p[0]);
  auto kernel = few_gated<F, COLS>;
  const int threads = shape<F, COLS>::threads, has = shape<F, COLS>::bytes;
  const int bytes = both.norm.x != NULL ? (int)normed_bytes(F, COLS, both.p[0].n_in) : 0;
  AII_LAUNCH_SHARED(kernel, dim3(blocks_for(both.p[0].n_out, AII_QBLOCK), blocks_for(both.p[0].n, COLS)), threads,
                    bytes, has, stream, both, act, panel_bytes, q8);
}

template <aii_fmt F>
static void multiply_gated(aii_cuda_stream stream, int act, const few_products &both, const aii_cuda_q8 &q8)
{
  if (both.p[0].n == 1 || takes_turns(both.p[0])) launch_gated<F, 1>(stream, act, both, q8);
  else launch_gated<F, FEW_COLS>(stream, act, both, q8);
}

#define FORMATS(X) X(F32) X(F16) X(BF16) X(Q8_0) X(Q4_0) AII_PANEL_FORMATS(X)

static void multiply_panels(aii_cuda_stream stream, const few_products &all)
{
  switch (all.p[0].fmt) {
#define CASE(NAME, ...) \
  case AII_FMT_##NAME: multiply_few<AII_FMT_##NAME>(stream, all); break;
    FORMATS(CASE)
#undef CASE
    default: multiply_decoded(stream, all);
  }
}

static bool is_many(const aii_cuda_product &p)
{
  return p.n > (p.x_q8.q != NULL ? MOST_FEW : MOST_FEW_FLOATS) && (p.groups != NULL || !takes_turns(p));
}

/* Product i, and those behind it that go together with it: they are done. */
static few_products together(const aii_cuda_product *p, uint32_t n, uint32_t i, const aii_cuda_norm &norm, bool *done)
{
  few_products all = {};
  all.norm = norm;
  for (uint32_t j = i; j < n; j++) {
    if (p[j].fmt != p[i].fmt || p[j].n_in != p[i].n_in || p[j].rounded != p[i].rounded) continue;
    all.p[all.n++] = p[j];
    done[j] = true;
  }
  return all;
}

static void multiply_together(aii_cuda_stream stream, const few_products &all)
{
  if (all.p[0].rounded) multiply_bf16(stream, all.norm, all.p, all.n);
  else multiply_panels(stream, all);
}

void aii_cuda_multiply(aii_cuda_stream stream, const aii_cuda_product *p, uint32_t n)
{
  bool done[AII_CUDA_MAX_PRODUCTS] = {false};
  for (uint32_t i = 0; i < n; i++) {
    const bool many = is_many(p[i]) && !p[i].rounded;
    if (done[i] || (many && (multiply_floats(stream, p[i]) || multiply_many(stream, p[i])))) continue;
    multiply_together(stream, together(p, n, i, aii_cuda_norm{}, done));
  }
}

/* ---- rows that are normalised on their way ---- */

/* More shared memory than that keeps blocks from the device which memory needs to be busy. */
enum { MOST_NORMED = 24 << 10, MOST_ROUNDED = 8192 };

static bool can_normalise(const aii_cuda_product &p)
{
  const aii_fmt fmt = (aii_fmt)p.fmt;
  if (p.rounded) return !takes_turns(p) && p.n == 1 && p.n_in <= MOST_ROUNDED;
  return !takes_turns(p) && p.n <= (takes_floats(fmt) ? 1 : MOST_FEW) &&
         normed_bytes(fmt, p.n == 1 ? 1 : FEW_COLS, p.n_in) <= MOST_NORMED;
}

bool aii_cuda_multiply_normed(aii_cuda_stream stream, const aii_cuda_norm *norm, const aii_cuda_product *p, uint32_t n)
{
  bool done[AII_CUDA_MAX_PRODUCTS] = {false};
  for (uint32_t i = 0; i < n; i++)
    if (!can_normalise(p[i])) return false;
  for (uint32_t i = 0; i < n; i++) {
    if (!done[i]) multiply_together(stream, together(p, n, i, *norm, done));
  }
  return true;
}

/* ---- gates ---- */

bool aii_cuda_multiply_gated(aii_cuda_stream stream, const aii_cuda_norm *norm, int act, const aii_cuda_product *gate,
                             const aii_cuda_product *up, aii_cuda_q8 q8)
{
  const aii_cuda_norm how = norm != NULL ? *norm : aii_cuda_norm{};
  if (gate->fmt != up->fmt || gate->rounded != up->rounded || gate->groups != NULL) return false;
  if (norm != NULL && !can_normalise(*gate)) return false;
  if (gate->rounded) return q8.q == NULL && multiply_gated_bf16(stream, how, act, *gate, *up);
  if (is_many(*gate) || gate->n > MAX_GRID) return false;
  const few_products both = {{*gate, *up}, {0}, 2, how};
  switch (gate->fmt) {
#define CASE(NAME, ...) \
  case AII_FMT_##NAME: multiply_gated<AII_FMT_##NAME>(stream, act, both, q8); return true;
    FORMATS(CASE)
#undef CASE
    default: return false;
  }
}

/* ---- matrices of one row: 16 threads take a product ---- */

__global__ void dot_rows(aii_cuda_product p)
{
  begin_kernel();
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
