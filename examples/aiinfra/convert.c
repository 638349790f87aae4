/* convert.c - the command `aiinfra convert`: llama2.c checkpoints to GGUF, so that small trained models run here too.
 *
 * The happy path is: read the checkpoint (its oldest form: seven 32-bit numbers, then float32 weights) -> read the
 * tokenizer (a SentencePiece model or llama2.c's own .bin) -> write GGUF version 3 in F32. Both inputs are checked
 * against their own sizes before anything is used. llama2.c rotates adjacent pairs, as GGUF's "llama" does: the
 * weights are copied as they are.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static const char usage[] =
    "usage: aiinfra convert IN.bin --tokenizer TOKENIZER [--name NAME] OUT.gguf\n"
    "\n"
    "Converts a llama2.c checkpoint to GGUF (F32). TOKENIZER is a SentencePiece .model file of kind BPE, or the\n"
    ".bin file that llama2.c makes from one.\n";

enum { ALIGNMENT = 32, MAX_VOCAB = 1 << 20, MAX_PIECE = 1 << 16 };

typedef struct bytes {
  uint8_t *p;
  size_t n;
} bytes;

typedef struct piece {
  const uint8_t *p;
  size_t n;
  float score;
  int32_t type; /* as in SentencePiece and GGUF: 1 normal, 2 unknown, 3 control, 4 user, 5 unused, 6 byte */
} piece;

typedef struct tokenizer {
  piece *pieces;
  uint32_t n;
  int32_t unk, bos, eos;
  bool spaces; /* pieces have plain spaces where GGUF has U+2581 */
  bool space_prefix;
} tokenizer;

typedef struct checkpoint {
  uint32_t dim, hidden, n_layers, n_heads, n_kv_heads, n_vocab, seq_len;
  bool shared; /* output uses the embedding */
  const uint8_t *weights;
} checkpoint;

static bool complain(const char *what, const char *path)
{
  fprintf(stderr, "aiinfra convert: %s: %s\n", path, what);
  return false;
}

static bool read_all(const char *path, bytes *out)
{
  FILE *file = fopen(path, "rb");
  long size;
  out->p = NULL;
  if (file == NULL) return complain("cannot be opened", path);
  if (fseek(file, 0, SEEK_END) == 0 && (size = ftell(file)) > 0 && fseek(file, 0, SEEK_SET) == 0) {
    out->n = (size_t)size;
    out->p = malloc(out->n);
    if (out->p != NULL && fread(out->p, 1, out->n, file) != out->n) {
      free(out->p);
      out->p = NULL;
    }
  }
  fclose(file);
  return out->p != NULL || complain("cannot be read", path);
}

static uint32_t load32(const uint8_t *p)
{
  return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static float load_float(const uint8_t *p)
{
  uint32_t bits = load32(p);
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* ---- the checkpoint ------------------------------------------------------------------------------------------ */

/* Weights that stand in the file, in its order. The sizes were limited so that no product overflows. */
static uint64_t count_floats(const checkpoint *c)
{
  uint64_t dim = c->dim, head = dim / c->n_heads, kv = head * c->n_kv_heads, layers = c->n_layers;
  uint64_t n = c->n_vocab * dim + dim + (uint64_t)c->seq_len * (head / 2) * 2;
  n += layers * (2 * dim + 2 * dim * dim + 2 * dim * kv + 3 * dim * c->hidden);
  return n + (c->shared ? 0 : c->n_vocab * dim);
}

static bool read_checkpoint(const bytes *file, const char *path, checkpoint *c)
{
  uint32_t *fields[7] = {&c->dim, &c->hidden, &c->n_layers, &c->n_heads, &c->n_kv_heads, &c->n_vocab, &c->seq_len};
  if (file->n < 28) return complain("too short for a llama2.c checkpoint", path);
  if (load32(file->p) == 0x616b3432) return complain("a versioned checkpoint; export it as version 0", path);
  for (size_t i = 0; i < 7; i++) {
    int32_t value = (int32_t)load32(file->p + 4 * i);
    if (i == 5) {
      c->shared = value > 0;
      value = value > 0 ? value : value == INT32_MIN ? 0 : -value;
    }
    if (value < 1 || value > 1 << 24) return complain("a size in its header is out of range", path);
    *fields[i] = (uint32_t)value;
  }
  if (c->dim > 1 << 16 || c->n_layers > 1 << 12 || c->n_vocab > MAX_VOCAB || c->hidden > 1 << 20 ||
      c->dim % c->n_heads != 0 || c->n_heads % c->n_kv_heads != 0 || c->dim / c->n_heads % 2 != 0) {
    return complain("the sizes in its header do not fit together", path);
  }
  if (file->n != 28 + 4 * count_floats(c)) return complain("its size is not the one its header promises", path);
  c->weights = file->p + 28;
  return true;
}

/* ---- the tokenizer: SentencePiece ---------------------------------------------------------------------------- */

typedef struct proto {
  const uint8_t *at, *end;
} proto;

typedef struct field {
  uint32_t number, wire;
  uint64_t value; /* of a varint */
  proto inside;   /* of bytes, or of the four bytes of a float */
} field;

static bool varint(proto *in, uint64_t *value)
{
  *value = 0;
  for (uint32_t shift = 0; shift < 64 && in->at < in->end; shift += 7) {
    uint8_t byte = *in->at++;
    *value |= (uint64_t)(byte & 0x7F) << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

/* The next field; false at the end and at bytes that are none, which *bad tells apart. */
static bool next_field(proto *in, field *f, bool *bad)
{
  uint64_t tag, n = 0;
  if (in->at == in->end) return false;
  *bad = true;
  if (!varint(in, &tag)) return false;
  f->number = (uint32_t)(tag >> 3);
  f->wire = tag & 7;
  if (f->wire == 0) {
    if (!varint(in, &f->value)) return false;
  } else if (f->wire == 1) {
    n = 8;
  } else if (f->wire == 5) {
    n = 4;
  } else if (f->wire != 2 || !varint(in, &n)) {
    return false;
  }
  if (n > (size_t)(in->end - in->at)) return false;
  f->inside = (proto){in->at, in->at + n};
  in->at += n;
  *bad = false;
  return true;
}

static bool read_piece(proto in, piece *out)
{
  field f;
  bool bad = false;
  *out = (piece){.type = 1};
  while (next_field(&in, &f, &bad)) {
    if (f.number == 1 && f.wire == 2) {
      out->p = f.inside.at;
      out->n = (size_t)(f.inside.end - f.inside.at);
    }
    if (f.number == 2 && f.wire == 5) out->score = load_float(f.inside.at);
    if (f.number == 3 && f.wire == 0 && f.value >= 1 && f.value <= 6) out->type = (int32_t)f.value;
  }
  return !bad && out->n <= MAX_PIECE;
}

/* trainer_spec: model_type 3, unk_id 40, bos_id 41, eos_id 42; a missing model_type is 1, unigram */
static bool read_trainer(proto in, tokenizer *t, bool *bpe)
{
  field f;
  bool bad = false;
  while (next_field(&in, &f, &bad)) {
    if (f.wire != 0) continue;
    if (f.number == 3) *bpe = f.value == 2;
    if (f.number == 40) t->unk = (int32_t)f.value;
    if (f.number == 41) t->bos = (int32_t)f.value;
    if (f.number == 42) t->eos = (int32_t)f.value;
  }
  return !bad;
}

/* normalizer_spec: add_dummy_prefix 3 */
static bool read_normalizer(proto in, tokenizer *t)
{
  field f;
  bool bad = false;
  while (next_field(&in, &f, &bad)) {
    if (f.number == 3 && f.wire == 0) t->space_prefix = f.value != 0;
  }
  return !bad;
}

static bool read_sentencepiece(const bytes *file, const char *path, tokenizer *t)
{
  proto in = {file->p, file->p + file->n};
  field f;
  bool bad = false, good = true, bpe = false;
  while (good && next_field(&in, &f, &bad)) {
    if (f.wire != 2) continue;
    if (f.number == 1) good = t->n < MAX_VOCAB && read_piece(f.inside, &t->pieces[t->n++]);
    if (f.number == 2) good = read_trainer(f.inside, t, &bpe);
    if (f.number == 3) good = read_normalizer(f.inside, t);
  }
  if (bad || !good) return complain("a damaged SentencePiece model", path);
  return bpe || complain("a SentencePiece model of another kind than BPE", path);
}

/* ---- the tokenizer: llama2.c's own file ----------------------------------------------------------------------- */

static int32_t type_of(uint32_t id, const piece *p)
{
  if (id < 3) return id == 0 ? 2 : 3;
  return p->n == 6 && memcmp(p->p, "<0x", 3) == 0 && p->p[5] == '>' ? 6 : 1;
}

static bool read_own(const bytes *file, const char *path, tokenizer *t)
{
  static const char *const special[3] = {"<unk>", "<s>", "</s>"};
  size_t at = 4; /* behind the longest token's length */
  while (at < file->n) {
    if (file->n - at < 8 || t->n == MAX_VOCAB) return complain("a damaged tokenizer", path);
    piece *p = &t->pieces[t->n];
    *p = (piece){.p = file->p + at + 8, .n = load32(file->p + at + 4), .score = load_float(file->p + at)};
    if (p->n > MAX_PIECE || p->n > file->n - at - 8) return complain("a damaged tokenizer", path);
    at += 8 + p->n;
    p->type = type_of(t->n, p);
    if (t->n < 3) {
      p->p = (const uint8_t *)special[t->n];
      p->n = strlen(special[t->n]);
    }
    t->n++;
  }
  t->spaces = true;
  return true;
}

static bool read_tokenizer(const bytes *file, const char *path, uint32_t n_vocab, tokenizer *t)
{
  *t = (tokenizer){.unk = 0, .bos = 1, .eos = 2, .space_prefix = true};
  t->pieces = calloc(MAX_VOCAB + 1, sizeof *t->pieces);
  if (t->pieces == NULL) return complain("out of memory", path);
  if (file->n < 12) return complain("too short for a tokenizer", path);
  bool proto_file = file->p[0] == 0x0A && file->p[1] != 0; /* field 1, with a length */
  if (!(proto_file ? read_sentencepiece(file, path, t) : read_own(file, path, t))) return false;
  if (t->n != n_vocab) {
    fprintf(stderr, "aiinfra convert: %s: %u tokens, but the checkpoint has %u\n", path, t->n, n_vocab);
    return false;
  }
  return true;
}

/* ---- GGUF ---------------------------------------------------------------------------------------------------- */

static void put(FILE *out, const void *p, size_t n)
{
  (void)fwrite(p, 1, n, out); /* ferror() tells at the end */
}

static void put_number(FILE *out, uint64_t value, size_t n)
{
  uint8_t raw[8];
  for (size_t i = 0; i < 8; i++) raw[i] = (uint8_t)(value >> (8 * i));
  put(out, raw, n);
}

static void put_float(FILE *out, float value)
{
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  put_number(out, bits, 4);
}

static void put_text(FILE *out, const char *text)
{
  put_number(out, strlen(text), 8);
  put(out, text, strlen(text));
}

static void put_key(FILE *out, const char *key, uint32_t type)
{
  put_text(out, key);
  put_number(out, type, 4);
}

static void put_key_u32(FILE *out, const char *key, uint32_t value)
{
  put_key(out, key, 4);
  put_number(out, value, 4);
}

static void put_array(FILE *out, const char *key, uint32_t type, uint64_t count)
{
  put_key(out, key, 9);
  put_number(out, type, 4);
  put_number(out, count, 8);
}

static void put_piece(FILE *out, const tokenizer *t, const piece *p)
{
  size_t n = p->n;
  for (size_t i = 0; t->spaces && i < p->n; i++) n += p->p[i] == ' ' ? 2 : 0;
  put_number(out, n, 8);
  for (size_t i = 0; i < p->n; i++) {
    if (t->spaces && p->p[i] == ' ') {
      put(out, "\xE2\x96\x81", 3); /* U+2581 */
    } else {
      put(out, &p->p[i], 1);
    }
  }
}

enum { N_KEYS = 19 };

static void put_keys(FILE *out, const checkpoint *c, const tokenizer *t, const char *name)
{
  put_key(out, "general.architecture", 8), put_text(out, "llama");
  put_key(out, "general.name", 8), put_text(out, name);
  put_key_u32(out, "llama.context_length", c->seq_len);
  put_key_u32(out, "llama.embedding_length", c->dim);
  put_key_u32(out, "llama.block_count", c->n_layers);
  put_key_u32(out, "llama.feed_forward_length", c->hidden);
  put_key_u32(out, "llama.attention.head_count", c->n_heads);
  put_key_u32(out, "llama.attention.head_count_kv", c->n_kv_heads);
  put_key_u32(out, "llama.rope.dimension_count", c->dim / c->n_heads);
  put_key(out, "llama.attention.layer_norm_rms_epsilon", 6), put_float(out, 1e-5f);
  put_key_u32(out, "general.file_type", 0);
  put_key(out, "tokenizer.ggml.model", 8), put_text(out, "llama");
  put_key_u32(out, "tokenizer.ggml.bos_token_id", (uint32_t)t->bos);
  put_key_u32(out, "tokenizer.ggml.eos_token_id", (uint32_t)t->eos);
  put_key_u32(out, "tokenizer.ggml.unknown_token_id", (uint32_t)t->unk);
  put_key(out, "tokenizer.ggml.add_space_prefix", 7), put_number(out, t->space_prefix, 1);
  put_array(out, "tokenizer.ggml.tokens", 8, t->n);
  for (uint32_t i = 0; i < t->n; i++) put_piece(out, t, &t->pieces[i]);
  put_array(out, "tokenizer.ggml.scores", 6, t->n);
  for (uint32_t i = 0; i < t->n; i++) put_float(out, t->pieces[i].score);
  put_array(out, "tokenizer.ggml.token_type", 5, t->n);
  for (uint32_t i = 0; i < t->n; i++) put_number(out, (uint32_t)t->pieces[i].type, 4);
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
      {"", false, (uint64_t)c->seq_len * (head / 2) * 2, 1},
      {"output.weight", false, dim, c->n_vocab},
  };
  memcpy(runs, all, sizeof all);
}

/* Writes the infos, or with `data` the weights themselves, in the same order. */
static void put_tensors(FILE *out, const checkpoint *c, bool data)
{
  static const uint8_t zeros[ALIGNMENT];
  run runs[N_RUNS];
  const uint8_t *at = c->weights;
  uint64_t offset = 0;
  list_runs(c, runs);
  for (size_t i = 0; i < N_RUNS - (c->shared ? 1 : 0); i++) {
    uint64_t size = runs[i].n_in * runs[i].n_out * 4, padding = (ALIGNMENT - size % ALIGNMENT) % ALIGNMENT;
    for (uint32_t l = 0; l < (runs[i].layers ? c->n_layers : 1); l++, at += size) {
      char name[64];
      if (i == SKIPPED) continue; /* tables of sines and cosines */
      if (runs[i].layers) {
        snprintf(name, sizeof name, "blk.%u.%s", l, runs[i].name);
      } else {
        snprintf(name, sizeof name, "%s", runs[i].name);
      }
      if (data) {
        put(out, at, size);
        put(out, zeros, padding);
        continue;
      }
      put_text(out, name);
      put_number(out, runs[i].n_out > 1 ? 2 : 1, 4);
      put_number(out, runs[i].n_in, 8);
      if (runs[i].n_out > 1) put_number(out, runs[i].n_out, 8);
      put_number(out, 0, 4);
      put_number(out, offset, 8);
      offset += size + padding;
    }
  }
}

static bool write_gguf(const char *path, const checkpoint *c, const tokenizer *t, const char *name)
{
  FILE *out = fopen(path, "wb");
  if (out == NULL) return complain("cannot be written", path);
  put(out, "GGUF", 4);
  put_number(out, 3, 4);
  put_number(out, 2 + 9 * (uint64_t)c->n_layers + (c->shared ? 0 : 1), 8);
  put_number(out, N_KEYS, 8);
  put_keys(out, c, t, name);
  put_tensors(out, c, false);
  long at = ftell(out);
  for (; at % ALIGNMENT != 0; at++) put(out, "", 1);
  put_tensors(out, c, true);
  bool failed = ferror(out) != 0;
  if (fclose(out) != 0 || failed) {
    remove(path);
    return complain("could not be written in full", path);
  }
  return true;
}

/* ---- the command --------------------------------------------------------------------------------------------- */

static bool convert(const char *in, const char *tok, const char *out, const char *name)
{
  bytes model = {NULL, 0}, words = {NULL, 0};
  checkpoint c = {0};
  tokenizer t = {0};
  bool done = read_all(in, &model) && read_all(tok, &words) && read_checkpoint(&model, in, &c) &&
              read_tokenizer(&words, tok, c.n_vocab, &t) && write_gguf(out, &c, &t, name);
  if (done) printf("%s: %u layers, width %u, %u tokens\n", out, c.n_layers, c.dim, c.n_vocab);
  free(t.pieces);
  free(words.p);
  free(model.p);
  return done;
}

int cmd_convert(int argc, char **argv)
{
  const char *paths[2] = {NULL, NULL}, *tok = NULL, *name = NULL;
  size_t n = 0;
  bool good = true;
  for (int i = 1; i < argc; i++) {
    bool more = i + 1 < argc;
    if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
      fputs(usage, stdout);
      return 0;
    }
    if (strcmp(argv[i], "--tokenizer") == 0 && more) {
      tok = argv[++i];
    } else if (strcmp(argv[i], "--name") == 0 && more) {
      name = argv[++i];
    } else if (argv[i][0] != '-' && n < 2) {
      paths[n++] = argv[i];
    } else {
      good = false;
    }
  }
  if (!good || n != 2 || tok == NULL) {
    fputs(usage, stderr);
    return 2;
  }
  if (name == NULL) name = strrchr(paths[0], '/') != NULL ? strrchr(paths[0], '/') + 1 : paths[0];
  return convert(paths[0], tok, paths[1], name) ? 0 : 1;
}
