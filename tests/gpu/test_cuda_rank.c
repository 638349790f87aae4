/* test_cuda_rank.c - a communicator over NCCL that has one rank: it meets nobody, and a sum is its own term.
 *
 * More ranks than GPUs there cannot be; e2e.ranks has two, on emulated ones.
 */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/gpu/both.h"

static aiinfra_status tell(aii_comm *comm, void *bytes, size_t n, aiinfra_error *err)
{
  (void)comm, (void)bytes, (void)n, (void)err;
  return AIINFRA_OK;
}

static aiinfra_status sum(aii_comm *comm, float *x, size_t n, aiinfra_error *err)
{
  (void)comm, (void)x, (void)n, (void)err;
  return AIINFRA_OK;
}

static aiinfra_status collect(aii_comm *comm, const float *x, const size_t *counts, float *out, aiinfra_error *err)
{
  (void)comm, (void)err;
  if (out != x) memcpy(out, x, counts[0] * sizeof *x);
  return AIINFRA_OK;
}

static void test_alone(void **state)
{
  (void)state;
  static const aii_comm_ops ops = {.name = "alone", .tell = tell, .sum = sum, .collect = collect};
  aii_comm comm = {.ops = &ops, .size = 1};
  aiinfra_error err;
  both x = random_both(3, 500, 1);
  cuda->ops->sum_ranks(cuda, x.cuda, x.n);
  assert_int_equal(cuda->ops->sync(cuda, &err), AIINFRA_EINTERNAL); /* nobody has joined */
  if (both_counter("fake_cuda_kernels") != NULL)                    /* found by its name from now on */
    assert_non_null(dlopen(test_built("nccl-on-cpu/libnccl.so.2"), RTLD_NOW | RTLD_GLOBAL));
  aiinfra_status rc = cuda->ops->join(cuda, &comm, &err);
  if (rc == AIINFRA_ENOTSUP && both_counter("fake_cuda_kernels") == NULL) test_skip(err.message);
  if (rc != AIINFRA_OK) fail_msg("%s", err.message);
  for (int i = 0; i < 3; i++) cuda->ops->sum_ranks(cuda, x.cuda, i == 1 ? 1 : x.n);
  assert_int_equal(cuda->ops->sync(cuda, &err), AIINFRA_OK);
  assert_same(&x, "a sum of one");
  free_both(&x);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_alone)};
  return cmocka_run_group_tests(tests, both_set_up, both_tear_down);
}
