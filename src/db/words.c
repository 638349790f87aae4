/* words.c - the words of rows that come from elsewhere: another node's, another database's.
 *
 * Each collection has its own table of words, named by its number, which knows rows by their number. An entry can only
 * be taken out by the text that it was made from. In the caller's write transaction, with the connection's lock held.
 */
#include <stdio.h>

#include "src/db/db.h"

void aii_words_close(aii_words *w)
{
  aii_stmt_free(w->insert);
  aii_stmt_free(w->remove);
  w->insert = w->remove = NULL;
}

static aiinfra_status words_of(aii_words *w, int64_t collection, aiinfra_error *err)
{
  char text[192];
  if (w->insert != NULL && w->collection == collection) return AIINFRA_OK;
  aii_words_close(w);
  w->collection = collection;
  (void)snprintf(text, sizeof text, AII_WORDS_INSERT, (long long)collection);
  aiinfra_status rc = aii_sql_prepare_once(w->sql, text, &w->insert, err);
  (void)snprintf(text, sizeof text, AII_WORDS_DELETE, (long long)collection, (long long)collection);
  return rc == AIINFRA_OK ? aii_sql_prepare_once(w->sql, text, &w->remove, err) : rc;
}

/* Of a row that the statement gives: row, collection, text, keywords. */
aiinfra_status aii_words_write(aii_words *w, aii_stmt *from, bool add, aiinfra_error *err)
{
  size_t text_n, keywords_n;
  const char *text = aii_stmt_get_text(from, 2, &text_n), *keywords = aii_stmt_get_text(from, 3, &keywords_n);
  if (text_n == 0 && keywords_n == 0) return AIINFRA_OK;
  aiinfra_status rc = words_of(w, aii_stmt_get_int(from, 1), err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt *stmt = add ? w->insert : w->remove;
  aii_stmt_int(stmt, 1, aii_stmt_get_int(from, 0));
  aii_stmt_text(stmt, 2, text, text_n);
  aii_stmt_text(stmt, 3, keywords, keywords_n);
  return aii_stmt_run(stmt, err);
}

aiinfra_status aii_words_of_row(aii_words *w, int64_t row, bool add, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool found;
  aiinfra_status rc =
      aii_sql_prepare(w->sql, "SELECT row, collection, text, keywords FROM rows WHERE row = ?1", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, row);
  rc = aii_stmt_step(stmt, &found, err);
  if (rc == AIINFRA_OK && found) rc = aii_words_write(w, stmt, add, err);
  aii_stmt_reset(stmt);
  return rc;
}
