/* hnsw_build.c - makes the graph: slots of the tail are linked into it one by one.
 *
 * Each slot has a level, drawn from a hash of its id, so that the same rows make the same graph. On each level up to
 * its own it links to m slots, and may be linked to until it has m links (2m at level 0), chosen by the neighbour
 * heuristic: a candidate is taken if it is nearer to the slot than to any neighbour taken already; what was passed
 * over fills up what room is left.
 *
 * Memory for a slot's links is there before the first is written: when it runs out, the graph is as before. The write
 * lock is held for a few slots at a time, so that searches get their turn. Locks: see vector.h.
 */
#include <math.h>

#include "src/vector/graph.h"

enum { SLOTS_PER_LOCK = 8 };

static uint8_t level_of(const aii_index *index, int64_t id)
{
  uint64_t hash = aii_hash64(&id, sizeof id, index->m);
  double u = ((double)(hash >> 11) + 1) * 0x1.0p-53; /* (0, 1] */
  double level = -log(u) / log((double)index->m);
  return (uint8_t)AII_MIN(level, (double)AII_MAX_LEVEL);
}

/* No slot of taken[0..n) is nearer to the candidate than `dist`; in fours, as one that is nearer is often among the
 * first. */
static bool is_diverse(const aii_index *index, aii_scratch *s, uint32_t candidate, float dist, const uint32_t *taken,
                       uint32_t n)
{
  enum { AT_ONCE = 4 };
  float apart[AT_ONCE];
  aii_code code = aii_code_of(index, candidate);
  for (uint32_t from = 0; from < n; from += AT_ONCE) {
    uint32_t some = AII_MIN((uint32_t)AT_ONCE, n - from);
    aii_graph_distances(index, s, &code, taken + from, some, apart);
    for (uint32_t i = 0; i < some; i++) {
      if (apart[i] < dist) return false;
    }
  }
  return true;
}

void aii_graph_choose(const aii_index *index, aii_scratch *s, const aii_step *candidates, size_t n, uint32_t room,
                      uint32_t *out)
{
  uint32_t passed[AII_MOST_LINKS], n_passed = 0, n_out = 0;
  for (size_t i = 0; i < n && n_out < room; i++) {
    uint32_t slot = aii_step_slot(candidates[i]);
    if (is_diverse(index, s, slot, aii_step_dist(candidates[i]), out, n_out)) out[n_out++] = slot;
    else if (n_passed < AII_MOST_LINKS) passed[n_passed++] = slot;
  }
  for (uint32_t i = 0; i < n_passed && n_out < room; i++) out[n_out++] = passed[i];
  while (n_out < room) out[n_out++] = AII_NO_SLOT;
}

/* Adds the link from -> to; when all room is taken, the heuristic chooses again. */
static void link_back(aii_index *index, aii_scratch *s, uint32_t from, uint32_t to, uint32_t level)
{
  uint32_t *links = aii_links_of(index, from, level), room = aii_link_room(index, level), slots[AII_MOST_LINKS + 1];
  aii_step near[AII_MOST_LINKS + 1];
  float dist[AII_MOST_LINKS + 1];
  for (uint32_t i = 0; i < room; i++) {
    if (links[i] != AII_NO_SLOT) continue;
    links[i] = to;
    return;
  }
  memcpy(slots, links, room * sizeof *slots);
  aii_code code = aii_code_of(index, from);
  aii_graph_distances(index, s, &code, slots, room, dist);
  dist[room] = aii_code_dist_of(index, &code, to);
  slots[room] = to;
  for (uint32_t i = 0; i <= room; i++) {
    aii_step step = aii_step_of(dist[i], slots[i]);
    uint32_t at = i;
    for (; at > 0 && near[at - 1] > step; at--) near[at] = near[at - 1];
    near[at] = step;
  }
  aii_graph_choose(index, s, near, room + 1, room, links);
}

/* Memory for a slot's links, so that nothing can fail afterwards. */
static bool reserve_links(aii_index *index, uint32_t slot, uint8_t level)
{
  aii_block *block = aii_block_of(index, slot);
  uint32_t at = slot % AII_BLOCK_SLOTS;
  size_t want = (size_t)level * index->m, bytes = (size_t)AII_BLOCK_SLOTS * 2 * index->m * sizeof(uint32_t);
  if (block->links0 == NULL) {
    block->links0 = aii_new_aligned(index->mem, bytes);
    if (block->links0 == NULL) return false;
    memset(block->links0, 0xFF, bytes);
  }
  memset(block->links0 + (size_t)at * 2 * index->m, 0xFF, 2 * index->m * sizeof(uint32_t));
  if (level == 0 || block->level[at] != 0) return true;
  if (index->n_upper + want > UINT32_MAX) return false;
  if (!aii_grow(index->mem, &index->upper, &index->upper_cap, index->n_upper + want, sizeof *index->upper))
    return false;
  memset(index->upper + index->n_upper, 0xFF, want * sizeof *index->upper);
  block->upper[at] = (uint32_t)index->n_upper;
  block->level[at] = level;
  index->n_upper += want;
  return true;
}

/* Codes are too coarse for a slot when its nearest neighbour, not the same vector, is within what they leave out. */
static bool is_blurred(const aii_index *index, const aii_scratch *s, uint32_t slot)
{
  uint32_t near = aii_step_slot(s->best[0]);
  const aii_block *a = aii_block_of(index, slot), *b = aii_block_of(index, near);
  uint32_t i = slot % AII_BLOCK_SLOTS, j = near % AII_BLOCK_SLOTS;
  float dist = aii_step_dist(s->best[0]), squares = a->scale[i] * a->scale[i] + b->scale[j] * b->scale[j];
  bool same = a->scale[i] == b->scale[j] && a->error[i] == b->error[j] && a->sum[i] == b->sum[j];
  if (index->metric != AIINFRA_METRIC_L2) dist = 2 * dist + a->norm[i] + b->norm[j]; /* that of L2 */
  return !same && !(dist > squares * (float)index->dims / 12);
}

/* Computes and writes the links of one slot. false: no memory; the graph is as before. */
static bool insert(aii_index *index, aii_scratch *s, uint32_t slot)
{
  uint32_t chosen[AII_MAX_LEVEL + 1][AII_MAX_M];
  uint8_t level = level_of(index, aii_block_of(index, slot)->ids[slot % AII_BLOCK_SLOTS]);
  if (!reserve_links(index, slot, level)) return false;
  if (index->n_graph == 0) {
    index->entry = slot;
    index->top = level;
    return true;
  }
  s->code = aii_code_of(index, slot);
  uint32_t from = AII_MIN((uint32_t)level, index->top);
  aii_step at = aii_step_of(aii_code_dist_of(index, &s->code, index->entry), index->entry);
  at = aii_graph_descend(index, s, at, index->top, from);
  for (uint32_t l = from + 1; l-- > 0;) {
    aii_graph_walk(index, s, at, l, index->ef_construction);
    at = s->best[0] & ~(aii_step)1;
    aii_graph_choose(index, s, s->best, s->n_best, index->m, chosen[l]);
  }
  index->n_blurred += is_blurred(index, s, slot);
  for (uint32_t l = 0; l <= from; l++) {
    memcpy(aii_links_of(index, slot, l), chosen[l], index->m * sizeof **chosen);
    for (uint32_t i = 0; i < index->m && chosen[l][i] != AII_NO_SLOT; i++) link_back(index, s, chosen[l][i], slot, l);
  }
  if (level > index->top) {
    index->entry = slot;
    index->top = level;
  }
  return true;
}

void aii_hnsw_relink(aii_index *index, aii_scratch *s, uint32_t slot)
{
  uint32_t *links = aii_links_of(index, slot, 0), chosen[AII_MAX_M];
  s->code = aii_code_of(index, slot);
  aii_step at = aii_step_of(aii_code_dist_of(index, &s->code, index->entry), index->entry);
  at = aii_graph_descend(index, s, at, index->top, 0);
  aii_graph_walk(index, s, at, 0, index->ef_construction);
  aii_graph_choose(index, s, s->best, s->n_best, index->m, chosen);
  memset(links, 0xFF, 2 * index->m * sizeof *links);
  uint32_t n = 0;
  for (uint32_t i = 0; i < index->m && chosen[i] != AII_NO_SLOT; i++) {
    if (chosen[i] == slot) continue;
    links[n++] = chosen[i];
    link_back(index, s, chosen[i], slot, 0);
  }
}

bool aii_hnsw_build(aii_index *index, uint32_t max)
{
  bool ok = true, more = true;
  if (pthread_mutex_trylock(&index->build) != 0) return true;
  while (ok && more && max > 0) {
    (void)pthread_rwlock_wrlock(&index->lock);
    more = index->n_graph < index->n;
    aii_scratch *s = more ? aii_scratch_take(index, index->ef_construction) : NULL;
    ok = !more || s != NULL;
    for (uint32_t i = 0; s != NULL && ok && i < SLOTS_PER_LOCK && max > 0 && index->n_graph < index->n; i++, max--) {
      ok = insert(index, s, index->n_graph);
      if (ok) index->n_graph++;
    }
    if (s != NULL) aii_scratch_give(index, s);
    (void)pthread_rwlock_unlock(&index->lock);
  }
  (void)pthread_mutex_unlock(&index->build);
  return ok;
}
