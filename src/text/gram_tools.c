/* gram_tools.c - the grammar of a model's tool calls, from OpenAI's tools array.
 *
 * hermes: <tool_call>\n{"name": "x", "arguments": {...}}\n</tool_call>, one or more, a newline between. The arguments
 * obey the tool's own schema. choice "auto" waits for the trigger; "required" or a tool's name begins at once.
 */
#include <stdio.h>

#include "lib/json/json.h"
#include "src/text/gram_impl.h"

static const char TRIGGER[] = "<tool_call>";

/* {"name": "x", "arguments": ...} of one tool; 0 with the failure set. */
static uint32_t one_call(aii_gb *b, const json_t *tool, size_t nth, const char *only, uint32_t next, bool *used)
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
  uint32_t at = aii_gb_call(b, rule, aii_gb_space(b, aii_gb_str(b, "}", next)));
  at = aii_gb_str(b, ",", aii_gb_space(b, aii_gb_str(b, "\"arguments\":", aii_gb_space(b, at))));
  aii_buf text;
  aii_buf_init(&text, b->g->mem, 0);
  aii_buf_json(&text, name, strlen(name));
  if (text.failed) (void)aii_gb_fail(b, AIINFRA_ENOMEM, "no memory");
  at = aii_gb_bytes(b, aii_buf_cstr(&text), text.len, at);
  aii_buf_free(&text);
  return aii_gb_str(b, "{", aii_gb_space(b, aii_gb_str(b, "\"name\":", aii_gb_space(b, at))));
}

static void hermes(aii_gb *b, const json_t *tools, const char *only)
{
  uint32_t root = aii_gb_rule(b), call = aii_gb_rule(b), all = AII_G_NONE;
  uint32_t end = aii_gb_str(b, "\n</tool_call>", 0);
  bool used;
  for (size_t i = 0; i < json_array_size(tools) && b->rc == AIINFRA_OK; i++) {
    uint32_t part = one_call(b, json_array_get(tools, i), i, only, end, &used);
    if (used) all = all == AII_G_NONE ? part : aii_gb_split(b, part, all);
  }
  if (all == AII_G_NONE) {
    (void)aii_gb_fail(b, AIINFRA_EINVAL,
                      only != NULL ? "tool_choice names a tool that is not there: %s" : "there are no tools%s",
                      only != NULL ? only : "");
  }
  aii_gb_define(b, call, aii_gb_str(b, TRIGGER, aii_gb_str(b, "\n", all)));
  uint32_t more = aii_gb_split(b, 0, 0), again = aii_gb_str(b, "\n", aii_gb_call(b, call, more));
  if (b->rc == AIINFRA_OK) b->g->nodes[more].a = again;
  aii_gb_define(b, root, aii_gb_call(b, call, more));
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

aiinfra_status aii_grammar_from_tools(aii_mem *mem, const char *tools_json, const char *choice, const char *syntax,
                                      aii_grammar **out, aiinfra_error *err)
{
  json_t *tools = NULL, *parsed = NULL;
  const char *only = NULL;
  aii_gb b;
  *out = NULL;
  if (choice == NULL) choice = "auto";
  if (syntax == NULL || strcmp(syntax, "hermes") != 0) {
    return aii_fail(err, AIINFRA_ENOTSUP, "the tool syntax \"%s\" is not known", syntax != NULL ? syntax : "");
  }
  if (strcmp(choice, "none") == 0) return aii_fail(err, AIINFRA_EINVAL, "tool_choice \"none\" needs no grammar");
  bool lazy = strcmp(choice, "auto") == 0;
  aiinfra_status rc = aii_json_parse(tools_json, strlen(tools_json), "tools", 0, &tools, err);
  if (rc == AIINFRA_OK && !json_is_array(tools)) rc = aii_fail(err, AIINFRA_EINVAL, "tools: expected an array");
  if (rc == AIINFRA_OK && !lazy && strcmp(choice, "required") != 0) rc = choice_of(choice, &parsed, &only, err);
  if (rc == AIINFRA_OK) {
    if (aii_gb_init(&b, mem, err) == AIINFRA_OK) hermes(&b, tools, only);
    rc = aii_gb_finish(&b, lazy ? TRIGGER : NULL, out);
  }
  json_decref(parsed);
  json_decref(tools);
  return rc;
}
