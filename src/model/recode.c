/* recode.c - rows of any stored type to rows of another one, by way of floats; and which type a tensor gets.
 *
 * Which type is the recipe's to say (recipe.c); an importance matrix (importance.c) tells which columns matter.
 */
#include <stdio.h>
#include <stdlib.h>

#include "src/model/recode.h"

enum { STEP_FLOATS = 1 << 18 };

static aiinfra_status unknown_recipe(const char *name, aiinfra_error *err)
{
  char known[256] = "";
  const aii_recipe *recipe;
  for (size_t i = 0, n = 0; (recipe = aii_recipe_at(i)) != NULL && n < sizeof known; i++) {
    n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", i > 0 ? ", " : "", recipe->name);
  }
  return aii_fail(err, AIINFRA_ENOTSUP, "type '%.32s' is not known; these are: %s", name, known);
}

/* A key of the architecture; the first element where layers differ. */
static uint32_t arch_key(const aii_gguf *g, const char *name)
{
  char key[128];
  aii_str arch = {"", 0};
  int64_t value = 0;
  (void)aii_gguf_get_str(g, "general.architecture", &arch);
  (void)snprintf(key, sizeof key, "%.*s.%s", AII_SHOW(arch), name);
  const aii_gguf_kv *kv = aii_gguf_find(g, key);
  if (kv == NULL || kv->count == 0) return 0;
  aii_gguf_type type = kv->type == AII_GGUF_ARRAY ? kv->elem_type : kv->type;
  return aii_gguf_elem_i64(type, kv->data, 0, &value) && value > 0 && value < UINT32_MAX ? (uint32_t)value : 0;
}

aiinfra_status aii_recoder_init(aii_recoder *r, const aii_gguf *gguf, const char *recipe, const char *imatrix,
                                aiinfra_error *err)
{
  *r = (aii_recoder){.mem = gguf->mem, .gguf = gguf};
  if (recipe != NULL && (r->recipe = aii_recipe_find(recipe)) == NULL) return unknown_recipe(recipe, err);
  uint32_t heads = arch_key(gguf, "attention.head_count"), kv_heads = arch_key(gguf, "attention.head_count_kv");
  r->n_layers = arch_key(gguf, "block_count");
  r->n_experts = arch_key(gguf, "expert_count");
  r->n_gqa = kv_heads > 0 ? heads / kv_heads : 1;
  if (imatrix == NULL) return AIINFRA_OK;
  aiinfra_status rc = aii_importance_open(r->mem, imatrix, &r->imatrix, err);
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
  return r->recipe != NULL ? r->recipe->file_type : UINT32_MAX;
}

/* ---- importance ------------------------------------------------------------------------------------------------------- */

static const char *name_of(const aii_gguf_tensor *t, char out[128])
{
  (void)snprintf(out, 128, "%.*s", AII_SHOW(t->name));
  return out;
}

static bool has_importance(const aii_recoder *r, const char *name)
{
  char full[160];
  (void)snprintf(full, sizeof full, "%s.in_sum2", name);
  return r->imatrix != NULL && aii_gguf_find_tensor(r->imatrix, full) != NULL;
}

/* The weights of the columns of matrix m of a tensor, or NULL where the file has none. */
static aiinfra_status importance_of(aii_recoder *r, const aii_gguf_tensor *t, uint64_t m, const float **out,
                                    aiinfra_error *err)
{
  char name[128];
  bool found;
  size_t n = (size_t)t->ne[0];
  *out = NULL;
  if (r->imatrix == NULL || !has_importance(r, name_of(t, name))) return AIINFRA_OK;
  if (n > r->n_importance) {
    float *grown = aii_resize(r->mem, r->importance, r->n_importance * sizeof *grown, n * sizeof *grown);
    if (grown == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for %zu weights of columns", n);
    r->importance = grown;
    r->n_importance = n;
  }
  aiinfra_status rc =
      aii_importance_get(r->imatrix, name, (size_t)m, (size_t)(t->ne[2] * t->ne[3]), n, r->importance, &found, err);
  if (rc == AIINFRA_OK && found) *out = r->importance;
  return rc;
}

/* ---- types ---------------------------------------------------------------------------------------------------------- */

uint32_t aii_recoder_type(const aii_recoder *r, size_t t)
{
  char name[128];
  const aii_gguf_tensor *tensor = &r->gguf->tensors[t];
  bool numbers =
      tensor->type != AII_I8 && tensor->type != AII_I16 && tensor->type != AII_I32 && tensor->type != AII_I64;
  if (r->recipe == NULL || !numbers || !aii_gguf_readable(tensor->type)) return tensor->type;
  (void)name_of(tensor, name);
  bool embeds = strcmp(name, "token_embd.weight") == 0 && aii_gguf_find_tensor(r->gguf, "output.weight") == NULL;
  aii_recipe_tensor what = {.name = name,
                            .n_dims = tensor->n_dims,
                            .ne0 = tensor->ne[0],
                            .layer = strncmp(name, "blk.", 4) == 0 ? (uint32_t)strtoul(name + 4, NULL, 10) : 0,
                            .n_layers = r->n_layers,
                            .n_experts = r->n_experts,
                            .n_gqa = r->n_gqa,
                            .is_output = embeds || strcmp(name, "output.weight") == 0,
                            .has_importance = has_importance(r, name)};
  return (uint32_t)aii_recipe_type(r->recipe, &what);
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

/* ---- rows --------------------------------------------------------------------------------------------------------------- */

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
      rc = aii_quantize_rows((aii_dtype)type, r->floats + at * width, (size_t)some, (size_t)width, importance,
                             (uint8_t *)out + at * aii_recoder_row_bytes(r, t, type), err);
    }
    at += some;
  }
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "tensor '%.*s'", AII_SHOW(tensor->name));
}
