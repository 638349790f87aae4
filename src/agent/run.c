/* run.c - the life of a run: started, driven from one fold to the next, stopped, ended.
 *
 *   aii_run_start ──> job START or LOAD ──> aii_run_next ──> job, generation, tool call, pause ──┐
 *                                              ^                                                 │
 *                                              └─────────────────────────────────────────────────┘
 *   aii_run_stop (cancel, deadline, error) ──> run_failed is journalled ──> end
 *   aii_run_abort (the journal failed)     ──> end
 *
 * Nothing here calls the host, except from callbacks of the loop: the end itself is a posted task.
 * Loop thread only.
 */
#include "src/agent/agent.h"

/* Recalled passages may take about half of the context: 3 bytes a token. Beyond MAX_CONTEXT more does not help. */
#define MIN_CONTEXT 512u
#define MAX_CONTEXT 8192u

/* ---- the end ------------------------------------------------------------------------------------------------------ */

static void free_run(aii_run *run)
{
  aii_mem *mem = &run->agent->rt->mem;
  aii_events_free(&run->job.events, mem);
  aii_fold_free(&run->fold);
  aii_timer_free(run->timer);
  aii_timer_free(run->deadline);
  aii_strfree(mem, run->input);
  aii_strfree(mem, run->conversation);
  aii_del(mem, run, sizeof *run);
}

static void unlink_run(aii_run *run)
{
  if (run->prev != NULL) run->prev->next = run->next;
  if (run->next != NULL) run->next->prev = run->prev;
  if (run->agent->runs == run) run->agent->runs = run->next;
}

static void end_run(aii_task *task)
{
  aii_run *run = AII_CONTAINER(task, aii_run, end_task);
  aiinfra_agent *agent = run->agent;
  aiinfra_request *request = run->request;
  aiinfra_status status = run->stop;
  aii_loop *loop = agent->rt->loop;
  run->end_due = run->n_jobs > 0;
  if (run->end_due) return;
  unlink_run(run);
  aii_timer_stop(run->timer);
  if (run->deadline != NULL) aii_timer_stop(run->deadline);
  aii_report_end(run);
  aii_request_end(request, status);
  free_run(run);
  aii_loop_drop(loop);
  aii_agent_unref(agent);
}

static void post_end(aii_run *run)
{
  run->wait = AII_WAIT_END;
  run->end_task.fn = end_run;
  aii_loop_post(run->agent->rt->loop, &run->end_task);
}

void aii_run_job_done(aii_run *run)
{
  run->n_jobs--;
  if (run->n_jobs == 0 && run->end_due) post_end(run);
}

void aii_run_abort(aii_run *run, aiinfra_status status)
{
  if (run->stop == AIINFRA_OK) run->stop = status;
  run->failing = false;
  post_end(run);
}

/* ---- stopping early ------------------------------------------------------------------------------------------------ */

void aii_run_stop(aii_run *run, aiinfra_status status, const char *why)
{
  if (run->stop != AIINFRA_OK || run->wait == AII_WAIT_END || run->fold.phase == AII_PHASE_ENDED) return;
  run->stop = status;
  if (why != NULL) aii_fail(&run->error, status, "%s", why);
  switch (run->wait) {
    case AII_WAIT_MODEL: aiinfra_request_cancel(run->generation); break;
    case AII_WAIT_TOOL:
      aii_turn_drop(run);
      aii_run_next(run);
      break;
    case AII_WAIT_PAUSE:
      aii_timer_stop(run->timer);
      run->wait = AII_WAIT_NOTHING;
      aii_run_next(run);
      break;
    case AII_WAIT_NOTHING:
    case AII_WAIT_JOB:
    case AII_WAIT_END: break; /* whoever is at work looks at run->stop when done */
  }
}

static void fail(aii_run *run)
{
  json_t *body;
  if (run->detached || run->id == 0) {
    post_end(run);
    return;
  }
  body = json_pack("{ss, so}", "status", aiinfra_status_name(run->stop), "message",
                   aii_report_text(&run->agent->rt->mem, run->error.message, strlen(run->error.message)));
  aii_events_free(&run->job.events, &run->agent->rt->mem);
  run->failing = true;
  if (aii_job_stage(run, AII_EV_RUN_FAILED, body)) aii_job_submit(run, AII_JOB_APPEND);
  else post_end(run);
}

static void on_cancel(void *impl)
{
  aii_run_stop(impl, AIINFRA_ECANCELED, "the run was cancelled");
}

static void on_deadline(void *user)
{
  aii_run_stop(user, AIINFRA_ETIMEDOUT, "the run's deadline passed");
}

/* Of a tool call that takes too long, or of a pause before the batcher is asked again. */
static void on_timer(void *user)
{
  aii_run *run = user;
  if (run->wait == AII_WAIT_TOOL) {
    aii_turn_drop(run);
    aii_run_tool_done(run, "the tool took too long and was given up", true);
  } else if (run->wait == AII_WAIT_PAUSE) {
    run->wait = AII_WAIT_NOTHING;
    aii_run_next(run);
  }
}

/* ---- what comes next ------------------------------------------------------------------------------------------------ */

json_t *aii_run_request_body(const aii_run *run, bool force_answer)
{
  uint32_t step = run->fold.steps + 1;
  bool tools = run->agent->n_tools > 0 && !force_answer && !run->fold.force_answer && step < run->agent->max_steps;
  return json_pack("{sI, sb}", "step", (json_int_t)step, "tools", (int)tools);
}

static void stage_and_submit(aii_run *run, aii_event_kind kind, json_t *body, aii_job_kind job)
{
  if (aii_job_stage(run, kind, body)) aii_job_submit(run, job);
  else fail(run);
}

static json_t *started_body(const aii_run *run)
{
  return json_pack("{ss, ss, ss*, sI}", "agent", run->agent->name, "input", run->input, "conversation",
                   run->conversation, "seed", (json_int_t)run->seed);
}

static void begin_recall(aii_run *run)
{
  const aiinfra_agent *agent = run->agent;
  aii_recall *r = &run->job.recall;
  r->memory = agent->memory;
  r->instructions = agent->instructions;
  r->input = json_string_value(run->fold.input);
  r->conversation = json_string_value(run->fold.conversation);
  r->k = agent->recall_k;
  r->budget_tokens = agent->recall_tokens;
  r->model = agent->gen.model;
  r->max_bytes = AII_MIN(AII_MAX(agent->gen.max_context, MIN_CONTEXT), MAX_CONTEXT) * 3 / 2;
  r->search = agent->recall;
  aii_job_submit(run, AII_JOB_RECALL);
}

static json_t *answer_body(const aii_run *run)
{
  const char *text = json_string_value(run->fold.text);
  return json_pack("{sO, so}", "text", run->fold.text, "citations", aii_prompt_citations(text, run->fold.passages));
}

void aii_run_next(aii_run *run)
{
  if (run->fold.phase == AII_PHASE_ENDED) {
    if (!run->failing) run->stop = AIINFRA_OK; /* what came while run_finished was written came too late */
    post_end(run);
    return;
  }
  if (run->stop != AIINFRA_OK) {
    fail(run);
    return;
  }
  switch (run->fold.phase) {
    case AII_PHASE_NEW: stage_and_submit(run, AII_EV_RUN_STARTED, started_body(run), AII_JOB_START); break;
    case AII_PHASE_RECALL: begin_recall(run); break;
    case AII_PHASE_ASK:
      stage_and_submit(run, AII_EV_LLM_REQUESTED, aii_run_request_body(run, false), AII_JOB_APPEND);
      break;
    case AII_PHASE_GENERATE: aii_turn_ask(run); break;
    case AII_PHASE_TOOLS: aii_turn_tool(run); break;
    case AII_PHASE_ANSWER: stage_and_submit(run, AII_EV_ANSWER, answer_body(run), AII_JOB_APPEND); break;
    case AII_PHASE_CLOSE:
      stage_and_submit(run, AII_EV_RUN_FINISHED, json_pack("{so}", "stats", aii_report_stats(run)), AII_JOB_CLOSE);
      break;
    case AII_PHASE_ENDED: break;
  }
}

/* ---- the start ------------------------------------------------------------------------------------------------------ */

static aiinfra_status make_parts(aii_run *run, const aiinfra_run_opts *opts, aiinfra_error *err)
{
  aiinfra_runtime *rt = run->agent->rt;
  aiinfra_status rc;
  if (opts != NULL) {
    run->input = aii_strdup(&rt->mem, opts->input);
    if (opts->conversation != NULL) run->conversation = aii_strdup(&rt->mem, opts->conversation);
    if (run->input == NULL || (opts->conversation != NULL && run->conversation == NULL))
      return aii_fail(err, AIINFRA_ENOMEM, "input of the run");
    run->seed = opts->seed;
  }
  rc = aii_timer_create(rt->loop, on_timer, run, &run->timer, err);
  if (rc == AIINFRA_OK && opts != NULL && opts->deadline_ms > 0)
    rc = aii_timer_create(rt->loop, on_deadline, run, &run->deadline, err);
  if (rc != AIINFRA_OK) return rc;
  run->request = aii_request_new(rt, on_cancel, run);
  return run->request != NULL ? AIINFRA_OK : aii_fail(err, AIINFRA_ENOMEM, "request");
}

aiinfra_status aii_run_start(aiinfra_agent *agent, const aiinfra_run_opts *opts, int64_t run_id,
                             aiinfra_event_cb on_event, aiinfra_run_cb on_done, void *user, aiinfra_request **request,
                             aiinfra_error *err)
{
  aiinfra_status rc;
  aii_run *run = aii_new(&agent->rt->mem, sizeof *run);
  if (run == NULL) return aii_fail(err, AIINFRA_ENOMEM, "run");
  run->agent = agent;
  run->on_event = on_event;
  run->on_done = on_done;
  run->user = user;
  run->id = run_id;
  run->resumed = run_id != 0;
  run->started_ns = aii_now_ns();
  aii_fold_init(&run->fold, &agent->rt->mem);
  rc = make_parts(run, opts, err);
  if (rc != AIINFRA_OK) {
    free_run(run);
    return rc;
  }
  run->next = agent->runs;
  if (run->next != NULL) run->next->prev = run;
  agent->runs = run;
  agent->refs++;
  aii_loop_hold(agent->rt->loop);
  if (run->deadline != NULL) aii_timer_start(run->deadline, opts->deadline_ms, false);
  if (request != NULL) *request = run->request;
  else aiinfra_request_free(run->request);
  if (run->resumed) aii_job_submit(run, AII_JOB_LOAD);
  else aii_run_next(run);
  return AIINFRA_OK;
}
