/* vecfile.c - reads a file of vectors row by row, after its header was found to agree with its size.
 *
 * The happy path: the file is opened -> its format follows from the caller or the ending -> the header says rows and dims,
 * and the file has the bytes for exactly these -> rows come out of a buffer of fixed size, one after the other. What can
 * fail: a header that is not understood, a size that it does not explain, a row whose dims differ, the disk. A file
 * that changes while it is read is cut short or is not; no byte is used before it is known to be there.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/vector/vecfile.h"

enum { BUFFER_BYTES = 1 << 18, COUNT_BYTES = 4, BIN_HEADER = 8 };

static const struct {
  const char *ending;
  int32_t format;
} ENDINGS[] = {
    {".fvecs", AIINFRA_VECTORS_FVECS}, {".bvecs", AIINFRA_VECTORS_BVECS},  {".npy", AIINFRA_VECTORS_NPY},
    {".jsonl", AIINFRA_VECTORS_JSONL}, {".ndjson", AIINFRA_VECTORS_JSONL}, {".fbin", AIINFRA_VECTORS_FBIN},
    {".u8bin", AIINFRA_VECTORS_U8BIN},
};

int32_t aii_vecfile_format(const char *path)
{
  size_t n = strlen(path);
  for (size_t i = 0; i < AII_COUNT(ENDINGS); i++) {
    size_t end = strlen(ENDINGS[i].ending);
    if (n > end && strcmp(path + n - end, ENDINGS[i].ending) == 0) return ENDINGS[i].format;
  }
  return AIINFRA_VECTORS_DEFAULT;
}

aiinfra_status aii_vecfile_wrap(const aii_vecfile *file, aiinfra_error *err, aiinfra_status rc)
{
  unsigned long long line = (unsigned long long)file->line, row = (unsigned long long)file->row;
  if (line > 0) return aii_wrap(err, rc, "%s: line %llu", file->path, line);
  return row > 0 ? aii_wrap(err, rc, "%s: row %llu", file->path, row - 1) : aii_wrap(err, rc, "%s", file->path);
}

static uint32_t u32_at(const uint8_t *p)
{
  uint32_t value;
  memcpy(&value, p, sizeof value);
  return value;
}

aiinfra_status aii_vecfile_fill(aii_vecfile *file, size_t want, size_t *n, aiinfra_error *err)
{
  if (file->n - file->at < want) {
    memmove(file->buffer, file->buffer + file->at, file->n - file->at);
    file->n -= file->at;
    file->at = 0;
    if (want > file->cap) {
      uint8_t *more = aii_resize(file->mem, file->buffer, file->cap, want);
      if (more == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for %zu bytes of a row", want);
      file->buffer = more;
      file->cap = want;
    }
    while (file->n < want) {
      ssize_t got = read(file->fd, file->buffer + file->n, file->cap - file->n);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return aii_fail_errno(err, errno, "read");
      if (got == 0) break;
      file->n += (size_t)got;
      file->got += (uint64_t)got;
    }
  }
  *n = AII_MIN(want, file->n - file->at);
  return AIINFRA_OK;
}

/* ---- headers --------------------------------------------------------------------------------------------------- */

static aiinfra_status check_dims(uint64_t dims, aiinfra_error *err)
{
  if (dims >= 1 && dims <= AII_FILE_MAX_DIMS) return AIINFRA_OK;
  return aii_fail(err, AIINFRA_EFORMAT,
                  "its vectors would have %llu dims, not 1 to %d; check that the file is of the format named",
                  (unsigned long long)dims, AII_FILE_MAX_DIMS);
}

/* fvecs and bvecs: a row like any other begins the file, and all have its length. */
static aiinfra_status open_rows(aii_vecfile *file, aiinfra_error *err)
{
  size_t n;
  aiinfra_status rc = aii_vecfile_fill(file, COUNT_BYTES, &n, err);
  if (rc != AIINFRA_OK || file->bytes == 0) return rc;
  if (n < COUNT_BYTES) return aii_fail(err, AIINFRA_EFORMAT, "it ends within its first number");
  uint32_t dims = u32_at(file->buffer + file->at);
  rc = check_dims(dims, err);
  if (rc != AIINFRA_OK) return rc;
  file->dims = dims;
  file->before = COUNT_BYTES;
  file->row_bytes = COUNT_BYTES + (size_t)dims * (file->element == AII_ELEMENT_F32 ? sizeof(float) : 1);
  file->n_rows = file->bytes / file->row_bytes;
  if (file->bytes % file->row_bytes == 0) return AIINFRA_OK;
  return aii_fail(
      err, AIINFRA_EFORMAT,
      "its %llu bytes are no multiple of the %zu that a row of %u dims has; it was cut short, or is of another "
      "format",
      (unsigned long long)file->bytes, file->row_bytes, dims);
}

/* The elements behind the header are those of rows and dims, not one byte more or less. */
static aiinfra_status check_size(aii_vecfile *file, uint64_t header, aiinfra_error *err)
{
  static const uint8_t sizes[] = {4, 2, 1, 1};
  file->row_bytes = (size_t)file->dims * sizes[file->element];
  uint64_t left = file->bytes - header;
  if (left % file->row_bytes == 0 && left / file->row_bytes == file->n_rows) return AIINFRA_OK;
  return aii_fail(
      err, AIINFRA_EFORMAT,
      "its header tells of %llu rows of %zu bytes, but %llu bytes are behind it; it was cut short, or is of "
      "another format",
      (unsigned long long)file->n_rows, file->row_bytes, (unsigned long long)left);
}

static aiinfra_status open_bin(aii_vecfile *file, aiinfra_error *err)
{
  size_t n;
  aiinfra_status rc = aii_vecfile_fill(file, BIN_HEADER, &n, err);
  if (rc != AIINFRA_OK) return rc;
  if (n < BIN_HEADER) return aii_fail(err, AIINFRA_EFORMAT, "it ends within its header of %d bytes", BIN_HEADER);
  uint32_t dims = u32_at(file->buffer + COUNT_BYTES);
  file->n_rows = u32_at(file->buffer);
  rc = check_dims(dims, err);
  if (rc != AIINFRA_OK) return rc;
  file->dims = dims;
  file->at += BIN_HEADER;
  return check_size(file, BIN_HEADER, err);
}

static aiinfra_status open_npy(aii_vecfile *file, aiinfra_error *err)
{
  aiinfra_status rc = aii_npy_open(file, err);
  if (rc == AIINFRA_OK) rc = check_dims(file->dims, err);
  return rc == AIINFRA_OK ? check_size(file, file->at, err) : rc;
}

static aiinfra_status open_format(aii_vecfile *file, aiinfra_error *err)
{
  bool bytes = file->format == AIINFRA_VECTORS_BVECS || file->format == AIINFRA_VECTORS_U8BIN;
  file->element = bytes ? AII_ELEMENT_U8 : AII_ELEMENT_F32;
  switch (file->format) {
    case AIINFRA_VECTORS_FVECS:
    case AIINFRA_VECTORS_BVECS: return open_rows(file, err);
    case AIINFRA_VECTORS_FBIN:
    case AIINFRA_VECTORS_U8BIN: return open_bin(file, err);
    case AIINFRA_VECTORS_NPY: return open_npy(file, err);
    case AIINFRA_VECTORS_JSONL: return aii_jsonl_open(file, err);
    default:
      return aii_fail(err, AIINFRA_EINVAL,
                      "its ending tells no format; name one of fvecs, bvecs, fbin, u8bin, npy and jsonl");
  }
}

/* ---- opening --------------------------------------------------------------------------------------------------- */

static aiinfra_status prepare(aii_vecfile *file, aiinfra_error *err)
{
  struct stat st;
  if (fstat(file->fd, &st) != 0) return aii_fail_errno(err, errno, "look at the file");
  if (!S_ISREG(st.st_mode)) return aii_fail(err, AIINFRA_EINVAL, "it is no regular file, whose size can be checked");
  file->bytes = (uint64_t)st.st_size;
  file->cap = BUFFER_BYTES;
  file->buffer = aii_new_raw(file->mem, file->cap);
  if (file->buffer == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a buffer");
  aiinfra_status rc = open_format(file, err);
  if (rc != AIINFRA_OK || file->dims == 0) return rc;
  file->vector = aii_new_array(file->mem, file->dims, sizeof *file->vector);
  return file->vector != NULL ? AIINFRA_OK : aii_fail(err, AIINFRA_ENOMEM, "no memory for a vector");
}

aiinfra_status aii_vecfile_take(aii_vecfile *file, aii_mem *mem, const aii_kernels *kernels, const char *path, int fd,
                                int32_t format, aiinfra_error *err)
{
  *file = (aii_vecfile){.mem = mem, .kernels = kernels, .path = path, .fd = fd, .format = format};
  aii_buf_init(&file->payload, mem, 0);
  aiinfra_status rc = prepare(file, err);
  if (rc == AIINFRA_OK) return rc;
  rc = aii_vecfile_wrap(file, err, rc);
  aii_vecfile_close(file);
  return rc;
}

aiinfra_status aii_vecfile_open(aii_vecfile *file, aii_mem *mem, const aii_kernels *kernels, const char *path,
                                int32_t format, aiinfra_error *err)
{
  if (format == AIINFRA_VECTORS_DEFAULT) format = aii_vecfile_format(path);
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* of a pipe, too, it returns at once */
  if (fd < 0) return aii_fail_errno(err, errno, "open '%s'", path);
  return aii_vecfile_take(file, mem, kernels, path, fd, format, err);
}

void aii_vecfile_close(aii_vecfile *file)
{
  if (file->fd >= 0) (void)close(file->fd);
  aii_del(file->mem, file->buffer, file->cap);
  aii_del(file->mem, file->vector, file->dims * sizeof *file->vector);
  aii_buf_free(&file->payload);
  aii_del(file->mem, file->named, file->named_cap * sizeof *file->named);
  aii_del(file->mem, file->floats, file->floats_cap * sizeof *file->floats);
  aii_del(file->mem, file->indices, file->indices_cap * sizeof *file->indices);
  json_decref(file->json);
  file->fd = -1;
}

/* ---- rows ------------------------------------------------------------------------------------------------------ */

static void take_vector(aii_vecfile *file, const uint8_t *from)
{
  const int8_t *ints = (const int8_t *)from;
  switch (file->element) {
    case AII_ELEMENT_F32: memcpy(file->vector, from, file->dims * sizeof *file->vector); break;
    case AII_ELEMENT_F16: file->kernels->dequant[AII_FMT_F16](from, file->dims, file->vector); break;
    case AII_ELEMENT_I8:
      for (uint32_t i = 0; i < file->dims; i++) file->vector[i] = (float)ints[i];
      break;
    case AII_ELEMENT_U8:
      for (uint32_t i = 0; i < file->dims; i++) file->vector[i] = (float)from[i];
      break;
  }
}

aiinfra_status aii_vecfile_next(aii_vecfile *file, aii_vecrow *row, bool *there, aiinfra_error *err)
{
  size_t n;
  *row = (aii_vecrow){0};
  if (file->format == AIINFRA_VECTORS_JSONL) return aii_jsonl_next(file, row, there, err);
  *there = file->row < file->n_rows;
  if (!*there) return AIINFRA_OK;
  aiinfra_status rc = aii_vecfile_fill(file, file->row_bytes, &n, err);
  if (rc == AIINFRA_OK) file->row++;
  if (rc == AIINFRA_OK && n < file->row_bytes) rc = aii_fail(err, AIINFRA_EFORMAT, "the file ended within it");
  if (rc != AIINFRA_OK) return rc;
  const uint8_t *from = file->buffer + file->at;
  if (file->before > 0 && u32_at(from) != file->dims) {
    return aii_fail(err, AIINFRA_EFORMAT, "it has %u dims, but the first row has %u; the file is damaged", u32_at(from),
                    file->dims);
  }
  take_vector(file, from + file->before);
  file->at += file->row_bytes;
  row->vector = file->vector;
  return AIINFRA_OK;
}

static aiinfra_status too_far(const aii_vecfile *file, uint64_t rows, aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_EINVAL, "there is no row %llu to begin with, the file has %llu",
                  (unsigned long long)rows,
                  (unsigned long long)(file->n_rows == AII_ROWS_UNKNOWN ? file->row : file->n_rows));
}

aiinfra_status aii_vecfile_skip(aii_vecfile *file, uint64_t rows, aiinfra_error *err)
{
  bool there = true;
  aiinfra_status rc = AIINFRA_OK;
  if (file->format == AIINFRA_VECTORS_JSONL) {
    while (rc == AIINFRA_OK && there && file->row < rows) rc = aii_jsonl_skip(file, &there, err);
    return rc == AIINFRA_OK && !there ? too_far(file, rows, err) : rc;
  }
  if (rows > file->n_rows) return too_far(file, rows, err);
  if (rows == 0) return AIINFRA_OK;
  uint64_t to = file->bytes - (file->n_rows - rows) * file->row_bytes; /* the last row ends the file */
  if (lseek(file->fd, (off_t)to, SEEK_SET) < 0)
    return aii_fail_errno(err, errno, "go to row %llu", (unsigned long long)rows);
  file->at = file->n = 0;
  file->got = to;
  file->row = rows;
  return AIINFRA_OK;
}
