/* pipeline.c - the lists of steps: appending one, freeing all. Strings are copied, regular expressions taken over. */
#include "src/text/pipe_impl.h"

enum { MOST_GROWTH = 64, LEAST_GROWN = 4096 };

static bool own(aii_mem *mem, aii_str *s)
{
  aii_str from = *s;
  *s = (aii_str){NULL, 0};
  if (from.n == 0) return true;
  char *copy = aii_new_raw(mem, from.n);
  if (copy == NULL) return false;
  memcpy(copy, from.p, from.n);
  *s = (aii_str){copy, from.n};
  return true;
}

static void disown(aii_mem *mem, aii_str *s)
{
  aii_del(mem, (void *)(uintptr_t)s->p, s->n);
  *s = (aii_str){NULL, 0};
}

/* Replacements of single bytes, none of which makes a byte that a later one replaces, can be one pass. */
static uint32_t joins(const aii_pipeline *pipe, const aii_norm_step *step)
{
  const aii_norm_step *last = pipe->n_norm > 0 ? &pipe->norm[pipe->n_norm - 1] : NULL;
  bool one = step->kind == AII_NORM_REPLACE && step->regex == NULL && step->from.n == 1;
  if (!one || last == NULL || last->kind != AII_NORM_REPLACE || last->regex != NULL || last->from.n != 1) return 0;
  for (size_t i = pipe->n_norm - 1 - last->flags; i < pipe->n_norm; i++) {
    const aii_norm_step *other = &pipe->norm[i];
    if (other->from.p[0] == step->from.p[0]) return 0;
    if (other->to.n > 0 && memchr(other->to.p, step->from.p[0], other->to.n) != NULL) return 0;
  }
  return last->flags + 1 < UINT8_MAX ? last->flags + 1 : 0;
}

size_t aii_pipe_most(size_t n)
{
  return n < INT32_MAX / MOST_GROWTH ? AII_MIN(n * MOST_GROWTH + LEAST_GROWN, (size_t)INT32_MAX) : INT32_MAX;
}

bool aii_pipe_norm(aii_mem *mem, aii_pipeline *pipe, aii_norm_step step)
{
  if (!aii_grow(mem, &pipe->norm, &pipe->cap_norm, pipe->n_norm + 1, sizeof step)) {
    aii_regex_free(step.regex);
    return false;
  }
  bool from = own(mem, &step.from), to = own(mem, &step.to);
  if (from && step.kind == AII_NORM_REPLACE) step.flags = joins(pipe, &step);
  pipe->norm[pipe->n_norm++] = step;
  return from && to;
}

bool aii_pipe_split(aii_mem *mem, aii_pipeline *pipe, aii_split_step step)
{
  if (!aii_grow(mem, &pipe->split, &pipe->cap_split, pipe->n_split + 1, sizeof step)) {
    aii_regex_free(step.regex);
    return false;
  }
  bool ok = own(mem, &step.text);
  pipe->split[pipe->n_split++] = step;
  return ok;
}

bool aii_pipe_decode(aii_mem *mem, aii_pipeline *pipe, aii_decode_step step)
{
  if (!aii_grow(mem, &pipe->decode, &pipe->cap_decode, pipe->n_decode + 1, sizeof step)) return false;
  bool from = own(mem, &step.from), to = own(mem, &step.to);
  pipe->decode[pipe->n_decode++] = step;
  return from && to;
}

void aii_pipe_free(aii_mem *mem, aii_pipeline *pipe)
{
  for (size_t i = 0; i < pipe->n_norm; i++) {
    disown(mem, &pipe->norm[i].from);
    disown(mem, &pipe->norm[i].to);
    aii_regex_free(pipe->norm[i].regex);
  }
  for (size_t i = 0; i < pipe->n_split; i++) {
    disown(mem, &pipe->split[i].text);
    aii_regex_free(pipe->split[i].regex);
  }
  for (size_t i = 0; i < pipe->n_decode; i++) {
    disown(mem, &pipe->decode[i].from);
    disown(mem, &pipe->decode[i].to);
  }
  aii_del(mem, pipe->norm, pipe->cap_norm * sizeof *pipe->norm);
  aii_del(mem, pipe->split, pipe->cap_split * sizeof *pipe->split);
  aii_del(mem, pipe->decode, pipe->cap_decode * sizeof *pipe->decode);
  *pipe = (aii_pipeline){0};
}
