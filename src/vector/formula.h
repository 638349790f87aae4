/* src/vector/formula.h - a formula that scores rows, shared by formula.c, which compiles it, and formula_run.c.
 *
 * Terms lie in one array, each before its operands, so that going through it backwards computes operands first.
 */
#ifndef AII_VECTOR_FORMULA_H
#define AII_VECTOR_FORMULA_H

#include "src/vector/filter.h"

enum { AII_FORMULA_TERMS = 512, AII_FORMULA_DEPTH = 24 };

typedef enum aii_term_op {
  AII_TERM_CONSTANT,
  AII_TERM_SCORE,     /* of one prefetch */
  AII_TERM_FIELD,     /* a number of the payload */
  AII_TERM_TIME,      /* a date of the payload, in seconds since 1970 */
  AII_TERM_PLACE,     /* metres to a place of the payload */
  AII_TERM_CONDITION, /* 1: the row passes a filter; else 0 */
  AII_TERM_SUM,
  AII_TERM_MULT,
  AII_TERM_NEG,
  AII_TERM_ABS,
  AII_TERM_SQRT,
  AII_TERM_EXP,
  AII_TERM_LN,
  AII_TERM_LOG10,
  AII_TERM_POW,
  AII_TERM_DIV,
  AII_TERM_LINEAR, /* the decays */
  AII_TERM_EXPONENTIAL,
  AII_TERM_GAUSS
} aii_term_op;

typedef struct aii_term {
  aii_term_op op;
  bool has_default;
  uint32_t child, next; /* operands: the first, then from one to the next; AII_NO_NODE: none */
  uint32_t score;       /* number of the prefetch */
  const char *name;     /* of what is read, as the formula has it */
  double value;         /* of a constant; of what is missing, and of a division by zero, when there is a default */
  double scale, midpoint;
  aii_point origin;
  aii_filter *filter; /* of a condition; of a field, its path */
} aii_term;

typedef struct aii_formula {
  aii_mem *mem;
  aii_term *terms;
  size_t n, cap;
  double *values; /* [n] of the last row */
  bool payloads;  /* rows' payloads are looked at */
} aii_formula;

/* {"formula": EXPRESSION, "defaults": {...}}; n_scores: prefetches whose scores may be used. EINVAL names the place. */
aiinfra_status aii_formula_compile(aii_mem *mem, const json_t *query, const char *path, uint32_t n_scores,
                                   aii_formula **out, aiinfra_error *err);
void aii_formula_free(aii_formula *formula);
bool aii_formula_bind(aii_formula *formula, aii_keys *keys, bool add); /* as filters are */

/* What is known of a row. */
typedef struct aii_formula_row {
  int64_t id;
  const aii_cell *doc;
  const double *scores; /* by prefetch; NaN: it did not find the row */
  uint64_t *steps;      /* what may be spent on filters; 0 afterwards: too many were needed */
} aii_formula_row;

/* EINVAL: something is missing without a default, or no finite number comes out. */
aiinfra_status aii_formula_score(aii_formula *formula, const aii_formula_row *row, double *score, aiinfra_error *err);
/* Writes the terms of the last row that was scored, with their values, as JSON. */
void aii_formula_explain(const aii_formula *formula, aii_buf *json);
const char *aii_term_name(const aii_term *term);

#endif
