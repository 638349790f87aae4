/* output.c - takes a model's output apart as it comes: content, reasoning, tool calls; see output_impl.h.
 *
 * Happy path: bytes come in one at a time; where a marker may begin they wait; what is decided goes to one of three
 * outputs, and aii_output_next() tells what is new. White space directly inside the reasoning's markers, behind the
 * reasoning, and between calls is no text. What looks like a call and is none stays text. Arguments are the model's own
 * bytes where it writes JSON. Only memory can fail.
 */
#include <stdio.h>

#include "src/text/output_impl.h"

static bool is_space(char c)
{
  return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* ---- markers ------------------------------------------------------------------------------------------------------ */

static void add_marker(aii_output *o, const char *text, aii_out_event event)
{
  size_t n = text != NULL ? strlen(text) : 0;
  if (n == 0 || n > AII_OUT_MAX_MARKER || o->n_markers == AII_OUT_MAX_MARKERS) return;
  o->markers[o->n_markers++] = (aii_out_marker){text, n, event};
}

static void content_markers(aii_output *o)
{
  const aii_out_format *f = o->syntax.format;
  bool reasoning = o->state == OS_REASONING;
  if (!o->keep_reasoning && reasoning) add_marker(o, o->syntax.think_end, OE_THINK_END);
  if (!o->keep_reasoning && !reasoning) {
    add_marker(o, o->syntax.think, OE_THINK);
    if (!o->said) add_marker(o, o->syntax.think_end, OE_DROP);
  }
  if (!reasoning && o->json) {
    add_marker(o, "```json\n", OE_DROP);
    add_marker(o, "\n```", OE_DROP);
  }
  if (f == NULL || (reasoning && !f->in_reasoning)) return;
  for (size_t i = 0; i < AII_COUNT(f->drop); i++) {
    add_marker(o, f->drop[i], o->calls_on && reasoning ? OE_THINK_END : OE_DROP);
  }
  for (size_t i = 0; o->calls_on && i < AII_COUNT(f->open); i++) add_marker(o, f->open[i], OE_OPEN);
  for (size_t i = 0; o->after_call && !o->said && i < AII_COUNT(f->close); i++) add_marker(o, f->close[i], OE_DROP);
}

static void harmony_markers(aii_output *o)
{
  add_marker(o, "<|message|>", OE_MESSAGE);
  add_marker(o, "<|start|>", OE_HEADER);
  add_marker(o, "<|end|>", OE_HEADER);
  add_marker(o, "<|call|>", OE_HEADER);
  add_marker(o, "<|return|>", OE_HEADER);
  if (o->state != OS_HEADER) add_marker(o, "<|channel|>", OE_HEADER);
}

static void call_markers(aii_output *o)
{
  const aii_out_format *f = o->syntax.format;
  switch (o->state) {
    case OS_NAME:
      add_marker(o, f->name_end, OE_NAME_END);
      add_marker(o, f->id_before, OE_ID_BEFORE);
      add_marker(o, f->id_behind, OE_ID_BEHIND);
      if (f->form != OF_TAGS) break;
      add_marker(o, f->param, OE_PARAM);
      add_marker(o, f->end, OE_END);
      break;
    case OS_TAGS:
      add_marker(o, f->param, OE_PARAM);
      add_marker(o, f->end, OE_END);
      break;
    case OS_KEY: add_marker(o, f->key_end, OE_KEY_END); break;
    case OS_VALUE: add_marker(o, f->nested ? aii_buf_cstr(&o->end_tag) : f->value_end, OE_VALUE_END); break;
    case OS_RAW: add_marker(o, f->end, OE_END); break;
    default: break;
  }
}

void aii_out_enter(aii_output *o, aii_out_state s)
{
  o->state = s;
  o->n_markers = 0;
  bool harmony = o->syntax.format != NULL && o->syntax.format->form == OF_HARMONY;
  if (s == OS_HEADER || s == OS_SKIP || (harmony && s <= OS_REASONING)) harmony_markers(o);
  else if (s <= OS_REASONING) content_markers(o);
  else call_markers(o);
}

/* ---- content and reasoning ------------------------------------------------------------------------------------------ */

/* Text of a new kind begins; white space before it is not part of it. */
static void turn_to(aii_output *o, aii_out_state state)
{
  aii_buf_clear(&o->space);
  o->said = false;
  o->drop_space = true;
  aii_out_enter(o, state);
}

void aii_out_text(aii_output *o, char byte)
{
  const aii_out_format *f = o->syntax.format;
  aii_buf *out = o->state == OS_REASONING ? &o->reasoning : &o->content;
  bool held = !o->said || o->state == OS_REASONING;
  if (held && is_space(byte)) {
    aii_buf_char(&o->space, byte);
    return;
  }
  if (!o->said && byte == '{' && o->calls_on && o->state == OS_CONTENT && f->bare && !o->in_call) {
    aii_out_begin_call(o, "");
    o->bare = true;
    aii_out_again(o, &byte, 1);
    return;
  }
  if (held && (o->said || !o->drop_space)) aii_buf_add(out, aii_buf_cstr(&o->space), o->space.len);
  if (held) aii_buf_clear(&o->space);
  aii_buf_char(out, byte);
  if (o->said) return;
  o->said = true;
  o->after_call = false;
  aii_out_enter(o, o->state);
}

/* ---- calls ------------------------------------------------------------------------------------------------------------ */

const json_t *aii_out_tool(const aii_output *o, aii_out_span name)
{
  size_t i;
  json_t *tool;
  json_array_foreach(o->tools, i, tool)
  {
    const json_t *function = json_object_get(tool, "function");
    const char *its = json_string_value(json_object_get(function != NULL ? function : tool, "name"));
    if (its != NULL && strlen(its) == name.n && memcmp(its, name.p, name.n) == 0)
      return function != NULL ? function : tool;
  }
  return NULL;
}

bool aii_out_announce(aii_output *o, aii_out_span name)
{
  if (name.n == 0 || name.n > AII_OUT_MAX_NAME || !o->calls_on || (o->bare && aii_out_tool(o, name) == NULL))
    return false;
  if (!aii_grow(o->mem, &o->calls, &o->cap_calls, o->n_calls + 1, sizeof *o->calls)) {
    o->failed = true;
    return false;
  }
  aii_out_call *call = &o->calls[o->n_calls];
  *call = (aii_out_call){0};
  aii_buf_init(&call->name, o->mem, 0);
  aii_buf_init(&call->args, o->mem, 0);
  aii_buf_add(&call->name, name.p, name.n);
  if (o->id[0] != '\0') {
    memcpy(call->id, o->id, sizeof call->id);
  } else {
    uint64_t id = aii_hash64(&o->hash, sizeof o->hash, o->seed + o->n_calls);
    (void)snprintf(call->id, sizeof call->id, "call_%016llx", (unsigned long long)id);
  }
  o->n_calls++;
  o->announced = true;
  aii_buf_clear(&o->raw);
  return true;
}

void aii_out_args(aii_output *o, const char *text, size_t n)
{
  if (o->announced) aii_buf_add(&o->calls[o->n_calls - 1].args, text, n);
}

void aii_out_call_done(aii_output *o)
{
  aii_out_call *call = &o->calls[o->n_calls - 1];
  if (call->args.len == 0) aii_buf_str(&call->args, "{}");
  call->complete = true;
  o->in_call = o->announced = false;
  o->after_call = true;
  o->id[0] = '\0';
  turn_to(o, OS_CONTENT); /* what follows a call is no reasoning */
  if (o->in_array) aii_out_enter(o, OS_ARRAY);
}

void aii_out_no_call(aii_output *o)
{
  aii_buf raw = o->raw;
  aii_buf_init(&o->raw, o->mem, 0);
  o->in_array = false;
  o->id[0] = '\0';
  aii_out_enter(o, o->outer);
  /* its first byte is text for sure; what follows may hold a call */
  size_t sure = raw.len > AII_OUT_MAX_AGAIN ? raw.len : AII_MIN(raw.len, 1);
  for (size_t i = 0; i < sure; i++) aii_out_text(o, aii_buf_cstr(&raw)[i]);
  o->in_call = false;
  aii_out_again(o, aii_buf_cstr(&raw) + sure, raw.len - sure);
  aii_buf_free(&raw);
}

/* ---- bytes -------------------------------------------------------------------------------------------------------------- */

void aii_out_again(aii_output *o, const char *text, size_t n)
{
  aii_buf rest = o->queue;
  aii_buf_init(&o->queue, o->mem, 0);
  aii_buf_add(&o->queue, text, n);
  if (o->queue_at < rest.len) aii_buf_add(&o->queue, rest.data + o->queue_at, rest.len - o->queue_at);
  o->queue_at = 0;
  aii_buf_free(&rest);
  if (o->in_call && !o->announced) o->raw.len -= AII_MIN(o->raw.len, n); /* they will be counted again */
}

static void on_marker(aii_output *o, const aii_out_marker *m)
{
  char text[AII_OUT_MAX_MARKER + 1];
  memcpy(text, m->text, m->n + 1);
  switch (m->event) {
    case OE_THINK: turn_to(o, OS_REASONING); break;
    case OE_THINK_END: turn_to(o, OS_CONTENT); break;
    case OE_DROP:
      if (o->state == OS_CONTENT) turn_to(o, OS_CONTENT);
      break;
    case OE_OPEN: aii_out_begin_call(o, text); break;
    case OE_NAME_END:
    case OE_ID_BEFORE:
    case OE_ID_BEHIND: aii_out_named(o, m->event); break;
    case OE_PARAM:
    case OE_KEY_END:
    case OE_VALUE_END:
    case OE_END:
      if (o->state == OS_RAW) aii_out_rewritten(o);
      else aii_out_param(o, m->event);
      break;
    case OE_HEADER:
      if (o->keep_reasoning && o->state == OS_CONTENT && strcmp(text, "<|end|>") == 0 && o->id_next)
        aii_buf_str(&o->content, text);
      o->id_next = false;
      aii_buf_clear(&o->word);
      if (strcmp(text, "<|channel|>") == 0) aii_buf_str(&o->word, text);
      aii_out_enter(o, OS_HEADER);
      break;
    case OE_MESSAGE: aii_out_header(o); break;
  }
}

/* A byte that is part of no marker. */
static void plain(aii_output *o, char byte)
{
  switch (o->state) {
    case OS_CONTENT:
    case OS_REASONING: aii_out_text(o, byte); break;
    case OS_NAME:
      aii_buf_char(&o->word, byte);
      if (o->word.len > AII_OUT_MAX_NAME) aii_out_no_call(o);
      break;
    case OS_KEY:
    case OS_HEADER: aii_buf_char(&o->word, byte); break;
    case OS_VALUE:
    case OS_RAW: aii_buf_char(&o->value, byte); break;
    default: break; /* between tags, or for someone else */
  }
}

/* The longest marker that the pending bytes begin with; *longer: they may yet become another one. */
static const aii_out_marker *find_marker(const aii_output *o, bool *longer)
{
  const aii_out_marker *best = NULL;
  *longer = false;
  for (size_t i = 0; i < o->n_markers; i++) {
    const aii_out_marker *m = &o->markers[i];
    size_t n = AII_MIN(m->n, o->pending.len);
    if (memcmp(m->text, o->pending.data, n) != 0) continue;
    if (m->n > o->pending.len) *longer = true;
    else if (best == NULL || m->n > best->n) best = m;
  }
  return best;
}

/* Takes the pending bytes as far as they are decided; the rest is looked at again. */
static void decide(aii_output *o, bool last)
{
  bool longer;
  const aii_out_marker *m = find_marker(o, &longer);
  if (longer && !last) return;
  aii_buf rest = o->pending;
  aii_buf_init(&o->pending, o->mem, 0);
  size_t used = m != NULL ? m->n : 1;
  char first = rest.data[0];
  aii_out_again(o, rest.data + used, rest.len - used);
  if (m != NULL) on_marker(o, m);
  else plain(o, first);
  aii_buf_free(&rest);
}

static void step(aii_output *o, char byte)
{
  if (o->in_call && !o->announced) aii_buf_char(&o->raw, byte);
  if (o->state >= OS_OPEN) {
    aii_out_call_byte(o, byte);
    return;
  }
  bool starts = o->pending.len > 0;
  for (size_t i = 0; i < o->n_markers && !starts; i++) starts = o->markers[i].text[0] == byte;
  if (!starts) {
    plain(o, byte);
    return;
  }
  aii_buf_char(&o->pending, byte);
  if (!o->pending.failed) decide(o, false);
}

static bool is_well(const aii_output *o)
{
  bool bad = o->failed || o->content.failed || o->reasoning.failed || o->space.failed || o->pending.failed ||
             o->queue.failed || o->raw.failed || o->word.failed || o->value.failed || o->early.failed ||
             o->end_tag.failed;
  if (o->n_calls > 0) bad |= o->calls[o->n_calls - 1].name.failed || o->calls[o->n_calls - 1].args.failed;
  return !bad;
}

static void run_queue(aii_output *o)
{
  while (o->queue_at < o->queue.len && is_well(o)) step(o, o->queue.data[o->queue_at++]);
  aii_buf_clear(&o->queue);
  o->queue_at = 0;
}

static aiinfra_status verdict(aii_output *o, aiinfra_error *err)
{
  if (is_well(o)) return AIINFRA_OK;
  o->failed = true;
  return aii_fail(err, AIINFRA_ENOMEM, "no memory for the model's output");
}

aiinfra_status aii_output_push(aii_output *o, const char *text, size_t n, aiinfra_error *err)
{
  for (size_t i = 0; i < n && is_well(o); i++) {
    o->hash = (o->hash ^ (uint8_t)text[i]) * 0x100000001B3u;
    step(o, text[i]);
    if (o->queue.len > 0) run_queue(o);
  }
  return verdict(o, err);
}

/* ---- the end -------------------------------------------------------------------------------------------------------------- */

/* The output ended within a call. What has no name yet and may as well be text is text. */
static void end_call(aii_output *o)
{
  if (o->state == OS_RAW) {
    aii_out_rewritten(o); /* the end may be all that is missing */
    return;
  }
  if (!o->announced && (o->state == OS_OPEN || o->bare)) {
    aii_out_no_call(o);
    return;
  }
  o->cut = true;
}

aiinfra_status aii_output_finish(aii_output *o, aiinfra_error *err)
{
  for (int rounds = 0; rounds < 2 * AII_OUT_MAX_AGAIN && is_well(o); rounds++) {
    if (o->pending.len > 0) decide(o, true);
    else if (o->in_call && !o->cut) end_call(o);
    else break;
    run_queue(o);
  }
  if (is_well(o) && o->state == OS_HEADER && o->content.len + o->reasoning.len + o->n_calls == 0 && o->word.len > 0 &&
      o->word.data[0] != '<')
    aii_buf_add(&o->content, o->word.data, o->word.len); /* no message at all: plain text */
  if (is_well(o) && o->state == OS_CONTENT && !o->drop_space && o->space.len > 0)
    aii_buf_add(&o->content, o->space.data, o->space.len);
  aii_buf_clear(&o->space);
  return verdict(o, err);
}

/* ---- making, asking -------------------------------------------------------------------------------------------------------- */

/* Where the text ends without white space. */
static size_t trimmed(const char *text, size_t n)
{
  while (n > 0 && is_space(text[n - 1])) n--;
  return n;
}

bool aii_out_ends_with(const char *prompt, size_t n, const char *text)
{
  size_t m = text != NULL ? trimmed(text, strlen(text)) : 0;
  n = prompt != NULL ? trimmed(prompt, n) : 0;
  return m > 0 && n >= m && memcmp(prompt + n - m, text, m) == 0;
}

/* What the prompt has begun goes on. */
static void start(aii_output *o, const aii_output_opts *opts)
{
  const aii_out_format *f = o->syntax.format;
  if (f != NULL && f->form == OF_HARMONY) {
    aii_out_enter(o, OS_HEADER);
  } else if (aii_out_ends_with(opts->prompt, opts->n_prompt, o->syntax.think)) {
    if (!o->keep_reasoning) {
      turn_to(o, OS_REASONING);
      return;
    }
    size_t n = trimmed(opts->prompt, opts->n_prompt), from = n - trimmed(o->syntax.think, strlen(o->syntax.think));
    aii_buf_add(&o->content, opts->prompt + from, opts->n_prompt - from);
    o->said = true;
  } else if (o->calls_on && f != NULL && f->content_name != NULL &&
             aii_out_ends_with(opts->prompt, opts->n_prompt, f->open[0])) {
    aii_out_begin_call(o, "");
  }
}

aiinfra_status aii_output_create(aii_mem *mem, const aii_output_opts *opts, aii_output **out, aiinfra_error *err)
{
  *out = NULL;
  aii_output *o = aii_new(mem, sizeof *o);
  if (o == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for the model's output");
  o->mem = mem;
  o->syntax = opts->syntax;
  o->keep_reasoning = opts->keep_reasoning;
  o->json = opts->json;
  o->seed = opts->seed;
  o->hash = 0xCBF29CE484222325u;
  aii_buf *bufs[] = {&o->content, &o->reasoning, &o->space, &o->pending, &o->queue,
                     &o->raw,     &o->word,      &o->value, &o->early,   &o->end_tag};
  for (size_t i = 0; i < AII_COUNT(bufs); i++) aii_buf_init(bufs[i], mem, 0);
  aiinfra_status rc = AIINFRA_OK;
  if (opts->tools_json != NULL)
    rc = aii_json_parse(opts->tools_json, strlen(opts->tools_json), "tools", 0, &o->tools, err);
  if (rc == AIINFRA_OK && o->tools != NULL && !json_is_array(o->tools))
    rc = aii_fail(err, AIINFRA_EINVAL, "tools: expected an array");
  if (rc != AIINFRA_OK) {
    aii_output_free(o);
    return rc;
  }
  o->calls_on = json_array_size(o->tools) > 0 && o->syntax.format != NULL;
  aii_out_enter(o, OS_CONTENT);
  start(o, opts);
  rc = verdict(o, err);
  if (rc == AIINFRA_OK) *out = o;
  else aii_output_free(o);
  return rc;
}

void aii_output_free(aii_output *o)
{
  if (o == NULL) return;
  aii_buf *bufs[] = {&o->content, &o->reasoning, &o->space, &o->pending, &o->queue,
                     &o->raw,     &o->word,      &o->value, &o->early,   &o->end_tag};
  for (size_t i = 0; i < AII_COUNT(bufs); i++) aii_buf_free(bufs[i]);
  for (size_t i = 0; i < o->n_calls; i++) {
    aii_buf_free(&o->calls[i].name);
    aii_buf_free(&o->calls[i].args);
  }
  aii_del(o->mem, o->calls, o->cap_calls * sizeof *o->calls);
  json_decref(o->tools);
  aii_del(o->mem, o, sizeof *o);
}

bool aii_output_wants(const aii_output *o, const char *text, size_t n)
{
  const aii_out_format *f = o->syntax.format;
  if (n == 0) return false;
  if (o->syntax.think != NULL && memmem(o->syntax.think, strlen(o->syntax.think), text, n) != NULL) return true;
  if (o->syntax.think_end != NULL && memmem(o->syntax.think_end, strlen(o->syntax.think_end), text, n) != NULL)
    return true;
  if (f == NULL) return false;
  if (f->form == OF_HARMONY) return n > 4 && memcmp(text, "<|", 2) == 0;
  return aii_out_format_has(f, text, n);
}

static bool take(const aii_buf *buf, size_t *sent, aii_output_delta *delta)
{
  if (buf->len == *sent) return false;
  delta->text = aii_buf_cstr(buf) + *sent;
  delta->n = buf->len - *sent;
  *sent = buf->len;
  return true;
}

bool aii_output_next(aii_output *o, aii_output_delta *delta)
{
  *delta = (aii_output_delta){.kind = AII_OUT_REASONING, .text = ""};
  if (take(&o->reasoning, &o->reasoning_sent, delta)) return true;
  delta->kind = AII_OUT_CONTENT;
  if (take(&o->content, &o->content_sent, delta)) return true;
  delta->kind = AII_OUT_CALL;
  for (; o->first_open < o->n_calls; o->first_open++) {
    aii_out_call *call = &o->calls[o->first_open];
    delta->index = (uint32_t)o->first_open;
    if (!call->told) {
      call->told = true;
      delta->id = call->id;
      delta->name = aii_buf_cstr(&call->name);
      (void)take(&call->args, &call->sent, delta);
      return true;
    }
    if (take(&call->args, &call->sent, delta)) return true;
    if (!call->complete) return false;
  }
  return false;
}

const char *aii_output_content(const aii_output *o, size_t *n)
{
  *n = o->content.len;
  return aii_buf_cstr(&o->content);
}

const char *aii_output_reasoning(const aii_output *o, size_t *n)
{
  *n = o->reasoning.len;
  return aii_buf_cstr(&o->reasoning);
}

size_t aii_output_calls(const aii_output *o)
{
  size_t n = 0;
  for (size_t i = 0; i < o->n_calls; i++) n += o->calls[i].complete;
  return n;
}

bool aii_output_cut(const aii_output *o)
{
  return o->cut;
}

void aii_output_calls_json(const aii_output *o, aii_buf *out)
{
  bool any = false;
  aii_buf_char(out, '[');
  for (size_t i = 0; i < o->n_calls; i++) {
    const aii_out_call *call = &o->calls[i];
    if (!call->complete) continue;
    aii_buf_str(out, any ? ",{\"id\":" : "{\"id\":");
    aii_buf_json(out, call->id, strlen(call->id));
    aii_buf_str(out, ",\"type\":\"function\",\"function\":{\"name\":");
    aii_buf_json(out, aii_buf_cstr(&call->name), call->name.len);
    aii_buf_str(out, ",\"arguments\":");
    aii_buf_json(out, aii_buf_cstr(&call->args), call->args.len);
    aii_buf_str(out, "}}");
    any = true;
  }
  aii_buf_char(out, ']');
}
