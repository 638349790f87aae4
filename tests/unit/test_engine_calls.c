/* test_engine_calls.c - a real model under the grammar of each family's tool calls, and its reasoning told apart.
 *
 * The bundled model gets other chat templates. It knows none of their formats: only the grammar makes it write them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these first */
#include <cmocka.h>
#include <unistd.h>

#include "lib/json/json.h"
#include "src/engine/engine.h"
#include "tests/support/nano_template.h"

static const char TOOLS[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"forecast\",\"description\":\"x\",\"parameters\":{\"type\":"
    "\"object\","
    "\"properties\":{\"city\":{\"type\":\"string\",\"maxLength\":12},\"unit\":{\"enum\":[\"C\",\"F\"]},\"days\":{"
    "\"type\":"
    "\"integer\",\"minimum\":1,\"maximum\":9},\"hours\":{\"type\":\"array\",\"items\":{\"type\":\"boolean\"},"
    "\"minItems\":1,"
    "\"maxItems\":2}},\"required\":[\"city\",\"unit\",\"days\",\"hours\"],\"additionalProperties\":false}}}]";

typedef struct outcome {
  aiinfra_status status;
  int32_t finish;
  char text[512], reasoning[512], calls[2048], streamed[512], arguments[1024];
} outcome;

static void on_chunk(void *user, const aiinfra_chunk *chunk)
{
  outcome *o = user;
  strncat(o->streamed, chunk->reasoning, sizeof o->streamed - 1 - strlen(o->streamed));
  if (chunk->call != NULL)
    strncat(o->arguments, chunk->call->arguments, sizeof o->arguments - 1 - strlen(o->arguments));
}

static void on_result(void *user, aiinfra_status status, const aiinfra_result *result)
{
  outcome *o = user;
  o->status = status;
  o->finish = result->finish;
  snprintf(o->text, sizeof o->text, "%s", result->text);
  snprintf(o->reasoning, sizeof o->reasoning, "%s", result->reasoning);
  snprintf(o->calls, sizeof o->calls, "%s", result->tool_calls_json != NULL ? result->tool_calls_json : "");
}

static outcome generate(const char *needles, const char *begun, const char *choice, uint32_t max_tokens)
{
  outcome o = {.finish = -1};
  aiinfra_runtime *rt = NULL;
  aiinfra_model *model = NULL;
  aiinfra_kv *kv = NULL;
  aiinfra_batcher *batcher = NULL;
  aiinfra_request *request = NULL;
  aiinfra_generate_opts opts = AIINFRA_GENERATE_OPTS_INIT;
  aiinfra_runtime_opts ro = AIINFRA_RUNTIME_OPTS_INIT;
  aiinfra_error err = {0};
  const char *path = test_tmp("calls.gguf");
  ro.n_threads = 1;
  opts.messages_json = "[{\"role\":\"user\",\"content\":\"How is the weather?\"}]";
  opts.tools_json = choice != NULL ? TOOLS : NULL;
  opts.tool_choice = choice;
  opts.max_tokens = max_tokens;
  opts.temperature = 1.0f;
  opts.seed = 7;
  assert_true(nano_with_template(needles, begun, path));
  if (aiinfra_runtime_create(&ro, &rt, &err) != AIINFRA_OK ||
      aiinfra_model_open(rt, path, NULL, &model, &err) != AIINFRA_OK ||
      aiinfra_kv_create(model, NULL, &kv, &err) != AIINFRA_OK ||
      aiinfra_batcher_create(model, kv, NULL, &batcher, &err) != AIINFRA_OK ||
      aiinfra_batcher_generate(batcher, &opts, on_chunk, on_result, &o, &request, &err) != AIINFRA_OK)
    fail_msg("%s: %s", needles, err.message);
  (void)aiinfra_request_wait(request, -1, &err);
  aiinfra_request_free(request);
  aiinfra_batcher_free(batcher);
  aiinfra_kv_free(kv);
  aiinfra_model_free(model);
  aiinfra_runtime_free(rt);
  assert_int_equal(o.status, AIINFRA_OK);
  return o;
}

static void every_family_calls_a_tool(void **state)
{
  (void)state;
  static const char *const families[] = {"<function= <parameter=",
                                         "<arg_key>",
                                         "<|tool_call_begin|>",
                                         "<|tool_call_start|>",
                                         "<|tool_call>call:",
                                         "<|channel|> <|message|>",
                                         "[TOOL_CALLS]",
                                         ">>>all",
                                         "<|start_header_id|> {\"name\": \"parameters\": ",
                                         "<tool_call>"};
  for (size_t i = 0; i < AII_COUNT(families); i++) {
    outcome o = generate(families[i], "", "forecast", 400);
    json_t *calls = json_loads(o.calls, 0, NULL), *arguments;
    const json_t *function = json_object_get(json_array_get(calls, 0), "function");
    if (o.finish != AIINFRA_FINISH_TOOL) fail_msg("%s: finish %d, text %s", families[i], o.finish, o.text);
    assert_string_equal(json_string_value(json_object_get(function, "name")), "forecast");
    const char *text = json_string_value(json_object_get(function, "arguments"));
    assert_memory_equal(o.arguments, text, strlen(text)); /* as it was streamed */
    arguments = json_loads(text, 0, NULL);
    assert_true(json_is_string(json_object_get(arguments, "city")));
    const char *unit = json_string_value(json_object_get(arguments, "unit"));
    assert_true(unit != NULL && (strcmp(unit, "C") == 0 || strcmp(unit, "F") == 0));
    json_int_t days = json_integer_value(json_object_get(arguments, "days"));
    assert_true(days >= 1 && days <= 9);
    assert_true(json_is_boolean(json_array_get(json_object_get(arguments, "hours"), 0)));
    json_decref(arguments);
    json_decref(calls);
  }
}

static void reasoning_is_no_text(void **state)
{
  (void)state;
  outcome o = generate("</think>", "<think>\\n", NULL, 12);
  assert_string_equal(o.text, "");
  assert_true(o.reasoning[0] != '\0');
  assert_string_equal(o.streamed, o.reasoning);
  /* a call is forced behind the reasoning only */
  o = generate("</think> <TOOLCALL>", "<think>\\n", "required", 12);
  assert_true(o.finish == AIINFRA_FINISH_LENGTH || o.finish == AIINFRA_FINISH_STOP); /* as nano likes */
  assert_true(o.reasoning[0] != '\0');
  assert_string_equal(o.calls, "");
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(every_family_calls_a_tool),
                                     cmocka_unit_test(reasoning_is_no_text)};
  if (access(test_path("examples/nano/nano.gguf"), R_OK) != 0) return test_skip_all("needs examples/nano/nano.gguf");
  return cmocka_run_group_tests(tests, NULL, NULL);
}
