/* facts_api.c - the public functions of aiinfra/memory.h on facts in time, and on a scope as a whole. */
#include "lib/json/json.h"
#include "src/memory/memory.h"

enum { MAX_SOURCE = 1024, MAX_FACTS = 100000, DEFAULT_FACTS = 100 };
static const size_t MAX_IMPORT = (size_t)64 << 20;

static aiinfra_status check_metadata(const char *metadata, aiinfra_error *err)
{
  json_t *json = NULL;
  if (metadata == NULL) return AIINFRA_OK;
  aiinfra_status rc = aii_json_parse(metadata, strlen(metadata), "metadata_json", 0, &json, err);
  if (rc == AIINFRA_OK && !json_is_object(json)) {
    rc = aii_fail(err, AIINFRA_EINVAL, "metadata_json: expected an object, found %s", aii_json_type(json));
  }
  json_decref(json);
  if (rc == AIINFRA_OK || rc == AIINFRA_ENOMEM) return rc;
  if (err != NULL) err->status = AIINFRA_EINVAL;
  return AIINFRA_EINVAL;
}

static aiinfra_status check_fact(const char *text, aiinfra_error *err)
{
  aiinfra_status rc = aii_memory_check_text("the fact", text, AII_FACT_BYTES, err);
  if (rc == AIINFRA_OK && text[strspn(text, " \t\r\n\f\v")] == '\0') {
    rc = aii_fail(err, AIINFRA_EINVAL, "the fact is empty");
  }
  return rc;
}

static aiinfra_status load_fact_opts(const aiinfra_fact_opts *opts, aiinfra_fact_opts *o, aiinfra_error *err)
{
  aiinfra_status rc = AII_OPTS_LOAD(o, opts, reserved, err);
  if (rc == AIINFRA_OK) rc = check_metadata(o->metadata_json, err);
  if (rc == AIINFRA_OK && o->source != NULL) rc = aii_memory_check_text("the source", o->source, MAX_SOURCE, err);
  if (rc != AIINFRA_OK) return rc;
  if (o->valid_from_ms < 0 || o->valid_to_ms < 0 || o->ttl_ms < 0)
    return aii_fail(err, AIINFRA_EINVAL, "valid_from_ms, valid_to_ms or ttl_ms is negative");
  if (o->valid_to_ms != 0 && o->valid_to_ms <= o->valid_from_ms)
    return aii_fail(err, AIINFRA_EINVAL, "valid_to_ms is not after valid_from_ms");
  if (!(o->importance >= 0 && o->importance <= 1) || !(o->trust >= 0 && o->trust <= 1))
    return aii_fail(err, AIINFRA_EINVAL, "importance and trust are 0 to 1");
  if (o->keep_near < 0 || o->keep_near > 1 || o->reserved != 0)
    return aii_fail(err, AIINFRA_EINVAL, "keep_near is 0 or 1, reserved is 0");
  return AIINFRA_OK;
}

aiinfra_status aiinfra_memory_remember(aiinfra_memory *memory, const char *text, const char *metadata_json, int64_t *id,
                                       aiinfra_error *err)
{
  aiinfra_fact_opts opts = AIINFRA_FACT_OPTS_INIT;
  aii_outcome outcome;
  int64_t new_id = 0;
  if (id != NULL) *id = 0;
  if (memory == NULL) return aii_fail(err, AIINFRA_EINVAL, "memory is NULL");
  aiinfra_status rc = check_fact(text, err);
  if (rc == AIINFRA_OK) rc = check_metadata(metadata_json, err);
  opts.metadata_json = metadata_json;
  if (rc == AIINFRA_OK) rc = aii_memory_add_fact(memory, text, &opts, &new_id, &outcome, err);
  if (rc != AIINFRA_OK) return aii_wrap(err, rc, "remember");
  if (id != NULL) *id = new_id;
  return AIINFRA_OK;
}

aiinfra_status aiinfra_memory_add_fact(aiinfra_memory *memory, const char *text, const aiinfra_fact_opts *opts,
                                       char **out_json, aiinfra_error *err)
{
  static const char *const names[] = {"new", "same", "near"};
  aiinfra_fact_opts o;
  aii_outcome outcome = AII_FACT_NEW;
  int64_t id = 0;
  aii_buf json;
  if (out_json != NULL) *out_json = NULL;
  if (memory == NULL) return aii_fail(err, AIINFRA_EINVAL, "memory is NULL");
  aiinfra_status rc = check_fact(text, err);
  if (rc == AIINFRA_OK) rc = load_fact_opts(opts, &o, err);
  if (rc == AIINFRA_OK) rc = aii_memory_add_fact(memory, text, &o, &id, &outcome, err);
  if (rc != AIINFRA_OK) return aii_wrap(err, rc, "add a fact");
  if (out_json == NULL) return AIINFRA_OK;
  aii_buf_init(&json, &memory->db->rt->mem, 0);
  aii_buf_fmt(&json, "{\"id\":%lld,\"outcome\":\"%s\"}", (long long)id, names[outcome]);
  rc = aii_buf_export(&json, out_json, err);
  aii_buf_free(&json);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "add a fact");
}

static aiinfra_status replace(aiinfra_memory *memory, int64_t id, const char *text, const aiinfra_fact_opts *opts,
                              bool supersede, int64_t *new_id, aiinfra_error *err)
{
  aiinfra_fact_opts o;
  int64_t made = 0;
  if (new_id != NULL) *new_id = 0;
  if (memory == NULL) return aii_fail(err, AIINFRA_EINVAL, "memory is NULL");
  aiinfra_status rc = text == NULL && supersede ? AIINFRA_OK : check_fact(text, err);
  if (rc == AIINFRA_OK) rc = load_fact_opts(opts, &o, err);
  if (rc == AIINFRA_OK) rc = aii_memory_replace(memory, id, text, &o, supersede, &made, err);
  if (rc == AIINFRA_OK && new_id != NULL) *new_id = made;
  return rc;
}

aiinfra_status aiinfra_memory_revise(aiinfra_memory *memory, int64_t id, const char *text,
                                     const aiinfra_fact_opts *opts, int64_t *new_id, aiinfra_error *err)
{
  aiinfra_status rc = replace(memory, id, text, opts, false, new_id, err);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "revise");
}

aiinfra_status aiinfra_memory_supersede(aiinfra_memory *memory, int64_t id, const char *text,
                                        const aiinfra_fact_opts *opts, int64_t *new_id, aiinfra_error *err)
{
  aiinfra_status rc = replace(memory, id, text, opts, true, new_id, err);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "supersede");
}

aiinfra_status aiinfra_memory_reinforce(aiinfra_memory *memory, int64_t id, aiinfra_error *err)
{
  if (memory == NULL) return aii_fail(err, AIINFRA_EINVAL, "memory is NULL");
  aiinfra_status rc = aii_memory_reinforce(memory, id, err);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "reinforce");
}

aiinfra_status aiinfra_memory_expire(aiinfra_memory *memory, uint64_t *n, aiinfra_error *err)
{
  uint64_t removed = 0;
  if (n != NULL) *n = 0;
  if (memory == NULL) return aii_fail(err, AIINFRA_EINVAL, "memory is NULL");
  aiinfra_status rc = aii_memory_expire(memory, &removed, err);
  if (rc != AIINFRA_OK) return aii_wrap(err, rc, "expire");
  if (n != NULL) *n = removed;
  return AIINFRA_OK;
}

aiinfra_status aiinfra_memory_fact_history(aiinfra_memory *memory, int64_t id, char **out_json, aiinfra_error *err)
{
  aii_buf json;
  if (out_json == NULL) return aii_fail(err, AIINFRA_EINVAL, "out_json is NULL");
  *out_json = NULL;
  if (memory == NULL) return aii_fail(err, AIINFRA_EINVAL, "memory is NULL");
  aii_buf_init(&json, &memory->db->rt->mem, 0);
  aiinfra_status rc = aii_memory_fact_history(memory, id, &json, err);
  if (rc == AIINFRA_OK) rc = aii_buf_export(&json, out_json, err);
  aii_buf_free(&json);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "history of a fact");
}

aiinfra_status aiinfra_memory_facts(aiinfra_memory *memory, const aiinfra_facts_opts *opts, char **out_json,
                                    aiinfra_error *err)
{
  aiinfra_facts_opts o;
  aii_buf json;
  if (out_json == NULL) return aii_fail(err, AIINFRA_EINVAL, "out_json is NULL");
  *out_json = NULL;
  if (memory == NULL) return aii_fail(err, AIINFRA_EINVAL, "memory is NULL");
  aiinfra_status rc = AII_OPTS_LOAD(&o, opts, all, err);
  if (rc != AIINFRA_OK) return rc;
  if (o.limit > MAX_FACTS || o.all < 0 || o.all > 1 || o.as_of_ms < 0 || o.known_at_ms < 0)
    return aii_fail(err, AIINFRA_EINVAL, "limit is at most %d, all is 0 or 1, times are not negative", MAX_FACTS);
  if (o.limit == 0) o.limit = DEFAULT_FACTS;
  aii_buf_init(&json, &memory->db->rt->mem, 0);
  rc = aii_memory_facts(memory, &o, &json, err);
  if (rc == AIINFRA_OK) rc = aii_buf_export(&json, out_json, err);
  aii_buf_free(&json);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "list facts");
}

aiinfra_status aiinfra_memory_export(aiinfra_memory *memory, char **out_jsonl, aiinfra_error *err)
{
  aii_buf lines;
  if (out_jsonl == NULL) return aii_fail(err, AIINFRA_EINVAL, "out_jsonl is NULL");
  *out_jsonl = NULL;
  if (memory == NULL) return aii_fail(err, AIINFRA_EINVAL, "memory is NULL");
  aii_buf_init(&lines, &memory->db->rt->mem, 0);
  aiinfra_status rc = aii_memory_export(memory, &lines, err);
  if (rc == AIINFRA_OK) rc = aii_buf_export(&lines, out_jsonl, err);
  aii_buf_free(&lines);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "export a memory");
}

aiinfra_status aiinfra_memory_import(aiinfra_memory *memory, const char *jsonl, size_t n_bytes, uint64_t *n_taken,
                                     aiinfra_error *err)
{
  uint64_t taken = 0;
  if (n_taken != NULL) *n_taken = 0;
  if (memory == NULL || (jsonl == NULL && n_bytes > 0)) {
    return aii_fail(err, AIINFRA_EINVAL, "memory or jsonl is NULL");
  }
  if (n_bytes > MAX_IMPORT) return aii_fail(err, AIINFRA_ELIMIT, "more than %zu bytes; import in parts", MAX_IMPORT);
  aiinfra_status rc = aii_memory_import(memory, jsonl, n_bytes, &taken, err);
  if (rc != AIINFRA_OK) return aii_wrap(err, rc, "import a memory");
  if (n_taken != NULL) *n_taken = taken;
  return AIINFRA_OK;
}

aiinfra_status aiinfra_memory_forget_conversation(aiinfra_memory *memory, const char *conversation, aiinfra_error *err)
{
  if (memory == NULL) return aii_fail(err, AIINFRA_EINVAL, "memory is NULL");
  aiinfra_status rc = aii_memory_check_text("the conversation", conversation, 256, err);
  if (rc == AIINFRA_OK) rc = aii_memory_forget_conversation(memory, conversation, err);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "forget a conversation");
}

aiinfra_status aiinfra_memory_forget_all(aiinfra_memory *memory, aiinfra_error *err)
{
  if (memory == NULL) return aii_fail(err, AIINFRA_EINVAL, "memory is NULL");
  aiinfra_status rc = aii_memory_forget_all(memory, err);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "forget a scope");
}
