/* expire.c - removes rows whose time has passed, for good: with their vectors, words and counts.
 *
 * Who reads rows leaves expired ones out already; this gives their room back. It goes row by row, the longest expired
 * first, so that a write can do a little of it and optimise.c the rest. Who keeps a copy in memory knows when its rows
 * expire and needs no notice, unless it has not yet seen a row that is gone by now: for those the collection remembers
 * the newest seq of all rows that were removed here, `purged_seq`.
 *
 * A full-text entry is taken out by giving FTS5 the very text it was made from. Any thread, with the connection's lock held,
 * inside the caller's transaction.
 */
#include <stdio.h>

#include "src/db/db.h"

typedef struct purge {
  aii_sql *sql;
  int64_t collection, now_ms;
  aii_stmt *words; /* not cached: it names the collection's table */
  int64_t max_seq;
} purge;

static aiinfra_status take_words(purge *p, aii_stmt *row, aiinfra_error *err)
{
  char text[128];
  size_t text_n, keywords_n;
  long long at = (long long)p->collection;
  const char *words = aii_stmt_get_text(row, 2, &text_n), *keywords = aii_stmt_get_text(row, 3, &keywords_n);
  aiinfra_status rc = AIINFRA_OK;
  if (text_n == 0 && keywords_n == 0) return rc;
  if (p->words == NULL) {
    (void)snprintf(text, sizeof text,
                   "INSERT INTO words_%lld(words_%lld, rowid, text, keywords) VALUES('delete', ?1, ?2, ?3)", at, at);
    rc = aii_sql_prepare_once(p->sql, text, &p->words, err);
    if (rc != AIINFRA_OK) return rc;
  }
  aii_stmt_int(p->words, 1, aii_stmt_get_int(row, 0));
  aii_stmt_text(p->words, 2, words, text_n);
  aii_stmt_text(p->words, 3, keywords, keywords_n);
  return aii_stmt_run(p->words, err);
}

/* The row that expired first; *row is 0 when there is none. */
static aiinfra_status remove_first(purge *p, int64_t *row, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool found;
  *row = 0;
  aiinfra_status rc = aii_sql_prepare(p->sql,
                                      "SELECT row, seq, text, keywords FROM rows "
                                      "WHERE collection = ?1 AND expires_ms <= ?2 ORDER BY expires_ms LIMIT 1",
                                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, p->collection);
  aii_stmt_int(stmt, 2, p->now_ms);
  rc = aii_stmt_step(stmt, &found, err);
  if (rc == AIINFRA_OK && found) {
    *row = aii_stmt_get_int(stmt, 0);
    p->max_seq = AII_MAX(p->max_seq, aii_stmt_get_int(stmt, 1));
    rc = take_words(p, stmt, err);
  }
  aii_stmt_reset(stmt);
  if (rc != AIINFRA_OK || *row == 0) return rc;
  rc = aii_sql_prepare(p->sql, "DELETE FROM rows WHERE row = ?1", &stmt, err); /* its vector goes along */
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, *row);
  return aii_stmt_run(stmt, err);
}

static aiinfra_status count_them(const purge *p, int64_t n, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc = aii_sql_prepare(
      p->sql, "UPDATE collections SET n_rows = n_rows - ?2, purged_seq = max(purged_seq, ?3) WHERE id = ?1", &stmt,
      err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, p->collection);
  aii_stmt_int(stmt, 2, n);
  aii_stmt_int(stmt, 3, p->max_seq);
  return aii_stmt_run(stmt, err);
}

aiinfra_status aii_db_purge(aii_sql *sql, int64_t collection, int64_t now_ms, uint64_t limit, uint64_t *n,
                            aiinfra_error *err)
{
  purge p = {.sql = sql, .collection = collection, .now_ms = now_ms};
  int64_t row = 1;
  aiinfra_status rc = AIINFRA_OK;
  for (*n = 0; rc == AIINFRA_OK && *n < limit;) {
    rc = remove_first(&p, &row, err);
    if (row == 0) break;
    *n += rc == AIINFRA_OK;
  }
  aii_stmt_free(p.words);
  return rc == AIINFRA_OK && *n > 0 ? count_them(&p, (int64_t)*n, err) : rc;
}
