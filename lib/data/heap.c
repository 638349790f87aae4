/* heap.c - a binary heap over elements of one size. */
#include "lib/data/data.h"

void aii_heap_init(aii_heap *heap, aii_mem *mem, size_t elem_size, aii_before_fn before)
{
  memset(heap, 0, sizeof *heap);
  heap->mem = mem;
  heap->elem_size = elem_size;
  heap->before = before;
}

void aii_heap_free(aii_heap *heap)
{
  aii_del(heap->mem, heap->items, heap->cap * heap->elem_size);
  heap->items = NULL;
  heap->n = heap->cap = 0;
}

bool aii_heap_push(aii_heap *heap, const void *elem)
{
  size_t size = heap->elem_size;
  if (!aii_grow(heap->mem, &heap->items, &heap->cap, heap->n + 1, size)) return false;
  size_t at = heap->n++;
  while (at > 0) {
    size_t up = (at - 1) / 2;
    if (!heap->before(elem, heap->items + up * size)) break;
    memcpy(heap->items + at * size, heap->items + up * size, size);
    at = up;
  }
  memcpy(heap->items + at * size, elem, size);
  return true;
}

bool aii_heap_pop(aii_heap *heap, void *elem)
{
  if (heap->n == 0) return false;
  size_t size = heap->elem_size, n = --heap->n, at = 0;
  memcpy(elem, heap->items, size);
  char last[64];
  memcpy(last, heap->items + n * size, size);
  for (;;) {
    size_t down = 2 * at + 1;
    if (down >= n) break;
    if (down + 1 < n && heap->before(heap->items + (down + 1) * size, heap->items + down * size)) down++;
    if (!heap->before(heap->items + down * size, last)) break;
    memcpy(heap->items + at * size, heap->items + down * size, size);
    at = down;
  }
  if (n > 0) memcpy(heap->items + at * size, last, size);
  return true;
}
