/* aiinfra/eval.h - looks inside a model: the logits of every token of a text.
 *
 * An evaluator runs one sequence of tokens through a model, piece by piece, and hands out the logits of as many of the
 * rows as the caller wants. It has a cache of its own and samples nothing: it is for measuring a model (perplexity,
 * divergence from another model, the likeliest tokens), not for generating. Its logits are bit by bit those of a batcher
 * that computes the same sequence on the same kind of cache.
 *
 * Calls block until the device has computed. An evaluator and the batchers of the same runtime take turns on the device,
 * a step at a time.
 *
 * Threads: any, one at a time.
 */
#ifndef AIINFRA_EVAL_H
#define AIINFRA_EVAL_H

#include "aiinfra/model.h"
#include "aiinfra/types.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Runs one sequence and hands out its logits. */
typedef struct aiinfra_eval aiinfra_eval;

/** Options of aiinfra_eval_create(). Zero is the default of every field. */
typedef struct aiinfra_eval_opts {
  size_t struct_size;   /**< sizeof this struct; set by AIINFRA_EVAL_OPTS_INIT */
  uint32_t max_context; /**< tokens the sequence may have; 0: as many as the model's context; larger is EINVAL */
  int32_t kv_dtype;     /**< type of the cache, as in aiinfra_kv_opts.dtype; 0: as there */
} aiinfra_eval_opts;

/** Initialiser of aiinfra_eval_opts. */
#define AIINFRA_EVAL_OPTS_INIT {sizeof(aiinfra_eval_opts), 0, 0}

/**
 * Creates an evaluator and reserves all of its memory: a cache for max_context tokens, and room to compute.
 *
 * On success the caller owns *out; release it with aiinfra_eval_free(). It keeps the model alive. On failure *out is
 * NULL and nothing is held.
 *
 * @return AIINFRA_EINVAL   max_context is more than the model has, or kv_dtype is none of a cache
 *         AIINFRA_ENOTSUP  the model is vocab_only or an encoder, or @opts sets a field this library does not know
 *         AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_eval_create(aiinfra_model *model, const aiinfra_eval_opts *opts,
                                                                aiinfra_eval **out, aiinfra_error *err);

/**
 * Appends tokens to the sequence and computes them. Hands out the logits of the last n_logits of them: n_vocab floats
 * for each, in the order of the tokens. Row i says what the model expects behind token i.
 *
 * How a text is cut into calls does not change its logits. On failure the sequence is as it was before.
 *
 * @param tokens    n tokens, taken as they are; at least one
 * @param n_logits  0: none are wanted (a prompt); 1: those behind the last token; n: all; at most n
 * @param logits    room for cap floats; may be NULL when n_logits is 0
 * @return AIINFRA_EINVAL  a token is outside the vocabulary, n is 0, or n_logits is more than n
 *         AIINFRA_ENOSPC  the sequence would be longer than max_context, or cap is less than n_logits times n_vocab;
 *                         the message says by how much
 *         AIINFRA_ENOMEM, AIINFRA_EINTERNAL
 * Thread: any, one at a time.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_eval_run(aiinfra_eval *eval, const aiinfra_token *tokens, size_t n,
                                                             size_t n_logits, float *logits, size_t cap,
                                                             aiinfra_error *err);

/**
 * The tokens that the sequence has; 0 for NULL.
 * @return their number
 * Thread: any, one at a time.  Since: 0.1.
 */
AIINFRA_API size_t aiinfra_eval_length(const aiinfra_eval *eval);

/**
 * Cuts the sequence back to its first n_tokens tokens, so that it can go on differently; 0 empties it. A sequence that is
 * shorter stays as it is. NULL is allowed.
 * Thread: any, one at a time.  Since: 0.1.
 */
AIINFRA_API void aiinfra_eval_cut(aiinfra_eval *eval, size_t n_tokens);

/**
 * Releases the evaluator and its cache. NULL is allowed.
 * Thread: any, one at a time.  Since: 0.1.
 */
AIINFRA_API void aiinfra_eval_free(aiinfra_eval *eval);

#ifdef __cplusplus
}
#endif
#endif
