/* dict.c - the texts of a vocabulary as a double array: a trie in which a step is one load, one comparison.
 *
 * A node's children lie at its base, each in the cell base ^ byte, and the cell holds that byte. No two nodes have the
 * same base, so a cell that holds the byte asked for is the child and nobody else's. The base of a leaf is 0: the
 * cells 0 and 1 are kept away, so that there no byte is found. Cells come in blocks of 256, which a base never leaves.
 *
 * Happy path: sort the texts; from the root on, of each node the bytes that follow; a base where all of them find free
 * cells, in one of the last few blocks or a new one. A block in which often none was found is closed: each is looked
 * through a bounded number of times. Free cells hold a byte that no base of the block asks for. ENOMEM.
 */
#include <stdlib.h>

#include "src/text/vocab_impl.h"

enum { BLOCK = 256, OPEN = 8, MAX_MISSES = 24 };

typedef struct keyed { /* a text by its first bytes; the text itself only breaks ties */
  uint64_t key;
  uint32_t token;
} keyed;

typedef struct bits {
  uint64_t of[BLOCK / 64];
} bits;

typedef struct block {
  uint32_t at; /* its first cell */
  uint32_t misses;
  bits cells, bases; /* taken */
} block;

typedef struct job { /* a node to do: the cell it lies in, its texts, how many bytes of them are behind it */
  uint32_t cell, from, to, depth;
} job;

typedef struct builder {
  const aii_vocab *vocab;
  aii_mem *mem;
  aii_dict *dict;
  keyed *texts;
  size_t n_texts;
  job *jobs;
  size_t n_jobs, cap_jobs;
  block open[OPEN];
  size_t n_open;
} builder;

static bool has(const bits *b, uint32_t i)
{
  return (b->of[i / 64] >> i % 64 & 1) != 0;
}

static void set(bits *b, uint32_t i)
{
  b->of[i / 64] |= UINT64_C(1) << i % 64;
}

/* The first i from `from` on that is not in b; BLOCK: none. */
static uint32_t next_free(const bits *b, uint32_t from)
{
  while (from < BLOCK) {
    uint64_t word = ~b->of[from / 64] >> from % 64;
    if (word != 0) return from + (uint32_t)__builtin_ctzll(word);
    from = (from / 64 + 1) * 64;
  }
  return BLOCK;
}

/* ---- the texts in order -------------------------------------------------------------------------------------------- */

static uint64_t key_of(aii_str text)
{
  uint64_t key = 0;
  for (size_t i = 0; i < 8; i++) key = key << 8 | (i < text.n ? (uint8_t)text.p[i] : 0);
  return key;
}

static int compare(const void *a, const void *b, void *user)
{
  const keyed *x = a, *y = b;
  if (x->key != y->key) return x->key < y->key ? -1 : 1;
  aii_str p = aii_vocab_symbol(user, x->token), q = aii_vocab_symbol(user, y->token);
  int order = memcmp(p.p, q.p, AII_MIN(p.n, q.n));
  if (order != 0) return order;
  if (p.n != q.n) return p.n < q.n ? -1 : 1;
  return x->token < y->token ? -1 : x->token > y->token;
}

static void sort_texts(builder *b, bool (*wanted)(const aii_vocab *, uint32_t))
{
  for (uint32_t i = 0; i < b->vocab->n_tokens; i++) {
    aii_str text = aii_vocab_symbol(b->vocab, i);
    if (wanted(b->vocab, i) && text.n > 0 && text.n <= AII_DICT_TEXT) b->texts[b->n_texts++] = (keyed){key_of(text), i};
  }
  qsort_r(b->texts, b->n_texts, sizeof *b->texts, compare, (void *)(uintptr_t)b->vocab);
}

/* ---- cells --------------------------------------------------------------------------------------------------------- */

/* A free cell holds the byte that a base which nobody has would look for there. */
static void close_block(builder *b, size_t which)
{
  const block *closed = &b->open[which];
  uint32_t nobody = next_free(&closed->bases, 0);
  for (uint32_t i = next_free(&closed->cells, 0); i < BLOCK; i = next_free(&closed->cells, i + 1)) {
    b->dict->cells[closed->at + i] = (aii_dict_cell){.mark = AII_DICT_NONE << 8 | (i ^ nobody)};
  }
  b->open[which] = b->open[--b->n_open];
}

static block *open_block(builder *b)
{
  aii_dict *d = b->dict;
  if (b->n_open == OPEN) close_block(b, 0);
  if (d->n > UINT32_MAX - BLOCK || !aii_grow(b->mem, &d->cells, &d->cap, d->n + BLOCK, sizeof *d->cells)) return NULL;
  b->open[b->n_open] = (block){.at = (uint32_t)d->n};
  d->n += BLOCK;
  return &b->open[b->n_open++];
}

/* The base within a block at which all of the bytes have free cells; BLOCK: none. */
static uint32_t base_in(const block *open, const uint8_t *bytes, size_t n)
{
  for (uint32_t i = next_free(&open->cells, 0); i < BLOCK; i = next_free(&open->cells, i + 1)) {
    uint32_t base = i ^ bytes[0];
    if (has(&open->bases, base)) continue;
    size_t k = 1;
    while (k < n && !has(&open->cells, base ^ bytes[k])) k++;
    if (k == n) return base;
  }
  return BLOCK;
}

/* Cells for the children of a node, which differ in these bytes. */
static bool place(builder *b, const uint8_t *bytes, size_t n, uint32_t *base)
{
  block *in = NULL;
  uint32_t found = BLOCK;
  for (size_t i = b->n_open; i-- > 0 && found == BLOCK;) {
    in = &b->open[i];
    found = base_in(in, bytes, n);
    if (found == BLOCK && ++in->misses > MAX_MISSES) close_block(b, i);
  }
  if (found == BLOCK) {
    in = open_block(b);
    if (in == NULL) return false;
    found = bytes[0]; /* any would do: all cells are free */
  }
  set(&in->bases, found);
  for (size_t i = 0; i < n; i++) set(&in->cells, found ^ bytes[i]);
  *base = in->at + found;
  return true;
}

/* ---- nodes --------------------------------------------------------------------------------------------------------- */

/* The children of a node: their cells, and what there is to do for them. */
static bool build_node(builder *b, job node)
{
  uint8_t bytes[BLOCK];
  size_t n = 0, first = b->n_jobs;
  uint32_t base = 0;
  for (uint32_t i = node.from; i < node.to;) {
    uint8_t byte = (uint8_t)aii_vocab_symbol(b->vocab, b->texts[i].token).p[node.depth];
    job child = {.from = i, .depth = node.depth + 1};
    while (i < node.to && (uint8_t)aii_vocab_symbol(b->vocab, b->texts[i].token).p[node.depth] == byte) i++;
    child.to = i;
    bytes[n++] = byte;
    if (!aii_grow(b->mem, &b->jobs, &b->cap_jobs, b->n_jobs + 1, sizeof *b->jobs)) return false;
    b->jobs[b->n_jobs++] = child;
  }
  if (n > 0 && !place(b, bytes, n, &base)) return false;
  if (node.depth == 0) b->dict->root = base;
  else b->dict->cells[node.cell].base = base;
  for (size_t i = 0; i < n; i++) {
    job *child = &b->jobs[first + i];
    uint32_t token = AII_DICT_NONE;
    child->cell = base ^ bytes[i];
    while (child->from < child->to) { /* the last of equal texts holds */
      uint32_t here = b->texts[child->from].token;
      if (aii_vocab_symbol(b->vocab, here).n > child->depth) break;
      token = here;
      child->from++;
    }
    b->dict->cells[child->cell] = (aii_dict_cell){.mark = token << 8 | bytes[i]};
  }
  return true;
}

static bool build(builder *b)
{
  block *first = open_block(b);
  if (first == NULL) return false;
  for (uint32_t i = 0; i < 2; i++) { /* where leaves look: cell 0 is of base 1, cell 1 of base 0, by their bytes */
    set(&first->cells, i);
    set(&first->bases, i);
    b->dict->cells[i] = (aii_dict_cell){.mark = AII_DICT_NONE << 8 | (1 - i)};
  }
  bool ok = build_node(b, (job){.to = (uint32_t)b->n_texts});
  while (ok && b->n_jobs > 0) ok = build_node(b, b->jobs[--b->n_jobs]);
  while (b->n_open > 0) close_block(b, 0);
  return ok;
}

bool aii_dict_build(aii_mem *mem, const aii_vocab *vocab, bool (*wanted)(const aii_vocab *, uint32_t), aii_dict *dict)
{
  builder b = {.vocab = vocab, .mem = mem, .dict = dict};
  b.texts = aii_new_array(mem, vocab->n_tokens, sizeof *b.texts);
  if (b.texts == NULL) return false;
  sort_texts(&b, wanted);
  bool ok = build(&b);
  aii_del(mem, b.texts, vocab->n_tokens * sizeof *b.texts);
  aii_del(mem, b.jobs, b.cap_jobs * sizeof *b.jobs);
  return ok;
}

void aii_dict_free(aii_mem *mem, aii_dict *dict)
{
  aii_del(mem, dict->cells, dict->cap * sizeof *dict->cells);
  *dict = (aii_dict){0};
}
