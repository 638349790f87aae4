/* aiinfra/model.h - weights, vocabulary and chat template of one language model.
 *
 * A model is read-only after it was opened and may be shared by any number of caches and batchers. The file is
 * mapped, not read; it is validated in full before the first use, and stays mapped until the last user is gone.
 */
#ifndef AIINFRA_MODEL_H
#define AIINFRA_MODEL_H

#include "aiinfra/runtime.h"
#include "aiinfra/types.h"

#ifdef __cplusplus
extern "C" {
#endif

/** A language model. */
typedef struct aiinfra_model aiinfra_model;

/** Options of aiinfra_model_open(). Zero is the default of every field. */
typedef struct aiinfra_model_opts {
  size_t struct_size;           /**< sizeof this struct; set by AIINFRA_MODEL_OPTS_INIT */
  aiinfra_progress_fn progress; /**< called on the calling thread while loading; may cancel; NULL: none */
  void *progress_user;          /**< handed to progress */
  uint32_t max_context;         /**< tokens a sequence may have; 0: as the model was trained; larger is EINVAL */
  int32_t vocab_only;           /**< 1: read only metadata and vocabulary; the model then cannot run */
  const char *load_type;        /**< brings big matrices to this type while opening, as "Q8_0"; NULL: as they are */
  const char *tokenizer;        /**< file with the tokenizer of a llama2.c checkpoint; NULL: looked for beside it */
  const char *packed_path;      /**< file that keeps the weights as the device computes with them, written if it is missing
                                     or out of date; "": the model's path with ".packed"; NULL: none */
  int32_t bf16_activations;     /**< 1: activations are rounded to BF16 before they are multiplied with BF16 weights, where
                                     the device has an instruction for it (AVX512-BF16, CUDA's tensor cores): prompts are
                                     read faster; without one, nothing changes. With BF16 weights, CUDA's attention over an
                                     F16 cache rounds queries and weights to F16, too. 0: nothing is rounded */
  uint32_t reserved;            /**< must be 0 */
} aiinfra_model_opts;

/** Initialiser of aiinfra_model_opts. */
#define AIINFRA_MODEL_OPTS_INIT {sizeof(aiinfra_model_opts), NULL, NULL, 0, 0, NULL, NULL, NULL, 0, 0}

/** The sizes of a model. */
typedef struct aiinfra_model_info {
  size_t struct_size;     /**< sizeof this struct; set by the caller */
  uint64_t n_params;      /**< weights */
  uint64_t weight_bytes;  /**< their size in memory */
  uint32_t n_vocab;       /**< tokens in the vocabulary */
  uint32_t n_embd;        /**< width of the residual stream */
  uint32_t n_layers;      /**< transformer blocks */
  uint32_t n_heads;       /**< query heads */
  uint32_t n_kv_heads;    /**< key and value heads */
  uint32_t head_dim;      /**< elements of a head */
  uint32_t max_context;   /**< tokens a sequence may have */
  aiinfra_token bos;      /**< begin of sequence; -1: none */
  aiinfra_token eos;      /**< end of sequence; -1: none */
  int32_t has_template;   /**< 1 when the file brings a chat template */
} aiinfra_model_info;

/** Flags of aiinfra_model_tokenize(). */
typedef enum aiinfra_tokenize_flags {
  AIINFRA_TOKENIZE_SPECIAL = 1, /**< texts of control tokens such as <|im_end|> become these tokens */
  AIINFRA_TOKENIZE_BOS = 2      /**< put the tokens at the start and end that the model asks for */
} aiinfra_tokenize_flags;

/**
 * Opens a model. Blocks while the weights are prepared. @path names a GGUF file, or the first part of a split one, a
 * Hugging Face folder (or its config.json or model.safetensors.index.json), or a llama2.c checkpoint.
 *
 * On success the caller owns *out; release it with aiinfra_model_free(). The model keeps the runtime alive. On
 * failure *out is NULL and nothing is held. A packed_path that cannot be read or written is no failure: the log tells
 * why, and the weights are packed in memory.
 *
 * @return AIINFRA_ENOENT     no such file, or one that belongs to it is missing; the message names it
 *         AIINFRA_EFORMAT    the file is malformed; the message names the field
 *         AIINFRA_ENOTSUP    its architecture, tensor type or tokenizer is not known to this version
 *         AIINFRA_ENOMEM     the weights do not fit into memory; the message names both sizes
 *         AIINFRA_ECANCELED  the progress callback asked for it
 *         AIINFRA_EINVAL, AIINFRA_EIO
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_model_open(aiinfra_runtime *runtime, const char *path,
                                                               const aiinfra_model_opts *opts, aiinfra_model **out,
                                                               aiinfra_error *err);

/**
 * Releases the caller's reference; caches and batchers keep the model alive. NULL is allowed.
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API void aiinfra_model_free(aiinfra_model *model);

/**
 * On a rank other than 0: computes this rank's part of what rank 0 does with the model, and returns when rank 0 has freed
 * it. No other call uses the model meanwhile. See aiinfra_runtime_rank().
 *
 * @return AIINFRA_EINVAL   the runtime has no ranks, or this is rank 0
 *         AIINFRA_EDEVICE  the ranks lost each other
 *         AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API aiinfra_status aiinfra_model_follow(aiinfra_model *model, aiinfra_error *err);

/**
 * Fills *info, whose struct_size the caller has set.
 * @return AIINFRA_EINVAL, AIINFRA_ENOTSUP
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API aiinfra_status aiinfra_model_get_info(const aiinfra_model *model, aiinfra_model_info *info,
                                                  aiinfra_error *err);

/**
 * Everything the file says about the model, as a JSON object: architecture, hyper-parameters, tokenizer, the number
 * and bytes of tensors of each type, metadata (long arrays only by their length).
 * @return AIINFRA_EINVAL, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_model_describe(const aiinfra_model *model, char **out_json,
                                                                   aiinfra_error *err);

/**
 * Turns text into tokens.
 *
 * @param text    n_bytes bytes of UTF-8; invalid sequences are taken byte by byte
 * @param flags   aiinfra_tokenize_flags, or-ed
 * @param tokens  room for cap tokens; may be NULL when cap is 0
 * @param n       receives the number of tokens, also when they do not fit
 * @return AIINFRA_ENOSPC  more than cap tokens; *n says how many
 *         AIINFRA_EINVAL, AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_model_tokenize(const aiinfra_model *model, const char *text,
                                                                   size_t n_bytes, uint32_t flags,
                                                                   aiinfra_token *tokens, size_t cap, size_t *n,
                                                                   aiinfra_error *err);

/**
 * Turns tokens into text: the exact bytes, which may be cut inside a UTF-8 sequence.
 *
 * @param special  1: control tokens appear by their names; 0: they are left out
 * @return AIINFRA_EINVAL  a token is outside the vocabulary
 *         AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_model_detokenize(const aiinfra_model *model,
                                                                     const aiinfra_token *tokens, size_t n,
                                                                     int special, char **out_text, size_t *out_bytes,
                                                                     aiinfra_error *err);

/** What aiinfra_model_render_chat() renders. Zero is the default of every field. */
typedef struct aiinfra_render_opts {
  size_t struct_size;            /**< sizeof this struct; set by AIINFRA_RENDER_OPTS_INIT */
  const char *messages_json;     /**< an array in the shape of OpenAI's chat messages */
  const char *tools_json;        /**< an array in the shape of OpenAI's tools; NULL: none */
  const char *variables_json;    /**< an object of further variables for the template, such as enable_thinking */
  int64_t now_s;                 /**< what strftime_now() tells, in seconds since 1970, as local time; 0: the clock */
  int64_t add_generation_prompt; /**< 1: ends with the opening of the assistant's turn */
} aiinfra_render_opts;

/** Initialiser of aiinfra_render_opts. */
#define AIINFRA_RENDER_OPTS_INIT {sizeof(aiinfra_render_opts), NULL, NULL, NULL, 0, 0}

/**
 * Renders a chat with the model's own template.
 *
 * @return as aiinfra_model_render()
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_model_render_chat(const aiinfra_model *model,
                                                                      const aiinfra_render_opts *opts,
                                                                      char **out_text, aiinfra_error *err);

/**
 * Renders a chat with the model's own template: aiinfra_model_render_chat() without further variables.
 *
 * @param messages_json  an array in the shape of OpenAI's chat messages
 * @param tools_json     an array in the shape of OpenAI's tools; NULL: none
 * @param add_generation_prompt  1: ends with the opening of the assistant's turn
 * @return AIINFRA_ENOTSUP  the model has no template, or it uses what the interpreter does not know
 *         AIINFRA_EINVAL   malformed JSON, or the template refused the messages
 *         AIINFRA_ELIMIT   the template ran for too many steps or wrote too much
 *         AIINFRA_ENOMEM
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_model_render(const aiinfra_model *model, const char *messages_json,
                                                                 const char *tools_json, int add_generation_prompt,
                                                                 char **out_text, aiinfra_error *err);

#ifdef __cplusplus
}
#endif
#endif
