/* agent_tool.c - an agent with a tool of one's own: the model decides when to call it, its arguments obey the schema.
 *
 *   agent_tool MODEL.gguf ["What is the weather in Oslo?"]
 */
#include <aiinfra.h>
#include <stdio.h>

/* Runs on the loop's thread and must return soon. Real work would go elsewhere and finish the call from there. */
static void get_weather(void *user, aiinfra_tool_call *call, const char *arguments_json)
{
  (void)user;
  fprintf(stderr, "[get_weather %s]\n", arguments_json);
  aiinfra_tool_call_finish(call, "It is sunny in Oslo.");
}

static void on_event(void *user, const char *event_json)
{
  (void)user;
  fprintf(stderr, "%s\n", event_json);
}

static void on_done(void *user, aiinfra_status status, const aiinfra_run_result *result)
{
  *(int *)user = status == AIINFRA_OK ? 0 : 1;
  if (status == AIINFRA_OK) printf("%s\n", result->answer);
  else fprintf(stderr, "agent_tool: %s\n", result->error->message);
}

static aiinfra_status ask(aiinfra_agent *agent, const char *question, int *code, aiinfra_error *err)
{
  aiinfra_tool tool = AIINFRA_TOOL_INIT;
  aiinfra_run_opts opts = AIINFRA_RUN_OPTS_INIT;
  aiinfra_request *request;
  aiinfra_status rc;
  tool.name = "get_weather";
  tool.description = "Returns the weather of a city.";
  tool.parameters_json = "{\"type\": \"object\", \"properties\": {\"city\": {\"type\": \"string\"}},"
                         " \"required\": [\"city\"]}";
  tool.run = get_weather;
  tool.idempotent = 1; /* asking twice does no harm, so a resumed run may ask again */
  opts.input = question;
  rc = aiinfra_agent_add_tool(agent, &tool, err);
  if (rc == AIINFRA_OK) rc = aiinfra_agent_run(agent, &opts, on_event, on_done, code, &request, err);
  if (rc != AIINFRA_OK) return rc;
  (void)aiinfra_request_wait(request, -1, NULL); /* on_done hears how it ended */
  aiinfra_request_free(request);
  return AIINFRA_OK;
}

int main(int argc, char **argv)
{
  aiinfra_runtime *runtime = NULL;
  aiinfra_model *model = NULL;
  aiinfra_kv *kv = NULL;
  aiinfra_batcher *batcher = NULL;
  aiinfra_db *db = NULL;
  aiinfra_agent *agent = NULL;
  aiinfra_agent_opts opts = AIINFRA_AGENT_OPTS_INIT;
  aiinfra_error err;
  aiinfra_status rc;
  int code = 1;
  if (argc < 2) return fprintf(stderr, "usage: agent_tool MODEL.gguf [QUESTION]\n"), 2;

  opts.max_tokens = 64;
  rc = aiinfra_runtime_create(NULL, &runtime, &err);
  if (rc == AIINFRA_OK) rc = aiinfra_model_open(runtime, argv[1], NULL, &model, &err);
  if (rc == AIINFRA_OK) rc = aiinfra_kv_create(model, NULL, &kv, &err);
  if (rc == AIINFRA_OK) rc = aiinfra_batcher_create(model, kv, NULL, &batcher, &err);
  if (rc == AIINFRA_OK) rc = aiinfra_db_open(runtime, ":memory:", NULL, &db, &err);
  if (rc == AIINFRA_OK) rc = aiinfra_agent_create(batcher, db, NULL, &opts, &agent, &err);
  if (rc == AIINFRA_OK) rc = ask(agent, argc > 2 ? argv[2] : "What is the weather in Oslo?", &code, &err);
  if (rc != AIINFRA_OK) fprintf(stderr, "agent_tool: %s\n", err.message);

  aiinfra_agent_free(agent);
  aiinfra_db_free(db);
  aiinfra_batcher_free(batcher);
  aiinfra_kv_free(kv);
  aiinfra_model_free(model);
  aiinfra_runtime_free(runtime);
  return code;
}
