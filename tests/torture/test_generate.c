/* test_generate.c - memory runs out while requests run: plain text, a chat with a schema, a chat with tools, a vector. */
#include "tests/torture/scene.h"

#define MESSAGES "[{\"role\": \"user\", \"content\": \"Hi\"}]"
#define TOOLS                                                                                                \
  "[{\"type\": \"function\", \"function\": {\"name\": \"add\", \"description\": \"Adds.\", \"parameters\": " \
  "{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"integer\"}}, \"required\": [\"a\"]}}}]"

static void on_chunk(void *user, const aiinfra_chunk *chunk)
{
  (void)user, (void)chunk;
}

static void on_result(void *user, aiinfra_status status, const aiinfra_result *result)
{
  ++*(int *)user;
  torture_check((status == AIINFRA_OK) == (result->error == NULL), "an error comes with its message");
}

static void on_vector(void *user, aiinfra_status status, const float *vector, size_t n, uint32_t n_tokens,
                      const aiinfra_error *error)
{
  (void)n, (void)n_tokens, (void)error;
  ++*(int *)user;
  torture_check((status == AIINFRA_OK) == (vector != NULL), "a vector comes exactly when it went well");
}

/* ctx: the options; NULL: an embedding. */
static aiinfra_status generate(void *ctx)
{
  scene s;
  aiinfra_request *request = NULL;
  int done = 0;
  aiinfra_status rc;
  torture_pause("set-up");
  rc = scene_open(&s);
  torture_resume();
  if (rc == AIINFRA_OK)
    rc = ctx != NULL ? aiinfra_batcher_generate(s.batcher, ctx, on_chunk, on_result, &done, &request, NULL)
                     : aiinfra_batcher_embed(s.batcher, "one two three", on_vector, &done, &request, NULL);
  torture_made(rc, &request, "the request");
  if (rc == AIINFRA_OK) rc = scene_wait(request, &done);
  scene_close(&s);
  return rc;
}

static aiinfra_generate_opts options(void)
{
  aiinfra_generate_opts opts = AIINFRA_GENERATE_OPTS_INIT;
  opts.max_tokens = 12;
  opts.seed = 1;
  opts.frequency_penalty = 0.5f;
  opts.logit_bias = "{\"1\": 0.5}";
  return opts;
}

static void plain_text(void **state)
{
  static const char *const stop[] = {"never"};
  aiinfra_generate_opts opts = options();
  (void)state;
  opts.text = "one two";
  opts.temperature = 1.0f;
  opts.top_p = 0.9f;
  opts.stop = stop;
  opts.n_stop = 1;
  assert_int_equal(torture_run("generate.text", generate, &opts, NULL), 0);
}

static void with_a_schema(void **state)
{
  aiinfra_generate_opts opts = options();
  (void)state;
  opts.messages_json = MESSAGES;
  opts.json_schema =
      "{\"type\": \"object\", \"properties\": {\"x\": {\"enum\": [\"a\", \"b\"]}}, \"required\": [\"x\"]}";
  assert_int_equal(torture_run("generate.schema", generate, &opts, NULL), 0);
}

static void with_tools(void **state)
{
  aiinfra_generate_opts opts = options();
  (void)state;
  opts.messages_json = MESSAGES;
  opts.tools_json = TOOLS;
  opts.tool_choice = "required";
  opts.max_tokens = 40;
  assert_int_equal(torture_run("generate.tools", generate, &opts, NULL), 0);
}

static void with_quotes(void **state)
{
  aiinfra_generate_opts opts = options();
  (void)state;
  opts.messages_json = MESSAGES;
  opts.quotes_json = "[\"Hello! How can I help you? One two.\", \"I am nano, a tiny model. I see.\"]";
  opts.max_tokens = 40;
  assert_int_equal(torture_run("generate.quotes", generate, &opts, NULL), 0);
}

static void on_vectors(void *user, aiinfra_status status, const aiinfra_embed_result *result)
{
  ++*(int *)user;
  torture_check((status == AIINFRA_OK) == (result->vectors != NULL), "vectors come exactly when all went well");
  torture_check((status == AIINFRA_OK) == (result->error == NULL), "an error comes with its message");
}

static void on_scores(void *user, aiinfra_status status, const aiinfra_rerank_result *result)
{
  ++*(int *)user;
  torture_check((status == AIINFRA_OK) == (result->scores != NULL), "scores come exactly when all went well");
}

static aiinfra_status rerank(void *ctx)
{
  static const char *const documents[] = {"one", "two three", "four"};
  aiinfra_rerank_opts opts = AIINFRA_RERANK_OPTS_INIT;
  aiinfra_request *request = NULL;
  scene s;
  int done = 0;
  aiinfra_status rc;
  (void)ctx;
  opts.query = "three";
  opts.documents = documents;
  opts.n_documents = 3;
  torture_pause("set-up");
  rc = scene_open(&s);
  torture_resume();
  if (rc == AIINFRA_OK) rc = aiinfra_batcher_rerank(s.batcher, &opts, on_scores, &done, &request, NULL);
  torture_made(rc, &request, "the request");
  if (rc == AIINFRA_OK) rc = scene_wait(request, &done);
  scene_close(&s);
  return rc;
}

static void scores(void **state)
{
  (void)state;
  assert_int_equal(torture_run("generate.scores", rerank, NULL, NULL), 0);
}

static aiinfra_status embed_texts(void *ctx)
{
  static const char *const texts[] = {"one", "two three", "one two three four", "five"};
  aiinfra_embed_opts opts = AIINFRA_EMBED_OPTS_INIT;
  aiinfra_request *request = NULL;
  scene s;
  int done = 0;
  aiinfra_status rc;
  (void)ctx;
  opts.texts = texts;
  opts.n_texts = 4;
  opts.dimensions = 4;
  torture_pause("set-up");
  rc = scene_open(&s);
  torture_resume();
  if (rc == AIINFRA_OK) rc = aiinfra_batcher_embed_texts(s.batcher, &opts, on_vectors, &done, &request, NULL);
  torture_made(rc, &request, "the request");
  if (rc == AIINFRA_OK) rc = scene_wait(request, &done);
  scene_close(&s);
  return rc;
}

static void vectors(void **state)
{
  (void)state;
  assert_int_equal(torture_run("generate.vectors", embed_texts, NULL, NULL), 0);
}

static void a_vector(void **state)
{
  (void)state;
  assert_int_equal(torture_run("generate.embed", generate, NULL, NULL), 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(plain_text), cmocka_unit_test(with_a_schema),
                                     cmocka_unit_test(with_tools), cmocka_unit_test(with_quotes),
                                     cmocka_unit_test(a_vector),   cmocka_unit_test(vectors),
                                     cmocka_unit_test(scores)};
  scene_model();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
