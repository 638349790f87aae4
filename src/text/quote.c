/* quote.c - answers that quote: once an output has begun as one of its sources does somewhere, it goes on in that source's
 * words to the end of a sentence, and then names the source: "The default port is 8080. [1]"
 *
 * An output is free while fewer than AII_QUOTE_FROM of its bytes are there. Meanwhile every place is kept where it may stand
 * in a source, from the beginning of a word on. Without such a place it is free for good: a tool call, "I don't know.", what
 * the model says in its own words. With one it is held: tokens that lead away from all places are ruled out, as the
 * grammar's are (gram_state.c). So no letter of a quote is wrong, and neither is its number.
 *
 * A sentence ends with a '.', '!' or '?' before a space, or where its source does. Sources are taken on one line: white space
 * is one space, as in the agent's prompt. What its sources have in more than MOST_PLACES places is not worth the time: it is
 * free. Memory alone can fail. One owner.
 */
#include <jansson.h>
#include <math.h>
#include <stdio.h>

#include "lib/json/json.h"
#include "src/text/text.h"
#include "src/text/vocab_impl.h"

enum { TAIL_BYTES = 16, MOST_PLACES = 4096 };

typedef enum phase { BEGINNING, HELD, FREE } phase;

/* Where the output may be. */
typedef struct place {
  uint32_t source, at; /* at: of the next byte, in `text` */
  uint32_t tail;       /* how much of the citation is there; 0: still in the source's words */
} place;

struct aii_quote {
  aii_mem *mem;
  const aii_vocab *vocab;
  aii_buf text; /* all sources, a NUL behind each */
  phase phase;
  size_t n_bytes; /* of the output */
  place *places, *next;
  size_t n_places, places_cap, next_cap;
  uint64_t *bits; /* of tokens that may come; [n_words] */
  size_t n_words;
};

static aiinfra_status no_memory(aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_ENOMEM, "no memory for quotes");
}

/* ---- sources ----------------------------------------------------------------------------------------------------- */

static bool is_space(char c)
{
  return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static void add_source(aii_buf *out, const char *text)
{
  aii_buf_line(out, text);
  aii_buf_char(out, '\0');
}

static aiinfra_status add_sources(aii_quote *q, const char *sources_json, aiinfra_error *err)
{
  json_t *sources = NULL, *source;
  size_t i;
  aiinfra_status rc = aii_json_parse(sources_json, strlen(sources_json), "quotes_json", 0, &sources, err);
  if (rc == AIINFRA_OK && !json_is_array(sources))
    rc = aii_fail(err, AIINFRA_EINVAL, "quotes_json: expected an array of texts, found %s", aii_json_type(sources));
  json_array_foreach(sources, i, source)
  {
    if (rc != AIINFRA_OK) break;
    if (!json_is_string(source))
      rc = aii_fail(err, AIINFRA_EINVAL, "quotes_json[%zu]: expected a text, found %s", i, aii_json_type(source));
    else add_source(&q->text, json_string_value(source));
  }
  json_decref(sources);
  return rc == AIINFRA_OK && q->text.failed ? no_memory(err) : rc;
}

aiinfra_status aii_quote_create(aii_mem *mem, const aii_vocab *vocab, const char *sources_json, aii_quote **out,
                                aiinfra_error *err)
{
  *out = NULL;
  aii_quote *q = aii_new(mem, sizeof *q);
  if (q == NULL) return no_memory(err);
  q->mem = mem;
  q->vocab = vocab;
  aii_buf_init(&q->text, mem, 0);
  q->n_words = ((size_t)vocab->n_tokens + 63) / 64;
  q->bits = aii_new_array(mem, q->n_words, sizeof *q->bits);
  aiinfra_status rc = q->bits != NULL ? add_sources(q, sources_json, err) : no_memory(err);
  if (rc == AIINFRA_OK) *out = q;
  else aii_quote_free(q);
  return rc;
}

void aii_quote_free(aii_quote *q)
{
  if (q == NULL) return;
  aii_del(q->mem, q->places, q->places_cap * sizeof *q->places);
  aii_del(q->mem, q->next, q->next_cap * sizeof *q->next);
  aii_del(q->mem, q->bits, q->n_words * sizeof *q->bits);
  aii_buf_free(&q->text);
  aii_del(q->mem, q, sizeof *q);
}

/* ---- places ------------------------------------------------------------------------------------------------------ */

static char tail_byte(const place *p)
{
  char tail[TAIL_BYTES];
  (void)snprintf(tail, sizeof tail, " [%u]", p->source + 1);
  return tail[p->tail];
}

static bool is_cited(const place *p)
{
  return p->tail > 0 && tail_byte(p) == '\0';
}

/* The byte before the place is in the same source: a place is never at the first one. */
static bool ends_sentence(const aii_quote *q, const place *p)
{
  char before = q->text.data[p->at - 1], here = q->text.data[p->at];
  return here == '\0' || (here == ' ' && (before == '.' || before == '!' || before == '?'));
}

/* Where a byte leads: to none, one or two places. */
static uint32_t step(const aii_quote *q, const place *p, char byte, place to[2])
{
  uint32_t n = 0;
  if (p->tail == 0 && q->text.data[p->at] == byte && byte != '\0') to[n++] = (place){p->source, p->at + 1, 0};
  bool cites = p->tail > 0 || (q->phase == HELD && ends_sentence(q, p));
  if (cites && byte != '\0' && tail_byte(p) == byte) to[n++] = (place){p->source, p->at, p->tail + 1};
  return n;
}

static bool is_word(char c)
{
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c & 0x80) != 0;
}

/* Everywhere that a word begins with the byte. */
static bool begin(aii_quote *q, char byte)
{
  uint32_t source = 0;
  for (size_t i = 0; i < q->text.len; i++) {
    char before = i > 0 ? q->text.data[i - 1] : '\0';
    source += i > 0 && before == '\0';
    if (q->text.data[i] != byte || is_word(before)) continue;
    if (!aii_grow(q->mem, &q->places, &q->places_cap, q->n_places + 1, sizeof *q->places)) return false;
    q->places[q->n_places++] = (place){source, (uint32_t)i + 1, 0};
  }
  return true;
}

static bool go_on(aii_quote *q, char byte)
{
  size_t n = 0;
  if (!aii_grow(q->mem, &q->next, &q->next_cap, 2 * q->n_places, sizeof *q->next)) return false;
  for (size_t i = 0; i < q->n_places; i++) n += step(q, &q->places[i], byte, q->next + n);
  place *was = q->places;
  size_t cap = q->places_cap;
  q->places = q->next;
  q->places_cap = q->next_cap;
  q->n_places = n;
  q->next = was;
  q->next_cap = cap;
  return true;
}

aiinfra_status aii_quote_accept(aii_quote *q, aiinfra_token token, aiinfra_error *err)
{
  aii_str piece = aii_vocab_piece(q->vocab, token, false);
  if (aii_vocab_is_eog(q->vocab, token)) q->phase = FREE;
  for (size_t i = 0; i < piece.n && q->phase != FREE; i++) {
    if (q->n_bytes == 0 && is_space(piece.p[i])) continue;
    if (!(q->n_bytes == 0 ? begin(q, piece.p[i]) : go_on(q, piece.p[i]))) return no_memory(err);
    q->n_bytes++;
    if (q->n_places == 0) q->phase = FREE;
  }
  if (q->phase == BEGINNING && q->n_bytes >= AII_QUOTE_FROM) q->phase = q->n_places <= MOST_PLACES ? HELD : FREE;
  return AIINFRA_OK;
}

/* ---- masks ------------------------------------------------------------------------------------------------------- */

/* Tokens from a place on, below the nodes from `first` to `end` of the vocabulary's trie; as deep as a token is long. */
static void allow(aii_quote *q, const place *p, size_t first, size_t end)
{
  const aii_byte_trie *trie = &q->vocab->trie;
  for (size_t i = first; i < end; i += trie->nodes[i].skip) {
    const aii_bt_node *node = &trie->nodes[i];
    place to[2];
    uint32_t n = step(q, p, (char)node->byte, to);
    for (uint32_t t = node->first_token; n > 0 && t < node[1].first_token; t++)
      q->bits[(uint32_t)trie->tokens[t] >> 6] |= 1ull << (trie->tokens[t] & 63);
    for (uint32_t k = 0; k < n; k++) allow(q, &to[k], i + 1, i + node->skip);
  }
}

static void allow_end(aii_quote *q)
{
  for (uint32_t i = 0; i < q->vocab->n_tokens; i++)
    if ((q->vocab->flags[i] & AII_TF_EOG) != 0) q->bits[i >> 6] |= 1ull << (i & 63);
}

bool aii_quote_holds(const aii_quote *q)
{
  return q->phase == HELD;
}

void aii_quote_mask(aii_quote *q, float *logits)
{
  bool any = false, ends = false;
  if (q->phase != HELD) return;
  memset(q->bits, 0, q->n_words * sizeof *q->bits);
  for (size_t i = 0; i < q->n_places; i++) {
    allow(q, &q->places[i], 0, q->vocab->trie.n);
    ends = ends || is_cited(&q->places[i]);
  }
  if (ends) allow_end(q);
  for (uint32_t i = 0; i < q->vocab->n_tokens && !any; i++)
    any = (q->bits[i >> 6] >> (i & 63) & 1) != 0 && logits[i] > -INFINITY;
  if (!any) q->phase = FREE; /* a grammar, or the vocabulary, lets nothing through */
  for (uint32_t i = 0; any && i < q->vocab->n_tokens; i++)
    if ((q->bits[i >> 6] >> (i & 63) & 1) == 0) logits[i] = -INFINITY;
}
