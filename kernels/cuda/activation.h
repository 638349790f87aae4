/* kernels/cuda/activation.h - what bends a feed-forward network, as kernels/ref has it, for all that apply it. */
#ifndef AII_KERNELS_CUDA_ACTIVATION_H
#define AII_KERNELS_CUDA_ACTIVATION_H

#include "kernels/cuda/device.h"

namespace aii
{

/* The order of aii_act. */
enum { ACT_SILU, ACT_GELU, ACT_SWIGLU_OAI, ACT_GELU_ERF };

__device__ inline float bend(int act, float x)
{
  switch (act) {
    case ACT_SILU: return x / (1 + exp1(-x));
    case ACT_GELU: return x / (1 + exp1(x * fmaf(x * x, -0.0713548162f, -1.59576912f)));
    default: return x * (0.5f + 0.5f * erff(x * 0.70710678f));
  }
}

__device__ inline float swiglu_oai(float gate, float up)
{
  const float alpha = 1.702f, limit = 7;
  float g = gate < limit ? gate : limit, u = up < limit ? up : limit;
  if (u < -limit) u = -limit;
  return g / (1 + exp1(-alpha * g)) * (u + 1);
}

__device__ inline float activated(int act, float gate, float up)
{
  return act == ACT_SWIGLU_OAI ? swiglu_oai(gate, up) : bend(act, gate) * up;
}

} // namespace aii

#endif
