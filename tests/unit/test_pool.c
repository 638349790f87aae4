/* test_pool.c - every part runs exactly once, whatever the threads do; the host's signals stay the host's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "src/backend/backend.h"

#define MAX_PARTS 300

static aii_mem mem;

static aii_pool *new_pool(uint32_t n_threads)
{
  aii_pool *pool;
  aiinfra_error err;
  assert_int_equal(aii_pool_create(&mem, n_threads, AII_POOL_CROWD, &pool, &err), AIINFRA_OK);
  return pool;
}

typedef struct section {
  aii_pool *pool;
  uint32_t runs[MAX_PARTS]; /* plain: a data race here is a bug of the pool */
  uint32_t n_parts;
  _Atomic uint32_t wrong;
} section;

static void count_part(void *arg, uint32_t part, uint32_t n_parts)
{
  section *s = arg;
  if (n_parts != s->n_parts || part >= n_parts) {
    atomic_fetch_add(&s->wrong, 1);
    return;
  }
  s->runs[part]++;
}

static void run_and_check(aii_pool *pool, uint32_t n_parts)
{
  section s = {.n_parts = n_parts};
  aii_pool_run(pool, n_parts, count_part, &s);
  assert_int_equal(atomic_load(&s.wrong), 0);
  for (uint32_t i = 0; i < MAX_PARTS; i++) assert_int_equal(s.runs[i], i < n_parts ? 1 : 0);
}

static void test_every_part_once(void **state)
{
  (void)state;
  static const uint32_t threads[] = {1, 2, 3, 8, 32, 64}; /* more than there are cores, too */
  for (size_t t = 0; t < AII_COUNT(threads); t++) {
    aii_pool *pool = new_pool(threads[t]);
    assert_int_equal(aii_pool_threads(pool), threads[t]);
    for (uint32_t i = 0; i < 400; i++) run_and_check(pool, i % 7 == 0 ? MAX_PARTS : i % 13);
    aii_pool_free(pool);
  }
  run_and_check(NULL, 5);
  assert_int_equal(aii_pool_threads(NULL), 1);
  assert_int_equal(atomic_load(&mem.used_bytes), 0);
}

static void test_after_sleep(void **state)
{
  (void)state;
  aii_pool *pool = new_pool(4);
  for (int i = 0; i < 30; i++) {
    struct timespec nap = {0, i % 2 == 0 ? 2000000 : 50000};
    nanosleep(&nap, NULL); /* beyond the spin, and around its end */
    run_and_check(pool, 8);
  }
  aii_pool_free(pool);
}

static void test_create_and_free(void **state)
{
  (void)state;
  for (uint32_t i = 0; i < 40; i++) aii_pool_free(new_pool(1 + i % 6));
  aii_pool_free(NULL);
  assert_int_equal(atomic_load(&mem.used_bytes), 0);
}

static void nested_part(void *arg, uint32_t part, uint32_t n_parts)
{
  section *s = arg;
  section inner = {.n_parts = 3};
  aii_pool_run(s->pool, 3, count_part, &inner);
  if (inner.runs[0] + inner.runs[1] + inner.runs[2] != 3) atomic_fetch_add(&s->wrong, 1);
  count_part(arg, part, n_parts);
}

static void test_nested(void **state)
{
  (void)state;
  section s = {.pool = new_pool(3), .n_parts = 6};
  aii_pool_run(s.pool, 6, nested_part, &s);
  assert_int_equal(atomic_load(&s.wrong), 0);
  for (uint32_t i = 0; i < 6; i++) assert_int_equal(s.runs[i], 1);
  aii_pool_free(s.pool);
}

static void *second_caller(void *arg)
{
  for (int i = 0; i < 300; i++) {
    section s = {.n_parts = 5};
    aii_pool_run(arg, 5, count_part, &s);
    for (int p = 0; p < 5; p++)
      if (s.runs[p] != 1) return arg;
  }
  return NULL;
}

static void test_two_callers(void **state)
{
  (void)state;
  aii_pool *pool = new_pool(3);
  pthread_t other;
  void *bad;
  assert_int_equal(pthread_create(&other, NULL, second_caller, pool), 0);
  assert_null(second_caller(pool));
  pthread_join(other, &bad);
  assert_null(bad);
  aii_pool_free(pool);
}

static void check_mask(void *arg, uint32_t part, uint32_t n_parts)
{
  section *s = arg;
  sigset_t set;
  struct timespec nap = {0, 1000000};
  (void)n_parts;
  pthread_sigmask(SIG_SETMASK, NULL, &set);
  s->runs[part] = sigismember(&set, SIGUSR1) == 1 && sigismember(&set, SIGTERM) == 1;
  if (part == 0) s->pool = NULL;
  nanosleep(&nap, NULL); /* gives the others their parts */
}

static void test_signals(void **state)
{
  (void)state;
  sigset_t mine, after;
  sigemptyset(&mine);
  sigaddset(&mine, SIGUSR2);
  pthread_sigmask(SIG_SETMASK, &mine, NULL);
  aii_pool *pool = new_pool(4);
  pthread_sigmask(SIG_SETMASK, NULL, &after);
  assert_true(sigismember(&after, SIGUSR2) == 1 && sigismember(&after, SIGUSR1) == 0 &&
              sigismember(&after, SIGTERM) == 0);
  section s = {.n_parts = 40};
  aii_pool_run(pool, 40, check_mask, &s);
  uint32_t blocked = 0;
  for (int i = 0; i < 40; i++) blocked += s.runs[i];
  assert_true(blocked > 0 && blocked < 40); /* workers block, the caller does not */
  aii_pool_free(pool);
  sigemptyset(&mine);
  pthread_sigmask(SIG_SETMASK, &mine, NULL);
}

static void test_bad_arguments(void **state)
{
  (void)state;
  aii_pool *pool = (aii_pool *)&mem;
  aiinfra_error err;
  assert_int_equal(aii_pool_create(&mem, 0, 0, &pool, &err), AIINFRA_EINVAL);
  assert_null(pool);
  assert_int_equal(aii_pool_create(&mem, 1u << 20, 0, &pool, &err), AIINFRA_EINVAL);
  aii_mem tight;
  aii_mem_init(&tight, NULL, 64);
  assert_int_equal(aii_pool_create(&tight, 4, AII_POOL_CROWD, &pool, &err), AIINFRA_ENOMEM);
  assert_null(pool);
  assert_int_equal(atomic_load(&tight.used_bytes), 0);
}

/* In a child, because the limit cannot be raised again. Root has no limit on threads: then it is address space. */
static void test_thread_creation_fails(void **state)
{
  (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  printf("skipped: sanitizers cannot live with a limit on address space\n");
  skip();
#else
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    struct rlimit little = {(rlim_t)1 << 27, (rlim_t)1 << 27};
    aii_mem m;
    aii_pool *pool = NULL;
    aiinfra_error err;
    aii_mem_init(&m, NULL, 0);
    setrlimit(RLIMIT_AS, &little);
    aiinfra_status rc = aii_pool_create(&m, 1000, AII_POOL_CROWD, &pool, &err);
    _exit(rc != AIINFRA_OK && pool == NULL && atomic_load(&m.used_bytes) == 0 && err.message[0] != '\0' ? 0 : 1);
  }
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
#endif
}

/* ---- how many threads compute ---- */

typedef struct crowd {
  pthread_t seen[64];
  pthread_mutex_t lock;
  uint32_t n;
  _Atomic uint32_t at_once, most;
} crowd;

static void join_crowd(void *arg, uint32_t part, uint32_t n_parts)
{
  crowd *c = arg;
  struct timespec nap = {0, 200000};
  uint32_t now = atomic_fetch_add(&c->at_once, 1) + 1, most = atomic_load(&c->most), i = 0;
  (void)part;
  (void)n_parts;
  while (now > most && !atomic_compare_exchange_weak(&c->most, &most, now)) {}
  pthread_mutex_lock(&c->lock);
  while (i < c->n && !pthread_equal(c->seen[i], pthread_self())) i++;
  if (i == c->n) c->seen[c->n++] = pthread_self();
  pthread_mutex_unlock(&c->lock);
  nanosleep(&nap, NULL); /* leaves parts to others */
  atomic_fetch_sub(&c->at_once, 1);
}

/* Most threads that were in a section at once; *n: all that ever were. */
static uint32_t gather_crowd(aii_pool *pool, uint32_t *n)
{
  crowd c = {.lock = PTHREAD_MUTEX_INITIALIZER};
  for (int i = 0; i < 40; i++) {
    struct timespec nap = {0, 300000};
    aii_pool_run(pool, 8, join_crowd, &c);
    nanosleep(&nap, NULL); /* all sleep: somebody must be woken */
  }
  *n = c.n;
  return atomic_load(&c.most);
}

static void test_not_more_than_cores(void **state)
{
  (void)state;
  cpu_set_t all, one;
  aii_pool *pool;
  aiinfra_error err;
  uint32_t n;
  assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
  CPU_ZERO(&one);
  for (size_t cpu = 0; CPU_COUNT(&one) == 0; cpu++)
    if (CPU_ISSET(cpu, &all)) CPU_SET(cpu, &one);
  assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
  assert_int_equal(aii_pool_create(&mem, 8, 0, &pool, &err), AIINFRA_OK);
  assert_int_equal(aii_pool_threads(pool), 1);
  assert_int_equal(gather_crowd(pool, &n), 1);
  assert_int_equal(n, 1);
  aii_pool_free(pool);
  pool = new_pool(8); /* a crowd */
  assert_int_equal(aii_pool_threads(pool), 8);
  assert_true(gather_crowd(pool, &n) > 1);
  aii_pool_free(pool);
  assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
  assert_int_equal(aii_pool_create(&mem, 8, 0, &pool, &err), AIINFRA_OK);
  uint32_t most = gather_crowd(pool, &n), cores = (uint32_t)CPU_COUNT(&all);
  printf("%u of 8 threads at once on %u cores\n", most, cores);
  assert_true(most <= cores);
  assert_true(cores == 1 || most > 1);
  aii_pool_free(pool);
}

static void test_pinned(void **state)
{
  (void)state;
  aii_pool *pool;
  aiinfra_error err;
  assert_int_equal(aii_pool_create(&mem, 3, AII_POOL_PIN | AII_POOL_CROWD, &pool, &err), AIINFRA_OK);
  for (int i = 0; i < 50; i++) run_and_check(pool, 9);
  aii_pool_free(pool);
}

int main(void)
{
  aii_mem_init(&mem, NULL, 0);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_part_once), cmocka_unit_test(test_after_sleep),
      cmocka_unit_test(test_create_and_free), cmocka_unit_test(test_nested),
      cmocka_unit_test(test_two_callers),     cmocka_unit_test(test_signals),
      cmocka_unit_test(test_bad_arguments),   cmocka_unit_test(test_thread_creation_fails),
      cmocka_unit_test(test_pinned),          cmocka_unit_test(test_not_more_than_cores),
  };
  return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
