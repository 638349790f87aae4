/* mem.c - counted memory over the host's allocator hooks.
 *
 * Every byte handed out is counted, so that a test can see that nothing leaked and a budget can be held. Blocks
 * carry no header: the caller gives the size back to aii_del(). Two kinds do carry one: aligned blocks (to find
 * the start) and exported strings (the host frees them with no runtime at hand). Any thread.
 */
#include <stdlib.h>

#include "lib/base/base.h"

static void *libc_alloc(void *user, size_t size)
{
  (void)user;
  return malloc(size);
}

static void *libc_resize(void *user, void *ptr, size_t size)
{
  (void)user;
  return realloc(ptr, size);
}

static void libc_release(void *user, void *ptr)
{
  (void)user;
  free(ptr);
}

void aii_mem_init(aii_mem *mem, const aiinfra_allocator *hooks, size_t limit_bytes)
{
  memset(mem, 0, sizeof *mem);
  mem->limit_bytes = limit_bytes;
  if (hooks != NULL) {
    mem->hooks = *hooks;
    return;
  }
  mem->hooks.alloc = libc_alloc;
  mem->hooks.resize = libc_resize;
  mem->hooks.release = libc_release;
}

/* Counts `size` bytes in; false when they would pass the limit. */
static bool charge(aii_mem *mem, size_t size)
{
  size_t before = atomic_load_explicit(&mem->used_bytes, memory_order_relaxed), used;
  do { /* a size that is refused is never counted: it would make smaller ones of other threads fail */
    if (!aii_size_add(before, size, &used) || (mem->limit_bytes != 0 && used > mem->limit_bytes)) return false;
  } while (!atomic_compare_exchange_weak_explicit(&mem->used_bytes, &before, used, memory_order_relaxed,
                                                  memory_order_relaxed));
  size_t peak = atomic_load_explicit(&mem->peak_bytes, memory_order_relaxed);
  while (used > peak && !atomic_compare_exchange_weak_explicit(&mem->peak_bytes, &peak, used, memory_order_relaxed,
                                                               memory_order_relaxed)) {}
  return true;
}

static void uncharge(aii_mem *mem, size_t size)
{
  atomic_fetch_sub_explicit(&mem->used_bytes, size, memory_order_relaxed);
}

void *aii_new_raw(aii_mem *mem, size_t size)
{
  if (size == 0 || !charge(mem, size)) return NULL;
  void *ptr = mem->hooks.alloc(mem->hooks.user, size);
  if (ptr == NULL) uncharge(mem, size);
  return ptr;
}

void *aii_new(aii_mem *mem, size_t size)
{
  void *ptr = aii_new_raw(mem, size);
  if (ptr != NULL) memset(ptr, 0, size);
  return ptr;
}

void *aii_new_array(aii_mem *mem, size_t n, size_t elem_size)
{
  size_t size;
  if (!aii_size_mul(n, elem_size, &size)) return NULL;
  return aii_new(mem, size);
}

void *aii_resize(aii_mem *mem, void *ptr, size_t old_size, size_t new_size)
{
  if (ptr == NULL) return aii_new_raw(mem, new_size);
  if (new_size == 0) return NULL;
  if (new_size > old_size && !charge(mem, new_size - old_size)) return NULL;
  void *moved = mem->hooks.resize(mem->hooks.user, ptr, new_size);
  if (moved == NULL) {
    if (new_size > old_size) uncharge(mem, new_size - old_size);
    return NULL;
  }
  if (new_size < old_size) uncharge(mem, old_size - new_size);
  return moved;
}

void aii_del(aii_mem *mem, void *ptr, size_t size)
{
  if (ptr == NULL) return;
  mem->hooks.release(mem->hooks.user, ptr);
  uncharge(mem, size);
}

enum { ALIGNMENT = 64 };

void *aii_new_aligned(aii_mem *mem, size_t size)
{
  size_t total;
  if (size == 0 || !aii_size_add(size, ALIGNMENT + sizeof(void *), &total)) return NULL;
  char *base = aii_new_raw(mem, total);
  if (base == NULL) return NULL;
  uintptr_t at = ((uintptr_t)base + sizeof(void *) + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1);
  void *ptr = base + (at - (uintptr_t)base);
  memcpy((char *)ptr - sizeof(void *), &base, sizeof base);
  return ptr;
}

void aii_del_aligned(aii_mem *mem, void *ptr, size_t size)
{
  if (ptr == NULL) return;
  char *base;
  memcpy(&base, (char *)ptr - sizeof(void *), sizeof base);
  aii_del(mem, base, size + ALIGNMENT + sizeof(void *));
}

char *aii_strndup(aii_mem *mem, const char *s, size_t n)
{
  size_t size;
  if (!aii_size_add(n, 1, &size)) return NULL;
  char *copy = aii_new_raw(mem, size);
  if (copy == NULL) return NULL;
  if (n > 0) memcpy(copy, s, n);
  copy[n] = '\0';
  return copy;
}

char *aii_strdup(aii_mem *mem, const char *s)
{
  return aii_strndup(mem, s, strlen(s));
}

void aii_strfree(aii_mem *mem, char *s)
{
  if (s != NULL) aii_del(mem, s, strlen(s) + 1);
}

bool aii_size_mul(size_t a, size_t b, size_t *out)
{
  return !__builtin_mul_overflow(a, b, out);
}

bool aii_size_add(size_t a, size_t b, size_t *out)
{
  return !__builtin_add_overflow(a, b, out);
}

bool aii_grow_(aii_mem *mem, void **items, size_t *cap, size_t want, size_t elem_size)
{
  if (want <= *cap) return true;
  size_t new_cap = AII_MAX(want, *cap + *cap / 2 + 8), bytes;
  if (!aii_size_mul(new_cap, elem_size, &bytes)) return false;
  void *moved = aii_resize(mem, *items, *cap * elem_size, bytes);
  if (moved == NULL) return false;
  *items = moved;
  *cap = new_cap;
  return true;
}

/* What stands before an exported string; 16 bytes, so that the string stays aligned. */
typedef struct export_head {
  aii_mem *mem;
  size_t size;
} export_head;

char *aii_export_string(aii_mem *mem, const char *s, size_t n)
{
  size_t size;
  if (!aii_size_add(n, sizeof(export_head) + 1, &size)) return NULL;
  export_head *head = aii_new_raw(mem, size);
  if (head == NULL) return NULL;
  head->mem = mem;
  head->size = size;
  char *text = (char *)(head + 1);
  if (n > 0) memcpy(text, s, n);
  text[n] = '\0';
  return text;
}

void aiinfra_string_free(char *string)
{
  if (string == NULL) return;
  export_head *head = (export_head *)(void *)string - 1;
  aii_del(head->mem, head, head->size);
}
