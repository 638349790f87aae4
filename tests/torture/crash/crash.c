/* crash.c - runs a scenario through all of its crashes. See crash.h. */
#include "tests/torture/crash/crash.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/support.h"

enum { PATIENCE_S = 60 };

/* Between the process that dies and the one that looks. */
typedef struct shared {
  volatile int done, ended;
  volatile long calls;
  volatile aiinfra_status failed; /* the first failure */
} shared;

static shared *s;

static const char *const fault_names[] = {"none", "kill", "tear", "power", "power, some", "full", "broken"};

int crash_done(int step, aiinfra_status rc)
{
  if (rc == AIINFRA_OK) {
    s->done = step + 1;
    return 1;
  }
  if (s->failed == AIINFRA_OK) s->failed = rc;
  return 0;
}

static void run_child(const crash_scenario *c, const char *path, disk_fault fault, long at)
{
  aiinfra_runtime *rt;
  alarm(PATIENCE_S);
  if (aiinfra_runtime_create(NULL, &rt, NULL) != AIINFRA_OK) _exit(98);
  disk_arm(fault, at, (unsigned long long)at * 7 + test_seed());
  c->work(rt, path);
  s->calls = disk_calls();
  s->ended = 1;
  aiinfra_runtime_free(rt);
  fflush(NULL);
  _exit(0);
}

static void remove_all(const char *path)
{
  char command[1200];
  snprintf(command, sizeof command, "rm -f '%s'*", path);
  if (system(command) != 0) perror(command);
}

/* 0, or 1 after telling what is wrong. */
static int look(const crash_scenario *c, const char *path, disk_fault fault, int status)
{
  aiinfra_runtime *rt;
  int bad;
  bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
  if (!killed && !(WIFEXITED(status) && WEXITSTATUS(status) == 0)) {
    fprintf(stderr, "the process ended with %#x\n", (unsigned)status);
    return 1;
  }
  if (fault == DISK_FULL && s->failed != AIINFRA_OK && s->failed != AIINFRA_ENOSPC && s->failed != AIINFRA_EIO) {
    fprintf(stderr, "a full disk is told as %s\n", aiinfra_status_name(s->failed));
    return 1;
  }
  if (aiinfra_runtime_create(NULL, &rt, NULL) != AIINFRA_OK) return 1;
  bad = !c->holds(rt, path, s->done, 0) && !(s->done < c->n_steps && c->holds(rt, path, s->done + 1, 0));
  if (bad) (void)c->holds(rt, path, s->done, 1);
  aiinfra_runtime_free(rt);
  return bad;
}

static int run_once(const crash_scenario *c, disk_fault fault, long at)
{
  char path[512];
  int status = 0;
  snprintf(path, sizeof path, "%s", test_tmp("crash.db"));
  remove_all(path);
  memset(s, 0, sizeof *s);
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) run_child(c, path, fault, at);
  if (waitpid(child, &status, 0) != child) return 1;
  int bad = look(c, path, fault, status);
  if (bad) {
    fprintf(stderr, "%s: violation with AIINFRA_CRASH_AT=%d:%ld (%s), after %d steps\n", c->name, fault, at,
            fault_names[fault], s->done);
  }
  return bad;
}

int crash_run(const crash_scenario *c)
{
  const char *only = getenv("AIINFRA_CRASH_AT"), *full = getenv("AIINFRA_TORTURE_FULL");
  int bad = 0, runs = 0, fault, at;
  s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (s == MAP_FAILED) return 1;
  (void)test_tmp_dir();
  if (only != NULL && sscanf(only, "%d:%d", &fault, &at) == 2) return run_once(c, (disk_fault)fault, at);
  if (run_once(c, DISK_NONE, 0) != 0 || !s->ended || s->done != c->n_steps) {
    fprintf(stderr, "%s: does not work without a fault: %d of %d steps, %s\n", c->name, s->done, c->n_steps,
            aiinfra_status_name(s->failed));
    return 1;
  }
  long calls = s->calls, step = full != NULL || calls < c->runs ? 1 : calls / c->runs;
  for (int kind = DISK_KILL; kind < DISK_FAULTS; kind++) {
    for (long call = 1 + kind % step; call <= calls; call += step, runs++) {
      bad += run_once(c, (disk_fault)kind, call);
    }
  }
  printf("%s: %ld calls that change files, %d crashes, %d violations\n", c->name, calls, runs, bad);
  return bad;
}
