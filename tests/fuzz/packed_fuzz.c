/* packed_fuzz.c - any bytes as a file of packed weights: refused, or the same as what the model itself gives.
 *
 * The first byte chooses: 0, the rest is the file; else the rest is laid over a right file by exclusive or, the last two
 * bytes of it say how much is cut off, and with 2 the sum of the header is made right again, so that what lies behind it
 * is reached.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "src/model/arch.h"
#include "src/model/packed.h"
#include "tests/fuzz/small_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static aii_packed *plan;
static uint8_t *right;
static size_t right_bytes;

/* A model, the plan of its packed file, and that file; they live as long as the process. */
static void prepare(void)
{
  char path[] = "/tmp/packed-fuzz-XXXXXX";
  aiinfra_model_opts opts = AIINFRA_MODEL_OPTS_INIT;
  aiinfra_runtime *rt;
  aiinfra_model *model;
  aii_gguf *gguf;
  aii_file file;
  size_t n;
  uint8_t *bytes = gm_model(&shape, &n);
  need(aiinfra_runtime_create(NULL, &rt, NULL) == AIINFRA_OK);
  need(aii_gguf_from_memory(&rt->mem, bytes, n, &gguf, NULL) == AIINFRA_OK);
  need(aii_model_load(rt, gguf, "fuzz", &opts, &model, NULL) == AIINFRA_OK);
  need(aii_packed_plan(model, &plan, NULL) == AIINFRA_OK && plan != NULL);
  for (size_t i = 0; i < plan->header.n_entries; i++) aii_packed_note_source(plan, i);
  int fd = mkstemp(path);
  need(fd >= 0 && aii_packed_write(plan, path, NULL) == AIINFRA_OK);
  need(aii_file_map(path, &file, NULL) == AIINFRA_OK);
  right = malloc(file.size);
  memcpy(right, file.bytes, right_bytes = file.size);
  aii_file_unmap(&file);
  close(fd);
  unlink(path);
  need(aii_packed_check(plan, right, right_bytes, NULL) == AIINFRA_OK);
}

static void try_changed(const uint8_t *data, size_t size, bool mend)
{
  uint8_t *bytes = malloc(right_bytes);
  size_t n = right_bytes, cut = 0;
  memcpy(bytes, right, n);
  if (size >= 2) {
    cut = data[size - 2] + 256u * data[size - 1];
    size -= 2;
  }
  for (size_t i = 0; i < size && i < n; i++) bytes[i] ^= data[i];
  aii_packed_header h;
  memcpy(&h, bytes, sizeof h);
  if (mend && h.n_entries <= (n - sizeof h) / sizeof(aii_packed_entry)) {
    h.sum = aii_packed_directory_sum(h, bytes + sizeof h);
    memcpy(bytes, &h, sizeof h);
  }
  n -= AII_MIN(cut, n);
  uint8_t *exact = malloc(n);
  memcpy(exact, bytes, n);
  if (aii_packed_check(plan, exact, n, NULL) == AIINFRA_OK) {
    need(n == right_bytes);
    for (size_t i = 0; i < plan->header.n_entries; i++)
      need(memcmp(exact + plan->entries[i].at, right + plan->entries[i].at, plan->entries[i].bytes) == 0);
  }
  free(exact);
  free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  if (plan == NULL) prepare();
  if (size == 0 || data[0] == 0) (void)aii_packed_check(plan, data, size, NULL);
  else try_changed(data + 1, size - 1, data[0] == 2);
  return 0;
}
