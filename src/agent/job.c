/* job.c - what a run does on the thread pool: recall, and everything that touches the journal.
 *
 * Happy path: events are staged, aii_job_submit() hands them to the pool, the pool commits them, and back on the loop
 * they are folded into the run and reported, in this order. While a job is out the run's other parts stay untouched.
 * Possible failures: when recall fails, the run fails and says so in the journal; when the journal fails, the run
 * ends at once (invariant 3).
 */
#include "src/agent/agent.h"

bool aii_job_stage(aii_run *run, aii_event_kind kind, json_t *body)
{
  aiinfra_status rc = aii_events_add(&run->job.events, &run->agent->rt->mem, kind, body, &run->job.error);
  if (rc == AIINFRA_OK) return true;
  if (run->stop == AIINFRA_OK) {
    run->stop = rc;
    run->error = run->job.error;
  }
  return false;
}

/* ---- on the pool ---------------------------------------------------------------------------------------------------- */

/* Messages of this run that are at the end of the conversation already: a process may have died while adding them. */
static aiinfra_status already_added(aii_run *run, const json_t *messages, size_t *n, aiinfra_error *err)
{
  char *text = NULL;
  json_t *history = NULL;
  size_t want = json_array_size(messages), have;
  aiinfra_status rc;
  *n = 0;
  if (!run->resumed) return AIINFRA_OK;
  rc = aiinfra_memory_history(run->agent->memory, run->job.recall.conversation, (uint32_t)want, &text, err);
  if (rc != AIINFRA_OK) return rc;
  rc = aii_json_parse(text, strlen(text), "history", 0, &history, err);
  aiinfra_string_free(text);
  if (rc != AIINFRA_OK) return rc;
  have = json_array_size(history);
  for (size_t k = AII_MIN(have, want); k > 0 && *n == 0; k--) { /* the longest tail that is our beginning */
    size_t same = 0;
    while (same < k && json_equal(json_array_get(history, have - k + same), json_array_get(messages, same))) same++;
    if (same == k) *n = k;
  }
  json_decref(history);
  return AIINFRA_OK;
}

/* The messages of this run as later runs are to see them: without what the model thought. NULL: memory ran out. */
static json_t *lasting_messages(const aii_fold *fold)
{
  json_t *lasting = json_array();
  size_t n = json_array_size(fold->messages);
  for (size_t i = n - fold->n_new; i < n && lasting != NULL; i++) {
    json_t *message = aii_json_copy(json_array_get(fold->messages, i));
    if (message != NULL) {
      (void)json_object_del(message, "reasoning_content");
      (void)json_object_del(message, "thinking");
    }
    if (json_array_append_new(lasting, message) == 0) continue;
    json_decref(lasting);
    lasting = NULL;
  }
  return lasting;
}

static aiinfra_status add_to_conversation(aii_run *run, aiinfra_error *err)
{
  size_t added = 0;
  aii_buf text;
  aiinfra_status rc;
  if (run->agent->memory == NULL || run->fold.conversation == NULL) return AIINFRA_OK;
  json_t *messages = lasting_messages(&run->fold);
  run->job.recall.conversation = json_string_value(run->fold.conversation);
  rc = messages != NULL ? already_added(run, messages, &added, err) : aii_fail(err, AIINFRA_ENOMEM, "messages");
  aii_buf_init(&text, &run->agent->rt->mem, 0);
  for (size_t i = added; i < json_array_size(messages) && rc == AIINFRA_OK; i++) {
    aii_buf_clear(&text);
    rc = aii_json_dump(json_array_get(messages, i), &text)
             ? aiinfra_memory_append(run->agent->memory, run->job.recall.conversation, text.data, err)
             : aii_fail(err, AIINFRA_ENOMEM, "message");
  }
  aii_buf_free(&text);
  json_decref(messages);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "conversation '%s'", run->job.recall.conversation);
}

static aiinfra_status start_or_load(aii_run *run)
{
  const aiinfra_agent *agent = run->agent;
  aii_journal_run row = {0, agent->name, run->input, run->conversation};
  aiinfra_status rc;
  if (run->job.kind == AII_JOB_LOAD)
    return aii_journal_load(agent->db, run->id, agent->name, &run->job.events, &run->job.error);
  rc = aii_journal_start(agent->db, &row, &run->job.events, &run->job.error);
  run->id = row.id;
  return rc;
}

static void run_job(void *user)
{
  aii_run *run = user;
  aiinfra_db *db = run->agent->db;
  aiinfra_error *err = &run->job.error;
  uint64_t start;
  aiinfra_status rc = AIINFRA_OK;
  if (run->job.kind == AII_JOB_RECALL) {
    rc = aii_recall_run(db, &run->job.recall, &run->job.events, err);
    if (rc == AIINFRA_OK)
      rc = aii_events_add(&run->job.events, &run->agent->rt->mem, AII_EV_LLM_REQUESTED,
                          aii_run_request_body(run, false), err);
  } else if (run->job.kind == AII_JOB_CLOSE) {
    rc = add_to_conversation(run, err);
  }
  run->job.journal_failed = rc == AIINFRA_OK;
  start = aii_now_ns();
  if (rc == AIINFRA_OK)
    rc = run->job.kind == AII_JOB_START || run->job.kind == AII_JOB_LOAD
             ? start_or_load(run)
             : aii_journal_append(db, run->id, run->fold.seq, &run->job.events, err);
  run->job.ns = aii_now_ns() - start;
  run->job.rc = rc;
}

/* ---- back on the loop ------------------------------------------------------------------------------------------------- */

/* The journal has the events: now they are true. */
static aiinfra_status fold_events(aii_run *run, const aii_events *events)
{
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; i < events->n && rc == AIINFRA_OK; i++)
    rc = aii_fold_apply(&run->fold, &events->items[i], &run->job.error);
  return rc;
}

static aiinfra_status check_tools(const aii_run *run, aiinfra_error *err)
{
  for (size_t i = 0; i < run->fold.n_calls; i++) {
    const char *name = run->fold.calls[i].name;
    if (run->fold.calls[i].attempts > 0 && aii_agent_find_tool(run->agent, name) == NULL)
      return aii_fail(err, AIINFRA_EINVAL, "run %lld has used the tool '%s', which this agent lacks",
                      (long long)run->id, name);
  }
  return AIINFRA_OK;
}

static aiinfra_status loaded(aii_run *run)
{
  const aii_call *call = aii_fold_next_call(&run->fold);
  if (call == NULL && run->fold.phase == AII_PHASE_TOOLS)
    return aii_fail(&run->job.error, AIINFRA_EFORMAT, "journal of run %lld: tool calls without their records",
                    (long long)run->id);
  run->interrupted = call != NULL && call->state == AII_CALL_STARTED;
  return check_tools(run, &run->job.error);
}

static void tell(aii_run *run, const aii_events *events)
{
  if (run->job.kind == AII_JOB_LOAD) {
    aii_report(run, "run_started",
               json_pack("{ss, sO*, sb, sI}", "agent", run->agent->name, "input", run->fold.input, "resumed", 1,
                         "steps", (json_int_t)run->fold.steps));
    return;
  }
  for (size_t i = 0; i < events->n; i++) aii_report_event(run, &events->items[i]);
}

static void job_done(void *user)
{
  aii_run *run = user;
  aii_events events = run->job.events;
  aiinfra_status rc = run->job.rc;
  bool hopeless = run->job.journal_failed; /* what happened next cannot be written down */
  run->job.events = (aii_events){0};
  run->wait = AII_WAIT_NOTHING;
  run->journal_ns += run->job.ns;
  if (rc == AIINFRA_OK) {
    rc = fold_events(run, &events);
    if (rc == AIINFRA_OK && run->job.kind == AII_JOB_LOAD) rc = loaded(run);
    hopeless = true;
  }
  if (rc == AIINFRA_OK) tell(run, &events);
  aii_events_free(&events, &run->agent->rt->mem);
  if (rc != AIINFRA_OK && run->stop == AIINFRA_OK) {
    run->stop = rc;
    run->error = run->job.error;
  }
  if (rc != AIINFRA_OK && hopeless) aii_run_abort(run, rc);
  else aii_run_next(run);
}

void aii_job_submit(aii_run *run, aii_job_kind kind)
{
  aiinfra_error error;
  aiinfra_status rc;
  run->job.kind = kind;
  run->wait = AII_WAIT_JOB;
  rc = aii_loop_work(run->agent->rt->loop, run_job, job_done, run, &error);
  if (rc == AIINFRA_OK) return;
  if (run->stop == AIINFRA_OK) run->error = error;
  aii_run_abort(run, rc);
}
