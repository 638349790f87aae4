/* lookup.c - both tiers, and why nothing was served.
 *
 * The happy path: the partition is found -> an entry with the very text: exact -> else entries with the same canonical
 * wording, of which the nearest by vector must reach the threshold: its own, that of the cache, and that which a
 * reported false hit left for the wording -> semantic. Else the nearest entry among the last used ones of the partition
 * is named with the gate that kept it back, for the statistics.
 *
 * A question whose answer depends on the time is served only where the cache keeps such answers. Lock held inside.
 */
#include <math.h>

#include "src/cache/cache.h"

typedef struct found {
  int64_t id, created_ms, tokens;
  double similarity, threshold;
  const char *tier; /* NULL: nothing is served */
  const char *gate; /* why not */
} found;

static aiinfra_status find_exact(aiinfra_cache *cache, const aii_cache_key *key, int64_t now, found *f,
                                 aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  aiinfra_status rc = aii_sql_prepare(cache->db->sql,
                                      "SELECT id, created_ms, tokens FROM cache_entries WHERE partition = ?1 AND "
                                      "question_hash = ?2 AND question = ?3 AND expires_ms > ?4",
                                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, key->partition);
  aii_stmt_int(stmt, 2, (int64_t)aii_hash64(aii_buf_cstr(&key->question), key->question.len, 0));
  aii_stmt_text(stmt, 3, aii_buf_cstr(&key->question), key->question.len);
  aii_stmt_int(stmt, 4, now);
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK && row) {
    *f = (found){aii_stmt_get_int(stmt, 0), aii_stmt_get_int(stmt, 1), aii_stmt_get_int(stmt, 2), 1, 0, "exact", NULL};
  }
  aii_stmt_reset(stmt);
  return rc;
}

static double similarity_of(aii_stmt *stmt, int at, const aii_cache_key *key)
{
  size_t n;
  float vector[AII_EMBED_DIMS];
  const void *bytes = aii_stmt_get_blob(stmt, at, &n);
  if (bytes == NULL || n != sizeof vector) return -1;
  memcpy(vector, bytes, n);
  return (double)aii_embed_dot(vector, key->vector);
}

/* Columns: id, created_ms, tokens, vector, threshold. Keeps the nearest in *f. */
static aiinfra_status find_wording(aiinfra_cache *cache, const aii_cache_key *key, int64_t now, found *f,
                                   aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = true;
  aiinfra_status rc = aii_sql_prepare(
      cache->db->sql,
      "SELECT e.id, e.created_ms, e.tokens, e.vector, max(?5, coalesce(e.threshold, -1), coalesce(f.threshold, -1)) "
      "FROM cache_entries e LEFT JOIN cache_false f ON f.partition = e.partition AND f.wording = e.wording "
      "WHERE e.partition = ?1 AND e.wording_hash = ?2 AND e.wording = ?3 AND e.expires_ms > ?4",
      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, key->partition);
  aii_stmt_int(stmt, 2, (int64_t)aii_hash64(key->wording.data, key->wording.len, 0));
  aii_stmt_text(stmt, 3, key->wording.data, key->wording.len);
  aii_stmt_int(stmt, 4, now);
  aii_stmt_real(stmt, 5, (double)cache->opts.threshold);
  while (rc == AIINFRA_OK && row) {
    rc = aii_stmt_step(stmt, &row, err);
    if (rc != AIINFRA_OK || !row) break;
    double similarity = similarity_of(stmt, 3, key), threshold = aii_stmt_get_real(stmt, 4);
    if (f->id != 0 && similarity - threshold <= f->similarity - f->threshold) continue;
    *f = (found){aii_stmt_get_int(stmt, 0),
                 aii_stmt_get_int(stmt, 1),
                 aii_stmt_get_int(stmt, 2),
                 similarity,
                 threshold,
                 NULL,
                 "threshold"};
    if (similarity >= threshold) f->tier = "semantic";
  }
  aii_stmt_reset(stmt);
  return rc;
}

/* The nearest of the last used entries, and what keeps it from being the answer. */
static aiinfra_status find_near(aiinfra_cache *cache, const aii_cache_key *key, int64_t now, found *f, int *count,
                                aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = true;
  aiinfra_status rc = aii_sql_prepare(cache->db->sql,
                                      "SELECT id, vector, wording FROM cache_entries WHERE partition = ?1 AND "
                                      "wording IS NOT NULL AND expires_ms > ?2 ORDER BY used DESC LIMIT ?3",
                                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, key->partition);
  aii_stmt_int(stmt, 2, now);
  aii_stmt_int(stmt, 3, AII_CACHE_NEAR);
  while (rc == AIINFRA_OK && row) {
    rc = aii_stmt_step(stmt, &row, err);
    if (rc != AIINFRA_OK || !row) break;
    double similarity = similarity_of(stmt, 1, key);
    if (f->id != 0 && similarity <= f->similarity) continue;
    aii_gate gate =
        aii_gate_between(aii_buf_cstr(&key->wording), aii_stmt_get_text(stmt, 2, NULL), aii_buf_cstr(&key->question));
    *f = (found){.id = aii_stmt_get_int(stmt, 0), .similarity = similarity, .gate = aii_gate_name(gate)};
    *count = AII_COUNT_GATES + (int)gate;
  }
  aii_stmt_reset(stmt);
  return rc;
}

/* ---- the answer ---------------------------------------------------------------------------------------------------------- */

static void add_similarity(aii_buf *json, double similarity)
{
  aii_buf_str(json, ",\"similarity\":");
  aii_buf_double(json, similarity, 6);
}

/* Appends `"id":7,"question":"...","response":{...}`. An entry of another process's that is gone by now is no hit. */
static aiinfra_status write_entry(aiinfra_cache *cache, const found *f, bool response, aii_buf *json,
                                  aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  size_t n;
  aiinfra_status rc =
      aii_sql_prepare(cache->db->sql, "SELECT question, response FROM cache_entries WHERE id = ?1", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, f->id);
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK && !row) rc = aii_fail(err, AIINFRA_EBUSY, "the entry is gone");
  if (rc == AIINFRA_OK) {
    const char *text = aii_stmt_get_text(stmt, 0, &n);
    aii_buf_fmt(json, "\"id\":%lld,\"question\":", (long long)f->id);
    aii_buf_json(json, text, n);
    if (response) {
      aii_buf_str(json, ",\"response\":");
      text = aii_stmt_get_text(stmt, 1, &n);
      aii_buf_add(json, text, n);
    }
  }
  aii_stmt_reset(stmt);
  return rc;
}

static aiinfra_status write_hit(aiinfra_cache *cache, const found *f, int64_t now, aii_buf *json, aiinfra_error *err)
{
  aii_buf_fmt(json, "\"tier\":\"%s\",", f->tier);
  aiinfra_status rc = write_entry(cache, f, true, json, err);
  add_similarity(json, f->similarity);
  aii_buf_fmt(json, ",\"age_ms\":%lld", (long long)(now > f->created_ms ? now - f->created_ms : 0));
  return rc;
}

static aiinfra_status write_miss(aiinfra_cache *cache, const found *f, aii_buf *json, aiinfra_error *err)
{
  aii_buf_str(json, "{\"hit\":false,\"nearest\":");
  if (f->id == 0) {
    aii_buf_str(json, "null}");
    return AIINFRA_OK;
  }
  aii_buf_char(json, '{');
  aiinfra_status rc = write_entry(cache, f, false, json, err);
  add_similarity(json, f->similarity);
  aii_buf_fmt(json, ",\"gate\":\"%s\"}}", f->gate);
  return rc;
}

static aiinfra_status tell(aiinfra_cache *cache, const found *f, int64_t now, aii_buf *json, aiinfra_error *err)
{
  bool shadow = cache->opts.shadow == 1;
  cache->counts[AII_COUNT_LOOKUPS]++;
  if (f->tier == NULL || shadow) cache->counts[AII_COUNT_MISSES]++;
  if (f->tier == NULL) return write_miss(cache, f, json, err);
  if (shadow) cache->counts[AII_COUNT_WOULD]++;
  else cache->counts[f->tier[0] == 'e' ? AII_COUNT_EXACT : AII_COUNT_SEMANTIC]++;
  if (!shadow) cache->counts[AII_COUNT_TOKENS] += f->tokens;
  aii_buf_str(json, shadow ? "{\"hit\":false,\"would\":{" : "{\"hit\":true,");
  aiinfra_status rc = write_hit(cache, f, now, json, err);
  aii_buf_str(json, shadow ? "}}" : "}");
  if (rc == AIINFRA_OK && !shadow) aii_cache_use(cache, f->id);
  return rc;
}

static aiinfra_status find(aiinfra_cache *cache, aii_cache_key *key, int64_t now, found *f, aiinfra_error *err)
{
  int count = -1;
  aiinfra_status rc = aii_cache_key_find(cache, key, false, err);
  if (rc != AIINFRA_OK || key->partition == 0) return rc;
  rc = find_exact(cache, key, now, f, err);
  if (rc != AIINFRA_OK) return rc;
  if (f->tier == NULL && (key->wording.len == 0 || cache->opts.semantic < 0)) return rc;
  if (f->tier == NULL) rc = find_wording(cache, key, now, f, err);
  if (rc == AIINFRA_OK && f->id != 0 && f->tier == NULL) count = AII_COUNT_THRESHOLD;
  if (rc == AIINFRA_OK && f->tier != NULL && key->timely && cache->opts.keep_timely != 1) {
    f->tier = NULL;
    f->gate = "timely";
    count = AII_COUNT_TIMELY;
  }
  if (rc == AIINFRA_OK && f->id == 0) rc = find_near(cache, key, now, f, &count, err);
  if (rc == AIINFRA_OK && count >= 0) cache->counts[count]++;
  return rc;
}

/* One view for its several queries, so that what was found is still there when it is told. */
aiinfra_status aii_cache_lookup(aiinfra_cache *cache, aii_cache_key *key, aii_buf *json, aiinfra_error *err)
{
  aii_sql *sql = cache->db->sql;
  int64_t now = aii_unix_ms();
  found f = {.id = 0};
  aii_sql_lock(sql);
  aiinfra_status rc = aii_sql_begin_read(sql, err);
  if (rc == AIINFRA_OK) {
    rc = find(cache, key, now, &f, err);
    if (rc == AIINFRA_OK) rc = tell(cache, &f, now, json, err);
    aii_sql_rollback(sql);
  }
  /* which entry goes first matters little: when it cannot be written, it is forgotten */
  if (cache->n_used == AII_CACHE_PENDING && aii_cache_flush(cache, NULL) != AIINFRA_OK) cache->n_used = 0;
  aii_sql_unlock(sql);
  return rc;
}
