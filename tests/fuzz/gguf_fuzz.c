/* gguf_fuzz.c - any bytes as a GGUF file: refused, or every key and tensor can be read, and a model loads or is refused.
 *
 * The file is taken from memory, first by the reader alone, then by everything that opening a model does. */
#include <stdlib.h>

#include "src/model/arch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile unsigned sink;

static void read_all(const aii_gguf *g)
{
  unsigned sum = 0;
  for (size_t i = 0; i < aii_gguf_n_kv(g); i++) {
    const aii_gguf_kv *kv = aii_gguf_kv_at(g, i);
    const uint8_t *at = kv->data;
    aii_gguf_type type = kv->type == AII_GGUF_ARRAY ? kv->elem_type : kv->type;
    for (uint64_t e = 0; e < kv->count; e++) {
      int64_t value;
      double number;
      if (type == AII_GGUF_STRING) {
        aii_str s = aii_gguf_next_str(&at);
        for (size_t b = 0; b < s.n; b++) sum += (unsigned char)s.p[b];
      } else if (aii_gguf_elem_i64(type, kv->data, e, &value) || aii_gguf_elem_f64(type, kv->data, e, &number)) {
        sum++;
      }
    }
  }
  for (size_t i = 0; i < aii_gguf_n_tensors(g); i++) {
    const aii_gguf_tensor *t = aii_gguf_tensor_at(g, i);
    for (uint64_t b = 0; b < t->bytes; b++) sum += t->data[b];
  }
  sink = sum;
}

static void try_model(aiinfra_runtime *rt, aii_gguf *g, int32_t vocab_only)
{
  aiinfra_model_opts opts = AIINFRA_MODEL_OPTS_INIT;
  aiinfra_model *model = NULL;
  aiinfra_error err;
  aii_buf text;
  opts.vocab_only = vocab_only;
  if (aii_model_load(rt, g, "fuzz", &opts, &model, &err) != AIINFRA_OK) return;
  aii_buf_init(&text, &rt->mem, 0);
  aii_model_describe(model, &text);
  aii_buf_free(&text);
  aiinfra_model_free(model);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static aiinfra_runtime *rt;
  aiinfra_error err;
  aii_gguf *g;
  if (rt == NULL && aiinfra_runtime_create(NULL, &rt, &err) != AIINFRA_OK) return 0;
  for (int32_t vocab_only = 0; vocab_only < 2; vocab_only++) {
    if (aii_gguf_from_memory(&rt->mem, data, size, &g, &err) != AIINFRA_OK) return 0;
    if (vocab_only == 0) read_all(g);
    try_model(rt, g, vocab_only);
  }
  return 0;
}
