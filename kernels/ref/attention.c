/* kernels/ref/attention.c - the steps of attention over one tile of keys. */
#include "kernels/ref/ref.h"

void aii_ref_attn_query(aii_fmt fmt, const float *x, uint32_t dim, float scale, void *out)
{
  float *floats = out, *d = (float *)(void *)((char *)out + ((size_t)dim + 63) / 64 * 64);
  int8_t *q = out;
  if (fmt != AII_FMT_Q8_0) {
    for (size_t i = 0; i < dim; i++) floats[i] = scale * x[i];
    return;
  }
  memset(q, 0, ((size_t)dim + 63) / 64 * 64);
  if (dim % 64 != 0) d[dim / AII_QBLOCK] = 0;
  for (size_t b = 0; b < dim / AII_QBLOCK; b++) {
    float v[AII_QBLOCK], amax = 0;
    for (size_t i = 0; i < AII_QBLOCK; i++) {
      v[i] = scale * x[b * AII_QBLOCK + i];
      amax = fabsf(v[i]) > amax ? fabsf(v[i]) : amax;
    }
    float inverse = amax != 0 ? 127 / amax : 0;
    d[b] = amax / 127;
    for (size_t i = 0; i < AII_QBLOCK; i++)
      q[b * AII_QBLOCK + i] = (int8_t)fmaxf(-127, fminf(127, rintf(v[i] * inverse)));
  }
}

/* Element i of a row of floats or halves. */
static float element(aii_fmt fmt, const void *row, size_t i)
{
  const unsigned char *p = row;
  float f;
  if (fmt == AII_FMT_F16) return aii_f16_to_f32(aii_load_u16(p + 2 * i));
  memcpy(&f, p + 4 * i, sizeof f);
  return f;
}

#define EIGHT 8

static float eight_sum(float lane[EIGHT])
{
  for (int w = EIGHT / 2; w > 0; w /= 2)
    for (int i = 0; i < w; i++) lane[i] += lane[i + w];
  return lane[0];
}

static float dot(const aii_attn_tile *t, const float *q, const void *row)
{
  float lane[EIGHT] = {0};
  for (size_t i = 0; i < t->dim; i++) lane[i % EIGHT] = fmaf(q[i], element(t->fmt, row, i), lane[i % EIGHT]);
  return eight_sum(lane);
}

static float dot_q8_0(const aii_attn_tile *t, const int8_t *q, const unsigned char *block)
{
  const float *d = (const float *)(const void *)(q + ((size_t)t->dim + 63) / 64 * 64);
  float lane[EIGHT] = {0};
  for (size_t b = 0; b < t->dim / AII_QBLOCK; b++, block += AII_Q8_0_BYTES, q += AII_QBLOCK) {
    float scale = aii_f16_to_f32(aii_load_u16(block)) * d[b];
    for (size_t j = 0; j < EIGHT; j++) {
      int sum = 0;
      for (size_t i = 4 * j; i < 4 * j + 4; i++) sum += (int8_t)block[2 + i] * q[i];
      lane[j] = fmaf((float)sum, scale, lane[j]);
    }
  }
  return eight_sum(lane);
}

void aii_ref_attn_scores(const aii_attn_tile *keys, const void *q, uint32_t n_q, float *out, size_t out_stride)
{
  for (uint32_t i = 0; i < n_q; i++) {
    const float *query = (const float *)q + (size_t)i * keys->dim;
    for (uint32_t j = 0; j < keys->n_rows; j++)
      out[i * out_stride + j] = keys->fmt == AII_FMT_Q8_0 ? dot_q8_0(keys, (const void *)query, keys->rows[j])
                                                          : dot(keys, query, keys->rows[j]);
  }
}

float aii_ref_max(const float *x, size_t n)
{
  float m = x[0];
  for (size_t i = 1; i < n; i++) m = x[i] > m ? x[i] : m;
  return m;
}

float aii_ref_exp_sum(float *x, size_t n, float m)
{
  float lane[AII_LANES] = {0};
  for (size_t i = 0; i < n; i++) {
    x[i] = aii_ref_exp1(x[i] - m);
    lane[i % AII_LANES] += x[i];
  }
  return aii_lane_sum(lane);
}

void aii_ref_attn_values(const aii_attn_tile *values, const float *p, size_t p_stride, uint32_t n_q, float *acc)
{
  for (uint32_t j = 0; j < values->n_rows; j++) {
    const unsigned char *row = values->rows[j];
    for (size_t d = 0; d < values->dim; d++) {
      const unsigned char *block = row + d / AII_QBLOCK * AII_Q8_0_BYTES;
      bool scaled = values->fmt == AII_FMT_Q8_0;
      float v = scaled ? (float)(int8_t)block[2 + d % AII_QBLOCK] : element(values->fmt, row, d);
      float scale = scaled ? aii_f16_to_f32(aii_load_u16(block)) : 1;
      for (uint32_t i = 0; i < n_q; i++) {
        float *a = &acc[i * (size_t)values->dim + d];
        *a = fmaf(p[i * p_stride + j] * scale, v, *a);
      }
    }
  }
}
