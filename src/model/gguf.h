/* src/model/gguf.h - what the readers and writers of model files share: everything becomes a GGUF-shaped directory.
 *
 * Private to src/model. A GGUF file is mapped and its directory validated by aii_gguf_parse(). A reader of any other
 * format writes the header that a GGUF file of the same model would have, with aii_gguf_writer, and says where the
 * elements of each tensor come from (aii_gather); aii_gguf_adopt() parses that header by the same code and hands out
 * the same kind of object. Tensors that lie in a file as they are point there; the others have no data until
 * aii_gguf_load() makes it, or are made piece by piece by aii_gguf_read() while a file is written.
 */
#ifndef AII_MODEL_GGUF_H
#define AII_MODEL_GGUF_H

#include "lib/data/data.h"
#include "src/model/model.h"

/* ---- the files of a model (file_map.c) ----------------------------------------------------------------------------------- */

/* Every file that a directory points into; unmapped with it. */
typedef struct aii_file_set {
  aii_mem *mem;
  aii_file *items;
  size_t n, cap;
} aii_file_set;
/* Takes the file over, also on failure. */
aiinfra_status aii_file_set_add(aii_file_set *files, aii_file file, aiinfra_error *err);
void aii_file_set_free(aii_file_set *files);
/* Gives the pages of n bytes at p back, when they lie in one of the files: they are read again if they are touched. */
void aii_file_set_forget(const aii_file_set *files, const void *p, size_t n);

/* ---- where elements come from (gather.c) -------------------------------------------------------------------------- */

/* A strided view of numbers in memory: element (i3, i2, i1, i0) lies at sum i * stride; i0 runs fastest. */
typedef struct aii_view {
  const uint8_t *data;
  uint32_t type; /* F32, F16, BF16 or F64 */
  uint64_t n[4], stride[4];
} aii_view;

enum { AII_VIEW_DIMS = 4 };

/* How a tensor of another format becomes one of GGUF: its elements are those of `n` views of equal size, one behind the
 * other, each number plus `add`. With `mxfp4` the views are pairs of bytes: nibbles and scales, to be interleaved. */
typedef struct aii_gather {
  size_t first, n; /* into aii_gguf.views */
  float add;
  bool mxfp4;
} aii_gather;

/* The data of a tensor that no file holds as it is. */
typedef struct aii_made {
  void *data; /* aligned; NULL: lies in a file */
  size_t bytes;
} aii_made;

/* ---- the directory (gguf.c) ---------------------------------------------------------------------------------------- */

struct aii_gguf {
  aii_mem *mem;
  const char *format;   /* "GGUF", "Hugging Face", "llama2.c" */
  const uint8_t *bytes; /* the whole file, or the header that was written in its place */
  size_t size;
  aii_file_set files; /* all that is mapped */
  aii_buf header;     /* of formats other than GGUF: what bytes points to */
  aii_view *views;    /* of formats other than GGUF: of all gathers */
  size_t n_views, cap_views;
  aii_gather *gathers; /* one a tensor; none: every tensor lies in a file as it is */
  size_t n_gathers, cap_gathers;
  aii_buf numbers; /* floats that were computed, for views to point to */
  aii_made *made;  /* [n_tensors] by aii_gguf_load(); NULL: nothing was */
  uint32_t version;
  uint64_t alignment;
  size_t data_start, data_size; /* the section that tensor offsets count from */
  aii_gguf_kv *kvs;
  size_t n_kv;
  aii_gguf_tensor *tensors;
  size_t n_tensors;
  aii_map keys, names; /* to indexes of kvs and tensors */
  aii_vocab *vocab;    /* of formats other than GGUF, until the model takes it; NULL: the keys hold it */
};

aii_gguf *aii_gguf_new(aii_mem *mem, const char *format); /* empty; NULL: no memory */

/* Reads and validates the directory of gguf->bytes. With gathers the tensors have no data in `bytes`, and none is
 * looked for. On failure the caller frees what was made so far. */
aiinfra_status aii_gguf_parse(aii_gguf *gguf, aiinfra_error *err);

/* Adds the tensors of the other parts of a split file, which lie beside `path`; nothing to do for a whole file
 * (gguf_split.c). */
aiinfra_status aii_gguf_join(aii_gguf *gguf, const char *path, aiinfra_error *err);

/* The address of a tensor that lies in a file as it is; NULL: it has to be made (gather.c). */
const uint8_t *aii_gather_in_place(const aii_gguf *gguf, size_t t);

/* Bytes of all files. */
uint64_t aii_gguf_file_bytes(const aii_gguf *gguf);

/* Reads elements [first, first + n) of tensor t as floats, or as stored in its type (whole blocks). Any tensor, with or
 * without data; only readable types as floats (gather.c). */
bool aii_gguf_readable(uint32_t type);
void aii_gguf_read_f32(const aii_gguf *gguf, size_t t, uint64_t first, uint64_t n, float *out);
void aii_gguf_read_raw(const aii_gguf *gguf, size_t t, uint64_t first, uint64_t n, void *out);

/* ---- building one (gguf_write.c) ------------------------------------------------------------------------------------ */

/* Collects keys and tensor infos. Failed allocations are sticky; aii_put_finish() tells. */
typedef struct aii_gguf_writer {
  aii_buf kvs, infos;
  uint64_t n_kv, n_tensors, offset;
} aii_gguf_writer;

enum { AII_GGUF_ALIGNMENT = 32 };

void aii_put_init(aii_gguf_writer *w, aii_mem *mem);
void aii_put_free(aii_gguf_writer *w);
void aii_put_u32(aii_gguf_writer *w, const char *key, uint32_t value);
void aii_put_f32(aii_gguf_writer *w, const char *key, float value);
void aii_put_bool(aii_gguf_writer *w, const char *key, bool value);
void aii_put_str(aii_gguf_writer *w, const char *key, aii_str value);
/* Begins an array; its elements follow by aii_put_elem_...() */
void aii_put_array(aii_gguf_writer *w, const char *key, aii_gguf_type type, uint64_t count);
void aii_put_elem_u32(aii_gguf_writer *w, uint32_t value);
void aii_put_elem_f32(aii_gguf_writer *w, float value);
void aii_put_elem_bool(aii_gguf_writer *w, bool value);
void aii_put_elem_str(aii_gguf_writer *w, aii_str value);
void aii_put_elem_bytes(aii_gguf_writer *w, uint64_t n);    /* a text of n bytes, which the caller adds to w->kvs */
void aii_put_kv(aii_gguf_writer *w, const aii_gguf_kv *kv); /* a copy */
/* Places a tensor behind the last one. */
void aii_put_tensor(aii_gguf_writer *w, aii_str name, uint32_t type, uint32_t n_dims, const uint64_t *ne,
                    uint64_t bytes);
/* The whole header with its padding; ENOMEM when anything failed. */
aiinfra_status aii_put_finish(const aii_gguf_writer *w, aii_buf *out, aiinfra_error *err);

/* The keys of a vocabulary (vocab.c). ENOTSUP when a GGUF file cannot hold it: then only the kind is put. */
aiinfra_status aii_gguf_put_vocab(aii_mem *mem, const aii_vocab *vocab, aii_gguf_writer *w, aiinfra_error *err);

/* Makes gguf's directory from what was put; its gathers and views were filled before, one gather a tensor. */
aiinfra_status aii_gguf_adopt(aii_gguf *gguf, const aii_gguf_writer *w, aiinfra_error *err);

/* ---- formats --------------------------------------------------------------------------------------------------------- */

/* Opens what the path names: a GGUF file or the first part of a split one, a Hugging Face folder or one of its files, a
 * llama2.c checkpoint (source.c). `tokenizer` may name the checkpoint's tokenizer; NULL: it is looked for beside it. */
aiinfra_status aii_source_open(aii_mem *mem, const char *path, const char *tokenizer, aii_gguf **out,
                               aiinfra_error *err);
aiinfra_status aii_hf_open(aii_mem *mem, const char *folder, aii_gguf **out, aiinfra_error *err);
aiinfra_status aii_llama2c_open(aii_mem *mem, const char *path, const char *tokenizer, aii_gguf **out,
                                aiinfra_error *err);

/* A tensor type by its GGUF id, also those that cannot be computed with; NULL: there is none. */
const aii_dtype_traits *aii_gguf_type_info(uint32_t type);

/* Element i of scalars of `type` at data; false when it is no such number. Floats do not become integers. */
bool aii_gguf_elem_i64(aii_gguf_type type, const uint8_t *data, uint64_t i, int64_t *out);
bool aii_gguf_elem_f64(aii_gguf_type type, const uint8_t *data, uint64_t i, double *out);
/* The string at *at, which moves behind it. */
aii_str aii_gguf_next_str(const uint8_t **at);

/* Little-endian loads from any address. */
static inline uint16_t aii_load16(const uint8_t *p)
{
  return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t aii_load32(const uint8_t *p)
{
  return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t aii_load64(const uint8_t *p)
{
  return (uint64_t)aii_load32(p) | (uint64_t)aii_load32(p + 4) << 32;
}

/* For "%.*s" in messages: at most 96 bytes, cut between characters. */
static inline int aii_shown(aii_str s)
{
  size_t n = s.n < 96 ? s.n : 96;
  while (n > 0 && n < s.n && ((unsigned char)s.p[n] & 0xC0) == 0x80) n--;
  return (int)n;
}
#define AII_SHOW(s) aii_shown(s), (s).p

#endif
