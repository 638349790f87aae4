/* test_runtime.c - the runtime as a host sees it: options and their errors, both kinds of loop, the close callback, limits
 * on memory, an allocator that gets every byte back, texts a host can parse.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "aiinfra/request.h"
#include "aiinfra/runtime.h"
#include "support/support.h"

/* ---- an allocator that counts ---------------------------------------------------------------------------------- */

enum { HEAD = 16 };

typedef struct tally {
  _Atomic long n_blocks, n_bytes, n_calls;
} tally;

static void count(tally *t, long blocks, long bytes)
{
  atomic_fetch_add(&t->n_blocks, blocks);
  atomic_fetch_add(&t->n_bytes, bytes);
  atomic_fetch_add(&t->n_calls, 1);
}

static size_t size_of(const char *base)
{
  size_t size;
  memcpy(&size, base, sizeof size);
  return size;
}

static void *count_alloc(void *user, size_t size)
{
  char *base = malloc(size + HEAD);
  assert_int_not_equal(size, 0);
  memcpy(base, &size, sizeof size);
  count(user, 1, (long)size);
  return base + HEAD;
}

static void *count_resize(void *user, void *ptr, size_t size)
{
  char *base = (char *)ptr - HEAD;
  assert_non_null(ptr);
  assert_int_not_equal(size, 0);
  count(user, 0, (long)size - (long)size_of(base));
  base = realloc(base, size + HEAD);
  memcpy(base, &size, sizeof size);
  return base + HEAD;
}

static void count_release(void *user, void *ptr)
{
  char *base = (char *)ptr - HEAD;
  assert_non_null(ptr);
  count(user, -1, -(long)size_of(base));
  free(base);
}

/* ---- tests ----------------------------------------------------------------------------------------------------- */

static void test_default_options(void **state)
{
  (void)state;
  aiinfra_runtime *rt = NULL;
  aiinfra_error err;
  assert_int_equal(aiinfra_runtime_create(NULL, &rt, &err), AIINFRA_OK);
  assert_int_equal(aiinfra_runtime_run(rt, &err), AIINFRA_OK); /* nothing to do */
  aiinfra_runtime_free(rt);
  aiinfra_runtime_opts opts = AIINFRA_RUNTIME_OPTS_INIT;
  assert_int_equal(aiinfra_runtime_create(&opts, &rt, NULL), AIINFRA_OK);
  aiinfra_runtime_free(rt);
}

static void refuse(const aiinfra_runtime_opts *opts, aiinfra_status status, const char *word)
{
  aiinfra_runtime *rt = (aiinfra_runtime *)1;
  aiinfra_error err;
  assert_int_equal(aiinfra_runtime_create(opts, &rt, &err), status);
  assert_null(rt);
  assert_int_equal(err.status, status);
  if (strstr(err.message, word) == NULL) fail_msg("'%s' does not name '%s'", err.message, word);
  rt = (aiinfra_runtime *)1;
  assert_int_equal(aiinfra_runtime_create(opts, &rt, NULL), status); /* err may be NULL */
  assert_null(rt);
}

static void test_options_out_of_range(void **state)
{
  (void)state;
  const aiinfra_runtime_opts good = AIINFRA_RUNTIME_OPTS_INIT;
  const aiinfra_allocator partial = {count_alloc, NULL, count_release, NULL};
  static const int32_t threads[] = {-1, INT32_MIN, 1025, INT32_MAX}, levels[] = {-1, 5}, pins[] = {-2, 2},
                       isas[] = {-1, AIINFRA_ISA_AMX + 1, INT32_MAX};
  for (size_t i = 0; i < 4; i++) {
    aiinfra_runtime_opts o = good;
    o.n_threads = threads[i];
    refuse(&o, AIINFRA_EINVAL, "n_threads");
  }
  for (size_t i = 0; i < 2; i++) {
    aiinfra_runtime_opts o = good, p = good;
    o.log_level = levels[i];
    refuse(&o, AIINFRA_EINVAL, "log_level");
    p.pin_threads = pins[i];
    refuse(&p, AIINFRA_EINVAL, "pin_threads");
  }
  for (size_t i = 0; i < 3; i++) {
    aiinfra_runtime_opts o = good;
    o.isa = isas[i];
    refuse(&o, AIINFRA_EINVAL, "instruction set");
  }
  aiinfra_runtime_opts o = good;
  o.allocator = &partial;
  refuse(&o, AIINFRA_EINVAL, "allocator");
}

static void test_options_of_other_versions(void **state)
{
  (void)state;
  struct {
    aiinfra_runtime_opts known;
    uint64_t newer;
  } future = {AIINFRA_RUNTIME_OPTS_INIT, 0};
  aiinfra_runtime *rt;
  aiinfra_error err;
  future.known.struct_size = sizeof future;
  assert_int_equal(aiinfra_runtime_create(&future.known, &rt, &err), AIINFRA_OK);
  aiinfra_runtime_free(rt);
  future.newer = 1;
  refuse(&future.known, AIINFRA_ENOTSUP, "newer library");
  future.known.struct_size = 0; /* forgotten */
  refuse(&future.known, AIINFRA_EINVAL, "OPTS_INIT");
}

static void test_null_arguments(void **state)
{
  (void)state;
  aiinfra_runtime *rt;
  aiinfra_error err;
  char *text = NULL;
  assert_int_equal(aiinfra_runtime_create(NULL, NULL, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_runtime_run(NULL, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_runtime_describe(NULL, &text, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_runtime_metrics(NULL, &text, &err), AIINFRA_EINVAL);
  aiinfra_runtime_stop(NULL);
  aiinfra_runtime_close(NULL, NULL, NULL);
  aiinfra_runtime_free(NULL);
  assert_int_equal(aiinfra_runtime_create(NULL, &rt, &err), AIINFRA_OK);
  assert_int_equal(aiinfra_runtime_describe(rt, NULL, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_runtime_metrics(rt, NULL, &err), AIINFRA_EINVAL);
  aiinfra_runtime_free(rt);
}

typedef struct ending {
  tally *t;
  int n_closed;
  long blocks_left;
} ending;

static void on_closed(void *user)
{
  ending *e = user;
  e->n_closed++;
  e->blocks_left = atomic_load(&e->t->n_blocks);
}

static void test_close_on_the_host_loop(void **state)
{
  (void)state;
  for (int i = 0; i < 3; i++) {
    tally t = {0, 0, 0};
    ending e = {&t, 0, -1};
    aiinfra_allocator hooks = {count_alloc, count_resize, count_release, &t};
    aiinfra_runtime_opts opts = AIINFRA_RUNTIME_OPTS_INIT;
    aiinfra_runtime *rt;
    uv_loop_t loop;
    assert_int_equal(uv_loop_init(&loop), 0);
    opts.uv_loop = &loop;
    opts.allocator = &hooks;
    opts.n_threads = 2;
    assert_int_equal(aiinfra_runtime_create(&opts, &rt, NULL), AIINFRA_OK);
    if (i > 0) assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0); /* idle, it keeps nothing going */
    if (i < 2) aiinfra_runtime_close(rt, on_closed, &e);
    else aiinfra_runtime_free(rt);
    assert_int_equal(e.n_closed, 0); /* never inside the call */
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    if (i < 2) {
      assert_int_equal(e.n_closed, 1);
      assert_int_equal(e.blocks_left, 0); /* the last callback */
    }
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_int_equal(atomic_load(&t.n_blocks), 0);
    assert_int_equal(atomic_load(&t.n_bytes), 0);
  }
}

static void test_close_on_its_own_loop(void **state)
{
  (void)state;
  tally t = {0, 0, 0};
  ending e = {&t, 0, -1};
  aiinfra_allocator hooks = {count_alloc, count_resize, count_release, &t};
  aiinfra_runtime_opts opts = AIINFRA_RUNTIME_OPTS_INIT;
  aiinfra_runtime *rt;
  opts.allocator = &hooks;
  opts.pin_threads = 1;
  assert_int_equal(aiinfra_runtime_create(&opts, &rt, NULL), AIINFRA_OK);
  assert_true(atomic_load(&t.n_blocks) > 0);
  memset(&hooks, 0, sizeof hooks); /* it was copied */
  aiinfra_runtime_close(rt, on_closed, &e);
  assert_int_equal(e.n_closed, 1);
  assert_int_equal(e.blocks_left, 0);
  assert_int_equal(atomic_load(&t.n_bytes), 0);
}

static void test_two_runtimes_on_one_loop(void **state)
{
  (void)state;
  aiinfra_runtime_opts opts = AIINFRA_RUNTIME_OPTS_INIT;
  aiinfra_runtime *a, *b;
  uv_loop_t loop;
  assert_int_equal(uv_loop_init(&loop), 0);
  opts.uv_loop = &loop;
  opts.n_threads = 1;
  assert_int_equal(aiinfra_runtime_create(&opts, &a, NULL), AIINFRA_OK);
  assert_int_equal(aiinfra_runtime_create(&opts, &b, NULL), AIINFRA_OK);
  aiinfra_runtime_free(a);
  assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
  assert_int_equal(aiinfra_runtime_run(b, NULL), AIINFRA_OK);
  aiinfra_runtime_free(b);
  assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
  assert_int_equal(uv_loop_close(&loop), 0);
}

static void test_memory_limit(void **state)
{
  (void)state;
  unsigned refused = 0;
  for (uint64_t limit = 1; limit < (uint64_t)1 << 24; limit *= 2) {
    tally t = {0, 0, 0};
    aiinfra_allocator hooks = {count_alloc, count_resize, count_release, &t};
    aiinfra_runtime_opts opts = AIINFRA_RUNTIME_OPTS_INIT;
    aiinfra_runtime *rt = (aiinfra_runtime *)1;
    aiinfra_error err;
    opts.allocator = &hooks;
    opts.memory_limit_bytes = limit;
    opts.n_threads = 2;
    aiinfra_status rc = aiinfra_runtime_create(&opts, &rt, &err);
    if (rc != AIINFRA_OK) {
      assert_int_equal(rc, AIINFRA_ENOMEM);
      assert_null(rt);
      refused++;
    }
    aiinfra_runtime_free(rt);
    assert_int_equal(atomic_load(&t.n_blocks), 0);
    assert_int_equal(atomic_load(&t.n_bytes), 0);
  }
  assert_true(refused > 3 && refused < 24);
}

static void test_describe(void **state)
{
  (void)state;
  aiinfra_runtime_opts opts = AIINFRA_RUNTIME_OPTS_INIT;
  aiinfra_runtime *rt;
  char *text;
  opts.n_threads = 3;
  opts.isa = AIINFRA_ISA_REF;
  assert_int_equal(aiinfra_runtime_create(&opts, &rt, NULL), AIINFRA_OK);
  assert_int_equal(aiinfra_runtime_describe(rt, &text, NULL), AIINFRA_OK);
  json_t *json = json_loads(text, 0, NULL);
  assert_non_null(json);
  assert_string_equal(json_string_value(json_object_get(json, "version")), aiinfra_version());
  assert_string_equal(json_string_value(json_object_get(json, "isa")), "ref");
  cpu_set_t cores; /* no more threads compute than there are cores */
  assert_int_equal(sched_getaffinity(0, sizeof cores, &cores), 0);
  int n_threads = CPU_COUNT(&cores) < 3 ? CPU_COUNT(&cores) : 3;
  assert_int_equal(json_integer_value(json_object_get(json, "n_threads")), n_threads);
  assert_true(json_array_size(json_object_get(json, "devices")) >= 1);
  assert_true(json_integer_value(json_object_get(json, "used_bytes")) > 0);
  assert_true(json_integer_value(json_object_get(json, "peak_bytes")) >=
              json_integer_value(json_object_get(json, "used_bytes")));
  json_decref(json);
  aiinfra_string_free(text);
  assert_int_equal(aiinfra_runtime_metrics(rt, &text, NULL), AIINFRA_OK); /* maybe none yet, but a string */
  assert_true(text[0] == '\0' || text[0] == '#');
  aiinfra_string_free(text);
  aiinfra_runtime_free(rt);
}

static void test_stop_before_run(void **state)
{
  (void)state;
  aiinfra_runtime *rt;
  assert_int_equal(aiinfra_runtime_create(NULL, &rt, NULL), AIINFRA_OK);
  aiinfra_runtime_stop(rt);
  assert_int_equal(aiinfra_runtime_run(rt, NULL), AIINFRA_OK);
  aiinfra_runtime_stop(rt);
  aiinfra_runtime_free(rt);
}

static void *create_and_free(void *arg)
{
  for (int i = 0; i < 20; i++) {
    aiinfra_runtime_opts opts = AIINFRA_RUNTIME_OPTS_INIT;
    aiinfra_runtime *rt = NULL;
    opts.n_threads = 1 + i % 3;
    if (aiinfra_runtime_create(&opts, &rt, NULL) != AIINFRA_OK) ++*(int *)arg;
    aiinfra_runtime_free(rt);
  }
  return NULL;
}

static void test_a_runtime_on_each_thread(void **state)
{
  (void)state;
#ifdef __SANITIZE_THREAD__
  test_skip("libuv closes descriptors past the sanitizer, which then takes their reuse for a race");
#endif
  pthread_t threads[4];
  int failed[4] = {0};
  for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&threads[i], NULL, create_and_free, &failed[i]), 0);
  for (int i = 0; i < 4; i++) {
    pthread_join(threads[i], NULL);
    assert_int_equal(failed[i], 0);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_default_options),
      cmocka_unit_test(test_options_out_of_range),
      cmocka_unit_test(test_options_of_other_versions),
      cmocka_unit_test(test_null_arguments),
      cmocka_unit_test(test_close_on_the_host_loop),
      cmocka_unit_test(test_close_on_its_own_loop),
      cmocka_unit_test(test_two_runtimes_on_one_loop),
      cmocka_unit_test(test_memory_limit),
      cmocka_unit_test(test_describe),
      cmocka_unit_test(test_stop_before_run),
      cmocka_unit_test(test_a_runtime_on_each_thread),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
