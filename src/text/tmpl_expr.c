/* tmpl_expr.c - the expressions of a template: jinja2's precedence, from "a if b else c" down to "a.b[c](d) | e".
 *
 * Every function returns a node in the arena, or NULL with the parser's status set. Nesting is bounded by
 * aii_tp_finish and the parser's counter, so that evaluation, which recurses by the tree, is bounded too.
 */
#include "src/text/tmpl_impl.h"

static aii_tnode *unary(aii_tparser *p, bool with_filters);

static aii_tnode *binary(aii_tparser *p, aii_tkind kind, aii_top op, aii_tnode *a, aii_tnode *b)
{
  if (a == NULL || b == NULL) return NULL;
  aii_tnode *node = aii_tp_node(p, kind);
  if (node == NULL) return NULL;
  node->op = (uint8_t)op;
  node->a = a;
  node->b = b;
  return aii_tp_finish(p, node);
}

static aii_tnode *unary_node(aii_tparser *p, aii_tkind kind, aii_tnode *a)
{
  aii_tnode *node = a != NULL ? aii_tp_node(p, kind) : NULL;
  if (node == NULL) return NULL;
  node->a = a;
  return aii_tp_finish(p, node);
}

/* ---- arguments and what stands behind a primary ------------------------------------------------------------------ */

aii_tnode *aii_tp_args(aii_tparser *p, aii_tnode *node)
{
  if (!aii_tp_want_op(p, "(")) return NULL;
  while (!aii_tp_is_op(p, ")")) {
    aii_tnode *item;
    bool named = p->tok[0].type == TT_NAME && p->tok[1].type == TT_OP && strcmp(p->tok[1].op, "=") == 0;
    if (named) {
      item = aii_tp_node(p, TK_KWARG);
      if (item == NULL) return NULL;
      item->value = p->tok->value;
      p->tok += 2;
      item->a = aii_tp_expr(p);
      item = item->a != NULL ? aii_tp_finish(p, item) : NULL;
    } else {
      item = aii_tp_expr(p);
    }
    if (item == NULL || !aii_tp_append(p, node, item)) return NULL;
    if (!aii_tp_take_op(p, ",")) break;
  }
  return aii_tp_want_op(p, ")") ? node : NULL;
}

/* [i], [a:b], [a:b:c] behind a */
static aii_tnode *subscript(aii_tparser *p, aii_tnode *a)
{
  aii_tnode *part[3] = {NULL, NULL, NULL};
  size_t n = 0;
  bool slice = false;
  for (;;) {
    if (!aii_tp_is_op(p, ":") && !aii_tp_is_op(p, "]")) {
      part[n] = aii_tp_expr(p);
      if (part[n] == NULL) return NULL;
    }
    if (n == 2 || !aii_tp_take_op(p, ":")) break;
    slice = true;
    n++;
  }
  if (!aii_tp_want_op(p, "]")) return NULL;
  if (!slice && part[0] == NULL) return aii_tp_fail(p, "an empty subscript");
  aii_tnode *node = aii_tp_node(p, slice ? TK_SLICE : TK_ITEM);
  if (node == NULL) return NULL;
  node->a = a;
  node->b = part[0];
  node->c = part[1];
  node->d = part[2];
  return aii_tp_finish(p, node);
}

static aii_tnode *postfix(aii_tparser *p, aii_tnode *a)
{
  while (a != NULL) {
    if (aii_tp_take_op(p, ".")) {
      if (p->tok->type != TT_NAME && p->tok->type != TT_INT) return aii_tp_fail(p, "expected a name behind '.'");
      aii_tnode *node = aii_tp_node(p, p->tok->type == TT_NAME ? TK_ATTR : TK_ITEM);
      aii_tnode *key = node != NULL && node->kind == TK_ITEM ? aii_tp_node(p, TK_CONST) : NULL;
      if (node == NULL || (node->kind == TK_ITEM && key == NULL)) return NULL;
      if (key != NULL) key->value = p->tok->value;
      node->value = p->tok->value;
      node->a = a;
      node->b = key;
      p->tok++;
      a = aii_tp_finish(p, node);
    } else if (aii_tp_take_op(p, "[")) {
      a = subscript(p, a);
    } else if (aii_tp_is_op(p, "(")) {
      aii_tnode *node = aii_tp_node(p, TK_CALL);
      if (node == NULL) return NULL;
      node->a = a;
      node = aii_tp_args(p, node);
      a = node != NULL ? aii_tp_finish(p, node) : NULL;
    } else {
      break;
    }
  }
  return a;
}

/* "is [not] name [argument]" behind a */
static aii_tnode *test(aii_tparser *p, aii_tnode *a)
{
  aii_tnode *node = aii_tp_node(p, TK_TEST);
  if (node == NULL) return NULL;
  node->a = a;
  node->op = aii_tp_take_name(p, "not");
  if (p->tok->type != TT_NAME) return aii_tp_fail(p, "expected a test behind 'is'");
  node->value = p->tok++->value;
  const aii_ttok *t = p->tok;
  if (aii_tp_is_op(p, "(")) {
    if (aii_tp_args(p, node) == NULL) return NULL;
  } else if (t->type == TT_STR || t->type == TT_INT || t->type == TT_FLOAT || aii_tp_is_op(p, "[") ||
             (t->type == TT_NAME && !aii_tp_is_name(p, "else") && !aii_tp_is_name(p, "or") &&
              !aii_tp_is_name(p, "and") && !aii_tp_is_name(p, "is") && !aii_tp_is_name(p, "if") &&
              !aii_tp_is_name(p, "in") && !aii_tp_is_name(p, "not"))) {
    aii_tnode *arg = unary(p, false);
    if (arg == NULL || !aii_tp_append(p, node, arg)) return NULL;
  }
  return aii_tp_finish(p, node);
}

aii_tnode *aii_tp_filters(aii_tparser *p, aii_tnode *a, bool bare)
{
  while (bare || aii_tp_take_op(p, "|")) {
    bare = false;
    aii_tnode *node = aii_tp_node(p, TK_FILTER);
    if (node == NULL) return NULL;
    if (p->tok->type != TT_NAME) return aii_tp_fail(p, "expected a filter's name");
    node->a = a;
    node->value = p->tok++->value;
    if (aii_tp_is_op(p, "(") && aii_tp_args(p, node) == NULL) return NULL;
    a = aii_tp_finish(p, node);
    if (a == NULL) return NULL;
  }
  return a;
}

static aii_tnode *filters_and_tests(aii_tparser *p, aii_tnode *a)
{
  while (a != NULL) {
    if (aii_tp_is_op(p, "|")) {
      a = aii_tp_filters(p, a, false);
    } else if (aii_tp_take_name(p, "is")) {
      a = test(p, a);
    } else if (aii_tp_is_op(p, "(") || aii_tp_is_op(p, "[") || aii_tp_is_op(p, ".")) {
      a = postfix(p, a);
    } else {
      break;
    }
  }
  return a;
}

/* ---- primaries --------------------------------------------------------------------------------------------------- */

static aii_tnode *constant(aii_tparser *p, aii_tv value)
{
  aii_tnode *node = aii_tp_node(p, TK_CONST);
  if (node == NULL) return NULL;
  node->value = value;
  p->tok++;
  return aii_tp_finish(p, node);
}

static aii_tnode *name(aii_tparser *p)
{
  aii_tv s = p->tok->value;
  if (aii_tv_is(s, "true") || aii_tv_is(s, "True")) return constant(p, aii_tv_bool(true));
  if (aii_tv_is(s, "false") || aii_tv_is(s, "False")) return constant(p, aii_tv_bool(false));
  if (aii_tv_is(s, "none") || aii_tv_is(s, "None")) return constant(p, aii_tv_none());
  aii_tnode *node = aii_tp_node(p, TK_NAME);
  if (node == NULL) return NULL;
  node->value = s;
  if (aii_tv_is(s, "varargs")) p->uses |= TM_VARARGS;
  if (aii_tv_is(s, "kwargs")) p->uses |= TM_KWARGS;
  if (aii_tv_is(s, "caller")) p->uses |= TM_CALLER;
  p->tok++;
  return aii_tp_finish(p, node);
}

/* Adjacent strings are one. */
static aii_tnode *strings(aii_tparser *p)
{
  aii_tnode *a = constant(p, p->tok->value);
  while (a != NULL && p->tok->type == TT_STR) a = binary(p, TK_BINARY, TO_CONCAT, a, constant(p, p->tok->value));
  return a;
}

/* Elements up to `close`; a parenthesis around one expression without a comma is that expression. */
static aii_tnode *sequence(aii_tparser *p, aii_tkind kind, const char *close)
{
  aii_tnode *node = aii_tp_node(p, kind);
  bool comma = false;
  if (node == NULL) return NULL;
  while (!aii_tp_is_op(p, close)) {
    aii_tnode *item = aii_tp_expr(p);
    if (item == NULL || !aii_tp_append(p, node, item)) return NULL;
    if (!aii_tp_take_op(p, ",")) break;
    comma = true;
  }
  if (!aii_tp_want_op(p, close)) return NULL;
  if (kind == TK_TUPLE && node->n_items == 1 && !comma) return node->items[0];
  return aii_tp_finish(p, node);
}

static aii_tnode *dict(aii_tparser *p)
{
  aii_tnode *node = aii_tp_node(p, TK_DICT);
  if (node == NULL) return NULL;
  while (!aii_tp_is_op(p, "}")) {
    aii_tnode *key = aii_tp_expr(p);
    if (key == NULL || !aii_tp_want_op(p, ":")) return NULL;
    aii_tnode *value = aii_tp_expr(p);
    if (value == NULL || !aii_tp_append(p, node, key) || !aii_tp_append(p, node, value)) return NULL;
    if (!aii_tp_take_op(p, ",")) break;
  }
  return aii_tp_want_op(p, "}") ? aii_tp_finish(p, node) : NULL;
}

static aii_tnode *primary(aii_tparser *p)
{
  const aii_ttok *t = p->tok;
  switch (t->type) {
    case TT_NAME: return name(p);
    case TT_STR: return strings(p);
    case TT_INT:
    case TT_FLOAT: return constant(p, t->value);
    default: break;
  }
  if (aii_tp_take_op(p, "(")) return sequence(p, TK_TUPLE, ")");
  if (aii_tp_take_op(p, "[")) return sequence(p, TK_LIST, "]");
  if (aii_tp_take_op(p, "{")) return dict(p);
  if (t->type == TT_OP) return aii_tp_fail(p, "unexpected '%s'", t->op);
  return aii_tp_fail(p, "an expression is missing");
}

/* ---- operators --------------------------------------------------------------------------------------------------- */

static aii_tnode *unary(aii_tparser *p, bool with_filters)
{
  if (++p->nesting > AII_T_MAX_NESTING) return aii_tp_fail(p, "nested deeper than %d", AII_T_MAX_NESTING);
  aii_tnode *a;
  if (aii_tp_take_op(p, "-")) {
    a = unary_node(p, TK_NEG, unary(p, false));
  } else if (aii_tp_take_op(p, "+")) {
    a = unary_node(p, TK_POS, unary(p, false));
  } else {
    a = postfix(p, primary(p));
  }
  if (with_filters) a = filters_and_tests(p, a);
  p->nesting--;
  return a;
}

static aii_tnode *power(aii_tparser *p)
{
  aii_tnode *a = unary(p, true);
  while (a != NULL && aii_tp_take_op(p, "**")) a = binary(p, TK_BINARY, TO_POW, a, unary(p, true));
  return a;
}

static aii_tnode *product(aii_tparser *p)
{
  static const struct {
    const char *op;
    aii_top code;
  } ops[] = {{"*", TO_MUL}, {"/", TO_DIV}, {"//", TO_FLOORDIV}, {"%", TO_MOD}};
  aii_tnode *a = power(p);
  for (size_t i = 0; a != NULL && i < AII_COUNT(ops);) {
    if (aii_tp_take_op(p, ops[i].op)) {
      a = binary(p, TK_BINARY, ops[i].code, a, power(p));
      i = 0;
    } else {
      i++;
    }
  }
  return a;
}

static aii_tnode *concat(aii_tparser *p)
{
  aii_tnode *a = product(p);
  while (a != NULL && aii_tp_take_op(p, "~")) a = binary(p, TK_BINARY, TO_CONCAT, a, product(p));
  return a;
}

static aii_tnode *sum(aii_tparser *p)
{
  aii_tnode *a = concat(p);
  while (a != NULL && (aii_tp_is_op(p, "+") || aii_tp_is_op(p, "-"))) {
    aii_top op = p->tok->op[0] == '+' ? TO_ADD : TO_SUB;
    p->tok++;
    a = binary(p, TK_BINARY, op, a, concat(p));
  }
  return a;
}

/* The comparison at the parser's place, taken; -1: none. */
static int comparison(aii_tparser *p)
{
  static const struct {
    const char *op;
    aii_top code;
  } ops[] = {{"==", TO_EQ}, {"!=", TO_NE}, {"<=", TO_LE}, {">=", TO_GE}, {"<", TO_LT}, {">", TO_GT}};
  for (size_t i = 0; i < AII_COUNT(ops); i++) {
    if (aii_tp_take_op(p, ops[i].op)) return ops[i].code;
  }
  if (aii_tp_take_name(p, "in")) return TO_IN;
  if (aii_tp_is_name(p, "not") && p->tok[1].type == TT_NAME && aii_tv_is(p->tok[1].value, "in")) {
    p->tok += 2;
    return TO_NOT_IN;
  }
  return -1;
}

/* a < b < c is a < b and b < c. */
static aii_tnode *compare(aii_tparser *p)
{
  aii_tnode *left = sum(p), *all = NULL;
  int op;
  while (left != NULL && (op = comparison(p)) >= 0) {
    aii_tnode *right = sum(p), *one = binary(p, TK_BINARY, (aii_top)op, left, right);
    if (one == NULL) return NULL;
    all = all == NULL ? one : binary(p, TK_AND, TO_EQ, all, one);
    left = right;
  }
  return left == NULL || all == NULL ? left : all;
}

static aii_tnode *not_expr(aii_tparser *p)
{
  if (!aii_tp_take_name(p, "not")) return compare(p);
  if (++p->nesting > AII_T_MAX_NESTING) return aii_tp_fail(p, "nested deeper than %d", AII_T_MAX_NESTING);
  aii_tnode *node = unary_node(p, TK_NOT, not_expr(p));
  p->nesting--;
  return node;
}

static aii_tnode *and_expr(aii_tparser *p)
{
  aii_tnode *a = not_expr(p);
  while (a != NULL && aii_tp_take_name(p, "and")) a = binary(p, TK_AND, TO_EQ, a, not_expr(p));
  return a;
}

aii_tnode *aii_tp_or(aii_tparser *p)
{
  aii_tnode *a = and_expr(p);
  while (a != NULL && aii_tp_take_name(p, "or")) a = binary(p, TK_OR, TO_EQ, a, and_expr(p));
  return a;
}

aii_tnode *aii_tp_expr(aii_tparser *p)
{
  if (++p->nesting > AII_T_MAX_NESTING) return aii_tp_fail(p, "nested deeper than %d", AII_T_MAX_NESTING);
  aii_tnode *a = aii_tp_or(p);
  while (a != NULL && aii_tp_take_name(p, "if")) {
    aii_tnode *node = aii_tp_node(p, TK_COND);
    if (node == NULL) return NULL;
    node->a = a;
    node->b = aii_tp_or(p);
    if (node->b == NULL) return NULL;
    if (aii_tp_take_name(p, "else")) {
      node->c = aii_tp_expr(p);
      if (node->c == NULL) return NULL;
    }
    a = aii_tp_finish(p, node);
  }
  p->nesting--;
  return a;
}
