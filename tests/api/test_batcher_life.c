/* test_batcher_life.c - who keeps whom alive, closing with work in flight, freeing inside callbacks, and the metrics that a
 * batcher leaves behind.
 */
#include "stories.h"

static void test_children_keep_parents_alive(void **state)
{
  (void)state;
  stories s;
  stories_open(&s, 1, NULL);
  aiinfra_kv_free(s.kv);
  aiinfra_model_free(s.model);
  aiinfra_generate_opts ask = stories_opts("Once", 20);
  answer *a = stories_ask(&s, &ask);
  assert_int_equal(a->status, AIINFRA_OK);
  assert_ptr_equal(aiinfra_batcher_model(s.batcher), s.model);
  answer_free(a);
  aiinfra_batcher_free(s.batcher);
  aiinfra_runtime_free(s.rt);
}

static void test_one_batcher_a_cache(void **state)
{
  (void)state;
  aiinfra_batcher *second = NULL;
  aiinfra_batcher_opts bad = AIINFRA_BATCHER_OPTS_INIT;
  stories s;
  stories_open(&s, 1, NULL);
  assert_int_equal(aiinfra_batcher_create(s.model, s.kv, NULL, &second, &stories_err), AIINFRA_EBUSY);
  assert_null(second);
  bad.max_running = 64;
  bad.max_step_tokens = 16;
  assert_int_equal(aiinfra_batcher_create(s.model, s.kv, &bad, &second, &stories_err), AIINFRA_EINVAL);
  aiinfra_batcher_free(s.batcher);
  MUST(aiinfra_batcher_create(s.model, s.kv, NULL, &s.batcher, &stories_err)); /* an idle one is gone at once */
  stories_close(&s);
}

static void count_closed(void *user)
{
  ++*(int *)user;
}

static void test_close_while_busy(void **state)
{
  (void)state;
  answer *answers[5];
  int closed = 0;
  stories s;
  stories_open(&s, 2, NULL);
  aiinfra_generate_opts ask = stories_opts("Once", 0);
  ask.ignore_eos = 1;
  for (int i = 0; i < 5; i++) answers[i] = stories_submit(&s, &ask);
  assert_int_equal(aiinfra_request_wait(answers[0]->request, 10, &stories_err), AIINFRA_ETIMEDOUT);
  aiinfra_batcher_close(s.batcher, count_closed, &closed);
  assert_int_equal(closed, 0);
  for (int i = 0; i < 5; i++) {
    stories_wait(answers[i]);
    assert_int_equal(answers[i]->status, AIINFRA_ECANCELED);
    assert_int_equal(answers[i]->result.finish, AIINFRA_FINISH_CANCELED);
    answer_free(answers[i]);
  }
  s.batcher = NULL;
  aiinfra_kv_free(s.kv);
  aiinfra_model_free(s.model);
  aiinfra_runtime_free(s.rt);
  assert_int_equal(closed, 1);
}

static stories *freed_inside;

static void free_inside_chunk(void *user, const aiinfra_chunk *chunk)
{
  aiinfra_error err;
  aiinfra_generate_opts ask = stories_opts("Once", 4);
  answer_on_chunk(user, chunk);
  if (freed_inside->batcher == NULL) return;
  aiinfra_batcher *b = freed_inside->batcher;
  freed_inside->batcher = NULL;
  aiinfra_batcher_free(b);
  assert_int_equal(aiinfra_batcher_generate(b, &ask, NULL, NULL, NULL, NULL, &err), AIINFRA_ECLOSED);
}

static void free_inside_result(void *user, aiinfra_status status, const aiinfra_result *result)
{
  answer_on_result(user, status, result);
  aiinfra_batcher_free(freed_inside->batcher);
  freed_inside->batcher = NULL;
}

static void test_free_in_a_callback(void **state)
{
  (void)state;
  stories s;
  freed_inside = &s;
  stories_open(&s, 1, NULL);
  aiinfra_generate_opts ask = stories_opts("Once", 100);
  answer *a = answer_new(), *b = stories_submit(&s, &ask);
  MUST(aiinfra_batcher_generate(s.batcher, &ask, free_inside_chunk, answer_on_result, a, &a->request, &stories_err));
  stories_wait(a);
  stories_wait(b);
  assert_int_equal(a->status, AIINFRA_ECANCELED);
  answer_free(a);
  answer_free(b);
  stories_close(&s);

  stories_open(&s, 1, NULL);
  a = answer_new();
  MUST(aiinfra_batcher_generate(s.batcher, &ask, NULL, free_inside_result, a, &a->request, &stories_err));
  stories_wait(a);
  assert_int_equal(a->status, AIINFRA_OK);
  answer_free(a);
  stories_close(&s);
}

static void test_callbacks_and_handles_are_optional(void **state)
{
  (void)state;
  stories s;
  stories_open(&s, 1, NULL);
  aiinfra_generate_opts ask = stories_opts("Once", 5);
  MUST(aiinfra_batcher_generate(s.batcher, &ask, NULL, NULL, NULL, NULL, &stories_err));
  MUST(aiinfra_batcher_embed(s.batcher, "Once", NULL, NULL, NULL, &stories_err));
  MUST(aiinfra_runtime_run(s.rt, &stories_err)); /* until nothing is left to do */
  aiinfra_batcher_free(NULL);
  stories_close(&s);
}

static void test_metrics(void **state)
{
  (void)state;
  static const char *const names[] = {
      "aiinfra_num_requests_running",        "aiinfra_num_requests_waiting",        "aiinfra_prompt_tokens_total",
      "aiinfra_generation_tokens_total",     "aiinfra_prefix_cache_hits_total",     "aiinfra_kv_cache_usage_perc",
      "aiinfra_prefix_cache_queries_total",  "aiinfra_time_to_first_token_seconds", "aiinfra_num_preemptions_total",
      "aiinfra_inter_token_latency_seconds", "finished_reason=\"length\"",
  };
  char *text = NULL;
  stories s;
  stories_open(&s, 1, NULL);
  aiinfra_generate_opts ask = stories_opts("Once", 5);
  answer_free(stories_ask(&s, &ask));
  MUST(aiinfra_runtime_metrics(s.rt, &text, &stories_err));
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) assert_non_null(strstr(text, names[i]));
  aiinfra_string_free(text);
  stories_close(&s);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_children_keep_parents_alive),
      cmocka_unit_test(test_one_batcher_a_cache),
      cmocka_unit_test(test_close_while_busy),
      cmocka_unit_test(test_free_in_a_callback),
      cmocka_unit_test(test_callbacks_and_handles_are_optional),
      cmocka_unit_test(test_metrics),
  };
  if (test_data(STORIES_GGUF) == NULL) return test_skip_all("no %s in AIINFRA_SHARED_DATA", STORIES_GGUF);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
