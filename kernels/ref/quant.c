/* kernels/ref/quant.c - float rows to stored formats, and activations to q8 rows.
 *
 * The stored block formats follow ggml's own quantisers to the bit (multiply by 1/d, its way of rounding), so that
 * files written here equal files written by llama.cpp. Values that are not finite give some valid block.
 */
#include "kernels/ref/encode.h"

void aii_ref_quant_f32(const float *x, size_t n, void *row)
{
  memcpy(row, x, n * sizeof *x);
}

void aii_ref_quant_f16(const float *x, size_t n, void *row)
{
  unsigned char *p = row;
  for (size_t i = 0; i < n; i++) {
    uint16_t h = aii_f32_to_f16(x[i]);
    memcpy(p + 2 * i, &h, sizeof h);
  }
}

void aii_ref_quant_bf16(const float *x, size_t n, void *row)
{
  unsigned char *p = row;
  for (size_t i = 0; i < n; i++) {
    uint32_t u;
    memcpy(&u, &x[i], sizeof u);
    if ((u & 0x7fffffffu) > 0x7f800000u) u |= 0x400000u; /* NaN: quiet, and never rounded to infinity */
    else u += 0x7fffu + (u >> 16 & 1u);
    uint16_t h = (uint16_t)(u >> 16);
    memcpy(p + 2 * i, &h, sizeof h);
  }
}

/* To an integer in [lo, hi]; NaN gives lo. */
static int clamp_int(float v, int lo, int hi)
{
  if (!(v > (float)lo)) return lo;
  return v < (float)hi ? (int)v : hi;
}

void aii_ref_quant_q8_0(const float *x, size_t n, void *row)
{
  unsigned char *p = row;
  for (size_t b = 0; b < n / AII_QBLOCK; b++, p += AII_Q8_0_BYTES, x += AII_QBLOCK) {
    float amax = 0;
    for (size_t i = 0; i < AII_QBLOCK; i++) amax = fabsf(x[i]) > amax ? fabsf(x[i]) : amax;
    float d = amax / 127;
    float inverse = d != 0 ? 1 / d : 0;
    uint16_t h = aii_f32_to_f16(d);
    memcpy(p, &h, sizeof h);
    for (size_t i = 0; i < AII_QBLOCK; i++) {
      int8_t q = (int8_t)clamp_int(roundf(x[i] * inverse), -127, 127);
      memcpy(p + 2 + i, &q, 1);
    }
  }
}

void aii_ref_quant_q4_0(const float *x, size_t n, void *row)
{
  aii_encode_q4_0(x, NULL, n, row);
}

void aii_ref_quant_q8(const float *x, size_t n, void *q8_row)
{
  size_t n64 = (n + 63) / 64 * 64;
  int8_t *q = q8_row;
  float *d = (float *)(void *)(q + n64), *s = d + n64 / AII_QBLOCK;
  int32_t *z = (int32_t *)(void *)(s + n64 / AII_QBLOCK), *z2 = z + n64 / AII_QBLOCK;
  for (size_t b = 0; b < n64 / AII_QBLOCK; b++) {
    size_t first = b * AII_QBLOCK;
    size_t end = first + AII_QBLOCK < n ? first + AII_QBLOCK : n;
    float amax = 0;
    for (size_t i = first; i < end; i++) amax = fabsf(x[i]) > amax ? fabsf(x[i]) : amax;
    float inverse = amax != 0 ? 127 / amax : 0;
    d[b] = amax / 127;
    int half[2] = {0};
    for (size_t i = first; i < first + AII_QBLOCK; i++) {
      q[i] = i < end ? (int8_t)clamp_int(rintf(x[i] * inverse), -127, 127) : 0;
      half[(i - first) / 16] += q[i];
    }
    for (size_t h = 0; h < 2; h++) z2[2 * b + h] = -128 * half[h];
    z[b] = z2[2 * b] + z2[2 * b + 1];
    s[b] = d[b] * (float)(half[0] + half[1]);
  }
}
