/* test_loop.c - tasks from many threads in order, holds, timers, work on the pool, running until, for how long, and
 * stopping; on a loop of our own and on the host's, which is left as it was.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <time.h>
#include <uv.h>

#include "lib/loop/loop.h"

static aii_mem mem;

typedef struct fixture {
  uv_loop_t host;
  aii_loop *loop;
  int closed;
  bool hosted;
} fixture;

static fixture f;

static void open_loop(bool hosted)
{
  memset(&f, 0, sizeof f);
  f.hosted = hosted;
  aii_mem_init(&mem, NULL, 0);
  if (hosted) assert_int_equal(uv_loop_init(&f.host), 0);
  assert_int_equal(aii_loop_create(&mem, hosted ? &f.host : NULL, &f.loop, NULL), AIINFRA_OK);
  assert_int_equal(aii_loop_owned(f.loop), !hosted);
  if (hosted) assert_ptr_equal(aii_loop_uv(f.loop), &f.host);
}

static void on_closed(void *user)
{
  ((fixture *)user)->closed++;
}

static void close_loop(void)
{
  aii_loop_close(f.loop, on_closed, &f);
  if (f.hosted) {
    assert_int_equal(f.closed, 0); /* not inside the call */
    assert_int_equal(uv_run(&f.host, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&f.host), 0);
  }
  assert_int_equal(f.closed, 1);
  assert_int_equal(atomic_load(&mem.used_bytes), 0);
}

static void run_to_the_end(void)
{
  assert_int_equal(aii_loop_run(f.loop, NULL, NULL, -1, NULL), AIINFRA_OK);
}

static void nap_ms(long ms)
{
  struct timespec t = {ms / 1000, ms % 1000 * 1000000};
  nanosleep(&t, NULL);
}

static void test_open_and_close(void **state)
{
  (void)state;
  for (int hosted = 0; hosted < 2; hosted++) {
    open_loop(hosted);
    if (hosted) assert_int_equal(uv_run(&f.host, UV_RUN_DEFAULT), 0); /* idle: it keeps nothing going */
    run_to_the_end();
    close_loop();
  }
}

static void test_no_memory(void **state)
{
  (void)state;
  aiinfra_error err;
  aii_loop *loop = (aii_loop *)1;
  aii_timer *timer = (aii_timer *)1;
  aii_mem_init(&mem, NULL, 8);
  assert_int_equal(aii_loop_create(&mem, NULL, &loop, &err), AIINFRA_ENOMEM);
  assert_null(loop);
  open_loop(false);
  mem.limit_bytes = 1;
  assert_int_equal(aii_timer_create(f.loop, on_closed, &f, &timer, &err), AIINFRA_ENOMEM);
  assert_null(timer);
  assert_int_equal(aii_loop_work(f.loop, on_closed, on_closed, &f, &err), AIINFRA_ENOMEM);
  close_loop();
}

/* ---- tasks ----------------------------------------------------------------------------------------------------- */

enum { N_THREADS = 4, N_TASKS = 2000 };

typedef struct post {
  aii_task task;
  int thread, number;
} post;

static post posts[N_THREADS][N_TASKS];
static int next_of[N_THREADS], n_ran;
static pthread_t loop_thread;

static void on_post(aii_task *task)
{
  post *p = AII_CONTAINER(task, post, task);
  assert_true(pthread_equal(pthread_self(), loop_thread));
  assert_int_equal(p->number, next_of[p->thread]); /* each thread's own order */
  next_of[p->thread]++;
  if (++n_ran == N_THREADS * N_TASKS) aii_loop_drop(f.loop);
}

static void *post_all(void *arg)
{
  post *mine = arg;
  for (int i = 0; i < N_TASKS; i++) aii_loop_post(f.loop, &mine[i].task);
  return NULL;
}

static void check_posts(bool hosted)
{
  pthread_t threads[N_THREADS];
  open_loop(hosted);
  loop_thread = pthread_self();
  n_ran = 0;
  memset(next_of, 0, sizeof next_of);
  aii_loop_hold(f.loop);
  for (int t = 0; t < N_THREADS; t++) {
    for (int i = 0; i < N_TASKS; i++) posts[t][i] = (post){{NULL, on_post}, t, i};
    assert_int_equal(pthread_create(&threads[t], NULL, post_all, posts[t]), 0);
  }
  if (hosted) assert_int_equal(uv_run(&f.host, UV_RUN_DEFAULT), 0);
  else run_to_the_end();
  for (int t = 0; t < N_THREADS; t++) pthread_join(threads[t], NULL);
  assert_int_equal(n_ran, N_THREADS * N_TASKS);
  close_loop();
}

static void test_tasks_of_several_threads(void **state)
{
  (void)state;
  check_posts(false);
  check_posts(true);
}

static aii_task again;
static int n_again;

static void post_again(aii_task *task)
{
  if (++n_again < 5) aii_loop_post(f.loop, task); /* it has left the list */
  else aii_loop_drop(f.loop);
}

static void test_a_task_may_post_itself(void **state)
{
  (void)state;
  open_loop(true);
  n_again = 0;
  again.fn = post_again;
  aii_loop_hold(f.loop);
  aii_loop_post(f.loop, &again);
  assert_int_equal(n_again, 0); /* not inside the call */
  assert_int_equal(uv_run(&f.host, UV_RUN_DEFAULT), 0);
  assert_int_equal(n_again, 5);
  close_loop();
}

static void *drop_later(void *arg)
{
  (void)arg;
  nap_ms(30);
  n_again = 4; /* the next run of the task is its last */
  aii_loop_post(f.loop, &again);
  return NULL;
}

static void test_a_hold_keeps_uv_run_going(void **state)
{
  (void)state;
  pthread_t thread;
  open_loop(true);
  again.fn = post_again;
  aii_loop_hold(f.loop);
  aii_loop_hold(f.loop);
  aii_loop_drop(f.loop); /* holds are counted */
  assert_int_equal(pthread_create(&thread, NULL, drop_later, NULL), 0);
  uint64_t start_ns = aii_now_ns();
  assert_int_equal(uv_run(&f.host, UV_RUN_DEFAULT), 0);
  assert_true(aii_now_ns() - start_ns >= 20000000u);
  pthread_join(thread, NULL);
  close_loop();
}

static void *look_from_elsewhere(void *arg)
{
  *(bool *)arg = aii_loop_here(f.loop);
  return NULL;
}

static void test_which_thread(void **state)
{
  (void)state;
  pthread_t thread;
  bool here = true;
  open_loop(false);
  assert_true(aii_loop_here(f.loop));
  assert_int_equal(pthread_create(&thread, NULL, look_from_elsewhere, &here), 0);
  pthread_join(thread, NULL);
  assert_false(here);
  close_loop();
}

/* ---- timers ---------------------------------------------------------------------------------------------------- */

typedef struct chime {
  aii_timer *timer;
  int fired;
  bool free_inside, restart_inside;
} chime;

static void on_alarm(void *user)
{
  chime *a = user;
  a->fired++;
  if (a->restart_inside && a->fired < 3) aii_timer_start(a->timer, 1, true);
  if (a->free_inside) aii_timer_free(a->timer);
}

static void make_alarm(chime *a)
{
  memset(a, 0, sizeof *a);
  assert_int_equal(aii_timer_create(f.loop, on_alarm, a, &a->timer, NULL), AIINFRA_OK);
}

static void check_timers(bool hosted)
{
  chime once, stopped, restarted, chain, gone, unheld;
  open_loop(hosted);
  make_alarm(&once);
  make_alarm(&stopped);
  make_alarm(&restarted);
  make_alarm(&chain);
  make_alarm(&gone);
  make_alarm(&unheld);
  chain.restart_inside = true;
  gone.free_inside = true;
  uint64_t start_ns = aii_now_ns();
  aii_timer_start(once.timer, 20, true);
  aii_timer_start(stopped.timer, 5, true);
  aii_timer_stop(stopped.timer);
  aii_timer_start(restarted.timer, 1, true);
  aii_timer_start(restarted.timer, 30, true); /* counts from now, and once */
  aii_timer_start(chain.timer, 0, true);
  aii_timer_start(gone.timer, 1, true);
  aii_timer_start(unheld.timer, 100000, false);
  assert_int_equal(once.fired + chain.fired, 0); /* not inside the call */
  if (hosted) assert_int_equal(uv_run(&f.host, UV_RUN_DEFAULT), 0);
  else run_to_the_end();
  uint64_t took_ns = aii_now_ns() - start_ns;
  assert_true(took_ns >= 29000000u && took_ns < 60000000000u); /* the timer that does not hold was not waited for */
  assert_int_equal(once.fired, 1);
  assert_int_equal(stopped.fired, 0);
  assert_int_equal(restarted.fired, 1);
  assert_int_equal(chain.fired, 3);
  assert_int_equal(gone.fired, 1);
  assert_int_equal(unheld.fired, 0);
  aii_timer_free(once.timer);
  aii_timer_free(stopped.timer);
  aii_timer_free(restarted.timer);
  aii_timer_free(chain.timer);
  aii_timer_free(unheld.timer); /* while it runs */
  aii_timer_free(NULL);
  close_loop();
}

static void test_timers(void **state)
{
  (void)state;
  check_timers(false);
  check_timers(true);
}

/* ---- work ------------------------------------------------------------------------------------------------------ */

typedef struct chore {
  pthread_t ran_on;
  int ran, done;
} chore;

static void run_chore(void *user)
{
  chore *c = user;
  nap_ms(5);
  c->ran_on = pthread_self();
  c->ran++;
}

static void chore_done(void *user)
{
  chore *c = user;
  assert_int_equal(c->ran, 1);
  assert_true(pthread_equal(pthread_self(), loop_thread));
  c->done++;
}

static void test_work_on_the_pool(void **state)
{
  (void)state;
  for (int hosted = 0; hosted < 2; hosted++) {
    chore chores[10];
    memset(chores, 0, sizeof chores);
    open_loop(hosted);
    loop_thread = pthread_self();
    for (int i = 0; i < 10; i++)
      assert_int_equal(aii_loop_work(f.loop, run_chore, chore_done, &chores[i], NULL), AIINFRA_OK);
    if (hosted) assert_int_equal(uv_run(&f.host, UV_RUN_DEFAULT), 0);
    else run_to_the_end();
    for (int i = 0; i < 10; i++) {
      assert_int_equal(chores[i].done, 1);
      assert_false(pthread_equal(chores[i].ran_on, loop_thread));
    }
    close_loop();
  }
}

/* ---- running --------------------------------------------------------------------------------------------------- */

static bool has_fired(void *user)
{
  return ((chime *)user)->fired > 0;
}

static void test_run_until(void **state)
{
  (void)state;
  chime soon, late;
  aiinfra_error err;
  open_loop(false);
  make_alarm(&soon);
  make_alarm(&late);
  aii_timer_start(soon.timer, 5, true);
  aii_timer_start(late.timer, 60, true);
  assert_int_equal(aii_loop_run(f.loop, has_fired, &soon, -1, &err), AIINFRA_OK);
  assert_int_equal(soon.fired, 1);
  assert_int_equal(late.fired, 0);
  assert_int_equal(aii_loop_run(f.loop, has_fired, &soon, 0, &err), AIINFRA_OK); /* true already */
  assert_int_equal(aii_loop_run(f.loop, has_fired, &late, 10, &err), AIINFRA_ETIMEDOUT);
  assert_int_equal(err.status, AIINFRA_ETIMEDOUT);
  assert_int_equal(late.fired, 0);
  assert_int_equal(aii_loop_run(f.loop, has_fired, &late, 10000, &err), AIINFRA_OK);
  assert_int_equal(late.fired, 1);
  aii_timer_free(soon.timer);
  aii_timer_free(late.timer);
  close_loop();
}

/* libuv runs due timers before it sleeps: what they bring about must end the run at once, not after the sleep. */
static void test_a_run_ends_in_time(void **state)
{
  (void)state;
  chime due, far;
  aiinfra_error err;
  open_loop(false);
  make_alarm(&due);
  make_alarm(&far);
  aii_timer_start(far.timer, 20000, true);
  uint64_t start_ns = aii_now_ns();
  assert_int_equal(aii_loop_run(f.loop, has_fired, &far, 0, &err), AIINFRA_ETIMEDOUT);
  aii_timer_start(due.timer, 0, true);
  assert_int_equal(aii_loop_run(f.loop, has_fired, &due, -1, &err), AIINFRA_OK);
  aii_timer_start(due.timer, 2, true);
  due.fired = 0;
  nap_ms(10);
  assert_int_equal(aii_loop_run(f.loop, has_fired, &due, -1, &err), AIINFRA_OK);
  assert_true(aii_now_ns() - start_ns < 10000000000u);
  aii_timer_free(due.timer);
  aii_timer_free(far.timer);
  close_loop();
}

static void *stop_later(void *arg)
{
  (void)arg;
  nap_ms(20);
  aii_loop_stop(f.loop);
  return NULL;
}

static void test_stop_from_another_thread(void **state)
{
  (void)state;
  pthread_t thread;
  open_loop(false);
  aii_loop_hold(f.loop);
  assert_int_equal(pthread_create(&thread, NULL, stop_later, NULL), 0);
  run_to_the_end(); /* would never return */
  pthread_join(thread, NULL);
  aii_loop_drop(f.loop);
  close_loop();
}

static void test_stop_lasts_one_run_and_never_stops_a_drain(void **state)
{
  (void)state;
  chime a;
  open_loop(false);
  make_alarm(&a);
  aii_timer_start(a.timer, 5, true);
  aii_loop_stop(f.loop); /* before the run: it counts */
  run_to_the_end();
  assert_int_equal(a.fired, 0);
  run_to_the_end();
  assert_int_equal(a.fired, 1);
  aii_timer_start(a.timer, 5, true);
  aii_loop_stop(f.loop);
  aii_loop_drain(f.loop);
  assert_int_equal(a.fired, 2);
  aii_timer_free(a.timer);
  close_loop();
}

static aiinfra_status nested_status;
static aii_task nested_task;

static void run_nested(aii_task *task)
{
  aiinfra_error err;
  (void)task;
  nested_status = aii_loop_run(f.loop, NULL, NULL, -1, &err);
  assert_int_equal(err.status, AIINFRA_EINVAL);
  aii_loop_drain(f.loop); /* returns at once */
  aii_loop_drop(f.loop);
}

static void test_nested_run_is_refused(void **state)
{
  (void)state;
  aiinfra_error err;
  open_loop(false);
  nested_status = AIINFRA_OK;
  nested_task.fn = run_nested;
  aii_loop_hold(f.loop);
  aii_loop_post(f.loop, &nested_task);
  run_to_the_end();
  assert_int_equal(nested_status, AIINFRA_EINVAL);
  assert_false(aii_loop_in_callback(f.loop));
  aii_loop_enter(f.loop); /* the host runs its loop itself, and we call it back */
  aii_loop_enter(f.loop);
  aii_loop_leave(f.loop);
  assert_true(aii_loop_in_callback(f.loop));
  assert_int_equal(aii_loop_run(f.loop, NULL, NULL, -1, &err), AIINFRA_EINVAL);
  aii_loop_leave(f.loop);
  assert_false(aii_loop_in_callback(f.loop));
  run_to_the_end();
  close_loop();
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_open_and_close),
      cmocka_unit_test(test_no_memory),
      cmocka_unit_test(test_tasks_of_several_threads),
      cmocka_unit_test(test_a_task_may_post_itself),
      cmocka_unit_test(test_a_hold_keeps_uv_run_going),
      cmocka_unit_test(test_which_thread),
      cmocka_unit_test(test_timers),
      cmocka_unit_test(test_work_on_the_pool),
      cmocka_unit_test(test_run_until),
      cmocka_unit_test(test_a_run_ends_in_time),
      cmocka_unit_test(test_stop_from_another_thread),
      cmocka_unit_test(test_stop_lasts_one_run_and_never_stops_a_drain),
      cmocka_unit_test(test_nested_run_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
