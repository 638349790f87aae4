/* bench.c - `aiinfra bench`: tokens per second of reading a prompt (pp) and of generating (tg).
 *
 * A test has a cache of just the size it needs, and is run once, shortly, before it is measured. Every round reads
 * another prompt. Generating begins behind a prompt of `depth` tokens, which is computed once and found in the prefix
 * cache from then on; several sequences are generated together, and their tokens are added up.
 *
 * With --stdin the tests come from another program, one round a line, so that it can alternate with somebody else's.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"

enum { BLOCK_TOKENS = 16, MAX_SEQUENCES = 256 };

typedef struct test {
  bool generate;
  int64_t tokens, depth, sequences;
} test;

typedef struct share { /* of one sequence in a round */
  aiinfra_request *request;
  aiinfra_error error;
  double seconds;
  uint32_t n;
  bool generate;
} share;

typedef struct figure {
  double mean, deviation; /* tokens per second */
} figure;

typedef struct bench {
  cli_engine engine;
  aiinfra_model_info info;
  const char *model;
  int64_t threads;
  int32_t kv_type;
  test prepared; /* what the cache and the batcher are made for */
  uint32_t n_prompts;
  bool as_json;
} bench;

/* ---- one round --------------------------------------------------------------------------------------------------------- */

static void on_result(void *user, aiinfra_status status, const aiinfra_result *result)
{
  share *s = user;
  if (status != AIINFRA_OK) s->error = *result->error;
  s->seconds = (double)(s->generate ? result->decode_ns : result->prefill_ns) * 1e-9;
  /* The first generated token belongs to the prompt. */
  s->n = !s->generate ? result->n_prompt : result->n_generated > 0 ? result->n_generated - 1 : 0;
}

static aiinfra_status submit(const bench *b, const test *t, uint32_t seed, aiinfra_token *tokens, share *s)
{
  aiinfra_generate_opts opts = AIINFRA_GENERATE_OPTS_INIT;
  opts.tokens = tokens;
  opts.n_tokens = (size_t)(t->generate ? t->depth + 1 : t->tokens);
  opts.max_tokens = t->generate ? (uint32_t)t->tokens + 1 : 1;
  opts.ignore_eos = 1;
  for (size_t i = 0; i < opts.n_tokens; i++) {
    seed = seed * 1664525u + 1013904223u; /* Numerical Recipes' generator */
    tokens[i] = (aiinfra_token)((seed >> 8) % b->info.n_vocab);
  }
  s->generate = t->generate;
  return aiinfra_batcher_generate(b->engine.batcher, &opts, NULL, on_result, s, &s->request, &s->error);
}

/* After the first failure the others are cancelled, and waited for. */
static int wait_for_all(share *shares, int64_t n, int code)
{
  for (int64_t i = 0; i < n; i++) {
    aiinfra_status rc;
    if (shares[i].request == NULL) continue;
    if (code != CLI_OK) aiinfra_request_cancel(shares[i].request);
    rc = cli_wait(shares[i].request);
    if (code != CLI_OK || rc == AIINFRA_OK) continue;
    code = rc == AIINFRA_ECANCELED ? cli_fail("interrupted") : cli_error("bench", &shares[i].error);
  }
  return code;
}

static int run_round(bench *b, const test *t, double *speed)
{
  size_t n_tokens = (size_t)(t->generate ? t->depth + 1 : t->tokens);
  aiinfra_token *tokens = malloc(n_tokens * sizeof *tokens);
  share *shares = calloc((size_t)t->sequences, sizeof *shares);
  int code = tokens != NULL && shares != NULL ? CLI_OK : cli_fail("out of memory");
  double n = 0, seconds = 0;
  for (int64_t i = 0; i < t->sequences && code == CLI_OK; i++) {
    uint32_t seed = t->generate ? (uint32_t)i + 1 : ++b->n_prompts;
    if (submit(b, t, seed, tokens, &shares[i]) != AIINFRA_OK) code = cli_error("bench", &shares[i].error);
  }
  if (shares != NULL) code = wait_for_all(shares, t->sequences, code);
  for (int64_t i = 0; i < t->sequences && code == CLI_OK; i++) {
    n += shares[i].n;
    seconds = fmax(seconds, shares[i].seconds);
  }
  *speed = seconds > 0 ? n / seconds : 0;
  free(shares);
  free(tokens);
  return code;
}

/* ---- a test ------------------------------------------------------------------------------------------------------------ */

static void forget(bench *b)
{
  aiinfra_batcher_free(b->engine.batcher);
  aiinfra_kv_free(b->engine.kv);
  b->engine.batcher = NULL;
  b->engine.kv = NULL;
  b->prepared = (test){0};
}

/* Makes cache and batcher, and runs once what is not measured: it fills the prefix cache, if the test has a depth. */
static int prepare(bench *b, const test *t)
{
  const test *p = &b->prepared;
  aiinfra_batcher_opts opts = AIINFRA_BATCHER_OPTS_INIT;
  aiinfra_kv_opts kv_opts = AIINFRA_KV_OPTS_INIT;
  test warm_up = {.generate = true, .tokens = 1, .depth = t->depth, .sequences = t->sequences};
  uint64_t blocks = (uint64_t)((t->depth + t->tokens) / BLOCK_TOKENS + 2) * (uint64_t)t->sequences;
  aiinfra_error err;
  double speed;
  if (p->generate == t->generate && p->tokens == t->tokens && p->depth == t->depth && p->sequences == t->sequences)
    return CLI_OK;
  forget(b);
  /* As F32, which is enough for every type. */
  kv_opts.budget_bytes = blocks * BLOCK_TOKENS * b->info.n_layers * b->info.n_kv_heads * b->info.head_dim * 2 * 4;
  kv_opts.block_tokens = BLOCK_TOKENS;
  kv_opts.dtype = b->kv_type;
  opts.max_running = (uint32_t)t->sequences;
  opts.prefix_cache = t->depth > 0 ? 1 : -1;
  if (aiinfra_kv_create(b->engine.model, &kv_opts, &b->engine.kv, &err) != AIINFRA_OK ||
      aiinfra_batcher_create(b->engine.model, b->engine.kv, &opts, &b->engine.batcher, &err) != AIINFRA_OK)
    return cli_error("bench", &err);
  b->prepared = *t;
  return run_round(b, &warm_up, &speed);
}

static int run_test(bench *b, const test *t, int64_t rounds, figure *f)
{
  double sum = 0, squares = 0;
  int code = prepare(b, t);
  for (int64_t r = 0; r < rounds && code == CLI_OK; r++) {
    double speed;
    code = run_round(b, t, &speed);
    sum += speed;
    squares += speed * speed;
  }
  f->mean = sum / (double)rounds;
  f->deviation = sqrt(fmax(0, squares / (double)rounds - f->mean * f->mean));
  return code;
}

static void show(const bench *b, const test *t, figure f)
{
  const char *name = strrchr(b->model, '/') != NULL ? strrchr(b->model, '/') + 1 : b->model;
  const char *kind = t->generate ? "tg" : "pp";
  char what[96], count[32];
  int n = snprintf(what, sizeof what, "%s%lld", kind, (long long)t->tokens);
  if (t->depth > 0) n += snprintf(what + n, sizeof what - (size_t)n, "@%lld", (long long)t->depth);
  if (t->sequences > 1) (void)snprintf(what + n, sizeof what - (size_t)n, " x%lld", (long long)t->sequences);
  (void)snprintf(count, sizeof count, b->threads > 0 ? "%lld" : "all", (long long)b->threads);
  if (b->as_json)
    printf("{\"test\":\"%s\",\"tokens\":%lld,\"depth\":%lld,\"sequences\":%lld,\"threads\":%lld,\"params\":%llu,"
           "\"weight_bytes\":%llu,\"tokens_per_second\":%.2f,\"deviation\":%.2f}\n",
           kind, (long long)t->tokens, (long long)t->depth, (long long)t->sequences, (long long)b->threads,
           (unsigned long long)b->info.n_params, (unsigned long long)b->info.weight_bytes, f.mean, f.deviation);
  else
    printf("| %-24s | %9.2f MiB | %9.2f M | %7s | %-12s | %10.2f +- %.2f |\n", name,
           (double)b->info.weight_bytes / 1048576, (double)b->info.n_params * 1e-6, count, what, f.mean, f.deviation);
  fflush(stdout);
}

/* A sequence must fit the model's context. */
static test fit(const bench *b, test t)
{
  int64_t room = (int64_t)b->info.max_context - 2;
  if (t.depth >= room) t.depth = room - 1;
  if (t.tokens > room - t.depth) t.tokens = room - t.depth;
  return t;
}

static int measure(bench *b, test t, int64_t rounds)
{
  figure f;
  int code;
  t = fit(b, t);
  code = run_test(b, &t, rounds, &f);
  if (code == CLI_OK) show(b, &t, f);
  return code;
}

/* ---- tests from another program ------------------------------------------------------------------------------------------ */

static double now(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Says that the first token is computed, how long that took, and what computes. */
static int show_ready(bench *b, double start)
{
  const test first = {.tokens = 1, .sequences = 1};
  char *runtime;
  aiinfra_error err;
  int code = prepare(b, &first);
  double seconds = now() - start;
  if (code != CLI_OK) return code;
  if (aiinfra_runtime_describe(b->engine.runtime, &runtime, &err) != AIINFRA_OK) return cli_error("bench", &err);
  printf("{\"load_seconds\":%.4f,\"params\":%llu,\"weight_bytes\":%llu,\"runtime\":%s}\n", seconds,
         (unsigned long long)b->info.n_params, (unsigned long long)b->info.weight_bytes, runtime);
  fflush(stdout);
  aiinfra_string_free(runtime);
  return CLI_OK;
}

static int answer(bench *b, const char *line)
{
  char kind[3] = "";
  long long tokens = 0, depth = 0, sequences = 1;
  int n = sscanf(line, "%2s %7lld %7lld %3lld", kind, &tokens, &depth, &sequences);
  test t = {.generate = strcmp(kind, "tg") == 0, .tokens = tokens, .depth = depth, .sequences = sequences};
  if (n < 2 || (!t.generate && (strcmp(kind, "pp") != 0 || n > 2)) || tokens < 1 || depth < 0 || sequences < 1 ||
      sequences > MAX_SEQUENCES)
    return cli_usage("bench", "'%.*s' is no test; these are: pp N, tg N [DEPTH [SEQUENCES]]", (int)strcspn(line, "\n"),
                     line);
  return measure(b, t, 1);
}

static int answer_all(bench *b, double start)
{
  char line[256];
  int code;
  b->as_json = true;
  code = show_ready(b, start);
  while (code == CLI_OK && fgets(line, sizeof line, stdin) != NULL) code = answer(b, line);
  return code;
}

/* ---- the command --------------------------------------------------------------------------------------------------------- */

static int measure_both(bench *b, const test *pp, const test *tg, int64_t rounds)
{
  int code = CLI_OK;
  if (!b->as_json)
    printf(
        "| model                    |          size |      params | threads | test         |   tokens per second |\n"
        "| ------------------------ | ------------: | ----------: | ------: | ------------ | ------------------: |\n");
  if (pp->tokens > 0) code = measure(b, *pp, rounds);
  if (tg->tokens > 0 && code == CLI_OK) code = measure(b, *tg, rounds);
  return code;
}

static bool find_isa(const char *name)
{
  static const char *const names[] = {"ref", "avx2", "avx512", "avxvnni", "amx"};
  static const int32_t isas[] = {AIINFRA_ISA_REF, AIINFRA_ISA_AVX2, AIINFRA_ISA_AVX512, AIINFRA_ISA_AVXVNNI,
                                 AIINFRA_ISA_AMX};
  for (size_t i = 0; name != NULL && i < sizeof isas / sizeof isas[0]; i++)
    if (strcmp(name, names[i]) == 0) cli_isa = isas[i];
  if (name == NULL || cli_isa != 0) return true;
  cli_fail("--isa is '%.20s', must be ref, avx2, avx512, avxvnni or amx", name);
  return false;
}

int cmd_bench(int argc, char **argv)
{
  test pp = {.tokens = 512, .sequences = 1}, tg = {.generate = true, .tokens = 128, .sequences = 1};
  bench b = {.info.struct_size = sizeof b.info};
  int64_t rounds = 3;
  const char *kv_type = NULL, *isa = NULL;
  bool from_stdin = false;
  const cli_option options[] = {
      {"pp", 0, CLI_INT, &pp.tokens, 0, 1e6, "N", "tokens of the prompt; 0: leave out (512)"},
      {"tg", 0, CLI_INT, &tg.tokens, 0, 1e6, "N", "tokens to generate; 0: leave out (128)"},
      {"depth", 'd', CLI_INT, &tg.depth, 0, 1e6, "N", "tokens that stand before the generated ones (0)"},
      {"sequences", 's', CLI_INT, &tg.sequences, 1, MAX_SEQUENCES, "N", "sequences to generate at once (1)"},
      {"threads", 't', CLI_INT, &b.threads, 0, 1024, "N", "compute threads; 0: one for each core"},
      {"isa", 0, CLI_TEXT, &isa, 0, 0, "ISA",
       "instructions to use: ref, avx2, avxvnni, avx512, amx; without it: the best"},
      CLI_KV_TYPE(kv_type),
      CLI_PACKED,
      CLI_BF16,
      CLI_DEVICE,
      CLI_RANKS,
      {"rounds", 'r', CLI_INT, &rounds, 1, 1000, "N", "rounds to take the mean of (3)"},
      {"json", 0, CLI_FLAG, &b.as_json, 0, 0, NULL, "JSON lines"},
      {"stdin", 0, CLI_FLAG, &from_stdin, 0, 0, NULL, "tests from standard input, each a round and a JSON line"},
      {0}};
  const cli_command command = {"bench", "MODEL [OPTIONS]", "Measures how fast a model reads and generates.", options, 1,
                               1};
  aiinfra_error err;
  double start;
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  b.model = argv[0];
  cli_catch_interrupts();
  if (!cli_kv_type(kv_type, &b.kv_type) || !find_isa(isa)) return CLI_USAGE;
  start = now();
  code = cli_model_open(b.model, b.threads, &b.engine);
  if (code != CLI_OK) return code;
  if (aiinfra_model_get_info(b.engine.model, &b.info, &err) != AIINFRA_OK) code = cli_error("bench", &err);
  else code = from_stdin ? answer_all(&b, start) : measure_both(&b, &pp, &tg, rounds);
  cli_engine_close(&b.engine);
  return code;
}
