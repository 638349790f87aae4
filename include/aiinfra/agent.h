/* aiinfra/agent.h - runs a task to its end: recall, render, generate, call tools, observe, answer.
 *
 * A run is a state machine whose every step is journalled in the database before it acts. A process that dies in the
 * middle leaves a run that aiinfra_agent_resume() takes up again: a tool call that had finished is never repeated; one
 * that had started and not finished is repeated only when the tool is idempotent, otherwise the model is told that its
 * outcome is unknown.
 *
 *   RECALL -> RENDER -> GENERATE -> PARSE -> ANSWER
 *                ^                    |
 *                └─ OBSERVE <- TOOL <-┘
 *
 * The tool calls of one generation run one after the other, in the model's order. The last generation that max_steps
 * allows, and those after the same call with the same arguments was asked for a third time or a call was cut off by
 * max_tokens, get no tools, so that a run ends with an answer. With a memory, an input that is a statement about the
 * user ("My cat is called Miso.", "Remember that ...", but no question and no wish) is kept as a fact before the model
 * answers.
 */
#ifndef AIINFRA_AGENT_H
#define AIINFRA_AGENT_H

#include "aiinfra/batcher.h"
#include "aiinfra/memory.h"
#include "aiinfra/request.h"
#include "aiinfra/types.h"

#ifdef __cplusplus
extern "C" {
#endif

/** An agent: a model, a memory, tools and instructions. */
typedef struct aiinfra_agent aiinfra_agent;

/** A tool call under way; owned by the library until it is finished. */
typedef struct aiinfra_tool_call aiinfra_tool_call;

/** Options of aiinfra_agent_create(). Zero is the default of every field. */
typedef struct aiinfra_agent_opts {
  size_t struct_size;      /**< sizeof this struct; set by AIINFRA_AGENT_OPTS_INIT */
  const char *name;        /**< in the journal and in events; NULL: "agent" */
  const char *instructions; /**< the system prompt; NULL: a short general one */
  uint32_t max_steps;      /**< generations in a run; 0: 8 */
  uint32_t max_tokens;     /**< of one generation; 0: 512 */
  uint32_t recall_k;       /**< passages put before the model, beside at most 8 facts; 0: 3. With recall_tokens: those that
                                are looked at; 0: 20 */
  uint32_t tool_timeout_ms; /**< 0: 30000 */
  float temperature;       /**< 0: greedy */
  int32_t recall;          /**< look into memory before answering: 0: default (on), 1: on, -1: off */
  uint32_t recall_tokens;  /**< passages are packed into so many tokens, as aiinfra_memory_pack() does: those that follow
                                each other in their document are one, what says the same is left out; 0: recall_k passages */
  int32_t quote;           /**< 1: an answer that begins to quote a passage goes on in its words to the end of a sentence, and
                                cites it (quotes_json of aiinfra_generate_opts); 0: the model is free */
} aiinfra_agent_opts;

/** Initialiser of aiinfra_agent_opts. */
#define AIINFRA_AGENT_OPTS_INIT {sizeof(aiinfra_agent_opts), NULL, NULL, 0, 0, 0, 0, 0.0f, 0, 0, 0}

/**
 * Runs a tool. Called on the loop's thread; must return soon and end the call with aiinfra_tool_call_finish() or
 * aiinfra_tool_call_fail(), now or later, from any thread, exactly once.
 *
 * @param arguments_json  an object that obeys the tool's schema; valid until the call is ended
 */
typedef void (*aiinfra_tool_fn)(void *user, aiinfra_tool_call *call, const char *arguments_json);

/** A tool. Everything but user is copied. */
typedef struct aiinfra_tool {
  size_t struct_size;          /**< sizeof this struct; set by AIINFRA_TOOL_INIT */
  const char *name;            /**< letters, digits, '_' and '-', at most 64 */
  const char *description;     /**< tells the model what it does */
  const char *parameters_json; /**< JSON Schema of its arguments, an object; NULL: no arguments */
  aiinfra_tool_fn run;         /**< runs it */
  void *user;                  /**< handed to run */
  int32_t idempotent;          /**< 1: running it twice with the same arguments does no harm */
  uint32_t timeout_ms;         /**< 0: the agent's */
} aiinfra_tool;

/** Initialiser of aiinfra_tool. */
#define AIINFRA_TOOL_INIT {sizeof(aiinfra_tool), NULL, NULL, NULL, NULL, NULL, 0, 0}

/** Options of aiinfra_agent_run(). Zero is the default of every field. */
typedef struct aiinfra_run_opts {
  size_t struct_size;       /**< sizeof this struct; set by AIINFRA_RUN_OPTS_INIT */
  const char *input;        /**< what the user says */
  const char *conversation; /**< its earlier messages are put before it, the new ones are added; NULL: none */
  uint64_t deadline_ms;     /**< from now; 0: none */
  uint64_t seed;            /**< of the sampler; 0: a random one */
} aiinfra_run_opts;

/** Initialiser of aiinfra_run_opts. */
#define AIINFRA_RUN_OPTS_INIT {sizeof(aiinfra_run_opts), NULL, NULL, 0, 0}

/**
 * Receives the events of a run, in order, as JSON objects: {"seq", "run", "type", ...}. Thread: loop.
 *
 *   run_started    agent, input, conversation; of a resumed run also resumed: true and steps, the generations so far
 *   remembered     text, id: a fact that was kept because the input stated it
 *   recalled       passages: [{n, source, first_byte, n_bytes, score, text}], facts: [text], ms
 *   step_started   step: a generation begins
 *   reasoning      text: a piece of what the model thinks before it answers or calls a tool
 *   token          text: a piece of what the model says, without reasoning and tool calls
 *   tool_started   call, id, name, arguments (JSON text), attempt
 *   tool_finished  call, id, name, result, ms
 *   tool_failed    call, id, name, error, ms; loop: true when the call was refused as a repetition; unknown: true when
 *                  a process died while the tool ran
 *   answer         text, citations
 *   run_finished   stats
 *   run_failed     status, message
 */
typedef void (*aiinfra_event_cb)(void *user, const char *event_json);

/** How a run ended. Valid during the callback. */
typedef struct aiinfra_run_result {
  const char *answer;          /**< the final text, "" when the run failed */
  const char *citations_json;  /**< array of {"n", "source", "first_byte", "n_bytes"} that the answer names */
  const char *stats_json;      /**< object: steps, tool_calls, prompt_tokens, cached_tokens, generated_tokens, ms by stage */
  const aiinfra_error *error;  /**< what went wrong; NULL when it went well */
  int64_t run_id;              /**< the run's number in the database */
} aiinfra_run_result;

/** The terminal callback of a run; runs exactly once. Thread: loop. */
typedef void (*aiinfra_run_cb)(void *user, aiinfra_status status, const aiinfra_run_result *result);

/**
 * Creates an agent. It keeps @batcher, @db and @memory alive; a batcher that the host has closed answers its runs with
 * AIINFRA_ECLOSED.
 *
 * @param db      holds the journal
 * @param memory  what it recalls from; must be of the same database; NULL: nothing
 * @return AIINFRA_EINVAL, AIINFRA_ENOTSUP, AIINFRA_ENOMEM; *out is NULL then
 * Thread: loop.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_agent_create(aiinfra_batcher *batcher, aiinfra_db *db,
                                                                 aiinfra_memory *memory,
                                                                 const aiinfra_agent_opts *opts, aiinfra_agent **out,
                                                                 aiinfra_error *err);

/**
 * Releases the agent; runs in flight end with AIINFRA_ECANCELED as the loop turns. They stay unfinished in the
 * database: aiinfra_agent_resume() can take them up. (A run that was cancelled by its request has failed for good.)
 * NULL is allowed.
 * Thread: loop.  Since: 0.1.
 */
AIINFRA_API void aiinfra_agent_free(aiinfra_agent *agent);

/**
 * Gives the agent a tool. Not while a run is in flight.
 * @return AIINFRA_EINVAL   a bad name, or a schema the grammar engine refuses; the message says where
 *         AIINFRA_EEXIST   a tool of that name is there
 *         AIINFRA_ENOTSUP, AIINFRA_EBUSY, AIINFRA_ENOMEM
 * Thread: loop.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_agent_add_tool(aiinfra_agent *agent, const aiinfra_tool *tool,
                                                                   aiinfra_error *err);

/**
 * Gives the agent the tools that come with the library: "calculator" (arithmetic), "clock" (date and time), and, when
 * it has a memory, "memory_search" and "remember", and "edit_block" when it has a block with a
 * description that may be edited.
 * @return AIINFRA_EINVAL, AIINFRA_EEXIST, AIINFRA_EBUSY, AIINFRA_ENOMEM
 * Thread: loop.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_agent_add_builtin_tools(aiinfra_agent *agent, aiinfra_error *err);

/**
 * Ends a tool call with its result, a text or JSON for the model to read.
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API void aiinfra_tool_call_finish(aiinfra_tool_call *call, const char *result);

/**
 * Ends a tool call with an error that the model is told.
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API void aiinfra_tool_call_fail(aiinfra_tool_call *call, const char *message);

/**
 * Starts a run.
 *
 * @param on_event  may be NULL
 * @param on_done   the terminal callback, with AIINFRA_OK or why it failed: AIINFRA_ECANCELED, AIINFRA_ETIMEDOUT,
 *                  AIINFRA_EIO when the journal cannot be written, AIINFRA_EINVAL when the messages do not fit the
 *                  model's context, and so on; may be NULL
 * @param request   receives a handle that the caller frees; may be NULL
 * @return AIINFRA_EINVAL, AIINFRA_ENOTSUP, AIINFRA_ENOMEM
 * Thread: loop.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_agent_run(aiinfra_agent *agent, const aiinfra_run_opts *opts,
                                                              aiinfra_event_cb on_event, aiinfra_run_cb on_done,
                                                              void *user, aiinfra_request **request,
                                                              aiinfra_error *err);

/**
 * Takes up a run of this agent's name that another process left unfinished.
 *
 * @param on_done  as of aiinfra_agent_run(), and also: AIINFRA_ENOENT no such run, AIINFRA_EEXIST it has ended,
 *                 AIINFRA_EINVAL the agent lacks a tool that the run has used, AIINFRA_EBUSY another process drives it
 * @return AIINFRA_EBUSY    this agent runs it already
 *         AIINFRA_EINVAL, AIINFRA_ENOMEM
 * Thread: loop.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_agent_resume(aiinfra_agent *agent, int64_t run_id,
                                                                 aiinfra_event_cb on_event, aiinfra_run_cb on_done,
                                                                 void *user, aiinfra_request **request,
                                                                 aiinfra_error *err);

/**
 * The runs of this agent's name, newest first, as a JSON array: [{"run", "state", "input", "created_ms", "steps"}].
 * @param unfinished_only  1: only those that aiinfra_agent_resume() can take up
 * @return AIINFRA_EINVAL, AIINFRA_EIO, AIINFRA_ENOMEM
 * Thread: loop; blocks on the disk.  Since: 0.1.
 */
AIINFRA_API AIINFRA_MUST_USE aiinfra_status aiinfra_agent_runs(aiinfra_agent *agent, int unfinished_only,
                                                               char **out_json, aiinfra_error *err);

#ifdef __cplusplus
}
#endif
#endif
