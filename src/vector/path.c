/* path.c - the keys of fields: "lang", "meta.year", "items[].price", "items[0]", "\"a key. with dots\".b".
 *
 * Parts are separated by dots; a part in quotes may hold any character but a quote. "[]" behind a part stands for every
 * element of an array, "[3]" for one. What does not follow this is refused, never looked up as it stands.
 */
#include "src/vector/filter.h"

static aiinfra_status bad_path(aii_compiler *c, const char *key, size_t n, const char *why)
{
  int shown = (int)AII_MIN(n, (size_t)80);
  return aii_fail(c->err, AIINFRA_EINVAL, "filter: %s: the key '%.*s' %s", c->path_n > 0 ? c->path : "the filter",
                  shown, key, why);
}

static aiinfra_status add_step(aii_compiler *c, aii_path *path, aii_step step)
{
  aii_filter *f = c->filter;
  if (path->n == AII_PATH_STEPS) return bad_path(c, path->whole, path->whole_n, "has more than 16 parts");
  if (!aii_grow(f->mem, &f->steps, &f->steps_cap, f->n_steps + 1, sizeof *f->steps)) return aii_filter_no_memory(c);
  f->steps[f->n_steps++] = step;
  path->n++;
  return AIINFRA_OK;
}

/* "[]" or "[12]", at *at. */
static aiinfra_status parse_bracket(aii_compiler *c, aii_path *path, size_t *at)
{
  const char *s = path->whole;
  size_t n = path->whole_n, i = *at + 1;
  aii_step step = {.kind = i < n && s[i] == ']' ? AII_STEP_EACH : AII_STEP_ELEMENT};
  for (; i < n && s[i] >= '0' && s[i] <= '9' && i - *at < 10; i++) step.at = step.at * 10 + (uint64_t)(s[i] - '0');
  if (i == n || s[i] != ']') return bad_path(c, s, n, "has a '[' that is neither [] nor [NUMBER]");
  *at = i + 1;
  return add_step(c, path, step);
}

/* A name, in quotes or up to the next dot or bracket. */
static aiinfra_status parse_name(aii_compiler *c, aii_path *path, size_t *at)
{
  const char *s = path->whole;
  size_t n = path->whole_n, i = *at;
  bool quoted = i < n && s[i] == '"';
  aii_step step = {.kind = AII_STEP_MEMBER, .key = AII_NO_KEY, .name = s + i + quoted};
  i += quoted;
  while (i < n && (quoted ? s[i] != '"' : s[i] != '.' && s[i] != '[' && s[i] != '"' && s[i] != ']')) i++;
  step.n = (size_t)(s + i - step.name);
  if (quoted && i == n) return bad_path(c, s, n, "has a quote that does not end");
  if (!quoted && i < n && (s[i] == '"' || s[i] == ']')) return bad_path(c, s, n, "has a quote or ']' inside a part");
  if (step.n == 0) return bad_path(c, s, n, "has an empty part; put names with dots in quotes");
  *at = i + quoted;
  return add_step(c, path, step);
}

static aiinfra_status parse(aii_compiler *c, aii_path *path)
{
  size_t at = 0;
  aiinfra_status rc = parse_name(c, path, &at);
  while (rc == AIINFRA_OK && at < path->whole_n) {
    if (path->whole[at] == '[') {
      rc = parse_bracket(c, path, &at);
    } else if (path->whole[at++] == '.') {
      rc = parse_name(c, path, &at);
    } else {
      rc = bad_path(c, path->whole, path->whole_n, "has something behind a quote or ']' that is neither . nor [");
    }
  }
  return rc;
}

aiinfra_status aii_path_add(aii_compiler *c, const char *key, size_t n, uint32_t *out)
{
  aii_filter *f = c->filter;
  aii_path path = {.whole = key, .whole_n = n, .whole_key = AII_NO_KEY, .first = (uint32_t)f->n_steps};
  aiinfra_status rc = parse(c, &path);
  if (rc != AIINFRA_OK) return rc;
  path.ends_each = f->steps[f->n_steps - 1].kind == AII_STEP_EACH;
  if (!aii_grow(f->mem, &f->paths, &f->paths_cap, f->n_paths + 1, sizeof *f->paths)) return aii_filter_no_memory(c);
  *out = (uint32_t)f->n_paths;
  f->paths[f->n_paths++] = path;
  return AIINFRA_OK;
}
