/* test_grammar.c - grammars accept and reject what the published cases say, mask tokens, and wait for a trigger. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these first */
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "lib/json/json.h"
#include "tests/support/byte_vocab.h"
#include "tests/support/gguf_vocab.h"

static aii_mem mem;
static aii_vocab *bytes;

/* Whether the whole text is in the grammar's language, asked token by token as a model would. */
static bool matches(const aii_grammar *grammar, const char *text)
{
  aii_grammar_state *state = NULL;
  aiinfra_error err = {0};
  if (aii_grammar_start(&mem, grammar, bytes, &state, &err) != AIINFRA_OK) fail_msg("start: %s", err.message);
  bool ok = true;
  for (size_t i = 0; ok && text[i] != '\0'; i++) {
    ok = aii_grammar_accept(state, (uint8_t)text[i], NULL) == AIINFRA_OK;
  }
  ok = ok && aii_grammar_accept(state, BYTE_VOCAB_END, NULL) == AIINFRA_OK;
  aii_grammar_state_free(state);
  return ok;
}

static int check_texts(const aii_grammar *grammar, const char *name, const json_t *texts, bool expected)
{
  int wrong = 0;
  for (size_t i = 0; i < json_array_size(texts); i++) {
    const char *text = json_string_value(json_array_get(texts, i));
    if (matches(grammar, text) == expected) continue;
    print_message("%s: \"%s\" should be %s\n", name, text, expected ? "accepted" : "rejected");
    wrong++;
  }
  return wrong;
}

static json_t *cases_of(const char *file, json_t **root)
{
  char *text = test_read_file(test_data(file), NULL);
  assert_non_null(text);
  assert_int_equal(aii_json_parse(text, strlen(text), file, 0, root, NULL), AIINFRA_OK);
  free(text);
  return json_object_get(*root, "cases");
}

static void published_cases(void **state)
{
  (void)state;
  if (test_data("grammars/accept_reject_cases.dev.json") == NULL) test_skip("no shared data");
  json_t *root, *c;
  size_t i;
  int wrong = 0;
  json_t *cases = cases_of("grammars/accept_reject_cases.dev.json", &root);
  json_array_foreach(cases, i, c)
  {
    const char *text = json_string_value(json_object_get(c, "text")),
               *name = json_string_value(json_object_get(c, "name"));
    bool schema = strcmp(json_string_value(json_object_get(c, "kind")), "schema") == 0;
    aii_grammar *grammar = NULL;
    aiinfra_error err = {0};
    aiinfra_status rc = schema ? aii_grammar_from_schema(&mem, text, &grammar, &err)
                               : aii_grammar_from_gbnf(&mem, text, NULL, &grammar, &err);
    if (rc != AIINFRA_OK) fail_msg("%s: %s", name, err.message);
    wrong += check_texts(grammar, name, json_object_get(c, "accept"), true);
    wrong += check_texts(grammar, name, json_object_get(c, "reject"), false);
    aii_grammar_free(grammar);
  }
  json_decref(root);
  assert_int_equal(wrong, 0);
}

static void published_schemas(void **state)
{
  (void)state;
  if (test_data("grammars/json_schema_to_grammar_cases.dev.json") == NULL) test_skip("no shared data");
  json_t *root, *c;
  size_t i;
  int wrong = 0;
  json_t *cases = cases_of("grammars/json_schema_to_grammar_cases.dev.json", &root);
  json_array_foreach(cases, i, c)
  {
    aii_grammar *grammar = NULL;
    aiinfra_error err = {0};
    bool good = strcmp(json_string_value(json_object_get(c, "status")), "SUCCESS") == 0;
    aiinfra_status rc = aii_grammar_from_schema(&mem, json_string_value(json_object_get(c, "schema")), &grammar, &err);
    if ((rc == AIINFRA_OK) != good) {
      print_message("%s: %s\n", json_string_value(json_object_get(c, "name")), err.message);
      wrong++;
    }
    aii_grammar_free(grammar);
  }
  json_decref(root);
  assert_int_equal(wrong, 0);
}

static void published_files(void **state)
{
  (void)state;
  static const char *const files[][3] = {{"arithmetic", "a+1=2\n", "a=+\n"},
                                         {"c", "int main(){return 1;}", "int main("},
                                         {"chess", "1. e4 e5\n2. Nf3 Nc6\n", "1. e9 e5\n"},
                                         {"english", "Hello there.", "Ol\xC3\xA1"},
                                         {"japanese", "\xE3\x81\x82\xE3\x82\xA2", "abc"},
                                         {"json", "{\"a\": [1, true]}", "{\"a\": }"},
                                         {"json_arr", "[\n1,\n2]", "{}"},
                                         {"list", "- a\n- b\n", "a\n"}};
  for (size_t i = 0; i < AII_COUNT(files); i++) {
    char path[64];
    snprintf(path, sizeof path, "grammars/%s.gbnf", files[i][0]);
    if (test_data(path) == NULL) test_skip("no shared data");
    char *text = test_read_file(test_data(path), NULL);
    aii_grammar *grammar = NULL;
    aiinfra_error err = {0};
    if (aii_grammar_from_gbnf(&mem, text, NULL, &grammar, &err) != AIINFRA_OK) fail_msg("%s: %s", path, err.message);
    if (!matches(grammar, files[i][1])) fail_msg("%s rejects \"%s\"", path, files[i][1]);
    if (matches(grammar, files[i][2])) fail_msg("%s accepts \"%s\"", path, files[i][2]);
    aii_grammar_free(grammar);
    free(text);
  }
}

static void expect_refused(const char *schema, aiinfra_status status, const char *word)
{
  aii_grammar *grammar;
  aiinfra_error err = {0};
  assert_int_equal(aii_grammar_from_schema(&mem, schema, &grammar, &err), status);
  assert_null(grammar);
  if (strstr(err.message, word) == NULL) fail_msg("\"%s\" does not name %s", err.message, word);
}

static void refuses(void **state)
{
  (void)state;
  expect_refused("{\"type\":\"object\",\"properties\":{\"a\":{\"not\":{}}}}", AIINFRA_ENOTSUP, "a");
  expect_refused("{\"type\":\"object\",\"properties\":{\"a\":{\"not\":{}}}}", AIINFRA_ENOTSUP, "\"not\"");
  expect_refused("{\"type\":\"number\",\"multipleOf\":2}", AIINFRA_ENOTSUP, "multipleOf");
  expect_refused("{\"type\":\"integer\",\"minimum\":5,\"maximum\":4}", AIINFRA_EINVAL, "bounds");
  expect_refused("{\"$ref\":\"#\"}", AIINFRA_EINVAL, "left-recursive");
  expect_refused("{\"type\":\"string\",\"pattern\":\"(?=a)\"}", AIINFRA_ENOTSUP, "look-around");
  static const char *const bad[] = {"root ::= root \"a\"",
                                    "root ::= a",
                                    "root ::= (\"a\"",
                                    "root ::= [",
                                    "root ::= *",
                                    "a ::= \"x\"",
                                    "root ::= \"x",
                                    "root ::= \"a\"{5,2}",
                                    "root ::= \"a\"{99999999}",
                                    "root ::= a\na ::= b? c\nb ::= \"x\"\nc ::= a",
                                    "root = \"a\"",
                                    ""};
  for (size_t i = 0; i < AII_COUNT(bad); i++) {
    aii_grammar *grammar;
    aiinfra_error err = {0};
    if (aii_grammar_from_gbnf(&mem, bad[i], NULL, &grammar, &err) == AIINFRA_OK) fail_msg("accepted: %s", bad[i]);
    assert_true(err.message[0] != '\0');
  }
}

static void more_schemas(void **state)
{
  (void)state;
  static const char *const table[][3] = {
      /* schema, accepted, rejected */
      {"{\"$defs\":{\"n\":{\"type\":\"object\",\"properties\":{\"v\":{\"type\":\"integer\"},\"next\":{\"$ref\":\"#/"
       "$defs/n\"}},"
       "\"required\":[\"v\"]}},\"$ref\":\"#/$defs/n\"}",
       "{\"v\":1, \"next\":{\"v\":2}}", "{\"next\":{\"v\":2}}"},
      {"{\"type\":[\"string\",\"null\"]}", "null", "1"},
      {"{\"anyOf\":[{\"const\":1},{\"type\":\"boolean\"}]}", "true", "2"},
      {"{\"type\":\"string\",\"pattern\":\"^[a-c]+\\\\d{2}$\"}", "\"abc12\"", "\"abc1\""},
      {"{\"type\":\"string\",\"pattern\":\"b\"}", "\"abc\"", "\"ac\""},
      {"{\"type\":\"number\",\"minimum\":-1,\"maximum\":2}", "1.75", "2.5"},
      {"{\"type\":\"number\",\"minimum\":-1,\"maximum\":2}", "-0.5", "-1.5"},
      {"{\"type\":\"object\"}", "{\"a\":{\"b\":[1, 2, {\"c\":null}]}}", "[1]"},
      {"{\"type\":\"object\",\"properties\":{\"ab\":{\"type\":\"integer\"}},\"additionalProperties\":true}",
       "{\"abc\":\"x\"}", "{\"\\u0061b\":\"x\"}"},
      {"{\"type\":\"array\",\"items\":{\"enum\":[\"x\"]},\"maxItems\":0}", "[]", "[\"x\"]"},
      {"{\"type\":\"string\"}", "\"\\ud83d\\ude00 \xF0\x9F\x98\x80\"", "\"\\ud83d\""},
      {"{\"type\":\"array\"}", "[ 1, [\"a\"] ]", "[1,  2]"},
  };
  for (size_t i = 0; i < AII_COUNT(table); i++) {
    aii_grammar *grammar = NULL;
    aiinfra_error err = {0};
    if (aii_grammar_from_schema(&mem, table[i][0], &grammar, &err) != AIINFRA_OK)
      fail_msg("%s: %s", table[i][0], err.message);
    if (!matches(grammar, table[i][1])) fail_msg("%s rejects %s", table[i][0], table[i][1]);
    if (matches(grammar, table[i][2])) fail_msg("%s accepts %s", table[i][0], table[i][2]);
    aii_grammar_free(grammar);
  }
}

static const char TOOLS[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"add\",\"parameters\":{\"type\":\"object\",\"properties\":"
    "{\"x\":{\"type\":\"integer\"}},\"required\":[\"x\"],\"additionalProperties\":false}}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"now\"}}]";

static aiinfra_status from_tools(const char *choice, const char *format, const char *prompt, aii_grammar **out,
                                 aiinfra_error *err)
{
  aii_tool_grammar_opts opts = {.tools_json = TOOLS, .choice = choice, .prompt = prompt};
  opts.syntax = (aii_output_syntax){aii_output_format(format), "<think>", "</think>"};
  if (prompt != NULL) opts.n_prompt = strlen(prompt);
  return aii_grammar_from_tools(&mem, &opts, out, err);
}

static bool allowed(aii_grammar_state *state, aiinfra_token token)
{
  float logits[BYTE_VOCAB_MAX] = {0};
  assert_int_equal(aii_grammar_mask(state, logits, NULL), AIINFRA_OK);
  return !isinf(logits[token]);
}

static void tool_calls(void **state)
{
  (void)state;
  static const char call[] = "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"x\": 1}}\n</tool_call>";
  aii_grammar *grammar = NULL;
  aii_grammar_state *s = NULL;
  char text[300];
  assert_int_equal(from_tools("required", "hermes", NULL, &grammar, NULL), AIINFRA_OK);
  assert_true(matches(grammar, call));
  snprintf(text, sizeof text, "%s\n%s", call, call);
  assert_true(matches(grammar, text));
  assert_true(matches(grammar, "<tool_call>\n{\"name\":\"now\",\"arguments\":{}}\n</tool_call>"));
  assert_false(matches(grammar, "<tool_call>\n{\"name\":\"add\",\"arguments\":{}}\n</tool_call>"));
  assert_false(matches(grammar, "Hello"));
  aii_grammar_free(grammar);
  assert_int_equal(from_tools("now", "hermes", NULL, &grammar, NULL), AIINFRA_OK);
  assert_false(matches(grammar, call));
  aii_grammar_free(grammar);
  assert_int_equal(from_tools("nope", "hermes", NULL, &grammar, NULL), AIINFRA_EINVAL);
  assert_int_equal(from_tools("auto", "hermes", NULL, &grammar, NULL), AIINFRA_OK);
  assert_true(matches(grammar, "Hello, no tool <tool_calm>"));
  snprintf(text, sizeof text, "I will call.\n%s", call);
  assert_true(matches(grammar, text));
  assert_false(matches(grammar, "x<tool_call>\n{\"name\": \"sub\""));
  /* tokens that span the trigger's end: the grammar already binds what follows in the same token */
  assert_int_equal(aii_grammar_start(&mem, grammar, bytes, &s, NULL), AIINFRA_OK);
  for (const char *c = "<tool_call"; *c != '\0'; c++)
    assert_int_equal(aii_grammar_accept(s, (uint8_t)*c, NULL), AIINFRA_OK);
  assert_true(allowed(s, 257));  /* ">\n{" */
  assert_false(allowed(s, 258)); /* ">x" */
  assert_true(allowed(s, 'q'));
  assert_int_equal(aii_grammar_accept(s, 258, NULL), AIINFRA_EINVAL);
  assert_int_equal(aii_grammar_accept(s, 257, NULL), AIINFRA_OK);
  assert_true(allowed(s, '"'));
  assert_false(allowed(s, BYTE_VOCAB_END));
  aii_grammar_state_free(s);
  aii_grammar_free(grammar);
}

static void complete_and_end(void **state)
{
  (void)state;
  aii_grammar *grammar = NULL;
  aii_grammar_state *s = NULL;
  assert_int_equal(aii_grammar_from_gbnf(&mem, "root ::= \"ab\" | \"abc\"", NULL, &grammar, NULL), AIINFRA_OK);
  assert_int_equal(aii_grammar_start(&mem, grammar, bytes, &s, NULL), AIINFRA_OK);
  assert_true(allowed(s, 'a'));
  assert_false(allowed(s, 'b'));
  assert_false(allowed(s, BYTE_VOCAB_END));
  assert_int_equal(aii_grammar_accept(s, 'a', NULL), AIINFRA_OK);
  assert_int_equal(aii_grammar_accept(s, 'b', NULL), AIINFRA_OK);
  assert_false(aii_grammar_complete(s));
  assert_true(allowed(s, BYTE_VOCAB_END));
  assert_int_equal(aii_grammar_accept(s, 'c', NULL), AIINFRA_OK);
  assert_true(aii_grammar_complete(s));
  assert_true(allowed(s, BYTE_VOCAB_END));
  assert_false(allowed(s, 'c'));
  aii_grammar_state_free(s);
  aii_grammar_free(grammar);
}

/* A random walk that only takes allowed tokens always ends in valid JSON. */
static void random_walks(void **state)
{
  (void)state;
  aii_grammar *grammar = NULL;
  unsigned long long seed = test_seed();
  assert_int_equal(aii_grammar_from_schema(
                       &mem,
                       "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"array\",\"items\":{\"type\":\"string\","
                       "\"maxLength\":3},\"maxItems\":3},\"b\":{\"type\":\"integer\",\"minimum\":-7,\"maximum\":120}},"
                       "\"required\":[\"b\"]}",
                       &grammar, NULL),
                   AIINFRA_OK);
  for (int round = 0; round < 50; round++) {
    aii_grammar_state *s = NULL;
    aii_buf text;
    json_t *json = NULL;
    aii_buf_init(&text, &mem, 0);
    assert_int_equal(aii_grammar_start(&mem, grammar, bytes, &s, NULL), AIINFRA_OK);
    for (int steps = 0; steps < 500; steps++) {
      float logits[BYTE_VOCAB_MAX] = {0};
      aiinfra_token open[BYTE_VOCAB_MAX];
      size_t n = 0;
      assert_int_equal(aii_grammar_mask(s, logits, NULL), AIINFRA_OK);
      for (uint32_t t = 0; t < aii_vocab_size(bytes); t++) {
        if (!isinf(logits[t])) open[n++] = (aiinfra_token)t;
      }
      assert_true(n > 0);
      aiinfra_token token = open[test_random(&seed) % n];
      assert_int_equal(aii_grammar_accept(s, token, NULL), AIINFRA_OK);
      if (token == BYTE_VOCAB_END) break;
      aii_str piece = aii_vocab_piece(bytes, token, false);
      aii_buf_add(&text, piece.p, piece.n);
    }
    aiinfra_error err = {0};
    if (aii_json_parse(aii_buf_cstr(&text), text.len, "walk", 0, &json, &err) != AIINFRA_OK) {
      fail_msg("%s: %s", err.message, aii_buf_cstr(&text));
    }
    int64_t b = json_integer_value(json_object_get(json, "b"));
    assert_true(b >= -7 && b <= 120);
    json_decref(json);
    aii_grammar_state_free(s);
    aii_buf_free(&text);
  }
  aii_grammar_free(grammar);
}

/* The masks of a real vocabulary inside a string: the first makes the configuration, the rest are look-ups. */
static void mask_time(void **state)
{
  (void)state;
  const char *path = test_data("tokenizers/ggml-vocab/ggml-vocab-deepseek-llm.gguf");
  if (path == NULL) test_skip("no shared data");
  gguf_vocab file;
  aii_vocab *vocab = NULL;
  aii_grammar *grammar = NULL;
  aii_grammar_state *s = NULL;
  assert_true(gguf_vocab_load(&file, path));
  assert_int_equal(aii_vocab_create(&mem, &file.desc, &vocab, NULL), AIINFRA_OK);
  gguf_vocab_free(&file);
  assert_int_equal(from_tools("auto", "hermes", NULL, &grammar, NULL), AIINFRA_OK);
  aii_grammar *json = NULL;
  assert_int_equal(aii_grammar_from_schema(&mem, "{\"type\":\"object\"}", &json, NULL), AIINFRA_OK);
  float *logits = calloc(aii_vocab_size(vocab), sizeof *logits);
  for (int which = 0; which < 2; which++) {
    assert_int_equal(aii_grammar_start(&mem, which == 0 ? grammar : json, vocab, &s, NULL), AIINFRA_OK);
    aii_tokens tokens;
    aii_tokens_init(&tokens, &mem);
    assert_int_equal(aii_tokenize(vocab, "{\"name of it\": \"some text here", 30, 0, &tokens, NULL), AIINFRA_OK);
    for (size_t i = 0; i < tokens.n; i++) {
      uint64_t start = aii_now_ns();
      assert_int_equal(aii_grammar_mask(s, logits, NULL), AIINFRA_OK);
      print_message("%s, mask %zu: %.3f ms\n", which == 0 ? "tools" : "json", i, (double)(aii_now_ns() - start) * 1e-6);
      assert_int_equal(aii_grammar_accept(s, tokens.items[i], NULL), AIINFRA_OK);
    }
    aii_tokens_free(&tokens);
    aii_grammar_state_free(s);
  }
  free(logits);
  aii_grammar_free(json);
  aii_grammar_free(grammar);
  aii_vocab_free(vocab);
}

/* What the grammar of a format lets through, the parser of that format finds. */
static void formats_of_calls(void **state)
{
  (void)state;
  static const struct {
    const char *format, *good, *bad;
    size_t n_calls;
  } table[] = {
      {"llama3", "{\"name\": \"add\", \"parameters\": {\"x\": 1}}", "{\"name\": \"add\", \"arguments\": {\"x\": 1}}",
       1},
      {"json", "{\"name\": \"now\", \"arguments\": {}}", "{\"name\": \"sub\", \"arguments\": {}}", 1},
      {"mistral", "[TOOL_CALLS]add[ARGS]{\"x\": 1}[TOOL_CALLS]now[ARGS]{}", "[TOOL_CALLS]add[ARGS]{}", 2},
      {"mistral-v3",
       "[TOOL_CALLS][{\"name\": \"add\", \"arguments\": {\"x\": 1}}, {\"name\": \"now\", \"arguments\": {}}]",
       "[TOOL_CALLS]add", 2},
      {"granite", "<|tool_call|>[{\"name\": \"add\", \"arguments\": {\"x\": 1}}]", "<|tool_call|>{", 1},
      {"nemotron", "<TOOLCALL>[{\"name\": \"now\", \"arguments\": {}}]</TOOLCALL>", "<TOOLCALL>[]</TOOLCALL>", 1},
      {"functools", "functools[{\"name\": \"now\", \"arguments\": {}}]", "functools[]", 1},
      {"functionary-v3.1", "<function=add>{\"x\": 1}</function>", "<function=sub>", 1},
      {"gigachat-3.1", "<|function_call|>{\"name\": \"now\", \"arguments\": {}}", "{", 1},
  };
  for (size_t i = 0; i < AII_COUNT(table); i++) {
    aii_grammar *grammar = NULL;
    aii_output *output = NULL;
    aiinfra_error err = {0};
    if (from_tools("required", table[i].format, NULL, &grammar, &err) != AIINFRA_OK)
      fail_msg("%s: %s", table[i].format, err.message);
    assert_false(aii_grammar_waits(grammar));
    if (!matches(grammar, table[i].good)) fail_msg("%s rejects %s", table[i].format, table[i].good);
    if (matches(grammar, table[i].bad)) fail_msg("%s accepts %s", table[i].format, table[i].bad);
    aii_grammar_free(grammar);
    aii_output_opts opts = {.syntax = {.format = aii_output_format(table[i].format)}, .tools_json = TOOLS};
    assert_int_equal(aii_output_create(&mem, &opts, &output, &err), AIINFRA_OK);
    assert_int_equal(aii_output_push(output, table[i].good, strlen(table[i].good), &err), AIINFRA_OK);
    assert_int_equal(aii_output_finish(output, &err), AIINFRA_OK);
    assert_int_equal(aii_output_calls(output), table[i].n_calls);
    aii_output_free(output);
  }
  aii_grammar *none = NULL;
  assert_int_equal(from_tools("required", "no such", NULL, &none, NULL), AIINFRA_ENOTSUP);
}

#define LLAMA_CALL "{\"name\": \"add\", \"parameters\": {\"x\": 1}}"

/* Without a marker only an object that names a tool, at the very beginning, is a call. */
static void calls_without_marker(void **state)
{
  (void)state;
  aii_grammar *grammar = NULL;
  assert_int_equal(from_tools("auto", "llama3", NULL, &grammar, NULL), AIINFRA_OK);
  assert_true(matches(grammar, "\n" LLAMA_CALL));
  assert_false(matches(grammar, LLAMA_CALL " and more"));
  assert_false(matches(grammar, "{\"name\": \"add\", \"parameters\": {}}"));
  assert_true(matches(grammar, "{\"name\": \"Ann\", \"age\": 5}"));
  assert_true(matches(grammar, "As in {\"name\": \"add\", x"));
  aii_grammar_free(grammar);
}

/* Where a call in the reasoning is none, nothing is held there; behind it, it is. */
static void reasoning_first(void **state)
{
  (void)state;
  static const char call[] = "<TOOLCALL>[{\"name\": \"now\", \"arguments\": {}}]</TOOLCALL>";
  aii_grammar *grammar = NULL;
  char text[300];
  assert_int_equal(from_tools("auto", "nemotron", "...<think>\n", &grammar, NULL), AIINFRA_OK);
  assert_true(matches(grammar, "maybe <TOOLCALL>x"));
  snprintf(text, sizeof text, "hm</think>\n%s", call);
  assert_true(matches(grammar, text));
  assert_false(matches(grammar, "hm</think>ok <TOOLCALL>x"));
  assert_false(matches(grammar, "hm</think>ok <think>x</think> <TOOLCALL>x"));
  aii_grammar_free(grammar);
  /* a forced call waits for the end of the reasoning that the prompt has opened */
  assert_int_equal(from_tools("required", "nemotron", "...<think>\n", &grammar, NULL), AIINFRA_OK);
  assert_true(aii_grammar_waits(grammar));
  assert_true(matches(grammar, text));
  assert_false(matches(grammar, "hm"));
  assert_false(matches(grammar, "hm</think>\nno"));
  aii_grammar_free(grammar);
  /* a call that ends the reasoning is one */
  assert_int_equal(from_tools("required", "hermes", "...<think>\n", &grammar, NULL), AIINFRA_OK);
  assert_false(matches(grammar, "hm <tool_call>x"));
  assert_true(matches(grammar, "hm <tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>"));
  aii_grammar_free(grammar);
}

static void refused_names(void **state)
{
  (void)state;
  static const char *const table[][3] = {/* format, tool's name, member's name */
                                         {"glm", "a<b", "x"},      {"kimi", "a b", "x"},
                                         {"lfm2", "f", "a b"},     {"qwen3-coder", "f", "a>b"},
                                         {"gemma-4", "f", "a:b{"}, {"functionary-v3.2", "all", "x"}};
  for (size_t i = 0; i < AII_COUNT(table); i++) {
    char tools[300];
    aii_grammar *grammar = NULL;
    aiinfra_error err = {0};
    snprintf(tools, sizeof tools,
             "[{\"type\":\"function\",\"function\":{\"name\":\"%s\",\"parameters\":{\"type\":\"object\","
             "\"properties\":{\"%s\":{\"type\":\"string\"}}}}}]",
             table[i][1], table[i][2]);
    aii_tool_grammar_opts opts = {.tools_json = tools, .syntax = {.format = aii_output_format(table[i][0])}};
    if (aii_grammar_from_tools(&mem, &opts, &grammar, &err) != AIINFRA_ENOTSUP) fail_msg("%s takes it", table[i][0]);
    assert_null(grammar);
    assert_non_null(strstr(err.message, "cannot be written"));
  }
}

/* Each failed allocation is ENOMEM, and nothing is kept. */
static void memory_runs_out(void **state)
{
  (void)state;
  static const char *const formats[] = {"qwen3-coder", "lfm2", "gemma-4", "llama3", "harmony", "nemotron"};
  for (size_t i = 0; i < AII_COUNT(formats); i++) {
    bool done = false;
    for (size_t limit = 64; !done; limit += limit / 2) {
      aii_mem small;
      aii_grammar *grammar = NULL;
      aii_mem_init(&small, NULL, limit);
      aii_tool_grammar_opts opts = {.tools_json = TOOLS, .syntax = {aii_output_format(formats[i]), "<a>", "</a>"}};
      aiinfra_status rc = aii_grammar_from_tools(&small, &opts, &grammar, NULL);
      done = rc == AIINFRA_OK;
      if (!done) assert_int_equal(rc, AIINFRA_ENOMEM);
      assert_true(done == (grammar != NULL));
      aii_grammar_free(grammar);
      assert_int_equal(small.used_bytes, 0);
    }
  }
}

/* A format's own control tokens count as their text: they trigger, and they are the way to go on. */
static void control_tokens_of_formats(void **state)
{
  (void)state;
  enum { CALLS = BYTE_VOCAB_END + 1, ARGS, OTHER, N };
  static const char *const names[] = {"[TOOL_CALLS]", "[ARGS]", "[OTHER]"};
  static char bytes_of[256][8];
  aii_str tokens[N];
  int32_t types[N];
  for (int i = 0; i < N; i++) {
    if (i < 256) snprintf(bytes_of[i], sizeof bytes_of[i], "<0x%02X>", (unsigned)i);
    tokens[i] = i < 256 ? (aii_str){bytes_of[i], 6} : i == 256 ? (aii_str){"<end>", 5} : (aii_str){names[i - 257], 0};
    if (i > 256) tokens[i].n = strlen(names[i - 257]);
    types[i] = i < 256 ? AII_TOKEN_BYTE : AII_TOKEN_CONTROL;
  }
  aii_vocab_desc desc = {.kind = AII_VOCAB_SPM,
                         .n_tokens = N,
                         .tokens = tokens,
                         .types = types,
                         .bos = -1,
                         .eos = 256,
                         .unk = -1,
                         .eot = -1,
                         .eom = -1,
                         .pad = -1};
  aii_vocab *vocab;
  aii_grammar *grammar;
  aii_grammar_state *s;
  assert_int_equal(aii_vocab_create(&mem, &desc, &vocab, NULL), AIINFRA_OK);
  assert_int_equal(from_tools("auto", "mistral", NULL, &grammar, NULL), AIINFRA_OK);
  assert_int_equal(aii_grammar_start(&mem, grammar, vocab, &s, NULL), AIINFRA_OK);
  assert_true(allowed(s, 'q') && allowed(s, OTHER) && allowed(s, CALLS));
  assert_int_equal(aii_grammar_accept(s, CALLS, NULL), AIINFRA_OK);
  assert_true(allowed(s, 'a') && allowed(s, 'n'));
  assert_false(allowed(s, 'q') || allowed(s, OTHER) || allowed(s, CALLS) || allowed(s, BYTE_VOCAB_END));
  for (const char *c = "now"; *c != '\0'; c++) assert_int_equal(aii_grammar_accept(s, (uint8_t)*c, NULL), AIINFRA_OK);
  assert_true(allowed(s, ARGS) && !allowed(s, OTHER));
  assert_int_equal(aii_grammar_accept(s, ARGS, NULL), AIINFRA_OK);
  assert_true(allowed(s, '{'));
  aii_grammar_state_free(s);
  aii_grammar_free(grammar);
  aii_vocab_free(vocab);
}

static int set_up(void **state)
{
  (void)state;
  static const char *const extra[] = {">\n{", ">x", "<tool_call>", "true", "\", \""};
  aii_mem_init(&mem, NULL, 0);
  return byte_vocab(&mem, extra, AII_COUNT(extra), &bytes);
}

static int tear_down(void **state)
{
  (void)state;
  aii_vocab_free(bytes);
  return mem.used_bytes != 0;
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(published_cases),
      cmocka_unit_test(published_schemas),
      cmocka_unit_test(published_files),
      cmocka_unit_test(refuses),
      cmocka_unit_test(more_schemas),
      cmocka_unit_test(tool_calls),
      cmocka_unit_test(complete_and_end),
      cmocka_unit_test(random_walks),
      cmocka_unit_test(mask_time),
      cmocka_unit_test(formats_of_calls),
      cmocka_unit_test(calls_without_marker),
      cmocka_unit_test(reasoning_first),
      cmocka_unit_test(refused_names),
      cmocka_unit_test(memory_runs_out),
      cmocka_unit_test(control_tokens_of_formats),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
