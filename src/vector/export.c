/* export.c - writes the rows of a collection to a file, page by page in the order of ids.
 *
 * The happy path: a file is begun aside with room for its header -> pages of rows are read, each in one statement with the
 * connection free between them, and written -> the header gets the number of rows -> the file gets its name. Memory
 * holds one page. What can fail: the database, the disk, vectors that the format cannot hold. Thread: any, no lock held.
 */
#include <errno.h>
#include <unistd.h>

#include "src/vector/vecfile.h"

enum { PAGE_ROWS = 1000, PAGE_BYTES = 16 << 20 };

typedef struct writer {
  aiinfra_vecstore *store;
  const aiinfra_vecstore *target; /* whose vectors: the store, or one below it */
  int32_t format;
  aii_buf page;
  float *vector;     /* [dims] of the row at hand */
  aii_rowvecs named; /* what it has under names */
  aii_aside file;
  int64_t last; /* id of the row that was written last */
  uint64_t n, wanted;
} writer;

static void put_u32(aii_buf *out, uint32_t value)
{
  aii_buf_add(out, &value, sizeof value);
}

static void put_header(const writer *w, aii_buf *out)
{
  uint32_t dims = w->target->index.dims;
  if (w->format == AIINFRA_VECTORS_NPY) aii_npy_header(out, w->n, dims);
  if (w->format != AIINFRA_VECTORS_FBIN && w->format != AIINFRA_VECTORS_U8BIN) return;
  put_u32(out, (uint32_t)w->n);
  put_u32(out, dims);
}

static aiinfra_status put_bytes(writer *w, const aii_vecrow *row, aiinfra_error *err)
{
  for (uint32_t i = 0; i < w->target->index.dims; i++) {
    float value = row->vector[i];
    if (!(value >= 0 && value <= 255) || value != (float)(uint8_t)value) {
      return aii_fail(
          err, AIINFRA_EINVAL,
          "element %u of the vector of row %lld is %g, no whole number from 0 to 255; export floats instead", i,
          (long long)row->id, (double)value);
    }
    aii_buf_char(&w->page, (char)(uint8_t)value);
  }
  return AIINFRA_OK;
}

static aiinfra_status put_row(writer *w, const aii_vecrow *row, aiinfra_error *err)
{
  uint32_t dims = w->target->index.dims;
  bool counts = w->format == AIINFRA_VECTORS_FVECS || w->format == AIINFRA_VECTORS_BVECS;
  if (w->format == AIINFRA_VECTORS_JSONL) {
    aii_jsonl_write(&w->page, row, dims);
    return AIINFRA_OK;
  }
  if (counts) put_u32(&w->page, dims);
  if (w->format == AIINFRA_VECTORS_BVECS || w->format == AIINFRA_VECTORS_U8BIN) return put_bytes(w, row, err);
  aii_buf_add(&w->page, row->vector, dims * sizeof *row->vector);
  return AIINFRA_OK;
}

static aiinfra_status take_named(writer *w, aii_vecrow *row, aiinfra_error *err)
{
  if (w->target != w->store) {
    aiinfra_status rc = aii_rowvecs_read_of(&w->named, w->target, row->id, err);
    if (rc == AIINFRA_OK) row->vector = w->named.items[0].values;
    return rc;
  }
  if (w->format != AIINFRA_VECTORS_JSONL) return AIINFRA_OK;
  aiinfra_status rc = aii_rowvecs_read(&w->named, row->id, err);
  row->named = w->named.items;
  row->n_named = w->named.n;
  return rc;
}

static aiinfra_status take_row(writer *w, aii_stmt *stmt, aiinfra_error *err)
{
  size_t n;
  const aii_index *index = &w->store->index;
  aii_vecrow row = {.id = aii_stmt_get_int(stmt, 0), .vector = w->vector};
  const void *stored = aii_stmt_get_blob(stmt, 1, &n);
  size_t want = aii_element_bytes(index->element, index->dims);
  if (!aii_element_decode(index, stored, n, w->vector)) {
    return aii_fail(err, AIINFRA_EFORMAT,
                    "the vector of row %lld has %zu bytes instead of %zu; the database is damaged: restore it from a "
                    "backup",
                    (long long)row.id, n, want);
  }
  if (!aii_stmt_is_null(stmt, 2)) row.text = aii_stmt_get_text(stmt, 2, NULL);
  if (!aii_stmt_is_null(stmt, 3)) row.payload = aii_stmt_get_text(stmt, 3, NULL);
  row.expires_ms = aii_stmt_get_int(stmt, 4);
  aiinfra_status rc = take_named(w, &row, err);
  w->last = row.id;
  w->n++;
  return rc == AIINFRA_OK ? put_row(w, &row, err) : rc;
}

/* *more: there may be rows behind the page. */
static aiinfra_status read_page(writer *w, uint32_t rows, bool *more, aiinfra_error *err)
{
  aii_stmt *stmt;
  bool row = true;
  uint32_t n = 0;
  aii_buf_clear(&w->page);
  aii_sql_lock(w->store->db->sql);
  aiinfra_status rc = aii_sql_prepare(w->store->db->sql,
                                      "SELECT r.id, v.vector, r.text, r.payload, r.expires_ms FROM rows r "
                                      "LEFT JOIN vectors v ON v.row = r.row WHERE r.collection = ?1 AND r.id >= ?2 "
                                      "AND (r.id > ?2 OR ?3) "
                                      "AND (r.expires_ms IS NULL OR r.expires_ms > ?4) ORDER BY r.id",
                                      &stmt, err);
  if (rc == AIINFRA_OK) {
    aii_stmt_int(stmt, 1, w->store->collection);
    aii_stmt_int(stmt, 2, w->last);
    aii_stmt_int(stmt, 3, w->n == 0);
    aii_stmt_int(stmt, 4, w->store->expiry.now_ms());
    while (rc == AIINFRA_OK && row && n < rows && w->page.len < PAGE_BYTES) {
      rc = aii_stmt_step(stmt, &row, err);
      if (rc == AIINFRA_OK && row) rc = take_row(w, stmt, err);
      n += row;
    }
    aii_stmt_reset(stmt);
  }
  aii_sql_unlock(w->store->db->sql);
  *more = row;
  return rc == AIINFRA_OK && w->page.failed ? aii_fail(err, AIINFRA_ENOMEM, "no memory for %u rows", n) : rc;
}

/* The header once more, now that the rows are counted. */
static aiinfra_status finish(writer *w, aiinfra_error *err)
{
  bool counts32 = w->format == AIINFRA_VECTORS_FBIN || w->format == AIINFRA_VECTORS_U8BIN;
  if (counts32 && w->n > UINT32_MAX) {
    return aii_fail(err, AIINFRA_ELIMIT, "%llu rows are more than the format can count; export npy or fvecs instead",
                    (unsigned long long)w->n);
  }
  aii_buf_clear(&w->page);
  put_header(w, &w->page);
  if (w->page.failed) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a header");
  if (w->page.len == 0) return AIINFRA_OK;
  if (lseek(w->file.fd, 0, SEEK_SET) < 0) return aii_fail_errno(err, errno, "write the header");
  return aii_aside_write(&w->file, w->page.data, w->page.len, err);
}

static aiinfra_status write_file(writer *w, const aiinfra_vecstore_export_opts *o, aiinfra_error *err)
{
  bool more = true;
  aiinfra_status rc = finish(w, err); /* room for it */
  while (rc == AIINFRA_OK && more) {
    rc = read_page(w, o->batch_rows != 0 ? o->batch_rows : PAGE_ROWS, &more, err);
    if (rc == AIINFRA_OK && w->page.len > 0) rc = aii_aside_write(&w->file, w->page.data, w->page.len, err);
    double fraction = more && w->wanted > w->n ? (double)w->n / (double)w->wanted : 1;
    if (rc == AIINFRA_OK && o->progress != NULL && o->progress(o->progress_user, fraction) != 0) {
      rc = aii_fail(err, AIINFRA_ECANCELED, "the progress callback asked for it");
    }
  }
  return rc == AIINFRA_OK ? finish(w, err) : rc;
}

aiinfra_status aii_vecstore_export(aiinfra_vecstore *store, const char *path, const aiinfra_vecstore_export_opts *o,
                                   uint64_t *n_rows, aiinfra_error *err)
{
  writer w = {.store = store, .last = INT64_MIN, .format = o->format != 0 ? o->format : aii_vecfile_format(path)};
  if (w.format == AIINFRA_VECTORS_DEFAULT) {
    return aii_fail(err, AIINFRA_EINVAL,
                    "%s: its ending tells no format; name one of fvecs, bvecs, fbin, u8bin, npy and jsonl", path);
  }
  aiinfra_status rc = aii_rowvecs_target(store, o->using_name, w.format, &w.target, err);
  if (rc == AIINFRA_OK) rc = aii_vecstore_count(store, &w.wanted, err);
  if (rc == AIINFRA_OK) rc = aii_aside_open(&w.file, store->index.mem, path, err);
  if (rc != AIINFRA_OK) return rc;
  aii_buf_init(&w.page, store->index.mem, 0);
  w.vector = aii_new_array(store->index.mem, store->index.dims, sizeof *w.vector);
  rc = aii_rowvecs_open(&w.named, store, err);
  if (rc == AIINFRA_OK && w.vector == NULL) rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for a vector");
  if (rc == AIINFRA_OK) rc = write_file(&w, o, err);
  if (rc != AIINFRA_OK) rc = aii_wrap(err, rc, "%s", path);
  rc = aii_aside_close(&w.file, rc, err);
  aii_buf_free(&w.page);
  aii_rowvecs_close(&w.named);
  aii_del(store->index.mem, w.vector, store->index.dims * sizeof *w.vector);
  if (rc == AIINFRA_OK) *n_rows = w.n;
  return rc;
}
