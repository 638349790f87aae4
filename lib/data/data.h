/* lib/data/data.h - two containers: a hash map from strings to 32-bit numbers, and a binary heap.
 *
 * aii_map borrows its keys: the bytes must outlive the map. aii_heap keeps elements of one size in an array, the
 * smallest by `before` on top. Both grow; a failed allocation returns false and changes nothing. One owner.
 */
#ifndef AII_DATA_H
#define AII_DATA_H

#include "lib/base/base.h"

typedef struct aii_map_slot {
  const char *key; /* NULL: free */
  uint32_t n, value;
} aii_map_slot;

typedef struct aii_map {
  aii_mem *mem;
  aii_map_slot *slots;
  size_t n, cap; /* cap: 0 or a power of two */
} aii_map;

void aii_map_init(aii_map *map, aii_mem *mem);
void aii_map_free(aii_map *map);
bool aii_map_reserve(aii_map *map, size_t n);                              /* room for n keys in all */
bool aii_map_set(aii_map *map, const char *key, size_t n, uint32_t value); /* replaces */
bool aii_map_get(const aii_map *map, const char *key, size_t n, uint32_t *value);

typedef bool (*aii_before_fn)(const void *a, const void *b);

typedef struct aii_heap {
  aii_mem *mem;
  char *items;
  size_t n, cap, elem_size; /* elem_size at most 64 */
  aii_before_fn before;
} aii_heap;

void aii_heap_init(aii_heap *heap, aii_mem *mem, size_t elem_size, aii_before_fn before);
void aii_heap_free(aii_heap *heap);
bool aii_heap_push(aii_heap *heap, const void *elem);
bool aii_heap_pop(aii_heap *heap, void *elem); /* false: empty */

#endif
