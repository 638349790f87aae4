/* penalty.c - changes the logits of single tokens before anything else reads them: penalties for those that a sequence
 * has already, and biases that the host set.
 *
 * A penalty belongs to one sequence. It keeps an item for each token that counts or has a bias, found by a hash table whose
 * room was reserved when it was created. A call first takes in the tokens that it does not know yet, then walks the
 * items and lists what changes: it costs as many steps as there are different tokens, and allocates nothing. An item knows
 * where its token came last, so the window of the repeat penalty moves on without a touch of what falls out of it.
 *
 * What it does depends on the tokens of its sequence alone: the same in any batch, and after a preemption.
 */
#include "src/model/model.h"

#define HASH 2654435761u /* 2^32 divided by the golden ratio */

enum { DEFAULT_LAST_N = 64 };

typedef struct item {
  aiinfra_token token;
  uint32_t count; /* how often it was generated */
  uint32_t end;   /* behind its last place; 0: it did not come */
  float add;      /* its bias */
} item;

struct aii_penalty {
  aii_mem *mem;
  aii_penalties how;
  item *items;     /* [cap] */
  aii_edit *edits; /* [cap] */
  uint32_t *slots; /* [n_slots], a power of two: an item's place + 1; 0: free */
  uint32_t n_items, cap, n_slots;
  bool counts;                       /* tokens that came matter */
  uint32_t n_prompt, n_seen, window; /* window 0: no repeat penalty */
};

/* ---- life ----------------------------------------------------------------------------------------------------------- */

/* The first token that counts, and how many different ones there may be. */
static void plan(aii_penalty *p, const aii_penalty_want *want)
{
  bool repeats = p->how.repeat > 0 && p->how.repeat != 1;
  if (repeats)
    p->window = p->how.last_n < 0 ? UINT32_MAX : p->how.last_n > 0 ? (uint32_t)p->how.last_n : DEFAULT_LAST_N;
  p->n_seen = p->n_prompt - AII_MIN(p->n_prompt, p->window);
  p->counts = repeats || p->how.presence != 0 || p->how.frequency != 0;
  size_t most = want->n_biases + (p->counts ? want->max_total - p->n_seen : 0);
  p->cap = (uint32_t)AII_MIN(most, (size_t)want->n_vocab);
  p->n_slots = p->cap > 0 ? 2 : 0;
  while (p->n_slots / 2 < p->cap) p->n_slots *= 2; /* at most half full */
}

static bool make_room(aii_penalty *p)
{
  if (p->cap == 0) return true;
  p->items = aii_new_array(p->mem, p->cap, sizeof *p->items);
  p->edits = aii_new_array(p->mem, p->cap, sizeof *p->edits);
  p->slots = aii_new_array(p->mem, p->n_slots, sizeof *p->slots);
  return p->items != NULL && p->edits != NULL && p->slots != NULL;
}

static item *find(aii_penalty *p, aiinfra_token token)
{
  uint32_t at = ((uint32_t)token * HASH >> 4) & (p->n_slots - 1);
  for (; p->slots[at] != 0; at = (at + 1) & (p->n_slots - 1))
    if (p->items[p->slots[at] - 1].token == token) return &p->items[p->slots[at] - 1];
  p->items[p->n_items] = (item){.token = token};
  p->slots[at] = ++p->n_items;
  return &p->items[p->n_items - 1];
}

aiinfra_status aii_penalty_create(aii_mem *mem, const aii_penalty_want *want, aii_penalty **out, aiinfra_error *err)
{
  *out = NULL;
  if (want->n_vocab > INT32_MAX || want->max_total > INT32_MAX || want->n_prompt > want->max_total)
    return aii_fail(err, AIINFRA_EINVAL, "penalties for %u tokens of %u", want->n_prompt, want->max_total);
  aii_penalty *p = aii_new(mem, sizeof *p);
  if (p == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for penalties");
  p->mem = mem;
  p->how = want->how;
  p->n_prompt = want->n_prompt;
  plan(p, want);
  if (!make_room(p)) {
    aiinfra_status rc = aii_fail(err, AIINFRA_ENOMEM, "no memory to count %u tokens", p->cap);
    aii_penalty_free(p);
    return rc;
  }
  for (size_t i = 0; i < want->n_biases; i++) find(p, want->biases[i].token)->add = want->biases[i].add;
  *out = p;
  return AIINFRA_OK;
}

void aii_penalty_free(aii_penalty *p)
{
  if (p == NULL) return;
  aii_del(p->mem, p->items, p->cap * sizeof *p->items);
  aii_del(p->mem, p->edits, p->cap * sizeof *p->edits);
  aii_del(p->mem, p->slots, p->n_slots * sizeof *p->slots);
  aii_del(p->mem, p, sizeof *p);
}

/* ---- what changes --------------------------------------------------------------------------------------------------- */

void aii_penalty_add(aii_penalty *p, aiinfra_token token)
{
  if (!p->counts) return;
  item *of = find(p, token);
  if (p->n_seen >= p->n_prompt) of->count++;
  of->end = ++p->n_seen;
}

const aii_edit *aii_penalty_edits(aii_penalty *p, const aiinfra_token *tokens, uint32_t n, uint32_t *n_edits)
{
  uint32_t n_out = 0;
  while (p->counts && p->n_seen < n) aii_penalty_add(p, tokens[p->n_seen]);
  for (uint32_t i = 0; i < p->n_items; i++) {
    const item *of = &p->items[i];
    bool near = of->end > 0 && n - of->end < p->window;
    if (!near && of->count == 0 && of->add == 0) continue;
    p->edits[n_out++] = (aii_edit){.token = of->token,
                                   .divide = near ? p->how.repeat : 1,
                                   .take = of->count > 0 ? p->how.frequency * (float)of->count + p->how.presence : 0,
                                   .add = of->add};
  }
  *n_edits = n_out;
  return p->edits;
}

void aii_penalty_apply(aii_penalty *p, const aiinfra_token *tokens, uint32_t n, float *logits)
{
  const aii_edit *edits = aii_penalty_edits(p, tokens, n, &n);
  for (uint32_t i = 0; i < n; i++) {
    float *x = &logits[edits[i].token];
    *x = (*x > 0 ? *x / edits[i].divide : *x * edits[i].divide) - edits[i].take + edits[i].add;
  }
}
