/* tool_call.c - one call of a tool: started on the loop, ended on any thread, heard on the loop or not at all.
 *
 *   OPEN ──end()──> ENDED ──task on the loop──> the run hears it, or nobody does (abandoned meanwhile)
 *     └──abandon()──> ABANDONED ──end()──> freed on the spot, on whatever thread
 *
 * Who wins between the tool and the run is one atomic exchange. An open call holds the loop and the runtime; an
 * abandoned one only the runtime, so that a tool that never ends does not keep the host's loop running.
 */
#include "src/agent/agent.h"

enum call_state { CALL_OPEN, CALL_ENDED, CALL_ABANDONED };

static void call_free(aiinfra_tool_call *call)
{
  aiinfra_runtime *rt = call->rt;
  aii_strfree(&rt->mem, call->arguments);
  aii_strfree(&rt->mem, call->text);
  aii_del(&rt->mem, call, sizeof *call);
  aii_runtime_unref(rt);
}

/* On the loop: the tool has ended the call. */
static void call_arrives(aii_task *task)
{
  aiinfra_tool_call *call = AII_CONTAINER(task, aiinfra_tool_call, task);
  aii_loop *loop = call->rt->loop;
  if (call->run != NULL) aii_run_tool_done(call->run, call->text, call->failed);
  aii_loop_drop(loop);
  call_free(call);
}

aiinfra_tool_call *aii_tool_call_new(aii_run *run, const char *arguments)
{
  aiinfra_runtime *rt = run->agent->rt;
  aiinfra_tool_call *call = aii_new(&rt->mem, sizeof *call);
  if (call == NULL) return NULL;
  call->arguments = aii_strdup(&rt->mem, arguments);
  if (call->arguments == NULL) {
    aii_del(&rt->mem, call, sizeof *call);
    return NULL;
  }
  call->rt = rt;
  call->run = run;
  call->task.fn = call_arrives;
  aii_runtime_ref(rt);
  aii_loop_hold(rt->loop);
  return call;
}

void aii_tool_call_abandon(aiinfra_tool_call *call)
{
  aii_loop *loop = call->rt->loop;
  call->run = NULL;
  /* An ended call is already on its way here and drops its hold itself. */
  if (atomic_exchange(&call->state, CALL_ABANDONED) == CALL_OPEN) aii_loop_drop(loop);
}

void aii_tool_call_end(aiinfra_tool_call *call, const char *text, bool failed)
{
  if (call == NULL) return;
  call->text = aii_strdup(&call->rt->mem, text != NULL ? text : "");
  call->failed = failed;
  if (atomic_exchange(&call->state, CALL_ENDED) == CALL_ABANDONED) call_free(call);
  else aii_loop_post(call->rt->loop, &call->task);
}
