/* src/model/recode.h - brings the tensors of a directory to other types, some rows at a time.
 *
 * Private to src/model. What loading with a type and converting have in common: which type each tensor gets, and its
 * rows in that type, whatever they are in the source.
 */
#ifndef AII_MODEL_RECODE_H
#define AII_MODEL_RECODE_H

#include "src/model/gguf.h"

typedef struct aii_recoder {
  aii_mem *mem;
  const aii_gguf *gguf;
  const aii_recipe *recipe;            /* NULL: every tensor keeps its type */
  uint32_t n_layers, n_experts, n_gqa; /* as aii_recipe_tensor has them */
  aii_gguf *imatrix;                   /* NULL: none */
  float *floats;                       /* room for some rows */
  size_t n_floats;
  float *importance; /* room for a row */
  size_t n_importance;
} aii_recoder;

/* ENOTSUP for a recipe that is not known. The imatrix is a GGUF file's path, or NULL. */
aiinfra_status aii_recoder_init(aii_recoder *r, const aii_gguf *gguf, const char *recipe, const char *imatrix,
                                aiinfra_error *err);
void aii_recoder_free(aii_recoder *r);
uint32_t aii_recoder_file_type(const aii_recoder *r); /* for general.file_type; UINT32_MAX: as it was */
uint32_t aii_recoder_type(const aii_recoder *r, size_t t);
uint64_t aii_recoder_rows(const aii_recoder *r, size_t t); /* rows of ne[0] elements */
uint64_t aii_recoder_row_bytes(const aii_recoder *r, size_t t, uint32_t type);
/* How many rows are handled well at a time: about a megabyte of floats. */
uint64_t aii_recoder_step(const aii_recoder *r, size_t t);
/* Rows [first, first + n) of tensor t as `type`; n at most aii_recoder_step(). */
aiinfra_status aii_recoder_read(aii_recoder *r, size_t t, uint32_t type, uint64_t first, uint64_t n, void *out,
                                aiinfra_error *err);

#endif
