/* words.c - keywords: cutting text into words, and finding rows by them with FTS5's BM25.
 *
 * A query never reaches FTS5 as the user wrote it: its words are quoted one by one and joined by OR, so that no
 * character of it is syntax. Words that a question is made of ("what is the ... of") are left out, since they would
 * find everything; a query of nothing else keeps them. Any thread; the database part in a view of the rows.
 */
#include <strings.h>
#include <utf8proc.h>

#include "src/vector/vector.h"

enum { MAX_WORDS = 64 }; /* of a query */

/* Sorted, for the binary search. */
static const char *const STOP[] = {
    "a",     "about", "after", "all",  "also",  "am",   "an",   "and",   "any",  "are",   "as",    "at",     "be",
    "been",  "but",   "by",    "can",  "could", "did",  "do",   "does",  "for",  "from",  "had",   "has",    "have",
    "he",    "her",   "here",  "him",  "his",   "how",  "i",    "if",    "in",   "into",  "is",    "it",     "its",
    "me",    "my",    "no",    "not",  "of",    "on",   "or",   "our",   "s",    "shall", "she",   "should", "so",
    "some",  "such",  "t",     "tell", "than",  "that", "the",  "their", "them", "then",  "there", "these",  "they",
    "this",  "those", "to",    "us",   "was",   "we",   "were", "what",  "when", "where", "which", "who",    "whom",
    "whose", "why",   "will",  "with", "would", "you",  "your",
};

bool aii_word_is_stop(const char *word, size_t n)
{
  size_t from = 0, to = AII_COUNT(STOP);
  while (from < to) {
    size_t at = (from + to) / 2;
    int order = strncasecmp(word, STOP[at], n);
    if (order == 0 && STOP[at][n] != '\0') order = -1; /* a beginning of it */
    if (order == 0) return true;
    if (order < 0) to = at;
    else from = at + 1;
  }
  return false;
}

/* Letters, marks and numbers, as FTS5's unicode61 has it. */
static bool is_word_char(uint32_t cp)
{
  if (cp < 0x80) return (cp >= '0' && cp <= '9') || (cp >= 'A' && cp <= 'Z') || (cp >= 'a' && cp <= 'z');
  utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)cp);
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NO;
}

bool aii_word_next(const char *s, size_t n, size_t *at, const char **word, size_t *word_n)
{
  size_t start = n, i = *at;
  while (i < n) {
    uint32_t cp = 0;
    int len = aii_utf8_decode(s + i, n - i, &cp);
    bool inside = len > 0 && is_word_char(cp);
    if (inside && start == n) start = i;
    if (!inside && start < n) break;
    i += len > 0 ? (size_t)len : 1;
  }
  *at = i;
  *word = s + start;
  *word_n = i - start;
  return start < n;
}

static size_t add_words(const char *text, bool stops, aii_buf *query)
{
  const char *word;
  size_t at = 0, n, n_words = 0, text_n = strlen(text);
  while (n_words < MAX_WORDS && aii_word_next(text, text_n, &at, &word, &n)) {
    if (!stops && aii_word_is_stop(word, n)) continue;
    aii_buf_str(query, n_words++ > 0 ? " OR \"" : "\"");
    aii_buf_add(query, word, n);
    aii_buf_char(query, '"');
  }
  return n_words;
}

void aii_words_query(const char *text, aii_buf *query)
{
  if (add_words(text, false, query) == 0) (void)add_words(text, true, query);
}

/* Reads hits, best first, until cap of them passed. */
static aiinfra_status read_hits(const aiinfra_vecstore *store, aii_stmt *stmt, const uint64_t *allow, aii_near *hits,
                                size_t cap, size_t *n, aiinfra_error *err)
{
  bool row = true;
  aiinfra_status rc = AIINFRA_OK;
  while (*n < cap) {
    rc = aii_stmt_step(stmt, &row, err);
    if (rc != AIINFRA_OK || !row) break;
    aii_near hit = {.id = aii_stmt_get_int(stmt, 0), .dist = (float)aii_stmt_get_real(stmt, 1)};
    hit.slot = aii_idmap_get(&store->index.map, hit.id);
    if (allow != NULL && (hit.slot >= store->index.n || !aii_bit(allow, hit.slot))) continue;
    hits[(*n)++] = hit;
  }
  return rc;
}

aiinfra_status aii_words_find(const aiinfra_vecstore *store, aii_sql *sql, const char *text, const uint64_t *allow,
                              aii_near *hits, size_t cap, size_t *n, aiinfra_error *err)
{
  aii_buf query;
  aii_stmt *stmt = NULL;
  aiinfra_status rc = AIINFRA_OK;
  *n = 0;
  aii_buf_init(&query, &store->db->rt->mem, 0);
  aii_words_query(text, &query);
  if (query.failed) rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for a keyword query");
  if (rc == AIINFRA_OK && query.len > 0 && store->collection != 0) {
    rc = aii_sql_prepare_once(sql, store->words_find, &stmt, err);
    if (rc == AIINFRA_OK) {
      aii_stmt_text(stmt, 1, query.data, query.len);
      aii_stmt_int(stmt, 2, store->expiry.now_ms());
      rc = read_hits(store, stmt, allow, hits, cap, n, err);
    }
  }
  aii_stmt_free(stmt);
  aii_buf_free(&query);
  return rc;
}
