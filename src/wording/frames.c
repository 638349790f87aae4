/* frames.c - what surrounds a question: greetings, thanks, "could you tell me", and the forms of "how do I".
 *
 * Greetings and asides go where a comma or a question follows; frames that ask for knowledge ("do you know") go only
 * before a question word, since "do you know Bob" is a question of its own; requests ("could you please") go only
 * before a verb that asks for text. What such a frame embeds has the order of a statement, which is undone: "what the
 * capital of France is" becomes "what is the capital of France", "how TCP works" becomes "how do TCP work".
 */
#include <stdio.h>

#include "src/wording/wording.h"

const char aii_list_wh[] = " what who where when why how which whose ";
const char aii_list_aux[] =
    " is are was were am do does did can could will would shall should may might must have has had ";

static const char OPENERS[] =
    " what who where when why how which whose is are was were do does did can could will would should may tell explain "
    "please give show i i'd in ";
/* Verbs that ask for a text, so that "can you" before them only asks for it. */
const char aii_list_asks[] =
    " tell explain describe give show list write translate summarize summarise define name recommend suggest compare "
    "calculate convert teach clarify outline ";

static const char *const GREETINGS[] = {"good morning",
                                        "good afternoon",
                                        "good evening",
                                        "hi there",
                                        "hello there",
                                        "hey there",
                                        "hi",
                                        "hello",
                                        "hey",
                                        "ok",
                                        "okay",
                                        "so",
                                        "well",
                                        "um",
                                        "sorry",
                                        "excuse me",
                                        "quick question",
                                        "just curious",
                                        "just wondering",
                                        "out of curiosity",
                                        "one question",
                                        "i have a question",
                                        "i have a quick question",
                                        "thanks",
                                        "thank you",
                                        "greetings",
                                        "question",
                                        "by the way",
                                        "btw",
                                        NULL};

static const char *const KNOWING[] = {"i was wondering",
                                      "i am wondering",
                                      "i wonder",
                                      "i am just wondering",
                                      "i am curious",
                                      "i am curious to know",
                                      "i'd like to know",
                                      "i would like to know",
                                      "i would love to know",
                                      "i'd love to know",
                                      "i want to know",
                                      "i wanted to know",
                                      "i need to know",
                                      "i am trying to find out",
                                      "i am trying to understand",
                                      "i am trying to figure out",
                                      "i do not know",
                                      "i am not sure",
                                      "i want to understand",
                                      "i'd like to understand",
                                      "i would like to understand",
                                      "i want to learn",
                                      "i'd like to learn",
                                      "i would like to learn",
                                      "do you know",
                                      "do you happen to know",
                                      "would you know",
                                      "would you happen to know",
                                      "does anyone know",
                                      "does anybody know",
                                      "any idea",
                                      "do you have any idea",
                                      "can anyone tell me",
                                      "can you tell me",
                                      "could you tell me",
                                      "would you tell me",
                                      "will you tell me",
                                      "can somebody tell me",
                                      "can someone tell me",
                                      "tell me",
                                      "let me know",
                                      "can you let me know",
                                      "could you let me know",
                                      "can you explain to me",
                                      "could you explain to me",
                                      "explain to me",
                                      "may i ask",
                                      "can i ask",
                                      "could i ask",
                                      "might i ask",
                                      "may i ask you",
                                      "would you mind telling me",
                                      "do you mind telling me",
                                      "would you mind explaining",
                                      "would you be able to tell me",
                                      "would you be so kind as to tell me",
                                      "are you able to tell me",
                                      "is there any chance you know",
                                      "my question is",
                                      "the question is",
                                      "help me understand",
                                      "can you help me understand",
                                      "could you help me understand",
                                      "show me",
                                      "can you show me",
                                      "could you show me",
                                      "explain",
                                      "teach me",
                                      "remind me",
                                      "can you remind me",
                                      "could you remind me",
                                      "i forgot",
                                      "i have forgotten",
                                      "i need help understanding",
                                      NULL};

static const char *const REQUESTS[] = {
    "can you please",      "could you please", "would you please", "will you please", "can you kindly",
    "could you kindly",    "can you",          "could you",        "would you",       "will you",
    "i would like you to", "i want you to",    "i'd like you to",  "i need you to",   NULL};

static const char *const ENDINGS[] = {"thanks in advance",
                                      "thank you in advance",
                                      "thank you very much",
                                      "thank you so much",
                                      "thanks so much",
                                      "thanks a lot",
                                      "many thanks",
                                      "thank you",
                                      "thanks",
                                      "please",
                                      "if you do not mind",
                                      "if possible",
                                      "if you know",
                                      "if you can",
                                      NULL};

/* ---- the front and the end ------------------------------------------------------------------------------------------ */

static bool strip_greeting(aii_toks *t)
{
  for (size_t i = 0; GREETINGS[i] != NULL; i++) {
    size_t n = aii_toks_match(t, 0, GREETINGS[i]);
    if (n == 0 || n >= t->n) continue;
    if ((t->t[n - 1].flags & AII_TOK_COMMA) == 0 && !(n > 1 && aii_toks_in(t, n, OPENERS))) continue;
    aii_toks_remove(t, 0, n);
    return true;
  }
  if (t->n > 1 && (aii_toks_in(t, 0, " please kindly pls "))) {
    aii_toks_remove(t, 0, 1);
    return true;
  }
  return (aii_toks_in(t, 0, " hi hello hey ") && aii_toks_in(t, 1, OPENERS)) ? aii_toks_remove(t, 0, 1), true : false;
}

/* "tell me", "could you please tell me", ... before a question word. A "please" inside was taken out. */
static bool strip_knowing(aii_toks *t, bool *embedded)
{
  size_t longest = 0;
  for (size_t i = 0; KNOWING[i] != NULL; i++) {
    size_t n = aii_toks_match(t, 0, KNOWING[i]);
    if (n > longest && aii_toks_in(t, n, aii_list_wh)) longest = n;
  }
  if (longest == 0) return false;
  aii_toks_remove(t, 0, longest);
  *embedded = true;
  return true;
}

static bool strip_request(aii_toks *t)
{
  for (size_t i = 0; REQUESTS[i] != NULL; i++) {
    size_t n = aii_toks_match(t, 0, REQUESTS[i]);
    if (n == 0 || !aii_toks_in(t, n, aii_list_asks)) continue;
    aii_toks_remove(t, 0, n);
    return true;
  }
  return false;
}

static bool strip_ending(aii_toks *t)
{
  for (size_t i = 0; ENDINGS[i] != NULL; i++) {
    size_t n = 0;
    for (const char *s = ENDINGS[i]; s != NULL; s = strchr(s + 1, ' ')) n++;
    if (n >= t->n || aii_toks_match(t, t->n - n, ENDINGS[i]) == 0) continue;
    t->n -= n;
    return true;
  }
  return false;
}

/* "could you please tell me": the word in the middle says nothing. */
static void drop_inner_please(aii_toks *t)
{
  for (size_t i = 1; i < t->n && i < 4; i++) {
    if (aii_toks_in(t, i, " please kindly possibly ") && aii_toks_is(t, i - 1, "you")) {
      aii_toks_remove(t, i, 1);
      return;
    }
  }
}

/* ---- embedded questions --------------------------------------------------------------------------------------------- */

static const char AFTER_HOW[] = " old tall high deep long far big large fast heavy wide hot cold expensive often ";
static const char PRONOUNS[] = " i you we they he she it one this that these those there ";

static bool ends(const char *s, const char *tail)
{
  size_t n = strlen(s), m = strlen(tail);
  return n > m + 1 && memcmp(s + n - m, tail, m) == 0;
}

/* "works" to "work"; false: no verb of the third person. */
static bool cut_person(char *s)
{
  size_t n = strlen(s);
  if (n < 4 || s[n - 1] != 's' || ends(s, "ss") || ends(s, "us") || ends(s, "is")) return false;
  if (ends(s, "ies")) memcpy(s + n - 3, "y", 2);
  else if (ends(s, "oes") || ends(s, "sses") || ends(s, "shes") || ends(s, "ches") || ends(s, "xes")) s[n - 2] = '\0';
  else s[n - 1] = '\0';
  return true;
}

static bool has_aux(const aii_toks *t)
{
  bool found = false;
  for (size_t i = 1; i < t->n; i++) found = found || aii_toks_in(t, i, aii_list_aux) || aii_toks_is(t, i, "to");
  return found;
}

void aii_frames_undo(aii_toks *t)
{
  size_t at = aii_toks_is(t, 0, "how") && aii_toks_in(t, 1, AFTER_HOW) ? 2 : 1;
  if (t->n < 3 || t->n < at + 2 || aii_toks_in(t, at, aii_list_aux) || aii_toks_is(t, at, "to")) return;
  if (aii_toks_in(t, at, PRONOUNS) && aii_toks_in(t, at + 1, aii_list_aux)) {
    aii_toks_move(t, at + 1, 1, at);
  } else if (aii_toks_in(t, t->n - 1, " is are was were ")) {
    aii_toks_move(t, t->n - 1, 1, at);
  } else if (t->n > at + 2 && aii_toks_in(t, t->n - 2, " is are was were ") && !aii_toks_is(t, 0, "which")) {
    aii_toks_move(t, t->n - 2, 1, at);
  } else if (!aii_toks_in(t, 0, " who which whose ") && cut_person(t->t[t->n - 1].s)) {
    aii_toks_insert(t, at, "do");
  } else if (aii_toks_in(t, 0, " how why ") && !has_aux(t)) {
    aii_toks_insert(t, at, "do"); /* "why leaves fall" */
  }
}

/* ---- how do I -------------------------------------------------------------------------------------------------------- */

static const char *const HOW_TO[] = {"how do i",
                                     "how can i",
                                     "how could i",
                                     "how would i",
                                     "how might i",
                                     "how do we",
                                     "how can we",
                                     "how could we",
                                     "how does one",
                                     "how do one",
                                     "how can one",
                                     "how might one",
                                     "how would one",
                                     "how to",
                                     "what is the way to",
                                     "what is the best way to",
                                     "what is the right way to",
                                     "what is the correct way to",
                                     "what is the proper way to",
                                     "what is a way to",
                                     "what is a good way to",
                                     "what is the best way for me to",
                                     "how is it possible to",
                                     "how am i able to",
                                     "how i can",
                                     "how i could",
                                     "how i",
                                     "how should one",
                                     "what are the ways to",
                                     "what do i do to",
                                     "what do i need to do to",
                                     "what do i have to do to",
                                     "the best way to",
                                     "best way to",
                                     NULL};

static void fold_how_to(aii_toks *t)
{
  for (size_t i = 0; HOW_TO[i] != NULL; i++) {
    size_t n = aii_toks_match(t, 0, HOW_TO[i]);
    if (n == 0 || n >= t->n) continue;
    aii_toks_remove(t, 0, n - 1);
    (void)snprintf(t->t[0].s, sizeof t->t[0].s, "howto");
    t->t[0].flags = 0;
    return;
  }
}

void aii_frames_strip(aii_toks *t)
{
  bool embedded = false, more = true;
  while (more && t->n > 2) {
    drop_inner_please(t);
    more = strip_greeting(t) || strip_ending(t) || strip_knowing(t, &embedded) || strip_request(t);
  }
  if (embedded) aii_frames_undo(t);
  if (aii_toks_match(t, 0, "in what way") > 0) {
    aii_toks_remove(t, 0, 2);
    (void)snprintf(t->t[0].s, sizeof t->t[0].s, "how");
  }
  fold_how_to(t);
}
