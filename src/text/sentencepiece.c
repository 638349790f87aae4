/* sentencepiece.c - SentencePiece's tokenizer.model, a protocol buffer: pieces, what trained them, how text is made
 * normal.
 *
 * ModelProto: 1 pieces {1 text, 2 score, 3 type}, 2 trainer {3 kind, 35 byte fallback, 40..43 special ids}, 3 normalizer
 * {2 precompiled table, 3 dummy prefix, 4 extra spaces, 5 escape}. Fields that are not named here are skipped. BPE
 * becomes SPM, Unigram UGM, described as a GGUF file would; other kinds are refused. The parts of the trainer and the
 * normalizer stand behind the pieces, so a file without one was cut short.
 */
#include "src/text/hf_impl.h"

typedef struct field {
  uint32_t number;
  uint64_t value; /* of a varint */
  aii_str bytes;  /* of a string, a message, a float */
} field;

static bool varint(aii_str *s, uint64_t *out)
{
  *out = 0;
  for (unsigned shift = 0; shift < 64 && s->n > 0; shift += 7) {
    uint8_t byte = (uint8_t)s->p[0];
    s->p++, s->n--;
    *out |= (uint64_t)(byte & 0x7F) << shift;
    if ((byte & 0x80) == 0) return true;
  }
  return false;
}

/* The next field of a message; false at its end or, with *broken, where it makes no sense. */
static bool next_field(aii_str *s, field *out, bool *broken)
{
  uint64_t tag, n = 0;
  if (s->n == 0) return false;
  *broken = true;
  if (!varint(s, &tag) || tag >> 3 == 0 || tag >> 3 > UINT32_MAX) return false;
  *out = (field){.number = (uint32_t)(tag >> 3)};
  switch (tag & 7) {
    case 0:
      if (!varint(s, &out->value)) return false;
      break;
    case 1: n = 8; break;
    case 2:
      if (!varint(s, &n)) return false;
      break;
    case 5: n = 4; break;
    default: return false;
  }
  if (n > s->n) return false;
  out->bytes = (aii_str){s->p, (size_t)n};
  s->p += n;
  s->n -= (size_t)n;
  *broken = false;
  return true;
}

typedef struct reader {
  aii_hftok hf; /* its arrays of tokens, types and scores */
  uint64_t kind;
  bool byte_fallback, prefix, extra_spaces;
  int64_t unk, bos, eos, pad;
  aii_str charsmap;
} reader;

static aiinfra_status broken_at(reader *r, const char *what)
{
  return aii_fail(r->hf.err, AIINFRA_EFORMAT, "%s is no protocol buffer of SentencePiece's", what);
}

static aiinfra_status read_piece(reader *r, aii_str message)
{
  enum { NORMAL = 1, BYTE = 6 };
  field f;
  bool broken = false;
  aii_str text = {"", 0};
  float score = 0;
  uint64_t type = NORMAL;
  while (next_field(&message, &f, &broken)) {
    if (f.number == 1) text = f.bytes;
    if (f.number == 2 && f.bytes.n == 4) memcpy(&score, f.bytes.p, 4);
    if (f.number == 3) type = f.value;
  }
  if (broken || type < NORMAL || type > BYTE) return broken_at(r, "a piece");
  int64_t id = r->hf.desc.n_tokens;
  aiinfra_status rc = aii_hftok_token(&r->hf, text, id, "pieces");
  if (rc != AIINFRA_OK) return rc;
  r->hf.types[id] = (int32_t)type;
  r->hf.log_probs[id] = (double)score;
  return AIINFRA_OK;
}

static aiinfra_status read_trainer(reader *r, aii_str message)
{
  field f;
  bool broken = false;
  while (next_field(&message, &f, &broken)) {
    switch (f.number) {
      case 3: r->kind = f.value; break;
      case 35: r->byte_fallback = f.value != 0; break;
      case 40: r->unk = (int64_t)f.value; break;
      case 41: r->bos = (int64_t)f.value; break;
      case 42: r->eos = (int64_t)f.value; break;
      case 43: r->pad = (int64_t)f.value; break;
      default: break;
    }
  }
  return broken ? broken_at(r, "the trainer's part") : AIINFRA_OK;
}

static aiinfra_status read_normalizer(reader *r, aii_str message)
{
  field f;
  bool broken = false, escape = true;
  while (next_field(&message, &f, &broken)) {
    if (f.number == 2) r->charsmap = f.bytes;
    if (f.number == 3) r->prefix = f.value != 0;
    if (f.number == 4) r->extra_spaces = f.value != 0;
    if (f.number == 5) escape = f.value != 0;
  }
  if (!broken && !escape)
    return aii_fail(r->hf.err, AIINFRA_ENOTSUP, "escape_whitespaces: false is not in this version");
  return broken ? broken_at(r, "the normalizer's part") : AIINFRA_OK;
}

/* Looks through the file before anything is made of it. */
static aiinfra_status check_model(reader *r, aii_str model)
{
  field f;
  bool broken = false, trainer = false, normalizer = false;
  while (next_field(&model, &f, &broken)) {
    trainer |= f.number == 2;
    normalizer |= f.number == 3;
  }
  if (broken) return broken_at(r, "the file");
  if (trainer && normalizer) return AIINFRA_OK;
  return aii_fail(r->hf.err, AIINFRA_EFORMAT, "the file ends too soon: it has no part about its %s",
                  trainer ? "normalizer" : "trainer");
}

static aiinfra_status read_model(reader *r, aii_str model)
{
  field f;
  bool broken = false;
  aiinfra_status rc = AIINFRA_OK;
  while (rc == AIINFRA_OK && next_field(&model, &f, &broken)) {
    if (f.number == 1) rc = read_piece(r, f.bytes);
    if (f.number == 2) rc = read_trainer(r, f.bytes);
    if (f.number == 3) rc = read_normalizer(r, f.bytes);
  }
  if (rc != AIINFRA_OK) return rc;
  return broken || r->hf.desc.n_tokens == 0 ? broken_at(r, "the file") : AIINFRA_OK;
}

static int32_t in_range(const reader *r, int64_t id)
{
  return id >= 0 && id < r->hf.desc.n_tokens ? (int32_t)id : -1;
}

static aiinfra_status finish(reader *r, aii_vocab **out)
{
  enum { UNIGRAM = 1, BPE = 2 };
  aii_hftok *hf = &r->hf;
  aii_vocab_desc *d = &hf->desc;
  if (r->kind != UNIGRAM && r->kind != BPE) {
    return aii_fail(hf->err, AIINFRA_ENOTSUP, "only Unigram and BPE models are in this version, not kind %llu",
                    (unsigned long long)r->kind);
  }
  d->kind = r->kind == BPE ? AII_VOCAB_SPM : AII_VOCAB_UGM;
  d->unk = in_range(r, r->unk);
  d->bos = in_range(r, r->bos);
  d->eos = in_range(r, r->eos);
  d->pad = in_range(r, r->pad);
  d->add_space_prefix = r->prefix;
  d->remove_extra_spaces = r->extra_spaces;
  d->charsmap = r->charsmap;
  d->add_bos = aii_hftok_flag(hf->config, "add_bos_token", r->kind == BPE);
  d->add_eos = aii_hftok_flag(hf->config, "add_eos_token", r->kind == UNIGRAM);
  aiinfra_status rc = aii_hftok_config_tokens(hf);
  if (rc == AIINFRA_OK) rc = aii_hftok_ids(hf);
  if (rc != AIINFRA_OK) return rc;
  float *scores = aii_new_array(hf->mem, d->n_tokens, sizeof *scores);
  if (scores == NULL) return aii_hftok_no_memory(hf);
  for (uint32_t i = 0; i < d->n_tokens; i++) scores[i] = (float)hf->log_probs[i];
  d->tokens = hf->tokens;
  d->types = hf->types;
  d->scores = scores;
  aii_vocab_spec spec;
  rc = aii_vocab_gguf_spec(hf->mem, d, &spec, hf->err);
  spec.float_scores = true;
  if (rc == AIINFRA_OK) rc = aii_vocab_build(hf->mem, d, &spec, out, hf->err);
  aii_del(hf->mem, scores, d->n_tokens * sizeof *scores);
  return rc;
}

bool aii_is_sentencepiece(const char *file, size_t n)
{
  return n > 4 && file[0] == 0x0A && file[1] != 0 && file[2] == 0x0A;
}

aiinfra_status aii_vocab_from_sentencepiece(aii_mem *mem, const char *model, size_t n, const aii_vocab_extras *extras,
                                            aii_vocab **out, aiinfra_error *err)
{
  enum { UNIGRAM = 1 };
  reader r = {.kind = UNIGRAM, .prefix = true, .extra_spaces = true, .unk = 0, .bos = 1, .eos = 2, .pad = -1};
  *out = NULL;
  aii_hftok_init(&r.hf, n, mem, err);
  aiinfra_status rc = aii_hftok_read_extras(&r.hf, extras);
  if (rc == AIINFRA_OK) rc = check_model(&r, (aii_str){model, n});
  if (rc == AIINFRA_OK) rc = read_model(&r, (aii_str){model, n});
  if (extras != NULL && extras->keep_spaces) r.extra_spaces = false;
  if (rc == AIINFRA_OK) rc = finish(&r, out);
  aii_hftok_free(&r.hf);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "SentencePiece model");
}
