/* aiinfra/request.h - one handle for anything that completes later.
 *
 * Functions that start such work return a request through their last output, which may be NULL when the caller
 * does not need it. A request ends exactly once: its terminal callback runs on the loop's thread, never inside the
 * call that started it. Cancelling asks; the callback still comes, with AIINFRA_ECANCELED if the work had not ended.
 *
 * Ownership: the caller owns the handle and releases it with aiinfra_request_free(), before or after the end.
 * Freeing does not cancel: the work goes on and its callbacks still run.
 */
#ifndef AIINFRA_REQUEST_H
#define AIINFRA_REQUEST_H

#include "aiinfra/types.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Work that completes later. Opaque, reference counted. */
typedef struct aiinfra_request aiinfra_request;

/**
 * Asks the work to stop early; a generation stops within one decode step. Harmless when it has ended already.
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API void aiinfra_request_cancel(aiinfra_request *request);

/**
 * Whether the terminal callback has run. 1 or 0.
 * @return 1 when the request has ended
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API int aiinfra_request_done(const aiinfra_request *request);

/**
 * Waits for the end by running the runtime's loop until then: for programs without a loop of their own. Other
 * callbacks of the same loop run meanwhile. Must not be called from a callback of that loop.
 *
 * @param timeout_ms  gives up after that long; negative: waits for ever
 * @return the status that the request ended with
 *         AIINFRA_ETIMEDOUT  it has not ended yet; it goes on
 *         AIINFRA_EINVAL     request is NULL, or this is a callback of the loop
 * Thread: loop.  Since: 0.1.
 */
AIINFRA_API aiinfra_status aiinfra_request_wait(aiinfra_request *request, int64_t timeout_ms, aiinfra_error *err);

/**
 * Releases the caller's reference; NULL is allowed. The work, if it still runs, goes on.
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API void aiinfra_request_free(aiinfra_request *request);

#ifdef __cplusplus
}
#endif
#endif
