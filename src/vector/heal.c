/* heal.c - takes dead slots out of an index: a copy without them is made beside searches, then takes the index's place.
 *
 * Each slot that links to a dead one chooses its links again, among its living neighbours and those that are reached
 * through dead ones, two of them in a row at most. Living slots lie in the copy in their order, so all numbers of slots are
 * others: links, the map of ids. Last, what no walk from the entry reaches any more is linked in again.
 *
 * Searches go on over the old slots. `build` keeps links as they are; the read lock is taken for a few slots at a time. Rows
 * that come meanwhile are behind those that were there: they are copied at the end, with `slots` held so that no more of
 * them come, and so are the documents. Slots that die meanwhile die in the copy. Then the write lock is held while both change
 * places.
 *
 * What can fail: memory, before anything of the index has changed; then dead slots stay. Without memory for the documents alone
 * the next filter reads them anew. Locks: see vector.h.
 */
#include "src/vector/graph.h"

enum { HEAL_CANDIDATES = 256, HEAL_ROUNDS = 3, SLOTS_PER_LOCK = 32 };

typedef struct healing {
  aii_index *index; /* where searches are */
  aii_index next;   /* the copy */
  aii_scratch *s;
  uint32_t *to; /* [n] by slot: its number in the copy; AII_NO_SLOT: it was dead */
  size_t to_cap;
  uint32_t n, n_living;
} healing;

/* ---- links around dead slots ----------------------------------------------------------------------------------- */

static bool is_gone(const healing *h, uint32_t slot)
{
  return h->to[slot] == AII_NO_SLOT;
}

/* Adds the slots that `slot` links to: living ones to the candidates, dead ones to `dead`, while there is room. */
static void look(const healing *h, uint32_t slot, uint32_t level, uint32_t *dead, uint32_t *n_dead)
{
  const uint32_t *links = aii_links_of(h->index, slot, level);
  uint32_t room = aii_link_room(h->index, level);
  aii_scratch *s = h->s;
  for (uint32_t i = 0; i < room && links[i] != AII_NO_SLOT; i++) {
    if (s->seen[links[i]] == s->mark) continue;
    s->seen[links[i]] = s->mark;
    if (is_gone(h, links[i])) {
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

/* The links of a slot on a level, mended, with the numbers of the copy. */
static void mend(const healing *h, uint32_t slot, uint32_t level, uint32_t *out)
{
  uint32_t dead[HEAL_CANDIDATES], n_dead = 0, room = aii_link_room(h->index, level);
  aii_scratch_mark(h->s);
  h->s->seen[slot] = h->s->mark;
  look(h, slot, level, dead, &n_dead);
  if (n_dead == 0) {
    memcpy(out, aii_links_of(h->index, slot, level), room * sizeof *out);
  } else {
    uint32_t first = n_dead;
    for (uint32_t i = 0; i < n_dead; i++) {
      uint32_t none = HEAL_CANDIDATES;
      look(h, dead[i], level, dead, i < first ? &n_dead : &none);
    }
    sort_candidates(h->index, h->s, slot);
    aii_graph_choose(h->index, h->s, h->s->best, h->s->n_best, room, out);
  }
  for (uint32_t i = 0; i < room && out[i] != AII_NO_SLOT; i++) out[i] = h->to[out[i]];
}

/* ---- the copy --------------------------------------------------------------------------------------------------- */

static void copy_slot(healing *h, uint32_t from, uint32_t to)
{
  const aii_index *index = h->index;
  const aii_block *a = aii_block_of(index, from);
  aii_block *b = aii_block_of(&h->next, to);
  uint32_t i = from % AII_BLOCK_SLOTS, j = to % AII_BLOCK_SLOTS;
  size_t codes = index->code_bytes, fine = index->fine_bytes, dims = index->dims;
  memcpy(b->codes + j * codes, a->codes + i * codes, codes);
  memcpy(b->fine + j * fine, a->fine + i * fine, fine);
  if (a->vectors != NULL && b->vectors != NULL) {
    memcpy(b->vectors + j * dims, a->vectors + i * dims, dims * sizeof(float));
  }
  b->ids[j] = a->ids[i];
  b->scale[j] = a->scale[i];
  b->norm[j] = a->norm[i];
  b->error[j] = a->error[i];
  b->sum[j] = a->sum[i];
  b->rows[j] = a->rows[i];
  b->level[j] = 0;
  b->dead[j] = false;
}

static bool copy_links(healing *h, uint32_t from, uint32_t to)
{
  aii_index *next = &h->next;
  uint8_t level = aii_block_of(h->index, from)->level[from % AII_BLOCK_SLOTS];
  if (!aii_graph_reserve(next, to, level)) return false;
  for (uint32_t l = 0; l <= level; l++) mend(h, from, l, aii_links_of(next, to, l));
  if (next->n_graph == 0 || level > next->top) { /* the living slot with the highest level: where searches may begin */
    next->entry = to;
    next->top = level;
  }
  next->n_graph++;
  return true;
}

/* A living slot goes to the end of the copy. Read lock held. */
static bool take(healing *h, uint32_t slot)
{
  aii_index *next = &h->next;
  uint32_t to = h->to[slot];
  if (to == next->n_blocks * AII_BLOCK_SLOTS && !aii_index_add_block(next)) return false;
  if (!aii_idmap_set(&next->map, aii_block_of(h->index, slot)->ids[slot % AII_BLOCK_SLOTS], to)) return false;
  copy_slot(h, slot, to);
  next->n = to + 1;
  return slot >= h->index->n_graph || copy_links(h, slot, to);
}

/* Numbers the living slots of those from h->n on, as they are now. */
static bool number(healing *h)
{
  aii_index *index = h->index;
  (void)pthread_rwlock_rdlock(&index->lock);
  uint32_t n = index->n;
  bool ok = aii_grow(index->mem, &h->to, &h->to_cap, (size_t)n + 1, sizeof *h->to);
  for (uint32_t slot = h->n; ok && slot < n; slot++)
    h->to[slot] = aii_is_dead(index, slot) ? AII_NO_SLOT : h->n_living++;
  (void)pthread_rwlock_unlock(&index->lock);
  if (ok) h->n = n;
  return ok;
}

/* Copies what has come since the last call. */
static bool copy(healing *h)
{
  aii_index *index = h->index;
  uint32_t slot = h->n;
  bool ok = number(h) && aii_idmap_reserve(&h->next.map, (size_t)h->n_living + 1);
  while (ok && slot < h->n) {
    uint32_t end = AII_MIN(h->n, slot + SLOTS_PER_LOCK);
    (void)pthread_rwlock_rdlock(&index->lock);
    for (; ok && slot < end; slot++) ok = is_gone(h, slot) || take(h, slot);
    (void)pthread_rwlock_unlock(&index->lock);
  }
  return ok;
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

static bool reach(healing *h)
{
  aii_index *next = &h->next;
  size_t n_words = (size_t)next->n_graph / 64 + 1, n = (size_t)next->n_graph + 1;
  uint64_t *reached = aii_new_array(next->mem, n_words, sizeof *reached);
  uint32_t *queue = aii_new_array(next->mem, n, sizeof *queue);
  bool ok = reached != NULL && queue != NULL;
  if (ok) reach_all(next, h->s, reached, queue);
  aii_del(next->mem, reached, n_words * sizeof *reached);
  aii_del(next->mem, queue, n * sizeof *queue);
  return ok;
}

/* ---- the exchange ------------------------------------------------------------------------------------------------- */

#define SWAP(a, b)           \
  do {                       \
    __typeof__(a) was = (a); \
    (a) = (b);               \
    (b) = was;               \
  } while (0)

/* What has changed in slots that were copied: they died, or their row has another number. */
static void catch_up(healing *h)
{
  for (uint32_t slot = 0; slot < h->n; slot++) {
    if (is_gone(h, slot)) continue;
    const aii_block *from = aii_block_of(h->index, slot);
    aii_block *to = aii_block_of(&h->next, h->to[slot]);
    to->rows[h->to[slot] % AII_BLOCK_SLOTS] = from->rows[slot % AII_BLOCK_SLOTS];
    if (from->dead[slot % AII_BLOCK_SLOTS]) aii_index_kill(&h->next, h->to[slot]);
  }
}

/* With `slots` held and everything copied. Write lock held. */
static void exchange(healing *h)
{
  aii_index *index = h->index, *next = &h->next;
  catch_up(h);
  next->n_blurred =
      index->n_graph > 0 ? (uint32_t)((uint64_t)index->n_blurred * next->n_graph / index->n_graph) : index->n_blurred;
  SWAP(index->blocks, next->blocks);
  SWAP(index->n_blocks, next->n_blocks);
  SWAP(index->blocks_cap, next->blocks_cap);
  SWAP(index->upper, next->upper);
  SWAP(index->n_upper, next->n_upper);
  SWAP(index->upper_cap, next->upper_cap);
  SWAP(index->map, next->map);
  if (next->docs.state == AII_DOCS_ON) {
    next->docs.bytes += index->docs.keys.bytes;
    SWAP(index->docs.keys, next->docs.keys);
  }
  SWAP(index->docs, next->docs);
  index->n = next->n;
  index->n_dead = next->n_dead;
  index->n_graph = next->n_graph;
  index->n_blurred = next->n_blurred;
  index->entry = next->entry;
  index->top = next->top;
  index->changes++;
}

static bool finish(healing *h)
{
  aii_index *index = h->index;
  (void)pthread_mutex_lock(&index->slots);
  bool ok = copy(h);
  if (ok) {
    if (!index->floats) aii_index_drop_floats(&h->next);
    (void)aii_docs_copy(&index->docs, h->to, h->n, &h->next.docs);
    (void)pthread_rwlock_wrlock(&index->lock);
    exchange(h);
    (void)pthread_rwlock_unlock(&index->lock);
  }
  (void)pthread_mutex_unlock(&index->slots);
  return ok;
}

/* Searches begin where they began, if that slot lives. */
static void keep_entry(healing *h)
{
  const aii_index *index = h->index;
  if (index->n_graph == 0 || is_gone(h, index->entry)) return;
  h->next.entry = h->to[index->entry];
  h->next.top = index->top;
}

bool aii_hnsw_heal(aii_index *index)
{
  healing h = {.index = index};
  if (pthread_mutex_trylock(&index->build) != 0) return true;
  (void)pthread_rwlock_rdlock(&index->lock);
  aii_index_begin(index, &h.next);
  h.s = aii_scratch_take(index, AII_MAX(index->ef_construction, (uint32_t)HEAL_CANDIDATES));
  (void)pthread_rwlock_unlock(&index->lock);
  bool ok = h.s != NULL && copy(&h);
  if (ok) {
    keep_entry(&h);
    ok = reach(&h) && finish(&h);
  }
  if (h.s != NULL) aii_scratch_give(index, h.s);
  (void)pthread_mutex_unlock(&index->build);
  aii_index_clear(&h.next);
  aii_del(index->mem, h.to, h.to_cap * sizeof *h.to);
  return ok;
}
