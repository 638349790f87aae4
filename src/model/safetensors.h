/* src/model/safetensors.h - the reader of safetensors files: a directory of named arrays in a mapped file.
 *
 * Private to src/model. After success every array lies inside the file and no two share a byte.
 */
#ifndef AII_MODEL_SAFETENSORS_H
#define AII_MODEL_SAFETENSORS_H

#include "src/model/gguf.h"

enum { AII_ST_DIMS = 8 };

typedef struct aii_st_tensor {
  aii_str name;
  const char *dtype;           /* "F32", "BF16", "I64", ...: a static text */
  int32_t type;                /* the GGUF id of the same numbers; -1: GGUF has none */
  uint32_t n_dims;             /* 0: one number */
  uint64_t shape[AII_ST_DIMS]; /* the last one is contiguous */
  const uint8_t *data;
  uint64_t bytes;
} aii_st_tensor;

typedef struct aii_safetensors {
  aii_mem *mem;
  aii_st_tensor *tensors; /* in the order of the header */
  size_t n, cap;
  aii_map names;
} aii_safetensors;

/* Reads the directory of a whole file in memory, which the arrays then point into. On failure nothing is held. */
aiinfra_status aii_safetensors_parse(aii_mem *mem, const uint8_t *bytes, size_t size, aii_safetensors *out,
                                     aiinfra_error *err);
void aii_safetensors_free(aii_safetensors *st);

#endif
