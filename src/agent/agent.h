/* src/agent/agent.h - the agent's inside: tools, the journal, the fold over it, and the run that is driven by it.
 *
 * A run is an event-sourced state machine. Everything that happens is an event: written to the table `journal` first,
 * then folded into the run's state (fold.c), then told to the host. What to do next is a function of the fold alone
 * (run.c), so that a resumed run is nothing special: load the events, fold them, go on.
 *
 *   run_started ─> recalled ─> llm_requested ─> llm_completed ─> answer ─> run_finished
 *                  (remembered)     ^                │
 *                                   │         tool_scheduled ... tool_started ─> tool_completed | tool_failed
 *                                   └───────────────────────────────────────────┘ when no call is left
 *
 * Invariants:
 *  1. An event is in the database before anything that follows from it happens.
 *  2. A tool call that has a tool_completed or tool_failed event is never run again.
 *  3. A journal that cannot be written stops the run with the cause; it then stays resumable.
 *  4. (run, seq) is the journal's primary key: of two processes that drive one run, one stops at its next write.
 *  5. A run has at most one thing in flight: a job on the thread pool, a generation, a tool call, or a pause.
 */
#ifndef AII_AGENT_H
#define AII_AGENT_H

#include "aiinfra/agent.h"
#include "lib/base/base.h"
#include "lib/json/json.h"
#include "lib/loop/loop.h"
#include "src/db/db.h"
#include "src/runtime/runtime.h"
#include "src/text/text.h"

/* ---- agent and tools (agent.c, builtin.c) --------------------------------------------------------------------- */

typedef struct aii_run aii_run;

/* What the agent needs of a batcher; tests put a scripted one here. */
typedef struct aii_generator {
  void *impl;
  aiinfra_status (*generate)(void *impl, const aiinfra_generate_opts *opts, aiinfra_chunk_cb on_chunk,
                             aiinfra_result_cb on_result, void *user, aiinfra_request **request, aiinfra_error *err);
  void (*keep)(void *impl); /* the agent's reference; both NULL: the creator keeps it alive */
  void (*release)(void *impl);
  uint32_t max_context;       /* tokens; bounds what recall puts into the prompt */
  const aiinfra_model *model; /* whose tokens a budget counts, kept alive as impl is; NULL: four bytes are a token */
  aii_output_syntax syntax;   /* in which the model writes calls */
} aii_generator;

typedef struct aii_tool {
  char *name;
  json_t *spec; /* {"type": "function", "function": {...}} as the model is told */
  aiinfra_tool_fn run;
  void *user;
  bool idempotent;
  uint32_t timeout_ms; /* 0: the agent's */
} aii_tool;

struct aiinfra_agent {
  aiinfra_runtime *rt;
  aiinfra_db *db;
  aiinfra_memory *memory; /* may be NULL */
  aii_generator gen;
  char *name, *instructions;
  uint32_t max_steps, max_tokens, recall_k, recall_tokens, tool_timeout_ms;
  float temperature;
  bool recall, quote;
  aii_tool *tools;
  size_t n_tools, cap_tools;
  aii_run *runs; /* in flight */
  uint32_t refs; /* the host's and one for each run; loop thread */
};

/* opts: already loaded. */
aiinfra_status aii_agent_create(const aii_generator *gen, aiinfra_db *db, aiinfra_memory *memory,
                                const aiinfra_agent_opts *opts, aiinfra_agent **out, aiinfra_error *err);
void aii_agent_unref(aiinfra_agent *agent);
aiinfra_status aii_agent_add_tool(aiinfra_agent *agent, const aiinfra_tool *tool, aiinfra_error *err);
const aii_tool *aii_agent_find_tool(const aiinfra_agent *agent, const char *name);
aiinfra_status aii_agent_add_builtin_tools(aiinfra_agent *agent, aiinfra_error *err);

/* calculator.c: + - * / % ^, parentheses, sqrt abs min max round. Integers stay exact up to 64 bits, else doubles with
 * at most 15 significant digits. EINVAL says what is wrong and where. */
#define AII_CALCULATOR_MAX_BYTES 1024
aiinfra_status aii_calculate(const char *expression, char *out, size_t cap, aiinfra_error *err);

/* ---- tool calls (tool_call.c) --------------------------------------------------------------------------------- */

/* Ended by the tool from any thread, or abandoned by the run; whichever comes second frees it. */
struct aiinfra_tool_call {
  aiinfra_runtime *rt;
  aii_run *run; /* NULL once abandoned; loop thread */
  aii_task task;
  _Atomic int state; /* call_state in tool_call.c */
  char *arguments;
  char *text; /* the result or the error; NULL: memory ran out */
  bool failed;
};
/* Makes an open call; the caller then runs the tool. arguments is copied. NULL: memory ran out. */
aiinfra_tool_call *aii_tool_call_new(aii_run *run, const char *arguments);
/* The tool has ended it. Any thread, once. */
void aii_tool_call_end(aiinfra_tool_call *call, const char *text, bool failed);
/* The run no longer wants it; the tool may still end it later, unheard. Loop thread. */
void aii_tool_call_abandon(aiinfra_tool_call *call);
/* Where a finished call arrives (run.c). text is valid during the call; NULL: memory ran out. */
void aii_run_tool_done(aii_run *run, const char *text, bool failed);

/* ---- events and the fold over them (fold.c) -------------------------------------------------------------------- */

typedef enum aii_event_kind {
  AII_EV_RUN_STARTED,
  AII_EV_REMEMBERED,
  AII_EV_RECALLED,
  AII_EV_LLM_REQUESTED,
  AII_EV_LLM_COMPLETED,
  AII_EV_TOOL_SCHEDULED,
  AII_EV_TOOL_STARTED,
  AII_EV_TOOL_COMPLETED,
  AII_EV_TOOL_FAILED,
  AII_EV_ANSWER,
  AII_EV_RUN_FINISHED,
  AII_EV_RUN_FAILED,
  AII_EV_COUNT
} aii_event_kind;
const char *aii_event_name(aii_event_kind kind);

typedef struct aii_event {
  aii_event_kind kind;
  json_t *body; /* owned */
} aii_event;

typedef struct aii_events {
  aii_event *items;
  size_t n, cap;
} aii_events;
/* Takes over body; body NULL (memory ran out) is ENOMEM. */
aiinfra_status aii_events_add(aii_events *events, aii_mem *mem, aii_event_kind kind, json_t *body, aiinfra_error *err);
void aii_events_free(aii_events *events, aii_mem *mem);

typedef enum aii_phase {                     /* what comes next */
                         AII_PHASE_NEW,      /* run_started */
                         AII_PHASE_RECALL,   /* recalled */
                         AII_PHASE_ASK,      /* llm_requested */
                         AII_PHASE_GENERATE, /* llm_completed */
                         AII_PHASE_TOOLS,    /* tool_started, tool_completed, tool_failed */
                         AII_PHASE_ANSWER,   /* answer */
                         AII_PHASE_CLOSE,    /* run_finished */
                         AII_PHASE_ENDED     /* nothing */
} aii_phase;

typedef enum aii_call_state { AII_CALL_SCHEDULED, AII_CALL_STARTED, AII_CALL_ENDED } aii_call_state;

typedef struct aii_call {
  json_t *body;                      /* of tool_scheduled: call, id, name, arguments */
  const char *id, *name, *arguments; /* borrowed from body */
  uint64_t key;                      /* hash of name and canonical arguments */
  uint32_t attempts;
  aii_call_state state;
} aii_call;

typedef struct aii_usage {
  uint64_t prompt_tokens, cached_tokens, generated_tokens;
  double recall_ms, queue_ms, prefill_ms, decode_ms, tool_ms;
} aii_usage;

typedef struct aii_fold {
  aii_mem *mem;
  aii_phase phase;
  int64_t seq;         /* of the last event */
  uint32_t steps;      /* generations requested */
  uint32_t tool_calls; /* ended */
  bool force_answer;   /* a loop was found, or a call was cut off: no more tools */
  bool with_tools;     /* the generation under way may call tools */
  uint64_t seed;
  json_t *input, *conversation; /* strings; conversation may be NULL */
  json_t *messages;             /* what the model is shown: system, history, user, ... */
  size_t n_new;                 /* messages of this run, at the end of `messages`, from the user's */
  json_t *passages;             /* [{"n", "source", "first_byte", "n_bytes", "text"}] */
  json_t *text;                 /* string: the last generation's text */
  json_t *answer;               /* string */
  json_t *citations;
  aii_call *calls;
  size_t n_calls, cap_calls;
  aii_usage usage;
} aii_fold;
void aii_fold_init(aii_fold *fold, aii_mem *mem);
void aii_fold_free(aii_fold *fold);
/* ENOMEM, or EFORMAT when the journal's event is not what it must be. */
aiinfra_status aii_fold_apply(aii_fold *fold, const aii_event *event, aiinfra_error *err);
/* The first call that has not ended; NULL: none. */
aii_call *aii_fold_next_call(aii_fold *fold);
/* How many calls have not ended. */
size_t aii_fold_open_calls(const aii_fold *fold);
/* How many calls of this run, up to and including this one, ask the same. */
uint32_t aii_fold_repeats(const aii_fold *fold, const aii_call *call);

/* ---- the journal (journal.c); blocks, so only on the thread pool ------------------------------------------------ */

typedef struct aii_journal_run {
  int64_t id;
  const char *agent, *input, *conversation; /* conversation may be NULL */
} aii_journal_run;
/* Makes the run's row and its first events in one transaction; sets run->id. */
aiinfra_status aii_journal_start(aiinfra_db *db, aii_journal_run *run, const aii_events *events, aiinfra_error *err);
/* Appends events behind `seq` in one transaction. EBUSY: somebody else drives this run. */
aiinfra_status aii_journal_append(aiinfra_db *db, int64_t run, int64_t seq, const aii_events *events,
                                  aiinfra_error *err);
/* All events of a run. ENOENT: no such run of this agent. EEXIST: it has ended. */
aiinfra_status aii_journal_load(aiinfra_db *db, int64_t run, const char *agent, aii_events *events, aiinfra_error *err);
aiinfra_status aii_journal_list(aiinfra_db *db, const char *agent, bool unfinished_only, aii_buf *out,
                                aiinfra_error *err);

/* ---- recall and the prompt (recall.c, prompt.c) ------------------------------------------------------------------ */

typedef struct aii_recall {
  aiinfra_memory *memory;                          /* NULL: nothing is recalled */
  const char *instructions, *input, *conversation; /* conversation may be NULL */
  const aiinfra_model *model;                      /* whose tokens are counted; NULL: four bytes are a token */
  uint32_t k, max_bytes, budget_tokens;            /* budget: passages are packed to fit it; 0: each stands alone */
  bool search;                                     /* look for passages and facts */
} aii_recall;
/* On the thread pool. Adds `recalled`, and `remembered` before it when the input is a statement about the user. */
aiinfra_status aii_recall_run(aiinfra_db *db, const aii_recall *recall, aii_events *events, aiinfra_error *err);

/* Whether the input is a statement to keep; *out then receives it as it is kept. Its policy is in prompt.c. */
bool aii_prompt_statement(const char *input, aii_buf *out);
/* The system message: instructions, passages, facts, working memory. */
void aii_prompt_system(aii_buf *out, const char *instructions, const json_t *passages, const json_t *facts,
                       const json_t *blocks);
/* The passages that the answer names by [n], each once, in order of appearance; NULL: memory ran out. */
json_t *aii_prompt_citations(const char *answer, const json_t *passages);

/* ---- the run (run.c, job.c) ---------------------------------------------------------------------------------------- */

typedef enum aii_wait { /* what a run waits for: invariant 5 */
                        AII_WAIT_NOTHING,
                        AII_WAIT_JOB,
                        AII_WAIT_MODEL,
                        AII_WAIT_TOOL,
                        AII_WAIT_PAUSE, /* the batcher's queue was full */
                        AII_WAIT_END    /* the terminal callback is posted */
} aii_wait;

typedef enum aii_job_kind { AII_JOB_START, AII_JOB_LOAD, AII_JOB_RECALL, AII_JOB_APPEND, AII_JOB_CLOSE } aii_job_kind;

struct aii_run {
  aiinfra_agent *agent;
  aii_run *prev, *next;
  int64_t id; /* 0: not yet known */
  aii_fold fold;
  aii_wait wait;
  bool resumed;
  bool interrupted; /* the process that drove it stopped while a tool ran */
  bool detached;    /* the agent is being freed: the journal keeps the run resumable */
  aiinfra_event_cb on_event;
  aiinfra_run_cb on_done;
  void *user;
  uint64_t n_events;        /* told to the host */
  aiinfra_request *request; /* ours to end */
  aiinfra_request *generation;
  bool speaking; /* a token that is not white space was told in this generation */
  aiinfra_tool_call *call;
  uint64_t call_ns;    /* when the tool was started */
  aii_timer *timer;    /* of the tool or the pause */
  aii_timer *deadline; /* may be NULL */
  uint64_t started_ns, journal_ns;
  char *input, *conversation;
  uint64_t seed;
  aii_task end_task;
  uint32_t n_jobs; /* of built-in tools, on the pool; the end waits for them */
  bool end_due;
  /* why it stops early; AIINFRA_OK: it does not */
  aiinfra_status stop;
  aiinfra_error error;
  bool failing; /* run_failed is on its way into the journal */
  struct {      /* touched by the pool while wait is AII_WAIT_JOB */
    aii_job_kind kind;
    aii_events events;
    aii_recall recall;
    uint64_t ns; /* spent in the journal */
    bool journal_failed;
    aiinfra_status rc;
    aiinfra_error error;
  } job;
};

/* Starts a run; run_id 0: a new one, else it is taken up. The terminal callback tells everything but a lack of
 * memory. */
aiinfra_status aii_run_start(aiinfra_agent *agent, const aiinfra_run_opts *opts, int64_t run_id,
                             aiinfra_event_cb on_event, aiinfra_run_cb on_done, void *user, aiinfra_request **request,
                             aiinfra_error *err);
/* Asks it to stop with this status; harmless when it is stopping. Loop thread. */
void aii_run_stop(aii_run *run, aiinfra_status status, const char *why);
/* Does what the fold asks for next. */
void aii_run_next(aii_run *run);
/* Ends it without the journal. */
void aii_run_abort(aii_run *run, aiinfra_status status);
/* The body of the next llm_requested. */
json_t *aii_run_request_body(const aii_run *run, bool force_answer);
/* A job of a built-in tool has come back. */
void aii_run_job_done(aii_run *run);

/* turn.c: one generation, and one tool call. */
void aii_turn_ask(aii_run *run);
void aii_turn_tool(aii_run *run);
void aii_turn_drop(aii_run *run); /* gives up the tool call under way */

/* job.c: submits run->job; its end folds and reports the events and calls aii_run_next(). */
void aii_job_submit(aii_run *run, aii_job_kind kind);
/* Stages an event for the next job; takes over body. false: memory ran out, and the run has been told to stop. */
bool aii_job_stage(aii_run *run, aii_event_kind kind, json_t *body);

/* report.c: what the host is told. */
void aii_report_event(aii_run *run, const aii_event *event);
void aii_report(aii_run *run, const char *type, json_t *fields); /* takes over fields; NULL: memory ran out */
void aii_report_end(aii_run *run);
json_t *aii_report_stats(const aii_run *run);
/* A JSON string of n bytes of any kind: what is no UTF-8 becomes U+FFFD, and it ends at the first NUL. */
json_t *aii_report_text(aii_mem *mem, const char *text, size_t n);

#endif
