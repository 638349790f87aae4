/* gguf_vocab.h - the least of a GGUF reader: the tokenizer's arrays of a trusted test file, as an aii_vocab_desc.
 *
 * Reads the whole file into memory; texts are borrowed from there. No validation: the files are the project's own
 * reference data. Everything is static, so that a test needs no further source file.
 */
#ifndef AIINFRA_TESTS_GGUF_VOCAB_H
#define AIINFRA_TESTS_GGUF_VOCAB_H

#include <stdlib.h>

#include "src/text/text.h"
#include "tests/support/support.h"

typedef struct gguf_vocab {
  char *file;
  char pre[64];
  aii_str *tokens, *merges;
  float *scores;
  int32_t *types;
  aii_vocab_desc desc;
} gguf_vocab;

static uint64_t gv_int(const char **p, size_t n)
{
  uint64_t value = 0;
  memcpy(&value, *p, n);
  *p += n;
  return value;
}

static aii_str gv_str(const char **p)
{
  size_t n = (size_t)gv_int(p, 8);
  aii_str s = {*p, n};
  *p += n;
  return s;
}

static size_t gv_size(uint32_t type)
{
  static const uint8_t size[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return size[type];
}

static bool gv_is(aii_str key, const char *name)
{
  return key.n == strlen(name) && memcmp(key.p, name, key.n) == 0;
}

static void gv_array(gguf_vocab *v, aii_str key, const char **p)
{
  uint32_t type = (uint32_t)gv_int(p, 4);
  size_t n = (size_t)gv_int(p, 8);
  if (type == 8) {
    aii_str *items = calloc(n + 1, sizeof *items);
    for (size_t i = 0; items != NULL && i < n; i++) items[i] = gv_str(p);
    if (gv_is(key, "tokenizer.ggml.tokens")) {
      v->tokens = items;
      v->desc.n_tokens = (uint32_t)n;
    } else if (gv_is(key, "tokenizer.ggml.merges")) {
      v->merges = items;
      v->desc.n_merges = (uint32_t)n;
    } else {
      free(items);
    }
    return;
  }
  void *copy = malloc(n * gv_size(type) + 1);
  if (copy != NULL) memcpy(copy, *p, n * gv_size(type));
  *p += n * gv_size(type);
  if (gv_is(key, "tokenizer.ggml.scores")) {
    v->scores = copy;
  } else if (gv_is(key, "tokenizer.ggml.token_type")) {
    v->types = copy;
  } else {
    free(copy);
  }
}

static void gv_scalar(gguf_vocab *v, aii_str key, uint64_t value)
{
  aii_vocab_desc *d = &v->desc;
  if (gv_is(key, "tokenizer.ggml.bos_token_id")) d->bos = (int32_t)value;
  if (gv_is(key, "tokenizer.ggml.eos_token_id")) d->eos = (int32_t)value;
  if (gv_is(key, "tokenizer.ggml.unknown_token_id")) d->unk = (int32_t)value;
  if (gv_is(key, "tokenizer.ggml.add_bos_token")) d->add_bos = (int32_t)value;
  if (gv_is(key, "tokenizer.ggml.add_space_prefix")) d->add_space_prefix = (int32_t)value;
}

static void gguf_vocab_free(gguf_vocab *v)
{
  free(v->tokens);
  free(v->merges);
  free(v->scores);
  free(v->types);
  free(v->file);
  memset(v, 0, sizeof *v);
}

/* false: the file cannot be read or has no tokenizer of a known kind. */
static bool gguf_vocab_load(gguf_vocab *v, const char *path)
{
  memset(v, 0, sizeof *v);
  v->desc = (aii_vocab_desc){.bos = -1,
                             .eos = -1,
                             .unk = -1,
                             .eot = -1,
                             .eom = -1,
                             .pad = -1,
                             .add_bos = -1,
                             .add_eos = -1,
                             .add_space_prefix = -1,
                             .remove_extra_spaces = -1,
                             .sep = -1,
                             .add_sep = -1};
  v->file = test_read_file(path, NULL);
  if (v->file == NULL) return false;
  const char *p = v->file + 16;
  uint64_t n_kv = gv_int(&p, 8);
  for (uint64_t i = 0; i < n_kv; i++) {
    aii_str key = gv_str(&p);
    uint32_t type = (uint32_t)gv_int(&p, 4);
    if (type == 9) {
      gv_array(v, key, &p);
    } else if (type == 8) {
      aii_str value = gv_str(&p);
      if (gv_is(key, "tokenizer.ggml.model")) {
        v->desc.kind = gv_is(value, "llama")  ? AII_VOCAB_SPM
                       : gv_is(value, "gpt2") ? AII_VOCAB_BPE
                       : gv_is(value, "bert") ? AII_VOCAB_WPM
                                              : 0;
        if (gv_is(value, "gemma4")) {
          v->desc.kind = AII_VOCAB_BPE;
          memcpy(v->pre, "gemma4", 7);
          v->desc.pre = v->pre;
        }
      } else if (gv_is(key, "tokenizer.ggml.pre") && value.n < sizeof v->pre) {
        memcpy(v->pre, value.p, value.n);
        v->desc.pre = v->pre;
      }
    } else {
      gv_scalar(v, key, gv_int(&p, gv_size(type)));
    }
  }
  aii_vocab_desc *d = &v->desc;
  d->tokens = v->tokens;
  d->merges = v->merges;
  d->scores = v->scores;
  d->types = v->types;
  if (d->kind == AII_VOCAB_SPM) {
    if (d->bos < 0) d->bos = 1;
    if (d->eos < 0) d->eos = 2;
    if (d->unk < 0) d->unk = 0;
  } else if (d->kind == AII_VOCAB_WPM) {
    if (d->bos < 0) d->bos = 101;
    if (d->unk < 0) d->unk = 100;
    if (d->sep < 0) d->sep = 102;
  } else {
    if (d->bos < 0) d->bos = 11;
    if (d->eos < 0) d->eos = 11;
  }
  return d->kind != 0 && d->tokens != NULL;
}

#endif
