/* tmpl_filter.c - filters of single values, and tests. Filters of sequences are in tmpl_seq.c. */
#include <math.h>
#include <stdlib.h>

#include "src/text/tmpl_impl.h"

/* ---- filters ------------------------------------------------------------------------------------------------------- */

static bool length(aii_trun *run, aii_tv v, aii_tv *out)
{
  size_t n = 0;
  switch (v.type) {
    case TV_UNDEFINED: break;
    case TV_LIST:
      if (v.look == TL_GENERATOR) return aii_t_fail(run, AIINFRA_EINVAL, "a generator has no length");
      n = v.list->n;
      break;
    case TV_MAP: n = v.map->n; break;
    case TV_STR:
      for (size_t i = 0; i < v.n; i++) n += ((uint8_t)v.s[i] & 0xC0) != 0x80;
      break;
    default: return aii_t_fail(run, AIINFRA_EINVAL, "a %s has no length", aii_tv_type_name(v));
  }
  *out = aii_tv_int((int64_t)n);
  return aii_t_step(run, v.type == TV_STR ? v.n / 16 : 0);
}

static bool to_number(aii_tv v, double *f)
{
  if (aii_tv_number(v, f)) return true;
  char text[64], *end;
  if (v.type != TV_STR || v.n == 0 || v.n >= sizeof text) return false;
  memcpy(text, v.s, v.n);
  text[v.n] = '\0';
  *f = strtod(text, &end);
  while (*end == ' ' || *end == '\n') end++;
  return *end == '\0' && strpbrk(text, "xXnN") == NULL;
}

static bool to_int(aii_tv v, const aii_targs *args, aii_tv *out)
{
  double f;
  const aii_tv *fallback = aii_t_arg(args, 0, "default");
  if (v.type == TV_INT) {
    *out = v;
  } else if (to_number(v, &f) && isfinite(f) && fabs(f) < 9e18) {
    *out = aii_tv_int((int64_t)f);
  } else {
    *out = fallback != NULL ? *fallback : aii_tv_int(0);
  }
  return true;
}

static bool round_to(aii_trun *run, aii_tv v, const aii_targs *args, aii_tv *out)
{
  double f;
  const aii_tv *digits = aii_t_arg(args, 0, "precision"), *how = aii_t_arg(args, 1, "method");
  if (!aii_tv_number(v, &f)) return aii_t_fail(run, AIINFRA_EINVAL, "round: %s is no number", aii_tv_type_name(v));
  int64_t d = digits != NULL && digits->type == TV_INT ? digits->i : 0;
  double scale = pow(10, (double)(d < -15 ? -15 : d > 15 ? 15 : d)), x = f * scale;
  x = how != NULL && aii_tv_is(*how, "floor")  ? floor(x)
      : how != NULL && aii_tv_is(*how, "ceil") ? ceil(x)
                                               : nearbyint(x);
  *out = aii_tv_float(x / scale);
  return true;
}

static bool indent(aii_trun *run, aii_tv v, const aii_targs *args, aii_tv *out)
{
  const aii_tv *width = aii_t_arg(args, 0, "width"), *first = aii_t_arg(args, 1, "first"),
               *blank = aii_t_arg(args, 2, "blank");
  aii_tv s, pad = aii_tv_lit("    ");
  if (!aii_tv_str(run, v, &s)) return false;
  if (width != NULL && width->type == TV_STR) pad = *width;
  if (width != NULL && width->type == TV_INT && !aii_t_binary(run, TO_MUL, aii_tv_lit(" "), *width, &pad)) {
    return false;
  }
  aii_buf buf;
  aii_buf_init(&buf, run->mem, AII_T_MAX_OUTPUT);
  if (first != NULL && aii_tv_truth(*first)) aii_buf_add(&buf, pad.s, pad.n);
  for (size_t i = 0; i < s.n; i++) {
    aii_buf_char(&buf, s.s[i]);
    bool line = i + 1 < s.n && s.s[i] == '\n' && (s.s[i + 1] != '\n' || (blank != NULL && aii_tv_truth(*blank)));
    if (line) aii_buf_add(&buf, pad.s, pad.n);
  }
  run->steps += s.n / 4;
  if (!aii_tv_from_buf(run, &buf, out)) return false;
  out->look = s.look;
  return true;
}

bool aii_t_escape(aii_trun *run, aii_tv v, aii_tv *out)
{
  static const char from[] = "&<>'\"";
  static const char *const to[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
  aii_tv s;
  if (!aii_tv_str(run, v, &s)) return false;
  *out = s;
  if (s.look == TL_SAFE) return true;
  aii_buf buf;
  aii_buf_init(&buf, run->mem, AII_T_MAX_OUTPUT);
  for (size_t i = 0; i < s.n; i++) {
    const char *known = s.s[i] != '\0' ? strchr(from, s.s[i]) : NULL;
    if (known != NULL) {
      aii_buf_str(&buf, to[known - from]);
    } else {
      aii_buf_char(&buf, s.s[i]);
    }
  }
  run->steps += s.n / 2;
  if (!aii_tv_from_buf(run, &buf, out)) return false;
  out->look = TL_SAFE;
  return true;
}

static bool replace(aii_trun *run, aii_tv s, const aii_targs *args, aii_tv *out)
{
  const aii_tv *from = aii_t_arg(args, 0, "old"), *to = aii_t_arg(args, 1, "new"), *count = aii_t_arg(args, 2, "count");
  if (from == NULL || to == NULL) return aii_t_fail(run, AIINFRA_EINVAL, "replace: two texts are needed");
  s.look = TL_PLAIN; /* without autoescape the filter forgets it */
  return aii_t_replace(run, s, *from, *to, count != NULL && count->type == TV_INT ? count->i : -1, out);
}

static bool text_filter(aii_trun *run, aii_tv name, aii_tv v, const aii_targs *args, aii_tv *out, bool *known)
{
  aii_tv s;
  const aii_tv *chars = aii_t_arg(args, 0, "chars");
  *known = true;
  bool trim = aii_tv_is(name, "trim");
  int how = aii_tv_is(name, "upper") ? 'u' : aii_tv_is(name, "lower") ? 'l' : aii_tv_is(name, "title") ? 't' : 0;
  if (aii_tv_is(name, "capitalize")) how = 'c';
  if (trim || how != 0 || aii_tv_is(name, "replace")) {
    if (!aii_tv_str(run, v, &s)) return false;
    if (trim) return aii_t_strip(run, s, chars != NULL ? *chars : aii_tv_none(), true, true, out);
    return how != 0 ? aii_t_case(run, s, how, out) : replace(run, s, args, out);
  }
  if (aii_tv_is(name, "string")) return aii_tv_str(run, v, out);
  if (aii_tv_is(name, "safe")) {
    if (!aii_tv_str(run, v, out)) return false;
    out->look = TL_SAFE;
    return true;
  }
  if (aii_tv_is(name, "tojson")) return aii_tv_tojson(run, v, args, out);
  if (aii_tv_is(name, "indent")) return indent(run, v, args, out);
  if (aii_tv_is(name, "escape") || aii_tv_is(name, "e")) return aii_t_escape(run, v, out);
  *known = false;
  return true;
}

bool aii_t_filter(aii_trun *run, aii_tv name, aii_tv v, const aii_targs *args, aii_tv *out)
{
  bool known;
  double f;
  if (!text_filter(run, name, v, args, out, &known)) return false;
  if (known) return true;
  if (aii_tv_is(name, "length") || aii_tv_is(name, "count")) return length(run, v, out);
  if (aii_tv_is(name, "default") || aii_tv_is(name, "d")) {
    const aii_tv *other = aii_t_arg(args, 0, "default_value"), *boolean = aii_t_arg(args, 1, "boolean");
    bool use = v.type == TV_UNDEFINED || (boolean != NULL && aii_tv_truth(*boolean) && !aii_tv_truth(v));
    *out = !use ? v : other != NULL ? *other : aii_tv_lit("");
    return true;
  }
  if (aii_tv_is(name, "int")) return to_int(v, args, out);
  if (aii_tv_is(name, "float")) {
    *out = aii_tv_float(to_number(v, &f) ? f : 0);
    return true;
  }
  if (aii_tv_is(name, "round")) return round_to(run, v, args, out);
  if (aii_tv_is(name, "abs")) {
    if (!aii_tv_number(v, &f)) return aii_t_fail(run, AIINFRA_EINVAL, "abs: %s is no number", aii_tv_type_name(v));
    if (v.type == TV_FLOAT || f >= 0) {
      *out = v.type == TV_FLOAT ? aii_tv_float(fabs(v.f)) : v;
      return true;
    }
    return aii_t_binary(run, TO_SUB, aii_tv_int(0), v, out);
  }
  if (!aii_t_seq_filter(run, name, v, args, out, &known)) return false;
  if (known) return true;
  return aii_t_fail(run, AIINFRA_ENOTSUP, "the filter '%.*s' is not supported", (int)AII_MIN(name.n, 60), name.s);
}

/* ---- tests --------------------------------------------------------------------------------------------------------- */

/* Tests of what a value is; *known false: none of these. */
static bool type_test(aii_tv name, aii_tv v, bool *known)
{
  *known = true;
  if (aii_tv_is(name, "defined")) return v.type != TV_UNDEFINED;
  if (aii_tv_is(name, "undefined")) return v.type == TV_UNDEFINED;
  if (aii_tv_is(name, "none")) return v.type == TV_NONE;
  if (aii_tv_is(name, "string")) return v.type == TV_STR;
  if (aii_tv_is(name, "mapping")) return v.type == TV_MAP;
  if (aii_tv_is(name, "sequence"))
    return aii_tv_indexed(v) || v.type == TV_STR || v.type == TV_MAP || v.type == TV_UNDEFINED;
  if (aii_tv_is(name, "iterable"))
    return v.type == TV_LIST || v.type == TV_STR || v.type == TV_MAP || v.type == TV_UNDEFINED;
  if (aii_tv_is(name, "number")) return v.type == TV_INT || v.type == TV_FLOAT || v.type == TV_BOOL;
  if (aii_tv_is(name, "integer")) return v.type == TV_INT;
  if (aii_tv_is(name, "float")) return v.type == TV_FLOAT;
  if (aii_tv_is(name, "boolean")) return v.type == TV_BOOL;
  if (aii_tv_is(name, "true")) return v.type == TV_BOOL && v.b;
  if (aii_tv_is(name, "false")) return v.type == TV_BOOL && !v.b;
  if (aii_tv_is(name, "callable")) return v.type >= TV_MACRO;
  if (aii_tv_is(name, "odd")) return v.type == TV_INT && v.i % 2 != 0;
  if (aii_tv_is(name, "even")) return v.type == TV_INT && v.i % 2 == 0;
  *known = false;
  return false;
}

/* The operator that a test's name stands for; -1: none. */
static int operator_of(aii_tv name)
{
  static const struct {
    const char *name;
    aii_top op;
  } table[] = {{"eq", TO_EQ}, {"equalto", TO_EQ},  {"==", TO_EQ}, {"ne", TO_NE}, {"!=", TO_NE},
               {"lt", TO_LT}, {"lessthan", TO_LT}, {"le", TO_LE}, {"gt", TO_GT}, {"greaterthan", TO_GT},
               {"ge", TO_GE}, {"in", TO_IN},       {"<", TO_LT},  {">", TO_GT},  {"<=", TO_LE},
               {">=", TO_GE}, {"sameas", TO_EQ}};
  for (size_t i = 0; i < AII_COUNT(table); i++) {
    if (aii_tv_is(name, table[i].name)) return table[i].op;
  }
  return -1;
}

bool aii_t_test(aii_trun *run, aii_tv name, aii_tv v, const aii_targs *args, bool *out)
{
  bool known;
  aii_tv result;
  *out = type_test(name, v, &known);
  if (known) return true;
  int op = operator_of(name);
  if (op >= 0 && args->n == 1) {
    if (!aii_t_binary(run, (aii_top)op, v, args->items[0], &result)) return false;
    *out = aii_tv_truth(result);
    return true;
  }
  if (aii_tv_is(name, "divisibleby") && args->n == 1) {
    if (!aii_t_binary(run, TO_MOD, v, args->items[0], &result)) return false;
    *out = !aii_tv_truth(result);
    return true;
  }
  if ((aii_tv_is(name, "lower") || aii_tv_is(name, "upper")) && v.type == TV_STR) {
    return aii_t_case(run, v, name.s[0], &result) && aii_tv_equal(run, v, result, out);
  }
  return aii_t_fail(run, AIINFRA_ENOTSUP, "the test '%.*s' is not supported", (int)AII_MIN(name.n, 60), name.s);
}
