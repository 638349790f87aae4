/* pairs.c - open addressing with linear probing, at most half full: 64-bit keys, two numbers each. */
#include "src/text/pipe_impl.h"

bool aii_pairs_reserve(aii_mem *mem, aii_pairs *pairs, size_t n)
{
  size_t cap = 16;
  while (cap / 2 < n) {
    if (!aii_size_mul(cap, 2, &cap)) return false;
  }
  if (cap <= pairs->cap) return true;
  aii_pairs old = *pairs;
  pairs->slots = aii_new_array(mem, cap, sizeof *pairs->slots);
  if (pairs->slots == NULL) {
    *pairs = old;
    return false;
  }
  pairs->cap = cap;
  for (size_t i = 0; i < cap; i++) pairs->slots[i].key = UINT64_MAX;
  for (size_t i = 0; i < old.cap; i++) {
    if (old.slots[i].key == UINT64_MAX) continue;
    size_t at = aii_pairs_home(pairs, old.slots[i].key);
    while (pairs->slots[at].key != UINT64_MAX) at = (at + 1) & (cap - 1);
    pairs->slots[at] = old.slots[i];
  }
  aii_del(mem, old.slots, old.cap * sizeof *old.slots);
  return true;
}

aii_pair *aii_pairs_put(aii_mem *mem, aii_pairs *pairs, uint64_t key)
{
  if (!aii_pairs_reserve(mem, pairs, pairs->n + 1)) return NULL;
  size_t at = aii_pairs_home(pairs, key);
  while (pairs->slots[at].key != key && pairs->slots[at].key != UINT64_MAX) at = (at + 1) & (pairs->cap - 1);
  if (pairs->slots[at].key == UINT64_MAX) {
    pairs->slots[at] = (aii_pair){key, UINT32_MAX, UINT32_MAX};
    pairs->n++;
  }
  return &pairs->slots[at];
}

void aii_pairs_free(aii_mem *mem, aii_pairs *pairs)
{
  aii_del(mem, pairs->slots, pairs->cap * sizeof *pairs->slots);
  *pairs = (aii_pairs){0};
}
