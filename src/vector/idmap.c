/* idmap.c - row id to slot: open addressing, linear probing, entries only added or replaced. One owner. */
#include "src/vector/vector.h"

void aii_idmap_init(aii_idmap *map, aii_mem *mem)
{
  memset(map, 0, sizeof *map);
  map->mem = mem;
}

void aii_idmap_free(aii_idmap *map)
{
  aii_del(map->mem, map->keys, map->cap * sizeof *map->keys);
  aii_del(map->mem, map->slots, map->cap * sizeof *map->slots);
  aii_idmap_init(map, map->mem);
}

/* Where the id is, or where it would go. */
static size_t probe(const aii_idmap *map, int64_t id)
{
  uint64_t hash = (uint64_t)id * 0x9E3779B97F4A7C15u;
  size_t at = (size_t)(hash ^ hash >> 32) & (map->cap - 1);
  while (map->slots[at] != AII_NO_SLOT && map->keys[at] != id) at = (at + 1) & (map->cap - 1);
  return at;
}

static size_t cap_for(const aii_idmap *map, size_t n)
{
  size_t cap = map->cap != 0 ? map->cap : 64;
  while (cap < SIZE_MAX / 4 && cap - cap / 8 < n) cap *= 2;
  return cap;
}

bool aii_idmap_grow(const aii_idmap *map, size_t n, aii_idmap *out)
{
  size_t cap = cap_for(map, n);
  aii_idmap next = {.mem = map->mem, .cap = cap, .n = map->n};
  aii_idmap_init(out, map->mem);
  if (cap == map->cap) return true;
  next.keys = aii_new_array(map->mem, cap, sizeof *next.keys);
  next.slots = aii_new_array(map->mem, cap, sizeof *next.slots);
  if (next.keys == NULL || next.slots == NULL) {
    aii_idmap_free(&next);
    return false;
  }
  memset(next.slots, 0xFF, cap * sizeof *next.slots);
  for (size_t i = 0; i < map->cap; i++) {
    if (map->slots[i] == AII_NO_SLOT) continue;
    size_t at = probe(&next, map->keys[i]);
    next.keys[at] = map->keys[i];
    next.slots[at] = map->slots[i];
  }
  *out = next;
  return true;
}

bool aii_idmap_reserve(aii_idmap *map, size_t n)
{
  aii_idmap next;
  if (!aii_idmap_grow(map, n, &next)) return false;
  if (next.cap == 0) return true;
  aii_idmap_free(map);
  *map = next;
  return true;
}

bool aii_idmap_set(aii_idmap *map, int64_t id, uint32_t slot)
{
  if (!aii_idmap_reserve(map, map->n + 1)) return false;
  size_t at = probe(map, id);
  if (map->slots[at] == AII_NO_SLOT) map->n++;
  map->keys[at] = id;
  map->slots[at] = slot;
  return true;
}

uint32_t aii_idmap_get(const aii_idmap *map, int64_t id)
{
  return map->cap == 0 ? AII_NO_SLOT : map->slots[probe(map, id)];
}
