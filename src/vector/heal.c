/* heal.c - takes dead slots out of an index: the graph is mended around them, then slots move together.
 *
 * Each slot that links to a dead one chooses its links again, among its living neighbours and those that are reached
 * through dead ones, two of them in a row at most. Then living slots move down, in their order, and all numbers of slots
 * with them: links, the map of ids. Last, what no walk from the entry reaches any more is linked in again.
 *
 * All memory that moving needs is there before anything moves; without it the index stays as it was, dead slots and
 * all. Links that were mended before are as good as others. Write lock and index->build held: see vector.h.
 */
#include "src/vector/graph.h"

enum { HEAL_CANDIDATES = 256, HEAL_ROUNDS = 3 };

/* ---- links around dead slots ----------------------------------------------------------------------------------- */

/* Adds the slots that `slot` links to: living ones to the candidates, dead ones to `dead`, while there is room. */
static void look(const aii_index *index, aii_scratch *s, uint32_t slot, uint32_t level, uint32_t *dead,
                 uint32_t *n_dead)
{
  const uint32_t *links = aii_links_of(index, slot, level);
  uint32_t room = aii_link_room(index, level);
  for (uint32_t i = 0; i < room && links[i] != AII_NO_SLOT; i++) {
    if (s->seen[links[i]] == s->mark) continue;
    s->seen[links[i]] = s->mark;
    if (aii_is_dead(index, links[i])) {
      if (*n_dead < HEAL_CANDIDATES) dead[(*n_dead)++] = links[i];
    } else if (s->n_best < HEAL_CANDIDATES) {
      s->best[s->n_best++] = links[i];
    }
  }
}

/* Candidates become steps, nearest first. */
static void sort_candidates(const aii_index *index, aii_scratch *s, uint32_t slot)
{
  aii_code code = aii_code_of(index, slot);
  size_t n = s->n_best;
  for (size_t from = 0; from < n; from += AII_MOST_LINKS) {
    uint32_t some = (uint32_t)AII_MIN(n - from, (size_t)AII_MOST_LINKS);
    for (uint32_t i = 0; i < some; i++) s->fresh[i] = (uint32_t)s->best[from + i];
    aii_graph_distances(index, s, &code, s->fresh, some, s->dist);
    for (uint32_t i = 0; i < some; i++) {
      aii_step step = aii_step_of(s->dist[i], s->fresh[i]);
      size_t at = from + i;
      for (; at > 0 && s->best[at - 1] > step; at--) s->best[at] = s->best[at - 1];
      s->best[at] = step;
    }
  }
}

static void mend(aii_index *index, aii_scratch *s, uint32_t slot, uint32_t level)
{
  uint32_t dead[HEAL_CANDIDATES], n_dead = 0;
  aii_scratch_mark(s);
  s->seen[slot] = s->mark;
  look(index, s, slot, level, dead, &n_dead);
  if (n_dead == 0) return;
  uint32_t first = n_dead;
  for (uint32_t i = 0; i < n_dead; i++) {
    uint32_t none = HEAL_CANDIDATES;
    look(index, s, dead[i], level, dead, i < first ? &n_dead : &none);
  }
  sort_candidates(index, s, slot);
  aii_graph_choose(index, s, s->best, s->n_best, aii_link_room(index, level), aii_links_of(index, slot, level));
}

/* The living slot with the highest level: where searches begin. */
static void find_entry(aii_index *index)
{
  int top = -1;
  for (uint32_t slot = 0; slot < index->n_graph; slot++) {
    int level = aii_block_of(index, slot)->level[slot % AII_BLOCK_SLOTS];
    if (aii_is_dead(index, slot) || level <= top) continue;
    top = level;
    index->entry = slot;
  }
  index->top = top > 0 ? (uint32_t)top : 0;
}

static void mend_all(aii_index *index, aii_scratch *s)
{
  for (uint32_t slot = 0; slot < index->n_graph; slot++) {
    uint32_t levels = aii_block_of(index, slot)->level[slot % AII_BLOCK_SLOTS];
    if (aii_is_dead(index, slot)) continue;
    for (uint32_t level = 0; level <= levels; level++) mend(index, s, slot, level);
  }
  if (aii_is_dead(index, index->entry)) find_entry(index);
}

/* ---- moving ---------------------------------------------------------------------------------------------------- */

static void move_slot(aii_index *index, uint32_t from, uint32_t to)
{
  const aii_block *a = aii_block_of(index, from);
  aii_block *b = aii_block_of(index, to);
  uint32_t i = from % AII_BLOCK_SLOTS, j = to % AII_BLOCK_SLOTS;
  size_t codes = index->code_bytes, fine = index->fine_bytes, dims = index->dims;
  if (from == to) return;
  memcpy(b->codes + j * codes, a->codes + i * codes, codes);
  memcpy(b->fine + j * fine, a->fine + i * fine, fine);
  if (index->floats) memcpy(b->vectors + j * dims, a->vectors + i * dims, dims * sizeof(float));
  if (from < index->n_graph) {
    memcpy(b->links0 + (size_t)j * 2 * index->m, a->links0 + (size_t)i * 2 * index->m, 2 * index->m * sizeof(uint32_t));
  }
  b->ids[j] = a->ids[i];
  b->scale[j] = a->scale[i];
  b->norm[j] = a->norm[i];
  b->error[j] = a->error[i];
  b->sum[j] = a->sum[i];
  b->upper[j] = a->upper[i];
  b->rows[j] = a->rows[i];
  b->level[j] = a->level[i];
  b->dead[j] = false;
}

static void renumber(uint32_t *links, uint32_t n, const uint32_t *to)
{
  for (uint32_t i = 0; i < n && links[i] != AII_NO_SLOT; i++) links[i] = to[links[i]];
}

/* Upper links move down as well: they lie in the order of their slots. */
static void renumber_all(aii_index *index, const uint32_t *to)
{
  uint32_t end = 0;
  for (uint32_t slot = 0; slot < index->n_graph; slot++) {
    aii_block *block = aii_block_of(index, slot);
    uint32_t at = slot % AII_BLOCK_SLOTS, n = (uint32_t)block->level[at] * index->m;
    renumber(aii_links_of(index, slot, 0), 2 * index->m, to);
    if (n == 0) continue;
    memmove(index->upper + end, index->upper + block->upper[at], n * sizeof *index->upper);
    block->upper[at] = end;
    for (uint32_t l = 0; l < block->level[at]; l++) renumber(index->upper + end + l * index->m, index->m, to);
    end += n;
  }
  index->n_upper = end;
  index->entry = index->n_graph > 0 ? to[index->entry] : 0;
}

/* Everything moves; `map` becomes the map of ids and has room for them. */
static void move_all(aii_index *index, uint32_t *to, aii_idmap *map)
{
  uint32_t n = 0, n_graph = 0;
  for (uint32_t slot = 0; slot < index->n; slot++) {
    to[slot] = AII_NO_SLOT;
    if (aii_is_dead(index, slot)) continue;
    to[slot] = n;
    (void)aii_idmap_set(map, aii_block_of(index, slot)->ids[slot % AII_BLOCK_SLOTS], n); /* there is room */
    move_slot(index, slot, n++);
    n_graph += slot < index->n_graph;
  }
  index->n_blurred = index->n_graph > 0 ? (uint32_t)((uint64_t)index->n_blurred * n_graph / index->n_graph) : 0;
  index->n = n;
  index->n_graph = n_graph;
  index->n_dead = 0;
  renumber_all(index, to);
  aii_index_trim(index);
  aii_idmap_free(&index->map);
  index->map = *map;
}

/* ---- what is out of reach -------------------------------------------------------------------------------------- */

uint32_t aii_hnsw_unreached(const aii_index *index, uint64_t *reached, uint32_t *queue)
{
  uint32_t n = 0;
  memset(reached, 0, ((size_t)index->n_graph / 64 + 1) * sizeof *reached);
  if (index->n_graph == 0) return 0;
  queue[n++] = index->entry;
  reached[index->entry / 64] |= (uint64_t)1 << index->entry % 64;
  for (uint32_t at = 0; at < n; at++) {
    const uint32_t *links = aii_links_of(index, queue[at], 0);
    for (uint32_t i = 0; i < 2 * index->m && links[i] != AII_NO_SLOT; i++) {
      if (aii_bit(reached, links[i])) continue;
      reached[links[i] / 64] |= (uint64_t)1 << links[i] % 64;
      queue[n++] = links[i];
    }
  }
  return index->n_graph - n;
}

static void reach_all(aii_index *index, aii_scratch *s, uint64_t *reached, uint32_t *queue)
{
  for (int round = 0; round < HEAL_ROUNDS && aii_hnsw_unreached(index, reached, queue) > 0; round++) {
    for (uint32_t slot = 0; slot < index->n_graph; slot++) {
      if (!aii_bit(reached, slot)) aii_hnsw_relink(index, s, slot);
    }
  }
}

bool aii_hnsw_heal(aii_index *index)
{
  uint32_t n_live = index->n - index->n_dead;
  size_t n_words = (size_t)index->n / 64 + 1, n = index->n;
  aii_idmap map;
  aii_idmap_init(&map, index->mem);
  uint32_t *to = aii_new_array(index->mem, n, sizeof *to);
  uint64_t *reached = aii_new_array(index->mem, n_words, sizeof *reached);
  aii_scratch *s = aii_scratch_take(index, AII_MAX(index->ef_construction, (uint32_t)HEAL_CANDIDATES));
  bool ok = to != NULL && reached != NULL && s != NULL && aii_idmap_reserve(&map, (size_t)n_live + 1);
  if (ok) {
    if (index->n_graph > 0) mend_all(index, s);
    move_all(index, to, &map);
    reach_all(index, s, reached, to); /* which is as long as the queue can get */
  } else {
    aii_idmap_free(&map);
  }
  if (s != NULL) aii_scratch_give(index, s);
  aii_del(index->mem, reached, n_words * sizeof *reached);
  aii_del(index->mem, to, n * sizeof *to);
  return ok;
}
