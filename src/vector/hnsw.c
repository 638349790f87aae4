/* hnsw.c - walks over the graph of a collection: hierarchical navigable small worlds (Malkov and Yashunin, 2016).
 *
 * A search walks greedily down the upper levels, then keeps the ef nearest at level 0, sorted: the next slot to expand
 * is the first that was not. Where dead slots or a filter are in the way, hnsw_filtered.c walks instead.
 *
 * Walks compare codes; of the ef nearest those are found that may be among the nearest by their vectors. All that is
 * met in one step is fetched from memory at once. Locks: see vector.h.
 */
#include <math.h>

#include "src/vector/graph.h"

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

size_t aii_graph_keep(aii_scratch *s, size_t ef, aii_step step)
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

uint32_t aii_graph_gather(const aii_index *index, aii_scratch *s, uint32_t slot, uint32_t level)
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
  (void)aii_graph_keep(s, ef, entry);
  for (size_t at = 0; at < s->n_best;) {
    if ((s->best[at] & 1) != 0) {
      at++;
      continue;
    }
    s->best[at] |= 1;
    uint32_t n = aii_graph_gather(index, s, aii_step_slot(s->best[at]), level);
    aii_graph_distances(index, s, &s->code, s->fresh, n, s->dist);
    for (uint32_t i = 0; i < n; i++) {
      size_t place = aii_graph_keep(s, ef, aii_step_of(s->dist[i], s->fresh[i]));
      if (place > at) continue;
      at = place; /* the next to expand, unless something nearer comes */
      __builtin_prefetch(aii_links_of(index, s->fresh[i], level));
    }
  }
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
  if (how->allow != NULL || index->n_dead > 0) ok = aii_graph_walk_filtered(index, s, at, how);
  else aii_graph_walk(index, s, at, 0, how->ef);
  leave_newer(s, how->n_graph);
  ok = ok && find(index, s, cap, out);
  how->n_scanned += s->n_scanned;
  aii_scratch_give(index, s);
  return ok;
}
