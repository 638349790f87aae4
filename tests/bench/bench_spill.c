/* bench_spill.c - the time to the first token of prompts that take turns in a KV cache that holds one of them: without a
 * second tier, with one in memory, with one in a file; and in a cache with room for all.
 *
 * All are asked in turn, so that what else the machine does falls on each alike; medians. The file lies in the folder of
 * temporary files and most likely in the page cache.
 * Arguments: model file (the bundled one), tokens of a prompt (480), compute threads (1).
 */
#include <stdio.h>
#include <stdlib.h>

#include "aiinfra/batcher.h"
#include "aiinfra/kv.h"
#include "tests/support/support.h"

enum { PROMPTS = 4, ROUNDS = 9, WAYS = 4, MOST_TOKENS = 8192 };

static const char *const names[WAYS] = {"computed again", "from memory", "from a file", "never left"};

typedef struct way {
  aiinfra_kv *kv;
  aiinfra_batcher *batcher;
  double ms[PROMPTS * ROUNDS];
} way;

static void say(aiinfra_status rc, const aiinfra_error *err)
{
  if (rc != AIINFRA_OK) fprintf(stderr, "%s\n", err->message), exit(1);
}

static void on_result(void *user, aiinfra_status status, const aiinfra_result *result)
{
  if (status != AIINFRA_OK) fprintf(stderr, "%s\n", result->error->message), exit(1);
  *(double *)user = (double)(result->queue_ns + result->prefill_ns) / 1e6;
}

static double ask(const way *w, uint32_t which, uint32_t n_tokens, uint32_t n_vocab)
{
  static aiinfra_token tokens[MOST_TOKENS];
  aiinfra_generate_opts opts = AIINFRA_GENERATE_OPTS_INIT;
  aiinfra_request *request;
  aiinfra_error err;
  double ms = 0;
  for (uint32_t i = 0; i < n_tokens; i++)
    tokens[i] = (aiinfra_token)(10 + (i * 7919u + which * 104729u) % (n_vocab - 10));
  opts.tokens = tokens;
  opts.n_tokens = n_tokens;
  opts.max_tokens = 1;
  say(aiinfra_batcher_generate(w->batcher, &opts, NULL, on_result, &ms, &request, &err), &err);
  say(aiinfra_request_wait(request, 600000, &err), &err);
  aiinfra_request_free(request);
  return ms;
}

static int smaller(const void *a, const void *b)
{
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void open_way(aiinfra_model *model, int i, uint64_t prompt_bytes, way *w)
{
  aiinfra_kv_opts opts = AIINFRA_KV_OPTS_INIT;
  aiinfra_error err;
  opts.budget_bytes = prompt_bytes * (i == 3 ? 2 * PROMPTS : 1);
  if (i == 1 || i == 2) opts.spill_bytes = 2 * PROMPTS * prompt_bytes;
  if (i == 2) opts.spill_dir = getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp";
  say(aiinfra_kv_create(model, &opts, &w->kv, &err), &err);
  say(aiinfra_batcher_create(model, w->kv, NULL, &w->batcher, &err), &err);
}

int main(int argc, char **argv)
{
  static way ways[WAYS];
  aiinfra_runtime_opts runtime_opts = AIINFRA_RUNTIME_OPTS_INIT;
  aiinfra_model_info info = {.struct_size = sizeof info};
  aiinfra_kv_stats stats = {.struct_size = sizeof stats};
  aiinfra_runtime *rt;
  aiinfra_model *model;
  aiinfra_error err;
  aiinfra_kv *any;
  uint32_t n_tokens = argc > 2 ? (uint32_t)atoi(argv[2]) : 480;
  runtime_opts.n_threads = argc > 3 ? atoi(argv[3]) : 1;
  if (n_tokens == 0 || n_tokens > MOST_TOKENS) return fprintf(stderr, "1 to %d tokens\n", MOST_TOKENS), 1;
  say(aiinfra_runtime_create(&runtime_opts, &rt, &err), &err);
  say(aiinfra_model_open(rt, argc > 1 ? argv[1] : test_path("examples/nano/nano.gguf"), NULL, &model, &err), &err);
  say(aiinfra_model_get_info(model, &info, &err), &err);
  say(aiinfra_kv_create(model, NULL, &any, &err), &err);
  say(aiinfra_kv_get_stats(any, &stats, &err), &err);
  aiinfra_kv_free(any);
  uint64_t prompt_bytes = (n_tokens / stats.block_tokens + 2) * stats.block_bytes;
  for (int i = 0; i < WAYS; i++) open_way(model, i, prompt_bytes, &ways[i]);
  for (uint32_t round = 0; round <= ROUNDS; round++)
    for (uint32_t p = 0; p < PROMPTS; p++)
      for (int i = 0; i < WAYS; i++) {
        double ms = ask(&ways[i], p, n_tokens, info.n_vocab);
        if (round > 0) ways[i].ms[(round - 1) * PROMPTS + p] = ms;
      }
  for (int i = 0; i < WAYS; i++) qsort(ways[i].ms, PROMPTS * ROUNDS, sizeof ways[i].ms[0], smaller);
  printf("%u tokens, %.1f MiB of keys and values; to the first token\n", n_tokens, (double)prompt_bytes / (1 << 20));
  for (int i = 0; i < WAYS; i++) {
    double median = ways[i].ms[PROMPTS * ROUNDS / 2];
    printf("  %-16s %9.2f ms   %6.1fx\n", names[i], median, ways[0].ms[PROMPTS * ROUNDS / 2] / median);
    aiinfra_batcher_free(ways[i].batcher);
    aiinfra_kv_free(ways[i].kv);
  }
  aiinfra_model_free(model);
  aiinfra_runtime_free(rt);
  return 0;
}
