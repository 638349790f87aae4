/* pass.c - one forward pass: a plan becomes arrays, the worker runs them, results go back to the loop.
 *
 * On the worker: the rows are laid out; moves from and to the second tier, block copies, the forward pass, then for each part
 * that samples a token (choose.c), for each part of an embedding a sum. A pass that fails fails all of its parts, and all that
 * runs if it had moves; a grammar that fails fails its part alone.
 *
 * A pass behind another takes the tokens of that one, and skips the sequences that ended with them. So the worker goes on
 * while the loop makes text of what was sampled, and plans. The loop may drop a pass that has not begun.
 * The plan and what it needs of its sequences stand still while the pass is out.
 */
#include "src/engine/engine.h"

/* ---- memory ------------------------------------------------------------------------------------------------------ */

/* Rows of logits in host memory: where the device tells lists, one that is fetched. */
static uint32_t logits_rows(const aiinfra_batcher *b)
{
  return b->desk.ws != NULL && aii_workspace_lists(b->desk.ws) ? 1 : b->opts.max_running;
}

static bool create_desk_rows(aiinfra_batcher *b)
{
  aii_mem *mem = &b->rt->mem;
  aii_desk *d = &b->desk;
  uint32_t rows = b->opts.max_step_tokens;
  d->tokens = aii_new_array(mem, rows, sizeof *d->tokens);
  d->types = aii_new_array(mem, rows, sizeof *d->types);
  d->pos = aii_new_array(mem, rows, sizeof *d->pos);
  d->seq = aii_new_array(mem, rows, sizeof *d->seq);
  d->hidden_rows = aii_new_array(mem, rows, sizeof *d->hidden_rows);
  return d->tokens != NULL && d->types != NULL && d->pos != NULL && d->seq != NULL && d->hidden_rows != NULL;
}

static bool create_desk_seqs(aiinfra_batcher *b)
{
  aii_mem *mem = &b->rt->mem;
  aii_desk *d = &b->desk;
  uint32_t seqs = b->opts.max_running;
  bool lists = aii_workspace_lists(d->ws);
  d->tables = aii_new_array(mem, seqs, sizeof *d->tables);
  d->logit_rows = aii_new_array(mem, seqs, sizeof *d->logit_rows);
  d->carry = aii_new_array(mem, seqs, sizeof *d->carry);
  if (lists) d->lists = aii_new_array(mem, seqs, sizeof *d->lists);
  d->logits = aii_new_array(mem, logits_rows(b), sizeof *d->logits * b->model->hp.n_vocab);
  return d->tables != NULL && d->logit_rows != NULL && d->carry != NULL && (d->lists != NULL || !lists) &&
         d->logits != NULL;
}

static bool create_pass(aiinfra_batcher *b, aii_pass *p)
{
  p->batcher = b;
  p->results = aii_new_array(&b->rt->mem, b->opts.max_running, sizeof *p->results);
  p->errors = aii_new_array(&b->rt->mem, b->opts.max_running, sizeof *p->errors);
  return p->results != NULL && p->errors != NULL;
}

aiinfra_status aii_passes_create(aiinfra_batcher *b, aiinfra_error *err)
{
  uint32_t rows = b->opts.max_step_tokens, seqs = b->opts.max_running;
  aiinfra_status rc = aii_workspace_create(b->model, rows, seqs, &b->desk.ws, err);
  if (rc != AIINFRA_OK) return aii_wrap(err, rc, "workspace of %u rows", rows);
  bool ok = create_desk_rows(b) && create_desk_seqs(b);
  for (size_t i = 0; i < AII_COUNT(b->passes); i++) ok = create_pass(b, &b->passes[i]) && ok;
  if (!ok) return aii_fail(err, AIINFRA_ENOMEM, "no memory for steps of %u tokens and %u rows of logits", rows, seqs);
  return AIINFRA_OK;
}

void aii_passes_destroy(aiinfra_batcher *b)
{
  aii_mem *mem = &b->rt->mem;
  aii_desk *d = &b->desk;
  size_t rows = b->opts.max_step_tokens, seqs = b->opts.max_running;
  aii_del(mem, d->logits, logits_rows(b) * sizeof *d->logits * b->model->hp.n_vocab);
  if (d->ws != NULL) aii_workspace_free(d->ws);
  aii_del(mem, d->tokens, rows * sizeof *d->tokens);
  aii_del(mem, d->types, rows * sizeof *d->types);
  aii_del(mem, d->pos, rows * sizeof *d->pos);
  aii_del(mem, d->seq, rows * sizeof *d->seq);
  aii_del(mem, d->hidden_rows, rows * sizeof *d->hidden_rows);
  aii_del(mem, d->tables, seqs * sizeof *d->tables);
  aii_del(mem, d->logit_rows, seqs * sizeof *d->logit_rows);
  aii_del(mem, d->carry, seqs * sizeof *d->carry);
  aii_del(mem, d->lists, seqs * sizeof *d->lists);
  aii_del(mem, d->hidden, rows * sizeof *d->hidden * b->model->hp.n_embd);
  for (size_t i = 0; i < AII_COUNT(b->passes); i++) {
    aii_del(mem, b->passes[i].results, seqs * sizeof *b->passes[i].results);
    aii_del(mem, b->passes[i].errors, seqs * sizeof *b->passes[i].errors);
  }
}

bool aii_passes_out(const aiinfra_batcher *b)
{
  return b->passes[0].plan != NULL || b->passes[1].plan != NULL;
}

aiinfra_status aii_pass_want_hidden(aiinfra_batcher *b, aiinfra_error *err)
{
  aii_desk *d = &b->desk;
  if (d->hidden != NULL) return AIINFRA_OK;
  uint32_t rows = b->opts.max_step_tokens;
  d->hidden = aii_new_array(&b->rt->mem, rows, sizeof *d->hidden * b->model->hp.n_embd);
  if (d->hidden == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for %u hidden states", rows);
  return AIINFRA_OK;
}

/* ---- on the worker: rows ------------------------------------------------------------------------------------------- */

enum { UNCLAIMED, BEGUN, DROPPED };

/* True for the first who asks. */
static bool claim(aii_pass *p, uint32_t as)
{
  uint32_t unclaimed = UNCLAIMED;
  return atomic_compare_exchange_strong(&p->claim, &unclaimed, as);
}

/* Lays the rows of a part behind those of the parts before it. token: of its only row, in a plan ahead; else NULL. */
static void lay_part(aii_desk *d, const aii_plan_part *part, const aiinfra_token *token)
{
  aii_forward *f = &d->forward;
  const aii_gen *gen = aii_gen_of(part);
  d->tables[f->rows.n_seqs] = part->seq->kv.table;
  for (uint32_t i = 0; i < part->n_rows; i++) {
    uint32_t row = f->rows.n_rows++, pos = part->first + i;
    d->tokens[row] = token != NULL ? *token : part->seq->tokens[pos];
    d->types[row] = gen->second != 0 && pos >= gen->second;
    d->pos[row] = pos;
    d->seq[row] = f->rows.n_seqs;
    if (part->seq->embed && aii_group_pools(gen, pos)) d->hidden_rows[f->n_hidden++] = row;
  }
  if (part->sample) d->logit_rows[f->n_logits++] = f->rows.n_rows - 1;
  f->rows.n_seqs++;
}

/* Skips what has ended; all of it when the pass was dropped. */
static void lay(aii_pass *p)
{
  aii_desk *d = &p->batcher->desk;
  bool dropped = !claim(p, BEGUN);
  d->forward = (aii_forward){.rows = {.tokens = d->tokens, .pos = d->pos, .seq = d->seq, .tables = d->tables},
                             .types = d->types,
                             .logit_rows = d->logit_rows,
                             .hidden_rows = d->hidden_rows};
  for (uint32_t i = 0; i < p->plan->n_parts; i++) {
    const aii_plan_part *part = &p->plan->parts[i];
    const aii_carry *carry = p->plan->ahead ? &d->carry[part->behind] : NULL;
    p->results[i] = (aii_plan_result){.skipped = dropped || (carry != NULL && !carry->goes_on)};
    if (!p->results[i].skipped) lay_part(d, part, carry != NULL ? &carry->token : NULL);
  }
  d->forward.logits = d->lists == NULL ? d->logits : NULL;
  if (d->forward.n_hidden > 0) d->forward.hidden = d->hidden;
}

/* For the pass behind this one. */
static void carry_on(aii_pass *p)
{
  aii_desk *d = &p->batcher->desk;
  const aii_vocab *vocab = p->batcher->model->vocab;
  for (uint32_t i = 0; i < p->plan->n_parts; i++) {
    const aii_plan_part *part = &p->plan->parts[i];
    const aii_plan_result *r = &p->results[i];
    bool chosen = p->status == AIINFRA_OK && part->sample && !r->skipped && !r->failed;
    d->carry[i] = (aii_carry){.token = r->token,
                              .goes_on = chosen && !r->stop && !aii_gen_ends_with(aii_gen_of(part), vocab, r->token)};
  }
}

/* ---- on the worker: the pass --------------------------------------------------------------------------------------- */

static aiinfra_status copy_blocks(aii_pass *p)
{
  aiinfra_batcher *b = p->batcher;
  const aii_plan *plan = p->plan;
  aiinfra_status rc = AIINFRA_OK;
  for (uint32_t i = 0; rc == AIINFRA_OK && i < plan->n_moves; i++)
    rc = aii_kv_store_move(b->kv->store, &b->kv->view, &plan->moves[i], &p->error);
  for (uint32_t i = 0; rc == AIINFRA_OK && i < plan->n_copies; i++)
    rc = aii_model_copy_block(b->model, &b->kv->view, plan->copies[i].from, plan->copies[i].to, &p->error);
  return rc;
}

/* Uses the hidden states of a part that are pooled, in the order of the text; returns what lies behind them. A sequence
 * that was preempted begins anew. */
static const float *use_hidden(aii_gen *gen, const aii_plan_part *part, const float *hidden)
{
  uint32_t n_embd = gen->batcher->model->hp.n_embd;
  if (part->first == 0) gen->n_summed = 0;
  for (uint32_t r = 0; r < part->n_rows; r++) {
    if (!aii_group_pools(gen, part->first + r)) continue;
    aii_group_add(gen, hidden);
    hidden += n_embd;
  }
  if (part->first + part->n_rows == gen->seq.n_prompt) aii_group_finish(gen);
  return hidden;
}

static void use_all_hidden(const aii_pass *p)
{
  const aii_plan *plan = p->plan;
  const float *hidden = p->batcher->desk.forward.hidden;
  for (uint32_t i = 0; i < plan->n_parts; i++)
    if (plan->parts[i].seq->embed) hidden = use_hidden(aii_gen_of(&plan->parts[i]), &plan->parts[i], hidden);
}

static void run(aii_job *job)
{
  aii_pass *p = AII_CONTAINER(job, aii_pass, job);
  aiinfra_batcher *b = p->batcher;
  aii_desk *d = &b->desk;
  uint64_t start_ns = aii_now_ns();
  lay(p);
  p->status = AIINFRA_OK;
  if (d->forward.rows.n_rows > 0) {
    p->status = copy_blocks(p);
    if (p->status == AIINFRA_OK) p->status = aii_model_forward(b->model, d->ws, &b->kv->view, &d->forward, &p->error);
    if (p->status == AIINFRA_OK) use_all_hidden(p);
    if (p->status == AIINFRA_OK) p->status = aii_pass_choose(p, &p->error);
  }
  carry_on(p);
  p->busy_ns = d->forward.rows.n_rows > 0 ? aii_now_ns() - start_ns : 0;
}

/* ---- on the loop ----------------------------------------------------------------------------------------------------- */

static void count(aiinfra_batcher *b, const aii_plan_part *part)
{
  aii_gen *gen = aii_gen_of(part);
  uint32_t prompt_end = AII_MIN(part->first + part->n_rows, gen->seq.n_prompt);
  if (part->first < prompt_end) b->stats.prompt_tokens += prompt_end - part->first;
  if (gen->counted) return;
  gen->counted = true;
  b->stats.cached_tokens += gen->seq.n_cached;
  aii_meter_start(gen);
}

static void take(aii_pass *p, uint32_t index, uint64_t now_ns)
{
  aiinfra_batcher *b = p->batcher;
  const aii_plan_part *part = &p->plan->parts[index];
  aii_plan_result *result = &p->results[index];
  aii_gen *gen = aii_gen_of(part);
  if (result->skipped) return;
  if (p->status != AIINFRA_OK) {
    aii_gen_fail(gen, p->status, &p->error);
    result->failed = true;
    return;
  }
  count(b, part);
  if (result->failed) aii_gen_fail(gen, (aiinfra_status)p->errors[index].status, &p->errors[index]);
  if (gen->request != NULL && aii_request_cancelling(gen->request)) aii_sched_cancel(b->sched, &gen->seq);
  if (!part->sample || result->failed || part->seq->doomed != AII_END_NONE) return;
  b->stats.generated_tokens++;
  if (aii_gen_take_token(gen, result, now_ns) == AIINFRA_OK) aii_batcher_queue(gen);
}

/* Sequences without a part may have blocks that were to be filled by this pass. */
static void lose_all(const aii_pass *p)
{
  for (aii_gen *gen = p->batcher->open; gen != NULL; gen = gen->next)
    if (gen->seq.state == AII_SEQ_RUNNING) aii_gen_fail(gen, p->status, &p->error);
  aii_sched_lost(p->batcher->sched);
}

static void done(aii_job *job)
{
  aii_pass *p = AII_CONTAINER(job, aii_pass, job);
  aiinfra_batcher *b = p->batcher;
  uint64_t now_ns = aii_now_ns();
  b->stats.steps += p->busy_ns > 0;
  b->stats.busy_ns += p->busy_ns;
  for (uint32_t i = 0; i < p->plan->n_parts; i++) take(p, i, now_ns);
  if (p->status != AIINFRA_OK && p->plan->n_moves > 0) lose_all(p);
  p->plan = NULL;
  aii_sched_complete(b->sched, p->results, now_ns);
  aii_batcher_turn(b);
}

static void submit(aiinfra_batcher *b, const aii_plan *plan)
{
  aii_pass *p = &b->passes[b->next_pass];
  b->next_pass = (b->next_pass + 1) % AII_COUNT(b->passes);
  p->plan = plan;
  atomic_store(&p->claim, UNCLAIMED);
  p->job.run = run;
  p->job.done = done;
  aii_worker_submit(b->rt, &p->job);
}

void aii_passes_send(aiinfra_batcher *b)
{
  const aii_plan *plan;
  if (aii_sched_step(b->sched, aii_now_ns(), &plan)) submit(b, plan);
  if (aii_sched_ahead(b->sched, &plan)) submit(b, plan);
  else if (aii_sched_rethink(b->sched)) (void)claim(&b->passes[(b->next_pass + 1) % AII_COUNT(b->passes)], DROPPED);
}
