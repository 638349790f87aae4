/* kernels/ref/attention.c - the steps of attention over one tile of keys. */
#include "kernels/ref/ref.h"

void aii_ref_attn_scores(const float *q, uint32_t n_q, const float *k, uint32_t n_keys, uint32_t dim, float scale,
                         float *out, size_t out_stride)
{
  for (uint32_t i = 0; i < n_q; i++) {
    for (uint32_t j = 0; j < n_keys; j++) {
      float lane[AII_LANES] = {0};
      for (size_t d = 0; d < dim; d++)
        lane[d % AII_LANES] = fmaf(q[(size_t)i * dim + d], k[(size_t)j * dim + d], lane[d % AII_LANES]);
      out[i * out_stride + j] = scale * aii_lane_sum(lane);
    }
  }
}

float aii_ref_max(const float *x, size_t n)
{
  float m = x[0];
  for (size_t i = 1; i < n; i++) m = x[i] > m ? x[i] : m;
  return m;
}

float aii_ref_exp_sum(float *x, size_t n, float m)
{
  float lane[AII_LANES] = {0};
  for (size_t i = 0; i < n; i++) {
    x[i] = aii_ref_exp1(x[i] - m);
    lane[i % AII_LANES] += x[i];
  }
  return aii_lane_sum(lane);
}

void aii_ref_attn_values(const float *p, size_t p_stride, uint32_t n_q, const float *v, uint32_t n_keys, uint32_t dim,
                         float *acc)
{
  for (uint32_t i = 0; i < n_q; i++)
    for (uint32_t j = 0; j < n_keys; j++)
      for (size_t d = 0; d < dim; d++)
        acc[(size_t)i * dim + d] = fmaf(p[i * p_stride + j], v[(size_t)j * dim + d], acc[(size_t)i * dim + d]);
}
