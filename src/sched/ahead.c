/* ahead.c - the plan behind the one that is out: its rows are known, its tokens are not.
 *
 * While every running sequence decodes, the next plan is the same sequences, each one position on. It is made while the
 * first one runs, so that the device need not wait for the host. What the first plan's tokens change is mended later: a
 * sequence that has ended is skipped and its room given back; when somebody waits, or the cache has no spare block, there
 * is no plan ahead. One that was dropped before it began leaves its rows' room to the plan after it.
 */
#include "src/sched/state.h"

/* Whether a part is followed by another row, as far as one knows before its token. */
static bool goes_on(const aii_plan_part *part)
{
  return part->seq->doomed == AII_END_NONE && part->first + part->n_rows + 1 < part->seq->max_total;
}

/* Whether all that runs is in the plan, samples, and finds its next row without another block having to move. */
static bool can_be_followed(const aii_sched *sched, const aii_plan *plan)
{
  uint32_t opens = 0, n = 0;
  for (uint32_t i = 0; i < plan->n_parts; i++) {
    const aii_plan_part *part = &plan->parts[i];
    if (!part->sample || part->seq->awaited) return false;
    if (!goes_on(part)) continue;
    opens += part->seq->kv.n_tokens % sched->block_tokens == 0;
    n++;
  }
  return n > 0 && opens <= aii_kv_spare(sched->pool) && plan->n_parts == sched->running.n;
}

bool aii_sched_ahead(aii_sched *sched, const aii_plan **out)
{
  uint32_t from, to;
  *out = NULL;
  if (sched->n_out != 1 || sched->waiting.n > 0) return false;
  const aii_plan *before = aii_sched_plan(sched, 0);
  if (before->dropped || !can_be_followed(sched, before)) return false;
  aii_plan *plan = aii_sched_fresh_plan(sched);
  for (uint32_t i = 0; i < before->n_parts; i++) {
    const aii_plan_part *part = &before->parts[i];
    if (!goes_on(part) || aii_kv_extend(sched->pool, &part->seq->kv, 1, &from, &to) != AIINFRA_OK) continue;
    assert(from == AII_NO_BLOCK); /* what is shared was copied for the plan before */
    aii_sched_add_part(
        plan, (aii_plan_part){
                  .seq = part->seq, .first = part->first + part->n_rows, .n_rows = 1, .behind = i, .sample = true});
  }
  sched->n_out = 2;
  *out = plan;
  return true;
}

bool aii_sched_rethink(aii_sched *sched)
{
  if (sched->n_out != 2) return false;
  aii_plan *plan = aii_sched_plan(sched, 1);
  bool waste = sched->waiting.n > 0;
  for (uint32_t i = 0; i < plan->n_parts && !waste; i++)
    waste = plan->parts[i].seq->doomed == AII_END_CANCELED || plan->parts[i].seq->doomed == AII_END_TIMEOUT;
  plan->dropped = plan->dropped || waste;
  return plan->dropped;
}
