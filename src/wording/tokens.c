/* tokens.c - a short text as words: cut at white space, freed of outer punctuation, contractions undone.
 *
 * Nothing that could carry meaning is dropped: "C++", "-5", "5!", "f(x)" and a lone "<" stay. Dropped are brackets and
 * quotes around words, and . , ; : ! ? behind them. A quoted word is marked, so that no rule takes it for grammar.
 * Words that a capital makes another word ("US", "Polish", "May") keep it where it tells something.
 */
#include <stdio.h>
#include <utf8proc.h>

#include "src/wording/wording.h"

/* As lower-case words they are others. */
static const char AMBIGUOUS[] =
    " us it who or and not in is am as at be by do he me no of on so to up we may march august polish turkey china "
    "aids "
    "will mark bill rose art jobs apple windows amazon shell chase nice reading bath mobile rust go swift crystal "
    "dart basic word access hive orange target visa square stripe meta sun mercury mars saturn earth moon frank grant "
    "jack rob sue pat drew joy hope grace faith dawn hunter cook baker smith black white brown green young king prince "
    "bishop pope guinea jersey georgia jordan chad cuba mali spring react spark flask node excel jest make express ";

bool aii_in(const char *list, const char *word)
{
  char key[AII_TOK_BYTES + 3];
  (void)snprintf(key, sizeof key, " %s ", word);
  return word[0] != '\0' && strstr(list, key) != NULL;
}

bool aii_toks_is(const aii_toks *toks, size_t at, const char *word)
{
  return at < toks->n && strcmp(toks->t[at].s, word) == 0;
}

bool aii_toks_in(const aii_toks *toks, size_t at, const char *list)
{
  return at < toks->n && aii_in(list, toks->t[at].s);
}

size_t aii_toks_match(const aii_toks *toks, size_t at, const char *words)
{
  size_t n = 0;
  while (*words != '\0') {
    size_t len = strcspn(words, " ");
    if (at + n >= toks->n || strlen(toks->t[at + n].s) != len || memcmp(toks->t[at + n].s, words, len) != 0) return 0;
    n++;
    words += len + (words[len] == ' ');
  }
  return n;
}

void aii_toks_remove(aii_toks *toks, size_t at, size_t n)
{
  memmove(&toks->t[at], &toks->t[at + n], (toks->n - at - n) * sizeof *toks->t);
  toks->n -= n;
}

void aii_toks_insert(aii_toks *toks, size_t at, const char *word)
{
  if (toks->n == AII_TOK_MAX) {
    toks->full = true;
    return;
  }
  memmove(&toks->t[at + 1], &toks->t[at], (toks->n - at) * sizeof *toks->t);
  toks->n++;
  toks->t[at].flags = 0;
  (void)snprintf(toks->t[at].s, sizeof toks->t[at].s, "%s", word);
}

void aii_toks_move(aii_toks *toks, size_t from, size_t n, size_t to)
{
  aii_tok moved[AII_TOK_MAX];
  memcpy(moved, &toks->t[from], n * sizeof *moved);
  aii_toks_remove(toks, from, n);
  if (to > from) to -= n;
  memmove(&toks->t[to + n], &toks->t[to], (toks->n - to) * sizeof *moved);
  memcpy(&toks->t[to], moved, n * sizeof *moved);
  toks->n += n;
}

void aii_toks_set(aii_toks *t, size_t at, const char *word)
{
  (void)snprintf(t->t[at].s, sizeof t->t[at].s, "%s", word);
  t->t[at].flags = 0;
}

void aii_toks_replace(aii_toks *t, size_t at, size_t n, const char *words)
{
  aii_toks_remove(t, at, n);
  while (*words != '\0' && !t->full) {
    char word[AII_TOK_BYTES];
    size_t len = strcspn(words, " ");
    (void)snprintf(word, sizeof word, "%.*s", (int)len, words);
    aii_toks_insert(t, at++, word);
    words += len + (words[len] == ' ');
  }
}

/* ---- cutting -------------------------------------------------------------------------------------------------------- */

typedef struct cutter {
  aii_toks *out;
  bool quoted;   /* inside quotes that a former word opened */
  bool sentence; /* the next word begins one */
  bool caseless; /* capitals tell nothing: the text has no small letter */
} cutter;

/* Longer first, since the loops below take the first that fits. */
static const char *const OPENING[] = {"(", "[", "{", "\"", "'", "\xC2\xAB", "\xC2\xBF", "\xC2\xA1", NULL};
static const char *const CLOSING[] = {")", "]", "}", "\"", "\xC2\xBB", ".", ",", ";", ":", "?", "!", NULL};

static bool is_quote(const char *s)
{
  return strcmp(s, "\"") == 0 || strcmp(s, "'") == 0 || strcmp(s, "\xC2\xAB") == 0 || strcmp(s, "\xC2\xBB") == 0;
}

/* Takes opening marks off the front of s. *quote: one of them was a quote. */
static size_t open_marks(const char *s, size_t n, bool *quote)
{
  size_t at = 0;
  for (size_t i = 0; OPENING[i] != NULL;) {
    size_t len = strlen(OPENING[i]);
    if (n - at > len && memcmp(s + at, OPENING[i], len) == 0) {
      *quote = *quote || is_quote(OPENING[i]);
      at += len;
      i = 0;
    } else {
      i++;
    }
  }
  return at;
}

/* "f(x)" keeps its bracket, "5!" its factorial, "dogs'" its apostrophe unless a quote is open. */
static bool may_close(const char *s, size_t n, const char *mark)
{
  if (mark[0] == '!' && n > 1 && s[n - 2] >= '0' && s[n - 2] <= '9') return false;
  if (mark[0] == ')') return memchr(s, '(', n) == NULL;
  if (mark[0] == ']') return memchr(s, '[', n) == NULL;
  if (mark[0] == '}') return memchr(s, '{', n) == NULL;
  return true;
}

static size_t close_marks(cutter *c, const char *s, size_t n, bool open, unsigned *flags)
{
  for (size_t i = 0; n > 0 && CLOSING[i] != NULL;) {
    size_t len = strlen(CLOSING[i]);
    if (n >= len && memcmp(s + n - len, CLOSING[i], len) == 0 && may_close(s, n, CLOSING[i])) {
      if (strchr(",;:", CLOSING[i][0]) != NULL) *flags |= AII_TOK_COMMA;
      if (strchr(".!?", CLOSING[i][0]) != NULL) {
        c->sentence = true;
        *flags |= AII_TOK_COMMA;
      }
      if (CLOSING[i][0] == '?') c->out->asked = true;
      if (is_quote(CLOSING[i])) c->quoted = false;
      n -= len;
      i = 0;
    } else {
      i++;
    }
  }
  if (open && n > 1 && s[n - 1] == '\'') {
    c->quoted = false;
    n--;
  }
  return n;
}

/* Lower case; curly apostrophes become straight. false: too long. */
static bool lower(const char *s, size_t n, char out[AII_TOK_BYTES], bool *capital, bool *small)
{
  size_t len = 0;
  *capital = *small = false;
  for (size_t i = 0; i < n;) {
    uint32_t cp;
    int step = aii_utf8_decode(s + i, n - i, &cp);
    if (step <= 0 || len + 8 > AII_TOK_BYTES) return false;
    uint32_t low = (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
    if (low != cp && i == 0) *capital = true;
    if (low == cp && utf8proc_toupper((utf8proc_int32_t)cp) != (utf8proc_int32_t)cp) *small = true;
    if (low == 0x2018 || low == 0x2019 || low == 0x02BC) low = '\'';
    len += aii_utf8_encode(low, out + len);
    i += (size_t)step;
  }
  out[len] = '\0';
  return true;
}

/* "US" and "us", "Polish" and "polish": the capital stays where it tells something, and is doubtful where a sentence
 * begins. */
static void mark_capital(const cutter *c, aii_tok *tok, const char *raw, size_t n, bool small)
{
  char kept[AII_TOK_BYTES];
  bool first = (tok->flags & AII_TOK_FIRST) != 0;
  if ((tok->flags & AII_TOK_CAPITAL) == 0 || c->caseless || n + 2 >= sizeof kept || !aii_in(AMBIGUOUS, tok->s)) return;
  if (first && small) return;
  (void)snprintf(kept, sizeof kept, "@%.*s", (int)n, raw);
  memcpy(tok->s, kept, sizeof kept);
}

static void add(cutter *c, const char *s, size_t n, bool quoted, unsigned flags, bool first)
{
  char word[AII_TOK_BYTES];
  bool capital, small;
  aii_toks *out = c->out;
  if (out->n == AII_TOK_MAX || !lower(s, n, word, &capital, &small)) {
    out->full = true;
    return;
  }
  aii_tok *tok = &out->t[out->n++];
  tok->flags = flags | (capital ? AII_TOK_CAPITAL : 0u) | (first ? AII_TOK_FIRST : 0u);
  if (quoted) {
    tok->flags |= AII_TOK_QUOTED;
    (void)snprintf(tok->s, sizeof tok->s, "\"%.*s", AII_TOK_BYTES - 2, word);
    return;
  }
  memcpy(tok->s, word, sizeof word);
  mark_capital(c, tok, s, n, small);
}

static void cut_word(cutter *c, const char *s, size_t n)
{
  unsigned flags = 0;
  bool opens = false, inside, first = c->sentence;
  size_t at = open_marks(s, n, &opens);
  c->sentence = false;
  c->quoted = inside = c->quoted || opens;
  s += at;
  n = close_marks(c, s, n - at, inside, &flags);
  if (n > 0) {
    add(c, s, n, inside, flags, first);
  } else {
    if (c->out->n > 0) c->out->t[c->out->n - 1].flags |= flags;
    c->sentence = c->sentence || first;
  }
}

/* ---- contractions --------------------------------------------------------------------------------------------------- */

static const char *const CONTRACTIONS[][3] = {
    {"can't", "can", "n't"},
    {"cant", "can", "n't"},
    {"cannot", "can", "n't"},
    {"won't", "will", "n't"},
    {"wont", "will", "n't"},
    {"shan't", "shall", "n't"},
    {"don't", "do", "n't"},
    {"dont", "do", "n't"},
    {"doesn't", "does", "n't"},
    {"doesnt", "does", "n't"},
    {"didn't", "did", "n't"},
    {"didnt", "did", "n't"},
    {"isn't", "is", "n't"},
    {"isnt", "is", "n't"},
    {"aren't", "are", "n't"},
    {"arent", "are", "n't"},
    {"wasn't", "was", "n't"},
    {"wasnt", "was", "n't"},
    {"weren't", "were", "n't"},
    {"werent", "were", "n't"},
    {"couldn't", "could", "n't"},
    {"couldnt", "could", "n't"},
    {"wouldn't", "would", "n't"},
    {"wouldnt", "would", "n't"},
    {"shouldn't", "should", "n't"},
    {"shouldnt", "should", "n't"},
    {"mustn't", "must", "n't"},
    {"hasn't", "has", "n't"},
    {"hasnt", "has", "n't"},
    {"haven't", "have", "n't"},
    {"havent", "have", "n't"},
    {"hadn't", "had", "n't"},
    {"needn't", "need", "n't"},
    {"what's", "what", "is"},
    {"whats", "what", "is"},
    {"who's", "who", "is"},
    {"whos", "who", "is"},
    {"where's", "where", "is"},
    {"wheres", "where", "is"},
    {"when's", "when", "is"},
    {"how's", "how", "is"},
    {"hows", "how", "is"},
    {"why's", "why", "is"},
    {"that's", "that", "is"},
    {"thats", "that", "is"},
    {"there's", "there", "is"},
    {"theres", "there", "is"},
    {"here's", "here", "is"},
    {"it's", "it", "is"},
    {"he's", "he", "is"},
    {"she's", "she", "is"},
    {"which's", "which", "is"},
    {"let's", "let", "us"},
    {"i'm", "i", "am"},
    {"im", "i", "am"},
    {"you're", "you", "are"},
    {"youre", "you", "are"},
    {"we're", "we", "are"},
    {"they're", "they", "are"},
    {"theyre", "they", "are"},
    {"what're", "what", "are"},
    {"i've", "i", "have"},
    {"ive", "i", "have"},
    {"you've", "you", "have"},
    {"we've", "we", "have"},
    {"they've", "they", "have"},
    {"i'll", "i", "will"},
    {"you'll", "you", "will"},
    {"it'll", "it", "will"},
    {"he'll", "he", "will"},
    {"she'll", "she", "will"},
    {"we'll", "we", "will"},
    {"they'll", "they", "will"},
    {"how'd", "how", "did"},
    {"where'd", "where", "did"},
    {"gonna", "going", "to"},
    {"wanna", "want", "to"},
    {"gotta", "got", "to"},
};

static void expand(aii_toks *toks, size_t at)
{
  aii_tok *tok = &toks->t[at];
  size_t n = strlen(tok->s);
  for (size_t i = 0; i < AII_COUNT(CONTRACTIONS); i++) {
    if (strcmp(tok->s, CONTRACTIONS[i][0]) != 0) continue;
    unsigned comma = tok->flags & AII_TOK_COMMA;
    tok->flags &= ~(unsigned)AII_TOK_COMMA;
    (void)snprintf(tok->s, sizeof tok->s, "%s", CONTRACTIONS[i][1]);
    aii_toks_insert(toks, at + 1, CONTRACTIONS[i][2]);
    if (!toks->full) toks->t[at + 1].flags |= comma;
    return;
  }
  if (n > 3 && tok->s[n - 2] == '\'' && tok->s[n - 1] == 's') {
    tok->s[n - 2] = '\0';
    tok->flags |= AII_TOK_POSSESSIVE;
  }
}

static bool has_small(const char *s, size_t n)
{
  for (size_t i = 0; i < n;) {
    uint32_t cp;
    int step = aii_utf8_decode(s + i, n - i, &cp);
    if (step <= 0) return true;
    if (utf8proc_toupper((utf8proc_int32_t)cp) != (utf8proc_int32_t)cp) return true;
    i += (size_t)step;
  }
  return false;
}

static bool is_blank(char c)
{
  return c == ' ' || c == '\t';
}

void aii_toks_cut(const char *text, size_t n, aii_toks *out)
{
  cutter c = {.out = out, .sentence = true, .caseless = !has_small(text, n)};
  out->n = 0;
  out->asked = out->full = false;
  for (size_t i = 0; i < n && !out->full;) {
    size_t from = i;
    while (i < n && !is_blank(text[i])) i++;
    if (i > from) {
      out->asked = false;
      cut_word(&c, text + from, i - from);
    }
    i++;
  }
  for (size_t i = 0; i < out->n && !out->full; i++) {
    if ((out->t[i].flags & AII_TOK_QUOTED) == 0) expand(out, i);
  }
}
