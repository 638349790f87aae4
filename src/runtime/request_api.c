/* request_api.c - the handle of work that completes later.
 *
 * Two references at the start: the host's and the library's; the last one to go frees it. A cancel from any thread
 * travels to the loop's thread as a task and reaches the work only if it has not ended by then. A task that is still
 * on its way at the end holds the loop until it arrives; later cancels send none.
 */
#include "src/runtime/runtime.h"

struct aiinfra_request {
  aiinfra_runtime *rt;
  _Atomic uint32_t refs;
  atomic_bool ended, cancel_asked;
  aiinfra_status status; /* written before `ended` */
  void (*cancel)(void *impl);
  void *impl;
  aii_task task;
  bool cancel_came, cancel_held; /* loop's thread: the task ran; it holds the loop */
};

aiinfra_request *aii_request_new(aiinfra_runtime *rt, void (*cancel)(void *impl), void *impl)
{
  aiinfra_request *request = aii_new(&rt->mem, sizeof *request);
  if (request == NULL) return NULL;
  request->rt = rt;
  request->cancel = cancel;
  request->impl = impl;
  atomic_store(&request->refs, 2);
  aii_runtime_ref(rt);
  return request;
}

static void unref(aiinfra_request *request)
{
  if (atomic_fetch_sub(&request->refs, 1) != 1) return;
  aiinfra_runtime *rt = request->rt;
  aii_del(&rt->mem, request, sizeof *request);
  aii_runtime_unref(rt);
}

bool aii_request_cancelling(const aiinfra_request *request)
{
  return atomic_load(&request->cancel_asked);
}

void aii_request_end(aiinfra_request *request, aiinfra_status status)
{
  request->status = status;
  atomic_store(&request->ended, true);
  if (atomic_exchange(&request->cancel_asked, true) && !request->cancel_came) {
    request->cancel_held = true;
    aii_loop_hold(request->rt->loop);
  }
  unref(request);
}

static void on_cancel(aii_task *task)
{
  aiinfra_request *request = AII_CONTAINER(task, aiinfra_request, task);
  request->cancel_came = true;
  if (!atomic_load(&request->ended)) request->cancel(request->impl);
  if (request->cancel_held) aii_loop_drop(request->rt->loop);
  unref(request);
}

void aiinfra_request_cancel(aiinfra_request *request)
{
  if (request == NULL || atomic_exchange(&request->cancel_asked, true)) return;
  atomic_fetch_add(&request->refs, 1);
  request->task.fn = on_cancel;
  aii_loop_post(request->rt->loop, &request->task);
}

int aiinfra_request_done(const aiinfra_request *request)
{
  return request != NULL && atomic_load(&request->ended);
}

static bool has_ended(void *user)
{
  return atomic_load(&((aiinfra_request *)user)->ended);
}

static aiinfra_status wait_for(aiinfra_request *request, int64_t timeout_ms, aiinfra_error *err)
{
  aiinfra_status rc = aii_loop_run(request->rt->loop, has_ended, request, timeout_ms, err);
  if (rc != AIINFRA_OK) return aii_wrap(err, rc, "wait for the request");
  if (!has_ended(request)) return aii_fail(err, AIINFRA_ETIMEDOUT, "the loop was stopped before the request ended");
  if (request->status == AIINFRA_OK) return AIINFRA_OK;
  return aii_fail(err, request->status, "the request ended with: %s", aiinfra_status_text(request->status));
}

aiinfra_status aiinfra_request_wait(aiinfra_request *request, int64_t timeout_ms, aiinfra_error *err)
{
  if (request == NULL) return aii_fail(err, AIINFRA_EINVAL, "request is NULL");
  atomic_fetch_add(&request->refs, 1); /* a callback may free the caller's reference, and the runtime's last one */
  aiinfra_status rc = wait_for(request, timeout_ms, err);
  unref(request);
  return rc;
}

void aiinfra_request_free(aiinfra_request *request)
{
  if (request != NULL) unref(request);
}
