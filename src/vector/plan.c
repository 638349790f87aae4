/* plan.c - how the vectors of a query are searched, chosen by exact counts, and the search itself.
 *
 *   exact            compare with every slot that passes: small collections, selective filters, whenever asked for
 *   graph            the whole graph is walked, what does not pass is not collected: filters that hide little
 *   filtered graph   only passing slots are walked: filters that hide most, but leave too many to compare them all
 *
 * Slots behind the graph are always compared. When the graph led to fewer than there are, all that pass are compared
 * after all: a result is never shorter than min(k, passing). Index locked for reading.
 */
#include "src/vector/vector.h"

/* Where the plans cross, measured with tests/bench/bench_filter.c. */
enum { SELECTIVE_PART = 10, HIDING_PERCENT = 40, FEW_ROWS = 4096 };
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
  bool hides = (uint64_t)passing * 100 < (uint64_t)live * HIDING_PERCENT;
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
  else if (mode != AIINFRA_SEARCH_GRAPH && (uint64_t)passing <= (uint64_t)4 * ef * index->m)
    choose(plan, AII_PLAN_EXACT, "a walk would see as many rows as pass");
  else if (mask->bits != NULL && hides) {
    choose(plan, AII_PLAN_FILTERED, "most rows are hidden by the filter");
    plan->ef = ef > UINT32_MAX / 2 ? ef : 2 * ef; /* what correlates with the vectors is found with more candidates */
  } else choose(plan, AII_PLAN_GRAPH, mask->bits == NULL ? "no filter" : "the filter hides few rows");
}

bool aii_searchplan_run(aii_index *index, const float *query, const aii_mask *mask, aii_searchplan *plan, size_t cap,
                        aii_finds *finds)
{
  finds->n = 0;
  if (plan->kind != AII_PLAN_EXACT) {
    aii_walk how = {.allow = mask->bits, .ef = plan->ef, .passing_alone = plan->kind == AII_PLAN_FILTERED};
    if (!aii_hnsw_search(index, query, &how, cap, finds)) return false;
    plan->n_scanned += how.n_scanned;
    if (!aii_index_scan(index, query, mask->bits, how.n_graph, cap, finds, &plan->n_scanned)) return false;
    if (finds->n >= AII_MIN(cap, (size_t)mask->n_passing)) return true;
    choose(plan, AII_PLAN_EXACT, "the graph led to fewer rows than there are");
    finds->n = 0;
  }
  return aii_index_scan(index, query, mask->bits, 0, cap, finds, &plan->n_scanned);
}
