/* pass.c - one forward pass: a plan becomes arrays, the worker runs them, results go back to the loop.
 *
 * On the worker: moves from and to the second tier, block copies, the forward pass, then for each part that samples a token
 * (choose.c), for each part of an embedding a sum. A pass that fails fails all of its parts, and all that runs if it had
 * moves; a grammar that fails fails its part alone.
 * The plan and the sequences in it stand still while the pass is out.
 */
#include "src/engine/engine.h"

/* ---- memory ------------------------------------------------------------------------------------------------------ */

/* Rows of logits in host memory: where the device tells lists, one that is fetched. */
static uint32_t logits_rows(const aiinfra_batcher *b)
{
  return b->pass.ws != NULL && aii_workspace_lists(b->pass.ws) ? 1 : b->opts.max_running;
}

aiinfra_status aii_pass_create(aiinfra_batcher *b, aiinfra_error *err)
{
  aii_mem *mem = &b->rt->mem;
  aii_pass *p = &b->pass;
  uint32_t rows = b->opts.max_step_tokens, seqs = b->opts.max_running, n_vocab = b->model->hp.n_vocab;
  p->results = aii_new_array(mem, seqs, sizeof *p->results);
  p->tokens = aii_new_array(mem, rows, sizeof *p->tokens);
  p->types = aii_new_array(mem, rows, sizeof *p->types);
  p->pos = aii_new_array(mem, rows, sizeof *p->pos);
  p->seq = aii_new_array(mem, rows, sizeof *p->seq);
  p->hidden_rows = aii_new_array(mem, rows, sizeof *p->hidden_rows);
  p->tables = aii_new_array(mem, seqs, sizeof *p->tables);
  p->logit_rows = aii_new_array(mem, seqs, sizeof *p->logit_rows);
  aiinfra_status rc = aii_workspace_create(b->model, rows, seqs, &p->ws, err);
  if (rc != AIINFRA_OK) return aii_wrap(err, rc, "workspace of %u rows", rows);
  bool lists = aii_workspace_lists(p->ws);
  if (lists) p->lists = aii_new_array(mem, seqs, sizeof *p->lists);
  p->logits = aii_new_array(mem, logits_rows(b), sizeof *p->logits * n_vocab);
  if (p->results == NULL || p->tokens == NULL || p->types == NULL || p->pos == NULL || p->seq == NULL ||
      p->hidden_rows == NULL || p->tables == NULL || p->logit_rows == NULL || p->logits == NULL ||
      (lists && p->lists == NULL))
    return aii_fail(err, AIINFRA_ENOMEM, "no memory for steps of %u tokens and %u rows of logits", rows, seqs);
  return AIINFRA_OK;
}

void aii_pass_destroy(aiinfra_batcher *b)
{
  aii_mem *mem = &b->rt->mem;
  aii_pass *p = &b->pass;
  size_t rows = b->opts.max_step_tokens, seqs = b->opts.max_running;
  aii_del(mem, p->logits, logits_rows(b) * sizeof *p->logits * b->model->hp.n_vocab);
  if (p->ws != NULL) aii_workspace_free(p->ws);
  aii_del(mem, p->results, seqs * sizeof *p->results);
  aii_del(mem, p->tokens, rows * sizeof *p->tokens);
  aii_del(mem, p->types, rows * sizeof *p->types);
  aii_del(mem, p->pos, rows * sizeof *p->pos);
  aii_del(mem, p->seq, rows * sizeof *p->seq);
  aii_del(mem, p->hidden_rows, rows * sizeof *p->hidden_rows);
  aii_del(mem, p->tables, seqs * sizeof *p->tables);
  aii_del(mem, p->logit_rows, seqs * sizeof *p->logit_rows);
  aii_del(mem, p->lists, seqs * sizeof *p->lists);
  aii_del(mem, p->hidden, rows * sizeof *p->hidden * b->model->hp.n_embd);
}

aiinfra_status aii_pass_want_hidden(aiinfra_batcher *b, aiinfra_error *err)
{
  aii_pass *p = &b->pass;
  if (p->hidden != NULL) return AIINFRA_OK;
  uint32_t rows = b->opts.max_step_tokens;
  p->hidden = aii_new_array(&b->rt->mem, rows, sizeof *p->hidden * b->model->hp.n_embd);
  if (p->hidden == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for %u hidden states", rows);
  return AIINFRA_OK;
}

/* ---- on the worker ------------------------------------------------------------------------------------------------- */

static aiinfra_status copy_blocks(aiinfra_batcher *b, aiinfra_error *err)
{
  const aii_plan *plan = b->pass.plan;
  aiinfra_status rc = AIINFRA_OK;
  for (uint32_t i = 0; rc == AIINFRA_OK && i < plan->n_moves; i++)
    rc = aii_kv_store_move(b->kv->store, &b->kv->view, &plan->moves[i], err);
  for (uint32_t i = 0; rc == AIINFRA_OK && i < plan->n_copies; i++)
    rc = aii_model_copy_block(b->model, &b->kv->view, plan->copies[i].from, plan->copies[i].to, err);
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

static void use_all_hidden(aiinfra_batcher *b)
{
  const aii_plan *plan = b->pass.plan;
  const float *hidden = b->pass.hidden;
  for (uint32_t i = 0; i < plan->n_parts; i++)
    if (plan->parts[i].seq->embed) hidden = use_hidden(aii_gen_of(&plan->parts[i]), &plan->parts[i], hidden);
}

static void run(aii_job *job)
{
  aii_pass *p = AII_CONTAINER(job, aii_pass, job);
  aiinfra_batcher *b = AII_CONTAINER(p, aiinfra_batcher, pass);
  uint64_t start_ns = aii_now_ns();
  p->status = copy_blocks(b, &p->error);
  if (p->status == AIINFRA_OK) p->status = aii_model_forward(b->model, p->ws, &b->kv->view, &p->forward, &p->error);
  if (p->status == AIINFRA_OK) use_all_hidden(b);
  if (p->status == AIINFRA_OK) p->status = aii_pass_choose(b, &p->error);
  p->busy_ns = aii_now_ns() - start_ns;
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

static void take(aiinfra_batcher *b, const aii_plan_part *part, aii_plan_result *result, uint64_t now_ns)
{
  aii_gen *gen = aii_gen_of(part);
  if (b->pass.status != AIINFRA_OK) {
    aii_gen_fail(gen, b->pass.status, &b->pass.error);
    result->failed = true;
    return;
  }
  count(b, part);
  if (!part->sample || result->failed || part->seq->doomed != AII_END_NONE) return;
  b->stats.generated_tokens++;
  if (aii_gen_take_token(gen, result, now_ns) == AIINFRA_OK) aii_batcher_queue(gen);
}

/* Sequences without a part may have blocks that were to be filled by this pass. */
static void lose_all(aiinfra_batcher *b)
{
  for (aii_gen *gen = b->open; gen != NULL; gen = gen->next)
    if (gen->seq.state == AII_SEQ_RUNNING) aii_gen_fail(gen, b->pass.status, &b->pass.error);
  aii_sched_lost(b->sched);
}

static void done(aii_job *job)
{
  aii_pass *p = AII_CONTAINER(job, aii_pass, job);
  aiinfra_batcher *b = AII_CONTAINER(p, aiinfra_batcher, pass);
  uint64_t now_ns = aii_now_ns();
  p->out = false;
  b->stats.steps++;
  b->stats.busy_ns += p->busy_ns;
  for (uint32_t i = 0; i < p->plan->n_parts; i++) take(b, &p->plan->parts[i], &p->results[i], now_ns);
  if (p->status != AIINFRA_OK && p->plan->n_moves > 0) lose_all(b);
  aii_sched_complete(b->sched, p->results, now_ns);
  p->plan = NULL;
  aii_batcher_turn(b);
}

/* Lays the rows of a part behind those of the parts before it. */
static void lay_part(aii_pass *p, const aii_plan_part *part, uint32_t index)
{
  aii_forward *f = &p->forward;
  const aii_gen *gen = aii_gen_of(part);
  p->tables[index] = part->seq->kv.table;
  for (uint32_t i = 0; i < part->n_rows; i++) {
    uint32_t row = f->rows.n_rows++, pos = part->first + i;
    p->tokens[row] = part->seq->tokens[pos];
    p->types[row] = gen->second != 0 && pos >= gen->second;
    p->pos[row] = pos;
    p->seq[row] = index;
    if (part->seq->embed && aii_group_pools(gen, pos)) p->hidden_rows[f->n_hidden++] = row;
  }
  if (part->sample) p->logit_rows[f->n_logits++] = f->rows.n_rows - 1;
}

void aii_pass_submit(aiinfra_batcher *b, const aii_plan *plan)
{
  aii_pass *p = &b->pass;
  p->plan = plan;
  p->forward = (aii_forward){
      .rows = {.n_seqs = plan->n_parts, .tokens = p->tokens, .pos = p->pos, .seq = p->seq, .tables = p->tables},
      .types = p->types,
      .logit_rows = p->logit_rows,
      .hidden_rows = p->hidden_rows,
      .logits = p->lists == NULL ? p->logits : NULL,
      .hidden = p->hidden};
  memset(p->results, 0, plan->n_parts * sizeof *p->results);
  for (uint32_t i = 0; i < plan->n_parts; i++) lay_part(p, &plan->parts[i], i);
  p->job.run = run;
  p->job.done = done;
  p->out = true;
  aii_worker_submit(b->rt, &p->job);
}
