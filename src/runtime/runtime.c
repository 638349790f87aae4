/* runtime.c - the root object's life.
 *
 * Built in the order metrics, pool, backend, worker, loop, so that a failure never leaves an event loop to wind down.
 * Ends when the last reference goes, which any thread may drop:
 *  - Our own loop: whoever runs it holds a reference, so it stands still now, and everything ends on the spot.
 *  - The host's loop: a task on it stops the threads and closes our handles; the last one's callback frees the rest.
 */
#include "src/runtime/runtime.h"

#include <sched.h>

enum { MAX_THREADS = 1024 };

void aii_runtime_ref(aiinfra_runtime *rt)
{
  atomic_fetch_add(&rt->refs, 1);
}

/* Stops the threads and frees everything but the loop and the object itself. */
static void free_parts(aiinfra_runtime *rt)
{
  aii_worker_free(rt->worker);
  if (rt->comm != NULL) rt->comm->ops->destroy(rt->comm);
  if (rt->backend != NULL) rt->backend->ops->destroy(rt->backend);
  aii_pool_free(rt->pool);
  aii_metrics_free(rt->metrics);
  aii_strfree(&rt->mem, rt->no_cuda);
}

static void free_object(void *user)
{
  aiinfra_runtime *rt = user;
  aiinfra_close_cb closed = rt->closed;
  void *closed_user = rt->closed_user;
  rt->mem.hooks.release(rt->mem.hooks.user, rt);
  if (closed != NULL) closed(closed_user);
}

static void end_runtime(aii_task *task)
{
  aiinfra_runtime *rt = AII_CONTAINER(task, aiinfra_runtime, last_task);
  free_parts(rt);
  aii_loop_close(rt->loop, free_object, rt);
}

void aii_runtime_unref(aiinfra_runtime *rt)
{
  if (atomic_fetch_sub(&rt->refs, 1) != 1) return;
  if (aii_loop_owned(rt->loop)) {
    end_runtime(&rt->last_task);
  } else {
    if (aii_loop_here(rt->loop)) aii_loop_hold(rt->loop); /* else a loop with nothing to do would stop before */
    rt->last_task.fn = end_runtime;
    aii_loop_post(rt->loop, &rt->last_task);
  }
}

static uint32_t usable_cores(void)
{
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  int n = CPU_COUNT(&set);
  return n < 1 ? 1 : (uint32_t)AII_MIN(n, MAX_THREADS);
}

static aiinfra_status check_opts(const aiinfra_runtime_opts *opts, aiinfra_error *err)
{
  const aiinfra_allocator *a = opts->allocator;
  if (opts->n_threads < 0 || opts->n_threads > MAX_THREADS) {
    return aii_fail(err, AIINFRA_EINVAL, "n_threads is %d; it may be 0 to %d", opts->n_threads, MAX_THREADS);
  }
  if (opts->log_level < 0 || opts->log_level > AIINFRA_LOG_DEBUG) {
    return aii_fail(err, AIINFRA_EINVAL, "log_level is %d; it may be 0 to %d", opts->log_level, AIINFRA_LOG_DEBUG);
  }
  if (opts->pin_threads < -1 || opts->pin_threads > 1) {
    return aii_fail(err, AIINFRA_EINVAL, "pin_threads is %d; it may be -1, 0 or 1", opts->pin_threads);
  }
  if (opts->device < 0 || opts->device > AIINFRA_DEVICE_CUDA) {
    return aii_fail(err, AIINFRA_EINVAL, "device is %d; it may be 0 to %d", opts->device, AIINFRA_DEVICE_CUDA);
  }
  if (opts->ranks < 0 || opts->ranks > AIINFRA_RANKS_MPI) {
    return aii_fail(err, AIINFRA_EINVAL, "ranks is %d; it may be 0 or %d", opts->ranks, AIINFRA_RANKS_MPI);
  }
  if (a != NULL && (a->alloc == NULL || a->resize == NULL || a->release == NULL)) {
    return aii_fail(err, AIINFRA_EINVAL, "the allocator lacks one of its three functions");
  }
  return AIINFRA_OK;
}

/* The object holds its own allocator: it is allocated before that is in place, and not counted. */
static aiinfra_runtime *new_object(const aiinfra_runtime_opts *opts)
{
  aii_mem mem;
  aii_mem_init(&mem, opts->allocator, 0);
  aiinfra_runtime *rt = mem.hooks.alloc(mem.hooks.user, sizeof *rt);
  if (rt == NULL) return NULL;
  memset(rt, 0, sizeof *rt);
  aii_mem_init(&rt->mem, opts->allocator, (size_t)opts->memory_limit_bytes);
  rt->log.fn = opts->log;
  rt->log.user = opts->log_user;
  rt->log.max_level = opts->log_level != 0 ? (aiinfra_log_level)opts->log_level : AIINFRA_LOG_WARN;
  atomic_store(&rt->refs, 1);
  return rt;
}

/* The ranks of a machine take its GPUs one after the other. */
static int32_t device_number(const aiinfra_runtime *rt, const aiinfra_runtime_opts *opts)
{
  int64_t number = (int64_t)opts->device_index + (rt->comm != NULL ? rt->comm->neighbour : 0);
  return (int32_t)AII_MIN(number, INT32_MAX);
}

static aiinfra_status choose_device(aiinfra_runtime *rt, const aiinfra_runtime_opts *opts, aiinfra_error *err)
{
  if (opts->device == AIINFRA_DEVICE_CUDA || opts->device == AIINFRA_DEVICE_AUTO) {
    aiinfra_error why;
    aiinfra_status rc =
        aii_cuda_backend_create(&rt->mem, rt->pool, opts->cuda_path, device_number(rt, opts), &rt->backend, &why);
    if (rc == AIINFRA_OK) return rc;
    if (opts->device == AIINFRA_DEVICE_CUDA || rc != AIINFRA_ENOTSUP) return aii_fail(err, rc, "%s", why.message);
    aii_logf(&rt->log, AIINFRA_LOG_INFO, "computing on the CPU: %s", why.message);
    if ((rt->no_cuda = aii_strdup(&rt->mem, why.message)) == NULL)
      return aii_fail(err, AIINFRA_ENOMEM, "no memory for the runtime");
  }
  return aii_cpu_backend_create(&rt->mem, rt->pool, opts->isa, &rt->backend, err);
}

/* A rank that has no device tells the others, who would wait for it. */
static aiinfra_status join_devices(aiinfra_runtime *rt, aiinfra_status mine, aiinfra_error *err)
{
  aiinfra_status rc = aii_comm_agree(rt->comm, mine, err);
  if (rc != AIINFRA_OK) return rc;
  float joining = rt->backend->ops->join != NULL;
  rc = rt->comm->ops->sum(rt->comm, &joining, 1, err);
  if (rc != AIINFRA_OK || joining == 0) return rc;
  if (joining < (float)rt->comm->size)
    return aii_fail(err, AIINFRA_ENOTSUP, "%.0f of %u ranks found a GPU: choose the CPU, or have one for each",
                    (double)joining, rt->comm->size);
  return rt->backend->ops->join(rt->backend, rt->comm, err);
}

static aiinfra_status build(aiinfra_runtime *rt, const aiinfra_runtime_opts *opts, aiinfra_error *err)
{
  uint32_t n_threads = opts->n_threads > 0 ? (uint32_t)opts->n_threads : usable_cores();
  aiinfra_status rc = aii_metrics_create(&rt->mem, &rt->metrics, err);
  if (rc == AIINFRA_OK)
    rc = aii_pool_create(&rt->mem, n_threads, opts->pin_threads > 0 ? AII_POOL_PIN : 0, &rt->pool, err);
  if (rc == AIINFRA_OK && opts->ranks == AIINFRA_RANKS_MPI)
    rc = aii_mpi_comm_create(&rt->mem, opts->ranks_path, &rt->comm, err);
  if (rc == AIINFRA_OK) rc = choose_device(rt, opts, err);
  if (rt->comm != NULL && rt->comm->size > 1) rc = join_devices(rt, rc, err);
  if (rc == AIINFRA_OK) rc = aii_worker_create(&rt->mem, &rt->worker, err);
  if (rc == AIINFRA_OK) rc = aii_loop_create(&rt->mem, opts->uv_loop, &rt->loop, err);
  return rc;
}

aiinfra_status aii_runtime_create(const aiinfra_runtime_opts *opts, aiinfra_runtime **out, aiinfra_error *err)
{
  aiinfra_status rc = check_opts(opts, err);
  if (rc != AIINFRA_OK) return rc;
  aiinfra_runtime *rt = new_object(opts);
  if (rt == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for the runtime");
  rt->isa = opts->isa != 0 ? opts->isa : aii_cpu_best_isa();
  rc = build(rt, opts, err);
  if (rc == AIINFRA_OK) {
    *out = rt;
    return AIINFRA_OK;
  }
  free_parts(rt);
  free_object(rt);
  return rc;
}
