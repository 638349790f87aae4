/* match.c - evaluates a compiled filter on a row's document.
 *
 * A field is found by its exact name first, then by its path: "a.b" goes into objects, "a[].b" into every element of
 * an array, "a[0].b" into one; a path that meets something else ends there and finds nothing. A condition holds if it
 * holds for one of the values found. docs/vector.md has the table of what holds for missing, null and empty
 * values and for arrays; the tests execute its rows.
 *
 * Numbers are compared as numbers, 1 equals 1.0; no other types are mixed. Recursion is bounded by AII_FILTER_DEPTH
 * for filters and by AII_PATH_STEPS for paths, time by a number of steps: a caller who finds them used up must not
 * believe the answer. Cannot fail. Any thread.
 */
#include <utf8proc.h>

#include "src/vector/filter.h"

typedef struct match {
  const aii_filter *filter;
  const aii_cell *doc;
  int64_t id;
  uint64_t *steps;
  aii_values_fn see;
  void *ctx;
} match;

static bool passes(match *m, uint32_t at, const aii_cell *object);

static bool step(match *m)
{
  if (*m->steps == 0) return false;
  --*m->steps;
  return true;
}

/* ---- scalars --------------------------------------------------------------------------------------------------- */

static aii_operand scalar_of(const match *m, const aii_cell *cell)
{
  aii_operand o = {.type = (aii_cell_type)cell->type};
  if (cell->type == AII_CELL_INT) o.i = cell->u.i;
  if (cell->type == AII_CELL_REAL) o.d = cell->u.d;
  if (aii_cell_is_string(cell)) {
    o.type = AII_CELL_STRING;
    o.s = aii_cell_string(m->doc, cell);
    o.n = cell->u.s.n;
  }
  return o;
}

/* Whether the cell equals one of the node's sorted operands. */
static bool is_in(match *m, const aii_filter_node *node, const aii_cell *cell)
{
  const aii_operand *operands = aii_operands_of(m->filter, node);
  aii_operand value = scalar_of(m, cell);
  uint32_t from = 0, to = node->n;
  while (from < to && step(m)) {
    uint32_t middle = from + (to - from) / 2;
    int order = aii_operand_compare(&value, &operands[middle]);
    if (order == 0) return true;
    if (order < 0) to = middle;
    else from = middle + 1;
  }
  return false;
}

static bool is_number(aii_cell_type type)
{
  return type == AII_CELL_INT || type == AII_CELL_REAL;
}

/* Numbers, or the microseconds of dates. */
static int compare_numbers(const aii_operand *a, const aii_operand *b)
{
  bool a_real = a->type == AII_CELL_REAL, b_real = b->type == AII_CELL_REAL;
  if (!a_real && !b_real) return (a->i > b->i) - (a->i < b->i);
  /* long double holds every 64-bit integer and every double exactly where it has 64 bits of mantissa */
  long double x = a_real ? (long double)a->d : (long double)a->i;
  long double y = b_real ? (long double)b->d : (long double)b->i;
  return (x > y) - (x < y);
}

static bool within(const match *m, const aii_filter_node *node, const aii_operand *value)
{
  for (uint32_t i = 0; i < node->n; i++) {
    const aii_operand *bound = &m->filter->operands[node->first + i];
    int order = compare_numbers(value, bound);
    bool holds = bound->bound == AII_BOUND_LT    ? order < 0
                 : bound->bound == AII_BOUND_LTE ? order <= 0
                 : bound->bound == AII_BOUND_GT  ? order > 0
                                                 : order >= 0;
    if (!holds) return false;
  }
  return true;
}

/* Dates are compared as their microseconds, with dates alone. */
static bool in_range(const match *m, const aii_filter_node *node, const aii_cell *cell)
{
  bool times = m->filter->operands[node->first].type == AII_CELL_TIME;
  aii_operand value = {.type = (aii_cell_type)cell->type};
  if (times != (cell->type == AII_CELL_TIME) || (!times && !is_number(value.type))) return false;
  if (times) value.i = aii_cell_time(m->doc, cell);
  else if (value.type == AII_CELL_INT) value.i = cell->u.i;
  else value.d = cell->u.d;
  return within(m, node, &value);
}

static bool counts(const match *m, const aii_filter_node *node, const aii_cell *cell)
{
  aii_operand n = {.type = AII_CELL_INT, .i = 1};
  if (cell == NULL || cell->type == AII_CELL_NULL) n.i = 0;
  else if (cell->type == AII_CELL_ARRAY) n.i = cell->u.n;
  return within(m, node, &n);
}

bool aii_cell_point(const aii_filter *filter, const aii_cell *cell, aii_point *point, uint64_t *steps)
{
  const aii_cell *lon = aii_cell_member(cell, filter->lon, steps);
  const aii_cell *lat = aii_cell_member(cell, filter->lat, steps);
  if (lon == NULL || lat == NULL || !is_number((aii_cell_type)lon->type) || !is_number((aii_cell_type)lat->type)) {
    return false;
  }
  point->lon = lon->type == AII_CELL_INT ? (double)lon->u.i : lon->u.d;
  point->lat = lat->type == AII_CELL_INT ? (double)lat->u.i : lat->u.d;
  return true;
}

static bool is_place(match *m, const aii_filter_node *node, const aii_cell *cell)
{
  aii_point point;
  return aii_cell_point(m->filter, cell, &point, m->steps) &&
         aii_shape_holds(m->filter, &m->filter->shapes[node->first], point, m->steps);
}

/* ---- text ------------------------------------------------------------------------------------------------------ */

uint32_t aii_lower_next(const char *s, size_t n, size_t *at)
{
  uint32_t cp = (unsigned char)s[*at];
  int len = aii_utf8_decode(s + *at, n - *at, &cp);
  *at += len > 0 ? (size_t)len : 1;
  if (cp < 0x80) return cp >= 'A' && cp <= 'Z' ? cp + 32 : cp;
  return len > 0 ? (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp) : cp;
}

/* Case is no difference. The operand is in lower case. */
static bool same_word(const aii_operand *want, const char *word, size_t n)
{
  size_t i = 0, j = 0;
  while (i < want->n && j < n) {
    uint32_t cp;
    i += (size_t)AII_MAX(aii_utf8_decode(want->s + i, want->n - i, &cp), 1);
    if (cp != aii_lower_next(word, n, &j)) return false;
  }
  return i == want->n && j == n;
}

/* A mask of the node's words that the string holds; AII_TEXT_WORDS is its width. */
static uint64_t words_held(match *m, const aii_filter_node *node, const char *s, size_t s_n)
{
  const aii_operand *want = aii_operands_of(m->filter, node);
  const char *word;
  size_t at = 0, n;
  uint64_t held = 0;
  while (aii_word_next(s, s_n, &at, &word, &n) && step(m)) {
    for (uint32_t i = 0; i < node->n; i++) {
      if ((held >> i & 1) == 0 && same_word(&want[i], word, n)) held |= (uint64_t)1 << i;
    }
  }
  return held;
}

/* Bit i of `open` says that the last i + 1 words read are the phrase's first i + 1. */
static bool holds_phrase(match *m, const aii_filter_node *node, const char *s, size_t s_n)
{
  const aii_operand *want = aii_operands_of(m->filter, node);
  const char *word;
  size_t at = 0, n;
  uint64_t open = 0;
  while (aii_word_next(s, s_n, &at, &word, &n) && step(m)) {
    uint64_t fits = 0, maybe = open << 1 | 1;
    for (uint32_t i = 0; i < node->n; i++) {
      if ((maybe >> i & 1) != 0 && same_word(&want[i], word, n)) fits |= (uint64_t)1 << i;
    }
    open = fits;
    if ((open >> (node->n - 1) & 1) != 0) return true;
  }
  return false;
}

static bool holds_text(match *m, const aii_filter_node *node, const aii_cell *cell)
{
  if (!aii_cell_is_string(cell) || node->n == 0) return false;
  const char *s = aii_cell_string(m->doc, cell);
  size_t n = cell->u.s.n;
  *m->steps -= AII_MIN(*m->steps, (uint64_t)n / 8);
  if (node->op == AII_OP_PREFIX) {
    const aii_operand *prefix = &m->filter->operands[node->first];
    return n >= prefix->n && memcmp(s, prefix->s, prefix->n) == 0;
  }
  if (node->op == AII_OP_PHRASE) return holds_phrase(m, node, s, n);
  uint64_t held = words_held(m, node, s, n), all = UINT64_MAX >> (AII_TEXT_WORDS - node->n);
  return node->op == AII_OP_TEXT_ALL ? held == all : held != 0;
}

/* ---- fields ---------------------------------------------------------------------------------------------------- */

/* A condition on one value that is there and is not an array. */
static bool test(match *m, const aii_filter_node *node, const aii_cell *cell)
{
  switch (node->op) {
    case AII_OP_IN: return is_in(m, node, cell);
    case AII_OP_EXCEPT: return cell->type != AII_CELL_NULL && !is_in(m, node, cell);
    case AII_OP_RANGE: return in_range(m, node, cell);
    case AII_OP_GEO: return is_place(m, node, cell);
    case AII_OP_SEE: return !m->see(m->ctx, m->doc, cell);
    default: return holds_text(m, node, cell);
  }
}

static bool passes_children(match *m, const aii_filter_node *node, const aii_cell *object)
{
  if (object->type != AII_CELL_OBJECT) return false;
  for (uint32_t child = node->child; child != AII_NO_NODE; child = m->filter->nodes[child].next) {
    if (!passes(m, child, object)) return false;
  }
  return true;
}

static bool any_element(match *m, const aii_filter_node *node, const aii_cell *array)
{
  for
    AII_EACH_CELL(element, array)
    {
      bool holds;
      if (!step(m)) return false;
      if (node->op == AII_OP_IS_NULL) holds = element->type == AII_CELL_NULL;
      else if (node->op == AII_OP_CONTAINS) holds = is_in(m, node, element);
      else if (node->op == AII_OP_NESTED) holds = passes_children(m, node, element);
      else if (element->type == AII_CELL_ARRAY) holds = false; /* an array in an array is no value */
      else holds = test(m, node, element);
      if (holds) return true;
    }
  return false;
}

/* What a path led to. each: elements were asked for, so that an element which is an array counts as one value. */
static bool test_value(match *m, const aii_filter_node *node, const aii_cell *cell, bool each)
{
  bool array = cell->type == AII_CELL_ARRAY;
  switch (node->op) {
    case AII_OP_COUNT: return counts(m, node, cell);
    case AII_OP_NOT_EMPTY: return cell->type != AII_CELL_NULL && (!array || cell->u.n > 0);
    case AII_OP_IS_NULL: return cell->type == AII_CELL_NULL || (array && any_element(m, node, cell));
    case AII_OP_NESTED: return each ? passes_children(m, node, cell) : array && any_element(m, node, cell);
    case AII_OP_CONTAINS: return array && any_element(m, node, cell);
    default: return array ? any_element(m, node, cell) : test(m, node, cell);
  }
}

/* Follows the rest of a path. *found: it led to a value. */
static bool test_path(match *m, const aii_filter_node *node, const aii_cell *cell, const aii_step *steps, uint32_t n,
                      bool *found)
{
  if (n == 0) {
    *found = true;
    return test_value(m, node, cell, m->filter->paths[node->path].ends_each);
  }
  if (steps->kind == AII_STEP_MEMBER) {
    const aii_cell *member = aii_cell_member(cell, steps->key, m->steps);
    return member != NULL && test_path(m, node, member, steps + 1, n - 1, found);
  }
  if (cell->type != AII_CELL_ARRAY) return false;
  uint64_t at = 0;
  for
    AII_EACH_CELL(element, cell)
    {
      bool wanted = steps->kind == AII_STEP_EACH || at++ == steps->at;
      if (!step(m)) return false;
      if (wanted && test_path(m, node, element, steps + 1, n - 1, found)) return true;
    }
  return false;
}

static bool test_field(match *m, const aii_filter_node *node, const aii_cell *object)
{
  const aii_path *path = &m->filter->paths[node->path];
  const aii_step *steps = m->filter->steps + path->first;
  bool found = false;
  if (path->n > 1 || steps->n != path->whole_n) {
    const aii_cell *whole = aii_cell_member(object, path->whole_key, m->steps);
    if (whole != NULL) return test_value(m, node, whole, false);
  }
  if (test_path(m, node, object, steps, path->n, &found)) return true;
  return node->op == AII_OP_COUNT && !found && within(m, node, &(aii_operand){.type = AII_CELL_INT});
}

/* ---- clauses --------------------------------------------------------------------------------------------------- */

static bool has_id(match *m, const aii_filter_node *node)
{
  aii_cell id = {.key = AII_NO_KEY, .type = AII_CELL_INT, .span = 1, .u = {.i = m->id}};
  return is_in(m, node, &id);
}

static bool passes(match *m, uint32_t at, const aii_cell *object)
{
  const aii_filter_node *node = &m->filter->nodes[at];
  if (!step(m)) return false;
  if (node->op == AII_OP_HAS_ID) return has_id(m, node);
  if (node->path != AII_NO_NODE) return test_field(m, node, object);
  int64_t n_passed = 0;
  for (uint32_t child = node->child; child != AII_NO_NODE; child = m->filter->nodes[child].next) {
    bool passed = passes(m, child, object);
    if (node->op == AII_OP_AND && !passed) return false;
    if (node->op == AII_OP_OR && passed) return true;
    if (node->op == AII_OP_NONE && passed) return false;
    n_passed += passed;
  }
  if (node->op == AII_OP_MIN_SHOULD) return n_passed >= node->count;
  return node->op != AII_OP_OR;
}

bool aii_filter_passes(const aii_filter *filter, int64_t id, const aii_cell *doc, uint64_t *steps)
{
  match m = {.filter = filter, .doc = doc, .id = id, .steps = steps};
  return passes(&m, 0, doc);
}

bool aii_filter_values(const aii_filter *filter, const aii_cell *doc, aii_values_fn see, void *ctx)
{
  uint64_t steps = UINT64_MAX;
  match m = {.filter = filter, .doc = doc, .steps = &steps, .see = see, .ctx = ctx};
  aii_filter_node all = {.op = AII_OP_SEE, .path = 0};
  return !test_field(&m, &all, doc);
}

/* ---- binding --------------------------------------------------------------------------------------------------- */

bool aii_filter_bind(aii_filter *filter, aii_keys *keys, bool add)
{
  bool ok = true;
  for (size_t i = 0; ok && i < filter->n_paths; i++) {
    aii_path *path = &filter->paths[i];
    if (add) ok = aii_keys_add(keys, path->whole, path->whole_n, &path->whole_key);
    else path->whole_key = aii_keys_find(keys, path->whole, path->whole_n);
  }
  for (size_t i = 0; ok && i < filter->n_steps; i++) {
    aii_step *s = &filter->steps[i];
    if (s->kind != AII_STEP_MEMBER) continue;
    if (add) ok = aii_keys_add(keys, s->name, s->n, &s->key);
    else s->key = aii_keys_find(keys, s->name, s->n);
  }
  if (add) return ok && aii_keys_add(keys, "lat", 3, &filter->lat) && aii_keys_add(keys, "lon", 3, &filter->lon);
  filter->lat = aii_keys_find(keys, "lat", 3);
  filter->lon = aii_keys_find(keys, "lon", 3);
  return true;
}

bool aii_filter_test(aii_filter *filter, int64_t id, const json_t *payload, bool *out)
{
  aii_keys keys;
  aii_buf doc;
  uint64_t steps = UINT64_MAX;
  aii_keys_init(&keys, filter->mem);
  aii_buf_init(&doc, filter->mem, 0);
  bool ok = aii_filter_bind(filter, &keys, true) && aii_doc_pack(&keys, false, payload, &doc);
  if (ok) *out = aii_filter_passes(filter, id, (const aii_cell *)(void *)doc.data, &steps);
  aii_buf_free(&doc);
  aii_keys_free(&keys);
  return ok;
}
