/* tmpl_run.c - renders a parsed template: statements, scopes, macros, output, limits.
 *
 * Happy path: messages, tools and extra variables become values of the global scope; the tree is walked; output is
 * appended to the caller's buffer. On failure nothing is appended. Steps, memory, depth and output are bounded, so a
 * hostile template ends with ELIMIT; raise_exception() is EINVAL with its message.
 */
#include <stdio.h>

#include "src/text/tmpl_impl.h"

/* How a statement ended. */
enum { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE };

static bool exec(aii_trun *run, const aii_tnode *node, int *flow);

/* ---- what the other files call --------------------------------------------------------------------------------- */

bool aii_t_fail(aii_trun *run, aiinfra_status rc, const char *fmt, ...)
{
  if (run->rc != AIINFRA_OK) return false; /* the first cause counts */
  char what[400];
  va_list args;
  va_start(args, fmt);
  (void)vsnprintf(what, sizeof what, fmt, args);
  va_end(args);
  run->rc = aii_fail(run->err, rc, "template line %u: %s", run->line, what);
  return false;
}

bool aii_t_step(aii_trun *run, size_t n)
{
  run->steps += n;
  if (run->steps > run->max_steps)
    return aii_t_fail(run, AIINFRA_ELIMIT, "more than %llu steps", (unsigned long long)run->max_steps);
  return run->rc == AIINFRA_OK;
}

void *aii_t_new(aii_trun *run, size_t size)
{
  void *p = aii_arena_new(&run->arena, size);
  run->steps += size / 64; /* seen at the next step */
  if (p != NULL) return p;
  if (size > run->arena.limit || run->arena.used + size + 16 > run->arena.limit) {
    (void)aii_t_fail(run, AIINFRA_ELIMIT, "more than %d bytes of values", AII_T_MAX_ARENA);
  } else {
    (void)aii_t_fail(run, AIINFRA_ENOMEM, "no memory for values");
  }
  return NULL;
}

bool aii_t_emit(aii_trun *run, const char *s, size_t n)
{
  run->out_bytes += n;
  if (run->out_bytes > AII_T_MAX_OUTPUT) {
    return aii_t_fail(run, AIINFRA_ELIMIT, "more than %d bytes of output", AII_T_MAX_OUTPUT);
  }
  aii_buf_add(run->out, s, n);
  return !run->out->failed || aii_t_fail(run, AIINFRA_ENOMEM, "no memory for output");
}

const aii_tv *aii_t_lookup(aii_trun *run, aii_tv name)
{
  size_t looked = 0;
  for (const aii_tscope *scope = run->scope; scope != NULL; scope = scope->parent) {
    const aii_tv *found = aii_tv_get(&scope->vars, name);
    looked += 1 + scope->vars.n;
    if (found != NULL || scope->parent == NULL) run->steps += looked / 8;
    if (found != NULL) return found;
  }
  return NULL;
}

bool aii_t_set(aii_trun *run, aii_tscope *scope, aii_tv name, aii_tv value)
{
  return aii_tv_put(run, &scope->vars, name, value);
}

static aii_tscope *new_scope(aii_trun *run, aii_tscope *parent)
{
  aii_tscope *scope = aii_t_new(run, sizeof *scope);
  if (scope != NULL) scope->parent = parent;
  return scope;
}

/* ---- assignments ------------------------------------------------------------------------------------------------- */

static bool unpack(aii_trun *run, const aii_tnode *target, aii_tv value)
{
  aii_tlist *list;
  if (target->kind == TK_NAME) return aii_t_set(run, run->scope, target->value, value);
  if (!aii_tv_iterate(run, value, &list)) return false;
  if (list->n != target->n_items) {
    return aii_t_fail(run, AIINFRA_EINVAL, "%zu values for %u names", list->n, target->n_items);
  }
  for (uint32_t i = 0; i < target->n_items; i++) {
    if (!aii_t_set(run, run->scope, target->items[i]->value, list->items[i])) return false;
  }
  return true;
}

static bool assign(aii_trun *run, const aii_tnode *target, aii_tv value)
{
  if (target->kind != TK_ATTR) return unpack(run, target, value);
  const aii_tv *ns = aii_t_lookup(run, target->a->value);
  if (ns == NULL || ns->type != TV_NAMESPACE) {
    return aii_t_fail(run, AIINFRA_EINVAL, "'%.*s' is no namespace", (int)AII_MIN(target->a->value.n, 60),
                      target->a->value.s);
  }
  return aii_tv_put(run, ns->map, target->value, value);
}

/* Runs a body with its output captured, then the filters behind it. */
static bool capture(aii_trun *run, const aii_tnode *node, aii_tv *out)
{
  aii_buf buf, *outer = run->out;
  aii_tscope *scope = run->scope;
  aii_tv text;
  int flow = FLOW_ON;
  aii_buf_init(&buf, run->mem, AII_T_MAX_OUTPUT);
  run->out = &buf;
  run->scope = new_scope(run, scope);
  if (run->scope != NULL) (void)exec(run, node->d, &flow);
  run->scope = scope;
  run->out = outer;
  if (!aii_tv_from_buf(run, &buf, &text)) return false;
  aii_tscope *inner = new_scope(run, scope);
  if (inner == NULL || !aii_t_set(run, inner, aii_tv_lit(AII_T_BODY), text)) return false;
  run->scope = inner;
  bool ok = aii_t_eval(run, node->b, out);
  run->scope = scope;
  return ok;
}

/* ---- macros ------------------------------------------------------------------------------------------------------ */

static bool is_parameter(const aii_tnode *node, aii_tv name)
{
  for (uint32_t i = 0; i < node->n_items; i++) {
    aii_tv s = node->items[i]->value;
    if (s.n == name.n && memcmp(s.s, name.s, s.n) == 0) return true;
  }
  return false;
}

/* What is given and is no parameter: varargs, kwargs and caller, where the body speaks of them. */
static bool bind_rest(aii_trun *run, const aii_tnode *node, const aii_targs *args)
{
  aii_tv varargs, kwargs;
  if (!aii_tv_list(run, 0, &varargs) || !aii_tv_map(run, &kwargs)) return false;
  varargs.look = TL_TUPLE;
  for (size_t i = node->n_items; i < args->n; i++) {
    if ((node->op & TM_VARARGS) == 0)
      return aii_t_fail(run, AIINFRA_EINVAL, "a macro of %u parameters called with %zu", node->n_items, args->n);
    if (!aii_tv_append(run, varargs.list, args->items[i])) return false;
  }
  for (size_t i = 0; i < args->n_named; i++) {
    aii_tv name = args->names[i];
    bool caller = aii_tv_is(name, "caller") && (node->op & TM_CALLER) != 0;
    if (is_parameter(node, name)) continue;
    if (!caller && (node->op & TM_KWARGS) == 0)
      return aii_t_fail(run, AIINFRA_EINVAL, "a macro has no parameter '%.*s'", (int)AII_MIN(name.n, 60), name.s);
    if (!(caller ? aii_t_set(run, run->scope, name, args->named[i])
                 : aii_tv_put(run, kwargs.map, name, args->named[i])))
      return false;
  }
  return ((node->op & TM_VARARGS) == 0 || aii_t_set(run, run->scope, aii_tv_lit("varargs"), varargs)) &&
         ((node->op & TM_KWARGS) == 0 || aii_t_set(run, run->scope, aii_tv_lit("kwargs"), kwargs));
}

static bool bind_parameters(aii_trun *run, const aii_tnode *node, const aii_targs *args)
{
  for (uint32_t i = 0; i < node->n_items; i++) {
    const aii_tnode *param = node->items[i];
    char name[64];
    size_t n = AII_MIN(param->value.n, sizeof name - 1);
    memcpy(name, param->value.s, n);
    name[n] = '\0';
    const aii_tv *given = aii_t_arg(args, i, name);
    aii_tv value = given != NULL ? *given : aii_tv_undefined(param->value);
    if (given == NULL && param->a != NULL && !aii_t_eval(run, param->a, &value)) return false;
    if (!aii_t_set(run, run->scope, param->value, value)) return false;
  }
  return bind_rest(run, node, args);
}

bool aii_t_call_macro(aii_trun *run, const aii_tmacro *macro, const aii_targs *args, aii_tv *out)
{
  aii_buf buf, *outer = run->out;
  aii_tscope *scope = run->scope;
  int flow = FLOW_ON;
  if (run->depth + 8 > AII_T_MAX_DEPTH) return aii_t_fail(run, AIINFRA_ELIMIT, "calls nested too deep");
  run->depth += 8; /* a call weighs more on the stack than an operator */
  aii_buf_init(&buf, run->mem, AII_T_MAX_OUTPUT);
  run->out = &buf;
  run->scope = new_scope(run, macro->scope);
  if (run->scope != NULL && bind_parameters(run, macro->node, args)) (void)exec(run, macro->node->d, &flow);
  run->scope = scope;
  run->out = outer;
  run->depth -= 8;
  return aii_tv_from_buf(run, &buf, out);
}

static bool make_macro(aii_trun *run, const aii_tnode *node, aii_tv *out)
{
  aii_tmacro *macro = aii_t_new(run, sizeof *macro);
  if (macro == NULL) return false;
  *macro = (aii_tmacro){node, run->scope};
  *out = (aii_tv){.type = TV_MACRO, .macro = macro};
  return true;
}

/* {% call f(x) %} body {% endcall %}: f with one more argument, the body as caller. */
static bool call_block(aii_trun *run, const aii_tnode *node)
{
  aii_tv text, caller;
  aii_tnode kwarg = {.kind = TK_KWARG, .value = aii_tv_lit("caller"), .line = node->line};
  aii_tnode constant = {.kind = TK_CONST, .line = node->line};
  aii_tnode call = *node->a;
  if (!make_macro(run, node, &caller)) return false;
  constant.value = caller;
  kwarg.a = &constant;
  call.items = aii_t_new(run, ((size_t)call.n_items + 1) * sizeof(aii_tnode *));
  if (call.items == NULL) return false;
  if (call.n_items > 0) memcpy(call.items, node->a->items, call.n_items * sizeof(aii_tnode *));
  call.items[call.n_items++] = &kwarg;
  return aii_t_eval(run, &call, &text) && aii_tv_str(run, text, &text) && aii_t_emit(run, text.s, text.n);
}

/* ---- loops ------------------------------------------------------------------------------------------------------- */

/* The names of `loop`, in the order of their slots. */
static const char *const LOOP[] = {"index",     "index0",   "first",    "last",  "length", "revindex",
                                   "revindex0", "previtem", "nextitem", "depth", "depth0"};

static bool make_loop(aii_trun *run, size_t n, aii_tv *loop)
{
  if (!aii_tv_map(run, loop)) return false;
  loop->type = TV_NAMESPACE;
  for (size_t i = 0; i < AII_COUNT(LOOP); i++) {
    if (!aii_tv_put(run, loop->map, aii_tv_lit(LOOP[i]), aii_tv_int(i == 9))) return false;
  }
  loop->map->values[4] = aii_tv_int((int64_t)n);
  return true;
}

static void update_loop(aii_tmap *map, const aii_tlist *list, size_t i)
{
  aii_tv none = aii_tv_undefined(aii_tv_lit("the loop's neighbour"));
  map->values[0] = aii_tv_int((int64_t)i + 1);
  map->values[1] = aii_tv_int((int64_t)i);
  map->values[2] = aii_tv_bool(i == 0);
  map->values[3] = aii_tv_bool(i + 1 == list->n);
  map->values[5] = aii_tv_int((int64_t)(list->n - i));
  map->values[6] = aii_tv_int((int64_t)(list->n - i - 1));
  map->values[7] = i > 0 ? list->items[i - 1] : none;
  map->values[8] = i + 1 < list->n ? list->items[i + 1] : none;
}

/* The items that pass the loop's own "if". */
static bool select_items(aii_trun *run, const aii_tnode *node, aii_tlist **list)
{
  aii_tscope *scope = run->scope;
  aii_tv chosen, yes;
  if (node->c == NULL) return true;
  if (!aii_tv_list(run, 0, &chosen)) return false;
  for (size_t i = 0; i < (*list)->n; i++) {
    run->scope = new_scope(run, scope);
    bool ok = run->scope != NULL && unpack(run, node->a, (*list)->items[i]) && aii_t_eval(run, node->c, &yes);
    run->scope = scope;
    if (!ok || (aii_tv_truth(yes) && !aii_tv_append(run, chosen.list, (*list)->items[i]))) return false;
  }
  *list = chosen.list;
  return true;
}

static bool for_loop(aii_trun *run, const aii_tnode *node)
{
  aii_tv v, loop;
  aii_tlist *list, fixed;
  aii_tscope *scope = run->scope;
  int flow = FLOW_ON;
  if (!aii_t_eval(run, node->b, &v) || !aii_tv_iterate(run, v, &list) || !select_items(run, node, &list)) return false;
  fixed = *list; /* the body may append to it */
  if (!make_loop(run, fixed.n, &loop)) return false;
  for (size_t i = 0; i < fixed.n && flow != FLOW_BREAK; i++) {
    run->scope = new_scope(run, scope);
    bool ok = run->scope != NULL && aii_t_step(run, 1) && aii_t_set(run, run->scope, aii_tv_lit("loop"), loop);
    if (ok) update_loop(loop.map, &fixed, i);
    ok = ok && unpack(run, node->a, fixed.items[i]) && exec(run, node->d, &flow);
    run->scope = scope;
    if (!ok) return false;
  }
  if (fixed.n > 0 || node->n_items == 0) return true;
  return exec(run, node->items[0], &flow);
}

/* ---- statements ---------------------------------------------------------------------------------------------------- */

static bool if_chain(aii_trun *run, const aii_tnode *node, int *flow)
{
  aii_tv yes;
  for (uint32_t i = 0; i + 1 < node->n_items; i += 2) {
    if (!aii_t_eval(run, node->items[i], &yes)) return false;
    if (aii_tv_truth(yes)) return exec(run, node->items[i + 1], flow);
  }
  return node->d == NULL || exec(run, node->d, flow);
}

static bool exec_one(aii_trun *run, const aii_tnode *node, int *flow)
{
  aii_tv v;
  switch (node->kind) {
    case TK_TEXT: return aii_t_emit(run, node->value.s, node->value.n);
    case TK_OUTPUT: return aii_t_eval(run, node->a, &v) && aii_tv_str(run, v, &v) && aii_t_emit(run, v.s, v.n);
    case TK_IF: return if_chain(run, node, flow);
    case TK_FOR: return for_loop(run, node);
    case TK_SET: return aii_t_eval(run, node->b, &v) && assign(run, node->a, v);
    case TK_SETBLOCK: return capture(run, node, &v) && assign(run, node->a, v);
    case TK_FILTERBLOCK: return capture(run, node, &v) && aii_tv_str(run, v, &v) && aii_t_emit(run, v.s, v.n);
    case TK_MACRO: return make_macro(run, node, &v) && aii_t_set(run, run->scope, node->value, v);
    case TK_CALLBLOCK: return call_block(run, node);
    case TK_BLOCK: return exec(run, node, flow);
    case TK_BREAK: *flow = FLOW_BREAK; return true;
    case TK_CONTINUE: *flow = FLOW_CONTINUE; return true;
    default: return aii_t_fail(run, AIINFRA_EINTERNAL, "an expression as a statement");
  }
}

/* A block; stops at break and continue. */
static bool exec(aii_trun *run, const aii_tnode *node, int *flow)
{
  if (run->depth >= AII_T_MAX_DEPTH) return aii_t_fail(run, AIINFRA_ELIMIT, "statements nested too deep");
  run->depth++;
  *flow = FLOW_ON;
  bool ok = true;
  for (uint32_t i = 0; i < node->n_items && ok && *flow == FLOW_ON; i++) {
    run->line = node->items[i]->line;
    ok = aii_t_step(run, 1) && exec_one(run, node->items[i], flow);
  }
  run->depth--;
  return ok;
}

/* ---- rendering ----------------------------------------------------------------------------------------------------- */

static bool set_json(aii_trun *run, const char *name, const char *json)
{
  aii_tv v = aii_tv_none();
  if (json != NULL && !aii_tv_from_json(run, json, name, &v)) return false;
  if (json != NULL && v.type != TV_LIST && v.type != TV_NONE) {
    return aii_t_fail(run, AIINFRA_EINVAL, "%s: expected an array", name);
  }
  return aii_t_set(run, run->scope, aii_tv_lit(name), v);
}

static bool set_globals(aii_trun *run, const aii_template_vars *vars)
{
  aii_tv extra, v;
  const char *inputs[] = {vars->messages_json, vars->tools_json, vars->extra_json};
  run->max_steps = AII_T_MAX_STEPS;
  for (size_t i = 0; i < AII_COUNT(inputs); i++) {
    if (inputs[i] != NULL) run->max_steps += AII_T_STEPS_PER_BYTE * (uint64_t)strlen(inputs[i]);
  }
  if (!set_json(run, "messages", vars->messages_json != NULL ? vars->messages_json : "[]")) return false;
  if (!set_json(run, "tools", vars->tools_json)) return false;
  v = aii_tv_lit(vars->bos_token != NULL ? vars->bos_token : "");
  if (!aii_t_set(run, run->scope, aii_tv_lit("bos_token"), v)) return false;
  v = aii_tv_lit(vars->eos_token != NULL ? vars->eos_token : "");
  if (!aii_t_set(run, run->scope, aii_tv_lit("eos_token"), v)) return false;
  v = aii_tv_bool(vars->add_generation_prompt);
  if (!aii_t_set(run, run->scope, aii_tv_lit("add_generation_prompt"), v)) return false;
  if (vars->extra_json == NULL) return true;
  if (!aii_tv_from_json(run, vars->extra_json, "extra variables", &extra)) return false;
  if (extra.type != TV_MAP) return aii_t_fail(run, AIINFRA_EINVAL, "extra variables: expected an object");
  for (size_t i = 0; i < extra.map->n; i++) {
    if (!aii_t_set(run, run->scope, extra.map->keys[i], extra.map->values[i])) return false;
  }
  return true;
}

aiinfra_status aii_template_render(const aii_template *tmpl, const aii_template_vars *vars, aii_buf *out,
                                   aiinfra_error *err)
{
  aii_trun run = {
      .mem = tmpl->mem, .rc = AIINFRA_OK, .err = err, .line = 1, .now_s = vars->now_s, .guard = vars->guard};
  aii_buf text;
  int flow = FLOW_ON;
  aii_arena_init(&run.arena, tmpl->mem, AII_T_MAX_ARENA);
  aii_buf_init(&text, tmpl->mem, AII_T_MAX_OUTPUT);
  run.out = &text;
  run.scope = new_scope(&run, NULL);
  if (run.scope != NULL && set_globals(&run, vars)) (void)exec(&run, tmpl->root, &flow);
  if (run.rc == AIINFRA_OK) {
    aii_buf_add(out, aii_buf_cstr(&text), text.len);
    if (out->failed)
      run.rc = aii_fail(err, out->over ? AIINFRA_ELIMIT : AIINFRA_ENOMEM, "no room for the rendered text");
  }
  aii_buf_free(&text);
  aii_arena_free(&run.arena);
  return run.rc;
}
