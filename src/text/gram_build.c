/* gram_build.c - makes compiled grammars: nodes, byte sets, rules, and the checks when all rules are in.
 *
 * aii_gb_finish refuses rules that were named but not defined and left recursion (the engine would call for ever
 * without reading a byte), follows empty choices to their ends, and sorts bytes into classes.
 */
#include <stdio.h>

#include "src/text/gram_impl.h"

uint32_t aii_gb_fail(aii_gb *b, aiinfra_status rc, const char *fmt, ...)
{
  if (b->rc != AIINFRA_OK) return 0;
  char what[300];
  va_list args;
  va_start(args, fmt);
  (void)vsnprintf(what, sizeof what, fmt, args);
  va_end(args);
  b->rc = aii_fail(b->err, rc, "%s", what);
  return 0;
}

aiinfra_status aii_gb_init(aii_gb *b, aii_mem *mem, aiinfra_error *err)
{
  memset(b, 0xFF, offsetof(aii_gb, quote)); /* every rule NONE */
  memset(&b->quote, 0, sizeof *b - offsetof(aii_gb, quote));
  b->err = err;
  b->rc = AIINFRA_OK;
  b->g = aii_new(mem, sizeof *b->g);
  if (b->g == NULL) return b->rc = aii_fail(err, AIINFRA_ENOMEM, "grammar");
  b->g->mem = mem;
  (void)aii_gb_node(b, GN_RET, 0, 0);
  return b->rc;
}

void aii_grammar_free(aii_grammar *g)
{
  if (g == NULL) return;
  aii_mem *mem = g->mem;
  aii_del(mem, g->nodes, g->cap_nodes * sizeof *g->nodes);
  aii_del(mem, g->sets, g->cap_sets * sizeof *g->sets);
  aii_del(mem, g->rules, g->cap_rules * sizeof *g->rules);
  aii_del(mem, g->waits, g->cap_waits * sizeof *g->waits);
  aii_del(mem, g, sizeof *g);
}

uint32_t aii_gb_node(aii_gb *b, uint32_t kind, uint32_t x, uint32_t y)
{
  aii_grammar *g = b->g;
  if (b->rc != AIINFRA_OK) return 0;
  if (g->n_nodes >= AII_G_MAX_NODES) {
    return aii_gb_fail(b, AIINFRA_ELIMIT, "the grammar needs more than %d nodes", AII_G_MAX_NODES);
  }
  if (!aii_grow(g->mem, &g->nodes, &g->cap_nodes, g->n_nodes + 1, sizeof *g->nodes)) {
    return aii_gb_fail(b, AIINFRA_ENOMEM, "grammar nodes");
  }
  g->nodes[g->n_nodes] = (aii_gnode){kind, x, y};
  return (uint32_t)g->n_nodes++;
}

uint32_t aii_gb_rule(aii_gb *b)
{
  aii_grammar *g = b->g;
  if (b->rc != AIINFRA_OK) return 0;
  if (!aii_grow(g->mem, &g->rules, &g->cap_rules, g->n_rules + 1, sizeof *g->rules)) {
    return aii_gb_fail(b, AIINFRA_ENOMEM, "grammar rules");
  }
  g->rules[g->n_rules] = AII_G_NONE;
  return (uint32_t)g->n_rules++;
}

void aii_gb_define(aii_gb *b, uint32_t rule, uint32_t entry)
{
  if (b->rc == AIINFRA_OK) b->g->rules[rule] = entry;
}

uint32_t aii_gb_set(aii_gb *b, const aii_gset *set, uint32_t next)
{
  aii_grammar *g = b->g;
  if (b->rc != AIINFRA_OK) return 0;
  size_t at = 0, from = g->n_sets > 64 ? g->n_sets - 64 : 0; /* the same few sets come again and again */
  for (at = from; at < g->n_sets && memcmp(&g->sets[at], set, sizeof *set) != 0;) at++;
  if (at == g->n_sets) {
    if (!aii_grow(g->mem, &g->sets, &g->cap_sets, g->n_sets + 1, sizeof *g->sets)) {
      return aii_gb_fail(b, AIINFRA_ENOMEM, "grammar sets");
    }
    g->sets[g->n_sets++] = *set;
  }
  return aii_gb_node(b, GN_SET, (uint32_t)at, next);
}

uint32_t aii_gb_bytes(aii_gb *b, const char *s, size_t n, uint32_t next)
{
  while (n-- > 0) {
    aii_gset set = {{0}};
    uint8_t byte = (uint8_t)s[n];
    set.bits[byte >> 6] |= 1ull << (byte & 63);
    next = aii_gb_set(b, &set, next);
  }
  return next;
}

uint32_t aii_gb_str(aii_gb *b, const char *s, uint32_t next)
{
  return aii_gb_bytes(b, s, strlen(s), next);
}

uint32_t aii_gb_chars(aii_gb *b, const char *ranges, uint32_t next)
{
  aii_gset set = {{0}};
  for (; ranges[0] != '\0' && ranges[1] != '\0'; ranges += 2) {
    for (uint32_t c = (uint8_t)ranges[0]; c <= (uint8_t)ranges[1]; c++) set.bits[c >> 6] |= 1ull << (c & 63);
  }
  return aii_gb_set(b, &set, next);
}

uint32_t aii_gb_split(aii_gb *b, uint32_t x, uint32_t y)
{
  return aii_gb_node(b, GN_SPLIT, x, y);
}

uint32_t aii_gb_call(aii_gb *b, uint32_t rule, uint32_t next)
{
  return aii_gb_node(b, GN_CALL, rule, next);
}

uint32_t aii_gb_space(aii_gb *b, uint32_t next)
{
  return aii_gb_split(b, aii_gb_str(b, " ", next), next);
}

uint32_t aii_gb_maybe(aii_gb *b, const char *s, uint32_t next)
{
  return s != NULL && s[0] != '\0' ? aii_gb_split(b, aii_gb_str(b, s, next), next) : next;
}

uint32_t aii_gb_either(aii_gb *b, uint32_t x, uint32_t y)
{
  return x == AII_G_NONE ? y : y == AII_G_NONE ? x : aii_gb_split(b, x, y);
}

uint32_t aii_gb_repeat_call(aii_gb *b, uint32_t rule, uint32_t min, uint32_t max, uint32_t next)
{
  uint32_t at = next;
  if (max == AII_G_NONE) {
    at = aii_gb_split(b, next, next);
    uint32_t again = aii_gb_call(b, rule, at);
    if (b->rc == AIINFRA_OK) b->g->nodes[at].a = again;
  }
  for (uint32_t i = min; max != AII_G_NONE && i < max; i++) at = aii_gb_split(b, aii_gb_call(b, rule, at), next);
  for (uint32_t i = 0; i < min; i++) at = aii_gb_call(b, rule, at);
  return at;
}

/* ---- checks ------------------------------------------------------------------------------------------------------- */

typedef struct checker {
  aii_grammar *g;
  uint32_t *mark, *stack; /* per node */
  uint8_t *nullable;      /* per rule */
  uint32_t *degree;       /* per rule: how many left calls reach it */
  uint32_t *queue;        /* rules that no left call reaches any more */
  size_t n_queue;
  uint64_t work;
} checker;

enum { MAX_WORK = 200000000 };

/* Visits what `rule` reaches without reading a byte. count: adds `by` to the degree of each rule called there. */
static bool left_walk(checker *c, uint32_t rule, uint32_t stamp, int by, bool *returns)
{
  size_t n = 0;
  *returns = false;
  c->stack[n++] = c->g->rules[rule];
  while (n > 0) {
    uint32_t at = c->stack[--n];
    if (c->mark[at] == stamp) continue;
    c->mark[at] = stamp;
    c->work++;
    const aii_gnode *node = &c->g->nodes[at];
    if (node->kind == GN_RET) *returns = true;
    if (node->kind == GN_SPLIT) {
      c->stack[n++] = node->a;
      if (node->b != node->a) c->stack[n++] = node->b;
    } else if (node->kind == GN_CALL) {
      c->degree[node->a] += (uint32_t)by;
      if (by < 0 && c->degree[node->a] == 0) c->queue[c->n_queue++] = node->a;
      if (c->nullable[node->a]) c->stack[n++] = node->b;
    }
  }
  return c->work < MAX_WORK;
}

static bool find_nullable(checker *c, uint32_t *stamp)
{
  bool changed = true, returns;
  while (changed) {
    changed = false;
    for (uint32_t r = 0; r < c->g->n_rules; r++) {
      if (c->nullable[r]) continue;
      if (!left_walk(c, r, ++*stamp, 0, &returns)) return false;
      if (returns) c->nullable[r] = changed = true;
    }
  }
  return true;
}

/* Removes rules that no other calls first; what remains calls itself. */
static bool find_cycle(checker *c, uint32_t *stamp, bool *cycle)
{
  bool returns;
  for (uint32_t r = 0; r < c->g->n_rules; r++) {
    if (!left_walk(c, r, ++*stamp, 1, &returns)) return false;
  }
  for (uint32_t r = 0; r < c->g->n_rules; r++) {
    if (c->degree[r] == 0) c->queue[c->n_queue++] = r;
  }
  for (size_t i = 0; i < c->n_queue; i++) {
    if (!left_walk(c, c->queue[i], ++*stamp, -1, &returns)) return false;
  }
  *cycle = c->n_queue < c->g->n_rules;
  return true;
}

static void check(aii_gb *b)
{
  aii_grammar *g = b->g;
  aii_mem *mem = g->mem;
  checker c = {.g = g};
  uint32_t stamp = 0;
  bool cycle = false;
  size_t per_node = g->n_nodes * sizeof(uint32_t), per_rule = g->n_rules * sizeof(uint32_t);
  c.queue = aii_new(mem, per_rule);
  c.mark = aii_new(mem, per_node);
  c.stack = aii_new(mem, 2 * per_node + 16);
  c.nullable = aii_new(mem, g->n_rules);
  c.degree = aii_new(mem, per_rule);
  if (c.queue == NULL || c.mark == NULL || c.stack == NULL || c.nullable == NULL || c.degree == NULL) {
    (void)aii_gb_fail(b, AIINFRA_ENOMEM, "checking the grammar");
  } else if (!find_nullable(&c, &stamp) || (memset(c.degree, 0, per_rule), !find_cycle(&c, &stamp, &cycle))) {
    (void)aii_gb_fail(b, AIINFRA_ELIMIT, "the grammar takes too long to check");
  } else if (cycle) {
    (void)aii_gb_fail(b, AIINFRA_EINVAL, "the grammar is left-recursive: a rule begins with itself");
  }
  aii_del(mem, c.queue, per_rule);
  aii_del(mem, c.mark, per_node);
  aii_del(mem, c.stack, 2 * per_node + 16);
  aii_del(mem, c.nullable, g->n_rules);
  aii_del(mem, c.degree, per_rule);
}

static uint32_t follow(const aii_grammar *g, uint32_t at)
{
  for (int hops = 0; hops < 256 && g->nodes[at].kind == GN_SPLIT && g->nodes[at].a == g->nodes[at].b; hops++) {
    at = g->nodes[at].a;
  }
  return at;
}

static void compress(aii_grammar *g)
{
  for (size_t i = 0; i < g->n_nodes; i++) {
    aii_gnode *node = &g->nodes[i];
    if (node->kind == GN_SPLIT) node->a = follow(g, node->a);
    if (node->kind != GN_RET) node->b = follow(g, node->b);
  }
  for (size_t r = 0; r < g->n_rules; r++) g->rules[r] = follow(g, g->rules[r]);
}

/* Splits the classes by each set in turn. */
static void classify(aii_grammar *g)
{
  memset(g->class_of, 0, sizeof g->class_of);
  g->n_classes = 1;
  for (size_t s = 0; s < g->n_sets && g->n_classes < 256; s++) {
    int inside[256], outside[256];
    uint32_t n = 0;
    memset(inside, -1, sizeof inside);
    memset(outside, -1, sizeof outside);
    for (uint32_t c = 0; c < 256; c++) {
      bool in = (g->sets[s].bits[c >> 6] >> (c & 63) & 1) != 0;
      int *slot = in ? &inside[g->class_of[c]] : &outside[g->class_of[c]];
      if (*slot < 0) *slot = (int)n++;
      g->class_of[c] = (uint8_t)*slot;
    }
    g->n_classes = n;
  }
}

aiinfra_status aii_gb_finish(aii_gb *b, aii_grammar **out)
{
  aii_grammar *g = b->g;
  *out = NULL;
  for (size_t r = 0; g != NULL && b->rc == AIINFRA_OK && r < g->n_rules; r++) {
    if (g->rules[r] == AII_G_NONE) (void)aii_gb_fail(b, AIINFRA_EINTERNAL, "rule %zu has no body", r);
  }
  if (b->rc == AIINFRA_OK) check(b);
  if (b->rc == AIINFRA_OK && g->n_waits > 0) aii_gw_link(b);
  if (b->rc != AIINFRA_OK) {
    aii_grammar_free(g);
    return b->rc;
  }
  compress(g);
  classify(g);
  *out = g;
  return AIINFRA_OK;
}
