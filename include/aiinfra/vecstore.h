/* aiinfra/vecstore.h - a collection of vectors with text and JSON payloads inside a database.
 *
 * Rows are the truth; the HNSW graph is derived from them, kept in memory, and rebuilt when it is missing. Small
 * collections and selective filters are searched exactly. Text is indexed for keyword search (BM25); a query with
 * both a vector and text fuses the two rankings by reciprocal rank.
 */
#ifndef AIINFRA_VECSTORE_H
#define AIINFRA_VECSTORE_H

#include "aiinfra/db.h"
#include "aiinfra/types.h"

#ifdef __cplusplus
extern "C" {
#endif

/** A vector collection. */
typedef struct aiinfra_vecstore aiinfra_vecstore;

/** How vectors are compared. */
typedef enum aiinfra_metric {
  AIINFRA_METRIC_DEFAULT = 0, /**< cosine */
  AIINFRA_METRIC_COSINE = 1,  /**< score is the cosine, 1 is best; zero vectors are refused */
  AIINFRA_METRIC_IP = 2,      /**< score is the inner product, larger is better */
  AIINFRA_METRIC_L2 = 3       /**< score is minus the squared distance, 0 is best */
} aiinfra_metric;

/** How a collection stores the elements of its vectors. Scores and exact searches follow from what is stored. */
typedef enum aiinfra_element {
  AIINFRA_ELEMENT_DEFAULT = 0, /**< f32 */
  AIINFRA_ELEMENT_F32 = 1,     /**< as they are given; 4 bytes */
  AIINFRA_ELEMENT_F16 = 2,     /**< halves, up to 65504; 2 bytes */
  AIINFRA_ELEMENT_INT8 = 3,    /**< multiples of a 127th of the vector's largest one; 1 byte */
  AIINFRA_ELEMENT_BINARY = 4   /**< 1 for what is above 0, else -1; 1 bit */
} aiinfra_element;

/** Options of aiinfra_vecstore_open(). Zero is the default of every field. */
typedef struct aiinfra_vecstore_opts {
  size_t struct_size;       /**< sizeof this struct; set by AIINFRA_VECSTORE_OPTS_INIT */
  uint32_t dims;            /**< elements of a vector, 1 to 65536; 0: of the collection, which must exist */
  int32_t metric;           /**< an aiinfra_metric; must agree with an existing collection or be 0 */
  uint32_t m;               /**< HNSW: links of a node; 0: 16 */
  uint32_t ef_construction; /**< HNSW: candidates while building; 0: 200 */
  uint64_t payload_bytes;   /**< memory for payloads, once a filter was used; beyond it filters read rows; 0: 256 MiB */
  uint64_t vector_bytes;    /**< memory for vectors as they were written; beyond it only their codes of 8 bits are in
                                 memory, and the few vectors that decide are read from the rows; 0: 64 MiB */
  int32_t snapshot;         /**< whether the graph is kept in a file beside the database, so that the next opening need
                                 not make it again: 0: default (from 4096 rows on), 1: of any size, -1: off */
  uint32_t reserved;        /**< must be 0 */
  int32_t element;          /**< an aiinfra_element; must agree with an existing collection or be 0 */
  uint32_t reserved2;       /**< must be 0 */
  const char *vectors_json; /**< vectors that rows may have beside the first one, by name; see
                                 aiinfra_vecstore_upsert_named(). Names that are new are added; NULL: those there are */
  uint64_t ttl_ms;          /**< how long rows live that are written through this handle; 0: for ever */
  const char *tenant;       /**< whose rows the handle sees and writes, 1 to 128 bytes: a wall no call looks over; NULL:
                                 those of no tenant */
} aiinfra_vecstore_opts;

/** Initialiser of aiinfra_vecstore_opts. */
#define AIINFRA_VECSTORE_OPTS_INIT                                             \
  {                                                                            \
    sizeof(aiinfra_vecstore_opts), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, 0, NULL \
  }

/** One row to write. */
typedef struct aiinfra_record {
  int64_t id;               /**< chosen by the caller; an existing row is replaced */
  const float *vector;      /**< dims floats, all finite */
  const char *text;         /**< for keyword search; may be NULL */
  const char *payload_json; /**< a JSON object for filters and the reader; may be NULL */
} aiinfra_record;

/** How to search. */
typedef enum aiinfra_search_mode {
  AIINFRA_SEARCH_AUTO = 0,  /**< exact when it costs little, else the graph */
  AIINFRA_SEARCH_EXACT = 1, /**< compare with every row that passes the filter */
  AIINFRA_SEARCH_GRAPH = 2  /**< HNSW */
} aiinfra_search_mode;

/**
 * A query. At least one of vector, text and the options "recommend", "sparse", "prefetch" and "query" is set. Zero is the
 * default of every field.
 *
 * The options:
 *   {"offset": 20}                                hits to skip
 *   {"score_threshold": 0.5}                      hits with a lower score are left out
 *   {"mmr": {"lambda": 0.5, "candidates": 100}}   hits that are relevant (lambda) and not alike (1 - lambda)
 *   {"group": {"by": "lang", "size": 3}}          k groups by a field of the payload, with their best hits one behind
 *                                                 the other; cap must be at least k times size
 *   {"recommend": {"positive": [1], "negative": [2], "strategy": "average" or "best_score"}}
 *                                                 like some rows and unlike others, in place of a vector
 *   {"using": "image"}                            the vector, or the examples, are those under this name
 *   {"using": "tokens", "multi": 32}              the vector is 32, one behind the other; a row's score is the sum over
 *                                                 these of the best score that a vector of the row has (MaxSim)
 *   {"sparse": {"using": "words", "indices": [4, 9], "values": [0.5, 2]}}
 *                                                 one ranking more, fused with the others: rows that share an index, by
 *                                                 inner product
 *   {"prefetch": [...], "query": {...}}           stages and what becomes of their hits, as aiinfra_vecstore_query() has
 *                                                 them; the query's own vector, text, filter and k are the outermost
 *                                                 stage's, and so are "using" and "multi"; "sparse" is a stage there
 */
typedef struct aiinfra_query {
  size_t struct_size;      /**< sizeof this struct; set by AIINFRA_QUERY_INIT */
  const float *vector;     /**< dims floats, all finite, of the vectors that "using" names; NULL: none */
  const char *text;        /**< words to look for; NULL: vector only */
  const char *filter_json; /**< rows must pass, e.g. {"must": [{"key": "lang", "match": {"value": "en"}}]}; NULL: all */
  uint32_t k;              /**< hits wanted; 0: 10 */
  uint32_t ef;             /**< HNSW: candidates while searching; 0: max(64, 2k) */
  int32_t mode;            /**< an aiinfra_search_mode */
  uint32_t reserved;       /**< must be 0 */
  const char *options_json; /**< a JSON object that says more, see below; NULL: nothing more */
  char **explain;           /**< receives how the query was answered, as JSON, freed with aiinfra_string_free(); NULL on
                                failure; may be NULL */
} aiinfra_query;

/** Initialiser of aiinfra_query. */
#define AIINFRA_QUERY_INIT                                          \
  {                                                                 \
    sizeof(aiinfra_query), NULL, NULL, NULL, 0, 0, 0, 0, NULL, NULL \
  }

/** One hit, best first. */
typedef struct aiinfra_hit {
  int64_t id;         /**< the row */
  float score;        /**< fused score when both searches ran, else that of the one that did */
  float vector_score; /**< by the metric; NaN when the vector search did not find it */
  float text_score;   /**< BM25, larger is better; NaN when the keyword search did not find it */
  uint32_t rank;      /**< from 1 */
} aiinfra_hit;

/**
 * Opens a collection of a database, creating it when dims is set.
 *
 * On success the caller owns *out; release it with aiinfra_vecstore_free(). It keeps @db alive. On failure *out is
 * NULL and nothing is held.
 *
 * @return AIINFRA_ENOENT  no such collection, and dims is 0
 *         AIINFRA_EINVAL  a bad name or option, or dims or metric differ from the collection's
 *         AIINFRA_EIO, AIINFRA_EFORMAT, AIINFRA_EBUSY, AIINFRA_ENOTSUP, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_vecstore_open(aiinfra_db *db, const char *name,
                                                                  const aiinfra_vecstore_opts *opts,
                                                                  aiinfra_vecstore **out, aiinfra_error *err);

/**
 * Releases the collection's handle, after writing its graph to a file if much of it is new (see the option snapshot).
 * NULL is allowed.
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API void aiinfra_vecstore_free(aiinfra_vecstore *store);

/**
 * Removes a collection with its rows, words, tenants and the files of its graphs, in one transaction. Handles that are
 * still open fail with AIINFRA_ENOENT from then on, also when there is a collection of this name again.
 *
 * @return AIINFRA_ENOENT  no such collection
 *         AIINFRA_EINVAL, AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOSPC, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_vecstore_drop(aiinfra_db *db, const char *name, aiinfra_error *err);

/**
 * Writes n rows in one transaction: all or none.
 *
 * @return AIINFRA_EINVAL  a vector with NaN, infinity, (cosine) zero length or elements that cannot be stored, or a
 *                         bad payload; names the row
 *         AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOSPC, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_vecstore_upsert(aiinfra_vecstore *store,
                                                                    const aiinfra_record *records, size_t n,
                                                                    aiinfra_error *err);

/** A vector of a row under a name. */
typedef struct aiinfra_named_vector {
  int64_t id;              /**< of a row that is there */
  const char *name;        /**< one of vectors_json */
  const float *values;     /**< n floats, all finite; NULL with n 0: the row loses this vector */
  const uint32_t *indices; /**< sparse: n indices of the values, in any order, none twice; else NULL */
  size_t n;                /**< dims; multi: so many for each vector, one behind the other; sparse: of the values */
} aiinfra_named_vector;

/**
 * Writes vectors of rows under names, in one transaction: all or none. What a row has under a name is replaced. A row
 * that is written again keeps its named vectors, and one that is removed takes them along.
 *
 * The names and kinds are those of vectors_json, when the collection was opened:
 *   {"image": {"dims": 512, "metric": "l2", "element": "f16"},   one vector a row; cosine and f32 by default
 *    "tokens": {"dims": 128, "multi": true},                      many vectors a row, for late interaction
 *    "words": {"sparse": true}}                                   indices with values, compared by inner product
 *
 * @return AIINFRA_EINVAL  a name that is not there, a wrong number of floats, indices where there should be none or none
 *                         where there should be, or a vector as aiinfra_vecstore_upsert() refuses it; names the vector
 *         AIINFRA_ENOENT  no row has the id
 *         AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOSPC, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_vecstore_upsert_named(aiinfra_vecstore *store,
                                                                          const aiinfra_named_vector *vectors, size_t n,
                                                                          aiinfra_error *err);

/**
 * Removes rows in one transaction; ids that are not there are ignored.
 *
 * @param n_removed  receives how many there were; may be NULL
 * @return AIINFRA_EINVAL, AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_vecstore_remove(aiinfra_vecstore *store, const int64_t *ids,
                                                                    size_t n, size_t *n_removed, aiinfra_error *err);

/**
 * Searches. Never returns fewer hits than min(k, rows that pass) for a query with a vector, unless its options leave
 * hits out.
 *
 * @param hits  room for cap hits; at most k are written, or k times the size of a group
 * @param n     receives the number of hits
 * @return AIINFRA_EINVAL  neither vector nor text nor examples, a bad filter (the message names the path) or option,
 *                         cap too small
 *         AIINFRA_ENOENT  an example of "recommend" is not there
 *         AIINFRA_ELIMIT  the filter takes too many steps on this collection
 *         AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOTSUP, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_vecstore_search(aiinfra_vecstore *store, const aiinfra_query *query,
                                                                    aiinfra_hit *hits, size_t cap, size_t *n,
                                                                    aiinfra_error *err);

/**
 * Searches by a request in JSON, whose names are those of Qdrant's query API where it has them. Every member may be left
 * out:
 *
 *   {"vector": [0.1, ...] or {"row": 7}, "using": "image", "text": "words", "filter": {...}, "limit": 10, "offset": 0,
 *    "score_threshold": 0.5, "mmr": {...}, "group": {...}, "params": {"exact": true, "hnsw_ef": 64},
 *    "prefetch": [STAGE, ...], "query": VARIANT, "with_payload": true, "with_text": true, "explain": true}
 *       {"hits": [{"id": 3, "score": 0.8, "vector_score": 0.8, "text": "...", "payload": {...}}], "explain": {...}}
 *   {"searches": [{...}, {...}]}     several such requests, answered over the same rows; each filter is evaluated once
 *       {"results": [{"hits": [...]}, {"hits": [...]}]}
 *
 * A stage of "prefetch" is such a request without the last three members and without "group". A stage finds rows that
 * pass its filter and the filters of the stages around it. With prefetches it finds them among their hits. A VARIANT is
 * one of
 *   [0.1, ...], 7, {"row": 7} or {"nearest": ...}     as "vector"
 *   {"recommend": {"positive": [...], "negative": [...], "strategy": "average" or "best_score"}}
 *   {"discover": {"target": EXAMPLE, "context": [{"positive": EXAMPLE, "negative": EXAMPLE}]}}
 *   {"context": [{"positive": EXAMPLE, "negative": EXAMPLE}]}
 *   {"fusion": "rrf" or "dbsf"}, {"rrf": {"k": 60, "weights": [2, 1]}},
 *   {"weighted": {"weights": [0.7, 0.3], "norm": "minmax", "dbsf" or "none"}}     one list of the prefetches' lists
 *   {"formula": EXPRESSION, "defaults": {"price": 0}}     a score from the prefetches' scores and the payload
 * where an EXAMPLE is a vector, an id or {"row": id}; rows named so are no hits. With "using" vectors are those under a
 * name of vectors_json; where these are sparse, a vector is {"indices": [...], "values": [...]}, and where rows have several,
 * an array of vectors (MaxSim). Without prefetches a fusion or a formula
 * is about the request's own vector and text, and a formula scores all rows that pass.
 *
 * On success *out_json is freed with aiinfra_string_free(); on failure it is NULL.
 * @return AIINFRA_EINVAL  a request that is not understood, or a formula without a finite result; the message names what
 *         AIINFRA_ENOENT  a row that is named is not there
 *         AIINFRA_ELIMIT  a filter takes too many steps on this collection
 *         AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_EFORMAT, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_vecstore_query(aiinfra_vecstore *store, const char *request_json,
                                                                   char **out_json, aiinfra_error *err);

/**
 * A row's text and payload.
 *
 * @param out_text     receives the text, "" when there is none; may be NULL
 * @param out_payload  receives the payload as JSON, "{}" when there is none; may be NULL
 * @return AIINFRA_ENOENT, AIINFRA_EINVAL, AIINFRA_EIO, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_vecstore_get(aiinfra_vecstore *store, int64_t id, char **out_text,
                                                                 char **out_payload, aiinfra_error *err);

/**
 * The number of rows.
 * @return AIINFRA_EINVAL, AIINFRA_EIO
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_vecstore_count(aiinfra_vecstore *store, uint64_t *n,
                                                                   aiinfra_error *err);

/**
 * Reads rows without a vector: one request, one answer, both JSON. "filter" may be left out: all rows.
 *
 *   {"count": {"filter": {...}}}
 *       {"count": 12}
 *   {"facet": {"key": "lang", "filter": {...}, "limit": 10}}    how many rows have each value, most first
 *       {"values": [{"value": "en", "count": 7}, ...]}
 *   {"scroll": {"filter": {...}, "after": 17, "limit": 10}}     rows with ids above "after", in the order of ids
 *       {"rows": [{"id": 18, "text": "...", "payload": {...}}, ...], "next": 27 or null}
 *       a row that lives until a time has it as "expires_ms"; "next" is the "after" of the next request; null: there are
 *       no more rows
 *   {"scroll": {"order_by": {"key": "price", "direction": "asc" or "desc"}, "filter": {...}, "limit": 10}}
 *       rows in the order of a field, those without a value last; "next" is {"value": 12.5, "id": 27} or null
 *
 *   {"tenants": {"after": "a", "limit": 10}}                    who has rows, in the order of names; both may be left out
 *       {"tenants": [{"tenant": "b", "count": 7}, ...], "next": "k" or null}
 *
 * On success *out_json is freed with aiinfra_string_free(); on failure it is NULL.
 * @return AIINFRA_EINVAL  a request that is not understood; the message names what
 *         AIINFRA_ELIMIT  the filter takes too many steps on this collection
 *         AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_EFORMAT, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_vecstore_read(aiinfra_vecstore *store, const char *request_json,
                                                                  char **out_json, aiinfra_error *err);

/**
 * Changes all rows that pass a filter, in one transaction: all or none. Vectors and texts stay as they are.
 *
 *   {"delete": {"filter": {...}}}
 *   {"set_payload": {"payload": {"seen": true}, "filter": {...}}}   members are added or replaced
 *   {"overwrite_payload": {"payload": {...}, "filter": {...}}}
 *   {"delete_payload": {"keys": ["seen"], "filter": {...}}}         members are removed
 *   {"set_expiry": {"ttl_s": 3600, "filter": {...}}}                rows cease to be there after so many seconds
 *   {"set_expiry": {"expires_ms": 1800000000000, "filter": {...}}}  at a time, in milliseconds since 1970; 0: never
 *   {"drop_tenant": {"tenant": "a"}}                                removes all that a tenant has
 *   {"remove_expired": {}}                                          gives back the room of rows whose time has passed
 * "ids": [1, 2] may stand in place of "filter"; ids that are not there are ignored. One of the two is given; {} as a
 * filter means all rows.
 *
 * @param n_changed  receives how many rows there were; may be NULL
 * @return AIINFRA_EINVAL  a request that is not understood; the message names what
 *         AIINFRA_ELIMIT  the filter takes too many steps on this collection
 *         AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_EFORMAT, AIINFRA_ENOSPC, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_vecstore_change(aiinfra_vecstore *store, const char *request_json,
                                                                    uint64_t *n_changed, aiinfra_error *err);

/** Files of vectors. Numbers are little endian. */
typedef enum aiinfra_vector_format {
  AIINFRA_VECTORS_DEFAULT = 0, /**< by the file's ending: .fvecs, .bvecs, .fbin, .u8bin, .npy, .jsonl or .ndjson */
  AIINFRA_VECTORS_FVECS = 1,   /**< each row: int32 dims, then floats */
  AIINFRA_VECTORS_BVECS = 2,   /**< each row: int32 dims, then bytes */
  AIINFRA_VECTORS_NPY = 3,     /**< NumPy: two dimensions, by rows; floats (f4, f2) or bytes (i1, u1) */
  AIINFRA_VECTORS_JSONL = 4,   /**< a line a row: {"id", "vector", "vectors", "text", "payload", "expires_ms"} */
  AIINFRA_VECTORS_FBIN = 5,    /**< uint32 rows and dims, then floats */
  AIINFRA_VECTORS_U8BIN = 6    /**< uint32 rows and dims, then bytes */
} aiinfra_vector_format;

/** Options of aiinfra_vecstore_import(). Zero is the default of every field. */
typedef struct aiinfra_vecstore_import_opts {
  size_t struct_size;           /**< sizeof this struct; set by AIINFRA_VECSTORE_IMPORT_OPTS_INIT */
  aiinfra_progress_fn progress; /**< called on the calling thread after each batch; may cancel; NULL: none */
  void *progress_user;          /**< handed to progress */
  uint64_t from_row;            /**< rows of the file to leave out at its beginning: those of an earlier call */
  uint64_t max_rows;            /**< rows to take; 0: all that follow */
  int64_t first_id;             /**< id of the file's first row, where rows have none of their own */
  int32_t format;               /**< an aiinfra_vector_format */
  uint32_t batch_rows;          /**< rows written in one transaction; 0: 1000; fewer when they are large */
  const char *using_name; /**< the file's vectors are those that rows have under this name of vectors_json; the rows
                                     must be there; not with JSONL; NULL: the first ones */
} aiinfra_vecstore_import_opts;

/** Initialiser of aiinfra_vecstore_import_opts. */
#define AIINFRA_VECSTORE_IMPORT_OPTS_INIT                                 \
  {                                                                       \
    sizeof(aiinfra_vecstore_import_opts), NULL, NULL, 0, 0, 0, 0, 0, NULL \
  }

/**
 * Writes the rows of a file: a transaction a batch, with memory for one batch. A row gets the id that it brings, else
 * first_id plus its number; an existing row is replaced. "vectors" of a line of JSONL has what the row gets under names:
 * {"image": [...], "tokens": [[...], ...], "words": {"indices": [...], "values": [...]}, "old": null}, where null takes it
 * from the row and names that are missing stay as they are. What was written before a failure stays: the next call goes on
 * there, with from_row.
 *
 * @param next_row  receives the first row of the file that is not in the collection, also on failure: the next call's
 *                  from_row; may be NULL
 * @return AIINFRA_EFORMAT    the file is damaged, was cut short, or is of another format; the message names the row
 *         AIINFRA_EINVAL     dims differ, or a row cannot be written; the message names it
 *         AIINFRA_ENOTSUP    a NumPy array of another type or order; the message says how to save it
 *         AIINFRA_ENOENT     the file does not exist, or with using_name a row
 *         AIINFRA_ELIMIT     a line is too long
 *         AIINFRA_ECANCELED  the progress callback asked for it
 *         AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOSPC, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_vecstore_import(aiinfra_vecstore *store, const char *path,
                                                                    const aiinfra_vecstore_import_opts *opts,
                                                                    uint64_t *next_row, aiinfra_error *err);

/** Options of aiinfra_vecstore_export(). Zero is the default of every field. */
typedef struct aiinfra_vecstore_export_opts {
  size_t struct_size;           /**< sizeof this struct; set by AIINFRA_VECSTORE_EXPORT_OPTS_INIT */
  aiinfra_progress_fn progress; /**< called on the calling thread after each page; may cancel; NULL: none */
  void *progress_user;          /**< handed to progress */
  int32_t format;               /**< an aiinfra_vector_format */
  uint32_t batch_rows;          /**< rows read in one transaction; 0: 1000; fewer when they are large */
  const char *using_name;       /**< vectors under this name, which each row must have; not with JSONL; NULL: the first
                                     ones */
} aiinfra_vecstore_export_opts;

/** Initialiser of aiinfra_vecstore_export_opts. */
#define AIINFRA_VECSTORE_EXPORT_OPTS_INIT                        \
  {                                                              \
    sizeof(aiinfra_vecstore_export_opts), NULL, NULL, 0, 0, NULL \
  }

/**
 * Writes all rows to a file in the order of their ids. Only JSONL keeps ids, texts, payloads and all vectors; bvecs and u8bin want
 * elements that are whole numbers from 0 to 255. The file appears under its name when it is complete, in place of an
 * older one. Rows that are written meanwhile may be in it.
 *
 * @param n_rows  receives how many rows there were; may be NULL
 * @return AIINFRA_EINVAL     the path tells no format, a vector has elements that are no bytes, or a row has none under
 *                            using_name
 *         AIINFRA_ENOENT     the file's folder does not exist
 *         AIINFRA_ENOSPC     the disk is full
 *         AIINFRA_ELIMIT     fbin and u8bin count rows in 32 bits
 *         AIINFRA_ECANCELED  the progress callback asked for it
 *         AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_EFORMAT, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_vecstore_export(aiinfra_vecstore *store, const char *path,
                                                                    const aiinfra_vecstore_export_opts *opts,
                                                                    uint64_t *n_rows, aiinfra_error *err);

/**
 * What a file of vectors says about itself, after its header was found to agree with its size.
 *
 * @param format  an aiinfra_vector_format
 * @param dims    receives the dims; 0: the file has no rows, and does not tell
 * @param n_rows  receives the rows; UINT64_MAX: JSONL, which does not tell; may be NULL
 * @return AIINFRA_EFORMAT, AIINFRA_EINVAL, AIINFRA_ENOTSUP, AIINFRA_ENOENT, AIINFRA_ELIMIT, AIINFRA_EIO, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_vector_file_probe(aiinfra_runtime *runtime, const char *path,
                                                                      int32_t format, uint32_t *dims, uint64_t *n_rows,
                                                                      aiinfra_error *err);

#ifdef __cplusplus
}
#endif
#endif
