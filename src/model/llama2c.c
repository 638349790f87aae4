/* llama2c.c - opens llama2.c checkpoints, so that small trained models run here too.
 *
 * A checkpoint of the oldest form: seven 32-bit numbers, then float32 weights, one run of matrices for all layers after
 * the other. Its tokenizer is another file: the one that was named, or one beside the checkpoint called tokenizer or
 * tokN (N the size of the vocabulary) with the ending .model (SentencePiece) or .bin (llama2.c's own form). Both files
 * are checked against their own sizes before anything is used. llama2.c rotates adjacent pairs, as GGUF's "llama" does:
 * the weights are used as they are.
 */
#include <stdio.h>
#include <unistd.h>

#include "src/model/gguf.h"

enum { HEADER_BYTES = 28, MAX_VOCAB = 1 << 20, VERSIONED = 0x616b3432 };

typedef struct checkpoint {
  uint32_t dim, hidden, n_layers, n_heads, n_kv_heads, n_vocab, seq_len;
  bool shared; /* output uses the embedding */
  const uint8_t *weights;
} checkpoint;

/* ---- the checkpoint ------------------------------------------------------------------------------------------------- */

/* The sizes were limited so that no product overflows. */
static uint64_t count_floats(const checkpoint *c)
{
  uint64_t dim = c->dim, head = dim / c->n_heads, kv = head * c->n_kv_heads, layers = c->n_layers;
  uint64_t n = c->n_vocab * dim + dim + (uint64_t)c->seq_len * (head / 2) * 2;
  n += layers * (2 * dim + 2 * dim * dim + 2 * dim * kv + 3 * dim * c->hidden);
  return n + (c->shared ? 0 : c->n_vocab * dim);
}

static aiinfra_status bad(const char *what, aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_EFORMAT, "no llama2.c checkpoint: %s", what);
}

static aiinfra_status read_checkpoint(aii_file file, checkpoint *c, aiinfra_error *err)
{
  uint32_t *fields[7] = {&c->dim, &c->hidden, &c->n_layers, &c->n_heads, &c->n_kv_heads, &c->n_vocab, &c->seq_len};
  if (file.size < HEADER_BYTES) return bad("it is too short", err);
  if (aii_load32(file.bytes) == VERSIONED) {
    return aii_fail(err, AIINFRA_ENOTSUP, "a llama2.c checkpoint with a version; export it as version 0");
  }
  for (size_t i = 0; i < 7; i++) {
    int32_t value = (int32_t)aii_load32(file.bytes + 4 * i);
    if (i == 5) {
      c->shared = value > 0;
      value = value > 0 ? value : value == INT32_MIN ? 0 : -value;
    }
    if (value < 1 || value > 1 << 24) return bad("a size in its header is out of range", err);
    *fields[i] = (uint32_t)value;
  }
  if (c->dim > 1 << 16 || c->n_layers > 1 << 12 || c->n_vocab > MAX_VOCAB || c->hidden > 1 << 20 ||
      c->dim % c->n_heads != 0 || c->n_heads % c->n_kv_heads != 0 || c->dim / c->n_heads % 2 != 0) {
    return bad("the sizes in its header do not fit together", err);
  }
  if (file.size != HEADER_BYTES + 4 * count_floats(c)) return bad("its size is not the one its header promises", err);
  c->weights = file.bytes + HEADER_BYTES;
  return AIINFRA_OK;
}

/* ---- the tokenizer ---------------------------------------------------------------------------------------------------- */

typedef struct own_tokens {
  aii_vocab_desc desc;
  aii_str *tokens;
  float *scores;
  int32_t *types;
  aii_buf text; /* with U+2581 where the file has spaces; room for all of it from the start */
} own_tokens;

static int32_t type_of(uint32_t id, aii_str text)
{
  if (id < 3) return id == 0 ? AII_TOKEN_UNKNOWN : AII_TOKEN_CONTROL;
  return text.n == 6 && memcmp(text.p, "<0x", 3) == 0 && text.p[5] == '>' ? AII_TOKEN_BYTE : AII_TOKEN_NORMAL;
}

/* The longest token's length, then for each token its score, its length and its text. */
static aiinfra_status read_own(aii_file file, uint32_t n_vocab, own_tokens *t, aiinfra_error *err)
{
  static const char *const special[3] = {"<unk>", "<s>", "</s>"};
  size_t at = 4;
  uint32_t n_tokens = 0;
  for (; at < file.size && n_tokens < n_vocab; n_tokens++) {
    if (file.size - at < 8) break;
    uint32_t n = aii_load32(file.bytes + at + 4), bits = aii_load32(file.bytes + at);
    if (n > file.size - at - 8) break;
    aii_str text = {(const char *)file.bytes + at + 8, n};
    size_t from = t->text.len;
    if (n_tokens < 3) text = (aii_str){special[n_tokens], strlen(special[n_tokens])};
    for (size_t i = 0; i < text.n; i++) {
      aii_buf_add(&t->text, text.p[i] == ' ' ? "\xE2\x96\x81" : &text.p[i], text.p[i] == ' ' ? 3 : 1);
    }
    t->tokens[n_tokens] = (aii_str){t->text.data + from, t->text.len - from};
    t->types[n_tokens] = type_of(n_tokens, text);
    memcpy(&t->scores[n_tokens], &bits, sizeof bits);
    at += 8 + (size_t)n;
  }
  if (at == file.size && n_tokens == n_vocab) return AIINFRA_OK;
  return aii_fail(err, AIINFRA_EFORMAT, "no tokenizer of llama2.c with %u tokens, as the checkpoint has them", n_vocab);
}

static aiinfra_status own_vocab(aii_file file, uint32_t n_vocab, aii_mem *mem, aii_vocab **out, aiinfra_error *err)
{
  own_tokens t = {.tokens = aii_new_array(mem, n_vocab, sizeof *t.tokens),
                  .scores = aii_new_array(mem, n_vocab, sizeof *t.scores),
                  .types = aii_new_array(mem, n_vocab, sizeof *t.types)};
  aiinfra_status rc = AIINFRA_OK;
  aii_buf_init(&t.text, mem, 0);
  if (t.tokens == NULL || t.scores == NULL || t.types == NULL ||
      !aii_grow(mem, &t.text.data, &t.text.cap, 3 * file.size + 16, 1)) {
    rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for a vocabulary of %u tokens", n_vocab);
  }
  if (rc == AIINFRA_OK) rc = read_own(file, n_vocab, &t, err);
  t.desc = (aii_vocab_desc){.kind = AII_VOCAB_SPM,
                            .n_tokens = n_vocab,
                            .tokens = t.tokens,
                            .scores = t.scores,
                            .types = t.types,
                            .unk = n_vocab > 0 ? 0 : -1,
                            .bos = n_vocab > 1 ? 1 : -1,
                            .eos = n_vocab > 2 ? 2 : -1,
                            .eot = -1,
                            .eom = -1,
                            .pad = -1,
                            .sep = -1,
                            .add_bos = 1,
                            .add_space_prefix = 1};
  if (rc == AIINFRA_OK) rc = aii_vocab_create(mem, &t.desc, out, err);
  aii_del(mem, t.tokens, n_vocab * sizeof *t.tokens);
  aii_del(mem, t.scores, n_vocab * sizeof *t.scores);
  aii_del(mem, t.types, n_vocab * sizeof *t.types);
  aii_buf_free(&t.text);
  return rc;
}

static aiinfra_status put_tokenizer(aii_gguf *g, const char *path, uint32_t n_vocab, aii_gguf_writer *w,
                                    aiinfra_error *err)
{
  aii_file file;
  aiinfra_status rc = aii_file_map(path, &file, err);
  if (rc != AIINFRA_OK) return rc;
  const char *bytes = (const char *)file.bytes;
  const aii_vocab_extras as_llama2c = {.keep_spaces = true}; /* its encoder drops none */
  if (!aii_is_sentencepiece(bytes, file.size)) rc = own_vocab(file, n_vocab, g->mem, &g->vocab, err);
  else rc = aii_vocab_from_sentencepiece(g->mem, bytes, file.size, &as_llama2c, &g->vocab, err);
  if (rc == AIINFRA_OK && aii_vocab_size(g->vocab) != n_vocab) {
    rc = aii_fail(err, AIINFRA_EFORMAT, "%u tokens, but the checkpoint has %u", aii_vocab_size(g->vocab), n_vocab);
  }
  if (rc == AIINFRA_OK) rc = aii_gguf_put_vocab(g->mem, g->vocab, w, err);
  aii_file_unmap(&file);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "tokenizer '%s'", path);
}

/* The first candidate that exists; *out is freed with aii_strfree(). */
static aiinfra_status find_tokenizer(const char *checkpoint_path, uint32_t n_vocab, aii_mem *mem, char **out,
                                     aiinfra_error *err)
{
  static const char *const endings[] = {".model", ".bin"};
  const char *slash = strrchr(checkpoint_path, '/');
  int folder = slash != NULL ? (int)(slash - checkpoint_path) + 1 : 0;
  aii_buf buf;
  *out = NULL;
  aii_buf_init(&buf, mem, 0);
  for (size_t i = 0; i < 4 && *out == NULL && !buf.failed; i++) {
    aii_buf_clear(&buf);
    if (i < 2) aii_buf_fmt(&buf, "%.*stokenizer%s", folder, checkpoint_path, endings[i % 2]);
    else aii_buf_fmt(&buf, "%.*stok%u%s", folder, checkpoint_path, n_vocab, endings[i % 2]);
    if (buf.failed || access(aii_buf_cstr(&buf), F_OK) != 0) continue;
    *out = aii_strndup(mem, aii_buf_cstr(&buf), buf.len);
    buf.failed = *out == NULL;
  }
  bool failed = buf.failed;
  aii_buf_free(&buf);
  if (failed) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a path");
  if (*out != NULL) return AIINFRA_OK;
  return aii_fail(err, AIINFRA_ENOENT, "the checkpoint's tokenizer is not beside it: name it, or call it tok%u.bin",
                  n_vocab);
}

/* ---- the directory ------------------------------------------------------------------------------------------------------ */

static void put_keys(const checkpoint *c, const char *path, aii_gguf_writer *w)
{
  const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
  aii_put_str(w, "general.architecture", (aii_str){"llama", 5});
  if (aii_utf8_valid(name, strlen(name))) aii_put_str(w, "general.name", (aii_str){name, strlen(name)});
  aii_put_u32(w, "general.file_type", 0);
  aii_put_u32(w, "llama.context_length", c->seq_len);
  aii_put_u32(w, "llama.embedding_length", c->dim);
  aii_put_u32(w, "llama.block_count", c->n_layers);
  aii_put_u32(w, "llama.feed_forward_length", c->hidden);
  aii_put_u32(w, "llama.attention.head_count", c->n_heads);
  aii_put_u32(w, "llama.attention.head_count_kv", c->n_kv_heads);
  aii_put_u32(w, "llama.rope.dimension_count", c->dim / c->n_heads);
  aii_put_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
}

/* The tensors of the file in its order: one run of weights holds a matrix for each layer. */
typedef struct run {
  const char *name; /* behind "blk.N." when there are layers */
  bool layers;
  uint64_t n_in, n_out;
} run;

enum { N_RUNS = 13, SKIPPED = 11 };

static void list_runs(const checkpoint *c, run runs[N_RUNS])
{
  uint64_t dim = c->dim, head = dim / c->n_heads, kv = head * c->n_kv_heads;
  const run all[N_RUNS] = {
      {"token_embd.weight", false, dim, c->n_vocab},
      {"attn_norm.weight", true, dim, 1},
      {"attn_q.weight", true, dim, dim},
      {"attn_k.weight", true, dim, kv},
      {"attn_v.weight", true, dim, kv},
      {"attn_output.weight", true, dim, dim},
      {"ffn_norm.weight", true, dim, 1},
      {"ffn_gate.weight", true, dim, c->hidden},
      {"ffn_down.weight", true, c->hidden, dim},
      {"ffn_up.weight", true, dim, c->hidden},
      {"output_norm.weight", false, dim, 1},
      {"", false, (uint64_t)c->seq_len * (head / 2) * 2, 1}, /* tables of sines and cosines */
      {"output.weight", false, dim, c->n_vocab},
  };
  memcpy(runs, all, sizeof all);
}

static aiinfra_status add_tensor(aii_gguf *g, const char *name, const run *r, const uint8_t *data, aii_gguf_writer *w,
                                 aiinfra_error *err)
{
  uint64_t ne[2] = {r->n_in, r->n_out};
  if (!aii_grow(g->mem, &g->gathers, &g->cap_gathers, g->n_gathers + 1, sizeof g->gathers[0]) ||
      !aii_grow(g->mem, &g->views, &g->cap_views, g->n_views + 1, sizeof g->views[0])) {
    return aii_fail(err, AIINFRA_ENOMEM, "no memory for an index of %zu tensors", g->n_views + 1);
  }
  g->gathers[g->n_gathers++] = (aii_gather){.first = g->n_views, .n = 1};
  g->views[g->n_views++] =
      (aii_view){.data = data, .type = AII_F32, .n = {ne[0], ne[1], 1, 1}, .stride = {1, ne[0], 0, 0}};
  aii_put_tensor(w, (aii_str){name, strlen(name)}, AII_F32, r->n_out > 1 ? 2 : 1, ne, 4 * ne[0] * ne[1]);
  return AIINFRA_OK;
}

static aiinfra_status add_tensors(aii_gguf *g, const checkpoint *c, aii_gguf_writer *w, aiinfra_error *err)
{
  run runs[N_RUNS];
  const uint8_t *at = c->weights;
  aiinfra_status rc = AIINFRA_OK;
  list_runs(c, runs);
  for (size_t i = 0; i < N_RUNS - (c->shared ? 1 : 0); i++) {
    for (uint32_t l = 0; l < (runs[i].layers ? c->n_layers : 1) && rc == AIINFRA_OK; l++) {
      char name[64];
      if (runs[i].layers) (void)snprintf(name, sizeof name, "blk.%u.%s", l, runs[i].name);
      else (void)snprintf(name, sizeof name, "%s", runs[i].name);
      if (i != SKIPPED) rc = add_tensor(g, name, &runs[i], at, w, err);
      at += 4 * runs[i].n_in * runs[i].n_out;
    }
  }
  return rc;
}

static aiinfra_status build(aii_gguf *g, const char *path, const char *tokenizer, aii_gguf_writer *w,
                            aiinfra_error *err)
{
  aii_file file;
  checkpoint c = {0};
  char *found = NULL;
  aiinfra_status rc = aii_file_map(path, &file, err);
  if (rc == AIINFRA_OK) rc = aii_file_set_add(&g->files, file, err);
  if (rc == AIINFRA_OK) rc = read_checkpoint(file, &c, err);
  if (rc == AIINFRA_OK && tokenizer == NULL) rc = find_tokenizer(path, c.n_vocab, g->mem, &found, err);
  if (rc != AIINFRA_OK) return rc;
  put_keys(&c, path, w);
  rc = put_tokenizer(g, tokenizer != NULL ? tokenizer : found, c.n_vocab, w, err);
  aii_strfree(g->mem, found);
  if (rc == AIINFRA_OK) rc = add_tensors(g, &c, w, err);
  return rc == AIINFRA_OK ? aii_gguf_adopt(g, w, err) : rc;
}

aiinfra_status aii_llama2c_open(aii_mem *mem, const char *path, const char *tokenizer, aii_gguf **out,
                                aiinfra_error *err)
{
  aii_gguf_writer w;
  *out = NULL;
  aii_gguf *g = aii_gguf_new(mem, "llama2.c");
  if (g == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a model");
  aii_put_init(&w, mem);
  aiinfra_status rc = build(g, path, tokenizer, &w, err);
  aii_put_free(&w);
  if (rc == AIINFRA_OK) {
    *out = g;
    return rc;
  }
  aii_gguf_free(g);
  return aii_wrap(err, rc, "open '%s'", path);
}
