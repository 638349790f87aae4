/* document.c - the rows of one document: found, renamed, replaced, removed.
 *
 * What of a document is there already stays with its id: a passage with the same text below the same headings. So only
 * what changed is embedded and written. One transaction takes the rest of the old ones out and puts the new ones in: a
 * reader sees a document whole, old or new.
 *
 * What can fail: the database, memory. Any thread.
 */
#include <errno.h>
#include <sys/stat.h>

#include "src/memory/memory.h"

/* ---- finding ------------------------------------------------------------------------------------------------------- */

static aiinfra_status prepare(aiinfra_memory *memory, const char *sql, aii_stmt **stmt, aiinfra_error *err)
{
  aiinfra_status rc = aii_sql_prepare(memory->db->sql, sql, stmt, err);
  if (rc == AIINFRA_OK) aii_stmt_int(*stmt, 1, memory->scope);
  return rc;
}

/* A document goes by its real path; one of an older library by the path that a reader knows. */
static aiinfra_status find(aiinfra_memory *memory, aii_document *doc, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  size_t n;
  aiinfra_status rc = prepare(memory,
                              "SELECT id, hash, real_path IS NOT NULL AS known FROM documents WHERE scope = ?1 AND "
                              "(real_path = ?2 OR (real_path IS NULL AND path = ?3)) ORDER BY known DESC LIMIT 1",
                              &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_text(stmt, 2, doc->file->real, strlen(doc->file->real));
  aii_stmt_text(stmt, 3, doc->file->path, strlen(doc->file->path));
  rc = aii_stmt_step(stmt, &row, err);
  doc->id = 0;
  doc->unchanged = false;
  if (rc == AIINFRA_OK && row) {
    const void *hash = aii_stmt_get_blob(stmt, 1, &n);
    doc->id = aii_stmt_get_int(stmt, 0);
    doc->unchanged = n == AII_DOCUMENT_HASH && memcmp(hash, doc->hash, n) == 0 && aii_stmt_get_int(stmt, 2) != 0;
  }
  aii_stmt_reset(stmt);
  return rc;
}

aiinfra_status aii_document_find(aiinfra_memory *memory, aii_document *doc, aiinfra_error *err)
{
  aii_sql_lock(memory->db->sql);
  aiinfra_status rc = find(memory, doc, err);
  aii_sql_unlock(memory->db->sql);
  return rc;
}

void aii_gone_free(aii_gone_list *list, aii_mem *mem)
{
  for (size_t i = 0; i < list->n; i++) aii_strfree(mem, list->items[i].path);
  aii_del(mem, list->items, list->cap * sizeof *list->items);
  *list = (aii_gone_list){0};
}

static bool lies_below(const char *path, char *const *roots, size_t n)
{
  for (size_t i = 0; i < n; i++) {
    size_t length = strlen(roots[i]);
    if (strncmp(path, roots[i], length) != 0) continue;
    if (path[length] == '\0' || path[length] == '/' || (length > 0 && roots[i][length - 1] == '/')) return true;
  }
  return false;
}

/* Keeps the document of a row if its file is gone. */
static aiinfra_status see(aiinfra_memory *memory, aii_stmt *stmt, char *const *roots, size_t n, aii_gone_list *out,
                          aiinfra_error *err)
{
  struct stat st;
  size_t hash_n, path_n;
  const void *hash = aii_stmt_get_blob(stmt, 1, &hash_n);
  const char *path = aii_stmt_get_text(stmt, 2, &path_n);
  if (hash_n != AII_DOCUMENT_HASH || !lies_below(path, roots, n)) return AIINFRA_OK;
  if (stat(path, &st) == 0 || (errno != ENOENT && errno != ENOTDIR)) return AIINFRA_OK;
  aii_mem *mem = &memory->db->rt->mem;
  aii_gone gone = {.id = aii_stmt_get_int(stmt, 0)};
  memcpy(gone.hash, hash, hash_n);
  if (aii_grow(mem, &out->items, &out->cap, out->n + 1, sizeof *out->items)) gone.path = aii_strndup(mem, path, path_n);
  if (gone.path == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a list of documents");
  out->items[out->n++] = gone;
  return AIINFRA_OK;
}

aiinfra_status aii_document_gone(aiinfra_memory *memory, char *const *roots, size_t n, aii_gone_list *out,
                                 aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = true;
  *out = (aii_gone_list){0};
  aii_sql_lock(memory->db->sql);
  aiinfra_status rc = prepare(
      memory, "SELECT id, hash, real_path FROM documents WHERE scope = ?1 AND real_path IS NOT NULL ORDER BY id", &stmt,
      err);
  if (rc == AIINFRA_OK) {
    while (rc == AIINFRA_OK && row) {
      rc = aii_stmt_step(stmt, &row, err);
      if (rc == AIINFRA_OK && row) rc = see(memory, stmt, roots, n, out, err);
    }
    aii_stmt_reset(stmt);
  }
  aii_sql_unlock(memory->db->sql);
  if (rc != AIINFRA_OK) aii_gone_free(out, &memory->db->rt->mem);
  return rc;
}

/* ---- the document's own row ---------------------------------------------------------------------------------------- */

/* The path that readers know, unless another file of the scope has it, under another folder. */
static aiinfra_status choose_path(aiinfra_memory *memory, const aii_document *doc, const char **path,
                                  aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row;
  *path = doc->file->path;
  aiinfra_status rc =
      prepare(memory, "SELECT id FROM documents WHERE scope = ?1 AND path = ?2 AND id <> ?3", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_text(stmt, 2, doc->file->path, strlen(doc->file->path));
  aii_stmt_int(stmt, 3, doc->id);
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK && row) *path = doc->file->real;
  aii_stmt_reset(stmt);
  return rc;
}

static aiinfra_status write_document(aiinfra_memory *memory, aii_document *doc, aiinfra_error *err)
{
  static const char insert[] = "INSERT INTO documents(scope, path, real_path, n_bytes, hash, created_ms, updated_ms) "
                               "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?6) RETURNING id",
                    update[] = "UPDATE documents SET path = ?2, real_path = ?3, n_bytes = ?4, hash = ?5, "
                               "updated_ms = ?6 WHERE scope = ?1 AND id = ?7 RETURNING id";
  aii_stmt *stmt;
  const char *path;
  bool row = false;
  aiinfra_status rc = choose_path(memory, doc, &path, err);
  if (rc == AIINFRA_OK) rc = prepare(memory, doc->id == 0 ? insert : update, &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_text(stmt, 2, path, strlen(path));
  aii_stmt_text(stmt, 3, doc->file->real, strlen(doc->file->real));
  aii_stmt_int(stmt, 4, (int64_t)doc->n_bytes);
  aii_stmt_blob(stmt, 5, doc->hash, AII_DOCUMENT_HASH);
  aii_stmt_int(stmt, 6, aii_unix_ms());
  if (doc->id != 0) aii_stmt_int(stmt, 7, doc->id);
  rc = aii_stmt_step(stmt, &row, err);
  if (rc == AIINFRA_OK && !row) rc = aii_fail(err, AIINFRA_EBUSY, "%s was removed meanwhile; try again", path);
  if (rc == AIINFRA_OK) {
    doc->id = aii_stmt_get_int(stmt, 0);
    rc = aii_stmt_step(stmt, &row, err);
  }
  aii_stmt_reset(stmt);
  return rc;
}

/* ---- passages ------------------------------------------------------------------------------------------------------ */

typedef struct old_passage {
  int64_t id, hash;
  bool used;
} old_passage;

typedef struct old_list {
  old_passage *items;
  size_t n, cap;
} old_list;

static aiinfra_status list_old(aiinfra_memory *memory, int64_t document, old_list *out, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = true;
  aiinfra_status rc = prepare(
      memory, "SELECT id, hash FROM items WHERE document = ?2 AND scope = ?1 ORDER BY first_byte, id", &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 2, document);
  while (rc == AIINFRA_OK && row) {
    rc = aii_stmt_step(stmt, &row, err);
    if (rc != AIINFRA_OK || !row) break;
    if (!aii_grow(&memory->db->rt->mem, &out->items, &out->cap, out->n + 1, sizeof *out->items))
      rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for the passages of a document");
    else out->items[out->n++] = (old_passage){aii_stmt_get_int(stmt, 0), aii_stmt_get_int(stmt, 1), false};
  }
  aii_stmt_reset(stmt);
  return rc;
}

/* Whether the item has this very text below these headings; *keywords: and the same keywords. */
static aiinfra_status is_same(aiinfra_memory *memory, int64_t id, const aii_passage *p, bool *same, bool *keywords,
                              aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc = prepare(memory,
                              "SELECT r.keywords IS ?5 FROM items i JOIN rows r ON r.collection = ?2 AND r.id = i.id "
                              "WHERE i.id = ?3 AND i.scope = ?1 AND r.text = ?4 AND "
                              "i.metadata ->> '$.headings' IS ?6 ->> '$.headings'",
                              &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 2, memory->store->collection);
  aii_stmt_int(stmt, 3, id);
  aii_stmt_text(stmt, 4, p->text, strlen(p->text));
  aii_stmt_text(stmt, 5, p->keywords, strlen(p->keywords));
  aii_stmt_text(stmt, 6, p->metadata, strlen(p->metadata));
  rc = aii_stmt_step(stmt, same, err);
  *keywords = rc == AIINFRA_OK && *same && aii_stmt_get_int(stmt, 0) != 0;
  aii_stmt_reset(stmt);
  return rc;
}

/* Finds the item that a passage is already, among those not taken yet. */
static aiinfra_status match(aiinfra_memory *memory, old_list *old, size_t *hint, aii_passage *p, bool *keywords,
                            aiinfra_error *err)
{
  aiinfra_status rc = AIINFRA_OK;
  p->old = 0;
  for (size_t k = 0; rc == AIINFRA_OK && k < old->n && p->old == 0; k++) {
    size_t i = (*hint + k) % old->n; /* most stay in order */
    old_passage *o = &old->items[i];
    bool same = false;
    if (o->used || o->hash != p->hash) continue;
    rc = is_same(memory, o->id, p, &same, keywords, err);
    if (rc != AIINFRA_OK || !same) continue;
    o->used = true;
    p->old = o->id;
    *hint = i + 1;
  }
  return rc;
}

static aiinfra_status embed(aiinfra_memory *memory, aii_passage *p, aiinfra_error *err)
{
  aii_buf work;
  if (p->embedded) return AIINFRA_OK;
  aii_buf_init(&work, &memory->db->rt->mem, 0);
  aii_buf_str(&work, p->keywords); /* headings say what the passage is about */
  aii_buf_char(&work, '\n');
  aii_buf_str(&work, p->text);
  p->embedded = !work.failed;
  if (p->embedded) aii_embed(work.data, work.len, p->vector);
  aii_buf_free(&work);
  return p->embedded ? AIINFRA_OK : aii_fail(err, AIINFRA_ENOMEM, "no memory for a passage");
}

/* A passage that stays: it may lie elsewhere now, and its file may have another name. */
static aiinfra_status move(aiinfra_memory *memory, aii_passage *p, bool keywords, aiinfra_error *err)
{
  aii_stmt *stmt;
  aiinfra_status rc =
      prepare(memory,
              "UPDATE items SET first_byte = ?3, n_bytes = ?4, metadata = ?5 WHERE id = ?2 AND scope = ?1 AND "
              "(first_byte <> ?3 OR n_bytes <> ?4 OR metadata IS NOT ?5)",
              &stmt, err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 2, p->old);
  aii_stmt_int(stmt, 3, (int64_t)p->first_byte);
  aii_stmt_int(stmt, 4, (int64_t)p->n);
  aii_stmt_text(stmt, 5, p->metadata, strlen(p->metadata));
  rc = aii_stmt_run(stmt, err);
  if (rc == AIINFRA_OK && !keywords) rc = embed(memory, p, err);
  if (rc != AIINFRA_OK || keywords) return rc;
  aii_record record = {.keywords = p->keywords};
  record.r.id = p->old;
  record.r.vector = p->vector;
  record.r.text = p->text;
  record.r.payload_json = "{\"kind\":\"passage\"}";
  return aii_rows_upsert(memory->store, &record, 1, err);
}

static aiinfra_status insert(aiinfra_memory *memory, const aii_document *doc, aii_passage *p, aiinfra_error *err)
{
  aiinfra_status rc = embed(memory, p, err);
  if (rc != AIINFRA_OK) return rc;
  aii_item item = {.kind = AIINFRA_MEMORY_PASSAGE, .document = doc->id, .text = p->text, .vector = p->vector};
  int64_t id;
  item.metadata = p->metadata;
  item.keywords = p->keywords;
  item.hash = p->hash;
  item.first_byte = p->first_byte;
  item.n_bytes = p->n;
  return aii_items_insert(memory, &item, &id, err);
}

static aiinfra_status remove_unused(aiinfra_memory *memory, old_list *old, size_t *n_removed, aiinfra_error *err)
{
  int64_t *ids = aii_new_array(&memory->db->rt->mem, AII_MAX(old->n, (size_t)1), sizeof *ids);
  size_t n = 0;
  aii_stmt *stmt;
  aiinfra_status rc = AIINFRA_OK;
  *n_removed = 0;
  if (ids == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for the passages of a document");
  for (size_t i = 0; i < old->n; i++) {
    if (!old->items[i].used) ids[n++] = old->items[i].id;
  }
  if (n > 0) rc = aii_items_take_out(memory, ids, n, n_removed, err);
  for (size_t i = 0; rc == AIINFRA_OK && i < n; i++) {
    rc = prepare(memory, "DELETE FROM items WHERE id = ?2 AND scope = ?1", &stmt, err);
    if (rc != AIINFRA_OK) break;
    aii_stmt_int(stmt, 2, ids[i]);
    rc = aii_stmt_run(stmt, err);
  }
  aii_del(&memory->db->rt->mem, ids, AII_MAX(old->n, (size_t)1) * sizeof *ids);
  return rc;
}

static aiinfra_status replace(aiinfra_memory *memory, aii_document *doc, old_list *old, aii_ingest_report *report,
                              aiinfra_error *err)
{
  size_t hint = 0, kept = 0, removed = 0;
  aiinfra_status rc = doc->id != 0 ? list_old(memory, doc->id, old, err) : AIINFRA_OK;
  if (rc == AIINFRA_OK) rc = write_document(memory, doc, err);
  for (size_t i = 0; rc == AIINFRA_OK && i < doc->n; i++) {
    bool keywords = false;
    aii_passage *p = &doc->passages[i];
    rc = match(memory, old, &hint, p, &keywords, err);
    if (rc == AIINFRA_OK && p->old != 0) rc = move(memory, p, keywords, err);
    kept += p->old != 0;
  }
  if (rc == AIINFRA_OK) rc = remove_unused(memory, old, &removed, err);
  for (size_t i = 0; rc == AIINFRA_OK && i < doc->n; i++) {
    if (doc->passages[i].old == 0) rc = insert(memory, doc, &doc->passages[i], err);
  }
  if (rc != AIINFRA_OK) return rc;
  report->kept += kept;
  report->stats.passages += doc->n - kept;
  report->stats.removed += removed;
  return AIINFRA_OK;
}

/* In a transaction of its own. */
static aiinfra_status write_all(aiinfra_memory *memory, aii_document *doc, aii_ingest_report *report,
                                aiinfra_error *err)
{
  aii_sql *sql = memory->db->sql;
  aii_ingest_report before = *report;
  old_list old = {0};
  aii_sql_lock(sql);
  aiinfra_status rc = aii_sql_begin(sql, err);
  if (rc == AIINFRA_OK) {
    rc = replace(memory, doc, &old, report, err);
    if (rc == AIINFRA_OK) rc = aii_sql_commit(sql, err);
    else aii_sql_rollback(sql);
  }
  aii_sql_unlock(sql);
  if (rc != AIINFRA_OK) *report = before;
  aii_del(&memory->db->rt->mem, old.items, old.cap * sizeof *old.items);
  return rc;
}

/* What is not there yet is embedded while nobody waits. Another writer may change what is there until it is written. */
static aiinfra_status embed_new(aiinfra_memory *memory, aii_document *doc, aiinfra_error *err)
{
  old_list old = {0};
  size_t hint = 0;
  bool keywords;
  aii_sql_lock(memory->db->sql);
  aiinfra_status rc = doc->id != 0 ? list_old(memory, doc->id, &old, err) : AIINFRA_OK;
  for (size_t i = 0; rc == AIINFRA_OK && i < doc->n; i++)
    rc = match(memory, &old, &hint, &doc->passages[i], &keywords, err);
  aii_sql_unlock(memory->db->sql);
  for (size_t i = 0; rc == AIINFRA_OK && i < doc->n; i++) {
    if (doc->passages[i].old == 0) rc = embed(memory, &doc->passages[i], err);
  }
  aii_del(&memory->db->rt->mem, old.items, old.cap * sizeof *old.items);
  return rc;
}

aiinfra_status aii_document_write(aiinfra_memory *memory, aii_document *doc, aii_ingest_report *report,
                                  aiinfra_error *err)
{
  aiinfra_status rc = embed_new(memory, doc, err);
  return rc == AIINFRA_OK ? write_all(memory, doc, report, err) : rc;
}

aiinfra_status aii_document_remove(aiinfra_memory *memory, int64_t id, aii_ingest_report *report, aiinfra_error *err)
{
  aii_sql *sql = memory->db->sql;
  old_list old = {0};
  aii_stmt *stmt;
  size_t removed = 0;
  aii_sql_lock(sql);
  aiinfra_status rc = aii_sql_begin(sql, err);
  if (rc == AIINFRA_OK) {
    rc = list_old(memory, id, &old, err);
    if (rc == AIINFRA_OK) rc = remove_unused(memory, &old, &removed, err);
    if (rc == AIINFRA_OK) rc = prepare(memory, "DELETE FROM documents WHERE id = ?2 AND scope = ?1", &stmt, err);
    if (rc == AIINFRA_OK) {
      aii_stmt_int(stmt, 2, id);
      rc = aii_stmt_run(stmt, err);
    }
    if (rc == AIINFRA_OK) rc = aii_sql_commit(sql, err);
    else aii_sql_rollback(sql);
  }
  aii_sql_unlock(sql);
  aii_del(&memory->db->rt->mem, old.items, old.cap * sizeof *old.items);
  if (rc != AIINFRA_OK) return rc;
  report->stats.removed += removed;
  report->gone++;
  return AIINFRA_OK;
}
