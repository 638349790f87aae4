/* tensors.c - finds the tensors of a model, checks that each has the type and shape the hyper-parameters promise.
 *
 * One table lists every tensor that any architecture may have; an architecture's flags say which of them must be
 * there and which may. A tensor that nothing knows is refused too: it would mean that the model computes something
 * this version does not.
 */
#include <math.h>
#include <stdio.h>

#include "src/model/arch.h"

typedef enum dim { DIM_ONE, DIM_EMBD, DIM_Q, DIM_KV, DIM_HEAD, DIM_FF, DIM_VOCAB } dim;

enum { ALWAYS = 0, NEVER = -1, ANYONE = -2 };

typedef struct tensor_spec {
  const char *name;
  size_t offset; /* of the aii_weight in aii_layer or aiinfra_model */
  dim in, out;
  int32_t must; /* must be there: ALWAYS, or when the architecture has this flag; ANYONE may have it */
  uint32_t may; /* may be there with any of these flags */
} tensor_spec;

#define LAYER(name, member, in, out, must, may)           \
  {                                                       \
    name, offsetof(aii_layer, member), in, out, must, may \
  }
static const tensor_spec layer_specs[] = {
    LAYER("attn_norm.weight", attn_norm, DIM_EMBD, DIM_ONE, ALWAYS, 0),
    LAYER("attn_q.weight", q, DIM_EMBD, DIM_Q, ALWAYS, 0),
    LAYER("attn_k.weight", k, DIM_EMBD, DIM_KV, ALWAYS, 0),
    LAYER("attn_v.weight", v, DIM_EMBD, DIM_KV, ALWAYS, 0),
    LAYER("attn_output.weight", o, DIM_Q, DIM_EMBD, ALWAYS, 0),
    LAYER("attn_q_norm.weight", q_norm, DIM_HEAD, DIM_ONE, AII_ARCH_QK_NORM, 0),
    LAYER("attn_k_norm.weight", k_norm, DIM_HEAD, DIM_ONE, AII_ARCH_QK_NORM, 0),
    LAYER("attn_q.bias", q_bias, DIM_Q, DIM_ONE, AII_ARCH_QKV_BIAS, AII_ARCH_ANY_BIAS),
    LAYER("attn_k.bias", k_bias, DIM_KV, DIM_ONE, AII_ARCH_QKV_BIAS, AII_ARCH_ANY_BIAS),
    LAYER("attn_v.bias", v_bias, DIM_KV, DIM_ONE, AII_ARCH_QKV_BIAS, AII_ARCH_ANY_BIAS),
    LAYER("attn_output.bias", o_bias, DIM_EMBD, DIM_ONE, NEVER, AII_ARCH_ANY_BIAS | AII_ARCH_QKV_BIAS),
    LAYER("ffn_norm.weight", ffn_norm, DIM_EMBD, DIM_ONE, ALWAYS, 0),
    LAYER("ffn_gate.weight", gate, DIM_EMBD, DIM_FF, ALWAYS, 0),
    LAYER("ffn_up.weight", up, DIM_EMBD, DIM_FF, ALWAYS, 0),
    LAYER("ffn_down.weight", down, DIM_FF, DIM_EMBD, ALWAYS, 0),
    LAYER("ffn_gate.bias", gate_bias, DIM_FF, DIM_ONE, NEVER, AII_ARCH_ANY_BIAS),
    LAYER("ffn_up.bias", up_bias, DIM_FF, DIM_ONE, NEVER, AII_ARCH_ANY_BIAS),
    LAYER("ffn_down.bias", down_bias, DIM_EMBD, DIM_ONE, NEVER, AII_ARCH_ANY_BIAS),
};
#undef LAYER

static const tensor_spec model_specs[] = {
    {"token_embd.weight", offsetof(aiinfra_model, tok_embd), DIM_EMBD, DIM_VOCAB, ALWAYS, 0},
    {"output_norm.weight", offsetof(aiinfra_model, output_norm), DIM_EMBD, DIM_ONE, ALWAYS, 0},
    {"output.weight", offsetof(aiinfra_model, output), DIM_EMBD, DIM_VOCAB, ANYONE, 0},
};

static uint32_t dim_size(const aii_hparams *hp, dim d)
{
  switch (d) {
    case DIM_ONE: return 1;
    case DIM_EMBD: return hp->n_embd;
    case DIM_Q: return hp->n_heads * hp->head_dim;
    case DIM_KV: return hp->n_kv_heads * hp->head_dim;
    case DIM_HEAD: return hp->head_dim;
    case DIM_FF: return hp->n_ff;
    case DIM_VOCAB: return hp->n_vocab;
  }
  return 0;
}

static aiinfra_status check_type(const aii_gguf_tensor *t, aiinfra_error *err)
{
  if (aii_dtype_info(t->type) != NULL) return AIINFRA_OK;
  return aii_fail(err, AIINFRA_ENOTSUP,
                  "tensor '%.*s' is %s; this version computes with F32, F16, BF16, Q8_0 and Q4_0: convert the model to "
                  "one of these",
                  AII_SHOW(t->name), aii_gguf_type_info(t->type)->name);
}

static aiinfra_status bind_one(aiinfra_model *m, const tensor_spec *spec, const aii_gguf_tensor *t, aii_weight *w,
                               aiinfra_error *err)
{
  uint32_t n_in = dim_size(&m->hp, spec->in), n_out = dim_size(&m->hp, spec->out);
  if (t->ne[0] != n_in || t->ne[1] != n_out || t->ne[2] != 1 || t->ne[3] != 1) {
    return aii_fail(err, AIINFRA_EFORMAT,
                    "tensor '%.*s' is %llu x %llu x %llu x %llu; the hyper-parameters make it %u x %u",
                    AII_SHOW(t->name), (unsigned long long)t->ne[0], (unsigned long long)t->ne[1],
                    (unsigned long long)t->ne[2], (unsigned long long)t->ne[3], n_in, n_out);
  }
  aiinfra_status rc = check_type(t, err);
  if (rc != AIINFRA_OK) return rc;
  *w = (aii_weight){.type = (aii_dtype)t->type, .n_in = n_in, .n_out = n_out, .source = t->data};
  m->n_params += (uint64_t)n_in * n_out;
  m->weight_bytes += t->bytes;
  return AIINFRA_OK;
}

/* Binds the tensors of one table under a prefix; counts what it found. */
static aiinfra_status bind_table(aiinfra_model *m, const char *prefix, const tensor_spec *specs, size_t n, void *base,
                                 size_t *found, aiinfra_error *err)
{
  uint32_t flags = m->arch->flags;
  for (size_t i = 0; i < n; i++) {
    char name[96];
    const tensor_spec *spec = &specs[i];
    bool must = spec->must == ALWAYS || (spec->must > 0 && (flags & (uint32_t)spec->must) != 0);
    if (!must && spec->must != ANYONE && (flags & spec->may) == 0) continue;
    (void)snprintf(name, sizeof name, "%s%s", prefix, spec->name);
    const aii_gguf_tensor *t = aii_gguf_find_tensor(m->gguf, name);
    if (t == NULL && must) return aii_fail(err, AIINFRA_EFORMAT, "tensor '%s' is missing", name);
    if (t == NULL) continue;
    aiinfra_status rc = bind_one(m, spec, t, (aii_weight *)(void *)((char *)base + spec->offset), err);
    if (rc != AIINFRA_OK) return rc;
    ++*found;
  }
  return AIINFRA_OK;
}

static aiinfra_status bind_layers(aiinfra_model *m, size_t *found, aiinfra_error *err)
{
  /* Each layer has tensors of its own, so their number bounds what is allocated. */
  if (m->hp.n_layers > aii_gguf_n_tensors(m->gguf)) {
    return aii_fail(err, AIINFRA_EFORMAT, "key 'block_count' says %u layers, but the file has only %zu tensors",
                    m->hp.n_layers, aii_gguf_n_tensors(m->gguf));
  }
  m->layers = aii_new_array(&m->rt->mem, m->hp.n_layers, sizeof m->layers[0]);
  if (m->layers == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for %u layers", m->hp.n_layers);
  aiinfra_status rc = AIINFRA_OK;
  for (uint32_t l = 0; l < m->hp.n_layers && rc == AIINFRA_OK; l++) {
    char prefix[32];
    (void)snprintf(prefix, sizeof prefix, "blk.%u.", l);
    rc = bind_table(m, prefix, layer_specs, AII_COUNT(layer_specs), &m->layers[l], found, err);
  }
  return rc;
}

static bool is_bound(aiinfra_model *m, const aii_gguf_tensor *t)
{
  size_t cursor = 0;
  for (const aii_weight *w; (w = aii_tensors_at(m, &cursor)) != NULL;) {
    if (w->source == t->data) return true;
  }
  return false;
}

static aiinfra_status refuse_unknown(aiinfra_model *m, size_t found, aiinfra_error *err)
{
  size_t n = aii_gguf_n_tensors(m->gguf);
  if (aii_gguf_find_tensor(m->gguf, "rope_freqs.weight") != NULL) found++;
  for (size_t i = 0; found != n && i < n; i++) {
    const aii_gguf_tensor *t = aii_gguf_tensor_at(m->gguf, i);
    if (is_bound(m, t) || (m->head != NULL && aii_head_owns(t)) ||
        (t->name.n == 17 && memcmp(t->name.p, "rope_freqs.weight", 17) == 0))
      continue;
    return aii_fail(err, AIINFRA_ENOTSUP, "tensor '%.*s' is not one that architecture '%s' has in this version",
                    AII_SHOW(t->name), m->arch->name);
  }
  return AIINFRA_OK;
}

aiinfra_status aii_tensors_bind(aiinfra_model *m, aiinfra_error *err)
{
  size_t found = 0;
  aiinfra_status rc = bind_table(m, "", model_specs, AII_COUNT(model_specs), m, &found, err);
  if (rc == AIINFRA_OK) rc = bind_layers(m, &found, err);
  if (rc == AIINFRA_OK) rc = aii_head_bind(m, &found, err);
  m->tied = m->output.n_out == 0;
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
      w = (aii_weight *)(void *)((char *)m + model_specs[i].offset);
      if (w == &m->output && m->tied) continue;
    } else {
      i -= AII_COUNT(model_specs);
      w = (aii_weight *)(void *)((char *)&m->layers[i / n_layer] + layer_specs[i % n_layer].offset);
    }
    if (w->n_out == 0) continue;
    ++*cursor;
    return w;
  }
  return NULL;
}

aiinfra_status aii_rope_init(aiinfra_model *m, aiinfra_error *err)
{
  uint32_t n = m->hp.n_rot / 2;
  const aii_gguf_tensor *factors = aii_gguf_find_tensor(m->gguf, "rope_freqs.weight");
  if (factors != NULL && (factors->type != AII_F32 || factors->n_dims != 1 || factors->ne[0] != n)) {
    return aii_fail(err, AIINFRA_EFORMAT, "tensor 'rope_freqs.weight' must hold %u numbers as F32", n);
  }
  m->inv_freq = aii_new_array(&m->rt->mem, n, sizeof m->inv_freq[0]);
  if (m->inv_freq == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for %u rotations", n);
  for (uint32_t i = 0; i < n; i++) {
    double freq = pow((double)m->hp.rope_base, -2.0 * i / m->hp.n_rot) * (double)m->hp.rope_scale;
    if (factors != NULL) {
      float factor;
      memcpy(&factor, factors->data + 4 * (size_t)i, sizeof factor);
      if (!isfinite(factor) || factor <= 0) {
        return aii_fail(err, AIINFRA_EFORMAT, "tensor 'rope_freqs.weight': factor %u is not above 0", i);
      }
      freq /= (double)factor;
    }
    m->inv_freq[i] = (float)freq;
  }
  return AIINFRA_OK;
}
