/* import.c - writes the rows of a file into a collection, batch by batch.
 *
 * The happy path: the file's header is checked -> rows are gathered until a batch is full -> each is checked as any row that
 * is written -> the batch is one transaction -> the progress is told. Memory holds one batch. What fails leaves the
 * batches before it, and says at which row the next call goes on. Thread: any, no lock held.
 */
#include "src/vector/vecfile.h"

enum { BATCH_ROWS = 1000, BATCH_BYTES = 16 << 20 };
#define NO_TEXT SIZE_MAX

/* Texts lie in one buffer, which moves while it grows. */
typedef struct texts {
  size_t text, payload;
} texts;

typedef struct batch {
  aiinfra_vecstore *store;
  const aiinfra_vecstore *target; /* whose vectors those of the file are: the store, or one below it */
  aii_mem *mem;
  uint32_t dims;
  size_t n, cap;
  aii_record *records; /* [cap] */
  texts *at;           /* [cap] */
  float *vectors;      /* [cap][dims] */
  aii_buf strings;
  aii_named_item *named; /* of all rows */
  size_t n_named, named_cap, named_bytes;
} batch;

static void free_named(batch *b)
{
  for (size_t i = 0; i < b->n_named; i++) aii_named_item_free(&b->named[i]);
  b->n_named = b->named_bytes = 0;
}

static void batch_close(batch *b)
{
  free_named(b);
  aii_del(b->mem, b->named, b->named_cap * sizeof *b->named);
  aii_del(b->mem, b->records, b->cap * sizeof *b->records);
  aii_del(b->mem, b->at, b->cap * sizeof *b->at);
  aii_del(b->mem, b->vectors, b->cap * b->dims * sizeof *b->vectors);
  aii_buf_free(&b->strings);
}

static aiinfra_status batch_open(batch *b, aiinfra_vecstore *store, const aiinfra_vecstore *target, size_t rows,
                                 aiinfra_error *err)
{
  uint32_t dims = target->index.dims;
  size_t most = BATCH_BYTES / (dims * sizeof(float)), n_floats;
  *b = (batch){.store = store, .target = target, .mem = store->index.mem, .dims = dims};
  b->cap = AII_MAX(AII_MIN(rows, most), (size_t)1);
  aii_buf_init(&b->strings, b->mem, 0);
  b->records = aii_new_array(b->mem, b->cap, sizeof *b->records);
  b->at = aii_new_array(b->mem, b->cap, sizeof *b->at);
  if (aii_size_mul(b->cap, dims, &n_floats)) b->vectors = aii_new_array(b->mem, n_floats, sizeof *b->vectors);
  if (b->records != NULL && b->at != NULL && b->vectors != NULL) return AIINFRA_OK;
  batch_close(b);
  return aii_fail(err, AIINFRA_ENOMEM, "no memory for a batch of %zu rows", b->cap);
}

static size_t keep(batch *b, const char *s)
{
  size_t at = b->strings.len;
  if (s == NULL) return NO_TEXT;
  aii_buf_add(&b->strings, s, strlen(s) + 1);
  return at;
}

static aiinfra_status add_named(batch *b, const aii_rowvec *v, int64_t id, aiinfra_error *err)
{
  if (!aii_grow(b->mem, &b->named, &b->named_cap, b->n_named + 1, sizeof *b->named)) {
    return aii_fail(err, AIINFRA_ENOMEM, "no memory for vectors under names");
  }
  aiinfra_status rc = aii_rowvec_make(b->store, v, id, &b->named[b->n_named], err);
  if (rc == AIINFRA_OK) b->named_bytes += sizeof *b->named + b->named[b->n_named++].bytes;
  return rc;
}

static aiinfra_status add(batch *b, const aii_vecrow *row, int64_t id, size_t number, aiinfra_error *err)
{
  float *vector = b->vectors + b->n * b->dims;
  aii_record *record = &b->records[b->n];
  *record = (aii_record){.r = {id, row->vector, row->text, row->payload}, .expires_ms = row->expires_ms};
  aiinfra_status rc = aii_rows_check(b->store, record, number, err);
  if (rc != AIINFRA_OK) return rc;
  for (size_t i = 0; i < row->n_named; i++) {
    rc = add_named(b, &row->named[i], id, err);
    if (rc != AIINFRA_OK) return rc;
  }
  memcpy(vector, row->vector, b->dims * sizeof *vector);
  record->r.vector = vector;
  b->at[b->n++] = (texts){keep(b, row->text), keep(b, row->payload)};
  return b->strings.failed ? aii_fail(err, AIINFRA_ENOMEM, "no memory for texts") : AIINFRA_OK;
}

/* A vector under a name, of a row that should be there. */
static aiinfra_status add_alone(batch *b, const aii_vecrow *row, int64_t id, aiinfra_error *err)
{
  aii_rowvec v = {b->target->label, row->vector, NULL, b->dims, 0};
  aiinfra_status rc = add_named(b, &v, id, err);
  b->n += rc == AIINFRA_OK;
  return rc;
}

static aiinfra_status flush(batch *b, aiinfra_error *err)
{
  for (size_t i = 0; i < b->n; i++) {
    b->records[i].r.text = b->at[i].text != NO_TEXT ? b->strings.data + b->at[i].text : NULL;
    b->records[i].r.payload_json = b->at[i].payload != NO_TEXT ? b->strings.data + b->at[i].payload : NULL;
  }
  size_t n_rows = b->target == b->store ? b->n : 0;
  aiinfra_status rc = aii_named_write(b->store, b->records, n_rows, b->named, b->n_named, err);
  b->n = 0;
  free_named(b);
  aii_buf_clear(&b->strings);
  return rc;
}

static aiinfra_status id_of(const aiinfra_vecstore_import_opts *o, const aii_vecrow *row, uint64_t number, int64_t *id,
                            aiinfra_error *err)
{
  *id = row->id;
  if (row->has_id) return AIINFRA_OK;
  if (number <= (uint64_t)INT64_MAX && !__builtin_add_overflow(o->first_id, (int64_t)number, id)) return AIINFRA_OK;
  return aii_fail(err, AIINFRA_EINVAL, "first_id plus its number is beyond 64 bits; choose a smaller first_id");
}

/* Gathers a batch, at most as far as row `end`. *more: there may be rows behind it. */
static aiinfra_status gather(batch *b, aii_vecfile *file, const aiinfra_vecstore_import_opts *o, uint64_t end,
                             bool *more, aiinfra_error *err)
{
  aiinfra_status rc = AIINFRA_OK;
  *more = true;
  while (rc == AIINFRA_OK && b->n < b->cap && b->strings.len + b->named_bytes < BATCH_BYTES) {
    aii_vecrow row;
    int64_t id;
    *more = file->row < end;
    if (!*more) return AIINFRA_OK;
    uint64_t number = file->row;
    rc = aii_vecfile_next(file, &row, more, err);
    if (rc == AIINFRA_OK && !*more) return AIINFRA_OK;
    if (rc == AIINFRA_OK) rc = id_of(o, &row, number, &id, err);
    if (rc == AIINFRA_OK && b->target == b->store) rc = add(b, &row, id, (size_t)number, err);
    else if (rc == AIINFRA_OK) rc = add_alone(b, &row, id, err);
    if (rc != AIINFRA_OK) rc = aii_vecfile_wrap(file, err, rc);
  }
  return rc;
}

static aiinfra_status tell(const aiinfra_vecstore_import_opts *o, double fraction, aiinfra_error *err)
{
  if (o->progress == NULL || o->progress(o->progress_user, fraction) == 0) return AIINFRA_OK;
  return aii_fail(err, AIINFRA_ECANCELED, "the progress callback asked for it");
}

static double fraction_of(const aii_vecfile *file)
{
  uint64_t used = file->got - (file->n - file->at);
  return file->bytes > 0 ? AII_MIN((double)used / (double)file->bytes, 1.0) : 1;
}

/* All batches from where the file is. A batch that could be gathered in part is not written. */
static aiinfra_status copy(batch *b, aii_vecfile *file, const aiinfra_vecstore_import_opts *o, uint64_t *next_row,
                           aiinfra_error *err)
{
  uint64_t end = o->max_rows == 0 || o->max_rows > UINT64_MAX - o->from_row ? UINT64_MAX : o->from_row + o->max_rows;
  bool more = true;
  aiinfra_status rc = AIINFRA_OK;
  while (rc == AIINFRA_OK && more) {
    rc = gather(b, file, o, end, &more, err);
    if (rc == AIINFRA_OK) rc = flush(b, err);
    if (rc != AIINFRA_OK) return rc;
    *next_row = file->row;
    rc = tell(o, more ? fraction_of(file) : 1, err);
  }
  return rc;
}

aiinfra_status aii_vecstore_import(aiinfra_vecstore *store, const char *path, const aiinfra_vecstore_import_opts *o,
                                   uint64_t *next_row, aiinfra_error *err)
{
  aii_vecfile file;
  batch b;
  const aiinfra_vecstore *target = store;
  *next_row = o->from_row;
  aiinfra_status rc = aii_vecfile_open(&file, store->index.mem, store->index.kernels, path, o->format, err);
  if (rc != AIINFRA_OK) return rc;
  rc = aii_rowvecs_target(store, o->using_name, file.format, &target, err);
  if (rc == AIINFRA_OK && file.dims != 0 && file.dims != target->index.dims) {
    rc = aii_fail(err, AIINFRA_EINVAL, "%s: its vectors have %u dims, but the collection has %u", path, file.dims,
                  target->index.dims);
  }
  if (rc == AIINFRA_OK) rc = batch_open(&b, store, target, o->batch_rows != 0 ? o->batch_rows : BATCH_ROWS, err);
  if (rc != AIINFRA_OK) {
    aii_vecfile_close(&file);
    return rc;
  }
  rc = aii_vecfile_skip(&file, o->from_row, err);
  if (rc != AIINFRA_OK) rc = aii_wrap(err, rc, "%s", path);
  if (rc == AIINFRA_OK) rc = copy(&b, &file, o, next_row, err);
  batch_close(&b);
  aii_vecfile_close(&file);
  return rc;
}
