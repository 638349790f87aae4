/* hnsw.c - walks over the graph of a collection: hierarchical navigable small worlds (Malkov and Yashunin, 2016).
 *
 * A search walks greedily down the upper levels, then keeps the ef nearest at level 0, sorted: the next slot to expand
 * is the first that was not. Dead slots and slots that a filter hides are walked through, but not found; then slots to
 * expand wait in a heap of their own. Where a filter hides most of them, a search may walk over passing slots alone,
 * from several of them at once, and looks behind hidden neighbours for passing ones (as ACORN-1 does).
 *
 * Walks compare codes; of the ef nearest those are found that may be among the nearest by their vectors. All that is
 * met in one step is fetched from memory at once. Locks: see vector.h.
 */
#include <math.h>

#include "src/vector/graph.h"

enum { FILTERED_ENTRIES = 16 }; /* passing slots, far apart, that a filtered walk begins at beside the usual one */

/* ---- scratch --------------------------------------------------------------------------------------------------- */

static void free_scratch(const aii_index *index, aii_scratch *s)
{
  aii_mem *mem = index->mem;
  aii_del(mem, s->seen, s->n_seen * sizeof *s->seen);
  aii_del(mem, s->todo, s->todo_cap * sizeof *s->todo);
  aii_del(mem, s->best, s->best_cap * sizeof *s->best);
  aii_del_aligned(mem, s->codes, index->code_bytes + index->fine_bytes);
  aii_del(mem, s, sizeof *s);
}

void aii_scratch_give(aii_index *index, aii_scratch *s)
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
  if (s->codes == NULL) {
    s->codes = aii_new_aligned(index->mem, index->code_bytes + index->fine_bytes);
    if (s->codes == NULL) return false;
  }
  if (s->n_seen < want) {
    uint16_t *seen = aii_new_array(index->mem, want, sizeof *seen);
    if (seen == NULL) return false;
    aii_del(index->mem, s->seen, s->n_seen * sizeof *s->seen);
    s->seen = seen;
    s->n_seen = want;
    s->mark = 0;
  }
  return aii_grow(index->mem, &s->best, &s->best_cap, ef + 1, sizeof *s->best);
}

aii_scratch *aii_scratch_take(aii_index *index, size_t ef)
{
  (void)pthread_mutex_lock(&index->pool);
  aii_scratch *s = index->scratch;
  if (s != NULL) index->scratch = s->next;
  (void)pthread_mutex_unlock(&index->pool);
  if (s == NULL) s = aii_new(index->mem, sizeof *s);
  if (s == NULL) return NULL;
  s->n_scanned = 0;
  if (fit(index, s, ef)) return s;
  free_scratch(index, s);
  return NULL;
}

void aii_scratch_mark(aii_scratch *s)
{
  if (s->mark == UINT16_MAX) {
    memset(s->seen, 0, s->n_seen * sizeof *s->seen);
    s->mark = 0;
  }
  s->mark++;
  s->n_todo = s->n_best = 0;
}

void aii_hnsw_free(aii_index *index)
{
  for (aii_scratch *s = index->scratch, *next; s != NULL; s = next) {
    next = s->next;
    free_scratch(index, s);
  }
  index->scratch = NULL;
  aii_del(index->mem, index->upper, index->upper_cap * sizeof *index->upper);
  index->upper = NULL;
  index->n_upper = index->upper_cap = 0;
}

/* ---- steps ----------------------------------------------------------------------------------------------------- */

void aii_graph_distances(const aii_index *index, aii_scratch *s, const aii_code *code, const uint32_t *slots,
                         uint32_t n, float *dist)
{
  for (uint32_t i = 0; i < n; i++) s->rows[i] = aii_codes_of(index, slots[i]);
  index->kernels->vec_codes(s->rows, n, code->codes, index->code_bytes, code->start, s->dots);
  for (uint32_t i = 0; i < n; i++) dist[i] = aii_code_dist(index, code, slots[i], s->dots[i]);
}

/* Puts a step where it belongs among the ef nearest; where that is, or ef when it is too far. */
static size_t keep(aii_scratch *s, size_t ef, aii_step step)
{
  size_t at = s->n_best;
  if (at == ef && (ef == 0 || step >= s->best[ef - 1])) return ef;
  if (at < ef) s->n_best++;
  else at--;
  size_t from = 0;
  for (size_t left = at; left > 0;) { /* no branch depends on what is found */
    size_t half = (left + 1) / 2;
    from += s->best[from + half - 1] < step ? half : 0;
    left -= half;
  }
  memmove(s->best + from + 1, s->best + from, (at - from) * sizeof *s->best);
  s->best[from] = step;
  return from;
}

/* The neighbours of a slot that were not seen, into s->fresh; the first ones are on their way from memory. */
static uint32_t gather(const aii_index *index, aii_scratch *s, uint32_t slot, uint32_t level)
{
  uint32_t buffer[AII_MOST_LINKS], room = aii_link_room(index, level), n = 0;
  const uint32_t *links = aii_links_read(index, slot, level, buffer);
  for (uint32_t i = 0; i < room && links[i] != AII_NO_SLOT; i++) {
    if (s->seen[links[i]] == s->mark) continue;
    s->seen[links[i]] = s->mark;
    s->fresh[n++] = links[i];
    if (n > 4) continue;
    const uint8_t *codes = aii_codes_of(index, links[i]);
    for (uint32_t b = 0; b < index->code_bytes; b += 64) __builtin_prefetch(codes + b);
  }
  s->n_scanned += n;
  return n;
}

aii_step aii_graph_descend(const aii_index *index, aii_scratch *s, aii_step at, uint32_t from, uint32_t to)
{
  for (uint32_t level = from; level > to; level--) {
    bool moved;
    do {
      uint32_t buffer[AII_MOST_LINKS], n = 0;
      const uint32_t *links = aii_links_read(index, aii_step_slot(at), level, buffer);
      moved = false;
      while (n < index->m && links[n] != AII_NO_SLOT) n++;
      aii_graph_distances(index, s, &s->code, links, n, s->dist);
      s->n_scanned += n;
      for (uint32_t i = 0; i < n; i++) {
        aii_step next = aii_step_of(s->dist[i], links[i]);
        if (next >= at) continue;
        at = next;
        moved = true;
      }
    } while (moved);
  }
  return at;
}

void aii_graph_walk(const aii_index *index, aii_scratch *s, aii_step entry, uint32_t level, size_t ef)
{
  aii_scratch_mark(s);
  s->seen[aii_step_slot(entry)] = s->mark;
  (void)keep(s, ef, entry);
  for (size_t at = 0; at < s->n_best;) {
    if ((s->best[at] & 1) != 0) {
      at++;
      continue;
    }
    s->best[at] |= 1;
    uint32_t n = gather(index, s, aii_step_slot(s->best[at]), level);
    aii_graph_distances(index, s, &s->code, s->fresh, n, s->dist);
    for (uint32_t i = 0; i < n; i++) {
      size_t place = keep(s, ef, aii_step_of(s->dist[i], s->fresh[i]));
      if (place > at) continue;
      at = place; /* the next to expand, unless something nearer comes */
      __builtin_prefetch(aii_links_of(index, s->fresh[i], level));
    }
  }
}

/* ---- walks through what is not found --------------------------------------------------------------------------- */

static bool push(const aii_index *index, aii_scratch *s, aii_step step)
{
  if (!aii_grow(index->mem, &s->todo, &s->todo_cap, s->n_todo + 1, sizeof *s->todo)) return false;
  size_t at = s->n_todo++;
  for (; at > 0 && s->todo[(at - 1) / 2] > step; at = (at - 1) / 2) s->todo[at] = s->todo[(at - 1) / 2];
  s->todo[at] = step;
  return true;
}

static aii_step pop(aii_scratch *s)
{
  aii_step top = s->todo[0], last = s->todo[--s->n_todo];
  size_t at = 0;
  for (size_t child = 1; child < s->n_todo; child = 2 * at + 1) {
    child += child + 1 < s->n_todo && s->todo[child + 1] < s->todo[child];
    if (s->todo[child] >= last) break;
    s->todo[at] = s->todo[child];
    at = child;
  }
  s->todo[at] = last;
  return top;
}

/* A slot met for the first time: worth expanding when it is nearer than the worst result or results are few. */
static bool meet(const aii_index *index, aii_scratch *s, aii_step step, size_t ef, bool found)
{
  if (s->n_best == ef && step >= s->best[ef - 1]) return true;
  if (!push(index, s, step)) return false;
  if (found) (void)keep(s, ef, step);
  return true;
}

/* Whether a search may find the slot: alive and allowed. */
static bool finds(const aii_index *index, const uint64_t *allow, uint32_t slot)
{
  return !aii_is_dead(index, slot) && (allow == NULL || aii_bit(allow, slot));
}

/* Fills s->best with the ef nearest that may be found. */
static bool walk_through(const aii_index *index, aii_scratch *s, aii_step entry, size_t ef, const uint64_t *allow)
{
  aii_scratch_mark(s);
  s->seen[aii_step_slot(entry)] = s->mark;
  bool ok = meet(index, s, entry, ef, finds(index, allow, aii_step_slot(entry)));
  while (ok && s->n_todo > 0) {
    aii_step next = pop(s);
    if (s->n_best == ef && next > s->best[ef - 1]) break;
    uint32_t n = gather(index, s, aii_step_slot(next), 0);
    aii_graph_distances(index, s, &s->code, s->fresh, n, s->dist);
    for (uint32_t i = 0; ok && i < n; i++) {
      ok = meet(index, s, aii_step_of(s->dist[i], s->fresh[i]), ef, finds(index, allow, s->fresh[i]));
    }
  }
  return ok;
}

/* Meets the n passing slots that were gathered. */
static bool meet_passing(const aii_index *index, aii_scratch *s, uint32_t *n, size_t ef)
{
  bool ok = true;
  aii_graph_distances(index, s, &s->code, s->fresh, *n, s->dist);
  s->n_scanned += *n;
  for (uint32_t i = 0; ok && i < *n; i++) ok = meet(index, s, aii_step_of(s->dist[i], s->fresh[i]), ef, true);
  *n = 0;
  return ok;
}

/* Gathers a passing slot; one that was seen before, or does not pass, is nothing. */
static bool gather_passing(const aii_index *index, aii_scratch *s, uint32_t slot, size_t ef, const uint64_t *allow,
                           uint32_t *n)
{
  if (s->seen[slot] == s->mark || !aii_bit(allow, slot)) return true;
  s->seen[slot] = s->mark;
  s->fresh[(*n)++] = slot;
  return *n < AII_MOST_LINKS || meet_passing(index, s, n, ef);
}

/* The entry of the graph, and passing slots spread over it. */
static bool enter_filtered(const aii_index *index, aii_scratch *s, aii_step entry, size_t ef, const uint64_t *allow)
{
  uint32_t n_words = (index->n_graph + 63) / 64, n = 0;
  s->seen[aii_step_slot(entry)] = s->mark;
  bool ok = meet(index, s, entry, ef, finds(index, allow, aii_step_slot(entry)));
  for (uint32_t i = 0; ok && i < FILTERED_ENTRIES; i++) {
    uint32_t w = (uint32_t)((uint64_t)n_words * i / FILTERED_ENTRIES);
    uint32_t end = (uint32_t)((uint64_t)n_words * (i + 1) / FILTERED_ENTRIES);
    while (w < end && allow[w] == 0) w++;
    if (w == end) continue;
    uint32_t slot = w * 64 + (uint32_t)__builtin_ctzll(allow[w]);
    if (slot < index->n_graph) ok = gather_passing(index, s, slot, ef, allow, &n);
  }
  return ok && meet_passing(index, s, &n, ef);
}

/* The same over passing slots alone; `allow` holds live slots only. */
static bool walk_filtered(const aii_index *index, aii_scratch *s, aii_step entry, size_t ef, const uint64_t *allow)
{
  uint32_t room = 2 * index->m, n = 0, buffer[AII_MOST_LINKS], buffer_behind[AII_MOST_LINKS];
  aii_scratch_mark(s);
  bool ok = enter_filtered(index, s, entry, ef, allow);
  while (ok && s->n_todo > 0) {
    aii_step next = pop(s);
    if (s->n_best == ef && next > s->best[ef - 1]) break;
    const uint32_t *links = aii_links_read(index, aii_step_slot(next), 0, buffer);
    for (uint32_t i = 0; ok && i < room && links[i] != AII_NO_SLOT; i++) {
      if (s->seen[links[i]] == s->mark) continue;
      if (aii_bit(allow, links[i])) {
        ok = gather_passing(index, s, links[i], ef, allow, &n);
        continue;
      }
      s->seen[links[i]] = s->mark;
      const uint32_t *behind = aii_links_read(index, links[i], 0, buffer_behind);
      for (uint32_t j = 0; ok && j < room && behind[j] != AII_NO_SLOT; j++) {
        ok = gather_passing(index, s, behind[j], ef, allow, &n);
      }
    }
    ok = ok && meet_passing(index, s, &n, ef);
  }
  return ok;
}

/* ---- searching ------------------------------------------------------------------------------------------------- */

/* What has come into the graph since the walk began is of the tail for this search. */
static void leave_newer(aii_scratch *s, uint32_t n_graph)
{
  size_t n = 0;
  for (size_t i = 0; i < s->n_best; i++) {
    if (aii_step_slot(s->best[i]) < n_graph) s->best[n++] = s->best[i];
  }
  s->n_best = n;
}

/* Of the nearest by codes: the first cap, and those that may be nearer than the last of these. */
static bool find(const aii_index *index, aii_scratch *s, size_t cap, aii_finds *out)
{
  size_t n = AII_MIN(cap, s->n_best);
  float last = INFINITY;
  if (n == cap && cap > 0) {
    last = aii_step_dist(s->best[cap - 1]) + aii_code_doubt(index, &s->code, aii_step_slot(s->best[cap - 1]));
  }
  while (n < s->n_best && aii_step_dist(s->best[n]) <= last) n++;
  for (size_t i = 0; i < n; i++) {
    if (!aii_finds_add(index, out, aii_step_slot(s->best[i]), aii_step_dist(s->best[i]))) return false;
  }
  return true;
}

bool aii_hnsw_search(aii_index *index, const float *query, aii_walk *how, size_t cap, aii_finds *out)
{
  bool ok = true;
  how->n_graph = index->n_graph;
  if (how->n_graph == 0) return true;
  aii_scratch *s = aii_scratch_take(index, how->ef);
  if (s == NULL) return false;
  aii_code_make(index, query, s->codes, &s->code);
  uint32_t top = index->top, entry = index->entry;
  aii_step at = aii_step_of(aii_code_dist_of(index, &s->code, entry), entry);
  at = aii_graph_descend(index, s, at, top, 0);
  if (how->passing_alone && how->allow != NULL) ok = walk_filtered(index, s, at, how->ef, how->allow);
  else if (how->allow != NULL || index->n_dead > 0) ok = walk_through(index, s, at, how->ef, how->allow);
  else aii_graph_walk(index, s, at, 0, how->ef);
  leave_newer(s, how->n_graph);
  ok = ok && find(index, s, cap, out);
  how->n_scanned += s->n_scanned;
  aii_scratch_give(index, s);
  return ok;
}
