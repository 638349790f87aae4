/* src/sched/state.h - the scheduler's insides, shared by its files: who may be in which state, and the lists. */
#ifndef AII_SCHED_STATE_H
#define AII_SCHED_STATE_H

#include "src/sched/list.h"
#include "src/sched/sched.h"

struct aii_sched {
  aii_mem *mem;
  aii_sched_config config;
  aii_kv_pool *pool;
  uint32_t n_blocks, block_tokens;
  aii_seq_list waiting, running, finished;
  aii_plan plans[2]; /* one behind the other */
  uint32_t oldest;   /* of them that is out */
  uint32_t n_out;
  bool head_blocked; /* the first waiting one did not fit, and no block has come back since */
  uint64_t next_order, preemptions;
};

static inline aii_plan *aii_sched_plan(aii_sched *sched, uint32_t behind)
{
  return &sched->plans[(sched->oldest + behind) % AII_COUNT(sched->plans)];
}

/* An empty plan behind those that are out, and another part for it. */
static inline aii_plan *aii_sched_fresh_plan(aii_sched *sched)
{
  aii_plan *plan = aii_sched_plan(sched, sched->n_out);
  *plan = (aii_plan){.parts = plan->parts, .copies = plan->copies, .ahead = sched->n_out > 0};
  return plan;
}

static inline void aii_sched_add_part(aii_plan *plan, aii_plan_part part)
{
  part.seq->n_out++;
  plan->parts[plan->n_parts++] = part;
  plan->n_rows += part.n_rows;
}

/* Moves a sequence to the list of its next state; refuses what the table does not allow. */
void aii_sched_move(aii_sched *sched, aii_seq *seq, aii_seq_state to);
/* Ends a waiting or running sequence now. */
void aii_sched_end(aii_sched *sched, aii_seq *seq, aii_seq_end end);
/* Sends a running sequence, of which no part is planned, back to the queue. */
void aii_sched_preempt(aii_sched *sched, aii_seq *seq);
uint32_t aii_sched_blocks_of(const aii_sched *sched, uint32_t n_tokens);

#endif
