/* kernels/ref/element.c - exp, silu and the rest that looks at one element at a time.
 *
 * exp: n = round(x / ln 2), r = x - n ln 2 in two steps, exp(r) by Cephes' polynomial of degree 7 on [-0.35, 0.35], times
 * 2^n in two factors so that the largest results do not overflow on the way. At most 2 ulp off (tests/kernels).
 */
#include "kernels/ref/ref.h"

float aii_ref_exp1(float x)
{
  if (x != x) return x;
  if (x < -86.0f) return 0;
  if (x > 0x1.62e43p+6f) return INFINITY;
  float n = rintf(x * 0x1.715476p+0f);
  float r = fmaf(n, -0x1.62e4p-1f, x);
  r = fmaf(n, -0x1.7f7d1cp-20f, r);
  float p = 1.9875691500e-4f;
  p = fmaf(p, r, 1.3981999507e-3f);
  p = fmaf(p, r, 8.3334519073e-3f);
  p = fmaf(p, r, 4.1665795894e-2f);
  p = fmaf(p, r, 1.6666665459e-1f);
  p = fmaf(p, r, 5.0000001201e-1f);
  p = fmaf(p, r * r, r) + 1;
  uint32_t bits = (uint32_t)((int32_t)n + 126) << 23; /* 2^(n-1) */
  float power;
  memcpy(&power, &bits, sizeof power);
  return p * power * 2;
}

void aii_ref_exp(const float *x, size_t n, float *out)
{
  for (size_t i = 0; i < n; i++) out[i] = aii_ref_exp1(x[i]);
}

void aii_ref_silu_mul(const float *gate, const float *up, size_t n, float *out)
{
  for (size_t i = 0; i < n; i++) out[i] = gate[i] / (1 + aii_ref_exp1(-gate[i])) * up[i];
}

void aii_ref_add(float *x, const float *y, size_t n)
{
  for (size_t i = 0; i < n; i++) x[i] += y[i];
}

void aii_ref_scale(float *x, float f, size_t n)
{
  for (size_t i = 0; i < n; i++) x[i] *= f;
}

void aii_ref_add_scaled(float *x, const float *y, float f, size_t n)
{
  for (size_t i = 0; i < n; i++) x[i] = fmaf(f, y[i], x[i]);
}
