/* kernels/ref/dequant.c - a row of the formats with products to float, exactly as GGUF defines them; the others are in
 * decode.h. */
#include "kernels/ref/ref.h"

const int8_t aii_iq4_levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
const int8_t aii_fp4_levels[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

void aii_ref_dequant_f32(const void *row, size_t n, float *out)
{
  memcpy(out, row, n * sizeof *out);
}

void aii_ref_dequant_f16(const void *row, size_t n, float *out)
{
  const unsigned char *p = row;
  for (size_t i = 0; i < n; i++) out[i] = aii_f16_to_f32(aii_load_u16(p + 2 * i));
}

void aii_ref_dequant_bf16(const void *row, size_t n, float *out)
{
  const unsigned char *p = row;
  for (size_t i = 0; i < n; i++) out[i] = aii_bf16_to_f32(aii_load_u16(p + 2 * i));
}

void aii_ref_dequant_q8_0(const void *row, size_t n, float *out)
{
  const unsigned char *p = row;
  for (size_t b = 0; b < n / AII_QBLOCK; b++, p += AII_Q8_0_BYTES, out += AII_QBLOCK) {
    float d = aii_f16_to_f32(aii_load_u16(p));
    const int8_t *q = (const int8_t *)(p + 2);
    for (size_t i = 0; i < AII_QBLOCK; i++) out[i] = d * (float)q[i];
  }
}

void aii_ref_dequant_q4_0(const void *row, size_t n, float *out)
{
  const unsigned char *p = row;
  for (size_t b = 0; b < n / AII_QBLOCK; b++, p += AII_Q4_0_BYTES, out += AII_QBLOCK) {
    float d = aii_f16_to_f32(aii_load_u16(p));
    for (size_t i = 0; i < 16; i++) {
      out[i] = d * (float)((p[2 + i] & 15) - 8);
      out[i + 16] = d * (float)((p[2 + i] >> 4) - 8);
    }
  }
}
