/* forward_results.c - what comes of a pass: hidden states and logits of the asked rows, handed to the host or left on the
 * device. Worker thread.
 */
#include "src/model/forward.h"

/* The output norm of the listed rows, if there is one, packed into h; adjacent rows go in one call. */
static void norm_rows(const pass *p, const uint32_t *list, uint32_t n)
{
  uint32_t width = p->m->hp.n_embd;
  for (uint32_t i = 0, run; i < n; i += run) {
    for (run = 1; i + run < n && list[i + run] == list[i] + run;) run++;
    const float *x = p->ws->x + list[i] * (size_t)width;
    float *h = p->ws->h + i * (size_t)width;
    if (p->m->output_norm.n_out == 0) p->ops->copy(p->be, x, width, 1, run, width, h, width);
    else aii_forward_norm(p, x, &p->m->output_norm, &p->m->output_norm_bias, run, width, h);
  }
}

/* The ranks' columns of the vocabulary, put together. */
static aiinfra_status collect(const pass *p, const aii_forward *f, aiinfra_error *err)
{
  aii_comm *comm = p->m->rt->comm;
  uint32_t n_vocab = p->m->hp.n_vocab;
  size_t counts[AII_MAX_RANKS];
  for (uint32_t r = 0; r < comm->size; r++)
    counts[r] = (size_t)f->n_logits * (aii_part_end(n_vocab, r, comm->size) - aii_part_end(n_vocab, r - 1, comm->size));
  const float *mine = p->ws->logits;
  aiinfra_status rc = AIINFRA_OK;
  if (!p->be->ops->in_place) {
    rc = p->ops->to_host(p->be, p->ws->pieces, mine, counts[comm->rank] * sizeof *mine, err);
    mine = p->ws->pieces;
  }
  if (rc == AIINFRA_OK) rc = comm->ops->collect(comm, mine, counts, p->ws->pieces, err);
  const float *from = p->ws->pieces;
  for (uint32_t r = 0; rc == AIINFRA_OK && comm->rank == 0 && r < comm->size; r++) {
    size_t first = aii_part_end(n_vocab, r - 1, comm->size), width = aii_part_end(n_vocab, r, comm->size) - first;
    for (uint32_t i = 0; i < f->n_logits; i++, from += width)
      memcpy(f->logits + (size_t)i * n_vocab + first, from, width * sizeof *from);
  }
  return rc;
}

void aii_forward_logits(const pass *p, const aii_forward *f, float *out)
{
  const aii_hparams *hp = &p->m->hp;
  size_t n = (size_t)f->n_logits * p->m->output.n_out;
  norm_rows(p, f->logit_rows, f->n_logits);
  p->ops->matmul(p->be, &p->m->output, NULL, p->ws->h, f->n_logits, false, out);
  if (hp->logit_scale != 1.0f) p->ops->scale(p->be, out, 1 / hp->logit_scale, n);
  if (hp->logit_softcap != 0) p->ops->softcap(p->be, out, hp->logit_softcap, n);
}

aiinfra_status aii_forward_hand_out(const pass *p, const aii_forward *f, aiinfra_error *err)
{
  const aii_hparams *hp = &p->m->hp;
  aiinfra_status rc = p->ws->failed;
  if (rc != AIINFRA_OK) return aii_fail(err, rc, "%s", p->ws->failure.message);
  if (f->n_hidden > 0) {
    norm_rows(p, f->hidden_rows, f->n_hidden);
    rc = p->ops->sync(p->be, err);
    if (rc == AIINFRA_OK && f->hidden != NULL) {
      rc = p->ops->to_host(p->be, f->hidden, p->ws->h, (size_t)f->n_hidden * hp->n_embd * sizeof(float), err);
    }
  }
  if (rc == AIINFRA_OK && f->n_logits > 0) {
    float *logits = p->ws->logits != NULL ? p->ws->logits : f->logits;
    aii_forward_logits(p, f, logits);
    if (aii_workspace_lists(p->ws) && f->logits == NULL) return AIINFRA_OK;
    rc = p->ops->sync(p->be, err);
    if (rc == AIINFRA_OK && aii_is_split(p->m)) rc = collect(p, f, err);
    else if (rc == AIINFRA_OK && logits != f->logits)
      rc = p->ops->to_host(p->be, f->logits, logits, (size_t)f->n_logits * p->m->output.n_out * sizeof(float), err);
  }
  return rc == AIINFRA_OK ? p->ops->sync(p->be, err) : rc;
}

/* ---- logits that stay on the device ---------------------------------------------------------------------------- */

bool aii_workspace_lists(const aii_workspace *ws)
{
  const aii_backend_ops *ops = ws->model->rt->backend->ops;
  return ops->shortlist != NULL && !aii_is_split(ws->model);
}

aiinfra_status aii_workspace_shortlist(aii_workspace *ws, aii_shortlist *rows, uint32_t n, aiinfra_error *err)
{
  aii_backend *be = ws->model->rt->backend;
  aiinfra_status rc = be->ops->shortlist(be, ws->logits, ws->model->hp.n_vocab, rows, n, err);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "forward pass");
}

aiinfra_status aii_workspace_logits(aii_workspace *ws, uint32_t row, float *out, aiinfra_error *err)
{
  aii_backend *be = ws->model->rt->backend;
  size_t n = ws->model->hp.n_vocab;
  return be->ops->to_host(be, out, ws->logits + row * n, n * sizeof *out, err);
}
