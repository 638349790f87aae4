/* kernels/ref/half.c - IEEE binary16, by its bits. */
#include "kernels/ref/ref.h"

static float from_bits(uint32_t u)
{
  float f;
  memcpy(&f, &u, sizeof f);
  return f;
}

float aii_f16_to_f32(uint16_t half)
{
  uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
  uint32_t exponent = (half >> 10) & 0x1fu;
  uint32_t fraction = half & 0x3ffu;
  if (exponent == 0x1f) /* infinity, or a NaN that becomes quiet as in hardware */
    return from_bits(sign | 0x7f800000u | fraction << 13 | (fraction != 0 ? 0x400000u : 0));
  if (exponent != 0) return from_bits(sign | (exponent + 112) << 23 | fraction << 13);
  float magnitude = (float)fraction * 0x1p-24f; /* zero or subnormal: exact */
  return sign != 0 ? -magnitude : magnitude;
}

/* Drops `shift` bits of v, to nearest, ties to even. */
static uint32_t shift_round(uint32_t v, uint32_t shift)
{
  uint32_t half = 1u << (shift - 1);
  uint32_t rest = v & ((half << 1) - 1);
  v >>= shift;
  if (rest > half || (rest == half && (v & 1u) != 0)) v++;
  return v;
}

uint16_t aii_f32_to_f16(float f)
{
  uint32_t u;
  memcpy(&u, &f, sizeof u);
  uint32_t sign = (u >> 16) & 0x8000u;
  u &= 0x7fffffffu;
  if (u > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | (u >> 13 & 0x3ffu));
  if (u >= 0x47800000u) return (uint16_t)(sign | 0x7c00u); /* 65536 and more */
  if (u >= 0x38800000u)                                    /* normal; a carry may reach infinity, which is right */
    return (uint16_t)(sign | shift_round(u - (112u << 23), 13));
  if (u < 0x33000000u) return (uint16_t)sign; /* below half of the least subnormal */
  uint32_t fraction = (u & 0x7fffffu) | 0x800000u;
  return (uint16_t)(sign | shift_round(fraction, 126 - (u >> 23)));
}
