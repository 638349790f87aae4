/* tmpl_method.c - methods of lists and mappings, and the global functions. Those of strings are in tmpl_string.c. */
#include <time.h>

#include "src/text/tmpl_impl.h"

static const char *const STR_METHODS[] = {"split",        "rsplit",       "strip",   "lstrip",  "rstrip",  "startswith",
                                          "endswith",     "replace",      "upper",   "lower",   "title",   "capitalize",
                                          "find",         "rfind",        "index",   "count",   "join",    "splitlines",
                                          "removeprefix", "removesuffix", "isdigit", "isalpha", "isalnum", "isspace",
                                          "isupper",      "islower",      "format",  NULL};
static const char *const LIST_METHODS[] = {"append", "extend",  "pop",  "insert", "index",
                                           "count",  "reverse", "copy", NULL};
static const char *const MAP_METHODS[] = {"get",    "items", "keys",       "values", "pop",
                                          "update", "copy",  "setdefault", NULL};
static const char *const LOOP_METHODS[] = {"cycle", NULL};

bool aii_t_has_method(aii_tv v, aii_tv name)
{
  const char *const *names = v.type == TV_STR    ? STR_METHODS
                             : aii_tv_indexed(v) ? LIST_METHODS
                             : v.type == TV_MAP  ? MAP_METHODS
                             : v.type == TV_NAMESPACE && aii_tv_get(v.map, aii_tv_lit("revindex0")) != NULL
                                 ? LOOP_METHODS
                                 : NULL;
  for (; names != NULL && *names != NULL; names++) {
    if (aii_tv_is(name, *names)) return true;
  }
  return false;
}

static bool missing(aii_trun *run, aii_tv name)
{
  return aii_t_fail(run, AIINFRA_EINVAL, "%.*s: an argument is missing", (int)AII_MIN(name.n, 40), name.s);
}

static bool pop_item(aii_trun *run, aii_tlist *list, const aii_tv *at, aii_tv *out)
{
  int64_t i = at != NULL && at->type == TV_INT ? at->i : -1;
  if (i < 0) i += (int64_t)list->n;
  if (i < 0 || i >= (int64_t)list->n) return aii_t_fail(run, AIINFRA_EINVAL, "pop: no such item");
  *out = list->items[i];
  memmove(&list->items[i], &list->items[i + 1], (list->n - (size_t)i - 1) * sizeof *list->items);
  list->n--;
  return aii_t_step(run, list->n / 8);
}

static bool insert_item(aii_trun *run, aii_tlist *list, aii_tv at, aii_tv item)
{
  int64_t n = (int64_t)list->n, i = at.type == TV_INT ? at.i : n;
  if (!aii_tv_append(run, list, item) || !aii_t_step(run, list->n / 8)) return false;
  if (i < 0) i += n;
  i = i < 0 ? 0 : i > n ? n : i;
  memmove(&list->items[i + 1], &list->items[i], (size_t)(n - i) * sizeof item);
  list->items[i] = item;
  return true;
}

static bool find_item(aii_trun *run, const aii_tlist *list, aii_tv item, bool count, aii_tv *out)
{
  int64_t n = 0;
  bool same;
  for (size_t i = 0; i < list->n; i++) {
    if (!aii_tv_equal(run, list->items[i], item, &same)) return false;
    if (same && !count) {
      *out = aii_tv_int((int64_t)i);
      return true;
    }
    n += same;
  }
  if (!count) return aii_t_fail(run, AIINFRA_EINVAL, "index: the item is not in the list");
  *out = aii_tv_int(n);
  return true;
}

static bool list_method(aii_trun *run, aii_tv self, aii_tv name, const aii_targs *args, aii_tv *out)
{
  aii_tlist *list = self.list, *other;
  bool known;
  *out = aii_tv_none();
  if (aii_tv_is(name, "pop")) return pop_item(run, list, aii_t_arg(args, 0, NULL), out);
  if (aii_tv_is(name, "copy")) return aii_t_seq_filter(run, aii_tv_lit("list"), self, &(aii_targs){0}, out, &known);
  if (aii_tv_is(name, "reverse")) {
    for (size_t i = 0; i < list->n / 2; i++) {
      aii_tv held = list->items[i];
      list->items[i] = list->items[list->n - 1 - i];
      list->items[list->n - 1 - i] = held;
    }
    return aii_t_step(run, list->n / 8);
  }
  if (args->n < 1) return missing(run, name);
  if (aii_tv_is(name, "append")) return aii_tv_append(run, list, args->items[0]);
  if (aii_tv_is(name, "extend")) {
    if (!aii_tv_iterate(run, args->items[0], &other)) return false;
    size_t n = other->n;
    for (size_t i = 0; i < n; i++) {
      if (!aii_tv_append(run, list, other->items[i])) return false;
    }
    return true;
  }
  if (aii_tv_is(name, "insert"))
    return args->n < 2 ? missing(run, name) : insert_item(run, list, args->items[0], args->items[1]);
  return find_item(run, list, args->items[0], aii_tv_is(name, "count"), out);
}

static bool map_values(aii_trun *run, const aii_tmap *map, aii_tv *out)
{
  if (!aii_tv_list(run, map->n, out)) return false;
  for (size_t i = 0; i < map->n; i++) {
    if (!aii_tv_append(run, out->list, map->values[i])) return false;
  }
  return true;
}

/* From a list of pairs. */
static bool merge_pairs(aii_trun *run, aii_tmap *map, aii_tv list)
{
  aii_tlist *items, *pair;
  if (!aii_tv_iterate(run, list, &items)) return false;
  for (size_t i = 0; i < items->n; i++) {
    if (!aii_tv_iterate(run, items->items[i], &pair)) return false;
    if (pair->n != 2) return aii_t_fail(run, AIINFRA_EINVAL, "expected a mapping or a list of pairs");
    if (!aii_tv_put(run, map, pair->items[0], pair->items[1])) return false;
  }
  return true;
}

static bool merge(aii_trun *run, aii_tmap *map, const aii_targs *args)
{
  for (size_t i = 0; i < args->n; i++) {
    if (args->items[i].type != TV_MAP) {
      if (!merge_pairs(run, map, args->items[i])) return false;
      continue;
    }
    const aii_tmap *other = args->items[i].map;
    size_t n = other->n;
    for (size_t k = 0; k < n; k++) {
      if (!aii_tv_put(run, map, other->keys[k], other->values[k])) return false;
    }
  }
  for (size_t i = 0; i < args->n_named; i++) {
    if (!aii_tv_put(run, map, args->names[i], args->named[i])) return false;
  }
  return true;
}

static bool take_key(aii_trun *run, aii_tmap *map, const aii_targs *args, aii_tv *out)
{
  aii_tv *found = aii_tv_get(map, args->items[0]);
  if (found == NULL && args->n < 2) return aii_t_fail(run, AIINFRA_EINVAL, "pop: no such key");
  *out = found != NULL ? *found : args->items[1];
  if (found == NULL) return true;
  size_t at = (size_t)(found - map->values), rest = map->n - at - 1;
  memmove(&map->values[at], &map->values[at + 1], rest * sizeof *found);
  memmove(&map->keys[at], &map->keys[at + 1], rest * sizeof *found);
  map->n--;
  return aii_t_step(run, rest / 8);
}

static bool map_method(aii_trun *run, aii_tv self, aii_tv name, const aii_targs *args, aii_tv *out)
{
  aii_tlist *keys;
  bool known;
  *out = aii_tv_none();
  if (!aii_t_step(run, 1 + self.map->n / 8)) return false;
  if (aii_tv_is(name, "items") || aii_tv_is(name, "values")) {
    bool ok = name.s[0] == 'i' ? aii_t_seq_filter(run, name, self, args, out, &known) : map_values(run, self.map, out);
    out->look = TL_VIEW;
    return ok;
  }
  if (aii_tv_is(name, "update")) return merge(run, self.map, args);
  if (aii_tv_is(name, "copy"))
    return aii_tv_map(run, out) && merge(run, out->map, &(aii_targs){.items = &self, .n = 1});
  if (aii_tv_is(name, "keys")) {
    if (!aii_tv_iterate(run, self, &keys)) return false;
    *out = (aii_tv){.type = TV_LIST, .look = TL_VIEW, .list = keys};
    return true;
  }
  if (args->n < 1) return missing(run, name);
  if (aii_tv_is(name, "pop")) return take_key(run, self.map, args, out);
  const aii_tv *found = aii_tv_get(self.map, args->items[0]), *other = aii_t_arg(args, 1, "default");
  if (found != NULL || other != NULL) *out = found != NULL ? *found : *other;
  return found != NULL || !aii_tv_is(name, "setdefault") || aii_tv_put(run, self.map, args->items[0], *out);
}

bool aii_t_method(aii_trun *run, aii_tv self, aii_tv name, const aii_targs *args, aii_tv *out)
{
  if (self.type == TV_STR) return aii_t_str_method(run, self, name, args, out);
  if (self.type == TV_LIST) return list_method(run, self, name, args, out);
  if (self.type == TV_MAP) return map_method(run, self, name, args, out);
  if (args->n == 0) return missing(run, name); /* loop.cycle */
  *out = args->items[(size_t)self.map->values[1].i % args->n];
  return true;
}

/* ---- global functions ---------------------------------------------------------------------------------------------- */

static bool range(aii_trun *run, const aii_targs *args, aii_tv *out)
{
  int64_t bounds[3] = {0, 0, 1};
  if (args->n < 1 || args->n > 3) return aii_t_fail(run, AIINFRA_EINVAL, "range: one to three integers are needed");
  for (size_t i = 0; i < args->n; i++) {
    if (args->items[i].type != TV_INT)
      return aii_t_fail(run, AIINFRA_EINVAL, "range: %s is no integer", aii_tv_type_name(args->items[i]));
    bounds[args->n == 1 ? 1 : i] = args->items[i].i;
  }
  int64_t from = bounds[0], to = bounds[1], step = bounds[2];
  if (step == 0) return aii_t_fail(run, AIINFRA_EINVAL, "range: a step of 0");
  double n = ((double)to - (double)from) / (double)step;
  if (n > AII_T_MAX_RANGE) return aii_t_fail(run, AIINFRA_ELIMIT, "range: more than %d numbers", AII_T_MAX_RANGE);
  if (!aii_tv_list(run, n > 0 ? (size_t)n + 1 : 0, out)) return false;
  for (int64_t i = from; step > 0 ? i < to : i > to;) {
    if (!aii_tv_append(run, out->list, aii_tv_int(i))) return false;
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return true;
}

static bool now(aii_trun *run, const aii_targs *args, aii_tv *out)
{
  char format[128], text[256];
  struct tm tm;
  if (args->n < 1 || args->items[0].type != TV_STR || args->items[0].n >= sizeof format) {
    return aii_t_fail(run, AIINFRA_EINVAL, "strftime_now: a short format is needed");
  }
  memcpy(format, args->items[0].s, args->items[0].n);
  format[args->items[0].n] = '\0';
  run->steps += 50;
  time_t seconds = run->now_s != 0 ? (time_t)run->now_s : (time_t)(aii_unix_ms() / 1000);
  if (localtime_r(&seconds, &tm) == NULL) return aii_t_fail(run, AIINFRA_EINTERNAL, "strftime_now: no local time");
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
  size_t n = strftime(text, sizeof text, format, &tm);
#pragma GCC diagnostic pop
  return aii_tv_copy(run, text, n, out);
}

static const char *const FUNCTIONS[] = {"raise_exception", "range", "namespace", "dict", "strftime_now"};

bool aii_t_is_function(aii_tv name)
{
  for (size_t i = 0; i < AII_COUNT(FUNCTIONS); i++) {
    if (aii_tv_is(name, FUNCTIONS[i])) return true;
  }
  return false;
}

bool aii_t_function(aii_trun *run, aii_tv name, const aii_targs *args, aii_tv *out)
{
  if (aii_tv_is(name, "range")) return range(run, args, out);
  if (aii_tv_is(name, "strftime_now")) return now(run, args, out);
  if (aii_tv_is(name, "raise_exception")) {
    aii_tv text = aii_tv_lit("raise_exception() without a message");
    if (args->n > 0 && !aii_tv_str(run, args->items[0], &text)) return false;
    return aii_t_fail(run, AIINFRA_EINVAL, "%.*s", (int)AII_MIN(text.n, 380), text.s);
  }
  if (!aii_tv_map(run, out)) return false;
  if (!merge(run, out->map, args)) return false;
  if (aii_tv_is(name, "namespace")) out->type = TV_NAMESPACE;
  return true;
}
