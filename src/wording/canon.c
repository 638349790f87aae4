/* canon.c - one wording for what is asked or said in many: rules on the tokens of a short text, one after the other.
 *
 * Every rule moves or merges what means the same in whatever text it stands: "the biggest city" and "the largest
 * city", "Where's X" and "Where is X", "in Python, how do I" and "how do I ... in Python", "France's capital" and "the
 * capital of France", "from A to B" and "to B from A". Where a rule could merge two meanings it does not apply: a hit
 * that is missed costs time, a wrong one costs trust.
 */
#include <stdio.h>
#include <stdlib.h>

#include "src/wording/wording.h"

const char aii_list_preposition[] =
    " in on at for with within without during using under over from to of by into onto about against between through "
    "before after behind beside near around as than per via and or but if because while until since across among ";

/* Words of the same function, and a few that nobody tells apart when asking. */
static const char *const SAME[][2] = {
    {"does", "do"},
    {"are", "is"},
    {"am", "is"},
    {"were", "was"},
    {"has", "have"},
    {"which", "what"},
    {"whom", "who"},
    {"an", "a"},
    {"till", "until"},
    {"'til", "until"},
    {"upon", "on"},
    {"amongst", "among"},
    {"towards", "toward"},
    {"whilst", "while"},
    {"amidst", "amid"},
    {"thru", "through"},
    {"&", "and"},
    {"w/", "with"},
    {"w/o", "without"},
    {"vs", "versus"},
    {"v.", "versus"},
    {"biggest", "largest"},
    {"bigger", "larger"},
    {"ok", "okay"},
    {"everybody", "everyone"},
    {"somebody", "someone"},
    {"anybody", "anyone"},
    {"nobody", "no-one"},
    {"colour", "color"},
    {"favourite", "favorite"},
    {"centre", "center"},
    {"begin", "start"},
    {"kids", "children"},
    {"television", "tv"},
    {"photo", "picture"},
    {"photos", "pictures"},
    {"e-mail", "email"},
    {"e-mails", "emails"},
    {"web-site", "website"},
    {"two", "2"},
    {"three", "3"},
    {"four", "4"},
    {"five", "5"},
    {"six", "6"},
    {"seven", "7"},
    {"eight", "8"},
    {"nine", "9"},
    {"ten", "10"},
    {"eleven", "11"},
    {"twelve", "12"},
    {"u", "you"},
    {"ur", "your"},
    {"pls", "please"},
    {"organise", "organize"},
    {"neighbour", "neighbor"},
    {"behaviour", "behavior"},
    {"metre", "meter"},
    {"litre", "liter"},
    {"grey", "gray"},
    {"licence", "license"},
    {"programme", "program"},
    {"catalogue", "catalog"},
};

/* Of these only what does not change a statement. */
static const char IN_FACTS[] =
    " which whom an till 'til upon amongst towards whilst amidst thru & w/ w/o everybody somebody anybody nobody "
    "colour "
    "favourite centre e-mail e-mails two three four five six seven eight nine ten eleven twelve organise neighbour "
    "behaviour metre litre grey licence programme catalogue ";

static bool is_prep(const aii_toks *t, size_t at)
{
  return aii_toks_in(t, at, aii_list_preposition);
}

/* Of these only what is no word to ask about. */
static const char IN_TERMS[] = " does are am were has which whom an ";

static void swap_words(aii_toks *t, bool facts)
{
  bool terms = !facts && aii_gist_is_of_words(t);
  for (size_t i = 0; i < t->n; i++) {
    for (size_t k = 0; k < AII_COUNT(SAME); k++) {
      if (strcmp(t->t[i].s, SAME[k][0]) != 0 || (facts && !aii_in(IN_FACTS, SAME[k][0]))) continue;
      if (facts && strcmp(SAME[k][0], "which") == 0) continue;
      if (terms && !aii_in(IN_TERMS, SAME[k][0])) continue;
      (void)snprintf(t->t[i].s, sizeof t->t[i].s, "%s", SAME[k][1]);
      break;
    }
  }
}

/* "1,000" is 1000; "1,5" stays. */
static void join_thousands(aii_toks *t)
{
  for (size_t i = 0; i < t->n; i++) {
    char *s = t->t[i].s, plain[AII_TOK_BYTES];
    size_t n = 0, group = 0;
    bool ok = s[0] >= '1' && s[0] <= '9' && strchr(s, ',') != NULL;
    for (const char *p = s; ok && *p != '\0'; p++) {
      if (*p == ',') {
        ok = (n <= 3 && n == group) || group == 3;
        group = 0;
      } else {
        ok = *p >= '0' && *p <= '9';
        plain[n++] = *p;
        group++;
      }
    }
    if (!ok || group != 3) continue;
    plain[n] = '\0';
    memcpy(s, plain, n + 1);
  }
}

/* ---- questions ------------------------------------------------------------------------------------------------------ */

/* Where a question has its verb: in front, or behind the question word. */
static bool asks_here(const aii_toks *t, size_t aux)
{
  if (aux == 0) return true;
  return aux <= 3 && aii_toks_in(t, 0, aii_list_wh);
}

/* The subject between a verb and its negation: one word, or two with an article, and nothing that counts. */
static bool is_subject(const aii_toks *t, size_t at, size_t n)
{
  static const char articles[] = " the a this that these those my your his her its our their ";
  static const char counts[] = " all every each some any most both many few everyone everybody anyone someone "
                               "everything anything something only ";
  for (size_t i = at; i < at + n; i++) {
    if (is_prep(t, i) || aii_toks_in(t, i, counts)) return false;
  }
  return n == 1 || (n == 2 && aii_toks_in(t, at, articles));
}

/* "why does it not work" as "why doesn't it work", whose negation is that of the verb, as it is in "it does not work".
 * "is not smoking healthy" negates something else, and stays. */
static void move_negation(aii_toks *t)
{
  for (size_t i = 1; i < t->n; i++) {
    if (!aii_toks_is(t, i, "not") || aii_toks_is(t, i + 1, "to")) continue;
    if (aii_toks_in(t, i - 1, aii_list_aux)) {
      if (!asks_here(t, i - 1)) (void)snprintf(t->t[i].s, AII_TOK_BYTES, "n't");
      continue;
    }
    for (size_t n = 1; n <= 2 && n < i; n++) {
      size_t aux = i - n - 1;
      if (!aii_toks_in(t, aux, aii_list_aux)) continue;
      if (!asks_here(t, aux) || !is_subject(t, aux + 1, n)) break;
      (void)snprintf(t->t[i].s, AII_TOK_BYTES, "n't");
      aii_toks_move(t, i, 1, aux + 1);
      break;
    }
  }
}

static void same_negation(aii_toks *t)
{
  for (size_t i = 0; i < t->n; i++) {
    if (aii_toks_is(t, i, "n't")) (void)snprintf(t->t[i].s, AII_TOK_BYTES, "not");
  }
}

/* "in Python, how do I sort" to "how do I sort in Python". */
static void move_front(aii_toks *t)
{
  if (!aii_toks_in(t, 0, " in on at for with during using under from within ")) return;
  for (size_t i = 1; i < 7 && i + 1 < t->n; i++) {
    bool question = aii_toks_in(t, i, aii_list_wh) && !aii_toks_in(t, i, " which whose ");
    bool comma = (t->t[i - 1].flags & AII_TOK_COMMA) != 0;
    if (!question && !(comma && aii_toks_in(t, i, aii_list_aux))) {
      if (comma) return;
      continue;
    }
    if (i == 1) return;
    t->t[i - 1].flags = 0;
    t->t[t->n - 1].flags = 0;
    aii_toks_move(t, 0, i, t->n);
    return;
  }
}

/* "what is France's capital" to "what is capital of France"; with one possessive, and nothing but a name before it. */
static void undo_possessive(aii_toks *t)
{
  size_t at = t->n, n_found = 0;
  for (size_t i = 0; i < t->n; i++) {
    if ((t->t[i].flags & AII_TOK_POSSESSIVE) == 0) continue;
    at = i;
    n_found++;
  }
  if (n_found != 1 || at == 0 || at + 1 >= t->n) return;
  bool the = aii_toks_in(t, at - 1, " the a my your our ");
  size_t from = the ? at - 1 : at, end = at + 1;
  if (from == 0 || !(aii_toks_in(t, from - 1, " is was are were ") || is_prep(t, from - 1))) return;
  while (end < t->n && !is_prep(t, end) && !aii_toks_in(t, end, aii_list_aux)) end++;
  if (end != t->n || end == at + 1) return;
  t->t[at].flags &= ~(unsigned)AII_TOK_POSSESSIVE;
  aii_toks_insert(t, end, "of");
  if (!t->full) aii_toks_move(t, from, at + 1 - from, end + 1);
}

/* A superlative is the only one of its kind, with an article or without. */
static bool is_superlative(const char *s)
{
  static const char not_one[] =
      " forest interest request protest honest harvest invest contest suggest arrest digest modest request conquest "
      "manifest latest earnest everest trieste budapest bucharest ";
  size_t n = strlen(s);
  if (strcmp(s, "best") == 0 || strcmp(s, "worst") == 0) return true;
  return n >= 6 && strcmp(s + n - 3, "est") == 0 && !aii_in(not_one, s);
}

static bool of_follows(const aii_toks *t, size_t at)
{
  for (size_t i = at + 1; i < t->n && i < at + 5; i++) {
    if (aii_toks_is(t, i, "of")) return i > at + 1 && i + 1 < t->n;
    if (is_prep(t, i) || aii_toks_in(t, i, aii_list_aux)) return false;
  }
  return false;
}

static size_t count(const aii_toks *t, const char *word)
{
  size_t n = 0;
  for (size_t i = 0; i < t->n; i++) n += aii_toks_is(t, i, word);
  return n;
}

static void drop_articles(aii_toks *t)
{
  bool how_to = aii_toks_is(t, 0, "howto") && (count(t, "a") == 0 || count(t, "the") == 0); /* with both they tell */
  for (size_t i = 0; i + 1 < t->n; i++) {
    bool drop = false;
    if (i > 0 && is_prep(t, i - 1) && !aii_toks_is(t, i - 1, "of")) continue; /* "in front of", "in the front of" */
    if (aii_toks_is(t, i, "the"))
      drop = (how_to && !aii_toks_in(t, i + 1, " one other same only most last first next right ")) ||
             is_superlative(t->t[i + 1].s) || of_follows(t, i);
    else if (aii_toks_is(t, i, "a"))
      drop = how_to && !aii_toks_in(t, i + 1, " few little lot bit while couple certain ");
    if (drop) aii_toks_remove(t, i, 1);
  }
}

/* "what are servers" and "what is a server". Runs when "are" has become "is". */
static void fold_plural(aii_toks *t)
{
  if (t->n == 4 && aii_toks_in(t, 0, " what who ") && aii_toks_is(t, 1, "is") && aii_toks_is(t, 2, "a")) {
    aii_toks_remove(t, 2, 1);
    (void)strncat(t->t[2].s, "~", sizeof t->t[2].s - strlen(t->t[2].s) - 1);
  } else if (t->n == 3 && aii_toks_in(t, 0, " what who ") && aii_toks_is(t, 1, "is")) {
    char *s = t->t[2].s;
    size_t n = strlen(s);
    if (n > 4 && !aii_is_no_plural(s) && s[n - 1] == 's' && strchr("siu", s[n - 2]) == NULL &&
        !(s[n - 2] == 'e' && strchr("sxzhi", s[n - 3])))
      s[n - 1] = '~';
  }
}

static size_t span_end(const aii_toks *t, size_t at)
{
  while (at < t->n && !is_prep(t, at)) at++;
  return at;
}

/* "to London from Paris" to "from Paris to London". */
static void order_ways(aii_toks *t)
{
  if (count(t, "to") != 1 || count(t, "from") != 1) return;
  for (size_t i = 1; i < t->n; i++) {
    if (!aii_toks_is(t, i, "to")) continue;
    size_t from = span_end(t, i + 1), end = span_end(t, from + 1 < t->n ? from + 1 : t->n);
    if (from < t->n && from > i + 1 && aii_toks_is(t, from, "from") && end > from + 1)
      aii_toks_move(t, from, end - from, i);
    return;
  }
}

static int compare_spans(const aii_toks *t, size_t a, size_t b, size_t n)
{
  for (size_t i = 0; i < n; i++) {
    int order = strcmp(t->t[a + i].s, t->t[b + i].s);
    if (order != 0) return order;
  }
  return 0;
}

/* "between X and Y" has no direction, unless it is one of numbers. */
void aii_toks_order_between(aii_toks *t)
{
  for (size_t i = 0; i + 3 < t->n; i++) {
    if (!aii_toks_is(t, i, "between")) continue;
    if (i > 0 && aii_toks_is(t, i - 1, "differences")) (void)snprintf(t->t[i - 1].s, AII_TOK_BYTES, "difference");
    size_t and = span_end(t, i + 1), end = span_end(t, and < t->n ? and+1 : t->n);
    size_t n = and-i - 1, m = end - and-1;
    if (!aii_toks_is(t, and, "and") || n == 0 || end <= and+1 || strpbrk(t->t[i + 1].s, "0123456789") != NULL) return;
    bool after = n == m ? compare_spans(t, i + 1, and+1, n) > 0 : n > m;
    if (!after) return;
    aii_toks_move(t, and+1, m, i + 1);
    aii_toks_move(t, i + 1 + m + n, 1, i + 1 + m);
    return;
  }
}

static void drop_fillers(aii_toks *t)
{
  static const char empty[] = " actually basically exactly simply please ";
  for (size_t i = 1; i + 1 < t->n;) {
    if (aii_toks_in(t, i, empty)) aii_toks_remove(t, i, 1);
    else i++;
  }
}

static void meaning_of(aii_toks *t)
{
  size_t n = aii_toks_match(t, 0, "what is meaning of"), last = t->n - 1;
  if (n > 0 && t->n > n) {
    aii_toks_remove(t, 2, 2);
    (void)snprintf(t->t[1].s, AII_TOK_BYTES, "do");
    aii_toks_insert(t, t->n, "mean");
  } else if (aii_toks_match(t, 0, "define") > 0 && last > 0) {
    (void)snprintf(t->t[0].s, AII_TOK_BYTES, "what");
    aii_toks_insert(t, 1, "do");
    aii_toks_insert(t, t->n, "mean");
  }
}

static void question(aii_toks *t, bool wide)
{
  aii_gist_lead(t);
  move_front(t);
  aii_frames_strip(t);
  if (!aii_toks_is(t, 0, "howto")) move_front(t);
  undo_possessive(t);
  swap_words(t, false);
  join_thousands(t);
  move_negation(t);
  drop_fillers(t);
  drop_articles(t);
  if (t->n > 1) meaning_of(t);
  order_ways(t);
  aii_toks_order_between(t);
  fold_plural(t);
  aii_gist(t, wide);
  if (t->asked && !aii_toks_in(t, 0, aii_list_wh) && !aii_toks_in(t, 0, aii_list_aux) && !aii_toks_is(t, 0, "howto") &&
      !aii_toks_in(t, 0, aii_list_asks))
    aii_toks_insert(t, t->n, "?");
}

static void fact(aii_toks *t)
{
  swap_words(t, true);
  same_negation(t);
  join_thousands(t);
  if (t->asked) aii_toks_insert(t, t->n, "?");
}

/* Several lines, code and tables carry meaning in their white space. */
static bool is_plain(const char *text, size_t n)
{
  return n > 0 && n <= AII_WORDING_BYTES && memchr(text, '\n', n) == NULL && memchr(text, '\r', n) == NULL &&
         memchr(text, '`', n) == NULL && memchr(text, '\0', n) == NULL && aii_utf8_valid(text, n);
}

bool aii_wording(const char *text, size_t n, aii_wording_kind kind, aii_buf *out)
{
  aii_toks toks;
  while (n > 0 && strchr(" \t\r\n", text[n - 1]) != NULL) n--;
  while (n > 0 && strchr(" \t\r\n", text[0]) != NULL) text++, n--;
  if (!is_plain(text, n)) return false;
  aii_toks_cut(text, n, &toks);
  if (toks.full || toks.n == 0) return false;
  if (kind == AII_WORDING_FACT) fact(&toks);
  else question(&toks, kind == AII_WORDING_WIDE);
  if (toks.full || toks.n == 0) return false;
  if (kind == AII_WORDING_WIDE) aii_buf_str(out, "~ "); /* never equal to one that was made otherwise */
  for (size_t i = 0; i < toks.n; i++) {
    if (i > 0) aii_buf_char(out, ' ');
    aii_buf_str(out, toks.t[i].s);
    if ((toks.t[i].flags & AII_TOK_POSSESSIVE) != 0) aii_buf_str(out, "'s");
  }
  return !out->failed;
}
