/* cache_api.c - the public functions of aiinfra/cache.h: check arguments, load options, call down. */
#include <math.h>

#include "src/cache/cache.h"

enum { MAX_TENANT = 256 };
static const int64_t DEFAULT_TTL_MS = 24 * 3600 * 1000;
static const uint64_t DEFAULT_BYTES = (uint64_t)64 << 20;
static const uint32_t DEFAULT_ENTRIES = 10000;
static const float DEFAULT_THRESHOLD = 0.1f;

static aiinfra_status check_opts(aiinfra_cache_opts *o, aiinfra_error *err)
{
  if (o->ttl_ms < -1) return aii_fail(err, AIINFRA_EINVAL, "ttl_ms is %lld, at least -1", (long long)o->ttl_ms);
  if (isnan(o->threshold) || o->threshold < -1 || o->threshold > 1)
    return aii_fail(err, AIINFRA_EINVAL, "threshold is a cosine, -1 to 1");
  if (o->semantic < -1 || o->semantic > 2) return aii_fail(err, AIINFRA_EINVAL, "semantic is -1 to 2");
  if (o->shadow < 0 || o->shadow > 1 || o->keep_timely < 0 || o->keep_timely > 1 || o->keep_partial < 0 ||
      o->keep_partial > 1)
    return aii_fail(err, AIINFRA_EINVAL, "shadow, keep_timely and keep_partial are 0 or 1");
  if (o->max_bytes > INT64_MAX) return aii_fail(err, AIINFRA_EINVAL, "max_bytes is too large");
  if (o->ttl_ms == 0) o->ttl_ms = DEFAULT_TTL_MS;
  if (o->max_bytes == 0) o->max_bytes = DEFAULT_BYTES;
  if (o->max_entries == 0) o->max_entries = DEFAULT_ENTRIES;
  if (o->threshold == 0) o->threshold = DEFAULT_THRESHOLD;
  return AIINFRA_OK;
}

aiinfra_status aiinfra_cache_open(aiinfra_db *db, const aiinfra_cache_opts *opts, aiinfra_cache **out,
                                  aiinfra_error *err)
{
  aiinfra_cache_opts o;
  if (out == NULL) return aii_fail(err, AIINFRA_EINVAL, "out is NULL");
  *out = NULL;
  if (db == NULL) return aii_fail(err, AIINFRA_EINVAL, "db is NULL");
  aiinfra_status rc = AII_OPTS_LOAD(&o, opts, keep_partial, err);
  if (rc == AIINFRA_OK) rc = check_opts(&o, err);
  if (rc == AIINFRA_OK) rc = aii_cache_open(db, &o, out, err);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "open cache");
}

void aiinfra_cache_free(aiinfra_cache *cache)
{
  aii_cache_unref(cache);
}

static aiinfra_status check_tenant(const char *tenant, aiinfra_error *err)
{
  if (tenant == NULL) return AIINFRA_OK;
  size_t n = strnlen(tenant, MAX_TENANT + 1);
  if (n > MAX_TENANT) return aii_fail(err, AIINFRA_EINVAL, "the tenant is longer than %d bytes", MAX_TENANT);
  return aii_utf8_valid(tenant, n) ? AIINFRA_OK : aii_fail(err, AIINFRA_EINVAL, "the tenant is not UTF-8");
}

/* Whatever it returns, aii_cache_key_free() may follow. */
static aiinfra_status make_key(aiinfra_cache *cache, const aiinfra_cache_query *query, aii_cache_key *key,
                               aiinfra_error *err)
{
  aiinfra_cache_query q;
  memset(key, 0, sizeof *key);
  if (query == NULL) return aii_fail(err, AIINFRA_EINVAL, "query is NULL");
  aiinfra_status rc = AII_OPTS_LOAD(&q, query, ttl_ms, err);
  if (rc != AIINFRA_OK) return rc;
  if (q.request_json == NULL) return aii_fail(err, AIINFRA_EINVAL, "request_json is NULL");
  if (q.ttl_ms < -1) return aii_fail(err, AIINFRA_EINVAL, "ttl_ms is %lld, at least -1", (long long)q.ttl_ms);
  if (q.exact_only < 0 || q.exact_only > 1 || q.keep_cut < 0 || q.keep_cut > 1)
    return aii_fail(err, AIINFRA_EINVAL, "exact_only and keep_cut are 0 or 1");
  rc = check_tenant(q.tenant, err);
  return rc == AIINFRA_OK ? aii_cache_key_make(cache, &q, key, err) : rc;
}

aiinfra_status aiinfra_cache_lookup(aiinfra_cache *cache, const aiinfra_cache_query *query, char **out_json,
                                    aiinfra_error *err)
{
  aii_cache_key key;
  aii_buf json;
  if (out_json == NULL) return aii_fail(err, AIINFRA_EINVAL, "out_json is NULL");
  *out_json = NULL;
  if (cache == NULL) return aii_fail(err, AIINFRA_EINVAL, "cache is NULL");
  aii_buf_init(&json, &cache->db->rt->mem, 0);
  aiinfra_status rc = make_key(cache, query, &key, err);
  if (rc == AIINFRA_OK) rc = aii_cache_lookup(cache, &key, &json, err);
  if (rc == AIINFRA_OK) rc = aii_buf_export(&json, out_json, err);
  aii_cache_key_free(&key);
  aii_buf_free(&json);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "look into the cache");
}

static aiinfra_status parse_response(const char *text, json_t **out, aiinfra_error *err)
{
  if (text == NULL) return aii_fail(err, AIINFRA_EINVAL, "response_json is NULL");
  aiinfra_status rc = aii_json_parse(text, strlen(text), "response_json", 0, out, err);
  if (rc == AIINFRA_OK && !json_is_object(*out))
    return aii_fail(err, AIINFRA_EINVAL, "response_json: expected an object, found %s", aii_json_type(*out));
  if (rc != AIINFRA_EFORMAT) return rc;
  if (err != NULL) err->status = AIINFRA_EINVAL;
  return AIINFRA_EINVAL;
}

aiinfra_status aiinfra_cache_store(aiinfra_cache *cache, const aiinfra_cache_query *query, const char *response_json,
                                   int64_t *id, aiinfra_error *err)
{
  aii_cache_key key;
  json_t *response = NULL;
  int64_t new_id = 0;
  if (id != NULL) *id = 0;
  if (cache == NULL) return aii_fail(err, AIINFRA_EINVAL, "cache is NULL");
  aiinfra_status rc = make_key(cache, query, &key, err);
  if (rc == AIINFRA_OK) rc = parse_response(response_json, &response, err);
  if (rc == AIINFRA_OK) rc = aii_cache_store(cache, &key, response, response_json, &new_id, err);
  json_decref(response);
  aii_cache_key_free(&key);
  if (rc != AIINFRA_OK) return aii_wrap(err, rc, "store in the cache");
  if (id != NULL) *id = new_id;
  return AIINFRA_OK;
}

aiinfra_status aiinfra_cache_report_false(aiinfra_cache *cache, int64_t id, const aiinfra_cache_query *query,
                                          aiinfra_error *err)
{
  aii_cache_key key;
  if (cache == NULL) return aii_fail(err, AIINFRA_EINVAL, "cache is NULL");
  memset(&key, 0, sizeof key);
  aiinfra_status rc = query != NULL ? make_key(cache, query, &key, err) : AIINFRA_OK;
  if (rc == AIINFRA_OK) rc = aii_cache_report_false(cache, id, query != NULL ? &key : NULL, err);
  aii_cache_key_free(&key);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "take back a cached answer");
}

aiinfra_status aiinfra_cache_stats(aiinfra_cache *cache, char **out_json, aiinfra_error *err)
{
  aii_buf json;
  if (out_json == NULL) return aii_fail(err, AIINFRA_EINVAL, "out_json is NULL");
  *out_json = NULL;
  if (cache == NULL) return aii_fail(err, AIINFRA_EINVAL, "cache is NULL");
  aii_buf_init(&json, &cache->db->rt->mem, 0);
  aiinfra_status rc = aii_cache_stats(cache, &json, err);
  if (rc == AIINFRA_OK) rc = aii_buf_export(&json, out_json, err);
  aii_buf_free(&json);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "read the cache's counts");
}

aiinfra_status aiinfra_cache_clear(aiinfra_cache *cache, const char *tenant, uint64_t *n, aiinfra_error *err)
{
  uint64_t removed = 0;
  if (n != NULL) *n = 0;
  if (cache == NULL) return aii_fail(err, AIINFRA_EINVAL, "cache is NULL");
  aiinfra_status rc = check_tenant(tenant, err);
  if (rc == AIINFRA_OK) rc = aii_cache_clear(cache, tenant, &removed, err);
  if (rc != AIINFRA_OK) return aii_wrap(err, rc, "clear the cache");
  if (n != NULL) *n = removed;
  return AIINFRA_OK;
}
