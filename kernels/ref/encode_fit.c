/* kernels/ref/encode_fit.c - the searches for scales: weighted least squares over candidates.
 *
 * For given levels the best scale is a quotient of sums; for a given scale the best levels are the nearest ones. A
 * search tries scales around the one that maps the largest value to the last level, then lets the two rules improve
 * the best candidate in turn.
 */
#include "kernels/ref/encode.h"

#define CANDIDATES 9 /* on either side */
#define STEP 0.1f    /* of a level, at the end of the range */
#define REFINEMENTS 3

static float level_value(const aii_levels *l, int index)
{
  return l->table != NULL ? (float)l->table[index] : (float)index;
}

/* To an integer, for |v| < 2^22: adding pushes the fraction out, to nearest even. */
static float round_small(float v)
{
  return (v + 0x1.8p23f) - 0x1.8p23f;
}

void aii_fit_nearest(const aii_levels *l, const float *x, float inverse, int n, float *value)
{
  if (l->table == NULL) {
    float lo = (float)l->lo, hi = (float)l->hi;
    for (int i = 0; i < n; i++) {
      float v = x[i] * inverse;
      v = v > lo ? v : lo;
      value[i] = round_small(v < hi ? v : hi);
    }
    return;
  }
  float v[32], level[32];
  for (int i = 0; i < n; i++) {
    v[i] = x[i] * inverse;
    level[i] = (float)l->table[0];
  }
  for (int k = 0; k < 15; k++) { /* climbs where a middle is passed: exact, and no branch to be guessed */
    float step = (float)(l->table[k + 1] - l->table[k]), middle = (float)l->table[k] + step / 2;
    for (int i = 0; i < n; i++) level[i] += v[i] > middle ? step : 0.0f;
  }
  memcpy(value, level, (size_t)n * sizeof *value);
}

int8_t aii_fit_index(const aii_levels *l, float value)
{
  int index = l->lo;
  if (l->table == NULL) return (int8_t)value;
  while (index < l->hi && (float)l->table[index] < value) index++;
  return (int8_t)index;
}

void aii_fit_weights(const float *x, const float *importance, int n, float *w)
{
  float squares = 0, total = 0;
  for (int i = 0; i < n; i++) {
    squares += x[i] * x[i];
    total += importance != NULL ? importance[i] : 1;
  }
  for (int i = 0; i < n; i++)
    w[i] = (importance != NULL && total > 0 ? importance[i] : 1) * sqrtf(squares / (float)n + x[i] * x[i]);
}

float aii_fit_sum(const float *w, const float *a, const float *b, int n)
{
  float lane[8] = {0};
  for (int i = 0; i < n; i += 8)
    for (int j = 0; j < 8; j++) lane[j] += w[i + j] * a[i + j] * b[i + j];
  return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

static const float ones[32] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                               1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

/* ---- a scale alone ---- */

typedef struct scale_fit {
  float d, gain; /* gain: by how much the error is less than with d = 0 */
} scale_fit;

static void try_scale(const aii_levels *l, const float *x, const float *w, int n, float inverse, scale_fit *best)
{
  float value[32];
  aii_fit_nearest(l, x, inverse, n, value);
  float xv = aii_fit_sum(w, x, value, n), vv = aii_fit_sum(w, value, value, n);
  if (vv > 0 && xv * xv > best->gain * vv) *best = (scale_fit){xv / vv, xv * xv / vv};
}

float aii_fit_scale(const aii_levels *l, const float *x, const float *w, int n)
{
  float peak = 0;
  for (int i = 0; i < n; i++) peak = fabsf(x[i]) > fabsf(peak) ? x[i] : peak;
  if (peak == 0) return 0;
  scale_fit best = {0, 0};
  for (int end = 0; end < 2; end++) {
    float last = level_value(l, end == 0 ? l->lo : l->hi), before = level_value(l, end == 0 ? l->lo + 1 : l->hi - 1);
    for (int k = -CANDIDATES; k <= CANDIDATES; k++)
      try_scale(l, x, w, n, (last + STEP * (float)k * (last - before)) / peak, &best);
  }
  for (int round = 0; round < REFINEMENTS && best.d != 0; round++) {
    float d = best.d;
    try_scale(l, x, w, n, 1 / d, &best);
    if (best.d == d) break;
  }
  return best.d;
}

/* ---- a scale and a minimum ---- */

typedef struct min_problem {
  int q_max, n;
  bool any_min;
  const float *x, *w;
  float sum_w, sum_x;
} min_problem;

typedef struct min_fit {
  float d, m, gain;
} min_fit;

/* Levels from (x + m) * inverse, then the best d and m for these levels. */
static void try_scale_min(const min_problem *p, float m, float inverse, min_fit *best)
{
  float q[32];
  for (int i = 0; i < p->n; i++) {
    float v = (p->x[i] + m) * inverse;
    v = v > 0 ? v : 0;
    q[i] = round_small(v < (float)p->q_max ? v : (float)p->q_max);
  }
  float sum_q = aii_fit_sum(p->w, q, ones, p->n), qq = aii_fit_sum(p->w, q, q, p->n),
        xq = aii_fit_sum(p->w, p->x, q, p->n);
  if (!(qq > 0)) return;
  float det = p->sum_w * qq - sum_q * sum_q;
  min_fit f = {xq / qq, 0, 0};
  if (det > 1e-5f * p->sum_w * qq) { /* else the levels are all the same, but for rounding */
    f.d = (p->sum_w * xq - p->sum_x * sum_q) / det;
    f.m = (sum_q * xq - qq * p->sum_x) / det;
  }
  if (f.m < 0 && !p->any_min) {
    f.m = 0;
    f.d = xq / qq;
  }
  f.gain = f.d * xq - f.m * p->sum_x;
  if (f.d > 0 && f.gain > best->gain) *best = f;
}

float aii_fit_scale_min(int q_max, const float *x, const float *w, int n, bool any_min, float *m)
{
  min_problem p = {.q_max = q_max, .n = n, .any_min = any_min, .x = x, .w = w};
  float lo = x[0], hi = x[0];
  for (int i = 1; i < n; i++) {
    lo = x[i] < lo ? x[i] : lo;
    hi = x[i] > hi ? x[i] : hi;
  }
  if (lo > 0 && !any_min) lo = 0;
  *m = -lo;
  if (!(hi > lo)) return 0;
  p.sum_w = aii_fit_sum(w, ones, ones, n);
  p.sum_x = aii_fit_sum(w, x, ones, n);
  min_fit best = {0, -lo, 0};
  for (int k = -CANDIDATES; k <= CANDIDATES; k++)
    try_scale_min(&p, -lo, ((float)q_max + STEP * (float)k) / (hi - lo), &best);
  for (int round = 0; round < REFINEMENTS && best.d > 0; round++) {
    float gain = best.gain;
    try_scale_min(&p, best.m, 1 / best.d, &best);
    if (best.gain == gain) break;
  }
  *m = best.m;
  return best.d;
}
