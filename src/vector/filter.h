/* src/vector/filter.h - the compiled form of a filter, shared by filter.c, which makes it, and match.c, which runs it.
 *
 * A filter is a tree of nodes in one array; children are linked lists of indexes. Node 0 is the root. Keys and values
 * are borrowed from `source`, which lives as long as the filter.
 */
#ifndef AII_VECTOR_FILTER_H
#define AII_VECTOR_FILTER_H

#include "src/vector/vector.h"

/* JSON nested deeper than this is refused, which bounds every recursion over a filter. */
enum { AII_FILTER_DEPTH = 32, AII_FILTER_NODES = 4096 };

typedef enum aii_filter_op {
  AII_OP_AND,        /* all children pass; none: passes */
  AII_OP_OR,         /* one child passes; none: passes not */
  AII_OP_NONE,       /* no child passes */
  AII_OP_MIN_SHOULD, /* at least `count` children pass */
  AII_OP_EQ,         /* the field, or an element of it, equals value */
  AII_OP_IN,         /* ... equals an element of value */
  AII_OP_TEXT_ALL,   /* a string that holds every word of value */
  AII_OP_TEXT_ANY,   /* ... one word of value */
  AII_OP_LT,
  AII_OP_LTE,
  AII_OP_GT,
  AII_OP_GTE,
  AII_OP_IS_NULL,  /* there, and null */
  AII_OP_IS_EMPTY, /* missing, null or [] */
  AII_OP_HAS_ID    /* the row's id is an element of value */
} aii_filter_op;

#define AII_NO_NODE UINT32_MAX

typedef struct aii_filter_node {
  aii_filter_op op;
  uint32_t child, last, next; /* first and last child, next sibling */
  const char *key;            /* path of the field, for those that have one */
  const json_t *value;
  int64_t count;
} aii_filter_node;

struct aii_filter {
  aii_mem *mem;
  json_t *source;
  aii_filter_node *nodes;
  size_t n, cap;
};

#endif
