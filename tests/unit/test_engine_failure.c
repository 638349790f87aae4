/* test_engine_failure.c - a device that fails: every request of that pass ends with its message, the batcher goes on. */
#include "api/stories.h"

#include "src/engine/engine.h"

static aii_backend_ops ops;
static const aii_backend_ops *real_ops;
static atomic_int fail_at; /* the call of sync that fails; counts down */

static aiinfra_status failing_sync(aii_backend *be, aiinfra_error *err)
{
  if (atomic_fetch_sub(&fail_at, 1) == 1) return aii_fail(err, AIINFRA_EDEVICE, "the card fell off the bus");
  return real_ops->sync(be, err);
}

static void break_device(stories *s)
{
  real_ops = s->rt->backend->ops;
  ops = *real_ops;
  ops.sync = failing_sync;
  atomic_store(&fail_at, 0);
  s->rt->backend->ops = &ops;
}

static void test_a_failed_pass(void **state)
{
  (void)state;
  stories s;
  answer *answers[3];
  stories_open(&s, 1, NULL);
  break_device(&s);
  aiinfra_generate_opts ask = stories_opts("Once upon a time", 40);
  answer *good = stories_ask(&s, &ask);
  assert_int_equal(good->status, AIINFRA_OK);

  atomic_store(&fail_at, 5);
  for (int i = 0; i < 3; i++) answers[i] = stories_submit(&s, &ask);
  for (int i = 0; i < 3; i++) {
    stories_wait(answers[i]);
    assert_int_equal(answers[i]->status, AIINFRA_EDEVICE);
    assert_int_equal(answers[i]->result.finish, AIINFRA_FINISH_NONE);
    assert_non_null(strstr(answers[i]->message, "fell off the bus"));
    assert_string_equal(answers[i]->chunks, answers[i]->text); /* what came before stays */
    answer_free(answers[i]);
  }
  assert_int_equal(aii_kv_available(s.kv->pool), s.kv->view.n_blocks);

  answer *after = stories_ask(&s, &ask);
  assert_string_equal(after->text, good->text);
  answer_free(after);
  answer_free(good);
  s.rt->backend->ops = real_ops;
  stories_close(&s);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_a_failed_pass)};
  if (test_data(STORIES_GGUF) == NULL) return test_skip_all("no %s in AIINFRA_SHARED_DATA", STORIES_GGUF);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
