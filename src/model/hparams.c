/* hparams.c - the hyper-parameters of a model: read from their keys, checked before anything is computed from them.
 *
 * What is refused: a value that is missing, zero, of another type, not finite, or so large that a size computed from
 * it could overflow 64 bits; heads that do not divide evenly; features that the architecture's row or the forward pass
 * does not have. Whether the tensors have these sizes is tensors.c's to check.
 */
#include <math.h>
#include <stdio.h>

#include "src/model/arch.h"

/* Far above every model that exists; products of any three of them fit 64 bits. */
enum { MAX_EMBD = 1 << 20, MAX_LAYERS = 1 << 12, MAX_HEADS = 1 << 14, MAX_HEAD_DIM = 1 << 12, MAX_FF = 1 << 24 };
enum { MAX_CONTEXT = 1 << 28, MAX_EXPERTS = 1 << 12, MAX_USED_EXPERTS = 1 << 8 };

typedef struct reader {
  const aii_gguf *gguf;
  const aii_arch *arch;
  aiinfra_error *err;
  aiinfra_status rc; /* sticky: the first failure */
  char key[128];
} reader;

static const aii_gguf_kv *find(reader *r, const char *name)
{
  (void)snprintf(r->key, sizeof r->key, "%s.%s", r->arch->name, name);
  return aii_gguf_find(r->gguf, r->key);
}

/* An integer or, for what may differ by layer, an array of equal ones, from `min` to `max`. */
static uint32_t read_number(reader *r, const aii_gguf_kv *kv, uint32_t min, uint32_t max)
{
  aii_gguf_type type = kv->type == AII_GGUF_ARRAY ? kv->elem_type : kv->type;
  int64_t first = 0, value;
  bool number = type != AII_GGUF_BOOL && kv->count > 0 && aii_gguf_elem_i64(type, kv->data, 0, &first);
  if (!number) r->rc = aii_fail(r->err, AIINFRA_EFORMAT, "key '%s' is no number", r->key);
  for (uint64_t i = 1; i < kv->count && r->rc == AIINFRA_OK; i++) {
    if (aii_gguf_elem_i64(type, kv->data, i, &value) && value == first) continue;
    r->rc = aii_fail(r->err, AIINFRA_ENOTSUP, "key '%s' differs between layers; this version needs equal ones", r->key);
  }
  if (r->rc == AIINFRA_OK && (first < min || first > max)) {
    r->rc = aii_fail(r->err, AIINFRA_EFORMAT, "key '%s' is %lld; it must be a number from %u to %u", r->key,
                     (long long)first, min, max);
  }
  return r->rc == AIINFRA_OK ? (uint32_t)first : 0;
}

/* At least 1. `fallback` when missing; 0: required. */
static uint32_t read_u32(reader *r, const char *name, uint32_t fallback, uint32_t max)
{
  const aii_gguf_kv *kv = find(r, name);
  if (r->rc != AIINFRA_OK) return 0;
  if (kv != NULL) return read_number(r, kv, 1, max);
  if (fallback == 0) r->rc = aii_fail(r->err, AIINFRA_EFORMAT, "key '%s' is missing", r->key);
  return fallback;
}

/* 0 when missing, and 0 is allowed. */
static uint32_t read_count(reader *r, const char *name, uint32_t max)
{
  const aii_gguf_kv *kv = find(r, name);
  return kv != NULL && r->rc == AIINFRA_OK ? read_number(r, kv, 0, max) : 0;
}

/* A finite float above 0. `fallback` when missing; 0: required. */
static float read_f32(reader *r, const char *name, float fallback)
{
  const aii_gguf_kv *kv = find(r, name);
  float value = fallback;
  if (r->rc != AIINFRA_OK) return 0;
  if (kv == NULL && fallback == 0) {
    r->rc = aii_fail(r->err, AIINFRA_EFORMAT, "key '%s' is missing", r->key);
  } else if (kv != NULL && (!aii_gguf_get_f32(r->gguf, r->key, &value) || !isfinite(value) || value <= 0)) {
    r->rc = aii_fail(r->err, AIINFRA_EFORMAT, "key '%s' must be a finite number above 0", r->key);
  }
  return value;
}

/* A finite float, 0 being as good as missing: `fallback` then. */
static float read_optional(reader *r, const char *name, float fallback)
{
  const aii_gguf_kv *kv = find(r, name);
  float value = 0;
  if (r->rc != AIINFRA_OK || kv == NULL) return fallback;
  if (!aii_gguf_get_f32(r->gguf, r->key, &value) || !isfinite(value) || value < 0) {
    r->rc = aii_fail(r->err, AIINFRA_EFORMAT, "key '%s' must be a finite number, 0 or above", r->key);
  }
  return value != 0 ? value : fallback;
}

/* ---- heads ---------------------------------------------------------------------------------------------------- */

static void check_heads(reader *r, const aii_hparams *hp, uint32_t key_dim)
{
  if (r->rc != AIINFRA_OK) return;
  if (hp->n_heads % hp->n_kv_heads != 0) {
    r->rc = aii_fail(r->err, AIINFRA_EFORMAT, "%u query heads do not divide evenly over %u key/value heads",
                     hp->n_heads, hp->n_kv_heads);
  } else if (hp->n_rot % 2 != 0 || hp->n_rot > key_dim) {
    r->rc = aii_fail(r->err, AIINFRA_EFORMAT, "%u rotated dimensions of a head of %u: must be even and no more",
                     hp->n_rot, key_dim);
  }
}

static void read_heads(reader *r, aii_hparams *hp)
{
  hp->n_heads = read_u32(r, "attention.head_count", 0, MAX_HEADS);
  hp->n_kv_heads = read_u32(r, "attention.head_count_kv", hp->n_heads, MAX_HEADS);
  if (r->rc != AIINFRA_OK) return;
  if (find(r, "attention.key_length") == NULL && hp->n_embd % hp->n_heads != 0) {
    r->rc = aii_fail(r->err, AIINFRA_EFORMAT, "a width of %u does not divide evenly into %u heads", hp->n_embd,
                     hp->n_heads);
    return;
  }
  uint32_t even = AII_MAX(hp->n_embd / hp->n_heads, 1u);
  hp->head_dim = read_u32(r, "attention.key_length", even, MAX_HEAD_DIM);
  hp->value_dim = read_u32(r, "attention.value_length", even, MAX_HEAD_DIM);
  hp->n_rot = r->arch->rope != AII_ROPE_NONE ? read_u32(r, "rope.dimension_count", hp->head_dim, MAX_HEAD_DIM) : 0;
  check_heads(r, hp, hp->head_dim);
}

/* Older files have attn_kv_b and the sizes of whole heads; newer ones attn_k_b and attn_v_b, the sizes of what is cached,
 * and those of whole heads under names of their own. */
static void read_mla(reader *r, aii_hparams *hp)
{
  hp->q_lora = read_count(r, "attention.q_lora_rank", MAX_EMBD);
  hp->kv_lora = read_u32(r, "attention.kv_lora_rank", 0, MAX_HEAD_DIM);
  hp->latent = find(r, "attention.key_length_mla") != NULL;
  hp->mla_key = read_u32(r, "attention.key_length_mla", hp->head_dim, MAX_HEAD_DIM);
  hp->mla_value = read_u32(r, "attention.value_length_mla", hp->value_dim, MAX_HEAD_DIM);
  check_heads(r, hp, hp->mla_key);
  if (r->rc != AIINFRA_OK) return;
  bool fits = hp->latent
                  ? hp->n_kv_heads == 1 && hp->value_dim == hp->kv_lora && hp->head_dim == hp->kv_lora + hp->n_rot
                  : hp->n_kv_heads == hp->n_heads;
  if (!fits || hp->n_rot == hp->mla_key) {
    r->rc = aii_fail(r->err, AIINFRA_EFORMAT,
                     "latent attention with %u key/value heads, keys of %u, values of %u, a rank of %u, %u rotated: "
                     "these sizes do not fit each other",
                     hp->n_kv_heads, hp->head_dim, hp->value_dim, hp->kv_lora, hp->n_rot);
  }
}

/* ---- rotation ------------------------------------------------------------------------------------------------- */

static aii_rope_scaling scaling_kind(reader *r)
{
  static const char *const names[] = {"none", "linear", "yarn", "longrope"};
  aii_str kind = {"linear", 6};
  if (find(r, "rope.scaling.type") != NULL && !aii_gguf_get_str(r->gguf, r->key, &kind)) kind.n = 0;
  for (uint32_t i = 0; i < AII_COUNT(names); i++) {
    if (strlen(names[i]) == kind.n && memcmp(names[i], kind.p, kind.n) == 0) return (aii_rope_scaling)i;
  }
  if (r->rc == AIINFRA_OK) {
    r->rc = aii_fail(r->err, AIINFRA_ENOTSUP,
                     "RoPE scaling '%.*s' does not run in this version; none, linear, yarn and longrope do",
                     AII_SHOW(kind));
  }
  return AII_SCALING_NONE;
}

static void read_rope(reader *r, aii_hparams *hp)
{
  hp->rope_base = read_f32(r, "rope.freq_base", 10000.0f);
  hp->rope_local_base = read_optional(r, "rope.freq_base_swa", r->arch->local_rope_base);
  hp->rope_scaling = scaling_kind(r);
  hp->rope_factor = read_f32(r, "rope.scaling.factor", read_f32(r, "rope.scale_linear", 1.0f));
  if (hp->rope_scaling == AII_SCALING_NONE) hp->rope_factor = 1;
  hp->rope_context = read_count(r, "rope.scaling.original_context_length", MAX_CONTEXT);
  hp->rope_attn_factor = read_f32(r, "rope.scaling.attn_factor", 1);
  hp->yarn_fast = read_f32(r, "rope.scaling.yarn_beta_fast", 32);
  hp->yarn_slow = read_f32(r, "rope.scaling.yarn_beta_slow", 1);
  hp->yarn_log_mul = read_optional(r, "rope.scaling.yarn_log_multiplier", 0);
  bool yarn = hp->rope_scaling == AII_SCALING_YARN;
  if (yarn && hp->rope_context == 0) hp->rope_context = hp->train_context;
  if (r->rc == AIINFRA_OK && yarn && hp->yarn_log_mul != 0 && (r->arch->flags & AII_MLA) == 0) {
    r->rc = aii_fail(r->err, AIINFRA_ENOTSUP, "YaRN with 'rope.scaling.yarn_log_multiplier' runs with deepseek2 alone");
  }
}

/* ---- experts -------------------------------------------------------------------------------------------------- */

static void read_groups(reader *r, aii_hparams *hp)
{
  hp->n_expert_groups = read_count(r, "expert_group_count", AII_MAX_GROUPS);
  hp->n_used_groups = read_count(r, "expert_group_used_count", AII_MAX_GROUPS);
  if (hp->n_expert_groups <= 1 || r->rc != AIINFRA_OK) return;
  if (hp->n_experts % hp->n_expert_groups != 0 || hp->n_used_groups == 0 || hp->n_used_groups > hp->n_expert_groups ||
      hp->n_experts / hp->n_expert_groups * hp->n_used_groups < hp->n_used_experts) {
    r->rc = aii_fail(r->err, AIINFRA_EFORMAT, "%u of %u experts from %u of %u groups: these do not fit each other",
                     hp->n_used_experts, hp->n_experts, hp->n_used_groups, hp->n_expert_groups);
  }
}

static void read_shared(reader *r, aii_hparams *hp)
{
  uint32_t count = read_count(r, "expert_shared_count", MAX_USED_EXPERTS);
  hp->n_ff_shared = read_count(r, "expert_shared_feed_forward_length", MAX_FF);
  if (hp->n_ff_shared != 0 || r->rc != AIINFRA_OK) return;
  uint64_t together = (uint64_t)count * hp->n_ff_exp;
  if (together == 0) together = (r->arch->flags & AII_SHARED_GATE) != 0 ? hp->n_ff : 0;
  if (together > MAX_FF) {
    r->rc = aii_fail(r->err, AIINFRA_EFORMAT, "%u shared experts of %u are too wide", count, hp->n_ff_exp);
  }
  hp->n_ff_shared = (uint32_t)AII_MIN(together, (uint64_t)MAX_FF);
}

static void read_experts(reader *r, aii_hparams *hp)
{
  hp->n_experts = read_count(r, "expert_count", MAX_EXPERTS);
  if (hp->n_experts == 0 || r->rc != AIINFRA_OK) return;
  if ((r->arch->flags & AII_EXPERTS) == 0) {
    r->rc = aii_fail(r->err, AIINFRA_ENOTSUP, "a mixture of %u experts does not run with architecture '%s'",
                     hp->n_experts, r->arch->name);
    return;
  }
  hp->n_used_experts = read_u32(r, "expert_used_count", 0, AII_MIN(hp->n_experts, (uint32_t)MAX_USED_EXPERTS));
  hp->n_ff_exp = read_u32(r, "expert_feed_forward_length", hp->n_ff, MAX_FF);
  hp->n_dense_layers = read_count(r, "leading_dense_block_count", hp->n_layers);
  hp->expert_scale = read_optional(r, "expert_weights_scale", 1);
  uint32_t gating = read_count(r, "expert_gating_func", UINT32_MAX);
  hp->expert_sigmoid = gating == 2;
  hp->expert_norm = (r->arch->flags & AII_EXPERT_NORM) != 0 || gating == 3;
  if (find(r, "expert_weights_norm") != NULL) (void)aii_gguf_get_bool(r->gguf, r->key, &hp->expert_norm);
  if (r->rc == AIINFRA_OK && gating > 3) {
    r->rc = aii_fail(r->err, AIINFRA_ENOTSUP, "expert_gating_func %u does not run in this version", gating);
  }
  if ((r->arch->flags & AII_SHARED_EXPERT) != 0) read_shared(r, hp);
  read_groups(r, hp);
}

/* ---- the whole ------------------------------------------------------------------------------------------------ */

static void read_scales(reader *r, aii_hparams *hp)
{
  bool wide = r->arch->wide_scale_at != 0 && r->arch->wide_scale_at == hp->n_layers;
  float dim = wide ? (float)hp->n_embd / (float)hp->n_heads : (float)(hp->mla_key != 0 ? hp->mla_key : hp->head_dim);
  hp->attn_scale = read_optional(r, "attention.scale", 1 / sqrtf(dim));
  if (hp->rope_scaling == AII_SCALING_YARN && hp->yarn_log_mul != 0) {
    float more = 1 + hp->yarn_log_mul * logf(hp->rope_factor);
    hp->attn_scale *= more * more;
  }
  hp->attn_softcap = read_optional(r, "attn_logit_softcapping", 0);
  hp->logit_softcap = read_optional(r, "final_logit_softcapping", 0);
  hp->embd_scale = (r->arch->flags & AII_EMBD_SQRT) != 0 ? sqrtf((float)hp->n_embd) : 1;
  hp->embd_scale = read_optional(r, "embedding_scale", hp->embd_scale);
  hp->residual_scale = read_optional(r, "residual_scale", 1);
  hp->logit_scale = read_optional(r, "logit_scale", 1);
}

static void read_direction(reader *r, aii_hparams *hp)
{
  const aii_gguf_tensor *types = aii_gguf_find_tensor(r->gguf, "token_types.weight");
  hp->n_types = types != NULL ? (uint32_t)AII_MIN(types->ne[1], (uint64_t)UINT32_MAX) : 0;
  hp->causal = true;
  if (find(r, "attention.causal") != NULL) (void)aii_gguf_get_bool(r->gguf, r->key, &hp->causal);
  if ((r->arch->flags & AII_ENCODER) != 0) hp->causal = false;
}

/* What layers need. */
static void read_layers(reader *r, aii_hparams *hp)
{
  hp->n_layers = read_u32(r, "block_count", 0, MAX_LAYERS);
  hp->n_ff = read_u32(r, "feed_forward_length", 0, MAX_FF);
  hp->norm_eps = read_f32(
      r, r->arch->norm == AII_NORM_LAYER ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon", 0);
  read_heads(r, hp);
  if ((r->arch->flags & AII_MLA) != 0) read_mla(r, hp);
  hp->window = read_count(r, "attention.sliding_window", UINT32_MAX);
  read_rope(r, hp);
  read_experts(r, hp);
}

aiinfra_status aii_hparams_read(const aii_gguf *gguf, const aii_arch *arch, aii_hparams *hp, aiinfra_error *err)
{
  reader r = {.gguf = gguf, .arch = arch, .err = err, .rc = AIINFRA_OK};
  hp->train_context = read_u32(&r, "context_length", 0, MAX_CONTEXT);
  hp->n_embd = read_u32(&r, "embedding_length", 0, MAX_EMBD);
  if ((arch->flags & AII_STATIC) != 0) (void)read_count(&r, "block_count", 0);
  else read_layers(&r, hp);
  if (r.rc == AIINFRA_OK) read_scales(&r, hp);
  read_direction(&r, hp);
  return r.rc == AIINFRA_OK ? r.rc : aii_wrap(err, r.rc, "architecture '%s'", arch->name);
}

void aii_hparams_glance(const aii_gguf *gguf, aii_str arch, aii_hparams *hp)
{
  const struct {
    const char *name;
    uint32_t *value;
  } wanted[] = {{"context_length", &hp->train_context},  {"embedding_length", &hp->n_embd},
                {"block_count", &hp->n_layers},          {"feed_forward_length", &hp->n_ff},
                {"attention.head_count", &hp->n_heads},  {"attention.head_count_kv", &hp->n_kv_heads},
                {"attention.key_length", &hp->head_dim}, {"rope.dimension_count", &hp->n_rot}};
  char key[128];
  for (size_t i = 0; i < AII_COUNT(wanted); i++) {
    (void)snprintf(key, sizeof key, "%.*s.%s", AII_SHOW(arch), wanted[i].name);
    (void)aii_gguf_get_u32(gguf, key, wanted[i].value);
  }
  if (hp->n_kv_heads == 0) hp->n_kv_heads = hp->n_heads;
  if (hp->head_dim == 0 && hp->n_heads > 0) hp->head_dim = hp->n_embd / hp->n_heads;
}
