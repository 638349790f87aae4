/* src/vector/search.h - a query on its way, shared by search.c, which finds, rank.c, which orders, recommend.c,
 * examples.c and explain.c. A stage of a tree of queries (tree.h) is one, too.
 */
#ifndef AII_VECTOR_SEARCH_H
#define AII_VECTOR_SEARCH_H

#include "src/vector/view.h"

/* aiinfra_query.options_json, read. */
typedef struct aii_query_opts {
  json_t *source;
  int64_t offset, candidates, group_size;
  double score_threshold, lambda;
  bool has_threshold, mmr, best_score;
  bool tree;                         /* it has stages: tree.h */
  const char *group_by;              /* NULL: no groups */
  const json_t *positive, *negative; /* examples; both NULL: no recommendation */
  const char *using_name;            /* which vectors; NULL: the first ones */
  const json_t *sparse;              /* NULL: no sparse vector */
  const char *sparse_using;
  int64_t multi; /* vectors of the query, for late interaction; 0: one, for others */
} aii_query_opts;
aiinfra_status aii_query_opts_read(const char *json, aii_query_opts *o, aiinfra_error *err);
/* The members of one object that lies at a path, whatever else it has: offset, score_threshold, mmr and group;
 * recommend. */
aiinfra_status aii_query_opts_take(const json_t *obj, const char *path, aii_query_opts *o, aiinfra_error *err);
aiinfra_status aii_query_opts_recommend(const json_t *obj, const char *path, aii_query_opts *o, aiinfra_error *err);
/* Refuses members whose names are not in the list, which ends with NULL. */
aiinfra_status aii_check_names(const json_t *obj, const char *path, const char *const *names, aiinfra_error *err);
/* An integer of a range; one that is missing stays as it is, and must be in the range. */
aiinfra_status aii_json_within(const json_t *obj, const char *path, const char *name, int64_t least, int64_t most,
                               int64_t *value, aiinfra_error *err);
bool aii_json_has(const json_t *obj, const char *name); /* and it is not null */

/* A hit and where it comes from. */
typedef struct aii_ranked {
  aiinfra_hit hit;
  uint32_t slot, vector_rank, word_rank, sparse_rank; /* ranks from 1; 0: not found so */
  float sparse_score;
  uint32_t group; /* the number of its group; AII_NO_SLOT: none */
} aii_ranked;

typedef struct aii_search {
  aiinfra_vecstore *store;
  const aiinfra_query *q;
  aii_query_opts o;
  aii_view view; /* what it reads; a copy of its tree's in a stage */
  aii_filter *filter;
  aii_mask mask;
  aiinfra_vecstore *target; /* whose vectors are searched: the store, or one below it */
  aii_mask below;           /* by slots of one below it */
  aiinfra_vecstore *sparse; /* NULL: no sparse vector is searched for */
  uint8_t *sparse_query;    /* as it would be stored */
  size_t n_sparse_query;
  size_t n_rankings; /* how many are asked for */
  float *vectors;    /* [n_vectors][code_bytes of the target] of late interaction; else NULL */
  size_t n_vectors;
  aii_searchplan plan;
  bool wants_vectors; /* by a vector, or by examples */
  bool in_memory;     /* the index is locked, and its memory is enough to answer */
  bool open;          /* a stage: the view is its tree's, and stays open */
  bool scored;        /* by_vector has minus the scores of hits that no vector alone decides */
  bool all;           /* a stage whose hits are all rows that pass */
  const char *exact;  /* why every row that passes is compared; NULL: as plan.c wants it */
  aii_docs_state payloads;
  float *vector;
  aii_finds finds;
  float *examples; /* [n_examples][dims]: the positive ones first */
  size_t n_examples;
  size_t depth; /* of each ranking */
  aii_near *by_vector, *by_words, *by_sparse;
  size_t n_vector, n_words, n_sparse;
  aii_ranked *ranked; /* best first */
  size_t n_ranked, ranked_cap;
  aii_column column; /* of the field that groups are made by */
  uint32_t *groups;  /* values of the groups found, in the order of their best hits */
  size_t n_groups, groups_cap;
} aii_search;

/* search.c: how deep each ranking must be, now that the number of rows that pass is known; with the arrays for it. */
aiinfra_status aii_search_room(aii_search *s, aiinfra_error *err);
/* search.c: finds by the vector; without s->in_memory afterwards the rows must settle what was found. */
aiinfra_status aii_search_vectors(aii_search *s, aiinfra_error *err);
/* search.c: extends the graph when a search with this mode wants one. No lock held. */
aiinfra_status aii_search_graph(aiinfra_vecstore *store, int32_t mode, aiinfra_error *err);
void aii_search_free(aii_search *s);
/* examples.c: a mask of all live slots, where there was none. */
aiinfra_status aii_search_own_mask(aii_search *s, aiinfra_error *err);
/* A row or a vector in JSON: 7, {"row": 7} or [0.1, 0.2, ...]. */
bool aii_example_valid(const json_t *example);
const json_t *aii_example_id(const json_t *example); /* the row's; NULL: it is no row */
/* A row that is named leaves the store's mask, since it is no hit. ENOENT: it is not there. */
aiinfra_status aii_example_hide(aii_search *s, int64_t id, const char *what, aiinfra_error *err);
/* Fails: the row has nothing under the target's name. */
aiinfra_status aii_example_lacks(const aii_search *s, int64_t id, const char *what, aiinfra_error *err);
/* Writes its vector to `to`, [dims], as the index wants it. A row that is named leaves the mask, since it is no hit. In the
 * view. */
aiinfra_status aii_example_read(aii_search *s, const json_t *example, const char *what, float *to, aiinfra_error *err);
/* recommend.c, in the view. Takes the examples out of the mask; makes the vector, or ranks. */
aiinfra_status aii_recommend_prepare(aii_search *s, aiinfra_error *err);
aiinfra_status aii_recommend_best(aii_search *s, aiinfra_error *err);
/* rank.c: fuses both rankings, then threshold, diversity or groups, offset. Index locked while s->in_memory; else no lock
 * held. */
aiinfra_status aii_rank(aii_search *s, aiinfra_error *err);
/* explain.c: how the query was answered, as JSON. */
aiinfra_status aii_explain(const aii_search *s, char **out, aiinfra_error *err);
/* Its parts: members of the plan; the members of a hit with the bracket before them. */
void aii_explain_plan(const aii_search *s, aii_buf *json);
void aii_explain_hit(const aii_search *s, const aii_ranked *r, aii_buf *json);
void aii_explain_group(const aii_search *s, const aii_ranked *r, aii_buf *json);

/* using.c: vectors under names. What the options want of them, from the whole object of options. */
aiinfra_status aii_using_read(const json_t *obj, aii_query_opts *o, aiinfra_error *err);
/* Refuses what no row of the index could have: NaN, infinity, zero under the cosine. */
aiinfra_status aii_query_vector_check(const aii_index *index, const float *vector, aiinfra_error *err);
/* Finds them, and checks the query's vectors by what they are. No lock held. */
aiinfra_status aii_using_open(aii_search *s, aiinfra_error *err);
void aii_using_close(aii_search *s);
/* *outlives: rows whose time has passed are still in the database, and so is what they have under names. In the view. */
aiinfra_status aii_using_outlives(const aii_search *s, bool *outlives, aiinfra_error *err);
/* {"indices": [...], "values": [...]} at a path: refuses what is no sparse vector; makes s->sparse_query of one that was
 * checked. */
aiinfra_status aii_pairs_check(const json_t *obj, const char *path, aiinfra_error *err);
aiinfra_status aii_pairs_take(aii_search *s, const json_t *obj, const char *path, aiinfra_error *err);
/* Makes the mask of the target from the store's. Rows that outlived their time are in neither. In the view. */
aiinfra_status aii_using_narrow(aii_search *s, aiinfra_error *err);
/* The mask by slots of the target. */
static inline aii_mask *aii_using_mask(aii_search *s)
{
  return s->target == s->store ? &s->mask : &s->below;
}
/* Slots of the target become those of the store. Both locked. */
void aii_using_lift(const aii_search *s);

#endif
