/* hnsw.c - the graph over a collection's vectors: hierarchical navigable small worlds (Malkov and Yashunin, 2016).
 *
 * Each slot has a level, drawn from a hash of its id, so that the same rows make the same graph. On each level up to
 * its own it links to m slots (2m at level 0), chosen by the neighbour heuristic: a candidate is taken if it is nearer
 * to the slot than to any neighbour taken already; what was passed over fills up what room is left.
 *
 * A search walks greedily down the upper levels, then keeps the ef nearest at level 0. Dead slots and slots that a
 * filter hides are walked through, but not found. Where a filter hides most of them, a search may walk over passing
 * slots alone, from several of them at once, and looks behind hidden neighbours for passing ones (as ACORN-1 does).
 *
 * Building computes all links of a slot before it writes the first one: when memory runs out, the graph is as before.
 * It holds the write lock for a few slots at a time, so that searches get their turn. Locks: see vector.h.
 */
#include <math.h>

#include "src/vector/vector.h"

enum { SLOTS_PER_LOCK = 8, EF_MAX_LINKS = 2 * AII_MAX_M + 1 };
enum { FILTERED_ENTRIES = 16 }; /* passing slots, far apart, that a filtered walk begins at beside the usual one */

/* What one search needs, reused by the next. */
struct aii_scratch {
  aii_scratch *next;
  uint32_t *seen; /* [n_seen] the mark of the last search that saw a slot */
  size_t n_seen;
  uint32_t mark;
  aii_near *todo; /* min-heap of slots to expand */
  size_t n_todo, todo_cap;
  aii_near *best; /* max-heap of the ef nearest */
  size_t n_best, best_cap;
  uint64_t n_scanned; /* distances computed */
};

static uint32_t *links_of(const aii_index *index, uint32_t slot, uint32_t level)
{
  aii_block *block = aii_block_of(index, slot);
  uint32_t at = slot % AII_BLOCK_SLOTS;
  if (level == 0) return block->links0 + (size_t)at * (1 + 2 * index->m);
  return block->upper[at] + (size_t)(level - 1) * (1 + index->m);
}

static uint32_t room_at(const aii_index *index, uint32_t level)
{
  return level == 0 ? 2 * index->m : index->m;
}

static uint8_t level_of(const aii_index *index, int64_t id)
{
  uint64_t hash = aii_hash64(&id, sizeof id, index->m);
  double u = ((double)(hash >> 11) + 1) * 0x1.0p-53; /* (0, 1] */
  double level = -log(u) / log((double)index->m);
  return (uint8_t)AII_MIN(level, (double)AII_MAX_LEVEL);
}

/* ---- scratch --------------------------------------------------------------------------------------------------- */

static void free_scratch(aii_mem *mem, aii_scratch *s)
{
  aii_del(mem, s->seen, s->n_seen * sizeof *s->seen);
  aii_del(mem, s->todo, s->todo_cap * sizeof *s->todo);
  aii_del(mem, s->best, s->best_cap * sizeof *s->best);
  aii_del(mem, s, sizeof *s);
}

static void give_scratch(aii_index *index, aii_scratch *s)
{
  (void)pthread_mutex_lock(&index->pool);
  s->next = index->scratch;
  index->scratch = s;
  (void)pthread_mutex_unlock(&index->pool);
}

/* Makes room for `ef` results over the present slots. */
static bool fit(aii_index *index, aii_scratch *s, size_t ef)
{
  size_t want = index->n_blocks * AII_BLOCK_SLOTS;
  if (s->n_seen < want) {
    uint32_t *seen = aii_new_array(index->mem, want, sizeof *seen);
    if (seen == NULL) return false;
    aii_del(index->mem, s->seen, s->n_seen * sizeof *s->seen);
    s->seen = seen;
    s->n_seen = want;
    s->mark = 0;
  }
  return aii_grow(index->mem, &s->best, &s->best_cap, ef, sizeof *s->best);
}

static aii_scratch *take_scratch(aii_index *index, size_t ef)
{
  (void)pthread_mutex_lock(&index->pool);
  aii_scratch *s = index->scratch;
  if (s != NULL) index->scratch = s->next;
  (void)pthread_mutex_unlock(&index->pool);
  if (s == NULL) s = aii_new(index->mem, sizeof *s);
  if (s == NULL) return NULL;
  if (fit(index, s, ef)) return s;
  free_scratch(index->mem, s);
  return NULL;
}

static void new_mark(aii_scratch *s)
{
  if (s->mark == UINT32_MAX) {
    memset(s->seen, 0, s->n_seen * sizeof *s->seen);
    s->mark = 0;
  }
  s->mark++;
}

void aii_hnsw_free(aii_index *index)
{
  for (aii_scratch *s = index->scratch, *next; s != NULL; s = next) {
    next = s->next;
    free_scratch(index->mem, s);
  }
  index->scratch = NULL;
  for (uint32_t slot = 0; slot < index->n; slot++) {
    aii_block *block = aii_block_of(index, slot);
    uint32_t at = slot % AII_BLOCK_SLOTS;
    aii_del(index->mem, block->upper[at], (size_t)block->level[at] * (1 + index->m) * sizeof(uint32_t));
    block->upper[at] = NULL;
  }
}

/* ---- walking --------------------------------------------------------------------------------------------------- */

static aii_near near_of(const aii_index *index, const float *query, uint32_t slot)
{
  aii_near item = {.dist = aii_index_dist(index, query, slot), .slot = slot};
  item.id = aii_block_of(index, slot)->ids[slot % AII_BLOCK_SLOTS];
  return item;
}

/* The nearest slot that greedy steps on the levels from..to (exclusive, downward) lead to. */
static aii_near descend(const aii_index *index, const float *query, aii_near at, uint32_t from, uint32_t to)
{
  for (uint32_t level = from; level > to; level--) {
    bool moved;
    do {
      const uint32_t *links = links_of(index, at.slot, level);
      moved = false;
      for (uint32_t i = 1; i <= links[0]; i++) {
        aii_near next = near_of(index, query, links[i]);
        if (!aii_near_before(&next, &at)) continue;
        at = next;
        moved = true;
      }
    } while (moved);
  }
  return at;
}

/* A slot met for the first time: worth expanding when it is nearer than the worst result or results are few. */
static bool meet(const aii_index *index, aii_scratch *s, aii_near item, size_t ef, bool found)
{
  if (s->n_best == ef && !aii_near_before(&item, &s->best[0])) return true;
  if (!aii_grow(index->mem, &s->todo, &s->todo_cap, s->n_todo + 1, sizeof *s->todo)) return false;
  aii_near_push(s->todo, &s->n_todo, item);
  if (found) aii_near_offer(s->best, &s->n_best, ef, item);
  return true;
}

/* Whether a search may find the slot: alive and allowed. While building every slot counts. */
static bool finds(const aii_index *index, const uint64_t *allow, bool building, uint32_t slot)
{
  if (building) return true;
  return !aii_block_of(index, slot)->dead[slot % AII_BLOCK_SLOTS] && (allow == NULL || aii_bit(allow, slot));
}

/* Fills s->best with the ef nearest that a walk from `entry` on one level finds. */
static bool walk(const aii_index *index, aii_scratch *s, const float *query, aii_near entry, uint32_t level, size_t ef,
                 const uint64_t *allow, bool building)
{
  new_mark(s);
  s->n_todo = s->n_best = 0;
  s->seen[entry.slot] = s->mark;
  if (!meet(index, s, entry, ef, finds(index, allow, building, entry.slot))) return false;
  while (s->n_todo > 0) {
    aii_near next = aii_near_pop(s->todo, &s->n_todo);
    if (s->n_best == ef && aii_near_before(&s->best[0], &next)) break;
    const uint32_t *links = links_of(index, next.slot, level);
    for (uint32_t i = 1; i <= links[0]; i++) {
      if (i < links[0]) __builtin_prefetch(aii_vector_of(index, links[i + 1]));
      if (s->seen[links[i]] == s->mark) continue;
      s->seen[links[i]] = s->mark;
      s->n_scanned++;
      if (!meet(index, s, near_of(index, query, links[i]), ef, finds(index, allow, building, links[i]))) return false;
    }
  }
  return true;
}

/* Meets a passing slot; one that was seen before, or does not pass, is nothing. */
static bool meet_passing(const aii_index *index, aii_scratch *s, const float *query, uint32_t slot, size_t ef,
                         const uint64_t *allow)
{
  if (s->seen[slot] == s->mark || !aii_bit(allow, slot)) return true;
  s->seen[slot] = s->mark;
  s->n_scanned++;
  return meet(index, s, near_of(index, query, slot), ef, true);
}

/* The entry of the graph, and passing slots spread over it. */
static bool enter_filtered(const aii_index *index, aii_scratch *s, const float *query, aii_near entry, size_t ef,
                           const uint64_t *allow)
{
  uint32_t n_words = (index->n_graph + 63) / 64;
  s->seen[entry.slot] = s->mark;
  bool ok = meet(index, s, entry, ef, finds(index, allow, false, entry.slot));
  for (uint32_t i = 0; ok && i < FILTERED_ENTRIES; i++) {
    uint32_t w = (uint32_t)((uint64_t)n_words * i / FILTERED_ENTRIES);
    uint32_t end = (uint32_t)((uint64_t)n_words * (i + 1) / FILTERED_ENTRIES);
    while (w < end && allow[w] == 0) w++;
    if (w == end) continue;
    uint32_t slot = w * 64 + (uint32_t)__builtin_ctzll(allow[w]);
    if (slot < index->n_graph) ok = meet_passing(index, s, query, slot, ef, allow);
  }
  return ok;
}

/* As walk() at level 0, over passing slots alone: a hidden neighbour is replaced by its passing neighbours. */
static bool walk_filtered(const aii_index *index, aii_scratch *s, const float *query, aii_near entry, size_t ef,
                          const uint64_t *allow)
{
  new_mark(s);
  s->n_todo = s->n_best = 0;
  bool ok = enter_filtered(index, s, query, entry, ef, allow);
  while (ok && s->n_todo > 0) {
    aii_near next = aii_near_pop(s->todo, &s->n_todo);
    if (s->n_best == ef && aii_near_before(&s->best[0], &next)) break;
    const uint32_t *links = links_of(index, next.slot, 0);
    for (uint32_t i = 1; ok && i <= links[0]; i++) {
      if (s->seen[links[i]] == s->mark) continue;
      if (aii_bit(allow, links[i])) {
        ok = meet_passing(index, s, query, links[i], ef, allow);
        continue;
      }
      s->seen[links[i]] = s->mark;
      const uint32_t *behind = links_of(index, links[i], 0);
      for (uint32_t j = 1; ok && j <= behind[0]; j++) ok = meet_passing(index, s, query, behind[j], ef, allow);
    }
  }
  return ok;
}

bool aii_hnsw_search(aii_index *index, const float *query, aii_walk *how, aii_near *heap, size_t *n, size_t cap)
{
  if (index->n_graph == 0) return true;
  aii_scratch *s = take_scratch(index, how->ef);
  if (s == NULL) return false;
  s->n_scanned = 0;
  aii_near at = descend(index, query, near_of(index, query, index->entry), index->top, 0);
  bool ok = how->passing_alone && how->allow != NULL ? walk_filtered(index, s, query, at, how->ef, how->allow)
                                                     : walk(index, s, query, at, 0, how->ef, how->allow, false);
  for (size_t i = 0; ok && i < s->n_best; i++) aii_near_offer(heap, n, cap, s->best[i]);
  how->n_scanned += s->n_scanned;
  give_scratch(index, s);
  return ok;
}

/* ---- building -------------------------------------------------------------------------------------------------- */

/* The neighbour heuristic on candidates sorted nearest first: up to `room` slots to link to. */
static uint32_t choose(const aii_index *index, const aii_near *candidates, size_t n, uint32_t room, uint32_t *out)
{
  bool taken[EF_MAX_LINKS] = {false}; /* of the first candidates; more than that are never passed over and wanted */
  uint32_t n_out = 0;
  for (size_t i = 0; i < n && n_out < room; i++) {
    bool diverse = true;
    for (uint32_t j = 0; j < n_out && diverse; j++) {
      diverse = aii_index_dist(index, aii_vector_of(index, candidates[i].slot), out[j]) >= candidates[i].dist;
    }
    if (!diverse) continue;
    out[n_out++] = candidates[i].slot;
    if (i < EF_MAX_LINKS) taken[i] = true;
  }
  for (size_t i = 0; i < n && i < EF_MAX_LINKS && n_out < room; i++) {
    if (!taken[i]) out[n_out++] = candidates[i].slot;
  }
  return n_out;
}

/* Adds the link from -> to; when all room is taken, the heuristic chooses again. */
static void link_back(aii_index *index, uint32_t from, uint32_t to, uint32_t level)
{
  uint32_t *links = links_of(index, from, level), room = room_at(index, level);
  if (links[0] < room) {
    links[++links[0]] = to;
    return;
  }
  aii_near near[EF_MAX_LINKS];
  size_t n = 0;
  const float *origin = aii_vector_of(index, from);
  for (uint32_t i = 1; i <= room; i++) aii_near_offer(near, &n, EF_MAX_LINKS, near_of(index, origin, links[i]));
  aii_near_offer(near, &n, EF_MAX_LINKS, near_of(index, origin, to));
  aii_near_sort(near, n);
  links[0] = choose(index, near, n, room, links + 1);
}

/* Memory for a slot's links, so that nothing can fail afterwards. */
static bool reserve_links(aii_index *index, uint32_t slot, uint8_t level)
{
  aii_block *block = aii_block_of(index, slot);
  uint32_t at = slot % AII_BLOCK_SLOTS;
  if (block->links0 == NULL) {
    block->links0 = aii_new_array(index->mem, (size_t)AII_BLOCK_SLOTS * (1 + 2 * index->m), sizeof(uint32_t));
    if (block->links0 == NULL) return false;
  }
  if (level > 0 && block->upper[at] == NULL) {
    block->upper[at] = aii_new_array(index->mem, (size_t)level * (1 + index->m), sizeof(uint32_t));
    if (block->upper[at] == NULL) return false;
    block->level[at] = level;
  }
  return true;
}

/* Computes and writes the links of one slot. false: no memory; the graph is as before. */
static bool insert(aii_index *index, aii_scratch *s, uint32_t slot)
{
  uint32_t chosen[AII_MAX_LEVEL + 1][AII_MAX_M], n_chosen[AII_MAX_LEVEL + 1];
  uint8_t level = level_of(index, aii_block_of(index, slot)->ids[slot % AII_BLOCK_SLOTS]);
  if (!reserve_links(index, slot, level)) return false;
  if (index->n_graph == 0) {
    index->entry = slot;
    index->top = level;
    return true;
  }
  const float *vector = aii_vector_of(index, slot);
  uint32_t from = AII_MIN((uint32_t)level, index->top);
  aii_near at = descend(index, vector, near_of(index, vector, index->entry), index->top, from);
  for (uint32_t l = from + 1; l-- > 0;) {
    if (!walk(index, s, vector, at, l, index->ef_construction, NULL, true)) return false;
    aii_near_sort(s->best, s->n_best);
    at = s->best[0];
    n_chosen[l] = choose(index, s->best, s->n_best, index->m, chosen[l]);
  }
  for (uint32_t l = 0; l <= from; l++) {
    uint32_t *links = links_of(index, slot, l);
    links[0] = n_chosen[l];
    memcpy(links + 1, chosen[l], n_chosen[l] * sizeof *links);
    for (uint32_t i = 0; i < n_chosen[l]; i++) link_back(index, chosen[l][i], slot, l);
  }
  if (level > index->top) {
    index->entry = slot;
    index->top = level;
  }
  return true;
}

bool aii_hnsw_build(aii_index *index, uint32_t max)
{
  bool ok = true, more = true;
  if (pthread_mutex_trylock(&index->build) != 0) return true;
  while (ok && more && max > 0) {
    (void)pthread_rwlock_wrlock(&index->lock);
    more = index->n_graph < index->n;
    aii_scratch *s = more ? take_scratch(index, index->ef_construction) : NULL;
    ok = !more || s != NULL;
    for (uint32_t i = 0; s != NULL && ok && i < SLOTS_PER_LOCK && max > 0 && index->n_graph < index->n; i++, max--) {
      ok = insert(index, s, index->n_graph);
      if (ok) index->n_graph++;
    }
    if (s != NULL) give_scratch(index, s);
    (void)pthread_rwlock_unlock(&index->lock);
  }
  (void)pthread_mutex_unlock(&index->build);
  return ok;
}
