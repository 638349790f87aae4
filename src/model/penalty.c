/* penalty.c - changes the logits of single tokens before anything else reads them: penalties for those that a sequence
 * has already, and biases that the host set.
 *
 * A penalty belongs to one sequence. It keeps an item for each token that counts, found by a hash table whose room was
 * reserved when it was created. Each apply first takes in the tokens that came since the last one, then walks the
 * items: it costs as many steps as there are different tokens, and allocates nothing. An item knows where its token came
 * last, so the window of the repeat penalty moves on without a touch of what falls out of it.
 *
 * What it does depends on the tokens of its sequence alone: the same in any batch, and after a preemption.
 */
#include "src/model/model.h"

#define HASH 2654435761u /* 2^32 divided by the golden ratio */

enum { DEFAULT_LAST_N = 64 };

typedef struct item {
  aiinfra_token token;
  uint32_t count; /* how often it was generated */
  uint32_t last;  /* where it came last */
} item;

struct aii_penalty {
  aii_mem *mem;
  aii_penalties how;
  aii_bias *biases; /* [n_biases] */
  size_t n_biases;
  item *items;     /* [cap] */
  uint32_t *slots; /* [n_slots], a power of two: an item's place + 1; 0: free */
  uint32_t n_items, cap, n_slots;
  uint32_t n_prompt, n_seen, window; /* window 0: no repeat penalty */
};

/* ---- life ----------------------------------------------------------------------------------------------------------- */

/* The first token that counts, and how many different ones there may be. */
static void plan(aii_penalty *p, uint32_t n_vocab, uint32_t max_total)
{
  bool repeats = p->how.repeat > 0 && p->how.repeat != 1;
  if (repeats)
    p->window = p->how.last_n < 0 ? UINT32_MAX : p->how.last_n > 0 ? (uint32_t)p->how.last_n : DEFAULT_LAST_N;
  p->n_seen = p->n_prompt - AII_MIN(p->n_prompt, p->window);
  if (repeats || p->how.presence != 0 || p->how.frequency != 0) p->cap = AII_MIN(n_vocab, max_total - p->n_seen);
  p->n_slots = p->cap > 0 ? 2 : 0;
  while (p->n_slots / 2 < p->cap) p->n_slots *= 2; /* at most half full */
}

static bool make_room(aii_penalty *p, const aii_bias *biases, size_t n_biases)
{
  if (n_biases > 0) {
    p->biases = aii_new_array(p->mem, n_biases, sizeof *p->biases);
    if (p->biases == NULL) return false;
    memcpy(p->biases, biases, n_biases * sizeof *biases);
    p->n_biases = n_biases;
  }
  if (p->cap == 0) return true;
  p->items = aii_new_array(p->mem, p->cap, sizeof *p->items);
  p->slots = aii_new_array(p->mem, p->n_slots, sizeof *p->slots);
  return p->items != NULL && p->slots != NULL;
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
  plan(p, want->n_vocab, want->max_total);
  if (!make_room(p, want->biases, want->n_biases)) {
    aiinfra_status rc = aii_fail(err, AIINFRA_ENOMEM, "no memory to count %u tokens", p->cap);
    aii_penalty_free(p);
    return rc;
  }
  *out = p;
  return AIINFRA_OK;
}

void aii_penalty_free(aii_penalty *p)
{
  if (p == NULL) return;
  aii_del(p->mem, p->biases, p->n_biases * sizeof *p->biases);
  aii_del(p->mem, p->items, p->cap * sizeof *p->items);
  aii_del(p->mem, p->slots, p->n_slots * sizeof *p->slots);
  aii_del(p->mem, p, sizeof *p);
}

/* ---- counting ------------------------------------------------------------------------------------------------------- */

static item *find(aii_penalty *p, aiinfra_token token)
{
  uint32_t at = ((uint32_t)token * HASH >> 4) & (p->n_slots - 1);
  for (; p->slots[at] != 0; at = (at + 1) & (p->n_slots - 1))
    if (p->items[p->slots[at] - 1].token == token) return &p->items[p->slots[at] - 1];
  p->items[p->n_items] = (item){.token = token};
  p->slots[at] = ++p->n_items;
  return &p->items[p->n_items - 1];
}

static void count(aii_penalty *p, const aiinfra_token *tokens, uint32_t n)
{
  for (; p->n_seen < n; p->n_seen++) {
    item *of = find(p, tokens[p->n_seen]);
    of->last = p->n_seen;
    if (p->n_seen >= p->n_prompt) of->count++;
  }
}

/* ---- applying ------------------------------------------------------------------------------------------------------- */

static float punish(const aii_penalty *p, const item *of, uint32_t n, float logit)
{
  if (p->window > 0 && n - of->last <= p->window) logit = logit > 0 ? logit / p->how.repeat : logit * p->how.repeat;
  if (of->count > 0) logit -= p->how.frequency * (float)of->count + p->how.presence;
  return logit;
}

void aii_penalty_apply(aii_penalty *p, const aiinfra_token *tokens, uint32_t n, float *logits)
{
  if (p->cap > 0) count(p, tokens, n);
  for (uint32_t i = 0; i < p->n_items; i++) {
    float *logit = &logits[p->items[i].token];
    *logit = punish(p, &p->items[i], n, *logit);
  }
  for (size_t i = 0; i < p->n_biases; i++) logits[p->biases[i].token] += p->biases[i].add;
}
