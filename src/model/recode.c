/* recode.c - rows of any stored type to rows of another one, by way of floats; and which type a tensor gets.
 *
 * Vectors, and matrices whose rows are no whole number of blocks, stay floats. An importance matrix is a GGUF file with
 * two tensors for each tensor of the model: NAME.in_sum2, the sums of squared inputs of each column, and NAME.counts.
 */
#include <stdio.h>
#include <strings.h>

#include "kernels/kernels.h"
#include "src/model/recode.h"

enum { STEP_FLOATS = 1 << 18 };

static const struct {
  const char *name;
  uint32_t type, file_type;
  aii_fmt fmt;
} recipes[] = {{"F32", AII_F32, 0, AII_FMT_F32},
               {"F16", AII_F16, 1, AII_FMT_F16},
               {"BF16", AII_BF16, 32, AII_FMT_BF16},
               {"Q8_0", AII_Q8_0, 7, AII_FMT_Q8_0},
               {"Q4_0", AII_Q4_0, 2, AII_FMT_Q4_0}};

static size_t find_recipe(const char *name)
{
  size_t i = 0;
  while (i < AII_COUNT(recipes) && strcasecmp(recipes[i].name, name) != 0) i++;
  return i;
}

aiinfra_status aii_recoder_init(aii_recoder *r, const aii_gguf *gguf, const char *recipe, const char *imatrix,
                                aiinfra_error *err)
{
  *r = (aii_recoder){.mem = gguf->mem, .gguf = gguf, .recipe = recipe};
  if (recipe != NULL && find_recipe(recipe) == AII_COUNT(recipes)) {
    char known[256] = "";
    for (size_t i = 0, n = 0; i < AII_COUNT(recipes) && n < sizeof known; i++) {
      n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", i > 0 ? ", " : "", recipes[i].name);
    }
    return aii_fail(err, AIINFRA_ENOTSUP, "type '%.32s' is not known; these are: %s", recipe, known);
  }
  if (imatrix == NULL) return AIINFRA_OK;
  aiinfra_status rc = aii_gguf_open(r->mem, imatrix, &r->imatrix, err);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "importance matrix");
}

void aii_recoder_free(aii_recoder *r)
{
  aii_gguf_free(r->imatrix);
  aii_del_aligned(r->mem, r->floats, r->n_floats * sizeof r->floats[0]);
  aii_del(r->mem, r->importance, r->n_importance * sizeof r->importance[0]);
  *r = (aii_recoder){.mem = r->mem};
}

uint32_t aii_recoder_file_type(const aii_recoder *r)
{
  return r->recipe != NULL ? recipes[find_recipe(r->recipe)].file_type : UINT32_MAX;
}

/* ---- types ---------------------------------------------------------------------------------------------------------- */

static bool has(aii_str name, const char *piece)
{
  size_t n = strlen(piece);
  for (size_t i = 0; i + n <= name.n; i++) {
    if (memcmp(name.p + i, piece, n) == 0) return true;
  }
  return false;
}

/* Norms, routers, tables of positions: small, and every error in them tells. */
static bool stays_float(const aii_gguf_tensor *t)
{
  static const char *const small[] = {"_norm.", "ffn_gate_inp", "position_embd", "token_types", ".bias", "rope_"};
  for (size_t i = 0; i < AII_COUNT(small); i++) {
    if (has(t->name, small[i])) return true;
  }
  return t->n_dims < 2;
}

uint32_t aii_recoder_type(const aii_recoder *r, size_t t)
{
  const aii_gguf_tensor *tensor = &r->gguf->tensors[t];
  if (r->recipe == NULL || !aii_gguf_readable(tensor->type) || stays_float(tensor)) return tensor->type;
  uint32_t type = recipes[find_recipe(r->recipe)].type;
  return tensor->ne[0] % aii_gguf_type_info(type)->block == 0 ? type : (uint32_t)AII_F16;
}

uint64_t aii_recoder_rows(const aii_recoder *r, size_t t)
{
  const aii_gguf_tensor *tensor = &r->gguf->tensors[t];
  return tensor->ne[1] * tensor->ne[2] * tensor->ne[3];
}

uint64_t aii_recoder_row_bytes(const aii_recoder *r, size_t t, uint32_t type)
{
  const aii_dtype_traits *traits = aii_gguf_type_info(type);
  return r->gguf->tensors[t].ne[0] / traits->block * traits->block_bytes;
}

uint64_t aii_recoder_step(const aii_recoder *r, size_t t)
{
  return AII_MIN(AII_MAX(STEP_FLOATS / r->gguf->tensors[t].ne[0], 1), aii_recoder_rows(r, t));
}

/* ---- importance ------------------------------------------------------------------------------------------------------- */

static const aii_gguf_tensor *importance_tensor(const aii_recoder *r, aii_str name, const char *kind)
{
  char full[128];
  int n = snprintf(full, sizeof full, "%.*s.%s", (int)AII_MIN(name.n, (size_t)100), name.p, kind);
  const aii_gguf_tensor *t = n > 0 && (size_t)n < sizeof full ? aii_gguf_find_tensor(r->imatrix, full) : NULL;
  return t != NULL && t->type == AII_F32 ? t : NULL;
}

static float load_float(const aii_gguf_tensor *t, uint64_t i)
{
  float value;
  memcpy(&value, t->data + 4 * i, sizeof value);
  return value;
}

/* The weights of the columns of matrix m of a tensor, or NULL where the file has none. */
static aiinfra_status importance_of(aii_recoder *r, const aii_gguf_tensor *t, uint64_t m, const float **out,
                                    aiinfra_error *err)
{
  *out = NULL;
  if (r->imatrix == NULL) return AIINFRA_OK;
  const aii_gguf_tensor *sums = importance_tensor(r, t->name, "in_sum2");
  const aii_gguf_tensor *counts = importance_tensor(r, t->name, "counts");
  if (sums == NULL || counts == NULL) return AIINFRA_OK;
  if (sums->ne[0] != t->ne[0] || sums->ne[1] != t->ne[2] * t->ne[3] || counts->bytes != 4 * sums->ne[1]) {
    return aii_fail(err, AIINFRA_EFORMAT, "the importance matrix does not fit tensor '%.*s': it is another model's",
                    AII_SHOW(t->name));
  }
  size_t n = (size_t)t->ne[0];
  if (n > r->n_importance) {
    float *grown = aii_resize(r->mem, r->importance, r->n_importance * sizeof *grown, n * sizeof *grown);
    if (grown == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for %zu weights of columns", n);
    r->importance = grown;
    r->n_importance = n;
  }
  float count = load_float(counts, m);
  if (!(count > 0)) return AIINFRA_OK; /* this expert was never asked */
  for (size_t i = 0; i < n; i++) r->importance[i] = load_float(sums, m * n + i) / count;
  *out = r->importance;
  return AIINFRA_OK;
}

/* ---- rows --------------------------------------------------------------------------------------------------------------- */

static aiinfra_status encode(uint32_t type, const float *x, uint64_t n_rows, uint64_t n, const float *importance,
                             uint8_t *out)
{
  aii_fmt fmt = AII_FMT_F32;
  (void)importance; /* no format that is written by now searches */
  for (size_t i = 0; i < AII_COUNT(recipes); i++) fmt = recipes[i].type == type ? recipes[i].fmt : fmt;
  for (uint64_t i = 0; i < n_rows; i++) {
    aii_kernels_ref.quant[fmt](x + i * n, (size_t)n, out + i * aii_fmt_row_bytes(fmt, (size_t)n));
  }
  return AIINFRA_OK;
}

static aiinfra_status room(aii_recoder *r, size_t n, aiinfra_error *err)
{
  if (n <= r->n_floats) return AIINFRA_OK;
  aii_del_aligned(r->mem, r->floats, r->n_floats * sizeof r->floats[0]);
  r->n_floats = 0;
  r->floats = aii_new_aligned(r->mem, n * sizeof r->floats[0]);
  if (r->floats == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for rows of %zu floats", n);
  r->n_floats = n;
  return AIINFRA_OK;
}

aiinfra_status aii_recoder_read(aii_recoder *r, size_t t, uint32_t type, uint64_t first, uint64_t n, void *out,
                                aiinfra_error *err)
{
  const aii_gguf_tensor *tensor = &r->gguf->tensors[t];
  uint64_t width = tensor->ne[0], each = tensor->ne[1]; /* rows of one matrix */
  if (type == tensor->type) {
    aii_gguf_read_raw(r->gguf, t, first * width, n * width, out);
    return AIINFRA_OK;
  }
  aiinfra_status rc = room(r, (size_t)(n * width), err);
  if (rc != AIINFRA_OK) return rc;
  aii_gguf_read_f32(r->gguf, t, first * width, n * width, r->floats);
  for (uint64_t at = 0; at < n && rc == AIINFRA_OK;) {
    const float *importance;
    uint64_t some = AII_MIN(n - at, each - (first + at) % each);
    rc = importance_of(r, tensor, (first + at) / each, &importance, err);
    if (rc == AIINFRA_OK) {
      rc = encode(type, r->floats + at * width, some, width, importance,
                  (uint8_t *)out + at * aii_recoder_row_bytes(r, t, type));
    }
    at += some;
  }
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "tensor '%.*s'", AII_SHOW(tensor->name));
}
