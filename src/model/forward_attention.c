/* forward_attention.c - attention of one layer: project, normalise, rotate, write to the cache, attend. */
#include "src/model/forward.h"

void aii_forward_rotate(const pass *p, const aii_layer *l, float *x, uint32_t n_heads, uint32_t stride)
{
  if (l->rope == NULL) return;
  const aii_rope rope = {p->m->arch->rope, p->m->hp.n_rot, l->rope->inv_freq, l->rope->attn_factor};
  p->ops->rope(p->be, &rope, p->rows, n_heads, 0, stride, x, NULL);
}

static aii_attn attention_of(const pass *p, uint32_t layer)
{
  const aii_layer *l = &p->m->layers[layer];
  const aii_hparams *hp = &p->m->hp;
  return (aii_attn){.n_heads = hp->n_heads,
                    .window = l->window,
                    .both_ways = !hp->causal,
                    .rounded = p->m->bf16_x,
                    .alibi = p->m->arch->alibi,
                    .scale = hp->attn_scale,
                    .softcap = hp->attn_softcap,
                    .sinks = aii_or_null(&l->sinks)};
}

void aii_forward_attend(const pass *p, uint32_t layer)
{
  const aii_attn how = attention_of(p, layer);
  p->ops->attention(p->be, p->kv, layer, p->rows, &how, p->ws->q, p->ws->h);
}

static void norm_heads(const pass *p, const aii_weight *w, const aii_weight *bias, uint32_t n_heads, float *x)
{
  const aii_hparams *hp = &p->m->hp;
  if (w->n_out == 0) return;
  bool wide = p->m->arch->qk_norm == AII_QK_WIDTH;
  uint32_t width = wide ? n_heads * hp->head_dim : hp->head_dim;
  aii_forward_norm(p, x, w, bias, wide ? p->n : p->n * n_heads, width, x);
}

/* Attention of what the products gave: heads are normalised, queries and keys rotated by their positions, keys and values
 * written to the cache. */
static void attend_own(const pass *p, uint32_t layer)
{
  const aii_layer *l = &p->m->layers[layer];
  const aii_hparams *hp = &p->m->hp;
  aii_workspace *ws = p->ws;
  const aii_rope rope = {p->m->arch->rope, hp->n_rot, l->rope != NULL ? l->rope->inv_freq : NULL,
                         l->rope != NULL ? l->rope->attn_factor : 1};
  const bool at_once = p->ops->attend_own != NULL,
             norms = p->m->arch->norm == AII_NORM_RMS && p->m->arch->qk_norm == AII_QK_HEAD;
  aii_own own = {.rope = l->rope != NULL ? &rope : NULL, .eps = hp->norm_eps, .k = ws->k, .v = ws->v};
  if (at_once && norms) {
    own.q_norm = aii_or_null(&l->q_norm);
    own.k_norm = aii_or_null(&l->k_norm);
  } else {
    norm_heads(p, &l->q_norm, &l->q_norm_bias, hp->n_heads, ws->q);
    norm_heads(p, &l->k_norm, &l->k_norm_bias, hp->n_kv_heads, ws->k);
  }
  if (at_once) {
    const aii_attn how = attention_of(p, layer);
    p->ops->attend_own(p->be, p->kv, layer, p->rows, &own, &how, ws->q, ws->h);
    return;
  }
  if (own.rope != NULL) p->ops->rope(p->be, own.rope, p->rows, hp->n_heads, hp->n_kv_heads, hp->head_dim, ws->q, ws->k);
  p->ops->kv_write(p->be, p->kv, layer, p->rows, ws->k, ws->v);
  aii_forward_attend(p, layer);
}

void aii_forward_attention(const pass *p, uint32_t layer)
{
  const aii_layer *l = &p->m->layers[layer];
  const aii_hparams *hp = &p->m->hp;
  aii_workspace *ws = p->ws;

  const aii_mul qkv[] = {{&l->q, aii_or_null(&l->q_bias), ws->q},
                         {&l->k, aii_or_null(&l->k_bias), ws->k},
                         {&l->v, aii_or_null(&l->v_bias), ws->v}};
  aii_forward_matmuls(p, &l->attn_norm, &l->attn_norm_bias, qkv, AII_COUNT(qkv));
  attend_own(p, layer);
  bool again =
      l->attn_sum_norm_2.n_out != 0; /* never beside what else needs ws->t: a norm or a factor of the product */
  if (again) p->ops->copy(p->be, ws->x, hp->n_embd, 1, p->n, hp->n_embd, ws->t, hp->n_embd);
  aii_forward_add_product(p, &l->o, aii_or_null(&l->o_bias), ws->h, &l->attn_post_norm);
  aii_forward_norm_sum(p, &l->attn_sum_norm, &l->attn_sum_norm_bias);
  if (again) p->ops->add(p->be, ws->x, ws->t, 1, (size_t)p->n * hp->n_embd);
  aii_forward_norm_sum(p, &l->attn_sum_norm_2, &l->attn_sum_norm_2_bias);
}
