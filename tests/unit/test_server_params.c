/* test_server_params.c - request bodies to options, keys, statuses: what the server decides before any work starts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these first */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/server/server.h"

static aii_mem mem;
static aii_params params;
static aiinfra_error err;

static aiinfra_status parse(aii_endpoint endpoint, const char *body)
{
  memset(&err, 0, sizeof err);
  return aii_params_parse(&params, &mem, endpoint, body, strlen(body), &err);
}

static void done(void)
{
  aii_params_free(&params);
  assert_int_equal(mem.used_bytes, 0);
}

static void refused(aii_endpoint endpoint, const char *body, aiinfra_status status, const char *field)
{
  assert_int_equal(parse(endpoint, body), status);
  assert_true(err.message[0] != '\0');
  assert_string_equal(params.field, field);
  done();
}

static void defaults_are_openai_s(void **state)
{
  (void)state;
  assert_int_equal(parse(AII_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"new_field\":{}}"),
                   AIINFRA_OK);
  assert_true(params.opts.temperature == 1.0f && params.opts.top_p == 1.0f);
  assert_int_equal(params.opts.max_tokens, 0);
  assert_int_equal(params.opts.seed, 0);
  assert_false(params.stream);
  done();
  assert_int_equal(parse(AII_COMPLETION, "{\"prompt\":\"x\",\"model\":null,\"stop\":null}"), AIINFRA_OK);
  assert_int_equal(params.opts.max_tokens, 16);
  assert_null(params.model);
  done();
}

static void values_that_mean_something_else_here(void **state)
{
  (void)state;
  const char *body =
      "{\"prompt\":[\"x\"],\"seed\":0,\"top_p\":0,\"top_k\":-1,\"temperature\":0,\"stop\":\"a\",\"n\":1}";
  assert_int_equal(parse(AII_COMPLETION, body), AIINFRA_OK);
  assert_true(params.opts.seed != 0);
  assert_true(params.opts.top_p > 0.0f);
  assert_int_equal(params.opts.top_k, 0);
  assert_int_equal(params.opts.n_stop, 1);
  assert_string_equal(params.opts.stop[0], "a");
  assert_string_equal(params.opts.text, "x");
  done();
}

static void penalties(void **state)
{
  (void)state;
  const char *body = "{\"prompt\":\"x\",\"presence_penalty\":0.5,\"frequency_penalty\":-2,"
                     "\"repetition_penalty\":1.25,\"logit_bias\":{\"50\":-100,\"7\":1.5}}";
  assert_int_equal(parse(AII_COMPLETION, body), AIINFRA_OK);
  assert_true(params.opts.presence_penalty == 0.5f && params.opts.frequency_penalty == -2.0f);
  assert_true(params.opts.repeat_penalty == 1.25f);
  assert_int_equal(params.opts.penalty_last_n, -1);
  assert_string_equal(params.opts.logit_bias, "{\"50\":-100,\"7\":1.5}");
  done();
  assert_int_equal(parse(AII_COMPLETION, "{\"prompt\":\"x\",\"repeat_penalty\":1.5,\"logit_bias\":{}}"), AIINFRA_OK);
  assert_true(params.opts.repeat_penalty == 1.5f);
  assert_int_equal(params.opts.penalty_last_n, 0);
  assert_null(params.opts.logit_bias);
  done();
  assert_int_equal(parse(AII_COMPLETION, "{\"prompt\":\"x\",\"repeat_penalty\":1.5,\"repeat_last_n\":9}"), AIINFRA_OK);
  assert_int_equal(params.opts.penalty_last_n, 9);
  done();
  assert_int_equal(parse(AII_COMPLETION, "{\"prompt\":\"x\",\"repeat_penalty\":1.5,\"repeat_last_n\":0}"), AIINFRA_OK);
  assert_true(params.opts.repeat_penalty == 0.0f);
  done();
}

static void messages_are_made_plain(void **state)
{
  (void)state;
  assert_int_equal(parse(AII_CHAT,
                         "{\"messages\":[{\"role\":\"developer\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
                         "{\"type\":\"text\",\"text\":\"b\"}]},{\"role\":\"assistant\",\"content\":null}],"
                         "\"response_format\":{\"type\":\"json_object\"},\"max_tokens\":5,"
                         "\"max_completion_tokens\":7,\"stream\":true,\"stream_options\":{\"include_usage\":true}}"),
                   AIINFRA_OK);
  assert_string_equal(params.opts.messages_json,
                      "[{\"role\":\"system\",\"content\":\"ab\"},{\"role\":\"assistant\",\"content\":null}]");
  assert_string_equal(params.opts.json_schema, "{\"type\":\"object\"}");
  assert_int_equal(params.opts.max_tokens, 7);
  assert_true(params.stream && params.include_usage);
  done();
}

static void tools(void **state)
{
  (void)state;
  const char *head = "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"tools\":[{\"type\":\"function\","
                     "\"function\":{\"name\":\"f\"}}],\"tool_choice\":";
  char body[512];
  (void)snprintf(body, sizeof body, "%s{\"type\":\"function\",\"function\":{\"name\":\"f\"}}}", head);
  assert_int_equal(parse(AII_CHAT, body), AIINFRA_OK);
  assert_string_equal(params.opts.tool_choice, "f");
  assert_non_null(params.opts.tools_json);
  done();
  (void)snprintf(body, sizeof body, "%s{\"type\":\"function\",\"function\":{\"name\":\"g\"}}}", head);
  refused(AII_CHAT, body, AIINFRA_EINVAL, "tool_choice");
  (void)snprintf(body, sizeof body, "%s\"required\"}", head);
  assert_int_equal(parse(AII_CHAT, body), AIINFRA_OK);
  assert_string_equal(params.opts.tool_choice, "required");
  assert_null(params.opts.variables_json);
  done();
  (void)snprintf(body, sizeof body, "%s\"auto\",\"chat_template_kwargs\":{\"enable_thinking\":false}}", head);
  assert_int_equal(parse(AII_CHAT, body), AIINFRA_OK);
  assert_string_equal(params.opts.variables_json, "{\"enable_thinking\":false}");
  done();
  (void)snprintf(body, sizeof body, "%s\"auto\",\"chat_template_kwargs\":1}", head);
  refused(AII_CHAT, body, AIINFRA_EINVAL, "chat_template_kwargs");
}

static void wrong_fields_are_named(void **state)
{
  (void)state;
  refused(AII_COMPLETION, "{\"prompt\":\"a\\u0000b\"}", AIINFRA_EINVAL, "prompt");
  refused(AII_COMPLETION, "{\"prompt\":\"x\",\"best_of\":3}", AIINFRA_ENOTSUP, "best_of");
  refused(AII_COMPLETION, "{\"prompt\":\"x\",\"frequency_penalty\":2.5}", AIINFRA_EINVAL, "frequency_penalty");
  refused(AII_COMPLETION, "{\"prompt\":\"x\",\"presence_penalty\":-3}", AIINFRA_EINVAL, "presence_penalty");
  refused(AII_COMPLETION, "{\"prompt\":\"x\",\"presence_penalty\":\"1\"}", AIINFRA_EINVAL, "presence_penalty");
  refused(AII_COMPLETION, "{\"prompt\":\"x\",\"repetition_penalty\":0}", AIINFRA_EINVAL, "repetition_penalty");
  refused(AII_COMPLETION, "{\"prompt\":\"x\",\"repeat_penalty\":-1}", AIINFRA_EINVAL, "repeat_penalty");
  refused(AII_COMPLETION, "{\"prompt\":\"x\",\"repeat_last_n\":-2}", AIINFRA_EINVAL, "repeat_last_n");
  refused(AII_COMPLETION, "{\"prompt\":\"x\",\"logit_bias\":[1]}", AIINFRA_EINVAL, "logit_bias");
  refused(AII_COMPLETION, "{\"prompt\":\"x\",\"stream_options\":3}", AIINFRA_EINVAL, "stream_options");
  refused(AII_COMPLETION, "{\"prompt\":\"x\",\"max_tokens\":4294967296}", AIINFRA_EINVAL, "max_tokens");
  refused(AII_EMBEDDING, "{\"input\":[[1,2]]}", AIINFRA_EINVAL, "input");
  refused(AII_EMBEDDING, "{\"input\":\"x\",\"dimensions\":-1}", AIINFRA_EINVAL, "dimensions");
  refused(AII_RERANK, "{\"documents\":[\"x\"]}", AIINFRA_EINVAL, "query");
  refused(AII_RERANK, "{\"query\":\"x\"}", AIINFRA_EINVAL, "documents");
  refused(AII_RERANK, "{\"query\":\"x\",\"documents\":\"x\"}", AIINFRA_EINVAL, "documents");
  refused(AII_RERANK, "{\"query\":\"x\",\"documents\":[{\"title\":\"x\"}]}", AIINFRA_EINVAL, "documents");
  refused(AII_RERANK, "{\"query\":\"x\",\"documents\":[\"x\"],\"top_n\":-1}", AIINFRA_EINVAL, "top_n");
  assert_int_equal(parse(AII_CHAT, "nonsense"), AIINFRA_EFORMAT);
  assert_null(params.field);
  done();
}

static void keys(void **state)
{
  (void)state;
  assert_true(aii_key_matches("Bearer abc", "abc"));
  assert_true(aii_key_matches("bearer abc", "abc"));
  const char *wrong[] = {NULL,        "",   "Bearer", "Bearer ", "Bearer ab", "Bearer abcd", "Bearer abcabc",
                         "Basic abc", "abc"};
  for (size_t i = 0; i < AII_COUNT(wrong); i++) assert_false(aii_key_matches(wrong[i], "abc"));
}

static void statuses(void **state)
{
  (void)state;
  aii_reply reply = {0};
  aii_buf_init(&reply.body, &mem, 0);
  (void)aii_fail(&err, AIINFRA_EINVAL, "the prompt has %d tokens, which is too long", 9);
  aii_reply_status(&reply, AIINFRA_EINVAL, NULL, &err);
  assert_int_equal(reply.status, 400);
  assert_non_null(strstr(aii_buf_cstr(&reply.body), "\"code\":\"context_length_exceeded\"}}"));
  assert_non_null(strstr(aii_buf_cstr(&reply.body), "\"param\":null"));
  aii_reply_status(&reply, AIINFRA_EBUSY, NULL, NULL);
  assert_true(reply.status == 429 && reply.retry);
  aii_buf_free(&reply.body);
  assert_int_equal(aii_http_status(AIINFRA_ETIMEDOUT), 408);
  assert_int_equal(aii_http_status(AIINFRA_ECLOSED), 503);
  assert_int_equal(aii_http_status(AIINFRA_EINTERNAL), 500);
}

/* ---- memory runs out at every place in turn ------------------------------------------------------------------------- */

static int allocations_left;

static void *scarce_alloc(void *user, size_t size)
{
  (void)user;
  return allocations_left-- > 0 ? malloc(size) : NULL;
}

static void *scarce_resize(void *user, void *ptr, size_t size)
{
  (void)user;
  return allocations_left-- > 0 ? realloc(ptr, size) : NULL;
}

static void scarce_release(void *user, void *ptr)
{
  (void)user;
  free(ptr);
}

static void memory_runs_out(void **state)
{
  (void)state;
  static const char *const bodies[] = {
      NULL,
      "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"}]}],\"tools\":[{\"type\":"
      "\"function\",\"function\":{\"name\":\"f\"}}],\"response_format\":{\"type\":\"json_schema\",\"json_schema\":"
      "{\"name\":\"n\",\"schema\":{}}}}",
      "{\"prompt\":\"x\"}", "{\"input\":[\"a\",\"b\"]}", "{\"query\":\"a\",\"documents\":[\"a\",\"b\"]}"};
  aiinfra_allocator scarce = {scarce_alloc, scarce_resize, scarce_release, NULL};
  for (int endpoint = AII_CHAT; endpoint <= AII_RERANK; endpoint++) {
    aiinfra_status rc = AIINFRA_ENOMEM;
    for (int n = 0; n < 50 && rc != AIINFRA_OK; n++) {
      aii_mem_init(&mem, &scarce, 0);
      allocations_left = n;
      rc = parse((aii_endpoint)endpoint, bodies[endpoint]);
      assert_true(rc == AIINFRA_OK || rc == AIINFRA_ENOMEM);
      done();
    }
    assert_int_equal(rc, AIINFRA_OK);
  }
  aii_mem_init(&mem, NULL, 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(defaults_are_openai_s),
      cmocka_unit_test(values_that_mean_something_else_here),
      cmocka_unit_test(penalties),
      cmocka_unit_test(messages_are_made_plain),
      cmocka_unit_test(tools),
      cmocka_unit_test(wrong_fields_are_named),
      cmocka_unit_test(keys),
      cmocka_unit_test(statuses),
      cmocka_unit_test(memory_runs_out),
  };
  aii_mem_init(&mem, NULL, 0);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
