/* src/model/packed.h - the file that keeps weights in the form that the device computes with.
 *
 * Private to src/model. A plan says, from an opened model alone, what the file must look like, byte for byte but for
 * sums; a file that looks otherwise is not used, so no number in it is ever an address.
 */
#ifndef AII_MODEL_PACKED_H
#define AII_MODEL_PACKED_H

#include "src/model/gguf.h"

/* Numbers are those of the machine; `order` tells of another one. Sums are hashes: they find damage, not malice. */
typedef struct aii_packed_header {
  char magic[8];
  uint32_t order, version;
  char backend[8];
  uint32_t layout; /* of the backend's form */
  uint32_t n_entries;
  uint64_t file_bytes;
  uint64_t source; /* of the ids of the model's files; 0: they had none */
  uint64_t sum;    /* of this header, with 0 here, and of the entries behind it */
  uint64_t zero;
} aii_packed_header;

/* One weight, in the order of aii_tensors_at(). */
typedef struct aii_packed_entry {
  uint32_t type, n_in, n_out, n_mats;
  uint32_t file;       /* which of the model's files its rows lie in; UINT32_MAX: they are made in memory */
  uint32_t bf16_x;     /* 1: in the form for activations of BF16 */
  uint64_t source_at;  /* in that file */
  uint64_t at, bytes;  /* in the packed file; `at` is a multiple of 64 */
  uint64_t source_sum; /* of its rows */
  uint64_t sum;        /* of its packed bytes */
} aii_packed_entry;

struct aii_packed {
  aii_mem *mem;
  aii_pool *pool; /* borrowed */
  aii_packed_header header;
  aii_packed_entry *entries; /* with sums once a file was accepted or is about to be written */
  aii_weight **weights;      /* of the entries */
  aii_file file;             /* what was mapped; empty: nothing */
};

/* What a packed file of the model must look like; its tensors are bound. *out NULL and OK: no weight has a packed form. */
aiinfra_status aii_packed_plan(aiinfra_model *model, aii_packed **out, aiinfra_error *err);
void aii_packed_free(aii_packed *packed);

/* Header.sum of a file; there are header.n_entries entries. */
uint64_t aii_packed_directory_sum(aii_packed_header header, const void *entries);

/* Whether a file's bytes are right: EEXIST: something else than packed weights; EFORMAT: out of date or damaged. Reads
 * the model's rows only when its files changed since, or when they were made in memory. */
aiinfra_status aii_packed_check(aii_packed *packed, const uint8_t *bytes, size_t n, aiinfra_error *err);
/* Maps a file and checks it. */
aiinfra_status aii_packed_map(aii_packed *packed, const char *path, aiinfra_error *err);
/* Whether the mapped file knows the model's files as they are now: writing it again would change nothing. */
bool aii_packed_is_fresh(const aii_packed *packed);

/* For a file that will be written: to be called before the backend packs weight i. */
void aii_packed_note_source(aii_packed *packed, size_t i);
/* Writes what the backend has made of all weights. */
aiinfra_status aii_packed_write(aii_packed *packed, const char *path, aiinfra_error *err);

/* The model's weights to the backend: from opts->packed_path, or packed, and then written there (upload.c). */
aiinfra_status aii_model_upload(aiinfra_model *model, const aiinfra_model_opts *opts, aiinfra_error *err);

#endif
