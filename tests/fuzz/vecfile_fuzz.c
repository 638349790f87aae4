/* vecfile_fuzz.c - any bytes as a file of vectors: refused, or rows that can all be read, and written as they were read.
 *
 * The first byte chooses the format, the rest is the file.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "src/vector/vecfile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static aiinfra_runtime *rt;

static void need(bool holds)
{
  if (!holds) abort();
}

static aiinfra_status open_bytes(aii_vecfile *file, const void *bytes, size_t n, int32_t format)
{
  int fd = memfd_create("vectors", 0);
  need(fd >= 0 && (n == 0 || write(fd, bytes, n) == (ssize_t)n) && lseek(fd, 0, SEEK_SET) == 0);
  return aii_vecfile_take(file, &rt->mem, aii_kernels_get(rt->isa), "fuzz", fd, format, NULL);
}

static void need_same_named(const aii_vecrow *a, const aii_vecrow *b)
{
  need(a->n_named == b->n_named);
  for (size_t i = 0; i < a->n_named; i++) {
    const aii_rowvec *x = &a->named[i], *y = &b->named[i];
    need(strcmp(x->name, y->name) == 0 && x->n == y->n && x->dims == y->dims);
    need((x->values == NULL) == (y->values == NULL) && (x->indices == NULL) == (y->indices == NULL));
    for (size_t j = 0; j < x->n; j++) {
      need(x->values[j] == y->values[j] && (x->indices == NULL || x->indices[j] == y->indices[j]));
    }
  }
}

/* A row that was read, written and read again is the same row. */
static void write_again(const aii_vecrow *row, uint32_t dims)
{
  aii_vecfile file;
  aii_vecrow again;
  aii_buf line;
  bool there;
  aii_buf_init(&line, &rt->mem, 0);
  aii_jsonl_write(&line, row, dims);
  need(!line.failed && memchr(line.data, '\n', line.len - 1) == NULL);
  need(open_bytes(&file, line.data, line.len, AIINFRA_VECTORS_JSONL) == AIINFRA_OK && file.dims == dims);
  need(aii_vecfile_next(&file, &again, &there, NULL) == AIINFRA_OK && there);
  need(again.id == row->id && again.expires_ms == row->expires_ms);
  for (uint32_t i = 0; i < dims; i++) need(again.vector[i] == row->vector[i]);
  need((again.text == NULL) == (row->text == NULL) && (row->text == NULL || strcmp(again.text, row->text) == 0));
  need((again.payload == NULL) == (row->payload == NULL));
  need_same_named(row, &again);
  need(aii_vecfile_next(&file, &again, &there, NULL) == AIINFRA_OK && !there);
  aii_vecfile_close(&file);
  aii_buf_free(&line);
}

static uint64_t read_all(aii_vecfile *file, bool *whole)
{
  aii_vecrow row;
  uint64_t n = 0;
  bool there = true;
  while ((*whole = aii_vecfile_next(file, &row, &there, NULL) == AIINFRA_OK) && there) {
    volatile float sum = 0;
    for (uint32_t i = 0; i < file->dims; i++) sum += row.vector[i];
    if (file->format == AIINFRA_VECTORS_JSONL) write_again(&row, file->dims);
    n++;
  }
  return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  aii_vecfile file;
  bool whole = false;
  if (rt == NULL) need(aiinfra_runtime_create(NULL, &rt, NULL) == AIINFRA_OK);
  if (size == 0) return 0;
  int32_t format = data[0] % 7;
  if (open_bytes(&file, data + 1, size - 1, format) != AIINFRA_OK) return 0;
  uint64_t n = read_all(&file, &whole);
  need(!whole || n == file.n_rows);
  aii_vecfile_close(&file);
  if (!whole || n == 0) return 0;
  need(open_bytes(&file, data + 1, size - 1, format) == AIINFRA_OK);
  need(aii_vecfile_skip(&file, n - 1, NULL) == AIINFRA_OK && read_all(&file, &whole) == 1 && whole);
  need(aii_vecfile_skip(&file, n + 1, NULL) == AIINFRA_EINVAL);
  aii_vecfile_close(&file);
  return 0;
}
