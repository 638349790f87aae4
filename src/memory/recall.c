/* recall.c - what fits a question: found by vector and by words, seen at a time, scored, told.
 *
 * The question is embedded like a text -> vectors and keywords are searched, their ranks fused; three times as many as
 * are wanted -> what is not visible at the time asked for is left out -> the fused rank, scaled so that first in both
 * rankings is 1, is weighed with the trust, the age, the importance and the repetition of a fact -> the best are told
 * with all of these numbers. Too few are left: more are fetched. The past is searched only when a time is given.
 *
 * A filter is asked about each item that is visible, of which it sees what would be told: it changes neither what is
 * found nor any score. With one, fetching goes on until there are enough or there is nothing more.
 *
 * Recency counts whole hours, so that two recalls in a row give the same numbers. Any thread.
 */
#include <math.h>

#include "lib/json/json.h"
#include "src/memory/memory.h"

enum { DEEPER = 4, MOST = 20000, RRF_K = 60 };

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
  size_t n_visible; /* of those that pass, before min_score */
  size_t n_hidden, n_filtered;
  aii_filter *filter;     /* NULL: none */
  aii_buf payload, story; /* what the filter sees; the searches of the last attempt */
  size_t n_attempts, depth;
  aii_dense *dense; /* NULL: questions are embedded without a model */
  float *dense_vector;
} recall;

static double weight(float given, double by_default)
{
  return given == 0 ? by_default : given < 0 ? 0 : (double)given;
}

static void score(const recall *r, found *f, bool fact, int64_t age_ms)
{
  double half_life = r->opts->half_life_days > 0 ? r->opts->half_life_days : 30;
  double fused = (double)f->hit.score * (RRF_K + 1) / 2, alone = (RRF_K + 1) / (double)(RRF_K + f->hit.rank);
  double hours = floor((double)AII_MAX(age_ms, 0) / 3600000), repeated = log2(1 + (double)f->reinforced) / 5;
  f->recency = fact ? exp2(-hours / 24 / half_life) : 1;
  f->score = r->opts->mode == AIINFRA_RECALL_BOTH ? fused : alone;
  if (!fact) return;
  f->score *= f->trust * (1 + weight(r->opts->recency, 0.1) * (f->recency - 1) +
                          weight(r->opts->importance, 0.2) * (2 * f->importance - 1) +
                          weight(r->opts->reinforcement, 0.1) * AII_MIN(repeated, 1));
}

/* ---- what is told of an item, and what a filter sees of it ---------------------------------------------------------- */

#define ORIGIN                                                                         \
  "coalesce(d.path, i.source), i.first_byte, i.n_bytes, i.created_ms, "                \
  "coalesce(i.valid_from_ms, i.created_ms), min(coalesce(i.ended_ms, i.valid_to_ms), " \
  "coalesce(i.valid_to_ms, i.ended_ms)), i.metadata "

static const char *kind_name(int64_t kind)
{
  return kind == AIINFRA_MEMORY_FACT ? "fact" : "passage";
}

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

/* The columns of ORIGIN begin at `at`. */
static void write_origin(aii_stmt *stmt, int at, const found *f, aii_buf *json)
{
  size_t n;
  add_number(json, "importance", f->importance);
  add_number(json, "trust", f->trust);
  aii_buf_fmt(json, ",\"reinforced\":%lld,\"source\":", (long long)f->reinforced);
  if (aii_stmt_is_null(stmt, at)) {
    aii_buf_str(json, "null");
  } else {
    const char *source = aii_stmt_get_text(stmt, at, &n);
    aii_buf_json(json, source, n);
  }
  aii_buf_fmt(json, ",\"first_byte\":%lld,\"n_bytes\":%lld,\"created_ms\":%lld",
              (long long)aii_stmt_get_int(stmt, at + 1), (long long)aii_stmt_get_int(stmt, at + 2),
              (long long)aii_stmt_get_int(stmt, at + 3));
  add_time(json, "valid_from_ms", stmt, at + 4);
  add_time(json, "valid_to_ms", stmt, at + 5);
  aii_buf_str(json, ",\"metadata\":");
  const char *metadata = aii_stmt_get_text(stmt, at + 6, &n);
  aii_buf_str(json, n > 0 ? metadata : "{}");
}

/* Asks the filter about the item of a row that look() reads. */
static aiinfra_status ask_filter(recall *r, aii_stmt *stmt, const found *f, bool *passes, aiinfra_error *err)
{
  aii_buf *payload = &r->payload;
  json_t *json = NULL;
  aii_buf_clear(payload);
  aii_buf_fmt(payload, "{\"kind\":\"%s\"", kind_name(aii_stmt_get_int(stmt, 0)));
  write_origin(stmt, 5, f, payload);
  aii_buf_char(payload, '}');
  *passes = false;
  if (payload->failed) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a filter");
  aiinfra_status rc = aii_json_parse(payload->data, payload->len, "an item", 0, &json, err);
  if (rc == AIINFRA_ELIMIT) return AIINFRA_OK; /* metadata at the very limit of depth passes no filter */
  if (rc == AIINFRA_OK && !aii_filter_test(r->filter, f->hit.id, json, passes))
    rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for a filter");
  json_decref(json);
  return rc;
}

/* ---- finding --------------------------------------------------------------------------------------------------------- */

#define SEEN "SELECT i.kind, i.updated_ms, i.importance, i.trust, i.reinforced"
#define SEEN_IF " WHERE i.id = ?1 AND i.scope = ?2 AND" AII_VISIBLE

/* Keeps the item of a row if it passes. */
static aiinfra_status keep(recall *r, aii_stmt *stmt, const aiinfra_hit *hit, aiinfra_error *err)
{
  bool passes = true;
  found f = {.hit = *hit, .reinforced = aii_stmt_get_int(stmt, 4)};
  f.importance = aii_stmt_is_null(stmt, 2) ? 0.5 : aii_stmt_get_real(stmt, 2);
  f.trust = aii_stmt_is_null(stmt, 3) ? 1 : aii_stmt_get_real(stmt, 3);
  aiinfra_status rc = r->filter != NULL ? ask_filter(r, stmt, &f, &passes, err) : AIINFRA_OK;
  if (rc != AIINFRA_OK) return rc;
  if (!passes) {
    r->n_filtered++;
    return AIINFRA_OK;
  }
  score(r, &f, aii_stmt_get_int(stmt, 0) == AIINFRA_MEMORY_FACT, aii_unix_ms() - aii_stmt_get_int(stmt, 1));
  r->n_visible++;
  if (f.score >= (double)r->opts->min_score) r->all[r->n++] = f;
  return AIINFRA_OK;
}

/* Keeps a hit if its item is visible and passes. */
static aiinfra_status look(recall *r, const aiinfra_hit *hit, aiinfra_error *err)
{
  aii_sql *sql = r->memory->db->sql;
  aii_stmt *stmt;
  bool row;
  aiinfra_status rc =
      r->filter != NULL
          ? aii_sql_prepare(sql, SEEN ", " ORIGIN "FROM items i LEFT JOIN documents d ON d.id = i.document" SEEN_IF,
                            &stmt, err)
          : aii_sql_prepare(sql, SEEN " FROM items i" SEEN_IF, &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, hit->id);
  aii_stmt_int(stmt, 2, r->memory->scope);
  aii_bind_times(stmt, r->opts->as_of_ms, r->opts->known_at_ms);
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK && row) rc = keep(r, stmt, hit, err);
  else if (rc == AIINFRA_OK) r->n_hidden++;
  aii_stmt_reset(stmt);
  return rc;
}

/* Looks at what a search of one collection found. query: how it was answered, NULL when nobody asks. */
static aiinfra_status look_at_all(recall *r, bool past, const char *query, aiinfra_error *err)
{
  size_t hidden = r->n_hidden, filtered = r->n_filtered, visible = r->n_visible, kept = r->n;
  aiinfra_status rc = AIINFRA_OK;
  aii_sql_lock(r->memory->db->sql);
  for (size_t i = 0; rc == AIINFRA_OK && i < r->n_hits; i++) rc = look(r, &r->hits[i], err);
  aii_sql_unlock(r->memory->db->sql);
  if (query == NULL) return rc;
  aii_buf_fmt(&r->story, "%s{\"of\":\"%s\",\"found\":%zu,\"hidden\":%zu,\"filtered\":%zu,\"low\":%zu,\"query\":",
              r->story.len > 0 ? "," : "", past ? "past" : "now", r->n_hits, r->n_hidden - hidden,
              r->n_filtered - filtered, r->n_visible - visible - (r->n - kept));
  aii_buf_str(&r->story, query);
  aii_buf_char(&r->story, '}');
  return rc;
}

/* Searches one collection and looks at what it finds. *full: there may be more. */
static aiinfra_status search(recall *r, bool past, size_t depth, bool *full, aiinfra_error *err)
{
  aiinfra_query query = AIINFRA_QUERY_INIT;
  char *explain = NULL;
  if (r->opts->mode != AIINFRA_RECALL_WORDS) query.vector = r->vector;
  if (r->opts->mode != AIINFRA_RECALL_VECTOR) query.text = r->question;
  query.k = (uint32_t)depth;
  if (r->opts->explain != NULL) query.explain = &explain;
  if (r->opts->kind == AIINFRA_MEMORY_FACT) query.filter_json = "{\"kind\":\"fact\"}";
  if (r->opts->kind == AIINFRA_MEMORY_PASSAGE) query.filter_json = "{\"kind\":\"passage\"}";
  aiinfra_vecstore *store = past ? r->memory->past : r->memory->store;
  bool dense = r->dense != NULL && !past;
  if (dense) query.vector = r->dense_vector;
  aiinfra_status rc = dense ? aii_dense_search(r->memory, r->dense, &query, r->hits, &r->n_hits, err)
                            : aii_vecstore_search(store, &query, r->hits, &r->n_hits, err);
  if (rc == AIINFRA_OK && r->n_hits == depth) *full = true;
  if (rc == AIINFRA_OK) rc = look_at_all(r, past, explain, err);
  aiinfra_string_free(explain);
  return rc;
}

/* One attempt: *enough says that a deeper search would change nothing. */
static aiinfra_status attempt(recall *r, size_t depth, bool *enough, aiinfra_error *err)
{
  aii_mem *mem = &r->memory->db->rt->mem;
  bool full = false, past = r->opts->as_of_ms != 0 || r->opts->known_at_ms != 0;
  aii_del(mem, r->all, r->cap * sizeof *r->all);
  r->n = r->n_visible = r->n_hidden = r->n_filtered = 0;
  r->n_attempts++;
  r->depth = depth;
  aii_buf_clear(&r->story);
  r->cap = 2 * depth;
  r->all = aii_new_array(mem, r->cap, sizeof *r->all);
  r->hits = aii_new_array(mem, depth, sizeof *r->hits);
  aiinfra_status rc = r->all != NULL && r->hits != NULL ? AIINFRA_OK : aii_fail(err, AIINFRA_ENOMEM, "no memory");
  if (r->all == NULL) r->cap = 0;
  if (rc == AIINFRA_OK) rc = search(r, false, depth, &full, err);
  if (rc == AIINFRA_OK && past && r->memory->past != NULL) rc = search(r, true, depth, &full, err);
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

/* Columns: kind, text, those of ORIGIN. */
static void write_item(aii_stmt *stmt, const found *f, aii_buf *json)
{
  size_t n;
  const char *text = aii_stmt_get_text(stmt, 1, &n);
  aii_buf_fmt(json, "{\"id\":%lld,\"kind\":\"%s\",\"text\":", (long long)f->hit.id,
              kind_name(aii_stmt_get_int(stmt, 0)));
  aii_buf_json(json, text, n);
  add_number(json, "score", f->score);
  add_number(json, "vector_score", (double)f->hit.vector_score);
  add_number(json, "text_score", (double)f->hit.text_score);
  add_number(json, "recency", f->recency);
  write_origin(stmt, 2, f, json);
  aii_buf_char(json, '}');
}

/* Reads a hit's item and appends it if it fits. One that was forgotten meanwhile is left out. */
static aiinfra_status add_item(aiinfra_memory *memory, const found *f, size_t *room, size_t *n_told, aii_buf *json,
                               aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  size_t n;
  aiinfra_status rc = aii_sql_prepare(memory->db->sql,
                                      "SELECT i.kind, r.text, " ORIGIN
                                      "FROM items i JOIN rows r ON r.collection IN (?3, ?4) AND r.id = i.id "
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

/* {"mode", "attempts", "depth", "embedder", "searches": [{"of": "now" | "past", "found", "hidden", "filtered", "low", "query"}]} */
static aiinfra_status explain(const recall *r, aiinfra_error *err)
{
  static const char *const modes[] = {"both", "words", "vector"};
  aii_buf json;
  aii_buf_init(&json, &r->memory->db->rt->mem, 0);
  aii_buf_fmt(&json, "{\"mode\":\"%s\",\"attempts\":%zu,\"depth\":%zu,\"embedder\":", modes[r->opts->mode],
              r->n_attempts, r->depth);
  if (r->dense != NULL) aii_buf_json(&json, r->dense->name, strlen(r->dense->name));
  else aii_buf_str(&json, "null");
  aii_buf_str(&json, ",\"searches\":[");
  aii_buf_add(&json, r->story.data, r->story.len);
  aii_buf_str(&json, "]}");
  aiinfra_status rc = r->story.failed ? aii_fail(err, AIINFRA_ENOMEM, "no memory for an explanation")
                                      : aii_buf_export(&json, r->opts->explain, err);
  aii_buf_free(&json);
  return rc;
}

/* Where the next attempt goes, or that it makes no sense. With a filter it reaches every row. */
static aiinfra_status deepen(const recall *r, size_t *depth, bool *enough, aiinfra_error *err)
{
  uint64_t n = MOST, past = 0;
  aiinfra_status rc = AIINFRA_OK;
  if (r->filter != NULL) rc = aii_vecstore_count(r->memory->store, &n, err);
  if (rc == AIINFRA_OK && r->filter != NULL && r->memory->past != NULL)
    rc = aii_vecstore_count(r->memory->past, &past, err);
  n = AII_MAX(n, past);
  *enough = *depth > n;
  *depth *= DEEPER;
  if (r->filter != NULL) *depth = AII_MIN(*depth, (size_t)n + 1);
  return rc;
}

/* Embeds the question; by the scope's embedder, if this handle has it. */
static aiinfra_status embed(recall *r, aiinfra_error *err)
{
  aiinfra_embedder e;
  aiinfra_status rc = AIINFRA_OK;
  aii_embed(r->question, strlen(r->question), r->vector);
  if (r->opts->mode == AIINFRA_RECALL_WORDS || r->opts->as_of_ms != 0 || r->opts->known_at_ms != 0) return rc;
  rc = aii_dense_ready(r->memory, &r->dense, &e, err);
  if (rc != AIINFRA_OK || r->dense == NULL) return rc;
  r->dense_vector = aii_new_array(&r->memory->db->rt->mem, r->dense->dims, sizeof *r->dense_vector);
  if (r->dense_vector == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a question");
  return aii_dense_question(r->dense, &e, r->question, r->dense_vector, err);
}

aiinfra_status aii_memory_recall(aiinfra_memory *memory, const char *question, const aiinfra_recall_opts *opts,
                                 aii_buf *json, aiinfra_error *err)
{
  recall r = {.memory = memory, .opts = opts, .question = question};
  aii_mem *mem = &memory->db->rt->mem;
  size_t depth = (size_t)3 * opts->k;
  bool enough = false, past = opts->as_of_ms != 0 || opts->known_at_ms != 0;
  aii_buf_init(&r.payload, mem, 0);
  aii_buf_init(&r.story, mem, 0);
  aiinfra_status rc = AIINFRA_OK;
  if (opts->filter_json != NULL) rc = aii_filter_compile(mem, opts->filter_json, &r.filter, err);
  if (rc == AIINFRA_OK && past) rc = aii_memory_open_past(memory, false, err);
  if (rc == AIINFRA_OK) rc = embed(&r, err);
  while (rc == AIINFRA_OK && !enough) {
    rc = attempt(&r, depth, &enough, err);
    if (rc == AIINFRA_OK && !enough) rc = deepen(&r, &depth, &enough, err);
  }
  if (rc == AIINFRA_OK) {
    sort(r.all, r.n);
    rc = tell(&r, json, err);
  }
  if (rc == AIINFRA_OK && opts->explain != NULL) rc = explain(&r, err);
  aii_del(mem, r.all, r.cap * sizeof *r.all);
  if (r.dense_vector != NULL) aii_del(mem, r.dense_vector, r.dense->dims * sizeof *r.dense_vector);
  aii_filter_free(r.filter);
  aii_buf_free(&r.payload);
  aii_buf_free(&r.story);
  return rc;
}
