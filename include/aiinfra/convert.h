/* aiinfra/convert.h - turns a model of any format that opens into one GGUF file, and requantises GGUF files.
 *
 * What aiinfra_model_open() takes, aiinfra_convert() takes too: a GGUF file or the first part of a split one, a Hugging
 * Face folder, a llama2.c checkpoint. The weights pass through a megabyte of memory, however large the model is.
 */
#ifndef AIINFRA_CONVERT_H
#define AIINFRA_CONVERT_H

#include "aiinfra/runtime.h"
#include "aiinfra/types.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Options of aiinfra_convert(). Zero is the default of every field. */
typedef struct aiinfra_convert_opts {
  size_t struct_size;           /**< sizeof this struct; set by AIINFRA_CONVERT_OPTS_INIT */
  const char *type;             /**< of the matrices: "F16", "Q8_0", "Q4_K_M", ...; NULL: as they are */
  const char *imatrix;          /**< a GGUF file that says which columns matter, for types that search; NULL: none */
  const char *tokenizer;        /**< file with the tokenizer of a llama2.c checkpoint; NULL: looked for beside it */
  aiinfra_progress_fn progress; /**< called on the calling thread; may cancel; NULL: none */
  void *progress_user;          /**< handed to progress */
} aiinfra_convert_opts;

/** Initialiser of aiinfra_convert_opts. */
#define AIINFRA_CONVERT_OPTS_INIT {sizeof(aiinfra_convert_opts), NULL, NULL, NULL, NULL, NULL}

/**
 * Writes the model at @from as the GGUF file @to. Blocks until it is done.
 *
 * The file is written aside and renamed when it is complete: on failure nothing has changed, and @to may be @from.
 *
 * @return AIINFRA_ENOENT     no such file, or a file of the folder or a part of the set is missing; the message names it
 *         AIINFRA_EFORMAT    the source is malformed; the message names the field
 *         AIINFRA_ENOTSUP    its architecture or format, or the type, is not known to this version
 *         AIINFRA_ECANCELED  the progress callback asked for it
 *         AIINFRA_EINVAL, AIINFRA_ENOMEM, AIINFRA_EIO, AIINFRA_ENOSPC
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_convert(aiinfra_runtime *runtime, const char *from, const char *to,
                                                            const aiinfra_convert_opts *opts, aiinfra_error *err);

#ifdef __cplusplus
}
#endif
#endif
