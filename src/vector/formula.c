/* formula.c - compiles formulas of Qdrant's form, so that rows are scored without looking at JSON again.
 *
 *   3.5                               a constant
 *   "$score", "$score[1]"             the score of the row in the first prefetch, in the second; 0 where it is not
 *   "price", "meta.price"             a number of the payload
 *   {"key": ..., "match": ...}        1 where the row passes the filter (in Qdrant's form), else 0
 *   {"sum": [..]}, {"mult": [..]}, {"neg": E}, {"abs": E}, {"sqrt": E}, {"exp": E}, {"ln": E}, {"log10": E}
 *   {"div": {"left": E, "right": E, "by_zero_default": 0}}, {"pow": {"base": E, "exponent": E}}
 *   {"geo_distance": {"origin": POINT, "to": "place"}}        metres
 *   {"datetime": "2026-01-31"}, {"datetime_key": "written"}   seconds since 1970
 *   {"lin_decay" | "exp_decay" | "gauss_decay": {"x": E, "target": E, "scale": 1, "midpoint": 0.5}}
 *
 * What is not understood is refused with its place; so is a default that nothing asks for. Depth and size are bounded.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/json/json.h"
#include "src/vector/formula.h"

typedef struct compiler {
  aii_formula *formula;
  const json_t *defaults;
  uint32_t n_scores, depth;
  aiinfra_error *err;
  char path[256];
  size_t path_n;
} compiler;

static aiinfra_status compile(compiler *c, const json_t *json, uint32_t parent);

/* ---- places and terms ------------------------------------------------------------------------------------------ */

static size_t enter(compiler *c, const char *name, size_t at)
{
  size_t old = c->path_n, room = sizeof c->path - old;
  int n = name != NULL ? snprintf(c->path + old, room, ".%s", name) : snprintf(c->path + old, room, "[%zu]", at);
  if (n > 0) c->path_n = AII_MIN(old + (size_t)n, sizeof c->path - 1);
  return old;
}

static void leave(compiler *c, size_t old)
{
  c->path_n = old;
  c->path[old] = '\0';
}

static aiinfra_status expected(const compiler *c, const char *want, const json_t *found)
{
  return aii_fail(c->err, AIINFRA_EINVAL, "%s: expected %s, found %s", c->path, want, aii_json_type(found));
}

/* Appends a term to the operands of its parent. */
static aiinfra_status add(compiler *c, uint32_t parent, aii_term term, uint32_t *out)
{
  aii_formula *f = c->formula;
  if (f->n == AII_FORMULA_TERMS) {
    return aii_fail(c->err, AIINFRA_EINVAL, "%s: the formula has more than %d terms", c->path, AII_FORMULA_TERMS);
  }
  if (!aii_grow(f->mem, &f->terms, &f->cap, f->n + 1, sizeof *f->terms)) {
    return aii_fail(c->err, AIINFRA_ENOMEM, "no memory for a formula");
  }
  uint32_t at = (uint32_t)f->n++;
  term.child = term.next = AII_NO_NODE;
  f->terms[at] = term;
  if (out != NULL) *out = at;
  if (parent == AII_NO_NODE) return AIINFRA_OK;
  uint32_t *link = &f->terms[parent].child;
  while (*link != AII_NO_NODE) link = &f->terms[*link].next;
  *link = at;
  return AIINFRA_OK;
}

static aiinfra_status compile_member(compiler *c, const json_t *obj, const char *name, uint32_t parent)
{
  size_t old = enter(c, name, 0);
  aiinfra_status rc = compile(c, json_object_get(obj, name), parent);
  if (rc == AIINFRA_OK) leave(c, old);
  return rc;
}

static aiinfra_status check_names(compiler *c, const json_t *obj, const char *const *names)
{
  const char *name;
  json_t *value;
  if (!json_is_object(obj)) return expected(c, "an object", obj);
  json_object_foreach((json_t *)(uintptr_t)obj, name, value)
  {
    size_t i = 0;
    (void)value;
    while (names[i] != NULL && strcmp(names[i], name) != 0) i++;
    if (names[i] == NULL) return aii_fail(c->err, AIINFRA_EINVAL, "%s: there is no member '%.64s'", c->path, name);
  }
  return AIINFRA_OK;
}

/* ---- what is read ---------------------------------------------------------------------------------------------- */

static aiinfra_status read_point(compiler *c, const json_t *json, aii_point *point)
{
  const json_t *lon = json_object_get(json, "lon"), *lat = json_object_get(json, "lat");
  if (!json_is_number(lon) || !json_is_number(lat) || json_object_size(json) != 2) {
    return expected(c, "an object with the numbers \"lon\" and \"lat\" alone", json);
  }
  *point = (aii_point){json_number_value(lon), json_number_value(lat)};
  if (aii_point_valid(*point)) return AIINFRA_OK;
  return aii_fail(c->err, AIINFRA_EINVAL, "%s: lon is not within 180 or lat not within 90 degrees", c->path);
}

static aiinfra_status read_time(compiler *c, const json_t *json, double *seconds)
{
  int64_t us;
  if (!json_is_string(json) || !aii_time_parse(json_string_value(json), json_string_length(json), &us)) {
    return expected(c, "a date such as \"2026-01-31T12:00:00Z\"", json);
  }
  *seconds = (double)us / 1e6;
  return AIINFRA_OK;
}

/* What a term stands for where its row has nothing. */
static aiinfra_status read_default(compiler *c, aii_term *term)
{
  const json_t *value = json_object_get(c->defaults, term->name);
  aii_point point;
  if (value == NULL) return AIINFRA_OK;
  term->has_default = true;
  term->value = json_number_value(value);
  if (term->op == AII_TERM_TIME && !json_is_number(value)) return read_time(c, value, &term->value);
  if (term->op == AII_TERM_PLACE && !json_is_number(value)) {
    aiinfra_status rc = read_point(c, value, &point);
    if (rc == AIINFRA_OK) term->value = aii_geo_distance(term->origin, point);
    return rc;
  }
  return json_is_number(value) ? AIINFRA_OK : expected(c, "a number as the default", value);
}

static aiinfra_status add_field(compiler *c, aii_term term, const json_t *key, uint32_t parent)
{
  if (!json_is_string(key)) return expected(c, "the key of a field", key);
  term.name = json_string_value(key);
  aiinfra_status rc = read_default(c, &term);
  if (rc == AIINFRA_OK) {
    rc = aii_filter_of_key(c->formula->mem, term.name, json_string_length(key), &term.filter, c->err);
    if (rc != AIINFRA_OK) return aii_wrap(c->err, rc, "%s", c->path);
    rc = add(c, parent, term, NULL);
  }
  if (rc != AIINFRA_OK) aii_filter_free(term.filter);
  c->formula->payloads = true;
  return rc;
}

static aiinfra_status add_score(compiler *c, const char *name, uint32_t parent)
{
  aii_term term = {.op = AII_TERM_SCORE, .name = name, .has_default = true};
  char *end = NULL;
  unsigned long at = 0;
  if (strcmp(name, "$score") != 0) {
    bool digit = strncmp(name, "$score[", 7) == 0 && name[7] >= '0' && name[7] <= '9';
    if (digit) at = strtoul(name + 7, &end, 10);
    if (end == NULL || strcmp(end, "]") != 0) {
      return aii_fail(c->err, AIINFRA_EINVAL, "%s: '%.40s' is neither $score nor $score[NUMBER]", c->path, name);
    }
  }
  if (at >= c->n_scores) {
    return aii_fail(c->err, AIINFRA_EINVAL, "%s: %.40s: there are %u prefetches", c->path, name, c->n_scores);
  }
  term.score = (uint32_t)at;
  aiinfra_status rc = read_default(c, &term);
  return rc == AIINFRA_OK ? add(c, parent, term, NULL) : rc;
}

static bool is_condition(const json_t *json)
{
  static const char *const names[] = {"key",    "must",    "should",   "must_not", "min_should",
                                      "has_id", "is_null", "is_empty", "nested"};
  for (size_t i = 0; i < AII_COUNT(names); i++) {
    if (json_object_get(json, names[i]) != NULL) return true;
  }
  return false;
}

static aiinfra_status add_condition(compiler *c, const json_t *json, uint32_t parent)
{
  aii_term term = {.op = AII_TERM_CONDITION};
  aii_buf text;
  aii_buf_init(&text, c->formula->mem, 0);
  aiinfra_status rc = aii_json_dump(json, &text) ? AIINFRA_OK : aii_fail(c->err, AIINFRA_ENOMEM, "no memory");
  if (rc == AIINFRA_OK) rc = aii_filter_compile(c->formula->mem, aii_buf_cstr(&text), &term.filter, c->err);
  if (rc == AIINFRA_EINVAL) (void)aii_wrap(c->err, rc, "%s", c->path);
  aii_buf_free(&text);
  if (rc == AIINFRA_OK) rc = add(c, parent, term, NULL);
  if (rc != AIINFRA_OK) aii_filter_free(term.filter);
  c->formula->payloads = true;
  return rc;
}

/* ---- operators ------------------------------------------------------------------------------------------------- */

static aiinfra_status compile_list(compiler *c, aii_term_op op, const json_t *list, uint32_t parent)
{
  uint32_t at;
  if (!json_is_array(list)) return expected(c, "an array of expressions", list);
  aiinfra_status rc = add(c, parent, (aii_term){.op = op}, &at);
  for (size_t i = 0; rc == AIINFRA_OK && i < json_array_size(list); i++) {
    size_t old = enter(c, NULL, i);
    rc = compile(c, json_array_get(list, i), at);
    if (rc == AIINFRA_OK) leave(c, old);
  }
  return rc;
}

static aiinfra_status compile_div(compiler *c, aii_term_op op, const json_t *json, uint32_t parent)
{
  static const char *const names[] = {"left", "right", "by_zero_default", NULL};
  const json_t *by_zero = json_object_get(json, "by_zero_default");
  aii_term term = {.op = op, .has_default = by_zero != NULL, .value = json_number_value(by_zero)};
  uint32_t at = 0;
  aiinfra_status rc = check_names(c, json, names);
  if (rc == AIINFRA_OK && by_zero != NULL && !json_is_number(by_zero)) return expected(c, "a number", by_zero);
  if (rc == AIINFRA_OK) rc = add(c, parent, term, &at);
  if (rc == AIINFRA_OK) rc = compile_member(c, json, "left", at);
  return rc == AIINFRA_OK ? compile_member(c, json, "right", at) : rc;
}

static aiinfra_status compile_pow(compiler *c, aii_term_op op, const json_t *json, uint32_t parent)
{
  static const char *const names[] = {"base", "exponent", NULL};
  uint32_t at = 0;
  aiinfra_status rc = check_names(c, json, names);
  if (rc == AIINFRA_OK) rc = add(c, parent, (aii_term){.op = op}, &at);
  if (rc == AIINFRA_OK) rc = compile_member(c, json, "base", at);
  return rc == AIINFRA_OK ? compile_member(c, json, "exponent", at) : rc;
}

static aiinfra_status compile_decay(compiler *c, aii_term_op op, const json_t *json, uint32_t parent)
{
  static const char *const names[] = {"x", "target", "scale", "midpoint", NULL};
  aii_term term = {.op = op, .scale = 1, .midpoint = 0.5};
  uint32_t at = 0;
  aiinfra_status rc = check_names(c, json, names);
  if (rc == AIINFRA_OK) rc = aii_json_get_num(json, c->path, "scale", false, &term.scale, c->err);
  if (rc == AIINFRA_OK) rc = aii_json_get_num(json, c->path, "midpoint", false, &term.midpoint, c->err);
  if (rc != AIINFRA_OK) return rc;
  if (!(term.scale > 0) || !(term.midpoint > 0 && term.midpoint < 1)) {
    return aii_fail(c->err, AIINFRA_EINVAL, "%s: scale is not above 0, or midpoint not between 0 and 1", c->path);
  }
  rc = add(c, parent, term, &at);
  if (rc == AIINFRA_OK) rc = compile_member(c, json, "x", at);
  if (rc != AIINFRA_OK) return rc;
  if (json_object_get(json, "target") != NULL) return compile_member(c, json, "target", at);
  return add(c, at, (aii_term){.op = AII_TERM_CONSTANT}, NULL);
}

static aiinfra_status compile_place(compiler *c, aii_term_op op, const json_t *json, uint32_t parent)
{
  static const char *const names[] = {"origin", "to", NULL};
  aii_term term = {.op = op};
  aiinfra_status rc = check_names(c, json, names);
  size_t old = enter(c, "origin", 0);
  if (rc == AIINFRA_OK) rc = read_point(c, json_object_get(json, "origin"), &term.origin);
  if (rc != AIINFRA_OK) return rc;
  leave(c, old);
  return add_field(c, term, json_object_get(json, "to"), parent);
}

static aiinfra_status compile_time_key(compiler *c, aii_term_op op, const json_t *json, uint32_t parent)
{
  return add_field(c, (aii_term){.op = op}, json, parent);
}

static aiinfra_status compile_time(compiler *c, aii_term_op op, const json_t *json, uint32_t parent)
{
  aii_term term = {.op = op};
  aiinfra_status rc = read_time(c, json, &term.value);
  return rc == AIINFRA_OK ? add(c, parent, term, NULL) : rc;
}

static aiinfra_status compile_one(compiler *c, aii_term_op op, const json_t *json, uint32_t parent)
{
  uint32_t at = 0;
  aiinfra_status rc = add(c, parent, (aii_term){.op = op}, &at);
  return rc == AIINFRA_OK ? compile(c, json, at) : rc;
}

typedef aiinfra_status (*compile_fn)(compiler *c, aii_term_op op, const json_t *json, uint32_t parent);

static const struct {
  const char *name;
  compile_fn compile;
  aii_term_op op;
} OPERATORS[] = {
    {"sum", compile_list, AII_TERM_SUM},
    {"mult", compile_list, AII_TERM_MULT},
    {"neg", compile_one, AII_TERM_NEG},
    {"abs", compile_one, AII_TERM_ABS},
    {"sqrt", compile_one, AII_TERM_SQRT},
    {"exp", compile_one, AII_TERM_EXP},
    {"ln", compile_one, AII_TERM_LN},
    {"log10", compile_one, AII_TERM_LOG10},
    {"pow", compile_pow, AII_TERM_POW},
    {"div", compile_div, AII_TERM_DIV},
    {"geo_distance", compile_place, AII_TERM_PLACE},
    {"datetime", compile_time, AII_TERM_CONSTANT},
    {"datetime_key", compile_time_key, AII_TERM_TIME},
    {"lin_decay", compile_decay, AII_TERM_LINEAR},
    {"exp_decay", compile_decay, AII_TERM_EXPONENTIAL},
    {"gauss_decay", compile_decay, AII_TERM_GAUSS},
};

const char *aii_term_name(const aii_term *term)
{
  if (term->name != NULL) return term->name;
  if (term->op == AII_TERM_CONSTANT) return "constant";
  for (size_t i = 0; i < AII_COUNT(OPERATORS); i++) {
    if (OPERATORS[i].op == term->op) return OPERATORS[i].name;
  }
  return "condition";
}

static aiinfra_status compile_operator(compiler *c, const json_t *json, uint32_t parent)
{
  void *only = json_object_iter((json_t *)(uintptr_t)json);
  const char *name = only != NULL ? json_object_iter_key(only) : "";
  size_t i = 0;
  while (i < AII_COUNT(OPERATORS) && strcmp(OPERATORS[i].name, name) != 0) i++;
  if (i == AII_COUNT(OPERATORS)) {
    return aii_fail(c->err, AIINFRA_EINVAL, "%s: there is no operator '%.64s'", c->path, name);
  }
  if (json_object_size(json) != 1) return expected(c, "an operator alone, or a condition", json);
  size_t old = enter(c, name, 0);
  aiinfra_status rc = OPERATORS[i].compile(c, OPERATORS[i].op, json_object_iter_value(only), parent);
  if (rc == AIINFRA_OK) leave(c, old);
  return rc;
}

/* Its depth is bounded here. */
static aiinfra_status compile(compiler *c, const json_t *json, uint32_t parent)
{
  aii_term constant = {.op = AII_TERM_CONSTANT, .value = json_number_value(json)};
  aiinfra_status rc;
  if (c->depth == AII_FORMULA_DEPTH) {
    return aii_fail(c->err, AIINFRA_EINVAL, "%s: the formula is deeper than %d", c->path, AII_FORMULA_DEPTH);
  }
  c->depth++;
  if (json_is_number(json)) rc = add(c, parent, constant, NULL);
  else if (json_is_string(json) && json_string_value(json)[0] == '$')
    rc = add_score(c, json_string_value(json), parent);
  else if (json_is_string(json)) rc = add_field(c, (aii_term){.op = AII_TERM_FIELD}, json, parent);
  else if (!json_is_object(json)) rc = expected(c, "a number, the key of a field or an object", json);
  else if (is_condition(json)) rc = add_condition(c, json, parent);
  else rc = compile_operator(c, json, parent);
  c->depth--;
  return rc;
}

/* ---- the whole ------------------------------------------------------------------------------------------------- */

static aiinfra_status check_defaults(const compiler *c)
{
  const char *name;
  json_t *value;
  if (c->defaults != NULL && !json_is_object(c->defaults)) {
    return aii_fail(c->err, AIINFRA_EINVAL, "%s: expected an object as the defaults, found %s", c->path,
                    aii_json_type(c->defaults));
  }
  json_object_foreach((json_t *)(uintptr_t)c->defaults, name, value)
  {
    bool used = false;
    (void)value;
    for (size_t i = 0; !used && i < c->formula->n; i++) {
      const char *term = c->formula->terms[i].name;
      used = term != NULL && strcmp(term, name) == 0;
    }
    if (!used) return aii_fail(c->err, AIINFRA_EINVAL, "%s: nothing needs the default of '%.64s'", c->path, name);
  }
  return AIINFRA_OK;
}

aiinfra_status aii_formula_compile(aii_mem *mem, const json_t *query, const char *path, uint32_t n_scores,
                                   aii_formula **out, aiinfra_error *err)
{
  *out = NULL;
  aii_formula *f = aii_new(mem, sizeof *f);
  if (f == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a formula");
  f->mem = mem;
  compiler c = {.formula = f, .defaults = json_object_get(query, "defaults"), .n_scores = n_scores, .err = err};
  int n = snprintf(c.path, sizeof c.path, "%.120s.formula", path);
  c.path_n = n > 0 ? (size_t)n : 0;
  aiinfra_status rc = compile(&c, json_object_get(query, "formula"), AII_NO_NODE);
  if (rc == AIINFRA_OK) rc = check_defaults(&c);
  if (rc == AIINFRA_OK) {
    f->values = aii_new_array(mem, f->n, sizeof *f->values);
    if (f->values == NULL) rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for a formula");
  }
  if (rc == AIINFRA_OK) *out = f;
  else aii_formula_free(f);
  return rc;
}

void aii_formula_free(aii_formula *f)
{
  if (f == NULL) return;
  aii_mem *mem = f->mem;
  for (size_t i = 0; i < f->n; i++) aii_filter_free(f->terms[i].filter);
  aii_del(mem, f->values, f->n * sizeof *f->values);
  aii_del(mem, f->terms, f->cap * sizeof *f->terms);
  aii_del(mem, f, sizeof *f);
}
