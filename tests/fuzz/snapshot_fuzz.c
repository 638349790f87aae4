/* snapshot_fuzz.c - any bytes as the file of a collection's graph: refused, or a graph that can be walked over.
 *
 * The first byte chooses: 0, the rest is the file. Else the rest is changes of a right file, five bytes each: where (three
 * bytes), what is laid over it by exclusive or, and how many bytes further the same again; with 2 all sums are made right
 * afterwards, so that what lies behind them is reached.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "src/vector/snapshot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { DIMS = 3, M = 2, SLOTS = 60, CHANGE = 5 };

static aiinfra_runtime *rt;
static aii_snapshot_id id = {.collection = 1, .gen = 7, .nonce = 99};
static uint8_t *right;
static size_t right_bytes;

static void need(bool holds)
{
  if (!holds) abort();
}

static void init(aii_index *index)
{
  need(aii_index_init(index, &rt->mem, aii_kernels_get(rt->isa), DIMS, AIINFRA_METRIC_L2, M, 8, NULL) == AIINFRA_OK);
}

/* A right file; it lives as long as the process. */
static void prepare(void)
{
  char path[] = "/tmp/snapshot-fuzz-XXXXXX";
  aii_index index;
  aii_snapshot_size made;
  need(aiinfra_runtime_create(NULL, &rt, NULL) == AIINFRA_OK);
  init(&index);
  for (int i = 0; i < SLOTS; i++) {
    float v[DIMS] = {(float)(i % 7), (float)(i % 5), (float)i};
    need(aii_index_add(&index, i % 50, v));
  }
  index.seq = 5;
  need(aii_hnsw_build(&index, UINT32_MAX));
  int fd = mkstemp(path);
  need(fd >= 0 && aii_snapshot_write(&index, &id, path, &made, NULL) == AIINFRA_OK);
  close(fd);
  FILE *file = fopen(path, "rb");
  right_bytes = (size_t)made.bytes;
  right = malloc(right_bytes);
  need(file != NULL && right != NULL && fread(right, 1, right_bytes, file) == right_bytes);
  fclose(file);
  unlink(path);
  aii_index_destroy(&index);
}

static void try_file(const uint8_t *bytes, size_t n, bool must)
{
  aii_index index;
  int fd = memfd_create("snapshot", 0);
  need(fd >= 0 && write(fd, bytes, n) == (ssize_t)n);
  init(&index);
  if (aii_snapshot_read(&index, &id, fd, NULL) == AIINFRA_OK) {
    static const float query[DIMS] = {1, 2, 3};
    aii_finds finds = {0};
    aii_walk how = {.ef = 20};
    need(aii_hnsw_search(&index, query, &how, 5, &finds) && finds.n <= index.n);
    aii_finds_free(&index, &finds);
  } else {
    need(!must && index.n == 0);
  }
  aii_index_destroy(&index);
  close(fd);
}

static void try_changed(const uint8_t *data, size_t size, bool mend)
{
  aii_index like;
  uint8_t *bytes = malloc(right_bytes);
  need(bytes != NULL);
  memcpy(bytes, right, right_bytes);
  for (size_t i = 0; i + CHANGE <= size; i += CHANGE) {
    size_t at = data[i] | (size_t)data[i + 1] << 8 | (size_t)data[i + 2] << 16;
    bytes[at % right_bytes] ^= data[i + 3];
    if (data[i + 4] != 0) bytes[(at + data[i + 4]) % right_bytes] ^= data[i + 3];
  }
  init(&like);
  if (!mend || aii_snapshot_seal(&like, bytes, right_bytes)) try_file(bytes, right_bytes, size < CHANGE);
  aii_index_destroy(&like);
  free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  if (rt == NULL) prepare();
  if (size == 0 || data[0] == 0) try_file(data, size, false);
  else try_changed(data + 1, size - 1, data[0] == 2);
  return 0;
}
