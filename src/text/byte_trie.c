/* byte_trie.c - all pieces of a vocabulary as a trie over bytes, in depth-first order.
 *
 * Grammar masks walk it: a forbidden byte skips the whole subtree by one addition. Built once from the tokens sorted
 * by their pieces; tokens that print nothing or that no grammar may allow are left out.
 */
#include <stdlib.h>

#include "src/text/vocab_impl.h"

enum { MAX_DEPTH = 255 };

/* Sorted by the first eight bytes at once; the pieces themselves only break ties. */
typedef struct keyed {
  uint64_t key;
  int32_t token;
} keyed;

static uint64_t key_of(aii_str piece)
{
  uint64_t key = 0;
  for (size_t i = 0; i < 8; i++) key = key << 8 | (i < piece.n ? (uint8_t)piece.p[i] : 0);
  return key;
}

static int compare(const void *a, const void *b, void *user)
{
  const keyed *x = a, *y = b;
  if (x->key != y->key) return x->key < y->key ? -1 : 1;
  aii_str p = aii_vocab_piece(user, x->token, false), q = aii_vocab_piece(user, y->token, false);
  int order = memcmp(p.p, q.p, AII_MIN(p.n, q.n));
  if (order != 0) return order;
  if (p.n != q.n) return p.n < q.n ? -1 : 1;
  return x->token < y->token ? -1 : x->token > y->token;
}

static bool wanted(const aii_vocab *vocab, uint32_t token)
{
  size_t n = aii_vocab_piece(vocab, (aiinfra_token)token, false).n;
  return n > 0 && n <= MAX_DEPTH && (vocab->flags[token] & AII_TF_EOG) == 0;
}

/* Ends the open nodes that are deeper than `depth`. */
static void close_nodes(aii_byte_trie *trie, const uint32_t *path, size_t *open, size_t depth)
{
  while (*open > depth) {
    --*open;
    trie->nodes[path[*open]].skip = (uint32_t)(trie->n - path[*open]);
  }
}

static bool add_nodes(aii_mem *mem, aii_byte_trie *trie, const aii_vocab *vocab)
{
  uint32_t path[MAX_DEPTH];
  aii_str last = {"", 0};
  size_t open = 0;
  for (size_t i = 0; i < trie->n_tokens; i++) {
    aii_str piece = aii_vocab_piece(vocab, trie->tokens[i], false);
    size_t same = 0;
    while (same < piece.n && same < last.n && piece.p[same] == last.p[same]) same++;
    close_nodes(trie, path, &open, same);
    for (size_t depth = same; depth < piece.n; depth++) {
      if (!aii_grow(mem, &trie->nodes, &trie->cap, trie->n + 2, sizeof *trie->nodes)) return false;
      path[open++] = (uint32_t)trie->n;
      trie->nodes[trie->n++] =
          (aii_bt_node){.first_token = (uint32_t)i, .byte = (uint8_t)piece.p[depth], .depth = (uint8_t)(depth + 1)};
    }
    last = piece;
  }
  close_nodes(trie, path, &open, 0);
  if (!aii_grow(mem, &trie->nodes, &trie->cap, trie->n + 1, sizeof *trie->nodes)) return false;
  trie->nodes[trie->n] = (aii_bt_node){.first_token = (uint32_t)trie->n_tokens};
  return true;
}

/* The wanted tokens in the order of their pieces. */
static bool sort_tokens(aii_mem *mem, aii_byte_trie *trie, const aii_vocab *vocab)
{
  size_t n = 0;
  keyed *items = aii_new_array(mem, trie->n_tokens, sizeof *items);
  if (items == NULL) return false;
  for (uint32_t i = 0; i < vocab->n_tokens; i++) {
    if (wanted(vocab, i)) items[n++] = (keyed){key_of(aii_vocab_piece(vocab, (int32_t)i, false)), (int32_t)i};
  }
  qsort_r(items, n, sizeof *items, compare, (void *)(uintptr_t)vocab);
  for (size_t i = 0; i < n; i++) trie->tokens[i] = items[i].token;
  aii_del(mem, items, trie->n_tokens * sizeof *items);
  return true;
}

bool aii_byte_trie_build(aii_mem *mem, const aii_vocab *vocab, aii_byte_trie *trie)
{
  for (uint32_t i = 0; i < vocab->n_tokens; i++) trie->n_tokens += wanted(vocab, i);
  if (trie->n_tokens == 0) {
    trie->nodes = aii_new_array(mem, 1, sizeof *trie->nodes);
    trie->cap = trie->nodes != NULL;
    return trie->nodes != NULL;
  }
  trie->tokens = aii_new_array(mem, trie->n_tokens, sizeof *trie->tokens);
  if (trie->tokens == NULL) return false;
  return sort_tokens(mem, trie, vocab) && add_nodes(mem, trie, vocab);
}

void aii_byte_trie_free(aii_mem *mem, aii_byte_trie *trie)
{
  aii_del(mem, trie->nodes, trie->cap * sizeof *trie->nodes);
  aii_del(mem, trie->tokens, trie->n_tokens * sizeof *trie->tokens);
}
