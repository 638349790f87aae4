/* sentencepiece.c - reads a SentencePiece model: a Protocol Buffers message with the pieces and how they were trained.
 *
 * Only the fields that decide how text is cut are read: ModelProto.pieces 1 (piece 1, score 2, type 3), trainer_spec 2
 * (model_type 3, unk 40, bos 41, eos 42, pad 43), normalizer_spec 3 (charsmap 2, dummy prefix 3, extra spaces 4).
 * Every length is held against the bytes that remain; what is cut short or of another kind than BPE or unigram fails.
 */
#include "src/model/pieces.h"

enum { UNIGRAM = 1, BPE = 2 };

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

static aiinfra_status damaged(aiinfra_error *err)
{
  return aii_fail(err, AIINFRA_EFORMAT, "a damaged SentencePiece model");
}

static aiinfra_status read_piece(proto in, aii_pieces *out, aiinfra_error *err)
{
  field f = {0};
  bool bad = false;
  aii_piece piece = {.text = {"", 0}, .type = AII_TOKEN_NORMAL};
  while (next_field(&in, &f, &bad)) {
    if (f.number == 1 && f.wire == 2)
      piece.text = (aii_str){(const char *)f.inside.at, (size_t)(f.inside.end - f.inside.at)};
    if (f.number == 2 && f.wire == 5) {
      uint32_t bits = aii_load32(f.inside.at);
      memcpy(&piece.score, &bits, sizeof bits);
    }
    if (f.number == 3 && f.wire == 0 && f.value >= 1 && f.value <= 6) piece.type = (int32_t)f.value;
  }
  return bad ? damaged(err) : aii_pieces_set(out, (int64_t)out->n, piece, err);
}

static aiinfra_status read_trainer(proto in, aii_pieces *out, uint64_t *kind, aiinfra_error *err)
{
  field f = {0};
  bool bad = false;
  while (next_field(&in, &f, &bad)) {
    if (f.wire != 0) continue;
    if (f.number == 3) *kind = f.value;
    if (f.number == 40) out->roles[ROLE_UNK] = (int32_t)f.value;
    if (f.number == 41) out->roles[ROLE_BOS] = (int32_t)f.value;
    if (f.number == 42) out->roles[ROLE_EOS] = (int32_t)f.value;
    if (f.number == 43) out->roles[ROLE_PAD] = (int32_t)f.value;
  }
  return bad ? damaged(err) : AIINFRA_OK;
}

static aiinfra_status read_normalizer(proto in, aii_pieces *out, aiinfra_error *err)
{
  field f = {0};
  bool bad = false;
  while (next_field(&in, &f, &bad)) {
    if (f.number == 2 && f.wire == 2 && f.inside.end > f.inside.at) {
      out->charsmap = f.inside.at;
      out->charsmap_bytes = (size_t)(f.inside.end - f.inside.at);
    }
    if (f.number == 3 && f.wire == 0) out->space_prefix = f.value != 0;
    if (f.number == 4 && f.wire == 0) out->remove_spaces = f.value != 0;
  }
  return bad ? damaged(err) : AIINFRA_OK;
}

bool aii_is_sentencepiece(aii_file file)
{
  return file.size > 4 && file.bytes[0] == 0x0A && file.bytes[1] != 0 && file.bytes[2] == 0x0A;
}

aiinfra_status aii_sentencepiece_parse(aii_file file, aii_pieces *out, aiinfra_error *err)
{
  proto in = {file.bytes, file.bytes + file.size};
  field f = {0};
  bool bad = false;
  uint64_t kind = UNIGRAM; /* what a missing model_type means */
  aiinfra_status rc = AIINFRA_OK;
  out->roles[ROLE_UNK] = 0;
  out->roles[ROLE_BOS] = 1;
  out->roles[ROLE_EOS] = 2;
  out->space_prefix = 1;
  out->remove_spaces = true;
  while (rc == AIINFRA_OK && next_field(&in, &f, &bad)) {
    if (f.wire != 2) continue;
    if (f.number == 1) rc = read_piece(f.inside, out, err);
    if (f.number == 2) rc = read_trainer(f.inside, out, &kind, err);
    if (f.number == 3) rc = read_normalizer(f.inside, out, err);
  }
  if (rc == AIINFRA_OK && (bad || out->n == 0)) rc = damaged(err);
  if (rc == AIINFRA_OK && kind != BPE && kind != UNIGRAM) {
    rc = aii_fail(err, AIINFRA_ENOTSUP, "a SentencePiece model of another kind than BPE and unigram");
  }
  out->kind = kind == BPE ? AII_PIECES_SPM : AII_PIECES_UNIGRAM;
  return rc;
}
