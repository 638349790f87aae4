/* gram_wait.c - what a grammar waits for before it holds: texts that begin a call, and the marks of reasoning.
 *
 *   START ──any byte but white space──> TEXT ──think──> REASONING ──think_end──> START
 *     └────────── trigger ──────────────┴──> the grammar holds, from the trigger's own first byte on
 *
 * Each of the three roots has a trie of texts; a path that does not go on falls back to the longest text that it ends
 * with (Aho and Corasick). What only counts at the beginning stands in START's trie, whose paths fall back to TEXT. A
 * grammar that is not lazy waits for the end of the reasoning only, and then holds from the next byte on.
 */
#include "src/text/gram_impl.h"

static uint32_t add_node(aii_gb *b, uint32_t parent, uint8_t byte)
{
  aii_grammar *g = b->g;
  if (b->rc != AIINFRA_OK) return 0;
  if (g->n_waits >= AII_G_MAX_NODES) return aii_gb_fail(b, AIINFRA_ELIMIT, "too many texts begin a call");
  if (!aii_grow(g->mem, &g->waits, &g->cap_waits, g->n_waits + 1, sizeof *g->waits))
    return aii_gb_fail(b, AIINFRA_ENOMEM, "no memory for what begins a call");
  aii_gwait node = {parent, AII_G_NONE, AII_G_NONE, AII_G_NONE, AII_G_NONE, byte, GW_NONE};
  uint32_t at = (uint32_t)g->n_waits++;
  if (parent != AII_G_NONE) {
    node.sibling = g->waits[parent].child;
    g->waits[parent].child = at;
  }
  g->waits[at] = node;
  return at;
}

static uint32_t child(const aii_grammar *g, uint32_t node, uint8_t byte)
{
  uint32_t at = g->waits[node].child;
  while (at != AII_G_NONE && g->waits[at].byte != byte) at = g->waits[at].sibling;
  return at;
}

void aii_gw_add(aii_gb *b, uint32_t root, const char *text, aii_gw_event event)
{
  aii_grammar *g = b->g;
  if (b->rc == AIINFRA_OK && strlen(text) > AII_GW_MAX_TEXT)
    (void)aii_gb_fail(b, AIINFRA_ELIMIT, "\"%.40s...\" is too long to wait for", text);
  for (size_t i = 0; b->rc == AIINFRA_OK && g->n_waits < AII_GW_ROOTS && i < AII_GW_ROOTS; i++)
    (void)add_node(b, AII_G_NONE, 0);
  uint32_t at = root;
  for (; *text != '\0' && b->rc == AIINFRA_OK; text++) {
    uint32_t next = child(g, at, (uint8_t)*text);
    at = next != AII_G_NONE ? next : add_node(b, at, (uint8_t)*text);
  }
  if (b->rc == AIINFRA_OK && at >= AII_GW_ROOTS) g->waits[at].event = (uint8_t)event;
}

uint32_t aii_gw_step(const aii_grammar *g, uint32_t node, uint8_t byte)
{
  bool space = byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t';
  for (;;) {
    uint32_t next = child(g, node, byte);
    if (next != AII_G_NONE) return next;
    if (node == AII_GW_START && space) return node;
    if (g->waits[node].fail == AII_G_NONE) return node;
    node = g->waits[node].fail;
  }
}

/* Level by level: a node's fall-back lies on a level above its own. */
void aii_gw_link(aii_gb *b)
{
  aii_grammar *g = b->g;
  uint32_t *queue = aii_new_array(g->mem, g->n_waits, sizeof *queue);
  size_t n = 0;
  if (queue == NULL) {
    (void)aii_gb_fail(b, AIINFRA_ENOMEM, "no memory for what begins a call");
    return;
  }
  for (uint32_t root = 0; root < AII_GW_ROOTS; root++) queue[n++] = root;
  g->waits[AII_GW_START].fail = AII_GW_TEXT;
  for (size_t i = 0; i < n; i++) {
    const aii_gwait *above = &g->waits[queue[i]];
    for (uint32_t at = above->child; at != AII_G_NONE; at = g->waits[at].sibling) {
      aii_gwait *node = &g->waits[at];
      uint32_t root = queue[i] == AII_GW_START ? AII_GW_TEXT : queue[i];
      node->fail = above->fail == AII_G_NONE ? root : aii_gw_step(g, above->fail, node->byte);
      node->found = node->event != GW_NONE ? at : g->waits[node->fail].found;
      queue[n++] = at;
    }
  }
  aii_del(g->mem, queue, g->n_waits * sizeof *queue);
}
