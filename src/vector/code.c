/* code.c - vectors in 8 bits an element, and three more: what walks and scans compare instead of floats.
 *
 * A vector is its codes, integers from -127 to 127, times a scale of its own. So a product of two vectors is a product
 * of integers, the same on every CPU, and takes a quarter of the memory. Walks and scans see codes alone. What they
 * found is measured with three more bits of each element, which lie apart: an element is then off by a sixteenth of
 * the scale at most. For each vector the length of what all its bits leave out is kept, the error: by Cauchy and
 * Schwarz a product is off by at most error times length, which is how an exact search knows all rows it must read.
 *
 * Nothing fails. Vectors beyond what floats can square have an infinite error: they are always looked at.
 */
#include <float.h>
#include <math.h>

#include "src/vector/vector.h"

enum { LANES = 16 };
#define ROUND 0x1.8p23f /* what is added to it loses its fraction: the last bits are the integer */
enum { RUN = AII_CODE_BLOCK, TWOS = 16, ONES = 8 }; /* fine bits of 64 elements: 2 bits each, then 1 bit each */
#define TINY 1e-30f /* a largest element below it counts as 0: 127 / it would be beyond a float */

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

/* Fine bits of 64 elements: element i has two of them in byte i % 16 and one in byte 16 + i % 8. */
static void pack_fine(const uint8_t low[RUN], uint8_t out[TWOS + ONES])
{
  memset(out, 0, TWOS + ONES);
  for (int i = 0; i < RUN; i++) {
    out[i % TWOS] = (uint8_t)(out[i % TWOS] | (low[i] & 3) << i / TWOS * 2);
    out[TWOS + i % ONES] = (uint8_t)(out[TWOS + i % ONES] | low[i] >> 2 << i / ONES);
  }
}

static void unpack_fine(const uint8_t in[TWOS + ONES], uint8_t low[RUN])
{
  for (int s = 0; s < RUN / TWOS; s++) {
    for (int i = 0; i < TWOS; i++) low[s * TWOS + i] = in[i] >> 2 * s & 3;
  }
  for (int s = 0; s < RUN / ONES; s++) {
    for (int i = 0; i < ONES; i++) low[s * ONES + i] = (uint8_t)(low[s * ONES + i] | (in[TWOS + i] >> s & 1) << 2);
  }
}

/* Elements from codes and fine bits: these are eighths of the scale, from -1/2 on, and mean the middle of theirs. */
static void decode(const uint8_t *codes, const uint8_t *fine, float scale, float out[RUN])
{
  uint8_t low[RUN];
  float eighth = scale / 8, zero = eighth * (0.5f - 4 - 8 * 128);
  unpack_fine(fine, low);
  for (int i = 0; i < RUN; i++) out[i] = (float)(codes[i] * 8 + low[i]) * eighth + zero;
}

void aii_code_make(const aii_index *index, const float *vector, uint8_t *out, aii_code *code)
{
  float most = largest(vector, index->dims), inverse = most > TINY ? 127 / most : 0, x[RUN], left[RUN];
  uint8_t *fine = out + index->code_bytes, low[RUN];
  int64_t sum = 0, squares = 0;
  double error = 0, coarse = 0;
  code->scale = most > TINY ? most / 127 : 0;
  code->codes = out;
  memset(out, 128, index->code_bytes);
  for (uint32_t from = 0; from < index->dims; from += RUN, fine += TWOS + ONES) {
    uint32_t n = AII_MIN((uint32_t)RUN, index->dims - from);
    memset(low, 0, sizeof low);
    for (uint32_t i = 0; i < n; i++) {
      float scaled = vector[from + i] * inverse;
      int32_t c = code_of(scaled), f = (int32_t)((scaled - (float)c + 0.5f) * 8);
      out[from + i] = (uint8_t)(c + 128);
      low[i] = (uint8_t)(f < 0 ? 0 : f > 7 ? 7 : f);
      left[i] = vector[from + i] - (float)c * code->scale;
      sum += c;
      squares += c * c;
    }
    coarse += square_sum(left, n);
    pack_fine(low, fine);
    decode(out + from, fine, code->scale, x);
    for (uint32_t i = 0; i < n; i++) left[i] = vector[from + i] - x[i];
    error += square_sum(left, n);
  }
  code->start = (int32_t)(-128 * sum);
  code->norm = (float)((double)squares * (double)code->scale * (double)code->scale);
  code->error = up(sqrt(error) + (double)most * 1e-6 * sqrt((double)index->dims));
  code->coarse = up(sqrt(coarse) + (double)most * 1e-6 * sqrt((double)index->dims));
}

void aii_code_store(aii_index *index, uint32_t slot, const aii_code *code)
{
  aii_block *block = aii_block_of(index, slot);
  uint32_t at = slot % AII_BLOCK_SLOTS;
  memcpy(block->codes + (size_t)at * index->code_bytes, code->codes, index->code_bytes);
  memcpy(block->fine + (size_t)at * index->fine_bytes, code->codes + index->code_bytes, index->fine_bytes);
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
  return memcmp(aii_codes_of(index, slot), code->codes, index->code_bytes) == 0 &&
         memcmp(block->fine + (size_t)at * index->fine_bytes, code->codes + index->code_bytes, index->fine_bytes) == 0;
}

aii_code aii_code_of(const aii_index *index, uint32_t slot)
{
  const aii_block *block = aii_block_of(index, slot);
  uint32_t at = slot % AII_BLOCK_SLOTS;
  return (aii_code){aii_codes_of(index, slot), -128 * block->sum[at], block->scale[at],
                    block->norm[at],           block->error[at],      0};
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

float aii_code_doubt(const aii_index *index, const aii_code *code, uint32_t slot)
{
  const aii_block *block = aii_block_of(index, slot);
  uint32_t at = slot % AII_BLOCK_SLOTS;
  /* codes leave out up to half a scale of each element, evenly: a twelfth of its square. That points anywhere, so that
   * of its length the share of one direction counts: the sum over the elements, in which dims cancel. Four times that. */
  float own = block->scale[at] * block->scale[at] / 12, other = code->scale * code->scale / 12;
  float square = own * code->norm + other * block->norm[at];
  if (index->metric == AIINFRA_METRIC_L2) {
    square = 4 * (own + other) * AII_MAX(0.0f, aii_code_dist_of(index, code, slot));
  }
  float doubt = 4 * sqrtf(square);
  return isfinite(doubt) ? doubt : INFINITY;
}

/* ---- vectors and bounds ---------------------------------------------------------------------------------------- */

void aii_code_vector(const aii_index *index, uint32_t slot, float *out)
{
  const aii_block *block = aii_block_of(index, slot);
  uint32_t at = slot % AII_BLOCK_SLOTS;
  const uint8_t *codes = aii_codes_of(index, slot), *fine = block->fine + (size_t)at * index->fine_bytes;
  for (uint32_t i = 0; i < index->code_bytes; i += RUN, fine += TWOS + ONES) {
    decode(codes + i, fine, block->scale[at], out + i);
  }
}

float aii_length_of(const float *vector, uint32_t n)
{
  return up(sqrt(square_sum(vector, n)));
}

aii_bounds aii_code_bounds(const aii_index *index, uint32_t slot, float dist, float length)
{
  const aii_block *block = aii_block_of(index, slot);
  uint32_t at = slot % AII_BLOCK_SLOTS;
  /* `part`: what two sums of dims products in floats may be off, relative to the lengths; own: of the slot's vector */
  double part = 1e-6 + 2 * ((double)index->dims / 16 + 8) * 1.2e-7, error = (double)block->error[at];
  double own = sqrt((double)block->norm[at]) + (double)block->scale[at] * sqrt((double)index->dims);
  double low, high;
  if (index->metric == AIINFRA_METRIC_L2) {
    double root = sqrt(AII_MAX(0.0, (double)dist)), near = AII_MAX(0.0, root * (1 - part) - error);
    double far = root * (1 + part) + error;
    low = near * near * (1 - part) - 1e-37;
    high = far * far * (1 + part) + 1e-37;
  } else {
    double off = error * (double)length + part * (own + error) * (double)length + 1e-37;
    low = (double)dist - off;
    high = (double)dist + off;
  }
  if (!isfinite((float)low) || !isfinite((float)high)) return (aii_bounds){-INFINITY, INFINITY};
  /* outwards, by more than the cast to float rounds */
  return (aii_bounds){(float)(low - fabs(low) * 1e-6), (float)(high + fabs(high) * 1e-6)};
}
