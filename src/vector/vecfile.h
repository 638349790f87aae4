/* src/vector/vecfile.h - files of vectors: read row by row, and the headers that writers need.
 *
 *   vecfile.c  opens a file, checks its header against its size, reads rows   npy.c    NumPy's header
 *   jsonl.c, jsonl_named.c  rows as lines of JSON                              import.c, export.c  use them
 *   rowvecs.c  what rows have under names
 *
 *   fvecs, bvecs  each row: int32 dims, then dims floats or bytes              (TEXMEX)
 *   fbin, u8bin   uint32 rows, uint32 dims, then all elements                  (big-ann-benchmarks)
 *   npy           a header that describes itself, then all elements            (NumPy, versions 1 to 3)
 *   jsonl         a line of JSON a row: {"id", "vector", "vectors", "text", "payload", "expires_ms"}
 *
 * All numbers are little endian, as this library's databases are. One thread a file.
 */
#ifndef AII_VECTOR_VECFILE_H
#define AII_VECTOR_VECFILE_H

#include "src/vector/named.h"

enum { AII_FILE_MAX_DIMS = 65536 };
#define AII_ROWS_UNKNOWN UINT64_MAX

typedef enum aii_element { AII_ELEMENT_F32, AII_ELEMENT_F16, AII_ELEMENT_I8, AII_ELEMENT_U8 } aii_element;

/* What a row has under a name. */
typedef struct aii_rowvec {
  const char *name;
  const float *values;     /* NULL: the row loses it */
  const uint32_t *indices; /* of a sparse one, as many as values; else NULL */
  size_t n;
  uint32_t dims; /* of each of several, one behind the other; 0: it is one */
} aii_rowvec;

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
  aii_rowvec *named; /* of that row, in the floats and indices */
  float *floats;
  uint32_t *indices;
  size_t named_cap, floats_cap, indices_cap;
} aii_vecfile;

/* A row, with what is NULL or 0 when the file does not have it; it lives until the next one is read. */
typedef struct aii_vecrow {
  const float *vector;
  const char *text, *payload;
  const aii_rowvec *named;
  size_t n_named;
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
bool aii_jsonl_float(const json_t *number, float *out); /* false: it is none that a float can hold */
/* jsonl_named.c: takes the member "vectors"; appends it, and an array of floats. */
aiinfra_status aii_jsonl_named(aii_vecfile *file, const json_t *vectors, aii_vecrow *row, aiinfra_error *err);
void aii_jsonl_put_named(aii_buf *out, const aii_rowvec *named, size_t n);
void aii_jsonl_put_floats(aii_buf *out, const float *values, size_t n);

/* rowvecs.c: a vector of a row of a file, checked and made into what the collection stores. */
aiinfra_status aii_rowvec_make(const aiinfra_vecstore *store, const aii_rowvec *v, int64_t id, aii_named_item *out,
                               aiinfra_error *err);
/* The vectors that a file of vectors alone is about: the first ones for the name NULL, else those under the name. */
aiinfra_status aii_rowvecs_target(const aiinfra_vecstore *store, const char *name, int32_t format,
                                  const aiinfra_vecstore **out, aiinfra_error *err);
/* What rows have under all names, in the order of names. */
typedef struct aii_rowvecs {
  aii_mem *mem;
  struct aii_rowvec_room *rooms;
  size_t n_rooms;
  aii_rowvec *items; /* of the row that was read last */
  size_t n;
} aii_rowvecs;
aiinfra_status aii_rowvecs_open(aii_rowvecs *r, const aiinfra_vecstore *store, aiinfra_error *err);
void aii_rowvecs_close(aii_rowvecs *r); /* after a failure to open, too */
/* Connection's lock held: all of a row; or that of one name, which must be there. */
aiinfra_status aii_rowvecs_read(aii_rowvecs *r, int64_t id, aiinfra_error *err);
aiinfra_status aii_rowvecs_read_of(aii_rowvecs *r, const aiinfra_vecstore *below, int64_t id, aiinfra_error *err);

#endif
