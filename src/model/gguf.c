/* gguf.c - opens GGUF files: maps them, hands them to the parser, answers look-ups by key and by tensor name.
 *
 * A file is mapped private and read-only and locked against nothing; the descriptor is closed at once. What the
 * mapping cannot guard against: somebody who cuts the file short while it is open. Touching a page that is gone kills
 * the process with SIGBUS, and a library must not handle signals. Replace model files by renaming a new one over
 * them; that leaves the mapping as it was.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/model/gguf.h"

/* Every tensor type of GGUF by its id: name, elements and bytes of a block. Those that cannot be computed with are here
 * too, so that any file can be inspected. */
const aii_dtype_traits *aii_gguf_type_info(uint32_t type)
{
  static const aii_dtype_traits types[] = {
      [0] = {"F32", 1, 4},         [1] = {"F16", 1, 2},         [2] = {"Q4_0", 32, 18},      [3] = {"Q4_1", 32, 20},
      [6] = {"Q5_0", 32, 22},      [7] = {"Q5_1", 32, 24},      [8] = {"Q8_0", 32, 34},      [9] = {"Q8_1", 32, 36},
      [10] = {"Q2_K", 256, 84},    [11] = {"Q3_K", 256, 110},   [12] = {"Q4_K", 256, 144},   [13] = {"Q5_K", 256, 176},
      [14] = {"Q6_K", 256, 210},   [15] = {"Q8_K", 256, 292},   [16] = {"IQ2_XXS", 256, 66}, [17] = {"IQ2_XS", 256, 74},
      [18] = {"IQ3_XXS", 256, 98}, [19] = {"IQ1_S", 256, 50},   [20] = {"IQ4_NL", 32, 18},   [21] = {"IQ3_S", 256, 110},
      [22] = {"IQ2_S", 256, 82},   [23] = {"IQ4_XS", 256, 136}, [24] = {"I8", 1, 1},         [25] = {"I16", 1, 2},
      [26] = {"I32", 1, 4},        [27] = {"I64", 1, 8},        [28] = {"F64", 1, 8},        [29] = {"IQ1_M", 256, 56},
      [30] = {"BF16", 1, 2},       [34] = {"TQ1_0", 256, 54},   [35] = {"TQ2_0", 256, 66},   [39] = {"MXFP4", 32, 17},
      [40] = {"NVFP4", 64, 36},    [41] = {"Q1_0", 128, 18},    [42] = {"Q2_0", 64, 18},
  };
  return type < AII_COUNT(types) && types[type].name != NULL ? &types[type] : NULL;
}

/* ---- open and close ------------------------------------------------------------------------------------------ */

static aii_gguf *new_gguf(aii_mem *mem, const void *bytes, size_t size, bool mapped)
{
  aii_gguf *g = aii_new(mem, sizeof *g);
  if (g == NULL) return NULL;
  g->mem = mem;
  g->bytes = bytes;
  g->size = size;
  g->mapped = mapped;
  aii_map_init(&g->keys, mem);
  aii_map_init(&g->names, mem);
  return g;
}

void aii_gguf_free(aii_gguf *g)
{
  if (g == NULL) return;
  aii_map_free(&g->keys);
  aii_map_free(&g->names);
  aii_del(g->mem, g->kvs, g->n_kv * sizeof g->kvs[0]);
  aii_del(g->mem, g->tensors, g->n_tensors * sizeof g->tensors[0]);
  if (g->mapped) (void)munmap((void *)(uintptr_t)g->bytes, g->size);
  aii_del(g->mem, g, sizeof *g);
}

static aiinfra_status parse_or_free(aii_gguf *g, aii_gguf **out, aiinfra_error *err)
{
  aiinfra_status rc = aii_gguf_parse(g, err);
  if (rc == AIINFRA_OK) {
    *out = g;
  } else {
    aii_gguf_free(g);
  }
  return rc;
}

aiinfra_status aii_gguf_from_memory(aii_mem *mem, const void *bytes, size_t n, aii_gguf **out, aiinfra_error *err)
{
  *out = NULL;
  aii_gguf *g = new_gguf(mem, bytes, n, false);
  if (g == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a GGUF file");
  return parse_or_free(g, out, err);
}

static aiinfra_status map_file(int fd, void **bytes, size_t *size, aiinfra_error *err)
{
  struct stat st;
  if (fstat(fd, &st) != 0) return aii_fail_errno(err, errno, "look at the file");
  if (!S_ISREG(st.st_mode)) return aii_fail(err, AIINFRA_EINVAL, "not a regular file");
  if (st.st_size <= 0) return aii_fail(err, AIINFRA_EFORMAT, "the file is empty: download it again");
  *size = (size_t)st.st_size;
  *bytes = mmap(NULL, *size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (*bytes == MAP_FAILED) return aii_fail_errno(err, errno, "map %zu bytes", *size);
  return AIINFRA_OK;
}

aiinfra_status aii_gguf_open(aii_mem *mem, const char *path, aii_gguf **out, aiinfra_error *err)
{
  *out = NULL;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return aii_fail_errno(err, errno, "open '%s'", path);
  void *bytes = NULL;
  size_t size = 0;
  aiinfra_status rc = map_file(fd, &bytes, &size, err);
  (void)close(fd);
  if (rc != AIINFRA_OK) return aii_wrap(err, rc, "open '%s'", path);

  aii_gguf *g = new_gguf(mem, bytes, size, true);
  if (g == NULL) {
    (void)munmap(bytes, size);
    return aii_fail(err, AIINFRA_ENOMEM, "open '%s': out of memory", path);
  }
  rc = parse_or_free(g, out, err);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "open '%s'", path);
}

/* ---- look-ups ------------------------------------------------------------------------------------------------ */

size_t aii_gguf_n_kv(const aii_gguf *g)
{
  return g->n_kv;
}

const aii_gguf_kv *aii_gguf_kv_at(const aii_gguf *g, size_t i)
{
  return i < g->n_kv ? &g->kvs[i] : NULL;
}

const aii_gguf_kv *aii_gguf_find(const aii_gguf *g, const char *key)
{
  uint32_t i;
  return aii_map_get(&g->keys, key, strlen(key), &i) ? &g->kvs[i] : NULL;
}

size_t aii_gguf_n_tensors(const aii_gguf *g)
{
  return g->n_tensors;
}

const aii_gguf_tensor *aii_gguf_tensor_at(const aii_gguf *g, size_t i)
{
  return i < g->n_tensors ? &g->tensors[i] : NULL;
}

const aii_gguf_tensor *aii_gguf_find_tensor(const aii_gguf *g, const char *name)
{
  uint32_t i;
  return aii_map_get(&g->names, name, strlen(name), &i) ? &g->tensors[i] : NULL;
}

/* ---- typed values -------------------------------------------------------------------------------------------- */

static int64_t load_signed(aii_gguf_type type, const uint8_t *p)
{
  switch (type) {
    case AII_GGUF_I8: return (int8_t)p[0];
    case AII_GGUF_I16: return (int16_t)(uint16_t)(p[0] | p[1] << 8);
    case AII_GGUF_I32: return (int32_t)aii_load32(p);
    default: return (int64_t)aii_load64(p);
  }
}

bool aii_gguf_elem_i64(aii_gguf_type type, const uint8_t *data, uint64_t i, int64_t *out)
{
  switch (type) {
    case AII_GGUF_U8:
    case AII_GGUF_BOOL: *out = data[i]; return true;
    case AII_GGUF_U16: *out = data[2 * i] | data[2 * i + 1] << 8; return true;
    case AII_GGUF_U32: *out = aii_load32(data + 4 * i); return true;
    case AII_GGUF_U64: *out = (int64_t)aii_load64(data + 8 * i); return *out >= 0;
    case AII_GGUF_I8: *out = load_signed(type, data + i); return true;
    case AII_GGUF_I16: *out = load_signed(type, data + 2 * i); return true;
    case AII_GGUF_I32: *out = load_signed(type, data + 4 * i); return true;
    case AII_GGUF_I64: *out = load_signed(type, data + 8 * i); return true;
    default: return false;
  }
}

bool aii_gguf_elem_f64(aii_gguf_type type, const uint8_t *data, uint64_t i, double *out)
{
  if (type == AII_GGUF_F32) {
    uint32_t bits = aii_load32(data + 4 * i);
    float value;
    memcpy(&value, &bits, sizeof value);
    *out = (double)value;
    return true;
  }
  if (type == AII_GGUF_F64) {
    uint64_t bits = aii_load64(data + 8 * i);
    memcpy(out, &bits, sizeof *out);
    return true;
  }
  int64_t value;
  if (type == AII_GGUF_BOOL || !aii_gguf_elem_i64(type, data, i, &value)) return false;
  *out = (double)value;
  return true;
}

aii_str aii_gguf_next_str(const uint8_t **at)
{
  aii_str s = {(const char *)*at + 8, (size_t)aii_load64(*at)};
  *at += 8 + s.n;
  return s;
}

bool aii_gguf_get_u32(const aii_gguf *g, const char *key, uint32_t *out)
{
  const aii_gguf_kv *kv = aii_gguf_find(g, key);
  int64_t value;
  if (kv == NULL || kv->type == AII_GGUF_BOOL || !aii_gguf_elem_i64(kv->type, kv->data, 0, &value)) return false;
  if (value < 0 || value > UINT32_MAX) return false;
  *out = (uint32_t)value;
  return true;
}

bool aii_gguf_get_f32(const aii_gguf *g, const char *key, float *out)
{
  const aii_gguf_kv *kv = aii_gguf_find(g, key);
  double value;
  if (kv == NULL || !aii_gguf_elem_f64(kv->type, kv->data, 0, &value)) return false;
  *out = (float)value;
  return true;
}

bool aii_gguf_get_bool(const aii_gguf *g, const char *key, bool *out)
{
  const aii_gguf_kv *kv = aii_gguf_find(g, key);
  if (kv == NULL || kv->type != AII_GGUF_BOOL) return false;
  *out = kv->data[0] != 0;
  return true;
}

bool aii_gguf_get_str(const aii_gguf *g, const char *key, aii_str *out)
{
  const aii_gguf_kv *kv = aii_gguf_find(g, key);
  if (kv == NULL || kv->type != AII_GGUF_STRING) return false;
  const uint8_t *at = kv->data;
  *out = aii_gguf_next_str(&at);
  return true;
}
