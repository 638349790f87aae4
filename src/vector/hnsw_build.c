/* hnsw_build.c - makes the graph: slots of the tail are linked into it one by one.
 *
 * Each slot has a level, drawn from a hash of its id, so that the same rows make the same graph. On each level up to
 * its own it links to m slots, and may be linked to until it has m links (2m at level 0), chosen by the neighbour
 * heuristic: a candidate is taken if it is nearer to the slot than to any neighbour taken already; what was passed
 * over fills up what room is left.
 *
 * All of this happens beside searches, under the read lock, while `build` keeps everybody else from changing links. They are
 * written one atomic number after the other: a slot's own before those that lead to it, the lowest level first. So whatever a
 * walk meets is a slot of the graph, whose links on that level are there. Only where memory for upper links has to grow is
 * the write lock taken.
 *
 * Memory for a slot's links is there before the first is written: when it runs out, the graph is as before. Locks: see
 * vector.h.
 */
#include <math.h>

#include "src/vector/graph.h"

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

/* The links of `from` with one to `to` added; when all room is taken, the heuristic chooses again. */
static void link_back(const aii_index *index, aii_scratch *s, uint32_t from, uint32_t to, uint32_t level, uint32_t *out)
{
  const uint32_t *links = aii_links_of(index, from, level);
  uint32_t room = aii_link_room(index, level), slots[AII_MOST_LINKS + 1];
  aii_step near[AII_MOST_LINKS + 1];
  float dist[AII_MOST_LINKS + 1];
  memcpy(out, links, room * sizeof *out);
  for (uint32_t i = 0; i < room; i++) {
    if (out[i] != AII_NO_SLOT) continue;
    out[i] = to;
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
  aii_graph_choose(index, s, near, room + 1, room, out);
}

bool aii_graph_has_upper(const aii_index *index, uint8_t level)
{
  return index->n_upper + (size_t)level * index->m <= index->upper_cap;
}

bool aii_graph_reserve(aii_index *index, uint32_t slot, uint8_t level)
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

/* A slot on its way into the graph. */
typedef struct insertion {
  aii_scratch *s;
  uint32_t slot, from; /* from: the highest level that others have, too */
  uint8_t level;
  bool blurred;
  uint32_t chosen[AII_MAX_LEVEL + 1][AII_MAX_M];
  uint32_t *back; /* [m][2m] the links of those chosen on one level, with one to the slot */
} insertion;

/* Which slots it links to, on all levels. Read lock held. */
static void choose(const aii_index *index, insertion *in)
{
  aii_scratch *s = in->s;
  in->from = 0;
  in->blurred = false;
  memset(in->chosen[0], 0xFF, sizeof in->chosen[0]);
  if (index->n_graph == 0) return;
  in->from = AII_MIN((uint32_t)in->level, index->top);
  s->code = aii_code_of(index, in->slot);
  aii_step at = aii_step_of(aii_code_dist_of(index, &s->code, index->entry), index->entry);
  at = aii_graph_descend(index, s, at, index->top, in->from);
  for (uint32_t l = in->from + 1; l-- > 0;) {
    aii_graph_walk(index, s, at, l, index->ef_construction);
    at = s->best[0] & ~(aii_step)1;
    aii_graph_choose(index, s, s->best, s->n_best, index->m, in->chosen[l]);
  }
  in->blurred = is_blurred(index, s, in->slot);
}

/* What those chosen link to then. Read lock held. */
static void choose_back(const aii_index *index, insertion *in, uint32_t level)
{
  const uint32_t *chosen = in->chosen[level];
  for (uint32_t i = 0; i < index->m && chosen[i] != AII_NO_SLOT; i++) {
    link_back(index, in->s, chosen[i], in->slot, level, in->back + (size_t)i * 2 * index->m);
  }
}

static void write_list(uint32_t *to, const uint32_t *from, uint32_t n)
{
  for (uint32_t i = 0; i < n; i++) __atomic_store_n(&to[i], from[i], __ATOMIC_RELEASE);
}

/* The slot has room for its links. */
static void write_links(aii_index *index, const insertion *in, uint32_t level)
{
  const uint32_t *chosen = in->chosen[level];
  uint32_t room = aii_link_room(index, level);
  write_list(aii_links_of(index, in->slot, level), chosen, index->m);
  for (uint32_t i = 0; i < index->m && chosen[i] != AII_NO_SLOT; i++) {
    write_list(aii_links_of(index, chosen[i], level), in->back + (size_t)i * 2 * index->m, room);
  }
}

/* Read lock held; the slot has room for its links. */
static void enter(aii_index *index, insertion *in)
{
  bool first = index->n_graph == 0;
  for (uint32_t l = 0; l <= in->from; l++) {
    choose_back(index, in, l);
    write_links(index, in, l);
  }
  if (first || in->level > index->top) {
    index->entry = in->slot;
    index->top = in->level;
  }
  index->n_blurred += in->blurred;
  index->n_graph++;
}

/* Read lock held; there is room for upper links. */
static bool place(aii_index *index, insertion *in)
{
  in->s = aii_scratch_take(index, index->ef_construction);
  if (in->s == NULL) return false;
  bool ok = aii_graph_reserve(index, in->slot, in->level);
  if (ok) {
    choose(index, in);
    enter(index, in);
  }
  aii_scratch_give(index, in->s);
  return ok;
}

/* Room for one more slot's upper links, for many more in fact. */
static bool grow_upper(aii_index *index, uint8_t level)
{
  (void)pthread_rwlock_wrlock(&index->lock);
  bool ok = aii_grow(index->mem, &index->upper, &index->upper_cap, index->n_upper + (size_t)level * index->m,
                     sizeof *index->upper);
  (void)pthread_rwlock_unlock(&index->lock);
  return ok;
}

/* The next slot of the tail. *more: there was one. */
static bool insert(aii_index *index, insertion *in, bool *more)
{
  bool ok = true;
  (void)pthread_rwlock_rdlock(&index->lock);
  in->slot = index->n_graph;
  *more = in->slot < index->n;
  if (*more) in->level = level_of(index, aii_block_of(index, in->slot)->ids[in->slot % AII_BLOCK_SLOTS]);
  if (*more && !aii_graph_has_upper(index, in->level)) {
    (void)pthread_rwlock_unlock(&index->lock);
    if (!grow_upper(index, in->level)) return false;
    (void)pthread_rwlock_rdlock(&index->lock);
  }
  if (*more) ok = place(index, in);
  (void)pthread_rwlock_unlock(&index->lock);
  return ok;
}

void aii_hnsw_relink(aii_index *index, aii_scratch *s, uint32_t slot)
{
  uint32_t *links = aii_links_of(index, slot, 0), chosen[AII_MAX_M], back[AII_MOST_LINKS];
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
    link_back(index, s, chosen[i], slot, 0, back);
    memcpy(aii_links_of(index, chosen[i], 0), back, 2 * index->m * sizeof *back);
  }
}

bool aii_hnsw_build(aii_index *index, uint32_t max)
{
  insertion in;
  bool more = true;
  if (pthread_mutex_trylock(&index->build) != 0) return true;
  size_t n_back = (size_t)2 * index->m * index->m;
  in.back = aii_new_array(index->mem, n_back, sizeof *in.back);
  bool ok = in.back != NULL;
  for (; ok && more && max > 0; max--) ok = insert(index, &in, &more);
  aii_del(index->mem, in.back, n_back * sizeof *in.back);
  (void)pthread_mutex_unlock(&index->build);
  return ok;
}
