/* agent_api.c - the public functions of agent.h: arguments are checked and options loaded here, then it goes down. */
#include "src/agent/agent.h"
#include "src/engine/engine.h"
#include "src/memory/memory.h"

#define MAX_INPUT_BYTES ((size_t)4 << 20)

static aiinfra_status check_text(const char *text, const char *what, aiinfra_error *err)
{
  size_t n = text != NULL ? strnlen(text, MAX_INPUT_BYTES + 1) : 0;
  if (n > MAX_INPUT_BYTES) return aii_fail(err, AIINFRA_EINVAL, "%s is longer than %zu bytes", what, MAX_INPUT_BYTES);
  if (!aii_utf8_valid(text != NULL ? text : "", n)) return aii_fail(err, AIINFRA_EINVAL, "%s is no UTF-8", what);
  return AIINFRA_OK;
}

static aiinfra_status generate(void *impl, const aiinfra_generate_opts *opts, aiinfra_chunk_cb on_chunk,
                               aiinfra_result_cb on_result, void *user, aiinfra_request **request, aiinfra_error *err)
{
  return aiinfra_batcher_generate(impl, opts, on_chunk, on_result, user, request, err);
}

static void keep_batcher(void *impl)
{
  aii_batcher_ref(impl);
}

static void release_batcher(void *impl)
{
  aii_batcher_unref(impl);
}

static aiinfra_status check_agent_opts(const aiinfra_agent_opts *o, aiinfra_error *err)
{
  aiinfra_status rc = check_text(o->name, "name", err);
  if (rc == AIINFRA_OK) rc = check_text(o->instructions, "instructions", err);
  if (rc == AIINFRA_OK && !(o->temperature >= 0.0f && o->temperature <= 100.0f))
    rc = aii_fail(err, AIINFRA_EINVAL, "temperature is %g, must be 0 (greedy) or more", (double)o->temperature);
  if (rc == AIINFRA_OK && (o->recall < -1 || o->recall > 1))
    rc = aii_fail(err, AIINFRA_EINVAL, "recall is %d, must be -1, 0 or 1", o->recall);
  if (rc == AIINFRA_OK && o->quote != 0 && o->quote != 1)
    rc = aii_fail(err, AIINFRA_EINVAL, "quote is %d, must be 0 or 1", o->quote);
  return rc;
}

aiinfra_status aiinfra_agent_create(aiinfra_batcher *batcher, aiinfra_db *db, aiinfra_memory *memory,
                                    const aiinfra_agent_opts *opts, aiinfra_agent **out, aiinfra_error *err)
{
  aiinfra_agent_opts o;
  aiinfra_model_info info = {.struct_size = sizeof info};
  aii_generator gen = {.impl = batcher, .generate = generate, .keep = keep_batcher, .release = release_batcher};
  aiinfra_status rc;
  if (out == NULL) return aii_fail(err, AIINFRA_EINVAL, "out is NULL");
  *out = NULL;
  if (batcher == NULL || db == NULL) return aii_fail(err, AIINFRA_EINVAL, "batcher or db is NULL");
  if (memory != NULL && memory->db != db) return aii_fail(err, AIINFRA_EINVAL, "memory is of another database");
  rc = AII_OPTS_LOAD(&o, opts, recall, err);
  if (rc == AIINFRA_OK) rc = check_agent_opts(&o, err);
  if (rc == AIINFRA_OK) rc = aiinfra_model_get_info(aiinfra_batcher_model(batcher), &info, err);
  if (rc != AIINFRA_OK) return rc;
  gen.max_context = info.max_context;
  gen.model = aiinfra_batcher_model(batcher);
  gen.syntax = batcher->model->syntax;
  return aii_agent_create(&gen, db, memory, &o, out, err);
}

void aiinfra_agent_free(aiinfra_agent *agent)
{
  if (agent == NULL) return;
  for (aii_run *run = agent->runs, *next; run != NULL; run = next) {
    next = run->next;
    run->detached = true;
    aii_run_stop(run, AIINFRA_ECANCELED, "the agent was freed; the run can be resumed");
  }
  aii_agent_unref(agent);
}

aiinfra_status aiinfra_agent_add_tool(aiinfra_agent *agent, const aiinfra_tool *tool, aiinfra_error *err)
{
  aiinfra_tool t;
  aiinfra_status rc;
  if (agent == NULL || tool == NULL) return aii_fail(err, AIINFRA_EINVAL, "agent or tool is NULL");
  rc = AII_OPTS_LOAD(&t, tool, timeout_ms, err);
  return rc == AIINFRA_OK ? aii_agent_add_tool(agent, &t, err) : rc;
}

aiinfra_status aiinfra_agent_add_builtin_tools(aiinfra_agent *agent, aiinfra_error *err)
{
  if (agent == NULL) return aii_fail(err, AIINFRA_EINVAL, "agent is NULL");
  return aii_agent_add_builtin_tools(agent, err);
}

void aiinfra_tool_call_finish(aiinfra_tool_call *call, const char *result)
{
  if (call != NULL) aii_tool_call_end(call, result, false);
}

void aiinfra_tool_call_fail(aiinfra_tool_call *call, const char *message)
{
  if (call != NULL) aii_tool_call_end(call, message, true);
}

aiinfra_status aiinfra_agent_run(aiinfra_agent *agent, const aiinfra_run_opts *opts, aiinfra_event_cb on_event,
                                 aiinfra_run_cb on_done, void *user, aiinfra_request **request, aiinfra_error *err)
{
  aiinfra_run_opts o;
  aiinfra_status rc;
  if (request != NULL) *request = NULL;
  if (agent == NULL) return aii_fail(err, AIINFRA_EINVAL, "agent is NULL");
  rc = AII_OPTS_LOAD(&o, opts, seed, err);
  if (rc == AIINFRA_OK && o.input == NULL) rc = aii_fail(err, AIINFRA_EINVAL, "input is NULL");
  if (rc == AIINFRA_OK) rc = check_text(o.input, "input", err);
  if (rc == AIINFRA_OK) rc = check_text(o.conversation, "conversation", err);
  if (rc == AIINFRA_OK && o.conversation != NULL && agent->memory == NULL)
    rc = aii_fail(err, AIINFRA_EINVAL, "a conversation needs an agent with a memory");
  if (rc != AIINFRA_OK) return rc;
  return aii_run_start(agent, &o, 0, on_event, on_done, user, request, err);
}

aiinfra_status aiinfra_agent_resume(aiinfra_agent *agent, int64_t run_id, aiinfra_event_cb on_event,
                                    aiinfra_run_cb on_done, void *user, aiinfra_request **request, aiinfra_error *err)
{
  if (request != NULL) *request = NULL;
  if (agent == NULL || run_id <= 0) return aii_fail(err, AIINFRA_EINVAL, "agent is NULL, or run_id is none");
  for (const aii_run *run = agent->runs; run != NULL; run = run->next) {
    if (run->id == run_id)
      return aii_fail(err, AIINFRA_EBUSY, "run %lld is running in this process", (long long)run_id);
  }
  return aii_run_start(agent, NULL, run_id, on_event, on_done, user, request, err);
}

aiinfra_status aiinfra_agent_runs(aiinfra_agent *agent, int unfinished_only, char **out_json, aiinfra_error *err)
{
  aii_buf list;
  aiinfra_status rc;
  if (out_json == NULL) return aii_fail(err, AIINFRA_EINVAL, "out_json is NULL");
  *out_json = NULL;
  if (agent == NULL) return aii_fail(err, AIINFRA_EINVAL, "agent is NULL");
  aii_buf_init(&list, &agent->rt->mem, 0);
  rc = aii_journal_list(agent->db, agent->name, unfinished_only != 0, &list, err);
  if (rc == AIINFRA_OK) return aii_buf_export(&list, out_json, err);
  aii_buf_free(&list);
  return rc;
}
