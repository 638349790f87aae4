/* gram_until.c - text that stands as it is, up to the text that ends it: what a model writes between two tags.
 *
 * The automaton of Knuth, Morris and Pratt over code points, for two words at once: the one that ends the text, and one
 * that the text must not hold. A state is what has been read of either; from each, the words' own characters lead to
 * other states and all others back to the first. Python's strings are such texts, too, but for their escapes.
 */
#include "src/text/gram_impl.h"

enum { MAX_WORD = 128 };

typedef struct word {
  uint32_t c[MAX_WORD];
  size_t n;
} word;

typedef struct until {
  aii_gb *b;
  word words[2];                /* the end; what must not stand there (n 0: nothing) */
  uint32_t known[2 * MAX_WORD]; /* the characters of both */
  size_t n_known;
  uint32_t node[2][MAX_WORD]; /* of each state: the first n characters of a word */
  uint32_t next;
} until;

enum { DEAD = UINT32_MAX, ENDED = UINT32_MAX - 1 };

static bool read_word(word *w, const char *text)
{
  size_t left = text != NULL ? strlen(text) : 0;
  for (w->n = 0; left > 0; w->n++) {
    int len = w->n < MAX_WORD ? aii_utf8_decode(text, left, &w->c[w->n]) : 0;
    if (len <= 0) return false;
    text += len;
    left -= (size_t)len;
  }
  return true;
}

static void note(until *u, uint32_t c)
{
  for (size_t i = 0; i < u->n_known; i++) {
    if (u->known[i] == c) return;
  }
  u->known[u->n_known++] = c;
}

/* Whether the first k characters of w end the text that is `read` and then c. */
static bool ends(const word *w, size_t k, const word *read, size_t n_read, uint32_t c)
{
  return k <= n_read + 1 && w->c[k - 1] == c && memcmp(w->c, read->c + (n_read + 1 - k), (k - 1) * sizeof *w->c) == 0;
}

/* The state behind the first n characters of `read` and c. */
static uint32_t follow(const until *u, const word *read, size_t n, uint32_t c)
{
  for (size_t i = 0; i < 2; i++) {
    const word *w = &u->words[i];
    if (w->n > 0 && ends(w, w->n, read, n, c)) return i == 0 ? ENDED : DEAD;
  }
  for (size_t k = n + 1; k > 0; k--) {
    for (size_t i = 0; i < 2; i++) {
      if (k < u->words[i].n && ends(&u->words[i], k, read, n, c)) return u->node[i][k];
    }
  }
  return u->node[0][0];
}

static uint32_t others(until *u, const char *not_first)
{
  aii_range skip[2 * MAX_WORD + 64], plain[8], out[2 * MAX_WORD + 128];
  size_t n = 0, m = aii_gj_plain(u->b, plain);
  for (size_t i = 0; i < u->n_known; i++) skip[n++] = (aii_range){u->known[i], u->known[i]};
  for (; *not_first != '\0' && n < 2 * MAX_WORD + 32; not_first++)
    skip[n++] = (aii_range){(uint8_t)*not_first, (uint8_t)*not_first};
  for (size_t i = 0, from = 0; i < m; i++, from = plain[i - 1].last + 1) {
    if (plain[i].first > from) skip[n++] = (aii_range){(uint32_t)from, plain[i].first - 1};
  }
  n = aii_ranges_invert(skip, aii_ranges_normalise(skip, n), out);
  return aii_gb_ranges(u->b, out, n, u->node[0][0]);
}

/* not_first: characters that do not lead on from here. */
static uint32_t ways(until *u, const word *read, size_t n, const char *not_first)
{
  aii_gb *b = u->b;
  uint32_t all = others(u, not_first);
  for (size_t i = 0; i < u->n_known; i++) {
    uint32_t c = u->known[i], to = follow(u, read, n, c);
    bool barred = c < 0x80 && strchr(not_first, (int)c) != NULL && to == u->node[0][0];
    if (to == DEAD || barred) continue;
    aii_range one = {c, c};
    all = aii_gb_split(b, aii_gb_ranges(b, &one, 1, to == ENDED ? u->next : to), all);
  }
  if (b->words) all = aii_gb_split(b, aii_gb_str(b, "\\", aii_gb_chars(b, "\"\"\\\\nnrrtt", u->node[0][0])), all);
  return all;
}

static uint32_t build(until *u, const char *not_first)
{
  aii_gb *b = u->b;
  for (size_t i = 0; i < 2; i++) {
    for (size_t n = i; n < u->words[i].n; n++) u->node[i][n] = aii_gp_eps(b);
  }
  for (size_t i = 0; i < 2; i++) {
    for (size_t n = i; n < u->words[i].n && b->rc == AIINFRA_OK; n++) {
      uint32_t all = ways(u, &u->words[i], n, "");
      if (b->rc == AIINFRA_OK) b->g->nodes[u->node[i][n]].a = b->g->nodes[u->node[i][n]].b = all;
    }
  }
  return not_first[0] != '\0' ? ways(u, &u->words[0], 0, not_first) : u->node[0][0];
}

uint32_t aii_gj_until(aii_gb *b, const char *end, const char *not_first, uint32_t next)
{
  until *u = aii_new(b->g->mem, sizeof *u);
  if (u == NULL) return aii_gb_fail(b, AIINFRA_ENOMEM, "no memory");
  uint32_t entry = 0;
  bool raw = b->raw, newline = b->newline;
  char avoid = b->avoid;
  b->raw = !b->words;
  b->newline = true; /* whatever the characters of bounded strings are */
  b->avoid = 0;
  *u = (until){.b = b, .next = next};
  if (!read_word(&u->words[0], end) || !read_word(&u->words[1], b->never) || u->words[0].n == 0) {
    (void)aii_gb_fail(b, AIINFRA_ENOTSUP, "\"%.40s\" is too long to end a text", end);
  } else {
    for (size_t i = 0; i < 2; i++) {
      for (size_t k = 0; k < u->words[i].n; k++) note(u, u->words[i].c[k]);
    }
    entry = build(u, not_first);
  }
  b->raw = raw;
  b->newline = newline;
  b->avoid = avoid;
  aii_del(b->g->mem, u, sizeof *u);
  return entry;
}
