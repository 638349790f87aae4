/* request.c - opens a request: one verb, a body with known members, a compiled filter. The rest is refused by name. */
#include "lib/json/json.h"
#include "src/vector/request.h"

bool aii_request_is(const aii_request *r, const char *verb)
{
  return strcmp(r->verb, verb) == 0;
}

static aiinfra_status check_members(const aii_request *r, const aii_verb *verb, aiinfra_error *err)
{
  const char *name;
  json_t *value;
  json_object_foreach((json_t *)(uintptr_t)r->body, name, value)
  {
    size_t i = 0;
    (void)value;
    while (verb->members[i] != NULL && strcmp(verb->members[i], name) != 0) i++;
    if (verb->members[i] == NULL) {
      return aii_fail(err, AIINFRA_EINVAL, "request: %s has no member '%.64s'", verb->name, name);
    }
  }
  return AIINFRA_OK;
}

static aiinfra_status find_verb(aii_request *r, const aii_verb *verbs, aiinfra_error *err)
{
  if (!json_is_object(r->source) || json_object_size(r->source) != 1) {
    return aii_fail(err, AIINFRA_EINVAL, "request: expected an object with one member, such as \"%s\"", verbs->name);
  }
  void *only = json_object_iter(r->source);
  r->verb = json_object_iter_key(only);
  r->body = json_object_iter_value(only);
  while (verbs->name != NULL && !aii_request_is(r, verbs->name)) verbs++;
  if (verbs->name == NULL) return aii_fail(err, AIINFRA_EINVAL, "request: there is no '%.64s'", r->verb);
  if (!json_is_object(r->body)) {
    return aii_fail(err, AIINFRA_EINVAL, "request: %s: expected an object, found %s", r->verb, aii_json_type(r->body));
  }
  return check_members(r, verbs, err);
}

static aiinfra_status compile(aii_request *r, aiinfra_error *err)
{
  const json_t *filter = json_object_get(r->body, "filter");
  aii_buf text;
  if (filter == NULL || json_is_null(filter)) return AIINFRA_OK;
  aii_buf_init(&text, r->mem, 0);
  if (aii_json_dump(filter, &text)) r->filter_text = aii_strdup(r->mem, aii_buf_cstr(&text));
  aii_buf_free(&text);
  if (r->filter_text == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a filter");
  return aii_filter_compile(r->mem, r->filter_text, &r->filter, err);
}

aiinfra_status aii_request_open(aii_mem *mem, const char *json, const aii_verb *verbs, aii_request *r,
                                aiinfra_error *err)
{
  *r = (aii_request){.mem = mem};
  aiinfra_status rc = aii_request_parse(json, "request", &r->source, err);
  if (rc == AIINFRA_OK) rc = find_verb(r, verbs, err);
  if (rc == AIINFRA_OK) rc = compile(r, err);
  if (rc != AIINFRA_OK) aii_request_close(r);
  return rc;
}

void aii_request_close(aii_request *r)
{
  json_decref(r->source);
  aii_strfree(r->mem, r->filter_text);
  aii_filter_free(r->filter);
  *r = (aii_request){.mem = r->mem};
}
