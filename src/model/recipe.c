/* recipe.c - which type each tensor of a quantised file gets.
 *
 * A recipe has a base type, and rows that give more bits to the tensors that errors hurt most: the output, the values
 * of the attention, the way down of the feed-forward network, in the layers where it pays. The names and the rows are
 * those that the field knows, so that a file made here has the size and the quality its name promises. Pure; any thread.
 */
#include <strings.h>

#include "src/model/model.h"

enum {
  R_F32,
  R_F16,
  R_BF16,
  R_Q8_0,
  R_Q4_0,
  R_Q4_1,
  R_Q5_0,
  R_Q5_1,
  R_Q2_K,
  R_Q3_K_M,
  R_Q4_K_S,
  R_Q4_K_M,
  R_Q5_K_S,
  R_Q5_K_M,
  R_Q6_K,
  R_IQ4_NL,
  R_IQ4_XS,
  R_MXFP4
};

static const aii_recipe recipes[] = {
    [R_F32] = {"F32", AII_F32, 0},           [R_F16] = {"F16", AII_F16, 1},
    [R_BF16] = {"BF16", AII_BF16, 32},       [R_Q8_0] = {"Q8_0", AII_Q8_0, 7},
    [R_Q4_0] = {"Q4_0", AII_Q4_0, 2},        [R_Q4_1] = {"Q4_1", AII_Q4_1, 3},
    [R_Q5_0] = {"Q5_0", AII_Q5_0, 8},        [R_Q5_1] = {"Q5_1", AII_Q5_1, 9},
    [R_Q2_K] = {"Q2_K", AII_Q2_K, 10},       [R_Q3_K_M] = {"Q3_K_M", AII_Q3_K, 12},
    [R_Q4_K_S] = {"Q4_K_S", AII_Q4_K, 14},   [R_Q4_K_M] = {"Q4_K_M", AII_Q4_K, 15},
    [R_Q5_K_S] = {"Q5_K_S", AII_Q5_K, 16},   [R_Q5_K_M] = {"Q5_K_M", AII_Q5_K, 17},
    [R_Q6_K] = {"Q6_K", AII_Q6_K, 18},       [R_IQ4_NL] = {"IQ4_NL", AII_IQ4_NL, 25},
    [R_IQ4_XS] = {"IQ4_XS", AII_IQ4_XS, 30}, [R_MXFP4] = {"MXFP4", AII_MXFP4, 38},
};

typedef enum part { OTHER, OUTPUT, EMBEDDING, ATTN_K, ATTN_V, ATTN_QKV, ATTN_OUTPUT, FFN_DOWN, EXPERTS } part;

typedef enum when {
  ALWAYS,
  FIRST_2,
  FIRST_4,
  FIRST_16TH,
  FIRST_8TH,
  FIRST_8TH_BLIND,  /* without an importance matrix */
  FIRST_8TH_GUIDED, /* with one */
  OUTER_AND_THIRDS, /* the first and last eighth, and every third layer between them */
  SHARED_4,         /* four or more query heads share a key head: the tensor is small */
  EIGHT_EXPERTS     /* eight experts: all that is not an expert is small */
} when;

typedef struct rule {
  uint8_t recipe, part, when, type;
} rule;

/* The first one that matches counts. */
static const rule rules[] = {
    {R_Q2_K, ATTN_V, SHARED_4, AII_Q4_K},
    {R_Q2_K, ATTN_V, ALWAYS, AII_Q3_K},
    {R_Q2_K, ATTN_OUTPUT, EIGHT_EXPERTS, AII_Q5_K},
    {R_Q2_K, ATTN_OUTPUT, ALWAYS, AII_Q3_K},
    {R_Q2_K, FFN_DOWN, ALWAYS, AII_Q3_K},
    {R_Q3_K_M, ATTN_V, FIRST_2, AII_Q5_K},
    {R_Q3_K_M, ATTN_V, ALWAYS, AII_Q4_K},
    {R_Q3_K_M, ATTN_QKV, ALWAYS, AII_Q4_K},
    {R_Q3_K_M, ATTN_OUTPUT, EIGHT_EXPERTS, AII_Q5_K},
    {R_Q3_K_M, ATTN_OUTPUT, ALWAYS, AII_Q4_K},
    {R_Q3_K_M, FFN_DOWN, FIRST_16TH, AII_Q5_K},
    {R_Q3_K_M, FFN_DOWN, ALWAYS, AII_Q4_K},
    {R_Q4_K_S, ATTN_V, FIRST_4, AII_Q5_K},
    {R_Q4_K_S, ATTN_OUTPUT, EIGHT_EXPERTS, AII_Q5_K},
    {R_Q4_K_S, FFN_DOWN, FIRST_8TH, AII_Q5_K},
    {R_Q4_K_M, ATTN_V, OUTER_AND_THIRDS, AII_Q6_K},
    {R_Q4_K_M, ATTN_QKV, ALWAYS, AII_Q5_K},
    {R_Q4_K_M, ATTN_OUTPUT, EIGHT_EXPERTS, AII_Q5_K},
    {R_Q4_K_M, FFN_DOWN, OUTER_AND_THIRDS, AII_Q6_K},
    {R_Q5_K_M, ATTN_V, OUTER_AND_THIRDS, AII_Q6_K},
    {R_Q5_K_M, ATTN_QKV, ALWAYS, AII_Q6_K},
    {R_Q5_K_M, FFN_DOWN, OUTER_AND_THIRDS, AII_Q6_K},
    {R_IQ4_NL, ATTN_V, SHARED_4, AII_Q5_K},
    {R_IQ4_NL, ATTN_OUTPUT, EIGHT_EXPERTS, AII_Q5_K},
    {R_IQ4_NL, FFN_DOWN, FIRST_8TH_BLIND, AII_Q5_K},
    {R_IQ4_XS, ATTN_V, SHARED_4, AII_Q5_K},
    {R_IQ4_XS, ATTN_OUTPUT, EIGHT_EXPERTS, AII_Q5_K},
    {R_IQ4_XS, FFN_DOWN, FIRST_8TH_BLIND, AII_Q5_K},
    {R_Q4_0, FFN_DOWN, FIRST_8TH_GUIDED, AII_Q4_1},
    {R_Q5_0, FFN_DOWN, FIRST_8TH_GUIDED, AII_Q5_1},
};

/* ---- which part a tensor is ---- */

static bool has(const char *name, const char *piece)
{
  return strstr(name, piece) != NULL;
}

static part part_of(const aii_recipe_tensor *t)
{
  if (t->is_output) return OUTPUT;
  if (has(t->name, "token_embd.")) return EMBEDDING;
  if (has(t->name, "_exps.")) return has(t->name, "ffn_down") ? FFN_DOWN : EXPERTS;
  if (has(t->name, "attn_k.")) return ATTN_K;
  if (has(t->name, "attn_v.")) return ATTN_V;
  if (has(t->name, "attn_qkv.")) return ATTN_QKV;
  if (has(t->name, "attn_output.")) return ATTN_OUTPUT;
  return has(t->name, "ffn_down") ? FFN_DOWN : OTHER;
}

/* Vectors, norms, routers, tables of positions: small, and every error in them tells. */
static bool stays_float(const aii_recipe_tensor *t)
{
  static const char *const small[] = {"_norm.", "ffn_gate_inp", "position_embd", "token_types", "conv1d", "_rel_b"};
  size_t n = strlen(t->name);
  if (t->n_dims < 2 || n < 7 || strcmp(t->name + n - 7, ".weight") != 0) return true;
  for (size_t i = 0; i < AII_COUNT(small); i++)
    if (has(t->name, small[i])) return true;
  return false;
}

static bool applies(when w, const aii_recipe_tensor *t)
{
  uint32_t l = t->layer, n = t->n_layers;
  switch (w) {
    case ALWAYS: return true;
    case FIRST_2: return l < 2;
    case FIRST_4: return l < 4;
    case FIRST_16TH: return l < n / 16;
    case FIRST_8TH: return l < n / 8;
    case FIRST_8TH_BLIND: return l < n / 8 && !t->has_importance;
    case FIRST_8TH_GUIDED: return l < n / 8 && t->has_importance;
    case OUTER_AND_THIRDS: return l < n / 8 || l >= 7 * n / 8 || (l - n / 8) % 3 == 2;
    case SHARED_4: return t->n_gqa >= 4;
    case EIGHT_EXPERTS: return t->n_experts == 8;
  }
  return false;
}

/* The next type whose blocks divide the row. */
static aii_dtype fitting(aii_dtype type, uint64_t ne0)
{
  while (ne0 % aii_dtype_info((uint32_t)type)->block != 0) {
    switch (type) {
      case AII_Q2_K:
      case AII_Q3_K:
      case AII_IQ4_XS: type = AII_IQ4_NL; break;
      case AII_Q4_K: type = AII_Q5_0; break;
      case AII_Q5_K: type = AII_Q5_1; break;
      case AII_Q6_K: type = AII_Q8_0; break;
      default: type = AII_F16;
    }
  }
  return type;
}

/* ---- the door ---- */

const aii_recipe *aii_recipe_at(size_t i)
{
  return i < AII_COUNT(recipes) ? &recipes[i] : NULL;
}

const aii_recipe *aii_recipe_find(const char *name)
{
  for (size_t i = 0; i < AII_COUNT(recipes); i++)
    if (strcasecmp(recipes[i].name, name) == 0) return &recipes[i];
  return NULL;
}

aii_dtype aii_recipe_type(const aii_recipe *r, const aii_recipe_tensor *t)
{
  size_t index = (size_t)(r - recipes);
  part p = part_of(t);
  if (stays_float(t)) return AII_F32;
  if (aii_dtype_info((uint32_t)r->base)->block == 1) return r->base;
  if (index == R_MXFP4) { /* made for experts; a model that has none gets it in all its layers */
    bool expert = has(t->name, "_exps."), layer = p != OUTPUT && p != EMBEDDING;
    return fitting(expert || (t->n_experts == 0 && layer) ? AII_MXFP4 : AII_Q8_0, t->ne0);
  }
  if (p == OUTPUT) return fitting(r->base == AII_Q8_0 ? AII_Q8_0 : AII_Q6_K, t->ne0);
  if ((p == ATTN_K || p == ATTN_V) && t->n_experts == 8) return fitting(AII_Q8_0, t->ne0);
  for (size_t i = 0; i < AII_COUNT(rules); i++) {
    const rule *u = &rules[i];
    if (u->recipe == index && u->part == (uint8_t)p && applies((when)u->when, t))
      return fitting((aii_dtype)u->type, t->ne0);
  }
  return fitting(r->base, t->ne0);
}
