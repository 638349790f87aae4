/* map.c - open addressing with linear probing, at most half full. Keys are borrowed. */
#include "lib/data/data.h"

void aii_map_init(aii_map *map, aii_mem *mem)
{
  memset(map, 0, sizeof *map);
  map->mem = mem;
}

void aii_map_free(aii_map *map)
{
  aii_del(map->mem, map->slots, map->cap * sizeof *map->slots);
  aii_map_init(map, map->mem);
}

/* The slot that holds the key, or the free one where it belongs. */
static aii_map_slot *find(const aii_map *map, const char *key, size_t n)
{
  size_t mask = map->cap - 1;
  size_t at = (size_t)aii_hash64(key, n, 0) & mask;
  while (map->slots[at].key != NULL && (map->slots[at].n != n || memcmp(map->slots[at].key, key, n) != 0)) {
    at = (at + 1) & mask;
  }
  return &map->slots[at];
}

bool aii_map_reserve(aii_map *map, size_t n)
{
  size_t cap = 16;
  while (cap / 2 < n) {
    if (!aii_size_mul(cap, 2, &cap)) return false;
  }
  if (cap <= map->cap) return true;
  aii_map old = *map;
  map->slots = aii_new_array(map->mem, cap, sizeof *map->slots);
  if (map->slots == NULL) {
    *map = old;
    return false;
  }
  map->cap = cap;
  for (size_t i = 0; i < old.cap; i++) {
    if (old.slots[i].key != NULL) *find(map, old.slots[i].key, old.slots[i].n) = old.slots[i];
  }
  aii_del(map->mem, old.slots, old.cap * sizeof *old.slots);
  return true;
}

bool aii_map_set(aii_map *map, const char *key, size_t n, uint32_t value)
{
  if (n > UINT32_MAX || !aii_map_reserve(map, map->n + 1)) return false;
  aii_map_slot *slot = find(map, key, n);
  if (slot->key == NULL) map->n++;
  *slot = (aii_map_slot){key, (uint32_t)n, value};
  return true;
}

bool aii_map_get(const aii_map *map, const char *key, size_t n, uint32_t *value)
{
  if (map->cap == 0) return false;
  const aii_map_slot *slot = find(map, key, n);
  if (slot->key == NULL) return false;
  *value = slot->value;
  return true;
}
