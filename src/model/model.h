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
} aii_gguf_kv;

typedef struct aii_gguf_tensor {
  aii_str name;
  uint32_t n_dims;
  uint64_t ne[4]; /* ne[0] is contiguous; unused ones are 1 */
  uint32_t type;  /* GGUF id; whether it can be computed with, aii_dtype_info() knows */
  const uint8_t *data;
  uint64_t bytes;
} aii_gguf_tensor;

typedef struct aii_gguf aii_gguf;
/* Maps and validates the whole directory: after success every kv and tensor lies inside the file. `bytes_only` opens a
 * memory image instead (fuzzing, tests); it is borrowed. */
aiinfra_status aii_gguf_open(aii_mem *mem, const char *path, aii_gguf **out, aiinfra_error *err);
aiinfra_status aii_gguf_from_memory(aii_mem *mem, const void *bytes, size_t n, aii_gguf **out, aiinfra_error *err);
void aii_gguf_free(aii_gguf *gguf);
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

/* ---- the model ------------------------------------------------------------------------------------------------ */

typedef struct aii_hparams {
  uint32_t n_vocab, n_embd, n_layers, n_heads, n_kv_heads, head_dim, n_ff, n_rot, train_context, window;
  float norm_eps, rope_base, rope_scale;
} aii_hparams;

typedef struct aii_layer aii_layer;
typedef struct aii_arch aii_arch; /* a row of data: see arch.c */

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
  uint64_t n_params, weight_bytes;
  aii_weight tok_embd, output_norm, output; /* output: a copy of tok_embd's view when tied */
  bool tied, vocab_only;
  size_t n_uploaded;         /* leading weights that the backend has prepared */
  char *bos_text, *eos_text; /* for templates; "" when there is none */
  aii_layer *layers;
  float *inv_freq; /* [n_rot / 2] */
};

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
  uint32_t n_logits, n_hidden;
  const uint32_t *logit_rows, *hidden_rows;
  float *logits, *hidden;
} aii_forward;
aiinfra_status aii_model_forward(aiinfra_model *model, aii_workspace *ws, const aii_kv_view *kv,
                                 const aii_forward *pass, aiinfra_error *err);

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

#endif
