/* aiinfra/imatrix.h - which columns of a model's weights matter: the importance matrix that guides quantising.
 *
 * While an importance matrix is open, every forward pass of its model is observed: for each column of each weight the
 * squares of the activations that it meets are summed. Run text that is like what the model will be used for, by any
 * means (a batcher, an evaluator); some hundred thousand tokens are plenty. Then save: the file is GGUF, in the form
 * that other programs of the field read and write too, and quantising with it keeps the error small where it counts.
 *
 * Observing costs some speed and changes no result.
 */
#ifndef AIINFRA_IMATRIX_H
#define AIINFRA_IMATRIX_H

#include "aiinfra/model.h"
#include "aiinfra/types.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Sums of what a model's weights meet. */
typedef struct aiinfra_imatrix aiinfra_imatrix;

/**
 * Begins to observe the forward passes of @model.
 *
 * On success the caller owns *out; release it with aiinfra_imatrix_free(), which ends it. It keeps the model alive. On
 * failure *out is NULL and nothing is held.
 *
 * @return AIINFRA_EBUSY    another model of this runtime, or this one, is being observed
 *         AIINFRA_ENOTSUP  the model is vocab_only
 *         AIINFRA_EINVAL, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_imatrix_create(aiinfra_model *model, aiinfra_imatrix **out,
                                                                   aiinfra_error *err);

/**
 * Writes what was seen so far. A file of that name is replaced, once the new one is complete.
 *
 * @param dataset  where the text came from, for people who read the file; NULL: not said
 * @return AIINFRA_EINVAL  nothing was seen yet
 *         AIINFRA_ENOMEM, AIINFRA_EIO, AIINFRA_ENOENT (no such folder)
 * Thread: any, one at a time.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_imatrix_save(aiinfra_imatrix *imatrix, const char *path,
                                                                 const char *dataset, aiinfra_error *err);

/**
 * Ends observing. NULL is allowed.
 * Thread: any, one at a time.  Since: 0.1.
 */
AIINFRA_API void aiinfra_imatrix_free(aiinfra_imatrix *imatrix);

#ifdef __cplusplus
}
#endif
#endif
