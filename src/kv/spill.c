/* spill.c - the second tier: what is evicted goes to a slot, and comes back when its prefix is asked for again.
 *
 * The pool only decides. What has to be copied stands in a list, and whoever runs the next step does that first, in the
 * order of the list: a slot may be emptied and filled again in the same list. When the list is full, slots are not found
 * and blocks are evicted for good; what stands in slots behind such a block is never found again, and goes in its turn.
 */
#include "src/kv/pool.h"

static void note(aii_kv_pool *p, uint32_t block, uint32_t slot, bool fetch)
{
  p->moves[p->n_moves++] = (aii_kv_move){block, slot - p->n_blocks, fetch};
}

uint32_t aii_kv_take_free_slot(aii_kv_pool *p)
{
  uint32_t slot = p->free_slot_head;
  p->free_slot_head = p->blocks[slot].next;
  p->n_free_slots--;
  return slot;
}

/* A free slot, or the one that was filled longest ago. */
static uint32_t take_slot(aii_kv_pool *p)
{
  if (p->n_free_slots > 0) return aii_kv_take_free_slot(p);
  uint32_t slot = p->spilled.head;
  if (slot == AII_NO_BLOCK) return slot;
  aii_kv_list_remove(p, &p->spilled, slot);
  aii_kv_tree_remove(p, slot);
  return slot;
}

bool aii_kv_spill(aii_kv_pool *p, uint32_t block)
{
  uint32_t slot = p->n_moves < p->max_moves ? take_slot(p) : AII_NO_BLOCK;
  if (slot == AII_NO_BLOCK) return false;
  aii_kv_tree_move(p, block, slot);
  aii_kv_list_append(p, &p->spilled, slot);
  note(p, block, slot, false);
  p->spills++;
  return true;
}

/* A slot that is in no list any more. */
static void hand_over(aii_kv_pool *p, uint32_t slot, uint32_t block)
{
  aii_kv_tree_move(p, slot, block);
  p->blocks[slot].next = p->free_slot_head;
  p->free_slot_head = slot;
  p->n_free_slots++;
}

void aii_kv_leave_slot(aii_kv_pool *p, uint32_t slot, uint32_t block)
{
  aii_kv_list_remove(p, &p->spilled, slot);
  hand_over(p, slot, block);
}

uint32_t aii_kv_fetch(aii_kv_pool *p, uint32_t slot)
{
  if (aii_kv_available(p) == 0 || p->max_moves - p->n_moves < 2) return AII_NO_BLOCK;
  aii_kv_list_remove(p, &p->spilled, slot); /* the block may be had by spilling another one: not to this slot */
  uint32_t block = aii_kv_take_block(p);
  hand_over(p, slot, block);
  note(p, block, slot, true);
  p->fetches++;
  return block;
}

const aii_kv_move *aii_kv_moves(aii_kv_pool *p, uint32_t *n)
{
  p->lent = true;
  *n = p->n_moves;
  return p->moves;
}

void aii_kv_moves_done(aii_kv_pool *p)
{
  p->n_moves = 0;
  p->lent = false;
}
