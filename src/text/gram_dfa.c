/* gram_dfa.c - runs a compiled grammar: sets of stacks as configurations of an automaton that is made as it is used.
 *
 * A top is a byte set's node with the stack of returns below it. Stacks are shared and numbered, a configuration is a
 * sorted set of tops and numbered too, so that a step over a byte seen before is one look-up. Two bytes of one class
 * share a step. What can fail: memory, or a grammar so ambiguous that a configuration passes MAX_TOPS.
 */
#include <stdlib.h>

#include "src/text/gram_impl.h"

enum { MAX_TOPS = 4096, MAX_WORK_ITEMS = 1 << 16, MAX_STACK_DEPTH = 2048, MAX_CONFIGS = 1 << 17 };

static uint64_t mix(uint64_t x)
{
  x ^= x >> 31;
  x *= 0x9E3779B97F4A7C15u;
  return x ^ x >> 29;
}

/* Room for one more entry at no more than half load; `rehash` by the caller. */
static bool index_reset(aii_mem *mem, aii_gindex *index, size_t cap)
{
  if (cap > index->cap) {
    uint32_t *slots = aii_new_array(mem, cap, sizeof *slots);
    if (slots == NULL) return false;
    aii_del(mem, index->slots, index->cap * sizeof *index->slots);
    index->slots = slots;
    index->cap = cap;
  }
  memset(index->slots, 0xFF, index->cap * sizeof *index->slots);
  return true;
}

bool aii_gdfa_init(aii_gdfa *d, aii_mem *mem, const aii_grammar *g)
{
  memset(d, 0, sizeof *d);
  d->mem = mem;
  d->g = g;
  uint32_t nothing = AII_G_NONE;
  return index_reset(mem, &d->stack_index, 256) && index_reset(mem, &d->config_index, 256) &&
         index_reset(mem, &d->seen, 256) && aii_gdfa_flush(d, &nothing);
}

void aii_gdfa_free(aii_gdfa *d)
{
  aii_mem *mem = d->mem;
  if (mem == NULL) return;
  aii_del(mem, d->stacks, d->cap_stacks * sizeof *d->stacks);
  aii_del(mem, d->tops, d->cap_tops * sizeof *d->tops);
  aii_del(mem, d->configs, d->cap_configs * sizeof *d->configs);
  aii_del(mem, d->next, d->cap_next * sizeof *d->next);
  aii_del(mem, d->work, d->cap_work * sizeof *d->work);
  aii_del(mem, d->stack_index.slots, d->stack_index.cap * sizeof(uint32_t));
  aii_del(mem, d->config_index.slots, d->config_index.cap * sizeof(uint32_t));
  aii_del(mem, d->seen.slots, d->seen.cap * sizeof(uint32_t));
  memset(d, 0, sizeof *d);
}

/* ---- stacks ------------------------------------------------------------------------------------------------------- */

static uint32_t *stack_slot(const aii_gdfa *d, uint32_t node, uint32_t parent)
{
  size_t mask = d->stack_index.cap - 1, at = (size_t)mix((uint64_t)node << 32 | parent) & mask;
  while (d->stack_index.slots[at] != AII_G_NONE) {
    const aii_gstack *s = &d->stacks[d->stack_index.slots[at]];
    if (s->node == node && s->parent == parent) break;
    at = (at + 1) & mask;
  }
  return &d->stack_index.slots[at];
}

/* The stack `parent` with one more return; NONE: memory. Too deep: the bottom's number 0 is never returned for it. */
static uint32_t push_stack(aii_gdfa *d, uint32_t node, uint32_t parent)
{
  if (2 * d->n_stacks >= d->stack_index.cap) {
    if (!index_reset(d->mem, &d->stack_index, 2 * d->stack_index.cap)) return AII_G_NONE;
    for (uint32_t i = 1; i < d->n_stacks; i++) *stack_slot(d, d->stacks[i].node, d->stacks[i].parent) = i;
  }
  uint32_t *slot = stack_slot(d, node, parent);
  if (*slot != AII_G_NONE) return *slot;
  if (!aii_grow(d->mem, &d->stacks, &d->cap_stacks, d->n_stacks + 1, sizeof *d->stacks)) return AII_G_NONE;
  d->stacks[d->n_stacks] = (aii_gstack){node, parent, d->stacks[parent].depth + 1};
  *slot = (uint32_t)d->n_stacks;
  return (uint32_t)d->n_stacks++;
}

/* ---- closures ----------------------------------------------------------------------------------------------------- */

/* Adds (node, stack) to the closure under way unless it is there. */
static bool reach(aii_gdfa *d, uint32_t node, uint32_t stack)
{
  uint64_t item = (uint64_t)node << 32 | stack;
  if (2 * d->n_seen >= d->seen.cap) {
    if (!index_reset(d->mem, &d->seen, 2 * d->seen.cap)) return false;
    for (uint32_t i = 0; i < d->n_seen; i++) {
      size_t at = (size_t)mix(d->work[i]) & (d->seen.cap - 1);
      while (d->seen.slots[at] != AII_G_NONE) at = (at + 1) & (d->seen.cap - 1);
      d->seen.slots[at] = i;
    }
  }
  size_t mask = d->seen.cap - 1, at = (size_t)mix(item) & mask;
  while (d->seen.slots[at] != AII_G_NONE) {
    if (d->work[d->seen.slots[at]] == item) return true;
    at = (at + 1) & mask;
  }
  if (d->n_seen >= MAX_WORK_ITEMS) return false;
  if (!aii_grow(d->mem, &d->work, &d->cap_work, d->n_seen + 1, sizeof *d->work)) return false;
  d->seen.slots[at] = (uint32_t)d->n_seen;
  d->work[d->n_seen++] = item;
  return true;
}

/* Clears what the last closure put into `seen`, by its own items. */
static void closure_begin(aii_gdfa *d)
{
  if (d->n_seen * 8 > d->seen.cap) {
    memset(d->seen.slots, 0xFF, d->seen.cap * sizeof *d->seen.slots);
  } else {
    size_t mask = d->seen.cap - 1;
    for (size_t i = 0; i < d->n_seen; i++) { /* every slot of the runs that hold them */
      size_t at = (size_t)mix(d->work[i]) & mask;
      while (d->seen.slots[at] != AII_G_NONE) {
        d->seen.slots[at] = AII_G_NONE;
        at = (at + 1) & mask;
      }
    }
  }
  d->n_seen = 0;
}

/* Follows what reads no byte. `accepting`: the bottom was reached by a return. */
static bool close_over(aii_gdfa *d, bool *accepting)
{
  *accepting = false;
  for (size_t i = 0; i < d->n_seen; i++) {
    uint32_t at = (uint32_t)(d->work[i] >> 32), stack = (uint32_t)d->work[i];
    const aii_gnode *node = &d->g->nodes[at];
    switch (node->kind) {
      case GN_SPLIT:
        if (!reach(d, node->a, stack) || !reach(d, node->b, stack)) return false;
        break;
      case GN_CALL: {
        /* a call whose return would only return again needs no place on the stack */
        bool tail = d->g->nodes[node->b].kind == GN_RET;
        uint32_t below = tail ? stack : d->stacks[stack].depth >= MAX_STACK_DEPTH ? 0 : push_stack(d, node->b, stack);
        if (below == AII_G_NONE) return false;
        if (!tail && below == 0) break; /* too deep: this way ends */
        if (!reach(d, d->g->rules[node->a], below)) return false;
        break;
      }
      case GN_RET:
        if (stack == 0) {
          *accepting = true;
        } else if (!reach(d, d->stacks[stack].node, d->stacks[stack].parent)) {
          return false;
        }
        break;
      default: break;
    }
  }
  return true;
}

static int by_value(const void *a, const void *b)
{
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

static uint32_t *config_slot(const aii_gdfa *d, const uint64_t *tops, size_t n, bool accepting)
{
  size_t mask = d->config_index.cap - 1, at = (size_t)aii_hash64(tops, n * sizeof *tops, accepting) & mask;
  while (d->config_index.slots[at] != AII_G_NONE) {
    const aii_gconfig *c = &d->configs[d->config_index.slots[at]];
    if (c->n == n && c->accepting == accepting && memcmp(d->tops + c->first, tops, n * sizeof *tops) == 0) break;
    at = (at + 1) & mask;
  }
  return &d->config_index.slots[at];
}

/* The number of the configuration whose tops lie behind the last known ones. */
static uint32_t intern_config(aii_gdfa *d, size_t n, bool accepting)
{
  uint64_t *tops = d->tops + d->n_tops;
  if (n == 0 && !accepting) return AII_G_DEAD;
  if (2 * d->n_configs >= d->config_index.cap) {
    if (!index_reset(d->mem, &d->config_index, 2 * d->config_index.cap)) return AII_G_NONE;
    for (uint32_t i = 1; i < d->n_configs; i++) {
      const aii_gconfig *c = &d->configs[i];
      *config_slot(d, d->tops + c->first, c->n, c->accepting) = i;
    }
  }
  if (n > 1) qsort(tops, n, sizeof *tops, by_value);
  uint32_t *slot = config_slot(d, tops, n, accepting);
  if (*slot != AII_G_NONE) return *slot;
  size_t row = d->g->n_classes;
  if (d->n_configs >= MAX_CONFIGS) return AII_G_NONE;
  if (!aii_grow(d->mem, &d->configs, &d->cap_configs, d->n_configs + 1, sizeof *d->configs) ||
      !aii_grow(d->mem, &d->next, &d->cap_next, (d->n_configs + 1) * row, sizeof *d->next)) {
    return AII_G_NONE;
  }
  d->configs[d->n_configs] = (aii_gconfig){(uint32_t)d->n_tops, (uint32_t)n, accepting};
  memset(d->next + d->n_configs * row, 0xFF, row * sizeof *d->next);
  d->n_tops += n;
  *slot = (uint32_t)d->n_configs;
  return (uint32_t)d->n_configs++;
}

/* The configuration of the closure under way. */
static uint32_t settle(aii_gdfa *d)
{
  bool accepting;
  size_t n = 0;
  if (!close_over(d, &accepting)) return AII_G_NONE;
  for (size_t i = 0; i < d->n_seen; i++) n += d->g->nodes[d->work[i] >> 32].kind == GN_SET;
  if (n > MAX_TOPS || !aii_grow(d->mem, &d->tops, &d->cap_tops, d->n_tops + n + 1, sizeof *d->tops)) return AII_G_NONE;
  uint64_t *tops = d->tops + d->n_tops;
  n = 0;
  for (size_t i = 0; i < d->n_seen; i++) {
    if (d->g->nodes[d->work[i] >> 32].kind == GN_SET) tops[n++] = d->work[i];
  }
  return intern_config(d, n, accepting);
}

uint32_t aii_gdfa_start(aii_gdfa *d)
{
  closure_begin(d);
  return reach(d, d->g->rules[0], 0) ? settle(d) : AII_G_NONE;
}

static uint32_t make_step(aii_gdfa *d, uint32_t config, uint8_t byte)
{
  aii_gconfig c = d->configs[config];
  closure_begin(d);
  for (uint32_t i = 0; i < c.n; i++) {
    uint64_t top = d->tops[c.first + i];
    const aii_gnode *node = &d->g->nodes[top >> 32];
    if ((d->g->sets[node->a].bits[byte >> 6] >> (byte & 63) & 1) == 0) continue;
    if (!reach(d, node->b, (uint32_t)top)) return AII_G_NONE;
  }
  return settle(d);
}

uint32_t aii_gdfa_step(aii_gdfa *d, uint32_t config, uint8_t byte)
{
  size_t at = (size_t)config * d->g->n_classes + d->g->class_of[byte];
  uint32_t next = d->next[at];
  if (next != AII_G_NONE) return next;
  next = make_step(d, config, byte);
  if (next != AII_G_NONE) d->next[at] = next;
  return next;
}

/* ---- flushing ------------------------------------------------------------------------------------------------------ */

/* Moves the stacks below `tops` into a fresh arena: from the bottom up, so that a parent is moved before its child. */
static bool keep_stacks(aii_gdfa *d, uint64_t *tops, size_t n, const aii_gstack *old)
{
  uint32_t path[MAX_STACK_DEPTH + 1];
  for (size_t i = 0; i < n; i++) {
    size_t depth = 0;
    for (uint32_t s = (uint32_t)tops[i]; s != 0 && depth <= MAX_STACK_DEPTH; s = old[s].parent) path[depth++] = s;
    uint32_t parent = 0;
    while (depth > 0 && parent != AII_G_NONE) parent = push_stack(d, old[path[--depth]].node, parent);
    if (parent == AII_G_NONE) return false;
    tops[i] = tops[i] >> 32 << 32 | parent;
  }
  return true;
}

bool aii_gdfa_flush(aii_gdfa *d, uint32_t *config)
{
  bool keep = *config != AII_G_NONE && *config != AII_G_DEAD;
  aii_gconfig c = keep ? d->configs[*config] : (aii_gconfig){0};
  aii_gstack *old = d->stacks;
  size_t old_cap = d->cap_stacks, row = d->g->n_classes;
  if (c.n > 0) memmove(d->tops, d->tops + c.first, c.n * sizeof *d->tops);
  d->stacks = NULL;
  d->cap_stacks = d->n_tops = d->n_seen = 0;
  memset(d->stack_index.slots, 0xFF, d->stack_index.cap * sizeof(uint32_t));
  memset(d->config_index.slots, 0xFF, d->config_index.cap * sizeof(uint32_t));
  memset(d->seen.slots, 0xFF, d->seen.cap * sizeof(uint32_t));
  bool ok = aii_grow(d->mem, &d->stacks, &d->cap_stacks, 64, sizeof *d->stacks) &&
            aii_grow(d->mem, &d->configs, &d->cap_configs, 1, sizeof *d->configs) &&
            aii_grow(d->mem, &d->next, &d->cap_next, row, sizeof *d->next);
  if (ok) {
    d->stacks[0] = (aii_gstack){0};
    d->n_stacks = 1;
    d->configs[0] = (aii_gconfig){0};
    d->n_configs = 1;
    memset(d->next, 0, row * sizeof *d->next); /* dead stays dead */
    ok = keep_stacks(d, d->tops, c.n, old);
  }
  if (ok && keep) ok = (*config = intern_config(d, c.n, c.accepting)) != AII_G_NONE;
  aii_del(d->mem, old, old_cap * sizeof *old);
  return ok;
}
