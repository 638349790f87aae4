/* facts.c - facts: remembered once, corrected, superseded, reinforced.
 *
 * Remembering climbs a ladder: a current fact with the same text but for case and white space, whose canonical wording
 * does not differ ("us" is not "US") -> one with the same canonical wording, near by vector -> else a new one. A vector
 * alone merges nothing, so that "I like tea" and "I do not like tea" stay two facts. What is merged is reinforced. A
 * fact that was revised, has ended or expired is never merged into: the same said again is a new fact.
 *
 * Revising retires the old version now, and the new one holds for the old interval. Superseding ends the old version at
 * a time of the world, from which the new one holds. Both move the old text to the past, where default recall does not
 * look; only an end in the future leaves it where it is. Each is one transaction. Any thread.
 */
#include "src/memory/memory.h"

static const float NEAR = 0.5f; /* least cosine of two facts with one canonical wording */

static aiinfra_status no_memory(aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_ENOMEM, "no memory for a fact");
}

aiinfra_status aii_text_make(aiinfra_memory *memory, const char *text, aii_text *out, aiinfra_error *err)
{
  aii_mem *mem = &memory->db->rt->mem;
  out->text = text;
  out->n = strlen(text);
  aii_buf_init(&out->normal, mem, 0);
  aii_buf_init(&out->wording, mem, 0);
  aii_normalise(text, out->n, &out->normal);
  if (!aii_wording(text, out->n, AII_WORDING_FACT, &out->wording) && !out->wording.failed) aii_buf_clear(&out->wording);
  if (out->normal.failed || out->wording.failed) return no_memory(err);
  aii_embed(text, out->n, out->vector);
  out->hash = (int64_t)aii_hash64(aii_buf_cstr(&out->normal), out->normal.len, 0);
  return AIINFRA_OK;
}

void aii_text_free(aii_text *text)
{
  aii_buf_free(&text->normal);
  aii_buf_free(&text->wording);
}

aii_item aii_text_item(const aii_text *text)
{
  return (aii_item){.kind = AIINFRA_MEMORY_FACT,
                    .text = text->text,
                    .hash = text->hash,
                    .n_bytes = text->n,
                    .vector = text->vector,
                    .wording = text->wording.len > 0 ? text->wording.data : NULL,
                    .trust = 1,
                    .importance = 0.5};
}

/* ---- the ladder ------------------------------------------------------------------------------------------------------ */

/* Whether a fact's text says the same as the new one, by the step of the ladder. */
static aiinfra_status says_same(const aii_text *text, const char *other, size_t n, bool near, bool *same,
                                aiinfra_error *err)
{
  float vector[AII_EMBED_DIMS];
  aii_buf work;
  aii_buf_init(&work, text->normal.mem, 0);
  *same = true;
  if (!near) {
    aii_normalise(other, n, &work);
    *same = strcmp(aii_buf_cstr(&work), aii_buf_cstr(&text->normal)) == 0;
  }
  aii_buf_clear(&work);
  if (*same && text->wording.len > 0 && aii_wording(other, n, AII_WORDING_FACT, &work)) {
    *same = strcmp(aii_buf_cstr(&work), text->wording.data) == 0;
  } else if (near) {
    *same = false;
  }
  if (*same && near) {
    aii_embed(other, n, vector);
    *same = aii_embed_dot(vector, text->vector) >= NEAR;
  }
  bool failed = work.failed;
  aii_buf_free(&work);
  return failed ? no_memory(err) : AIINFRA_OK;
}

#define CURRENT                                                                                             \
  "SELECT i.id, r.text FROM items i JOIN rows r ON r.collection = ?3 AND r.id = i.id "                      \
  "WHERE i.scope = ?1 AND i.kind = 1 AND i.retired_ms IS NULL AND i.ended_ms IS NULL AND "                  \
  "(i.expires_ms IS NULL OR i.expires_ms > ?4) AND i.valid_to_ms IS ?5 AND (?6 IS NULL OR i.valid_from_ms " \
  "IS ?6) AND "

/* *id stays 0 when there is none. */
static aiinfra_status find_current(aiinfra_memory *memory, const aii_text *text, const aii_item *item, bool near,
                                   int64_t *id, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = true;
  aiinfra_status rc = near ? aii_sql_prepare(memory->db->sql, CURRENT "i.wording_hash = ?2", &stmt, err)
                           : aii_sql_prepare(memory->db->sql, CURRENT "i.hash = ?2", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, memory->scope);
  aii_stmt_int(stmt, 2, near ? (int64_t)aii_hash64(text->wording.data, text->wording.len, 0) : text->hash);
  aii_stmt_int(stmt, 3, memory->store->collection);
  aii_stmt_int(stmt, 4, aii_unix_ms());
  if (item->valid_to_ms != 0) aii_stmt_int(stmt, 5, item->valid_to_ms);
  if (item->valid_from_ms != 0) aii_stmt_int(stmt, 6, item->valid_from_ms);
  while (rc == AIINFRA_OK && *id == 0) {
    bool same;
    size_t n;
    rc = aii_stmt_step(stmt, &row, err);
    if (rc != AIINFRA_OK || !row) break;
    const char *other = aii_stmt_get_text(stmt, 1, &n);
    rc = says_same(text, other, n, near, &same, err);
    if (rc == AIINFRA_OK && same) *id = aii_stmt_get_int(stmt, 0);
  }
  aii_stmt_reset(stmt);
  return rc;
}

static void bind_opt(aii_stmt *stmt, int at, const char *s)
{
  aii_stmt_text(stmt, at, s, s != NULL ? strlen(s) : 0);
}

/* Said again: repetition counts, what was told beside it replaces what was known. */
static aiinfra_status refresh(aiinfra_memory *memory, int64_t id, const aii_item *item, const aiinfra_fact_opts *opts,
                              aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc = aii_sql_prepare(
      memory->db->sql,
      "UPDATE items SET updated_ms = ?3, reinforced = reinforced + 1, metadata = coalesce(?4, metadata), "
      "source = coalesce(?5, source), trust = coalesce(?6, trust), importance = coalesce(?7, importance), "
      "expires_ms = coalesce(?8, expires_ms) WHERE id = ?1 AND scope = ?2",
      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, id);
  aii_stmt_int(stmt, 2, memory->scope);
  aii_stmt_int(stmt, 3, aii_unix_ms());
  bind_opt(stmt, 4, item->metadata);
  bind_opt(stmt, 5, item->source);
  if (opts->trust != 0) aii_stmt_real(stmt, 6, item->trust);
  if (opts->importance != 0) aii_stmt_real(stmt, 7, item->importance);
  if (item->expires_ms != 0) aii_stmt_int(stmt, 8, item->expires_ms);
  return aii_stmt_run(stmt, err);
}

static aiinfra_status climb(aiinfra_memory *memory, const aii_text *text, const aii_item *item,
                            const aiinfra_fact_opts *opts, int64_t *id, aii_outcome *outcome, aiinfra_error *err)
{
  *id = 0;
  *outcome = AII_FACT_SAME;
  aiinfra_status rc = find_current(memory, text, item, false, id, err);
  if (rc == AIINFRA_OK && *id == 0 && text->wording.len > 0 && opts->keep_near != 1) {
    *outcome = AII_FACT_NEAR;
    rc = find_current(memory, text, item, true, id, err);
  }
  if (rc != AIINFRA_OK) return rc;
  if (*id != 0) return refresh(memory, *id, item, opts, err);
  *outcome = AII_FACT_NEW;
  return aii_items_insert(memory, item, id, err);
}

/* What the caller told, over what is there. */
static void apply(const aiinfra_fact_opts *opts, aii_item *item)
{
  int64_t now = aii_unix_ms();
  if (opts->metadata_json != NULL) item->metadata = opts->metadata_json;
  if (opts->source != NULL) item->source = opts->source;
  if (opts->valid_from_ms != 0) item->valid_from_ms = opts->valid_from_ms;
  if (opts->valid_to_ms != 0) item->valid_to_ms = opts->valid_to_ms;
  if (opts->ttl_ms != 0) item->expires_ms = opts->ttl_ms < INT64_MAX - now ? now + opts->ttl_ms : INT64_MAX;
  if (opts->importance != 0) item->importance = (double)opts->importance;
  if (opts->trust != 0) item->trust = (double)opts->trust;
}

aiinfra_status aii_memory_add_fact(aiinfra_memory *memory, const char *s, const aiinfra_fact_opts *opts, int64_t *id,
                                   aii_outcome *outcome, aiinfra_error *err)
{
  aii_sql *sql = memory->db->sql;
  aii_text text;
  aiinfra_status rc = aii_text_make(memory, s, &text, err);
  if (rc == AIINFRA_OK) {
    aii_item item = aii_text_item(&text);
    apply(opts, &item);
    aii_sql_lock(sql);
    rc = aii_sql_begin(sql, err);
    if (rc == AIINFRA_OK) {
      rc = climb(memory, &text, &item, opts, id, outcome, err);
      if (rc == AIINFRA_OK) rc = aii_sql_commit(sql, err);
      else aii_sql_rollback(sql);
    }
    aii_sql_unlock(sql);
  }
  aii_text_free(&text);
  return rc;
}

/* ---- versions -------------------------------------------------------------------------------------------------------- */

/* The version that is replaced; strings are its own. */
typedef struct version {
  int64_t id, chain, created_ms, valid_from_ms, valid_to_ms, expires_ms;
  double trust, importance;
  aii_buf source, metadata;
} version;

static int64_t time_of(aii_stmt *stmt, int at)
{
  return aii_stmt_is_null(stmt, at) ? 0 : aii_stmt_get_int(stmt, at);
}

static void take(aii_stmt *stmt, version *v)
{
  size_t n;
  const char *s;
  v->chain = aii_stmt_is_null(stmt, 0) ? v->id : aii_stmt_get_int(stmt, 0);
  v->created_ms = aii_stmt_get_int(stmt, 1);
  v->valid_from_ms = time_of(stmt, 2);
  v->valid_to_ms = time_of(stmt, 3);
  v->expires_ms = time_of(stmt, 4);
  v->trust = aii_stmt_is_null(stmt, 5) ? 1 : aii_stmt_get_real(stmt, 5);
  v->importance = aii_stmt_is_null(stmt, 6) ? 0.5 : aii_stmt_get_real(stmt, 6);
  s = aii_stmt_get_text(stmt, 7, &n);
  aii_buf_add(&v->source, s, n);
  s = aii_stmt_get_text(stmt, 8, &n);
  aii_buf_add(&v->metadata, s, n);
}

static aiinfra_status read_version(aiinfra_memory *memory, int64_t id, version *v, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  aiinfra_status rc = aii_sql_prepare(
      memory->db->sql,
      "SELECT i.chain, i.created_ms, i.valid_from_ms, i.valid_to_ms, i.expires_ms, i.trust, i.importance, i.source, "
      "i.metadata, i.ended_ms IS NOT NULL OR i.retired_ms IS NOT NULL, "
      "(SELECT max(id) FROM items n WHERE n.previous = i.id AND n.chain = coalesce(i.chain, i.id)) "
      "FROM items i WHERE i.id = ?1 AND i.scope = ?2 AND i.kind = 1",
      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, id);
  aii_stmt_int(stmt, 2, memory->scope);
  rc = aii_stmt_step(stmt, &row, err);
  v->id = id;
  if (rc == AIINFRA_OK && !row) {
    rc = aii_fail(err, AIINFRA_ENOENT, "this scope has no fact with the id %lld", (long long)id);
  } else if (rc == AIINFRA_OK && aii_stmt_get_int(stmt, 9) != 0) {
    rc = aii_fail(err, AIINFRA_EEXIST, "fact %lld is no longer current; its next version is %lld", (long long)id,
                  (long long)aii_stmt_get_int(stmt, 10));
  } else if (rc == AIINFRA_OK) {
    take(stmt, v);
    if (v->source.failed || v->metadata.failed) rc = no_memory(err);
  }
  aii_stmt_reset(stmt);
  return rc;
}

/* Retires the version at `now`, or ends it at `at`, and moves it to the past when that is over. */
static aiinfra_status close_version(aiinfra_memory *memory, int64_t id, bool supersede, int64_t at, int64_t now,
                                    aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc =
      supersede ? aii_sql_prepare(memory->db->sql, "UPDATE items SET ended_ms = ?2, ended_at_ms = ?3 WHERE id = ?1",
                                  &stmt, err)
                : aii_sql_prepare(memory->db->sql, "UPDATE items SET retired_ms = ?3 WHERE id = ?1", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, id);
  if (supersede) aii_stmt_int(stmt, 2, at);
  aii_stmt_int(stmt, 3, now);
  rc = aii_stmt_run(stmt, err);
  return rc == AIINFRA_OK && (!supersede || at <= now) ? aii_items_bury(memory, id, err) : rc;
}

static void inherit(const version *v, bool supersede, int64_t at, int64_t now, aii_item *item)
{
  item->chain = v->chain;
  item->previous = v->id;
  item->created_ms = now;
  item->trust = v->trust;
  item->importance = v->importance;
  item->expires_ms = v->expires_ms;
  if (v->source.len > 0) item->source = v->source.data;
  if (v->metadata.len > 0) item->metadata = v->metadata.data;
  item->valid_from_ms = supersede ? at : v->valid_from_ms != 0 ? v->valid_from_ms : v->created_ms;
  item->valid_to_ms = v->valid_to_ms;
}

static aiinfra_status replace(aiinfra_memory *memory, version *v, const aii_text *text, const aiinfra_fact_opts *opts,
                              bool supersede, int64_t *new_id, aiinfra_error *err)
{
  int64_t now = aii_unix_ms(), at = opts->valid_from_ms != 0 ? opts->valid_from_ms : now;
  aiinfra_status rc = read_version(memory, v->id, v, err);
  if (rc != AIINFRA_OK) return rc;
  now = AII_MAX(now, v->created_ms); /* a clock that was set back */
  if (opts->valid_from_ms == 0) at = now;
  int64_t from = v->valid_from_ms != 0 ? v->valid_from_ms : v->created_ms;
  if (supersede && at < from)
    return aii_fail(err, AIINFRA_EINVAL, "fact %lld holds since %lld and cannot end at %lld", (long long)v->id,
                    (long long)from, (long long)at);
  rc = close_version(memory, v->id, supersede, at, now, err);
  if (rc != AIINFRA_OK || text == NULL) return rc;
  aii_item item = aii_text_item(text);
  inherit(v, supersede, at, now, &item);
  apply(opts, &item);
  if (item.valid_to_ms != 0 && item.valid_to_ms <= item.valid_from_ms)
    return aii_fail(err, AIINFRA_EINVAL, "the new version would cease to hold before it began");
  return aii_items_insert(memory, &item, new_id, err);
}

aiinfra_status aii_memory_replace(aiinfra_memory *memory, int64_t id, const char *s, const aiinfra_fact_opts *opts,
                                  bool supersede, int64_t *new_id, aiinfra_error *err)
{
  aii_sql *sql = memory->db->sql;
  aii_mem *mem = &memory->db->rt->mem;
  version v = {.id = id};
  aii_text text;
  *new_id = 0;
  aii_buf_init(&v.source, mem, 0);
  aii_buf_init(&v.metadata, mem, 0);
  aiinfra_status rc = s != NULL ? aii_text_make(memory, s, &text, err) : AIINFRA_OK;
  if (rc == AIINFRA_OK) rc = aii_memory_open_past(memory, true, err);
  if (rc == AIINFRA_OK) {
    aii_sql_lock(sql);
    rc = aii_sql_begin(sql, err);
    if (rc == AIINFRA_OK) {
      rc = replace(memory, &v, s != NULL ? &text : NULL, opts, supersede, new_id, err);
      if (rc == AIINFRA_OK) rc = aii_sql_commit(sql, err);
      else aii_sql_rollback(sql);
    }
    aii_sql_unlock(sql);
  }
  if (s != NULL) aii_text_free(&text);
  aii_buf_free(&v.source);
  aii_buf_free(&v.metadata);
  if (rc != AIINFRA_OK) *new_id = 0;
  return rc;
}

aiinfra_status aii_memory_reinforce(aiinfra_memory *memory, int64_t id, aiinfra_error *err)
{
  aii_sql *sql = memory->db->sql;
  aii_stmt *stmt;
  aii_sql_lock(sql);
  aiinfra_status rc = aii_sql_prepare(sql,
                                      "UPDATE items SET reinforced = reinforced + 1, updated_ms = ?3 WHERE id = ?1 AND "
                                      "scope = ?2 AND kind = 1",
                                      &stmt, err);
  if (rc == AIINFRA_OK) {
    aii_stmt_int(stmt, 1, id);
    aii_stmt_int(stmt, 2, memory->scope);
    aii_stmt_int(stmt, 3, aii_unix_ms());
    rc = aii_stmt_run_alone(stmt, err);
  }
  if (rc == AIINFRA_OK && aii_sql_changes(sql) == 0)
    rc = aii_fail(err, AIINFRA_ENOENT, "this scope has no fact with the id %lld", (long long)id);
  aii_sql_unlock(sql);
  return rc;
}
