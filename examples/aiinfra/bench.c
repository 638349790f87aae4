/* bench.c - `aiinfra bench`: tokens per second of reading a prompt (pp) and of generating (tg), one request at a time.
 *
 * Every round reads another prompt, and the prefix cache is off, so that nothing is found that was not computed. Each
 * figure is the mean over the rounds after a first one that warms up.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

typedef struct timing {
  aiinfra_error error;
  double seconds;
  uint32_t n;
} timing;

typedef struct figure {
  double mean, deviation; /* tokens per second */
} figure;

static void on_prefill(void *user, aiinfra_status status, const aiinfra_result *result)
{
  timing *t = user;
  if (status != AIINFRA_OK) t->error = *result->error;
  t->seconds = (double)result->prefill_ns * 1e-9;
  t->n = result->n_prompt;
}

static void on_decode(void *user, aiinfra_status status, const aiinfra_result *result)
{
  timing *t = user;
  if (status != AIINFRA_OK) t->error = *result->error;
  if (result->n_generated < 2) return;
  t->seconds = (double)result->decode_ns * 1e-9;
  t->n = result->n_generated - 1; /* the first one belongs to the prompt */
}

static int measure(const cli_engine *e, const aiinfra_token *tokens, size_t n_prompt, size_t n_generate, timing *t)
{
  aiinfra_generate_opts opts = AIINFRA_GENERATE_OPTS_INIT;
  aiinfra_request *request;
  aiinfra_error err;
  aiinfra_status rc;
  opts.tokens = tokens;
  opts.n_tokens = n_prompt;
  opts.max_tokens = (uint32_t)n_generate;
  opts.ignore_eos = 1;
  *t = (timing){0};
  rc = aiinfra_batcher_generate(e->batcher, &opts, NULL, n_generate > 1 ? on_decode : on_prefill, t, &request, &err);
  if (rc != AIINFRA_OK) return cli_error("bench", &err);
  rc = cli_wait(request);
  if (rc == AIINFRA_ECANCELED) return cli_fail("interrupted");
  return rc == AIINFRA_OK ? CLI_OK : cli_error("bench", &t->error);
}

static int run_rounds(const cli_engine *e, uint32_t n_vocab, size_t n_prompt, size_t n_generate, int64_t rounds,
                      figure *f)
{
  aiinfra_token *tokens = malloc(n_prompt * sizeof *tokens);
  double sum = 0, squares = 0;
  uint32_t state = 1;
  int code = tokens != NULL ? CLI_OK : cli_fail("out of memory");
  for (int64_t r = -1; r < rounds && code == CLI_OK; r++) {
    timing t;
    double speed;
    for (size_t i = 0; i < n_prompt; i++) {
      state = state * 1664525u + 1013904223u; /* Numerical Recipes' generator */
      tokens[i] = (aiinfra_token)((state >> 8) % n_vocab);
    }
    code = measure(e, tokens, n_prompt, n_generate, &t);
    if (r < 0) continue;
    speed = t.seconds > 0 ? t.n / t.seconds : 0;
    sum += speed;
    squares += speed * speed;
  }
  free(tokens);
  f->mean = sum / (double)rounds;
  f->deviation = sqrt(fmax(0, squares / (double)rounds - f->mean * f->mean));
  return code;
}

static void show(const char *model, const aiinfra_model_info *info, int64_t threads, bool as_json, const char *test,
                 int64_t n, figure f)
{
  const char *name = strrchr(model, '/') != NULL ? strrchr(model, '/') + 1 : model;
  char what[32], count[32];
  snprintf(what, sizeof what, "%s%lld", test, (long long)n);
  snprintf(count, sizeof count, threads > 0 ? "%lld" : "all", (long long)threads);
  if (as_json)
    printf("{\"test\":\"%s\",\"tokens\":%lld,\"threads\":%lld,\"params\":%llu,\"weight_bytes\":%llu,"
           "\"tokens_per_second\":%.2f,\"deviation\":%.2f}\n",
           test, (long long)n, (long long)threads, (unsigned long long)info->n_params,
           (unsigned long long)info->weight_bytes, f.mean, f.deviation);
  else
    printf("| %-24s | %9.2f MiB | %9.2f M | %7s | %-8s | %10.2f +- %.2f |\n", name,
           (double)info->weight_bytes / 1048576, (double)info->n_params * 1e-6, count, what, f.mean, f.deviation);
  fflush(stdout);
}

static int bench(const cli_engine *e, const char *model, int64_t pp, int64_t tg, int64_t threads, int64_t rounds,
                 bool as_json)
{
  aiinfra_model_info info = {.struct_size = sizeof info};
  aiinfra_error err;
  figure f;
  int code = CLI_OK;
  if (aiinfra_model_get_info(e->model, &info, &err) != AIINFRA_OK) return cli_error("bench", &err);
  if (pp >= info.max_context) pp = info.max_context - 1;
  if (tg >= info.max_context) tg = info.max_context - 1;
  if (!as_json)
    printf("| model                    |          size |      params | threads | test     |   tokens per second |\n"
           "| ------------------------ | ------------: | ----------: | ------: | -------- | ------------------: |\n");
  if (pp > 0) code = run_rounds(e, info.n_vocab, (size_t)pp, 1, rounds, &f);
  if (pp > 0 && code == CLI_OK) show(model, &info, threads, as_json, "pp", pp, f);
  if (tg > 1 && code == CLI_OK) code = run_rounds(e, info.n_vocab, 1, (size_t)tg, rounds, &f);
  if (tg > 1 && code == CLI_OK) show(model, &info, threads, as_json, "tg", tg, f);
  return code;
}

int cmd_bench(int argc, char **argv)
{
  int64_t pp = 512, tg = 128, threads = 0, rounds = 3;
  bool as_json = false;
  const cli_option options[] = {
      {"pp", 0, CLI_INT, &pp, 0, 1e6, "N", "tokens of the prompt; 0: leave out (512)"},
      {"tg", 0, CLI_INT, &tg, 0, 1e6, "N", "tokens to generate; 0: leave out (128)"},
      {"threads", 't', CLI_INT, &threads, 0, 1024, "N", "compute threads; 0: one for each core"},
      CLI_PACKED,
      {"rounds", 'r', CLI_INT, &rounds, 1, 1000, "N", "rounds to take the mean of (3)"},
      {"json", 0, CLI_FLAG, &as_json, 0, 0, NULL, "JSON lines"},
      {0}};
  const cli_command command = {"bench", "MODEL [OPTIONS]", "Measures how fast a model reads and generates.", options, 1,
                               1};
  aiinfra_batcher_opts opts = AIINFRA_BATCHER_OPTS_INIT;
  cli_engine e;
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  opts.prefix_cache = -1;
  cli_catch_interrupts();
  code = cli_engine_open(argv[0], threads, &opts, &e);
  if (code != CLI_OK) return code;
  code = bench(&e, argv[0], pp, tg, threads, rounds, as_json);
  cli_engine_close(&e);
  return code;
}
