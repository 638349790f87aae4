/* src/backend/quantize.c - rows of floats to rows of a stored type and back, checked on both sides. */
#include <math.h>

#include "src/backend/cpu.h"

static aiinfra_status check_shape(aii_dtype type, size_t n_per_row, const aii_fmt_traits **out, aiinfra_error *err)
{
  const aii_fmt_traits *t = aii_fmt_info(aii_cpu_fmt(type));
  if (t == NULL) return aii_fail(err, AIINFRA_ENOTSUP, "tensor type %d is not known to this version", (int)type);
  if (n_per_row == 0 || n_per_row % t->block != 0)
    return aii_fail(err, AIINFRA_EINVAL,
                    "a row of %zu elements is no whole number of %s blocks of %u: take another type", n_per_row,
                    t->name, t->block);
  *out = t;
  return AIINFRA_OK;
}

/* The first element that is not finite; n when all are. */
static size_t first_not_finite(const float *x, size_t n)
{
  size_t i = 0;
  while (i < n && isfinite(x[i])) i++;
  return i;
}

static aiinfra_status check_importance(const float *importance, size_t n, aiinfra_error *err)
{
  for (size_t i = 0; importance != NULL && i < n; i++)
    if (!isfinite(importance[i]) || importance[i] < 0)
      return aii_fail(err, AIINFRA_EINVAL, "the importance of column %zu is %g: it must be finite and at least 0", i,
                      (double)importance[i]);
  return AIINFRA_OK;
}

/* What was stored must be finite too: a scale may lie beyond the range of its half. */
static size_t first_too_large(aii_fmt fmt, const void *row, size_t n)
{
  float x[AII_QK];
  const aii_fmt_traits *t = aii_fmt_info(fmt);
  for (size_t i = 0; i < n; i += AII_QK) {
    size_t len = AII_MIN(n - i, AII_QK);
    aii_kernels_ref.dequant[fmt]((const char *)row + i / t->block * t->block_bytes, len, x);
    size_t bad = first_not_finite(x, len);
    if (bad < len) return i + bad;
  }
  return n;
}

aiinfra_status aii_quantize_rows(aii_dtype type, const float *src, size_t n_rows, size_t n_per_row,
                                 const float *importance, void *dst, aiinfra_error *err)
{
  const aii_fmt_traits *t = NULL;
  aiinfra_status rc = check_shape(type, n_per_row, &t, err);
  if (rc == AIINFRA_OK) rc = check_importance(importance, n_per_row, err);
  if (rc != AIINFRA_OK) return rc;
  if (t->encode == NULL) return aii_fail(err, AIINFRA_ENOTSUP, "tensor type %s can be read, but not written", t->name);
  size_t row_bytes = n_per_row / t->block * t->block_bytes;
  for (size_t r = 0; r < n_rows; r++) {
    const float *x = src + r * n_per_row;
    char *row = (char *)dst + r * row_bytes;
    size_t bad = first_not_finite(x, n_per_row);
    if (bad < n_per_row)
      return aii_fail(err, AIINFRA_EINVAL, "row %zu, column %zu is %g: a weight must be finite", r, bad,
                      (double)x[bad]);
    t->encode(x, importance, n_per_row, row);
    bad = first_too_large(aii_cpu_fmt(type), row, n_per_row);
    if (bad < n_per_row)
      return aii_fail(err, AIINFRA_EINVAL, "row %zu, at column %zu (%g): too large for %s: take BF16 or F32", r, bad,
                      (double)x[bad], t->name);
  }
  return AIINFRA_OK;
}

aiinfra_status aii_dequantize_rows(aii_dtype type, const void *src, size_t n_rows, size_t n_per_row, float *dst,
                                   aiinfra_error *err)
{
  const aii_fmt_traits *t = NULL;
  aiinfra_status rc = check_shape(type, n_per_row, &t, err);
  if (rc != AIINFRA_OK) return rc;
  const aii_kernels *k = aii_kernels_get(AIINFRA_ISA_DEFAULT);
  size_t row_bytes = n_per_row / t->block * t->block_bytes;
  for (size_t r = 0; r < n_rows; r++)
    k->dequant[aii_cpu_fmt(type)]((const char *)src + r * row_bytes, n_per_row, dst + r * n_per_row);
  return AIINFRA_OK;
}
