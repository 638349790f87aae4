/* relate.c - what two facts are to each other: the same, a contradiction, or neither; by rules, without a model.
 *
 * Both become canonical wordings and are cut into words. They say the same when their words are, but for fillers, in the
 * same order. They contradict each other when one is the other with a negation, or when both give a value to the same
 * attribute of the same thing: "Ann's editor is vim", "the editor of Ann is nano"; "Ann lives in Rome", "Ann works at
 * the bank", "Ann is 31 years old". Attributes of which one has several (brothers, languages, hobbies) contradict
 * nothing. What no rule knows is unrelated, so that nothing is lost by a guess. Touches nothing.
 */
#include <stdio.h>

#include "src/memory/memory.h"

enum { MOST_WORDS = 80, FACT_TEXT = 1024, KEY_WORDS = 8, VALUE_WORDS = 6 };

typedef struct words {
  char text[FACT_TEXT];
  char *w[MOST_WORDS];
  size_t n;
  bool negated;
} words;

/* A frame: thing and attribute, and the value that it has. */
typedef struct frame {
  char key[FACT_TEXT];
  const char *value[VALUE_WORDS];
  size_t n;
} frame;

static const char FILLERS[] = " a the that really very quite just actually basically truly indeed also so ";

static bool split(aii_mem *mem, const char *s, words *out, bool *failed)
{
  aii_buf wording;
  aii_buf_init(&wording, mem, 0);
  bool ok = aii_wording(s, strlen(s), AII_WORDING_FACT, &wording) && wording.len < sizeof out->text;
  *failed = *failed || wording.failed;
  out->n = 0;
  out->negated = false;
  if (ok) memcpy(out->text, aii_buf_cstr(&wording), wording.len + 1);
  aii_buf_free(&wording);
  for (char *p = out->text; ok && *p != '\0';) {
    if (out->n == MOST_WORDS) return false;
    out->w[out->n++] = p;
    p += strcspn(p, " ");
    if (*p == ' ') *p++ = '\0';
  }
  return ok && out->n > 1;
}

static bool is(const words *x, size_t at, const char *word)
{
  return at < x->n && strcmp(x->w[at], word) == 0;
}

static bool in(const words *x, size_t at, const char *list)
{
  return at < x->n && aii_in(list, x->w[at]);
}

static void drop(words *x, size_t at)
{
  memmove(&x->w[at], &x->w[at + 1], (x->n - at - 1) * sizeof x->w[0]);
  x->n--;
}

static void drop_fillers(words *x)
{
  for (size_t i = 0; i < x->n;) {
    if (in(x, i, FILLERS) && !in(x, i + 1, " few little lot bit ")) drop(x, i);
    else i++;
  }
}

static bool equal(const words *a, const words *b)
{
  if (a->n != b->n) return false;
  for (size_t i = 0; i < a->n; i++) {
    if (strcmp(a->w[i], b->w[i]) != 0) return false;
  }
  return true;
}

/* ---- negation ------------------------------------------------------------------------------------------------------- */

/* "does not like" and "likes", "no longer smokes" and "smokes" lose what makes them differ. */
static void undo_negation(words *x)
{
  for (size_t i = 0; i < x->n; i++) {
    size_t n = in(x, i, " not n't never ") ? 1 : is(x, i, "no") && is(x, i + 1, "longer") ? 2 : 0;
    if (n == 0) continue;
    x->negated = !x->negated;
    while (n-- > 0) drop(x, i);
    if (i > 0 && in(x, i - 1, " do does ")) drop(x, i - 1);
    return;
  }
}

/* The verb of the third person becomes that of the others; what it does to other words it does to both texts. */
static void cut_s(words *x)
{
  for (size_t i = 1; i < x->n; i++) {
    size_t n = strlen(x->w[i]);
    if (n > 3 && x->w[i][n - 1] == 's' && x->w[i][n - 2] != 's' && x->w[i][n - 2] != '\'') x->w[i][n - 1] = '\0';
    if (strcmp(x->w[i], "doe") == 0) x->w[i][2] = '\0';
  }
}

/* ---- attributes -------------------------------------------------------------------------------------------------------- */

static const char SEVERAL[] = " friend brother sister child son daughter cat dog pet hobby language skill colleague "
                              "interest cousin uncle aunt neighbor problem goal task idea book movie song project "
                              "friends brothers sisters children sons daughters cats dogs pets hobbies languages "
                              "skills colleagues interests goals tasks part thing reason one ";

static bool add_key(frame *f, const words *x, size_t from, size_t to)
{
  size_t at = strlen(f->key);
  for (size_t i = from; i < to; i++) {
    int n = snprintf(f->key + at, sizeof f->key - at, "%s ", x->w[i]);
    if (n < 0 || (size_t)n >= sizeof f->key - at) return false;
    at += (size_t)n;
  }
  return to > from && to - from <= KEY_WORDS;
}

static bool add_word(frame *f, const char *word)
{
  size_t at = strlen(f->key);
  int n = snprintf(f->key + at, sizeof f->key - at, "%s ", word);
  return n >= 0 && (size_t)n < sizeof f->key - at;
}

static bool set_value(frame *f, const words *x, size_t from, size_t to)
{
  if (to <= from || to - from > VALUE_WORDS) return false;
  for (size_t i = from; i < to; i++) f->value[i - from] = x->w[i];
  f->n = to - from;
  return true;
}

/* "X lives in V" and the like: the verb, and what stands behind it. */
static bool is_place(const words *x, size_t at, size_t *n)
{
  static const char *const verbs[][2] = {{" lives live ", " in "}, {" works work ", " at for "}};
  *n = 2;
  for (size_t i = 0; i < AII_COUNT(verbs); i++) {
    if (in(x, at, verbs[i][0]) && in(x, at + 1, verbs[i][1])) return true;
  }
  if (in(x, at, " is am are ") && is(x, at + 1, "married") && is(x, at + 2, "to")) *n = 3;
  return *n == 3;
}

static size_t find_be(const words *x)
{
  for (size_t i = 1; i + 1 < x->n; i++) {
    if (in(x, i, " is are am ")) return i;
  }
  return x->n;
}

/* "Ann's editor", "my editor", "editor of Ann": key "ann's editor". */
static bool take_owner(frame *f, const words *x, size_t from, size_t to)
{
  static const char owners[] = " my our your his her their its ";
  if (to - from < 2 || aii_in(SEVERAL, x->w[to - 1])) return false;
  size_t n = strlen(x->w[from]);
  bool possessive = aii_in(owners, x->w[from]);
  for (size_t i = from; i + 1 < to && !possessive; i++) {
    n = strlen(x->w[i]);
    possessive = n > 2 && strcmp(x->w[i] + n - 2, "'s") == 0;
  }
  if (possessive) return add_key(f, x, from, to);
  for (size_t i = from + 1; i + 1 < to; i++) {
    if (strcmp(x->w[i], "of") != 0 || aii_in(SEVERAL, x->w[i - 1])) continue;
    if (!add_key(f, x, i + 1, to)) return false;
    size_t at = strlen(f->key);
    if (at + 3 >= sizeof f->key) return false;
    memcpy(f->key + at - 1, "'s ", 4);
    return add_key(f, x, from, i);
  }
  return false;
}

static bool take_frame(frame *f, const words *x)
{
  size_t n, be = find_be(x);
  f->key[0] = '\0';
  for (size_t i = 1; i + 2 < x->n && i <= 3; i++) {
    if (!is_place(x, i, &n)) continue;
    if (!add_key(f, x, 0, i) || !set_value(f, x, i + n, x->n)) return false;
    return add_word(f, x->w[i]) && add_word(f, x->w[i + n - 1]);
  }
  if (be == x->n) return false;
  if (x->n - be == 4 && is(x, x->n - 1, "old") && in(x, x->n - 2, " years year months weeks "))
    return add_key(f, x, 0, be) && add_word(f, "age") && set_value(f, x, be + 1, x->n);
  if (in(x, be + 1, " on at in by not n't for with like likely ")) return false;
  if (take_owner(f, x, 0, be)) return set_value(f, x, be + 1, x->n);
  f->key[0] = '\0';
  return take_owner(f, x, be + 1, x->n) && set_value(f, x, 0, be);
}

static bool same_value(const frame *a, const frame *b)
{
  if (a->n != b->n) return false;
  for (size_t i = 0; i < a->n; i++) {
    if (strcmp(a->value[i], b->value[i]) != 0) return false;
  }
  return true;
}

/* One value that only says more ("Rome", "Rome in Italy") is no other. */
static bool says_more(const frame *a, const frame *b)
{
  const frame *few = a->n < b->n ? a : b, *many = a->n < b->n ? b : a;
  for (size_t i = 0; i < few->n; i++) {
    bool found = false;
    for (size_t k = 0; k < many->n; k++) found = found || strcmp(few->value[i], many->value[k]) == 0;
    if (!found) return false;
  }
  return true;
}

aii_relation aii_facts_relate(aii_mem *mem, const char *a, const char *b, bool *failed)
{
  words x, y;
  frame f, g;
  if (!split(mem, a, &x, failed) || !split(mem, b, &y, failed)) return AII_UNRELATED;
  drop_fillers(&x);
  drop_fillers(&y);
  if (x.n < 2 || y.n < 2) return AII_UNRELATED;
  if (equal(&x, &y)) return AII_SAYS_SAME;
  if (take_frame(&f, &x) && take_frame(&g, &y) && strcmp(f.key, g.key) == 0) {
    if (same_value(&f, &g)) return AII_SAYS_SAME;
    return says_more(&f, &g) ? AII_UNRELATED : AII_CONTRADICTS;
  }
  undo_negation(&x);
  undo_negation(&y);
  if (x.negated == y.negated) return AII_UNRELATED;
  cut_s(&x);
  cut_s(&y);
  return equal(&x, &y) ? AII_CONTRADICTS : AII_UNRELATED;
}
