/* forward.c - the transformer: one forward pass for every architecture, over the backend's table of operations.
 *
 *   x = embed(tokens)
 *   for each layer:  x += Wo attention(rope(Wq n), rope(Wk n), Wv n)   with n = norm(x)
 *                    x += Wdown (silu(Wgate n) * (Wup n))              with n = norm(x)
 *   for asked rows:  hidden = norm(x), logits = Wout hidden
 *
 * What differs between architectures are weights that are absent and flags of their row (arch.h). The workspace holds
 * all intermediate values and is sized once; a pass allocates nothing. Each row's result depends on that row and on
 * its sequence's cache alone: every operation of the table promises it. Worker thread.
 */
#include <math.h>

#include "src/model/arch.h"

enum { MAX_ROWS = 1 << 16 }; /* rows times heads fit 32 bits */

struct aii_workspace {
  aiinfra_model *model;
  uint32_t max_rows, max_logits;
  char *base; /* device memory: one allocation, cut into the arrays below */
  size_t bytes;
  float *x; /* [max_rows][n_embd] the residual stream */
  float *h; /* [max_rows][max(n_embd, q width)] what a norm or the attention gave */
  float *q, *k, *v;
  float *gate, *up;
  float *logits; /* [max_logits][n_vocab] */
};

/* ---- workspace ----------------------------------------------------------------------------------------------- */

static float *cut(aii_workspace *ws, uint64_t rows, uint64_t width)
{
  size_t at = ws->bytes;
  ws->bytes += (size_t)((rows * width * sizeof(float) + 63) & ~(uint64_t)63);
  return ws->base != NULL ? (float *)(void *)(ws->base + at) : NULL;
}

/* With base NULL it only adds up the bytes. The limits of hparams.c keep the sum below 2^64. */
static void lay_out(aii_workspace *ws)
{
  const aii_hparams *hp = &ws->model->hp;
  uint64_t rows = ws->max_rows, q_width = (uint64_t)hp->n_heads * hp->head_dim;
  uint64_t kv_width = (uint64_t)hp->n_kv_heads * hp->head_dim;
  ws->bytes = 0;
  ws->x = cut(ws, rows, hp->n_embd);
  ws->h = cut(ws, rows, AII_MAX(q_width, hp->n_embd));
  ws->q = cut(ws, rows, q_width);
  ws->k = cut(ws, rows, kv_width);
  ws->v = cut(ws, rows, kv_width);
  ws->gate = cut(ws, rows, hp->n_ff);
  ws->up = cut(ws, rows, hp->n_ff);
  ws->logits = cut(ws, ws->max_logits, hp->n_vocab);
}

aiinfra_status aii_workspace_create(aiinfra_model *m, uint32_t max_rows, uint32_t max_logits, aii_workspace **out,
                                    aiinfra_error *err)
{
  *out = NULL;
  if (m->vocab_only) return aii_fail(err, AIINFRA_ENOTSUP, "the model was opened vocab_only: it cannot run");
  if (max_rows == 0 || max_rows > MAX_ROWS) {
    return aii_fail(err, AIINFRA_EINVAL, "a workspace for %u rows; 1 to %d are possible", max_rows, MAX_ROWS);
  }
  aii_backend *be = m->rt->backend;
  aii_workspace *ws = aii_new(&m->rt->mem, sizeof *ws);
  if (ws == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a workspace");
  ws->model = m;
  ws->max_rows = max_rows;
  ws->max_logits = AII_MIN(max_logits, max_rows);
  lay_out(ws);
  void *base = NULL;
  aiinfra_status rc = be->ops->alloc(be, ws->bytes, &base, err);
  if (rc != AIINFRA_OK) {
    rc = aii_wrap(err, rc, "a workspace of %zu bytes for %u rows", ws->bytes, max_rows);
    aii_del(&m->rt->mem, ws, sizeof *ws);
    return rc;
  }
  ws->base = base;
  lay_out(ws);
  aii_model_ref(m);
  *out = ws;
  return AIINFRA_OK;
}

void aii_workspace_free(aii_workspace *ws)
{
  if (ws == NULL) return;
  aiinfra_model *m = ws->model;
  m->rt->backend->ops->release(m->rt->backend, ws->base, ws->bytes);
  aii_del(&m->rt->mem, ws, sizeof *ws);
  aii_model_unref(m);
}

/* ---- layers -------------------------------------------------------------------------------------------------- */

static const aii_weight *or_null(const aii_weight *w)
{
  return w->n_out != 0 ? w : NULL;
}

typedef struct pass {
  aiinfra_model *m;
  aii_workspace *ws;
  aii_backend *be;
  const aii_backend_ops *ops;
  const aii_kv_view *kv;
  const aii_rows *rows;
} pass;

static void attention(const pass *p, uint32_t index)
{
  const aii_layer *l = &p->m->layers[index];
  const aii_hparams *hp = &p->m->hp;
  aii_workspace *ws = p->ws;
  uint32_t n = p->rows->n_rows;
  aii_rope rope = {p->m->arch->rope, hp->n_rot, p->m->inv_freq, 1.0f};

  p->ops->rms_norm(p->be, ws->x, &l->attn_norm, n, hp->n_embd, hp->norm_eps, ws->h);
  p->ops->matmul(p->be, &l->q, or_null(&l->q_bias), ws->h, n, false, ws->q);
  p->ops->matmul(p->be, &l->k, or_null(&l->k_bias), ws->h, n, false, ws->k);
  p->ops->matmul(p->be, &l->v, or_null(&l->v_bias), ws->h, n, false, ws->v);
  if ((p->m->arch->flags & AII_ARCH_QK_NORM) != 0) {
    p->ops->rms_norm(p->be, ws->q, &l->q_norm, n * hp->n_heads, hp->head_dim, hp->norm_eps, ws->q);
    p->ops->rms_norm(p->be, ws->k, &l->k_norm, n * hp->n_kv_heads, hp->head_dim, hp->norm_eps, ws->k);
  }
  p->ops->rope(p->be, &rope, p->rows, hp->n_heads, hp->n_kv_heads, hp->head_dim, ws->q, ws->k);
  p->ops->kv_write(p->be, p->kv, index, p->rows, ws->k, ws->v);
  p->ops->attention(p->be, p->kv, index, p->rows, hp->n_heads, 1.0f / sqrtf((float)hp->head_dim), hp->window, ws->q,
                    ws->h);
  p->ops->matmul(p->be, &l->o, or_null(&l->o_bias), ws->h, n, true, ws->x);
}

static void feed_forward(const pass *p, uint32_t index)
{
  const aii_layer *l = &p->m->layers[index];
  const aii_hparams *hp = &p->m->hp;
  aii_workspace *ws = p->ws;
  uint32_t n = p->rows->n_rows;

  p->ops->rms_norm(p->be, ws->x, &l->ffn_norm, n, hp->n_embd, hp->norm_eps, ws->h);
  p->ops->matmul(p->be, &l->gate, or_null(&l->gate_bias), ws->h, n, false, ws->gate);
  p->ops->matmul(p->be, &l->up, or_null(&l->up_bias), ws->h, n, false, ws->up);
  p->ops->silu_mul(p->be, ws->gate, ws->up, (size_t)n * hp->n_ff, ws->gate);
  p->ops->matmul(p->be, &l->down, or_null(&l->down_bias), ws->gate, n, true, ws->x);
}

/* The output norm of the listed rows, packed into h; adjacent rows go in one call. */
static void norm_rows(const pass *p, const uint32_t *list, uint32_t n)
{
  size_t width = p->m->hp.n_embd;
  for (uint32_t i = 0, run; i < n; i += run) {
    for (run = 1; i + run < n && list[i + run] == list[i] + run;) run++;
    p->ops->rms_norm(p->be, p->ws->x + list[i] * width, &p->m->output_norm, run, p->m->hp.n_embd, p->m->hp.norm_eps,
                     p->ws->h + i * width);
  }
}

static aiinfra_status hand_out(const pass *p, const aii_forward *f, aiinfra_error *err)
{
  const aii_hparams *hp = &p->m->hp;
  aiinfra_status rc = AIINFRA_OK;
  if (f->n_hidden > 0) {
    norm_rows(p, f->hidden_rows, f->n_hidden);
    rc = p->ops->sync(p->be, err);
    if (rc == AIINFRA_OK) {
      rc = p->ops->to_host(p->be, f->hidden, p->ws->h, (size_t)f->n_hidden * hp->n_embd * sizeof(float), err);
    }
  }
  if (rc == AIINFRA_OK && f->n_logits > 0) {
    norm_rows(p, f->logit_rows, f->n_logits);
    p->ops->matmul(p->be, &p->m->output, NULL, p->ws->h, f->n_logits, false, p->ws->logits);
    rc = p->ops->sync(p->be, err);
    if (rc == AIINFRA_OK) {
      rc = p->ops->to_host(p->be, f->logits, p->ws->logits, (size_t)f->n_logits * hp->n_vocab * sizeof(float), err);
    }
  }
  return rc == AIINFRA_OK ? p->ops->sync(p->be, err) : rc;
}

/* ---- the door ------------------------------------------------------------------------------------------------ */

static aiinfra_status check_row(const aiinfra_model *m, const aii_kv_view *kv, const aii_rows *rows, uint32_t r,
                                aiinfra_error *err)
{
  uint32_t token = (uint32_t)rows->tokens[r], pos = rows->pos[r];
  if (token >= m->hp.n_vocab) {
    return aii_fail(err, AIINFRA_EINVAL, "token %d is outside the vocabulary of %u", rows->tokens[r], m->hp.n_vocab);
  }
  if (pos >= m->max_context || rows->seq[r] >= rows->n_seqs ||
      rows->tables[rows->seq[r]][pos / kv->block_tokens] >= kv->n_blocks) {
    return aii_fail(err, AIINFRA_EINVAL, "row %u: position %u of sequence %u has no place in the cache", r, pos,
                    rows->seq[r]);
  }
  return AIINFRA_OK;
}

static aiinfra_status check_list(const char *what, const uint32_t *list, uint32_t n, uint32_t max, uint32_t n_rows,
                                 aiinfra_error *err)
{
  if (n > max) return aii_fail(err, AIINFRA_EINVAL, "%u rows of %s; the workspace holds %u", n, what, max);
  for (uint32_t i = 0; i < n; i++) {
    if (list[i] >= n_rows) return aii_fail(err, AIINFRA_EINVAL, "%s of row %u of %u", what, list[i], n_rows);
  }
  return AIINFRA_OK;
}

static aiinfra_status check(const aiinfra_model *m, const aii_workspace *ws, const aii_kv_view *kv,
                            const aii_forward *f, aiinfra_error *err)
{
  uint32_t n = f->rows.n_rows;
  if (n == 0 || n > ws->max_rows) {
    return aii_fail(err, AIINFRA_EINVAL, "%u rows; the workspace holds 1 to %u", n, ws->max_rows);
  }
  aiinfra_status rc = check_list("logits", f->logit_rows, f->n_logits, ws->max_logits, n, err);
  if (rc == AIINFRA_OK) rc = check_list("hidden states", f->hidden_rows, f->n_hidden, ws->max_rows, n, err);
  for (uint32_t r = 0; r < n && rc == AIINFRA_OK; r++) rc = check_row(m, kv, &f->rows, r, err);
  return rc;
}

aiinfra_status aii_model_forward(aiinfra_model *m, aii_workspace *ws, const aii_kv_view *kv, const aii_forward *f,
                                 aiinfra_error *err)
{
  aiinfra_status rc = check(m, ws, kv, f, err);
  if (rc != AIINFRA_OK) return aii_wrap(err, rc, "forward pass");
  aii_backend *be = m->rt->backend;
  pass p = {m, ws, be, be->observed != NULL ? be->observed : be->ops, kv, &f->rows};
  be->ops->embed(be, &m->tok_embd, &f->rows, 1.0f, ws->x);
  for (uint32_t l = 0; l < m->hp.n_layers; l++) {
    attention(&p, l);
    feed_forward(&p, l);
  }
  rc = hand_out(&p, f, err);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "forward pass");
}
