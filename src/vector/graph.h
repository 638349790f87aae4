/* src/vector/graph.h - what walks over the graph share: hnsw.c and hnsw_filtered.c walk, hnsw_build.c makes links, heal.c mends them. */
#ifndef AII_VECTOR_GRAPH_H
#define AII_VECTOR_GRAPH_H

#include "src/vector/vector.h"

enum { AII_MOST_LINKS = 2 * AII_MAX_M };

/* A slot and how far it is, as one number: the nearest first, equal ones by slot. The last bit: it was expanded. */
typedef uint64_t aii_step;

static inline aii_step aii_step_of(float dist, uint32_t slot)
{
  uint32_t bits;
  memcpy(&bits, &dist, sizeof bits);
  bits = bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
  return (aii_step)bits << 32 | (aii_step)slot << 1;
}
static inline uint32_t aii_step_slot(aii_step step)
{
  return (uint32_t)step >> 1;
}
static inline float aii_step_dist(aii_step step)
{
  uint32_t bits = (uint32_t)(step >> 32);
  float dist;
  bits = bits >> 31 != 0 ? bits & 0x7FFFFFFFu : ~bits;
  memcpy(&dist, &bits, sizeof dist);
  return dist;
}

/* What one walk needs, reused by the next. */
struct aii_scratch {
  aii_scratch *next;
  uint16_t *seen; /* [n_seen] the mark of the last walk that saw a slot */
  size_t n_seen;
  uint16_t mark;
  aii_step *todo; /* min-heap of slots to expand, of walks where not all that is met is found */
  size_t n_todo, todo_cap;
  aii_step *best; /* the ef nearest, nearest first */
  size_t n_best, best_cap;
  aii_code code;                  /* the query */
  uint8_t *codes;                 /* room for its codes */
  uint64_t n_scanned;             /* distances computed */
  uint32_t fresh[AII_MOST_LINKS]; /* slots met for the first time */
  float dist[AII_MOST_LINKS];     /* theirs */
  const uint8_t *rows[AII_MOST_LINKS];
  int32_t dots[AII_MOST_LINKS];
};

aii_scratch *aii_scratch_take(aii_index *index, size_t ef); /* NULL: no memory */
void aii_scratch_give(aii_index *index, aii_scratch *s);
void aii_scratch_mark(aii_scratch *s); /* a new walk: nothing was seen */

static inline uint32_t aii_link_room(const aii_index *index, uint32_t level)
{
  return level == 0 ? 2 * index->m : index->m;
}
/* [aii_link_room()], the last ones AII_NO_SLOT. */
static inline uint32_t *aii_links_of(const aii_index *index, uint32_t slot, uint32_t level)
{
  aii_block *block = aii_block_of(index, slot);
  uint32_t at = slot % AII_BLOCK_SLOTS;
  if (level == 0) return block->links0 + (size_t)at * 2 * index->m;
  return index->upper + block->upper[at] + (size_t)(level - 1) * index->m;
}

/* The same as they are now, while another thread may write them: in the buffer, [AII_MOST_LINKS]. */
static inline const uint32_t *aii_links_read(const aii_index *index, uint32_t slot, uint32_t level, uint32_t *buffer)
{
  const uint32_t *links = aii_links_of(index, slot, level);
  uint32_t room = aii_link_room(index, level), i = 0;
  do buffer[i] = __atomic_load_n(&links[i], __ATOMIC_ACQUIRE);
  while (buffer[i] != AII_NO_SLOT && ++i < room);
  return buffer;
}

/* Distances from a code to n <= AII_MOST_LINKS slots. */
void aii_graph_distances(const aii_index *index, aii_scratch *s, const aii_code *code, const uint32_t *slots,
                         uint32_t n, float *dist);
/* Puts a step where it belongs among the ef nearest; where that is, or ef when it is too far. */
size_t aii_graph_keep(aii_scratch *s, size_t ef, aii_step step);
/* The neighbours of a slot that were not seen, into s->fresh; the first ones are on their way from memory. */
uint32_t aii_graph_gather(const aii_index *index, aii_scratch *s, uint32_t slot, uint32_t level);
/* Greedy steps from `at` on the levels from..to (exclusive, downward). */
aii_step aii_graph_descend(const aii_index *index, aii_scratch *s, aii_step at, uint32_t from, uint32_t to);
/* Fills s->best with the ef nearest to s->code that a walk on one level finds, dead ones too. */
void aii_graph_walk(const aii_index *index, aii_scratch *s, aii_step entry, uint32_t level, size_t ef);
/* Fills s->best with the nearest at level 0 that may be found: alive and allowed. false: no memory. */
bool aii_graph_walk_filtered(const aii_index *index, aii_scratch *s, aii_step entry, aii_walk *how);
/* The neighbour heuristic on n candidates, sorted nearest first: up to `room` slots to link to, then AII_NO_SLOT. */
void aii_graph_choose(const aii_index *index, aii_scratch *s, const aii_step *candidates, size_t n, uint32_t room,
                      uint32_t *out);
/* Memory for a slot's links, so that nothing can fail afterwards; all of them are AII_NO_SLOT. The slot is not in the graph
 * yet; write lock held, unless aii_graph_has_upper(). false: no memory. */
bool aii_graph_has_upper(const aii_index *index, uint8_t level);
bool aii_graph_reserve(aii_index *index, uint32_t slot, uint8_t level);
/* Chooses the links of a slot at level 0 anew, and has its neighbours link to it. Nobody else sees
 * the index. */
void aii_hnsw_relink(aii_index *index, aii_scratch *s, uint32_t slot);

#endif
