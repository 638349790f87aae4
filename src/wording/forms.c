/* forms.c - one form for what is asked in many: "the steps to", "who is the author of", "how far is", "is it okay for".
 *
 * Each rule looks at the front of a question, whose words the lexicon has been over and whose articles are gone, and puts
 * another front there; the rest stays in its order. One after the other, until none fits or four did.
 */
#include <stdio.h>

#include "src/wording/wording.h"

static bool ends(const char *s, const char *tail)
{
  size_t n = strlen(s), m = strlen(tail);
  return n > m && memcmp(s + n - m, tail, m) == 0;
}

static bool is_prep(const aii_toks *t, size_t at)
{
  return aii_toks_in(t, at, aii_list_preposition);
}

typedef struct form {
  const char *from, *to;
  bool gerund; /* only before "...ing", or for "how to" */
} form;

/* At the front; "..." is left as it is. Longer ones first. */
static const form FORMS[] = {
    {"show me howto", "howto", false},
    {"show me how to", "howto", false},
    {"tell me how to", "howto", false},
    {"explain how to", "howto", false},
    {"help me to", "howto", false},
    {"help me", "howto", false},
    {"can you help me", "howto", false},
    {"could you help me", "howto", false},
    {"howto tell if", "howto know if", false},
    {"is it better to", "should i", false},
    {"i need help to", "howto", false},
    {"i need help", "howto", true},
    {"tips for", "howto", true},
    {"tips on", "howto", true},
    {"tips to", "howto", false},
    {"advice on", "howto", true},
    {"instructions for", "howto", true},
    {"recipe for", "howto make", false},
    {"give me recipe for", "howto make", false},
    {"give recipe for", "howto make", false},
    {"what is recipe for", "howto make", false},
    {"is it possible to", "can i", false},
    {"is there way to", "can i", false},
    {"is i able to", "can i", false},
    {"is it okay to", "can i", false},
    {"is it allowed to", "can i", false},
    {"is i allowed to", "can i", false},
    {"what is use for", "what is purpose of", false},
    {"what is use of", "what is purpose of", false},
    {"what is uses of", "what is purpose of", false},
    {"what is uses for", "what is purpose of", false},
    {"what is point of", "what is purpose of", false},
    {"what is function of", "what is purpose of", false},
    {"what is job of", "what is purpose of", false},
    {"what is role of", "what is purpose of", false},
    {"why would i use", "what is purpose of", false},
    {"why should i use", "what is purpose of", false},
    {"why do people use", "what is purpose of", false},
    {"what is causes of", "what causes", false},
    {"what is cause of", "what causes", false},
    {"what is cause for", "what causes", false},
    {"what is reasons for", "what causes", false},
    {"what is reason for", "what causes", false},
    {"why do people get", "what causes", false},
    {"why do i get", "what causes", false},
    {"what is consequences of", "what happens if i", true},
    {"what is consequence of", "what happens if i", true},
    {"what happens when i", "what happens if i", false},
    {"how many person live in", "what is population of", false},
    {"how many people live in", "what is population of", false},
    {"how many people is in", "what is population of", false},
    {"what is number of people in", "what is population of", false},
    {"what is signs of", "what is symptoms of", false},
    {"what do word", "what do", false},
    {"give me summary of", "summarize", false},
    {"give summary of", "summarize", false},
    {"write summary of", "summarize", false},
    {"what is summary of", "summarize", false},
    {"give me overview of", "summarize", false},
    {"give me explanation of", "explain", false},
    {"give explanation of", "explain", false},
    {"give me definition of", "explain", false},
    {"give definition of", "explain", false},
    {"what is definition of", "explain", false},
    {"give me", "give", false},
    {"tell me", "tell", false},
    {"show me", "show", false},
    {"write me", "write", false},
    {"teach me", "teach", false},
    {"what some", "what", false},
    {"what is some of", "what is", false},
    {"what is some", "what is", false},
    {"where can i get", "where do i get", false},
    {"where can i go to", "where can i", false},
    {"where should i go to", "where can i", false},
    {"what should i do if", "what do i do if", false},
    {"what can i do if", "what do i do if", false},
    {"what do i need to", "what should i", false},
    {"what do i have to", "what should i", false},
};

static bool take_form(aii_toks *t)
{
  for (size_t i = 0; i < AII_COUNT(FORMS); i++) {
    size_t n = aii_toks_match(t, 0, FORMS[i].from);
    if (n == 0 || n >= t->n || (FORMS[i].gerund && !ends(t->t[n].s, "ing"))) continue;
    aii_toks_replace(t, 0, n, FORMS[i].to);
    if (FORMS[i].gerund) aii_word_base(t->t[n < t->n ? n : t->n - 1].s);
    return true;
  }
  return false;
}

static const char WAYS[] =
    " way ways step steps command commands syntax method procedure process trick approach technique "
    "code expression ";

/* "what is the (best) way to V", "the Linux command for V-ing", "bash command to V": a question of how. */
static bool take_way(aii_toks *t)
{
  static const char plain[] = " best right correct proper good common usual standard recommended normal easy cli the ";
  size_t at = aii_toks_match(t, 0, "what is"), from = at, tech = t->n;
  if (at == 0) at = from = aii_toks_match(t, 0, "give");
  for (; at < t->n && at < from + 3 && !aii_toks_in(t, at, WAYS); at++) {
    if (aii_lexicon_is_tech(t->t[at].s) && tech == t->n) tech = at;
    else if (!aii_toks_in(t, at, plain)) return false;
  }
  if (!aii_toks_in(t, at, WAYS) || (from == 0 && tech == t->n)) return false;
  bool to = aii_toks_is(t, at + 1, "to");
  if (!to && !(aii_toks_in(t, at + 1, " for of ") && at + 2 < t->n && ends(t->t[at + 2].s, "ing"))) return false;
  if (tech < t->n) {
    aii_toks_insert(t, t->n, "in");
    if (!t->full) aii_toks_insert(t, t->n, t->t[tech].s);
  }
  if (t->full) return false;
  aii_toks_replace(t, 0, at + 2, "howto");
  return true;
}

/* "what command shows X" is how to show X. */
static bool take_what_command(aii_toks *t)
{
  bool front = aii_toks_is(t, 0, "what") && aii_toks_in(t, 1, WAYS) && t->n > 3 && ends(t->t[2].s, "s");
  if (!front || aii_toks_in(t, 2, aii_list_aux)) return false;
  t->t[2].s[strlen(t->t[2].s) - 1] = '\0';
  aii_toks_replace(t, 0, 2, "howto");
  return true;
}

/* "who was the author of X" to "who wrote X". */
static bool take_doer(aii_toks *t)
{
  static const char persons[] = " person people artist scientist company man woman author writer player ";
  if (aii_toks_is(t, 0, "what") && aii_toks_in(t, 1, persons) && t->n > 3 && !aii_toks_in(t, 2, aii_list_aux)) {
    aii_toks_replace(t, 0, 2, "who");
    return true;
  }
  if (!aii_toks_is(t, 0, "who") || !aii_toks_in(t, 1, " is was ") || !aii_toks_is(t, 3, "of")) return false;
  const char *doing = aii_lexicon_doing(t->t[2].s);
  if (doing == NULL) return false;
  aii_toks_replace(t, 1, 3, doing);
  return true;
}

/* "how tall is X" to "what is height of X", "how much do X cost" to "what is price of X". */
static bool take_measure(aii_toks *t)
{
  const char *measure = aii_toks_is(t, 0, "how") && aii_toks_is(t, 2, "is") ? aii_lexicon_measure(t->t[1].s) : NULL;
  if (measure != NULL && t->n > 3 && !aii_toks_in(t, 3, " it this that ")) {
    aii_toks_replace(t, 0, 3, "what is");
    aii_toks_insert(t, 2, measure);
    if (!t->full) aii_toks_insert(t, 3, "of");
    return true;
  }
  if (aii_toks_match(t, 0, "how much do") > 0 && aii_toks_is(t, t->n - 1, "price") && t->n > 4) {
    t->n--;
    aii_toks_replace(t, 0, 3, "what is price of");
    return true;
  }
  return false;
}

/* "how far is A from B", "the distance from A to B": one between the two. */
static bool take_distance(aii_toks *t)
{
  size_t n = aii_toks_match(t, 0, "how far is"), link = 0;
  const char *word = "from";
  if (aii_toks_match(t, 0, "how far is it from") > 0) n = 5, word = "to";
  else if (n == 0 && (n = aii_toks_match(t, 0, "what is distance from")) > 0) word = "to";
  if (n == 0) return false;
  for (size_t i = n + 1; i + 1 < t->n; i++) {
    if (is_prep(t, i) && (link != 0 || !aii_toks_is(t, i, word))) return false;
    if (aii_toks_is(t, i, word)) link = i;
  }
  if (link == 0) return false;
  aii_toks_set(t, link, "and");
  aii_toks_replace(t, 0, n, "what is distance between");
  return true;
}

/* "how do A and B differ", "how is A different from B". */
static bool take_difference(aii_toks *t)
{
  size_t last = t->n - 1;
  if (t->n > 5 && aii_toks_match(t, 0, "how do") > 0 && aii_toks_is(t, last, "differ")) {
    t->n--;
    aii_toks_replace(t, 0, 2, "what is difference between");
    return true;
  }
  bool is = aii_toks_match(t, 0, "how is") > 0;
  if (!is && aii_toks_match(t, 0, "how do") == 0) return false;
  for (size_t i = 3; i + 2 < t->n; i++) {
    if (!aii_toks_is(t, i, is ? "different" : "differ") || !aii_toks_is(t, i + 1, "from")) continue;
    aii_toks_replace(t, i, 2, "and");
    aii_toks_replace(t, 0, 2, "what is difference between");
    return true;
  }
  return false;
}

/* "what makes X V" to "why do X V"; "the reason (that) X is" to "why is X". */
static bool take_reason(aii_toks *t)
{
  size_t n = aii_toks_match(t, 0, "what is reason that");
  if (n == 0) n = aii_toks_match(t, 0, "what is reason why");
  if (n == 0) n = aii_toks_match(t, 0, "what is reason");
  if (n > 0 && t->n > n + 2 && !is_prep(t, n)) {
    aii_toks_replace(t, 0, n, "why");
    if (!aii_toks_in(t, 1, aii_list_aux)) {
      for (size_t i = 2; i < t->n && i < 5; i++) {
        if (!aii_toks_in(t, i, aii_list_aux)) continue;
        aii_toks_move(t, i, 1, 1);
        if (aii_toks_is(t, i + 1, "not")) {
          aii_toks_move(t, i + 1, 1, 2);
          aii_toks_set(t, 2, "n't");
        } else if (aii_toks_is(t, i + 1, "n't")) {
          aii_toks_move(t, i + 1, 1, 2);
        }
        return true;
      }
      aii_frames_undo(t);
    }
    return true;
  }
  if (t->n < 4 || aii_toks_match(t, 0, "what makes") == 0 || aii_toks_in(t, 2, " a the ")) return false;
  aii_toks_replace(t, 0, 2, "why do");
  return true;
}

/* "how would you V" asks how to, unless it asks for you. */
static bool take_you(aii_toks *t)
{
  static const char yours[] = " know feel think like do be say look react define rate describe explain ";
  bool front = aii_toks_is(t, 0, "how") && aii_toks_in(t, 1, " would can could ") && aii_toks_is(t, 2, "you");
  if (!front || t->n < 5 || aii_toks_in(t, 3, yours)) return false;
  aii_toks_replace(t, 0, 3, "howto");
  return true;
}

/* "what is the number of X in Y" to "how many X is in Y". */
static bool take_number(aii_toks *t)
{
  if (aii_toks_match(t, 0, "what is number of") == 0) return false;
  for (size_t i = 5; i + 1 < t->n && i < 8; i++) {
    if (!aii_toks_is(t, i, "in")) continue;
    aii_toks_insert(t, i, "is");
    aii_toks_replace(t, 0, 4, "how many");
    return true;
  }
  return false;
}

/* "explain X" asks what X is, as long as X is a thing and no question. */
static bool take_explain(aii_toks *t)
{
  if (!aii_toks_is(t, 0, "explain") || t->n < 2 || t->n > 5 || aii_toks_in(t, 1, aii_list_wh)) return false;
  aii_toks_replace(t, 0, 1, "what is");
  return true;
}

/* "what is X used for", "what does the term X mean". */
static bool take_tail(aii_toks *t)
{
  size_t n = t->n;
  if (n > 4 && aii_toks_match(t, 0, "what is") > 0 && aii_toks_match(t, n - 2, "used for") > 0) {
    t->n -= 2;
    aii_toks_replace(t, 0, 2, "what is purpose of");
    return true;
  }
  if (n > 4 && aii_toks_match(t, 0, "what do term") > 0 && aii_toks_is(t, n - 1, "mean")) {
    t->n--;
    aii_toks_replace(t, 0, 3, "what is");
    return true;
  }
  return false;
}

/* "is it okay for X to V" to "can X V". */
static bool take_permission(aii_toks *t)
{
  bool front = aii_toks_match(t, 0, "is it") > 0 && aii_toks_in(t, 2, " okay possible allowed alright ");
  if (!front || !aii_toks_is(t, 3, "for")) return false;
  for (size_t i = 5; i + 1 < t->n && i < 8; i++) {
    if (is_prep(t, i) && !aii_toks_is(t, i, "to")) return false;
    if (!aii_toks_is(t, i, "to")) continue;
    aii_toks_remove(t, i, 1);
    aii_toks_replace(t, 0, 4, "can");
    return true;
  }
  return false;
}

/* "is X required to", "do I need X to". */
static bool take_need(aii_toks *t)
{
  if (!aii_toks_is(t, 0, "is")) return false;
  for (size_t i = 2; i + 1 < t->n && i < 5; i++) {
    if (!aii_toks_is(t, i, "required") || !aii_toks_in(t, i + 1, " to for ")) continue;
    if (aii_toks_is(t, i + 1, "for") && i + 2 < t->n && ends(t->t[i + 2].s, "ing")) {
      aii_toks_set(t, i + 1, "to");
      aii_word_base(t->t[i + 2].s);
    }
    aii_toks_remove(t, i, 1);
    aii_toks_replace(t, 0, 1, "do i need");
    return true;
  }
  return false;
}

/* "how do you say X in Spanish" asks for a translation. */
static bool take_translation(aii_toks *t)
{
  size_t n = aii_toks_match(t, 0, "howto say"), last = t->n - 1;
  if (n > 0 && t->n > n + 2 && aii_toks_is(t, last - 1, "in")) {
    aii_toks_replace(t, 0, n, "translate");
    aii_toks_set(t, t->n - 2, "into");
    return true;
  }
  bool translate = aii_toks_is(t, 0, "translate") && t->n > 3 && aii_toks_is(t, last - 1, "to");
  if (translate) aii_toks_set(t, last - 1, "into");
  return translate;
}

void aii_forms_take(aii_toks *t)
{
  for (int i = 0; i < 4 && t->n > 1 && !t->full; i++) {
    if (!take_form(t) && !take_way(t) && !take_what_command(t) && !take_doer(t) && !take_distance(t) &&
        !take_measure(t) && !take_difference(t) && !take_reason(t) && !take_explain(t) && !take_need(t) &&
        !take_you(t) && !take_number(t) && !take_tail(t) && !take_permission(t) && !take_translation(t))
      break;
  }
}
