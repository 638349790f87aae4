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
  aii_plan plan;
  bool plan_out;
  bool head_blocked; /* the first waiting one did not fit, and no block has come back since */
  uint64_t next_order, preemptions;
};

/* Moves a sequence to the list of its next state; refuses what the table does not allow. */
void aii_sched_move(aii_sched *sched, aii_seq *seq, aii_seq_state to);
/* Ends a waiting or running sequence now. */
void aii_sched_end(aii_sched *sched, aii_seq *seq, aii_seq_end end);
/* Sends a running sequence, of which no part is planned, back to the queue. */
void aii_sched_preempt(aii_sched *sched, aii_seq *seq);
uint32_t aii_sched_blocks_of(const aii_sched *sched, uint32_t n_tokens);

#endif
