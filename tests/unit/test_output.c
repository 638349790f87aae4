/* test_output.c - model output becomes content and tool calls; malformed calls are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "lib/json/json.h"
#include "src/text/text.h"

static aii_mem mem;

static aiinfra_status parse(const char *text, const char *syntax, aii_buf *content, json_t **calls)
{
  aii_buf json;
  aiinfra_error err = {0};
  *calls = NULL;
  aii_buf_init(content, &mem, 0);
  aii_buf_init(&json, &mem, 0);
  aiinfra_status rc = aii_output_parse(&mem, text, strlen(text), syntax, content, &json, &err);
  assert_true((rc == AIINFRA_OK) == (err.message[0] == '\0'));
  if (json.len > 0) assert_int_equal(aii_json_parse(json.data, json.len, "calls", 0, calls, NULL), AIINFRA_OK);
  aii_buf_free(&json);
  return rc;
}

static const char *function_member(const json_t *calls, size_t i, const char *key)
{
  return json_string_value(json_object_get(json_object_get(json_array_get(calls, i), "function"), key));
}

static void several_calls(void **state)
{
  (void)state;
  aii_buf content;
  json_t *calls;
  assert_int_equal(parse("Let me see.\n\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\" : [1,  2], \"s\": "
                         "\"</tool_call>\"}}\n</tool_call>\n"
                         "<tool_call>{\"arguments\":{},\"name\":\"g\"}</tool_call>",
                         "hermes", &content, &calls),
                   AIINFRA_OK);
  assert_string_equal(aii_buf_cstr(&content), "Let me see.");
  assert_int_equal(json_array_size(calls), 2);
  assert_string_equal(function_member(calls, 0, "name"), "f");
  assert_string_equal(function_member(calls, 0, "arguments"), "{\"a\" : [1,  2], \"s\": \"</tool_call>\"}");
  assert_string_equal(function_member(calls, 1, "name"), "g");
  assert_string_equal(function_member(calls, 1, "arguments"), "{}");
  const char *first = json_string_value(json_object_get(json_array_get(calls, 0), "id"));
  const char *second = json_string_value(json_object_get(json_array_get(calls, 1), "id"));
  assert_string_not_equal(first, second);
  json_decref(calls);
  aii_buf_free(&content);
}

static void plain_text(void **state)
{
  (void)state;
  aii_buf content;
  json_t *calls;
  assert_int_equal(parse("Just text \n", "hermes", &content, &calls), AIINFRA_OK);
  assert_string_equal(aii_buf_cstr(&content), "Just text \n");
  assert_null(calls);
  aii_buf_free(&content);
  assert_int_equal(parse("<tool_call>x", NULL, &content, &calls), AIINFRA_OK);
  assert_string_equal(aii_buf_cstr(&content), "<tool_call>x");
  aii_buf_free(&content);
}

static void malformed(void **state)
{
  (void)state;
  static const char *const bad[] = {"<tool_call>",
                                    "<tool_call>\n{\"name\": \"f\"",
                                    "<tool_call>[]</tool_call>",
                                    "<tool_call>{}</tool_call>",
                                    "<tool_call>{\"name\":1}</tool_call>",
                                    "<tool_call>{\"name\":\"f\",\"arguments\":3}</tool_call>",
                                    "<tool_call>{\"name\":\"f\"} and so on",
                                    "<tool_call>{\"name\":\"f\",}</tool_call>"};
  for (size_t i = 0; i < AII_COUNT(bad); i++) {
    aii_buf content;
    json_t *calls;
    assert_int_equal(parse(bad[i], "hermes", &content, &calls), AIINFRA_EFORMAT);
    assert_null(calls);
    aii_buf_free(&content);
  }
}

static void unfinished_tag(void **state)
{
  (void)state;
  aii_buf content;
  json_t *calls;
  assert_int_equal(parse("<tool_call>{\"name\":\"f\"}", "hermes", &content, &calls), AIINFRA_OK);
  assert_string_equal(function_member(calls, 0, "arguments"), "{}");
  json_decref(calls);
  aii_buf_free(&content);
  assert_string_equal(aii_output_syntax("... <tool_call> ..."), "hermes");
  assert_null(aii_output_syntax("plain"));
  assert_null(aii_output_syntax(NULL));
}

static int tear_down(void **state)
{
  (void)state;
  return mem.used_bytes != 0;
}

int main(void)
{
  aii_mem_init(&mem, NULL, 0);
  const struct CMUnitTest tests[] = {cmocka_unit_test(several_calls), cmocka_unit_test(plain_text),
                                     cmocka_unit_test(malformed), cmocka_unit_test(unfinished_tag)};
  return cmocka_run_group_tests(tests, NULL, tear_down);
}
