/* gguf_write.c - writes the header of a GGUF file, version 3: keys with their values, tensor infos, padding.
 *
 * Keys and infos are collected in two buffers, because the header begins with their numbers. A failed allocation is
 * sticky in the buffers and told once, by aii_put_finish(). Nothing here checks what it is given: the parser does.
 */
#include "src/model/gguf.h"

void aii_put_init(aii_gguf_writer *w, aii_mem *mem)
{
  memset(w, 0, sizeof *w);
  aii_buf_init(&w->kvs, mem, 0);
  aii_buf_init(&w->infos, mem, 0);
}

void aii_put_free(aii_gguf_writer *w)
{
  aii_buf_free(&w->kvs);
  aii_buf_free(&w->infos);
}

static void put32(aii_buf *out, uint32_t value)
{
  uint8_t raw[4] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16), (uint8_t)(value >> 24)};
  aii_buf_add(out, raw, sizeof raw);
}

static void put64(aii_buf *out, uint64_t value)
{
  put32(out, (uint32_t)value);
  put32(out, (uint32_t)(value >> 32));
}

static void put_text(aii_buf *out, aii_str s)
{
  put64(out, s.n);
  aii_buf_add(out, s.p, s.n);
}

/* ---- keys ---------------------------------------------------------------------------------------------------------- */

static void put_key(aii_gguf_writer *w, aii_str key, aii_gguf_type type)
{
  put_text(&w->kvs, key);
  put32(&w->kvs, (uint32_t)type);
  w->n_kv++;
}

static aii_str text_of(const char *s)
{
  return (aii_str){s, strlen(s)};
}

void aii_put_elem_u32(aii_gguf_writer *w, uint32_t value)
{
  put32(&w->kvs, value);
}

void aii_put_elem_f32(aii_gguf_writer *w, float value)
{
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  put32(&w->kvs, bits);
}

void aii_put_elem_bool(aii_gguf_writer *w, bool value)
{
  aii_buf_char(&w->kvs, value ? 1 : 0);
}

void aii_put_elem_str(aii_gguf_writer *w, aii_str value)
{
  put_text(&w->kvs, value);
}

void aii_put_elem_bytes(aii_gguf_writer *w, uint64_t n)
{
  put64(&w->kvs, n);
}

void aii_put_u32(aii_gguf_writer *w, const char *key, uint32_t value)
{
  put_key(w, text_of(key), AII_GGUF_U32);
  aii_put_elem_u32(w, value);
}

void aii_put_f32(aii_gguf_writer *w, const char *key, float value)
{
  put_key(w, text_of(key), AII_GGUF_F32);
  aii_put_elem_f32(w, value);
}

void aii_put_bool(aii_gguf_writer *w, const char *key, bool value)
{
  put_key(w, text_of(key), AII_GGUF_BOOL);
  aii_put_elem_bool(w, value);
}

void aii_put_str(aii_gguf_writer *w, const char *key, aii_str value)
{
  put_key(w, text_of(key), AII_GGUF_STRING);
  aii_put_elem_str(w, value);
}

void aii_put_array(aii_gguf_writer *w, const char *key, aii_gguf_type type, uint64_t count)
{
  put_key(w, text_of(key), AII_GGUF_ARRAY);
  put32(&w->kvs, (uint32_t)type);
  put64(&w->kvs, count);
}

void aii_put_kv(aii_gguf_writer *w, const aii_gguf_kv *kv)
{
  put_key(w, kv->key, kv->type);
  if (kv->type == AII_GGUF_ARRAY) {
    put32(&w->kvs, (uint32_t)kv->elem_type);
    put64(&w->kvs, kv->count);
  }
  aii_buf_add(&w->kvs, kv->data, kv->bytes);
}

/* ---- tensors and the whole -------------------------------------------------------------------------------------------- */

void aii_put_tensor(aii_gguf_writer *w, aii_str name, uint32_t type, uint32_t n_dims, const uint64_t *ne,
                    uint64_t bytes)
{
  put_text(&w->infos, name);
  put32(&w->infos, n_dims);
  for (uint32_t i = 0; i < n_dims; i++) put64(&w->infos, ne[i]);
  put32(&w->infos, type);
  put64(&w->infos, w->offset);
  w->offset += (bytes + AII_GGUF_ALIGNMENT - 1) / AII_GGUF_ALIGNMENT * AII_GGUF_ALIGNMENT;
  w->n_tensors++;
}

aiinfra_status aii_put_finish(const aii_gguf_writer *w, aii_buf *out, aiinfra_error *err)
{
  aii_buf_add(out, "GGUF", 4);
  put32(out, 3);
  put64(out, w->n_tensors);
  put64(out, w->n_kv);
  aii_buf_add(out, w->kvs.data, w->kvs.len);
  aii_buf_add(out, w->infos.data, w->infos.len);
  while (out->len % AII_GGUF_ALIGNMENT != 0 && !out->failed) aii_buf_char(out, 0);
  if (!out->failed && !w->kvs.failed && !w->infos.failed) return AIINFRA_OK;
  return aii_fail(err, AIINFRA_ENOMEM, "no memory for the header of a GGUF file");
}
