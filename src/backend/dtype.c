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
