/* decode.c - the bytes that each token prints, by the decoders of its vocabulary.
 *
 * They are computed once, as of a token that is not the first; where the first of a text differs (Metaspace,
 * WordPiece) it is computed when it comes. In GGUF's files the attributes rule: special and user-defined tokens print
 * their text as it is, unused ones nothing. In Hugging Face's every token goes through the decoders, an added one that is
 * found in normalised text as its normal form.
 */
#include "src/text/vocab_impl.h"

size_t aii_byte_to_char(uint8_t byte, char out[4])
{
  bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
  if (printable) return aii_utf8_encode(byte, out);
  /* the other 68 in their order: 0..32, 127..160, 173 */
  uint32_t nth = byte <= 0x20 ? byte : byte <= 0xA0 ? byte - 0x7Fu + 33 : 67;
  return aii_utf8_encode(256 + nth, out);
}

int aii_char_to_byte(uint32_t cp)
{
  if ((cp >= 0x21 && cp <= 0x7E) || (cp >= 0xA1 && cp <= 0xAC) || (cp >= 0xAE && cp <= 0xFF)) return (int)cp;
  if (cp < 256 || cp >= 256 + 68) return -1;
  uint32_t nth = cp - 256;
  return nth <= 32 ? (int)nth : nth < 67 ? (int)(nth - 33 + 0x7F) : 0xAD;
}

static int hex_value(char c)
{
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

/* The byte of "<0xXX>"; -1: another text. */
static int byte_token(aii_str s)
{
  if (s.n != 6 || memcmp(s.p, "<0x", 3) != 0 || s.p[5] != '>') return -1;
  int hi = hex_value(s.p[3]), lo = hex_value(s.p[4]);
  return hi >= 0 && lo >= 0 ? hi << 4 | lo : -1;
}

static void replace(aii_str s, aii_str from, aii_str to, aii_buf *out)
{
  size_t at = 0;
  while (from.n > 0 && at < s.n) {
    const char *found = memmem(s.p + at, s.n - at, from.p, from.n);
    if (found == NULL) break;
    aii_buf_add(out, s.p + at, (size_t)(found - s.p) - at);
    aii_buf_add(out, to.p, to.n);
    at = (size_t)(found - s.p) + from.n;
  }
  aii_buf_add(out, s.p + at, s.n - at);
}

/* Stand-ins become bytes again; a token with a character that is none prints as it is. */
static void byte_level(aii_str s, aii_buf *out)
{
  size_t before = out->len;
  for (size_t i = 0; i < s.n;) {
    uint32_t cp = 0;
    int len = aii_utf8_decode(s.p + i, s.n - i, &cp);
    int byte = len > 0 ? aii_char_to_byte(cp) : -1;
    if (byte < 0) {
      if (out->data != NULL) out->len = before;
      aii_buf_add(out, s.p, s.n);
      return;
    }
    aii_buf_char(out, (char)byte);
    i += (size_t)len;
  }
}

/* What tokenizing English took apart comes together again, within one token, as Hugging Face does it. */
static void clean_up(aii_buf *text, aii_buf *spare)
{
  static const struct {
    const char *from, *to;
  } rules[] = {{" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},   {" n't", "n't"},
               {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (size_t i = 0; i < AII_COUNT(rules); i++) {
    aii_buf_clear(spare);
    replace((aii_str){aii_buf_cstr(text), text->len}, (aii_str){rules[i].from, strlen(rules[i].from)},
            (aii_str){rules[i].to, strlen(rules[i].to)}, spare);
    aii_buf held = *text;
    *text = *spare;
    *spare = held;
  }
}

static void wordpiece(const aii_decode_step *step, aii_str s, bool first, aii_buf *out)
{
  if (!first) {
    if (step->from.n > 0 && s.n >= step->from.n && memcmp(s.p, step->from.p, step->from.n) == 0) {
      s = (aii_str){s.p + step->from.n, s.n - step->from.n};
    } else {
      aii_buf_char(out, ' ');
    }
  }
  aii_buf_add(out, s.p, s.n);
}

static aii_str strip(const aii_decode_step *step, aii_str s)
{
  aii_str c = step->from;
  for (uint32_t i = step->flags & 0xFFFF; i > 0 && s.n >= c.n && memcmp(s.p, c.p, c.n) == 0; i--)
    s.p += c.n, s.n -= c.n;
  for (uint32_t i = step->flags >> 16; i > 0 && s.n >= c.n && memcmp(s.p + s.n - c.n, c.p, c.n) == 0; i--) s.n -= c.n;
  return s;
}

/* One step from s to *to. False: what follows concerns the whole text. */
static bool decode_step(const aii_decode_step *step, aii_str s, bool first, aii_buf *to, aii_buf *spare)
{
  int byte;
  switch (step->kind) {
    case AII_DECODE_SUFFIX:
    case AII_DECODE_REPLACE: replace(s, step->from, step->to, to); break;
    case AII_DECODE_BYTE_LEVEL: byte_level(s, to); break;
    case AII_DECODE_BYTE_FALLBACK:
      byte = byte_token(s);
      if (byte >= 0) aii_buf_char(to, (char)byte);
      if (byte < 0) aii_buf_add(to, s.p, s.n);
      break;
    case AII_DECODE_META:
      replace(s, step->from, first && step->flags != 0 ? (aii_str){"", 0} : (aii_str){" ", 1}, to);
      break;
    case AII_DECODE_WORDPIECE:
      wordpiece(step, s, first, to);
      if (step->flags != 0) clean_up(to, spare);
      break;
    case AII_DECODE_STRIP:
      s = strip(step, s);
      aii_buf_add(to, s.p, s.n);
      break;
    case AII_DECODE_JOIN:
      if (!first) aii_buf_char(to, ' ');
      aii_buf_add(to, s.p, s.n);
      break;
    case AII_DECODE_FUSE: return false;
  }
  return true;
}

static bool prints_as_is(const aii_vocab *v, aiinfra_token token)
{
  return v->spec.by_file && v->attr[token] != AII_TOKEN_NORMAL && v->attr[token] != AII_TOKEN_BYTE;
}

void aii_vocab_decode(const aii_vocab *v, aiinfra_token token, bool first, aii_buf *out)
{
  aii_str s = aii_vocab_symbol(v, (uint32_t)token);
  if (v->attr[token] == AII_TOKEN_UNUSED) return;
  aii_buf work[5];
  size_t at = 0;
  for (size_t i = 0; i < AII_COUNT(work); i++) aii_buf_init(&work[i], out->mem, 0);
  const aii_pipeline *pipe = &v->spec.pipe;
  if ((v->flags[token] & AII_TF_NORMALIZED) != 0 &&
      aii_normalize(pipe, s, true, &work[3], &s, NULL) == AIINFRA_ENOMEM) {
    out->failed = true;
  }
  for (size_t i = 0; i < pipe->n_decode && !prints_as_is(v, token); i++) {
    const aii_decode_step *step = &pipe->decode[i];
    bool plain = v->spec.by_file && step->kind == AII_DECODE_BYTE_FALLBACK && v->attr[token] != AII_TOKEN_BYTE;
    if (plain) continue;
    aii_buf_clear(&work[at]);
    if (!decode_step(step, s, first, &work[at], &work[2])) break;
    if (work[at].failed || work[2].failed) out->failed = true;
    s = (aii_str){aii_buf_cstr(&work[at]), work[at].len};
    at = 1 - at;
  }
  aii_buf_add(out, s.p, s.n);
  for (size_t i = 0; i < AII_COUNT(work); i++) aii_buf_free(&work[i]);
}

/* What the steps mean for a text as a whole. */
static void note_first(aii_vocab *v)
{
  const aii_pipeline *pipe = &v->spec.pipe;
  bool fused = false;
  for (size_t i = 0; i < pipe->n_decode; i++) {
    const aii_decode_step *step = &pipe->decode[i];
    v->first_differs |= (step->kind == AII_DECODE_META && step->flags != 0) || step->kind == AII_DECODE_WORDPIECE ||
                        step->kind == AII_DECODE_JOIN;
    v->split_errors |= step->kind == AII_DECODE_BYTE_FALLBACK && !v->spec.by_file;
    v->holds_space |= step->kind == AII_DECODE_SUFFIX;
    fused |= step->kind == AII_DECODE_FUSE;
    if (fused && step->kind == AII_DECODE_STRIP) v->strip_first = step->flags & 0xFFFF;
  }
}

aiinfra_status aii_vocab_build_pieces(aii_vocab *v, aiinfra_error *err)
{
  v->piece_at = aii_new_array(v->mem, (size_t)v->n_tokens + 1, sizeof *v->piece_at);
  if (v->piece_at == NULL) return aii_fail(err, AIINFRA_ENOMEM, "pieces of tokens");
  note_first(v);
  aii_buf_add(&v->piece, "", 0);
  for (uint32_t i = 0; i < v->n_tokens; i++) {
    aii_vocab_decode(v, (aiinfra_token)i, false, &v->piece);
    v->piece_at[i + 1] = (uint32_t)v->piece.len;
  }
  return v->piece.failed ? aii_fail(err, AIINFRA_ENOMEM, "pieces of tokens") : AIINFRA_OK;
}
