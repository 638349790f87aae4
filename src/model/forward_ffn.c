/* forward_ffn.c - the feed-forward network of one layer: dense, or a mixture of experts with perhaps a shared one. */
#include "src/model/forward.h"

/* act(Wgate in) * (Wup in), or act(Wup in) without a gate; to ws->gate. */
static void bend(const pass *p, const aii_layer *l)
{
  aii_workspace *ws = p->ws;
  const aii_mul up = {&l->up, aii_or_null(&l->up_bias), ws->up};
  const aii_mul gate = {&l->gate, aii_or_null(&l->gate_bias), ws->gate};
  if (l->gate.n_out != 0) {
    aii_forward_gated(p, &l->ffn_norm, &l->ffn_norm_bias, &gate, &up);
    return;
  }
  aii_forward_matmuls(p, &l->ffn_norm, &l->ffn_norm_bias, &up, 1);
  p->ops->activate(p->be, p->m->arch->act, ws->up, NULL, (size_t)p->n * p->m->hp.n_ff, ws->gate);
}

/* What bends within each used expert, to ws->gate. */
static void bend_experts(const pass *p, const aii_layer *l, const float *in)
{
  const aii_act act = p->m->arch->act;
  const uint32_t k = p->m->hp.n_used_experts, n = p->n * k;
  aii_workspace *ws = p->ws;
  const aii_mul gate = {&l->gate_exps, aii_or_null(&l->gate_exps_bias), ws->gate};
  const aii_mul up = {&l->up_exps, aii_or_null(&l->up_exps_bias), ws->up};
  if (p->ops->gated_ids != NULL) {
    p->ops->gated_ids(p->be, act, &gate, &up, ws->ids, in, k, n);
    return;
  }
  p->ops->matmul_ids(p->be, gate.w, gate.bias, ws->ids, in, k, n, ws->gate);
  p->ops->matmul_ids(p->be, up.w, up.bias, ws->ids, in, k, n, ws->up);
  p->ops->activate(p->be, act, ws->gate, ws->up, (size_t)n * p->m->hp.n_ff_exp, ws->gate);
}

/* The weighted sum of the used experts, to ws->t. */
static void experts(const pass *p, const aii_layer *l, const float *in)
{
  const aii_hparams *hp = &p->m->hp;
  aii_workspace *ws = p->ws;
  uint32_t k = hp->n_used_experts, n = p->n * k;
  const aii_routing how = {.n_experts = hp->n_experts,
                           .n_used = k,
                           .n_groups = hp->n_expert_groups,
                           .n_groups_used = hp->n_used_groups,
                           .sigmoid = hp->expert_sigmoid,
                           .normalise = hp->expert_norm,
                           .scale = hp->expert_scale,
                           .bias = aii_or_null(&l->choice_bias)};
  p->ops->matmul(p->be, &l->router, aii_or_null(&l->router_bias), in, p->n, false, ws->scores);
  p->ops->route(p->be, &how, ws->scores, p->n, ws->ids, ws->weights);
  bend_experts(p, l, in);
  p->ops->matmul_ids(p->be, &l->down_exps, aii_or_null(&l->down_exps_bias), ws->ids, ws->gate, 1, n, ws->each);
  p->ops->combine(p->be, ws->each, ws->weights, p->n, k, hp->n_embd, ws->t);
}

/* One more expert for every row, added to ws->t. */
static void shared_expert(const pass *p, const aii_layer *l, const float *in)
{
  const aii_hparams *hp = &p->m->hp;
  aii_workspace *ws = p->ws;
  bool gated = l->shared_router.n_out != 0;
  p->ops->gated(p->be, p->m->arch->act, &(aii_mul){&l->gate_shared, NULL, ws->gate},
                &(aii_mul){&l->up_shared, NULL, ws->up}, in, p->n);
  p->ops->matmul(p->be, &l->down_shared, NULL, ws->gate, p->n, !gated, gated ? ws->each : ws->t);
  if (!gated) return;
  p->ops->matmul(p->be, &l->shared_router, NULL, in, p->n, false, ws->scores);
  p->ops->gate_rows(p->be, ws->each, ws->scores, p->n, hp->n_embd);
  p->ops->add(p->be, ws->t, ws->each, 1, (size_t)p->n * hp->n_embd);
}

void aii_forward_ffn(const pass *p, uint32_t layer)
{
  const aii_layer *l = &p->m->layers[layer];
  if (!l->moe) {
    bend(p, l);
    aii_forward_add_product(p, &l->down, aii_or_null(&l->down_bias), p->ws->gate, &l->ffn_post_norm);
    aii_forward_norm_sum(p, &l->ffn_sum_norm, &l->ffn_sum_norm_bias);
    return;
  }
  const float *in = aii_forward_input(p, &l->ffn_norm, &l->ffn_norm_bias);
  experts(p, l, in);
  if (l->gate_shared.n_out != 0) shared_expert(p, l, in);
  aii_forward_add(p, &l->ffn_post_norm);
}
