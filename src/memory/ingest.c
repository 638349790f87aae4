/* ingest.c - files and folders into the memory: read, compare with last time, cut, write.
 *
 * The happy path for one file: it is read and hashed -> the document is known with that hash: unchanged, done -> else
 * another one with that hash, whose file is gone, is this file under an older name -> it becomes text, is cut, and is
 * written in one transaction, see document.c. At the end documents go whose files are gone. A cancelled or killed
 * ingestion leaves whole documents behind.
 *
 * A file that cannot be read or is no text is a problem of the report and stops nothing. What fails: a path that is
 * not there, the database, memory; what was committed stays. Thread: any.
 */
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "src/memory/memory.h"

enum { MOST_PROBLEMS = 1000 }; /* that are told one by one */

void aii_report_problem(aii_ingest_report *report, const char *path, const aiinfra_error *err)
{
  if (report->problems++ >= MOST_PROBLEMS) return;
  if (report->list.len > 0) aii_buf_char(&report->list, ',');
  aii_buf_str(&report->list, "{\"path\":");
  aii_buf_json(&report->list, path, strlen(path));
  aii_buf_str(&report->list, ",\"why\":");
  aii_buf_json(&report->list, err->message, strlen(err->message));
  aii_buf_char(&report->list, '}');
}

typedef struct job {
  aiinfra_memory *memory;
  aii_mem *mem;
  const aii_ingest *how;
  aii_ingest_report *report;
  aii_files files;
  char **roots; /* the real paths that were named */
  size_t n_roots;
  aii_gone_list gone;
} job;

/* ---- one file ------------------------------------------------------------------------------------------------------ */

/* A document with the same bytes whose file is gone becomes this one. */
static bool take_over(job *j, aii_document *doc)
{
  for (size_t i = 0; i < j->gone.n && doc->id == 0; i++) {
    aii_gone *gone = &j->gone.items[i];
    if (gone->id == 0 || memcmp(gone->hash, doc->hash, AII_DOCUMENT_HASH) != 0) continue;
    doc->id = gone->id;
    gone->id = 0;
    return true;
  }
  return false;
}

/* *problem: rc is only about this file. */
static aiinfra_status load_and_write(job *j, aii_document *doc, const aii_buf *bytes, bool *problem, aiinfra_error *err)
{
  aii_loaded loaded;
  aii_loaded_init(&loaded, j->mem);
  aiinfra_status rc = aii_load(&loaded, doc->file->real, aii_buf_cstr(bytes), bytes->len, err);
  *problem = rc != AIINFRA_OK && rc != AIINFRA_ENOMEM;
  if (rc == AIINFRA_OK) rc = aii_document_cut(doc, &loaded, &j->how->cutting, err);
  aii_loaded_free(&loaded);
  if (rc != AIINFRA_OK) return rc;
  bool renamed = doc->id == 0 && take_over(j, doc);
  rc = aii_document_write(j->memory, doc, j->report, err);
  if (rc == AIINFRA_OK) j->report->renamed += renamed;
  return rc;
}

static aiinfra_status ingest_bytes(job *j, const aii_docfile *file, const aii_buf *bytes, bool *problem,
                                   aiinfra_error *err)
{
  aii_document doc;
  aii_document_init(&doc, j->mem, file);
  aii_document_hash(&doc, bytes, &j->how->cutting);
  aiinfra_status rc = aii_document_find(j->memory, &doc, err);
  if (rc == AIINFRA_OK && !doc.unchanged) rc = load_and_write(j, &doc, bytes, problem, err);
  if (rc == AIINFRA_OK) {
    j->report->stats.files++;
    j->report->stats.bytes += bytes->len;
    j->report->stats.unchanged += doc.unchanged;
  }
  aii_document_free(&doc);
  return rc;
}

/* What cannot be read now keeps the passages that it had. */
static aiinfra_status ingest_file(job *j, const aii_docfile *file, aii_buf *bytes, aiinfra_error *err)
{
  aiinfra_error why;
  bool problem = true;
  aiinfra_status rc = aii_file_read(file->real, bytes, &why);
  if (rc == AIINFRA_ENOENT) return AIINFRA_OK; /* removed since it was listed */
  if (rc == AIINFRA_OK) {
    problem = false;
    rc = ingest_bytes(j, file, bytes, &problem, &why);
  } else if (rc == AIINFRA_ENOMEM) {
    problem = false;
  }
  if (rc != AIINFRA_OK && problem) {
    j->report->stats.skipped++;
    aii_report_problem(j->report, file->path, &why);
    return j->report->list.failed ? aii_fail(err, AIINFRA_ENOMEM, "no memory for a report") : AIINFRA_OK;
  }
  if (rc != AIINFRA_OK && err != NULL) *err = why;
  return rc;
}

/* ---- the whole ----------------------------------------------------------------------------------------------------- */

/* The absolute form of a path of which nothing may be there. */
static bool absolute(const char *path, char out[PATH_MAX])
{
  char here[PATH_MAX];
  if (realpath(path, out) != NULL) return true;
  size_t n = 0, length = strlen(path);
  if (path[0] != '/') {
    if (getcwd(here, sizeof here) == NULL) return false;
    n = strlen(here);
    if (n + 1 + length >= PATH_MAX) return false;
    memcpy(out, here, n);
    out[n++] = '/';
  }
  if (n + length >= PATH_MAX) return false;
  memcpy(out + n, path, length + 1);
  for (n += length; n > 1 && out[n - 1] == '/'; n--) out[n - 1] = '\0';
  return true;
}

/* Lists the files of one path, or the documents that were there. */
static aiinfra_status add_path(job *j, const char *path, aiinfra_error *err)
{
  char real[PATH_MAX];
  aii_gone_list gone = {0};
  if (!absolute(path, real)) return aii_fail(err, AIINFRA_ENOENT, "%s: there is no such file or folder", path);
  j->roots[j->n_roots] = aii_strdup(j->mem, real);
  if (j->roots[j->n_roots] == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a path");
  j->n_roots++;
  aiinfra_status rc = aii_files_add(&j->files, path, err);
  if (rc != AIINFRA_ENOENT) return rc;
  if (aii_document_gone(j->memory, &j->roots[j->n_roots - 1], 1, &gone, NULL) == AIINFRA_OK && gone.n > 0)
    rc = AIINFRA_OK;
  aii_gone_free(&gone, j->mem);
  return rc;
}

static aiinfra_status list(job *j, const char *const *paths, size_t n, aiinfra_error *err)
{
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; rc == AIINFRA_OK && i < n; i++) rc = add_path(j, paths[i], err);
  if (rc == AIINFRA_OK && j->report->list.failed) rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for a report");
  if (rc == AIINFRA_OK) rc = aii_document_gone(j->memory, j->roots, j->n_roots, &j->gone, err);
  return rc;
}

static aiinfra_status ingest_files(job *j, aiinfra_error *err)
{
  aii_buf bytes;
  aiinfra_status rc = AIINFRA_OK;
  size_t n = j->files.n;
  aii_buf_init(&bytes, j->mem, AII_FILE_MAX_BYTES);
  for (size_t i = 0; rc == AIINFRA_OK && i <= n; i++) {
    double done = n > 0 ? (double)i / (double)n : 1;
    if (j->how->progress != NULL && j->how->progress(j->how->user, done) != 0)
      rc = aii_fail(err, AIINFRA_ECANCELED, "cancelled after %zu of %zu files", i, n);
    else if (i < n) rc = ingest_file(j, &j->files.files[i], &bytes, err);
  }
  aii_buf_free(&bytes);
  for (size_t i = 0; rc == AIINFRA_OK && !j->how->keep_missing && i < j->gone.n; i++) {
    if (j->gone.items[i].id != 0) rc = aii_document_remove(j->memory, j->gone.items[i].id, j->report, err);
  }
  return rc;
}

aiinfra_status aii_memory_ingest(aiinfra_memory *memory, const char *const *paths, size_t n, const aii_ingest *how,
                                 aii_ingest_report *report, aiinfra_error *err)
{
  job j = {.memory = memory, .mem = &memory->db->rt->mem, .how = how, .report = report};
  aii_files_init(&j.files, j.mem, report);
  j.roots = aii_new_array(j.mem, AII_MAX(n, (size_t)1), sizeof *j.roots);
  aiinfra_status rc = j.roots != NULL ? list(&j, paths, n, err) : aii_fail(err, AIINFRA_ENOMEM, "no memory for paths");
  if (rc == AIINFRA_OK) rc = ingest_files(&j, err);
  for (size_t i = 0; i < j.n_roots; i++) aii_strfree(j.mem, j.roots[i]);
  aii_del(j.mem, j.roots, AII_MAX(n, (size_t)1) * sizeof *j.roots);
  aii_gone_free(&j.gone, j.mem);
  aii_files_free(&j.files);
  return rc;
}
