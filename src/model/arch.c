/* arch.c - the architectures that run, one row each. See arch.h for what a row means.
 *
 * llama is Llama 1 to 3, Mistral, Mixtral, TinyLlama, SmolLM and others: Q and K rows are permuted at conversion so that
 * adjacent pairs rotate; mistral is the same, as some converters write it. Both gemmas' norms hold their + 1 already.
 * bert is BERT, RoBERTa, XLM-RoBERTa and what was made of them (MiniLM, E5, BGE, GTE): converters cut RoBERTa's two unused
 * positions off. model2vec has no layers at all.
 */
#include <stdio.h>

#include "src/model/arch.h"

/* clang-format off */
#define ROW(its_name, rotates, norms, where, qk, bends) \
  .name = its_name, .rope = AII_ROPE_##rotates, .norm = AII_NORM_##norms, .place = AII_PLACE_##where, \
  .qk_norm = AII_QK_##qk, .act = AII_ACT_##bends

enum { /* flags that several rows share, or that would not fit their line */
  GPT = AII_HAS_ALL_BIAS | AII_FUSED_QKV | AII_PLAIN_FFN | AII_POSITIONS,
  MIXTURE = AII_EXPERTS | AII_EXPERT_NORM,
  SHARING = AII_EXPERTS | AII_SHARED_EXPERT,
  BERT = AII_ENCODER | AII_TOKEN_TYPES | AII_EMBD_NORM,
  MODERN = AII_ENCODER | AII_EMBD_NORM | AII_FUSED_QKV | AII_FUSED_GATE | AII_PLAIN_NORMS | AII_NO_FIRST_NORM |
           AII_GLOBAL_FIRST | AII_MODERN_HEAD,
  OPENAI = AII_HAS_ALL_BIAS | AII_SINKS | MIXTURE | AII_EXPERT_BIAS | AII_FFN_NORM_BY_ATTN | AII_YARN_EXACT
};

static const aii_arch rows[] = {
    /*   name         rotates norm   where  q, k   bends         and the rest */
    {ROW("llama",     NORM,   RMS,   PRE,   PLAIN, SILU),       .flags = AII_MAY_BIAS | MIXTURE},
    {ROW("mistral",   NORM,   RMS,   PRE,   PLAIN, SILU),       .flags = AII_MAY_BIAS},
    {ROW("qwen2",     NEOX,   RMS,   PRE,   PLAIN, SILU),       .flags = AII_HAS_QKV_BIAS},
    {ROW("qwen2moe",  NEOX,   RMS,   PRE,   PLAIN, SILU),       .flags = AII_HAS_QKV_BIAS | SHARING | AII_SHARED_GATE},
    {ROW("qwen3",     NEOX,   RMS,   PRE,   HEAD,  SILU),       .flags = 0},
    {ROW("qwen3moe",  NEOX,   RMS,   PRE,   HEAD,  SILU),       .flags = MIXTURE},
    {ROW("gemma",     NEOX,   RMS,   PRE,   PLAIN, GELU),       .flags = AII_EMBD_SQRT},
    {ROW("gemma2",    NEOX,   RMS,   BOTH,  PLAIN, GELU),       .flags = AII_EMBD_SQRT, .window_step = 2, .wide_scale_at = 46},
    {ROW("gemma3",    NEOX,   RMS,   BOTH,  HEAD,  GELU),       .flags = AII_EMBD_SQRT, .window_step = 6, .wide_scale_at = 62,
                                                                .local_rope_base = 10000},
    {ROW("phi3",      NEOX,   RMS,   PRE,   PLAIN, SILU),       .flags = AII_FUSED_QKV | AII_FUSED_GATE},
    {ROW("smollm3",   NORM,   RMS,   PRE,   PLAIN, SILU),       .flags = AII_MAY_BIAS, .no_rope_step = 4},
    {ROW("gpt2",      NONE,   LAYER, PRE,   PLAIN, GELU),       .flags = GPT},
    {ROW("olmo2",     NEOX,   RMS,   POST,  WIDTH, SILU),       .flags = 0},
    {ROW("granite",   NORM,   RMS,   PRE,   PLAIN, SILU),       .flags = AII_MAY_BIAS},
    {ROW("deepseek2", NORM,   RMS,   PRE,   PLAIN, SILU),       .flags = AII_MLA | SHARING},
    {ROW("gpt-oss",   NEOX,   RMS,   PRE,   PLAIN, SWIGLU_OAI), .flags = OPENAI, .window_step = 2},
    {ROW("bert",         NONE, LAYER, SUM, PLAIN, GELU_ERF),   .flags = BERT | AII_HAS_ALL_BIAS | AII_PLAIN_FFN | AII_POSITIONS},
    {ROW("nomic-bert",   NEOX, LAYER, SUM, PLAIN, SILU),       .flags = BERT | AII_FUSED_QKV},
    {ROW("jina-bert-v2", NONE, LAYER, SUM, WIDTH, GELU_ERF),   .flags = BERT | AII_MAY_BIAS | AII_FUSED_GATE | AII_MAY_QK_NORM, .alibi = 8},
    {ROW("modern-bert",  NEOX, LAYER, PRE, PLAIN, GELU_ERF),   .flags = MODERN, .window_step = 3, .local_rope_base = 10000},
    {ROW("model2vec",    NONE, LAYER, SUM, PLAIN, GELU),       .flags = AII_ENCODER | AII_STATIC},
};
#undef ROW
/* clang-format on */

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
  char known[512] = "";
  for (size_t i = 0, n = 0; i < AII_COUNT(rows) && n < sizeof known; i++) {
    n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", i > 0 ? ", " : "", rows[i].name);
  }
  return aii_fail(err, AIINFRA_ENOTSUP, "architecture '%.*s' does not run in this version; these do: %s",
                  AII_SHOW(*name), known);
}
