/* key.c - a chat request taken apart: what must be equal, and what is asked.
 *
 * The key is the request without its last message, as JSON whose members are sorted; fields that change only how an
 * answer travels are left out. The question is the text of the last message when that is a user's; else, and for
 * messages with pictures, the message as JSON, which only the exact tier compares. Any thread.
 */
#include "src/cache/cache.h"

static int dump_bytes(const char *bytes, size_t n, void *user)
{
  aii_buf *out = user;
  aii_buf_add(out, bytes, n);
  return out->failed ? -1 : 0;
}

static bool dump_sorted(const json_t *value, aii_buf *out)
{
  return json_dump_callback(value, dump_bytes, out, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS) == 0;
}

static aiinfra_status no_memory(aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_ENOMEM, "no memory for a request");
}

/* Only role and text: no name, no tool call. */
static bool is_text(const json_t *message)
{
  const char *role = json_string_value(json_object_get(message, "role"));
  return role != NULL && strcmp(role, "user") == 0 && json_object_size(message) == 2 &&
         json_is_string(json_object_get(message, "content"));
}

static aiinfra_status take_question(const json_t *message, aii_wording_kind kind, aii_cache_key *key,
                                    aiinfra_error *err)
{
  if (!is_text(message)) {
    aii_buf_char(&key->question, '\x01'); /* never the text of a user */
    return dump_sorted(message, &key->question) ? AIINFRA_OK : no_memory(err);
  }
  const json_t *text = json_object_get(message, "content");
  const char *s = json_string_value(text);
  size_t n = json_string_length(text);
  aii_buf_add(&key->question, s, n);
  if (aii_wording(s, n, kind, &key->wording)) {
    aii_embed(s, n, key->vector);
    key->timely = aii_wording_is_timely(aii_buf_cstr(&key->wording));
  } else if (!key->wording.failed) {
    aii_buf_clear(&key->wording);
  }
  return key->question.failed || key->wording.failed ? no_memory(err) : AIINFRA_OK;
}

static aiinfra_status take_rest(const json_t *root, const json_t *messages, aii_cache_key *key, aiinfra_error *err)
{
  static const char *const travel[] = {"stream", "stream_options", "cache"};
  json_t *rest = aii_json_copy(root), *before = aii_json_copy(messages);
  bool ok = rest != NULL && before != NULL;
  if (ok) {
    for (size_t i = 0; i < AII_COUNT(travel); i++) (void)json_object_del(rest, travel[i]);
    ok = json_array_remove(before, json_array_size(before) - 1) == 0 &&
         json_object_set(rest, "messages", before) == 0 && dump_sorted(rest, &key->key);
  }
  json_decref(rest);
  json_decref(before);
  return ok ? AIINFRA_OK : no_memory(err);
}

aiinfra_status aii_cache_key_make(aiinfra_cache *cache, const aiinfra_cache_query *query, aii_cache_key *key,
                                  aiinfra_error *err)
{
  aii_mem *mem = &cache->db->rt->mem;
  json_t *root = NULL, *messages = NULL;
  aii_wording_kind kind = cache->opts.semantic == 2 ? AII_WORDING_WIDE : AII_WORDING_QUESTION;
  key->tenant = query->tenant != NULL ? query->tenant : "";
  key->ttl_ms = query->ttl_ms != 0 ? query->ttl_ms : cache->opts.ttl_ms;
  key->partition = 0;
  key->timely = false;
  key->keep_cut = query->keep_cut == 1;
  aii_buf_init(&key->key, mem, 0);
  aii_buf_init(&key->question, mem, 0);
  aii_buf_init(&key->wording, mem, 0);
  aiinfra_status rc = aii_json_parse(query->request_json, strlen(query->request_json), "request_json", 0, &root, err);
  if (rc == AIINFRA_EFORMAT && err != NULL) err->status = AIINFRA_EINVAL;
  if (rc == AIINFRA_EFORMAT) rc = AIINFRA_EINVAL;
  if (rc == AIINFRA_OK && !json_is_object(root))
    rc = aii_fail(err, AIINFRA_EINVAL, "request_json: expected an object, found %s", aii_json_type(root));
  if (rc == AIINFRA_OK) rc = aii_json_get_array(root, "", "messages", true, &messages, err);
  if (rc == AIINFRA_OK && json_array_size(messages) == 0) rc = aii_fail(err, AIINFRA_EINVAL, "messages: is empty");
  if (rc == AIINFRA_OK) rc = take_question(json_array_get(messages, json_array_size(messages) - 1), kind, key, err);
  if (query->exact_only == 1) aii_buf_clear(&key->wording);
  if (rc == AIINFRA_OK) rc = take_rest(root, messages, key, err);
  json_decref(root);
  return rc;
}

void aii_cache_key_free(aii_cache_key *key)
{
  if (key->key.mem == NULL) return; /* never made */
  aii_buf_free(&key->key);
  aii_buf_free(&key->question);
  aii_buf_free(&key->wording);
}

/* ---- partitions -------------------------------------------------------------------------------------------------------- */

static int64_t hash_of(const aii_cache_key *key)
{
  uint64_t seed = aii_hash64(key->tenant, strlen(key->tenant), 0);
  return (int64_t)aii_hash64(aii_buf_cstr(&key->key), key->key.len, seed);
}

static aiinfra_status create(aiinfra_cache *cache, aii_cache_key *key, aiinfra_error *err)
{
  aii_sql *sql = cache->db->sql;
  aii_stmt *stmt;
  aiinfra_status rc =
      aii_sql_prepare(sql, "INSERT INTO cache_partitions(hash, tenant, key) VALUES(?1, ?2, ?3)", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, hash_of(key));
  aii_stmt_text(stmt, 2, key->tenant, strlen(key->tenant));
  aii_stmt_text(stmt, 3, aii_buf_cstr(&key->key), key->key.len);
  rc = aii_stmt_run(stmt, err);
  if (rc == AIINFRA_OK) key->partition = aii_sql_last_id(sql);
  return rc;
}

aiinfra_status aii_cache_key_find(aiinfra_cache *cache, aii_cache_key *key, bool make, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  aiinfra_status rc = aii_sql_prepare(
      cache->db->sql, "SELECT id FROM cache_partitions WHERE hash = ?1 AND tenant = ?2 AND key = ?3", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, hash_of(key));
  aii_stmt_text(stmt, 2, key->tenant, strlen(key->tenant));
  aii_stmt_text(stmt, 3, aii_buf_cstr(&key->key), key->key.len);
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK && row) key->partition = aii_stmt_get_int(stmt, 0);
  aii_stmt_reset(stmt);
  return rc == AIINFRA_OK && key->partition == 0 && make ? create(cache, key, err) : rc;
}
