/* optimise.c - gives room back: expired rows go, word indexes are merged, pages without use go back, the log goes into the file.
 *
 * Each step is a transaction of its own, the lock is free between them, and the progress is told there. A log that
 * readers still need is no failure: the result says that it is busy. Any thread, no lock held.
 */
#include <stdio.h>

#include "src/db/db.h"

enum { PURGE_ROWS = 1000 }; /* that one transaction removes */
/* Pages that one transaction gives back. */
#define FREE_PAGES "PRAGMA incremental_vacuum(1024)"

typedef struct work {
  aiinfra_db *db;
  const aiinfra_db_optimise_opts *opts;
  int64_t *ids; /* of collections */
  size_t n, cap;
  uint64_t n_expired;
  bool busy;
} work;

static aiinfra_status take_collection(void *ctx, int64_t id, aiinfra_error *err)
{
  work *w = ctx;
  if (!aii_grow(&w->db->rt->mem, &w->ids, &w->cap, w->n + 1, sizeof *w->ids)) {
    return aii_fail(err, AIINFRA_ENOMEM, "no memory for %zu collections", w->n + 1);
  }
  w->ids[w->n++] = id;
  return AIINFRA_OK;
}

static aiinfra_status tell(const work *w, double fraction, aiinfra_error *err)
{
  if (w->opts->progress == NULL || w->opts->progress(w->opts->progress_user, fraction) == 0) return AIINFRA_OK;
  return aii_fail(err, AIINFRA_ECANCELED, "the progress callback asked for it");
}

static aiinfra_status exec(const work *w, const char *statement, aiinfra_error *err)
{
  aii_sql_lock(w->db->sql);
  aiinfra_status rc = aii_sql_exec(w->db->sql, statement, err);
  aii_sql_unlock(w->db->sql);
  return rc;
}

static aiinfra_status ask(const work *w, const char *query, int64_t *value, aiinfra_error *err)
{
  aii_sql_lock(w->db->sql);
  aiinfra_status rc = aii_db_ask_int(w->db->sql, query, value, err);
  aii_sql_unlock(w->db->sql);
  return rc;
}

static aiinfra_status list_collections(work *w, aiinfra_error *err)
{
  aii_sql_lock(w->db->sql);
  aiinfra_status rc = aii_db_each_collection(w->db->sql, take_collection, w, err);
  aii_sql_unlock(w->db->sql);
  return rc;
}

/* *n: rows that went, in one transaction. */
static aiinfra_status purge_some(work *w, int64_t collection, uint64_t *n, aiinfra_error *err)
{
  aii_sql *sql = w->db->sql;
  aii_sql_lock(sql);
  aiinfra_status rc = aii_sql_begin(sql, err);
  if (rc == AIINFRA_OK) {
    rc = aii_db_purge(sql, collection, aii_unix_ms(), PURGE_ROWS, n, err);
    if (rc == AIINFRA_OK) rc = aii_sql_commit(sql, err);
    else aii_sql_rollback(sql);
  }
  aii_sql_unlock(sql);
  if (rc == AIINFRA_OK) w->n_expired += *n;
  return rc;
}

static aiinfra_status purge_expired(work *w, aiinfra_error *err)
{
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; rc == AIINFRA_OK && i < w->n; i++) {
    uint64_t n = PURGE_ROWS;
    while (rc == AIINFRA_OK && n == PURGE_ROWS) {
      rc = purge_some(w, w->ids[i], &n, err);
      if (rc == AIINFRA_OK) rc = tell(w, 0, err);
    }
  }
  return rc;
}

static aiinfra_status merge_words(work *w, aiinfra_error *err)
{
  char text[96];
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; rc == AIINFRA_OK && i < w->n; i++) {
    long long at = (long long)w->ids[i];
    (void)snprintf(text, sizeof text, "INSERT INTO words_%lld(words_%lld) VALUES('optimize')", at, at);
    rc = exec(w, text, err);
    if (rc == AIINFRA_OK) rc = tell(w, 0.6 * (double)(i + 1) / (double)w->n, err);
  }
  return rc;
}

static aiinfra_status free_pages(work *w, aiinfra_error *err)
{
  int64_t first = 0, left = 0, before;
  aiinfra_status rc = ask(w, "PRAGMA freelist_count", &left, err);
  first = left;
  do {
    before = left;
    if (rc == AIINFRA_OK && left > 0) rc = exec(w, FREE_PAGES, err);
    if (rc == AIINFRA_OK) rc = ask(w, "PRAGMA freelist_count", &left, err);
    if (rc == AIINFRA_OK && first > 0) rc = tell(w, 0.6 + 0.3 * (double)(first - left) / (double)first, err);
  } while (rc == AIINFRA_OK && left > 0 && left < before);
  return rc;
}

static aiinfra_status empty_log(work *w, aiinfra_error *err)
{
  int64_t busy = 0;
  aiinfra_status rc = ask(w, "PRAGMA wal_checkpoint(TRUNCATE)", &busy, err);
  w->busy = busy != 0;
  return rc;
}

static aiinfra_status bytes_of(const work *w, int64_t *bytes, aiinfra_error *err)
{
  return ask(w, "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", bytes, err);
}

aiinfra_status aii_db_optimise(aiinfra_db *db, const aiinfra_db_optimise_opts *opts, aii_buf *json, aiinfra_error *err)
{
  work w = {.db = db, .opts = opts};
  int64_t before = 0, after = 0;
  aiinfra_status rc = bytes_of(&w, &before, err);
  if (rc == AIINFRA_OK) rc = list_collections(&w, err);
  if (rc == AIINFRA_OK) rc = purge_expired(&w, err);
  if (rc == AIINFRA_OK) rc = merge_words(&w, err);
  if (rc == AIINFRA_OK) rc = opts->rewrite == 1 ? exec(&w, "VACUUM", err) : free_pages(&w, err);
  if (rc == AIINFRA_OK) rc = exec(&w, "PRAGMA optimize", err);
  if (rc == AIINFRA_OK) rc = empty_log(&w, err);
  if (rc == AIINFRA_OK) rc = bytes_of(&w, &after, err);
  if (rc == AIINFRA_OK) rc = tell(&w, 1, err);
  aii_del(&db->rt->mem, w.ids, w.cap * sizeof *w.ids);
  aii_buf_fmt(json, "{\"bytes_before\":%lld,\"bytes_after\":%lld,\"busy\":%s,\"expired\":%llu}", (long long)before,
              (long long)after, w.busy ? "true" : "false", (unsigned long long)w.n_expired);
  return rc;
}
