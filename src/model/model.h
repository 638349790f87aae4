/* src/model/model.h - files, architectures, the transformer, the sampler.
 *
 * Happy path: aii_gguf_open() maps and validates a file; the architecture's row says which keys and tensors it has;
 * aii_model_forward() runs rows of any number of sequences through the layers over a paged KV cache.
 */
#ifndef AII_MODEL_H
#define AII_MODEL_H

#include "aiinfra/model.h"
#include "lib/base/base.h"
#include "src/backend/backend.h"
#include "src/runtime/runtime.h"
#include "src/text/text.h"

/* ---- mapped files (file_map.c) ------------------------------------------------------------------------------------ */

typedef struct aii_file {
  const uint8_t *bytes;
  size_t size;
  uint64_t id; /* another one once the file is changed or replaced; 0: too young to be told by its times */
} aii_file;

/* Maps a regular file read-only; an empty one is EFORMAT. The messages name the path. */
aiinfra_status aii_file_map(const char *path, aii_file *out, aiinfra_error *err);
void aii_file_unmap(aii_file *file); /* takes an empty one */

/* ---- GGUF reader (gguf.c) ------------------------------------------------------------------------------------ */

typedef enum aii_gguf_type {
  AII_GGUF_U8 = 0,
  AII_GGUF_I8,
  AII_GGUF_U16,
  AII_GGUF_I16,
  AII_GGUF_U32,
  AII_GGUF_I32,
  AII_GGUF_F32,
  AII_GGUF_BOOL,
  AII_GGUF_STRING,
  AII_GGUF_ARRAY,
  AII_GGUF_U64,
  AII_GGUF_I64,
  AII_GGUF_F64
} aii_gguf_type;

typedef struct aii_gguf_kv {
  aii_str key;
  aii_gguf_type type;
  aii_gguf_type elem_type; /* of an array */
  uint64_t count;          /* of an array; else 1 */
  const uint8_t *data;     /* in the mapping, unaligned, little-endian; a string: its length first */
  size_t bytes;            /* of data */
} aii_gguf_kv;

typedef struct aii_gguf_tensor {
  aii_str name;
  uint32_t n_dims;
  uint64_t ne[4];      /* ne[0] is contiguous; unused ones are 1 */
  uint32_t type;       /* GGUF id; whether it can be computed with, aii_dtype_info() knows */
  const uint8_t *data; /* NULL: not made yet, see aii_gguf_load() */
  uint64_t bytes;
} aii_gguf_tensor;

typedef struct aii_gguf aii_gguf;
/* Maps and validates the whole directory: after success every kv and tensor lies inside the file, or one of the files
 * of a split set. The other function opens a memory image instead (fuzzing, tests); it is borrowed. */
aiinfra_status aii_gguf_open(aii_mem *mem, const char *path, aii_gguf **out, aiinfra_error *err);
aiinfra_status aii_gguf_from_memory(aii_mem *mem, const void *bytes, size_t n, aii_gguf **out, aiinfra_error *err);
void aii_gguf_free(aii_gguf *gguf);
/* Gives every tensor data: what a file does not hold as it is gets made, one tensor at a time. With a type every matrix
 * is also brought to it (load.c). */
aiinfra_status aii_gguf_load(aii_gguf *gguf, const char *type, aiinfra_progress_fn progress, void *progress_user,
                             aiinfra_error *err);
size_t aii_gguf_n_kv(const aii_gguf *gguf);
const aii_gguf_kv *aii_gguf_kv_at(const aii_gguf *gguf, size_t i);
const aii_gguf_kv *aii_gguf_find(const aii_gguf *gguf, const char *key);
size_t aii_gguf_n_tensors(const aii_gguf *gguf);
const aii_gguf_tensor *aii_gguf_tensor_at(const aii_gguf *gguf, size_t i);
const aii_gguf_tensor *aii_gguf_find_tensor(const aii_gguf *gguf, const char *name);
/* Typed getters: false when the key is missing or of another kind. Integers of any width convert when they fit. */
bool aii_gguf_get_u32(const aii_gguf *gguf, const char *key, uint32_t *out);
bool aii_gguf_get_f32(const aii_gguf *gguf, const char *key, float *out);
bool aii_gguf_get_bool(const aii_gguf *gguf, const char *key, bool *out);
bool aii_gguf_get_str(const aii_gguf *gguf, const char *key, aii_str *out);
/* Builds a vocabulary from the tokenizer keys (vocab.c). */
aiinfra_status aii_vocab_from_gguf(aii_mem *mem, const aii_gguf *gguf, aii_vocab **out, aiinfra_error *err);

/* ---- recipes of quantised files (recipe.c) ------------------------------------------------------------------------ */

typedef struct aii_recipe {
  const char *name; /* "Q4_K_M" */
  aii_dtype base;
  uint32_t file_type; /* general.file_type */
} aii_recipe;
const aii_recipe *aii_recipe_at(size_t i);           /* NULL behind the last */
const aii_recipe *aii_recipe_find(const char *name); /* in any case; NULL: there is none */

typedef struct aii_recipe_tensor {
  const char *name; /* "blk.3.attn_v.weight" */
  uint32_t n_dims;
  uint64_t ne0;
  uint32_t layer, n_layers; /* layer: 0 for tensors of no layer */
  uint32_t n_experts;       /* of the model; 0: none */
  uint32_t n_gqa;           /* query heads that share a key head */
  bool is_output;           /* output.weight, or token_embd.weight where it serves as the output too */
  bool has_importance;
} aii_recipe_tensor;
/* The type that a recipe stores a tensor in; always one that its rows fit and aii_quantize_rows() can write. */
aii_dtype aii_recipe_type(const aii_recipe *recipe, const aii_recipe_tensor *tensor);

/* ---- importance matrices (importance.c) --------------------------------------------------------------------------- */

/* EFORMAT: a GGUF file of something else. */
aiinfra_status aii_importance_open(aii_mem *mem, const char *path, aii_gguf **out, aiinfra_error *err);
/* The importance of the n_in columns of matrix `mat` of a tensor, for aii_quantize_rows(). Not *found: the file says
 * nothing of it. EFORMAT: made for a model of another shape. */
aiinfra_status aii_importance_get(const aii_gguf *imatrix, const char *name, size_t mat, size_t n_mats, size_t n_in,
                                  float *out, bool *found, aiinfra_error *err);

/* ---- the head of a reranker (head.c) ------------------------------------------------------------------------------ */

typedef struct aii_head {
  uint32_t n_embd, n_classes, yes;            /* yes: the class that means "relevant" */
  int32_t pooling;                            /* of the hidden states that it reads: an aiinfra_pooling */
  float *dense, *dense_bias, *out, *out_bias; /* all but out may be NULL */
  float *norm, *norm_bias;                    /* of what the dense layer gave; NULL: there is none */
  float norm_eps;
  bool gelu;       /* bends by GELU, not by the hyperbolic tangent */
  char *prompt;    /* how a query and a document become one text: holds {query} and {document}; NULL: as a pair */
  bool two_seps;   /* a pair has two separators in its middle */
  bool pair_types; /* the second text's tokens are of type 1 */
} aii_head;
/* hidden [n_embd]: pooled, after the output norm. scratch [n_embd]. The logistic function of it is the probability that
 * the document is relevant. */
double aii_head_score(const aii_head *head, const double *hidden, double *scratch);

/* ---- the model ------------------------------------------------------------------------------------------------ */

typedef enum aii_rope_scaling {
  AII_SCALING_NONE,
  AII_SCALING_LINEAR,
  AII_SCALING_YARN,
  AII_SCALING_LONGROPE
} aii_rope_scaling;

/* Numbers of one model. What an architecture does not have is 0; factors that change nothing are 1. */
typedef struct aii_hparams {
  uint32_t n_vocab, n_embd, n_heads, n_kv_heads, n_ff, train_context;
  uint32_t n_layers;            /* 0: hidden states are rows of the embedding */
  uint32_t head_dim, value_dim; /* of a key and of a value in the cache */
  uint32_t window;              /* of the layers that have one */
  float norm_eps, attn_scale, attn_softcap, logit_softcap;
  float embd_scale, residual_scale, logit_scale; /* the last one divides */

  uint32_t n_rot; /* dims of a head that rotate */
  aii_rope_scaling rope_scaling;
  uint32_t rope_context; /* of the training before scaling; 0: not told */
  float rope_base, rope_local_base, rope_factor, rope_attn_factor, yarn_fast, yarn_slow, yarn_log_mul;

  /* MLA: widths of compressed queries (0: not compressed) and of compressed keys and values, dims of a head's key and
   * value. `latent`: the cache holds what is compressed, as one head; else it holds all heads. */
  uint32_t q_lora, kv_lora, mla_key, mla_value;
  uint32_t n_types; /* of tokens, as BERT counts them */
  bool causal;      /* false: rows see later ones of their sequence too, all of which must be in the same pass */
  bool latent;

  uint32_t n_experts, n_used_experts, n_ff_exp, n_ff_shared, n_dense_layers, n_expert_groups, n_used_groups;
  bool expert_sigmoid, expert_norm;
  float expert_scale;
} aii_hparams;

typedef struct aii_layer aii_layer;
typedef struct aii_arch aii_arch; /* a row of data: see arch.c */
typedef struct aii_rope_table aii_rope_table;
typedef struct aii_packed aii_packed;

/* A part of a matrix that is not one piece of the file; bytes 0: freed. */
typedef struct aii_weight_copy {
  const aii_weight *weight;
  void *copy;
  size_t bytes;
} aii_weight_copy;
#define AII_MAX_CACHES 64 /* of a split model */

struct aiinfra_model {
  aiinfra_runtime *rt;
  _Atomic uint32_t refs;
  aii_gguf *gguf;
  const aii_arch *arch; /* NULL: vocab_only, of an architecture that does not run */
  aii_hparams hp;
  aii_vocab *vocab;
  aii_template *tmpl;       /* NULL: none */
  char *template_text;      /* NULL: none */
  aii_output_syntax syntax; /* how it writes calls and reasoning, by its template */
  char *name;               /* general.name or the file's name */
  uint32_t max_context;
  int32_t pooling;  /* how its file wants hidden states pooled: an aiinfra_pooling; 0: it does not say */
  bool raw_vectors; /* its file wants vectors of any length, not of unit length */
  uint64_t n_params, weight_bytes;
  aii_weight type_embd, embd_norm, embd_norm_bias; /* of encoders */
  aii_weight tok_embd, pos_embd, output_norm, output_norm_bias;
  aii_weight output; /* a copy of tok_embd's view when tied */
  bool tied, vocab_only;
  bool bf16_x;               /* some weights meet activations that are rounded to BF16; attention may round, too */
  size_t n_uploaded;         /* leading weights that the backend has prepared */
  char *bos_text, *eos_text; /* for templates; "" when there is none */
  aii_head *head;            /* NULL: none */
  aii_layer *layers;
  aii_packed *packed; /* NULL: no weight lies in a packed file */
  void *slab;         /* of the device, where packed weights lie that are in no file; or NULL */
  size_t slab_bytes;
  /* of a model that is split over ranks */
  aii_weight_copy *copies;
  size_t n_copies, copies_cap;
  bool met;              /* all ranks have it */
  uint64_t cache_ids;    /* those in use */
  uint32_t *order_words; /* lists of orders */
  size_t order_words_cap;
  aii_rope_table *rope; /* [2]: of most layers, and of those with a window where they differ */
};

/* A hash of all bytes, each in its place; who makes it does not matter. (sum.c) */
uint64_t aii_sum_of(aii_pool *pool, const void *bytes, size_t n);
/* A number for what the model computes: equal for the same keys, weights, context and device. Reads all weights. */
uint64_t aii_model_sum(aiinfra_model *model);

void aii_model_ref(aiinfra_model *model);
void aii_model_unref(aiinfra_model *model); /* any thread */

/* Scratch memory of a forward pass, sized once for max_rows rows and max_logits rows of logits. */
typedef struct aii_workspace aii_workspace;
aiinfra_status aii_workspace_create(aiinfra_model *model, uint32_t max_rows, uint32_t max_logits, aii_workspace **out,
                                    aiinfra_error *err);
void aii_workspace_free(aii_workspace *ws);

/* Runs rows through all layers; writes their keys and values into kv. For the n_logits rows listed in logit_rows the
 * logits go to logits [n_logits][n_vocab] (host memory); for the n_hidden rows in hidden_rows the final hidden state
 * after the output norm goes to hidden [n_hidden][n_embd] (host memory). Worker thread. Batch-invariant. */
typedef struct aii_forward {
  aii_rows rows;
  const aiinfra_token *types; /* [n_rows] of tokens, as BERT tells the texts of a pair apart; NULL: all 0 */
  uint32_t n_logits, n_hidden;
  const uint32_t *logit_rows, *hidden_rows;
  float *logits, *hidden;
} aii_forward;
aiinfra_status aii_model_forward(aiinfra_model *model, aii_workspace *ws, const aii_kv_view *kv,
                                 const aii_forward *pass, aiinfra_error *err);
/* Whether logits can stay on the device. Then a pass with `logits` NULL leaves them in the workspace until the next one, and
 * does not wait for the device; shortlist tells what samplers want to see, and logits is row `row` as the edits left it. */
bool aii_workspace_lists(const aii_workspace *ws);
aiinfra_status aii_workspace_shortlist(aii_workspace *ws, aii_shortlist *rows, uint32_t n, aiinfra_error *err);
aiinfra_status aii_workspace_logits(aii_workspace *ws, uint32_t row, float *out, aiinfra_error *err);

/* ---- several processes with a part of the model each (split.c, ranks.c) --------------------------------------- */

static inline bool aii_has_ranks(const aiinfra_runtime *rt)
{
  return rt->comm != NULL && rt->comm->size > 1;
}
enum { AII_MAX_RANKS = 64 };
/* Where part `rank` of n ends, in `size` parts; rank (uint32_t)-1: 0. */
static inline uint32_t aii_part_end(uint32_t n, uint32_t rank, uint32_t size)
{
  return (uint32_t)((uint64_t)n * (uint32_t)(rank + 1) / size);
}
static inline bool aii_is_split(const aiinfra_model *m)
{
  return aii_has_ranks(m->rt) && !m->vocab_only;
}
/* Rank 0 is told to the others; without ranks these do nothing. Not under the device's lock. A cache's view gets an id. */
aiinfra_status aii_ranks_cache(aiinfra_model *model, aii_kv_view *kv, aiinfra_error *err);
void aii_ranks_cache_free(aiinfra_model *model, aii_kv_view *kv);
/* Copies a block of the cache, on every rank. Under the device's lock. */
aiinfra_status aii_model_copy_block(aiinfra_model *model, const aii_kv_view *kv, uint32_t from, uint32_t to,
                                    aiinfra_error *err);
/* A rank other than 0: does what rank 0 says until its model is freed. */
aiinfra_status aii_ranks_follow(aiinfra_model *model, aiinfra_error *err);

/* Renders chat messages: see aii_template_render(). guarded: control tokens that the texts spell are marked for
 * AII_TOKENIZE_GUARDED. Any thread. */
aiinfra_status aii_model_render(const aiinfra_model *model, const aiinfra_render_opts *opts, bool guarded, aii_buf *out,
                                aiinfra_error *err);

/* ---- the sampler (sampler.c) --------------------------------------------------------------------------------- */

typedef struct aii_sampling {
  float temperature;  /* 0: greedy: the lowest id among the largest logits */
  int32_t top_k;      /* 0: all */
  float top_p, min_p; /* 0: off */
  uint64_t seed;
} aii_sampling;

/* One sampler a sequence: its random numbers depend on the seed and on how many tokens it gave, on nothing else. */
typedef struct aii_sampler aii_sampler;
aiinfra_status aii_sampler_create(aii_mem *mem, const aii_sampling *how, uint32_t n_vocab, aii_sampler **out,
                                  aiinfra_error *err);
void aii_sampler_free(aii_sampler *sampler);
/* Order: top_k, temperature, top_p, min_p, draw. logits [n_vocab]; -INFINITY never comes. Allocates nothing. */
aiinfra_token aii_sampler_pick(aii_sampler *sampler, const float *logits);
/* The same in three steps, for logits on a device. ask: what it shall tell of a row, and the random number of the pick.
 * take: the token by what it told; false: that does not suffice, then pick_at takes the row and that number. */
void aii_sampler_ask(aii_sampler *sampler, aii_shortlist *row);
bool aii_sampler_take(aii_sampler *sampler, const aii_shortlist *told, aiinfra_token *out);
aiinfra_token aii_sampler_pick_at(aii_sampler *sampler, const float *logits, double unit);

/* ---- penalties and biases (penalty.c) -------------------------------------------------------------------------- */

typedef struct aii_penalties {
  float repeat;              /* of tokens among the last last_n: a positive logit is divided by it; 0, 1: off */
  int32_t last_n;            /* 0: 64, -1: all */
  float presence, frequency; /* taken from the logit of a token that was generated: once, and for each time */
} aii_penalties;

typedef struct aii_bias {
  aiinfra_token token;
  float add;
} aii_bias;

typedef struct aii_penalty_want {
  aii_penalties how;
  const aii_bias *biases; /* n_biases of different tokens below n_vocab; copied */
  size_t n_biases;
  uint32_t n_vocab;
  uint32_t n_prompt, max_total; /* of the sequence */
} aii_penalty_want;

/* One a sequence. */
typedef struct aii_penalty aii_penalty;
aiinfra_status aii_penalty_create(aii_mem *mem, const aii_penalty_want *want, aii_penalty **out, aiinfra_error *err);
void aii_penalty_free(aii_penalty *penalty);
/* What changes of logits for what comes behind the sequence's n tokens, of which those that it knows are the first, and are
 * not read; valid until the next call. Order: repeat, frequency and presence, biases. Allocates nothing. */
const aii_edit *aii_penalty_edits(aii_penalty *penalty, const aiinfra_token *tokens, uint32_t n, uint32_t *n_edits);
/* The next token, behind those of aii_penalty_edits(). */
void aii_penalty_add(aii_penalty *penalty, aiinfra_token token);
/* Makes these changes in logits [n_vocab]. */
void aii_penalty_apply(aii_penalty *penalty, const aiinfra_token *tokens, uint32_t n, float *logits);

#endif
