/* ingest.c - documents to passages: read, compare with last time, cut, embed, replace.
 *
 * The happy path for one file: its text is hashed -> the document is known with that hash: unchanged, done -> else it
 * is cut and embedded with no lock held -> one transaction takes the old passages out and puts the new ones in. So a
 * reader sees a document whole, old or new, and a cancelled or killed ingestion leaves whole documents behind.
 *
 * What can fail: reading, the database, memory; what was committed stays. Thread: any.
 */
#include <strings.h>

#include "src/memory/memory.h"

enum { PASSAGE_BYTES = 600, HASH_BYTES = 16 };

typedef struct passage {
  char *text;     /* the passage alone */
  char *keywords; /* headings and the file's name */
  char *metadata;
  aii_chunk chunk; /* headings are not kept */
  int64_t hash;
  float vector[AII_EMBED_DIMS];
} passage;

typedef struct document {
  aii_mem *mem;
  const char *path;
  const aii_buf *text;
  unsigned char hash[HASH_BYTES];
  int64_t id; /* 0: not known yet */
  bool unchanged;
  passage *passages;
  size_t n, cap;
} document;

static aiinfra_status no_memory(const document *doc, aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_ENOMEM, "no memory for the passages of %s", doc->path);
}

static void free_passages(document *doc)
{
  for (size_t i = 0; i < doc->n; i++) {
    aii_strfree(doc->mem, doc->passages[i].text);
    aii_strfree(doc->mem, doc->passages[i].keywords);
    aii_strfree(doc->mem, doc->passages[i].metadata);
  }
  aii_del(doc->mem, doc->passages, doc->cap * sizeof *doc->passages);
}

/* "/docs/server-guide.md" -> "server-guide" */
static const char *stem_of(const char *path, size_t *n)
{
  const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
  const char *dot = strrchr(name, '.');
  *n = dot != NULL && dot != name ? (size_t)(dot - name) : strlen(name);
  return name;
}

static bool is_markdown(const char *path)
{
  const char *dot = strrchr(path, '.');
  return dot != NULL &&
         (strcasecmp(dot, ".md") == 0 || strcasecmp(dot, ".markdown") == 0 || strcasecmp(dot, ".mdx") == 0);
}

static void hash_text(document *doc)
{
  for (uint64_t part = 0; part < 2; part++) {
    uint64_t hash = aii_hash64(aii_buf_cstr(doc->text), doc->text->len, part);
    for (size_t i = 0; i < 8; i++) doc->hash[part * 8 + i] = (unsigned char)(hash >> (8 * i));
  }
}

/* Keywords, metadata and hash of a passage. `work` is a scratch buffer. */
static bool describe(document *doc, passage *p, const char *headings, aii_buf *work)
{
  size_t stem_n;
  const char *stem = stem_of(doc->path, &stem_n);
  aii_buf_clear(work);
  aii_buf_str(work, "{\"headings\":");
  aii_buf_json(work, headings, strlen(headings));
  aii_buf_char(work, '}');
  if (!work->failed) p->metadata = aii_strdup(doc->mem, work->data);
  aii_buf_clear(work);
  aii_normalise(p->text, p->chunk.n, work);
  p->hash = (int64_t)aii_hash64(aii_buf_cstr(work), work->len, 0);
  aii_buf_clear(work);
  aii_buf_str(work, headings);
  aii_buf_char(work, ' ');
  aii_buf_add(work, stem, stem_n);
  if (!work->failed) p->keywords = aii_strdup(doc->mem, work->data);
  aii_buf_char(work, '\n');
  aii_buf_add(work, p->text, p->chunk.n);
  if (work->failed) return false;
  aii_embed(work->data, work->len, p->vector); /* headings say what the passage is about */
  return p->metadata != NULL && p->keywords != NULL;
}

static aiinfra_status cut(document *doc, aiinfra_error *err)
{
  aii_chunker chunker;
  aii_chunk chunk;
  aii_buf work;
  bool ok = true;
  aii_buf_init(&work, doc->mem, 0);
  aii_chunker_init(&chunker, aii_buf_cstr(doc->text), doc->text->len, PASSAGE_BYTES, is_markdown(doc->path));
  while (ok && aii_chunker_next(&chunker, &chunk)) {
    ok = aii_grow(doc->mem, &doc->passages, &doc->cap, doc->n + 1, sizeof *doc->passages);
    if (!ok) break;
    passage *p = &doc->passages[doc->n++];
    memset(p, 0, sizeof *p);
    p->chunk = chunk;
    p->text = aii_strndup(doc->mem, doc->text->data + chunk.first, chunk.n);
    ok = p->text != NULL && describe(doc, p, chunk.headings, &work);
  }
  aii_buf_free(&work);
  return ok ? AIINFRA_OK : no_memory(doc, err);
}

/* ---- the database ---------------------------------------------------------------------------------------------- */

static aiinfra_status find_document(aiinfra_memory *memory, document *doc, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  aiinfra_status rc =
      aii_sql_prepare(memory->db->sql, "SELECT id, hash FROM documents WHERE scope = ?1 AND path = ?2", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, memory->scope);
  aii_stmt_text(stmt, 2, doc->path, strlen(doc->path));
  rc = aii_stmt_step(stmt, &row, err);
  doc->id = 0;
  doc->unchanged = false;
  if (rc == AIINFRA_OK && row) {
    size_t n;
    const void *hash = aii_stmt_get_blob(stmt, 1, &n);
    doc->id = aii_stmt_get_int(stmt, 0);
    doc->unchanged = n == HASH_BYTES && memcmp(hash, doc->hash, n) == 0;
  }
  aii_stmt_reset(stmt);
  return rc;
}

static aiinfra_status write_document(aiinfra_memory *memory, document *doc, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = false;
  aiinfra_status rc = aii_sql_prepare(
      memory->db->sql,
      "INSERT INTO documents(scope, path, n_bytes, hash, created_ms, updated_ms) VALUES(?1, ?2, ?3, ?4, ?5, ?5) "
      "ON CONFLICT(scope, path) DO UPDATE SET n_bytes = ?3, hash = ?4, updated_ms = ?5 RETURNING id",
      &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, memory->scope);
  aii_stmt_text(stmt, 2, doc->path, strlen(doc->path));
  aii_stmt_int(stmt, 3, (int64_t)doc->text->len);
  aii_stmt_blob(stmt, 4, doc->hash, HASH_BYTES);
  aii_stmt_int(stmt, 5, aii_unix_ms());
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK) {
    doc->id = aii_stmt_get_int(stmt, 0);
    rc = aii_stmt_step(stmt, &row, err);
  }
  aii_stmt_reset(stmt);
  return rc;
}

/* The ids of the passages that an older version left. */
static aiinfra_status list_passages(aiinfra_memory *memory, const document *doc, int64_t **ids, size_t *n, size_t *cap,
                                    aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = true;
  aiinfra_status rc =
      aii_sql_prepare(memory->db->sql, "SELECT id FROM items WHERE document = ?1 AND scope = ?2", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, doc->id);
  aii_stmt_int(stmt, 2, memory->scope);
  while (rc == AIINFRA_OK && row) {
    rc = aii_stmt_step(stmt, &row, err);
    if (rc != AIINFRA_OK || !row) break;
    if (!aii_grow(doc->mem, ids, cap, *n + 1, sizeof **ids)) rc = no_memory(doc, err);
    else (*ids)[(*n)++] = aii_stmt_get_int(stmt, 0);
  }
  aii_stmt_reset(stmt);
  return rc;
}

static aiinfra_status remove_old(aiinfra_memory *memory, const document *doc, size_t *n_removed, aiinfra_error *err)
{
  int64_t *ids = NULL;
  size_t n = 0, cap = 0;
  aii_stmt *stmt;
  *n_removed = 0;
  aiinfra_status rc = list_passages(memory, doc, &ids, &n, &cap, err);
  if (rc == AIINFRA_OK && n > 0) rc = aii_rows_remove(memory->store, ids, n, n_removed, err);
  aii_del(doc->mem, ids, cap * sizeof *ids);
  if (rc == AIINFRA_OK) {
    rc = aii_sql_prepare(memory->db->sql, "DELETE FROM items WHERE document = ?1 AND scope = ?2", &stmt, err);
  }
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, doc->id);
  aii_stmt_int(stmt, 2, memory->scope);
  return aii_stmt_run(stmt, err);
}

static aiinfra_status write_passages(aiinfra_memory *memory, const document *doc, aiinfra_error *err)
{
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; rc == AIINFRA_OK && i < doc->n; i++) {
    const passage *p = &doc->passages[i];
    aii_item item = {.kind = AIINFRA_MEMORY_PASSAGE, .document = doc->id, .text = p->text, .vector = p->vector};
    item.metadata = p->metadata;
    item.keywords = p->keywords;
    item.hash = p->hash;
    item.first_byte = p->chunk.first;
    item.n_bytes = p->chunk.n;
    int64_t id;
    rc = aii_items_insert(memory, &item, &id, err);
  }
  return rc;
}

static aiinfra_status replace(aiinfra_memory *memory, document *doc, size_t *n_removed, aiinfra_error *err)
{
  aii_sql *sql = memory->db->sql;
  aiinfra_status rc = aii_sql_begin(sql, err);
  if (rc != AIINFRA_OK) return rc;
  rc = write_document(memory, doc, err);
  if (rc == AIINFRA_OK) rc = remove_old(memory, doc, n_removed, err);
  if (rc == AIINFRA_OK) rc = write_passages(memory, doc, err);
  if (rc == AIINFRA_OK) return aii_sql_commit(sql, err);
  aii_sql_rollback(sql);
  return rc;
}

/* ---- the whole ------------------------------------------------------------------------------------------------- */

static aiinfra_status ingest_text(aiinfra_memory *memory, const char *path, const aii_buf *text,
                                  aiinfra_ingest_stats *stats, aiinfra_error *err)
{
  document doc = {.mem = &memory->db->rt->mem, .path = path, .text = text};
  size_t n_removed = 0;
  hash_text(&doc);
  aii_sql_lock(memory->db->sql);
  aiinfra_status rc = find_document(memory, &doc, err);
  aii_sql_unlock(memory->db->sql);
  if (rc == AIINFRA_OK && !doc.unchanged) {
    rc = cut(&doc, err);
    if (rc == AIINFRA_OK) {
      aii_sql_lock(memory->db->sql);
      rc = replace(memory, &doc, &n_removed, err);
      aii_sql_unlock(memory->db->sql);
    }
  }
  if (rc == AIINFRA_OK) {
    stats->files++;
    stats->bytes += text->len;
    stats->unchanged += doc.unchanged;
    stats->passages += doc.n;
    stats->removed += n_removed;
  }
  free_passages(&doc);
  return rc;
}

aiinfra_status aii_memory_ingest(aiinfra_memory *memory, const aii_files *files, aiinfra_progress_fn progress,
                                 void *user, aiinfra_ingest_stats *stats, aiinfra_error *err)
{
  aii_buf text;
  aiinfra_status rc = AIINFRA_OK;
  aii_buf_init(&text, &memory->db->rt->mem, AII_FILE_MAX_BYTES);
  for (size_t i = 0; rc == AIINFRA_OK && i <= files->n; i++) {
    double done = files->n > 0 ? (double)i / (double)files->n : 1;
    if (progress != NULL && progress(user, done) != 0) {
      rc = aii_fail(err, AIINFRA_ECANCELED, "cancelled after %zu of %zu files", i, files->n);
    } else if (i < files->n) {
      bool is_text;
      rc = aii_file_read(files->paths[i], &text, &is_text, err);
      if (rc == AIINFRA_OK && is_text) rc = ingest_text(memory, files->paths[i], &text, stats, err);
      else if (rc == AIINFRA_OK) stats->skipped++;
      else if (rc == AIINFRA_ENOENT) rc = AIINFRA_OK; /* removed since it was listed */
    }
  }
  aii_buf_free(&text);
  return rc;
}
