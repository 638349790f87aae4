/* near.c - the nearest so far: binary heaps over the caller's array of (distance, id, slot). No memory of its own. */
#include "src/vector/vector.h"

bool aii_near_before(const aii_near *a, const aii_near *b)
{
  return a->dist != b->dist ? a->dist < b->dist : a->id < b->id;
}

/* far: the farthest is on top; else the nearest. */
static bool above(bool far, const aii_near *a, const aii_near *b)
{
  return far ? aii_near_before(b, a) : aii_near_before(a, b);
}

static void sift_up(aii_near *heap, size_t at, bool far)
{
  aii_near item = heap[at];
  while (at > 0 && above(far, &item, &heap[(at - 1) / 2])) {
    heap[at] = heap[(at - 1) / 2];
    at = (at - 1) / 2;
  }
  heap[at] = item;
}

static void sift_down(aii_near *heap, size_t n, bool far)
{
  aii_near item = heap[0];
  size_t at = 0;
  for (size_t child = 1; child < n; child = 2 * at + 1) {
    if (child + 1 < n && above(far, &heap[child + 1], &heap[child])) child++;
    if (!above(far, &heap[child], &item)) break;
    heap[at] = heap[child];
    at = child;
  }
  heap[at] = item;
}

void aii_near_push(aii_near *heap, size_t *n, aii_near item)
{
  heap[*n] = item;
  sift_up(heap, (*n)++, false);
}

aii_near aii_near_pop(aii_near *heap, size_t *n)
{
  aii_near top = heap[0];
  heap[0] = heap[--*n];
  if (*n > 0) sift_down(heap, *n, false);
  return top;
}

void aii_near_offer(aii_near *heap, size_t *n, size_t cap, aii_near item)
{
  if (*n < cap) {
    heap[*n] = item;
    sift_up(heap, (*n)++, true);
  } else if (cap > 0 && aii_near_before(&item, &heap[0])) {
    heap[0] = item;
    sift_down(heap, *n, true);
  }
}

void aii_near_sort(aii_near *heap, size_t n)
{
  for (size_t left = n; left > 1; left--) {
    aii_near top = heap[0];
    heap[0] = heap[left - 1];
    heap[left - 1] = top;
    sift_down(heap, left - 1, true);
  }
}
