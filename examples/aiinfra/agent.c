/* agent.c - `aiinfra agent`: asks an agent that has documents, a memory and tools. The answer goes to stdout as it is
 * generated; what the agent does, its sources and the figures go to stderr. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

typedef struct agent_options {
  const char *db, *model, *conversation, *scope, *instructions, *kv_type;
  bool events, resume, no_tools, no_recall, quote, quiet;
  int64_t threads, seed, max_steps, recall_tokens, max_tokens, run;
  double temperature;
} agent_options;

typedef struct talk {
  const agent_options *o;
  bool spoke; /* stdout has part of a line */
  bool answered;
  bool thinking; /* stderr has part of what the model thinks */
} talk;

/* ---- what is shown ------------------------------------------------------------------------------------------------------- */

static const char *text_of(const json_t *object, const char *key)
{
  const char *text = json_string_value(json_object_get(object, key));
  return text != NULL ? text : "";
}

static void end_line(talk *t)
{
  if (t->spoke) cli_write("\n", 1);
  t->spoke = false;
}

static void show_event(talk *t, const char *type, const json_t *event)
{
  const char *text;
  if (strcmp(type, "reasoning") == 0) {
    text = text_of(event, "text");
    if (cli_progress_wanted() && !t->o->quiet) cli_reasoning(&t->thinking, text, strlen(text));
    return;
  }
  cli_reasoning(&t->thinking, NULL, 0);
  if (strcmp(type, "token") == 0) {
    text = text_of(event, "text");
    cli_write(text, strlen(text));
    t->spoke = true;
    return;
  }
  if (t->o->quiet) return;
  if (strcmp(type, "tool_started") == 0) {
    end_line(t);
    cli_say("[%s %s]", text_of(event, "name"), text_of(event, "arguments"));
  } else if (strcmp(type, "tool_finished") == 0) {
    cli_say("[%s: %s]", text_of(event, "name"), text_of(event, "result"));
  } else if (strcmp(type, "tool_failed") == 0) {
    cli_say("[%s failed: %s]", text_of(event, "name"), text_of(event, "error"));
  } else if (strcmp(type, "remembered") == 0) {
    cli_say("[remembered: %s]", text_of(event, "text"));
  }
}

static void on_event(void *user, const char *event_json)
{
  talk *t = user;
  json_t *event;
  if (t->o->events) {
    cli_write(event_json, strlen(event_json));
    cli_write("\n", 1);
    return;
  }
  event = json_loads(event_json, 0, NULL);
  if (event != NULL) show_event(t, text_of(event, "type"), event);
  json_decref(event);
}

static void show_sources(const char *citations_json)
{
  json_t *citations = json_loads(citations_json, 0, NULL), *c;
  size_t i;
  json_array_foreach(citations, i, c)
  {
    long long first = (long long)json_integer_value(json_object_get(c, "first_byte"));
    cli_say("[%lld] %s, bytes %lld to %lld", (long long)json_integer_value(json_object_get(c, "n")),
            text_of(c, "source"), first, first + (long long)json_integer_value(json_object_get(c, "n_bytes")));
  }
  json_decref(citations);
}

static void show_figures(const char *stats_json, int64_t run)
{
  json_t *s = json_loads(stats_json, 0, NULL);
  double decode_ms = json_number_value(json_object_get(s, "decode_ms"));
  double generated = json_number_value(json_object_get(s, "generated_tokens"));
  double steps = json_number_value(json_object_get(s, "steps"));
#define N(key) json_number_value(json_object_get(s, key))
  cli_say("run %lld: %.0f steps, %.0f tool calls; prompt %.0f tokens, %.0f of them cached; generated %.0f tokens, "
          "%.0f tokens/s",
          (long long)run, steps, N("tool_calls"), N("prompt_tokens"), N("cached_tokens"), generated,
          decode_ms > 0 && generated > steps ? (generated - steps) / decode_ms * 1e3 : 0);
  cli_say("recall %.1f ms, queue %.1f ms, prefill %.1f ms, decode %.1f ms, tools %.1f ms, journal %.1f ms, "
          "total %.1f ms",
          N("recall_ms"), N("queue_ms"), N("prefill_ms"), decode_ms, N("tool_ms"), N("journal_ms"), N("total_ms"));
#undef N
  json_decref(s);
}

static void on_done(void *user, aiinfra_status status, const aiinfra_run_result *result)
{
  talk *t = user;
  if (status == AIINFRA_OK && !t->o->events && !t->spoke) { /* resumed behind its last token */
    cli_write(result->answer, strlen(result->answer));
    t->spoke = true;
  }
  cli_reasoning(&t->thinking, NULL, 0);
  if (!t->o->events) end_line(t);
  if (status != AIINFRA_OK) {
    cli_error("agent", result->error);
    if (status != AIINFRA_ECANCELED && result->run_id > 0)
      cli_say("run %lld is in the journal of %s", (long long)result->run_id, t->o->db);
    return;
  }
  t->answered = true;
  if (t->o->quiet) return;
  show_sources(result->citations_json);
  show_figures(result->stats_json, result->run_id);
}

/* ---- the agent ------------------------------------------------------------------------------------------------------------ */

/* The newest run that was left unfinished; 0: none. */
static int64_t find_unfinished(aiinfra_agent *agent)
{
  char *text = NULL;
  json_t *runs;
  int64_t run;
  if (aiinfra_agent_runs(agent, 1, &text, NULL) != AIINFRA_OK) return 0;
  runs = json_loads(text, 0, NULL);
  run = json_integer_value(json_object_get(json_array_get(runs, 0), "run"));
  json_decref(runs);
  aiinfra_string_free(text);
  return run;
}

static aiinfra_status start(aiinfra_agent *agent, talk *t, const char *question, aiinfra_request **request,
                            aiinfra_error *err)
{
  const agent_options *o = t->o;
  aiinfra_run_opts opts = AIINFRA_RUN_OPTS_INIT;
  if (o->resume) return aiinfra_agent_resume(agent, o->run, on_event, on_done, t, request, err);
  opts.input = question;
  opts.conversation = o->conversation;
  opts.seed = (uint64_t)o->seed;
  return aiinfra_agent_run(agent, &opts, on_event, on_done, t, request, err);
}

static int ask(aiinfra_agent *agent, agent_options *o, const char *question)
{
  talk t = {.o = o};
  aiinfra_request *request = NULL;
  aiinfra_error err;
  if (o->resume && o->run == 0) {
    o->run = find_unfinished(agent);
    if (o->run == 0) return cli_fail("no run was left unfinished");
  }
  if (start(agent, &t, question, &request, &err) != AIINFRA_OK) return cli_error("agent", &err);
  (void)cli_wait(request); /* on_done has told it */
  return t.answered ? CLI_OK : CLI_FAILED;
}

static int with_agent(const cli_engine *e, agent_options *o, const char *question)
{
  aiinfra_agent_opts opts = AIINFRA_AGENT_OPTS_INIT;
  aiinfra_db *db = NULL;
  aiinfra_memory *memory = NULL;
  aiinfra_agent *agent = NULL;
  aiinfra_error err;
  int code = cli_db_open(e->runtime, o->db, o->resume, o->scope, &db, &memory);
  if (code != CLI_OK) return code;
  opts.instructions = o->instructions;
  opts.max_steps = (uint32_t)o->max_steps;
  opts.max_tokens = (uint32_t)o->max_tokens;
  opts.temperature = (float)o->temperature;
  opts.recall = o->no_recall ? -1 : 0;
  opts.recall_tokens = (uint32_t)o->recall_tokens;
  opts.quote = o->quote;
  if (aiinfra_agent_create(e->batcher, db, memory, &opts, &agent, &err) != AIINFRA_OK ||
      (!o->no_tools && aiinfra_agent_add_builtin_tools(agent, &err) != AIINFRA_OK))
    code = cli_error("agent", &err);
  else code = ask(agent, o, question);
  aiinfra_agent_free(agent);
  aiinfra_memory_free(memory);
  aiinfra_db_free(db);
  return code;
}

int cmd_agent(int argc, char **argv)
{
  agent_options o = {0};
  const cli_option options[] = {
      {"db", 0, CLI_TEXT, &o.db, 0, 0, "FILE", "the agent's database; made when it is not there"},
      {"model", 'm', CLI_TEXT, &o.model, 0, 0, "FILE", "else $AIINFRA_MODEL, else the one that is bundled"},
      {"conversation", 'c', CLI_TEXT, &o.conversation, 0, 0, "NAME", "go on with a conversation"},
      {"scope", 0, CLI_TEXT, &o.scope, 0, 0, "NAME", "whose memory (default)"},
      {"instructions", 'i', CLI_TEXT, &o.instructions, 0, 0, "TEXT", "the system prompt"},
      {"resume", 0, CLI_FLAG, &o.resume, 0, 0, NULL, "take up the newest run that was left unfinished"},
      {"run", 0, CLI_INT, &o.run, 1, 9e18, "N", "with --resume: this one"},
      {"events", 0, CLI_FLAG, &o.events, 0, 0, NULL, "all events as JSON lines on stdout"},
      {"no-tools", 0, CLI_FLAG, &o.no_tools, 0, 0, NULL, "without calculator, clock and memory tools"},
      {"no-recall", 0, CLI_FLAG, &o.no_recall, 0, 0, NULL, "without looking into memory first"},
      {"recall-tokens", 0, CLI_INT, &o.recall_tokens, 1, 1e6, "N",
       "pack passages into so many tokens, neighbours as one"},
      {"quote", 0, CLI_FLAG, &o.quote, 0, 0, NULL, "what begins as a passage does goes on in its words, and cites it"},
      {"max-steps", 0, CLI_INT, &o.max_steps, 0, 1000, "N", "generations at most (8)"},
      {"max-tokens", 'n', CLI_INT, &o.max_tokens, 0, 1e6, "N", "tokens of one generation (512)"},
      {"temp", 0, CLI_REAL, &o.temperature, 0, 100, "T", "temperature; 0: greedy (0)"},
      {"seed", 0, CLI_INT, &o.seed, 0, 9e18, "S", "of the sampler; 0: a random one"},
      {"threads", 't', CLI_INT, &o.threads, 0, 1024, "N", "compute threads; 0: one for each core"},
      CLI_KV_TYPE(o.kv_type),
      CLI_KV_SIZES,
      CLI_PACKED,
      CLI_BF16,
      CLI_DEVICE,
      CLI_RANKS,
      {"quiet", 'q', CLI_FLAG, &o.quiet, 0, 0, NULL, "the answer only"},
      {0}};
  const cli_command command = {
      "agent", "--db FILE [OPTIONS] QUESTION", "Answers from documents and memory, with tools.", options, 0, 1};
  cli_engine e;
  const char *model;
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  if (o.db == NULL) return cli_usage("agent", "--db FILE is missing");
  if (o.resume == (n == 1)) return cli_usage("agent", "give either a question or --resume");
  if (o.run != 0 && !o.resume) return cli_usage("agent", "--run goes with --resume");
  model = cli_default_model(o.model);
  if (model == NULL) return CLI_FAILED;
  cli_catch_interrupts();
  code = cli_engine_open(model, o.threads, o.kv_type, NULL, &e);
  if (code != CLI_OK) return code;
  code = with_agent(&e, &o, n == 1 ? argv[0] : NULL);
  cli_engine_close(&e);
  return code;
}
