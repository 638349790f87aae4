/* agent.c - the agent itself: what it is made of, and the tools it was given.
 *
 * An agent is immutable while runs are in flight; each run holds a reference. Freeing it stops the runs, which end as
 * the loop turns and stay unfinished in the journal, so that another process may take them up.
 * Loop thread only.
 */
#include "src/agent/agent.h"

#include "src/memory/memory.h"

#define MAX_NAME_BYTES 64
#define PACK_FROM 20u /* passages that are looked at for a budget */

static const char DEFAULT_INSTRUCTIONS[] = "You are a helpful assistant. Use the passages and the memory. If the "
                                           "answer is not there, say that you don't know.";

/* ---- life ----------------------------------------------------------------------------------------------------------- */

static void free_agent(aiinfra_agent *agent)
{
  aiinfra_runtime *rt = agent->rt;
  for (size_t i = 0; i < agent->n_tools; i++) {
    aii_strfree(&rt->mem, agent->tools[i].name);
    json_decref(agent->tools[i].spec);
  }
  aii_del(&rt->mem, agent->tools, agent->cap_tools * sizeof *agent->tools);
  aii_strfree(&rt->mem, agent->name);
  aii_strfree(&rt->mem, agent->instructions);
  aii_memory_unref(agent->memory);
  aii_db_unref(agent->db);
  if (agent->gen.release != NULL) agent->gen.release(agent->gen.impl);
  aii_del(&rt->mem, agent, sizeof *agent);
  aii_runtime_unref(rt);
}

void aii_agent_unref(aiinfra_agent *agent)
{
  if (--agent->refs == 0) free_agent(agent);
}

aiinfra_status aii_agent_create(const aii_generator *gen, aiinfra_db *db, aiinfra_memory *memory,
                                const aiinfra_agent_opts *opts, aiinfra_agent **out, aiinfra_error *err)
{
  aiinfra_runtime *rt = db->rt;
  aiinfra_agent *agent = aii_new(&rt->mem, sizeof *agent);
  if (agent == NULL) return aii_fail(err, AIINFRA_ENOMEM, "agent");
  agent->rt = rt;
  agent->db = db;
  agent->memory = memory;
  agent->gen = *gen;
  agent->refs = 1;
  aii_runtime_ref(rt);
  aii_db_ref(db);
  if (memory != NULL) aii_memory_ref(memory);
  if (gen->keep != NULL) gen->keep(gen->impl);
  agent->max_steps = opts->max_steps > 0 ? opts->max_steps : 8;
  agent->max_tokens = opts->max_tokens > 0 ? opts->max_tokens : 512;
  agent->recall_k = opts->recall_k > 0 ? opts->recall_k : opts->recall_tokens > 0 ? PACK_FROM : 3;
  agent->recall_tokens = opts->recall_tokens;
  agent->tool_timeout_ms = opts->tool_timeout_ms > 0 ? opts->tool_timeout_ms : 30000;
  agent->temperature = opts->temperature;
  agent->recall = opts->recall >= 0;
  agent->quote = opts->quote == 1;
  agent->name = aii_strdup(&rt->mem, opts->name != NULL ? opts->name : "agent");
  agent->instructions = aii_strdup(&rt->mem, opts->instructions != NULL ? opts->instructions : DEFAULT_INSTRUCTIONS);
  if (agent->name == NULL || agent->instructions == NULL) {
    aii_agent_unref(agent);
    return aii_fail(err, AIINFRA_ENOMEM, "agent");
  }
  *out = agent;
  return AIINFRA_OK;
}

/* ---- tools ---------------------------------------------------------------------------------------------------------- */

const aii_tool *aii_agent_find_tool(const aiinfra_agent *agent, const char *name)
{
  for (size_t i = 0; i < agent->n_tools; i++) {
    if (strcmp(agent->tools[i].name, name) == 0) return &agent->tools[i];
  }
  return NULL;
}

static bool is_name(const char *name)
{
  size_t n = name != NULL ? strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") : 0;
  return n > 0 && n <= MAX_NAME_BYTES && name[n] == '\0';
}

static aiinfra_status make_spec(const aiinfra_tool *tool, json_t **out, aiinfra_error *err)
{
  static const char none[] = "{\"type\": \"object\", \"properties\": {}}";
  const char *text = tool->parameters_json != NULL ? tool->parameters_json : none;
  json_t *parameters = NULL;
  aiinfra_status rc = aii_json_parse(text, strlen(text), "parameters_json", 0, &parameters, err);
  if (rc != AIINFRA_OK) return rc == AIINFRA_ENOMEM ? rc : aii_wrap(err, AIINFRA_EINVAL, "tool '%s'", tool->name);
  *out = json_pack("{ss, s{ss, ss, sO}}", "type", "function", "function", "name", tool->name, "description",
                   tool->description != NULL ? tool->description : "", "parameters", parameters);
  json_decref(parameters);
  return *out != NULL ? AIINFRA_OK : aii_fail(err, AIINFRA_ENOMEM, "tool '%s'", tool->name);
}

/* A schema that cannot be turned into a grammar of the model's calls is refused here, not in the middle of a run. */
static aiinfra_status check_schema(const aiinfra_agent *agent, const char *name, const json_t *spec, aiinfra_error *err)
{
  aii_mem *mem = &agent->rt->mem;
  aii_grammar *grammar = NULL;
  aii_tool_grammar_opts opts = {.choice = "required", .syntax = agent->gen.syntax};
  aii_buf text;
  aiinfra_status rc;
  aii_buf_init(&text, mem, 0);
  aii_buf_char(&text, '[');
  aii_json_dump(spec, &text);
  aii_buf_char(&text, ']');
  if (opts.syntax.format == NULL) opts.syntax.format = aii_output_format("json");
  opts.tools_json = text.data;
  rc = text.failed ? aii_fail(err, AIINFRA_ENOMEM, "schema") : aii_grammar_from_tools(mem, &opts, &grammar, err);
  aii_grammar_free(grammar);
  aii_buf_free(&text);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "tool '%s'", name);
}

static aiinfra_status check_tool(const aiinfra_agent *agent, const aiinfra_tool *tool, aiinfra_error *err)
{
  if (!is_name(tool->name))
    return aii_fail(err, AIINFRA_EINVAL, "a tool's name has letters, digits, '_' and '-', at most %d of them",
                    MAX_NAME_BYTES);
  if (tool->run == NULL) return aii_fail(err, AIINFRA_EINVAL, "tool '%s' has no function to run", tool->name);
  if (tool->description != NULL && !aii_utf8_valid(tool->description, strlen(tool->description)))
    return aii_fail(err, AIINFRA_EINVAL, "tool '%s': the description is no UTF-8", tool->name);
  if (agent->runs != NULL)
    return aii_fail(err, AIINFRA_EBUSY, "tools are added before the first run, or after the last one has ended");
  if (aii_agent_find_tool(agent, tool->name) != NULL)
    return aii_fail(err, AIINFRA_EEXIST, "the agent has a tool '%s'", tool->name);
  return AIINFRA_OK;
}

aiinfra_status aii_agent_add_tool(aiinfra_agent *agent, const aiinfra_tool *tool, aiinfra_error *err)
{
  aii_mem *mem = &agent->rt->mem;
  aii_tool t = {
      .run = tool->run, .user = tool->user, .idempotent = tool->idempotent == 1, .timeout_ms = tool->timeout_ms};
  aiinfra_status rc = check_tool(agent, tool, err);
  if (rc == AIINFRA_OK) rc = make_spec(tool, &t.spec, err);
  if (rc == AIINFRA_OK) rc = check_schema(agent, tool->name, t.spec, err);
  if (rc == AIINFRA_OK && !aii_grow(mem, &agent->tools, &agent->cap_tools, agent->n_tools + 1, sizeof t))
    rc = aii_fail(err, AIINFRA_ENOMEM, "tool '%s'", tool->name);
  if (rc == AIINFRA_OK && (t.name = aii_strdup(mem, tool->name)) == NULL)
    rc = aii_fail(err, AIINFRA_ENOMEM, "tool '%s'", tool->name);
  if (rc != AIINFRA_OK) {
    json_decref(t.spec);
    return rc;
  }
  agent->tools[agent->n_tools++] = t;
  return AIINFRA_OK;
}
