/* memory_api.c - the public functions of aiinfra/memory.h but those on facts (facts_api.c) and documents
 * (ingest_api.c): check arguments, load options, call down. */
#include <math.h>

#include "lib/json/json.h"
#include "src/memory/memory.h"

enum { MAX_SCOPE = 256, MAX_CONVERSATION = 256, MAX_LABEL = 64, MAX_BLOCK = 16384, MAX_K = 10000 };

aiinfra_status aii_memory_check_text(const char *what, const char *s, size_t max, aiinfra_error *err)
{
  if (s == NULL) return aii_fail(err, AIINFRA_EINVAL, "%s is NULL", what);
  size_t n = strnlen(s, max + 1);
  if (n == 0) return aii_fail(err, AIINFRA_EINVAL, "%s is empty", what);
  if (n > max) return aii_fail(err, AIINFRA_EINVAL, "%s is longer than %zu bytes", what, max);
  if (!aii_utf8_valid(s, n)) return aii_fail(err, AIINFRA_EINVAL, "%s is not UTF-8", what);
  return AIINFRA_OK;
}

/* The name of a scope that is made of several: no other names make the same one. */
static aiinfra_status join_names(const aiinfra_memory_opts *o, aii_buf *name, aiinfra_error *err)
{
  const char *const keys[] = {"scope", "tenant", "user", "agent", "session"};
  const char *const names[] = {o->scope, o->tenant, o->user, o->agent, o->session};
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; rc == AIINFRA_OK && i < AII_COUNT(names); i++) {
    if (names[i] == NULL) continue;
    rc = aii_memory_check_text(keys[i], names[i], MAX_SCOPE, err);
    aii_buf_fmt(name, "%s\"%s\":", name->len == 0 ? "{" : ",", keys[i]);
    if (rc == AIINFRA_OK) aii_buf_json(name, names[i], strlen(names[i]));
  }
  aii_buf_char(name, '}');
  return rc == AIINFRA_OK && name->failed ? aii_fail(err, AIINFRA_ENOMEM, "no memory for a scope") : rc;
}

static aiinfra_status open_named(aiinfra_db *db, const aiinfra_memory_opts *o, aiinfra_memory **out, aiinfra_error *err)
{
  aii_buf name;
  if (o->tenant == NULL && o->user == NULL && o->agent == NULL && o->session == NULL) {
    const char *scope = o->scope != NULL ? o->scope : "default";
    aiinfra_status rc = aii_memory_check_text("the scope", scope, MAX_SCOPE, err);
    return rc == AIINFRA_OK ? aii_memory_open(db, scope, out, err) : rc;
  }
  aii_buf_init(&name, &db->rt->mem, 0);
  aiinfra_status rc = join_names(o, &name, err);
  if (rc == AIINFRA_OK) rc = aii_memory_open(db, name.data, out, err);
  aii_buf_free(&name);
  return rc;
}

aiinfra_status aiinfra_memory_open(aiinfra_db *db, const aiinfra_memory_opts *opts, aiinfra_memory **out,
                                   aiinfra_error *err)
{
  aiinfra_memory_opts o;
  if (out == NULL) return aii_fail(err, AIINFRA_EINVAL, "out is NULL");
  *out = NULL;
  if (db == NULL) return aii_fail(err, AIINFRA_EINVAL, "db is NULL");
  aiinfra_status rc = AII_OPTS_LOAD(&o, opts, scope, err);
  if (rc != AIINFRA_OK) return rc;
  rc = open_named(db, &o, out, err);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "open memory");
}

void aiinfra_memory_free(aiinfra_memory *memory)
{
  aii_memory_unref(memory);
}

static aiinfra_status check_recall(const aiinfra_recall_opts *o, aiinfra_error *err)
{
  if (o->k > MAX_K) return aii_fail(err, AIINFRA_EINVAL, "k is %u, at most %d", o->k, MAX_K);
  if (o->kind < 0 || o->kind > AIINFRA_MEMORY_PASSAGE) {
    return aii_fail(err, AIINFRA_EINVAL, "kind %d is not an aiinfra_memory_kind", o->kind);
  }
  if (o->mode < 0 || o->mode > AIINFRA_RECALL_VECTOR) {
    return aii_fail(err, AIINFRA_EINVAL, "mode %d is not an aiinfra_recall_mode", o->mode);
  }
  if (o->reserved != 0) return aii_fail(err, AIINFRA_EINVAL, "reserved is %u, must be 0", o->reserved);
  if (isnan(o->min_score) || isnan(o->recency) || isnan(o->importance) || isnan(o->reinforcement) ||
      !(o->half_life_days >= 0) || o->as_of_ms < 0 || o->known_at_ms < 0)
    return aii_fail(err, AIINFRA_EINVAL, "a weight is NaN, or a time or the half-life is negative");
  return AIINFRA_OK;
}

aiinfra_status aii_recall_opts_load(aiinfra_recall_opts *o, const aiinfra_recall_opts *opts, aiinfra_error *err)
{
  aiinfra_status rc = AII_OPTS_LOAD(o, opts, min_score, err);
  if (rc == AIINFRA_OK && o->explain != NULL) *o->explain = NULL;
  return rc == AIINFRA_OK ? check_recall(o, err) : rc;
}

aiinfra_status aiinfra_memory_recall(aiinfra_memory *memory, const char *question, const aiinfra_recall_opts *opts,
                                     char **out_json, aiinfra_error *err)
{
  aiinfra_recall_opts o;
  aii_buf json;
  if (out_json == NULL) return aii_fail(err, AIINFRA_EINVAL, "out_json is NULL");
  *out_json = NULL;
  if (memory == NULL) return aii_fail(err, AIINFRA_EINVAL, "memory is NULL");
  aiinfra_status rc = aii_recall_opts_load(&o, opts, err);
  if (rc == AIINFRA_OK) rc = aii_memory_check_text("the question", question, AII_FACT_BYTES, err);
  if (rc != AIINFRA_OK) return rc;
  if (o.k == 0) o.k = 5;
  aii_buf_init(&json, &memory->db->rt->mem, 0);
  rc = aii_memory_recall(memory, question, &o, &json, err);
  if (rc == AIINFRA_OK) rc = aii_buf_export(&json, out_json, err);
  if (rc != AIINFRA_OK && o.explain != NULL) {
    aiinfra_string_free(*o.explain);
    *o.explain = NULL;
  }
  aii_buf_free(&json);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "recall");
}

static aiinfra_status load_pack(aii_pack *how, const aiinfra_pack_opts *opts, aiinfra_error *err)
{
  aiinfra_pack_opts o;
  aiinfra_status rc = AII_OPTS_LOAD(&o, opts, reserved, err);
  if (rc == AIINFRA_OK && o.reserved != 0) rc = aii_fail(err, AIINFRA_EINVAL, "reserved is %u, must be 0", o.reserved);
  if (rc == AIINFRA_OK) rc = aii_recall_opts_load(&how->recall, o.recall, err);
  if (rc != AIINFRA_OK) return rc;
  if (how->recall.k == 0) how->recall.k = 20;
  how->budget = o.budget_tokens != 0 ? o.budget_tokens : 1024;
  how->model = o.model;
  how->rerank = o.rerank;
  how->rerank_user = o.rerank_user;
  return AIINFRA_OK;
}

aiinfra_status aiinfra_memory_pack(aiinfra_memory *memory, const char *question, const aiinfra_pack_opts *opts,
                                   char **out_json, aiinfra_error *err)
{
  aii_pack how = {.texts = false};
  aii_buf json;
  if (out_json == NULL) return aii_fail(err, AIINFRA_EINVAL, "out_json is NULL");
  *out_json = NULL;
  if (memory == NULL) return aii_fail(err, AIINFRA_EINVAL, "memory is NULL");
  aiinfra_status rc = load_pack(&how, opts, err);
  if (rc == AIINFRA_OK) rc = aii_memory_check_text("the question", question, AII_FACT_BYTES, err);
  if (rc != AIINFRA_OK) return rc;
  aii_buf_init(&json, &memory->db->rt->mem, 0);
  rc = aii_memory_pack(memory, question, &how, &json, err);
  if (rc == AIINFRA_OK) rc = aii_buf_export(&json, out_json, err);
  if (rc != AIINFRA_OK && how.recall.explain != NULL) {
    aiinfra_string_free(*how.recall.explain);
    *how.recall.explain = NULL;
  }
  aii_buf_free(&json);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "pack");
}

aiinfra_status aiinfra_memory_forget(aiinfra_memory *memory, int64_t id, aiinfra_error *err)
{
  if (memory == NULL) return aii_fail(err, AIINFRA_EINVAL, "memory is NULL");
  aiinfra_status rc = aii_memory_forget(memory, id, err);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "forget");
}

aiinfra_status aiinfra_memory_append(aiinfra_memory *memory, const char *conversation, const char *message_json,
                                     aiinfra_error *err)
{
  if (memory == NULL || message_json == NULL) return aii_fail(err, AIINFRA_EINVAL, "memory or message_json is NULL");
  aiinfra_status rc = aii_memory_check_text("the conversation", conversation, MAX_CONVERSATION, err);
  if (rc == AIINFRA_OK) rc = aii_memory_append(memory, conversation, message_json, err);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "append to a conversation");
}

aiinfra_status aiinfra_memory_history(aiinfra_memory *memory, const char *conversation, uint32_t last, char **out_json,
                                      aiinfra_error *err)
{
  aii_buf json;
  if (out_json == NULL) return aii_fail(err, AIINFRA_EINVAL, "out_json is NULL");
  *out_json = NULL;
  if (memory == NULL) return aii_fail(err, AIINFRA_EINVAL, "memory is NULL");
  aiinfra_status rc = aii_memory_check_text("the conversation", conversation, MAX_CONVERSATION, err);
  if (rc != AIINFRA_OK) return rc;
  aii_buf_init(&json, &memory->db->rt->mem, 0);
  rc = aii_memory_history(memory, conversation, last, &json, err);
  if (rc == AIINFRA_OK) rc = aii_buf_export(&json, out_json, err);
  aii_buf_free(&json);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "read a conversation");
}

aiinfra_status aiinfra_memory_set_block(aiinfra_memory *memory, const char *label, const char *text, aiinfra_error *err)
{
  if (memory == NULL) return aii_fail(err, AIINFRA_EINVAL, "memory is NULL");
  aiinfra_status rc = aii_memory_check_text("the label", label, MAX_LABEL, err);
  if (rc == AIINFRA_OK && text != NULL && text[0] != '\0')
    rc = aii_memory_check_text("the block", text, MAX_BLOCK, err);
  if (rc == AIINFRA_OK) rc = aii_memory_set_block(memory, label, text, err);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "set a block");
}

aiinfra_status aiinfra_memory_blocks(aiinfra_memory *memory, char **out_json, aiinfra_error *err)
{
  aii_buf json;
  if (out_json == NULL) return aii_fail(err, AIINFRA_EINVAL, "out_json is NULL");
  *out_json = NULL;
  if (memory == NULL) return aii_fail(err, AIINFRA_EINVAL, "memory is NULL");
  aii_buf_init(&json, &memory->db->rt->mem, 0);
  aiinfra_status rc = aii_memory_blocks(memory, &json, err);
  if (rc == AIINFRA_OK) rc = aii_buf_export(&json, out_json, err);
  aii_buf_free(&json);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "read the blocks");
}
