/* output.c - what a model wrote: content, then tool calls in the hermes syntax, as an OpenAI tool_calls array.
 *
 * Happy path: the text before the first <tool_call> is content (white space at its end dropped); each tag holds one
 * JSON object whose members "name" and "arguments" are found; arguments are kept byte for byte. The end tag may be
 * missing where the text ends. A call that is no such object is EFORMAT. Ids are made from the text and the call's
 * place in it, so that parsing the same text again gives the same ids.
 */
#include <stdio.h>

#include "lib/json/json.h"
#include "src/text/text.h"

static const char OPEN[] = "<tool_call>", CLOSE[] = "</tool_call>";

typedef struct span {
  const char *p, *end;
} span;

static const char *skip_space(span s)
{
  while (s.p < s.end && (*s.p == ' ' || *s.p == '\n' || *s.p == '\r' || *s.p == '\t')) s.p++;
  return s.p;
}

/* The end of the JSON value at s.p; NULL: it does not end. Brackets and strings only: jansson checks the rest. */
static const char *value_end(span s)
{
  size_t depth = 0;
  bool in_string = false;
  for (const char *p = s.p; p < s.end; p++) {
    if (in_string) {
      if (*p == '\\') {
        p++;
      } else if (*p == '"') {
        in_string = false;
        if (depth == 0) return p + 1;
      }
    } else if (*p == '"') {
      in_string = true;
    } else if (*p == '{' || *p == '[') {
      depth++;
    } else if (*p == '}' || *p == ']') {
      if (depth == 0) return p;
      if (--depth == 0) return p + 1;
    } else if (depth == 0 && (*p == ',' || *p == ':')) {
      return p;
    }
  }
  return NULL;
}

/* The raw text of a member of the object at s, which jansson has accepted. */
static bool find_member(span s, const char *key, span *out)
{
  bool found = false;
  for (s.p++; s.p < s.end;) {
    s.p = skip_space(s);
    if (s.p >= s.end || *s.p == '}') break;
    const char *name = s.p, *name_end = value_end(s);
    if (name_end == NULL) return false;
    s.p = name_end;
    s.p = skip_space(s) + 1; /* ':' */
    s.p = skip_space(s);
    const char *end = s.p < s.end ? value_end(s) : NULL;
    if (end == NULL) return false;
    size_t n = (size_t)(name_end - name);
    if (n == strlen(key) + 2 && memcmp(name + 1, key, n - 2) == 0) {
      *out = (span){s.p, end};
      while (out->end > out->p && strchr(" \n\r\t", out->end[-1]) != NULL) out->end--;
      found = true;
    }
    s.p = end;
    s.p = skip_space(s);
    if (s.p < s.end && *s.p == ',') s.p++;
  }
  return found;
}

/* One call to the array. */
static aiinfra_status add_call(span object, uint64_t seed, size_t nth, aii_buf *calls, aiinfra_error *err)
{
  json_t *json;
  const char *name = NULL;
  char what[40];
  span arguments = {"{}", NULL};
  arguments.end = arguments.p + 2;
  (void)snprintf(what, sizeof what, "tool call %zu", nth + 1);
  aiinfra_status rc = aii_json_parse(object.p, (size_t)(object.end - object.p), what, 0, &json, err);
  if (rc == AIINFRA_OK && aii_json_get_str(json, what, "name", true, &name, err) != AIINFRA_OK) rc = AIINFRA_EFORMAT;
  const json_t *given = rc == AIINFRA_OK ? json_object_get(json, "arguments") : NULL;
  if (given != NULL && !json_is_object(given)) {
    rc = aii_fail(err, AIINFRA_EFORMAT, "%s: arguments: expected an object, found %s", what, aii_json_type(given));
  }
  if (rc == AIINFRA_OK && given != NULL && !find_member(object, "arguments", &arguments)) {
    rc = aii_fail(err, AIINFRA_EFORMAT, "%s: the key \"arguments\" is written with escapes", what);
  }
  if (rc == AIINFRA_OK) {
    uint64_t id = aii_hash64(object.p, (size_t)(object.end - object.p), seed + nth);
    aii_buf_fmt(calls, "%s{\"id\":\"call_%016llx\",\"type\":\"function\",\"function\":{\"name\":", nth > 0 ? "," : "",
                (unsigned long long)id);
    aii_buf_json(calls, name, strlen(name));
    aii_buf_str(calls, ",\"arguments\":");
    aii_buf_json(calls, arguments.p, (size_t)(arguments.end - arguments.p));
    aii_buf_str(calls, "}}");
  } else if (err != NULL && rc == AIINFRA_EFORMAT) {
    err->status = rc;
  }
  json_decref(json);
  return rc;
}

static aiinfra_status hermes(span text, aii_buf *content, aii_buf *calls, aiinfra_error *err)
{
  const size_t n_open = sizeof OPEN - 1, n_close = sizeof CLOSE - 1;
  const char *at = memmem(text.p, (size_t)(text.end - text.p), OPEN, n_open), *stop = at != NULL ? at : text.end;
  uint64_t seed = aii_hash64(text.p, (size_t)(text.end - text.p), 0);
  while (at != NULL && stop > text.p && strchr(" \n\r\t", stop[-1]) != NULL && stop[-1] != '\0') stop--;
  aii_buf_add(content, text.p, (size_t)(stop - text.p));
  for (size_t nth = 0; at != NULL; nth++) {
    span s = {at + n_open, text.end};
    s.p = skip_space(s);
    const char *end = s.p < s.end && *s.p == '{' ? value_end(s) : NULL;
    if (end == NULL) return aii_fail(err, AIINFRA_EFORMAT, "tool call %zu is no complete JSON object", nth + 1);
    aiinfra_status rc = add_call((span){s.p, end}, seed, nth, calls, err);
    if (rc != AIINFRA_OK) return rc;
    s.p = end;
    s.p = skip_space(s);
    size_t left = (size_t)(s.end - s.p);
    if (left >= n_close && memcmp(s.p, CLOSE, n_close) == 0) {
      s.p += n_close;
    } else if (left > 0 && !(left >= n_open && memcmp(s.p, OPEN, n_open) == 0)) {
      return aii_fail(err, AIINFRA_EFORMAT, "tool call %zu: expected %s behind its JSON", nth + 1, CLOSE);
    }
    at = memmem(s.p, (size_t)(s.end - s.p), OPEN, n_open);
  }
  return AIINFRA_OK;
}

aiinfra_status aii_output_parse(aii_mem *mem, const char *text, size_t n, const char *syntax, aii_buf *content,
                                aii_buf *tool_calls_json, aiinfra_error *err)
{
  aii_buf calls;
  size_t content_before = content->len;
  if (syntax == NULL) {
    aii_buf_add(content, text, n);
    return content->failed ? aii_fail(err, AIINFRA_ENOMEM, "model output") : AIINFRA_OK;
  }
  if (strcmp(syntax, "hermes") != 0)
    return aii_fail(err, AIINFRA_ENOTSUP, "the tool syntax \"%s\" is not known", syntax);
  aii_buf_init(&calls, mem, 0);
  aiinfra_status rc = hermes((span){text, text + n}, content, &calls, err);
  if (rc == AIINFRA_OK && calls.len > 0) {
    aii_buf_char(tool_calls_json, '[');
    aii_buf_add(tool_calls_json, calls.data, calls.len);
    aii_buf_char(tool_calls_json, ']');
  }
  if (rc == AIINFRA_OK && (calls.failed || content->failed || tool_calls_json->failed)) {
    rc = aii_fail(err, AIINFRA_ENOMEM, "model output");
  }
  if (rc != AIINFRA_OK && !content->failed && content->data != NULL) {
    content->len = content_before;
    content->data[content_before] = '\0';
  }
  aii_buf_free(&calls);
  return rc;
}

const char *aii_output_syntax(const char *chat_template)
{
  return chat_template != NULL && strstr(chat_template, OPEN) != NULL ? "hermes" : NULL;
}
