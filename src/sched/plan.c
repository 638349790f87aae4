/* plan.c - what the next forward pass computes.
 *
 * The happy path is: waiting sequences are admitted while there are slots, tokens and blocks; then every running
 * sequence, the most important first, gets its rows: one when it decodes, a chunk when it prefills.
 *
 * Tokens: each decoding sequence has its row reserved before prefill shares what is left. Blocks: when a sequence
 * finds none, running ones are preempted from the least important end, at last the sequence itself. Those have no rows
 * in the plan yet, because rows are given out from the other end. The first sequence alone fits the cache, so it always
 * gets a row, and nothing is taken from a more important sequence: no two can take turns in preempting each other.
 *
 * A waiting sequence is admitted only when blocks for all of its tokens are there beyond what the running ones still
 * need, so that it is not preempted at once; nobody overtakes it. One of strictly higher priority may push out others.
 */
#include "src/sched/state.h"

static uint32_t left_to_compute(const aii_seq *seq)
{
  return seq->n_tokens - seq->n_computed;
}

static bool decodes(const aii_seq *seq)
{
  return left_to_compute(seq) == 1 && seq->n_computed > 0;
}

/* ---- admission ------------------------------------------------------------------------------------------------- */

/* Blocks that a sequence needs beyond those it has to compute all tokens known so far. */
static uint32_t blocks_missing(const aii_sched *sched, const aii_seq *seq)
{
  uint32_t need = aii_sched_blocks_of(sched, seq->n_tokens);
  return need > seq->kv.n_blocks ? need - seq->kv.n_blocks : 0;
}

static bool blocks_suffice(const aii_sched *sched, const aii_seq *seq)
{
  uint64_t need = blocks_missing(sched, seq);
  for (const aii_seq *s = sched->running.head; s != NULL; s = s->next) need += blocks_missing(sched, s);
  if (sched->running.n > 0) need++; /* the next token of a running one may open a block */
  return need <= aii_kv_available(sched->pool);
}

/* Preempts the least important running sequence if `seq` has a higher priority. */
static bool push_out(aii_sched *sched, const aii_seq *seq)
{
  aii_seq *victim = sched->running.tail;
  if (victim == NULL || victim->priority >= seq->priority) return false;
  aii_sched_preempt(sched, victim);
  return true;
}

static void attach_prefix(aii_sched *sched, aii_seq *seq)
{
  if (seq->no_cache) return;
  uint32_t found = aii_kv_match(sched->pool, &seq->kv, seq->tokens, seq->n_tokens);
  seq->n_computed = found;
  if (seq->first_step_ns == 0) seq->n_cached = AII_MIN(found, seq->n_prompt);
}

static bool admit(aii_sched *sched, aii_seq *seq)
{
  if (sched->running.n == sched->config.max_running && !push_out(sched, seq)) return false;
  attach_prefix(sched, seq);
  while (!blocks_suffice(sched, seq)) {
    if (push_out(sched, seq)) continue;
    seq->n_computed = 0;
    aii_kv_release(sched->pool, &seq->kv);
    return false;
  }
  aii_sched_move(sched, seq, AII_SEQ_RUNNING);
  return true;
}

/* Rows that a sequence may want from one step. */
static uint32_t appetite(const aii_sched *sched, const aii_seq *seq)
{
  return AII_MIN(left_to_compute(seq), sched->config.chunk_tokens);
}

static void admit_waiting(aii_sched *sched)
{
  uint64_t planned = 0;
  for (const aii_seq *s = sched->running.head; s != NULL; s = s->next) planned += appetite(sched, s);
  while (sched->waiting.head != NULL && !sched->head_blocked) {
    aii_seq *seq = sched->waiting.head;
    bool important = sched->running.tail != NULL && sched->running.tail->priority < seq->priority;
    if (planned >= sched->config.max_step_tokens && !important) break;
    if (!admit(sched, seq)) {
      sched->head_blocked = true;
      break;
    }
    planned += appetite(sched, seq);
  }
}

/* ---- rows ------------------------------------------------------------------------------------------------------ */

/* Positions that could be added to a sequence without preempting anybody. */
static uint64_t room_for(const aii_sched *sched, const aii_seq *seq)
{
  uint64_t held = (uint64_t)seq->kv.n_blocks * sched->block_tokens;
  return held - seq->kv.n_tokens + (uint64_t)aii_kv_available(sched->pool) * sched->block_tokens;
}

/* Makes room for up to `want` rows, at the cost of less important sequences. 0: the sequence itself was preempted. */
static uint32_t take_room(aii_sched *sched, aii_plan *plan, aii_seq *seq, uint32_t want)
{
  if (seq->kv.n_tokens - seq->n_computed == want) return want; /* of a plan ahead that skipped it */
  for (;;) {
    uint32_t rows = (uint32_t)AII_MIN((uint64_t)want, room_for(sched, seq)), from = AII_NO_BLOCK, to = AII_NO_BLOCK;
    if (rows > 0 && (rows == want || !seq->whole) &&
        aii_kv_extend(sched->pool, &seq->kv, rows, &from, &to) == AIINFRA_OK) {
      if (from != AII_NO_BLOCK) plan->copies[plan->n_copies++] = (aii_plan_copy){from, to};
      return rows;
    }
    aii_seq *victim = sched->running.tail;
    aii_sched_preempt(sched, victim);
    if (victim == seq) return 0;
  }
}

static uint32_t count_decoding(const aii_sched *sched)
{
  uint32_t n = 0;
  for (const aii_seq *s = sched->running.head; s != NULL; s = s->next) n += decodes(s);
  return n;
}

static void plan_rows(aii_sched *sched, aii_plan *plan, uint64_t now_ns)
{
  uint32_t n_decoding = count_decoding(sched);
  uint32_t prefill_left = sched->config.max_step_tokens - n_decoding;
  uint32_t chunk = n_decoding > 0 ? sched->config.chunk_tokens : sched->config.max_step_tokens;
  for (aii_seq *seq = sched->running.head, *next; seq != NULL; seq = next) {
    uint32_t want = 1;
    if (seq->whole) want = left_to_compute(seq) <= prefill_left ? left_to_compute(seq) : 0;
    else if (!decodes(seq)) want = AII_MIN(left_to_compute(seq), AII_MIN(chunk, prefill_left));
    uint32_t rows = want > 0 ? take_room(sched, plan, seq, want) : 0;
    next = seq->state == AII_SEQ_RUNNING ? seq->next : NULL; /* preempted: it was the last */
    if (rows == 0) continue;
    if (!decodes(seq)) prefill_left -= rows;
    if (seq->first_step_ns == 0) seq->first_step_ns = now_ns;
    aii_sched_add_part(plan, (aii_plan_part){.seq = seq,
                                             .first = seq->n_computed,
                                             .n_rows = rows,
                                             .sample = !seq->embed && seq->n_computed + rows == seq->n_tokens});
  }
}

bool aii_sched_step(aii_sched *sched, uint64_t now_ns, const aii_plan **out)
{
  *out = NULL;
  if (sched->n_out > 0) return false;
  aii_plan *plan = aii_sched_fresh_plan(sched);
  admit_waiting(sched);
  plan_rows(sched, plan, now_ns);
  if (plan->n_parts == 0) return false;
  plan->moves = aii_kv_moves(sched->pool, &plan->n_moves);
  sched->n_out = 1;
  *out = plan;
  return true;
}
