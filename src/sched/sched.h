/* src/sched/sched.h - the batcher's brain: pure logic, no clock, no threads, no device.
 *
 * aii_sched_step(now) decides which rows the next forward pass computes; the caller runs it (a worker, or a simulator
 * that makes tokens from a seed) and hands back what was sampled with aii_sched_complete(). While that plan is out,
 * aii_sched_ahead() may make the one behind it, whose tokens are those that the first one samples: then the caller need not
 * wait between them. At most two plans are out, and they complete in their order.
 *
 *   submit ──> WAITING ──step──> RUNNING (prefill chunks, then one token a step) ──> FINISHED
 *                 ^                 │
 *                 └── preempted ────┘  blocks ran out: the youngest, least important one recomputes later
 *
 * Invariants:
 *  1. A running sequence has one row a step when it decodes, a chunk of its prompt when it does not.
 *  2. Rows in a plan <= max_step_tokens; decode rows are reserved first, so that prefill never stalls them.
 *  3. Every submitted sequence finishes exactly once: the caller learns it from aii_sched_finished().
 *  4. A sequence whose longest length cannot ever fit the cache is refused at submission.
 *  5. Lists are ordered by importance: priority, then age. Blocks are handed out in that order and taken back from the
 *     end, so that the most important sequence always gets a row.
 *  6. Waiting and running sequences together are at most max_queue + max_running.
 *  7. A sequence gives its blocks back when no plan that has a part of it is out.
 * Loop thread only.
 */
#ifndef AII_SCHED_H
#define AII_SCHED_H

#include "lib/base/base.h"
#include "src/kv/kv.h"

typedef struct aii_sched aii_sched;

typedef struct aii_sched_config {
  uint32_t max_running, max_queue, max_step_tokens; /* none is 0; max_running <= max_step_tokens */
  uint32_t chunk_tokens; /* prompt tokens of one sequence in one step while others decode; 0: max_step_tokens */
} aii_sched_config;

typedef enum aii_seq_state { AII_SEQ_NEW = 0, AII_SEQ_WAITING, AII_SEQ_RUNNING, AII_SEQ_FINISHED } aii_seq_state;

typedef enum aii_seq_end {
  AII_END_NONE = 0,
  AII_END_STOP,   /* the caller said so in complete(), or an embedding has all of its rows */
  AII_END_LENGTH, /* max_total is reached */
  AII_END_CANCELED,
  AII_END_TIMEOUT,
  AII_END_ERROR
} aii_seq_end;

/* A sequence; embedded in the caller's request. The caller sets the first part before submit and zeroes the rest. */
typedef struct aii_seq {
  aiinfra_token *tokens; /* prompt, then generated ones; the caller's, who keeps room for one more than n_tokens */
  uint32_t n_prompt, max_total; /* longest length, prompt included */
  int32_t priority;
  uint64_t deadline_ns; /* absolute; 0: none */
  uint64_t salt;
  bool embed;    /* every prompt row's hidden state is wanted, nothing is sampled */
  bool whole;    /* its rows are computed in one step or not at all */
  bool no_cache; /* do not look up or publish prefixes (embeddings compute every row) */
  bool awaited;  /* the caller must see each token before the next one is computed: no part in a plan ahead */
  /* kept by the scheduler, read by the caller */
  aii_kv_seq kv;
  aii_seq_state state;
  aii_seq_end end;
  uint32_t n_tokens;   /* in `tokens` */
  uint32_t n_computed; /* of these, in the cache */
  uint32_t n_cached;   /* prompt tokens found in the prefix tree at the first admission */
  uint64_t submitted_ns, first_step_ns, first_token_ns;
  uint64_t order;     /* of submission */
  aii_seq_end doomed; /* ends so when the plans that are out have completed; AII_END_NONE: goes on */
  uint32_t n_out;     /* plans that are out and have a part of it */
  struct aii_seq *prev, *next;
} aii_seq;

/* One sequence's part of a plan: rows tokens[first .. first + n_rows). In a plan ahead it is one row, whose token is what
 * the part `behind` of the plan before samples. */
typedef struct aii_plan_part {
  aii_seq *seq;
  uint32_t first, n_rows;
  uint32_t behind;
  bool sample; /* the last row's logits are wanted */
} aii_plan_part;

typedef struct aii_plan_copy {
  uint32_t from, to;
} aii_plan_copy;

typedef struct aii_plan {
  aii_plan_part *parts; /* [n_parts], most important first; owned by the scheduler until complete() */
  uint32_t n_parts, n_rows;
  const aii_kv_move *moves; /* between blocks and the second tier, to do first, in this order */
  aii_plan_copy *copies;    /* block copies to do then */
  uint32_t n_moves, n_copies;
  bool ahead, dropped; /* made by aii_sched_ahead(); aii_sched_rethink() was true for it */
} aii_plan;

/* What came of a part, in the plan's order. */
typedef struct aii_plan_result {
  aiinfra_token token; /* when the part sampled */
  bool stop;           /* the sequence ends with (and including) this token */
  bool failed;         /* the sequence ends with AII_END_ERROR; nothing of this step is kept */
  bool skipped; /* of a plan ahead: nothing was computed, because the sequence had ended or the plan was not wanted */
} aii_plan_result;

aiinfra_status aii_sched_create(aii_mem *mem, const aii_sched_config *config, aii_kv_pool *pool, aii_sched **out,
                                aiinfra_error *err);
void aii_sched_free(aii_sched *sched); /* no sequence may be left; NULL is allowed */
/* EBUSY: the queue is full. EINVAL: can never fit the cache. ENOMEM. On failure the sequence is as before. */
aiinfra_status aii_sched_submit(aii_sched *sched, aii_seq *seq, uint64_t now_ns, aiinfra_error *err);
/* True when there is something to run; the plan stays valid until complete(). False while one is out. */
bool aii_sched_step(aii_sched *sched, uint64_t now_ns, const aii_plan **plan);
/* True when the plan that is out, if there is just one, can be followed without knowing its tokens: all that runs samples in
 * it, nobody waits, and the blocks are there. The caller runs it right behind that one. Sequences that will have ended are
 * skipped. */
bool aii_sched_ahead(aii_sched *sched, const aii_plan **plan);
/* True when the plan ahead is no longer worth running, because somebody waits or a sequence in it was told to end. The caller
 * skips it if it has not begun; nothing is planned behind it. */
bool aii_sched_rethink(aii_sched *sched);
/* Ends the older plan that is out. Sequences that finished are handed to the caller through aii_sched_finished(). */
void aii_sched_complete(aii_sched *sched, const aii_plan_result *results, uint64_t now_ns);
/* While a plan is out, the older one, whose moves failed, so that nobody knows what the cache holds: every running sequence ends with
 * AII_END_ERROR when it completes, and no prefix is found again. */
void aii_sched_lost(aii_sched *sched);
/* Takes the next finished sequence off the list, or NULL; its blocks are given back. */
aii_seq *aii_sched_finished(aii_sched *sched);
/* Asks a sequence to end: with the plans that are out when it runs, at once otherwise. */
void aii_sched_cancel(aii_sched *sched, aii_seq *seq);
/* Ends what is past its deadline; returns the next deadline, 0 for none. */
uint64_t aii_sched_expire(aii_sched *sched, uint64_t now_ns);
uint32_t aii_sched_n_running(const aii_sched *sched);
uint32_t aii_sched_n_waiting(const aii_sched *sched);
uint64_t aii_sched_preemptions(const aii_sched *sched);
bool aii_sched_check(const aii_sched *sched); /* the invariants, for tests: true when they hold */

#endif
