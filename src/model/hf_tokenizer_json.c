/* hf_tokenizer_json.c - reads the vocabulary of a tokenizer.json: byte-level BPE, BPE with bytes to fall back on (as
 * SentencePiece makes it), Unigram, WordPiece.
 *
 * GGUF names the way text is cut before BPE instead of spelling it out. The name is found by the regular expressions of
 * the pre-tokenizer, which are compared letter by letter with those of known models; any other one is refused, because
 * a wrong cut gives wrong tokens without a sign.
 */
#include <math.h>

#include "src/model/hf_tokenizer.h"

/* ---- the pre-tokenizer ------------------------------------------------------------------------------------------------ */

#define CASES "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define BLANKS "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define LLAMA3(digits) CASES "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" BLANKS

/* The expressions in their order, each behind a line end; "<bytes>" is the rule of GPT-2 that the byte level brings. */
static const struct {
  const char *rules, *pre;
  bool front; /* only the beginning is compared */
} known[] = {
    {"\n<bytes>", "gpt-2", false},
    {"\n" LLAMA3("\\p{N}{1,3}"), "llama-bpe", false},
    {"\n" LLAMA3("\\p{N}"), "qwen2", false},
    {"\n" CASES "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" BLANKS, "qwen35",
     false},
    {"\n[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER
     "*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" BLANKS,
     "tekken", false},
    {"\n[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" CASES "?|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*" CASES
     "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" BLANKS,
     "gpt-4o", false},
    {"\n<digits>\n<bytes>", "smollm", false},
    {"\n\\p{N}{1,3}\n[\xE4\xB8\x80-", "deepseek-v3", true},
    {"\n[\r\n]\n\\s?\\p{L}+", "deepseek-coder", true},
    {"\n[\r\n]\n\\s?[A-Za-z", "deepseek-llm", true},
    {"\n<punctuation>\n<bytes>\n<digit runs>\n[0-9][0-9][0-9]", "falcon", false},
};

static void add_rule(aii_buf *rules, const json_t *step)
{
  const char *type = json_string_value(json_object_get(step, "type"));
  const char *regex = json_string_value(aii_hf_find(step, "pattern.Regex|pattern.String"));
  const json_t *own = json_object_get(step, "use_regex");
  if (type == NULL) return;
  if (strcmp(type, "Split") == 0) aii_buf_fmt(rules, "\n%s", regex != NULL ? regex : "");
  else if (strcmp(type, "ByteLevel") == 0) aii_buf_str(rules, json_is_false(own) ? "" : "\n<bytes>");
  else if (strcmp(type, "Punctuation") == 0) aii_buf_str(rules, "\n<punctuation>");
  else if (strcmp(type, "Digits") == 0)
    aii_buf_str(rules, json_is_true(json_object_get(step, "individual_digits")) ? "\n<digits>" : "\n<digit runs>");
  else aii_buf_fmt(rules, "\n<%s>", type);
}

static aiinfra_status find_pre(aii_hf_tokens *t, const json_t *json)
{
  const json_t *pre = json_object_get(json, "pre_tokenizer");
  const json_t *steps = json_object_get(pre, "pretokenizers");
  aii_buf rules;
  aiinfra_status rc = AIINFRA_OK;
  aii_buf_init(&rules, t->hf->mem, 0);
  if (!json_is_array(steps)) add_rule(&rules, pre);
  for (size_t i = 0; i < json_array_size(steps); i++) add_rule(&rules, json_array_get(steps, i));
  const char *found = NULL, *text = aii_buf_cstr(&rules);
  for (size_t i = 0; i < AII_COUNT(known) && found == NULL; i++) {
    bool same =
        known[i].front ? strncmp(text, known[i].rules, strlen(known[i].rules)) == 0 : strcmp(text, known[i].rules) == 0;
    if (same) found = known[i].pre;
  }
  if (rules.failed) {
    rc = aii_fail(t->hf->err, AIINFRA_ENOMEM, "no memory for the pre-tokenizer's rules");
  } else if (found == NULL) {
    rc = aii_fail(t->hf->err, AIINFRA_ENOTSUP, "the pre-tokenizer's rules are not known to this version:%.300s", text);
  } else {
    bool whole = json_is_true(aii_hf_find(json, "model.ignore_merges"));
    t->pieces.pre = strcmp(found, "llama-bpe") == 0 && !whole ? "smaug-bpe" : found; /* differ in nothing else */
  }
  aii_buf_free(&rules);
  return rc;
}

/* ---- vocabularies -------------------------------------------------------------------------------------------------------- */

static bool is_byte_token(const char *s)
{
  return strlen(s) == 6 && strncmp(s, "<0x", 3) == 0 && s[5] == '>';
}

/* {"text": id, ...} */
static aiinfra_status read_map(aii_hf_tokens *t, const json_t *vocab)
{
  const char *text;
  json_t *id;
  aiinfra_status rc = AIINFRA_OK;
  if (!json_is_object(vocab)) return aii_fail(t->hf->err, AIINFRA_EFORMAT, "model.vocab is no object");
  json_object_foreach((json_t *)(uintptr_t)vocab, text, id)
  {
    bool byte = t->pieces.kind == AII_PIECES_SPM && is_byte_token(text);
    aii_piece piece = {.text = {text, strlen(text)}, .type = byte ? AII_TOKEN_BYTE : AII_TOKEN_NORMAL};
    if (!json_is_integer(id)) return aii_fail(t->hf->err, AIINFRA_EFORMAT, "token '%.32s' has no id", text);
    rc = aii_pieces_set(&t->pieces, json_integer_value(id), piece, t->hf->err);
    if (rc != AIINFRA_OK) break;
  }
  return rc;
}

/* The two halves of a merge, "a b" or ["a", "b"]. */
static bool merge_halves(const json_t *merge, aii_str *a, aii_str *b)
{
  if (json_is_array(merge)) {
    const json_t *x = json_array_get(merge, 0), *y = json_array_get(merge, 1);
    *a = (aii_str){json_string_value(x), json_string_length(x)};
    *b = (aii_str){json_string_value(y), json_string_length(y)};
    return a->p != NULL && b->p != NULL;
  }
  const char *text = json_string_value(merge), *space = text != NULL ? strchr(text, ' ') : NULL;
  if (space == NULL) return false;
  *a = (aii_str){text, (size_t)(space - text)};
  *b = (aii_str){space + 1, strlen(space + 1)};
  return true;
}

static aiinfra_status bad_merge(aii_hf_tokens *t, size_t i)
{
  return aii_fail(t->hf->err, AIINFRA_EFORMAT, "model.merges[%zu] is no pair of texts", i);
}

/* SentencePiece merges by score, so the rank of the first merge that makes a token becomes its score. */
static aiinfra_status score_by_merges(aii_hf_tokens *t, const json_t *model)
{
  const json_t *merges = json_object_get(model, "merges"), *vocab = json_object_get(model, "vocab");
  size_t n = json_array_size(merges);
  aii_str a, b;
  aii_buf text;
  aiinfra_status rc = AIINFRA_OK;
  aii_buf_init(&text, t->hf->mem, 0);
  for (size_t i = 0; i < t->pieces.n; i++) t->pieces.items[i].score = -(float)n;
  for (size_t i = n; i > 0 && rc == AIINFRA_OK; i--) {
    aii_buf_clear(&text);
    if (!merge_halves(json_array_get(merges, i - 1), &a, &b)) {
      rc = bad_merge(t, i - 1);
      break;
    }
    aii_buf_add(&text, a.p, a.n);
    aii_buf_add(&text, b.p, b.n);
    const json_t *id = json_object_getn(vocab, aii_buf_cstr(&text), text.len);
    if (text.failed) rc = aii_fail(t->hf->err, AIINFRA_ENOMEM, "no memory for a merge");
    else if (id != NULL) t->pieces.items[json_integer_value(id)].score = -(float)(i - 1);
  }
  aii_buf_free(&text);
  return rc;
}

static void mark_unknown(aii_hf_tokens *t, const json_t *model)
{
  const char *text = json_string_value(json_object_get(model, "unk_token"));
  int64_t id = text != NULL ? aii_pieces_find(&t->pieces, (aii_str){text, strlen(text)}) : -1;
  if (text == NULL)
    id = json_is_integer(json_object_get(model, "unk_id")) ? json_integer_value(json_object_get(model, "unk_id")) : -1;
  if (id < 0 || (size_t)id >= t->pieces.n) return;
  t->pieces.items[id].type = AII_TOKEN_UNKNOWN;
  t->pieces.roles[ROLE_UNK] = (int32_t)id;
}

/* ---- unigram ---------------------------------------------------------------------------------------------------------------- */

static int digit64(char c)
{
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static aiinfra_status decode64(aii_hf_tokens *t, const char *text)
{
  uint32_t bits = 0, n = 0;
  for (; *text != '\0' && *text != '='; text++) {
    int digit = digit64(*text);
    if (digit < 0) return aii_fail(t->hf->err, AIINFRA_EFORMAT, "precompiled_charsmap is not base64");
    bits = bits << 6 | (uint32_t)digit;
    if (++n % 4 != 1) aii_buf_char(&t->charsmap, (char)(bits >> (6 - 2 * ((n - 1) % 4)) & 0xFF));
  }
  t->pieces.charsmap = (const uint8_t *)t->charsmap.data;
  t->pieces.charsmap_bytes = t->charsmap.len;
  return t->charsmap.failed ? aii_fail(t->hf->err, AIINFRA_ENOMEM, "no memory for a table of characters") : AIINFRA_OK;
}

static aiinfra_status read_normalizer(aii_hf_tokens *t, const json_t *json)
{
  const json_t *normalizer = json_object_get(json, "normalizer"), *steps = json_object_get(normalizer, "normalizers");
  const json_t *map = json_object_get(normalizer, "precompiled_charsmap");
  for (size_t i = 0; i < json_array_size(steps) && map == NULL; i++) {
    map = json_object_get(json_array_get(steps, i), "precompiled_charsmap");
  }
  return json_is_string(map) ? decode64(t, json_string_value(map)) : AIINFRA_OK;
}

/* [["text", score], ...] */
static aiinfra_status read_unigram(aii_hf_tokens *t, const json_t *json, const json_t *model)
{
  const json_t *vocab = json_object_get(model, "vocab");
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; i < json_array_size(vocab) && rc == AIINFRA_OK; i++) {
    const json_t *text = json_array_get(json_array_get(vocab, i), 0),
                 *score = json_array_get(json_array_get(vocab, i), 1);
    aii_piece piece = {.text = {json_string_value(text), json_string_length(text)},
                       .score = (float)json_number_value(score),
                       .type = AII_TOKEN_NORMAL};
    if (!json_is_string(text) || !json_is_number(score)) {
      return aii_fail(t->hf->err, AIINFRA_EFORMAT, "model.vocab[%zu] is no text with a score", i);
    }
    rc = aii_pieces_set(&t->pieces, (int64_t)i, piece, t->hf->err);
  }
  t->pieces.space_prefix = 1;
  t->pieces.remove_spaces = true;
  return rc == AIINFRA_OK ? read_normalizer(t, json) : rc;
}

/* ---- the file ------------------------------------------------------------------------------------------------------------------ */

/* A template that puts a token in front or behind says what add_bos_token and add_eos_token mean. */
static void read_template(aii_hf_tokens *t, const json_t *json)
{
  const json_t *post = json_object_get(json, "post_processor"), *steps = json_object_get(post, "processors");
  const json_t *single = json_object_get(post, "single");
  for (size_t i = 0; i < json_array_size(steps) && single == NULL; i++) {
    single = json_object_get(json_array_get(steps, i), "single");
  }
  size_t n = json_array_size(single);
  t->pieces.add_bos = n > 0 && json_object_get(json_array_get(single, 0), "SpecialToken") != NULL;
  t->pieces.add_eos = n > 1 && json_object_get(json_array_get(single, n - 1), "SpecialToken") != NULL;
}

/* SentencePiece's leading space: prepended by the normalizer, or by the pre-tokenizer. */
static void read_prefix(aii_hf_tokens *t, const json_t *json)
{
  const json_t *normalizer = json_object_get(json, "normalizer"), *steps = json_object_get(normalizer, "normalizers");
  const char *scheme = json_string_value(aii_hf_find(json, "pre_tokenizer.prepend_scheme"));
  bool prefix = scheme != NULL && strcmp(scheme, "never") != 0;
  for (size_t i = 0; i < json_array_size(steps); i++) {
    prefix = prefix || json_object_get(json_array_get(steps, i), "prepend") != NULL;
  }
  t->pieces.space_prefix = prefix;
}

static aiinfra_status read_bpe(aii_hf_tokens *t, const json_t *json, const json_t *model)
{
  bool fallback = json_is_true(json_object_get(model, "byte_fallback"));
  t->pieces.kind = fallback ? AII_PIECES_SPM : AII_PIECES_BPE;
  aiinfra_status rc = read_map(t, json_object_get(model, "vocab"));
  if (rc != AIINFRA_OK || !fallback) return rc == AIINFRA_OK ? find_pre(t, json) : rc;
  read_prefix(t, json);
  return score_by_merges(t, model);
}

aiinfra_status aii_hf_read_tokenizer(aii_hf_tokens *t, const json_t *json)
{
  const json_t *model = json_object_get(json, "model");
  const char *type = json_string_value(json_object_get(model, "type"));
  bool unigram = json_is_array(json_object_get(model, "vocab"));
  aiinfra_status rc;
  if (type == NULL) type = unigram ? "Unigram" : json_is_array(json_object_get(model, "merges")) ? "BPE" : "?";
  read_template(t, json);
  if (strcmp(type, "BPE") == 0) {
    rc = read_bpe(t, json, model);
  } else if (strcmp(type, "Unigram") == 0) {
    t->pieces.kind = AII_PIECES_UNIGRAM;
    rc = read_unigram(t, json, model);
  } else if (strcmp(type, "WordPiece") == 0) {
    t->pieces.kind = AII_PIECES_WORDS;
    rc = read_map(t, json_object_get(model, "vocab"));
  } else {
    return aii_fail(t->hf->err, AIINFRA_ENOTSUP, "a model of type '%.32s'; BPE, Unigram and WordPiece are known", type);
  }
  if (rc != AIINFRA_OK) return rc;
  mark_unknown(t, model);
  return aii_hf_add_tokens(t, json_object_get(json, "added_tokens"));
}

aiinfra_status aii_hf_put_merges(aii_hf_tokens *t, const json_t *json)
{
  const json_t *merges = aii_hf_find(json, "model.merges");
  size_t n = json_array_size(merges);
  aii_buf *out = &t->hf->w.kvs;
  aii_put_array(&t->hf->w, "tokenizer.ggml.merges", AII_GGUF_STRING, n);
  for (size_t i = 0; i < n; i++) {
    aii_str halves[2];
    if (!merge_halves(json_array_get(merges, i), &halves[0], &halves[1])) return bad_merge(t, i);
    aii_put_elem_bytes(&t->hf->w, halves[0].n + 1 + halves[1].n);
    aii_buf_add(out, halves[0].p, halves[0].n);
    aii_buf_char(out, ' ');
    aii_buf_add(out, halves[1].p, halves[1].n);
  }
  return AIINFRA_OK;
}
