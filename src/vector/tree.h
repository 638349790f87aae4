/* src/vector/tree.h - a query of several stages: the inner ones find candidates, the outer ones fuse or score them.
 *
 * A stage is an aii_search with more around it: its rows come from its filter and those of the stages around it, and
 * from its prefetches if it has any; what it found is s.ranked. A stage that fuses or scores its own vector and words
 * has them as two implicit stages. All stages of a request are answered in one view of rows and indexes.
 */
#ifndef AII_VECTOR_TREE_H
#define AII_VECTOR_TREE_H

#include "src/vector/formula.h"
#include "src/vector/search.h"

/* Depth bounds every recursion over stages. */
enum { AII_STAGE_DEPTH = 8, AII_STAGES = 64, AII_FUSED = 32 };

typedef enum aii_stage_kind {
  AII_STAGE_NEAREST, /* by a vector, by words, or by both */
  AII_STAGE_RECOMMEND,
  AII_STAGE_DISCOVER,
  AII_STAGE_CONTEXT,
  AII_STAGE_FUSION,
  AII_STAGE_FORMULA
} aii_stage_kind;

typedef enum aii_fuse_norm { AII_FUSE_RANKS, AII_FUSE_MINMAX, AII_FUSE_DBSF, AII_FUSE_SCORES } aii_fuse_norm;

/* How lists become one (fuse.c). */
typedef struct aii_fuse {
  aii_fuse_norm norm;    /* what of a hit counts: its rank, its score within those of its list, its score */
  double k;              /* of ranks */
  const json_t *weights; /* by list; NULL: all 1 */
} aii_fuse;

typedef struct aii_stage aii_stage;
struct aii_stage {
  aii_search s;
  aiinfra_query q; /* what s.q points to */
  aii_stage_kind kind;
  bool implicit;        /* it was made of its parent's vector or words */
  bool narrowed;        /* its rows are what its prefetches found */
  const json_t *vector; /* an example, or sparse or several ones; NULL: none, or it is q.vector */
  const json_t *target; /* of discover, an example */
  const json_t *pairs;  /* of discover and context */
  aii_fuse fuse;
  aii_formula *formula;
  uint32_t filter, depth; /* filter: number in the tree; AII_NO_NODE: none */
  uint32_t n_children;
  aii_stage *parent, *child, *next; /* prefetches in their order */
  aii_mask passing;                 /* rows that pass its filter and those around it; bits NULL: all */
  /* the rows that a fusion or a formula scores, in the order of slots */
  uint32_t *slots, *ranks; /* ranks: [n][n_children], from 1; 0: not found */
  size_t n, n_room;
  aii_idmap at; /* id to number of such a row */
  /* payloads of these rows where memory has none (stage.c) */
  aii_keys keys;
  aii_buf doc;
  uint64_t steps;
};

/* A filter of a request, evaluated once however often it is there. */
typedef struct aii_tree_filter {
  char *text;
  aii_filter *filter;
  aii_mask mask;
  bool made;
} aii_tree_filter;

typedef struct aii_tree {
  aiinfra_vecstore *store;
  aii_stage *stages[AII_STAGES]; /* of the query that is being answered; the first is the outermost */
  uint32_t n_stages;
  aii_tree_filter *filters;
  size_t n_filters, filters_cap;
  aii_view view; /* while the tree is open */
} aii_tree;

/* ---- reading (tree_parse.c) ------------------------------------------------------------------------------------ */

/* The stages of a query in JSON, whose members besides those of a stage are `more` (a list that ends with NULL). */
aiinfra_status aii_tree_parse(aii_tree *tree, const json_t *query, const char *path, const char *const *more,
                              aiinfra_error *err);
/* The stages of a query whose outermost one is q and its options. */
aiinfra_status aii_tree_take(aii_tree *tree, const aiinfra_query *q, const json_t *options, aiinfra_error *err);
void aii_tree_clear(aii_tree *tree); /* frees stages; filters stay */
void aii_tree_free(aii_tree *tree);
/* tree_vector.c: the member "using"; a vector in any form, read after it. */
aiinfra_status aii_stage_using(aii_stage *stage, const json_t *obj, const char *path, aiinfra_error *err);
aiinfra_status aii_stage_vector(aii_stage *stage, const json_t *vector, const char *path, aiinfra_error *err);
bool aii_stage_is_vector(const json_t *query); /* and not a query by the name of its only member */
/* The vector in the struct, and the options that are about it. */
aiinfra_status aii_stage_given(aii_stage *stage, const json_t *options, aiinfra_error *err);
/* Refuses a name that would not be used, or cannot be used so; when the stage is read. */
aiinfra_status aii_stage_check_using(const aii_stage *stage, const char *path, aiinfra_error *err);
/* fuse.c, discover.c: the members of "query" that are theirs. */
aiinfra_status aii_fuse_parse(aii_stage *stage, const json_t *query, const char *path, aiinfra_error *err);
aiinfra_status aii_discover_parse(aii_stage *stage, const json_t *query, const char *path, aiinfra_error *err);

/* ---- answering (tree.c, stage.c) ------------------------------------------------------------------------------- */

/* What stages need before they are answered; of several queries, all that one of them needs. */
typedef struct aii_tree_needs {
  aii_wants view;
  bool graph, whole;                 /* a search over the graph may come; the graph must be complete for it */
  uint64_t named_graph, named_whole; /* the same of vectors under names */
} aii_tree_needs;
void aii_tree_need(const aii_tree *tree, aii_tree_needs *needs);
/* Opens the view. On failure nothing is held. */
aiinfra_status aii_tree_open(aii_tree *tree, const aii_tree_needs *needs, aiinfra_error *err);
void aii_tree_close(aii_tree *tree);
/* Answers the stages, the outermost last. */
aiinfra_status aii_tree_run(aii_tree *tree, aiinfra_error *err);
/* stage.c: answers one, whose prefetches are answered. */
aiinfra_status aii_stage_run(aii_stage *stage, aiinfra_error *err);
/* tree_vector.c: makes what the search takes of the stage's vector or examples, and the mask of its target. */
aiinfra_status aii_stage_make_vector(aii_stage *stage, aiinfra_error *err);
/* fuse.c: the score of each candidate into scores[n]. */
void aii_fuse_scores(const aii_stage *stage, double *scores);
/* discover.c: ranks the rows of the mask. */
aiinfra_status aii_discover_run(aii_stage *stage, aiinfra_error *err);
/* stage.c: scores a candidate again, for the formula's terms. */
aiinfra_status aii_stage_score(aii_stage *stage, size_t candidate, double *score, aiinfra_error *err);
/* tree_explain.c: how each stage found its hits. */
aiinfra_status aii_tree_explain(aii_stage *outermost, aii_buf *json, aiinfra_error *err);

#endif
