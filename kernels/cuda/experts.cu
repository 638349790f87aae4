/* experts.cu - which experts a row goes to: a thread takes a row, as cpu_experts.c does. */
#include "kernels/cuda/device.h"

using namespace aii;

enum { MAX_GROUPS = 64, ROWS_PER_BLOCK = 32 };

__device__ static uint32_t best_of(const float *x, uint32_t n)
{
  uint32_t best = 0;
  for (uint32_t i = 1; i < n; i++) best = x[i] > x[best] ? i : best;
  return best;
}

/* The scores by softmax, whose sum is the sixteen-lane sum; or by sigmoid. */
__device__ static void score(const aii_cuda_routing &how, float *s, float *choice)
{
  uint32_t n = how.n_experts;
  if (how.sigmoid) {
    for (uint32_t e = 0; e < n; e++) s[e] = 1 / (1 + exp1(-s[e]));
  } else {
    float top = s[best_of(s, n)], lane[LANES] = {0};
    for (uint32_t e = 0; e < n; e++) {
      s[e] = exp1(s[e] - top);
      lane[e % LANES] += s[e];
    }
    for (int w = LANES / 2; w > 0; w /= 2)
      for (int i = 0; i < w; i++) lane[i] += lane[i + w];
    for (uint32_t e = 0; e < n; e++) s[e] /= lane[0];
  }
  for (uint32_t e = 0; e < n; e++) choice[e] = how.bias != NULL ? s[e] + how.bias[e] : s[e];
}

__device__ static float group_worth(const aii_cuda_routing &how, const float *choice, uint32_t n)
{
  uint32_t best = best_of(choice, n);
  float second = -float_of_bits(0x7f800000u);
  for (uint32_t i = 0; i < n; i++) second = i != best && choice[i] > second ? choice[i] : second;
  return how.sigmoid && n > 1 ? choice[best] + second : choice[best];
}

__device__ static void mask_groups(const aii_cuda_routing &how, float *choice)
{
  uint32_t groups = how.n_groups, size = how.n_experts / groups;
  bool stays[MAX_GROUPS];
  float worth[MAX_GROUPS];
  for (uint32_t g = 0; g < groups; g++) worth[g] = group_worth(how, choice + g * size, size);
  for (uint32_t g = 0; g < groups; g++) {
    uint32_t better = 0;
    for (uint32_t o = 0; o < groups; o++) better += worth[o] > worth[g] || (o < g && worth[o] == worth[g]);
    stays[g] = better < how.n_groups_used;
  }
  for (uint32_t e = 0; e < groups * size; e++)
    if (!stays[e / size]) choice[e] = -float_of_bits(0x7f800000u);
}

__global__ void route(aii_cuda_routing how, float *scores, float *choices, uint32_t n_rows, int32_t *ids,
                      float *weights)
{
  begin_kernel();
  size_t r = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (r >= n_rows) return;
  float *s = scores + r * how.n_experts, *choice = choices + r * how.n_experts, sum = 0, scale = how.scale;
  score(how, s, choice);
  if (how.n_groups > 1) mask_groups(how, choice);
  for (uint32_t j = 0; j < how.n_used; j++) {
    uint32_t best = best_of(choice, how.n_experts);
    ids[r * how.n_used + j] = (int32_t)best;
    weights[r * how.n_used + j] = s[best];
    sum += s[best];
    choice[best] = -float_of_bits(0x7f800000u);
  }
  if (how.normalise) scale /= fmaxf(sum, 1e-20f);
  for (uint32_t j = 0; j < how.n_used; j++) weights[r * how.n_used + j] *= scale;
}

void aii_cuda_route(aii_cuda_stream stream, const aii_cuda_routing *how, float *scores, float *choice, uint32_t n_rows,
                    int32_t *ids, float *weights)
{
  aii_cuda_routing h = *how;
  AII_LAUNCH(route, blocks_for(n_rows, ROWS_PER_BLOCK), ROWS_PER_BLOCK, stream, h, scores, choice, n_rows, ids,
             weights);
}
