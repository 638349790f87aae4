/* gguf.c - opens GGUF files: maps them, hands them to the parser, answers look-ups by key and by tensor name. */
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

aii_gguf *aii_gguf_new(aii_mem *mem, const char *format)
{
  aii_gguf *g = aii_new(mem, sizeof *g);
  if (g == NULL) return NULL;
  g->mem = mem;
  g->format = format;
  g->files.mem = mem;
  aii_buf_init(&g->header, mem, 0);
  aii_buf_init(&g->numbers, mem, 0);
  aii_map_init(&g->keys, mem);
  aii_map_init(&g->names, mem);
  return g;
}

void aii_gguf_free(aii_gguf *g)
{
  if (g == NULL) return;
  aii_mem *mem = g->mem;
  for (size_t i = 0; g->made != NULL && i < g->n_tensors; i++) aii_del_aligned(mem, g->made[i].data, g->made[i].bytes);
  aii_del(mem, g->made, g->n_tensors * sizeof g->made[0]);
  aii_map_free(&g->keys);
  aii_map_free(&g->names);
  aii_del(mem, g->kvs, g->n_kv * sizeof g->kvs[0]);
  aii_del(mem, g->tensors, g->n_tensors * sizeof g->tensors[0]);
  aii_del(mem, g->views, g->cap_views * sizeof g->views[0]);
  aii_del(mem, g->gathers, g->cap_gathers * sizeof g->gathers[0]);
  aii_buf_free(&g->header);
  aii_buf_free(&g->numbers);
  aii_file_set_free(&g->files);
  aii_vocab_free(g->vocab);
  aii_del(mem, g, sizeof *g);
}

static aiinfra_status no_memory(aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_ENOMEM, "no memory for a GGUF file");
}

aiinfra_status aii_gguf_from_memory(aii_mem *mem, const void *bytes, size_t n, aii_gguf **out, aiinfra_error *err)
{
  *out = NULL;
  aii_gguf *g = aii_gguf_new(mem, "GGUF");
  if (g == NULL) return no_memory(err);
  g->bytes = bytes;
  g->size = n;
  aiinfra_status rc = aii_gguf_parse(g, err);
  if (rc == AIINFRA_OK) *out = g;
  else aii_gguf_free(g);
  return rc;
}

aiinfra_status aii_gguf_open(aii_mem *mem, const char *path, aii_gguf **out, aiinfra_error *err)
{
  aii_file file;
  *out = NULL;
  aiinfra_status rc = aii_file_map(path, &file, err);
  if (rc != AIINFRA_OK) return rc;
  aii_gguf *g = aii_gguf_new(mem, "GGUF");
  if (g == NULL) {
    aii_file_unmap(&file);
    return no_memory(err);
  }
  g->bytes = file.bytes;
  g->size = file.size;
  rc = aii_file_set_add(&g->files, file, err);
  if (rc == AIINFRA_OK) rc = aii_gguf_parse(g, err);
  if (rc == AIINFRA_OK) rc = aii_gguf_join(g, path, err);
  if (rc == AIINFRA_OK) {
    *out = g;
    return rc;
  }
  aii_gguf_free(g);
  return aii_wrap(err, rc, "open '%s'", path);
}

aiinfra_status aii_gguf_adopt(aii_gguf *g, const aii_gguf_writer *w, aiinfra_error *err)
{
  aiinfra_status rc = aii_put_finish(w, &g->header, err);
  if (rc != AIINFRA_OK) return rc;
  assert(g->n_gathers == w->n_tensors);
  g->bytes = (const uint8_t *)g->header.data;
  g->size = g->header.len;
  rc = aii_gguf_parse(g, err);
  for (size_t i = 0; rc == AIINFRA_OK && i < g->n_tensors; i++) g->tensors[i].data = aii_gather_in_place(g, i);
  return rc;
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

uint64_t aii_gguf_file_bytes(const aii_gguf *g)
{
  uint64_t bytes = g->files.n > 0 ? 0 : g->size;
  for (size_t i = 0; i < g->files.n; i++) bytes += g->files.items[i].size;
  return bytes;
}

/* ---- typed values -------------------------------------------------------------------------------------------- */

static int64_t load_signed(aii_gguf_type type, const uint8_t *p)
{
  switch (type) {
    case AII_GGUF_I8: return (int8_t)p[0];
    case AII_GGUF_I16: return (int16_t)aii_load16(p);
    case AII_GGUF_I32: return (int32_t)aii_load32(p);
    default: return (int64_t)aii_load64(p);
  }
}

bool aii_gguf_elem_i64(aii_gguf_type type, const uint8_t *data, uint64_t i, int64_t *out)
{
  switch (type) {
    case AII_GGUF_U8:
    case AII_GGUF_BOOL: *out = data[i]; return true;
    case AII_GGUF_U16: *out = aii_load16(data + 2 * i); return true;
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
