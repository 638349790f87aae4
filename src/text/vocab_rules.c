/* vocab_rules.c - what a vocabulary file leaves unsaid: end of generation, attributes by text, defaults.
 *
 * The rules follow llama.cpp, whose files these are: certain texts end generation and are control tokens whatever
 * the file says; some pairs of texts exclude each other; phi-3's special tokens swallow the white space behind them.
 */
#include "src/text/vocab_impl.h"

static const char *const EOG_TEXTS[] = {"<|eot_id|>",
                                        "<|im_end|>",
                                        "<|end|>",
                                        "<|return|>",
                                        "<|call|>",
                                        "<|flush|>",
                                        "<|calls|>",
                                        "<end_of_turn>",
                                        "<|endoftext|>",
                                        "<|eom_id|>",
                                        "<EOT>",
                                        "[EOT]",
                                        "[EOS]",
                                        "<|end_of_text|>",
                                        "<end_of_utterance>",
                                        "<eos>",
                                        "<turn|>",
                                        "<\xEF\xBD\x9C"
                                        "end\xE2\x96\x81"
                                        "of\xE2\x96\x81"
                                        "sentence\xEF\xBD\x9C>",
                                        "_<EOT>",
                                        "[e~[",
                                        "<|tool_response>",
                                        "</s>"};

/* Fill-in-the-middle texts that end generation too: padding, repository, file separator. */
static const char *const FIM_TEXTS[] = {"<|fim_pad|>", "<fim-pad>",    "<fim_pad>",     "<PAD>",
                                        "[PAD]",       "<|fim_repo|>", "<|repo_name|>", "<fim-repo>",
                                        "<REPO>",      "<reponame>",   "<|file_sep|>",  "<|fim_sep|>"};

/* Control in some files, but part of what a model says: they must be printed and seen by grammars. */
static const char *const USER_TEXTS[] = {"<|channel|>",   "<|message|>", "<|start|>",
                                         "<|constrain|>", "<tool_call>", "</tool_call>"};

static int32_t find(const aii_vocab *v, const char *text)
{
  return aii_vocab_find(v, text, strlen(text));
}

static void set_eog(aii_vocab *v, int32_t token)
{
  if (token >= 0) v->flags[token] |= AII_TF_EOG;
}

static void drop_eog(aii_vocab *v, const char *text, aii_token_attr attr)
{
  int32_t token = find(v, text);
  if (token < 0) return;
  v->flags[token] &= (uint8_t)~AII_TF_EOG;
  v->attr[token] = (uint8_t)attr;
}

static void mark_eog(aii_vocab *v)
{
  set_eog(v, v->eos);
  set_eog(v, v->eot);
  set_eog(v, v->eom);
  for (size_t i = 0; i < AII_COUNT(EOG_TEXTS); i++) {
    int32_t token = find(v, EOG_TEXTS[i]);
    if (token < 0) continue;
    set_eog(v, token);
    v->attr[token] = AII_TOKEN_CONTROL;
  }
  for (size_t i = 0; i < AII_COUNT(FIM_TEXTS); i++) {
    int32_t token = find(v, FIM_TEXTS[i]);
    if (token >= 0 && v->attr[token] == AII_TOKEN_CONTROL) set_eog(v, token);
  }
  bool call = find(v, "<|call|>") >= 0 || find(v, "<|calls|>") >= 0;
  if (call && (find(v, "<|return|>") >= 0 || find(v, "<|flush|>") >= 0)) drop_eog(v, "<|end|>", AII_TOKEN_USER);
  if (find(v, "<|tool_response>") >= 0) drop_eog(v, "</s>", AII_TOKEN_NORMAL);
}

/* phi-3 is known by its place holders: its file does not name the attribute. */
static void mark_rstrip(aii_vocab *v)
{
  if (v->kind != AII_VOCAB_SPM || find(v, "<|placeholder1|>") < 0 || find(v, "<|assistant|>") < 0) return;
  static const char *const plain[] = {"<unk>", "<s>", "<|endoftext|>"};
  for (uint32_t i = 0; i < v->n_tokens; i++) {
    if (v->attr[i] == AII_TOKEN_CONTROL || v->attr[i] == AII_TOKEN_UNKNOWN || v->attr[i] == AII_TOKEN_USER) {
      v->flags[i] |= AII_TF_RSTRIP;
    }
  }
  int32_t end = find(v, "</s>");
  if (end >= 0) v->flags[end] |= AII_TF_RSTRIP;
  for (size_t i = 0; i < AII_COUNT(plain); i++) {
    int32_t token = find(v, plain[i]);
    if (token >= 0) v->flags[token] &= (uint8_t)~AII_TF_RSTRIP;
  }
}

/* Some texts are special or not whatever the file says. */
static void mark_by_text(aii_vocab *v)
{
  for (size_t i = 0; i < AII_COUNT(USER_TEXTS); i++) {
    int32_t token = find(v, USER_TEXTS[i]);
    if (token >= 0 && v->attr[token] == AII_TOKEN_CONTROL) v->attr[token] = AII_TOKEN_USER;
  }
  mark_eog(v);
  if (v->spec.by_file) mark_rstrip(v);
}

void aii_vocab_apply_rules(aii_vocab *v, const aii_vocab_desc *d)
{
  v->bos = d->bos;
  v->eos = d->eos;
  v->unk = d->unk;
  v->eot = d->eot;
  v->eom = d->eom;
  v->pad = d->pad;
  v->sep = d->sep;
  mark_by_text(v);
  for (uint32_t i = 0; i < v->n_tokens; i++) {
    bool control = v->attr[i] == AII_TOKEN_CONTROL || v->attr[i] == AII_TOKEN_UNKNOWN;
    if (control) v->flags[i] |= AII_TF_CONTROL;
    if (v->spec.by_file && (control || v->attr[i] == AII_TOKEN_USER)) v->flags[i] |= AII_TF_ADDED;
  }
}
