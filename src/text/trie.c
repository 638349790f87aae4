/* trie.c - a trie over bytes, and Aho and Corasick's automaton on it for the leftmost, there longest match.
 *
 * The search reads the text once. While it follows the longest text that could still match, `best` holds the leftmost
 * match seen; as soon as nothing that begins there or before can grow, it is the answer. A byte is read again only
 * behind a match, and never more often than the longest text has bytes.
 */
#include "src/text/pipe_impl.h"

enum { MAX_TEXT = 1024 }; /* no token of a real vocabulary is longer; it bounds how often a byte is read */

static uint32_t new_node(aii_mem *mem, aii_trie *trie, uint32_t parent, uint8_t byte)
{
  if (trie->n >= UINT32_MAX / 2) return 0;
  if (!aii_grow(mem, &trie->nodes, &trie->cap, trie->n + 2, sizeof *trie->nodes)) return 0;
  if (trie->n == 0) trie->nodes[trie->n++] = (aii_trie_node){.token = -1};
  aii_pair *edge = aii_pairs_put(mem, &trie->edges, (uint64_t)parent << 8 | byte);
  if (edge == NULL) return 0;
  edge->value = (uint32_t)trie->n;
  trie->nodes[trie->n] =
      (aii_trie_node){.token = -1, .depth = trie->nodes[parent].depth + 1, .parent = parent, .byte = byte};
  return (uint32_t)trie->n++;
}

bool aii_trie_add(aii_mem *mem, aii_trie *trie, aii_str text, int32_t token, bool replace)
{
  uint32_t node = 0;
  if (text.n == 0 || text.n > MAX_TEXT) return true;
  for (size_t i = 0; i < text.n; i++) {
    uint32_t next = aii_trie_step(trie, node, (uint8_t)text.p[i]);
    if (next == 0) next = new_node(mem, trie, node, (uint8_t)text.p[i]);
    if (next == 0) return false;
    node = next;
  }
  trie->first[(uint8_t)text.p[0]] = true;
  if (replace || trie->nodes[node].token < 0) trie->nodes[node].token = token;
  return true;
}

static void link_node(aii_trie *trie, uint32_t at)
{
  aii_trie_node *node = &trie->nodes[at];
  node->fail = node->out = 0;
  if (node->depth < 2) return;
  uint32_t from = trie->nodes[node->parent].fail;
  for (;;) {
    uint32_t to = aii_trie_step(trie, from, node->byte);
    if (to != 0) {
      node->fail = to;
      break;
    }
    if (from == 0) break;
    from = trie->nodes[from].fail;
  }
  node->out = trie->nodes[node->fail].token >= 0 ? node->fail : trie->nodes[node->fail].out;
}

/* Nodes by depth: a node's suffix is shorter than the node. */
bool aii_trie_link(aii_mem *mem, aii_trie *trie)
{
  if (trie->n == 0) return true;
  uint32_t most = 0;
  for (size_t i = 0; i < trie->n; i++) most = AII_MAX(most, trie->nodes[i].depth);
  size_t n_starts = (size_t)most + 2;
  uint32_t *starts = aii_new_array(mem, n_starts, sizeof *starts);
  uint32_t *order = aii_new_array(mem, trie->n, sizeof *order);
  bool ok = starts != NULL && order != NULL;
  for (size_t i = 0; ok && i < trie->n; i++) starts[trie->nodes[i].depth + 1]++;
  for (size_t d = 1; ok && d < n_starts; d++) starts[d] += starts[d - 1];
  for (size_t i = 0; ok && i < trie->n; i++) order[starts[trie->nodes[i].depth]++] = (uint32_t)i;
  for (size_t i = 0; ok && i < trie->n; i++) link_node(trie, order[i]);
  aii_del(mem, starts, n_starts * sizeof *starts);
  aii_del(mem, order, trie->n * sizeof *order);
  return ok;
}

void aii_trie_free(aii_mem *mem, aii_trie *trie)
{
  aii_pairs_free(mem, &trie->edges);
  aii_del(mem, trie->nodes, trie->cap * sizeof *trie->nodes);
  *trie = (aii_trie){0};
}

bool aii_trie_find(const aii_trie *trie, const char *s, size_t from, size_t n, size_t *at, size_t *len, int32_t *token)
{
  uint32_t node = 0;
  int32_t best = -1;
  if (trie->n == 0) return false;
  for (size_t i = from; i < n; i++) {
    uint8_t byte = (uint8_t)s[i];
    if (node == 0 && best < 0 && !trie->first[byte]) continue;
    uint32_t next;
    while ((next = aii_trie_step(trie, node, byte)) == 0 && node != 0) node = trie->nodes[node].fail;
    node = next;
    size_t start = i + 1 - trie->nodes[node].depth;
    if (best >= 0 && start > *at) break;
    uint32_t ends = trie->nodes[node].token >= 0 ? node : trie->nodes[node].out;
    if (ends == 0) continue;
    size_t length = trie->nodes[ends].depth, begin = i + 1 - length;
    if (best < 0 || begin < *at || (begin == *at && length > *len)) {
      best = trie->nodes[ends].token;
      *at = begin;
      *len = length;
    }
  }
  *token = best;
  return best >= 0;
}
