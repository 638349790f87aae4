/* summary.c - conversations in short: the sentences that say most of what was said, without a model.
 *
 * A chunk of messages becomes sentences, each with its speaker. A sentence weighs what it shares with all others, by
 * vector, a little more when it is early; the heaviest one that repeats nothing of those taken before is taken, until the
 * room is full; those taken are told in their order. The summary is a row beside the messages, which stay as they are.
 *
 * Chunks are summarised one after the other, each in a transaction of its own: whoever is stopped goes on later. A
 * chunk is closed, so that a summary never grows stale. Any thread.
 */
#include "lib/json/json.h"
#include "src/memory/memory.h"

enum { MOST_SENTENCES = 256, LEAST_BYTES = 12, MOST_BYTES = 480 };
static const float repeats = 0.7f; /* cosine of two sentences of which one is enough */

/* ---- sentences ------------------------------------------------------------------------------------------------------------ */

typedef struct sentence {
  const char *s;
  size_t n;
  float vector[AII_EMBED_DIMS];
  double weight;
  bool taken;
} sentence;

static size_t sentence_end(const char *s, size_t n)
{
  size_t i = 0;
  while (i < n && s[i] != '\n') {
    bool stop = strchr(".!?", s[i]) != NULL && (i + 1 == n || s[i + 1] == ' ' || s[i + 1] == '\n');
    i++;
    if (stop) break;
  }
  return i;
}

static size_t cut(const char *text, size_t n, sentence *out)
{
  size_t found = 0;
  for (size_t at = 0; at < n && found < MOST_SENTENCES;) {
    size_t len = sentence_end(text + at, n - at);
    if (len >= LEAST_BYTES && len <= MOST_BYTES) {
      out[found] = (sentence){.s = text + at, .n = len};
      aii_embed(text + at, len, out[found++].vector);
    }
    at += len;
    while (at < n && strchr(" \n\t", text[at]) != NULL) at++;
  }
  return found;
}

static void weigh(sentence *all, size_t n)
{
  float centre[AII_EMBED_DIMS] = {0};
  for (size_t i = 0; i < n; i++) {
    for (size_t k = 0; k < AII_EMBED_DIMS; k++) centre[k] += all[i].vector[k];
  }
  for (size_t i = 0; i < n; i++) {
    double early = 1.0 + 0.2 * (double)(n - i) / (double)n;
    all[i].weight = (double)aii_embed_dot(all[i].vector, centre) * early;
  }
}

static bool is_repeated(const sentence *all, size_t n, const sentence *one)
{
  for (size_t i = 0; i < n; i++) {
    if (all[i].taken && aii_embed_dot(all[i].vector, one->vector) >= repeats) return true;
  }
  return false;
}

static void choose(sentence *all, size_t n, size_t max)
{
  for (size_t used = 0;;) {
    sentence *best = NULL;
    for (size_t i = 0; i < n; i++) {
      if (all[i].taken || all[i].weight < 0 || used + all[i].n + 1 > max) continue;
      if (best == NULL || all[i].weight > best->weight) best = &all[i];
    }
    if (best == NULL) return;
    if (is_repeated(all, n, best)) {
      best->weight = -1;
      continue;
    }
    best->taken = true;
    used += best->n + 1;
  }
}

aiinfra_status aii_extract(aii_mem *mem, const char *text, size_t n, size_t max, aii_buf *out, aiinfra_error *err)
{
  sentence *all = aii_new_array(mem, MOST_SENTENCES, sizeof *all);
  if (all == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a summary");
  size_t found = cut(text, n, all);
  weigh(all, found);
  choose(all, found, max);
  for (size_t i = 0; i < found; i++) {
    if (!all[i].taken) continue;
    if (out->len > 0) aii_buf_char(out, '\n');
    aii_buf_add(out, all[i].s, all[i].n);
  }
  aii_del(mem, all, MOST_SENTENCES * sizeof *all);
  return out->failed ? aii_fail(err, AIINFRA_ENOMEM, "no memory for a summary") : AIINFRA_OK;
}

/* ---- chunks ----------------------------------------------------------------------------------------------------------------- */

/* What was said in it, a line for each sentence: "user: I live in Rome." */
static void add_message(const char *message, aii_buf *out)
{
  json_t *json = NULL;
  if (aii_json_parse(message, strlen(message), "message", 0, &json, NULL) != AIINFRA_OK) return;
  const char *role = json_string_value(json_object_get(json, "role"));
  const json_t *content = json_object_get(json, "content");
  const char *s = json_string_value(content);
  bool spoken = role != NULL && (strcmp(role, "user") == 0 || strcmp(role, "assistant") == 0);
  for (size_t at = 0, n = json_string_length(content); spoken && s != NULL && at < n;) {
    size_t len = sentence_end(s + at, n - at);
    aii_buf_fmt(out, "%s: ", role);
    aii_buf_add(out, s + at, len);
    aii_buf_char(out, '\n');
    at += len;
    while (at < n && strchr(" \n\t", s[at]) != NULL) at++;
  }
  json_decref(json);
}

/* The next chunk that has no summary and is not among the last messages. *last 0: none. */
static aiinfra_status find_chunk(aiinfra_memory *memory, const char *conversation, const aiinfra_summarise_opts *opts,
                                 int64_t *first, int64_t *last, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  aiinfra_status rc =
      aii_sql_prepare(memory->db->sql,
                      "SELECT (SELECT coalesce(max(last_seq), 0) FROM summaries WHERE scope = ?1 AND conversation = "
                      "?2), (SELECT coalesce(max(seq), 0) FROM messages WHERE scope = ?1 AND conversation = ?2)",
                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, memory->scope);
  aii_stmt_text(stmt, 2, conversation, strlen(conversation));
  rc = aii_stmt_step(stmt, &row, err);
  *last = 0;
  if (rc == AIINFRA_OK && row) {
    *first = aii_stmt_get_int(stmt, 0) + 1;
    int64_t end = *first + (int64_t)opts->chunk - 1;
    if (end <= aii_stmt_get_int(stmt, 1) - (int64_t)opts->keep_last) *last = end;
  }
  aii_stmt_reset(stmt);
  return rc;
}

static aiinfra_status read_chunk(aiinfra_memory *memory, const char *conversation, int64_t first, int64_t last,
                                 aii_buf *out, size_t *n, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = true;
  aiinfra_status rc = aii_sql_prepare(memory->db->sql,
                                      "SELECT message FROM messages WHERE scope = ?1 AND conversation = ?2 AND seq "
                                      "BETWEEN ?3 AND ?4 ORDER BY seq",
                                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, memory->scope);
  aii_stmt_text(stmt, 2, conversation, strlen(conversation));
  aii_stmt_int(stmt, 3, first);
  aii_stmt_int(stmt, 4, last);
  while (rc == AIINFRA_OK && row) {
    rc = aii_stmt_step(stmt, &row, err);
    if (rc != AIINFRA_OK || !row) break;
    add_message(aii_stmt_get_text(stmt, 0, NULL), out);
    (*n)++;
  }
  aii_stmt_reset(stmt);
  return rc == AIINFRA_OK && out->failed ? aii_fail(err, AIINFRA_ENOMEM, "no memory for a conversation") : rc;
}

static aiinfra_status write_summary(aiinfra_memory *memory, const char *conversation, int64_t first, int64_t last,
                                    const char *text, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc = aii_sql_prepare(memory->db->sql,
                                      "INSERT INTO summaries(scope, conversation, first_seq, last_seq, text, "
                                      "created_ms) VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
                                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, memory->scope);
  aii_stmt_text(stmt, 2, conversation, strlen(conversation));
  aii_stmt_int(stmt, 3, first);
  aii_stmt_int(stmt, 4, last);
  aii_stmt_text(stmt, 5, text, strlen(text));
  aii_stmt_int(stmt, 6, aii_unix_ms());
  return aii_stmt_run(stmt, err);
}

/* One chunk, inside a transaction. *more: there was one. */
static aiinfra_status summarise_next(aiinfra_memory *memory, const char *conversation,
                                     const aiinfra_summarise_opts *opts, bool *more, aiinfra_error *err)
{
  aii_mem *mem = &memory->db->rt->mem;
  aii_buf said, summary;
  int64_t first = 0, last = 0;
  size_t n = 0;
  aiinfra_status rc = find_chunk(memory, conversation, opts, &first, &last, err);
  *more = rc == AIINFRA_OK && last != 0;
  if (!*more) return rc;
  aii_buf_init(&said, mem, 0);
  aii_buf_init(&summary, mem, 0);
  rc = read_chunk(memory, conversation, first, last, &said, &n, err);
  if (rc == AIINFRA_OK) rc = aii_extract(mem, aii_buf_cstr(&said), said.len, opts->max_bytes, &summary, err);
  if (rc == AIINFRA_OK) rc = write_summary(memory, conversation, first, last, aii_buf_cstr(&summary), err);
  aii_buf_free(&said);
  aii_buf_free(&summary);
  return rc;
}

static aiinfra_status end(aiinfra_memory *memory, aiinfra_status rc, aiinfra_error *err)
{
  if (rc == AIINFRA_OK) return aii_sql_commit(memory->db->sql, err);
  aii_sql_rollback(memory->db->sql);
  return rc;
}

aiinfra_status aii_memory_summarise(aiinfra_memory *memory, const char *conversation,
                                    const aiinfra_summarise_opts *opts, uint64_t *n, aiinfra_error *err)
{
  aiinfra_status rc = AIINFRA_OK;
  for (bool more = true; rc == AIINFRA_OK && more;) {
    aii_sql_lock(memory->db->sql);
    rc = aii_sql_begin(memory->db->sql, err);
    if (rc == AIINFRA_OK) rc = end(memory, summarise_next(memory, conversation, opts, &more, err), err);
    aii_sql_unlock(memory->db->sql);
    if (rc == AIINFRA_OK && more) (*n)++;
  }
  return rc;
}

/* ---- summaries of others ------------------------------------------------------------------------------------------------------ */

/* Removes those inside the range; *partly: one that reaches out of it is there. */
static aiinfra_status make_room(aiinfra_memory *memory, const char *conversation, int64_t first, int64_t last,
                                bool *partly, aiinfra_error *err)
{
  static const char overlap[] =
      "SELECT 1 FROM summaries WHERE scope = ?1 AND conversation = ?2 AND first_seq <= ?4 AND "
      "last_seq >= ?3 AND NOT (first_seq >= ?3 AND last_seq <= ?4)",
                    inside[] = "DELETE FROM summaries WHERE scope = ?1 AND conversation = ?2 AND first_seq >= ?3 AND "
                               "last_seq <= ?4";
  const char *const both[] = {overlap, inside};
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; rc == AIINFRA_OK && i < 2 && !*partly; i++) {
    aii_stmt *stmt;
    rc = aii_sql_prepare(memory->db->sql, both[i], &stmt, err);
    if (rc != AIINFRA_OK) break;
    aii_stmt_int(stmt, 1, memory->scope);
    aii_stmt_text(stmt, 2, conversation, strlen(conversation));
    aii_stmt_int(stmt, 3, first);
    aii_stmt_int(stmt, 4, last);
    if (i == 1) {
      rc = aii_stmt_run(stmt, err);
    } else {
      rc = aii_stmt_step(stmt, partly, err);
      aii_stmt_reset(stmt);
    }
  }
  return rc;
}

static aiinfra_status add(aiinfra_memory *memory, const char *conversation, int64_t first, int64_t last,
                          const char *text, aiinfra_error *err)
{
  aii_buf said;
  size_t n = 0;
  bool partly = false;
  aii_buf_init(&said, &memory->db->rt->mem, 0);
  aiinfra_status rc = read_chunk(memory, conversation, first, last, &said, &n, err);
  aii_buf_free(&said);
  if (rc == AIINFRA_OK && n != (size_t)(last - first) + 1)
    rc = aii_fail(err, AIINFRA_ENOENT, "the conversation has no messages %lld to %lld", (long long)first,
                  (long long)last);
  if (rc == AIINFRA_OK) rc = make_room(memory, conversation, first, last, &partly, err);
  if (rc == AIINFRA_OK && partly) rc = aii_fail(err, AIINFRA_EEXIST, "another summary has a part of these messages");
  return rc == AIINFRA_OK ? write_summary(memory, conversation, first, last, text, err) : rc;
}

aiinfra_status aii_memory_add_summary(aiinfra_memory *memory, const char *conversation, int64_t first, int64_t last,
                                      const char *text, aiinfra_error *err)
{
  aii_sql_lock(memory->db->sql);
  aiinfra_status rc = aii_sql_begin(memory->db->sql, err);
  if (rc == AIINFRA_OK) rc = end(memory, add(memory, conversation, first, last, text, err), err);
  aii_sql_unlock(memory->db->sql);
  return rc;
}

aiinfra_status aii_memory_summaries(aiinfra_memory *memory, const char *conversation, aii_buf *json, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = true, first = true;
  size_t n;
  aii_buf_char(json, '[');
  aii_sql_lock(memory->db->sql);
  aiinfra_status rc = aii_sql_prepare(memory->db->sql,
                                      "SELECT first_seq, last_seq, created_ms, text FROM summaries WHERE scope = ?1 "
                                      "AND conversation = ?2 ORDER BY first_seq",
                                      &stmt, err);
  if (rc == AIINFRA_OK) {
    aii_stmt_int(stmt, 1, memory->scope);
    aii_stmt_text(stmt, 2, conversation, strlen(conversation));
    while (rc == AIINFRA_OK && row) {
      rc = aii_stmt_step(stmt, &row, err);
      if (rc != AIINFRA_OK || !row) break;
      aii_buf_fmt(json, "%s{\"first_seq\":%lld,\"last_seq\":%lld,\"created_ms\":%lld,\"text\":", first ? "" : ",",
                  (long long)aii_stmt_get_int(stmt, 0), (long long)aii_stmt_get_int(stmt, 1),
                  (long long)aii_stmt_get_int(stmt, 2));
      const char *text = aii_stmt_get_text(stmt, 3, &n);
      aii_buf_json(json, text, n);
      aii_buf_char(json, '}');
      first = false;
    }
    aii_stmt_reset(stmt);
  }
  aii_sql_unlock(memory->db->sql);
  aii_buf_char(json, ']');
  return rc;
}
