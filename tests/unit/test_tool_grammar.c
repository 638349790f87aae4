/* test_tool_grammar.c - whatever the grammar of a format's tool calls lets through, the format's parser finds, and the
 * arguments are valid against the tool's schema: random walks over bytes, pieces and control tokens, for every format.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these first */
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "src/text/output_impl.h"
#include "tests/support/byte_vocab.h"
#include "tests/support/support.h"

static aii_mem mem;
static aii_vocab *plain; /* bytes, to check texts by */

static const char *const FORMATS[] = {
    "harmony",          "deepseek-dsml", "deepseek-v3", "deepseek-v3.1",  "kimi",
    "minimax-m3",       "minimax-m2",    "seed-oss",    "hunyuan",        "glm",
    "qwen3-coder",      "minicpm",       "mistral",     "mistral-v3",     "functionary-v3.1",
    "functionary-v3.2", "command-r7b",   "apertus",     "command-r-plus", "nemotron",
    "gigachat-3.1",     "gigachat-3",    "solar",       "gemma-4",        "lfm2",
    "apriel",           "granite",       "phi-4",       "functools",      "hermes",
    "llama3",           "json"};

#define TOOL(name, parameters) \
  "{\"type\":\"function\",\"function\":{\"name\":\"" name "\",\"parameters\":" parameters "}}"
#define ONE(member) "{\"type\":\"object\",\"properties\":{" member "},\"additionalProperties\":false}"
#define MUST(key, schema)                                                             \
  "{\"type\":\"object\",\"properties\":{\"" key "\":" schema "},\"required\":[\"" key \
  "\"],\"additionalProperties\":false}"

static const char *const TOOLS[] = {
    "[" TOOL("add", MUST("x", "{\"type\":\"integer\"}")) ",{\"type\":\"function\",\"function\":{\"name\":\"now\"}}]",
    "[" TOOL("say", MUST("text", "{\"type\":\"string\"}")) "," TOOL(
        "say_more", MUST("l", "{\"type\":\"array\",\"items\":"
                              "{\"type\":\"string\"},\"minItems\":1}")) "]",
    "[" TOOL("color", MUST("c", "{\"enum\":[\"red\",\"a <b>\",\"\\nline\\n\",\"12\",7,null]}")) "," TOOL(
        "day",
        MUST("d",
             "{\"type\":\"string\",\"format\":\"date\"}")) "," TOOL("code",
                                                                    MUST("p",
                                                                         "{\"type\":\"string\",\"pattern\":\"^[A-Z]{2}-"
                                                                         "\\\\d+.$\"}")) "," TOOL("short",
                                                                                                  MUST(
                                                                                                      "s",
                                                                                                      "{\"type\":"
                                                                                                      "\"string\","
                                                                                                      "\"minLength\":2,"
                                                                                                      "\"maxLength\":"
                                                                                                      "6}")) "]",
    "[" TOOL("maybe", MUST("m", "{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"null\"}]}")) "," TOOL(
        "either",
        MUST("e",
             "{\"type\":[\"integer\",\"string\"]}")) "," TOOL("tight",
                                                              MUST(
                                                                  "t",
                                                                  "{\"anyOf\":[{\"type\":\"integer\",\"minimum\":5,"
                                                                  "\"maximum\":9},{\"type\":\"string\"},"
                                                                  "{\"type\":\"array\",\"items\":{\"type\":\"boolean\"}"
                                                                  "}]}")) "," TOOL("opt",
                                                                                   MUST("o",
                                                                                        "{\"anyOf\":[{\"type\":"
                                                                                        "\"string\",\"maxLength\":3},{"
                                                                                        "\"type\":\"null\"}]}")) "]",
    "[" TOOL(
        "deep",
        MUST("o",
             "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"},\"b\":{\"type\":"
             "\"number\",\"minimum\":-3,\"maximum\":40},\"c\":{\"type\":\"array\",\"items\":{\"enum\":[\"u\",true]}}},"
             "\"required\":[\"a\"]}")) "," TOOL("many", ONE("\"a\":{\"type\":\"boolean\"},\"b\":{\"type\":\"string\"},"
                                                            "\"c\":{\"type\":\"number\"},"
                                                            "\"d\":{\"type\":\"null\"}")) "]",
    "[" TOOL(
        "ref",
        "{\"$defs\":{\"kind\":{\"type\":\"string\",\"enum\":[\"1\",\"two\"]},\"at\":{\"type\":\"object\","
        "\"properties\":{\"k\":{\"$ref\":\"#/$defs/kind\"}},\"required\":[\"k\"]}},\"type\":\"object\",\"properties\":"
        "{\"k\":{\"$ref\":\"#/$defs/kind\"},\"all\":{\"allOf\":[{\"$ref\":\"#/$defs/kind\"}]},\"at\":{\"$ref\":"
        "\"#/$defs/at\"},\"n\":{\"type\":\"integer\",\"nullable\":true}},\"required\":[\"k\",\"at\"],"
        "\"additionalProperties\":false}") "]",
    "[" TOOL("any", "{\"type\":\"object\"}") "," TOOL("texts",
                                                      "{\"type\":\"object\",\"additionalProperties\":"
                                                      "{\"type\":\"string\"}}") "," TOOL("free", MUST("v", "{}")) "]",
};

/* ---- vocabularies: bytes and pieces; the format's own texts as control tokens, as plain ones, or not at all ------------ */

typedef struct pieces {
  const char *text[40];
  size_t n;
} pieces;

static void add_piece(pieces *p, const char *text)
{
  if (text == NULL || strlen(text) < 2 || p->n == AII_COUNT(p->text)) return;
  for (size_t i = 0; i < p->n; i++) {
    if (strcmp(p->text[i], text) == 0) return;
  }
  p->text[p->n++] = text;
}

static size_t add_marks(pieces *p, const aii_out_format *f)
{
  const char *single[] = {f->name_end, f->id_before, f->param, f->key_end, f->value, f->value_end,
                          f->end,      f->quote,     f->first, f->last,    f->tail};
  for (size_t i = 0; i < AII_COUNT(single); i++) add_piece(p, single[i]);
  for (size_t i = 0; i < AII_COUNT(f->open); i++) add_piece(p, f->open[i]);
  for (size_t i = 0; i < AII_COUNT(f->drop); i++) add_piece(p, f->drop[i]);
  return p->n;
}

/* The texts that end values where these have the member's name in them. */
static void add_ends(pieces *p, const aii_out_format *f)
{
  static const char *const keys[] = {"x", "text", "l", "c", "d", "p",   "s",  "m", "e",
                                     "t", "o",    "a", "b", "k", "all", "at", "n", "v"};
  static char ends[AII_COUNT(keys)][32];
  for (size_t i = 0; f->nested && i < AII_COUNT(keys); i++) {
    (void)snprintf(ends[i], sizeof ends[i], "%s/%s>", f->param, keys[i]);
    add_piece(p, ends[i]);
  }
}

static aii_vocab *make_vocab(const pieces *p, size_t n_control)
{
  static char names[256][8];
  aii_str tokens[BYTE_VOCAB_MAX];
  int32_t types[BYTE_VOCAB_MAX];
  aii_vocab *vocab = NULL;
  for (int b = 0; b < 256; b++) {
    (void)snprintf(names[b], sizeof names[b], "<0x%02X>", (unsigned)b);
    tokens[b] = (aii_str){names[b], 6};
    types[b] = AII_TOKEN_BYTE;
  }
  tokens[256] = (aii_str){"<end>", 5};
  types[256] = AII_TOKEN_CONTROL;
  for (size_t i = 0; i < p->n; i++) {
    tokens[257 + i] = (aii_str){p->text[i], strlen(p->text[i])};
    types[257 + i] = i < n_control ? AII_TOKEN_CONTROL : AII_TOKEN_NORMAL;
  }
  aii_vocab_desc desc = {.kind = AII_VOCAB_SPM,
                         .n_tokens = (uint32_t)(257 + p->n),
                         .tokens = tokens,
                         .types = types,
                         .bos = -1,
                         .eos = 256,
                         .unk = -1,
                         .eot = -1,
                         .eom = -1,
                         .pad = -1};
  assert_int_equal(aii_vocab_create(&mem, &desc, &vocab, NULL), AIINFRA_OK);
  return vocab;
}

/* ---- a walk --------------------------------------------------------------------------------------------------------------- */

enum { WANDER = 60, STEPS = 6000 };

/* Any token that may come; later those that bring things to an end. */
static aiinfra_token choose(const aii_vocab *vocab, const float *logits, int step, unsigned long long *seed)
{
  aiinfra_token all[BYTE_VOCAB_MAX], some[BYTE_VOCAB_MAX];
  size_t n = 0, m = 0;
  for (uint32_t t = 0; t < aii_vocab_size(vocab); t++) {
    if (isinf(logits[t])) continue;
    all[n++] = (aiinfra_token)t;
    bool ends = t > 256 || strchr("\"}])\n", (int)t) != NULL;
    if (step < WANDER ? t > 256 : ends && t != 0) some[m++] = (aiinfra_token)t;
  }
  assert_true(n > 0);
  if (step >= WANDER && !isinf(logits[256])) return 256;
  bool pick = m > 0 && test_random(seed) % 4 != 0;
  return pick ? some[test_random(seed) % m] : all[test_random(seed) % n];
}

static void put(const aii_vocab *vocab, aii_grammar_state *s, aiinfra_token token, aii_buf *text)
{
  aiinfra_error err = {0};
  if (aii_grammar_accept(s, token, &err) != AIINFRA_OK) fail_msg("%s after %s", err.message, aii_buf_cstr(text));
  aii_str piece = aii_vocab_piece(vocab, token, true);
  if (!aii_vocab_is_eog(vocab, token)) aii_buf_add(text, piece.p, piece.n);
}

static void walk(const aii_grammar *grammar, const aii_vocab *vocab, const char *before, unsigned long long *seed,
                 aii_buf *text)
{
  aii_grammar_state *s = NULL;
  aiinfra_error err = {0};
  aiinfra_token token = 0;
  if (aii_grammar_start(&mem, grammar, vocab, &s, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  for (const char *c = before; *c != '\0'; c++) put(vocab, s, (uint8_t)*c, text);
  for (int i = 0; !aii_vocab_is_eog(vocab, token); i++) {
    float logits[BYTE_VOCAB_MAX] = {0};
    if (i == STEPS) fail_msg("no end: %s", aii_buf_cstr(text));
    assert_int_equal(aii_grammar_mask(s, logits, NULL), AIINFRA_OK);
    if (i == 0) assert_true(isinf(logits[BYTE_VOCAB_END])); /* it holds */
    token = choose(vocab, logits, i, seed);
    put(vocab, s, token, text);
  }
  aii_grammar_state_free(s);
}

/* ---- what came out ------------------------------------------------------------------------------------------------------ */

static bool matches(const aii_grammar *grammar, const char *text)
{
  aii_grammar_state *s = NULL;
  assert_int_equal(aii_grammar_start(&mem, grammar, plain, &s, NULL), AIINFRA_OK);
  bool good = true;
  for (; good && *text != '\0'; text++) good = aii_grammar_accept(s, (uint8_t)*text, NULL) == AIINFRA_OK;
  good = good && aii_grammar_accept(s, BYTE_VOCAB_END, NULL) == AIINFRA_OK;
  aii_grammar_state_free(s);
  return good;
}

static bool valid(const char *tools_json, const char *name, const char *arguments)
{
  json_t *tools = json_loads(tools_json, 0, NULL), *tool, *value = NULL;
  bool good = false;
  size_t i;
  json_array_foreach(tools, i, tool)
  {
    const json_t *function = json_object_get(tool, "function"), *parameters = json_object_get(function, "parameters");
    if (strcmp(json_string_value(json_object_get(function, "name")), name) != 0) continue;
    char *schema = parameters != NULL ? json_dumps(parameters, 0) : strdup("{\"type\":\"object\"}");
    aii_grammar *grammar = NULL;
    assert_int_equal(aii_grammar_from_schema(&mem, schema, &grammar, NULL), AIINFRA_OK);
    good = matches(grammar, arguments);
    aii_grammar_free(grammar);
    free(schema);
  }
  good = good && (value = json_loads(arguments, 0, NULL)) != NULL; /* free objects may repeat a name */
  json_decref(value);
  json_decref(tools);
  return good;
}

static void check_calls(const aii_out_format *f, const char *tools, const char *prompt, const char *before,
                        aii_buf *text)
{
  aii_output_opts opts = {.syntax = {.format = f}, .tools_json = tools, .prompt = prompt};
  aii_output *output = NULL;
  aii_buf calls;
  aiinfra_error err = {0};
  size_t i, n;
  json_t *call;
  if (prompt != NULL) opts.n_prompt = strlen(prompt);
  assert_int_equal(aii_output_create(&mem, &opts, &output, &err), AIINFRA_OK);
  assert_int_equal(aii_output_push(output, aii_buf_cstr(text), text->len, &err), AIINFRA_OK);
  assert_int_equal(aii_output_finish(output, &err), AIINFRA_OK);
  aii_buf_init(&calls, &mem, 0);
  aii_output_calls_json(output, &calls);
  json_t *list = json_loads(aii_buf_cstr(&calls), 0, NULL);
  if (json_array_size(list) == 0 || aii_output_cut(output)) fail_msg("%s: no call in: %s", f->name, aii_buf_cstr(text));
  const char *content = aii_output_content(output, &n);
  if (strncmp(content, before, n) != 0) fail_msg("%s: \"%s\" is left of: %s", f->name, content, aii_buf_cstr(text));
  json_array_foreach(list, i, call)
  {
    const json_t *function = json_object_get(call, "function");
    const char *name = json_string_value(json_object_get(function, "name"));
    const char *arguments = json_string_value(json_object_get(function, "arguments"));
    if (!valid(tools, name, arguments)) fail_msg("%s: %s %s in: %s", f->name, name, arguments, aii_buf_cstr(text));
  }
  json_decref(list);
  aii_buf_free(&calls);
  aii_output_free(output);
}

static aii_grammar *make(const aii_out_format *f, const char *tools, const char *choice, const char *prompt)
{
  aii_tool_grammar_opts opts = {.tools_json = tools, .choice = choice, .syntax = {.format = f}, .prompt = prompt};
  aii_grammar *grammar = NULL;
  aiinfra_error err = {0};
  if (prompt != NULL) opts.n_prompt = strlen(prompt);
  if (aii_grammar_from_tools(&mem, &opts, &grammar, &err) != AIINFRA_OK) fail_msg("%s: %s", f->name, err.message);
  return grammar;
}

static const char *first_name(const char *tools)
{
  static char name[32];
  const char *at = strstr(tools, "\"name\":\"") + 8;
  (void)snprintf(name, sizeof name, "%.*s", (int)strcspn(at, "\""), at);
  return name;
}

/* What a model would write before it is held. */
static void opening(const aii_out_format *f, const char *tools, char *out, size_t size)
{
  const char *name = first_name(tools);
  if (f->bare) (void)snprintf(out, size, "\n{\"name\": \"%s\"", name);
  else if (f->content_name != NULL) (void)snprintf(out, size, "Well: %s%s%s", f->open[0], name, f->name_end);
  else if (f->form == OF_HARMONY) (void)snprintf(out, size, " to=functions.");
  else (void)snprintf(out, size, "Well: %s%s", f->first != NULL ? f->first : "", f->open[0]);
}

static void rounds(const aii_out_format *f, const aii_vocab *vocab, unsigned long long *seed)
{
  static const char *const choices[] = {"required", "auto"};
  for (size_t t = 0; t < AII_COUNT(TOOLS); t++) {
    for (size_t c = 0; c < AII_COUNT(choices) - f->forced_only; c++) {
      const char *prompt = f->content_name != NULL && c == 0 ? f->open[0] : NULL;
      aii_grammar *grammar = make(f, TOOLS[t], choices[c], prompt);
      assert_int_equal(aii_grammar_waits(grammar), c == 1);
      char before[128] = "";
      if (c == 1) opening(f, TOOLS[t], before, sizeof before);
      for (int i = 0; i < 3; i++) {
        aii_buf text;
        aii_buf_init(&text, &mem, 0);
        walk(grammar, vocab, before, seed, &text);
        check_calls(f, TOOLS[t], prompt, before, &text);
        aii_buf_free(&text);
      }
      aii_grammar_free(grammar);
    }
  }
}

static void walks(void **state)
{
  (void)state;
  static const char *const general[] = {"\"}", "\", \"", "{\"", "\":", "true", "null", "</", "12", "\xC3\xA9", "<tool"};
  unsigned long long seed = test_seed();
  for (size_t i = 0; i < AII_COUNT(FORMATS); i++) {
    const aii_out_format *f = aii_output_format(FORMATS[i]);
    assert_non_null(f);
    for (int way = 0; way < 2; way++) {
      pieces p = {.n = 0};
      size_t n_marks = add_marks(&p, f);
      add_ends(&p, f);
      for (size_t k = 0; k < AII_COUNT(general); k++) add_piece(&p, general[k]);
      aii_vocab *vocab = make_vocab(&p, way == 0 ? n_marks : 0);
      rounds(f, vocab, &seed);
      aii_vocab_free(vocab);
    }
  }
}

/* ---- set up ---------------------------------------------------------------------------------------------------------------- */

static int set_up(void **state)
{
  (void)state;
  aii_mem_init(&mem, NULL, 0);
  return byte_vocab(&mem, NULL, 0, &plain);
}

static int tear_down(void **state)
{
  (void)state;
  aii_vocab_free(plain);
  return mem.used_bytes != 0;
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(walks)};
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
