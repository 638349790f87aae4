/* cache.c - the handle of the response cache, what it counts, and which entries were used last.
 *
 * Counts and uses gather in the handle and are written by the next transaction that writes anyway, by stats, when many
 * have gathered, and when the handle is freed. A process that is killed loses those, and nothing else. Any thread.
 */
#include "src/cache/cache.h"

static const char *const NAMES[AII_COUNTS] = {
    "entries",        "bytes",
    "lookups",        "hits_exact",
    "hits_semantic",  "misses",
    "would_have_hit", "stores",
    "left_out",       "evicted",
    "expired",        "false_hits",
    "saved_tokens",   "prefix_saved_tokens",
    "shadow_same",    "shadow_different",
    "none",           "negation",
    "number",         "time",
    "entity",         "order",
    "words",          "threshold",
    "timely",
};

const char *aii_count_name(int count)
{
  return NAMES[count];
}

aiinfra_status aii_cache_open(aiinfra_db *db, const aiinfra_cache_opts *opts, aiinfra_cache **out, aiinfra_error *err)
{
  aiinfra_cache *cache = aii_new(&db->rt->mem, sizeof *cache);
  if (cache == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a cache");
  cache->db = db;
  atomic_store(&cache->refs, 1);
  cache->opts = *opts;
  aii_db_ref(db);
  *out = cache;
  return AIINFRA_OK;
}

void aii_cache_ref(aiinfra_cache *cache)
{
  atomic_fetch_add(&cache->refs, 1);
}

void aii_cache_unref(aiinfra_cache *cache)
{
  if (cache == NULL || atomic_fetch_sub(&cache->refs, 1) != 1) return;
  aiinfra_db *db = cache->db;
  aii_sql_lock(db->sql);
  (void)aii_cache_flush(cache, NULL); /* counts only: nobody can be told any more */
  aii_sql_unlock(db->sql);
  aii_del(&db->rt->mem, cache, sizeof *cache);
  aii_db_unref(db);
}

/* ---- counts ------------------------------------------------------------------------------------------------------------ */

aiinfra_status aii_cache_count(aiinfra_cache *cache, aii_count count, int64_t n, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc = aii_sql_prepare(cache->db->sql,
                                      "INSERT INTO cache_counts(name, n) VALUES(?1, ?2) "
                                      "ON CONFLICT(name) DO UPDATE SET n = n + excluded.n",
                                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_text(stmt, 1, NAMES[count], strlen(NAMES[count]));
  aii_stmt_int(stmt, 2, n);
  return aii_stmt_run(stmt, err);
}

static aiinfra_status write_uses(aiinfra_cache *cache, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; rc == AIINFRA_OK && i < cache->n_used; i++) {
    rc = aii_sql_prepare(cache->db->sql,
                         "UPDATE cache_entries SET hits = hits + 1, "
                         "used = (SELECT coalesce(max(used), 0) + 1 FROM cache_entries) WHERE id = ?1",
                         &stmt, err);
    if (rc != AIINFRA_OK) break;
    aii_stmt_int(stmt, 1, cache->used[i]);
    rc = aii_stmt_run(stmt, err);
  }
  return rc;
}

aiinfra_status aii_cache_write(aiinfra_cache *cache, aiinfra_error *err)
{
  aiinfra_status rc = write_uses(cache, err);
  for (int i = 0; rc == AIINFRA_OK && i < AII_COUNTS; i++) {
    if (cache->counts[i] != 0) rc = aii_cache_count(cache, (aii_count)i, cache->counts[i], err);
  }
  return rc;
}

void aii_cache_written(aiinfra_cache *cache)
{
  memset(cache->counts, 0, sizeof cache->counts);
  cache->n_used = 0;
}

aiinfra_status aii_cache_flush(aiinfra_cache *cache, aiinfra_error *err)
{
  bool any = cache->n_used > 0;
  for (int i = 0; i < AII_COUNTS; i++) any = any || cache->counts[i] != 0;
  if (!any) return AIINFRA_OK;
  aiinfra_status rc = aii_sql_begin(cache->db->sql, err);
  if (rc != AIINFRA_OK) return rc;
  rc = aii_cache_write(cache, err);
  if (rc == AIINFRA_OK) rc = aii_sql_commit(cache->db->sql, err);
  else aii_sql_rollback(cache->db->sql);
  if (rc == AIINFRA_OK) aii_cache_written(cache);
  return rc;
}

void aii_cache_use(aiinfra_cache *cache, int64_t id)
{
  if (cache->n_used < AII_CACHE_PENDING) cache->used[cache->n_used++] = id;
}

void aii_cache_note(aiinfra_cache *cache, aii_count count, int64_t n)
{
  aii_sql_lock(cache->db->sql);
  cache->counts[count] += n;
  aii_sql_unlock(cache->db->sql);
}

/* ---- stats ------------------------------------------------------------------------------------------------------------- */

static aiinfra_status read_count(aiinfra_cache *cache, int count, int64_t *n, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  aiinfra_status rc = aii_sql_prepare(cache->db->sql, "SELECT n FROM cache_counts WHERE name = ?1", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_text(stmt, 1, NAMES[count], strlen(NAMES[count]));
  rc = aii_stmt_step(stmt, &row, err);
  *n = cache->counts[count] + (rc == AIINFRA_OK && row ? aii_stmt_get_int(stmt, 0) : 0);
  aii_stmt_reset(stmt);
  return rc;
}

aiinfra_status aii_cache_stats(aiinfra_cache *cache, aii_buf *json, aiinfra_error *err)
{
  aiinfra_status rc = AIINFRA_OK;
  aii_sql_lock(cache->db->sql);
  aii_buf_char(json, '{');
  for (int i = 0; rc == AIINFRA_OK && i < AII_COUNTS; i++) {
    int64_t n = 0;
    if (i == AII_COUNT_GATES) {
      aii_buf_str(json, ",\"gates\":{");
      continue; /* the gate "none" */
    }
    rc = read_count(cache, i, &n, err);
    aii_buf_fmt(json, "%s\"%s\":%lld", i > 0 && i != AII_COUNT_GATES + 1 ? "," : "", NAMES[i], (long long)n);
  }
  aii_buf_str(json, "}}");
  aii_sql_unlock(cache->db->sql);
  return rc;
}
