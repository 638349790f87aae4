/* gguf_parse.c - validates the directory of a GGUF file: header, keys and values, tensor infos.
 *
 * The happy path is: header -> key/value pairs -> tensor infos -> start of the data section -> each tensor's bytes lie
 * inside it and no two overlap. Nothing is believed: counts are held against the bytes that remain before anything is
 * allocated, lengths before anything is read, products before they are formed. What is refused:
 *   EFORMAT  the file contradicts itself or its own size: cut short, overlapping, duplicate, out of range
 *   ENOTSUP  GGUF version 1 or above 3, a big-endian file, a tensor type of another version
 *   ENOMEM   the index of keys and tensors does not fit into memory
 * Offsets need not be consecutive, tensors may come in any order, and bytes behind the last tensor are ignored.
 */
#include "src/model/gguf.h"

/* The least bytes that a key/value pair and a tensor info take: they bound the counts in the header. */
enum { MIN_KV_BYTES = 8 + 1 + 4, MIN_TENSOR_BYTES = 8 + 4 + 8 + 4, HEADER_BYTES = 24 };
enum { MAX_NAME_BYTES = 4096 }; /* ggml ends at 63; longer is odd but harmless */

typedef struct cursor {
  const uint8_t *at, *end;
} cursor;

static size_t left(const cursor *c)
{
  return (size_t)(c->end - c->at);
}

static aiinfra_status cut_short(const char *what, aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_EFORMAT, "the file ends inside %s; it is cut short: download it again", what);
}

/* Takes n bytes; NULL when the file ends before. */
static const uint8_t *take(cursor *c, uint64_t n)
{
  if (n > left(c)) return NULL;
  const uint8_t *at = c->at;
  c->at += n;
  return at;
}

static bool take32(cursor *c, uint32_t *out)
{
  const uint8_t *p = take(c, 4);
  if (p != NULL) *out = aii_load32(p);
  return p != NULL;
}

static bool take64(cursor *c, uint64_t *out)
{
  const uint8_t *p = take(c, 8);
  if (p != NULL) *out = aii_load64(p);
  return p != NULL;
}

/* A key or a tensor's name: not empty, UTF-8, no NUL. */
static aiinfra_status take_name(cursor *c, const char *what, aii_str *out, aiinfra_error *err)
{
  uint64_t n;
  if (!take64(c, &n)) return cut_short(what, err);
  const uint8_t *p = take(c, n);
  if (p == NULL) {
    return aii_fail(err, AIINFRA_EFORMAT, "%s has a length of %llu bytes, more than the file has left", what,
                    (unsigned long long)n);
  }
  *out = (aii_str){(const char *)p, (size_t)n};
  if (n == 0) return aii_fail(err, AIINFRA_EFORMAT, "%s is empty", what);
  if (n > MAX_NAME_BYTES) {
    return aii_fail(err, AIINFRA_EFORMAT, "%s has %llu bytes; at most %d are allowed", what, (unsigned long long)n,
                    MAX_NAME_BYTES);
  }
  if (memchr(p, 0, (size_t)n) != NULL || !aii_utf8_valid(out->p, out->n)) {
    return aii_fail(err, AIINFRA_EFORMAT, "%s is not plain UTF-8 text", what);
  }
  return AIINFRA_OK;
}

/* ---- header -------------------------------------------------------------------------------------------------- */

static aiinfra_status check_version(uint32_t version, aiinfra_error *err)
{
  if (version == 2 || version == 3) return AIINFRA_OK;
  if (version != 0 && (version & 0xFFFF) == 0) {
    return aii_fail(err, AIINFRA_ENOTSUP, "this is a big-endian GGUF file; convert it to little-endian");
  }
  return aii_fail(err, AIINFRA_ENOTSUP, "GGUF version %u; this library reads versions 2 and 3", version);
}

static aiinfra_status read_header(aii_gguf *g, cursor *c, uint64_t *n_tensors, uint64_t *n_kv, aiinfra_error *err)
{
  if (g->size >= 4 && memcmp(g->bytes, "FUGG", 4) == 0) {
    return aii_fail(err, AIINFRA_ENOTSUP, "the magic is byte-swapped; this is no little-endian GGUF file");
  }
  if (g->size < 4 || memcmp(g->bytes, "GGUF", 4) != 0) {
    return aii_fail(err, AIINFRA_EFORMAT, "not a GGUF file: it does not begin with the letters GGUF");
  }
  if (g->size < 8) return cut_short("the header", err);
  g->version = aii_load32(g->bytes + 4);
  aiinfra_status rc = check_version(g->version, err);
  if (rc != AIINFRA_OK) return rc;
  if (g->size < HEADER_BYTES) return cut_short("the header", err);
  c->at += 8;
  (void)take64(c, n_tensors);
  (void)take64(c, n_kv);
  if (*n_kv > left(c) / MIN_KV_BYTES || *n_tensors > left(c) / MIN_TENSOR_BYTES ||
      *n_kv * MIN_KV_BYTES + *n_tensors * MIN_TENSOR_BYTES > left(c) || *n_kv >= UINT32_MAX ||
      *n_tensors >= UINT32_MAX) {
    return aii_fail(
        err, AIINFRA_EFORMAT,
        "the header declares %llu keys and %llu tensors, more than a file of %zu bytes can hold; it is cut short or "
        "damaged: download it again",
        (unsigned long long)*n_kv, (unsigned long long)*n_tensors, g->size);
  }
  return AIINFRA_OK;
}

/* ---- keys and values ----------------------------------------------------------------------------------------- */

/* Bytes of a scalar; 0 for strings and arrays, -1 for a type that does not exist. */
static int scalar_bytes(uint32_t type)
{
  static const int8_t bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return type < AII_COUNT(bytes) ? bytes[type] : -1;
}

static aiinfra_status skip_strings(cursor *c, aii_str key, uint64_t count, aiinfra_error *err)
{
  for (uint64_t i = 0; i < count; i++) {
    uint64_t n;
    if (!take64(c, &n) || take(c, n) == NULL) {
      return aii_fail(err, AIINFRA_EFORMAT, "key '%.*s': string %llu is longer than what the file has left",
                      AII_SHOW(key), (unsigned long long)i);
    }
  }
  return AIINFRA_OK;
}

static aiinfra_status read_array(cursor *c, aii_gguf_kv *kv, aiinfra_error *err)
{
  uint32_t type;
  if (!take32(c, &type) || !take64(c, &kv->count)) return cut_short("an array", err);
  int bytes = scalar_bytes(type);
  if (bytes < 0 || type == AII_GGUF_ARRAY) {
    return aii_fail(err, AIINFRA_EFORMAT, "key '%.*s': an array of %s is not allowed", AII_SHOW(kv->key),
                    bytes < 0 ? "an unknown type" : "arrays");
  }
  size_t least = bytes > 0 ? (size_t)bytes : 8;
  if (kv->count > left(c) / least) {
    return aii_fail(err, AIINFRA_EFORMAT, "key '%.*s': an array of %llu elements is larger than the rest of the file",
                    AII_SHOW(kv->key), (unsigned long long)kv->count);
  }
  kv->elem_type = (aii_gguf_type)type;
  kv->data = c->at;
  if (bytes == 0) return skip_strings(c, kv->key, kv->count, err);
  c->at += kv->count * (uint64_t)bytes;
  return AIINFRA_OK;
}

static aiinfra_status read_value(cursor *c, aii_gguf_kv *kv, aiinfra_error *err)
{
  uint32_t type;
  if (!take32(c, &type)) return cut_short("a value", err);
  int bytes = scalar_bytes(type);
  if (bytes < 0) {
    return aii_fail(err, AIINFRA_EFORMAT, "key '%.*s': value type %u does not exist", AII_SHOW(kv->key), type);
  }
  kv->type = (aii_gguf_type)type;
  kv->count = 1;
  if (type == AII_GGUF_ARRAY) return read_array(c, kv, err);
  kv->data = c->at;
  if (type == AII_GGUF_STRING) return skip_strings(c, kv->key, 1, err);
  return take(c, (uint64_t)bytes) != NULL ? AIINFRA_OK : cut_short("a value", err);
}

static aiinfra_status read_kvs(aii_gguf *g, cursor *c, size_t n, aiinfra_error *err)
{
  if (n == 0) return AIINFRA_OK;
  g->kvs = aii_new_array(g->mem, n, sizeof g->kvs[0]);
  if (g->kvs == NULL || !aii_map_reserve(&g->keys, n)) {
    if (g->kvs != NULL) g->n_kv = n;
    return aii_fail(err, AIINFRA_ENOMEM, "no memory for an index of %zu keys", n);
  }
  g->n_kv = n;
  uint32_t seen;
  for (size_t i = 0; i < n; i++) {
    aii_gguf_kv *kv = &g->kvs[i];
    aiinfra_status rc = take_name(c, "a key", &kv->key, err);
    if (rc == AIINFRA_OK) rc = read_value(c, kv, err);
    if (rc != AIINFRA_OK) return rc;
    kv->bytes = (size_t)(c->at - kv->data);
    if (aii_map_get(&g->keys, kv->key.p, kv->key.n, &seen)) {
      return aii_fail(err, AIINFRA_EFORMAT, "key '%.*s' appears twice", AII_SHOW(kv->key));
    }
    if (!aii_map_set(&g->keys, kv->key.p, kv->key.n, (uint32_t)i)) {
      return aii_fail(err, AIINFRA_ENOMEM, "no memory for an index of %zu keys", n);
    }
  }
  return AIINFRA_OK;
}

/* ---- tensors ------------------------------------------------------------------------------------------------- */

/* Fills ne and the number of elements, which is below 2^63. */
static aiinfra_status read_dims(cursor *c, aii_gguf_tensor *t, uint64_t *n_elems, aiinfra_error *err)
{
  if (!take32(c, &t->n_dims)) return cut_short("a tensor info", err);
  if (t->n_dims < 1 || t->n_dims > 4) {
    return aii_fail(err, AIINFRA_EFORMAT, "tensor '%.*s': %u dimensions; 1 to 4 are allowed", AII_SHOW(t->name),
                    t->n_dims);
  }
  *n_elems = 1;
  for (uint32_t d = 0; d < 4; d++) {
    t->ne[d] = 1;
    if (d >= t->n_dims) continue;
    if (!take64(c, &t->ne[d])) return cut_short("a tensor info", err);
    if (t->ne[d] == 0 || __builtin_mul_overflow(*n_elems, t->ne[d], n_elems) || *n_elems > INT64_MAX) {
      return aii_fail(err, AIINFRA_EFORMAT, "tensor '%.*s': dimension %u is %llu: its size is zero or overflows",
                      AII_SHOW(t->name), d, (unsigned long long)t->ne[d]);
    }
  }
  return AIINFRA_OK;
}

static aiinfra_status read_layout(aii_gguf_tensor *t, uint64_t n_elems, aiinfra_error *err)
{
  const aii_dtype_traits *traits = aii_gguf_type_info(t->type);
  if (traits == NULL) {
    return aii_fail(err, AIINFRA_ENOTSUP, "tensor '%.*s': tensor type %u is not known to this version",
                    AII_SHOW(t->name), t->type);
  }
  if (t->ne[0] % traits->block != 0) {
    return aii_fail(err, AIINFRA_EFORMAT, "tensor '%.*s': rows of %llu elements, but %s comes in blocks of %u",
                    AII_SHOW(t->name), (unsigned long long)t->ne[0], traits->name, traits->block);
  }
  if (__builtin_mul_overflow(n_elems / traits->block, (uint64_t)traits->block_bytes, &t->bytes)) {
    return aii_fail(err, AIINFRA_EFORMAT, "tensor '%.*s': its size in bytes overflows", AII_SHOW(t->name));
  }
  return AIINFRA_OK;
}

/* What follows *offset is checked when the start of the data section is known. */
static aiinfra_status read_tensor(cursor *c, aii_gguf_tensor *t, uint64_t *offset, aiinfra_error *err)
{
  uint64_t n_elems = 0;
  aiinfra_status rc = take_name(c, "a tensor's name", &t->name, err);
  if (rc == AIINFRA_OK) rc = read_dims(c, t, &n_elems, err);
  if (rc != AIINFRA_OK) return rc;
  if (!take32(c, &t->type) || !take64(c, offset)) return cut_short("a tensor info", err);
  return read_layout(t, n_elems, err);
}

static aiinfra_status read_tensors(aii_gguf *g, cursor *c, size_t n, uint64_t *offsets, aiinfra_error *err)
{
  uint32_t seen;
  for (size_t i = 0; i < n; i++) {
    aii_gguf_tensor *t = &g->tensors[i];
    aiinfra_status rc = read_tensor(c, t, &offsets[i], err);
    if (rc != AIINFRA_OK) return rc;
    if (aii_map_get(&g->names, t->name.p, t->name.n, &seen)) {
      return aii_fail(err, AIINFRA_EFORMAT, "tensor '%.*s' appears twice", AII_SHOW(t->name));
    }
    if (!aii_map_set(&g->names, t->name.p, t->name.n, (uint32_t)i)) {
      return aii_fail(err, AIINFRA_ENOMEM, "no memory for an index of %zu tensors", n);
    }
  }
  return AIINFRA_OK;
}

/* ---- the data section ---------------------------------------------------------------------------------------- */

static aiinfra_status find_data(aii_gguf *g, const cursor *c, aiinfra_error *err)
{
  const aii_gguf_kv *kv = aii_gguf_find(g, "general.alignment");
  uint32_t alignment = 32;
  if (kv != NULL && !aii_gguf_get_u32(g, "general.alignment", &alignment)) {
    return aii_fail(err, AIINFRA_EFORMAT, "key 'general.alignment' is no 32-bit number");
  }
  if (alignment < 8 || (alignment & (alignment - 1)) != 0) {
    return aii_fail(err, AIINFRA_EFORMAT, "key 'general.alignment' is %u; it must be a power of two from 8 up",
                    alignment);
  }
  g->alignment = alignment;
  size_t end = g->size - left(c), start;
  if (!aii_size_add(end, alignment - 1, &start)) return cut_short("the data section", err);
  g->data_start = start & ~(size_t)(alignment - 1);
  g->data_size = g->data_start < g->size ? g->size - g->data_start : 0;
  return AIINFRA_OK;
}

static aiinfra_status place_tensors(aii_gguf *g, const uint64_t *offsets, aiinfra_error *err)
{
  for (size_t i = 0; i < g->n_tensors; i++) {
    aii_gguf_tensor *t = &g->tensors[i];
    if (offsets[i] % g->alignment != 0) {
      return aii_fail(err, AIINFRA_EFORMAT, "tensor '%.*s': offset %llu is not a multiple of the alignment %llu",
                      AII_SHOW(t->name), (unsigned long long)offsets[i], (unsigned long long)g->alignment);
    }
    if (offsets[i] > g->data_size || t->bytes > g->data_size - offsets[i]) {
      return aii_fail(err, AIINFRA_EFORMAT,
                      "tensor '%.*s': offset %llu + %llu bytes lies outside the data section of %zu bytes; the file "
                      "is cut short: download it again",
                      AII_SHOW(t->name), (unsigned long long)offsets[i], (unsigned long long)t->bytes, g->data_size);
    }
    t->data = g->bytes + g->data_start + offsets[i];
  }
  return AIINFRA_OK;
}

static bool starts_before(const void *a, const void *b)
{
  const aii_gguf_tensor *const *x = a, *const *y = b;
  return (*x)->data < (*y)->data;
}

static aiinfra_status overlap(const aii_gguf_tensor *a, const aii_gguf_tensor *b, aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_EFORMAT, "tensors '%.*s' and '%.*s' overlap", AII_SHOW(a->name), AII_SHOW(b->name));
}

/* Files list their tensors by offset as a rule; only others need sorting. */
static aiinfra_status check_overlap(aii_gguf *g, aiinfra_error *err)
{
  size_t i = 1;
  while (i < g->n_tensors && g->tensors[i - 1].data + g->tensors[i - 1].bytes <= g->tensors[i].data) i++;
  if (i >= g->n_tensors) return AIINFRA_OK;

  aii_heap heap;
  aiinfra_status rc = AIINFRA_OK;
  aii_heap_init(&heap, g->mem, sizeof(aii_gguf_tensor *), starts_before);
  for (i = 0; i < g->n_tensors && rc == AIINFRA_OK; i++) {
    const aii_gguf_tensor *t = &g->tensors[i];
    if (!aii_heap_push(&heap, &t)) rc = aii_fail(err, AIINFRA_ENOMEM, "no memory to sort %zu tensors", g->n_tensors);
  }
  const aii_gguf_tensor *last = NULL, *next;
  while (rc == AIINFRA_OK && aii_heap_pop(&heap, &next)) {
    if (last != NULL && last->data + last->bytes > next->data) rc = overlap(last, next, err);
    last = next;
  }
  aii_heap_free(&heap);
  return rc;
}

static aiinfra_status parse_tensors(aii_gguf *g, cursor *c, size_t n, aiinfra_error *err)
{
  if (n == 0) return find_data(g, c, err);
  uint64_t *offsets = aii_new_array(g->mem, n, sizeof offsets[0]);
  g->tensors = aii_new_array(g->mem, n, sizeof g->tensors[0]);
  g->n_tensors = g->tensors != NULL ? n : 0;
  aiinfra_status rc = AIINFRA_OK;
  if (offsets == NULL || g->tensors == NULL || !aii_map_reserve(&g->names, n)) {
    rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for an index of %zu tensors", n);
  }
  if (rc == AIINFRA_OK) rc = read_tensors(g, c, n, offsets, err);
  if (rc == AIINFRA_OK) rc = find_data(g, c, err);
  if (rc == AIINFRA_OK && g->n_gathers == 0) rc = place_tensors(g, offsets, err);
  if (rc == AIINFRA_OK && g->n_gathers == 0) rc = check_overlap(g, err);
  aii_del(g->mem, offsets, n * sizeof offsets[0]);
  return rc;
}

aiinfra_status aii_gguf_parse(aii_gguf *g, aiinfra_error *err)
{
  cursor c = {g->bytes, g->bytes + g->size};
  uint64_t n_tensors = 0, n_kv = 0;
  aiinfra_status rc = read_header(g, &c, &n_tensors, &n_kv, err);
  if (rc == AIINFRA_OK) rc = read_kvs(g, &c, (size_t)n_kv, err);
  if (rc == AIINFRA_OK) rc = parse_tensors(g, &c, (size_t)n_tensors, err);
  return rc;
}
