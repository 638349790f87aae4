/* store.c - keeping answers and letting go of them: bounds, expiry, false hits, clearing.
 *
 * The happy path of a store: what must not be kept is left out -> a transaction removes what has expired and an older
 * answer to the same text, writes the entry, and evicts the least recently used ones until the bounds hold -> commit.
 * The entry just written is never evicted: one larger than the cache is left out before.
 */
#include "src/cache/cache.h"

enum { OVERHEAD_BYTES = 128 }; /* of an entry, besides its texts and its vector */
enum { EXPIRE_AT_ONCE = 32 };  /* entries that one store clears away */

#define FOR_EVER INT64_MAX

static aiinfra_status read_int(aii_stmt *stmt, int64_t *value, bool *row, aiinfra_error *err)
{
  aiinfra_status rc = aii_stmt_step(stmt, row, err);
  if (rc == AIINFRA_OK && *row) *value = aii_stmt_get_int(stmt, 0);
  aii_stmt_reset(stmt);
  return rc;
}

/* Removes an entry, and its partition when nothing else stands in it. *there: it was there. */
static aiinfra_status remove_entry(aiinfra_cache *cache, int64_t id, bool *there, aiinfra_error *err)
{
  aii_sql *sql = cache->db->sql;
  aii_stmt *stmt;
  bool row;
  int64_t n_bytes = 0, partition = 0;
  aiinfra_status rc =
      aii_sql_prepare(sql, "DELETE FROM cache_entries WHERE id = ?1 RETURNING n_bytes, partition", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, id);
  rc = aii_stmt_step(stmt, &row, err);
  *there = rc == AIINFRA_OK && row;
  if (*there) {
    n_bytes = aii_stmt_get_int(stmt, 0);
    partition = aii_stmt_get_int(stmt, 1);
    rc = aii_stmt_step(stmt, &row, err);
  }
  aii_stmt_reset(stmt);
  if (rc != AIINFRA_OK || !*there) return rc;
  rc = aii_cache_count(cache, AII_COUNT_ENTRIES, -1, err);
  if (rc == AIINFRA_OK) rc = aii_cache_count(cache, AII_COUNT_BYTES, -n_bytes, err);
  if (rc == AIINFRA_OK)
    rc = aii_sql_prepare(sql,
                         "DELETE FROM cache_partitions WHERE id = ?1 AND "
                         "NOT EXISTS(SELECT 1 FROM cache_entries WHERE partition = ?1) AND "
                         "NOT EXISTS(SELECT 1 FROM cache_false WHERE partition = ?1)",
                         &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, partition);
  return aii_stmt_run(stmt, err);
}

static aiinfra_status expire(aiinfra_cache *cache, int64_t now, aiinfra_error *err)
{
  aiinfra_status rc = AIINFRA_OK;
  for (int i = 0; rc == AIINFRA_OK && i < EXPIRE_AT_ONCE; i++) {
    aii_stmt *stmt;
    bool row;
    int64_t id = 0;
    rc = aii_sql_prepare(cache->db->sql, "SELECT id FROM cache_entries WHERE expires_ms <= ?1 LIMIT 1", &stmt, err);
    if (rc != AIINFRA_OK) break;
    aii_stmt_int(stmt, 1, now);
    rc = read_int(stmt, &id, &row, err);
    if (rc != AIINFRA_OK || !row) break;
    rc = remove_entry(cache, id, &row, err);
    if (rc == AIINFRA_OK) rc = aii_cache_count(cache, AII_COUNT_EXPIRED, 1, err);
  }
  return rc;
}

static aiinfra_status read_total(aiinfra_cache *cache, aii_count count, int64_t *n, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  const char *name = aii_count_name((int)count);
  aiinfra_status rc = aii_sql_prepare(cache->db->sql, "SELECT n FROM cache_counts WHERE name = ?1", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_text(stmt, 1, name, strlen(name));
  return read_int(stmt, n, &row, err);
}

/* Until the bounds hold; the entry `keep` stays. */
static aiinfra_status evict(aiinfra_cache *cache, int64_t keep, aiinfra_error *err)
{
  for (;;) {
    aii_stmt *stmt;
    bool row;
    int64_t id = 0, entries = 0, bytes = 0;
    aiinfra_status rc = read_total(cache, AII_COUNT_ENTRIES, &entries, err);
    if (rc == AIINFRA_OK) rc = read_total(cache, AII_COUNT_BYTES, &bytes, err);
    if (rc != AIINFRA_OK || (entries <= (int64_t)cache->opts.max_entries && bytes <= (int64_t)cache->opts.max_bytes))
      return rc;
    rc = aii_sql_prepare(cache->db->sql, "SELECT id FROM cache_entries WHERE id <> ?1 ORDER BY used LIMIT 1", &stmt,
                         err);
    if (rc != AIINFRA_OK) return rc;
    aii_stmt_int(stmt, 1, keep);
    rc = read_int(stmt, &id, &row, err);
    if (rc != AIINFRA_OK || !row) return rc;
    rc = remove_entry(cache, id, &row, err);
    if (rc == AIINFRA_OK) rc = aii_cache_count(cache, AII_COUNT_EVICTED, 1, err);
    if (rc != AIINFRA_OK) return rc;
  }
}

/* ---- storing ------------------------------------------------------------------------------------------------------------- */

/* A tool call, a cut or a filtered answer is none to give again. */
static bool is_partial(const json_t *response, bool keep_cut)
{
  const json_t *choices = json_object_get(response, "choices");
  for (size_t i = 0; i < json_array_size(choices); i++) {
    const json_t *choice = json_array_get(choices, i);
    const char *reason = json_string_value(json_object_get(choice, "finish_reason"));
    const json_t *message = json_object_get(choice, "message");
    bool cut = reason != NULL && strcmp(reason, "length") == 0;
    if (reason != NULL && strcmp(reason, "stop") != 0 && !(cut && keep_cut)) return true;
    if (json_array_size(json_object_get(message, "tool_calls")) > 0) return true;
    if (json_is_string(json_object_get(message, "refusal"))) return true;
  }
  return json_object_get(response, "error") != NULL;
}

static aiinfra_status find_same(aiinfra_cache *cache, const aii_cache_key *key, int64_t *id, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  aiinfra_status rc = aii_sql_prepare(
      cache->db->sql, "SELECT id FROM cache_entries WHERE partition = ?1 AND question_hash = ?2 AND question = ?3",
      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, key->partition);
  aii_stmt_int(stmt, 2, (int64_t)aii_hash64(aii_buf_cstr(&key->question), key->question.len, 0));
  aii_stmt_text(stmt, 3, aii_buf_cstr(&key->question), key->question.len);
  return read_int(stmt, id, &row, err);
}

typedef struct entry {
  const char *response;
  int64_t n_bytes, tokens, now;
} entry;

static aiinfra_status insert(aiinfra_cache *cache, const aii_cache_key *key, const entry *e, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc = aii_sql_prepare(
      cache->db->sql,
      "INSERT INTO cache_entries(partition, question, question_hash, wording, wording_hash, vector, response, tokens, "
      "n_bytes, created_ms, expires_ms, used) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, "
      "(SELECT coalesce(max(used), 0) + 1 FROM cache_entries))",
      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, key->partition);
  aii_stmt_text(stmt, 2, aii_buf_cstr(&key->question), key->question.len);
  aii_stmt_int(stmt, 3, (int64_t)aii_hash64(aii_buf_cstr(&key->question), key->question.len, 0));
  if (key->wording.len > 0) {
    aii_stmt_text(stmt, 4, key->wording.data, key->wording.len);
    aii_stmt_int(stmt, 5, (int64_t)aii_hash64(key->wording.data, key->wording.len, 0));
    aii_stmt_blob(stmt, 6, key->vector, sizeof key->vector);
  }
  aii_stmt_text(stmt, 7, e->response, strlen(e->response));
  aii_stmt_int(stmt, 8, e->tokens);
  aii_stmt_int(stmt, 9, e->n_bytes);
  aii_stmt_int(stmt, 10, e->now);
  aii_stmt_int(stmt, 11, key->ttl_ms < 0 || key->ttl_ms > FOR_EVER - e->now ? FOR_EVER : e->now + key->ttl_ms);
  return aii_stmt_run(stmt, err);
}

static aiinfra_status replace(aiinfra_cache *cache, aii_cache_key *key, const entry *e, int64_t *id, aiinfra_error *err)
{
  int64_t old = 0;
  bool there;
  aiinfra_status rc = expire(cache, e->now, err);
  if (rc == AIINFRA_OK) rc = aii_cache_key_find(cache, key, false, err);
  if (rc == AIINFRA_OK && key->partition != 0) rc = find_same(cache, key, &old, err);
  if (rc == AIINFRA_OK && old != 0) rc = remove_entry(cache, old, &there, err);
  key->partition = 0; /* it may have gone with its last entry */
  if (rc == AIINFRA_OK) rc = aii_cache_key_find(cache, key, true, err);
  if (rc == AIINFRA_OK) rc = insert(cache, key, e, err);
  if (rc != AIINFRA_OK) return rc;
  *id = aii_sql_last_id(cache->db->sql);
  rc = aii_cache_count(cache, AII_COUNT_ENTRIES, 1, err);
  if (rc == AIINFRA_OK) rc = aii_cache_count(cache, AII_COUNT_BYTES, e->n_bytes, err);
  if (rc == AIINFRA_OK) rc = aii_cache_count(cache, AII_COUNT_STORES, 1, err);
  if (rc == AIINFRA_OK) rc = aii_cache_write(cache, err);
  return rc == AIINFRA_OK ? evict(cache, *id, err) : rc;
}

/* Commits when rc is OK, else rolls back. */
static aiinfra_status end(aiinfra_cache *cache, aiinfra_status rc, aiinfra_error *err)
{
  if (rc == AIINFRA_OK) rc = aii_sql_commit(cache->db->sql, err);
  else aii_sql_rollback(cache->db->sql);
  if (rc == AIINFRA_OK) aii_cache_written(cache);
  return rc;
}

aiinfra_status aii_cache_store(aiinfra_cache *cache, aii_cache_key *key, const json_t *response, const char *text,
                               int64_t *id, aiinfra_error *err)
{
  aii_sql *sql = cache->db->sql;
  entry e = {.response = text, .now = aii_unix_ms()};
  size_t n = key->key.len + key->question.len + key->wording.len + strlen(text) + OVERHEAD_BYTES;
  if (key->wording.len > 0) n += sizeof key->vector;
  e.n_bytes = (int64_t)n;
  e.tokens = json_integer_value(json_object_get(json_object_get(response, "usage"), "total_tokens"));
  *id = 0;
  bool left_out = (key->timely && cache->opts.keep_timely != 1) ||
                  (cache->opts.keep_partial != 1 && is_partial(response, key->keep_cut)) || n > cache->opts.max_bytes;
  aii_sql_lock(sql);
  if (left_out) {
    cache->counts[AII_COUNT_LEFT_OUT]++;
    aii_sql_unlock(sql);
    return AIINFRA_OK;
  }
  aiinfra_status rc = aii_sql_begin(sql, err);
  if (rc == AIINFRA_OK) rc = end(cache, replace(cache, key, &e, id, err), err);
  aii_sql_unlock(sql);
  if (rc != AIINFRA_OK) *id = 0;
  return rc;
}

/* ---- false hits -------------------------------------------------------------------------------------------------------------- */

typedef struct wrong {
  int64_t partition;
  aii_buf wording;
  float vector[AII_EMBED_DIMS];
  bool semantic;
} wrong;

static aiinfra_status read_wrong(aiinfra_cache *cache, int64_t id, wrong *w, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  size_t n;
  aiinfra_status rc =
      aii_sql_prepare(cache->db->sql, "SELECT partition, wording, vector FROM cache_entries WHERE id = ?1", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, id);
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK && !row) rc = aii_fail(err, AIINFRA_ENOENT, "the cache has no entry %lld", (long long)id);
  if (rc == AIINFRA_OK) {
    const char *text = aii_stmt_get_text(stmt, 1, &n);
    w->partition = aii_stmt_get_int(stmt, 0);
    aii_buf_add(&w->wording, text, n);
    const void *bytes = aii_stmt_get_blob(stmt, 2, &n);
    w->semantic = bytes != NULL && n == sizeof w->vector && w->wording.len > 0;
    if (w->semantic) memcpy(w->vector, bytes, n);
    if (w->wording.failed) rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for an entry");
  }
  aii_stmt_reset(stmt);
  return rc;
}

static aiinfra_status raise_wording(aiinfra_cache *cache, const wrong *w, double threshold, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc =
      aii_sql_prepare(cache->db->sql,
                      "INSERT INTO cache_false(partition, wording, threshold) VALUES(?1, ?2, ?3) ON CONFLICT DO "
                      "UPDATE SET threshold = max(threshold, excluded.threshold)",
                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, w->partition);
  aii_stmt_text(stmt, 2, w->wording.data, w->wording.len);
  aii_stmt_real(stmt, 3, threshold);
  return aii_stmt_run(stmt, err);
}

static aiinfra_status raise_entry(aiinfra_cache *cache, int64_t id, double threshold, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc = aii_sql_prepare(
      cache->db->sql, "UPDATE cache_entries SET threshold = max(coalesce(threshold, -1), ?2) WHERE id = ?1", &stmt,
      err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, id);
  aii_stmt_real(stmt, 2, threshold);
  return aii_stmt_run(stmt, err);
}

/* The neighbours of a wrong answer, by vector, are likely to be taken for each other too. */
static aiinfra_status raise_near(aiinfra_cache *cache, const wrong *w, double threshold, aiinfra_error *err)
{
  enum { MOST = 32 };
  int64_t near[MOST];
  size_t n = 0, size;
  float vector[AII_EMBED_DIMS];
  aii_stmt *stmt;
  bool row = true;
  aiinfra_status rc = aii_sql_prepare(
      cache->db->sql,
      "SELECT id, vector FROM cache_entries WHERE partition = ?1 AND vector IS NOT NULL ORDER BY used DESC LIMIT ?2",
      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, w->partition);
  aii_stmt_int(stmt, 2, AII_CACHE_NEAR);
  while (rc == AIINFRA_OK && n < MOST) {
    rc = aii_stmt_step(stmt, &row, err);
    if (rc != AIINFRA_OK || !row) break;
    const void *bytes = aii_stmt_get_blob(stmt, 1, &size);
    if (bytes == NULL || size != sizeof vector) continue;
    memcpy(vector, bytes, size);
    if (aii_embed_dot(vector, w->vector) >= 0.6f) near[n++] = aii_stmt_get_int(stmt, 0);
  }
  aii_stmt_reset(stmt);
  for (size_t i = 0; rc == AIINFRA_OK && i < n; i++) rc = raise_entry(cache, near[i], threshold, err);
  return rc;
}

static aiinfra_status take_back(aiinfra_cache *cache, int64_t id, const aii_cache_key *key, aiinfra_error *err)
{
  static const double margin = 0.02, never = 2;
  wrong w = {.partition = 0};
  bool there;
  aii_buf_init(&w.wording, &cache->db->rt->mem, 0);
  aiinfra_status rc = read_wrong(cache, id, &w, err);
  if (rc == AIINFRA_OK && w.semantic) {
    bool known = key != NULL && key->wording.len > 0;
    double threshold = known ? (double)aii_embed_dot(w.vector, key->vector) + margin : never;
    rc = raise_wording(cache, &w, threshold, err);
    if (rc == AIINFRA_OK && known) rc = raise_near(cache, &w, threshold, err);
  }
  if (rc == AIINFRA_OK) rc = remove_entry(cache, id, &there, err);
  if (rc == AIINFRA_OK) rc = aii_cache_count(cache, AII_COUNT_FALSE, 1, err);
  aii_buf_free(&w.wording);
  return rc;
}

aiinfra_status aii_cache_check_owner(aiinfra_cache *cache, int64_t id, const char *tenant, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = false;
  aii_sql_lock(cache->db->sql);
  aiinfra_status rc = aii_sql_prepare(cache->db->sql,
                                      "SELECT 1 FROM cache_entries e JOIN cache_partitions p ON p.id = e.partition "
                                      "WHERE e.id = ?1 AND p.tenant = ?2",
                                      &stmt, err);
  if (rc == AIINFRA_OK) {
    aii_stmt_int(stmt, 1, id);
    aii_stmt_text(stmt, 2, tenant, strlen(tenant));
    rc = aii_stmt_step(stmt, &row, err);
    aii_stmt_reset(stmt);
  }
  aii_sql_unlock(cache->db->sql);
  if (rc == AIINFRA_OK && !row) rc = aii_fail(err, AIINFRA_ENOENT, "the cache has no entry %lld", (long long)id);
  return rc;
}

aiinfra_status aii_cache_report_false(aiinfra_cache *cache, int64_t id, const aii_cache_key *key, aiinfra_error *err)
{
  aii_sql *sql = cache->db->sql;
  aii_sql_lock(sql);
  aiinfra_status rc = aii_sql_begin(sql, err);
  if (rc == AIINFRA_OK) {
    rc = take_back(cache, id, key, err);
    if (rc == AIINFRA_OK) rc = aii_cache_write(cache, err);
    rc = end(cache, rc, err);
  }
  aii_sql_unlock(sql);
  return rc;
}

/* ---- clearing ---------------------------------------------------------------------------------------------------------------- */

static aiinfra_status run_for(aiinfra_cache *cache, aii_stmt *stmt, const char *tenant, int64_t *n, aiinfra_error *err)
{
  if (tenant != NULL) aii_stmt_text(stmt, 1, tenant, strlen(tenant));
  aiinfra_status rc = aii_stmt_run(stmt, err);
  if (rc == AIINFRA_OK && n != NULL) *n = aii_sql_changes(cache->db->sql);
  return rc;
}

/* ?1 NULL: of everybody. */
static aiinfra_status clear(aiinfra_cache *cache, const char *tenant, int64_t *n, aiinfra_error *err)
{
#define OF_TENANT " WHERE partition IN (SELECT id FROM cache_partitions WHERE ?1 IS NULL OR tenant = ?1)"
  aii_sql *sql = cache->db->sql;
  aii_stmt *stmt;
  aiinfra_status rc = aii_sql_prepare(sql, "DELETE FROM cache_entries" OF_TENANT, &stmt, err);
  if (rc == AIINFRA_OK) rc = run_for(cache, stmt, tenant, n, err);
  if (rc == AIINFRA_OK) rc = aii_sql_prepare(sql, "DELETE FROM cache_false" OF_TENANT, &stmt, err);
  if (rc == AIINFRA_OK) rc = run_for(cache, stmt, tenant, NULL, err);
  if (rc == AIINFRA_OK)
    rc = aii_sql_prepare(sql, "DELETE FROM cache_partitions WHERE ?1 IS NULL OR tenant = ?1", &stmt, err);
  if (rc == AIINFRA_OK) rc = run_for(cache, stmt, tenant, NULL, err);
  if (rc == AIINFRA_OK && tenant == NULL) rc = aii_sql_exec(sql, "DELETE FROM cache_counts", err);
  if (rc == AIINFRA_OK)
    rc = aii_sql_exec(sql,
                      "INSERT INTO cache_counts(name, n) SELECT 'entries', count(*) FROM cache_entries WHERE true "
                      "UNION ALL SELECT 'bytes', coalesce(sum(n_bytes), 0) FROM cache_entries WHERE true "
                      "ON CONFLICT(name) DO UPDATE SET n = excluded.n",
                      err);
  return rc;
#undef OF_TENANT
}

aiinfra_status aii_cache_clear(aiinfra_cache *cache, const char *tenant, uint64_t *n, aiinfra_error *err)
{
  aii_sql *sql = cache->db->sql;
  int64_t removed = 0;
  aii_sql_lock(sql);
  aiinfra_status rc = aii_sql_begin(sql, err);
  if (rc == AIINFRA_OK) {
    rc = clear(cache, tenant, &removed, err);
    if (rc == AIINFRA_OK && tenant != NULL) rc = aii_cache_write(cache, err);
    rc = end(cache, rc, err);
  }
  if (rc == AIINFRA_OK) (void)aii_sql_exec(sql, "PRAGMA wal_checkpoint(TRUNCATE)", NULL); /* for good, not in the log */
  aii_sql_unlock(sql);
  if (rc == AIINFRA_OK) *n = (uint64_t)removed;
  return rc;
}
