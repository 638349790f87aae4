/* arch.c - the architectures that run, one row each. See arch.h for what a row means. */
#include <stdio.h>

#include "src/model/arch.h"

/* llama: Llama 1 to 3, Mistral, TinyLlama, SmolLM, ... all come under this name; Q and K rows are permuted at
 * conversion so that adjacent pairs rotate. mistral: the same, as some converters write it. */
static const aii_arch rows[] = {
    {"llama", AII_ROPE_NORM, AII_ARCH_ANY_BIAS},
    {"mistral", AII_ROPE_NORM, AII_ARCH_ANY_BIAS},
    {"qwen2", AII_ROPE_NEOX, AII_ARCH_QKV_BIAS},
    {"qwen3", AII_ROPE_NEOX, AII_ARCH_QK_NORM},
};

aiinfra_status aii_arch_find(const aii_gguf *gguf, const aii_arch **out, aii_str *name, aiinfra_error *err)
{
  *out = NULL;
  if (!aii_gguf_get_str(gguf, "general.architecture", name) || name->n == 0 || name->n > 63) {
    return aii_fail(err, AIINFRA_EFORMAT, "key 'general.architecture' is missing or is no name");
  }
  for (size_t i = 0; i < AII_COUNT(rows); i++) {
    if (strlen(rows[i].name) == name->n && memcmp(rows[i].name, name->p, name->n) == 0) {
      *out = &rows[i];
      return AIINFRA_OK;
    }
  }
  char known[256] = "";
  for (size_t i = 0, n = 0; i < AII_COUNT(rows) && n < sizeof known; i++) {
    n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", i > 0 ? ", " : "", rows[i].name);
  }
  return aii_fail(err, AIINFRA_ENOTSUP, "architecture '%.*s' does not run in this version; these do: %s",
                  AII_SHOW(*name), known);
}
