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

static aiinfra_status accept(aii_gen *gen, aii_plan_result *result, aiinfra_error *err)
{
  aii_grammar_state *state = gen->grammar_state;
  aiinfra_status rc = AIINFRA_OK;
  if (gen->penalty != NULL) aii_penalty_add(gen->penalty, result->token);
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

/* The tokens of part i's sequence. In a plan ahead penalties know them all, and the loop may be at the array. */
static const aiinfra_token *tokens_of(const aii_pass *p, uint32_t i)
{
  return p->plan->ahead ? NULL : p->plan->parts[i].seq->tokens;
}

static uint32_t tokens_in(const aii_pass *p, uint32_t i)
{
  return p->plan->parts[i].first + p->plan->parts[i].n_rows;
}

/* ---- rows in host memory ----------------------------------------------------------------------------------------- */

static aiinfra_status choose_here(aii_pass *p, uint32_t i, float *logits)
{
  aii_gen *gen = aii_gen_of(&p->plan->parts[i]);
  aii_plan_result *result = &p->results[i];
  aiinfra_error *err = &p->errors[i];
  if (gen->penalty != NULL) aii_penalty_apply(gen->penalty, tokens_of(p, i), tokens_in(p, i), logits);
  aiinfra_status rc = mask(gen, logits, err);
  if (rc != AIINFRA_OK) return rc;
  result->token = aii_sampler_pick(gen->sampler, logits);
  return accept(gen, result, err);
}

/* ---- rows on the device ------------------------------------------------------------------------------------------ */

static aiinfra_status ask(aii_pass *p, uint32_t i, uint32_t row, aii_shortlist *list)
{
  aii_gen *gen = aii_gen_of(&p->plan->parts[i]);
  *list = (aii_shortlist){.row = row, .n_allowed = aii_vocab_size(gen->batcher->model->vocab)};
  aii_sampler_ask(gen->sampler, list);
  if (gen->quote != NULL && aii_quote_holds(gen->quote)) list->n_best = 0;
  if (gen->penalty != NULL)
    list->edits = aii_penalty_edits(gen->penalty, tokens_of(p, i), tokens_in(p, i), &list->n_edits);
  return gen->grammar_state != NULL ? aii_grammar_allowed(gen->grammar_state, &list->allowed, &p->errors[i])
                                    : AIINFRA_OK;
}

/* *err is told when the device failed; the part's own error, what ends the sequence alone: its result failed then. */
static aiinfra_status choose_there(aii_pass *p, uint32_t i, const aii_shortlist *list, aiinfra_error *err)
{
  aii_gen *gen = aii_gen_of(&p->plan->parts[i]);
  aii_plan_result *result = &p->results[i];
  aiinfra_error *mine = &p->errors[i];
  aiinfra_status rc = AIINFRA_OK;
  aii_desk *desk = &gen->batcher->desk;
  if (!aii_sampler_take(gen->sampler, list, &result->token)) {
    rc = aii_workspace_logits(desk->ws, list->row, desk->logits, err);
    if (rc != AIINFRA_OK) return rc;
    rc = mask(gen, desk->logits, mine);
    if (rc == AIINFRA_OK) result->token = aii_sampler_pick_at(gen->sampler, desk->logits, list->unit);
  }
  if (rc == AIINFRA_OK) rc = accept(gen, result, mine);
  result->failed = rc != AIINFRA_OK;
  return AIINFRA_OK;
}

/* ---- all of them ------------------------------------------------------------------------------------------------- */

static bool chooses(const aii_pass *p, uint32_t i)
{
  return p->plan->parts[i].sample && !p->results[i].skipped;
}

aiinfra_status aii_pass_choose(aii_pass *p, aiinfra_error *err)
{
  aii_desk *desk = &p->batcher->desk;
  const aii_plan *plan = p->plan;
  uint32_t n = 0, row = 0, n_vocab = p->batcher->model->hp.n_vocab;
  for (uint32_t i = 0; i < plan->n_parts; i++) {
    if (!chooses(p, i)) continue;
    aiinfra_status rc =
        desk->lists != NULL ? ask(p, i, n, &desk->lists[n]) : choose_here(p, i, desk->logits + (size_t)n * n_vocab);
    p->results[i].failed = rc != AIINFRA_OK;
    n++;
  }
  if (desk->lists == NULL || n == 0) return AIINFRA_OK;
  aiinfra_status rc = aii_workspace_shortlist(desk->ws, desk->lists, n, err);
  for (uint32_t i = 0; i < plan->n_parts && rc == AIINFRA_OK; i++) {
    if (!chooses(p, i)) continue;
    const aii_shortlist *list = &desk->lists[row++];
    if (!p->results[i].failed) rc = choose_there(p, i, list, err);
  }
  return rc;
}
