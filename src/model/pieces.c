/* pieces.c - writes a vocabulary as GGUF's tokenizer keys, with the spelling that each kind of tokenizer has there. */
#include <stdio.h>

#include "src/model/pieces.h"

static const char space_mark[] = "\xE2\x96\x81"; /* U+2581 */

void aii_pieces_init(aii_pieces *p, aii_mem *mem, aii_pieces_kind kind)
{
  *p = (aii_pieces){.mem = mem, .kind = kind, .pre = "default", .add_bos = -1, .add_eos = -1, .space_prefix = -1};
  for (size_t i = 0; i < N_ROLES; i++) p->roles[i] = -1;
}

void aii_pieces_free(aii_pieces *p)
{
  aii_del(p->mem, p->items, p->cap * sizeof p->items[0]);
  p->items = NULL;
  p->n = p->cap = 0;
}

aiinfra_status aii_pieces_set(aii_pieces *p, int64_t id, aii_piece piece, aiinfra_error *err)
{
  if (id < 0 || id >= AII_MAX_PIECES) {
    return aii_fail(err, AIINFRA_ELIMIT, "token id %lld; a vocabulary has at most %d tokens", (long long)id,
                    AII_MAX_PIECES);
  }
  if (piece.text.n > AII_MAX_PIECE_BYTES) {
    return aii_fail(err, AIINFRA_ELIMIT, "token %lld has %zu bytes", (long long)id, piece.text.n);
  }
  size_t old = p->n;
  if ((size_t)id >= old) {
    if (!aii_grow(p->mem, &p->items, &p->cap, (size_t)id + 1, sizeof piece)) {
      return aii_fail(err, AIINFRA_ENOMEM, "no memory for a vocabulary of %zu tokens", (size_t)id + 1);
    }
    p->n = (size_t)id + 1;
    memset(&p->items[old], 0, (p->n - old) * sizeof piece);
  }
  p->items[id] = piece;
  return AIINFRA_OK;
}

int32_t aii_pieces_find(const aii_pieces *p, aii_str text)
{
  for (size_t i = 0; i < p->n; i++) {
    const aii_str *s = &p->items[i].text;
    if (s->p != NULL && s->n == text.n && memcmp(s->p, text.p, text.n) == 0) return (int32_t)i;
  }
  return -1;
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

/* GGUF marks the beginnings of words, WordPiece their continuations. */
static void put_word(aii_gguf_writer *w, aii_str text)
{
  bool inside = text.n >= 2 && memcmp(text.p, "##", 2) == 0;
  if (inside) {
    aii_put_elem_str(w, (aii_str){text.p + 2, text.n - 2});
    return;
  }
  aii_put_elem_bytes(w, text.n + 3);
  aii_buf_add(&w->kvs, space_mark, 3);
  aii_buf_add(&w->kvs, text.p, text.n);
}

static void put_spaced(aii_gguf_writer *w, aii_str text)
{
  size_t n = text.n;
  for (size_t i = 0; i < text.n; i++) n += text.p[i] == ' ' ? 2 : 0;
  aii_put_elem_bytes(w, n);
  for (size_t i = 0; i < text.n; i++) {
    if (text.p[i] == ' ') aii_buf_add(&w->kvs, space_mark, 3);
    else aii_buf_char(&w->kvs, text.p[i]);
  }
}

static void put_text(aii_gguf_writer *w, const aii_pieces *p, size_t id)
{
  const aii_piece *piece = id < p->n ? &p->items[id] : NULL;
  if (piece == NULL || piece->text.p == NULL) {
    char pad[24];
    int n = snprintf(pad, sizeof pad, "[PAD%zu]", id);
    aii_put_elem_str(w, (aii_str){pad, (size_t)n});
  } else if (p->kind == AII_PIECES_WORDS && piece->type != AII_TOKEN_CONTROL) {
    put_word(w, piece->text);
  } else if (p->plain_spaces) {
    put_spaced(w, piece->text);
  } else {
    aii_put_elem_str(w, piece->text);
  }
}

static bool is_there(const aii_pieces *p, size_t id)
{
  return id < p->n && p->items[id].text.p != NULL;
}

static void put_arrays(const aii_pieces *p, size_t n, aii_gguf_writer *w)
{
  aii_put_array(w, "tokenizer.ggml.tokens", AII_GGUF_STRING, n);
  for (size_t i = 0; i < n; i++) put_text(w, p, i);
  if (p->kind == AII_PIECES_SPM || p->kind == AII_PIECES_UNIGRAM) {
    aii_put_array(w, "tokenizer.ggml.scores", AII_GGUF_F32, n);
    for (size_t i = 0; i < n; i++) aii_put_elem_f32(w, is_there(p, i) ? p->items[i].score : -10000.0f);
  }
  aii_put_array(w, "tokenizer.ggml.token_type", AII_GGUF_I32, n);
  for (size_t i = 0; i < n; i++) {
    aii_put_elem_u32(w, (uint32_t)(is_there(p, i) ? p->items[i].type : AII_TOKEN_UNUSED));
  }
}

static void put_unigram(const aii_pieces *p, aii_gguf_writer *w)
{
  aii_put_bool(w, "tokenizer.ggml.remove_extra_whitespaces", p->remove_spaces);
  if (p->charsmap == NULL) return;
  aii_put_array(w, "tokenizer.ggml.precompiled_charsmap", AII_GGUF_U8, p->charsmap_bytes);
  aii_buf_add(&w->kvs, p->charsmap, p->charsmap_bytes);
}

void aii_pieces_put(const aii_pieces *p, uint32_t n_vocab, aii_gguf_writer *w)
{
  static const char *const models[] = {"llama", "t5", "gpt2", "bert"};
  static const char *const roles[N_ROLES] = {"tokenizer.ggml.bos_token_id",     "tokenizer.ggml.eos_token_id",
                                             "tokenizer.ggml.unknown_token_id", "tokenizer.ggml.seperator_token_id",
                                             "tokenizer.ggml.padding_token_id", "tokenizer.ggml.cls_token_id",
                                             "tokenizer.ggml.mask_token_id"};
  size_t n = AII_MAX(p->n, n_vocab);
  aii_put_str(w, "tokenizer.ggml.model", (aii_str){models[p->kind], strlen(models[p->kind])});
  aii_put_str(w, "tokenizer.ggml.pre", (aii_str){p->pre, strlen(p->pre)});
  put_arrays(p, n, w);
  for (size_t i = 0; i < N_ROLES; i++) {
    if (p->roles[i] >= 0 && (size_t)p->roles[i] < n) aii_put_u32(w, roles[i], (uint32_t)p->roles[i]);
  }
  if (p->add_bos >= 0) aii_put_bool(w, "tokenizer.ggml.add_bos_token", p->add_bos == 1);
  if (p->add_eos >= 0) aii_put_bool(w, "tokenizer.ggml.add_eos_token", p->add_eos == 1);
  if (p->space_prefix >= 0) aii_put_bool(w, "tokenizer.ggml.add_space_prefix", p->space_prefix == 1);
  if (p->kind == AII_PIECES_UNIGRAM) put_unigram(p, w);
}
