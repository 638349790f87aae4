/* src/vector/filter.h - the compiled form of a filter, shared by those who make it and match.c, which runs it.
 *
 *   filter.c   clauses: must, should, $and, nested ...   field.c  conditions on a field: match, range, $in ...
 *   path.c     the keys of fields                        geo.c    boxes, circles, polygons
 *
 * A filter is a tree of nodes in one array; children are linked lists of indexes. Node 0 is the root. Operands lie in
 * arrays beside it, texts in `source`, which lives as long as the filter.
 */
#ifndef AII_VECTOR_FILTER_H
#define AII_VECTOR_FILTER_H

#include "src/vector/doc.h"

/* JSON nested deeper than this is refused, which bounds every recursion over a filter. */
enum { AII_FILTER_DEPTH = 32, AII_FILTER_NODES = 4096, AII_PATH_STEPS = 16, AII_TEXT_WORDS = 64 };
enum { AII_FILTER_OPERANDS = 1 << 20, AII_POLYGON_POINTS = 1 << 16 };

typedef enum aii_filter_op {
  AII_OP_AND,        /* all children pass; none: passes */
  AII_OP_OR,         /* one child passes; none: passes not */
  AII_OP_NONE,       /* no child passes */
  AII_OP_MIN_SHOULD, /* at least `count` children pass */
  AII_OP_HAS_ID,     /* the row's id is an operand */
  /* on a field: a value at the path, or an element of it when it is an array */
  AII_OP_IN,       /* equals an operand; they are sorted */
  AII_OP_EXCEPT,   /* equals none */
  AII_OP_PREFIX,   /* a string that begins with the operand */
  AII_OP_TEXT_ALL, /* a string that holds every operand as a word */
  AII_OP_TEXT_ANY, /* ... one of them */
  AII_OP_PHRASE,   /* ... all of them, one behind the other */
  AII_OP_RANGE,    /* a number or date within every operand */
  AII_OP_GEO,      /* a point within the shape */
  /* on a field: a value at the path */
  AII_OP_CONTAINS,  /* an array with an element that equals an operand */
  AII_OP_COUNT,     /* its number of elements is within every operand; none at the path: 0 is */
  AII_OP_IS_NULL,   /* is null, or an array with null in it */
  AII_OP_NOT_EMPTY, /* is neither null nor [] */
  AII_OP_NESTED,    /* is an object that passes all children */
  AII_OP_SEE        /* no condition: every value is shown to aii_values_fn */
} aii_filter_op;

#define AII_NO_NODE UINT32_MAX

typedef struct aii_filter_node {
  aii_filter_op op;
  uint32_t child, last, next; /* first and last child, next sibling */
  uint32_t path;              /* of the field, for those that have one */
  uint32_t first, n;          /* operands; of AII_OP_GEO: the shape, in first */
  int64_t count;
} aii_filter_node;

/* The key of a field: the name of a member as it stands, or the way there. */
typedef struct aii_path {
  const char *whole;
  size_t whole_n;
  uint32_t whole_key;
  uint32_t first, n; /* steps */
  bool ends_each;    /* the last one stands for every element */
} aii_path;

typedef enum aii_step_kind { AII_STEP_MEMBER, AII_STEP_ELEMENT, AII_STEP_EACH } aii_step_kind;
typedef struct aii_step {
  aii_step_kind kind;
  uint32_t key; /* of a member, once bound */
  uint64_t at;  /* of an element */
  const char *name;
  size_t n;
} aii_step;

typedef enum aii_bound { AII_BOUND_NONE, AII_BOUND_LT, AII_BOUND_LTE, AII_BOUND_GT, AII_BOUND_GTE } aii_bound;

/* A scalar of the filter; as an operand of a range, with the side it is on. */
typedef struct aii_operand {
  aii_cell_type type; /* AII_CELL_TIME: i is the time */
  aii_bound bound;
  int64_t i;
  double d;
  const char *s;
  size_t n;
} aii_operand;

typedef struct aii_point {
  double lon, lat;
} aii_point;
typedef struct aii_ring {
  uint32_t first, n; /* points; the last is the first again */
  double west, east; /* of its unrolled longitudes */
} aii_ring;

typedef enum aii_shape_kind { AII_SHAPE_BOX, AII_SHAPE_CIRCLE, AII_SHAPE_POLYGON } aii_shape_kind;
typedef struct aii_shape {
  aii_shape_kind kind;
  aii_point a, b;    /* top left and bottom right; or the centre */
  double radius;     /* metres */
  uint32_t first, n; /* rings: the exterior, then the holes */
} aii_shape;

struct aii_filter {
  aii_mem *mem;
  json_t *source;
  aii_filter_node *nodes;
  aii_path *paths;
  aii_step *steps;
  aii_operand *operands;
  aii_shape *shapes;
  aii_ring *rings;
  aii_point *points;
  aii_buf words; /* lower-case bytes of text operands, whose s is an offset until the filter is complete */
  size_t n, cap, n_paths, paths_cap, n_steps, steps_cap, n_operands, operands_cap, n_shapes, shapes_cap;
  size_t n_rings, rings_cap, n_points, points_cap;
  uint32_t lat, lon; /* keys, once bound */
};

/* ---- compiling ------------------------------------------------------------------------------------------------- */

typedef struct aii_compiler {
  aii_filter *filter;
  aiinfra_error *err;
  char path[256]; /* where we are, for messages */
  size_t path_n;
  uint32_t nested; /* conditions of nested around us */
} aii_compiler;

/* Appends ".name" or "[at]" to the place and returns the old length, to be given to aii_leave(). */
size_t aii_enter(aii_compiler *c, const char *name, size_t at);
void aii_leave(aii_compiler *c, size_t old);
aiinfra_status aii_expected(aii_compiler *c, const char *want, const json_t *found);
aiinfra_status aii_unknown(aii_compiler *c, const char *known);
aiinfra_status aii_filter_no_memory(aii_compiler *c);
aiinfra_status aii_filter_add(aii_compiler *c, uint32_t parent, aii_filter_op op, uint32_t *out);
bool aii_is_scalar(const json_t *value);
/* Operands are appended one by one; the node counts them. */
aiinfra_status aii_add_operand(aii_compiler *c, uint32_t node, aii_operand operand);

/* path.c: parses a field's key. */
aiinfra_status aii_path_add(aii_compiler *c, const char *key, size_t n, uint32_t *path);
/* field.c: {"key": ..., "match": ...}; is_null and is_empty; the value of a field in Chroma's form. */
aiinfra_status aii_compile_field(aii_compiler *c, const json_t *json, uint32_t parent);
aiinfra_status aii_compile_is(aii_compiler *c, bool null, bool holds, const char *key, size_t n, uint32_t parent);
aiinfra_status aii_compile_chroma(aii_compiler *c, const char *name, const json_t *value, uint32_t parent);
/* geo.c: kind is the operator's name, such as geo_radius. */
aiinfra_status aii_compile_geo(aii_compiler *c, const char *kind, const json_t *json, uint32_t node);

/* The operands of a node, NULL when it has none. */
static inline aii_operand *aii_operands_of(const aii_filter *filter, const aii_filter_node *node)
{
  return node->n > 0 ? filter->operands + node->first : NULL;
}

/* ---- running --------------------------------------------------------------------------------------------------- */

/* By type, then by value: the order of sorted operands. */
int aii_operand_compare(const aii_operand *a, const aii_operand *b);
bool aii_shape_holds(const aii_filter *filter, const aii_shape *shape, aii_point point, uint64_t *steps);
bool aii_point_valid(aii_point point);
double aii_geo_distance(aii_point a, aii_point b); /* in metres */
/* The place that a cell is, by the keys of a filter that is bound. */
bool aii_cell_point(const aii_filter *filter, const aii_cell *cell, aii_point *point, uint64_t *steps);
/* The next code point of UTF-8 text in lower case; bad bytes are themselves. */
uint32_t aii_lower_next(const char *s, size_t n, size_t *at);

#endif
