/* calculator.c - arithmetic for models that cannot: one expression in, one number out.
 *
 *   + - * / %   ^ (also **, right to left)   ( )   sqrt abs min max round   decimals, 1e9   a sign before anything
 *
 * The shunting-yard algorithm of Dijkstra (1961) on two stacks of fixed size: no recursion, no allocation. Integers are
 * 64 bits as long as nothing overflows and every division is even; then doubles, shown with at most 15 significant
 * digits so that 0.1 + 0.2 is 0.3. a % b has the sign of a, as in C.
 * Any thread.
 */
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/agent/agent.h"

#define MAX_DEPTH 64
#define MAX_DIGITS 128 /* of one number */

typedef struct number {
  bool whole;
  int64_t i; /* when whole */
  double d;  /* always */
} number;

/* Operators as they lie on the stack. Functions sit below the parenthesis they belong to. */
typedef enum op {
  OP_OPEN,
  OP_ADD,
  OP_SUB,
  OP_MUL,
  OP_DIV,
  OP_MOD,
  OP_NEG,
  OP_POW,
  OP_SQRT,
  OP_ABS,
  OP_MIN,
  OP_MAX,
  OP_ROUND
} op;

typedef struct pending {
  op op;
  int n_args; /* of OP_OPEN: commas seen plus one */
} pending;

typedef struct calc {
  const char *start, *at;
  number values[MAX_DEPTH];
  pending ops[MAX_DEPTH];
  int n_values, n_ops;
  aiinfra_error *err;
} calc;

static aiinfra_status wrong(const calc *c, const char *what)
{
  return aii_fail(c->err, AIINFRA_EINVAL, "%s at character %zu", what, (size_t)(c->at - c->start) + 1);
}

static number whole(int64_t i)
{
  return (number){true, i, (double)i};
}

static number real(double d)
{
  return (number){false, 0, d};
}

/* ---- one operation ------------------------------------------------------------------------------------------------- */

static number power(number a, number b)
{
  int64_t result = 1;
  if (!a.whole || !b.whole || b.i < 0) return real(pow(a.d, b.d));
  if (a.i == 0 || a.i == 1) return whole(b.i == 0 ? 1 : a.i);
  for (int64_t n = 0; n < b.i; n++) {
    if (n > 64 && a.i != -1) return real(pow(a.d, b.d));
    if (a.i == -1) return whole(b.i % 2 == 0 ? 1 : -1);
    if (__builtin_mul_overflow(result, a.i, &result)) return real(pow(a.d, b.d));
  }
  return whole(result);
}

static aiinfra_status divide(const calc *c, op what, number a, number b, number *out)
{
  bool exact = a.whole && b.whole && b.i != 0 && !(a.i == INT64_MIN && b.i == -1);
  if (b.d == 0) return wrong(c, "division by zero");
  if (what == OP_MOD) *out = exact ? whole(a.i % b.i) : real(fmod(a.d, b.d));
  else *out = exact && a.i % b.i == 0 ? whole(a.i / b.i) : real(a.d / b.d);
  return AIINFRA_OK;
}

static aiinfra_status binary(const calc *c, op what, number a, number b, number *out)
{
  int64_t i = 0;
  bool exact = a.whole && b.whole;
  switch (what) {
    case OP_ADD: *out = exact && !__builtin_add_overflow(a.i, b.i, &i) ? whole(i) : real(a.d + b.d); break;
    case OP_SUB: *out = exact && !__builtin_sub_overflow(a.i, b.i, &i) ? whole(i) : real(a.d - b.d); break;
    case OP_MUL: *out = exact && !__builtin_mul_overflow(a.i, b.i, &i) ? whole(i) : real(a.d * b.d); break;
    case OP_POW: *out = power(a, b); break;
    case OP_MIN: *out = b.d < a.d || (exact && b.i < a.i) ? b : a; break;
    case OP_MAX: *out = b.d > a.d || (exact && b.i > a.i) ? b : a; break;
    default: return divide(c, what, a, b, out);
  }
  return AIINFRA_OK;
}

static aiinfra_status unary(const calc *c, op what, number a, number *out)
{
  double root;
  switch (what) {
    case OP_NEG: *out = a.whole && a.i != INT64_MIN ? whole(-a.i) : real(-a.d); break;
    case OP_ABS: *out = a.whole && a.i != INT64_MIN ? whole(a.i < 0 ? -a.i : a.i) : real(fabs(a.d)); break;
    case OP_ROUND: *out = a.whole ? a : real(round(a.d)); break;
    default:
      if (a.d < 0) return wrong(c, "square root of a negative number");
      root = sqrt(a.d);
      *out = a.whole && root < 9007199254740992.0 && root == floor(root) ? whole((int64_t)root) : real(root);
  }
  return AIINFRA_OK;
}

/* ---- the two stacks ------------------------------------------------------------------------------------------------- */

static int precedence(op what)
{
  switch (what) {
    case OP_OPEN: return 0;
    case OP_ADD:
    case OP_SUB: return 1;
    case OP_MUL:
    case OP_DIV:
    case OP_MOD: return 2;
    case OP_NEG: return 3;
    case OP_POW: return 4;
    default: return 5;
  }
}

static aiinfra_status push_op(calc *c, op what)
{
  if (c->n_ops == MAX_DEPTH) return wrong(c, "too deeply nested");
  c->ops[c->n_ops++] = (pending){what, 1};
  return AIINFRA_OK;
}

static aiinfra_status push_value(calc *c, number value)
{
  if (c->n_values == MAX_DEPTH) return wrong(c, "too long");
  c->values[c->n_values++] = value;
  return AIINFRA_OK;
}

/* Applies the operator on top. The grammar below guarantees that its values are there. */
static aiinfra_status reduce(calc *c)
{
  op what = c->ops[--c->n_ops].op;
  number *top = &c->values[c->n_values - 1];
  if (what == OP_NEG) return unary(c, what, *top, top);
  c->n_values--;
  return binary(c, what, top[-1], top[0], &top[-1]);
}

static aiinfra_status reduce_above(calc *c, int least)
{
  aiinfra_status rc = AIINFRA_OK;
  while (rc == AIINFRA_OK && c->n_ops > 0 && precedence(c->ops[c->n_ops - 1].op) >= least) rc = reduce(c);
  return rc;
}

/* At ')': applies the function before the parenthesis, if there is one, to its arguments. */
static aiinfra_status close(calc *c)
{
  int n_args;
  op what;
  aiinfra_status rc = reduce_above(c, 1);
  if (rc != AIINFRA_OK) return rc;
  if (c->n_ops == 0) return wrong(c, "')' without '('");
  n_args = c->ops[--c->n_ops].n_args;
  what = c->n_ops > 0 ? c->ops[c->n_ops - 1].op : OP_OPEN;
  if (precedence(what) < 5) return n_args == 1 ? AIINFRA_OK : wrong(c, "',' outside of min or max");
  c->n_ops--;
  if (what != OP_MIN && what != OP_MAX) {
    if (n_args != 1) return wrong(c, "too many arguments");
    return unary(c, what, c->values[c->n_values - 1], &c->values[c->n_values - 1]);
  }
  for (; n_args > 1 && rc == AIINFRA_OK; n_args--) {
    number *top = &c->values[--c->n_values];
    rc = binary(c, what, top[-1], top[0], &top[-1]);
  }
  return rc;
}

/* ---- the text ------------------------------------------------------------------------------------------------------- */

/* The C library reads and writes numbers with the host's decimal point. */
static char decimal_point(void)
{
  const char *point = localeconv()->decimal_point;
  return point[0] != '\0' && point[1] == '\0' ? point[0] : '.';
}

/* Length of [digits][.digits][e[+-]digits]; a name that begins with e is left alone. */
static size_t number_length(const char *s)
{
  size_t n = strspn(s, "0123456789"), e;
  if (s[n] == '.') n += 1 + strspn(s + n + 1, "0123456789");
  if (s[n] != 'e' && s[n] != 'E') return n;
  e = n + 1 + (s[n + 1] == '+' || s[n + 1] == '-');
  return s[e] >= '0' && s[e] <= '9' ? e + strspn(s + e, "0123456789") : n;
}

static aiinfra_status read_number(calc *c)
{
  char text[MAX_DIGITS + 1], *point, *end;
  size_t n = number_length(c->at);
  long long i;
  double d;
  if (n > MAX_DIGITS) return wrong(c, "too many digits");
  memcpy(text, c->at, n);
  text[n] = '\0';
  if (strcmp(text, ".") == 0) return wrong(c, "a number is missing");
  errno = 0;
  i = strtoll(text, &end, 10);
  if (*end == '\0' && errno == 0) {
    c->at += n;
    return push_value(c, whole(i));
  }
  point = strchr(text, '.');
  if (point != NULL) *point = decimal_point();
  d = strtod(text, NULL);
  c->at += n;
  return push_value(c, real(d));
}

static aiinfra_status read_function(calc *c)
{
  static const struct {
    const char *name;
    op op;
  } functions[] = {{"sqrt", OP_SQRT}, {"abs", OP_ABS}, {"min", OP_MIN}, {"max", OP_MAX}, {"round", OP_ROUND}};
  size_t n = strspn(c->at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_");
  for (size_t i = 0; i < AII_COUNT(functions); i++) {
    if (strlen(functions[i].name) != n || strncmp(functions[i].name, c->at, n) != 0) continue;
    c->at += n;
    while (*c->at == ' ') c->at++;
    return *c->at == '(' ? push_op(c, functions[i].op) : wrong(c, "'(' expected");
  }
  return wrong(c, n > 0 ? "unknown name" : *c->at == '\0' ? "a number is missing" : "unexpected character");
}

/* Where a value may begin. *done: a value is complete. */
static aiinfra_status read_operand(calc *c, bool *done)
{
  char ch = *c->at;
  *done = false;
  if (ch == '-' || ch == '+') {
    c->at++;
    return ch == '-' ? push_op(c, OP_NEG) : AIINFRA_OK;
  }
  if (ch == '(') {
    c->at++;
    return push_op(c, OP_OPEN);
  }
  if ((ch >= '0' && ch <= '9') || ch == '.') {
    *done = true;
    return read_number(c);
  }
  return read_function(c);
}

static aiinfra_status next_argument(calc *c)
{
  aiinfra_status rc = reduce_above(c, 1);
  if (rc != AIINFRA_OK) return rc;
  if (c->n_ops == 0) return wrong(c, "',' outside of min or max");
  c->ops[c->n_ops - 1].n_args++;
  return AIINFRA_OK;
}

/* Behind a value. *operand: the next thing is a value. */
static aiinfra_status read_operator(calc *c, bool *operand)
{
  static const char signs[] = "+-*/%^";
  static const op ops[] = {OP_ADD, OP_SUB, OP_MUL, OP_DIV, OP_MOD, OP_POW};
  const char *sign = strchr(signs, *c->at);
  op what;
  aiinfra_status rc;
  *operand = *c->at != ')';
  if (*c->at == ')' || *c->at == ',') {
    rc = *c->at == ')' ? close(c) : next_argument(c);
    c->at++;
    return rc;
  }
  if (sign == NULL) return wrong(c, "an operator is missing");
  what = ops[sign - signs];
  if (c->at[0] == '*' && c->at[1] == '*') {
    what = OP_POW;
    c->at++;
  }
  /* '^' groups from the right: it leaves others of its kind alone. */
  rc = reduce_above(c, what == OP_POW ? precedence(what) + 1 : precedence(what));
  c->at++;
  return rc == AIINFRA_OK ? push_op(c, what) : rc;
}

static aiinfra_status print(const calc *c, char *out, size_t cap)
{
  number value = c->values[0];
  char *point;
  if (!isfinite(value.d)) return aii_fail(c->err, AIINFRA_EINVAL, "the result is too large");
  if (value.d == 0) value = whole(0); /* no -0 */
  if (value.whole) snprintf(out, cap, "%lld", (long long)value.i);
  else if (value.d == floor(value.d) && fabs(value.d) < 1e15) snprintf(out, cap, "%.0f", value.d);
  else snprintf(out, cap, "%.15g", value.d);
  point = strchr(out, decimal_point());
  if (point != NULL) *point = '.';
  return AIINFRA_OK;
}

aiinfra_status aii_calculate(const char *expression, char *out, size_t cap, aiinfra_error *err)
{
  calc c = {.start = expression, .at = expression, .err = err};
  bool operand = true, done;
  aiinfra_status rc = AIINFRA_OK;
  if (strnlen(expression, AII_CALCULATOR_MAX_BYTES + 1) > AII_CALCULATOR_MAX_BYTES)
    return aii_fail(err, AIINFRA_EINVAL, "longer than %d characters", AII_CALCULATOR_MAX_BYTES);
  while (rc == AIINFRA_OK) {
    c.at += strspn(c.at, " \t\r\n");
    if (!operand && *c.at == '\0') break;
    if (operand) {
      rc = read_operand(&c, &done);
      operand = !done;
    } else {
      rc = read_operator(&c, &operand);
    }
  }
  if (rc == AIINFRA_OK) rc = reduce_above(&c, 1);
  if (rc == AIINFRA_OK && c.n_ops > 0) rc = wrong(&c, "')' is missing");
  return rc == AIINFRA_OK ? print(&c, out, cap) : rc;
}
