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
  int32_t *sums = (int32_t *)(void *)(d + ((size_t)dim + 63) / 64 * 2);
  if (dim % 64 != 0) {
    d[dim / AII_QBLOCK] = 0;
    sums[dim / AII_QBLOCK] = 0;
  }
  for (size_t b = 0; b < dim / AII_QBLOCK; b++) {
    float v[AII_QBLOCK], amax = 0;
    for (size_t i = 0; i < AII_QBLOCK; i++) {
      v[i] = scale * x[b * AII_QBLOCK + i];
      amax = fabsf(v[i]) > amax ? fabsf(v[i]) : amax;
    }
    float inverse = amax != 0 ? 127 / amax : 0;
    d[b] = amax / 127;
    sums[b] = 0;
    for (size_t i = 0; i < AII_QBLOCK; i++) {
      q[b * AII_QBLOCK + i] = (int8_t)fmaxf(-127, fminf(127, rintf(v[i] * inverse)));
      sums[b] -= 128 * q[b * AII_QBLOCK + i];
    }
  }
}

/* Element i of floats or halves. */
static float element(aii_fmt fmt, const void *p, size_t i)
{
  float f;
  if (fmt == AII_FMT_F16) return aii_f16_to_f32(aii_load_u16((const char *)p + 2 * i));
  memcpy(&f, (const char *)p + 4 * i, sizeof f);
  return f;
}

/* Position `at` of a group. */
static float dot(const aii_attn_tile *t, const float *q, const void *group, size_t at)
{
  float sum = 0;
  for (size_t d = 0; d < t->dim; d++) sum = fmaf(q[d], element(t->fmt, group, d * AII_ATTN_GROUP + at), sum);
  return sum;
}

static float dot_q8_0(const aii_attn_tile *t, const int8_t *q, const char *group, size_t at)
{
  const float *dq = (const float *)(const void *)(q + ((size_t)t->dim + 63) / 64 * 64);
  const size_t blocks = t->dim / AII_QBLOCK;
  const int8_t *k = (const int8_t *)group + 2 * blocks * AII_ATTN_GROUP;
  float sum = 0;
  for (size_t b = 0; b < blocks; b++) {
    int32_t isum = 0;
    for (size_t i = b * AII_QBLOCK; i < (b + 1) * AII_QBLOCK; i++)
      isum += q[i] * k[(i / 4 * AII_ATTN_GROUP + at) * 4 + i % 4];
    sum = fmaf((float)isum, aii_f16_to_f32(aii_load_u16(group + 2 * (b * AII_ATTN_GROUP + at))) * dq[b], sum);
  }
  return sum;
}

void aii_ref_attn_scores(const aii_attn_tile *keys, const void *q, uint32_t n_q, float *out, size_t out_stride)
{
  for (uint32_t i = 0; i < n_q; i++) {
    const float *query = (const float *)q + (size_t)i * keys->dim;
    for (size_t j = 0; j < (size_t)keys->n_groups * AII_ATTN_GROUP; j++) {
      const void *group = keys->groups[j / AII_ATTN_GROUP];
      out[i * out_stride + j] = keys->fmt == AII_FMT_Q8_0
                                    ? dot_q8_0(keys, (const void *)query, group, j % AII_ATTN_GROUP)
                                    : dot(keys, query, group, j % AII_ATTN_GROUP);
    }
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

/* For x up to AII_ATTN_SLACK. */
static float exp2_of(float x)
{
  if (x < AII_EXP2_LEAST) return 0;
  float n = rintf(x), r = x - n, p = AII_EXP2_C5;
  p = fmaf(p, r, AII_EXP2_C4);
  p = fmaf(p, r, AII_EXP2_C3);
  p = fmaf(p, r, AII_EXP2_C2);
  p = fmaf(p, r, AII_EXP2_C1);
  return ldexpf(fmaf(p, r, 1), n > AII_EXP2_LEAST ? (int)n : (int)AII_EXP2_LEAST);
}

void aii_ref_attn_soften(const aii_attn_state *s)
{
  const uint32_t from = s->first / AII_ATTN_GROUP * AII_ATTN_GROUP,
                 to = (s->end + AII_ATTN_GROUP - 1) / AII_ATTN_GROUP * AII_ATTN_GROUP;
  for (uint32_t i = 0; i < s->n_q; i++) {
    float *x = s->scores + i * s->stride, *l = s->l + (size_t)i * AII_LANES;
    for (uint32_t j = from; j < to; j++)
      if (j < s->first || j >= s->end) x[j] = -INFINITY;
    float top = aii_ref_max(x + s->first, s->end - s->first);
    if (top > s->m[i] + AII_ATTN_SLACK) {
      float factor = exp2_of(s->m[i] - top);
      aii_ref_scale(l, factor, AII_LANES);
      aii_ref_scale(s->acc + (size_t)i * s->dim, factor, s->dim);
      s->m[i] = top;
    }
    for (uint32_t j = from; j < to; j++) {
      x[j] = exp2_of(x[j] - s->m[i]);
      l[j % AII_LANES] += x[j];
    }
  }
}

static void add_floats(const aii_attn_tile *values, const aii_attn_state *s, uint32_t i)
{
  const float *p = s->scores + i * s->stride;
  float *acc = s->acc + (size_t)i * s->dim;
  for (uint32_t j = s->first; j < s->end; j++)
    for (size_t d = 0; d < s->dim; d++)
      acc[d] =
          fmaf(p[j], element(values->fmt, values->groups[j / AII_ATTN_GROUP], j % AII_ATTN_GROUP * s->dim + d), acc[d]);
}

/* Integer d of position `at` in a group of values. */
static int32_t integer(const char *group, size_t dim, size_t at, size_t d)
{
  const int8_t *q = (const int8_t *)group + 2 * (dim / AII_QBLOCK) * AII_ATTN_GROUP;
  return q[(at / 2 * dim + d) * 2 + at % 2];
}

/* Block b of query i. */
static void add_block(const aii_attn_tile *values, const aii_attn_state *s, uint32_t i, size_t b)
{
  float w[AII_ATTN_TILE], most = 0;
  for (uint32_t j = s->first; j < s->end; j++) {
    const char *group = values->groups[j / AII_ATTN_GROUP];
    float d = aii_f16_to_f32(aii_load_u16(group + 2 * (b * AII_ATTN_GROUP + j % AII_ATTN_GROUP)));
    w[j] = s->scores[i * s->stride + j] * d;
    most = w[j] > most ? w[j] : most;
  }
  float inverse = most != 0 ? 32767 / most : 0;
  for (size_t d = b * AII_QBLOCK; d < (b + 1) * AII_QBLOCK; d++) {
    int32_t sum = 0;
    for (uint32_t j = s->first; j < s->end; j++)
      sum +=
          (int32_t)rintf(w[j] * inverse) * integer(values->groups[j / AII_ATTN_GROUP], s->dim, j % AII_ATTN_GROUP, d);
    float *acc = &s->acc[(size_t)i * s->dim + d];
    *acc = fmaf((float)sum, most / 32767, *acc);
  }
}

void aii_ref_attn_values(const aii_attn_tile *values, const aii_attn_state *s)
{
  for (uint32_t i = 0; i < s->n_q; i++) {
    if (values->fmt != AII_FMT_Q8_0) add_floats(values, s, i);
    for (size_t b = 0; b < s->dim / AII_QBLOCK && values->fmt == AII_FMT_Q8_0; b++) add_block(values, s, i, b);
  }
}
