/* layers.c - the plan of each layer: its window, whether it rotates and how, dense or experts. And the tables of angles.
 *
 * Windows: which layers have one says attention.sliding_window_pattern (a flag for each layer, or a step) or else the
 * architecture's row. Angles: theta_i = position * base^(-2i / n_rot), with the scalings of Llama 3 (rope_freqs.weight
 * divides), linear, YaRN and LongRoPE (rope_factors_short or _long divides: by whether the context that the model was
 * opened with is longer than the original one, so that a sequence never changes its factors half way).
 */
#include <math.h>
#include <stdio.h>

#include "src/model/arch.h"

enum { EVERYWHERE = 0, LOCAL = 1, N_TABLES = 2 };

/* ---- angles --------------------------------------------------------------------------------------------------- */

/* The numbers that divide the angles; *out NULL: there are none. */
static aiinfra_status find_factors(const aiinfra_model *m, const aii_gguf_tensor **out, aiinfra_error *err)
{
  const char *name = "rope_freqs.weight";
  *out = aii_gguf_find_tensor(m->gguf, name);
  if (*out == NULL && (m->hp.rope_scaling == AII_SCALING_LONGROPE ||
                       aii_gguf_find_tensor(m->gguf, "rope_factors_long.weight") != NULL)) {
    bool is_long = m->hp.rope_context != 0 && m->max_context > m->hp.rope_context;
    name = is_long ? "rope_factors_long.weight" : "rope_factors_short.weight";
    *out = aii_gguf_find_tensor(m->gguf, name);
    if (*out == NULL) return aii_fail(err, AIINFRA_EFORMAT, "tensor '%s' is missing", name);
  }
  uint32_t n = m->hp.n_rot / 2;
  if (*out != NULL && ((*out)->type != AII_F32 || (*out)->n_dims != 1 || (*out)->ne[0] != n)) {
    return aii_fail(err, AIINFRA_EFORMAT, "tensor '%s' must hold %u numbers as F32", name, n);
  }
  for (uint32_t i = 0; *out != NULL && i < n; i++) {
    float factor;
    memcpy(&factor, (*out)->data + 4 * (size_t)i, sizeof factor);
    if (!isfinite(factor) || factor <= 0) {
      return aii_fail(err, AIINFRA_EFORMAT, "tensor '%s': factor %u is not above 0", name, i);
    }
  }
  return AIINFRA_OK;
}

/* The pair that turns `times` over the original context. */
static double yarn_pair(const aii_hparams *hp, float times)
{
  double turns = (double)hp->rope_context / ((double)times * 6.283185307179586);
  return hp->n_rot * log(turns) / (2 * log((double)hp->rope_base));
}

/* How much of pair i keeps its own angle: 1 for fast pairs, 0 for slow ones, a slope between. */
static double yarn_keep(const aiinfra_model *m, uint32_t i)
{
  double lo = yarn_pair(&m->hp, m->hp.yarn_fast), hi = yarn_pair(&m->hp, m->hp.yarn_slow);
  if ((m->arch->flags & AII_YARN_EXACT) == 0) {
    lo = floor(lo);
    hi = ceil(hi);
  }
  lo = fmax(lo, 0);
  hi = fmin(hi, (double)m->hp.n_rot - 1);
  return 1 - fmin(fmax((i - lo) / fmax(hi - lo, 0.001), 0), 1);
}

static aiinfra_status fill_table(aiinfra_model *m, aii_rope_table *table, const aii_gguf_tensor *factors, float base,
                                 bool scaled, aiinfra_error *err)
{
  const aii_hparams *hp = &m->hp;
  uint32_t n = hp->n_rot / 2;
  bool yarn = scaled && hp->rope_scaling == AII_SCALING_YARN;
  table->attn_factor = scaled ? hp->rope_attn_factor : 1;
  if (yarn && hp->yarn_log_mul == 0) table->attn_factor *= 1 + 0.1f * logf(hp->rope_factor);
  table->inv_freq = aii_new_array(&m->rt->mem, n, sizeof table->inv_freq[0]);
  if (table->inv_freq == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for %u rotations", n);
  for (uint32_t i = 0; i < n; i++) {
    double freq = pow((double)base, -2.0 * i / hp->n_rot), keep = yarn ? yarn_keep(m, i) : 0;
    if (scaled && hp->rope_scaling != AII_SCALING_LONGROPE) {
      freq = freq * keep + freq * (1.0 / (double)hp->rope_factor) * (1 - keep);
    }
    if (scaled && factors != NULL) {
      float factor;
      memcpy(&factor, factors->data + 4 * (size_t)i, sizeof factor);
      freq /= (double)factor;
    }
    table->inv_freq[i] = (float)freq;
  }
  return AIINFRA_OK;
}

static aiinfra_status make_tables(aiinfra_model *m, aiinfra_error *err)
{
  const aii_gguf_tensor *factors = NULL;
  aiinfra_status rc = find_factors(m, &factors, err);
  if (rc != AIINFRA_OK) return rc;
  m->rope = aii_new_array(&m->rt->mem, N_TABLES, sizeof m->rope[0]);
  if (m->rope == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for tables of rotations");
  rc = fill_table(m, &m->rope[EVERYWHERE], factors, m->hp.rope_base, true, err);
  if (rc == AIINFRA_OK && m->hp.rope_local_base != 0) {
    rc = fill_table(m, &m->rope[LOCAL], NULL, m->hp.rope_local_base, false, err);
  }
  return rc;
}

void aii_layers_free(aiinfra_model *m)
{
  for (uint32_t t = 0; m->rope != NULL && t < N_TABLES; t++) {
    aii_del(&m->rt->mem, m->rope[t].inv_freq, m->hp.n_rot / 2 * sizeof(float));
  }
  aii_del(&m->rt->mem, m->rope, N_TABLES * sizeof m->rope[0]);
  aii_del(&m->rt->mem, m->layers, m->hp.n_layers * sizeof m->layers[0]);
}

/* ---- layers --------------------------------------------------------------------------------------------------- */

/* Layer il % step < step - 1 has the window; step 0: each. `flags`, when the file has them, say it for each layer. */
typedef struct pattern {
  const aii_gguf_kv *flags;
  uint32_t step;
  bool global_first; /* the first of each step has none, not the last */
} pattern;

static aiinfra_status read_pattern(const aiinfra_model *m, pattern *p, aiinfra_error *err)
{
  char key[128];
  (void)snprintf(key, sizeof key, "%s.attention.sliding_window_pattern", m->arch->name);
  const aii_gguf_kv *kv = aii_gguf_find(m->gguf, key);
  *p = (pattern){NULL, m->arch->window_step, (m->arch->flags & AII_GLOBAL_FIRST) != 0};
  if (kv == NULL) return AIINFRA_OK;
  if (kv->type != AII_GGUF_ARRAY) {
    if (aii_gguf_get_u32(m->gguf, key, &p->step)) return AIINFRA_OK;
  } else if (kv->count >= m->hp.n_layers && (kv->elem_type == AII_GGUF_BOOL || kv->elem_type <= AII_GGUF_I32)) {
    p->flags = kv;
    return AIINFRA_OK;
  }
  return aii_fail(err, AIINFRA_EFORMAT, "key '%s' must be a number, or flags for %u layers", key, m->hp.n_layers);
}

static bool has_window(const pattern *p, uint32_t il)
{
  int64_t flag = 0;
  if (p->flags == NULL && p->global_first && p->step != 0) return il % p->step != 0;
  if (p->flags == NULL) return p->step == 0 || il % p->step < p->step - 1;
  if (p->flags->elem_type == AII_GGUF_BOOL) return p->flags->data[il] != 0;
  return aii_gguf_elem_i64(p->flags->elem_type, p->flags->data, il, &flag) && flag != 0;
}

aiinfra_status aii_layers_plan(aiinfra_model *m, aiinfra_error *err)
{
  const aii_hparams *hp = &m->hp;
  /* Each layer has tensors of its own, so their number bounds what is allocated. */
  if (hp->n_layers > aii_gguf_n_tensors(m->gguf)) {
    return aii_fail(err, AIINFRA_EFORMAT, "key 'block_count' says %u layers, but the file has only %zu tensors",
                    hp->n_layers, aii_gguf_n_tensors(m->gguf));
  }
  pattern windows;
  aiinfra_status rc = read_pattern(m, &windows, err);
  if (rc == AIINFRA_OK && hp->n_rot != 0) rc = make_tables(m, err);
  if (rc != AIINFRA_OK) return rc;
  if (hp->n_layers == 0) return AIINFRA_OK;
  m->layers = aii_new_array(&m->rt->mem, hp->n_layers, sizeof m->layers[0]);
  if (m->layers == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for %u layers", hp->n_layers);
  for (uint32_t il = 0; il < hp->n_layers; il++) {
    aii_layer *l = &m->layers[il];
    uint32_t step = m->arch->no_rope_step;
    bool windowed = hp->window != 0 && has_window(&windows, il);
    bool rotates = hp->n_rot != 0 && (step == 0 || il % step != step - 1);
    l->window = windowed ? hp->window : 0;
    if (rotates) l->rope = &m->rope[windowed && hp->rope_local_base != 0 ? LOCAL : EVERYWHERE];
    l->moe = hp->n_experts != 0 && il >= hp->n_dense_layers;
  }
  return AIINFRA_OK;
}
