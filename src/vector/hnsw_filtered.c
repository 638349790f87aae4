/* hnsw_filtered.c - walks over the graph where not all that is met may be found: slots that a filter hides, or dead ones.
 *
 * Slots to expand wait in a heap and may be hidden; results, the ef nearest, are not. A walk ends when the nearest that
 * waits is farther than the last of ef results. It begins through all that it meets, hidden or not. Each few steps it
 * looks at the share of what it met that may be found:
 *
 *   many          it goes on so: stepping stones are cheap, and most ways between results lead over them
 *   few           it goes among allowed slots alone, and looks behind hidden neighbours for them (as ACORN-1 does)
 *   next to none  though the filter lets many pass: they lie elsewhere. The walk ends, since ways there are many and
 *                 long: comparing all that are allowed costs less than finding the nearest of them so
 *
 * Dead slots count as hidden. Nothing is drawn by chance: the same index and query give the same walk. Only memory can
 * fail. Locks: see vector.h.
 */
#include "src/vector/graph.h"

enum {
  LOOK = 4,      /* steps between looks at the share */
  SAMPLE = 64,   /* slots met, at least, that tell anything */
  EXPECTED = 12, /* had they as many allowed ones as there are on the whole, these were so many: fewer may be chance */
  SURE = 48,     /* the same, where less than two thirds of that many are allowed */
  ENDURED = 512, /* slots met without many allowed ones, at most */
  ENOUGH = 16,   /* new allowed slots in a step: no more hidden neighbours are looked behind */
  MANY = 4,      /* at least a 4th of what was met is allowed: many */
  ELSEWHERE = 3  /* less than a 3rd of the share that is allowed on the whole: elsewhere */
};

typedef struct walk {
  const aii_index *index;
  aii_scratch *s;
  aii_walk *how;
  size_t ef;
  uint64_t n_behind;       /* hidden slots that were looked behind */
  uint32_t n_met, n_finds; /* since the last look: slots met, those that may be found */
  uint32_t n_fresh;        /* gathered, not met yet */
} walk;

/* ---- the heap of slots to expand ------------------------------------------------------------------------------- */

static bool push(walk *w, aii_step step)
{
  aii_scratch *s = w->s;
  if (!aii_grow(w->index->mem, &s->todo, &s->todo_cap, s->n_todo + 1, sizeof *s->todo)) return false;
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

/* The next slot to expand; false: the walk has ended. */
static bool next(walk *w, uint32_t *slot)
{
  aii_scratch *s = w->s;
  if (s->n_todo == 0) return false;
  w->how->spent = w->how->budget > 0 && s->n_scanned + w->n_behind > w->how->budget;
  if (w->how->spent) return false;
  aii_step step = pop(s);
  *slot = aii_step_slot(step);
  return s->n_best < w->ef || step < s->best[w->ef - 1];
}

/* ---- steps ----------------------------------------------------------------------------------------------------- */

/* Whether a search may find the slot. */
static bool may_find(const walk *w, uint32_t slot)
{
  return w->how->allow != NULL ? aii_bit(w->how->allow, slot) && !aii_is_dead(w->index, slot)
                               : !aii_is_dead(w->index, slot);
}

/* A slot met for the first time: worth expanding when it is nearer than the last of the results or these are few. */
static bool meet(walk *w, aii_step step, bool finds)
{
  aii_scratch *s = w->s;
  w->n_met++;
  w->n_finds += finds;
  if (s->n_best == w->ef && step >= s->best[w->ef - 1]) return true;
  if (!push(w, step)) return false;
  if (finds) (void)aii_graph_keep(s, w->ef, step);
  return true;
}

/* Expands some slots with all their neighbours. *ended: there are no more. false: no memory. */
static bool go_through(walk *w, uint32_t steps, bool *ended)
{
  aii_scratch *s = w->s;
  uint32_t slot;
  bool ok = true;
  for (; ok && steps > 0; steps--) {
    *ended = !next(w, &slot);
    if (*ended) break;
    uint32_t n = aii_graph_gather(w->index, s, slot, 0);
    aii_graph_distances(w->index, s, &s->code, s->fresh, n, s->dist);
    for (uint32_t i = 0; ok && i < n; i++) {
      ok = meet(w, aii_step_of(s->dist[i], s->fresh[i]), may_find(w, s->fresh[i]));
    }
  }
  return ok;
}

/* Meets the allowed slots that were gathered. */
static bool meet_fresh(walk *w)
{
  aii_scratch *s = w->s;
  uint32_t n = w->n_fresh;
  bool ok = true;
  w->n_fresh = 0;
  aii_graph_distances(w->index, s, &s->code, s->fresh, n, s->dist);
  s->n_scanned += n;
  for (uint32_t i = 0; ok && i < n; i++) ok = meet(w, aii_step_of(s->dist[i], s->fresh[i]), true);
  return ok;
}

/* Gathers a slot that is allowed and was not seen. */
static bool gather_allowed(walk *w, uint32_t slot)
{
  aii_scratch *s = w->s;
  if (s->seen[slot] == s->mark) return true;
  s->seen[slot] = s->mark;
  s->fresh[w->n_fresh++] = slot;
  __builtin_prefetch(aii_codes_of(w->index, slot));
  return w->n_fresh < AII_MOST_LINKS || meet_fresh(w);
}

/* Gathers the allowed neighbours of a hidden slot. */
static bool look_behind(walk *w, uint32_t hidden)
{
  uint32_t buffer[AII_MOST_LINKS], room = aii_link_room(w->index, 0);
  const uint32_t *links = aii_links_read(w->index, hidden, 0, buffer);
  bool ok = true;
  w->s->seen[hidden] = w->s->mark;
  w->n_behind++;
  for (uint32_t i = 0; ok && i < room && links[i] != AII_NO_SLOT; i++) {
    if (aii_bit(w->how->allow, links[i])) ok = gather_allowed(w, links[i]);
  }
  return ok;
}

/* Expands a slot with its allowed neighbours, and with those behind hidden ones until there are enough. */
static bool expand_among(walk *w, uint32_t slot)
{
  uint32_t buffer[AII_MOST_LINKS], room = aii_link_room(w->index, 0);
  const uint32_t *links = aii_links_read(w->index, slot, 0, buffer);
  uint32_t hidden[AII_MOST_LINKS], n_hidden = 0;
  bool ok = true;
  for (uint32_t i = 0; ok && i < room && links[i] != AII_NO_SLOT; i++) {
    if (w->s->seen[links[i]] == w->s->mark) continue;
    if (aii_bit(w->how->allow, links[i])) {
      ok = gather_allowed(w, links[i]);
      continue;
    }
    const uint32_t *behind = aii_links_of(w->index, links[i], 0);
    __builtin_prefetch(behind);
    __builtin_prefetch(behind + 16);
    hidden[n_hidden++] = links[i];
  }
  for (uint32_t i = 0; ok && i < n_hidden && w->n_fresh < ENOUGH; i++) ok = look_behind(w, hidden[i]);
  return ok && meet_fresh(w);
}

/* ---- ways ------------------------------------------------------------------------------------------------------ */

/* From now on only results are expanded. Hidden slots that waited were not seen: they may be looked behind. */
static bool turn(walk *w)
{
  aii_scratch *s = w->s;
  for (size_t i = 0; i < s->n_todo; i++) {
    uint32_t slot = aii_step_slot(s->todo[i]);
    if (!may_find(w, slot)) s->seen[slot] = (uint16_t)(s->mark - 1);
  }
  if (!aii_grow(w->index->mem, &s->todo, &s->todo_cap, s->n_best, sizeof *s->todo)) return false;
  s->n_todo = s->n_best;
  if (s->n_best > 0) memcpy(s->todo, s->best, s->n_best * sizeof *s->best); /* sorted is a heap */
  return true;
}

/* The way to go on, by what was met since the last look. */
static aii_walk_way way_of(walk *w)
{
  uint64_t all = w->index->n, met = w->n_met, found = w->n_finds, allowed = w->how->n_allowed;
  if (w->how->allow == NULL || allowed == 0 || met < SAMPLE) return AII_WALK_THROUGH;
  if (found * MANY >= met) {
    w->n_met = w->n_finds = 0;
    return AII_WALK_THROUGH;
  }
  if (met * allowed >= EXPECTED * all) {
    if (found * all * ELSEWHERE < met * allowed) return AII_WALK_FAR;
    if (found * all * 3 >= met * allowed * 2) return AII_WALK_AMONG;
    return met * allowed < SURE * all ? AII_WALK_THROUGH : AII_WALK_FAR;
  }
  return met < ENDURED ? AII_WALK_THROUGH : AII_WALK_AMONG;
}

bool aii_graph_walk_filtered(const aii_index *index, aii_scratch *s, aii_step entry, aii_walk *how)
{
  walk w = {.index = index, .s = s, .how = how, .ef = how->ef};
  bool ended = false;
  uint32_t slot;
  aii_scratch_mark(s);
  how->way = AII_WALK_THROUGH;
  how->spent = false;
  s->seen[aii_step_slot(entry)] = s->mark;
  bool ok = meet(&w, entry, may_find(&w, aii_step_slot(entry)));
  while (ok && !ended && how->way == AII_WALK_THROUGH) {
    ok = go_through(&w, LOOK, &ended);
    if (!ended) how->way = way_of(&w);
  }
  if (!ok || ended || how->way == AII_WALK_FAR) return ok;
  ok = turn(&w);
  while (ok && next(&w, &slot)) ok = expand_among(&w, slot);
  return ok;
}
