/* tmpl_arena.c - memory that is freed all at once, with a limit. One owner. */
#include "src/text/tmpl_impl.h"

enum { CHUNK_BYTES = 16 << 10 };

struct aii_arena_chunk {
  aii_arena_chunk *next;
  size_t size, used; /* of the bytes behind this head */
};

/* Keeps the data 16-aligned behind the head. */
enum { HEAD = (sizeof(struct aii_arena_chunk) + 15) & ~(size_t)15 };

void aii_arena_init(aii_arena *arena, aii_mem *mem, size_t limit)
{
  *arena = (aii_arena){.mem = mem, .limit = limit};
}

void aii_arena_free(aii_arena *arena)
{
  while (arena->chunks != NULL) {
    aii_arena_chunk *chunk = arena->chunks;
    arena->chunks = chunk->next;
    aii_del(arena->mem, chunk, HEAD + chunk->size);
  }
  arena->used = 0;
}

void *aii_arena_new(aii_arena *arena, size_t size)
{
  if (size > arena->limit) return NULL;
  size = (AII_MAX(size, 1) + 15) & ~(size_t)15;
  if (arena->used + size > arena->limit) return NULL;
  aii_arena_chunk *chunk = arena->chunks;
  if (chunk == NULL || chunk->size - chunk->used < size) {
    size_t bytes = AII_MAX(size, (size_t)CHUNK_BYTES);
    aii_arena_chunk *fresh = aii_new(arena->mem, HEAD + bytes);
    if (fresh == NULL) return NULL;
    fresh->size = bytes;
    if (chunk != NULL && bytes > CHUNK_BYTES) { /* a big block must not hide the room left in the last chunk */
      fresh->next = chunk->next;
      chunk->next = fresh;
    } else {
      fresh->next = chunk;
      arena->chunks = fresh;
    }
    chunk = fresh;
  }
  void *p = (char *)chunk + HEAD + chunk->used;
  chunk->used += size;
  arena->used += size;
  return p;
}
