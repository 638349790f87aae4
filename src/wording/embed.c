/* embed.c - text to vector without a model: feature hashing (Weinberger et al., 2009).
 *
 * Features are the words (lower case, plural and -ing and -ed cut off), pairs of neighbouring content words, and the
 * character trigrams of content words, so that misspelt and inflected words still meet. Each is hashed to one of 512
 * sums, with a sign from the same hash, so that collisions cancel on average. Words that carry no topic weigh little.
 * The root of a sum damps repetition; then the vector is scaled to length 1.
 *
 * Nothing here may change: vectors are stored, and compared with those of later versions. Cannot fail. Any thread.
 */
#include <math.h>
#include <utf8proc.h>

#include "src/wording/wording.h"

enum { WORD_BYTES = 64 }; /* longer words are told apart by their beginning */

/* Of the sum before its root is taken, so these act by their roots. */
static const float WORD = 1.0f, STOP_WORD = 0.01f, PAIR = 0.4f, TRIGRAM = 0.06f;

enum { SEED_WORD = 1, SEED_PAIR = 2, SEED_TRIGRAM = 3, SEED_RAW = 4 };

typedef struct word {
  char s[WORD_BYTES + 4];
  size_t n;
} word;

static void feature(float *sums, const void *bytes, size_t n, uint64_t seed, float weight)
{
  uint64_t hash = aii_hash64(bytes, n, seed);
  sums[hash % AII_EMBED_DIMS] += (hash >> 63) != 0 ? -weight : weight;
}

static void lower(const char *s, size_t n, word *out)
{
  out->n = 0;
  for (size_t i = 0; i < n && out->n < WORD_BYTES;) {
    uint32_t cp;
    int len = aii_utf8_decode(s + i, n - i, &cp);
    if (len <= 0) break;
    out->n += aii_utf8_encode((uint32_t)utf8proc_tolower((utf8proc_int32_t)cp), out->s + out->n);
    i += (size_t)len;
  }
}

static bool ends(const word *w, const char *tail, size_t stem_least)
{
  size_t n = strlen(tail);
  return w->n >= n + stem_least && memcmp(w->s + w->n - n, tail, n) == 0;
}

static bool is_vowel(char c)
{
  return c == 'a' || c == 'e' || c == 'i' || c == 'o' || c == 'u' || c == 'y';
}

/* Cuts -ing and -ed, and one of the doubled letters they leave ("running" to "run"). */
static void cut_verb(word *w, size_t tail)
{
  size_t n = w->n - tail;
  bool vowel = false;
  for (size_t i = 0; i < n; i++) vowel = vowel || is_vowel(w->s[i]);
  if (!vowel) return;
  w->n = n;
  char last = w->s[n - 1];
  if (n > 3 && last == w->s[n - 2] && !is_vowel(last) && last != 'l' && last != 's' && last != 'z') w->n--;
}

static void stem(word *w)
{
  if (ends(w, "ies", 2)) {
    w->n -= 2;
    w->s[w->n - 1] = 'y';
  } else if (ends(w, "sses", 1) || ends(w, "xes", 2) || ends(w, "ches", 2) || ends(w, "shes", 2)) {
    w->n -= 2;
  } else if (ends(w, "s", 3) && !ends(w, "ss", 0) && !ends(w, "us", 0) && !ends(w, "is", 0)) {
    w->n -= 1;
  }
  if (ends(w, "ing", 3)) cut_verb(w, 3);
  else if (ends(w, "ed", 3)) cut_verb(w, 2);
  if (w->n > 3 && w->s[w->n - 1] == 'e') w->n--; /* "store" and "storing" */
}

/* Over code points of ^word$. */
static void trigrams(float *sums, const word *w)
{
  char s[WORD_BYTES + 8];
  size_t starts[WORD_BYTES + 8], n = 0, len = 0;
  s[len++] = '^';
  memcpy(s + len, w->s, w->n);
  len += w->n;
  s[len++] = '$';
  for (size_t i = 0; i < len; i++) {
    if (((unsigned char)s[i] & 0xC0) != 0x80) starts[n++] = i;
  }
  starts[n] = len;
  for (size_t i = 0; i + 3 <= n; i++) feature(sums, s + starts[i], starts[i + 3] - starts[i], SEED_TRIGRAM, TRIGRAM);
}

/* All features of one word; `last` is the content word before it (n 0: none). */
static void add_word(float *sums, const char *s, size_t n, word *last)
{
  char pair[2 * sizeof last->s + 1];
  word w;
  lower(s, n, &w);
  if (w.n == 0) return;
  bool stop = aii_word_is_stop(w.s, w.n);
  if (!stop) trigrams(sums, &w);
  stem(&w);
  feature(sums, w.s, w.n, SEED_WORD, stop ? STOP_WORD : WORD);
  if (stop) return;
  if (last->n > 0) {
    memcpy(pair, last->s, last->n);
    pair[last->n] = ' ';
    memcpy(pair + last->n + 1, w.s, w.n);
    feature(sums, pair, last->n + 1 + w.n, SEED_PAIR, PAIR);
  }
  *last = w;
}

void aii_embed(const char *text, size_t n, float out[AII_EMBED_DIMS])
{
  const char *s;
  size_t at = 0, s_n;
  double length = 0;
  word last = {.n = 0};
  memset(out, 0, AII_EMBED_DIMS * sizeof *out);
  while (aii_word_next(text, n, &at, &s, &s_n)) add_word(out, s, s_n, &last);
  for (size_t i = 0; i < AII_EMBED_DIMS; i++) {
    out[i] = copysignf(sqrtf(fabsf(out[i])), out[i]);
    length += (double)out[i] * (double)out[i];
  }
  if (length == 0) { /* no words at all */
    feature(out, text, n, SEED_RAW, 1);
    return;
  }
  for (size_t i = 0; i < AII_EMBED_DIMS; i++) out[i] = (float)((double)out[i] / sqrt(length));
}

static bool is_space(uint32_t cp)
{
  return cp == ' ' || (cp >= '\t' && cp <= '\r') || cp == 0x85 || cp == 0xA0 || cp == 0x1680 ||
         (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 || cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

void aii_normalise(const char *text, size_t n, aii_buf *out)
{
  bool gap = false;
  for (size_t i = 0; i < n;) {
    uint32_t cp = 0xFFFD;
    char bytes[4];
    int len = aii_utf8_decode(text + i, n - i, &cp);
    i += len > 0 ? (size_t)len : 1;
    if (is_space(cp)) {
      gap = out->len > 0;
      continue;
    }
    if (gap) aii_buf_char(out, ' ');
    gap = false;
    aii_buf_add(out, bytes, aii_utf8_encode((uint32_t)utf8proc_tolower((utf8proc_int32_t)cp), bytes));
  }
}

float aii_embed_dot(const float a[AII_EMBED_DIMS], const float b[AII_EMBED_DIMS])
{
  double sum = 0;
  for (size_t i = 0; i < AII_EMBED_DIMS; i++) sum += (double)a[i] * (double)b[i];
  return (float)sum;
}
