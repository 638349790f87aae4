/* src/cache/cache.h - answers given before: partitions, entries, counts; all in tables of the database.
 *
 *   key.c     a request as tenant, partition key and question     lookup.c  both tiers, and why nothing was served
 *   cache.c   the handle, counts and recency                      store.c   keeping, bounds, expiry, false hits
 *
 * Invariants:
 * 1. A partition is tenant and key, compared byte by byte: no hash stands for them. Every statement that reads entries
 *    names the partition.
 * 2. The semantic tier serves only a wording that equals the entry's byte by byte.
 * 3. The counts "entries" and "bytes" change in the transaction that adds or removes an entry. All other counts, and
 *    when an entry was used last, are kept in the handle and written now and then: a lookup does not write.
 * Locks: everything of a handle below its connection's lock. Any thread.
 */
#ifndef AII_CACHE_H
#define AII_CACHE_H

#include <stdatomic.h>

#include "aiinfra/cache.h"
#include "lib/base/base.h"
#include "lib/json/json.h"
#include "src/db/db.h"
#include "src/wording/wording.h"

typedef enum aii_count {
  AII_COUNT_ENTRIES, /* the first two are written where they change */
  AII_COUNT_BYTES,
  AII_COUNT_LOOKUPS,
  AII_COUNT_EXACT,
  AII_COUNT_SEMANTIC,
  AII_COUNT_MISSES,
  AII_COUNT_WOULD,
  AII_COUNT_STORES,
  AII_COUNT_LEFT_OUT,
  AII_COUNT_EVICTED,
  AII_COUNT_EXPIRED,
  AII_COUNT_FALSE,
  AII_COUNT_TOKENS,
  AII_COUNT_PREFIX, /* what the KV cache saved beside it, as a server tells */
  AII_COUNT_SAME,   /* shadow mode: what the model answered then */
  AII_COUNT_DIFFERENT,
  AII_COUNT_GATES, /* one for each aii_gate, then the threshold and the timely */
  AII_COUNT_THRESHOLD = AII_COUNT_GATES + AII_GATES,
  AII_COUNT_TIMELY,
  AII_COUNTS
} aii_count;

enum { AII_CACHE_PENDING = 64 };

struct aiinfra_cache {
  aiinfra_db *db;
  _Atomic uint32_t refs;           /* the owner's, and those of servers */
  aiinfra_cache_opts opts;         /* complete */
  int64_t counts[AII_COUNTS];      /* not written yet */
  int64_t used[AII_CACHE_PENDING]; /* ids of entries that were served since */
  size_t n_used;
};

aiinfra_status aii_cache_open(aiinfra_db *db, const aiinfra_cache_opts *opts, aiinfra_cache **out, aiinfra_error *err);
void aii_cache_ref(aiinfra_cache *cache);
void aii_cache_unref(aiinfra_cache *cache);
const char *aii_count_name(int count);
/* Adds to a count, inside the caller's transaction. */
aiinfra_status aii_cache_count(aiinfra_cache *cache, aii_count count, int64_t n, aiinfra_error *err);
/* Writes the counts and uses of the handle, inside the caller's transaction. They are kept until it commits:
 * aii_cache_written() forgets them. */
aiinfra_status aii_cache_write(aiinfra_cache *cache, aiinfra_error *err);
void aii_cache_written(aiinfra_cache *cache);
void aii_cache_use(aiinfra_cache *cache, int64_t id);
/* Adds to a count of the handle; takes the lock. */
void aii_cache_note(aiinfra_cache *cache, aii_count count, int64_t n);
/* The same in a transaction of its own; lock held. */
aiinfra_status aii_cache_flush(aiinfra_cache *cache, aiinfra_error *err);
aiinfra_status aii_cache_stats(aiinfra_cache *cache, aii_buf *json, aiinfra_error *err);

/* ---- a request, taken apart (key.c) --------------------------------------------------------------------------------- */

typedef struct aii_cache_key {
  const char *tenant; /* the caller's */
  aii_buf key;        /* all that must be equal, as JSON with sorted members */
  aii_buf question;   /* the last message's text; or the message as JSON */
  aii_buf wording;    /* canonical; empty: only the exact tier */
  int64_t partition;  /* 0: none yet */
  int64_t ttl_ms;
  float vector[AII_EMBED_DIMS]; /* when there is a wording */
  bool timely;
  bool keep_cut;
} aii_cache_key;

/* Whatever it returns, aii_cache_key_free() must follow. */
aiinfra_status aii_cache_key_make(aiinfra_cache *cache, const aiinfra_cache_query *query, aii_cache_key *key,
                                  aiinfra_error *err);
void aii_cache_key_free(aii_cache_key *key);
/* Finds the partition, or with `create` makes it. Lock held, a transaction when it creates. */
aiinfra_status aii_cache_key_find(aiinfra_cache *cache, aii_cache_key *key, bool create, aiinfra_error *err);

/* ---- lookup.c, store.c ------------------------------------------------------------------------------------------------ */

enum { AII_CACHE_NEAR = 256 }; /* entries of a partition that are compared by vector, the last used first */

aiinfra_status aii_cache_lookup(aiinfra_cache *cache, aii_cache_key *key, aii_buf *json, aiinfra_error *err);
/* response: an object; *id 0: left out. */
aiinfra_status aii_cache_store(aiinfra_cache *cache, aii_cache_key *key, const json_t *response, const char *text,
                               int64_t *id, aiinfra_error *err);
/* ENOENT when the tenant has no such entry. */
aiinfra_status aii_cache_check_owner(aiinfra_cache *cache, int64_t id, const char *tenant, aiinfra_error *err);
aiinfra_status aii_cache_report_false(aiinfra_cache *cache, int64_t id, const aii_cache_key *key, aiinfra_error *err);
aiinfra_status aii_cache_clear(aiinfra_cache *cache, const char *tenant, uint64_t *n, aiinfra_error *err);

#endif
