/* gram_tools.c - the grammar of a model's tool calls, from OpenAI's tools array and the format's row.
 *
 *   object: open {"name": "x", "arguments": {...}} tail        list: open [{...}, {...}] tail
 *   named:  open x name_end {...} tail
 *
 * one or, where the format knows a text between calls, more. The arguments obey the tool's own schema. choice "auto"
 * waits for the opening text; "required" or a tool's name begins at once.
 */
#include <stdio.h>

#include "lib/json/json.h"
#include "src/text/gram_impl.h"
#include "src/text/output_impl.h"

static const char *or_nothing(const char *text)
{
  return text != NULL ? text : "";
}

/* What a call says of one tool, before `next`. */
static uint32_t call_text(aii_gb *b, const aii_out_format *f, const char *name, uint32_t arguments, uint32_t next)
{
  if (f->grammar == OG_NAMED) return aii_gb_str(b, name, aii_gb_str(b, f->name_end, aii_gb_call(b, arguments, next)));
  uint32_t at = aii_gb_call(b, arguments, aii_gb_space(b, aii_gb_str(b, "}", next)));
  at = aii_gb_str(b, "\":", aii_gb_space(b, at));
  at = aii_gb_str(b, f->args_key != NULL ? f->args_key : "arguments", at);
  at = aii_gb_str(b, ",", aii_gb_space(b, aii_gb_str(b, "\"", at)));
  aii_buf text;
  aii_buf_init(&text, b->g->mem, 0);
  aii_buf_json(&text, name, strlen(name));
  if (text.failed) (void)aii_gb_fail(b, AIINFRA_ENOMEM, "no memory");
  at = aii_gb_bytes(b, aii_buf_cstr(&text), text.len, at);
  aii_buf_free(&text);
  return aii_gb_str(b, "{", aii_gb_space(b, aii_gb_str(b, "\"name\":", aii_gb_space(b, at))));
}

/* A call of one tool; 0 with the failure set. */
static uint32_t one_call(aii_gb *b, const aii_out_format *f, const json_t *tool, size_t nth, const char *only,
                         uint32_t next, bool *used)
{
  char path[64];
  const char *name = NULL;
  json_t *function = NULL, *parameters = NULL;
  snprintf(path, sizeof path, "tools[%zu]", nth);
  *used = false;
  if (aii_json_get_object(tool, path, "function", true, &function, b->err) != AIINFRA_OK ||
      aii_json_get_str(function, path, "name", true, &name, b->err) != AIINFRA_OK ||
      aii_json_get_object(function, path, "parameters", false, &parameters, b->err) != AIINFRA_OK) {
    b->rc = AIINFRA_EINVAL;
    return 0;
  }
  if (only != NULL && strcmp(only, name) != 0) return next;
  *used = true;
  uint32_t rule = parameters != NULL ? aii_gj_schema(b, parameters, name, true) : aii_gj_object(b, 0);
  return call_text(b, f, name, rule, next);
}

/* More of the same: `call` again behind `between`, or what follows. */
static uint32_t more_calls(aii_gb *b, uint32_t call, const char *between, uint32_t next)
{
  uint32_t more = aii_gb_split(b, next, next), again = aii_gb_str(b, between, aii_gb_call(b, call, more));
  if (b->rc == AIINFRA_OK) b->g->nodes[more].a = again;
  return more;
}

static void calls(aii_gb *b, const aii_out_format *f, const json_t *tools, const char *only)
{
  uint32_t root = aii_gb_rule(b), call = aii_gb_rule(b), all = AII_G_NONE;
  bool used, list = f->grammar == OG_LIST;
  const char *open = f->bare ? "" : f->open[0];
  uint32_t end = list ? 0 : aii_gb_str(b, or_nothing(f->tail), 0);
  for (size_t i = 0; i < json_array_size(tools) && b->rc == AIINFRA_OK; i++) {
    uint32_t part = one_call(b, f, json_array_get(tools, i), i, only, end, &used);
    if (used) all = all == AII_G_NONE ? part : aii_gb_split(b, part, all);
  }
  if (all == AII_G_NONE) {
    (void)aii_gb_fail(b, AIINFRA_EINVAL,
                      only != NULL ? "tool_choice names a tool that is not there: %s" : "there are no tools%s",
                      only != NULL ? only : "");
  }
  if (list) {
    aii_gb_define(b, call, all);
    uint32_t tail = aii_gb_str(b, "]", aii_gb_str(b, or_nothing(f->tail), 0));
    aii_gb_define(b, root,
                  aii_gb_str(b, open, aii_gb_str(b, "[", aii_gb_call(b, call, more_calls(b, call, ", ", tail)))));
    return;
  }
  aii_gb_define(b, call, aii_gb_str(b, open, aii_gb_str(b, or_nothing(f->lead), all)));
  aii_gb_define(b, root, aii_gb_call(b, call, f->between != NULL ? more_calls(b, call, f->between, 0) : 0));
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

aiinfra_status aii_grammar_from_tools(aii_mem *mem, const char *tools_json, const char *choice, const char *format,
                                      aii_grammar **out, aiinfra_error *err)
{
  json_t *tools = NULL, *parsed = NULL;
  const char *only = NULL;
  aii_gb b;
  *out = NULL;
  if (choice == NULL) choice = "auto";
  bool lazy = strcmp(choice, "auto") == 0;
  const aii_out_format *f = format != NULL ? aii_output_format(format) : NULL;
  if (!aii_grammar_knows(f, lazy))
    return aii_fail(err, AIINFRA_ENOTSUP, "there is no grammar for tool calls of the format \"%s\"",
                    format != NULL ? format : "");
  if (strcmp(choice, "none") == 0) return aii_fail(err, AIINFRA_EINVAL, "tool_choice \"none\" needs no grammar");
  aiinfra_status rc = aii_json_parse(tools_json, strlen(tools_json), "tools", 0, &tools, err);
  if (rc == AIINFRA_OK && !json_is_array(tools)) rc = aii_fail(err, AIINFRA_EINVAL, "tools: expected an array");
  if (rc == AIINFRA_OK && !lazy && strcmp(choice, "required") != 0) rc = choice_of(choice, &parsed, &only, err);
  if (rc == AIINFRA_OK) {
    if (aii_gb_init(&b, mem, err) == AIINFRA_OK) calls(&b, f, tools, only);
    rc = aii_gb_finish(&b, lazy ? f->open[0] : NULL, out);
    if (rc == AIINFRA_OK) (*out)->format = f;
  }
  json_decref(parsed);
  json_decref(tools);
  return rc;
}

bool aii_grammar_is_lazy(const aii_grammar *grammar)
{
  return grammar->trigger != NULL;
}
