/* loop.c - our tasks and timers on a libuv loop, the host's or our own.
 *
 * Posting: any thread appends a task to a list under a mutex and wakes the loop through one uv_async_t; the loop's
 * thread takes the whole list and runs it in order. The async handle is unreferenced while nobody holds, so that an
 * idle library never keeps the host's uv_run() going.
 *
 * Ending: aii_loop_close() closes the handles; the object dies when the last of them, timers included, is gone.
 */
#include "lib/loop/loop.h"

#include <pthread.h>
#include <uv.h>

struct aii_loop {
  aii_mem *mem;
  uv_loop_t *uv;
  uv_loop_t own;
  uv_async_t wake;
  uv_timer_t wait_timer; /* the time-out of aii_loop_run() */
  uv_prepare_t check;    /* runs while aii_loop_run() does, before libuv goes to sleep */
  bool (*until)(void *user);
  void *until_user;
  pthread_t thread;     /* that created it: the loop's thread */
  pthread_mutex_t lock; /* guards the task list */
  aii_task *first, *last;
  atomic_bool stop;   /* set by any thread; away from the plain flags, which gcc may read as one word */
  uint32_t n_handles; /* open libuv handles of ours */
  uint32_t n_holds;
  uint32_t depth; /* host callbacks on the stack */
  bool owned, running, timed_out;
  void (*closed)(void *user);
  void *closed_user;
};

struct aii_timer {
  uv_timer_t uv;
  aii_loop *loop;
  void (*fn)(void *user);
  void *user;
};

static void run_tasks(uv_async_t *wake)
{
  aii_loop *loop = wake->data;
  pthread_mutex_lock(&loop->lock);
  aii_task *task = loop->first;
  loop->first = loop->last = NULL;
  pthread_mutex_unlock(&loop->lock);
  while (task != NULL) {
    aii_task *next = task->next; /* the task may free its owner or be posted again */
    task->fn(task);
    task = next;
  }
}

static aiinfra_status fail_uv(aiinfra_error *err, int code, const char *what)
{
  aiinfra_status status = code == UV_ENOMEM ? AIINFRA_ENOMEM : AIINFRA_EIO;
  return aii_fail_code(err, status, code, "%s: %s", what, uv_strerror(code));
}

aiinfra_status aii_loop_create(aii_mem *mem, struct uv_loop_s *host, aii_loop **out, aiinfra_error *err)
{
  *out = NULL;
  aii_loop *loop = aii_new(mem, sizeof *loop);
  if (loop == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for the event loop");
  loop->mem = mem;
  loop->thread = pthread_self();
  loop->owned = host == NULL;
  loop->uv = host == NULL ? &loop->own : host;
  int code = loop->owned ? uv_loop_init(&loop->own) : 0;
  if (code != 0) goto err_after_loop;
  code = uv_async_init(loop->uv, &loop->wake, run_tasks);
  if (code != 0) goto err_after_uv;
  loop->wake.data = loop;
  uv_unref((uv_handle_t *)&loop->wake);
  (void)uv_timer_init(loop->uv, &loop->wait_timer); /* cannot fail: it only links the handle */
  loop->wait_timer.data = loop;
  (void)uv_prepare_init(loop->uv, &loop->check);
  loop->check.data = loop;
  uv_unref((uv_handle_t *)&loop->check);
  loop->n_handles = 3;
  (void)pthread_mutex_init(&loop->lock, NULL);
  *out = loop;
  return AIINFRA_OK;

err_after_uv:
  if (loop->owned) (void)uv_loop_close(&loop->own);
err_after_loop:
  aii_del(mem, loop, sizeof *loop);
  return fail_uv(err, code, "start the event loop");
}

/* The last handle is gone: the object goes, then its owner is told. */
static void end_loop(aii_loop *loop)
{
  void (*closed)(void *) = loop->closed;
  void *user = loop->closed_user;
  (void)pthread_mutex_destroy(&loop->lock);
  aii_del(loop->mem, loop, sizeof *loop);
  if (closed != NULL) closed(user);
}

static void drop_handle(aii_loop *loop)
{
  loop->n_handles--;
  if (loop->n_handles == 0 && !loop->owned) end_loop(loop);
}

static void on_handle_closed(uv_handle_t *handle)
{
  drop_handle(handle->data);
}

void aii_loop_close(aii_loop *loop, void (*closed)(void *user), void *user)
{
  loop->closed = closed;
  loop->closed_user = user;
  uv_close((uv_handle_t *)&loop->wake, on_handle_closed);
  uv_close((uv_handle_t *)&loop->wait_timer, on_handle_closed);
  uv_close((uv_handle_t *)&loop->check, on_handle_closed);
  if (!loop->owned) return;
  while (loop->n_handles > 0) (void)uv_run(loop->uv, UV_RUN_ONCE);
  (void)uv_run(loop->uv, UV_RUN_DEFAULT);
  (void)uv_loop_close(&loop->own);
  end_loop(loop);
}

struct uv_loop_s *aii_loop_uv(aii_loop *loop)
{
  return loop->uv;
}

bool aii_loop_owned(const aii_loop *loop)
{
  return loop->owned;
}

void aii_loop_post(aii_loop *loop, aii_task *task)
{
  task->next = NULL;
  pthread_mutex_lock(&loop->lock);
  if (loop->last != NULL) {
    loop->last->next = task;
  } else {
    loop->first = task;
  }
  loop->last = task;
  /* inside the lock: once it is given up, the loop's thread may run the task and close this very handle */
  (void)uv_async_send(&loop->wake);
  pthread_mutex_unlock(&loop->lock);
}

bool aii_loop_here(const aii_loop *loop)
{
  return pthread_equal(loop->thread, pthread_self()) != 0;
}

void aii_loop_hold(aii_loop *loop)
{
  if (loop->n_holds++ == 0) uv_ref((uv_handle_t *)&loop->wake);
}

void aii_loop_drop(aii_loop *loop)
{
  assert(loop->n_holds > 0);
  if (--loop->n_holds == 0) uv_unref((uv_handle_t *)&loop->wake);
}

/* ---- timers --------------------------------------------------------------------------------------------------- */

aiinfra_status aii_timer_create(aii_loop *loop, void (*fn)(void *user), void *user, aii_timer **out, aiinfra_error *err)
{
  *out = NULL;
  aii_timer *timer = aii_new(loop->mem, sizeof *timer);
  if (timer == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a timer");
  timer->loop = loop;
  timer->fn = fn;
  timer->user = user;
  (void)uv_timer_init(loop->uv, &timer->uv);
  timer->uv.data = timer;
  loop->n_handles++;
  *out = timer;
  return AIINFRA_OK;
}

static void on_timer(uv_timer_t *uv)
{
  aii_timer *timer = uv->data;
  timer->fn(timer->user);
}

void aii_timer_start(aii_timer *timer, uint64_t delay_ms, bool hold)
{
  uv_update_time(timer->loop->uv); /* the loop's clock stands still during a callback */
  (void)uv_timer_start(&timer->uv, on_timer, delay_ms, 0);
  if (hold) {
    uv_ref((uv_handle_t *)&timer->uv);
  } else {
    uv_unref((uv_handle_t *)&timer->uv);
  }
}

void aii_timer_stop(aii_timer *timer)
{
  (void)uv_timer_stop(&timer->uv);
}

static void on_timer_closed(uv_handle_t *handle)
{
  aii_timer *timer = handle->data;
  aii_loop *loop = timer->loop;
  aii_del(loop->mem, timer, sizeof *timer);
  drop_handle(loop);
}

void aii_timer_free(aii_timer *timer)
{
  if (timer != NULL) uv_close((uv_handle_t *)&timer->uv, on_timer_closed);
}

/* ---- work on libuv's pool ------------------------------------------------------------------------------------- */

typedef struct work {
  uv_work_t uv;
  aii_mem *mem;
  void (*run)(void *user);
  void (*done)(void *user);
  void *user;
} work;

static void run_work(uv_work_t *uv)
{
  work *w = uv->data;
  w->run(w->user);
}

static void end_work(uv_work_t *uv, int status)
{
  (void)status; /* we never uv_cancel() */
  work *w = uv->data;
  void (*done)(void *) = w->done;
  void *user = w->user;
  aii_del(w->mem, w, sizeof *w);
  done(user);
}

aiinfra_status aii_loop_work(aii_loop *loop, void (*run)(void *user), void (*done)(void *user), void *user,
                             aiinfra_error *err)
{
  work *w = aii_new(loop->mem, sizeof *w);
  if (w == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for work on the thread pool");
  w->uv.data = w;
  w->mem = loop->mem;
  w->run = run;
  w->done = done;
  w->user = user;
  int code = uv_queue_work(loop->uv, &w->uv, run_work, end_work);
  if (code == 0) return AIINFRA_OK;
  aii_del(loop->mem, w, sizeof *w);
  return fail_uv(err, code, "queue work on the thread pool");
}

/* ---- running -------------------------------------------------------------------------------------------------- */

static void on_wait_over(uv_timer_t *uv)
{
  aii_loop *loop = uv->data;
  loop->timed_out = true;
}

static bool is_reached(aii_loop *loop)
{
  return loop->until != NULL && loop->until(loop->until_user);
}

/* A timer may have made an end of it in this very turn: then libuv must not sleep until the next event. */
static void before_sleep(uv_prepare_t *check)
{
  aii_loop *loop = check->data;
  if (loop->timed_out || is_reached(loop)) uv_stop(loop->uv);
}

static void start_wait(aii_loop *loop, int64_t timeout_ms)
{
  loop->timed_out = false;
  (void)uv_prepare_start(&loop->check, before_sleep);
  if (timeout_ms < 0) return;
  uv_update_time(loop->uv);
  (void)uv_timer_start(&loop->wait_timer, on_wait_over, (uint64_t)timeout_ms, 0);
}

static void end_wait(aii_loop *loop)
{
  (void)uv_prepare_stop(&loop->check);
  (void)uv_timer_stop(&loop->wait_timer);
}

aiinfra_status aii_loop_run(aii_loop *loop, bool (*until)(void *user), void *user, int64_t timeout_ms,
                            aiinfra_error *err)
{
  if (loop->running || loop->depth > 0) {
    return aii_fail(err, AIINFRA_EINVAL, "the loop is running already: do not wait inside one of its callbacks");
  }
  loop->running = true;
  loop->until = until;
  loop->until_user = user;
  start_wait(loop, timeout_ms);
  bool reached = is_reached(loop);
  while (!reached && !loop->timed_out && !atomic_exchange(&loop->stop, false)) {
    int alive = uv_run(loop->uv, UV_RUN_ONCE);
    reached = is_reached(loop);
    if (alive == 0) break;
  }
  end_wait(loop);
  loop->running = false;
  if (!loop->timed_out || reached) return AIINFRA_OK;
  return aii_fail(err, AIINFRA_ETIMEDOUT, "not done after %lld ms", (long long)timeout_ms);
}

void aii_loop_drain(aii_loop *loop)
{
  if (loop->running || loop->depth > 0) return;
  loop->running = true;
  (void)uv_run(loop->uv, UV_RUN_DEFAULT);
  loop->running = false;
}

void aii_loop_stop(aii_loop *loop)
{
  atomic_store(&loop->stop, true);
  (void)uv_async_send(&loop->wake);
}

bool aii_loop_in_callback(const aii_loop *loop)
{
  return loop->depth > 0;
}

void aii_loop_enter(aii_loop *loop)
{
  loop->depth++;
}

void aii_loop_leave(aii_loop *loop)
{
  assert(loop->depth > 0);
  loop->depth--;
}
