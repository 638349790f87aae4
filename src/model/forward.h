/* src/model/forward.h - what the parts of the forward pass share: its scratch memory and its state.
 *
 * Private to forward*.c. forward.c is the door and the outline, forward_attention.c, forward_latent.c and forward_ffn.c
 * are what a layer consists of, forward_results.c is what comes of it all.
 */
#ifndef AII_MODEL_FORWARD_H
#define AII_MODEL_FORWARD_H

#include "src/model/arch.h"

struct aii_workspace {
  aiinfra_model *model;
  uint32_t max_rows, max_logits;
  char *base; /* device memory: one allocation, cut into the arrays below, each with max_rows rows */
  size_t bytes;
  float *x; /* [n_embd] the residual stream */
  float *h; /* what a norm or the attention gave */
  float *t; /* [n_embd] what a block gives before it is added to x */
  float *q, *k, *v;
  float *gate, *up;               /* of the dense network, or of all used experts */
  float *a, *c, *b;               /* MLA: what is compressed, its normalised part, what comes of it */
  float *scores, *weights, *each; /* experts: [n_experts], [n_used], [n_used][n_embd] */
  int32_t *ids;                   /* [n_used] */
  float *logits;                  /* [max_logits][n_vocab]; NULL: they go where the host wants them */
  aiinfra_token *zeros;           /* [max_rows], host: every row is of type 0 */
  float *
      pieces; /* host memory: the ranks' logits, one behind the other; of other ranks than 0 their own, from a device */
  aiinfra_status failed; /* of a sum over ranks in this pass */
  aiinfra_error failure;
};

typedef struct pass {
  aiinfra_model *m;
  aii_workspace *ws;
  aii_backend *be;
  const aii_backend_ops *ops;
  const aii_kv_view *kv;
  const aii_rows *rows;
  const aiinfra_token *types; /* of the rows' tokens */
  uint32_t n;                 /* rows */
} pass;

/* What the other ranks do for a workspace and for a pass (ranks.c). */
aiinfra_status aii_ranks_workspace(aiinfra_model *model, uint32_t max_rows, uint32_t max_logits, aiinfra_error *err);
aiinfra_status aii_ranks_forward(aiinfra_model *model, const aii_kv_view *kv, const aii_forward *pass,
                                 aiinfra_error *err);

static inline const aii_weight *aii_or_null(const aii_weight *w)
{
  return w->n_out != 0 ? w : NULL;
}

/* out = norm(x), of the architecture's kind; in place is allowed */
void aii_forward_norm(const pass *p, const float *x, const aii_weight *w, const aii_weight *bias, uint32_t n_rows,
                      uint32_t width, float *out);
/* What a block reads: the norm of the residual stream (in ws->h), or the stream itself where there is none. */
const float *aii_forward_input(const pass *p, const aii_weight *norm, const aii_weight *bias);
/* Products of that input, which nobody else reads; and those of a gate and of what it gates. */
void aii_forward_matmuls(const pass *p, const aii_weight *norm, const aii_weight *bias, const aii_mul *muls,
                         uint32_t n);
void aii_forward_gated(const pass *p, const aii_weight *norm, const aii_weight *bias, const aii_mul *gate,
                       const aii_mul *up);
/* Adds W y (+ bias), by way of a norm and a factor where there are any, to the residual stream. */
void aii_forward_add_product(const pass *p, const aii_weight *w, const aii_weight *bias, const float *y,
                             const aii_weight *post_norm);
/* The same for what is ws->t already. */
void aii_forward_add(const pass *p, const aii_weight *post_norm);
/* Normalises the residual stream itself, where a norm stands behind the sum. */
void aii_forward_norm_sum(const pass *p, const aii_weight *norm, const aii_weight *bias);

void aii_forward_attention(const pass *p, uint32_t layer);
void aii_forward_latent_attention(const pass *p, uint32_t layer);
/* Rotates n_heads heads of `stride` elements from x on. */
void aii_forward_rotate(const pass *p, const aii_layer *l, float *x, uint32_t n_heads, uint32_t stride);
/* Attention of ws->q over the cache, which has the keys and values of these rows; to ws->h. */
void aii_forward_attend(const pass *p, uint32_t layer);
void aii_forward_ffn(const pass *p, uint32_t layer);
/* The logits of the asked rows, to device memory. */
void aii_forward_logits(const pass *p, const aii_forward *f, float *out);
/* All that was asked for. */
aiinfra_status aii_forward_hand_out(const pass *p, const aii_forward *f, aiinfra_error *err);

#endif
