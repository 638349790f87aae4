/* vocab_piece.c - the bytes that each token prints.
 *
 * SPM: U+2581 becomes a space, <0xXX> the byte. BPE: each printable stand-in becomes its byte again. Special and
 * user-defined tokens print their text as it is; unused ones print nothing. aii_vocab_piece hides control tokens.
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

/* The byte of a stand-in; -1: none. */
static int char_to_byte(uint32_t cp)
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

static size_t spm_piece(aii_str text, bool byte_token, char *out)
{
  if (byte_token) {
    int hi = text.n == 6 ? hex_value(text.p[3]) : -1, lo = text.n == 6 ? hex_value(text.p[4]) : -1;
    if (hi >= 0 && lo >= 0) {
      out[0] = (char)(hi << 4 | lo);
      return 1;
    }
  }
  size_t n = 0;
  for (size_t i = 0; i < text.n; i++) {
    if (text.n - i >= 3 && memcmp(text.p + i, "\xE2\x96\x81", 3) == 0) {
      out[n++] = ' ';
      i += 2;
    } else {
      out[n++] = text.p[i];
    }
  }
  return n;
}

static size_t bpe_piece(aii_str text, char *out)
{
  size_t n = 0;
  for (size_t i = 0; i < text.n;) {
    uint32_t cp = 0;
    int len = aii_utf8_decode(text.p + i, text.n - i, &cp);
    int byte = len > 0 ? char_to_byte(cp) : -1;
    if (byte >= 0) {
      out[n++] = (char)byte;
      i += (size_t)len;
    } else { /* no stand-in: as it is */
      out[n++] = text.p[i++];
    }
  }
  return n;
}

aiinfra_status aii_vocab_build_pieces(aii_vocab *v, aiinfra_error *err)
{
  v->piece_bytes = (size_t)v->text_at[v->n_tokens] + 1;
  v->piece = aii_new_raw(v->mem, v->piece_bytes);
  v->piece_at = aii_new_array(v->mem, (size_t)v->n_tokens + 1, sizeof *v->piece_at);
  if (v->piece == NULL || v->piece_at == NULL) return aii_fail(err, AIINFRA_ENOMEM, "pieces of tokens");
  uint32_t at = 0;
  for (uint32_t i = 0; i < v->n_tokens; i++) {
    aii_str text = aii_vocab_symbol(v, i);
    switch (v->attr[i]) {
      case AII_TOKEN_NORMAL:
      case AII_TOKEN_BYTE:
        at += (uint32_t)(v->kind == AII_VOCAB_SPM ? spm_piece(text, v->attr[i] == AII_TOKEN_BYTE, v->piece + at)
                                                  : bpe_piece(text, v->piece + at));
        break;
      case AII_TOKEN_UNUSED: break;
      default:
        if (text.n > 0) memcpy(v->piece + at, text.p, text.n);
        at += (uint32_t)text.n;
        break;
    }
    v->piece_at[i + 1] = at;
  }
  return AIINFRA_OK;
}

aii_str aii_vocab_piece(const aii_vocab *v, aiinfra_token token, bool special)
{
  aii_str none = {"", 0};
  if (token < 0 || (uint32_t)token >= v->n_tokens) return none;
  if (!special && (v->flags[token] & AII_TF_CONTROL) != 0) return none;
  uint32_t from = v->piece_at[token];
  return (aii_str){v->piece + from, v->piece_at[token + 1] - from};
}
