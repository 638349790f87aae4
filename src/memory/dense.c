/* dense.c - other ways to embed than the one that needs no model: a second index beside the scope's collection.
 *
 * The collection of a scope always has the vectors that need no model. An embedder adds a collection with nothing but
 * its own vectors, by the items' ids. So everything works without it: what is written now gets its vector at the next
 * search that has the embedder, what is forgotten is taken out at once, and a program that knows no embedder still finds
 * all by the vectors that it can make itself.
 *
 *   filling --complete--> active --another one is complete--> gone
 *
 * Moving to an embedder fills its index in batches, each in a transaction of its own: whatever ends it, the next try goes
 * on behind what is there. Searches use the old one until the new one is complete. The table has, for each, the count of
 * the collection's writes up to which it is complete; what was written later is what is still to be done.
 *
 * What can fail: the embedder, the database, memory. Any thread; the list of indexes is guarded by the connection's lock.
 */
#include <math.h>
#include <stdlib.h>

#include "src/memory/memory.h"

enum { BATCH = 32, FUSE_DEPTH = 60, RRF_K = 60 };

/* ---- the indexes of a scope ---------------------------------------------------------------------------------------- */

static aiinfra_status open_index(aiinfra_memory *memory, const char *name, uint32_t dims, aii_dense **out,
                                 aiinfra_error *err)
{
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aii_mem *mem = &memory->db->rt->mem;
  aii_dense *dense = aii_new(mem, sizeof *dense);
  aii_buf full;
  *out = NULL;
  aii_buf_init(&full, mem, 0);
  aii_buf_fmt(&full, "@memory/by/%s/%s", name, memory->name);
  if (dense == NULL || full.failed) {
    aii_del(mem, dense, sizeof *dense);
    aii_buf_free(&full);
    return aii_fail(err, AIINFRA_ENOMEM, "no memory for an index");
  }
  opts.dims = dense->dims = dims;
  opts.metric = AIINFRA_METRIC_COSINE;
  memcpy(dense->name, name, strlen(name) + 1);
  aiinfra_status rc = aii_vecstore_open(memory->db, aii_buf_cstr(&full), &opts, &dense->store, err);
  aii_buf_free(&full);
  if (rc == AIINFRA_OK) *out = dense;
  else aii_del(mem, dense, sizeof *dense);
  return rc;
}

/* Lock held. */
static aii_dense *listed(aiinfra_memory *memory, const char *name)
{
  aii_dense *dense = memory->dense;
  while (dense != NULL && strcmp(dense->name, name) != 0) dense = dense->next;
  return dense;
}

/* The index of an embedder, opened if it is not yet. No lock held. */
static aiinfra_status get_index(aiinfra_memory *memory, const char *name, uint32_t dims, aii_dense **out,
                                aiinfra_error *err)
{
  aii_dense *dense;
  aii_sql_lock(memory->db->sql);
  *out = listed(memory, name);
  aii_sql_unlock(memory->db->sql);
  if (*out != NULL && (*out)->dims != dims)
    return aii_fail(err, AIINFRA_EINVAL, "the embedder %s has %u dimensions here, not %u: give it another name", name,
                    (*out)->dims, dims);
  if (*out != NULL) return AIINFRA_OK;
  aiinfra_status rc = open_index(memory, name, dims, &dense, err);
  if (rc != AIINFRA_OK) return rc;
  aii_sql_lock(memory->db->sql);
  *out = listed(memory, name);
  if (*out == NULL) {
    dense->next = memory->dense;
    memory->dense = *out = dense;
    dense = NULL;
  }
  aii_sql_unlock(memory->db->sql);
  aii_dense_free(memory, dense); /* another thread was faster */
  return AIINFRA_OK;
}

void aii_dense_free(aiinfra_memory *memory, aii_dense *dense)
{
  while (dense != NULL) {
    aii_dense *next = dense->next;
    aii_vecstore_free(dense->store);
    aii_del(&memory->db->rt->mem, dense, sizeof *dense);
    dense = next;
  }
}

static aiinfra_status prepare(aiinfra_memory *memory, const char *sql, const char *name, aii_stmt **stmt,
                              aiinfra_error *err)
{
  aiinfra_status rc = aii_sql_prepare(memory->db->sql, sql, stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(*stmt, 1, memory->scope);
  aii_stmt_text(*stmt, 2, name, strlen(name));
  return AIINFRA_OK;
}

/* The n-th embedder of the scope; *row false: there are not so many. No lock held. */
static aiinfra_status nth(aiinfra_memory *memory, size_t n, char name[AII_EMBEDDER_NAME], uint32_t *dims, bool *row,
                          aiinfra_error *err)
{
  aii_stmt *stmt;
  size_t length;
  aii_sql_lock(memory->db->sql);
  aiinfra_status rc = aii_sql_prepare(
      memory->db->sql, "SELECT name, dims FROM embedders WHERE scope = ?1 ORDER BY name LIMIT 1 OFFSET ?2", &stmt, err);
  if (rc == AIINFRA_OK) {
    aii_stmt_int(stmt, 1, memory->scope);
    aii_stmt_int(stmt, 2, (int64_t)n);
    rc = aii_stmt_step(stmt, row, err);
    if (rc == AIINFRA_OK && *row) {
      const char *s = aii_stmt_get_text(stmt, 0, &length);
      length = AII_MIN(length, (size_t)AII_EMBEDDER_NAME - 1);
      memcpy(name, s, length);
      name[length] = '\0';
      *dims = (uint32_t)aii_stmt_get_int(stmt, 1);
    }
    aii_stmt_reset(stmt);
  }
  aii_sql_unlock(memory->db->sql);
  return rc;
}

aiinfra_status aii_dense_refresh(aiinfra_memory *memory, aiinfra_error *err)
{
  char name[AII_EMBEDDER_NAME];
  uint32_t dims = 0;
  bool row = true;
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; rc == AIINFRA_OK && row; i++) {
    aii_dense *dense;
    rc = nth(memory, i, name, &dims, &row, err);
    if (rc == AIINFRA_OK && row) rc = get_index(memory, name, dims, &dense, err);
  }
  return rc;
}

/* *active: whether searches use it; *seq: up to where it is complete. Lock held. */
static aiinfra_status state_of(aiinfra_memory *memory, const char *name, bool *active, int64_t *seq, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  *active = false;
  *seq = 0;
  aiinfra_status rc =
      prepare(memory, "SELECT active, seq FROM embedders WHERE scope = ?1 AND name = ?2", name, &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK && row) {
    *active = aii_stmt_get_int(stmt, 0) != 0;
    *seq = aii_stmt_get_int(stmt, 1);
  }
  aii_stmt_reset(stmt);
  return rc;
}

/* ---- filling ------------------------------------------------------------------------------------------------------- */

typedef struct batch {
  aii_mem *mem;
  int64_t ids[BATCH];
  char *texts[BATCH];
  bool facts[BATCH];
  size_t n;
  int64_t seq, id;        /* of the last row that was read */
  int64_t collection_seq; /* when it was read */
} batch;

static void batch_clear(batch *b)
{
  for (size_t i = 0; i < b->n; i++) aii_strfree(b->mem, b->texts[i]);
  b->n = 0;
}

/* What is embedded of a passage are its headings and its file's name, too. */
static aiinfra_status add_row(batch *b, aii_stmt *stmt, aiinfra_error *err)
{
  size_t keywords_n, text_n, payload_n;
  aii_buf text;
  const char *keywords = aii_stmt_get_text(stmt, 2, &keywords_n);
  aii_buf_init(&text, b->mem, 0);
  if (keywords_n > 0) aii_buf_add(&text, keywords, keywords_n);
  if (keywords_n > 0) aii_buf_char(&text, '\n');
  const char *own = aii_stmt_get_text(stmt, 3, &text_n);
  if (text_n > 0) aii_buf_add(&text, own, text_n);
  const char *payload = aii_stmt_get_text(stmt, 4, &payload_n);
  char *copy = text.failed ? NULL : aii_strdup(b->mem, aii_buf_cstr(&text));
  aii_buf_free(&text);
  if (copy == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for texts to embed");
  b->seq = aii_stmt_get_int(stmt, 0);
  b->id = aii_stmt_get_int(stmt, 1);
  b->facts[b->n] = payload_n > 0 && strstr(payload, "fact") != NULL;
  b->texts[b->n] = copy;
  b->ids[b->n++] = b->id;
  return AIINFRA_OK;
}

/* The count of the collection's writes; lock held. */
static aiinfra_status seq_now(aiinfra_memory *memory, int64_t *seq, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  aiinfra_status rc = aii_sql_prepare(memory->db->sql, "SELECT seq FROM collections WHERE id = ?1", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, memory->store->collection);
  rc = aii_stmt_step(stmt, &row, err);
  *seq = rc == AIINFRA_OK && row ? aii_stmt_get_int(stmt, 0) : 0;
  aii_stmt_reset(stmt);
  return rc;
}

/* The next rows that the index lacks; lock held. */
static aiinfra_status fetch(aiinfra_memory *memory, const aii_dense *dense, batch *b, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = true;
  batch_clear(b);
  aiinfra_status rc = seq_now(memory, &b->collection_seq, err);
  if (rc == AIINFRA_OK)
    rc = aii_sql_prepare(memory->db->sql,
                         "SELECT r.seq, r.id, r.keywords, r.text, r.payload FROM rows r WHERE r.collection = ?1 "
                         "AND (r.seq, r.id) > (?3, ?4) AND NOT EXISTS(SELECT 1 FROM rows d WHERE d.collection = ?2 "
                         "AND d.id = r.id) ORDER BY r.seq, r.id LIMIT ?5",
                         &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, memory->store->collection);
  aii_stmt_int(stmt, 2, dense->store->collection);
  aii_stmt_int(stmt, 3, b->seq);
  aii_stmt_int(stmt, 4, b->id);
  aii_stmt_int(stmt, 5, BATCH);
  while (rc == AIINFRA_OK && row) {
    rc = aii_stmt_step(stmt, &row, err);
    if (rc == AIINFRA_OK && row) rc = add_row(b, stmt, err);
  }
  aii_stmt_reset(stmt);
  return rc;
}

static aiinfra_status embed(const aiinfra_embedder *e, const char *const *texts, size_t n, bool question, float *out,
                            aiinfra_error *err)
{
  if (e->embed(e->user, texts, n, question, out) != 0)
    return aii_fail(err, AIINFRA_ECANCELED, "the embedder %s failed, or was cancelled", e->name);
  return AIINFRA_OK;
}

/* Embeds the batch and writes its vectors; no lock held. */
static aiinfra_status write_batch(aii_dense *dense, const aiinfra_embedder *e, const batch *b, aiinfra_error *err)
{
  aii_record records[BATCH];
  size_t size = (size_t)dense->dims * BATCH;
  float *vectors = aii_new_array(b->mem, size, sizeof *vectors);
  if (vectors == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for vectors");
  aiinfra_status rc = embed(e, (const char *const *)b->texts, b->n, false, vectors, err);
  memset(records, 0, sizeof records);
  for (size_t i = 0; i < b->n; i++) {
    records[i].r.id = b->ids[i];
    records[i].r.vector = vectors + i * dense->dims;
    records[i].r.payload_json = b->facts[i] ? "{\"kind\":\"fact\"}" : "{\"kind\":\"passage\"}";
  }
  if (rc == AIINFRA_OK) rc = aii_vecstore_upsert(dense->store, records, b->n, err);
  aii_del(b->mem, vectors, size * sizeof *vectors);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "embed with %s", e->name);
}

typedef struct fill {
  aiinfra_progress_fn progress;
  void *user;
  uint64_t total, done, embedded;
} fill;

/* All that the index lacks. It returns with the lock held and nothing lacking, or without the lock and an error. */
static aiinfra_status fill_index(aiinfra_memory *memory, aii_dense *dense, const aiinfra_embedder *e, batch *b, fill *f,
                                 aiinfra_error *err)
{
  bool active;
  aii_sql_lock(memory->db->sql);
  aiinfra_status rc = state_of(memory, dense->name, &active, &b->seq, err);
  b->id = INT64_MAX; /* what was written with that count is there */
  if (b->seq == 0) b->id = INT64_MIN;
  for (;;) {
    if (rc == AIINFRA_OK) rc = fetch(memory, dense, b, err);
    if (rc == AIINFRA_OK && b->n == 0) return rc;
    aii_sql_unlock(memory->db->sql);
    if (rc != AIINFRA_OK) return rc;
    double done = f->total > 0 ? AII_MIN((double)f->done / (double)f->total, 1.0) : 0;
    if (f->progress != NULL && f->progress(f->user, done) != 0)
      return aii_fail(err, AIINFRA_ECANCELED, "cancelled; another call goes on behind what was done");
    rc = write_batch(dense, e, b, err);
    if (rc != AIINFRA_OK) return rc;
    f->done += b->n;
    f->embedded += b->n;
    aii_sql_lock(memory->db->sql);
  }
}

/* Ids of the index that the collection does not have, or all. Lock held; free the array with its size. */
static aiinfra_status list_ids(aiinfra_memory *memory, const aii_dense *dense, bool all, int64_t **ids, size_t *n,
                               size_t *cap, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = true;
  aiinfra_status rc = aii_sql_prepare(memory->db->sql,
                                      "SELECT d.id FROM rows d WHERE d.collection = ?2 AND (?3 OR NOT EXISTS("
                                      "SELECT 1 FROM rows r WHERE r.collection = ?1 AND r.id = d.id))",
                                      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, memory->store->collection);
  aii_stmt_int(stmt, 2, dense->store->collection);
  aii_stmt_int(stmt, 3, all);
  while (rc == AIINFRA_OK && row) {
    rc = aii_stmt_step(stmt, &row, err);
    if (rc != AIINFRA_OK || !row) break;
    if (!aii_grow(&memory->db->rt->mem, ids, cap, *n + 1, sizeof **ids))
      rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for a list of items");
    else (*ids)[(*n)++] = aii_stmt_get_int(stmt, 0);
  }
  aii_stmt_reset(stmt);
  return rc;
}

/* In the caller's transaction, lock held. */
static aiinfra_status remove_rows(aiinfra_memory *memory, const aii_dense *dense, bool all, aiinfra_error *err)
{
  int64_t *ids = NULL;
  size_t n = 0, cap = 0, removed;
  aiinfra_status rc = list_ids(memory, dense, all, &ids, &n, &cap, err);
  if (rc == AIINFRA_OK && n > 0) rc = aii_rows_remove(dense->store, ids, n, &removed, err);
  aii_del(&memory->db->rt->mem, ids, cap * sizeof *ids);
  return rc;
}

/* ---- using --------------------------------------------------------------------------------------------------------- */

/* What is complete now, in one transaction with the rows that went; lock held. */
static aiinfra_status complete(aiinfra_memory *memory, const aii_dense *dense, int64_t seq, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc = aii_sql_begin(memory->db->sql, err);
  if (rc != AIINFRA_OK) return rc;
  rc = remove_rows(memory, dense, false, err);
  if (rc == AIINFRA_OK)
    rc = prepare(memory, "UPDATE embedders SET seq = ?3 WHERE scope = ?1 AND name = ?2", dense->name, &stmt, err);
  if (rc == AIINFRA_OK) {
    aii_stmt_int(stmt, 3, seq);
    rc = aii_stmt_run(stmt, err);
  }
  if (rc == AIINFRA_OK) return aii_sql_commit(memory->db->sql, err);
  aii_sql_rollback(memory->db->sql);
  return rc;
}

aiinfra_status aii_dense_ready(aiinfra_memory *memory, aii_dense **out, aiinfra_embedder *e, aiinfra_error *err)
{
  batch b = {.mem = &memory->db->rt->mem};
  fill f = {0};
  bool active = false;
  int64_t seq = 0, now = 0;
  aii_sql_lock(memory->db->sql);
  aii_dense *dense = memory->active;
  *out = NULL;
  *e = memory->embedder;
  aiinfra_status rc = dense != NULL ? state_of(memory, dense->name, &active, &seq, err) : AIINFRA_OK;
  if (rc == AIINFRA_OK && active) rc = seq_now(memory, &now, err);
  aii_sql_unlock(memory->db->sql);
  if (rc != AIINFRA_OK || !active) return rc;
  *out = dense;
  if (seq == now) return AIINFRA_OK;
  rc = fill_index(memory, dense, e, &b, &f, err);
  if (rc == AIINFRA_OK) {
    rc = complete(memory, dense, b.collection_seq, err);
    aii_sql_unlock(memory->db->sql);
  }
  batch_clear(&b);
  return rc;
}

aiinfra_status aii_dense_question(const aii_dense *dense, const aiinfra_embedder *e, const char *question, float *out,
                                  aiinfra_error *err)
{
  aiinfra_status rc = embed(e, &question, 1, true, out, err);
  for (uint32_t i = 0; rc == AIINFRA_OK && i < dense->dims; i++) {
    if (!isfinite(out[i])) rc = aii_fail(err, AIINFRA_EINVAL, "the embedder %s gave no finite numbers", e->name);
  }
  return rc;
}

static int by_id(const void *a, const void *b)
{
  const aiinfra_hit *x = a, *y = b;
  return (x->id > y->id) - (x->id < y->id);
}

static int by_score(const void *a, const void *b)
{
  const aiinfra_hit *x = a, *y = b;
  if (x->score != y->score) return x->score > y->score ? -1 : 1;
  return by_id(a, b);
}

/* Two rankings as one, by reciprocal rank; returns how many there are. all has the first of n, then those of m. */
static size_t fuse(aiinfra_hit *all, size_t n, size_t m)
{
  size_t kept = 0;
  for (size_t i = 0; i < n + m; i++) all[i].score = 1.0f / (float)(RRF_K + all[i].rank);
  qsort(all, n + m, sizeof *all, by_id);
  for (size_t i = 0; i < n + m; i++) {
    if (kept == 0 || all[kept - 1].id != all[i].id) {
      all[kept++] = all[i];
      continue;
    }
    aiinfra_hit *one = &all[kept - 1];
    one->score += all[i].score;
    if (isnan(one->vector_score)) one->vector_score = all[i].vector_score;
    if (isnan(one->text_score)) one->text_score = all[i].text_score;
  }
  qsort(all, kept, sizeof *all, by_score);
  for (size_t i = 0; i < kept; i++) all[i].rank = (uint32_t)i + 1;
  return kept;
}

aiinfra_status aii_dense_search(aiinfra_memory *memory, const aii_dense *dense, const aiinfra_query *query,
                                aiinfra_hit *hits, size_t *n, aiinfra_error *err)
{
  aii_mem *mem = &memory->db->rt->mem;
  size_t depth = AII_MAX((size_t)4 * query->k, (size_t)FUSE_DEPTH), n_vector = 0, n_words = 0;
  aiinfra_query one = *query;
  if (query->text == NULL) return aii_vecstore_search(dense->store, query, hits, n, err);
  aiinfra_hit *all = aii_new_array(mem, 2 * depth, sizeof *all);
  *n = 0;
  if (all == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a search");
  one.k = (uint32_t)depth;
  one.text = NULL;
  aiinfra_status rc = aii_vecstore_search(dense->store, &one, all, &n_vector, err);
  one.vector = NULL;
  one.text = query->text;
  one.explain = NULL;
  if (rc == AIINFRA_OK) rc = aii_vecstore_search(memory->store, &one, all + n_vector, &n_words, err);
  if (rc == AIINFRA_OK) {
    *n = AII_MIN(fuse(all, n_vector, n_words), (size_t)query->k);
    memcpy(hits, all, *n * sizeof *hits);
  }
  aii_del(mem, all, 2 * depth * sizeof *all);
  return rc;
}

/* ---- moving -------------------------------------------------------------------------------------------------------- */

/* Makes this one the only one, name "" none at all; in the caller's transaction, lock held. */
static aiinfra_status make_active(aiinfra_memory *memory, const char *name, int64_t seq, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc = AIINFRA_OK;
  for (aii_dense *other = memory->dense; rc == AIINFRA_OK && other != NULL; other = other->next) {
    if (strcmp(other->name, name) != 0) rc = remove_rows(memory, other, true, err);
    else rc = remove_rows(memory, other, false, err);
  }
  if (rc == AIINFRA_OK) rc = prepare(memory, "DELETE FROM embedders WHERE scope = ?1 AND name <> ?2", name, &stmt, err);
  if (rc == AIINFRA_OK) rc = aii_stmt_run(stmt, err);
  if (rc == AIINFRA_OK)
    rc = prepare(memory, "UPDATE embedders SET active = 1, seq = ?3 WHERE scope = ?1 AND name = ?2", name, &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 3, seq);
  return aii_stmt_run(stmt, err);
}

/* Lock held. */
static aiinfra_status switch_to(aiinfra_memory *memory, aii_dense *dense, const aiinfra_embedder *e, int64_t seq,
                                aiinfra_error *err)
{
  aiinfra_status rc = aii_sql_begin(memory->db->sql, err);
  if (rc != AIINFRA_OK) return rc;
  rc = make_active(memory, dense != NULL ? dense->name : "", seq, err);
  if (rc == AIINFRA_OK) rc = aii_sql_commit(memory->db->sql, err);
  else aii_sql_rollback(memory->db->sql);
  if (rc != AIINFRA_OK) return rc;
  memory->active = dense;
  memset(&memory->embedder, 0, sizeof memory->embedder);
  if (dense == NULL) return AIINFRA_OK;
  memory->embedder = *e;
  memory->embedder.name = dense->name;
  return AIINFRA_OK;
}

static aiinfra_status register_index(aiinfra_memory *memory, const aii_dense *dense, aiinfra_error *err)
{
  aii_stmt *stmt;
  aii_sql_lock(memory->db->sql);
  aiinfra_status rc = prepare(
      memory, "INSERT INTO embedders(scope, name, dims, active, seq) VALUES(?1, ?2, ?3, 0, 0) ON CONFLICT DO NOTHING",
      dense->name, &stmt, err);
  if (rc == AIINFRA_OK) {
    aii_stmt_int(stmt, 3, dense->dims);
    rc = aii_stmt_run_alone(stmt, err);
  }
  aii_sql_unlock(memory->db->sql);
  return rc;
}

aiinfra_status aii_dense_migrate(aiinfra_memory *memory, const aiinfra_embedder *e, aiinfra_progress_fn progress,
                                 void *user, uint64_t *n_items, uint64_t *n_embedded, aiinfra_error *err)
{
  batch b = {.mem = &memory->db->rt->mem};
  fill f = {progress, user, 0, 0, 0};
  aii_dense *dense = NULL;
  aiinfra_status rc = aii_dense_refresh(memory, err);
  if (rc == AIINFRA_OK) rc = aii_vecstore_count(memory->store, &f.total, err);
  *n_items = f.total;
  *n_embedded = 0;
  if (rc == AIINFRA_OK && e != NULL) {
    rc = get_index(memory, e->name, e->dims, &dense, err);
    if (rc == AIINFRA_OK) rc = register_index(memory, dense, err);
    if (rc == AIINFRA_OK) rc = aii_vecstore_count(dense->store, &f.done, err);
    if (rc == AIINFRA_OK) rc = fill_index(memory, dense, e, &b, &f, err);
    batch_clear(&b);
  } else if (rc == AIINFRA_OK) {
    aii_sql_lock(memory->db->sql);
  }
  *n_embedded = f.embedded;
  if (rc != AIINFRA_OK) return rc;
  rc = switch_to(memory, dense, e, b.collection_seq, err);
  aii_sql_unlock(memory->db->sql);
  if (rc == AIINFRA_OK && progress != NULL) (void)progress(user, 1);
  return rc;
}

aiinfra_status aii_dense_use(aiinfra_memory *memory, const aiinfra_embedder *e, aiinfra_error *err)
{
  bool active = false;
  int64_t seq;
  aii_dense *dense = NULL;
  aiinfra_status rc = AIINFRA_OK;
  aii_sql_lock(memory->db->sql);
  if (e != NULL) rc = state_of(memory, e->name, &active, &seq, err);
  aii_sql_unlock(memory->db->sql);
  if (rc == AIINFRA_OK && e != NULL && !active)
    rc = aii_fail(err, AIINFRA_ENOENT, "the items of this scope are not embedded by %s: migrate first", e->name);
  if (rc == AIINFRA_OK && e != NULL) rc = get_index(memory, e->name, e->dims, &dense, err);
  if (rc != AIINFRA_OK) return rc;
  aii_sql_lock(memory->db->sql);
  memory->active = dense;
  memset(&memory->embedder, 0, sizeof memory->embedder);
  if (e != NULL) memory->embedder = *e;
  if (dense != NULL) memory->embedder.name = dense->name;
  aii_sql_unlock(memory->db->sql);
  return AIINFRA_OK;
}
