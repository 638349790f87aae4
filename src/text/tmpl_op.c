/* tmpl_op.c - operators, subscripts and attributes of a template's values, as Python and jinja2 have them. */
#include <math.h>

#include "src/text/tmpl_impl.h"

static bool bad_types(aii_trun *run, const char *op, aii_tv a, aii_tv b)
{
  if (a.type == TV_UNDEFINED || b.type == TV_UNDEFINED) {
    aii_tv u = a.type == TV_UNDEFINED ? a : b;
    return aii_t_fail(run, AIINFRA_EINVAL, "'%.*s' is undefined", (int)AII_MIN(u.n, 60), u.s);
  }
  return aii_t_fail(run, AIINFRA_EINVAL, "'%s' between %s and %s", op, aii_tv_type_name(a), aii_tv_type_name(b));
}

static bool join_strings(aii_trun *run, aii_tv a, aii_tv b, aii_tv *out)
{
  size_t n = (size_t)a.n + b.n;
  char *s = n <= AII_T_MAX_OUTPUT ? aii_t_new(run, n + 1) : NULL;
  if (s == NULL) return aii_t_fail(run, AIINFRA_ELIMIT, "a text of %zu bytes", n);
  if (a.n > 0) memcpy(s, a.s, a.n);
  if (b.n > 0) memcpy(s + a.n, b.s, b.n);
  *out = aii_tv_strn(s, n);
  return aii_t_step(run, n / 64);
}

/* One of them is safe: the other is escaped, and the result is safe. */
static bool join_safe(aii_trun *run, aii_tv a, aii_tv b, aii_tv *out)
{
  if (!aii_t_escape(run, a, &a) || !aii_t_escape(run, b, &b) || !join_strings(run, a, b, out)) return false;
  out->look = TL_SAFE;
  return true;
}

static bool join_lists(aii_trun *run, aii_tv a, aii_tv b, aii_tv *out)
{
  if (!aii_tv_list(run, a.list->n + b.list->n, out) || !aii_t_step(run, (a.list->n + b.list->n) / 8)) return false;
  if (a.list->n > 0) memcpy(out->list->items, a.list->items, a.list->n * sizeof(aii_tv));
  if (b.list->n > 0) memcpy(out->list->items + a.list->n, b.list->items, b.list->n * sizeof(aii_tv));
  out->list->n = a.list->n + b.list->n;
  out->look = a.look;
  return true;
}

static bool repeat_list(aii_trun *run, aii_tv v, int64_t times, aii_tv *out)
{
  if (!aii_tv_list(run, 0, out)) return false;
  out->look = v.look;
  for (int64_t k = 0; k < times && v.list->n > 0; k++) {
    for (size_t i = 0; i < v.list->n; i++) {
      if (!aii_tv_append(run, out->list, v.list->items[i])) return false;
    }
  }
  return true;
}

static bool repeat_string(aii_trun *run, aii_tv s, int64_t times, aii_tv *out)
{
  if (times < 0) times = 0;
  if (s.n > 0 && times > AII_T_MAX_OUTPUT / (int64_t)s.n) {
    return aii_t_fail(run, AIINFRA_ELIMIT, "a text of %u bytes %lld times", s.n, (long long)times);
  }
  char *text = aii_t_new(run, (size_t)times * s.n + 1);
  if (text == NULL || !aii_t_step(run, (size_t)times * (s.n / 64 + 1))) return false;
  for (int64_t i = 0; i < times && s.n > 0; i++) memcpy(text + (size_t)i * s.n, s.s, s.n);
  *out = aii_tv_strn(text, (size_t)times * s.n);
  out->look = s.look;
  return true;
}

static bool int_op(aii_trun *run, aii_top op, int64_t a, int64_t b, aii_tv *out)
{
  int64_t r = 0;
  bool over = false;
  if ((op == TO_FLOORDIV || op == TO_MOD) && b == 0) return aii_t_fail(run, AIINFRA_EINVAL, "division by zero");
  switch (op) {
    case TO_ADD: over = __builtin_add_overflow(a, b, &r); break;
    case TO_SUB: over = __builtin_sub_overflow(a, b, &r); break;
    case TO_MUL: over = __builtin_mul_overflow(a, b, &r); break;
    case TO_FLOORDIV:
      over = a == INT64_MIN && b == -1;
      if (!over) r = a / b - (a % b != 0 && (a < 0) != (b < 0));
      break;
    default: /* TO_MOD */
      if (b != -1) r = a % b + (a % b != 0 && (a < 0) != (b < 0) ? b : 0);
      break;
  }
  if (over) return aii_t_fail(run, AIINFRA_ELIMIT, "an integer beyond 64 bits");
  *out = aii_tv_int(r);
  return true;
}

static bool float_op(aii_trun *run, aii_top op, double a, double b, aii_tv *out)
{
  if ((op == TO_DIV || op == TO_FLOORDIV || op == TO_MOD) && b == 0) {
    return aii_t_fail(run, AIINFRA_EINVAL, "division by zero");
  }
  double r = 0;
  switch (op) {
    case TO_ADD: r = a + b; break;
    case TO_SUB: r = a - b; break;
    case TO_MUL: r = a * b; break;
    case TO_DIV: r = a / b; break;
    case TO_FLOORDIV: r = floor(a / b); break;
    case TO_MOD: r = a - b * floor(a / b); break;
    default: r = pow(a, b); break;
  }
  *out = aii_tv_float(r);
  return true;
}

/* Integer powers stay integers while they fit. */
static bool power(aii_trun *run, aii_tv a, aii_tv b, double x, double y, aii_tv *out)
{
  if (a.type != TV_INT || b.type != TV_INT || b.i < 0) return float_op(run, TO_POW, x, y, out);
  aii_tv r = aii_tv_int(1);
  if (b.i > 64 && (a.i > 1 || a.i < -1)) return aii_t_fail(run, AIINFRA_ELIMIT, "an integer beyond 64 bits");
  int64_t times = a.i >= -1 && a.i <= 1 ? (b.i > 2 ? 2 + (b.i & 1) : b.i) : b.i;
  for (int64_t i = 0; i < times; i++) {
    if (!int_op(run, TO_MUL, r.i, a.i, &r)) return false;
  }
  *out = r;
  return true;
}

static bool arithmetic(aii_trun *run, aii_top op, aii_tv a, aii_tv b, aii_tv *out)
{
  static const char *const names[] = {"+", "-", "*", "/", "//", "%", "**"};
  double x, y;
  if (op == TO_ADD && a.type == TV_STR && b.type == TV_STR)
    return a.look == TL_SAFE || b.look == TL_SAFE ? join_safe(run, a, b, out) : join_strings(run, a, b, out);
  if (op == TO_ADD && aii_tv_indexed(a) && aii_tv_indexed(b) && a.look == b.look) return join_lists(run, a, b, out);
  if (op == TO_MUL && a.type == TV_STR && b.type == TV_INT) return repeat_string(run, a, b.i, out);
  if (op == TO_MUL && a.type == TV_INT && b.type == TV_STR) return repeat_string(run, b, a.i, out);
  if (op == TO_MUL && aii_tv_indexed(a) && b.type == TV_INT) return repeat_list(run, a, b.i, out);
  if (op == TO_MUL && a.type == TV_INT && aii_tv_indexed(b)) return repeat_list(run, b, a.i, out);
  if (!aii_tv_number(a, &x) || !aii_tv_number(b, &y)) return bad_types(run, names[op], a, b);
  if (op == TO_POW) return power(run, a, b, x, y, out);
  if (op == TO_DIV || a.type == TV_FLOAT || b.type == TV_FLOAT) return float_op(run, op, x, y, out);
  return int_op(run, op, a.type == TV_BOOL ? a.b : a.i, b.type == TV_BOOL ? b.b : b.i, out);
}

bool aii_t_binary(aii_trun *run, aii_top op, aii_tv a, aii_tv b, aii_tv *out)
{
  bool found;
  int order;
  switch (op) {
    case TO_CONCAT: return aii_tv_str(run, a, &a) && aii_tv_str(run, b, &b) && join_strings(run, a, b, out);
    case TO_EQ:
    case TO_NE:
      if (!aii_tv_equal(run, a, b, &found)) return false;
      *out = aii_tv_bool(found == (op == TO_EQ));
      return true;
    case TO_IN:
    case TO_NOT_IN:
      if (!aii_t_contains(run, b, a, &found)) return false;
      *out = aii_tv_bool(found == (op == TO_IN));
      return true;
    case TO_LT:
    case TO_LE:
    case TO_GT:
    case TO_GE:
      if (!aii_tv_compare(run, a, b, &order)) return false;
      *out = aii_tv_bool(op == TO_LT ? order < 0 : op == TO_LE ? order <= 0 : op == TO_GT ? order > 0 : order >= 0);
      return true;
    default: return arithmetic(run, op, a, b, out);
  }
}

bool aii_t_contains(aii_trun *run, aii_tv container, aii_tv item, bool *found)
{
  *found = false;
  if (container.type == TV_STR) {
    if (item.type != TV_STR) return bad_types(run, "in", item, container);
    *found = item.n == 0 || memmem(container.s, container.n, item.s, item.n) != NULL;
    return aii_t_step(run, (container.n + item.n) / 16);
  }
  if (container.type == TV_MAP) {
    *found = aii_tv_get(container.map, item) != NULL;
    return aii_t_step(run, container.map->n / 8);
  }
  if (container.type == TV_UNDEFINED) return true;
  aii_tlist *list;
  if (container.type != TV_LIST) return bad_types(run, "in", item, container);
  if (!aii_tv_iterate(run, container, &list)) return false;
  for (size_t i = 0; i < list->n && !*found; i++) {
    if (!aii_tv_equal(run, list->items[i], item, found)) return false;
  }
  return true;
}

/* ---- subscripts ---------------------------------------------------------------------------------------------------- */

/* Characters from..to of s as byte offsets; strings of ASCII need no walk. */
static bool characters(aii_trun *run, aii_tv s, aii_tlist **chars)
{
  return aii_t_step(run, s.n / 16) && aii_tv_iterate(run, s, chars);
}

bool aii_t_item(aii_trun *run, aii_tv container, aii_tv key, aii_tv *out)
{
  *out = aii_tv_undefined(key);
  if (container.type == TV_UNDEFINED) return bad_types(run, "[]", container, key);
  if (container.type == TV_MAP || container.type == TV_NAMESPACE) {
    const aii_tv *found = aii_tv_get(container.map, key);
    if (found != NULL) *out = *found;
    return aii_t_step(run, container.map->n / 8);
  }
  if (key.type == TV_STR) return aii_t_attr(run, container, key, out);
  if ((!aii_tv_indexed(container) && container.type != TV_STR) || key.type != TV_INT) return true;
  aii_tlist *list;
  if (container.type == TV_STR ? !characters(run, container, &list) : (list = container.list, false)) return false;
  int64_t i = key.i < 0 ? key.i + (int64_t)list->n : key.i;
  if (i < 0 || i >= (int64_t)list->n) return true;
  *out = list->items[i];
  if (container.type == TV_STR) out->look = container.look;
  return true;
}

bool aii_t_attr(aii_trun *run, aii_tv container, aii_tv name, aii_tv *out)
{
  *out = aii_tv_undefined(name);
  if (container.type == TV_UNDEFINED) {
    return aii_t_fail(run, AIINFRA_EINVAL, "'%.*s' is undefined, so it has no '%.*s'", (int)AII_MIN(container.n, 60),
                      container.s, (int)AII_MIN(name.n, 60), name.s);
  }
  if (aii_t_has_method(container, name)) {
    *out = (aii_tv){.type = TV_METHOD};
  } else if (container.type == TV_MAP || container.type == TV_NAMESPACE) {
    const aii_tv *found = aii_tv_get(container.map, name);
    if (found != NULL) *out = *found;
    return aii_t_step(run, container.map->n / 8);
  } else if (container.type == TV_MACRO && aii_tv_is(name, "name")) {
    *out = container.macro->node->value;
  }
  return true;
}

/* A bound of a slice: its value or the default, moved into -1..n as Python does. */
static bool bound(aii_trun *run, aii_tv v, int64_t fallback, int64_t n, bool down, int64_t *out)
{
  *out = fallback;
  if (v.type == TV_NONE) return true;
  if (v.type != TV_INT) return aii_t_fail(run, AIINFRA_EINVAL, "a slice by %s", aii_tv_type_name(v));
  int64_t i = v.i < 0 ? v.i + n : v.i;
  int64_t low = down ? -1 : 0, high = down ? n - 1 : n;
  *out = i < low ? low : i > high ? high : i;
  return true;
}

bool aii_t_slice(aii_trun *run, aii_tv v, aii_tv from, aii_tv to, aii_tv step, aii_tv *out)
{
  aii_tlist *list;
  int64_t by = 1, i, end;
  if (v.type == TV_UNDEFINED) return bad_types(run, "[:]", v, v);
  if (!aii_tv_indexed(v) && v.type != TV_STR) return bad_types(run, "[:]", v, from);
  if (v.type == TV_STR ? !characters(run, v, &list) : (list = v.list, false)) return false;
  if (step.type == TV_INT) by = step.i;
  if (by == 0 || by < -AII_T_MAX_RANGE || by > AII_T_MAX_RANGE) {
    return aii_t_fail(run, AIINFRA_EINVAL, "a slice by %lld", (long long)by);
  }
  int64_t n = (int64_t)list->n;
  if (!bound(run, from, by > 0 ? 0 : n - 1, n, by < 0, &i)) return false;
  if (!bound(run, to, by > 0 ? n : -1, n, by < 0, &end)) return false;
  aii_tv part;
  if (!aii_tv_list(run, 0, &part)) return false;
  for (; by > 0 ? i < end : i > end; i += by) {
    if (!aii_tv_append(run, part.list, list->items[i])) return false;
  }
  part.look = v.type == TV_LIST ? v.look : TL_PLAIN;
  *out = part;
  if (v.type == TV_LIST) return true;
  aii_buf buf;
  aii_buf_init(&buf, run->mem, 0);
  for (size_t k = 0; k < part.list->n; k++) aii_buf_add(&buf, part.list->items[k].s, part.list->items[k].n);
  if (!aii_tv_from_buf(run, &buf, out)) return false;
  out->look = v.look;
  return true;
}
