/* test_penalties.c - penalties and logit biases on a real model: what they do to its text, what is refused, and that
 * neither the batch nor preemption changes what they give.
 */
#include "stories.h"

#include <math.h>

enum { MAX = 120 };

typedef struct collected {
  aiinfra_token tokens[MAX];
  size_t n;
  int ended;
  aiinfra_request *request;
} collected;

static void collect(void *user, const aiinfra_chunk *chunk)
{
  collected *c = user;
  for (size_t i = 0; i < chunk->n_tokens; i++) {
    assert_true(c->n < MAX);
    c->tokens[c->n++] = chunk->tokens[i];
  }
}

static void on_end(void *user, aiinfra_status status, const aiinfra_result *result)
{
  collected *c = user;
  if (status != AIINFRA_OK) print_error("%s\n", result->error->message);
  assert_int_equal(status, AIINFRA_OK);
  c->ended++;
}

static void submit(stories *s, const aiinfra_generate_opts *opts, collected *c)
{
  memset(c, 0, sizeof *c);
  MUST(aiinfra_batcher_generate(s->batcher, opts, collect, on_end, c, &c->request, &stories_err));
}

static void await(collected *c)
{
  assert_int_equal(aiinfra_request_wait(c->request, 60000, &stories_err), AIINFRA_OK);
  aiinfra_request_free(c->request);
  assert_int_equal(c->ended, 1);
}

static void ask(stories *s, const aiinfra_generate_opts *opts, collected *c)
{
  submit(s, opts, c);
  await(c);
}

static size_t times(const collected *c, size_t n, aiinfra_token token)
{
  size_t sum = 0;
  for (size_t i = 0; i < n; i++) sum += c->tokens[i] == token;
  return sum;
}

static size_t n_different(const collected *c)
{
  size_t n = 0;
  for (size_t i = 0; i < c->n; i++) n += times(c, i, c->tokens[i]) == 0;
  return n;
}

static aiinfra_generate_opts greedy(uint32_t n)
{
  aiinfra_generate_opts opts = stories_opts("Once upon a time", n);
  opts.ignore_eos = 1;
  return opts;
}

static void test_repetition_is_punished(void **state)
{
  (void)state;
  collected plain, punished;
  stories s;
  stories_open(&s, 1, NULL);
  aiinfra_generate_opts opts = greedy(MAX);
  ask(&s, &opts, &plain);
  assert_int_equal(plain.n, MAX);
  opts.frequency_penalty = 1.5f, ask(&s, &opts, &punished);
  assert_true(n_different(&punished) > n_different(&plain));
  opts = greedy(MAX), opts.presence_penalty = 2, ask(&s, &opts, &punished);
  assert_true(n_different(&punished) > n_different(&plain));
  opts = greedy(MAX), opts.repeat_penalty = 1.5f, ask(&s, &opts, &punished);
  assert_true(n_different(&punished) > n_different(&plain));
  opts = greedy(MAX), opts.repeat_penalty = 1, opts.penalty_last_n = -1, ask(&s, &opts, &punished); /* off */
  assert_int_equal(punished.n, plain.n);
  assert_memory_equal(punished.tokens, plain.tokens, sizeof plain.tokens);
  stories_close(&s);
}

/* So strong a penalty is a ban: no token comes again as long as it is among the last ones. */
static void test_last_tokens(void **state)
{
  (void)state;
  enum { LAST = 20 };
  collected c;
  stories s;
  stories_open(&s, 1, NULL);
  aiinfra_generate_opts opts = greedy(MAX);
  opts.repeat_penalty = 1e6f;
  opts.penalty_last_n = LAST;
  ask(&s, &opts, &c);
  for (size_t i = 0; i < c.n; i++)
    for (size_t j = i > LAST ? i - LAST : 0; j < i; j++) assert_int_not_equal(c.tokens[i], c.tokens[j]);
  assert_true(n_different(&c) < c.n); /* behind them it may */
  opts.penalty_last_n = -1;
  ask(&s, &opts, &c);
  assert_int_equal(n_different(&c), c.n);
  stories_close(&s);
}

static void test_bias_bans_and_forces(void **state)
{
  (void)state;
  char bias[64];
  collected plain, biased;
  stories s;
  stories_open(&s, 1, NULL);
  aiinfra_generate_opts opts = greedy(40);
  ask(&s, &opts, &plain);
  assert_true(times(&plain, plain.n, plain.tokens[3]) > 0);
  snprintf(bias, sizeof bias, "{\"%d\":-100}", plain.tokens[3]);
  opts.logit_bias = bias;
  ask(&s, &opts, &biased);
  assert_int_equal(biased.n, 40);
  assert_int_equal(times(&biased, biased.n, plain.tokens[3]), 0);
  opts.logit_bias = "{\"300\": 100, \"301\": -0.5}";
  ask(&s, &opts, &biased);
  assert_int_equal(times(&biased, biased.n, 300), 40);
  opts.frequency_penalty = 2; /* wears the bias down */
  opts.logit_bias = "{\"300\": 40}";
  ask(&s, &opts, &biased);
  assert_int_equal(biased.tokens[0], 300);
  assert_in_range(times(&biased, biased.n, 300), 2, 30);
  opts = greedy(40), opts.logit_bias = "{}", ask(&s, &opts, &biased);
  assert_memory_equal(biased.tokens, plain.tokens, 40 * sizeof *plain.tokens);
  stories_close(&s);
}

/* The grammar has the last word. */
static void test_bias_within_a_grammar(void **state)
{
  (void)state;
  stories s;
  stories_open(&s, 1, NULL);
  aiinfra_generate_opts opts = stories_opts("Was she happy? ", 100);
  opts.json_schema = "{\"type\":\"boolean\"}";
  opts.logit_bias = "{\"300\": 100}";
  answer *a = stories_ask(&s, &opts);
  assert_int_equal(a->status, AIINFRA_OK);
  assert_true(strcmp(a->text, "true") == 0 || strcmp(a->text, "false") == 0);
  answer_free(a);
  stories_close(&s);
}

/* Eight requests of eight kinds at once, in a cache that is too small for them. */
static void test_same_in_any_batch(void **state)
{
  (void)state;
  static collected alone[8], together[8];
  aiinfra_generate_opts opts[8];
  aiinfra_runtime_opts rt_opts = AIINFRA_RUNTIME_OPTS_INIT;
  aiinfra_kv_stats kv = {.struct_size = sizeof kv};
  aiinfra_batcher_stats stats = {.struct_size = sizeof stats};
  stories s;
  stories_open(&s, 1, NULL);
  for (int i = 0; i < 8; i++) {
    opts[i] = greedy(60);
    opts[i].temperature = i % 2 ? 0.8f : 0.0f;
    opts[i].seed = 7 + (uint64_t)i;
    opts[i].frequency_penalty = 0.25f * (float)i;
    opts[i].repeat_penalty = i % 3 ? 1.1f : 0.0f;
    opts[i].penalty_last_n = i % 4 * 10 - 1;
    opts[i].logit_bias = i % 2 ? "{\"13\":1.5,\"261\":-3}" : NULL;
    ask(&s, &opts[i], &alone[i]);
  }
  MUST(aiinfra_kv_get_stats(s.kv, &kv, &stories_err));
  stories_close(&s);
  rt_opts.n_threads = 2;
  stories_open_with(&s, &rt_opts, kv.block_bytes * 12, NULL);
  for (int i = 0; i < 8; i++) submit(&s, &opts[i], &together[i]);
  for (int i = 0; i < 8; i++) {
    await(&together[i]);
    assert_int_equal(together[i].n, 60);
    assert_memory_equal(together[i].tokens, alone[i].tokens, sizeof alone[i].tokens);
  }
  MUST(aiinfra_batcher_get_stats(s.batcher, &stats, &stories_err));
  assert_true(stats.preemptions > 0);
  stories_close(&s);
}

/* ---- refusals ------------------------------------------------------------------------------------------------------- */

static void refuse(stories *s, const aiinfra_generate_opts *opts, const char *says)
{
  aiinfra_error err = {0};
  aiinfra_status rc = aiinfra_batcher_generate(s->batcher, opts, NULL, NULL, NULL, NULL, &err);
  assert_int_equal(rc, AIINFRA_EINVAL);
  if (strstr(err.message, says) == NULL) print_error("'%s' does not say '%s'\n", err.message, says);
  assert_non_null(strstr(err.message, says));
}

static void test_refusals(void **state)
{
  (void)state;
  static const char *const biases[] = {"{",
                                       "[]",
                                       "1",
                                       "{\"512\":1}",
                                       "{\"-1\":1}",
                                       "{\"07\":1}",
                                       "{\"\":1}",
                                       "{\"x\":1}",
                                       "{\"1\":101}",
                                       "{\"1\":-100.5}",
                                       "{\"1\":\"1\"}",
                                       "{\"1\":null}",
                                       "{\"99999999999\":1}"};
  static char many[16384];
  size_t n = 0;
  stories s;
  stories_open(&s, 1, NULL);
  aiinfra_generate_opts good = greedy(4), o;
  o = good, o.repeat_penalty = -1, refuse(&s, &o, "repeat_penalty");
  o = good, o.repeat_penalty = NAN, refuse(&s, &o, "repeat_penalty");
  o = good, o.repeat_penalty = INFINITY, refuse(&s, &o, "repeat_penalty");
  o = good, o.penalty_last_n = -2, refuse(&s, &o, "penalty_last_n");
  o = good, o.presence_penalty = 2.1f, refuse(&s, &o, "presence_penalty");
  o = good, o.presence_penalty = NAN, refuse(&s, &o, "presence_penalty");
  o = good, o.frequency_penalty = -2.1f, refuse(&s, &o, "frequency_penalty");
  for (size_t i = 0; i < sizeof biases / sizeof biases[0]; i++)
    o = good, o.logit_bias = biases[i], refuse(&s, &o, "logit_bias");
  for (int i = 0; i < 1025; i++) n += (size_t)snprintf(many + n, sizeof many - n, "%s\"%d\":1", i ? "," : "{", i);
  snprintf(many + n, sizeof many - n, "}");
  o = good, o.logit_bias = many, refuse(&s, &o, "1024");
  answer *a = stories_ask(&s, &good); /* nothing of this hurt it */
  assert_int_equal(a->status, AIINFRA_OK);
  answer_free(a);
  stories_close(&s);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_repetition_is_punished), cmocka_unit_test(test_last_tokens),
      cmocka_unit_test(test_bias_bans_and_forces),   cmocka_unit_test(test_bias_within_a_grammar),
      cmocka_unit_test(test_same_in_any_batch),      cmocka_unit_test(test_refusals),
  };
  if (test_data(STORIES_GGUF) == NULL) return test_skip_all("no %s in AIINFRA_SHARED_DATA", STORIES_GGUF);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
