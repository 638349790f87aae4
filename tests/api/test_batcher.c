/* test_batcher.c - a real model through the front door: its text is the golden one, alone, in any batch, on any number of
 * threads, out of the prefix cache, after preemption; and every other promise of aiinfra/batcher.h.
 */
#include "stories.h"

#include <math.h>

static void assert_answer(const answer *a, aiinfra_status status, aiinfra_finish finish)
{
  if (a->status != status) print_error("%s: %s\n", aiinfra_status_name(a->status), a->message);
  assert_int_equal(a->status, status);
  assert_int_equal(a->result.finish, finish);
  if (finish != AIINFRA_FINISH_TOOL) assert_string_equal(a->chunks, a->text);
  if (status == AIINFRA_OK) assert_int_equal(a->n_tokens, a->result.n_generated);
}

/* ---- the text ----------------------------------------------------------------------------------------------------- */

static void golden_with(int32_t n_threads)
{
  char *golden = test_read_file(test_data(STORIES_GOLDEN), NULL);
  stories s;
  stories_open(&s, n_threads, NULL);
  aiinfra_generate_opts opts = stories_opts("", 200); /* BOS alone */
  answer *a = stories_ask(&s, &opts);
  assert_answer(a, AIINFRA_OK, AIINFRA_FINISH_LENGTH);
  assert_string_equal(a->text, golden);
  assert_int_equal(a->result.n_generated, 200);
  assert_int_equal(a->result.n_prompt, 1);
  assert_true(a->result.prefill_ns > 0 && a->result.decode_ns > 0);
  answer_free(a);
  stories_close(&s);
  free(golden);
}

static void test_golden_text(void **state)
{
  (void)state;
  golden_with(1);
  golden_with(2);
}

/* The same prompts at once: no text may change. Returns the preemptions. */
static uint64_t ask_together(char texts[8][1024], int32_t n_threads, uint32_t step_tokens, uint64_t kv_bytes)
{
  aiinfra_runtime_opts rt_opts = AIINFRA_RUNTIME_OPTS_INIT;
  aiinfra_batcher_opts opts = AIINFRA_BATCHER_OPTS_INIT;
  aiinfra_batcher_stats stats = {.struct_size = sizeof stats};
  answer *answers[16];
  stories s;
  rt_opts.n_threads = n_threads;
  opts.max_step_tokens = step_tokens;
  stories_open_with(&s, &rt_opts, kv_bytes, &opts);
  for (int i = 0; i < 16; i++) {
    aiinfra_generate_opts ask = stories_opts(stories_prompts[i % 8], 60);
    answers[i] = stories_submit(&s, &ask);
  }
  for (int i = 0; i < 16; i++) {
    stories_wait(answers[i]);
    assert_string_equal(answers[i]->text, texts[i % 8]);
    answer_free(answers[i]);
  }
  MUST(aiinfra_batcher_get_stats(s.batcher, &stats, &stories_err));
  assert_int_equal(stats.n_running + stats.n_waiting, 0);
  assert_true(stats.generated_tokens > 0 && stats.busy_ns > 0);
  stories_close(&s);
  return stats.preemptions;
}

static void test_text_does_not_depend_on_the_batch(void **state)
{
  (void)state;
  static char texts[8][1024];
  stories_alone(texts);
  ask_together(texts, 1, 0, 0);
  ask_together(texts, 2, 0, 0);
  ask_together(texts, 2, 32, 0); /* prompts in small chunks */
}

static void test_text_survives_preemption(void **state)
{
  (void)state;
  static char texts[8][1024];
  stories s;
  stories_alone(texts);
  stories_open(&s, 1, NULL);
  aiinfra_kv_stats kv = {.struct_size = sizeof kv};
  MUST(aiinfra_kv_get_stats(s.kv, &kv, &stories_err));
  stories_close(&s);
  assert_true(ask_together(texts, 1, 0, kv.block_bytes * 12) > 0);
}

static void test_prefix_cache(void **state)
{
  (void)state;
  stories s;
  stories_open(&s, 1, NULL);
  aiinfra_generate_opts ask = stories_opts(stories_prompts[3], 60);
  answer *first = stories_ask(&s, &ask), *second = stories_ask(&s, &ask);
  assert_int_equal(first->result.n_cached, 0);
  assert_true(second->result.n_cached > 0);
  assert_true(second->result.n_cached < second->result.n_prompt);
  assert_string_equal(first->text, second->text);
  answer_free(first);
  answer_free(second);
  stories_close(&s);
}

static void test_sampling_repeats_with_its_seed(void **state)
{
  (void)state;
  stories s;
  stories_open(&s, 1, NULL);
  aiinfra_generate_opts ask = stories_opts("Once upon a time", 80);
  ask.temperature = 1.0f;
  ask.top_p = 0.95f;
  ask.top_k = 40;
  ask.min_p = 0.01f;
  ask.seed = 42;
  answer *a = stories_ask(&s, &ask), *again = stories_ask(&s, &ask);
  ask.seed = 43;
  answer *other = stories_ask(&s, &ask);
  ask.seed = 0;
  answer *any1 = stories_ask(&s, &ask), *any2 = stories_ask(&s, &ask);
  assert_string_equal(a->text, again->text);
  assert_string_not_equal(a->text, other->text);
  assert_string_not_equal(any1->text, any2->text);
  answer_free(a), answer_free(again), answer_free(other), answer_free(any1), answer_free(any2);
  stories_close(&s);
}

static void test_stop_strings(void **state)
{
  (void)state;
  char *golden = test_read_file(test_data(STORIES_GOLDEN), NULL);
  const char *stops[] = {"never here", "d ball. She w", "Lily was sad"};
  stories s;
  stories_open(&s, 1, NULL);
  aiinfra_generate_opts ask = stories_opts("", 200);
  ask.stop = stops;
  ask.n_stop = 3;
  answer *a = stories_ask(&s, &ask);
  assert_answer(a, AIINFRA_OK, AIINFRA_FINISH_STOP);
  *strstr(golden, stops[1]) = '\0';
  assert_string_equal(a->text, golden);
  answer_free(a);
  stories_close(&s);
  free(golden);
}

/* ---- refusals ------------------------------------------------------------------------------------------------------ */

static void refuse(stories *s, const aiinfra_generate_opts *opts, aiinfra_status expected, const char *says)
{
  aiinfra_error err = {0};
  aiinfra_request *request = (aiinfra_request *)s;
  aiinfra_status rc = aiinfra_batcher_generate(s->batcher, opts, NULL, answer_on_result, NULL, &request, &err);
  assert_int_equal(rc, expected);
  assert_null(request);
  if (strstr(err.message, says) == NULL) print_error("'%s' does not say '%s'\n", err.message, says);
  assert_non_null(strstr(err.message, says));
}

static void test_refusals(void **state)
{
  (void)state;
  static aiinfra_token many[3000];
  const char *stops[17] = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q"};
  stories s;
  stories_open(&s, 1, NULL);
  aiinfra_generate_opts good = stories_opts("x", 4), o;
  o = good, o.text = NULL, refuse(&s, &o, AIINFRA_EINVAL, "exactly one");
  o = good, o.messages_json = "[]", refuse(&s, &o, AIINFRA_EINVAL, "exactly one");
  o = good, o.temperature = NAN, refuse(&s, &o, AIINFRA_EINVAL, "temperature");
  o = good, o.temperature = -1.0f, refuse(&s, &o, AIINFRA_EINVAL, "temperature");
  o = good, o.temperature = INFINITY, refuse(&s, &o, AIINFRA_EINVAL, "temperature");
  o = good, o.top_k = -1, refuse(&s, &o, AIINFRA_EINVAL, "top_k");
  o = good, o.top_p = 1.5f, refuse(&s, &o, AIINFRA_EINVAL, "top_p");
  o = good, o.top_p = NAN, refuse(&s, &o, AIINFRA_EINVAL, "top_p");
  o = good, o.min_p = -0.5f, refuse(&s, &o, AIINFRA_EINVAL, "min_p");
  o = good, o.stop = stops, o.n_stop = 17, refuse(&s, &o, AIINFRA_EINVAL, "16");
  o = good, o.n_stop = 1, refuse(&s, &o, AIINFRA_EINVAL, "NULL");
  o = good, o.ignore_eos = 2, refuse(&s, &o, AIINFRA_EINVAL, "ignore_eos");
  o = good, o.tool_choice = "required", refuse(&s, &o, AIINFRA_EINVAL, "tools_json");
  o = good, o.json_schema = "{", refuse(&s, &o, AIINFRA_EINVAL, "json_schema");
  o = good, o.text = NULL, o.tokens = many, o.n_tokens = 3000, refuse(&s, &o, AIINFRA_EINVAL, "3000");
  o = good, o.text = NULL, o.tokens = many, o.n_tokens = 3000, refuse(&s, &o, AIINFRA_EINVAL, "2048");
  many[7] = 512;
  o = good, o.text = NULL, o.tokens = many, o.n_tokens = 10, refuse(&s, &o, AIINFRA_EINVAL, "512");
  o = good, o.struct_size = 8, refuse(&s, &o, AIINFRA_EINVAL, "struct_size");
  answer *a = stories_ask(&s, &good); /* nothing of this hurt it */
  assert_int_equal(a->status, AIINFRA_OK);
  answer_free(a);
  stories_close(&s);
}

static char *long_text(size_t n)
{
  char *text = malloc(n + 1);
  assert_non_null(text);
  for (size_t i = 0; i < n; i++) text[i] = "the cat sat. "[i % 13];
  text[n] = '\0';
  return text;
}

static void test_prompt_too_long(void **state)
{
  (void)state;
  stories s;
  stories_open(&s, 1, NULL);
  char *text = long_text(20000);
  aiinfra_generate_opts ask = stories_opts(text, 4);
  refuse(&s, &ask, AIINFRA_EINVAL, "2048");
  free(text);
  text = long_text(200000); /* so long that it is read off the loop: the refusal comes through the callback */
  ask.text = text;
  answer *a = stories_submit(&s, &ask);
  free(text); /* it was copied */
  stories_wait(a);
  assert_answer(a, AIINFRA_EINVAL, AIINFRA_FINISH_NONE);
  assert_non_null(strstr(a->message, "2048"));
  answer_free(a);
  stories_close(&s);
}

static void test_queue_is_bounded(void **state)
{
  (void)state;
  aiinfra_batcher_opts opts = AIINFRA_BATCHER_OPTS_INIT;
  answer *answers[3];
  stories s;
  opts.max_running = 1;
  opts.max_queue = 2;
  stories_open(&s, 1, &opts);
  aiinfra_generate_opts ask = stories_opts("Once", 20);
  for (int i = 0; i < 3; i++) answers[i] = stories_submit(&s, &ask);
  refuse(&s, &ask, AIINFRA_EBUSY, "again");
  stories_wait(answers[0]);
  answer *a = stories_ask(&s, &ask);
  for (int i = 0; i < 3; i++) {
    assert_int_equal(answers[i]->status, AIINFRA_OK); /* first come, first served */
    answer_free(answers[i]);
  }
  answer_free(a);
  stories_close(&s);
}

/* ---- early ends ------------------------------------------------------------------------------------------------------ */

typedef struct canceller {
  answer answer;
  size_t chunks_after;
  int asked;
} canceller;

static void cancel_on_third(void *user, const aiinfra_chunk *chunk)
{
  canceller *c = user;
  answer_on_chunk(&c->answer, chunk);
  if (c->asked) c->chunks_after++;
  if (c->answer.n_chunks == 3) {
    c->asked = 1;
    aiinfra_request_cancel(c->answer.request);
    aiinfra_request_cancel(c->answer.request);
  }
}

static void test_cancel_within_a_step(void **state)
{
  (void)state;
  stories s;
  canceller *c = calloc(1, sizeof *c);
  stories_open(&s, 1, NULL);
  aiinfra_generate_opts ask = stories_opts("Once", 500);
  ask.ignore_eos = 1;
  MUST(aiinfra_batcher_generate(s.batcher, &ask, cancel_on_third, answer_on_result, c, &c->answer.request,
                                &stories_err));
  stories_wait(&c->answer);
  assert_answer(&c->answer, AIINFRA_ECANCELED, AIINFRA_FINISH_CANCELED);
  assert_int_equal(c->chunks_after, 0);
  aiinfra_request_cancel(c->answer.request); /* harmless */
  aiinfra_request_free(c->answer.request);
  free(c);
  answer *waiting = stories_submit(&s, &ask);
  aiinfra_request_cancel(waiting->request);
  stories_wait(waiting);
  assert_answer(waiting, AIINFRA_ECANCELED, AIINFRA_FINISH_CANCELED);
  answer_free(waiting);
  stories_close(&s);
}

static void test_deadline(void **state)
{
  (void)state;
  stories s;
  stories_open(&s, 1, NULL);
  aiinfra_generate_opts ask = stories_opts("Once", 0);
  ask.ignore_eos = 1;
  ask.deadline_ms = 20;
  answer *a = stories_ask(&s, &ask);
  assert_answer(a, AIINFRA_ETIMEDOUT, AIINFRA_FINISH_CANCELED);
  assert_true(a->result.n_generated < STORIES_CONTEXT);
  answer_free(a);
  stories_close(&s);
}

static void test_context_is_the_end(void **state)
{
  (void)state;
  stories s;
  stories_open(&s, 1, NULL);
  aiinfra_generate_opts ask = stories_opts("Once", 0);
  ask.ignore_eos = 1;
  answer *a = stories_ask(&s, &ask);
  assert_answer(a, AIINFRA_OK, AIINFRA_FINISH_LENGTH);
  assert_int_equal(a->result.n_prompt + a->result.n_generated, STORIES_CONTEXT);
  answer_free(a);
  stories_close(&s);
}

/* ---- grammars ---------------------------------------------------------------------------------------------------------- */

static void test_output_obeys_its_schema(void **state)
{
  (void)state;
  stories s;
  stories_open(&s, 1, NULL);
  aiinfra_generate_opts ask = stories_opts("Was she happy? ", 100);
  ask.json_schema = "{\"type\":\"boolean\"}";
  answer *a = stories_ask(&s, &ask);
  assert_answer(a, AIINFRA_OK, AIINFRA_FINISH_STOP);
  assert_true(strcmp(a->text, "true") == 0 || strcmp(a->text, "false") == 0);
  answer_free(a);
  stories_close(&s);
}

static void test_required_tool_is_called(void **state)
{
  (void)state;
  stories s;
  stories_open(&s, 1, NULL);
  aiinfra_generate_opts ask = stories_opts("Which color? ", 200);
  ask.tools_json = "[{\"type\":\"function\",\"function\":{\"name\":\"paint\",\"parameters\":{\"type\":\"object\","
                   "\"properties\":{\"color\":{\"enum\":[\"red\",\"blue\"]}},\"required\":[\"color\"],"
                   "\"additionalProperties\":false}}}]";
  ask.tool_choice = "required";
  const char *stop = "</tool_call>"; /* left to itself, this model calls and calls */
  ask.stop = &stop;
  ask.n_stop = 1;
  answer *a = stories_ask(&s, &ask);
  assert_answer(a, AIINFRA_OK, AIINFRA_FINISH_TOOL);
  assert_non_null(strstr(a->tool_calls, "\"paint\""));
  assert_non_null(strstr(a->tool_calls, "color"));
  assert_string_equal(a->text, "");
  assert_string_equal(a->chunks, ""); /* a call is no text */
  answer_free(a);
  stories_close(&s);
}

/* ---- embeddings -------------------------------------------------------------------------------------------------------- */

typedef struct vector {
  float v[64];
  size_t n;
  aiinfra_status status;
  int ended;
  aiinfra_request *request;
} vector;

static void on_vector(void *user, aiinfra_status status, const float *v, size_t n, uint32_t n_tokens,
                      const aiinfra_error *error)
{
  vector *out = user;
  (void)n_tokens;
  out->ended++;
  out->status = status;
  out->n = n;
  assert_true((error != NULL) == (status != AIINFRA_OK));
  if (status == AIINFRA_OK) memcpy(out->v, v, n * sizeof *v);
}

static void embed(stories *s, const char *text, vector *out)
{
  memset(out, 0, sizeof *out);
  MUST(aiinfra_batcher_embed(s->batcher, text, on_vector, out, &out->request, &stories_err));
  assert_int_equal(out->ended, 0);
}

static void wait_vector(vector *out)
{
  assert_int_equal(aiinfra_request_wait(out->request, 60000, &stories_err), AIINFRA_OK);
  aiinfra_request_free(out->request);
  double squares = 0;
  assert_int_equal(out->ended, 1);
  assert_int_equal(out->n, 64);
  for (size_t i = 0; i < out->n; i++) squares += (double)out->v[i] * (double)out->v[i];
  assert_true(fabs(squares - 1.0) < 1e-5);
}

static void test_embeddings(void **state)
{
  (void)state;
  aiinfra_batcher_opts opts = AIINFRA_BATCHER_OPTS_INIT;
  vector alone[8], together[8];
  stories s;
  stories_open(&s, 1, NULL);
  for (int i = 0; i < 8; i++) {
    embed(&s, stories_prompts[i], &alone[i]);
    wait_vector(&alone[i]);
  }
  stories_close(&s);
  assert_memory_not_equal(alone[0].v, alone[1].v, sizeof alone[0].v);

  opts.max_running = 8;
  opts.max_step_tokens = 16; /* longer texts take several steps, beside a generation */
  stories_open(&s, 2, &opts);
  aiinfra_generate_opts ask = stories_opts("Once", 60);
  answer *a = stories_submit(&s, &ask);
  for (int i = 0; i < 8; i++) embed(&s, stories_prompts[i], &together[i]);
  for (int i = 0; i < 8; i++) {
    wait_vector(&together[i]);
    assert_memory_equal(together[i].v, alone[i].v, sizeof alone[i].v);
  }
  answer_free(stories_wait(a));
  stories_close(&s);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_golden_text),
      cmocka_unit_test(test_text_does_not_depend_on_the_batch),
      cmocka_unit_test(test_text_survives_preemption),
      cmocka_unit_test(test_prefix_cache),
      cmocka_unit_test(test_sampling_repeats_with_its_seed),
      cmocka_unit_test(test_stop_strings),
      cmocka_unit_test(test_refusals),
      cmocka_unit_test(test_prompt_too_long),
      cmocka_unit_test(test_queue_is_bounded),
      cmocka_unit_test(test_cancel_within_a_step),
      cmocka_unit_test(test_deadline),
      cmocka_unit_test(test_context_is_the_end),
      cmocka_unit_test(test_output_obeys_its_schema),
      cmocka_unit_test(test_required_tool_is_called),
      cmocka_unit_test(test_embeddings),
  };
  if (test_data(STORIES_GGUF) == NULL) return test_skip_all("no %s in AIINFRA_SHARED_DATA", STORIES_GGUF);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
