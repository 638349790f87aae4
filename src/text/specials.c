/* specials.c - finds special tokens in text: a trie, the longest match at a place wins.
 *
 * Texts longer than MAX_TEXT bytes are never matched, so that a search costs at most n * MAX_TEXT steps whatever the
 * file holds; in practice the first byte decides.
 */
#include "src/text/vocab_impl.h"

enum { MAX_TEXT = 256 };

static uint32_t new_node(aii_mem *mem, aii_specials *sp, uint8_t byte)
{
  if (!aii_grow(mem, &sp->nodes, &sp->cap, sp->n + 2, sizeof *sp->nodes)) return 0;
  if (sp->n == 0) sp->nodes[sp->n++] = (aii_sp_node){.token = -1};
  sp->nodes[sp->n] = (aii_sp_node){.token = -1, .byte = byte};
  return (uint32_t)sp->n++;
}

static uint32_t child_of(const aii_specials *sp, uint32_t node, uint8_t byte)
{
  if (node == 0) return sp->first[byte];
  uint32_t at = sp->nodes[node].child;
  while (at != 0 && sp->nodes[at].byte != byte) at = sp->nodes[at].sibling;
  return at;
}

bool aii_specials_add(aii_mem *mem, aii_specials *sp, aii_str text, int32_t token, bool user)
{
  if (text.n == 0 || text.n > MAX_TEXT) return true;
  uint32_t node = 0;
  for (size_t i = 0; i < text.n; i++) {
    uint8_t byte = (uint8_t)text.p[i];
    uint32_t next = child_of(sp, node, byte);
    if (next == 0) {
      next = new_node(mem, sp, byte);
      if (next == 0) return false;
      if (node == 0) {
        sp->first[byte] = next;
      } else {
        sp->nodes[next].sibling = sp->nodes[node].child;
        sp->nodes[node].child = next;
      }
    }
    node = next;
  }
  sp->nodes[node].token = token;
  sp->nodes[node].user = user;
  return true;
}

void aii_specials_free(aii_mem *mem, aii_specials *sp)
{
  aii_del(mem, sp->nodes, sp->cap * sizeof *sp->nodes);
}

bool aii_vocab_spells_control(const aii_vocab *vocab, const char *text, size_t n)
{
  const aii_specials *sp = &vocab->specials;
  uint32_t node = 0;
  for (size_t i = 0; i < n; i++) {
    node = child_of(sp, node, (uint8_t)text[i]);
    if (node == 0) return false;
    if (sp->nodes[node].token >= 0 && !sp->nodes[node].user) return true;
  }
  return n > 0;
}

int32_t aii_specials_match(const aii_specials *sp, const char *text, size_t n, bool control, size_t *len)
{
  int32_t best = -1;
  uint32_t node = 0;
  for (size_t i = 0; i < n; i++) {
    node = child_of(sp, node, (uint8_t)text[i]);
    if (node == 0) break;
    if (sp->nodes[node].token >= 0 && (control || sp->nodes[node].user)) {
      best = sp->nodes[node].token;
      *len = i + 1;
    }
  }
  return best;
}
