/* kernels/ref/matmul_q.c - products of Q8_0 and Q4_0 weights with q8 rows.
 *
 * Integer products are summed exactly, four to a lane; the scales join once a block. The order of lanes is that of
 * kernels.h, which is what vector code computes without any rearrangement.
 */
#include "kernels/ref/ref.h"

typedef void (*unpack_fn)(const unsigned char *block, int8_t q[AII_QBLOCK]);

static void unpack_q8_0(const unsigned char *block, int8_t q[AII_QBLOCK])
{
  memcpy(q, block + 2, AII_QBLOCK);
}

static void unpack_q4_0(const unsigned char *block, int8_t q[AII_QBLOCK])
{
  for (int i = 0; i < 16; i++) {
    q[i] = (int8_t)((block[2 + i] & 15) - 8);
    q[i + 16] = (int8_t)((block[2 + i] >> 4) - 8);
  }
}

static float dot(const unsigned char *w, size_t block_bytes, unpack_fn unpack, const int8_t *x, size_t n)
{
  const float *dx = (const float *)(const void *)(x + (n + 63) / 64 * 64);
  float lane[AII_LANES] = {0};
  for (size_t b = 0; b < n / AII_QBLOCK; b++, w += block_bytes) {
    float d = aii_f16_to_f32(aii_load_u16(w)) * dx[b];
    int8_t q[AII_QBLOCK];
    unpack(w, q);
    for (size_t j = 0; j < 8; j++) {
      int sum = 0;
      for (size_t i = 4 * j; i < 4 * j + 4; i++) sum += q[i] * x[AII_QBLOCK * b + i];
      float *l = &lane[8 * (b % 2) + j];
      *l = fmaf((float)sum, d, *l);
    }
  }
  return aii_lane_sum(lane);
}

static void matmul(const aii_matmul_args *a, size_t block_bytes, unpack_fn unpack)
{
  for (uint32_t r = 0; r < a->n_rows; r++) {
    const unsigned char *w = (const unsigned char *)a->w + r * a->w_stride;
    for (uint32_t c = 0; c < a->n_cols; c++) {
      float v = dot(w, block_bytes, unpack, (const int8_t *)a->x + c * a->x_stride, a->n_in);
      float *y = &a->y[c * a->y_stride + r];
      if (a->bias != NULL) v += a->bias[r];
      *y = a->accumulate ? *y + v : v;
    }
  }
}

void aii_ref_matmul_q8_0(const aii_matmul_args *args)
{
  matmul(args, AII_Q8_0_BYTES, unpack_q8_0);
}

void aii_ref_matmul_q4_0(const aii_matmul_args *args)
{
  matmul(args, AII_Q4_0_BYTES, unpack_q4_0);
}
