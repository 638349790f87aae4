/* builtin.c - the tools that come with the library: calculator, clock, memory_search, remember, edit_block.
 *
 * The first two answer at once. The memory tools block on the disk, so they run on the thread pool; their run
 * ends only after them, so that the memory is there while they use it. All but edit_block are idempotent: asked again after a
 * crash they do no harm. edit_block is offered when the memory has a block that may be edited.
 */
#include <stdio.h>
#include <time.h>

#include "src/agent/agent.h"

#define SEARCH_HITS 5u

/* The member `key` of the arguments; NULL: it is missing. The value lives as long as *arguments. */
static const char *argument(const char *arguments_json, const char *key, json_t **arguments)
{
  *arguments = NULL;
  (void)aii_json_parse(arguments_json, strlen(arguments_json), "arguments", 0, arguments, NULL);
  return json_string_value(json_object_get(*arguments, key));
}

static void calculator(void *user, aiinfra_tool_call *call, const char *arguments_json)
{
  json_t *arguments;
  const char *expression = argument(arguments_json, "expression", &arguments);
  aiinfra_error error;
  char result[64];
  (void)user;
  if (expression == NULL) aii_tool_call_end(call, "the expression is missing", true);
  else if (aii_calculate(expression, result, sizeof result, &error) != AIINFRA_OK)
    aii_tool_call_end(call, error.message, true);
  else aii_tool_call_end(call, result, false);
  json_decref(arguments);
}

static void clock_now(void *user, aiinfra_tool_call *call, const char *arguments_json)
{
  static const char *const days[] = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
  time_t now = (time_t)(aii_unix_ms() / 1000);
  struct tm tm;
  char text[64];
  (void)user, (void)arguments_json;
  gmtime_r(&now, &tm);
  snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02dZ, %s", (tm.tm_year + 1900) % 10000, tm.tm_mon + 1,
           tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, days[tm.tm_wday]);
  aii_tool_call_end(call, text, false);
}

/* ---- memory, on the pool --------------------------------------------------------------------------------------------- */

typedef enum memory_action { SEARCH, REMEMBER, EDIT } memory_action;

typedef struct memory_job {
  aiinfra_runtime *rt;
  aii_run *run;
  aiinfra_memory *memory;
  aiinfra_tool_call *call;
  json_t *arguments;
  const char *text; /* the query, what to remember, what to write */
  memory_action action;
  aii_buf result;
  aiinfra_status rc;
  aiinfra_error error;
} memory_job;

/* One fact a line. */
static void write_items(const json_t *items, aii_buf *out)
{
  size_t i;
  json_t *item;
  json_array_foreach(items, i, item)
  {
    const char *text = json_string_value(json_object_get(item, "text"));
    if (i > 0) aii_buf_char(out, '\n');
    aii_buf_str(out, text != NULL ? text : "");
  }
  if (json_array_size(items) == 0) aii_buf_str(out, "nothing found");
}

static aiinfra_status search(memory_job *job)
{
  aiinfra_recall_opts opts = AIINFRA_RECALL_OPTS_INIT;
  char *text = NULL;
  json_t *items = NULL;
  aiinfra_status rc;
  opts.k = SEARCH_HITS;
  opts.kind = AIINFRA_MEMORY_FACT; /* passages are recalled for every run anyway */
  opts.max_bytes = 4096;
  rc = aiinfra_memory_recall(job->memory, job->text, &opts, &text, &job->error);
  if (rc == AIINFRA_OK) rc = aii_json_parse(text, strlen(text), "recalled items", 0, &items, &job->error);
  aiinfra_string_free(text);
  if (rc == AIINFRA_OK) write_items(items, &job->result);
  json_decref(items);
  return rc;
}

static aiinfra_status edit_block(memory_job *job)
{
  aiinfra_block_edit edit = AIINFRA_BLOCK_EDIT_INIT;
  char *text = NULL;
  edit.text = job->text;
  edit.find = json_string_value(json_object_get(job->arguments, "find"));
  if (edit.find != NULL && edit.find[0] == '\0') edit.find = NULL;
  edit.by_agent = 1;
  aiinfra_status rc = aiinfra_memory_edit_block(
      job->memory, json_string_value(json_object_get(job->arguments, "label")), &edit, &text, &job->error);
  if (rc == AIINFRA_OK) aii_buf_str(&job->result, "The block is now:\n");
  if (rc == AIINFRA_OK) aii_buf_str(&job->result, text);
  aiinfra_string_free(text);
  return rc;
}

static void run_memory_job(void *user)
{
  memory_job *job = user;
  if (job->action == SEARCH) {
    job->rc = search(job);
  } else if (job->action == EDIT) {
    job->rc = edit_block(job);
  } else {
    job->rc = aiinfra_memory_remember(job->memory, job->text, NULL, NULL, &job->error);
    aii_buf_str(&job->result, "Remembered.");
  }
  if (job->rc == AIINFRA_OK && job->result.failed) job->rc = aii_fail(&job->error, AIINFRA_ENOMEM, "out of memory");
}

static void memory_job_done(void *user)
{
  memory_job *job = user;
  aii_run_job_done(job->run);
  if (job->call != NULL)
    aii_tool_call_end(job->call, job->rc == AIINFRA_OK ? aii_buf_cstr(&job->result) : job->error.message,
                      job->rc != AIINFRA_OK);
  aii_buf_free(&job->result);
  json_decref(job->arguments);
  aii_del(&job->rt->mem, job, sizeof *job);
}

static void start_memory_job(aiinfra_memory *memory, aiinfra_tool_call *call, const char *arguments_json,
                             memory_action action)
{
  aiinfra_runtime *rt = call->rt;
  memory_job *job = aii_new(&rt->mem, sizeof *job);
  const char *why = "out of memory";
  if (job == NULL) {
    aii_tool_call_end(call, why, true);
    return;
  }
  job->rt = rt;
  job->memory = memory;
  job->action = action;
  job->text = argument(arguments_json, action == SEARCH ? "query" : "text", &job->arguments);
  aii_buf_init(&job->result, &rt->mem, 0);
  job->call = call;
  job->run = call->run;
  job->run->n_jobs++;
  if (job->text == NULL) why = action == SEARCH ? "the query is missing" : "the text is missing";
  else if (aii_loop_work(rt->loop, run_memory_job, memory_job_done, job, &job->error) == AIINFRA_OK) return;
  job->call = NULL;
  memory_job_done(job);
  aii_tool_call_end(call, why, true);
}

static void memory_search(void *user, aiinfra_tool_call *call, const char *arguments_json)
{
  start_memory_job(user, call, arguments_json, SEARCH);
}

static void remember(void *user, aiinfra_tool_call *call, const char *arguments_json)
{
  start_memory_job(user, call, arguments_json, REMEMBER);
}

static void edit(void *user, aiinfra_tool_call *call, const char *arguments_json)
{
  start_memory_job(user, call, arguments_json, EDIT);
}

static aiinfra_status has_editable(aiinfra_memory *memory, bool *any, aiinfra_error *err)
{
  char *text = NULL;
  json_t *blocks = NULL, *block;
  size_t i;
  *any = false;
  if (memory == NULL) return AIINFRA_OK;
  aiinfra_status rc = aiinfra_memory_list_blocks(memory, &text, err);
  if (rc == AIINFRA_OK) rc = aii_json_parse(text, strlen(text), "blocks", 0, &blocks, err);
  aiinfra_string_free(text);
  json_array_foreach(blocks, i, block)
  {
    bool described = json_is_string(json_object_get(block, "description"));
    *any = *any || (described && json_is_false(json_object_get(block, "read_only")));
  }
  json_decref(blocks);
  return rc;
}

/* ---- the list ---------------------------------------------------------------------------------------------------------- */

aiinfra_status aii_agent_add_builtin_tools(aiinfra_agent *agent, aiinfra_error *err)
{
  static const struct {
    const char *name, *description, *parameters;
    aiinfra_tool_fn run;
    bool of_memory, of_blocks;
  } list[] = {
      {"calculator", "Computes the value of an arithmetic expression.",
       "{\"type\":\"object\",\"properties\":{\"expression\":{\"type\":\"string\"}},\"required\":[\"expression\"]}",
       calculator, false, false},
      {"clock", "Tells the current date and time.", "{\"type\":\"object\",\"properties\":{}}", clock_now, false, false},
      {"memory_search", "Searches what the user said before.",
       "{\"type\":\"object\",\"properties\":{\"query\":{\"type\":\"string\"}},\"required\":[\"query\"]}", memory_search,
       true, false},
      {"remember", "Keeps a fact for later.",
       "{\"type\":\"object\",\"properties\":{\"text\":{\"type\":\"string\"}},\"required\":[\"text\"]}", remember, true,
       false},
      {"edit_block",
       "Edits a block of your working memory: adds a line, or puts the text in the place of what find quotes from it.",
       "{\"type\":\"object\",\"properties\":{\"label\":{\"type\":\"string\"},\"find\":{\"type\":\"string\"},\"text\":{"
       "\"type\":\"string\"}},\"required\":[\"label\",\"text\"]}",
       edit, true, true},
  };
  bool blocks;
  size_t before = agent->n_tools;
  aiinfra_status rc = has_editable(agent->memory, &blocks, err);
  for (size_t i = 0; i < AII_COUNT(list) && rc == AIINFRA_OK; i++) {
    aiinfra_tool tool = AIINFRA_TOOL_INIT;
    if ((list[i].of_memory && agent->memory == NULL) || (list[i].of_blocks && !blocks)) continue;
    tool.name = list[i].name;
    tool.description = list[i].description;
    tool.parameters_json = list[i].parameters;
    tool.run = list[i].run;
    tool.user = agent->memory;
    tool.idempotent = !list[i].of_blocks;
    rc = aii_agent_add_tool(agent, &tool, err);
  }
  while (rc != AIINFRA_OK && agent->n_tools > before) { /* all or none */
    aii_tool *last = &agent->tools[--agent->n_tools];
    aii_strfree(&agent->rt->mem, last->name);
    json_decref(last->spec);
  }
  return rc;
}
