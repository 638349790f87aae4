/* kernels/ref/activation.c - what feed-forward networks bend their values with, and the soft cap of scores and logits.
 *
 * tanh: below 0.625 an odd polynomial (Cephes), where 1 - 2 / (exp(2x) + 1) would lose digits; that above.
 */
#include "kernels/ref/ref.h"

static float gelu1(float x)
{
  float u = x * fmaf(x * x, -0.0713548162f, -1.59576912f);
  return x / (1 + aii_ref_exp1(u));
}

void aii_ref_gelu_mul(const float *gate, const float *up, size_t n, float *out)
{
  for (size_t i = 0; i < n; i++) out[i] = up != NULL ? gelu1(gate[i]) * up[i] : gelu1(gate[i]);
}

/* Every instruction set uses this one: the C library's erff decides its last bits. */
void aii_ref_gelu_erf_mul(const float *gate, const float *up, size_t n, float *out)
{
  for (size_t i = 0; i < n; i++) {
    float y = gate[i] * (0.5f + 0.5f * erff(gate[i] * 0.70710678f));
    out[i] = up != NULL ? y * up[i] : y;
  }
}

void aii_ref_swiglu_oai(const float *gate, const float *up, size_t n, float *out)
{
  const float alpha = 1.702f, limit = 7;
  for (size_t i = 0; i < n; i++) {
    float g = gate[i] < limit ? gate[i] : limit;
    float u = up[i] < limit ? up[i] : limit;
    if (u < -limit) u = -limit;
    out[i] = g / (1 + aii_ref_exp1(-alpha * g)) * (u + 1);
  }
}

static float tanh1(float x)
{
  float a = fabsf(x);
  if (a >= 0.625f) return copysignf(1 - 2 / (aii_ref_exp1(2 * a) + 1), x);
  float z = x * x;
  float p = -5.70498872745e-3f;
  p = fmaf(p, z, 2.06390887954e-2f);
  p = fmaf(p, z, -5.37397155531e-2f);
  p = fmaf(p, z, 1.33314422036e-1f);
  p = fmaf(p, z, -3.33332819422e-1f);
  return fmaf(p * z, x, x);
}

void aii_ref_softcap(float *x, float cap, size_t n)
{
  float inverse = 1 / cap;
  for (size_t i = 0; i < n; i++) x[i] = cap * tanh1(x[i] * inverse);
}
