/* src/vector/search.h - a query on its way, shared by search.c, which finds, rank.c, which orders, recommend.c and
 * explain.c.
 */
#ifndef AII_VECTOR_SEARCH_H
#define AII_VECTOR_SEARCH_H

#include "src/vector/vector.h"

/* aiinfra_query.options_json, read. */
typedef struct aii_query_opts {
  json_t *source;
  int64_t offset, candidates, group_size;
  double score_threshold, lambda;
  bool has_threshold, mmr, best_score;
  const char *group_by;              /* NULL: no groups */
  const json_t *positive, *negative; /* ids; both NULL: no recommendation */
} aii_query_opts;
aiinfra_status aii_query_opts_read(const char *json, aii_query_opts *o, aiinfra_error *err);

/* A hit and where it comes from. */
typedef struct aii_ranked {
  aiinfra_hit hit;
  uint32_t slot, vector_rank, word_rank; /* ranks from 1; 0: not found so */
  uint32_t group;                        /* the number of its group; AII_NO_SLOT: none */
} aii_ranked;

typedef struct aii_search {
  aiinfra_vecstore *store;
  const aiinfra_query *q;
  aii_query_opts o;
  aii_filter *filter;
  aii_mask mask;
  aii_searchplan plan;
  bool wants_vectors; /* by a vector, or by examples */
  bool in_memory;     /* the index is locked, and its memory is enough to answer */
  aii_docs_state payloads;
  float *vector;
  aii_finds finds;
  float *examples; /* [n_examples][dims]: the positive ones first */
  size_t n_examples;
  size_t depth; /* of each ranking */
  aii_near *by_vector, *by_words;
  size_t n_vector, n_words;
  aii_ranked *ranked; /* best first */
  size_t n_ranked, ranked_cap;
  aii_column column; /* of the field that groups are made by */
  uint32_t *groups;  /* values of the groups found, in the order of their best hits */
  size_t n_groups, groups_cap;
} aii_search;

/* recommend.c: with the connection's lock held and the index locked for reading. Takes the examples out of the mask; makes the vector, or ranks. */
aiinfra_status aii_recommend_prepare(aii_search *s, aiinfra_error *err);
aiinfra_status aii_recommend_best(aii_search *s, aiinfra_error *err);
/* rank.c: fuses both rankings, then threshold, diversity or groups, offset. Index locked while s->in_memory; else no lock
 * held. */
aiinfra_status aii_rank(aii_search *s, aiinfra_error *err);
/* explain.c: how the query was answered, as JSON. */
aiinfra_status aii_explain(const aii_search *s, char **out, aiinfra_error *err);

#endif
