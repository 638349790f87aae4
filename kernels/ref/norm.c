/* kernels/ref/norm.c - normalisation of a row: by its root mean square, or by mean and variance. */
#include "kernels/ref/ref.h"

void aii_ref_rms_norm(const float *x, const float *w, uint32_t n, float eps, float *out)
{
  float lane[AII_LANES] = {0};
  for (uint32_t i = 0; i < n; i++) lane[i % AII_LANES] = fmaf(x[i], x[i], lane[i % AII_LANES]);
  float f = 1 / sqrtf(aii_lane_sum(lane) / (float)n + eps);
  for (uint32_t i = 0; i < n; i++) out[i] = w != NULL ? x[i] * f * w[i] : x[i] * f;
}

void aii_ref_layer_norm(const float *x, const float *w, const float *b, uint32_t n, float eps, float *out)
{
  float lane[AII_LANES] = {0};
  for (uint32_t i = 0; i < n; i++) lane[i % AII_LANES] += x[i];
  float mean = aii_lane_sum(lane) / (float)n;
  float square[AII_LANES] = {0};
  for (uint32_t i = 0; i < n; i++) {
    float d = x[i] - mean;
    square[i % AII_LANES] = fmaf(d, d, square[i % AII_LANES]);
  }
  float f = 1 / sqrtf(aii_lane_sum(square) / (float)n + eps);
  for (uint32_t i = 0; i < n; i++) {
    float y = (x[i] - mean) * f * w[i];
    out[i] = b != NULL ? y + b[i] : y;
  }
}
