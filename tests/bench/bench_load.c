/* bench_load.c - opening a model: packed in memory, packed and written, mapped from a packed file; beside reading the file.
 *
 * The model is synthetic, of a few layers of a usual width. Everything is in the page cache; each figure is the best of
 * some runs. What is mapped is checked by its sums, so that all of it is read.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/base/base.h"
#include "src/backend/backend.h"
#include "src/model/model.h"
#include "tests/data/gguf_maker.h"
#include "tests/support/support.h"

enum { RUNS = 5, N_EMBD = 2048, N_FF = 5632, N_LAYERS = 3 };

static const gm_shape shape = {.arch = "llama",
                               .n_vocab = 263,
                               .n_embd = N_EMBD,
                               .n_layers = N_LAYERS,
                               .n_heads = 16,
                               .n_kv_heads = 16,
                               .head_dim = 128,
                               .n_ff = N_FF,
                               .n_rot = 128,
                               .context = 64,
                               .seed = 1};

static aiinfra_runtime *rt;

/* Random codes: only where they go is timed. */
static void matrix(gguf_maker *m, const char *name, aii_dtype type, uint32_t n_in, uint32_t n_out)
{
  static unsigned long long seed = 1;
  const aii_dtype_traits *t = aii_dtype_info((uint32_t)type);
  size_t n = (size_t)n_in / t->block * t->block_bytes * n_out;
  uint64_t *bytes = malloc(n + sizeof *bytes);
  for (size_t i = 0; i <= n / sizeof *bytes; i++) bytes[i] = test_random(&seed);
  gm_tensor(m, name, (uint32_t)type, n_in, n_out, bytes, n);
  free(bytes);
}

static void layer(gguf_maker *m, aii_dtype type, uint32_t l)
{
  static const struct {
    const char *name;
    uint32_t n_in, n_out;
  } parts[] = {{"attn_q", N_EMBD, N_EMBD},      {"attn_k", N_EMBD, N_EMBD}, {"attn_v", N_EMBD, N_EMBD},
               {"attn_output", N_EMBD, N_EMBD}, {"ffn_gate", N_EMBD, N_FF}, {"ffn_up", N_EMBD, N_FF},
               {"ffn_down", N_FF, N_EMBD},      {"attn_norm", N_EMBD, 1},   {"ffn_norm", N_EMBD, 1}};
  for (size_t i = 0; i < AII_COUNT(parts); i++) {
    char name[64];
    snprintf(name, sizeof name, "blk.%u.%s.weight", l, parts[i].name);
    matrix(m, name, parts[i].n_out == 1 ? AII_F32 : type, parts[i].n_in, parts[i].n_out);
  }
}

static size_t write_model(const char *path, aii_dtype type)
{
  gguf_maker m;
  uint64_t r = 1;
  size_t n;
  gm_init(&m);
  gm_model_keys(&m, &shape);
  gm_random_tensor(&m, "token_embd.weight", N_EMBD, shape.n_vocab, 0, 1, &r);
  gm_random_tensor(&m, "output_norm.weight", N_EMBD, 1, 1, 0, &r);
  for (uint32_t l = 0; l < N_LAYERS; l++) layer(&m, type, l);
  uint8_t *bytes = gm_finish(&m, &n);
  if (test_write_file(path, bytes, n) != 0) exit(1);
  free(bytes);
  return n;
}

static double seconds(uint64_t since)
{
  return (double)(aii_now_ns() - since) * 1e-9;
}

static double time_open(const char *path, const char *packed)
{
  aiinfra_model_opts opts = AIINFRA_MODEL_OPTS_INIT;
  aiinfra_error err;
  aiinfra_model *model;
  uint64_t start = aii_now_ns();
  opts.packed_path = packed;
  if (aiinfra_model_open(rt, path, &opts, &model, &err) != AIINFRA_OK) {
    printf("%s\n", err.message);
    exit(1);
  }
  double s = seconds(start);
  aiinfra_model_free(model);
  return s;
}

static double time_read(const char *path)
{
  enum { ROOM = 1 << 20 };
  static char room[ROOM];
  uint64_t start = aii_now_ns();
  int fd = open(path, O_RDONLY);
  while (read(fd, room, ROOM) > 0) continue;
  close(fd);
  return seconds(start);
}

static void keep_best(double *best, double s)
{
  if (s < *best) *best = s;
}

static void measure(aii_dtype type)
{
  const char *path = test_tmp("load.gguf"), *packed = test_tmp("load.packed");
  double mb = (double)write_model(path, type) * 1e-6, reading = 1e9, plain = 1e9, writing = 1e9, mapping = 1e9;
  sleep(3); /* a file that was just written is not yet known by its times */
  for (int run = 0; run < RUNS; run++) {
    (void)unlink(packed);
    keep_best(&reading, time_read(path));
    keep_best(&plain, time_open(path, NULL));
    keep_best(&writing, time_open(path, packed));
    keep_best(&mapping, time_open(path, packed));
  }
  printf("%-5s %5.0f  %7.3f  %7.3f  %14.3f  %7.3f (%.1f GB/s)\n", aii_dtype_info((uint32_t)type)->name, mb, reading,
         plain, writing, mapping, mb * 1e-3 / mapping);
}

int main(void)
{
  static const aii_dtype types[] = {AII_Q8_0, AII_Q4_0, AII_Q5_0, AII_Q4_K};
  if (aiinfra_runtime_create(NULL, &rt, NULL) != AIINFRA_OK) return 1;
  printf("seconds, with %u threads\ntype     MB  read(2)   packed  packed+written   mapped\n",
         aii_pool_threads(rt->pool));
  for (size_t i = 0; i < AII_COUNT(types); i++) measure(types[i]);
  aiinfra_runtime_free(rt);
  return 0;
}
