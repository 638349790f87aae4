/* src/backend/pool.c - threads that run one parallel section at a time, and sleep between sections.
 *
 * The caller of aii_pool_run() takes part. Sections are numbered. Invariants:
 *
 *   P1  `ticket` holds the section's number and how many of its parts nobody has claimed. A part is claimed by
 *       counting it down, and only while the number is the claimer's: a late worker cannot take a part of a section
 *       that it has not seen.
 *   P2  fn, arg and n_parts are read only by who has claimed a part, and written only when `pending` is 0: they are
 *       stable whenever they are read.
 *   P3  `pending` counts parts that are not finished; the caller returns when it is 0. A worker touches nothing of a
 *       section after counting it down.
 *   P4  Who sleeps announces it first (`sleepers`, `waiting`) and the kernel compares the word again: no wake-up is lost.
 *
 * Workers spin for a while before they sleep: for longer than one thread works alone between two sections of a pass,
 * because to wake one up takes tens of microseconds on a virtual machine. There are no more threads than cores that this
 * process may use: threads that wait for each other on one core would lose a quarter of the speed. A section started while another runs
 * (nested, or from a second thread) runs on its caller alone; results do not depend on any of it.
 * All signals are blocked in the workers: they belong to the host's threads.
 */
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "src/backend/backend.h"

#define MAX_THREADS 1024
#define SPINS 4000                    /* with a pause each: about 50 to 200 microseconds */
#define STACK_BYTES ((size_t)1 << 20) /* kernels need a few KiB */
#define CACHE_LINE 64

typedef void (*part_fn)(void *arg, uint32_t part, uint32_t n_parts);

typedef struct worker {
  aii_pool *pool;
  pthread_t thread;
  uint32_t index; /* from 1; the caller is 0 */
} worker;

struct aii_pool {
  aii_mem *mem;
  worker *workers;
  uint32_t n_threads, n_started;
  part_fn fn;
  void *arg;
  uint32_t n_parts;
  _Alignas(CACHE_LINE) _Atomic uint64_t ticket;  /* section << 32 | parts left to claim */
  _Alignas(CACHE_LINE) _Atomic uint32_t section; /* workers sleep on it */
  _Atomic uint32_t sleepers;
  atomic_bool stop;
  _Alignas(CACHE_LINE) _Atomic uint32_t pending; /* the caller sleeps on it */
  atomic_bool waiting;
  _Alignas(CACHE_LINE) atomic_flag busy;
};

static void cpu_relax(void)
{
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static void futex_wait(_Atomic uint32_t *word, uint32_t expected)
{
  (void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, uint32_t n)
{
  (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

/* Claims and runs parts of the section until none is left. */
static void run_parts(aii_pool *pool, uint32_t section)
{
  uint64_t ticket = atomic_load_explicit(&pool->ticket, memory_order_acquire);
  for (;;) {
    uint32_t left = (uint32_t)ticket;
    if ((uint32_t)(ticket >> 32) != section || left == 0) return;
    if (!atomic_compare_exchange_weak_explicit(&pool->ticket, &ticket, ticket - 1, memory_order_acq_rel,
                                               memory_order_acquire))
      continue;
    uint32_t n_parts = pool->n_parts;
    pool->fn(pool->arg, n_parts - left, n_parts);
    if (atomic_fetch_sub(&pool->pending, 1) == 1 && atomic_load(&pool->waiting)) futex_wake(&pool->pending, 1);
    ticket = atomic_load_explicit(&pool->ticket, memory_order_acquire);
  }
}

/* Returns the number of a section other than `seen`. */
static uint32_t next_section(aii_pool *pool, uint32_t seen)
{
  for (uint32_t i = 0; i < SPINS; i++) {
    uint32_t now = atomic_load_explicit(&pool->section, memory_order_acquire);
    if (now != seen) return now;
    cpu_relax();
  }
  atomic_fetch_add(&pool->sleepers, 1);
  uint32_t now;
  while ((now = atomic_load(&pool->section)) == seen) futex_wait(&pool->section, seen);
  atomic_fetch_sub(&pool->sleepers, 1);
  return now;
}

static void *worker_main(void *arg)
{
  worker *w = arg;
  char name[16];
  (void)snprintf(name, sizeof name, "aii-pool-%u", w->index);
  (void)pthread_setname_np(pthread_self(), name);
  aii_thread_prefer_others();
  uint32_t seen = 0;
  for (;;) {
    seen = next_section(w->pool, seen);
    if (atomic_load_explicit(&w->pool->stop, memory_order_acquire)) return NULL;
    run_parts(w->pool, seen);
  }
}

/* The core for thread `index`: the cores that this process may use, in turn. */
static bool pick_core(const cpu_set_t *allowed, uint32_t index, cpu_set_t *out)
{
  int n = CPU_COUNT(allowed);
  if (n == 0) return false;
  int skip = (int)(index % (uint32_t)n);
  for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (!CPU_ISSET(cpu, allowed) || skip-- != 0) continue;
    CPU_ZERO(out);
    CPU_SET(cpu, out);
    return true;
  }
  return false;
}

/* The new thread inherits a full signal mask; the caller's own is put back at once. */
static int start_thread(worker *w, const cpu_set_t *core)
{
  pthread_attr_t attr;
  sigset_t all, before;
  int rc = pthread_attr_init(&attr);
  if (rc != 0) return rc;
  (void)pthread_attr_setstacksize(&attr, STACK_BYTES);
  if (core != NULL) (void)pthread_attr_setaffinity_np(&attr, sizeof *core, core);
  sigfillset(&all);
  rc = pthread_sigmask(SIG_SETMASK, &all, &before);
  if (rc == 0) {
    rc = pthread_create(&w->thread, &attr, worker_main, w);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
  }
  pthread_attr_destroy(&attr);
  return rc;
}

static aiinfra_status start_workers(aii_pool *pool, bool pin, aiinfra_error *err)
{
  cpu_set_t allowed, core;
  CPU_ZERO(&allowed);
  bool known = sched_getaffinity(0, sizeof allowed, &allowed) == 0;
  for (uint32_t i = 1; i < pool->n_threads; i++) {
    worker *w = &pool->workers[i - 1];
    w->pool = pool;
    w->index = i;
    bool pinned = pin && known && pick_core(&allowed, i, &core);
    int rc = start_thread(w, pinned ? &core : NULL);
    if (rc != 0) return aii_fail_errno(err, rc, "start compute thread %u of %u", i + 1, pool->n_threads);
    pool->n_started++;
  }
  return AIINFRA_OK;
}

/* 0: not known. */
static uint32_t usable_cores(void)
{
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  return sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? (uint32_t)CPU_COUNT(&allowed) : 0;
}

aiinfra_status aii_pool_create(aii_mem *mem, uint32_t n_threads, uint32_t flags, aii_pool **out, aiinfra_error *err)
{
  *out = NULL;
  if (n_threads == 0 || n_threads > MAX_THREADS)
    return aii_fail(err, AIINFRA_EINVAL, "a pool needs 1 to %d threads, not %u", MAX_THREADS, n_threads);
  uint32_t cores = usable_cores();
  if ((flags & AII_POOL_CROWD) == 0 && cores != 0) n_threads = AII_MIN(n_threads, cores);
  aii_pool *pool = aii_new_aligned(mem, sizeof *pool);
  if (pool == NULL) return aii_fail(err, AIINFRA_ENOMEM, "thread pool");
  memset(pool, 0, sizeof *pool);
  pool->mem = mem;
  pool->n_threads = n_threads;
  atomic_flag_clear(&pool->busy);
  if (n_threads > 1) {
    pool->workers = aii_new_array(mem, n_threads - 1, sizeof *pool->workers);
    if (pool->workers == NULL) {
      aii_pool_free(pool);
      return aii_fail(err, AIINFRA_ENOMEM, "thread pool");
    }
  }
  aiinfra_status rc = start_workers(pool, (flags & AII_POOL_PIN) != 0, err);
  if (rc != AIINFRA_OK) {
    aii_pool_free(pool);
    return rc;
  }
  *out = pool;
  return AIINFRA_OK;
}

void aii_pool_free(aii_pool *pool)
{
  if (pool == NULL) return;
  atomic_store(&pool->stop, true);
  atomic_fetch_add(&pool->section, 1);
  futex_wake(&pool->section, pool->n_threads);
  for (uint32_t i = 0; i < pool->n_started; i++) (void)pthread_join(pool->workers[i].thread, NULL);
  if (pool->workers != NULL) aii_del(pool->mem, pool->workers, (pool->n_threads - 1) * sizeof *pool->workers);
  aii_del_aligned(pool->mem, pool, sizeof *pool);
}

uint32_t aii_pool_threads(const aii_pool *pool)
{
  return pool == NULL ? 1 : pool->n_threads;
}

uint32_t aii_pool_sections(const aii_pool *pool)
{
  return pool == NULL ? 0 : atomic_load_explicit(&pool->section, memory_order_relaxed);
}

static void wait_finished(aii_pool *pool)
{
  for (uint32_t i = 0; i < SPINS; i++) {
    if (atomic_load(&pool->pending) == 0) return;
    cpu_relax();
  }
  atomic_store(&pool->waiting, true);
  uint32_t pending;
  while ((pending = atomic_load(&pool->pending)) != 0) futex_wait(&pool->pending, pending);
  atomic_store(&pool->waiting, false);
}

/* Those that are awake see the section by themselves, or just before they sleep. */
static void wake_workers(aii_pool *pool, uint32_t n_parts)
{
  uint32_t asleep = atomic_load(&pool->sleepers), awake = pool->n_started - asleep;
  uint32_t wanted = AII_MIN(n_parts, pool->n_threads) - 1;
  if (asleep != 0 && awake < wanted) futex_wake(&pool->section, wanted - awake);
}

void aii_pool_run(aii_pool *pool, uint32_t n_parts, void (*fn)(void *arg, uint32_t part, uint32_t n_parts), void *arg)
{
  bool alone = pool == NULL || pool->n_threads == 1 || n_parts <= 1;
  if (alone || atomic_flag_test_and_set_explicit(&pool->busy, memory_order_acquire)) {
    for (uint32_t part = 0; part < n_parts; part++) fn(arg, part, n_parts);
    return;
  }
  pool->fn = fn;
  pool->arg = arg;
  pool->n_parts = n_parts;
  atomic_store_explicit(&pool->pending, n_parts, memory_order_relaxed);
  uint32_t section = atomic_load_explicit(&pool->section, memory_order_relaxed) + 1;
  atomic_store_explicit(&pool->ticket, (uint64_t)section << 32 | n_parts, memory_order_release);
  atomic_store(&pool->section, section);
  wake_workers(pool, n_parts);
  run_parts(pool, section);
  wait_finished(pool);
  atomic_flag_clear_explicit(&pool->busy, memory_order_release);
}
