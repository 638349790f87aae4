/* src/model/arch.h - what an architecture is: a row of data. And what loading a model is made of.
 *
 * Private to src/model. A row (arch.c) says how an architecture differs from plain Llama: names it lacks, norms,
 * biases, rotation, activation, windows, experts. Loading turns row and hyper-parameters into a plan for each layer
 * (aii_layer); the one forward pass reads plans, weights that are absent, and numbers. A new architecture that differs
 * in data is a new row; one that differs in structure adds a field here and the one place that reads it.
 */
#ifndef AII_MODEL_ARCH_H
#define AII_MODEL_ARCH_H

#include "aiinfra/convert.h"
#include "src/model/gguf.h"

typedef enum aii_norm_kind { AII_NORM_RMS, AII_NORM_LAYER } aii_norm_kind;

/* Where attention and feed-forward are normalised: what goes in, what comes out before it is added, or both. */
typedef enum aii_norm_place {
  AII_PLACE_PRE,
  AII_PLACE_POST,
  AII_PLACE_BOTH,
  AII_PLACE_SUM /* the sum of both, as BERT has it: attn_output_norm, layer_output_norm */
} aii_norm_place;

/* Queries and keys normalised before they rotate, as all else is: each head by itself, or all heads as one vector. */
typedef enum aii_qk_norm { AII_QK_PLAIN, AII_QK_HEAD, AII_QK_WIDTH } aii_qk_norm;

typedef enum aii_arch_flags {
  AII_HAS_QKV_BIAS = 1 << 0,      /* q, k and v have a bias */
  AII_HAS_ALL_BIAS = 1 << 1,      /* all projections of every layer have one */
  AII_MAY_BIAS = 1 << 2,          /* any projection may have one */
  AII_FUSED_QKV = 1 << 3,         /* attn_qkv: the rows of q, k and v behind each other */
  AII_FUSED_GATE = 1 << 4,        /* ffn_up: the rows of gate, then those of up */
  AII_PLAIN_FFN = 1 << 5,         /* down(act(up)): no gate */
  AII_POSITIONS = 1 << 6,         /* position_embd is added to the embedding */
  AII_SINKS = 1 << 7,             /* attn_sinks */
  AII_MLA = 1 << 8,               /* multi-head latent attention (DeepSeek) */
  AII_EXPERTS = 1 << 9,           /* a mixture when expert_count says so */
  AII_EXPERT_BIAS = 1 << 10,      /* the router and the experts have biases */
  AII_EXPERT_NORM = 1 << 11,      /* weights of the used experts sum to 1 unless the file says otherwise */
  AII_SHARED_EXPERT = 1 << 12,    /* one more expert for every row */
  AII_SHARED_GATE = 1 << 13,      /* ... whose output is scaled by a sigmoid */
  AII_FFN_NORM_BY_ATTN = 1 << 14, /* the norm in front of the feed-forward is called post_attention_norm */
  AII_EMBD_SQRT = 1 << 15,        /* embeddings times sqrt(n_embd) */
  AII_YARN_EXACT = 1 << 16,       /* YaRN's range is not rounded to whole dimensions */
  AII_ENCODER = 1 << 17,          /* sees both ways; gives hidden states, no logits */
  AII_TOKEN_TYPES = 1 << 18,      /* token_types: row 0 is added to every embedding */
  AII_EMBD_NORM = 1 << 19,        /* token_embd_norm */
  AII_PLAIN_NORMS = 1 << 20,      /* layer norms without biases */
  AII_NO_FIRST_NORM = 1 << 21,    /* layer 0 has no norm in front of its attention */
  AII_GLOBAL_FIRST = 1 << 22,     /* of each window_step layers the first sees everything, not the last */
  AII_MODERN_HEAD = 1 << 23,      /* a reranker's head is ModernBERT's, and so are its pairs */
  AII_MAY_QK_NORM = 1 << 24,      /* qk_norm holds in files that have attn_q_norm */
  AII_STATIC = 1 << 25            /* no layers: a token's hidden state is its row of the embedding */
} aii_arch_flags;

struct aii_arch {
  const char *name; /* general.architecture, and the prefix of its keys */
  aii_rope_kind rope;
  aii_norm_kind norm;
  aii_norm_place place;
  aii_qk_norm qk_norm;
  aii_act act;
  uint32_t flags;
  uint32_t window_step;   /* with a sliding window: layers il % step < step - 1 have it; 0: all have it */
  uint32_t no_rope_step;  /* layers il % step == step - 1 do not rotate; 0: all rotate */
  float local_rope_base;  /* of layers with a window; 0: as the others */
  float alibi;            /* the largest bias of ALiBi; 0: none */
  uint32_t wide_scale_at; /* models of so many layers scale scores by sqrt(n_heads / n_embd) */
};

/* Angles of rotation: [n_rot / 2] factors of the position, and what multiplies sine and cosine. */
typedef struct aii_rope_table {
  float *inv_freq;
  float attn_factor;
} aii_rope_table;

/* Absent weights have n_out 0. */
struct aii_layer {
  /* the plan */
  uint32_t window;            /* 0: sees all positions */
  const aii_rope_table *rope; /* NULL: does not rotate */
  bool moe;
  /* attention */
  aii_weight attn_norm, attn_norm_bias, q, k, v, o;
  aii_weight q_bias, k_bias, v_bias, o_bias, q_norm, k_norm, sinks, attn_post_norm;
  aii_weight attn_sum_norm, attn_sum_norm_bias, ffn_sum_norm, ffn_sum_norm_bias;
  aii_weight attn_sum_norm_2, attn_sum_norm_2_bias; /* of the first one's result and the layer's input */
  aii_weight q_norm_bias, k_norm_bias;
  aii_weight q_a, q_a_norm, q_b, kv_a, kv_a_norm, kv_b, k_b, v_b; /* MLA; without q_a queries come from q */
  /* feed-forward */
  aii_weight ffn_norm, ffn_norm_bias, gate, up, down, gate_bias, up_bias, down_bias, ffn_post_norm;
  /* experts */
  aii_weight router, router_bias, choice_bias, gate_exps, up_exps, down_exps;
  aii_weight gate_exps_bias, up_exps_bias, down_exps_bias;
  aii_weight shared_router, gate_shared, up_shared, down_shared;
};

/* The row of general.architecture: EFORMAT when the key is missing, ENOTSUP (and *out NULL) when we have no row. *name
 * is set in both good and ENOTSUP cases. */
aiinfra_status aii_arch_find(const aii_gguf *gguf, const aii_arch **out, aii_str *name, aiinfra_error *err);

/* Reads and checks all hyper-parameters (hparams.c). n_vocab is set before. */
aiinfra_status aii_hparams_read(const aii_gguf *gguf, const aii_arch *arch, aii_hparams *hp, aiinfra_error *err);
/* The same for a model that will not run: what is missing or odd becomes 0. */
void aii_hparams_glance(const aii_gguf *gguf, aii_str arch, aii_hparams *hp);

/* Makes the layers with their plans, and the rotations that they share (layers.c). max_context is set before. */
aiinfra_status aii_layers_plan(aiinfra_model *model, aiinfra_error *err);
void aii_layers_free(aiinfra_model *model);

/* Finds every tensor of the architecture, checks types and shapes, fills the weights (tensors.c). */
aiinfra_status aii_tensors_bind(aiinfra_model *model, aiinfra_error *err);
/* Weight i of the model, in the order of layers; NULL behind the last. Absent ones and the tied output are left out. */
aii_weight *aii_tensors_at(aiinfra_model *model, size_t *cursor);

/* Leaves this rank's part of the model, where there are several (split.c). Copies that the backend needs no more, or all,
 * are freed by the other one. */
aiinfra_status aii_split_model(aiinfra_model *model, aiinfra_error *err);
void aii_split_forget(aiinfra_model *model, bool all);

/* All ranks say whether they have the model, and whether it is the same (ranks.c). `mine`: how it went here; model NULL: it
 * did not. */
aiinfra_status aii_ranks_meet(aiinfra_runtime *rt, aiinfra_model *model, aiinfra_status mine, aiinfra_error *err);
void aii_ranks_end(aiinfra_model *model);

/* The head of a reranker, if the file has one (head.c): fills model->head and counts its tensors. */
aiinfra_status aii_head_bind(aiinfra_model *model, size_t *found, aiinfra_error *err);
bool aii_head_owns(const aii_gguf_tensor *tensor);
void aii_head_free(aii_mem *mem, aii_head *head);

/* The most memory that this process may have: physical, or what its control group allows (memory.c). 0: not known. */
uint64_t aii_memory_total(void);

/* Makes a model of an opened file, which it then owns, also on failure (model.c). `name` stands in for general.name. */
aiinfra_status aii_model_load(aiinfra_runtime *rt, aii_gguf *gguf, const char *name, const aiinfra_model_opts *opts,
                              aiinfra_model **out, aiinfra_error *err);

/* aiinfra_convert(), whose options were loaded to the full struct (convert.c). */
aiinfra_status aii_convert(aii_mem *mem, const char *from, const char *to, const aiinfra_convert_opts *opts,
                           aiinfra_error *err);

/* The JSON of aiinfra_model_describe() (describe.c). */
void aii_model_describe(const aiinfra_model *model, aii_buf *out);

#endif
