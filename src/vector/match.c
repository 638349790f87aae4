/* match.c - evaluates a compiled filter on a row's payload.
 *
 * A field is found by its exact name first, then by its path: "a.b" goes into objects, "a[].b" into every element of
 * an array. A condition on an array holds if it holds for one element. Missing, null and empty are three things:
 *
 *                      missing  null   []     "x"
 *   eq, in, range, text   no     no     no     compared
 *   ne, nin, except       yes    yes    yes    compared
 *   is_null               no     yes    no     no
 *   is_empty              yes    yes    yes    no
 *
 * Numbers are compared as numbers, 1 equals 1.0; no other types are mixed. Recursion is bounded by AII_FILTER_DEPTH
 * for filters and by the length of a key for paths. Cannot fail. Any thread.
 */
#include <strings.h>

#include "src/vector/filter.h"

enum { KEY_DEPTH = 16 }; /* parts of a path that are followed */

static int compare_numbers(const json_t *a, const json_t *b)
{
  if (json_is_integer(a) && json_is_integer(b)) {
    json_int_t x = json_integer_value(a), y = json_integer_value(b);
    return (x > y) - (x < y);
  }
  /* long double holds every 64-bit integer and every double exactly where it has 64 bits of mantissa */
  long double x = json_is_integer(a) ? (long double)json_integer_value(a) : (long double)json_real_value(a);
  long double y = json_is_integer(b) ? (long double)json_integer_value(b) : (long double)json_real_value(b);
  return (x > y) - (x < y);
}

static bool equal(const json_t *a, const json_t *b)
{
  if (json_is_number(a) && json_is_number(b)) return compare_numbers(a, b) == 0;
  if (json_typeof(a) != json_typeof(b)) return false;
  if (!json_is_string(a)) return json_is_boolean(a); /* the same boolean type is the same value */
  return json_string_length(a) == json_string_length(b) &&
         memcmp(json_string_value(a), json_string_value(b), json_string_length(a)) == 0;
}

static bool in(const json_t *value, const json_t *list)
{
  for (size_t i = 0; i < json_array_size(list); i++) {
    if (equal(value, json_array_get(list, i))) return true;
  }
  return false;
}

/* ASCII letters compare without case. */
static bool holds_word(const json_t *text, const char *word, size_t n)
{
  const char *s = json_string_value(text), *found;
  size_t at = 0, found_n, s_n = json_string_length(text);
  while (aii_word_next(s, s_n, &at, &found, &found_n)) {
    if (found_n == n && strncasecmp(found, word, n) == 0) return true;
  }
  return false;
}

static bool holds_words(const json_t *text, const json_t *words, bool all)
{
  const char *word;
  size_t at = 0, n;
  bool some = false;
  if (!json_is_string(text)) return false;
  while (aii_word_next(json_string_value(words), json_string_length(words), &at, &word, &n)) {
    bool held = holds_word(text, word, n);
    if (held != all) return held;
    some = true;
  }
  return some && all;
}

/* A condition on one value that is there and is not an array. */
static bool test(const aii_filter_node *node, const json_t *value)
{
  bool both_numbers = json_is_number(value) && json_is_number(node->value);
  switch (node->op) {
    case AII_OP_EQ: return equal(value, node->value);
    case AII_OP_IN: return in(value, node->value);
    case AII_OP_TEXT_ALL: return holds_words(value, node->value, true);
    case AII_OP_TEXT_ANY: return holds_words(value, node->value, false);
    case AII_OP_LT: return both_numbers && compare_numbers(value, node->value) < 0;
    case AII_OP_LTE: return both_numbers && compare_numbers(value, node->value) <= 0;
    case AII_OP_GT: return both_numbers && compare_numbers(value, node->value) > 0;
    case AII_OP_GTE: return both_numbers && compare_numbers(value, node->value) >= 0;
    default: return false;
  }
}

static bool test_field(const aii_filter_node *node, const json_t *value)
{
  if (node->op == AII_OP_IS_NULL) return json_is_null(value);
  if (node->op == AII_OP_IS_EMPTY) {
    return value == NULL || json_is_null(value) || (json_is_array(value) && json_array_size(value) == 0);
  }
  if (value == NULL) return false;
  if (!json_is_array(value)) return test(node, value);
  for (size_t i = 0; i < json_array_size(value); i++) {
    if (test(node, json_array_get(value, i))) return true;
  }
  return false;
}

/* Follows the rest of a path; an array part ("a[]") tries each element. */
static bool test_path(const aii_filter_node *node, const json_t *value, const char *path, int depth)
{
  if (*path == '\0' || depth == KEY_DEPTH) return test_field(node, *path == '\0' ? value : NULL);
  size_t n = strcspn(path, ".");
  const char *rest = path + n + (path[n] == '.');
  bool each = n >= 2 && path[n - 2] == '[' && path[n - 1] == ']';
  const json_t *member = json_object_getn(value, path, each ? n - 2 : n);
  if (!each || !json_is_array(member)) return test_path(node, member, rest, depth + 1);
  for (size_t i = 0; i < json_array_size(member); i++) {
    if (test_path(node, json_array_get(member, i), rest, depth + 1)) return true;
  }
  return json_array_size(member) == 0 && test_field(node, NULL);
}

static bool test_key(const aii_filter_node *node, const json_t *payload)
{
  const json_t *value = json_object_get(payload, node->key);
  if (value != NULL) return test_field(node, value);
  return test_path(node, payload, node->key, 0);
}

static bool has_id(const json_t *ids, int64_t id)
{
  for (size_t i = 0; i < json_array_size(ids); i++) {
    if (json_integer_value(json_array_get(ids, i)) == id) return true;
  }
  return false;
}

static bool passes(const aii_filter *filter, uint32_t at, int64_t id, const json_t *payload)
{
  const aii_filter_node *node = &filter->nodes[at];
  if (node->op == AII_OP_HAS_ID) return has_id(node->value, id);
  if (node->key != NULL) return test_key(node, payload);
  int64_t n_passed = 0;
  for (uint32_t child = node->child; child != AII_NO_NODE; child = filter->nodes[child].next) {
    bool passed = passes(filter, child, id, payload);
    if (node->op == AII_OP_AND && !passed) return false;
    if (node->op == AII_OP_OR && passed) return true;
    if (node->op == AII_OP_NONE && passed) return false;
    n_passed += passed;
  }
  if (node->op == AII_OP_MIN_SHOULD) return n_passed >= node->count;
  return node->op != AII_OP_OR;
}

bool aii_filter_passes(const aii_filter *filter, int64_t id, const json_t *payload)
{
  return passes(filter, 0, id, payload);
}
