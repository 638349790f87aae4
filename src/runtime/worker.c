/* worker.c - the one thread that drives the compute device.
 *
 * Jobs run in the order they came; each goes back to the loop's thread through its own task, so nothing here
 * allocates. The device lock is held while a job runs, so that another thread may prepare weights or evaluate a text in
 * between. The lock goes round in the order of asking: who takes it again and again starves nobody.
 *
 * After a job the worker looks for the next one for some microseconds before it sleeps: while a batcher decodes, planning
 * the next pass takes the loop no longer than waking this thread would. Not on a single core, which the loop needs.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include "src/runtime/runtime.h"

enum { SPINS = 1000 }; /* with a pause each: about 10 to 50 microseconds */

struct aii_worker {
  aii_mem *mem;
  pthread_t thread;
  pthread_mutex_t lock; /* guards the list and quit */
  pthread_cond_t wake;
  pthread_mutex_t device; /* guards the tickets */
  pthread_cond_t turn;
  uint64_t next_ticket, served; /* of the device: whose ticket is served has it */
  aii_job *first, *last;
  bool quit;
  uint32_t spins;
  atomic_bool called; /* there is a job, or the end; may be read without the lock */
};

static void relax(void)
{
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/* Waits for the next job; NULL when the worker is to end. */
static aii_job *next_job(aii_worker *worker)
{
  for (uint32_t i = 0; i < worker->spins && !atomic_load_explicit(&worker->called, memory_order_relaxed); i++) relax();
  pthread_mutex_lock(&worker->lock);
  while (worker->first == NULL && !worker->quit) (void)pthread_cond_wait(&worker->wake, &worker->lock);
  aii_job *job = worker->first;
  if (job != NULL) worker->first = job->next;
  if (worker->first == NULL) worker->last = NULL;
  atomic_store_explicit(&worker->called, worker->first != NULL, memory_order_relaxed);
  pthread_mutex_unlock(&worker->lock);
  return job;
}

static void lock_device(aii_worker *worker)
{
  pthread_mutex_lock(&worker->device);
  uint64_t ticket = worker->next_ticket++;
  while (worker->served != ticket) (void)pthread_cond_wait(&worker->turn, &worker->device);
  pthread_mutex_unlock(&worker->device);
}

static void unlock_device(aii_worker *worker)
{
  pthread_mutex_lock(&worker->device);
  worker->served++;
  (void)pthread_cond_broadcast(&worker->turn);
  pthread_mutex_unlock(&worker->device);
}

static void *worker_main(void *arg)
{
  aii_worker *worker = arg;
  aii_thread_prefer_others();
  for (aii_job *job; (job = next_job(worker)) != NULL;) {
    lock_device(worker);
    job->run(job);
    unlock_device(worker);
    aii_loop_post(job->rt->loop, &job->task);
  }
  return NULL;
}

/* The host's signals are for the host's threads. */
static int start_thread(aii_worker *worker)
{
  sigset_t all, old;
  (void)sigfillset(&all);
  (void)pthread_sigmask(SIG_SETMASK, &all, &old);
  int code = pthread_create(&worker->thread, NULL, worker_main, worker);
  (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
  if (code == 0) (void)pthread_setname_np(worker->thread, "aiinfra-worker");
  return code;
}

aiinfra_status aii_worker_create(aii_mem *mem, aii_worker **out, aiinfra_error *err)
{
  *out = NULL;
  aii_worker *worker = aii_new(mem, sizeof *worker);
  if (worker == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for the compute worker");
  worker->mem = mem;
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (sched_getaffinity(0, sizeof cores, &cores) == 0 && CPU_COUNT(&cores) > 1) worker->spins = SPINS;
  (void)pthread_mutex_init(&worker->lock, NULL);
  (void)pthread_mutex_init(&worker->device, NULL);
  (void)pthread_cond_init(&worker->wake, NULL);
  (void)pthread_cond_init(&worker->turn, NULL);
  int code = start_thread(worker);
  if (code == 0) {
    *out = worker;
    return AIINFRA_OK;
  }
  (void)pthread_cond_destroy(&worker->turn);
  (void)pthread_cond_destroy(&worker->wake);
  (void)pthread_mutex_destroy(&worker->device);
  (void)pthread_mutex_destroy(&worker->lock);
  aii_del(mem, worker, sizeof *worker);
  return aii_fail_errno(err, code == EAGAIN ? ENOMEM : code, "start the compute worker's thread");
}

void aii_worker_free(aii_worker *worker)
{
  if (worker == NULL) return;
  pthread_mutex_lock(&worker->lock);
  worker->quit = true;
  atomic_store_explicit(&worker->called, true, memory_order_relaxed);
  (void)pthread_cond_signal(&worker->wake);
  pthread_mutex_unlock(&worker->lock);
  (void)pthread_join(worker->thread, NULL);
  (void)pthread_cond_destroy(&worker->turn);
  (void)pthread_cond_destroy(&worker->wake);
  (void)pthread_mutex_destroy(&worker->device);
  (void)pthread_mutex_destroy(&worker->lock);
  aii_del(worker->mem, worker, sizeof *worker);
}

/* The way back. done() may free the job and everything around it: the runtime is kept until the loop was let go. */
static void on_job_done(aii_task *task)
{
  aii_job *job = AII_CONTAINER(task, aii_job, task);
  aiinfra_runtime *rt = job->rt;
  job->done(job);
  aii_loop_drop(rt->loop);
  aii_runtime_unref(rt);
}

void aii_worker_submit(aiinfra_runtime *rt, aii_job *job)
{
  aii_worker *worker = rt->worker;
  job->rt = rt;
  job->next = NULL;
  job->task.fn = on_job_done;
  aii_runtime_ref(rt);
  aii_loop_hold(rt->loop);
  pthread_mutex_lock(&worker->lock);
  if (worker->last != NULL) {
    worker->last->next = job;
  } else {
    worker->first = job;
  }
  worker->last = job;
  atomic_store_explicit(&worker->called, true, memory_order_relaxed);
  (void)pthread_cond_signal(&worker->wake);
  pthread_mutex_unlock(&worker->lock);
}

void aii_device_lock(aiinfra_runtime *rt)
{
  lock_device(rt->worker);
}

void aii_device_unlock(aiinfra_runtime *rt)
{
  unlock_device(rt->worker);
}
