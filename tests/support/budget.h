/* budget.h - hooks of a host's allocator that runs out after so many allocations, and counts what is not freed. */
#ifndef AIINFRA_TESTS_BUDGET_H
#define AIINFRA_TESTS_BUDGET_H

#include <stdlib.h>

#include "aiinfra/runtime.h"

typedef struct budget {
  long left; /* allocations that succeed */
  long live;
} budget;

static void *budget_give(budget *b, void *p)
{
  if (p != NULL) b->live++;
  return p;
}

static void *budget_alloc(void *user, size_t size)
{
  budget *b = user;
  return b->left-- > 0 ? budget_give(b, malloc(size)) : NULL;
}

static void *budget_resize(void *user, void *ptr, size_t size)
{
  budget *b = user;
  if (b->left-- <= 0) return NULL;
  return ptr != NULL ? realloc(ptr, size) : budget_give(b, malloc(size));
}

static void budget_free(void *user, void *ptr)
{
  budget *b = user;
  if (ptr != NULL) b->live--;
  free(ptr);
}

/* A runtime that lives on a budget; making it costs nothing. */
static inline aiinfra_status budget_runtime(budget *b, long left, aiinfra_runtime **out, aiinfra_error *err)
{
  aiinfra_runtime_opts opts = AIINFRA_RUNTIME_OPTS_INIT;
  aiinfra_allocator hooks = {budget_alloc, budget_resize, budget_free, b};
  opts.allocator = &hooks;
  *b = (budget){.left = 1000000};
  aiinfra_status rc = aiinfra_runtime_create(&opts, out, err);
  b->left = left;
  return rc;
}

#endif
