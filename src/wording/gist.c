/* gist.c - what a question asks, in whatever form, words and order of places it does.
 *
 * One rule after the other, each from many ways to say something to one: words by the lexicon; articles go; "the steps
 * to", "the command for" become "how to"; "who is the author of" becomes "who wrote"; "how tall is" becomes "the height
 * of"; plurals become singulars; the one program or system that is named goes to the end; "X of Y" becomes "Y X". No rule
 * drops or adds a negation, a number, a name, a time or a comparison, and none changes who does what to whom: from, to,
 * than, before, after, without and their kin stay where they are, and a subject stays before its verb.
 */
#include <stdio.h>

#include "src/wording/wording.h"

static bool ends(const char *s, const char *tail)
{
  size_t n = strlen(s), m = strlen(tail);
  return n > m && memcmp(s + n - m, tail, m) == 0;
}

static bool is_letters(const char *s)
{
  for (; *s != '\0'; s++) {
    if (*s < 'a' || *s > 'z') return false;
  }
  return true;
}

/* A name: a capital that no sentence's begin asks for. */
static bool is_name(const aii_tok *tok)
{
  return (tok->flags & (AII_TOK_CAPITAL | AII_TOK_FIRST)) == AII_TOK_CAPITAL || tok->s[0] == '@' || tok->s[0] == '"';
}

static bool is_prep(const aii_toks *t, size_t at)
{
  return aii_toks_in(t, at, aii_list_preposition);
}

/* ---- words ------------------------------------------------------------------------------------------------------------- */

bool aii_gist_is_of_words(const aii_toks *t)
{
  static const char words[] = " mean meaning meanings define definition spell spelled spelling pronounce pronunciation "
                              "plural singular synonym synonyms antonym antonyms opposite word words translate "
                              "translation say grammar verb noun adjective rhyme rhymes letter letters conjugate "
                              "etymology abbreviation acronym called difference differ different versus correct ";
  static const char articles[] = " a the an ";
  for (size_t i = 0; i < t->n; i++) {
    if (aii_toks_in(t, i, words)) return true;
  }
  size_t at = aii_toks_in(t, 0, " explain describe what who ") ? 1 : 0;
  bool term = at == 1 && (aii_toks_in(t, 0, " explain describe ") || aii_toks_in(t, 1, " is are do does "));
  if (term && aii_toks_in(t, at, " is are do does ")) at++;
  if (aii_toks_in(t, at, articles)) at++;
  return term && t->n <= at + 3;
}

/* Where the word at `at` stands for what is done. */
static bool is_doing(const aii_toks *t, size_t at)
{
  static const char before[] = " howto to i you we they not n't can could should would will must do please and or ";
  return at == 0 || aii_toks_in(t, at - 1, before) || (at == 2 && aii_toks_in(t, 0, " how why when where "));
}

static bool is_end(const aii_toks *t, size_t at)
{
  return at + 1 >= t->n || is_prep(t, at + 1) || aii_toks_in(t, at + 1, aii_list_aux) ||
         (t->t[at].flags & AII_TOK_COMMA) != 0;
}

static void swap(aii_toks *t, bool wide)
{
  if (aii_gist_is_of_words(t)) return;
  for (size_t i = 0; i < t->n && !t->full; i++) {
    size_t n;
    const char *to = aii_lexicon_phrase(t, i, wide, &n);
    if (to != NULL) aii_toks_replace(t, i, n, to);
    bool name = is_name(&t->t[i]) && !aii_lexicon_is_tech(t->t[i].s);
    to = name ? NULL : aii_lexicon_word(t->t[i].s, wide && is_doing(t, i), wide && is_end(t, i));
    if (to != NULL) aii_toks_set(t, i, to);
  }
}

/* "in front of" and "in the front of", "few" and "a few" are not the same; nor are, but where one asks how, "the sun"
 * and "a sun"; nor, with both, "a king of the hill" and "the king of a hill". */
static void drop_articles(aii_toks *t)
{
  static const char keeps[] = " few little lot bit while couple front one other same only most last first next right ";
  static const char known[] = " reason use purpose point function job role cause number definition meaning recipe "
                              "distance way ways step steps command commands syntax method procedure process trick "
                              "approach technique ";
  bool how_to = aii_toks_is(t, 0, "howto"), a_there = false, the_there = false;
  for (size_t i = 1; i < t->n; i++) {
    a_there = a_there || aii_toks_is(t, i, "a");
    the_there = the_there || aii_toks_is(t, i, "the");
  }
  bool both = how_to && a_there && the_there;
  for (size_t i = 0; i + 1 < t->n;) {
    bool the = aii_toks_is(t, i, "the"), a = aii_toks_is(t, i, "a"), keep = aii_toks_in(t, i + 1, keeps);
    /* a python is an animal, and Python none */
    keep = keep || (a && aii_lexicon_is_tech(t->t[i + 1].s) && (i + 2 >= t->n || is_prep(t, i + 2)));
    bool drop = (a && !both) || (the && how_to && !both) || (the && i == 2 && aii_toks_in(t, 3, known));
    if (drop && !keep) aii_toks_remove(t, i, 1);
    else i++;
  }
}

bool aii_is_no_plural(const char *word)
{
  static const char whole[] = " news goods customs means arms glasses physics mathematics maths series species always "
                              "perhaps whereas besides sometimes others does was has is this thus its his hers ours "
                              "yours theirs us yes less lens gas bus plus bias atlas canvas alias css js os aws https ";
  return aii_in(whole, word);
}

/* "files" to "file"; names and what only looks like a plural stay. */
static void cut_plural(aii_tok *tok)
{
  char *s = tok->s;
  size_t n = strlen(s);
  if (n < 4 || s[n - 1] != 's' || is_name(tok) || !is_letters(s) || aii_is_no_plural(s)) return;
  if (ends(s, "ss") || ends(s, "us") || ends(s, "is") || ends(s, "ous")) return;
  if (ends(s, "ies") && n > 4) memcpy(s + n - 3, "y", 2);
  else if (ends(s, "sses") || ends(s, "shes") || ends(s, "ches") || ends(s, "xes")) s[n - 2] = '\0';
  else s[n - 1] = '\0';
}

static bool is_vowel(char c)
{
  return c != '\0' && strchr("aeiou", c) != NULL;
}

static size_t count_vowels(const char *s)
{
  size_t n = 0;
  for (; *s != '\0'; s++) n += is_vowel(*s);
  return n;
}

/* Whether the verb lost an e before "ing": "mak", "remov", "handl" did, "runn", "open", "read" did not. */
static bool lost_e(const char *s, size_t n)
{
  static const char whole[] = " bring hang sing ring swing fling cling string ", cut[] = " us creat ignor ";
  char last = s[n - 1], before = s[n - 2];
  if (aii_in(whole, s)) return false;
  if (aii_in(cut, s) || strchr("cgvuz", last) != NULL) return true;
  if (last == 's') return before != 's';
  if (last == 'l' && strchr("bdtpfgkz", before) != NULL) return true;
  if (is_vowel(last) || strchr("wxyh", last) != NULL || !is_vowel(before)) return false;
  if (n > 2 && is_vowel(s[n - 3])) return false;
  return count_vowels(s) == 1 || !(ends(s, "en") || ends(s, "er") || ends(s, "on") || ends(s, "it") || ends(s, "or") ||
                                   ends(s, "el") || ends(s, "op") || ends(s, "om"));
}

/* "running" to "run", "making" to "make"; "run" and "make" stay. */
void aii_word_base(char *s)
{
  size_t n = strlen(s);
  if (n < 5 || n + 1 >= AII_TOK_BYTES || !is_letters(s) || !ends(s, "ing") || count_vowels(s) < 2) return;
  n -= 3;
  s[n] = '\0';
  if (n > 2 && s[n - 1] == s[n - 2] && strchr("lsfz", s[n - 1]) == NULL) s[n - 1] = '\0';
  else if (lost_e(s, n)) memcpy(s + n, "e", 2);
}

/* "buy or rent" and "rent or buy". */
static void order_or(aii_toks *t)
{
  for (size_t i = 1; i + 1 < t->n; i++) {
    if (!aii_toks_is(t, i, "or") || !is_letters(t->t[i - 1].s) || !is_letters(t->t[i + 1].s)) continue;
    if (aii_toks_in(t, i - 1, aii_list_aux) || aii_toks_in(t, i + 1, " not ") ||
        strcmp(t->t[i - 1].s, t->t[i + 1].s) < 0)
      continue;
    aii_tok first = t->t[i - 1];
    t->t[i - 1] = t->t[i + 1];
    t->t[i + 1] = first;
  }
}

/* What one wants to do: "lower" is a verb there, and "count the number of lines" is to count lines. */
static void take_verb(aii_toks *t, bool wide)
{
  if (t->n < 2 || !aii_toks_is(t, 0, "howto")) return;
  aii_word_base(t->t[1].s);
  const char *word = aii_gist_is_of_words(t) ? NULL : aii_lexicon_word(t->t[1].s, wide, false);
  if (word != NULL) aii_toks_set(t, 1, word);
  if (t->n > 3 && aii_toks_in(t, t->n - 1, " correctly properly ")) t->n--; /* as "the correct way to" is no other */
  if (wide && aii_toks_is(t, 1, "lower")) aii_toks_set(t, 1, "decrease");
  if (aii_toks_is(t, 1, "count") && aii_toks_match(t, 2, "number of") > 0 && t->n > 4) aii_toks_remove(t, 2, 2);
}

/* ---- places ------------------------------------------------------------------------------------------------------------- */

/* The one program or system that is named says where; of two, each says something else. At the end it stands behind
 * "in", and may have stood before the thing, or behind in, on, with, using, for, via. */
static void move_tech(aii_toks *t)
{
  static const char places[] = " in on with using for via through by inside under of ";
  static const char makes[] = " write build develop design implement program create compile test learn study teach ";
  size_t at = t->n, n_found = 0;
  for (size_t i = 1; i < t->n; i++) {
    if (!aii_lexicon_is_tech(t->t[i].s)) continue;
    at = i;
    n_found++;
  }
  if (n_found != 1 || at < 2) return;
  char word[AII_TOK_BYTES];
  memcpy(word, t->t[at].s, sizeof word);
  bool placed = aii_toks_in(t, at - 1, places), thing = at + 1 < t->n && !is_prep(t, at + 1);
  bool about = at == 2 && aii_toks_in(t, 1, makes); /* "write a Python interpreter" is not said to be in Python */
  if (!placed && !(aii_toks_is(t, 0, "howto") && thing && !about)) return;
  if (placed && thing) return;
  aii_toks_remove(t, placed ? at - 1 : at, placed ? 2 : 1);
  aii_toks_insert(t, t->n, "in");
  if (!t->full) aii_toks_insert(t, t->n, word);
}

/* "X of Y" to "Y X", but for what holds what: "a glass of wine" is no wine glass. */
static void turn_of(aii_toks *t)
{
  static const char holds[] = " glass cup bottle bowl box pot can jar piece slice bag pack kind type sort pair group "
                              "list set lot most all some any none each one many few out front because instead ";
  for (size_t i = 2; i + 1 < t->n; i++) {
    if (!aii_toks_is(t, i, "of") || aii_toks_in(t, i - 1, holds) || is_prep(t, i - 1)) continue;
    size_t from = i - 1, end = i + 1;
    bool how_to = aii_toks_is(t, 0, "howto");
    while (from > (how_to ? 2u : 1u) && !is_prep(t, from - 1) && !aii_toks_in(t, from - 1, aii_list_aux) &&
           !aii_toks_in(t, from - 1, aii_list_wh))
      from--;
    while (end < t->n && !is_prep(t, end) && !aii_toks_in(t, end, aii_list_aux) && !aii_toks_is(t, end, "and")) end++;
    if (end == i + 1 || from >= i || (how_to && from < 2)) continue;
    if (end < t->n && !is_prep(t, end)) continue;
    if (end < t->n && (aii_toks_in(t, end, " of and or than "))) continue;
    aii_toks_remove(t, i, 1);
    aii_toks_move(t, i, end - 1 - i, from);
  }
}

static void drop_tail(aii_toks *t)
{
  size_t n = t->n;
  if (n > 3 && aii_toks_in(t, n - 2, " to for ") && aii_toks_in(t, n - 1, " me us ")) t->n -= 2;
}

/* ---- all ------------------------------------------------------------------------------------------------------------------ */

void aii_gist_lead(aii_toks *t)
{
  bool lead = t->n > 3 && aii_lexicon_is_tech(t->t[0].s) && (t->t[0].flags & AII_TOK_COMMA) != 0;
  if (!lead) return;
  char word[AII_TOK_BYTES];
  memcpy(word, t->t[0].s, sizeof word);
  aii_toks_remove(t, 0, 1);
  if (!aii_toks_in(t, 0, aii_list_wh) && !aii_toks_in(t, 0, aii_list_aux)) aii_toks_insert(t, 0, "howto");
  if (!t->full) aii_toks_insert(t, t->n, "in");
  if (!t->full) aii_toks_insert(t, t->n, word);
}

void aii_gist(aii_toks *t, bool wide)
{
  drop_articles(t);
  drop_tail(t);
  swap(t, wide);
  aii_forms_take(t);
  if (t->full || t->n == 0) return;
  take_verb(t, wide);
  for (size_t i = aii_toks_is(t, 0, "howto") ? 2 : 1; i < t->n; i++) cut_plural(&t->t[i]);
  move_tech(t);
  turn_of(t);
  aii_toks_order_between(t);
  order_or(t);
}
