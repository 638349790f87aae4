/* choose.c - the next token of each sequence, once a pass has made rows of logits.
 *
 * The happy path is: penalties and biases, what the grammar and the quote let through, a draw, and the token goes to the grammar
 * and the quote. Where logits lie on a device, it is told the edits and the grammar's bits, and tells in turn those few
 * candidates of each row that can matter; the sampler ends with them as it would with the row. A row for which they do not
 * suffice is fetched, and so is a row of a quote, which may find that nothing is left of it.
 *
 * Possible failures are: memory for a grammar or a quote, which ends its sequence alone; the device, which ends all. Worker.
 */
#include "src/engine/engine.h"

static void fail(aii_gen *gen, aii_plan_result *result, aiinfra_status rc, const aiinfra_error *err)
{
  result->failed = true;
  aii_gen_fail(gen, rc, err);
}

static aiinfra_status accept(aii_gen *gen, aii_plan_result *result, aiinfra_error *err)
{
  aii_grammar_state *state = gen->grammar_state;
  aiinfra_status rc = AIINFRA_OK;
  if (gen->quote != NULL) rc = aii_quote_accept(gen->quote, result->token, err);
  if (rc != AIINFRA_OK || state == NULL || aii_vocab_is_eog(gen->batcher->model->vocab, result->token)) return rc;
  rc = aii_grammar_accept(state, result->token, err);
  result->stop = rc == AIINFRA_OK && aii_grammar_complete(state);
  return rc;
}

/* What the grammar and the quote let through of a row. */
static aiinfra_status mask(aii_gen *gen, float *logits, aiinfra_error *err)
{
  aiinfra_status rc = AIINFRA_OK;
  if (gen->grammar_state != NULL) rc = aii_grammar_mask(gen->grammar_state, logits, err);
  if (rc == AIINFRA_OK && gen->quote != NULL) aii_quote_mask(gen->quote, logits);
  return rc;
}

/* ---- rows in host memory ----------------------------------------------------------------------------------------- */

static void choose_here(aii_gen *gen, float *logits, aii_plan_result *result)
{
  aiinfra_error err;
  if (gen->penalty != NULL) aii_penalty_apply(gen->penalty, gen->seq.tokens, gen->seq.n_tokens, logits);
  aiinfra_status rc = mask(gen, logits, &err);
  if (rc == AIINFRA_OK) {
    result->token = aii_sampler_pick(gen->sampler, logits);
    rc = accept(gen, result, &err);
  }
  if (rc != AIINFRA_OK) fail(gen, result, rc, &err);
}

/* ---- rows on the device ------------------------------------------------------------------------------------------ */

static void ask(aii_gen *gen, uint32_t row, aii_shortlist *list, aii_plan_result *result)
{
  aiinfra_error err;
  aiinfra_status rc = AIINFRA_OK;
  *list = (aii_shortlist){.row = row, .n_allowed = aii_vocab_size(gen->batcher->model->vocab)};
  aii_sampler_ask(gen->sampler, list);
  if (gen->quote != NULL && aii_quote_holds(gen->quote)) list->n_best = 0;
  if (gen->penalty != NULL)
    list->edits = aii_penalty_edits(gen->penalty, gen->seq.tokens, gen->seq.n_tokens, &list->n_edits);
  if (gen->grammar_state != NULL) rc = aii_grammar_allowed(gen->grammar_state, &list->allowed, &err);
  if (rc != AIINFRA_OK) fail(gen, result, rc, &err);
}

/* *err is told when the device failed; what ends the sequence alone goes to its gen. */
static aiinfra_status choose_there(aii_gen *gen, const aii_shortlist *list, aii_plan_result *result, aiinfra_error *err)
{
  aiinfra_error mine;
  aiinfra_status rc = AIINFRA_OK;
  float *logits = gen->batcher->pass.logits;
  if (!aii_sampler_take(gen->sampler, list, &result->token)) {
    rc = aii_workspace_logits(gen->batcher->pass.ws, list->row, logits, err);
    if (rc != AIINFRA_OK) return rc;
    rc = mask(gen, logits, &mine);
    if (rc == AIINFRA_OK) result->token = aii_sampler_pick_at(gen->sampler, logits, list->unit);
  }
  if (rc == AIINFRA_OK) rc = accept(gen, result, &mine);
  if (rc != AIINFRA_OK) fail(gen, result, rc, &mine);
  return AIINFRA_OK;
}

/* ---- all of them ------------------------------------------------------------------------------------------------- */

aiinfra_status aii_pass_choose(aiinfra_batcher *b, aiinfra_error *err)
{
  aii_pass *p = &b->pass;
  const aii_plan *plan = p->plan;
  uint32_t n = 0, row = 0, n_vocab = b->model->hp.n_vocab;
  for (uint32_t i = 0; i < plan->n_parts; i++) {
    if (!plan->parts[i].sample) continue;
    aii_gen *gen = aii_gen_of(&plan->parts[i]);
    if (p->lists != NULL) ask(gen, n, &p->lists[n], &p->results[i]);
    else choose_here(gen, p->logits + (size_t)n * n_vocab, &p->results[i]);
    n++;
  }
  if (p->lists == NULL || n == 0) return AIINFRA_OK;
  aiinfra_status rc = aii_workspace_shortlist(p->ws, p->lists, n, err);
  for (uint32_t i = 0; i < plan->n_parts && rc == AIINFRA_OK; i++) {
    if (!plan->parts[i].sample) continue;
    const aii_shortlist *list = &p->lists[row++];
    if (!p->results[i].failed) rc = choose_there(aii_gen_of(&plan->parts[i]), list, &p->results[i], err);
  }
  return rc;
}
