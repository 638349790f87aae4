/* test_runtime.c - memory runs out while a runtime is made, on a loop of its own and on the host's, and while it tells
 * about itself.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <uv.h>

#include "aiinfra/runtime.h"
#include "tests/torture/torture.h"

static aiinfra_status create(uv_loop_t *host, aiinfra_runtime **out)
{
  aiinfra_runtime_opts opts = AIINFRA_RUNTIME_OPTS_INIT;
  aiinfra_error err = {0, 0, ""};
  opts.uv_loop = host;
  opts.allocator = torture_allocator();
  opts.n_threads = 2;
  aiinfra_status rc = torture_made(aiinfra_runtime_create(&opts, out, &err), out, "runtime_create");
  if (rc != AIINFRA_OK) {
    torture_check(err.status == rc, "the error has the status");
    torture_check(err.message[0] != '\0', "the error has a message");
  }
  return rc;
}

static aiinfra_status own_loop(void *ctx)
{
  aiinfra_runtime *runtime;
  (void)ctx;
  aiinfra_status rc = create(NULL, &runtime);
  if (rc == AIINFRA_OK) rc = aiinfra_runtime_run(runtime, NULL);
  aiinfra_runtime_free(runtime);
  return rc;
}

static void on_closed(void *user)
{
  ++*(int *)user;
}

static aiinfra_status host_loop(void *ctx)
{
  uv_loop_t loop;
  aiinfra_runtime *runtime;
  int closed = 0;
  (void)ctx;
  torture_pause("the host's loop");
  int code = uv_loop_init(&loop);
  torture_resume();
  if (!torture_check(code == 0, "uv_loop_init")) return AIINFRA_OK;
  aiinfra_status rc = create(&loop, &runtime);
  if (rc == AIINFRA_OK) aiinfra_runtime_close(runtime, on_closed, &closed);
  torture_check(uv_run(&loop, UV_RUN_DEFAULT) == 0, "the loop runs out");
  torture_check(closed == (rc == AIINFRA_OK), "closed is called once");
  torture_check(uv_loop_close(&loop) == 0, "nothing is left on the host's loop");
  return rc;
}

static aiinfra_status texts(void *ctx)
{
  aiinfra_runtime *runtime;
  char *text = NULL;
  (void)ctx;
  torture_pause("runtime");
  aiinfra_status rc = create(NULL, &runtime);
  torture_resume();
  if (rc != AIINFRA_OK) return rc;
  rc = torture_made(aiinfra_runtime_describe(runtime, &text, NULL), &text, "describe");
  if (rc == AIINFRA_OK) torture_check(strstr(text, "\"version\"") != NULL, "a whole description");
  aiinfra_string_free(text);
  text = NULL;
  if (rc == AIINFRA_OK) rc = torture_made(aiinfra_runtime_metrics(runtime, &text, NULL), &text, "metrics");
  aiinfra_string_free(text);
  aiinfra_runtime_free(runtime);
  return rc;
}

static void a_runtime_with_its_own_loop(void **state)
{
  (void)state;
  assert_int_equal(torture_run("runtime.own_loop", own_loop, NULL, NULL), 0);
}

static void a_runtime_on_the_host_loop(void **state)
{
  (void)state;
  assert_int_equal(torture_run("runtime.host_loop", host_loop, NULL, NULL), 0);
}

static void descriptions(void **state)
{
  (void)state;
  assert_int_equal(torture_run("runtime.texts", texts, NULL, NULL), 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_runtime_with_its_own_loop),
      cmocka_unit_test(a_runtime_on_the_host_loop),
      cmocka_unit_test(descriptions),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
