/* kernels/ref/vector.c - distances of many rows to one query. */
#include "kernels/ref/ref.h"

void aii_ref_vec_dot(const float *rows, size_t row_stride, uint32_t n_rows, const float *query, uint32_t dim,
                     float *out)
{
  for (uint32_t r = 0; r < n_rows; r++) {
    const float *x = rows + r * row_stride;
    float lane[AII_LANES] = {0};
    for (uint32_t i = 0; i < dim; i++) lane[i % AII_LANES] = fmaf(x[i], query[i], lane[i % AII_LANES]);
    out[r] = aii_lane_sum(lane);
  }
}

void aii_ref_vec_l2sq(const float *rows, size_t row_stride, uint32_t n_rows, const float *query, uint32_t dim,
                      float *out)
{
  for (uint32_t r = 0; r < n_rows; r++) {
    const float *x = rows + r * row_stride;
    float lane[AII_LANES] = {0};
    for (uint32_t i = 0; i < dim; i++) {
      float d = x[i] - query[i];
      lane[i % AII_LANES] = fmaf(d, d, lane[i % AII_LANES]);
    }
    out[r] = aii_lane_sum(lane);
  }
}

void aii_ref_vec_codes(const uint8_t *const *rows, uint32_t n_rows, const uint8_t *query, uint32_t dim, int32_t start,
                       int32_t *out)
{
  for (uint32_t r = 0; r < n_rows; r++) {
    int64_t sum = start;
    for (uint32_t i = 0; i < dim; i++) sum += rows[r][i] * (query[i] - 128);
    out[r] = (int32_t)sum;
  }
}
