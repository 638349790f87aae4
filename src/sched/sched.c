/* sched.c - the life of a sequence: submitted, moved between states, cancelled, expired, completed, handed back.
 *
 * What a plan holds is decided in plan.c; whether a second one follows, in ahead.c. Transitions go through aii_sched_move(), which knows the allowed ones:
 *
 *   from \ to   WAITING   RUNNING   FINISHED
 *   NEW         submit    -         -
 *   WAITING     -         admitted  cancelled, expired
 *   RUNNING     preempted -         stop, length, error, cancelled, expired
 *   FINISHED    -         -         -
 *
 * Blocks come back when a sequence is preempted and when it ends; never while a plan that uses them is out: until then a
 * sequence that is to end is doomed.
 */
#include "src/sched/state.h"

static const bool may_become[4][4] = {
    [AII_SEQ_NEW] = {[AII_SEQ_WAITING] = true},
    [AII_SEQ_WAITING] = {[AII_SEQ_RUNNING] = true, [AII_SEQ_FINISHED] = true},
    [AII_SEQ_RUNNING] = {[AII_SEQ_WAITING] = true, [AII_SEQ_FINISHED] = true},
};

static aii_seq_list *list_of(aii_sched *sched, aii_seq_state state)
{
  switch (state) {
    case AII_SEQ_WAITING: return &sched->waiting;
    case AII_SEQ_RUNNING: return &sched->running;
    case AII_SEQ_FINISHED: return &sched->finished;
    case AII_SEQ_NEW: break;
  }
  return NULL;
}

void aii_sched_move(aii_sched *sched, aii_seq *seq, aii_seq_state to)
{
  (void)may_become; /* a release build does not ask */
  assert(may_become[seq->state][to]);
  aii_seq_list *from = list_of(sched, seq->state);
  if (from != NULL) aii_seq_list_remove(from, seq);
  seq->state = to;
  if (to == AII_SEQ_FINISHED) aii_seq_list_append(&sched->finished, seq);
  else aii_seq_list_insert(list_of(sched, to), seq);
}

void aii_sched_end(aii_sched *sched, aii_seq *seq, aii_seq_end end)
{
  seq->end = end;
  sched->head_blocked = false;
  aii_kv_release(sched->pool, &seq->kv);
  aii_sched_move(sched, seq, AII_SEQ_FINISHED);
}

void aii_sched_preempt(aii_sched *sched, aii_seq *seq)
{
  sched->head_blocked = false;
  sched->preemptions++;
  seq->n_computed = 0;
  aii_kv_release(sched->pool, &seq->kv);
  aii_sched_move(sched, seq, AII_SEQ_WAITING);
}

uint32_t aii_sched_blocks_of(const aii_sched *sched, uint32_t n_tokens)
{
  return n_tokens / sched->block_tokens + (n_tokens % sched->block_tokens != 0);
}

/* ---- create, free --------------------------------------------------------------------------------------------- */

aiinfra_status aii_sched_create(aii_mem *mem, const aii_sched_config *config, aii_kv_pool *pool, aii_sched **out,
                                aiinfra_error *err)
{
  *out = NULL;
  const aii_sched_config *c = config;
  if (c->max_running == 0 || c->max_queue == 0 || c->max_step_tokens < c->max_running)
    return aii_fail(err, AIINFRA_EINVAL,
                    "%u running, %u waiting, %u tokens a step: none may be 0, and a step needs "
                    "a token for each that runs",
                    c->max_running, c->max_queue, c->max_step_tokens);
  aii_sched *sched = aii_new(mem, sizeof *sched);
  if (sched == NULL) goto err;
  sched->mem = mem;
  sched->config = *config;
  if (sched->config.chunk_tokens == 0) sched->config.chunk_tokens = config->max_step_tokens;
  sched->pool = pool;
  for (size_t i = 0; i < AII_COUNT(sched->plans); i++) {
    sched->plans[i].parts = aii_new_array(mem, config->max_running, sizeof *sched->plans[i].parts);
    sched->plans[i].copies = aii_new_array(mem, config->max_running, sizeof *sched->plans[i].copies);
    if (sched->plans[i].parts == NULL || sched->plans[i].copies == NULL) goto err_after_sched;
  }

  aiinfra_kv_stats stats;
  aii_kv_pool_stats(pool, &stats);
  sched->n_blocks = stats.n_blocks;
  sched->block_tokens = stats.block_tokens;
  *out = sched;
  return AIINFRA_OK;

err_after_sched:
  aii_sched_free(sched);
err:
  return aii_fail(err, AIINFRA_ENOMEM, "no memory for a scheduler of %u sequences", config->max_running);
}

void aii_sched_free(aii_sched *sched)
{
  if (sched == NULL) return;
  assert(sched->waiting.n + sched->running.n + sched->finished.n == 0);
  for (size_t i = 0; i < AII_COUNT(sched->plans); i++) {
    aii_del(sched->mem, sched->plans[i].parts, sched->config.max_running * sizeof *sched->plans[i].parts);
    aii_del(sched->mem, sched->plans[i].copies, sched->config.max_running * sizeof *sched->plans[i].copies);
  }
  aii_del(sched->mem, sched, sizeof *sched);
}

/* ---- in and out ----------------------------------------------------------------------------------------------- */

static aiinfra_status check_seq(const aii_sched *sched, const aii_seq *seq, aiinfra_error *err)
{
  uint32_t least = seq->n_prompt + (seq->embed ? 0 : 1);
  if (seq->n_prompt == 0 || seq->max_total < least)
    return aii_fail(err, AIINFRA_EINVAL, "a prompt of %u tokens in a sequence of at most %u", seq->n_prompt,
                    seq->max_total);
  if (seq->whole && seq->n_prompt > sched->config.max_step_tokens)
    return aii_fail(err, AIINFRA_EINVAL,
                    "%u tokens see each other and must be computed in one step, which has %u: raise max_step_tokens",
                    seq->n_prompt, sched->config.max_step_tokens);
  /* The last token that is generated is never computed. */
  uint32_t need = aii_sched_blocks_of(sched, seq->max_total - (seq->embed ? 0 : 1));
  if (need > sched->n_blocks)
    return aii_fail(err, AIINFRA_EINVAL, "a sequence of %u tokens needs %u blocks of the cache, which has %u",
                    seq->max_total, need, sched->n_blocks);
  return AIINFRA_OK;
}

aiinfra_status aii_sched_submit(aii_sched *sched, aii_seq *seq, uint64_t now_ns, aiinfra_error *err)
{
  const aii_sched_config *c = &sched->config;
  aiinfra_status rc = check_seq(sched, seq, err);
  if (rc != AIINFRA_OK) return rc;
  if (sched->waiting.n + sched->running.n >= c->max_queue + c->max_running)
    return aii_fail(err, AIINFRA_EBUSY,
                    "%u requests run and %u wait, which is all the queue holds; submit again when "
                    "one has ended",
                    sched->running.n, sched->waiting.n);
  rc = aii_kv_seq_init(sched->mem, &seq->kv, sched->pool, seq->max_total, seq->salt, err);
  if (rc != AIINFRA_OK) return rc;
  seq->n_tokens = seq->n_prompt;
  seq->submitted_ns = now_ns;
  seq->order = sched->next_order++;
  sched->head_blocked = false;
  aii_sched_move(sched, seq, AII_SEQ_WAITING);
  return AIINFRA_OK;
}

aii_seq *aii_sched_finished(aii_sched *sched)
{
  aii_seq *seq = sched->finished.head;
  if (seq == NULL) return NULL;
  aii_seq_list_remove(&sched->finished, seq);
  aii_kv_seq_destroy(sched->mem, &seq->kv, sched->pool);
  return seq;
}

/* ---- ending early --------------------------------------------------------------------------------------------- */

/* Ends a sequence now, or with the plans that may be writing to its blocks. */
static void doom(aii_sched *sched, aii_seq *seq, aii_seq_end end)
{
  if (seq->state == AII_SEQ_RUNNING && sched->n_out > 0) {
    if (end != AII_END_NONE) seq->doomed = end;
  } else {
    aii_sched_end(sched, seq, end);
  }
}

void aii_sched_cancel(aii_sched *sched, aii_seq *seq)
{
  if (seq->state == AII_SEQ_WAITING || seq->state == AII_SEQ_RUNNING) doom(sched, seq, AII_END_CANCELED);
}

static uint64_t expire_list(aii_sched *sched, aii_seq_list *list, uint64_t now_ns, uint64_t next_ns)
{
  for (aii_seq *seq = list->head, *next; seq != NULL; seq = next) {
    next = seq->next;
    if (seq->deadline_ns == 0 || seq->doomed != AII_END_NONE) continue;
    if (seq->deadline_ns <= now_ns) doom(sched, seq, AII_END_TIMEOUT);
    else if (next_ns == 0 || seq->deadline_ns < next_ns) next_ns = seq->deadline_ns;
  }
  return next_ns;
}

uint64_t aii_sched_expire(aii_sched *sched, uint64_t now_ns)
{
  uint64_t next_ns = expire_list(sched, &sched->waiting, now_ns, 0);
  return expire_list(sched, &sched->running, now_ns, next_ns);
}

/* ---- what came of a plan -------------------------------------------------------------------------------------- */

static aii_seq_end absorb(aii_sched *sched, const aii_plan_part *part, const aii_plan_result *result, uint64_t now_ns)
{
  aii_seq *seq = part->seq;
  uint32_t end = part->first + part->n_rows;
  if (result->failed) return AII_END_ERROR;
  bool kept = !result->skipped && end <= seq->n_tokens; /* a plan ahead computed a token that had failed */
  if (kept) seq->n_computed = end;
  if (!seq->no_cache) aii_kv_publish(sched->pool, &seq->kv, seq->tokens, seq->n_computed, seq->n_out > 0);
  if (seq->doomed != AII_END_NONE || !kept) return seq->doomed;
  if (seq->embed) return seq->n_computed == seq->n_prompt ? AII_END_STOP : AII_END_NONE;
  if (!part->sample) return AII_END_NONE;
  seq->tokens[seq->n_tokens++] = result->token;
  if (seq->first_token_ns == 0) seq->first_token_ns = now_ns;
  if (result->stop) return AII_END_STOP;
  return seq->n_tokens == seq->max_total ? AII_END_LENGTH : AII_END_NONE;
}

void aii_sched_complete(aii_sched *sched, const aii_plan_result *results, uint64_t now_ns)
{
  assert(sched->n_out > 0);
  const aii_plan *plan = aii_sched_plan(sched, 0);
  sched->oldest = (sched->oldest + 1) % AII_COUNT(sched->plans);
  sched->n_out--;
  aii_kv_moves_done(sched->pool);
  for (uint32_t i = 0; i < plan->n_parts; i++) {
    aii_seq *seq = plan->parts[i].seq;
    seq->n_out--;
    aii_seq_end end = absorb(sched, &plan->parts[i], &results[i], now_ns);
    if (seq->doomed == AII_END_NONE) seq->doomed = end;
  }
  for (aii_seq *seq = sched->running.head, *next; seq != NULL; seq = next) { /* some have no part in the plan */
    next = seq->next;
    if (seq->doomed != AII_END_NONE && seq->n_out == 0) aii_sched_end(sched, seq, seq->doomed);
  }
}

void aii_sched_lost(aii_sched *sched)
{
  for (aii_seq *seq = sched->running.head; seq != NULL; seq = seq->next) doom(sched, seq, AII_END_ERROR);
  aii_kv_forget(sched->pool);
}

/* ---- for the eyes of others ------------------------------------------------------------------------------------ */

uint32_t aii_sched_n_running(const aii_sched *sched)
{
  return sched->running.n;
}

uint32_t aii_sched_n_waiting(const aii_sched *sched)
{
  return sched->waiting.n;
}

uint64_t aii_sched_preemptions(const aii_sched *sched)
{
  return sched->preemptions;
}

static bool list_holds(const aii_seq_list *list, aii_seq_state state)
{
  uint32_t n = 0;
  for (const aii_seq *seq = list->head; seq != NULL; seq = seq->next, n++) {
    if (seq->state != state || seq->n_computed > seq->n_tokens || seq->n_tokens > seq->max_total) return false;
    if (state == AII_SEQ_WAITING && (seq->n_computed != 0 || seq->kv.n_blocks != 0)) return false;
    if (state != AII_SEQ_FINISHED && seq->next != NULL && !aii_seq_before(seq, seq->next)) return false;
  }
  return n == list->n;
}

static bool plans_hold(const aii_sched *sched)
{
  uint32_t n_parts = 0, n_out = 0;
  for (uint32_t i = 0; i < sched->n_out; i++) {
    const aii_plan *plan = &sched->plans[(sched->oldest + i) % AII_COUNT(sched->plans)];
    if (plan->n_rows > sched->config.max_step_tokens) return false;
    n_parts += plan->n_parts;
  }
  for (const aii_seq *seq = sched->running.head; seq != NULL; seq = seq->next) n_out += seq->n_out;
  return n_out == n_parts; /* whoever has a part runs */
}

bool aii_sched_check(const aii_sched *sched)
{
  const aii_sched_config *c = &sched->config;
  return list_holds(&sched->waiting, AII_SEQ_WAITING) && list_holds(&sched->running, AII_SEQ_RUNNING) &&
         list_holds(&sched->finished, AII_SEQ_FINISHED) && sched->running.n <= c->max_running &&
         sched->waiting.n + sched->running.n <= c->max_queue + c->max_running && plans_hold(sched) &&
         aii_kv_pool_check(sched->pool);
}
