/* eval_api.c - the public functions of aiinfra/eval.h: one sequence on a cache of its own, its logits for the caller.
 *
 * The happy path is: create (cache, block table, workspace), then run any number of times: the tokens go through the
 * model in steps of bounded size, each under the device's lock, whose turns are fair: a batcher waits for one step at
 * most. The block table is the identity, because the sequence has the cache for itself. Owner's thread.
 */
#include "aiinfra/eval.h"
#include "src/kv/kv.h"
#include "src/model/model.h"

enum { STEP_TOKENS = 512, MAX_LOGIT_BYTES = 32 << 20 };

struct aiinfra_eval {
  aiinfra_model *model;
  aiinfra_kv *kv;
  aii_workspace *ws;
  uint32_t n_tokens, max_context;
  uint32_t max_rows, max_logits; /* of one step */
  uint32_t *table;               /* [n_blocks] */
  uint32_t *ids;                 /* [3][max_rows]: positions, sequence numbers (all 0), rows of logits */
};

/* ---- create, free ---------------------------------------------------------------------------------------------- */

void aiinfra_eval_free(aiinfra_eval *e)
{
  if (e == NULL) return;
  aiinfra_model *model = e->model;
  aii_mem *mem = &model->rt->mem;
  aii_del(mem, e->ids, 3 * (size_t)e->max_rows * sizeof *e->ids);
  if (e->kv != NULL) aii_del(mem, e->table, e->kv->view.n_blocks * sizeof *e->table);
  aii_workspace_free(e->ws);
  aiinfra_kv_free(e->kv);
  aii_del(mem, e, sizeof *e);
  aii_model_unref(model);
}

static aiinfra_status reserve(aiinfra_eval *e, const aiinfra_eval_opts *o, aiinfra_error *err)
{
  aii_mem *mem = &e->model->rt->mem;
  aiinfra_kv_opts kv_opts = AIINFRA_KV_OPTS_INIT;
  kv_opts.dtype = o->kv_dtype;
  aiinfra_status rc = aii_kv_create(e->model, &kv_opts, e->max_context, &e->kv, err);
  if (rc != AIINFRA_OK) return rc;
  e->table = aii_new_array(mem, e->kv->view.n_blocks, sizeof *e->table);
  e->ids = aii_new_array(mem, 3 * (size_t)e->max_rows, sizeof *e->ids);
  if (e->table == NULL || e->ids == NULL)
    return aii_fail(err, AIINFRA_ENOMEM, "no memory for a sequence of %u tokens", e->max_context);
  for (uint32_t i = 0; i < e->kv->view.n_blocks; i++) e->table[i] = i;
  return aii_workspace_create(e->model, e->max_rows, e->max_logits, &e->ws, err);
}

static aiinfra_status check_opts(const aiinfra_model *model, const aiinfra_eval_opts *o, aiinfra_error *err)
{
  if (model->vocab_only) return aii_fail(err, AIINFRA_ENOTSUP, "the model was opened vocab_only: it cannot run");
  if (!model->hp.causal)
    return aii_fail(err, AIINFRA_ENOTSUP, "model '%s' is an encoder: it has no logits", model->name);
  if (o->max_context > model->max_context)
    return aii_fail(err, AIINFRA_EINVAL, "max_context is %u; the model's context has %u", o->max_context,
                    model->max_context);
  return AIINFRA_OK;
}

aiinfra_status aiinfra_eval_create(aiinfra_model *model, const aiinfra_eval_opts *opts, aiinfra_eval **out,
                                   aiinfra_error *err)
{
  if (out == NULL) return aii_fail(err, AIINFRA_EINVAL, "out is NULL");
  *out = NULL;
  if (model == NULL) return aii_fail(err, AIINFRA_EINVAL, "model is NULL");
  aiinfra_eval_opts o;
  aiinfra_status rc = AII_OPTS_LOAD(&o, opts, kv_dtype, err);
  if (rc == AIINFRA_OK) rc = check_opts(model, &o, err);
  if (rc != AIINFRA_OK) return rc;
  aiinfra_eval *e = aii_new(&model->rt->mem, sizeof *e);
  if (e == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for an evaluator");
  e->model = model;
  aii_model_ref(model);
  e->max_context = o.max_context != 0 ? o.max_context : model->max_context;
  e->max_rows = AII_MIN(e->max_context, (uint32_t)STEP_TOKENS);
  uint32_t most_logits = (uint32_t)(MAX_LOGIT_BYTES / sizeof(float)) / model->hp.n_vocab;
  e->max_logits = AII_MIN(e->max_rows, AII_MAX(most_logits, 1u));
  rc = reserve(e, &o, err);
  if (rc != AIINFRA_OK) {
    aiinfra_eval_free(e);
    return aii_wrap(err, rc, "evaluator for %u tokens", o.max_context != 0 ? o.max_context : model->max_context);
  }
  *out = e;
  return AIINFRA_OK;
}

/* ---- run ------------------------------------------------------------------------------------------------------- */

static aiinfra_status check_run(const aiinfra_eval *e, const aiinfra_token *tokens, size_t n, size_t n_logits,
                                const float *logits, size_t cap, aiinfra_error *err)
{
  uint32_t n_vocab = e->model->hp.n_vocab;
  if (tokens == NULL || n == 0) return aii_fail(err, AIINFRA_EINVAL, "no tokens are given");
  if (n_logits > n) return aii_fail(err, AIINFRA_EINVAL, "logits of %zu of %zu tokens are asked for", n_logits, n);
  if (logits == NULL && n_logits > 0) return aii_fail(err, AIINFRA_EINVAL, "logits is NULL");
  if (n > e->max_context - e->n_tokens)
    return aii_fail(err, AIINFRA_ENOSPC, "%zu tokens behind %u; the context has room for %u", n, e->n_tokens,
                    e->max_context);
  if (n_logits > cap / n_vocab)
    return aii_fail(err, AIINFRA_ENOSPC, "%zu rows of %u logits do not fit into %zu floats", n_logits, n_vocab, cap);
  for (size_t i = 0; i < n; i++)
    if (tokens[i] < 0 || (uint32_t)tokens[i] >= n_vocab)
      return aii_fail(err, AIINFRA_EINVAL, "tokens[%zu] is %d, the vocabulary has %u tokens", i, tokens[i], n_vocab);
  return AIINFRA_OK;
}

/* Computes n tokens at the end of the sequence; the last n_logits rows' logits. */
static aiinfra_status step(aiinfra_eval *e, const aiinfra_token *tokens, uint32_t n, uint32_t n_logits, float *logits,
                           aiinfra_error *err)
{
  uint32_t *pos = e->ids, *seq = pos + e->max_rows, *rows = seq + e->max_rows;
  const uint32_t *tables[1] = {e->table};
  for (uint32_t i = 0; i < n; i++) pos[i] = e->n_tokens + i;
  for (uint32_t i = 0; i < n_logits; i++) rows[i] = n - n_logits + i;
  aii_forward pass = {.rows = {.n_rows = n, .n_seqs = 1, .tokens = tokens, .pos = pos, .seq = seq, .tables = tables},
                      .n_logits = n_logits,
                      .logit_rows = rows,
                      .logits = logits};
  aii_device_lock(e->model->rt);
  aiinfra_status rc = aii_model_forward(e->model, e->ws, &e->kv->view, &pass, err);
  aii_device_unlock(e->model->rt);
  if (rc == AIINFRA_OK) e->n_tokens += n;
  return rc;
}

aiinfra_status aiinfra_eval_run(aiinfra_eval *e, const aiinfra_token *tokens, size_t n, size_t n_logits, float *logits,
                                size_t cap, aiinfra_error *err)
{
  if (e == NULL) return aii_fail(err, AIINFRA_EINVAL, "eval is NULL");
  aiinfra_status rc = check_run(e, tokens, n, n_logits, logits, cap, err);
  uint32_t before = e->n_tokens;
  for (size_t at = 0, silent = n - n_logits; at < n && rc == AIINFRA_OK;) {
    bool wanted = at >= silent;
    size_t len = wanted ? AII_MIN(n - at, (size_t)e->max_logits) : AII_MIN(silent - at, (size_t)e->max_rows);
    rc = step(e, tokens + at, (uint32_t)len, wanted ? (uint32_t)len : 0, logits, err);
    if (wanted) logits += len * e->model->hp.n_vocab;
    at += len;
  }
  if (rc != AIINFRA_OK) e->n_tokens = before;
  return rc;
}

size_t aiinfra_eval_length(const aiinfra_eval *e)
{
  return e != NULL ? e->n_tokens : 0;
}

void aiinfra_eval_cut(aiinfra_eval *e, size_t n_tokens)
{
  if (e != NULL && n_tokens < e->n_tokens) e->n_tokens = (uint32_t)n_tokens;
}
