/* forward_latent.c - multi-head latent attention (DeepSeek): keys and values come from one short vector c a token.
 *
 *   queries  q = Wq in, or Wqb norm(Wqa in); each head has `nope` dims, then n_rot that rotate
 *   keys     [c, r] = Wkva in; c = norm(c); r rotates and is shared by all heads
 *
 * Whole:   [k_h, v_h] = Wkvb c for each head h; head h of the cache holds [k_h, r] and v_h.
 * Latent:  the cache holds [c, r] and c, as one head; q_h becomes [Wk_h q_h, r part], since (Wk_h^T c) . q_h is
 *          c . (Wk_h q_h), and what attention gives becomes Wv_h out_h. Far less memory, more products.
 */
#include "src/model/forward.h"

/* To ws->b: [n_heads][mla_key], rotated. */
static void queries(const pass *p, const aii_layer *l, const float *in)
{
  const aii_hparams *hp = &p->m->hp;
  aii_workspace *ws = p->ws;
  if (hp->q_lora != 0) {
    p->ops->matmul(p->be, &l->q_a, NULL, in, p->n, false, ws->a);
    p->ops->rms_norm(p->be, ws->a, &l->q_a_norm, p->n, hp->q_lora, hp->norm_eps, ws->a);
    p->ops->matmul(p->be, &l->q_b, NULL, ws->a, p->n, false, ws->b);
  } else {
    p->ops->matmul(p->be, &l->q, aii_or_null(&l->q_bias), in, p->n, false, ws->b);
  }
  aii_forward_rotate(p, l, ws->b + (hp->mla_key - hp->n_rot), hp->n_heads, hp->mla_key);
}

/* To ws->a: [c, r] with r rotated; to ws->c: c normalised. */
static void compress(const pass *p, const aii_layer *l, const float *in)
{
  const aii_hparams *hp = &p->m->hp;
  aii_workspace *ws = p->ws;
  uint32_t width = hp->kv_lora + hp->n_rot;
  p->ops->matmul(p->be, &l->kv_a, NULL, in, p->n, false, ws->a);
  aii_forward_rotate(p, l, ws->a + hp->kv_lora, 1, width);
  p->ops->copy(p->be, ws->a, width, 1, p->n, hp->kv_lora, ws->c, hp->kv_lora);
  p->ops->rms_norm(p->be, ws->c, &l->kv_a_norm, p->n, hp->kv_lora, hp->norm_eps, ws->c);
}

/* Copies `width` floats from each of n pieces of x to each of n of out; source piece i / repeat. */
static void pieces(const pass *p, const float *x, size_t x_stride, uint32_t repeat, size_t n, uint32_t width,
                   float *out, size_t out_stride)
{
  p->ops->copy(p->be, x, x_stride, repeat, n, width, out, out_stride);
}

static void whole_heads(const pass *p, const aii_layer *l)
{
  const aii_hparams *hp = &p->m->hp;
  aii_workspace *ws = p->ws;
  uint32_t heads = hp->n_heads, nope = hp->mla_key - hp->n_rot, both = nope + hp->mla_value;
  size_t n = (size_t)p->n * heads;
  pieces(p, ws->b, hp->mla_key, 1, n, hp->mla_key, ws->q, hp->mla_key);
  p->ops->matmul(p->be, &l->kv_b, NULL, ws->c, p->n, false, ws->b);
  pieces(p, ws->b, both, 1, n, nope, ws->k, hp->mla_key);
  pieces(p, ws->a + hp->kv_lora, hp->kv_lora + hp->n_rot, heads, n, hp->n_rot, ws->k + nope, hp->mla_key);
  pieces(p, ws->b + nope, both, 1, n, hp->mla_value, ws->v, hp->mla_value);
}

static void latent_head(const pass *p, const aii_layer *l)
{
  const aii_hparams *hp = &p->m->hp;
  aii_workspace *ws = p->ws;
  uint32_t heads = hp->n_heads, nope = hp->mla_key - hp->n_rot, width = hp->head_dim;
  size_t n = (size_t)p->n * heads;
  pieces(p, ws->b, hp->mla_key, 1, n, nope, ws->gate, nope);
  p->ops->matmul_ids(p->be, &l->k_b, NULL, NULL, ws->gate, 1, p->n * heads, ws->h);
  pieces(p, ws->h, hp->kv_lora, 1, n, hp->kv_lora, ws->q, width);
  pieces(p, ws->b + nope, hp->mla_key, 1, n, hp->n_rot, ws->q + hp->kv_lora, width);
  pieces(p, ws->c, hp->kv_lora, 1, p->n, hp->kv_lora, ws->k, width);
  pieces(p, ws->a + hp->kv_lora, width, 1, p->n, hp->n_rot, ws->k + hp->kv_lora, width);
  pieces(p, ws->c, hp->kv_lora, 1, p->n, hp->kv_lora, ws->v, hp->kv_lora);
}

void aii_forward_latent_attention(const pass *p, uint32_t layer)
{
  const aii_layer *l = &p->m->layers[layer];
  const aii_hparams *hp = &p->m->hp;
  const float *in = aii_forward_input(p, &l->attn_norm, &l->attn_norm_bias), *out = p->ws->h;
  queries(p, l, in);
  compress(p, l, in);
  if (hp->latent) latent_head(p, l);
  else whole_heads(p, l);
  p->ops->kv_write(p->be, p->kv, layer, p->rows, p->ws->k, p->ws->v);
  aii_forward_attend(p, layer);
  if (hp->latent) {
    p->ops->matmul_ids(p->be, &l->v_b, NULL, NULL, p->ws->h, 1, p->n * hp->n_heads, p->ws->b);
    out = p->ws->b;
  }
  aii_forward_add_product(p, &l->o, aii_or_null(&l->o_bias), out, &l->attn_post_norm);
}
