/* plan.c - how the vectors of a query are searched, chosen by exact counts, and the search itself.
 *
 *   exact            compare with every slot that passes: small collections, selective filters, whenever asked for
 *   graph            the whole graph is walked, what does not pass is not collected
 *   filtered graph   only passing slots are walked
 *
 * Counts choose between exact and graph; the walk itself, by what it meets near the query, between graph and filtered
 * graph (hnsw_filtered.c). All that pass are compared after all when the walk says that they lie elsewhere, when it came
 * to cost as much, and when it led to fewer than there are: a result is never shorter than min(k, passing). Slots behind
 * the graph are always compared. Index locked for reading.
 */
#include "src/vector/vector.h"

/* Where the plans cross, measured with tests/bench/bench_filter_plans.c: a scan compares two to five rows in the time of
 * one step of a walk, which takes some ef * m steps, and with a filter twice as many. Below a 20th of the rows a walk
 * among those that pass loses its way; below a 10th it keeps it with twice the candidates. */
enum { SELECTIVE_PART = 20, HIDING_PART = 10, STEP_ROWS = 2, FEW_ROWS = 4096 };
/* A graph where codes cannot tell so many slots from their neighbours leads anywhere. */
enum { BLURRED_PART = 10 };

static const char *const NAMES[] = {"exact", "graph", "filtered graph"};

const char *aii_searchplan_name(const aii_searchplan *plan)
{
  return NAMES[plan->kind];
}

static void choose(aii_searchplan *plan, aii_searchplan_kind kind, const char *why)
{
  plan->kind = kind;
  plan->why = why;
}

void aii_searchplan_choose(const aii_index *index, int32_t mode, uint32_t ef, const aii_mask *mask,
                           aii_searchplan *plan)
{
  uint32_t live = index->n - index->n_dead, passing = mask->n_passing;
  plan->budget = mask->bits != NULL && mode != AIINFRA_SEARCH_GRAPH ? passing / STEP_ROWS + 1 : 0;
  plan->ef = ef;
  if (mode == AIINFRA_SEARCH_EXACT) choose(plan, AII_PLAN_EXACT, "asked for");
  else if (index->n_graph == 0) choose(plan, AII_PLAN_EXACT, "the collection is small: there is no graph");
  else if (mode != AIINFRA_SEARCH_GRAPH && index->n_graph < index->n / 2)
    choose(plan, AII_PLAN_EXACT, "less than half of the rows are in the graph yet");
  else if (mode != AIINFRA_SEARCH_GRAPH && index->n_blurred > index->n_graph / BLURRED_PART)
    choose(plan, AII_PLAN_EXACT, "8 bits are too coarse for these vectors");
  else if (mode != AIINFRA_SEARCH_GRAPH && passing <= live / SELECTIVE_PART)
    choose(plan, AII_PLAN_EXACT, "few rows pass");
  else if (mode != AIINFRA_SEARCH_GRAPH && mask->bits != NULL && passing <= FEW_ROWS)
    choose(plan, AII_PLAN_EXACT, "few rows pass");
  else if (mode != AIINFRA_SEARCH_GRAPH && passing <= (mask->bits == NULL ? (uint64_t)4 : (uint64_t)8) * ef * index->m)
    choose(plan, AII_PLAN_EXACT, "a walk would cost as much as comparing all that pass");
  else {
    choose(plan, AII_PLAN_GRAPH, mask->bits == NULL ? "no filter" : "asked for"); /* a walk will say more */
    if (mask->bits != NULL && passing < live / HIDING_PART && ef <= UINT32_MAX / 2) plan->ef = 2 * ef;
  }
}

/* Tells the plan how the walk went. false: what it found is of no use. */
static bool judge(aii_searchplan *plan, const aii_walk *how)
{
  plan->n_scanned += how->n_scanned;
  if (how->allow == NULL) return true;
  if (how->way == AII_WALK_FAR) choose(plan, AII_PLAN_EXACT, "the rows that pass lie far from the query");
  else if (how->spent) choose(plan, AII_PLAN_EXACT, "a walk came to cost as much as comparing all that pass");
  else if (how->way == AII_WALK_AMONG) choose(plan, AII_PLAN_FILTERED, "the filter hides most rows near the query");
  else choose(plan, AII_PLAN_GRAPH, "the filter hides few rows near the query");
  return plan->kind != AII_PLAN_EXACT;
}

bool aii_searchplan_run(aii_index *index, const float *query, const aii_mask *mask, aii_searchplan *plan, size_t cap,
                        aii_finds *finds)
{
  finds->n = 0;
  if (plan->kind != AII_PLAN_EXACT) {
    aii_walk how = {.allow = mask->bits, .ef = plan->ef, .n_allowed = mask->n_passing, .budget = plan->budget};
    if (!aii_hnsw_search(index, query, &how, cap, finds)) return false;
    bool done = judge(plan, &how);
    if (done && !aii_index_scan(index, query, mask->bits, how.n_graph, cap, finds, &plan->n_scanned)) return false;
    if (done && finds->n >= AII_MIN(cap, (size_t)mask->n_passing)) return true;
    if (done) choose(plan, AII_PLAN_EXACT, "the graph led to fewer rows than there are");
    finds->n = 0;
  }
  return aii_index_scan(index, query, mask->bits, 0, cap, finds, &plan->n_scanned);
}
