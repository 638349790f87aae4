/* src/vector/vector.h - collections of vectors: rows in the database, an index in memory, search over both.
 *
 *   vecstore.c  opens a collection          rows.c    writes, removes and reads rows
 *   sync.c      brings the index up to them index.c   slots in memory    element.c  how rows store vectors
 *   view.c      one view of rows and indexes for a search
 *   code.c      vectors in 8 bits           scan.c    the exact search over these
 *   hnsw.c      walks over the graph        hnsw_filtered.c  the same where not all may be found
 *   hnsw_build.c  makes it                  heal.c  takes dead slots out
 *   fetch.c     vectors from their rows
 *   search.c    answers a query             plan.c    exact or graph
 *   words.c     keywords: FTS5, stop words
 *   filter.c    compiles filters, with field.c, path.c, geo.c; match.c evaluates them
 *   doc.c       payloads as filters read them; docs.c keeps those of all slots, when.c reads dates
 *   mask.c      the slots that pass a filter
 *   query_opts.c, rank.c, recommend.c, examples.c, explain.c belong to search.c
 *   tree.c      queries of several stages, with tree_parse.c, tree_vector.c, stage.c, fuse.c, formula.c, formula_run.c,
 *               discover.c, tree_explain.c; query.c has them in JSON
 *   read.c      scrolls (order.c), counts, facets     change.c  deletes and changes payloads by filter
 *   column.c    the values of a field     keep.c, snapshot.c  the index as a file
 *   near.c      nearest so far              idmap.c   row id to slot
 *   named.c, named_write.c  vectors under names, each kind of them a collection below: sparse.c, multi.c, using.c
 *   expiry.c    rows that live until a time   tenant.c  parts of a collection that are walls; dropping
 *   import.c, export.c, vecfile.c, npy.c, jsonl.c, jsonl_named.c, rowvecs.c     files of vectors
 *
 * Invariants:
 * 1. Rows are the truth. The index holds a copy of the rows up to `seq`; sync brings it up to the collection's seq.
 * 2. A slot's vector is written once. A row with a new vector gets a new slot, and its old one is dead; so is the slot
 *    of a removed row.
 * 3. Slots below n_graph are in the graph, dead or not. The others, the tail, are compared one by one.
 * 4. Locks are taken in this order: connection, index->build, index->slots, index->lock; last index->keys and
 *    store->kept_lock, for a moment each. Linking and healing take only the index's. A search holds the read lock, of all
 *    indexes that it reads (view.c); whoever changes an index holds the write lock of this one alone: everything is prepared
 *    beside it, and copying and swapping take no time. Links alone change under the read lock, one atomic number after the
 *    other: a walk meets lists that are part old, part new, all of slots that are in the graph.
 * 5. Codes of 8 bits find candidates, floats decide: from memory while they fit in, else from the rows.
 */
#ifndef AII_VECTOR_H
#define AII_VECTOR_H

#include <jansson.h>
#include <pthread.h>

#include "aiinfra/vecstore.h"
#include "kernels/kernels.h"
#include "lib/base/base.h"
#include "lib/data/data.h"
#include "src/db/db.h"

/* ---- nearest so far (near.c): a binary heap in the caller's array --------------------------------------------- */

/* Smaller is nearer: squared L2, or minus the inner product. */
typedef struct aii_near {
  int64_t id;
  float dist;
  uint32_t slot;
} aii_near;

/* By distance, then by id, so that equal distances have one order. */
bool aii_near_before(const aii_near *a, const aii_near *b);
/* Min-heap: the nearest on top. There must be room. */
void aii_near_push(aii_near *heap, size_t *n, aii_near item);
aii_near aii_near_pop(aii_near *heap, size_t *n);
/* The `cap` nearest of everything offered, the farthest of them on top (heap[0]). */
void aii_near_offer(aii_near *heap, size_t *n, size_t cap, aii_near item);
/* Turns such a heap into an array, nearest first. */
void aii_near_sort(aii_near *heap, size_t n);

/* ---- ids (idmap.c) -------------------------------------------------------------------------------------------- */

#define AII_NO_SLOT UINT32_MAX
typedef struct aii_idmap {
  aii_mem *mem;
  int64_t *keys;
  uint32_t *slots; /* AII_NO_SLOT: free */
  size_t n, cap;   /* cap: 0 or a power of two */
} aii_idmap;
void aii_idmap_init(aii_idmap *map, aii_mem *mem);
void aii_idmap_free(aii_idmap *map);
bool aii_idmap_reserve(aii_idmap *map, size_t n);
/* A copy with room for n, beside those who read; empty: there is room already. false: no memory. */
bool aii_idmap_grow(const aii_idmap *map, size_t n, aii_idmap *out);
bool aii_idmap_set(aii_idmap *map, int64_t id, uint32_t slot); /* replaces; entries are never taken out */
uint32_t aii_idmap_get(const aii_idmap *map, int64_t id);      /* AII_NO_SLOT: none */

/* ---- payloads (doc.c, docs.c) ---------------------------------------------------------------------------------- */

#define AII_NO_KEY UINT32_MAX
#define AII_PAYLOAD_BYTES ((uint64_t)256 << 20) /* of an index, unless its opener says otherwise */
typedef struct aii_cell aii_cell;               /* doc.h: a document begins with one */
typedef struct aii_key_name {
  char *s;
  size_t n; /* bytes of memory */
} aii_key_name;

/* A dictionary: the keys that documents use, as numbers. */
typedef struct aii_keys {
  aii_mem *mem;
  aii_map map;
  aii_key_name *names;
  size_t n, cap, bytes;
} aii_keys;
void aii_keys_init(aii_keys *keys, aii_mem *mem);
void aii_keys_free(aii_keys *keys);
uint32_t aii_keys_find(const aii_keys *keys, const char *s, size_t n); /* AII_NO_KEY: not there */
bool aii_keys_add(aii_keys *keys, const char *s, size_t n, uint32_t *key);

typedef struct aii_doc_block aii_doc_block;
typedef enum aii_docs_state {
  AII_DOCS_OFF, /* no filter was used yet */
  AII_DOCS_ON,  /* every live slot has one */
  AII_DOCS_OVER /* they would take more than the limit: filters read rows */
} aii_docs_state;

/* The documents of an index's slots. A search reads those of slots that are seen; who brings rows in writes behind them. */
typedef struct aii_docs {
  aii_docs_state state;
  aii_keys keys;
  aii_doc_block **blocks;
  size_t n_blocks, blocks_cap, bytes, limit_bytes;
} aii_docs;
void aii_docs_init(aii_docs *docs, aii_mem *mem, size_t limit_bytes);
void aii_docs_clear(aii_docs *docs); /* to the state OFF */
const aii_cell *aii_docs_get(const aii_docs *docs, uint32_t slot);
/* A document comes in by four steps, of one thread that holds `slots`. Packed, empty for NULL; index->keys held. false: no
 * memory. */
bool aii_docs_pack(aii_docs *docs, const json_t *payload, aii_buf *doc);
/* Room for its n bytes; write lock held, but whether there is room may be asked without. Beyond the limit all are dropped and
 * the state is OVER. false: no memory. */
bool aii_docs_has_room(const aii_docs *docs, uint32_t slot, size_t n);
bool aii_docs_room(aii_docs *docs, uint32_t slot, size_t n);
/* Written where nobody looks; then it is the slot's, in place of an older one. Of a slot that is seen: write lock held. */
uint32_t aii_docs_place(aii_docs *docs, uint32_t slot, const void *doc, size_t n);
void aii_docs_show(aii_docs *docs, uint32_t slot, uint32_t at);
void aii_docs_drop(aii_docs *docs, uint32_t slot, uint32_t at); /* it is not shown after all */
/* The documents of slots [0, n), whose numbers in `to` the map has, or AII_NO_SLOT; without keys. false: no memory, `to` is
 * empty. */
bool aii_docs_copy(const aii_docs *docs, const uint32_t *map, uint32_t n, aii_docs *to);

/* ---- index (index.c, hnsw.c) ---------------------------------------------------------------------------------- */

enum { AII_BLOCK_SLOTS = 1024, AII_MAX_LEVEL = 15, AII_MAX_M = 64 };
#define AII_MAX_SLOTS ((uint32_t)INT32_MAX)
#define AII_VECTOR_BYTES ((uint64_t)64 << 20) /* of floats in memory, unless its opener says otherwise */

/* 1024 slots. A block never moves once it is made, and each of its arrays is flat: no pointers in them.
 *
 *   codes    uint8  [slot][code_bytes]  elements / scale + 128, filled up with 128; aligned to 64 (code.c)
 *   fine     uint8  [slot][fine_bytes]  three more bits of each element
 *   scale    float  [slot]              of its codes
 *   norm     float  [slot]              squared length of what the codes mean
 *   error    float  [slot]              length of what codes and fine bits leave out, rounded up
 *   sum      int32  [slot]              of its codes, without the 128
 *   vectors  float  [slot][dims]        of length 1 when the metric is cosine; NULL: they are in the rows alone
 *   links0   uint32 [slot][2m]          slots, then AII_NO_SLOT; aligned to 64; NULL before the graph comes here
 *   upper    uint32 [slot]              where its links above level 0 are in the index's `upper`, if level > 0
 *   level    uint8  [slot]              at most AII_MAX_LEVEL
 *   dead     bool   [slot]
 *   rows     uint32 [slot]              of the table of vectors; 0: to be found by the id
 *   ids      int64  [slot]              of the caller
 *
 * Besides the blocks an index is its n, n_dead, n_graph, n_blurred, entry, top, upper, most_error, most_norm and seq; the
 * map follows from ids and dead. */
typedef struct aii_block {
  uint8_t *codes, *fine;
  float *vectors;
  uint32_t *links0;
  int64_t ids[AII_BLOCK_SLOTS];
  float scale[AII_BLOCK_SLOTS], norm[AII_BLOCK_SLOTS], error[AII_BLOCK_SLOTS];
  int32_t sum[AII_BLOCK_SLOTS];
  uint32_t upper[AII_BLOCK_SLOTS], rows[AII_BLOCK_SLOTS];
  uint8_t level[AII_BLOCK_SLOTS];
  bool dead[AII_BLOCK_SLOTS];
} aii_block;

typedef struct aii_scratch aii_scratch;

typedef struct aii_index {
  aii_mem *mem;
  const aii_kernels *kernels;
  uint32_t dims, code_bytes, fine_bytes, m, ef_construction;
  int32_t metric;        /* an aiinfra_metric */
  int32_t element;       /* an aiinfra_element: what rows store */
  pthread_rwlock_t lock; /* everything below */
  pthread_mutex_t build; /* held by the one thread that changes the graph, before `slots` */
  pthread_mutex_t slots; /* held by the one thread that brings new rows in, or lets slots move, before `lock` */
  aii_block **blocks;
  size_t n_blocks, blocks_cap;
  uint32_t *upper; /* of a slot with a level: [level][m] slots, then AII_NO_SLOT; the level from 1 */
  size_t n_upper, upper_cap;
  size_t vector_bytes;         /* floats may take so much */
  bool floats;                 /* blocks have vectors */
  float most_error, most_norm; /* of any slot, by its codes alone */
  aii_idmap map;
  uint32_t n, n_dead;         /* slots */
  int64_t seq;                /* rows up to here are in; -1: none was read yet */
  uint64_t changes;           /* counts payloads that changed behind slots that stayed, and moves of slots */
  _Atomic uint32_t n_graph;   /* slots in the graph; grows, as the next three change, while searches walk */
  _Atomic uint32_t n_blurred; /* of these: codes cannot tell them from their neighbours */
  _Atomic uint32_t entry,
      top;              /* where searches begin, and at least its level: written in this order, read in the other */
  pthread_mutex_t pool; /* guards scratch */
  aii_scratch *scratch; /* of searches that ended, to be used again */
  aii_docs docs;
  pthread_mutex_t keys; /* guards docs.keys while `lock` is held for reading */
} aii_index;

aiinfra_status aii_index_init(aii_index *index, aii_mem *mem, const aii_kernels *kernels, uint32_t dims, int32_t metric,
                              uint32_t m, uint32_t ef_construction, aiinfra_error *err);
void aii_index_destroy(aii_index *index);
void aii_index_clear(aii_index *index);     /* empty again, seq -1; write lock held */
bool aii_index_add_block(aii_index *index); /* room for 1024 slots more, not filled; write lock held */
/* Rows come in by three steps, of one thread that holds `slots`. Room for a slot, n or behind it; write lock held, but
 * whether there is room may be asked without. false: no memory. */
bool aii_index_room(aii_index *index, uint32_t slot);
bool aii_index_has_room(const aii_index *index, uint32_t slot);
/* Writes a row into that slot, which nobody sees yet; a row whose vector is as it was keeps its slot. *at: which it is.
 * The vector is as the row stores it, of aii_element_bytes(). *coarse: what codes alone leave out. No lock is needed.
 * false: no memory. */
bool aii_index_place(aii_index *index, uint32_t slot, int64_t id, const void *stored, uint32_t *at, float *coarse);
/* Slot n is seen from now on, and the older slot of its row dies. Write lock held; the map has room. */
void aii_index_show(aii_index *index, float coarse);
/* All three at once. Write lock held. false: no memory, nothing changed. */
bool aii_index_add(aii_index *index, int64_t id, const void *stored);
void aii_index_kill(aii_index *index, uint32_t slot); /* write lock held */
/* Leaves out what is old of the documents. `slots` held. */
void aii_index_tidy(aii_index *index);
void aii_index_note(aii_index *index, float scale, float norm, float error); /* of a new slot, for most_... */
void aii_index_drop_floats(aii_index *index);                                /* write lock held */
/* An index like another, empty, without locks: of one thread, which frees it with aii_index_clear(). */
void aii_index_begin(const aii_index *like, aii_index *index);
/* A copy of the query as the index wants it (of length 1 for cosine); freed with aii_index_free_query. */
float *aii_index_new_query(aii_index *index, const float *vector);
void aii_index_free_query(aii_index *index, float *query);
/* The same into memory of the caller's: [dims]. */
void aii_index_take(const aii_index *index, float *to, const float *vector);
float aii_index_dist(const aii_index *index, const float *query, const float *vector);
float aii_index_score(const aii_index *index, float dist); /* as aiinfra_hit.vector_score tells it */

/* ---- elements (element.c): how a row stores its vector ----------------------------------------------------------- */

size_t aii_element_bytes(int32_t element, uint32_t dims);
/* A vector that was checked, to aii_element_bytes(). */
void aii_element_encode(const aii_index *index, const float *vector, uint8_t *out);
/* A stored vector, [dims], as it is; or as the index wants it. false: it has not the bytes that it should have. */
bool aii_element_decode(const aii_index *index, const void *stored, size_t n, float *out);
bool aii_element_take(const aii_index *index, const void *stored, size_t n, float *out);
/* EINVAL: it is not finite, or cannot be stored, or compared, so. */
aiinfra_status aii_element_check(const aii_index *index, const float *vector, aiinfra_error *err);

static inline aii_block *aii_block_of(const aii_index *index, uint32_t slot)
{
  return index->blocks[slot / AII_BLOCK_SLOTS];
}
static inline const float *aii_vector_of(const aii_index *index, uint32_t slot) /* while index->floats */
{
  return aii_block_of(index, slot)->vectors + (size_t)(slot % AII_BLOCK_SLOTS) * index->dims;
}
static inline const uint8_t *aii_codes_of(const aii_index *index, uint32_t slot)
{
  return aii_block_of(index, slot)->codes + (size_t)(slot % AII_BLOCK_SLOTS) * index->code_bytes;
}
static inline bool aii_is_dead(const aii_index *index, uint32_t slot)
{
  return aii_block_of(index, slot)->dead[slot % AII_BLOCK_SLOTS];
}
static inline bool aii_bit(const uint64_t *bits, uint32_t at)
{
  return (bits[at / 64] >> (at % 64) & 1) != 0;
}

/* ---- codes (code.c): vectors in 8 bits an element, and how far these may be off ---------------------------------- */

/* A vector that slots are compared with. */
typedef struct aii_code {
  const uint8_t *codes; /* [code_bytes] */
  int32_t start;        /* for vec_codes */
  float scale, norm, error;
  float coarse; /* length of what codes alone leave out, rounded up; of codes that were made */
} aii_code;

/* Codes of a vector, to `out`: [code_bytes], then [fine_bytes]. */
void aii_code_make(const aii_index *index, const float *vector, uint8_t *out, aii_code *code);
void aii_code_store(aii_index *index, uint32_t slot, const aii_code *code); /* as it was made */
bool aii_code_is(const aii_index *index, uint32_t slot, const aii_code *code);
aii_code aii_code_of(const aii_index *index, uint32_t slot);
/* The distance from an integer product; what is not a number is far. */
float aii_code_dist(const aii_index *index, const aii_code *code, uint32_t slot, int32_t dot);
float aii_code_dist_of(const aii_index *index, const aii_code *code, uint32_t slot);
/* How far a distance of codes is off, most of the time. */
float aii_code_doubt(const aii_index *index, const aii_code *code, uint32_t slot);
/* A slot's vector as its codes and fine bits have it: [code_bytes], filled up with 0. */
void aii_code_vector(const aii_index *index, uint32_t slot, float *out);
/* The distance of a query of a length to a vector that aii_code_vector() made lies in [low, high] by its floats. */
typedef struct aii_bounds {
  float low, high;
} aii_bounds;
aii_bounds aii_code_bounds(const aii_index *index, uint32_t slot, float dist, float length);
float aii_length_of(const float *vector, uint32_t n); /* rounded up */

/* ---- exact search (scan.c) --------------------------------------------------------------------------------------- */

/* Slots that may be among the nearest: their vectors decide. */
typedef struct aii_find {
  int64_t id;
  float dist; /* by codes, or what bounds it from below */
  uint32_t slot, row;
} aii_find;
typedef struct aii_finds {
  aii_find *items;
  size_t n, cap;
} aii_finds;
void aii_finds_free(const aii_index *index, aii_finds *finds);
bool aii_finds_add(const aii_index *index, aii_finds *finds, uint32_t slot, float dist);
/* Adds all live slots of [from, n) whose bit is set (allow NULL: all) that may be among the `cap` nearest; *n_scanned
 * counts distances. Read lock held. false: no memory. */
bool aii_index_scan(aii_index *index, const float *query, const uint64_t *allow, uint32_t from, size_t cap,
                    aii_finds *finds, uint64_t *n_scanned);
/* Offers the finds to the heap by their vectors, or what their codes and fine bits have of them. false: no memory. */
bool aii_finds_settle(const aii_index *index, const float *query, const aii_finds *finds, aii_near *heap, size_t *n,
                      size_t cap);

/* ---- the graph (hnsw.c, hnsw_build.c, heal.c) --------------------------------------------------------------------- */

/* Extends the graph by up to `max` slots of the tail. Takes the locks it needs; false: no memory, the graph is as
 * good as before. Another thread that builds already: returns at once. */
bool aii_hnsw_build(aii_index *index, uint32_t max);
/* How to walk over the graph, and how it was walked. */
typedef enum aii_walk_way {
  AII_WALK_THROUGH, /* over all that it met */
  AII_WALK_AMONG,   /* over allowed slots alone, at last */
  AII_WALK_FAR      /* it ended: far fewer are allowed near the query than elsewhere */
} aii_walk_way;
typedef struct aii_walk {
  const uint64_t *allow; /* NULL: all */
  uint32_t ef;
  uint32_t n_allowed; /* so many bits are set: the walk chooses its way by what it meets; 0: through all it meets */
  uint64_t budget;    /* distances and looks behind hidden slots, at most; 0: no matter */
  uint64_t n_scanned; /* counts distances */
  uint32_t n_graph;   /* out: slots from here on were not in the graph when the walk began, and are not found */
  aii_walk_way way;
  bool spent; /* it ended for its budget */
} aii_walk;
/* Adds what may be among the `cap` nearest of what the graph finds, nearest by their codes first. Read lock held.
 * false: no memory. */
bool aii_hnsw_search(aii_index *index, const float *query, aii_walk *how, size_t cap, aii_finds *finds);
void aii_hnsw_free(aii_index *index); /* scratch and upper links */
/* Takes dead slots out: others move down, so that all numbers of slots change. Takes the locks it needs; false: no memory,
 * nothing moved. Another thread that builds or heals already: returns at once. */
bool aii_hnsw_heal(aii_index *index);
/* How many slots of the graph no links lead to from its entry. reached: bits by slot; queue: [n_graph]. Read lock held. */
uint32_t aii_hnsw_unreached(const aii_index *index, uint64_t *reached, uint32_t *queue);

/* ---- filters (filter.c, match.c) ------------------------------------------------------------------------------ */

typedef struct aii_filter aii_filter;
/* Compiles a filter in Qdrant's or Chroma's form. EINVAL: the message names the path of what is wrong. */
aiinfra_status aii_filter_compile(aii_mem *mem, const char *json, aii_filter **out, aiinfra_error *err);
void aii_filter_free(aii_filter *filter);
/* Looks the filter's keys up in the dictionary of the documents that it will see, or adds them. false: no memory. */
bool aii_filter_bind(aii_filter *filter, aii_keys *keys, bool add);
void aii_docs_bind(aii_index *index, aii_filter *filter); /* docs.c: to those of an index, locked for reading */
/* *steps is what may be spent; 0 afterwards: the answer means nothing. */
bool aii_filter_passes(const aii_filter *filter, int64_t id, const aii_cell *doc, uint64_t *steps);
/* Shows all values of the filter's first field, elements of arrays one by one; false when a call returned false. */
typedef bool (*aii_values_fn)(void *ctx, const aii_cell *doc, const aii_cell *value);
bool aii_filter_values(const aii_filter *filter, const aii_cell *doc, aii_values_fn see, void *ctx);
/* A filter that only names a field. */
aiinfra_status aii_filter_of_key(aii_mem *mem, const char *key, size_t n, aii_filter **out, aiinfra_error *err);
/* Binds and evaluates on one payload, an object or NULL. false: no memory. */
bool aii_filter_test(aii_filter *filter, int64_t id, const json_t *payload, bool *passes);

/* ---- masks (mask.c): the slots that pass a filter -------------------------------------------------------------- */

typedef struct aii_mask {
  uint64_t *bits; /* by slot; NULL: no filter, all */
  size_t n_words;
  uint32_t n_passing; /* live ones, exactly */
  uint32_t n_tested;  /* slots whose payload was looked at now */
  bool kept;          /* the others were known from an earlier query */
} aii_mask;

enum { AII_KEPT_MASKS = 8 };
typedef struct aii_kept_mask {
  char *filter; /* its text; NULL: free */
  uint64_t *bits, changes, used;
  size_t n_words;
  uint32_t n; /* slots that were tested */
} aii_kept_mask;

/* ---- columns (column.c): the values of a field ------------------------------------------------------------------ */

typedef struct aii_column_cell {
  uint32_t slot, value;
} aii_column_cell;
typedef struct aii_column {
  aii_keys values;        /* their JSON, by number */
  aii_column_cell *cells; /* each value of a row once; in the order of slots when payloads are in memory */
  uint32_t *last;         /* by value: the last slot that has it */
  size_t n, cap, last_cap;
} aii_column;

/* ---- plans (plan.c) -------------------------------------------------------------------------------------------- */

typedef enum aii_searchplan_kind { AII_PLAN_EXACT, AII_PLAN_GRAPH, AII_PLAN_FILTERED } aii_searchplan_kind;
typedef struct aii_searchplan {
  aii_searchplan_kind kind;
  const char *why;
  uint32_t ef;
  uint64_t budget;    /* of a walk (aii_walk); 0: it ends by itself, and its finds are taken as they are */
  uint64_t n_scanned; /* distances computed */
} aii_searchplan;
const char *aii_searchplan_name(const aii_searchplan *plan);
/* mode: an aiinfra_search_mode. */
void aii_searchplan_choose(const aii_index *index, int32_t mode, uint32_t ef, const aii_mask *mask,
                           aii_searchplan *plan);
/* Finds what may be among the `cap` nearest that pass, never fewer than there are. Read lock held. false: no memory. */
bool aii_searchplan_run(aii_index *index, const float *query, const aii_mask *mask, aii_searchplan *plan, size_t cap,
                        aii_finds *finds);

/* ---- words (words.c) ------------------------------------------------------------------------------------------ */

/* Finds the next run of letters and digits at or after *at; false at the end. *at moves behind it. */
bool aii_word_next(const char *s, size_t n, size_t *at, const char **word, size_t *word_n);
/* Words that a text is not about: the, of, what, how ... ; any case. */
bool aii_word_is_stop(const char *word, size_t n);
/* An FTS5 query: the words of a text, quoted, joined by OR, without stop words unless there is nothing else. */
void aii_words_query(const char *text, aii_buf *query);

/* Parses a caller's argument: malformed is EINVAL. */
aiinfra_status aii_request_parse(const char *json, const char *what, json_t **out, aiinfra_error *err);

/* ---- stores (vecstore.c, rows.c, search.c) -------------------------------------------------------------------- */

/* What a store knows of the file of its graph (keep.c). */
typedef struct aii_keep {
  int32_t mode;            /* as the option `snapshot`; -1 also where there is no file */
  bool read_only;          /* what is there is read, nothing is written */
  bool looked;             /* a file was looked for; guarded by the connection's lock */
  bool joinable;           /* guarded by `lock` */
  _Atomic uint32_t n_kept; /* slots of the graph in the newest file known */
  _Atomic bool lost;       /* the file that the database names cannot be used */
  _Atomic bool rebuild;    /* and the graph is still to be made */
  _Atomic bool running, stop;
  pthread_mutex_t lock;
  pthread_t thread;
} aii_keep;

/* What a row has in a collection. Those below another have no words, payloads or filters; their ids are the rows'. */
typedef enum aii_kind { AII_KIND_ONE, AII_KIND_MULTI, AII_KIND_SPARSE } aii_kind;
typedef struct aii_sparse aii_sparse;
typedef struct aii_multi aii_multi;

typedef struct aii_ids {
  int64_t *items;
  size_t n, cap;
} aii_ids;

/* When rows of the index cease to be there (expiry.c); guarded by the connection's lock. */
typedef struct aii_expiry {
  aii_heap heap;          /* of times and ids; some out of date */
  bool filled;            /* it has all rows up to the index's seq */
  _Atomic int64_t due_ms; /* the first of the times, for those without that lock; INT64_MIN: nobody knows */
  int64_t (*now_ms)(void);
} aii_expiry;

struct aiinfra_vecstore {
  aiinfra_db *db;
  aii_index index;
  _Atomic int64_t coming;     /* the seq of a commit under way, which this handle brings into its index; -1: none */
  _Atomic uint32_t n_writers; /* threads that write, and link and heal then: searches do neither meanwhile */
  _Atomic int64_t collection; /* of a tenant that has written nothing yet: 0. Changes with the connection's lock held */
  int64_t parent;             /* of one below another, when it is opened; 0: none */
  int64_t owner;              /* of a tenant's: the collection that it is a part of; 0: it is none's */
  int32_t kind;               /* an aii_kind */
  char *name, *label;         /* label: the name below the parent; NULL: none */
  char *tenant;               /* NULL: none */
  aiinfra_vecstore *above;    /* of one below another: who opened it and frees it */
  aiinfra_vecstore **named;   /* collections below, as they were when this was opened */
  size_t n_named, named_cap;
  aii_sparse *sparse; /* of that kind, else NULL */
  aii_multi *multi;
  aii_expiry expiry;         /* rows below another have no time of their own: they leave with those above */
  int64_t ttl_ms;            /* of rows that are written and say nothing; 0: they stay */
  pthread_mutex_t kept_lock; /* guards the next two */
  aii_kept_mask kept[AII_KEPT_MASKS];
  uint64_t kept_clock;
  aii_keep keep;
  char words_insert[96], words_delete[128], words_find[320]; /* SQL on this collection's full-text table */
  aii_stmt *words_inserter,
      *words_deleter; /* the first two; made when they are used, with the connection's lock held */
};

/* A record with words that are found but not shown. */
typedef struct aii_record {
  aiinfra_record r;
  const char *keywords; /* may be NULL */
  const void *stored;   /* what is written in place of r.vector; NULL: nothing */
  size_t stored_n;
  int64_t expires_ms; /* 0: as the store has it */
} aii_record;

/* Names that begin with '@' belong to the library. opts is complete, metric 0 or valid. */
aiinfra_status aii_vecstore_open(aiinfra_db *db, const char *name, const aiinfra_vecstore_opts *opts,
                                 aiinfra_vecstore **out, aiinfra_error *err);
void aii_vecstore_free(aiinfra_vecstore *store);
/* The same for a collection below another. */
typedef struct aii_below {
  int64_t parent;
  const char *label;
  int32_t kind;
} aii_below;
aiinfra_status aii_vecstore_open_below(aiinfra_db *db, const char *name, const aii_below *below,
                                       const aiinfra_vecstore_opts *opts, aiinfra_vecstore **out, aiinfra_error *err);
/* After a commit, no lock held: a graph that is there stays whole, and is healed. What fails here, the next search does. */
void aii_vecstore_extend(aiinfra_vecstore *store);
void aii_vecstore_heal(aiinfra_vecstore *store); /* when it is time. No lock held */

/* Inside the caller's transaction, lock held. */
aiinfra_status aii_rows_check(const aiinfra_vecstore *store, const aii_record *record, size_t at, aiinfra_error *err);
aiinfra_status aii_rows_upsert(aiinfra_vecstore *store, const aii_record *records, size_t n, aiinfra_error *err);
aiinfra_status aii_rows_remove(aiinfra_vecstore *store, const int64_t *ids, size_t n, size_t *n_removed,
                               aiinfra_error *err);
/* Rewrites the full-text table so that nothing of removed rows is left in it. */
aiinfra_status aii_rows_purge(aiinfra_vecstore *store, aiinfra_error *err);

/* With a transaction of their own; no lock held. */
aiinfra_status aii_vecstore_upsert(aiinfra_vecstore *store, const aii_record *records, size_t n, aiinfra_error *err);
/* The same with records that were checked. */
aiinfra_status aii_vecstore_write(aiinfra_vecstore *store, const aii_record *records, size_t n, aiinfra_error *err);
aiinfra_status aii_vecstore_remove(aiinfra_vecstore *store, const int64_t *ids, size_t n, size_t *n_removed,
                                   aiinfra_error *err);
/* Files of vectors (import.c, export.c); opts are loaded to the full struct. No lock held. */
aiinfra_status aii_vecstore_import(aiinfra_vecstore *store, const char *path, const aiinfra_vecstore_import_opts *opts,
                                   uint64_t *next_row, aiinfra_error *err);
aiinfra_status aii_vecstore_export(aiinfra_vecstore *store, const char *path, const aiinfra_vecstore_export_opts *opts,
                                   uint64_t *n_rows, aiinfra_error *err);
/* There is room for k hits, and no option that asks for more. */
aiinfra_status aii_vecstore_search(aiinfra_vecstore *store, const aiinfra_query *query, aiinfra_hit *hits, size_t *n,
                                   aiinfra_error *err);
aiinfra_status aii_vecstore_search_into(aiinfra_vecstore *store, const aiinfra_query *query, aiinfra_hit *hits,
                                        size_t cap, size_t *n, aiinfra_error *err);
/* The options have stages (tree.c). */
aiinfra_status aii_vecstore_search_tree(aiinfra_vecstore *store, const aiinfra_query *query, aiinfra_hit *hits,
                                        size_t cap, size_t *n, aiinfra_error *err);
aiinfra_status aii_vecstore_query(aiinfra_vecstore *store, const char *request, char **out, aiinfra_error *err);
aiinfra_status aii_vecstore_read(aiinfra_vecstore *store, const char *request, char **out, aiinfra_error *err);
aiinfra_status aii_vecstore_change(aiinfra_vecstore *store, const char *request, uint64_t *n, aiinfra_error *err);
aiinfra_status aii_vecstore_get(aiinfra_vecstore *store, int64_t id, char **text, char **payload, aiinfra_error *err);
aiinfra_status aii_vecstore_count(aiinfra_vecstore *store, uint64_t *n, aiinfra_error *err);

/* Brings the index up to the rows (sync.c). Lock held, index unlocked. */
aiinfra_status aii_vecstore_sync(aiinfra_vecstore *store, aiinfra_error *err);
/* The same for who holds no lock: the connection's is taken only if there is something new that nobody is bringing in. */
aiinfra_status aii_vecstore_look(aiinfra_vecstore *store, aiinfra_error *err);
/* Commits what was written, and brings it into the indexes that are there, so that searches need not. Or rolls back. Lock held.
 * removed: all that was done to the collection itself is that these ids went; NULL: it is not known. */
aiinfra_status aii_vecstore_commit(aiinfra_vecstore *store, const aii_ids *removed, aiinfra_error *err);
/* Whose rows a tenant's handle reads (tenant.c), at the beginning of all that reads or writes some. Lock held, index
 * unlocked. */
aiinfra_status aii_tenant_find(aiinfra_vecstore *store, aiinfra_error *err);
/* Removes a collection, with its tenants. No lock held. */
aiinfra_status aii_vecstore_drop(aiinfra_db *db, const char *name, aiinfra_error *err);
/* Expiry: lock held. */
void aii_expiry_init(aii_expiry *expiry, aii_mem *mem);
void aii_expiry_free(aii_expiry *expiry);
bool aii_expiry_note(aii_expiry *expiry, int64_t id, int64_t expires_ms); /* 0: never. false: no memory */
/* The heap has all rows up to the index's seq; before newer ones are noted. *filled: it had not, so that rows which went
 * as expired are unknown. */
aiinfra_status aii_expiry_prepare(aiinfra_vecstore *store, bool *filled, aiinfra_error *err);
bool aii_expiry_due(const aiinfra_vecstore *store);
bool aii_expiry_is_due(const aiinfra_vecstore *store); /* the same, or nobody knows; no lock held */
/* Takes the ids whose time has passed. */
aiinfra_status aii_expiry_pass(aiinfra_vecstore *store, aii_ids *expired, aiinfra_error *err);
void aii_expiry_tell(aiinfra_vecstore *store);                          /* due_ms is what the heap says */
int64_t aii_expiry_of(const aiinfra_vecstore *store, int64_t given_ms); /* of a row that is written; 0: never */
/* In the caller's transaction: removes expired rows, a few with a write, or all. */
aiinfra_status aii_expiry_purge_some(aiinfra_vecstore *store, size_t n_written, aiinfra_error *err);
aiinfra_status aii_expiry_purge_all(aiinfra_vecstore *store, size_t *n, aiinfra_error *err);
/* Its parts that others have, too. The collection's counts, zeros where a tenant has none yet; and marks, as bits, what the
 * map has for ids of rows that are there. Lock held. */
typedef struct aii_seqs {
  int64_t seq, removed_seq, purged_seq;
} aii_seqs;
aiinfra_status aii_collection_seqs(const aiinfra_vecstore *store, aii_sql *sql, aii_seqs *out, aiinfra_error *err);
aiinfra_status aii_rows_there(aiinfra_vecstore *store, const aii_idmap *map, uint64_t *there, aiinfra_error *err);
/* Vectors from their rows (fetch.c), as the index wants them: [dims]. Lock held, in a transaction. *there: false: the row
 * is gone, or newer than seq. Of a slot: index locked and up to date; its row must be there. */
aiinfra_status aii_fetch_id(const aiinfra_vecstore *store, aii_sql *sql, int64_t id, int64_t seq, float *out,
                            bool *there, aiinfra_error *err);
/* The collection's. */
aiinfra_status aii_rows_seq(const aiinfra_vecstore *store, aii_sql *sql, int64_t *seq, aiinfra_error *err);
aiinfra_status aii_fetch_slot(const aiinfra_vecstore *store, aii_sql *sql, uint32_t slot, float *out,
                              aiinfra_error *err);
/* A query, and the seq of the index that it was found in. */
typedef struct aii_query_vector {
  const float *vector;
  int64_t seq;
} aii_query_vector;
/* Offers the finds to the heap by their vectors, which are read from the rows. No lock held. */
aiinfra_status aii_finds_fetch(aiinfra_vecstore *store, const aii_query_vector *q, const aii_finds *finds,
                               aii_near *heap, size_t *n, size_t cap, aiinfra_error *err);
/* The same in the caller's transaction, lock held. */
aiinfra_status aii_finds_read(const aiinfra_vecstore *store, aii_sql *sql, const aii_query_vector *q,
                              const aii_finds *finds, aii_near *heap, size_t *n, size_t cap, aiinfra_error *err);
/* Reads the payloads into the index, unless they are there. Lock held, in a transaction after a sync; index unlocked. */
aiinfra_status aii_docs_load(aiinfra_vecstore *store, aiinfra_error *err);
/* Calls for each row in the order of seq and id, payload NULL when there is none. The connection's lock held. */
typedef aiinfra_status (*aii_row_fn)(void *ctx, int64_t id, const json_t *payload, aiinfra_error *err);
aiinfra_status aii_rows_each(const aiinfra_vecstore *store, aii_sql *sql, aii_row_fn see, void *ctx,
                             aiinfra_error *err);
/* Tests every live slot; text is the filter's. In a view (view.h). */
aiinfra_status aii_mask_make(aiinfra_vecstore *store, aii_sql *sql, aii_filter *filter, const char *text,
                             aii_mask *mask, aiinfra_error *err);
/* Bits for a mask that has none, of all live slots: n_passing is told already. Index locked for reading. */
aiinfra_status aii_mask_alive(const aii_index *index, aii_mask *mask, aiinfra_error *err);
void aii_mask_free(aiinfra_vecstore *store, aii_mask *mask);
void aii_masks_clear(aiinfra_vecstore *store);
/* The values of a field, of the rows that pass. In a view. */
aiinfra_status aii_column_make(aiinfra_vecstore *store, aii_sql *sql, const char *key, const aii_mask *mask,
                               aii_column *column, aiinfra_error *err);
void aii_column_free(aii_column *column); /* all zero is allowed */
/* Finds the words; `allow` (by slot; NULL: all) must pass. In a view. */
aiinfra_status aii_words_find(const aiinfra_vecstore *store, aii_sql *sql, const char *text, const uint64_t *allow,
                              aii_near *hits, size_t cap, size_t *n, aiinfra_error *err);

#endif
