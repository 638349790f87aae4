/* gram_state.c - a grammar at work beside a model: masks logits, takes tokens, waits for what triggers it.
 *
 *   FREE --a trigger appears--> HELD --complete--> (only end of generation) --accepted--> DONE
 *
 * A mask walks the vocabulary's byte trie, a forbidden byte skips a subtree. Masks are kept by configuration, because a
 * model stays in one for long stretches (inside a string). Control tokens have no text, but those that the format of
 * the calls is made of. When nothing may follow, which a vocabulary without the needed bytes can cause, end of generation
 * is let through. One owner.
 */
#include <math.h>

#include "src/text/gram_impl.h"
#include "src/text/output_impl.h"

enum { MASKS = 16, FLUSH_CONFIGS = 16384 };
#define FREE_BIT 0x80000000u /* a place is FREE_BIT | a node of what is waited for, or a configuration */

typedef struct mask {
  uint32_t place; /* NONE: unused */
  bool stuck;
  uint64_t *bits;
} mask;

struct aii_grammar_state {
  aii_mem *mem;
  const aii_grammar *g;
  const aii_vocab *vocab;
  aii_gdfa dfa;
  uint32_t place;
  bool done, stuck;
  aiinfra_token *marks; /* control tokens that count */
  size_t n_marks, cap_marks;
  size_t n_words;
  mask masks[MASKS];
};

static aiinfra_status no_memory(aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_ENOMEM, "no memory for the grammar's state, or the grammar is too ambiguous");
}

/* The configuration once a trigger has been written: the path to its node. */
static uint32_t behind_trigger(aii_grammar_state *s, uint32_t node)
{
  uint8_t path[AII_GW_MAX_TEXT];
  size_t n = sizeof path;
  for (; s->g->waits[node].parent != AII_G_NONE && n > 0; node = s->g->waits[node].parent)
    path[--n] = s->g->waits[node].byte;
  uint32_t config = aii_gdfa_start(&s->dfa);
  for (; n < sizeof path && config != AII_G_NONE && config != AII_G_DEAD; n++)
    config = aii_gdfa_step(&s->dfa, config, path[n]);
  return config;
}

static uint32_t step(aii_grammar_state *s, uint32_t place, uint8_t byte)
{
  if ((place & FREE_BIT) == 0) return aii_gdfa_step(&s->dfa, place, byte);
  uint32_t node = aii_gw_step(s->g, place & ~FREE_BIT, byte), found = s->g->waits[node].found;
  switch (found != AII_G_NONE ? s->g->waits[found].event : GW_NONE) {
    case GW_TRIGGER: return behind_trigger(s, found);
    case GW_THINK: return FREE_BIT | AII_GW_REASONING;
    case GW_THINK_END: return s->g->lazy ? FREE_BIT | AII_GW_START : aii_gdfa_start(&s->dfa);
    default: return FREE_BIT | node;
  }
}

static bool has_eog(const aii_vocab *vocab)
{
  for (uint32_t i = 0; i < vocab->n_tokens; i++) {
    if ((vocab->flags[i] & AII_TF_EOG) != 0) return true;
  }
  return false;
}

static bool is_part(const char *whole, aii_str text)
{
  return whole != NULL && memmem(whole, strlen(whole), text.p, text.n) != NULL;
}

static bool find_marks(aii_grammar_state *s)
{
  const aii_output_syntax *syntax = &s->g->syntax;
  for (uint32_t i = 0; syntax->format != NULL && i < s->vocab->n_tokens; i++) {
    aii_str text = aii_vocab_piece(s->vocab, (aiinfra_token)i, true);
    if ((s->vocab->flags[i] & AII_TF_CONTROL) == 0 || (s->vocab->flags[i] & AII_TF_EOG) != 0) continue;
    if (text.n < 2 || !(aii_out_format_has(syntax->format, text.p, text.n) || is_part(syntax->think, text) ||
                        is_part(syntax->think_end, text)))
      continue;
    if (!aii_grow(s->mem, &s->marks, &s->cap_marks, s->n_marks + 1, sizeof *s->marks)) return false;
    s->marks[s->n_marks++] = (aiinfra_token)i;
  }
  return true;
}

/* Where the text leads; DEAD: it may not come, NONE: memory. */
static uint32_t steps(aii_grammar_state *s, uint32_t place, aii_str text)
{
  for (size_t i = 0; i < text.n && place != AII_G_NONE && place != AII_G_DEAD; i++)
    place = step(s, place, (uint8_t)text.p[i]);
  return place;
}

static aii_str text_of(const aii_grammar_state *s, aiinfra_token token)
{
  bool mark = false;
  for (size_t i = 0; i < s->n_marks && !mark; i++) mark = s->marks[i] == token;
  return aii_vocab_piece(s->vocab, token, mark);
}

static aiinfra_status start(aii_grammar_state *s, aiinfra_error *err)
{
  if (!find_marks(s)) return no_memory(err);
  if (!aii_gdfa_init(&s->dfa, s->mem, s->g)) return no_memory(err);
  s->place = aii_grammar_waits(s->g) ? FREE_BIT | s->g->wait_at : aii_gdfa_start(&s->dfa);
  for (uint32_t i = 0; i < s->g->n_waits; i++) {
    uint32_t held = s->g->waits[i].event == GW_TRIGGER ? behind_trigger(s, i) : AII_G_NONE - 1;
    if (held == AII_G_NONE) return no_memory(err);
    if (held == AII_G_DEAD) return aii_fail(err, AIINFRA_EINVAL, "the grammar does not begin with its trigger");
  }
  return s->place == AII_G_NONE ? no_memory(err) : AIINFRA_OK;
}

aiinfra_status aii_grammar_start(aii_mem *mem, const aii_grammar *grammar, const aii_vocab *vocab,
                                 aii_grammar_state **out, aiinfra_error *err)
{
  *out = NULL;
  if (!has_eog(vocab)) return aii_fail(err, AIINFRA_EINVAL, "the vocabulary has no token that ends generation");
  aii_grammar_state *s = aii_new(mem, sizeof *s);
  if (s == NULL) return no_memory(err);
  s->mem = mem;
  s->g = grammar;
  s->vocab = vocab;
  s->n_words = ((size_t)vocab->n_tokens + 63) / 64;
  for (size_t i = 0; i < MASKS; i++) s->masks[i].place = AII_G_NONE;
  aiinfra_status rc = start(s, err);
  if (rc != AIINFRA_OK) {
    aii_grammar_state_free(s);
    return rc;
  }
  *out = s;
  return AIINFRA_OK;
}

void aii_grammar_state_free(aii_grammar_state *s)
{
  if (s == NULL) return;
  aii_gdfa_free(&s->dfa);
  aii_del(s->mem, s->marks, s->cap_marks * sizeof *s->marks);
  for (size_t i = 0; i < MASKS; i++) aii_del(s->mem, s->masks[i].bits, s->n_words * sizeof(uint64_t));
  aii_del(s->mem, s, sizeof *s);
}

/* Forgets configurations when there are many. */
static bool tidy(aii_grammar_state *s)
{
  if (s->dfa.n_configs < FLUSH_CONFIGS) return true;
  for (size_t i = 0; i < MASKS; i++) s->masks[i].place = AII_G_NONE;
  uint32_t none = AII_G_NONE;
  return aii_gdfa_flush(&s->dfa, (s->place & FREE_BIT) != 0 ? &none : &s->place);
}

/* ---- masks -------------------------------------------------------------------------------------------------------- */

static void set_bits(uint64_t *bits, const int32_t *tokens, uint32_t from, uint32_t to)
{
  for (uint32_t i = from; i < to; i++) bits[(uint32_t)tokens[i] >> 6] |= 1ull << (tokens[i] & 63);
}

static bool walk(aii_grammar_state *s, uint64_t *bits)
{
  const aii_byte_trie *trie = &s->vocab->trie;
  uint32_t at[257];
  at[0] = s->place;
  for (size_t i = 0; i < trie->n;) {
    const aii_bt_node *node = &trie->nodes[i];
    uint32_t next = step(s, at[node->depth - 1], node->byte);
    if (next == AII_G_NONE) return false;
    if (next == AII_G_DEAD) {
      i += node->skip;
      continue;
    }
    at[node->depth] = next;
    set_bits(bits, trie->tokens, node->first_token, node[1].first_token);
    i++;
  }
  return true;
}

static bool may_end(const aii_grammar_state *s)
{
  return s->done || ((s->place & FREE_BIT) != 0 ? s->g->lazy : s->dfa.configs[s->place].accepting);
}

static void set_eog(const aii_grammar_state *s, uint64_t *bits)
{
  for (uint32_t i = 0; i < s->vocab->n_tokens; i++) {
    if ((s->vocab->flags[i] & AII_TF_EOG) != 0) bits[i >> 6] |= 1ull << (i & 63);
  }
}

static bool make_mask(aii_grammar_state *s, mask *m)
{
  const aii_byte_trie *trie = &s->vocab->trie;
  if (m->bits == NULL && (m->bits = aii_new_array(s->mem, s->n_words, sizeof *m->bits)) == NULL) return false;
  bool open = !s->done && (s->place & FREE_BIT) != 0;
  memset(m->bits, open ? 0xFF : 0, s->n_words * sizeof *m->bits);
  for (size_t i = 0; open && i < trie->n_tokens; i++) {
    m->bits[(uint32_t)trie->tokens[i] >> 6] &= ~(1ull << (trie->tokens[i] & 63));
  }
  if (!s->done && !walk(s, m->bits)) return false;
  for (size_t i = 0; i < s->n_marks && !s->done && !open; i++) {
    uint32_t next = steps(s, s->place, text_of(s, s->marks[i]));
    if (next == AII_G_NONE) return false;
    if (next != AII_G_DEAD) m->bits[(uint32_t)s->marks[i] >> 6] |= 1ull << (s->marks[i] & 63);
  }
  if (may_end(s)) set_eog(s, m->bits);
  uint64_t any = 0;
  for (size_t i = 0; i < s->n_words; i++) any |= m->bits[i];
  m->stuck = any == 0;
  if (m->stuck) set_eog(s, m->bits);
  m->place = s->done ? AII_G_NONE : s->place;
  return true;
}

aiinfra_status aii_grammar_allowed(aii_grammar_state *s, const uint64_t **bits, aiinfra_error *err)
{
  if (!tidy(s)) return no_memory(err);
  mask *m = &s->masks[(s->place ^ s->place >> 28) % MASKS];
  if (s->done || m->place != s->place) {
    m->place = AII_G_NONE;
    if (!make_mask(s, m)) return no_memory(err);
  }
  s->stuck = m->stuck;
  *bits = m->bits;
  return AIINFRA_OK;
}

aiinfra_status aii_grammar_mask(aii_grammar_state *s, float *logits, aiinfra_error *err)
{
  const uint64_t *bits;
  aiinfra_status rc = aii_grammar_allowed(s, &bits, err);
  for (size_t w = 0; rc == AIINFRA_OK && w < s->n_words; w++) {
    uint64_t off = ~bits[w];
    if (w == s->n_words - 1 && s->vocab->n_tokens % 64 != 0) off &= (1ull << (s->vocab->n_tokens % 64)) - 1;
    for (; off != 0; off &= off - 1) logits[w * 64 + (size_t)__builtin_ctzll(off)] = -INFINITY;
  }
  return rc;
}

/* ---- taking tokens ------------------------------------------------------------------------------------------------- */

static aiinfra_status forbidden(const aii_grammar_state *s, aiinfra_token token, aiinfra_error *err)
{
  aii_str piece = aii_vocab_piece(s->vocab, token, true);
  return aii_fail(err, AIINFRA_EINVAL, "the grammar forbids the token %d \"%.*s\"", token, (int)AII_MIN(piece.n, 60),
                  piece.p);
}

aiinfra_status aii_grammar_accept(aii_grammar_state *s, aiinfra_token token, aiinfra_error *err)
{
  if (token < 0 || (uint32_t)token >= s->vocab->n_tokens) return forbidden(s, token, err);
  if (aii_vocab_is_eog(s->vocab, token)) {
    if (!may_end(s) && !s->stuck) return forbidden(s, token, err);
    s->done = true;
    return AIINFRA_OK;
  }
  if (!tidy(s)) return no_memory(err);
  aii_str piece = text_of(s, token);
  bool open = (s->place & FREE_BIT) != 0;
  if (s->done || (piece.n == 0 && !open)) return forbidden(s, token, err);
  uint32_t place = steps(s, s->place, piece);
  if (place == AII_G_NONE) return no_memory(err);
  if (place == AII_G_DEAD) return forbidden(s, token, err);
  s->place = place;
  s->stuck = false;
  return AIINFRA_OK;
}

bool aii_grammar_complete(const aii_grammar_state *s)
{
  if (s->done) return true;
  if ((s->place & FREE_BIT) != 0) return false;
  const aii_gconfig *c = &s->dfa.configs[s->place];
  return c->accepting && c->n == 0;
}
