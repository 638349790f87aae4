/* kernels/ref/rope.c - rotary position embedding of some heads of one token. */
#include "kernels/ref/ref.h"

static void rotate(float *a, float *b, float c, float s)
{
  float x = *a, y = *b;
  *a = fmaf(x, c, -(y * s));
  *b = fmaf(x, s, y * c);
}

void aii_ref_rope_norm(float *x, uint32_t n_heads, uint32_t head_dim, uint32_t n_rot, const float *cos,
                       const float *sin)
{
  for (uint32_t h = 0; h < n_heads; h++, x += head_dim)
    for (uint32_t i = 0; i < n_rot / 2; i++) rotate(&x[2 * i], &x[2 * i + 1], cos[i], sin[i]);
}

void aii_ref_rope_neox(float *x, uint32_t n_heads, uint32_t head_dim, uint32_t n_rot, const float *cos,
                       const float *sin)
{
  for (uint32_t h = 0; h < n_heads; h++, x += head_dim)
    for (uint32_t i = 0; i < n_rot / 2; i++) rotate(&x[i], &x[i + n_rot / 2], cos[i], sin[i]);
}
