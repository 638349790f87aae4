/* vecfile_api.c - the public functions that read and write files of vectors: check arguments, load options, call down. */
#include "src/vector/vecfile.h"

enum { MAX_BATCH = 1 << 20 };

static aiinfra_status check_format(int32_t format, aiinfra_error *err)
{
  if (format >= AIINFRA_VECTORS_DEFAULT && format <= AIINFRA_VECTORS_U8BIN) return AIINFRA_OK;
  return aii_fail(err, AIINFRA_EINVAL, "format %d is not an aiinfra_vector_format", format);
}

static aiinfra_status check_call(const aiinfra_vecstore *store, const char *path, aiinfra_error *err)
{
  if (store == NULL || path == NULL) return aii_fail(err, AIINFRA_EINVAL, "store or path is NULL");
  return path[0] != '\0' ? AIINFRA_OK : aii_fail(err, AIINFRA_EINVAL, "the path is empty");
}

aiinfra_status aiinfra_vecstore_import(aiinfra_vecstore *store, const char *path,
                                       const aiinfra_vecstore_import_opts *opts, uint64_t *next_row, aiinfra_error *err)
{
  aiinfra_vecstore_import_opts o;
  uint64_t next = 0;
  if (next_row != NULL) *next_row = 0;
  aiinfra_status rc = check_call(store, path, err);
  if (rc == AIINFRA_OK) rc = AII_OPTS_LOAD(&o, opts, batch_rows, err);
  if (rc == AIINFRA_OK) rc = check_format(o.format, err);
  if (rc == AIINFRA_OK && o.batch_rows > MAX_BATCH) {
    rc = aii_fail(err, AIINFRA_EINVAL, "batch_rows is %u, at most %d", o.batch_rows, MAX_BATCH);
  }
  if (rc != AIINFRA_OK) return rc;
  rc = aii_vecstore_import(store, path, &o, &next, err);
  if (next_row != NULL) *next_row = next;
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "import to collection '%s'", store->name);
}

aiinfra_status aiinfra_vecstore_export(aiinfra_vecstore *store, const char *path,
                                       const aiinfra_vecstore_export_opts *opts, uint64_t *n_rows, aiinfra_error *err)
{
  aiinfra_vecstore_export_opts o;
  uint64_t n = 0;
  if (n_rows != NULL) *n_rows = 0;
  aiinfra_status rc = check_call(store, path, err);
  if (rc == AIINFRA_OK) rc = AII_OPTS_LOAD(&o, opts, batch_rows, err);
  if (rc == AIINFRA_OK) rc = check_format(o.format, err);
  if (rc == AIINFRA_OK && o.batch_rows > MAX_BATCH) {
    rc = aii_fail(err, AIINFRA_EINVAL, "batch_rows is %u, at most %d", o.batch_rows, MAX_BATCH);
  }
  if (rc != AIINFRA_OK) return rc;
  rc = aii_vecstore_export(store, path, &o, &n, err);
  if (rc != AIINFRA_OK) return aii_wrap(err, rc, "export collection '%s'", store->name);
  if (n_rows != NULL) *n_rows = n;
  return AIINFRA_OK;
}

aiinfra_status aiinfra_vector_file_probe(aiinfra_runtime *runtime, const char *path, int32_t format, uint32_t *dims,
                                         uint64_t *n_rows, aiinfra_error *err)
{
  aii_vecfile file;
  if (dims == NULL) return aii_fail(err, AIINFRA_EINVAL, "dims is NULL");
  *dims = 0;
  if (n_rows != NULL) *n_rows = 0;
  if (runtime == NULL || path == NULL) return aii_fail(err, AIINFRA_EINVAL, "runtime or path is NULL");
  aiinfra_status rc = check_format(format, err);
  if (rc == AIINFRA_OK) rc = aii_vecfile_open(&file, &runtime->mem, aii_kernels_get(runtime->isa), path, format, err);
  if (rc != AIINFRA_OK) return rc;
  *dims = file.dims;
  if (n_rows != NULL) *n_rows = file.n_rows;
  aii_vecfile_close(&file);
  return AIINFRA_OK;
}
