/* tmpl_seq.c - filters of sequences: join, map, select, sort and their like. Sorting counts its comparisons as steps. */
#include "src/text/tmpl_impl.h"

/* item.a.b for the attribute "a.b". */
static bool path(aii_trun *run, aii_tv item, aii_tv attr, aii_tv *out)
{
  *out = item;
  if (attr.type == TV_INT) return aii_t_item(run, item, attr, out);
  if (attr.type != TV_STR) return aii_t_fail(run, AIINFRA_EINVAL, "an attribute's name must be a string");
  size_t from = 0;
  for (size_t i = 0; i <= attr.n; i++) {
    if (i < attr.n && attr.s[i] != '.') continue;
    aii_tv key = aii_tv_strn(attr.s + from, i - from);
    if (!aii_t_item(run, *out, key, out)) return false;
    from = i + 1;
  }
  return true;
}

static bool first_or_last(aii_trun *run, aii_tv v, bool last, aii_tv *out)
{
  aii_tlist *list;
  if (last && v.type == TV_LIST && v.look == TL_GENERATOR)
    return aii_t_fail(run, AIINFRA_EINVAL, "a generator has no last item");
  if (!aii_tv_iterate(run, v, &list)) return false;
  if (v.type == TV_LIST && v.look == TL_GENERATOR && list->n > 0) /* only the first one is taken out of it */
    *v.list = (aii_tlist){.items = list->items + 1, .n = list->n - 1, .cap = list->cap - 1};
  *out = list->n == 0 ? aii_tv_undefined(aii_tv_lit("the item of an empty sequence"))
                      : list->items[last ? list->n - 1 : 0];
  return true;
}

static bool join(aii_trun *run, const aii_tlist *list, const aii_targs *args, aii_tv *out)
{
  const aii_tv *sep = aii_t_arg(args, 0, "d"), *attr = aii_t_arg(args, 1, "attribute");
  aii_tv glue = aii_tv_lit(""), item;
  if (sep != NULL && !aii_tv_str(run, *sep, &glue)) return false;
  aii_buf buf;
  aii_buf_init(&buf, run->mem, AII_T_MAX_OUTPUT);
  bool ok = true;
  for (size_t i = 0; ok && i < list->n; i++) {
    if (i > 0) aii_buf_add(&buf, glue.s, glue.n);
    item = list->items[i];
    ok = (attr == NULL || path(run, item, *attr, &item)) && aii_tv_write(run, item, &buf, false);
  }
  return aii_tv_from_buf(run, &buf, out);
}

static bool copy(aii_trun *run, const aii_tlist *list, bool reverse, aii_tv *out)
{
  if (!aii_tv_list(run, list->n, out)) return false;
  for (size_t i = 0; i < list->n; i++) {
    if (!aii_tv_append(run, out->list, list->items[reverse ? list->n - 1 - i : i])) return false;
  }
  return true;
}

static bool pairs(aii_trun *run, const aii_tmap *map, aii_tv *out)
{
  aii_tv pair;
  if (!aii_tv_list(run, map->n, out)) return false;
  for (size_t i = 0; i < map->n; i++) {
    if (!aii_tv_list(run, 2, &pair) || !aii_tv_append(run, pair.list, map->keys[i]) ||
        !aii_tv_append(run, pair.list, map->values[i])) {
      return false;
    }
    pair.look = TL_TUPLE;
    if (!aii_tv_append(run, out->list, pair)) return false;
  }
  return true;
}

/* selectattr, rejectattr (attr) and select, reject: items that pass a test. */
static bool choose(aii_trun *run, const aii_tlist *list, const aii_targs *args, bool attr, bool keep, aii_tv *out)
{
  size_t used = attr ? 1 : 0;
  if (attr && args->n == 0) return aii_t_fail(run, AIINFRA_EINVAL, "the attribute's name is missing");
  aii_targs rest = {0};
  if (args->n > used + 1) rest = (aii_targs){.items = args->items + used + 1, .n = args->n - used - 1};
  if (!aii_tv_list(run, 0, out)) return false;
  for (size_t i = 0; i < list->n; i++) {
    aii_tv v = list->items[i];
    bool yes;
    if (attr && !path(run, v, args->items[0], &v)) return false;
    if (args->n > used) {
      if (!aii_t_test(run, args->items[used], v, &rest, &yes)) return false;
    } else {
      yes = aii_tv_truth(v);
    }
    if (yes == keep && !aii_tv_append(run, out->list, list->items[i])) return false;
  }
  return true;
}

/* map(attribute="x", default=y) and map("filter", ...) */
static bool map(aii_trun *run, const aii_tlist *list, const aii_targs *args, aii_tv *out)
{
  const aii_tv *attr = aii_t_arg(args, SIZE_MAX, "attribute"), *other = aii_t_arg(args, SIZE_MAX, "default");
  aii_targs rest = {0};
  if (args->n > 1) rest = (aii_targs){.items = args->items + 1, .n = args->n - 1};
  if (attr == NULL && args->n == 0) return aii_t_fail(run, AIINFRA_EINVAL, "map: a filter or attribute is needed");
  if (!aii_tv_list(run, list->n, out)) return false;
  for (size_t i = 0; i < list->n; i++) {
    aii_tv v = list->items[i];
    bool ok = attr != NULL ? path(run, v, *attr, &v) : aii_t_filter(run, args->items[0], v, &rest, &v);
    if (ok && v.type == TV_UNDEFINED && other != NULL) v = *other;
    if (!ok || !aii_tv_append(run, out->list, v)) return false;
  }
  return true;
}

/* The key to sort or compare by: the attribute, in lower case unless case matters. */
static bool sort_key(aii_trun *run, aii_tv v, const aii_tv *attr, bool exact, aii_tv *out)
{
  if (attr != NULL && !path(run, v, *attr, &v)) return false;
  *out = v;
  return v.type != TV_STR || exact || aii_t_case(run, v, 'l', out);
}

/* Insertion by halves: stable, and each comparison and move counts. */
static bool sort_by(aii_trun *run, aii_tlist *items, aii_tlist *keys, bool reverse)
{
  for (size_t i = 1; i < items->n; i++) {
    size_t lo = 0, hi = i;
    aii_tv item = items->items[i], key = keys->items[i];
    while (lo < hi) {
      size_t mid = (lo + hi) / 2;
      int order;
      if (!aii_tv_compare(run, key, keys->items[mid], &order)) return false;
      if (reverse ? order > 0 : order < 0) {
        hi = mid;
      } else {
        lo = mid + 1;
      }
    }
    if (!aii_t_step(run, (i - lo) / 8)) return false;
    memmove(&items->items[lo + 1], &items->items[lo], (i - lo) * sizeof item);
    memmove(&keys->items[lo + 1], &keys->items[lo], (i - lo) * sizeof key);
    items->items[lo] = item;
    keys->items[lo] = key;
  }
  return true;
}

static bool sort(aii_trun *run, const aii_tlist *list, const aii_tv *attr, bool exact, bool reverse, aii_tv *out)
{
  aii_tv keys, key;
  if (!copy(run, list, false, out) || !aii_tv_list(run, list->n, &keys)) return false;
  for (size_t i = 0; i < list->n; i++) {
    if (!sort_key(run, list->items[i], attr, exact, &key) || !aii_tv_append(run, keys.list, key)) return false;
  }
  return sort_by(run, out->list, keys.list, reverse);
}

static bool dictsort(aii_trun *run, const aii_tmap *m, const aii_targs *args, aii_tv *out)
{
  const aii_tv *exact = aii_t_arg(args, 0, "case_sensitive"), *by = aii_t_arg(args, 1, "by"),
               *reverse = aii_t_arg(args, 2, "reverse");
  aii_tv items, nth = aii_tv_int(by != NULL && aii_tv_is(*by, "value"));
  return pairs(run, m, &items) && sort(run, items.list, &nth, exact != NULL && aii_tv_truth(*exact),
                                       reverse != NULL && aii_tv_truth(*reverse), out);
}

static bool unique(aii_trun *run, const aii_tlist *list, const aii_targs *args, aii_tv *out)
{
  const aii_tv *exact = aii_t_arg(args, 0, "case_sensitive"), *attr = aii_t_arg(args, 1, "attribute");
  aii_tv keys, key;
  bool found;
  if (!aii_tv_list(run, 0, out) || !aii_tv_list(run, 0, &keys)) return false;
  for (size_t i = 0; i < list->n; i++) {
    if (!sort_key(run, list->items[i], attr, exact != NULL && aii_tv_truth(*exact), &key)) return false;
    if (!aii_t_contains(run, keys, key, &found)) return false;
    if (!found && (!aii_tv_append(run, keys.list, key) || !aii_tv_append(run, out->list, list->items[i]))) return false;
  }
  return true;
}

static bool extreme(aii_trun *run, const aii_tlist *list, const aii_targs *args, bool max, aii_tv *out)
{
  const aii_tv *attr = aii_t_arg(args, 1, "attribute");
  aii_tv best = aii_tv_none(), key;
  *out = aii_tv_undefined(aii_tv_lit("the extreme of an empty sequence"));
  for (size_t i = 0; i < list->n; i++) {
    int order = -1;
    if (!sort_key(run, list->items[i], attr, false, &key)) return false;
    if (i > 0 && !aii_tv_compare(run, key, best, &order)) return false;
    if (i > 0 && (max ? order <= 0 : order >= 0)) continue;
    best = key;
    *out = list->items[i];
  }
  return true;
}

static bool total(aii_trun *run, const aii_tlist *list, const aii_targs *args, aii_tv *out)
{
  const aii_tv *attr = aii_t_arg(args, 0, "attribute"), *start = aii_t_arg(args, 1, "start");
  *out = start != NULL ? *start : aii_tv_int(0);
  for (size_t i = 0; i < list->n; i++) {
    aii_tv v = list->items[i];
    if ((attr != NULL && !path(run, v, *attr, &v)) || !aii_t_binary(run, TO_ADD, *out, v, out)) return false;
  }
  return true;
}

/* Characters from the last to the first. */
static bool reverse_text(aii_trun *run, aii_tv s, aii_tv *out)
{
  return aii_t_slice(run, s, aii_tv_none(), aii_tv_none(), aii_tv_int(-1), out);
}

static const char *const NAMES[] = {"first",    "last",       "join",       "list",   "reverse", "items",
                                    "dictsort", "selectattr", "rejectattr", "select", "reject",  "map",
                                    "sort",     "unique",     "min",        "max",    "sum"};

static bool by_number(aii_trun *run, size_t nth, aii_tv v, const aii_targs *args, aii_tv *out)
{
  aii_tlist *list;
  if (nth < 2) return first_or_last(run, v, nth == 1, out);
  if (nth == 5 || nth == 6) {
    if (v.type == TV_UNDEFINED && nth == 5) return aii_tv_list(run, 0, out);
    if (v.type != TV_MAP) return aii_t_fail(run, AIINFRA_EINVAL, "%s: expected a mapping", NAMES[nth]);
    return nth == 5 ? pairs(run, v.map, out) : dictsort(run, v.map, args, out);
  }
  if (nth >= 7 && nth <= 11 && !aii_tv_truth(v)) return aii_tv_list(run, 0, out); /* none counts as empty here */
  if (!aii_tv_iterate(run, v, &list)) return false;
  const aii_tv *reverse = aii_t_arg(args, 0, "reverse"), *exact = aii_t_arg(args, 1, "case_sensitive");
  switch (nth) {
    case 2: return join(run, list, args, out);
    case 3: return copy(run, list, false, out);
    case 4: return copy(run, list, true, out);
    case 7: return choose(run, list, args, true, true, out);
    case 8: return choose(run, list, args, true, false, out);
    case 9: return choose(run, list, args, false, true, out);
    case 10: return choose(run, list, args, false, false, out);
    case 11: return map(run, list, args, out);
    case 12:
      return sort(run, list, aii_t_arg(args, 2, "attribute"), exact != NULL && aii_tv_truth(*exact),
                  reverse != NULL && aii_tv_truth(*reverse), out);
    case 13: return unique(run, list, args, out);
    case 14: return extreme(run, list, args, false, out);
    case 15: return extreme(run, list, args, true, out);
    default: return total(run, list, args, out);
  }
}

bool aii_t_seq_filter(aii_trun *run, aii_tv name, aii_tv v, const aii_targs *args, aii_tv *out, bool *known)
{
  size_t nth = 0;
  while (nth < AII_COUNT(NAMES) && !aii_tv_is(name, NAMES[nth])) nth++;
  *known = nth < AII_COUNT(NAMES);
  if (!*known) return true;
  if (nth == 4 && v.type == TV_STR) return reverse_text(run, v, out);
  if (!by_number(run, nth, v, args, out)) return false;
  bool lazy = nth == 5 || (nth >= 7 && nth <= 11) || nth == 13;
  if (lazy || (nth == 4 && aii_tv_indexed(v))) out->look = TL_GENERATOR;
  return true;
}
