/* prompt.c - the words around the user's input: the system message, citations, and what counts as a statement.
 *
 * The system message, blocks only where there is something to show:
 *
 *   {instructions}
 *
 *   Passages:
 *   [1] (docs/server.md) text of the passage on one line; of a path the last two parts
 *
 *   Memory:
 *   - My cat is called Miso.
 *
 * Statements. What the user says is kept as a fact, before the model answers, when it
 *   - is one line of at most 500 bytes, is no question and does not end in ':',
 *   - and either begins with "remember", "please remember", "note that" or "don't forget" (that lead is dropped), or
 *     speaks of the user: "My ...", "I ...", "I'm ...", "The user ..." - but not of what they want or wonder now.
 * The rule is deliberately this simple: it can be foreseen. A model that calls the tool `remember` can keep the rest.
 */
#include "src/agent/agent.h"

#define MAX_STATEMENT_BYTES 500

/* ---- the system message ------------------------------------------------------------------------------------------ */

static const char *text_of(const json_t *item, const char *key)
{
  const char *text = json_string_value(json_object_get(item, key));
  return text != NULL ? text : "";
}

static void add_memory(aii_buf *out, const json_t *facts, const json_t *blocks)
{
  size_t i;
  const char *label;
  json_t *value;
  if (json_array_size(facts) + json_object_size(blocks) == 0) return;
  aii_buf_str(out, "\n\nMemory:");
  json_object_foreach((json_t *)blocks, label, value)
  {
    aii_buf_str(out, "\n- ");
    aii_buf_line(out, label);
    aii_buf_str(out, ": ");
    aii_buf_line(out, json_is_string(value) ? json_string_value(value) : "");
  }
  json_array_foreach(facts, i, value)
  {
    aii_buf_str(out, "\n- ");
    aii_buf_line(out, text_of(value, "text"));
  }
}

/* Long paths cost tokens and say little: the folder and the file are enough. */
static const char *short_path(const char *path)
{
  const char *end = path + strlen(path);
  int slashes = 0;
  while (end > path) {
    if (end[-1] == '/' && ++slashes == 2) break;
    end--;
  }
  return end;
}

void aii_prompt_system(aii_buf *out, const char *instructions, const json_t *passages, const json_t *facts,
                       const json_t *blocks)
{
  size_t i;
  json_t *passage;
  aii_buf_str(out, instructions);
  if (json_array_size(passages) > 0) aii_buf_str(out, "\n\nPassages:");
  json_array_foreach(passages, i, passage)
  {
    aii_buf_fmt(out, "\n[%zu] (%s) ", i + 1, short_path(text_of(passage, "source")));
    aii_buf_line(out, text_of(passage, "text"));
  }
  add_memory(out, facts, blocks);
}

/* ---- citations --------------------------------------------------------------------------------------------------- */

static bool is_cited(const json_t *citations, const json_t *n)
{
  size_t i;
  json_t *c;
  json_array_foreach(citations, i, c)
  {
    if (json_equal(json_object_get(c, "n"), n)) return true;
  }
  return false;
}

/* false: memory ran out */
static bool cite(json_t *citations, const json_t *passage)
{
  json_t *n = json_object_get(passage, "n");
  if (is_cited(citations, n)) return true;
  return json_array_append_new(citations,
                               json_pack("{sO, sO, sO, sO}", "n", n, "source", json_object_get(passage, "source"),
                                         "first_byte", json_object_get(passage, "first_byte"), "n_bytes",
                                         json_object_get(passage, "n_bytes"))) == 0;
}

json_t *aii_prompt_citations(const char *answer, const json_t *passages)
{
  json_t *citations = json_array();
  for (const char *p = answer; citations != NULL && (p = strchr(p, '[')) != NULL;) {
    size_t n = 0;
    const char *digits = ++p;
    while (*p >= '0' && *p <= '9' && p - digits < 6) n = n * 10 + (size_t)(*p++ - '0');
    if (p == digits || *p != ']' || n == 0 || n > json_array_size(passages)) continue;
    if (!cite(citations, json_array_get(passages, n - 1))) {
      json_decref(citations);
      return NULL;
    }
  }
  return citations;
}

/* ---- statements ---------------------------------------------------------------------------------------------------- */

static char lower(char c)
{
  return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* The rest behind `lead` when s begins with it, upper or lower case, and a word ends there; else NULL. */
static const char *after(const char *s, const char *lead)
{
  for (; *lead != '\0'; lead++, s++) {
    if (lower(*s) != *lead) return NULL;
  }
  return (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') ? NULL : s;
}

static const char *skip(const char *s, const char *set)
{
  return s + strspn(s, set);
}

static const char *after_any(const char *s, const char *const *leads)
{
  for (; *leads != NULL; leads++) {
    const char *rest = after(s, *leads);
    if (rest != NULL) return rest;
  }
  return NULL;
}

static bool speaks_of_user(const char *s)
{
  static const char *const subjects[] = {"my", "i", "i'm", "i've", "the user", NULL};
  static const char *const wishes[] = {"want",
                                       "need",
                                       "would",
                                       "wonder",
                                       "wish",
                                       "'d",
                                       "'ll",
                                       "will",
                                       "have a question",
                                       "am asking",
                                       "do not understand",
                                       "don't understand",
                                       "mean",
                                       NULL};
  static const char *const my[] = {"question", "next question", "apologies", NULL};
  const char *rest = after_any(s, subjects);
  if (rest == NULL || rest[0] == '\0') return false;
  rest = skip(rest, " ");
  if (after(s, "my") != NULL) return after_any(rest, my) == NULL;
  return after_any(rest, wishes) == NULL;
}

bool aii_prompt_statement(const char *input, aii_buf *out)
{
  static const char *const leads[] = {
      "please remember", "remember", "please note that", "note that", "please don't forget", "don't forget", NULL};
  const char *s = skip(input, " \t\r\n"), *rest;
  size_t n = strlen(s);
  while (n > 0 && strchr(" \t\r\n", s[n - 1]) != NULL) n--;
  if (n == 0 || n > MAX_STATEMENT_BYTES || memchr(s, '\n', n) != NULL || strchr("?:", s[n - 1]) != NULL) return false;
  rest = after_any(s, leads);
  if (rest != NULL) {
    rest = skip(rest, " :,");
    if (after(rest, "to") != NULL) return false; /* an order for later, not a fact */
    if (after(rest, "that") != NULL) rest = skip(rest + 4, " :,");
  } else if (speaks_of_user(s)) {
    rest = s;
  }
  if (rest == NULL || rest >= s + n) return false;
  aii_buf_char(out, rest[0] >= 'a' && rest[0] <= 'z' ? (char)(rest[0] - 'a' + 'A') : rest[0]);
  aii_buf_add(out, rest + 1, n - 1 - (size_t)(rest - s));
  return true;
}
