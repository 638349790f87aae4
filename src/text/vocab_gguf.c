/* vocab_gguf.c - how a vocabulary works that says no more of itself than a GGUF file does.
 *
 * SPM and UGM normalise as SentencePiece; BPE splits by the pre-tokenizer's name; WPM normalises and splits as BERT.
 * The defaults about bos, eos and sep follow llama.cpp, whose files these are.
 */
#include "src/text/vocab_impl.h"

static const char META[] = "\xE2\x96\x81";
static const aii_str META_STR = {META, 3}, SPACE_STR = {" ", 1};

static bool sentencepiece_steps(aii_mem *mem, const aii_vocab_desc *d, aii_pipeline *p)
{
  uint32_t flags =
      (d->add_space_prefix != 0 ? AII_NORM_PREFIX : 0u) | (d->remove_extra_spaces > 0 ? AII_NORM_EXTRA_SPACES : 0u);
  return aii_pipe_norm(mem, p, (aii_norm_step){.kind = AII_NORM_PIECES, .flags = flags, .from = d->charsmap});
}

bool aii_bert_steps(aii_mem *mem, aii_pipeline *p, bool lower, bool strip_accents, bool cjk, bool clean)
{
  return (!clean || aii_pipe_norm(mem, p, (aii_norm_step){.kind = AII_NORM_CLEAN})) &&
         (!cjk || aii_pipe_norm(mem, p, (aii_norm_step){.kind = AII_NORM_CJK})) &&
         (!strip_accents || (aii_pipe_norm(mem, p, (aii_norm_step){.kind = AII_NORM_NFD}) &&
                             aii_pipe_norm(mem, p, (aii_norm_step){.kind = AII_NORM_STRIP_MN}))) &&
         (!lower || aii_pipe_norm(mem, p, (aii_norm_step){.kind = AII_NORM_LOWER}));
}

bool aii_bert_splits(aii_mem *mem, aii_pipeline *p)
{
  aii_split_step space = {.kind = AII_SPLIT_EXPR, .behavior = AII_REMOVED, .expr = aii_expr_by_name("space")},
                 punct = {.kind = AII_SPLIT_EXPR, .expr = aii_expr_by_name("one-punct")};
  return aii_pipe_split(mem, p, space) && aii_pipe_split(mem, p, punct);
}

/* U+2581 is a space; bytes are bytes; the text as a whole loses the space that was put in front. */
static bool meta_decoders(aii_mem *mem, bool strip, aii_pipeline *p)
{
  return aii_pipe_decode(mem, p, (aii_decode_step){.kind = AII_DECODE_REPLACE, .from = META_STR, .to = SPACE_STR}) &&
         aii_pipe_decode(mem, p, (aii_decode_step){.kind = AII_DECODE_BYTE_FALLBACK}) &&
         aii_pipe_decode(mem, p, (aii_decode_step){.kind = AII_DECODE_FUSE}) &&
         (!strip ||
          aii_pipe_decode(mem, p, (aii_decode_step){.kind = AII_DECODE_STRIP, .flags = 1, .from = SPACE_STR}));
}

static bool bpe_steps(aii_mem *mem, const aii_pretok *pre, aii_vocab_spec *s)
{
  aii_pipeline *p = &s->pipe;
  bool raw = (aii_pretok_flags(pre) & AII_PRE_RAW) != 0;
  s->byte_level = !raw;
  s->byte_fallback = raw;
  s->ignore_merges = (aii_pretok_flags(pre) & AII_PRE_IGNORE_MERGES) != 0;
  if (!aii_pretok_steps(pre, mem, p)) return false;
  if (!raw) return aii_pipe_decode(mem, p, (aii_decode_step){.kind = AII_DECODE_BYTE_LEVEL});
  return aii_pipe_norm(mem, p, (aii_norm_step){.kind = AII_NORM_REPLACE, .from = SPACE_STR, .to = META_STR}) &&
         meta_decoders(mem, false, p);
}

static bool make_steps(aii_mem *mem, const aii_vocab_desc *d, const aii_pretok *pre, aii_vocab_spec *s)
{
  bool strip = d->add_space_prefix != 0;
  switch (d->kind) {
    case AII_VOCAB_BPE: return bpe_steps(mem, pre, s);
    case AII_VOCAB_WPM:
      s->word_prefix = META_STR;
      return aii_bert_steps(mem, &s->pipe, true, true, true, true) && aii_bert_splits(mem, &s->pipe) &&
             meta_decoders(mem, true, &s->pipe);
    case AII_VOCAB_UGM:
      s->byte_fallback = s->fuse_unk = true;
      return sentencepiece_steps(mem, d, &s->pipe) && meta_decoders(mem, strip, &s->pipe);
    default: return sentencepiece_steps(mem, d, &s->pipe) && meta_decoders(mem, strip, &s->pipe);
  }
}

static void around(const aii_vocab_desc *d, const aii_pretok *pre, aii_vocab_spec *s)
{
  uint32_t flags = pre != NULL ? aii_pretok_flags(pre) : 0;
  bool bos = d->kind == AII_VOCAB_SPM || d->kind == AII_VOCAB_WPM || (flags & AII_PRE_ADD_BOS) != 0;
  bool eos = d->kind == AII_VOCAB_UGM, sep = d->kind == AII_VOCAB_WPM || (flags & AII_PRE_ADD_SEP) != 0;
  if (d->add_bos >= 0) bos = d->add_bos != 0;
  if (d->add_eos >= 0) eos = d->add_eos != 0;
  if (d->add_sep >= 0) sep = d->add_sep != 0;
  if (bos && d->bos >= 0) s->before[s->n_before++] = d->bos;
  if (eos && d->eos >= 0) s->behind[s->n_behind++] = d->eos;
  if (sep && d->sep >= 0) s->behind[s->n_behind++] = d->sep;
}

aiinfra_status aii_vocab_gguf_spec(aii_mem *mem, const aii_vocab_desc *d, aii_vocab_spec *s, aiinfra_error *err)
{
  *s = (aii_vocab_spec){.by_file = true};
  const aii_pretok *pre = NULL;
  if (d->kind == AII_VOCAB_BPE) {
    pre = aii_pretok_find(d->pre != NULL ? d->pre : "default");
    if (pre == NULL) return aii_fail(err, AIINFRA_ENOTSUP, "the pre-tokenizer \"%s\" is not known", d->pre);
  }
  if (d->charsmap.n > 0 && !aii_charsmap_valid(d->charsmap)) {
    return aii_fail(err, AIINFRA_EFORMAT, "the precompiled normalisation table is broken");
  }
  if (!make_steps(mem, d, pre, s)) {
    aii_pipe_free(mem, &s->pipe);
    return aii_fail(err, AIINFRA_ENOMEM, "vocabulary");
  }
  around(d, pre, s);
  return AIINFRA_OK;
}
