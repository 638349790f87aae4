/* src/runtime/runtime.h - the root object as the modules see it: memory, log, loop, device, worker, metrics, requests.
 *
 * References: the host's handle and every child object hold one each; the last one to go closes the loop object,
 * stops the threads and frees the runtime. aii_runtime_ref/unref may be called from any thread.
 */
#ifndef AII_RUNTIME_H
#define AII_RUNTIME_H

#include "aiinfra/request.h"
#include "aiinfra/runtime.h"
#include "lib/base/base.h"
#include "lib/loop/loop.h"
#include "src/backend/backend.h"

typedef struct aii_metrics aii_metrics;
typedef struct aii_worker aii_worker;

struct aiinfra_runtime {
  aii_mem mem; /* every module allocates here */
  aii_log log;
  aii_loop *loop;
  aii_pool *pool;       /* compute threads */
  aii_backend *backend; /* the CPU, or a GPU */
  aii_comm *comm;       /* to the other processes that compute with this one; NULL: alone */
  char *no_cuda;        /* why there is no GPU where one was looked for; NULL: it was not, or there is */
  aii_worker *worker;   /* the one thread that drives the backend */
  aii_metrics *metrics;
  int32_t isa; /* aiinfra_isa in use */
  _Atomic uint32_t refs;
  aii_task last_task; /* posted when the last reference goes */
  aiinfra_close_cb closed;
  void *closed_user;
};

/* opts: loaded to the full struct. *out stays NULL on failure. */
aiinfra_status aii_runtime_create(const aiinfra_runtime_opts *opts, aiinfra_runtime **out, aiinfra_error *err);
void aii_runtime_ref(aiinfra_runtime *rt);
void aii_runtime_unref(aiinfra_runtime *rt);

/* ---- worker: one thread that executes jobs in order (worker.c) ----------------------------------------------- */

/* run(job) on the worker thread, then done(job) on the loop's thread. Lives in its owner's memory; never fails. The
 * loop is held while a job is in flight. Loop thread. */
typedef struct aii_job {
  struct aii_job *next;
  void (*run)(struct aii_job *job);
  void (*done)(struct aii_job *job);
  aiinfra_runtime *rt; /* set by submit */
  aii_task task;       /* the way back */
} aii_job;
void aii_worker_submit(aiinfra_runtime *rt, aii_job *job);

aiinfra_status aii_worker_create(aii_mem *mem, aii_worker **out, aiinfra_error *err);
void aii_worker_free(aii_worker *worker);
/* Held by the worker while a job runs: whoever uses the backend from another thread (loading weights, evaluating) takes
 * it. Fair: those who wait get it in the order of asking. */
void aii_device_lock(aiinfra_runtime *rt);
void aii_device_unlock(aiinfra_runtime *rt);

/* ---- requests (request_api.c) ------------------------------------------------------------------------------------ */

/* A request starts with two references: the host's (returned) and the library's, which aii_request_end() drops.
 * cancel runs on the loop's thread, at most once, only before the end. Loop thread. */
aiinfra_request *aii_request_new(aiinfra_runtime *rt, void (*cancel)(void *impl), void *impl);
/* Whether a cancel was asked for, though it may not have come yet. Any thread. */
bool aii_request_cancelling(const aiinfra_request *request);
/* Call it right after the terminal callback. */
void aii_request_end(aiinfra_request *request, aiinfra_status status);

/* ---- metrics (metrics.c) ------------------------------------------------------------------------------------- */

typedef enum aii_metric_kind { AII_COUNTER = 1, AII_GAUGE = 2, AII_HISTOGRAM = 3 } aii_metric_kind;
typedef struct aii_metric aii_metric;
/* Finds or makes a metric. name as Prometheus demands ("aiinfra_tokens_generated_total"); labels like
 * `model="nano"` or NULL. Buckets of histograms are seconds, 1 ms to 100 s. NULL when memory is out; the update
 * functions take NULL. Any thread. */
aii_metric *aii_metric_get(aiinfra_runtime *rt, aii_metric_kind kind, const char *name, const char *help,
                           const char *labels);
void aii_metric_add(aii_metric *metric, double value);     /* counters and gauges; lock free */
void aii_metric_set(aii_metric *metric, double value);     /* gauges */
void aii_metric_observe(aii_metric *metric, double value); /* histograms */
aiinfra_status aii_metrics_create(aii_mem *mem, aii_metrics **out, aiinfra_error *err);
void aii_metrics_free(aii_metrics *metrics);
void aii_metrics_render(aii_metrics *metrics, aii_buf *out);

#endif
