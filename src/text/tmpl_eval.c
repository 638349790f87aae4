/* tmpl_eval.c - evaluates expressions. Recursion goes by the tree and by macro calls; AII_T_MAX_DEPTH bounds it. */
#include "src/text/tmpl_impl.h"

static bool eval_node(aii_trun *run, const aii_tnode *node, aii_tv *out);

bool aii_t_eval(aii_trun *run, const aii_tnode *node, aii_tv *out)
{
  if (!aii_t_step(run, 1)) return false;
  if (run->depth >= AII_T_MAX_DEPTH) return aii_t_fail(run, AIINFRA_ELIMIT, "calls nested too deep");
  run->depth++;
  run->line = node->line;
  bool ok = eval_node(run, node, out);
  run->depth--;
  return ok;
}

const aii_tv *aii_t_arg(const aii_targs *args, size_t nth, const char *name)
{
  if (nth < args->n) return &args->items[nth];
  for (size_t i = 0; name != NULL && i < args->n_named; i++) {
    if (aii_tv_is(args->names[i], name)) return &args->named[i];
  }
  return NULL;
}

static bool eval_args(aii_trun *run, const aii_tnode *node, aii_targs *args)
{
  *args = (aii_targs){0};
  if (node->n_items == 0) return true;
  aii_tv *room = aii_t_new(run, 3 * (size_t)node->n_items * sizeof *room);
  if (room == NULL) return false;
  args->items = room;
  args->names = room + node->n_items;
  args->named = room + 2 * (size_t)node->n_items;
  for (uint32_t i = 0; i < node->n_items; i++) {
    const aii_tnode *item = node->items[i];
    if (item->kind == TK_KWARG) {
      args->names[args->n_named] = item->value;
      if (!aii_t_eval(run, item->a, &args->named[args->n_named++])) return false;
    } else if (!aii_t_eval(run, item, &args->items[args->n++])) {
      return false;
    }
  }
  return true;
}

static bool call(aii_trun *run, const aii_tnode *node, aii_tv *out)
{
  aii_tv self, callee;
  aii_targs args;
  const aii_tnode *f = node->a;
  if (f->kind == TK_ATTR) {
    if (!aii_t_eval(run, f->a, &self)) return false;
    if (aii_t_has_method(self, f->value)) {
      return eval_args(run, node, &args) && aii_t_method(run, self, f->value, &args, out);
    }
    if (!aii_t_attr(run, self, f->value, &callee)) return false;
  } else if (!aii_t_eval(run, f, &callee)) {
    return false;
  }
  if (!eval_args(run, node, &args)) return false;
  if (callee.type == TV_MACRO) return aii_t_call_macro(run, callee.macro, &args, out);
  if (callee.type == TV_FUNCTION) return aii_t_function(run, aii_tv_strn(callee.s, callee.n), &args, out);
  if (callee.type == TV_UNDEFINED) {
    return aii_t_fail(run, AIINFRA_EINVAL, "'%.*s' is undefined, so it cannot be called", (int)AII_MIN(callee.n, 60),
                      callee.s);
  }
  return aii_t_fail(run, AIINFRA_EINVAL, "a %s cannot be called", aii_tv_type_name(callee));
}

static bool list(aii_trun *run, const aii_tnode *node, aii_tv *out)
{
  aii_tv item;
  if (!aii_tv_list(run, node->n_items, out)) return false;
  for (uint32_t i = 0; i < node->n_items; i++) {
    if (!aii_t_eval(run, node->items[i], &item) || !aii_tv_append(run, out->list, item)) return false;
  }
  out->look = node->kind == TK_TUPLE ? TL_TUPLE : TL_PLAIN;
  return true;
}

static bool dict(aii_trun *run, const aii_tnode *node, aii_tv *out)
{
  aii_tv key, value;
  if (!aii_tv_map(run, out)) return false;
  for (uint32_t i = 0; i + 1 < node->n_items; i += 2) {
    if (!aii_t_eval(run, node->items[i], &key) || !aii_t_eval(run, node->items[i + 1], &value) ||
        !aii_tv_put(run, out->map, key, value)) {
      return false;
    }
  }
  return true;
}

static bool name(aii_trun *run, aii_tv s, aii_tv *out)
{
  const aii_tv *found = aii_t_lookup(run, s);
  if (found != NULL) {
    *out = *found;
  } else if (aii_t_is_function(s)) {
    *out = s;
    out->type = TV_FUNCTION;
  } else {
    *out = aii_tv_undefined(s);
  }
  return true;
}

static bool slice(aii_trun *run, const aii_tnode *node, aii_tv *out)
{
  const aii_tnode *parts[] = {node->b, node->c, node->d};
  aii_tv v, bounds[3];
  if (!aii_t_eval(run, node->a, &v)) return false;
  for (size_t i = 0; i < 3; i++) {
    bounds[i] = aii_tv_none();
    if (parts[i] != NULL && !aii_t_eval(run, parts[i], &bounds[i])) return false;
  }
  return aii_t_slice(run, v, bounds[0], bounds[1], bounds[2], out);
}

static bool negate(aii_trun *run, const aii_tnode *node, aii_tv *out)
{
  if (!aii_t_eval(run, node->a, out)) return false;
  return aii_t_binary(run, node->kind == TK_NEG ? TO_SUB : TO_ADD, aii_tv_int(0), *out, out);
}

static bool filter_or_test(aii_trun *run, const aii_tnode *node, aii_tv *out)
{
  aii_targs args;
  aii_tv v;
  bool yes;
  if (!aii_t_eval(run, node->a, &v) || !eval_args(run, node, &args)) return false;
  run->line = node->line;
  if (node->kind == TK_FILTER) return aii_t_filter(run, node->value, v, &args, out);
  if (!aii_t_test(run, node->value, v, &args, &yes)) return false;
  *out = aii_tv_bool(yes != (node->op != 0));
  return true;
}

static bool eval_node(aii_trun *run, const aii_tnode *node, aii_tv *out)
{
  aii_tv a, b;
  switch (node->kind) {
    case TK_CONST: *out = node->value; return true;
    case TK_NAME: return name(run, node->value, out);
    case TK_LIST:
    case TK_TUPLE: return list(run, node, out);
    case TK_DICT: return dict(run, node, out);
    case TK_ATTR: return aii_t_eval(run, node->a, &a) && aii_t_attr(run, a, node->value, out);
    case TK_ITEM: return aii_t_eval(run, node->a, &a) && aii_t_eval(run, node->b, &b) && aii_t_item(run, a, b, out);
    case TK_SLICE: return slice(run, node, out);
    case TK_CALL: return call(run, node, out);
    case TK_FILTER:
    case TK_TEST: return filter_or_test(run, node, out);
    case TK_NOT:
      if (!aii_t_eval(run, node->a, &a)) return false;
      *out = aii_tv_bool(!aii_tv_truth(a));
      return true;
    case TK_NEG:
    case TK_POS: return negate(run, node, out);
    case TK_BINARY:
      return aii_t_eval(run, node->a, &a) && aii_t_eval(run, node->b, &b) &&
             aii_t_binary(run, (aii_top)node->op, a, b, out);
    case TK_AND:
    case TK_OR:
      if (!aii_t_eval(run, node->a, out)) return false;
      return aii_tv_truth(*out) == (node->kind == TK_OR) || aii_t_eval(run, node->b, out);
    case TK_COND:
      if (!aii_t_eval(run, node->b, &b)) return false;
      if (aii_tv_truth(b)) return aii_t_eval(run, node->a, out);
      if (node->c != NULL) return aii_t_eval(run, node->c, out);
      *out = aii_tv_undefined(aii_tv_lit("the missing else"));
      return true;
    default: return aii_t_fail(run, AIINFRA_EINTERNAL, "a statement in an expression");
  }
}
