/* kv_file_fuzz.c - any bytes as a file of KV blocks: refused, or a cache that holds together and can be used.
 *
 * The first byte chooses: 0, the rest is the file; else the rest is laid over a right file by exclusive or, and the last two
 * bytes of it say how much is cut off. Where the first byte is even, all sums are made right again, so that what lies
 * behind them is reached.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "src/kv/kv.h"
#include "src/model/arch.h"
#include "tests/fuzz/small_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BLOCK = 2, N_TOKENS = 9, HEADER = 96, HEAD = 32 };

static aiinfra_runtime *rt;
static aiinfra_model *model;
static aiinfra_token tokens[N_TOKENS];
static char path[] = "/tmp/kv-file-fuzz-XXXXXX";
static uint8_t *right;
static size_t right_bytes;
static int fd;

static aiinfra_kv *new_cache(uint64_t blocks, uint64_t slots)
{
  aiinfra_kv_opts opts = AIINFRA_KV_OPTS_INIT;
  aiinfra_kv *kv = NULL;
  opts.block_tokens = BLOCK;
  opts.budget_bytes = blocks * 256;
  opts.spill_bytes = slots * 256;
  need(aiinfra_kv_create(model, &opts, &kv, NULL) == AIINFRA_OK);
  return kv;
}

/* Looks a text up, computes the rest of it as far as the pool knows, and gives it back. */
static uint32_t use(aiinfra_kv *kv)
{
  uint32_t from, to, n;
  aii_kv_seq seq;
  need(aii_kv_seq_init(&rt->mem, &seq, kv->pool, N_TOKENS, 0, NULL) == AIINFRA_OK);
  uint32_t found = aii_kv_match(kv->pool, &seq, tokens, N_TOKENS);
  if (aii_kv_extend(kv->pool, &seq, N_TOKENS - found, &from, &to) == AIINFRA_OK) {
    const aii_kv_move *moves = aii_kv_moves(kv->pool, &n);
    for (uint32_t i = 0; i < n; i++) need(aii_kv_store_move(kv->store, &kv->view, &moves[i], NULL) == AIINFRA_OK);
    aii_kv_moves_done(kv->pool);
    aii_kv_publish(kv->pool, &seq, tokens, N_TOKENS, false);
  }
  aii_kv_seq_destroy(&rt->mem, &seq, kv->pool);
  return found;
}

static void prepare(void)
{
  aiinfra_model_opts opts = AIINFRA_MODEL_OPTS_INIT;
  aii_gguf *gguf;
  aii_file file;
  size_t n;
  uint8_t *bytes = gm_model(&shape, &n);
  need(aiinfra_runtime_create(NULL, &rt, NULL) == AIINFRA_OK);
  need(aii_gguf_from_memory(&rt->mem, bytes, n, &gguf, NULL) == AIINFRA_OK);
  need(aii_model_load(rt, gguf, "fuzz", &opts, &model, NULL) == AIINFRA_OK);
  for (int i = 0; i < N_TOKENS; i++) tokens[i] = i;
  fd = mkstemp(path);
  aiinfra_kv *kv = new_cache(8, 0);
  need(fd >= 0 && use(kv) == 0 && aiinfra_kv_save(kv, path, NULL) == AIINFRA_OK);
  aiinfra_kv_free(kv);
  need(aii_file_map(path, &file, NULL) == AIINFRA_OK);
  right = malloc(file.size);
  memcpy(right, file.bytes, right_bytes = file.size);
  aii_file_unmap(&file);
  (void)close(fd);
  unlink(path);
  fd = memfd_create("kv", MFD_CLOEXEC);
  need(fd >= 0 && snprintf(path, sizeof path, "/proc/self/fd/%d", fd) > 0);
}

static void put_u64(uint8_t *at, uint64_t v)
{
  memcpy(at, &v, sizeof v);
}

static void mend(uint8_t *file, size_t n, size_t block_bytes)
{
  size_t text = BLOCK * sizeof(aiinfra_token), each = HEAD + text + block_bytes;
  if (n < HEADER) return;
  put_u64(file + HEADER - 8, 0);
  put_u64(file + HEADER - 8, aii_hash64(file, HEADER, 0));
  for (uint8_t *at = file + HEADER; (size_t)(file + n - at) >= each; at += each) {
    put_u64(at + 24, aii_sum_of(rt->pool, at + HEAD + text, block_bytes));
    put_u64(at + 24, aii_hash64(at + HEAD, text, aii_hash64(at, HEAD, 0)));
  }
}

static void try_file(const uint8_t *bytes, size_t n)
{
  need(ftruncate(fd, 0) == 0 && pwrite(fd, bytes, n, 0) == (ssize_t)n);
  for (uint64_t slots = 0; slots < 4; slots += 3) {
    aiinfra_kv *kv = new_cache(2, slots);
    aiinfra_status rc = aiinfra_kv_load(kv, path, NULL);
    need(use(kv) == 0 || rc == AIINFRA_OK);
    (void)use(kv);
    aiinfra_kv_free(kv);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  if (right == NULL) prepare();
  if (size < 3) return 0;
  if (data[0] == 0) {
    try_file(data + 1, size - 1);
    return 0;
  }
  size_t cut = (size_t)data[size - 2] << 8 | data[size - 1], n = right_bytes - (cut < right_bytes ? cut : 0);
  uint8_t *file = malloc(n);
  need(file != NULL);
  memcpy(file, right, n);
  for (size_t i = 0; i < n && i + 3 < size; i++) file[i] ^= data[1 + i];
  aiinfra_kv *kv = new_cache(2, 0);
  if (data[0] % 2 == 0) mend(file, n, kv->view.block_bytes);
  aiinfra_kv_free(kv);
  try_file(file, n);
  free(file);
  return 0;
}
