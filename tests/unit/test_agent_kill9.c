/* test_agent_kill9.c - an agent is killed with SIGKILL at random moments, fifty times, and goes on each time.
 *
 * The child process runs an agent whose model is a script and whose tool appends a line to a file, which is the effect
 * that must not happen twice. The parent kills it, starts it again, and in the end compares the file with the journal:
 *   - every database opens again and is sound
 *   - no effect happened twice; every call that the journal calls completed happened exactly once
 *   - every run came to its end
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/agent/agent.h"
#include "tests/support/support.h"

#define KILLS 50
#define CALLS 6 /* tool calls of one run */

/* ---- the child -------------------------------------------------------------------------------------------------------- */

typedef struct host {
  aiinfra_runtime *rt;
  int effects; /* the file */
  int64_t run;
  bool answered;
} host;

typedef struct speech {
  aii_task task;
  host *host;
  char calls[256];
  aiinfra_result_cb on_result;
  void *user;
  aiinfra_request *request;
} speech;

static void speak(aii_task *task)
{
  speech *s = AII_CONTAINER(task, speech, task);
  aiinfra_runtime *rt = s->host->rt;
  aiinfra_result result = {.text = s->calls[0] != '\0' ? "" : "All done.",
                           .tool_calls_json = s->calls[0] != '\0' ? s->calls : NULL,
                           .finish = s->calls[0] != '\0' ? AIINFRA_FINISH_TOOL : AIINFRA_FINISH_STOP};
  s->on_result(s->user, AIINFRA_OK, &result);
  aii_request_end(s->request, AIINFRA_OK);
  aii_del(&rt->mem, s, sizeof *s);
  aii_loop_drop(rt->loop);
}

/* Speech cannot be cancelled: it is on its way already. */
static void ignore(void *impl)
{
  (void)impl;
}

/* What the model says depends on nothing but the messages: one call more, until there are enough results. */
static aiinfra_status scripted(void *impl, const aiinfra_generate_opts *opts, aiinfra_chunk_cb on_chunk,
                               aiinfra_result_cb on_result, void *user, aiinfra_request **request, aiinfra_error *err)
{
  host *h = impl;
  speech *s = aii_new(&h->rt->mem, sizeof *s);
  json_t *messages = json_loads(opts->messages_json, 0, NULL), *message;
  size_t i;
  int n = 0;
  (void)on_chunk, (void)err;
  json_array_foreach(messages, i, message) n +=
      strcmp(json_string_value(json_object_get(message, "role")), "tool") == 0;
  json_decref(messages);
  if (n < CALLS)
    snprintf(s->calls, sizeof s->calls,
             "[{\"id\":\"call_%d\",\"type\":\"function\",\"function\":{\"name\":\"append\",\"arguments\":\"{\\\"n\\\":%"
             "d}\"}}]",
             n + 1, n + 1);
  s->host = h;
  s->on_result = on_result;
  s->user = user;
  s->task.fn = speak;
  s->request = *request = aii_request_new(h->rt, ignore, s);
  aii_loop_hold(h->rt->loop);
  aii_loop_post(h->rt->loop, &s->task);
  return AIINFRA_OK;
}

/* The effect: one write of one line. */
static void append(void *user, aiinfra_tool_call *call, const char *arguments_json)
{
  host *h = user;
  char text[128];
  int n = snprintf(text, sizeof text, "%lld %s\n", (long long)h->run, arguments_json);
  if (write(h->effects, text, (size_t)n) != n) _exit(4);
  usleep(500);
  aiinfra_tool_call_finish(call, "written");
}

static void on_event(void *user, const char *event_json)
{
  host *h = user;
  const char *run = strstr(event_json, "\"run\":");
  if (run != NULL) h->run = atoll(run + 6);
}

static void on_done(void *user, aiinfra_status status, const aiinfra_run_result *result)
{
  host *h = user;
  h->answered = status == AIINFRA_OK && strcmp(result->answer, "All done.") == 0;
  if (!h->answered) fprintf(stderr, "run %lld: %s\n", (long long)result->run_id, result->error->message);
}

static int64_t unfinished(aiinfra_agent *agent)
{
  char *text = NULL;
  const char *run;
  int64_t id = 0;
  if (aiinfra_agent_runs(agent, 1, &text, NULL) != AIINFRA_OK) _exit(5);
  run = strstr(text, "\"run\":");
  if (run != NULL) id = atoll(run + 6);
  aiinfra_string_free(text);
  return id;
}

static int child(const char *db_path, const char *effects_path)
{
  host h = {.effects = open(effects_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)};
  aii_generator gen = {.impl = &h, .generate = scripted, .max_context = 4096};
  aiinfra_agent_opts agent_opts = AIINFRA_AGENT_OPTS_INIT;
  aiinfra_run_opts opts = AIINFRA_RUN_OPTS_INIT;
  aiinfra_tool tool = AIINFRA_TOOL_INIT;
  aiinfra_db *db;
  aiinfra_agent *agent;
  aiinfra_request *request;
  aiinfra_error err;
  aiinfra_status rc;
  agent_opts.max_steps = CALLS + 2;
  tool.name = "append";
  tool.parameters_json = "{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\"}}}";
  tool.run = append;
  tool.user = &h;
  opts.input = "Write it down.";
  if (h.effects < 0 || aiinfra_runtime_create(NULL, &h.rt, &err) != AIINFRA_OK ||
      aiinfra_db_open(h.rt, db_path, NULL, &db, &err) != AIINFRA_OK || aiinfra_db_check(db, &err) != AIINFRA_OK ||
      aii_agent_create(&gen, db, NULL, &agent_opts, &agent, &err) != AIINFRA_OK ||
      aiinfra_agent_add_tool(agent, &tool, &err) != AIINFRA_OK) {
    fprintf(stderr, "child: %s\n", err.message);
    return 3;
  }
  h.run = unfinished(agent);
  rc = h.run != 0 ? aiinfra_agent_resume(agent, h.run, on_event, on_done, &h, &request, &err)
                  : aiinfra_agent_run(agent, &opts, on_event, on_done, &h, &request, &err);
  if (rc != AIINFRA_OK) return 3;
  rc = aiinfra_request_wait(request, 20000, &err);
  aiinfra_request_free(request);
  aiinfra_agent_free(agent);
  aiinfra_db_free(db);
  aiinfra_runtime_free(h.rt);
  return rc == AIINFRA_OK && h.answered ? 0 : 2;
}

/* ---- the parent --------------------------------------------------------------------------------------------------------- */

static const char *self;
static char db_path[256], effects_path[256];

/* Runs the child; kills it after delay_us when that is not negative. Returns whether it was killed. */
static bool spawn(int delay_us)
{
  int status;
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    execl("/proc/self/exe", self, "child", db_path, effects_path, (char *)NULL);
    _exit(127);
  }
  if (delay_us >= 0) {
    usleep((useconds_t)delay_us);
    kill(pid, SIGKILL);
  }
  assert_int_equal(waitpid(pid, &status, 0), pid);
  if (WIFSIGNALED(status)) {
    assert_int_equal(WTERMSIG(status), SIGKILL);
    return true;
  }
  assert_int_equal(WEXITSTATUS(status), 0);
  return false;
}

static int count_effect(const char *effects, const char *line)
{
  int n = 0;
  for (const char *p = effects; (p = strstr(p, line)) != NULL; p += strlen(line)) n += p == effects || p[-1] == '\n';
  return n;
}

static int64_t number(aiinfra_db *db, const char *text)
{
  aii_stmt *stmt;
  bool row;
  int64_t n;
  aiinfra_error err;
  aii_sql_lock(db->sql);
  if (aii_sql_prepare(db->sql, text, &stmt, &err) != AIINFRA_OK || aii_stmt_step(stmt, &row, &err) != AIINFRA_OK)
    fail_msg("%s", err.message);
  n = aii_stmt_get_int(stmt, 0);
  aii_stmt_reset(stmt);
  aii_sql_unlock(db->sql);
  return n;
}

/* Each event of the journal against the lines of the file. */
static void compare(aiinfra_db *db)
{
  char *effects = test_read_file(effects_path, NULL);
  aii_stmt *stmt;
  bool row;
  aiinfra_error err;
  int n_completed = 0, n_unknown = 0;
  assert_non_null(effects);
  aii_sql_lock(db->sql);
  assert_int_equal(aii_sql_prepare(db->sql,
                                   "SELECT run, kind, json_extract(body, '$.call') FROM journal WHERE kind IN "
                                   "('tool_completed', 'tool_failed')",
                                   &stmt, &err),
                   AIINFRA_OK);
  while (aii_stmt_step(stmt, &row, &err) == AIINFRA_OK && row) {
    char line[64];
    bool completed = strcmp(aii_stmt_get_text(stmt, 1, NULL), "tool_completed") == 0;
    int n;
    snprintf(line, sizeof line, "%lld {\"n\":%lld}\n", (long long)aii_stmt_get_int(stmt, 0),
             (long long)aii_stmt_get_int(stmt, 2));
    n = count_effect(effects, line);
    if (completed ? n != 1 : n > 1) fail_msg("%s happened %d times", line, n);
    n_completed += completed;
    n_unknown += !completed;
  }
  aii_stmt_reset(stmt);
  aii_sql_unlock(db->sql);
  print_message("%d calls completed, %d had an unknown outcome\n", n_completed, n_unknown);
  assert_int_equal((n_completed + n_unknown) % CALLS, 0);
  free(effects);
}

static void killed_runs_go_on_and_repeat_nothing(void **state)
{
  unsigned long long seed = test_seed();
  int kills = 0, ended = 0, longest_us = 60000;
  aiinfra_runtime *rt;
  aiinfra_db *db;
  aiinfra_error err;
  (void)state;
  while (kills < KILLS) {
    if (spawn((int)(test_random(&seed) % (unsigned)longest_us))) {
      kills++;
    } else {
      ended++;
      longest_us = AII_MAX(longest_us * 3 / 4, 2000); /* kill earlier */
    }
    if (kills % 8 == 7) longest_us = longest_us * 3 / 2;
  }
  spawn(-1);
  print_message("%d kills, %d runs that ended in between\n", kills, ended);
  assert_int_equal(aiinfra_runtime_create(NULL, &rt, &err), AIINFRA_OK);
  assert_int_equal(aiinfra_db_open(rt, db_path, NULL, &db, &err), AIINFRA_OK);
  assert_int_equal(aiinfra_db_check(db, &err), AIINFRA_OK);
  assert_int_equal(number(db, "SELECT count(*) FROM runs WHERE state <> 'finished'"), 0);
  compare(db);
  aiinfra_db_free(db);
  aiinfra_runtime_free(rt);
}

int main(int argc, char **argv)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(killed_runs_go_on_and_repeat_nothing)};
  self = argv[0];
  if (argc == 4 && strcmp(argv[1], "child") == 0) return child(argv[2], argv[3]);
  snprintf(db_path, sizeof db_path, "%s", test_tmp("kill9.db"));
  snprintf(effects_path, sizeof effects_path, "%s", test_tmp("effects"));
  return cmocka_run_group_tests(tests, NULL, NULL);
}
