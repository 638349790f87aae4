/* aiinfra/cache.h - answers that were given before: an exact tier, and one for the same question in other words.
 *
 * The cache lives in a database. What is asked is an OpenAI chat request. Everything of it but the last message (model,
 * parameters, system prompt, tools, earlier messages) and the tenant must be equal, byte by byte; only within such a
 * partition is the last message compared. The exact tier serves the same text. The semantic tier serves a question
 * whose canonical wording is the same, so that a negation, a number, a name, a time or another order of words never
 * passes; and whose vector is near enough, by a threshold that rises where a false hit was reported.
 */
#ifndef AIINFRA_CACHE_H
#define AIINFRA_CACHE_H

#include "aiinfra/db.h"
#include "aiinfra/types.h"

#ifdef __cplusplus
extern "C" {
#endif

/** The response cache of a database. */
typedef struct aiinfra_cache aiinfra_cache;

/** Options of aiinfra_cache_open(). Zero is the default of every field. */
typedef struct aiinfra_cache_opts {
  size_t struct_size;   /**< sizeof this struct; set by AIINFRA_CACHE_OPTS_INIT */
  int64_t ttl_ms;       /**< how long an answer is served; 0: one day; -1: for ever */
  uint64_t max_bytes;   /**< of all entries; the least recently used go first; 0: 64 MiB */
  uint32_t max_entries; /**< 0: 10000 */
  float threshold;      /**< least cosine of a semantic hit, -1 to 1; 0: 0.1 */
  int32_t semantic;     /**< 0 or 1: both tiers; 2: also words of like sense, which may err; -1: exact only */
  int32_t shadow;       /**< 1: serve nothing, only tell and count what would have been served */
  int32_t keep_timely;  /**< 1: also answers that depend on when they are given: today, now, latest... */
  int32_t keep_partial; /**< 1: also answers with tool calls, and those that did not end by themselves */
} aiinfra_cache_opts;

/** Initialiser of aiinfra_cache_opts. */
#define AIINFRA_CACHE_OPTS_INIT                           \
  {                                                       \
    sizeof(aiinfra_cache_opts), 0, 0, 0, 0.0f, 0, 0, 0, 0 \
  }

/** What is asked. Zero is the default of every field but request_json. */
typedef struct aiinfra_cache_query {
  size_t struct_size;       /**< sizeof this struct; set by AIINFRA_CACHE_QUERY_INIT */
  const char *request_json; /**< an OpenAI chat request; its stream, stream_options and cache do not count */
  const char *tenant;       /**< whose request it is; NULL: "" */
  int64_t ttl_ms;           /**< when storing: instead of the cache's; 0: the cache's; -1: for ever */
  int32_t exact_only;       /**< 1: the semantic tier is not for this request */
  int32_t keep_cut;         /**< when storing: 1: also an answer that the request's own max_tokens ended */
} aiinfra_cache_query;

/** Initialiser of aiinfra_cache_query. */
#define AIINFRA_CACHE_QUERY_INIT                     \
  {                                                  \
    sizeof(aiinfra_cache_query), NULL, NULL, 0, 0, 0 \
  }

/**
 * Opens the cache of a database. On success the caller owns *out; it keeps @db alive. On failure *out is NULL. Handles
 * of one database share entries; each has its own options.
 * @return AIINFRA_EINVAL  a bad option, NaN included
 *         AIINFRA_ENOTSUP, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_cache_open(aiinfra_db *db, const aiinfra_cache_opts *opts,
                                                               aiinfra_cache **out, aiinfra_error *err);

/**
 * Releases the handle; when no server uses it any more, its counts are written and it is gone. NULL is allowed.
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API void aiinfra_cache_free(aiinfra_cache *cache);

/**
 * Looks for an answer.
 *
 * @param out_json  {"hit": true, "tier": "exact" | "semantic", "id", "response", "question", "similarity", "age_ms"},
 *                  or {"hit": false, "nearest": {"id", "question", "similarity", "gate"} | null}, where gate is what
 *                  kept it from being served: negation, number, time, entity, order, words, threshold, timely; in
 *                  shadow mode "hit" is false and "would" is what "hit" would have been told with
 * @return AIINFRA_EINVAL  request_json is no chat request
 *         AIINFRA_ELIMIT  it is larger than 64 MiB, or nested too deep
 *         AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_EFORMAT, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_cache_lookup(aiinfra_cache *cache, const aiinfra_cache_query *query,
                                                                 char **out_json, aiinfra_error *err);

/**
 * Keeps an answer. One that must not be kept (see the options) is left out, which is no failure.
 *
 * @param response_json  an object, given back as it is; usage.total_tokens of it is counted as saved by a hit
 * @param id             receives the entry's number, 0 when it was left out; may be NULL
 * @return AIINFRA_EINVAL  request_json is no chat request, or response_json no object
 *         AIINFRA_ELIMIT, AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOSPC, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_cache_store(aiinfra_cache *cache, const aiinfra_cache_query *query,
                                                                const char *response_json, int64_t *id,
                                                                aiinfra_error *err);

/**
 * Tells that an entry was the wrong answer to a query: it is removed, and its wording and its neighbours are served only
 * to texts nearer than the query was.
 *
 * @param query  what it was served to; NULL: its wording is never served semantically again
 * @return AIINFRA_ENOENT  no such entry
 *         AIINFRA_EINVAL, AIINFRA_ELIMIT, AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_cache_report_false(aiinfra_cache *cache, int64_t id,
                                                                       const aiinfra_cache_query *query,
                                                                       aiinfra_error *err);

/**
 * What the cache has done since it was cleared, by all handles.
 * @param out_json  {"entries", "bytes", "lookups", "hits_exact", "hits_semantic", "misses", "would_have_hit", "stores",
 *                  "left_out", "evicted", "expired", "false_hits", "saved_tokens", "prefix_saved_tokens",
 *                  "shadow_same", "shadow_different", "gates": {"negation": 3, ...}}. A server writes the last three
 *                  numbers: prompt tokens that the KV cache had, and how answers in shadow mode compared
 * @return AIINFRA_EINVAL, AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_cache_stats(aiinfra_cache *cache, char **out_json,
                                                                aiinfra_error *err);

/**
 * Removes entries for good, and every count when all go.
 *
 * @param tenant  whose; NULL: everybody's
 * @param n       receives how many there were; may be NULL
 * @return AIINFRA_EINVAL, AIINFRA_EIO, AIINFRA_EBUSY, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_cache_clear(aiinfra_cache *cache, const char *tenant, uint64_t *n,
                                                                aiinfra_error *err);

#ifdef __cplusplus
}
#endif
#endif
