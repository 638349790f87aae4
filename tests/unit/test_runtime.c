/* test_runtime.c - what the modules stand on: worker jobs in order, requests that end, are cancelled, waited for and
 * freed in any order, references that keep the runtime alive. Every byte comes back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>
#include <uv.h>

#include "src/runtime/runtime.h"

/* ---- an allocator that counts ---------------------------------------------------------------------------------- */

enum { HEAD = 16 };

static _Atomic int64_t n_blocks, n_bytes;

static void *count_alloc(void *user, size_t size)
{
  char *base = malloc(size + HEAD);
  (void)user;
  if (base == NULL) return NULL;
  memcpy(base, &size, sizeof size);
  atomic_fetch_add(&n_blocks, 1);
  atomic_fetch_add(&n_bytes, (int64_t)size);
  return base + HEAD;
}

static void *count_resize(void *user, void *ptr, size_t size)
{
  char *base = (char *)ptr - HEAD;
  size_t old;
  (void)user;
  memcpy(&old, base, sizeof old);
  base = realloc(base, size + HEAD);
  if (base == NULL) return NULL;
  memcpy(base, &size, sizeof size);
  atomic_fetch_add(&n_bytes, (int64_t)size - (int64_t)old);
  return base + HEAD;
}

static void count_release(void *user, void *ptr)
{
  char *base = (char *)ptr - HEAD;
  size_t size;
  (void)user;
  memcpy(&size, base, sizeof size);
  atomic_fetch_sub(&n_blocks, 1);
  atomic_fetch_sub(&n_bytes, (int64_t)size);
  free(base);
}

static const aiinfra_allocator counter = {count_alloc, count_resize, count_release, NULL};

/* ---- the fixture ----------------------------------------------------------------------------------------------- */

static aiinfra_runtime *rt;
static uv_loop_t host;
static bool hosted;

static void open_runtime(bool on_host)
{
  aiinfra_runtime_opts opts = AIINFRA_RUNTIME_OPTS_INIT;
  aiinfra_error err;
  hosted = on_host;
  atomic_store(&n_blocks, 0);
  atomic_store(&n_bytes, 0);
  if (hosted) assert_int_equal(uv_loop_init(&host), 0);
  opts.uv_loop = hosted ? &host : NULL;
  opts.allocator = &counter;
  opts.n_threads = 1;
  assert_int_equal(aiinfra_runtime_create(&opts, &rt, &err), AIINFRA_OK);
}

/* After the last reference: the host's loop is empty, and every block is back. */
static void check_gone(void)
{
  if (hosted) {
    assert_int_equal(uv_run(&host, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&host), 0);
  }
  assert_int_equal(atomic_load(&n_blocks), 0);
  assert_int_equal(atomic_load(&n_bytes), 0);
}

static void close_runtime(void)
{
  aiinfra_runtime_free(rt);
  check_gone();
}

static void run_loop(void)
{
  aiinfra_error err;
  assert_int_equal(aiinfra_runtime_run(rt, &err), AIINFRA_OK);
}

static void nap_ms(long ms)
{
  struct timespec t = {0, ms * 1000000};
  nanosleep(&t, NULL);
}

/* ---- worker ---------------------------------------------------------------------------------------------------- */

enum { N_JOBS = 500 };

typedef struct numbered {
  aii_job job;
  int number;
} numbered;

static int n_run, n_done;
static pthread_t main_thread;

static void run_numbered(aii_job *job)
{
  numbered *n = AII_CONTAINER(job, numbered, job);
  assert_int_equal(n->number, n_run); /* in the order they came */
  assert_false(pthread_equal(pthread_self(), main_thread));
  n_run++;
}

static void numbered_done(aii_job *job)
{
  numbered *n = AII_CONTAINER(job, numbered, job);
  assert_int_equal(n->number, n_done);
  assert_true(pthread_equal(pthread_self(), main_thread));
  n_done++;
}

static void test_worker_keeps_order(void **state)
{
  (void)state;
  for (int on_host = 0; on_host < 2; on_host++) {
    numbered *jobs = calloc(N_JOBS, sizeof *jobs);
    main_thread = pthread_self();
    n_run = n_done = 0;
    open_runtime(on_host);
    for (int i = 0; i < N_JOBS; i++) {
      jobs[i] = (numbered){.job = {.run = run_numbered, .done = numbered_done}, .number = i};
      aii_worker_submit(rt, &jobs[i].job);
    }
    assert_int_equal(n_done, 0); /* not inside the call */
    run_loop();
    assert_int_equal(n_run, N_JOBS);
    assert_int_equal(n_done, N_JOBS);
    close_runtime();
    free(jobs);
  }
}

/* An owner that dies in its last job's done(), and takes its reference to the runtime along. */
typedef struct owner {
  aii_job job;
  int left;
} owner;

static void run_owner(aii_job *job)
{
  AII_CONTAINER(job, owner, job)->left--;
}

static void owner_done(aii_job *job)
{
  owner *o = AII_CONTAINER(job, owner, job);
  if (o->left > 0) {
    aii_worker_submit(job->rt, job); /* the same job again */
    return;
  }
  aiinfra_runtime *runtime = job->rt;
  aii_del(&runtime->mem, o, sizeof *o);
  aii_runtime_unref(runtime);
  n_done++;
}

static void test_job_frees_its_owner(void **state)
{
  (void)state;
  for (int on_host = 0; on_host < 2; on_host++) {
    open_runtime(on_host);
    owner *o = aii_new(&rt->mem, sizeof *o);
    o->job = (aii_job){.run = run_owner, .done = owner_done};
    o->left = 3;
    n_done = 0;
    aii_runtime_ref(rt);
    aii_worker_submit(rt, &o->job);
    close_runtime(); /* the job goes on, and ends within */
    assert_int_equal(n_done, 1);
  }
}

static bool under_lock;

static void run_locked(aii_job *job)
{
  (void)job;
  assert_false(under_lock);
}

static void locked_done(aii_job *job)
{
  (void)job;
}

static void test_device_lock_keeps_jobs_out(void **state)
{
  (void)state;
  aii_job job = {.run = run_locked, .done = locked_done};
  open_runtime(false);
  aii_device_lock(rt);
  under_lock = true;
  aii_worker_submit(rt, &job);
  nap_ms(10);
  under_lock = false;
  aii_device_unlock(rt);
  run_loop();
  close_runtime();
}

/* ---- requests -------------------------------------------------------------------------------------------------- */

/* Work that ends after some milliseconds, or when it is cancelled; what modules do, in small. */
typedef struct work {
  aii_timer *timer;
  aiinfra_request *request; /* the library's reference */
  aiinfra_request *host;    /* the host's, to be freed in the callback */
  int n_cancels, n_ended;
  aiinfra_status status, wait_status;
  bool wait_inside;
} work;

static void end_work(work *w, aiinfra_status status)
{
  aii_loop_enter(rt->loop);
  w->n_ended++;
  w->status = status;
  if (w->wait_inside) w->wait_status = aiinfra_request_wait(w->host, -1, NULL);
  aiinfra_request_free(w->host);
  w->host = NULL;
  aii_loop_leave(rt->loop);
  aii_timer_free(w->timer);
  aii_request_end(w->request, status);
}

static void on_time(void *user)
{
  end_work(user, AIINFRA_OK);
}

static void on_cancel(void *impl)
{
  work *w = impl;
  w->n_cancels++;
  assert_true(pthread_equal(pthread_self(), main_thread));
  end_work(w, AIINFRA_ECANCELED);
}

static aiinfra_request *start_work(work *w, uint64_t delay_ms)
{
  memset(w, 0, sizeof *w);
  main_thread = pthread_self();
  assert_int_equal(aii_timer_create(rt->loop, on_time, w, &w->timer, NULL), AIINFRA_OK);
  aii_timer_start(w->timer, delay_ms, true);
  w->request = aii_request_new(rt, on_cancel, w);
  assert_non_null(w->request);
  return w->request;
}

static void test_wait(void **state)
{
  (void)state;
  for (int on_host = 0; on_host < 2; on_host++) {
    work w;
    aiinfra_error err;
    open_runtime(on_host);
    aiinfra_request *r = start_work(&w, 30);
    assert_int_equal(aiinfra_request_done(r), 0);
    assert_int_equal(aiinfra_request_wait(r, 0, &err), AIINFRA_ETIMEDOUT);
    assert_int_equal(aiinfra_request_wait(r, 3, &err), AIINFRA_ETIMEDOUT);
    assert_int_equal(err.status, AIINFRA_ETIMEDOUT);
    assert_int_equal(w.n_ended, 0);
    assert_int_equal(aiinfra_request_wait(r, -1, &err), AIINFRA_OK);
    assert_int_equal(w.n_ended, 1);
    assert_int_equal(aiinfra_request_done(r), 1);
    assert_int_equal(aiinfra_request_wait(r, 0, &err), AIINFRA_OK); /* it has ended: at once */
    aiinfra_request_free(r);
    close_runtime();
  }
}

static void test_null_requests(void **state)
{
  (void)state;
  aiinfra_error err;
  aiinfra_request_cancel(NULL);
  aiinfra_request_free(NULL);
  assert_int_equal(aiinfra_request_done(NULL), 0);
  assert_int_equal(aiinfra_request_wait(NULL, 0, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_request_wait(NULL, 0, NULL), AIINFRA_EINVAL);
}

static void test_cancel(void **state)
{
  (void)state;
  for (int on_host = 0; on_host < 2; on_host++) {
    work w;
    aiinfra_error err;
    open_runtime(on_host);
    aiinfra_request *r = start_work(&w, 100000);
    aiinfra_request_cancel(r);
    aiinfra_request_cancel(r);
    assert_int_equal(w.n_cancels, 0); /* asked, not done */
    assert_int_equal(aiinfra_request_wait(r, -1, &err), AIINFRA_ECANCELED);
    assert_int_equal(err.status, AIINFRA_ECANCELED);
    assert_int_equal(w.n_cancels, 1);
    assert_int_equal(w.n_ended, 1);
    aiinfra_request_cancel(r); /* after the end: harmless */
    run_loop();
    assert_int_equal(w.n_cancels, 1);
    aiinfra_request_free(r);
    close_runtime();
  }
}

static void *cancel_and_free(void *arg)
{
  nap_ms(5);
  aiinfra_request_cancel(arg);
  aiinfra_request_free(arg);
  return NULL;
}

static void test_cancel_from_another_thread(void **state)
{
  (void)state;
  for (int on_host = 0; on_host < 2; on_host++) {
    work w;
    pthread_t thread;
    open_runtime(on_host);
    aiinfra_request *r = start_work(&w, 100000);
    assert_int_equal(pthread_create(&thread, NULL, cancel_and_free, r), 0);
    run_loop();
    assert_int_equal(w.n_cancels, 1);
    assert_int_equal(w.status, AIINFRA_ECANCELED);
    pthread_join(thread, NULL);
    close_runtime();
  }
}

/* The cancel is on its way, and nothing holds the loop, when the request ends: it must arrive all the same. */
static void test_cancel_crosses_the_end(void **state)
{
  (void)state;
  for (int on_host = 0; on_host < 2; on_host++) {
    work w;
    open_runtime(on_host);
    aiinfra_request *r = start_work(&w, 100000);
    aiinfra_request_cancel(r);
    end_work(&w, AIINFRA_OK);
    assert_int_equal(aiinfra_request_done(r), 1);
    aiinfra_request_free(r);
    close_runtime();
    assert_int_equal(w.n_cancels, 0);
    assert_int_equal(w.n_ended, 1);
  }
}

typedef struct racer {
  aiinfra_request *request;
  _Atomic bool go;
} racer;

static void *cancel_at_the_end(void *arg)
{
  racer *r = arg;
  while (!atomic_load(&r->go)) sched_yield();
  aiinfra_request_cancel(r->request);
  return NULL;
}

static void test_cancel_races_with_the_end(void **state)
{
  (void)state;
  for (int i = 0; i < 200; i++) {
    work w;
    pthread_t thread;
    racer racer = {NULL, false};
    open_runtime(i % 2);
    racer.request = start_work(&w, 100000);
    assert_int_equal(pthread_create(&thread, NULL, cancel_at_the_end, &racer), 0);
    atomic_store(&racer.go, true);
    for (volatile int spin = 0; spin < i * 50; spin++) {}
    end_work(&w, AIINFRA_OK);
    run_loop();
    pthread_join(thread, NULL);
    run_loop();
    assert_int_equal(w.n_cancels, 0);
    assert_int_equal(w.n_ended, 1);
    aiinfra_request_free(racer.request);
    close_runtime();
  }
}

static void test_free_before_the_end(void **state)
{
  (void)state;
  for (int on_host = 0; on_host < 2; on_host++) {
    work w;
    open_runtime(on_host);
    aiinfra_request_free(start_work(&w, 5));
    run_loop(); /* the work goes on */
    assert_int_equal(w.n_ended, 1);
    assert_int_equal(w.status, AIINFRA_OK);
    close_runtime();
  }
}

static void test_free_in_the_callback_while_waiting(void **state)
{
  (void)state;
  work w;
  aiinfra_error err;
  open_runtime(false);
  aiinfra_request *r = start_work(&w, 5);
  w.host = r;
  w.wait_inside = true;
  assert_int_equal(aiinfra_request_wait(r, -1, &err), AIINFRA_OK);
  assert_null(w.host);
  assert_int_equal(w.wait_status, AIINFRA_EINVAL); /* waiting inside a callback */
  close_runtime();
}

static void test_stop_leaves_the_request(void **state)
{
  (void)state;
  work w;
  open_runtime(false);
  aiinfra_request *r = start_work(&w, 20);
  aiinfra_runtime_stop(rt);
  run_loop();
  assert_int_equal(w.n_ended, 0);
  aiinfra_request_free(r);
  aiinfra_runtime_stop(rt); /* once more: freeing runs to the end all the same */
  close_runtime();
  assert_int_equal(w.n_ended, 1);
}

/* ---- references ------------------------------------------------------------------------------------------------ */

static int n_closed;

static void on_closed(void *user)
{
  assert_ptr_equal(user, &n_closed);
  assert_int_equal(atomic_load(&n_blocks), 0); /* the very last */
  n_closed++;
}

static void test_children_keep_it_alive(void **state)
{
  (void)state;
  for (int on_host = 0; on_host < 2; on_host++) {
    open_runtime(on_host);
    n_closed = 0;
    aii_runtime_ref(rt);
    aiinfra_runtime_close(rt, on_closed, &n_closed);
    if (on_host) assert_int_equal(uv_run(&host, UV_RUN_DEFAULT), 0);
    assert_int_equal(n_closed, 0);
    void *p = aii_new(&rt->mem, 10); /* it works still */
    assert_non_null(p);
    aii_del(&rt->mem, p, 10);
    aii_runtime_unref(rt);
    check_gone();
    assert_int_equal(n_closed, 1);
  }
}

static void *unref_elsewhere(void *arg)
{
  nap_ms(5);
  aii_runtime_unref(arg);
  return NULL;
}

static void on_tick(uv_timer_t *timer)
{
  if (n_closed > 0) uv_close((uv_handle_t *)timer, NULL);
}

static void test_last_reference_from_another_thread(void **state)
{
  (void)state;
  for (int on_host = 0; on_host < 2; on_host++) {
    pthread_t thread;
    uv_timer_t ticks; /* the host has something to do: an idle loop is not woken by other threads */
    open_runtime(on_host);
    n_closed = 0;
    aii_runtime_ref(rt);
    assert_int_equal(pthread_create(&thread, NULL, unref_elsewhere, rt), 0);
    aiinfra_runtime_close(rt, on_closed, &n_closed);
    if (on_host) {
      uv_timer_init(&host, &ticks);
      uv_timer_start(&ticks, on_tick, 1, 1);
      assert_int_equal(uv_run(&host, UV_RUN_DEFAULT), 0);
    }
    pthread_join(thread, NULL);
    assert_int_equal(n_closed, 1);
    check_gone();
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_worker_keeps_order),
      cmocka_unit_test(test_job_frees_its_owner),
      cmocka_unit_test(test_device_lock_keeps_jobs_out),
      cmocka_unit_test(test_wait),
      cmocka_unit_test(test_null_requests),
      cmocka_unit_test(test_cancel),
      cmocka_unit_test(test_cancel_from_another_thread),
      cmocka_unit_test(test_cancel_crosses_the_end),
      cmocka_unit_test(test_cancel_races_with_the_end),
      cmocka_unit_test(test_free_before_the_end),
      cmocka_unit_test(test_free_in_the_callback_while_waiting),
      cmocka_unit_test(test_stop_leaves_the_request),
      cmocka_unit_test(test_children_keep_it_alive),
      cmocka_unit_test(test_last_reference_from_another_thread),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
