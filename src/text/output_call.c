/* output_call.c - inside a tool call: its name, an object's members, tags, a harmony message's header.
 *
 * A call is announced as soon as its name is known; its arguments then go out as they come. Whatever breaks the form
 * before that makes the whole thing text. JSON is followed by its brackets and strings only: what the model writes as
 * arguments is handed on byte for byte, right or wrong.
 */
#include "src/text/output_impl.h"

static bool is_space(char c)
{
  return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static aii_out_span trim(const aii_buf *buf)
{
  aii_out_span s = {aii_buf_cstr(buf), buf->len};
  while (s.n > 0 && is_space(s.p[0])) s.p++, s.n--;
  while (s.n > 0 && is_space(s.p[s.n - 1])) s.n--;
  return s;
}

void aii_out_begin_call(aii_output *o, const char *marker)
{
  const aii_out_format *f = o->syntax.format;
  o->outer = o->state == OS_REASONING ? OS_REASONING : OS_CONTENT;
  o->in_call = true;
  o->announced = o->in_array = o->id_next = o->bare = false;
  o->id[0] = '\0';
  aii_buf_clear(&o->raw);
  aii_buf_str(&o->raw, marker);
  aii_buf_clear(&o->word);
  aii_buf_clear(&o->value);
  aii_buf_clear(&o->early);
  /* Mistral's older models write an array where the newer ones write a name. */
  bool named = f->form == OF_TAGS || f->content_name != NULL;
  aii_out_enter(o, named ? OS_NAME : OS_OPEN);
}

/* ---- where a JSON value ends ------------------------------------------------------------------------------------------ */

static aii_out_step value_byte(aii_out_json *at, char c)
{
  if (at->in_string) {
    if (at->escaped) at->escaped = false;
    else if (c == '\\') at->escaped = true;
    else if (c == '"') at->in_string = false;
    return at->in_string || at->depth > 0 ? OJ_MORE : OJ_END;
  }
  if (at->plain && at->depth == 0) return c == ',' || c == '}' || c == ']' || is_space(c) ? OJ_BEFORE : OJ_MORE;
  if (c == '"') {
    at->in_string = true;
  } else if (c == '{' || c == '[') {
    at->depth++;
  } else if (c == '}' || c == ']') {
    if (at->depth == 0) return OJ_BAD;
    return --at->depth == 0 ? OJ_END : OJ_MORE;
  } else if (at->depth == 0) {
    if (c != '-' && (c < '0' || c > '9') && c != 't' && c != 'f' && c != 'n') return OJ_BAD;
    at->plain = true;
  }
  return OJ_MORE;
}

/* A JSON string's text. */
static bool decode(const aii_buf *json, aii_buf *out)
{
  json_t *value = NULL;
  bool good = aii_json_parse(aii_buf_cstr(json), json->len, "text", 0, &value, NULL) == AIINFRA_OK &&
              json_is_string(value) && strlen(json_string_value(value)) == json_string_length(value);
  if (good) aii_buf_add(out, json_string_value(value), json_string_length(value));
  json_decref(value);
  return good;
}

/* ---- an object ---------------------------------------------------------------------------------------------------------- */

static void begin_object(aii_output *o)
{
  aii_out_enter(o, OS_OBJECT);
  o->place = OP_KEY_OR_END;
  o->json_at = (aii_out_json){0};
  o->args_streamed = false;
  aii_buf_clear(&o->word);
  aii_buf_clear(&o->value);
  aii_buf_clear(&o->early);
}

static aii_out_member member_of(aii_out_span key)
{
  static const struct {
    const char *key;
    aii_out_member member;
  } table[] = {{"name", OM_NAME},       {"tool_name", OM_NAME}, {"arguments", OM_ARGS},
               {"parameters", OM_ARGS}, {"id", OM_ID},          {"tool_call_id", OM_ID}};
  for (size_t i = 0; i < AII_COUNT(table); i++) {
    if (key.n == strlen(table[i].key) && memcmp(key.p, table[i].key, key.n) == 0) return table[i].member;
  }
  return OM_OTHER;
}

static void set_id(aii_output *o, aii_out_span id)
{
  if (id.n == 0 || id.n >= sizeof o->id) return;
  memcpy(o->id, id.p, id.n);
  o->id[id.n] = '\0';
}

/* Announces a name; arguments that came before it follow. */
static void named(aii_output *o, aii_out_span name)
{
  if (!aii_out_announce(o, name)) {
    aii_out_no_call(o);
    return;
  }
  aii_out_args(o, aii_buf_cstr(&o->early), o->early.len);
}

static void key_done(aii_output *o)
{
  aii_buf key;
  aii_buf_init(&key, o->mem, 0);
  bool good = decode(&o->word, &key);
  aii_out_span name = {aii_buf_cstr(&key), key.len};
  o->member = member_of(name);
  o->place = OP_COLON;
  if (!good) {
    aii_out_no_call(o);
  } else if (o->syntax.format->key_is_name && !o->announced) {
    o->member = OM_ARGS;
    named(o, name);
  }
  o->failed |= key.failed;
  aii_buf_free(&key);
}

static void member_done(aii_output *o)
{
  aii_buf text;
  aii_buf_init(&text, o->mem, 0);
  bool is_text = o->member != OM_OTHER && o->value.len > 0 && o->value.data[0] == '"' && decode(&o->value, &text);
  o->place = OP_COMMA;
  if (o->member == OM_NAME && !is_text) {
    aii_out_no_call(o);
  } else if (o->member == OM_NAME && !o->announced) {
    named(o, (aii_out_span){aii_buf_cstr(&text), text.len});
  } else if (o->member == OM_ID && is_text && !o->announced) {
    set_id(o, (aii_out_span){aii_buf_cstr(&text), text.len});
  } else if (o->member == OM_ARGS && !o->args_streamed) { /* some write them as a string that holds JSON */
    const aii_buf *args = is_text ? &text : &o->value;
    if (o->announced) aii_out_args(o, aii_buf_cstr(args), args->len);
    else aii_buf_add(&o->early, aii_buf_cstr(args), args->len);
  }
  o->failed |= text.failed;
  aii_buf_free(&text);
}

static void value_in_object(aii_output *o, char c)
{
  aii_out_step at = value_byte(&o->json_at, c);
  if (at == OJ_BAD) {
    if (o->announced) o->failed |= false, aii_out_call_done(o); /* what there is has gone out */
    else aii_out_no_call(o);
    return;
  }
  if (at != OJ_BEFORE) {
    if (o->value.len == 0) o->args_streamed = o->member == OM_ARGS && o->announced && c != '"';
    if (o->args_streamed) aii_out_args(o, &c, 1);
    if (!o->args_streamed || o->value.len == 0) aii_buf_char(&o->value, c);
  }
  if (at == OJ_MORE) return;
  member_done(o);
  if (at == OJ_BEFORE && o->state == OS_OBJECT) aii_out_again(o, &c, 1);
}

static void end_object(aii_output *o)
{
  if (o->announced) aii_out_call_done(o);
  else aii_out_no_call(o);
}

static void object_byte(aii_output *o, char c)
{
  if (o->place == OP_IN_VALUE) {
    value_in_object(o, c);
    return;
  }
  if (o->place == OP_KEY) {
    aii_buf_char(&o->word, c);
    if (value_byte(&o->json_at, c) == OJ_END) key_done(o);
    return;
  }
  if (is_space(c)) return;
  if (o->place == OP_KEY_OR_END && c == '"') {
    o->place = OP_KEY;
    o->json_at = (aii_out_json){.in_string = true};
    aii_buf_clear(&o->word);
    aii_buf_char(&o->word, c);
  } else if (c == '}' && (o->place == OP_KEY_OR_END || o->place == OP_COMMA)) {
    end_object(o);
  } else if (o->place == OP_COMMA && c == ',') {
    o->place = OP_KEY_OR_END;
  } else if (o->place == OP_COLON && c == ':') {
    o->place = OP_VALUE;
  } else if (o->place == OP_VALUE) {
    o->place = OP_IN_VALUE;
    o->json_at = (aii_out_json){0};
    aii_buf_clear(&o->value);
    value_in_object(o, c);
  } else {
    end_object(o); /* no JSON */
  }
}

/* ---- arguments behind a name ------------------------------------------------------------------------------------------------ */

/* Kimi's "functions.name:0" is the id. */
static aii_out_span name_in_id(aii_output *o, aii_out_span id)
{
  const char *prefix = o->syntax.format->id_prefix;
  size_t n = strlen(prefix);
  set_id(o, id);
  if (id.n > n && memcmp(id.p, prefix, n) == 0) id.p += n, id.n -= n;
  for (size_t i = id.n; i > 0; i--) {
    if (id.p[i - 1] == ':') return (aii_out_span){id.p, i - 1};
  }
  return id;
}

void aii_out_named(aii_output *o, aii_out_event how)
{
  const aii_out_format *f = o->syntax.format;
  aii_out_span word = trim(&o->word);
  if (how == OE_ID_BEFORE) {
    set_id(o, word);
    aii_buf_clear(&o->word);
    return;
  }
  if (how == OE_ID_BEHIND) {
    aii_buf_clear(&o->early);
    aii_buf_add(&o->early, word.p, word.n); /* the name, until the id has been read */
    aii_buf_clear(&o->word);
    o->id_next = true;
    return;
  }
  if (o->id_next) {
    set_id(o, word);
    o->id_next = false;
    aii_buf_clear(&o->word);
    aii_buf_add(&o->word, aii_buf_cstr(&o->early), o->early.len);
    aii_buf_clear(&o->early);
    word = trim(&o->word);
  }
  if (f->content_name != NULL && word.n == strlen(f->content_name) && memcmp(word.p, f->content_name, word.n) == 0) {
    o->in_call = false;
    aii_out_enter(o, OS_CONTENT);
    return;
  }
  if (f->form == OF_TAGS) {
    if (word.n == 0 && how == OE_NAME_END) return; /* a line's end before the name */
    o->n_args = 0;
    if (!aii_out_announce(o, word)) {
      aii_out_no_call(o);
      return;
    }
    aii_out_enter(o, OS_TAGS);
    return;
  }
  if (f->id_prefix != NULL) word = name_in_id(o, word);
  if (word.n == 0) {
    aii_out_no_call(o);
    return;
  }
  memmove(o->word.data, word.p, word.n); /* only the name stays */
  o->word.len = word.n;
  aii_buf_clear(&o->value);
  o->json_at = (aii_out_json){0};
  aii_out_enter(o, OS_ARGS);
}

/* The name is announced with the arguments' first byte: what is no JSON is no call. */
static void args_byte(aii_output *o, char c)
{
  if (!o->announced) {
    if (is_space(c)) return;
    if (c == '`' || o->value.len > 0) { /* ```json and the line's end */
      if (o->value.len > 8) aii_out_no_call(o);
      else if (c == '{') aii_buf_clear(&o->value);
      else aii_buf_char(&o->value, c);
    }
    if (o->value.len > 0 || o->state != OS_ARGS) return;
    if (c != '{' || !aii_out_announce(o, (aii_out_span){aii_buf_cstr(&o->word), o->word.len})) {
      aii_out_no_call(o);
      return;
    }
  }
  aii_out_step at = value_byte(&o->json_at, c);
  if (at == OJ_MORE || at == OJ_END) aii_out_args(o, &c, 1);
  if (at != OJ_MORE) aii_out_call_done(o);
}

/* ---- tags ------------------------------------------------------------------------------------------------------------------ */

static void begin_value(aii_output *o)
{
  const aii_out_format *f = o->syntax.format;
  aii_buf_clear(&o->value);
  if (f->nested) {
    aii_buf_clear(&o->end_tag);
    aii_buf_fmt(&o->end_tag, "%s/%s>", f->param, aii_buf_cstr(&o->word));
    if (o->end_tag.len > AII_OUT_MAX_MARKER) { /* no such name: nothing would end it */
      aii_out_enter(o, OS_TAGS);
      return;
    }
  }
  aii_out_enter(o, OS_VALUE);
}

static void value_done(aii_output *o)
{
  const aii_out_format *f = o->syntax.format;
  const aii_out_call *call = &o->calls[o->n_calls - 1];
  const json_t *tool = aii_out_tool(o, (aii_out_span){aii_buf_cstr(&call->name), call->name.len});
  aii_buf json;
  aii_out_span key = trim(&o->word), text = {aii_buf_cstr(&o->value), o->value.len};
  aii_buf_init(&json, o->mem, 0);
  aii_buf_str(&json, o->n_args++ == 0 ? "{" : ", ");
  aii_buf_json(&json, key.p, key.n);
  aii_buf_str(&json, ": ");
  aii_buf_clear(&o->early);
  aii_buf_add(&o->early, key.p, key.n);
  aii_out_value(tool, aii_buf_cstr(&o->early), text, f, o->is_string, &json);
  o->failed |= json.failed || o->early.failed;
  aii_out_args(o, aii_buf_cstr(&json), json.len);
  aii_buf_free(&json);
  aii_out_enter(o, OS_TAGS);
}

void aii_out_param(aii_output *o, aii_out_event event)
{
  const aii_out_format *f = o->syntax.format;
  if (o->state == OS_NAME) {
    aii_out_named(o, OE_PARAM);
    if (o->state != OS_TAGS) return;
  }
  switch (event) {
    case OE_PARAM:
      aii_buf_clear(&o->word);
      o->is_string = -1;
      aii_out_enter(o, OS_KEY);
      break;
    case OE_KEY_END:
      aii_buf_clear(&o->value);
      if (f->attributes || f->value != NULL) aii_out_enter(o, OS_ATTRIBUTES);
      else begin_value(o);
      break;
    case OE_VALUE_END: value_done(o); break;
    default: /* OE_END */
      if (o->n_args > 0) aii_out_args(o, "}", 1);
      aii_out_call_done(o);
      break;
  }
}

/* Between key and value: attributes up to ">", or white space up to the value's own tag. */
static void attribute_byte(aii_output *o, char c)
{
  const aii_out_format *f = o->syntax.format;
  if (f->attributes) {
    if (c != '>') {
      aii_buf_char(&o->value, c);
      return;
    }
    if (strstr(aii_buf_cstr(&o->value), "string=\"true\"") != NULL) o->is_string = 1;
    if (strstr(aii_buf_cstr(&o->value), "string=\"false\"") != NULL) o->is_string = 0;
    begin_value(o);
    return;
  }
  if (o->value.len == 0 && is_space(c)) return;
  aii_buf_char(&o->value, c);
  size_t n = strlen(f->value);
  if (o->value.len == n && memcmp(o->value.data, f->value, n) == 0) begin_value(o);
  else if (o->value.len >= n || memcmp(o->value.data, f->value, o->value.len) != 0) aii_out_enter(o, OS_TAGS);
}

/* ---- text that is rewritten ---------------------------------------------------------------------------------------------- */

void aii_out_rewritten(aii_output *o)
{
  aii_buf calls;
  aii_buf_init(&calls, o->mem, 0);
  bool good = o->syntax.format->rewrite((aii_out_span){aii_buf_cstr(&o->value), o->value.len}, &calls);
  o->failed |= calls.failed;
  const char *p = aii_buf_cstr(&calls), *end = p + (calls.failed ? 0 : calls.len);
  for (bool first = true; good && p < end; first = false) {
    const char *name = p, *args = p + strlen(p) + 1;
    if (!aii_out_announce(o, (aii_out_span){name, strlen(name)})) {
      if (first) good = false;
      break;
    }
    aii_out_args(o, args, strlen(args));
    aii_out_call_done(o);
    p = args + strlen(args) + 1;
  }
  if (!good) aii_out_no_call(o);
  aii_buf_free(&calls);
}

/* ---- harmony ------------------------------------------------------------------------------------------------------------- */

/* Where `what` ends in the header, at its last place; NULL: it is not there. */
static const char *behind(const char *header, const char *what)
{
  const char *found = NULL;
  for (const char *p = header; (p = strstr(p, what)) != NULL; found = p) p += strlen(what);
  return found;
}

void aii_out_header(aii_output *o)
{
  const char *header = aii_buf_cstr(&o->word), *to = behind(header, " to="), *channel = behind(header, "<|channel|>");
  bool analysis = channel != NULL && strncmp(channel, "analysis", 8) == 0;
  aii_out_span name = {to, to != NULL ? strcspn(to, " <") : 0};
  if (name.n > 10 && memcmp(name.p, "functions.", 10) == 0) name.p += 10, name.n -= 10;
  bool someone = name.n > 0 && !(name.n == 9 && memcmp(name.p, "assistant", 9) == 0);
  if (someone && o->calls_on && aii_out_tool(o, name) != NULL) {
    aii_buf_clear(&o->raw);
    o->outer = OS_CONTENT;
    o->in_call = true;
    o->json_at = (aii_out_json){0};
    if (aii_out_announce(o, name)) aii_out_enter(o, OS_ARGS);
    return;
  }
  o->said = false;
  o->drop_space = true;
  aii_buf_clear(&o->space);
  if (someone) {
    aii_out_enter(o, OS_SKIP);
  } else if (analysis && o->keep_reasoning) {
    aii_buf_str(&o->content, "<|channel|>analysis<|message|>");
    o->id_next = true; /* its <|end|> is content, too */
    aii_out_enter(o, OS_CONTENT);
  } else {
    aii_out_enter(o, analysis ? OS_REASONING : OS_CONTENT);
  }
}

/* ---- all ------------------------------------------------------------------------------------------------------------------- */

/* The first byte behind the marker tells the form. */
static void open_byte(aii_output *o, char c)
{
  const aii_out_format *f = o->syntax.format;
  if (is_space(c)) return;
  if (c == '`' || o->value.len > 0) { /* a fence: ```json */
    aii_buf_char(&o->value, c);
    if (o->value.len == 7) {
      if (memcmp(o->value.data, "```json", 7) != 0) aii_out_no_call(o);
      else aii_buf_clear(&o->value);
    }
    return;
  }
  if (c == '{') {
    begin_object(o);
  } else if (c == '[' && !o->in_array) {
    o->in_array = true;
  } else if (f->rewrite != NULL) {
    aii_buf_clear(&o->value);
    if (o->in_array) aii_buf_char(&o->value, '[');
    o->in_array = false;
    aii_buf_char(&o->value, c);
    aii_out_enter(o, OS_RAW);
  } else if (f->form == OF_NAMED && !o->in_array) {
    aii_out_enter(o, OS_NAME);
    aii_out_again(o, &c, 1);
  } else {
    aii_out_no_call(o);
  }
}

/* Between the objects of an array. */
static void array_byte(aii_output *o, char c)
{
  if (is_space(c)) return;
  o->in_array = false;
  if (c == ',') {
    aii_out_begin_call(o, "");
    o->in_array = true;
    aii_out_enter(o, OS_OPEN);
    return;
  }
  aii_out_enter(o, OS_CONTENT);
  if (c != ']') aii_out_again(o, &c, 1);
}

void aii_out_call_byte(aii_output *o, char byte)
{
  switch (o->state) {
    case OS_OPEN: open_byte(o, byte); break;
    case OS_ATTRIBUTES: attribute_byte(o, byte); break;
    case OS_OBJECT: object_byte(o, byte); break;
    case OS_ARRAY: array_byte(o, byte); break;
    default: args_byte(o, byte); break;
  }
}
