/* tmpl_parse.c - the statements of a template: for, if, set, macro, call, filter, break, continue.
 *
 * Blocks are parsed by recursion that AII_T_MAX_NESTING bounds. {% generation %} marks training data and is looked
 * through. What other programs' templates may use and this does not (include, import, extends, do) is ENOTSUP.
 */
#include <stdio.h>

#include "src/text/tmpl_impl.h"

static aii_tnode *body(aii_tparser *p, const char *const *ends);

/* ---- helpers for both parser files ----------------------------------------------------------------------------- */

aii_tnode *aii_tp_fail(aii_tparser *p, const char *fmt, ...)
{
  if (p->rc != AIINFRA_OK) return NULL;
  char what[200];
  va_list args;
  va_start(args, fmt);
  (void)vsnprintf(what, sizeof what, fmt, args);
  va_end(args);
  p->rc = aii_fail(p->err, AIINFRA_EFORMAT, "template line %u: %s", p->tok->line, what);
  return NULL;
}

aii_tnode *aii_tp_node(aii_tparser *p, aii_tkind kind)
{
  if (p->rc != AIINFRA_OK) return NULL;
  aii_tnode *node = aii_arena_new(p->arena, sizeof *node);
  if (node == NULL) {
    p->rc = aii_fail(p->err, AIINFRA_ENOMEM, "template tree");
    return NULL;
  }
  node->kind = (uint8_t)kind;
  node->line = p->tok->line;
  node->height = 1;
  return node;
}

aii_tnode *aii_tp_finish(aii_tparser *p, aii_tnode *node)
{
  uint32_t height = 0;
  const aii_tnode *below[] = {node->a, node->b, node->c, node->d};
  for (size_t i = 0; i < AII_COUNT(below); i++) {
    if (below[i] != NULL) height = AII_MAX(height, below[i]->height);
  }
  for (uint32_t i = 0; i < node->n_items; i++) height = AII_MAX(height, node->items[i]->height);
  if (height >= AII_T_MAX_HEIGHT) return aii_tp_fail(p, "an expression of more than %d levels", AII_T_MAX_HEIGHT);
  node->height = (uint16_t)(height + 1);
  return node;
}

bool aii_tp_append(aii_tparser *p, aii_tnode *node, aii_tnode *item)
{
  /* the capacity is the power of two at or above n_items */
  if ((node->n_items & (node->n_items - 1)) == 0) {
    size_t cap = node->n_items == 0 ? 1 : 2 * (size_t)node->n_items;
    aii_tnode **items = aii_arena_new(p->arena, cap * sizeof(aii_tnode *));
    if (items == NULL) {
      p->rc = aii_fail(p->err, AIINFRA_ENOMEM, "template tree");
      return false;
    }
    if (node->n_items > 0) memcpy(items, node->items, node->n_items * sizeof(aii_tnode *));
    node->items = items;
  }
  node->items[node->n_items++] = item;
  return true;
}

bool aii_tp_is_op(const aii_tparser *p, const char *op)
{
  return p->tok->type == TT_OP && strcmp(p->tok->op, op) == 0;
}

bool aii_tp_is_name(const aii_tparser *p, const char *name)
{
  return p->tok->type == TT_NAME && aii_tv_is(p->tok->value, name);
}

bool aii_tp_take_op(aii_tparser *p, const char *op)
{
  if (p->rc != AIINFRA_OK || !aii_tp_is_op(p, op)) return false;
  p->tok++;
  return true;
}

bool aii_tp_want_op(aii_tparser *p, const char *op)
{
  if (aii_tp_take_op(p, op)) return true;
  (void)aii_tp_fail(p, "expected '%s'", op);
  return false;
}

bool aii_tp_take_name(aii_tparser *p, const char *name)
{
  if (p->rc != AIINFRA_OK || !aii_tp_is_name(p, name)) return false;
  p->tok++;
  return true;
}

static bool want_end(aii_tparser *p, aii_ttok_type type)
{
  if (p->rc == AIINFRA_OK && p->tok->type == type) {
    p->tok++;
    return true;
  }
  (void)aii_tp_fail(p, "expected the end of the tag");
  return false;
}

/* ---- statements ------------------------------------------------------------------------------------------------ */

static aii_tnode *name_node(aii_tparser *p)
{
  if (p->tok->type != TT_NAME) return aii_tp_fail(p, "expected a name");
  aii_tnode *node = aii_tp_node(p, TK_NAME);
  if (node == NULL) return NULL;
  node->value = p->tok++->value;
  return node;
}

/* a | a, b | (a, b) | ns.a */
static aii_tnode *target(aii_tparser *p)
{
  bool bracket = aii_tp_take_op(p, "(");
  aii_tnode *first = name_node(p);
  if (first == NULL) return NULL;
  if (aii_tp_take_op(p, ".")) {
    aii_tnode *attr = aii_tp_node(p, TK_ATTR);
    if (attr == NULL) return NULL;
    if (p->tok->type != TT_NAME) return aii_tp_fail(p, "expected a name behind '.'");
    attr->a = first;
    attr->value = p->tok++->value;
    return attr;
  }
  if (!aii_tp_is_op(p, ",")) return bracket && !aii_tp_want_op(p, ")") ? NULL : first;
  aii_tnode *tuple = aii_tp_node(p, TK_TUPLE);
  if (tuple == NULL || !aii_tp_append(p, tuple, first)) return NULL;
  while (aii_tp_take_op(p, ",")) {
    aii_tnode *next = name_node(p);
    if (next == NULL || !aii_tp_append(p, tuple, next)) return NULL;
  }
  return bracket && !aii_tp_want_op(p, ")") ? NULL : tuple;
}

static aii_tnode *if_statement(aii_tparser *p)
{
  static const char *const ends[] = {"elif", "else", "endif", NULL};
  static const char *const last[] = {"endif", NULL};
  aii_tnode *node = aii_tp_node(p, TK_IF);
  bool more = node != NULL;
  while (more) {
    aii_tnode *cond = aii_tp_expr(p);
    if (cond == NULL || !want_end(p, TT_BLOCK_END)) return NULL;
    aii_tnode *then = body(p, ends);
    if (then == NULL || !aii_tp_append(p, node, cond) || !aii_tp_append(p, node, then)) return NULL;
    more = aii_tp_take_name(p, "elif");
  }
  if (aii_tp_take_name(p, "else")) {
    if (!want_end(p, TT_BLOCK_END) || (node->d = body(p, last)) == NULL) return NULL;
  }
  if (p->rc != AIINFRA_OK) return NULL;
  p->tok++; /* endif */
  return node;
}

static aii_tnode *for_statement(aii_tparser *p)
{
  static const char *const ends[] = {"else", "endfor", NULL};
  static const char *const last[] = {"endfor", NULL};
  aii_tnode *node = aii_tp_node(p, TK_FOR);
  if (node == NULL || (node->a = target(p)) == NULL) return NULL;
  if (!aii_tp_take_name(p, "in")) return aii_tp_fail(p, "expected 'in'");
  node->b = aii_tp_or(p);
  if (node->b == NULL) return NULL;
  if (aii_tp_is_op(p, ",")) { /* in 1, 2 */
    aii_tnode *tuple = aii_tp_node(p, TK_TUPLE);
    if (tuple == NULL || !aii_tp_append(p, tuple, node->b)) return NULL;
    while (aii_tp_take_op(p, ",")) {
      aii_tnode *item = aii_tp_or(p);
      if (item == NULL || !aii_tp_append(p, tuple, item)) return NULL;
    }
    node->b = tuple;
  }
  if (aii_tp_take_name(p, "if") && (node->c = aii_tp_expr(p)) == NULL) return NULL;
  if (aii_tp_is_name(p, "recursive")) return aii_tp_fail(p, "recursive loops are not supported");
  if (!want_end(p, TT_BLOCK_END)) return NULL;
  p->loops++;
  node->d = body(p, ends);
  p->loops--;
  if (node->d == NULL) return NULL;
  if (aii_tp_take_name(p, "else")) {
    aii_tnode *none = want_end(p, TT_BLOCK_END) ? body(p, last) : NULL;
    if (none == NULL || !aii_tp_append(p, node, none)) return NULL;
  }
  p->tok++; /* endfor */
  return node;
}

/* The name that stands for what a statement captured. */
static aii_tnode *captured(aii_tparser *p)
{
  aii_tnode *node = aii_tp_node(p, TK_NAME);
  if (node != NULL) node->value = aii_tv_lit(AII_T_BODY);
  return node;
}

static aii_tnode *set_statement(aii_tparser *p)
{
  static const char *const ends[] = {"endset", NULL};
  aii_tnode *node = aii_tp_node(p, TK_SET);
  if (node == NULL || (node->a = target(p)) == NULL) return NULL;
  if (aii_tp_take_op(p, "=")) {
    node->b = aii_tp_expr(p);
    if (node->b != NULL && aii_tp_is_op(p, ",")) {
      aii_tnode *tuple = aii_tp_node(p, TK_TUPLE);
      if (tuple == NULL || !aii_tp_append(p, tuple, node->b)) return NULL;
      while (aii_tp_take_op(p, ",")) {
        aii_tnode *item = aii_tp_expr(p);
        if (item == NULL || !aii_tp_append(p, tuple, item)) return NULL;
      }
      node->b = tuple;
    }
    return node->b != NULL ? node : NULL;
  }
  node->kind = TK_SETBLOCK;
  node->b = aii_tp_filters(p, captured(p), false);
  if (node->b == NULL || !want_end(p, TT_BLOCK_END) || (node->d = body(p, ends)) == NULL) return NULL;
  p->tok++;
  return node;
}

/* "(a, b=1)" into node->items: names with their defaults in ->a. */
static bool parameters(aii_tparser *p, aii_tnode *node)
{
  if (!aii_tp_want_op(p, "(")) return false;
  while (!aii_tp_is_op(p, ")")) {
    aii_tnode *name = name_node(p);
    if (name == NULL || !aii_tp_append(p, node, name)) return false;
    if (aii_tp_take_op(p, "=") && (name->a = aii_tp_expr(p)) == NULL) return false;
    if (!aii_tp_take_op(p, ",")) break;
  }
  return aii_tp_want_op(p, ")");
}

/* The body of a macro or of a call, which is one: its own loops, its own varargs. */
static aii_tnode *macro_body(aii_tparser *p, aii_tnode *node, const char *const *ends)
{
  uint32_t loops = p->loops;
  uint8_t uses = p->uses;
  p->loops = p->uses = 0;
  node->d = body(p, ends);
  node->op = p->uses;
  p->loops = loops;
  p->uses = uses;
  return node->d;
}

static aii_tnode *macro_statement(aii_tparser *p)
{
  static const char *const ends[] = {"endmacro", NULL};
  aii_tnode *node = aii_tp_node(p, TK_MACRO), *name = node != NULL ? name_node(p) : NULL;
  if (name == NULL || !parameters(p, node) || !want_end(p, TT_BLOCK_END)) return NULL;
  node->value = name->value;
  if (macro_body(p, node, ends) == NULL) return NULL;
  p->tok++;
  return node;
}

static aii_tnode *call_statement(aii_tparser *p)
{
  static const char *const ends[] = {"endcall", NULL};
  aii_tnode *node = aii_tp_node(p, TK_CALLBLOCK);
  if (node == NULL || (aii_tp_is_op(p, "(") && !parameters(p, node))) return NULL;
  node->a = aii_tp_expr(p);
  if (node->a == NULL) return NULL;
  if (node->a->kind != TK_CALL) return aii_tp_fail(p, "expected a call behind 'call'");
  if (!want_end(p, TT_BLOCK_END) || macro_body(p, node, ends) == NULL) return NULL;
  p->tok++;
  return node;
}

static aii_tnode *filter_statement(aii_tparser *p)
{
  static const char *const ends[] = {"endfilter", NULL};
  aii_tnode *node = aii_tp_node(p, TK_FILTERBLOCK);
  if (node == NULL || (node->b = aii_tp_filters(p, captured(p), true)) == NULL) return NULL;
  if (!want_end(p, TT_BLOCK_END) || (node->d = body(p, ends)) == NULL) return NULL;
  p->tok++;
  return node;
}

static aii_tnode *loop_control(aii_tparser *p, aii_tkind kind)
{
  if (p->loops == 0) return aii_tp_fail(p, "break or continue outside of a loop");
  return aii_tp_node(p, kind);
}

static aii_tnode *statement(aii_tparser *p)
{
  static const char *const generation[] = {"endgeneration", NULL};
  if (aii_tp_take_name(p, "if")) return if_statement(p);
  if (aii_tp_take_name(p, "for")) return for_statement(p);
  if (aii_tp_take_name(p, "set")) return set_statement(p);
  if (aii_tp_take_name(p, "macro")) return macro_statement(p);
  if (aii_tp_take_name(p, "call")) return call_statement(p);
  if (aii_tp_take_name(p, "filter")) return filter_statement(p);
  if (aii_tp_take_name(p, "break")) return loop_control(p, TK_BREAK);
  if (aii_tp_take_name(p, "continue")) return loop_control(p, TK_CONTINUE);
  if (aii_tp_take_name(p, "generation")) {
    aii_tnode *node = want_end(p, TT_BLOCK_END) ? body(p, generation) : NULL;
    if (node != NULL) p->tok++;
    return node;
  }
  if (p->tok->type != TT_NAME) return aii_tp_fail(p, "expected a statement");
  (void)aii_tp_fail(p, "the statement '%.*s' is not supported", (int)AII_MIN(p->tok->value.n, 40), p->tok->value.s);
  if (p->rc == AIINFRA_EFORMAT) p->rc = AIINFRA_ENOTSUP;
  if (p->err != NULL) p->err->status = p->rc;
  return NULL;
}

/* Whether the tag that begins here is one of `ends`; then its name is next. */
static bool at_end(aii_tparser *p, const char *const *ends)
{
  if (p->tok->type != TT_BLOCK_BEGIN || p->tok[1].type != TT_NAME) return false;
  for (; *ends != NULL; ends++) {
    if (!aii_tv_is(p->tok[1].value, *ends)) continue;
    p->tok++;
    return true;
  }
  return false;
}

static aii_tnode *piece(aii_tparser *p)
{
  aii_tnode *node;
  switch (p->tok->type) {
    case TT_TEXT:
      node = aii_tp_node(p, TK_TEXT);
      if (node != NULL) node->value = p->tok++->value;
      return node;
    case TT_VAR_BEGIN:
      p->tok++;
      node = aii_tp_node(p, TK_OUTPUT);
      if (node == NULL || (node->a = aii_tp_expr(p)) == NULL) return NULL;
      return want_end(p, TT_VAR_END) ? node : NULL;
    case TT_BLOCK_BEGIN:
      p->tok++;
      node = statement(p);
      return node != NULL && want_end(p, TT_BLOCK_END) ? node : NULL;
    default: return aii_tp_fail(p, "unexpected end of the template");
  }
}

/* Up to one of `ends`, whose name is then next; NULL: up to the end of the template. */
static aii_tnode *body(aii_tparser *p, const char *const *ends)
{
  if (++p->nesting > AII_T_MAX_NESTING) return aii_tp_fail(p, "nested deeper than %d", AII_T_MAX_NESTING);
  aii_tnode *block = aii_tp_node(p, TK_BLOCK);
  while (block != NULL) {
    if (ends == NULL ? p->tok->type == TT_EOF : at_end(p, ends)) break;
    aii_tnode *node = piece(p);
    if (node == NULL || !aii_tp_append(p, block, node)) return NULL;
  }
  p->nesting--;
  return block;
}

/* ---- the template ---------------------------------------------------------------------------------------------- */

aiinfra_status aii_template_parse(aii_mem *mem, const char *source, size_t n, aii_template **out, aiinfra_error *err)
{
  *out = NULL;
  if (n > AII_T_MAX_SOURCE) {
    return aii_fail(err, AIINFRA_ELIMIT, "a template of %zu bytes, more than the limit of %d", n, AII_T_MAX_SOURCE);
  }
  aii_template *tmpl = aii_new(mem, sizeof *tmpl);
  if (tmpl == NULL) return aii_fail(err, AIINFRA_ENOMEM, "template");
  tmpl->mem = mem;
  aii_arena_init(&tmpl->arena, mem, 64 * (size_t)AII_T_MAX_SOURCE);
  aii_tsource src = {.arena = &tmpl->arena, .mem = mem, .text = source, .n = n, .err = err};
  aiinfra_status rc = aii_tmpl_lex(&src);
  if (rc == AIINFRA_OK) {
    aii_tparser p = {.arena = &tmpl->arena, .tok = src.tokens, .rc = AIINFRA_OK, .err = err};
    tmpl->root = body(&p, NULL);
    rc = p.rc;
  }
  aii_tmpl_lex_free(&src);
  if (rc != AIINFRA_OK) {
    aii_template_free(tmpl);
    return rc;
  }
  *out = tmpl;
  return AIINFRA_OK;
}

void aii_template_free(aii_template *tmpl)
{
  if (tmpl == NULL) return;
  aii_mem *mem = tmpl->mem;
  aii_arena_free(&tmpl->arena);
  aii_del(mem, tmpl, sizeof *tmpl);
}
