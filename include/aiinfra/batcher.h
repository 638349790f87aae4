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
  uint32_t max_step_tokens;  /**< tokens in one step, prefill and decode together; 0: 512, or max_running if more;
                                  for an encoder, whose texts must fit one step, its context up to 2048 */
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
  const char *logit_bias;       /**< a JSON object {"token id": number}, at most 1024 of them: what is added to the
                                     logits of tokens, from -100, a ban, to 100, a must; NULL: nothing */
  float repeat_penalty;         /**< divides the logits of the last penalty_last_n tokens, prompt included, where they
                                     are positive, and multiplies them where not; 0: 1, which is off */
  int32_t penalty_last_n;       /**< how far back repeat_penalty looks; 0: 64, -1: all tokens */
  float presence_penalty;       /**< taken from the logit of each token that was generated; -2 to 2 */
  float frequency_penalty;      /**< the same for each time that it was generated; -2 to 2 */
  const char *quotes_json;      /**< a JSON array of texts. An output that begins with 12 bytes of one of them, from a
                                     word's beginning on, goes on in its words to the end of a sentence, then with its
                                     number, from 1, as in " [2]", and ends there; another one is free. White space counts
                                     as one space. Not with json_schema; NULL: none */
} aiinfra_generate_opts;

/** Initialiser of aiinfra_generate_opts. */
#define AIINFRA_GENERATE_OPTS_INIT \
  {sizeof(aiinfra_generate_opts), NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0.0f, 0, 0.0f, 0.0f, 0, 0, 0, NULL, \
   NULL, 0.0f, 0, 0.0f, 0.0f, NULL}

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

/** The terminal callback of an embedding: n_dims floats, valid during the call. Thread: loop. */
typedef void (*aiinfra_embed_cb)(void *user, aiinfra_status status, const float *vector, size_t n_dims,
                                 uint32_t n_tokens, const aiinfra_error *error);

/** How the hidden states of a text become one vector. The numbers are those of GGUF's pooling_type. */
typedef enum aiinfra_pooling {
  AIINFRA_POOLING_DEFAULT = 0, /**< as the model's file says; the mean where it says nothing */
  AIINFRA_POOLING_MEAN = 1,    /**< the mean over all tokens */
  AIINFRA_POOLING_CLS = 2,     /**< that of the first token */
  AIINFRA_POOLING_LAST = 3     /**< that of the last token */
} aiinfra_pooling;

/** Texts to embed. Everything is copied by the submission. Zero is the default of every field but the texts. */
typedef struct aiinfra_embed_opts {
  size_t struct_size;        /**< sizeof this struct; set by AIINFRA_EMBED_OPTS_INIT */
  const char *const *texts;  /**< n_texts texts as UTF-8, of any lengths */
  size_t n_texts;            /**< length of texts, at least 1 */
  uint64_t deadline_ms;      /**< from the submission; 0: none */
  uint32_t dimensions;       /**< only the first so many elements of each vector, cut off before it is normalised, for
                                  models that were trained to be cut (Matryoshka); 0: all */
  int32_t pooling;           /**< an aiinfra_pooling; 0: as the model's file says */
  int32_t normalize;         /**< scale to unit length: 0: as the model's file says, on where it says nothing; 1: on,
                                  -1: off */
  int32_t priority;          /**< higher goes first */
} aiinfra_embed_opts;

/** Initialiser of aiinfra_embed_opts. */
#define AIINFRA_EMBED_OPTS_INIT {sizeof(aiinfra_embed_opts), NULL, 0, 0, 0, 0, 0, 0}

/** The vectors of some texts. Valid during the callback. */
typedef struct aiinfra_embed_result {
  const float *vectors;       /**< n_texts vectors of n_dims floats, in the order of the texts; NULL when it failed */
  const uint32_t *n_tokens;   /**< the tokens of each text; NULL when it failed */
  const aiinfra_error *error; /**< what went wrong; NULL when status is AIINFRA_OK */
  uint64_t total_tokens;      /**< the tokens of all texts */
  size_t n_texts;             /**< vectors; 0 when it failed */
  size_t n_dims;              /**< elements of a vector; 0 when it failed */
} aiinfra_embed_result;

/** The terminal callback of aiinfra_batcher_embed_texts(); runs exactly once. Thread: loop. */
typedef void (*aiinfra_embed_result_cb)(void *user, aiinfra_status status, const aiinfra_embed_result *result);

/** Documents to score by a query. Everything is copied by the submission. Zero is the default of the other fields. */
typedef struct aiinfra_rerank_opts {
  size_t struct_size;            /**< sizeof this struct; set by AIINFRA_RERANK_OPTS_INIT */
  const char *query;             /**< what is asked, as UTF-8 */
  const char *const *documents;  /**< n_documents texts as UTF-8 */
  size_t n_documents;            /**< length of documents, at least 1 */
  uint64_t deadline_ms;          /**< from the submission; 0: none */
  int32_t priority;              /**< higher goes first */
  int32_t raw_scores;            /**< 0: probabilities, from 0 to 1; 1: logits, as the model has them */
} aiinfra_rerank_opts;

/** Initialiser of aiinfra_rerank_opts. */
#define AIINFRA_RERANK_OPTS_INIT {sizeof(aiinfra_rerank_opts), NULL, NULL, 0, 0, 0, 0}

/** The scores of some documents. Valid during the callback. */
typedef struct aiinfra_rerank_result {
  const float *scores;        /**< n_documents scores, in the order of the documents; NULL when it failed */
  const aiinfra_error *error; /**< what went wrong; NULL when status is AIINFRA_OK */
  uint64_t total_tokens;      /**< tokens computed: the query counts with every document */
  size_t n_documents;         /**< scores; 0 when it failed */
} aiinfra_rerank_result;

/** The terminal callback of aiinfra_batcher_rerank(); runs exactly once. Thread: loop. */
typedef void (*aiinfra_rerank_cb)(void *user, aiinfra_status status, const aiinfra_rerank_result *result);

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
 * Embeds a text with the defaults of aiinfra_embed_opts: pooled as the model's file says, scaled to unit
 * length unless it says otherwise.
 *
 * @return as aiinfra_batcher_generate()
 * Thread: loop.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_batcher_embed(aiinfra_batcher *batcher, const char *text,
                                                                  aiinfra_embed_cb on_vector, void *user,
                                                                  aiinfra_request **request, aiinfra_error *err);

/**
 * Embeds texts. They run beside each other and beside all other requests; a vector does not depend on what else runs.
 * Texts that find no room in the queue wait until there is some. The first text that fails ends the whole request.
 *
 * @param on_result  the terminal callback; may be NULL
 * @param request    receives a handle that the caller frees; may be NULL
 * @return AIINFRA_EBUSY    the queue has no room for the first text: submit again when a request has ended
 *         AIINFRA_EINVAL   no text, a bad option, or the first text does not fit the model's context or the cache
 *         AIINFRA_ECLOSED  the batcher is closing
 *         AIINFRA_ENOTSUP, AIINFRA_ENOMEM
 * Thread: loop.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_batcher_embed_texts(aiinfra_batcher *batcher,
                                                                        const aiinfra_embed_opts *opts,
                                                                        aiinfra_embed_result_cb on_result, void *user,
                                                                        aiinfra_request **request, aiinfra_error *err);

/**
 * Scores documents by how well they answer a query, with the classification head of a reranker: query and document go
 * through the model together, as the pair or the prompt that it was trained with. Higher is better. As
 * aiinfra_batcher_embed_texts() in all else.
 *
 * @return AIINFRA_ENOTSUP  the model has no classification head: it is no reranker
 *         AIINFRA_EBUSY, AIINFRA_EINVAL, AIINFRA_ECLOSED, AIINFRA_ENOMEM as aiinfra_batcher_embed_texts()
 * Thread: loop.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_batcher_rerank(aiinfra_batcher *batcher,
                                                                   const aiinfra_rerank_opts *opts,
                                                                   aiinfra_rerank_cb on_result, void *user,
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
