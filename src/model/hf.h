/* src/model/hf.h - what the reader of Hugging Face folders is made of: the folder, the table of architectures.
 *
 * Private to src/model. A row of the table says which names a model's config and tensors have there and in GGUF, and
 * what must happen to a tensor on the way. The keys and names are those that llama.cpp's converter writes, so that a
 * folder and the file converted from it are the same model.
 */
#ifndef AII_MODEL_HF_H
#define AII_MODEL_HF_H

#include "lib/json/json.h"
#include "src/model/safetensors.h"

/* ---- the table (hf_arch.c) --------------------------------------------------------------------------------------- */

/* How a tensor becomes one of GGUF, or several. E: experts, shapes as in the file, the last dimension contiguous. */
typedef enum aii_hf_how {
  HF_COPY = 0,
  HF_SKIP,          /* is left out: what can be computed, or is not used */
  HF_ROPE_Q,        /* rows (or a bias) in the order that rotates adjacent pairs; with as many heads as queries have */
  HF_ROPE_K,        /* the same with as many as keys have */
  HF_TRANSPOSED,    /* [in, out] */
  HF_EXPERT,        /* one of E matrices, which are stacked */
  HF_STACK_T,       /* [E, in, out] */
  HF_GATE_UP,       /* [E, 2 x out, in]: the gate's rows, then those of up */
  HF_GATE_UP_T,     /* [E, in, 2 x out], gate and up by turns */
  HF_GATE_UP_BIAS,  /* [E, 2 x out], by turns */
  HF_MXFP4,         /* [E, out, blocks, 16] bytes; the scales are the tensor ..._scales */
  HF_MXFP4_GATE_UP, /* [E, 2 x out, blocks, 16], rows by turns */
  HF_KV_B,          /* DeepSeek's second matrix of keys and values, to be taken apart by head */
  HF_POSITIONS,     /* rows of padding come first and are cut off */
  HF_UP_GATE,       /* [2 x out, in]: the rows of up, then the gate's */
  HF_STATIC         /* the vectors of a static model, by way of its weights and its mapping */
} aii_hf_how;

typedef struct aii_hf_name {
  const char *from; /* without the model's prefix; '*' stands for a number: the layer, then the expert */
  const char *to;   /* behind "blk.N." when there is a layer; ".weight" or ".bias" follows as in `from` */
  aii_hf_how how;
} aii_hf_name;

typedef struct aii_hf_key {
  const char *key;  /* behind the architecture's name and a dot */
  char kind;        /* 'u' u32, 'f' f32, 'b' bool */
  const char *from; /* names in the config, by '|'; a dot enters an object */
  double fallback;  /* when the config has none of them; NAN: then the key is left out */
} aii_hf_key;

typedef enum aii_hf_flags {
  HF_PERMUTED = 1,     /* q and k rotate adjacent pairs in GGUF: HF_ROPE_Q and HF_ROPE_K apply */
  HF_NORM_PLUS = 2,    /* norms are stored minus one */
  HF_NO_OUTPUT = 4,    /* the output matrix is the embedding */
  HF_ENCODER = 8,      /* attends both ways; may pool */
  HF_NO_ROPE = 16,     /* positions are learned */
  HF_MLA = 32,         /* DeepSeek's compressed keys and values */
  HF_ROTATES_ALL = 64, /* rope.dimension_count is written */
  HF_OFFSET = 128,     /* positions count from behind the padding token */
  HF_TOKENIZER = 256   /* tokenizer.json becomes a key as it is: it may say what GGUF's keys cannot */
} aii_hf_flags;

typedef struct aii_hf_arch {
  const char *name;         /* in config.json: architectures[] */
  const char *model_type;   /* in config.json, where architectures is missing */
  const char *gguf;         /* general.architecture */
  const aii_hf_name *names; /* of its own, looked at before the common ones; end with a NULL; NULL: none */
  const aii_hf_key *keys;   /* of its own, in place of or beside the common ones; NULL: none */
  uint32_t flags;           /* aii_hf_flags */
} aii_hf_arch;

/* ENOTSUP with a list of what there is. */
aiinfra_status aii_hf_find_arch(const json_t *config, const aii_hf_arch **out, aiinfra_error *err);
extern const aii_hf_key aii_hf_common_keys[]; /* end with a NULL */
/* The entry for a tensor's name, and the numbers in it; *suffix is what follows the pattern. NULL: there is none. */
const aii_hf_name *aii_hf_find_name(const aii_hf_arch *arch, aii_str name, uint32_t numbers[2], aii_str *suffix);

/* ---- the folder (hf.c) --------------------------------------------------------------------------------------------- */

/* A tensor of the result; its gather has the same index. */
typedef struct aii_hf_out {
  char name[64];
  uint32_t type, n_dims, n_filled; /* filled: of the views of experts */
  uint64_t ne[4];
} aii_hf_out;

typedef struct aii_hf {
  aii_mem *mem;
  aiinfra_error *err;
  const char *folder;
  json_t *config, *text;                 /* text: the part about the language model; config itself as a rule */
  json_t *generation, *tokenizer_config; /* NULL: no such file */
  const aii_hf_arch *arch;
  aii_gguf *gguf;
  aii_gguf_writer w;
  aii_safetensors *shards;
  size_t n_shards, cap_shards;
  aii_hf_out *outs;
  size_t n_outs, cap_outs;
  uint32_t n_vocab; /* rows of the embedding; 0: not known */
} aii_hf;

/* A file of the folder, mapped; none when there is no such file (then bytes is NULL). */
aiinfra_status aii_hf_map(aii_hf *hf, const char *name, aii_file *out);
aiinfra_status aii_hf_json(aii_hf *hf, const char *name, json_t **out); /* NULL when there is no such file */

/* The first of the names (by '|', a dot enters an object) that is there and not null; NULL: none. */
const json_t *aii_hf_find(const json_t *object, const char *names);
/* Numbers of the model's config; `fallback` when missing or of another kind. */
double aii_hf_number(const aii_hf *hf, const char *names, double fallback);
uint32_t aii_hf_count(const aii_hf *hf, const char *names, uint32_t fallback);

/* ---- the parts of it ------------------------------------------------------------------------------------------------- */

aiinfra_status aii_hf_put_keys(aii_hf *hf);        /* hyper-parameters (hf_keys.c) */
aiinfra_status aii_hf_put_rope(aii_hf *hf);        /* rotations: keys and tensors (hf_rope.c) */
aiinfra_status aii_hf_put_tensors(aii_hf *hf);     /* all of them, to the writer and the gathers (hf_tensors.c) */
aiinfra_status aii_hf_check_tokenizer(aii_hf *hf); /* before tensors are computed (hf_tokenizer.c) */
aiinfra_status aii_hf_put_tokenizer(aii_hf *hf);   /* tokenizer.* */

/* Vectors of tokens, as the table calls them; `weights` and `mapping` may be NULL (hf_static.c). */
aiinfra_status aii_hf_put_static(aii_hf *hf, const aii_st_tensor *vectors, const aii_st_tensor *weights,
                                 const aii_st_tensor *mapping);
/* Adds a tensor of the result: shape as in GGUF; its views are to be filled by the caller. NULL: failed, hf->err is
 * set (hf_tensors.c). */
aii_view *aii_hf_add_out(aii_hf *hf, const char *name, uint32_t type, uint32_t n_dims, const uint64_t *ne, size_t n);
/* Adds one of computed numbers. */
aiinfra_status aii_hf_add_numbers(aii_hf *hf, const char *name, const float *values, uint32_t n);

#endif
