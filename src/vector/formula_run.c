/* formula_run.c - scores a row by a compiled formula, and tells how.
 *
 * Decays are 1 at their target and `midpoint` at `scale` away from it:
 *   lin_decay     max(0, 1 - (1 - midpoint) |x - target| / scale)
 *   exp_decay     exp(ln(midpoint) |x - target| / scale)
 *   gauss_decay   exp(ln(midpoint) (x - target)^2 / scale^2)
 *
 * Of a field with several values the first one of the right type counts. What is missing has its default, or ends the
 * query with the row's id: a row is never scored by a number that nobody gave. The same holds for a division by zero
 * and for whatever else gives no finite number. No state but the values of the last row. Any thread.
 */
#include <float.h>
#include <math.h>

#include "src/vector/formula.h"

bool aii_formula_bind(aii_formula *f, aii_keys *keys, bool add)
{
  bool ok = true;
  for (size_t i = 0; ok && i < f->n; i++) {
    if (f->terms[i].filter != NULL) ok = aii_filter_bind(f->terms[i].filter, keys, add);
  }
  return ok;
}

/* ---- what is read ---------------------------------------------------------------------------------------------- */

typedef struct look {
  const aii_term *term;
  uint64_t *steps;
  double value;
  bool found;
} look;

/* Returns false at the first value that is of the right type, so that no other one is shown. */
static bool see(void *ctx, const aii_cell *doc, const aii_cell *cell)
{
  look *l = ctx;
  aii_point point;
  if (l->term->op == AII_TERM_TIME) {
    l->found = cell->type == AII_CELL_TIME;
    if (l->found) l->value = (double)aii_cell_time(doc, cell) / 1e6;
  } else if (l->term->op == AII_TERM_PLACE) {
    l->found = aii_cell_point(l->term->filter, cell, &point, l->steps) && aii_point_valid(point);
    if (l->found) l->value = aii_geo_distance(l->term->origin, point);
  } else {
    l->found = cell->type == AII_CELL_INT || cell->type == AII_CELL_REAL;
    if (l->found) l->value = cell->type == AII_CELL_INT ? (double)cell->u.i : cell->u.d;
  }
  return !l->found;
}

static aiinfra_status read_field(const aii_term *term, const aii_formula_row *row, double *value, aiinfra_error *err)
{
  look l = {.term = term, .steps = row->steps};
  (void)aii_filter_values(term->filter, row->doc, see, &l);
  *value = l.found ? l.value : term->value;
  if (l.found || term->has_default) return AIINFRA_OK;
  return aii_fail(err, AIINFRA_EINVAL, "formula: row %lld has no %s at '%.64s'; give the formula a default for it",
                  (long long)row->id,
                  term->op == AII_TERM_TIME    ? "date"
                  : term->op == AII_TERM_PLACE ? "place"
                                               : "number",
                  term->name);
}

/* ---- operators ------------------------------------------------------------------------------------------------- */

static double fold(const aii_formula *f, const aii_term *term)
{
  double value = term->op == AII_TERM_SUM ? 0 : 1;
  for (uint32_t at = term->child; at != AII_NO_NODE; at = f->terms[at].next) {
    if (term->op == AII_TERM_SUM) value += f->values[at];
    else value *= f->values[at];
  }
  return value;
}

static double decay(const aii_term *term, double x, double target)
{
  double far = fabs(x - target) / term->scale;
  if (term->op == AII_TERM_LINEAR) return fmax(0, 1 - (1 - term->midpoint) * far);
  return exp(log(term->midpoint) * (term->op == AII_TERM_GAUSS ? far * far : far));
}

/* The value of an operator whose operands have theirs. */
static double apply(const aii_formula *f, const aii_term *term)
{
  double a = f->values[term->child], b;
  switch (term->op) {
    case AII_TERM_NEG: return -a;
    case AII_TERM_ABS: return fabs(a);
    case AII_TERM_SQRT: return sqrt(a);
    case AII_TERM_EXP: return exp(a);
    case AII_TERM_LN: return log(a);
    case AII_TERM_LOG10: return log10(a);
    default: break;
  }
  b = f->values[f->terms[term->child].next];
  if (term->op == AII_TERM_POW) return pow(a, b);
  if (term->op == AII_TERM_DIV) return fpclassify(b) == FP_ZERO && term->has_default ? term->value : a / b;
  return decay(term, a, b);
}

static aiinfra_status value_of(const aii_formula *f, const aii_term *term, const aii_formula_row *row, double *value,
                               aiinfra_error *err)
{
  switch (term->op) {
    case AII_TERM_CONSTANT: *value = term->value; break;
    case AII_TERM_SCORE:
      *value = row->scores[term->score];
      if (isnan(*value)) *value = term->value; /* 0, unless the formula has a default */
      break;
    case AII_TERM_FIELD:
    case AII_TERM_TIME:
    case AII_TERM_PLACE: return read_field(term, row, value, err);
    case AII_TERM_CONDITION: *value = aii_filter_passes(term->filter, row->id, row->doc, row->steps) ? 1 : 0; break;
    case AII_TERM_SUM:
    case AII_TERM_MULT: *value = fold(f, term); break;
    default: *value = apply(f, term);
  }
  return AIINFRA_OK;
}

aiinfra_status aii_formula_score(aii_formula *f, const aii_formula_row *row, double *score, aiinfra_error *err)
{
  for (size_t i = f->n; i-- > 0;) {
    aiinfra_status rc = value_of(f, &f->terms[i], row, &f->values[i], err);
    if (rc != AIINFRA_OK) return rc;
    if (!isfinite(f->values[i]) || (i == 0 && fabs(f->values[i]) > (double)FLT_MAX)) {
      return aii_fail(err, AIINFRA_EINVAL, "formula: %.64s of row %lld is not a finite number",
                      aii_term_name(&f->terms[i]), (long long)row->id);
    }
  }
  *score = f->values[0];
  return AIINFRA_OK;
}

/* Bounded by the formula's depth. */
static void explain_term(const aii_formula *f, uint32_t at, aii_buf *json)
{
  const aii_term *term = &f->terms[at];
  const char *name = aii_term_name(term);
  aii_buf_str(json, "{\"term\":");
  aii_buf_json(json, name, strlen(name));
  aii_buf_str(json, ",\"value\":");
  aii_buf_double(json, f->values[at], 9);
  for (uint32_t child = term->child; child != AII_NO_NODE; child = f->terms[child].next) {
    aii_buf_str(json, child == term->child ? ",\"of\":[" : ",");
    explain_term(f, child, json);
  }
  aii_buf_str(json, term->child != AII_NO_NODE ? "]}" : "}");
}

void aii_formula_explain(const aii_formula *f, aii_buf *json)
{
  explain_term(f, 0, json);
}
