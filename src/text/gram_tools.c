/* gram_tools.c - the grammar of a model's tool calls, from OpenAI's tools array and the format's row.
 *
 *   object: open lead {"name": "x", "arguments": {...}} tail
 *   list:   open lead [{...}, {...}] tail
 *   named:  open x name_end lead {...} tail
 *   tags:   open x name_end <a tag for each argument> end tail     python: open [x(a=1), y()] end
 *   harmony: a message's header with the name in it, {...}
 *
 * The arguments obey the tool's own schema. "required" or a tool's name begins at once, or when the reasoning that the
 * prompt has opened ends. "auto" waits for the text that opens a call (gram_wait.c). What it lets through, the parser of
 * the format finds.
 */
#include <stdio.h>

#include "lib/json/json.h"
#include "src/text/gram_impl.h"
#include "src/text/output_impl.h"

enum { MAX_CALL_NAME = 128, MAX_ID = 40 };

typedef struct maker {
  aii_gb *b;
  const aii_out_format *f;
  const json_t *tools;
  const char *only; /* NULL: all tools */
} maker;

static uint32_t text(const maker *m, const char *s, uint32_t next)
{
  return s != NULL ? aii_gb_str(m->b, s, next) : next;
}

/* ---- tools ------------------------------------------------------------------------------------------------------------ */

typedef struct tool {
  const char *name;
  const json_t *parameters; /* NULL: any */
} tool;

/* false: it is not asked for, or the failure is set. */
static bool read_tool(const maker *m, size_t i, tool *out)
{
  char path[64];
  json_t *function = NULL, *parameters = NULL;
  aii_gb *b = m->b;
  (void)snprintf(path, sizeof path, "tools[%zu]", i);
  if (aii_json_get_object(json_array_get(m->tools, i), path, "function", true, &function, b->err) != AIINFRA_OK ||
      aii_json_get_str(function, path, "name", true, &out->name, b->err) != AIINFRA_OK ||
      aii_json_get_object(function, path, "parameters", false, &parameters, b->err) != AIINFRA_OK) {
    b->rc = AIINFRA_EINVAL;
    return false;
  }
  out->parameters = parameters;
  return m->only == NULL || strcmp(m->only, out->name) == 0;
}

/* A name that stands between marks instead of quotes. */
static bool check_name(const maker *m, const char *name)
{
  size_t n = strlen(name);
  bool good = n > 0 && n <= MAX_CALL_NAME;
  for (size_t i = 0; i < n; i++)
    good &= (uint8_t)name[i] > ' ' && (uint8_t)name[i] != 0x7F && strchr("\"'`<>(){}[]=,|", name[i]) == NULL;
  if (m->f->grammar == OG_PYTHON) good &= n < 5 || strcmp(name + n - 5, ".call") != 0;
  if (m->f->content_name != NULL) good &= strcmp(name, m->f->content_name) != 0;
  if (!good)
    (void)aii_gb_fail(m->b, AIINFRA_ENOTSUP, "the name \"%.64s\" cannot be written in calls of this model", name);
  return good;
}

/* ---- one call --------------------------------------------------------------------------------------------------------- */

static uint32_t quoted(const maker *m, const char *s, uint32_t next)
{
  aii_buf json;
  aii_buf_init(&json, m->b->g->mem, 0);
  aii_buf_json(&json, s, strlen(s));
  if (json.failed) (void)aii_gb_fail(m->b, AIINFRA_ENOMEM, "no memory");
  next = aii_gb_bytes(m->b, aii_buf_cstr(&json), json.len, next);
  aii_buf_free(&json);
  return next;
}

static uint32_t key(const maker *m, const char *s, uint32_t value)
{
  return quoted(m, s, aii_gb_str(m->b, ":", aii_gb_space(m->b, value)));
}

static uint32_t digits(const maker *m, uint32_t next)
{
  uint32_t more = aii_gb_split(m->b, aii_gb_chars(m->b, "09", next), next);
  return aii_gb_chars(m->b, "09", more);
}

static uint32_t object_call(const maker *m, const tool *t, uint32_t rule, uint32_t next)
{
  aii_gb *b = m->b;
  const aii_out_format *f = m->f;
  uint32_t at = aii_gb_call(b, rule, aii_gb_space(b, aii_gb_str(b, "}", next)));
  if (f->key_is_name) return aii_gb_str(b, "{", aii_gb_space(b, key(m, t->name, at)));
  at = key(m, f->args_key != NULL ? f->args_key : "arguments", at);
  at = quoted(m, t->name, aii_gb_str(b, ",", aii_gb_space(b, at)));
  at = key(m, f->name_key != NULL ? f->name_key : "name", at);
  if (f->id_key != NULL) {
    at = aii_gb_str(b, "\",", aii_gb_space(b, at));
    at = key(m, f->id_key, aii_gb_str(b, "\"", digits(m, at)));
  }
  return aii_gb_str(b, "{", aii_gb_space(b, at));
}

static uint32_t named_call(const maker *m, const tool *t, uint32_t rule, uint32_t next)
{
  aii_gb *b = m->b;
  const aii_out_format *f = m->f;
  uint32_t at = text(m, f->lead, aii_gb_call(b, rule, next));
  bool line = f->form == OF_TAGS && strcmp(f->name_end, "\n") == 0; /* tags may begin with a line's end anyway */
  if (!line) at = text(m, f->name_end, at);
  if (f->id_prefix != NULL) at = aii_gb_str(b, ":", digits(m, at));
  at = text(m, f->name_before, text(m, f->id_prefix, aii_gb_str(b, t->name, at)));
  if (f->id_before == NULL) return at;
  at = aii_gb_str(b, f->id_before, at); /* behind an id */
  uint32_t id = aii_gb_rule(b);
  aii_gb_define(b, id, aii_gb_chars(b, "azAZ09--__", 0));
  return aii_gb_repeat_call(b, id, 1, MAX_ID, at);
}

static uint32_t arguments(const maker *m, const tool *t)
{
  aii_gb *b = m->b;
  if (m->f->form == OF_TAGS || m->f->grammar == OG_PYTHON) return aii_gj_arguments(b, t->parameters, t->name, m->f);
  return t->parameters != NULL ? aii_gj_schema(b, t->parameters, t->name, true) : aii_gj_object(b, 0);
}

/* A rule: a call of any of the tools, from its name or object on. */
static uint32_t any_call(const maker *m, const char *end)
{
  aii_gb *b = m->b;
  bool in_object = m->f->grammar == OG_OBJECT || m->f->grammar == OG_LIST;
  uint32_t rule = aii_gb_rule(b), all = AII_G_NONE;
  for (size_t i = 0; i < json_array_size(m->tools) && b->rc == AIINFRA_OK; i++) {
    tool t;
    if (!read_tool(m, i, &t) || (!in_object && !check_name(m, t.name))) continue;
    uint32_t args = arguments(m, &t), next = text(m, end, 0);
    all = aii_gb_either(b, in_object ? object_call(m, &t, args, next) : named_call(m, &t, args, next), all);
  }
  if (all == AII_G_NONE)
    (void)aii_gb_fail(b, AIINFRA_EINVAL,
                      m->only != NULL ? "tool_choice names a tool that is not there: %s" : "there are no tools%s",
                      m->only != NULL ? m->only : "");
  aii_gb_define(b, rule, all);
  return rule;
}

/* ---- all calls ----------------------------------------------------------------------------------------------------------- */

/* More of the same: `call` again behind `between`, or what follows. */
static uint32_t more_calls(const maker *m, uint32_t call, const char *between, uint32_t next)
{
  aii_gb *b = m->b;
  if (between == NULL) return next;
  uint32_t more = aii_gb_split(b, next, next), again = aii_gb_str(b, between, aii_gb_call(b, call, more));
  if (b->rc == AIINFRA_OK) b->g->nodes[more].a = again;
  return more;
}

/* Between the items of a list: nothing, a space, or a line's end and some spaces. */
static uint32_t gap(const maker *m, uint32_t next)
{
  aii_gb *b = m->b;
  uint32_t spaces = next;
  for (int i = 0; i < 8; i++) spaces = aii_gb_split(b, aii_gb_str(b, " ", spaces), next);
  return aii_gb_split(b, aii_gb_str(b, "\n", spaces), aii_gb_space(b, next));
}

static uint32_t list(const maker *m)
{
  aii_gb *b = m->b;
  uint32_t call = any_call(m, NULL), items = aii_gb_rule(b);
  uint32_t end = gap(m, aii_gb_str(b, "]", text(m, m->f->tail, text(m, m->f->end, 0))));
  uint32_t more = aii_gb_split(b, end, end), again = aii_gb_str(b, ",", gap(m, aii_gb_call(b, call, more)));
  if (b->rc == AIINFRA_OK) b->g->nodes[more].a = again;
  aii_gb_define(b, items, aii_gb_str(b, "[", gap(m, aii_gb_call(b, call, more))));
  return text(m, m->f->bare ? NULL : m->f->open[0], text(m, m->f->lead, aii_gb_call(b, items, 0)));
}

/* The recipient may stand in the header's role or in its channel; the prompt may have begun the header. */
static uint32_t harmony(const maker *m)
{
  aii_gb *b = m->b;
  uint32_t all = AII_G_NONE;
  for (size_t i = 0; i < json_array_size(m->tools) && b->rc == AIINFRA_OK; i++) {
    tool t;
    if (!read_tool(m, i, &t) || !check_name(m, t.name)) continue;
    uint32_t args = aii_gb_str(b, "<|message|>", aii_gb_call(b, arguments(m, &t), aii_gb_maybe(b, "<|call|>", 0)));
    uint32_t constrained = aii_gb_str(b, "<|constrain|>json", args), json = aii_gb_str(b, " json", args);
    uint32_t type = aii_gb_split(b, aii_gb_split(b, aii_gb_space(b, constrained), json), args);
    uint32_t role =
        aii_gb_str(b, " to=functions.", aii_gb_str(b, t.name, aii_gb_str(b, "<|channel|>commentary", type)));
    uint32_t channel = aii_gb_str(b, "<|channel|>commentary to=functions.", aii_gb_str(b, t.name, type));
    all = aii_gb_either(b, aii_gb_split(b, aii_gb_maybe(b, "<|start|>assistant", role), channel), all);
  }
  if (all == AII_G_NONE) (void)any_call(m, NULL); /* says why */
  return all;
}

/* begun: the prompt ends with the opening of the first. Under "auto" that may be text, and a call come later. */
static uint32_t calls(const maker *m, bool begun, bool lazy)
{
  aii_gb *b = m->b;
  const aii_out_format *f = m->f;
  if (f->grammar == OG_HARMONY) return harmony(m);
  if (f->grammar == OG_LIST || f->grammar == OG_PYTHON) return list(m);
  uint32_t body = any_call(m, f->tail), call = aii_gb_rule(b);
  bool lead = f->grammar == OG_OBJECT;
  uint32_t end = aii_gb_maybe(b, f->last, 0), more = more_calls(m, call, f->between, end);
  aii_gb_define(b, call, text(m, f->bare ? NULL : f->open[0], text(m, lead ? f->lead : NULL, aii_gb_call(b, body, 0))));
  uint32_t whole = aii_gb_call(b, call, more), rest = begun ? aii_gb_call(b, body, more) : whole;
  return lazy ? aii_gb_split(b, rest, whole) : rest;
}

/* ---- what is waited for --------------------------------------------------------------------------------------------------- */

/* The opening with a tool's name, for formats whose opening alone is a common text. */
static void add_named_triggers(const maker *m, bool begun)
{
  const aii_out_format *f = m->f;
  for (size_t i = 0; i < json_array_size(m->tools) && m->b->rc == AIINFRA_OK; i++) {
    tool t;
    aii_buf trigger;
    if (!read_tool(m, i, &t)) continue;
    aii_buf_init(&trigger, m->b->g->mem, 0);
    if (f->bare) {
      aii_buf_str(&trigger, "{\"name\": ");
      aii_buf_json(&trigger, t.name, strlen(t.name));
    } else {
      aii_buf_fmt(&trigger, "%s%s%s", f->open[0], t.name, f->name_end);
    }
    if (trigger.failed) (void)aii_gb_fail(m->b, AIINFRA_ENOMEM, "no memory");
    aii_gw_add(m->b, f->bare ? AII_GW_START : AII_GW_TEXT, aii_buf_cstr(&trigger), GW_TRIGGER);
    if (!f->bare && begun) aii_gw_add(m->b, AII_GW_START, aii_buf_cstr(&trigger) + strlen(f->open[0]), GW_TRIGGER);
    aii_buf_free(&trigger);
  }
}

static void add_triggers(const maker *m, uint32_t root, bool begun)
{
  const aii_out_format *f = m->f;
  if (f->grammar == OG_HARMONY) {
    aii_gw_add(m->b, AII_GW_TEXT, "<|channel|>commentary to=functions.", GW_TRIGGER);
    aii_gw_add(m->b, AII_GW_TEXT, "<|start|>assistant to=functions.", GW_TRIGGER);
    aii_gw_add(m->b, AII_GW_START, " to=functions.", GW_TRIGGER);
  } else if (f->bare || f->content_name != NULL) {
    add_named_triggers(m, begun);
  } else {
    aii_gw_add(m->b, root, f->open[0], GW_TRIGGER);
  }
}

/* Where a call in the reasoning is none, the grammar waits for the reasoning's end first. */
static void wait_for_call(const maker *m, const aii_output_syntax *syntax, bool reasoning, bool begun)
{
  aii_grammar *g = m->b->g;
  g->lazy = true;
  add_triggers(m, AII_GW_TEXT, begun);
  g->wait_at = AII_GW_START;
  if (syntax->think == NULL || m->f->in_reasoning) return;
  aii_gw_add(m->b, AII_GW_TEXT, syntax->think, GW_THINK);
  aii_gw_add(m->b, AII_GW_REASONING, syntax->think_end, GW_THINK_END);
  if (reasoning) g->wait_at = AII_GW_REASONING;
}

static void wait_for_reasoning(const maker *m, const aii_output_syntax *syntax)
{
  aii_gw_add(m->b, AII_GW_REASONING, syntax->think_end, GW_THINK_END);
  if (m->f->in_reasoning) add_triggers(m, AII_GW_REASONING, false);
  m->b->g->wait_at = AII_GW_REASONING;
}

/* ---- all -------------------------------------------------------------------------------------------------------------------- */

static void make(const maker *m, const aii_tool_grammar_opts *opts, bool lazy)
{
  aii_gb *b = m->b;
  const aii_out_format *f = m->f;
  uint32_t root = aii_gb_rule(b);
  bool reasoning = aii_out_ends_with(opts->prompt, opts->n_prompt, opts->syntax.think);
  bool begun = f->content_name != NULL && aii_out_ends_with(opts->prompt, opts->n_prompt, f->open[0]);
  if (b->rc != AIINFRA_OK) return;
  b->g->syntax = opts->syntax;
  b->words = f->grammar == OG_PYTHON;
  b->quote = f->quote;
  b->raw = b->bare_keys = f->quote != NULL;
  b->newline = f->lines || f->nested || f->quote != NULL;
  if (f->form == OF_TAGS) b->avoid = f->nested ? f->param[0] : f->value_end[0];
  if (f->rewrite != NULL && !f->bare) b->never = f->end, b->avoid = f->end[0]; /* the parser first looks for the end */
  uint32_t all = calls(m, begun, lazy);
  if (!lazy && !begun) all = text(m, f->first, all);
  if (!lazy && reasoning) all = aii_gb_maybe(b, "\n\n", aii_gb_maybe(b, "\n", all)); /* behind the reasoning */
  aii_gb_define(b, root, all);
  if (b->rc != AIINFRA_OK) return;
  if (lazy) wait_for_call(m, &opts->syntax, reasoning, begun);
  else if (reasoning) wait_for_reasoning(m, &opts->syntax);
}

/* The tool that {"type": "function", "function": {"name": ...}} names. */
static aiinfra_status choice_of(const char *choice, json_t **parsed, const char **only, aiinfra_error *err)
{
  json_t *function = NULL;
  *only = choice;
  if (choice[0] != '{') return AIINFRA_OK;
  aiinfra_status rc = aii_json_parse(choice, strlen(choice), "tool_choice", 8, parsed, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_object(*parsed, "tool_choice", "function", true, &function, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_str(function, "tool_choice.function", "name", true, only, err);
  return rc;
}

aiinfra_status aii_grammar_from_tools(aii_mem *mem, const aii_tool_grammar_opts *opts, aii_grammar **out,
                                      aiinfra_error *err)
{
  json_t *tools = NULL, *parsed = NULL;
  const char *only = NULL, *choice = opts->choice != NULL ? opts->choice : "auto";
  bool lazy = strcmp(choice, "auto") == 0;
  aii_gb b;
  *out = NULL;
  if (!aii_grammar_knows(opts->syntax.format, lazy))
    return aii_fail(err, AIINFRA_ENOTSUP, "there is no grammar for such tool calls of the format \"%s\"",
                    opts->syntax.format != NULL ? aii_output_format_name(opts->syntax.format) : "");
  if (strcmp(choice, "none") == 0) return aii_fail(err, AIINFRA_EINVAL, "tool_choice \"none\" needs no grammar");
  aiinfra_status rc = aii_json_parse(opts->tools_json, strlen(opts->tools_json), "tools", 0, &tools, err);
  if (rc == AIINFRA_OK && !json_is_array(tools)) rc = aii_fail(err, AIINFRA_EINVAL, "tools: expected an array");
  if (rc == AIINFRA_OK && !lazy && strcmp(choice, "required") != 0) rc = choice_of(choice, &parsed, &only, err);
  if (rc == AIINFRA_OK) {
    maker m = {&b, opts->syntax.format, tools, only};
    if (aii_gb_init(&b, mem, err) == AIINFRA_OK) make(&m, opts, lazy);
    rc = aii_gb_finish(&b, out);
  }
  json_decref(parsed);
  json_decref(tools);
  return rc;
}

bool aii_grammar_waits(const aii_grammar *grammar)
{
  return grammar->n_waits > 0;
}
