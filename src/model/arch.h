/* src/model/arch.h - what an architecture is: a row of data. And what loading a model is made of.
 *
 * Private to src/model. A row says which names, biases and rotations an architecture has; the one forward pass reads
 * nothing else. A new architecture that differs in data is a new row; one that differs in structure adds a flag and
 * the one place that reads it.
 */
#ifndef AII_MODEL_ARCH_H
#define AII_MODEL_ARCH_H

#include "src/model/gguf.h"

typedef enum aii_arch_flags {
  AII_ARCH_QKV_BIAS = 1, /* q, k and v have a bias */
  AII_ARCH_ANY_BIAS = 2, /* any projection may have one */
  AII_ARCH_QK_NORM = 4   /* each head of q and k is normalised before it rotates */
} aii_arch_flags;

struct aii_arch {
  const char *name; /* general.architecture, and the prefix of its keys */
  aii_rope_kind rope;
  uint32_t flags;
};

/* Absent weights have n_out 0. */
struct aii_layer {
  aii_weight attn_norm, q, k, v, o, q_norm, k_norm;
  aii_weight q_bias, k_bias, v_bias, o_bias;
  aii_weight ffn_norm, gate, up, down;
  aii_weight gate_bias, up_bias, down_bias;
};

/* The row of general.architecture: EFORMAT when the key is missing, ENOTSUP (and *out NULL) when we have no row. *name
 * is set in both good and ENOTSUP cases. */
aiinfra_status aii_arch_find(const aii_gguf *gguf, const aii_arch **out, aii_str *name, aiinfra_error *err);

/* Reads and checks all hyper-parameters (hparams.c). n_vocab is set before. */
aiinfra_status aii_hparams_read(const aii_gguf *gguf, const char *arch, aii_hparams *hp, aiinfra_error *err);
/* The same for a model that will not run: what is missing or odd becomes 0. */
void aii_hparams_glance(const aii_gguf *gguf, aii_str arch, aii_hparams *hp);

/* Finds every tensor of the architecture, checks types and shapes, fills the weights (tensors.c). */
aiinfra_status aii_tensors_bind(aiinfra_model *model, aiinfra_error *err);
/* Weight i of the model, in the order of layers; NULL behind the last. Absent ones and the tied output are left out. */
aii_weight *aii_tensors_at(aiinfra_model *model, size_t *cursor);
/* Fills inv_freq from base, scaling and rope_freqs.weight. */
aiinfra_status aii_rope_init(aiinfra_model *model, aiinfra_error *err);

/* The head of a reranker, if the file has one (head.c): fills model->head and counts its tensors. */
aiinfra_status aii_head_bind(aiinfra_model *model, size_t *found, aiinfra_error *err);
bool aii_head_owns(const aii_gguf_tensor *tensor);
void aii_head_free(aii_mem *mem, aii_head *head);

/* The most memory that this process may have: physical, or what its control group allows (memory.c). 0: not known. */
uint64_t aii_memory_total(void);

/* Makes a model of an opened file, which it then owns, also on failure (model.c). `name` stands in for general.name. */
aiinfra_status aii_model_load(aiinfra_runtime *rt, aii_gguf *gguf, const char *name, const aiinfra_model_opts *opts,
                              aiinfra_model **out, aiinfra_error *err);

/* The JSON of aiinfra_model_describe() (describe.c). */
void aii_model_describe(const aiinfra_model *model, aii_buf *out);

#endif
