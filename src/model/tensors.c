/* tensors.c - finds the tensors of a model, checks that each has the type and shape the hyper-parameters promise.
 *
 * One table lists every tensor that any architecture may have, and which traits of a layer ask for it; the traits come
 * from the architecture's row and the hyper-parameters. A fused tensor fills several weights with slices of its rows, so
 * that nothing after this file knows of it. A tensor that nothing knows is refused too: it would mean that the model
 * computes something this version does not.
 */
#include <stdio.h>

#include "src/model/arch.h"

typedef enum dim {
  DIM_ONE,
  DIM_EMBD,
  DIM_Q,
  DIM_K,
  DIM_V,
  DIM_QKV,
  DIM_O,
  DIM_Q_NORM,
  DIM_K_NORM,
  DIM_HEADS,
  DIM_Q_LORA,
  DIM_KV_LORA,
  DIM_KV_A,
  DIM_KV_B,
  DIM_NOPE,
  DIM_MLA_VALUE,
  DIM_FF,
  DIM_FF_TWICE,
  DIM_FF_EXP,
  DIM_FF_SHARED,
  DIM_EXPERTS,
  DIM_VOCAB,
  DIM_CONTEXT,
  DIM_TYPES
} dim;

/* What a layer has (or, for the tensors outside of layers, the model). */
enum {
  PRE_NORM = 1 << 0,
  POST_NORM = 1 << 1,
  NORM_BIAS = 1 << 2,
  QK_NORM = 1 << 3,
  OWN_Q = 1 << 4,  /* q is a tensor of its own */
  OWN_KV = 1 << 5, /* k and v are */
  FUSED_QKV = 1 << 6,
  QKV_BIAS = 1 << 7,
  ALL_BIAS = 1 << 8,
  MAY_BIAS = 1 << 9,
  SINKS = 1 << 10,
  MLA = 1 << 11,
  Q_LORA = 1 << 12,
  LATENT = 1 << 13, /* MLA whose cache is compressed */
  WHOLE = 1 << 14,  /* MLA whose cache is not */
  FFN_NORM = 1 << 15,
  FFN_NORM_BY_ATTN = 1 << 16,
  DENSE = 1 << 17,
  OWN_GATE = 1 << 18,
  OWN_UP = 1 << 19,
  FUSED_GATE = 1 << 20,
  MOE = 1 << 21,
  EXPERT_BIAS = 1 << 22,
  SHARED = 1 << 23,
  SHARED_GATE = 1 << 24,
  POSITIONS = 1 << 25,
  TYPES = 1 << 26,
  EMBD_NORM = 1 << 27,
  SUM_NORM = 1 << 28,
  OUTPUT_NORM = 1 << 29,
  ALWAYS = 0,
  NEVER = 1 << 30
};

typedef struct tensor_spec {
  const char *name;
  size_t offset; /* of the aii_weight in aii_layer or aiinfra_model */
  dim in, out, mats;
  uint32_t must, may; /* must, or may, be there when the layer has all of these traits */
} tensor_spec;

/* clang-format off */
#define LAYER(name, member, in, out, must, may) {name, offsetof(aii_layer, member), DIM_##in, DIM_##out, DIM_ONE, must, may}
#define EXPERT(name, member, in, out, must) {name, offsetof(aii_layer, member), DIM_##in, DIM_##out, DIM_EXPERTS, must, NEVER}
#define HEADS(name, member, in, out, must) {name, offsetof(aii_layer, member), DIM_##in, DIM_##out, DIM_HEADS, must, NEVER}
static const tensor_spec layer_specs[] = {
    LAYER("attn_norm.weight", attn_norm, EMBD, ONE, PRE_NORM, NEVER),
    LAYER("attn_norm.bias", attn_norm_bias, EMBD, ONE, PRE_NORM | NORM_BIAS, NEVER),
    LAYER("attn_q.weight", q, EMBD, Q, OWN_Q, NEVER),
    LAYER("attn_k.weight", k, EMBD, K, OWN_KV, NEVER),
    LAYER("attn_v.weight", v, EMBD, V, OWN_KV, NEVER),
    LAYER("attn_q.bias", q_bias, Q, ONE, OWN_Q | QKV_BIAS, OWN_Q | MAY_BIAS),
    LAYER("attn_k.bias", k_bias, K, ONE, OWN_KV | QKV_BIAS, OWN_KV | MAY_BIAS),
    LAYER("attn_v.bias", v_bias, V, ONE, OWN_KV | QKV_BIAS, OWN_KV | MAY_BIAS),
    LAYER("attn_q_norm.weight", q_norm, Q_NORM, ONE, QK_NORM, NEVER),
    LAYER("attn_k_norm.weight", k_norm, K_NORM, ONE, QK_NORM, NEVER),
    LAYER("attn_q_norm.bias", q_norm_bias, Q_NORM, ONE, QK_NORM | NORM_BIAS, NEVER),
    LAYER("attn_k_norm.bias", k_norm_bias, K_NORM, ONE, QK_NORM | NORM_BIAS, NEVER),
    LAYER("attn_sinks.weight", sinks, HEADS, ONE, SINKS, NEVER),
    LAYER("attn_q_a.weight", q_a, EMBD, Q_LORA, Q_LORA, NEVER),
    LAYER("attn_q_a_norm.weight", q_a_norm, Q_LORA, ONE, Q_LORA, NEVER),
    LAYER("attn_q_b.weight", q_b, Q_LORA, Q, Q_LORA, NEVER),
    LAYER("attn_kv_a_mqa.weight", kv_a, EMBD, KV_A, MLA, NEVER),
    LAYER("attn_kv_a_norm.weight", kv_a_norm, KV_LORA, ONE, MLA, NEVER),
    LAYER("attn_kv_b.weight", kv_b, KV_LORA, KV_B, WHOLE, NEVER),
    HEADS("attn_k_b.weight", k_b, NOPE, KV_LORA, LATENT),
    HEADS("attn_v_b.weight", v_b, KV_LORA, MLA_VALUE, LATENT),
    LAYER("attn_output.weight", o, O, EMBD, ALWAYS, NEVER),
    LAYER("attn_output.bias", o_bias, EMBD, ONE, ALL_BIAS, MAY_BIAS),
    LAYER("post_attention_norm.weight", attn_post_norm, EMBD, ONE, POST_NORM, NEVER),
    LAYER("attn_output_norm.weight", attn_sum_norm, EMBD, ONE, SUM_NORM, NEVER),
    LAYER("attn_output_norm.bias", attn_sum_norm_bias, EMBD, ONE, SUM_NORM | NORM_BIAS, NEVER),
    LAYER("attn_norm_2.weight", attn_sum_norm_2, EMBD, ONE, NEVER, QK_NORM | SUM_NORM),
    LAYER("attn_norm_2.bias", attn_sum_norm_2_bias, EMBD, ONE, NEVER, QK_NORM | SUM_NORM | NORM_BIAS),
    LAYER("layer_output_norm.weight", ffn_sum_norm, EMBD, ONE, SUM_NORM, NEVER),
    LAYER("layer_output_norm.bias", ffn_sum_norm_bias, EMBD, ONE, SUM_NORM | NORM_BIAS, NEVER),
    LAYER("post_attention_norm.weight", ffn_norm, EMBD, ONE, FFN_NORM_BY_ATTN, NEVER),
    LAYER("ffn_norm.weight", ffn_norm, EMBD, ONE, FFN_NORM, NEVER),
    LAYER("ffn_norm.bias", ffn_norm_bias, EMBD, ONE, FFN_NORM | NORM_BIAS, NEVER),
    LAYER("post_ffw_norm.weight", ffn_post_norm, EMBD, ONE, POST_NORM, NEVER),
    LAYER("ffn_gate.weight", gate, EMBD, FF, OWN_GATE, NEVER),
    LAYER("ffn_up.weight", up, EMBD, FF, OWN_UP, NEVER),
    LAYER("ffn_down.weight", down, FF, EMBD, DENSE, NEVER),
    LAYER("ffn_gate.bias", gate_bias, FF, ONE, OWN_GATE | ALL_BIAS, OWN_GATE | MAY_BIAS),
    LAYER("ffn_up.bias", up_bias, FF, ONE, OWN_UP | ALL_BIAS, OWN_UP | MAY_BIAS),
    LAYER("ffn_down.bias", down_bias, EMBD, ONE, DENSE | ALL_BIAS, DENSE | MAY_BIAS),
    LAYER("ffn_gate_inp.weight", router, EMBD, EXPERTS, MOE, NEVER),
    LAYER("ffn_gate_inp.bias", router_bias, EXPERTS, ONE, MOE | EXPERT_BIAS, NEVER),
    LAYER("exp_probs_b.bias", choice_bias, EXPERTS, ONE, NEVER, MOE),
    EXPERT("ffn_gate_exps.weight", gate_exps, EMBD, FF_EXP, MOE),
    EXPERT("ffn_up_exps.weight", up_exps, EMBD, FF_EXP, MOE),
    EXPERT("ffn_down_exps.weight", down_exps, FF_EXP, EMBD, MOE),
    EXPERT("ffn_gate_exps.bias", gate_exps_bias, FF_EXP, ONE, MOE | EXPERT_BIAS),
    EXPERT("ffn_up_exps.bias", up_exps_bias, FF_EXP, ONE, MOE | EXPERT_BIAS),
    EXPERT("ffn_down_exps.bias", down_exps_bias, EMBD, ONE, MOE | EXPERT_BIAS),
    LAYER("ffn_gate_inp_shexp.weight", shared_router, EMBD, ONE, SHARED | SHARED_GATE, NEVER),
    LAYER("ffn_gate_shexp.weight", gate_shared, EMBD, FF_SHARED, SHARED, NEVER),
    LAYER("ffn_up_shexp.weight", up_shared, EMBD, FF_SHARED, SHARED, NEVER),
    LAYER("ffn_down_shexp.weight", down_shared, FF_SHARED, EMBD, SHARED, NEVER),
};
#undef LAYER
#undef EXPERT
#undef HEADS

#define MODEL(name, member, in, out, must, may) {name, offsetof(aiinfra_model, member), DIM_##in, DIM_##out, DIM_ONE, must, may}
static const tensor_spec model_specs[] = {
    MODEL("token_embd.weight", tok_embd, EMBD, VOCAB, ALWAYS, NEVER),
    MODEL("position_embd.weight", pos_embd, EMBD, CONTEXT, POSITIONS, NEVER),
    MODEL("token_types.weight", type_embd, EMBD, TYPES, NEVER, TYPES),
    MODEL("token_embd_norm.weight", embd_norm, EMBD, ONE, EMBD_NORM, NEVER),
    MODEL("token_embd_norm.bias", embd_norm_bias, EMBD, ONE, EMBD_NORM | NORM_BIAS, NEVER),
    MODEL("output_norm.weight", output_norm, EMBD, ONE, OUTPUT_NORM, NEVER),
    MODEL("output_norm.bias", output_norm_bias, EMBD, ONE, OUTPUT_NORM | NORM_BIAS, NEVER),
    MODEL("output.weight", output, EMBD, VOCAB, NEVER, ALWAYS),
};
#undef MODEL

/* A tensor whose rows (of a bias: whose elements) are those of several weights, one behind the other. */
typedef struct fused_spec {
  const char *name;
  dim in, out;
  uint32_t must;
  struct {
    size_t offset; /* of the aii_weight in aii_layer */
    dim size;      /* DIM_ONE: there is no such part */
  } parts[3];
} fused_spec;

#define PART(member, size) {offsetof(aii_layer, member), DIM_##size}
static const fused_spec fused_specs[] = {
    {"attn_qkv.weight", DIM_EMBD, DIM_QKV, FUSED_QKV, {PART(q, Q), PART(k, K), PART(v, V)}},
    {"attn_qkv.bias", DIM_QKV, DIM_ONE, FUSED_QKV | QKV_BIAS, {PART(q_bias, Q), PART(k_bias, K), PART(v_bias, V)}},
    {"ffn_up.weight", DIM_EMBD, DIM_FF_TWICE, FUSED_GATE, {PART(gate, FF), PART(up, FF)}},
};
#undef PART
/* clang-format on */

/* Sizes of rotations, read elsewhere (layers.c). */
static const char *const angle_names[] = {"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"};

static uint32_t dim_size(const aiinfra_model *m, dim d)
{
  const aii_hparams *hp = &m->hp;
  bool mla = hp->kv_lora != 0, wide = m->arch->qk_norm == AII_QK_WIDTH;
  uint32_t key = mla ? hp->mla_key : hp->head_dim, value = mla ? hp->mla_value : hp->value_dim;
  switch (d) {
    case DIM_ONE: return 1;
    case DIM_EMBD: return hp->n_embd;
    case DIM_Q: return hp->n_heads * key;
    case DIM_K: return hp->n_kv_heads * key;
    case DIM_V: return hp->n_kv_heads * value;
    case DIM_QKV: return hp->n_heads * key + hp->n_kv_heads * (key + value);
    case DIM_O: return hp->n_heads * value;
    case DIM_Q_NORM: return wide ? hp->n_heads * key : key;
    case DIM_K_NORM: return wide ? hp->n_kv_heads * key : key;
    case DIM_HEADS: return hp->n_heads;
    case DIM_Q_LORA: return hp->q_lora;
    case DIM_KV_LORA: return hp->kv_lora;
    case DIM_KV_A: return hp->kv_lora + hp->n_rot;
    case DIM_KV_B: return hp->n_heads * (key - hp->n_rot + value);
    case DIM_NOPE: return key - hp->n_rot;
    case DIM_MLA_VALUE: return value;
    case DIM_FF: return hp->n_ff;
    case DIM_FF_TWICE: return 2 * hp->n_ff;
    case DIM_FF_EXP: return hp->n_ff_exp;
    case DIM_FF_SHARED: return hp->n_ff_shared;
    case DIM_EXPERTS: return hp->n_experts;
    case DIM_VOCAB: return hp->n_vocab;
    case DIM_CONTEXT: return hp->train_context;
    case DIM_TYPES: return hp->n_types;
  }
  return 0;
}

/* The traits of a layer; those that the layers share when there is none. */
static uint32_t traits_of(const aiinfra_model *m, const aii_layer *l)
{
  const aii_arch *a = m->arch;
  const aii_hparams *hp = &m->hp;
  uint32_t f = a->flags;
  bool mla = (f & AII_MLA) != 0, fused = (f & AII_FUSED_QKV) != 0;
  bool pre = a->place == AII_PLACE_PRE || a->place == AII_PLACE_BOTH, sum = a->place == AII_PLACE_SUM;
  bool first = l != NULL && l == m->layers && (f & AII_NO_FIRST_NORM) != 0;
  bool fused_gate = (f & AII_FUSED_GATE) != 0 && aii_gguf_find_tensor(m->gguf, "blk.0.ffn_gate.weight") == NULL;
  bool qk_norm = a->qk_norm != AII_QK_PLAIN &&
                 ((f & AII_MAY_QK_NORM) == 0 || aii_gguf_find_tensor(m->gguf, "blk.0.attn_q_norm.weight") != NULL);
  bool by_attn = (f & AII_FFN_NORM_BY_ATTN) != 0, moe = l != NULL && l->moe;
  const struct {
    bool there;
    uint32_t trait;
  } all[] = {
      {pre && !first, PRE_NORM},
      {a->place == AII_PLACE_POST || a->place == AII_PLACE_BOTH, POST_NORM},
      {sum, SUM_NORM},
      {!sum, OUTPUT_NORM},
      {(f & AII_TOKEN_TYPES) != 0, TYPES},
      {(f & AII_EMBD_NORM) != 0, EMBD_NORM},
      {a->norm == AII_NORM_LAYER && (f & AII_PLAIN_NORMS) == 0, NORM_BIAS},
      {qk_norm, QK_NORM},
      {!fused && !(mla && hp->q_lora != 0), OWN_Q},
      {!fused && !mla, OWN_KV},
      {fused, FUSED_QKV},
      {(f & (AII_HAS_QKV_BIAS | AII_HAS_ALL_BIAS)) != 0, QKV_BIAS},
      {(f & AII_HAS_ALL_BIAS) != 0, ALL_BIAS},
      {(f & AII_MAY_BIAS) != 0, MAY_BIAS},
      {(f & AII_SINKS) != 0, SINKS},
      {mla, MLA},
      {mla && hp->q_lora != 0, Q_LORA},
      {mla && hp->latent, LATENT},
      {mla && !hp->latent, WHOLE},
      {pre && !by_attn, FFN_NORM},
      {pre && by_attn, FFN_NORM_BY_ATTN},
      {!moe, DENSE},
      {!moe && (f & AII_PLAIN_FFN) == 0 && !fused_gate, OWN_GATE},
      {!moe && !fused_gate, OWN_UP},
      {!moe && fused_gate, FUSED_GATE},
      {moe, MOE},
      {moe && (f & AII_EXPERT_BIAS) != 0, EXPERT_BIAS},
      {moe && hp->n_ff_shared != 0, SHARED},
      {moe && (f & AII_SHARED_GATE) != 0, SHARED_GATE},
      {(f & AII_POSITIONS) != 0, POSITIONS},
  };
  uint32_t traits = 0;
  for (size_t i = 0; i < AII_COUNT(all); i++) traits |= all[i].there ? all[i].trait : 0;
  return traits;
}

static aiinfra_status check_type(const aii_gguf_tensor *t, aiinfra_error *err)
{
  if (aii_dtype_info(t->type) != NULL) return AIINFRA_OK;
  return aii_fail(
      err, AIINFRA_ENOTSUP,
      "tensor '%.*s' is %s, which this version cannot compute with: convert the model to another type, such "
      "as Q4_K_M",
      AII_SHOW(t->name), aii_gguf_type_info(t->type)->name);
}

/* The tensor as a weight, when its type and its shape are right. */
static aiinfra_status read_weight(aiinfra_model *m, const aii_gguf_tensor *t, dim in, dim out, dim mats, aii_weight *w,
                                  aiinfra_error *err)
{
  uint32_t n_in = dim_size(m, in), n_out = dim_size(m, out), n_mats = dim_size(m, mats);
  uint64_t want[4] = {n_in, 1, 1, 1};
  size_t n = 1;
  if (out != DIM_ONE) want[n++] = n_out;
  if (mats != DIM_ONE) want[n++] = n_mats;
  if (memcmp(t->ne, want, sizeof want) != 0) {
    return aii_fail(err, AIINFRA_EFORMAT,
                    "tensor '%.*s' has the shape %llu x %llu x %llu x %llu; the hyper-parameters promise %llu x %llu x "
                    "%llu",
                    AII_SHOW(t->name), (unsigned long long)t->ne[0], (unsigned long long)t->ne[1],
                    (unsigned long long)t->ne[2], (unsigned long long)t->ne[3], (unsigned long long)want[0],
                    (unsigned long long)want[1], (unsigned long long)want[2]);
  }
  aiinfra_status rc = check_type(t, err);
  if (rc != AIINFRA_OK) return rc;
  *w = (aii_weight){.type = (aii_dtype)t->type, .n_in = n_in, .n_out = n_out, .n_mats = n_mats, .source = t->data};
  m->n_params += (uint64_t)n_in * n_out * n_mats;
  m->weight_bytes += t->bytes;
  return AIINFRA_OK;
}

static aii_weight *weight_at(void *base, size_t offset)
{
  return (aii_weight *)(void *)((char *)base + offset);
}

/* Binds the tensors of one table under a prefix; counts what it found. */
static aiinfra_status bind_table(aiinfra_model *m, const char *prefix, const tensor_spec *specs, size_t n, void *base,
                                 uint32_t traits, size_t *found, aiinfra_error *err)
{
  for (size_t i = 0; i < n; i++) {
    char name[96];
    const tensor_spec *spec = &specs[i];
    bool must = (traits & spec->must) == spec->must, may = (traits & spec->may) == spec->may;
    if (!must && !may) continue;
    (void)snprintf(name, sizeof name, "%s%s", prefix, spec->name);
    const aii_gguf_tensor *t = aii_gguf_find_tensor(m->gguf, name);
    if (t == NULL && must) {
      return aii_fail(err, AIINFRA_EFORMAT, "tensor '%s' is missing; architecture '%s' has it", name, m->arch->name);
    }
    if (t == NULL) continue;
    aiinfra_status rc = read_weight(m, t, spec->in, spec->out, spec->mats, weight_at(base, spec->offset), err);
    if (rc != AIINFRA_OK) return rc;
    ++*found;
  }
  return AIINFRA_OK;
}

/* Fills the parts of a fused weight with its rows, or of a fused bias with its elements. */
static aiinfra_status slice(const aiinfra_model *m, const fused_spec *spec, const aii_weight *whole, aii_layer *l,
                            aiinfra_error *err)
{
  const aii_dtype_traits *type = aii_dtype_info((uint32_t)whole->type);
  bool bias = spec->out == DIM_ONE;
  size_t unit = type->block_bytes; /* of a row, or of an element */
  if (bias && type->block != 1) {
    return aii_fail(err, AIINFRA_ENOTSUP, "tensor '%s' is a bias of type %s; F32 would do", spec->name, type->name);
  }
  if (!bias) unit *= whole->n_in / type->block;
  const char *at = whole->source;
  for (size_t i = 0; i < AII_COUNT(spec->parts) && spec->parts[i].size != DIM_ONE; i++) {
    uint32_t size = dim_size(m, spec->parts[i].size);
    aii_weight *w = weight_at(l, spec->parts[i].offset);
    *w = *whole;
    *(bias ? &w->n_in : &w->n_out) = size;
    w->source = at;
    at += size * unit;
  }
  return AIINFRA_OK;
}

static aiinfra_status bind_fused(aiinfra_model *m, const char *prefix, aii_layer *l, uint32_t traits, size_t *found,
                                 aiinfra_error *err)
{
  for (size_t i = 0; i < AII_COUNT(fused_specs); i++) {
    char name[96];
    aii_weight whole;
    const fused_spec *spec = &fused_specs[i];
    if ((traits & spec->must) != spec->must) continue;
    (void)snprintf(name, sizeof name, "%s%s", prefix, spec->name);
    const aii_gguf_tensor *t = aii_gguf_find_tensor(m->gguf, name);
    if (t == NULL) {
      return aii_fail(err, AIINFRA_EFORMAT, "tensor '%s' is missing; architecture '%s' has it", name, m->arch->name);
    }
    aiinfra_status rc = read_weight(m, t, spec->in, spec->out, DIM_ONE, &whole, err);
    if (rc == AIINFRA_OK) rc = slice(m, spec, &whole, l, err);
    if (rc != AIINFRA_OK) return rc;
    ++*found;
  }
  return AIINFRA_OK;
}

static aiinfra_status bind_layers(aiinfra_model *m, size_t *found, aiinfra_error *err)
{
  aiinfra_status rc = AIINFRA_OK;
  for (uint32_t il = 0; il < m->hp.n_layers && rc == AIINFRA_OK; il++) {
    char prefix[32];
    aii_layer *l = &m->layers[il];
    uint32_t traits = traits_of(m, l);
    (void)snprintf(prefix, sizeof prefix, "blk.%u.", il);
    rc = bind_table(m, prefix, layer_specs, AII_COUNT(layer_specs), l, traits, found, err);
    if (rc == AIINFRA_OK) rc = bind_fused(m, prefix, l, traits, found, err);
  }
  return rc;
}

static bool is_bound(aiinfra_model *m, const aii_gguf_tensor *t)
{
  size_t cursor = 0;
  for (size_t i = 0; i < AII_COUNT(angle_names); i++) {
    if (t == aii_gguf_find_tensor(m->gguf, angle_names[i])) return true;
  }
  for (const aii_weight *w; (w = aii_tensors_at(m, &cursor)) != NULL;) {
    if (w->source == t->data) return true;
  }
  return false;
}

static aiinfra_status refuse_unknown(aiinfra_model *m, size_t found, aiinfra_error *err)
{
  size_t n = aii_gguf_n_tensors(m->gguf);
  for (size_t i = 0; i < AII_COUNT(angle_names); i++) {
    if (aii_gguf_find_tensor(m->gguf, angle_names[i]) != NULL) found++;
  }
  for (size_t i = 0; found != n && i < n; i++) {
    const aii_gguf_tensor *t = aii_gguf_tensor_at(m->gguf, i);
    if (is_bound(m, t) || (m->head != NULL && aii_head_owns(t))) continue;
    return aii_fail(err, AIINFRA_ENOTSUP, "tensor '%.*s' is not one that architecture '%s' has in this version",
                    AII_SHOW(t->name), m->arch->name);
  }
  return AIINFRA_OK;
}

aiinfra_status aii_tensors_bind(aiinfra_model *m, aiinfra_error *err)
{
  size_t found = 0;
  uint32_t traits = traits_of(m, NULL);
  aiinfra_status rc = bind_table(m, "", model_specs, AII_COUNT(model_specs), m, traits, &found, err);
  if (rc == AIINFRA_OK) rc = bind_layers(m, &found, err);
  if (rc == AIINFRA_OK) rc = aii_head_bind(m, &found, err);
  m->tied = m->output.n_out == 0;
  m->tok_embd.lookup = !m->tied || (m->arch->flags & AII_ENCODER) != 0;
  m->pos_embd.lookup = m->type_embd.lookup = true;
  if (rc == AIINFRA_OK) rc = refuse_unknown(m, found, err);
  return rc;
}

aii_weight *aii_tensors_at(aiinfra_model *m, size_t *cursor)
{
  size_t n_layer = AII_COUNT(layer_specs), n_layers = m->layers != NULL ? m->hp.n_layers : 0;
  for (; *cursor < AII_COUNT(model_specs) + n_layers * n_layer; ++*cursor) {
    size_t i = *cursor;
    aii_weight *w;
    if (i < AII_COUNT(model_specs)) {
      w = weight_at(m, model_specs[i].offset);
      if (w == &m->output && m->tied) continue;
    } else {
      i -= AII_COUNT(model_specs);
      const tensor_spec *spec = &layer_specs[i % n_layer];
      if (i % n_layer > 0 && spec[-1].offset == spec->offset) continue; /* another name of it, next to the first */
      w = weight_at(&m->layers[i / n_layer], spec->offset);
    }
    if (w->n_out == 0) continue;
    ++*cursor;
    return w;
  }
  return NULL;
}
