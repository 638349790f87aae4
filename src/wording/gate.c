/* gate.c - why two canonical wordings differ, and whether an answer depends on when it is given. */
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "src/wording/wording.h"

static const char NEGATIONS[] =
    " not n't no never none nothing nobody no-one nowhere neither nor without cannot hardly except unless stop disable "
    "open "
    "close closed opened start begin end enable on off up down increase decrease add remove allow block deny accept "
    "reject legal illegal safe unsafe possible impossible true false more less most least maximum minimum max min best "
    "worst before after above below over under first last always all any every some only ";

static const char TIMES[] =
    " today tonight tomorrow yesterday now currently current nowadays latest newest recent recently lately upcoming "
    "soon ago yet still anymore was is will did do had have ";

static const char TIMELY[] =
    " today tonight tomorrow yesterday now currently current nowadays latest newest recent recently lately upcoming "
    "ago anymore ";
static const char NEAR[] = " this last next past coming previous ";
static const char SPANS[] =
    " second minute hour day week weekend month year decade quarter season morning afternoon evening night spring "
    "summer "
    "autumn fall winter monday tuesday wednesday thursday friday saturday sunday january february march april may june "
    "july august september october november december days weeks months years hours minutes ";

enum { WORDS = AII_TOK_MAX * 2 + 8 };

typedef struct words {
  char text[AII_WORDING_BYTES * 2 + 64];
  const char *w[WORDS];
  size_t n;
} words;

const char *aii_gate_name(aii_gate gate)
{
  static const char *const names[] = {"none", "negation", "number", "time", "entity", "order", "words"};
  return gate < AII_GATES ? names[gate] : "none";
}

static void split(const char *s, words *out)
{
  out->n = 0;
  (void)snprintf(out->text, sizeof out->text, "%s", s);
  for (char *p = out->text; *p != '\0' && out->n < WORDS;) {
    out->w[out->n++] = p;
    p += strcspn(p, " ");
    if (*p == ' ') *p++ = '\0';
  }
}

static int by_text(const void *a, const void *b)
{
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A word that a capital or a digit of the text marks as a name or a figure. */
static bool is_capital_in(const char *text, const char *word)
{
  size_t n = strlen(word);
  if (word[0] == '@') return true;
  for (const char *p = text; (p = strcasestr(p, word)) != NULL; p++) {
    bool edge = p > text && p[-1] == ' ' && (p[n] == '\0' || strchr(" .,;:!?'\"", p[n]) != NULL);
    if (edge && p[0] >= 'A' && p[0] <= 'Z') return true;
  }
  return word[0] == '"';
}

static aii_gate gate_of(const char *word, const char *text)
{
  if (strpbrk(word, "0123456789") != NULL) return AII_GATE_NUMBER;
  if (aii_in(NEGATIONS, word)) return AII_GATE_NEGATION;
  if (aii_in(TIMES, word) || aii_in(SPANS, word)) return AII_GATE_TIME;
  return is_capital_in(text, word) ? AII_GATE_ENTITY : AII_GATE_WORDS;
}

aii_gate aii_gate_between(const char *a, const char *b, const char *text)
{
  words x, y;
  aii_gate worst = AII_GATE_NONE;
  if (strcmp(a, b) == 0) return AII_GATE_NONE;
  split(a, &x);
  split(b, &y);
  qsort(x.w, x.n, sizeof *x.w, by_text);
  qsort(y.w, y.n, sizeof *y.w, by_text);
  for (size_t i = 0, k = 0; i < x.n || k < y.n;) {
    int order = i == x.n ? 1 : k == y.n ? -1 : strcmp(x.w[i], y.w[k]);
    if (order != 0) {
      aii_gate gate = gate_of(order < 0 ? x.w[i] : y.w[k], text);
      if (worst == AII_GATE_NONE || gate < worst) worst = gate;
    }
    i += order <= 0;
    k += order >= 0;
  }
  return worst == AII_GATE_NONE ? AII_GATE_ORDER : worst;
}

bool aii_wording_is_timely(const char *canonical)
{
  words w;
  split(canonical, &w);
  for (size_t i = 0; i < w.n; i++) {
    if (aii_in(TIMELY, w.w[i])) return true;
    if (i + 1 < w.n && aii_in(NEAR, w.w[i]) && aii_in(SPANS, w.w[i + 1])) return true;
  }
  return strstr(canonical, "what time is it") != NULL || strstr(canonical, "what day is it") != NULL ||
         strstr(canonical, "what is the time") != NULL || strstr(canonical, "what is the date") != NULL ||
         strstr(canonical, "what date is it") != NULL;
}
