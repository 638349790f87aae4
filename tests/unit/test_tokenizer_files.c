/* test_tokenizer_files.c - vocabularies as other programs keep them: read, conformant, linear, refused by name.
 *
 * Real files come from the shared data: every pair of conformance strings whose vocabulary lies there in some form. The
 * small ones are written out here and show one behaviour each.
 */
#include <jansson.h>
#include <time.h>

#include "tests/unit/conformance.h"

static aii_mem mem;

static char *read_data(const char *path, size_t *n)
{
  return test_data(path) != NULL ? test_read_file(test_data(path), n) : NULL;
}

/* ---- real vocabularies ------------------------------------------------------------------------------------------- */

typedef struct real {
  const char *name;   /* of the conformance strings */
  const char *file;   /* below tokenizers/ */
  const char *reader; /* hf, spm, txt, or the pre-tokenizer of a tiktoken file */
  bool reversible;
} real;

static aii_vocab *load(const real *r)
{
  char path[160];
  size_t n = 0;
  aii_vocab *vocab = NULL;
  aiinfra_error err = {0};
  aiinfra_status rc;
  snprintf(path, sizeof path, "tokenizers/%s", r->file);
  char *file = read_data(path, &n);
  if (file == NULL) return NULL;
  if (strcmp(r->reader, "hf") == 0) {
    rc = aii_vocab_from_hf_json(&mem, file, n, NULL, &vocab, &err);
  } else if (strcmp(r->reader, "spm") == 0) {
    rc = aii_vocab_from_sentencepiece(&mem, file, n, NULL, &vocab, &err);
  } else if (strcmp(r->reader, "txt") == 0) {
    rc = aii_vocab_from_wordpiece(&mem, file, n, NULL, &vocab, &err);
  } else {
    rc = aii_vocab_from_tiktoken(&mem, file, n, r->reader, NULL, &vocab, &err);
  }
  free(file);
  if (rc != AIINFRA_OK) fail_msg("%s: %s", r->file, err.message);
  return vocab;
}

static void conform(void **state)
{
  const real *r = *state;
  char *inp, *out;
  bool strings = conformance_files(r->name, &inp, &out);
  free(inp);
  free(out);
  if (!strings) test_skip("no conformance strings for %s", r->name);
  aii_vocab *vocab = load(r);
  if (vocab == NULL) test_skip("no shared data: %s", r->file);
  size_t wrong = conformance_wrong(vocab, &mem, r->name, r->reversible);
  aii_vocab_free(vocab);
  assert_int_equal(wrong, 0);
  assert_int_equal(mem.used_bytes, 0);
}

/* Llama 3 as Ollama keeps it: a JSON object of tokens, and a file of merges. */
static void llama3_ollama(void **state)
{
  (void)state;
  size_t n_json = 0, n_bpe = 0;
  char *json = read_data("tokenizers/llama3-ollama/encoder.json", &n_json),
       *bpe = read_data("tokenizers/llama3-ollama/vocab.bpe", &n_bpe);
  if (json == NULL || bpe == NULL) {
    free(json);
    free(bpe);
    test_skip("no shared data: llama3-ollama");
  }
  json_t *encoder = json_loadb(json, n_json, 0, NULL);
  assert_non_null(encoder);
  size_t n = json_object_size(encoder), n_merges = 0, room = 1;
  for (size_t i = 0; i < n_bpe; i++) room += bpe[i] == '\n';
  aii_str *tokens = calloc(n, sizeof *tokens), *merges = calloc(room, sizeof *merges);
  assert_true(tokens != NULL && merges != NULL);
  for (void *at = json_object_iter(encoder); at != NULL; at = json_object_iter_next(encoder, at)) {
    size_t id = (size_t)json_integer_value(json_object_iter_value(at));
    assert_true(id < n);
    tokens[id] = (aii_str){json_object_iter_key(at), json_object_iter_key_len(at)};
  }
  for (char *at = bpe, *line; (line = strsep(&at, "\n")) != NULL;) {
    if (line[0] != 0 && line[0] != '#') merges[n_merges++] = (aii_str){line, strlen(line)};
  }
  aii_vocab_desc desc = {.kind = AII_VOCAB_BPE,
                         .pre = "llama-bpe",
                         .n_tokens = (uint32_t)n,
                         .tokens = tokens,
                         .n_merges = (uint32_t)n_merges,
                         .merges = merges,
                         .bos = -1,
                         .eos = -1,
                         .unk = -1,
                         .eot = -1,
                         .eom = -1,
                         .pad = -1,
                         .add_bos = 0,
                         .add_eos = 0};
  aii_vocab *vocab = NULL;
  assert_int_equal(aii_vocab_create(&mem, &desc, &vocab, NULL), AIINFRA_OK);
  json_decref(encoder);
  free(tokens);
  free(merges);
  free(json);
  free(bpe);
  size_t wrong = conformance_wrong(vocab, &mem, "llama-bpe", true);
  aii_vocab_free(vocab);
  assert_int_equal(wrong, 0);
}

static double seconds_for(const aii_vocab *vocab, const char *text, size_t n)
{
  struct timespec from, to;
  aii_tokens tokens;
  aii_tokens_init(&tokens, &mem);
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
  assert_int_equal(aii_tokenize(vocab, text, n, 1, &tokens, NULL), AIINFRA_OK);
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
  aii_tokens_free(&tokens);
  return (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) * 1e-9;
}

/* As in test_tokenizer.c: sixteen times the text may take ten times sixteen times as long. */
static void linear_time(void **state)
{
  static const real files[] = {{"phi-3", "hf-json/phi-3-mini/tokenizer.json", "hf", true},
                               {"gpt-2", "tiktoken/cl100k_base.tiktoken", "llama-bpe", true},
                               {"unigram", "../embeddings/model2vec/vocab-quantized/tokenizer.json", "hf", false}};
  static const char *const units[] = {"a", " ", "1", "\xCC\x81\xCC\xA3", "\xE4\xBD\xA0", "\xFF\xC3"};
  enum { LONG = 500000 / 192 * 192, TIMES = 16 };
  (void)state;
#ifdef __SANITIZE_THREAD__
  test_skip("the thread sanitizer takes longer for each byte the more memory there is");
#endif
  for (size_t v = 0; v < AII_COUNT(files); v++) {
    aii_vocab *vocab = load(&files[v]);
    if (vocab == NULL) test_skip("no shared data: %s", files[v].file);
    for (size_t u = 0; u < AII_COUNT(units); u++) {
      size_t len = strlen(units[u]);
      char *text = malloc(LONG);
      assert_non_null(text);
      for (size_t i = 0; i < LONG; i++) text[i] = units[u][i % len];
      double few = seconds_for(vocab, text, LONG / TIMES), many = seconds_for(vocab, text, LONG);
      if (many > 10 * TIMES * (few + 0.002)) print_message("%s, %zu: %.4f s, %.3f s\n", files[v].file, u, few, many);
      assert_true(many < 10 * TIMES * (few + 0.002));
      free(text);
    }
    aii_vocab_free(vocab);
  }
}

/* ---- small files -------------------------------------------------------------------------------------------------- */

static aii_vocab *from_json(const char *json, const char *config)
{
  aii_vocab *vocab = NULL;
  aiinfra_error err = {0};
  aii_vocab_extras extras = {.config = {config, config != NULL ? strlen(config) : 0}};
  aiinfra_status rc = aii_vocab_from_hf_json(&mem, json, strlen(json), &extras, &vocab, &err);
  if (rc != AIINFRA_OK) fail_msg("%s", err.message);
  return vocab;
}

/* The tokens' texts, between bars. */
static void expect(const aii_vocab *vocab, const char *text, uint32_t flags, const char *want)
{
  aii_tokens tokens;
  aii_buf got;
  aiinfra_error err = {0};
  aii_tokens_init(&tokens, &mem);
  aii_buf_init(&got, &mem, 0);
  if (aii_tokenize(vocab, text, strlen(text), flags, &tokens, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  for (size_t i = 0; i < tokens.n; i++) aii_buf_fmt(&got, "%s%d", i > 0 ? " " : "", tokens.items[i]);
  assert_string_equal(aii_buf_cstr(&got), want);
  aii_buf_free(&got);
  aii_tokens_free(&tokens);
}

static void expect_printed(const aii_vocab *vocab, const aiinfra_token *tokens, size_t n, const char *want)
{
  aii_buf got;
  aii_detok detok;
  aii_buf_init(&got, &mem, 0);
  aii_detok_init(&detok, vocab, true, true);
  for (size_t i = 0; i < n; i++) aii_detok_push(&detok, tokens[i], &got);
  aii_detok_finish(&detok, &got);
  assert_string_equal(aii_buf_cstr(&got), want);
  aii_buf_free(&got);
}

#define WORDS "\"vocab\":{\"[UNK]\":0,\"a\":1,\"b\":2,\"c\":3,\"ab\":4}"

static void added_tokens(void **state)
{
  (void)state;
  aii_vocab *v = from_json("{\"model\":{\"type\":\"WordLevel\"," WORDS ",\"unk_token\":\"[UNK]\"},"
                           "\"pre_tokenizer\":{\"type\":\"Whitespace\"},\"added_tokens\":["
                           "{\"id\":5,\"content\":\"<L>\",\"lstrip\":true,\"special\":true,\"normalized\":false},"
                           "{\"id\":6,\"content\":\"<R>\",\"rstrip\":true,\"special\":true,\"normalized\":false},"
                           "{\"id\":7,\"content\":\"one\",\"single_word\":true,\"special\":false,\"normalized\":false},"
                           "{\"id\":8,\"content\":\"<L><R>\",\"special\":false,\"normalized\":false}]}",
                           NULL);
  expect(v, "a  <L> b <R>  c", 1, "1 5 2 6 3");
  expect(v, "one a one, bone", 1, "7 1 7 0 0");
  expect(v, "a<L><R>b", 1, "1 8 2");          /* the longest */
  expect(v, "a<L><R>b<L>", 0, "1 8 2 0 0 0"); /* special ones only when asked for */
  aii_vocab_free(v);
  assert_int_equal(mem.used_bytes, 0);
}

static void around(void **state)
{
  (void)state;
  aii_vocab *v =
      from_json("{\"model\":{\"type\":\"WordLevel\"," WORDS ",\"unk_token\":\"[UNK]\"},"
                "\"pre_tokenizer\":{\"type\":\"Whitespace\"},\"post_processor\":{\"type\":\"TemplateProcessing\","
                "\"single\":[{\"SpecialToken\":{\"id\":\"b\"}},{\"Sequence\":{\"id\":\"A\"}},{\"SpecialToken\":{\"id\":"
                "\"c\"}}],\"special_tokens\":{\"b\":{\"ids\":[2]},\"c\":{\"ids\":[3,3]}}}}",
                "{\"eos_token\":{\"content\":\"c\"}}");
  expect(v, "a a", 2, "2 1 1 3 3");
  expect(v, "", 2, "2 3 3");
  expect(v, "a a", 0, "1 1");
  assert_int_equal(aii_vocab_bos(v), 2);
  assert_int_equal(aii_vocab_eos(v), 3);
  aii_vocab_free(v);
  v = from_json("{\"model\":{\"type\":\"WordLevel\"," WORDS ",\"unk_token\":\"[UNK]\"}}",
                "{\"bos_token\":\"b\",\"add_bos_token\":true}");
  expect(v, "a", 2, "2 1");
  aii_vocab_free(v);
}

static void wordpiece(void **state)
{
  static const char file[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\nun\n##aff\n##able\n,\n\xE4\xBD\xA0\ncafe";
  aiinfra_error err = {0};
  aii_vocab *v = NULL;
  (void)state;
  assert_int_equal(aii_vocab_from_wordpiece(&mem, file, strlen(file), NULL, &v, &err), AIINFRA_OK);
  expect(v, "UnAffable,un\xE4\xBD\xA0xyz Caf\xC3\xA9 [SEP]", 3, "2 4 5 6 7 4 8 1 9 3 3");
  expect_printed(v, (const aiinfra_token[]){4, 5, 6, 7, 9}, 5, "unaffable, cafe");
  aii_vocab_free(v);
  assert_int_equal(mem.used_bytes, 0);
}

static void byte_fallback(void **state)
{
  (void)state;
  aii_vocab *v = from_json(
      "{\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,\"unk_token\":\"<unk>\",\"fuse_unk\":true,\"vocab\":{"
      "\"<unk>\":0,\"a\":1,\"\xE2\x96\x81\":2,\"<0xC3>\":3,\"<0xA9>\":4,\"\xE2\x96\x81"
      "a\":5},\"merges\":[[\"\xE2\x96\x81\",\"a\"]]},"
      "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"\xE2\x96\x81\"},"
      "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\xE2\x96\x81\"}]},"
      "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"\xE2\x96\x81\"}"
      ","
      "\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" "
      "\",\"start\":1,"
      "\"stop\":0}]}}",
      NULL);
  expect(v, "a\xC3\xA9 a\xC3\xA8\xC3\xA8", 0, "5 3 4 5 0");
  expect_printed(v, (const aiinfra_token[]){5, 3, 4, 5}, 4, "a\xC3\xA9 a");
  expect_printed(v, (const aiinfra_token[]){3, 1}, 2,
                 "\xEF\xBF\xBD"
                 "a");
  aii_vocab_free(v);
}

static void tiktoken(void **state)
{
  /* a, b, c, ab, bc, abc: bc has the lower rank */
  static const char file[] = "YQ== 0\nYg== 1\nYw== 2\nYmM= 3\nYWI= 4\nYWJj 6\n";
  static const char config[] = "{\"added_tokens_decoder\":{\"5\":{\"content\":\"<end>\",\"special\":true}},"
                               "\"eos_token\":\"<end>\"}";
  aiinfra_error err = {0};
  aii_vocab *v = NULL;
  (void)state;
  aii_vocab_extras extras = {.config = {config, strlen(config)}};
  assert_int_equal(aii_vocab_from_tiktoken(&mem, file, strlen(file), "llama-bpe", &extras, &v, &err), AIINFRA_OK);
  expect(v, "abc", 1, "6");
  expect(v, "aabc", 1, "0 6");
  expect(v, "abbc<end>", 1, "4 3 5");
  assert_true(aii_vocab_is_eog(v, 5));
  aii_vocab_free(v);
  assert_int_equal(aii_vocab_from_tiktoken(&mem, "YQ== x", 6, "gpt-2", NULL, &v, &err), AIINFRA_EFORMAT);
  assert_int_equal(aii_vocab_from_tiktoken(&mem, file, strlen(file), "what", NULL, &v, &err), AIINFRA_ENOTSUP);
  assert_non_null(strstr(err.message, "what"));
  assert_null(v);
  assert_int_equal(mem.used_bytes, 0);
}

static void refused(void **state)
{
  static const struct {
    const char *json, *says;
    aiinfra_status status;
  } cases[] = {
      {"{}", "model", AIINFRA_EFORMAT},
      {"[]", "object", AIINFRA_EFORMAT},
      {"{\"model\":{\"type\":\"Neural\"}}", "'Neural'", AIINFRA_ENOTSUP},
      {"{\"model\":{\"type\":\"WordLevel\"," WORDS "},\"normalizer\":{\"type\":\"Shout\"}}", "normalizer: 'Shout'",
       AIINFRA_ENOTSUP},
      {"{\"model\":{\"type\":\"WordLevel\"," WORDS "},\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{"
       "\"type\":\"UnicodeScripts\"}]}}",
       "'UnicodeScripts'", AIINFRA_ENOTSUP},
      {"{\"model\":{\"type\":\"WordLevel\"," WORDS "},\"decoder\":{\"type\":\"CTC\"}}", "'CTC'", AIINFRA_ENOTSUP},
      {"{\"model\":{\"type\":\"WordLevel\"," WORDS
       "},\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"},"
       "\"behavior\":\"Isolated\"}}",
       "regular expression", AIINFRA_ENOTSUP},
      {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}", "merges[0]", AIINFRA_EFORMAT},
      {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[\"a b\"]}}", "ab", AIINFRA_EFORMAT},
      {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", "-1", AIINFRA_EFORMAT},
  };
  (void)state;
  for (size_t i = 0; i < AII_COUNT(cases); i++) {
    aiinfra_error err = {0};
    aii_vocab *v = NULL;
    assert_int_equal(aii_vocab_from_hf_json(&mem, cases[i].json, strlen(cases[i].json), NULL, &v, &err),
                     cases[i].status);
    if (strstr(err.message, cases[i].says) == NULL) fail_msg("case %zu: %s", i, err.message);
    assert_null(v);
  }
  assert_int_equal(mem.used_bytes, 0);
}

/* A regular expression that backtracks without end is stopped, not waited for. */
static void bounded_regex(void **state)
{
  (void)state;
  aii_vocab *v = from_json("{\"model\":{\"type\":\"WordLevel\"," WORDS ",\"unk_token\":\"[UNK]\"},\"pre_tokenizer\":{"
                           "\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a+)+$\"},\"behavior\":\"Isolated\"}}",
                           NULL);
  static char text[20001];
  memset(text, 'a', sizeof text - 1);
  text[sizeof text - 1] = 'b';
  aii_tokens tokens;
  aiinfra_error err = {0};
  aii_tokens_init(&tokens, &mem);
  assert_int_equal(aii_tokenize(v, text, sizeof text, 0, &tokens, &err), AIINFRA_ELIMIT);
  assert_int_equal(tokens.n, 0);
  aii_tokens_free(&tokens);
  expect(v, "ba", 0, "2 1");
  aii_vocab_free(v);
}

/* Normalisers or a splitter that each put text between any two characters come to an end before memory does. */
static void bounded_growth(void **state)
{
#define SIX_WORDS "0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 "
  static const char step[] = "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" *\"},\"content\":\"" SIX_WORDS "\"}",
                    mark[] = "{\"type\":\"Metaspace\",\"replacement\":\"" SIX_WORDS "\"}";
  static const struct {
    const char *part, *list, *step;
  } cases[] = {{"normalizer", "normalizers", step}, {"pre_tokenizer", "pretokenizers", mark}};
  (void)state;
  for (size_t i = 0; i < AII_COUNT(cases); i++) {
    char json[4096];
    const char *s = cases[i].step;
    int n =
        snprintf(json, sizeof json,
                 "{\"model\":{\"type\":\"WordLevel\"," WORDS ",\"unk_token\":\"[UNK]\"},\"%s\":{\"type\":\"Sequence\","
                 "\"%s\":[%s,%s,%s,%s,%s,%s,%s,%s]}}",
                 cases[i].part, cases[i].list, s, s, s, s, s, s, s, s);
    assert_true(n > 0 && (size_t)n < sizeof json);
    aii_vocab *v = from_json(json, NULL);
    aii_tokens tokens;
    aiinfra_error err = {0};
    aii_tokens_init(&tokens, &mem);
    assert_int_equal(aii_tokenize(v, "a b c d e f", 11, 0, &tokens, &err), AIINFRA_ELIMIT);
    if (strstr(err.message, "of a text of") == NULL) fail_msg("case %zu: %s", i, err.message);
    aii_tokens_free(&tokens);
    aii_vocab_free(v);
  }
}

int main(void)
{
  static real files[] = {
      {"llama-spm", "hf-json/llama2/tokenizer.json", "hf", true},
      {"llama-spm", "sentencepiece/llama2-32k.tokenizer.model", "spm", true},
      {"phi-3", "hf-json/phi-3-mini/tokenizer.json", "hf", true},
      {"falcon", "hf-json/falcon-tokenizer/tokenizer.json", "hf", true},
      {"phi-2", "hf-json/phi-2/tokenizer.json", "hf", true},
      {"roberta-bpe", "hf-json/roberta-base/tokenizer.json", "hf", true},
      {"bert-bge", "wordpiece/bert-base-uncased-vocab.txt", "txt", false},
      {"gpt-2", "tiktoken/r50k_base.tiktoken", "gpt-2", true},
      {"gpt-4o", "tiktoken/o200k_base.tiktoken", "gpt-4o", true},
      {"qwen2", "tiktoken/qwen.tiktoken", "qwen2", true},
      {"deepseek-r1-qwen", "tiktoken/qwen.tiktoken", "deepseek-r1-qwen", true},
  };
  const struct CMUnitTest tests[] = {
      {"llama-spm, tokenizer.json", conform, NULL, NULL, &files[0]},
      {"llama-spm, tokenizer.model", conform, NULL, NULL, &files[1]},
      {"phi-3, tokenizer.json", conform, NULL, NULL, &files[2]},
      {"falcon, tokenizer.json", conform, NULL, NULL, &files[3]},
      {"phi-2, tokenizer.json", conform, NULL, NULL, &files[4]},
      {"roberta-bpe, tokenizer.json", conform, NULL, NULL, &files[5]},
      {"bert-bge, vocab.txt", conform, NULL, NULL, &files[6]},
      {"gpt-2, tiktoken", conform, NULL, NULL, &files[7]},
      {"gpt-4o, tiktoken", conform, NULL, NULL, &files[8]},
      {"qwen2, tiktoken", conform, NULL, NULL, &files[9]},
      {"deepseek-r1-qwen, tiktoken", conform, NULL, NULL, &files[10]},
      cmocka_unit_test(llama3_ollama),
      cmocka_unit_test(linear_time),
      cmocka_unit_test(added_tokens),
      cmocka_unit_test(around),
      cmocka_unit_test(wordpiece),
      cmocka_unit_test(byte_fallback),
      cmocka_unit_test(tiktoken),
      cmocka_unit_test(refused),
      cmocka_unit_test(bounded_regex),
      cmocka_unit_test(bounded_growth),
  };
  aii_mem_init(&mem, NULL, 0);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
