/* importance.c - reads importance matrices: GGUF files of sums of squared activations, ours or other programs'.
 *
 * Of a tensor NAME the file has NAME.in_sum2 [n_in, n_mats], the sums, and NAME.counts [1, n_mats], their numbers; the
 * importance of a column is the mean. Any thread.
 */
#include <math.h>
#include <stdio.h>

#include "src/model/model.h"

aiinfra_status aii_importance_open(aii_mem *mem, const char *path, aii_gguf **out, aiinfra_error *err)
{
  aii_str type = {"", 0};
  aiinfra_status rc = aii_gguf_open(mem, path, out, err);
  if (rc != AIINFRA_OK) return rc;
  if (aii_gguf_get_str(*out, "general.type", &type) && type.n == 7 && memcmp(type.p, "imatrix", 7) == 0) return rc;
  aii_gguf_free(*out);
  *out = NULL;
  return aii_fail(err, AIINFRA_EFORMAT, "'%s' is no importance matrix in GGUF form: its general.type is not 'imatrix'",
                  path);
}

static const aii_gguf_tensor *find(const aii_gguf *gguf, const char *name, const char *suffix)
{
  char full[256];
  int n = snprintf(full, sizeof full, "%s%s", name, suffix);
  return n > 0 && (size_t)n < sizeof full ? aii_gguf_find_tensor(gguf, full) : NULL;
}

static float load(const aii_gguf_tensor *t, size_t i)
{
  float f;
  memcpy(&f, t->data + i * sizeof f, sizeof f);
  return f;
}

aiinfra_status aii_importance_get(const aii_gguf *imatrix, const char *name, size_t mat, size_t n_mats, size_t n_in,
                                  float *out, bool *found, aiinfra_error *err)
{
  const aii_gguf_tensor *sums = find(imatrix, name, ".in_sum2"), *counts = find(imatrix, name, ".counts");
  *found = sums != NULL && counts != NULL;
  if (!*found) return AIINFRA_OK;
  if (sums->type != AII_F32 || counts->type != AII_F32 || sums->ne[0] != n_in || sums->ne[1] != n_mats ||
      counts->ne[0] * counts->ne[1] != n_mats || mat >= n_mats)
    return aii_fail(err, AIINFRA_EFORMAT,
                    "the importance of '%s' is %llu x %llu, the tensor wants %zu x %zu: it was made for another model",
                    name, (unsigned long long)sums->ne[0], (unsigned long long)sums->ne[1], n_in, n_mats);
  float count = load(counts, mat);
  for (size_t i = 0; i < n_in; i++) {
    out[i] = count > 0 ? load(sums, mat * n_in + i) / count : 1.0f; /* an expert that was never asked */
    if (!isfinite(out[i]) || out[i] < 0)
      return aii_fail(err, AIINFRA_EFORMAT, "the importance of '%s', column %zu, is %g", name, i, (double)out[i]);
  }
  return AIINFRA_OK;
}
