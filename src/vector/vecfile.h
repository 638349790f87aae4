/* src/vector/vecfile.h - files of vectors: read row by row, and the headers that writers need.
 *
 *   vecfile.c  opens a file, checks its header against its size, reads rows   npy.c    NumPy's header
 *   jsonl.c    rows as lines of JSON                                           import.c, export.c  use them
 *
 *   fvecs, bvecs  each row: int32 dims, then dims floats or bytes              (TEXMEX)
 *   fbin, u8bin   uint32 rows, uint32 dims, then all elements                  (big-ann-benchmarks)
 *   npy           a header that describes itself, then all elements            (NumPy, versions 1 to 3)
 *   jsonl         a line of JSON a row: {"id", "vector", "text", "payload", "expires_ms"}
 *
 * All numbers are little endian, as this library's databases are. One thread a file.
 */
#ifndef AII_VECTOR_VECFILE_H
#define AII_VECTOR_VECFILE_H

#include "src/vector/vector.h"

enum { AII_FILE_MAX_DIMS = 65536 };
#define AII_ROWS_UNKNOWN UINT64_MAX

typedef enum aii_element { AII_ELEMENT_F32, AII_ELEMENT_F16, AII_ELEMENT_I8, AII_ELEMENT_U8 } aii_element;

typedef struct aii_vecfile {
  aii_mem *mem;
  const aii_kernels *kernels;
  const char *path;
  int fd;
  int32_t format; /* an aiinfra_vector_format, never DEFAULT */
  aii_element element;
  uint32_t dims;            /* 0: the file is empty */
  uint64_t n_rows;          /* AII_ROWS_UNKNOWN: of jsonl, before the end */
  uint64_t row, line;       /* rows and lines that were read */
  uint64_t bytes, got;      /* of the file; that were read from it */
  size_t row_bytes, before; /* of a row, and those of them before its vector */
  uint8_t *buffer;
  size_t at, n, cap;
  float *vector; /* [dims] */
  json_t *json;  /* the row that was read last */
  aii_buf payload;
} aii_vecfile;

/* A row, with what is NULL or 0 when the file does not have it; it lives until the next one is read. */
typedef struct aii_vecrow {
  const float *vector;
  const char *text, *payload;
  int64_t id, expires_ms;
  bool has_id;
} aii_vecrow;

/* Opens a regular file. format: an aiinfra_vector_format; DEFAULT: by the path's ending. Messages name the path; on
 * failure nothing is held. */
aiinfra_status aii_vecfile_open(aii_vecfile *file, aii_mem *mem, const aii_kernels *kernels, const char *path,
                                int32_t format, aiinfra_error *err);
/* The same with a descriptor, which becomes the file's whatever happens. */
aiinfra_status aii_vecfile_take(aii_vecfile *file, aii_mem *mem, const aii_kernels *kernels, const char *path, int fd,
                                int32_t format, aiinfra_error *err);
void aii_vecfile_close(aii_vecfile *file);
/* *there: false at the end. */
aiinfra_status aii_vecfile_next(aii_vecfile *file, aii_vecrow *row, bool *there, aiinfra_error *err);
/* Goes to a row; EINVAL beyond the last one. */
aiinfra_status aii_vecfile_skip(aii_vecfile *file, uint64_t rows, aiinfra_error *err);
/* Puts the path, and the row or line that was read last, before a message. */
aiinfra_status aii_vecfile_wrap(const aii_vecfile *file, aiinfra_error *err, aiinfra_status rc);
/* The format that a path's ending stands for; DEFAULT: none. */
int32_t aii_vecfile_format(const char *path);

/* So many bytes lie at buffer + at, or fewer when the file ends: *n says how many. */
aiinfra_status aii_vecfile_fill(aii_vecfile *file, size_t want, size_t *n, aiinfra_error *err);
/* npy.c: reads the header, which begins the file; appends one for floats, of a length that no count changes. */
aiinfra_status aii_npy_open(aii_vecfile *file, aiinfra_error *err);
void aii_npy_header(aii_buf *out, uint64_t n_rows, uint32_t dims);
/* jsonl.c: finds the dims in the first row; reads the next; appends one. */
aiinfra_status aii_jsonl_open(aii_vecfile *file, aiinfra_error *err);
aiinfra_status aii_jsonl_next(aii_vecfile *file, aii_vecrow *row, bool *there, aiinfra_error *err);
aiinfra_status aii_jsonl_skip(aii_vecfile *file, bool *there, aiinfra_error *err);
void aii_jsonl_write(aii_buf *out, const aii_vecrow *row, uint32_t dims);

#endif
