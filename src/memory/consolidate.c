/* consolidate.c - current facts brought together: duplicates merged, contradictions settled, the weakest retired.
 *
 * Fact by fact, in the order of their ids: its neighbours by vector that are older are compared with it (relate.c). What
 * says the same is merged: the one that is trusted more, else the older, stays and is reinforced; the other one is
 * retired. What contradicts is superseded from when the newer one holds, unless the older one is trusted more. Both
 * chains become one, named after the smaller id, so that forgetting the fact forgets all that was ever said of it.
 *
 * Neighbours are searched before the transaction of a fact, which looks again at all that it changes. Any thread.
 */

#include "src/memory/memory.h"

enum { NEIGHBOURS = 16, MOST_CHANGES = 1000 };
static const float near = 0.35f; /* least cosine of two facts that are compared */
static const double faded_days = 30, kept_importance = 0.95;

typedef struct fact {
  int64_t id, root, created_ms, from_ms;
  double trust, importance;
  char *text;
} fact;

typedef struct care {
  aiinfra_memory *memory;
  const aiinfra_consolidate_opts *opts;
  uint64_t n_looked, n_merged, n_superseded, n_contradictions, n_faded, n_told;
  int64_t last;
  aii_buf changes;
} care;

static void tell(care *c, const char *what, const fact *f, int64_t by)
{
  if (c->n_told++ >= MOST_CHANGES) return;
  aii_buf_fmt(&c->changes, "%s{\"what\":\"%s\",\"id\":%lld,\"text\":", c->n_told > 1 ? "," : "", what,
              (long long)f->id);
  aii_buf_json(&c->changes, f->text, strlen(f->text));
  if (by != 0) aii_buf_fmt(&c->changes, ",\"by\":%lld}", (long long)by);
  else aii_buf_str(&c->changes, ",\"by\":null}");
}

/* ---- facts that are current ------------------------------------------------------------------------------------------------ */

#define CURRENT                                                                                                 \
  " i.scope = ?1 AND i.kind = 1 AND i.retired_ms IS NULL AND i.ended_ms IS NULL AND i.valid_to_ms IS NULL AND " \
  "(i.expires_ms IS NULL OR i.expires_ms > ?3) "
#define COLUMNS                                                                                                    \
  " i.id, coalesce(i.chain, i.id), i.created_ms, coalesce(i.valid_from_ms, i.created_ms), i.trust, i.importance, " \
  "r.text "

static void free_fact(const care *c, fact *f)
{
  aii_strfree(&c->memory->db->rt->mem, f->text);
  f->text = NULL;
}

/* The fact `id`, or with `behind` the first one behind it. text NULL: there is none that is current. Lock held. */
static aiinfra_status read_fact(const care *c, int64_t id, bool behind, fact *f, aiinfra_error *err)
{
  aiinfra_memory *memory = c->memory;
  aii_stmt *stmt;
  bool row;
  size_t n;
  memset(f, 0, sizeof *f);
  aiinfra_status rc =
      aii_sql_prepare(memory->db->sql,
                      "SELECT" COLUMNS "FROM items i JOIN rows r ON r.collection = ?2 AND r.id = i.id WHERE" CURRENT
                      "AND (i.id = ?4 OR (?5 AND i.id > ?4)) AND NOT (?5 AND i.id = ?4) ORDER BY i.id LIMIT 1",
                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, memory->scope);
  aii_stmt_int(stmt, 2, memory->store->collection);
  aii_stmt_int(stmt, 3, aii_unix_ms());
  aii_stmt_int(stmt, 4, id);
  aii_stmt_int(stmt, 5, behind);
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK && row) {
    *f = (fact){.id = aii_stmt_get_int(stmt, 0),
                .root = aii_stmt_get_int(stmt, 1),
                .created_ms = aii_stmt_get_int(stmt, 2),
                .from_ms = aii_stmt_get_int(stmt, 3),
                .trust = aii_stmt_is_null(stmt, 4) ? 1 : aii_stmt_get_real(stmt, 4),
                .importance = aii_stmt_is_null(stmt, 5) ? 0.5 : aii_stmt_get_real(stmt, 5)};
    const char *text = aii_stmt_get_text(stmt, 6, &n);
    f->text = aii_strndup(&memory->db->rt->mem, text, n);
    if (f->text == NULL) rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for a fact");
  }
  aii_stmt_reset(stmt);
  return rc;
}

/* ?1 is the scope, ?2 to ?4 are the arguments. */
static aiinfra_status run(const care *c, const char *sql, const int64_t *args, size_t n, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc = aii_sql_prepare(c->memory->db->sql, sql, &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, c->memory->scope);
  for (size_t i = 0; i < n; i++) aii_stmt_int(stmt, (int)i + 2, args[i]);
  return aii_stmt_run(stmt, err);
}

/* ---- changes, inside a transaction ------------------------------------------------------------------------------------------ */

/* Both chains become the one with the smaller root; the newer fact follows the older one when it followed nothing. */
static aiinfra_status join_chains(const care *c, const fact *a, const fact *b, aiinfra_error *err)
{
  const int64_t roots[] = {AII_MIN(a->root, b->root), AII_MAX(a->root, b->root)};
  const int64_t ids[] = {AII_MIN(a->id, b->id), AII_MAX(a->id, b->id)};
  aiinfra_status rc = AIINFRA_OK;
  if (roots[0] != roots[1])
    rc = run(c, "UPDATE items SET chain = ?2 WHERE scope = ?1 AND (chain = ?3 OR id = ?3)", roots, 2, err);
  if (rc != AIINFRA_OK) return rc;
  return run(c, "UPDATE items SET previous = coalesce(previous, ?2) WHERE scope = ?1 AND id = ?3", ids, 2, err);
}

static aiinfra_status retire(const care *c, int64_t id, aiinfra_error *err)
{
  const int64_t args[] = {id, aii_unix_ms()};
  aiinfra_status rc =
      run(c, "UPDATE items SET retired_ms = max(?3, created_ms) WHERE scope = ?1 AND id = ?2", args, 2, err);
  return rc == AIINFRA_OK ? aii_items_bury(c->memory, id, err) : rc;
}

static aiinfra_status merge(care *c, const fact *newer, const fact *older, bool *gone, aiinfra_error *err)
{
  const fact *stays = newer->trust > older->trust ? newer : older, *goes = stays == newer ? older : newer;
  const int64_t args[] = {stays->id, goes->id, aii_unix_ms()};
  *gone = goes == newer;
  c->n_merged++;
  tell(c, "merged", goes, stays->id);
  if (c->opts->dry_run == 1) return AIINFRA_OK;
  aiinfra_status rc = run(c,
                          "UPDATE items SET updated_ms = ?4, reinforced = items.reinforced + 1 + o.reinforced, "
                          "importance = max(coalesce(items.importance, 0.5), coalesce(o.importance, 0.5)) FROM items o "
                          "WHERE items.scope = ?1 AND items.id = ?2 AND o.id = ?3",
                          args, 3, err);
  if (rc == AIINFRA_OK) rc = join_chains(c, newer, older, err);
  return rc == AIINFRA_OK ? retire(c, goes->id, err) : rc;
}

static aiinfra_status settle(care *c, const fact *newer, const fact *older, aiinfra_error *err)
{
  int64_t at = AII_MAX(newer->from_ms, older->from_ms), now = aii_unix_ms();
  if (c->opts->keep_contradictions == 1 || newer->trust < older->trust || newer->from_ms < older->from_ms || at > now) {
    c->n_contradictions++;
    tell(c, "contradiction", older, newer->id);
    return AIINFRA_OK;
  }
  c->n_superseded++;
  tell(c, "superseded", older, newer->id);
  if (c->opts->dry_run == 1) return AIINFRA_OK;
  const int64_t args[] = {older->id, at, AII_MAX(now, at)};
  aiinfra_status rc =
      run(c, "UPDATE items SET ended_ms = ?3, ended_at_ms = ?4 WHERE scope = ?1 AND id = ?2", args, 3, err);
  if (rc == AIINFRA_OK) rc = join_chains(c, newer, older, err);
  return rc == AIINFRA_OK ? aii_items_bury(c->memory, older->id, err) : rc;
}

/* ---- one fact ------------------------------------------------------------------------------------------------------------------ */

static aiinfra_status compare(care *c, const fact *f, int64_t other, bool *gone, aiinfra_error *err)
{
  fact older;
  bool failed = false;
  aiinfra_status rc = read_fact(c, other, false, &older, err);
  if (rc == AIINFRA_OK && older.text != NULL) {
    aii_relation relation = aii_facts_relate(&c->memory->db->rt->mem, f->text, older.text, &failed);
    if (failed) rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for a fact");
    else if (relation == AII_SAYS_SAME) rc = merge(c, f, &older, gone, err);
    else if (relation == AII_CONTRADICTS) rc = settle(c, f, &older, err);
  }
  free_fact(c, &older);
  return rc;
}

/* What is counted and told of a fact whose transaction fails was not done. */
static aiinfra_status look_at(care *c, int64_t id, const aiinfra_hit *hits, size_t n, aiinfra_error *err)
{
  aii_sql *sql = c->memory->db->sql;
  fact f;
  bool gone = false;
  aiinfra_status rc = aii_sql_begin(sql, err);
  if (rc != AIINFRA_OK) return rc;
  rc = read_fact(c, id, false, &f, err);
  for (size_t i = 0; rc == AIINFRA_OK && f.text != NULL && i < n && !gone; i++) {
    if (hits[i].id < id && hits[i].vector_score >= near) rc = compare(c, &f, hits[i].id, &gone, err);
  }
  free_fact(c, &f);
  if (rc == AIINFRA_OK) return aii_sql_commit(sql, err);
  aii_sql_rollback(sql);
  return rc;
}

/* The next fact behind c->last; *more false: there is none. */
static aiinfra_status step(care *c, bool *more, aiinfra_error *err)
{
  aiinfra_memory *memory = c->memory;
  aiinfra_query query = AIINFRA_QUERY_INIT;
  aiinfra_hit hits[NEIGHBOURS];
  float vector[AII_EMBED_DIMS];
  size_t n = 0;
  fact f;
  aii_sql_lock(memory->db->sql);
  aiinfra_status rc = read_fact(c, c->last, true, &f, err);
  aii_sql_unlock(memory->db->sql);
  *more = rc == AIINFRA_OK && f.text != NULL;
  if (*more) {
    aii_embed(f.text, strlen(f.text), vector);
    query.vector = vector;
    query.k = NEIGHBOURS;
    query.filter_json = "{\"kind\":\"fact\"}";
    rc = aii_vecstore_search(memory->store, &query, hits, &n, err);
  }
  if (*more && rc == AIINFRA_OK) {
    aii_sql_lock(memory->db->sql);
    rc = look_at(c, f.id, hits, n, err);
    aii_sql_unlock(memory->db->sql);
  }
  if (*more && rc == AIINFRA_OK) {
    c->last = f.id;
    c->n_looked++;
  }
  free_fact(c, &f);
  return rc;
}

/* ---- fading --------------------------------------------------------------------------------------------------------------------- */

/* Retires the weakest fact when there are too many: little trusted, unimportant, old, never said again. *more: it did. */
static aiinfra_status fade(care *c, uint64_t already, bool *more, aiinfra_error *err)
{
  aiinfra_memory *memory = c->memory;
  aii_stmt *stmt;
  int64_t id = 0, count = 0;
  bool row;
  fact f;
  aiinfra_status rc = aii_sql_prepare(
      memory->db->sql,
      "SELECT i.id, count(*) OVER () FROM items i WHERE" CURRENT
      "ORDER BY coalesce(i.importance, 0.5) >= ?4, coalesce(i.trust, 1) * coalesce(i.importance, 0.5) * "
      "(1.0 + i.reinforced) / (1.0 + (?3 - i.updated_ms) / 86400000.0 / ?5), i.id LIMIT 1 OFFSET ?2",
      &stmt, err);
  *more = false;
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, memory->scope);
  aii_stmt_int(stmt, 2, (int64_t)already);
  aii_stmt_int(stmt, 3, aii_unix_ms());
  aii_stmt_real(stmt, 4, kept_importance);
  aii_stmt_real(stmt, 5, faded_days);
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK && row) {
    id = aii_stmt_get_int(stmt, 0);
    count = aii_stmt_get_int(stmt, 1) - (int64_t)already;
  }
  aii_stmt_reset(stmt);
  if (rc != AIINFRA_OK || count <= (int64_t)c->opts->max_facts) return rc;
  rc = read_fact(c, id, false, &f, err);
  if (rc == AIINFRA_OK && f.text != NULL && f.importance < kept_importance) {
    *more = true;
    if (c->opts->dry_run != 1) rc = retire(c, id, err);
    if (rc == AIINFRA_OK) {
      c->n_faded++;
      tell(c, "faded", &f, 0);
    }
  }
  free_fact(c, &f);
  return rc;
}

static bool stopped(const care *c, double fraction)
{
  return c->opts->progress != NULL && c->opts->progress(c->opts->progress_user, fraction) != 0;
}

static aiinfra_status fade_all(care *c, aiinfra_error *err)
{
  aii_sql *sql = c->memory->db->sql;
  aiinfra_status rc = AIINFRA_OK;
  for (bool more = true; rc == AIINFRA_OK && more;) {
    if (stopped(c, 1)) return aii_fail(err, AIINFRA_ECANCELED, "stopped");
    aii_sql_lock(sql);
    rc = aii_sql_begin(sql, err);
    if (rc == AIINFRA_OK) {
      rc = fade(c, c->opts->dry_run == 1 ? c->n_faded : 0, &more, err);
      if (rc == AIINFRA_OK) rc = aii_sql_commit(sql, err);
      else aii_sql_rollback(sql);
    }
    aii_sql_unlock(sql);
  }
  return rc;
}

/* ---- all ------------------------------------------------------------------------------------------------------------------------- */

static aiinfra_status last_id(const care *c, int64_t *id, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  aii_sql_lock(c->memory->db->sql);
  aiinfra_status rc = aii_sql_prepare(
      c->memory->db->sql, "SELECT coalesce(max(id), 0) FROM items WHERE scope = ?1 AND kind = 1", &stmt, err);
  if (rc == AIINFRA_OK) {
    aii_stmt_int(stmt, 1, c->memory->scope);
    rc = aii_stmt_step(stmt, &row, err);
    if (rc == AIINFRA_OK && row) *id = aii_stmt_get_int(stmt, 0);
    aii_stmt_reset(stmt);
  }
  aii_sql_unlock(c->memory->db->sql);
  return rc;
}

static aiinfra_status look_at_all(care *c, bool *done, aiinfra_error *err)
{
  int64_t last = 0;
  aiinfra_status rc = last_id(c, &last, err);
  while (rc == AIINFRA_OK && !*done) {
    bool more;
    if (c->opts->max_steps != 0 && c->n_looked == c->opts->max_steps) break;
    if (stopped(c, last > 0 ? AII_MIN(1.0, (double)c->last / (double)last) : 1))
      return aii_fail(err, AIINFRA_ECANCELED, "stopped");
    rc = step(c, &more, err);
    *done = rc == AIINFRA_OK && !more;
  }
  return rc == AIINFRA_OK && *done && c->opts->max_facts != 0 ? fade_all(c, err) : rc;
}

aiinfra_status aii_memory_consolidate(aiinfra_memory *memory, const aiinfra_consolidate_opts *opts, aii_buf *json,
                                      aiinfra_error *err)
{
  care c = {.memory = memory, .opts = opts, .last = opts->after_id};
  bool done = false;
  aii_buf_init(&c.changes, &memory->db->rt->mem, 0);
  aiinfra_status rc = aii_memory_open_past(memory, true, err);
  if (rc == AIINFRA_OK) rc = look_at_all(&c, &done, err);
  if (rc == AIINFRA_OK || rc == AIINFRA_ECANCELED) {
    aii_buf_fmt(json,
                "{\"looked_at\":%llu,\"merged\":%llu,\"superseded\":%llu,\"contradictions\":%llu,\"faded\":%llu,"
                "\"next\":%lld,\"done\":%s,\"changes\":[",
                (unsigned long long)c.n_looked, (unsigned long long)c.n_merged, (unsigned long long)c.n_superseded,
                (unsigned long long)c.n_contradictions, (unsigned long long)c.n_faded, (long long)c.last,
                done && rc == AIINFRA_OK ? "true" : "false");
    aii_buf_add(json, c.changes.data, c.changes.len);
    aii_buf_str(json, "]}");
    if (c.changes.failed && rc == AIINFRA_OK) rc = aii_fail(err, AIINFRA_ENOMEM, "no memory to tell what was done");
  }
  aii_buf_free(&c.changes);
  return rc;
}
