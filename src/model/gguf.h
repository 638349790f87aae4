/* src/model/gguf.h - the parts of the GGUF reader that its own files share: the opened file and its value readers.
 *
 * Private to src/model. Everything here works on a directory that was validated, except aii_gguf_parse(), which is
 * what validates it.
 */
#ifndef AII_MODEL_GGUF_H
#define AII_MODEL_GGUF_H

#include "lib/data/data.h"
#include "src/model/model.h"

struct aii_gguf {
  aii_mem *mem;
  const uint8_t *bytes; /* the whole file */
  size_t size;
  bool mapped; /* by us; else borrowed */
  uint32_t version;
  uint64_t alignment;
  size_t data_start, data_size; /* the section that tensor offsets count from */
  aii_gguf_kv *kvs;
  size_t n_kv;
  aii_gguf_tensor *tensors;
  size_t n_tensors;
  aii_map keys, names; /* to indexes of kvs and tensors */
};

/* Reads and validates the directory of gguf->bytes. On failure the caller frees what was made so far. */
aiinfra_status aii_gguf_parse(aii_gguf *gguf, aiinfra_error *err);

/* A tensor type by its GGUF id, also those that cannot be computed with; NULL: there is none. */
const aii_dtype_traits *aii_gguf_type_info(uint32_t type);

/* Element i of scalars of `type` at data; false when it is no such number. Floats do not become integers. */
bool aii_gguf_elem_i64(aii_gguf_type type, const uint8_t *data, uint64_t i, int64_t *out);
bool aii_gguf_elem_f64(aii_gguf_type type, const uint8_t *data, uint64_t i, double *out);
/* The string at *at, which moves behind it. */
aii_str aii_gguf_next_str(const uint8_t **at);

/* Little-endian loads from any address. */
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
