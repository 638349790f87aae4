/* forward.c - the transformer: one forward pass for every architecture, over the backend's table of operations.
 *
 *   x = embed(tokens), scaled, plus types and positions where they are learnt, normalised by encoders
 *   for each layer:  x += attention(norm(x))       forward_attention.c, forward_latent.c
 *                    x += feed_forward(norm(x))    forward_ffn.c; dense or experts
 *   for asked rows:  hidden = norm(x), logits = Wout hidden     forward_results.c
 *
 * BERT and its kin normalise x after each addition instead of what goes into a block.
 *
 * What differs between architectures are weights that are absent, plans of layers, numbers, and fields of their row
 * (arch.h). The workspace holds all intermediate values and is sized once; a pass allocates nothing. Each row's result
 * depends on that row and on its sequence's cache alone: every operation of the table promises it. Worker thread.
 */
#include "src/model/forward.h"

enum { MAX_ROWS = 1 << 16 }; /* rows times heads, and rows times used experts, fit 32 bits */

/* ---- workspace ----------------------------------------------------------------------------------------------- */

static void *cut(aii_workspace *ws, uint64_t rows, uint64_t width)
{
  size_t at = ws->bytes;
  ws->bytes += (size_t)((rows * width * sizeof(float) + 63) & ~(uint64_t)63);
  return ws->base != NULL ? ws->base + at : NULL;
}

/* Elements of a row of ws->h: what a norm gives, what attention gives, of MLA also the queries' latent form. */
static uint64_t h_width(const aii_hparams *hp)
{
  return AII_MAX((uint64_t)hp->n_heads * AII_MAX(hp->value_dim, hp->kv_lora), (uint64_t)hp->n_embd);
}

static uint64_t ffn_width(const aii_hparams *hp)
{
  uint64_t experts = (uint64_t)hp->n_used_experts * hp->n_ff_exp, latent = (uint64_t)hp->n_heads * hp->mla_key;
  uint64_t dense = AII_MAX(hp->n_ff, hp->n_ff_shared);
  return AII_MAX(AII_MAX(experts, dense), hp->latent ? latent : 0);
}

/* With base NULL it only adds up the bytes. The limits of hparams.c keep the sum below 2^64. */
static void lay_out(aii_workspace *ws)
{
  const aii_hparams *hp = &ws->model->hp;
  uint64_t rows = ws->max_rows, heads = hp->n_heads, mla = hp->kv_lora != 0;
  ws->bytes = 0;
  ws->x = cut(ws, rows, hp->n_embd);
  ws->h = cut(ws, rows, h_width(hp));
  ws->t = cut(ws, rows, hp->n_embd);
  ws->q = cut(ws, rows, heads * hp->head_dim);
  ws->k = cut(ws, rows, (uint64_t)hp->n_kv_heads * hp->head_dim);
  ws->v = cut(ws, rows, (uint64_t)hp->n_kv_heads * hp->value_dim);
  ws->gate = cut(ws, rows, ffn_width(hp));
  ws->up = cut(ws, rows, ffn_width(hp));
  ws->a = cut(ws, rows, mla * AII_MAX(hp->q_lora, hp->kv_lora + hp->n_rot));
  ws->c = cut(ws, rows, hp->kv_lora);
  ws->b = cut(ws, rows, mla * heads * ((uint64_t)hp->mla_key + hp->mla_value));
  ws->scores = cut(ws, rows, hp->n_experts);
  ws->weights = cut(ws, rows, hp->n_used_experts);
  ws->ids = cut(ws, rows, hp->n_used_experts);
  ws->each = cut(ws, rows, (uint64_t)hp->n_used_experts * hp->n_embd);
  bool elsewhere = !ws->model->rt->backend->ops->in_place || aii_is_split(ws->model);
  if (elsewhere) ws->logits = cut(ws, ws->max_logits, ws->model->output.n_out);
}

/* Of a row of logits in host memory: rank 0 puts together what the ranks have, others take theirs from a device. */
static size_t pieces_width(const aii_workspace *ws)
{
  const aiinfra_model *m = ws->model;
  if (!aii_is_split(m)) return 0;
  if (m->rt->comm->rank == 0) return m->hp.n_vocab;
  return m->rt->backend->ops->in_place ? 0 : m->output.n_out;
}

/* Host memory that some models want besides. */
static aiinfra_status reserve_host(aii_workspace *ws, aiinfra_error *err)
{
  aiinfra_model *m = ws->model;
  bool types = m->type_embd.n_out != 0, pieces = pieces_width(ws) > 0 && ws->max_logits > 0;
  if (types) ws->zeros = aii_new_array(&m->rt->mem, ws->max_rows, sizeof *ws->zeros);
  if (pieces) ws->pieces = aii_new_array(&m->rt->mem, ws->max_logits, pieces_width(ws) * sizeof *ws->pieces);
  if ((types && ws->zeros == NULL) || (pieces && ws->pieces == NULL))
    return aii_fail(err, AIINFRA_ENOMEM, "no memory for a workspace of %u rows", ws->max_rows);
  return AIINFRA_OK;
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
  rc = reserve_host(ws, err);
  if (rc == AIINFRA_OK) rc = aii_ranks_workspace(m, max_rows, max_logits, err);
  if (rc == AIINFRA_OK) *out = ws;
  else aii_workspace_free(ws);
  return rc;
}

void aii_workspace_free(aii_workspace *ws)
{
  if (ws == NULL) return;
  aiinfra_model *m = ws->model;
  m->rt->backend->ops->release(m->rt->backend, ws->base, ws->bytes);
  aii_del(&m->rt->mem, ws->zeros, ws->max_rows * sizeof *ws->zeros);
  aii_del(&m->rt->mem, ws->pieces, ws->max_logits * pieces_width(ws) * sizeof *ws->pieces);
  aii_del(&m->rt->mem, ws, sizeof *ws);
  aii_model_unref(m);
}

/* ---- what blocks share ---------------------------------------------------------------------------------------- */

void aii_forward_norm(const pass *p, const float *x, const aii_weight *w, const aii_weight *bias, uint32_t n_rows,
                      uint32_t width, float *out)
{
  float eps = p->m->hp.norm_eps;
  switch (p->m->arch->norm) {
    case AII_NORM_RMS: p->ops->rms_norm(p->be, x, w, n_rows, width, eps, out); break;
    case AII_NORM_LAYER: p->ops->layer_norm(p->be, x, w, aii_or_null(bias), n_rows, width, eps, out); break;
  }
}

const float *aii_forward_input(const pass *p, const aii_weight *norm, const aii_weight *bias)
{
  if (norm->n_out == 0) return p->ws->x;
  aii_forward_norm(p, p->ws->x, norm, bias, p->n, p->m->hp.n_embd, p->ws->h);
  return p->ws->h;
}

/* Whether the device takes a norm and what multiplies its rows together. */
static bool joins_norm(const pass *p, const aii_weight *norm, const aii_weight *bias, aii_norm *out)
{
  *out = (aii_norm){norm, aii_or_null(bias), p->m->hp.norm_eps, p->m->arch->norm == AII_NORM_LAYER, p->ws->h};
  return norm->n_out != 0 && p->ops->norm_matmuls != NULL;
}

void aii_forward_matmuls(const pass *p, const aii_weight *norm, const aii_weight *bias, const aii_mul *muls, uint32_t n)
{
  aii_norm how;
  if (joins_norm(p, norm, bias, &how)) p->ops->norm_matmuls(p->be, &how, muls, n, p->ws->x, p->n);
  else p->ops->matmuls(p->be, muls, n, aii_forward_input(p, norm, bias), p->n);
}

void aii_forward_gated(const pass *p, const aii_weight *norm, const aii_weight *bias, const aii_mul *gate,
                       const aii_mul *up)
{
  const aii_act act = p->m->arch->act;
  aii_norm how;
  if (joins_norm(p, norm, bias, &how)) p->ops->norm_gated(p->be, &how, act, gate, up, p->ws->x, p->n);
  else p->ops->gated(p->be, act, gate, up, aii_forward_input(p, norm, bias), p->n);
}

/* ws->t is a rank's term: it becomes the sum. */
static void sum_ranks(const pass *p)
{
  aii_workspace *ws = p->ws;
  if (!aii_is_split(p->m) || ws->failed != AIINFRA_OK) return;
  if (p->ops->sum_ranks != NULL) {
    p->ops->sum_ranks(p->be, ws->t, (size_t)p->n * p->m->hp.n_embd);
    return;
  }
  aii_comm *comm = p->m->rt->comm;
  ws->failed = p->ops->sync(p->be, &ws->failure);
  if (ws->failed == AIINFRA_OK) ws->failed = comm->ops->sum(comm, ws->t, (size_t)p->n * p->m->hp.n_embd, &ws->failure);
}

void aii_forward_add(const pass *p, const aii_weight *post_norm)
{
  const aii_hparams *hp = &p->m->hp;
  float *t = p->ws->t;
  sum_ranks(p);
  if (post_norm->n_out != 0) aii_forward_norm(p, t, post_norm, NULL, p->n, hp->n_embd, t);
  p->ops->add(p->be, p->ws->x, t, hp->residual_scale, (size_t)p->n * hp->n_embd);
}

void aii_forward_add_product(const pass *p, const aii_weight *w, const aii_weight *bias, const float *y,
                             const aii_weight *post_norm)
{
  bool plain = post_norm->n_out == 0 && p->m->hp.residual_scale == 1.0f && !aii_is_split(p->m);
  p->ops->matmul(p->be, w, bias, y, p->n, plain, plain ? p->ws->x : p->ws->t);
  if (!plain) aii_forward_add(p, post_norm);
}

void aii_forward_norm_sum(const pass *p, const aii_weight *norm, const aii_weight *bias)
{
  if (norm->n_out != 0) aii_forward_norm(p, p->ws->x, norm, bias, p->n, p->m->hp.n_embd, p->ws->x);
}

/* Adds row ids[r] of a table that may be absent to row r. */
static void add_embedding(const pass *p, const aii_weight *table, const aiinfra_token *ids)
{
  if (table->n_out == 0) return;
  aii_rows rows = *p->rows;
  rows.tokens = ids;
  p->ops->embed(p->be, table, &rows, 1, p->ws->t);
  p->ops->add(p->be, p->ws->x, p->ws->t, 1, (size_t)p->n * p->m->hp.n_embd);
}

static void embed(const pass *p)
{
  const aii_hparams *hp = &p->m->hp;
  p->ops->embed(p->be, &p->m->tok_embd, p->rows, hp->embd_scale, p->ws->x);
  add_embedding(p, &p->m->type_embd, p->types);
  add_embedding(p, &p->m->pos_embd, (const aiinfra_token *)p->rows->pos);
  aii_forward_norm_sum(p, &p->m->embd_norm, &p->m->embd_norm_bias);
}

/* ---- the door ------------------------------------------------------------------------------------------------ */

static aiinfra_status check_row(const aiinfra_model *m, const aii_kv_view *kv, const aii_forward *f, uint32_t r,
                                aiinfra_error *err)
{
  const aii_rows *rows = &f->rows;
  uint32_t token = (uint32_t)rows->tokens[r], pos = rows->pos[r];
  if (token >= m->hp.n_vocab) {
    return aii_fail(err, AIINFRA_EINVAL, "token %d is outside the vocabulary of %u", rows->tokens[r], m->hp.n_vocab);
  }
  if (f->types != NULL && f->types[r] != 0 && (uint32_t)f->types[r] >= m->hp.n_types) {
    return aii_fail(err, AIINFRA_EINVAL, "row %u: its token is of type %d; the model has %u types", r, f->types[r],
                    m->hp.n_types);
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
  if (f->n_logits > 0 && (m->arch->flags & AII_ENCODER) != 0) {
    return aii_fail(err, AIINFRA_ENOTSUP, "an encoder ('%s') gives hidden states, no logits: use it for embeddings",
                    m->arch->name);
  }
  aiinfra_status rc = check_list("logits", f->logit_rows, f->n_logits, ws->max_logits, n, err);
  if (rc == AIINFRA_OK) rc = check_list("hidden states", f->hidden_rows, f->n_hidden, ws->max_rows, n, err);
  for (uint32_t r = 0; r < n && rc == AIINFRA_OK; r++) rc = check_row(m, kv, f, r, err);
  return rc;
}

static void run_layers(const pass *p)
{
  bool latent = p->m->hp.kv_lora != 0;
  for (uint32_t l = 0; l < p->m->hp.n_layers; l++) {
    if (latent) aii_forward_latent_attention(p, l);
    else aii_forward_attention(p, l);
    aii_forward_ffn(p, l);
  }
}

/* A step of one token for each sequence, whose logits stay on the device: it comes again, with other tokens. */
static bool comes_again(const pass *p, const aii_forward *f)
{
  bool again = p->be->ops->again != NULL && p->ops == p->be->ops && aii_workspace_lists(p->ws) && f->logits == NULL &&
               f->n_hidden == 0 && f->n_logits == p->n && p->rows->n_seqs == p->n;
  for (uint32_t r = 0; again && r < p->n; r++) again = p->rows->seq[r] == r && f->logit_rows[r] == r;
  return again;
}

static void step(const pass *p, const aii_forward *f)
{
  aii_repeat what = {p->ws->base, p->kv->base, p->n, p->kv->block_tokens};
  if (p->ops->again(p->be, &what, p->rows)) return;
  do {
    run_layers(p);
    aii_forward_logits(p, f, p->ws->logits);
  } while (!p->ops->keep(p->be));
}

aiinfra_status aii_model_forward(aiinfra_model *m, aii_workspace *ws, const aii_kv_view *kv, const aii_forward *f,
                                 aiinfra_error *err)
{
  aiinfra_status rc = check(m, ws, kv, f, err);
  if (rc == AIINFRA_OK) rc = aii_ranks_forward(m, kv, f, err);
  if (rc != AIINFRA_OK) return aii_wrap(err, rc, "forward pass");
  ws->failed = AIINFRA_OK;
  aii_backend *be = m->rt->backend;
  pass p = {.m = m,
            .ws = ws,
            .be = be,
            .ops = be->observed != NULL ? be->observed : be->ops,
            .kv = kv,
            .rows = &f->rows,
            .types = f->types != NULL ? f->types : ws->zeros,
            .n = f->rows.n_rows};
  embed(&p);
  if (comes_again(&p, f)) {
    step(&p, f);
    return AIINFRA_OK;
  }
  run_layers(&p);
  rc = aii_forward_hand_out(&p, f, err);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "forward pass");
}
