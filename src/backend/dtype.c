/* src/backend/dtype.c - the element types by their GGUF id, from the one list of formats in kernels.h. */
#include "kernels/kernels.h"
#include "src/backend/cpu.h"

const aii_dtype_traits *aii_dtype_info(uint32_t gguf_type)
{
#define ROW(NAME, name, id, block, bytes, encode) [AII_##NAME] = {#NAME, block, bytes},
  static const aii_dtype_traits types[] = {AII_FORMATS(ROW)};
#undef ROW
  return gguf_type < AII_COUNT(types) && types[gguf_type].name != NULL ? &types[gguf_type] : NULL;
}

size_t aii_weight_bytes(const aii_weight *w)
{
  const aii_dtype_traits *t = aii_dtype_info((uint32_t)w->type);
  return w->n_in / t->block * t->block_bytes * (size_t)w->n_out * AII_MAX(w->n_mats, 1u);
}

aii_fmt aii_cpu_fmt(aii_dtype type)
{
  switch (type) {
#define CASE(NAME, name, id, ...)                                              \
  _Static_assert((int)AII_##NAME == (id), "backend.h and kernels.h disagree"); \
  case AII_##NAME: return AII_FMT_##NAME;
    AII_FORMATS(CASE)
#undef CASE
  }
  return AII_FMT_COUNT;
}

aii_fmt aii_cpu_fmt_of(const aii_weight *w)
{
  return w->bf16_x ? AII_FMT_BF16_PAIRS : aii_cpu_fmt(w->type);
}

enum { LINE = 64 };

/* Bytes of a layer's keys or values; 0: none, or no whole number of blocks, or too many. */
static size_t run_bytes(const aii_kv_view *kv, uint32_t dim)
{
  const aii_dtype_traits *t = aii_dtype_info((uint32_t)kv->type);
  size_t bytes;
  if (t == NULL || dim % t->block != 0) return 0;
  if (__builtin_mul_overflow((size_t)kv->n_kv_heads * kv->block_tokens, (size_t)dim / t->block, &bytes)) return 0;
  if (__builtin_mul_overflow(bytes, (size_t)t->block_bytes, &bytes) || bytes > SIZE_MAX / 4) return 0;
  return (bytes + LINE - 1) / LINE * LINE;
}

bool aii_kv_lay_out(aii_kv_view *kv)
{
  size_t values = run_bytes(kv, kv->value_dim);
  kv->value_offset = run_bytes(kv, kv->head_dim);
  kv->layer_bytes = kv->value_offset + values;
  kv->block_bytes = LINE;
  if (kv->n_layers == 0) return true; /* static embeddings keep nothing, but a block has an address */
  return kv->value_offset != 0 && values != 0 &&
         !__builtin_mul_overflow(kv->layer_bytes, (size_t)kv->n_layers, &kv->block_bytes);
}
