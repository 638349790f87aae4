/* kernels/ref/matmul.c - products with weights of F32, F16 and BF16: the sixteen-lane sum. */
#include "kernels/ref/ref.h"

typedef float (*load_fn)(const unsigned char *row, size_t i);

static float load_f32(const unsigned char *row, size_t i)
{
  float f;
  memcpy(&f, row + 4 * i, sizeof f);
  return f;
}

static float load_f16(const unsigned char *row, size_t i)
{
  return aii_f16_to_f32(aii_load_u16(row + 2 * i));
}

static float load_bf16(const unsigned char *row, size_t i)
{
  return aii_bf16_to_f32(aii_load_u16(row + 2 * i));
}

static void matmul(const aii_matmul_args *a, load_fn load)
{
  for (uint32_t r = 0; r < a->n_rows; r++) {
    const unsigned char *w = (const unsigned char *)a->w + r * a->w_stride;
    for (uint32_t c = 0; c < a->n_cols; c++) {
      const unsigned char *x = (const unsigned char *)a->x + c * a->x_stride;
      float lane[AII_LANES] = {0};
      for (size_t i = 0; i < a->n_in; i++) lane[i % AII_LANES] = fmaf(load(w, i), load_f32(x, i), lane[i % AII_LANES]);
      float v = aii_lane_sum(lane);
      float *y = &a->y[c * a->y_stride + r];
      if (a->bias != NULL) v += a->bias[r];
      *y = a->accumulate ? *y + v : v;
    }
  }
}

void aii_ref_matmul_f32(const aii_matmul_args *args)
{
  matmul(args, load_f32);
}

void aii_ref_matmul_f16(const aii_matmul_args *args)
{
  matmul(args, load_f16);
}

void aii_ref_matmul_bf16(const aii_matmul_args *args)
{
  matmul(args, load_bf16);
}
