/* code.c - vectors in 8 bits an element: what walks and scans compare instead of floats.
 *
 * A vector is its codes, integers from -127 to 127, times a scale of its own. So a product of two vectors is a product
 * of integers, the same on every CPU, and takes a quarter of the memory. For each vector the length of what its codes
 * leave out is kept, the error: by Cauchy and Schwarz a product is off by at most error times length, which is how a
 * scan over codes knows all slots whose floats it must see. A query may have codes for what its codes left out as well.
 *
 * Nothing fails but memory. Vectors beyond what floats can square have an infinite error: they are always looked at.
 */
#include <float.h>
#include <math.h>

#include "src/vector/vector.h"

enum { LANES = 16 };
#define ROUND 0x1.8p23f /* what is added to it loses its fraction: the last bits are the integer */
#define TINY 1e-30f     /* a largest element below it counts as 0: 127 / it would be beyond a float */

/* In lanes, so that compilers use the registers there are; the order of the sum is fixed all the same. */
static float largest(const float *v, uint32_t n)
{
  float lane[LANES] = {0};
  uint32_t i = 0;
  for (; i + LANES <= n; i += LANES)
    for (int l = 0; l < LANES; l++) {
      float a = fabsf(v[i + (uint32_t)l]);
      lane[l] = a > lane[l] ? a : lane[l];
    }
  for (; i < n; i++) lane[0] = AII_MAX(lane[0], fabsf(v[i]));
  for (int l = 1; l < LANES; l++) lane[0] = AII_MAX(lane[0], lane[l]);
  return lane[0];
}

static int32_t code_of(float scaled)
{
  float shifted = scaled + ROUND;
  int32_t bits;
  memcpy(&bits, &shifted, sizeof bits);
  return (bits & 0x7FFFFF) - 0x400000;
}

static double square_sum(const float *v, uint32_t n)
{
  double lane[LANES] = {0}, sum = 0;
  uint32_t i = 0;
  for (; i + LANES <= n; i += LANES)
    for (int l = 0; l < LANES; l++) lane[l] += (double)v[i + (uint32_t)l] * (double)v[i + (uint32_t)l];
  for (; i < n; i++) lane[0] += (double)v[i] * (double)v[i];
  for (int l = 0; l < LANES; l++) sum += lane[l];
  return sum;
}

static float up(double x)
{
  return x > (double)FLT_MAX / 2 ? INFINITY : (float)(x * (1 + 1e-6)) + TINY;
}

void aii_code_make(const aii_index *index, const float *vector, uint8_t *out, aii_code *code, float *rest)
{
  enum { RUN = 64 };
  float most = largest(vector, index->dims), inverse = most > TINY ? 127 / most : 0, left[RUN];
  int64_t sum = 0, squares = 0;
  double error = 0;
  code->scale = most > TINY ? most / 127 : 0;
  code->codes = out;
  memset(out, 128, index->code_bytes);
  for (uint32_t from = 0; from < index->dims; from += RUN) {
    uint32_t n = AII_MIN((uint32_t)RUN, index->dims - from);
    int32_t run_sum = 0, run_squares = 0;
    for (uint32_t i = 0; i < n; i++) {
      int32_t c = code_of(vector[from + i] * inverse);
      out[from + i] = (uint8_t)(c + 128);
      left[i] = vector[from + i] - (float)c * code->scale;
      run_sum += c;
      run_squares += c * c;
    }
    sum += run_sum;
    squares += run_squares;
    error += square_sum(left, n);
    if (rest != NULL) memcpy(rest + from, left, n * sizeof *rest);
  }
  code->start = (int32_t)(-128 * sum);
  code->norm = (float)((double)squares * (double)code->scale * (double)code->scale);
  code->error = up(sqrt(error) + (double)most * 1e-7 * sqrt((double)index->dims));
}

void aii_code_store(aii_index *index, uint32_t slot, const aii_code *code)
{
  aii_block *block = aii_block_of(index, slot);
  uint32_t at = slot % AII_BLOCK_SLOTS;
  memcpy(block->codes + (size_t)at * index->code_bytes, code->codes, index->code_bytes);
  block->scale[at] = code->scale;
  block->norm[at] = code->norm;
  block->error[at] = code->error;
  block->sum[at] = code->start / -128;
}

bool aii_code_is(const aii_index *index, uint32_t slot, const aii_code *code)
{
  const aii_block *block = aii_block_of(index, slot);
  uint32_t at = slot % AII_BLOCK_SLOTS;
  if (block->scale[at] != code->scale || block->error[at] != code->error) return false;
  return memcmp(aii_codes_of(index, slot), code->codes, index->code_bytes) == 0;
}

aii_code aii_code_of(const aii_index *index, uint32_t slot)
{
  const aii_block *block = aii_block_of(index, slot);
  uint32_t at = slot % AII_BLOCK_SLOTS;
  return (aii_code){aii_codes_of(index, slot), -128 * block->sum[at], block->scale[at], block->norm[at],
                    block->error[at]};
}

float aii_code_dist(const aii_index *index, const aii_code *code, uint32_t slot, int32_t dot)
{
  const aii_block *block = aii_block_of(index, slot);
  uint32_t at = slot % AII_BLOCK_SLOTS;
  float product = code->scale * block->scale[at] * (float)dot;
  float dist = index->metric == AIINFRA_METRIC_L2 ? (code->norm + block->norm[at]) - 2 * product : -product;
  return isnan(dist) ? INFINITY : dist;
}

float aii_code_dist_of(const aii_index *index, const aii_code *code, uint32_t slot)
{
  const uint8_t *row = aii_codes_of(index, slot);
  int32_t dot;
  index->kernels->vec_codes(&row, 1, code->codes, index->code_bytes, code->start, &dot);
  return aii_code_dist(index, code, slot, dot);
}

/* ---- bounds ---------------------------------------------------------------------------------------------------- */

bool aii_fine_make(aii_index *index, const float *query, aii_fine_code *fine)
{
  float *rest = aii_new_array(index->mem, index->dims, sizeof *rest);
  memset(fine, 0, sizeof *fine);
  fine->memory = aii_new_aligned(index->mem, (size_t)2 * index->code_bytes);
  bool ok = rest != NULL && fine->memory != NULL;
  if (ok) {
    aii_code_make(index, query, fine->memory, &fine->high, rest);
    aii_code_make(index, rest, fine->memory + index->code_bytes, &fine->low, NULL);
    fine->length = up(sqrt(square_sum(query, index->dims)));
  } else {
    aii_fine_free(index, fine);
  }
  aii_del(index->mem, rest, index->dims * sizeof *rest);
  return ok;
}

void aii_fine_free(aii_index *index, aii_fine_code *fine)
{
  aii_del_aligned(index->mem, fine->memory, (size_t)2 * index->code_bytes);
  fine->memory = NULL;
}

/* Floats add up with an error of their own: `part` is what a sum of dims products may be off, relative to lengths. */
static aii_bounds bounds_l2(const aii_block *block, uint32_t at, const aii_fine_code *fine, double product, double part)
{
  double length = sqrt((double)block->norm[at]), total = (length + (double)fine->length);
  double q = (double)fine->length, square = q * q + (double)block->norm[at] - 2 * product;
  /* q^2 is rounded up, and product lacks what the query's codes left out: both are within these */
  double off = 1e-5 * q * q + 2 * length * (double)fine->low.error + 1e-6 * total * total;
  double near = sqrt(AII_MAX(0.0, square - off)) - (double)block->error[at];
  double far = sqrt(AII_MAX(0.0, square + off)) + (double)block->error[at];
  near = AII_MAX(0.0, near);
  return (aii_bounds){(float)(near * near * (1 - part) - 1e-37), (float)(far * far * (1 + part) + 1e-37)};
}

aii_bounds aii_fine_bounds(const aii_index *index, const aii_fine_code *fine, uint32_t slot, int32_t high, int32_t low)
{
  const aii_block *block = aii_block_of(index, slot);
  uint32_t at = slot % AII_BLOCK_SLOTS;
  double scale = (double)block->scale[at], part = 1e-6 + ((double)index->dims / 16 + 8) * 1.2e-7;
  double product = scale * ((double)fine->high.scale * high + (double)fine->low.scale * low);
  aii_bounds b;
  if (index->metric == AIINFRA_METRIC_L2) {
    b = bounds_l2(block, at, fine, product, part);
  } else {
    double length = sqrt((double)block->norm[at]);
    double off = (double)block->error[at] * (double)fine->length + length * (double)fine->low.error;
    off += part * (length + (double)block->error[at]) * (double)fine->length + 1e-37;
    b = (aii_bounds){(float)(-product - off), (float)(-product + off)};
  }
  /* the cast to float rounds by less than what `part` adds */
  if (!isfinite(b.low) || !isfinite(b.high)) b = (aii_bounds){-INFINITY, INFINITY};
  return b;
}

float aii_code_doubt(const aii_index *index, const aii_code *code, uint32_t slot)
{
  const aii_block *block = aii_block_of(index, slot);
  uint32_t at = slot % AII_BLOCK_SLOTS;
  /* what codes leave out points anywhere, so that of its length the share of one direction counts: three times that */
  float own = block->error[at] * block->error[at], other = code->error * code->error;
  float square = own * code->norm + other * block->norm[at];
  if (index->metric == AIINFRA_METRIC_L2) {
    float dist = AII_MAX(0.0f, aii_code_dist_of(index, code, slot));
    square = 4 * (own + other) * dist;
  }
  float doubt = 3 * sqrtf(square / (float)index->dims);
  return isfinite(doubt) ? doubt : INFINITY;
}
