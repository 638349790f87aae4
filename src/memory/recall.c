/* recall.c - what fits a question: found by vector and by words, seen at a time, scored, told.
 *
 * The question is embedded like a text -> vectors and keywords are searched, their ranks fused; three times as many as
 * are wanted -> what is not visible at the time asked for is left out -> the fused rank, scaled so that first in both
 * rankings is 1, is weighed with the trust, the age, the importance and the repetition of a fact -> the best are told
 * with all of these numbers. Too few are left: more are fetched. The past is searched only when a time is given.
 *
 * Recency counts whole hours, so that two recalls in a row give the same numbers. Any thread.
 */
#include <math.h>

#include "src/memory/memory.h"

enum { DEEPER = 4, MOST = 20000 };

typedef struct found {
  aiinfra_hit hit;
  double score, recency, importance, trust;
  int64_t reinforced;
} found;

typedef struct recall {
  aiinfra_memory *memory;
  const aiinfra_recall_opts *opts;
  float vector[AII_EMBED_DIMS];
  const char *question;
  aiinfra_hit *hits;
  size_t n_hits;
  found *all;
  size_t n, cap;
  size_t n_visible; /* before min_score */
} recall;

static double weight(float given, double by_default)
{
  return given == 0 ? by_default : given < 0 ? 0 : (double)given;
}

static void score(const recall *r, found *f, bool fact, int64_t age_ms)
{
  double fused = (double)f->hit.score * 61 / 2, half_life = r->opts->half_life_days > 0 ? r->opts->half_life_days : 30;
  double hours = floor((double)AII_MAX(age_ms, 0) / 3600000), repeated = log2(1 + (double)f->reinforced) / 5;
  f->recency = fact ? exp2(-hours / 24 / half_life) : 1;
  f->score = fused;
  if (!fact) return;
  f->score *= f->trust * (1 + weight(r->opts->recency, 0.1) * (f->recency - 1) +
                          weight(r->opts->importance, 0.2) * (2 * f->importance - 1) +
                          weight(r->opts->reinforcement, 0.1) * AII_MIN(repeated, 1));
}

/* Keeps a hit if its item is visible. */
static aiinfra_status look(recall *r, const aiinfra_hit *hit, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  aiinfra_status rc = aii_sql_prepare(r->memory->db->sql,
                                      "SELECT i.kind, i.updated_ms, i.importance, i.trust, i.reinforced FROM items i "
                                      "WHERE i.id = ?1 AND i.scope = ?2 AND" AII_VISIBLE,
                                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, hit->id);
  aii_stmt_int(stmt, 2, r->memory->scope);
  aii_bind_times(stmt, r->opts->as_of_ms, r->opts->known_at_ms);
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK && row) {
    found f = {.hit = *hit, .reinforced = aii_stmt_get_int(stmt, 4)};
    f.importance = aii_stmt_is_null(stmt, 2) ? 0.5 : aii_stmt_get_real(stmt, 2);
    f.trust = aii_stmt_is_null(stmt, 3) ? 1 : aii_stmt_get_real(stmt, 3);
    score(r, &f, aii_stmt_get_int(stmt, 0) == AIINFRA_MEMORY_FACT, aii_unix_ms() - aii_stmt_get_int(stmt, 1));
    r->n_visible++;
    if (f.score >= (double)r->opts->min_score) r->all[r->n++] = f;
  }
  aii_stmt_reset(stmt);
  return rc;
}

/* Searches one collection and looks at what it finds. *full: there may be more. */
static aiinfra_status search(recall *r, aiinfra_vecstore *store, size_t depth, bool *full, aiinfra_error *err)
{
  aiinfra_query query = AIINFRA_QUERY_INIT;
  query.vector = r->vector;
  query.text = r->question;
  query.k = (uint32_t)depth;
  if (r->opts->kind == AIINFRA_MEMORY_FACT) query.filter_json = "{\"kind\":\"fact\"}";
  if (r->opts->kind == AIINFRA_MEMORY_PASSAGE) query.filter_json = "{\"kind\":\"passage\"}";
  aiinfra_status rc = aii_vecstore_search(store, &query, r->hits, &r->n_hits, err);
  if (rc == AIINFRA_OK && r->n_hits == depth) *full = true;
  aii_sql_lock(r->memory->db->sql);
  for (size_t i = 0; rc == AIINFRA_OK && i < r->n_hits; i++) rc = look(r, &r->hits[i], err);
  aii_sql_unlock(r->memory->db->sql);
  return rc;
}

/* One attempt: *enough says that a deeper search would change nothing. */
static aiinfra_status attempt(recall *r, size_t depth, bool *enough, aiinfra_error *err)
{
  aii_mem *mem = &r->memory->db->rt->mem;
  bool full = false, past = r->opts->as_of_ms != 0 || r->opts->known_at_ms != 0;
  aii_del(mem, r->all, r->cap * sizeof *r->all);
  r->n = r->n_visible = 0;
  r->cap = 2 * depth;
  r->all = aii_new_array(mem, r->cap, sizeof *r->all);
  r->hits = aii_new_array(mem, depth, sizeof *r->hits);
  aiinfra_status rc = r->all != NULL && r->hits != NULL ? AIINFRA_OK : aii_fail(err, AIINFRA_ENOMEM, "no memory");
  if (r->all == NULL) r->cap = 0;
  if (rc == AIINFRA_OK) rc = search(r, r->memory->store, depth, &full, err);
  if (rc == AIINFRA_OK && past && r->memory->past != NULL) rc = search(r, r->memory->past, depth, &full, err);
  aii_del(mem, r->hits, depth * sizeof *r->hits);
  *enough = !full || r->n_visible >= r->opts->k;
  return rc;
}

/* Best first; equal scores by id. Insertion: most are in order already. */
static void sort(found *all, size_t n)
{
  for (size_t i = 1; i < n; i++) {
    found f = all[i];
    size_t at = i;
    for (; at > 0 && (all[at - 1].score < f.score || (all[at - 1].score == f.score && all[at - 1].hit.id > f.hit.id));
         at--)
      all[at] = all[at - 1];
    all[at] = f;
  }
}

/* ---- telling --------------------------------------------------------------------------------------------------------- */

static void add_number(aii_buf *json, const char *name, double value)
{
  aii_buf_fmt(json, ",\"%s\":", name);
  if (isnan(value)) aii_buf_str(json, "null");
  else aii_buf_double(json, value, 6);
}

static void add_time(aii_buf *json, const char *name, aii_stmt *stmt, int at)
{
  aii_buf_fmt(json, ",\"%s\":", name);
  if (aii_stmt_is_null(stmt, at)) aii_buf_str(json, "null");
  else aii_buf_fmt(json, "%lld", (long long)aii_stmt_get_int(stmt, at));
}

/* Columns: kind, text, source, first_byte, n_bytes, created_ms, valid_from_ms, valid_to_ms, metadata. */
static void write_item(aii_stmt *stmt, const found *f, aii_buf *json)
{
  size_t n;
  const char *text = aii_stmt_get_text(stmt, 1, &n);
  aii_buf_fmt(json, "{\"id\":%lld,\"kind\":\"%s\",\"text\":", (long long)f->hit.id,
              aii_stmt_get_int(stmt, 0) == AIINFRA_MEMORY_FACT ? "fact" : "passage");
  aii_buf_json(json, text, n);
  add_number(json, "score", f->score);
  add_number(json, "vector_score", (double)f->hit.vector_score);
  add_number(json, "text_score", (double)f->hit.text_score);
  add_number(json, "recency", f->recency);
  add_number(json, "importance", f->importance);
  add_number(json, "trust", f->trust);
  aii_buf_fmt(json, ",\"reinforced\":%lld,\"source\":", (long long)f->reinforced);
  if (aii_stmt_is_null(stmt, 2)) {
    aii_buf_str(json, "null");
  } else {
    const char *source = aii_stmt_get_text(stmt, 2, &n);
    aii_buf_json(json, source, n);
  }
  aii_buf_fmt(json, ",\"first_byte\":%lld,\"n_bytes\":%lld,\"created_ms\":%lld", (long long)aii_stmt_get_int(stmt, 3),
              (long long)aii_stmt_get_int(stmt, 4), (long long)aii_stmt_get_int(stmt, 5));
  add_time(json, "valid_from_ms", stmt, 6);
  add_time(json, "valid_to_ms", stmt, 7);
  aii_buf_str(json, ",\"metadata\":");
  const char *metadata = aii_stmt_get_text(stmt, 8, &n);
  aii_buf_str(json, n > 0 ? metadata : "{}");
  aii_buf_char(json, '}');
}

/* Reads a hit's item and appends it if it fits. One that was forgotten meanwhile is left out. */
static aiinfra_status add_item(aiinfra_memory *memory, const found *f, size_t *room, size_t *n_told, aii_buf *json,
                               aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  size_t n;
  aiinfra_status rc = aii_sql_prepare(
      memory->db->sql,
      "SELECT i.kind, r.text, coalesce(d.path, i.source), i.first_byte, i.n_bytes, i.created_ms, "
      "coalesce(i.valid_from_ms, i.created_ms), min(coalesce(i.ended_ms, i.valid_to_ms), coalesce(i.valid_to_ms, "
      "i.ended_ms)), i.metadata FROM items i JOIN rows r ON r.collection IN (?3, ?4) AND r.id = i.id "
      "LEFT JOIN documents d ON d.id = i.document WHERE i.id = ?1 AND i.scope = ?2",
      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, f->hit.id);
  aii_stmt_int(stmt, 2, memory->scope);
  aii_stmt_int(stmt, 3, memory->store->collection);
  aii_stmt_int(stmt, 4, aii_memory_past(memory));
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK && row) {
    (void)aii_stmt_get_text(stmt, 1, &n);
    if (n <= *room) {
      *room -= n;
      if ((*n_told)++ > 0) aii_buf_char(json, ',');
      write_item(stmt, f, json);
    }
  }
  aii_stmt_reset(stmt);
  return rc;
}

static aiinfra_status tell(const recall *r, aii_buf *json, aiinfra_error *err)
{
  size_t room = r->opts->max_bytes != 0 ? r->opts->max_bytes : SIZE_MAX, n_told = 0;
  aiinfra_status rc = AIINFRA_OK;
  aii_buf_char(json, '[');
  aii_sql_lock(r->memory->db->sql);
  for (size_t i = 0; rc == AIINFRA_OK && i < r->n && i < r->opts->k; i++)
    rc = add_item(r->memory, &r->all[i], &room, &n_told, json, err);
  aii_sql_unlock(r->memory->db->sql);
  aii_buf_char(json, ']');
  return rc;
}

aiinfra_status aii_memory_recall(aiinfra_memory *memory, const char *question, const aiinfra_recall_opts *opts,
                                 aii_buf *json, aiinfra_error *err)
{
  recall r = {.memory = memory, .opts = opts, .question = question};
  size_t depth = (size_t)3 * opts->k;
  bool enough = false;
  bool past = opts->as_of_ms != 0 || opts->known_at_ms != 0;
  aiinfra_status rc = past ? aii_memory_open_past(memory, false, err) : AIINFRA_OK;
  aii_embed(question, strlen(question), r.vector);
  while (rc == AIINFRA_OK && !enough) {
    rc = attempt(&r, depth, &enough, err);
    if (depth > MOST) break;
    depth *= DEEPER;
  }
  if (rc == AIINFRA_OK) {
    sort(r.all, r.n);
    rc = tell(&r, json, err);
  }
  aii_del(&memory->db->rt->mem, r.all, r.cap * sizeof *r.all);
  return rc;
}
