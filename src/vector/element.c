/* element.c - how a row stores its vector: as it was given, or in fewer bytes.
 *
 *   f32      dims floats
 *   f16      dims halves, each the nearest
 *   int8     a float, the scale: the largest element / 127; dims bytes, each the nearest multiple of it
 *   binary   dims bits, from the lowest of each byte on: 1 for an element above 0, which means 1; 0 means -1
 *
 * What is stored is the vector from then on: indexes, scores and what "exact" means follow from it alone. Queries keep
 * their floats. Nothing fails here but a check: a vector may have no meaning any more in fewer bytes.
 */
#include <float.h>
#include <math.h>

#include "src/vector/vector.h"

enum { SCALE_BYTES = sizeof(float), SOME = 256 }; /* elements at a time */

size_t aii_element_bytes(int32_t element, uint32_t dims)
{
  switch (element) {
    case AIINFRA_ELEMENT_F16: return (size_t)dims * 2;
    case AIINFRA_ELEMENT_INT8: return SCALE_BYTES + (size_t)dims;
    case AIINFRA_ELEMENT_BINARY: return ((size_t)dims + 7) / 8;
    default: return (size_t)dims * sizeof(float);
  }
}

/* 127 of it are no more than a float can hold; 0: all elements are 0, or as good as that. */
static float scale_of(const float *v, uint32_t dims)
{
  float most = 0;
  for (uint32_t i = 0; i < dims; i++) most = AII_MAX(most, fabsf(v[i]));
  float scale = most / 127;
  while (isinf(scale * 127)) scale = nextafterf(scale, 0);
  return scale < FLT_MIN ? 0 : scale; /* smaller ones have lost their digits */
}

static void encode_int8(const float *v, uint32_t dims, uint8_t *out)
{
  float scale = scale_of(v, dims);
  memcpy(out, &scale, sizeof scale);
  for (uint32_t i = 0; i < dims; i++) {
    double steps = scale > 0 ? rint((double)v[i] / (double)scale) : 0;
    int8_t code = (int8_t)AII_MAX(-127.0, AII_MIN(127.0, steps));
    memcpy(out + SCALE_BYTES + i, &code, 1);
  }
}

void aii_element_encode(const aii_index *index, const float *v, uint8_t *out)
{
  size_t bytes = aii_element_bytes(index->element, index->dims);
  switch (index->element) {
    case AIINFRA_ELEMENT_F16: index->kernels->quant[AII_FMT_F16](v, index->dims, out); break;
    case AIINFRA_ELEMENT_INT8: encode_int8(v, index->dims, out); break;
    case AIINFRA_ELEMENT_BINARY:
      memset(out, 0, bytes);
      for (uint32_t i = 0; i < index->dims; i++) out[i / 8] = (uint8_t)(out[i / 8] | (v[i] > 0) << i % 8);
      break;
    default: memcpy(out, v, bytes);
  }
}

bool aii_element_decode(const aii_index *index, const void *stored, size_t n, float *out)
{
  const uint8_t *in = stored;
  float scale;
  if (stored == NULL || n != aii_element_bytes(index->element, index->dims)) return false;
  switch (index->element) {
    case AIINFRA_ELEMENT_F16: index->kernels->dequant[AII_FMT_F16](in, index->dims, out); break;
    case AIINFRA_ELEMENT_INT8:
      memcpy(&scale, in, sizeof scale);
      for (uint32_t i = 0; i < index->dims; i++) out[i] = (float)(int8_t)in[SCALE_BYTES + i] * scale;
      break;
    case AIINFRA_ELEMENT_BINARY:
      for (uint32_t i = 0; i < index->dims; i++) out[i] = (in[i / 8] >> i % 8 & 1) != 0 ? 1.0f : -1.0f;
      break;
    default: memcpy(out, in, n);
  }
  return true;
}

bool aii_element_take(const aii_index *index, const void *stored, size_t n, float *out)
{
  if (!aii_element_decode(index, stored, n, out)) return false;
  aii_index_take(index, out, out);
  return true;
}

/* Halves end at 65504, and begin at 2^-24. */
static aiinfra_status check_f16(const aii_index *index, const float *v, bool *zero, aiinfra_error *err)
{
  uint16_t halves[SOME];
  float back[SOME];
  for (uint32_t from = 0; from < index->dims; from += SOME) {
    uint32_t n = AII_MIN((uint32_t)SOME, index->dims - from);
    index->kernels->quant[AII_FMT_F16](v + from, n, halves);
    index->kernels->dequant[AII_FMT_F16](halves, n, back);
    for (uint32_t i = 0; i < n; i++) {
      *zero = *zero && back[i] == 0;
      if (isfinite(back[i])) continue;
      return aii_fail(err, AIINFRA_EINVAL, "element %u is %g, more than f16 can hold", from + i, (double)v[from + i]);
    }
  }
  return AIINFRA_OK;
}

aiinfra_status aii_element_check(const aii_index *index, const float *v, aiinfra_error *err)
{
  bool zero = true;
  double sum = 0;
  for (uint32_t i = 0; i < index->dims; i++) {
    if (!isfinite(v[i])) return aii_fail(err, AIINFRA_EINVAL, "element %u of its vector is not a finite number", i);
    sum += (double)v[i] * (double)v[i];
  }
  if (sum == 0 && index->metric == AIINFRA_METRIC_COSINE) {
    return aii_fail(err, AIINFRA_EINVAL, "its vector is zero, which has no cosine to anything");
  }
  if (index->element == AIINFRA_ELEMENT_F16) {
    aiinfra_status rc = check_f16(index, v, &zero, err);
    if (rc != AIINFRA_OK) return rc;
  } else if (index->element == AIINFRA_ELEMENT_INT8) {
    zero = scale_of(v, index->dims) == 0;
  } else {
    zero = false;
  }
  if (!zero || index->metric != AIINFRA_METRIC_COSINE) return AIINFRA_OK;
  return aii_fail(err, AIINFRA_EINVAL, "its vector is zero in the collection's elements: scale it, to length 1 say");
}
