/* kernels/ref/norm.c - root mean square normalisation. */
#include "kernels/ref/ref.h"

void aii_ref_rms_norm(const float *x, const float *w, uint32_t n, float eps, float *out)
{
  float lane[AII_LANES] = {0};
  for (uint32_t i = 0; i < n; i++) lane[i % AII_LANES] = fmaf(x[i], x[i], lane[i % AII_LANES]);
  float f = 1 / sqrtf(aii_lane_sum(lane) / (float)n + eps);
  for (uint32_t i = 0; i < n; i++) out[i] = w != NULL ? x[i] * f * w[i] : x[i] * f;
}
