/* gram_group.c - sequences, alternatives, groups and repetitions for grammars that are read forwards.
 *
 * GBNF and regular expressions share it. An item is a run of nodes with an entry and an exit that is not linked yet;
 * it is linked only when the next item comes, so that a repetition behind it can copy the untouched run.
 */
#include "src/text/gram_impl.h"

uint32_t aii_gp_eps(aii_gb *b)
{
  return aii_gb_node(b, GN_SPLIT, AII_G_NONE, AII_G_NONE);
}

static void link_to(aii_gb *b, uint32_t eps, uint32_t target)
{
  if (b->rc != AIINFRA_OK) return;
  b->g->nodes[eps].a = b->g->nodes[eps].b = target;
}

static aii_ggroup *top(aii_gparse *p)
{
  return &p->groups[p->n_groups - 1];
}

void aii_gp_open(aii_gparse *p)
{
  if (p->n_groups == AII_G_MAX_GROUPS) {
    (void)aii_gb_fail(p->b, AIINFRA_ELIMIT, "groups nested deeper than %d", AII_G_MAX_GROUPS);
    return;
  }
  aii_ggroup *group = &p->groups[p->n_groups++];
  *group = (aii_ggroup){.low = (uint32_t)p->b->g->n_nodes, .item_entry = AII_G_NONE};
  group->exit = aii_gp_eps(p->b);
  group->tail = aii_gp_eps(p->b);
  group->entry = group->choice = aii_gb_split(p->b, group->tail, AII_G_NONE);
}

void aii_gp_flush(aii_gparse *p)
{
  aii_ggroup *group = top(p);
  if (group->item_entry == AII_G_NONE) return;
  link_to(p->b, group->tail, group->item_entry);
  group->tail = group->item_exit;
  group->item_entry = AII_G_NONE;
}

void aii_gp_item(aii_gparse *p, uint32_t low, uint32_t entry, uint32_t exit)
{
  aii_ggroup *group = top(p);
  aii_gp_flush(p);
  group->item_low = low;
  group->item_entry = entry;
  group->item_exit = exit;
}

void aii_gp_alternative(aii_gparse *p)
{
  aii_ggroup *group = top(p);
  aii_gp_flush(p);
  link_to(p->b, group->tail, group->exit);
  group->tail = aii_gp_eps(p->b);
  uint32_t choice = aii_gb_split(p->b, group->tail, AII_G_NONE);
  if (p->b->rc == AIINFRA_OK) p->b->g->nodes[group->choice].b = choice;
  group->choice = choice;
}

uint32_t aii_gp_close(aii_gparse *p, uint32_t *exit)
{
  aii_ggroup *group = top(p);
  aii_gp_flush(p);
  link_to(p->b, group->tail, group->exit);
  if (p->b->rc == AIINFRA_OK) p->b->g->nodes[group->choice].b = p->b->g->nodes[group->choice].a;
  *exit = group->exit;
  p->n_groups--;
  return group->entry;
}

void aii_gp_close_item(aii_gparse *p)
{
  uint32_t exit, low = top(p)->low, entry = aii_gp_close(p, &exit);
  aii_gp_item(p, low, entry, exit);
}

/* A copy of the nodes low..high; what points into the run points into the copy. */
static uint32_t copy_run(aii_gb *b, uint32_t low, uint32_t high)
{
  uint32_t first = (uint32_t)b->g->n_nodes;
  for (uint32_t i = low; i < high && b->rc == AIINFRA_OK; i++) {
    aii_gnode node = b->g->nodes[i];
    if (node.kind == GN_SPLIT && node.a >= low && node.a < high) node.a += first - low;
    if (node.b >= low && node.b < high && node.kind != GN_RET) node.b += first - low;
    (void)aii_gb_node(b, node.kind, node.a, node.b);
  }
  return first;
}

bool aii_gp_repeat(aii_gparse *p, uint32_t min, uint32_t max)
{
  aii_gb *b = p->b;
  aii_ggroup *group = top(p);
  uint32_t low = group->item_low, high = (uint32_t)b->g->n_nodes;
  if (group->item_entry == AII_G_NONE) return false;
  uint32_t in = group->item_entry - low, out = group->item_exit - low, first = high;
  uint32_t entry = aii_gp_eps(b), end = aii_gp_eps(b), tail = entry;
  for (uint32_t i = 0; i < min && b->rc == AIINFRA_OK; i++) {
    uint32_t copy = copy_run(b, low, high);
    link_to(b, tail, copy + in);
    tail = copy + out;
  }
  if (max == AII_G_NONE) {
    uint32_t copy = copy_run(b, low, high), loop = aii_gb_split(b, copy + in, end);
    link_to(b, tail, loop);
    link_to(b, copy + out, loop);
  } else {
    for (uint32_t i = min; i < max && b->rc == AIINFRA_OK; i++) {
      uint32_t copy = copy_run(b, low, high), choice = aii_gb_split(b, copy + in, end);
      link_to(b, tail, choice);
      tail = copy + out;
    }
    link_to(b, tail, end);
  }
  /* the pattern itself stays behind unused: nothing may point out of it */
  for (uint32_t i = low; i < high && b->rc == AIINFRA_OK; i++) b->g->nodes[i] = (aii_gnode){GN_RET, 0, 0};
  group->item_low = first;
  group->item_entry = entry;
  group->item_exit = end;
  return true;
}
