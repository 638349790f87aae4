/* describe.c - everything a file says about its model, as one JSON object, for people and tools that inspect it. */
#include <math.h>
#include <stdio.h>

#include "src/model/arch.h"

enum { SHORT_ARRAY = 16, LONG_STRING = 1 << 16, N_TYPES = 64 };

static void add_str(aii_buf *out, const char *s)
{
  aii_buf_json(out, s, strlen(s));
}

/* JSON has no NaN and no infinity. */
static void add_number(aii_buf *out, double value)
{
  if (isfinite(value)) aii_buf_double(out, value, 9);
  else aii_buf_str(out, "null");
}

static const char *type_name(aii_gguf_type type)
{
  static const char *const names[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                      "bool", "string", "array", "u64", "i64", "f64"};
  return (size_t)type < AII_COUNT(names) ? names[type] : "?";
}

static void add_string(aii_buf *out, aii_str s)
{
  if (s.n <= LONG_STRING) {
    aii_buf_json(out, s.p, s.n);
  } else {
    aii_buf_fmt(out, "{\"string_bytes\":%zu}", s.n);
  }
}

static void add_scalar(aii_buf *out, aii_gguf_type type, const uint8_t *data, uint64_t i)
{
  int64_t integer;
  double number;
  if (type == AII_GGUF_BOOL) {
    aii_buf_str(out, data[i] != 0 ? "true" : "false");
  } else if (aii_gguf_elem_i64(type, data, i, &integer)) {
    aii_buf_fmt(out, "%lld", (long long)integer);
  } else if (type == AII_GGUF_U64) {
    aii_buf_fmt(out, "%llu", (unsigned long long)aii_load64(data + 8 * i));
  } else {
    add_number(out, aii_gguf_elem_f64(type, data, i, &number) ? number : (double)NAN);
  }
}

static void add_value(aii_buf *out, const aii_gguf_kv *kv)
{
  aii_gguf_type type = kv->type == AII_GGUF_ARRAY ? kv->elem_type : kv->type;
  if (kv->type == AII_GGUF_ARRAY && kv->count > SHORT_ARRAY) {
    aii_buf_fmt(out, "{\"array_of\":\"%s\",\"length\":%llu}", type_name(type), (unsigned long long)kv->count);
    return;
  }
  const uint8_t *at = kv->data;
  if (kv->type == AII_GGUF_ARRAY) aii_buf_char(out, '[');
  for (uint64_t i = 0; i < kv->count; i++) {
    if (i > 0) aii_buf_char(out, ',');
    if (type == AII_GGUF_STRING) {
      add_string(out, aii_gguf_next_str(&at));
    } else {
      add_scalar(out, type, kv->data, i);
    }
  }
  if (kv->type == AII_GGUF_ARRAY) aii_buf_char(out, ']');
}

static void add_metadata(aii_buf *out, const aii_gguf *gguf)
{
  aii_buf_str(out, ",\"metadata\":{");
  for (size_t i = 0; i < aii_gguf_n_kv(gguf); i++) {
    const aii_gguf_kv *kv = aii_gguf_kv_at(gguf, i);
    if (i > 0) aii_buf_char(out, ',');
    aii_buf_json(out, kv->key.p, kv->key.n);
    aii_buf_char(out, ':');
    add_value(out, kv);
  }
  aii_buf_char(out, '}');
}

static void add_tensors(aii_buf *out, const aii_gguf *gguf)
{
  struct {
    uint64_t n, bytes;
  } by_type[N_TYPES] = {{0, 0}};
  uint64_t bytes = 0;
  for (size_t i = 0; i < aii_gguf_n_tensors(gguf); i++) {
    const aii_gguf_tensor *t = aii_gguf_tensor_at(gguf, i);
    by_type[t->type % N_TYPES].n++;
    by_type[t->type % N_TYPES].bytes += t->bytes;
    bytes += t->bytes;
  }
  aii_buf_fmt(out, ",\"tensors\":{\"count\":%zu,\"bytes\":%llu,\"types\":[", aii_gguf_n_tensors(gguf),
              (unsigned long long)bytes);
  bool first = true;
  for (uint32_t type = 0; type < N_TYPES; type++) {
    if (by_type[type].n == 0) continue;
    aii_buf_fmt(out, "%s{\"type\":\"%s\",\"runs\":%s,\"count\":%llu,\"bytes\":%llu}", first ? "" : ",",
                aii_gguf_type_info(type)->name, aii_dtype_info(type) != NULL ? "true" : "false",
                (unsigned long long)by_type[type].n, (unsigned long long)by_type[type].bytes);
    first = false;
  }
  aii_buf_str(out, "]}");
}

static void add_hparams(aii_buf *out, const aiinfra_model *m)
{
  const aii_hparams *hp = &m->hp;
  aii_buf_fmt(out,
              ",\"hyper_parameters\":{\"n_vocab\":%u,\"n_embd\":%u,\"n_layers\":%u,\"n_heads\":%u,\"n_kv_heads\":%u,"
              "\"head_dim\":%u,\"value_dim\":%u,\"n_ff\":%u,\"n_rot\":%u,\"context\":%u,\"window\":%u,"
              "\"n_experts\":%u,\"n_used_experts\":%u,\"norm_eps\":",
              hp->n_vocab, hp->n_embd, hp->n_layers, hp->n_heads, hp->n_kv_heads, hp->head_dim, hp->value_dim, hp->n_ff,
              hp->n_rot, hp->train_context, hp->window, hp->n_experts, hp->n_used_experts);
  add_number(out, (double)hp->norm_eps);
  aii_buf_str(out, ",\"rope_base\":");
  add_number(out, (double)hp->rope_base);
  aii_buf_str(out, ",\"rope_scale\":");
  add_number(out, hp->rope_factor > 0 ? 1 / (double)hp->rope_factor : 0);
  aii_buf_fmt(out, ",\"tied_embeddings\":%s}", m->tied ? "true" : "false");
}

static void add_tokenizer(aii_buf *out, const aiinfra_model *m)
{
  aii_str kind = {"", 0}, pre = {"", 0};
  (void)aii_gguf_get_str(m->gguf, "tokenizer.ggml.model", &kind);
  (void)aii_gguf_get_str(m->gguf, "tokenizer.ggml.pre", &pre);
  aii_buf_str(out, ",\"tokenizer\":{\"model\":");
  aii_buf_json(out, kind.p, kind.n);
  aii_buf_str(out, ",\"pre\":");
  aii_buf_json(out, pre.p, pre.n);
  aii_buf_fmt(out, ",\"n_tokens\":%u,\"bos\":%d,\"eos\":%d,\"bos_text\":", aii_vocab_size(m->vocab),
              aii_vocab_bos(m->vocab), aii_vocab_eos(m->vocab));
  add_str(out, m->bos_text);
  aii_buf_str(out, ",\"eos_text\":");
  add_str(out, m->eos_text);
  aii_buf_fmt(out, ",\"chat_template\":%s,\"chat_template_runs\":%s,\"tool_syntax\":",
              m->template_text != NULL ? "true" : "false", m->tmpl != NULL ? "true" : "false");
  if (m->syntax.format != NULL) {
    add_str(out, aii_output_format_name(m->syntax.format));
  } else {
    aii_buf_str(out, "null");
  }
  aii_buf_char(out, '}');
}

void aii_model_describe(const aiinfra_model *m, aii_buf *out)
{
  aii_str arch = {"", 0};
  (void)aii_gguf_get_str(m->gguf, "general.architecture", &arch);
  aii_buf_str(out, "{\"name\":");
  add_str(out, m->name);
  aii_buf_fmt(out, ",\"format\":\"%s\",\"format_version\":%u,\"file_bytes\":%llu,\"architecture\":", m->gguf->format,
              m->gguf->version, (unsigned long long)aii_gguf_file_bytes(m->gguf));
  aii_buf_json(out, arch.p, arch.n);
  aii_buf_fmt(out,
              ",\"architecture_runs\":%s,\"vocab_only\":%s,\"n_params\":%llu,\"weight_bytes\":%llu,\"max_context\":%u"
              ",\"bf16_activations\":%s",
              m->arch != NULL ? "true" : "false", m->vocab_only ? "true" : "false", (unsigned long long)m->n_params,
              (unsigned long long)m->weight_bytes, m->max_context, m->bf16_x ? "true" : "false");
  add_hparams(out, m);
  add_tokenizer(out, m);
  add_tensors(out, m->gguf);
  add_metadata(out, m->gguf);
  aii_buf_char(out, '}');
}
