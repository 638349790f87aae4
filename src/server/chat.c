/* chat.c - what only chat requests have: messages, tools, tool_choice, response_format, chat_template_kwargs.
 *
 * Messages go to the model's template as they came, but for what templates do not know: content given as parts becomes
 * one string, and the role "developer" becomes "system". Pictures and sound are refused. Any thread.
 */
#include "src/server/server.h"

static aiinfra_status dump(const json_t *value, aii_buf *out, const char **text, aiinfra_error *err)
{
  if (!aii_json_dump(value, out)) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a copy of the request");
  *text = aii_buf_cstr(out);
  return AIINFRA_OK;
}

/* ---- messages ------------------------------------------------------------------------------------------------------- */

static aiinfra_status add_part(const json_t *part, size_t index, aii_buf *text, aiinfra_error *err)
{
  const json_t *type = json_object_get(part, "type"), *words = json_object_get(part, "text");
  if (!json_is_string(type))
    return aii_fail(err, AIINFRA_EINVAL, "messages[%zu].content: each part needs a type", index);
  if (strcmp(json_string_value(type), "text") != 0)
    return aii_fail(err, AIINFRA_ENOTSUP, "messages[%zu].content: parts of type \"%.32s\" are not supported, only text",
                    index, json_string_value(type));
  if (!json_is_string(words))
    return aii_fail(err, AIINFRA_EINVAL, "messages[%zu].content: a text part needs a string text", index);
  aii_buf_add(text, json_string_value(words), json_string_length(words));
  return AIINFRA_OK;
}

/* Parts to one string. */
static aiinfra_status flatten(aii_params *p, json_t *message, const json_t *parts, size_t index, aiinfra_error *err)
{
  aii_buf text;
  aiinfra_status rc = AIINFRA_OK;
  aii_buf_init(&text, p->mem, 0);
  for (size_t i = 0; rc == AIINFRA_OK && i < json_array_size(parts); i++)
    rc = add_part(json_array_get(parts, i), index, &text, err);
  if (rc == AIINFRA_OK &&
      (text.failed || json_object_set_new(message, "content", json_stringn(aii_buf_cstr(&text), text.len)) != 0))
    rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for a message");
  aii_buf_free(&text);
  return rc;
}

static bool is_role(const char *role)
{
  static const char *const roles[] = {"system", "developer", "user", "assistant", "tool", "function"};
  for (size_t i = 0; i < AII_COUNT(roles); i++)
    if (strcmp(role, roles[i]) == 0) return true;
  return false;
}

static aiinfra_status check_role(json_t *message, size_t index, aiinfra_error *err)
{
  const json_t *role = json_object_get(message, "role");
  if (!json_is_string(role))
    return aii_fail(err, AIINFRA_EINVAL, "messages[%zu].role: expected a string, found %s", index, aii_json_type(role));
  if (!is_role(json_string_value(role)))
    return aii_fail(err, AIINFRA_EINVAL, "messages[%zu].role: \"%.32s\" is no role", index, json_string_value(role));
  if (strcmp(json_string_value(role), "developer") == 0 &&
      json_object_set_new(message, "role", json_string("system")) != 0)
    return aii_fail(err, AIINFRA_ENOMEM, "no memory for a message");
  return AIINFRA_OK;
}

/* Clients send the reasoning of earlier turns by one name, templates know it by two. Beside text some refuse the
 * second. */
static aiinfra_status name_reasoning(json_t *message, aiinfra_error *err)
{
  json_t *reasoning = json_object_get(message, "reasoning_content"), *content = json_object_get(message, "content");
  if (!json_is_string(reasoning) || json_string_length(content) > 0 || json_object_get(message, "thinking") != NULL)
    return AIINFRA_OK;
  return json_object_set(message, "thinking", reasoning) == 0
             ? AIINFRA_OK
             : aii_fail(err, AIINFRA_ENOMEM, "no memory for a message");
}

static aiinfra_status check_message(aii_params *p, json_t *message, size_t index, aiinfra_error *err)
{
  if (!json_is_object(message))
    return aii_fail(err, AIINFRA_EINVAL, "messages[%zu]: expected an object, found %s", index, aii_json_type(message));
  aiinfra_status rc = check_role(message, index, err);
  const json_t *content = json_object_get(message, "content");
  bool parts = json_is_array(content);
  if (rc == AIINFRA_OK && parts) rc = flatten(p, message, content, index, err);
  if (rc == AIINFRA_OK) rc = name_reasoning(message, err);
  if (rc != AIINFRA_OK || parts) return rc;
  if (json_is_string(content)) return AIINFRA_OK;
  bool assistant = strcmp(json_string_value(json_object_get(message, "role")), "assistant") == 0;
  if (assistant && (content == NULL || json_is_null(content))) return AIINFRA_OK;
  return aii_fail(err, AIINFRA_EINVAL, "messages[%zu].content: expected a string or an array of parts, found %s", index,
                  aii_json_type(content));
}

static aiinfra_status read_messages(aii_params *p, aiinfra_error *err)
{
  json_t *list = NULL;
  p->field = "messages";
  aiinfra_status rc = aii_json_get_array(p->root, "", p->field, true, &list, err);
  if (rc == AIINFRA_OK && json_array_size(list) == 0) rc = aii_fail(err, AIINFRA_EINVAL, "messages: is empty");
  for (size_t i = 0; rc == AIINFRA_OK && i < json_array_size(list); i++)
    rc = check_message(p, json_array_get(list, i), i, err);
  return rc == AIINFRA_OK ? dump(list, &p->messages, &p->opts.messages_json, err) : rc;
}

/* ---- tools ---------------------------------------------------------------------------------------------------------- */

static aiinfra_status check_tool(const json_t *tool, size_t index, aiinfra_error *err)
{
  const json_t *type = json_object_get(tool, "type");
  const json_t *name = json_object_get(json_object_get(tool, "function"), "name");
  if (json_is_string(type) && strcmp(json_string_value(type), "function") != 0)
    return aii_fail(err, AIINFRA_ENOTSUP, "tools[%zu].type: only \"function\" is supported", index);
  if (!json_is_string(name))
    return aii_fail(err, AIINFRA_EINVAL, "tools[%zu].function.name: expected a string, found %s", index,
                    aii_json_type(name));
  return AIINFRA_OK;
}

static aiinfra_status read_tools(aii_params *p, aiinfra_error *err)
{
  json_t *list = NULL;
  p->field = "tools";
  aiinfra_status rc = aii_json_get_array(p->root, "", p->field, false, &list, err);
  if (rc != AIINFRA_OK || json_array_size(list) == 0) return rc;
  for (size_t i = 0; rc == AIINFRA_OK && i < json_array_size(list); i++)
    rc = check_tool(json_array_get(list, i), i, err);
  return rc == AIINFRA_OK ? dump(list, &p->tools, &p->opts.tools_json, err) : rc;
}

static bool is_tool(const aii_params *p, const char *name)
{
  const json_t *list = json_object_get(p->root, "tools");
  for (size_t i = 0; i < json_array_size(list); i++) {
    const json_t *tool = json_object_get(json_array_get(list, i), "function");
    const char *its = json_string_value(json_object_get(tool, "name"));
    if (its != NULL && strcmp(its, name) == 0) return true;
  }
  return false;
}

static aiinfra_status read_tool_choice(aii_params *p, aiinfra_error *err)
{
  p->field = "tool_choice";
  const json_t *choice = json_object_get(p->root, p->field);
  if (choice == NULL || json_is_null(choice)) return AIINFRA_OK;
  const char *word = json_string_value(choice);
  const char *name = json_string_value(json_object_get(json_object_get(choice, "function"), "name"));
  bool known =
      word != NULL && (strcmp(word, "none") == 0 || strcmp(word, "auto") == 0 || strcmp(word, "required") == 0);
  if (!known && name == NULL)
    return aii_fail(
        err, AIINFRA_EINVAL,
        "tool_choice: must be \"none\", \"auto\", \"required\" or {\"type\":\"function\",\"function\":{\"name\":...}}");
  if (!known && !is_tool(p, name))
    return aii_fail(err, AIINFRA_EINVAL, "tool_choice: no tool is named \"%.64s\"", name);
  p->opts.tool_choice = known ? word : name;
  return AIINFRA_OK;
}

/* ---- response_format ------------------------------------------------------------------------------------------------- */

static aiinfra_status read_format(aii_params *p, aiinfra_error *err)
{
  static const char any_object[] = "{\"type\":\"object\"}";
  json_t *format = NULL, *holder = NULL, *schema = NULL;
  const char *type = NULL;
  p->field = "response_format";
  aiinfra_status rc = aii_json_get_object(p->root, "", p->field, false, &format, err);
  if (rc != AIINFRA_OK || format == NULL) return rc;
  rc = aii_json_get_str(format, p->field, "type", true, &type, err);
  if (rc != AIINFRA_OK || strcmp(type, "text") == 0) return rc;
  if (strcmp(type, "json_object") == 0) {
    p->opts.json_schema = any_object;
    return AIINFRA_OK;
  }
  if (strcmp(type, "json_schema") != 0)
    return aii_fail(err, AIINFRA_EINVAL, "response_format.type: must be \"text\", \"json_object\" or \"json_schema\"");
  rc = aii_json_get_object(format, p->field, "json_schema", true, &holder, err);
  if (rc == AIINFRA_OK) rc = aii_json_get_object(holder, "response_format.json_schema", "schema", true, &schema, err);
  return rc == AIINFRA_OK ? dump(schema, &p->schema, &p->opts.json_schema, err) : rc;
}

/* What vLLM calls them: further variables of the template. */
static aiinfra_status read_variables(aii_params *p, aiinfra_error *err)
{
  json_t *variables = NULL;
  p->field = "chat_template_kwargs";
  aiinfra_status rc = aii_json_get_object(p->root, "", p->field, false, &variables, err);
  if (rc != AIINFRA_OK || json_object_size(variables) == 0) return rc;
  return dump(variables, &p->variables, &p->opts.variables_json, err);
}

aiinfra_status aii_params_parse_chat(aii_params *params, aiinfra_error *err)
{
  aiinfra_status rc = read_messages(params, err);
  if (rc == AIINFRA_OK) rc = read_tools(params, err);
  if (rc == AIINFRA_OK) rc = read_tool_choice(params, err);
  if (rc == AIINFRA_OK) rc = read_format(params, err);
  if (rc == AIINFRA_OK) rc = read_variables(params, err);
  return rc;
}
