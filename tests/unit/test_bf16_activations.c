/* test_bf16_activations.c - models of BF16 weights whose activations are rounded to BF16: nearly the same answers, the
 * same ones however a text is cut and on any number of threads, and nothing rounded where no instruction asks for it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "aiinfra/eval.h"
#include "aiinfra/model.h"
#include "src/backend/backend.h"
#include "src/runtime/runtime.h"
#include "tests/support/support.h"

enum { N_TOKENS = 40 };

static const char text[] =
    "Once upon a time there was a little girl. She wanted to read the numbers one, two and three.";
static aiinfra_error err;

static void must(aiinfra_status rc)
{
  if (rc != AIINFRA_OK) fail_msg("%s: %s", aiinfra_status_name(rc), err.message);
}

/* A model that is open, what it says of itself, and its logits of some tokens. */
typedef struct opened {
  aiinfra_runtime *rt;
  aiinfra_model *model;
  aiinfra_eval *eval;
  bool rounds;
  size_t n, n_vocab;
  aiinfra_token tokens[N_TOKENS];
  float *logits; /* [n][n_vocab] */
} opened;

/* The bundled model, its matrices as BF16. */
static opened open_model(int32_t isa, int32_t threads, int32_t bf16_activations)
{
  opened o = {.n = 0};
  aiinfra_runtime_opts ropts = AIINFRA_RUNTIME_OPTS_INIT;
  aiinfra_model_opts opts = AIINFRA_MODEL_OPTS_INIT;
  aiinfra_model_info info = {.struct_size = sizeof info};
  char *json;
  ropts.isa = isa;
  ropts.n_threads = threads;
  opts.load_type = "BF16";
  opts.bf16_activations = bf16_activations;
  must(aiinfra_runtime_create(&ropts, &o.rt, &err));
  must(aiinfra_model_open(o.rt, test_path("examples/nano/nano.gguf"), &opts, &o.model, &err));
  must(aiinfra_model_describe(o.model, &json, &err));
  o.rounds = strstr(json, "\"bf16_activations\":true") != NULL;
  assert_true(o.rounds || strstr(json, "\"bf16_activations\":false") != NULL);
  aiinfra_string_free(json);
  must(aiinfra_model_get_info(o.model, &info, &err));
  must(aiinfra_model_tokenize(o.model, text, strlen(text), 0, o.tokens, N_TOKENS, &o.n, &err));
  assert_true(o.n > 10);
  o.n_vocab = info.n_vocab;
  o.logits = malloc(o.n * o.n_vocab * sizeof *o.logits);
  must(aiinfra_eval_create(o.model, NULL, &o.eval, &err));
  return o;
}

static void close_model(opened *o)
{
  aiinfra_eval_free(o->eval);
  aiinfra_model_free(o->model);
  aiinfra_runtime_free(o->rt);
  free(o->logits);
}

/* All logits, of `step` tokens at a time. */
static void answer(opened *o, size_t step)
{
  aiinfra_eval_cut(o->eval, 0);
  for (size_t at = 0; at < o->n; at += step) {
    size_t some = o->n - at < step ? o->n - at : step;
    must(aiinfra_eval_run(o->eval, o->tokens + at, some, some, o->logits + at * o->n_vocab, some * o->n_vocab, &err));
  }
}

static opened answered(int32_t isa, int32_t threads, int32_t bf16_activations)
{
  opened o = open_model(isa, threads, bf16_activations);
  answer(&o, o.n);
  return o;
}

static bool same(const opened *a, const opened *b)
{
  assert_true(a->n == b->n && a->n_vocab == b->n_vocab);
  return memcmp(a->logits, b->logits, a->n * a->n_vocab * sizeof *a->logits) == 0;
}

static double log_sum(const float *x, size_t n)
{
  double sum = 0, most = (double)x[0];
  for (size_t i = 1; i < n; i++) most = fmax(most, (double)x[i]);
  for (size_t i = 0; i < n; i++) sum += exp((double)x[i] - most);
  return most + log(sum);
}

/* KL(a || b) of the distributions behind the tokens, on average. */
static double divergence(const opened *a, const opened *b)
{
  double sum = 0;
  for (size_t t = 0; t < a->n; t++) {
    const float *p = a->logits + t * a->n_vocab, *q = b->logits + t * b->n_vocab;
    double all_p = log_sum(p, a->n_vocab), all_q = log_sum(q, b->n_vocab);
    for (size_t i = 0; i < a->n_vocab; i++)
      sum += exp((double)p[i] - all_p) * ((double)p[i] - all_p - ((double)q[i] - all_q));
  }
  return sum / (double)a->n;
}

/* The reference does what the instruction does. */
static void test_answers_are_nearly_the_same(void **state)
{
  (void)state;
  opened exact = answered(AIINFRA_ISA_REF, 0, 0), rounded = answered(AIINFRA_ISA_REF, 0, 1);
  assert_true(!exact.rounds && rounded.rounds);
  assert_false(same(&exact, &rounded));
  double kl = divergence(&exact, &rounded);
  print_message("mean divergence by rounding: %.3g nats\n", kl);
  assert_true(kl > 0 && kl < 1e-3);
  close_model(&exact);
  close_model(&rounded);
}

static void test_the_instruction_gives_the_bits_of_the_reference(void **state)
{
  (void)state;
  opened fast = answered(AIINFRA_ISA_DEFAULT, 0, 1);
  bool rounds = fast.rounds;
  if (rounds) {
    opened ref = answered(AIINFRA_ISA_REF, 0, 1);
    assert_true(same(&ref, &fast));
    close_model(&ref);
  }
  close_model(&fast);
  if (!rounds) test_skip("this CPU has no AVX512-BF16");
}

static void test_cuts_and_threads_change_nothing(void **state)
{
  (void)state;
  opened probe = open_model(AIINFRA_ISA_DEFAULT, 0, 1);
  int32_t isa = probe.rounds ? AIINFRA_ISA_DEFAULT : AIINFRA_ISA_REF;
  close_model(&probe);
  opened whole = answered(isa, 1, 1);
  for (int32_t threads = 1; threads <= 4; threads *= 2) {
    opened parts = open_model(isa, threads, 1);
    for (size_t step = 1; step <= 13; step += 4) {
      answer(&parts, step);
      assert_true(same(&whole, &parts));
    }
    close_model(&parts);
  }
  close_model(&whole);
}

static void test_without_the_instruction_nothing_is_rounded(void **state)
{
  (void)state;
  static const int32_t isas[] = {AIINFRA_ISA_AVX2, AIINFRA_ISA_AVXVNNI};
  opened exact = answered(AIINFRA_ISA_DEFAULT, 0, 0);
  int tried = 0;
  for (size_t i = 0; i < AII_COUNT(isas); i++) {
    aiinfra_runtime *rt;
    aiinfra_runtime_opts opts = AIINFRA_RUNTIME_OPTS_INIT;
    opts.isa = isas[i];
    if (aiinfra_runtime_create(&opts, &rt, &err) != AIINFRA_OK) continue;
    aiinfra_runtime_free(rt);
    opened plain = answered(isas[i], 0, 1);
    assert_false(plain.rounds);
    assert_true(same(&exact, &plain));
    close_model(&plain);
    tried++;
  }
  close_model(&exact);
  if (tried == 0) test_skip("this CPU has no AVX2");
}

/* Weights of other types are multiplied as ever. */
static void test_only_bf16_weights(void **state)
{
  (void)state;
  aiinfra_runtime *rt;
  aiinfra_runtime_opts ropts = AIINFRA_RUNTIME_OPTS_INIT;
  aiinfra_model *model;
  aiinfra_model_opts opts = AIINFRA_MODEL_OPTS_INIT;
  char *json;
  ropts.isa = AIINFRA_ISA_REF;
  opts.bf16_activations = 1;
  must(aiinfra_runtime_create(&ropts, &rt, &err));
  must(aiinfra_model_open(rt, test_path("examples/nano/nano.gguf"), &opts, &model, &err));
  must(aiinfra_model_describe(model, &json, &err));
  assert_non_null(strstr(json, "\"bf16_activations\":false"));
  aiinfra_string_free(json);
  aiinfra_model_free(model);
  static const int32_t wrong[] = {-1, 2};
  for (size_t i = 0; i < AII_COUNT(wrong); i++) {
    opts.bf16_activations = wrong[i];
    assert_int_equal(aiinfra_model_open(rt, test_path("examples/nano/nano.gguf"), &opts, &model, &err), AIINFRA_EINVAL);
    assert_non_null(strstr(err.message, "bf16_activations"));
    assert_null(model);
  }
  opts.bf16_activations = 0, opts.reserved = 1;
  assert_int_equal(aiinfra_model_open(rt, test_path("examples/nano/nano.gguf"), &opts, &model, &err), AIINFRA_ENOTSUP);
  aiinfra_runtime_free(rt);
}

/* ---- what attention is told ---- */

static int n_told, n_rounded;

static void look_on(aii_backend *be, const aii_kv_view *kv, uint32_t layer, const aii_rows *rows, const aii_attn *how,
                    const float *q, float *out)
{
  n_told++;
  n_rounded += how->rounded;
  be->ops->attention(be, kv, layer, rows, how, q, out);
}

/* It may round what it multiplies in a model that rounds anyway; the CPU's does not. */
static void test_attention_may_round(void **state)
{
  (void)state;
  for (int32_t rounds = 0; rounds < 2; rounds++) {
    opened o = open_model(AIINFRA_ISA_REF, 0, rounds);
    aii_backend *be = o.rt->backend;
    aii_backend_ops ops = *be->ops;
    ops.attention = look_on;
    be->observed = &ops;
    n_told = n_rounded = 0;
    answer(&o, o.n);
    be->observed = NULL;
    assert_true(n_told > 0);
    assert_int_equal(n_rounded, rounds != 0 ? n_told : 0);
    close_model(&o);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_answers_are_nearly_the_same),
      cmocka_unit_test(test_the_instruction_gives_the_bits_of_the_reference),
      cmocka_unit_test(test_cuts_and_threads_change_nothing),
      cmocka_unit_test(test_without_the_instruction_nothing_is_rounded),
      cmocka_unit_test(test_only_bf16_weights),
      cmocka_unit_test(test_attention_may_round),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
