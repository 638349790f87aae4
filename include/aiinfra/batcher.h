/* aiinfra/batcher.h - runs many requests on one model at once: continuous batching over the paged KV cache.
 *
 * A request is a prompt (tokens, text or chat messages) with sampling options. The batcher mixes prefill chunks and
 * decode steps of all running requests into one forward pass after another, on the runtime's compute threads; tokens
 * come back as callbacks on the loop. A request's result does not depend on what else runs in the batch.
 *
 * Waiting requests are bounded: beyond max_queue a submission is AIINFRA_EBUSY.
 */
#ifndef AIINFRA_BATCHER_H
#define AIINFRA_BATCHER_H

#include "aiinfra/kv.h"
#include "aiinfra/model.h"
#include "aiinfra/request.h"
#include "aiinfra/types.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Runs requests on one model. */
typedef struct aiinfra_batcher aiinfra_batcher;

/** Options of aiinfra_batcher_create(). Zero is the default of every field. */
typedef struct aiinfra_batcher_opts {
  size_t struct_size;        /**< sizeof this struct; set by AIINFRA_BATCHER_OPTS_INIT */
  uint32_t max_running;      /**< sequences in one step; 0: 32 */
  uint32_t max_queue;        /**< requests that may wait; 0: 256 */
  uint32_t max_step_tokens;  /**< tokens in one step, prefill and decode together; 0: 512, or max_running if more */
  int32_t prefix_cache;      /**< share common prefixes: 0: default (on), 1: on, -1: off */
} aiinfra_batcher_opts;

/** Initialiser of aiinfra_batcher_opts. */
#define AIINFRA_BATCHER_OPTS_INIT {sizeof(aiinfra_batcher_opts), 0, 0, 0, 0}

/** Why a generation ended. */
typedef enum aiinfra_finish {
  AIINFRA_FINISH_NONE = 0,     /**< it failed; see the status */
  AIINFRA_FINISH_STOP = 1,     /**< end-of-generation token, stop string, or the grammar is complete */
  AIINFRA_FINISH_LENGTH = 2,   /**< max_tokens or the model's context is reached */
  AIINFRA_FINISH_CANCELED = 3, /**< cancelled, or the deadline passed */
  AIINFRA_FINISH_TOOL = 4      /**< a tool call is complete */
} aiinfra_finish;

/**
 * One request. Exactly one of tokens, text and messages_json is set. Everything is copied by the submission.
 * Zero is the default of every field.
 */
typedef struct aiinfra_generate_opts {
  size_t struct_size;           /**< sizeof this struct; set by AIINFRA_GENERATE_OPTS_INIT */
  const aiinfra_token *tokens;  /**< the prompt as n_tokens tokens, taken as it is */
  size_t n_tokens;              /**< length of tokens */
  const char *text;             /**< the prompt as UTF-8; special tokens are not recognised; BOS as the model asks */
  const char *messages_json;    /**< the prompt as OpenAI chat messages, rendered with the model's template */
  const char *tools_json;       /**< OpenAI tools for the template; NULL: none */
  const char *tool_choice;      /**< with tools: "none", "auto" (default), "required" or a function's name;
                                     "auto" makes no calls when the model's template knows none */
  const char *json_schema;      /**< the output obeys this JSON Schema, by grammar; with tools only when tool_choice
                                     is "none"; NULL: free text */
  const char *const *stop;      /**< n_stop strings that end the output and are not part of it */
  size_t n_stop;                /**< length of stop, at most 16 */
  uint64_t seed;                /**< of the sampler; 0: a random one */
  uint64_t deadline_ms;         /**< from the submission; 0: none */
  uint32_t max_tokens;          /**< 0: until the model's context is full */
  float temperature;            /**< 0: greedy */
  int32_t top_k;                /**< keep the k likeliest tokens; 0: all */
  float top_p;                  /**< keep the smallest set with this probability; 0: all */
  float min_p;                  /**< drop tokens below this share of the likeliest one's probability; 0: none */
  int32_t priority;             /**< higher goes first */
  int32_t ignore_eos;           /**< 1: end-of-generation tokens do not end it */
  int32_t want_special;         /**< 1: control tokens appear in the text */
  const char *variables_json;   /**< with messages: an object of further variables for the template, such as
                                     {"enable_thinking": false}; NULL: none */
} aiinfra_generate_opts;

/** Initialiser of aiinfra_generate_opts. */
#define AIINFRA_GENERATE_OPTS_INIT \
  {sizeof(aiinfra_generate_opts), NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0.0f, 0, 0.0f, 0.0f, 0, 0, 0, NULL}

/** More of a tool call as it is generated. Valid during the callback. */
typedef struct aiinfra_call_delta {
  const char *id;        /**< with the call's first piece; else NULL */
  const char *name;      /**< of the function, with the call's first piece; else NULL */
  const char *arguments; /**< n_bytes more bytes of the arguments, a JSON object in the end; NUL behind; may be empty */
  size_t n_bytes;        /**< length of arguments */
  size_t index;          /**< of the call among those of this generation */
} aiinfra_call_delta;

/** A piece of output as it is generated. Valid during the callback. */
typedef struct aiinfra_chunk {
  const char *text;             /**< n_bytes bytes, whole UTF-8 sequences, NUL behind; may be empty */
  size_t n_bytes;               /**< length of text */
  const aiinfra_token *tokens;  /**< n_tokens tokens generated since the last chunk */
  size_t n_tokens;              /**< length of tokens */
  const char *reasoning;        /**< more of what the model thinks before it answers: as text; may be empty */
  size_t reasoning_bytes;       /**< length of reasoning */
  const aiinfra_call_delta *call; /**< more of a tool call; NULL: none. Several come in several chunks */
} aiinfra_chunk;

/** How a generation ended. Valid during the callback. */
typedef struct aiinfra_result {
  const char *text;            /**< the whole output as UTF-8, without reasoning and calls; text_bytes long */
  size_t text_bytes;           /**< length of text */
  const char *tool_calls_json; /**< OpenAI tool_calls array when finish is AIINFRA_FINISH_TOOL; else NULL */
  const aiinfra_error *error;  /**< what went wrong; NULL when status is AIINFRA_OK */
  uint64_t queue_ns;           /**< from submission to the first step */
  uint64_t prefill_ns;         /**< from the first step to the first token */
  uint64_t decode_ns;          /**< from the first token to the end */
  uint32_t n_prompt;           /**< tokens of the prompt */
  uint32_t n_cached;           /**< of these, found in the prefix cache */
  uint32_t n_generated;        /**< tokens generated */
  int32_t finish;              /**< an aiinfra_finish */
  const char *reasoning;       /**< what the model thought before it answered; reasoning_bytes long */
  size_t reasoning_bytes;      /**< length of reasoning */
  size_t cut_call;             /**< 1: the output ended within a tool call, which is lost */
} aiinfra_result;

/** Receives output while it is generated. Thread: loop. */
typedef void (*aiinfra_chunk_cb)(void *user, const aiinfra_chunk *chunk);

/** The terminal callback of a generation; runs exactly once. Thread: loop. */
typedef void (*aiinfra_result_cb)(void *user, aiinfra_status status, const aiinfra_result *result);

/** The terminal callback of an embedding: n_dims floats of unit length, valid during the call. Thread: loop. */
typedef void (*aiinfra_embed_cb)(void *user, aiinfra_status status, const float *vector, size_t n_dims,
                                 uint32_t n_tokens, const aiinfra_error *error);

/** What a batcher has done and has to do. */
typedef struct aiinfra_batcher_stats {
  size_t struct_size;        /**< sizeof this struct; set by the caller */
  uint64_t steps;            /**< forward passes */
  uint64_t prompt_tokens;    /**< tokens of prompts that were computed */
  uint64_t cached_tokens;    /**< tokens of prompts that the prefix cache gave */
  uint64_t generated_tokens; /**< tokens sampled */
  uint64_t preemptions;      /**< sequences set back because blocks ran out */
  uint64_t busy_ns;          /**< time the compute worker was busy */
  uint32_t n_running;        /**< sequences running */
  uint32_t n_waiting;        /**< requests waiting */
} aiinfra_batcher_stats;

/**
 * Creates a batcher on a model and one of its caches. A cache serves one batcher at a time.
 *
 * On success the caller owns *out; release it with aiinfra_batcher_free() or aiinfra_batcher_close(). It keeps the
 * model and the cache alive. On failure *out is NULL and nothing is held.
 *
 * @return AIINFRA_EINVAL   the cache belongs to another model, or an option is out of range
 *         AIINFRA_EBUSY    the cache has a batcher already
 *         AIINFRA_ENOTSUP, AIINFRA_ENOMEM
 * Thread: loop.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_batcher_create(aiinfra_model *model, aiinfra_kv *kv,
                                                                   const aiinfra_batcher_opts *opts,
                                                                   aiinfra_batcher **out, aiinfra_error *err);

/**
 * Submits a generation.
 *
 * @param on_chunk   streams the output; may be NULL
 * @param on_result  the terminal callback; may be NULL
 * @param request    receives a handle that the caller frees; may be NULL
 * @return AIINFRA_EBUSY    the queue is full: submit again when a request has ended
 *         AIINFRA_EINVAL   not exactly one prompt, a bad option, JSON or schema; or the prompt does not fit the
 *                          model's context or the cache; the message says which
 *         AIINFRA_ECLOSED  the batcher is closing
 *         AIINFRA_ENOTSUP, AIINFRA_ENOMEM
 * Thread: loop.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_batcher_generate(aiinfra_batcher *batcher,
                                                                     const aiinfra_generate_opts *opts,
                                                                     aiinfra_chunk_cb on_chunk,
                                                                     aiinfra_result_cb on_result, void *user,
                                                                     aiinfra_request **request, aiinfra_error *err);

/**
 * Embeds a text: the mean over its tokens of the model's last hidden state, scaled to unit length.
 *
 * @return as aiinfra_batcher_generate()
 * Thread: loop.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_batcher_embed(aiinfra_batcher *batcher, const char *text,
                                                                  aiinfra_embed_cb on_vector, void *user,
                                                                  aiinfra_request **request, aiinfra_error *err);

/**
 * Fills *stats, whose struct_size the caller has set.
 * @return AIINFRA_EINVAL, AIINFRA_ENOTSUP
 * Thread: loop.  Since: 0.1.
 */
AIINFRA_API aiinfra_status aiinfra_batcher_get_stats(const aiinfra_batcher *batcher, aiinfra_batcher_stats *stats,
                                                     aiinfra_error *err);

/**
 * The model that the batcher runs; not a new reference.
 * @return the model
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API aiinfra_model *aiinfra_batcher_model(const aiinfra_batcher *batcher);

/**
 * Gives up the caller's reference, cancels what is in flight, and calls `closed` when the last callback has run.
 * Thread: loop.  Since: 0.1.
 */
AIINFRA_API void aiinfra_batcher_close(aiinfra_batcher *batcher, aiinfra_close_cb closed, void *user);

/**
 * Closes without a callback; requests in flight end with AIINFRA_ECANCELED as the loop turns. NULL is allowed.
 * Thread: loop.  Since: 0.1.
 */
AIINFRA_API void aiinfra_batcher_free(aiinfra_batcher *batcher);

#ifdef __cplusplus
}
#endif
#endif
